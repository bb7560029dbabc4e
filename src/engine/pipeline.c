/* pipeline.c: see pipeline.h. */
#include "engine/pipeline.h"

#include "base/clock.h"
#include "base/num.h"
#include "moe/turns.h"

#include <math.h>

typedef struct lane {
    nm_forward f; /* with buffers of its own */
    nm_layer_job job;
    nm_stage stage;
    uint32_t n, wanted;
    size_t pos;
    uint32_t stored;    /* layers whose keys and values are in the cache */
    bool on_device;     /* QKV or O, which the stage waits for */
    bool attends;       /* attention is on the device, and O after it, if that is */
    float *input;       /* what was given to QKV or O */
    float *queries;     /* and to attention */
    bool planned;       /* this layer's experts go by plan */
    nm_expert_job run;  /* all experts */
    nm_exec_place rest; /* what is left to REST */
} lane;

typedef struct pipeline {
    const nm_pipeline_job *job;
    lane lanes[NM_EXEC_MAX_LANES];
    size_t next; /* position of the next chunk */
} pipeline;

static uint32_t number(const pipeline *p, const lane *l)
{
    return (uint32_t)(l - p->lanes);
}

/* ---- stages: each leaves the lane in its next one --------------------------------------------- */

/* Where the device wants the queries, if it is to attend. In a model's last layer most rows end before that, and the
 * host computes the few that are wanted. */
static float *queries_of(const pipeline *p, const lane *l)
{
    if (nm_layer_first_row(&l->job, l->wanted) > 0)
        return NULL;
    return nm_exec_attention_input(p->job->ex, number(p, l), l->job.layer, l->job.pos0, l->job.n,
                                   l->f.kv->n_ctx);
}

static npumoe_status run_norm(pipeline *p, lane *l, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    float *own = b->h;
    l->queries = queries_of(p, l);
    l->input = nm_exec_linear_input(p->job->ex, number(p, l), l->job.layer, NM_PART_QKV, l->job.n);
    l->on_device = l->input != NULL;
    if (l->on_device)
        b->h = l->input;
    nm_layer_norm(&l->job, 0, l->job.n);
    b->h = own;
    l->stage = NM_STAGE_ATTEND;
    return l->on_device ? nm_exec_linear_submit(p->job->ex, number(p, l), err) : NPUMOE_OK;
}

/* q, k, v from the device, or, if it failed, from the rows that it was given. */
static npumoe_status take_qkv(pipeline *p, lane *l, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    const size_t rows = nm_exec_linear_rows(p->job->ex);
    float *out = NULL, *own = b->h;
    if (l->on_device)
        NM_TRY(nm_exec_linear_wait(p->job->ex, number(p, l), &out, err));
    if (out) {
        b->q = out;
        b->k = b->q + rows * (size_t)l->job.l->wq.rows;
        b->v = b->k + rows * (size_t)l->job.l->wk.rows;
        return NPUMOE_OK;
    }
    if (l->on_device)
        b->h = l->input;
    if (l->queries)
        b->q = l->queries;
    nm_layer_project(&l->job, 0, l->job.n);
    b->h = own;
    return NPUMOE_OK;
}

static npumoe_status run_join(pipeline *p, lane *l, npumoe_error *err);

/* Attention, and O, if it is planned, right after it. */
static npumoe_status attend_on_device(pipeline *p, lane *l, npumoe_error *err)
{
    nm_executor *ex = p->job->ex;
    const nm_npu_cache cache = {nm_kv_keys(l->f.kv, l->job.layer),
                                nm_kv_values(l->f.kv, l->job.layer)};
    l->attends = true;
    l->stage = NM_STAGE_JOIN;
    NM_TRY(nm_exec_attention_submit(ex, number(p, l), &cache, err));
    l->input = nm_exec_linear_input(ex, number(p, l), l->job.layer, NM_PART_O, l->job.n);
    l->on_device = l->input != NULL;
    return l->on_device ? nm_exec_linear_submit(ex, number(p, l), err) : NPUMOE_OK;
}

/* Attention into the O program's input, or on to JOIN: what the host projects is in memory that lanes
 * share. */
