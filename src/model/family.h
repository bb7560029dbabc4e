/* family.h: what one model family is, as data.
 *
 * A family is one architecture name of GGUF ("qwen3moe") and the facts in which its forward pass
 * differs from its neighbours': which norm, which rope pairing, which biases, which router rule,
 * which shared expert. Everything that a file states in its keys is in nm_config instead. One
 * description drives the one generic layer of engine/forward.c; there is no code per family
 * beyond the `configure` hook, which reads keys of the family's own.
 *
 * To add a family: write families/NAME.c with `const nm_family nm_family_NAME` and add one line to
 * families/families.def. Families that need a new kind of mixer or router add a value to an enum
 * below, and the compiler's switch warnings show every place that must know it.
 *
 * This file must never know tensors' data, sessions or kernels. */
#ifndef NM_MODEL_FAMILY_H
#define NM_MODEL_FAMILY_H

#include "formats/gguf.h"
#include "kernels/product.h"

struct nm_config;

typedef enum nm_norm_kind { NM_NORM_RMS, NM_NORM_LAYER } nm_norm_kind;

/* Which two elements of a head turn together: (2i, 2i+1) or (i, i + n_rot/2). */
typedef enum nm_rope_kind { NM_ROPE_NORM, NM_ROPE_NEOX } nm_rope_kind;

/* RMS norm of queries and keys before rope. */
typedef enum nm_qk_norm {
    NM_QK_NORM_NONE,
    NM_QK_NORM_HEAD, /* over each head, one weight of head_dim for all */
    NM_QK_NORM_FULL  /* over all heads together */
} nm_qk_norm;

typedef enum nm_presence { NM_NONE, NM_OPTIONAL, NM_REQUIRED } nm_presence;

/* How router logits become weights; formulas in moe/router.h. */
typedef enum nm_score {
    NM_SCORE_SOFTMAX,      /* softmax over all experts, then top-k */
    NM_SCORE_SOFTMAX_TOPK, /* top-k of the logits, softmax over those k */
    NM_SCORE_SIGMOID,      /* sigmoid of each, then top-k */
    NM_SCORE_SPARSEMIXER   /* two picks, each a softmax inside a band below its maximum */
} nm_score;

typedef struct nm_router_rule {
    nm_score score;
    bool renormalise;        /* divide the k weights by their sum */
    float scale;             /* multiplies the weights; 0 = 1 */
    float band;              /* sparsemixer: 2 * jitter eps */
    nm_presence bias;        /* ffn_gate_inp.bias, added to the logits */
    nm_presence select_bias; /* exp_probs_b.bias, added for the selection only */
} nm_router_rule;

typedef enum nm_shared_kind {
    NM_SHARED_NONE,
    NM_SHARED_PLAIN, /* added to the routed sum */
    NM_SHARED_GATED  /* times sigmoid(x . ffn_gate_inp_shexp) */
} nm_shared_kind;

typedef struct nm_family {
    const char *arch;  /* general.architecture */
    const char *title; /* for people: "OLMoE" */
    nm_norm_kind norm;
    nm_rope_kind rope;
    nm_qk_norm qk_norm;
    nm_act act;
    nm_router_rule router;
    nm_shared_kind shared; /* when expert_shared_feed_forward_length is not 0 */
    nm_presence norm_bias; /* of attn_norm, ffn_norm, output_norm */
    nm_presence qkv_bias, out_bias, dense_bias, lm_head_bias;
    nm_presence output; /* output.weight; absent = token_embd is used again */
    bool dense_allowed; /* expert_count may be 0 */
    bool ff_from_k;     /* no expert_feed_forward_length: feed_forward_length / k (Qwen) */
    /* Reads keys of the family's own and checks; NULL = none. */
    npumoe_status (*configure)(const nm_gguf *g, struct nm_config *c, npumoe_error *err);
} nm_family;

/* NULL past the end. */
const nm_family *nm_family_at(size_t index);
const nm_family *nm_family_find(nm_str arch); /* NULL = not supported */
/* "llama, olmoe, ..." into buf, always terminated. */
void nm_family_list(char *buf, size_t cap);

#endif
