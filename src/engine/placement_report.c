/* placement_report.c: what a plan did, for people and programs: counters, per layer against the
 * prediction, and the trace. */
#include "base/abi.h"
#include "base/clock.h"
#include "engine/model.h"
#include "engine/placement.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* By this plan and those that it has replaced. */
static nm_exec_counts all_counts(const nm_placement *p)
{
    nm_exec_counts sum = nm_executor_total(p->ex);
    nm_exec_counts_add(&sum, &p->earlier.counts);
    return sum;
}

static double seconds(uint64_t ns)
{
    return (double)ns * 1e-9;
}

void npumoe_plan_get_stats(npumoe_model *model, npumoe_plan_stats *stats)
{
    npumoe_plan_stats all = {.struct_bytes = sizeof all};
    const nm_placement *p = model->placement;
    if (p) {
        const nm_exec_counts c = all_counts(p);
        const nm_replan *r = &p->replan;
        all = (npumoe_plan_stats){
            .struct_bytes = sizeof all,
            .n_tokens = p->earlier.n_tokens + p->n_tokens,
            .n_layer_chunks = c.chunks,
            .n_pairs = c.pairs,
            .n_launches = c.launches,
            .n_part_launches = c.part_launches,
            .n_device_rows = c.device_rows,
            .n_computed_rows = c.computed_rows,
            .n_overflow = c.overflow,
            .n_repassed = c.repassed,
            .n_dropped = c.dropped,
            .n_rerouted = c.rerouted,
            .n_skipped = c.skipped,
            .n_failures = c.failures,
            .n_fallbacks = nm_executor_failed(p->ex),
            .wall_seconds = seconds(p->earlier.wall_ns + p->wall_ns),
            .host_cpu_seconds = seconds(p->earlier.host_cpu_ns + p->host_cpu_ns),
            .device_busy_seconds = seconds(c.busy_ns),
            .device_occupied_seconds = seconds(c.occupied_ns),
            .host_wait_seconds = seconds(c.wait_ns),
            .gather_seconds = seconds(c.gather_ns),
            .scatter_seconds = seconds(c.scatter_ns),
            .n_chunks_seen = r->drift ? nm_drift_seen(r->drift) : 0,
            .n_looks = r->looks,
            .n_new_plans = r->plans,
            .n_replans = r->changes,
            .n_replan_failures = r->failures,
            .n_programs_kept = r->programs.kept,
            .n_programs_loaded = r->programs.loaded,
            .n_programs_unloaded = r->programs.unloaded,
            .drift = nm_replan_gain(r),
            .planning_seconds = r->planning_seconds,
            .replan_load_seconds = r->loading_seconds,
            .n_stopped = p->earlier.n_stopped + p->n_stopped,
            .n_single_tokens = p->n_single,
        };
    }
    nm_abi_write(stats, &all, sizeof all);
}

void npumoe_plan_reset_stats(npumoe_model *model)
{
    nm_placement *p = model->placement;
    if (p == NULL)
        return;
    nm_executor_reset_counts(p->ex);
    memset(&p->earlier, 0, sizeof p->earlier);
    p->n_tokens = p->n_stopped = p->n_single = p->wall_ns = p->host_cpu_ns = 0;
    p->trace.n = p->timings.n = 0;
    nm_placement_forget_layers(p);
}

/* ---- JSON --------------------------------------------------------------------------------------- */

static npumoe_status finish(json_t *root, size_t flags, char **json, npumoe_error *err)
{
    *json = root ? json_dumps(root, flags) : NULL;
    json_decref(root);
    return *json ? NPUMOE_OK : nm_err_nomem(err, 0, "a report");
}

static npumoe_status need_plan(const npumoe_model *m, npumoe_error *err)
{
    return m->placement ? NPUMOE_OK : nm_err_set(err, NPUMOE_EINVAL, "the model has no plan");
}

/* ns: the evaluating thread's, waiting included. */
static json_t *measured(const nm_exec_counts *c, uint64_t ns)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, "
                     "s:f, s:f, s:f}",
                     "chunks", (json_int_t)c->chunks, "pairs", (json_int_t)c->pairs, "launches",
                     (json_int_t)c->launches, "part_launches", (json_int_t)c->part_launches,
                     "device_rows", (json_int_t)c->device_rows, "computed_rows",
                     (json_int_t)c->computed_rows, "overflow", (json_int_t)c->overflow, "repassed",
                     (json_int_t)c->repassed, "dropped", (json_int_t)c->dropped, "rerouted",
                     (json_int_t)c->rerouted, "skipped", (json_int_t)c->skipped, "failures",
                     (json_int_t)c->failures, "us", (double)ns * 1e-3, "device_us",
                     (double)c->busy_ns * 1e-3, "occupied_us", (double)c->occupied_ns * 1e-3,
                     "wait_us", (double)c->wait_ns * 1e-3, "gather_us", (double)c->gather_ns * 1e-3,
                     "scatter_us", (double)c->scatter_ns * 1e-3);
}

