/* session.c: one mutable timeline.
 *
 * Owns the KV cache, the tokens it stands for, the working memory and the last logits. All of it is
 * allocated when the session is made; evaluation allocates nothing.
 *
 * Invariants between calls
 *   - tokens[0 .. n_past) are exactly the positions whose keys and values the cache holds;
 *   - has_logits: `logits` is the prediction after tokens[n_past - 1];
 *   - all cached keys were turned by the same rope variant (model/rope.h). A sequence that grows
 *     past the switch, or shrinks below it, is computed again from the start.
 *
 * The caller hands over the full prefix each time. What differs from the cache is dropped by
 * forgetting (n_past goes down); nothing is erased. A cancelled evaluation keeps its finished chunks.
 */
#include "engine/session.h"

#include "base/abi.h"
#include "base/clock.h"
#include "base/num.h"
#include "base/sys.h"
#include "engine/memory.h"
#include "engine/model.h"
#include "engine/pipeline.h"
#include "engine/warm.h"

#include <inttypes.h>
#include <string.h>

struct npumoe_session {
    npumoe_model *model;
    const npumoe_allocator *allocator;
    nm_kv kv;
    nm_buffers buf[NM_EXEC_MAX_LANES]; /* one per chunk in flight; without a plan the first alone */
    char *scratch[NM_EXEC_MAX_LANES];  /* what each points into */
    bool apart;                        /* each has q, k and v of its own (engine/buffers.h) */
    nm_forward forward;
    nm_placement *placement; /* the model's plan, when the session was made; NULL = none */
    uint64_t scratch_bytes;
    uint64_t reserved_bytes; /* counted in the model */
    npumoe_token *tokens;    /* [n_ctx] */
    float *logits;           /* [n_vocab] */
    size_t n_past;
    bool has_logits;
    npumoe_progress_fn progress;
    void *progress_user;
    size_t eval_start, eval_end; /* of the evaluation that is running */
    uint32_t eval_chunk;         /* tokens of its chunk in flight */
    uint32_t eval_lanes;         /* chunks in flight, by plan */
    const npumoe_token *eval_tokens;
    const npumoe_eval_options *eval_options;
    npumoe_session_stats stats;
};

npumoe_session_options npumoe_session_options_default(void)
{
    return (npumoe_session_options){.struct_bytes = sizeof(npumoe_session_options)};
}

npumoe_eval_options npumoe_eval_options_default(void)
{
    return (npumoe_eval_options){.struct_bytes = sizeof(npumoe_eval_options)};
}

npumoe_model *nm_session_model(const npumoe_session *session)
{
    return session->model;
}

/* ---- making --------------------------------------------------------------------------------- */

/* The sizes of a session, from the options and the model. */
typedef struct plan {
    uint32_t n_ctx, n_chunk, type_k, type_v;
    bool apart;
    uint64_t kv_bytes, scratch_bytes;
} plan;

static npumoe_status make_plan(npumoe_model *m, const npumoe_session_options *o, plan *p,
                               npumoe_error *err)
{
    const nm_config *c = &m->config;
    const nm_placement *placement = o->ignore_plan ? NULL : m->placement;
    nm_buffers b;
    p->n_ctx = c->n_ctx_train < NM_DEFAULT_CTX ? c->n_ctx_train : NM_DEFAULT_CTX;
    p->n_ctx = o->n_ctx ? o->n_ctx : p->n_ctx;
    p->n_chunk = o->n_chunk ? o->n_chunk : NM_DEFAULT_CHUNK;
    if (placement && (o->n_chunk == 0 || p->n_chunk > placement->plan->chunk))
        p->n_chunk = placement->plan->chunk;
    p->n_chunk = p->n_chunk < p->n_ctx ? p->n_chunk : p->n_ctx;
    if (p->n_ctx > INT32_MAX)
        return nm_err_set(err, NPUMOE_EINVAL, "n_ctx: found %" PRIu32 ", expected 1..%d", p->n_ctx,
                          INT32_MAX);
    if (p->n_chunk > 65536)
        return nm_err_set(err, NPUMOE_EINVAL, "n_chunk: found %" PRIu32 ", expected 1..65536",
                          p->n_chunk);
    NM_TRY(nm_kv_type(o->type_k, &p->type_k, err));
    NM_TRY(nm_kv_type(o->type_v, &p->type_v, err));
    NM_TRY(nm_kv_bytes(c, p->n_ctx, p->type_k, p->type_v, &p->kv_bytes, err));
    p->apart = placement && placement->apart;
    p->scratch_bytes = nm_buffers_plan(&b, c, p->n_chunk, nm_pool_size(m->pool), p->apart, NULL);
    if (placement)
        p->scratch_bytes +=
            (placement->n_lanes - 1) * nm_buffers_plan_lane(&b, &b, c, p->apart, NULL);
    p->scratch_bytes += (uint64_t)p->n_ctx * sizeof(npumoe_token) + c->n_vocab * sizeof(float);
    return nm_model_check_memory(m, p->kv_bytes, p->scratch_bytes, err);
}

