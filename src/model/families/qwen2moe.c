/* qwen2moe: Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B. Reference: transformers,
 * models/qwen2_moe/modeling_qwen2_moe.py.
 *
 * Biases on q, k and v, not on the output; no renormalisation; a shared expert whose result is
 * multiplied by a sigmoid of one dot product. Files without the width of the shared expert use
 * feed_forward_length for it. */
#include "model/config.h"

static npumoe_status configure(const nm_gguf *g, nm_config *c, npumoe_error *err)
{
    (void)g;
    (void)err;
    if (c->n_ff_shared == 0)
        c->n_ff_shared = c->n_ff;
    return NPUMOE_OK;
}

extern const nm_family nm_family_qwen2moe;
const nm_family nm_family_qwen2moe = {
    .arch = "qwen2moe",
    .title = "Qwen2 MoE",
    .norm = NM_NORM_RMS,
    .rope = NM_ROPE_NEOX,
    .qk_norm = NM_QK_NORM_NONE,
    .act = NM_ACT_SWIGLU,
    .router = {.score = NM_SCORE_SOFTMAX, .renormalise = false},
    .shared = NM_SHARED_GATED,
    .qkv_bias = NM_REQUIRED,
    .out_bias = NM_NONE,
    .output = NM_OPTIONAL,
    .ff_from_k = true,
    .configure = configure,
};
