/* test_attention.c: blocked attention against the formula in fp64, every tier of this machine and
 * every precision; and bit for bit: any number of threads gives the same result, in fp32 any cut of a
 * prompt into chunks, too. Nothing is written behind the scratch of the last thread. */
#include "kernels/attend.h"
#include "support/attention_exact.h"
#include "support/tiers.h"
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
    float loud; /* times ordinary numbers in q */
} shape;

enum { MAX_DIM = 576, MAX_HEADS = 128 };

static const shape shapes[] = {
    {"one token", NM_TYPE_F32, 2, 2, 16, 16, 0, 1, 0, false, 1},
    {"F32, whole prompt", NM_TYPE_F32, 4, 4, 32, 32, 0, 150, 0, false, 1},
    {"F16, groups of 4", NM_TYPE_F16, 8, 2, 64, 64, 0, 200, 100, false, 1},
    {"Q8_0, groups of 3", NM_TYPE_Q8_0, 6, 2, 96, 96, 0, 130, 64, false, 1},
    {"window 40", NM_TYPE_F16, 4, 2, 64, 64, 40, 260, 90, false, 1},
    {"window 1", NM_TYPE_F16, 2, 1, 32, 32, 1, 70, 0, false, 1},
    {"sinks and window 100", NM_TYPE_F16, 8, 1, 64, 64, 100, 300, 200, true, 1},
    {"dim_k 48, dim_v 34", NM_TYPE_F16, 3, 3, 48, 34, 0, 99, 3, false, 1},
    {"72 heads on one", NM_TYPE_F32, 72, 1, 16, 16, 0, 66, 60, false, 1},
    {"three spans", NM_TYPE_F16, 4, 2, 32, 32, 0, 2600, 2590, true, 1},
    {"three spans, window 1500", NM_TYPE_F16, 4, 1, 32, 32, 1500, 2600, 2590, false, 1},
    {"twelve spans", NM_TYPE_Q8_0, 16, 4, 32, 32, 0, 12000, 11998, true, 1},
    {"300 queries, dim 80", NM_TYPE_F16, 2, 2, 80, 80, 0, 301, 1, false, 1},
    {"F32, 257 queries, window 33", NM_TYPE_F32, 3, 3, 128, 128, 33, 270, 13, true, 1},
    {"Q8_0, groups of 7, window 128", NM_TYPE_Q8_0, 14, 2, 64, 64, 128, 400, 300, true, 1},
    {"dims 192 and 128", NM_TYPE_F16, 4, 2, 192, 128, 0, 150, 20, false, 1},
    {"128 heads on one, dims 576 and 512", NM_TYPE_F16, 128, 1, 576, 512, 0, 137, 134, false, 1},
    {"9 rows", NM_TYPE_F16, 9, 3, 128, 128, 0, 700, 697, false, 1},
    {"two queries, groups of 5", NM_TYPE_Q8_0, 10, 2, 96, 96, 0, 131, 129, true, 1},
    {"16 heads on one, parts", NM_TYPE_F16, 16, 1, 64, 64, 0, 7000, 6999, true, 1},
    {"groups of 8, parts, window 5000", NM_TYPE_Q8_0, 16, 2, 32, 32, 5000, 9001, 8997, true, 1},
    {"steep scores", NM_TYPE_F16, 8, 2, 128, 128, 0, 200, 100, false, 40},
    {"scores of some 1e5", NM_TYPE_F32, 4, 4, 64, 64, 0, 200, 100, false, 1e5f},
};

typedef struct bench {
    nm_kern kern;
    char title[80]; /* tier, shape, precision */
    nm_compute compute;
    nm_attention_args args;
    float *q, *k, *v, *out, *again; /* k and v as the cache will give them back */
    char *cache_k, *cache_v;
    float sinks[MAX_HEADS];
    bool spilled; /* something was written behind the scratch */
} bench;

enum { GUARD = 0xa5 };

static bool untouched(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    return n == 0 || (p[0] == GUARD && memcmp(p, p + 1, n - 1) == 0);
}

static void bench_scratch_drop(bench *b)
{
    nm_compute *c = &b->compute;
    if (c->pool && !untouched(nm_compute_slice(c, nm_pool_size(c->pool)), c->scratch_bytes))
        b->spilled = true;
    nm_pool_free(&c->pool);
    nm_free_aligned(nm_allocator_default(), c->scratch);
}

