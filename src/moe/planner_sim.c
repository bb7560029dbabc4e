/* planner_sim.c: what a way costs, scenario by scenario, as moe/executor.h runs it.
 *
 *   host    gather 0 | submit | gather 1 | submit ... | remainder ....... | scatter 0 | scatter 1 ...
 *   device            [ 0          ][ 1            ] ...
 *
 * A launch starts when it was submitted and the one before it has ended; what the queue cannot hold
 * is gathered after the remainder, when a launch has ended; a scatter waits for its launch. */
#include "moe/planner_priv.h"

#include <math.h>
#include <string.h>

double nm_planner_gather(const nm_planner *p, uint32_t rows)
{
    return rows <= p->moved_rows ? p->gather_us[rows] : nm_curve_at(&p->cost->gather, rows);
}

double nm_planner_scatter(const nm_planner *p, uint32_t rows)
{
    return rows <= p->moved_rows ? p->scatter_us[rows] : nm_curve_at(&p->cost->scatter, rows);
}

/* One scenario on its way. Times in us from the moment when the layer's routing is known. */
typedef struct run {
    const nm_planner *p;
    const nm_way *w;
    uint32_t *rest;      /* rows that the host computes */
    size_t n_passes;     /* launches so far */
    nm_clocks clocks;    /* of one chunk in flight, with all waiting */
    double busy;         /* device, alone */
    double work, beside; /* host, alone; beside a device at work: for sums, where nobody waits */
    double rows, padding, overflow, dropped;
} run;

/* Capacity of the pass in which the busiest expert has `left` rows. */
static uint32_t capacity_for(const nm_way_group *g, uint32_t left)
{
    uint32_t i = 0;
    while (i + 1 < g->n_capacities && g->capacities[i] < left)
        i++;
    return g->capacities[i];
}

static uint32_t part_of(uint32_t load, uint32_t from, uint32_t capacity)
{
    const uint32_t left = load > from ? load - from : 0;
    return left < capacity ? left : capacity;
}

nm_outcome nm_planner_look(const nm_planner *p, const nm_way_group *g, const uint32_t *e,
                           const uint32_t *load)
{
    nm_outcome o = {0};
    for (uint32_t i = 0; i < g->n; i++) {
        const uint32_t n = load[e[i]];
        o.busiest = n > o.busiest ? n : o.busiest;
        o.alone_us += p->host_us[n];
    }
    const bool repass = p->options.overflow == NM_OVERFLOW_REPASS;
    uint32_t done = 0;
    while (done < o.busiest && (done == 0 || repass)) {
        const uint32_t c = capacity_for(g, o.busiest - done);
        uint32_t rows = 0;
        for (uint32_t i = 0; i < g->n; i++)
            rows += part_of(load[e[i]], done, c);
        o.rows += rows;
        o.padding += (double)g->n * c - rows;
        o.device_us += p->cost->launch_us + g->n * p->device_us[c];
        o.host_us +=
            p->cost->launch_host_us + nm_planner_gather(p, rows) + nm_planner_scatter(p, rows);
        o.passes++;
        done += c;
    }
    double spilled = 0.0;
    for (uint32_t i = 0; i < g->n && done < o.busiest; i++)
        if (load[e[i]] > done) {
            o.overflow += load[e[i]] - done;
            spilled +=
                nm_overflow_is_lossy(p->options.overflow) ? 0.0 : p->host_us[load[e[i]] - done];
        }
    o.beside_us = p->beside[NM_WORK_ROWS] * o.host_us + p->beside[NM_WORK_EXPERTS] * spilled;
    o.host_us += spilled;
    return o;
}

static void note_pass(run *r, uint32_t rows, double device_us)
{
    r->p->pass_us[r->n_passes] = device_us;
    r->p->pass_rows[r->n_passes++] = rows;
    r->busy += device_us;
}

static void host_works(run *r, double us, nm_cost_work kind)
{
    const double beside = r->p->beside[kind];
    nm_clocks_work(&r->clocks, us, beside);
    r->work += us;
    r->beside += us * beside;
}

