/* exec_assign.c: which rows of a chunk go to the device in which launch.
 *
 * The choices are the plan's own functions (nm_plan_pick, nm_plan_launch_pays), so that what was
 * predicted is what runs. Depends on the routing only. */
#include "moe/executor_priv.h"

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Rows of the group's experts from `from` on, into ex->loads; returns the largest. */
static uint32_t read_loads(nm_executor *ex, const exec_lane *lane, const nm_plan_group *g,
                           uint32_t from)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < g->n_experts; i++) {
        const uint32_t n = nm_dispatch_load(&lane->dispatch, g->experts[i]);
        ex->loads[i] = n > from ? n - from : 0;
        most = ex->loads[i] > most ? ex->loads[i] : most;
    }
    return most;
}

/* The program for that many rows of the group's busiest expert. */
static nm_program *program_for(const exec_group *g, uint32_t most)
{
    uint32_t i = nm_plan_pick(g->plan, most);
    while (g->programs[i] == NULL) /* the largest is there */
        i++;
    return g->programs[i];
}

/* The first program to launch for the loads at hand, or NULL: the host does it all. */
static nm_program *pick(const nm_executor *ex, const exec_lane *lane, exec_group *g, uint32_t most)
{
    const nm_plan_layer *pl = ex->layers[lane->input.layer].plan;
    if (g->failed || most == 0 || !nm_plan_launch_pays(ex->o.plan, pl, g->plan, ex->loads))
        return NULL;
    return program_for(g, most);
}

static void add_pass(nm_executor *ex, exec_lane *lane, exec_group *g, nm_program *p, uint32_t from)
{
    exec_pass *pass = &lane->passes[lane->n_passes++];
    *pass = (exec_pass){.group = g, .program = p, .from = from, .slot = -1};
    for (uint32_t i = 0; i < g->plan->n_experts; i++) {
        const uint32_t e = g->plan->experts[i];
        const uint32_t rows = min_u32(ex->loads[i], p->capacity);
        pass->rows += rows;
        pass->overflow += from == 0 ? ex->loads[i] - rows : 0;
        if (rows > 0) /* of a further pass the others of the group have none left */
            lane->taken[e] = from + rows;
    }
    pass->us = nm_cost_launch(&ex->o.plan->cost, g->plan->n_experts, p->capacity);
}

static void assign_group(nm_executor *ex, exec_lane *lane, exec_group *g)
{
    nm_exec_counts *counts = &ex->layers[lane->input.layer].counts;
    uint32_t most = read_loads(ex, lane, g->plan, 0), from = 0;
    nm_program *p = pick(ex, lane, g, most);
    if (p == NULL) {
        counts->skipped += most > 0;
        return;
    }
    add_pass(ex, lane, g, p, 0);
    while (ex->o.plan->overflow == NM_OVERFLOW_REPASS && most > p->capacity) {
        from += p->capacity;
        most = read_loads(ex, lane, g->plan, from);
        p = program_for(g, most);
        add_pass(ex, lane, g, p, from);
    }
}

/* Rows that each expert has room for in the launches of this chunk, for the policies that change the
 * routing: the host's experts have any. Into ex->spare. */
static void read_capacities(nm_executor *ex, const exec_lane *lane)
{
    exec_layer *l = &ex->layers[lane->input.layer];
    for (uint32_t e = 0; e < ex->n_expert; e++)
        ex->spare[e] = UINT32_MAX;
    for (uint32_t i = 0; i < l->plan->n_groups; i++) {
        exec_group *g = &l->groups[i];
        const nm_program *p = pick(ex, lane, g, read_loads(ex, lane, g->plan, 0));
        for (uint32_t j = 0; p && j < g->plan->n_experts; j++)
            ex->spare[g->plan->experts[j]] = p->capacity;
    }
}

static void apply_policy(nm_executor *ex, exec_lane *lane)
{
    switch (ex->o.plan->overflow) {
    case NM_OVERFLOW_PRUNE:
        read_capacities(ex, lane);
        nm_exec_prune(ex, lane, ex->spare);
        break;
    case NM_OVERFLOW_REROUTE:
        read_capacities(ex, lane);
        nm_exec_reroute(ex, lane, ex->spare);
        break;
    case NM_OVERFLOW_SPILL:
    case NM_OVERFLOW_REPASS:
    case NM_OVERFLOW_END:
        break;
    }
}

bool nm_exec_part_pays(const nm_executor *ex, const exec_lane *lane, uint32_t layer,
                       nm_cost_part part, uint32_t rows)
{
    const nm_plan *plan = ex->o.plan;
    const exec_layer *l = &ex->layers[layer];
    const nm_program *p = l->part[part];
    if (p == NULL || l->part_failed[part] || rows == 0)
        return false;
    const bool all = rows == lane->chunk_rows;
    const nm_cost_short s = {
        .rows = rows, .capacity = p->capacity, .price = all ? ex->part_price : NM_COST_EVEN_PRICE};
    return rows >= plan->chunk || nm_cost_part_pays(&plan->cost, part, &s);
}

static void add_shared(nm_executor *ex, exec_lane *lane)
{
    exec_layer *l = &ex->layers[lane->input.layer];
    const uint32_t n = lane->input.n;
    if (!nm_exec_part_pays(ex, lane, lane->input.layer, NM_PART_SHARED, n) ||
        n > l->part[NM_PART_SHARED]->capacity)
        return;
    lane->passes[lane->n_passes++] =
        (exec_pass){.program = l->part[NM_PART_SHARED],
                    .rows = n,
                    .slot = -1,
                    .us = nm_curve_at(&ex->o.plan->cost.device_part[NM_PART_SHARED], n)};
}

void nm_exec_assign(nm_executor *ex, exec_lane *lane)
{
    exec_layer *l = &ex->layers[lane->input.layer];
    lane->n_passes = lane->submitted = lane->done = 0;
    lane->dispatch = *lane->input.dispatch;
    for (uint32_t e = 0; e < ex->n_expert; e++)
        lane->taken[e] = 0;
    if (l->plan == NULL)
        return;
    l->counts.chunks++;
    l->counts.pairs += (uint64_t)lane->input.n * lane->input.k;
    apply_policy(ex, lane);
    add_shared(ex, lane);
    for (uint32_t i = 0; i < l->plan->n_groups; i++)
        assign_group(ex, lane, &l->groups[i]);
}
