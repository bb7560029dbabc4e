/* bench_products.c: kcheck --bench for the products, at the shape of an OLMoE expert.
 *
 * A matrix of 1024 outputs and 2048 inputs, as many copies as no cache holds, one after the other:
 * an expert's weights come from memory once per chunk, as in use. A call packs its rows and
 * multiplies. "panels" are weights that were decoded beforehand. GFLOP/s count a multiply-add as two, GB/s the weights. One thread, its CPU time, best
 * of several.
 *
 * The share: of the rate at which the unit multiplies registers, and of the rate at which weights can
 * be read, both measured here by the loops of kernels/probe.h; the larger one is what binds. A unit
 * counts its own products: bf16x3 does three for one of ours; 16-bit integers have half the rate of
 * 8 bits. */
#include "products.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/sys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUTS = 2048, OUTPUTS = 1024, ROWS = 512, POOL_BYTES = 256 << 20, TRIES = 5 };

typedef struct setup {
    const product_run *run;
    nm_mat w;
    size_t copies, next;
    size_t copy_bytes; /* of a matrix */
    size_t m;
    char *weights;
    const float *x[ROWS];
    float *y[ROWS];
    void *xp, *scratch;
    double most_ops, most_bytes; /* of the run, a second; 0 = not yet known */
    size_t lines;                /* printed */
} setup;

static void *take(size_t bytes)
{
    void *p = nm_alloc_aligned(nm_allocator_default(), bytes);
    if (!p)
        exit(1);
    nm_sys_advise_huge(
        p, bytes); /* as the device's copies are, and the file in the page cache often */
    memset(p, 0, bytes);
    return p;
}

static void one_call(setup *s)
{
    const nm_product *p = s->run->product;
    s->w.data = s->weights + s->next * s->copy_bytes;
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

static void fill_weights(setup *s, uint32_t type, bool panels)
{
    static kcheck draws;
    const nm_type_traits *t = nm_type_get(type);
    const size_t row = INPUTS / t->block_elems * t->block_bytes, matrix = row * OUTPUTS;
    s->w = (nm_mat){.type = type, .rows = OUTPUTS, .cols = INPUTS, .row_bytes = row};
    s->copy_bytes = matrix;
    draws.rng = 1;
    draw_weights(&draws, type, PLAIN, OUTPUTS, INPUTS, s->weights);
    s->w.data = s->weights;
    if (panels) {
        s->copy_bytes = (size_t)nm_product_panels_bytes(s->run->product, OUTPUTS, INPUTS);
        char *to = s->weights + POOL_BYTES - s->copy_bytes;
        s->w = nm_product_to_panels(s->run->product, &s->run->kern, &s->w, to);
        memmove(s->weights, to, s->copy_bytes);
    }
    s->copies = POOL_BYTES / s->copy_bytes;
    s->next = 0;
    for (size_t i = 1; i < s->copies; i++)
        memcpy(s->weights + i * s->copy_bytes, s->weights, s->copy_bytes);
}

/* ---- ceilings ------------------------------------------------------------------------------- */

static bool is_matrix_slot(nm_product_slot slot)
{
    return slot == NM_PRODUCT_BF16 || slot == NM_PRODUCT_BF16X2 || slot == NM_PRODUCT_BF16X3 ||
           slot == NM_PRODUCT_I8X3;
}

/* GFLOP/s that the unit behind the slot could do if it did nothing else. */
static double product_ceiling(const product_run *run)
{
    const bool tiles = is_matrix_slot(run->slot);
    const double f32 = unit_rate(&run->cpu, run->kern.isa, "f32", tiles);
    const double bf16 = unit_rate(&run->cpu, run->kern.isa, "bf16", tiles);
    const double i16 = unit_rate(&run->cpu, run->kern.isa, "i16", tiles);
    const double i8 = unit_rate(&run->cpu, run->kern.isa, "i8", tiles);
    switch (run->slot) {
    case NM_PRODUCT_I16:
        return i16 > i8 / 2 ? i16 : i8 / 2;
    case NM_PRODUCT_DOT_Q: /* two planes of 8 bits */
    case NM_PRODUCT_I8X2:
        return i8 > 0 ? i8 / 2 : i16 > 0 ? i16 : f32;
    case NM_PRODUCT_I8:
        return i8;
    case NM_PRODUCT_BF16:
    case NM_PRODUCT_BF16X2:
    case NM_PRODUCT_BF16X3:
        return run->slot == NM_PRODUCT_BF16     ? bf16
               : run->slot == NM_PRODUCT_BF16X2 ? bf16 / 2
                                                : bf16 / 3;
    case NM_PRODUCT_I8X3:
        return i8 / 3;
    case NM_PRODUCT_F32:
    case NM_PRODUCT_DOT_F:
    case NM_PRODUCT_END:
        break;
    }
    return f32;
}

static void print_line(const setup *s, const char *name, double seconds)
{
    const double ops = 2.0 * (double)s->m * INPUTS * OUTPUTS / seconds;
    const double bytes = (double)s->copy_bytes / seconds;
    const bool reading = bytes / s->most_bytes > ops / s->most_ops;
    printf("%-32s %9.2f GFLOP/s %8.2f GB/s %6.1f %% of %s\n", name, 1e-9 * ops, 1e-9 * bytes,
           100 * (reading ? bytes / s->most_bytes : ops / s->most_ops),
           reading ? "reading" : "the unit");
    fflush(stdout);
}

/* ---- runs ----------------------------------------------------------------------------------- */

static void bench_type(setup *s, const char *filter, uint32_t type, bool panels)
{
    static const size_t ms[] = {1, 4, 16, 32, 64, 128, 256, 512};
    const char *what = panels ? " panels" : "";
    bool filled = false;
    for (size_t i = 0; i < sizeof ms / sizeof ms[0]; i++) {
        char name[96];
        s->m = ms[i];
        snprintf(name, sizeof name, "%s %s%s m=%zu", s->run->name, nm_type_get(type)->name, what,
                 s->m);
        if (filter && !strstr(name, filter))
            continue;
        if (!filled)
            fill_weights(s, type, panels);
        filled = true;
        if (s->most_ops == 0) {
            s->most_ops = product_ceiling(s->run);
            s->most_bytes = read_rate(&s->run->cpu, s->weights, POOL_BYTES);
            printf("%-32s %9.2f GFLOP/s %8.2f GB/s at most\n", s->run->name, 1e-9 * s->most_ops,
                   1e-9 * s->most_bytes);
        }
        print_line(s, name, seconds_per_call(s));
        s->lines++;
    }
}

static void bench_run(setup *s, const char *filter)
{
    const nm_product *p = s->run->product;
    s->most_ops = 0;
    s->xp = take(p->packed_bytes(ROWS, INPUTS));
    s->scratch = take(p->scratch_bytes(INPUTS));
    for (uint32_t type = 0; type < NM_TYPE_END; type++) {
        if (!p->takes(type))
            continue;
        bench_type(s, filter, type, false);
        if (p->to_panels)
            bench_type(s, filter, type, true);
    }
    nm_free_aligned(nm_allocator_default(), s->xp);
    nm_free_aligned(nm_allocator_default(), s->scratch);
}

size_t bench_products(const nm_cpu *cpu, const char *tier, const char *filter)
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
    return s.lines;
}
