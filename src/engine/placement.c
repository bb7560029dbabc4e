/* placement.c: attaching a plan to a model; see placement.h. */
#include "engine/placement.h"

#include "base/abi.h"
#include "base/clock.h"
#include "base/num.h"
#include "engine/model.h"
#include "engine/precision.h"
#include "moe/profile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

npumoe_plan_options npumoe_plan_options_default(void)
{
    return (npumoe_plan_options){.struct_bytes = sizeof(npumoe_plan_options)};
}

void nm_placement_free(const npumoe_allocator *a, nm_placement **placement)
{
    nm_placement *p = *placement;
    if (p == NULL)
        return;
    nm_executor_free(&p->ex);
    nm_plan_free(&p->plan);
    nm_drift_free(&p->replan.drift);
    if (p->device)
        nm_device_hold(p->device, false);
    npumoe_device_free(&p->own_device);
    nm_free(a, p->name);
    nm_free(a, p->trace.events);
    nm_free(a, p->thread_ns);
    nm_free(a, p->timings.layer_ns);
    nm_free(a, p);
    *placement = NULL;
}

static void read_clock(void *arg, int thread, int n_threads)
{
    (void)n_threads;
    ((nm_placement *)arg)->thread_ns[thread] = nm_clock_thread_cpu_ns();
}

uint64_t nm_placement_cpu_ns(nm_placement *p)
{
    uint64_t sum = 0;
    nm_pool_run(p->pool, read_clock, p);
    for (int i = 0; i < nm_pool_size(p->pool); i++)
        sum += p->thread_ns[i];
    return sum;
}

void nm_placement_forget_layers(nm_placement *p)
{
    memset(p->timings.layer_ns, 0, p->plan->model.n_layer * sizeof *p->timings.layer_ns);
}

/* ---- does it fit ------------------------------------------------------------------------------ */

/* The first layer with experts: all have the same shapes. */
static const nm_layer_weights *moe_layer(const npumoe_model *m, const nm_layer_desc **d)
{
    for (uint32_t i = 0; i < m->config.n_layer; i++) {
        *d = &m->config.layers[i];
        if ((*d)->ffn == NM_FFN_MOE)
            return &m->weights.layers[i];
    }
    return NULL;
}

static npumoe_status describe(const npumoe_model *m, nm_plan_model *out, npumoe_error *err)
{
    const nm_config *c = &m->config;
    const nm_layer_desc *d;
    const nm_layer_weights *l = moe_layer(m, &d);
    if (l == NULL)
        return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                          "a plan is of no use to a model without experts");
    *out = (nm_plan_model){.n_layer = c->n_layer,
                           .geometry = {.n_embd = c->n_embd,
                                        .n_ff = d->n_ff,
                                        .n_ff_shared = d->n_ff_shared,
                                        .n_expert = c->n_expert,
                                        .n_expert_used = c->n_expert_used,
                                        .n_head = d->n_head,
                                        .n_head_kv = d->n_head_kv,
                                        .dim_k = d->dim_k,
                                        .dim_v = d->dim_v,
                                        .type = {l->experts.gate.mat.type, l->experts.up.mat.type,
                                                 l->experts.down.mat.type}}};
    strncpy(out->name, m->name, sizeof out->name - 1);
    strncpy(out->architecture, m->architecture, sizeof out->architecture - 1);
    return nm_profile_router_hash(c, &m->weights, &out->router_hash, err);
}

/* What a plan must know of the device at hand. */
static nm_cost_device device_of(const nm_npu_caps *c)
{
    nm_cost_device d = {.simulated = c->simulated,
                        .shares_weights = c->shares_weights,
                        .has_linear = c->has_linear,
                        .has_attention = c->has_attention,
                        .slots = c->slots,
                        .capacity_multiple = c->capacity_multiple,
                        .capacity_min = c->capacity_min,
                        .capacity_max = c->capacity_max,
                        .queue_depth = c->queue_depth,
                        .program_bytes = c->program_bytes,
                        .total_bytes = c->total_bytes,
                        .threads = c->n_threads,
                        .added_launch_us = (double)c->added_launch_ns * 1e-3};
    strncpy(d.name, c->name, sizeof d.name - 1);
    strncpy(d.weights, c->weights ? c->weights : "", sizeof d.weights - 1);
    return d;
}

/* Beyond the first layer's, which the plan's times are for: what other layers have more or less changes bytes and
 * times of their programs. */