/* n threads with their slices of scratch, and one slice more that is nobody's. */
static void bench_scratch(bench *b, int n, size_t slice_bytes)
{
    const npumoe_allocator *a = nm_allocator_default();
    nm_compute *c = &b->compute;
    bench_scratch_drop(b);
    c->scratch_bytes = slice_bytes;
    c->scratch = nm_alloc_aligned(a, slice_bytes * ((size_t)n + 1));
    if (!c->scratch || nm_pool_new(a, n, &c->pool, NULL) != NPUMOE_OK)
        bail("out of memory");
    memset(c->scratch, GUARD, slice_bytes * ((size_t)n + 1));
}

static void bench_threads(bench *b, int n)
{
    bench_scratch(b, n, nm_compute_scratch_bytes(64, MAX_DIM));
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
    float row[MAX_DIM];
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
        b->q[i] = 2 * uniform() * s->loud;
    b->out = need(n_q * s->n_head * s->dim_v * sizeof(float));
    b->again = need(n_q * s->n_head * s->dim_v * sizeof(float));
    for (size_t h = 0; h < s->n_head; h++)
        b->sinks[h] = h % 4 == 1 ? -INFINITY : h % 4 == 2 ? 30 : 3 * uniform();
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

/* Only there do products depend on the precision. */
static bool on_tiles(const bench *b)
{
    return strcmp(b->kern.isa, "amx") == 0;
}

/* Largest |error| of one row against the formula in fp64, relative to its bound. */
static double row_error(const bench *b, const shape *s, size_t query, size_t head)
{
    const attention_exact e = {&b->args, b->k, b->v, 0, SIZE_MAX, true};
    double *scores = need(s->positions * sizeof *scores), o[MAX_DIM], worst = 0;
    const attention_row row = attention_exact_row(&e, query, head, scores, o);
    attention_planes planes = ATTENTION_FP32;
    if (on_tiles(b) && b->compute.precision != NM_PRECISION_FP32)
        planes = b->compute.precision == NM_PRECISION_FAST ? ATTENTION_ONE : ATTENTION_TWO;
    for (size_t i = 0; i < s->dim_v; i++) {
        double off = fabs(o[i] - (double)b->out[(query * s->n_head + head) * s->dim_v + i]);
        worst = off >= worst ? off : !(off <= worst) ? INFINITY : worst;
    }
    free(scores);
    return worst / attention_bound(planes, 0, row.score, row.value);
}

static void test_formula(bench *b, const shape *s)
{
    nm_attention(&b->compute, &b->args);
    double worst = 0;
    size_t step = b->args.n_q * s->n_head > 400 ? 7 : 1; /* a sample of many rows */
    for (size_t row = 0; row < b->args.n_q * s->n_head; row += step)
        worst = fmax(worst, row_error(b, s, row / s->n_head, row % s->n_head));
    ok(worst <= 1, "%s: error %.2g of what is allowed", b->title, worst);
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

static void test_threads(bench *b, const shape *s, const size_t *sizes, size_t n_sizes)
{
    size_t bytes = b->args.n_q * s->n_head * s->dim_v * sizeof(float);
    for (int n = 1; n <= 4; n++) {
        if (n == 2)
            continue; /* what all else runs with */
        bench_threads(b, n);
        run_chunks(b, sizes, n_sizes);
        is_mem(b->again, b->out, bytes, "%s: %d threads, same bits", b->title, n);
    }
    bench_threads(b, 2);
}

static void test_invariance(bench *b, const shape *s)
{
    static const size_t single[] = {1}, mixed[] = {1, 7, 2, 65, 30};
    size_t bytes = b->args.n_q * s->n_head * s->dim_v * sizeof(float);
    run_chunks(b, single, 1);
    is_mem(b->again, b->out, bytes, "%s: token by token, same bits", b->title);
    run_chunks(b, mixed, 5);
    is_mem(b->again, b->out, bytes, "%s: mixed chunks, same bits", b->title);
    test_threads(b, s, mixed, 5);
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
    ok(all_nan(b->out + others / sizeof(float), s->dim_v), "%s: NaN in q stays NaN", b->title);
    is_mem(b->out, b->again, others, "%s: the other rows are as before", b->title);
    size_t first = s->window && s->positions > s->window ? s->positions - s->window : 0;
    float key[MAX_DIM] = {NAN};
    if (s->type == NM_TYPE_Q8_0)
        return; /* this type cannot hold NaN in one element */
    b->q[(n_q * s->n_head - 1) * s->dim_k] = 1;
    nm_type_get(s->type)->encode(key, b->cache_k + first * b->args.k.pos_bytes, s->dim_k, NULL);
    nm_attention(&b->compute, &b->args);
    ok(all_nan(b->out + (n_q - 1) * row, s->dim_v), "%s: NaN in k stays NaN", b->title);
}

/* A value that is not finite, at a position that the last query alone sees. */
static void test_value(bench *b, const shape *s, float v)
{
    const size_t row = s->n_head * s->dim_v, others = (b->args.n_q - 1) * row;
    if (s->type == NM_TYPE_Q8_0 || others == 0)
        return;
    float value[MAX_DIM] = {[3] = v};
    char *at = b->cache_v + (s->positions - 1) * b->args.v.pos_bytes;
    nm_type_get(s->type)->encode(value, at, s->dim_v, NULL);
    nm_attention(&b->compute, &b->args);
    is_mem(b->out, b->again, others * sizeof(float), "%s: %g in v, the other rows are as before",
           b->title, (double)v);
    const float *got = b->out + others;
    ok(isfinite(got[2]) && !isfinite(got[3]), "%s: %g in v, one element is not finite", b->title,
       (double)v);
}

static void test_shape(bench *b, const shape *s, nm_precision precision)
{
    static const char *const names[] = {"auto", "fast", "full", "fine", "fp32"};
    static const size_t whole[] = {SIZE_MAX};
    bool fp32 = precision == NM_PRECISION_FP32;
    b->compute.precision = precision;
    snprintf(b->title, sizeof b->title, "%s, %s, %s", b->kern.isa, s->name, names[precision]);
    bench_make(b, s);
    test_formula(b, s);
    if (fp32)
        test_invariance(b, s);
    else
        test_threads(b, s, whole, 1);
    if (s->loud <= 1) {
        memcpy(b->again, b->out, b->args.n_q * s->n_head * s->dim_v * sizeof(float));
        test_value(b, s, INFINITY);
        test_value(b, s, NAN);
    }
    bench_drop(b);
    bench_make(b, s);
    test_nan(b, s);
    bench_drop(b);
    bench_threads(b, 2); /* looks behind the scratch */
    ok(!b->spilled, "%s: nothing is written behind the scratch", b->title);
    b->spilled = false;
}

/* ---- few rows in rounds --------------------------------------------------------------------- */

/* What a span leaves of all rows: max, sum and o of each. */
static size_t span_bytes(const shape *s)
{
    return (s->positions - s->first) * s->n_head * (s->dim_v + 2u) * sizeof(float);
}

/* Slices end amid a line behind their slots, so each has a gap that no slot fits into; and thread 0's
 * alone begin with the totals. */
static bool only_slots_written(const bench *b, size_t slots_bytes, size_t totals_bytes)
{
    const nm_compute *c = &b->compute;
    for (int t = 0; t < nm_pool_size(c->pool); t++) {
        const char *slice = nm_compute_slice(c, t);
        if ((t > 0 && !untouched(slice, totals_bytes)) ||
            !untouched(slice + slots_bytes, c->scratch_bytes - slots_bytes))
            return false;
    }
    return true;
}

/* Scratch for one or two spans a thread, so that the spans take several rounds: b->out, from scratch that
 * has room for all of them, bit for bit. */
static void test_small_scratch(bench *b, const shape *s, int threads, size_t per_thread)
{
    const size_t totals = span_bytes(s), slots = (1 + per_thread) * totals;
    const size_t bytes = b->args.n_q * s->n_head * s->dim_v * sizeof(float);
    nm_attention_args args = b->args;
    bool few = true, clean = true;
    args.out = b->again;
    bench_scratch(b, threads, (slots + NM_ALIGN) / NM_ALIGN * NM_ALIGN);
    for (int i = 0; i < 2; i++) { /* slots hold what the time before left */
        memset(b->again, GUARD, bytes);
        few = few && nm_attend_few(&b->compute, &args);
        clean = clean && only_slots_written(b, slots, totals);
        if (memcmp(b->again, b->out, bytes) != 0)
            break;
    }
    ok(few, "%s: %d threads with %zu spans each are enough", b->title, threads, per_thread);
    is_mem(b->again, b->out, bytes, "%s: ... same bits", b->title);
    bench_threads(b, 2);
    ok(clean && !b->spilled, "%s: ... nothing is written beside the slots", b->title);
    b->spilled = false;
}

static void test_no_room(bench *b, const shape *s)
{
    bench_scratch(b, 2, (2 * span_bytes(s) - 1) / NM_ALIGN * NM_ALIGN);
    ok(!nm_attend_few(&b->compute, &b->args), "%s: scratch for the totals alone is not", b->title);
    ok(untouched(b->compute.scratch, b->compute.scratch_bytes), "%s: ... and is left alone",
       b->title);
    bench_threads(b, 2);
}

/* Spans are of 64 positions here, so there are 15 to 22 of them. */
static void test_rounds(bench *b)
{
    static const shape rounds[] = {
        {"rounds, one token", NM_TYPE_F16, 8, 2, 64, 64, 0, 1401, 1400, false, 1},
        {"rounds, two tokens with sinks", NM_TYPE_Q8_0, 16, 4, 32, 32, 0, 1300, 1298, true, 1},
        {"rounds, window 900", NM_TYPE_F16, 4, 2, 48, 34, 900, 1403, 1399, true, 1},
    };
    b->compute.precision = NM_PRECISION_FP32; /* which few rows are, whatever is asked for */
    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0]; i++) {
        const shape *s = &rounds[i];
        snprintf(b->title, sizeof b->title, "%s, %s", b->kern.isa, s->name);
        bench_make(b, s);
        ok(nm_attend_few(&b->compute, &b->args), "%s: few rows", b->title);
        double worst = 0;
        for (size_t row = 0; row < b->args.n_q * s->n_head; row++)
            worst = fmax(worst, row_error(b, s, row / s->n_head, row % s->n_head));
        ok(worst <= 1, "%s: error %.2g of what is allowed", b->title, worst);
        for (int threads = 1; threads <= 4; threads++)
            for (size_t per_thread = 1; per_thread <= 2; per_thread++)
                test_small_scratch(b, s, threads, per_thread);
        test_no_room(b, s);
        bench_drop(b);
    }
}

