/* planner.c: from loads, costs and options to a checked plan; planner.h has the ideas, planner_priv.h the
 * list of files. */
#include "moe/planner_priv.h"

#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_EXPERTS = 4096, MOST_SCENARIOS = 4096 };

nm_planner_options nm_planner_options_default(void)
{
    return (nm_planner_options){.policy = NM_POLICY_OURS,
                                .overflow = NM_OVERFLOW_SPILL,
                                .objective = NM_OBJECTIVE_LATENCY,
                                .n_tiers = 6,
                                .max_group = 16,
                                .max_capacities = 6,
                                .in_flight = 1,
                                .compare = true};
}

void nm_loads_free(const npumoe_allocator *a, nm_loads *loads)
{
    for (uint32_t i = 0; loads->layers && i < loads->n_layers; i++)
        nm_free(a, loads->layers[i].load);
    nm_free(a, loads->layers);
    *loads = (nm_loads){0};
}

/* ---- what is asked for ---------------------------------------------------------------------- */

static npumoe_status in_range(const char *what, uint32_t v, uint32_t min, uint32_t max,
                              npumoe_error *err)
{
    if (v >= min && v <= max)
        return NPUMOE_OK;
    return nm_err_set(err, NPUMOE_EINVAL, "plan: %s: found %u, expected %u to %u", what, v, min,
                      max);
}

npumoe_status nm_loads_check(const nm_loads *l, npumoe_error *err)
{
    NM_TRY(in_range("layers with experts", l->n_layers, 1, 4096, err));
    NM_TRY(in_range("experts", l->n_expert, 1, MOST_EXPERTS, err));
    NM_TRY(in_range("scenarios", l->n_scenarios, 1, MOST_SCENARIOS, err));
    NM_TRY(in_range("chunk", l->chunk, 1, NM_PLAN_MAX_CHUNK, err));
    for (uint32_t i = 0; i < l->n_layers; i++) {
        if (i > 0 && l->layers[i].layer <= l->layers[i - 1].layer)
            return nm_err_set(err, NPUMOE_EINVAL, "plan: layer %u after layer %u",
                              l->layers[i].layer, l->layers[i - 1].layer);
        for (size_t j = 0; j < (size_t)l->n_scenarios * l->n_expert; j++)
            if (l->layers[i].load[j] > l->chunk)
                return nm_err_set(err, NPUMOE_EINVAL,
                                  "plan: layer %u: an expert with %u rows of a "
                                  "chunk of %u",
                                  l->layers[i].layer, l->layers[i].load[j], l->chunk);
    }
    return NPUMOE_OK;
}

static npumoe_status check_energy(const nm_cost *c, npumoe_error *err)
{
    if (c->host_watts >= 0.0 && (c->device_watts >= 0.0 || c->device_expert.n == 0))
        return NPUMOE_OK;
    return nm_err_set(
        err, NPUMOE_EINVAL,
        "plan: objective energy: the watts of %s%s are not known and cannot be measured "
        "here; give host_watts and device_watts in the cost file (--cost)",
        c->host_watts < 0.0 ? "the host" : "device ", c->host_watts < 0.0 ? "" : c->device.name);
}

static npumoe_status check_options(const nm_planner_options *o, const nm_cost *c, npumoe_error *err)
{
    NM_TRY(in_range("tiers", o->n_tiers, 1, NM_PLAN_MAX_CAPACITIES, err));
    NM_TRY(in_range("experts per group", o->max_group, 1, NM_PLAN_MAX_GROUP, err));
    NM_TRY(in_range("capacities per group", o->max_capacities, 1, NM_PLAN_MAX_CAPACITIES, err));
    NM_TRY(in_range("chunks in flight", o->in_flight, 0, NM_PLAN_MAX_IN_FLIGHT, err));
    if (o->policy >= NM_POLICY_END || o->overflow >= NM_OVERFLOW_END ||
        o->objective >= NM_OBJECTIVE_END)
        return nm_err_set(err, NPUMOE_EINVAL, "plan: unknown policy, overflow or objective");
    if (o->policy == NM_POLICY_LADDER && nm_overflow_is_lossy(o->overflow))
        return nm_err_set(err, NPUMOE_EINVAL,
                          "plan: policy ladder with overflow %s: a ladder loses nothing; expected "
                          "spill or repass",
                          nm_overflow_name(o->overflow));
    if (!(o->host_limit >= 0.0 && o->host_limit <= 1.0))
        return nm_err_set(err, NPUMOE_EINVAL,
                          "plan: limit of host time: found %g, expected a share, 0 to 1",
                          o->host_limit);
    if ((uint64_t)o->n_past + o->n_prompt > UINT32_MAX)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "plan: a prompt of %u tokens after %u: expected at most %u in all",
                          o->n_prompt, o->n_past, UINT32_MAX);
    if (o->host_limit > 0.0 && (o->policy != NM_POLICY_OURS || o->all_experts))
        return nm_err_set(err, NPUMOE_EINVAL,
                          "plan: a limit of host time is for policy ours, which chooses what is on "
                          "the device; found %s",
                          o->all_experts ? "all experts on it" : nm_plan_policy_name(o->policy));
    if (o->host_limit > 0.0 && (o->objective != NM_OBJECTIVE_LATENCY || o->n_prompt == 0))
        return nm_err_set(err, NPUMOE_EINVAL,
                          "plan: a limit of host time is for objective latency and a prompt of "
                          "known length; found %s and %u tokens",
                          nm_objective_name(o->objective), o->n_prompt);
    return o->objective == NM_OBJECTIVE_ENERGY ? check_energy(c, err) : NPUMOE_OK;
}

