/* planner_layers.c: the tables that all layers share, the layers with their ways, and what becomes of a way
 * that is taken. */
#include "moe/planner_priv.h"

#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PER_OCTAVE = 8, /* allowed capacities between one power of two of the multiple and the next */
    ENDLESS = 8,    /* chunks to have attention programs for, of an endless row */
    MANY_TOKENS = 32768,
    SLOTS_SHARE = 8
};

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

/* Whether the device could attend at all. */
static bool can_attend(const nm_planner *p)
{
    const nm_cost_device *d = &p->cost->device;
    const nm_planner_options *o = &p->options;
    const uint32_t t = p->loads->chunk;
    return o->policy == NM_POLICY_OURS && !o->no_parts && !o->all_experts && d->has_attention &&
           p->cost->device_part[NM_PART_ATTENTION].n > 0 && t % d->capacity_multiple == 0 &&
           t >= d->capacity_min && t <= d->capacity_max && d->slots > 0;
}

/* Chunks that there are. */
static uint32_t all_chunks(const nm_planner *p)
{
    const nm_planner_options *o = &p->options;
    const uint32_t t = p->loads->chunk;
    const uint64_t tokens = (uint64_t)o->n_past + (o->n_prompt ? o->n_prompt : ENDLESS * t);
    const uint64_t n = (tokens - 1) / t + 1;
    return n < NM_PLAN_MAX_ATTENTION ? (uint32_t)n : NM_PLAN_MAX_ATTENTION;
}

static uint32_t at_most(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Chunks whose attention would have a program: those of the prompt, of a device that can have any number of them
 * many more; the first ones only, if they took more than a share of the slots. */
static uint32_t attention_chunks(const nm_planner *p)
{
    const uint32_t slots = p->cost->device.slots, asked = p->options.attention_chunks;
    const uint32_t many = (MANY_TOKENS - 1) / p->loads->chunk + 1;
    uint32_t n = all_chunks(p);
    if (!can_attend(p) || asked == NM_PLANNER_NO_ATTENTION)
        return 0;
    if (asked > 0)
        return asked;
    if (slots == UINT32_MAX && n < many)
        n = at_most(many, NM_PLAN_MAX_ATTENTION);
    return at_most(n, slots / SLOTS_SHARE);
}

uint32_t nm_planner_attention_choices(const nm_planner *p, uint32_t chunks[NM_PLANNER_CHOICES])
{
    const uint32_t slots = p->cost->device.slots, all = all_chunks(p);
    const uint32_t some[] = {at_most(all, slots / 2), at_most(all, slots)};
    uint32_t n = 0, before = p->attention_chunks;
    if (!can_attend(p) || slots == UINT32_MAX || p->options.attention_chunks > 0)
        return 0;
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++)
        if (some[i] > before)
            before = chunks[n++] = some[i];
    if (p->attention_chunks * 2u * SLOTS_SHARE >= slots) /* or else they cost next to nothing */
        chunks[n++] = NM_PLANNER_NO_ATTENTION;
    return n;
}

/* Whether there is a program for it. */
static bool has_attention(const nm_planner *p, uint32_t chunk)
{
    return p->options.n_past / p->loads->chunk + chunk < p->attention_chunks;
}

static uint64_t past_of(const nm_planner *p, uint32_t chunk)
{
    return p->options.n_past + (uint64_t)chunk * p->loads->chunk;
}

bool nm_planner_part_is_there(const nm_planner *p, const nm_way *w, nm_cost_part part,
                              uint32_t chunk)
{
    const uint32_t t = p->loads->chunk, shared = nm_planner_shared_rows(p, w, part);
    const uint32_t step = p->cost->device.capacity_multiple;
    if ((w->parts & 1u << part) == 0 || (part == NM_PART_ATTENTION && !has_attention(p, chunk)))
        return false;
    const nm_cost_short s = {.rows = p->rows,
                             .capacity = shared ? shared : (t + step - 1) / step * step,
                             .n_past = past_of(p, chunk),
                             .price = p->part_price};
    return p->rows == t || nm_cost_part_pays(p->cost, part, &s);
}

