/* planner_ways.c: the ways of one layer for policy ours.
 *
 * A way is made in four steps, for every SHAPE (group size, number of tiers, capacities per group, parts
 * on the device):
 *   1  the price at which device and host finish together, every expert for itself
 *   2  tiers at this price, or capacities of each group: planner_tiers.c
 *   3  groups of experts with the same tier, busiest first, what each saves and what it costs
 *   4  prefixes of the groups in the order of host time saved per device time: all of them are ways,
 *      because a budget may want any. The simulation says what each is really worth
 * Only ways that no other beats in score, programs and bytes at once are kept. At last, capacities of
 * the best way are moved while that helps, because the simulation sees waiting that prices do not. */
#include "moe/planner_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BISECTIONS = 14, PREFIXES = 24, SWEEPS = 3, N_CHEAPER = 5 };

/* Prices for budgets that bind, as shares of the balanced one. */
static const double cheaper[N_CHEAPER] = {0.5, 0.2, 0.03, 0.85, 0.7};

typedef struct shape {
    uint32_t group, tiers, capacities, parts;
    double price;
    bool by_room; /* order of the prefixes: host time saved per expert, not per device time */
} shape;

/* A group that could go to the device. */
typedef struct candidate {
    nm_way_group g;                      /* first: into experts */
    nm_outcome *of;                      /* [n_scenarios] */
    double device_us, host_us, alone_us; /* means of them */
} candidate;

typedef struct maker {
    nm_layer_work *l;
    const nm_planner *p;
    shape s;
    double move_us; /* gather and scatter of a row */
    double pad_us;  /* what a row of padding is taken for beyond its time */
    double *host;   /* [n_grid][n_expert] host us at a capacity: overflow, moved rows */
    double *passes; /* [n_grid][n_expert] launches, if it had its own */
    double *held;   /* [n_grid][n_expert] rows that they carry */
    double *shared; /* [n_expert] launches of its group for each of its own */
    double device0_us, host0_us; /* what is there before any expert */
    double *w, *cap;             /* [n_grid][n_expert], [n_expert] */
    uint32_t *experts;           /* of the candidates */
    candidate *c;
    uint32_t n_c;
    nm_outcome *outcomes;  /* [n_expert + 1][n_scenarios] of the candidates */
    const nm_outcome **of; /* [n_expert + 1] */
    double *alone_us;      /* [n_scenarios] all experts on the host */
} maker;

static bool repasses(const nm_planner *p)
{
    return p->options.overflow == NM_OVERFLOW_REPASS;
}

/* ---- one expert for itself ------------------------------------------------------------------ */

/* Averages over the scenarios of expert e at grid capacity m. */
static void table_entry(maker *k, uint32_t m, uint32_t e)
{
    const nm_planner *p = k->p;
    const uint32_t c = p->grid[m];
    double host = 0.0, passes = 0.0, held = 0.0;
    for (uint32_t s = 0; s < p->n_scenarios; s++) {
        const uint32_t n = k->l->load[(size_t)s * p->n_expert + e];
        if (n == 0)
            continue;
        held += n > c && !repasses(p) ? c : n;
        if (repasses(p)) {
            passes += (n + c - 1) / c;
            host += k->move_us * n;
        } else {
            passes += 1.0;
            host += n > c ? p->host_us[n - c] + k->move_us * c : k->move_us * n;
        }
    }
    const size_t at = (size_t)m * p->n_expert + e;
    k->passes[at] = passes / p->n_scenarios;
    k->host[at] = host / p->n_scenarios;
    k->held[at] = held / p->n_scenarios;
}

/* A group is launched when any of its experts has rows: about as often as if all were like this one. */
static void share_launches(maker *k)
{
    for (uint32_t e = 0; e < k->p->n_expert; e++) {
        const double alone = k->l->busy[e];
        k->shared[e] = alone > 0.0 ? (1.0 - pow(1.0 - alone, k->s.group)) / alone : 0.0;
    }
}

/* Price of expert e at capacity m; in *device and *host the two parts. */
static double priced(const maker *k, double price, uint32_t m, uint32_t e, double *device,
                     double *host)
{
    const nm_planner *p = k->p;
    const size_t at = (size_t)m * p->n_expert + e;
    const double launches = k->passes[at] * k->shared[e];
    *device = launches * (p->device_us[p->grid[m]] + p->cost->launch_us / k->s.group);
    *host = k->host[at] + launches * p->cost->launch_host_us / k->s.group;
    return price * *device + (1.0 - price) * *host +
           k->pad_us * (launches * p->grid[m] - k->held[at]);
}

