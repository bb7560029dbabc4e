/* bench_products.c: kcheck --bench for the products, at the shape of an OLMoE expert.
 *
 * A matrix of 1024 outputs and 2048 inputs, as many copies as no cache holds, one after the other:
 * an expert's weights come from memory once per chunk, as in use. A call packs its rows and
 * multiplies. GFLOP/s count a multiply-add as two, GB/s the weights. One thread, its CPU time, best
 * of several. */
#include "products.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUTS = 2048, OUTPUTS = 1024, ROWS = 256, POOL_BYTES = 64 << 20, TRIES = 5 };

typedef struct setup {
    const product_run *run;
    nm_mat w;
    size_t copies, next;
    size_t m;
    char *weights;
    const float *x[ROWS];
    float *y[ROWS];
    void *xp, *scratch;
} setup;

static void *take(size_t bytes)
{
    void *p = nm_alloc_aligned(nm_allocator_default(), bytes);
    if (!p)
        exit(1);
    memset(p, 0, bytes);
    return p;
}

static void one_call(setup *s)
{
    const nm_product *p = s->run->product;
    s->w.data = s->weights + s->next * s->w.rows * s->w.row_bytes;
    s->next = (s->next + 1) % s->copies;
    p->pack(s->m, INPUTS, s->x, 0, s->m, s->xp);
    nm_out_args a = {.kern = &s->run->kern,
                     .w = &s->w,
                     .m = s->m,
                     .xp = s->xp,
                     .y = s->y,
                     .scratch = s->scratch};
    for (a.j0 = 0; a.j0 < OUTPUTS; a.j0 = a.j1) {
        a.j1 = a.j0 + p->task < OUTPUTS ? a.j0 + p->task : OUTPUTS;
        p->out(&a);
    }
}

/* Best of several batches of about 10 ms. */
static double seconds_per_call(setup *s)
{
    uint64_t best = UINT64_MAX;
    unsigned long calls = 1;
    for (int try = 0; try < TRIES;) {
        uint64_t start = nm_clock_thread_cpu_ns();
        for (unsigned long i = 0; i < calls; i++)
            one_call(s);
        uint64_t ns = nm_clock_thread_cpu_ns() - start;
        if (ns < 10000000) {
            calls *= 2;
            continue;
        }
        best = ns < best ? ns : best;
        try++;
    }
    return 1e-9 * (double)best / (double)calls;
}

static void fill_weights(setup *s, uint32_t type)
{
    static kcheck draws;
    const nm_type_traits *t = nm_type_get(type);
    const size_t row = INPUTS / t->block_elems * t->block_bytes, matrix = row * OUTPUTS;
    s->w = (nm_mat){.type = type, .rows = OUTPUTS, .cols = INPUTS, .row_bytes = row};
    s->copies = POOL_BYTES / matrix;
    draws.rng = 1;
    draw_weights(&draws, type, PLAIN, OUTPUTS, INPUTS, s->weights);
    for (size_t i = 1; i < s->copies; i++)
        memcpy(s->weights + i * matrix, s->weights, matrix);
}

static void bench_run(setup *s, const char *filter)
{
    static const size_t ms[] = {1, 4, 16, 64, 256};
    const nm_product *p = s->run->product;
    s->xp = take(p->packed_bytes(ROWS, INPUTS));
    s->scratch = take(p->scratch_bytes(INPUTS));
    for (uint32_t type = 0; type < NM_TYPE_END; type++) {
        bool filled = false;
        for (size_t i = 0; i < sizeof ms / sizeof ms[0] && p->takes(type); i++) {
            char name[96];
            s->m = ms[i];
            snprintf(name, sizeof name, "%s %s m=%zu", s->run->name, nm_type_get(type)->name, s->m);
            if (filter && !strstr(name, filter))
                continue;
            if (!filled)
                fill_weights(s, type);
            filled = true;
            double seconds = seconds_per_call(s);
            printf("%-32s %9.2f GFLOP/s %8.2f GB/s\n", name,
                   2e-9 * (double)s->m * INPUTS * OUTPUTS / seconds,
                   1e-9 * (double)(s->w.rows * s->w.row_bytes) / seconds);
            fflush(stdout);
        }
    }
    nm_free_aligned(nm_allocator_default(), s->xp);
    nm_free_aligned(nm_allocator_default(), s->scratch);
}

void bench_products(const nm_cpu *cpu, const char *tier, const char *filter)
{
    static product_run runs[MAX_PRODUCT_RUNS];
    static setup s;
    static kcheck draws;
    const size_t n = product_runs(cpu, tier, runs);
    float *x = take(ROWS * INPUTS * sizeof *x), *y = take(ROWS * OUTPUTS * sizeof *y);
    s.weights = take(POOL_BYTES);
    draws.rng = 1;
    draw_many(&draws, PLAIN, x, (size_t)ROWS * INPUTS);
    for (size_t i = 0; i < ROWS; i++) {
        s.x[i] = x + i * INPUTS;
        s.y[i] = y + i * OUTPUTS;
    }
    for (size_t i = 0; i < n; i++) {
        s.run = &runs[i];
        if (strcmp(s.run->kern.isa, "scalar") != 0 || tier)
            bench_run(&s, filter);
    }
    nm_free_aligned(nm_allocator_default(), x);
    nm_free_aligned(nm_allocator_default(), y);
    nm_free_aligned(nm_allocator_default(), s.weights);
}
