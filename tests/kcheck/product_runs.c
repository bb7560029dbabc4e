/* product_runs.c: every product of this machine, found by taking features away from its CPU. */
#include "products.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Taken away one after the other, so that every step is a CPU that exists or could. */
static void weaken(nm_cpu *cpu, int step)
{
    switch (step) {
    case 1:
        cpu->amx_bf16 = cpu->amx_int8 = cpu->amx_tile = false;
        cpu->avx512_fp16 = false; /* with it, AVX512-BF16 is slow and not used */
        cpu->bf16 = false;
        break;
    case 2:
        cpu->avx512_bf16 = cpu->avx512_vbmi = false;
        cpu->i8mm = false;
        break;
    case 3:
        cpu->avx512_vnni = false;
        cpu->dotprod = false;
        break;
    case 4:
        cpu->avx_vnni = false;
        cpu->fp16 = false;
        break;
    default:
        break;
    }
}

enum { WEAKEST = 4 };

static const char *const slot_names[NM_PRODUCT_END] = {
    [NM_PRODUCT_F32] = "f32",   [NM_PRODUCT_DOT_Q] = "dot_q",   [NM_PRODUCT_DOT_F] = "dot_f",
    [NM_PRODUCT_I16] = "i16",   [NM_PRODUCT_I8] = "i8",         [NM_PRODUCT_I8X2] = "i8x2",
    [NM_PRODUCT_BF16] = "bf16", [NM_PRODUCT_BF16X2] = "bf16x2", [NM_PRODUCT_BF16X3] = "bf16x3",
    [NM_PRODUCT_I8X3] = "i8x3",
};

/* The rest of a product's work is done by the kernels of the tier, so that counts too. */
static bool is_new(const product_run *runs, size_t n, const nm_kern *kern, nm_product_slot slot)
{
    for (size_t i = 0; i < n; i++)
        if (runs[i].slot == slot && runs[i].product == kern->products[slot] &&
            strcmp(runs[i].kern.isa, kern->isa) == 0)
            return false;
    return true;
}

static size_t add_runs(const nm_cpu *cpu, const nm_kern *kern, product_run runs[MAX_PRODUCT_RUNS],
                       size_t n)
{
    for (int s = 0; s < NM_PRODUCT_END && n < MAX_PRODUCT_RUNS; s++) {
        const nm_product_slot slot = (nm_product_slot)s;
        if (!kern->products[s] || !is_new(runs, n, kern, slot))
            continue;
        product_run *run = &runs[n++];
        memset(run, 0, sizeof *run);
        run->cpu = *cpu;
        run->kern = *kern;
        run->slot = slot;
        run->product = kern->products[s];
        /* "i16 avxvnni" says its slot itself */
        const char *name = run->product->name, *slot_name = slot_names[s];
        const bool says = strncmp(name, slot_name, strlen(slot_name)) == 0;
        snprintf(run->name, sizeof run->name, "%s %s%s%s", kern->isa, says ? "" : slot_name,
                 says ? "" : " ", name);
    }
    return n;
}

size_t product_runs(const nm_cpu *cpu, const char *tier, product_run runs[MAX_PRODUCT_RUNS])
{
    size_t n = 0;
    for (size_t i = 0; nm_kern_tier(i); i++) {
        const char *name = nm_kern_tier(i);
        nm_cpu have = *cpu;
        for (int step = 0; step <= WEAKEST; step++) {
            weaken(&have, step);
            nm_kern kern;
            if ((tier && strcmp(tier, name) != 0) || !nm_kern_tier_usable(name, &have) ||
                nm_kern_init(&kern, &have, name, NULL) != NPUMOE_OK)
                continue;
            n = add_runs(&have, &kern, runs, n);
        }
    }
    return n;
}
