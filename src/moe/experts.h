/* experts.h: runs the experts of one layer for the rows of a dispatch table.
 *
 *   y[t] += scale * ( sum over slots s of w[t][s] * expert[ids[t][s]](x[t])  +  g[t] * shared(x[t]) )
 *
 * The work is a list of gated networks (kernels/network.h): the shared expert with all rows, then
 * the experts in ascending number, each with its rows of the dispatch order, gathered and scattered
 * by address. A token's k results are added in that order, so the sum does not depend on timing, on
 * the number of threads, or on the order of its slots.
 *
 * `experts` and `taken` select any part of the work, which is how a device takes the first C rows of
 * some experts while the CPU does the rest. */
#ifndef NM_MOE_EXPERTS_H
#define NM_MOE_EXPERTS_H

#include "kernels/network.h"
#include "model/weights.h"
#include "moe/dispatch.h"

/* Working memory for n_pairs routed rows and n_tokens rows of the shared expert. */
typedef struct nm_expert_room {
    nm_network_item *items; /* [n_expert + 1] */
    nm_network_part *parts; /* [n_expert + 1] */
    const float **x;        /* [n_pairs + n_tokens] */
    float **y;              /* [n_pairs + n_tokens] */
    float *weight;          /* [n_pairs + n_tokens] */
} nm_expert_room;

typedef struct nm_expert_job {
    const nm_compute *compute;
    nm_act act;
    /* routed; dispatch NULL = none */
    const nm_expert_weights *weights;
    const nm_dispatch *dispatch;
    const uint32_t *experts; /* which of them to run here, ascending; NULL = all that have rows */
    uint32_t n_experts;
    const uint32_t *taken; /* [n_expert] rows at the front of each expert's list that somebody else
                              computes; NULL = none */
    /* Of `experts`. skip: rows of the first one, after those taken, that an earlier job computed; most: rows of
     * the last one to compute now, 0 = all. Pieces of NM_PRODUCT_FEW rows and more give the bits of the whole. */
    size_t skip, most;
    uint32_t k;
    const float *w; /* [n_tokens][k] */
    /* the network that all tokens pass: shared expert or dense layer; NULL = none */
    const nm_ffn_weights *shared;
    const float *shared_gate; /* [n_tokens] or NULL = 1 */
    uint32_t n_tokens;
    const float *x; /* [n_tokens][n_embd] */
    float *y;       /* [n_tokens][n_embd] */
    float scale;
    nm_expert_room *room;
} nm_expert_job;

void nm_experts_run(const nm_expert_job *job);

#endif
