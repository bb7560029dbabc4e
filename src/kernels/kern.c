/* kern.c: from CPU flags to a table of kernels. Which tier has which product says kern.def; here is what has_* there mean. */
#include "kernels/kern.h"

#include "kernels/products.h"
#include "kernels/tiers.h"

#include <string.h>

typedef struct tier {
    const char *name;
    bool (*usable)(const nm_cpu *cpu);
    void (*fill)(nm_kern *table, const nm_cpu *cpu);
} tier;

static bool always(const nm_cpu *cpu)
{
    (void)cpu;
    return true;
}

static void fill_ref(nm_kern *table, const nm_cpu *cpu)
{
    (void)cpu;
    nm_kern_fill_gemm_ref(table);
    nm_kern_fill_rows_ref(table);
    nm_kern_fill_cache_ref(table);
}

#if defined(__x86_64__)
static bool has_avx2(const nm_cpu *cpu)
{
    return cpu->avx2 && cpu->fma && cpu->f16c;
}

static void fill_avx2(nm_kern *table, const nm_cpu *cpu)
{
    nm_kern_fill_gemm_avx2(table);
    nm_kern_fill_rows_avx2(table);
    nm_kern_fill_cache_avx2(table);
    nm_kern_fill_decode_avx2(table);
    nm_kern_fill_attend_avx2(table);
    if (cpu->avx_vnni)
        table->with = "vnni";
}

static bool has_avx_vnni(const nm_cpu *cpu)
{
    return cpu->avx_vnni;
}

static bool has_avx512(const nm_cpu *cpu)
{
    return has_avx2(cpu) && cpu->avx512f && cpu->avx512bw && cpu->avx512vl && cpu->avx512dq;
}

/* Zen 4 and 5 multiply two vectors of pairs of bf16 as fast as two of fp32, hence twice the products. Golden Cove
 * (Sapphire and Emerald Rapids), which has tiles for that, does half the products of fp32 (libxsmm/tpp-mlir, pull
 * request 1025): so where a system refuses the tiles, fp32 is better. AVX512-FP16 tells it from the others. */
static bool has_fast_bf16(const nm_cpu *cpu)
{
    return cpu->avx512_bf16 && !cpu->avx512_fp16;
}

static bool has_avx512_vnni(const nm_cpu *cpu)
{
    return cpu->avx512_vnni;
}

static void fill_avx512(nm_kern *table, const nm_cpu *cpu)
{
    static const char *const with[] = {"", "vnni", "bf16", "vnni, bf16"};
    nm_kern_fill_gemm_avx512(table);
    nm_kern_fill_rows_avx512(table);
    nm_kern_fill_cache_avx512(table);
    nm_kern_fill_decode_avx512(table);
    nm_kern_fill_attend_avx512(table);
    table->with = with[cpu->avx512_vnni + 2 * has_fast_bf16(cpu)];
}

static bool has_amx(const nm_cpu *cpu)
{
    return has_avx512(cpu) && cpu->avx512_bf16 && cpu->avx512_vbmi && cpu->amx_tile &&
           cpu->amx_bf16 && nm_cpu_permit_tiles();
}

static bool has_amx_int8(const nm_cpu *cpu)
{
    return cpu->amx_int8;
}

static void fill_amx(nm_kern *table, const nm_cpu *cpu)
{
    nm_kern_fill_attend_amx(table);
    table->with = cpu->avx512_vnni ? "vnni" : ""; /* tiles have taken the slots of bf16 */
}
#elif defined(__aarch64__)
static bool has_neon(const nm_cpu *cpu)
{
    return cpu->neon;
}

static bool has_dotprod(const nm_cpu *cpu)
{
    return cpu->dotprod;
}

static bool has_i8mm(const nm_cpu *cpu)
{
    return cpu->i8mm;
}

static bool has_bf16(const nm_cpu *cpu)
{
    return cpu->bf16;
}

