/* test_attention.c: blocked attention against the formula in fp64, every tier of this machine; and
 * bit for bit: any cut of a prompt into chunks and any number of threads give the same result. */
#include "kernels/attention.h"
#include "tap.h"

static uint64_t seed = 977;

static float uniform(void)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(int32_t)(seed >> 32) / 2147483648.0f;
}

typedef struct shape {
    const char *name;
    uint32_t type, n_head, n_head_kv, dim_k, dim_v, window;
    size_t positions, first; /* queries: first .. positions - 1 */
    bool sinks;
} shape;

static const shape shapes[] = {
    {"one token", NM_TYPE_F32, 2, 2, 16, 16, 0, 1, 0, false},
    {"F32, whole prompt", NM_TYPE_F32, 4, 4, 32, 32, 0, 150, 0, false},
    {"F16, groups of 4", NM_TYPE_F16, 8, 2, 64, 64, 0, 200, 100, false},
    {"Q8_0, groups of 3", NM_TYPE_Q8_0, 6, 2, 96, 96, 0, 130, 64, false},
    {"window 40", NM_TYPE_F16, 4, 2, 64, 64, 40, 260, 90, false},
    {"window 1", NM_TYPE_F16, 2, 1, 32, 32, 1, 70, 0, false},
    {"sinks and window 100", NM_TYPE_F16, 8, 1, 64, 64, 100, 300, 200, true},
    {"dim_k 48, dim_v 34", NM_TYPE_F16, 3, 3, 48, 34, 0, 99, 3, false},
    {"72 heads on one", NM_TYPE_F32, 72, 1, 16, 16, 0, 66, 60, false},
    {"three spans", NM_TYPE_F16, 4, 2, 32, 32, 0, 2600, 2590, true},
    {"three spans, window 1500", NM_TYPE_F16, 4, 1, 32, 32, 1500, 2600, 2590, false},
    {"twelve spans", NM_TYPE_Q8_0, 16, 4, 32, 32, 0, 12000, 11998, true},
};

typedef struct bench {
    nm_kern kern;
    nm_compute compute;
    nm_attention_args args;
    float *q, *k, *v, *out, *again; /* k and v as the cache will give them back */
    char *cache_k, *cache_v;
    float sinks[128];
} bench;

static void bench_threads(bench *b, int n)
{
    const npumoe_allocator *a = nm_allocator_default();
    nm_pool_free(&b->compute.pool);
    nm_free_aligned(a, b->compute.scratch);
    b->compute.scratch_bytes = nm_compute_scratch_bytes(64, 128);
    b->compute.scratch = nm_alloc_aligned(a, b->compute.scratch_bytes * (size_t)n);
    if (!b->compute.scratch || nm_pool_new(a, n, &b->compute.pool, NULL) != NPUMOE_OK)
        bail("out of memory");
}

static void *need(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (!p)
        bail("out of memory");
    return p;
}

/* A cache filled with noise; positions after the last query hold NaN where the type can. */
static nm_kv_view make_cache(const shape *s, uint32_t dim, char **cache, float **decoded)
{
    const nm_type_traits *t = nm_type_get(s->type);
    size_t spare = 70, head_bytes = (size_t)dim / t->block_elems * t->block_bytes;
    nm_kv_view view = {s->type, NULL, s->n_head_kv * head_bytes + 32, head_bytes};
    *cache = need((s->positions + spare) * view.pos_bytes);
    memset(*cache, 0xff, (s->positions + spare) * view.pos_bytes);
    *decoded = need(s->positions * s->n_head_kv * dim * sizeof(float));
    float row[128];
    for (size_t p = 0; p < s->positions; p++)
        for (size_t h = 0; h < s->n_head_kv; h++) {
            for (size_t i = 0; i < dim; i++)
                row[i] = 2 * uniform();
            char *at = *cache + p * view.pos_bytes + h * view.head_bytes;
            t->encode(row, at, dim, NULL);
            t->decode(at, *decoded + (p * s->n_head_kv + h) * dim, dim);
        }
    view.data = *cache;
    return view;
}