static npumoe_status check_types(const npumoe_model *m, const nm_plan *plan, npumoe_error *err)
{
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        const nm_plan_layer *l = &plan->layers[i];
        const nm_expert_types have = nm_expert_types_of(&m->weights.layers[l->layer].experts);
        for (unsigned j = 0; l->types.known && nm_expert_types_name(j); j++)
            if (l->types.type[j] != have.type[j])
                return nm_err_set(
                    err, NPUMOE_EMODEL,
                    "plan: it is for another quantisation: layer %" PRIu32
                    ", ffn_%s_exps: found %s, expected %s; make a plan with a profile of this "
                    "file, or with --types",
                    l->layer, nm_expert_types_name(j), nm_type_get(l->types.type[j])->name,
                    nm_type_get(have.type[j])->name);
    }
    return NPUMOE_OK;
}

static npumoe_status check_plan(const npumoe_model *m, const nm_plan *plan,
                                const npumoe_plan_options *o, npumoe_error *err)
{
    nm_plan_model model;
    const bool alone = plan->programs == 0; /* nothing on a device: any will do */
    const bool lossy = nm_overflow_is_lossy(plan->overflow);
    NM_TRY(describe(m, &model, err));
    if (!alone && o->device == NULL)
        return nm_err_set(err, NPUMOE_EINVAL, "the plan needs a device: %s",
                          plan->cost.device.name);
    nm_cost_device device = {0};
    if (!alone)
        device = device_of(&nm_device_npu(o->device)->caps);
    NM_TRY(nm_plan_fits(plan, &model, alone ? NULL : &device, 0, err));
    NM_TRY(check_types(m, plan, err));
    if (alone && o->require_npu)
        return nm_err_set(err, NPUMOE_EDEVICE,
                          "the plan puts nothing on a device (policy %s, device %s)",
                          nm_plan_policy_name(plan->policy), plan->cost.device.name);
    if (o->from_tokens && (o->from_tokens < 2 || o->from_tokens > plan->chunk))
        return nm_err_set(err, NPUMOE_EINVAL,
                          "tokens of a prompt by plan (from_tokens, --npu-from): found %" PRIu32
                          ", expected 2 to %" PRIu32 ", the plan's chunk",
                          o->from_tokens, plan->chunk);
    if (lossy && !o->allow_lossy)
        return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                          "the plan's overflow policy '%s' changes results; allow it (--lossy) or "
                          "plan with spill or repass",
                          nm_overflow_name(plan->overflow));
    return NPUMOE_OK;
}

/* ---- what it does not run --------------------------------------------------------------------- */

static void say(const nm_placement *p, npumoe_log_level level, const char *what)
{
    char line[768];
    if (p->log == NULL)
        return;
    snprintf(line, sizeof line, "%s: %s", p->name, what);
    p->log(p->log_user, level, line);
}

static void explain_refusal(const nm_placement *p, size_t n, uint32_t chunk, char *buf,
                            size_t bytes)
{
    const nm_plan *plan = p->plan;
    const uint32_t from = nm_executor_from(p->ex);
    if (plan->programs == 0)
        snprintf(buf, bytes, "it puts nothing on a device (policy %s)",
                 nm_plan_policy_name(plan->policy));
    else if (nm_executor_loaded(p->ex) == 0)
        snprintf(buf, bytes, "none of its %" PRIu32 " programs is on the device", plan->programs);
    else if (from == UINT32_MAX)
        snprintf(
            buf, bytes,
            "it predicts that the host alone takes no longer for any prompt (%.1f ms for %" PRIu32
            " tokens, by plan %.1f ms); --npu-from runs it all the same",
            plan->cpu_only.us * 1e-3, plan->chunk, plan->predicted.us * 1e-3);
    else if (n >= nm_max_size(from, 2)) /* see nm_executor_share() */
        snprintf(buf, bytes,
                 "its chunks must have at least %" PRIu32
                 " tokens, and this session's have %" PRIu32 " (--ubatch-size)",
                 from < plan->chunk ? from : plan->chunk, chunk);
    else
        snprintf(buf, bytes,
                 "%s at least %" PRIu32 " tokens, and this one has %zu; --npu-from %" PRIu32
                 " runs it all the same",
                 plan->crossover == from ? "it is predicted to pay for prompts of"
                                         : "--npu-from asks for prompts of",
                 from, n, n < plan->chunk ? (uint32_t)n : plan->chunk);
}

npumoe_status nm_placement_refuse(nm_placement *p, size_t n, uint32_t chunk, npumoe_error *err)
{
    char why[512], line[640];
    explain_refusal(p, n, chunk, why, sizeof why);
    if (p->require)
        return nm_err_set(err, NPUMOE_EDEVICE, "%s: no part of the prompt runs by plan: %s",
                          p->name, why);
    const bool meant = p->plan->programs == 0 && (p->plan->policy == NM_POLICY_CPU ||
                                                  strcmp(p->plan->cost.device.name, "cpu") == 0);
    if (p->told || meant)
        return NPUMOE_OK;
    p->told = true;
    snprintf(line, sizeof line, "the prompt does not run by plan: %s", why);
    say(p, NPUMOE_LOG_WARN, line);
    return NPUMOE_OK;
}

