/* kquant_encode.c: encoding of the super-blocks of 256: Q2_K ... Q6_K.
 *
 * Two levels: each sub-block gets its best scale (and minimum) by nm_fit_*; these 8 or 16 numbers
 * are themselves quantised; then the elements are rounded again with the scales as a reader will
 * see them. The bit layouts are those of kquant.c. */
#include "quant/fit.h"

#include <math.h>

/* What the first level found for one super-block; sub-blocks are 16 or 32 elements. */
typedef struct sub_fit {
    float scale[16], min[16], weight[16];
} sub_fit;

static void fit_sub_blocks_affine(const float *x, const float *imp, int sub, int top, sub_fit *f)
{
    float w[NM_FIT_MAX], sigma2 = nm_fit_mean_square(NM_QK_K, x);
    uint8_t q[NM_FIT_MAX];
    for (int s = 0; s < NM_QK_K / sub; s++) {
        nm_fit_weights(sub, x + s * sub, imp ? imp + s * sub : NULL, sigma2, w);
        f->scale[s] = nm_fit_affine(sub, top, x + s * sub, w, q, &f->min[s]);
        f->weight[s] = 0;
        for (int l = 0; l < sub; l++)
            f->weight[s] += w[l];
    }
}

static void fit_sub_blocks_symmetric(const float *x, const float *imp, int top, sub_fit *f)
{
    float w[16], sigma2 = nm_fit_mean_square(NM_QK_K, x);
    int8_t q[16];
    for (int s = 0; s < 16; s++) {
        nm_fit_weights(16, x + s * 16, imp ? imp + s * 16 : NULL, sigma2, w);
        f->scale[s] = nm_fit_symmetric(16, top, x + s * 16, w, q);
        f->weight[s] = 0;
        for (int l = 0; l < 16; l++)
            f->weight[s] += w[l] * f->scale[s] * f->scale[s];
    }
}

/* Codes 0..top of one sub-block for x ~ dl q - ml. */
static void round_affine(int n, int top, const float *x, float dl, float ml, uint8_t *q)
{
    float inverse = dl > 0 ? 1.0f / dl : 0;
    for (int l = 0; l < n; l++)
        q[l] = (uint8_t)nm_fit_round((x[l] + ml) * inverse, 0, top);
}

/* Codes 0..2 top + 1 of one sub-block for x ~ dl (q - top - 1). */
static void round_symmetric(const float *x, float dl, int top, uint8_t *q)
{
    float inverse = dl != 0 ? 1.0f / dl : 0;
    for (int l = 0; l < 16; l++)
        q[l] = (uint8_t)(nm_fit_round(x[l] * inverse, -top - 1, top) + top + 1);
}

void nm_encode_q2_k(const float *src, void *dst, size_t n, const float *weights)
{
    nm_block_q2_k *b = dst;
    for (size_t i = 0; i < n / NM_QK_K; i++, b++, src += NM_QK_K) {
        sub_fit f;
        uint8_t sc[16], mn[16], q[16];
        fit_sub_blocks_affine(src, weights ? weights + i * NM_QK_K : NULL, 16, 3, &f);
        float d = nm_block_put_half(&b->d, nm_fit_positive(16, 15, f.scale, f.weight, sc));
        float dmin = nm_block_put_half(&b->dmin, nm_fit_positive(16, 15, f.min, f.weight, mn));
        memset(b->qs, 0, sizeof b->qs);
        for (int s = 0; s < 16; s++) {
            b->scales[s] = (uint8_t)(sc[s] | (mn[s] << 4));
            round_affine(16, 3, src + 16 * s, d * (float)sc[s], dmin * (float)mn[s], q);
            uint8_t *qs = b->qs + 32 * (s / 8) + 16 * (s % 2);
            for (int l = 0; l < 16; l++)
                qs[l] = (uint8_t)(qs[l] | (q[l] << (2 * ((s / 2) % 4))));
        }
    }
}

static void put_q3_scales(uint8_t out[12], const uint8_t code[16])
{
    memset(out, 0, 12);
    for (int s = 0; s < 16; s++) {
        int low = s % 8, high = 8 + s % 4;
        out[low] = (uint8_t)(out[low] | ((code[s] & 15) << (4 * (s / 8))));
        out[high] = (uint8_t)(out[high] | ((code[s] >> 4) << (2 * (s / 4))));
    }
}

