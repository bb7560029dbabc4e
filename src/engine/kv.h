/* kv.h: the cache of keys and values of one session.
 *
 * Per layer two arrays, position major: row p holds the heads' keys (values) of position p one
 * after the other, so that appending a token writes one run of bytes and dropping tokens writes
 * nothing. Types: F16, Q8_0 (blocks of 32 inside a head) or F32. Rows beyond what was written mean
 * nothing (a device may read them for rows that carry no token), so the block is not cleared and its pages
 * cost memory only when used. */
#ifndef NM_ENGINE_KV_H
#define NM_ENGINE_KV_H

#include "kernels/attention.h"
#include "model/config.h"

typedef struct nm_kv_layer {
    uint64_t k_at, v_at; /* bytes from nm_kv.data */
    size_t k_pos_bytes, k_head_bytes, v_pos_bytes, v_head_bytes;
} nm_kv_layer;

typedef struct nm_kv {
    const npumoe_allocator *allocator;
    uint32_t type_k, type_v; /* nm_type */
    uint32_t n_layer, n_ctx;
    nm_kv_layer *layers;
    char *data;
    uint64_t bytes;
} nm_kv;

/* The nm_type of a public cache type; EINVAL for a number that is none. */
npumoe_status nm_kv_type(npumoe_kv_type type, uint32_t *out, npumoe_error *err);
/* Bytes for n_ctx positions; EINVAL when a head does not divide into the type's blocks, ETOOBIG on
 * overflow. */
npumoe_status nm_kv_bytes(const nm_config *c, uint32_t n_ctx, uint32_t type_k, uint32_t type_v,
                          uint64_t *bytes, npumoe_error *err);

npumoe_status nm_kv_init(nm_kv *kv, const nm_config *c, uint32_t n_ctx, uint32_t type_k,
                         uint32_t type_v, const npumoe_allocator *a, npumoe_error *err);
void nm_kv_fini(nm_kv *kv);

nm_kv_view nm_kv_keys(const nm_kv *kv, uint32_t layer);
nm_kv_view nm_kv_values(const nm_kv *kv, uint32_t layer);
/* Stores k[n_head_kv * dim_k] and v[n_head_kv * dim_v] of one position. */
void nm_kv_store(const nm_kv *kv, const nm_kern *kern, const nm_layer_desc *d, uint32_t layer,
                 size_t pos, const float *k, const float *v);

#endif
