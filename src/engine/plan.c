/* plan.c: the public side of planning: names to options, a profile to loads, a device to a cost table.
 *
 * A cost table always goes through its JSON, also when it was measured a moment ago: so a plan is the same
 * whether its table was just measured or read again from the file that was saved with it. */
#include "base/abi.h"
#include "device/tile/tile.h"
#include "engine/cost_file.h"
#include "engine/plan_cost.h"
#include "engine/precision.h"
#include "moe/fields.h"
#include "moe/loads.h"
#include "quant/quant.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LEAST_CHUNK = 2, DEFAULT_CHUNK = 512, DEFAULT_PROMPT = 2048 };

npumoe_planner_options npumoe_planner_options_default(void)
{
    return (npumoe_planner_options){.struct_bytes = sizeof(npumoe_planner_options),
                                    .npu_precision = NPUMOE_PRECISION_FULL};
}

/* ---- names ---------------------------------------------------------------------------------- */

static npumoe_status find_name(const char *what, const char *name, const char *(*at)(unsigned),
                               unsigned *out, npumoe_error *err)
{
    char list[128] = "";
    size_t n = 0;
    for (unsigned i = 0; at(i); i++) {
        if (strcmp(at(i), name) == 0) {
            *out = i;
            return NPUMOE_OK;
        }
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", at(i));
    }
    return nm_err_set(err, NPUMOE_EINVAL, "%s: found '%s', expected one of %s", what, name, list);
}

static const char *policy_at(unsigned i)
{
    return nm_plan_policy_name((nm_plan_policy)i);
}

static const char *overflow_at(unsigned i)
{
    return nm_overflow_name((nm_overflow)i);
}

static const char *objective_at(unsigned i)
{
    return nm_objective_name((nm_objective)i);
}

static uint32_t or_default(uint32_t v, uint32_t otherwise)
{
    return v ? v : otherwise;
}

static npumoe_status read_options(const npumoe_planner_options *o, nm_planner_options *out,
                                  npumoe_error *err)
{
    unsigned v = 0;
    nm_planner_options p = nm_planner_options_default();
    if (o->policy)
        NM_TRY(find_name("policy", o->policy, policy_at, &v, err));
    p.policy = o->policy ? (nm_plan_policy)v : NM_POLICY_OURS;
    p.overflow = p.policy == NM_POLICY_PAPER ? NM_OVERFLOW_PRUNE : NM_OVERFLOW_SPILL;
    if (p.policy == NM_POLICY_LADDER)
        p.overflow = NM_OVERFLOW_REPASS;
    if (o->overflow) {
        NM_TRY(find_name("overflow", o->overflow, overflow_at, &v, err));
        p.overflow = (nm_overflow)v;
    }
    if (o->objective) {
        NM_TRY(find_name("objective", o->objective, objective_at, &v, err));
        p.objective = (nm_objective)v;
    }
    p.host_limit = o->host_limit == 1.0 ? 0.0 : o->host_limit; /* any */
    const bool lossy = nm_overflow_is_lossy(p.overflow);
    p.n_tiers = or_default(o->n_tiers, p.n_tiers);
    p.max_group = or_default(o->max_group, p.max_group);
    p.max_capacities = or_default(o->max_capacities, lossy ? 1 : p.n_tiers);
    p.in_flight = o->n_in_flight; /* 0: as many as pay */
    p.n_prompt = or_default(o->n_prompt, DEFAULT_PROMPT);
    p.n_past = o->n_past;
    p.all_experts = o->all_experts;
    p.no_parts = o->no_parts;
    p.compare = !o->alone;
    p.progress = o->progress;
    p.progress_user = o->progress_user;
    if (lossy && p.max_capacities > 1)
        return nm_err_set(
            err, NPUMOE_EINVAL,
            "overflow %s with %u capacities per group: what is dropped must not depend "
            "on which program ran; expected 1",
            nm_overflow_name(p.overflow), p.max_capacities);
    *out = p;
    return NPUMOE_OK;
}

