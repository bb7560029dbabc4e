/* probe_neon.c: fp32, and reading, 16 bytes at a time (probe.h). */
#include "kernels/arm/probe_neon.inc"

VEC pvec p_sum(pvec a, pvec b)
{
    return vaddq_u8(a, b);
}

VEC pvec p_mac(int kind, pvec acc, pvec x, pvec w)
{
    (void)kind;
    return vreinterpretq_u8_f32(
        vfmaq_f32(vreinterpretq_f32_u8(acc), vreinterpretq_f32_u8(x), vreinterpretq_f32_u8(w)));
}

#include "kernels/tmpl/probe.inc"
#include "kernels/tmpl/probe_read.inc"

static uint64_t f32(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(0, 4, x, w, w_bytes, passes, out);
}

static uint64_t read_all(const void *p, size_t bytes, size_t ahead_bytes)
{
    return probe_read(p, bytes, ahead_bytes);
}

static bool has_neon(const nm_cpu *cpu)
{
    return cpu->neon;
}

const nm_probe_product nm_probe_products_neon[] = {
    {"f32", "neon", "neon", has_neon, PROBE_W_STEP, f32},
    {0},
};
const nm_probe_reader nm_probe_reader_neon = {"neon", has_neon, read_all};
