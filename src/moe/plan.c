/* plan.c: see plan.h: names, the invariants, and what planner and executor must agree on. */
#include "moe/plan.h"

#include "base/num.h"
#include "quant/quant.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *nm_plan_policy_name(nm_plan_policy p)
{
    static const char *const names[] = {"ours", "paper", "ladder", "naive", "cpu"};
    return p < NM_POLICY_END ? names[p] : NULL;
}

const char *nm_overflow_name(nm_overflow o)
{
    static const char *const names[] = {"spill", "repass", "prune", "reroute"};
    return o < NM_OVERFLOW_END ? names[o] : NULL;
}

const char *nm_objective_name(nm_objective o)
{
    static const char *const names[] = {"latency", "energy", "cpu"};
    return o < NM_OBJECTIVE_END ? names[o] : NULL;
}

void nm_plan_free(nm_plan **plan)
{
    nm_plan *p = *plan;
    *plan = NULL;
    if (!p)
        return;
    for (uint32_t i = 0; p->layers && i < p->n_layers; i++) {
        nm_plan_layer *l = &p->layers[i];
        for (uint32_t j = 0; l->groups && j < l->n_groups; j++)
            nm_free(p->allocator, l->groups[j].experts);
        nm_free(p->allocator, l->groups);
    }
    nm_free(p->allocator, p->layers);
    nm_free(p->allocator, p);
}

/* ---- what planner and executor agree on ------------------------------------------------------ */

uint32_t nm_plan_whole_layers(const nm_plan *p)
{
    const bool to_the_end = p->layers[p->n_layers - 1].layer + 1 == p->model.n_layer;
    return p->n_layers - (p->n_prompt > 0 && p->n_layers > 1 && to_the_end);
}

double nm_plan_attention(const nm_plan *plan, bool on_device, uint64_t n_past)
{
    const nm_cost *c = &plan->cost;
    const nm_curve *curve =
        on_device ? &c->device_part[NM_PART_ATTENTION] : &c->host_part[NM_PART_ATTENTION];
    return nm_curve_at(curve, (double)n_past + 1.0);
}

static uint32_t round_up(uint32_t n, uint32_t step)
{
    return (n + step - 1) / step * step;
}

uint32_t nm_plan_part_capacity(const nm_plan *plan, const nm_plan_layer *layer, nm_cost_part part,
                               uint32_t step)
{
    return layer->part_rows[part] ? layer->part_rows[part] : round_up(plan->chunk, step);
}

bool nm_plan_shares_part(const nm_plan *plan, nm_cost_part part)
{
    bool any = false;
    for (uint32_t i = 0; i < plan->n_layers; i++)
        any = any || plan->layers[i].part_rows[part] > 0;
    return any;
}

uint32_t nm_plan_group_programs(const nm_plan_group *g)
{
    return g->n_capacities;
}

uint64_t nm_plan_group_bytes(const nm_cost *cost, const nm_plan_group *g)
{
    return nm_cost_group_bytes(cost, g->n_experts, g->n_capacities);
}

bool nm_plan_count_layer(const nm_cost *cost, const nm_plan_layer *l, uint32_t *programs,
                         uint64_t *bytes)
{
    uint32_t n = 0;
    uint64_t sum = 0;
    for (uint32_t g = 0; g < l->n_groups; g++) {
        n += nm_plan_group_programs(&l->groups[g]);
        if (!nm_add_u64(sum, nm_plan_group_bytes(cost, &l->groups[g]), &sum))
            return false;
    }
    for (int p = 0; p < NM_COST_PARTS; p++)
        if (l->on_device[p]) {
            n += p != NM_PART_ATTENTION;
            if (!nm_add_u64(sum, cost->device.part_bytes[p], &sum))
                return false;
        }
    *programs = n;
    *bytes = sum;
    return true;
}

static uint32_t busiest(const nm_plan_group *g, const uint32_t *load)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < g->n_experts; i++)
        most = load[i] > most ? load[i] : most;
    return most;
}

