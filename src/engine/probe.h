/* probe.h: private to the files of npumoe_probe(): how something is measured, and what.
 *
 * A measurement is a piece of WORK that can be done any number of times and says how much it was. It
 * is repeated until it lasts long enough for the clock, then that often `reps` times; the result is the
 * spread of the rates. One clock drifts by 15 % on a shared host, so the largest says what the machine
 * can, and the smallest how much to believe it.
 *
 * The plan (which measurements, in which order) is gone through twice: first to count, so that
 * progress has an end and the time is shared among them, then to measure. */
#ifndef NM_ENGINE_PROBE_H
#define NM_ENGINE_PROBE_H

#include "base/threads.h"
#include "engine/describe.h"
#include "kernels/probe.h"

typedef struct nm_probe {
    const npumoe_probe_options *options;
    nm_cpu cpu;
    nm_kern kern;
    nm_pool *pool; /* of the number of threads that is being measured */
    bool counting;
    uint64_t done, total; /* measurements */
    uint64_t start_ns, sample_ns;
    int reps;
    bool canceled;
    json_t *root, *notes; /* notes: lines about what could not be measured */
} nm_probe;

typedef struct nm_probe_rate {
    double min, median, max; /* units per nanosecond: 1e9 units per second */
} nm_probe_rate;

/* `passes` times the work; returns its units (operations, bytes). */
typedef uint64_t (*nm_probe_work)(void *arg, int thread, size_t passes);

enum { NM_PROBE_MAX_REPS = 15 };

/* True when this measurement is to be made now; counts it, reports progress, sees a cancel. */
bool nm_probe_next(nm_probe *p);
/* All threads of the pool do the work side by side, between two barriers. */
nm_probe_rate nm_probe_measure(nm_probe *p, nm_probe_work work, void *arg);
/* The work uses the pool itself: it is called as thread 0 of nobody. */
nm_probe_rate nm_probe_measure_call(nm_probe *p, nm_probe_work work, void *arg);
/* Appends {"threads", what's keys, UNIT_min, UNIT_median, UNIT_max} to root[section]; takes `what`
 * over. */
void nm_probe_put(nm_probe *p, const char *section, json_t *what, const char *unit,
                  const nm_probe_rate *rate);
/* Four digits: more than a clock of a shared host can tell. */
json_t *nm_probe_rounded(double v);
void nm_probe_note(nm_probe *p, const char *fmt, ...) NM_PRINTF(2, 3);

/* The sections. Each measures with p->pool; what fails for want of memory becomes a note. */
void nm_probe_compute(nm_probe *p);
void nm_probe_products(nm_probe *p);
void nm_probe_pool(nm_probe *p);

/* Memory to read from, made once for all numbers of threads. */
typedef struct nm_probe_memory nm_probe_memory;
nm_probe_memory *nm_probe_memory_new(nm_probe *p); /* NULL after a note */
void nm_probe_memory_free(nm_probe_memory **memory);
void nm_probe_reads(nm_probe *p, nm_probe_memory *memory);

#endif
