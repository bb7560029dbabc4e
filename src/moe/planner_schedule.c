/* planner_schedule.c: how long a prompt takes, chunk by chunk and stage by stage, as engine/pipeline.c runs
 * it.
 *
 * A layer's own figures (planner_sim.c) take host and device as busy from the first moment to the last.
 * That is right for choosing: it is quick, and the sum of many layers comes near it. It is not what a
 * prompt of four chunks takes: nothing overlaps the first chunk's attention or the last one's
 * experts, a chunk waits for the one before it, late chunks attend to more, and of the last layer only one
 * row is wanted. So a plan that is done is walked through here: a lane for each chunk in flight, the stages of pipeline.h, the
 * rule of who goes next (turns.h), a queue that the device empties in order.
 *
 * The walk is two clocks (planner_clocks.h), by which a side is slowed down only while the other works, and the
 * launches in flight; all ends are by the device's clock. Each chunk
 * meets one scenario of loads in all layers; prompts are walked until every scenario was met. Figures are for as many rows
 * as a whole chunk has.
 *
 * What it does not know: that experts of few rows are not cut, nor layers that are in no plan, so that the host looks at the
 * device later than after a slice; and what it costs to start a slice. */
#include "moe/planner_priv.h"
#include "moe/turns.h"

#include <math.h>
#include <string.h>

enum {
    MOST_SLICES = 64
}; /* of a layer's experts: half a second of them, in slices as they are run */

/* Shares of nm_cost.host_layer in three stages; which one pays hardly matters, only their sum. */
static const double norm_share = 0.1, store_share = 0.35, join_share = 0.55;

typedef struct lane {
    nm_stage stage;
    uint32_t chunk, layer;
    const nm_planner *of; /* of that chunk: the prompt's, or that of a last one which is short */
    uint32_t at;          /* its number there */
    uint32_t stored;      /* layers whose keys are in the cache */
    bool on_device;       /* the part that the stage waits for */
    bool host_o;          /* its O is the host's, after attention on the device */
    double rest_o;        /* the host's rows of O, after attention on the device, which ends then */
    double attended;
    uint32_t queued; /* places that its parts hold in the queue */
    double part_end; /* of the last of them */
    uint64_t order;  /* lanes that began earlier submit first */
    uint32_t n, submitted, done;
    double *us, *end; /* launches: device time, when it ends */
    uint32_t *rows;
    double rest_us, slice_us;
} lane;

typedef struct walk {
    const nm_planner *p;
    nm_way *const *ways;
    lane lanes[NM_PLAN_MAX_IN_FLIGHT];
    uint32_t n_lanes, n_chunks, next, first_scenario;
    uint32_t n_whole; /* layers with experts, for all rows */
    uint32_t flying;  /* launches that hold a place in the queue */
    uint32_t groups;  /* of them of groups, and the time that these take */
    double groups_us;
    uint64_t begun;
    nm_clocks clocks;
    nm_prediction sum;
} walk;

static void spend(walk *w, double us, nm_cost_work kind)
{
    nm_clocks_work(&w->clocks, us, w->p->beside[kind]);
}

static void spend_part(walk *w, double us, nm_cost_part part)
{
    nm_clocks_work(&w->clocks, us, nm_planner_part_beside(w->p, part));
}

/* ---- the device ----------------------------------------------------------------------------- */

static double start_launch(walk *w, double us)
{
    spend(w, w->p->cost->launch_host_us, NM_WORK_ROWS);
    w->flying++;
    return nm_clocks_launch(&w->clocks, us);
}

static void start_part(walk *w, lane *l, nm_cost_part part)
{
    l->on_device = true;
    l->queued++;
    const nm_part_times of = nm_planner_part_times(l->of, w->ways[l->layer], part, l->at);
    l->part_end = start_launch(w, of.device_us);
    w->sum.launches++;
}

static void take_launch(walk *w, lane *l)
{
    nm_clocks_wait(&w->clocks, l->end[l->done]);
    spend(w, nm_planner_scatter(w->p, l->rows[l->done]), NM_WORK_ROWS);
    w->groups_us = --w->groups > 0 ? w->groups_us - l->us[l->done] : 0.0;
    l->done++;
    w->flying--;
}

