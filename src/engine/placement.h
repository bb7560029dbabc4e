/* placement.h: a model's plan at work: the parsed plan, its device, the executor, and what was measured.
 *
 * Hangs from the model, because programs hold weights and evaluations of one model are serialised anyway.
 * Sessions made while it is there use it and keep it from being taken away. */
#ifndef NM_ENGINE_PLACEMENT_H
#define NM_ENGINE_PLACEMENT_H

#include "engine/device.h"
#include "engine/forward.h"
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
    /* measured */
    uint64_t n_tokens, wall_ns, host_cpu_ns, start_ns;
} nm_placement;

void nm_placement_free(const npumoe_allocator *a, nm_placement **p);
/* CPU time of the pool's threads so far. */
uint64_t nm_placement_cpu_ns(nm_placement *p);

#endif
