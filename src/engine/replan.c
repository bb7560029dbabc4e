/* replan.c: see replan.h. */
#include "engine/replan.h"

#include "base/clock.h"
#include "base/num.h"
#include "engine/model.h"

#include <stdio.h>
#include <string.h>

/* What step two works on: copies, so that it needs no lock. */
typedef struct study {
    const npumoe_allocator *allocator;
    npumoe_progress_fn progress;
    void *progress_user;
    uint64_t serial; /* of the placement */
    nm_plan *present, *other;
    nm_loads seen, exam;
    double cost_present, cost_other, seconds;
} study;

double nm_replan_gain(const nm_replan *r)
{
    return r->cost_present > 0.0 ? 1.0 - r->cost_other / r->cost_present : 0.0;
}

static void study_fini(study *s)
{
    nm_plan_free(&s->present);
    nm_plan_free(&s->other);
    nm_loads_free(s->allocator, &s->seen);
    nm_loads_free(s->allocator, &s->exam);
}

/* A plan as its file would have it: whoever saves it later saves what runs. */
static npumoe_status copy_plan(const npumoe_allocator *a, const nm_plan *plan, nm_plan **out,
                               npumoe_error *err)
{
    char *json = NULL;
    NM_TRY(nm_plan_print(plan, &json, err));
    npumoe_status st = nm_plan_parse(a, json, strlen(json), out, err);
    npumoe_text_free(&json);
    return st;
}

/* ---- look: under the lock --------------------------------------------------------------------- */

static bool is_due(const nm_placement *p)
{
    const nm_replan *r = &p->replan;
    return r->drift && !r->busy && nm_executor_failed(p->ex) == 0 &&
           nm_drift_window(r->drift) >= NM_DRIFT_LEAST && nm_drift_seen(r->drift) >= r->next &&
           nm_drift_shift(r->drift) >= NM_REPLAN_SHIFT;
}

static npumoe_status look(nm_placement *p, study *s, npumoe_error *err)
{
    nm_replan *r = &p->replan;
    s->serial = p->serial;
    NM_TRY(nm_drift_split(r->drift, s->allocator, &s->seen, &s->exam, err));
    NM_TRY(copy_plan(s->allocator, p->plan, &s->present, err));
    nm_drift_mark(r->drift);
    r->next = nm_drift_seen(r->drift) + NM_REPLAN_WAIT;
    r->looks++;
    return NPUMOE_OK;
}

/* ---- plan: without it ------------------------------------------------------------------------- */

static npumoe_status think(study *s, npumoe_error *err)
{
    const uint64_t start = nm_clock_ns();
    nm_plan *made = NULL;
    npumoe_status st = nm_drift_plan(s->allocator, s->present, &s->seen, s->progress,
                                     s->progress_user, &made, err);
    if (st == NPUMOE_OK)
        st = copy_plan(s->allocator, made, &s->other, err);
    if (st == NPUMOE_OK)
        st = nm_drift_cost(s->present, &s->exam, &s->cost_present, err);
    if (st == NPUMOE_OK)
        st = nm_drift_cost(s->other, &s->exam, &s->cost_other, err);
    nm_plan_free(&made);
    s->seconds = (double)(nm_clock_ns() - start) * 1e-9;
    return st;
}

/* ---- change: under the lock again ------------------------------------------------------------- */

static void say(const nm_placement *p, npumoe_log_level level, const char *line)
{
    if (p->log)
        p->log(p->log_user, level, line);
}

/* What loading costs, in what the objective counts. */
static double price_of(const nm_plan *plan, const nm_exec_change *c)
{
    const nm_cost *cost = &plan->cost;
    const double us = (double)c->loaded_bytes * 1e-6 * cost->load_us_per_mb +
                      (double)c->unloaded_bytes * 1e-6 * cost->unload_us_per_mb;
    return plan->objective == NM_OBJECTIVE_ENERGY ? us * cost->host_watts * 1e-6 : us;
}

static void remember(nm_placement *p, const study *s, nm_replan_outcome outcome,
                     const nm_exec_change *c, double loading_seconds)
{
    nm_replan *r = &p->replan;
    r->events[r->n_events++ % NM_REPLAN_EVENTS] =
        (nm_replan_event){.outcome = outcome,
                          .seen = nm_drift_seen(r->drift),
                          .at_ns = nm_clock_ns() - p->start_ns,
                          .gain = nm_replan_gain(r),
                          .programs = *c,
                          .planning_seconds = s->seconds,
                          .loading_seconds = loading_seconds};
}