/* Of so many rows at the chunk's position; measured with its own number of queries. */
static double attention_at(const nm_planner *p, const nm_curve *curve, uint32_t rows,
                           uint32_t chunk)
{
    return (double)rows / p->cost->chunk * nm_curve_at(curve, (double)past_of(p, chunk) + 1.0);
}

double nm_planner_part_beside(const nm_planner *p, nm_cost_part part)
{
    static const nm_cost_work work[NM_COST_PARTS] = {
        [NM_PART_QKV] = NM_WORK_DENSE,
        [NM_PART_ATTENTION] = NM_WORK_ATTENTION,
        [NM_PART_O] = NM_WORK_DENSE,
        [NM_PART_SHARED] = NM_WORK_EXPERTS,
    };
    return p->beside[work[part]];
}

double nm_planner_part_host_us(const nm_planner *p, nm_cost_part part, uint32_t chunk)
{
    return part == NM_PART_ATTENTION ? attention_at(p, &p->cost->host_part[part], p->rows, chunk)
                                     : p->part_host_us[part];
}

double nm_planner_part_device_us(const nm_planner *p, nm_cost_part part, uint32_t chunk)
{
    return part == NM_PART_ATTENTION
               ? p->cost->launch_us +
                     attention_at(p, &p->cost->device_part[part], p->loads->chunk, chunk)
               : p->part_device_us[part];
}

double nm_planner_chunk_share(const nm_planner *p, uint32_t chunk)
{
    const double t = p->loads->chunk, tokens = p->n_chunks ? p->options.n_prompt : t;
    return fmin(t, tokens - chunk * t) / tokens;
}

/* The mean over the prompt, for as many rows as a whole chunk has: a short one counts less. Chunks without a program stay
 * the host's. */
static void fill_attention(nm_planner *p)
{
    const nm_cost_part part = NM_PART_ATTENTION;
    const uint32_t n = p->n_chunks ? p->n_chunks : 1;
    p->attends = can_attend(p) && p->n_grid > 0;
    p->attention_chunks = attention_chunks(p);
    if (p->cost->device.slots != UINT32_MAX)
        p->slots -= p->attention_chunks;
    p->part_exists[part] = true;
    p->part_possible[part] = p->n_grid > 0 && p->attention_chunks > 0;
    for (uint32_t i = 0; i < n; i++) {
        const double share = nm_planner_chunk_share(p, i);
        const double host = nm_planner_part_host_us(p, part, i) * share;
        p->part_host_us[part] += host;
        p->part_move_us[part] += has_attention(p, i) ? p->cost->launch_host_us * share : host;
        p->part_device_us[part] +=
            has_attention(p, i) ? nm_planner_part_device_us(p, part, i) * share : 0.0;
    }
}

static void fill_parts(nm_planner *p)
{
    const nm_cost *c = p->cost;
    const uint32_t t = p->loads->chunk, rows = p->rows;
    p->layer_us = nm_curve_at(&c->host_layer, rows);
    p->slots = c->device.slots;
    fill_attention(p);
    for (int i = 0; i < NM_COST_PARTS; i++) {
        if (i == NM_PART_ATTENTION)
            continue;
        p->part_exists[i] =
            c->host_part[i].n > 0 && (i != NM_PART_SHARED || c->geometry.n_ff_shared > 0);
        if (!p->part_exists[i])
            continue;
        p->part_host_us[i] = nm_curve_at(&c->host_part[i], rows);
        p->part_possible[i] = p->n_grid > 0 && c->device_part[i].n > 0 && c->device.has_linear &&
                              c->device.part_bytes[i] <= c->device.program_bytes &&
                              p->options.policy == NM_POLICY_OURS;
        p->part_device_us[i] = c->launch_us + nm_curve_at(&c->device_part[i], t);
        /* Norm and attention write where it reads. */
        p->part_move_us[i] = c->launch_host_us + c->part_far_us[i] * rows / c->chunk;
        if (i == NM_PART_SHARED)
            p->part_move_us[i] += nm_planner_gather(p, rows) + nm_planner_scatter(p, rows);
    }
}

