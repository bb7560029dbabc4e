/* drift.c: see drift.h. */
#include "moe/drift.h"

#include <math.h>
#include <string.h>

#define NO_LAYER UINT32_MAX

typedef struct slot {
    uint64_t order, request; /* both count from 1 */
} slot;

struct nm_drift {
    const npumoe_allocator *allocator;
    uint32_t n_layers, n_expert, chunk;
    uint32_t *layers;   /* [n_layers] numbers in the model */
    uint32_t *index_of; /* [n_index] of a model's layer, or NO_LAYER */
    uint32_t n_index;
    slot slots[NM_DRIFT_WINDOW];
    uint32_t n; /* slots in use */
    uint64_t seen, request;
    uint32_t *load;                    /* [NM_DRIFT_WINDOW][n_layers][n_expert] */
    uint32_t *staged[NM_DRIFT_LANES];  /* [n_layers][n_expert] */
    uint32_t n_staged[NM_DRIFT_LANES]; /* tokens of that chunk; 0 = none */
    double *mark;                      /* [n_layers][n_expert] popularity */
    double *now;                       /* the same, scratch */
    bool marked;
};

static size_t cells(const nm_drift *d)
{
    return (size_t)d->n_layers * d->n_expert;
}

/* ---- life ------------------------------------------------------------------------------------- */

static npumoe_status allocate(nm_drift *d, const nm_plan *plan, npumoe_error *err)
{
    const npumoe_allocator *a = d->allocator;
    const size_t each = cells(d);
    bool there = true;
    d->n_index = plan->n_layers ? plan->layers[plan->n_layers - 1].layer + 1 : 0;
    d->layers = nm_alloc_array(a, d->n_layers, sizeof *d->layers);
    d->index_of = nm_alloc_array(a, d->n_index, sizeof *d->index_of);
    d->load = nm_alloc_array(a, each * NM_DRIFT_WINDOW, sizeof *d->load);
    d->mark = nm_alloc_array(a, each, sizeof *d->mark);
    d->now = nm_alloc_array(a, each, sizeof *d->now);
    for (int i = 0; i < NM_DRIFT_LANES; i++) {
        d->staged[i] = nm_alloc_array(a, each, sizeof *d->staged[i]);
        there = there && d->staged[i];
    }
    if (!there || !d->layers || !d->index_of || !d->load || !d->mark || !d->now)
        return nm_err_nomem(err, each * NM_DRIFT_WINDOW * sizeof *d->load,
                            "loads as they are seen");
    for (uint32_t i = 0; i < d->n_index; i++)
        d->index_of[i] = NO_LAYER;
    for (uint32_t i = 0; i < d->n_layers; i++) {
        d->layers[i] = plan->layers[i].layer;
        d->index_of[d->layers[i]] = i;
    }
    return NPUMOE_OK;
}

npumoe_status nm_drift_new(const npumoe_allocator *a, const nm_plan *plan, nm_drift **out,
                           npumoe_error *err)
{
    nm_drift *d = nm_zalloc(a, sizeof *d);
    if (d == NULL)
        return nm_err_nomem(err, sizeof *d, "loads as they are seen");
    d->allocator = a;
    d->n_layers = plan->n_layers;
    d->n_expert = plan->model.geometry.n_expert;
    d->chunk = plan->chunk;
    npumoe_status st = allocate(d, plan, err);
    if (st != NPUMOE_OK) {
        nm_drift_free(&d);
        return st;
    }
    *out = d;
    return NPUMOE_OK;
}

void nm_drift_free(nm_drift **drift)
{
    nm_drift *d = *drift;
    *drift = NULL;
    if (d == NULL)
        return;
    nm_free(d->allocator, d->layers);
    nm_free(d->allocator, d->index_of);
    nm_free(d->allocator, d->load);
    nm_free(d->allocator, d->mark);
    nm_free(d->allocator, d->now);
    for (int i = 0; i < NM_DRIFT_LANES; i++)
        nm_free(d->allocator, d->staged[i]);
    nm_free(d->allocator, d);
}

/* ---- counting --------------------------------------------------------------------------------- */

void nm_drift_request(nm_drift *d)
{
    d->request++;
}

