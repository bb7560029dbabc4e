/* forward.c: the generic layer; see forward.h.
 *
 * Order of one layer, with the buffers (engine/buffers.h):
 *   h = norm(x)                                    rows
 *   q, k, v = h W^T (+ bias)                       products
 *   norm, clip, rope; k, v into the cache          rows
 *   h = attention(q, cache)                        attention
 *   q = h W_o^T (+ bias);  x += residual_scale q   product, rows
 *   h = norm(x)                                    rows
 *   x += residual_scale (experts or dense network)     networks
 * "rows" are passes over independent tokens; a single token stays on the calling thread, where
 * waking others would cost more than the work. */
#include "engine/layer.h"

#include "moe/router.h"

#include <math.h>
#include <string.h>

static void run_rows(void *arg, int thread, int n_threads)
{
    const nm_layer_job *job = arg;
    (void)thread;
    (void)n_threads;
    nm_pool *pool = job->f->compute.pool;
    for (size_t i = nm_pool_next(pool); i < job->n_rows; i = nm_pool_next(pool))
        job->fn(job, job->row + i);
}

/* Rows [from, to). */
static void each_row_of(nm_layer_job *job, uint32_t from, uint32_t to, nm_row_fn fn)
{
    job->fn = fn;
    job->row = from;
    job->n_rows = to - from;
    if (job->n_rows == 1)
        fn(job, from);
    else
        nm_pool_run(job->f->compute.pool, run_rows, job);
}

static void each_row(nm_layer_job *job, nm_row_fn fn)
{
    each_row_of(job, 0, job->n, fn);
}

/* Rows [from, to) of data. */
static void probe(const nm_layer_job *job, const char *name, uint32_t from, uint32_t to,
                  const float *data, size_t cols)
{
    const nm_hooks *h = &job->f->hooks;
    if (h->tensor)
        h->tensor(h->user, name, (int)job->layer, data + from * cols, to - from, cols);
}

static void probe_all(const nm_layer_job *job, const char *name, const float *data, size_t cols)
{
    probe(job, name, 0, job->n, data, cols);
}

/* n rows of width cols from that row of x on, one after the other. */
static float **rows_of(float **at, float *x, uint32_t from, uint32_t n, size_t cols)
{
    for (uint32_t i = 0; i < n; i++)
        at[i] = x + (from + i) * cols;
    return at;
}

/* y[i] = W x[i] (+ bias) for n rows of x. */
static void product(const nm_forward *f, const nm_mat *w, const float *bias, uint32_t n, float *x,
                    float *y)
{
    nm_buffers *b = f->buf;
    float **in = rows_of(b->rows_in, x, 0, n, (size_t)w->cols);
    const nm_linear l = {w, bias, rows_of(b->rows_out[0], y, 0, n, (size_t)w->rows)};
    nm_matmul(&f->compute, &l, 1, n, (const float *const *)in);
}

/* The same near fp32, whatever the precision asked for. */
static void fine_product(const nm_forward *f, const nm_mat *w, const float *bias, uint32_t n,
                         float *x, float *y)
{
    nm_forward fine = *f;
    if (fine.compute.precision != NM_PRECISION_FP32)
        fine.compute.precision = NM_PRECISION_FULL;
    product(&fine, w, bias, n, x, y);
}

static nm_compute attention_compute(const nm_forward *f)
{
    nm_compute c = f->compute;
    c.precision = nm_precision_of_attention(c.precision);
    return c;
}

static void norm_row(const nm_forward *f, const nm_norm *w, const float *in, float *out)
{
    const nm_kern *kern = f->compute.kern;
    const nm_config *c = f->config;
    switch (c->family->norm) {
    case NM_NORM_RMS:
        kern->rms_norm(c->n_embd, in, w->w, c->norm_eps, out);
        break;
    case NM_NORM_LAYER:
        kern->layer_norm(c->n_embd, in, w->w, w->b, c->norm_eps, out);
        break;
    }
}

