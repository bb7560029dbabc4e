/* threads.c: the pool of threads.h.
 *
 * Owns the workers and the three meeting points between them and the caller. It must never know
 * what the regions compute.
 *
 * Everything that one thread waits for is a GATE: a counter that somebody else increments.
 *
 *   start   opened by nm_pool_run; every worker passes it once per region
 *   done    opened by the last worker to finish; the caller waits for it
 *   phase   opened by the last thread to reach a barrier; the others wait for it
 *
 * Waiting is spinning for SPIN_NS on the counter, then sleeping on a condition variable. Opening
 * takes the gate's lock, so a waiter that has just decided to sleep cannot miss it; with nobody
 * asleep that costs some 20 ns and no system call.
 *
 * Invariants: a region ends only when every worker has finished it, so no worker can miss or
 * repeat a value of `start`; fn, arg, watch, pending and ticket are written before `start` opens and read
 * after; nobody enters a barrier a second time before all have left the wait of the first, because
 * the counter of arrivals is cleared before `phase` opens.
 *
 * Why not OpenMP: a second runtime in a library that others link, whose waiting policy is set by
 * environment variables. Why not a queue of tasks: every region here is one loop, and a ticket
 * counter shares it with one atomic add per item. Why not futexes: they exist on Linux only, and
 * the slow path is slow anyway.
 *
 * Spinning pays when each thread has a CPU of its own. With more threads than CPUs the spinner
 * would keep the thread that it waits for off the CPU, so then nobody spins. */
#include "base/threads.h"

#include "base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum {
    SPIN_NS = 40000,     /* longer than the serial work between two regions of a token */
    PAUSES_PER_LOOK = 16 /* pause instructions between two looks at the clock */
};

typedef struct gate {
    atomic_uint value;
    pthread_mutex_t lock;
    pthread_cond_t opened;
    unsigned sleepers; /* under lock */
} gate;

typedef struct worker {
    nm_pool *pool;
    pthread_t thread;
    int index;
} worker;

struct nm_pool {
    const npumoe_allocator *allocator;
    worker *workers; /* [n_threads - 1] */
    int n_threads;
    uint64_t spin_ns;
    nm_pool_fn fn;
    void *arg;
    nm_pool_watch_fn watch; /* or NULL */
    void *watch_user;
    bool stop; /* written before `start` opens for the last time */
    pthread_mutex_t one_region;
    /* Each on a cache line of its own: they are written by different threads at once. */
    _Alignas(NM_ALIGN) gate start;
    _Alignas(NM_ALIGN) gate done;
    _Alignas(NM_ALIGN) gate phase;
    _Alignas(NM_ALIGN) atomic_int pending; /* workers still inside the region */
    _Alignas(NM_ALIGN) atomic_int arrived; /* threads at the barrier */
    _Alignas(NM_ALIGN) atomic_size_t ticket;
};

/* ---- gates --------------------------------------------------------------------------------- */

static void gate_init(gate *g)
{
    atomic_init(&g->value, 0);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->opened, NULL);
    g->sleepers = 0;
}

static void gate_fini(gate *g)
{
    pthread_cond_destroy(&g->opened);
    pthread_mutex_destroy(&g->lock);
}

static unsigned gate_look(gate *g)
{
    return atomic_load_explicit(&g->value, memory_order_acquire);
}

static void gate_open(gate *g)
{
    pthread_mutex_lock(&g->lock);
    atomic_fetch_add_explicit(&g->value, 1, memory_order_release);
    if (g->sleepers)
        pthread_cond_broadcast(&g->opened);
    pthread_mutex_unlock(&g->lock);
}

static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* True when the gate left the value `seen` while we spun. */
static bool gate_spin(gate *g, unsigned seen, uint64_t spin_ns)
{
    uint64_t start = nm_clock_ns();
    do {
        for (int i = 0; i < PAUSES_PER_LOOK; i++) {
            if (gate_look(g) != seen)
                return true;
            cpu_pause();
        }
    } while (nm_clock_ns() - start < spin_ns);
    return false;
}

/* Returns when the gate's value is no longer `seen`. */
static void gate_wait(gate *g, unsigned seen, uint64_t spin_ns)
{
    if (gate_look(g) != seen)
        return;
    if (spin_ns && gate_spin(g, seen, spin_ns))
        return;
    pthread_mutex_lock(&g->lock);
    g->sleepers++;
    while (gate_look(g) == seen)
        pthread_cond_wait(&g->opened, &g->lock);
    g->sleepers--;
    pthread_mutex_unlock(&g->lock);
}

/* A thread's share of the region. */
static void run_share(const nm_pool *pool, int thread)
{
    const uint64_t start = pool->watch ? nm_clock_ns() : 0;
    pool->fn(pool->arg, thread, pool->n_threads);
    if (pool->watch)
        pool->watch(pool->watch_user, thread, start, nm_clock_ns());
}

/* ---- life ---------------------------------------------------------------------------------- */

