/* exec_run.c: launches of the executor: gather, submit, wait, scatter.
 *
 * Everything in flight has a ticket, and the device finishes tickets in order. So whoever needs
 * anything (a buffer, a place in the queue, a result) waits for the OLDEST ticket of all lanes and takes
 * its result: drain_oldest(). A lane's passes are submitted in order and drained in order, whatever
 * other lanes do in between, which is why its accumulator always sees the same additions. */
#include "moe/executor_priv.h"

#include "base/clock.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

enum {
    ROWS_EACH = 32,   /* rows that a thread gathers at a time */
    LEAST_PIECE = 64, /* rows of an expert, for which decoding its weights is a small part */
    PIECE_STEP = 32
};
/* A piece must meet the product that the whole would (nm_product_for), or the bits would be others. */
_Static_assert((int)LEAST_PIECE >= (int)NM_PRODUCT_FEW, "pieces of many rows");

static exec_layer *layer_of(nm_executor *ex, const exec_lane *lane)
{
    return &ex->layers[lane->input.layer];
}

/* ---- gather and scatter ------------------------------------------------------------------------ */

typedef struct copy_job {
    nm_executor *ex;
    exec_lane *lane;
    const exec_pass *pass;
    float *rows; /* of the launch's buffer */
} copy_job;

/* Slice i of the pass: its rows are dispatch.order[first ..]; how many. */
static uint32_t slice_of(const copy_job *j, uint32_t i, uint32_t *first)
{
    const nm_dispatch *d = &j->lane->dispatch;
    const uint32_t e = j->pass->group->plan->experts[i], load = nm_dispatch_load(d, e);
    const uint32_t left = load > j->pass->from ? load - j->pass->from : 0;
    *first = d->first[e] + j->pass->from;
    return left < j->pass->program->capacity ? left : j->pass->program->capacity;
}

static void gather_row(const copy_job *j, uint32_t slice, uint32_t i, uint32_t token)
{
    const size_t n = j->ex->n_embd;
    float *to = j->rows + ((size_t)slice * j->pass->program->capacity + i) * n;
    memcpy(to, j->lane->input.x + token * n, n * sizeof *to);
}

/* Tickets are pieces of ROWS_EACH rows of slices. */
static void gather_region(void *arg, int thread, int n_threads)
{
    const copy_job *j = arg;
    nm_pool *pool = j->ex->o.pool;
    const uint32_t pieces = (j->pass->program->capacity + ROWS_EACH - 1) / ROWS_EACH;
    (void)thread;
    (void)n_threads;
    for (size_t t = nm_pool_next(pool); t < (size_t)pieces * j->pass->program->n;
         t = nm_pool_next(pool)) {
        const uint32_t slice = (uint32_t)(t / pieces), at = (uint32_t)(t % pieces) * ROWS_EACH;
        uint32_t first = 0, n = j->lane->input.n;
        if (j->pass->group)
            n = slice_of(j, slice, &first);
        for (uint32_t i = at; i < n && i < at + ROWS_EACH; i++)
            gather_row(j, slice, i,
                       j->pass->group ? j->lane->dispatch.order[first + i] / j->lane->input.k : i);
    }
}

/* Threads own columns, so two rows of one token never meet; rows go in the order of the slices. */
static void scatter_region(void *arg, int thread, int n_threads)
{
    const copy_job *j = arg;
    const nm_exec_input *in = &j->lane->input;
    const size_t n = j->ex->n_embd,
                 width = (n / 16 + (size_t)n_threads - 1) / (size_t)n_threads * 16;
    const size_t c0 = (size_t)thread * width < n ? (size_t)thread * width : n;
    const size_t c1 = thread + 1 == n_threads || c0 + width > n ? n : c0 + width;
    for (uint32_t s = 0; c0 < c1 && s < j->pass->program->n; s++) {
        uint32_t first = 0;
        const uint32_t rows = j->pass->group ? slice_of(j, s, &first) : in->n;
        const float *from = j->rows + (size_t)s * j->pass->program->capacity * n;
        for (uint32_t i = 0; i < rows; i++) {
            const uint32_t pair = j->pass->group ? j->lane->dispatch.order[first + i] : i;
            const uint32_t token = j->pass->group ? pair / in->k : i;
            const float w = j->pass->group ? in->w[pair] : in->shared_gate ? in->shared_gate[i] : 1;
            j->ex->o.kern->axpy(c1 - c0, in->scale * w, from + i * n + c0,
                                j->lane->acc + token * n + c0);
        }
    }
}

