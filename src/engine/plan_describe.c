/* plan_describe.c: a plan in words and sums: what npumoe_plan_describe returns. It computes nothing that
 * the plan does not say, except what follows from it: who is left on the host, shares, the reasons. */
#include "engine/describe.h"
#include "moe/fields.h"
#include "moe/plan.h"
#include "quant/quant.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static json_t *number(double v)
{
    return nm_fields_number(v);
}

static double share(double part, double whole)
{
    return whole > 0.0 ? part / whole : 0.0;
}

static json_t *times_json(const nm_prediction *p, double pairs)
{
    json_t *o = json_object();
    nm_describe_put(o, "us", number(p->us));
    nm_describe_put(o, "host_us", number(p->host_us));
    nm_describe_put(o, "device_us", number(p->device_us));
    nm_describe_put(o, "wait_us", number(p->wait_us));
    nm_describe_put(o, "launches", number(p->launches));
    nm_describe_put(o, "device_rows", number(p->rows));
    nm_describe_put(o, "device_share", number(share(p->rows, pairs)));
    nm_describe_put(o, "padding_share", number(share(p->padding, p->rows + p->padding)));
    nm_describe_put(o, "overflow_share", number(share(p->overflow, pairs)));
    nm_describe_put(o, "dropped_share", number(share(p->dropped, pairs)));
    if (p->joules >= 0.0)
        nm_describe_put(o, "joules", number(p->joules));
    return o;
}

/* Why not, beside something that was taken. */
static void tell_why(const nm_plan *plan, const nm_plan_rejected *r, double taken_us, char *why,
                     size_t bytes)
{
    const nm_cost_device *d = &plan->cost.device;
    char times[64] = "better by the plan's objective";
    const bool faster = r->us < taken_us;
    if (faster)
        snprintf(times, sizeof times, "%.1f %% faster", 100.0 * (1.0 - share(r->us, taken_us)));
    if (r->too_large)
        snprintf(why, bytes, "%s, but %s", times,
                 r->programs > d->slots || r->bytes > d->total_bytes
                     ? "too large for the budget"
                     : "other layers need the room more");
    else if (faster && plan->policy != NM_POLICY_OURS)
        snprintf(why, bytes, "%s, which policy %s does not ask", times,
                 nm_plan_policy_name(plan->policy));
    else if (faster && plan->objective == NM_OBJECTIVE_LATENCY && plan->n_prompt > 0)
        snprintf(why, bytes, "%s by itself, but the prompt as a whole decides", times);
    else if (faster)
        snprintf(why, bytes, "%s, but worse by the plan's objective", times);
    else
        snprintf(why, bytes, "%.1f %% slower", 100.0 * (share(r->us, taken_us) - 1.0));
}

static json_t *rejected_json(const nm_plan *plan, const nm_plan_rejected *r, uint32_t n,
                             double taken_us)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) {
        char why[160];
        json_t *o = json_object();
        nm_describe_put(o, "what", json_string(r[i].what));
        nm_describe_put(o, "us", number(r[i].us));
        nm_describe_put(o, "host_us", number(r[i].host_us));
        nm_describe_put(o, "device_us", number(r[i].device_us));
        nm_describe_put(o, "programs", json_integer(r[i].programs));
        nm_describe_put(o, "bytes", nm_describe_u64(r[i].bytes));
        tell_why(plan, &r[i], taken_us, why, sizeof why);
        nm_describe_put(o, "why", json_string(why));
        json_array_append_new(list, o);
    }
    return list;
}

/* ---- layers --------------------------------------------------------------------------------- */

static json_t *group_json(const nm_plan *plan, const nm_plan_group *g)
{
    char why[160];
    json_t *o = json_object();
    snprintf(why, sizeof why,
             "spares the host %.0f us for %.0f us of the device and %.2f launches; %.0f %% of its "
             "rows are padding, %.1f overflow",
             g->host_saved_us, g->device_us, g->launches,
             100.0 * share(g->padding, g->rows + g->padding), g->overflow);
    nm_describe_put(o, "experts", nm_fields_numbers(g->experts, g->n_experts));
    nm_describe_put(o, "capacities", nm_fields_numbers(g->capacities, g->n_capacities));
    nm_describe_put(o, "programs", json_integer(nm_plan_group_programs(g)));
    nm_describe_put(o, "bytes", nm_describe_u64(nm_plan_group_bytes(&plan->cost, g)));
    nm_describe_put(o, "launches", number(g->launches));
    nm_describe_put(o, "rows", number(g->rows));
    nm_describe_put(o, "padding_share", number(share(g->padding, g->rows + g->padding)));
    nm_describe_put(o, "overflow", number(g->overflow));
    nm_describe_put(o, "device_us", number(g->device_us));
    nm_describe_put(o, "host_saved_us", number(g->host_saved_us));
    nm_describe_put(o, "why", json_string(why));
    return o;
}