static void *worker_main(void *arg)
{
    const worker *w = arg;
    nm_pool *pool = w->pool;
    for (unsigned seen = 0;; seen++) {
        gate_wait(&pool->start, seen, pool->spin_ns);
        if (pool->stop)
            return NULL;
        run_share(pool, w->index);
        if (atomic_fetch_sub_explicit(&pool->pending, 1, memory_order_acq_rel) == 1)
            gate_open(&pool->done);
    }
}

/* Workers take no signals: those belong to the program's own threads. Returns 0 or an errno. */
static int start_worker(worker *w)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, worker_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* Ends and joins the first n workers and frees everything. */
static void destroy(nm_pool *pool, int n)
{
    pool->stop = true;
    gate_open(&pool->start);
    for (int i = 0; i < n; i++)
        pthread_join(pool->workers[i].thread, NULL);
    gate_fini(&pool->start);
    gate_fini(&pool->done);
    gate_fini(&pool->phase);
    pthread_mutex_destroy(&pool->one_region);
    const npumoe_allocator *a = pool->allocator;
    nm_free(a, pool->workers);
    nm_free_aligned(a, pool);
}

npumoe_status nm_pool_new(const npumoe_allocator *a, int n_threads, nm_pool **out,
                          npumoe_error *err)
{
    if (n_threads < 1 || n_threads > NM_POOL_MAX_THREADS)
        return nm_err_set(err, NPUMOE_EINVAL, "number of threads: found %d, expected 1 to %d",
                          n_threads, NM_POOL_MAX_THREADS);
    nm_pool *pool = nm_alloc_aligned(a, sizeof *pool);
    if (!pool)
        return nm_err_nomem(err, sizeof *pool, "a thread pool");
    memset(pool, 0, sizeof *pool);
    pool->allocator = a;
    pool->n_threads = n_threads;
    pool->spin_ns = n_threads > 1 && n_threads <= nm_cpus_allowed() ? SPIN_NS : 0;
    pool->workers = nm_alloc_array(a, (size_t)n_threads, sizeof *pool->workers);
    if (!pool->workers) {
        nm_free_aligned(a, pool);
        return nm_err_nomem(err, (uint64_t)n_threads * sizeof *pool->workers, "a thread pool");
    }
    pthread_mutex_init(&pool->one_region, NULL);
    gate_init(&pool->start);
    gate_init(&pool->done);
    gate_init(&pool->phase);
    atomic_init(&pool->pending, 0);
    atomic_init(&pool->arrived, 0);
    atomic_init(&pool->ticket, 0);
    for (int i = 0; i < n_threads - 1; i++) {
        pool->workers[i].pool = pool;
        pool->workers[i].index = i + 1;
        int rc = start_worker(&pool->workers[i]);
        if (rc != 0) {
            destroy(pool, i);
            return nm_err_set(err, NPUMOE_ENOMEM, "cannot start thread %d of %d: %s", i + 2,
                              n_threads, strerror(rc));
        }
    }
    *out = pool;
    return NPUMOE_OK;
}

void nm_pool_free(nm_pool **pool)
{
    if (!*pool)
        return;
    destroy(*pool, (*pool)->n_threads - 1);
    *pool = NULL;
}

int nm_pool_size(const nm_pool *pool)
{
    return pool->n_threads;
}

/* ---- regions ------------------------------------------------------------------------------- */

void nm_pool_run(nm_pool *pool, nm_pool_fn fn, void *arg)
{
    pthread_mutex_lock(&pool->one_region);
    atomic_store_explicit(&pool->ticket, 0, memory_order_relaxed);
    pool->fn = fn;
    pool->arg = arg;
    if (pool->n_threads == 1) {
        run_share(pool, 0);
    } else {
        atomic_store_explicit(&pool->pending, pool->n_threads - 1, memory_order_relaxed);
        unsigned seen = gate_look(&pool->done);
        gate_open(&pool->start);
        run_share(pool, 0);
        gate_wait(&pool->done, seen, pool->spin_ns);
    }
    pthread_mutex_unlock(&pool->one_region);
}

void nm_pool_watch(nm_pool *pool, nm_pool_watch_fn fn, void *user)
{
    pthread_mutex_lock(&pool->one_region);
    pool->watch = fn;
    pool->watch_user = user;
    pthread_mutex_unlock(&pool->one_region);
}

size_t nm_pool_next(nm_pool *pool)
{
    return atomic_fetch_add_explicit(&pool->ticket, 1, memory_order_relaxed);
}

static void barrier(nm_pool *pool, bool reset)
{
    unsigned seen = gate_look(&pool->phase);
    int before = atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel);
    if (before + 1 < pool->n_threads) {
        gate_wait(&pool->phase, seen, pool->spin_ns);
        return;
    }
    atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
    if (reset)
        atomic_store_explicit(&pool->ticket, 0, memory_order_relaxed);
    gate_open(&pool->phase);
}

void nm_pool_barrier(nm_pool *pool)
{
    barrier(pool, false);
}

void nm_pool_barrier_reset(nm_pool *pool)
{
    barrier(pool, true);
}
