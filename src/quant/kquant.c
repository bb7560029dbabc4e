/* kquant.c: decoding of the super-blocks of 256: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K. */
#include "quant/blocks.h"

void nm_decode_q2_k(const void *src, float *dst, size_t n)
{
    const nm_block_q2_k *b = src;
    for (size_t i = 0; i < n / NM_QK_K; i++, b++, dst += NM_QK_K) {
        float d = nm_block_half(b->d), dmin = nm_block_half(b->dmin);
        for (int s = 0; s < 16; s++) {
            /* sub-block s: half of 128 elements, 2-bit plane, half of the 32 bytes */
            const uint8_t *q = b->qs + 32 * (s / 8) + 16 * (s % 2);
            int shift = 2 * ((s / 2) % 4);
            float dl = d * (float)(b->scales[s] & 15), ml = dmin * (float)(b->scales[s] >> 4);
            for (int l = 0; l < 16; l++)
                dst[16 * s + l] = dl * (float)((q[l] >> shift) & 3) - ml;
        }
    }
}

void nm_decode_q3_k(const void *src, float *dst, size_t n)
{
    const nm_block_q3_k *b = src;
    for (size_t i = 0; i < n / NM_QK_K; i++, b++, dst += NM_QK_K) {
        float d = nm_block_half(b->d);
        for (int s = 0; s < 16; s++) {
            const uint8_t *q = b->qs + 32 * (s / 8) + 16 * (s % 2);
            const uint8_t *h = b->hmask + 16 * (s % 2);
            int shift = 2 * ((s / 2) % 4), bit = s / 2;
            float dl = d * (float)nm_block_q3_scale(b->scales, s);
            for (int l = 0; l < 16; l++) {
                int v = ((q[l] >> shift) & 3) - (((h[l] >> bit) & 1) ? 0 : 4);
                dst[16 * s + l] = dl * (float)v;
            }
        }
    }
}

void nm_decode_q4_k(const void *src, float *dst, size_t n)
{
    const nm_block_q4_k *b = src;
    for (size_t i = 0; i < n / NM_QK_K; i++, b++, dst += NM_QK_K) {
        float d = nm_block_half(b->d), dmin = nm_block_half(b->dmin);
        for (int s = 0; s < 8; s++) {
            const uint8_t *q = b->qs + 32 * (s / 2);
            uint8_t sc, mn;
            nm_block_scale_min(b->scales, s, &sc, &mn);
            float dl = d * (float)sc, ml = dmin * (float)mn;
            for (int l = 0; l < 32; l++)
                dst[32 * s + l] = dl * (float)((q[l] >> (4 * (s % 2))) & 15) - ml;
        }
    }
}

void nm_decode_q5_k(const void *src, float *dst, size_t n)
{
    const nm_block_q5_k *b = src;
    for (size_t i = 0; i < n / NM_QK_K; i++, b++, dst += NM_QK_K) {
        float d = nm_block_half(b->d), dmin = nm_block_half(b->dmin);
        for (int s = 0; s < 8; s++) {
            const uint8_t *q = b->qs + 32 * (s / 2);
            uint8_t sc, mn;
            nm_block_scale_min(b->scales, s, &sc, &mn);
            float dl = d * (float)sc, ml = dmin * (float)mn;
            for (int l = 0; l < 32; l++) {
                int v = ((q[l] >> (4 * (s % 2))) & 15) | (((b->qh[l] >> s) & 1) << 4);
                dst[32 * s + l] = dl * (float)v - ml;
            }
        }
    }
}

void nm_decode_q6_k(const void *src, float *dst, size_t n)
{
    const nm_block_q6_k *b = src;
    for (size_t i = 0; i < n / NM_QK_K; i++, b++, dst += NM_QK_K) {
        float d = nm_block_half(b->d);
        for (int s = 0; s < 16; s++) {
            /* in a half of 128: quarter r = 32 elements; its low bits lie in nibble r / 2 of
             * bytes 32 (r % 2), its high bits in bits 2r of the 32 bytes of qh */
            int r = (s % 8) / 2, at = 16 * (s % 2);
            const uint8_t *ql = b->ql + 64 * (s / 8) + 32 * (r % 2) + at;
            const uint8_t *qh = b->qh + 32 * (s / 8) + at;
            float dl = d * (float)b->scales[s];
            for (int l = 0; l < 16; l++) {
                int low = (ql[l] >> (4 * (r / 2))) & 15, high = (qh[l] >> (2 * r)) & 3;
                dst[16 * s + l] = dl * (float)((low | (high << 4)) - 32);
            }
        }
    }
}