/* ---- a policy ------------------------------------------------------------------------------- */

npumoe_status nm_planner_tell(const nm_planner *p, uint32_t done, npumoe_error *err)
{
    const nm_planner_options *o = &p->options;
    const uint32_t all = p->loads->n_layers;
    if (o->progress && !o->progress(o->progress_user, o->again ? all : done, all))
        return nm_err_set(err, NPUMOE_ECANCELED, "planning was cancelled");
    return NPUMOE_OK;
}

/* Whether costs say what is on the device. */
static bool chooses(const nm_planner_options *o)
{
    return o->policy == NM_POLICY_OURS && !o->all_experts;
}

static npumoe_status run_ours(const nm_planner *p, nm_layer_work *layers, nm_way **out,
                              nm_planner_limits *limits, npumoe_error *err)
{
    const uint32_t n = p->loads->n_layers;
    for (uint32_t l = 0; l < n; l++) {
        NM_TRY(nm_planner_ours(&layers[l], err));
        NM_TRY(nm_planner_tell(p, l + 1, err));
    }
    return nm_planner_choose_ways(p, layers, out, limits, err);
}

/* ---- the plan ------------------------------------------------------------------------------- */

static npumoe_status plan_new(const nm_planner *p, nm_plan **out, npumoe_error *err)
{
    const nm_planner_options *o = &p->options;
    nm_plan *plan = nm_zalloc(p->a, sizeof *plan);
    if (!plan)
        return nm_err_nomem(err, sizeof *plan, "the plan");
    *plan = (nm_plan){.allocator = p->a,
                      .policy = o->policy,
                      .overflow = o->overflow,
                      .objective = o->objective,
                      .host_limit = o->host_limit,
                      .model = *p->model,
                      .chunk = p->loads->chunk,
                      .in_flight = p->n_lanes,
                      .n_prompt = o->n_prompt,
                      .n_past = o->n_past,
                      .part_price = o->part_price,
                      .n_tiers = o->n_tiers,
                      .max_group = o->max_group,
                      .max_capacities = o->max_capacities,
                      .cost = *p->cost,
                      .n_layers = p->loads->n_layers};
    plan->layers = nm_alloc_array(p->a, plan->n_layers, sizeof *plan->layers);
    *out = plan;
    return plan->layers ? NPUMOE_OK
                        : nm_err_nomem(err, plan->n_layers * sizeof *plan->layers, "the plan");
}

static npumoe_status fill_bounds(const nm_planner *p, const nm_layer_work *layers, nm_plan *plan,
                                 npumoe_error *err)
{
    double *bounds = nm_alloc_array(p->a, plan->n_layers, sizeof *bounds);
    if (!bounds)
        return nm_err_nomem(err, plan->n_layers * sizeof *bounds, "the lower bound");
    npumoe_status st = nm_planner_bound(p, layers, plan->n_layers, bounds, &plan->bound_us, err);
    for (uint32_t l = 0; l < plan->n_layers && st == NPUMOE_OK; l++)
        plan->layers[l].bound_us = bounds[l];
    plan->gap = plan->bound_us > 0.0 ? plan->predicted.us / plan->bound_us - 1.0 : 0.0;
    nm_free(p->a, bounds);
    return st;
}