static void add_region(void *arg, int thread, int n_threads)
{
    const copy_job *j = arg;
    const size_t n = j->ex->n_embd;
    (void)thread;
    (void)n_threads;
    nm_pool *pool = j->ex->o.pool;
    for (size_t i = nm_pool_next(pool); i < j->lane->input.n; i = nm_pool_next(pool)) {
        float *acc = j->lane->acc + i * n;
        j->ex->o.kern->add(n, acc, j->rows + i * n);
        memset(acc, 0, n * sizeof *acc);
    }
}

/* ---- one launch --------------------------------------------------------------------------------- */

static void note(const nm_executor *ex, const exec_lane *lane, const exec_pass *pass,
                 const char *name, nm_trace_track track, uint64_t start, uint64_t end)
{
    nm_trace_add(ex->o.trace,
                 &(nm_trace_event){
                     .name = name,
                     .track = track,
                     .layer = lane->input.layer,
                     .lane = (uint32_t)(lane - ex->lanes),
                     .group = pass->group
                                  ? (int32_t)(pass->group - ex->layers[lane->input.layer].groups)
                                  : -1,
                     .rows = pass->rows,
                     .start_ns = start,
                     .end_ns = end});
}

static void begin(const nm_executor *ex, const exec_lane *lane, const char *name, uint32_t rows)
{
    nm_trace_begin(ex->o.trace, name, lane->input.layer, (uint32_t)(lane - ex->lanes), rows);
}

/* With `require` a failure ends the run, and says where it was. */
static npumoe_status refuse(const nm_executor *ex, uint32_t layer, const exec_group *g,
                            const npumoe_error *why, npumoe_error *err)
{
    const char *device = ex->o.npu->caps.name;
    if (err == NULL)
        return why->code;
    *err = *why;
    if (g == NULL)
        return nm_err_prefix(err, why->code, "device %s, layer %" PRIu32, device, layer);
    return nm_err_prefix(err, why->code, "device %s, layer %" PRIu32 ", group %td", device, layer,
                         g - ex->layers[layer].groups);
}

/* Whether the failure ends the evaluation; if not it was logged, and counted. */
static npumoe_status forgive(nm_executor *ex, exec_lane *lane, exec_pass *pass,
                             const npumoe_error *why, npumoe_error *err)
{
    const uint32_t layer = lane->input.layer;
    ex->layers[layer].counts.failures++;
    pass->failed = true;
    if (pass->group)
        nm_exec_group_failed(ex, layer, pass->group, why);
    else
        nm_exec_part_failed(ex, layer, NM_PART_SHARED, why);
    return ex->o.require ? refuse(ex, layer, pass->group, why, err) : NPUMOE_OK;
}

/* The smallest that the program fits. */
static int32_t free_slot(const nm_executor *ex, const nm_program *p)
{
    for (uint32_t i = ex->n_slots; i-- > 0;) {
        const exec_slot *s = &ex->slots[i];
        if (!s->taken && s->in.bytes >= p->in_bytes && s->out.bytes >= p->out_bytes)
            return (int32_t)i;
    }
    return -1;
}

/* More submissions would be refused: gathering for them is wasted. */
static bool queue_is_full(const nm_executor *ex)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < ex->n_slots; i++)
        n += ex->slots[i].taken;
    for (uint32_t i = 0; i < ex->o.n_lanes; i++)
        n += (ex->lanes[i].linear.ticket ? 1u : 0u) + (ex->lanes[i].attention.ticket ? 1u : 0u);
    return n >= ex->o.npu->caps.queue_depth;
}

