/* test_threads.c: the pool (every index runs once, tickets, barriers, sleep, failure) and the
 * counting of CPUs on made-up control groups. */
#include "base/clock.h"
#include "base/threads.h"
#include "tap.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = 16, ROUNDS = 300, TICKETS = 1000 };

static nm_pool *pool_of(int n)
{
    nm_pool *pool = NULL;
    npumoe_error err;
    if (nm_pool_new(nm_allocator_default(), n, &pool, &err) != NPUMOE_OK)
        bail("pool of %d: %s", n, err.message);
    return pool;
}

typedef struct shared {
    nm_pool *pool;
    atomic_int calls[MOST];
    atomic_int taken[TICKETS];
    int n_threads_wrong;
    int stage[MOST]; /* plain: the barrier alone orders the accesses, as TSan will tell */
    atomic_int stale;
} shared;

static void count_calls(void *arg, int thread, int n_threads)
{
    shared *s = arg;
    atomic_fetch_add(&s->calls[thread], 1);
    if (n_threads != nm_pool_size(s->pool))
        s->n_threads_wrong = 1;
}

static void take_tickets(void *arg, int thread, int n_threads)
{
    shared *s = arg;
    (void)thread;
    (void)n_threads;
    for (int phase = 0; phase < 3; phase++) {
        size_t t;
        while ((t = nm_pool_next(s->pool)) < TICKETS)
            atomic_fetch_add(&s->taken[t], 1);
        nm_pool_barrier_reset(s->pool);
    }
}

static void step_together(void *arg, int thread, int n_threads)
{
    shared *s = arg;
    for (int step = 1; step <= ROUNDS; step++) {
        s->stage[thread] = step;
        nm_pool_barrier(s->pool);
        if (s->stage[(thread + 1) % n_threads] != step)
            atomic_fetch_add(&s->stale, 1);
        nm_pool_barrier(s->pool);
    }
}

static void test_pool(int n)
{
    static shared s;
    memset(&s, 0, sizeof s);
    s.pool = pool_of(n);
    is_int(nm_pool_size(s.pool), n, "%d threads: size", n);
    for (int i = 0; i < ROUNDS; i++)
        nm_pool_run(s.pool, count_calls, &s);
    bool each = true;
    for (int i = 0; i < n; i++)
        each = each && s.calls[i] == ROUNDS;
    ok(each && !s.n_threads_wrong, "%d threads: each runs once per region", n);
    nm_pool_run(s.pool, take_tickets, &s);
    bool once = true;
    for (int i = 0; i < TICKETS; i++)
        once = once && s.taken[i] == 3;
    ok(once, "%d threads: a ticket is given once per phase", n);
    nm_pool_run(s.pool, step_together, &s);
    is_int(s.stale, 0, "%d threads: nobody passes a barrier early", n);
    nm_pool_free(&s.pool);
    ok(s.pool == NULL, "%d threads: free nulls the pointer", n);
}

/* ---- two callers, one pool ----------------------------------------------------------------- */

typedef struct caller {
    nm_pool *pool;
    int *counter; /* plain: regions are serialised, so this is no race */
} caller;

static void add_one(void *arg, int thread, int n_threads)
{
    (void)n_threads;
    if (thread == 0)
        ++*(int *)arg;
}

static void *call_often(void *arg)
{
    const caller *c = arg;
    for (int i = 0; i < ROUNDS; i++)
        nm_pool_run(c->pool, add_one, c->counter);
    return NULL;
}

static void test_two_callers(void)
{
    int counter = 0;
    caller c = {pool_of(3), &counter};
    pthread_t other;
    if (pthread_create(&other, NULL, call_often, &c) != 0)
        bail("no second thread");
    call_often(&c);
    pthread_join(other, NULL);
    is_int(counter, 2 * ROUNDS, "regions of two callers are serialised");
    nm_pool_free(&c.pool);
}

/* ---- idle and failure ---------------------------------------------------------------------- */

static double process_cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void test_idle(void)
{
    int counter = 0;
    nm_pool *pool = pool_of(4);
    nm_pool_run(pool, add_one, &counter);
    double before = process_cpu_seconds();
    usleep(200000);
    double used = process_cpu_seconds() - before;
    ok(used < 0.05, "an idle pool sleeps (%.3f s of CPU in 0.2 s)", used);
    nm_pool_run(pool, add_one, &counter);
    is_int(counter, 2, "and wakes up again");
    nm_pool_free(&pool);
}

typedef struct meter {
    int left; /* allocations until one fails; < 0 = never */
    int live;
} meter;

