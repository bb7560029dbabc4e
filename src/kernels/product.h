/* product.h: the ways in which rows of x meet quantised weights.
 *
 * A product y = x W^T with W in blocks of 4 or 8 bits can be computed in fp32, on integers, or on a
 * matrix unit, each with operands of its own layout. What they share is the shape of the work, and
 * this header is that shape: rows of x are packed once, a range of W's rows is decoded once into a
 * cache-sized panel, and packed rows pass over it, all of them or, of some products, 256 at a time. One `nm_product` is one such
 * way; nm_kern holds those that a CPU has, nm_product_pick() chooses by weight type, rows and precision.
 *
 *   pack    rows of x (gathered through pointers) -> xp, the product's own layout
 *   gated   hp = act(xp Wgate^T) * (xp Wup^T), written packed: it is the next product's xp
 *   out     y (+)= weight * (xp W^T + bias), plain fp32 rows, scattered through pointers
 *
 * So a network is pack, gated, out: its inner rows never exist as fp32. Work is split over threads
 * by ranges of outputs (rows of W), never inside a sum, and a range starts at a multiple of
 * NM_PRODUCT_STEP; so the split cannot change a result.
 *
 * Promise: an element of a result depends on its own row of x and of W, the product and the
 * alignment of nothing: not on m, its neighbours, the range or the thread. Different products
 * round differently (docs/kernels.md has their classes). */
#ifndef NM_KERNELS_PRODUCT_H
#define NM_KERNELS_PRODUCT_H

#include "quant/quant.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct nm_kern nm_kern;

typedef struct nm_product nm_product;

/* A weight matrix, a view into the mapped file: y = W x. */
typedef struct nm_mat {
    uint32_t type; /* nm_type */
    uint32_t pad;
    uint64_t rows, cols; /* cols = inputs, at least one block; rows = outputs, may be 0 */
    uint64_t row_bytes;
    const void *data;
    /* NULL: data are rows as in the file. Else they were decoded beforehand, to the panels of this product:
     * see nm_product_to_panels(). Nothing but its gated() and out() can read them; row_bytes is 0. */
    const nm_product *panels_of;
} nm_mat;

static inline const void *nm_mat_row_at(const nm_mat *w, uint64_t row)
{
    return (const char *)w->data + row * w->row_bytes;
}

typedef enum nm_act {
    NM_ACT_SWIGLU, /* silu(gate) * up, silu(v) = v / (1 + exp(-v)) */
} nm_act;

enum {
    NM_PRODUCT_STEP = 32, /* ranges of outputs start at multiples of this */
    NM_PRODUCT_PAD = 64   /* packed rows may be padded up to a multiple of this many inputs */
};

typedef struct nm_out_args {
    const nm_kern *kern;
    const nm_mat *w;
    uint64_t j0, j1;     /* rows of W: j0 % NM_PRODUCT_STEP == 0, j1 too unless it is w->rows */
    size_t m;            /* rows of x */
    const void *xp;      /* m packed rows of w->cols */
    const float *bias;   /* [w->rows] or NULL = 0 */
    const float *weight; /* [m] or NULL = 1 */
    bool add;            /* false: y is not read */
    const void *next;    /* what this thread will read after these rows, or NULL: only asked for */
    float *const *y;     /* m distinct rows, indexed by j (not by j - j0) */
    void *scratch;       /* scratch_bytes, NM_ALIGN aligned, the thread's own */
} nm_out_args;

typedef struct nm_gated_args {
    const nm_kern *kern;
    const nm_mat *gate, *up;    /* of equal shape */
    const float *b_gate, *b_up; /* [rows] or NULL = 0 */
    nm_act act;
    uint64_t j0, j1; /* as above, with the product's gated_step */
    size_t m;
    const void *xp; /* m packed rows of gate->cols */
    /* m packed rows of gate->rows: columns j0 .. j1 - 1 are written, ranges of other threads never touched. */
    void *hp;
    const void *next; /* as above */
    void *scratch;
} nm_gated_args;

