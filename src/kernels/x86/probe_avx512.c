/* probe_avx512.c: fp32 with FMA, integers of 16 bits without VNNI, and reading, 64 bytes at a time (probe.h). */
#include "kernels/probe_lists.h"
#include "kernels/tmpl/vec.h"

#include <immintrin.h>

enum { F32, I16 };

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

VEC pvec p_sum(pvec a, pvec b)
{
    return _mm512_add_epi64(a, b);
}

VEC pvec p_mac(int kind, pvec acc, pvec x, pvec w)
{
    if (kind == I16) {
        /* Not the intrinsic: of operands that stay in registers a compiler would multiply once and only add. */
        __asm__ volatile("vpmaddwd %2, %1, %0" : "=v"(x) : "v"(x), "v"(w));
        return _mm512_add_epi32(acc, x);
    }
    __m512 sum = _mm512_castsi512_ps(acc);
    sum = _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(w), sum);
    return _mm512_castps_si512(sum);
}

#include "kernels/tmpl/probe.inc"
#include "kernels/tmpl/probe_read.inc"

static uint64_t f32(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(F32, 16, x, w, w_bytes, passes, out);
}

static uint64_t i16(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(I16, 32, x, w, w_bytes, passes, out);
}

static uint64_t read_all(const void *p, size_t bytes, size_t ahead_bytes)
{
    return probe_read(p, bytes, ahead_bytes);
}

static bool has_avx512(const nm_cpu *cpu)
{
    return cpu->avx512f && cpu->avx512bw;
}

const nm_probe_product nm_probe_products_avx512[] = {
    {"f32", "avx512", "avx512", has_avx512, PROBE_W_STEP, f32},
    {"i16", "avx512", "avx512", has_avx512, PROBE_W_STEP, i16},
    {0},
};
const nm_probe_reader nm_probe_reader_avx512 = {"avx512", has_avx512, read_all};