/* What it costs to leave an expert on the host. */
static double host_price(const maker *k, double price, uint32_t e)
{
    return k->p->options.all_experts ? HUGE_VAL : (1.0 - price) * k->l->host[e];
}

/* Device less host time when everyone takes what is best at this price, both beside each other: to finish together
 * is to be so all along. */
static double imbalance(const maker *k, double price)
{
    const nm_planner *p = k->p;
    double device = k->device0_us, host = k->host0_us;
    for (uint32_t e = 0; e < p->n_expert; e++) {
        double best = host_price(k, price, e), d_best = 0.0, h_best = k->l->host[e];
        for (uint32_t m = 0; m < p->n_grid; m++) {
            double d, h;
            const double v = priced(k, price, m, e, &d, &h);
            if (v < best) {
                best = v;
                d_best = d;
                h_best = h;
            }
        }
        device += d_best;
        host += h_best;
    }
    return device * p->beside[NM_WORK_DEVICE] - host * p->beside[NM_WORK_EXPERTS];
}

static double balanced_price(const maker *k)
{
    double low = 0.01, high = 0.99;
    switch (k->p->options.objective) {
    case NM_OBJECTIVE_CPU:
        return 0.02; /* as much as it takes; too slow a way is sorted out later */
    case NM_OBJECTIVE_ENERGY:
        return k->p->cost->device_watts /
               fmax(k->p->cost->device_watts + k->p->cost->host_watts, 1e-9);
    case NM_OBJECTIVE_LATENCY:
    case NM_OBJECTIVE_END:
        break;
    }
    for (int i = 0; i < BISECTIONS; i++) {
        const double mid = 0.5 * (low + high);
        if (imbalance(k, mid) > 0.0)
            low = mid; /* the device is the later one: its time is worth more */
        else
            high = mid;
    }
    return 0.5 * (low + high);
}

/* ---- groups --------------------------------------------------------------------------------- */

/* What a group does in each scenario, and the means. */
static void weigh(const maker *k, candidate *c)
{
    const nm_planner *p = k->p;
    const uint32_t *e = k->experts + c->g.first;
    c->of = k->outcomes + (size_t)(c - k->c) * p->n_scenarios;
    c->device_us = c->host_us = c->alone_us = 0.0;
    for (uint32_t s = 0; s < p->n_scenarios; s++) {
        const nm_outcome o = nm_planner_look(p, &c->g, e, k->l->load + (size_t)s * p->n_expert);
        c->of[s] = o;
        c->device_us += o.device_us / p->n_scenarios;
        c->host_us += o.host_us / p->n_scenarios;
        c->alone_us += o.alone_us / p->n_scenarios;
    }
}

static double saved_per_device_us(const candidate *c)
{
    return (c->alone_us - c->host_us) / fmax(c->device_us, 1e-9);
}

static double saved_per_expert(const candidate *c)
{
    return (c->alone_us - c->host_us) / c->g.n;
}

static int by_worth(const candidate *a, const candidate *b, double u, double v)
{
    if (u != v)
        return u > v ? -1 : 1;
    return a->g.first < b->g.first ? -1 : a->g.first > b->g.first;
}

static int by_saving(const void *x, const void *y)
{
    return by_worth(x, y, saved_per_device_us(x), saved_per_device_us(y));
}

static int by_room(const void *x, const void *y)
{
    return by_worth(x, y, saved_per_expert(x), saved_per_expert(y));
}

/* Weighs the newest candidate; keeps it when it saves host time at all. */
static void keep_candidate(maker *k)
{
    candidate *c = &k->c[k->n_c];
    weigh(k, c);
    if (c->alone_us > c->host_us || k->p->options.all_experts)
        k->n_c++;
}

/* ---- static tiers --------------------------------------------------------------------------- */

static npumoe_status choose_static(maker *k, double price, uint32_t *tiers, uint32_t *n_tiers,
                                   npumoe_error *err)
{
    const nm_planner *p = k->p;
    const uint32_t n = p->n_expert;
    double total, d, h;
    for (uint32_t m = 0; m < p->n_grid; m++)
        for (uint32_t e = 0; e < n; e++)
            k->w[(size_t)m * n + e] = priced(k, price, m, e, &d, &h);
    for (uint32_t e = 0; e < n; e++)
        k->cap[e] = host_price(k, price, e);
    const nm_tiers_problem t = {n, p->n_grid, k->s.tiers, k->w, k->cap};
    return nm_tiers_static(p->a, &t, tiers, n_tiers, &total, err);
}