struct nm_product {
    const char *name;
    /* Packed rows come in groups of this many (1, 2, 4, 8 or 16): row i of a pack made for m rows is found
     * by its place in the group, so rows of one pack belong together. */
    uint32_t group;
    /* Good number of outputs for one task, a multiple of NM_PRODUCT_STEP. */
    uint32_t task;
    /* Ranges of `gated` start at multiples of this, a multiple of NM_PRODUCT_STEP that divides task;
     * 0 = of NM_PRODUCT_STEP. Columns of hp that share a scale come from one call. */
    uint32_t gated_step;
    bool (*takes)(uint32_t type); /* weight types */
    /* Bytes of m packed rows of k inputs; a multiple of NM_ALIGN, at most nm_product_packed_max().
     * A pack is the sequence of its groups: the rows from i0 on (a multiple of group) lie at
     * xp + packed_bytes(i0, k), and are a pack of their own. */
    size_t (*packed_bytes)(size_t m, size_t k);
    /* Packs rows [i0, i1) of x[0..m): i0 a multiple of group, i1 too unless it is m. Threads may
     * pack parts of one xp side by side. What is beyond the rows in the last group is the product's own: no
     * other reads it. */
    void (*pack)(size_t m, size_t k, const float *const *x, size_t i0, size_t i1, void *xp);
    size_t (*scratch_bytes)(size_t max_k);
    void (*gated)(const nm_gated_args *args);
    void (*out)(const nm_out_args *args);
    /* Optional, both or neither: see nm_product_to_panels(). A multiple of NM_ALIGN. */
    uint64_t (*panels_bytes)(uint64_t rows, uint64_t cols);
    /* Rows [j0, j1) of w, a range as in nm_out_args: writes their part of the panels at `to`. */
    void (*to_panels)(const nm_kern *kern, const nm_mat *w, uint64_t j0, uint64_t j1, void *to);
};

/* Slots of nm_kern.products; NULL where CPU or tier has none. */
typedef enum nm_product_slot {
    NM_PRODUCT_F32,    /* fp32 panel and gemm_nt: every type, every tier */
    NM_PRODUCT_DOT_Q,  /* few rows, blocks of integers: x as two planes of 8 bits */
    NM_PRODUCT_DOT_F,  /* few rows, F32 F16 BF16: x in fp32 */
    NM_PRODUCT_I16,    /* many rows, integers of 16 bits (VNNI) */
    NM_PRODUCT_I8,     /* many rows, x as integers of 8 bits (VNNI) */
    NM_PRODUCT_I8X2,   /* many rows, x as two planes of 8 bits (NEON dotprod, i8mm) */
    NM_PRODUCT_BF16,   /* matrix unit or dot products of bf16, weights and x rounded to that */
    NM_PRODUCT_BF16X2, /* the same, x = hi + lo: exact weights only (BF16) are near fp32 */
    NM_PRODUCT_BF16X3, /* both = hi + lo, three of the four partial products: near fp32 */
    NM_PRODUCT_I8X3, /* matrix unit, block formats: both as two planes of 8 bits, three of the four
                          partial products: near fp32 */
    NM_PRODUCT_END
} nm_product_slot;

/* How many bits of a product are worth paying for. */
typedef enum nm_precision {
    NM_PRECISION_AUTO, /* by weight type: rounding stays below what the type itself rounded */
    NM_PRECISION_FAST, /* one pass: of the matrix unit, whatever the type, or on bytes of x */
    NM_PRECISION_FULL, /* near fp32 */
    NM_PRECISION_FINE, /* the same, with planes of bf16 where FULL has bytes: 2^-18 for 2^-14 */
    NM_PRECISION_FP32  /* fp32 only: bit-identical for any chunk, the reference */
} nm_precision;

/* Of a model's precision, what its projections to and from attention take: of FULL, FINE. They are a quarter
 * of a token's products, yet most of what rounding does to a route: keys and values near the boundary of two
 * F16 numbers fall on its other side (docs/accuracy.md). */
nm_precision nm_precision_of_attention(nm_precision model);

/* Upper bound of packed_bytes over all products: for planning memory before a CPU is known. */
static inline size_t nm_product_packed_max(size_t m, size_t k)
{
    return (m + 15) / 16 * 16 * ((k + 63) / 64 * 64) * 5;
}

/* Rows of x from which on decoding a panel pays. */
enum { NM_PRODUCT_FEW = 4 };

/* The product for m rows of x that takes all of these weight types; never NULL. */
const nm_product *nm_product_pick(const nm_kern *kern, nm_precision precision, size_t m,
                                  const uint32_t *types, size_t n_types);

/* Matrices that decide together, at most. */
enum { NM_PRODUCT_MATS = 8 };

/* The product for m rows of x that takes all of these matrices: the one that their panels are of (all must
 * have the same), or nm_product_pick()'s. */
const nm_product *nm_product_for(const nm_kern *kern, nm_precision precision, size_t m,
                                 const nm_mat *const *w, size_t n);

/* Panels: the whole of a matrix decoded as this product decodes a range of it in passing, in that layout and
 * order, for a caller that multiplies it often and has the memory: 2 bytes per weight and plane of bf16, 2
 * for both planes of bytes, 4 as fp32. Every result has the same bits as from the rows.
 *
 * A multiple of NM_ALIGN; 0: the product has no panels, the matrix has no rows, or they exceed 2^64. */
uint64_t nm_product_panels_bytes(const nm_product *p, uint64_t rows, uint64_t cols);
/* Decodes w, rows of a type that p takes, to so many bytes, NM_ALIGN aligned; returns the matrix that they
 * are. Only for products that have panels. */
nm_mat nm_product_to_panels(const nm_product *p, const nm_kern *kern, const nm_mat *w, void *to);

#endif
