/* exec_trace.h: what happened when, in a ring that never allocates: the newest events stay.
 *
 * Tracks: what the host did, what the device did, how long launches waited in the queue, and when each further
 * thread of the host was at work. The evaluating thread is the host's: it says what it begins, and the others, which
 * help it, add what they did under that name. */
#ifndef NM_MOE_EXEC_TRACE_H
#define NM_MOE_EXEC_TRACE_H

#include "base/alloc.h"

#include <stdatomic.h>

typedef enum nm_trace_track {
    NM_TRACK_HOST,
    NM_TRACK_DEVICE,
    NM_TRACK_QUEUE,
    NM_TRACK_THREAD
} nm_trace_track;

typedef struct nm_trace_event {
    const char *name; /* a constant */
    nm_trace_track track;
    uint32_t layer, lane;
    int32_t group; /* of the layer; -1 = none. THREAD: number of the thread */
    uint32_t rows; /* that carry a token */
    uint64_t start_ns, end_ns;
} nm_trace_event;

typedef struct nm_exec_trace {
    nm_trace_event *events; /* [capacity] */
    size_t capacity;
    atomic_uint_fast64_t n; /* ever added: event i is in events[i % capacity] */
    nm_trace_event now;     /* what the evaluating thread is at: name, layer, lane, rows */
} nm_exec_trace;

/* Does nothing when t is NULL. */
static inline void nm_trace_add(nm_exec_trace *t, const nm_trace_event *e)
{
    if (t && t->capacity)
        t->events[atomic_fetch_add_explicit(&t->n, 1, memory_order_relaxed) % t->capacity] = *e;
}

/* The evaluating thread, before it calls the others. */
static inline void nm_trace_begin(nm_exec_trace *t, const char *name, uint32_t layer, uint32_t lane,
                                  uint32_t rows)
{
    if (t && t->capacity)
        t->now = (nm_trace_event){.name = name, .layer = layer, .lane = lane, .rows = rows};
}

/* nm_pool_watch_fn */
static inline void nm_trace_thread(void *trace, int thread, uint64_t start_ns, uint64_t end_ns)
{
    nm_exec_trace *t = trace;
    nm_trace_event e = t->now;
    e.track = NM_TRACK_THREAD;
    e.group = thread;
    e.start_ns = start_ns;
    e.end_ns = end_ns;
    if (thread > 0)
        nm_trace_add(t, &e);
}

#endif