/* "Q8_0", or three names. */
static npumoe_status read_types(const char *text, uint32_t type[3], npumoe_error *err)
{
    nm_str rest = nm_str_of(text);
    for (int i = 0; i < 3; i++) {
        const char *comma = memchr(rest.p, ',', rest.n);
        const nm_str name = {rest.p, comma ? (size_t)(comma - rest.p) : rest.n};
        nm_type t;
        if (!nm_type_by_name(name, &t) || !nm_type_get(t)->supported)
            return nm_err_set(
                err, NPUMOE_EINVAL,
                "types: found '%.*s' in '%s', expected a tensor type such as Q4_K, or "
                "three of them",
                NM_STR_ARG(name), text);
        type[i] = t;
        if (comma)
            rest = (nm_str){comma + 1, rest.n - (size_t)(comma + 1 - rest.p)};
        else if (i == 0) {
            type[1] = type[2] = t;
            return NPUMOE_OK;
        } else if (i == 1)
            return nm_err_set(err, NPUMOE_EINVAL, "types: found two in '%s', expected one or three",
                              text);
        else
            return NPUMOE_OK;
    }
    return nm_err_set(err, NPUMOE_EINVAL, "types: found more than three in '%s'", text);
}

/* ---- the cost table ------------------------------------------------------------------------- */

static npumoe_status new_device(const npumoe_planner_options *o, nm_npu **out, npumoe_error *err)
{
    const char *name = o->device ? o->device : "tile";
    *out = NULL;
    if (strcmp(name, "cpu") == 0)
        return NPUMOE_OK;
    if (strcmp(name, "tile") != 0)
        return nm_err_set(err, NPUMOE_EINVAL, "device: found '%s', expected tile or cpu", name);
    nm_tile_options t = nm_tile_options_default();
    t.isa = o->npu_isa;
    NM_TRY(nm_precision_read(o->npu_precision, &t.precision, err));
    NM_TRY(nm_tile_weights_parse(o->npu_weights, &t.weights, err));
    t.n_threads = or_default(o->npu_threads, 1);
    t.launch_ns = (uint64_t)o->launch_us * 1000;
    return nm_tile_new(nm_allocator_default(), &t, out, err);
}

static int host_threads(const npumoe_planner_options *o, bool with_device)
{
    const int device = with_device ? (int)or_default(o->npu_threads, 1) : 0;
    const int left = nm_pool_default_threads() - device;
    if (o->n_threads > 0)
        return o->n_threads < NM_POOL_MAX_THREADS ? o->n_threads : NM_POOL_MAX_THREADS;
    return left > 0 ? left : 1;
}

/* That with which the profile's model runs. */
static npumoe_status host_precision(const nm_profile *profile, const npumoe_planner_options *o,
                                    nm_precision *out, npumoe_error *err)
{
    const char *arch = profile->model.architecture;
    NM_TRY(nm_precision_read(o->precision, out, err));
    *out = nm_precision_of_family(*out, nm_family_find(nm_str_of(arch)));
    return NPUMOE_OK;
}

static npumoe_status measure(const nm_profile *profile, const npumoe_planner_options *o,
                             const nm_cost_geometry *g, uint32_t chunk, nm_cost *out,
                             npumoe_error *err)
{
    const nm_cpu cpu = nm_cpu_detect();
    nm_kern kern;
    nm_cost_job job = {.geometry = *g,
                       .type_qkv = profile->model.type_qkv,
                       .type_out = profile->model.type_out,
                       .window = profile->model.window,
                       .chunk = chunk,
                       .last = o->n_past + or_default(o->n_prompt, DEFAULT_PROMPT),
                       .kern = &kern,
                       .progress = o->progress,
                       .progress_user = o->progress_user,
                       .total = 53};
    NM_TRY(host_precision(profile, o, &job.precision, err));
    NM_TRY(nm_kern_init(&kern, &cpu, o->isa, err));
    npumoe_status st = new_device(o, &job.npu, err);
    if (st == NPUMOE_OK)
        st = nm_pool_new(nm_allocator_default(), host_threads(o, job.npu != NULL), &job.pool, err);
    if (st == NPUMOE_OK)
        st = nm_cost_measure(&job, out, err);
    nm_pool_free(&job.pool);
    nm_npu_free(&job.npu);
    return st;
}

