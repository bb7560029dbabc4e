/* planner_predict.c: what a plan does with loads: others than it was made from, or shorter chunks; what it never launches. */
#include "moe/planner_priv.h"

#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static nm_way *way_of(const nm_planner *p, const nm_plan_layer *l)
{
    uint32_t n_experts = 0, at = 0;
    for (uint32_t i = 0; i < l->n_groups; i++)
        n_experts += l->groups[i].n_experts;
    nm_way *w = nm_way_new(p, l->n_groups, n_experts);
    if (!w)
        return NULL;
    for (uint32_t i = 0; i < l->n_groups; i++) {
        const nm_plan_group *g = &l->groups[i];
        w->groups[i] =
            (nm_way_group){.first = at, .n = g->n_experts, .n_capacities = g->n_capacities};
        memcpy(w->groups[i].capacities, g->capacities, sizeof g->capacities);
        memcpy(w->experts + at, g->experts, g->n_experts * sizeof *w->experts);
        at += g->n_experts;
    }
    w->price = l->price;
    for (int i = 0; i < NM_COST_PARTS; i++) {
        w->parts |= l->on_device[i] ? 1u << i : 0u;
        w->rows[i] = l->part_rows[i];
    }
    return w;
}

nm_planner_options nm_planner_options_of(const nm_plan *plan)
{
    nm_planner_options o = nm_planner_options_default();
    o.policy = plan->policy;
    o.overflow = plan->overflow;
    o.objective = plan->objective;
    o.host_limit = plan->host_limit;
    o.n_tiers = plan->n_tiers;
    o.max_group = plan->max_group;
    o.max_capacities = plan->max_capacities;
    o.in_flight = plan->in_flight;
    o.n_prompt = plan->n_prompt;
    o.n_past = plan->n_past;
    o.part_price = plan->part_price;
    o.attention_chunks = plan->attention_chunks;
    return o;
}

static void free_ways(const nm_planner *p, nm_way **ways)
{
    for (uint32_t i = 0; ways && i < p->loads->n_layers; i++)
        nm_free(p->a, ways[i]);
    nm_free(p->a, ways);
}

/* The figures of a plan's layer, of its groups with them, from p's loads. */
static npumoe_status fill_layer(const nm_planner *p, uint32_t i, nm_way *w, nm_plan *plan,
                                npumoe_error *err)
{
    const nm_layer_work l = {.load = p->loads->layers[i].load};
    nm_plan_layer fresh = {0}, *out = &plan->layers[i];
    const npumoe_status st = nm_layer_fill(p, &l, w, &fresh, err);
    for (uint32_t g = 0; g < fresh.n_groups; g++) {
        uint32_t *experts = out->groups[g].experts;
        nm_free(p->a, fresh.groups[g].experts);
        if (st == NPUMOE_OK)
            out->groups[g] = fresh.groups[g];
        out->groups[g].experts = experts;
    }
    out->predicted = fresh.predicted;
    nm_free(p->a, fresh.groups);
    return st;
}

/* The layers one after the other, then the prompt that they make, if there is one. */
static npumoe_status sum_up(const nm_planner *p, nm_way *const *ways, nm_prediction *sum,
                            npumoe_error *err)
{
    *sum = (nm_prediction){0};
    for (uint32_t i = 0; i < p->loads->n_layers; i++) {
        nm_planner_simulate(p, p->loads->layers[i].load, ways[i], NULL);
        nm_prediction_add(sum, &ways[i]->predicted);
    }
    return nm_planner_schedule(p, ways, sum, err);
}

/* Predicts the plan's structure for these loads: totals into *with and, host alone, into *without; the
 * plan's own figures too if `plan_out` is it. */
static npumoe_status predict(const nm_plan *plan, const nm_loads *loads,
                             const nm_planner_options *o, nm_plan *plan_out, nm_prediction *with,
                             nm_prediction *without, npumoe_error *err)
{
    nm_planner p;
    npumoe_status st =
        nm_planner_init(&p, plan->allocator, &plan->model, loads, &plan->cost, o, err);
    nm_way **ways = nm_alloc_array(p.a, loads->n_layers, sizeof *ways);
    nm_way **hosts = nm_alloc_array(p.a, loads->n_layers, sizeof *hosts);
    if (st == NPUMOE_OK && (!ways || !hosts))
        st = nm_err_nomem(err, loads->n_layers * sizeof *ways, "predicting");
    for (uint32_t i = 0; i < loads->n_layers && st == NPUMOE_OK; i++) {
        ways[i] = way_of(&p, &plan->layers[i]);
        hosts[i] = nm_way_new(&p, 0, 0);
        if (!ways[i] || !hosts[i])
            st = nm_err_nomem(err, sizeof **ways, "predicting");
        else if (plan_out)
            st = fill_layer(&p, i, ways[i], plan_out, err);
    }
    if (st == NPUMOE_OK)
        st = sum_up(&p, ways, with, err);
    if (st == NPUMOE_OK)
        st = sum_up(&p, hosts, without, err);
    free_ways(&p, ways);
    free_ways(&p, hosts);
    nm_planner_fini(&p);
    return st;
}

