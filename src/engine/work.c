/* work.c: npumoe_model_get_work(): what tokens take at least, counted from the bindings.
 *
 * Only what grows with a token's work is counted: matrices, the attention core, and all that is read.
 * Norms, rotary angles, activations and the router's choice are below a percent of the operations and
 * are left out, which keeps the figure a lower bound. Counts are those of the formulas (docs/families),
 * not of any kernel. */
#include "engine/kv.h"
#include "engine/model.h"

#include "base/abi.h"

/* Elements and stored bytes of matrices that one token meets. */
typedef struct tally {
    uint64_t elems, bytes;
} tally;

static void count(tally *t, const nm_mat *m, uint64_t times)
{
    if (m->data == NULL)
        return;
    t->elems += times * m->rows * m->cols;
    t->bytes += times * m->rows * m->row_bytes;
}

static tally count_keys_values(const nm_layer_weights *l)
{
    tally t = {0};
    count(&t, &l->wk, 1);
    count(&t, &l->wv, 1);
    return t;
}

static tally count_layer(const nm_config *c, const nm_layer_desc *d, const nm_layer_weights *l)
{
    tally t = count_keys_values(l);
    count(&t, &l->wq, 1);
    count(&t, &l->wo, 1);
    count(&t, &l->ffn.gate, 1); /* of a dense layer, or the shared expert */
    count(&t, &l->ffn.up, 1);
    count(&t, &l->ffn.down, 1);
    if (d->ffn == NM_FFN_MOE) {
        count(&t, &l->router, 1);
        count(&t, &l->shared_gate, 1);
        count(&t, &l->experts.gate.mat, c->n_expert_used);
        count(&t, &l->experts.up.mat, c->n_expert_used);
        count(&t, &l->experts.down.mat, c->n_expert_used);
    }
    return t;
}

/* Cached positions that n tokens from n_past on see together, each itself included. */
static uint64_t positions_seen(uint32_t window, uint64_t n_past, uint64_t n)
{
    uint64_t growing = n; /* tokens that still see everything before them */
    if (window)
        growing = n_past >= window ? 0 : window - n_past < n ? window - n_past : n;
    uint64_t first = n_past + 1, last = n_past + growing;
    return growing * (first + last) / 2 + (n - growing) * window;
}

static bool kv_row_bytes(npumoe_kv_type type, uint32_t dim, uint32_t n_head, uint64_t *bytes)
{
    uint32_t nm;
    uint64_t one;
    if (nm_kv_type(type, &nm, NULL) != NPUMOE_OK || !nm_row_bytes(nm, dim, &one))
        return false;
    *bytes += one * n_head;
    return true;
}

/* Adds one layer; false for a cache type that its heads cannot have. */
static bool add_layer(const npumoe_model *m, uint32_t i, uint64_t n_past, uint64_t n,
                      npumoe_kv_type type_k, npumoe_kv_type type_v, npumoe_model_work *work)
{
    const nm_layer_desc *d = &m->config.layers[i];
    const nm_layer_weights *l = &m->weights.layers[i];
    tally all = count_layer(&m->config, d, l), kv = count_keys_values(l);
    uint64_t heads = (uint64_t)d->n_head * (d->dim_k + d->dim_v);
    uint64_t seen = positions_seen(d->window, n_past, n), position_bytes = 0;
    if (!kv_row_bytes(type_k, d->dim_k, d->n_head_kv, &position_bytes) ||
        !kv_row_bytes(type_v, d->dim_v, d->n_head_kv, &position_bytes))
        return false;
    bool last = i + 1 == m->config.n_layer;
    work->matrix_ops += 2 * (last ? all.elems + (n - 1) * kv.elems : n * all.elems);
    work->attention_ops += 2 * heads * (last ? positions_seen(d->window, n_past + n - 1, 1) : seen);
    work->weight_bytes += n * all.bytes;
    work->kv_bytes += seen * position_bytes;
    return true;
}

void npumoe_model_get_work(const npumoe_model *model, uint64_t n_past, uint64_t n_tokens,
                           npumoe_kv_type type_k, npumoe_kv_type type_v, npumoe_model_work *work)
{
    const nm_weights *w = &model->weights;
    const npumoe_model_work none = {.struct_bytes = sizeof none};
    npumoe_model_work all = none;
    bool ok = !model->vocab_only && n_tokens > 0;
    for (uint32_t i = 0; ok && i < model->config.n_layer; i++)
        ok = add_layer(model, i, n_past, n_tokens, type_k, type_v, &all);
    if (ok) {
        uint64_t vectors_bytes = w->vectors_bytes; /* norms and biases; F32 in the file too */
        all.output_ops = 2 * w->output.rows * w->output.cols;
        all.weight_bytes += n_tokens * (w->output.rows * w->output.row_bytes + vectors_bytes +
                                        w->token_embd.row_bytes);
    }
    nm_abi_write(work, ok ? &all : &none, sizeof all);
}
