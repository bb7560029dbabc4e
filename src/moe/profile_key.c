/* profile_key.c: what a profile says about its model, and the hash that ties the two.
 *
 * Routing is decided by the residual stream and the routers. The routers are the part that a
 * quantisation leaves as it is (F32 in every type of llama.cpp's files), so their hash names the model and
 * not the file. The stream does change a little with the quantisation; loads do not, as far as a plan
 * can tell. */
#include "moe/profile.h"

#include "base/num.h"

#include <inttypes.h>
#include <string.h>

#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME  UINT64_C(0x100000001b3)

static uint64_t hash_bytes(uint64_t h, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ p[i]) * FNV_PRIME;
    return h;
}

static uint64_t hash_u32(uint64_t h, uint32_t v)
{
    const unsigned char bytes[4] = {(unsigned char)v, (unsigned char)(v >> 8),
                                    (unsigned char)(v >> 16), (unsigned char)(v >> 24)};
    return hash_bytes(h, bytes, sizeof bytes);
}

/* As little-endian fp32, which every machine this is built for has in memory. */
static uint64_t hash_floats(uint64_t h, const float *v, size_t n)
{
    return v ? hash_bytes(h, v, n * sizeof *v) : hash_u32(h, 0);
}

static uint64_t hash_rows(uint64_t h, const nm_mat *m, float *row)
{
    const nm_type_traits *type = nm_type_get(m->type);
    for (uint64_t r = 0; r < m->rows; r++) {
        type->decode((const char *)m->data + r * m->row_bytes, row, (size_t)m->cols);
        h = hash_floats(h, row, (size_t)m->cols);
    }
    return h;
}

npumoe_status nm_profile_router_hash(const nm_config *c, const nm_weights *w, uint64_t *hash,
                                     npumoe_error *err)
{
    const uint32_t geometry[] = {c->n_layer, c->n_embd, c->n_expert, c->n_expert_used,
                                 c->n_ff_expert};
    uint64_t h = FNV_OFFSET;
    float *row = nm_alloc_array(c->allocator, c->n_embd, sizeof *row);
    if (row == NULL)
        return nm_err_nomem(err, c->n_embd * sizeof *row, "a row of a router");
    for (size_t i = 0; i < sizeof geometry / sizeof geometry[0]; i++)
        h = hash_u32(h, geometry[i]);
    for (uint32_t i = 0; i < c->n_layer; i++) {
        if (c->layers[i].ffn != NM_FFN_MOE)
            continue;
        const nm_layer_weights *l = &w->layers[i];
        h = hash_u32(h, i);
        h = hash_rows(h, &l->router, row);
        h = hash_floats(h, l->router_bias, c->n_expert);
        h = hash_floats(h, l->select_bias, c->n_expert);
    }
    nm_free(c->allocator, row);
    *hash = h;
    return NPUMOE_OK;
}

/* ---- the model of a profile ----------------------------------------------------------------- */

static void describe_layer(nm_profile_model *m, const nm_layer_desc *d, const nm_layer_weights *l)
{
    m->n_head = d->n_head;
    m->n_head_kv = d->n_head_kv;
    m->dim_k = d->dim_k;
    m->dim_v = d->dim_v;
    m->window = d->window;
    m->n_ff_expert = d->n_ff;
    m->n_ff_shared = d->n_ff_shared;
    m->type_gate = l->experts.gate.mat.type;
    m->type_up = l->experts.up.mat.type;
    m->type_down = l->experts.down.mat.type;
    m->type_qkv = l->wq.type;
    m->type_out = l->wo.type;
}

npumoe_status nm_profile_new_for(const nm_config *c, const nm_weights *w, nm_profile **out,
                                 npumoe_error *err)
{
    uint32_t layer_of[NM_MAX_LAYERS], n = 0;
    nm_profile_model m = {.n_layer = c->n_layer,
                          .n_vocab = c->n_vocab,
                          .n_embd = c->n_embd,
                          .n_expert = c->n_expert,
                          .n_expert_used = c->n_expert_used};
    for (uint32_t i = 0; i < c->n_layer; i++) {
        if (c->layers[i].ffn == NM_FFN_MOE)
            layer_of[n++] = i;
        else
            m.n_ff_dense = c->layers[i].n_ff;
    }
    if (n == 0)
        return nm_err_set(
            err, NPUMOE_EUNSUPPORTED,
            "the model has no experts: every token passes the same weights, and there "
            "is nothing to calibrate");
    describe_layer(&m, &c->layers[layer_of[0]], &w->layers[layer_of[0]]);
    NM_TRY(nm_profile_router_hash(c, w, &m.router_hash, err));
    const nm_str arch = nm_str_of(c->family->arch);
    m.name = nm_strndup(c->allocator, c->name.p ? c->name.p : "", c->name.n);
    m.architecture = nm_strndup(c->allocator, arch.p, arch.n);
    npumoe_status st = NPUMOE_ENOMEM;
    if (m.name && m.architecture)
        st = nm_profile_new(c->allocator, &m, layer_of, n, out, err);
    else
        nm_err_nomem(err, c->name.n + arch.n, "a model's name");
    for (uint32_t i = 0; st == NPUMOE_OK && i < n; i++)
        (*out)->types[i] = nm_expert_types_of(&w->layers[layer_of[i]].experts);
    nm_free(c->allocator, m.name);
    nm_free(c->allocator, m.architecture);
    return st;
}
