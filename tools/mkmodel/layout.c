/* layout.c: from a specification to metadata, tensor list, types and scales.
 *
 * Scales keep activations sane over any number of layers: the embedding has unit variance, every branch
 * adds GROWTH / (2 L) to the variance of the residual stream, so that it ends at 1 + GROWTH whatever
 * the depth. Attention scores have a deviation near 2 (each query looks at some of its keys, as in
 * trained models, not at their average), logits of about 2.5.
 *
 * Types follow llama.cpp's mixes in outline (Q4_K_M: some V and down matrices and the head in Q6_K), with
 * its fallbacks for rows that a super-block does not divide. */
#include <math.h>
#include <stdio.h>

#include "mkmodel.h"

#define GROWTH 3.0f

float mk_growth(const mk_spec *s, uint32_t layer)
{
    return GROWTH * (float)(2 * layer + 1) / (float)(2 * s->layers);
}

/* ---- types -------------------------------------------------------------------------------- */

typedef struct mix {
    const char *name;
    nm_type base, more, head; /* most matrices; sensitive ones of some layers; output */
    uint32_t file_type;       /* llama.cpp's number for general.file_type */
} mix;

static const mix mixes[] = {
    {"F32", NM_TYPE_F32, NM_TYPE_F32, NM_TYPE_F32, 0},
    {"F16", NM_TYPE_F16, NM_TYPE_F16, NM_TYPE_F16, 1},
    {"BF16", NM_TYPE_BF16, NM_TYPE_BF16, NM_TYPE_BF16, 32},
    {"Q4_0", NM_TYPE_Q4_0, NM_TYPE_Q4_0, NM_TYPE_Q6_K, 2},
    {"Q4_1", NM_TYPE_Q4_1, NM_TYPE_Q4_1, NM_TYPE_Q6_K, 3},
    {"Q5_0", NM_TYPE_Q5_0, NM_TYPE_Q5_0, NM_TYPE_Q6_K, 8},
    {"Q5_1", NM_TYPE_Q5_1, NM_TYPE_Q5_1, NM_TYPE_Q6_K, 9},
    {"Q8_0", NM_TYPE_Q8_0, NM_TYPE_Q8_0, NM_TYPE_Q8_0, 7},
    {"Q2_K", NM_TYPE_Q2_K, NM_TYPE_Q3_K, NM_TYPE_Q6_K, 10},
    {"Q3_K_M", NM_TYPE_Q3_K, NM_TYPE_Q4_K, NM_TYPE_Q6_K, 12},
    {"Q4_K_S", NM_TYPE_Q4_K, NM_TYPE_Q4_K, NM_TYPE_Q6_K, 14},
    {"Q4_K_M", NM_TYPE_Q4_K, NM_TYPE_Q6_K, NM_TYPE_Q6_K, 15},
    {"Q5_K_M", NM_TYPE_Q5_K, NM_TYPE_Q6_K, NM_TYPE_Q6_K, 17},
    {"Q6_K", NM_TYPE_Q6_K, NM_TYPE_Q6_K, NM_TYPE_Q6_K, 18},
    {"IQ4_NL", NM_TYPE_IQ4_NL, NM_TYPE_IQ4_NL, NM_TYPE_Q6_K, 25},
    {"IQ4_XS", NM_TYPE_IQ4_XS, NM_TYPE_IQ4_XS, NM_TYPE_Q6_K, 30},
    {"MXFP4", NM_TYPE_MXFP4, NM_TYPE_MXFP4, NM_TYPE_Q8_0, 38},
};

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a | 32) != (*b | 32) && !(*a == '_' && *b == '_'))
            return false;
    return *a == *b;
}

static npumoe_status find_mix(const char *name, const mix **out, npumoe_error *err)
{
    char known[256];
    size_t n = 0;
    known[0] = '\0';
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
        if (same_name(mixes[i].name, name)) {
            *out = &mixes[i];
            return NPUMOE_OK;
        }
        int r = snprintf(known + n, sizeof known - n, " %s", mixes[i].name);
        n += r > 0 ? (size_t)r : 0;
    }
    return nm_err_set(err, NPUMOE_EINVAL, "type %s is not known; there are:%s", name, known);
}

