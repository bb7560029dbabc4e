/* attention_few.c: attention of a few query rows over a long cache (decode).
 *
 * The cache is read once and the memory is the limit, so everything follows the order in which it
 * lies there, position after position, all KV heads of one beside each other:
 *
 *   SPANS   of positions are the tasks; each leaves (max, sum, o) of every row in a slot, and the
 *           slots are merged in order. Their length depends on the context alone.
 *   BLOCKS  of 32 positions: head after head meets the block (kv_scores, softmax, kv_values), and
 *           asks meanwhile for its share of the next block, so that the memory delivers without a
 *           pause though a head's own rows lie far apart.
 *
 * Rows of one KV head are (query, head) pairs, at most MAX_ROWS, as in attend.h. A slot holds all rows
 * of all KV heads, ordered by KV head, then row: max, sum, o. What a row computes depends on its own
 * position and the span borders only; spans on the context only; so the number of threads changes
 * nothing.
 *
 * Why not a task per KV head, as for many rows: with one head's 256 bytes of each position 4 KiB apart,
 * no hardware prefetcher finds the pattern, and a model with two KV heads has two tasks. */
#include "kernels/attend.h"

enum {
    BLOCK = 32,
    MAX_ROWS = NM_ATTEND_FEW_ROWS,
    SPANS = 16, /* wanted */
    MIN_SPAN = 2 * BLOCK,
    MAX_SPAN = 16 * BLOCK,
    LINE = 64 /* bytes */
};

typedef struct few_job {
    const nm_compute *compute;
    const nm_attention_args *args;
    uint32_t group, rows; /* query heads of a KV head; rows of a KV head */
    size_t first, end;    /* positions that any row sees */
    size_t span, spans;   /* positions in a span; number of spans */
    size_t slots;         /* that a thread's slice holds */
} few_job;

/* Positions from `first` up to `end`, not included. */
typedef struct range {
    size_t first, end;
} range;

/* ---- slots --------------------------------------------------------------------------------- */

/* Rows of all heads. */
static size_t row_count(const few_job *job)
{
    return (size_t)job->rows * job->args->n_head_kv;
}

static size_t state_floats(const few_job *job)
{
    return job->args->dim_v + 2;
}

static size_t slot_floats(const few_job *job)
{
    return row_count(job) * state_floats(job);
}

static nm_attend_state *states_load(const few_job *job, float *slot, uint32_t kv_head,
                                    nm_attend_state *to)
{
    float *at = slot + (size_t)kv_head * job->rows * state_floats(job);
    for (uint32_t r = 0; r < job->rows; r++, at += state_floats(job))
        to[r] = (nm_attend_state){at[0], at[1], at + 2};
    return to;
}

static void state_store(const nm_attend_state *s)
{
    s->o[-2] = s->max;
    s->o[-1] = s->sum;
}

/* Slot i of a round. In front of thread 0's slots are the totals. */
static float *slot_at(const few_job *job, size_t i)
{
    float *slice = nm_compute_slice(job->compute, (int)(i / job->slots));
    return slice + (1 + i % job->slots) * slot_floats(job);
}

/* ---- one block ----------------------------------------------------------------------------- */

static range seen_by(const nm_attention_args *a, size_t query)
{
    size_t end = a->pos0 + query + 1;
    return (range){a->window && end > a->window ? end - a->window : 0, end};
}

static range intersect(range a, range b)
{
    range r = {nm_max_size(a.first, b.first), nm_min_size(a.end, b.end)};
    r.first = nm_min_size(r.first, r.end);
    return r;
}

static const void *cached(const nm_kv_view *view, size_t pos, uint32_t head)
{
    return (const char *)view->data + pos * view->pos_bytes + head * view->head_bytes;
}

/* Rows r0 .. r0 + n - 1 of a KV head meet the positions `at`, all of which they see. */
static void meet(const few_job *job, uint32_t kv_head, uint32_t r0, uint32_t n, range at,
                 nm_attend_state *states)
{
    const nm_attention_args *a = job->args;
    const nm_kern *kern = job->compute->kern;
    const float *q[MAX_ROWS] = {0};
    float *o[MAX_ROWS], s[MAX_ROWS][BLOCK], corr;
    size_t seen = at.end - at.first;
    for (uint32_t r = 0; r < n; r++) {
        size_t query = (r0 + r) / job->group, head = kv_head * job->group + (r0 + r) % job->group;
        q[r] = a->q + (query * a->n_head + head) * a->dim_k;
        o[r] = states[r0 + r].o;
    }
    kern->kv_scores(a->k.type, seen, cached(&a->k, at.first, kv_head), a->k.pos_bytes, a->dim_k, n,
                    q, s[0], BLOCK);
    for (uint32_t r = 0; r < n; r++) {
        nm_attend_state *row = &states[r0 + r];
        kern->scale(seen, a->scale, s[r]);
        kern->softmax_online(seen, s[r], &row->max, &row->sum, &corr);
        if (corr != 1.0f)
            kern->scale(a->dim_v, corr, row->o);
    }
    kern->kv_values(a->v.type, seen, cached(&a->v, at.first, kv_head), a->v.pos_bytes, a->dim_v, n,
                    s[0], BLOCK, o);
}

