/* planner_choose.c: one way per layer, for the objective.
 *
 * By themselves layers would take what is quickest for each. In a prompt with several chunks in flight they overlap: a
 * device that is late in one layer makes up for it in another, so one price of its time is right for all,
 * and a way's score is p device + (1 - p) host. Which price that is, the walk through the prompt says (planner_schedule.c):
 * some are tried, each with the ways that fit the budgets then, and some more around the best of them.
 *
 * A LIMIT OF HOST TIME is met at a low enough price: host time falls with it, and the prompt takes longer. Between the
 * lowest price that is above the limit and the highest that is within, bisection, and some evenly; and between the ways of these
 * two, which are one step apart in the price but may be far apart in what they take, layer by layer from one to the other: host
 * time falls with each, so again by bisection. */
#include "moe/planner_priv.h"

#include <math.h>
#include <string.h>

enum { MOST_PRICES = 12, FINELY = 4, HALVINGS = 6, EVENLY = 8, FEW_LAYERS = 8, ROUNDS = 3 };

typedef struct choices {
    const nm_planner *p;
    nm_layer_work *layers;
    uint32_t *now, *best;  /* [n_layers] way of each layer */
    uint32_t *over, *fast; /* above the limit: by the least, and the quickest */
    nm_way **ways;
    nm_planner_limits limits;
    double best_us, best_host_us; /* of best; HUGE_VAL: none yet */
    double over_host_us, fast_us;
} choices;

/* Which ways may be taken. */
typedef struct choosing {
    double price;     /* < 0: each layer's own time is what counts */
    uint32_t without; /* parts that no way may have */
    bool sparing;     /* also those that only spare the host */
} choosing;

/* A layer of which a prompt wants one row takes what room is left. */
static void set_scores(const choices *c, const choosing *of)
{
    const double price = of->price;
    const uint32_t whole = nm_planner_whole_layers(c->p);
    for (uint32_t l = 0; l < c->p->loads->n_layers; l++)
        for (size_t i = 0; i < c->layers[l].n_ways; i++) {
            nm_way *w = c->layers[l].ways[i];
            const nm_prediction *x = &w->predicted;
            w->score = price < 0.0 ? x->us : price * x->device_us + (1.0 - price) * x->host_us;
            w->score = nm_planner_padded(w->score, x) * (l < whole ? 1.0 : 0.01);
            if ((w->parts & of->without) || (w->spares && !of->sparing))
                w->score = HUGE_VAL;
        }
}

/* 0: within the limits; 1: too much host time; 2: slower than the host alone. */
static int rank(const nm_planner_limits *m, double us, double host_us)
{
    return us > m->most_us ? 2 : host_us > m->most_host_us ? 1 : 0;
}

nm_planner_limits nm_planner_limits_of(double host_limit, const nm_prediction *cpu_only)
{
    const nm_planner_limits none = {NM_PLAN_MOST_US, NM_PLAN_MOST_US};
    return host_limit > 0.0
               ? (nm_planner_limits){cpu_only->us * (1.0 + NM_PLAN_EQUAL),
                                     nm_plan_most_host_us(host_limit, cpu_only->host_us)}
               : none;
}

bool nm_planner_is_better(const nm_planner_limits *m, double us, double host_us, double than_us,
                          double than_host_us)
{
    const int now = rank(m, us, host_us), before = rank(m, than_us, than_host_us);
    if (now != before)
        return now < before;
    return now == 1 ? us * host_us < than_us * than_host_us : us < than_us;
}

/* Walks the ways in c->now and keeps them if they are the best so far. */
static npumoe_status walk(choices *c, nm_prediction *x, npumoe_error *err)
{
    const uint32_t n = c->p->loads->n_layers;
    for (uint32_t l = 0; l < n; l++)
        c->ways[l] = c->layers[l].ways[c->now[l]];
    NM_TRY(nm_planner_schedule(c->p, c->ways, x, err));
    const double us = nm_planner_padded(x->us, x);
    if (nm_planner_is_better(&c->limits, us, x->host_us, c->best_us, c->best_host_us)) {
        c->best_us = us;
        c->best_host_us = x->host_us;
        memcpy(c->best, c->now, n * sizeof *c->best);
    }
    if (x->host_us > c->limits.most_host_us && x->host_us < c->over_host_us) {
        c->over_host_us = x->host_us;
        memcpy(c->over, c->now, n * sizeof *c->over);
    }
    if (x->host_us > c->limits.most_host_us && us < c->fast_us) {
        c->fast_us = us;
        memcpy(c->fast, c->now, n * sizeof *c->fast);
    }
    return NPUMOE_OK;
}