/* What ends next of all that is in flight; false: nothing, or, unless we wait, nothing has ended. */
static bool take_oldest(walk *w, bool wait)
{
    lane *best = NULL;
    double ends = HUGE_VAL;
    bool part = false;
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        lane *l = &w->lanes[i];
        if (l->done < l->submitted && l->end[l->done] < ends) {
            best = l;
            ends = l->end[l->done];
            part = false;
        }
        const double end = l->rest_o > 0.0 ? l->attended : l->part_end;
        const bool known = l->rest_o > 0.0 && l->attended <= w->clocks.at;
        if (l->queued > 0 && !known && end < ends) {
            best = l;
            ends = end;
            part = true;
        }
    }
    if (!best || (!wait && ends > w->clocks.at))
        return false;
    if (!part) {
        take_launch(w, best);
        return true;
    }
    nm_clocks_wait(&w->clocks, ends);
    if (best->rest_o > 0.0) /* attention alone */
        return true;
    w->flying -= best->queued;
    best->queued = 0;
    return true;
}

static void take_part(walk *w, lane *l)
{
    while (l->queued > 0)
        take_oldest(w, true);
    l->on_device = false;
}

static lane *next_to_submit(walk *w)
{
    lane *best = NULL;
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        lane *l = &w->lanes[i];
        if (l->submitted < l->n && (!best || l->order < best->order))
            best = l;
    }
    return best;
}

static void submit_for(walk *w, double us)
{
    const uint32_t queue = w->p->cost->device.queue_depth, depth = queue > 1 ? queue : 1;
    for (lane *l = next_to_submit(w); l && w->flying < depth; l = next_to_submit(w)) {
        if (w->groups >= NM_PLAN_AHEAD && w->groups_us >= us)
            break;
        const uint32_t i = l->submitted++;
        spend(w, nm_planner_gather(w->p, l->rows[i]), NM_WORK_ROWS);
        l->end[i] = start_launch(w, l->us[i]);
        w->groups++;
        w->groups_us += l->us[i];
    }
}

static void pump(walk *w)
{
    while (take_oldest(w, false)) {}
    submit_for(w, w->n_lanes > 1 ? NM_PLAN_AHEAD_US : HUGE_VAL);
}

/* ---- stages --------------------------------------------------------------------------------- */

static bool planned(const walk *w, const lane *l, nm_cost_part part)
{
    return nm_planner_part_is_there(l->of, w->ways[l->layer], part, l->at);
}

/* Of a layer that wants the whole chunk. */
static bool attends_on_device(const walk *w, const lane *l)
{
    return l->layer < w->n_whole && planned(w, l, NM_PART_ATTENTION);
}

/* The host's rows of a part that is shared. */
static double rest_of(const walk *w, const lane *l, nm_cost_part part)
{
    return nm_planner_shared_rows(l->of, w->ways[l->layer], part) > 0
               ? nm_planner_part_times(l->of, w->ways[l->layer], part, l->at).host_us
               : 0.0;
}

static void run_norm(walk *w, lane *l)
{
    spend(w, norm_share * l->of->layer_us, NM_WORK_ROWS);
    l->stage = NM_STAGE_ATTEND;
    if (planned(w, l, NM_PART_QKV)) {
        start_part(w, l, NM_PART_QKV);
        spend_part(w, rest_of(w, l, NM_PART_QKV), NM_PART_QKV);
    }
}

