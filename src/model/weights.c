/* weights.c: see weights.h.
 *
 * Binding runs twice over the same code: a first pass with vectors == NULL counts the floats that
 * the small vectors need, the second one fills them. So sizes and use cannot drift apart. */
#include "model/weights.h"

#include "base/num.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

typedef struct binder {
    const nm_gguf *g;
    const nm_config *c;
    nm_weights *w;
    npumoe_error *err;
    float *vectors;      /* NULL in the counting pass */
    size_t used;         /* floats */
    unsigned char *seen; /* one flag per tensor of the file */
    char name[96];
} binder;

/* ---- finding and checking one tensor -------------------------------------------------------- */

NM_PRINTF(2, 3) static const char *name_of(binder *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(b->name, sizeof b->name, fmt, ap);
    va_end(ap);
    return b->name;
}

static void mark_seen(binder *b, const nm_gguf_tensor *t)
{
    b->seen[t - nm_gguf_tensor_at(b->g, 0)] = 1;
}

static void print_shape(char *buf, size_t cap, uint32_t n_dims, const uint64_t *ne)
{
    size_t used = 0;
    for (uint32_t i = 0; i < n_dims && used < cap; i++) {
        int n = snprintf(buf + used, cap - used, "%s%" PRIu64, i ? ", " : "", ne[i]);
        used += n > 0 ? (size_t)n : 0;
    }
}

static npumoe_status check_shape(binder *b, const nm_gguf_tensor *t, uint32_t n_dims,
                                 const uint64_t *ne)
{
    bool same = true;
    for (uint32_t i = 0; i < 4; i++)
        same = same && t->ne[i] == (i < n_dims ? ne[i] : 1);
    if (same)
        return NPUMOE_OK;
    char found[96] = "", expected[96] = "";
    print_shape(found, sizeof found, t->n_dims, t->ne);
    print_shape(expected, sizeof expected, n_dims, ne);
    return nm_err_at(b->err, NPUMOE_EMODEL, t->offset,
                     "tensor '%s': found shape [%s], expected [%s]", b->name, found, expected);
}

static npumoe_status check_type(binder *b, const nm_gguf_tensor *t)
{
    const nm_type_traits *tr = nm_type_get(t->type);
    if (tr->name && tr->supported && tr->decode)
        return NPUMOE_OK;
    return nm_err_at(b->err, NPUMOE_EUNSUPPORTED, t->offset,
                     "tensor '%s': type %s (%" PRIu32 ") is not supported", b->name,
                     tr->name ? tr->name : "unknown", t->type);
}

/* The tensor b->name with the shape given (ne[0] first). NULL in *out when it may be absent and is. */
static npumoe_status find(binder *b, nm_presence presence, uint32_t n_dims, const uint64_t *ne,
                          const nm_gguf_tensor **out)
{
    *out = presence == NM_NONE ? NULL : nm_gguf_find_tensor(b->g, b->name);
    if (*out == NULL) {
        if (presence != NM_REQUIRED)
            return NPUMOE_OK;
        char expected[96] = "";
        print_shape(expected, sizeof expected, n_dims, ne);
        return nm_err_set(b->err, NPUMOE_EMODEL, "tensor '%s' is missing (expected shape [%s])",
                          b->name, expected);
    }
    NM_TRY(check_shape(b, *out, n_dims, ne));
    NM_TRY(check_type(b, *out));
    mark_seen(b, *out);
    return NPUMOE_OK;
}

static nm_mat mat_of(const nm_gguf_tensor *t)
{
    nm_mat m = {.type = t->type, .rows = t->ne[1], .cols = t->ne[0], .data = t->data};
    (void)nm_row_bytes(t->type, t->ne[0], &m.row_bytes); /* the reader checked it */
    return m;
}

/* Rows [first, first + n) of a matrix. */
static nm_mat mat_rows(nm_mat m, uint64_t first, uint64_t n)
{
    m.data = (const char *)m.data + first * m.row_bytes;
    m.rows = n;
    return m;
}

static npumoe_status bind_mat(binder *b, nm_presence presence, uint64_t cols, uint64_t rows,
                              nm_mat *out)
{
    const nm_gguf_tensor *t;
    *out = (nm_mat){0};
    NM_TRY(find(b, presence, 2, (uint64_t[]){cols, rows}, &t));
    if (t)
        *out = mat_of(t);
    return NPUMOE_OK;
}