/* Why there was no launch, and what helps. What pays is asked again for each launch, so a prompt may go by the plan and find
 * that none does. */
static void explain_idle(const nm_placement *p, size_t n, uint32_t chunk, uint64_t failures,
                         char *buf, size_t bytes)
{
    const uint32_t whole = p->plan->chunk, gone = nm_executor_failed(p->ex);
    if (failures > 0)
        snprintf(buf, bytes,
                 "all launches that were tried failed (%" PRIu64 "), and what failed stays "
                 "the host's until the plan is loaded again",
                 failures);
    else if (gone > 0)
        snprintf(buf, bytes,
                 "%" PRIu32 " of its groups and parts do not work, or no longer, and nothing else "
                 "was worth a launch",
                 gone);
    else if (n < whole && n <= chunk)
        snprintf(buf, bytes,
                 "%zu tokens give its programs too few rows for a launch to be worth it; a longer "
                 "prompt does (the plan's chunk is %" PRIu32 "), --npu-from does not help",
                 n, whole);
    else if (chunk < whole)
        snprintf(buf, bytes,
                 "chunks of %" PRIu32 " tokens give its programs too few rows for a launch to be "
                 "worth it; longer ones do (--ubatch-size, up to the plan's %" PRIu32
                 "), --npu-from does not help",
                 chunk, whole);
    else
        snprintf(buf, bytes,
                 "its programs get too few rows of prompts like this one for a launch to be worth "
                 "it; a plan for their loads may help, --npu-from does not");
}

npumoe_status nm_placement_judge(nm_placement *p, size_t n, uint32_t chunk,
                                 const nm_exec_counts *before, npumoe_error *err)
{
    const nm_exec_counts now = nm_executor_total(p->ex);
    char why[384], line[512];
    if (now.launches + now.part_launches > before->launches + before->part_launches)
        return NPUMOE_OK;
    if (p->told_idle && !p->require)
        return NPUMOE_OK;
    p->told_idle = true;
    explain_idle(p, n, chunk, now.failures - before->failures, why, sizeof why);
    if (p->require)
        return nm_err_set(err, NPUMOE_EDEVICE,
                          "%s: the device completed no launch of the prompt: %s", p->name, why);
    snprintf(line, sizeof line,
             "the device completed no launch of the prompt, the host computed all of it: %s", why);
    say(p, NPUMOE_LOG_WARN, line);
    return NPUMOE_OK;
}

/* Predictions hold for what they were measured with. */
static void compare_settings(const nm_placement *p, const npumoe_model *m)
{
    const nm_npu_caps *have = &nm_device_npu(p->device)->caps;
    const nm_cost *cost = &p->plan->cost;
    const char *isa = m->kern.isa, *precision = nm_precision_name(m->precision);
    const double added = (double)have->added_launch_ns * 1e-3;
    char line[384];
    if (p->plan->programs == 0)
        return;
    if (added != cost->device.added_launch_us) {
        snprintf(line, sizeof line,
                 "it was made for %.0f us added to each launch, the device adds %.0f",
                 cost->device.added_launch_us, added);
        say(p, NPUMOE_LOG_WARN, line);
    }
    const char *planned = cost->device.arithmetic[0] ? cost->device.arithmetic : have->arithmetic;
    if (strcmp(isa, cost->isa) != 0 || strcmp(planned, have->arithmetic) != 0) {
        snprintf(line, sizeof line,
                 "it was made for kernels '%s' of the host and products '%s' of the device, here "
                 "are '%s' and '%s'",
                 cost->isa, planned, isa, have->arithmetic);
        say(p, NPUMOE_LOG_WARN, line);
    }
    if (cost->precision[0] && strcmp(precision, cost->precision) != 0) {
        snprintf(line, sizeof line,
                 "it was made for precision '%s' of the host's products, here it is '%s'",
                 cost->precision, precision);
        say(p, NPUMOE_LOG_WARN, line);
    }
    if (have->n_threads != cost->device.threads ||
        (uint32_t)nm_pool_size(p->pool) != cost->host_threads) {
        snprintf(line, sizeof line,
                 "it was made for %" PRIu32 " threads of the host and %" PRIu32
                 " of the device, here are %d and %" PRIu32,
                 cost->host_threads, cost->device.threads, nm_pool_size(p->pool), have->n_threads);
        say(p, NPUMOE_LOG_WARN, line);
    }
}

/* ---- attaching --------------------------------------------------------------------------------- */

