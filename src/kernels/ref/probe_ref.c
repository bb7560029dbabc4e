/* probe_ref.c: fp32 and reading in plain C (probe.h), for processors without a faster tier. */
#include "kernels/probe_lists.h"
#include "kernels/tmpl/vec.h"

#define PROBE_MR 2
#define PROBE_NR 4

typedef float pvec;

VEC pvec p_load(const void *p)
{
    pvec v;
    memcpy(&v, p, sizeof v);
    return v;
}

VEC void p_store(void *p, pvec v)
{
    memcpy(p, &v, sizeof v);
}

VEC pvec p_mac(int kind, pvec acc, pvec x, pvec w)
{
    (void)kind;
    return acc + x * w;
}

#include "kernels/tmpl/probe.inc"

static uint64_t f32(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return probe_product(0, 1, x, w, w_bytes, passes, out);
}

/* Eight words an iteration: the sum of one hides behind the load of the next. */
static uint64_t read_all(const void *from, size_t bytes, size_t ahead_bytes)
{
    const char *p = from;
    uint64_t sum[8] = {0}, word;
    for (size_t at = 0; at < bytes; at += sizeof sum) {
        if (ahead_bytes)
            __builtin_prefetch(p + at + ahead_bytes, 0, 3);
        UNROLL for (size_t i = 0; i < 8; i++)
        {
            memcpy(&word, p + at + i * sizeof word, sizeof word);
            sum[i] += word;
        }
    }
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

static bool always(const nm_cpu *cpu)
{
    (void)cpu;
    return true;
}

const nm_probe_product nm_probe_products_ref[] = {
    {"f32", "scalar", "scalar", always, PROBE_W_STEP, f32},
    {0},
};
const nm_probe_reader nm_probe_reader_ref = {"scalar", always, read_all};
