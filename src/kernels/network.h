/* network.h: many gated networks of one layer as one list of tasks.
 *
 *   y[i] += weight[i] * (act(x[i] W_gate^T) * (x[i] W_up^T)) W_down^T      for each item's rows i
 *
 * An item is an expert with the rows routed to it, the shared expert, or a dense layer with all
 * rows. What the threads share, phase by phase, is
 *
 *   1  pack    pieces of 16 rows: x gathered by pointer into the product's layout
 *   2  gated   (item, range of inner rows, up to 256 of the item's rows): gate and up decoded
 *              once for them
 *   3  out     (range of output columns): down of ALL items in their order, so a thread owns its
 *              columns of y and adds to them without locks
 *
 * A row of y that several items share (a token and its k experts) is summed in the order of the
 * items, whatever the number of threads and however an item twenty times busier than others was
 * cut into tasks: nothing waits for the busy one but the barrier, and its tasks are as small as
 * everybody's.
 *
 * Phase 3 needs no slots [token][k][n_embd] (134 MB for 2048 tokens and 8 experts) and no pass
 * that sums them. The price: the inner rows of all items of a wave must be kept, packed; when they
 * do not fit into the room, items go through in waves, and an item too large for a wave is cut by
 * rows. */
#ifndef NM_KERNELS_NETWORK_H
#define NM_KERNELS_NETWORK_H

#include "kernels/matmul.h"

typedef struct nm_network_item {
    nm_mat gate, up, down;               /* [n_ff][n] twice, [n][n_ff] */
    const float *b_gate, *b_up, *b_down; /* or NULL */
    size_t m;
    const float *const *x; /* [m] rows of gate.cols; may be shared by items */
    float *const *y;       /* [m] distinct rows of down.rows; may be shared by items */
    const float *weight;   /* [m] or NULL = 1 */
} nm_network_item;

/* An item, or some of its rows, in a wave. Private to network.c; the caller owns the array. */
typedef struct nm_network_part {
    const nm_network_item *item;
    const nm_product *product;
    size_t row, m;
    char *xp, *hp;
    bool shares_x; /* with the part before: one row that both read */
} nm_network_part;

typedef struct nm_network_job {
    const nm_compute *compute;
    nm_act act;
    const nm_network_item *items; /* all with the same down.rows */
    size_t n_items;
    nm_network_part *parts; /* [n_items] at least */
    bool replace;           /* y[i] = instead of y[i] +=; then no row of y belongs to two items */
} nm_network_job;

void nm_network_run(const nm_network_job *job);

#endif
