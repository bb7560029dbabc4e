/* profile_json.c: profiles as files. The format is docs/calibrate.md's; in short
 *
 *   schema, schema_version, model, window, chunk_sizes
 *   main, held_out      {tokens, chunks: [per size]}
 *   texts               [{name, bytes, tokens, held_tokens, pairs: [layer][expert]}]
 *   layers              [{layer, main, held_out: {pairs: [expert], loads: [size][expert][...]},
 *                         coactivation: {experts, products}}]
 *
 * A histogram is a run of bins from the first to the last that has chunks, without bin 0, which is what
 * the others leave of the chunks: [first, n, n counts, the excess of each bin that is wider than one
 * load and not empty]; [] for an expert that nothing reached. So a model of 16 x 64 experts stays below a
 * megabyte.
 *
 * Writing goes layer by layer, because a document of a large model as jansson's objects would
 * take forty times its size. Reading has to take the whole; what is read is then small. Every
 * number is checked for its range, and every sum that two places must agree on (profile.h's
 * invariants), so that nobody behind this has to. */
#include "base/file.h"
#include "moe/fields.h"
#include "moe/profile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SCHEMA         "npumoe-profile"
#define SCHEMA_VERSION 1u
#define MAX_FILE_BYTES (UINT64_C(1) << 30)
#define MAX_VOCAB      (1u << 24)
#define MAX_BYTES      ((uint64_t)INT64_MAX)
#define N_512(c)       ((c)->chunks[NM_PROFILE_COACT_SIZE])

static const char *const part_keys[NM_PROFILE_PARTS] = {"main", "held_out"};

/* The numbers of nm_profile_model that a file has, with their ranges. */
static const struct model_key {
    const char *key;
    size_t offset;
    uint32_t min, max;
} model_keys[] = {
    {"n_layer", offsetof(nm_profile_model, n_layer), 1, NM_MAX_LAYERS},
    {"n_vocab", offsetof(nm_profile_model, n_vocab), 0, MAX_VOCAB},
    {"n_embd", offsetof(nm_profile_model, n_embd), 1, NM_MAX_WIDTH},
    {"n_head", offsetof(nm_profile_model, n_head), 1, NM_MAX_WIDTH},
    {"n_head_kv", offsetof(nm_profile_model, n_head_kv), 1, NM_MAX_WIDTH},
    {"dim_k", offsetof(nm_profile_model, dim_k), 1, NM_MAX_WIDTH},
    {"dim_v", offsetof(nm_profile_model, dim_v), 1, NM_MAX_WIDTH},
    {"window", offsetof(nm_profile_model, window), 0, UINT32_MAX},
    {"n_expert", offsetof(nm_profile_model, n_expert), 1, NM_MAX_EXPERTS},
    {"n_expert_used", offsetof(nm_profile_model, n_expert_used), 1, NM_MAX_EXPERT_USED},
    {"n_ff_expert", offsetof(nm_profile_model, n_ff_expert), 1, NM_MAX_WIDTH},
    {"n_ff_shared", offsetof(nm_profile_model, n_ff_shared), 0, NM_MAX_WIDTH},
    {"n_ff_dense", offsetof(nm_profile_model, n_ff_dense), 0, NM_MAX_WIDTH},
};

static const struct model_type {
    const char *key;
    size_t offset;
} model_types[] = {
    {"type_gate", offsetof(nm_profile_model, type_gate)},
    {"type_up", offsetof(nm_profile_model, type_up)},
    {"type_down", offsetof(nm_profile_model, type_down)},
    {"type_qkv", offsetof(nm_profile_model, type_qkv)},
    {"type_out", offsetof(nm_profile_model, type_out)},
};

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static uint32_t *model_u32(nm_profile_model *m, size_t offset)
{
    return (uint32_t *)(void *)((char *)m + offset);
}

/* ---- writing -------------------------------------------------------------------------------- */

typedef struct writer {
    const nm_profile *p;
    nm_profile_sink sink;
    void *user;
    npumoe_error *err;
    npumoe_status st; /* of the sink */
} writer;

static npumoe_status put(writer *w, const char *text)
{
    return w->sink(w->user, text, strlen(text), w->err);
}

static int dump_piece(const char *text, size_t bytes, void *user)
{
    writer *w = user;
    w->st = w->sink(w->user, text, bytes, w->err);
    return w->st == NPUMOE_OK ? 0 : -1;
}

