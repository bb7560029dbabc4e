/* olmoe: OLMoE-1B-7B (AllenAI). Reference: transformers, models/olmoe/modeling_olmoe.py.
 *
 * Traps: the QK norm runs over the whole projected width, not per head; the optional clip of q, k
 * and v comes after that norm; softmax over all experts and no renormalisation. The GGUF stores
 * neither of the two router facts. */
#include "model/config.h"

#include <math.h>

static npumoe_status configure(const nm_gguf *g, nm_config *c, npumoe_error *err)
{
    NM_TRY(nm_gguf_f32_or(g, "olmoe.attention.clamp_kqv", 0.0f, &c->clamp_kqv, err));
    if (!(c->clamp_kqv >= 0.0f) || !isfinite(c->clamp_kqv))
        return nm_err_set(err, NPUMOE_EMODEL,
                          "key olmoe.attention.clamp_kqv: found %g, expected a finite number above "
                          "0, or 0 for none",
                          (double)c->clamp_kqv);
    return NPUMOE_OK;
}

extern const nm_family nm_family_olmoe;
const nm_family nm_family_olmoe = {
    .arch = "olmoe",
    .title = "OLMoE",
    .norm = NM_NORM_RMS,
    .rope = NM_ROPE_NEOX,
    .qk_norm = NM_QK_NORM_FULL,
    .act = NM_ACT_SWIGLU,
    .router = {.score = NM_SCORE_SOFTMAX, .renormalise = false},
    .shared = NM_SHARED_NONE,
    .qkv_bias = NM_OPTIONAL,
    .out_bias = NM_OPTIONAL,
    .output = NM_OPTIONAL,
    .configure = configure,
};
