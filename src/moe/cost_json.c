/* cost_json.c: cost tables as JSON, schema "npumoe-plan-cost" (docs/plan.md).
 *
 * Both directions walk the same tables of fields, so that what is written is what is read. */
#include "moe/cost.h"
#include "moe/expert_types.h"
#include "quant/quant.h"

#include <math.h>

enum { VERSION = 1 };

#define SCHEMA     "npumoe-plan-cost"
#define MOST_US    1e12 /* twelve days */
#define MOST_DIM   (1u << 20)
#define MOST_BYTES (UINT64_C(1) << 34) /* of an expert or a part */

typedef struct u32_field {
    const char *key;
    size_t offset;
    uint32_t min, max;
} u32_field;

typedef struct byte_field {
    const char *key;
    size_t offset;
    bool is_limit;
} byte_field;

/* `later`: missing in tables from before it was there; then false, 0 or no points. */
typedef struct flag_field {
    const char *key;
    size_t offset;
    bool later;
} flag_field;

typedef struct real_field {
    const char *key;
    size_t offset;
    double min, max;
    bool later;
} real_field;

typedef struct curve_field {
    const char *key;
    size_t offset;
    bool needed, later;
} curve_field;

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define G(f)     offsetof(nm_cost_geometry, f)
#define D(f)     offsetof(nm_cost_device, f)
#define C(f)     offsetof(nm_cost, f)

static const u32_field geometry_fields[] = {
    {"n_embd", G(n_embd), 1, MOST_DIM},
    {"n_ff", G(n_ff), 1, MOST_DIM},
    {"n_ff_shared", G(n_ff_shared), 0, MOST_DIM},
    {"n_expert", G(n_expert), 1, 4096},
    {"n_expert_used", G(n_expert_used), 1, 64},
    {"n_head", G(n_head), 1, MOST_DIM},
    {"n_head_kv", G(n_head_kv), 1, MOST_DIM},
    {"dim_k", G(dim_k), 1, MOST_DIM},
    {"dim_v", G(dim_v), 1, MOST_DIM},
};

static const u32_field device_fields[] = {
    {"slots", D(slots), 0, UINT32_MAX},
    {"capacity_multiple", D(capacity_multiple), 1, NM_COST_MAX_ROWS},
    {"capacity_min", D(capacity_min), 1, NM_COST_MAX_ROWS},
    {"capacity_max", D(capacity_max), 1, UINT32_MAX},
    {"queue_depth", D(queue_depth), 0, UINT32_MAX},
    {"threads", D(threads), 0, 4096},
};

/* Bytes go through as reals would not. Limits: UINT64_MAX is "none" and written as null. Sizes have a bound, so that
 * no sum of them over copies, experts and layers comes near the end of 63 bits. */
static const byte_field byte_fields[] = {
    {"program_bytes", D(program_bytes), true},
    {"total_bytes", D(total_bytes), true},
    {"expert_bytes", D(expert_bytes), false},
    {"qkv_bytes", D(part_bytes[NM_PART_QKV]), false},
    {"o_bytes", D(part_bytes[NM_PART_O]), false},
    {"shared_bytes", D(part_bytes[NM_PART_SHARED]), false},
};

static const flag_field flag_fields[] = {
    {"simulated", D(simulated), false},
    {"shares_weights", D(shares_weights), false},
    {"has_linear", D(has_linear), false},
    {"has_attention", D(has_attention), true},
};

static const real_field real_fields[] = {
    {"host_region_us", C(host_region_us), 0.0, MOST_US, false},
    {"join_us", C(join_us), 0.0, MOST_US, false},
    {"launch_us", C(launch_us), 0.0, MOST_US, false},
    {"launch_host_us", C(launch_host_us), 0.0, MOST_US, false},
    {"load_us_per_mb", C(load_us_per_mb), 0.0, MOST_US, false},
    {"unload_us_per_mb", C(unload_us_per_mb), 0.0, MOST_US, false},
    {"added_launch_us", C(device.added_launch_us), 0.0, MOST_US, false},
    {"qkv_far_us", C(part_far_us[NM_PART_QKV]), 0.0, MOST_US, true},
    {"o_far_us", C(part_far_us[NM_PART_O]), 0.0, MOST_US, true},
};