/* Takes value over. */
static npumoe_status put_json(writer *w, json_t *value)
{
    if (value == NULL)
        return nm_err_set(w->err, NPUMOE_ENOMEM, "out of memory for a profile's text");
    w->st = NPUMOE_OK;
    const int failed = json_dump_callback(value, dump_piece, w, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(value);
    if (failed && w->st == NPUMOE_OK)
        return nm_err_set(w->err, NPUMOE_ENOMEM, "out of memory for a profile's text");
    return w->st;
}

/* "key":value and what follows it */
static npumoe_status put_member(writer *w, const char *key, json_t *value, const char *after)
{
    char name[64];
    snprintf(name, sizeof name, "\"%s\":", key);
    npumoe_status st = put(w, name);
    if (st != NPUMOE_OK) {
        json_decref(value);
        return st;
    }
    NM_TRY(put_json(w, value));
    return put(w, after);
}

static void push(json_t *array, uint64_t v)
{
    json_array_append_new(array, json_integer((json_int_t)v));
}

static json_t *numbers(const uint64_t *v, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        push(array, v[i]);
    return array;
}

static json_t *model_json(const nm_profile_model *model)
{
    nm_profile_model m = *model; /* model_u32 wants one to write to */
    char hash[20];
    json_t *o = json_object();
    snprintf(hash, sizeof hash, "%016" PRIx64, m.router_hash);
    json_object_set_new(o, "name", json_string(m.name));
    json_object_set_new(o, "architecture", json_string(m.architecture));
    json_object_set_new(o, "router_hash", json_string(hash));
    for (size_t i = 0; i < COUNT(model_keys); i++)
        json_object_set_new(o, model_keys[i].key,
                            json_integer(*model_u32(&m, model_keys[i].offset)));
    for (size_t i = 0; i < COUNT(model_types); i++) {
        const char *name = nm_type_get(*model_u32(&m, model_types[i].offset))->name;
        json_object_set_new(o, model_types[i].key, json_string(name ? name : "F32"));
    }
    return o;
}

static json_t *histogram_json(const nm_profile_bin *bins, uint32_t n_bins)
{
    json_t *array = json_array();
    uint32_t first = 1, end = n_bins;
    while (first < n_bins && bins[first].count == 0)
        first++;
    while (end > first && bins[end - 1].count == 0)
        end--;
    if (first == end)
        return array;
    push(array, first);
    push(array, end - first);
    for (uint32_t b = first; b < end; b++)
        push(array, bins[b].count);
    for (uint32_t b = first; b < end; b++)
        if (bins[b].count > 0 && nm_profile_bin_high(b) > nm_profile_bin_low(b))
            push(array, bins[b].excess);
    return array;
}

static json_t *counts_json(const nm_profile *p, nm_profile_part part, uint32_t layer)
{
    const uint32_t n_expert = p->model.n_expert;
    json_t *o = json_object(), *loads = json_array();
    json_object_set_new(o, "pairs",
                        numbers(p->part[part].pairs + (size_t)layer * n_expert, n_expert));
    for (uint32_t i = 0; i < NM_PROFILE_SIZES; i++) {
        json_t *size = json_array();
        for (uint32_t e = 0; e < n_expert; e++)
            json_array_append_new(
                size, histogram_json(nm_profile_bins(p, part, layer, e, i), nm_profile_n_bins(i)));
        json_array_append_new(loads, size);
    }
    json_object_set_new(o, "loads", loads);
    return o;
}

/* Marks the busiest `keep` of the experts whose pairs are known; of equal ones the first. */
static uint32_t choose_experts(const nm_profile *p, uint32_t layer, uint32_t keep, uint8_t *chosen)
{
    const uint32_t n = p->model.n_expert;
    const uint64_t *pairs = p->part[NM_PROFILE_MAIN].pairs + (size_t)layer * n;
    const uint8_t *known = p->coact_known + (size_t)layer * n;
    uint32_t found = 0;
    memset(chosen, 0, n);
    for (; found < keep; found++) {
        uint32_t best = n;
        for (uint32_t e = 0; e < n; e++)
            if (known[e] && !chosen[e] && (best == n || pairs[e] > pairs[best]))
                best = e;
        if (best == n)
            break;
        chosen[best] = 1;
    }
    return found;
}

static json_t *coact_json(const nm_profile *p, uint32_t layer, bool all_pairs)
{
    const size_t n = p->model.n_expert;
    uint8_t chosen[NM_MAX_EXPERTS];
    const uint64_t *row = p->coact + layer * (n * (n + 1) / 2);
    json_t *o = json_object(), *experts = json_array(), *products = json_array();
    choose_experts(p, layer, all_pairs ? (uint32_t)n : NM_PROFILE_COACT_STORED, chosen);
    for (size_t e = 0; e < n; row += n - e, e++) {
        if (!chosen[e])
            continue;
        push(experts, e);
        for (size_t f = e; f < n; f++)
            if (chosen[f])
                push(products, row[f - e]);
    }
    json_object_set_new(o, "experts", experts);
    json_object_set_new(o, "products", products);
    return o;
}

static json_t *text_json(const nm_profile *p, const nm_profile_text *t)
{
    const uint32_t n_expert = p->model.n_expert;
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(t->name));
    json_object_set_new(o, "bytes", json_integer((json_int_t)t->bytes));
    json_object_set_new(o, "tokens", json_integer((json_int_t)t->tokens));
    json_object_set_new(o, "held_tokens", json_integer((json_int_t)t->held_tokens));
    json_t *layers = t->pairs ? json_array() : NULL;
    for (uint32_t l = 0; layers && l < p->n_layers; l++)
        json_array_append_new(layers, numbers(t->pairs + (size_t)l * n_expert, n_expert));
    if (layers)
        json_object_set_new(o, "pairs", layers);
    return o;
}