/* At the scores as they are. */
static npumoe_status choose_once(choices *c, bool thorough, nm_prediction *x, npumoe_error *err)
{
    *x = (nm_prediction){0};
    NM_TRY(nm_planner_choose(c->p, c->layers, c->p->loads->n_layers, thorough, c->now, err));
    return walk(c, x, err);
}

/* ---- a limit of host time ------------------------------------------------------------------- */

/* Between a price within the limit and one above it, and around them, all else as in `of`: by halves, which comes near
 * the limit; and evenly, as time and host time only roughly rise and fall with the price. */
static npumoe_status try_between(choices *c, choosing of, double within, double above,
                                 npumoe_error *err)
{
    const double from = within, step = (above - within) / EVENLY;
    nm_prediction x;
    for (int i = 0; i < HALVINGS; i++) {
        of.price = 0.5 * (within + above);
        set_scores(c, &of);
        NM_TRY(choose_once(c, true, &x, err));
        *(x.host_us <= c->limits.most_host_us ? &within : &above) = of.price;
    }
    for (int i = -EVENLY / 2; i < 3 * EVENLY / 2; i++) {
        of.price = fmin(fmax(from + step * (i + 0.5), 0.01), 0.99);
        set_scores(c, &of);
        NM_TRY(choose_once(c, true, &x, err));
    }
    return NPUMOE_OK;
}

static bool fits(const choices *c)
{
    uint64_t programs = 0, bytes = 0;
    for (uint32_t l = 0; l < c->p->loads->n_layers; l++) {
        programs += c->layers[l].ways[c->now[l]]->programs;
        bytes += c->layers[l].ways[c->now[l]]->bytes;
    }
    return programs <= c->p->slots && bytes <= c->p->cost->device.total_bytes;
}

/* Layers [from, to) of one choice, the others of another, if these fit; true if that is within the limit. */
static npumoe_status try_mixed(choices *c, const uint32_t *within, const uint32_t *above,
                               uint32_t from, uint32_t to, bool *yes, npumoe_error *err)
{
    const uint32_t n = c->p->loads->n_layers;
    nm_prediction x = {.host_us = HUGE_VAL};
    memcpy(c->now, above, n * sizeof *c->now);
    memcpy(c->now + from, within + from, (to - from) * sizeof *c->now);
    if (fits(c))
        NM_TRY(walk(c, &x, err));
    *yes = x.host_us <= c->limits.most_host_us;
    return NPUMOE_OK;
}

/* The first layers of a choice within the limit, the others of one above it: as few of the first as do; then the last
 * layers. Few layers are tried one by one, as each counts. */
static npumoe_status mix(choices *c, const uint32_t *within, const uint32_t *above,
                         npumoe_error *err)
{
    const uint32_t n = c->p->loads->n_layers;
    bool yes;
    for (uint32_t k = 1; k < n && n <= FEW_LAYERS; k++) {
        NM_TRY(try_mixed(c, within, above, 0, k, &yes, err));
        NM_TRY(try_mixed(c, within, above, n - k, n, &yes, err));
    }
    for (int last = 0; last < 2 && n > FEW_LAYERS; last++) {
        uint32_t enough = n, too_few = 0;
        while (enough - too_few > 1) {
            const uint32_t k = too_few + (enough - too_few) / 2;
            NM_TRY(try_mixed(c, within, above, last ? n - k : 0, last ? n : k, &yes, err));
            *(yes ? &enough : &too_few) = k;
        }
    }
    return NPUMOE_OK;
}

/* room: for two choices. */
static npumoe_status mix_layers(choices *c, uint32_t *room, npumoe_error *err)
{
    const uint32_t n = c->p->loads->n_layers;
    const size_t bytes = n * sizeof *room;
    double before = HUGE_VAL;
    for (int round = 0; round < ROUNDS && c->best_us < before; round++) {
        before = c->best_us;
        for (int i = 0; i < 2; i++) {
            memcpy(room, c->best, bytes);
            memcpy(room + n, i ? c->fast : c->over, bytes);
            NM_TRY(mix(c, room, room + n, err));
        }
    }
    return NPUMOE_OK;
}

/* ---- all prices ----------------------------------------------------------------------------- */

/* Ascending; the first is that of layers for themselves. With a limit also those at which the device does nearly
 * everything. */
static size_t list_prices(const choices *c, double *prices)
{
    static const double some[] = {-1.0, 0.25, 0.35, 0.42, 0.48, 0.52, 0.58, 0.65, 0.75};
    const size_t n_some = sizeof some / sizeof some[0];
    size_t n = 1;
    prices[0] = some[0];
    if (c->p->options.host_limit > 0.0) {
        prices[n++] = 0.05;
        prices[n++] = 0.15;
    }
    memcpy(prices + n, some + 1, (n_some - 1) * sizeof *prices);
    return n + n_some - 1;
}