static npumoe_status attend(pipeline *p, lane *l, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    const uint32_t first = nm_layer_first_row(&l->job, l->wanted);
    float *own = b->h;
    nm_layer_drop(&l->job, first);
    if (l->job.n == 0) {
        l->on_device = l->planned = false;
        l->run = (nm_expert_job){0};
        l->stage = NM_STAGE_FINISH;
        return NPUMOE_OK;
    }
    l->input = nm_exec_linear_input(p->job->ex, number(p, l), l->job.layer, NM_PART_O, l->job.n);
    l->on_device = l->input != NULL;
    if (l->on_device)
        b->h = l->input;
    float *const q = b->q;
    b->q = q + first * (size_t)l->job.l->wq.rows;
    nm_layer_attend(&l->job, 0, l->job.n);
    b->q = q;
    b->h = own;
    l->stage = NM_STAGE_JOIN;
    if (l->on_device)
        return nm_exec_linear_submit(p->job->ex, number(p, l), err);
    nm_layer_output(&l->job, 0, l->job.n);
    return run_join(p, l, err);
}

static npumoe_status run_attend(pipeline *p, lane *l, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    float *const q = b->q, *const k = b->k, *const v = b->v;
    const bool is_long = !l->on_device || (!l->queries && nm_layer_first_row(&l->job, l->wanted) <
                                                              l->job.n); /* the host's, for long */
    npumoe_status st = is_long ? nm_exec_submit_all(p->job->ex, err) : NPUMOE_OK;
    if (st == NPUMOE_OK)
        st = take_qkv(p, l, err);
    if (st == NPUMOE_OK) {
        nm_layer_store(&l->job, 0, l->job.n);
        l->stored = l->job.layer + 1;
        st = l->queries ? attend_on_device(p, l, err) : attend(p, l, err);
    }
    b->q = q;
    b->k = k;
    b->v = v;
    return st;
}

/* What the device attended to is where O finds it. If O is the host's, or the device failed, in which case O has
 * read nothing, the host goes on from here. */
static npumoe_status take_attention(pipeline *p, lane *l, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    float *out, *nothing, *const h = b->h, *const q = b->q;
    NM_TRY(nm_exec_attention_wait(p->job->ex, number(p, l), &out, err));
    l->attends = false;
    if (out && l->on_device)
        return NPUMOE_OK;
    if (out) {
        b->h = out;
    } else {
        if (l->on_device)
            NM_TRY(nm_exec_linear_wait(p->job->ex, number(p, l), &nothing, err));
        l->on_device = false;
        b->q = l->queries;
        nm_layer_attend(&l->job, 0, l->job.n);
        b->q = q;
    }
    nm_layer_output(&l->job, 0, l->job.n);
    b->h = h;
    return NPUMOE_OK;
}

/* Rows of O in b->q: from the device, or the host computes them from what O was given. */
static npumoe_status take_o(pipeline *p, lane *l, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    float *out = NULL, *own = b->h;
    if (!l->on_device)
        return NPUMOE_OK;
    NM_TRY(nm_exec_linear_wait(p->job->ex, number(p, l), &out, err));
    if (out) {
        b->q = out;
        return NPUMOE_OK;
    }
    b->h = l->input;
    nm_layer_output(&l->job, 0, l->job.n);
    b->h = own;
    return NPUMOE_OK;
}

static npumoe_status route(pipeline *p, lane *l, npumoe_error *err)
{
    const nm_buffers *b = l->f.buf;
    l->run = nm_layer_route(&l->job);
    l->planned = l->run.dispatch && nm_executor_has_layer(p->job->ex, l->job.layer);
    l->rest = (nm_exec_place){0};
    l->stage = NM_STAGE_REST;
    if (!l->planned)
        return NPUMOE_OK;
    if (p->job->drift)
        nm_drift_add(p->job->drift, number(p, l), l->job.layer, l->run.dispatch);
    return nm_exec_begin(p->job->ex, number(p, l),
                         &(nm_exec_input){.layer = l->job.layer,
                                          .n = l->job.n,
                                          .k = l->run.k,
                                          .dispatch = l->run.dispatch,
                                          .ids = b->ids,
                                          .w = b->weights,
                                          .x = b->h,
                                          .score = b->router,
                                          .shared_gate = l->run.shared_gate,
                                          .scale = l->run.scale},
                         err);
}

