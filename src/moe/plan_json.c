/* plan_json.c: plans as JSON, schema "npumoe-plan" (docs/plan.md).
 *
 * A plan file is to be read by people and compared by diff: keys in a fixed order, what fits on a line
 * on one line, six digits. Reading trusts nothing: every number has a range (fields.h), and the whole is
 * put through nm_plan_check. */
#include "moe/fields.h"
#include "moe/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { VERSION = 1, LINE = 100, MOST_LAYERS = 4096, MOST_EXPERTS = 4096 };

#define SCHEMA  "npumoe-plan"
#define MOST_US NM_PLAN_MOST_US

typedef struct real_field {
    const char *key;
    size_t offset;
} real_field;

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const real_field prediction_fields[] = {
    {"us", offsetof(nm_prediction, us)},
    {"host_us", offsetof(nm_prediction, host_us)},
    {"device_us", offsetof(nm_prediction, device_us)},
    {"wait_us", offsetof(nm_prediction, wait_us)},
    {"launches", offsetof(nm_prediction, launches)},
    {"rows", offsetof(nm_prediction, rows)},
    {"padding", offsetof(nm_prediction, padding)},
    {"overflow", offsetof(nm_prediction, overflow)},
    {"dropped", offsetof(nm_prediction, dropped)},
};

static const real_field group_fields[] = {
    {"launches", offsetof(nm_plan_group, launches)},
    {"rows", offsetof(nm_plan_group, rows)},
    {"padding", offsetof(nm_plan_group, padding)},
    {"overflow", offsetof(nm_plan_group, overflow)},
    {"device_us", offsetof(nm_plan_group, device_us)},
    {"host_saved_us", offsetof(nm_plan_group, host_saved_us)},
};

static const real_field rejected_fields[] = {
    {"us", offsetof(nm_plan_rejected, us)},
    {"host_us", offsetof(nm_plan_rejected, host_us)},
    {"device_us", offsetof(nm_plan_rejected, device_us)},
};

/* ---- writing -------------------------------------------------------------------------------- */

static void put_reals(json_t *o, const real_field *fields, size_t n, const void *from)
{
    for (size_t i = 0; i < n; i++) {
        double v;
        memcpy(&v, (const char *)from + fields[i].offset, sizeof v);
        json_object_set_new(o, fields[i].key, nm_fields_number(v));
    }
}

static json_t *prediction_json(const nm_prediction *p)
{
    json_t *o = json_object();
    put_reals(o, prediction_fields, COUNT(prediction_fields), p);
    if (p->joules >= 0.0)
        json_object_set_new(o, "joules", nm_fields_number(p->joules));
    return o;
}

static json_t *rejected_json(const nm_plan_rejected *r, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++, r++) {
        json_t *o = json_object();
        json_object_set_new(o, "what", json_string(r->what));
        put_reals(o, rejected_fields, COUNT(rejected_fields), r);
        json_object_set_new(o, "programs", json_integer(r->programs));
        json_object_set_new(o, "bytes", json_integer((json_int_t)r->bytes));
        if (r->too_large)
            json_object_set_new(o, "too_large", json_true());
        json_array_append_new(list, o);
    }
    return list;
}

/* NULL: every part is one side's alone. */
static json_t *rows_json(const nm_plan_layer *l)
{
    json_t *o = NULL;
    for (int i = 0; i < NM_COST_PARTS; i++) {
        if (l->part_rows[i] == 0)
            continue;
        o = o ? o : json_object();
        json_object_set_new(o, nm_cost_part_name((nm_cost_part)i), json_integer(l->part_rows[i]));
    }
    return o;
}