void nm_drift_begin(nm_drift *d, uint32_t lane, uint32_t n)
{
    d->n_staged[lane] = n;
    memset(d->staged[lane], 0, cells(d) * sizeof *d->staged[lane]);
}

void nm_drift_add(nm_drift *d, uint32_t lane, uint32_t layer, const nm_dispatch *loads)
{
    if (layer >= d->n_index || d->index_of[layer] == NO_LAYER)
        return;
    uint32_t *to = d->staged[lane] + (size_t)d->index_of[layer] * d->n_expert;
    for (uint32_t e = 0; e < d->n_expert; e++)
        to[e] = nm_dispatch_load(loads, e);
}

/* The oldest slot of this request, or of all others. */
static uint32_t oldest(const nm_drift *d, bool own)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < d->n; i++)
        if ((d->slots[i].request == d->request) == own &&
            (best == UINT32_MAX || d->slots[i].order < d->slots[best].order))
            best = i;
    return best;
}

static uint32_t take_slot(nm_drift *d)
{
    uint32_t own = 0;
    if (d->n < NM_DRIFT_WINDOW)
        return d->n++;
    for (uint32_t i = 0; i < d->n; i++)
        own += d->slots[i].request == d->request;
    return oldest(d, own >= NM_DRIFT_WINDOW / 2);
}

void nm_drift_end(nm_drift *d, uint32_t lane)
{
    const uint32_t n = d->n_staged[lane];
    const size_t each = cells(d);
    d->n_staged[lane] = 0;
    if (n == 0 || n > d->chunk || n < d->chunk - d->chunk / 2)
        return;
    const uint32_t s = take_slot(d);
    const uint32_t *from = d->staged[lane];
    uint32_t *to = d->load + s * each;
    d->slots[s] = (slot){++d->seen, d->request};
    for (size_t i = 0; i < each; i++)
        to[i] = (uint32_t)(((uint64_t)from[i] * d->chunk + n / 2) / n);
}

/* ---- asking ----------------------------------------------------------------------------------- */

uint64_t nm_drift_seen(const nm_drift *d)
{
    return d->seen;
}

uint32_t nm_drift_window(const nm_drift *d)
{
    return d->n;
}

static npumoe_status make_loads(const nm_drift *d, const npumoe_allocator *a, uint32_t n_scenarios,
                                nm_loads *out, npumoe_error *err)
{
    const size_t each = (size_t)n_scenarios * d->n_expert;
    *out = (nm_loads){.n_expert = d->n_expert, .n_scenarios = n_scenarios, .chunk = d->chunk};
    out->layers = nm_alloc_array(a, d->n_layers, sizeof *out->layers);
    if (out->layers == NULL)
        return nm_err_nomem(err, d->n_layers * sizeof *out->layers, "loads that were seen");
    out->n_layers = d->n_layers;
    for (uint32_t l = 0; l < d->n_layers; l++) {
        out->layers[l].layer = d->layers[l];
        out->layers[l].load = nm_alloc_array(a, each, sizeof *out->layers[l].load);
        if (out->layers[l].load == NULL)
            return nm_err_nomem(err, each * sizeof *out->layers[l].load, "loads that were seen");
    }
    return NPUMOE_OK;
}

static void put_scenario(const nm_drift *d, uint32_t from, nm_loads *out, uint32_t scenario)
{
    const size_t bytes = d->n_expert * sizeof *d->load;
    for (uint32_t l = 0; l < d->n_layers; l++)
        memcpy(out->layers[l].load + (size_t)scenario * d->n_expert,
               d->load + from * cells(d) + (size_t)l * d->n_expert, bytes);
}

/* Slots in use by age, oldest first. */
static void by_age(const nm_drift *d, uint32_t *at)
{
    for (uint32_t i = 0; i < d->n; i++) {
        uint32_t j = i;
        for (; j > 0 && d->slots[at[j - 1]].order > d->slots[i].order; j--)
            at[j] = at[j - 1];
        at[j] = i;
    }
}

