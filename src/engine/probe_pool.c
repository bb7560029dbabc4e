/* probe_pool.c: what it costs to start the threads of a pool on something, and to let them wait for
 * each other (probe.h). Decode does both many times a layer. */
#include "engine/probe.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 2000, QUICK_SAMPLES = 500, WARM_UP = 50, PAUSE_NS = 300000 };

typedef struct samples {
    nm_pool *pool;
    int n;
    double us[SAMPLES];
} samples;

static void nothing(void *arg, int thread, int n_threads)
{
    (void)arg, (void)thread, (void)n_threads;
}

/* pause_ns before each: long enough and the workers sleep. */
static void time_launches(samples *s, uint64_t pause_ns)
{
    for (int i = -WARM_UP; i < s->n; i++) {
        uint64_t start = nm_clock_ns(), go = start + pause_ns;
        while (start < go)
            start = nm_clock_ns();
        nm_pool_run(s->pool, nothing, NULL);
        if (i >= 0)
            s->us[i] = (double)(nm_clock_ns() - start) * 1e-3;
    }
}

static void barriers(void *arg, int thread, int n_threads)
{
    samples *s = arg;
    (void)n_threads;
    for (int i = -WARM_UP; i < s->n; i++) {
        uint64_t start = nm_clock_ns();
        nm_pool_barrier(s->pool);
        if (thread == 0 && i >= 0)
            s->us[i] = (double)(nm_clock_ns() - start) * 1e-3;
    }
}

static int by_value(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* NAME_us_median and NAME_us_p95. */
static void put(json_t *o, const char *name, samples *s)
{
    const struct {
        const char *what;
        int at;
    } figures[] = {{"median", s->n / 2}, {"p95", s->n * 95 / 100}};
    qsort(s->us, (size_t)s->n, sizeof s->us[0], by_value);
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s_us_%s", name, figures[i].what);
        nm_describe_put(o, key, nm_probe_rounded(s->us[figures[i].at]));
    }
}

void nm_probe_pool(nm_probe *p)
{
    if (!nm_probe_next(p))
        return;
    samples *s = nm_alloc(nm_allocator_default(), sizeof *s);
    if (!s) {
        nm_probe_note(p, "no memory to time the pool");
        return;
    }
    s->pool = p->pool;
    s->n = p->options->quick ? QUICK_SAMPLES : SAMPLES;
    json_t *o = json_object();
    nm_describe_put(o, "threads", json_integer(nm_pool_size(p->pool)));
    time_launches(s, 0);
    put(o, "launch", s);
    s->n /= 10;
    time_launches(s, PAUSE_NS);
    put(o, "wake", s);
    s->n *= 10;
    nm_pool_run(s->pool, barriers, s);
    put(o, "barrier", s);
    nm_free(nm_allocator_default(), s);
    json_t *list = json_object_get(p->root, "pool");
    if (!list) {
        list = json_array();
        nm_describe_put(p->root, "pool", list);
    }
    json_array_append_new(list, o);
}