/* Per chunk, as the plan has it. */
static json_t *predicted(const nm_prediction *p)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "us", p->us, "host_us",
                     p->host_us, "device_us", p->device_us, "wait_us", p->wait_us, "launches",
                     p->launches, "rows", p->rows, "padding", p->padding, "overflow", p->overflow,
                     "dropped", p->dropped);
}

/* The newest spans, and how near the plan was. */
static json_t *spans(const nm_timings *t)
{
    json_t *list = json_array();
    const uint64_t first = t->n > NM_TIMINGS_SPANS ? t->n - NM_TIMINGS_SPANS : 0;
    for (uint64_t i = first; i < t->n; i++) {
        const nm_span *s = &t->spans[i % NM_TIMINGS_SPANS];
        json_array_append_new(
            list, json_pack("{s:I, s:I, s:I, s:f, s:o}", "position", (json_int_t)s->pos, "tokens",
                            (json_int_t)s->n_tokens, "chunks", (json_int_t)s->n_chunks, "us",
                            (double)s->ns * 1e-3, "predicted_us",
                            s->predicted_us < 0.0 ? json_null() : json_real(s->predicted_us)));
    }
    return list;
}

static json_t *replan_event(const nm_replan_event *e)
{
    static const char *const outcomes[] = {
        [NM_REPLAN_KEPT] = "kept", [NM_REPLAN_CHANGED] = "changed", [NM_REPLAN_FAILED] = "failed"};
    return json_pack("{s:s, s:I, s:f, s:f, s:i, s:i, s:i, s:f, s:f}", "outcome",
                     outcomes[e->outcome], "chunks_seen", (json_int_t)e->seen, "at_us",
                     (double)e->at_ns * 1e-3, "gain", e->gain, "programs_kept",
                     (int)e->programs.kept, "programs_loaded", (int)e->programs.loaded,
                     "programs_unloaded", (int)e->programs.unloaded, "planning_us",
                     e->planning_seconds * 1e6, "loading_us", e->loading_seconds * 1e6);
}

/* What was seen, what keeps the plan from changing, and the last plans that were made; null = off. */
static json_t *replanning(const nm_placement *p)
{
    const nm_replan *r = &p->replan;
    if (r->drift == NULL)
        return json_null();
    json_t *events = json_array();
    const uint64_t first = r->n_events > NM_REPLAN_EVENTS ? r->n_events - NM_REPLAN_EVENTS : 0;
    for (uint64_t i = first; i < r->n_events; i++)
        json_array_append_new(events, replan_event(&r->events[i % NM_REPLAN_EVENTS]));
    return json_pack("{s:I, s:i, s:i, s:I, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:o}",
                     "chunks_seen", (json_int_t)nm_drift_seen(r->drift), "window",
                     (int)nm_drift_window(r->drift), "least_window", NM_DRIFT_LEAST, "next_look",
                     (json_int_t)r->next, "shift", nm_drift_shift(r->drift), "least_shift",
                     NM_REPLAN_SHIFT, "least_gain", NM_REPLAN_GAIN, "looks", (json_int_t)r->looks,
                     "plans", (json_int_t)r->plans, "changes", (json_int_t)r->changes, "failures",
                     (json_int_t)r->failures, "earlier_tokens", (json_int_t)p->earlier.n_tokens,
                     "events", events);
}

static uint64_t all_layers_ns(const nm_placement *p)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p->plan->model.n_layer; i++)
        sum += p->timings.layer_ns[i];
    return sum;
}

npumoe_status npumoe_plan_report(npumoe_model *model, char **json, npumoe_error *err)
{
    NM_TRY(need_plan(model, err));
    const nm_placement *p = model->placement;
    const nm_npu_caps *caps = &nm_device_npu(p->device)->caps;
    const nm_exec_counts total = nm_executor_total(p->ex);
    char hash[20], identity[17];
    NM_TRY(nm_plan_identity(p->plan, identity, err));
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)p->plan->model.router_hash);
    json_t *root = json_pack(
        "{s:s, s:i, s:s, s:s, s:i, s:f, s:{s:s, s:s, s:s, s:b, s:i, s:f}, s:s, s:s, s:i, s:i, s:I, "
        "s:I, "
        "s:f, s:f, "
        "s:i, s:o, s:o, s:o, s:o}",
        "schema", "npumoe-plan-report", "schema_version", 1, "router_hash", hash, "plan_hash",
        identity, "programs", (int)p->plan->programs, "load_us",
        (double)nm_npu_get_stats(nm_device_npu(p->device)).load_ns * 1e-3, "device", "name",
        caps->name, "arithmetic", caps->arithmetic, "weights", caps->weights ? caps->weights : "",
        "simulated", caps->simulated, "threads", (int)caps->n_threads, "added_launch_us",
        (double)caps->added_launch_ns * 1e-3, "policy", nm_plan_policy_name(p->plan->policy),
        "overflow", nm_overflow_name(p->plan->overflow), "chunk", (int)p->plan->chunk, "in_flight",
        (int)p->n_lanes, "tokens", (json_int_t)p->n_tokens, "stopped", (json_int_t)p->n_stopped,
        "wall_us", (double)p->wall_ns * 1e-3, "host_cpu_us", (double)p->host_cpu_ns * 1e-3,
        "fallbacks", (int)nm_executor_failed(p->ex), "measured", measured(&total, all_layers_ns(p)),
        "predicted_per_chunk", predicted(&p->plan->predicted), "spans", spans(&p->timings),
        "replanning", replanning(p));
    json_t *layers = json_array();
    for (uint32_t i = 0; root && i < p->plan->n_layers; i++) {
        const nm_plan_layer *l = &p->plan->layers[i];
        const nm_exec_counts c = nm_executor_counts(p->ex, l->layer);
        json_array_append_new(layers,
                              json_pack("{s:i, s:o, s:o}", "layer", (int)l->layer, "measured",
                                        measured(&c, p->timings.layer_ns[l->layer]),
                                        "predicted_per_chunk", predicted(&l->predicted)));
    }
    if (root && json_object_set_new(root, "layers", layers) != 0) {
        json_decref(root);
        root = NULL;
    }
    return finish(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9), json, err);
}