/* What llama.cpp falls back to when a row is no multiple of the block. */
static nm_type fitting(nm_type t, uint64_t row)
{
    if (row % nm_type_get((uint32_t)t)->block_elems == 0)
        return t;
    if (row % 32 != 0)
        return NM_TYPE_F16;
    switch (t) {
    case NM_TYPE_Q5_K:
        return NM_TYPE_Q5_1;
    case NM_TYPE_Q6_K:
        return NM_TYPE_Q8_0;
    case NM_TYPE_Q4_K:
        return NM_TYPE_Q5_0;
    default:
        return NM_TYPE_IQ4_NL;
    }
}

/* ---- tensors ------------------------------------------------------------------------------ */

typedef struct list {
    const mk_spec *s;
    const mk_family *f;
    const mix *mix;
    mk_tensor *v;
    size_t n, cap;
    uint32_t layer;
    bool failed;
} list;

static mk_tensor *add(list *l, const char *name, mk_role role, float std, uint64_t ne0,
                      uint64_t ne1, uint64_t ne2)
{
    static mk_tensor nowhere; /* written to after a failed allocation only */
    npumoe_status st =
        nm_grow(nm_allocator_default(), (void **)&l->v, &l->cap, l->n + 1, sizeof *l->v, NULL);
    if (st != NPUMOE_OK) {
        l->failed = true;
        return &nowhere;
    }
    mk_tensor *t = &l->v[l->n++];
    *t = (mk_tensor){.role = role, .std = std, .layer = l->layer, .ne = {ne0, ne1, ne2}};
    t->n_dims = ne2 > 0 ? 3 : ne1 > 0 ? 2 : 1;
    t->type = NM_TYPE_F32;
    nm_type base = l->mix->base == NM_TYPE_MXFP4 && ne2 == 0 ? NM_TYPE_Q8_0 : l->mix->base;
    if (role == MK_MATRIX || role == MK_WRITER || role == MK_EMBEDDING)
        t->type = fitting(base, ne0);
    for (uint32_t i = t->n_dims; i < 3; i++)
        t->ne[i] = 1;
    (void)snprintf(t->name, sizeof t->name, "%s", name);
    return t;
}

static mk_tensor *add_blk(list *l, const char *name, mk_role role, float std, uint64_t ne0,
                          uint64_t ne1, uint64_t ne2)
{
    char full[64];
    (void)snprintf(full, sizeof full, "blk.%u.%s", l->layer, name);
    return add(l, full, role, std, ne0, ne1, ne2);
}

static void add_norm(list *l, const char *name, float anchor)
{
    char full[64];
    (void)snprintf(full, sizeof full, "%s.weight", name);
    add(l, full, MK_NORM, 1.0f, l->s->embd, 0, 0)->anchor = anchor;
    if (l->f->layer_norm) {
        (void)snprintf(full, sizeof full, "%s.bias", name);
        add(l, full, MK_VECTOR, 0.1f, l->s->embd, 0, 0);
    }
}

/* llama.cpp's rule for which layers get more bits. */
static bool more_bits(uint32_t layer, uint32_t n)
{
    return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
}

