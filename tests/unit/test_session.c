/* Model and session end to end on tiny seeded models of every family: whatever way a position is
 * reached (chunk size, reuse, rewind, threads), its logits are the same bits; nothing is allocated
 * while evaluating; every allocation may fail. Values against independent references: tests/golden. */
#include "support/counting.h"
#include "support/tiers.h"
#include "support/tiny.h"
#include "tap.h"

#include "engine/session.h"

#include <pthread.h>
#include <unistd.h>

enum { N_PROMPT = 130, N_CTX = 160 };

static npumoe_token prompt[N_CTX];

/* ---- helpers -------------------------------------------------------------------------------- */

static npumoe_model *load_with(const char *isa, int n_threads, npumoe_precision precision)
{
    npumoe_model_options o = npumoe_model_options_default();
    npumoe_model *m = NULL;
    npumoe_error err;
    o.isa = isa;
    o.precision = precision;
    o.n_threads = n_threads;
    if (npumoe_model_load(tiny_path(), &o, &m, &err) != NPUMOE_OK)
        bail("cannot load: %s", err.message);
    return m;
}

/* In fp32, where the same bits are promised however a position is reached. */
static npumoe_model *load(const char *isa, int n_threads)
{
    return load_with(isa, n_threads, NPUMOE_PRECISION_FP32);
}

static npumoe_session *open_session(npumoe_model *m, uint32_t n_chunk, npumoe_kv_type kv)
{
    npumoe_session_options o = npumoe_session_options_default();
    npumoe_session *s = NULL;
    npumoe_error err;
    o.n_ctx = N_CTX;
    o.n_chunk = n_chunk;
    o.type_k = o.type_v = kv;
    if (npumoe_session_new(m, &o, &s, &err) != NPUMOE_OK)
        bail("no session: %s", err.message);
    return s;
}

static size_t n_vocab(npumoe_model *m)
{
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_model_get_info(m, &info);
    return (size_t)info.n_vocab;
}

typedef struct sink {
    float *rows;
    size_t n_vocab, next, count;
    size_t stop_at; /* cancel after that many rows; 0 = never */
} sink;

static bool collect(void *user, size_t position, const float *logits)
{
    sink *k = user;
    if (position != k->next)
        return false;
    k->next++;
    memcpy(k->rows + position * k->n_vocab, logits, k->n_vocab * sizeof *logits);
    return ++k->count != k->stop_at;
}

/* Logits of positions [from, n) into a fresh array of n rows; the caller frees. */
static float *logits_from(npumoe_session *s, npumoe_model *m, size_t n, size_t from)
{
    sink k = {.n_vocab = n_vocab(m), .next = from};
    k.rows = calloc(n * k.n_vocab, sizeof *k.rows);
    npumoe_eval_options o = npumoe_eval_options_default();
    npumoe_error err = {0};
    o.on_logits = collect;
    o.user = &k;
    o.logits_from = from;
    if (k.rows == NULL || npumoe_session_eval(s, prompt, n, &o, &err) != NPUMOE_OK || k.next != n)
        bail("evaluation failed: %s", err.message);
    return k.rows;
}

/* All logits of the prompt by a session of its own. */
static float *fresh_logits(npumoe_model *m, size_t n, uint32_t n_chunk, npumoe_kv_type kv)
{
    npumoe_session *s = open_session(m, n_chunk, kv);
    float *rows = logits_from(s, m, n, 0);
    npumoe_session_free(&s);
    return rows;
}

static bool eval(npumoe_session *s, size_t n)
{
    npumoe_error err = {0};
    if (npumoe_session_eval(s, prompt, n, NULL, &err) == NPUMOE_OK)
        return true;
    fprintf(stderr, "# %s\n", err.message);
    return false;
}

static double worst_difference(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst;
}

static size_t arg_max(const float *x, size_t n)
{
    size_t at = 0;
    for (size_t i = 1; i < n; i++)
        at = x[i] > x[at] ? i : at;
    return at;
}

/* Positions at which both have the same first choice. */
static size_t agreeing(const float *a, const float *b, size_t n, size_t width)
{
    size_t same = 0;
    for (size_t i = 0; i < n; i++)
        same += arg_max(a + i * width, width) == arg_max(b + i * width, width);
    return same;
}

