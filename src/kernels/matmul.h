/* matmul.h: products of rows with a quantised weight matrix, and the threads that share them.
 *
 * A weight W[n_rows][n_cols] is a view into the mapped file. A tile of its rows is decoded once
 * into a panel of fp32 that stays in L2, and all rows of x pass over it. One row of x (decode) uses
 * the same tile with a small panel, so that a token's result is the same bits in prefill and in
 * decode. Faster schemes (quantised activations, AMX panels) come behind these two functions. */
#ifndef NM_KERNELS_MATMUL_H
#define NM_KERNELS_MATMUL_H

#include "base/threads.h"
#include "kernels/kern.h"

/* What a computation runs on; hangs from the session. scratch is n_threads slices of
 * scratch_bytes each, NM_ALIGN aligned. */
typedef struct nm_compute {
    const nm_kern *kern;
    nm_pool *pool;
    void *scratch;
    size_t scratch_bytes; /* per thread */
} nm_compute;

/* Scratch that one thread needs for weights up to max_cols wide, any function of this folder. */
size_t nm_compute_scratch_bytes(uint64_t max_cols, uint32_t head_dim);

static inline void *nm_compute_slice(const nm_compute *c, int thread)
{
    return (char *)c->scratch + (size_t)thread * c->scratch_bytes;
}

/* Output rows that one tile should have, for splitting work: a multiple of 4 (the last may be
 * short); depends on cols only, so results do not depend on the number of threads. */
size_t nm_matmul_tile_rows(uint64_t cols);

/* On the calling thread: y[i][j] = sum_p x[i][p] W[j][p] for j in [j0, j1), i < m.
 * scratch: a slice. j1 - j0 <= nm_matmul_tile_rows. y[i] is indexed by j, not by j - j0. */
void nm_matmul_tile(const nm_kern *kern, void *scratch, const nm_mat *w, uint64_t j0, uint64_t j1,
                    size_t m, const float *const *x, float *const *y);

/* All rows, all threads of the pool. bias[rows] is added when not NULL. */
void nm_matmul(const nm_compute *c, const nm_mat *w, const float *bias, size_t m,
               const float *const *x, float *const *y);

/* Row i of the matrix as fp32 (embedding lookup): out[cols]. */
void nm_mat_row(const nm_kern *kern, const nm_mat *w, uint64_t row, float *out);

#endif
