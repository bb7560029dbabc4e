/* attention.c: blocked attention with an online softmax.
 *
 * A TASK is one KV head, up to MAX_ROWS of the query rows that share it, and all cached positions
 * those rows see. A ROW is (query position, query head); rows of a task are ordered by position,
 * then head, so the rows of one position are neighbours. Positions are visited in
 *
 *   BLOCKS of 64, aligned to absolute positions: K and V are decoded to fp32 once per block, then
 *           scores = Q K^T, softmax step, O += P V, each for all rows of the task;
 *   SPANS  of 1024 = 16 blocks: each span has its own (max, sum, O), merged into the row's total
 *           when the span ends.
 *
 *   positions  |<------------- span 0 ------------->|<------------- span 1 ---- ...
 *              | block | block |  ...       | block | block | ...
 *   row at p   |  [p - window + 1 ......................... p]
 *
 * Spans exist so that one query over a long context can be shared by more threads than there are
 * KV heads: the partial results of different spans are computed in any order (split_...), then
 * merged in order. The same merging happens without the split, so the bits are the same.
 *
 * Invariants. What a row computes depends on its own position only: which blocks and spans it
 * meets, which positions of a block (only those it sees take part; masked positions are not even
 * multiplied by zero, as 0 * Inf of a later token would be NaN), and the order of every sum
 * (kern.def). So a result is the same bits for any chunk, any grouping of rows, any thread count.
 *
 * Why not one pass over scores per query (simple, no blocks): each query would decode all of K and
 * V again. Why a block of 64: its scores for 64 rows are 16 KiB, K and V of dimension 128 are
 * 32 KiB each, all of it within L2 and mostly L1.
 *
 * Sources: Milakov & Gimelshein 2018 (online softmax), Dao et al. 2022 (blocks), Dao et al. 2023
 * "Flash-Decoding" (spans). */
#include "kernels/attend.h"

#include <math.h>
#include <string.h>

enum {
    BLOCK = 64,
    SPAN = 16 * BLOCK,
    MAX_ROWS = 64,
    LINE = NM_ALIGN / sizeof(float),
    SLOTS = 64 /* partial results that a thread's slice can hold for the split */
};

/* A thread's scratch: this header, then `slots`, then the arrays. */
typedef struct workspace {
    float *slots;                    /* [SLOTS][slot_floats()]: max, sum, o */
    float *k, *v;                    /* [BLOCK][row_floats()]: decoded */
    float *scores;                   /* [MAX_ROWS][BLOCK] */
    float *o;                        /* [MAX_ROWS][row_floats()]: o of span[] */
    nm_attend_state span[MAX_ROWS];  /* of the current span */
    nm_attend_state total[MAX_ROWS]; /* of the spans before it; o points into args->out */
    const float *q[MAX_ROWS];
    float *score_rows[MAX_ROWS];
} workspace;

typedef struct attention_job {
    const nm_compute *compute;
    const nm_attention_args *args;
    uint32_t group;      /* query heads per KV head */
    uint32_t task_heads; /* of these, at most, in one task */
    uint32_t tasks;      /* of one block of queries: all KV heads times their parts */
    size_t task_queries; /* positions in one task */
    size_t round_spans;  /* spans per round of the split */
} attention_job;

typedef struct task {
    uint32_t kv_head, head0, heads; /* query heads head0 .. head0 + heads - 1 */
    size_t query0, queries;         /* of the chunk */
} task;

/* Positions from `first` up to `end`, not included. */
typedef struct range {
    size_t first, end;
} range;

/* ---- scratch ------------------------------------------------------------------------------- */

static size_t padded(size_t floats)
{
    return (floats + LINE - 1) / LINE * LINE;
}

/* Row stride of K, V and O: an extra line keeps rows out of each other's cache sets. */
static size_t row_floats(size_t dim)
{
    return padded(dim) + LINE;
}

static size_t slot_floats(size_t dim_v)
{
    return padded(dim_v + 2);
}

static size_t header_floats(void)
{
    return padded((sizeof(workspace) + sizeof(float) - 1) / sizeof(float));
}

size_t nm_attention_scratch_bytes(uint32_t head_dim)
{
    size_t rows = 2 * BLOCK + MAX_ROWS;
    size_t floats = header_floats() + SLOTS * slot_floats(head_dim) + rows * row_floats(head_dim) +
                    MAX_ROWS * BLOCK;
    return nm_max_size(floats * sizeof(float), nm_attend_shared_bytes(head_dim));
}

