/* pipeline.c: see pipeline.h. */
#include "engine/pipeline.h"

#include "base/clock.h"
#include "base/num.h"
#include "moe/turns.h"

#include <math.h>
#include <string.h>

typedef struct lane {
    nm_forward f; /* with buffers of its own */
    nm_layer_job job;
    nm_stage stage;
    uint32_t n, wanted;
    size_t pos;
    uint32_t stored; /* layers whose keys and values are in the cache */
    uint32_t
        taken; /* rows of QKV or O that the device has, the first ones; 0: the stage waits for none */
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

/* How many of n rows of a part the device takes, and where it wants them: l->input. */
static uint32_t take_rows(const pipeline *p, lane *l, nm_cost_part part, uint32_t n)
{
    uint32_t rows = 0;
    l->input = nm_exec_linear_input(p->job->ex, number(p, l), l->job.layer, part, n, &rows);
    return l->input ? rows : 0;
}

/* The device's rows of QKV first. What is left of them to the host it computes while the device is at work. */
static npumoe_status run_norm(pipeline *p, lane *l, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    float *const own = b->h;
    l->queries = queries_of(p, l);
    l->taken = take_rows(p, l, NM_PART_QKV, l->job.n);
    l->stage = NM_STAGE_ATTEND;
    if (l->taken > 0) {
        b->h = l->input;
        nm_layer_norm(&l->job, 0, l->taken);
        b->h = own;
        NM_TRY(nm_exec_linear_submit(p->job->ex, number(p, l), err));
    }
    nm_layer_norm(&l->job, l->taken, l->job.n);
    if (l->taken > 0)
        nm_layer_project(&l->job, l->taken, l->job.n);
    return NPUMOE_OK;
}

/* The first l->taken rows of q, k, v from the device: *out. NULL: all are the host's, as the device failed, and its rows
 * were computed from what it was given, or as it had none. */
static npumoe_status take_qkv(pipeline *p, lane *l, float **out, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    float *const own = b->h;
    *out = NULL;
    if (l->taken == 0) {
        b->q = l->queries ? l->queries : b->q;
        nm_layer_project(&l->job, 0, l->job.n);
        return NPUMOE_OK;
    }
    NM_TRY(nm_exec_linear_wait(p->job->ex, number(p, l), out, err));
    if (*out)
        return NPUMOE_OK;
    b->h = l->input;
    nm_layer_project(&l->job, 0, l->taken);
    b->h = own;
    l->taken = 0;
    return NPUMOE_OK;
}

/* Keys and values of all rows into the cache. device: where its rows of q are; k and v follow. */
static void store(pipeline *p, lane *l, float *device)
{
    nm_buffers *b = l->f.buf;
    float *const q = b->q, *const k = b->k, *const v = b->v;
    if (device) {
        const size_t rows = nm_exec_linear_rows(p->job->ex, number(p, l));
        b->q = device;
        b->k = b->q + rows * (size_t)l->job.l->wq.rows;
        b->v = b->k + rows * (size_t)l->job.l->wk.rows;
        nm_layer_store(&l->job, 0, l->taken);
        b->q = q;
        b->k = k;
        b->v = v;
    }
    nm_layer_store(&l->job, l->taken, l->job.n);
    l->stored = l->job.layer + 1;
}

static npumoe_status run_join(pipeline *p, lane *l, npumoe_error *err);

/* Attention, and O, if it is planned, right after it. Queries that the host computed go where the program reads them: over
 * the device's keys and values, which are in the cache by now. */
static npumoe_status attend_on_device(pipeline *p, lane *l, npumoe_error *err)
{
    nm_executor *ex = p->job->ex;
    const float *q = l->f.buf->q;
    const size_t width = (size_t)l->job.l->wq.rows;
    const nm_npu_cache cache = {nm_kv_keys(l->f.kv, l->job.layer),
                                nm_kv_values(l->f.kv, l->job.layer)};
    if (q != l->queries)
        memcpy(l->queries + l->taken * width, q + l->taken * width,
               (l->job.n - l->taken) * width * sizeof *q);
    l->attends = true;
    l->stage = NM_STAGE_JOIN;
    NM_TRY(nm_exec_attention_submit(ex, number(p, l), &cache, err));
    l->taken = take_rows(p, l, NM_PART_O, l->job.n);
    return l->taken > 0 ? nm_exec_linear_submit(ex, number(p, l), err) : NPUMOE_OK;
}

/* Queries of a chunk: those of the first rows are the device's. */
typedef struct queries {
    float *device, *host;
    uint32_t n_device;
} queries;

/* Attention of rows [from, to), wherever their queries are. */
static void attend_rows(lane *l, const queries *q, uint32_t from, uint32_t to)
{
    nm_buffers *b = l->f.buf;
    const uint32_t cut = q->n_device < from ? from : q->n_device > to ? to : q->n_device;
    b->q = q->device;
    nm_layer_attend(&l->job, from, cut);
    b->q = q->host;
    nm_layer_attend(&l->job, cut, to);
}

/* The host's rows of O, from b->h, behind the device's. */
static void put_output(const pipeline *p, lane *l)
{
    nm_buffers *b = l->f.buf;
    float *const own = b->q;
    b->q = nm_exec_linear_output(p->job->ex, number(p, l));
    nm_layer_output(&l->job, l->taken, l->job.n);
    b->q = own;
}

/* Attention on the host: first the rows that O's program takes, into its input; the others, and their part of O, while it
 * runs. Without such a program on to JOIN: what the host projects is in memory that lanes may share. device: queries that
 * are there, of the first l->taken rows. */
static npumoe_status attend(pipeline *p, lane *l, float *device, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    float *const h = b->h, *const own = b->q;
    const uint32_t first = nm_layer_first_row(&l->job, l->wanted);
    const size_t unwanted = first * (size_t)l->job.l->wq.rows;
    queries q = {.host = own + unwanted};
    if (device && l->taken > first) {
        q.n_device = l->taken - first;
        q.device = device + unwanted;
    }
    l->taken = 0;
    nm_layer_drop(&l->job, first);
    if (l->job.n == 0) {
        l->planned = false;
        l->run = (nm_expert_job){0};
        l->stage = NM_STAGE_FINISH;
        return NPUMOE_OK;
    }
    l->taken = take_rows(p, l, NM_PART_O, l->job.n);
    l->stage = NM_STAGE_JOIN;
    if (l->taken > 0) {
        b->h = l->input;
        attend_rows(l, &q, 0, l->taken);
        b->h = h;
        NM_TRY(nm_exec_linear_submit(p->job->ex, number(p, l), err));
    }
    attend_rows(l, &q, l->taken, l->job.n);
    b->q = own;
    if (l->taken > 0) {
        put_output(p, l);
        return NPUMOE_OK;
    }
    nm_layer_output(&l->job, 0, l->job.n);
    return run_join(p, l, err);
}

static npumoe_status run_attend(pipeline *p, lane *l, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    float *const q = b->q, *device = NULL;
    const bool is_long = l->taken == 0 || (!l->queries && nm_layer_first_row(&l->job, l->wanted) <
                                                              l->job.n); /* the host's, for long */
    npumoe_status st = is_long ? nm_exec_submit_all(p->job->ex, err) : NPUMOE_OK;
    if (st == NPUMOE_OK)
        st = take_qkv(p, l, &device, err);
    if (st == NPUMOE_OK) {
        store(p, l, device);
        st = l->queries ? attend_on_device(p, l, err) : attend(p, l, device, err);
    }
    b->q = q;
    return st;
}

/* What the device attended to is where O finds it, and where the host finds its own rows of O. If the device failed, O has
 * read nothing, and the host goes on from here. */
static npumoe_status take_attention(pipeline *p, lane *l, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    float *out, *const h = b->h, *const q = b->q;
    NM_TRY(nm_exec_attention_wait(p->job->ex, number(p, l), &out, err));
    l->attends = false;
    if (out && l->taken > 0) {
        b->h = out;
        put_output(p, l);
        b->h = h;
        return NPUMOE_OK;
    }
    if (out) {
        b->h = out;
    } else {
        if (l->taken > 0)
            NM_TRY(nm_exec_linear_wait(p->job->ex, number(p, l), NULL, err));
        l->taken = 0;
        b->q = l->queries;
        nm_layer_attend(&l->job, 0, l->job.n);
        b->q = q;
    }
    nm_layer_output(&l->job, 0, l->job.n);
    b->h = h;
    return NPUMOE_OK;
}

/* Rows of O in b->q: with those from the device, or the host computes them from what O was given. */
static npumoe_status take_o(pipeline *p, lane *l, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    float *out = NULL, *const own = b->h;
    if (l->taken == 0)
        return NPUMOE_OK;
    NM_TRY(nm_exec_linear_wait(p->job->ex, number(p, l), &out, err));
    b->q = nm_exec_linear_output(p->job->ex, number(p, l));
    if (out)
        return NPUMOE_OK;
    b->h = l->input;
    nm_layer_output(&l->job, 0, l->taken);
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

/* In two steps where the device attends and the host has rows of O: these when attention has ended, before O has. */
static bool joins_twice(const lane *l)
{
    return l->attends && l->taken > 0 && l->taken < l->job.n;
}

static npumoe_status run_join(pipeline *p, lane *l, npumoe_error *err)
{
    nm_buffers *b = l->f.buf;
    float *const q = b->q;
    const bool again = joins_twice(l);
    if (l->attends)
        NM_TRY(take_attention(p, l, err));
    if (again && l->taken > 0)
        return NPUMOE_OK;
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
        if (joins_twice(l))
            return nm_exec_attention_is_done(ex, number(p, l));
        return (l->taken == 0 && !l->attends) || nm_exec_parts_are_done(ex, number(p, l));
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
                             .on_device = l->taken > 0,
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
    nm_exec_chunk(j->ex, number(p, l), l->n);
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
    const size_t n = j->end - j->pos;
    const uint32_t first = nm_executor_next(j->ex, j->chunk, j->pos, n);
    nm_exec_start(j->ex, j->n_lanes > 1 && n > first && j->whole);
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
