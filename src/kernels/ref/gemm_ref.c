/* gemm_ref.c: the products, as plainly as C can say them; sums in fp64.
 *
 * These are the oracle of tests/kcheck and the tier of CPUs that have no other; they are never made
 * faster. */
#include "kernels/tiers.h"

static void gemm_nt(size_t m, size_t n, size_t k, const float *const *x, const float *w, size_t ldw,
                    float *const *y)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (double)x[i][p] * (double)w[j * ldw + p];
            y[i][j] = (float)sum;
        }
}

static void gemm_nn(size_t m, size_t n, size_t k, const float *x, size_t ldx, const float *w,
                    size_t ldw, float *y, size_t ldy, bool beta_one)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = beta_one ? (double)y[i * ldy + j] : 0;
            for (size_t p = 0; p < k; p++)
                sum += (double)x[i * ldx + p] * (double)w[p * ldw + j];
            y[i * ldy + j] = (float)sum;
        }
}

void nm_kern_fill_gemm_ref(nm_kern *table)
{
    table->gemm_nt = gemm_nt;
    table->gemm_nn = gemm_nn;
}