static npumoe_status fill_plan(const nm_planner *p, nm_layer_work *layers, nm_way *const *ways,
                               nm_plan *plan, npumoe_error *err)
{
    nm_way *host = nm_way_new(p, 0, 0);
    nm_way **hosts = nm_alloc_array(p->a, plan->n_layers, sizeof *hosts);
    npumoe_status st = NPUMOE_OK;
    if (!host || !hosts)
        st = nm_err_nomem(err, plan->n_layers * sizeof *hosts, "the plan");
    for (uint32_t l = 0; l < plan->n_layers && st == NPUMOE_OK; l++) {
        nm_plan_layer *out = &plan->layers[l];
        out->layer = p->loads->layers[l].layer;
        st = nm_layer_fill(p, &layers[l], ways[l], out, err);
        plan->programs += out->programs;
        if (out->on_device[NM_PART_ATTENTION])
            plan->attention_chunks = p->attention_chunks;
        plan->bytes += out->bytes;
        nm_prediction_add(&plan->predicted, &out->predicted);
        nm_planner_simulate(p, layers[l].load, host, NULL);
        nm_prediction_add(&plan->cpu_only, &host->predicted);
        hosts[l] = host;
    }
    plan->programs += plan->attention_chunks;
    if (st == NPUMOE_OK)
        st = nm_planner_schedule(p, ways, &plan->predicted, err);
    if (st == NPUMOE_OK)
        st = nm_planner_schedule(p, hosts, &plan->cpu_only, err);
    nm_free(p->a, hosts);
    nm_free(p->a, host);
    return st;
}

/* What there is to say once the ways are in it. */
static npumoe_status finish_plan(const nm_planner *p, nm_layer_work *layers, bool bounds,
                                 nm_plan *plan, npumoe_error *err)
{
    /* First, as what would have fitted instead depends on the slots and bytes that are left. */
    if (chooses(&p->options))
        NM_TRY(nm_planner_trim(plan, p->loads, err));
    NM_TRY(nm_planner_fill_rejected(p, layers, plan, err));
    if (bounds)
        NM_TRY(fill_bounds(p, layers, plan, err));
    return nm_plan_check(plan, err);
}

/* The fewest chunks in flight with which a prompt takes hardly longer than with any number: each has memory of its own. What
 * is within the limits does not leave them for that: beside a device at work the host takes longer. */
static npumoe_status choose_lanes(nm_planner *p, nm_way *const *ways,
                                  const nm_planner_limits *limits, npumoe_error *err)
{
    static const double hardly = 1.01;
    nm_prediction all = {0};
    p->n_lanes = NM_PLAN_MAX_IN_FLIGHT;
    NM_TRY(nm_planner_schedule(p, ways, &all, err));
    const bool within = all.host_us <= limits->most_host_us;
    double us[NM_PLAN_MAX_IN_FLIGHT + 1], least = nm_planner_padded(all.us, &all);
    us[NM_PLAN_MAX_IN_FLIGHT] = least;
    for (p->n_lanes = 2; p->n_lanes < NM_PLAN_MAX_IN_FLIGHT; p->n_lanes++) {
        nm_prediction x = {0};
        NM_TRY(nm_planner_schedule(p, ways, &x, err));
        const bool leaves = within && (x.host_us > limits->most_host_us || x.us > limits->most_us);
        us[p->n_lanes] = leaves ? HUGE_VAL : nm_planner_padded(x.us, &x);
        least = fmin(least, us[p->n_lanes]);
    }
    p->n_lanes = 2;
    while (us[p->n_lanes] > hardly * least)
        p->n_lanes++;
    return NPUMOE_OK;
}

/* Plans of other settings that may be better than the one with the usual ones, which only a walk can say: options that differ. */
typedef struct settings {
    uint32_t n;
    nm_planner_options options[NM_PLANNER_CHOICES + 1];
} settings;

static settings other_settings(const nm_planner *p)
{
    const nm_planner_options *o = &p->options;
    settings x = {0};
    uint32_t chunks[NM_PLANNER_CHOICES];
    if (o->policy != NM_POLICY_OURS || o->all_experts || o->objective != NM_OBJECTIVE_LATENCY)
        return x;
    const uint32_t n = nm_planner_attention_choices(p, chunks);
    for (uint32_t i = 0; i < n; i++) {
        x.options[x.n] = *o;
        x.options[x.n++].attention_chunks = chunks[i];
    }
    if (nm_planner_tries_one(p)) {
        x.options[x.n] = *o;
        x.options[x.n++].in_flight = 1; /* QKV and O shared by rows instead */
    }
    for (uint32_t i = 0; i < x.n; i++)
        x.options[i].again = true;
    return x;
}

