/* exec_replace.c: another plan for an executor, with the programs that both plans have.
 *
 * A new executor is made beside the old one. Programs that stay change hands, the others of the old one
 * are unloaded but not freed, then the new ones are loaded. Should that fail, everything goes back and
 * what was unloaded is loaded again: its weights are where they were, and its place is free again.
 *
 * A group stays if the other plan has one with the same experts, in any order, and the capacities that both
 * have stay of it. Where programs share weights, the largest owns them and is freed last, so there a group
 * stays only if its largest capacity does. A part stays if the other plan has it with as many rows. */
#include "moe/executor_priv.h"

#include <inttypes.h>

/* ---- what both have --------------------------------------------------------------------------- */

static bool has_expert(const nm_plan_group *g, uint32_t expert)
{
    for (uint32_t i = 0; i < g->n_experts; i++)
        if (g->experts[i] == expert)
            return true;
    return false;
}

static bool same_experts(const nm_plan_group *a, const nm_plan_group *b)
{
    bool same = a->n_experts == b->n_experts;
    for (uint32_t i = 0; same && i < a->n_experts; i++)
        same = has_expert(b, a->experts[i]);
    return same;
}

static uint32_t largest(const nm_plan_group *g)
{
    return g->capacities[g->n_capacities - 1];
}

/* The group of this executor that may go on as g, or NULL. */
static exec_group *find_group(const nm_executor *ex, uint32_t layer, const nm_plan_group *g)
{
    const exec_layer *l = &ex->layers[layer];
    for (uint32_t i = 0; l->plan && i < l->plan->n_groups; i++) {
        exec_group *found = &l->groups[i];
        if (same_experts(found->plan, g))
            return found->failed ||
                           (ex->o.npu->caps.shares_weights && largest(found->plan) != largest(g))
                       ? NULL
                       : found;
    }
    return NULL;
}

/* Where an old group keeps its program of that capacity; NULL: it has none. */
static nm_program **program_of(exec_group *g, uint32_t capacity)
{
    for (uint32_t i = 0; i < g->plan->n_capacities; i++)
        if (g->plan->capacities[i] == capacity && g->programs[i])
            return &g->programs[i];
    return NULL;
}

/* Whether the old program of a part is the one that the other plan wants there. */
static bool part_stays(const nm_executor *old, const nm_plan *next, const nm_plan_layer *l,
                       nm_cost_part part)
{
    const exec_layer *from = &old->layers[l->layer];
    const nm_program *p = from->part[part];
    return l->on_device[part] && p && !from->part_failed[part] &&
           p->capacity == nm_exec_part_capacity(old, next, l, part);
}

/* ---- counting --------------------------------------------------------------------------------- */

static uint64_t group_bytes(const nm_cost *c, const nm_plan_group *g, uint32_t n_programs)
{
    return n_programs ? nm_cost_group_bytes(c, g->n_experts, n_programs) : 0;
}

/* Programs of g that ex has; with weights shared, bytes come and go with the first. */
static void compare_group(const nm_executor *ex, uint32_t layer, const nm_plan_group *g,
                          nm_exec_change *c)
{
    const bool shares = ex->o.npu->caps.shares_weights;
    exec_group *old = find_group(ex, layer, g);
    uint32_t kept = 0;
    for (uint32_t i = 0; old && i < g->n_capacities; i++)
        kept += program_of(old, g->capacities[i]) != NULL;
    c->kept += kept;
    c->loaded += g->n_capacities - kept;
    c->loaded_bytes +=
        shares && kept > 0 ? 0 : group_bytes(&ex->o.plan->cost, g, g->n_capacities - kept);
}

static void compare_parts(const nm_executor *ex, const nm_plan *next, const nm_plan_layer *l,
                          nm_exec_change *c)
{
    for (int i = 0; i < NM_COST_PARTS; i++) {
        if (i == NM_PART_ATTENTION || !l->on_device[i])
            continue;
        const bool stays = part_stays(ex, next, l, (nm_cost_part)i);
        c->kept += stays;
        c->loaded += !stays;
        c->loaded_bytes += stays ? 0 : ex->o.plan->cost.device.part_bytes[i];
    }
}

/* Attention programs do not depend on the plan, but for their number. */
static uint32_t common_attention(const nm_executor *ex, const nm_plan *next)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < ex->n_attention && i < next->attention_chunks; i++)
        n += ex->attention[i] != NULL;
    return n;
}

nm_exec_change nm_executor_compare(const nm_executor *ex, const nm_plan *next)
{
    nm_exec_change c = {0};
    for (uint32_t i = 0; i < next->n_layers; i++) {
        const nm_plan_layer *l = &next->layers[i];
        for (uint32_t g = 0; g < l->n_groups; g++)
            compare_group(ex, l->layer, &l->groups[g], &c);
        compare_parts(ex, next, l, &c);
    }
    const uint32_t attention = common_attention(ex, next);
    c.kept += attention;
    c.loaded += next->attention_chunks - attention;
    const uint64_t stays = next->bytes > c.loaded_bytes ? next->bytes - c.loaded_bytes : 0;
    c.unloaded = ex->loaded > c.kept ? ex->loaded - c.kept : 0;
    c.unloaded_bytes = ex->o.plan->bytes > stays ? ex->o.plan->bytes - stays : 0;
    return c;
}

/* ---- changing hands --------------------------------------------------------------------------- */

/* The order of slices that the program has. */
static void keep_order(nm_plan_group *to, const nm_plan_group *from)
{
    for (uint32_t i = 0; i < to->n_experts; i++)
        to->experts[i] = from->experts[i];
}

static void move(nm_program **from, nm_program **to)
{
    *to = *from;
    *from = NULL;
}

