/* config.c: reads the keys; see config.h. Key names: the GGUF specification and llama.cpp's
 * src/llama-arch.cpp. Defaults for absent keys are the ones llama.cpp applies, so that a file means
 * the same here and there. */
#include "model/config.h"

#include "base/num.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* One open configuration: the file, the architecture as key prefix, and the room for a key. */
typedef struct reader {
    const nm_gguf *g;
    const char *arch;
    npumoe_error *err;
    char key[128];
} reader;

static const char *key_of(reader *r, const char *suffix)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->arch, suffix);
    return r->key;
}

static npumoe_status in_range(reader *r, uint32_t v, uint32_t lo, uint32_t hi)
{
    if (v >= lo && v <= hi)
        return NPUMOE_OK;
    return nm_err_set(r->err, NPUMOE_EMODEL,
                      "key %s: found %" PRIu32 ", expected %" PRIu32 "..%" PRIu32, r->key, v, lo,
                      hi);
}

static npumoe_status need_u32(reader *r, const char *suffix, uint32_t lo, uint32_t hi,
                              uint32_t *out)
{
    npumoe_status st = nm_gguf_get_u32(r->g, key_of(r, suffix), out, r->err);
    if (st == NPUMOE_ENOENT)
        return nm_err_set(r->err, NPUMOE_EMODEL, "key %s is missing", r->key);
    NM_TRY(st);
    return in_range(r, *out, lo, hi);
}

static npumoe_status opt_u32(reader *r, const char *suffix, uint32_t dflt, uint32_t lo, uint32_t hi,
                             uint32_t *out)
{
    NM_TRY(nm_gguf_u32_or(r->g, key_of(r, suffix), dflt, out, r->err));
    return in_range(r, *out, lo, hi);
}

/* A float that must be finite and > 0; dflt when absent. */
static npumoe_status opt_positive(reader *r, const char *suffix, float dflt, float *out)
{
    NM_TRY(nm_gguf_f32_or(r->g, key_of(r, suffix), dflt, out, r->err));
    if (!(*out > 0.0f) || !isfinite(*out))
        return nm_err_set(r->err, NPUMOE_EMODEL,
                          "key %s: found %g, expected a finite number above 0", r->key,
                          (double)*out);
    return NPUMOE_OK;
}

static npumoe_status find_family(reader *r, nm_config *c)
{
    nm_str arch;
    npumoe_status st = nm_gguf_get_str(r->g, "general.architecture", &arch, r->err);
    if (st == NPUMOE_ENOENT)
        return nm_err_set(r->err, NPUMOE_EMODEL, "key general.architecture is missing");
    NM_TRY(st);
    c->family = nm_family_find(arch);
    if (c->family == NULL) {
        char list[256];
        nm_family_list(list, sizeof list);
        return nm_err_set(r->err, NPUMOE_EUNSUPPORTED,
                          "architecture '%.*s' is not supported; supported are: %s",
                          NM_STR_ARG(arch), list);
    }
    r->arch = c->family->arch;
    return NPUMOE_OK;
}

/* The vocabulary is the tokenizer's list; files without one (tests, draft heads) state a size. */
static npumoe_status read_vocab(reader *r, nm_config *c)
{
    const nm_gguf_kv *kv = nm_gguf_find(r->g, "tokenizer.ggml.tokens");
    if (kv && kv->kind == NM_GGUF_ARRAY) {
        snprintf(r->key, sizeof r->key, "tokenizer.ggml.tokens (count)");
        uint64_t n = kv->v.arr.count;
        c->n_vocab = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    } else {
        return need_u32(r, "vocab_size", 1, INT32_MAX, &c->n_vocab);
    }
    return in_range(r, c->n_vocab, 1, INT32_MAX);
}