static npumoe_status write_head(writer *w)
{
    const nm_profile *p = w->p;
    char text[96];
    snprintf(text, sizeof text, "{\"schema\":\"" SCHEMA "\",\"schema_version\":%u,\n",
             SCHEMA_VERSION);
    NM_TRY(put(w, text));
    NM_TRY(put_member(w, "model", model_json(&p->model), ",\n"));
    NM_TRY(put_member(w, "window", json_integer(NM_PROFILE_WINDOW), ","));
    json_t *sizes = json_array();
    for (uint32_t i = 0; i < NM_PROFILE_SIZES; i++)
        push(sizes, NM_PROFILE_SIZE(i));
    NM_TRY(put_member(w, "chunk_sizes", sizes, ",\n"));
    for (int i = 0; i < NM_PROFILE_PARTS; i++) {
        json_t *o = json_object();
        json_object_set_new(o, "tokens", json_integer((json_int_t)p->part[i].tokens));
        json_object_set_new(o, "chunks", numbers(p->part[i].chunks, NM_PROFILE_SIZES));
        NM_TRY(put_member(w, part_keys[i], o, ",\n"));
    }
    NM_TRY(put(w, "\"texts\":["));
    for (size_t i = 0; i < p->n_texts; i++) {
        NM_TRY(put(w, i ? ",\n" : "\n"));
        NM_TRY(put_json(w, text_json(p, &p->texts[i])));
    }
    return put(w, "],\n");
}

static npumoe_status write_layer(writer *w, uint32_t layer, bool all_pairs)
{
    NM_TRY(put(w, layer ? ",\n{" : "\n{"));
    const nm_expert_types *types = &w->p->types[layer];
    NM_TRY(put_member(w, "layer", json_integer(w->p->layer_of[layer]), ",\n"));
    if (types->known)
        NM_TRY(put_member(w, "types", nm_expert_types_json(types->type), ",\n"));
    for (int i = 0; i < NM_PROFILE_PARTS; i++)
        NM_TRY(put_member(w, part_keys[i], counts_json(w->p, (nm_profile_part)i, layer),
                          i + 1 < NM_PROFILE_PARTS ? ",\n" : ""));
    if (w->p->coact) {
        NM_TRY(put(w, ",\n"));
        NM_TRY(put_member(w, "coactivation", coact_json(w->p, layer, all_pairs), ""));
    }
    return put(w, "}");
}

npumoe_status nm_profile_write(const nm_profile *p, bool all_pairs, const char *extra,
                               nm_profile_sink sink, void *user, npumoe_error *err)
{
    writer w = {.p = p, .sink = sink, .user = user, .err = err};
    NM_TRY(write_head(&w));
    NM_TRY(put(&w, "\"layers\":["));
    for (uint32_t l = 0; l < p->n_layers; l++)
        NM_TRY(write_layer(&w, l, all_pairs));
    NM_TRY(put(&w, "]"));
    if (extra) {
        NM_TRY(put(&w, ",\n"));
        NM_TRY(put(&w, extra));
    }
    return put(&w, "}\n");
}

