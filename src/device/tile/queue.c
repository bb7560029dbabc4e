/* queue.c: launches of device `tile`: the queue, the worker, the clocks.
 *
 * A launch lives in ring[ticket % depth] from submit to wait:
 *
 *     FREE --submit--> QUEUED --worker--> DONE --wait--> FREE
 *
 * States change under the lock. The worker runs tickets in order; it is thread 0 of a pool whose other
 * threads, if any, share each launch. Idle, it looks at `submitted` for SPIN_NS before it sleeps, so that
 * the launches of one layer do not each pay for a wake-up; a waiting host spins shorter, since its
 * time is what the device is there to save.
 *
 * Clocks. busy: CPU time of the device's threads from start to end of a launch, which the host's
 * work on the same core cannot inflate. occupied: wall time, with the added latency. Both count
 * padding rows, which cost what others do. */
#include "device/tile/tile_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>

enum {
    WORKER_SPIN_NS = 50000,
    HOST_SPIN_NS = 10000,
    SLEEP_SLACK_NS = 80000 /* what a sleep may last longer than asked for */
};

static tile_launch *launch_of(tile *t, uint64_t ticket)
{
    return &t->ring[ticket % t->depth];
}

/* ---- the worker ----------------------------------------------------------------------------- */

static void read_clock(void *arg, int thread, int n_threads)
{
    (void)n_threads;
    ((tile *)arg)->thread_ns[thread] = nm_clock_thread_cpu_ns();
}

static uint64_t cpu_ns(tile *t)
{
    uint64_t sum = 0;
    nm_pool_run(t->compute.pool, read_clock, t);
    for (uint32_t i = 0; i < t->head.caps.n_threads; i++)
        sum += t->thread_ns[i];
    return sum;
}

static void run_experts(tile *t, const tile_launch *l)
{
    tile_program *p = l->program;
    const size_t rows = p->head.capacity;
    for (uint32_t g = 0; g < p->head.n; g++) {
        for (size_t i = g * rows; i < (g + 1) * rows; i++) {
            t->x[i] = l->in + i * p->head.n_in;
            t->y[i] = l->out + i * p->head.n_out;
        }
        p->items[g].m = rows;
        p->items[g].x = t->x + g * rows;
        p->items[g].y = t->y + g * rows;
    }
    nm_network_run(&(nm_network_job){
        .compute = &t->compute,
        .act = p->act,
        .items = p->items,
        .n_items = p->head.n,
        .parts = t->parts,
        .replace = true,
    });
}

static void run_linear(tile *t, const tile_launch *l)
{
    tile_program *p = l->program;
    const size_t rows = p->head.capacity;
    nm_compute compute = t->compute;
    float *out = l->out, **y = t->y;
    compute.precision = nm_tile_linear_precision(t, p->head.n);
    for (size_t i = 0; i < rows; i++)
        t->x[i] = l->in + i * p->head.n_in;
    for (uint32_t m = 0; m < p->head.n; m++, y += rows) {
        p->linears[m].y = y;
        for (size_t i = 0; i < rows; i++, out += p->linears[m].w->rows)
            y[i] = out;
    }
    nm_matmul(&compute, p->linears, p->head.n, rows, t->x);
}

/* Its rows are the last of the program's positions, whatever else there may be in the cache. */
static void run_attention(tile *t, const tile_launch *l)
{
    const nm_program_attention *p = &l->program->attention;
    const size_t rows = l->program->head.capacity;
    nm_attention(&t->compute, &(nm_attention_args){.n_q = rows,
                                                   .pos0 = p->positions - rows,
                                                   .n_head = p->n_head,
                                                   .n_head_kv = p->n_head_kv,
                                                   .dim_k = p->dim_k,
                                                   .dim_v = p->dim_v,
                                                   .scale = p->scale,
                                                   .window = p->window,
                                                   .q = l->in,
                                                   .k = l->cache.k,
                                                   .v = l->cache.v,
                                                   .out = l->out});
}

static void sleep_until(uint64_t ns)
{
    uint64_t now = nm_clock_ns();
    if (now + SLEEP_SLACK_NS < ns) {
        const uint64_t left = ns - now - SLEEP_SLACK_NS;
        nanosleep(&(struct timespec){.tv_sec = (time_t)(left / 1000000000u),
                                     .tv_nsec = (long)(left % 1000000000u)},
                  NULL);
    }
    while (nm_clock_ns() < ns) {}
}