/* The router has spoken: which launches, what is left. */
static void run_join(walk *w, lane *l)
{
    const nm_planner *p = l->of;
    const uint32_t s = (w->first_scenario + l->chunk) % p->n_scenarios;
    nm_passes passes;
    if (l->rest_o > 0.0) {
        nm_clocks_wait(&w->clocks, l->attended);
        spend_part(w, l->rest_o, NM_PART_O);
        l->rest_o = 0.0;
        return; /* O may not have ended */
    }
    if (l->on_device)
        take_part(w, l);
    if (l->host_o)
        spend_part(w, p->part_host_us[NM_PART_O], NM_PART_O);
    l->host_o = false;
    spend(w, join_share * p->layer_us, NM_WORK_ROWS);
    nm_planner_passes(p, w->ways[l->layer],
                      p->loads->layers[l->layer].load + (size_t)s * p->n_expert, &passes, &w->sum);
    l->n = passes.n;
    l->submitted = l->done = 0;
    l->rest_us = passes.rest_us;
    l->slice_us = fmax(NM_PLAN_SLICE_US, l->rest_us / MOST_SLICES);
    l->order = ++w->begun;
    memcpy(l->us, p->pass_us, l->n * sizeof *l->us);
    memcpy(l->rows, p->pass_rows, l->n * sizeof *l->rows);
    l->stage = NM_STAGE_REST;
}

static void run_attend(walk *w, lane *l)
{
    const nm_planner *p = l->of;
    const bool on_device = attends_on_device(w, l);
    if (!l->on_device || (l->layer < w->n_whole && !on_device))
        submit_for(w, HUGE_VAL);
    if (l->on_device)
        take_part(w, l);
    else
        spend_part(w, p->part_host_us[NM_PART_QKV], NM_PART_QKV);
    spend(w, store_share * p->layer_us, NM_WORK_ROWS);
    l->stored = l->layer + 1;
    if (l->layer >= w->n_whole) {
        l->n = l->submitted = l->done = 0;
        l->stage = NM_STAGE_FINISH;
        return;
    }
    l->stage = NM_STAGE_JOIN;
    const double attention_us = nm_planner_part_host_us(p, NM_PART_ATTENTION, l->at);
    const bool o = planned(w, l, NM_PART_O);
    const uint32_t rows = o ? nm_planner_shared_rows(p, w->ways[l->layer], NM_PART_O) : 0;
    const double first = rows ? nm_planner_attended(p, l->at, rows) : 1.0;
    if (on_device) {
        start_part(w, l, NM_PART_ATTENTION);
        l->attended = l->part_end;
    } else {
        spend_part(w, first * attention_us, NM_PART_ATTENTION);
    }
    if (o) {
        start_part(w, l, NM_PART_O);
        l->rest_o = on_device ? rest_of(w, l, NM_PART_O) : 0.0;
        if (!on_device) {
            spend_part(w, (1.0 - first) * attention_us, NM_PART_ATTENTION);
            spend_part(w, rest_of(w, l, NM_PART_O), NM_PART_O);
        }
        return;
    }
    l->host_o = true;
    if (!on_device)
        run_join(w, l);
}

static void run_rest(walk *w, lane *l)
{
    const double us = fmin(l->rest_us, l->slice_us);
    submit_for(w, us + NM_PLAN_AHEAD_US);
    spend(w, us, NM_WORK_EXPERTS);
    l->rest_us -= us;
    l->stage = l->rest_us > 0.0 ? NM_STAGE_REST : NM_STAGE_FINISH;
}

static void run_finish(walk *w, lane *l)
{
    while (l->done < l->n) {
        submit_for(w, HUGE_VAL);
        take_oldest(w, true);
    }
    if (l->n > 0)
        spend(w, w->p->cost->join_us, NM_WORK_ROWS);
    l->n = l->submitted = l->done = 0;
    l->layer++;
    l->stage = l->layer < w->p->loads->n_layers ? NM_STAGE_NORM : NM_STAGE_IDLE;
}

/* ---- turns ---------------------------------------------------------------------------------- */

static bool has_arrived(const walk *w, const lane *l)
{
    if (l->stage == NM_STAGE_JOIN && l->rest_o > 0.0)
        return l->attended <= w->clocks.at;
    if (l->stage == NM_STAGE_ATTEND || l->stage == NM_STAGE_JOIN)
        return !l->on_device || l->part_end <= w->clocks.at;
    if (l->stage == NM_STAGE_FINISH)
        return l->submitted == l->n && (l->n == 0 || l->end[l->n - 1] <= w->clocks.at);
    return true;
}

