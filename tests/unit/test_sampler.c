/* test_sampler: the sampler against definitions written down directly (sort everything, then cut),
 * its distribution by chi-square, the penalties' window against a recount, and bad input.
 *
 * The seed is fixed, so the statistical checks either always pass or always fail. */
#include "engine/sampler.h"

#include "tap.h"

#include <math.h>

#define SEED 20261121u

enum { MAX_VOCAB = 300 };

/* ---- helpers ------------------------------------------------------------------------------ */

static uint64_t lcg_state = SEED;

static uint32_t random_u32(void)
{
    lcg_state = lcg_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(lcg_state >> 32);
}

static float random_logit(void)
{
    return (float)((double)random_u32() / 4294967296.0 * 12.0 - 6.0);
}

/* Everything off: greedy decided by temp alone. */
static npumoe_sampler_options plain(float temp)
{
    npumoe_sampler_options o = npumoe_sampler_options_default();
    o.seed = SEED;
    o.temp = temp;
    o.top_k = 0;
    o.top_p = 1.0f;
    o.min_p = 0.0f;
    return o;
}

static npumoe_sampler *make(size_t n_vocab, const npumoe_sampler_options *o)
{
    npumoe_sampler *s = NULL;
    npumoe_error err = {0};
    if (nm_sampler_new(nm_allocator_default(), n_vocab, o, &s, &err) != NPUMOE_OK)
        bail("cannot make a sampler: %s", err.message);
    return s;
}

static npumoe_token pick(npumoe_sampler *s, const float *logits)
{
    npumoe_token t = -1;
    npumoe_error err = {0};
    if (npumoe_sampler_pick(s, logits, &t, &err) != NPUMOE_OK)
        bail("cannot pick: %s", err.message);
    return t;
}

/* ---- the definition ----------------------------------------------------------------------- */

typedef struct entry {
    double logit, p;
    int id;
} entry;

static int by_logit(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return x->id - y->id;
}

/* Probabilities of all tokens after top-k, top-p, min-p and temperature, each step written as in
 * its definition: sort, cut, normalise, cut, ... */
static void reference(const float *logits, int n, const npumoe_sampler_options *o, double *out)
{
    entry e[MAX_VOCAB];
    for (int i = 0; i < n; i++)
        e[i] = (entry){.logit = (double)logits[i], .id = i};
    qsort(e, (size_t)n, sizeof e[0], by_logit);
    int m = o->top_k > 0 && o->top_k < n ? o->top_k : n;
    double sum = 0.0, cum = 0.0;
    for (int i = 0; i < m; i++)
        sum += e[i].p = exp(e[i].logit - e[0].logit);
    if (o->top_p < 1.0f)
        for (int i = 0; i < m; i++) {
            cum += e[i].p / sum;
            if (cum >= (double)o->top_p) {
                m = i + 1;
                break;
            }
        }
    for (int i = 1; i < m; i++)
        if (e[i].p < (double)o->min_p * e[0].p) {
            m = i;
            break;
        }
    sum = 0.0;
    for (int i = 0; i < m; i++)
        sum += e[i].p = exp((e[i].logit - e[0].logit) / (double)o->temp);
    for (int i = 0; i < n; i++)
        out[i] = 0.0;
    for (int i = 0; i < m; i++)
        out[e[i].id] = e[i].p / sum;
}

/* ---- distribution ------------------------------------------------------------------------- */

/* Draws many times and compares the counts with the definition. Tokens that are expected fewer than
 * 10 times are pooled. The limit is mean + 5 standard deviations of chi-square. */
static void check_distribution(const char *what, const float *logits, int n,
                               const npumoe_sampler_options *o)
{
    enum { DRAWS = 40000 };
    double expect[MAX_VOCAB], chi = 0.0, pooled_expect = 0.0, pooled_got = 0.0;
    int counts[MAX_VOCAB] = {0}, cells = 0, forbidden = 0;
    reference(logits, n, o, expect);
    npumoe_sampler *s = make((size_t)n, o);
    for (int i = 0; i < DRAWS; i++)
        counts[pick(s, logits)]++;
    npumoe_sampler_free(&s);
    for (int i = 0; i < n; i++) {
        double e = expect[i] * DRAWS, d = (double)counts[i] - e;
        if (expect[i] == 0.0)
            forbidden += counts[i];
        else if (e < 10.0) {
            pooled_expect += e;
            pooled_got += (double)counts[i];
        } else {
            chi += d * d / e;
            cells++;
        }
    }
    if (pooled_expect > 0.5) {
        chi += (pooled_got - pooled_expect) * (pooled_got - pooled_expect) / pooled_expect;
        cells++;
    }
    double df = cells > 1 ? cells - 1 : 1;
    is_int(forbidden, 0, "%s: nothing outside the cut is drawn", what);
    ok(chi < df + 5.0 * sqrt(2.0 * df), "%s: chi-square %.1f with %.0f degrees of freedom", what,
       chi, df);
}