npumoe_status npumoe_plan_get(npumoe_model *model, char **json, npumoe_error *err)
{
    NM_TRY(need_plan(model, err));
    return nm_plan_print(model->placement->plan, json, err);
}

/* ---- trace --------------------------------------------------------------------------------------- */

static json_t *track_name(int track, const char *name)
{
    return json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "name", "thread_name", "ph", "M", "pid", 1,
                     "tid", track, "args", "name", name);
}

/* Threads of the host beside the evaluating one follow after the other tracks. */
static int track_of(const nm_trace_event *e)
{
    return e->track == NM_TRACK_THREAD ? NM_TRACK_THREAD + e->group : (int)e->track + 1;
}

static void add_event(json_t *list, const nm_trace_event *e, uint64_t start_ns)
{
    const double us = (double)(e->start_ns - start_ns) * 1e-3;
    const double end = (double)(e->end_ns - start_ns) * 1e-3;
    json_array_append_new(
        list, json_pack("{s:s, s:s, s:i, s:i, s:f, s:f, s:{s:i, s:i, s:i, s:i}}", "name", e->name,
                        "ph", "X", "pid", 1, "tid", track_of(e), "ts", us, "dur", end - us, "args",
                        "layer", (int)e->layer, "chunk in flight", (int)e->lane, "group",
                        e->track == NM_TRACK_THREAD ? -1 : (int)e->group, "rows", (int)e->rows));
}

/* Launches wait side by side, so they are asynchronous events, a beginning and an end each. */
static void add_queued(json_t *list, const nm_trace_event *e, uint64_t start_ns, uint64_t id)
{
    const uint64_t at[] = {e->start_ns, e->end_ns};
    for (int i = 0; i < 2; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:i, s:i, s:I, s:f}", "name", e->name, "cat", "queue",
                            "ph", i == 0 ? "b" : "e", "pid", 1, "tid", NM_TRACK_QUEUE + 1, "id",
                            (json_int_t)id, "ts", (double)(at[i] - start_ns) * 1e-3));
}

npumoe_status npumoe_plan_trace(npumoe_model *model, char **json, npumoe_error *err)
{
    NM_TRY(need_plan(model, err));
    const nm_placement *p = model->placement;
    const nm_exec_trace *t = &p->trace;
    const uint64_t end = t->n, first = end > t->capacity ? end - t->capacity : 0;
    const int n_threads = nm_pool_size(p->pool);
    json_t *list = json_array();
    json_array_append_new(list, track_name(NM_TRACK_HOST + 1, "host"));
    json_array_append_new(list, track_name(NM_TRACK_DEVICE + 1, "device"));
    json_array_append_new(list, track_name(NM_TRACK_QUEUE + 1, "queue"));
    for (int i = 1; i < n_threads; i++) {
        char name[32];
        snprintf(name, sizeof name, "host, thread %d", i + 1);
        json_array_append_new(list, track_name(NM_TRACK_THREAD + i, name));
    }
    for (uint64_t i = first; i < end; i++) {
        const nm_trace_event *e = &t->events[i % t->capacity];
        if (e->track == NM_TRACK_QUEUE)
            add_queued(list, e, p->start_ns, i);
        else
            add_event(list, e, p->start_ns);
    }
    return finish(json_pack("{s:o, s:s, s:{s:I, s:f}}", "traceEvents", list, "displayTimeUnit",
                            "ms", "otherData", "events_lost", (json_int_t)first, "added_launch_us",
                            (double)nm_device_npu(p->device)->caps.added_launch_ns * 1e-3),
                  JSON_COMPACT | JSON_REAL_PRECISION(12), json, err);
}
