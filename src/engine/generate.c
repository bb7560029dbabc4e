/* generate.c: a prompt in, text out: session, sampler, detokenizer and stop strings tied together.
 *
 * Owns nothing that outlives a call. The token array is the caller's when it is large enough for the
 * whole timeline, else a copy of n_ctx entries, because a session always wants the full prefix.
 *
 * Order of one step: pick, end token?, append, text, stop string?, callback, length?, context?,
 * evaluate. The evaluation is last, so a generation that stops has not paid for a token that nobody
 * sees; a later call with the returned tokens evaluates it then. */
#include "base/abi.h"
#include "base/num.h"
#include "base/utf8.h"
#include "engine/access.h"
#include "engine/sampler.h"
#include "engine/stop.h"

#include <string.h>

npumoe_status npumoe_sampler_new(const npumoe_model *model, const npumoe_sampler_options *options,
                                 npumoe_sampler **out, npumoe_error *err)
{
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_model_get_info(model, &info);
    return nm_sampler_new(nm_model_allocator(model), (size_t)info.n_vocab, options, out, err);
}

npumoe_generate_options npumoe_generate_options_default(void)
{
    return (npumoe_generate_options){.struct_bytes = sizeof(npumoe_generate_options),
                                     .n_predict = -1};
}

typedef struct run {
    npumoe_session *session;
    npumoe_sampler *sampler;
    npumoe_model *model;
    npumoe_generate_options opt;
    npumoe_detokenizer *detok;
    nm_stop *stop;
    npumoe_token *tokens; /* the timeline: the caller's array or `own` */
    npumoe_token *own;
    size_t n_tokens, n_ctx;
    npumoe_generate_result result;
} run;

/* Text that the detokenizer released goes through the stop strings to the caller. *stopped tells
 * that the generation ends here, result.reason why. */
static npumoe_status show(run *r, npumoe_token token, const char *text, size_t text_bytes,
                          bool *stopped, npumoe_error *err)
{
    nm_str ready;
    size_t match;
    NM_TRY(nm_stop_push(r->stop, (nm_str){text, text_bytes}, &ready, &match, err));
    if (r->opt.on_text && !r->opt.on_text(r->opt.user, token, ready.p, ready.n)) {
        r->result.reason = NPUMOE_STOP_CANCEL;
        *stopped = true;
    }
    if (match != NM_STOP_NONE) {
        r->result.reason = NPUMOE_STOP_STRING;
        r->result.stop_index = match;
        *stopped = true;
    }
    return NPUMOE_OK;
}

/* What the detokenizer and the stop strings held back, unless a stop string or the caller ended it. */
static npumoe_status show_rest(run *r, npumoe_token token, npumoe_error *err)
{
    if (r->result.reason == NPUMOE_STOP_STRING || r->result.reason == NPUMOE_STOP_CANCEL ||
        token < 0) /* not one was picked: what is held back is the prompt's */
        return NPUMOE_OK;
    const char *text;
    size_t bytes;
    bool stopped = false;
    NM_TRY(npumoe_detokenizer_finish(r->detok, &text, &bytes, err));
    if (bytes)
        NM_TRY(show(r, token, text, bytes, &stopped, err));
    if (stopped)
        return NPUMOE_OK;
    nm_str rest = nm_stop_finish(r->stop);
    if (rest.n && r->opt.on_text && !r->opt.on_text(r->opt.user, token, rest.p, rest.n))
        r->result.reason = NPUMOE_STOP_CANCEL;
    return NPUMOE_OK;
}

/* One token: *stopped when the generation ends with it. */
static npumoe_status step(run *r, bool *stopped, npumoe_token *token, npumoe_error *err)
{
    NM_TRY(npumoe_sampler_pick(r->sampler, npumoe_session_logits(r->session), token, err));
    bool end = npumoe_token_is_end(r->model, *token) && !r->opt.ignore_end;
    const char *text = "";
    size_t bytes = 0;
    if (!end || r->opt.special)
        NM_TRY(npumoe_detokenizer_push(r->detok, *token, &text, &bytes, err));
    if (end) {
        r->result.reason = NPUMOE_STOP_END;
        *stopped = true;
        bool ignored;
        return bytes ? show(r, *token, text, bytes, &ignored, err) : NPUMOE_OK;
    }
    r->tokens[r->n_tokens++] = *token;
    r->result.n_generated++;
    npumoe_sampler_accept(r->sampler, *token);
    NM_TRY(show(r, *token, text, bytes, stopped, err));
    if (*stopped)
        return NPUMOE_OK;
    if (r->opt.n_predict >= 0 && r->result.n_generated >= (uint64_t)r->opt.n_predict) {
        r->result.reason = NPUMOE_STOP_LENGTH;
        *stopped = true;
    } else if (r->n_tokens >= r->n_ctx) {
        r->result.reason = NPUMOE_STOP_CONTEXT;
        *stopped = true;
    }
    return NPUMOE_OK;
}

