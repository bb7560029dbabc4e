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
#include "engine/timings.h"
#include "moe/executor.h"

typedef struct nm_placement {
    nm_plan *plan;
    npumoe_device *device, *own_device; /* own: made here for a plan that needs none */
    nm_executor *ex;
    nm_exec_trace trace;
    char *name; /* of the plan, for messages */
    bool require;
    bool told,
        told_idle; /* why a prompt did not go by the plan; why the device did nothing of one that did */
    npumoe_log_fn log;
    void *log_user;
    uint32_t n_lanes;
    bool apart;          /* q, k and v of chunks in flight (buffers.h) */
    uint32_t users;      /* sessions; under the model's lock */
    uint64_t *thread_ns; /* [threads of the model's pool] */
    nm_pool *pool;
    uint64_t serial; /* no other placement of the model had it */
    nm_replan replan;
    /* measured */
    uint64_t n_tokens, n_stopped, wall_ns, host_cpu_ns, start_ns;
    uint64_t n_single; /* evaluations of one token: never by a plan */
    nm_timings timings;
    struct {
        nm_exec_counts counts;
        uint64_t n_tokens, n_stopped, wall_ns, host_cpu_ns;
    } earlier; /* the same, by plans that re-planning has replaced */
} nm_placement;

void nm_placement_free(const npumoe_allocator *a, nm_placement **p);
/* For a prompt of n tokens that does not go by the plan: an error with require_npu, else a line in the log,
 * once. */
npumoe_status nm_placement_refuse(nm_placement *p, size_t n, uint32_t chunk, npumoe_error *err);
/* Of a prompt of n tokens that went by the plan, in chunks of that many: whether the device did anything, since the counts
 * were `before`. A launch that was completed is what counts. If there was none, as refuse. */
npumoe_status nm_placement_judge(nm_placement *p, size_t n, uint32_t chunk,
                                 const nm_exec_counts *before, npumoe_error *err);
/* Layers' times begin at 0 again. */
void nm_placement_forget_layers(nm_placement *p);
/* CPU time of the pool's threads so far. */
uint64_t nm_placement_cpu_ns(nm_placement *p);

#endif
