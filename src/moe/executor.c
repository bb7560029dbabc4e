/* executor.c: programs and memory of the executor; see executor.h. */
#include "moe/executor_priv.h"

#include "base/num.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_BUFFER_BYTES ((uint64_t)1 << 30)

/* ---- events ---------------------------------------------------------------------------------- */

static void say(const nm_executor *ex, npumoe_log_level level, const char *what, uint32_t layer,
                int group, const npumoe_error *why)
{
    char line[640];
    char which[48] = "";
    if (ex->o.log == NULL)
        return;
    if (group >= 0)
        snprintf(which, sizeof which, ", group %d", group);
    snprintf(line, sizeof line, "%s%sdevice %s, layer %" PRIu32 "%s: %s: %s%s",
             ex->o.label ? ex->o.label : "", ex->o.label ? ": " : "", ex->o.npu->caps.name, layer,
             which, what, why->message, ex->o.require ? "" : "; the host does this part");
    ex->o.log(ex->o.log_user, level, line);
}

/* What single lines said in detail, for those who do not read them. */
static void summarise(const nm_executor *ex, const npumoe_error *first)
{
    char line[640];
    if (ex->refused == 0 || ex->o.log == NULL)
        return;
    snprintf(line, sizeof line,
             "%s%sdevice %s: %" PRIu32 " of %" PRIu32
             " programs were not loaded, the host does their part (-v lists them); the first: %s",
             ex->o.label ? ex->o.label : "", ex->o.label ? ": " : "", ex->o.npu->caps.name,
             ex->refused, ex->refused + ex->loaded, first->message);
    ex->o.log(ex->o.log_user, NPUMOE_LOG_WARN, line);
}

void nm_exec_group_failed(nm_executor *ex, uint32_t layer, exec_group *g, const npumoe_error *why)
{
    if (g->failed)
        return;
    g->failed = true;
    ex->failed++;
    say(ex, NPUMOE_LOG_WARN, "a launch failed", layer, (int)(g - ex->layers[layer].groups), why);
}

void nm_exec_part_failed(nm_executor *ex, uint32_t layer, nm_cost_part part,
                         const npumoe_error *why)
{
    bool *failed = &ex->layers[layer].part_failed[part];
    if (*failed)
        return;
    char what[48];
    snprintf(what, sizeof what, "a launch of %s failed", nm_cost_part_name(part));
    *failed = true; /* the program stays: another lane may wait for a launch of it */
    ex->failed++;
    say(ex, NPUMOE_LOG_WARN, what, layer, -1, why);
}

/* ---- programs -------------------------------------------------------------------------------- */

/* Compiles and reserves; *out stays NULL when that fails and nobody insists. */
static npumoe_status bring(nm_executor *ex, const nm_program_desc *d, nm_program **out,
                           npumoe_error *err)
{
    npumoe_error why;
    npumoe_status st = nm_npu_compile(ex->o.npu, d, out, &why);
    if (st == NPUMOE_OK) {
        st = nm_npu_reserve(ex->o.npu, *out, &why);
        if (st == NPUMOE_OK) {
            ex->loaded++;
            return NPUMOE_OK;
        }
        nm_npu_program_free(ex->o.npu, out);
    }
    if (ex->o.require || st == NPUMOE_ENOMEM) {
        if (err)
            *err = why;
        return d->kind == NM_PROGRAM_ATTENTION
                   ? nm_err_prefix(err, st, "the plan cannot be loaded, attention of all layers")
                   : nm_err_prefix(err, st, "the plan cannot be loaded, layer %" PRIu32, d->layer);
    }
    ex->failed++;
    if (ex->refused++ == 0)
        ex->first_refusal = why;
    say(ex, NPUMOE_LOG_INFO, "a program was not loaded", d->layer, -1, &why);
    return NPUMOE_OK;
}

static nm_program_network network_of(const nm_expert_weights *w, uint32_t e)
{
    return (nm_program_network){.gate = nm_mat_stack_at(&w->gate, e),
                                .up = nm_mat_stack_at(&w->up, e),
                                .down = nm_mat_stack_at(&w->down, e)};
}