static npumoe_status set_up(nm_placement *p, npumoe_model *m, const npumoe_plan_options *o,
                            npumoe_error *err)
{
    NM_TRY(nm_plan_parse(m->allocator, o->plan, o->plan_bytes, &p->plan, err));
    NM_TRY(check_plan(m, p->plan, o, err));
    if (o->device == NULL) {
        npumoe_device_options cpu = npumoe_device_options_default();
        cpu.allocator = m->allocator;
        cpu.name = "cpu";
        NM_TRY(npumoe_device_new(&cpu, &p->own_device, err));
    }
    p->device = o->device ? o->device : p->own_device;
    nm_device_hold(p->device, true);
    p->pool = m->pool;
    compare_settings(p, m);
    p->n_lanes = o->n_in_flight ? o->n_in_flight : p->plan->in_flight;
    p->thread_ns =
        nm_alloc_array(m->allocator, (size_t)nm_pool_size(m->pool), sizeof *p->thread_ns);
    p->timings.layer_ns =
        nm_alloc_array(m->allocator, m->config.n_layer, sizeof *p->timings.layer_ns);
    if (o->trace_events)
        p->trace.events = nm_alloc_array(m->allocator, o->trace_events, sizeof *p->trace.events);
    if (p->thread_ns == NULL || p->timings.layer_ns == NULL ||
        (o->trace_events && p->trace.events == NULL))
        return nm_err_nomem(err, o->trace_events * sizeof *p->trace.events, "a trace");
    p->trace.capacity = o->trace_events;
    p->start_ns = nm_clock_ns();
    p->serial = ++m->n_placements;
    if (!o->no_replan && p->plan->policy == NM_POLICY_OURS)
        NM_TRY(nm_drift_new(m->allocator, p->plan, &p->replan.drift, err));
    /* Sessions outlive the plan: the next one may share rows where this one does not. */
    p->apart =
        p->n_lanes > 1 && (nm_plan_shares_part(p->plan, NM_PART_QKV) || p->replan.drift != NULL);
    const nm_executor_options e = {.plan = p->plan,
                                   .npu = nm_device_npu(p->device),
                                   .config = &m->config,
                                   .weights = &m->weights,
                                   .kern = &m->kern,
                                   .pool = m->pool,
                                   .n_tokens = p->plan->chunk,
                                   .n_lanes = p->n_lanes,
                                   .require = o->require_npu,
                                   .from = o->from_tokens,
                                   .label = p->name,
                                   .log = o->log,
                                   .log_user = o->log_user,
                                   .trace = o->trace_events ? &p->trace : NULL};
    return nm_executor_new(m->allocator, &e, &p->ex, err);
}

static npumoe_status replace(npumoe_model *m, nm_placement *fresh, npumoe_error *err)
{
    if (m->placement && m->placement->users > 0)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "sessions that use the model's plan are still alive: %u",
                          m->placement->users);
    nm_placement_free(m->allocator, &m->placement);
    m->placement = fresh;
    return NPUMOE_OK;
}

static char *copy_name(const npumoe_allocator *a, const char *name)
{
    const size_t bytes = strlen(name) + 1;
    char *copy = nm_alloc(a, bytes);
    if (copy)
        memcpy(copy, name, bytes);
    return copy;
}

/* The old plan goes first: both may not fit the device. */
static npumoe_status attach(npumoe_model *m, const npumoe_plan_options *o, npumoe_error *err)
{
    NM_TRY(replace(m, NULL, err));
    if (o == NULL)
        return NPUMOE_OK;
    nm_placement *p = nm_zalloc(m->allocator, sizeof *p);
    if (p == NULL)
        return nm_err_nomem(err, sizeof *p, "a plan");
    p->require = o->require_npu;
    p->log = o->log;
    p->log_user = o->log_user;
    p->name = copy_name(m->allocator, o->name ? o->name : "plan");
    npumoe_status st = p->name ? set_up(p, m, o, err) : nm_err_nomem(err, 0, "a plan's name");
    if (st != NPUMOE_OK) {
        if (p->name && o->name)
            nm_err_prefix(err, st, "%s", p->name);
        nm_placement_free(m->allocator, &p);
        return st;
    }
    return replace(m, p, err);
}

npumoe_status npumoe_model_use_plan(npumoe_model *model, const npumoe_plan_options *options,
                                    npumoe_error *err)
{
    npumoe_plan_options opt = npumoe_plan_options_default();
    if (options)
        NM_TRY(nm_abi_read(&opt, sizeof opt, options, "npumoe_plan_options", err));
    if (model->vocab_only)
        return nm_err_set(err, NPUMOE_EINVAL, "the model was loaded with vocab_only");
    if (options && opt.plan == NULL)
        return nm_err_set(err, NPUMOE_EINVAL, "npumoe_plan_options: plan must not be NULL");
    if (pthread_mutex_lock(&model->lock) != 0)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "a callback of an evaluation must not change the plan");
    npumoe_status st = attach(model, options ? &opt : NULL, err);
    pthread_mutex_unlock(&model->lock);
    return st;
}