static npumoe_status read_heads(reader *r, nm_config *c)
{
    NM_TRY(need_u32(r, "attention.head_count", 1, NM_MAX_WIDTH, &c->n_head));
    NM_TRY(opt_u32(r, "attention.head_count_kv", c->n_head, 1, c->n_head, &c->n_head_kv));
    if (c->n_head % c->n_head_kv != 0)
        return nm_err_set(r->err, NPUMOE_EMODEL,
                          "key %s: found %" PRIu32 ", expected a divisor of head_count %" PRIu32,
                          r->key, c->n_head_kv, c->n_head);
    bool stated = nm_gguf_find(r->g, key_of(r, "attention.key_length")) != NULL;
    if (!stated && c->n_embd % c->n_head != 0)
        return nm_err_set(r->err, NPUMOE_EMODEL,
                          "key %s.attention.head_count: found %" PRIu32
                          ", expected a divisor of embedding_length %" PRIu32,
                          r->arch, c->n_head, c->n_embd);
    uint32_t dim = c->n_embd / c->n_head;
    NM_TRY(opt_u32(r, "attention.key_length", dim, 1, NM_MAX_WIDTH / c->n_head, &c->dim_k));
    return opt_u32(r, "attention.value_length", dim, 1, NM_MAX_WIDTH / c->n_head, &c->dim_v);
}

static npumoe_status read_experts(reader *r, nm_config *c)
{
    const nm_family *f = c->family;
    NM_TRY(opt_u32(r, "feed_forward_length", 0, 0, NM_MAX_WIDTH, &c->n_ff));
    if (f->dense_allowed)
        NM_TRY(opt_u32(r, "expert_count", 0, 0, NM_MAX_EXPERTS, &c->n_expert));
    else
        NM_TRY(need_u32(r, "expert_count", 1, NM_MAX_EXPERTS, &c->n_expert));
    if (c->n_expert == 0) {
        (void)key_of(r, "feed_forward_length");
        return in_range(r, c->n_ff, 1, NM_MAX_WIDTH);
    }
    uint32_t most = c->n_expert < NM_MAX_EXPERT_USED ? c->n_expert : NM_MAX_EXPERT_USED;
    NM_TRY(need_u32(r, "expert_used_count", 1, most, &c->n_expert_used));
    uint32_t dflt = f->ff_from_k ? c->n_ff / c->n_expert_used : c->n_ff;
    NM_TRY(opt_u32(r, "expert_feed_forward_length", dflt, 1, NM_MAX_WIDTH, &c->n_ff_expert));
    if (f->shared != NM_SHARED_NONE)
        NM_TRY(
            opt_u32(r, "expert_shared_feed_forward_length", 0, 0, NM_MAX_WIDTH, &c->n_ff_shared));
    return NPUMOE_OK;
}

/* expert_gating_func is absent from the files of most families; where it is there, it must say what
 * the family does. Numbers: llama.cpp, llama_expert_gating_func_type. */
static npumoe_status read_router(reader *r, nm_config *c)
{
    c->router = c->family->router;
    uint32_t func;
    NM_TRY(nm_gguf_u32_or(r->g, key_of(r, "expert_gating_func"), 0, &func, r->err));
    bool softmax = c->router.score == NM_SCORE_SOFTMAX || c->router.score == NM_SCORE_SOFTMAX_TOPK;
    uint32_t own = softmax ? 1u : c->router.score == NM_SCORE_SIGMOID ? 2u : 0u;
    if (func != 0 && own != 0 && func != own)
        return nm_err_set(r->err, NPUMOE_EMODEL,
                          "key %s: found %" PRIu32 ", expected %" PRIu32
                          " (the router of architecture %s)",
                          r->key, func, own, r->arch);
    /* norm_topk_prob of the checkpoint, where a converter wrote it. */
    if (c->router.score == NM_SCORE_SOFTMAX)
        NM_TRY(nm_gguf_bool_or(r->g, key_of(r, "expert_weights_norm"), c->router.renormalise,
                               &c->router.renormalise, r->err));
    NM_TRY(nm_gguf_f32_or(r->g, key_of(r, "expert_weights_scale"), c->router.scale,
                          &c->router.scale, r->err));
    if (!(c->router.scale >= 0.0f) || !isfinite(c->router.scale))
        return nm_err_set(r->err, NPUMOE_EMODEL,
                          "key %s: found %g, expected a finite number above 0, or 0 for none",
                          r->key, (double)c->router.scale);
    return NPUMOE_OK;
}