static void *metered_realloc(void *ctx, void *ptr, size_t bytes)
{
    meter *m = ctx;
    if (m->left == 0)
        return NULL;
    m->left--;
    m->live += ptr == NULL;
    return realloc(ptr, bytes);
}

static void metered_free(void *ctx, void *ptr)
{
    ((meter *)ctx)->live--;
    free(ptr);
}

static void test_failures(void)
{
    npumoe_error err;
    nm_pool *pool = NULL;
    const npumoe_allocator *a = nm_allocator_default();
    is_int(nm_pool_new(a, 0, &pool, &err), NPUMOE_EINVAL, "no threads: refused");
    is_int(nm_pool_new(a, NM_POOL_MAX_THREADS + 1, &pool, &err), NPUMOE_EINVAL,
           "too many: refused");
    ok(strstr(err.message, "513"), "the message names the number: %s", err.message);
    for (int i = 0; i < 2; i++) {
        meter m = {.left = i};
        npumoe_allocator counting = {&m, metered_realloc, metered_free};
        is_int(nm_pool_new(&counting, 4, &pool, &err), NPUMOE_ENOMEM, "allocation %d fails", i);
        is_int(m.live, 0, "and nothing is left behind");
    }
    ok(pool == NULL, "the result is untouched on failure");
    nm_pool_free(&pool);
}

/* ---- control groups ------------------------------------------------------------------------ */

static char root[] = "/tmp/npumoe-cgroup-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *p = path + sizeof root; *p; p++)
        if (*p == '/') {
            *p = '\0';
            mkdir(path, 0700);
            *p = '/';
        }
    FILE *f = fopen(path, "w");
    if (!f)
        bail("cannot write %s", path);
    fputs(text, f);
    fclose(f);
}

static int cpus_for(const char *proc_text)
{
    char path[512];
    put("proc", proc_text);
    snprintf(path, sizeof path, "%s/proc", root);
    return nm_cpus_of_cgroup(path, root);
}

static void test_cgroups(void)
{
    if (!mkdtemp(root))
        bail("no folder for the made-up control groups");
    put("cpu.max", "max 100000\n");
    put("a/cpu.max", "250000 100000\n");
    put("a/b/cpu.max", "max 100000\n");
    put("a/b/c/cpu.max", "500000 100000\n");
    put("cpu,cpuacct/d/cpu.cfs_quota_us", "150000\n");
    put("cpu,cpuacct/d/cpu.cfs_period_us", "50000\n");
    put("cpu,cpuacct/e/cpu.cfs_quota_us", "-1\n");
    put("cpu,cpuacct/e/cpu.cfs_period_us", "100000\n");
    is_int(cpus_for("0::/\n"), INT_MAX, "version 2: no limit");
    is_int(cpus_for("0::/a\n"), 3, "2.5 CPUs round up");
    is_int(cpus_for("0::/a/b/c\n"), 3, "an ancestor's limit counts");
    is_int(cpus_for("0::/not/there\n"), INT_MAX, "a group that is not mounted says nothing");
    is_int(cpus_for("4:cpu,cpuacct:/d\n1:name=x:/\n"), 3, "version 1: quota over period");
    is_int(cpus_for("4:cpu,cpuacct:/e\n"), INT_MAX, "version 1: -1 is no limit");
    is_int(cpus_for("4:cpuset:/d\n0::/a\n"), 3, "both versions mounted");
    is_int(cpus_for("rubbish\n::::\n\n"), INT_MAX, "rubbish says nothing");
    is_int(nm_cpus_of_cgroup("/nonexistent/cgroup", root), INT_MAX, "no file, no limit");
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    ok(system(command) == 0, "the folder is gone again");
    ok(nm_cpus_allowed() >= 1, "this process may use %d CPUs", nm_cpus_allowed());
}

static void test_clocks(void)
{
    uint64_t wall = nm_clock_ns(), cpu = nm_clock_thread_cpu_ns();
    usleep(20000);
    uint64_t wall_used = nm_clock_ns() - wall, cpu_used = nm_clock_thread_cpu_ns() - cpu;
    ok(wall_used >= 20000000, "the clock runs while we sleep");
    ok(cpu_used < 10000000, "the thread's CPU time does not");
}

int main(void)
{
    static const int sizes[] = {1, 2, 3, MOST};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        test_pool(sizes[i]);
    test_two_callers();
    test_idle();
    test_failures();
    test_cgroups();
    test_clocks();
    return done_testing();
}