static npumoe_status to_file(void *user, const char *text, size_t bytes, npumoe_error *err)
{
    return nm_outfile_write(user, text, bytes, err);
}

npumoe_status nm_profile_save(const nm_profile *p, const char *path, bool all_pairs,
                              const char *extra, npumoe_error *err)
{
    nm_outfile *f = NULL;
    NM_TRY(nm_outfile_new(p->allocator, path, &f, err));
    npumoe_status st = nm_profile_write(p, all_pairs, extra, to_file, f, err);
    if (st == NPUMOE_OK)
        st = nm_outfile_commit(f, err);
    nm_outfile_free(&f);
    return st;
}

/* ---- reading: numbers ----------------------------------------------------------------------- */

/* "an integer from 0 to MAX" for element i of an array. */
static npumoe_status bad_number(const nm_fields *array, size_t i, uint64_t max)
{
    char expected[64];
    snprintf(expected, sizeof expected, "an integer from 0 to %" PRIu64, max);
    const nm_fields at = {
        .json = json_array_get(array->json, i), .parent = array, .index = i, .err = array->err};
    return nm_fields_bad(&at, NULL, expected);
}

static npumoe_status number_at(const nm_fields *array, size_t i, uint64_t max, uint64_t *out)
{
    const json_t *v = json_array_get(array->json, i);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > max)
        return bad_number(array, i, max);
    *out = (uint64_t)json_integer_value(v);
    return NPUMOE_OK;
}

static npumoe_status array_of(const nm_fields *f, const char *key, size_t n, nm_fields *out)
{
    char expected[64];
    size_t found;
    NM_TRY(nm_fields_array(f, key, n, out, &found));
    snprintf(expected, sizeof expected, "an array of %zu", n);
    return found == n ? NPUMOE_OK : nm_fields_bad(f, key, expected);
}

/* Element i, which must be an array of n. */
static npumoe_status array_at(const nm_fields *array, size_t i, size_t n, nm_fields *out)
{
    char expected[64];
    *out = (nm_fields){
        .json = json_array_get(array->json, i), .parent = array, .index = i, .err = array->err};
    snprintf(expected, sizeof expected, "an array of %zu", n);
    if (json_is_array(out->json) && json_array_size(out->json) == n)
        return NPUMOE_OK;
    return nm_fields_bad(out, NULL, expected);
}

static npumoe_status numbers_of(const nm_fields *array, size_t n, uint64_t max, uint64_t *out)
{
    for (size_t i = 0; i < n; i++)
        NM_TRY(number_at(array, i, max, &out[i]));
    return NPUMOE_OK;
}

/* ---- reading: parts ------------------------------------------------------------------------- */

static npumoe_status read_model(const nm_fields *root, nm_profile_model *m, char *name,
                                char *architecture, size_t text_bytes)
{
    nm_fields f;
    char hash[20], type[16];
    int used = 0;
    NM_TRY(nm_fields_object(root, "model", &f));
    NM_TRY(nm_fields_text(&f, "name", name, text_bytes));
    NM_TRY(nm_fields_text(&f, "architecture", architecture, text_bytes));
    NM_TRY(nm_fields_text(&f, "router_hash", hash, sizeof hash));
    if (strspn(hash, "0123456789abcdef") != 16 ||
        sscanf(hash, "%16" SCNx64 "%n", &m->router_hash, &used) != 1 || hash[used] != '\0')
        return nm_fields_bad(&f, "router_hash", "16 hexadecimal digits");
    for (size_t i = 0; i < COUNT(model_keys); i++)
        NM_TRY(nm_fields_u32(&f, model_keys[i].key, model_keys[i].min, model_keys[i].max,
                             model_u32(m, model_keys[i].offset)));
    for (size_t i = 0; i < COUNT(model_types); i++) {
        nm_type t;
        NM_TRY(nm_fields_text(&f, model_types[i].key, type, sizeof type));
        if (!nm_type_by_name(nm_str_of(type), &t))
            return nm_fields_bad(&f, model_types[i].key, "the name of a tensor type");
        *model_u32(m, model_types[i].offset) = t;
    }
    m->name = name;
    m->architecture = architecture;
    return NPUMOE_OK;
}

/* The numbers of the layers, and that the document is as large as a profile of this geometry: memory is
 * taken for what is there, not for what is claimed. */
