/* bench_test.c: one test of bench: a prompt of N random tokens in chunks, then N tokens one by one,
 * either of which may be missing, after a prompt that is not timed.
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
static npumoe_status repetition(npumoe_session *s, const bench_test *t, npumoe_token *tokens,
                                int32_t n_vocab, int32_t index, double *seconds, double *cpu,
                                npumoe_error *err)
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

static npumoe_status repetitions(npumoe_session *s, bench_test *t, npumoe_token *tokens,
                                 int32_t n_vocab, npumoe_error *err)
{
    npumoe_status st = NPUMOE_OK;
    double cpu_sum = 0.0;
    note_memory(s, t);
    for (int32_t i = t->warm_up ? -1 : 0; i < t->reps && st == NPUMOE_OK; i++) {
        double seconds, cpu;
        if (t->progress)
            ui_note("%s %d of %d", i < 0 ? "warm-up, then" : "repetition", i < 0 ? t->reps : i + 1,
                    t->reps);
        st = repetition(s, t, tokens, n_vocab, i, &seconds, &cpu, err);
        note_memory(s, t);
        if (i >= 0 && st == NPUMOE_OK) {
            t->seconds[i] = seconds;
            cpu_sum += cpu;
        }
    }
    t->cpu_seconds = cpu_sum / (double)t->reps;
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

int bench_run(const bench_model *m, bench_test *t)
{
    size_t n = (size_t)t->n_depth + (size_t)t->n_prompt + (size_t)t->n_gen;
    npumoe_token *tokens = malloc(n * sizeof *tokens);
    t->seconds = calloc((size_t)t->reps, sizeof *t->seconds);
    if (!tokens || !t->seconds) {
        ui_error("out of memory");
        free(tokens);
        return 1;
    }
    session_args sa = {
        .batch = t->batch, .ubatch = t->ubatch, .type_k = t->type_k, .type_v = t->type_v};
    npumoe_session_options opt = session_options(&sa, (uint32_t)n);
    opt.progress = go_on;
    npumoe_session *session = NULL;
    npumoe_error err = {0};
    usage_reset_peak();
    npumoe_status st = npumoe_session_new(m->model, &opt, &session, &err);
    t->when = time(NULL);
    t->peak_beyond_bytes = -1;
    if (st == NPUMOE_OK) {
        st = repetitions(session, t, tokens, m->info.n_vocab, &err);
        note_work(m, t);
    }
    npumoe_session_free(&session);
    free(tokens);
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}
