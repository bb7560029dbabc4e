/* buffers.c: see buffers.h. */
#include "engine/buffers.h"

#include "base/num.h"

#define LOGIT_BLOCK_BYTES ((size_t)16 << 20)
#define LOGIT_BLOCK_ROWS  64u
#define PACKED_BYTES      ((size_t)48 << 20)
#define GROUP             16u /* rows that an expert's last group may leave empty */

/* A bump pointer; with base NULL it only counts. */
typedef struct carver {
    char *base;
    size_t used;
} carver;

/* n elements of elem_bytes, aligned. Factors are bounded by nm_config's limits and n_chunk's, whose
 * products stay far below 2^63. */
static void *take(carver *c, size_t n, size_t elem_bytes)
{
    void *p = c->base ? c->base + c->used : NULL;
    c->used += (n * elem_bytes + NM_ALIGN - 1) & ~(size_t)(NM_ALIGN - 1);
    return p;
}

/* The largest of each width over all layers. */
typedef struct widths {
    size_t q, k, v, att; /* heads * dim */
    size_t ff;           /* inner rows of a network */
    size_t cols;         /* longest weight row */
    uint32_t dim;        /* longest head */
} widths;

static widths widest(const nm_config *c)
{
    widths w = {.cols = c->n_embd};
    for (uint32_t i = 0; i < c->n_layer; i++) {
        const nm_layer_desc *d = &c->layers[i];
        w.q = nm_max_size(w.q, (size_t)d->n_head * d->dim_k);
        w.att = nm_max_size(w.att, (size_t)d->n_head * d->dim_v);
        w.k = nm_max_size(w.k, (size_t)d->n_head_kv * d->dim_k);
        w.v = nm_max_size(w.v, (size_t)d->n_head_kv * d->dim_v);
        w.ff = nm_max_size(w.ff, nm_max_size(d->n_ff, d->n_ff_shared));
        w.cols = nm_max_size(w.cols, nm_max_size(d->n_ff, d->n_ff_shared));
        w.dim = d->dim_k > w.dim ? d->dim_k : w.dim;
        w.dim = d->dim_v > w.dim ? d->dim_v : w.dim;
    }
    w.cols = nm_max_size(w.cols, w.att);
    return w;
}

static void plan_rows(nm_buffers *b, carver *cv, const nm_config *c, size_t n, const widths *w)
{
    size_t rot = 0;
    for (uint32_t i = 0; i < c->n_ropes; i++)
        rot = nm_max_size(rot, c->ropes[i].n_rot);
    b->x = take(cv, n * c->n_embd, sizeof *b->x);
    b->h = take(cv, n * nm_max_size(c->n_embd, w->att), sizeof *b->h);
    b->cos_sin = take(cv, n * rot * c->n_ropes, sizeof *b->cos_sin);
    b->router = take(cv, n * c->n_expert, sizeof *b->router);
    b->sgate = take(cv, n, sizeof *b->sgate);
    b->rows_in = take(cv, n, sizeof *b->rows_in);
    for (size_t i = 0; i < NM_ROWS_OUT; i++)
        b->rows_out[i] = take(cv, n, sizeof *b->rows_out[i]);
}

static void plan_routing(nm_buffers *b, carver *cv, const nm_config *c, size_t n)
{
    const size_t pairs = n * c->n_expert_used;
    b->weights = take(cv, pairs, sizeof *b->weights);
    b->ids = take(cv, pairs, sizeof *b->ids);
    b->dispatch = (nm_dispatch){.n_expert = c->n_expert};
    b->dispatch.first = take(cv, (size_t)c->n_expert + 1, sizeof *b->dispatch.first);
    b->dispatch.order = take(cv, pairs, sizeof *b->dispatch.order);
    b->room.items = take(cv, (size_t)c->n_expert + 1, sizeof *b->room.items);
    b->room.parts = take(cv, (size_t)c->n_expert + 1, sizeof *b->room.parts);
    b->room.x = take(cv, pairs + n, sizeof *b->room.x);
    b->room.y = take(cv, pairs + n, sizeof *b->room.y);
    b->room.weight = take(cv, pairs + n, sizeof *b->room.weight);
}

/* Room for the packed rows of one wave: of all the chunk needs at once, but no more than serves the
 * caches; and at least what one pass of a few rows takes. */
static void plan_packed(nm_buffers *b, carver *cv, const nm_config *c, size_t n, const widths *w)
{
    const size_t rows = n * ((size_t)c->n_expert_used + 1) + (size_t)c->n_expert * GROUP;
    const size_t cols = nm_max_size(w->cols, c->n_embd + w->ff);
    size_t bytes = nm_min_size(nm_product_packed_max(rows, cols), PACKED_BYTES);
    b->packed_bytes = nm_max_size(bytes, nm_compute_packed_min(cols));
    b->packed = take(cv, b->packed_bytes, 1);
}

static void plan_qkv(nm_buffers *b, carver *cv, const nm_config *c, size_t n, const widths *w)
{
    b->q = take(cv, n * nm_max_size(w->q, c->n_embd), sizeof *b->q);
    b->k = take(cv, n * w->k, sizeof *b->k);
    b->v = take(cv, n * w->v, sizeof *b->v);
}

/* The two users of the shared area start at the same place, unless they are apart. */
static void plan_shared(nm_buffers *b, carver *cv, const nm_config *c, size_t n, const widths *w,
                        bool apart)
{
    carver att = *cv;
    plan_qkv(b, &att, c, n, w);
    carver out = apart ? att : *cv;
    size_t rows = LOGIT_BLOCK_BYTES / ((size_t)c->n_vocab * sizeof(float));
    rows = nm_max_size(1, nm_min_size(rows, nm_min_size(n, LOGIT_BLOCK_ROWS)));
    b->logit_rows = (uint32_t)rows;
    b->logits = take(&out, rows * c->n_vocab, sizeof *b->logits);
    cv->used = nm_max_size(att.used, out.used);
}

size_t nm_buffers_plan(nm_buffers *b, const nm_config *c, uint32_t n_chunk, int n_threads,
                       bool apart, char *base)
{
    carver cv = {base, 0};
    const widths w = widest(c);
    *b = (nm_buffers){.n_chunk = n_chunk};
    plan_rows(b, &cv, c, n_chunk, &w);
    plan_routing(b, &cv, c, n_chunk);
    plan_packed(b, &cv, c, n_chunk, &w);
    b->scratch_bytes = nm_compute_scratch_bytes(w.cols, w.dim);
    b->scratch_bytes = (b->scratch_bytes + NM_ALIGN - 1) & ~(size_t)(NM_ALIGN - 1);
    b->scratch = take(&cv, (size_t)n_threads, b->scratch_bytes);
    plan_shared(b, &cv, c, n_chunk, &w, apart);
    return cv.used;
}

size_t nm_buffers_plan_lane(nm_buffers *b, const nm_buffers *first, const nm_config *c, bool apart,
                            char *base)
{
    carver cv = {base, 0};
    const widths w = widest(c);
    *b = *first;
    plan_rows(b, &cv, c, first->n_chunk, &w);
    plan_routing(b, &cv, c, first->n_chunk);
    if (apart)
        plan_qkv(b, &cv, c, first->n_chunk, &w);
    return cv.used;
}
