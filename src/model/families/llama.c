/* llama: Mixtral, and dense Llama models. Reference: transformers,
 * models/mixtral/modeling_mixtral.py and models/llama/modeling_llama.py.
 *
 * Traps: the converter permutes the rows of q and k, so that rope turns neighbours (2i, 2i+1);
 * Mixtral's experts use feed_forward_length; Llama 3's rope scaling arrives as a tensor of
 * frequency factors (rope_freqs.weight). */
#include "model/family.h"

extern const nm_family nm_family_llama;
const nm_family nm_family_llama = {
    .arch = "llama",
    .title = "Mixtral / Llama",
    .norm = NM_NORM_RMS,
    .rope = NM_ROPE_NORM,
    .qk_norm = NM_QK_NORM_NONE,
    .act = NM_ACT_SWIGLU,
    .router = {.score = NM_SCORE_SOFTMAX, .renormalise = true},
    .shared = NM_SHARED_NONE,
    .qkv_bias = NM_OPTIONAL,
    .out_bias = NM_OPTIONAL,
    .dense_bias = NM_OPTIONAL,
    .output = NM_OPTIONAL,
    .dense_allowed = true,
};
