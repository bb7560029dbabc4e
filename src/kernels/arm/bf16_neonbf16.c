/* bf16_neonbf16.c: the products on bf16 with BFMMLA (FEAT_BF16): Apple M2, Cortex-X2, Neoverse V1,
 * N2 and later. For weights without blocks: those with codes go the integer way (i8x2), which is as
 * fast in this instruction set as one plane of bf16, and exact in the weights.
 *
 * A number is one or two planes of bf16: hi = bf16(v), lo = bf16(v - hi), together 16 significant bits.
 *
 *   bf16     hi hi                            rounds both sides to 8 bits
 *   bf16x2   hi hi + lo hi                    x in two planes, for weights that are bf16
 *   bf16x3   hi hi + lo hi + hi lo            both in two; what is dropped is 2^-16 of the product
 *
 * BFMMLA multiplies 2 rows x 4 inputs with 2 outputs x 4 inputs and adds the 2 x 2 results to four
 * sums. Both operands have one layout (pairs of rows, pairs of outputs):
 *
 *   [four inputs 0..7][pair 0..3][plane][row][4]      of 8 rows or outputs and 32 inputs
 *
 * The register block is 8 x 8: 16 sums, 4 vectors of x for each plane, one of W for each: 26 of 32
 * with all planes. Instructions for 4 results and 4 inputs: 1, 2, 3 BFMMLA; in fp32: 4 FMLA. So at
 * equal rates 4, 2, 1.3 times fp32.
 *
 * Rounding (Arm ARM DDI 0487, shared/functions/float/bfloat: BFMatMulAddS, BFDotAdd, FPAdd_BF16;
 * FPCR.EBF is 0 in every process that does not set it, so FEAT_EBF16 changes nothing): products of
 * two bf16 are exact in fp32; two are added, their sum is added to the result, then the next two;
 * every addition rounds to odd, an error below one unit in the last place where rounding to nearest
 * has half of one; denormal numbers, inputs too, count as zeros. k inputs are k / 2 additions to the
 * result and k / 2 beside it: with twice the error each that is within the bound of the class DOT
 * (2 k eps sum |x w|, eps = 2^-24) for each pair of planes, plus 2^-126 a product.
 *
 * The planes of an infinity are itself and 0. */
#include "kernels/tmpl/vec.h"

#include "kernels/arm/strips.h"
#include "kernels/products.h"

#include <arm_neon.h>

enum {
    PAIRS = NM_STRIP / 2,
    FOURS = NM_STRIP_INPUTS / 4,
    PLANE_BYTES = NM_STRIP * NM_STRIP_INPUTS * 2,
    CHUNK = 256 /* weights of a row decoded at a time */
};

/* ---- packing -------------------------------------------------------------------------------- */

/* Finite numbers above the largest of bf16, to that: they shall not become infinite. */
VEC float32x4_t in_range(float32x4_t v)
{
    const float32x4_t max = vdupq_n_f32(0x1.fep127f);
    const uint32x4_t infinite = vceqq_f32(vabsq_f32(v), vdupq_n_f32(INFINITY));
    return vbslq_f32(infinite, v, vmaxq_f32(vnegq_f32(max), vminq_f32(max, v)));
}

/* What hi leaves of 4 numbers; an infinity leaves nothing. */
VEC float32x4_t rest(float32x4_t v, float32x4_t hi)
{
    const uint32x4_t finite = vcltq_f32(vabsq_f32(hi), vdupq_n_f32(INFINITY));
    return vreinterpretq_f32_u32(vandq_u32(finite, vreinterpretq_u32_f32(vsubq_f32(v, hi))));
}

VEC void put_pair(int planes, const float *a, const float *b, bfloat16_t *to)
{
    const float32x4_t va = vld1q_f32(a), vb = vld1q_f32(b);
    const bfloat16x8_t hi = vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(in_range(va)), in_range(vb));
    vst1q_bf16(to, hi);
    if (planes == 2) {
        float32x4_t la = rest(va, vcvtq_low_f32_bf16(hi)), lb = rest(vb, vcvtq_high_f32_bf16(hi));
        vst1q_bf16(to + 8, vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(la), lb));
    }
}

VEC void put_block(int planes, const float *const *rows, void *block)
{
    bfloat16_t *to = block;
    for (int i = 0; i < FOURS; i++)
        for (int p = 0; p < PAIRS; p++, to += 8 * planes)
            put_pair(planes, rows[2 * p] + 4 * i, rows[2 * p + 1] + 4 * i, to);
}

/* One block per 32 inputs, the last filled with zeros. */
VEC void decode_strip(int planes, const nm_kern *kern, const nm_mat *w, uint64_t j, size_t n,
                      char *to)
{
    float buffer[NM_STRIP][CHUNK];
    const size_t bytes = nm_type_get(w->type)->block_bytes;
    const char *from = (const char *)w->data + j * w->row_bytes;
    memset(buffer, 0, sizeof buffer);
    for (uint64_t p = 0; p < w->cols; p += CHUNK, from += CHUNK * bytes) {
        const size_t inputs = w->cols - p < CHUNK ? (size_t)(w->cols - p) : CHUNK;
        for (size_t r = 0; r < n; r++) {
            kern->decode[w->type](from + r * w->row_bytes, buffer[r], inputs);
            memset(buffer[r] + inputs, 0, (CHUNK - inputs) * sizeof(float));
        }
        for (size_t c = 0; c < inputs; c += NM_STRIP_INPUTS, to += planes * PLANE_BYTES) {
            const float *rows[NM_STRIP];
            for (size_t r = 0; r < NM_STRIP; r++)
                rows[r] = buffer[r] + c;
            put_block(planes, rows, to);
        }
    }
}

