/* bench_attention.c: kcheck --bench for attention, at the shapes of real models.
 *
 * "prompt": the last 32 to 256 of 2048 positions, 4096 rows in all; "token": one query over 8192, whose cache no cache of the
 * processor holds (but that of MLA, which is small on purpose). One thread, its CPU time, best of
 * several. GFLOP/s count q k and p v of the positions that are seen, multiply-add as two; GB/s the
 * bytes of the cache that must be read once.
 *
 * The share: of what binds, the rate of the unit in registers or that of reading memory, both measured
 * here. On a matrix unit a product of `auto` is three of bf16 (attention.h), so its ceiling is a third
 * of the unit's; few rows are fp32, whose unit is the tier's. */
#include "kcheck.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "kernels/attend.h"
#include "quant/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT_END = 2048, PROMPT_ROWS = 4096, CONTEXT = 8192, TRIES = 4 };

typedef struct shape {
    const char *name;
    uint32_t n_head, n_head_kv, dim_k, dim_v, window;
    bool sinks, v_in_k;
} shape;

static const shape shapes[] = {
    {"olmoe", 16, 16, 128, 128, 0, false, false},
    {"qwen3-30b", 32, 4, 128, 128, 0, false, false},
    {"gpt-oss", 64, 8, 64, 64, 128, true, false},
    {"mla-16", 16, 16, 192, 128, 0, false, false},
    {"mla-16-absorbed", 16, 1, 576, 512, 0, false, true},
    {"mla-128-absorbed", 128, 1, 576, 512, 0, false, true},
};

typedef struct bench {
    nm_compute compute;
    nm_attention_args args;
    const shape *shape;
    double most_f32, most_tiles, most_bytes;
    size_t lines; /* printed */
} bench;

static void *take(size_t bytes)
{
    void *p = nm_alloc_aligned(nm_allocator_default(), bytes);
    if (!p)
        exit(1);
    memset(p, 0, bytes);
    return p;
}

static void drop(const void *p)
{
    nm_free_aligned(nm_allocator_default(), (void *)(uintptr_t)p);
}

/* Rows of numbers, the first 64 again and again. */
static nm_kv_view make_cache(uint32_t type, uint32_t heads, uint32_t dim)
{
    const nm_type_traits *t = nm_type_get(type);
    const size_t head_bytes = (size_t)dim / t->block_elems * t->block_bytes;
    const nm_kv_view view = {type, take(CONTEXT * heads * head_bytes), heads * head_bytes,
                             head_bytes};
    static kcheck draws;
    char *data = (char *)(uintptr_t)view.data;
    for (size_t p = 0; p < CONTEXT; p++)
        for (size_t h = 0; h < heads; h++) {
            float row[576];
            char *at = data + p * view.pos_bytes + h * head_bytes;
            if (p >= 64) {
                memcpy(at, data + p % 64 * view.pos_bytes + h * head_bytes, head_bytes);
                continue;
            }
            draw_many(&draws, PLAIN, row, dim);
            t->encode(row, at, dim, NULL);
        }
    return view;
}

static void make(bench *b, uint32_t type)
{
    static float sinks[128];
    static kcheck draws;
    const shape *s = b->shape;
    const size_t n = PROMPT_ROWS;
    float *q = take(n * s->dim_k * sizeof *q);
    draw_many(&draws, PLAIN, q, n * s->dim_k);
    b->args = (nm_attention_args){.n_head = s->n_head,
                                  .n_head_kv = s->n_head_kv,
                                  .dim_k = s->dim_k,
                                  .dim_v = s->dim_v,
                                  .scale = 1.0f / sqrtf((float)s->dim_k),
                                  .window = s->window,
                                  .sinks = s->sinks ? sinks : NULL,
                                  .q = q,
                                  .k = make_cache(type, s->n_head_kv, s->dim_k),
                                  .out = take(n * s->dim_v * sizeof(float))};
    b->args.v = s->v_in_k ? b->args.k : make_cache(type, s->n_head_kv, s->dim_v);
}

static void unmake(bench *b)
{
    drop(b->args.q);
    drop(b->args.out);
    if (b->args.v.data != b->args.k.data)
        drop(b->args.v.data);
    drop(b->args.k.data);
}

/* ---- measuring ------------------------------------------------------------------------------ */

static double seconds_per_call(const bench *b)
{
    uint64_t best = UINT64_MAX;
    for (int try = 0; try < TRIES; try++) {
        uint64_t calls = 0, start = nm_clock_thread_cpu_ns(), ns;
        do {
            nm_attention(&b->compute, &b->args);
            calls++;
            ns = nm_clock_thread_cpu_ns() - start;
        } while (ns < 10000000);
        best = ns / calls < best ? ns / calls : best;
    }
    return 1e-9 * (double)(best ? best : 1);
}

