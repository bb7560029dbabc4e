/* buffers.h: the working memory of one chunk, carved from one block.
 *
 * Sizes depend on the model, the chunk length and the number of threads only; nothing is
 * allocated after the session was made. Attention and logits never need their buffers at the same
 * time, so these two share one area:
 *
 *     | x | h | cos sin | router | pointers | dispatch | packed rows | scratch | shared area |
 *                                                              attention: q  k  v
 *                                                              logits:    rows x n_vocab
 *
 * Where several chunks are in flight and the host projects some rows of one while a device has the others, q, k and v
 * live while other chunks have their turns, and end: then each chunk has these for itself ("apart").
 *
 * Rows are packed: their stride is the width of the layer at work. One set serves one chunk in
 * flight; a pipeline of two chunks takes two sets. */
#ifndef NM_ENGINE_BUFFERS_H
#define NM_ENGINE_BUFFERS_H

#include "model/config.h"
#include "moe/experts.h"

/* Tokens that share one decoding of the weights; beyond this the gain per token is small. */
#define NM_DEFAULT_CHUNK 2048u

enum { NM_ROWS_OUT = 3 }; /* matrices of one product: queries, keys, values */

typedef struct nm_buffers {
    uint32_t n_chunk;
    float *x;       /* [n_chunk][n_embd] the residual stream */
    float *h;       /* [n_chunk][n_embd] normed input; then [n_chunk][n_head * dim_v], attention's
                      output */
    float *cos_sin; /* [n_ropes][2][n_chunk][n_rot / 2] */
    float *router;  /* [n_chunk][n_expert] logits, then probabilities */
    float *weights; /* [n_chunk][k] */
    uint32_t *ids;  /* [n_chunk][k] */
    float *sgate;   /* [n_chunk] gate of the shared expert */
    float **rows_in, **rows_out[NM_ROWS_OUT]; /* [n_chunk] row pointers of products */
    nm_dispatch dispatch;
    nm_expert_room room;
    void *packed; /* rows on their way through products */
    size_t packed_bytes;
    void *scratch; /* [n_threads][scratch_bytes] */
    size_t scratch_bytes;
    /* in the shared area */
    float *q;      /* [n_chunk][n_head * dim_k]; then [n_chunk][n_embd], the branch's result */
    float *k, *v;  /* [n_chunk][n_head_kv * dim] */
    float *logits; /* [logit_rows][n_vocab] */
    uint32_t logit_rows;
} nm_buffers;

/* Lays the buffers out from base (NM_ALIGN aligned; NULL = only count) and returns the bytes. With `apart`, q, k and v
 * are nobody else's, neither logits nor other chunks'. */
size_t nm_buffers_plan(nm_buffers *b, const nm_config *c, uint32_t n_chunk, int n_threads,
                       bool apart, char *base);

/* The same for another chunk in flight: rows and routing of its own, with `apart` q, k and v, too; the rest is
 * first's. */
size_t nm_buffers_plan_lane(nm_buffers *b, const nm_buffers *first, const nm_config *c, bool apart,
                            char *base);

#endif
