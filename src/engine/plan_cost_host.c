/* plan_cost_host.c: the host's part of a cost table (plan_cost.h). */
#include "engine/plan_cost.h"

#include "base/clock.h"
#include "base/num.h"
#include "kernels/attention.h"
#include "kernels/network.h"
#include "moe/dispatch.h"
#include "moe/router.h"
#include "quant/quant.h"

#include <string.h>

enum {
    MOST_NETWORKS = 16,
    BATCH_ROWS = 512,        /* of a batch of experts together */
    COLD_BYTES = 64 << 20,   /* what no core has in its cache */
    PACKED_BYTES = 48 << 20, /* as in a session (engine/buffers.c) */
    EVICT_BYTES = 16 << 20,
    PASSES = 5,
    LITTLE_NETWORKS = 2,
    LITTLE_ROWS = 32,
    LITTLE_PARTS = 8 /* of a chunk */
};

/* Rows of the widest kind, and what a pool works with. */
typedef struct host {
    nm_cost_job *job;
    nm_compute compute;
    uint32_t n_rows;
    size_t width;     /* of a row in x, y, z */
    float *x, *y, *z; /* [n_rows][width] */
    uint16_t *kept;   /* [n_rows][2 * width]: keys and values as a cache has them */
    float **xp, **yp; /* [n_rows] */
    float **xs, **ys; /* the same rows in another order: an expert's tokens lie far apart */
    nm_cost_network networks[MOST_NETWORKS];
    uint32_t n_networks, turn;
} host;

static size_t widest(const nm_cost_geometry *g)
{
    const size_t q = (size_t)g->n_head * g->dim_k, o = (size_t)g->n_head * g->dim_v;
    size_t most = g->n_embd;
    most = nm_max_size(most, g->n_ff);
    most = nm_max_size(most, g->n_ff_shared);
    most = nm_max_size(most, g->n_expert);
    return nm_max_size(most, nm_max_size(q, o));
}

/* A step that meets each of n rows once. */
static uint32_t coprime(uint32_t n)
{
    for (uint32_t step = n * 5 / 8 | 1u;; step += 2) {
        uint32_t a = step, b = n;
        while (b) {
            const uint32_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1)
            return step;
    }
}

static npumoe_status host_init(host *h, nm_cost_job *job, npumoe_error *err)
{
    const npumoe_allocator *a = nm_allocator_default();
    const nm_cost_geometry *g = &job->geometry;
    const size_t threads = (size_t)nm_pool_size(job->pool);
    *h = (host){.job = job, .width = widest(g)};
    h->n_rows = job->chunk > BATCH_ROWS ? job->chunk : BATCH_ROWS;
    const uint64_t cols = 2 * (uint64_t)h->width;
    const size_t row_bytes = h->width * sizeof *h->x;
    const uint32_t dim = g->dim_k > g->dim_v ? g->dim_k : g->dim_v;
    h->compute =
        (nm_compute){.kern = job->kern,
                     .pool = job->pool,
                     .precision = job->precision,
                     .scratch_bytes = nm_compute_scratch_bytes(h->width, dim),
                     .packed_bytes = nm_max_size(PACKED_BYTES, nm_compute_packed_min(cols))};
    h->compute.scratch = nm_alloc_aligned(a, threads * h->compute.scratch_bytes);
    h->compute.packed = nm_alloc_aligned(a, h->compute.packed_bytes);
    h->x = nm_alloc_aligned(a, h->n_rows * row_bytes);
    h->y = nm_alloc_aligned(a, h->n_rows * row_bytes);
    h->z = nm_alloc_aligned(a, h->n_rows * row_bytes);
    h->kept = nm_alloc_aligned(a, h->n_rows * row_bytes);
    h->xp = nm_alloc_array(a, h->n_rows, sizeof *h->xp);
    h->yp = nm_alloc_array(a, h->n_rows, sizeof *h->yp);
    h->xs = nm_alloc_array(a, h->n_rows, sizeof *h->xs);
    h->ys = nm_alloc_array(a, h->n_rows, sizeof *h->ys);
    if (!h->compute.scratch || !h->compute.packed || !h->x || !h->y || !h->z || !h->kept ||
        !h->xp || !h->yp || !h->xs || !h->ys)
        return nm_err_nomem(err, h->n_rows * row_bytes, "rows to measure with");
    memset(h->compute.packed, 0, h->compute.packed_bytes); /* pages of its own, to be read */
    for (size_t i = 0; i < h->n_rows * h->width; i++) {
        h->x[i] = (float)(i * 2654435761u % 2048) / 1024.0f - 1.0f;
        h->y[i] = h->z[i] = 0.5f;
    }
    for (uint32_t i = 0; i < h->n_rows; i++) {
        h->xp[i] = h->x + i * h->width;
        h->yp[i] = h->y + i * h->width;
    }
    const uint32_t step = coprime(h->n_rows);
    for (uint32_t i = 0; i < h->n_rows; i++) {
        const size_t row = (size_t)((uint64_t)i * step % h->n_rows);
        h->xs[i] = h->xp[row];
        h->ys[i] = h->yp[row];
    }
    return NPUMOE_OK;
}

