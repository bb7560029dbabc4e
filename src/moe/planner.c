/* planner.c: from loads, costs and options to a checked plan; planner.h has the ideas, planner_priv.h the
 * list of files. */
#include "moe/planner_priv.h"

#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PER_OCTAVE = 8, /* allowed capacities between one power of two of the multiple and the next */
    MOST_EXPERTS = 4096,
    MOST_SCENARIOS = 4096
};

nm_planner_options nm_planner_options_default(void)
{
    return (nm_planner_options){.policy = NM_POLICY_OURS,
                                .overflow = NM_OVERFLOW_SPILL,
                                .objective = NM_OBJECTIVE_LATENCY,
                                .n_tiers = 6,
                                .max_group = 8,
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

static npumoe_status check_loads(const nm_loads *l, npumoe_error *err)
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
    NM_TRY(in_range("chunks in flight", o->in_flight, 1, 2, err));
    if (o->policy >= NM_POLICY_END || o->overflow >= NM_OVERFLOW_END ||
        o->objective >= NM_OBJECTIVE_END)
        return nm_err_set(err, NPUMOE_EINVAL, "plan: unknown policy, overflow or objective");
    if (o->policy == NM_POLICY_LADDER &&
        (o->overflow == NM_OVERFLOW_PRUNE || o->overflow == NM_OVERFLOW_REROUTE))
        return nm_err_set(err, NPUMOE_EINVAL,
                          "plan: policy ladder with overflow %s: a ladder loses nothing; expected "
                          "spill or repass",
                          nm_overflow_name(o->overflow));
    return o->objective == NM_OBJECTIVE_ENERGY ? check_energy(c, err) : NPUMOE_OK;
}

/* ---- tables --------------------------------------------------------------------------------- */

/* Multiples of the device's step up to a whole chunk; from 8 steps on 8 to an octave, which is
 * as fine as the profile's histograms. */
static void fill_grid(nm_planner *p)
{
    const nm_cost_device *d = &p->cost->device;
    const uint64_t step = d->capacity_multiple;
    uint64_t most = (p->loads->chunk + step - 1) / step * step;
    if (p->cost->device_expert.n == 0 || d->slots == 0 || p->options.max_group == 0)
        return;
    if (most > d->capacity_max)
        most = d->capacity_max / step * step;
    uint64_t by = step;
    for (uint64_t c = step; c <= most; c += by) {
        if (c >= d->capacity_min && p->n_grid < NM_PLANNER_GRID)
            p->grid[p->n_grid++] = (uint32_t)c;
        if (c >= 2 * PER_OCTAVE * by)
            by *= 2;
        if (c < most && c + by > most) /* the last one is a whole chunk */
            by = most - c;
    }
}

static void fill_parts(nm_planner *p)
{
    const nm_cost *c = p->cost;
    const uint32_t t = p->loads->chunk;
    for (int i = 0; i < NM_COST_LINEARS; i++) {
        p->part_exists[i] =
            c->host_part[i].n > 0 && (i != NM_PART_SHARED || c->geometry.n_ff_shared > 0);
        if (!p->part_exists[i])
            continue;
        p->part_host_us[i] = nm_curve_at(&c->host_part[i], t);
        p->part_possible[i] = p->n_grid > 0 && c->device_part[i].n > 0 && c->device.has_linear &&
                              c->device.part_bytes[i] <= c->device.program_bytes &&
                              p->options.policy == NM_POLICY_OURS;
        p->part_device_us[i] = c->launch_us + nm_curve_at(&c->device_part[i], t);
        p->part_move_us[i] = c->launch_host_us + nm_planner_gather(p, t) + nm_planner_scatter(p, t);
    }
    p->fixed_us =
        nm_curve_at(&c->host_layer, t) + nm_curve_at(&c->attention, p->options.n_past + 1.0);
}

static void planner_fini(nm_planner *p)
{
    nm_free(p->a, p->host_us);
    nm_free(p->a, p->device_us);
    nm_free(p->a, p->rest);
    nm_free(p->a, p->pass_us);
    nm_free(p->a, p->pass_end);
    nm_free(p->a, p->pass_rows);
}

static npumoe_status planner_init(nm_planner *p, const npumoe_allocator *a,
                                  const nm_plan_model *model, const nm_loads *loads,
                                  const nm_cost *cost, const nm_planner_options *options,
                                  npumoe_error *err)
{
    *p = (nm_planner){.a = a,
                      .options = *options,
                      .model = model,
                      .loads = loads,
                      .cost = cost,
                      .n_expert = loads->n_expert,
                      .n_scenarios = loads->n_scenarios};
    const nm_cost_device *d = &cost->device;
    const uint64_t fit = d->expert_bytes ? d->program_bytes / d->expert_bytes : UINT64_MAX;
    if (fit < p->options.max_group)
        p->options.max_group = (uint32_t)fit;
    if (options->policy != NM_POLICY_CPU)
        fill_grid(p);
    if (p->options.max_group == 0)
        p->options.max_group = 1; /* nothing fits, nothing is divided by 0 */
    /* A whole chunk, rounded up to what a capacity may be, and the ladder's rungs. */
    p->max_rows = (p->n_grid ? p->grid[p->n_grid - 1] : 0) + loads->chunk + 256;
    p->host_us = nm_alloc_array(a, (size_t)p->max_rows + 1, sizeof *p->host_us);
    p->device_us = nm_alloc_array(a, (size_t)p->max_rows + 1, sizeof *p->device_us);
    p->rest = nm_alloc_array(a, p->n_expert, sizeof *p->rest);
    const uint32_t least = p->n_grid ? p->grid[0] : 1;
    p->pass_room = (size_t)p->n_expert * (loads->chunk / least + 2) + 1;
    p->pass_us = nm_alloc_array(a, p->pass_room, sizeof *p->pass_us);
    p->pass_end = nm_alloc_array(a, p->pass_room, sizeof *p->pass_end);
    p->pass_rows = nm_alloc_array(a, p->pass_room, sizeof *p->pass_rows);
    if (!p->host_us || !p->device_us || !p->rest || !p->pass_us || !p->pass_end || !p->pass_rows)
        return nm_err_nomem(err, p->pass_room * sizeof *p->pass_end, "planning");
    for (uint32_t n = 0; n <= p->max_rows; n++) {
        p->host_us[n] = nm_curve_at(&cost->host_expert, n);
        p->device_us[n] = nm_curve_at(&cost->device_expert, n);
    }
    fill_parts(p);
    return NPUMOE_OK;
}

/* ---- ways ----------------------------------------------------------------------------------- */

nm_way *nm_way_new(const nm_planner *p, uint32_t n_groups, uint32_t n_experts)
{
    const size_t head = sizeof(nm_way), groups = n_groups * sizeof(nm_way_group);
    char *block = nm_zalloc(p->a, head + groups + n_experts * sizeof(uint32_t));
    if (!block)
        return NULL;
    nm_way *w = (nm_way *)(void *)block;
    w->groups = (nm_way_group *)(void *)(block + head);
    w->experts = (uint32_t *)(void *)(block + head + groups);
    w->n_groups = n_groups;
    w->n_experts = n_experts;
    return w;
}

bool nm_way_measure(const nm_planner *p, nm_way *w)
{
    const nm_cost_device *d = &p->cost->device;
    bool possible = true;
    w->programs = 0;
    w->bytes = 0;
    for (uint32_t i = 0; i < w->n_groups; i++) {
        const nm_way_group *g = &w->groups[i];
        possible = possible && nm_cost_group_bytes(p->cost, g->n, 1) <= d->program_bytes;
        w->programs += g->n_capacities;
        if (!nm_add_u64(w->bytes, nm_cost_group_bytes(p->cost, g->n, g->n_capacities), &w->bytes))
            possible = false;
    }
    for (int i = 0; i < NM_COST_LINEARS; i++)
        if (w->parts & 1u << i) {
            w->programs++;
            if (!nm_add_u64(w->bytes, d->part_bytes[i], &w->bytes))
                possible = false;
        }
    return possible;
}

static bool beats(const nm_way *a, const nm_way *b)
{
    return a->score <= b->score && a->programs <= b->programs && a->bytes <= b->bytes;
}

npumoe_status nm_layer_offer(nm_layer_work *l, nm_way *w, nm_offer *out, npumoe_error *err)
{
    const nm_planner *p = l->p;
    const bool possible = nm_way_measure(p, w);
    nm_planner_simulate(p, l->load, w, NULL);
    w->score = possible ? nm_planner_score(p, &w->predicted, l->cpu_only_us) : HUGE_VAL;
    *out = (nm_offer){w->score, w->predicted, w->programs, w->bytes};
    bool wanted = w->score < HUGE_VAL;
    for (size_t i = 0; i < l->n_ways && wanted; i++)
        wanted = !beats(l->ways[i], w);
    if (!wanted) {
        nm_free(p->a, w);
        return NPUMOE_OK;
    }
    for (size_t i = l->n_ways; i-- > 1;)
        if (beats(w, l->ways[i])) {
            nm_free(p->a, l->ways[i]);
            l->ways[i] = l->ways[--l->n_ways];
        }
    npumoe_status st =
        nm_grow(p->a, (void **)&l->ways, &l->ways_cap, l->n_ways + 1, sizeof *l->ways, err);
    if (st != NPUMOE_OK) {
        nm_free(p->a, w);
        return st;
    }
    l->ways[l->n_ways++] = w;
    return NPUMOE_OK;
}

void nm_layer_tried(nm_layer_work *l, const char *what, const nm_offer *o)
{
    if (!(o->score < HUGE_VAL) || l->n_tried == NM_PLANNER_TRIED)
        return;
    nm_plan_rejected *r = &l->tried[l->n_tried++];
    *r = (nm_plan_rejected){.us = o->predicted.us,
                            .host_us = o->predicted.host_us,
                            .device_us = o->predicted.device_us,
                            .programs = o->programs,
                            .bytes = o->bytes};
    snprintf(r->what, sizeof r->what, "%s", what);
}

/* ---- layers --------------------------------------------------------------------------------- */

static void layer_fini(const nm_planner *p, nm_layer_work *l)
{
    for (size_t i = 0; i < l->n_ways; i++)
        nm_free(p->a, l->ways[i]);
    nm_free(p->a, l->ways);
    nm_free(p->a, l->order);
    nm_free(p->a, l->mean);
    nm_free(p->a, l->busy);
    nm_free(p->a, l->host);
}

/* Stable insertion into the order of popularity would be slow for 512 experts; keys make qsort stable. */
typedef struct keyed {
    double key;
    uint32_t e;
} keyed;

static int by_key(const void *x, const void *y)
{
    const keyed *a = x, *b = y;
    if (a->key != b->key)
        return a->key > b->key ? -1 : 1;
    return a->e < b->e ? -1 : a->e > b->e;
}

static npumoe_status sort_experts(nm_layer_work *l, npumoe_error *err)
{
    const nm_planner *p = l->p;
    keyed *k = nm_alloc_array(p->a, p->n_expert, sizeof *k);
    if (!k)
        return nm_err_nomem(err, p->n_expert * sizeof *k, "planning");
    for (uint32_t e = 0; e < p->n_expert; e++)
        k[e] = (keyed){l->mean[e], e};
    qsort(k, p->n_expert, sizeof *k, by_key);
    for (uint32_t e = 0; e < p->n_expert; e++)
        l->order[e] = k[e].e;
    nm_free(p->a, k);
    return NPUMOE_OK;
}

static npumoe_status layer_init(nm_layer_work *l, const nm_planner *p, uint32_t i,
                                npumoe_error *err)
{
    const uint32_t n = p->n_expert;
    nm_offer o;
    l->p = p;
    l->load = p->loads->layers[i].load;
    l->order = nm_alloc_array(p->a, n, sizeof *l->order);
    l->mean = nm_alloc_array(p->a, n, sizeof *l->mean);
    l->busy = nm_alloc_array(p->a, n, sizeof *l->busy);
    l->host = nm_alloc_array(p->a, n, sizeof *l->host);
    if (!l->order || !l->mean || !l->busy || !l->host)
        return nm_err_nomem(err, n * sizeof *l->host, "planning");
    for (uint32_t s = 0; s < p->n_scenarios; s++)
        for (uint32_t e = 0; e < n; e++) {
            const uint32_t rows = l->load[(size_t)s * n + e];
            l->mean[e] += rows / (double)p->n_scenarios;
            l->busy[e] += (rows > 0) / (double)p->n_scenarios;
            l->host[e] += p->host_us[rows] / p->n_scenarios;
        }
    NM_TRY(sort_experts(l, err));
    nm_way *w = nm_way_new(p, 0, 0);
    if (!w)
        return nm_err_nomem(err, sizeof *w, "planning");
    l->cpu_only_us = HUGE_VAL;
    NM_TRY(nm_layer_offer(l, w, &o, err));
    l->cpu_only_us = o.predicted.us;
    nm_layer_tried(l, "everything on the host", &o);
    return l->n_ways == 1 ? NPUMOE_OK
                          : nm_err_set(err, NPUMOE_EINTERNAL, "plan: the host alone has no score");
}

static void layers_free(const nm_planner *p, nm_layer_work **layers)
{
    for (uint32_t i = 0; *layers && i < p->loads->n_layers; i++)
        layer_fini(p, &(*layers)[i]);
    nm_free(p->a, *layers);
    *layers = NULL;
}

static npumoe_status layers_new(const nm_planner *p, nm_layer_work **out, npumoe_error *err)
{
    nm_layer_work *layers = nm_alloc_array(p->a, p->loads->n_layers, sizeof *layers);
    *out = layers;
    if (!layers)
        return nm_err_nomem(err, p->loads->n_layers * sizeof *layers, "planning");
    for (uint32_t i = 0; i < p->loads->n_layers; i++)
        NM_TRY(layer_init(&layers[i], p, i, err));
    return NPUMOE_OK;
}

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
        if (programs + g->n_capacities > d->slots || more > d->total_bytes - bytes ||
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

/* ---- a policy ------------------------------------------------------------------------------- */

static npumoe_status tell(const nm_planner *p, uint32_t done, npumoe_error *err)
{
    const nm_planner_options *o = &p->options;
    if (o->progress && !o->progress(o->progress_user, done, p->loads->n_layers))
        return nm_err_set(err, NPUMOE_ECANCELED, "planning was cancelled");
    return NPUMOE_OK;
}

/* A copy of the layer's best way that has groups, for the budgets to cut. */
static nm_way *full_of(const nm_planner *p, const nm_layer_work *l)
{
    const nm_way *best = NULL;
    for (size_t i = 1; i < l->n_ways; i++)
        if (!best || l->ways[i]->score < best->score)
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

static npumoe_status run_popular(const nm_planner *p, nm_layer_work *layers, nm_way **out,
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
            st = tell(p, l + 1, err);
    }
    if (st == NPUMOE_OK)
        st = settle_popular(p, layers, full, out, err);
    for (uint32_t l = 0; l < n; l++)
        nm_free(p->a, full[l]);
    nm_free(p->a, full);
    return st;
}

static npumoe_status run_ours(const nm_planner *p, nm_layer_work *layers, nm_way **out,
                              npumoe_error *err)
{
    const uint32_t n = p->loads->n_layers;
    for (uint32_t l = 0; l < n; l++) {
        NM_TRY(nm_planner_ours(&layers[l], err));
        NM_TRY(tell(p, l + 1, err));
    }
    uint32_t *choice = nm_alloc_array(p->a, n, sizeof *choice);
    if (!choice)
        return nm_err_nomem(err, n * sizeof *choice, "placing programs");
    npumoe_status st = nm_planner_choose(p, layers, n, choice, err);
    for (uint32_t l = 0; l < n && st == NPUMOE_OK; l++) {
        nm_way **ways = layers[l].ways;
        out[l] = ways[choice[l]]; /* out of the list, into the plan's hands */
        ways[choice[l]] = NULL;
    }
    nm_free(p->a, choice);
    return st;
}

/* ---- the plan ------------------------------------------------------------------------------- */

static void add(nm_prediction *sum, const nm_prediction *x)
{
    sum->us += x->us;
    sum->host_us += x->host_us;
    sum->device_us += x->device_us;
    sum->wait_us += x->wait_us;
    sum->launches += x->launches;
    sum->rows += x->rows;
    sum->padding += x->padding;
    sum->overflow += x->overflow;
    sum->dropped += x->dropped;
    sum->joules = sum->joules < 0.0 || x->joules < 0.0 ? -1.0 : sum->joules + x->joules;
}

static npumoe_status fill_layer(const nm_planner *p, const nm_layer_work *l, nm_way *w,
                                nm_plan_layer *out, npumoe_error *err)
{
    nm_group_figures *figures = nm_alloc_array(p->a, w->n_groups, sizeof *figures);
    out->groups = nm_alloc_array(p->a, w->n_groups, sizeof *out->groups);
    if (!out->groups || !figures) {
        nm_free(p->a, figures);
        return nm_err_nomem(err, w->n_groups * sizeof *out->groups, "the plan");
    }
    nm_way_measure(p, w);
    nm_planner_simulate(p, l->load, w, figures);
    out->n_groups = w->n_groups;
    out->programs = w->programs;
    out->bytes = w->bytes;
    out->price = w->price;
    out->predicted = w->predicted;
    for (int i = 0; i < NM_COST_LINEARS; i++)
        out->on_device[i] = (w->parts & 1u << i) != 0;
    npumoe_status st = NPUMOE_OK;
    for (uint32_t i = 0; i < w->n_groups; i++) {
        const nm_group_figures *f = &figures[i];
        nm_plan_group *g = &out->groups[i];
        g->n_experts = w->groups[i].n;
        g->n_capacities = w->groups[i].n_capacities;
        memcpy(g->capacities, w->groups[i].capacities, sizeof g->capacities);
        g->launches = f->launches;
        g->rows = f->rows;
        g->padding = f->padding;
        g->overflow = f->overflow;
        g->device_us = f->device_us;
        g->host_saved_us = f->host_saved_us;
        g->experts = nm_alloc_array(p->a, g->n_experts, sizeof *g->experts);
        if (g->experts)
            memcpy(g->experts, w->experts + w->groups[i].first, g->n_experts * sizeof *g->experts);
        else
            st = nm_err_nomem(err, g->n_experts * sizeof *g->experts, "the plan");
    }
    nm_free(p->a, figures);
    return st;
}

static int by_time(const void *x, const void *y)
{
    const nm_plan_rejected *a = x, *b = y;
    if (a->us != b->us)
        return a->us < b->us ? -1 : 1;
    return strcmp(a->what, b->what);
}

/* The best of what was tried and not taken. */
static void fill_rejected(nm_layer_work *l, nm_plan_layer *out)
{
    qsort(l->tried, l->n_tried, sizeof *l->tried, by_time);
    const double taken = out->predicted.us;
    for (uint32_t i = 0; i < l->n_tried && out->n_rejected < NM_PLAN_MAX_REJECTED; i++) {
        nm_plan_rejected *r = &l->tried[i];
        if (r->us == taken && r->programs == out->programs)
            continue; /* that is the one that was taken */
        r->too_large = r->us < taken && (r->programs > out->programs || r->bytes > out->bytes);
        out->rejected[out->n_rejected++] = *r;
    }
}

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
                      .model = *p->model,
                      .chunk = p->loads->chunk,
                      .in_flight = o->in_flight,
                      .n_past = o->n_past,
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

static npumoe_status fill_plan(const nm_planner *p, nm_layer_work *layers, nm_way *const *ways,
                               nm_plan *plan, npumoe_error *err)
{
    for (uint32_t l = 0; l < plan->n_layers; l++) {
        nm_plan_layer *out = &plan->layers[l];
        out->layer = p->loads->layers[l].layer;
        NM_TRY(fill_layer(p, &layers[l], ways[l], out, err));
        fill_rejected(&layers[l], out);
        plan->programs += out->programs;
        plan->bytes += out->bytes;
        add(&plan->predicted, &out->predicted);
        nm_way *host = nm_way_new(p, 0, 0);
        if (!host)
            return nm_err_nomem(err, sizeof *host, "the plan");
        nm_planner_simulate(p, layers[l].load, host, NULL);
        add(&plan->cpu_only, &host->predicted);
        nm_free(p->a, host);
    }
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

/* One policy, without a look at the others. */
static npumoe_status make_one(const npumoe_allocator *a, const nm_plan_model *model,
                              const nm_loads *loads, const nm_cost *cost,
                              const nm_planner_options *options, nm_plan **out, npumoe_error *err)
{
    nm_planner p;
    nm_layer_work *layers = NULL;
    nm_way **ways = NULL;
    nm_plan *plan = NULL;
    npumoe_status st = planner_init(&p, a, model, loads, cost, options, err);
    if (st == NPUMOE_OK)
        st = layers_new(&p, &layers, err);
    if (st != NPUMOE_OK)
        goto out;
    ways = nm_alloc_array(a, loads->n_layers, sizeof *ways);
    if (!ways) {
        st = nm_err_nomem(err, loads->n_layers * sizeof *ways, "planning");
        goto out;
    }
    if (options->policy == NM_POLICY_OURS && !options->all_experts)
        st = run_ours(&p, layers, ways, err);
    else
        st = run_popular(&p, layers, ways, err);
    if (st == NPUMOE_OK)
        st = plan_new(&p, &plan, err);
    if (st == NPUMOE_OK)
        st = fill_plan(&p, layers, ways, plan, err);
    if (st == NPUMOE_OK)
        st = nm_plan_check(plan, err);
    if (st == NPUMOE_OK) {
        *out = plan;
        plan = NULL;
    }
out:
    for (uint32_t l = 0; ways && l < loads->n_layers; l++)
        nm_free(a, ways[l]);
    nm_free(a, ways);
    layers_free(&p, &layers);
    nm_plan_free(&plan);
    planner_fini(&p);
    return st;
}

/* ---- among policies ------------------------------------------------------------------------- */

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

/* Keeps the structure of the better plan under the name of ours, and the other's figures beside it. */
static void take_better(nm_plan **ours, nm_plan **other)
{
    nm_plan *a = *ours, *b = *other;
    if (worth(b) < worth(a)) {
        b->policy = a->policy;
        b->n_tiers = a->n_tiers;
        b->bound_us = a->bound_us;
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
        o.progress = NULL;
        if (o.overflow == NM_OVERFLOW_PRUNE || o.overflow == NM_OVERFLOW_REROUTE)
            o.overflow = NM_OVERFLOW_SPILL;
        NM_TRY(make_one((*ours)->allocator, &model, loads, &cost, &o, &other, err));
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

/* ---- crossover ------------------------------------------------------------------------------ */

/* Loads of a shorter chunk: every pair stays with probability n / chunk, rounded by a fixed dither. */
static npumoe_status thin_loads(const npumoe_allocator *a, const nm_loads *from, uint32_t n,
                                nm_loads *out, npumoe_error *err)
{
    const size_t cells = (size_t)from->n_scenarios * from->n_expert;
    *out = *from;
    out->chunk = n;
    out->layers = nm_alloc_array(a, from->n_layers, sizeof *out->layers);
    if (!out->layers)
        return nm_err_nomem(err, from->n_layers * sizeof *out->layers, "planning");
    uint32_t dither = 1;
    for (uint32_t l = 0; l < from->n_layers; l++) {
        out->layers[l].layer = from->layers[l].layer;
        out->layers[l].load = nm_alloc_array(a, cells, sizeof *out->layers[l].load);
        if (!out->layers[l].load)
            return nm_err_nomem(err, cells * sizeof *out->layers[l].load, "planning");
        for (size_t i = 0; i < cells; i++) {
            dither = dither * 1664525u + 1013904223u;
            const uint64_t scaled = (uint64_t)from->layers[l].load[i] * n + dither % from->chunk;
            out->layers[l].load[i] = (uint32_t)(scaled / from->chunk);
        }
    }
    return NPUMOE_OK;
}

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
    for (int i = 0; i < NM_COST_LINEARS; i++)
        w->parts |= l->on_device[i] ? 1u << i : 0u;
    return w;
}

static nm_planner_options options_of(const nm_plan *plan)
{
    nm_planner_options o = nm_planner_options_default();
    o.policy = plan->policy;
    o.overflow = plan->overflow;
    o.objective = plan->objective;
    o.n_tiers = plan->n_tiers;
    o.max_group = plan->max_group;
    o.max_capacities = plan->max_capacities;
    o.in_flight = plan->in_flight;
    o.n_past = plan->n_past;
    return o;
}

/* Predicts the plan's structure for these loads: totals into *with and, host alone, into *without; the
 * plan's own figures too if `plan_out` is it. */
static npumoe_status predict(const nm_plan *plan, const nm_loads *loads, nm_plan *plan_out,
                             nm_prediction *with, nm_prediction *without, npumoe_error *err)
{
    const nm_planner_options o = options_of(plan);
    nm_planner p;
    nm_layer_work l = {0};
    npumoe_status st = planner_init(&p, plan->allocator, &plan->model, loads, &plan->cost, &o, err);
    *with = *without = (nm_prediction){0};
    for (uint32_t i = 0; i < loads->n_layers && st == NPUMOE_OK; i++) {
        nm_way *w = way_of(&p, &plan->layers[i]), *host = nm_way_new(&p, 0, 0);
        l.load = loads->layers[i].load;
        if (w && host) {
            nm_planner_simulate(&p, l.load, w, NULL);
            nm_planner_simulate(&p, l.load, host, NULL);
            add(with, &w->predicted);
            add(without, &host->predicted);
            if (plan_out) {
                nm_plan_layer fresh = {0};
                st = fill_layer(&p, &l, w, &fresh, err);
                for (uint32_t g = 0; g < fresh.n_groups; g++) {
                    uint32_t *experts = plan_out->layers[i].groups[g].experts;
                    nm_free(p.a, fresh.groups[g].experts);
                    if (st == NPUMOE_OK)
                        plan_out->layers[i].groups[g] = fresh.groups[g];
                    plan_out->layers[i].groups[g].experts = experts;
                }
                plan_out->layers[i].predicted = fresh.predicted;
                nm_free(p.a, fresh.groups);
            }
        } else {
            st = nm_err_nomem(err, sizeof *w, "predicting");
        }
        nm_free(p.a, w);
        nm_free(p.a, host);
    }
    planner_fini(&p);
    return st;
}

npumoe_status nm_planner_predict(nm_plan *plan, const nm_loads *loads, npumoe_error *err)
{
    NM_TRY(check_loads(loads, err));
    if (loads->n_layers != plan->n_layers || loads->n_expert != plan->model.geometry.n_expert)
        return nm_err_set(
            err, NPUMOE_EINVAL, "plan: loads of %u layers with %u experts, expected %u with %u",
            loads->n_layers, loads->n_expert, plan->n_layers, plan->model.geometry.n_expert);
    NM_TRY(predict(plan, loads, plan, &plan->predicted, &plan->cpu_only, err));
    plan->gap = plan->bound_us > 0.0 ? plan->predicted.us / plan->bound_us - 1.0 : 0.0;
    return NPUMOE_OK;
}

/* The fewest tokens from which on (of the lengths tried: powers of two and their middles) the plan is
 * predicted faster than the host alone. */
static npumoe_status find_crossover(nm_plan *plan, const nm_loads *loads, npumoe_error *err)
{
    plan->crossover = UINT32_MAX;
    if (plan->programs == 0)
        return NPUMOE_OK;
    for (uint32_t n = plan->chunk; n >= 1; n = n > 4 ? n * 3 / 4 : n - 1) {
        nm_loads shorter = {0};
        nm_prediction with, without;
        npumoe_status st = thin_loads(plan->allocator, loads, n, &shorter, err);
        if (st == NPUMOE_OK)
            st = predict(plan, &shorter, NULL, &with, &without, err);
        nm_loads_free(plan->allocator, &shorter);
        NM_TRY(st);
        if (with.us > without.us)
            break;
        plan->crossover = n;
    }
    return NPUMOE_OK;
}

npumoe_status nm_planner_make(const npumoe_allocator *a, const nm_plan_model *model,
                              const nm_loads *loads, const nm_cost *cost,
                              const nm_planner_options *options, nm_plan **out, npumoe_error *err)
{
    nm_plan *plan = NULL;
    NM_TRY(check_loads(loads, err));
    NM_TRY(check_options(options, cost, err));
    NM_TRY(make_one(a, model, loads, cost, options, &plan, err));
    npumoe_status st = NPUMOE_OK;
    if (options->policy == NM_POLICY_OURS && options->compare)
        st = compare(&plan, loads, options, err);
    if (st == NPUMOE_OK)
        st = find_crossover(plan, loads, err);
    if (st == NPUMOE_OK)
        *out = plan;
    else
        nm_plan_free(&plan);
    return st;
}
