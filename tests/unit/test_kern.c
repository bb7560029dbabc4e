/* test_kern.c: which kernels a CPU gets: the table of products (docs/kernels.md has the same one), and
 * the permission for AMX tiles, which only the tier amx asks for. CPUs are pretended where a table is
 * only looked at. */
#include "kernels/kern.h"
#include "quant/quant.h"
#include "tap.h"

#if defined(__linux__) && defined(__x86_64__)
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#define HAVE_TILES 1
#endif

/* ---- which product ------------------------------------------------------------------------------ */

#define LIST(...)                \
    {                            \
        __VA_ARGS__, NM_TYPE_END \
    }

/* Types whose products are the same: one of them, or several at once where `together`. */
typedef struct types {
    const char *name;
    bool together;
    uint32_t list[14];
} types;

enum { FLOATS, BF16, BLOCKS, MIX_BLOCKS, MIX_FLOATS, MIX_ALL, N_TYPES };

static const types all_types[N_TYPES] = {
    [FLOATS] = {"F32 F16", false, LIST(NM_TYPE_F32, NM_TYPE_F16)},
    [BF16] = {"BF16", false, LIST(NM_TYPE_BF16)},
    [BLOCKS] = {"blocks", false,
                LIST(NM_TYPE_Q8_0, NM_TYPE_Q4_0, NM_TYPE_Q4_K, NM_TYPE_Q6_K, NM_TYPE_Q4_1,
                     NM_TYPE_Q5_0, NM_TYPE_Q5_1, NM_TYPE_Q2_K, NM_TYPE_Q3_K, NM_TYPE_Q5_K,
                     NM_TYPE_IQ4_NL, NM_TYPE_IQ4_XS, NM_TYPE_MXFP4)},
    [MIX_BLOCKS] = {"Q4_K + Q5_K", true, LIST(NM_TYPE_Q4_K, NM_TYPE_Q5_K)},
    [MIX_FLOATS] = {"BF16 + F16", true, LIST(NM_TYPE_BF16, NM_TYPE_F16)},
    [MIX_ALL] = {"Q4_K + BF16", true, LIST(NM_TYPE_Q4_K, NM_TYPE_BF16)},
};

/* A kind of CPU, and for each row above: 1 to 3 rows of x; more with auto, fast, full. fp32 is F32. */
typedef struct machine {
    const char *name, *isa;
    nm_cpu cpu;
    uint8_t expected[N_TYPES][4];
} machine;

enum {
    F32 = NM_PRODUCT_F32,
    DQ = NM_PRODUCT_DOT_Q,
    DF = NM_PRODUCT_DOT_F,
    I16 = NM_PRODUCT_I16,
    I8 = NM_PRODUCT_I8,
    I8X2 = NM_PRODUCT_I8X2,
    B1 = NM_PRODUCT_BF16,
    B2 = NM_PRODUCT_BF16X2,
    B3 = NM_PRODUCT_BF16X3,
    I8X3 = NM_PRODUCT_I8X3
};

#define AVX2_CPU   .avx2 = true, .fma = true, .f16c = true
#define AVX512_CPU AVX2_CPU, .avx512f = true, .avx512bw = true, .avx512vl = true, .avx512dq = true
#define AMX_CPU                                                                                  \
    AVX512_CPU, .avx512_vnni = true, .avx512_vbmi = true, .avx512_bf16 = true, .amx_tile = true, \
                .amx_bf16 = true

/* Without a matrix unit: integers meet blocks, fp32 the rest. */
#define NO_TILES(fast)                                                        \
    {                                                                         \
        [FLOATS] = {DF, F32, F32, F32}, [BF16] = {DF, F32, F32, F32},         \
        [BLOCKS] = {DQ, I16, fast, I16}, [MIX_BLOCKS] = {DQ, I16, fast, I16}, \
        [MIX_FLOATS] = {DF, F32, F32, F32}, [MIX_ALL] = {F32, F32, F32, F32}, \
    }