static void host_fini(host *h)
{
    const npumoe_allocator *a = nm_allocator_default();
    for (uint32_t i = 0; i < h->n_networks; i++)
        nm_cost_network_free(&h->networks[i]);
    nm_free_aligned(a, h->compute.scratch);
    nm_free_aligned(a, h->compute.packed);
    nm_free_aligned(a, h->x);
    nm_free_aligned(a, h->y);
    nm_free_aligned(a, h->z);
    nm_free_aligned(a, h->kept);
    nm_free(a, h->xp);
    nm_free(a, h->yp);
    nm_free(a, h->xs);
    nm_free(a, h->ys);
}

/* ---- networks ------------------------------------------------------------------------------- */

typedef struct network_run {
    host *h;
    uint32_t n, m;              /* networks, rows of each */
    const nm_cost_network *one; /* NULL: the experts in turns */
} network_run;

static void run_networks(void *arg)
{
    const network_run *r = arg;
    host *h = r->h;
    nm_network_item items[MOST_NETWORKS];
    nm_network_part parts[MOST_NETWORKS];
    for (uint32_t i = 0; i < r->n; i++) {
        const nm_cost_network *w = r->one ? r->one : &h->networks[h->turn++ % h->n_networks];
        const uint32_t row = i * r->m % (h->n_rows - r->m + 1);
        items[i] = (nm_network_item){.gate = w->gate,
                                     .up = w->up,
                                     .down = w->down,
                                     .m = r->m,
                                     .x = (const float *const *)h->xs + row,
                                     .y = h->ys + row};
    }
    const nm_network_job job = {.compute = &h->compute,
                                .act = NM_ACT_SWIGLU,
                                .items = items,
                                .n_items = r->n,
                                .parts = parts};
    nm_network_run(&job);
}

static npumoe_status make_networks(host *h, npumoe_error *err)
{
    const nm_cost_geometry *g = &h->job->geometry;
    uint64_t bytes = 0;
    while (h->n_networks < 2 || (h->n_networks < MOST_NETWORKS && bytes < COLD_BYTES)) {
        nm_cost_network *w = &h->networks[h->n_networks];
        NM_TRY(nm_cost_network_new(h->job, g->n_ff, w, err));
        h->n_networks++;
        bytes += 2 * w->gate.rows * w->gate.row_bytes + w->down.rows * w->down.row_bytes;
    }
    return NPUMOE_OK;
}

static npumoe_status measure_experts(host *h, nm_cost *out, npumoe_error *err)
{
    static const uint32_t rows[] = {1, 2, 3, 4, 8, 16, 32, 64, 128, 256};
    NM_TRY(make_networks(h, err));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const uint32_t fit = BATCH_ROWS / rows[i];
        const network_run r = {h, fit < h->n_networks ? fit : h->n_networks, rows[i], NULL};
        network_run copy = r;
        nm_cost_add_point(&out->host_expert, rows[i], nm_cost_time(run_networks, &copy) / r.n);
        NM_TRY(nm_cost_step(h->job, err));
    }
    network_run one = {h, 1, 4, NULL};
    const double more = nm_cost_time(run_networks, &one) - nm_curve_at(&out->host_expert, 4);
    out->host_region_us = more > 0.0 ? more : 0.0;
    return nm_cost_step(h->job, err);
}