static void attend_head(const few_job *job, uint32_t kv_head, range at, nm_attend_state *states)
{
    const nm_attention_args *a = job->args;
    range first = seen_by(a, 0), last = seen_by(a, a->n_q - 1);
    if (last.first <= at.first && at.end <= first.end) { /* all see all */
        meet(job, kv_head, 0, job->rows, at, states);
        return;
    }
    for (uint32_t i = 0; i < a->n_q; i++) {
        range own = intersect(at, seen_by(a, i));
        if (own.first < own.end)
            meet(job, kv_head, i * job->group, job->group, own, states);
    }
}

/* Asks for part i of n of the rows of `at`. */
static void ask_for(const nm_kv_view *view, range at, size_t i, size_t n)
{
    size_t bytes = (at.end - at.first) * view->pos_bytes, part = bytes / n / LINE * LINE + LINE;
    const char *from = cached(view, at.first, 0);
    for (size_t b = i * part; b < nm_min_size((i + 1) * part, bytes); b += LINE)
        __builtin_prefetch(from + b, 0, 2);
}

static void attend_span(const few_job *job, size_t span, float *slot)
{
    const nm_attention_args *a = job->args;
    nm_attend_state states[MAX_ROWS];
    const range all =
        intersect((range){job->first, job->end}, (range){span * job->span, (span + 1) * job->span});
    for (uint32_t h = 0; h < a->n_head_kv; h++) {
        states_load(job, slot, h, states);
        for (uint32_t r = 0; r < job->rows; r++) {
            nm_attend_clear(&states[r], a->dim_v);
            state_store(&states[r]);
        }
    }
    for (size_t b = all.first / BLOCK * BLOCK; b < all.end; b += BLOCK) {
        range at = intersect(all, (range){b, b + BLOCK});
        range next = intersect(all, (range){b + BLOCK, b + 2 * BLOCK});
        for (uint32_t h = 0; h < a->n_head_kv; h++) {
            ask_for(&a->k, next, h, a->n_head_kv);
            ask_for(&a->v, next, h, a->n_head_kv);
            attend_head(job, h, at, states_load(job, slot, h, states));
            for (uint32_t r = 0; r < job->rows; r++)
                state_store(&states[r]);
        }
    }
}

/* ---- sharing out --------------------------------------------------------------------------- */

/* Row i of all takes up the slots of a round. */
static void merge_row(const few_job *job, size_t i, size_t slots, bool first, bool last)
{
    const nm_attention_args *a = job->args;
    const nm_kern *kern = job->compute->kern;
    size_t at = i * state_floats(job), r = i % job->rows;
    size_t query = r / job->group, head = i / job->rows * job->group + r % job->group;
    float *kept = (float *)nm_compute_slice(job->compute, 0) + 2 * i;
    nm_attend_state total = {kept[0], kept[1], a->out + (query * a->n_head + head) * a->dim_v};
    if (first)
        nm_attend_clear(&total, a->dim_v);
    for (size_t s = 0; s < slots; s++) {
        float *from = slot_at(job, s) + at;
        nm_attend_state part = {from[0], from[1], from + 2};
        nm_attend_merge(kern, &total, &part, a->dim_v);
    }
    if (last)
        nm_attend_finish(kern, &total, a->sinks ? a->sinks + head : NULL, a->dim_v);
    kept[0] = total.max;
    kept[1] = total.sum;
}

static void few_region(void *arg, int thread, int n_threads)
{
    const few_job *job = arg;
    (void)thread;
    nm_pool *pool = job->compute->pool;
    size_t round = job->slots * (size_t)n_threads, span0 = job->first / job->span, ticket;
    for (size_t at = 0; at < job->spans; at += round) {
        size_t here = nm_min_size(round, job->spans - at);
        while ((ticket = nm_pool_next(pool)) < here)
            attend_span(job, span0 + at + ticket, slot_at(job, ticket));
        nm_pool_barrier_reset(pool);
        while ((ticket = nm_pool_next(pool)) < row_count(job))
            merge_row(job, ticket, here, at == 0, at + here == job->spans);
        if (at + here < job->spans)
            nm_pool_barrier_reset(pool);
    }
}

/* One span is not worth waking anyone. */
static void alone(const few_job *job)
{
    attend_span(job, job->first / job->span, slot_at(job, 0));
    for (size_t i = 0; i < row_count(job); i++)
        merge_row(job, i, 1, true, true);
}

bool nm_attend_few(const nm_compute *c, const nm_attention_args *args)
{
    few_job job = {.compute = c, .args = args, .group = args->n_head / args->n_head_kv};
    if (args->n_q * job.group > MAX_ROWS)
        return false;
    job.rows = (uint32_t)args->n_q * job.group;
    job.slots = c->scratch_bytes / (slot_floats(&job) * sizeof(float));
    if (job.slots < 2)
        return false; /* more heads than scratch was made for */
    job.slots--;
    job.first = seen_by(args, 0).first;
    job.end = args->pos0 + args->n_q;
    size_t span = (job.end - job.first) / SPANS / BLOCK * BLOCK;
    job.span = nm_min_size(MAX_SPAN, nm_max_size(MIN_SPAN, span));
    job.spans = (job.end - 1) / job.span - job.first / job.span + 1;
    if (job.spans == 1)
        alone(&job);
    else
        nm_pool_run(c->pool, few_region, &job);
    return true;
}