static const machine machines[] = {
    {.name = "no extension", .isa = "scalar"},
#if defined(__x86_64__)
    {"AVX2", "avx2", {AVX2_CPU}, NO_TILES(I16)},
    {"AVX2, AVX-VNNI", "avx2", {AVX2_CPU, .avx_vnni = true}, NO_TILES(I8)},
    {"AVX-512", "avx512", {AVX512_CPU}, NO_TILES(I16)},
    {"AVX-512, VNNI", "avx512", {AVX512_CPU, .avx512_vnni = true}, NO_TILES(I8)},
    {"AVX-512, VNNI, BF16", /* planes of BF16 weights; of F16 and F32 only for `fast` */
     "avx512",
     {AVX512_CPU, .avx512_vnni = true, .avx512_bf16 = true},
     {[FLOATS] = {DF, F32, B1, F32},
      [BF16] = {DF, B2, B1, B2},
      [BLOCKS] = {DQ, I16, I8, I16},
      [MIX_BLOCKS] = {DQ, I16, I8, I16},
      [MIX_FLOATS] = {DF, F32, B1, F32},
      [MIX_ALL] = {F32, F32, F32, F32}}},
    {"AVX-512, VNNI, BF16, FP16", /* there bf16 is slower than fp32 */
     "avx512",
     {AVX512_CPU, .avx512_vnni = true, .avx512_bf16 = true, .avx512_fp16 = true},
     NO_TILES(I8)},
    {"AMX",
     "amx",
     {AMX_CPU, .amx_int8 = true},
     {[FLOATS] = {DF, B3, B1, B3},
      [BF16] = {DF, B2, B1, B2},
      [BLOCKS] = {DQ, I8X3, B1, I8X3},
      [MIX_BLOCKS] = {DQ, I8X3, B1, I8X3},
      [MIX_FLOATS] = {DF, B3, B1, B3},
      [MIX_ALL] = {F32, B3, B1, B3}}},
#elif defined(__aarch64__)
    {"NEON",
     "neon",
     {.neon = true},
     {[FLOATS] = {DF}, [BF16] = {DF}, [BLOCKS] = {DQ}, [MIX_BLOCKS] = {DQ}, [MIX_FLOATS] = {DF}}},
    {"NEON, DotProd",
     "neon",
     {.neon = true, .dotprod = true},
     {[FLOATS] = {DF},
      [BF16] = {DF},
      [BLOCKS] = {DQ, I8X2, I8X2, I8X2},
      [MIX_BLOCKS] = {DQ, I8X2, I8X2, I8X2},
      [MIX_FLOATS] = {DF}}},
    {"NEON, DotProd, I8MM, BF16",
     "neon",
     {.neon = true, .dotprod = true, .i8mm = true, .bf16 = true},
     {[FLOATS] = {DF, B3, B1, B3},
      [BF16] = {DF, B2, B1, B2},
      [BLOCKS] = {DQ, I8X2, I8X2, I8X2},
      [MIX_BLOCKS] = {DQ, I8X2, I8X2, I8X2},
      [MIX_FLOATS] = {DF, B3, B1, B3}}},
#endif
};

static const char *slot_name(const nm_kern *kern, const nm_product *p)
{
    static const char *const names[NM_PRODUCT_END] = {"F32",  "DOT_Q", "DOT_F",  "I16",    "I8",
                                                      "I8X2", "BF16",  "BF16X2", "BF16X3", "I8X3"};
    for (int i = 0; i < NM_PRODUCT_END; i++)
        if (p && kern->products[i] == p)
            return names[i];
    return "none of the table's";
}

static void test_types(const nm_kern *kern, const machine *m, size_t row, const uint32_t *list,
                       size_t n)
{
    static const struct {
        const char *name;
        nm_precision precision;
    } precisions[] = {{"auto", NM_PRECISION_AUTO},
                      {"fast", NM_PRECISION_FAST},
                      {"full", NM_PRECISION_FULL},
                      {"fine", NM_PRECISION_FINE},
                      {"fp32", NM_PRECISION_FP32}};
    static const size_t ms[] = {1, NM_PRODUCT_FEW - 1, NM_PRODUCT_FEW, 512};
    for (size_t i = 0; i < sizeof precisions / sizeof precisions[0]; i++)
        for (size_t j = 0; j < 4; j++) {
            const nm_precision p = precisions[i].precision;
            const uint8_t full = m->expected[row][3]; /* FINE has bf16 where that has bytes */
            const uint8_t want = p == NM_PRECISION_FP32   ? NM_PRODUCT_F32
                                 : ms[j] < NM_PRODUCT_FEW ? m->expected[row][0]
                                 : p == NM_PRECISION_FINE ? (full == I8X3 ? B3 : full)
                                                          : m->expected[row][1 + i];
            const nm_product *got = nm_product_pick(kern, p, ms[j], list, n);
            is_str(slot_name(kern, got), slot_name(kern, kern->products[want]),
                   "%s: %s%s, %s, %zu rows", m->name, nm_type_get(list[0])->name,
                   n > 1 ? " and another" : "", precisions[i].name, ms[j]);
        }
}

