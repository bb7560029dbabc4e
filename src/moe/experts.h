/* experts.h: runs the routed experts of one layer for the rows of a dispatch table.
 *
 *   h = silu(x W_gate^T) * (x W_up^T)         first task list
 *   slot[pair] = h W_down^T                   second task list, after a barrier
 *   out[token] = sum over slots s of w[s] * slot[token * k + s]     nm_experts_combine
 *
 * A task is (expert, tile of weight rows): the tile is decoded once and meets all rows of that
 * expert. Threads draw tasks by ticket, busiest expert first. Every row lands in a place of its
 * own, and the sum over slots runs in a fixed order, so the result does not depend on timing, on
 * the number of threads, or on what else computed part of the rows: `experts` and `taken` select
 * any part of the work, which is how a device takes the first C rows of some experts while the CPU
 * does the rest.
 *
 * Rows are pointer arrays: x is gathered and slots are scattered by address, never by copying. */
#ifndef NM_MOE_EXPERTS_H
#define NM_MOE_EXPERTS_H

#include "model/weights.h"
#include "moe/dispatch.h"

/* Working memory, sized for n_pairs rows of n_ff. */
typedef struct nm_expert_room {
    float *gate, *up;  /* [n_pairs][n_ff], in dispatch order */
    const float **x;   /* [n_pairs] */
    const float **h;   /* [n_pairs] */
    float **gate_rows; /* [n_pairs] */
    float **up_rows;   /* [n_pairs] */
    float **slot_rows; /* [n_pairs] */
} nm_expert_room;

typedef struct nm_expert_job {
    const nm_compute *compute;
    const nm_expert_weights *weights;
    nm_act act;
    const nm_dispatch *dispatch;
    const uint32_t *experts; /* which of them to run here, in this order */
    uint32_t n_experts;
    const uint32_t *taken; /* [n_expert] rows at the front of each expert's list that somebody else
                              computes; NULL = none */
    uint32_t k;
    const float *x; /* [n_tokens][n_embd] */
    float *slots;   /* [n_pairs][n_embd], row = pair */
    nm_expert_room *room;
} nm_expert_job;

/* All rows of the experts named. */
void nm_experts_run(const nm_expert_job *job);

/* out[t][i] += scale * sum_s w[t][s] * slots[t * k + s][i] for n_tokens tokens of width n; extra
 * ([n_tokens][n] or NULL) joins the sum before the scale. */
typedef struct nm_combine_args {
    const nm_compute *compute;
    uint32_t n_tokens, k;
    size_t n;
    float *slots; /* overwritten */
    const float *w;
    const float *extra;
    float scale;
    float *out;
} nm_combine_args;

void nm_experts_combine(const nm_combine_args *args);

#endif