/* Views of one memory, as latent attention has it: the values are the first numbers of the keys. */
static void test_shared_memory(bench *b, const shape *s, nm_precision precision)
{
    static const size_t whole[] = {SIZE_MAX};
    b->compute.precision = precision;
    snprintf(b->title, sizeof b->title, "%s, %s, %s", b->kern.isa, s->name,
             precision == NM_PRECISION_FP32 ? "fp32" : "auto");
    bench_make(b, s);
    b->args.v = b->args.k;
    for (size_t p = 0; p < s->positions * s->n_head_kv; p++)
        memcpy(b->v + p * s->dim_v, b->k + p * s->dim_k, s->dim_v * sizeof *b->v);
    test_formula(b, s);
    if (precision == NM_PRECISION_FP32)
        test_invariance(b, s);
    else
        test_threads(b, s, whole, 1);
    bench_drop(b);
}

static void test_latent(bench *b, bool slow)
{
    static const shape latent[] = {
        {"one memory", NM_TYPE_F16, 16, 1, 192, 128, 0, 90, 60, false, 1},
        {"one memory, one token", NM_TYPE_Q8_0, 16, 1, 576, 512, 0, 301, 300, false, 1},
        {"one memory, few rows", NM_TYPE_F16, 4, 1, 576, 512, 0, 200, 198, true, 1},
        {"one memory, window", NM_TYPE_F32, 20, 1, 96, 64, 33, 150, 100, true, 1},
        {"one memory, two KV heads", NM_TYPE_F16, 6, 2, 80, 48, 0, 140, 7, false, 1},
    };
    for (size_t i = 0; i < sizeof latent / sizeof latent[0]; i++) {
        if (slow && latent[i].dim_k > 192)
            continue;
        test_shared_memory(b, &latent[i], NM_PRECISION_AUTO);
        test_shared_memory(b, &latent[i], NM_PRECISION_FP32);
    }
}