/* ---- the kernel ----------------------------------------------------------------------------- */

typedef float32x4_t sums[PAIRS][PAIRS];

/* A quad of inputs: sum += x w in planes that count. */
VEC void step(int pairs, int x_planes, int w_planes, const bfloat16_t *x, const bfloat16_t *w,
              sums sum)
{
    bfloat16x8_t xs[2][PAIRS];
    UNROLL for (int p = 0; p < pairs; p++)
    {
        xs[0][p] = vld1q_bf16(x + 8 * x_planes * p);
        if (x_planes == 2)
            xs[1][p] = vld1q_bf16(x + 8 * (x_planes * p + 1));
    }
    UNROLL for (int o = 0; o < PAIRS; o++)
    {
        const bfloat16x8_t hi = vld1q_bf16(w + 8 * w_planes * o);
        UNROLL for (int p = 0; p < pairs; p++)
        {
            sum[p][o] = vbfmmlaq_f32(sum[p][o], xs[0][p], hi);
        }
        UNROLL for (int p = 0; x_planes == 2 && p < pairs; p++)
        {
            sum[p][o] = vbfmmlaq_f32(sum[p][o], xs[1][p], hi);
        }
        if (w_planes == 2) {
            const bfloat16x8_t lo = vld1q_bf16(w + 8 * (w_planes * o + 1));
            UNROLL for (int p = 0; p < pairs; p++)
            {
                sum[p][o] = vbfmmlaq_f32(sum[p][o], xs[0][p], lo);
            }
        }
    }
}

VEC void strip(int pairs, int x_planes, int w_planes, size_t blocks, const bfloat16_t *x,
               const bfloat16_t *w, float y[][NM_STRIP_COLS])
{
    sums sum;
    UNROLL for (int o = 0; o < PAIRS; o++) UNROLL for (int p = 0; p < pairs; p++)
    {
        sum[p][o] = vdupq_n_f32(0);
    }
    for (size_t i = 0; i < blocks * FOURS; i++) {
        step(pairs, x_planes, w_planes, x, w, sum);
        x += 8 * PAIRS * x_planes;
        w += 8 * PAIRS * w_planes;
    }
    UNROLL for (int o = 0; o < PAIRS; o++) UNROLL for (int p = 0; p < pairs; p++)
    {
        vst1_f32(y[2 * p] + 2 * o, vget_low_f32(sum[p][o]));
        vst1_f32(y[2 * p + 1] + 2 * o, vget_high_f32(sum[p][o]));
    }
}

VEC void any_rows(size_t rows, int x_planes, int w_planes, size_t blocks, const void *xp,
                  const void *w, float y[][NM_STRIP_COLS])
{
    if (rows > 4)
        strip(4, x_planes, w_planes, blocks, xp, w, y);
    else if (rows > 2)
        strip(2, x_planes, w_planes, blocks, xp, w, y);
    else
        strip(1, x_planes, w_planes, blocks, xp, w, y);
}

/* ---- the products --------------------------------------------------------------------------- */

static bool takes(uint32_t type)
{
    return type == NM_TYPE_BF16 || type == NM_TYPE_F16 || type == NM_TYPE_F32;
}

/* The operands of one product: name, planes of x, planes of W. */
#define PLANES(name, of_x, of_w)                                                           \
    static size_t name##_block_bytes(uint32_t type)                                        \
    {                                                                                      \
        (void)type;                                                                        \
        return (of_w) * (size_t)PLANE_BYTES;                                               \
    }                                                                                      \
    static void name##_pack(const float *const *rows, void *to)                            \
    {                                                                                      \
        put_block(of_x, rows, to);                                                         \
    }                                                                                      \
    static void name##_decode(const nm_kern *kern, const nm_mat *w, uint64_t j, size_t n,  \
                              void *to)                                                    \
    {                                                                                      \
        decode_strip(of_w, kern, w, j, n, to);                                             \
    }                                                                                      \
    static void name##_multiply(uint32_t type, size_t rows, size_t blocks, const void *xp, \
                                const void *w, float y[][NM_STRIP_COLS])                   \
    {                                                                                      \
        (void)type;                                                                        \
        any_rows(rows, of_x, of_w, blocks, xp, w, y);                                      \
    }                                                                                      \
    static const nm_strips name = {.group = NM_STRIP_GROUP,                                \
                                   .x_block_bytes = (of_x) * (size_t)PLANE_BYTES,          \
                                   .w_block_bytes = (of_w) * (size_t)PLANE_BYTES,          \
                                   .block_bytes = name##_block_bytes,                      \
                                   .pack = name##_pack,                                    \
                                   .decode = name##_decode,                                \
                                   .multiply = name##_multiply}

PLANES(one, 1, 1);
PLANES(two, 2, 1);
PLANES(three, 2, 2);

NM_STRIPS_PRODUCT(nm_product_bf16_neon, "bf16 bfmmla", one, NM_STRIP_GROUP, takes);
NM_STRIPS_PRODUCT(nm_product_bf16x2_neon, "bf16x2 bfmmla", two, NM_STRIP_GROUP, takes);
NM_STRIPS_PRODUCT(nm_product_bf16x3_neon, "bf16x3 bfmmla", three, NM_STRIP_GROUP, takes);
