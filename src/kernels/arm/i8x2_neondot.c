/* i8x2_neondot.c: the integer product with SDOT (FEAT_DotProd): Apple M1, Cortex-A76 and later.
 *
 * SDOT by lane adds to each of four sums the product of four codes of its own output and four
 * inputs of one row: outputs lie along lanes, and nothing has to be added up across them.
 *
 *   x, a group of 4 rows, 32 inputs:   q[plane][half][row][16 inputs]; s, then s sum v of the first
 *                                      half, of the second, of both, for 4 rows each
 *   W, a strip, 32 inputs:             codes[quad of inputs 0..7][quad of outputs 0..1][output][4]
 *
 * The register block is 4 rows x 8 outputs: 8 sums of integers, 8 of fp32, 4 vectors of x, one of
 * W, the rest for scales: within 32. hi and lo share their sums: the lo plane is added to
 * 256 times the sum over hi, which a shift makes, so codes are read twice but no more registers are
 * needed.
 *
 * Instructions for 4 results and 32 inputs: 16 SDOT, and MOVI, SHL, SCVTF, FMUL, FMLA (one more FMLA
 * with minimums; with scales for 16 inputs the five come twice); in fp32: 32 FMLA. So at equal
 * rates of these 1.5 times fp32, 2 at the most; loads are 3 for 8 SDOT. */
#include "kernels/tmpl/vec.h"

#include "kernels/arm/strips.h"
#include "kernels/products.h"

#include <float.h>

#include "kernels/arm/vec_neon.inc"

#define NM_DECODE_CODES
#include "kernels/tmpl/decode.inc"

#include "kernels/arm/i8x2_neon.inc"

struct x_block {
    int8_t q[2][2][ROWS][HALF];
    float scale[ROWS], sum[3][ROWS];
};

static void pack_block(const float *const *rows, void *to)
{
    x_block *b = to;
    for (int r = 0; r < ROWS; r++) {
        planes p = to_planes(rows[r]);
        for (int h = 0; h < 2; h++) {
            vst1q_s8(b->q[0][h][r], p.hi[h]);
            vst1q_s8(b->q[1][h][r], p.lo[h]);
        }
        b->scale[r] = p.scale;
        for (int i = 0; i < 3; i++)
            b->sum[i][r] = p.sum[i];
    }
}

VEC void weave(const elem (*cells)[CELLS], int8_t *to)
{
    for (int quad = 0; quad < 2; quad++, cells += 4) {
        int32x4_t a[4];
        for (int r = 0; r < 4; r++)
            a[r] = vreinterpretq_s32_s8(vld1q_s8(cells[r][0].q));
        int32x4x2_t even = vzipq_s32(a[0], a[2]), odd = vzipq_s32(a[1], a[3]);
        for (int i = 0; i < 2; i++) {
            int32x4x2_t four = vzipq_s32(even.val[i], odd.val[i]);
            vst1q_s8(to + 64 * i + 16 * quad, vreinterpretq_s8_s32(four.val[0]));
            vst1q_s8(to + 64 * i + 32 + 16 * quad, vreinterpretq_s8_s32(four.val[1]));
        }
    }
}

/* The lane must be a constant even where nothing is unrolled. */
VEC int32x4_t dot_lane(int32x4_t sum, int8x16_t w, int8x16_t x, int lane)
{
    switch (lane) {
    case 0:
        return vdotq_laneq_s32(sum, w, x, 0);
    case 1:
        return vdotq_laneq_s32(sum, w, x, 1);
    case 2:
        return vdotq_laneq_s32(sum, w, x, 2);
    default:
        return vdotq_laneq_s32(sum, w, x, 3);
    }
}

/* acc = 256 sum q hi + sum q lo over halves h0 .. h1 - 1. */
VEC void dot_halves(int rows, int h0, int h1, const x_block *x, const int8_t *w,
                    int32x4_t acc[ROWS][2])
{
    UNROLL for (int plane = 0; plane < 2; plane++)
    {
        UNROLL for (int r = 0; r < rows; r++)
        {
            acc[r][0] = plane ? vshlq_n_s32(acc[r][0], 8) : vdupq_n_s32(0);
            acc[r][1] = plane ? vshlq_n_s32(acc[r][1], 8) : vdupq_n_s32(0);
        }
        UNROLL for (int h = h0; h < h1; h++)
        {
            int8x16_t xs[ROWS];
            load_no_earlier();
            UNROLL for (int r = 0; r < rows; r++)
            {
                xs[r] = vld1q_s8(x->q[plane][h][r]);
            }
            UNROLL for (int i = 0; i < 8; i++)
            {
                int8x16_t ws = vld1q_s8(w + CODE_BYTES / 2 * h + 16 * i);
                UNROLL for (int r = 0; r < rows; r++)
                {
                    acc[r][i % 2] = dot_lane(acc[r][i % 2], ws, xs[r], i / 2);
                }
            }
        }
    }
}

/* d of 8 outputs; m: their minimums, or NULL. */
VEC void add_scaled(int rows, int32x4_t acc[ROWS][2], const float *scale, const float *d,
                    const float *sum_x, const float *m, float32x4_t sum[ROWS][2])
{
    UNROLL for (int quad = 0; quad < 2; quad++)
    {
        float32x4_t ds = vld1q_f32(d + 4 * quad);
        UNROLL for (int r = 0; r < rows; r++)
        {
            float32x4_t whole = vcvtq_f32_s32(acc[r][quad]);
            sum[r][quad] = vfmaq_f32(sum[r][quad], whole, vmulq_n_f32(ds, scale[r]));
            if (m)
                sum[r][quad] = vfmaq_n_f32(sum[r][quad], vld1q_f32(m + 4 * quad), sum_x[r]);
        }
    }
}

VEC void block(int rows, bool halves, bool mins, const x_block *x, const int8_t *w,
               float32x4_t sum[ROWS][2])
{
    const float *d = (const float *)(const void *)(w + CODE_BYTES);
    const float *m = d + (halves ? 2 : 1) * NM_STRIP;
    int32x4_t acc[ROWS][2];
    if (!halves) {
        dot_halves(rows, 0, 2, x, w, acc);
        add_scaled(rows, acc, x->scale, d, x->sum[2], mins ? m : NULL, sum);
        return;
    }
    UNROLL for (int h = 0; h < 2; h++)
    {
        dot_halves(rows, h, h + 1, x, w, acc);
        add_scaled(rows, acc, x->scale, d + NM_STRIP * h, x->sum[h], mins ? m + NM_STRIP * h : NULL,
                   sum);
    }
}

VEC void strip(int rows, bool halves, bool mins, size_t blocks, const x_block *x, const int8_t *w,
               float y[][NM_STRIP_COLS])
{
    float32x4_t sum[ROWS][2];
    UNROLL for (int r = 0; r < rows; r++)
    {
        sum[r][0] = sum[r][1] = vdupq_n_f32(0);
    }
    for (; blocks > 0; blocks--, x++, w += w_block_bytes(halves, mins))
        block(rows, halves, mins, x, w, sum);
    UNROLL for (int r = 0; r < rows; r++)
    {
        vst1q_f32(y[r], sum[r][0]);
        vst1q_f32(y[r] + 4, sum[r][1]);
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

NM_STRIPS_PRODUCT(nm_product_i8x2_dot, "i8x2 sdot", strips, ROWS, takes);