static json_t *layer_json(const nm_plan_layer *l)
{
    json_t *o = json_object(), *groups = json_array(), *parts = json_array(), *rows = rows_json(l);
    json_object_set_new(o, "layer", json_integer(l->layer));
    if (l->types.known)
        json_object_set_new(o, "types", nm_expert_types_json(l->types.type));
    json_object_set_new(o, "price", nm_fields_number(l->price));
    for (int i = 0; i < NM_COST_PARTS; i++)
        if (l->on_device[i])
            json_array_append_new(parts, json_string(nm_cost_part_name((nm_cost_part)i)));
    json_object_set_new(o, "parts", parts);
    if (rows)
        json_object_set_new(o, "rows", rows);
    for (uint32_t i = 0; i < l->n_groups; i++) {
        const nm_plan_group *g = &l->groups[i];
        json_t *group = json_object();
        json_object_set_new(group, "experts", nm_fields_numbers(g->experts, g->n_experts));
        json_object_set_new(group, "capacities", nm_fields_numbers(g->capacities, g->n_capacities));
        put_reals(group, group_fields, COUNT(group_fields), g);
        json_array_append_new(groups, group);
    }
    json_object_set_new(o, "groups", groups);
    json_object_set_new(o, "predicted", prediction_json(&l->predicted));
    json_object_set_new(o, "bound_us", nm_fields_number(l->bound_us));
    json_object_set_new(o, "rejected", rejected_json(l->rejected, l->n_rejected));
    return o;
}

static json_t *model_json(const nm_plan_model *m)
{
    char hash[20];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)m->router_hash);
    return json_pack("{s:s, s:s, s:s, s:I}", "name", m->name, "architecture", m->architecture,
                     "router_hash", hash, "n_layer", (json_int_t)m->n_layer);
}

static json_t *plan_json(const nm_plan *p)
{
    json_t *o = json_object(), *layers = json_array();
    json_object_set_new(o, "schema", json_string(SCHEMA));
    json_object_set_new(o, "schema_version", json_integer(VERSION));
    json_object_set_new(o, "policy", json_string(nm_plan_policy_name(p->policy)));
    json_object_set_new(o, "overflow", json_string(nm_overflow_name(p->overflow)));
    json_object_set_new(o, "objective", json_string(nm_objective_name(p->objective)));
    if (p->host_limit > 0.0)
        json_object_set_new(o, "host_limit", nm_fields_number(p->host_limit));
    json_object_set_new(o, "model", model_json(&p->model));
    json_object_set_new(o, "chunk", json_integer(p->chunk));
    json_object_set_new(o, "in_flight", json_integer(p->in_flight));
    json_object_set_new(o, "prompt", json_integer(p->n_prompt));
    json_object_set_new(o, "n_past", json_integer(p->n_past));
    json_object_set_new(o, "part_price", nm_fields_number(p->part_price));
    json_object_set_new(o, "tiers", json_integer(p->n_tiers));
    json_object_set_new(o, "max_group", json_integer(p->max_group));
    json_object_set_new(o, "max_capacities", json_integer(p->max_capacities));
    json_object_set_new(o, "crossover",
                        p->crossover == UINT32_MAX ? json_null() : json_integer(p->crossover));
    json_object_set_new(o, "attention_chunks", json_integer(p->attention_chunks));
    json_object_set_new(o, "programs", json_integer(p->programs));
    json_object_set_new(o, "bytes", json_integer((json_int_t)p->bytes));
    json_object_set_new(o, "predicted", prediction_json(&p->predicted));
    json_object_set_new(o, "cpu_only", prediction_json(&p->cpu_only));
    json_object_set_new(o, "bound_us", nm_fields_number(p->bound_us));
    json_object_set_new(o, "gap", nm_fields_number(p->gap));
    json_object_set_new(o, "rejected", rejected_json(p->rejected, p->n_rejected));
    for (uint32_t i = 0; i < p->n_layers; i++)
        json_array_append_new(layers, layer_json(&p->layers[i]));
    json_object_set_new(o, "layers", layers);
    json_object_set_new(o, "cost", nm_cost_to_json(&p->cost));
    return o;
}

npumoe_status nm_plan_print(const nm_plan *plan, char **json, npumoe_error *err)
{
    json_t *root = plan_json(plan);
    npumoe_status st = nm_fields_print(root, json, err);
    json_decref(root);
    return st;
}

/* ---- reading -------------------------------------------------------------------------------- */

static npumoe_status read_reals(const nm_fields *f, const real_field *fields, size_t n, void *to)
{
    for (size_t i = 0; i < n; i++) {
        double v;
        NM_TRY(nm_fields_real(f, fields[i].key, 0.0, MOST_US, &v));
        memcpy((char *)to + fields[i].offset, &v, sizeof v);
    }
    return NPUMOE_OK;
}

