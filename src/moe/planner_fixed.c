/* planner_fixed.c: the structures of the other policies for one layer. They do not ask what things cost
 * (paper's residency apart); which of their groups become resident when not all can is decided in
 * planner.c by popularity.
 *
 *   naive    every expert a program of its own that holds a whole chunk: nothing ever overflows
 *   ladder   every expert five programs, for 16, 32, 64, 128, 256 rows; at run time the smallest that
 *            holds its load, or the largest again and again. After OpenVINO's NPUW, whose programs
 *            take weights as inputs; where a device bakes them in, each is a copy
 *   paper    NPUMoE, arXiv 2604.18788. From the paper: three tiers; the busiest quarter of the experts
 *            has four times the base capacity; a group's experts share a tier; groups too cold or fine
 *            for a launch stay on the CPU; calibrated offline. Ours, because the paper's text does not
 *            say: base = the median of the experts' mean loads, rounded up to what the device allows;
 *            the other tiers are 2 x base and base, each expert in the smallest that holds its mean load;
 *            groups in order of popularity; a group is resident when the host would need longer for
 *            its rows than the device for the launch */
#include "moe/planner_priv.h"

#include <stdlib.h>
#include <string.h>

static const uint32_t ladder[] = {16, 32, 64, 128, 256};

enum { N_LADDER = sizeof ladder / sizeof ladder[0], PAPER_TIERS = 3 };

/* The smallest capacity that the device allows and that is not below rows; the largest if none is. */
static uint32_t allowed(const nm_planner *p, uint32_t rows)
{
    const nm_cost_device *d = &p->cost->device;
    const uint32_t most = p->grid[p->n_grid - 1], step = d->capacity_multiple;
    if (rows < p->grid[0])
        return p->grid[0];
    return rows >= most ? most : (rows + step - 1) / step * step;
}

static nm_way *new_way(nm_layer_work *l, uint32_t n_groups, uint32_t n_experts, npumoe_error *err)
{
    nm_way *w = nm_way_new(l->p, n_groups, n_experts);
    if (!w)
        nm_err_nomem(err, n_experts * sizeof(uint32_t), "planning");
    else
        w->price = -1.0;
    return w;
}

/* Every expert for itself, in order of popularity, with these capacities. */
static npumoe_status singles(nm_layer_work *l, const uint32_t *capacities, uint32_t n, nm_way **out,
                             npumoe_error *err)
{
    const nm_planner *p = l->p;
    nm_way *w = new_way(l, p->n_expert, p->n_expert, err);
    if (!w)
        return NPUMOE_ENOMEM;
    memcpy(w->experts, l->order, p->n_expert * sizeof *w->experts);
    for (uint32_t i = 0; i < p->n_expert; i++) {
        nm_way_group *g = &w->groups[i];
        *g = (nm_way_group){.first = i, .n = 1};
        for (uint32_t j = 0; j < n; j++) {
            const uint32_t c = allowed(p, capacities[j]);
            if (g->n_capacities == 0 || g->capacities[g->n_capacities - 1] < c)
                g->capacities[g->n_capacities++] = c;
        }
    }
    *out = w;
    return NPUMOE_OK;
}

/* ---- paper ---------------------------------------------------------------------------------- */

static bool host_needs_longer(const nm_layer_work *l, const uint32_t *experts, uint32_t n,
                              uint32_t capacity)
{
    double host = 0.0;
    for (uint32_t i = 0; i < n; i++)
        host += l->host[experts[i]];
    return host > nm_cost_launch(l->p->cost, n, capacity);
}

/* Tier (0 = base) of the expert at this place of the popularity order. */
static uint32_t paper_tier(const nm_layer_work *l, uint32_t place, const uint32_t *capacity)
{
    if (place < (l->p->n_expert + 3) / 4)
        return 2;
    return l->mean[l->order[place]] > capacity[0] ? 1 : 0;
}

static npumoe_status paper(nm_layer_work *l, nm_way **out, npumoe_error *err)
{
    const nm_planner *p = l->p;
    const uint32_t n = p->n_expert;
    const double median = 0.5 * (l->mean[l->order[(n - 1) / 2]] + l->mean[l->order[n / 2]]);
    const uint32_t base = allowed(p, (uint32_t)median + (median > (uint32_t)median));
    const uint32_t capacity[PAPER_TIERS] = {base, allowed(p, 2 * base), allowed(p, 4 * base)};
    nm_way *w = new_way(l, n, n, err);
    if (!w)
        return NPUMOE_ENOMEM;
    w->n_groups = 0;
    uint32_t at = 0;
    for (uint32_t t = PAPER_TIERS; t-- > 0;) {
        uint32_t open = 0; /* experts of the group that is being filled */
        for (uint32_t i = 0; i <= n; i++) {
            const bool member = i < n && paper_tier(l, i, capacity) == t;
            if (member)
                w->experts[at + open++] = l->order[i];
            if (open == 0 || (open < p->options.max_group && i < n))
                continue;
            if (host_needs_longer(l, w->experts + at, open, capacity[t])) {
                w->groups[w->n_groups++] = (nm_way_group){
                    .first = at, .n = open, .n_capacities = 1, .capacities = {capacity[t]}};
                at += open;
            }
            open = 0;
        }
    }
    w->n_experts = at;
    *out = w;
    return NPUMOE_OK;
}

npumoe_status nm_planner_fixed(nm_layer_work *l, nm_plan_policy policy, nm_way **out,
                               npumoe_error *err)
{
    const uint32_t chunk = l->p->loads->chunk;
    *out = NULL;
    if (l->p->n_grid == 0)
        return NPUMOE_OK;
    switch (policy) {
    case NM_POLICY_NAIVE:
        return singles(l, &chunk, 1, out, err);
    case NM_POLICY_LADDER:
        return singles(l, ladder, N_LADDER, out, err);
    case NM_POLICY_PAPER:
        return paper(l, out, err);
    case NM_POLICY_OURS:
    case NM_POLICY_CPU:
    case NM_POLICY_END:
        break;
    }
    return NPUMOE_OK;
}