/* Groups of the experts whose best tier is t, somewhat cheaper device time granted: the prefixes
 * leave out what does not pay after all. */
static void group_static(maker *k, double price, const uint32_t *tiers, uint32_t n_tiers)
{
    const nm_planner *p = k->p;
    uint32_t at = 0;
    for (uint32_t t = n_tiers; t-- > 0;) {
        const uint32_t first = at;
        for (uint32_t i = 0; i < p->n_expert; i++) {
            const uint32_t e = k->l->order[i];
            double best = host_price(k, price, e), d, h;
            uint32_t best_t = UINT32_MAX;
            for (uint32_t j = 0; j < n_tiers; j++) {
                const double v = priced(k, price, tiers[j], e, &d, &h);
                if (v < best) {
                    best = v;
                    best_t = j;
                }
            }
            if (best_t == t)
                k->experts[at++] = e;
        }
        for (uint32_t i = first; i < at; i += k->s.group) {
            const uint32_t n = at - i < k->s.group ? at - i : k->s.group;
            k->c[k->n_c].g = (nm_way_group){
                .first = i, .n = n, .n_capacities = 1, .capacities = {p->grid[tiers[t]]}};
            keep_candidate(k);
        }
    }
}

/* ---- several capacities --------------------------------------------------------------------- */

static uint32_t grid_above(const nm_planner *p, uint32_t rows)
{
    uint32_t m = 0;
    while (m + 1 < p->n_grid && p->grid[m] < rows)
        m++;
    return m;
}

static uint32_t busiest_of(const nm_planner *p, const uint32_t *load, const uint32_t *e, uint32_t n)
{
    uint32_t busiest = 0;
    for (uint32_t i = 0; i < n; i++)
        busiest = load[e[i]] > busiest ? load[e[i]] : busiest;
    return busiest <= p->grid[p->n_grid - 1] ? busiest : p->grid[p->n_grid - 1];
}

/* Capacities of a group by its own loads: of those that they ask for, as many as the shape allows. Chunks in
 * which the group stays on the host at this price have no say. */
static void choose_capacities(const maker *k, double price, nm_way_group *g)
{
    const nm_planner *p = k->p;
    const uint32_t *e = k->experts + g->first;
    double need[NM_PLANNER_GRID] = {0.0}, cost[NM_PLANNER_GRID], tail[NM_PLANNER_GRID] = {0.0};
    uint32_t asked[NM_PLANNER_GRID], n_asked = 0, picked[NM_PLANNER_GRID];
    double total;
    for (uint32_t m = 0; m < p->n_grid; m++)
        cost[m] = price * (p->cost->launch_us + g->n * p->device_us[p->grid[m]]) +
                  (1.0 - price) * p->cost->launch_host_us + k->pad_us * g->n * p->grid[m];
    for (uint32_t s = 0; s < p->n_scenarios; s++) {
        const uint32_t *load = k->l->load + (size_t)s * p->n_expert;
        const uint32_t busiest = busiest_of(p, load, e, g->n), m = grid_above(p, busiest);
        double alone = 0.0;
        for (uint32_t i = 0; i < g->n; i++)
            alone += p->host_us[load[e[i]]];
        if (busiest == 0 || cost[m] >= (1.0 - price) * alone)
            continue;
        need[m] += 1.0;
        for (uint32_t i = 0; i < g->n; i++)
            for (uint32_t c = 0; c < m && p->grid[c] < load[e[i]]; c++)
                tail[c] += (1.0 - price) * p->host_us[load[e[i]] - p->grid[c]];
    }
    for (uint32_t m = 0; m < p->n_grid; m++)
        if (need[m] > 0.0) {
            asked[n_asked] = m;
            need[n_asked] = need[m];
            tail[n_asked] = tail[m];
            cost[n_asked++] = cost[m];
        }
    g->n_capacities = 0;
    if (n_asked > 0)
        g->n_capacities =
            nm_tiers_cover(n_asked, k->s.capacities, need, cost, tail, picked, &total);
    for (uint32_t c = 0; c < g->n_capacities; c++)
        g->capacities[c] = p->grid[asked[picked[c]]];
}

