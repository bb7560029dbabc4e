/* granitemoe: Granite 3.x MoE (1B-A400M, 3B-A800M). Reference: transformers,
 * models/granitemoe/modeling_granitemoe.py.
 *
 * Llama's layer with four multipliers: the embedding's, one on each branch before it joins the
 * residual, the attention scale (instead of 1/sqrt(head_dim)) and the logits' divisor. The router
 * takes the top-k of the logits and then the softmax over those k. GraniteMoeShared adds a plain
 * shared expert. */
#include "model/config.h"

#include <math.h>

static npumoe_status configure(const nm_gguf *g, nm_config *c, npumoe_error *err)
{
    float divisor = 0.0f;
    npumoe_status st = nm_gguf_get_f32(g, "granitemoe.logit_scale", &divisor, err);
    if (st == NPUMOE_ENOENT)
        return nm_err_set(err, NPUMOE_EMODEL,
                          "key granitemoe.logit_scale is missing (the divisor of the logits)");
    NM_TRY(st);
    c->logit_scale = 1.0f / divisor;
    if (!(c->logit_scale > 0.0f) || !isfinite(c->logit_scale))
        return nm_err_set(err, NPUMOE_EMODEL,
                          "key granitemoe.logit_scale: found %g, expected a finite number above 0 "
                          "whose reciprocal is one too",
                          (double)divisor);
    return NPUMOE_OK;
}

extern const nm_family nm_family_granitemoe;
const nm_family nm_family_granitemoe = {
    .arch = "granitemoe",
    .title = "Granite MoE",
    .norm = NM_NORM_RMS,
    .rope = NM_ROPE_NORM,
    .qk_norm = NM_QK_NORM_NONE,
    .act = NM_ACT_SWIGLU,
    .router = {.score = NM_SCORE_SOFTMAX_TOPK, .renormalise = false},
    .shared = NM_SHARED_PLAIN,
    .qkv_bias = NM_OPTIONAL,
    .out_bias = NM_OPTIONAL,
    .output = NM_OPTIONAL,
    .configure = configure,
};