static npumoe_status read_prediction(const nm_fields *f, const char *key, nm_prediction *out)
{
    nm_fields o;
    NM_TRY(nm_fields_object(f, key, &o));
    out->joules = -1.0;
    if (json_object_get(o.json, "joules"))
        NM_TRY(nm_fields_real(&o, "joules", 0.0, MOST_US, &out->joules));
    return read_reals(&o, prediction_fields, COUNT(prediction_fields), out);
}

static npumoe_status read_rejected(const nm_fields *f, nm_plan_rejected *out, uint32_t *n_out)
{
    nm_fields list, o;
    size_t n;
    NM_TRY(nm_fields_array(f, "rejected", NM_PLAN_MAX_REJECTED, &list, &n));
    for (size_t i = 0; i < n; i++) {
        NM_TRY(nm_fields_at(&list, i, &o));
        NM_TRY(nm_fields_text(&o, "what", out[i].what, sizeof out[i].what));
        NM_TRY(nm_fields_u32(&o, "programs", 0, UINT32_MAX, &out[i].programs));
        NM_TRY(nm_fields_u64(&o, "bytes", &out[i].bytes));
        if (json_object_get(o.json, "too_large"))
            NM_TRY(nm_fields_bool(&o, "too_large", &out[i].too_large));
        NM_TRY(read_reals(&o, rejected_fields, COUNT(rejected_fields), &out[i]));
    }
    *n_out = (uint32_t)n;
    return NPUMOE_OK;
}

static npumoe_status read_group(const nm_fields *f, const nm_plan *plan, nm_plan_group *g)
{
    nm_fields list;
    size_t n;
    NM_TRY(nm_fields_array(f, "experts", NM_PLAN_MAX_GROUP, &list, &n));
    g->experts = nm_alloc_array(plan->allocator, n, sizeof *g->experts);
    if (!g->experts)
        return nm_err_nomem(f->err, n * sizeof *g->experts, "a plan");
    g->n_experts = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        NM_TRY(nm_fields_u32_at(&list, i, 0, MOST_EXPERTS - 1, &g->experts[i]));
    NM_TRY(nm_fields_array(f, "capacities", NM_PLAN_MAX_CAPACITIES, &list, &n));
    g->n_capacities = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        NM_TRY(nm_fields_u32_at(&list, i, 1, NM_COST_MAX_ROWS, &g->capacities[i]));
    return read_reals(f, group_fields, COUNT(group_fields), g);
}

static npumoe_status read_parts(const nm_fields *f, bool *on_device)
{
    nm_fields list;
    size_t n;
    NM_TRY(nm_fields_array(f, "parts", NM_COST_PARTS, &list, &n));
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list.json, i));
        int p = 0;
        while (p < NM_COST_PARTS &&
               (!name || strcmp(name, nm_cost_part_name((nm_cost_part)p)) != 0))
            p++;
        if (p == NM_COST_PARTS)
            return nm_fields_bad(f, "parts", "a list of qkv, attention, o, shared");
        if (on_device[p])
            return nm_fields_bad(f, "parts", "each of them once");
        on_device[p] = true;
    }
    return NPUMOE_OK;
}

static npumoe_status read_rows(const nm_fields *f, uint32_t *rows)
{
    nm_fields o;
    size_t n = 0;
    if (!json_object_get(f->json, "rows"))
        return NPUMOE_OK;
    NM_TRY(nm_fields_object(f, "rows", &o));
    for (int p = 0; p < NM_COST_PARTS; p++) {
        const char *name = nm_cost_part_name((nm_cost_part)p);
        if (!json_object_get(o.json, name))
            continue;
        NM_TRY(nm_fields_u32(&o, name, 1, NM_COST_MAX_ROWS, &rows[p]));
        n++;
    }
    return n == json_object_size(o.json) ? NPUMOE_OK
                                         : nm_fields_bad(f, "rows", "numbers of rows of qkv, o");
}

