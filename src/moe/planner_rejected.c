/* planner_rejected.c: what was looked at and not taken, for `npumoe explain`: of each layer the next best shapes, and the
 * better ones for which there was no room.
 *
 * A layer tries more shapes than anybody reads, most of them early and poor: group sizes without parts. So the best are
 * kept, not the first. Their best ways are as large as they like; where a budget forbids those, what they lost
 * against are smaller ways, and the best of these that would have fit are shown, too. */
#include "moe/planner_priv.h"

#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void nm_planner_name_parts(uint32_t parts, char *out, size_t bytes)
{
    out[0] = '\0';
    for (int i = 0; i < NM_COST_PARTS; i++) {
        const size_t end = strlen(out);
        if (parts & 1u << i)
            snprintf(out + end, bytes - end, "%s %s", end ? "" : ", with",
                     nm_cost_part_name((nm_cost_part)i));
    }
}

static nm_tried tried_of(const char *what, double score, const nm_prediction *x, uint32_t programs,
                         uint64_t bytes)
{
    nm_tried t = {.score = score,
                  .as = {.us = x->us,
                         .host_us = x->host_us,
                         .device_us = x->device_us,
                         .programs = programs,
                         .bytes = bytes}};
    snprintf(t.as.what, sizeof t.as.what, "%s", what);
    return t;
}

void nm_layer_tried(nm_layer_work *l, const char *what, const nm_offer *o)
{
    nm_tried *to = NULL, *worst = &l->tried[0];
    if (!(o->score < HUGE_VAL))
        return;
    for (uint32_t i = 0; i < l->n_tried && !to; i++) {
        worst = l->tried[i].score > worst->score ? &l->tried[i] : worst;
        to = strcmp(l->tried[i].as.what, what) == 0 ? &l->tried[i] : NULL;
    }
    if (!to && l->n_tried < NM_PLANNER_TRIED) {
        to = &l->tried[l->n_tried++];
        to->score = HUGE_VAL;
    }
    to = to ? to : worst;
    if (o->score < to->score)
        *to = tried_of(what, o->score, &o->predicted, o->programs, o->bytes);
}

/* ---- a layer's list --------------------------------------------------------------------------- */

/* All that could be shown of a layer. */
typedef struct rivals {
    const nm_plan_layer *taken;
    double score;             /* of that */
    uint64_t programs, bytes; /* that the other layers leave to this one */
    nm_tried *v;
    uint32_t n, n_large;
} rivals;

/* A way that was chosen is offered at several prices, and its sums may be rounded otherwise. */
static bool is_taken(const rivals *r, const nm_plan_rejected *x)
{
    const double us = r->taken->predicted.us;
    return fabs(x->us - us) <= NM_PLAN_EQUAL * us && x->programs >= r->taken->programs;
}

static void add(rivals *r, nm_tried t)
{
    const bool fits = t.as.programs <= r->programs && t.as.bytes <= r->bytes;
    if (is_taken(r, &t.as))
        return;
    t.as.too_large = !fits && t.score < r->score;
    r->n_large += t.as.too_large;
    r->v[r->n++] = t;
}

/* Ways have no names; the first is the host alone, the one that was taken is gone. */
static void add_ways(rivals *r, const nm_layer_work *l)
{
    for (size_t i = 1; i < l->n_ways; i++) {
        const nm_way *w = l->ways[i];
        char what[NM_PLAN_WORDS], parts[40];
        uint32_t most = 0;
        if (!w || w->programs > r->programs || w->bytes > r->bytes)
            continue;
        for (uint32_t g = 0; g < w->n_groups; g++)
            most = w->groups[g].n > most ? w->groups[g].n : most;
        nm_planner_name_parts(w->parts, parts, sizeof parts);
        snprintf(what, sizeof what, "%u expert%s in groups of at most %u%s", w->n_experts,
                 w->n_experts == 1 ? "" : "s", most, parts);
        if (w->n_groups == 0)
            snprintf(what, sizeof what, "no experts%s", parts);
        add(r, tried_of(what, nm_planner_score(l->p, &w->predicted, l->cpu_only_us), &w->predicted,
                        w->programs, w->bytes));
    }
}

static int by_score(const void *x, const void *y)
{
    const nm_tried *a = x, *b = y;
    if (a->score != b->score)
        return a->score < b->score ? -1 : 1;
    return strcmp(a->as.what, b->as.what);
}

static int by_time(const void *x, const void *y)
{
    const nm_plan_rejected *a = x, *b = y;
    if (a->us != b->us)
        return a->us < b->us ? -1 : 1;
    return strcmp(a->what, b->what);
}

/* By another name, or as a smaller way of the same one. */
static bool is_listed(const nm_plan_layer *l, const nm_plan_rejected *x)
{
    for (uint32_t i = 0; i < l->n_rejected; i++) {
        const nm_plan_rejected *r = &l->rejected[i];
        if (strcmp(r->what, x->what) == 0 || (r->us == x->us && r->programs == x->programs))
            return true;
    }
    return false;
}

/* The best, half of them at most such as do not fit, if there are enough others; in order of their time. */
static void list(rivals *r, nm_plan_layer *out)
{
    const uint32_t others = r->n - r->n_large, half = NM_PLAN_MAX_REJECTED / 2;
    uint32_t large = others < half ? NM_PLAN_MAX_REJECTED - others : half;
    qsort(r->v, r->n, sizeof *r->v, by_score);
    for (uint32_t i = 0; i < r->n && out->n_rejected < NM_PLAN_MAX_REJECTED; i++) {
        const nm_plan_rejected *x = &r->v[i].as;
        if (is_listed(out, x) || (x->too_large && large == 0))
            continue;
        large -= x->too_large;
        out->rejected[out->n_rejected++] = *x;
    }
    qsort(out->rejected, out->n_rejected, sizeof *out->rejected, by_time);
}

npumoe_status nm_planner_fill_rejected(const nm_planner *p, const nm_layer_work *layers,
                                       nm_plan *plan, npumoe_error *err)
{
    const uint64_t programs = plan->programs - plan->attention_chunks;
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        const nm_layer_work *l = &layers[i];
        nm_plan_layer *out = &plan->layers[i];
        rivals r = {.taken = out,
                    .score = nm_planner_score(p, &out->predicted, l->cpu_only_us),
                    .programs = p->slots - (programs - out->programs),
                    .bytes = p->cost->device.total_bytes - (plan->bytes - out->bytes),
                    .v = nm_alloc_array(p->a, l->n_tried + l->n_ways, sizeof *r.v)};
        if (!r.v)
            return nm_err_nomem(err, (l->n_tried + l->n_ways) * sizeof *r.v, "the plan");
        for (uint32_t j = 0; j < l->n_tried; j++)
            add(&r, l->tried[j]);
        if (r.n_large > 0)
            add_ways(&r, l);
        list(&r, out);
        nm_free(p->a, r.v);
    }
    return NPUMOE_OK;
}