static npumoe_status measure_shared(host *h, nm_cost *out, npumoe_error *err)
{
    const uint32_t chunk = h->job->chunk, n_ff = h->job->geometry.n_ff_shared;
    const uint32_t rows[] = {1, 16, chunk / 4, chunk};
    nm_cost_network w;
    if (n_ff == 0)
        return NPUMOE_OK;
    NM_TRY(nm_cost_network_new(h->job, n_ff, &w, err));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        network_run r = {h, 1, rows[i], &w};
        if (rows[i] > 0 && rows[i] <= chunk)
            nm_cost_add_point(&out->host_part[NM_PART_SHARED], rows[i],
                              nm_cost_time(run_networks, &r));
    }
    nm_cost_network_free(&w);
    return nm_cost_step(h->job, err);
}

/* ---- dense parts ---------------------------------------------------------------------------- */

typedef struct matmul_run {
    const host *h;
    const nm_mat *w;
    uint32_t n, m;
    nm_precision precision;
} matmul_run;

static void run_matmul(void *arg)
{
    const matmul_run *r = arg;
    nm_linear list[3];
    nm_compute compute = r->h->compute;
    compute.precision = r->precision;
    for (uint32_t i = 0; i < r->n; i++) /* results may overwrite each other */
        list[i] = (nm_linear){&r->w[i], NULL, r->h->yp};
    nm_matmul(&compute, list, r->n, r->m, (const float *const *)r->h->xp);
}

static npumoe_status measure_matmul(host *h, const nm_mat *w, uint32_t n, nm_precision precision,
                                    nm_curve *out, npumoe_error *err)
{
    const uint32_t chunk = h->job->chunk;
    const uint32_t rows[] = {1, 4, 16, chunk / 4, chunk};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        matmul_run r = {h, w, n, rows[i], precision};
        if (rows[i] > 0 && rows[i] <= chunk)
            nm_cost_add_point(out, rows[i], nm_cost_time(run_matmul, &r));
    }
    return nm_cost_step(h->job, err);
}

/* Matrices around attention: of queries, keys, values; of its output. fini() accepts zeros. */
typedef struct dense {
    nm_mat qkv[3], o;
} dense;

static void dense_fini(dense *d)
{
    for (int i = 0; i < 3; i++)
        nm_cost_matrix_free(&d->qkv[i]);
    nm_cost_matrix_free(&d->o);
}

/* Zeros before; to be freed after a failure, too. */
static npumoe_status dense_init(const nm_cost_job *job, dense *d, npumoe_error *err)
{
    const nm_cost_geometry *g = &job->geometry;
    const uint64_t kv[] = {(uint64_t)g->n_head * g->dim_k, (uint64_t)g->n_head_kv * g->dim_k,
                           (uint64_t)g->n_head_kv * g->dim_v};
    for (int i = 0; i < 3; i++)
        NM_TRY(nm_cost_matrix(job->type_qkv, kv[i], g->n_embd, &d->qkv[i], err));
    return nm_cost_matrix(job->type_out, g->n_embd, (uint64_t)g->n_head * g->dim_v, &d->o, err);
}

static npumoe_status measure_parts(host *h, nm_cost *out, nm_curve *router, npumoe_error *err)
{
    const nm_cost_job *job = h->job;
    const nm_cost_geometry *g = &job->geometry;
    dense d = {.o = {0}};
    nm_mat r = {0};
    const nm_precision fine =
        job->precision == NM_PRECISION_FP32 ? NM_PRECISION_FP32 : NM_PRECISION_FULL;
    const nm_precision attention = nm_precision_of_attention(job->precision);
    npumoe_status st = NPUMOE_OK;
    NM_TRY_OUT(dense_init(job, &d, err));
    NM_TRY_OUT(nm_cost_matrix(NM_TYPE_F32, g->n_expert, g->n_embd, &r, err));
    NM_TRY_OUT(measure_matmul(h, d.qkv, 3, attention, &out->host_part[NM_PART_QKV], err));
    NM_TRY_OUT(measure_matmul(h, &d.o, 1, attention, &out->host_part[NM_PART_O], err));
    NM_TRY_OUT(measure_matmul(h, &r, 1, fine, router, err));
out:
    dense_fini(&d);
    nm_cost_matrix_free(&r);
    return st;
}

/* ---- rows ----------------------------------------------------------------------------------- */