static npumoe_status read_layers(const nm_fields *root, const nm_profile_model *m,
                                 uint32_t *layer_of, uint32_t *n_layers)
{
    nm_fields layers, l, part, pairs;
    size_t n;
    NM_TRY(nm_fields_array(root, "layers", m->n_layer, &layers, &n));
    for (size_t i = 0; i < n; i++) {
        NM_TRY(nm_fields_at(&layers, i, &l));
        NM_TRY(nm_fields_u32(&l, "layer", 0, m->n_layer - 1, &layer_of[i]));
        for (int j = 0; j < NM_PROFILE_PARTS; j++) {
            NM_TRY(nm_fields_object(&l, part_keys[j], &part));
            NM_TRY(array_of(&part, "pairs", m->n_expert, &pairs));
        }
    }
    *n_layers = (uint32_t)n;
    return NPUMOE_OK;
}

static npumoe_status read_totals(const nm_fields *root, nm_profile *p)
{
    uint64_t room = NM_PROFILE_MAX_TOKENS;
    for (int i = 0; i < NM_PROFILE_PARTS; i++) {
        nm_profile_counts *c = &p->part[i];
        nm_fields f, chunks;
        NM_TRY(nm_fields_object(root, part_keys[i], &f));
        NM_TRY(nm_fields_u64(&f, "tokens", &c->tokens));
        if (c->tokens > room)
            return nm_fields_bad(&f, "tokens", "at most 8589934592 in all");
        room -= c->tokens;
        NM_TRY(array_of(&f, "chunks", NM_PROFILE_SIZES, &chunks));
        for (uint32_t s = 0; s < NM_PROFILE_SIZES; s++)
            NM_TRY(number_at(&chunks, s, c->tokens / NM_PROFILE_SIZE(s), &c->chunks[s]));
    }
    return NPUMOE_OK;
}

/* A histogram and the sum of its loads. */
static npumoe_status read_histogram(const nm_fields *sizes, size_t expert, uint32_t size_index,
                                    uint64_t chunks, nm_profile_bin *bins, uint64_t *loads)
{
    const uint32_t n_bins = nm_profile_n_bins(size_index);
    const nm_fields f = {.json = json_array_get(sizes->json, expert),
                         .parent = sizes,
                         .index = expert,
                         .err = sizes->err};
    uint64_t first, n, v, left = chunks;
    *loads = 0;
    if (json_is_array(f.json) && json_array_size(f.json) == 0) {
        bins[0].count = (uint32_t)chunks;
        return NPUMOE_OK;
    }
    if (!json_is_array(f.json) || json_array_size(f.json) < 3)
        return nm_fields_bad(&f, NULL, "a histogram: [first bin, bins, counts, excesses]");
    NM_TRY(number_at(&f, 0, n_bins - 1, &first));
    NM_TRY(number_at(&f, 1, n_bins - first, &n));
    size_t next = 2 + (size_t)n;
    if (first == 0 || n == 0 || json_array_size(f.json) < next)
        return nm_fields_bad(&f, NULL, "a histogram: [first bin, bins, counts, excesses]");
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t b = (uint32_t)first + i;
        const uint64_t low = nm_profile_bin_low(b), width = nm_profile_bin_high(b) - low;
        NM_TRY(number_at(&f, 2 + i, left, &v));
        left -= v;
        bins[b].count = (uint32_t)v;
        *loads += v * low;
        if (v == 0 || width == 0)
            continue;
        NM_TRY(number_at(&f, next++, v * width, &v));
        bins[b].excess = (uint32_t)v;
        *loads += v;
    }
    if (json_array_size(f.json) != next)
        return nm_fields_bad(&f, NULL, "an excess for each wide bin that is not empty");
    bins[0].count = (uint32_t)left;
    return NPUMOE_OK;
}