static npumoe_status bind_vec(binder *b, nm_presence presence, uint64_t n, const float **out)
{
    const nm_gguf_tensor *t;
    *out = NULL;
    NM_TRY(find(b, presence, 1, &n, &t));
    if (t == NULL)
        return NPUMOE_OK;
    if (b->vectors) {
        nm_type_get(t->type)->decode(t->data, b->vectors + b->used, (size_t)n);
        *out = b->vectors + b->used;
    }
    b->used += ((size_t)n + 15) & ~(size_t)15; /* each vector starts on a cache line */
    return NPUMOE_OK;
}

static npumoe_status bind_norm(binder *b, const char *stem, uint64_t n, nm_norm *out)
{
    name_of(b, "%s.weight", stem);
    NM_TRY(bind_vec(b, NM_REQUIRED, n, &out->w));
    name_of(b, "%s.bias", stem);
    return bind_vec(b, b->c->family->norm_bias, n, &out->b);
}

/* ---- the layer ------------------------------------------------------------------------------ */

static npumoe_status bind_qkv(binder *b, uint32_t i, nm_layer_weights *l)
{
    const nm_layer_desc *d = &b->c->layers[i];
    const uint64_t n = b->c->n_embd;
    const uint64_t nq = (uint64_t)d->n_head * d->dim_k, nk = (uint64_t)d->n_head_kv * d->dim_k;
    const uint64_t nv = (uint64_t)d->n_head_kv * d->dim_v;
    const nm_presence bias = b->c->family->qkv_bias;
    nm_mat qkv;
    name_of(b, "blk.%" PRIu32 ".attn_qkv.weight", i);
    NM_TRY(bind_mat(b, NM_OPTIONAL, n, nq + nk + nv, &qkv));
    if (qkv.data) {
        l->wq = mat_rows(qkv, 0, nq);
        l->wk = mat_rows(qkv, nq, nk);
        l->wv = mat_rows(qkv, nq + nk, nv);
        name_of(b, "blk.%" PRIu32 ".attn_qkv.bias", i);
        NM_TRY(bind_vec(b, bias, nq + nk + nv, &l->bq));
        l->bk = l->bq ? l->bq + nq : NULL;
        l->bv = l->bq ? l->bq + nq + nk : NULL;
        return NPUMOE_OK;
    }
    name_of(b, "blk.%" PRIu32 ".attn_q.weight", i);
    NM_TRY(bind_mat(b, NM_REQUIRED, n, nq, &l->wq));
    name_of(b, "blk.%" PRIu32 ".attn_k.weight", i);
    NM_TRY(bind_mat(b, NM_REQUIRED, n, nk, &l->wk));
    name_of(b, "blk.%" PRIu32 ".attn_v.weight", i);
    NM_TRY(bind_mat(b, NM_REQUIRED, n, nv, &l->wv));
    name_of(b, "blk.%" PRIu32 ".attn_q.bias", i);
    NM_TRY(bind_vec(b, bias, nq, &l->bq));
    name_of(b, "blk.%" PRIu32 ".attn_k.bias", i);
    NM_TRY(bind_vec(b, bias, nk, &l->bk));
    name_of(b, "blk.%" PRIu32 ".attn_v.bias", i);
    return bind_vec(b, bias, nv, &l->bv);
}

static npumoe_status bind_attention(binder *b, uint32_t i, nm_layer_weights *l)
{
    const nm_layer_desc *d = &b->c->layers[i];
    const nm_family *f = b->c->family;
    char stem[48];
    snprintf(stem, sizeof stem, "blk.%" PRIu32 ".attn_norm", i);
    NM_TRY(bind_norm(b, stem, b->c->n_embd, &l->attn_norm));
    NM_TRY(bind_qkv(b, i, l));
    name_of(b, "blk.%" PRIu32 ".attn_output.weight", i);
    NM_TRY(bind_mat(b, NM_REQUIRED, (uint64_t)d->n_head * d->dim_v, b->c->n_embd, &l->wo));
    name_of(b, "blk.%" PRIu32 ".attn_output.bias", i);
    NM_TRY(bind_vec(b, f->out_bias, b->c->n_embd, &l->bo));
    nm_presence qk = f->qk_norm == NM_QK_NORM_NONE ? NM_NONE : NM_REQUIRED;
    bool full = f->qk_norm == NM_QK_NORM_FULL;
    name_of(b, "blk.%" PRIu32 ".attn_q_norm.weight", i);
    NM_TRY(bind_vec(b, qk, (uint64_t)d->dim_k * (full ? d->n_head : 1), &l->q_norm));
    name_of(b, "blk.%" PRIu32 ".attn_k_norm.weight", i);
    return bind_vec(b, qk, (uint64_t)d->dim_k * (full ? d->n_head_kv : 1), &l->k_norm);
}