static float *slots_of(const attention_job *job, int thread)
{
    return (float *)nm_compute_slice(job->compute, thread) + header_floats();
}

static workspace *workspace_of(const attention_job *job, int thread)
{
    const nm_attention_args *args = job->args;
    workspace *ws = nm_compute_slice(job->compute, thread);
    ws->slots = slots_of(job, thread);
    ws->k = ws->slots + SLOTS * slot_floats(args->dim_v);
    ws->v = ws->k + BLOCK * row_floats(args->dim_k);
    ws->o = ws->v + BLOCK * row_floats(args->dim_v);
    ws->scores = ws->o + MAX_ROWS * row_floats(args->dim_v);
    for (size_t r = 0; r < MAX_ROWS; r++) {
        ws->span[r].o = ws->o + r * row_floats(args->dim_v);
        ws->score_rows[r] = ws->scores + r * BLOCK;
    }
    return ws;
}

/* ---- states of rows ------------------------------------------------------------------------ */

void nm_attend_clear(nm_attend_state *s, size_t dim_v)
{
    s->max = -INFINITY;
    s->sum = 0;
    memset(s->o, 0, dim_v * sizeof *s->o);
}

static bool state_is_empty(const nm_attend_state *s)
{
    return s->max == -INFINITY && s->sum == 0;
}

static float exponential(float x)
{
    return (float)exp((double)x);
}

void nm_attend_merge(const nm_kern *kern, nm_attend_state *into, const nm_attend_state *from,
                     size_t dim_v)
{
    if (state_is_empty(from))
        return;
    float max = into->max > from->max ? into->max : from->max;
    float keep = state_is_empty(into) ? 0.0f : exponential(into->max - max);
    float take = exponential(from->max - max);
    kern->scale(dim_v, keep, into->o);
    kern->axpy(dim_v, take, from->o, into->o);
    into->sum = into->sum * keep + from->sum * take;
    into->max = max;
}

void nm_attend_finish(const nm_kern *kern, nm_attend_state *s, const float *sink, size_t dim_v)
{
    float corr = 1.0f;
    if (sink) {
        float max = s->max > *sink ? s->max : *sink;
        corr = exponential(s->max - max);
        s->sum = s->sum * corr + exponential(*sink - max);
    }
    kern->scale(dim_v, s->sum == 0 ? 0.0f : corr / s->sum, s->o);
}

/* ---- one task ------------------------------------------------------------------------------ */

/* What a query of the chunk sees. */
static range visible(const nm_attention_args *args, size_t query)
{
    size_t end = args->pos0 + query + 1;
    return (range){args->window && end > args->window ? end - args->window : 0, end};
}

static range intersect(range a, range b)
{
    range r = {nm_max_size(a.first, b.first), nm_min_size(a.end, b.end)};
    r.first = nm_min_size(r.first, r.end);
    return r;
}

static range task_range(const nm_attention_args *args, const task *t)
{
    return (range){visible(args, t->query0).first, visible(args, t->query0 + t->queries - 1).end};
}

static void load_block(const nm_kern *kern, const nm_kv_view *view, uint32_t head, range at,
                       size_t dim, float *to)
{
    const char *from = (const char *)view->data + head * view->head_bytes;
    for (size_t p = at.first; p < at.end; p++, to += row_floats(dim))
        kern->decode[view->type](from + p * view->pos_bytes, to, dim);
}

/* The softmax step of one row over scores s[0..n). */
static void softmax_row(const nm_kern *kern, const nm_attention_args *args, nm_attend_state *row,
                        float *s, size_t n)
{
    float corr;
    kern->scale(n, args->scale, s);
    kern->softmax_online(n, s, &row->max, &row->sum, &corr);
    if (corr != 1.0f)
        kern->scale(args->dim_v, corr, row->o);
}

