/* probe_neondot.c: 8-bit integers with SDOT (FEAT_DotProd), 16 bytes at a time (probe.h). */
#include "kernels/arm/probe_neon.inc"

VEC pvec p_mac(int kind, pvec acc, pvec x, pvec w)
{
    (void)kind;
    return vreinterpretq_u8_s32(
        vdotq_s32(vreinterpretq_s32_u8(acc), vreinterpretq_s8_u8(x), vreinterpretq_s8_u8(w)));
}

#include "kernels/tmpl/probe.inc"

static uint64_t i8(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(0, 16, x, w, w_bytes, passes, out);
}

static bool has_dotprod(const nm_cpu *cpu)
{
    return cpu->neon && cpu->dotprod;
}

const nm_probe_product nm_probe_products_neondot[] = {
    {"i8", "dotprod", "neon", has_dotprod, PROBE_W_STEP, i8},
    {0},
};