static void group_cover(maker *k, double price)
{
    const nm_planner *p = k->p;
    memcpy(k->experts, k->l->order, p->n_expert * sizeof *k->experts);
    for (uint32_t i = 0; i < p->n_expert; i += k->s.group) {
        nm_way_group *g = &k->c[k->n_c].g;
        *g = (nm_way_group){.first = i, .n = p->n_expert - i};
        g->n = g->n < k->s.group ? g->n : k->s.group;
        choose_capacities(k, price, g);
        if (g->n_capacities > 0)
            keep_candidate(k);
    }
}

/* ---- ways ----------------------------------------------------------------------------------- */

/* Launch order: larger launches first, so that what is left to scatter at the end is little. */
static int by_size(const void *x, const void *y)
{
    const candidate *a = x, *b = y;
    if (a->device_us != b->device_us)
        return a->device_us > b->device_us ? -1 : 1;
    return a->g.first < b->g.first ? -1 : a->g.first > b->g.first;
}

/* The first n candidates as a way. */
static nm_way *assemble(const maker *k, uint32_t n, double price)
{
    uint32_t n_experts = 0;
    double device = k->device0_us, host = k->host0_us;
    for (uint32_t i = 0; i < k->n_c; i++) {
        n_experts += i < n ? k->c[i].g.n : 0;
        device += i < n ? k->c[i].device_us : 0.0;
        host += i < n ? k->c[i].host_us : k->c[i].alone_us;
    }
    nm_way *w = nm_way_new(k->p, n, n_experts);
    candidate *sorted = nm_alloc_array(k->p->a, n, sizeof *sorted);
    if (!w || !sorted) {
        nm_free(k->p->a, w);
        nm_free(k->p->a, sorted);
        return NULL;
    }
    memcpy(sorted, k->c, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_size);
    uint32_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        w->groups[i] = sorted[i].g;
        w->groups[i].first = at;
        memcpy(w->experts + at, k->experts + sorted[i].g.first, sorted[i].g.n * sizeof *w->experts);
        at += sorted[i].g.n;
    }
    nm_free(k->p->a, sorted);
    w->parts = k->s.parts;
    /* A device that has nothing better to do takes whatever saves the host time. */
    w->price = k->p->options.objective == NM_OBJECTIVE_LATENCY && price > 0.0 && device < 0.9 * host
                   ? 0.02
                   : price;
    return w;
}

static npumoe_status offer_prefix(maker *k, uint32_t n, double price, nm_offer *best,
                                  uint32_t *best_n, npumoe_error *err)
{
    nm_offer o;
    nm_way *w = assemble(k, n, price);
    if (!w)
        return nm_err_nomem(err, n * sizeof(nm_way_group), "planning");
    if (k->p->two) {
        nm_planner_sum(k->p, k->alone_us, k->of, n, w);
        NM_TRY(nm_layer_take(k->l, w, &o, err));
    } else {
        NM_TRY(nm_layer_offer(k->l, w, &o, err));
    }
    if (o.score < best->score) {
        *best = o;
        *best_n = n;
    }
    return NPUMOE_OK;
}

static void remember(maker *k, const nm_offer *best)
{
    char what[NM_PLAN_WORDS], parts[40];
    nm_planner_name_parts(k->s.parts, parts, sizeof parts);
    if (k->s.capacities > 1)
        snprintf(what, sizeof what, "groups of %u, up to %u capacities each%s", k->s.group,
                 k->s.capacities, parts);
    else
        snprintf(what, sizeof what, "groups of %u, %u static tier%s%s", k->s.group, k->s.tiers,
                 k->s.tiers > 1 ? "s" : "", parts);
    nm_layer_tried(k->l, what, best);
}

/* All prefixes when they are few; else some, and more around the best. */
static npumoe_status offer_prefixes(maker *k, double price, npumoe_error *err)
{
    const uint32_t step = k->n_c / PREFIXES + 1;
    uint32_t best_n = 0;
    nm_offer best = {.score = HUGE_VAL};
    if (k->p->options.all_experts)
        return offer_prefix(k, k->n_c, -1.0, &best, &best_n, err);
    for (uint32_t n = k->n_c; n > 0; n = n > step ? n - step : 0)
        NM_TRY(offer_prefix(k, n, price, &best, &best_n, err));
    for (uint32_t d = step / 2; d > 0 && best_n > 0; d /= 2) {
        const uint32_t middle = best_n;
        if (middle > d)
            NM_TRY(offer_prefix(k, middle - d, price, &best, &best_n, err));
        if (middle + d <= k->n_c)
            NM_TRY(offer_prefix(k, middle + d, price, &best, &best_n, err));
    }
    if (k->n_c == 0)
        NM_TRY(offer_prefix(k, 0, price, &best, &best_n, err));
    remember(k, &best);
    return NPUMOE_OK;
}