/* The same sums as planner_sim.c's nm_planner_look(), and nm_planner_launches(). */
bool nm_plan_launch_pays(const nm_plan *plan, const nm_plan_layer *layer, const nm_plan_group *g,
                         const uint32_t *load)
{
    const nm_cost *c = &plan->cost;
    const uint32_t most = busiest(g, load);
    const bool lossy = nm_overflow_is_lossy(plan->overflow);
    double device = 0.0, host = 0.0, alone = 0.0;
    uint32_t done = 0;
    if (most == 0 || layer->price < 0.0)
        return most > 0;
    while (done < most && (done == 0 || plan->overflow == NM_OVERFLOW_REPASS)) {
        const uint32_t capacity = g->capacities[nm_plan_pick(g, most - done)];
        uint32_t rows = 0;
        for (uint32_t i = 0; i < g->n_experts; i++) {
            const uint32_t left = load[i] > done ? load[i] - done : 0;
            rows += left < capacity ? left : capacity;
        }
        device += nm_cost_launch(c, g->n_experts, capacity);
        host += c->launch_host_us + nm_curve_at(&c->gather, rows) + nm_curve_at(&c->scatter, rows);
        done += capacity;
    }
    for (uint32_t i = 0; i < g->n_experts; i++) {
        alone += nm_curve_at(&c->host_expert, load[i]);
        if (load[i] > done && !lossy)
            host += nm_curve_at(&c->host_expert, load[i] - done);
    }
    return layer->price * device + (1.0 - layer->price) * host < (1.0 - layer->price) * alone;
}

/* ---- invariants ----------------------------------------------------------------------------- */

typedef struct where {
    npumoe_error *err;
    uint32_t layer;
    long group;
} where;

static npumoe_status bad(const where *w, const char *what, double found, const char *expected,
                         double limit)
{
    if (w->group < 0)
        return nm_err_set(w->err, NPUMOE_EFORMAT,
                          "plan: layer %u: %s: found %.10g, expected %s%.10g", w->layer, what,
                          found, expected, limit);
    return nm_err_set(w->err, NPUMOE_EFORMAT,
                      "plan: layer %u, group %ld: %s: found %.10g, expected %s%.10g", w->layer,
                      w->group, what, found, expected, limit);
}

static npumoe_status check_capacities(const nm_plan *plan, const nm_plan_group *g, const where *w)
{
    const nm_cost_device *d = &plan->cost.device;
    const uint32_t step = d->capacity_multiple;
    const uint64_t chunk = ((uint64_t)plan->chunk + step - 1) / step * step;
    const double most = chunk < d->capacity_max ? (double)chunk : (double)d->capacity_max;
    if (g->n_capacities < 1 || g->n_capacities > NM_PLAN_MAX_CAPACITIES)
        return bad(w, "capacities", g->n_capacities, "1 to ", NM_PLAN_MAX_CAPACITIES);
    for (uint32_t i = 0; i < g->n_capacities; i++) {
        const uint32_t c = g->capacities[i];
        if (c < d->capacity_min)
            return bad(w, "capacity", c, "at least ", d->capacity_min);
        if (c > most)
            return bad(w, "capacity", c, "at most ", most);
        if (c % step != 0)
            return bad(w, "capacity", c, "a multiple of ", step);
        if (i > 0 && c <= g->capacities[i - 1])
            return bad(w, "capacity", c, "more than the one before, ", g->capacities[i - 1]);
    }
    if (g->n_capacities > 1 && nm_overflow_is_lossy(plan->overflow))
        return bad(w, "capacities with a policy that drops rows", g->n_capacities, "", 1);
    return NPUMOE_OK;
}

/* seen[n_expert]: in a group of this layer already. */
static npumoe_status check_group(const nm_plan *plan, const nm_plan_group *g, uint8_t *seen,
                                 const where *w)
{
    const uint32_t n_expert = plan->model.geometry.n_expert;
    const double numbers[] = {g->launches, g->rows,      g->padding,
                              g->overflow, g->device_us, g->host_saved_us};
    if (g->n_experts < 1 || g->n_experts > plan->max_group)
        return bad(w, "experts", g->n_experts, "1 to ", plan->max_group);
    for (uint32_t i = 0; i < g->n_experts; i++) {
        if (g->experts[i] >= n_expert)
            return bad(w, "expert", g->experts[i], "less than ", n_expert);
        if (seen[g->experts[i]]++)
            return bad(w, "groups that have an expert", 2, "", 1);
    }
    NM_TRY(check_capacities(plan, g, w));
    if (nm_cost_group_bytes(&plan->cost, g->n_experts, 1) > plan->cost.device.program_bytes)
        return bad(w, "bytes of a program",
                   (double)nm_cost_group_bytes(&plan->cost, g->n_experts, 1), "at most ",
                   (double)plan->cost.device.program_bytes);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (!isfinite(numbers[i]) || numbers[i] < 0.0)
            return bad(w, "a prediction", numbers[i], "at least ", 0);
    return NPUMOE_OK;
}

