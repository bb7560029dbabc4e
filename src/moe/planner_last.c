/* planner_last.c: chunks that are shorter than those that a plan is made for.
 *
 * Hardly a prompt is so many whole chunks. Of its last one the host's work is less, by rows, and of experts by loads that are
 * thinner; a program of the device takes as long as ever, so that whether it pays is asked again: of parts by
 * nm_cost_part_pays(), of groups by nm_planner_launches(), as in every chunk. So a prompt with a short last
 * chunk has a second planner, whose tables and loads are of that chunk's rows, and which the walk through the prompt
 * (planner_schedule.c) asks there. Programs are those of whole chunks, so a grid of capacities is, too.
 *
 * Ways are chosen by whole chunks (planner_sim.c). What a short chunk gets of them depends on what is in flight with it: where
 * the host would be the last to end, the device may well take longer for a part than the host would. So parts have a price as
 * groups have, and the one with which the prompt is quickest is looked for once the ways are known. A short chunk by itself
 * has nothing beside it: there both sides' time is worth the same. */
#include "moe/planner_priv.h"

/* Every pair stays with probability n / chunk, rounded by a fixed dither. */
npumoe_status nm_planner_thin(const npumoe_allocator *a, const nm_loads *from, uint32_t n,
                              nm_loads *out, npumoe_error *err)
{
    const size_t cells = (size_t)from->n_scenarios * from->n_expert;
    *out = *from;
    out->rows = n;
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

npumoe_status nm_planner_last_new(nm_planner *p, npumoe_error *err)
{
    const uint32_t t = p->loads->chunk, rows = p->options.n_prompt % t;
    if (p->rows < t || rows == 0)
        return NPUMOE_OK;
    nm_planner_options o = p->options;
    o.n_past += p->options.n_prompt - rows;
    o.n_prompt = rows;
    p->last = nm_zalloc(p->a, sizeof *p->last);
    if (!p->last)
        return nm_err_nomem(err, sizeof *p->last, "planning");
    NM_TRY(nm_planner_thin(p->a, p->loads, rows, &p->last_loads, err));
    NM_TRY(nm_planner_init(p->last, p->a, p->model, &p->last_loads, p->cost, &o, err));
    p->last->attention_chunks = p->attention_chunks; /* one set of programs */
    if (p->two && p->options.part_price > 0.0)
        p->last->part_price = p->options.part_price;
    return NPUMOE_OK;
}

/* With q's last chunk, which is short. */
static npumoe_status cheapest(nm_planner *q, nm_way *const *ways, const nm_planner_limits *limits,
                              double *price, npumoe_error *err)
{
    static const double prices[] = {NM_COST_EVEN_PRICE, 0.3, 0.2, 0.1, 0.05}, hardly = 1.005;
    nm_prediction best = {0};
    for (size_t i = 0; i < sizeof prices / sizeof prices[0]; i++) {
        nm_prediction x = {0};
        q->last->part_price = prices[i];
        NM_TRY(nm_planner_schedule(q, ways, &x, err));
        if (i > 0 && !nm_planner_is_better(limits, hardly * x.us, x.host_us, best.us, best.host_us))
            continue;
        best = x;
        *price = prices[i];
    }
    q->last->part_price = *price;
    return NPUMOE_OK;
}

npumoe_status nm_planner_choose_part_price(nm_planner *p, nm_way *const *ways,
                                           const nm_planner_limits *limits, npumoe_error *err)
{
    const uint32_t t = p->loads->chunk, half = t / 2;
    nm_planner_options o = p->options;
    nm_planner longer = {0};
    p->options.part_price = NM_COST_EVEN_PRICE;
    if (!p->two || p->n_chunks == 0 || half == 0 || o.n_prompt > UINT32_MAX - half ||
        o.policy != NM_POLICY_OURS || o.objective != NM_OBJECTIVE_LATENCY)
        return NPUMOE_OK;
    if (p->last)
        return cheapest(p, ways, limits, &p->options.part_price, err);
    o.n_prompt += half;
    npumoe_status st = nm_planner_init(&longer, p->a, p->model, p->loads, p->cost, &o, err);
    longer.n_lanes = p->n_lanes;
    longer.attention_chunks = p->attention_chunks;
    if (st == NPUMOE_OK)
        longer.last->attention_chunks = p->attention_chunks;
    if (st == NPUMOE_OK)
        st = cheapest(&longer, ways, limits, &p->options.part_price, err);
    nm_planner_fini(&longer);
    return st;
}

void nm_planner_last_free(nm_planner *p)
{
    if (!p->last)
        return;
    if (p->last->a)
        nm_planner_fini(p->last);
    nm_free(p->a, p->last);
    nm_loads_free(p->a, &p->last_loads);
    p->last = NULL;
}