static void test_distribution(void)
{
    float logits[MAX_VOCAB];
    for (int i = 0; i < MAX_VOCAB; i++)
        logits[i] = random_logit();
    npumoe_sampler_options o = plain(1.0f);
    check_distribution("softmax", logits, 50, &o);
    o.temp = 0.3f;
    check_distribution("temperature 0.3", logits, 50, &o);
    o.temp = 2.5f;
    check_distribution("temperature 2.5", logits, MAX_VOCAB, &o);
    o = plain(1.0f);
    o.top_k = 7;
    check_distribution("top-k 7", logits, MAX_VOCAB, &o);
    o = plain(1.3f);
    o.top_p = 0.6f;
    check_distribution("top-p 0.6", logits, MAX_VOCAB, &o);
    o = plain(0.8f);
    o.min_p = 0.2f;
    check_distribution("min-p 0.2", logits, MAX_VOCAB, &o);
    o = npumoe_sampler_options_default();
    o.seed = SEED;
    check_distribution("the defaults", logits, MAX_VOCAB, &o);
    for (int i = 0; i < MAX_VOCAB; i++)
        logits[i] = 0.5f;
    o = plain(1.0f);
    o.top_k = 10;
    check_distribution("top-k among equals takes the first ids", logits, MAX_VOCAB, &o);
}

/* Which tokens can be drawn at all, for many random settings: with temp huge all kept tokens come
 * up soon. */
static void test_cuts(void)
{
    int wrong = 0;
    for (int round = 0; round < 200; round++) {
        float logits[MAX_VOCAB];
        double expect[MAX_VOCAB];
        int n = 2 + (int)(random_u32() % 60);
        for (int i = 0; i < n; i++)
            logits[i] = round % 3 ? random_logit() : (float)(random_u32() % 4); /* with ties */
        npumoe_sampler_options o = plain(1e4f);
        o.top_k = (int32_t)(random_u32() % 80);
        o.top_p = round % 4 == 0 ? 1.0f : 0.05f + (float)(random_u32() % 90) / 100.0f;
        o.min_p = round % 5 == 0 ? 0.0f : (float)(random_u32() % 100) / 100.0f;
        reference(logits, n, &o, expect);
        bool seen[MAX_VOCAB] = {false};
        npumoe_sampler *s = make((size_t)n, &o);
        for (int i = 0; i < 1500; i++)
            seen[pick(s, logits)] = true;
        npumoe_sampler_free(&s);
        for (int i = 0; i < n; i++)
            wrong += seen[i] != (expect[i] > 0.0);
    }
    is_int(wrong, 0, "the kept sets of 200 random settings are those of the definition");
}

/* ---- determinism -------------------------------------------------------------------------- */

static void test_seed(void)
{
    float logits[100];
    for (int i = 0; i < 100; i++)
        logits[i] = random_logit();
    npumoe_sampler_options o = npumoe_sampler_options_default();
    o.seed = 1;
    npumoe_sampler *a = make(100, &o), *b = make(100, &o);
    o.seed = 2;
    npumoe_sampler *c = make(100, &o);
    int same = 0, differs = 0;
    for (int i = 0; i < 200; i++) {
        npumoe_token t = pick(a, logits);
        same += t == pick(b, logits);
        differs += t != pick(c, logits);
    }
    is_int(same, 200, "one seed gives one sequence");
    ok(differs > 20, "another seed gives another");
    is_u64(npumoe_sampler_seed(c), 2, "the seed can be asked for");
    npumoe_sampler_free(&a);
    npumoe_sampler_free(&b);
    npumoe_sampler_free(&c);

    /* The generator is part of the contract ("same seed, same picks"), so its first numbers are
     * pinned through picks of a uniform distribution: xoshiro256** seeded by splitmix64(42),
     * computed by an independent program. */
    static const npumoe_token want[8] = {83, 378, 680, 924, 991, 769, 719, 850};
    float flat[1000] = {0};
    o = plain(1.0f);
    o.seed = 42;
    a = make(1000, &o);
    for (int i = 0; i < 8; i++)
        is_int(pick(a, flat), want[i], "draw %d of seed 42", i);
    npumoe_sampler_free(&a);

    o.seed = NPUMOE_SEED_RANDOM;
    a = make(10, &o);
    b = make(10, &o);
    ok(npumoe_sampler_seed(a) != npumoe_sampler_seed(b), "random seeds differ");
    npumoe_sampler_free(&a);
    npumoe_sampler_free(&b);
}

