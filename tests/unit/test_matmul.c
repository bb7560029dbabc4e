/* test_matmul.c: products with quantised weights against fp64, every tier of this machine and every
 * precision; and the promises of product.h and matmul.h, bit for bit: a result does not depend on
 * the threads, on the room for packed rows or on the matrices that share a call, and in fp32 not
 * on the rows beside it either. */
#include "kernels/attention.h"
#include "kernels/matmul.h"
#include "support/tiers.h"
#include "tap.h"

enum { MOST_M = 37, MOST_ROWS = 96, MOST_COLS = 1056 };

static uint64_t seed = 20261;

static float uniform(void)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(int32_t)(seed >> 32) / 2147483648.0f;
}

static const nm_type types[] = {NM_TYPE_F32,  NM_TYPE_F16,    NM_TYPE_BF16,   NM_TYPE_Q4_0,
                                NM_TYPE_Q4_1, NM_TYPE_Q5_0,   NM_TYPE_Q5_1,   NM_TYPE_Q8_0,
                                NM_TYPE_Q2_K, NM_TYPE_Q3_K,   NM_TYPE_Q4_K,   NM_TYPE_Q5_K,
                                NM_TYPE_Q6_K, NM_TYPE_IQ4_NL, NM_TYPE_IQ4_XS, NM_TYPE_MXFP4};

/* Everything a product needs, for one tier, type, shape and number of threads. */
typedef struct bench {
    nm_kern kern;
    nm_compute compute;
    nm_mat w;
    nm_linear linear, again_linear;
    float *weights; /* decoded by the reference */
    float x[MOST_M][MOST_COLS];
    float y[MOST_M][MOST_ROWS], again[MOST_M][MOST_ROWS];
    float bias[MOST_ROWS];
    const float *xs[MOST_M];
    float *ys[MOST_M], *agains[MOST_M];
} bench;

static void bench_room(bench *b, size_t packed_bytes)
{
    const npumoe_allocator *a = nm_allocator_default();
    nm_free_aligned(a, b->compute.packed);
    b->compute.packed_bytes = packed_bytes;
    b->compute.packed = nm_alloc_aligned(a, packed_bytes);
    if (!b->compute.packed)
        bail("out of memory");
}

static void bench_threads(bench *b, int n)
{
    const npumoe_allocator *a = nm_allocator_default();
    nm_pool_free(&b->compute.pool);
    nm_free_aligned(a, b->compute.scratch);
    b->compute.scratch_bytes = nm_compute_scratch_bytes(MOST_COLS, 64);
    b->compute.scratch = nm_alloc_aligned(a, b->compute.scratch_bytes * (size_t)n);
    if (!b->compute.scratch || nm_pool_new(a, n, &b->compute.pool, NULL) != NPUMOE_OK)
        bail("out of memory");
}

/* Pure noise as blocks would hold infinite scales: encode noise instead. */
static void bench_weights(bench *b, nm_type type, uint64_t rows, uint64_t cols)
{
    const nm_type_traits *t = nm_type_get(type);
    uint64_t row_bytes;
    if (!nm_row_bytes(type, cols, &row_bytes))
        bail("%s of %d columns", t->name, (int)cols);
    free((void *)(uintptr_t)b->w.data);
    free(b->weights);
    char *data = malloc(rows * row_bytes);
    b->weights = malloc(rows * cols * sizeof(float));
    float *row = malloc(cols * sizeof(float));
    if (!data || !b->weights || !row)
        bail("out of memory");
    for (uint64_t r = 0; r < rows; r++) {
        for (uint64_t c = 0; c < cols; c++)
            row[c] = uniform();
        t->encode(row, data + r * row_bytes, cols, NULL);
        t->decode(data + r * row_bytes, b->weights + r * cols, cols);
    }
    free(row);
    b->w = (nm_mat){type, 0, rows, cols, row_bytes, data, NULL};
}

/* What a product may lose per unit of sum |x w|: the order of fp32 sums (class DOT), and the rounding
 * of operands: 2^-14 of a block's maximum for integers of 15 bits (a maximum may be 32 times the
 * mean of its block), 2^-9 + 2^-9 for bf16, 2^-16 or less for its sums of two. */