static const curve_field curve_fields[] = {
    {"host_expert", C(host_expert), true, false},
    {"host_qkv", C(host_part[NM_PART_QKV]), true, false},
    {"host_o", C(host_part[NM_PART_O]), true, false},
    {"host_shared", C(host_part[NM_PART_SHARED]), false, false},
    {"host_layer", C(host_layer), true, false},
    {"attention", C(host_part[NM_PART_ATTENTION]), true, false},
    {"gather", C(gather), true, false},
    {"scatter", C(scatter), true, false},
    {"device_expert", C(device_expert), false, false},
    {"device_qkv", C(device_part[NM_PART_QKV]), false, false},
    {"device_attention", C(device_part[NM_PART_ATTENTION]), false, true},
    {"device_o", C(device_part[NM_PART_O]), false, false},
    {"device_shared", C(device_part[NM_PART_SHARED]), false, false},
};

/* ---- writing -------------------------------------------------------------------------------- */

static json_t *curve_json(const nm_curve *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->n; i++)
        json_array_append_new(list,
                              json_pack("[i,o]", (int)c->rows[i], nm_fields_number(c->us[i])));
    return list;
}

static json_t *geometry_json(const nm_cost_geometry *g)
{
    json_t *o = json_object();
    for (size_t i = 0; i < COUNT(geometry_fields); i++) {
        uint32_t v;
        memcpy(&v, (const char *)g + geometry_fields[i].offset, sizeof v);
        json_object_set_new(o, geometry_fields[i].key, json_integer(v));
    }
    json_object_set_new(o, "types", nm_expert_types_json(g->type));
    return o;
}

static json_t *device_json(const nm_cost_device *d)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(d->name));
    if (d->weights[0])
        json_object_set_new(o, "weights", json_string(d->weights));
    if (d->arithmetic[0])
        json_object_set_new(o, "arithmetic", json_string(d->arithmetic));
    for (size_t i = 0; i < COUNT(flag_fields); i++) {
        bool v;
        memcpy(&v, (const char *)d + flag_fields[i].offset, sizeof v);
        json_object_set_new(o, flag_fields[i].key, json_boolean(v));
    }
    for (size_t i = 0; i < COUNT(device_fields); i++) {
        uint32_t v;
        memcpy(&v, (const char *)d + device_fields[i].offset, sizeof v);
        json_object_set_new(o, device_fields[i].key, json_integer(v));
    }
    for (size_t i = 0; i < COUNT(byte_fields); i++) {
        uint64_t v;
        memcpy(&v, (const char *)d + byte_fields[i].offset, sizeof v);
        json_object_set_new(o, byte_fields[i].key,
                            v > INT64_MAX ? json_null() : json_integer((json_int_t)v));
    }
    return o;
}

json_t *nm_cost_to_json(const nm_cost *c)
{
    json_t *o = json_object();
    json_object_set_new(o, "schema", json_string(SCHEMA));
    json_object_set_new(o, "schema_version", json_integer(VERSION));
    json_object_set_new(o, "geometry", geometry_json(&c->geometry));
    json_object_set_new(o, "isa", json_string(c->isa));
    if (c->precision[0])
        json_object_set_new(o, "precision", json_string(c->precision));
    json_object_set_new(o, "host_threads", json_integer(c->host_threads));
    json_object_set_new(o, "chunk", json_integer(c->chunk));
    json_object_set_new(o, "device", device_json(&c->device));
    for (size_t i = 0; i < COUNT(real_fields); i++) {
        double v;
        memcpy(&v, (const char *)c + real_fields[i].offset, sizeof v);
        json_object_set_new(o, real_fields[i].key, nm_fields_number(v));
    }
    if (c->beside[NM_WORK_DEVICE] > 0.0) {
        json_t *beside = json_object();
        for (int i = 0; i < NM_COST_WORKS; i++)
            json_object_set_new(beside, nm_cost_work_name((nm_cost_work)i),
                                nm_fields_number(c->beside[i]));
        json_object_set_new(o, "beside", beside);
    }
    if (c->host_watts >= 0.0)
        json_object_set_new(o, "host_watts", nm_fields_number(c->host_watts));
    if (c->device_watts >= 0.0)
        json_object_set_new(o, "device_watts", nm_fields_number(c->device_watts));
    if (c->host_watts >= 0.0 || c->device_watts >= 0.0)
        json_object_set_new(o, "watts_source", json_string(c->watts_source));
    for (size_t i = 0; i < COUNT(curve_fields); i++)
        json_object_set_new(
            o, curve_fields[i].key,
            curve_json((const nm_curve *)(const void *)((const char *)c + curve_fields[i].offset)));
    return o;
}