/* ---- before the layers ---------------------------------------------------------------------- */

static void embed_row(const nm_layer_job *job, size_t i)
{
    const nm_forward *f = job->f;
    const nm_config *c = f->config;
    float *x = f->buf->x + i * c->n_embd;
    nm_mat_row(f->compute.kern, &f->weights->token_embd, (uint64_t)job->tokens[i], x);
    if (c->embedding_scale != 1.0f)
        f->compute.kern->scale(c->n_embd, c->embedding_scale, x);
}

/* Where rope table r keeps its cosines; its sines follow after n_chunk rows. */
static float *angles_of(const nm_forward *f, uint32_t r)
{
    float *at = f->buf->cos_sin;
    for (uint32_t i = 0; i < r; i++)
        at += (size_t)f->buf->n_chunk * f->weights->ropes[i].n_rot;
    return at;
}

static void angle_row(const nm_layer_job *job, size_t i)
{
    const nm_forward *f = job->f;
    for (uint32_t r = 0; r < f->weights->n_ropes; r++) {
        const nm_rope_table *t = &f->weights->ropes[r];
        const size_t half = t->n_rot / 2;
        float *cos_row = angles_of(f, r) + i * half;
        nm_rope_angles(t, f->rope_variant, job->pos0 + i, cos_row,
                       cos_row + f->buf->n_chunk * half);
    }
}

/* ---- attention ------------------------------------------------------------------------------ */

static void attn_norm_row(const nm_layer_job *job, size_t i)
{
    const nm_buffers *b = job->f->buf;
    const size_t n = job->f->config->n_embd;
    norm_row(job->f, &job->l->attn_norm, b->x + i * n, b->h + i * n);
}

static void qk_norm(const nm_layer_job *job, const float *w, uint32_t n_head, float *x)
{
    const nm_kern *kern = job->f->compute.kern;
    const float eps = job->f->config->norm_eps;
    const size_t dim = job->d->dim_k;
    switch (job->f->config->family->qk_norm) {
    case NM_QK_NORM_NONE:
        break;
    case NM_QK_NORM_FULL:
        kern->rms_norm(n_head * dim, x, w, eps, x);
        break;
    case NM_QK_NORM_HEAD:
        for (uint32_t h = 0; h < n_head; h++)
            kern->rms_norm(dim, x + h * dim, w, eps, x + h * dim);
        break;
    }
}

static void clip(size_t n, float limit, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
}

static void rotate(const nm_layer_job *job, size_t i, uint32_t n_head, float *x)
{
    const nm_forward *f = job->f;
    const nm_rope_table *t = &f->weights->ropes[job->d->rope];
    const size_t half = t->n_rot / 2;
    const float *cos_row = angles_of(f, job->d->rope) + i * half;
    const float *sin_row = cos_row + f->buf->n_chunk * half;
    for (uint32_t h = 0; h < n_head; h++, x += job->d->dim_k) {
        switch (t->kind) {
        case NM_ROPE_NEOX:
            f->compute.kern->rope_neox(t->n_rot, x, cos_row, sin_row);
            break;
        case NM_ROPE_NORM:
            f->compute.kern->rope_norm(t->n_rot, x, cos_row, sin_row);
            break;
        }
    }
}

static void finish_qkv_row(const nm_layer_job *job, size_t i)
{
    nm_forward *f = job->f;
    const nm_layer_desc *d = job->d;
    const size_t nq = (size_t)d->n_head * d->dim_k;
    const size_t nk = (size_t)d->n_head_kv * d->dim_k, nv = (size_t)d->n_head_kv * d->dim_v;
    float *q = f->buf->q + i * nq, *k = f->buf->k + i * nk, *v = f->buf->v + i * nv;
    qk_norm(job, job->l->q_norm, d->n_head, q);
    qk_norm(job, job->l->k_norm, d->n_head_kv, k);
    if (f->config->clamp_kqv > 0.0f) {
        clip(nq, f->config->clamp_kqv, q);
        clip(nk, f->config->clamp_kqv, k);
        clip(nv, f->config->clamp_kqv, v);
    }
    rotate(job, i, d->n_head, q);
    rotate(job, i, d->n_head_kv, k);
    nm_kv_store(f->kv, f->compute.kern, d, job->layer, job->pos0 + i, k, v);
}

