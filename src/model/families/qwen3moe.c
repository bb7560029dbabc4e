/* qwen3moe: Qwen3-30B-A3B and kin. Reference: transformers, models/qwen3_moe/modeling_qwen3_moe.py.
 *
 * QK norm per head, before rope; softmax over all experts, top-k, weights divided by their sum
 * (norm_topk_prob is true in every published checkpoint and is not stored in the GGUF). */
#include "model/family.h"

extern const nm_family nm_family_qwen3moe;
const nm_family nm_family_qwen3moe = {
    .arch = "qwen3moe",
    .title = "Qwen3 MoE",
    .norm = NM_NORM_RMS,
    .rope = NM_ROPE_NEOX,
    .qk_norm = NM_QK_NORM_HEAD,
    .act = NM_ACT_SWIGLU,
    .router = {.score = NM_SCORE_SOFTMAX, .renormalise = true},
    .shared = NM_SHARED_NONE,
    .qkv_bias = NM_OPTIONAL,
    .out_bias = NM_OPTIONAL,
    .output = NM_OPTIONAL,
    .ff_from_k = true,
};
