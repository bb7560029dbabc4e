/* plan_cost_move.c: what rows cost on their way to a device and back (plan_cost.h).
 *
 * Rows that go to a device or come from it lie in another core's cache or in none: moving 64 rows of 8 KiB takes
 * 100 us then, and 15 us between buffers that the host has for itself. So gathering and scattering are timed
 * with buffers that a launch has just used, several in turn, as the executor has them. Rows of dense parts are
 * not moved: the host writes and reads them where they lie, which takes longer than between its own stages. */
#include "engine/plan_cost.h"

#include "base/clock.h"
#include "base/num.h"
#include "base/sys.h"

#include <string.h>

enum { EXPERTS = 4, CAPACITY = 64, MOVES = 12 };

/* A program, and buffers that it has used. */
typedef struct mover {
    nm_cost_job *job;
    nm_cost_network experts[EXPERTS];
    uint32_t n_experts;
    nm_program *program; /* NULL: it does not fit the device */
    nm_cost_buffers buffers;
} mover;

static void mover_fini(mover *b)
{
    nm_npu *npu = b->job->npu;
    nm_cost_buffers_fini(&b->buffers, npu);
    nm_npu_program_free(npu, &b->program);
    for (uint32_t i = 0; i < b->n_experts; i++)
        nm_cost_network_free(&b->experts[i]);
}

static npumoe_status load(mover *b, npumoe_error *err)
{
    nm_npu *npu = b->job->npu;
    nm_program_network networks[EXPERTS];
    for (uint32_t i = 0; i < b->n_experts; i++)
        networks[i] = (nm_program_network){
            .gate = b->experts[i].gate, .up = b->experts[i].up, .down = b->experts[i].down};
    const uint32_t step = npu->caps.capacity_multiple;
    const nm_program_desc desc = {.kind = NM_PROGRAM_EXPERTS,
                                  .act = NM_ACT_SWIGLU,
                                  .capacity = (CAPACITY + step - 1) / step * step,
                                  .networks = networks,
                                  .n = b->n_experts};
    if (desc.capacity < npu->caps.capacity_min || desc.capacity > npu->caps.capacity_max)
        return NPUMOE_OK;
    npumoe_status st = nm_npu_compile(npu, &desc, &b->program, err);
    if (st == NPUMOE_OK)
        st = nm_npu_load(npu, b->program, err);
    if (st != NPUMOE_OK)
        nm_npu_program_free(npu, &b->program);
    return st == NPUMOE_ETOOBIG ? NPUMOE_OK : st;
}

static npumoe_status mover_init(mover *b, nm_cost_job *job, npumoe_error *err)
{
    *b = (mover){.job = job};
    while (b->n_experts < EXPERTS) {
        NM_TRY(nm_cost_network_new(job, job->geometry.n_ff, &b->experts[b->n_experts], err));
        b->n_experts++;
    }
    NM_TRY(load(b, err));
    return b->program ? nm_cost_buffers_init(&b->buffers, job->npu, b->program, err) : NPUMOE_OK;
}

/* To its end. */
static npumoe_status launch(nm_npu *npu, nm_program *p, const nm_npu_buffer *in, nm_npu_buffer *out,
                            npumoe_error *err)
{
    nm_launch_times times;
    uint64_t ticket;
    NM_TRY(nm_npu_submit(npu, p, in, out, &ticket, err));
    if (ticket == 0)
        return nm_err_set(err, NPUMOE_EINTERNAL, "device %s: its queue is full when empty",
                          npu->caps.name);
    return nm_npu_wait(npu, ticket, &times, err);
}

typedef struct move {
    const nm_cost_job *job;
    uint32_t n_rows, turn;
    float *x, *sum; /* [chunk][n_embd] */
    float *buffer;
} move;

/* Far apart, as a token's row is from the next one of its expert. */
static size_t spread(const move *m, size_t i)
{
    return (size_t)((i + m->turn) * 40503u % m->job->chunk) * m->job->geometry.n_embd;
}

static void gather_region(void *arg, int thread, int n_threads)
{
    const move *m = arg;
    const size_t n = m->job->geometry.n_embd;
    (void)thread, (void)n_threads;
    for (size_t i = nm_pool_next(m->job->pool); i < m->n_rows; i = nm_pool_next(m->job->pool))
        memcpy(m->buffer + i * n, m->x + spread(m, i), n * sizeof *m->x);
}

/* A thread owns columns, as two rows may be of one token. */
static void scatter_region(void *arg, int thread, int n_threads)
{
    const move *m = arg;
    const size_t n = m->job->geometry.n_embd;
    const size_t c0 = n * (size_t)thread / (size_t)n_threads;
    const size_t c1 = n * ((size_t)thread + 1) / (size_t)n_threads;
    for (size_t i = 0; i < m->n_rows; i++)
        m->job->kern->axpy(c1 - c0, 0.1f, m->buffer + i * n + c0, m->sum + spread(m, i) + c0);
}

static double time_region(const move *m, nm_pool_fn fn, float *buffer)
{
    move copy = *m;
    copy.buffer = buffer;
    const uint64_t start = nm_clock_ns();
    nm_pool_run(m->job->pool, fn, &copy);
    return (double)(nm_clock_ns() - start) * 1e-3;
}

