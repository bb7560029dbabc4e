/* tiles.h: the matrix unit (AMX) in software, for `make EMULATE_AMX=1`: the same kernels, compiled for a processor
 * without one. Forced in before every *_amx.c; needs AVX-512 (BW).
 *
 * Eight tiles of at most 16 rows of 64 bytes, and what Intel's manual (volume 1, 18; volume 2, LDTILECFG, TILELOADD,
 * TDPBSSD, TDPBF16PS, ...) says of them: nothing but the configured rows and bytes is read or written, and what
 * would raise #UD (a tile that is not configured, shapes that do not match) ends the program.
 *
 * A file has tiles of its own: kernels configure them where they begin, and leave nothing in them. Speed, on
 * one core of Zen 5: a product of bytes takes some 25 times as long as on a matrix unit. */
#ifndef EMULATED_TILES_H
#define EMULATED_TILES_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef struct emulated_tile {
    uint32_t rows, bytes; /* 0 = not configured */
    _Alignas(64) uint8_t row[16][64];
} emulated_tile;

static _Thread_local emulated_tile emulated_tiles[8];

/* #UD */
static inline void emulated_need(int holds)
{
    if (!holds)
        __builtin_trap();
}

static inline emulated_tile *emulated_at(int t)
{
    emulated_need(t >= 0 && t < 8 && emulated_tiles[t].rows > 0);
    return &emulated_tiles[t];
}

/* ---- configuration, loads, stores ----------------------------------------------------------- */

static inline void emulated_config(const void *config)
{
    uint8_t c[64];
    memcpy(c, config, sizeof c);
    emulated_need(c[0] == 1 && c[1] == 0); /* palette; no load was interrupted */
    for (int t = 0; t < 8; t++) {
        uint16_t bytes;
        memcpy(&bytes, c + 16 + 2 * t, sizeof bytes);
        const uint8_t rows = c[48 + t];
        emulated_need(rows <= 16 && bytes <= 64 && (rows == 0) == (bytes == 0));
        memset(&emulated_tiles[t], 0, sizeof emulated_tiles[t]);
        emulated_tiles[t].rows = rows;
        emulated_tiles[t].bytes = bytes;
    }
}

static inline void emulated_release(void)
{
    memset(emulated_tiles, 0, sizeof emulated_tiles);
}

static inline void emulated_zero(int t)
{
    emulated_tile *to = emulated_at(t);
    memset(to->row, 0, sizeof to->row);
}

static inline void emulated_load(int t, const void *from, size_t stride)
{
    emulated_zero(t);
    emulated_tile *to = emulated_at(t);
    for (uint32_t r = 0; r < to->rows; r++)
        memcpy(to->row[r], (const char *)from + r * stride, to->bytes);
}

static inline void emulated_store(int t, void *to, size_t stride)
{
    const emulated_tile *from = emulated_at(t);
    for (uint32_t r = 0; r < from->rows; r++)
        memcpy((char *)to + r * stride, from->row[r], from->bytes);
}

/* ---- products: c[m][n] += sum over k, i of a[m][4 bytes k + i] b[k][4 bytes n + i] ----------- */

static inline void emulated_fit(const emulated_tile *c, const emulated_tile *a,
                                const emulated_tile *b)
{
    emulated_need(c != a && c != b && a != b);
    emulated_need(c->rows == a->rows && c->bytes == b->bytes && a->bytes == 4 * b->rows);
    emulated_need(a->bytes % 4 == 0 && b->bytes % 4 == 0);
}

/* The even and the odd bytes as 16 bits, by twos: the lanes of what VPMADDWD multiplies. */
static inline __m512i emulated_evens(__m512i v, int has_sign)
{
    v = _mm512_slli_epi16(v, 8);
    return has_sign ? _mm512_srai_epi16(v, 8) : _mm512_srli_epi16(v, 8);
}

static inline __m512i emulated_odds(__m512i v, int has_sign)
{
    return has_sign ? _mm512_srai_epi16(v, 8) : _mm512_srli_epi16(v, 8);
}

