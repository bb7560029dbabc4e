/* bench.c: kcheck --bench: each kernel at a size that real models have, best of several runs.
 *
 * GFLOP/s count a multiply-add as two. GB/s of decoders and stores count the bytes of the encoded
 * side; G/s are elements. One thread; buffers stay in L2, as they do in use. */
#include "kcheck.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { M = 48, N = 32, COLS = 2048, STRIDE = COLS + 16, BLOCK = 64, HEAD = 128 };

typedef struct bench {
    const nm_kern *k;
    float *x, *w, *y;
    const float *xs[M];
    float *ys[M];
    void *codes;
    uint32_t type;
    const char *filter;          /* or NULL */
    double most_ops, most_bytes; /* per second */
    size_t lines;                /* printed */
} bench;

/* ---- bodies -------------------------------------------------------------------------------- */

static void run_gemm_nt(bench *b)
{
    b->k->gemm_nt(M, N, COLS, b->xs, b->w, STRIDE, b->ys);
}

static void run_gemm_nt_1(bench *b)
{
    b->k->gemm_nt(1, N, COLS, b->xs, b->w, STRIDE, b->ys);
}

static void run_gemm_nt_64(bench *b)
{
    b->k->gemm_nt(M, BLOCK, HEAD, b->xs, b->w, HEAD + 16, b->ys);
}

static void run_gemm_nn(bench *b)
{
    b->k->gemm_nn(M, HEAD, BLOCK, b->x, BLOCK, b->w, HEAD + 16, b->y, HEAD + 16, true);
}

static void run_rms_norm(bench *b)
{
    b->k->rms_norm(COLS, b->x, b->w, 1e-5f, b->y);
}

static void run_layer_norm(bench *b)
{
    b->k->layer_norm(COLS, b->x, b->w, b->w, 1e-5f, b->y);
}

static void run_silu_mul(bench *b)
{
    b->k->silu_mul(COLS, b->y, b->x);
}

static void run_axpy(bench *b)
{
    b->k->axpy(COLS, 1e-6f, b->x, b->y);
}

static void run_add(bench *b)
{
    b->k->add(COLS, b->x, b->y);
}

static void run_scale(bench *b)
{
    b->k->scale(COLS, 1.0f, b->y);
}

static void run_softmax(bench *b)
{
    b->k->softmax(COLS, b->y);
}

static void run_softmax_online(bench *b)
{
    float m = 0, l = 1, corr;
    b->k->softmax_online(BLOCK, b->y, &m, &l, &corr);
}

static void run_rope_neox(bench *b)
{
    b->k->rope_neox(HEAD, b->y, b->x, b->w);
}

static void run_rope_norm(bench *b)
{
    b->k->rope_norm(HEAD, b->y, b->x, b->w);
}

static void run_f32_to_f16(bench *b)
{
    b->k->f32_to_f16(COLS, b->x, b->codes);
}

static void run_f32_to_q8_0(bench *b)
{
    b->k->f32_to_q8_0(COLS, b->x, b->codes);
}

static void run_decode(bench *b)
{
    b->k->decode[b->type](b->codes, b->y, COLS);
}

/* ---- clock --------------------------------------------------------------------------------- */

/* Seconds of CPU per call (time spent put aside by the kernel does not count): the best of seven
 * batches of about 3 ms. */
static double seconds_per_call(bench *b, void (*run)(bench *b))
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
static void report(bench *b, const char *name, double amount, const char *unit, double bytes,
                   double share)
{
    printf("%-8s %-16s %9.2f %s", b->k->isa, name, 1e-9 * amount, unit);
    if (bytes > 0)
        printf(" %8.2f GB/s", 1e-9 * bytes);
    printf(" %6.1f %% of %s\n", 100 * share, bytes > 0 ? "reading" : "the unit");
    fflush(stdout);
    b->lines++;
}

static void report_ops(bench *b, const char *name, void (*run)(bench *b), double ops)
{
    if (b->filter && !strstr(name, b->filter))
        return;
    const double rate = ops / seconds_per_call(b, run);
    report(b, name, rate, "GFLOP/s", 0, rate / b->most_ops);
}

/* n elements, for each of which so many floats are read. */
static void report_elements(bench *b, const char *name, void (*run)(bench *b), double n,
                            double floats)
{
    if (b->filter && !strstr(name, b->filter))
        return;
    const double rate = n / seconds_per_call(b, run), bytes = rate * floats * sizeof(float);
    report(b, name, rate, "G/s", bytes, bytes / b->most_bytes);
}

static void bench_decoders(bench *b)
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

static float *floats(size_t n)
{
    float *p = nm_alloc_aligned(nm_allocator_default(), n * sizeof *p);
    if (!p)
        exit(1);
    memset(p, 0, n * sizeof *p);
    return p;
}

size_t bench_tier(const nm_kern *tier, const nm_cpu *cpu, const char *filter)
{
    bench b = {.k = tier, .filter = filter};
    size_t rows = M > BLOCK ? M : BLOCK;
    b.x = floats(rows * STRIDE);
    b.w = floats(rows * STRIDE);
    b.y = floats(rows * STRIDE);
    b.codes = floats(COLS);
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
    report_ops(&b, "gemm_nt", run_gemm_nt, 2.0 * M * N * COLS);
    report_ops(&b, "gemm_nt m=1", run_gemm_nt_1, 2.0 * N * COLS);
    report_ops(&b, "gemm_nt k=128", run_gemm_nt_64, 2.0 * M * BLOCK * HEAD);
    report_ops(&b, "gemm_nn", run_gemm_nn, 2.0 * M * BLOCK * HEAD);
    memcpy(b.y, b.x, rows * STRIDE * sizeof *b.y);
    report_elements(&b, "rms_norm", run_rms_norm, COLS, 2);
    report_elements(&b, "layer_norm", run_layer_norm, COLS, 3);
    report_elements(&b, "add", run_add, COLS, 2);
    report_elements(&b, "axpy", run_axpy, COLS, 2);
    report_elements(&b, "scale", run_scale, COLS, 1);
    memcpy(b.y, b.x, rows * STRIDE * sizeof *b.y);
    report_elements(&b, "softmax", run_softmax, COLS, 1);
    report_elements(&b, "softmax_online", run_softmax_online, BLOCK, 1);
    memcpy(b.y, b.x, rows * STRIDE * sizeof *b.y);
    report_elements(&b, "silu_mul", run_silu_mul, COLS, 2);
    memcpy(b.y, b.x, rows * STRIDE * sizeof *b.y);
    report_elements(&b, "rope_neox", run_rope_neox, HEAD, 2);
    report_elements(&b, "rope_norm", run_rope_norm, HEAD, 2);
    report_elements(&b, "f32_to_f16", run_f32_to_f16, COLS, 1);
    report_elements(&b, "f32_to_q8_0", run_f32_to_q8_0, COLS, 1);
    bench_decoders(&b);
    nm_free_aligned(nm_allocator_default(), b.x);
    nm_free_aligned(nm_allocator_default(), b.w);
    nm_free_aligned(nm_allocator_default(), b.y);
    nm_free_aligned(nm_allocator_default(), b.codes);
    return b.lines;
}