/* Working memory of the first chunk in flight, whose plan the others share, or of another one. */
static size_t plan_buffers(npumoe_session *s, uint32_t i, const plan *p, char *scratch)
{
    const nm_config *c = &s->model->config;
    if (i == 0)
        return nm_buffers_plan(&s->buf[0], c, p->n_chunk, nm_pool_size(s->model->pool), p->apart,
                               scratch);
    return nm_buffers_plan_lane(&s->buf[i], &s->buf[0], c, p->apart, scratch);
}

static npumoe_status allocate(npumoe_session *s, const plan *p, npumoe_error *err)
{
    const nm_config *c = &s->model->config;
    const uint32_t n_lanes = s->placement ? s->placement->n_lanes : 1;
    NM_TRY(nm_kv_init(&s->kv, c, p->n_ctx, p->type_k, p->type_v, s->allocator, err));
    for (uint32_t i = 0; i < n_lanes; i++) {
        const size_t bytes = plan_buffers(s, i, p, NULL);
        s->scratch[i] = nm_alloc_aligned(s->allocator, bytes);
        if (s->scratch[i] == NULL)
            return nm_err_nomem(err, bytes,
                                i ? "working memory of another chunk" : "working memory");
        nm_sys_advise_huge(s->scratch[i], bytes);
        plan_buffers(s, i, p, s->scratch[i]);
    }
    s->tokens = nm_alloc_array(s->allocator, p->n_ctx, sizeof *s->tokens);
    s->logits = nm_alloc_array(s->allocator, c->n_vocab, sizeof *s->logits);
    if (s->tokens == NULL || s->logits == NULL)
        return nm_err_nomem(err, p->n_ctx * sizeof *s->tokens + c->n_vocab * sizeof *s->logits,
                            "tokens and logits");
    return NPUMOE_OK;
}

/* The model's plan stays while sessions use it. Under the lock where that is possible: a callback of an
 * evaluation, which holds it, may make sessions too. */
static void hold_placement(npumoe_session *s, bool hold)
{
    const bool locked = pthread_mutex_lock(&s->model->lock) == 0;
    if (hold)
        s->placement = s->model->placement;
    if (s->placement)
        s->placement->users += hold ? 1 : (uint32_t)-1;
    if (locked)
        pthread_mutex_unlock(&s->model->lock);
}

npumoe_status npumoe_session_new(npumoe_model *model, const npumoe_session_options *options,
                                 npumoe_session **out, npumoe_error *err)
{
    npumoe_session_options opt = npumoe_session_options_default();
    const npumoe_session_options *o = &opt;
    NM_TRY(nm_abi_read(&opt, sizeof opt, options, "npumoe_session_options", err));
    if (model == NULL || out == NULL)
        return nm_err_set(err, NPUMOE_EINVAL, "npumoe_session_new: model and out must not be NULL");
    if (model->vocab_only)
        return nm_err_set(err, NPUMOE_EINVAL, "the model was loaded with vocab_only");
    plan p;
    NM_TRY(make_plan(model, o, &p, err));
    npumoe_session *s = nm_zalloc(model->allocator, sizeof *s);
    if (s == NULL)
        return nm_err_nomem(err, sizeof *s, "a session");
    s->model = model;
    s->allocator = model->allocator;
    if (!o->ignore_plan)
        hold_placement(s, true);
    s->progress = o->progress;
    s->progress_user = o->progress_user;
    s->apart = p.apart;
    s->scratch_bytes = p.scratch_bytes;
    s->reserved_bytes = p.kv_bytes + p.scratch_bytes;
    atomic_fetch_add(&model->session_bytes, s->reserved_bytes);
    npumoe_status st = allocate(s, &p, err);
    if (st != NPUMOE_OK) {
        npumoe_session_free(&s);
        return st;
    }
    s->forward = (nm_forward){
        .config = &model->config,
        .weights = &model->weights,
        .compute = {.kern = &model->kern,
                    .pool = model->pool,
                    .precision = model->precision,
                    .scratch = s->buf[0].scratch,
                    .scratch_bytes = s->buf[0].scratch_bytes,
                    .packed = s->buf[0].packed,
                    .packed_bytes = s->buf[0].packed_bytes},
        .kv = &s->kv,
        .buf = &s->buf[0],
        .routes = model->routes,
    };
    npumoe_session_reset_stats(s);
    *out = s;
    return NPUMOE_OK;
}