static void make_prompt(uint32_t vocab)
{
    uint32_t state = 99;
    for (size_t i = 0; i < N_CTX; i++) {
        state = state * 1664525u + 1013904223u;
        prompt[i] = (npumoe_token)((state >> 8) % vocab);
    }
}

/* ---- the same bits however a position is reached ------------------------------------------- */

static void check_chunks(const char *what, npumoe_model *m, const float *want, size_t bytes)
{
    static const uint32_t chunks[] = {1, 7, 64};
    for (size_t i = 0; i < 3; i++) {
        float *got = fresh_logits(m, N_PROMPT, chunks[i], NPUMOE_KV_F16);
        ok(memcmp(got, want, bytes) == 0, "%s: chunks of %u, same bits", what, chunks[i]);
        free(got);
    }
}

static void check_reuse(const char *what, npumoe_model *m, const float *want)
{
    const size_t width = n_vocab(m), row = width * sizeof(float);
    npumoe_session *s = open_session(m, 32, NPUMOE_KV_F16);
    npumoe_session_stats st = {.struct_bytes = sizeof st};
    ok(npumoe_session_logits(s) == NULL, "%s: no logits before the first evaluation", what);
    /* Two evaluations below phimoe's rope switch, which is at 100 tokens, and one across it. */
    ok(eval(s, 60) && eval(s, 90), "%s: 60 tokens, then 90", what);
    npumoe_session_get_stats(s, &st);
    is_u64(st.n_reused, 60, "%s: an extension reuses everything", what);
    float *at90 = fresh_logits(m, 90, 64, NPUMOE_KV_F16);
    is_mem(npumoe_session_logits(s), at90 + 89 * width, row, "%s: extended, same bits", what);
    free(at90);
    ok(eval(s, N_PROMPT), "%s: on to %d", what, N_PROMPT);
    is_mem(npumoe_session_logits(s), want + (N_PROMPT - 1) * width, row,
           "%s: extended again, same bits", what);
    is_int((int64_t)npumoe_session_length(s), N_PROMPT, "%s: length", what);
    /* A different tail, then the first one again. */
    npumoe_token kept = prompt[110];
    prompt[110] = (kept + 1) % (npumoe_token)width;
    ok(eval(s, N_PROMPT), "%s: another tail from token 110", what);
    ok(memcmp(npumoe_session_logits(s), want + (N_PROMPT - 1) * width, row) != 0,
       "%s: which changes the prediction", what);
    prompt[110] = kept;
    npumoe_session_reset_stats(s);
    ok(eval(s, N_PROMPT), "%s: the first tail again", what);
    npumoe_session_get_stats(s, &st);
    is_u64(st.n_reused, 110, "%s: rewinds to the common prefix", what);
    is_mem(npumoe_session_logits(s), want + (N_PROMPT - 1) * width, row, "%s: rewound, same bits",
           what);
    /* Shorter: only the last token is computed again. */
    npumoe_session_reset_stats(s);
    ok(eval(s, 120), "%s: back to 120", what);
    npumoe_session_get_stats(s, &st);
    is_u64(st.n_reused, 119, "%s: a cut computes one token", what);
    float *at120 = fresh_logits(m, 120, 64, NPUMOE_KV_F16);
    is_mem(npumoe_session_logits(s), at120 + 119 * width, row, "%s: cut, same bits", what);
    free(at120);
    ok(eval(s, 120), "%s: the same again", what);
    npumoe_session_get_stats(s, &st);
    is_u64(st.n_reused, 119 + 120, "%s: nothing to do", what);
    float *tail = logits_from(s, m, N_PROMPT, 125);
    is_mem(tail + 125 * width, want + 125 * width, 5 * row, "%s: logits from 125 on", what);
    free(tail);
    npumoe_session_free(&s);
}

