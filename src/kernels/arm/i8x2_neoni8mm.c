/* i8x2_neoni8mm.c: the integer product with SMMLA (FEAT_I8MM): Apple M2, Cortex-X2, Neoverse V1, N2
 * and later.
 *
 * SMMLA multiplies 2 rows x 8 inputs with 2 outputs x 8 inputs and adds the 2 x 2 results to four
 * sums: row 0 output 0, row 0 output 1, row 1 output 0, row 1 output 1.
 *
 *   x, a group of 4 rows, 32 inputs:   q[eight inputs 0..3][plane][pair of rows][row][8]; then for
 *                                      each pair s (row 0 twice, row 1 twice), and so the sums s
 *                                      sum v of the first half, of the second, of both
 *   W, a strip, 32 inputs:             codes[eight inputs 0..3][pair of outputs 0..3][output][8]
 *
 * The register block is 4 rows x 8 outputs: 8 sums of integers for hi, 8 for lo, 8 of fp32, 4 vectors
 * of x (2 pairs, 2 planes), one of W: 29 of 32.
 *
 * Instructions for 4 results and 32 inputs: 8 SMMLA, and 2 MOVI, MLA (256 hi + lo), SCVTF, FMUL, FMLA
 * (one more FMLA with minimums; with scales for 16 inputs the six come twice); in fp32: 32 FMLA. So
 * at equal rates of these 2.3 times fp32, 4 at the most; loads are 1 for 2 SMMLA. */
#include "kernels/tmpl/vec.h"

#include "kernels/arm/strips.h"
#include "kernels/products.h"

#include <float.h>

#include "kernels/arm/vec_neon.inc"

#define NM_DECODE_CODES
#include "kernels/tmpl/decode.inc"

#include "kernels/arm/i8x2_neon.inc"

enum { PAIRS = ROWS / 2, OUT_PAIRS = NM_STRIP / 2 };

struct x_block {
    int8_t q[4][2][PAIRS][2][8];
    float scale[PAIRS][4], sum[3][PAIRS][4];
};

static void put_twice(float pair[4], int row, float v)
{
    pair[2 * row] = pair[2 * row + 1] = v;
}

static void pack_block(const float *const *rows, void *to)
{
    x_block *b = to;
    for (int r = 0; r < ROWS; r++) {
        const int pair = r / 2, row = r % 2;
        planes p = to_planes(rows[r]);
        for (int h = 0; h < 2; h++) {
            vst1_s8(b->q[2 * h][0][pair][row], vget_low_s8(p.hi[h]));
            vst1_s8(b->q[2 * h + 1][0][pair][row], vget_high_s8(p.hi[h]));
            vst1_s8(b->q[2 * h][1][pair][row], vget_low_s8(p.lo[h]));
            vst1_s8(b->q[2 * h + 1][1][pair][row], vget_high_s8(p.lo[h]));
        }
        put_twice(b->scale[pair], row, p.scale);
        for (int i = 0; i < 3; i++)
            put_twice(b->sum[i][pair], row, p.sum[i]);
    }
}

VEC void weave(const elem (*cells)[CELLS], int8_t *to)
{
    for (int o = 0; o < OUT_PAIRS; o++, cells += 2, to += 16) {
        int8x16_t a = vld1q_s8(cells[0][0].q), b = vld1q_s8(cells[1][0].q);
        vst1q_s8(to, vcombine_s8(vget_low_s8(a), vget_low_s8(b)));
        vst1q_s8(to + 16 * OUT_PAIRS, vcombine_s8(vget_high_s8(a), vget_high_s8(b)));
    }
}

typedef int32x4_t int_sums[PAIRS][OUT_PAIRS];
typedef float32x4_t sums[PAIRS][OUT_PAIRS];