/* All rows of the task meet the positions `at` of one block; each row takes those it sees. */
static void attend_block(const attention_job *job, workspace *ws, const task *t, range at)
{
    const nm_attention_args *args = job->args;
    const nm_kern *kern = job->compute->kern;
    size_t n = at.end - at.first, heads = t->heads, rows = t->queries * heads;
    const bool one = nm_attend_values_in_keys(args);
    const float *v = one ? ws->k : ws->v;
    const size_t ldv = row_floats(one ? args->dim_k : args->dim_v), ldo = row_floats(args->dim_v);
    load_block(kern, &args->k, t->kv_head, at, args->dim_k, ws->k);
    if (!one)
        load_block(kern, &args->v, t->kv_head, at, args->dim_v, ws->v);
    kern->gemm_nt(rows, n, args->dim_k, ws->q, ws->k, row_floats(args->dim_k), ws->score_rows);
    bool all_see_all = true;
    for (size_t i = 0; i < t->queries; i++) {
        range own = intersect(at, visible(args, t->query0 + i));
        size_t seen = own.end - own.first, skip = seen ? own.first - at.first : 0;
        for (size_t r = i * heads; seen && r < (i + 1) * heads; r++)
            softmax_row(kern, args, &ws->span[r], ws->score_rows[r] + skip, seen);
        all_see_all = all_see_all && seen == n;
    }
    if (all_see_all) {
        kern->gemm_nn(rows, args->dim_v, n, ws->scores, BLOCK, v, ldv, ws->o, ldo, true);
        return;
    }
    for (size_t i = 0; i < t->queries; i++) {
        range own = intersect(at, visible(args, t->query0 + i));
        if (own.first >= own.end)
            continue;
        size_t skip = own.first - at.first;
        kern->gemm_nn(heads, args->dim_v, own.end - own.first,
                      ws->scores + i * heads * BLOCK + skip, BLOCK, v + skip * ldv, ldv,
                      ws->o + i * heads * ldo, ldo, true);
    }
}

/* ws->span[] becomes the result of the span alone. */
static void attend_span(const attention_job *job, workspace *ws, const task *t, size_t span)
{
    for (size_t r = 0; r < t->queries * t->heads; r++)
        nm_attend_clear(&ws->span[r], job->args->dim_v);
    range all = intersect(task_range(job->args, t), (range){span * SPAN, (span + 1) * SPAN});
    for (size_t b = all.first / BLOCK * BLOCK; b < all.end; b += BLOCK)
        attend_block(job, ws, t, intersect(all, (range){b, b + BLOCK}));
}

static void load_queries(const nm_attention_args *args, workspace *ws, const task *t)
{
    for (size_t i = 0; i < t->queries; i++)
        for (size_t h = 0; h < t->heads; h++)
            ws->q[i * t->heads + h] =
                args->q + ((t->query0 + i) * args->n_head + t->head0 + h) * args->dim_k;
}

static task task_make(const attention_job *job, size_t index, size_t query0)
{
    const nm_attention_args *args = job->args;
    uint32_t parts = job->tasks / args->n_head_kv;
    uint32_t kv_head = (uint32_t)index / parts, at = (uint32_t)index % parts * job->task_heads;
    uint32_t left = job->group - at;
    return (task){.kv_head = kv_head,
                  .head0 = kv_head * job->group + at,
                  .heads = left < job->task_heads ? left : job->task_heads,
                  .query0 = query0,
                  .queries = nm_min_size(job->task_queries, args->n_q - query0)};
}

static void run_task(const attention_job *job, workspace *ws, const task *t)
{
    const nm_attention_args *args = job->args;
    const nm_kern *kern = job->compute->kern;
    size_t rows = t->queries * t->heads;
    for (size_t r = 0; r < rows; r++) {
        size_t query = t->query0 + r / t->heads, head = t->head0 + r % t->heads;
        ws->total[r].o = args->out + (query * args->n_head + head) * args->dim_v;
        nm_attend_clear(&ws->total[r], args->dim_v);
    }
    load_queries(args, ws, t);
    range all = task_range(args, t);
    for (size_t span = all.first / SPAN; span * SPAN < all.end; span++) {
        attend_span(job, ws, t, span);
        for (size_t r = 0; r < rows; r++)
            nm_attend_merge(kern, &ws->total[r], &ws->span[r], args->dim_v);
    }
    for (size_t r = 0; r < rows; r++)
        nm_attend_finish(kern, &ws->total[r],
                         args->sinks ? args->sinks + t->head0 + r % t->heads : NULL, args->dim_v);
}

/* ---- sharing out: whole tasks -------------------------------------------------------------- */

static void whole_region(void *arg, int thread, int n_threads)
{
    const attention_job *job = arg;
    (void)n_threads;
    workspace *ws = workspace_of(job, thread);
    size_t blocks = (job->args->n_q + job->task_queries - 1) / job->task_queries;
    for (;;) {
        size_t ticket = nm_pool_next(job->compute->pool);
        if (ticket >= blocks * job->tasks)
            return;
        /* The last queries see most, so they go first. */
        size_t block = blocks - 1 - ticket / job->tasks;
        task t = task_make(job, ticket % job->tasks, block * job->task_queries);
        run_task(job, ws, &t);
    }
}