static void run_launch(tile *t, tile_launch *l)
{
    l->times.started_ns = nm_clock_ns();
    if (t->head.caps.added_launch_ns)
        sleep_until(l->times.started_ns + t->head.caps.added_launch_ns);
    const uint64_t before = cpu_ns(t);
    switch (l->program->head.kind) {
    case NM_PROGRAM_EXPERTS:
        run_experts(t, l);
        break;
    case NM_PROGRAM_LINEAR:
        run_linear(t, l);
        break;
    case NM_PROGRAM_ATTENTION:
        run_attention(t, l);
        break;
    }
    l->times.busy_ns = cpu_ns(t) - before;
    l->times.ended_ns = nm_clock_ns();
}

static void count(tile *t, const tile_launch *l)
{
    const nm_program *p = &l->program->head;
    nm_npu_stats *s = &t->counts;
    s->launches++;
    s->rows += (uint64_t)p->capacity * (p->kind == NM_PROGRAM_EXPERTS ? p->n : 1);
    s->busy_ns += l->times.busy_ns;
    s->occupied_ns += l->times.ended_ns - l->times.started_ns;
}

/* Holds the lock before and after. */
static void run_chore(tile *t)
{
    t->chore_runs = true;
    pthread_mutex_unlock(&t->lock);
    nm_pool_run(t->compute.pool, t->chore, t->chore_arg);
    pthread_mutex_lock(&t->lock);
    t->chore_runs = false;
    t->chore = NULL;
    pthread_cond_broadcast(&t->done);
}

/* Until ticket `next` was submitted; false: the end. */
static bool await_work(tile *t, uint64_t next)
{
    const uint64_t start = nm_clock_ns();
    while (atomic_load_explicit(&t->submitted, memory_order_acquire) < next &&
           nm_clock_ns() - start < WORKER_SPIN_NS) {}
    pthread_mutex_lock(&t->lock);
    while (t->chore || (!t->stop && t->next_ticket <= next))
        if (t->chore)
            run_chore(t);
        else
            pthread_cond_wait(&t->work, &t->lock);
    const bool go_on = t->next_ticket > next;
    pthread_mutex_unlock(&t->lock);
    return go_on;
}

static void pin(void *arg, int thread, int n_threads)
{
    const tile *t = arg;
    (void)n_threads;
    nm_thread_pin(t->cpus[(size_t)thread % t->n_cpus]);
}

static void *worker_main(void *arg)
{
    tile *t = arg;
    if (t->n_cpus > 0)
        nm_pool_run(t->compute.pool, pin, t);
    for (uint64_t next = 1; await_work(t, next); next++) {
        tile_launch *l = launch_of(t, next);
        l->passed_over = next <= atomic_load_explicit(&t->cancelled, memory_order_acquire);
        if (!l->passed_over)
            run_launch(t, l);
        pthread_mutex_lock(&t->lock);
        if (!l->passed_over)
            count(t, l);
        atomic_store_explicit(&l->state, LAUNCH_DONE, memory_order_release);
        pthread_cond_broadcast(&t->done);
        pthread_mutex_unlock(&t->lock);
    }
    return NULL;
}

npumoe_status nm_tile_start(tile *t, npumoe_error *err)
{
    sigset_t all, before;
    t->next_ticket = 1;
    for (size_t i = 0; i < t->n_cpus; i++)
        if (!nm_cpu_is_allowed(t->cpus[i]))
            return nm_err_set(err, NPUMOE_EINVAL,
                              "device tile cannot have CPU %" PRIu32
                              ": this process may not use it, or it is not there",
                              t->cpus[i]);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->work, NULL);
    pthread_cond_init(&t->done, NULL);
    /* Signals belong to the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&t->worker, NULL, worker_main, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    t->has_worker = rc == 0;
    if (t->has_worker)
        return NPUMOE_OK;
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->work);
    pthread_cond_destroy(&t->done);
    return nm_err_set(err, NPUMOE_ENOMEM, "cannot start the thread of device tile: %s",
                      strerror(rc));
}

void nm_tile_stop(tile *t)
{
    if (!t->has_worker)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->work);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->worker, NULL);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->work);
    pthread_cond_destroy(&t->done);
    t->has_worker = false;
}

/* ---- the host's side ------------------------------------------------------------------------ */