/* Gathers into a free buffer and submits the lane's next pass. *more = false: no room now. */
static npumoe_status submit_next(nm_executor *ex, exec_lane *lane, bool *more, npumoe_error *err)
{
    exec_pass *pass = &lane->passes[lane->submitted];
    npumoe_error why;
    const int32_t at = free_slot(ex, pass->program);
    *more = at >= 0 && !queue_is_full(ex);
    if (!*more)
        return NPUMOE_OK;
    exec_slot *slot = &ex->slots[at];
    copy_job job = {ex, lane, pass, slot->in.data};
    begin(ex, lane, "gather", pass->rows);
    const uint64_t start = nm_clock_ns();
    nm_pool_run(ex->o.pool, gather_region, &job);
    npumoe_status st =
        nm_npu_submit(ex->o.npu, pass->program, &slot->in, &slot->out, &pass->ticket, &why);
    const uint64_t end = nm_clock_ns();
    layer_of(ex, lane)->counts.gather_ns += end - start;
    note(ex, lane, pass, "gather", NM_TRACK_HOST, start, end);
    *more = st != NPUMOE_OK || pass->ticket != 0;
    if (!*more)
        return NPUMOE_OK; /* the queue is full: gathered again later */
    lane->submitted++;
    if (st != NPUMOE_OK)
        return forgive(ex, lane, pass, &why, err);
    slot->taken = true;
    pass->slot = at;
    ex->flying++;
    ex->flying_us += pass->us;
    return NPUMOE_OK;
}

/* The device's are only launches that came to their end: what it failed to do is the host's. */
static void count_launch(nm_exec_counts *c, const exec_pass *pass)
{
    const exec_pass *first = pass;
    if (pass->group == NULL) {
        c->part_launches++;
        return;
    }
    while (first->from > 0) /* launches of a group follow one another */
        first--;
    c->launches++;
    c->device_rows += pass->rows;
    c->computed_rows += (uint64_t)pass->program->capacity * pass->program->n;
    c->overflow += pass->overflow;
    c->repassed += pass != first && !first->failed ? pass->rows : 0;
}

static void take_result(nm_executor *ex, exec_lane *lane, const exec_pass *pass)
{
    copy_job job = {ex, lane, pass, ex->slots[pass->slot].out.data};
    begin(ex, lane, "scatter", pass->rows);
    const uint64_t start = nm_clock_ns();
    nm_pool_run(ex->o.pool, scatter_region, &job);
    lane->acc_used = true;
    const uint64_t end = nm_clock_ns();
    layer_of(ex, lane)->counts.scatter_ns += end - start;
    count_launch(&layer_of(ex, lane)->counts, pass);
    note(ex, lane, pass, "scatter", NM_TRACK_HOST, start, end);
}

/* Waits for a ticket, with the clocks. */
static npumoe_status wait_for(nm_executor *ex, exec_lane *lane, const exec_pass *pass,
                              npumoe_error *why)
{
    nm_launch_times times = {0};
    nm_exec_counts *counts = &layer_of(ex, lane)->counts;
    const bool waits = !nm_npu_poll(ex->o.npu, pass->ticket);
    const uint64_t start = nm_clock_ns();
    npumoe_status st = nm_npu_wait(ex->o.npu, pass->ticket, &times, why);
    const uint64_t end = nm_clock_ns();
    counts->wait_ns += waits ? end - start : 0;
    counts->busy_ns += times.busy_ns;
    counts->occupied_ns += times.ended_ns - times.started_ns;
    if (waits)
        note(ex, lane, pass, "wait", NM_TRACK_HOST, start, end);
    note(ex, lane, pass, "queued", NM_TRACK_QUEUE, times.submitted_ns, times.started_ns);
    note(ex, lane, pass, "launch", NM_TRACK_DEVICE, times.started_ns, times.ended_ns);
    return st;
}

/* Past launches that failed when they were submitted. */
static void skip_failed(exec_lane *lane)
{
    while (lane->done < lane->submitted && lane->passes[lane->done].slot < 0)
        lane->done++;
}