static void fill_neon(nm_kern *table, const nm_cpu *cpu)
{
    static const char *const with[] = {
        "",     "dotprod",       "i8mm",       "dotprod, i8mm",
        "bf16", "dotprod, bf16", "i8mm, bf16", "dotprod, i8mm, bf16",
    };
    nm_kern_fill_gemm_neon(table);
    nm_kern_fill_rows_neon(table);
    nm_kern_fill_cache_neon(table);
    nm_kern_fill_decode_neon(table);
    nm_kern_fill_attend_neon(table);
    table->with = with[cpu->dotprod + 2 * cpu->i8mm + 4 * cpu->bf16];
}
#endif

static const struct {
    const char *tier;
    bool (*has)(const nm_cpu *cpu);
    nm_product_slot slot;
    const nm_product *product;
} products[] = {
#define P(arch, name, slot, tier, has, what) \
    NM_ON_##arch({#tier, has, NM_PRODUCT_##slot, &nm_product_##name}, )
#include "kernels/kern.def"
};

static void fill_products(nm_kern *table, const nm_cpu *cpu)
{
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        if (strcmp(products[i].tier, table->isa) == 0 && products[i].has(cpu))
            table->products[products[i].slot] = products[i].product;
}

/* Ascending: a CPU that can run one can run those before it. */
static const tier tiers[] = {
    {"scalar", always, fill_ref},
#if defined(__x86_64__)
    {"avx2", has_avx2, fill_avx2},
    {"avx512", has_avx512, fill_avx512},
    {"amx", has_amx, fill_amx},
#elif defined(__aarch64__)
    {"neon", has_neon, fill_neon},
#endif
};

enum { N_TIERS = sizeof tiers / sizeof tiers[0] };

/* Every name of any build, to tell a misspelling from a tier of another machine. */
static const char all_names[] = "scalar avx2 avx512 amx neon";

const char *nm_kern_tier(size_t index)
{
    return index < N_TIERS ? tiers[index].name : NULL;
}

static size_t find_tier(const char *name)
{
    size_t i = 0;
    while (i < N_TIERS && strcmp(tiers[i].name, name) != 0)
        i++;
    return i;
}

bool nm_kern_tier_usable(const char *name, const nm_cpu *cpu)
{
    size_t i = find_tier(name);
    return i < N_TIERS && tiers[i].usable(cpu);
}

static bool is_known_name(const char *name)
{
    size_t n = strlen(name);
    for (const char *p = all_names; *p;) {
        size_t len = strcspn(p, " ");
        if (len == n && memcmp(p, name, n) == 0)
            return true;
        p += len + (p[len] == ' ');
    }
    return false;
}

/* "scalar avx2 ...": those that this CPU can run. */
static void usable_names(const nm_cpu *cpu, char *text, size_t text_bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < N_TIERS; i++) {
        size_t n = strlen(tiers[i].name);
        if (!tiers[i].usable(cpu) || used + n + 2 > text_bytes)
            continue;
        if (used)
            text[used++] = ' ';
        memcpy(text + used, tiers[i].name, n + 1);
        used += n;
    }
}

static npumoe_status no_such_tier(const char *isa, const nm_cpu *cpu, npumoe_error *err)
{
    char usable[128];
    usable_names(cpu, usable, sizeof usable);
    if (!is_known_name(isa))
        return nm_err_set(err, NPUMOE_EINVAL,
                          "instruction set: found \"%s\", expected auto or one of: %s "
                          "(usable here: %s)",
                          isa, all_names, usable);
    return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                      "instruction set %s: this %s lacks it; usable here: %s", isa,
                      find_tier(isa) == N_TIERS ? "build" : "machine", usable);
}

npumoe_status nm_kern_init(nm_kern *table, const nm_cpu *cpu, const char *isa, npumoe_error *err)
{
    size_t last = N_TIERS - 1;
    if (isa && strcmp(isa, "auto") != 0) {
        last = find_tier(isa);
        if (last == N_TIERS || !tiers[last].usable(cpu))
            return no_such_tier(isa, cpu, err);
    }
    memset(table, 0, sizeof *table);
    table->with = "";
    for (size_t i = 0; i <= last && tiers[i].usable(cpu); i++) {
        tiers[i].fill(table, cpu);
        table->isa = tiers[i].name;
        fill_products(table, cpu);
    }
    return NPUMOE_OK;
}
