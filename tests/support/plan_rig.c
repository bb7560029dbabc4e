/* plan_rig.c: see plan_rig.h. */
#include "support/plan_rig.h"

#include "engine/session.h"
#include "moe/profile.h"
#include "support/counting.h"
#include "support/synth.h"
#include "support/tiny.h"
#include "tap.h"

npumoe_token plan_rig_prompt[RIG_PROMPT];

void plan_rig_start(void)
{
    for (size_t i = 0; i < RIG_PROMPT; i++)
        plan_rig_prompt[i] = (npumoe_token)((i * 37 + i * i * 11) % RIG_VOCAB);
}

void plan_rig_family(const char *arch)
{
    const tiny_spec t = tiny_default(arch);
    npumoe_error err;
    if (tiny_write(&t, tiny_path(), &err) != NPUMOE_OK)
        bail("%s", err.message);
}

/* ---- plans by hand ------------------------------------------------------------------------------ */

static nm_curve curve(double us)
{
    return (nm_curve){.n = 2, .rows = {1, 64}, .us = {us, 2 * us}};
}

static void fill_cost(nm_plan *p, const plan_spec *s)
{
    static const nm_cost_part parts[] = {NM_PART_QKV, NM_PART_O, NM_PART_SHARED};
    nm_cost *c = &p->cost;
    c->geometry = p->model.geometry;
    memcpy(c->isa, "test", 5);
    c->host_threads = 1;
    c->chunk = p->chunk;
    c->host_layer = c->gather = c->scatter = curve(10);
    c->host_expert = curve(s->host_us > 0 ? s->host_us : 10);
    c->device_expert = curve(1);
    for (int i = 0; i < NM_COST_PARTS; i++) {
        c->host_part[i] = curve(1000);
        c->device_part[i] = curve(10);
        if (s->slow_parts && i != NM_PART_ATTENTION)
            c->device_part[i] = (nm_curve){
                .n = 1, .rows = {p->chunk}, .us = {1.8 * nm_curve_at(&c->host_part[i], p->chunk)}};
    }
    c->host_watts = c->device_watts = -1;
    c->device = synth_device(1000);
    c->device.shares_weights = c->device.has_linear = c->device.has_attention = true;
    for (uint32_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        c->device.part_bytes[parts[i]] = 10 * (i + 1);
}

static void fill_layer(nm_plan *p, nm_plan_layer *l, const plan_spec *s)
{
    const uint32_t rows[NM_COST_PARTS] = {[NM_PART_QKV] = s->qkv_rows, [NM_PART_O] = s->o_rows};
    l->n_groups = s->n_groups;
    l->groups = nm_alloc_array(p->allocator, s->n_groups, sizeof *l->groups);
    l->price = s->asks ? 0 : -1;
    for (uint32_t g = 0; g < s->n_groups; g++) {
        nm_plan_group *to = &l->groups[g];
        to->n_experts = s->group;
        to->experts = nm_alloc_array(p->allocator, s->group, sizeof *to->experts);
        for (uint32_t i = 0; i < s->group;
             i++) /* not in ascending order: the plan's order counts */
            to->experts[i] = (g + 1) * s->group - 1 - i;
        to->n_capacities = s->capacity ? 1 : 2;
        to->capacities[0] = s->capacity ? s->capacity : 16;
        to->capacities[1] = s->capacity ? 0 : 32;
    }
    for (int i = 0; i < NM_COST_PARTS; i++) {
        l->on_device[i] = s->parts && !(s->without & 1u << i) &&
                          (i != NM_PART_SHARED || p->model.geometry.n_ff_shared);
        l->part_rows[i] = l->on_device[i] ? rows[i] : 0;
    }
    nm_plan_count_layer(&p->cost, l, &l->programs, &l->bytes);
    p->programs += l->programs;
    p->bytes += l->bytes;
    if (l->on_device[NM_PART_ATTENTION] && p->attention_chunks == 0)
        p->programs += p->attention_chunks = s->attention ? s->attention : RIG_MANY;
}

nm_plan_model plan_rig_model(const npumoe_model *m)
{
    const nm_config *c = &m->config;
    const nm_expert_weights *w = &m->weights.layers[0].experts;
    nm_plan_model out = {
        .n_layer = c->n_layer,
        .geometry = {.n_embd = c->n_embd,
                     .n_ff = c->layers[0].n_ff,
                     .n_ff_shared = c->layers[0].n_ff_shared,
                     .n_expert = c->n_expert,
                     .n_expert_used = c->n_expert_used,
                     .n_head = c->layers[0].n_head,
                     .n_head_kv = c->layers[0].n_head_kv,
                     .dim_k = c->layers[0].dim_k,
                     .dim_v = c->layers[0].dim_v,
                     .type = {w->gate.mat.type, w->up.mat.type, w->down.mat.type}}};
    npumoe_error err = {0};
    strncpy(out.architecture, m->architecture, NM_COST_NAME - 1);
    if (nm_profile_router_hash(c, &m->weights, &out.router_hash, &err) != NPUMOE_OK)
        bail("no hash: %s", err.message);
    return out;
}

char *plan_rig_json(npumoe_model *m, const plan_spec *s)
{
    const npumoe_allocator *a = nm_allocator_default();
    const nm_config *c = &m->config;
    nm_plan *p = nm_zalloc(a, sizeof *p);
    npumoe_error err = {0};
    char *json = NULL;
    p->allocator = a;
    p->overflow = s->overflow;
    p->model = plan_rig_model(m);
    p->model.router_hash = s->router_hash ? s->router_hash : p->model.router_hash;
    p->chunk = s->chunk ? s->chunk : RIG_CHUNK;
    p->in_flight = s->in_flight;
    p->part_price = s->part_price > 0.0 ? s->part_price : NM_COST_EVEN_PRICE;
    p->n_tiers = 2;
    p->max_group = 8;
    p->max_capacities = 2;
    p->crossover = s->crossover ? s->crossover : 17;
    p->predicted.us = p->cpu_only.us = 1000.0;
    fill_cost(p, s);
    p->n_layers = c->n_layer;
    p->layers = nm_alloc_array(a, c->n_layer, sizeof *p->layers);
    for (uint32_t i = 0; i < c->n_layer; i++) {
        p->layers[i].layer = i;
        fill_layer(p, &p->layers[i], s);
    }
    if (nm_plan_print(p, &json, &err) != NPUMOE_OK)
        bail("no plan: %s", err.message);
    nm_plan_free(&p);
    return json;
}

/* ---- running ------------------------------------------------------------------------------------ */

run_spec plan_rig_run(const plan_spec *p)
{
    return (run_spec){.plan = *p,
                      .device = {.struct_bytes = sizeof(npumoe_device_options),
                                 .precision = NPUMOE_PRECISION_FP32,
                                 .n_threads = 1},
                      .n_threads = 2};
}

static bool keep(void *user, size_t position, const float *logits)
{
    memcpy(((run *)user)->logits[position], logits, RIG_VOCAB * sizeof *logits);
    return true;
}

static void remember(void *user, npumoe_log_level level, const char *line)
{
    run *r = user;
    (void)level;
    free(r->log);
    r->log = strdup(line);
}

static void evaluate(run *r, npumoe_model *m, const run_spec *spec, counting *count)
{
    npumoe_session *s = NULL;
    npumoe_eval_options o = npumoe_eval_options_default();
    npumoe_session_options so = npumoe_session_options_default();
    so.n_chunk = spec->n_chunk ? spec->n_chunk : RIG_CHUNK;
    so.type_k = so.type_v = NPUMOE_KV_F32; /* F16 would turn a last bit into one of eleven */
    npumoe_session_stats stats = {.struct_bytes = sizeof stats};
    const uint32_t n = spec->n_prompt ? spec->n_prompt : RIG_PROMPT;
    o.on_logits = spec->logits_from < n ? keep : NULL;
    o.logits_from = spec->logits_from;
    o.user = r;
    r->status = npumoe_session_new(m, &so, &s, &r->err);
    if (r->status != NPUMOE_OK)
        return;
    const long before = count->calls;
    if (spec->n_first) {
        r->status = npumoe_session_eval(s, plan_rig_prompt, spec->n_first, &o, &r->err);
        o.logits_from = spec->n_first;
    }
    if (r->status == NPUMOE_OK)
        r->status = npumoe_session_eval(s, plan_rig_prompt, n, &o, &r->err);
    if (r->status == NPUMOE_OK && !o.on_logits)
        keep(r, n - 1, npumoe_session_logits(s));
    r->calls_in_eval = count->calls - before;
    r->n_past = npumoe_session_length(s);
    npumoe_session_get_stats(s, &stats);
    r->scratch_bytes = stats.scratch_bytes;
    npumoe_session_free(&s);
}

run *plan_rig_execute(const run_spec *s)
{
    counting count = COUNTING_INIT;
    const npumoe_allocator a = counting_allocator(&count);
    npumoe_model_options mo = npumoe_model_options_default();
    npumoe_plan_options po = npumoe_plan_options_default();
    npumoe_device_options dopt = s->device;
    npumoe_model *m = NULL;
    npumoe_device *d = NULL;
    run *r = calloc(1, sizeof *r);
    mo.allocator = dopt.allocator = &a;
    mo.n_threads = s->n_threads;
    mo.precision = NPUMOE_PRECISION_FP32;
    if (npumoe_model_load(tiny_path(), &mo, &m, &r->err) != NPUMOE_OK ||
        npumoe_device_new(&dopt, &d, &r->err) != NPUMOE_OK)
        bail("%s", r->err.message);
    char *json = plan_rig_json(m, &s->plan);
    po.plan = json;
    po.plan_bytes = strlen(json);
    po.device = d;
    po.require_npu = s->require;
    po.allow_lossy = s->lossy;
    po.no_replan = s->no_replan;
    po.trace_events = s->trace_events;
    po.log = remember;
    po.log_user = r;
    r->stats.struct_bytes = sizeof r->stats;
    r->status = s->no_plan ? NPUMOE_OK : npumoe_model_use_plan(m, &po, &r->err);
    if (r->status == NPUMOE_OK) {
        evaluate(r, m, s, &count);
        npumoe_plan_get_stats(m, &r->stats);
        if (!s->no_plan)
            npumoe_plan_report(m, &r->report, NULL);
        if (s->trace_events)
            npumoe_plan_trace(m, &r->trace, NULL);
    }
    npumoe_text_free(&json);
    npumoe_model_free(&m);
    npumoe_device_free(&d);
    if (count.alive != 0)
        bail("%ld pieces of memory are not back", count.alive);
    return r;
}

void plan_rig_free(run **r)
{
    npumoe_text_free(&(*r)->report);
    npumoe_text_free(&(*r)->trace);
    free((*r)->log);
    free(*r);
    *r = NULL;
}

double plan_rig_difference(const run *a, const run *b)
{
    double most = 0;
    for (size_t i = 0; i < RIG_PROMPT; i++)
        for (size_t j = 0; j < RIG_VOCAB; j++) {
            const double d = fabs((double)a->logits[i][j] - (double)b->logits[i][j]);
            most = d > most || isnan(d) ? d : most;
        }
    return most;
}

bool plan_rig_same(const run *a, const run *b)
{
    return memcmp(a->logits, b->logits, sizeof a->logits) == 0;
}

run *plan_rig_cpu(void)
{
    run_spec s =
        plan_rig_run(&(plan_spec){.capacity = 16, .group = 1, .n_groups = 1, .in_flight = 1});
    s.no_plan = true;
    run *r = plan_rig_execute(&s);
    if (r->status != NPUMOE_OK)
        bail("%s", r->err.message);
    return r;
}