static npumoe_status run_join(pipeline *p, lane *l, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    float *const q = b->q;
    if (l->attends)
        NM_TRY(take_attention(p, l, err));
    NM_TRY(take_o(p, l, err));
    nm_layer_join(&l->job);
    b->q = q;
    return route(p, l, err);
}

/* The host's share, a slice at a time: others may be ready to go first by then. */
static npumoe_status run_rest(pipeline *p, lane *l, npumoe_error *err)
{
    nm_expert_job rest = l->run;
    bool more = false;
    if (l->planned)
        NM_TRY(nm_exec_rest(p->job->ex, number(p, l), &l->rest, &more, &rest, err));
    l->stage = more ? NM_STAGE_REST : NM_STAGE_FINISH;
    nm_experts_run(&rest);
    return NPUMOE_OK;
}

static npumoe_status run_finish(pipeline *p, lane *l, npumoe_error *err)
{
    if (l->planned)
        NM_TRY(nm_exec_finish(p->job->ex, number(p, l), &l->run, err));
    if (l->job.n > 0)
        nm_layer_done(&l->job);
    if (l->job.layer + 1 < l->f.config->n_layer) {
        nm_layer_enter(&l->job, l->job.layer + 1);
        l->stage = NM_STAGE_NORM;
        return NPUMOE_OK;
    }
    nm_layer_end(&l->job, l->n, l->wanted);
    l->stage = NM_STAGE_IDLE;
    return NPUMOE_OK;
}

/* ---- turns -------------------------------------------------------------------------------------- */

/* Whether what the stage needs of the device is there. */
static bool has_arrived(const pipeline *p, const lane *l)
{
    nm_executor *ex = p->job->ex;
    switch (l->stage) {
    case NM_STAGE_ATTEND:
    case NM_STAGE_JOIN:
        return (!l->on_device && !l->attends) || nm_exec_parts_are_done(ex, number(p, l));
    case NM_STAGE_FINISH:
        return !l->planned || nm_exec_is_done(ex, number(p, l));
    case NM_STAGE_NORM:
    case NM_STAGE_REST:
    case NM_STAGE_IDLE:
        break;
    }
    return true;
}

/* Of the host's share of the experts. A layer in no plan is not cut into slices, and goes last. */
static double rest_us(const pipeline *p, const lane *l)
{
    return l->planned ? nm_exec_rest_us(p->job->ex, number(p, l), l->rest) : HUGE_VAL;
}

/* NULL: nobody is ready. */
static lane *choose(pipeline *p)
{
    const uint32_t n = p->job->n_lanes;
    nm_turn turns[NM_EXEC_MAX_LANES];
    for (uint32_t i = 0; i < n; i++) {
        const lane *l = &p->lanes[i];
        turns[i] = (nm_turn){.stage = l->stage,
                             .layer = l->job.layer,
                             .stored = l->stored,
                             .age = l->pos,
                             .on_device = l->on_device,
                             .device_attends = l->queries != NULL,
                             .arrived = has_arrived(p, l),
                             .rest_us = l->stage == NM_STAGE_REST ? rest_us(p, l) : 0.0};
    }
    const uint32_t next = nm_turns_next(turns, n, p->lanes[0].f.config->n_layer);
    return next < n ? &p->lanes[next] : NULL;
}

static bool is_over(const pipeline *p)
{
    for (uint32_t i = 0; i < p->job->n_lanes; i++)
        if (p->lanes[i].stage != NM_STAGE_IDLE)
            return false;
    return true;
}

static const char *const names[] = {"norm", "attend", "join, route", "host experts", "finish"};

/* l: the lane with that number, as it was. */
static void trace(const pipeline *p, uint32_t n, const lane *l, nm_stage ran, uint64_t start,
                  uint64_t end)
{
    if (p->job->trace == NULL)
        return;
    nm_trace_add(p->job->trace, &(nm_trace_event){.name = names[ran],
                                                  .track = NM_TRACK_HOST,
                                                  .layer = l->job.layer,
                                                  .lane = n,
                                                  .group = -1,
                                                  .rows = l->job.n,
                                                  .start_ns = start,
                                                  .end_ns = end});
}