/* Different capacities of a layer. */
static uint32_t count_tiers(const nm_plan_layer *l)
{
    uint32_t tiers[NM_PLAN_MAX_CAPACITIES + 1], n = 0;
    for (uint32_t i = 0; i < l->n_groups; i++)
        for (uint32_t j = 0; j < l->groups[i].n_capacities; j++) {
            const uint32_t c = l->groups[i].capacities[j];
            uint32_t t = 0;
            while (t < n && tiers[t] != c)
                t++;
            if (t == n && n <= NM_PLAN_MAX_CAPACITIES)
                tiers[n++] = c;
        }
    return n;
}

/* Fewer than all: all of them are said by saying nothing. */
static npumoe_status check_rows(const nm_plan *plan, const nm_plan_layer *l, nm_cost_part part,
                                const where *w)
{
    const nm_cost_device *d = &plan->cost.device;
    const uint32_t rows = l->part_rows[part], all = round_up(plan->chunk, d->capacity_multiple);
    char what[64];
    snprintf(what, sizeof what, "rows of %s", nm_cost_part_name(part));
    if (rows == 0)
        return NPUMOE_OK;
    if (part != NM_PART_QKV && part != NM_PART_O)
        return bad(w, what, rows, "none, as it is not shared: ", 0);
    if (!l->on_device[part])
        return bad(w, what, rows, "none, as it is the host's: ", 0);
    if (rows < d->capacity_min)
        return bad(w, what, rows, "at least ", d->capacity_min);
    if (rows > d->capacity_max)
        return bad(w, what, rows, "at most ", d->capacity_max);
    if (rows % d->capacity_multiple != 0)
        return bad(w, what, rows, "a multiple of ", d->capacity_multiple);
    return rows < all ? NPUMOE_OK : bad(w, what, rows, "less than ", all);
}

static npumoe_status check_layer(const nm_plan *plan, uint32_t i, uint8_t *seen, uint64_t *programs,
                                 uint64_t *bytes, npumoe_error *err)
{
    const nm_plan_layer *l = &plan->layers[i];
    const nm_cost_device *d = &plan->cost.device;
    where w = {err, l->layer, -1};
    uint32_t layer_programs;
    uint64_t layer_bytes;
    if (l->layer >= plan->model.n_layer)
        return bad(&w, "number of the layer", l->layer, "less than ", plan->model.n_layer);
    if (i > 0 && l->layer <= plan->layers[i - 1].layer)
        return bad(&w, "number of the layer", l->layer, "more than ", plan->layers[i - 1].layer);
    memset(seen, 0, plan->model.geometry.n_expert);
    for (uint32_t g = 0; g < l->n_groups; g++) {
        w.group = (long)g;
        NM_TRY(check_group(plan, &l->groups[g], seen, &w));
    }
    w.group = -1;
    for (int p = 0; p < NM_COST_PARTS; p++) {
        NM_TRY(check_rows(plan, l, (nm_cost_part)p, &w));
        if (!l->on_device[p])
            continue;
        if (plan->cost.device_part[p].n == 0)
            return nm_err_set(err, NPUMOE_EFORMAT,
                              "plan: layer %u: %s on the device, but cost.device_%s has no points",
                              l->layer, nm_cost_part_name((nm_cost_part)p),
                              nm_cost_part_name((nm_cost_part)p));
    }
    if (!nm_plan_count_layer(&plan->cost, l, &layer_programs, &layer_bytes) ||
        !nm_add_u64(*bytes, layer_bytes, bytes))
        return bad(&w, "bytes", HUGE_VAL, "at most ", (double)d->total_bytes);
    *programs += layer_programs;
    /* Groups of several capacities each have those of their own loads. */
    if (plan->policy == NM_POLICY_OURS && plan->max_capacities == 1 &&
        count_tiers(l) > plan->n_tiers)
        return bad(&w, "different capacities", count_tiers(l), "at most ", plan->n_tiers);
    if (!(l->price <= 1.0))
        return bad(&w, "price", l->price, "at most ", 1);
    if (d->slots == 0 && l->n_groups > 0)
        return bad(&w, "groups on a device without programs", l->n_groups, "", 0);
    return NPUMOE_OK;
}

/* Programs of attention that the layers ask for, which are programs of whole chunks. */
static npumoe_status check_attention(const nm_plan *plan, npumoe_error *err)
{
    const nm_cost_device *d = &plan->cost.device;
    bool any = false;
    for (uint32_t i = 0; i < plan->n_layers; i++)
        any = any || plan->layers[i].on_device[NM_PART_ATTENTION];
    if (any != (plan->attention_chunks > 0))
        return nm_err_set(err, NPUMOE_EFORMAT,
                          "plan: attention_chunks: found %u, but %s layer has attention on the "
                          "device",
                          plan->attention_chunks, any ? "a" : "no");
    if (any && !d->has_attention)
        return nm_err_set(
            err, NPUMOE_EFORMAT,
            "plan: attention on the device, but cost.device.has_attention is not true");
    if (any && (plan->chunk < d->capacity_min || plan->chunk > d->capacity_max ||
                plan->chunk % d->capacity_multiple != 0))
        return nm_err_set(
            err, NPUMOE_EFORMAT,
            "plan: attention on the device: found chunks of %u, expected multiples of "
            "%u from %u to %u",
            plan->chunk, d->capacity_multiple, d->capacity_min, d->capacity_max);
    return NPUMOE_OK;
}