static json_t *host_experts(const nm_plan *plan, const nm_plan_layer *l)
{
    json_t *list = json_array();
    for (uint32_t e = 0; e < plan->model.geometry.n_expert; e++) {
        bool placed = false;
        for (uint32_t i = 0; i < l->n_groups && !placed; i++)
            for (uint32_t j = 0; j < l->groups[i].n_experts && !placed; j++)
                placed = l->groups[i].experts[j] == e;
        if (!placed)
            json_array_append_new(list, json_integer(e));
    }
    return list;
}

static bool uses_device(const nm_plan_layer *l)
{
    bool uses = l->n_groups > 0;
    for (int i = 0; i < NM_COST_PARTS; i++)
        uses = uses || l->on_device[i];
    return uses;
}

/* Whether a budget kept something better off the device, here or, of a policy that does not ask what is better, anywhere. */
static bool lacks_room(const nm_plan *plan, const nm_plan_layer *l)
{
    const nm_cost_device *d = &plan->cost.device;
    bool lacks = false;
    if (plan->policy != NM_POLICY_OURS)
        return d->slots < UINT32_MAX || d->total_bytes < UINT64_MAX;
    for (uint32_t i = 0; i < l->n_rejected; i++)
        lacks = lacks || l->rejected[i].too_large;
    return lacks;
}

/* What limits a layer: who finishes last, and what that means. */
static const char *limit_of(const nm_plan *plan, const nm_plan_layer *l)
{
    static const char *const nothing[2][2] = {
        {"the host: the policy puts nothing on the device here",
         "the host: the policy puts nothing on the device here, or the budgets went elsewhere"},
        {"the host: nothing on the device pays here", "the host: the budgets went elsewhere"}};
    static const char *const no_more[2][2] = {
        {"the host: the policy puts no more on the device",
         "the host: the policy puts no more on the device, or the budgets do not allow it"},
        {"the host: no more was found for the device to do",
         "the host: the budgets allow no more on the device"}};
    const bool ours = plan->policy == NM_POLICY_OURS, room = lacks_room(plan, l);
    const nm_prediction *p = &l->predicted;
    if (!uses_device(l))
        return nothing[ours][room];
    if (p->wait_us > 0.1 * p->us)
        return "the device: the host waits for it";
    if (p->device_us < 0.5 * p->host_us)
        return no_more[ours][room];
    return "both: device and host finish together";
}

static json_t *layer_json(const nm_plan *plan, const nm_plan_layer *l, double pairs)
{
    json_t *o = json_object(), *groups = json_array(), *parts = json_object();
    json_t *rows = json_object();
    for (int i = 0; i < NM_COST_PARTS; i++)
        if (i != NM_PART_SHARED || plan->model.geometry.n_ff_shared > 0)
            nm_describe_put(parts, nm_cost_part_name((nm_cost_part)i),
                            json_string(l->on_device[i] ? "device" : "host"));
    for (int i = 0; i < NM_COST_PARTS; i++)
        if (l->part_rows[i] > 0)
            nm_describe_put(rows, nm_cost_part_name((nm_cost_part)i),
                            json_integer(l->part_rows[i]));
    for (uint32_t i = 0; i < l->n_groups; i++)
        json_array_append_new(groups, group_json(plan, &l->groups[i]));
    json_t *host = host_experts(plan, l);
    nm_describe_put(o, "layer", json_integer(l->layer));
    nm_describe_put(o, "programs", json_integer(l->programs));
    nm_describe_put(o, "bytes", nm_describe_u64(l->bytes));
    nm_describe_put(
        o, "device_experts",
        json_integer((json_int_t)(plan->model.geometry.n_expert - json_array_size(host))));
    nm_describe_put(o, "groups", groups);
    nm_describe_put(o, "host_experts", host);
    nm_describe_put(o, "parts", parts);
    if (json_object_size(rows) > 0)
        nm_describe_put(o, "rows", rows);
    else
        json_decref(rows);
    nm_describe_put(o, "predicted", times_json(&l->predicted, pairs));
    nm_describe_put(o, "bound_us", number(l->bound_us));
    nm_describe_put(o, "gap", number(share(l->predicted.us, l->bound_us) - (l->bound_us > 0.0)));
    nm_describe_put(o, "limit", json_string(limit_of(plan, l)));
    nm_describe_put(o, "rejected",
                    rejected_json(plan, l->rejected, l->n_rejected, l->predicted.us));
    return o;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static json_t *device_json(const nm_cost *c)
{
    const nm_cost_device *d = &c->device;
    json_t *o = json_object();
    nm_describe_put(o, "name", json_string(d->name));
    nm_describe_put(o, "weights", json_string(d->weights));
    nm_describe_put(o, "simulated", json_boolean(d->simulated));
    nm_describe_put(o, "threads", json_integer(d->threads));
    nm_describe_put(o, "slots", d->slots == UINT32_MAX ? json_null() : json_integer(d->slots));
    nm_describe_put(o, "memory_bytes",
                    d->total_bytes > INT64_MAX ? json_null() : nm_describe_u64(d->total_bytes));
    nm_describe_put(o, "launch_us", number(c->launch_us));
    nm_describe_put(o, "added_launch_us", number(d->added_launch_us));
    nm_describe_put(o, "expert_bytes", nm_describe_u64(d->expert_bytes));
    return o;
}

/* null: not measured. */
static json_t *beside_json(const nm_cost *c)
{
    if (c->beside[NM_WORK_DEVICE] == 0.0)
        return json_null();
    json_t *o = json_object();
    for (int i = 0; i < NM_COST_WORKS; i++)
        nm_describe_put(o, nm_cost_work_name((nm_cost_work)i), number(c->beside[i]));
    return o;
}

static json_t *model_json(const nm_plan_model *m)
{
    char hash[20], types[64];
    json_t *o = json_object();
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)m->router_hash);
    snprintf(types, sizeof types, "%s, %s, %s", nm_type_get(m->geometry.type[0])->name,
             nm_type_get(m->geometry.type[1])->name, nm_type_get(m->geometry.type[2])->name);
    nm_describe_put(o, "name", json_string(m->name));
    nm_describe_put(o, "architecture", json_string(m->architecture));
    nm_describe_put(o, "router_hash", json_string(hash));
    nm_describe_put(o, "types", json_string(types));
    nm_describe_put(o, "n_layer", json_integer(m->n_layer));
    nm_describe_put(o, "n_expert", json_integer(m->geometry.n_expert));
    nm_describe_put(o, "n_expert_used", json_integer(m->geometry.n_expert_used));
    return o;
}

