/* probe_neonbf16.c: bfloat16 with BFMMLA (FEAT_BF16), which multiplies two rows by two, 16 bytes at a time (probe.h). */
#include "kernels/arm/probe_neon.inc"

VEC pvec p_mac(int kind, pvec acc, pvec x, pvec w)
{
    (void)kind;
    return vreinterpretq_u8_f32(vbfmmlaq_f32(vreinterpretq_f32_u8(acc), vreinterpretq_bf16_u8(x),
                                             vreinterpretq_bf16_u8(w)));
}

#include "kernels/tmpl/probe.inc"

static uint64_t bf16(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(0, 16, x, w, w_bytes, passes, out);
}

static bool has_bf16(const nm_cpu *cpu)
{
    return cpu->neon && cpu->bf16;
}

const nm_probe_product nm_probe_products_neonbf16[] = {
    {"bf16", "bf16", "neon", has_bf16, PROBE_W_STEP, bf16},
    {0},
};