/* Rows that `auto` streams the cache for, without a matrix unit too. */
static bool is_few(const shape *s)
{
    return (s->positions - s->first) * (s->n_head / s->n_head_kv) <= 8;
}

static void test_tier(const nm_kern *kern)
{
    bench *b = need(sizeof *b);
    b->kern = *kern;
    b->compute.kern = &b->kern;
    bench_threads(b, 2);
    bool slow = nm_kern_tier(1) && strcmp(kern->isa, "scalar") == 0;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (slow && (shapes[i].positions > 1000 || shapes[i].dim_k > 128))
            continue;     /* long contexts are about spans, which all tiers share */
        if (!on_tiles(b)) /* its fp32 is that of the tier below */
            test_shape(b, &shapes[i], NM_PRECISION_FP32);
        if (on_tiles(b))
            for (nm_precision p = NM_PRECISION_AUTO; p <= NM_PRECISION_FULL; p++)
                test_shape(b, &shapes[i], p);
        else if (b->kern.attend_task || is_few(&shapes[i]))
            test_shape(b, &shapes[i], NM_PRECISION_AUTO);
    }
    test_latent(b, slow);
    test_rounds(b);
    bench_scratch_drop(b);
    free(b);
}

int main(void)
{
    nm_kern kern;
    note("seed %llu", (unsigned long long)seed);
    for (size_t at = 0; tiers_next_kern(&at, &kern);)
        test_tier(&kern);
    return done_testing();
}
