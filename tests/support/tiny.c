/* tiny.c: see tiny.h. The list of tensors is written out here a second time on purpose: the loader is
 * checked against it. */
#include "support/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct maker {
    const tiny_spec *s;
    nm_gguf_writer *w;
    npumoe_error *err;
    uint64_t state;
    bool declare; /* first pass: declarations; second: data */
    float *row;
    unsigned char *packed;
} maker;

tiny_spec tiny_default(const char *arch)
{
    tiny_spec s = {.arch = arch,
                   .n_layer = 3,
                   .n_embd = 64,
                   .n_head = 4,
                   .n_head_kv = 2,
                   .dim = 32,
                   .n_ff = 32,
                   .n_expert = 8,
                   .k = 3,
                   .n_vocab = 101,
                   .n_ctx = 512,
                   .type = NM_TYPE_F32,
                   .seed = 1};
    if (strcmp(arch, "olmoe") == 0 || strcmp(arch, "phimoe") == 0)
        s.dim = 16;
    if (strcmp(arch, "phimoe") == 0) {
        s.k = 2;
        s.window = 50;
        s.ctx_orig = 100;
    }
    if (strcmp(arch, "qwen2moe") == 0)
        s.n_ff_shared = 96;
    return s;
}

static uint64_t next_u64(maker *m)
{
    uint64_t z = (m->state += 0x9e3779b97f4a7c15u); /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static float uniform(maker *m)
{
    return (float)((double)(next_u64(m) >> 11) / 4503599627370496.0 - 1.0);
}

static bool is(const char *a, const char *b)
{
    return a && strcmp(a, b) == 0;
}

/* ne[0] = cols; value = mean + spread * uniform(-1, 1). */
static npumoe_status tensor(maker *m, const char *name, uint32_t n_dims, uint64_t n0, uint64_t n1,
                            uint64_t n2, uint32_t type, float mean, float spread)
{
    if (is(m->s->omit, name))
        return NPUMOE_OK;
    uint64_t ne[3] = {n0, n1, n2};
    if (is(m->s->reshape, name))
        ne[n_dims == 1 ? 0 : 1]++;
    if (m->declare)
        return nm_gguf_put_tensor(m->w, name, type, n_dims, ne, m->err);
    uint64_t bytes, rows = (n_dims > 1 ? ne[1] : 1) * (n_dims > 2 ? ne[2] : 1);
    if (!nm_row_bytes(type, ne[0], &bytes))
        return nm_err_set(m->err, NPUMOE_EINVAL, "%s: bad row", name);
    for (uint64_t r = 0; r < rows; r++) {
        for (uint64_t i = 0; i < ne[0]; i++)
            m->row[i] = mean + spread * uniform(m);
        if (r == 0 && is(m->s->nan, name))
            m->row[0] = NAN;
        nm_type_get(type)->encode(m->row, m->packed, (size_t)ne[0], NULL);
        NM_TRY(nm_gguf_write_data(m->w, m->packed, (size_t)bytes, m->err));
    }
    return NPUMOE_OK;
}

static npumoe_status matrix(maker *m, const char *name, uint64_t cols, uint64_t rows)
{
    return tensor(m, name, 2, cols, rows, 1, m->s->type, 0.0f, sqrtf(3.0f / (float)cols));
}

static npumoe_status vector(maker *m, const char *name, uint64_t n, float mean)
{
    return tensor(m, name, 1, n, 1, 1, NM_TYPE_F32, mean, 0.2f);
}

static npumoe_status stack(maker *m, const char *name, uint64_t cols, uint64_t rows)
{
    return tensor(m, name, 3, cols, rows, m->s->n_expert, m->s->type, 0.0f,
                  sqrtf(3.0f / (float)cols));
}

#define NAME(suffix) (snprintf(name, sizeof name, "blk.%u." suffix, (unsigned)i), name)

static npumoe_status attention(maker *m, uint32_t i)
{
    const tiny_spec *s = m->s;
    const uint64_t n = s->n_embd, nq = (uint64_t)s->n_head * s->dim;
    const uint64_t nk = (uint64_t)s->n_head_kv * s->dim;
    const bool phi = is("phimoe", s->arch), full = is("olmoe", s->arch);
    char name[64];
    NM_TRY(vector(m, NAME("attn_norm.weight"), n, 1.0f));
    if (phi)
        NM_TRY(vector(m, NAME("attn_norm.bias"), n, 0.0f));
    if (s->merged) {
        NM_TRY(matrix(m, NAME("attn_qkv.weight"), n, nq + 2 * nk));
    } else {
        NM_TRY(matrix(m, NAME("attn_q.weight"), n, nq));
        NM_TRY(matrix(m, NAME("attn_k.weight"), n, nk));
        NM_TRY(matrix(m, NAME("attn_v.weight"), n, nk));
    }
    if (phi || is("qwen2moe", s->arch)) {
        NM_TRY(vector(m, NAME("attn_q.bias"), nq, 0.0f));
        NM_TRY(vector(m, NAME("attn_k.bias"), nk, 0.0f));
        NM_TRY(vector(m, NAME("attn_v.bias"), nk, 0.0f));
    }
    if (full || is("qwen3moe", s->arch)) {
        NM_TRY(vector(m, NAME("attn_q_norm.weight"), full ? nq : s->dim, 1.0f));
        NM_TRY(vector(m, NAME("attn_k_norm.weight"), full ? nk : s->dim, 1.0f));
    }
    NM_TRY(matrix(m, NAME("attn_output.weight"), nq, n));
    if (phi) {
        NM_TRY(vector(m, NAME("attn_output.bias"), n, 0.0f));
        NM_TRY(vector(m, NAME("ffn_norm.bias"), n, 0.0f));
    }
    return vector(m, NAME("ffn_norm.weight"), n, 1.0f);
}

static npumoe_status feed_forward(maker *m, uint32_t i)
{
    const tiny_spec *s = m->s;
    const uint64_t n = s->n_embd;
    char name[64];
    if (s->n_expert == 0) {
        NM_TRY(matrix(m, NAME("ffn_gate.weight"), n, s->n_ff));
        NM_TRY(matrix(m, NAME("ffn_up.weight"), n, s->n_ff));
        return matrix(m, NAME("ffn_down.weight"), s->n_ff, n);
    }
    NM_TRY(tensor(m, NAME("ffn_gate_inp.weight"), 2, n, s->n_expert, 1, NM_TYPE_F32, 0.0f, 0.4f));
    if (s->merged) {
        NM_TRY(stack(m, NAME("ffn_gate_up_exps.weight"), n, 2 * (uint64_t)s->n_ff));
    } else {
        NM_TRY(stack(m, NAME("ffn_gate_exps.weight"), n, s->n_ff));
        NM_TRY(stack(m, NAME("ffn_up_exps.weight"), n, s->n_ff));
    }
    NM_TRY(stack(m, NAME("ffn_down_exps.weight"), s->n_ff, n));
    if (s->n_ff_shared == 0)
        return NPUMOE_OK;
    NM_TRY(matrix(m, NAME("ffn_gate_shexp.weight"), n, s->n_ff_shared));
    NM_TRY(matrix(m, NAME("ffn_up_shexp.weight"), n, s->n_ff_shared));
    NM_TRY(matrix(m, NAME("ffn_down_shexp.weight"), s->n_ff_shared, n));
    if (is("qwen2moe", s->arch))
        return vector(m, NAME("ffn_gate_inp_shexp.weight"), n, 0.0f);
    return NPUMOE_OK;
}

static npumoe_status tensors(maker *m)
{
    const tiny_spec *s = m->s;
    NM_TRY(tensor(m, "token_embd.weight", 2, s->n_embd, s->n_vocab, 1, s->type, 0.0f, 1.0f));
    NM_TRY(vector(m, "output_norm.weight", s->n_embd, 1.0f));
    if (!s->tied)
        NM_TRY(matrix(m, "output.weight", s->n_embd, s->n_vocab));
    if (is("phimoe", s->arch)) {
        NM_TRY(vector(m, "output_norm.bias", s->n_embd, 0.0f));
        NM_TRY(vector(m, "output.bias", s->n_vocab, 0.0f));
        NM_TRY(vector(m, "rope_factors_short.weight", s->dim / 2, 1.3f));
        NM_TRY(vector(m, "rope_factors_long.weight", s->dim / 2, 3.0f));
    }
    for (uint32_t i = 0; i < s->n_layer; i++) {
        NM_TRY(attention(m, i));
        NM_TRY(feed_forward(m, i));
    }
    if (s->extra)
        return tensor(m, s->extra, 1, 8, 1, 1, NM_TYPE_F32, 0.0f, 1.0f);
    return NPUMOE_OK;
}

static npumoe_status put_u32(maker *m, const char *suffix, uint32_t v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", m->s->arch, suffix);
    if (is(m->s->omit, key))
        return NPUMOE_OK;
    return nm_gguf_put_u32(m->w, key, is(m->s->set_key, key) ? m->s->set_value : v, m->err);
}

static npumoe_status put_f32(maker *m, const char *suffix, float v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", m->s->arch, suffix);
    if (is(m->s->omit, key) || is(m->s->set_f32_key, key))
        return NPUMOE_OK; /* written by keys() */
    return nm_gguf_put_f32(m->w, key, v, m->err);
}

static npumoe_status keys(maker *m)
{
    const tiny_spec *s = m->s;
    if (!is(s->omit, "general.architecture"))
        NM_TRY(nm_gguf_put_str(m->w, "general.architecture", nm_str_of(s->arch), m->err));
    NM_TRY(nm_gguf_put_str(m->w, "general.name", NM_STR("tiny"), m->err));
    if (s->set_f32_key)
        NM_TRY(nm_gguf_put_f32(m->w, s->set_f32_key, s->set_f32_value, m->err));
    NM_TRY(put_u32(m, "vocab_size", s->n_vocab));
    NM_TRY(put_u32(m, "block_count", s->n_layer));
    NM_TRY(put_u32(m, "embedding_length", s->n_embd));
    NM_TRY(put_u32(m, "context_length", s->n_ctx));
    NM_TRY(put_u32(m, "feed_forward_length", s->n_ff));
    NM_TRY(put_u32(m, "attention.head_count", s->n_head));
    NM_TRY(put_u32(m, "attention.head_count_kv", s->n_head_kv));
    NM_TRY(put_u32(m, "attention.key_length", s->dim));
    NM_TRY(put_u32(m, "attention.value_length", s->dim));
    NM_TRY(put_f32(m, "attention.layer_norm_rms_epsilon", 1e-5f));
    NM_TRY(put_u32(m, "expert_count", s->n_expert));
    if (s->n_expert > 0)
        NM_TRY(put_u32(m, "expert_used_count", s->k));
    if (s->n_expert > 0)
        NM_TRY(put_u32(m, "expert_feed_forward_length", s->n_ff));
    if (s->n_ff_shared > 0)
        NM_TRY(put_u32(m, "expert_shared_feed_forward_length", s->n_ff_shared));
    if (s->window > 0)
        NM_TRY(put_u32(m, "attention.sliding_window", s->window));
    if (s->ctx_orig > 0)
        NM_TRY(put_u32(m, "rope.scaling.original_context_length", s->ctx_orig));
    if (is("olmoe", s->arch))
        NM_TRY(put_f32(m, "attention.clamp_kqv", 1.5f));
    if (!is("granitemoe", s->arch))
        return NPUMOE_OK;
    NM_TRY(put_f32(m, "embedding_scale", 1.7f));
    NM_TRY(put_f32(m, "residual_scale", 0.6f));
    NM_TRY(put_f32(m, "attention.scale", 0.11f));
    return put_f32(m, "logit_scale", 2.0f);
}

static npumoe_status write_all(maker *m, const char *path)
{
    NM_TRY(nm_gguf_writer_new(NULL, path, &m->w, m->err));
    NM_TRY(keys(m));
    m->declare = true;
    NM_TRY(tensors(m));
    NM_TRY(nm_gguf_begin_data(m->w, m->err));
    m->declare = false;
    NM_TRY(tensors(m));
    return nm_gguf_writer_finish(m->w, m->err);
}

npumoe_status tiny_write(const tiny_spec *s, const char *path, npumoe_error *err)
{
    maker m = {.s = s, .err = err, .state = s->seed};
    size_t widest = (size_t)s->n_embd + s->n_ff + s->n_ff_shared + (size_t)s->n_head * s->dim + 256;
    m.row = malloc(widest * sizeof *m.row + s->n_vocab * sizeof *m.row);
    m.packed = malloc(widest * sizeof *m.row + s->n_vocab * sizeof *m.row);
    npumoe_status st =
        m.row && m.packed ? write_all(&m, path) : nm_err_set(err, NPUMOE_ENOMEM, "tiny: no memory");
    nm_gguf_writer_free(&m.w);
    free(m.row);
    free(m.packed);
    return st;
}

const char *tiny_path(void)
{
    static char path[256];
    const char *dir = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/npumoe-tiny-%ld.gguf", dir ? dir : "/tmp", (long)getpid());
    return path;
}