static void check_tiers(const char *what, const float *want, size_t width)
{
    npumoe_model *m = load("scalar", 1);
    float *got = fresh_logits(m, N_PROMPT, 64, NPUMOE_KV_F16);
    double d = worst_difference(got, want, N_PROMPT * width);
    /* fp32 sums in another order; 3 layers of width 64 lose less than three digits. */
    ok(d < 2e-3, "%s: scalar agrees with the best tier (worst %.2g)", what, d);
    is_int((int64_t)agreeing(got, want, N_PROMPT, width), N_PROMPT, "%s: same first choices", what);
    free(got);
    npumoe_model_free(&m);
}

/* With rounded operands: the same bits for any number of threads, and near fp32. */
static void check_precision(const char *what, npumoe_precision precision, const float *want,
                            size_t width, size_t agree)
{
    npumoe_model *m = load_with(NULL, 1, precision);
    float *one = fresh_logits(m, N_PROMPT, 64, NPUMOE_KV_F16);
    npumoe_model_free(&m);
    m = load_with(NULL, 3, precision);
    float *three = fresh_logits(m, N_PROMPT, 64, NPUMOE_KV_F16);
    npumoe_model_free(&m);
    is_mem(three, one, N_PROMPT * width * sizeof *one, "%s, precision %d: three threads, same bits",
           what, (int)precision);
    const size_t same = agreeing(one, want, N_PROMPT, width);
    ok(same >= agree, "%s, precision %d: %d of %d first choices are those of fp32", what,
       (int)precision, (int)same, N_PROMPT);
    free(one);
    free(three);
}

static void check_family(const char *what, const tiny_spec *spec)
{
    npumoe_error err;
    if (tiny_write(spec, tiny_path(), &err) != NPUMOE_OK)
        bail("cannot write %s: %s", tiny_path(), err.message);
    npumoe_model *one = load(NULL, 1), *two = load(NULL, 2);
    const size_t width = n_vocab(one), bytes = N_PROMPT * width * sizeof(float);
    float *want = fresh_logits(one, N_PROMPT, N_PROMPT, NPUMOE_KV_F16);
    ok(worst_difference(want, want, N_PROMPT * width) == 0.0, "%s: finite logits", what);
    float *got = fresh_logits(two, N_PROMPT, N_PROMPT, NPUMOE_KV_F16);
    ok(memcmp(got, want, bytes) == 0, "%s: two threads, same bits", what);
    free(got);
    check_chunks(what, two, want, bytes);
    check_reuse(what, two, want);
    check_tiers(what, want, width);
    check_precision(what, NPUMOE_PRECISION_FULL, want, width, N_PROMPT - 2);
    check_precision(what, NPUMOE_PRECISION_AUTO, want, width, N_PROMPT * 9 / 10);
    check_precision(what, NPUMOE_PRECISION_FAST, want, width, N_PROMPT * 3 / 4);
    free(want);
    npumoe_model_free(&one);
    npumoe_model_free(&two);
}

static void check_families(void)
{
    for (size_t i = 0; npumoe_supported_architecture(i); i++) {
        tiny_spec s = tiny_default(npumoe_supported_architecture(i));
        check_family(s.arch, &s);
    }
    tiny_spec s = tiny_default("granitemoe");
    s.n_ff_shared = 48;
    s.tied = true;
    check_family("granitemoe, shared expert, tied", &s);
    s = tiny_default("llama");
    s.n_expert = 0;
    check_family("llama, dense", &s);
    s = tiny_default("qwen3moe");
    s.type = NM_TYPE_Q8_0;
    check_family("qwen3moe, Q8_0", &s);
}

/* Merged tensors hold the same weights as separate ones only by chance of the generator, so this
 * compares a model with itself: cut from merged tensors against an edit of its own file is the
 * business of test_config; here it must run. */
static void check_merged_runs(void)
{
    tiny_spec s = tiny_default("llama");
    npumoe_error err;
    s.merged = true;
    if (tiny_write(&s, tiny_path(), &err) != NPUMOE_OK)
        bail("%s", err.message);
    npumoe_model *m = load(NULL, 2);
    float *rows = fresh_logits(m, 20, 8, NPUMOE_KV_F16);
    ok(worst_difference(rows, rows, 20 * n_vocab(m)) == 0.0, "merged tensors: finite logits");
    free(rows);
    npumoe_model_free(&m);
}

