/* weights.h: the tensors of a file bound to the places of the generic layer.
 *
 * Matrices are views into the mapped file (nm_mat). Small vectors (norms, biases, rope factors)
 * become fp32 in one allocation. Which tensors must, may and must not be there follows from
 * the family's description and the configuration, so nothing here names a family.
 *
 * Names are llama.cpp's (gguf-py/gguf/constants.py). Three stored forms are understood beyond the
 * usual one: attn_qkv (q, k, v rows in one tensor), ffn_gate_up_exps (gate rows, then up rows, of
 * each expert) and a missing output.weight (the embedding is used again). A tensor that no place
 * asked for is an error: silently ignoring a bias gives wrong text. */
#ifndef NM_MODEL_WEIGHTS_H
#define NM_MODEL_WEIGHTS_H

#include "kernels/matmul.h"
#include "model/config.h"
#include "model/rope.h"

typedef struct nm_norm {
    const float *w; /* [n] */
    const float *b; /* [n] or NULL */
} nm_norm;

/* A stack of equal matrices [n_expert][rows][cols]; expert e is mat with data + e * stride_bytes. */
typedef struct nm_mat_stack {
    nm_mat mat; /* of expert 0 */
    uint64_t stride_bytes;
} nm_mat_stack;

typedef struct nm_ffn_weights {
    nm_mat gate, up, down;               /* [n_ff][n_embd] twice, [n_embd][n_ff] */
    const float *b_gate, *b_up, *b_down; /* or NULL */
} nm_ffn_weights;

typedef struct nm_expert_weights {
    uint32_t n_expert;
    nm_mat_stack gate, up, down;
} nm_expert_weights;

typedef struct nm_layer_weights {
    nm_norm attn_norm, ffn_norm;
    nm_mat wq, wk, wv, wo;
    const float *bq, *bk, *bv, *bo; /* or NULL */
    const float *q_norm, *k_norm;   /* [head_dim] or [heads * head_dim]; NULL = none */
    nm_mat router;                  /* [n_expert][n_embd] */
    const float *router_bias;       /* [n_expert] or NULL */
    const float *select_bias;       /* [n_expert] or NULL */
    nm_expert_weights experts;
    nm_ffn_weights ffn; /* dense layer, or the shared expert */
    nm_mat shared_gate; /* [1][n_embd]; rows = 0 when there is none */
} nm_layer_weights;

typedef struct nm_weights {
    const npumoe_allocator *allocator;
    nm_mat token_embd, output;
    nm_norm output_norm;
    const float *output_bias; /* [n_vocab] or NULL */
    nm_layer_weights *layers;
    nm_rope_table ropes[NM_MAX_ROPES];
    uint32_t n_ropes;
    float *vectors; /* all small fp32 vectors */
    uint64_t vectors_bytes;
    uint64_t n_params, n_params_active; /* elements; active = with k of E experts */
    uint64_t weights_bytes;
} nm_weights;

/* EMODEL: a missing, extra or wrongly shaped tensor, with its name, what was found and what was
 * expected; EUNSUPPORTED: a type without a decoder. g must outlive *w. */
npumoe_status nm_weights_init(nm_weights *w, const nm_gguf *g, const nm_config *c,
                              const npumoe_allocator *a, npumoe_error *err);
void nm_weights_fini(nm_weights *w);

/* Expert e of a stack. */
nm_mat nm_mat_stack_at(const nm_mat_stack *s, uint32_t e);

#endif
