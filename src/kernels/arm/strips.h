/* strips.h: what the products of arm64 share: the walk over panels and groups of rows.
 *
 * A product for many rows is three small things of its own: how 32 inputs of a group of rows are
 * packed, how 8 rows of W are decoded into a strip, and the kernel that multiplies a group with a
 * strip. The rest is the same for all of them and needs no vectors, so it is ordinary code that is
 * compiled for the baseline and calls the three through pointers: a call per 8 x 8 results of
 * k inputs each costs nothing.
 *
 *   packed rows   groups of `group` rows: block 0, block 1, ... of 32 inputs, x_block_bytes each
 *   panel         strips of STRIP outputs, all inputs each, as the kernel reads them
 *
 * A block of packed rows is 32 inputs, and ranges of outputs start at multiples of 32: so what
 * `gated` writes for a range is whole blocks of the next product's x. */
#ifndef NM_KERNELS_ARM_STRIPS_H
#define NM_KERNELS_ARM_STRIPS_H

#include "kernels/product.h"

enum {
    NM_STRIP = 8,         /* outputs */
    NM_STRIP_INPUTS = 32, /* of a block */
    NM_STRIP_GROUP = 8,   /* most rows of a group */
    NM_STRIP_COLS = 64    /* most outputs of a panel; a task has as many */
};

/* Results of a group of rows and a panel. */
typedef float nm_strip_results[NM_STRIP_GROUP][NM_STRIP_COLS];

typedef struct nm_strips {
    size_t group;         /* rows: 4 or 8 */
    size_t x_block_bytes; /* of a group and 32 inputs */
    size_t w_block_bytes; /* of a strip and 32 inputs: the most of any type */
    /* Bytes of a strip and 32 inputs of this type. */
    size_t (*block_bytes)(uint32_t type);
    /* 32 inputs of all rows of a group. */
    void (*pack)(const float *const *rows, void *to);
    /* Rows j .. j + n - 1 of w, n <= NM_STRIP; outputs from n on are zeros. */
    void (*decode)(const nm_kern *kern, const nm_mat *w, uint64_t j, size_t n, void *strip);
    /* y[row][0..NM_STRIP) for the first `rows` rows of a group at least, of `blocks` blocks. */
    void (*multiply)(uint32_t type, size_t rows, size_t blocks, const void *xp, const void *strip,
                     float y[][NM_STRIP_COLS]);
} nm_strips;

size_t nm_strips_packed_bytes(const nm_strips *s, size_t m, size_t k);
void nm_strips_pack(const nm_strips *s, size_t m, size_t k, const float *const *x, size_t i0,
                    size_t i1, void *xp);
size_t nm_strips_scratch_bytes(const nm_strips *s, size_t max_k);
void nm_strips_gated(const nm_strips *s, const nm_gated_args *args);
void nm_strips_out(const nm_strips *s, const nm_out_args *args);

/* The nm_product `symbol` of an nm_strips: functions that know which one is meant. */
#define NM_STRIPS_PRODUCT(symbol, title, strips, rows, takes_type)                             \
    static size_t symbol##_packed_bytes(size_t m, size_t k)                                    \
    {                                                                                          \
        return nm_strips_packed_bytes(&(strips), m, k);                                        \
    }                                                                                          \
    static void symbol##_pack(size_t m, size_t k, const float *const *x, size_t i0, size_t i1, \
                              void *xp)                                                        \
    {                                                                                          \
        nm_strips_pack(&(strips), m, k, x, i0, i1, xp);                                        \
    }                                                                                          \
    static size_t symbol##_scratch_bytes(size_t max_k)                                         \
    {                                                                                          \
        return nm_strips_scratch_bytes(&(strips), max_k);                                      \
    }                                                                                          \
    static void symbol##_gated(const nm_gated_args *args)                                      \
    {                                                                                          \
        nm_strips_gated(&(strips), args);                                                      \
    }                                                                                          \
    static void symbol##_out(const nm_out_args *args)                                          \
    {                                                                                          \
        nm_strips_out(&(strips), args);                                                        \
    }                                                                                          \
    const nm_product symbol = {.name = title,                                                  \
                               .group = rows,                                                  \
                               .task = NM_STRIP_COLS,                                          \
                               .takes = takes_type,                                            \
                               .packed_bytes = symbol##_packed_bytes,                          \
                               .pack = symbol##_pack,                                          \
                               .scratch_bytes = symbol##_scratch_bytes,                        \
                               .gated = symbol##_gated,                                        \
                               .out = symbol##_out}

#endif