void npumoe_session_free(npumoe_session **session)
{
    if (session == NULL || *session == NULL)
        return;
    npumoe_session *s = *session;
    atomic_fetch_sub(&s->model->session_bytes, s->reserved_bytes);
    hold_placement(s, false);
    nm_kv_fini(&s->kv);
    for (size_t i = 0; i < NM_EXEC_MAX_LANES; i++)
        nm_free_aligned(s->allocator, s->scratch[i]);
    nm_free(s->allocator, s->tokens);
    nm_free(s->allocator, s->logits);
    nm_free(s->allocator, s);
    *session = NULL;
}

void nm_session_set_hooks(npumoe_session *session, const nm_hooks *hooks)
{
    session->forward.hooks = *hooks;
}

void nm_session_reset(npumoe_session *session)
{
    session->n_past = 0;
    session->has_logits = false;
}

/* ---- evaluation ----------------------------------------------------------------------------- */

static npumoe_status too_long(const npumoe_session *s, size_t n_tokens, npumoe_error *err)
{
    return nm_err_set(err, NPUMOE_ETOOLONG, "%zu tokens do not fit a context of %" PRIu32, n_tokens,
                      s->kv.n_ctx);
}

/* The threads are the model's. */
static npumoe_status lock_model(const npumoe_session *s, npumoe_error *err)
{
    if (pthread_mutex_lock(&s->model->lock) == 0)
        return NPUMOE_OK;
    return nm_err_set(err, NPUMOE_EINVAL,
                      "a callback of an evaluation or a warm-up must not begin another one with "
                      "the same model: it would wait for itself");
}

static npumoe_status check_tokens(const npumoe_session *s, const npumoe_token *tokens,
                                  size_t n_tokens, const npumoe_eval_options *o, npumoe_error *err)
{
    const uint32_t n_vocab = s->model->config.n_vocab;
    if (n_tokens == 0)
        return nm_err_set(err, NPUMOE_EINVAL, "an evaluation needs at least one token");
    if (n_tokens > s->kv.n_ctx)
        return too_long(s, n_tokens, err);
    if (o->on_logits && o->logits_from >= n_tokens)
        return nm_err_set(err, NPUMOE_EINVAL, "logits_from: found %zu, expected less than %zu",
                          o->logits_from, n_tokens);
    for (size_t i = 0; i < n_tokens; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= n_vocab)
            return nm_err_set(err, NPUMOE_EINVAL, "token %zu is %" PRId32 ", expected 0..%" PRIu32,
                              i, tokens[i], n_vocab - 1);
    }
    return NPUMOE_OK;
}

/* Positions that can stay; also sets the rope variant of what follows. */
static size_t reusable(npumoe_session *s, const npumoe_token *tokens, size_t n_tokens,
                       const npumoe_eval_options *o)
{
    const nm_weights *w = &s->model->weights;
    const uint32_t variant = nm_rope_variant(&w->ropes[0], n_tokens);
    size_t limit = nm_min_size(s->n_past, n_tokens), n = 0;
    if (variant != s->forward.rope_variant)
        limit = 0;
    s->forward.rope_variant = variant;
    if (o->on_logits)
        limit = nm_min_size(limit, o->logits_from);
    while (n < limit && s->tokens[n] == tokens[n])
        n++;
    /* Everything is there, but not its prediction: the last token is computed again. */
    if (n == n_tokens && !(s->has_logits && s->n_past == n_tokens))
        n--;
    return n;
}

/* Gives the logits of rows [0, n) of the residual stream, positions pos ..., to the caller, and keeps
 * the last one of the whole evaluation. */
