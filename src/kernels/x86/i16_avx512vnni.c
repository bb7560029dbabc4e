/* i16_avx512vnni.c: tmpl/i16.inc on vpdpwssd of 512 bits: 64 products a cycle. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx512.inc"

#define NM_I16_MR   8
#define I16_PRODUCT nm_product_i16_avx512vnni
#define I16_NAME    "i16 avx512vnni"

enum { I16_MR = NM_I16_MR, I16_NV = 2 };

typedef __m512i iv;

VEC iv iv_zero(void)
{
    return _mm512_setzero_si512();
}

VEC iv iv_load(const int16_t *p)
{
    return _mm512_loadu_si512(p);
}

VEC iv iv_pair(const void *p)
{
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
}

VEC iv iv_dot(iv acc, iv a, iv b)
{
    return _mm512_dpwssd_epi32(acc, a, b);
}

VEC vec v_from_iv(iv a)
{
    return _mm512_cvtepi32_ps(a);
}

VEC void v_store_i16(int16_t *to, vec v)
{
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v)));
}

#include "kernels/x86/i16_x86.inc"

#include "kernels/tmpl/i16.inc"