/* Waits for the lane's oldest launch and takes its result. */
static npumoe_status drain_pass(nm_executor *ex, exec_lane *lane, npumoe_error *err)
{
    skip_failed(lane);
    exec_pass *pass = &lane->passes[lane->done++];
    npumoe_error why;
    npumoe_status st = wait_for(ex, lane, pass, &why);
    if (st == NPUMOE_OK)
        take_result(ex, lane, pass);
    ex->slots[pass->slot].taken = false;
    pass->slot = -1;
    ex->flying_us = --ex->flying > 0 ? ex->flying_us - pass->us : 0.0;
    return st == NPUMOE_OK ? st : forgive(ex, lane, pass, &why, err);
}

static void note_part(nm_executor *ex, const exec_lane *lane, const exec_part *l, const char *name,
                      nm_trace_track track, uint64_t start, uint64_t end)
{
    nm_trace_add(ex->o.trace, &(nm_trace_event){.name = name,
                                                .track = track,
                                                .layer = l->layer,
                                                .lane = (uint32_t)(lane - ex->lanes),
                                                .group = -1,
                                                .rows = l->n,
                                                .start_ns = start,
                                                .end_ns = end});
}

static npumoe_status drain_part(nm_executor *ex, const exec_lane *lane, exec_part *l,
                                npumoe_error *err)
{
    npumoe_error why;
    nm_launch_times times = {0};
    nm_exec_counts *counts = &ex->layers[l->layer].counts;
    const bool waits = !nm_npu_poll(ex->o.npu, l->ticket);
    const uint64_t start = nm_clock_ns();
    npumoe_status st = nm_npu_wait(ex->o.npu, l->ticket, &times, &why);
    const uint64_t end = nm_clock_ns();
    counts->wait_ns += waits ? end - start : 0;
    counts->busy_ns += times.busy_ns;
    counts->occupied_ns += times.ended_ns - times.started_ns;
    if (waits)
        note_part(ex, lane, l, "wait", NM_TRACK_HOST, start, end);
    note_part(ex, lane, l, "queued", NM_TRACK_QUEUE, times.submitted_ns, times.started_ns);
    note_part(ex, lane, l, nm_cost_part_name(l->part), NM_TRACK_DEVICE, times.started_ns,
              times.ended_ns);
    l->ticket = 0;
    if (st == NPUMOE_OK)
        return st;
    counts->failures++;
    l->failed = true;
    nm_exec_part_failed(ex, l->layer, l->part, &why);
    return ex->o.require ? refuse(ex, l->layer, NULL, &why, err) : NPUMOE_OK;
}

/* ---- all launches -------------------------------------------------------------------------------- */

/* The ticket that the lane would drain next; 0 = nothing in flight. */
static uint64_t next_ticket(const exec_lane *lane)
{
    for (uint32_t i = lane->done; lane->busy && i < lane->submitted; i++)
        if (lane->passes[i].slot >= 0)
            return lane->passes[i].ticket;
    return 0;
}

typedef struct oldest {
    exec_lane *lane;
    uint64_t ticket;
    exec_part *part; /* NULL: a launch of experts */
} oldest;

static oldest find_oldest(nm_executor *ex)
{
    oldest o = {.ticket = UINT64_MAX};
    for (uint32_t i = 0; i < ex->o.n_lanes; i++) {
        exec_lane *lane = &ex->lanes[i];
        exec_part *const parts[] = {&lane->linear, &lane->attention};
        const uint64_t pass = next_ticket(lane);
        if (pass && pass < o.ticket)
            o = (oldest){lane, pass, NULL};
        for (int j = 0; j < 2; j++)
            if (parts[j]->ticket && parts[j]->ticket < o.ticket)
                o = (oldest){lane, parts[j]->ticket, parts[j]};
    }
    return o;
}

static npumoe_status drain(nm_executor *ex, const oldest *o, npumoe_error *err)
{
    return o->part ? drain_part(ex, o->lane, o->part, err) : drain_pass(ex, o->lane, err);
}

static exec_lane *next_to_submit(nm_executor *ex)
{
    exec_lane *best = NULL;
    for (uint32_t i = 0; i < ex->o.n_lanes; i++) {
        exec_lane *lane = &ex->lanes[i];
        if (lane->busy && lane->submitted < lane->n_passes && (!best || lane->order < best->order))
            best = lane;
    }
    return best;
}

