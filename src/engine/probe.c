/* probe.c: npumoe_probe(): this machine as a cost table; the plan, and how a rate is taken (probe.h).
 *
 * The table is what bench compares speeds with and what planning will calculate with, so each figure
 * says its unit in its key, with how many threads it was taken, and how much it varied. */
#include "engine/probe.h"

#include "base/abi.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/sys.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    SCHEMA_VERSION = 1,
    MAX_COUNTS = 16, /* numbers of threads without a list: 1, 2, 4, ... and all */
    REPS = 7,
    QUICK_REPS = 3,
    LONGEST_SAMPLE_NS = 12000000,
    SHORTEST_SAMPLE_NS = 500000
};

/* What all samples together should take on a machine that does nothing else, and when samples are
 * given up because it does. */
static const uint64_t budget_ns = 8000000000u, quick_budget_ns = 1200000000u;
static const uint64_t limit_ns = 12000000000u, quick_limit_ns = 2500000000u;

npumoe_probe_options npumoe_probe_options_default(void)
{
    return (npumoe_probe_options){.struct_bytes = sizeof(npumoe_probe_options)};
}

/* ---- one measurement ------------------------------------------------------------------------ */

bool nm_probe_next(nm_probe *p)
{
    if (p->counting) {
        p->total++;
        return false;
    }
    const npumoe_probe_options *o = p->options;
    if (!p->canceled && o->progress && !o->progress(o->progress_user, p->done, p->total))
        p->canceled = true;
    p->done++;
    return !p->canceled;
}

typedef struct timed {
    nm_pool *pool; /* NULL: on the calling thread only */
    nm_probe_work work;
    void *arg;
    size_t passes;
    uint64_t ns;
    _Atomic uint64_t units;
} timed;

static void timed_region(void *arg, int thread, int n_threads)
{
    timed *t = arg;
    (void)n_threads;
    nm_pool_barrier(t->pool);
    uint64_t start = nm_clock_ns();
    t->units += t->work(t->arg, thread, t->passes);
    nm_pool_barrier(t->pool);
    if (thread == 0)
        t->ns = nm_clock_ns() - start;
}

static double rate_once(timed *t)
{
    t->units = 0;
    if (t->pool) {
        nm_pool_run(t->pool, timed_region, t);
    } else {
        uint64_t start = nm_clock_ns();
        t->units = t->work(t->arg, 0, t->passes);
        t->ns = nm_clock_ns() - start;
    }
    return (double)t->units / (double)(t->ns ? t->ns : 1);
}

static int by_value(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* This measurement's part of what is left until the limit. */
static uint64_t time_left_ns(const nm_probe *p)
{
    uint64_t limit = p->options->quick ? quick_limit_ns : limit_ns;
    uint64_t elapsed = nm_clock_ns() - p->start_ns;
    return elapsed < limit && p->done <= p->total ? (limit - elapsed) / (p->total - p->done + 1)
                                                  : 0;
}

/* The first runs warm caches and wake threads; the number of passes grows until a sample is long
 * enough for barriers and the clock not to matter. */
static nm_probe_rate measure(nm_probe *p, timed *t)
{
    double rate[NM_PROBE_MAX_REPS];
    uint64_t give_up_ns = nm_clock_ns() + time_left_ns(p);
    int n = 0;
    for (t->passes = 1;; t->passes *= 2) {
        rate_once(t);
        if (t->ns >= p->sample_ns / 2 || t->passes > SIZE_MAX / 4)
            break;
    }
    while (n < p->reps && (n == 0 || nm_clock_ns() < give_up_ns))
        rate[n++] = rate_once(t);
    qsort(rate, (size_t)n, sizeof rate[0], by_value);
    return (nm_probe_rate){rate[0], rate[n / 2], rate[n - 1]};
}

nm_probe_rate nm_probe_measure(nm_probe *p, nm_probe_work work, void *arg)
{
    timed t = {.pool = p->pool, .work = work, .arg = arg};
    return measure(p, &t);
}

nm_probe_rate nm_probe_measure_call(nm_probe *p, nm_probe_work work, void *arg)
{
    timed t = {.work = work, .arg = arg};
    return measure(p, &t);
}

/* ---- the document --------------------------------------------------------------------------- */

json_t *nm_probe_rounded(double v)
{
    char text[32];
    snprintf(text, sizeof text, "%.4g", v);
    return json_real(strtod(text, NULL));
}

void nm_probe_put(nm_probe *p, const char *section, json_t *what, const char *unit,
                  const nm_probe_rate *rate)
{
    const struct {
        const char *name;
        double v;
    } figures[] = {{"min", rate->min}, {"median", rate->median}, {"max", rate->max}};
    nm_describe_put(what, "threads", json_integer(nm_pool_size(p->pool)));
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s_%s", unit, figures[i].name);
        nm_describe_put(what, key, nm_probe_rounded(figures[i].v));
    }
    json_t *list = json_object_get(p->root, section);
    if (!list) {
        list = json_array();
        nm_describe_put(p->root, section, list);
    }
    json_array_append_new(list, what);
}

void nm_probe_note(nm_probe *p, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    if (p->counting)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_array_append_new(p->notes, nm_describe_text(nm_str_of(text)));
}

static json_t *tiers(const nm_cpu *cpu)
{
    json_t *list = json_array();
    for (size_t i = 0; nm_kern_tier(i); i++)
        if (nm_kern_tier_usable(nm_kern_tier(i), cpu))
            json_array_append_new(list, json_string(nm_kern_tier(i)));
    return list;
}

