/* probe_avx512vnni.c: integers of 8 and 16 bits with AVX512-VNNI, 64 bytes at a time (probe.h). */
#include "kernels/probe_lists.h"
#include "kernels/tmpl/vec.h"

#include <immintrin.h>

#define PROBE_MR 6
#define PROBE_NR 4

enum { I8, I16 };

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
    return kind == I8 ? _mm512_dpbusd_epi32(acc, x, w) : _mm512_dpwssd_epi32(acc, x, w);
}

#include "kernels/tmpl/probe.inc"

static uint64_t i8(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(I8, 64, x, w, w_bytes, passes, out);
}

static uint64_t i16(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(I16, 32, x, w, w_bytes, passes, out);
}

static bool has_vnni(const nm_cpu *cpu)
{
    return cpu->avx512f && cpu->avx512_vnni;
}

const nm_probe_product nm_probe_products_avx512vnni[] = {
    {"i16", "avx512_vnni", "avx512", has_vnni, PROBE_W_STEP, i16},
    {"i8", "avx512_vnni", "avx512", has_vnni, PROBE_W_STEP, i8},
    {0},
};
