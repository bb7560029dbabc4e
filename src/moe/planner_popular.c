/* planner_popular.c: residency that does not ask for costs: of all groups of all layers the most popular, as
 * many as there is room for. For the other policies, and for ours with every expert on the device. */
#include "moe/planner_priv.h"

#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- residency by popularity ---------------------------------------------------------------- */

typedef struct resident {
    double rows; /* per expert */
    uint32_t layer, group;
} resident;

static int by_rows(const void *x, const void *y)
{
    const resident *a = x, *b = y;
    if (a->rows != b->rows)
        return a->rows > b->rows ? -1 : 1;
    if (a->layer != b->layer)
        return a->layer < b->layer ? -1 : 1;
    return a->group < b->group ? -1 : a->group > b->group;
}

/* The way with only the groups that keep[] names. */
static nm_way *restrict_way(const nm_planner *p, const nm_way *from, const bool *keep)
{
    uint32_t n_groups = 0, at = 0;
    nm_way *w = nm_way_new(p, from->n_groups, from->n_experts);
    if (!w)
        return NULL;
    for (uint32_t i = 0; i < from->n_groups; i++) {
        if (!keep[i])
            continue;
        nm_way_group *g = &w->groups[n_groups++];
        *g = from->groups[i];
        memcpy(w->experts + at, from->experts + g->first, g->n * sizeof *w->experts);
        g->first = at;
        at += g->n;
    }
    w->n_groups = n_groups;
    w->n_experts = at;
    w->price = from->price;
    return w;
}

/* Chooses among all groups of all layers, the most popular first, as many as fit. full[l] may be NULL;
 * keep[l][g]. */
static npumoe_status choose_popular(const nm_planner *p, const nm_layer_work *layers,
                                    nm_way *const *full, bool *const *keep, npumoe_error *err)
{
    const nm_cost_device *d = &p->cost->device;
    size_t n = 0;
    for (uint32_t l = 0; l < p->loads->n_layers; l++)
        n += full[l] ? full[l]->n_groups : 0;
    resident *all = nm_alloc_array(p->a, n, sizeof *all);
    if (!all)
        return nm_err_nomem(err, n * sizeof *all, "placing programs");
    n = 0;
    for (uint32_t l = 0; l < p->loads->n_layers; l++)
        for (uint32_t g = 0; full[l] && g < full[l]->n_groups; g++) {
            const nm_way_group *wg = &full[l]->groups[g];
            resident *r = &all[n++];
            *r = (resident){.layer = l, .group = g};
            for (uint32_t i = 0; i < wg->n; i++)
                r->rows += layers[l].mean[full[l]->experts[wg->first + i]] / wg->n;
        }
    qsort(all, n, sizeof *all, by_rows);
    uint64_t programs = 0, bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const nm_way_group *g = &full[all[i].layer]->groups[all[i].group];
        const uint64_t more = nm_cost_group_bytes(p->cost, g->n, g->n_capacities);
        if (programs + g->n_capacities > p->slots || more > d->total_bytes - bytes ||
            nm_cost_group_bytes(p->cost, g->n, 1) > d->program_bytes)
            continue;
        programs += g->n_capacities;
        bytes += more;
        keep[all[i].layer][all[i].group] = true;
    }
    nm_free(p->a, all);
    return NPUMOE_OK;
}

/* Replaces each layer's ways by one: its full way, restricted to what is resident. */
static npumoe_status settle_popular(const nm_planner *p, nm_layer_work *layers, nm_way **full,
                                    nm_way **out, npumoe_error *err)
{
    const uint32_t n = p->loads->n_layers;
    npumoe_status st = NPUMOE_OK;
    bool **keep = nm_alloc_array(p->a, n, sizeof *keep);
    if (!keep)
        return nm_err_nomem(err, n * sizeof *keep, "placing programs");
    for (uint32_t l = 0; l < n && st == NPUMOE_OK; l++) {
        keep[l] = full[l] ? nm_alloc_array(p->a, full[l]->n_groups + 1u, sizeof **keep) : NULL;
        if (full[l] && !keep[l])
            st = nm_err_nomem(err, full[l]->n_groups, "placing programs");
    }
    if (st == NPUMOE_OK)
        st = choose_popular(p, layers, full, keep, err);
    for (uint32_t l = 0; l < n && st == NPUMOE_OK; l++) {
        out[l] = full[l] ? restrict_way(p, full[l], keep[l]) : nm_way_new(p, 0, 0);
        if (!out[l])
            st = nm_err_nomem(err, sizeof(nm_way), "placing programs");
    }
    for (uint32_t l = 0; l < n; l++)
        nm_free(p->a, keep[l]);
    nm_free(p->a, keep);
    return st;
}

/* A copy of the layer's best way that has groups, for the budgets to cut. */
static nm_way *full_of(const nm_planner *p, const nm_layer_work *l)
{
    const nm_way *best = NULL;
    for (size_t i = 1; i < l->n_ways; i++)
        if (l->ways[i]->n_groups > 0 && (!best || l->ways[i]->score < best->score))
            best = l->ways[i];
    if (!best)
        return nm_way_new(p, 0, 0);
    nm_way *w = nm_way_new(p, best->n_groups, best->n_experts);
    if (!w)
        return NULL;
    memcpy(w->groups, best->groups, best->n_groups * sizeof *w->groups);
    memcpy(w->experts, best->experts, best->n_experts * sizeof *w->experts);
    w->price = best->price;
    return w;
}

npumoe_status nm_planner_popular(const nm_planner *p, nm_layer_work *layers, nm_way **out,
                                 npumoe_error *err)
{
    const uint32_t n = p->loads->n_layers;
    const bool ours = p->options.policy == NM_POLICY_OURS;
    npumoe_status st = NPUMOE_OK;
    nm_way **full = nm_alloc_array(p->a, n, sizeof *full);
    if (!full)
        return nm_err_nomem(err, n * sizeof *full, "planning");
    for (uint32_t l = 0; l < n && st == NPUMOE_OK; l++) {
        if (ours) {
            layers[l].ways[0]->score = HUGE_VAL; /* or it would beat most of them */
            st = nm_planner_ours(&layers[l], err);
            full[l] = st == NPUMOE_OK ? full_of(p, &layers[l]) : NULL;
        } else {
            st = nm_planner_fixed(&layers[l], p->options.policy, &full[l], err);
        }
        if (st == NPUMOE_OK)
            st = nm_planner_tell(p, l + 1, err);
    }
    if (st == NPUMOE_OK)
        st = settle_popular(p, layers, full, out, err);
    for (uint32_t l = 0; l < n; l++)
        nm_free(p->a, full[l]);
    nm_free(p->a, full);
    return st;
}