/* Time that device and host spend on parts, and, with two chunks in flight, on all the rest. */
static void count_parts(maker *k)
{
    const nm_planner *p = k->p;
    const bool two = p->two;
    k->device0_us = 0.0;
    k->host0_us = two ? p->layer_us : 0.0;
    for (int i = 0; i < NM_COST_PARTS; i++) {
        if (!p->part_exists[i] || (!two && i != NM_PART_SHARED))
            continue;
        const bool there = (k->s.parts & 1u << i) != 0;
        k->device0_us += there ? p->part_device_us[i] : 0.0;
        k->host0_us += there ? p->part_move_us[i] : p->part_host_us[i];
    }
}

static npumoe_status make_shape(maker *k, shape s, npumoe_error *err)
{
    uint32_t tiers[NM_PLANNER_GRID], n_tiers;
    const double price = s.price;
    k->s = s;
    k->n_c = 0;
    if (s.capacities > 1) {
        group_cover(k, price);
    } else {
        NM_TRY(choose_static(k, price, tiers, &n_tiers, err));
        group_static(k, 0.85 * price, tiers, n_tiers);
    }
    qsort(k->c, k->n_c, sizeof *k->c, s.by_room ? by_room : by_saving);
    for (uint32_t i = 0; i < k->n_c; i++)
        k->of[i] = k->c[i].of;
    return offer_prefixes(k, price, err);
}

/* ---- moving capacities ---------------------------------------------------------------------- */

static nm_way *copy_way(const nm_planner *p, const nm_way *from)
{
    nm_way *w = nm_way_new(p, from->n_groups, from->n_experts);
    if (!w)
        return NULL;
    memcpy(w->groups, from->groups, from->n_groups * sizeof *w->groups);
    memcpy(w->experts, from->experts, from->n_experts * sizeof *w->experts);
    w->parts = from->parts;
    memcpy(w->rows, from->rows, sizeof w->rows);
    w->price = from->price;
    return w;
}

/* Every group's capacity `from` becomes `to`; false when no group has it or one would have it twice. */
static bool replace(nm_way *w, uint32_t from, uint32_t to)
{
    bool found = false;
    for (uint32_t i = 0; i < w->n_groups; i++) {
        nm_way_group *g = &w->groups[i];
        for (uint32_t j = 0; j < g->n_capacities; j++) {
            if (g->capacities[j] != from)
                continue;
            g->capacities[j] = to;
            found = true;
            if ((j > 0 && g->capacities[j - 1] >= to) ||
                (j + 1 < g->n_capacities && g->capacities[j + 1] <= to))
                return false;
        }
    }
    return found;
}

static size_t best_way(const nm_layer_work *l)
{
    size_t best = 0;
    for (size_t i = 1; i < l->n_ways; i++)
        if (l->ways[i]->score < l->ways[best]->score)
            best = i;
    return best;
}

/* The way with these parts, too, and the rows of its parts shared, where that may be quicker. */
static npumoe_status share_with(nm_layer_work *l, const nm_way *from, uint32_t parts,
                                npumoe_error *err)
{
    nm_offer o;
    nm_way *w = copy_way(l->p, from);
    if (!w)
        return nm_err_nomem(err, sizeof *w, "planning");
    w->parts |= parts;
    if (nm_planner_share_rows(l->p, w))
        return nm_layer_offer(l, w, &o, err);
    nm_free(l->p->a, w);
    return NPUMOE_OK;
}

/* Every way once more, with the rows shared of its parts and of those of `more`, too, that it has on the host. From the last
 * one on: what is beaten gives its place to the last. */
static npumoe_status share_rows(nm_layer_work *l, uint32_t more, npumoe_error *err)
{
    for (size_t i = l->n_ways; i-- > 0;)
        if (i < l->n_ways)
            NM_TRY(share_with(l, l->ways[i], more, err));
    return NPUMOE_OK;
}

