/* small.c: blocks of 32 with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
 *
 * The encoders are the formats' plain definition (scale from the extreme value, round half away or
 * to nearest as ggml does), so files made here equal those of other tools byte for byte; they have
 * no use for importance weights. */
#include "quant/blocks.h"

#include <math.h>

static float absmax_signed(const float *x)
{
    float best = 0, amax = 0;
    for (int i = 0; i < NM_QK; i++)
        if (fabsf(x[i]) > amax) {
            amax = fabsf(x[i]);
            best = x[i];
        }
    return best;
}

static void min_max(const float *x, float *lo, float *hi)
{
    *lo = *hi = x[0];
    for (int i = 1; i < NM_QK; i++) {
        *lo = x[i] < *lo ? x[i] : *lo;
        *hi = x[i] > *hi ? x[i] : *hi;
    }
}

/* Truncation of v (>= 0) to an integer at most top; NaN gives 0. */
static uint8_t clip_u(float v, int top)
{
    if (!(v > 0))
        return 0;
    return (uint8_t)(v < (float)top ? (int)v : top);
}

static void put_nibbles(uint8_t *qs, const uint8_t *q)
{
    for (int i = 0; i < 16; i++)
        qs[i] = (uint8_t)((q[i] & 15) | ((q[i + 16] & 15) << 4));
}

static void put_fifth_bits(uint8_t *qh, const uint8_t *q)
{
    memset(qh, 0, 4);
    for (int i = 0; i < NM_QK; i++)
        qh[i / 8] = (uint8_t)(qh[i / 8] | ((q[i] >> 4) << (i % 8)));
}

static int five(const uint8_t *qh, const uint8_t *qs, int i)
{
    int low = i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
    return low | (((qh[i / 8] >> (i % 8)) & 1) << 4);
}

void nm_decode_q4_0(const void *src, float *dst, size_t n)
{
    const nm_block_q4_0 *b = src;
    for (size_t i = 0; i < n / NM_QK; i++, b++, dst += NM_QK) {
        float d = nm_block_half(b->d);
        for (int j = 0; j < 16; j++) {
            dst[j] = (float)((b->qs[j] & 15) - 8) * d;
            dst[j + 16] = (float)((b->qs[j] >> 4) - 8) * d;
        }
    }
}

void nm_encode_q4_0(const float *src, void *dst, size_t n, const float *weights)
{
    (void)weights;
    nm_block_q4_0 *b = dst;
    for (size_t i = 0; i < n / NM_QK; i++, b++, src += NM_QK) {
        float d = absmax_signed(src) / -8;
        float id = d != 0 ? 1.0f / d : 0;
        uint8_t q[NM_QK];
        for (int j = 0; j < NM_QK; j++)
            q[j] = clip_u(src[j] * id + 8.5f, 15);
        nm_block_put_half(&b->d, d);
        put_nibbles(b->qs, q);
    }
}

void nm_decode_q4_1(const void *src, float *dst, size_t n)
{
    const nm_block_q4_1 *b = src;
    for (size_t i = 0; i < n / NM_QK; i++, b++, dst += NM_QK) {
        float d = nm_block_half(b->d), m = nm_block_half(b->m);
        for (int j = 0; j < 16; j++) {
            dst[j] = (float)(b->qs[j] & 15) * d + m;
            dst[j + 16] = (float)(b->qs[j] >> 4) * d + m;
        }
    }
}

void nm_encode_q4_1(const float *src, void *dst, size_t n, const float *weights)
{
    (void)weights;
    nm_block_q4_1 *b = dst;
    for (size_t i = 0; i < n / NM_QK; i++, b++, src += NM_QK) {
        float lo, hi;
        min_max(src, &lo, &hi);
        float d = (hi - lo) / 15;
        float id = d != 0 ? 1.0f / d : 0;
        uint8_t q[NM_QK];
        for (int j = 0; j < NM_QK; j++)
            q[j] = clip_u((src[j] - lo) * id + 0.5f, 15);
        nm_block_put_half(&b->d, d);
        nm_block_put_half(&b->m, lo);
        put_nibbles(b->qs, q);
    }
}

void nm_decode_q5_0(const void *src, float *dst, size_t n)
{
    const nm_block_q5_0 *b = src;
    for (size_t i = 0; i < n / NM_QK; i++, b++, dst += NM_QK) {
        float d = nm_block_half(b->d);
        for (int j = 0; j < NM_QK; j++)
            dst[j] = (float)(five(b->qh, b->qs, j) - 16) * d;
    }
}

void nm_encode_q5_0(const float *src, void *dst, size_t n, const float *weights)
{
    (void)weights;
    nm_block_q5_0 *b = dst;
    for (size_t i = 0; i < n / NM_QK; i++, b++, src += NM_QK) {
        float d = absmax_signed(src) / -16;
        float id = d != 0 ? 1.0f / d : 0;
        uint8_t q[NM_QK];
        for (int j = 0; j < NM_QK; j++)
            q[j] = clip_u(src[j] * id + 16.5f, 31);
        nm_block_put_half(&b->d, d);
        put_nibbles(b->qs, q);
        put_fifth_bits(b->qh, q);
    }
}

void nm_decode_q5_1(const void *src, float *dst, size_t n)
{
    const nm_block_q5_1 *b = src;
    for (size_t i = 0; i < n / NM_QK; i++, b++, dst += NM_QK) {
        float d = nm_block_half(b->d), m = nm_block_half(b->m);
        for (int j = 0; j < NM_QK; j++)
            dst[j] = (float)five(b->qh, b->qs, j) * d + m;
    }
}

void nm_encode_q5_1(const float *src, void *dst, size_t n, const float *weights)
{
    (void)weights;
    nm_block_q5_1 *b = dst;
    for (size_t i = 0; i < n / NM_QK; i++, b++, src += NM_QK) {
        float lo, hi;
        min_max(src, &lo, &hi);
        float d = (hi - lo) / 31;
        float id = d != 0 ? 1.0f / d : 0;
        uint8_t q[NM_QK];
        for (int j = 0; j < NM_QK; j++)
            q[j] = clip_u((src[j] - lo) * id + 0.5f, 31);
        nm_block_put_half(&b->d, d);
        nm_block_put_half(&b->m, lo);
        put_nibbles(b->qs, q);
        put_fifth_bits(b->qh, q);
    }
}

void nm_decode_q8_0(const void *src, float *dst, size_t n)
{
    const nm_block_q8_0 *b = src;
    for (size_t i = 0; i < n / NM_QK; i++, b++, dst += NM_QK) {
        float d = nm_block_half(b->d);
        for (int j = 0; j < NM_QK; j++)
            dst[j] = (float)b->qs[j] * d;
    }
}

/* roundf for |v| <= 127 and 0 for NaN; half away from zero as the format's definition. */
static int8_t round_i8(float v)
{
    if (!(v > -128.0f && v < 128.0f))
        return (int8_t)(v >= 128.0f ? 127 : v <= -128.0f ? -127 : 0);
    return (int8_t)roundf(v);
}

void nm_encode_q8_0(const float *src, void *dst, size_t n, const float *weights)
{
    (void)weights;
    nm_block_q8_0 *b = dst;
    for (size_t i = 0; i < n / NM_QK; i++, b++, src += NM_QK) {
        float d = fabsf(absmax_signed(src)) / 127;
        float id = d != 0 ? 1.0f / d : 0;
        for (int j = 0; j < NM_QK; j++)
            b->qs[j] = round_i8(src[j] * id);
        nm_block_put_half(&b->d, d);
    }
}