/* ---- sharing out: spans of one query -------------------------------------------------------
 *
 * In rounds of round_spans spans: first all (task, span) pairs, each leaving its partial results in
 * slots; then all heads, each merging its slots in order. Slot h is the total of head h; slot
 * n_head * (1 + i) + h is its partial result of the round's span i. */

static nm_attend_state slot_state(const attention_job *job, size_t slot)
{
    float *at = slots_of(job, (int)(slot / SLOTS)) + slot % SLOTS * slot_floats(job->args->dim_v);
    return (nm_attend_state){at[0], at[1], at + 2};
}

/* Max and sum of a state that lies in a slot; o is there already. */
static void slot_put(const nm_attend_state *s)
{
    s->o[-2] = s->max;
    s->o[-1] = s->sum;
}

static void split_span(const attention_job *job, workspace *ws, size_t index, size_t span,
                       size_t first_slot)
{
    size_t dim_v = job->args->dim_v;
    task t = task_make(job, index, 0);
    load_queries(job->args, ws, &t);
    attend_span(job, ws, &t, span);
    for (size_t r = 0; r < t.heads; r++) {
        nm_attend_state slot = slot_state(job, first_slot + t.head0 + r);
        slot.max = ws->span[r].max;
        slot.sum = ws->span[r].sum;
        memcpy(slot.o, ws->span[r].o, dim_v * sizeof *slot.o);
        slot_put(&slot);
    }
}

static void split_merge(const attention_job *job, size_t head, size_t spans, bool first, bool last)
{
    const nm_attention_args *args = job->args;
    const nm_kern *kern = job->compute->kern;
    nm_attend_state total = slot_state(job, head);
    if (first)
        nm_attend_clear(&total, args->dim_v);
    for (size_t i = 0; i < spans; i++) {
        nm_attend_state part = slot_state(job, args->n_head * (1 + i) + head);
        nm_attend_merge(kern, &total, &part, args->dim_v);
    }
    slot_put(&total);
    if (last) {
        nm_attend_finish(kern, &total, args->sinks ? args->sinks + head : NULL, args->dim_v);
        memcpy(args->out + head * args->dim_v, total.o, args->dim_v * sizeof *total.o);
    }
}

static void split_region(void *arg, int thread, int n_threads)
{
    const attention_job *job = arg;
    (void)n_threads;
    nm_pool *pool = job->compute->pool;
    workspace *ws = workspace_of(job, thread);
    range all = visible(job->args, 0);
    size_t span0 = all.first / SPAN, span1 = (all.end - 1) / SPAN + 1, n_head = job->args->n_head;
    for (size_t s = span0; s < span1; s += job->round_spans) {
        size_t spans = nm_min_size(job->round_spans, span1 - s), ticket;
        while ((ticket = nm_pool_next(pool)) < spans * job->tasks) {
            size_t i = ticket / job->tasks;
            split_span(job, ws, ticket % job->tasks, s + i, n_head * (1 + i));
        }
        nm_pool_barrier_reset(pool);
        while ((ticket = nm_pool_next(pool)) < n_head)
            split_merge(job, ticket, spans, s == span0, s + spans == span1);
        nm_pool_barrier_reset(pool);
    }
}

/* Whether one query is worth splitting; the answer changes no bit of the result. */
static bool should_split(attention_job *job)
{
    const nm_attention_args *args = job->args;
    size_t threads = (size_t)nm_pool_size(job->compute->pool);
    range all = visible(args, 0);
    if (args->n_q != 1 || threads == 1 || job->tasks >= 4 * threads ||
        all.first / SPAN == (all.end - 1) / SPAN)
        return false;
    size_t per_head = threads * SLOTS / args->n_head;
    job->round_spans = per_head > 1 ? per_head - 1 : 0;
    return job->round_spans > 0;
}

void nm_attention(const nm_compute *c, const nm_attention_args *args)
{
    if (args->n_q == 0)
        return;
    if (c->precision != NM_PRECISION_FP32) {
        if (nm_attend_few(c, args))
            return;
        if (c->kern->attend_task) {
            nm_attend_shared(c, args);
            return;
        }
    }
    attention_job job = {.compute = c, .args = args, .group = args->n_head / args->n_head_kv};
    job.task_heads = job.group < MAX_ROWS ? job.group : MAX_ROWS;
    job.task_queries = MAX_ROWS / job.task_heads;
    job.tasks = args->n_head_kv * ((job.group + job.task_heads - 1) / job.task_heads);
    nm_pool_run(c->pool, should_split(&job) ? split_region : whole_region, &job);
}