static npumoe_status try_move(nm_layer_work *l, uint32_t from, uint32_t to, bool *moved,
                              npumoe_error *err)
{
    const nm_way *best = l->ways[best_way(l)];
    nm_way *w = copy_way(l->p, best);
    const double before = best->score;
    nm_offer o;
    if (!w)
        return nm_err_nomem(err, best->n_experts, "planning");
    if (!replace(w, from, to)) {
        nm_free(l->p->a, w);
        return NPUMOE_OK;
    }
    NM_TRY(nm_layer_offer(l, w, &o, err));
    *moved |= o.score < before;
    return NPUMOE_OK;
}

/* Moves one tier of the best way at a time to its neighbours on the grid. */
static npumoe_status settle(nm_layer_work *l, npumoe_error *err)
{
    const nm_planner *p = l->p;
    bool moved = true;
    for (int sweep = 0; moved && sweep < SWEEPS; sweep++) {
        moved = false;
        for (uint32_t m = 0; m < p->n_grid; m++) {
            if (m + 1 < p->n_grid)
                NM_TRY(try_move(l, p->grid[m], p->grid[m + 1], &moved, err));
            if (m > 0)
                NM_TRY(try_move(l, p->grid[m], p->grid[m - 1], &moved, err));
        }
    }
    return NPUMOE_OK;
}

/* ---- all shapes ----------------------------------------------------------------------------- */

static npumoe_status maker_init(maker *k, nm_layer_work *l, npumoe_error *err)
{
    const nm_planner *p = l->p;
    const size_t n = p->n_expert, cells = n * p->n_grid;
    const uint32_t rows = p->loads->chunk;
    *k = (maker){.l = l, .p = p};
    k->pad_us = nm_planner_padding_us(p, l->cpu_only_us);
    k->move_us = (nm_planner_gather(p, rows) + nm_planner_scatter(p, rows)) / rows;
    k->host = nm_alloc_array(p->a, cells, sizeof *k->host);
    k->shared = nm_alloc_array(p->a, n, sizeof *k->shared);
    k->passes = nm_alloc_array(p->a, cells, sizeof *k->passes);
    k->held = nm_alloc_array(p->a, cells, sizeof *k->held);
    k->w = nm_alloc_array(p->a, cells, sizeof *k->w);
    k->cap = nm_alloc_array(p->a, n, sizeof *k->cap);
    k->experts = nm_alloc_array(p->a, n, sizeof *k->experts);
    k->c = nm_alloc_array(p->a, n + 1, sizeof *k->c);
    k->outcomes = nm_alloc_array(p->a, (n + 1) * p->n_scenarios, sizeof *k->outcomes);
    k->of = nm_alloc_array(p->a, n + 1, sizeof *k->of);
    k->alone_us = nm_alloc_array(p->a, p->n_scenarios, sizeof *k->alone_us);
    if (!k->host || !k->shared || !k->passes || !k->held || !k->w || !k->cap || !k->experts ||
        !k->c || !k->outcomes || !k->of || !k->alone_us)
        return nm_err_nomem(err, cells * sizeof *k->host, "planning");
    for (uint32_t s = 0; s < p->n_scenarios; s++)
        for (uint32_t e = 0; e < n; e++)
            k->alone_us[s] += p->host_us[l->load[s * n + e]];
    for (uint32_t m = 0; m < p->n_grid; m++)
        for (uint32_t e = 0; e < p->n_expert; e++)
            table_entry(k, m, e);
    return NPUMOE_OK;
}

static void maker_fini(maker *k)
{
    const npumoe_allocator *a = k->p->a;
    nm_free(a, k->host);
    nm_free(a, k->shared);
    nm_free(a, k->passes);
    nm_free(a, k->held);
    nm_free(a, k->w);
    nm_free(a, k->cap);
    nm_free(a, k->experts);
    nm_free(a, k->c);
    nm_free(a, k->outcomes);
    nm_free(a, k->of);
    nm_free(a, k->alone_us);
}

/* Numbers to try for a limit: 1, 2, 4 ... and the limit. */
static uint32_t next_size(uint32_t n, uint32_t limit)
{
    if (n >= limit)
        return limit + 1;
    return 2 * n < limit ? 2 * n : limit;
}

/* At the price where device and host finish together, and at prices that spare the host: for budgets that keep the
 * device from being the later one, and because layers of a prompt make up for each other. */