static npumoe_status check_loads(const nm_plan *plan, const nm_loads *loads, npumoe_error *err)
{
    NM_TRY(nm_loads_check(loads, err));
    if (loads->n_layers != plan->n_layers || loads->n_expert != plan->model.geometry.n_expert)
        return nm_err_set(
            err, NPUMOE_EINVAL, "plan: loads of %u layers with %u experts, expected %u with %u",
            loads->n_layers, loads->n_expert, plan->n_layers, plan->model.geometry.n_expert);
    return NPUMOE_OK;
}

npumoe_status nm_planner_judge(const nm_plan *plan, const nm_loads *loads, nm_prediction *with,
                               nm_prediction *without, npumoe_error *err)
{
    const nm_planner_options o = nm_planner_options_of(plan);
    NM_TRY(check_loads(plan, loads, err));
    return predict(plan, loads, &o, NULL, with, without, err);
}

npumoe_status nm_planner_predict(nm_plan *plan, const nm_loads *loads, npumoe_error *err)
{
    const nm_planner_options o = nm_planner_options_of(plan);
    NM_TRY(check_loads(plan, loads, err));
    NM_TRY(predict(plan, loads, &o, plan, &plan->predicted, &plan->cpu_only, err));
    plan->gap = plan->bound_us > 0.0 ? plan->predicted.us / plan->bound_us - 1.0 : 0.0;
    return NPUMOE_OK;
}

/* ---- what is never launched ----------------------------------------------------------------- */

/* Chunks of the prompt that are whole: it may have none. */
static uint32_t whole_chunks(const nm_planner *p)
{
    return p->n_chunks == 0 ? 1 : p->n_chunks - (p->last != NULL);
}

/* In some scenario of layer i's loads. */
static bool launches(const nm_planner *p, uint32_t i, const nm_way *w, const nm_way_group *g)
{
    for (uint32_t s = 0; s < p->n_scenarios; s++) {
        const uint32_t *load = p->loads->layers[i].load + (size_t)s * p->n_expert;
        const nm_outcome o = nm_planner_look(p, g, w->experts + g->first, load);
        if (nm_planner_launches(&o, w->price))
            return true;
    }
    return false;
}

static bool ever_launches(const nm_planner *p, uint32_t i, const nm_way *w, const nm_way_group *g)
{
    return (whole_chunks(p) > 0 && launches(p, i, w, g)) || (p->last && launches(p->last, i, w, g));
}

static bool is_ever_there(const nm_planner *p, const nm_way *w, nm_cost_part part)
{
    bool there = p->last && nm_planner_part_is_there(p->last, w, part, 0);
    for (uint32_t c = 0; c < whole_chunks(p) && !there; c++)
        there = nm_planner_part_is_there(p, w, part, c);
    return there;
}

/* Whether the prompt goes by the host alone: single tokens always do, and of the last layer, which could have launches
 * where no other has, it wants one row. */
static bool is_idle(const nm_plan *plan)
{
    return plan->n_prompt == 1 || plan->predicted.launches == 0.0;
}

/* false: there is nothing to take off. */
static bool trim_layer(const nm_planner *p, uint32_t i, const nm_way *w, nm_plan *plan)
{
    nm_plan_layer *l = &plan->layers[i];
    const bool idle = is_idle(plan);
    uint32_t left = 0;
    bool less = false;
    for (uint32_t g = 0; g < w->n_groups; g++) {
        if (!idle && ever_launches(p, i, w, &w->groups[g]))
            l->groups[left++] = l->groups[g];
        else
            nm_free(plan->allocator, l->groups[g].experts);
    }
    less = left < l->n_groups;
    l->n_groups = left;
    for (int part = 0; part < NM_COST_PARTS; part++)
        if (l->on_device[part] && (idle || !is_ever_there(p, w, (nm_cost_part)part))) {
            l->on_device[part] = false;
            l->part_rows[part] = 0;
            less = true;
        }
    if (less)
        nm_plan_count_layer(&plan->cost, l, &l->programs, &l->bytes);
    return less;
}