static npumoe_status generate(run *r, npumoe_error *err)
{
    NM_TRY(npumoe_session_eval(r->session, r->tokens, r->n_tokens, NULL, err));
    nm_sampler_set_history(r->sampler, r->tokens, r->n_tokens);
    bool stopped = r->opt.n_predict == 0;
    r->result.reason = NPUMOE_STOP_LENGTH;
    npumoe_token token = -1;
    if (!stopped && r->n_tokens >= r->n_ctx) {
        r->result.reason = NPUMOE_STOP_CONTEXT;
        stopped = true;
    }
    while (!stopped) {
        NM_TRY(step(r, &stopped, &token, err));
        if (stopped)
            break;
        npumoe_status st = npumoe_session_eval(r->session, r->tokens, r->n_tokens, NULL, err);
        if (st == NPUMOE_ECANCELED) { /* the session's progress callback, in mid-answer */
            r->result.reason = NPUMOE_STOP_CANCEL;
            break;
        }
        NM_TRY(st);
    }
    return show_rest(r, token, err);
}

static npumoe_status prepare(run *r, npumoe_token *tokens, size_t n_tokens, size_t capacity,
                             npumoe_error *err)
{
    const npumoe_allocator *a = nm_model_allocator(r->model);
    r->n_tokens = n_tokens;
    r->tokens = tokens;
    if (n_tokens > r->n_ctx)
        return nm_err_set(err, NPUMOE_ETOOLONG,
                          "the prompt has %zu tokens, but the context holds only %zu", n_tokens,
                          r->n_ctx);
    if (capacity < r->n_ctx && r->opt.n_predict != 0) {
        r->own = nm_alloc_array(a, r->n_ctx, sizeof *r->own);
        if (!r->own)
            return nm_err_nomem(err, (uint64_t)r->n_ctx * sizeof *r->own, "the timeline");
        memcpy(r->own, tokens, n_tokens * sizeof *tokens);
        r->tokens = r->own;
    }
    NM_TRY(nm_stop_new(a, r->opt.stop, r->opt.n_stop, &r->stop, err));
    NM_TRY(npumoe_detokenizer_new(r->model, r->opt.special, &r->detok, err));
    /* The answer goes on after the prompt: the leading space of its first word is part of it, where
     * a text of its own would lose it, and a character may have begun in the prompt, up to three
     * tokens before its end. What comes out here has been the caller's all along. */
    const char *text;
    size_t bytes;
    for (size_t i = n_tokens - nm_min_size(n_tokens, NM_UTF8_MAX); i < n_tokens; i++)
        NM_TRY(npumoe_detokenizer_push(r->detok, tokens[i], &text, &bytes, err));
    return NPUMOE_OK;
}

npumoe_status npumoe_generate(npumoe_session *session, npumoe_sampler *sampler,
                              npumoe_token *tokens, size_t *n_tokens, size_t capacity,
                              const npumoe_generate_options *options,
                              npumoe_generate_result *result, npumoe_error *err)
{
    if (!tokens || *n_tokens == 0 || *n_tokens > capacity)
        return nm_err_set(err, NPUMOE_EINVAL, "generate: %zu prompt tokens in an array of %zu",
                          tokens ? *n_tokens : 0, capacity);
    run r = {.session = session,
             .sampler = sampler,
             .model = nm_session_model(session),
             .n_ctx = npumoe_session_n_ctx(session),
             .opt = npumoe_generate_options_default()};
    NM_TRY(nm_abi_read(&r.opt, sizeof r.opt, options, "npumoe_generate_options", err));
    npumoe_status st = prepare(&r, tokens, *n_tokens, capacity, err);
    if (st == NPUMOE_OK)
        st = generate(&r, err);
    if (r.own) {
        /* the part of the timeline that the caller has room for */
        size_t keep = nm_min_size(r.n_tokens, capacity);
        memcpy(tokens, r.own, keep * sizeof *tokens);
        r.n_tokens = keep;
    }
    *n_tokens = r.n_tokens;
    if (st == NPUMOE_OK && result)
        *result = r.result;
    nm_free(nm_model_allocator(r.model), r.own);
    nm_stop_free(&r.stop);
    npumoe_detokenizer_free(&r.detok);
    return st;
}