static bool emit_logits(npumoe_session *s, nm_forward *f, const npumoe_eval_options *o, size_t pos,
                        uint32_t n, bool last)
{
    const size_t n_vocab = s->model->config.n_vocab;
    for (uint32_t row = 0; row < n;) {
        uint32_t take = n - row < s->buf[0].logit_rows ? n - row : s->buf[0].logit_rows;
        nm_forward_logits(f, row, take, s->buf[0].logits);
        for (uint32_t i = 0; i < take; i++) {
            const float *logits = s->buf[0].logits + i * n_vocab;
            if (o->on_logits && !o->on_logits(o->user, pos + row + i, logits))
                return false;
        }
        row += take;
        if (last && row == n)
            memcpy(s->logits, s->buf[0].logits + (take - 1) * n_vocab, n_vocab * sizeof(float));
    }
    return true;
}

static npumoe_status cancelled(npumoe_error *err, size_t done, size_t n_tokens)
{
    return nm_err_set(err, NPUMOE_ECANCELED, "cancelled after %zu of %zu tokens", done, n_tokens);
}

static bool report(const npumoe_session *s, size_t done)
{
    return !s->progress ||
           s->progress(s->progress_user, done - s->eval_start, s->eval_end - s->eval_start);
}

/* A layer of a large model may take a second, so a chunk reports as it goes: each layer counts as
 * its share of the tokens. */
static bool after_layer(void *user, uint32_t layers_done)
{
    const npumoe_session *s = user;
    const uint32_t n_layer = s->model->config.n_layer;
    if (s->eval_chunk == 1 || layers_done == n_layer)
        return true;
    return report(s, s->n_past + (size_t)s->eval_chunk * layers_done / n_layer);
}

/* The first of n rows from pos on whose logits somebody wants. */
static uint32_t wanted_from(const npumoe_session *s, size_t pos, uint32_t n)
{
    const npumoe_eval_options *o = s->eval_options;
    if (o->on_logits)
        return o->logits_from > pos ? (uint32_t)nm_min_size(o->logits_from - pos, n) : 0;
    return pos + n == s->eval_end ? n - 1 : n;
}

/* A chunk went through the layers: the session is longer by n tokens. False: somebody cancels. */
static bool take_chunk(npumoe_session *s, nm_forward *f, size_t pos, uint32_t n, uint32_t wanted)
{
    const bool last = pos + n == s->eval_end;
    memcpy(s->tokens + pos, s->eval_tokens + pos, n * sizeof *s->tokens);
    s->n_past = pos + n;
    const bool go_on = emit_logits(s, f, s->eval_options, pos + wanted, n - wanted, last);
    s->has_logits = last && go_on;
    return go_on;
}

/* One chunk: positions n_past .. n_past + n. */
static bool eval_chunk(npumoe_session *s, uint32_t n)
{
    const size_t pos = s->n_past;
    const uint32_t wanted = wanted_from(s, pos, n);
    s->eval_chunk = n;
    return nm_forward_chunk(&s->forward, s->eval_tokens + pos, n, pos, wanted) &&
           take_chunk(s, &s->forward, pos, n, wanted) && report(s, s->n_past);
}

/* ---- by plan ---------------------------------------------------------------------------------- */

/* Who watches routing sees chunks in order. */
static uint32_t planned_lanes(const npumoe_session *s)
{
    return s->forward.hooks.route ? 1 : s->placement->n_lanes;
}

/* Where chunks by plan end: the last ones may be too short to be worth it. */
static size_t planned_end(const npumoe_session *s)
{
    /* Probes want one chunk after the other. */
    if (s->placement == NULL || s->forward.hooks.tensor)
        return s->n_past;
    return s->n_past + nm_executor_share(s->placement->ex, s->buf[0].n_chunk, s->n_past,
                                         s->eval_end - s->n_past, planned_lanes(s));
}

static uint32_t planned_wanted(void *user, size_t pos, uint32_t n)
{
    return wanted_from(user, pos, n);
}

static bool planned_done(void *user, nm_forward *f, size_t pos, uint32_t n, uint32_t wanted)
{
    npumoe_session *s = user;
    nm_placement *p = s->placement;
    nm_timings_stop(&p->timings);
    if (s->eval_lanes == 1)
        nm_timings_take(&p->timings, p->plan, pos, n, 1);
    const bool go_on = take_chunk(s, f, pos, n, wanted);
    nm_timings_go(&p->timings);
    return go_on;
}