/* A table is for the settings it was measured with; others that were asked for would be ignored. */
static npumoe_status fits_settings(const nm_cost *c, const nm_profile *profile,
                                   const npumoe_planner_options *o, npumoe_error *err)
{
    const char *const again = "measure again (leave out --cost)";
    nm_precision precision;
    NM_TRY(host_precision(profile, o, &precision, err));
    const char *name = nm_precision_name(precision);
    const bool said = c->precision[0] || o->precision != NPUMOE_PRECISION_AUTO;
    if (said && strcmp(c->precision, name) != 0)
        return nm_err_set(err, NPUMOE_EMODEL,
                          "cost table: the host was measured with precision '%s', expected '%s'; "
                          "%s",
                          c->precision[0] ? c->precision : "unknown", name, again);
    if (o->isa && strcmp(c->isa, o->isa) != 0)
        return nm_err_set(err, NPUMOE_EMODEL,
                          "cost table: the host was measured with kernels '%s', expected '%s'; %s",
                          c->isa, o->isa, again);
    if (o->n_threads > 0 && c->host_threads != (uint32_t)o->n_threads)
        return nm_err_set(err, NPUMOE_EMODEL,
                          "cost table: the host was measured with %" PRIu32
                          " threads, expected %d; %s",
                          c->host_threads, o->n_threads, again);
    if (o->npu_threads > 0 && c->device.threads > 0 && c->device.threads != o->npu_threads)
        return nm_err_set(err, NPUMOE_EMODEL,
                          "cost table: the device was measured with %" PRIu32
                          " threads, expected %" PRIu32 "; %s",
                          c->device.threads, o->npu_threads, again);
    if (o->npu_weights && strcmp(c->device.weights, o->npu_weights) != 0)
        return nm_err_set(err, NPUMOE_EMODEL,
                          "cost table: it was measured with weights kept as '%s', expected '%s'; "
                          "%s",
                          c->device.weights, o->npu_weights, again);
    return NPUMOE_OK;
}

typedef struct wanted {
    const nm_profile *profile;
    const npumoe_planner_options *options;
    const nm_cost_geometry *geometry;
    uint32_t chunk;
} wanted;

static npumoe_status serves(const void *user, const nm_cost *cost, npumoe_error *err)
{
    const wanted *w = user;
    const char *device = w->options->device ? w->options->device : "tile";
    NM_TRY(nm_cost_fits(cost, w->geometry, w->chunk, device, err));
    return fits_settings(cost, w->profile, w->options, err);
}

static npumoe_status measure_text(const wanted *w, char **text, npumoe_error *err)
{
    nm_cost cost;
    NM_TRY(measure(w->profile, w->options, w->geometry, w->chunk, &cost, err));
    json_t *root = nm_cost_to_json(&cost);
    if (!root)
        return nm_err_nomem(err, sizeof cost, "a cost table");
    const npumoe_status st = nm_fields_print(root, text, err);
    json_decref(root);
    return st;
}

/* Measured or given, as text; *out is what the text says. */
static npumoe_status get_cost(const wanted *w, char **text, nm_cost *out, npumoe_error *err)
{
    const npumoe_planner_options *o = w->options;
    char *measured = NULL;
    json_t *root = NULL;
    if (!o->cost)
        NM_TRY(measure_text(w, &measured, err));
    npumoe_status st =
        nm_cost_file_pick(measured ? measured : o->cost,
                          measured ? strlen(measured) : o->cost_bytes, serves, w, &root, out, err);
    if (st == NPUMOE_OK)
        st = nm_fields_print(root, text, err);
    npumoe_text_free(&measured);
    json_decref(root);
    return st;
}

/* Budgets and added latency are the user's, whatever the table was measured with. */
static void set_budgets(const npumoe_planner_options *o, nm_cost *c)
{
    nm_cost_device *d = &c->device;
    if (strcmp(d->name, "cpu") == 0)
        return;
    if (o->slots)
        d->slots = o->slots;
    if (o->program_bytes)
        d->program_bytes = o->program_bytes;
    if (o->memory_bytes)
        d->total_bytes = o->memory_bytes;
    const double own = c->launch_us - d->added_launch_us;
    c->launch_us = (own > 0.0 ? own : 0.0) + o->launch_us;
    d->added_launch_us = o->launch_us;
}

/* ---- making --------------------------------------------------------------------------------- */