static size_t length(const uint32_t *list)
{
    size_t n = 0;
    while (list[n] != NM_TYPE_END)
        n++;
    return n;
}

static void test_picks(void)
{
    size_t n_types = 0;
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        const machine *m = &machines[i];
        nm_kern kern;
        if (nm_kern_init(&kern, &m->cpu, m->isa, NULL) != NPUMOE_OK) {
            skip(1, "%s: this system grants no tiles", m->name);
            continue;
        }
        n_types = 0;
        for (size_t row = 0; row < N_TYPES; row++) {
            const types *t = &all_types[row];
            const size_t n = length(t->list);
            if (t->together)
                test_types(&kern, m, row, t->list, n);
            for (size_t j = 0; j < n && !t->together; j++, n_types++)
                test_types(&kern, m, row, &t->list[j], 1);
        }
    }
    size_t supported = 0;
    for (uint32_t t = 0; t < NM_TYPE_END; t++)
        supported += nm_type_get(t) && nm_type_get(t)->supported;
    is_u64(n_types, supported, "the table names every type");
}

/* ---- tiles by permission ------------------------------------------------------------------------ */

#ifdef HAVE_TILES
enum { GET_XCOMP_PERM = 0x1022, REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 }; /* asm/prctl.h */

static bool tiles_granted(void)
{
    uint64_t bits = 0;
    return syscall(SYS_arch_prctl, GET_XCOMP_PERM, &bits) == 0 && (bits >> TILE_DATA & 1);
}

static bool ends_well(int (*run)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(run());
    int status = -1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

/* Every tier below amx, by name, and the reading of flags. */
static int lower_tiers(void)
{
    nm_cpu cpu = nm_cpu_detect();
    nm_kern kern;
    for (size_t i = 0; nm_kern_tier(i); i++)
        if (strcmp(nm_kern_tier(i), "amx") != 0 &&
            nm_kern_init(&kern, &cpu, nm_kern_tier(i), NULL) == NPUMOE_OK && tiles_granted())
            return 1;
    return tiles_granted();
}

static int best_tier(void)
{
    nm_cpu cpu = nm_cpu_detect();
    nm_kern kern;
    return nm_kern_init(&kern, &cpu, NULL, NULL) != NPUMOE_OK || strcmp(kern.isa, "amx") != 0 ||
           !tiles_granted();
}

/* A sandbox that answers EPERM to the request. */
static bool refuse_tiles(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, REQ_XCOMP_PERM, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int refused(void)
{
    nm_cpu cpu = nm_cpu_detect();
    nm_kern kern;
    npumoe_error err;
    if (!refuse_tiles())
        return 0; /* no seccomp: nothing to see */
    bool ok = nm_kern_init(&kern, &cpu, "auto", NULL) == NPUMOE_OK &&
              strcmp(kern.isa, "avx512") == 0 && !nm_kern_tier_usable("amx", &cpu) &&
              nm_kern_init(&kern, &cpu, "amx", &err) == NPUMOE_EUNSUPPORTED &&
              strstr(err.message, "amx") != NULL;
    return !ok;
}

static void test_permission(void)
{
    ok(ends_well(lower_tiers), "reading flags and tiers below amx ask for no tiles");
    ok(!tiles_granted(), "... nor has this process asked");
#ifdef EMULATE_AMX
    const char *none = "AMX is emulated, no system has a say";
#else
    const nm_cpu cpu = nm_cpu_detect();
    const char *none = cpu.amx_tile && cpu.amx_bf16 ? NULL : "this CPU has no AMX";
#endif
    if (none) {
        skip(2, "%s", none);
        return;
    }
    ok(ends_well(best_tier), "the tier amx asks for tiles and gets them");
    ok(ends_well(refused), "where they are refused, avx512 is the best, and amx not usable");
}
#else
static void test_permission(void)
{
    skip(1, "tiles are a matter of Linux on x86");
}
#endif

int main(void)
{
    test_permission(); /* first: a permission cannot be given back */
    test_picks();
    return done_testing();
}