npumoe_status nm_drift_split(const nm_drift *d, const npumoe_allocator *a, nm_loads *study,
                             nm_loads *exam, npumoe_error *err)
{
    uint32_t at[NM_DRIFT_WINDOW];
    const uint32_t n_exam = d->n / NM_DRIFT_EXAM;
    *study = *exam = (nm_loads){0};
    if (d->n < NM_DRIFT_LEAST)
        return nm_err_set(err, NPUMOE_EINVAL, "loads of %u chunks were seen, expected %d or more",
                          d->n, NM_DRIFT_LEAST);
    npumoe_status st = make_loads(d, a, d->n - n_exam, study, err);
    if (st == NPUMOE_OK)
        st = make_loads(d, a, n_exam, exam, err);
    if (st != NPUMOE_OK) {
        nm_loads_free(a, study);
        nm_loads_free(a, exam);
        return st;
    }
    by_age(d, at);
    for (uint32_t i = 0, s = 0, e = 0; i < d->n; i++) {
        if (i % NM_DRIFT_EXAM == NM_DRIFT_EXAM - 1)
            put_scenario(d, at[i], exam, e++);
        else
            put_scenario(d, at[i], study, s++);
    }
    return NPUMOE_OK;
}

/* Shares of each layer's pairs in the window; all 0 for a layer without any. */
static void popularity(const nm_drift *d, double *out)
{
    memset(out, 0, cells(d) * sizeof *out);
    for (uint32_t s = 0; s < d->n; s++)
        for (size_t i = 0; i < cells(d); i++)
            out[i] += d->load[s * cells(d) + i];
    for (uint32_t l = 0; l < d->n_layers; l++) {
        double *of = out + (size_t)l * d->n_expert, sum = 0.0;
        for (uint32_t e = 0; e < d->n_expert; e++)
            sum += of[e];
        for (uint32_t e = 0; e < d->n_expert && sum > 0.0; e++)
            of[e] /= sum;
    }
}

void nm_drift_mark(nm_drift *d)
{
    popularity(d, d->mark);
    d->marked = true;
}

void nm_drift_unmark(nm_drift *d)
{
    d->marked = false;
}

double nm_drift_shift(const nm_drift *d)
{
    double sum = 0.0;
    if (!d->marked)
        return 1.0;
    popularity(d, d->now);
    for (size_t i = 0; i < cells(d); i++)
        sum += fabs(d->now[i] - d->mark[i]);
    return d->n_layers ? 0.5 * sum / d->n_layers : 0.0;
}

/* ---- judging ---------------------------------------------------------------------------------- */

npumoe_status nm_drift_cost(const nm_plan *plan, const nm_loads *loads, double *cost,
                            npumoe_error *err)
{
    nm_prediction with, without;
    NM_TRY(nm_planner_judge(plan, loads, &with, &without, err));
    switch (plan->objective) {
    case NM_OBJECTIVE_CPU:
        *cost = with.host_us;
        break;
    case NM_OBJECTIVE_ENERGY:
        *cost = with.joules;
        break;
    case NM_OBJECTIVE_LATENCY:
    case NM_OBJECTIVE_END:
        *cost = with.us;
        if (plan->host_limit > 0.0) /* as the planner: one percent above the limit is one of time */
            *cost *=
                fmax(1.0, with.host_us / nm_plan_most_host_us(plan->host_limit, without.host_us));
        break;
    }
    return NPUMOE_OK;
}

npumoe_status nm_drift_plan(const npumoe_allocator *a, const nm_plan *plan, const nm_loads *loads,
                            npumoe_progress_fn progress, void *progress_user, nm_plan **out,
                            npumoe_error *err)
{
    nm_planner_options o = nm_planner_options_of(plan);
    o.compare = false;
    o.progress = progress;
    o.progress_user = progress_user;
    o.part_price = 0.0; /* another choice for other loads */
    if (o.attention_chunks == 0)
        o.attention_chunks = NM_PLANNER_NO_ATTENTION; /* but not other plans with it */
    NM_TRY(nm_planner_make(a, &plan->model, loads, &plan->cost, &o, out, err));
    for (uint32_t i = 0; i < (*out)->n_layers && i < plan->n_layers; i++)
        (*out)->layers[i].types = plan->layers[i].types; /* the same layers, in order */
    return NPUMOE_OK;
}