static double loss(const bench *b)
{
    double order = 2 * (double)(b->w.cols + 1) * 0x1p-24;
    switch (b->compute.precision) {
    case NM_PRECISION_FP32:
        return order;
    case NM_PRECISION_FULL:
    case NM_PRECISION_FINE:
        return order + 0x1p-9;
    case NM_PRECISION_AUTO:
    case NM_PRECISION_FAST:
        break;
    }
    return order + 0x1p-7;
}

static bool within_bound(const bench *b, const float *bias, size_t m)
{
    for (size_t i = 0; i < m; i++)
        for (uint64_t j = 0; j < b->w.rows; j++) {
            double sum = bias ? (double)bias[j] : 0, size = fabs(sum);
            for (uint64_t p = 0; p < b->w.cols; p++) {
                double v = (double)b->x[i][p] * (double)b->weights[j * b->w.cols + p];
                sum += v;
                size += fabs(v);
            }
            if (!(fabs((double)b->y[i][j] - sum) <= loss(b) * size))
                return false;
        }
    return true;
}

static bool same_bits(const bench *b, size_t m)
{
    for (size_t i = 0; i < m; i++)
        if (memcmp(b->y[i], b->again[i], b->w.rows * sizeof(float)) != 0)
            return false;
    return true;
}

static void test_shape(bench *b, nm_type type, uint64_t rows, uint64_t cols)
{
    static const char *const names[] = {"auto", "fast", "full", "fine", "fp32"};
    const char *name = nm_type_get(type)->name, *isa = b->kern.isa;
    int r = (int)rows, c = (int)cols;
    bench_weights(b, type, rows, cols);
    for (int p = NM_PRECISION_AUTO; p <= NM_PRECISION_FP32; p++) {
        b->compute.precision = (nm_precision)p;
        memset(b->y, 0xff, sizeof b->y);
        nm_matmul(&b->compute, &b->linear, 1, MOST_M, b->xs);
        ok(within_bound(b, b->bias, MOST_M), "%s %s %dx%d %s: within the bound", isa, name, r, c,
           names[p]);
        nm_matmul(&b->compute, &b->linear, 1, 2, b->xs);
        ok(within_bound(b, b->bias, 2), "%s %s %dx%d %s: two rows", isa, name, r, c, names[p]);
    }
    nm_matmul(&b->compute, &b->linear, 1, MOST_M, b->xs);
    for (size_t i = 0; i < MOST_M; i++) {
        const nm_linear one = {&b->w, b->bias, &b->agains[i]};
        nm_matmul(&b->compute, &one, 1, 1, &b->xs[i]);
    }
    ok(same_bits(b, MOST_M), "%s %s %dx%d: one row at a time, same bits", isa, name, r, c);
}

static void test_threads(bench *b)
{
    bench_weights(b, NM_TYPE_Q4_K, MOST_ROWS - 1, 1024);
    for (int p = NM_PRECISION_AUTO; p <= NM_PRECISION_FP32; p++) {
        b->compute.precision = (nm_precision)p;
        nm_matmul(&b->compute, &b->linear, 1, MOST_M, b->xs);
        for (int n = 1; n <= 5; n += 2) {
            bench_threads(b, n);
            memset(b->again, 0xff, sizeof b->again);
            nm_matmul(&b->compute, &b->again_linear, 1, MOST_M, b->xs);
            ok(same_bits(b, MOST_M), "%s: %d threads, precision %d, same bits", b->kern.isa, n, p);
        }
        bench_room(b, nm_compute_packed_min(1024));
        memset(b->again, 0xff, sizeof b->again);
        nm_matmul(&b->compute, &b->again_linear, 1, MOST_M, b->xs);
        ok(same_bits(b, MOST_M), "%s: little room, precision %d, same bits", b->kern.isa, p);
        bench_room(b, (size_t)1 << 20);
    }
    b->compute.precision = NM_PRECISION_AUTO;
}