/* Gather, submit; the launch's end is kept for the scatter. */
static void submit(run *r, size_t i)
{
    const nm_planner *p = r->p;
    const double moved = nm_planner_gather(p, p->pass_rows[i]) + p->cost->launch_host_us;
    host_works(r, moved, NM_WORK_ROWS);
    p->pass_end[i] = nm_clocks_launch(&r->clocks, p->pass_us[i]);
}

static void run_group(run *r, const nm_way_group *g, const uint32_t *load,
                      nm_group_figures *figures)
{
    const nm_planner *p = r->p;
    const uint32_t *e = r->w->experts + g->first;
    const nm_outcome o = nm_planner_look(p, g, e, load);
    if (!nm_planner_launches(&o, r->w->price))
        return;
    uint32_t done = 0;
    for (uint32_t i = 0; i < o.passes; i++) {
        const uint32_t c = capacity_for(g, o.busiest - done);
        uint32_t rows = o.passes == 1 ? (uint32_t)o.rows : 0;
        for (uint32_t j = 0; j < g->n && o.passes > 1; j++)
            rows += part_of(load[e[j]], done, c);
        note_pass(r, rows, p->cost->launch_us + g->n * p->device_us[c]);
        done += c;
    }
    for (uint32_t i = 0; i < g->n; i++)
        r->rest[e[i]] =
            load[e[i]] > done && !nm_overflow_is_lossy(p->options.overflow) ? load[e[i]] - done : 0;
    r->rows += o.rows;
    r->padding += o.padding;
    r->overflow += o.overflow;
    if (figures) {
        figures->launches += o.passes;
        figures->rows += o.rows;
        figures->padding += o.padding;
        figures->overflow += o.overflow;
        figures->device_us += o.device_us;
        figures->host_saved_us += o.alone_us;
    }
}

/* What is left to the host. */
static double remainder_us(const run *r)
{
    const nm_planner *p = r->p;
    double us = 0.0;
    for (uint32_t e = 0; e < p->n_expert; e++)
        us += p->host_us[r->rest[e]];
    if (p->part_exists[NM_PART_SHARED] && !nm_planner_part_is_there(p, r->w, NM_PART_SHARED, 0))
        us += p->part_host_us[NM_PART_SHARED];
    return us > 0.0 ? us + p->cost->host_region_us : 0.0;
}

/* All that happens after the groups were looked at. */
static void run_passes(run *r)
{
    const nm_planner *p = r->p;
    const uint32_t queue = p->cost->device.queue_depth;
    const size_t depth = queue > 0 ? queue : 1, n = r->n_passes;
    r->clocks = nm_clocks_new(p->beside[NM_WORK_DEVICE]);
    for (size_t i = 0; i < n && i < depth; i++)
        submit(r, i);
    host_works(r, remainder_us(r), NM_WORK_EXPERTS);
    if (n > 0)
        host_works(r, p->cost->join_us, NM_WORK_ROWS);
    for (size_t i = 0; i < n; i++) {
        nm_clocks_wait(&r->clocks, p->pass_end[i]);
        if (i + depth < n)
            submit(r, i + depth);
        host_works(r, nm_planner_scatter(p, p->pass_rows[i]), NM_WORK_ROWS);
    }
}

/* Overflow that finds no free row of an expert on the device is lost, whichever expert it would have
 * been sent to: the least that rerouting drops. */
static double lost(const run *r)
{
    switch (r->p->options.overflow) {
    case NM_OVERFLOW_PRUNE:
        return r->overflow;
    case NM_OVERFLOW_REROUTE:
        return fmax(0.0, r->overflow - r->padding);
    case NM_OVERFLOW_SPILL:
    case NM_OVERFLOW_REPASS:
    case NM_OVERFLOW_END:
        break;
    }
    return 0.0;
}

/* Norms, QKV, attention, O, routing: before the experts, the parts of them on the device too. With one chunk in
 * flight nothing runs beside them. */