static npumoe_status model_of(const nm_profile *p, const npumoe_planner_options *o,
                              nm_plan_model *out, npumoe_error *err)
{
    const nm_profile_model *m = &p->model;
    *out = (nm_plan_model){.router_hash = m->router_hash,
                           .n_layer = m->n_layer,
                           .geometry = {.n_embd = m->n_embd,
                                        .n_ff = m->n_ff_expert,
                                        .n_ff_shared = m->n_ff_shared,
                                        .n_expert = m->n_expert,
                                        .n_expert_used = m->n_expert_used,
                                        .n_head = m->n_head,
                                        .n_head_kv = m->n_head_kv,
                                        .dim_k = m->dim_k,
                                        .dim_v = m->dim_v,
                                        .type = {m->type_gate, m->type_up, m->type_down}}};
    snprintf(out->name, sizeof out->name, "%s", m->name);
    snprintf(out->architecture, sizeof out->architecture, "%s", m->architecture);
    return o->types ? read_types(o->types, out->geometry.type, err) : NPUMOE_OK;
}

/* The types that the profile's file has, layer by layer. Where others were asked for, which may be those of a mix,
 * nobody knows more than what was asked for. */
static void note_types(const nm_profile *p, const npumoe_planner_options *o, nm_plan *plan)
{
    for (uint32_t i = 0; o->types == NULL && i < plan->n_layers; i++)
        for (uint32_t j = 0; j < p->n_layers; j++)
            if (p->layer_of[j] == plan->layers[i].layer)
                plan->layers[i].types = p->types[j];
}

static npumoe_status make(const nm_profile *profile, const npumoe_planner_options *o, char **plan,
                          char **cost_text, npumoe_error *err)
{
    const npumoe_allocator *a = nm_allocator_default();
    const uint32_t chunk = or_default(o->n_chunk, DEFAULT_CHUNK);
    nm_planner_options options;
    nm_plan_model model;
    nm_cost cost;
    nm_loads loads = {0};
    nm_plan *made = NULL;
    if (chunk < LEAST_CHUNK || chunk > NM_PLAN_MAX_CHUNK)
        return nm_err_set(
            err, NPUMOE_EINVAL,
            "chunk: found %u, expected %d to %u; a token by itself, as in generation, "
            "never goes by a plan",
            chunk, LEAST_CHUNK, NM_PLAN_MAX_CHUNK);
    NM_TRY(read_options(o, &options, err));
    NM_TRY(model_of(profile, o, &model, err));
    NM_TRY(nm_loads_of_profile(a, profile, NM_PROFILE_MAIN, chunk, NM_SCENARIOS, &loads, err));
    const wanted w = {
        .profile = profile, .options = o, .geometry = &model.geometry, .chunk = chunk};
    npumoe_status st = get_cost(&w, cost_text, &cost, err);
    if (st == NPUMOE_OK) {
        set_budgets(o, &cost);
        st = nm_planner_make(a, &model, &loads, &cost, &options, &made, err);
    }
    if (st == NPUMOE_OK) {
        note_types(profile, o, made);
        st = nm_plan_print(made, plan, err);
    }
    nm_plan_free(&made);
    nm_loads_free(a, &loads);
    return st;
}

npumoe_status npumoe_plan_make(const char *profile, size_t profile_bytes,
                               const npumoe_planner_options *options, char **plan, char **cost,
                               npumoe_error *err)
{
    npumoe_planner_options o = npumoe_planner_options_default();
    nm_profile *p = NULL;
    char *text = NULL, *cost_text = NULL;
    if (!profile || !plan)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "npumoe_plan_make: profile and plan must not be NULL");
    NM_TRY(nm_abi_read(&o, sizeof o, options, "npumoe_planner_options", err));
    NM_TRY(nm_profile_parse(nm_allocator_default(), profile, profile_bytes, "profile", &p, err));
    npumoe_status st = make(p, &o, &text, &cost_text, err);
    nm_profile_free(&p);
    if (st != NPUMOE_OK) {
        npumoe_text_free(&text);
        npumoe_text_free(&cost_text);
        return st;
    }
    *plan = text;
    if (cost)
        *cost = cost_text;
    else
        npumoe_text_free(&cost_text);
    return NPUMOE_OK;
}