static void add_attention(list *l, float beta)
{
    const mk_spec *s = l->s;
    uint64_t d = s->embd, hd = s->head_dim, q = s->heads * hd, kv = s->kv_heads * hd;
    bool normed = l->f->qk_norm_head || l->f->qk_norm_full;
    /* Scores: (sharp^2 sqrt(hd)) * attention scale = 2. */
    float scale = s->attn_scale > 0 ? s->attn_scale : 1.0f / sqrtf((float)hd);
    float sharp = sqrtf(2.0f / (scale * sqrtf((float)hd)));
    float in = 1.0f / sqrtf((float)d);
    char name[64];
    (void)snprintf(name, sizeof name, "blk.%u.attn_norm", l->layer);
    add_norm(l, name, 0.02f);
    add_blk(l, "attn_q.weight", MK_MATRIX, normed ? in : in * sharp, d, q, 0);
    add_blk(l, "attn_k.weight", MK_MATRIX, normed ? in : in * sharp, d, kv, 0);
    mk_tensor *v = add_blk(l, "attn_v.weight", MK_MATRIX, in, d, kv, 0);
    if (more_bits(l->layer, s->layers) && v->type == fitting(l->mix->base, d))
        v->type = fitting(l->mix->more, d);
    if (l->f->qkv_bias) {
        add_blk(l, "attn_q.bias", MK_VECTOR, 0.5f, q, 0, 0);
        add_blk(l, "attn_k.bias", MK_VECTOR, 0.5f, kv, 0, 0);
        add_blk(l, "attn_v.bias", MK_VECTOR, 0.2f, kv, 0, 0);
    }
    if (normed) {
        add_blk(l, "attn_q_norm.weight", MK_NORM, sharp, l->f->qk_norm_full ? q : hd, 0, 0);
        add_blk(l, "attn_k_norm.weight", MK_NORM, sharp, l->f->qk_norm_full ? kv : hd, 0, 0);
    }
    /* A query mixes few values: their mean keeps about half the deviation. */
    add_blk(l, "attn_output.weight", MK_WRITER, 2.0f * beta / sqrtf((float)q), q, d, 0);
    if (l->f->oss)
        add_blk(l, "attn_sinks.weight", MK_VECTOR, 2.0f, s->heads, 0, 0);
    if (l->f->layer_norm || l->f->oss)
        add_blk(l, "attn_output.bias", MK_VECTOR, 0.1f * beta, d, 0, 0);
}

static void add_experts(list *l, float beta)
{
    const mk_spec *s = l->s;
    uint64_t d = s->embd, e = s->experts, ff = s->ff;
    float in = 1.0f / sqrtf((float)d);
    /* silu(g) * u of two normal values has deviation 0.55, gpt-oss's (u + 1) * g * sigmoid(1.7 g) one of
     * 0.9; k experts add up by their weights. */
    float act = l->f->oss ? 0.9f : 0.55f;
    float weights = s->used <= 2 ? 0.75f : s->used <= 4 ? 0.6f : 0.45f;
    if (l->f->layer_norm)
        weights = 1.4f; /* sparsemixer: each weight is near 1 */
    else if (!l->f->renormalised)
        weights *= 0.5f;
    float out = beta / (act * weights * sqrtf((float)ff));
    char name[64];
    (void)snprintf(name, sizeof name, "blk.%u.%s", l->layer,
                   l->f->oss ? "post_attention_norm" : "ffn_norm");
    add_norm(l, name, MK_FFN_ANCHOR);
    add_blk(l, "ffn_gate_inp.weight", MK_ROUTER, 1.0f, d, e, 0);
    add_blk(l, "ffn_gate_exps.weight", MK_MATRIX, in, d, ff, e);
    add_blk(l, "ffn_up_exps.weight", MK_MATRIX, in, d, ff, e);
    mk_tensor *down = add_blk(l, "ffn_down_exps.weight", MK_WRITER, out, ff, d, e);
    if (more_bits(l->layer, s->layers))
        down->type = fitting(l->mix->more, ff);
    if (l->f->oss) {
        add_blk(l, "ffn_gate_inp.bias", MK_VECTOR, 0.2f, e, 0, 0);
        add_blk(l, "ffn_gate_exps.bias", MK_VECTOR, 0.1f, ff, e, 0);
        add_blk(l, "ffn_up_exps.bias", MK_VECTOR, 0.1f, ff, e, 0);
        add_blk(l, "ffn_down_exps.bias", MK_VECTOR, 0.1f * beta, d, e, 0);
    }
    if (!l->f->shared_expert)
        return;
    uint64_t fs = s->ff_shared;
    add_blk(l, "ffn_gate_inp_shexp.weight", MK_VECTOR, in, d, 0, 0);
    add_blk(l, "ffn_gate_shexp.weight", MK_MATRIX, in, d, fs, 0);
    add_blk(l, "ffn_up_shexp.weight", MK_MATRIX, in, d, fs, 0);
    add_blk(l, "ffn_down_shexp.weight", MK_WRITER, beta / (0.55f * 0.6f * sqrtf((float)fs)), fs, d,
            0);
}