static npumoe_status step(pipeline *p, lane *l, npumoe_error *err)
{
    static npumoe_status (*const run[])(pipeline *, lane *, npumoe_error *) = {
        run_norm, run_attend, run_join, run_rest, run_finish};
    const nm_stage now = l->stage;
    const lane before = *l;
    nm_trace_begin(p->job->trace, names[now], l->job.layer, number(p, l), l->job.n);
    const uint64_t start = nm_clock_ns();
    npumoe_status st = run[now](p, l, err);
    const uint64_t end = nm_clock_ns();
    p->job->layer_ns[before.job.layer] += end - start;
    trace(p, number(p, l), &before, now, start, end);
    return st;
}

/* ---- chunks -------------------------------------------------------------------------------------- */

static void start_chunk(pipeline *p, lane *l)
{
    const nm_pipeline_job *j = p->job;
    if (p->next >= j->end)
        return;
    l->pos = p->next;
    l->n = nm_executor_next(j->ex, j->chunk, p->next, j->end - p->next);
    l->wanted = j->wanted(j->user, l->pos, l->n);
    l->stored = 0;
    l->stage = NM_STAGE_NORM;
    if (j->drift)
        nm_drift_begin(j->drift, number(p, l), l->n);
    l->job = nm_layer_begin(&l->f, j->tokens + l->pos, l->n, l->pos);
    nm_layer_enter(&l->job, 0);
    p->next += l->n;
}

/* Tokens before p->next that are through, counting layers. */
static size_t tokens_so_far(const pipeline *p)
{
    size_t n = p->next;
    for (uint32_t i = 0; i < p->job->n_lanes; i++) {
        const lane *l = &p->lanes[i];
        if (l->stage != NM_STAGE_IDLE)
            n -= l->n - (size_t)l->n * l->job.layer / l->f.config->n_layer;
    }
    return n;
}

/* Time between stages is a layer's too: that of the launch that was waited for ... */
static npumoe_status wait_for_device(pipeline *p, npumoe_error *err)
{
    uint32_t layer = 0;
    const uint64_t start = nm_clock_ns();
    NM_TRY(nm_exec_wait_next(p->job->ex, &layer, err));
    p->job->layer_ns[layer] += nm_clock_ns() - start;
    return NPUMOE_OK;
}

/* ... or of the stage that was just run. */
static npumoe_status take_and_submit(pipeline *p, uint32_t layer, npumoe_error *err)
{
    const uint64_t start = nm_clock_ns();
    NM_TRY(nm_exec_pump(p->job->ex, err));
    p->job->layer_ns[layer] += nm_clock_ns() - start;
    return NPUMOE_OK;
}

static npumoe_status run_all(pipeline *p, npumoe_error *err)
{
    const nm_pipeline_job *j = p->job;
    for (uint32_t i = 0; i < j->n_lanes; i++)
        start_chunk(p, &p->lanes[i]);
    while (!is_over(p)) {
        lane *l = choose(p);
        if (l == NULL) {
            NM_TRY(wait_for_device(p, err));
            continue;
        }
        const bool finishes = l->stage == NM_STAGE_FINISH;
        const uint32_t layer = l->job.layer;
        NM_TRY(step(p, l, err));
        if (l->stage == NM_STAGE_IDLE && j->drift)
            nm_drift_end(j->drift, number(p, l));
        if (l->stage == NM_STAGE_IDLE && !j->done(j->user, &l->f, l->pos, l->n, l->wanted))
            return NPUMOE_ECANCELED;
        if (finishes && j->keep_going && !j->keep_going(j->user, tokens_so_far(p)))
            return NPUMOE_ECANCELED;
        if (l->stage == NM_STAGE_IDLE)
            start_chunk(p, l);
        NM_TRY(take_and_submit(p, layer, err));
    }
    return NPUMOE_OK;
}

npumoe_status nm_pipeline_run(const nm_pipeline_job *job, npumoe_error *err)
{
    pipeline p = {.job = job, .next = job->pos};
    for (uint32_t i = 0; i < job->n_lanes; i++) {
        p.lanes[i].f = *job->forward;
        p.lanes[i].f.buf = &job->buf[i];
        p.lanes[i].stage = NM_STAGE_IDLE;
    }
    npumoe_status st = run_all(&p, err);
    if (st != NPUMOE_OK)
        nm_exec_abandon(job->ex);
    return st;
}
