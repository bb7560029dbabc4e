/* config.h: the hyperparameters of one model, read from GGUF keys and checked.
 *
 * The layer description (nm_layer_desc) is what engine/forward.c walks over: per layer which mixer
 * and which feed-forward network, with their sizes. Kinds that are not implemented yet have their
 * place in the enums' neighbourhood: a new mixer (MLA, recurrent) is a value, a case in weights.c
 * and a case in forward.c.
 *
 * Invariants after nm_config_init returned OK: all counts that are used are within the limits
 * below, n_head is a multiple of n_head_kv, n_rot is even and <= head_dim, n_expert_used <=
 * n_expert, products of two widths fit in 63 bits. Knows keys, not tensors. */
#ifndef NM_MODEL_CONFIG_H
#define NM_MODEL_CONFIG_H

#include "model/family.h"

#define NM_MAX_LAYERS      1024u
#define NM_MAX_WIDTH       (1u << 20) /* n_embd, n_ff, heads * head_dim */
#define NM_MAX_EXPERTS     4096u
#define NM_MAX_EXPERT_USED 64u
#define NM_MAX_ROPES       2

typedef enum nm_mixer_kind { NM_MIXER_GQA } nm_mixer_kind;
typedef enum nm_ffn_kind { NM_FFN_DENSE, NM_FFN_MOE } nm_ffn_kind;

typedef struct nm_layer_desc {
    nm_mixer_kind mixer;
    nm_ffn_kind ffn;
    uint32_t n_head, n_head_kv;
    uint32_t dim_k, dim_v; /* of one head */
    uint32_t window;       /* 0 = all positions */
    uint32_t rope;         /* index into nm_config.ropes */
    uint32_t n_ff;         /* dense: width; moe: width of one expert */
    uint32_t n_ff_shared;  /* 0 = no shared expert */
} nm_layer_desc;

typedef enum nm_rope_scaling {
    NM_ROPE_SCALING_NONE,
    NM_ROPE_SCALING_LINEAR,
    NM_ROPE_SCALING_YARN,
    NM_ROPE_SCALING_LONGROPE
} nm_rope_scaling;

/* Rotary embedding as the keys describe it; model/rope.h makes angles of it. */
typedef struct nm_rope {
    nm_rope_kind kind;
    uint32_t n_rot; /* elements of a head that turn */
    float freq_base;
    nm_rope_scaling scaling;
    float factor;      /* linear, yarn: positions are divided by it */
    float attn_factor; /* multiplies cos and sin; 0 = not stated */
    float ext_factor;  /* yarn: 1 */
    float beta_fast, beta_slow;
    uint32_t n_ctx_orig; /* yarn, longrope: context before extension */
} nm_rope;

typedef struct nm_config {
    const nm_family *family;
    const npumoe_allocator *allocator;
    nm_str name; /* general.name */
    uint32_t n_vocab, n_layer, n_embd, n_ctx_train;
    uint32_t n_head, n_head_kv, dim_k, dim_v; /* of layer 0; for reports */
    uint32_t n_ff, n_ff_expert, n_ff_shared;
    uint32_t n_expert, n_expert_used;
    uint32_t window;
    nm_router_rule router;
    float norm_eps;
    float embedding_scale; /* 1 = none */
    float residual_scale;  /* 1 = none */
    float attention_scale; /* of the scores; never 0 after init */
    float logit_scale;     /* multiplies; 1 = none */
    float clamp_kqv;       /* 0 = none */
    nm_rope ropes[NM_MAX_ROPES];
    uint32_t n_ropes;
    nm_layer_desc *layers; /* [n_layer], owned */
} nm_config;

/* EUNSUPPORTED names an unknown architecture and lists the known ones; EMODEL names the key with
 * what was found and expected. g must outlive *c (strings). On failure *c holds nothing. */
npumoe_status nm_config_init(nm_config *c, const nm_gguf *g, const npumoe_allocator *a,
                             npumoe_error *err);
void nm_config_fini(nm_config *c);

#endif