/* ---- limits, cancelling, cache types -------------------------------------------------------- */

static bool stop_at_64(void *user, uint64_t done, uint64_t total)
{
    *(uint64_t *)user = total;
    return done < 64;
}

static bool stop_within(void *user, uint64_t done, uint64_t total)
{
    return done <= total && done < *(uint64_t *)user;
}

/* Evaluates again from inside: `other`, which may be the running session itself. */
typedef struct inner {
    npumoe_session *other;
    npumoe_status status;
    npumoe_error err;
} inner;

static bool eval_within(void *user, size_t position, const float *logits)
{
    inner *in = user;
    (void)position, (void)logits;
    in->status = npumoe_session_eval(in->other, prompt, 3, NULL, &in->err);
    return true;
}

static void check_eval_in_callback(npumoe_model *m)
{
    npumoe_session *s[2] = {open_session(m, 8, NPUMOE_KV_F16), open_session(m, 8, NPUMOE_KV_F16)};
    npumoe_error err = {0};
    npumoe_eval_options eo = npumoe_eval_options_default();
    eo.on_logits = eval_within;
    for (int i = 0; i < 2; i++) {
        inner in = {.other = s[i]};
        eo.user = &in;
        is_int(npumoe_session_eval(s[0], prompt, 10, &eo, &err), NPUMOE_OK, "with a callback");
        is_int(in.status, NPUMOE_EINVAL, "that evaluates %s session", i ? "another" : "the same");
        is_str(in.err.message,
               "a callback of an evaluation or a warm-up must not begin another one with the same "
               "model: it would wait for itself",
               "... is told not to");
        is_int((int64_t)npumoe_session_length(s[0]), 10, "... and the outer one is whole");
    }
    is_int(npumoe_session_eval(s[1], prompt, 3, NULL, &err), NPUMOE_OK, "afterwards it may");
    npumoe_session_free(&s[0]);
    npumoe_session_free(&s[1]);
}

static void check_cancel(npumoe_model *m)
{
    npumoe_session_options o = npumoe_session_options_default();
    npumoe_session *s = NULL;
    npumoe_error err = {0};
    uint64_t total = 0;
    o.n_ctx = N_CTX;
    o.n_chunk = 32;
    o.progress = stop_at_64;
    o.progress_user = &total;
    ok(npumoe_session_new(m, &o, &s, &err) == NPUMOE_OK, "a session with progress");
    is_int(npumoe_session_eval(s, prompt, N_PROMPT, NULL, &err), NPUMOE_ECANCELED, "cancelled");
    is_str(err.message, "cancelled after 64 of 130 tokens", "and says how far it came");
    is_u64(total, N_PROMPT, "progress knows the total");
    is_int((int64_t)npumoe_session_length(s), 64, "finished chunks stay");
    ok(npumoe_session_logits(s) == NULL, "no logits after a cancelled evaluation");
    is_int(npumoe_session_eval(s, prompt, 90, NULL, &err), NPUMOE_OK, "and goes on from there");
    float *want = fresh_logits(m, 90, 64, NPUMOE_KV_F16);
    is_mem(npumoe_session_logits(s), want + 89 * n_vocab(m), n_vocab(m) * sizeof(float),
           "with the right result");
    /* In the middle of a chunk: its tokens are not there, and the next evaluation is right. */
    uint64_t stop = 70;
    npumoe_session_free(&s);
    o.progress = stop_within;
    o.progress_user = &stop;
    ok(npumoe_session_new(m, &o, &s, &err) == NPUMOE_OK, "another session");
    is_int(npumoe_session_eval(s, prompt, 90, NULL, &err), NPUMOE_ECANCELED, "cancelled at 70");
    is_int((int64_t)npumoe_session_length(s), 64, "the chunk in flight is gone");
    stop = 1000;
    is_int(npumoe_session_eval(s, prompt, 90, NULL, &err), NPUMOE_OK, "and computed again");
    is_mem(npumoe_session_logits(s), want + 89 * n_vocab(m), n_vocab(m) * sizeof(float),
           "with the right result");
    free(want);
    sink k = {.n_vocab = n_vocab(m), .stop_at = 40};
    k.rows = calloc(N_PROMPT * k.n_vocab, sizeof *k.rows);
    npumoe_eval_options eo = npumoe_eval_options_default();
    eo.on_logits = collect;
    eo.user = &k;
    is_int(npumoe_session_eval(s, prompt, N_PROMPT, &eo, &err), NPUMOE_ECANCELED,
           "on_logits cancels too");
    is_int((int64_t)k.count, 40, "at once");
    free(k.rows);
    npumoe_session_free(&s);
}