/* Notes what was at hand when a walk was better than all before. */
static npumoe_status try_price(choices *c, choosing of, choosing *best, nm_prediction *x,
                               npumoe_error *err)
{
    const double us = c->best_us, host_us = c->best_host_us;
    set_scores(c, &of);
    NM_TRY(choose_once(c, false, x, err));
    if (c->best_us != us || c->best_host_us != host_us)
        *best = of;
    return NPUMOE_OK;
}

/* All prices, with the same ways. */
static npumoe_status try_prices(choices *c, choosing of, choosing *best, npumoe_error *err)
{
    double prices[MOST_PRICES], within = -1.0, above = -1.0;
    const size_t n = list_prices(c, prices);
    nm_prediction x;
    for (size_t i = 0; i < n; i++) {
        of.price = prices[i];
        NM_TRY(try_price(c, of, best, &x, err));
        if (of.price > 0.0 && x.host_us <= c->limits.most_host_us) {
            within = of.price;
            above = -1.0; /* the first one behind it */
        } else if (of.price > 0.0 && above < 0.0) {
            above = of.price;
        }
    }
    return within > 0.0 && above > within ? try_between(c, of, within, above, err) : NPUMOE_OK;
}

/* Around the price that was best of the few: *low and *high, its neighbours, and some between. */
static npumoe_status refine(choices *c, choosing *best, double *low, double *middle, double *high,
                            npumoe_error *err)
{
    double prices[MOST_PRICES];
    const size_t n = list_prices(c, prices);
    choosing of = *best;
    nm_prediction x;
    size_t at = 1;
    while (at < n && prices[at] < best->price)
        at++;
    *middle = at < n ? prices[at] : prices[n - 1];  /* of layers for themselves: */
    *low = at > 1 ? prices[at - 1] : 0.5 * *middle; /* from the lowest on */
    *high = at + 1 < n ? prices[at + 1] : 0.5 * (1.0 + *middle);
    for (int i = 1; i < 2 * FINELY; i++) {
        of.price = i < FINELY ? *low + (*middle - *low) * i / FINELY
                              : *middle + (*high - *middle) * (i - FINELY) / FINELY;
        NM_TRY(try_price(c, of, best, &x, err));
    }
    return NPUMOE_OK;
}

/* The best choice with its first or its last layers as they are at another price: from one price to the next all layers change
 * at once. room: for two choices. */
static npumoe_status mix_with(choices *c, choosing of, uint32_t *room, npumoe_error *err)
{
    const uint32_t n = c->p->loads->n_layers, step = (n + FEW_LAYERS - 1) / FEW_LAYERS;
    nm_prediction x;
    bool yes;
    memcpy(room, c->best, n * sizeof *room);
    set_scores(c, &of);
    NM_TRY(choose_once(c, false, &x, err));
    memcpy(room + n, c->now, n * sizeof *room);
    if (memcmp(room, room + n, n * sizeof *room) == 0)
        return NPUMOE_OK;
    for (uint32_t k = step; k < n; k += step) {
        NM_TRY(try_mixed(c, room + n, room, 0, k, &yes, err));
        NM_TRY(try_mixed(c, room + n, room, n - k, n, &yes, err));
    }
    return NPUMOE_OK;
}

static npumoe_status mix_prices(choices *c, choosing of, double low, double middle, double high,
                                uint32_t *room, npumoe_error *err)
{
    const double prices[] = {low, 0.5 * (low + middle), 0.5 * (high + middle), high, -1.0};
    double us = HUGE_VAL, host_us = HUGE_VAL;
    for (int round = 0; round < ROUNDS && (c->best_us != us || c->best_host_us != host_us);
         round++) {
        us = c->best_us;
        host_us = c->best_host_us;
        for (size_t i = 0; i < sizeof prices / sizeof prices[0]; i++) {
            choosing with = of;
            with.price = prices[i];
            NM_TRY(mix_with(c, with, room, err));
        }
    }
    return NPUMOE_OK;
}

/* By each layer's own score; for the latency of prompts with chunks in flight by other prices, too, and without
 * attention or any part on the device: what is best for layers by themselves need not be so in a row, and the prompt is
 * what decides. */
static npumoe_status choose_prompt(choices *c, uint32_t *room, npumoe_error *err)
{
    static const uint32_t without[] = {0, 1u << NM_PART_ATTENTION, NM_PARTS_ALL};
    choosing best = {.price = -1.0};
    nm_prediction x;
    for (int i = 0; i < 6; i++)
        NM_TRY(try_prices(c, (choosing){.without = without[i % 3], .sparing = i >= 3}, &best, err));
    double low = 0.0, middle = 0.5, high = 1.0;
    NM_TRY(refine(c, &best, &low, &middle, &high, err));
    set_scores(c, &best);
    NM_TRY(choose_once(c, true, &x, err));
    return mix_prices(c, best, low, middle, high, room, err);
}

