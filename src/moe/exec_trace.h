/* exec_trace.h: what happened when, in a ring that never allocates: the newest events stay.
 *
 * Three tracks: what the host did, what the device did, and how long launches waited in the queue. */
#ifndef NM_MOE_EXEC_TRACE_H
#define NM_MOE_EXEC_TRACE_H

#include "base/alloc.h"

typedef enum nm_trace_track { NM_TRACK_HOST, NM_TRACK_DEVICE, NM_TRACK_QUEUE } nm_trace_track;

typedef struct nm_trace_event {
    const char *name; /* a constant */
    nm_trace_track track;
    uint32_t layer, lane;
    int32_t group; /* of the layer; -1 = none */
    uint32_t rows; /* that carry a token */
    uint64_t start_ns, end_ns;
} nm_trace_event;

typedef struct nm_exec_trace {
    nm_trace_event *events; /* [capacity] */
    size_t capacity;
    uint64_t n; /* ever added: event i is in events[i % capacity] */
} nm_exec_trace;

/* Does nothing when t is NULL. */
static inline void nm_trace_add(nm_exec_trace *t, const nm_trace_event *e)
{
    if (t && t->capacity)
        t->events[t->n++ % t->capacity] = *e;
}

#endif