/* What keeps the device busy for `us`. Not more: what another lane submits next, queries of its next
 * layer, would stand behind it. */
static npumoe_status submit_for(nm_executor *ex, double us, npumoe_error *err)
{
    bool more = true;
    for (exec_lane *lane = next_to_submit(ex); lane && more; lane = next_to_submit(ex)) {
        if (ex->flying >= NM_PLAN_AHEAD && ex->flying_us >= us)
            break;
        NM_TRY(submit_next(ex, lane, &more, err));
    }
    return NPUMOE_OK;
}

npumoe_status nm_exec_submit_all(nm_executor *ex, npumoe_error *err)
{
    return submit_for(ex, HUGE_VAL, err);
}

npumoe_status nm_exec_pump(nm_executor *ex, npumoe_error *err)
{
    for (oldest o = find_oldest(ex); o.lane && nm_npu_poll(ex->o.npu, o.ticket);
         o = find_oldest(ex))
        NM_TRY(drain(ex, &o, err));
    return submit_for(ex, ex->o.n_lanes > 1 ? NM_PLAN_AHEAD_US : HUGE_VAL, err);
}

npumoe_status nm_exec_wait_next(nm_executor *ex, uint32_t *layer, npumoe_error *err)
{
    const oldest o = find_oldest(ex);
    if (o.lane == NULL)
        return nm_err_set(err, NPUMOE_EINTERNAL, "executor: nothing is in flight to wait for");
    *layer = o.part ? o.part->layer : o.lane->input.layer;
    NM_TRY(drain(ex, &o, err));
    return nm_exec_pump(ex, err);
}

npumoe_status nm_exec_begin(nm_executor *ex, uint32_t n, const nm_exec_input *input,
                            npumoe_error *err)
{
    exec_lane *lane = &ex->lanes[n];
    lane->busy = true;
    lane->order = ++ex->begun;
    lane->input = *input;
    nm_exec_assign(ex, lane);
    return nm_exec_pump(ex, err);
}

/* Whether a launch of this lane is the shared expert. */
static bool shared_is_there(const exec_lane *lane)
{
    for (uint32_t i = 0; i < lane->n_passes; i++)
        if (lane->passes[i].group == NULL)
            return true;
    return false;
}

/* What the host has of the shared expert, us. */
static double shared_us(const nm_executor *ex, const exec_lane *lane)
{
    const nm_curve *cost = &ex->o.plan->cost.host_part[NM_PART_SHARED];
    return cost->n > 0 && !shared_is_there(lane) ? nm_curve_at(cost, lane->input.n) : 0.0;
}

static uint32_t rows_left(const exec_lane *lane, uint32_t e, nm_exec_place at)
{
    return nm_dispatch_load(&lane->dispatch, e) - lane->taken[e] - (e == at.expert ? at.row : 0);
}

double nm_exec_rest_us(const nm_executor *ex, uint32_t n, nm_exec_place at)
{
    const exec_lane *lane = &ex->lanes[n];
    double us = at.shared ? 0.0 : shared_us(ex, lane);
    for (uint32_t e = at.expert; e < ex->n_expert; e++) {
        const uint32_t rows = rows_left(lane, e, at);
        us += rows > 0 ? nm_curve_at(&ex->o.plan->cost.host_expert, rows) : 0.0;
    }
    return us;
}

/* How many of an expert's rows a slice has. Only what is longer than a slice by itself is cut, as each piece decodes
 * the weights again, and no piece is small. */
static uint32_t rows_of_slice(const nm_curve *cost, uint32_t rows)
{
    uint32_t piece = LEAST_PIECE;
    if (rows < 2 * LEAST_PIECE || nm_curve_at(cost, rows) <= 1.25 * NM_PLAN_SLICE_US)
        return rows;
    while (piece + PIECE_STEP <= rows - LEAST_PIECE &&
           nm_curve_at(cost, piece + PIECE_STEP) <= NM_PLAN_SLICE_US)
        piece += PIECE_STEP;
    return piece;
}

