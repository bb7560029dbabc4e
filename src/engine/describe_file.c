/* describe_file.c: what `npumoe info` shows of a GGUF file.
 *
 * Two sources. The header's keys and tensor list tell everything that can be said of any file, also
 * of an architecture that cannot be run. For a supported one the checked configuration adds
 * what depends on the family (the router's rule) and the engine's own formulas the memory. Where the
 * configuration is refused, the reason is in the report ("problem") and the rest is what the header
 * says. Nothing of the weights is read. */
#include "base/num.h"
#include "base/threads.h"
#include "engine/buffers.h"
#include "engine/describe.h"
#include "engine/kv.h"

#include <inttypes.h>
#include <stdio.h>

typedef struct file_view {
    const nm_gguf *g;
    nm_str arch;
    const nm_config *config; /* NULL: not supported, or refused */
} file_view;

/* ---- keys --------------------------------------------------------------------------------- */

/* A number as JSON; an array of numbers (per layer) as its maximum. NULL when absent. */
static json_t *number_of(const nm_gguf_kv *kv)
{
    if (!kv)
        return NULL;
    switch (kv->kind) {
    case NM_GGUF_U8:
    case NM_GGUF_U16:
    case NM_GGUF_U32:
    case NM_GGUF_U64:
        return nm_describe_u64(kv->v.u);
    case NM_GGUF_I8:
    case NM_GGUF_I16:
    case NM_GGUF_I32:
    case NM_GGUF_I64:
        return json_integer(kv->v.i);
    case NM_GGUF_F32:
    case NM_GGUF_F64:
        return json_real(kv->v.f);
    case NM_GGUF_BOOL:
        return json_boolean(kv->v.u != 0);
    case NM_GGUF_ARRAY: {
        const nm_gguf_array *a = &kv->v.arr;
        bool integers = a->kind == NM_GGUF_I32 || a->kind == NM_GGUF_U32;
        int64_t max = 0;
        for (uint64_t i = 0; integers && i < a->count; i++)
            max = nm_gguf_arr_i64(a, i) > max ? nm_gguf_arr_i64(a, i) : max;
        return integers ? json_integer(max) : NULL;
    }
    case NM_GGUF_STRING:
    case NM_GGUF_KIND_END:
        break;
    }
    return NULL;
}

/* The key ARCH.NAME, or NULL. */
static const nm_gguf_kv *arch_key(const file_view *f, const char *name)
{
    char key[256];
    int n = snprintf(key, sizeof key, "%.*s.%s", NM_STR_ARG(f->arch), name);
    return n > 0 && (size_t)n < sizeof key ? nm_gguf_find(f->g, key) : NULL;
}

static void put_arch_number(const file_view *f, json_t *o, const char *as, const char *name)
{
    nm_describe_put(o, as, number_of(arch_key(f, name)));
}

static uint64_t arch_u64(const file_view *f, const char *name)
{
    json_t *v = number_of(arch_key(f, name));
    json_int_t i = json_is_integer(v) ? json_integer_value(v) : 0;
    json_decref(v);
    return i > 0 ? (uint64_t)i : 0;
}

static nm_str text_key(const file_view *f, const char *key)
{
    const nm_gguf_kv *kv = nm_gguf_find(f->g, key);
    return kv && kv->kind == NM_GGUF_STRING ? kv->v.str : (nm_str){"", 0};
}

/* general.file_type: ggml's number of a mix. */
static const char *file_type_name(uint64_t number)
{
    static const char *const names[] = {
        [0] = "F32",      [1] = "F16",      [2] = "Q4_0",       [3] = "Q4_1",    [7] = "Q8_0",
        [8] = "Q5_0",     [9] = "Q5_1",     [10] = "Q2_K",      [11] = "Q3_K_S", [12] = "Q3_K_M",
        [13] = "Q3_K_L",  [14] = "Q4_K_S",  [15] = "Q4_K_M",    [16] = "Q5_K_S", [17] = "Q5_K_M",
        [18] = "Q6_K",    [19] = "IQ2_XXS", [20] = "IQ2_XS",    [21] = "Q2_K_S", [22] = "IQ3_XS",
        [23] = "IQ3_XXS", [24] = "IQ1_S",   [25] = "IQ4_NL",    [26] = "IQ3_S",  [27] = "IQ3_M",
        [28] = "IQ2_S",   [29] = "IQ2_M",   [30] = "IQ4_XS",    [31] = "IQ1_M",  [32] = "BF16",
        [36] = "TQ1_0",   [37] = "TQ2_0",   [38] = "MXFP4_MOE",
    };
    return number < sizeof names / sizeof names[0] ? names[number] : NULL;
}