static void check_bad_input(npumoe_model *m)
{
    npumoe_session *s = open_session(m, 0, NPUMOE_KV_F16);
    npumoe_error err = {0};
    npumoe_token bad[3] = {1, 101, 2}, many[N_CTX + 1] = {0};
    npumoe_eval_options o = npumoe_eval_options_default();
    is_int(npumoe_session_eval(s, bad, 0, NULL, &err), NPUMOE_EINVAL, "no tokens");
    is_int(npumoe_session_eval(s, bad, 3, NULL, &err), NPUMOE_EINVAL, "a token out of range");
    is_str(err.message, "token 1 is 101, expected 0..100", "named");
    bad[1] = -1;
    is_int(npumoe_session_eval(s, bad, 3, NULL, NULL), NPUMOE_EINVAL, "a negative token, no err");
    is_int(npumoe_session_eval(s, many, N_CTX + 1, NULL, &err), NPUMOE_ETOOLONG, "too long");
    is_str(err.message, "161 tokens do not fit a context of 160", "with the numbers");
    o.on_logits = collect;
    o.logits_from = 3;
    is_int(npumoe_session_eval(s, many, 3, &o, &err), NPUMOE_EINVAL, "logits from past the end");
    is_int(npumoe_session_eval(s, many, N_CTX, NULL, &err), NPUMOE_OK, "a full context works");
    is_int(npumoe_session_n_ctx(s), N_CTX, "its size");
    npumoe_session_free(&s);
    npumoe_session_free(&s);
    ok(s == NULL, "freeing twice is fine");
}

/* Keys and values of different types have rows of different sizes. */
static void check_mixed_cache(npumoe_model *m, npumoe_kv_type k, npumoe_kv_type v, const float *f32)
{
    npumoe_session_options o = npumoe_session_options_default();
    npumoe_session *s = NULL;
    o.n_ctx = N_CTX;
    o.n_chunk = 64;
    o.type_k = k;
    o.type_v = v;
    if (npumoe_session_new(m, &o, &s, NULL) != NPUMOE_OK)
        bail("no session with mixed cache types");
    float *got = logits_from(s, m, N_PROMPT, 0);
    double d = worst_difference(got, f32, N_PROMPT * n_vocab(m));
    ok(d > 0 && d < 0.3, "keys of type %d, values of type %d: near F32 (worst %.2g)", (int)k,
       (int)v, d);
    free(got);
    npumoe_session_free(&s);
}

static void check_cache_types(npumoe_model *m)
{
    const size_t width = n_vocab(m);
    float *f32 = fresh_logits(m, N_PROMPT, 64, NPUMOE_KV_F32);
    float *f16 = fresh_logits(m, N_PROMPT, 64, NPUMOE_KV_F16);
    float *q8 = fresh_logits(m, N_PROMPT, 64, NPUMOE_KV_Q8_0);
    double d16 = worst_difference(f16, f32, N_PROMPT * width);
    double d8 = worst_difference(q8, f32, N_PROMPT * width);
    ok(d16 > 0 && d16 < 0.02, "F16 cache: close to F32 (worst %.2g)", d16);
    ok(d8 > d16 && d8 < 0.3, "Q8_0 cache: near F32 (worst %.2g)", d8);
    ok(agreeing(f32, q8, N_PROMPT, width) >= N_PROMPT * 95 / 100,
       "Q8_0 cache: 95 %% of the first choices");
    check_mixed_cache(m, NPUMOE_KV_Q8_0, NPUMOE_KV_F32, f32);
    check_mixed_cache(m, NPUMOE_KV_F32, NPUMOE_KV_Q8_0, f32);
    free(f32);
    free(f16);
    free(q8);
    npumoe_session_options o = npumoe_session_options_default();
    npumoe_session *s = NULL;
    npumoe_error err = {0};
    o.type_k = (npumoe_kv_type)9;
    is_int(npumoe_session_new(m, &o, &s, &err), NPUMOE_EINVAL, "an unknown cache type");
}