/* (query, position) pairs that are seen, and positions that some query sees. */
static double pairs_seen(const nm_attention_args *a)
{
    double pairs = 0;
    for (size_t p = a->pos0; p < a->pos0 + a->n_q; p++)
        pairs += (double)(a->window && p + 1 > a->window ? a->window : p + 1);
    return pairs;
}

static double positions_seen(const nm_attention_args *a)
{
    const size_t end = a->pos0 + a->n_q, seen = a->window ? a->window - 1 + a->n_q : end;
    return (double)(seen < end ? seen : end);
}

static bool on_tiles(const nm_kern *kern)
{
    return strcmp(kern->isa, "amx") == 0;
}

static void measure(bench *b, const char *name, bool queries)
{
    nm_attention_args *a = &b->args;
    a->n_q = queries ? PROMPT_ROWS / a->n_head : 1;
    a->pos0 = queries ? PROMPT_END - a->n_q : CONTEXT - 1;
    const bool few = a->n_q * (a->n_head / a->n_head_kv) <= NM_ATTEND_FEW_ROWS;
    const bool tiles = on_tiles(b->compute.kern) && !few;
    const double products = b->compute.precision == NM_PRECISION_FAST ? 1 : 3;
    const double most_ops = tiles ? b->most_tiles / products : b->most_f32;
    const double s = seconds_per_call(b);
    const double ops = 2 * pairs_seen(a) * a->n_head * (a->dim_k + a->dim_v) / s;
    const double row = (double)(a->k.pos_bytes + (b->shape->v_in_k ? 0 : a->v.pos_bytes));
    const double bytes = positions_seen(a) * row / s;
    const bool reading = bytes / b->most_bytes > ops / most_ops;
    printf("%-44s %9.2f GFLOP/s %8.2f GB/s %6.1f %% of %s\n", name, 1e-9 * ops, 1e-9 * bytes,
           100 * (reading ? bytes / b->most_bytes : ops / most_ops),
           reading ? "reading" : "the unit");
    fflush(stdout);
}

static void limits(bench *b, const nm_cpu *cpu)
{
    enum { BYTES = 64 << 20 };
    char *memory = take(BYTES);
    b->most_bytes = read_rate(cpu, memory, BYTES);
    b->most_f32 = unit_rate(cpu, b->compute.kern->isa, "f32", false);
    b->most_tiles = unit_rate(cpu, b->compute.kern->isa, "bf16", true);
    printf("%-44s %9.2f GFLOP/s %8.2f GB/s at most", b->compute.kern->isa, 1e-9 * b->most_f32,
           1e-9 * b->most_bytes);
    if (on_tiles(b->compute.kern))
        printf(", tiles %.2f GFLOP/s", 1e-9 * b->most_tiles);
    printf("\n");
    drop(memory);
}

static void bench_shape(bench *b, const char *filter)
{
    static const uint32_t types[] = {NM_TYPE_F16, NM_TYPE_Q8_0};
    for (size_t i = 0; i < 2; i++) {
        bool made = false;
        for (int k = 0; k < 4; k++) {
            const bool fast = k >= 2, queries = k % 2 == 0;
            char name[96];
            snprintf(name, sizeof name, "%s attention %s %s %s%s", b->compute.kern->isa,
                     b->shape->name, nm_type_get(types[i])->name, queries ? "prompt" : "token",
                     fast ? " fast" : "");
            if ((fast && !on_tiles(b->compute.kern)) || (filter && !strstr(name, filter)))
                continue;
            if (!made)
                make(b, types[i]);
            made = true;
            b->compute.precision = fast ? NM_PRECISION_FAST : NM_PRECISION_AUTO;
            measure(b, name, queries);
            b->lines++;
        }
        if (made)
            unmake(b);
    }
}

size_t bench_attention(const nm_kern *tier, const nm_cpu *cpu, const char *filter)
{
    bench b = {.compute = {.kern = tier}};
    if (filter && !strstr("attention", filter) && !strstr(filter, "attention"))
        return 0;
    b.compute.scratch_bytes = nm_compute_scratch_bytes(64, 576);
    b.compute.scratch = take(b.compute.scratch_bytes);
    if (nm_pool_new(nm_allocator_default(), 1, &b.compute.pool, NULL) != NPUMOE_OK)
        exit(1);
    limits(&b, cpu);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        b.shape = &shapes[i];
        bench_shape(&b, filter);
    }
    nm_pool_free(&b.compute.pool);
    drop(b.compute.scratch);
    return b.lines;
}