/* The largest capacity first: where weights are shared, it owns them, and it is the one that matters
 * if the others find no slot. Programs that were kept from another plan are there. */
static npumoe_status bring_group(nm_executor *ex, uint32_t layer, exec_group *g, npumoe_error *err)
{
    nm_program_network nets[NM_PLAN_MAX_GROUP];
    const nm_plan_group *p = g->plan;
    for (uint32_t i = 0; i < p->n_experts; i++)
        nets[i] = network_of(&ex->o.weights->layers[layer].experts, p->experts[i]);
    nm_program_desc d = {.kind = NM_PROGRAM_EXPERTS,
                         .act = ex->o.config->family->act,
                         .layer = layer,
                         .experts = p->experts,
                         .networks = nets,
                         .n = p->n_experts};
    const bool share = ex->o.npu->caps.shares_weights;
    for (uint32_t i = p->n_capacities; i-- > 0;) {
        d.capacity = p->capacities[i];
        if (g->programs[i] == NULL)
            NM_TRY(bring(ex, &d, &g->programs[i], err));
        if (g->programs[i] == NULL && d.twin == NULL) {
            g->failed = true;
            ex->refused += i; /* those that were not tried */
            return NPUMOE_OK;
        }
        if (share && d.twin == NULL)
            d.twin = g->programs[i];
    }
    return NPUMOE_OK;
}

uint32_t nm_exec_part_capacity(const nm_executor *ex, const nm_plan *plan,
                               const nm_plan_layer *layer, nm_cost_part part)
{
    return nm_plan_part_capacity(plan, layer, part, ex->o.npu->caps.capacity_multiple);
}

static npumoe_status bring_part(nm_executor *ex, uint32_t layer, nm_cost_part part,
                                npumoe_error *err)
{
    const nm_layer_weights *l = &ex->o.weights->layers[layer];
    const nm_program_matrix qkv[] = {{l->wq, l->bq}, {l->wk, l->bk}, {l->wv, l->bv}};
    const nm_program_matrix o = {l->wo, l->bo};
    const nm_ffn_weights *f = &l->ffn;
    const nm_program_network shared = {f->gate, f->up, f->down, f->b_gate, f->b_up, f->b_down};
    nm_program_desc d = {.kind = NM_PROGRAM_LINEAR,
                         .act = ex->o.config->family->act,
                         .capacity =
                             nm_exec_part_capacity(ex, ex->o.plan, ex->layers[layer].plan, part),
                         .layer = layer,
                         .n = 1};
    switch (part) {
    case NM_PART_QKV:
        d.matrices = qkv;
        d.n = 3;
        break;
    case NM_PART_O:
        d.matrices = &o;
        break;
    case NM_PART_ATTENTION:
        return NPUMOE_OK;
    case NM_PART_SHARED:
        d.kind = NM_PROGRAM_EXPERTS;
        d.networks = &shared;
        if (ex->o.config->layers[layer].n_ff_shared == 0)
            return NPUMOE_OK;
        break;
    }
    nm_program **program = &ex->layers[layer].part[part];
    return *program ? NPUMOE_OK : bring(ex, &d, program, err);
}

/* All layers have the same heads and window. */
static npumoe_status bring_attention(nm_executor *ex, uint32_t i, npumoe_error *err)
{
    const nm_layer_desc *l = &ex->o.config->layers[0];
    const uint32_t chunk = ex->o.plan->chunk;
    const nm_program_attention a = {.positions = (i + 1) * chunk,
                                    .n_head = l->n_head,
                                    .n_head_kv = l->n_head_kv,
                                    .dim_k = l->dim_k,
                                    .dim_v = l->dim_v,
                                    .scale = ex->o.config->attention_scale,
                                    .window = l->window};
    const nm_program_desc d = {
        .kind = NM_PROGRAM_ATTENTION, .capacity = chunk, .attention = &a, .n = 1};
    return ex->attention[i] ? NPUMOE_OK : bring(ex, &d, &ex->attention[i], err);
}