/* ---- tensors ------------------------------------------------------------------------------ */

typedef struct tensor_sums {
    uint64_t n_params, n_active, bytes, expert_params, expert_bytes;
    uint64_t type_count[256], type_bytes[256], type_params[256];
} tensor_sums;

static bool ends_with(nm_str s, const char *tail)
{
    size_t n = strlen(tail);
    return s.n >= n && memcmp(s.p + s.n - n, tail, n) == 0;
}

/* Weights of routed experts: blk.N.ffn_*_exps.weight (or .bias). */
static bool is_expert_tensor(const nm_gguf_tensor *t)
{
    return ends_with(t->name, "_exps.weight") || ends_with(t->name, "_exps.bias");
}

static void sum_tensors(const file_view *f, tensor_sums *s)
{
    uint64_t n_expert = arch_u64(f, "expert_count"), used = arch_u64(f, "expert_used_count");
    for (size_t i = 0; i < nm_gguf_n_tensors(f->g); i++) {
        const nm_gguf_tensor *t = nm_gguf_tensor_at(f->g, i);
        uint64_t n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; /* checked by the reader */
        bool expert = is_expert_tensor(t) && n_expert > 0 && used <= n_expert;
        s->n_params += n;
        s->bytes += t->bytes;
        s->n_active += expert ? n / n_expert * used : n;
        if (expert) {
            s->expert_params += n;
            s->expert_bytes += t->bytes;
        }
        if (t->type < 256) {
            s->type_count[t->type]++;
            s->type_bytes[t->type] += t->bytes;
            s->type_params[t->type] += n;
        }
    }
}

static json_t *describe_types(const tensor_sums *s)
{
    json_t *list = json_array();
    for (uint32_t type = 0; type < 256; type++) {
        if (!s->type_count[type])
            continue;
        const nm_type_traits *traits = nm_type_get(type);
        json_t *o = json_object();
        nm_describe_put(o, "type", json_string(traits->name ? traits->name : "unknown"));
        nm_describe_put(o, "supported", json_boolean(traits->supported));
        nm_describe_put(o, "tensors", nm_describe_u64(s->type_count[type]));
        nm_describe_put(o, "parameters", nm_describe_u64(s->type_params[type]));
        nm_describe_put(o, "bytes", nm_describe_u64(s->type_bytes[type]));
        json_array_append_new(list, o);
    }
    return list;
}

/* The types of one kind of expert tensor over all layers: "Q4_K" or "Q4_K, Q6_K". */
static json_t *expert_types(const file_view *f, const char *tail)
{
    bool seen[256] = {false};
    char text[256] = "";
    size_t n = 0;
    for (size_t i = 0; i < nm_gguf_n_tensors(f->g); i++) {
        const nm_gguf_tensor *t = nm_gguf_tensor_at(f->g, i);
        if (t->type >= 256 || seen[t->type] || !ends_with(t->name, tail))
            continue;
        seen[t->type] = true;
        const char *name = nm_type_get(t->type)->name;
        int w = snprintf(text + n, sizeof text - n, "%s%s", n ? ", " : "", name ? name : "unknown");
        n = w > 0 ? nm_min_size(n + (size_t)w, sizeof text - 1) : n;
    }
    return n ? json_string(text) : NULL;
}

/* ---- sections ----------------------------------------------------------------------------- */

static json_t *describe_geometry(const file_view *f)
{
    json_t *o = json_object();
    put_arch_number(f, o, "n_layer", "block_count");
    put_arch_number(f, o, "n_embd", "embedding_length");
    put_arch_number(f, o, "n_head", "attention.head_count");
    put_arch_number(f, o, "n_head_kv", "attention.head_count_kv");
    put_arch_number(f, o, "head_dim_k", "attention.key_length");
    put_arch_number(f, o, "head_dim_v", "attention.value_length");
    put_arch_number(f, o, "n_ff", "feed_forward_length");
    put_arch_number(f, o, "n_ctx_train", "context_length");
    put_arch_number(f, o, "sliding_window", "attention.sliding_window");
    put_arch_number(f, o, "rope_freq_base", "rope.freq_base");
    put_arch_number(f, o, "rope_dimensions", "rope.dimension_count");
    const nm_config *c = f->config;
    if (c) { /* what the keys leave to a rule */
        nm_describe_put(o, "n_head_kv", json_integer(c->n_head_kv));
        nm_describe_put(o, "head_dim_k", json_integer(c->dim_k));
        nm_describe_put(o, "head_dim_v", json_integer(c->dim_v));
        nm_describe_put(o, "n_vocab", json_integer(c->n_vocab));
    }
    return o;
}