void nm_tile_help_begin(tile *t, nm_pool_fn fn, void *arg)
{
    pthread_mutex_lock(&t->lock);
    t->chore = fn;
    t->chore_arg = arg;
    pthread_cond_signal(&t->work);
    pthread_mutex_unlock(&t->lock);
}

void nm_tile_help_end(tile *t)
{
    pthread_mutex_lock(&t->lock);
    while (t->chore_runs)
        pthread_cond_wait(&t->done, &t->lock);
    t->chore = NULL;
    pthread_mutex_unlock(&t->lock);
}

npumoe_status nm_tile_submit(nm_npu *npu, nm_program *p, const nm_npu_buffer *in,
                             nm_npu_buffer *out, const nm_npu_cache *cache, uint64_t *ticket,
                             npumoe_error *err)
{
    tile *t = (tile *)npu;
    (void)err;
    *ticket = 0;
    pthread_mutex_lock(&t->lock);
    tile_launch *l = launch_of(t, t->next_ticket);
    if (atomic_load_explicit(&l->state, memory_order_relaxed) == LAUNCH_FREE) {
        *ticket = l->ticket = t->next_ticket++;
        l->program = (tile_program *)p;
        l->in = in->data;
        l->out = out->data;
        l->cache = cache ? *cache : (nm_npu_cache){0};
        l->times = (nm_launch_times){.submitted_ns = nm_clock_ns()};
        atomic_store_explicit(&l->state, LAUNCH_QUEUED, memory_order_relaxed);
        atomic_store_explicit(&t->submitted, *ticket, memory_order_release);
        pthread_cond_signal(&t->work);
    } else {
        t->counts.refused++;
    }
    pthread_mutex_unlock(&t->lock);
    return NPUMOE_OK;
}

bool nm_tile_poll(nm_npu *npu, uint64_t ticket)
{
    tile *t = (tile *)npu;
    return atomic_load_explicit(&launch_of(t, ticket)->state, memory_order_acquire) !=
           LAUNCH_QUEUED;
}

npumoe_status nm_tile_wait(nm_npu *npu, uint64_t ticket, nm_launch_times *times, npumoe_error *err)
{
    tile *t = (tile *)npu;
    tile_launch *l = launch_of(t, ticket);
    const uint64_t start = nm_clock_ns();
    while (!nm_tile_poll(npu, ticket) && nm_clock_ns() - start < HOST_SPIN_NS) {}
    pthread_mutex_lock(&t->lock);
    const bool known =
        l->ticket == ticket && atomic_load_explicit(&l->state, memory_order_relaxed) != LAUNCH_FREE;
    while (known && atomic_load_explicit(&l->state, memory_order_relaxed) == LAUNCH_QUEUED)
        pthread_cond_wait(&t->done, &t->lock);
    const bool passed_over = known && l->passed_over;
    if (known) {
        *times = l->times;
        atomic_store_explicit(&l->state, LAUNCH_FREE, memory_order_relaxed);
    }
    pthread_mutex_unlock(&t->lock);
    if (passed_over)
        return nm_err_set(err, NPUMOE_ECANCELED, "launch %" PRIu64 " was cancelled", ticket);
    if (known)
        return NPUMOE_OK;
    return nm_err_set(err, NPUMOE_EINVAL,
                      "launch %" PRIu64 " of device tile was never made, or waited for before",
                      ticket);
}

void nm_tile_cancel(nm_npu *npu)
{
    tile *t = (tile *)npu;
    pthread_mutex_lock(&t->lock);
    atomic_store_explicit(&t->cancelled, t->next_ticket - 1, memory_order_release);
    pthread_mutex_unlock(&t->lock);
}

void nm_tile_stats(const nm_npu *npu, nm_npu_stats *stats)
{
    tile *t = (tile *)npu;
    pthread_mutex_lock(&t->lock);
    stats->launches = t->counts.launches;
    stats->launch_failures = 0;
    stats->refused = t->counts.refused;
    stats->rows = t->counts.rows;
    stats->busy_ns = t->counts.busy_ns;
    stats->occupied_ns = t->counts.occupied_ns;
    pthread_mutex_unlock(&t->lock);
}
