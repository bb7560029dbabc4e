/* attention.h: softmax(q k^T) v over a KV cache, blocked, never an n x n buffer.
 *
 * Blocks of queries that share a KV head meet blocks of cached positions (aligned to absolute
 * positions); K and V are decoded or packed once for all queries of a task; the softmax is online
 * (Milakov & Gimelshein 2018, Dao 2022). Work is split over (KV head, rows), and over positions
 * where rows are few.
 *
 * Which way a call goes: with NM_PRECISION_FP32, blocks in fp32 (attention.c). Else up to 8 rows of a KV
 * head (decode) stream the cache, in fp32; more rows go to the tier's own kernel: on a matrix unit FULL and
 * AUTO split every number into two of bf16 (scores off by 2^-16 of sum |q k| at most, in practice a
 * hundredth of that) and FAST takes one; tiers of vectors (tmpl/attend.inc) stay in fp32.
 *
 * Promise: a result is the same bits for any number of threads. With NM_PRECISION_FP32 it is also the
 * same for any cut of a prompt into chunks; else the chunk decides which way a query goes. A
 * query's result never depends on other queries: what is NaN or infinite in q, or in k and v that a
 * query does not see, does not touch it. */
#ifndef NM_KERNELS_ATTENTION_H
#define NM_KERNELS_ATTENTION_H

#include "kernels/matmul.h"

/* Scratch of one thread; part of nm_compute_scratch_bytes. head_dim: the larger of dim_k, dim_v. */
size_t nm_attention_scratch_bytes(uint32_t head_dim);

/* Cache of one layer: position p, KV head h is at data + p * pos_bytes + h * head_bytes. Views of keys and
 * values may be of one memory: latent attention (MLA, absorbed) has one KV head of 576 numbers for all
 * query heads, and the first 512 of a key are its value. */
typedef struct nm_kv_view {
    uint32_t type; /* NM_TYPE_F32, F16 or Q8_0 */
    const void *data;
    size_t pos_bytes, head_bytes;
} nm_kv_view;

typedef struct nm_attention_args {
    size_t n_q; /* queries: positions pos0 .. pos0 + n_q - 1, already in the cache */
    size_t pos0;
    uint32_t n_head, n_head_kv, dim_k, dim_v;
    float scale;        /* of the scores, usually 1/sqrt(dim_k) */
    uint32_t window;    /* 0 = all; else a query at p sees p-window+1 .. p */
    const float *sinks; /* [n_head] logits that join a head's softmax without a value, or NULL */
    const float *q;     /* [n_q][n_head * dim_k] */
    nm_kv_view k, v;
    float *out; /* [n_q][n_head * dim_v] */
} nm_attention_args;

/* n_head is a multiple of n_head_kv: query head h uses KV head h / (n_head / n_head_kv). */
void nm_attention(const nm_compute *c, const nm_attention_args *args);

#endif