/* Joins the attention branch to the residual stream and norms for the next one. */
static void add_attention_row(const nm_layer_job *job, size_t i)
{
    const nm_forward *f = job->f;
    const size_t n = f->config->n_embd;
    float *x = f->buf->x + i * n;
    f->compute.kern->axpy(n, f->config->residual_scale, f->buf->q + i * n, x);
    norm_row(f, &job->l->ffn_norm, x, f->buf->h + i * n);
}

void nm_layer_norm(nm_layer_job *job, uint32_t from, uint32_t to)
{
    if (from == to)
        return;
    each_row_of(job, from, to, attn_norm_row);
    probe(job, "attn_norm", from, to, job->f->buf->h, job->f->config->n_embd);
}

void nm_layer_project(nm_layer_job *job, uint32_t from, uint32_t to)
{
    nm_forward *f = job->f;
    nm_buffers *b = f->buf;
    const nm_layer_weights *l = job->l;
    const uint32_t n = to - from;
    if (n == 0)
        return;
    float **in = rows_of(b->rows_in, b->h, from, n, f->config->n_embd);
    const nm_linear qkv[] = {
        {&l->wq, l->bq, rows_of(b->rows_out[0], b->q, from, n, (size_t)l->wq.rows)},
        {&l->wk, l->bk, rows_of(b->rows_out[1], b->k, from, n, (size_t)l->wk.rows)},
        {&l->wv, l->bv, rows_of(b->rows_out[2], b->v, from, n, (size_t)l->wv.rows)},
    };
    const nm_compute compute = attention_compute(f);
    nm_matmul(&compute, qkv, 3, n, (const float *const *)in);
}

void nm_layer_store(nm_layer_job *job, uint32_t from, uint32_t to)
{
    const nm_buffers *b = job->f->buf;
    if (from == to)
        return;
    each_row_of(job, from, to, finish_qkv_row);
    probe(job, "Qcur", from, to, b->q, (size_t)job->l->wq.rows);
    probe(job, "Kcur", from, to, b->k, (size_t)job->l->wk.rows);
    probe(job, "Vcur", from, to, b->v, (size_t)job->l->wv.rows);
}

void nm_layer_drop(nm_layer_job *job, uint32_t first)
{
    nm_buffers *b = job->f->buf;
    const size_t n = job->f->config->n_embd;
    job->n -= first;
    job->pos0 += first;
    if (first > 0)
        memmove(b->x, b->x + first * n, job->n * n * sizeof *b->x);
}

void nm_layer_attend(nm_layer_job *job, uint32_t from, uint32_t to)
{
    nm_forward *f = job->f;
    nm_buffers *b = f->buf;
    const nm_layer_desc *d = job->d;
    const size_t width = (size_t)d->n_head * d->dim_v;
    if (from == to)
        return;
    const nm_attention_args args = {
        .n_q = to - from,
        .pos0 = job->pos0 + from,
        .n_head = d->n_head,
        .n_head_kv = d->n_head_kv,
        .dim_k = d->dim_k,
        .dim_v = d->dim_v,
        .scale = f->config->attention_scale,
        .window = d->window,
        .q = b->q + from * (size_t)job->l->wq.rows,
        .k = nm_kv_keys(f->kv, job->layer),
        .v = nm_kv_values(f->kv, job->layer),
        .out = b->h + from * width,
    };
    nm_attention(&f->compute, &args);
    probe(job, "kqv_out", from, to, b->h, width);
}

