/* probe_neon.c: what Armv8-A's vector units do, 16 bytes at a time (probe.h). Products beyond fp32 are
 * there when the compiler was told that the processor has them (as on a Mac, where they are the
 * baseline); the processor is asked again when the program runs. */
#include "kernels/probe_lists.h"
#include "kernels/tmpl/vec.h"

#include <arm_neon.h>

#define PROBE_MR 6
#define PROBE_NR 4

enum { F32, I8_DOT, I8_MM, BF16_MM };

typedef uint8x16_t pvec;

VEC pvec p_load(const void *p)
{
    return vld1q_u8(p);
}

VEC void p_store(void *p, pvec v)
{
    vst1q_u8(p, v);
}

VEC pvec p_sum(pvec a, pvec b)
{
    return vaddq_u8(a, b);
}

VEC pvec p_mac(int kind, pvec acc, pvec x, pvec w)
{
    switch (kind) {
#if defined(__ARM_FEATURE_DOTPROD)
    case I8_DOT:
        return vreinterpretq_u8_s32(
            vdotq_s32(vreinterpretq_s32_u8(acc), vreinterpretq_s8_u8(x), vreinterpretq_s8_u8(w)));
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
    case I8_MM:
        return vreinterpretq_u8_s32(
            vmmlaq_s32(vreinterpretq_s32_u8(acc), vreinterpretq_s8_u8(x), vreinterpretq_s8_u8(w)));
#endif
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
    case BF16_MM:
        return vreinterpretq_u8_f32(vbfmmlaq_f32(
            vreinterpretq_f32_u8(acc), vreinterpretq_bf16_u8(x), vreinterpretq_bf16_u8(w)));
#endif
    default:
        return vreinterpretq_u8_f32(
            vfmaq_f32(vreinterpretq_f32_u8(acc), vreinterpretq_f32_u8(x), vreinterpretq_f32_u8(w)));
    }
}

#include "kernels/tmpl/probe.inc"
#include "kernels/tmpl/probe_read.inc"

static uint64_t f32(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(F32, 4, x, w, w_bytes, passes, out);
}

static bool has_neon(const nm_cpu *cpu)
{
    return cpu->neon;
}

#if defined(__ARM_FEATURE_DOTPROD)
static uint64_t i8_dot(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(I8_DOT, 16, x, w, w_bytes, passes, out);
}

static bool has_dotprod(const nm_cpu *cpu)
{
    return cpu->dotprod;
}
#endif

#if defined(__ARM_FEATURE_MATMUL_INT8)
static uint64_t i8_mm(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(I8_MM, 32, x, w, w_bytes, passes, out);
}

static bool has_i8mm(const nm_cpu *cpu)
{
    return cpu->i8mm;
}
#endif

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
static uint64_t bf16_mm(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(BF16_MM, 16, x, w, w_bytes, passes, out);
}

static bool has_bf16(const nm_cpu *cpu)
{
    return cpu->bf16;
}
#endif

static uint64_t read_all(const void *p, size_t bytes, size_t ahead_bytes)
{
    return probe_read(p, bytes, ahead_bytes);
}

const nm_probe_product nm_probe_products_neon[] = {
    {"f32", "neon", "neon", has_neon, PROBE_W_STEP, f32},
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
    {"bf16", "bf16", "neon", has_bf16, PROBE_W_STEP, bf16_mm},
#endif
#if defined(__ARM_FEATURE_DOTPROD)
    {"i8", "dotprod", "neon", has_dotprod, PROBE_W_STEP, i8_dot},
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
    {"i8", "i8mm", "neon", has_i8mm, PROBE_W_STEP, i8_mm},
#endif
    {0},
};
const nm_probe_reader nm_probe_reader_neon = {"neon", has_neon, read_all};