static npumoe_status read_layer(const nm_fields *f, const nm_plan *plan, nm_plan_layer *l)
{
    nm_fields list, o;
    size_t n;
    NM_TRY(nm_fields_u32(f, "layer", 0, MOST_LAYERS, &l->layer));
    NM_TRY(nm_expert_types_read_if(f, &l->types));
    NM_TRY(nm_fields_real(f, "price", -1.0, 1.0, &l->price));
    NM_TRY(read_parts(f, l->on_device));
    NM_TRY(read_rows(f, l->part_rows));
    NM_TRY(nm_fields_array(f, "groups", MOST_EXPERTS, &list, &n));
    l->groups = nm_alloc_array(plan->allocator, n, sizeof *l->groups);
    if (!l->groups)
        return nm_err_nomem(f->err, n * sizeof *l->groups, "a plan");
    l->n_groups = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        NM_TRY(nm_fields_at(&list, i, &o));
        NM_TRY(read_group(&o, plan, &l->groups[i]));
    }
    /* More bytes than can be counted are for nm_plan_check to refuse. */
    nm_plan_count_layer(&plan->cost, l, &l->programs, &l->bytes);
    NM_TRY(read_prediction(f, "predicted", &l->predicted));
    NM_TRY(nm_fields_real(f, "bound_us", 0.0, MOST_US, &l->bound_us));
    return read_rejected(f, l->rejected, &l->n_rejected);
}

static npumoe_status read_name(const nm_fields *f, const char *key, const char *(*name)(unsigned),
                               const char *expected, unsigned *out)
{
    const char *found = json_string_value(json_object_get(f->json, key));
    for (unsigned i = 0; found && name(i); i++)
        if (strcmp(found, name(i)) == 0) {
            *out = i;
            return NPUMOE_OK;
        }
    return nm_fields_bad(f, key, expected);
}

static const char *policy_name(unsigned i)
{
    return nm_plan_policy_name((nm_plan_policy)i);
}

static const char *overflow_name(unsigned i)
{
    return nm_overflow_name((nm_overflow)i);
}

static const char *objective_name(unsigned i)
{
    return nm_objective_name((nm_objective)i);
}

static npumoe_status read_names(const nm_fields *f, nm_plan *p)
{
    unsigned v = 0;
    NM_TRY(read_name(f, "policy", policy_name, "ours, paper, ladder, naive or cpu", &v));
    p->policy = (nm_plan_policy)v;
    NM_TRY(read_name(f, "overflow", overflow_name, "spill, repass, prune or reroute", &v));
    p->overflow = (nm_overflow)v;
    NM_TRY(read_name(f, "objective", objective_name, "latency, energy or cpu", &v));
    p->objective = (nm_objective)v;
    if (json_object_get(f->json, "host_limit"))
        NM_TRY(nm_fields_real(f, "host_limit", 0.0, 1.0, &p->host_limit));
    return NPUMOE_OK;
}

static npumoe_status read_model(const nm_fields *f, nm_plan_model *m)
{
    nm_fields o;
    char hash[20], *end;
    NM_TRY(nm_fields_object(f, "model", &o));
    NM_TRY(nm_fields_text(&o, "name", m->name, sizeof m->name));
    NM_TRY(nm_fields_text(&o, "architecture", m->architecture, sizeof m->architecture));
    NM_TRY(nm_fields_text(&o, "router_hash", hash, sizeof hash));
    m->router_hash = strtoull(hash, &end, 16);
    if (strlen(hash) != 16 || strspn(hash, "0123456789abcdef") != 16 || *end != '\0')
        return nm_fields_bad(&o, "router_hash", "16 digits of 0-9 a-f");
    return nm_fields_u32(&o, "n_layer", 1, MOST_LAYERS, &m->n_layer);
}