static void fill_tables(nm_planner *p)
{
    const nm_cost *c = p->cost;
    for (uint32_t n = 0; n <= p->moved_rows; n++) {
        p->gather_us[n] = nm_curve_at(&c->gather, n);
        p->scatter_us[n] = nm_curve_at(&c->scatter, n);
    }
    for (uint32_t n = 0; n <= p->max_rows; n++) {
        p->host_us[n] = nm_curve_at(&c->host_expert, n);
        p->device_us[n] = nm_curve_at(&c->device_expert, n);
    }
    for (int i = 0; i < NM_COST_WORKS; i++)
        p->beside[i] = nm_cost_beside(c, (nm_cost_work)i);
}

uint32_t nm_planner_whole_layers(const nm_planner *p)
{
    const nm_loads *l = p->loads;
    const bool to_the_end = l->layers[l->n_layers - 1].layer + 1 == p->model->n_layer;
    return l->n_layers - (p->n_chunks > 0 && l->n_layers > 1 && to_the_end);
}

void nm_planner_fini(nm_planner *p)
{
    nm_planner_last_free(p);
    nm_free(p->a, p->host_us);
    nm_free(p->a, p->device_us);
    nm_free(p->a, p->gather_us);
    nm_free(p->a, p->scatter_us);
    nm_free(p->a, p->rest);
    nm_free(p->a, p->pass_us);
    nm_free(p->a, p->pass_end);
    nm_free(p->a, p->pass_rows);
}

npumoe_status nm_planner_init(nm_planner *p, const npumoe_allocator *a, const nm_plan_model *model,
                              const nm_loads *loads, const nm_cost *cost,
                              const nm_planner_options *options, npumoe_error *err)
{
    *p = (nm_planner){.a = a,
                      .options = *options,
                      .model = model,
                      .loads = loads,
                      .cost = cost,
                      .n_expert = loads->n_expert,
                      .n_scenarios = loads->n_scenarios,
                      .rows = nm_loads_rows(loads),
                      .part_price = NM_COST_EVEN_PRICE};
    const uint32_t prompt = options->n_prompt;
    p->n_chunks = prompt ? (prompt - 1) / loads->chunk + 1 : 0;
    p->n_lanes = options->in_flight ? options->in_flight : NM_PLAN_MAX_IN_FLIGHT;
    p->two = p->n_lanes > 1 && p->n_chunks != 1;
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
    const uint32_t pairs = loads->chunk * cost->geometry.n_expert_used;
    p->gather_us = nm_alloc_array(a, (size_t)pairs + 1, sizeof *p->gather_us);
    p->scatter_us = nm_alloc_array(a, (size_t)pairs + 1, sizeof *p->scatter_us);
    if (!p->host_us || !p->device_us || !p->gather_us || !p->scatter_us || !p->rest ||
        !p->pass_us || !p->pass_end || !p->pass_rows)
        return nm_err_nomem(err, p->pass_room * sizeof *p->pass_end, "planning");
    p->moved_rows = pairs;
    fill_tables(p);
    fill_parts(p);
    return nm_planner_last_new(p, err);
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

/* Programs and bytes from groups and parts, as nm_plan_count_layer() has them of the layer that comes of it; false when
 * a program or the whole is over a limit of the device that no budget can change (bytes of one program). */
static bool measure_way(const nm_planner *p, nm_way *w)
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
    for (int i = 0; i < NM_COST_PARTS; i++)
        if (w->parts & 1u << i) {
            w->programs += i != NM_PART_ATTENTION;
            if (!nm_add_u64(w->bytes, d->part_bytes[i], &w->bytes))
                possible = false;
        }
    return possible;
}