/* b has a sign, a may have one. */
static inline __attribute__((unused)) void emulated_bytes(int dst, int src1, int src2, int a_sign)
{
    emulated_tile *c = emulated_at(dst);
    const emulated_tile *a = emulated_at(src1), *b = emulated_at(src2);
    emulated_fit(c, a, b);
    __m512i evens[16], odds[16];
    for (uint32_t k = 0; k < b->rows; k++) {
        const __m512i v = _mm512_load_si512(b->row[k]);
        evens[k] = emulated_evens(v, 1);
        odds[k] = emulated_odds(v, 1);
    }
    for (uint32_t m = 0; m < c->rows; m++) {
        __m512i sum = _mm512_load_si512(c->row[m]);
        for (uint32_t k = 0; k < b->rows; k++) {
            int32_t four;
            memcpy(&four, a->row[m] + 4 * k, sizeof four);
            const __m512i v = _mm512_set1_epi32(four);
            const __m512i even = _mm512_madd_epi16(emulated_evens(v, a_sign), evens[k]);
            const __m512i odd = _mm512_madd_epi16(emulated_odds(v, a_sign), odds[k]);
            sum = _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
        }
        _mm512_store_si512(c->row[m], sum);
    }
}

/* Sums of even and of odd inputs each start at zero, are fused, and only at the end added to each other and to c. */
static __attribute__((noinline, unused)) void
emulated_pairs(emulated_tile *c, const emulated_tile *a, const emulated_tile *b)
{
    const __m512i odd_half = _mm512_set1_epi32((int)0xffff0000);
    for (uint32_t m = 0; m < c->rows; m++) {
        __m512 even = _mm512_setzero_ps(), odd = even;
        for (uint32_t k = 0; k < b->rows; k++) {
            int32_t pair;
            memcpy(&pair, a->row[m] + 4 * k, sizeof pair);
            const __m512i x = _mm512_set1_epi32(pair), y = _mm512_load_si512(b->row[k]);
            even = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(x, 16)),
                                   _mm512_castsi512_ps(_mm512_slli_epi32(y, 16)), even);
            odd = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(x, odd_half)),
                                  _mm512_castsi512_ps(_mm512_and_si512(y, odd_half)), odd);
        }
        const __m512 sum = _mm512_castsi512_ps(_mm512_load_si512(c->row[m]));
        _mm512_store_si512(c->row[m],
                           _mm512_castps_si512(_mm512_add_ps(sum, _mm512_add_ps(even, odd))));
    }
}

/* Rounds to nearest even and takes and makes denormals as zeros, whatever MXCSR says. */
static inline __attribute__((unused)) void emulated_bf16(int dst, int src1, int src2)
{
    emulated_tile *c = emulated_at(dst);
    const emulated_tile *a = emulated_at(src1), *b = emulated_at(src2);
    const unsigned mxcsr = _mm_getcsr();
    emulated_fit(c, a, b);
    _mm_setcsr(0x9fc0); /* FTZ, DAZ, all exceptions masked */
    emulated_pairs(c, a, b);
    _mm_setcsr(mxcsr);
}

/* Lanes of rows and columns that are not configured are zeros in all tiles and stay it. */

#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#undef _tile_dpbusd
#undef _tile_dpbf16ps
#define _tile_loadconfig(config)            emulated_config(config)
#define _tile_release()                     emulated_release()
#define _tile_loadd(t, from, stride)        emulated_load(t, from, stride)
#define _tile_stream_loadd(t, from, stride) emulated_load(t, from, stride)
#define _tile_stored(t, to, stride)         emulated_store(t, to, stride)
#define _tile_zero(t)                       emulated_zero(t)
#define _tile_dpbssd(c, a, b)               emulated_bytes(c, a, b, 1)
#define _tile_dpbusd(c, a, b)               emulated_bytes(c, a, b, 0)
#define _tile_dpbf16ps(c, a, b)             emulated_bf16(c, a, b)

#endif