static void bench_make(bench *b, const shape *s)
{
    size_t n_q = s->positions - s->first;
    nm_kv_view k = make_cache(s, s->dim_k, &b->cache_k, &b->k);
    nm_kv_view v = make_cache(s, s->dim_v, &b->cache_v, &b->v);
    b->q = need(n_q * s->n_head * s->dim_k * sizeof(float));
    for (size_t i = 0; i < n_q * s->n_head * s->dim_k; i++)
        b->q[i] = 2 * uniform();
    b->out = need(n_q * s->n_head * s->dim_v * sizeof(float));
    b->again = need(n_q * s->n_head * s->dim_v * sizeof(float));
    for (size_t h = 0; h < s->n_head; h++)
        b->sinks[h] = 3 * uniform();
    b->args = (nm_attention_args){.n_q = n_q,
                                  .pos0 = s->first,
                                  .n_head = s->n_head,
                                  .n_head_kv = s->n_head_kv,
                                  .dim_k = s->dim_k,
                                  .dim_v = s->dim_v,
                                  .scale = 1.0f / sqrtf((float)s->dim_k),
                                  .window = s->window,
                                  .sinks = s->sinks ? b->sinks : NULL,
                                  .q = b->q,
                                  .k = k,
                                  .v = v,
                                  .out = b->out};
}

static void bench_drop(bench *b)
{
    free(b->q);
    free(b->k);
    free(b->v);
    free(b->out);
    free(b->again);
    free(b->cache_k);
    free(b->cache_v);
}

/* Largest |error| of one row against the formula, all in fp64. */
static double row_error(const bench *b, const shape *s, size_t query, size_t head)
{
    size_t p1 = s->first + query + 1, p0 = s->window && p1 > s->window ? p1 - s->window : 0;
    size_t kv = head / (s->n_head / s->n_head_kv), n_kv = s->n_head_kv;
    const float *q = b->q + (query * s->n_head + head) * s->dim_k;
    double *score = need(p1 * sizeof *score);
    double max = s->sinks ? (double)b->sinks[head] : -INFINITY;
    for (size_t p = p0; p < p1; p++) {
        for (size_t i = 0; i < s->dim_k; i++)
            score[p] += (double)q[i] * (double)b->k[(p * n_kv + kv) * s->dim_k + i];
        score[p] *= (double)b->args.scale;
        max = score[p] > max ? score[p] : max;
    }
    double sum = s->sinks ? exp((double)b->sinks[head] - max) : 0, worst = 0;
    for (size_t p = p0; p < p1; p++)
        sum += score[p] = exp(score[p] - max);
    for (size_t i = 0; i < s->dim_v; i++) {
        double o = 0;
        for (size_t p = p0; p < p1; p++)
            o += score[p] * (double)b->v[(p * n_kv + kv) * s->dim_v + i];
        double e = fabs(o / sum - (double)b->out[(query * s->n_head + head) * s->dim_v + i]);
        worst = e >= worst ? e : !(e <= worst) ? INFINITY : worst;
    }
    free(score);
    return worst;
}

/* Values are within 2 in magnitude and scores within some 4 sqrt(dim): an error of the score is
 * 1e-6 of that, and the result carries it times |v|. */
static const double limit = 2e-5;

static void test_formula(bench *b, const shape *s)
{
    nm_attention(&b->compute, &b->args);
    double worst = 0;
    for (size_t query = 0; query < b->args.n_q; query++)
        for (size_t h = 0; h < s->n_head; h++)
            worst = fmax(worst, row_error(b, s, query, h));
    ok(worst <= limit, "%s, %s: error %.2g", b->kern.isa, s->name, worst);
}

