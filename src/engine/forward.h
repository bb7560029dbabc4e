/* forward.h: one chunk of tokens through the generic layers.
 *
 * Reads the layer descriptions of nm_config and the bindings of nm_weights; knows no family and no
 * session. Sums are fp32; how operands are rounded is the products' affair (kernels/product.h), but
 * routers are always computed near fp32. Keys and values are rounded to the cache's type when stored,
 * and attention reads only the cache. A token's result is the same bits with any number of threads;
 * with NM_PRECISION_FP32 also whichever chunk it came in. Else the chunk decides, through the number
 * of rows that an expert gets, whether few-row or many-row products meet them. */
#ifndef NM_ENGINE_FORWARD_H
#define NM_ENGINE_FORWARD_H

#include "engine/buffers.h"
#include "engine/kv.h"
#include "moe/routes.h"

/* Observers, for tests, traces and calibration; all optional. Called on the evaluating thread. */
typedef struct nm_hooks {
    /* A tensor under llama.cpp's name ("l_out", layer 3), packed rows x cols. Layer -1: outside
     * the layers. */
    void (*tensor)(void *user, const char *name, int layer, const float *data, size_t rows,
                   size_t cols);
    /* The routing of one layer and chunk: ids[n][k] and weights[n][k] of positions pos0 ... */
    void (*route)(void *user, uint32_t layer, size_t pos0, uint32_t n, uint32_t k,
                  const uint32_t *ids, const float *weights);
    void *user;
} nm_hooks;

typedef struct nm_forward {
    const nm_config *config;
    const nm_weights *weights;
    nm_compute compute;
    nm_kv *kv;
    nm_buffers *buf;
    uint32_t rope_variant;
    nm_hooks hooks;
    const nm_routes *routes; /* in place of the routers' choices; NULL = theirs */
    /* Asked after each layer; false abandons the chunk. NULL = go on. */
    bool (*keep_going)(void *user, uint32_t layers_done);
    void *keep_going_user;
} nm_forward;

/* Positions pos0 .. pos0 + n - 1 (n <= n_chunk) through all layers; keys and values land in the
 * cache. Only the rows from `wanted` on are needed afterwards (n = none): the last layer computes no
 * others. Row wanted + i of the residual stream is left in row i of buf->x. False: abandoned; the
 * cache holds rubbish at these positions. */
bool nm_forward_chunk(nm_forward *f, const npumoe_token *tokens, uint32_t n, size_t pos0,
                      uint32_t wanted);

/* Final norm and lm_head of rows [row, row + n) of buf->x, n <= buf->logit_rows, into
 * out[n][n_vocab]; out may be buf->logits. */
void nm_forward_logits(nm_forward *f, uint32_t row, uint32_t n, float *out);

#endif
