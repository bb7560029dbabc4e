/* probe_avxvnni.c: 8-bit integers with AVX-VNNI, 32 bytes at a time (probe.h). */
#include "kernels/probe_lists.h"
#include "kernels/tmpl/vec.h"

#include <immintrin.h>

#define PROBE_MR 3
#define PROBE_NR 4

typedef __m256i pvec;

VEC pvec p_load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

VEC void p_store(void *p, pvec v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}

VEC pvec p_mac(int kind, pvec acc, pvec x, pvec w)
{
    (void)kind;
    return _mm256_dpbusd_avx_epi32(acc, x, w);
}

#include "kernels/tmpl/probe.inc"

static uint64_t i8(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(0, 32, x, w, w_bytes, passes, out);
}

static bool has_avx_vnni(const nm_cpu *cpu)
{
    return cpu->avx2 && cpu->avx_vnni;
}

const nm_probe_product nm_probe_products_avxvnni[] = {
    {"i8", "avx_vnni", "avx2", has_avx_vnni, PROBE_W_STEP, i8},
    {0},
};