void nm_layer_output(nm_layer_job *job, uint32_t from, uint32_t to)
{
    const nm_buffers *b = job->f->buf;
    const nm_mat *w = &job->l->wo;
    nm_forward f = *job->f;
    if (from == to)
        return;
    f.compute = attention_compute(job->f);
    product(&f, w, job->l->bo, to - from, b->h + from * (size_t)w->cols,
            b->q + from * (size_t)w->rows);
}

void nm_layer_join(nm_layer_job *job)
{
    const nm_buffers *b = job->f->buf;
    const size_t n = job->f->config->n_embd;
    probe_all(job, "attn_out", b->q, n);
    each_row(job, add_attention_row);
    probe_all(job, "ffn_inp", b->x, n);
    probe_all(job, "ffn_norm", b->h, n);
}

/* ---- feed-forward --------------------------------------------------------------------------- */

static void shared_gate_row(const nm_layer_job *job, size_t i)
{
    float *g = &job->f->buf->sgate[i];
    *g = 1.0f / (1.0f + expf(-*g));
}

/* How much of the shared expert each token takes, or NULL where it takes all. */
static const float *shared_gate(nm_layer_job *job)
{
    nm_buffers *b = job->f->buf;
    if (job->l->shared_gate.rows == 0)
        return NULL;
    fine_product(job->f, &job->l->shared_gate, NULL, job->n, b->h, b->sgate);
    each_row(job, shared_gate_row);
    return b->sgate;
}

static void route_row(const nm_layer_job *job, size_t i)
{
    const nm_config *c = job->f->config;
    const nm_buffers *b = job->f->buf;
    const uint32_t k = c->n_expert_used;
    nm_router_pick(&c->router, c->n_expert, k, b->router + i * c->n_expert, job->l->select_bias,
                   b->ids + i * k, b->weights + i * k);
}

static void route(nm_layer_job *job)
{
    nm_forward *f = job->f;
    nm_buffers *b = f->buf;
    const nm_config *c = f->config;
    /* A near tie decided the other way sends a token to another expert. */
    fine_product(f, &job->l->router, job->l->router_bias, job->n, b->h, b->router);
    probe_all(job, "ffn_moe_logits", b->router, c->n_expert);
    each_row(job, route_row);
    if (f->routes)
        nm_routes_get(f->routes, job->layer, job->pos0, job->n, b->ids, b->weights);
    probe_all(job, "ffn_moe_probs", b->router, c->n_expert);
    probe_all(job, "ffn_moe_weights", b->weights, c->n_expert_used);
    if (f->hooks.route)
        f->hooks.route(f->hooks.user, job->layer, job->pos0, job->n, c->n_expert_used, b->ids,
                       b->weights);
    nm_dispatch_sort(&b->dispatch, b->ids, job->n * c->n_expert_used);
}

nm_expert_job nm_layer_route(nm_layer_job *job)
{
    nm_forward *f = job->f;
    nm_buffers *b = f->buf;
    const nm_config *c = f->config;
    nm_expert_job run = {
        .compute = &f->compute,
        .act = c->family->act,
        .n_tokens = job->n,
        .x = b->h,
        .y = b->x,
        .scale = c->residual_scale,
        .room = &b->room,
    };
    switch (job->d->ffn) {
    case NM_FFN_MOE:
        route(job);
        run.weights = &job->l->experts;
        run.dispatch = &b->dispatch;
        run.k = c->n_expert_used;
        run.w = b->weights;
        if (job->d->n_ff_shared > 0) {
            run.shared = &job->l->ffn;
            run.shared_gate = shared_gate(job);
        }
        break;
    case NM_FFN_DENSE:
        run.shared = &job->l->ffn;
        break;
    }
    return run;
}

void nm_layer_done(const nm_layer_job *job)
{
    probe_all(job, "l_out", job->f->buf->x, job->f->config->n_embd);
}