/* One policy, without a look at the others. bounds: for a plan of which only times are wanted, they would be
 * most of the work. */
static npumoe_status make_one(const npumoe_allocator *a, const nm_plan_model *model,
                              const nm_loads *loads, const nm_cost *cost,
                              const nm_planner_options *options, bool bounds, nm_plan **out,
                              settings *more, npumoe_error *err)
{
    nm_planner p;
    nm_planner_limits limits = nm_planner_limits_of(0.0, NULL);
    nm_layer_work *layers = NULL;
    nm_way **ways = NULL;
    nm_plan *plan = NULL;
    npumoe_status st = nm_planner_init(&p, a, model, loads, cost, options, err);
    if (st == NPUMOE_OK)
        st = nm_layers_new(&p, &layers, err);
    if (st != NPUMOE_OK)
        goto out;
    ways = nm_alloc_array(a, loads->n_layers, sizeof *ways);
    if (!ways) {
        st = nm_err_nomem(err, loads->n_layers * sizeof *ways, "planning");
        goto out;
    }
    if (more)
        *more = other_settings(&p);
    if (chooses(options))
        st = run_ours(&p, layers, ways, &limits, err);
    else
        st = nm_planner_popular(&p, layers, ways, err);
    if (st == NPUMOE_OK && options->in_flight == 0)
        st = choose_lanes(&p, ways, &limits, err);
    if (st == NPUMOE_OK && options->part_price == 0.0)
        st = nm_planner_choose_part_price(&p, ways, &limits, err);
    if (st == NPUMOE_OK)
        st = plan_new(&p, &plan, err);
    if (st == NPUMOE_OK)
        st = fill_plan(&p, layers, ways, plan, err);
    if (st == NPUMOE_OK)
        st = finish_plan(&p, layers, bounds, plan, err);
    if (st == NPUMOE_OK) {
        *out = plan;
        plan = NULL;
    }
out:
    for (uint32_t l = 0; ways && l < loads->n_layers; l++)
        nm_free(a, ways[l]);
    nm_free(a, ways);
    nm_layers_free(&p, &layers);
    nm_plan_free(&plan);
    nm_planner_fini(&p);
    return st;
}

/* ---- among policies ------------------------------------------------------------------------- */

/* To be made small. */
static double worth(const nm_plan *p)
{
    switch (p->objective) {
    case NM_OBJECTIVE_ENERGY:
        return p->predicted.joules;
    case NM_OBJECTIVE_CPU:
        return p->predicted.us <= p->cpu_only.us * (1.0 + 1e-9) ? p->predicted.host_us : HUGE_VAL;
    case NM_OBJECTIVE_LATENCY:
    case NM_OBJECTIVE_END:
        break;
    }
    return p->predicted.us;
}

/* Whether the other plan is better by what ours was made for. */
static bool beats(const nm_plan *b, const nm_plan *a)
{
    if (a->host_limit == 0.0)
        return worth(b) < worth(a);
    const nm_planner_limits m = nm_planner_limits_of(a->host_limit, &a->cpu_only);
    return nm_planner_is_better(&m, b->predicted.us, b->predicted.host_us, a->predicted.us,
                                a->predicted.host_us);
}

/* Keeps the structure of the better plan under the name of ours, and the other's figures beside it. */
static void take_better(nm_plan **ours, nm_plan **other)
{
    nm_plan *a = *ours, *b = *other;
    if (beats(b, a)) {
        b->policy = a->policy;
        b->host_limit = a->host_limit;
        b->n_tiers = a->n_tiers;
        b->bound_us = a->bound_us;
        for (uint32_t l = 0; l < b->n_layers; l++)
            b->layers[l].bound_us = a->layers[l].bound_us;
        b->gap = b->bound_us > 0.0 ? b->predicted.us / b->bound_us - 1.0 : 0.0;
        b->n_rejected = a->n_rejected;
        memcpy(b->rejected, a->rejected, sizeof b->rejected);
        *ours = b;
        *other = a;
    }
}