static void check_memory_limit(void)
{
    npumoe_model_options o = npumoe_model_options_default();
    npumoe_model *m = NULL;
    npumoe_session *s = NULL;
    npumoe_error err = {0};
    o.memory_limit_bytes = 200000;
    is_int(npumoe_model_load(tiny_path(), &o, &m, &err), NPUMOE_ETOOBIG, "too big to load");
    ok(strstr(err.message, "MiB (weights") && strstr(err.message, "KV cache"),
       "with the numbers: %s", err.message);
    ok(m == NULL, "and nothing is returned");
    /* Room for the weights and a small session, not for one of the default size. */
    o.memory_limit_bytes = 2 << 20;
    o.n_threads = 1; /* each has scratch of its own */
    npumoe_session_options small = npumoe_session_options_default();
    is_int(npumoe_model_load(tiny_path(), &o, &m, &err), NPUMOE_OK, "a tight limit loads: %s",
           err.message);
    is_int(npumoe_session_new(m, &small, &s, &err), NPUMOE_ETOOBIG, "... not the default session");
    ok(strstr(err.message, "a shorter context (-c)") != NULL, "... and advises: %s", err.message);
    small.n_ctx = 32;
    is_int(npumoe_session_new(m, &small, &s, &err), NPUMOE_OK, "... which helps");
    npumoe_session_free(&s);
    npumoe_model_free(&m);
    o.memory_limit_bytes = 64 << 20;
    o.n_threads = 0;
    is_int(npumoe_model_load(tiny_path(), &o, &m, &err), NPUMOE_OK, "64 MiB are enough");
    npumoe_session_options so = npumoe_session_options_default();
    so.n_ctx = 1 << 24;
    is_int(npumoe_session_new(m, &so, &s, &err), NPUMOE_ETOOBIG, "a context that does not fit");
    ok(strstr(err.message, "12.0") != NULL, "with its size: %s", err.message);
    so.n_ctx = 1 << 16;
    is_int(npumoe_session_new(m, &so, &s, &err), NPUMOE_OK, "one that fits");
    npumoe_session *second = NULL;
    is_int(npumoe_session_new(m, &so, &second, &err), NPUMOE_ETOOBIG, "but not twice");
    npumoe_session_free(&s);
    is_int(npumoe_session_new(m, &so, &second, &err), NPUMOE_OK, "again after the first is gone");
    npumoe_session_free(&second);
    npumoe_model_free(&m);
}

/* One NaN in a query matrix reaches the logits in every tier, and the sampler refuses them: no
 * plausible text comes out of broken weights. */
static void check_nan(void)
{
    tiny_spec spec = tiny_default("llama");
    npumoe_error err = {0};
    const char *tier;
    spec.nan = "blk.1.attn_q.weight";
    if (tiny_write(&spec, tiny_path(), &err) != NPUMOE_OK)
        bail("%s", err.message);
    for (size_t at = 0; (tier = tiers_next(&at));) {
        npumoe_model *m = load(tier, 2);
        npumoe_session *s = open_session(m, 16, NPUMOE_KV_F16);
        npumoe_sampler *sampler = NULL;
        npumoe_token token;
        is_int(npumoe_session_eval(s, prompt, 20, NULL, &err), NPUMOE_OK, "%s: evaluated", tier);
        size_t n = n_vocab(m), numbers = 0;
        for (size_t t = 0; t < n; t++)
            numbers += isnan(npumoe_session_logits(s)[t]) ? 0 : 1;
        is_int((int64_t)numbers, 0, "%s: a NaN in attn_q makes every logit NaN", tier);
        is_int(npumoe_sampler_new(m, NULL, &sampler, &err), NPUMOE_OK, "%s: sampler", tier);
        ok(npumoe_sampler_pick(sampler, npumoe_session_logits(s), &token, &err) < 0 &&
               strstr(err.message, "not a number"),
           "%s: the sampler says so: %s", tier, err.message);
        npumoe_sampler_free(&sampler);
        npumoe_session_free(&s);
        npumoe_model_free(&m);
    }
}