static npumoe_status reserve_all(nm_executor *ex, npumoe_error *err)
{
    const nm_plan *plan = ex->o.plan;
    for (uint32_t i = 0; i < ex->n_attention; i++)
        NM_TRY(bring_attention(ex, i, err));
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        const nm_plan_layer *pl = &plan->layers[i];
        const exec_layer *l = &ex->layers[pl->layer];
        for (uint32_t g = 0; g < pl->n_groups; g++)
            NM_TRY(bring_group(ex, pl->layer, &l->groups[g], err));
        for (int part = 0; part < NM_COST_PARTS; part++)
            if (pl->on_device[part])
                NM_TRY(bring_part(ex, pl->layer, (nm_cost_part)part, err));
    }
    return NPUMOE_OK;
}

/* In order first: who finds no room, and whose load fails, depends on nothing else. Then all weights at once. */
npumoe_status nm_exec_bring(nm_executor *ex, npumoe_error *err)
{
    size_t n = 0;
    NM_TRY(reserve_all(ex, err));
    nm_program **all = nm_alloc_array(ex->allocator, ex->loaded, sizeof *all);
    if (all == NULL)
        return nm_err_nomem(err, ex->loaded * sizeof *all, "the executor");
    for (uint32_t i = 0; i < ex->n_attention; i++)
        if (ex->attention[i])
            all[n++] = ex->attention[i];
    for (uint32_t i = 0; i < ex->n_layer; i++) {
        const exec_layer *l = &ex->layers[i];
        for (uint32_t g = 0; l->plan && g < l->plan->n_groups; g++)
            for (uint32_t c = NM_PLAN_MAX_CAPACITIES; c-- > 0;)
                if (l->groups[g].programs[c])
                    all[n++] = l->groups[g].programs[c];
        for (int part = 0; part < NM_COST_PARTS; part++)
            if (l->part[part])
                all[n++] = l->part[part];
    }
    nm_npu_fill(ex->o.npu, all, n, ex->o.pool);
    nm_free(ex->allocator, all);
    return NPUMOE_OK;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* Launches that a group may need in one chunk. */
static uint32_t most_passes(const nm_executor *ex, const nm_plan_group *g)
{
    return ex->o.plan->overflow == NM_OVERFLOW_REPASS
               ? ex->o.n_tokens / g->capacities[g->n_capacities - 1] + 2
               : 1;
}

static uint32_t layer_passes(const nm_executor *ex, const exec_layer *l)
{
    uint32_t n = 1; /* the shared expert */
    for (uint32_t g = 0; g < l->plan->n_groups; g++)
        n += most_passes(ex, l->groups[g].plan);
    return n;
}

static int by_size(const void *a, const void *b)
{
    const exec_size *x = a, *y = b;
    const uint64_t p = (uint64_t)x->in + x->out, q = (uint64_t)y->in + y->out;
    return p < q ? 1 : p > q ? -1 : 0;
}

static void widen(exec_size *s, const nm_program *p)
{
    s->in = nm_max_size(s->in, p ? (size_t)p->in_bytes : 0);
    s->out = nm_max_size(s->out, p ? (size_t)p->out_bytes : 0);
}

/* What the launches of one layer need, the largest first; a group may take any of its programs. */
static uint32_t layer_sizes(const nm_executor *ex, const exec_layer *l, exec_size *sizes)
{
    uint32_t n = 0;
    sizes[n] = (exec_size){0};
    widen(&sizes[n++], l->part[NM_PART_SHARED]);
    for (uint32_t g = 0; g < l->plan->n_groups; g++) {
        exec_size s = {0};
        for (uint32_t c = 0; c < NM_PLAN_MAX_CAPACITIES; c++)
            widen(&s, l->groups[g].programs[c]);
        for (uint32_t i = most_passes(ex, l->groups[g].plan); i > 0; i--)
            sizes[n++] = s;
    }
    qsort(sizes, n, sizeof *sizes, by_size);
    return n;
}

/* sizes [max_passes]: whatever the layer, its i-th largest launch fits the i-th. */
static npumoe_status measure_slots(nm_executor *ex, exec_size *sizes, npumoe_error *err)
{
    exec_size *one = nm_alloc_array(ex->allocator, ex->max_passes, sizeof *one);
    if (one == NULL)
        return nm_err_nomem(err, ex->max_passes * sizeof *one, "the executor");
    for (uint32_t i = 0; i < ex->n_layer; i++) {
        const uint32_t n = ex->layers[i].plan ? layer_sizes(ex, &ex->layers[i], one) : 0;
        for (uint32_t j = 0; j < n; j++) {
            sizes[j].in = nm_max_size(sizes[j].in, one[j].in);
            sizes[j].out = nm_max_size(sizes[j].out, one[j].out);
        }
    }
    nm_free(ex->allocator, one);
    return NPUMOE_OK;
}

/* Every lane has one of each size, the largest first, as far as queue and memory go; two of the largest
 * there are always. Buffers of one size for all would take several times the memory: loads are skewed. */
static npumoe_status add_slots(nm_executor *ex, const exec_size *sizes, npumoe_error *err)
{
    nm_npu *npu = ex->o.npu;
    uint64_t room = ex->o.buffer_bytes ? ex->o.buffer_bytes : DEFAULT_BUFFER_BYTES;
    const uint32_t lanes = max_u32(ex->o.n_lanes, 2), depth = max_u32(npu->caps.queue_depth, 2);
    const uint64_t all = (uint64_t)ex->max_passes * lanes;
    const uint32_t most = all < depth ? (uint32_t)all : depth;
    ex->slots = nm_alloc_array(ex->allocator, most, sizeof *ex->slots);
    if (ex->slots == NULL)
        return nm_err_nomem(err, most * sizeof *ex->slots, "buffers of launches");
    for (; ex->n_slots < most; ex->n_slots++) {
        const exec_size s = sizes[ex->n_slots / lanes];
        exec_slot *slot = &ex->slots[ex->n_slots];
        const uint64_t bytes = (uint64_t)s.in + s.out;
        if (bytes == 0 || (bytes > room && ex->n_slots >= 2))
            break;
        room = bytes < room ? room - bytes : 0;
        NM_TRY(nm_npu_buffer_init(npu, &slot->in, s.in, err));
        npumoe_status st = nm_npu_buffer_init(npu, &slot->out, s.out, err);
        if (st != NPUMOE_OK) {
            nm_npu_buffer_fini(npu, &slot->in);
            return st;
        }
    }
    return NPUMOE_OK;
}

static npumoe_status make_slots(nm_executor *ex, npumoe_error *err)
{
    for (uint32_t i = 0; i < ex->n_layer; i++)
        if (ex->layers[i].plan)
            ex->max_passes = max_u32(ex->max_passes, layer_passes(ex, &ex->layers[i]));
    exec_size *sizes = nm_alloc_array(ex->allocator, ex->max_passes, sizeof *sizes);
    if (sizes == NULL)
        return nm_err_nomem(err, ex->max_passes * sizeof *sizes, "the executor");
    npumoe_status st = measure_slots(ex, sizes, err);
    if (st == NPUMOE_OK && ex->max_passes > 0)
        st = add_slots(ex, sizes, err);
    nm_free(ex->allocator, sizes);
    return st;
}

static npumoe_status make_buffers(nm_executor *ex, exec_lane *lane, npumoe_error *err)
{
    exec_size qkv = {0}, attention = {0}, o = {0};
    for (uint32_t i = 0; i < ex->n_layer; i++) {
        widen(&qkv, ex->layers[i].part[NM_PART_QKV]);
        widen(&o, ex->layers[i].part[NM_PART_O]);
    }
    for (uint32_t i = 0; i < ex->n_attention; i++)
        widen(&attention, ex->attention[i]);
    if (o.out > 0) /* the host's rows of O stand behind the device's */
        o.out = nm_max_size(o.out, (size_t)ex->o.n_tokens * ex->n_embd * sizeof(float));
    const struct {
        nm_npu_buffer *to;
        size_t bytes;
    } wanted[] = {{&lane->rows, nm_max_size(qkv.in, nm_max_size(o.in, attention.out))},
                  {&lane->wide, nm_max_size(qkv.out, attention.in)},
                  {&lane->out, o.out}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        if (wanted[i].bytes > 0)
            NM_TRY(nm_npu_buffer_init(ex->o.npu, wanted[i].to, wanted[i].bytes, err));
    return NPUMOE_OK;
}

static npumoe_status make_lane(nm_executor *ex, exec_lane *lane, npumoe_error *err)
{
    const npumoe_allocator *a = ex->allocator;
    const size_t pairs = (size_t)ex->o.n_tokens * ex->n_used, experts = ex->n_expert;
    const size_t acc = (size_t)ex->o.n_tokens * ex->n_embd * sizeof *lane->acc;
    lane->own_first = nm_alloc_array(a, experts + 1, sizeof *lane->own_first);
    lane->own_order = nm_alloc_array(a, pairs, sizeof *lane->own_order);
    lane->own_ids = nm_alloc_array(a, pairs, sizeof *lane->own_ids);
    lane->taken = nm_alloc_array(a, experts, sizeof *lane->taken);
    lane->passes = nm_alloc_array(a, ex->max_passes, sizeof *lane->passes);
    lane->acc = nm_alloc_aligned(a, acc);
    if (!lane->own_first || !lane->own_order || !lane->own_ids || !lane->taken || !lane->passes ||
        !lane->acc)
        return nm_err_nomem(err, acc, "a chunk in flight");
    memset(lane->acc, 0, acc);
    return make_buffers(ex, lane, err);
}

static npumoe_status make_scratch(nm_executor *ex, npumoe_error *err)
{
    const npumoe_allocator *a = ex->allocator;
    const size_t pairs = (size_t)ex->o.n_tokens * ex->n_used, experts = ex->n_expert;
    ex->loads = nm_alloc_array(a, NM_PLAN_MAX_GROUP, sizeof *ex->loads);
    ex->spare = nm_alloc_array(a, experts, sizeof *ex->spare);
    ex->rest = nm_alloc_array(a, experts, sizeof *ex->rest);
    ex->saliency = nm_alloc_array(a, pairs, sizeof *ex->saliency);
    ex->picked = nm_alloc_array(a, pairs, sizeof *ex->picked);
    ex->lost_first = nm_alloc_array(a, experts + 1, sizeof *ex->lost_first);
    ex->lost_order = nm_alloc_array(a, pairs, sizeof *ex->lost_order);
    if (!ex->loads || !ex->spare || !ex->rest || !ex->saliency || !ex->picked || !ex->lost_first ||
        !ex->lost_order)
        return nm_err_nomem(err, pairs * 12, "the executor");
    ex->lost =
        (nm_dispatch){.n_expert = ex->n_expert, .first = ex->lost_first, .order = ex->lost_order};
    return NPUMOE_OK;
}

void nm_executor_each_buffer(const nm_executor *ex,
                             void (*fn)(void *user, void *data, size_t bytes), void *user)
{
    for (uint32_t i = 0; i < ex->n_slots; i++) {
        const nm_npu_buffer *const both[] = {&ex->slots[i].in, &ex->slots[i].out};
        for (int j = 0; j < 2; j++)
            fn(user, both[j]->data, both[j]->bytes);
    }
    for (uint32_t i = 0; i < ex->o.n_lanes; i++) {
        const exec_lane *lane = &ex->lanes[i];
        const nm_npu_buffer *const all[] = {&lane->rows, &lane->wide, &lane->out};
        for (int j = 0; j < 3; j++)
            fn(user, all[j]->data, all[j]->bytes);
        fn(user, lane->acc, (size_t)ex->o.n_tokens * ex->n_embd * sizeof *lane->acc);
    }
}

npumoe_status nm_exec_complete(nm_executor *ex, npumoe_error *err)
{
    NM_TRY(make_slots(ex, err));
    for (uint32_t i = 0; i < ex->o.n_lanes; i++)
        NM_TRY(make_lane(ex, &ex->lanes[i], err));
    return make_scratch(ex, err);
}

/* Which group of which layer is where. */
static npumoe_status lay_out(nm_executor *ex, npumoe_error *err)
{
    const nm_plan *plan = ex->o.plan;
    size_t n_groups = 0;
    for (uint32_t i = 0; i < plan->n_layers; i++)
        n_groups += plan->layers[i].n_groups;
    ex->layers = nm_alloc_array(ex->allocator, ex->n_layer, sizeof *ex->layers);
    ex->groups = nm_alloc_array(ex->allocator, n_groups, sizeof *ex->groups);
    ex->attention = nm_alloc_array(ex->allocator, plan->attention_chunks, sizeof *ex->attention);
    ex->attention_kept =
        nm_alloc_array(ex->allocator, plan->attention_chunks, sizeof *ex->attention_kept);
    if (!ex->layers || !ex->groups || !ex->attention || !ex->attention_kept)
        return nm_err_nomem(err, n_groups * sizeof *ex->groups, "the executor");
    ex->n_attention = plan->attention_chunks;
    exec_group *next = ex->groups;
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        const nm_plan_layer *pl = &plan->layers[i];
        exec_layer *l = &ex->layers[pl->layer];
        l->plan = pl;
        l->groups = next;
        for (uint32_t g = 0; g < pl->n_groups; g++)
            (next++)->plan = &pl->groups[g];
    }
    return NPUMOE_OK;
}

npumoe_status nm_exec_create(const npumoe_allocator *a, const nm_executor_options *o,
                             nm_executor **out, npumoe_error *err)
{
    nm_executor *ex = nm_zalloc(a, sizeof *ex);
    if (ex == NULL)
        return nm_err_nomem(err, sizeof *ex, "the executor");
    ex->allocator = a;
    ex->o = *o;
    ex->part_price = NM_COST_EVEN_PRICE;
    ex->asks = true;
    for (uint32_t i = 0; i < o->plan->n_layers; i++)
        ex->asks = ex->asks && (o->plan->layers[i].n_groups == 0 || o->plan->layers[i].price >= 0);
    ex->n_layer = o->config->n_layer;
    ex->n_embd = o->config->n_embd;
    ex->n_expert = o->config->n_expert;
    ex->n_used = o->config->n_expert_used;
    npumoe_status st = lay_out(ex, err);
    if (st != NPUMOE_OK)
        nm_executor_free(&ex);
    *out = ex;
    return st;
}

npumoe_status nm_executor_new(const npumoe_allocator *a, const nm_executor_options *o,
                              nm_executor **out, npumoe_error *err)
{
    nm_executor *ex;
    if (o->n_lanes < 1 || o->n_lanes > NM_EXEC_MAX_LANES)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "chunks in flight: found %" PRIu32 ", expected 1 to %d", o->n_lanes,
                          NM_EXEC_MAX_LANES);
    NM_TRY(nm_exec_create(a, o, &ex, err));
    npumoe_status st = nm_exec_bring(ex, err);
    summarise(ex, &ex->first_refusal);
    if (st == NPUMOE_OK)
        st = nm_exec_complete(ex, err);
    if (st != NPUMOE_OK) {
        nm_executor_free(&ex);
        return st;
    }
    *out = ex;
    return NPUMOE_OK;
}