static void add_fixed(const nm_planner *p, const nm_way *w, const run *r, nm_prediction *x)
{
    const double rows = p->beside[NM_WORK_ROWS];
    double host = p->layer_us, beside = rows * p->layer_us, device = 0.0;
    for (int i = NM_PART_QKV; i <= NM_PART_O; i++) {
        const nm_cost_part part = (nm_cost_part)i;
        const bool there = (w->parts & 1u << i) != 0;
        const bool shared = nm_planner_shared_rows(p, w, part) > 0;
        const nm_part_times of = shared ? nm_planner_part_times(p, w, part, 0)
                                        : (nm_part_times){there ? p->part_move_us[i] : 0.0,
                                                          there ? 0.0 : p->part_host_us[i],
                                                          there ? p->part_device_us[i] : 0.0};
        host += of.move_us + of.host_us;
        beside += rows * of.move_us + nm_planner_part_beside(p, part) * of.host_us;
        device += of.device_us;
        x->launches += there;
    }
    if (!p->two) {
        x->us += host + device - nm_planner_rows_overlap(p, w) + r->clocks.now;
        x->host_us += host + r->clocks.work;
        x->device_us += device + r->clocks.busy;
        return;
    }
    const nm_overlap all = nm_clocks_overlap(host + r->work, beside + r->beside, device + r->busy,
                                             p->beside[NM_WORK_DEVICE]);
    x->us += all.us;
    x->host_us += all.host_us;
    x->device_us += all.device_us;
}

/* Sums over the scenarios become means. */
static void finish(const nm_planner *p, nm_prediction *x)
{
    double *const sums[] = {&x->us,   &x->host_us, &x->device_us, &x->launches,
                            &x->rows, &x->padding, &x->overflow,  &x->dropped};
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++)
        *sums[i] *= 1.0 / p->n_scenarios;
    x->wait_us = fmax(0.0, x->us - x->host_us);
    x->joules = nm_planner_joules(p->cost, x);
}

/* ---- sums of outcomes ----------------------------------------------------------------------- */

/* What is left to the host of a way whose groups are known; rounding may leave a trace of nothing. */
static double rest_of(const nm_planner *p, const nm_way *w, double experts_us)
{
    const bool shared = p->part_exists[NM_PART_SHARED] && !(w->parts & 1u << NM_PART_SHARED);
    const double us = experts_us + (shared ? p->part_host_us[NM_PART_SHARED] : 0.0);
    return us > 1e-6 ? us + p->cost->host_region_us : 0.0;
}

static run begin_sum(const nm_planner *p, const nm_way *w)
{
    run r = {.p = p, .w = w};
    if (w->parts & 1u << NM_PART_SHARED) {
        const uint32_t t = p->loads->chunk;
        r.busy = p->part_device_us[NM_PART_SHARED];
        r.work = nm_planner_gather(p, t) + p->cost->launch_host_us + nm_planner_scatter(p, t);
        r.beside = p->beside[NM_WORK_ROWS] * r.work;
        r.n_passes = 1;
    }
    return r;
}

static void end_sum(run *r, double rest_us, nm_prediction *x)
{
    const nm_planner *p = r->p;
    const double rest = rest_of(p, r->w, rest_us), join = r->n_passes > 0 ? p->cost->join_us : 0.0;
    r->work += rest + join;
    r->beside += p->beside[NM_WORK_EXPERTS] * rest + p->beside[NM_WORK_ROWS] * join;
    x->launches += (double)r->n_passes;
    x->rows += r->rows;
    x->padding += r->padding;
    x->overflow += r->overflow;
    x->dropped += lost(r);
    add_fixed(p, r->w, r, x);
}

/* Scenarios in blocks: what a group did in them lies in a row. */
void nm_planner_sum(const nm_planner *p, const double *alone_us, const nm_outcome *const *of,
                    uint32_t n, nm_way *w)
{
    enum { BLOCK = 64 };
    run sums[BLOCK];
    double rest[BLOCK];
    nm_prediction x = {0};
    for (uint32_t first = 0; first < p->n_scenarios; first += BLOCK) {
        const uint32_t left = p->n_scenarios - first, m = left < BLOCK ? left : BLOCK;
        for (uint32_t s = 0; s < m; s++) {
            sums[s] = begin_sum(p, w);
            rest[s] = alone_us[first + s];
        }
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t s = 0; s < m; s++) {
                const nm_outcome *o = &of[i][first + s];
                if (!nm_planner_launches(o, w->price))
                    continue;
                sums[s].busy += o->device_us;
                sums[s].work += o->host_us;
                sums[s].beside += o->beside_us;
                sums[s].rows += o->rows;
                sums[s].padding += o->padding;
                sums[s].overflow += o->overflow;
                sums[s].n_passes += o->passes;
                rest[s] -= o->alone_us;
            }
        for (uint32_t s = 0; s < m; s++)
            end_sum(&sums[s], rest[s], &x);
    }
    finish(p, &x);
    w->predicted = x;
}