/* A file takes no more. */
static npumoe_status check_times(const nm_plan *plan, npumoe_error *err)
{
    const double us[] = {plan->predicted.us, plan->cpu_only.us, plan->bound_us};
    /* That it is not below the bound is not asked: figures may be of other loads than that was made for, and a walk through
     * prompts of a few chunks meets some scenarios more often than others. */
    if (!(us[0] > 0.0) || !(us[1] > 0.0))
        return nm_err_set(err, NPUMOE_EFORMAT,
                          "plan: %s: found %.3g us, expected more than 0: a chunk takes some time",
                          us[0] > 0.0 ? "cpu_only" : "predicted", us[0] > 0.0 ? us[1] : us[0]);
    for (size_t i = 0; i < sizeof us / sizeof us[0]; i++)
        if (!(us[i] >= 0.0 && us[i] <= NM_PLAN_MOST_US))
            return nm_err_set(err, NPUMOE_EFORMAT,
                              "plan: a prediction: found %.3g us, expected at most %.3g: are the "
                              "costs right?",
                              us[i], NM_PLAN_MOST_US);
    return NPUMOE_OK;
}

npumoe_status nm_plan_check(const nm_plan *plan, npumoe_error *err)
{
    const nm_cost_device *d = &plan->cost.device;
    uint64_t programs = 0, bytes = 0;
    if (plan->chunk < 1 || plan->chunk > NM_PLAN_MAX_CHUNK)
        return nm_err_set(err, NPUMOE_EFORMAT, "plan: chunk: found %u, expected 1 to %u",
                          plan->chunk, NM_PLAN_MAX_CHUNK);
    if (plan->n_layers == 0)
        return nm_err_set(err, NPUMOE_EFORMAT, "plan: layers: found none, expected at least 1");
    if (plan->host_limit > 0.0 && (plan->policy != NM_POLICY_OURS || plan->n_prompt == 0 ||
                                   plan->objective != NM_OBJECTIVE_LATENCY))
        return nm_err_set(
            err, NPUMOE_EFORMAT,
            "plan: host_limit: found %g with policy %s, objective %s and a prompt of %u "
            "tokens, expected policy ours, objective latency and a prompt",
            plan->host_limit, nm_plan_policy_name(plan->policy), nm_objective_name(plan->objective),
            plan->n_prompt);
    NM_TRY(check_attention(plan, err));
    NM_TRY(check_times(plan, err));
    programs = plan->attention_chunks;
    uint8_t *seen = nm_alloc(plan->allocator, plan->model.geometry.n_expert);
    if (!seen)
        return nm_err_nomem(err, plan->model.geometry.n_expert, "checking a plan");
    npumoe_status st = NPUMOE_OK;
    for (uint32_t i = 0; i < plan->n_layers && st == NPUMOE_OK; i++)
        st = check_layer(plan, i, seen, &programs, &bytes, err);
    nm_free(plan->allocator, seen);
    NM_TRY(st);
    if (programs > d->slots)
        return nm_err_set(err, NPUMOE_EFORMAT,
                          "plan: programs: found %llu, expected at most %u, the device's slots",
                          (unsigned long long)programs, d->slots);
    if (bytes > d->total_bytes)
        return nm_err_set(err, NPUMOE_EFORMAT,
                          "plan: bytes on the device: found %llu, expected at most %llu",
                          (unsigned long long)bytes, (unsigned long long)d->total_bytes);
    if (programs != plan->programs || bytes != plan->bytes)
        return nm_err_set(err, NPUMOE_EFORMAT,
                          "plan: it says %u programs and %llu bytes, its groups make %llu and %llu",
                          plan->programs, (unsigned long long)plan->bytes,
                          (unsigned long long)programs, (unsigned long long)bytes);
    return NPUMOE_OK;
}

/* ---- for this model? ------------------------------------------------------------------------ */

