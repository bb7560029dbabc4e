/* experts.c: see experts.h. */
#include "moe/experts.h"

#include "base/num.h"

/* Places [begin, end) of one expert's rows in the dispatch order, without those taken. */
typedef struct span {
    size_t begin, end;
} span;

static span rows_of(const nm_expert_job *j, uint32_t e)
{
    const nm_dispatch *d = j->dispatch;
    size_t taken = j->taken ? j->taken[e] : 0;
    return (span){nm_min_size(d->first[e] + taken, d->first[e + 1]), d->first[e + 1]};
}

static void point_rows(const nm_expert_job *j, uint32_t e)
{
    const nm_dispatch *d = j->dispatch;
    nm_expert_room *r = j->room;
    const size_t n = (size_t)j->weights->gate.mat.cols, n_ff = (size_t)j->weights->gate.mat.rows;
    const span s = rows_of(j, e);
    for (size_t i = s.begin; i < s.end; i++) {
        size_t pair = d->order[i];
        r->x[i] = j->x + pair / j->k * n;
        r->gate_rows[i] = r->gate + i * n_ff;
        r->up_rows[i] = r->up + i * n_ff;
        r->h[i] = r->gate_rows[i];
        r->slot_rows[i] = j->slots + pair * n;
    }
}

static size_t n_tiles(const nm_mat *m)
{
    size_t rows = nm_matmul_tile_rows(m->cols);
    return ((size_t)m->rows + rows - 1) / rows;
}

/* One tile of gate and up with the activation. */
static void gate_up_task(const nm_expert_job *j, void *scratch, uint32_t e, size_t tile)
{
    const nm_kern *kern = j->compute->kern;
    nm_expert_room *r = j->room;
    const nm_mat gate = nm_mat_stack_at(&j->weights->gate, e);
    const nm_mat up = nm_mat_stack_at(&j->weights->up, e);
    const size_t rows = nm_matmul_tile_rows(gate.cols);
    const size_t j0 = tile * rows, j1 = nm_min_size(j0 + rows, (size_t)gate.rows);
    const span s = rows_of(j, e);
    const size_t m = s.end - s.begin;
    nm_matmul_tile(kern, scratch, &gate, j0, j1, m, r->x + s.begin, r->gate_rows + s.begin);
    nm_matmul_tile(kern, scratch, &up, j0, j1, m, r->x + s.begin, r->up_rows + s.begin);
    for (size_t i = s.begin; i < s.end; i++) {
        switch (j->act) {
        case NM_ACT_SWIGLU:
            kern->silu_mul(j1 - j0, r->gate_rows[i] + j0, r->up_rows[i] + j0);
            break;
        }
    }
}

static void down_task(const nm_expert_job *j, void *scratch, uint32_t e, size_t tile)
{
    nm_expert_room *r = j->room;
    const nm_mat down = nm_mat_stack_at(&j->weights->down, e);
    const size_t rows = nm_matmul_tile_rows(down.cols);
    const size_t j0 = tile * rows, j1 = nm_min_size(j0 + rows, (size_t)down.rows);
    const span s = rows_of(j, e);
    nm_matmul_tile(j->compute->kern, scratch, &down, j0, j1, s.end - s.begin, r->h + s.begin,
                   r->slot_rows + s.begin);
}

static void run_experts(void *arg, int thread, int n_threads)
{
    const nm_expert_job *j = arg;
    (void)n_threads;
    nm_pool *pool = j->compute->pool;
    void *scratch = nm_compute_slice(j->compute, thread);
    const size_t tiles1 = n_tiles(&j->weights->gate.mat), tiles2 = n_tiles(&j->weights->down.mat);
    for (size_t t = nm_pool_next(pool); t < j->n_experts * tiles1; t = nm_pool_next(pool))
        gate_up_task(j, scratch, j->experts[t / tiles1], t % tiles1);
    nm_pool_barrier_reset(pool);
    for (size_t t = nm_pool_next(pool); t < j->n_experts * tiles2; t = nm_pool_next(pool))
        down_task(j, scratch, j->experts[t / tiles2], t % tiles2);
}

void nm_experts_run(const nm_expert_job *job)
{
    for (uint32_t i = 0; i < job->n_experts; i++)
        point_rows(job, job->experts[i]);
    nm_expert_job j = *job;
    nm_pool_run(job->compute->pool, run_experts, &j);
}

static void combine_token(const nm_combine_args *a, size_t t)
{
    const nm_kern *kern = a->compute->kern;
    float *sum = a->slots + t * a->k * a->n;
    const float *w = a->w + t * a->k;
    kern->scale(a->n, w[0], sum);
    for (size_t s = 1; s < a->k; s++)
        kern->axpy(a->n, w[s], sum + s * a->n, sum);
    if (a->extra)
        kern->add(a->n, a->extra + t * a->n, sum);
    kern->axpy(a->n, a->scale, sum, a->out + t * a->n);
}

static void combine(void *arg, int thread, int n_threads)
{
    const nm_combine_args *a = arg;
    (void)thread;
    (void)n_threads;
    nm_pool *pool = a->compute->pool;
    for (size_t t = nm_pool_next(pool); t < a->n_tokens; t = nm_pool_next(pool))
        combine_token(a, t);
}

/* A single token is too little work to wake others for. */
void nm_experts_combine(const nm_combine_args *args)
{
    nm_combine_args a = *args;
    if (a.n_tokens == 1)
        combine_token(&a, 0);
    else
        nm_pool_run(a.compute->pool, combine, &a);
}