static json_t *plan_json(const nm_plan *p)
{
    const double pairs = (double)p->chunk * p->model.geometry.n_expert_used;
    const double whole = nm_plan_whole_layers(p);
    json_t *o = json_object(), *layers = json_array();
    nm_describe_put(o, "schema", json_string("npumoe-explain"));
    nm_describe_put(o, "schema_version", json_integer(1));
    nm_describe_put(o, "model", model_json(&p->model));
    nm_describe_put(o, "device", device_json(&p->cost));
    nm_describe_put(o, "host",
                    json_pack("{s:s, s:s*, s:I}", "isa", p->cost.isa, "precision",
                              p->cost.precision[0] ? p->cost.precision : NULL, "threads",
                              (json_int_t)p->cost.host_threads));
    nm_describe_put(o, "beside", beside_json(&p->cost));
    nm_describe_put(o, "policy", json_string(nm_plan_policy_name(p->policy)));
    nm_describe_put(o, "overflow", json_string(nm_overflow_name(p->overflow)));
    nm_describe_put(
        o, "exact",
        json_boolean(p->overflow == NM_OVERFLOW_SPILL || p->overflow == NM_OVERFLOW_REPASS));
    nm_describe_put(o, "objective", json_string(nm_objective_name(p->objective)));
    nm_describe_put(o, "chunk", json_integer(p->chunk));
    nm_describe_put(o, "in_flight", json_integer(p->in_flight));
    nm_describe_put(o, "prompt", json_integer(p->n_prompt));
    nm_describe_put(o, "n_past", json_integer(p->n_past));
    nm_describe_put(o, "part_price", number(p->part_price));
    nm_describe_put(o, "crossover",
                    p->crossover == UINT32_MAX ? json_null() : json_integer(p->crossover));
    nm_describe_put(o, "attention_chunks", json_integer(p->attention_chunks));
    nm_describe_put(o, "programs", json_integer(p->programs));
    nm_describe_put(o, "bytes", nm_describe_u64(p->bytes));
    nm_describe_put(o, "load_us", number((double)p->bytes * 1e-6 * p->cost.load_us_per_mb));
    nm_describe_put(o, "whole_layers", number(whole));
    nm_describe_put(o, "predicted", times_json(&p->predicted, pairs * whole));
    nm_describe_put(o, "cpu_only", times_json(&p->cpu_only, pairs * whole));
    nm_describe_put(o, "speedup", number(share(p->cpu_only.us, p->predicted.us)));
    nm_describe_put(o, "host_share", number(share(p->predicted.host_us, p->cpu_only.host_us)));
    nm_describe_put(o, "host_limit", number(p->host_limit));
    nm_describe_put(o, "bound_us", number(p->bound_us));
    nm_describe_put(o, "gap", number(p->gap));
    if (p->predicted.joules >= 0.0)
        nm_describe_put(o, "watts_source", json_string(p->cost.watts_source));
    nm_describe_put(o, "rejected", rejected_json(p, p->rejected, p->n_rejected, p->predicted.us));
    for (uint32_t i = 0; i < p->n_layers; i++)
        json_array_append_new(layers, layer_json(p, &p->layers[i], pairs));
    nm_describe_put(o, "layers", layers);
    return o;
}

npumoe_status npumoe_plan_describe(const char *plan, size_t plan_bytes, char **json,
                                   npumoe_error *err)
{
    nm_plan *p = NULL;
    if (!plan || !json)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "npumoe_plan_describe: plan and json must not be NULL");
    NM_TRY(nm_plan_parse(nm_allocator_default(), plan, plan_bytes, &p, err));
    json_t *root = plan_json(p);
    nm_plan_free(&p);
    npumoe_status st = nm_fields_print(root, json, err);
    json_decref(root);
    return st;
}