static npumoe_status make_group_size(maker *k, uint32_t group, uint32_t parts, npumoe_error *err)
{
    const nm_planner_options *o = &k->p->options;
    const uint32_t most = o->max_capacities < o->n_tiers ? o->max_capacities : o->n_tiers;
    k->s = (shape){.group = group, .parts = parts};
    share_launches(k);
    count_parts(k);
    const double price = balanced_price(k);
    shape s = {.group = group, .tiers = o->n_tiers, .capacities = 1, .parts = parts};
    for (int i = 0; i < N_CHEAPER; i++) {
        s.price = price * cheaper[i];
        s.by_room = true;
        s.capacities = 1;
        NM_TRY(make_shape(k, s, err));
        s.capacities = most;
        if (most > 1)
            NM_TRY(make_shape(k, s, err));
    }
    s.price = price;
    s.by_room = false;
    s.capacities = 1;
    for (s.tiers = 1; s.tiers <= o->n_tiers; s.tiers = next_size(s.tiers, o->n_tiers))
        NM_TRY(make_shape(k, s, err));
    s.tiers = o->n_tiers;
    for (s.capacities = 2; s.capacities <= most; s.capacities = next_size(s.capacities, most))
        NM_TRY(make_shape(k, s, err));
    return NPUMOE_OK;
}

/* Group size of the best way so far, for the shapes that differ in parts only. */
static uint32_t best_group_size(const nm_layer_work *l)
{
    const nm_way *w = l->ways[best_way(l)];
    uint32_t n = 1;
    for (uint32_t i = 0; i < w->n_groups; i++)
        n = w->groups[i].n > n ? w->groups[i].n : n;
    return n;
}

static npumoe_status make_parts(maker *k, uint32_t group, uint32_t most, uint32_t parts,
                                npumoe_error *err)
{
    NM_TRY(make_group_size(k, group, parts, err));
    if (group != most) /* parts must not cost experts their slots */
        NM_TRY(make_group_size(k, most, parts, err));
    return NPUMOE_OK;
}

/* Every set of the parts with weights; attention alone, with the best of these sets and with all of them: the whole
 * again would take twice the time, and what is in between is between these. */
static npumoe_status make_all(maker *k, npumoe_error *err)
{
    const nm_planner *p = k->p;
    const uint32_t most = p->options.max_group < p->n_expert ? p->options.max_group : p->n_expert;
    const uint32_t attention = 1u << NM_PART_ATTENTION;
    for (uint32_t g = 1; g <= most; g = next_size(g, most))
        NM_TRY(make_group_size(k, g, 0, err));
    uint32_t possible = 0;
    for (int i = 0; i < NM_COST_PARTS; i++)
        possible |= p->part_possible[i] ? 1u << i : 0u;
    if (p->options.no_parts || p->options.all_experts) /* by popularity, which parts have none of */
        possible = 0;
    const uint32_t group = best_group_size(k->l), others = possible & ~attention;
    for (uint32_t parts = 1; parts <= NM_PARTS_ALL; parts++)
        if (!(parts & ~others))
            NM_TRY(make_parts(k, group, most, parts, err));
    const uint32_t best = k->l->ways[best_way(k->l)]->parts;
    if (possible & attention) {
        NM_TRY(make_parts(k, group, most, attention, err));
        if (best)
            NM_TRY(make_parts(k, group, most, best | attention, err));
        if (best != others)
            NM_TRY(make_parts(k, group, most, possible, err));
    }
    NM_TRY(share_rows(k->l, 0, err));
    NM_TRY(settle(k->l, err));
    if (p->two)
        return NPUMOE_OK;
    /* Parts that are quicker on the host, all of their rows, than on the device were in no way that is left. */
    const uint32_t qkv = possible & 1u << NM_PART_QKV, o = possible & 1u << NM_PART_O;
    NM_TRY(share_rows(k->l, qkv, err));
    NM_TRY(share_rows(k->l, o, err));
    return settle(k->l, err);
}

npumoe_status nm_planner_ours(nm_layer_work *l, npumoe_error *err)
{
    maker k;
    if (l->p->n_grid == 0) /* a device without programs */
        return NPUMOE_OK;
    npumoe_status st = maker_init(&k, l, err);
    if (st == NPUMOE_OK)
        st = make_all(&k, err);
    maker_fini(&k);
    return st;
}