/* ---- reading -------------------------------------------------------------------------------- */

static npumoe_status read_curve(const nm_fields *f, const curve_field *what, nm_curve *out)
{
    nm_fields list;
    size_t n;
    NM_TRY(nm_fields_array(f, what->key, NM_CURVE_MAX, &list, &n));
    if (what->needed && n == 0)
        return nm_fields_bad(f, what->key, "at least one point");
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(list.json, i);
        const nm_fields p = {.json = pair, .parent = &list, .index = i, .err = f->err};
        if (!json_is_array(pair) || json_array_size(pair) != 2)
            return nm_fields_bad(&p, NULL, "a point [rows, microseconds]");
        const uint32_t least = i ? out->rows[i - 1] + 1 : 1;
        NM_TRY(nm_fields_u32_at(&p, 0, least, NM_COST_MAX_ROWS, &out->rows[i]));
        NM_TRY(nm_fields_real_at(&p, 1, 0.0, MOST_US, &out->us[i]));
    }
    out->n = (uint32_t)n;
    return NPUMOE_OK;
}

static npumoe_status read_geometry(const nm_fields *f, nm_cost_geometry *g)
{
    for (size_t i = 0; i < COUNT(geometry_fields); i++) {
        const u32_field *u = &geometry_fields[i];
        uint32_t v;
        NM_TRY(nm_fields_u32(f, u->key, u->min, u->max, &v));
        memcpy((char *)g + u->offset, &v, sizeof v);
    }
    if (g->n_expert_used > g->n_expert)
        return nm_fields_bad(f, "n_expert_used", "no more than n_expert");
    return nm_expert_types_read(f, g->type);
}

static npumoe_status read_device(const nm_fields *f, nm_cost_device *d)
{
    NM_TRY(nm_fields_text(f, "name", d->name, sizeof d->name));
    memcpy(d->weights, "file", sizeof "file"); /* of tables from before there was another way */
    if (json_object_get(f->json, "weights"))
        NM_TRY(nm_fields_text(f, "weights", d->weights, sizeof d->weights));
    if (json_object_get(f->json, "arithmetic"))
        NM_TRY(nm_fields_text(f, "arithmetic", d->arithmetic, sizeof d->arithmetic));
    for (size_t i = 0; i < COUNT(flag_fields); i++) {
        bool v;
        if (flag_fields[i].later && json_object_get(f->json, flag_fields[i].key) == NULL)
            continue;
        NM_TRY(nm_fields_bool(f, flag_fields[i].key, &v));
        memcpy((char *)d + flag_fields[i].offset, &v, sizeof v);
    }
    for (size_t i = 0; i < COUNT(device_fields); i++) {
        const u32_field *u = &device_fields[i];
        uint32_t v;
        NM_TRY(nm_fields_u32(f, u->key, u->min, u->max, &v));
        memcpy((char *)d + u->offset, &v, sizeof v);
    }
    for (size_t i = 0; i < COUNT(byte_fields); i++) {
        const char *key = byte_fields[i].key;
        uint64_t v = UINT64_MAX;
        if (!byte_fields[i].is_limit || !json_is_null(json_object_get(f->json, key)))
            NM_TRY(nm_fields_u64(f, key, &v));
        if (!byte_fields[i].is_limit && v > MOST_BYTES)
            return nm_fields_bad(f, key, "at most 2^34 bytes");
        memcpy((char *)d + byte_fields[i].offset, &v, sizeof v);
    }
    if (d->capacity_min > d->capacity_max)
        return nm_fields_bad(f, "capacity_min", "no more than capacity_max");
    return NPUMOE_OK;
}

