/* nonlinear.c: types whose 4-bit codes index a table: IQ4_NL, IQ4_XS, MXFP4.
 *
 * IQ4's table is denser near zero, where trained weights are; MXFP4's is the E2M1 float grid of the
 * OCP microscaling specification. */
#include "quant/fit.h"

#include <float.h>
#include <math.h>

const int8_t nm_table_iq4_nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};
const int8_t nm_table_mxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void decode16(const uint8_t *qs, const int8_t *table, float d, float *dst)
{
    for (int j = 0; j < 16; j++) {
        dst[j] = d * (float)table[qs[j] & 15];
        dst[j + 16] = d * (float)table[qs[j] >> 4];
    }
}

void nm_decode_iq4_nl(const void *src, float *dst, size_t n)
{
    const nm_block_iq4_nl *b = src;
    for (size_t i = 0; i < n / NM_QK; i++, b++, dst += NM_QK)
        decode16(b->qs, nm_table_iq4_nl, nm_block_half(b->d), dst);
}

void nm_decode_mxfp4(const void *src, float *dst, size_t n)
{
    const nm_block_mxfp4 *b = src;
    for (size_t i = 0; i < n / NM_QK; i++, b++, dst += NM_QK)
        decode16(b->qs, nm_table_mxfp4, nm_block_e8m0_half(b->e), dst);
}

static int iq4_xs_scale(const nm_block_iq4_xs *b, int ib)
{
    int low = (b->scales_l[ib / 2] >> (4 * (ib % 2))) & 15;
    int high = (nm_block_u16(b->scales_h) >> (2 * ib)) & 3;
    return (low | (high << 4)) - 32;
}

void nm_decode_iq4_xs(const void *src, float *dst, size_t n)
{
    const nm_block_iq4_xs *b = src;
    for (size_t i = 0; i < n / NM_QK_K; i++, b++) {
        float d = nm_block_half(b->d);
        for (int ib = 0; ib < 8; ib++, dst += NM_QK)
            decode16(b->qs + 16 * ib, nm_table_iq4_nl, d * (float)iq4_xs_scale(b, ib), dst);
    }
}

/* Nearest entry of the IQ4 table for v in steps of one half: the midpoints between neighbours are
 * multiples of one half, so this is exact. Built once per row, because a search per element is
 * what the encoder would spend its time on. */
typedef struct nearest_iq4 {
    uint8_t index[512];
} nearest_iq4;

static void nearest_init(nearest_iq4 *t)
{
    int k = 0;
    for (int h = 0; h < 512; h++) {
        /* cell h holds v in [h/2 - 128, h/2 - 127.5) */
        while (k < 15 && h - 256 >= nm_table_iq4_nl[k] + nm_table_iq4_nl[k + 1])
            k++;
        t->index[h] = (uint8_t)k;
    }
}

static uint8_t nearest_get(const nearest_iq4 *t, float v)
{
    float h = 2 * v + 256;
    h = h > 0 ? h : 0; /* NaN too */
    return t->index[(int)(h < 511 ? h : 511)];
}

/* Least-squares scale for 32 numbers: trial scales put the extreme value near either end of the
 * table, which is not symmetric. */
static float fit_iq4(const nearest_iq4 *t, const float *x, const float *w)
{
    float extreme = 0;
    for (int i = 0; i < NM_QK; i++)
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    if (!(fabsf(extreme) > 1e-30f && fabsf(extreme) <= FLT_MAX))
        return 0;
    float best = -1, scale = 0;
    for (int end = 0; end < 2; end++)
        for (int step = -7; step <= 7; step++) {
            float level = (float)nm_table_iq4_nl[end ? 15 : 0] + (float)step;
            float inverse = level / extreme;
            float sxq = 0, sqq = 0;
            for (int i = 0; i < NM_QK; i++) {
                float q = (float)nm_table_iq4_nl[nearest_get(t, x[i] * inverse)], wq = w[i] * q;
                sxq += wq * x[i];
                sqq += wq * q;
            }
            if (sqq > 0 && sxq * sxq / sqq > best) {
                best = sxq * sxq / sqq;
                scale = sxq / sqq;
            }
        }
    return scale;
}