typedef struct row_run {
    host *h;
    uint32_t m;
    void (*fn)(host *h, uint32_t row);
} row_run;

static void row_region(void *arg, int thread, int n_threads)
{
    const row_run *r = arg;
    (void)thread, (void)n_threads;
    for (size_t i = nm_pool_next(r->h->job->pool); i < r->m; i = nm_pool_next(r->h->job->pool))
        r->fn(r->h, (uint32_t)i);
}

static void run_rows(void *arg)
{
    row_run *r = arg;
    nm_pool_run(r->h->job->pool, row_region, r);
}

/* What a layer does to a row beside products and attention, in the three passes that it takes; a row of one pass has
 * left the caches when the next one comes to it. Norms of queries and keys, which some models have, are in. */
static void norm_row(host *h, uint32_t i)
{
    h->job->kern->rms_norm(h->job->geometry.n_embd, h->x + i * h->width, h->x, 1e-5f,
                           h->y + i * h->width);
}

/* Queries are in y, keys and values in z, as far as they have room there. */
static void store_row(host *h, uint32_t i)
{
    const nm_kern *kern = h->job->kern;
    const nm_cost_geometry *g = &h->job->geometry;
    const float *angles = h->x; /* any numbers */
    float *q = h->y + i * h->width, *k = h->z + i * h->width;
    uint16_t *kept = h->kept + i * 2 * h->width;
    for (uint32_t head = 0; head < g->n_head; head++, q += g->dim_k) {
        kern->rms_norm(g->dim_k, q, h->x, 1e-5f, q);
        kern->rope_neox(g->dim_k & ~1u, q, angles, angles + g->dim_k);
    }
    for (uint32_t head = 0; head < g->n_head_kv; head++, kept += g->dim_k + g->dim_v) {
        float *at = k + head * (size_t)g->dim_k;
        kern->rms_norm(g->dim_k, at, h->x, 1e-5f, at);
        kern->rope_neox(g->dim_k & ~1u, at, angles, angles + g->dim_k);
        kern->f32_to_f16(g->dim_k, at, kept);
        kern->f32_to_f16(g->dim_v, at, kept + g->dim_k);
    }
}

static void join_row(host *h, uint32_t i)
{
    const nm_kern *kern = h->job->kern;
    const nm_cost_geometry *g = &h->job->geometry;
    const nm_router_rule rule = {.score = NM_SCORE_SOFTMAX};
    float *x = h->x + i * h->width, *y = h->y + i * h->width, *z = h->z + i * h->width;
    uint32_t ids[64];
    float weights[64];
    kern->axpy(g->n_embd, 0.0f, z, x);
    kern->rms_norm(g->n_embd, x, x, 1e-5f, y);
    memcpy(z, x, g->n_expert * sizeof *z);
    nm_router_pick(&rule, g->n_expert, g->n_expert_used, z, NULL, ids, weights);
}

/* Far apart, as a token's row is from the next one of its expert. */
static uint32_t spread(const host *h, uint32_t i)
{
    return (uint32_t)((uint64_t)(i + h->turn) * 40503u % h->n_rows);
}

static void gather_row(host *h, uint32_t i)
{
    memcpy(h->z + i * h->width, h->x + spread(h, i) * h->width,
           h->job->geometry.n_embd * sizeof *h->x);
}

static void scatter_row(host *h, uint32_t i)
{
    h->job->kern->axpy(h->job->geometry.n_embd, 0.1f, h->z + i * h->width,
                       h->y + spread(h, i) * h->width);
}

/* What a lane's accumulator costs: cleared before, added after. */
static void add_row(host *h, uint32_t i)
{
    memset(h->z + i * h->width, 0, h->job->geometry.n_embd * sizeof *h->z);
    h->job->kern->add(h->job->geometry.n_embd, h->z + i * h->width, h->y + i * h->width);
}

/* Memory that no rows are in, as much as puts them out of a core's own caches. */
static void read_region(void *arg, int thread, int n_threads)
{
    const host *h = arg;
    const volatile char *data = h->compute.packed;
    const size_t n = (size_t)n_threads, i = (size_t)thread;
    for (size_t at = EVICT_BYTES * i / n; at < EVICT_BYTES * (i + 1) / n; at += NM_ALIGN)
        (void)data[at];
}

