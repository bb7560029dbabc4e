/* bench.c: kcheck --bench: each kernel at a size that real models have, best of several runs.
 *
 * GFLOP/s count a multiply-add as two. GB/s of decoders, stores and caches count the bytes of the encoded
 * side; G/s are elements. One thread; buffers stay in L2, as they do in use.
 *
 * Each kernel of kern.def has its bench_<name>, which prints its lines; kcheck does not link without. It finds
 * numbers from -0.5 to 0.5 in x and w, the same in y as in x. */
#include "kcheck.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { M = 48, N = 32, COLS = 2048, STRIDE = COLS + 16, BLOCK = 64, HEAD = 128 };
/* Of attention_few.c: positions of a block, rows of a KV head; and KV heads as models have them. */
enum { KEYS = 32, ROWS = 8, HEADS = 8 };

struct kbench {
    const nm_kern *k;
    float *x, *w, *y;
    const float *xs[M];
    float *ys[M];
    void *codes;
    uint32_t type;               /* of codes */
    size_t rows;                 /* of queries, that meet a cache */
    const char *filter;          /* or NULL */
    double most_ops, most_bytes; /* per second */
    size_t lines;                /* printed */
};

/* ---- clock --------------------------------------------------------------------------------- */

/* Seconds of CPU per call (time spent put aside by the kernel does not count): the best of seven
 * batches of about 3 ms. */
static double seconds_per_call(kbench *b, void (*run)(kbench *b))
{
    uint64_t best = UINT64_MAX;
    unsigned long calls = 1;
    for (int batch = 0; batch < 7;) {
        uint64_t start = nm_clock_thread_cpu_ns();
        for (unsigned long i = 0; i < calls; i++)
            run(b);
        uint64_t ns = nm_clock_thread_cpu_ns() - start;
        if (ns < 3000000) {
            calls *= 2;
            best = UINT64_MAX;
            batch = 0;
            continue;
        }
        best = ns < best ? ns : best;
        batch++;
    }
    return 1e-9 * (double)best / (double)calls;
}

/* Its rate, and the share of what a unit multiplies or a core reads from its nearest cache. */
static void report(kbench *b, const char *name, double amount, const char *unit, double bytes,
                   double share)
{
    printf("%-8s %-18s %9.2f %s", b->k->isa, name, 1e-9 * amount, unit);
    if (bytes > 0)
        printf(" %8.2f GB/s", 1e-9 * bytes);
    printf(" %6.1f %% of %s\n", 100 * share, bytes > 0 ? "reading" : "the unit");
    fflush(stdout);
    b->lines++;
}

static void report_ops(kbench *b, const char *name, void (*run)(kbench *b), double ops)
{
    if (b->filter && !strstr(name, b->filter))
        return;
    const double rate = ops / seconds_per_call(b, run);
    report(b, name, rate, "GFLOP/s", 0, rate / b->most_ops);
}

/* n elements, for each of which so many floats are read. */
static void report_elements(kbench *b, const char *name, void (*run)(kbench *b), double n,
                            double floats)
{
    if (b->filter && !strstr(name, b->filter))
        return;
    const double rate = n / seconds_per_call(b, run), bytes = rate * floats * sizeof(float);
    report(b, name, rate, "G/s", bytes, bytes / b->most_bytes);
}

/* ---- products --------------------------------------------------------------------------------- */

static void run_gemm_nt(kbench *b)
{
    b->k->gemm_nt(M, N, COLS, b->xs, b->w, STRIDE, b->ys);
}

static void run_gemm_nt_1(kbench *b)
{
    b->k->gemm_nt(1, N, COLS, b->xs, b->w, STRIDE, b->ys);
}

static void run_gemm_nt_64(kbench *b)
{
    b->k->gemm_nt(M, BLOCK, HEAD, b->xs, b->w, HEAD + 16, b->ys);
}

void bench_gemm_nt(kbench *b)
{
    report_ops(b, "gemm_nt", run_gemm_nt, 2.0 * M * N * COLS);
    report_ops(b, "gemm_nt m=1", run_gemm_nt_1, 2.0 * N * COLS);
    report_ops(b, "gemm_nt k=128", run_gemm_nt_64, 2.0 * M * BLOCK * HEAD);
}