/* Which launches there are, what they carry, what is left. */
static run assign(const nm_planner *p, const nm_way *w, const uint32_t *load,
                  nm_group_figures *figures, nm_prediction *x)
{
    run r = {.p = p, .w = w, .rest = p->rest};
    memcpy(r.rest, load, p->n_expert * sizeof *r.rest);
    if (nm_planner_part_is_there(p, w, NM_PART_SHARED, 0))
        note_pass(&r, p->rows, p->part_device_us[NM_PART_SHARED]);
    for (uint32_t i = 0; i < w->n_groups; i++)
        run_group(&r, &w->groups[i], load, figures ? &figures[i] : NULL);
    x->launches += (double)r.n_passes;
    x->rows += r.rows;
    x->padding += r.padding;
    x->overflow += r.overflow;
    x->dropped += lost(&r);
    return r;
}

static void add_scenario(const nm_planner *p, const nm_way *w, const uint32_t *load,
                         nm_group_figures *figures, nm_prediction *x)
{
    run r = assign(p, w, load, figures, x);
    run_passes(&r);
    add_fixed(p, w, &r, x);
}

void nm_planner_passes(const nm_planner *p, const nm_way *w, const uint32_t *load, nm_passes *out,
                       nm_prediction *sum)
{
    const run r = assign(p, w, load, NULL, sum);
    *out = (nm_passes){(uint32_t)r.n_passes, remainder_us(&r)};
}

double nm_planner_joules(const nm_cost *c, const nm_prediction *x)
{
    if (c->host_watts < 0.0 || (c->device_watts < 0.0 && x->device_us > 0.0))
        return -1.0;
    return (c->host_watts * x->host_us + fmax(c->device_watts, 0.0) * x->device_us) * 1e-6;
}

void nm_planner_simulate(const nm_planner *p, const uint32_t *load, nm_way *w,
                         nm_group_figures *figures)
{
    nm_prediction x = {0};
    const double share = 1.0 / p->n_scenarios;
    if (figures)
        memset(figures, 0, w->n_groups * sizeof *figures);
    for (uint32_t s = 0; s < p->n_scenarios; s++)
        add_scenario(p, w, load + (size_t)s * p->n_expert, figures, &x);
    finish(p, &x);
    w->predicted = x;
    for (uint32_t i = 0; figures && i < w->n_groups; i++) {
        nm_group_figures *f = &figures[i];
        f->launches *= share;
        f->rows *= share;
        f->padding *= share;
        f->overflow *= share;
        f->device_us *= share;
        f->host_saved_us *= share;
    }
}

double nm_planner_padded(double score, const nm_prediction *x)
{
    const double computed = x->rows + x->padding;
    return score * (1.0 + NM_PLANNER_PADDING * (computed > 0.0 ? x->padding / computed : 0.0));
}

double nm_planner_padding_us(const nm_planner *p, double cpu_only_us)
{
    const double pairs = (double)p->loads->chunk * p->cost->geometry.n_expert_used;
    const bool time = p->options.objective == NM_OBJECTIVE_LATENCY;
    return time && cpu_only_us < HUGE_VAL ? NM_PLANNER_PADDING * 0.5 * cpu_only_us / pairs : 0.0;
}

double nm_planner_score(const nm_planner *p, const nm_prediction *x, double cpu_only_us)
{
    switch (p->options.objective) {
    case NM_OBJECTIVE_CPU:
        return x->us <= cpu_only_us * (1.0 + 1e-9) ? x->host_us : HUGE_VAL;
    case NM_OBJECTIVE_ENERGY:
        return x->joules >= 0.0 ? x->joules * 1e6 : HUGE_VAL;
    case NM_OBJECTIVE_LATENCY:
    case NM_OBJECTIVE_END:
        break;
    }
    return nm_planner_padded(x->us, x);
}
