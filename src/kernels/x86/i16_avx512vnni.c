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

enum { PLACE_ROWS = 16 };

/* 32 inputs of rows r and r + 8, in lanes of 16 codes: first cell of both, second cell of both. */
VEC __m512i two_rows(const char *r, size_t row_bytes, size_t cell_bytes)
{
    const char *s = r + 8 * row_bytes;
    __m256i first = _mm256_inserti128_si256(_mm256_castsi128_si256(b_load(r)), b_load(s), 1);
    __m256i second = _mm256_castsi128_si256(b_load(r + cell_bytes));
    second = _mm256_inserti128_si256(second, b_load(s + cell_bytes), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}

/* A transposition of words: pairs of codes; then signs. */
VEC void place_rows(const void *cells, size_t row_bytes, size_t cell_bytes, int16_t *to)
{
    __m512i a[8], b[8];
    UNROLL for (int r = 0; r < 8; r++)
    {
        a[r] = two_rows((const char *)cells + (size_t)r * row_bytes, row_bytes, cell_bytes);
    }
    UNROLL for (int r = 0; r < 8; r += 2)
    {
        b[r] = _mm512_unpacklo_epi16(a[r], a[r + 1]);
        b[r + 1] = _mm512_unpackhi_epi16(a[r], a[r + 1]);
    }
    UNROLL for (int r = 0; r < 8; r += 4)
    {
        a[r] = _mm512_unpacklo_epi32(b[r], b[r + 2]);
        a[r + 1] = _mm512_unpackhi_epi32(b[r], b[r + 2]);
        a[r + 2] = _mm512_unpacklo_epi32(b[r + 1], b[r + 3]);
        a[r + 3] = _mm512_unpackhi_epi32(b[r + 1], b[r + 3]);
    }
    UNROLL for (int r = 0; r < 4; r++)
    {
        b[2 * r] = _mm512_unpacklo_epi64(a[r], a[r + 4]);
        b[2 * r + 1] = _mm512_unpackhi_epi64(a[r], a[r + 4]);
    }
    UNROLL for (int p = 0; p < 8; p++) /* a pair of the first cells, one of the second */
    {
        __m512i low = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(b[p]));
        __m512i high = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(b[p], 1));
        _mm512_storeu_si512(to + 64 * p, low);
        _mm512_storeu_si512(to + 64 * (p + 8), high);
    }
}

#include "kernels/tmpl/i16.inc"