/* us of passes over rows that have gone from the caches of cores, as between two of a layer's stages experts pass
 * through them. */
static double time_passes(host *h, uint32_t rows, void (*const *fn)(host *h, uint32_t row),
                          size_t n_fn)
{
    double sum = 0.0;
    for (size_t f = 0; f < n_fn; f++) {
        row_run r = {h, rows, fn[f]};
        double us[PASSES];
        for (size_t i = 0; i < PASSES; i++) {
            nm_pool_run(h->job->pool, read_region, h);
            const uint64_t start = nm_clock_ns();
            run_rows(&r);
            us[i] = (double)(nm_clock_ns() - start) * 1e-3;
        }
        sum += nm_cost_quartile(us, PASSES);
    }
    return sum;
}

static void time_layer(host *h, const nm_curve *router, nm_curve *out)
{
    static void (*const stages[])(host *, uint32_t) = {norm_row, store_row, join_row};
    const uint32_t chunk = h->job->chunk;
    const uint32_t rows[] = {1, 16, 64, 256, chunk};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i] <= h->n_rows)
            nm_cost_add_point(out, rows[i],
                              time_passes(h, rows[i], stages, 3) + nm_curve_at(router, rows[i]));
}

static void time_rows(host *h, void (*fn)(host *h, uint32_t row), nm_curve *out)
{
    const uint32_t chunk = h->job->chunk;
    const uint32_t rows[] = {1, 16, 64, 256, chunk};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        row_run r = {h, rows[i], fn};
        h->turn++;
        if (rows[i] <= h->n_rows)
            nm_cost_add_point(out, rows[i], nm_cost_time(run_rows, &r));
    }
}

static npumoe_status measure_rows(host *h, nm_cost *out, const nm_curve *router, npumoe_error *err)
{
    static void (*const add[])(host *, uint32_t) = {add_row};
    time_layer(h, router, &out->host_layer);
    time_rows(h, gather_row, &out->gather);
    time_rows(h, scatter_row, &out->scatter);
    out->join_us = time_passes(h, h->job->chunk, add, 1);
    return nm_cost_step(h->job, err);
}

/* ---- attention ------------------------------------------------------------------------------ */

typedef struct attention_run {
    const nm_compute *compute;
    nm_attention_args args;
} attention_run;

static void run_attention(void *arg)
{
    const attention_run *r = arg;
    nm_attention(r->compute, &r->args);
}

/* What attention reads and writes; zeros before, fini() accepts them. */
typedef struct attention {
    nm_npu_cache cache;
    float *q;
    attention_run run; /* of a chunk; pos0 is the caller's */
} attention;

static void attention_fini(attention *t)
{
    nm_cost_cache_fini(&t->cache);
    nm_free_aligned(nm_allocator_default(), t->q);
}

static npumoe_status attention_init(const host *h, attention *t, npumoe_error *err)
{
    const nm_cost_geometry *g = &h->job->geometry;
    const uint32_t chunk = h->job->chunk;
    const size_t q_floats = (size_t)g->n_head * g->dim_k, o_floats = (size_t)g->n_head * g->dim_v;
    const size_t bytes = chunk * (q_floats + o_floats) * sizeof *t->q;
    t->q = nm_alloc_aligned(nm_allocator_default(), bytes);
    if (t->q == NULL)
        return nm_err_nomem(err, bytes, "queries");
    NM_TRY(nm_cost_cache_init(h->job, &t->cache, err));
    for (size_t i = 0; i < chunk * q_floats; i++)
        t->q[i] = 0.01f;
    t->run = (attention_run){&h->compute,
                             {.n_q = chunk,
                              .n_head = g->n_head,
                              .n_head_kv = g->n_head_kv,
                              .dim_k = g->dim_k,
                              .dim_v = g->dim_v,
                              .scale = 0.1f,
                              .window = h->job->window,
                              .q = t->q,
                              .k = t->cache.k,
                              .v = t->cache.v,
                              .out = t->q + chunk * q_floats}};
    return NPUMOE_OK;
}

