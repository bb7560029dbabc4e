/* attention_shared.c: which thread does what, when a tier has a kernel for whole tasks (attend_task).
 *
 * Whole tasks, where there are enough: (KV head, rows), each over all positions its rows see. A
 * row's result is the same bits in any task, so their size may follow the number of threads.
 *
 * Parts of a task, where there are few rows over a long context (decode with many heads on one KV
 * head, a chunk of a few tokens): PART positions each, aligned. In a round every thread computes one
 * part; then the parts are merged in order, rows shared out. Whether that is done depends on the
 * shapes only, never on the number of threads, as the merging shows in the last bits. */
#include "kernels/attend.h"

enum {
    PART = 16 * NM_ATTEND_KEYS,
    PART_ROWS = NM_ATTEND_MIN_ROWS, /* that a thread's slice has room for */
    TASKS_PER_THREAD = 4,           /* wanted, as the last queries see most */
    FEW_TASKS = 16
};

typedef struct shared_job {
    const nm_compute *compute;
    const nm_attention_args *args;
    uint32_t group, task_heads; /* query heads per KV head; of these, in a task at most */
    size_t task_queries;
    size_t head_parts; /* tasks of one KV head and one block of queries */
} shared_job;

/* ---- cutting ------------------------------------------------------------------------------- */

static size_t blocks_of(const shared_job *job)
{
    return (job->args->n_q + job->task_queries - 1) / job->task_queries;
}

static size_t task_count(const shared_job *job)
{
    return blocks_of(job) * job->args->n_head_kv * job->head_parts;
}

static void cut(shared_job *job, size_t rows)
{
    job->task_heads = job->group < rows ? job->group : (uint32_t)rows;
    job->task_queries = rows / job->task_heads;
    job->head_parts = (job->group + job->task_heads - 1) / job->task_heads;
}

/* Ticket 0 is the last block of queries: it sees most, so it goes first. */
static nm_attend task_make(const shared_job *job, size_t ticket)
{
    const nm_attention_args *a = job->args;
    size_t tasks = a->n_head_kv * job->head_parts, block = blocks_of(job) - 1 - ticket / tasks;
    uint32_t kv_head = (uint32_t)(ticket % tasks / job->head_parts);
    uint32_t at = (uint32_t)(ticket % job->head_parts) * job->task_heads, left = job->group - at;
    nm_attend t = {.args = a,
                   .kern = job->compute->kern,
                   .fine = job->compute->precision != NM_PRECISION_FAST,
                   .kv_head = kv_head,
                   .head0 = kv_head * job->group + at,
                   .heads = left < job->task_heads ? left : job->task_heads,
                   .query0 = block * job->task_queries};
    t.queries = nm_min_size(job->task_queries, a->n_q - t.query0);
    size_t end = a->pos0 + t.query0 + 1;
    t.first = a->window && end > a->window ? end - a->window : 0;
    t.end = a->pos0 + t.query0 + t.queries;
    return t;
}

/* ---- whole tasks --------------------------------------------------------------------------- */

static void whole_region(void *arg, int thread, int n_threads)
{
    const shared_job *job = arg;
    (void)n_threads;
    size_t ticket;
    while ((ticket = nm_pool_next(job->compute->pool)) < task_count(job)) {
        nm_attend t = task_make(job, ticket);
        job->compute->kern->attend_task(&t, nm_compute_slice(job->compute, thread));
    }
}

/* ---- parts of tasks ------------------------------------------------------------------------ */

/* A slice begins with the results of its thread's part, max, sum, o, then the kernel's scratch. In
 * thread 0's slice, the totals' max and sum come before all. */
static float *part_of(const shared_job *job, int thread)
{
    return (float *)nm_compute_slice(job->compute, thread) + 2 * (size_t)PART_ROWS;
}

static size_t part_floats(size_t dim_v)
{
    return PART_ROWS * (4 + dim_v);
}

static nm_attend_state part_row(const shared_job *job, int thread, size_t row)
{
    float *part = part_of(job, thread);
    return (nm_attend_state){part[row], part[PART_ROWS + row],
                             part + 2 * PART_ROWS + row * job->args->dim_v};
}