/* gate, up, down of a dense layer (infix "") or of the shared expert ("_shexp"). */
static npumoe_status bind_ffn(binder *b, uint32_t i, const char *infix, uint64_t n_ff,
                              nm_presence bias, nm_ffn_weights *f)
{
    const uint64_t n = b->c->n_embd;
    name_of(b, "blk.%" PRIu32 ".ffn_gate%s.weight", i, infix);
    NM_TRY(bind_mat(b, NM_REQUIRED, n, n_ff, &f->gate));
    name_of(b, "blk.%" PRIu32 ".ffn_up%s.weight", i, infix);
    NM_TRY(bind_mat(b, NM_REQUIRED, n, n_ff, &f->up));
    name_of(b, "blk.%" PRIu32 ".ffn_down%s.weight", i, infix);
    NM_TRY(bind_mat(b, NM_REQUIRED, n_ff, n, &f->down));
    name_of(b, "blk.%" PRIu32 ".ffn_gate%s.bias", i, infix);
    NM_TRY(bind_vec(b, bias, n_ff, &f->b_gate));
    name_of(b, "blk.%" PRIu32 ".ffn_up%s.bias", i, infix);
    NM_TRY(bind_vec(b, bias, n_ff, &f->b_up));
    name_of(b, "blk.%" PRIu32 ".ffn_down%s.bias", i, infix);
    return bind_vec(b, bias, n, &f->b_down);
}

static npumoe_status bind_stack(binder *b, nm_presence presence, uint64_t cols, uint64_t rows,
                                nm_mat_stack *out)
{
    const nm_gguf_tensor *t;
    *out = (nm_mat_stack){0};
    NM_TRY(find(b, presence, 3, (uint64_t[]){cols, rows, b->c->n_expert}, &t));
    if (t) {
        out->mat = mat_of(t);
        out->stride_bytes =
            out->mat.row_bytes * rows; /* <= tensor bytes, which the reader bounds */
    }
    return NPUMOE_OK;
}

/* Files of 2023-2024 hold one tensor per expert. */
static npumoe_status refuse_split_experts(binder *b, uint32_t i)
{
    name_of(b, "blk.%" PRIu32 ".ffn_gate.0.weight", i);
    if (nm_gguf_find_tensor(b->g, b->name) == NULL)
        return NPUMOE_OK;
    return nm_err_set(b->err, NPUMOE_EUNSUPPORTED,
                      "tensor '%s': one tensor per expert is the layout of files made before "
                      "April 2024; convert the model again or download a newer GGUF",
                      b->name);
}

static npumoe_status bind_experts(binder *b, uint32_t i, nm_expert_weights *e)
{
    const uint64_t n = b->c->n_embd, n_ff = b->c->layers[i].n_ff;
    NM_TRY(refuse_split_experts(b, i));
    e->n_expert = b->c->n_expert;
    nm_mat_stack both;
    name_of(b, "blk.%" PRIu32 ".ffn_gate_up_exps.weight", i);
    NM_TRY(bind_stack(b, NM_OPTIONAL, n, 2 * n_ff, &both));
    if (both.mat.data) {
        e->gate = e->up = both;
        e->gate.mat = mat_rows(both.mat, 0, n_ff);
        e->up.mat = mat_rows(both.mat, n_ff, n_ff);
    } else {
        name_of(b, "blk.%" PRIu32 ".ffn_gate_exps.weight", i);
        NM_TRY(bind_stack(b, NM_REQUIRED, n, n_ff, &e->gate));
        name_of(b, "blk.%" PRIu32 ".ffn_up_exps.weight", i);
        NM_TRY(bind_stack(b, NM_REQUIRED, n, n_ff, &e->up));
    }
    name_of(b, "blk.%" PRIu32 ".ffn_down_exps.weight", i);
    return bind_stack(b, NM_REQUIRED, n_ff, n, &e->down);
}