static void free_lane(nm_executor *ex, exec_lane *lane)
{
    const npumoe_allocator *a = ex->allocator;
    nm_free(a, lane->own_first);
    nm_free(a, lane->own_order);
    nm_free(a, lane->own_ids);
    nm_free(a, lane->taken);
    nm_free(a, lane->passes);
    nm_free_aligned(a, lane->acc);
    nm_npu_buffer_fini(ex->o.npu, &lane->rows);
    nm_npu_buffer_fini(ex->o.npu, &lane->wide);
    nm_npu_buffer_fini(ex->o.npu, &lane->out);
}

/* Programs that use others' weights go first. */
static void free_programs(nm_executor *ex)
{
    nm_npu *npu = ex->o.npu;
    for (uint32_t i = 0; i < ex->n_attention; i++)
        nm_npu_program_free(npu, &ex->attention[i]);
    for (uint32_t i = 0; ex->layers && i < ex->n_layer; i++) {
        exec_layer *l = &ex->layers[i];
        for (uint32_t g = 0; l->groups && g < l->plan->n_groups; g++)
            for (uint32_t c = 0; c < NM_PLAN_MAX_CAPACITIES; c++)
                nm_npu_program_free(npu, &l->groups[g].programs[c]);
        for (int part = 0; part < NM_COST_PARTS; part++)
            nm_npu_program_free(npu, &l->part[part]);
    }
}