static npumoe_status read_watts(const nm_fields *f, nm_cost *c)
{
    c->host_watts = c->device_watts = -1.0;
    if (json_object_get(f->json, "host_watts"))
        NM_TRY(nm_fields_real(f, "host_watts", 0.0, 1e6, &c->host_watts));
    if (json_object_get(f->json, "device_watts"))
        NM_TRY(nm_fields_real(f, "device_watts", 0.0, 1e6, &c->device_watts));
    if (c->host_watts >= 0.0 || c->device_watts >= 0.0)
        memcpy(c->watts_source, "given", sizeof "given");
    if (json_object_get(f->json, "watts_source"))
        NM_TRY(nm_fields_text(f, "watts_source", c->watts_source, sizeof c->watts_source));
    return NPUMOE_OK;
}

/* All of them, or, where nothing was measured, no such object. */
static npumoe_status read_beside(const nm_fields *f, nm_cost *c)
{
    nm_fields beside;
    if (json_object_get(f->json, "beside") == NULL)
        return NPUMOE_OK;
    NM_TRY(nm_fields_object(f, "beside", &beside));
    for (int i = 0; i < NM_COST_WORKS; i++)
        NM_TRY(nm_fields_real(&beside, nm_cost_work_name((nm_cost_work)i), 1.0, NM_COST_MOST_BESIDE,
                              &c->beside[i]));
    return NPUMOE_OK;
}

npumoe_status nm_cost_from_json(const json_t *root, nm_cost *out, npumoe_error *err)
{
    const nm_fields f = nm_fields_root(root, err);
    nm_fields part;
    nm_cost c = {0};
    NM_TRY(nm_fields_schema(&f, SCHEMA, VERSION));
    NM_TRY(nm_fields_object(&f, "geometry", &part));
    NM_TRY(read_geometry(&part, &c.geometry));
    NM_TRY(nm_fields_text(&f, "isa", c.isa, sizeof c.isa));
    if (json_object_get(root, "precision")) /* not in older tables */
        NM_TRY(nm_fields_text(&f, "precision", c.precision, sizeof c.precision));
    NM_TRY(nm_fields_u32(&f, "host_threads", 1, 4096, &c.host_threads));
    NM_TRY(nm_fields_u32(&f, "chunk", 1, NM_COST_MAX_ROWS, &c.chunk));
    NM_TRY(nm_fields_object(&f, "device", &part));
    NM_TRY(read_device(&part, &c.device));
    for (size_t i = 0; i < COUNT(real_fields); i++) {
        const real_field *r = &real_fields[i];
        double v;
        if (r->later && json_object_get(root, r->key) == NULL)
            continue;
        NM_TRY(nm_fields_real(&f, r->key, r->min, r->max, &v));
        memcpy((char *)&c + r->offset, &v, sizeof v);
    }
    NM_TRY(read_beside(&f, &c));
    NM_TRY(read_watts(&f, &c));
    for (size_t i = 0; i < COUNT(curve_fields); i++) {
        const curve_field *v = &curve_fields[i];
        if (!v->later || json_object_get(root, v->key))
            NM_TRY(read_curve(&f, v, (nm_curve *)(void *)((char *)&c + v->offset)));
    }
    if (c.geometry.n_ff_shared > 0 && c.host_part[NM_PART_SHARED].n == 0)
        return nm_fields_bad(&f, "host_shared", "points, as there is a shared expert");
    if (strcmp(c.device.name, "cpu") != 0 && c.device_expert.n == 0)
        return nm_fields_bad(&f, "device_expert", "points, as there is a device");
    *out = c;
    return NPUMOE_OK;
}