/* Experts from *at on, until they fill a slice; what they take, us. */
static double fill_slice(nm_executor *ex, const exec_lane *lane, nm_exec_place *at,
                         nm_expert_job *job)
{
    const nm_curve *cost = &ex->o.plan->cost.host_expert;
    double us = 0.0;
    job->skip = at->row;
    for (; at->expert < ex->n_expert && us < NM_PLAN_SLICE_US; at->expert++, at->row = 0) {
        const uint32_t rows = rows_left(lane, at->expert, *at);
        const uint32_t now = rows_of_slice(cost, rows);
        if (rows == 0)
            continue;
        if (now < rows && job->n_experts > 0) /* a cut one begins a slice */
            break;
        ex->rest[job->n_experts++] = at->expert;
        us += nm_curve_at(cost, now);
        if (now < rows) {
            job->most = now;
            at->row += now;
            break;
        }
    }
    return us;
}

/* The shared expert, if the host has it, is a slice of its own, before the routed ones: so the order of
 * sums is that of a job in one piece. */
npumoe_status nm_exec_rest(nm_executor *ex, uint32_t n, nm_exec_place *at, bool *more,
                           nm_expert_job *job, npumoe_error *err)
{
    const exec_lane *lane = &ex->lanes[n];
    job->dispatch = &lane->dispatch;
    job->taken = lane->taken;
    job->experts = ex->rest;
    job->n_experts = 0;
    job->skip = job->most = 0;
    if (at->shared || shared_is_there(lane))
        job->shared = NULL;
    const double us =
        job->shared ? fmax(NM_PLAN_SLICE_US, shared_us(ex, lane)) : fill_slice(ex, lane, at, job);
    at->shared = true;
    *more = at->expert < ex->n_expert;
    return submit_for(ex, us + NM_PLAN_AHEAD_US, err);
}

bool nm_exec_is_done(nm_executor *ex, uint32_t n)
{
    const exec_lane *lane = &ex->lanes[n];
    if (lane->submitted < lane->n_passes)
        return false;
    for (uint32_t i = lane->done; i < lane->submitted; i++)
        if (lane->passes[i].slot >= 0 && !nm_npu_poll(ex->o.npu, lane->passes[i].ticket))
            return false;
    return true;
}

/* The rows of failed launches as a dispatch table of their own; false: there are none. */
static bool list_lost(nm_executor *ex, const exec_lane *lane, bool *shared)
{
    const nm_dispatch *d = &lane->dispatch;
    uint32_t at = 0;
    for (uint32_t e = 0; e < ex->n_expert; e++) {
        ex->lost_first[e] = at;
        for (uint32_t i = 0; i < lane->n_passes; i++) {
            const exec_pass *pass = &lane->passes[i];
            const nm_plan_group *g = pass->failed && pass->group ? pass->group->plan : NULL;
            for (uint32_t s = 0; g && s < g->n_experts; s++) {
                if (g->experts[s] != e)
                    continue;
                uint32_t j = d->first[e] + pass->from, end = j + pass->program->capacity;
                for (; j < end && j < d->first[e + 1]; j++)
                    ex->lost_order[at++] = d->order[j];
            }
        }
    }
    ex->lost_first[ex->n_expert] = at;
    ex->lost.n_pairs = at;
    *shared = false;
    for (uint32_t i = 0; i < lane->n_passes; i++)
        *shared = *shared || (lane->passes[i].failed && lane->passes[i].group == NULL);
    return at > 0 || *shared;
}

static void repair(nm_executor *ex, const exec_lane *lane, const nm_expert_job *job)
{
    bool shared;
    if (!list_lost(ex, lane, &shared))
        return;
    nm_expert_job again = *job;
    again.dispatch = &ex->lost;
    again.taken = NULL;
    again.experts = NULL;
    if (!shared)
        again.shared = NULL;
    nm_experts_run(&again);
}