static npumoe_status read_rope_scaling(reader *r, nm_rope *rope)
{
    static const char *const names[] = {"none", "linear", "yarn", "longrope"};
    nm_str type;
    NM_TRY(nm_gguf_str_or(r->g, key_of(r, "rope.scaling.type"), "none", &type, r->err));
    size_t i = 0;
    while (i < 4 && !nm_str_eqz(type, names[i]))
        i++;
    if (i == 4)
        return nm_err_set(r->err, NPUMOE_EUNSUPPORTED,
                          "key %s: found '%.*s', expected none, linear, yarn or longrope", r->key,
                          NM_STR_ARG(type));
    rope->scaling = (nm_rope_scaling)i;
    /* The old key is linear scaling without a type; a factor without a type means linear too. */
    float factor;
    NM_TRY(nm_gguf_f32_or(r->g, key_of(r, "rope.scale_linear"), 0.0f, &factor, r->err));
    NM_TRY(nm_gguf_f32_or(r->g, key_of(r, "rope.scaling.factor"), factor, &factor, r->err));
    bool typed = nm_gguf_find(r->g, key_of(r, "rope.scaling.type")) != NULL;
    if (factor != 0.0f && !typed)
        rope->scaling = NM_ROPE_SCALING_LINEAR;
    rope->factor = factor == 0.0f ? 1.0f : factor;
    if (!(rope->factor >= 1.0f) || !isfinite(rope->factor))
        return nm_err_set(r->err, NPUMOE_EMODEL, "key %s: found %g, expected a number >= 1",
                          key_of(r, "rope.scaling.factor"), (double)factor);
    return NPUMOE_OK;
}

static npumoe_status read_rope(reader *r, nm_config *c)
{
    nm_rope *rope = &c->ropes[0];
    c->n_ropes = 1;
    rope->kind = c->family->rope;
    const bool stated = nm_gguf_find(r->g, key_of(r, "rope.dimension_count")) != NULL;
    if (c->dim_k < 2 || (!stated && c->dim_k % 2 != 0))
        return nm_err_set(r->err, NPUMOE_EMODEL,
                          "%" PRIu32 " heads (%s.attention.head_count) are %" PRIu32
                          " wide each, expected an even width of 2 or more",
                          c->n_head, r->arch, c->dim_k);
    NM_TRY(opt_u32(r, "rope.dimension_count", c->dim_k, 2, c->dim_k, &rope->n_rot));
    if (rope->n_rot % 2 != 0)
        return nm_err_set(r->err, NPUMOE_EMODEL, "key %s: found %" PRIu32 ", expected an even one",
                          r->key, rope->n_rot);
    NM_TRY(opt_positive(r, "rope.freq_base", 10000.0f, &rope->freq_base));
    if (!(rope->freq_base > 1.0f)) /* frequencies fall with its powers; YaRN divides by its log */
        return nm_err_set(r->err, NPUMOE_EMODEL, "key %s: found %g, expected a number above 1",
                          r->key, (double)rope->freq_base);
    NM_TRY(read_rope_scaling(r, rope));
    NM_TRY(opt_u32(r, "rope.scaling.original_context_length", c->n_ctx_train, 1, UINT32_MAX,
                   &rope->n_ctx_orig));
    NM_TRY(opt_positive(r, "rope.scaling.attn_factor", 1.0f, &rope->attn_factor));
    NM_TRY(opt_positive(r, "rope.scaling.yarn_ext_factor", 1.0f, &rope->ext_factor));
    NM_TRY(opt_positive(r, "rope.scaling.yarn_beta_fast", 32.0f, &rope->beta_fast));
    return opt_positive(r, "rope.scaling.yarn_beta_slow", 1.0f, &rope->beta_slow);
}