static void compute_part(const shared_job *job, const nm_attend *task, size_t part, int thread)
{
    float *at = part_of(job, thread);
    char *scratch = (char *)nm_compute_slice(job->compute, thread) +
                    part_floats(job->args->dim_v) * sizeof(float);
    nm_attend t = *task;
    t.first = nm_max_size(t.first, part * PART);
    t.end = nm_min_size(t.end, (part + 1) * PART);
    t.max = at;
    t.sum = at + PART_ROWS;
    t.part = at + 2 * PART_ROWS;
    job->compute->kern->attend_task(&t, scratch);
}

/* One row takes up the round's parts; totals of o gather where the result will be. */
static void merge_row(const shared_job *job, const nm_attend *t, size_t row, size_t parts,
                      bool first, bool last)
{
    const nm_attention_args *a = job->args;
    const nm_kern *kern = job->compute->kern;
    float *totals = nm_compute_slice(job->compute, 0);
    size_t query = t->query0 + row / t->heads, head = t->head0 + row % t->heads;
    nm_attend_state total = {totals[row], totals[PART_ROWS + row],
                             a->out + (query * a->n_head + head) * a->dim_v};
    if (first)
        nm_attend_clear(&total, a->dim_v);
    for (size_t i = 0; i < parts; i++) {
        nm_attend_state part = part_row(job, (int)i, row);
        nm_attend_merge(kern, &total, &part, a->dim_v);
    }
    if (last)
        nm_attend_finish(kern, &total, a->sinks ? a->sinks + head : NULL, a->dim_v);
    totals[row] = total.max;
    totals[PART_ROWS + row] = total.sum;
}

static void parts_region(void *arg, int thread, int n_threads)
{
    const shared_job *job = arg;
    nm_pool *pool = job->compute->pool;
    for (size_t i = 0; i < task_count(job); i++) {
        nm_attend t = task_make(job, i);
        size_t part0 = t.first / PART, part1 = (t.end + PART - 1) / PART;
        for (size_t p = part0; p < part1; p += (size_t)n_threads) {
            size_t parts = nm_min_size((size_t)n_threads, part1 - p);
            if ((size_t)thread < parts)
                compute_part(job, &t, p + (size_t)thread, thread);
            nm_pool_barrier_reset(pool);
            for (size_t row = nm_pool_next(pool); row < t.queries * t.heads;
                 row = nm_pool_next(pool))
                merge_row(job, &t, row, parts, p == part0, p + parts == part1);
            nm_pool_barrier_reset(pool);
        }
    }
}

/* ---- entry --------------------------------------------------------------------------------- */

size_t nm_attend_shared_bytes(uint32_t head_dim)
{
    return part_floats(head_dim) * sizeof(float) + nm_attend_task_bytes(head_dim);
}

/* Few rows over many positions. */
static bool should_cut_positions(const shared_job *job)
{
    const nm_attention_args *a = job->args;
    size_t end = a->pos0 + a->n_q, seen = a->window ? nm_min_size(end, a->window + a->n_q) : end;
    return a->n_q * job->group <= PART_ROWS && a->n_head_kv < FEW_TASKS && seen > 2 * PART;
}

void nm_attend_shared(const nm_compute *c, const nm_attention_args *args)
{
    shared_job job = {.compute = c, .args = args, .group = args->n_head / args->n_head_kv};
    if (should_cut_positions(&job)) {
        cut(&job, PART_ROWS);
        nm_pool_run(c->pool, parts_region, &job);
        return;
    }
    size_t rows = nm_attend_max_rows(args->dim_k, args->dim_v);
    size_t wanted = TASKS_PER_THREAD * (size_t)nm_pool_size(c->pool);
    for (cut(&job, rows); task_count(&job) < wanted && rows > NM_ATTEND_MIN_ROWS; cut(&job, rows))
        rows -= NM_ATTEND_COLUMN;
    nm_pool_run(c->pool, whole_region, &job);
}