static bool planned_progress(void *user, size_t tokens)
{
    return report(user, tokens);
}

static npumoe_status eval_planned(npumoe_session *s, size_t end, npumoe_error *err)
{
    nm_placement *p = s->placement;
    s->eval_lanes = planned_lanes(s);
    const nm_pipeline_job job = {
        .forward = &s->forward,
        .ex = p->ex,
        .trace = p->trace.capacity ? &p->trace : NULL,
        .drift = p->replan.drift,
        .layer_ns = p->timings.layer_ns,
        .buf = s->buf,
        .n_lanes = s->eval_lanes,
        .whole = s->buf[0].n_chunk >= p->plan->chunk,
        .tokens = s->eval_tokens,
        .pos = s->n_past,
        .end = end,
        .chunk = s->buf[0].n_chunk,
        .user = s,
        .wanted = planned_wanted,
        .done = planned_done,
        .keep_going = s->progress ? planned_progress : NULL,
    };
    if (job.drift)
        nm_drift_request(job.drift);
    const uint64_t start = nm_clock_ns(), cpu = nm_placement_cpu_ns(p);
    p->timings.used_ns = 0;
    nm_timings_go(&p->timings);
    if (job.trace)
        nm_pool_watch(p->pool, nm_trace_thread, job.trace);
    npumoe_status st = nm_pipeline_run(&job, err);
    if (job.trace)
        nm_pool_watch(p->pool, NULL, NULL);
    nm_timings_stop(&p->timings);
    if (st == NPUMOE_OK && s->eval_lanes > 1)
        nm_timings_take(&p->timings, p->plan, job.pos, (uint32_t)(end - job.pos), s->eval_lanes);
    if (st != NPUMOE_OK && st != NPUMOE_ECANCELED)
        nm_err_prefix(err, st, "%s", p->name);
    p->host_cpu_ns += nm_placement_cpu_ns(p) - cpu;
    p->wall_ns += nm_clock_ns() - start;
    p->n_tokens += s->n_past - job.pos;
    p->n_stopped += st != NPUMOE_OK;
    return st;
}

static npumoe_status eval_rest(npumoe_session *s, const npumoe_token *tokens, size_t n_tokens,
                               const npumoe_eval_options *o, npumoe_error *err)
{
    s->eval_start = s->n_past;
    s->eval_end = n_tokens;
    s->eval_tokens = tokens;
    s->eval_options = o;
    s->forward.keep_going = s->progress ? after_layer : NULL;
    s->forward.keep_going_user = s;
    nm_placement *p = s->placement;
    const uint32_t chunk = s->buf[0].n_chunk;
    const size_t planned = planned_end(s), todo = n_tokens - s->n_past;
    const bool by_plan = planned > s->n_past;
    const nm_exec_counts before = by_plan ? nm_executor_total(p->ex) : (nm_exec_counts){0};
    npumoe_status st = NPUMOE_OK;
    if (p)
        p->n_single += todo == 1;
    if (by_plan)
        st = eval_planned(s, planned, err);
    else if (p && todo > 1 && !s->forward.hooks.tensor)
        st = nm_placement_refuse(p, todo, chunk, err);
    while (st == NPUMOE_OK && s->n_past < n_tokens) {
        const size_t n = nm_min_size(n_tokens - s->n_past, chunk);
        st = eval_chunk(s, (uint32_t)n) ? NPUMOE_OK : NPUMOE_ECANCELED;
    }
    if (st == NPUMOE_OK && by_plan)
        st = nm_placement_judge(p, todo, chunk, &before, err);
    return st == NPUMOE_ECANCELED ? cancelled(err, s->n_past, n_tokens) : st;
}

/* With the model's lock held, since `start`: the timings include the wait for it. */
static npumoe_status eval_locked(npumoe_session *s, const npumoe_token *tokens, size_t n_tokens,
                                 const npumoe_eval_options *o, uint64_t start, npumoe_error *err)
{
    const size_t reused = reusable(s, tokens, n_tokens, o);
    s->n_past = reused;
    s->stats.n_reused += reused;
    if (reused == n_tokens)
        return NPUMOE_OK;
    s->has_logits = false;
    const bool decode = reused > 0 && n_tokens - reused == 1;
    npumoe_status st = eval_rest(s, tokens, n_tokens, o, err);
    const double seconds = (double)(nm_clock_ns() - start) * 1e-9;
    *(decode ? &s->stats.n_decoded : &s->stats.n_prompt) += s->n_past - reused;
    *(decode ? &s->stats.decode_seconds : &s->stats.prompt_seconds) += seconds;
    return st;
}