static npumoe_status read_sizes(const nm_fields *f, nm_profile *p, nm_profile_part part,
                                uint32_t layer)
{
    const uint32_t n_expert = p->model.n_expert;
    const nm_profile_counts *c = &p->part[part];
    nm_profile_bin *bins = p->part[part].bins + (size_t)layer * n_expert * NM_PROFILE_BINS;
    nm_fields loads, size;
    NM_TRY(array_of(f, "loads", NM_PROFILE_SIZES, &loads));
    for (uint32_t i = 0; i < NM_PROFILE_SIZES; i++) {
        uint64_t sum = 0, of_expert;
        NM_TRY(array_at(&loads, i, n_expert, &size));
        for (uint32_t e = 0; e < n_expert; e++) {
            NM_TRY(read_histogram(&size, e, i, c->chunks[i],
                                  bins + (size_t)e * NM_PROFILE_BINS + nm_profile_first_bin(i),
                                  &of_expert));
            sum += of_expert;
        }
        if (sum != c->chunks[i] * NM_PROFILE_SIZE(i) * p->model.n_expert_used)
            return nm_fields_bad(&size, NULL, "loads that add up to all pairs of the chunks");
    }
    return NPUMOE_OK;
}

static npumoe_status read_counts(const nm_fields *layer_fields, nm_profile *p, nm_profile_part part,
                                 uint32_t layer)
{
    const uint32_t n_expert = p->model.n_expert;
    nm_profile_counts *c = &p->part[part];
    uint64_t *pairs = c->pairs + (size_t)layer * n_expert, sum = 0;
    nm_fields f, array;
    NM_TRY(nm_fields_object(layer_fields, part_keys[part], &f));
    NM_TRY(array_of(&f, "pairs", n_expert, &array));
    NM_TRY(numbers_of(&array, n_expert, c->tokens, pairs));
    for (uint32_t e = 0; e < n_expert; e++)
        sum += pairs[e];
    if (sum != c->tokens * p->model.n_expert_used)
        return nm_fields_bad(&f, "pairs", "pairs that add up to tokens x experts of a token");
    return read_sizes(&f, p, part, layer);
}

/* Absent: the pairs of this layer are not known. */
static npumoe_status read_coact(const nm_fields *layer_fields, nm_profile *p, uint32_t layer)
{
    const size_t n = p->model.n_expert;
    uint8_t *known = p->coact_known + layer * n;
    uint64_t *row = p->coact + layer * (n * (n + 1) / 2);
    const uint64_t limit = N_512(&p->part[NM_PROFILE_MAIN]) * 512 * 512;
    nm_fields f, experts, products;
    size_t m, next = 0;
    memset(known, 0, n);
    if (json_object_get(layer_fields->json, "coactivation") == NULL)
        return NPUMOE_OK;
    NM_TRY(nm_fields_object(layer_fields, "coactivation", &f));
    NM_TRY(nm_fields_array(&f, "experts", n, &experts, &m));
    NM_TRY(array_of(&f, "products", m * (m + 1) / 2, &products));
    for (size_t i = 0; i < m; i++) {
        uint64_t e;
        NM_TRY(number_at(&experts, i, n - 1, &e));
        if (known[e])
            return nm_fields_bad(&f, "experts", "each expert once");
        known[e] = 1;
    }
    for (size_t e = 0; e < n; row += n - e, e++)
        for (size_t g = e; known[e] && g < n; g++)
            if (known[g])
                NM_TRY(number_at(&products, next++, limit, &row[g - e]));
    return NPUMOE_OK;
}

static npumoe_status read_text(const nm_fields *f, nm_profile *p)
{
    const uint32_t n_expert = p->model.n_expert;
    const uint64_t all = p->part[NM_PROFILE_MAIN].tokens + p->part[NM_PROFILE_HELD].tokens;
    char name[NM_PROFILE_NAME];
    uint64_t bytes, tokens, held;
    nm_fields layers, pairs;
    NM_TRY(nm_fields_text(f, "name", name, sizeof name));
    NM_TRY(nm_fields_u64(f, "bytes", &bytes));
    NM_TRY(nm_fields_u64(f, "tokens", &tokens));
    NM_TRY(nm_fields_u64(f, "held_tokens", &held));
    if (tokens > all || held > tokens)
        return nm_fields_bad(f, "tokens", "a share of all tokens");
    NM_TRY(nm_profile_add_text(p, name, bytes, f->err));
    nm_profile_text *t = &p->texts[p->n_texts - 1];
    t->tokens = tokens;
    t->held_tokens = held;
    if (t->pairs == NULL)
        return NPUMOE_OK;
    NM_TRY(array_of(f, "pairs", p->n_layers, &layers));
    for (uint32_t l = 0; l < p->n_layers; l++) {
        uint64_t *of_layer = t->pairs + (size_t)l * n_expert, sum = 0;
        NM_TRY(array_at(&layers, l, n_expert, &pairs));
        NM_TRY(numbers_of(&pairs, n_expert, tokens, of_layer));
        for (uint32_t e = 0; e < n_expert; e++)
            sum += of_layer[e];
        if (sum != tokens * p->model.n_expert_used)
            return nm_fields_bad(&pairs, NULL, "pairs that add up to the text's");
    }
    return NPUMOE_OK;
}

