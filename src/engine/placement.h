/* placement.h: a model's plan at work: the parsed plan, its device, the executor, and what was measured.
 *
 * Hangs from the model, because programs hold weights and evaluations of one model are serialised anyway.
 * Sessions made while it is there use it and keep it from being taken away. They hold the placement, not
 * its plan and executor, which re-planning (replan.h) exchanges between two evaluations. */
#ifndef NM_ENGINE_PLACEMENT_H
#define NM_ENGINE_PLACEMENT_H

#include "engine/device.h"
#include "engine/forward.h"
#include "engine/replan.h"
#include "moe/executor.h"

typedef struct nm_placement {
    nm_plan *plan;
    npumoe_device *device;
    nm_executor *ex;
    nm_exec_trace trace;
    uint32_t n_lanes;
    uint32_t users;      /* sessions; under the model's lock */
    uint64_t *thread_ns; /* [threads of the model's pool] */
    nm_pool *pool;
    uint64_t serial; /* no other placement of the model had it */
    nm_replan replan;
    /* measured */
    uint64_t n_tokens, wall_ns, host_cpu_ns, start_ns;
    struct {
        nm_exec_counts counts;
        uint64_t n_tokens, wall_ns, host_cpu_ns;
    } earlier; /* the same, by plans that re-planning has replaced */
    npumoe_log_fn log;
    void *log_user;
} nm_placement;

void nm_placement_free(const npumoe_allocator *a, nm_placement **p);
/* CPU time of the pool's threads so far. */
uint64_t nm_placement_cpu_ns(nm_placement *p);

#endif