npumoe_status nm_exec_finish(nm_executor *ex, uint32_t n, const nm_expert_job *job,
                             npumoe_error *err)
{
    exec_lane *lane = &ex->lanes[n];
    for (;;) {
        skip_failed(lane);
        if (lane->done == lane->n_passes)
            break;
        NM_TRY(nm_exec_submit_all(ex, err));
        skip_failed(lane);
        if (lane->done == lane->n_passes)
            break;
        const oldest o = find_oldest(ex); /* of its own launches at least one is in flight */
        NM_TRY(drain(ex, &o, err));
    }
    repair(ex, lane, job);
    if (lane->acc_used) {
        copy_job add = {ex, lane, NULL, job->y};
        nm_pool_run(ex->o.pool, add_region, &add);
    }
    lane->acc_used = false;
    lane->busy = false;
    return NPUMOE_OK;
}

void nm_exec_abandon(nm_executor *ex)
{
    nm_npu_cancel(ex->o.npu);
    for (uint32_t i = 0; i < ex->o.n_lanes; i++) {
        exec_lane *lane = &ex->lanes[i];
        for (uint32_t p = lane->done; lane->busy && p < lane->submitted; p++)
            if (lane->passes[p].slot >= 0) {
                nm_npu_wait(ex->o.npu, lane->passes[p].ticket, NULL, NULL);
                ex->slots[lane->passes[p].slot].taken = false;
            }
        if (lane->attention.ticket) /* before its O */
            nm_npu_wait(ex->o.npu, lane->attention.ticket, NULL, NULL);
        if (lane->linear.ticket)
            nm_npu_wait(ex->o.npu, lane->linear.ticket, NULL, NULL);
        lane->attention.ticket = lane->linear.ticket = 0;
        ex->flying = 0;
        ex->flying_us = 0.0;
        if (lane->acc_used)
            memset(lane->acc, 0, (size_t)ex->o.n_tokens * ex->n_embd * sizeof *lane->acc);
        lane->acc_used = false;
        lane->busy = false;
    }
}

void nm_exec_start(nm_executor *ex, bool beside_others)
{
    ex->part_price = beside_others ? ex->o.plan->part_price : NM_COST_EVEN_PRICE;
}

void nm_exec_chunk(nm_executor *ex, uint32_t lane, uint32_t rows)
{
    ex->lanes[lane].chunk_rows = rows;
}

/* ---- dense parts ---------------------------------------------------------------------------------- */

static float *begin_part(exec_part *l, nm_program *program, uint32_t layer, nm_cost_part part,
                         uint32_t rows, const nm_npu_buffer *in)
{
    *l = (exec_part){.program = program, .layer = layer, .n = rows, .part = part};
    return in->data;
}

float *nm_exec_linear_input(nm_executor *ex, uint32_t n, uint32_t layer, nm_cost_part part,
                            uint32_t all, uint32_t *rows)
{
    exec_lane *lane = &ex->lanes[n];
    nm_program *p = ex->layers[layer].part[part];
    if (!nm_exec_part_pays(ex, lane, layer, part, all))
        return NULL;
    *rows = all < p->capacity ? all : p->capacity;
    return begin_part(&lane->linear, p, layer, part, *rows, &lane->rows);
}

static npumoe_status submit_part(nm_executor *ex, exec_part *l, const nm_npu_buffer *in,
                                 nm_npu_buffer *out, const nm_npu_cache *cache, npumoe_error *err)
{
    npumoe_error why;
    npumoe_status st;
    for (;;) {
        st = nm_npu_submit_with(ex->o.npu, l->program, in, out, cache, &l->ticket, &why);
        if (st != NPUMOE_OK || l->ticket)
            break;
        const oldest o = find_oldest(ex); /* the queue is full of these */
        NM_TRY(drain(ex, &o, err));
    }
    if (st == NPUMOE_OK)
        return st;
    l->failed = true;
    ex->layers[l->layer].counts.failures++;
    nm_exec_part_failed(ex, l->layer, l->part, &why);
    return ex->o.require ? refuse(ex, l->layer, NULL, &why, err) : NPUMOE_OK;
}