/* acc = 256 sum q hi + sum q lo over inputs 8 e0 .. 8 e1 - 1. */
VEC void multiply_eights(int pairs, int e0, int e1, const x_block *x, const int8_t *w, int_sums acc)
{
    int_sums hi;
    UNROLL for (int o = 0; o < OUT_PAIRS; o++) UNROLL for (int p = 0; p < pairs; p++)
    {
        hi[p][o] = acc[p][o] = vdupq_n_s32(0);
    }
    UNROLL for (int e = e0; e < e1; e++)
    {
        int8x16_t xs[2][PAIRS];
        load_no_earlier();
        UNROLL for (int p = 0; p < pairs; p++)
        {
            xs[0][p] = vld1q_s8(&x->q[e][0][p][0][0]);
            xs[1][p] = vld1q_s8(&x->q[e][1][p][0][0]);
        }
        UNROLL for (int o = 0; o < OUT_PAIRS; o++)
        {
            int8x16_t ws = vld1q_s8(w + 16 * (OUT_PAIRS * e + o));
            UNROLL for (int p = 0; p < pairs; p++)
            {
                hi[p][o] = vmmlaq_s32(hi[p][o], xs[0][p], ws);
                acc[p][o] = vmmlaq_s32(acc[p][o], xs[1][p], ws);
            }
        }
    }
    UNROLL for (int o = 0; o < OUT_PAIRS; o++) UNROLL for (int p = 0; p < pairs; p++)
    {
        acc[p][o] = vmlaq_n_s32(acc[p][o], hi[p][o], 256);
    }
}

/* Two numbers as 0 1 0 1. */
VEC float32x4_t load_pair(const float *v)
{
    float32x2_t two = vld1_f32(v);
    return vcombine_f32(two, two);
}

/* d of 8 outputs; m: their minimums, or NULL. */
VEC void add_scaled(int pairs, int_sums acc, const float (*scale)[4], const float *d,
                    const float (*sum_x)[4], const float *m, sums sum)
{
    UNROLL for (int o = 0; o < OUT_PAIRS; o++)
    {
        float32x4_t ds = load_pair(d + 2 * o);
        UNROLL for (int p = 0; p < pairs; p++)
        {
            float32x4_t whole = vcvtq_f32_s32(acc[p][o]);
            sum[p][o] = vfmaq_f32(sum[p][o], whole, vmulq_f32(ds, vld1q_f32(scale[p])));
            if (m)
                sum[p][o] = vfmaq_f32(sum[p][o], load_pair(m + 2 * o), vld1q_f32(sum_x[p]));
        }
    }
}

VEC void block(int pairs, bool halves, bool mins, const x_block *x, const int8_t *w, sums sum)
{
    const float *d = (const float *)(const void *)(w + CODE_BYTES);
    const float *m = d + (halves ? 2 : 1) * NM_STRIP;
    int_sums acc;
    if (!halves) {
        multiply_eights(pairs, 0, 4, x, w, acc);
        add_scaled(pairs, acc, x->scale, d, x->sum[2], mins ? m : NULL, sum);
        return;
    }
    UNROLL for (int h = 0; h < 2; h++)
    {
        multiply_eights(pairs, 2 * h, 2 * h + 2, x, w, acc);
        add_scaled(pairs, acc, x->scale, d + NM_STRIP * h, x->sum[h],
                   mins ? m + NM_STRIP * h : NULL, sum);
    }
}

VEC void strip(int rows, bool halves, bool mins, size_t blocks, const x_block *x, const int8_t *w,
               float y[][NM_STRIP_COLS])
{
    const int pairs = rows / 2;
    sums sum;
    UNROLL for (int o = 0; o < OUT_PAIRS; o++) UNROLL for (int p = 0; p < pairs; p++)
    {
        sum[p][o] = vdupq_n_f32(0);
    }
    for (; blocks > 0; blocks--, x++, w += w_block_bytes(halves, mins))
        block(pairs, halves, mins, x, w, sum);
    UNROLL for (int o = 0; o < OUT_PAIRS; o++) UNROLL for (int p = 0; p < pairs; p++)
    {
        vst1_f32(y[2 * p] + 2 * o, vget_low_f32(sum[p][o]));
        vst1_f32(y[2 * p + 1] + 2 * o, vget_high_f32(sum[p][o]));
    }
}

static const nm_strips strips = {
    .group = ROWS,
    .x_block_bytes = sizeof(x_block),
    .w_block_bytes = CODE_BYTES + 4 * NM_STRIP * sizeof(float),
    .block_bytes = block_bytes,
    .pack = pack_block,
    .decode = decode_strip,
    .multiply = multiply,
};

NM_STRIPS_PRODUCT(nm_product_i8x2_mmla, "i8x2 smmla", strips, ROWS, takes);