void nm_encode_q3_k(const float *src, void *dst, size_t n, const float *weights)
{
    nm_block_q3_k *b = dst;
    for (size_t i = 0; i < n / NM_QK_K; i++, b++, src += NM_QK_K) {
        sub_fit f;
        int8_t sc[16];
        uint8_t code[16], q[16];
        fit_sub_blocks_symmetric(src, weights ? weights + i * NM_QK_K : NULL, 3, &f);
        float d = nm_block_put_half(&b->d, nm_fit_symmetric(16, 31, f.scale, f.weight, sc));
        memset(b->qs, 0, sizeof b->qs);
        memset(b->hmask, 0, sizeof b->hmask);
        for (int s = 0; s < 16; s++) {
            code[s] = (uint8_t)(sc[s] + 32);
            round_symmetric(src + 16 * s, d * (float)sc[s], 3, q);
            uint8_t *qs = b->qs + 32 * (s / 8) + 16 * (s % 2), *h = b->hmask + 16 * (s % 2);
            for (int l = 0; l < 16; l++) {
                qs[l] = (uint8_t)(qs[l] | ((q[l] & 3) << (2 * ((s / 2) % 4))));
                h[l] = (uint8_t)(h[l] | ((q[l] >> 2) << (s / 2)));
            }
        }
        put_q3_scales(b->scales, code);
    }
}

static void put_scale_min(uint8_t out[12], const uint8_t sc[8], const uint8_t mn[8])
{
    for (int j = 0; j < 4; j++) {
        out[j] = (uint8_t)(sc[j] | ((sc[j + 4] >> 4) << 6));
        out[j + 4] = (uint8_t)(mn[j] | ((mn[j + 4] >> 4) << 6));
        out[j + 8] = (uint8_t)((sc[j + 4] & 15) | ((mn[j + 4] & 15) << 4));
    }
}

/* Q4_K and Q5_K differ in the number of levels only: codes of all 256 elements. */
static void encode_45(const float *x, const float *imp, int top, nm_half2b *d_out,
                      nm_half2b *dmin_out, uint8_t scales[12], uint8_t *q)
{
    sub_fit f;
    uint8_t sc[8], mn[8];
    fit_sub_blocks_affine(x, imp, 32, top, &f);
    float d = nm_block_put_half(d_out, nm_fit_positive(8, 63, f.scale, f.weight, sc));
    float dmin = nm_block_put_half(dmin_out, nm_fit_positive(8, 63, f.min, f.weight, mn));
    put_scale_min(scales, sc, mn);
    for (int s = 0; s < 8; s++)
        round_affine(32, top, x + 32 * s, d * (float)sc[s], dmin * (float)mn[s], q + 32 * s);
}

static void put_nibbles(uint8_t *qs, const uint8_t *q)
{
    for (int p = 0; p < 4; p++)
        for (int l = 0; l < 32; l++)
            qs[32 * p + l] = (uint8_t)((q[64 * p + l] & 15) | ((q[64 * p + 32 + l] & 15) << 4));
}

void nm_encode_q4_k(const float *src, void *dst, size_t n, const float *weights)
{
    nm_block_q4_k *b = dst;
    uint8_t q[NM_QK_K];
    for (size_t i = 0; i < n / NM_QK_K; i++, b++, src += NM_QK_K) {
        const float *imp = weights ? weights + i * NM_QK_K : NULL;
        encode_45(src, imp, 15, &b->d, &b->dmin, b->scales, q);
        put_nibbles(b->qs, q);
    }
}

void nm_encode_q5_k(const float *src, void *dst, size_t n, const float *weights)
{
    nm_block_q5_k *b = dst;
    uint8_t q[NM_QK_K];
    for (size_t i = 0; i < n / NM_QK_K; i++, b++, src += NM_QK_K) {
        const float *imp = weights ? weights + i * NM_QK_K : NULL;
        encode_45(src, imp, 31, &b->d, &b->dmin, b->scales, q);
        put_nibbles(b->qs, q);
        memset(b->qh, 0, sizeof b->qh);
        for (int e = 0; e < NM_QK_K; e++)
            b->qh[e % 32] = (uint8_t)(b->qh[e % 32] | ((q[e] >> 4) << (e / 32)));
    }
}

void nm_encode_q6_k(const float *src, void *dst, size_t n, const float *weights)
{
    nm_block_q6_k *b = dst;
    for (size_t i = 0; i < n / NM_QK_K; i++, b++, src += NM_QK_K) {
        sub_fit f;
        uint8_t q[16];
        fit_sub_blocks_symmetric(src, weights ? weights + i * NM_QK_K : NULL, 31, &f);
        float d = nm_block_put_half(&b->d, nm_fit_symmetric(16, 127, f.scale, f.weight, b->scales));
        memset(b->ql, 0, sizeof b->ql);
        memset(b->qh, 0, sizeof b->qh);
        for (int s = 0; s < 16; s++) {
            round_symmetric(src + 16 * s, d * (float)b->scales[s], 31, q);
            int r = (s % 8) / 2, at = 16 * (s % 2);
            uint8_t *ql = b->ql + 64 * (s / 8) + 32 * (r % 2) + at, *qh = b->qh + 32 * (s / 8) + at;
            for (int l = 0; l < 16; l++) {
                ql[l] = (uint8_t)(ql[l] | ((q[l] & 15) << (4 * (r / 2))));
                qh[l] = (uint8_t)(qh[l] | ((q[l] >> 4) << (2 * r)));
            }
        }
    }
}
