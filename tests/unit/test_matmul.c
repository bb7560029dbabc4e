/* test_matmul.c: products with quantised weights against fp64, every tier of this machine; and the
 * promise of kern.def, bit for bit: a row's result does not depend on the rows beside it, on the
 * tile or on the threads. */
#include "kernels/attention.h"
#include "kernels/matmul.h"
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
    float *weights; /* decoded by the reference */
    float x[MOST_M][MOST_COLS];
    float y[MOST_M][MOST_ROWS], again[MOST_M][MOST_ROWS];
    float bias[MOST_ROWS];
    const float *xs[MOST_M];
    float *ys[MOST_M], *agains[MOST_M];
} bench;

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
    b->w = (nm_mat){type, 0, rows, cols, row_bytes, data};
}

/* |error| <= 2 k eps sum |x w|, the bound of class DOT. */
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
            double bound = 2 * (double)(b->w.cols + 1) * 0x1p-24 * size;
            if (!(fabs((double)b->y[i][j] - sum) <= bound))
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
    const char *name = nm_type_get(type)->name, *isa = b->kern.isa;
    int r = (int)rows, c = (int)cols;
    bench_weights(b, type, rows, cols);
    nm_matmul(&b->compute, &b->w, b->bias, MOST_M, b->xs, b->ys);
    ok(within_bound(b, b->bias, MOST_M), "%s %s %dx%d: within the bound", isa, name, r, c);
    for (size_t i = 0; i < MOST_M; i++)
        nm_matmul(&b->compute, &b->w, b->bias, 1, &b->xs[i], &b->agains[i]);
    ok(same_bits(b, MOST_M), "%s %s %dx%d: one row at a time, same bits", isa, name, r, c);
}

static void test_threads(bench *b)
{
    bench_weights(b, NM_TYPE_Q4_K, MOST_ROWS - 1, 1024);
    nm_matmul(&b->compute, &b->w, NULL, MOST_M, b->xs, b->ys);
    for (int n = 1; n <= 5; n += 2) {
        bench_threads(b, n);
        nm_matmul(&b->compute, &b->w, NULL, MOST_M, b->xs, b->agains);
        ok(same_bits(b, MOST_M), "%s: %d threads, same bits", b->kern.isa, n);
    }
}

/* A tile's rows may come in any grouping, as experts with few rows have them. */
static void test_tiles(bench *b)
{
    bench_weights(b, NM_TYPE_Q8_0, MOST_ROWS, 608);
    nm_matmul(&b->compute, &b->w, NULL, MOST_M, b->xs, b->ys);
    size_t tile = nm_matmul_tile_rows(b->w.cols);
    ok(tile >= 4 && tile % 4 == 0, "%s: a tile has %d rows", b->kern.isa, (int)tile);
    size_t step = 1;
    for (uint64_t j = 0; j < b->w.rows; j += step, step = step % tile + 1) {
        uint64_t end = j + step < b->w.rows ? j + step : b->w.rows;
        nm_matmul_tile(&b->kern, b->compute.scratch, &b->w, j, end, 5, b->xs, b->agains);
        nm_matmul_tile(&b->kern, b->compute.scratch, &b->w, j, end, MOST_M - 5, b->xs + 5,
                       b->agains + 5);
    }
    ok(same_bits(b, MOST_M), "%s: tiles of any height, same bits", b->kern.isa);
    float row[608];
    nm_mat_row(&b->kern, &b->w, 77, row);
    is_mem(row, b->weights + 77 * 608, sizeof row, "%s: row 77 of the matrix", b->kern.isa);
}

static void test_tier(const char *tier, const nm_cpu *cpu)
{
    bench *b = calloc(1, sizeof *b);
    if (!b || nm_kern_init(&b->kern, cpu, tier, NULL) != NPUMOE_OK)
        bail("tier %s", tier);
    b->compute.kern = &b->kern;
    bench_threads(b, 2);
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
    test_tiles(b);
    nm_pool_free(&b->compute.pool);
    nm_free_aligned(nm_allocator_default(), b->compute.scratch);
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
    for (size_t i = 0; nm_kern_tier(i); i++)
        if (nm_kern_tier_usable(nm_kern_tier(i), cpu))
            is_int(nm_kern_init(&table, cpu, nm_kern_tier(i), NULL), NPUMOE_OK, "tier %s is usable",
                   nm_kern_tier(i));
}

int main(void)
{
    nm_cpu cpu = nm_cpu_detect();
    test_dispatch(&cpu);
    for (size_t i = 0; nm_kern_tier(i); i++)
        if (nm_kern_tier_usable(nm_kern_tier(i), &cpu))
            test_tier(nm_kern_tier(i), &cpu);
    return done_testing();
}