npumoe_status nm_exec_linear_submit(nm_executor *ex, uint32_t n, npumoe_error *err)
{
    exec_lane *lane = &ex->lanes[n];
    nm_npu_buffer *out = lane->linear.part == NM_PART_QKV ? &lane->wide : &lane->out;
    return submit_part(ex, &lane->linear, &lane->rows, out, NULL, err);
}

bool nm_exec_parts_are_done(nm_executor *ex, uint32_t n)
{
    const exec_part *l = &ex->lanes[n].linear, *a = &ex->lanes[n].attention;
    return (l->ticket == 0 || nm_npu_poll(ex->o.npu, l->ticket)) &&
           (a->ticket == 0 || nm_npu_poll(ex->o.npu, a->ticket));
}

/* used: whether what it brings is taken. A launch whose input was never there brings nothing. */
static npumoe_status wait_part(nm_executor *ex, const exec_part *l, bool used, npumoe_error *err)
{
    while (l->ticket) {
        const oldest o = find_oldest(ex);
        NM_TRY(drain(ex, &o, err));
    }
    ex->layers[l->layer].counts.part_launches += used && !l->failed;
    return NPUMOE_OK;
}

npumoe_status nm_exec_linear_wait(nm_executor *ex, uint32_t n, float **out, npumoe_error *err)
{
    exec_lane *lane = &ex->lanes[n];
    const exec_part *l = &lane->linear;
    NM_TRY(wait_part(ex, l, out != NULL, err));
    if (out)
        *out = l->failed ? NULL : l->part == NM_PART_QKV ? lane->wide.data : lane->out.data;
    return NPUMOE_OK;
}

float *nm_exec_linear_output(const nm_executor *ex, uint32_t n)
{
    return ex->lanes[n].out.data;
}

uint32_t nm_exec_linear_rows(const nm_executor *ex, uint32_t n)
{
    return ex->lanes[n].linear.program->capacity;
}

/* The program whose positions end with this chunk; of a short chunk, the rows that are missing are computed. */
static nm_program *attention_for(const nm_executor *ex, uint32_t layer, size_t pos, uint32_t rows,
                                 size_t room)
{
    const nm_plan *plan = ex->o.plan;
    const exec_layer *l = &ex->layers[layer];
    const size_t i = pos / plan->chunk;
    if (l->plan == NULL || !l->plan->on_device[NM_PART_ATTENTION] ||
        l->part_failed[NM_PART_ATTENTION] || pos % plan->chunk != 0 || i >= ex->n_attention ||
        rows == 0 || rows > plan->chunk || pos + plan->chunk > room)
        return NULL;
    const nm_cost_short s = {
        .rows = rows, .capacity = plan->chunk, .n_past = pos, .price = ex->part_price};
    const bool pays = rows == plan->chunk || nm_cost_part_pays(&plan->cost, NM_PART_ATTENTION, &s);
    return pays ? ex->attention[i] : NULL;
}

float *nm_exec_attention_input(nm_executor *ex, uint32_t n, uint32_t layer, size_t pos,
                               uint32_t rows, size_t room)
{
    exec_lane *lane = &ex->lanes[n];
    nm_program *p = attention_for(ex, layer, pos, rows, room);
    return p ? begin_part(&lane->attention, p, layer, NM_PART_ATTENTION, rows, &lane->wide) : NULL;
}

npumoe_status nm_exec_attention_submit(nm_executor *ex, uint32_t n, const nm_npu_cache *cache,
                                       npumoe_error *err)
{
    exec_lane *lane = &ex->lanes[n];
    return submit_part(ex, &lane->attention, &lane->wide, &lane->rows, cache, err);
}

bool nm_exec_attention_is_done(nm_executor *ex, uint32_t n)
{
    const exec_part *a = &ex->lanes[n].attention;
    return a->ticket == 0 || nm_npu_poll(ex->o.npu, a->ticket);
}

npumoe_status nm_exec_attention_wait(nm_executor *ex, uint32_t n, float **out, npumoe_error *err)
{
    exec_lane *lane = &ex->lanes[n];
    NM_TRY(wait_part(ex, &lane->attention, true, err));
    *out = lane->attention.failed ? NULL : lane->rows.data;
    return NPUMOE_OK;
}
