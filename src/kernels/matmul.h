/* matmul.h: products of rows with weight matrices, shared by the threads of a pool.
 *
 * nm_matmul() packs the rows once and meets them with one or more matrices (queries, keys and values
 * read the same rows) in one region of the pool; kernels/product.h has the arithmetic, network.h the
 * gated networks. */
#ifndef NM_KERNELS_MATMUL_H
#define NM_KERNELS_MATMUL_H

#include "base/threads.h"
#include "kernels/kern.h"

/* What a computation runs on; hangs from the session. */
typedef struct nm_compute {
    const nm_kern *kern;
    nm_pool *pool;
    nm_precision precision;
    void *scratch; /* n_threads slices of scratch_bytes, NM_ALIGN aligned */
    size_t scratch_bytes;
    void *packed; /* room for rows packed for a product, NM_ALIGN aligned */
    size_t packed_bytes;
} nm_compute;

/* Scratch that one thread needs for weights up to max_cols wide, any function of this folder. */
size_t nm_compute_scratch_bytes(uint64_t max_cols, uint32_t head_dim);

/* Least room for packed rows of a product or network with at most `cols` inputs per row in all
 * (of a network: its inputs plus its inner rows). More room means fewer, larger passes. */
size_t nm_compute_packed_min(uint64_t cols);

static inline void *nm_compute_slice(const nm_compute *c, int thread)
{
    return (char *)c->scratch + (size_t)thread * c->scratch_bytes;
}

/* y[i][j] = sum_p x[i][p] w[j][p] + bias[j] */
typedef struct nm_linear {
    const nm_mat *w;
    const float *bias; /* [w->rows] or NULL */
    float *const *y;   /* [m] */
} nm_linear;

/* n matrices of the same cols, m rows, all threads of the pool. */
void nm_matmul(const nm_compute *c, const nm_linear *list, size_t n, size_t m,
               const float *const *x);

/* Row i of the matrix as fp32 (embedding lookup): out[cols]. */
void nm_mat_row(const nm_kern *kern, const nm_mat *w, uint64_t row, float *out);

#endif
