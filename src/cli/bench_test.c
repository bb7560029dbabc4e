/* bench_test.c: one test of bench: a prompt of N random tokens in chunks, then N tokens one by one,
 * either of which may be missing, after a prompt that is not timed. Models that are compared take turns.
 *
 * It is run once to warm up and then several times. A repetition begins with another token than the
 * one before, so that nothing of a prompt is reused except the depth that is meant to be. */
#include "bench.h"
#include "usage.h"

#include <stdlib.h>

/* Tokens that look random and are the same in each run of the program. */
static void fill_tokens(npumoe_token *tokens, size_t n, int32_t n_vocab, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        tokens[i] = (npumoe_token)((x >> 33) % (uint64_t)n_vocab);
    }
}

/* The timed part: the prompt at once, then the generated tokens one by one. */
static npumoe_status timed_part(npumoe_session *s, const bench_test *t, const npumoe_token *tokens,
                                npumoe_error *err)
{
    size_t at = (size_t)t->n_depth;
    npumoe_status st = NPUMOE_OK;
    if (t->n_prompt) {
        at += (size_t)t->n_prompt;
        st = npumoe_session_eval(s, tokens, at, NULL, err);
    }
    for (int32_t i = 0; i < t->n_gen && st == NPUMOE_OK; i++)
        st = npumoe_session_eval(s, tokens, ++at, NULL, err);
    return st;
}

/* One repetition; *seconds and *cpu of the timed part. What follows the depth differs from one
 * repetition to the next in its first token, so the session finds exactly the depth to reuse. */
static npumoe_status repetition(npumoe_session *s, npumoe_model *model, const bench_test *t,
                                npumoe_token *tokens, int32_t n_vocab, int32_t index,
                                double *seconds, double *cpu, npumoe_error *err)
{
    size_t depth = (size_t)t->n_depth, n = (size_t)(t->n_prompt + t->n_gen);
    fill_tokens(tokens, depth, n_vocab, 1);
    fill_tokens(tokens + depth, n, n_vocab, 2);
    tokens[depth] = (npumoe_token)((index + 1) % n_vocab);
    if (depth) {
        npumoe_status st = npumoe_session_eval(s, tokens, depth, NULL, err);
        if (st != NPUMOE_OK)
            return st;
    }
    npumoe_plan_reset_stats(model);
    double cpu_start = ui_cpu_seconds(), start = ui_now();
    npumoe_status st = timed_part(s, t, tokens, err);
    *seconds = ui_now() - start;
    *cpu = ui_cpu_seconds() - cpu_start;
    return st;
}

/* Pages of the file and the cache are what a model needs; the rest is ours. Pages of files come and go
 * as the system likes, so the rest is not what is left of the peak, but what is counted apart. */
static void note_memory(const npumoe_session *session, bench_test *t)
{
    npumoe_session_stats stats = {.struct_bytes = sizeof stats};
    usage_memory now = usage_memory_now();
    npumoe_session_get_stats(session, &stats);
    t->kv_bytes = stats.kv_bytes;
    t->scratch_bytes = stats.scratch_bytes;
    t->peak_rss_bytes = now.peak_bytes;
    if (now.own_bytes >= 0) {
        int64_t beyond = now.own_bytes - (int64_t)stats.kv_bytes;
        t->peak_beyond_bytes = beyond > t->peak_beyond_bytes ? beyond : t->peak_beyond_bytes;
    }
}

/* A model in a test, and what it needs there. */
typedef struct side {
    const bench_model *m;
    bench_test *t;
    npumoe_session *session;
    double cpu_sum;
} side;

static npumoe_status turn(side *s, npumoe_token *tokens, int32_t index, npumoe_error *err)
{
    bench_test *t = s->t;
    double seconds, cpu;
    if (t->progress)
        ui_note("%s %d of %d%s%s", index < 0 ? "warm-up, then" : "repetition",
                index < 0 ? t->reps : index + 1, t->reps, s->m->npu.path ? ", " : "",
                s->m->npu.path ? s->m->npu.path : "");
    npumoe_status st = repetition(s->session, s->m->model, t, tokens, s->m->info.n_vocab, index,
                                  &seconds, &cpu, err);
    note_memory(s->session, t);
    if (index >= 0 && st == NPUMOE_OK) {
        t->seconds[index] = seconds;
        s->cpu_sum += cpu;
        t->cpu_seconds = s->cpu_sum / (double)t->reps;
        bench_add_plan(s->m->model, t);
    }
    return st;
}

static bool go_on(void *user, uint64_t done, uint64_t total)
{
    (void)user, (void)done, (void)total;
    return !ui_interrupted();
}

static void note_work(const bench_model *m, bench_test *t)
{
    uint64_t depth = (uint64_t)t->n_depth, prompt = (uint64_t)t->n_prompt;
    t->prompt_work.struct_bytes = t->gen_work.struct_bytes = sizeof t->gen_work;
    npumoe_model_get_work(m->model, depth, prompt, t->type_k, t->type_v, &t->prompt_work);
    npumoe_model_get_work(m->model, depth + prompt, (uint64_t)t->n_gen, t->type_k, t->type_v,
                          &t->gen_work);
}

static npumoe_status begin(side *s, size_t n_tokens, npumoe_error *err)
{
    bench_test *t = s->t;
    session_args sa = {
        .batch = t->batch, .ubatch = t->ubatch, .type_k = t->type_k, .type_v = t->type_v};
    npumoe_session_options opt = session_options(&sa, (uint32_t)n_tokens);
    opt.progress = go_on;
    npumoe_status st = npumoe_session_new(s->m->model, &opt, &s->session, err);
    t->when = time(NULL);
    t->peak_beyond_bytes = -1;
    if (st == NPUMOE_OK) {
        note_memory(s->session, t);
        note_work(s->m, t);
    }
    return st;
}

static npumoe_status turns(side *sides, size_t n, npumoe_token *tokens, size_t n_tokens,
                           npumoe_error *err)
{
    const bench_test *first = sides[0].t;
    npumoe_status st = NPUMOE_OK;
    for (size_t i = 0; i < n && st == NPUMOE_OK; i++)
        st = begin(&sides[i], n_tokens, err);
    for (int32_t rep = first->warm_up ? -1 : 0; rep < first->reps; rep++)
        for (size_t i = 0; i < n && st == NPUMOE_OK; i++)
            st = turn(&sides[i], tokens, rep, err);
    return st;
}

int bench_run(const bench_model *m, bench_test *t, size_t n)
{
    side sides[BENCH_MAX_PLANS] = {{0}};
    npumoe_error err = {0};
    size_t n_tokens = (size_t)t->n_depth + (size_t)t->n_prompt + (size_t)t->n_gen;
    npumoe_token *tokens = malloc(n_tokens * sizeof *tokens);
    bool ok = tokens != NULL;
    for (size_t i = 0; i < n; i++) {
        sides[i] = (side){.m = &m[i], .t = &t[i]};
        t[i].seconds = calloc((size_t)t->reps, sizeof *t[i].seconds);
        ok = ok && t[i].seconds;
    }
    int code = 1;
    if (ok) {
        usage_reset_peak();
        npumoe_status st = turns(sides, n, tokens, n_tokens, &err);
        code = st == NPUMOE_OK ? 0 : ui_fail(st, &err);
    } else {
        ui_error("out of memory");
    }
    for (size_t i = 0; i < n; i++)
        npumoe_session_free(&sides[i].session);
    free(tokens);
    return code;
}