static void count_plan(nm_plan *plan)
{
    bool attends = false;
    plan->programs = 0;
    plan->bytes = 0;
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        plan->programs += plan->layers[i].programs;
        plan->bytes += plan->layers[i].bytes;
        attends = attends || plan->layers[i].on_device[NM_PART_ATTENTION];
    }
    plan->attention_chunks = attends ? plan->attention_chunks : 0;
    plan->programs += plan->attention_chunks;
}

npumoe_status nm_planner_trim(nm_plan *plan, const nm_loads *loads, npumoe_error *err)
{
    const nm_planner_options o = nm_planner_options_of(plan);
    nm_planner p;
    npumoe_status st =
        nm_planner_init(&p, plan->allocator, &plan->model, loads, &plan->cost, &o, err);
    for (uint32_t i = 0; i < plan->n_layers && st == NPUMOE_OK; i++) {
        nm_way *w = way_of(&p, &plan->layers[i]), *left = NULL;
        if (w && trim_layer(&p, i, w, plan)) {
            left = way_of(&p, &plan->layers[i]);
            st = left ? fill_layer(&p, i, left, plan, err)
                      : nm_err_nomem(err, sizeof *left, "the plan");
        }
        if (!w)
            st = nm_err_nomem(err, sizeof *w, "the plan");
        nm_free(p.a, w);
        nm_free(p.a, left);
    }
    count_plan(plan);
    if (plan->n_prompt == 1)
        plan->predicted = plan->cpu_only;
    nm_planner_fini(&p);
    return st;
}

/* ---- crossover ------------------------------------------------------------------------------ */

/* Whether the plan is predicted to be faster than the host alone for a prompt of n tokens: whole chunks as
 * they were counted, or a shorter one. Where nothing is launched both take the same: that is the host's. */
static npumoe_status pays(const nm_plan *plan, const nm_loads *loads, uint32_t n, bool *out,
                          npumoe_error *err)
{
    nm_planner_options o = nm_planner_options_of(plan);
    nm_loads shorter = {0};
    nm_prediction with = {0}, without = {0};
    npumoe_status st = NPUMOE_OK;
    o.n_prompt = n;
    if (n < loads->chunk)
        st = nm_planner_thin(plan->allocator, loads, n, &shorter, err);
    if (st == NPUMOE_OK)
        st = predict(plan, n < loads->chunk ? &shorter : loads, &o, NULL, &with, &without, err);
    nm_loads_free(plan->allocator, &shorter);
    *out = with.launches > 0.0 && with.us < without.us * (1.0 - NM_PLAN_EQUAL);
    return st;
}

/* The next shorter prompt to look at: half as many chunks, then parts of one. 0: none. */
static uint32_t next_shorter(uint32_t n, uint32_t chunk)
{
    if (n > 2 * chunk)
        return n / chunk / 2 * chunk;
    if (n > chunk)
        return chunk;
    return n > 4 ? n * 3 / 4 : n - 1;
}

/* Begins with the prompt that the plan is predicted for, so that the two cannot contradict each other; goes
 * down from there while it pays, or up until it does; and looks for the least length between the last two. A prompt of
 * several chunks may pay where one alone does not: the device works on one chunk while the host works on the other. */
npumoe_status nm_planner_crossover(nm_plan *plan, const nm_loads *loads, npumoe_error *err)
{
    enum { MOST_CHUNKS = 8 };
    const uint32_t chunk = plan->chunk, most = MOST_CHUNKS * chunk;
    uint32_t n = plan->n_prompt ? plan->n_prompt : most, too_few = 0;
    bool yes = false;
    plan->crossover = UINT32_MAX;
    if (plan->programs == 0)
        return NPUMOE_OK;
    NM_TRY(pays(plan, loads, n, &yes, err));
    while (!yes && n < most) {
        too_few = n;
        n *= 2;
        NM_TRY(pays(plan, loads, n, &yes, err));
    }
    if (!yes)
        return NPUMOE_OK;
    while (yes) {
        plan->crossover = n;
        n = next_shorter(n, chunk);
        yes = false;
        if (n > too_few)
            NM_TRY(pays(plan, loads, n, &yes, err));
    }
    too_few = n > too_few ? n : too_few;
    while (plan->crossover - too_few > 1) {
        n = too_few + (plan->crossover - too_few) / 2;
        NM_TRY(pays(plan, loads, n, &yes, err));
        *(yes ? &plan->crossover : &too_few) = n;
    }
    return NPUMOE_OK;
}