static npumoe_status geometry_fits(const nm_cost_geometry *found, const nm_cost_geometry *expected,
                                   npumoe_error *err)
{
    const struct {
        const char *what;
        uint32_t found, expected;
    } numbers[] = {
        {"width", found->n_embd, expected->n_embd},
        {"expert width", found->n_ff, expected->n_ff},
        {"shared expert width", found->n_ff_shared, expected->n_ff_shared},
        {"number of experts", found->n_expert, expected->n_expert},
        {"experts per token", found->n_expert_used, expected->n_expert_used},
    };
    static const char *const which[] = {"gate", "up", "down"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i].found != numbers[i].expected)
            return nm_err_set(err, NPUMOE_EMODEL,
                              "plan: it is for another model: %s: found %u, expected %u",
                              numbers[i].what, numbers[i].found, numbers[i].expected);
    for (int i = 0; i < 3; i++)
        if (found->type[i] != expected->type[i])
            return nm_err_set(
                err, NPUMOE_EMODEL,
                "plan: it is for another quantisation: %s weights: found %s, expected "
                "%s; make a plan with the same profile and --types of this file",
                which[i], nm_type_get(found->type[i])->name, nm_type_get(expected->type[i])->name);
    return NPUMOE_OK;
}

static bool has_capacity(const nm_cost_device *d, uint32_t rows)
{
    return rows >= d->capacity_min && rows <= d->capacity_max && rows % d->capacity_multiple == 0;
}

static npumoe_status no_capacity(const nm_cost_device *d, uint32_t layer, const char *what,
                                 uint32_t rows, npumoe_error *err)
{
    return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                      "plan: layer %u, %s has capacity %u, but the device allows multiples of %u "
                      "from %u to %u",
                      layer, what, rows, d->capacity_multiple, d->capacity_min, d->capacity_max);
}

static npumoe_status layer_fits(const nm_plan_layer *l, const nm_cost_device *d, npumoe_error *err)
{
    char what[48];
    for (uint32_t g = 0; g < l->n_groups; g++)
        for (uint32_t i = 0; i < l->groups[g].n_capacities; i++) {
            snprintf(what, sizeof what, "group %u", g);
            if (!has_capacity(d, l->groups[g].capacities[i]))
                return no_capacity(d, l->layer, what, l->groups[g].capacities[i], err);
        }
    for (int p = 0; p < NM_COST_PARTS; p++)
        if (l->part_rows[p] > 0 && !has_capacity(d, l->part_rows[p]))
            return no_capacity(d, l->layer, nm_cost_part_name((nm_cost_part)p), l->part_rows[p],
                               err);
    return NPUMOE_OK;
}

static npumoe_status device_fits(const nm_plan *plan, const nm_cost_device *have, npumoe_error *err)
{
    const nm_cost_device *want = &plan->cost.device;
    if (strcmp(want->name, have->name) != 0)
        return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                          "plan: it is for device %s, but the device is %s", want->name,
                          have->name);
    if (want->weights[0] && have->weights[0] && strcmp(want->weights, have->weights) != 0)
        return nm_err_set(
            err, NPUMOE_EUNSUPPORTED,
            "plan: times and bytes are those of a device that keeps weights as '%s', but "
            "the device keeps them as '%s'; make it with '%s' or plan again",
            want->weights, have->weights, want->weights);
    for (uint32_t l = 0; l < plan->n_layers; l++)
        NM_TRY(layer_fits(&plan->layers[l], have, err));
    return NPUMOE_OK;
}

npumoe_status nm_plan_fits(const nm_plan *plan, const nm_plan_model *model,
                           const nm_cost_device *device, uint32_t chunk, npumoe_error *err)
{
    const nm_plan_model *m = &plan->model;
    if (strcmp(m->architecture, model->architecture) != 0 || m->n_layer != model->n_layer)
        return nm_err_set(
            err, NPUMOE_EMODEL,
            "plan: it is for another model: found %s of %u layers (%s), expected %s of "
            "%u (%s)",
            m->architecture, m->n_layer, m->name, model->architecture, model->n_layer, model->name);
    NM_TRY(geometry_fits(&m->geometry, &model->geometry, err));
    if (m->router_hash != model->router_hash)
        return nm_err_set(err, NPUMOE_EMODEL,
                          "plan: it is for another model: routers %016llx (%s), expected %016llx "
                          "(%s); loads of one model say nothing about another",
                          (unsigned long long)m->router_hash, m->name,
                          (unsigned long long)model->router_hash, model->name);
    if (device)
        NM_TRY(device_fits(plan, device, err));
    if (chunk > plan->chunk)
        return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                          "plan: it is for chunks of %u tokens, but the chunk is %u; use -ub %u or "
                          "plan again with --chunk %u",
                          plan->chunk, chunk, plan->chunk, chunk);
    return NPUMOE_OK;
}