/* Chunks of these sizes in turn, from the first query on, into `again`. */
static void run_chunks(bench *b, const size_t *sizes, size_t n_sizes)
{
    size_t n_q = b->args.n_q;
    for (size_t at = 0, i = 0; at < n_q; i++) {
        nm_attention_args part = b->args;
        part.n_q = sizes[i % n_sizes] < n_q - at ? sizes[i % n_sizes] : n_q - at;
        part.pos0 += at;
        part.q += at * part.n_head * part.dim_k;
        part.out = b->again + at * part.n_head * part.dim_v;
        nm_attention(&b->compute, &part);
        at += part.n_q;
    }
}

static void test_invariance(bench *b, const shape *s)
{
    static const size_t single[] = {1}, mixed[] = {1, 7, 2, 65, 30};
    size_t bytes = b->args.n_q * s->n_head * s->dim_v * sizeof(float);
    run_chunks(b, single, 1);
    is_mem(b->again, b->out, bytes, "%s, %s: token by token, same bits", b->kern.isa, s->name);
    run_chunks(b, mixed, 5);
    is_mem(b->again, b->out, bytes, "%s, %s: mixed chunks, same bits", b->kern.isa, s->name);
    for (int n = 1; n <= 3; n += 2) {
        bench_threads(b, n);
        run_chunks(b, mixed, 5);
        is_mem(b->again, b->out, bytes, "%s, %s: %d threads, same bits", b->kern.isa, s->name, n);
    }
    bench_threads(b, 2);
}

static bool all_nan(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isnan(x[i]))
            return false;
    return true;
}

/* A query with NaN sees nothing but NaN scores: its row is NaN, not zeros, and no other row is
 * touched. Then one key with NaN, at the first position that the last query sees. */
static void test_nan(bench *b, const shape *s)
{
    const size_t row = s->n_head * s->dim_v, n_q = b->args.n_q;
    const size_t others = ((n_q - 1) * row + row - s->dim_v) * sizeof(float);
    nm_attention(&b->compute, &b->args);
    memcpy(b->again, b->out, n_q * row * sizeof(float));
    b->q[(n_q * s->n_head - 1) * s->dim_k] = NAN;
    nm_attention(&b->compute, &b->args);
    ok(all_nan(b->out + others / sizeof(float), s->dim_v), "%s, %s: NaN in q stays NaN",
       b->kern.isa, s->name);
    is_mem(b->out, b->again, others, "%s, %s: the other rows are as before", b->kern.isa, s->name);
    size_t first = s->window && s->positions > s->window ? s->positions - s->window : 0;
    float key[128] = {NAN};
    if (s->type == NM_TYPE_Q8_0)
        return; /* this type cannot hold NaN in one element */
    b->q[(n_q * s->n_head - 1) * s->dim_k] = 1;
    nm_type_get(s->type)->encode(key, b->cache_k + first * b->args.k.pos_bytes, s->dim_k, NULL);
    nm_attention(&b->compute, &b->args);
    ok(all_nan(b->out + (n_q - 1) * row, s->dim_v), "%s, %s: NaN in k stays NaN", b->kern.isa,
       s->name);
}

static void test_tier(const char *tier, const nm_cpu *cpu)
{
    bench *b = need(sizeof *b);
    if (nm_kern_init(&b->kern, cpu, tier, NULL) != NPUMOE_OK)
        bail("tier %s", tier);
    b->compute.kern = &b->kern;
    bench_threads(b, 2);
    bool slow = nm_kern_tier(1) && strcmp(tier, "scalar") == 0;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (slow && shapes[i].positions > 1000)
            continue; /* long contexts are about spans, which all tiers share */
        bench_make(b, &shapes[i]);
        test_formula(b, &shapes[i]);
        test_invariance(b, &shapes[i]);
        test_nan(b, &shapes[i]);
        bench_drop(b);
    }
    nm_pool_free(&b->compute.pool);
    nm_free_aligned(nm_allocator_default(), b->compute.scratch);
    free(b);
}

int main(void)
{
    nm_cpu cpu = nm_cpu_detect();
    for (size_t i = 0; nm_kern_tier(i); i++)
        if (nm_kern_tier_usable(nm_kern_tier(i), &cpu))
            test_tier(nm_kern_tier(i), &cpu);
    return done_testing();
}