/* The router's rule in words. */
static void rule_text(const nm_config *c, char *buf, size_t cap)
{
    const unsigned k = c->n_expert_used;
    const char *tail = c->router.renormalise ? ", weights divided by their sum" : "";
    switch (c->router.score) {
    case NM_SCORE_SOFTMAX:
        snprintf(buf, cap, "softmax over all experts, then the top %u%s", k, tail);
        return;
    case NM_SCORE_SOFTMAX_TOPK:
        snprintf(buf, cap, "the top %u of the logits, then softmax over these%s", k, tail);
        return;
    case NM_SCORE_SIGMOID:
        snprintf(buf, cap, "sigmoid of each expert, then the top %u%s", k, tail);
        return;
    case NM_SCORE_SPARSEMIXER:
        snprintf(buf, cap,
                 "sparsemixer: %u picks, each weighted by a softmax in a band below its maximum%s",
                 k, tail);
        return;
    }
    buf[0] = '\0';
}

static json_t *describe_router(const nm_config *c)
{
    char rule[256];
    const nm_router_rule *r = &c->router;
    rule_text(c, rule, sizeof rule);
    json_t *o = json_object();
    nm_describe_put(o, "rule", json_string(rule));
    nm_describe_put(o, "renormalise", json_boolean(r->renormalise));
    nm_describe_put(o, "scale", json_real(r->scale == 0.0f ? 1.0 : (double)r->scale));
    if (r->score == NM_SCORE_SPARSEMIXER)
        nm_describe_put(o, "band", json_real((double)r->band));
    return o;
}

/* NULL for a dense model. */
static json_t *describe_experts(const file_view *f, const tensor_sums *s)
{
    uint64_t n_expert = arch_u64(f, "expert_count");
    if (n_expert == 0)
        return NULL;
    json_t *o = json_object(), *types = json_object();
    nm_describe_put(o, "count", nm_describe_u64(n_expert));
    put_arch_number(f, o, "used", "expert_used_count");
    put_arch_number(f, o, "shared", "expert_shared_count");
    put_arch_number(f, o, "n_ff", "expert_feed_forward_length");
    put_arch_number(f, o, "n_ff_shared", "expert_shared_feed_forward_length");
    if (f->config) {
        nm_describe_put(o, "n_ff", json_integer(f->config->n_ff_expert));
        nm_describe_put(o, "router", describe_router(f->config));
    }
    nm_describe_put(types, "gate", expert_types(f, "ffn_gate_exps.weight"));
    nm_describe_put(types, "up", expert_types(f, "ffn_up_exps.weight"));
    nm_describe_put(types, "gate_up", expert_types(f, "ffn_gate_up_exps.weight"));
    nm_describe_put(types, "down", expert_types(f, "ffn_down_exps.weight"));
    nm_describe_put(o, "types", types);
    nm_describe_put(o, "parameters", nm_describe_u64(s->expert_params));
    nm_describe_put(o, "bytes", nm_describe_u64(s->expert_bytes));
    if (s->bytes)
        nm_describe_put(o, "share_of_bytes", json_real((double)s->expert_bytes / (double)s->bytes));
    return o;
}

static void put_array_count(const file_view *f, json_t *o, const char *as, const char *key)
{
    const nm_gguf_kv *kv = nm_gguf_find(f->g, key);
    if (kv && kv->kind == NM_GGUF_ARRAY)
        nm_describe_put(o, as, nm_describe_u64(kv->v.arr.count));
}