/* A plan that never runs would see no more loads and could never be left again. */
static bool is_worth_it(const nm_placement *p, const study *s, nm_exec_change c)
{
    const double gain = s->cost_present - s->cost_other;
    const uint32_t asked = nm_executor_from(p->ex); /* by the user, or the plan's own */
    const uint32_t from = asked == p->plan->crossover ? s->other->crossover : asked;
    return s->other->programs > 0 && from <= nm_max_size(s->other->chunk, s->other->n_prompt) &&
           gain >= NM_REPLAN_GAIN * s->cost_present && c.loaded + c.unloaded > 0 &&
           gain * nm_drift_window(p->replan.drift) >= price_of(s->other, &c);
}

/* What was counted so far was the old plan's. */
static void close_books(nm_placement *p, const nm_exec_counts *counts)
{
    nm_exec_counts_add(&p->earlier.counts, counts);
    p->earlier.n_tokens += p->n_tokens;
    p->earlier.n_stopped += p->n_stopped;
    p->earlier.wall_ns += p->wall_ns;
    p->earlier.host_cpu_ns += p->host_cpu_ns;
    p->n_tokens = p->n_stopped = p->wall_ns = p->host_cpu_ns = 0;
    p->timings.n = 0;
    nm_placement_forget_layers(p);
}

static npumoe_status change(nm_placement *p, study *s, npumoe_error *err)
{
    nm_replan *r = &p->replan;
    char line[256];
    nm_exec_change c = {0};
    const uint64_t start = nm_clock_ns();
    const nm_exec_counts counts = nm_executor_total(p->ex);
    r->next = nm_drift_seen(r->drift) + NM_REPLAN_REST;
    npumoe_status st = nm_executor_replace(&p->ex, s->other, &c, err);
    const double seconds = (double)(nm_clock_ns() - start) * 1e-9;
    r->loading_seconds += seconds;
    if (st != NPUMOE_OK) {
        r->failures++;
        remember(p, s, NM_REPLAN_FAILED, &c, seconds);
        nm_err_prefix(err, st, "the old plan stays: another one cannot be loaded");
        say(p, NPUMOE_LOG_WARN, err->message);
        return st;
    }
    close_books(p, &counts);
    nm_plan *old = p->plan;
    p->plan = s->other;
    s->other = old;
    r->changes++;
    remember(p, s, NM_REPLAN_CHANGED, &c, seconds);
    r->programs.kept += c.kept;
    r->programs.loaded += c.loaded;
    r->programs.unloaded += c.unloaded;
    snprintf(line, sizeof line,
             "another plan for other loads: %.1f %% less predicted; %u programs stay, %u come, "
             "%u go; planned in %.2f s, loaded in %.2f s",
             100.0 * nm_replan_gain(r), c.kept, c.loaded, c.unloaded, s->seconds, seconds);
    say(p, NPUMOE_LOG_INFO, line);
    return NPUMOE_OK;
}

static npumoe_status decide(npumoe_model *m, study *s, npumoe_status thought, npumoe_error *err)
{
    nm_placement *p = m->placement;
    if (p == NULL || p->serial != s->serial)
        return NPUMOE_OK; /* another plan was attached meanwhile */
    nm_replan *r = &p->replan;
    r->busy = false;
    r->planning_seconds += s->seconds;
    if (thought != NPUMOE_OK) {
        nm_drift_unmark(r->drift); /* these loads were not judged: they are still to be looked at */
        return thought;
    }
    r->plans++;
    r->cost_present = s->cost_present;
    r->cost_other = s->cost_other;
    const nm_exec_change c = nm_executor_compare(p->ex, s->other);
    if (is_worth_it(p, s, c))
        return change(p, s, err);
    remember(p, s, NM_REPLAN_KEPT, &c, 0.0);
    return NPUMOE_OK;
}

/* ---- all three -------------------------------------------------------------------------------- */

static npumoe_status lock(npumoe_model *m, npumoe_error *err)
{
    return pthread_mutex_lock(&m->lock) == 0
               ? NPUMOE_OK
               : nm_err_set(err, NPUMOE_EINVAL,
                            "a callback of an evaluation must not change the plan");
}

npumoe_status npumoe_plan_adapt(npumoe_model *model, npumoe_progress_fn progress,
                                void *progress_user, npumoe_error *err)
{
    npumoe_error local;
    err = err ? err : &local;
    study s = {.allocator = model->allocator, .progress = progress, .progress_user = progress_user};
    if (model->vocab_only)
        return NPUMOE_OK;
    NM_TRY(lock(model, err));
    const bool due = model->placement && is_due(model->placement);
    npumoe_status st = due ? look(model->placement, &s, err) : NPUMOE_OK;
    if (due && st == NPUMOE_OK)
        model->placement->replan.busy = true;
    pthread_mutex_unlock(&model->lock);
    if (due && st == NPUMOE_OK) {
        const npumoe_status thought = think(&s, err);
        pthread_mutex_lock(&model->lock);
        st = decide(model, &s, thought, err);
        pthread_mutex_unlock(&model->lock);
    }
    study_fini(&s);
    return st;
}