static npumoe_status read_scalars(const nm_fields *f, nm_plan *p)
{
    NM_TRY(nm_fields_u32(f, "chunk", 1, NM_PLAN_MAX_CHUNK, &p->chunk));
    NM_TRY(nm_fields_u32(f, "in_flight", 1, NM_PLAN_MAX_IN_FLIGHT, &p->in_flight));
    NM_TRY(nm_fields_u32(f, "prompt", 0, 1u << 30, &p->n_prompt));
    NM_TRY(nm_fields_u32(f, "n_past", 0, 1u << 30, &p->n_past));
    p->part_price = NM_COST_EVEN_PRICE; /* plans before it was thought of */
    if (json_object_get(f->json, "part_price"))
        NM_TRY(nm_fields_real(f, "part_price", 0.01, 0.99, &p->part_price));
    NM_TRY(nm_fields_u32(f, "tiers", 1, NM_PLAN_MAX_CAPACITIES, &p->n_tiers));
    NM_TRY(nm_fields_u32(f, "max_group", 1, NM_PLAN_MAX_GROUP, &p->max_group));
    NM_TRY(nm_fields_u32(f, "max_capacities", 1, NM_PLAN_MAX_CAPACITIES, &p->max_capacities));
    p->crossover = UINT32_MAX;
    if (!json_is_null(json_object_get(f->json, "crossover")))
        NM_TRY(nm_fields_u32(f, "crossover", 0, 1u << 30, &p->crossover));
    if (json_object_get(f->json, "attention_chunks")) /* not in plans from before it was a part */
        NM_TRY(
            nm_fields_u32(f, "attention_chunks", 0, NM_PLAN_MAX_ATTENTION, &p->attention_chunks));
    NM_TRY(nm_fields_u32(f, "programs", 0, UINT32_MAX, &p->programs));
    NM_TRY(nm_fields_u64(f, "bytes", &p->bytes));
    NM_TRY(nm_fields_real(f, "bound_us", 0.0, MOST_US, &p->bound_us));
    NM_TRY(nm_fields_real(f, "gap", -1.0, MOST_US, &p->gap));
    NM_TRY(read_prediction(f, "predicted", &p->predicted));
    NM_TRY(read_prediction(f, "cpu_only", &p->cpu_only));
    return read_rejected(f, p->rejected, &p->n_rejected);
}

static npumoe_status read_plan(const json_t *root, nm_plan *p, npumoe_error *err)
{
    const nm_fields f = nm_fields_root(root, err);
    nm_fields part;
    size_t n;
    NM_TRY(nm_fields_schema(&f, SCHEMA, VERSION));
    NM_TRY(read_names(&f, p));
    NM_TRY(read_model(&f, &p->model));
    NM_TRY(nm_fields_object(&f, "cost", &part));
    npumoe_status st = nm_cost_from_json(part.json, &p->cost, err);
    if (st != NPUMOE_OK)
        return nm_err_prefix(err, st, "cost");
    p->model.geometry = p->cost.geometry;
    NM_TRY(read_scalars(&f, p));
    NM_TRY(nm_fields_array(&f, "layers", MOST_LAYERS, &part, &n));
    p->layers = nm_alloc_array(p->allocator, n, sizeof *p->layers);
    if (!p->layers)
        return nm_err_nomem(err, n * sizeof *p->layers, "a plan");
    p->n_layers = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        nm_fields layer;
        NM_TRY(nm_fields_at(&part, i, &layer));
        NM_TRY(read_layer(&layer, p, &p->layers[i]));
    }
    return nm_plan_check(p, err);
}

npumoe_status nm_plan_parse(const npumoe_allocator *a, const char *json, size_t json_bytes,
                            nm_plan **out, npumoe_error *err)
{
    json_t *root;
    NM_TRY(nm_fields_parse(json, json_bytes, "plan", &root, err));
    nm_plan *plan = nm_zalloc(a, sizeof *plan);
    npumoe_status st;
    if (plan) {
        plan->allocator = a;
        st = read_plan(root, plan, err);
    } else {
        st = nm_err_nomem(err, sizeof *plan, "a plan");
    }
    json_decref(root);
    if (st != NPUMOE_OK)
        nm_plan_free(&plan);
    else
        *out = plan;
    return st;
}

npumoe_status nm_plan_identity(const nm_plan *plan, char out[17], npumoe_error *err)
{
    char *json = NULL;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    NM_TRY(nm_plan_print(plan, &json, err));
    for (const char *at = json; *at; at++)
        hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    npumoe_text_free(&json);
    snprintf(out, 17, "%016llx", (unsigned long long)hash);
    return NPUMOE_OK;
}