/* ---- the chunk ------------------------------------------------------------------------------ */

nm_layer_job nm_layer_begin(nm_forward *f, const npumoe_token *tokens, uint32_t n, size_t pos0)
{
    nm_layer_job job = {.f = f, .tokens = tokens, .n = n, .pos0 = pos0};
    each_row(&job, embed_row);
    each_row(&job, angle_row);
    return job;
}

void nm_layer_enter(nm_layer_job *job, uint32_t layer)
{
    job->layer = layer;
    job->d = &job->f->config->layers[layer];
    job->l = &job->f->weights->layers[layer];
}

uint32_t nm_layer_first_row(const nm_layer_job *job, uint32_t wanted)
{
    const nm_hooks *h = &job->f->hooks;
    /* Observers want every row of every layer; else rows that nobody needs end in the last one. */
    const bool last = job->layer + 1 == job->f->config->n_layer;
    return last && !h->tensor && !h->route ? wanted : 0;
}

/* False: no row is left. */
static bool attention(nm_layer_job *job, uint32_t first)
{
    nm_buffers *b = job->f->buf;
    const size_t unwanted = first * (size_t)job->l->wq.rows;
    float *const q = b->q;
    nm_layer_norm(job, 0, job->n);
    nm_layer_project(job, 0, job->n);
    nm_layer_store(job, 0, job->n);
    nm_layer_drop(job, first);
    if (job->n == 0)
        return false;
    b->q = q + unwanted;
    nm_layer_attend(job, 0, job->n);
    b->q = q;
    nm_layer_output(job, 0, job->n);
    nm_layer_join(job);
    return true;
}

static void feed_forward(nm_layer_job *job)
{
    const nm_expert_job run = nm_layer_route(job);
    nm_experts_run(&run);
    nm_layer_done(job);
}

bool nm_forward_chunk(nm_forward *f, const npumoe_token *tokens, uint32_t n, size_t pos0,
                      uint32_t wanted)
{
    nm_layer_job job = nm_layer_begin(f, tokens, n, pos0);
    for (uint32_t i = 0; i < f->config->n_layer; i++) {
        bool rows = true;
        nm_layer_enter(&job, i);
        switch (job.d->mixer) {
        case NM_MIXER_GQA:
            rows = attention(&job, nm_layer_first_row(&job, wanted));
            break;
        }
        if (rows)
            feed_forward(&job);
        if (f->keep_going && !f->keep_going(f->keep_going_user, i + 1))
            return false;
    }
    nm_layer_end(&job, n, wanted);
    return true;
}

void nm_layer_end(nm_layer_job *job, uint32_t n, uint32_t wanted)
{
    if (job->n == n)
        nm_layer_drop(job, wanted);
}

static void final_norm_row(const nm_layer_job *job, size_t i)
{
    const nm_forward *f = job->f;
    const size_t n = f->config->n_embd;
    norm_row(f, &f->weights->output_norm, f->buf->x + (job->pos0 + i) * n, f->buf->h + i * n);
}

static void finish_logits_row(const nm_layer_job *job, size_t i)
{
    const nm_forward *f = job->f;
    f->compute.kern->scale(f->config->n_vocab, f->config->logit_scale, f->buf->rows_out[0][i]);
}

void nm_forward_logits(nm_forward *f, uint32_t row, uint32_t n, float *out)
{
    const nm_hooks *h = &f->hooks;
    nm_layer_job job = {.f = f, .n = n, .pos0 = row};
    each_row(&job, final_norm_row);
    if (h->tensor)
        h->tensor(h->user, "result_norm", -1, f->buf->h, n, f->config->n_embd);
    product(f, &f->weights->output, f->weights->output_bias, n, f->buf->h, out);
    if (f->config->logit_scale != 1.0f)
        each_row(&job, finish_logits_row);
    if (h->tensor)
        h->tensor(h->user, "result_output", -1, out, n, f->config->n_vocab);
}