static npumoe_status bind_moe(binder *b, uint32_t i, nm_layer_weights *l)
{
    const nm_config *c = b->c;
    const nm_family *f = c->family;
    name_of(b, "blk.%" PRIu32 ".ffn_gate_inp.weight", i);
    NM_TRY(bind_mat(b, NM_REQUIRED, c->n_embd, c->n_expert, &l->router));
    name_of(b, "blk.%" PRIu32 ".ffn_gate_inp.bias", i);
    NM_TRY(bind_vec(b, f->router.bias, c->n_expert, &l->router_bias));
    name_of(b, "blk.%" PRIu32 ".exp_probs_b.bias", i);
    NM_TRY(bind_vec(b, f->router.select_bias, c->n_expert, &l->select_bias));
    NM_TRY(bind_experts(b, i, &l->experts));
    if (c->layers[i].n_ff_shared == 0)
        return NPUMOE_OK;
    NM_TRY(bind_ffn(b, i, "_shexp", c->layers[i].n_ff_shared, NM_NONE, &l->ffn));
    if (f->shared != NM_SHARED_GATED)
        return NPUMOE_OK;
    /* One row; stored as a vector by most converters, as [n, 1] by some: the same bytes. */
    const nm_gguf_tensor *t;
    name_of(b, "blk.%" PRIu32 ".ffn_gate_inp_shexp.weight", i);
    NM_TRY(find(b, NM_REQUIRED, 1, &(uint64_t){c->n_embd}, &t));
    l->shared_gate = mat_of(t);
    return NPUMOE_OK;
}

static npumoe_status bind_layer(binder *b, uint32_t i)
{
    const nm_layer_desc *d = &b->c->layers[i];
    nm_layer_weights *l = &b->w->layers[i];
    char stem[48];
    switch (d->mixer) {
    case NM_MIXER_GQA:
        NM_TRY(bind_attention(b, i, l));
        break;
    }
    snprintf(stem, sizeof stem, "blk.%" PRIu32 ".ffn_norm", i);
    NM_TRY(bind_norm(b, stem, b->c->n_embd, &l->ffn_norm));
    switch (d->ffn) {
    case NM_FFN_MOE:
        return bind_moe(b, i, l);
    case NM_FFN_DENSE:
        break;
    }
    return bind_ffn(b, i, "", d->n_ff, b->c->family->dense_bias, &l->ffn);
}

/* ---- the whole model ------------------------------------------------------------------------ */

static npumoe_status check_factors(binder *b, const float *f, uint32_t n)
{
    for (uint32_t i = 0; f && i < n; i++) {
        if (!(f[i] > 0.0f))
            return nm_err_set(b->err, NPUMOE_EMODEL,
                              "tensor '%s': factor %" PRIu32 " is %g, expected a number above 0",
                              b->name, i, (double)f[i]);
    }
    return NPUMOE_OK;
}

static npumoe_status bind_rope(binder *b)
{
    const nm_rope *r = &b->c->ropes[0];
    const uint32_t half = r->n_rot / 2;
    const float *freqs, *longf, *shortf;
    name_of(b, "rope_freqs.weight");
    NM_TRY(bind_vec(b, NM_OPTIONAL, half, &freqs));
    NM_TRY(check_factors(b, freqs, half));
    name_of(b, "rope_factors_long.weight");
    NM_TRY(bind_vec(b, NM_OPTIONAL, half, &longf));
    NM_TRY(check_factors(b, longf, half));
    name_of(b, "rope_factors_short.weight");
    bool has_long = nm_gguf_find_tensor(b->g, "rope_factors_long.weight") != NULL;
    NM_TRY(bind_vec(b, has_long ? NM_REQUIRED : NM_OPTIONAL, half, &shortf));
    NM_TRY(check_factors(b, shortf, half));
    if (r->scaling == NM_ROPE_SCALING_LONGROPE && !has_long)
        return nm_err_set(b->err, NPUMOE_EMODEL,
                          "tensor 'rope_factors_long.weight' is missing, but rope.scaling.type is "
                          "longrope");
    if (b->vectors == NULL)
        return NPUMOE_OK;
    NM_TRY(nm_rope_table_init(&b->w->ropes[0], r, freqs ? freqs : shortf, longf, b->w->allocator,
                              b->err));
    b->w->n_ropes = 1;
    return NPUMOE_OK;
}