static npumoe_status time_moves(mover *b, move *m, nm_cost *out, npumoe_error *err)
{
    double in_us[MOVES], out_us[MOVES];
    for (uint32_t i = 0; i < MOVES; i++, m->turn += m->n_rows) {
        nm_npu_buffer *in = &b->buffers.in[i % NM_COST_BUFFERS];
        nm_npu_buffer *from = &b->buffers.out[i % NM_COST_BUFFERS];
        in_us[i] = time_region(m, gather_region, in->data);
        NM_TRY(launch(b->job->npu, b->program, in, from, err));
        out_us[i] = time_region(m, scatter_region, from->data);
    }
    nm_cost_add_point(&out->gather, m->n_rows, nm_cost_quartile(in_us, MOVES));
    nm_cost_add_point(&out->scatter, m->n_rows, nm_cost_quartile(out_us, MOVES));
    return NPUMOE_OK;
}

static npumoe_status all_moves(mover *b, nm_cost *out, npumoe_error *err)
{
    static const uint32_t rows[] = {1, 16, 64, 128, EXPERTS * CAPACITY};
    const npumoe_allocator *a = nm_allocator_default();
    const size_t floats = (size_t)b->job->chunk * b->job->geometry.n_embd;
    move m = {.job = b->job};
    const size_t bytes = 2 * floats * sizeof *m.x;
    m.x = nm_alloc_aligned(a, bytes);
    if (m.x == NULL)
        return nm_err_nomem(err, bytes, "rows that move");
    nm_sys_advise_huge(m.x, bytes);
    m.sum = m.x + floats;
    for (size_t i = 0; i < 2 * floats; i++)
        m.x[i] = 0.5f;
    npumoe_status st = NPUMOE_OK;
    out->gather.n = out->scatter.n = 0;
    for (size_t i = 0; st == NPUMOE_OK && i < sizeof rows / sizeof rows[0]; i++) {
        m.n_rows = rows[i];
        if (rows[i] <= b->job->chunk)
            st = time_moves(b, &m, out, err);
    }
    nm_free_aligned(a, m.x);
    return st;
}

/* ---- a part's rows ---------------------------------------------------------------------------- */

/* What norm and attention write and what comes after them reads, beside rows of the host's own. */
typedef struct touch {
    const nm_npu_buffer *in, *out;
    float *own; /* as much as the larger of both */
} touch;

static void touch_region(void *arg, int thread, int n_threads)
{
    const touch *t = arg;
    const size_t n = (size_t)n_threads, i = (size_t)thread;
    const size_t in0 = t->in->bytes * i / n, in1 = t->in->bytes * (i + 1) / n;
    const size_t out0 = t->out->bytes * i / n, out1 = t->out->bytes * (i + 1) / n;
    memcpy((char *)t->own + out0, (const char *)t->out->data + out0, out1 - out0);
    memcpy((char *)t->in->data + in0, (const char *)t->own + in0, in1 - in0);
}

static double time_touch(const nm_cost_job *job, touch *t)
{
    const uint64_t start = nm_clock_ns();
    nm_pool_run(job->pool, touch_region, t);
    return (double)(nm_clock_ns() - start) * 1e-3;
}

/* Each time after a launch, and once more, when the same lines are the host's. */
static npumoe_status time_far(nm_cost_job *job, nm_program *p, nm_cost_buffers *b, float *own,
                              double *us, npumoe_error *err)
{
    double far[MOVES], near[MOVES];
    for (uint32_t i = 0; i < MOVES; i++) {
        nm_npu_buffer *out = &b->out[i % NM_COST_BUFFERS];
        touch t = {.in = &b->in[i % NM_COST_BUFFERS], .out = out, .own = own};
        NM_TRY(launch(job->npu, p, t.in, out, err));
        far[i] = time_touch(job, &t);
        near[i] = time_touch(job, &t);
    }
    *us = nm_cost_quartile(far, MOVES) - nm_cost_quartile(near, MOVES);
    *us = *us > 0.0 ? *us : 0.0;
    return NPUMOE_OK;
}

npumoe_status nm_cost_measure_far(nm_cost_job *job, nm_program *p, double *us, npumoe_error *err)
{
    const npumoe_allocator *a = nm_allocator_default();
    nm_cost_buffers b;
    NM_TRY(nm_cost_buffers_init(&b, job->npu, p, err));
    const size_t bytes = nm_max_size(b.in[0].bytes, b.out[0].bytes);
    float *own = nm_alloc_aligned(a, bytes);
    npumoe_status st = own ? NPUMOE_OK : nm_err_nomem(err, bytes, "rows that move");
    if (own) {
        memset(own, 0, bytes);
        st = time_far(job, p, &b, own, us, err);
    }
    nm_free_aligned(a, own);
    nm_cost_buffers_fini(&b, job->npu);
    return st;
}

npumoe_status nm_cost_measure_moves(nm_cost_job *job, nm_cost *out, npumoe_error *err)
{
    mover b;
    npumoe_status st = mover_init(&b, job, err);
    if (st == NPUMOE_OK && b.program)
        st = all_moves(&b, out, err);
    mover_fini(&b);
    return st == NPUMOE_OK ? nm_cost_step(job, err) : st;
}