static void check_load_options(void)
{
    npumoe_model_options o = npumoe_model_options_default();
    npumoe_model *m = NULL;
    npumoe_session *s = NULL;
    npumoe_error err = {0};
    o.vocab_only = true;
    is_int(npumoe_model_load(tiny_path(), &o, &m, &err), NPUMOE_OK, "vocab_only");
    is_int(npumoe_session_new(m, NULL, &s, &err), NPUMOE_EINVAL, "gives no session");
    npumoe_model_free(&m);
    o.vocab_only = false;
    o.isa = "quantum";
    is_int(npumoe_model_load(tiny_path(), &o, &m, &err), NPUMOE_EINVAL, "an unknown tier");
    o.isa = NULL;
    o.n_threads = -1;
    is_int(npumoe_model_load(tiny_path(), &o, &m, &err), NPUMOE_EINVAL, "negative threads");
    o.n_threads = 0;
    is_int(npumoe_model_load("/nonexistent.gguf", &o, &m, &err), NPUMOE_ENOENT, "no such file");
    ok(strstr(err.message, "/nonexistent.gguf") != NULL, "named");
    tiny_spec spec = tiny_default("qwen3moe");
    spec.nan = "blk.1.ffn_up_exps.weight";
    o.check_tensors = true;
    is_int(npumoe_model_load(tiny_path(), &o, &m, &err), NPUMOE_OK, "check_tensors, all finite");
    npumoe_model_free(&m);
    if (tiny_write(&spec, tiny_path(), &err) != NPUMOE_OK)
        bail("%s", err.message);
    is_int(npumoe_model_load(tiny_path(), &o, &m, &err), NPUMOE_EMODEL, "check_tensors, a NaN");
    ok(strstr(err.message, "'blk.1.ffn_up_exps.weight': element [0, 0] is nan") != NULL, "%s",
       err.message);
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Loads, prefills and decodes with the allocator; every step may fail. */
static npumoe_status whole_life(const npumoe_allocator *a, counting *c, long *calls_before,
                                long *calls_after)
{
    npumoe_model_options o = npumoe_model_options_default();
    npumoe_model *m = NULL;
    npumoe_session *s = NULL;
    npumoe_error err = {0};
    o.allocator = a;
    o.n_threads = 2;
    npumoe_status st = npumoe_model_load(tiny_path(), &o, &m, &err);
    if (st == NPUMOE_OK) {
        npumoe_session_options so = npumoe_session_options_default();
        so.n_ctx = N_CTX;
        so.n_chunk = 16;
        st = npumoe_session_new(m, &so, &s, &err);
    }
    *calls_before = c->calls;
    for (size_t n = 40; n < 50 && st == NPUMOE_OK; n++)
        st = npumoe_session_eval(s, prompt, n, NULL, &err);
    *calls_after = c->calls;
    npumoe_session_free(&s);
    npumoe_model_free(&m);
    return st;
}

static void check_allocations(const char *arch)
{
    tiny_spec spec = tiny_default(arch);
    npumoe_error err;
    if (tiny_write(&spec, tiny_path(), &err) != NPUMOE_OK)
        bail("%s", err.message);
    counting c = COUNTING_INIT;
    const npumoe_allocator a = counting_allocator(&c);
    long before, after;
    is_int(whole_life(&a, &c, &before, &after), NPUMOE_OK, "%s: a whole life", arch);
    const long total = c.calls;
    ok(before > 5, "%s: %ld allocations before the first evaluation", arch, before);
    is_int(after - before, 0, "%s: none while evaluating", arch);
    is_int(c.alive, 0, "%s: nothing left", arch);
    long wrong = 0, leaked = 0;
    for (long n = 1; n <= total; n++) {
        c.calls = 0;
        c.fail_at = n;
        wrong += whole_life(&a, &c, &before, &after) != NPUMOE_ENOMEM;
        leaked += c.alive != 0;
    }
    is_int(wrong, 0, "%s: each of %ld failed allocations gives ENOMEM", arch, total);
    is_int(leaked, 0, "%s: and leaks nothing", arch);
}

/* ---- observers and threads ------------------------------------------------------------------ */

typedef struct trace {
    size_t routes, rows, tensors;
    bool sane;
} trace;

static void on_route(void *user, uint32_t layer, size_t pos0, uint32_t n, uint32_t k,
                     const uint32_t *ids, const float *weights)
{
    trace *t = user;
    t->routes++;
    t->rows += n;
    t->sane = t->sane && layer < 3 && pos0 < N_PROMPT && k == 3;
    for (uint32_t i = 0; i < n * k; i++)
        t->sane = t->sane && ids[i] < 8 && weights[i] > 0.0f && weights[i] <= 1.0f;
}

static void on_tensor(void *user, const char *name, int layer, const float *data, size_t rows,
                      size_t cols)
{
    trace *t = user;
    (void)data;
    t->tensors += strcmp(name, "l_out") == 0 && layer >= 0 && rows > 0 && cols == 64;
}

static void check_hooks(npumoe_model *m)
{
    npumoe_session *s = open_session(m, 32, NPUMOE_KV_F16);
    trace t = {.sane = true};
    const nm_hooks hooks = {.route = on_route, .tensor = on_tensor, .user = &t};
    ok(eval(s, 100), "without observers");
    float *want = malloc(n_vocab(m) * sizeof *want);
    memcpy(want, npumoe_session_logits(s), n_vocab(m) * sizeof *want);
    npumoe_session_free(&s);
    s = open_session(m, 32, NPUMOE_KV_F16);
    nm_session_set_hooks(s, &hooks);
    ok(eval(s, 100), "with observers");
    is_mem(npumoe_session_logits(s), want, n_vocab(m) * sizeof *want, "same bits");
    is_int((int64_t)t.routes, 3 * 4, "one routing per layer and chunk");
    is_int((int64_t)t.rows, 3 * 100, "of every token in every layer");
    ok(t.sane, "with sane contents");
    is_int((int64_t)t.tensors, 3 * 4, "l_out of every layer");
    free(want);
    npumoe_session_free(&s);
}

static void *eval_elsewhere(void *arg)
{
    return eval(arg, N_PROMPT) ? arg : NULL;
}

static void check_two_sessions(npumoe_model *m)
{
    npumoe_session *s[2] = {open_session(m, 16, NPUMOE_KV_F16), open_session(m, 9, NPUMOE_KV_F16)};
    pthread_t id[2];
    bool fine = true;
    for (int i = 0; i < 2; i++)
        fine = pthread_create(&id[i], NULL, eval_elsewhere, s[i]) == 0 && fine;
    for (int i = 0; i < 2; i++) {
        void *result = NULL;
        fine = pthread_join(id[i], &result) == 0 && result && fine;
    }
    ok(fine, "two sessions of one model on two threads");
    is_mem(npumoe_session_logits(s[0]), npumoe_session_logits(s[1]), n_vocab(m) * sizeof(float),
           "with the same bits");
    npumoe_session_free(&s[0]);
    npumoe_session_free(&s[1]);
}

int main(void)
{
    make_prompt(101);
    check_families();
    check_merged_runs();
    tiny_spec spec = tiny_default("qwen3moe");
    npumoe_error err;
    if (tiny_write(&spec, tiny_path(), &err) != NPUMOE_OK)
        bail("%s", err.message);
    npumoe_model *m = load(NULL, 2);
    check_cancel(m);
    check_eval_in_callback(m);
    check_bad_input(m);
    check_cache_types(m);
    check_hooks(m);
    check_two_sessions(m);
    npumoe_model_free(&m);
    check_memory_limit();
    check_load_options();
    check_nan();
    check_allocations("qwen2moe");
    check_allocations("phimoe");
    unlink(tiny_path());
    return done_testing();
}