static void encode16(const nearest_iq4 *t, const float *x, float scale, uint8_t *qs)
{
    float inverse = scale != 0 ? 1.0f / scale : 0;
    for (int j = 0; j < 16; j++)
        qs[j] =
            (uint8_t)(nearest_get(t, x[j] * inverse) | (nearest_get(t, x[j + 16] * inverse) << 4));
}

void nm_encode_iq4_nl(const float *src, void *dst, size_t n, const float *weights)
{
    nm_block_iq4_nl *b = dst;
    nearest_iq4 t;
    nearest_init(&t);
    for (size_t i = 0; i < n / NM_QK; i++, b++, src += NM_QK) {
        float w[NM_QK];
        float sigma2 = 2 * nm_fit_mean_square(NM_QK, src);
        nm_fit_weights(NM_QK, src, weights ? weights + i * NM_QK : NULL, sigma2, w);
        float d = nm_block_put_half(&b->d, fit_iq4(&t, src, w));
        encode16(&t, src, d, b->qs);
    }
}

void nm_encode_iq4_xs(const float *src, void *dst, size_t n, const float *weights)
{
    nm_block_iq4_xs *b = dst;
    nearest_iq4 t;
    nearest_init(&t);
    for (size_t i = 0; i < n / NM_QK_K; i++, b++, src += NM_QK_K) {
        float sigma2 = 2 * nm_fit_mean_square(NM_QK_K, src);
        float scales[8], sw[8], w[NM_QK];
        for (int ib = 0; ib < 8; ib++) {
            const float *imp = weights ? weights + i * NM_QK_K + (size_t)(ib * NM_QK) : NULL;
            nm_fit_weights(NM_QK, src + ib * NM_QK, imp, sigma2, w);
            scales[ib] = fit_iq4(&t, src + ib * NM_QK, w);
            sw[ib] = 0;
            for (int j = 0; j < NM_QK; j++)
                sw[ib] += w[j];
        }
        int8_t s[8];
        float d = nm_block_put_half(&b->d, nm_fit_symmetric(8, 31, scales, sw, s));
        unsigned high = 0;
        memset(b->scales_l, 0, sizeof b->scales_l);
        for (int ib = 0; ib < 8; ib++) {
            int l = nm_fit_round(d != 0 ? scales[ib] / d : 0, -32, 31);
            unsigned code = (unsigned)(l + 32);
            b->scales_l[ib / 2] = (uint8_t)(b->scales_l[ib / 2] | ((code & 15) << (4 * (ib % 2))));
            high |= (code >> 4) << (2 * ib);
            encode16(&t, src + ib * NM_QK, d * (float)l, b->qs + 16 * ib);
        }
        b->scales_h = nm_block_put_u16((uint16_t)high);
    }
}

static uint8_t nearest_mxfp4(float v)
{
    uint8_t best = 0;
    float err = FLT_MAX;
    for (uint8_t q = 0; q < 16; q++) {
        float e = fabsf(v - (float)nm_table_mxfp4[q]);
        if (e < err) {
            err = e;
            best = q;
        }
    }
    return best;
}

/* The shared exponent puts the largest magnitude at E2M1's top binade (4..6), as the OCP
 * specification's section on conversion and ggml do. */
void nm_encode_mxfp4(const float *src, void *dst, size_t n, const float *weights)
{
    (void)weights;
    nm_block_mxfp4 *b = dst;
    for (size_t i = 0; i < n / NM_QK; i++, b++, src += NM_QK) {
        float amax = 0;
        for (int j = 0; j < NM_QK; j++)
            amax = fabsf(src[j]) > amax ? fabsf(src[j]) : amax;
        int exp = 0;
        if (amax > 0 && amax <= FLT_MAX)
            exp = ilogbf(amax) - 2 + 127;
        b->e = (uint8_t)(exp < 0 ? 0 : exp > 254 ? 254 : exp);
        float d = nm_block_e8m0_half(b->e);
        for (int j = 0; j < 16; j++)
            b->qs[j] = (uint8_t)(nearest_mxfp4(src[j] / d) | (nearest_mxfp4(src[j + 16] / d) << 4));
    }
}