static void run_gemm_nn(kbench *b)
{
    b->k->gemm_nn(M, HEAD, BLOCK, b->x, BLOCK, b->w, HEAD + 16, b->y, HEAD + 16, true);
}

void bench_gemm_nn(kbench *b)
{
    report_ops(b, "gemm_nn", run_gemm_nn, 2.0 * M * BLOCK * HEAD);
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void run_rms_norm(kbench *b)
{
    b->k->rms_norm(COLS, b->x, b->w, 1e-5f, b->y);
}

void bench_rms_norm(kbench *b)
{
    report_elements(b, "rms_norm", run_rms_norm, COLS, 2);
}

static void run_layer_norm(kbench *b)
{
    b->k->layer_norm(COLS, b->x, b->w, b->w, 1e-5f, b->y);
}

void bench_layer_norm(kbench *b)
{
    report_elements(b, "layer_norm", run_layer_norm, COLS, 3);
}

static void run_silu_mul(kbench *b)
{
    b->k->silu_mul(COLS, b->y, b->x);
}

void bench_silu_mul(kbench *b)
{
    report_elements(b, "silu_mul", run_silu_mul, COLS, 2);
}

static void run_axpy(kbench *b)
{
    b->k->axpy(COLS, 1e-6f, b->x, b->y);
}

void bench_axpy(kbench *b)
{
    report_elements(b, "axpy", run_axpy, COLS, 2);
}

static void run_add(kbench *b)
{
    b->k->add(COLS, b->x, b->y);
}

void bench_add(kbench *b)
{
    report_elements(b, "add", run_add, COLS, 2);
}

static void run_scale(kbench *b)
{
    b->k->scale(COLS, 1.0f, b->y);
}

void bench_scale(kbench *b)
{
    report_elements(b, "scale", run_scale, COLS, 1);
}

static void run_softmax(kbench *b)
{
    b->k->softmax(COLS, b->y);
}

void bench_softmax(kbench *b)
{
    report_elements(b, "softmax", run_softmax, COLS, 1);
}

static void run_softmax_online(kbench *b)
{
    float m = 0, l = 1, corr;
    b->k->softmax_online(BLOCK, b->y, &m, &l, &corr);
}

void bench_softmax_online(kbench *b)
{
    report_elements(b, "softmax_online", run_softmax_online, BLOCK, 1);
}

static void run_rope_neox(kbench *b)
{
    b->k->rope_neox(HEAD, b->y, b->x, b->w);
}

void bench_rope_neox(kbench *b)
{
    report_elements(b, "rope_neox", run_rope_neox, HEAD, 2);
}

static void run_rope_norm(kbench *b)
{
    b->k->rope_norm(HEAD, b->y, b->x, b->w);
}

void bench_rope_norm(kbench *b)
{
    report_elements(b, "rope_norm", run_rope_norm, HEAD, 2);
}

static void run_f32_to_f16(kbench *b)
{
    b->k->f32_to_f16(COLS, b->x, b->codes);
}

void bench_f32_to_f16(kbench *b)
{
    report_elements(b, "f32_to_f16", run_f32_to_f16, COLS, 1);
}

static void run_f32_to_q8_0(kbench *b)
{
    b->k->f32_to_q8_0(COLS, b->x, b->codes);
}

void bench_f32_to_q8_0(kbench *b)
{
    report_elements(b, "f32_to_q8_0", run_f32_to_q8_0, COLS, 1);
}

/* ---- caches --------------------------------------------------------------------------------- */

static size_t head_bytes(const kbench *b)
{
    const nm_type_traits *t = nm_type_get(b->type);
    return HEAD / t->block_elems * t->block_bytes;
}

/* A block of positions, head after head, as attention of few rows meets it. */
static void run_kv_scores(kbench *b)
{
    const size_t bytes = head_bytes(b);
    for (size_t h = 0; h < HEADS; h++)
        b->k->kv_scores(b->type, KEYS, (const char *)b->codes + h * bytes, HEADS * bytes, HEAD,
                        b->rows, b->xs, b->y, KEYS);
}

static void run_kv_values(kbench *b)
{
    const size_t bytes = head_bytes(b);
    for (size_t h = 0; h < HEADS; h++)
        b->k->kv_values(b->type, KEYS, (const char *)b->codes + h * bytes, HEADS * bytes, HEAD,
                        b->rows, b->x, KEYS, b->ys);
}

/* One row is counted by what it reads, several by what they multiply. */
static void report_cache(kbench *b, const char *kernel, void (*run)(kbench *b))
{
    static const uint32_t types[] = {NM_TYPE_F32, NM_TYPE_F16, NM_TYPE_Q8_0};
    const double multiplied = (double)HEADS * KEYS * HEAD;
    for (size_t i = 0; i < 2 * sizeof types / sizeof types[0]; i++) {
        char name[64];
        b->type = types[i / 2];
        b->rows = i % 2 ? ROWS : 1;
        const nm_type_traits *t = nm_type_get(b->type);
        snprintf(name, sizeof name, "%s %s m=%zu", kernel, t->name, b->rows);
        if (b->filter && !strstr(name, b->filter))
            continue;
        t->encode(b->w, b->codes, HEADS * KEYS * HEAD, NULL);
        const double calls = 1 / seconds_per_call(b, run), ops = 2 * multiplied * calls;
        const double bytes = (double)(HEADS * KEYS * head_bytes(b)) * calls;
        if (b->rows == 1)
            report(b, name, ops, "GFLOP/s", bytes, bytes / b->most_bytes);
        else
            report(b, name, ROWS * ops, "GFLOP/s", 0, ROWS * ops / b->most_ops);
    }
}

void bench_kv_scores(kbench *b)
{
    report_cache(b, "kv_scores", run_kv_scores);
}

void bench_kv_values(kbench *b)
{
    report_cache(b, "kv_values", run_kv_values);
}

static void run_decode(kbench *b)
{
    b->k->decode[b->type](b->codes, b->y, COLS);
}

static void bench_decoders(kbench *b)
{
    for (b->type = 0; b->type < NM_TYPE_END; b->type++) {
        const nm_type_traits *t = nm_type_get(b->type);
        char name[64];
        snprintf(name, sizeof name, "decode %s", t->name ? t->name : "");
        if (!b->k->decode[b->type] || (b->filter && !strstr(name, b->filter)))
            continue;
        t->encode(b->x, b->codes, COLS, NULL);
        const double rate = COLS / seconds_per_call(b, run_decode);
        const double bytes = rate / t->block_elems * t->block_bytes;
        report(b, name, rate, "G/s", bytes, bytes / b->most_bytes);
    }
}

/* --------------------------------------------------------------------------------------------- */

static float *floats(size_t n)
{
    float *p = nm_alloc_aligned(nm_allocator_default(), n * sizeof *p);
    if (!p)
        exit(1);
    memset(p, 0, n * sizeof *p);
    return p;
}

static bench_fn *const benches[] = {
#define K(name, args, tolerance, what) bench_##name,
#include "kernels/kern.def"
};

size_t bench_tier(const nm_kern *tier, const nm_cpu *cpu, const char *filter)
{
    kbench b = {.k = tier, .filter = filter};
    size_t rows = M > BLOCK ? M : BLOCK;
    b.x = floats(rows * STRIDE);
    b.w = floats(rows * STRIDE);
    b.y = floats(rows * STRIDE);
    b.codes = floats((size_t)HEADS * KEYS * HEAD); /* of the widest type, F32 */
    for (size_t i = 0; i < rows * STRIDE; i++) {
        b.x[i] = (float)(i * 7919 % 1021) / 1021.0f - 0.5f;
        b.w[i] = (float)(i * 6053 % 1019) / 1019.0f - 0.5f;
    }
    for (size_t i = 0; i < M; i++) {
        b.xs[i] = b.x + i * STRIDE;
        b.ys[i] = b.y + i * STRIDE;
    }
    b.most_ops = unit_rate(cpu, tier->isa, "f32", false);
    b.most_bytes = read_rate(cpu, b.x, COLS * sizeof *b.x);
    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++) {
        memcpy(b.y, b.x, rows * STRIDE * sizeof *b.y);
        benches[i](&b);
    }
    bench_decoders(&b);
    nm_free_aligned(nm_allocator_default(), b.x);
    nm_free_aligned(nm_allocator_default(), b.w);
    nm_free_aligned(nm_allocator_default(), b.y);
    nm_free_aligned(nm_allocator_default(), b.codes);
    return b.lines;
}