static npumoe_status read_scales(reader *r, nm_config *c)
{
    bool layer_norm = c->family->norm == NM_NORM_LAYER;
    const char *rms = "attention.layer_norm_rms_epsilon", *ln = "attention.layer_norm_epsilon";
    /* phimoe is LayerNorm, but its converter stores the value under the RMS key. */
    if (layer_norm && nm_gguf_find(r->g, key_of(r, ln)))
        rms = ln;
    if (nm_gguf_find(r->g, key_of(r, rms)) == NULL)
        return nm_err_set(r->err, NPUMOE_EMODEL, "key %s is missing", r->key);
    NM_TRY(opt_positive(r, rms, 1.0f, &c->norm_eps));
    NM_TRY(opt_positive(r, "embedding_scale", 1.0f, &c->embedding_scale));
    NM_TRY(opt_positive(r, "residual_scale", 1.0f, &c->residual_scale));
    c->logit_scale = 1.0f;
    float dflt = 1.0f / sqrtf((float)c->dim_k);
    return opt_positive(r, "attention.scale", dflt, &c->attention_scale);
}

static npumoe_status describe_layers(reader *r, nm_config *c)
{
    c->layers = nm_alloc_array(c->allocator, c->n_layer, sizeof *c->layers);
    if (c->layers == NULL)
        return nm_err_nomem(r->err, c->n_layer * sizeof *c->layers, "layer descriptions");
    for (uint32_t i = 0; i < c->n_layer; i++) {
        bool moe = c->n_expert > 0;
        c->layers[i] = (nm_layer_desc){
            .mixer = NM_MIXER_GQA,
            .ffn = moe ? NM_FFN_MOE : NM_FFN_DENSE,
            .n_head = c->n_head,
            .n_head_kv = c->n_head_kv,
            .dim_k = c->dim_k,
            .dim_v = c->dim_v,
            .window = c->window,
            .rope = 0,
            .n_ff = moe ? c->n_ff_expert : c->n_ff,
            .n_ff_shared = c->n_ff_shared,
        };
    }
    return NPUMOE_OK;
}

static npumoe_status read_all(reader *r, nm_config *c)
{
    NM_TRY(find_family(r, c));
    NM_TRY(nm_gguf_str_or(r->g, "general.name", "", &c->name, r->err));
    NM_TRY(read_vocab(r, c));
    NM_TRY(need_u32(r, "block_count", 1, NM_MAX_LAYERS, &c->n_layer));
    NM_TRY(need_u32(r, "embedding_length", 1, NM_MAX_WIDTH, &c->n_embd));
    NM_TRY(need_u32(r, "context_length", 1, INT32_MAX, &c->n_ctx_train));
    NM_TRY(read_heads(r, c));
    NM_TRY(read_experts(r, c));
    NM_TRY(read_router(r, c));
    NM_TRY(read_rope(r, c));
    NM_TRY(read_scales(r, c));
    if (c->family->configure)
        NM_TRY(c->family->configure(r->g, c, r->err));
    return describe_layers(r, c);
}

/* Where the value stands that a message "key NAME: ..." speaks of; what is missing stands nowhere. */
static npumoe_status say_where(const reader *r, npumoe_status st)
{
    char key[128];
    npumoe_error *err = r->err;
    if (err == NULL || err->offset != NPUMOE_NO_OFFSET ||
        sscanf(err->message, "key %127[^: ]:", key) != 1)
        return st;
    const nm_gguf_kv *kv = nm_gguf_find(r->g, key);
    if (kv == NULL)
        return st;
    nm_err_prefix(err, st, "byte %" PRIu64, kv->offset);
    err->offset = kv->offset;
    return st;
}

npumoe_status nm_config_init(nm_config *c, const nm_gguf *g, const npumoe_allocator *a,
                             npumoe_error *err)
{
    *c = (nm_config){.allocator = nm_allocator_or_default(a)};
    reader r = {.g = g, .err = err};
    npumoe_status st = read_all(&r, c);
    if (st == NPUMOE_OK)
        return NPUMOE_OK;
    nm_config_fini(c);
    return say_where(&r, st);
}

void nm_config_fini(nm_config *c)
{
    if (c->layers)
        nm_free(c->allocator, c->layers);
    *c = (nm_config){0};
}