static void take_programs(nm_executor *ex, nm_executor *old, nm_plan *next)
{
    for (uint32_t i = 0; i < ex->n_attention && i < old->n_attention; i++) {
        move(&old->attention[i], &ex->attention[i]);
        ex->attention_kept[i] = ex->attention[i] != NULL;
        ex->loaded += ex->attention_kept[i];
    }
    for (uint32_t i = 0; i < next->n_layers; i++) {
        nm_plan_layer *pl = &next->layers[i];
        exec_layer *to = &ex->layers[pl->layer], *from = &old->layers[pl->layer];
        for (uint32_t g = 0; g < pl->n_groups; g++) {
            exec_group *group = &to->groups[g];
            group->kept_from = find_group(old, pl->layer, &pl->groups[g]);
            for (uint32_t c = 0; group->kept_from && c < pl->groups[g].n_capacities; c++) {
                nm_program **p = program_of(group->kept_from, pl->groups[g].capacities[c]);
                ex->loaded += p != NULL;
                group->kept[c] = p != NULL;
                if (p)
                    move(p, &group->programs[c]);
            }
            if (group->kept_from)
                keep_order(&pl->groups[g], group->kept_from->plan);
        }
        for (int part = 0; part < NM_COST_PARTS; part++)
            if (part_stays(old, next, pl, (nm_cost_part)part)) {
                move(&from->part[part], &to->part[part]);
                to->part_kept[part] = true;
                ex->loaded++;
            }
    }
}

/* What was taken. What is new stays here to be freed, though the old plan may have room for it where a program of its own did not
 * work: the old buffers are for those that did. */
static void give_back(nm_executor *ex, nm_executor *old)
{
    const nm_plan *plan = ex->o.plan;
    for (uint32_t i = 0; i < ex->n_attention && i < old->n_attention; i++)
        if (ex->attention_kept[i])
            move(&ex->attention[i], &old->attention[i]);
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        exec_layer *l = &ex->layers[plan->layers[i].layer];
        exec_layer *home = &old->layers[plan->layers[i].layer];
        for (uint32_t g = 0; g < l->plan->n_groups; g++) {
            exec_group *group = &l->groups[g], *to = group->kept_from;
            for (uint32_t c = 0; to && c < to->plan->n_capacities; c++)
                for (uint32_t j = 0; j < group->plan->n_capacities; j++)
                    if (group->kept[j] && group->plan->capacities[j] == to->plan->capacities[c])
                        move(&group->programs[j], &to->programs[c]);
        }
        for (int part = 0; part < NM_COST_PARTS; part++)
            if (l->part_kept[part])
                move(&l->part[part], &home->part[part]);
    }
}

/* ---- loading ---------------------------------------------------------------------------------- */

/* Those that use others' weights first: from the smallest capacity up. */
static void unload_rest(nm_executor *ex)
{
    for (uint32_t i = 0; i < ex->n_attention; i++)
        if (ex->attention[i])
            nm_npu_unload(ex->o.npu, ex->attention[i]);
    for (uint32_t i = 0; i < ex->n_layer; i++) {
        exec_layer *l = &ex->layers[i];
        for (uint32_t g = 0; l->plan && g < l->plan->n_groups; g++)
            for (uint32_t c = 0; c < NM_PLAN_MAX_CAPACITIES; c++)
                if (l->groups[g].programs[c])
                    nm_npu_unload(ex->o.npu, l->groups[g].programs[c]);
        for (int part = 0; part < NM_COST_PARTS; part++)
            if (l->part[part])
                nm_npu_unload(ex->o.npu, l->part[part]);
    }
}

static void load_group_again(nm_executor *ex, uint32_t layer, exec_group *g)
{
    npumoe_error why;
    for (uint32_t c = NM_PLAN_MAX_CAPACITIES; c-- > 0;)
        if (g->programs[c] && nm_npu_load(ex->o.npu, g->programs[c], &why) != NPUMOE_OK)
            nm_exec_group_failed(ex, layer, g, &why);
}

static void load_again(nm_executor *ex)
{
    npumoe_error why;
    for (uint32_t i = 0; i < ex->n_attention; i++)
        if (ex->attention[i] && nm_npu_load(ex->o.npu, ex->attention[i], &why) != NPUMOE_OK)
            nm_npu_program_free(ex->o.npu, &ex->attention[i]); /* the host attends there */
    for (uint32_t i = 0; i < ex->n_layer; i++) {
        exec_layer *l = &ex->layers[i];
        for (uint32_t g = 0; l->plan && g < l->plan->n_groups; g++)
            load_group_again(ex, i, &l->groups[g]);
        for (int part = 0; part < NM_COST_PARTS; part++)
            if (l->part[part] && nm_npu_load(ex->o.npu, l->part[part], &why) != NPUMOE_OK)
                nm_exec_part_failed(ex, i, (nm_cost_part)part, &why);
    }
}

npumoe_status nm_executor_replace(nm_executor **executor, nm_plan *next, nm_exec_change *change,
                                  npumoe_error *err)
{
    nm_executor *old = *executor, *ex;
    nm_executor_options o = old->o;
    o.plan = next;
    o.require = true;
    *change = nm_executor_compare(old, next);
    NM_TRY(nm_exec_create(old->allocator, &o, &ex, err));
    take_programs(ex, old, next);
    unload_rest(old);
    npumoe_status st = nm_exec_bring(ex, err);
    if (st == NPUMOE_OK)
        st = nm_exec_complete(ex, err);
    if (st != NPUMOE_OK) {
        give_back(ex, old);
        nm_executor_free(&ex);
        load_again(old);
        return st;
    }
    ex->o.require = old->o.require;
    nm_executor_free(&old);
    *executor = ex;
    return NPUMOE_OK;
}