/* ---- greedy, bias, penalties -------------------------------------------------------------- */

static void test_greedy(void)
{
    float logits[5] = {1.0f, 3.0f, 3.0f, -2.0f, 0.0f};
    npumoe_sampler_options o = plain(0.0f);
    npumoe_sampler *s = make(5, &o);
    is_int(pick(s, logits), 1, "greedy takes the largest, the first of equals");
    npumoe_sampler_free(&s);
    npumoe_logit_bias bias[] = {{1, -INFINITY}, {2, -4.0f}, {4, 1.5f}};
    o.logit_bias = bias;
    o.n_logit_bias = 3;
    s = make(5, &o);
    is_int(pick(s, logits), 4, "biases are added, -infinity forbids");
    npumoe_sampler_free(&s);
    bias[0] = (npumoe_logit_bias){3, INFINITY};
    o.temp = 1.0f;
    s = make(5, &o);
    is_int(pick(s, logits), 3, "+infinity forces");
    npumoe_sampler_free(&s);
    float hidden[3] = {-INFINITY, -INFINITY, -5.0f};
    o = plain(1.0f);
    s = make(3, &o);
    int others = 0;
    for (int i = 0; i < 1000; i++)
        others += pick(s, hidden) != 2;
    is_int(others, 0, "a logit of -infinity is never drawn");
    npumoe_sampler_free(&s);
}

/* Greedy over penalised logits, against a recount of the last tokens. */
static void test_penalties(void)
{
    enum { N = 12, STEPS = 400 };
    const int windows[] = {-1, 1, 5, 64};
    for (size_t w = 0; w < 4; w++) {
        npumoe_sampler_options o = plain(0.0f);
        o.repeat_penalty = 1.3f;
        o.presence_penalty = 0.2f;
        o.frequency_penalty = 0.15f;
        o.penalty_last_n = windows[w];
        npumoe_sampler *s = make(N, &o);
        npumoe_token text[STEPS];
        int wrong = 0;
        for (int step = 0; step < STEPS; step++) {
            float logits[N];
            int best = 0, from = windows[w] < 0 || step < windows[w] ? 0 : step - windows[w];
            float best_logit = -INFINITY;
            for (int i = 0; i < N; i++) {
                logits[i] = random_logit() / 3.0f;
                int count = 0;
                for (int j = from; j < step; j++)
                    count += text[j] == i;
                float l = logits[i];
                if (count) {
                    l = l > 0.0f ? l / o.repeat_penalty : l * o.repeat_penalty;
                    l = l - (float)count * o.frequency_penalty - o.presence_penalty;
                }
                if (l > best_logit) {
                    best_logit = l;
                    best = i;
                }
            }
            npumoe_token t = pick(s, logits);
            wrong += t != best;
            text[step] = t;
            npumoe_sampler_accept(s, t);
        }
        is_int(wrong, 0, "penalties over the last %d tokens", windows[w]);
        nm_sampler_set_history(s, text, STEPS);
        float first[N] = {0}, again[N] = {0};
        npumoe_token a = pick(s, first);
        nm_sampler_set_history(s, text, STEPS);
        is_int(pick(s, again), a, "history of %d set twice counts once", windows[w]);
        npumoe_sampler_free(&s);
    }
}

/* A penalty lowers a logit on either side of zero. */
static void test_penalty_sign(void)
{
    npumoe_sampler_options o = plain(0.0f);
    o.repeat_penalty = 1.3f;
    npumoe_sampler *s = make(2, &o);
    npumoe_sampler_accept(s, 0);
    is_int(pick(s, (const float[]){-0.5f, -0.55f}), 1, "a negative logit is multiplied");
    is_int(pick(s, (const float[]){0.6f, 0.55f}), 1, "a positive one is divided");
    is_int(pick(s, (const float[]){0.8f, 0.55f}), 0, "... and no more than that");
    npumoe_sampler_free(&s);
}