static json_t *describe_tokenizer(const file_view *f)
{
    json_t *o = json_object();
    nm_str model = text_key(f, "tokenizer.ggml.model"), pre = text_key(f, "tokenizer.ggml.pre");
    if (model.n)
        nm_describe_put(o, "model", nm_describe_text(model));
    if (pre.n)
        nm_describe_put(o, "pre", nm_describe_text(pre));
    put_array_count(f, o, "tokens", "tokenizer.ggml.tokens");
    put_array_count(f, o, "merges", "tokenizer.ggml.merges");
    static const char *const ids[][2] = {
        {"bos", "tokenizer.ggml.bos_token_id"},      {"eos", "tokenizer.ggml.eos_token_id"},
        {"eot", "tokenizer.ggml.eot_token_id"},      {"pad", "tokenizer.ggml.padding_token_id"},
        {"add_bos", "tokenizer.ggml.add_bos_token"}, {"add_eos", "tokenizer.ggml.add_eos_token"},
    };
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        nm_describe_put(o, ids[i][0], number_of(nm_gguf_find(f->g, ids[i][1])));
    nm_describe_put(o, "chat_template", json_boolean(text_key(f, "tokenizer.chat_template").n > 0));
    return o;
}

/* All keys but the long arrays: scalars and strings as they are, arrays as kind and count. */
static json_t *describe_metadata(const nm_gguf *g)
{
    json_t *o = json_object();
    for (size_t i = 0; i < nm_gguf_n_kv(g); i++) {
        const nm_gguf_kv *kv = nm_gguf_kv_at(g, i);
        json_t *value;
        if (kv->kind == NM_GGUF_STRING)
            value = nm_describe_text(kv->v.str);
        else if (kv->kind == NM_GGUF_ARRAY) {
            char text[64];
            snprintf(text, sizeof text, "[%" PRIu64 " x %s]", kv->v.arr.count,
                     nm_gguf_kind_name(kv->v.arr.kind));
            value = json_string(text);
        } else
            value = number_of(kv);
        json_t *key = nm_describe_text(kv->key);
        if (key && value)
            nm_describe_put(o, json_string_value(key), value);
        else
            json_decref(value);
        json_decref(key);
    }
    return o;
}

/* ---- memory ------------------------------------------------------------------------------- */

static void put_kv(const nm_config *c, json_t *o, uint32_t n_ctx, const char *as, uint32_t type)
{
    uint64_t bytes;
    if (nm_kv_bytes(c, n_ctx, type, type, &bytes, NULL) == NPUMOE_OK)
        nm_describe_put(o, as, nm_describe_u64(bytes));
}

/* What a session of that context needs; total is with F16 keys and values. */
static json_t *describe_memory(const file_view *f, const tensor_sums *s, uint32_t n_ctx)
{
    const nm_config *c = f->config;
    const uint32_t n_chunk = n_ctx < NM_DEFAULT_CHUNK ? n_ctx : NM_DEFAULT_CHUNK;
    json_t *o = json_object(), *kv = json_object();
    nm_describe_put(o, "n_ctx", json_integer(n_ctx));
    nm_describe_put(o, "weights_bytes", nm_describe_u64(s->bytes));
    put_kv(c, kv, n_ctx, "f32", NM_TYPE_F32);
    put_kv(c, kv, n_ctx, "f16", NM_TYPE_F16);
    put_kv(c, kv, n_ctx, "q8_0", NM_TYPE_Q8_0);
    nm_describe_put(o, "kv_bytes", kv);
    nm_buffers plan;
    uint64_t scratch = nm_buffers_plan(&plan, c, n_chunk, nm_pool_default_threads(), false, NULL),
             f16;
    /* and the session's tokens and logits (session.c) */
    scratch += (uint64_t)n_ctx * sizeof(npumoe_token) + (uint64_t)c->n_vocab * sizeof(float);
    nm_describe_put(o, "scratch_bytes", nm_describe_u64(scratch));
    if (nm_kv_bytes(c, n_ctx, NM_TYPE_F16, NM_TYPE_F16, &f16, NULL) == NPUMOE_OK)
        nm_describe_put(o, "total_bytes", nm_describe_u64(s->bytes + f16 + scratch));
    return o;
}

