/* i16_avx512vnni.c: tmpl/i16.inc on vpdpwssd of 512 bits: 64 products a cycle. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx512.inc"

#define NM_I16_MR    8
#define NM_I16_GROUP 4
#define I16_PRODUCT  nm_product_i16_avx512vnni
#define I16_NAME     "i16 avx512vnni"

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

VEC void v_store_quads(int16_t *to, vec v)
{
    __m256i q = _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v));
    q = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(q, 0xd8), 0xd8);
    _mm256_storeu_si256((__m256i *)(void *)to, q);
}

/* ---- decoding ------------------------------------------------------------------------------- */

VEC void iv_store(int16_t *p, iv v)
{
    _mm512_storeu_si512(p, v);
}

VEC iv iv_set1(uint32_t v)
{
    return _mm512_set1_epi32((int)v);
}

VEC iv iv_and(iv a, iv b)
{
    return _mm512_and_si512(a, b);
}

VEC iv iv_or(iv a, iv b)
{
    return _mm512_or_si512(a, b);
}

VEC iv iv_sub8(iv a, iv b)
{
    return _mm512_sub_epi8(a, b);
}

VEC iv iv_srl(iv v, int n)
{
    return _mm512_srl_epi32(v, _mm_cvtsi32_si128(n));
}

VEC iv iv_sll(iv v, int n)
{
    return _mm512_sll_epi32(v, _mm_cvtsi32_si128(n));
}

VEC iv iv_sra(iv v, int n)
{
    return _mm512_sra_epi32(v, _mm_cvtsi32_si128(n));
}

VEC iv iv_low8(iv v)
{
    return _mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8);
}

VEC iv iv_high8(iv v)
{
    return _mm512_srai_epi16(v, 8);
}

VEC iv iv_mul(iv v, uint32_t c)
{
    return _mm512_mullo_epi32(v, iv_set1(c));
}

VEC iv iv_lookup(iv table, iv v)
{
    return _mm512_shuffle_epi8(table, v);
}

VEC vec v_from_halves(iv v)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
}

/* 16 bytes of four rows. */
VEC __m512i four_rows(const char *const *at, size_t first)
{
    __m256i low = _mm256_castsi128_si256(b_load(at[0] + first));
    __m256i high = _mm256_castsi128_si256(b_load(at[8] + first));
    low = _mm256_inserti128_si256(low, b_load(at[4] + first), 1);
    high = _mm256_inserti128_si256(high, b_load(at[12] + first), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* Lanes of 128 bits hold rows r, r + 4, r + 8, r + 12, so that they transpose by themselves. */
VEC void iv_rows(const char *const *at, size_t first, iv to[4])
{
    const __m512i a = four_rows(at, first), b = four_rows(at + 1, first);
    const __m512i c = four_rows(at + 2, first), d = four_rows(at + 3, first);
    const __m512i ab = _mm512_unpacklo_epi32(a, b), cd = _mm512_unpacklo_epi32(c, d);
    const __m512i ab_high = _mm512_unpackhi_epi32(a, b), cd_high = _mm512_unpackhi_epi32(c, d);
    to[0] = _mm512_unpacklo_epi64(ab, cd);
    to[1] = _mm512_unpackhi_epi64(ab, cd);
    to[2] = _mm512_unpacklo_epi64(ab_high, cd_high);
    to[3] = _mm512_unpackhi_epi64(ab_high, cd_high);
}

#include "kernels/tmpl/i16.inc"
