/* pipeline.h: a prompt by plan: chunks in flight as a wavefront, host and device in turns.
 *
 * A lane takes one chunk through the layers in stages; between two stages it may wait for the device:
 *
 *   NORM     h = norm(x)                        -> QKV program, if planned
 *            q, k, v of rows that it does not take
 *   ATTEND   q, k, v; rope; cache; attention    -> O program, if planned; or attention is a program, too
 *            O of rows that it does not take
 *   JOIN     residual, norm, router, dispatch   -> the groups' programs
 *   REST     what is left to the host of the experts
 *   FINISH   what the device did is added
 *
 * ROWS. Of QKV and O the device may take the first rows of a chunk (moe/plan.h), and the host computes the others
 * while it does: of QKV in NORM, of O in ATTEND, or, if the device attends, in a JOIN of its own, when attention has ended and
 * O is under way. Its rows of q, k and v are then in the chunk's own buffers from NORM to ATTEND, so chunks in flight
 * must not share these (buffers.h). A part that fails is computed by the host from what the device was given.
 *
 * With two lanes, chunk i + 1 is in layer l while chunk i is in layer l + 1: the host runs one chunk's
 * attention and routing while the device runs the other's experts. With more, somebody has work for either also while one
 * chunk ends and another begins, and where a layer's dense parts and experts are both the device's. Chunk i + 1 attends in
 * layer l only after chunk i has stored its keys and values there, and chunks end in order.
 *
 * Which lane goes next depends on what the device has finished; results do not: stages of different
 * lanes share nothing that lives from one to the next but the cache, whose order is fixed, and each lane's sums have an order of
 * their own (moe/executor.h). Where attention is the device's, chunks begin at multiples of the plan's chunk, as its
 * programs do: a prompt that goes on at another position has a short one first, where a whole one follows.
 *
 * Which of the stages goes next is moe/turns.h's, as the planner foresees it. When none is ready, the host waits for the
 * launch that ends next. */
#ifndef NM_ENGINE_PIPELINE_H
#define NM_ENGINE_PIPELINE_H

#include "engine/layer.h"
#include "moe/drift.h"
#include "moe/executor.h"

typedef struct nm_pipeline_job {
    const nm_forward *forward; /* of the session: model, compute, cache */
    nm_executor *ex;
    nm_exec_trace *trace; /* or NULL */
    nm_drift *drift;      /* counts loads; or NULL */
    uint64_t *layer_ns;   /* [n_layer] the evaluating thread's time is added */
    nm_buffers *buf;      /* [n_lanes] */
    uint32_t n_lanes;
    bool whole;                 /* chunks are no smaller than the plan's */
    const npumoe_token *tokens; /* the full prefix */
    size_t pos, end;            /* positions to compute */
    uint32_t chunk;
    void *user;
    /* The first row of a chunk that is wanted afterwards (n = none). */
    uint32_t (*wanted)(void *user, size_t pos, uint32_t n);
    /* A chunk is through; f->buf->x has the wanted rows. False ends the evaluation. */
    bool (*done)(void *user, nm_forward *f, size_t pos, uint32_t n, uint32_t wanted);
    /* Asked after each layer of each chunk: tokens so far, partial chunks counted by layers. */
    bool (*keep_going)(void *user, size_t tokens);
} nm_pipeline_job;

/* ECANCELED without a message when a callback said so; EDEVICE when the device failed and the plan is
 * required. Chunks for which done() was called stay; of the others the cache holds rubbish. */
npumoe_status nm_pipeline_run(const nm_pipeline_job *job, npumoe_error *err);

#endif