static npumoe_status bind_all(binder *b)
{
    const nm_config *c = b->c;
    nm_weights *w = b->w;
    name_of(b, "token_embd.weight");
    NM_TRY(bind_mat(b, NM_REQUIRED, c->n_embd, c->n_vocab, &w->token_embd));
    NM_TRY(bind_norm(b, "output_norm", c->n_embd, &w->output_norm));
    name_of(b, "output.weight");
    NM_TRY(bind_mat(b, c->family->output, c->n_embd, c->n_vocab, &w->output));
    if (w->output.data == NULL)
        w->output = w->token_embd;
    name_of(b, "output.bias");
    NM_TRY(bind_vec(b, c->family->lm_head_bias, c->n_vocab, &w->output_bias));
    NM_TRY(bind_rope(b));
    for (uint32_t i = 0; i < c->n_layer; i++)
        NM_TRY(bind_layer(b, i));
    return NPUMOE_OK;
}

/* Also adds up the sizes that reports want. */
static npumoe_status check_extra(binder *b)
{
    nm_weights *w = b->w;
    const nm_config *c = b->c;
    for (size_t i = 0; i < nm_gguf_n_tensors(b->g); i++) {
        const nm_gguf_tensor *t = nm_gguf_tensor_at(b->g, i);
        if (!b->seen[i])
            return nm_err_at(
                b->err, NPUMOE_EMODEL, t->offset,
                "tensor '%.*s' has no place in a model of architecture %s with %" PRIu32 " layers",
                NM_STR_ARG(t->name), c->family->arch, c->n_layer);
        uint64_t n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        bool routed = t->n_dims == 3 && c->n_expert > 0 && t->ne[2] == c->n_expert;
        w->n_params += n;
        w->n_params_active += routed ? n / c->n_expert * c->n_expert_used : n;
        w->weights_bytes += t->bytes;
    }
    return NPUMOE_OK;
}

static npumoe_status bind_twice(binder *b)
{
    nm_weights *w = b->w;
    w->layers = nm_alloc_array(w->allocator, b->c->n_layer, sizeof *w->layers);
    if (w->layers == NULL)
        return nm_err_nomem(b->err, b->c->n_layer * sizeof *w->layers, "layer weights");
    NM_TRY(bind_all(b));
    NM_TRY(check_extra(b));
    w->vectors_bytes = b->used * sizeof *w->vectors;
    w->vectors = nm_alloc_aligned(w->allocator, w->vectors_bytes);
    if (w->vectors == NULL)
        return nm_err_nomem(b->err, w->vectors_bytes, "norm weights and biases");
    b->vectors = w->vectors;
    b->used = 0;
    return bind_all(b);
}

npumoe_status nm_weights_init(nm_weights *w, const nm_gguf *g, const nm_config *c,
                              const npumoe_allocator *a, npumoe_error *err)
{
    *w = (nm_weights){.allocator = nm_allocator_or_default(a)};
    binder b = {.g = g, .c = c, .w = w, .err = err};
    b.seen = nm_zalloc(w->allocator, nm_gguf_n_tensors(g) + 1);
    if (b.seen == NULL)
        return nm_err_nomem(err, nm_gguf_n_tensors(g) + 1, "tensor flags");
    npumoe_status st = bind_twice(&b);
    nm_free(w->allocator, b.seen);
    if (st != NPUMOE_OK)
        nm_weights_fini(w);
    return st;
}

void nm_weights_fini(nm_weights *w)
{
    for (uint32_t i = 0; i < w->n_ropes; i++)
        nm_rope_table_fini(&w->ropes[i]);
    if (w->vectors)
        nm_free_aligned(w->allocator, w->vectors);
    if (w->layers)
        nm_free(w->allocator, w->layers);
    *w = (nm_weights){0};
}

nm_mat nm_mat_stack_at(const nm_mat_stack *s, uint32_t e)
{
    nm_mat m = s->mat;
    m.data = (const char *)m.data + (uint64_t)e * s->stride_bytes;
    return m;
}