static npumoe_status read_texts(const nm_fields *root, nm_profile *p)
{
    nm_fields texts, f;
    size_t n;
    NM_TRY(nm_fields_array(root, "texts", NM_PROFILE_MAX_TEXTS, &texts, &n));
    for (size_t i = 0; i < n; i++) {
        NM_TRY(nm_fields_at(&texts, i, &f));
        NM_TRY(read_text(&f, p));
    }
    return NPUMOE_OK;
}

static npumoe_status read_all(const nm_fields *root, nm_profile *p)
{
    nm_fields layers, l;
    NM_TRY(read_totals(root, p));
    NM_TRY(read_texts(root, p));
    NM_TRY(array_of(root, "layers", p->n_layers, &layers));
    for (uint32_t i = 0; i < p->n_layers; i++) {
        NM_TRY(nm_fields_at(&layers, i, &l));
        NM_TRY(nm_expert_types_read_if(&l, &p->types[i]));
        for (int j = 0; j < NM_PROFILE_PARTS; j++)
            NM_TRY(read_counts(&l, p, (nm_profile_part)j, i));
        if (p->coact)
            NM_TRY(read_coact(&l, p, i));
    }
    return NPUMOE_OK;
}

static npumoe_status check_sizes(const nm_fields *root)
{
    nm_fields sizes;
    uint32_t v;
    NM_TRY(nm_fields_u32(root, "window", NM_PROFILE_WINDOW, NM_PROFILE_WINDOW, &v));
    NM_TRY(array_of(root, "chunk_sizes", NM_PROFILE_SIZES, &sizes));
    for (uint32_t i = 0; i < NM_PROFILE_SIZES; i++)
        NM_TRY(nm_fields_u32_at(&sizes, i, NM_PROFILE_SIZE(i), NM_PROFILE_SIZE(i), &v));
    return NPUMOE_OK;
}

static npumoe_status read_document(const npumoe_allocator *a, const nm_fields *root,
                                   nm_profile **out)
{
    char name[NM_PROFILE_NAME], architecture[NM_PROFILE_NAME];
    uint32_t layer_of[NM_MAX_LAYERS], n_layers;
    nm_profile_model model;
    nm_profile *p = NULL;
    NM_TRY(nm_fields_schema(root, SCHEMA, SCHEMA_VERSION));
    NM_TRY(check_sizes(root));
    NM_TRY(read_model(root, &model, name, architecture, sizeof name));
    NM_TRY(read_layers(root, &model, layer_of, &n_layers));
    npumoe_status st = nm_profile_new(a, &model, layer_of, n_layers, &p, root->err);
    if (st == NPUMOE_OK)
        st = read_all(root, p);
    if (st != NPUMOE_OK)
        nm_profile_free(&p);
    else
        *out = p;
    return st == NPUMOE_EINVAL ? NPUMOE_EFORMAT : st; /* it is the file that cannot be */
}

npumoe_status nm_profile_parse(const npumoe_allocator *a, const char *text, size_t bytes,
                               const char *label, nm_profile **out, npumoe_error *err)
{
    json_t *root = NULL;
    npumoe_error own; /* so that the label can be put before any message */
    npumoe_error *e = err ? err : &own;
    NM_TRY(nm_fields_parse(text, bytes, label, &root, e));
    const nm_fields fields = nm_fields_root(root, e);
    npumoe_status st = read_document(a, &fields, out);
    json_decref(root);
    return st == NPUMOE_OK ? st : nm_err_prefix(e, st, "%s", label);
}

npumoe_status nm_profile_load(const npumoe_allocator *a, const char *path, nm_profile **out,
                              npumoe_error *err)
{
    nm_map map;
    NM_TRY(nm_map_open(path, &map, err));
    npumoe_status st;
    if (map.bytes > MAX_FILE_BYTES)
        st = nm_err_set(err, NPUMOE_EFORMAT, "%s: %" PRIu64 " bytes are too many for a profile",
                        path, map.bytes);
    else
        st = nm_profile_parse(a, (const char *)map.data, (size_t)map.bytes, path, out, err);
    nm_map_close(&map);
    return st;
}