static void add_ends(list *l)
{
    const mk_spec *s = l->s;
    /* The stream starts with unit variance whatever the family's multiplier. */
    float start = s->embd_scale > 0 ? 1.0f / s->embd_scale : 1.0f;
    add(l, "token_embd.weight", MK_EMBEDDING, start, s->embd, s->vocab, 0);
    add_norm(l, "output_norm", MK_FFN_ANCHOR);
    /* Random signs in the last norm: a tied head would otherwise only repeat the input token. */
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i].name, "output_norm.weight") == 0)
            l->v[i].signs = true;
    if (l->f->multipliers) {
        /* Tied: the embedding is the head, and its size must do for both. */
        float want = 2.5f * s->logit_scale / sqrtf((float)s->embd);
        for (size_t i = 0; i < l->n; i++)
            if (strcmp(l->v[i].name, "output_norm.weight") == 0)
                l->v[i].std = want / start;
        return;
    }
    mk_tensor *head =
        add(l, "output.weight", MK_MATRIX, 2.5f / sqrtf((float)s->embd), s->embd, s->vocab, 0);
    head->type = fitting(l->mix->head, s->embd);
    if (l->f->layer_norm)
        add(l, "output.bias", MK_VECTOR, 0.3f, s->vocab, 0, 0);
}

npumoe_status mk_layout(const mk_spec *s, const npumoe_allocator *a, mk_tensor **out, size_t *n,
                        npumoe_error *err)
{
    list l = {.s = s, .f = mk_family_of(s->arch)};
    NM_TRY(find_mix(s->type, &l.mix, err));
    float beta = sqrtf(GROWTH / (float)(2 * s->layers));
    if (s->residual_scale > 0)
        beta /= s->residual_scale;
    add_ends(&l);
    for (l.layer = 0; l.layer < s->layers; l.layer++) {
        add_attention(&l, beta);
        add_experts(&l, beta);
    }
    l.layer = 0;
    if (s->arch == MK_PHIMOE && s->ctx_orig > 0) {
        add(&l, "rope_factors_long.weight", MK_FACTORS, 15.0f, s->head_dim / 2, 0, 0);
        add(&l, "rope_factors_short.weight", MK_FACTORS, 0.5f, s->head_dim / 2, 0, 0);
    }
    for (size_t i = 0; i < l.n && !l.failed; i++) {
        uint64_t row;
        if (!nm_row_bytes((uint32_t)l.v[i].type, l.v[i].ne[0], &row))
            l.failed = true;
        else
            l.v[i].bytes = row * l.v[i].ne[1] * l.v[i].ne[2];
    }
    if (l.failed) {
        nm_free(a, l.v);
        return nm_err_nomem(err, l.cap * sizeof *l.v, "tensor list");
    }
    *out = l.v;
    *n = l.n;
    return NPUMOE_OK;
}

/* ---- metadata ----------------------------------------------------------------------------- */

typedef struct keys {
    nm_gguf_writer *w;
    const char *arch;
    npumoe_error *err;
    npumoe_status st; /* the first failure; later calls do nothing */
} keys;

static const char *full_key(const keys *k, const char *key, char *buf, size_t bytes)
{
    (void)snprintf(buf, bytes, "%s.%s", k->arch, key);
    return buf;
}

static void key_u32(keys *k, const char *key, uint32_t v)
{
    char buf[96];
    if (k->st == NPUMOE_OK)
        k->st = nm_gguf_put_u32(k->w, full_key(k, key, buf, sizeof buf), v, k->err);
}