npumoe_status npumoe_session_eval(npumoe_session *session, const npumoe_token *tokens,
                                  size_t n_tokens, const npumoe_eval_options *options,
                                  npumoe_error *err)
{
    npumoe_eval_options opt = npumoe_eval_options_default();
    const npumoe_eval_options *o = &opt;
    NM_TRY(nm_abi_read(&opt, sizeof opt, options, "npumoe_eval_options", err));
    npumoe_session *s = session;
    NM_TRY(check_tokens(s, tokens, n_tokens, o, err));
    const uint64_t start = nm_clock_ns();
    NM_TRY(lock_model(s, err));
    npumoe_status st = eval_locked(s, tokens, n_tokens, o, start, err);
    pthread_mutex_unlock(&s->model->lock);
    return st;
}

/* ---- warming up ----------------------------------------------------------------------------- */

static void warm_buffer(void *user, void *data, size_t bytes)
{
    nm_warm_memory(user, data, bytes);
}

static void warm(const npumoe_session *s, nm_warm *w, size_t n_tokens)
{
    const npumoe_model *m = s->model;
    const uint32_t n_lanes = s->placement ? s->placement->n_lanes : 1;
    nm_buffers b;
    for (size_t i = 0; i < nm_gguf_n_tensors(m->gguf); i++) {
        const nm_gguf_tensor *t = nm_gguf_tensor_at(m->gguf, i);
        nm_warm_read_only(w, t->data, (size_t)t->bytes);
    }
    for (uint32_t i = 0; i < s->kv.n_layer; i++) {
        const nm_kv_layer *l = &s->kv.layers[i];
        nm_warm_memory(w, s->kv.data + l->k_at, n_tokens * l->k_pos_bytes);
        nm_warm_memory(w, s->kv.data + l->v_at, n_tokens * l->v_pos_bytes);
    }
    const size_t first =
        nm_buffers_plan(&b, &m->config, s->buf[0].n_chunk, nm_pool_size(m->pool), s->apart, NULL);
    nm_warm_memory(w, s->scratch[0], first);
    const size_t lane = nm_buffers_plan_lane(&b, &b, &m->config, s->apart, NULL);
    for (uint32_t i = 1; i < n_lanes; i++)
        nm_warm_memory(w, s->scratch[i], lane);
    if (s->placement)
        nm_executor_each_buffer(s->placement->ex, warm_buffer, w);
}

npumoe_status npumoe_session_warm_up(npumoe_session *session, size_t n_tokens, npumoe_error *err)
{
    const npumoe_session *s = session;
    nm_warm count = {0};
    if (n_tokens > s->kv.n_ctx)
        return too_long(s, n_tokens, err);
    NM_TRY(lock_model(s, err));
    warm(s, &count, n_tokens);
    nm_warm w = {.pool = s->model->pool,
                 .go_on = s->progress,
                 .user = s->progress_user,
                 .total = count.bytes};
    warm(s, &w, n_tokens);
    pthread_mutex_unlock(&s->model->lock);
    return w.cancelled ? nm_err_set(err, NPUMOE_ECANCELED,
                                    "cancelled after touching %" PRIu64 " of %" PRIu64 " bytes",
                                    w.bytes, w.total)
                       : NPUMOE_OK;
}

/* ---- reading -------------------------------------------------------------------------------- */

const float *npumoe_session_logits(const npumoe_session *session)
{
    return session->has_logits ? session->logits : NULL;
}

size_t npumoe_session_length(const npumoe_session *session)
{
    return session->n_past;
}

uint32_t npumoe_session_n_ctx(const npumoe_session *session)
{
    return session->kv.n_ctx;
}

void npumoe_session_get_stats(const npumoe_session *session, npumoe_session_stats *stats)
{
    nm_abi_write(stats, &session->stats, sizeof session->stats);
}

void npumoe_session_reset_stats(npumoe_session *session)
{
    session->stats = (npumoe_session_stats){.struct_bytes = sizeof session->stats,
                                            .kv_bytes = session->kv.bytes,
                                            .scratch_bytes = session->scratch_bytes};
}