static npumoe_status compare(nm_plan **ours, const nm_loads *loads,
                             const nm_planner_options *options, npumoe_error *err)
{
    static const nm_plan_policy others[] = {NM_POLICY_PAPER, NM_POLICY_LADDER, NM_POLICY_NAIVE,
                                            NM_POLICY_CPU};
    const nm_plan_model model = (*ours)->model;
    const nm_cost cost = (*ours)->cost;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        nm_planner_options o = *options;
        nm_plan *other = NULL;
        o.policy = others[i];
        o.host_limit = 0.0;
        o.progress = NULL;
        if (nm_overflow_is_lossy(o.overflow))
            o.overflow = NM_OVERFLOW_SPILL;
        NM_TRY(make_one((*ours)->allocator, &model, loads, &cost, &o, false, &other, NULL, err));
        nm_plan_rejected *r = &(*ours)->rejected[(*ours)->n_rejected++];
        *r = (nm_plan_rejected){.us = other->predicted.us,
                                .host_us = other->predicted.host_us,
                                .device_us = other->predicted.device_us,
                                .programs = other->programs,
                                .bytes = other->bytes};
        snprintf(r->what, sizeof r->what, "policy %s, overflow %s", nm_plan_policy_name(o.policy),
                 nm_overflow_name(o.overflow));
        if (options->overflow == o.overflow && others[i] != NM_POLICY_CPU)
            take_better(ours, &other);
        nm_plan_free(&other);
    }
    return NPUMOE_OK;
}

/* One policy, by whatever settings are best. */
static npumoe_status make_best(const npumoe_allocator *a, const nm_plan_model *model,
                               const nm_loads *loads, const nm_cost *cost,
                               const nm_planner_options *options, nm_plan **out, npumoe_error *err)
{
    settings more;
    nm_plan *plan = NULL;
    NM_TRY(make_one(a, model, loads, cost, options, true, &plan, &more, err));
    npumoe_status st = NPUMOE_OK;
    for (uint32_t i = 0; i < more.n && st == NPUMOE_OK; i++) {
        nm_plan *other = NULL;
        st = make_one(a, model, loads, cost, &more.options[i], false, &other, NULL, err);
        if (st == NPUMOE_OK)
            take_better(&plan, &other);
        nm_plan_free(&other);
    }
    if (st != NPUMOE_OK)
        nm_plan_free(&plan);
    *out = plan;
    return st;
}

/* Planned for themselves, policies that lose pairs would lose all that is slow. So ours is spill's plan with the
 * other word in it: what is lost is what the same plan would leave to the host. The bound is their own. */
static npumoe_status make_lossy(const npumoe_allocator *a, const nm_plan_model *model,
                                const nm_loads *loads, const nm_cost *cost,
                                const nm_planner_options *options, nm_plan **plan,
                                npumoe_error *err)
{
    nm_planner_options o = *options;
    nm_plan *exact = NULL;
    o.overflow = NM_OVERFLOW_SPILL;
    NM_TRY(make_best(a, model, loads, cost, &o, &exact, err));
    exact->overflow = options->overflow;
    exact->bound_us = (*plan)->bound_us;
    nm_plan_free(plan);
    *plan = exact;
    return nm_planner_predict(exact, loads, err);
}

npumoe_status nm_planner_make(const npumoe_allocator *a, const nm_plan_model *model,
                              const nm_loads *loads, const nm_cost *cost,
                              const nm_planner_options *options, nm_plan **out, npumoe_error *err)
{
    nm_plan *plan = NULL;
    NM_TRY(nm_loads_check(loads, err));
    NM_TRY(check_options(options, cost, err));
    NM_TRY(make_best(a, model, loads, cost, options, &plan, err));
    npumoe_status st = NPUMOE_OK;
    if (options->policy == NM_POLICY_OURS && nm_overflow_is_lossy(options->overflow))
        st = make_lossy(a, model, loads, cost, options, &plan, err);
    if (st == NPUMOE_OK && options->policy == NM_POLICY_OURS && options->compare)
        st = compare(&plan, loads, options, err);
    /* Each plan of ours was trimmed when it was made (finish_plan), but by now it may be another policy's. Those are not,
     * as in the list of rejected ones they stand for what their policy would place. */
    if (st == NPUMOE_OK && chooses(options))
        st = nm_planner_trim(plan, loads, err);
    if (st == NPUMOE_OK)
        st = nm_planner_crossover(plan, loads, err);
    if (st == NPUMOE_OK)
        *out = plan;
    else
        nm_plan_free(&plan);
    return st;
}