static void key_f32(keys *k, const char *key, float v)
{
    char buf[96];
    if (k->st == NPUMOE_OK)
        k->st = nm_gguf_put_f32(k->w, full_key(k, key, buf, sizeof buf), v, k->err);
}

static void oss_keys(keys *k, const mk_spec *s)
{
    key_u32(k, "attention.sliding_window", s->window);
    if (k->st == NPUMOE_OK)
        k->st = nm_gguf_put_str(k->w, "gpt-oss.rope.scaling.type", NM_STR("yarn"), k->err);
    key_f32(k, "rope.scaling.factor", (float)s->ctx / (float)s->ctx_orig);
    key_u32(k, "rope.scaling.original_context_length", s->ctx_orig);
}

static void family_keys(keys *k, const mk_spec *s, const mk_family *f)
{
    if (f->expert_ff_key)
        key_u32(k, "expert_feed_forward_length", s->ff);
    if (f->shared_expert)
        key_u32(k, "expert_shared_feed_forward_length", s->ff_shared);
    if (f->head_dim_key || s->head_dim * s->heads != s->embd) {
        key_u32(k, "attention.key_length", s->head_dim);
        key_u32(k, "attention.value_length", s->head_dim);
    }
    if (s->arch == MK_LLAMA || s->arch == MK_GRANITEMOE) {
        key_u32(k, "vocab_size", s->vocab);
        key_u32(k, "rope.dimension_count", s->head_dim);
    }
    if (f->multipliers) {
        key_f32(k, "embedding_scale", s->embd_scale);
        key_f32(k, "residual_scale", s->residual_scale);
        key_f32(k, "attention.scale", s->attn_scale);
        key_f32(k, "logit_scale", s->logit_scale);
    }
    if (f->oss)
        oss_keys(k, s);
    if (s->arch == MK_PHIMOE) {
        key_u32(k, "rope.dimension_count", s->head_dim);
        key_u32(k, "attention.sliding_window", s->window);
        if (s->ctx_orig > 0) {
            key_u32(k, "rope.scaling.original_context_length", s->ctx_orig);
            key_f32(k, "rope.scaling.attn_factor", 1.19f);
        }
    }
}

npumoe_status mk_put_metadata(nm_gguf_writer *w, const mk_spec *s, npumoe_error *err)
{
    const mk_family *f = mk_family_of(s->arch);
    const mix *m;
    NM_TRY(find_mix(s->type, &m, err));
    NM_TRY(nm_gguf_put_str(w, "general.architecture", nm_str_of(f->arch), err));
    NM_TRY(nm_gguf_put_str(w, "general.name", nm_str_of(s->name), err));
    NM_TRY(nm_gguf_put_str(w, "general.description",
                           NM_STR("synthetic: random weights, designed routing"), err));
    NM_TRY(nm_gguf_put_u32(w, "general.file_type", m->file_type, err));
    NM_TRY(nm_gguf_put_u32(w, "general.quantization_version", 2, err));
    NM_TRY(nm_gguf_put_u64(w, "mkmodel.seed", s->seed, err));
    keys k = {.w = w, .arch = f->arch, .err = err};
    key_u32(&k, "block_count", s->layers);
    key_u32(&k, "context_length", s->ctx);
    key_u32(&k, "embedding_length", s->embd);
    /* Families that store the expert's width elsewhere keep the (unused) dense width here. */
    key_u32(&k, "feed_forward_length", f->expert_ff_key ? s->ff * s->used : s->ff);
    key_u32(&k, "attention.head_count", s->heads);
    key_u32(&k, "attention.head_count_kv", s->kv_heads);
    key_f32(&k, "attention.layer_norm_rms_epsilon", s->eps);
    key_f32(&k, "rope.freq_base", s->rope_base);
    key_u32(&k, "expert_count", s->experts);
    key_u32(&k, "expert_used_count", s->used);
    family_keys(&k, s, f);
    return k.st;
}