/* Where host time is limited, a way that takes less of it is one to keep, if it is less by something that counts. */
static bool beats(const nm_layer_work *l, const nm_way *a, const nm_way *b)
{
    static const double counts = 1.0 / 128.0;
    const bool spares = l->p->n_chunks > 0 && l->p->options.policy == NM_POLICY_OURS &&
                        l->p->options.objective == NM_OBJECTIVE_LATENCY &&
                        b->predicted.host_us < a->predicted.host_us - counts * l->cpu_only_us;
    return a->score <= b->score && a->programs <= b->programs && a->bytes <= b->bytes && !spares;
}

npumoe_status nm_layer_offer(nm_layer_work *l, nm_way *w, nm_offer *out, npumoe_error *err)
{
    nm_planner_simulate(l->p, l->load, w, NULL);
    return nm_layer_take(l, w, out, err);
}

npumoe_status nm_layer_take(nm_layer_work *l, nm_way *w, nm_offer *out, npumoe_error *err)
{
    const nm_planner *p = l->p;
    const bool possible = measure_way(p, w);
    w->score = possible ? nm_planner_score(p, &w->predicted, l->cpu_only_us) : HUGE_VAL;
    *out = (nm_offer){w->score, w->predicted, w->programs, w->bytes};
    bool wanted =
        w->score < HUGE_VAL && l->n_ways < UINT16_MAX; /* what a budget's table counts to */
    for (size_t i = 0; i < l->n_ways && wanted; i++)
        wanted = !beats(l, l->ways[i], w);
    if (!wanted) {
        nm_free(p->a, w);
        return NPUMOE_OK;
    }
    for (size_t i = l->n_ways; i-- > 1;)
        if (beats(l, w, l->ways[i])) {
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

void nm_layers_free(const nm_planner *p, nm_layer_work **layers)
{
    for (uint32_t i = 0; *layers && i < p->loads->n_layers; i++)
        layer_fini(p, &(*layers)[i]);
    nm_free(p->a, *layers);
    *layers = NULL;
}

npumoe_status nm_layers_new(const nm_planner *p, nm_layer_work **out, npumoe_error *err)
{
    nm_layer_work *layers = nm_alloc_array(p->a, p->loads->n_layers, sizeof *layers);
    *out = layers;
    if (!layers)
        return nm_err_nomem(err, p->loads->n_layers * sizeof *layers, "planning");
    for (uint32_t i = 0; i < p->loads->n_layers; i++)
        NM_TRY(layer_init(&layers[i], p, i, err));
    return NPUMOE_OK;
}

void nm_prediction_add(nm_prediction *sum, const nm_prediction *x)
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

npumoe_status nm_layer_fill(const nm_planner *p, const nm_layer_work *l, nm_way *w,
                            nm_plan_layer *out, npumoe_error *err)
{
    nm_group_figures *figures = nm_alloc_array(p->a, w->n_groups, sizeof *figures);
    out->groups = nm_alloc_array(p->a, w->n_groups, sizeof *out->groups);
    if (!out->groups || !figures) {
        nm_free(p->a, figures);
        return nm_err_nomem(err, w->n_groups * sizeof *out->groups, "the plan");
    }
    nm_planner_simulate(p, l->load, w, figures);
    out->n_groups = w->n_groups;
    out->price = w->price;
    out->predicted = w->predicted;
    for (int i = 0; i < NM_COST_PARTS; i++) {
        out->on_device[i] = (w->parts & 1u << i) != 0;
        out->part_rows[i] = nm_planner_shared_rows(p, w, (nm_cost_part)i);
    }
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
    nm_plan_count_layer(p->cost, out, &out->programs, &out->bytes);
    nm_free(p->a, figures);
    return st;
}
