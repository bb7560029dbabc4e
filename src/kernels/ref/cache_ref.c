/* cache_ref.c: cached rows times rows of fp32, as plainly as C can say it; sums in fp64. */
#include "kernels/tiers.h"
#include "quant/blocks.h"

#include <string.h>

static double element(uint32_t type, const char *row, size_t i)
{
    float f;
    uint16_t half;
    if (type == NM_TYPE_F32) {
        memcpy(&f, row + 4 * i, sizeof f);
        return (double)f;
    }
    if (type == NM_TYPE_F16) {
        memcpy(&half, row + 2 * i, sizeof half);
        return (double)nm_f16_to_f32(half);
    }
    nm_block_q8_0 b;
    memcpy(&b, row + i / NM_QK * sizeof b, sizeof b);
    memcpy(&half, &b.d, sizeof half);
    return (double)((float)b.qs[i % NM_QK] * nm_f16_to_f32(half));
}

static void kv_scores(uint32_t type, size_t n, const void *k, size_t stride, size_t dim, size_t m,
                      const float *const *q, float *s, size_t lds)
{
    for (size_t r = 0; r < m; r++)
        for (size_t p = 0; p < n; p++) {
            double sum = 0;
            for (size_t i = 0; i < dim; i++)
                sum += (double)q[r][i] * element(type, (const char *)k + p * stride, i);
            s[r * lds + p] = (float)sum;
        }
}

static void kv_values(uint32_t type, size_t n, const void *v, size_t stride, size_t dim, size_t m,
                      const float *w, size_t ldw, float *const *o)
{
    for (size_t r = 0; r < m; r++)
        for (size_t i = 0; i < dim; i++) {
            double sum = (double)o[r][i];
            for (size_t p = 0; p < n; p++)
                sum += (double)w[r * ldw + p] * element(type, (const char *)v + p * stride, i);
            o[r][i] = (float)sum;
        }
}

void nm_kern_fill_cache_ref(nm_kern *table)
{
    table->kv_scores = kv_scores;
    table->kv_values = kv_values;
}
