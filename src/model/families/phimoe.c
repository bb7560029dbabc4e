/* phimoe: Phi-3.5-MoE and the SlimMoE models. Reference: transformers,
 * models/phimoe/modeling_phimoe.py (the original code of the checkpoint agrees).
 *
 * Here other engines approximate; this one follows the reference:
 *   - LayerNorm with bias (not RMSNorm with bias);
 *   - sparsemixer: each of the two picks is weighted by its probability in a softmax over the
 *     experts inside a relative band of 2 * 0.01 below the pick; the weights do not sum to 1;
 *   - a sliding window over the last `attention.sliding_window` positions;
 *   - LongRoPE: a sequence longer than the original context uses the long factors for ALL its
 *     positions, a shorter one the short factors (engine/session.c recomputes at the crossing,
 *     as the reference does).
 * Trap: the reference multiplies cos and sin by the checkpoint's short_mscale / long_mscale. The
 * GGUF has no key for these, and the converter writes attn_factor = sqrt(1 + ln 32 / ln 4096) =
 * 1.1902, Phi-3's formula, while the one published checkpoint with that geometry says
 * 1.243163121016122 for both. The hook below puts the checkpoint's value back. */
#include "model/config.h"

#include <math.h>

#define PHI35_MSCALE    1.243163121016122f
#define PHI35_FACTOR    1.1902380714238083f
#define PHI35_CTX       131072u
#define PHI35_CTX_SHORT 4096u

static npumoe_status configure(const nm_gguf *g, nm_config *c, npumoe_error *err)
{
    if (c->n_expert_used != 2)
        return nm_err_set(err, NPUMOE_EMODEL,
                          "key phimoe.expert_used_count: found %u, expected 2 (sparsemixer is "
                          "defined for two picks)",
                          c->n_expert_used);
    NM_TRY(nm_gguf_u32_or(g, "phimoe.attention.sliding_window", 0, &c->window, err));
    nm_rope *r = &c->ropes[0];
    bool published = c->n_layer == 32 && c->n_embd == 4096 && c->n_expert == 16 &&
                     c->n_ctx_train == PHI35_CTX && r->n_ctx_orig == PHI35_CTX_SHORT;
    if (published && fabsf(r->attn_factor - PHI35_FACTOR) < 1e-4f)
        r->attn_factor = PHI35_MSCALE;
    return NPUMOE_OK;
}

extern const nm_family nm_family_phimoe;
const nm_family nm_family_phimoe = {
    .arch = "phimoe",
    .title = "Phi MoE",
    .norm = NM_NORM_LAYER,
    .rope = NM_ROPE_NEOX,
    .qk_norm = NM_QK_NORM_NONE,
    .act = NM_ACT_SWIGLU,
    .router = {.score = NM_SCORE_SPARSEMIXER, .band = 0.02f},
    .shared = NM_SHARED_NONE,
    .norm_bias = NM_REQUIRED,
    .qkv_bias = NM_OPTIONAL,
    .out_bias = NM_OPTIONAL,
    .lm_head_bias = NM_OPTIONAL,
    .output = NM_OPTIONAL,
    .configure = configure,
};