/* ---- bad input ---------------------------------------------------------------------------- */

static void refused(const npumoe_sampler_options *o, const char *want)
{
    npumoe_sampler *s = NULL;
    npumoe_error err = {0};
    npumoe_status st = nm_sampler_new(nm_allocator_default(), 10, o, &s, &err);
    is_int(st, NPUMOE_EINVAL, "refused: %s", want);
    is_str(err.message, want, "... with these words");
    ok(s == NULL, "... and makes nothing");
}

static void test_bad_input(void)
{
    npumoe_sampler_options o = plain(1.0f);
    o.temp = NAN;
    refused(&o, "sampler: temp is not a finite number");
    o = plain(1.0f);
    o.repeat_penalty = 0.0f;
    refused(&o, "sampler: repeat_penalty 0 must be above 0");
    o = plain(1.0f);
    o.top_p = -0.5f;
    refused(&o, "sampler: top_p -0.5 must be 0 or more");
    o = plain(1.0f);
    o.min_p = 1.5f;
    refused(&o, "sampler: min_p 1.5 must be in 0 .. 1");
    o = plain(1.0f);
    o.penalty_last_n = -2;
    refused(&o, "sampler: penalty_last_n -2 must be -1 or more");
    o = plain(1.0f);
    npumoe_logit_bias bias = {10, 1.0f};
    o.logit_bias = &bias;
    o.n_logit_bias = 1;
    refused(&o, "sampler: logit bias for token 10, but the vocabulary has 10");

    float logits[10] = {0};
    o = plain(0.0f);
    npumoe_sampler *s = make(10, &o);
    npumoe_token t = -7;
    npumoe_error err = {0};
    logits[6] = NAN;
    is_int(npumoe_sampler_pick(s, logits, &t, &err), NPUMOE_EMODEL, "NaN is an error");
    is_str(err.message,
           "the logit of token 6 is not a number: the weights are broken, or a kernel is",
           "... that names the token");
    is_int(t, -7, "... and picks nothing");
    logits[6] = INFINITY;
    is_int(npumoe_sampler_pick(s, logits, &t, &err), NPUMOE_EMODEL, "+infinity too");
    for (int i = 0; i < 10; i++)
        logits[i] = -INFINITY;
    is_int(npumoe_sampler_pick(s, logits, &t, &err), NPUMOE_EINVAL, "nothing allowed is an error");
    npumoe_sampler_free(&s);
    npumoe_sampler_free(&s);
    ok(s == NULL, "freeing twice is fine");
}

/* ---- allocation --------------------------------------------------------------------------- */

typedef struct counter {
    int calls, fail_at, living;
} counter;

static void *count_realloc(void *ctx, void *ptr, size_t bytes)
{
    counter *c = ctx;
    if (++c->calls == c->fail_at)
        return NULL;
    c->living += ptr == NULL;
    return realloc(ptr, bytes);
}

static void count_free(void *ctx, void *ptr)
{
    ((counter *)ctx)->living -= ptr != NULL;
    free(ptr);
}

static void test_allocation(void)
{
    counter c = {0};
    const npumoe_allocator a = {&c, count_realloc, count_free};
    npumoe_sampler_options o = npumoe_sampler_options_default();
    npumoe_logit_bias bias = {1, 1.0f};
    o.logit_bias = &bias;
    o.n_logit_bias = 1;
    o.repeat_penalty = 1.1f;
    npumoe_sampler *s = NULL;
    is_int(nm_sampler_new(&a, 100, &o, &s, NULL), NPUMOE_OK, "counted sampler");
    int calls = c.calls;
    float logits[100] = {0};
    for (int i = 0; i < 50; i++)
        npumoe_sampler_accept(s, pick(s, logits));
    is_int(c.calls, calls, "picking allocates nothing");
    npumoe_sampler_free(&s);
    is_int(c.living, 0, "everything is freed");
    int bad = 0;
    for (int at = 1; at <= calls; at++) {
        c = (counter){.fail_at = at};
        bad += nm_sampler_new(&a, 100, &o, &s, NULL) != NPUMOE_ENOMEM || c.living != 0;
    }
    is_int(bad, 0, "each of %d allocations may fail: ENOMEM, no leak", calls);
}

int main(void)
{
    note("seed %u", SEED);
    test_distribution();
    test_cuts();
    test_seed();
    test_greedy();
    test_penalties();
    test_penalty_sign();
    test_bad_input();
    test_allocation();
    return done_testing();
}
