/* probe_avx2.c: fp32 with FMA, integers of 16 bits without VNNI, and reading, 32 bytes at a time (probe.h). */
#include "kernels/probe_lists.h"
#include "kernels/tmpl/vec.h"

#include <immintrin.h>

enum { F32, I16 };

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

VEC pvec p_sum(pvec a, pvec b)
{
    return _mm256_add_epi64(a, b);
}

VEC pvec p_mac(int kind, pvec acc, pvec x, pvec w)
{
    if (kind == I16) {
        /* Not the intrinsic: of operands that stay in registers a compiler would multiply once and only add. */
        __asm__ volatile("vpmaddwd %2, %1, %0" : "=x"(x) : "x"(x), "x"(w));
        return _mm256_add_epi32(acc, x);
    }
    __m256 sum = _mm256_castsi256_ps(acc);
    sum = _mm256_fmadd_ps(_mm256_castsi256_ps(x), _mm256_castsi256_ps(w), sum);
    return _mm256_castps_si256(sum);
}

#include "kernels/tmpl/probe.inc"
#include "kernels/tmpl/probe_read.inc"

static uint64_t f32(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(F32, 8, x, w, w_bytes, passes, out);
}

static uint64_t i16(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(I16, 16, x, w, w_bytes, passes, out);
}

static uint64_t read_all(const void *p, size_t bytes, size_t ahead_bytes)
{
    return probe_read(p, bytes, ahead_bytes);
}

static bool has_fma(const nm_cpu *cpu)
{
    return cpu->avx2 && cpu->fma;
}

const nm_probe_product nm_probe_products_avx2[] = {
    {"f32", "avx2", "avx2", has_fma, PROBE_W_STEP, f32},
    {"i16", "avx2", "avx2", has_fma, PROBE_W_STEP, i16},
    {0},
};
const nm_probe_reader nm_probe_reader_avx2 = {"avx2", has_fma, read_all};
