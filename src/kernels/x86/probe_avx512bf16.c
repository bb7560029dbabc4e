/* probe_avx512bf16.c: bfloat16 with AVX512-BF16, 64 bytes at a time (probe.h): twice the rate of fp32
 * on Zen 5, half of it on Sapphire Rapids, where no kernel uses it. */
#include "kernels/probe_lists.h"
#include "kernels/tmpl/vec.h"

#include <immintrin.h>

#define PROBE_MR 6
#define PROBE_NR 4

typedef __m512i pvec;

VEC pvec p_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

VEC void p_store(void *p, pvec v)
{
    _mm512_storeu_si512(p, v);
}

VEC pvec p_mac(int kind, pvec acc, pvec x, pvec w)
{
    (void)kind;
    __m512 sum = _mm512_castsi512_ps(acc);
    return _mm512_castps_si512(_mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w));
}

#include "kernels/tmpl/probe.inc"

static uint64_t bf16(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(0, 32, x, w, w_bytes, passes, out);
}

static bool has_bf16(const nm_cpu *cpu)
{
    return cpu->avx512f && cpu->avx512_bf16;
}

const nm_probe_product nm_probe_products_avx512bf16[] = {
    {"bf16", "avx512_bf16", "avx512", has_bf16, PROBE_W_STEP, bf16},
    {0},
};
