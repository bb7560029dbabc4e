/* layer.h: the steps of one layer, for whoever walks a chunk through them: forward.c one chunk from end
 * to end, pipeline.c two chunks in turns with a device between the steps.
 *
 *   begin                          x = embedding of the tokens; angles of their positions
 *   for each layer: enter
 *     norm                         h = norm(x)
 *     project                      q, k, v = h W^T              or a device does it
 *     store                        norm, clip, rope; k and v into the cache
 *     drop                         of the last layer: the rows that nobody wants
 *     attend                       h = attention(q, cache)
 *     output                       q = h Wo^T                   or a device
 *     join                         x += q; h = norm(x)
 *     route                        router, dispatch table -> the job for all experts
 *     nm_experts_run               x += experts(h)              or a device, or both
 *     done
 *   end                            the rows that are wanted move to the front of x
 *
 * The steps up to output may be taken for some of the rows, [from, to), by whoever shares a chunk with a device. Pointers of
 * nm_buffers are always those of row 0: who has some rows elsewhere changes the pointer for the step.
 *
 * A chunk's own buffers are what these steps leave for the next: x, h, the angles, routing. q, k, v and
 * packed rows live inside a step, or from a step to the next: chunks that take turns may share them if
 * nothing comes between. Where some rows are projected long before they are stored, q, k and v are the chunk's, too. */
#ifndef NM_ENGINE_LAYER_H
#define NM_ENGINE_LAYER_H

#include "engine/forward.h"

/* A chunk on its way through one layer, and what a pass over its rows needs. */
typedef struct nm_layer_job nm_layer_job;
typedef void (*nm_row_fn)(const nm_layer_job *job, size_t row);
struct nm_layer_job {
    nm_forward *f;
    const nm_layer_desc *d;
    const nm_layer_weights *l;
    const npumoe_token *tokens;
    uint32_t layer, n;
    size_t pos0;
    /* of the pass that is under way */
    nm_row_fn fn;
    uint32_t row, n_rows;
};

nm_layer_job nm_layer_begin(nm_forward *f, const npumoe_token *tokens, uint32_t n, size_t pos0);
void nm_layer_enter(nm_layer_job *job, uint32_t layer);
/* The first row of the chunk that this layer computes to its end. */
uint32_t nm_layer_first_row(const nm_layer_job *job, uint32_t wanted);
/* Rows [from, to), which may be none. */
void nm_layer_norm(nm_layer_job *job, uint32_t from, uint32_t to);
void nm_layer_project(nm_layer_job *job, uint32_t from, uint32_t to);
void nm_layer_store(nm_layer_job *job, uint32_t from, uint32_t to);
/* The rows before `first` have done their part (keys and values); x of the others moves to the front, their queries
 * stay where they are. From now on row 0 is what was row `first`. */
void nm_layer_drop(nm_layer_job *job, uint32_t first);
void nm_layer_attend(nm_layer_job *job, uint32_t from, uint32_t to);
void nm_layer_output(nm_layer_job *job, uint32_t from, uint32_t to);
void nm_layer_join(nm_layer_job *job);
/* For a dense layer: only the network that all tokens pass. Its memory is the chunk's. */
nm_expert_job nm_layer_route(nm_layer_job *job);
void nm_layer_done(const nm_layer_job *job);
/* n: what begin was given. */
void nm_layer_end(nm_layer_job *job, uint32_t n, uint32_t wanted);

#endif