/* NULL: nobody is ready. */
static lane *choose(walk *w)
{
    nm_turn turns[NM_PLAN_MAX_IN_FLIGHT];
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        const lane *l = &w->lanes[i];
        turns[i] =
            (nm_turn){.stage = l->stage,
                      .layer = l->layer,
                      .stored = l->stored,
                      .age = l->chunk,
                      .on_device = l->on_device,
                      .device_attends = l->stage == NM_STAGE_ATTEND && attends_on_device(w, l),
                      .arrived = has_arrived(w, l),
                      .rest_us = l->rest_us};
    }
    const uint32_t next = nm_turns_next(turns, w->n_lanes, w->p->loads->n_layers);
    return next < w->n_lanes ? &w->lanes[next] : NULL;
}

static void start_chunk(walk *w, lane *l)
{
    if (w->next == w->n_chunks)
        return;
    l->chunk = w->next++;
    l->of = w->p->last && w->next == w->n_chunks ? w->p->last : w->p;
    l->at = l->of == w->p ? l->chunk : 0;
    l->layer = l->stored = 0;
    l->stage = NM_STAGE_NORM;
}

static void run_prompt(walk *w)
{
    static void (*const run[])(walk *, lane *) = {run_norm, run_attend, run_join, run_rest,
                                                  run_finish};
    w->next = 0;
    w->clocks = nm_clocks_new(w->p->beside[NM_WORK_DEVICE]);
    for (uint32_t i = 0; i < w->n_lanes; i++)
        start_chunk(w, &w->lanes[i]);
    for (;;) {
        lane *l = choose(w);
        if (l)
            run[l->stage](w, l);
        else if (!take_oldest(w, true))
            break;
        if (l && l->stage == NM_STAGE_IDLE)
            start_chunk(w, l);
        pump(w);
    }
    w->sum.us += w->clocks.now;
    w->sum.host_us += w->clocks.work;
    w->sum.device_us += w->clocks.busy;
}

/* ---- a plan --------------------------------------------------------------------------------- */

static bool lane_init(const nm_planner *p, lane *l)
{
    l->stage = NM_STAGE_IDLE;
    l->us = nm_alloc_array(p->a, p->pass_room, sizeof *l->us);
    l->end = nm_alloc_array(p->a, p->pass_room, sizeof *l->end);
    l->rows = nm_alloc_array(p->a, p->pass_room, sizeof *l->rows);
    return l->us && l->end && l->rows;
}

static void scale(nm_prediction *x, double by)
{
    double *const sums[] = {&x->us,   &x->host_us, &x->device_us, &x->launches,
                            &x->rows, &x->padding, &x->overflow,  &x->dropped};
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++)
        *sums[i] *= by;
}

npumoe_status nm_planner_schedule(const nm_planner *p, nm_way *const *ways, nm_prediction *out,
                                  npumoe_error *err)
{
    walk w = {.p = p, .ways = ways, .n_chunks = p->n_chunks, .n_whole = nm_planner_whole_layers(p)};
    bool room = true;
    npumoe_status st = NPUMOE_OK;
    if (p->n_chunks == 0)
        return NPUMOE_OK;
    w.n_lanes = p->two ? p->n_lanes : 1;
    for (uint32_t i = 0; i < w.n_lanes; i++)
        room = lane_init(p, &w.lanes[i]) && room;
    double tokens = 0.0;
    for (uint32_t chunks = 0; room && chunks < p->n_scenarios; chunks += w.n_chunks) {
        st = nm_planner_tell(p, p->loads->n_layers, err);
        if (st != NPUMOE_OK)
            break;
        w.first_scenario = chunks;
        run_prompt(&w);
        tokens += p->options.n_prompt;
    }
    for (uint32_t i = 0; i < w.n_lanes; i++) {
        nm_free(p->a, w.lanes[i].us);
        nm_free(p->a, w.lanes[i].end);
        nm_free(p->a, w.lanes[i].rows);
    }
    if (!room)
        return nm_err_nomem(err, p->pass_room * sizeof(double), "planning");
    NM_TRY(st);
    scale(&w.sum, p->rows / tokens);
    w.sum.wait_us = fmax(0.0, w.sum.us - w.sum.host_us);
    w.sum.joules = nm_planner_joules(p->cost, &w.sum);
    *out = w.sum;
    return NPUMOE_OK;
}