/* A limit that is out of reach: the quickest of all may be better than what was found on the way to it. */
static npumoe_status or_quickest(choices *c, uint32_t *room, npumoe_error *err)
{
    const uint32_t n = c->p->loads->n_layers;
    const nm_planner_limits limits = c->limits;
    const double us = c->best_us, host_us = c->best_host_us;
    uint32_t *found = nm_alloc_array(c->p->a, n, sizeof *found);
    if (!found)
        return nm_err_nomem(err, n * sizeof *found, "placing programs");
    memcpy(found, c->best, n * sizeof *found);
    c->limits = nm_planner_limits_of(0.0, NULL);
    c->best_us = c->best_host_us = HUGE_VAL;
    const npumoe_status st = choose_prompt(c, room, err);
    c->limits = limits;
    if (!nm_planner_is_better(&limits, c->best_us, c->best_host_us, us, host_us)) {
        c->best_us = us;
        c->best_host_us = host_us;
        memcpy(c->best, found, n * sizeof *found);
    }
    nm_free(c->p->a, found);
    return st;
}

/* But the first, all on the host: that fits whatever is forbidden. */
static void mark_sparing(nm_layer_work *l)
{
    for (size_t i = 1; i < l->n_ways; i++) {
        nm_way *w = l->ways[i];
        for (size_t j = 0; j < l->n_ways && !w->spares; j++) {
            const nm_way *o = l->ways[j];
            w->spares = j != i && !o->spares && o->score <= w->score &&
                        o->programs <= w->programs && o->bytes <= w->bytes;
        }
    }
}

/* room: for two choices. */
static npumoe_status choose_all(choices *c, uint32_t *room, npumoe_error *err)
{
    const nm_planner *p = c->p;
    const uint32_t n = p->loads->n_layers;
    nm_prediction x = {0};
    if (p->n_chunks == 0 || p->options.objective != NM_OBJECTIVE_LATENCY)
        return choose_once(c, true, &x, err);
    for (uint32_t l = 0; l < n; l++)
        mark_sparing(&c->layers[l]);
    if (p->options.host_limit == 0.0)
        return choose_prompt(c, room, err);
    for (uint32_t l = 0; l < n; l++)
        c->ways[l] = c->layers[l].ways[0]; /* all on the host */
    NM_TRY(nm_planner_schedule(p, c->ways, &x, err));
    c->limits = nm_planner_limits_of(p->options.host_limit, &x);
    memset(c->now, 0, n * sizeof *c->now);
    NM_TRY(walk(c, &x, err));
    NM_TRY(choose_prompt(c, room, err));
    if (rank(&c->limits, c->best_us, c->best_host_us) > 0)
        return or_quickest(c, room, err);
    return c->over_host_us < HUGE_VAL ? mix_layers(c, room, err) : NPUMOE_OK;
}

npumoe_status nm_planner_choose_ways(const nm_planner *p, nm_layer_work *layers, nm_way **out,
                                     nm_planner_limits *limits, npumoe_error *err)
{
    const uint32_t n = p->loads->n_layers;
    choices c = {.p = p,
                 .layers = layers,
                 .now = nm_alloc_array(p->a, n, sizeof *c.now),
                 .best = nm_alloc_array(p->a, n, sizeof *c.best),
                 .over = nm_alloc_array(p->a, n, sizeof *c.over),
                 .fast = nm_alloc_array(p->a, n, sizeof *c.fast),
                 .ways = nm_alloc_array(p->a, n, sizeof *c.ways),
                 .limits = nm_planner_limits_of(0.0, NULL),
                 .best_us = HUGE_VAL,
                 .best_host_us = HUGE_VAL,
                 .over_host_us = HUGE_VAL,
                 .fast_us = HUGE_VAL};
    uint32_t *room = nm_alloc_array(p->a, 2u * n, sizeof *room);
    npumoe_status st = c.now && c.best && c.over && c.fast && c.ways && room
                           ? choose_all(&c, room, err)
                           : nm_err_nomem(err, n * sizeof *c.ways, "placing programs");
    *limits = c.limits;
    for (uint32_t l = 0; l < n && st == NPUMOE_OK; l++) {
        nm_way **ways = layers[l].ways;
        out[l] = ways[c.best[l]];
        ways[c.best[l]] = NULL;
    }
    nm_free(p->a, room);
    nm_free(p->a, c.now);
    nm_free(p->a, c.best);
    nm_free(p->a, c.over);
    nm_free(p->a, c.fast);
    nm_free(p->a, c.ways);
    return st;
}