static json_t *describe_contexts(const file_view *f, const tensor_sums *s, const uint32_t *ctxs,
                                 size_t n_ctxs)
{
    if (!f->config)
        return NULL;
    json_t *list = json_array();
    if (n_ctxs == 0)
        json_array_append_new(list, describe_memory(f, s, f->config->n_ctx_train));
    for (size_t i = 0; i < n_ctxs; i++)
        json_array_append_new(list, describe_memory(f, s, ctxs[i]));
    return list;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static void short_count(uint64_t n, char *buf, size_t cap)
{
    double v = (double)n;
    if (v >= 1e9)
        snprintf(buf, cap, "%.*fB", v < 1e10 ? 2 : 1, v / 1e9);
    else
        snprintf(buf, cap, "%.*fM", v < 1e7 ? 2 : 1, v / 1e6);
}

/* "olmoe 6.92B.A1.28B Q4_K_M" */
static json_t *describe_line(const file_view *f, const tensor_sums *s)
{
    char text[256], all[32], active[32];
    const nm_gguf_kv *kv = nm_gguf_find(f->g, "general.file_type");
    const char *type = kv && kv->kind == NM_GGUF_U32 ? file_type_name(kv->v.u) : NULL;
    short_count(s->n_params, all, sizeof all);
    short_count(s->n_active, active, sizeof active);
    bool moe = s->n_active != s->n_params;
    snprintf(text, sizeof text, "%.*s %s%s%s%s%s", NM_STR_ARG(f->arch), all, moe ? ".A" : "",
             moe ? active : "", type ? " " : "", type ? type : "");
    return nm_describe_text(nm_str_of(text));
}

static json_t *describe(const file_view *f, const npumoe_error *problem, const uint32_t *ctxs,
                        size_t n_ctxs)
{
    static const tensor_sums none;
    tensor_sums sums = none;
    sum_tensors(f, &sums);
    json_t *o = json_object();
    nm_describe_put(o, "file", nm_describe_text(nm_str_of(nm_gguf_path(f->g))));
    nm_describe_put(o, "gguf_version", json_integer(nm_gguf_version(f->g)));
    nm_describe_put(o, "parts", json_integer(nm_gguf_n_parts(f->g)));
    nm_describe_put(o, "file_bytes", nm_describe_u64(nm_gguf_mapped_bytes(f->g)));
    nm_describe_put(o, "name", nm_describe_text(text_key(f, "general.name")));
    nm_describe_put(o, "architecture", nm_describe_text(f->arch));
    nm_describe_put(o, "supported", json_boolean(f->config != NULL));
    if (!f->config)
        nm_describe_put(o, "problem", nm_describe_text(nm_str_of(problem->message)));
    nm_describe_put(o, "description", describe_line(f, &sums));
    nm_describe_put(o, "parameters", nm_describe_u64(sums.n_params));
    nm_describe_put(o, "parameters_active", nm_describe_u64(sums.n_active));
    nm_describe_put(o, "weights_bytes", nm_describe_u64(sums.bytes));
    if (sums.n_params)
        nm_describe_put(o, "bits_per_weight",
                        json_real(8.0 * (double)sums.bytes / (double)sums.n_params));
    nm_describe_put(o, "geometry", describe_geometry(f));
    nm_describe_put(o, "experts", describe_experts(f, &sums));
    nm_describe_put(o, "tensors", nm_describe_u64(nm_gguf_n_tensors(f->g)));
    nm_describe_put(o, "tensor_types", describe_types(&sums));
    nm_describe_put(o, "tokenizer", describe_tokenizer(f));
    nm_describe_put(o, "memory", describe_contexts(f, &sums, ctxs, n_ctxs));
    nm_describe_put(o, "metadata", describe_metadata(f->g));
    return o;
}

npumoe_status npumoe_describe_file(const char *path, const uint32_t *ctxs, size_t n_ctxs,
                                   char **json, npumoe_error *err)
{
    if (!path || !json)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "npumoe_describe_file: path and json must not be NULL");
    for (size_t i = 0; i < n_ctxs; i++)
        if (ctxs[i] == 0)
            return nm_err_set(err, NPUMOE_EINVAL, "a context of 0 tokens needs no memory");
    const npumoe_allocator *a = nm_allocator_default();
    const nm_gguf_options options = {.allocator = a};
    nm_gguf *g = NULL;
    NM_TRY(nm_gguf_open(path, &options, &g, err));
    nm_config config = {0};
    npumoe_error problem = {0};
    file_view f = {.g = g};
    f.arch = text_key(&f, "general.architecture");
    bool usable = nm_config_init(&config, g, a, &problem) == NPUMOE_OK;
    if (usable)
        f.config = &config;
    npumoe_status st = nm_describe_finish(describe(&f, &problem, ctxs, n_ctxs), json, err);
    if (usable)
        nm_config_fini(&config);
    nm_gguf_free(&g);
    return st;
}
