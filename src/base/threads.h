/* threads.h: a small fixed pool for data-parallel loops.
 *
 * The caller is thread 0; n-1 workers wait. nm_pool_run() hands every thread the same function
 * with its index and returns when all have finished. Inside, threads may meet at
 * nm_pool_barrier() and share work through nm_pool_next(), an atomic ticket counter that
 * nm_pool_run() resets (and nm_pool_barrier_reset() between phases).
 * Workers spin for some ten microseconds before they sleep, because decode calls again at once.
 * A pool runs one region at a time; nm_pool_run from two threads at once is serialised inside, and
 * calling it from inside a region would wait for itself for ever. */
#ifndef NM_BASE_THREADS_H
#define NM_BASE_THREADS_H

#include "base/alloc.h"

typedef struct nm_pool nm_pool;
typedef void (*nm_pool_fn)(void *arg, int thread, int n_threads);

#define NM_POOL_MAX_THREADS 512

/* n_threads >= 1. A pool of one starts no thread and runs in place. */
npumoe_status nm_pool_new(const npumoe_allocator *a, int n_threads, nm_pool **out,
                          npumoe_error *err);
void nm_pool_free(nm_pool **pool);
int nm_pool_size(const nm_pool *pool);

void nm_pool_run(nm_pool *pool, nm_pool_fn fn, void *arg);
/* Inside a region: the next ticket 0, 1, 2, ... shared by all threads. */
size_t nm_pool_next(nm_pool *pool);
/* Inside a region: wait for all. */
void nm_pool_barrier(nm_pool *pool);
/* Barrier that also sets the ticket counter to 0 before anyone leaves. */
void nm_pool_barrier_reset(nm_pool *pool);

/* Told by every thread, after each region, when it was in it, waiting for the others there included. */
typedef void (*nm_pool_watch_fn)(void *user, int thread, uint64_t start_ns, uint64_t end_ns);
/* NULL: nobody is told, as at first. Not inside a region. */
void nm_pool_watch(nm_pool *pool, nm_pool_watch_fn fn, void *user);

/* CPUs this process may use: the smaller of its affinity mask and its cgroup's cpu.max (rounded
 * up), at least 1. */
int nm_cpus_allowed(void);
/* The same, but no more than a pool may have: what "as many as there are" means. */
int nm_pool_default_threads(void);
/* False: there is no such CPU, the affinity mask forbids it, or threads cannot be tied to CPUs here. */
bool nm_cpu_is_allowed(unsigned cpu);
/* Ties the calling thread to one CPU that is allowed. */
void nm_thread_pin(unsigned cpu);
/* CPU bandwidth of the control groups that proc_file lists (the format of /proc/self/cgroup), with
 * the hierarchies mounted at `mount`; INT_MAX when there is no limit. nm_cpus_allowed() asks for
 * the real ones, tests for a made-up tree. */
int nm_cpus_of_cgroup(const char *proc_file, const char *mount);

#endif