void nm_executor_free(nm_executor **executor)
{
    nm_executor *ex = *executor;
    if (ex == NULL)
        return;
    const npumoe_allocator *a = ex->allocator;
    nm_exec_abandon(ex);
    free_programs(ex);
    for (uint32_t i = 0; i < ex->n_slots; i++) {
        nm_npu_buffer_fini(ex->o.npu, &ex->slots[i].in);
        nm_npu_buffer_fini(ex->o.npu, &ex->slots[i].out);
    }
    for (uint32_t i = 0; i < NM_EXEC_MAX_LANES; i++)
        free_lane(ex, &ex->lanes[i]);
    nm_free(a, ex->slots);
    nm_free(a, ex->layers);
    nm_free(a, ex->groups);
    nm_free(a, ex->attention);
    nm_free(a, ex->attention_kept);
    nm_free(a, ex->loads);
    nm_free(a, ex->spare);
    nm_free(a, ex->rest);
    nm_free(a, ex->saliency);
    nm_free(a, ex->picked);
    nm_free(a, ex->lost_first);
    nm_free(a, ex->lost_order);
    nm_free(a, ex);
    *executor = NULL;
}

/* ---- questions -------------------------------------------------------------------------------- */

uint32_t nm_executor_from(const nm_executor *ex)
{
    return ex->o.from ? ex->o.from : ex->o.plan->crossover;
}