/* Several matrices that read the same rows. */
static void test_lists(bench *b)
{
    bench_weights(b, NM_TYPE_Q8_0, MOST_ROWS, 608);
    nm_matmul(&b->compute, &b->linear, 1, MOST_M, b->xs);
    nm_mat top = b->w, rest = b->w;
    top.rows = 33;
    rest.rows -= 33;
    rest.data = (const char *)b->w.data + 33 * b->w.row_bytes;
    float *rests[MOST_M];
    for (size_t i = 0; i < MOST_M; i++)
        rests[i] = b->again[i] + 33;
    const nm_linear list[] = {{&rest, b->bias + 33, rests}, {&top, b->bias, b->agains}};
    memset(b->again, 0xff, sizeof b->again);
    nm_matmul(&b->compute, list, 2, MOST_M, b->xs);
    ok(same_bits(b, MOST_M), "%s: two halves in one call, same bits", b->kern.isa);
    float row[608];
    nm_mat_row(&b->kern, &b->w, 77, row);
    is_mem(row, b->weights + 77 * 608, sizeof row, "%s: row 77 of the matrix", b->kern.isa);
}

static void test_tier(const nm_kern *kern)
{
    bench *b = calloc(1, sizeof *b);
    if (!b)
        bail("no memory");
    b->kern = *kern;
    b->compute.kern = &b->kern;
    b->linear = (nm_linear){&b->w, b->bias, b->ys};
    b->again_linear = (nm_linear){&b->w, b->bias, b->agains};
    bench_threads(b, 2);
    bench_room(b, (size_t)1 << 20);
    for (size_t i = 0; i < MOST_M; i++) {
        for (size_t p = 0; p < MOST_COLS; p++)
            b->x[i][p] = uniform();
        b->xs[i] = b->x[i];
        b->ys[i] = b->y[i];
        b->agains[i] = b->again[i];
    }
    for (size_t j = 0; j < MOST_ROWS; j++)
        b->bias[j] = uniform();
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        uint32_t block = nm_type_get(types[t])->block_elems;
        test_shape(b, types[t], 39, block == 256 ? 768 : block == 32 ? 1056 : 1021);
    }
    test_shape(b, NM_TYPE_F32, 1, 1);
    test_shape(b, NM_TYPE_F16, 5, 33);
    test_threads(b);
    test_lists(b);
    nm_pool_free(&b->compute.pool);
    nm_free_aligned(nm_allocator_default(), b->compute.scratch);
    nm_free_aligned(nm_allocator_default(), b->compute.packed);
    free((void *)(uintptr_t)b->w.data);
    free(b->weights);
    free(b);
}

static void test_dispatch(const nm_cpu *cpu)
{
    nm_kern table;
    npumoe_error err;
    nm_cpu old = {0};
    is_int(nm_kern_init(&table, &old, "auto", &err), NPUMOE_OK, "a CPU without extensions");
    is_str(table.isa, "scalar", "gets the scalar tier");
    is_int(nm_kern_init(&table, cpu, "sse9", &err), NPUMOE_EINVAL, "an unknown name");
    ok(strstr(err.message, "sse9") && strstr(err.message, "scalar"), "message: %s", err.message);
    const char *foreign = strcmp(nm_kern_tier(1) ? nm_kern_tier(1) : "", "neon") ? "neon" : "avx2";
    is_int(nm_kern_init(&table, cpu, foreign, &err), NPUMOE_EUNSUPPORTED, "another machine's tier");
    if (nm_kern_tier(1))
        is_int(nm_kern_init(&table, &old, nm_kern_tier(1), &err), NPUMOE_EUNSUPPORTED,
               "a tier that the CPU lacks: %s", err.message);
    is_int(nm_kern_init(&table, cpu, NULL, &err), NPUMOE_OK, "this CPU gets %s", table.isa);
    const char *tier;
    for (size_t at = 0; (tier = tiers_next(&at));)
        is_int(nm_kern_init(&table, cpu, tier, NULL), NPUMOE_OK, "tier %s is usable", tier);
}

int main(void)
{
    nm_cpu cpu = nm_cpu_detect();
    test_dispatch(&cpu);
    nm_kern kern;
    for (size_t at = 0; tiers_next_kern(&at, &kern);)
        test_tier(&kern);
    return done_testing();
}