static json_t *machine(void)
{
    char *text = NULL;
    json_t *o = json_object();
    if (npumoe_describe_machine(&text, NULL) != NPUMOE_OK)
        return o;
    json_t *all = json_loads(text, 0, NULL);
    static const char *const parts[] = {"os", "cpu", "memory"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (json_object_get(all, parts[i]))
            json_object_set(o, parts[i], json_object_get(all, parts[i]));
    json_decref(all);
    npumoe_text_free(&text);
    static const char *const names[] = {"l1d_bytes", "l2_bytes", "l3_bytes"};
    for (int level = 1; level <= 3; level++)
        if (nm_sys_cache_bytes(level))
            nm_describe_put(o, names[level - 1], nm_describe_u64(nm_sys_cache_bytes(level)));
    return o;
}

static void put_head(nm_probe *p)
{
    char date[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm))
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
    nm_describe_put(p->root, "schema", json_string("npumoe-cost-table"));
    nm_describe_put(p->root, "schema_version", json_integer(SCHEMA_VERSION));
    nm_describe_put(p->root, "npumoe_version", json_string(npumoe_version()));
    nm_describe_put(p->root, "date", json_string(date));
    nm_describe_put(p->root, "quick", json_boolean(p->options->quick));
    nm_describe_put(p->root, "machine", machine());
    nm_describe_put(p->root, "isa", json_string(p->kern.isa));
    nm_describe_put(p->root, "tiers", tiers(&p->cpu));
}

/* ---- the plan ------------------------------------------------------------------------------- */

static npumoe_status plan(nm_probe *p, nm_probe_memory *memory, const int32_t *counts, size_t n,
                          npumoe_error *err)
{
    for (size_t i = 0; i < n && !p->canceled; i++) {
        NM_TRY(nm_pool_new(nm_allocator_default(), (int)counts[i], &p->pool, err));
        nm_probe_compute(p);
        if (!p->options->quick)
            nm_probe_products(p);
        nm_probe_reads(p, memory);
        nm_probe_pool(p);
        nm_pool_free(&p->pool);
    }
    return NPUMOE_OK;
}

static npumoe_status check_counts(const npumoe_probe_options *o, npumoe_error *err)
{
    for (size_t i = 0; o->threads && i < o->n_threads; i++)
        if (o->threads[i] < 1 || o->threads[i] > NM_POOL_MAX_THREADS)
            return nm_err_set(err, NPUMOE_EINVAL, "number of threads: found %d, expected 1 to %d",
                              (int)o->threads[i], NM_POOL_MAX_THREADS);
    return NPUMOE_OK;
}

/* 1, 2, 4, ... and as many as there are CPUs. */
static size_t usual_counts(int32_t counts[MAX_COUNTS])
{
    size_t n = 0;
    int32_t all = nm_cpus_allowed();
    if (all > NM_POOL_MAX_THREADS)
        all = NM_POOL_MAX_THREADS;
    for (int32_t t = 1; t < all; t *= 2)
        counts[n++] = t;
    counts[n++] = all;
    return n;
}

static npumoe_status measure_all(nm_probe *p, npumoe_error *err)
{
    const npumoe_probe_options *o = p->options;
    int32_t usual[MAX_COUNTS];
    const int32_t *counts = o->threads ? o->threads : usual;
    size_t n = o->threads ? o->n_threads : usual_counts(usual);
    p->start_ns = nm_clock_ns();
    put_head(p);
    nm_probe_memory *memory = nm_probe_memory_new(p);
    p->counting = true;
    npumoe_status st = plan(p, memory, counts, n, err);
    p->counting = false;
    uint64_t budget = o->quick ? quick_budget_ns : budget_ns;
    /* growing until it is long enough doubles the time */
    p->sample_ns = budget / (p->total ? p->total : 1) / (uint64_t)(p->reps + 2);
    if (p->sample_ns > LONGEST_SAMPLE_NS)
        p->sample_ns = LONGEST_SAMPLE_NS;
    if (p->sample_ns < SHORTEST_SAMPLE_NS)
        p->sample_ns = SHORTEST_SAMPLE_NS;
    if (st == NPUMOE_OK)
        st = plan(p, memory, counts, n, err);
    nm_probe_memory_free(&memory);
    nm_describe_put(p->root, "seconds",
                    nm_probe_rounded((double)(nm_clock_ns() - p->start_ns) * 1e-9));
    if (st == NPUMOE_OK && p->canceled)
        st = nm_err_set(err, NPUMOE_ECANCELED, "measuring was cancelled");
    return st;
}

npumoe_status npumoe_probe(const npumoe_probe_options *options, char **json, npumoe_error *err)
{
    npumoe_probe_options o = npumoe_probe_options_default();
    if (json == NULL)
        return nm_err_set(err, NPUMOE_EINVAL, "npumoe_probe: json must not be NULL");
    NM_TRY(nm_abi_read(&o, sizeof o, options, "npumoe_probe_options", err));
    NM_TRY(check_counts(&o, err));
    nm_probe p = {.options = &o, .cpu = nm_cpu_detect(), .reps = o.quick ? QUICK_REPS : REPS};
    NM_TRY(nm_kern_init(&p.kern, &p.cpu, o.isa, err));
    nm_map file = {0};
    if (o.file) { /* say at once that there is none */
        NM_TRY(nm_map_open(o.file, &file, err));
        nm_map_close(&file);
    }
    p.root = json_object();
    p.notes = json_array();
    npumoe_status st = measure_all(&p, err);
    nm_describe_put(p.root, "notes", p.notes);
    if (st == NPUMOE_OK)
        return nm_describe_finish(p.root, json, err);
    json_decref(p.root);
    return st;
}