static npumoe_status measure_attention(host *h, nm_cost *out, npumoe_error *err)
{
    attention t = {.q = NULL};
    uint32_t past[NM_COST_PASTS];
    npumoe_status st = attention_init(h, &t, err);
    nm_cost_pasts(h->job, past);
    for (size_t i = 0; i < NM_COST_PASTS && st == NPUMOE_OK; i++) {
        t.run.args.pos0 = past[i];
        nm_cost_add_point(&out->host_part[NM_PART_ATTENTION], past[i] + 1,
                          nm_cost_time(run_attention, &t.run));
    }
    attention_fini(&t);
    return st == NPUMOE_OK ? nm_cost_step(h->job, err) : st;
}

/* ---- a little of each kind ------------------------------------------------------------------ */

struct nm_cost_host {
    host h;
    dense dense;
    attention attention;
};

void nm_cost_host_free(nm_cost_host **p)
{
    nm_cost_host *w = *p;
    if (w == NULL)
        return;
    attention_fini(&w->attention);
    dense_fini(&w->dense);
    host_fini(&w->h);
    nm_free(nm_allocator_default(), w);
    *p = NULL;
}

npumoe_status nm_cost_host_new(nm_cost_job *job, nm_cost_host **out, npumoe_error *err)
{
    nm_cost_host *w = nm_zalloc(nm_allocator_default(), sizeof *w);
    if (w == NULL)
        return nm_err_nomem(err, sizeof *w, "rows to measure with");
    npumoe_status st = host_init(&w->h, job, err);
    if (st == NPUMOE_OK)
        st = make_networks(&w->h, err);
    if (st == NPUMOE_OK)
        st = dense_init(job, &w->dense, err);
    if (st == NPUMOE_OK)
        st = attention_init(&w->h, &w->attention, err);
    if (st == NPUMOE_OK)
        *out = w;
    else
        nm_cost_host_free(&w);
    return st;
}

/* Rows that an expert has on average: of them and of more the host is left with few, of less with most. */
static void work_experts(nm_cost_host *w)
{
    const uint32_t mean = nm_cost_mean_rows(w->h.job);
    network_run r = {&w->h, LITTLE_NETWORKS, mean < LITTLE_ROWS ? mean : LITTLE_ROWS, NULL};
    run_networks(&r);
}

static void work_dense(nm_cost_host *w)
{
    const host *h = &w->h;
    const uint32_t m = (h->job->chunk + LITTLE_PARTS - 1) / LITTLE_PARTS;
    const nm_precision precision = nm_precision_of_attention(h->job->precision);
    matmul_run qkv = {h, w->dense.qkv, 3, m, precision}, o = {h, &w->dense.o, 1, m, precision};
    run_matmul(&qkv);
    run_matmul(&o);
}

static void work_attention(nm_cost_host *w)
{
    attention_run r = w->attention.run;
    uint32_t past[NM_COST_PASTS];
    nm_cost_pasts(w->h.job, past);
    r.args.n_q = (r.args.n_q + LITTLE_PARTS - 1) / LITTLE_PARTS;
    r.args.pos0 = past[1];
    run_attention(&r);
}

static void work_rows(nm_cost_host *w)
{
    static void (*const stages[])(host *, uint32_t) = {norm_row, store_row, join_row, gather_row,
                                                       scatter_row};
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        row_run r = {&w->h, w->h.job->chunk, stages[i]};
        run_rows(&r);
    }
    w->h.turn++;
}

void nm_cost_host_work(nm_cost_host *w, nm_cost_work work)
{
    static void (*const run[NM_COST_WORKS])(nm_cost_host *) = {
        [NM_WORK_EXPERTS] = work_experts,
        [NM_WORK_DENSE] = work_dense,
        [NM_WORK_ATTENTION] = work_attention,
        [NM_WORK_ROWS] = work_rows,
    };
    run[work](w);
}

npumoe_status nm_cost_measure_host(nm_cost_job *job, nm_cost *out, npumoe_error *err)
{
    host h;
    nm_curve router = {0};
    npumoe_status st = host_init(&h, job, err);
    if (st == NPUMOE_OK)
        st = measure_experts(&h, out, err);
    if (st == NPUMOE_OK)
        st = measure_shared(&h, out, err);
    if (st == NPUMOE_OK)
        st = measure_parts(&h, out, &router, err);
    if (st == NPUMOE_OK)
        st = measure_rows(&h, out, &router, err);
    if (st == NPUMOE_OK)
        st = measure_attention(&h, out, err);
    host_fini(&h);
    return st;
}