uint32_t nm_executor_loaded(const nm_executor *ex)
{
    return ex->loaded;
}

uint32_t nm_executor_next(const nm_executor *ex, uint32_t chunk, size_t pos, size_t n)
{
    const size_t step = ex->o.plan->chunk;
    const size_t odd = ex->n_attention && chunk >= step ? pos % step : 0;
    return (uint32_t)nm_min_size(odd > 0 && n >= step - odd + step ? step - odd : n, chunk);
}

size_t nm_executor_share(const nm_executor *ex, uint32_t chunk, size_t pos, size_t n,
                         uint32_t lanes)
{
    const uint32_t from = nm_executor_from(ex), whole = ex->o.plan->chunk;
    /* One token reads each weight once wherever it is computed: nothing to batch, only to wait for. */
    const size_t tail = (n - nm_executor_next(ex, chunk, pos, n)) % chunk,
                 least = nm_max_size(from, 2);
    if (ex->loaded == 0 || n < least || chunk < nm_min_size(least, whole))
        return 0;
    /* Beside others a last chunk that is short loses nothing: what does not pay is the host's there too. Alone, or where it is not
     * asked what pays, it has to pay as a prompt does; half a chunk is a rule of thumb. */
    const size_t short_pays = lanes > 1 && ex->asks ? 2 : nm_min_size(least, chunk / 2);
    return n < chunk || tail >= short_pays ? n : n - tail;
}

bool nm_executor_has_layer(const nm_executor *ex, uint32_t layer)
{
    return ex->layers[layer].plan != NULL;
}

nm_exec_counts nm_executor_counts(const nm_executor *ex, uint32_t layer)
{
    return ex->layers[layer].counts;
}

void nm_exec_counts_add(nm_exec_counts *sum, const nm_exec_counts *c)
{
    const uint64_t *from = (const void *)c;
    uint64_t *to = (void *)sum; /* all its members are of this type */
    for (size_t j = 0; j < sizeof *sum / sizeof *to; j++)
        to[j] += from[j];
}

nm_exec_counts nm_executor_total(const nm_executor *ex)
{
    nm_exec_counts sum = {0};
    for (uint32_t i = 0; i < ex->n_layer; i++)
        nm_exec_counts_add(&sum, &ex->layers[i].counts);
    return sum;
}

void nm_executor_reset_counts(nm_executor *ex)
{
    for (uint32_t i = 0; i < ex->n_layer; i++)
        ex->layers[i].counts = (nm_exec_counts){0};
}

uint32_t nm_executor_failed(const nm_executor *ex)
{
    return ex->failed;
}
