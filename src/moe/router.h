/* router.h: from router logits to expert ids and weights, in fp32, exactly per family.
 *
 * For one token with logits z[0..E):
 *   SOFTMAX       p = softmax(z); ids = top-k of p (+ select bias); w = p[ids]
 *   SOFTMAX_TOPK  ids = top-k of z; w = softmax(z[ids])
 *   SIGMOID       p = 1 / (1 + exp(-z)); ids = top-k of p (+ select bias); w = p[ids]
 *   SPARSEMIXER   k = 2. First pick: a = argmax z; experts with (z[a] - z[i]) / max(|z[i]|, z[a])
 *                 above the band are masked; w = softmax(unmasked z)[a]. Second pick: the same with
 *                 z[a] removed from the maximum and the softmax.
 * then, if the rule says so, w /= max(sum w, 2^-14), and w *= scale (0 = 1).
 * Top-k is in descending order; of equal values the lowest index comes first. The order of the
 * steps is llama.cpp's build_moe_ffn; sparsemixer is transformers' phimoe at inference.
 *
 * Plain scalar code in every tier: routing is a discontinuous function, so the experts chosen must
 * not depend on the kernel tier more than the logits already do. A NaN logit loses against every
 * number, so that ids are always k different experts; its weight stays NaN and shows in the output.
 */
#ifndef NM_MOE_ROUTER_H
#define NM_MOE_ROUTER_H

#include "model/family.h"

/* z[n_expert] is overwritten with the probabilities (SOFTMAX, SIGMOID) or kept (others).
 * select_bias[n_expert] or NULL. ids[k], w[k] out. k <= n_expert. */
void nm_router_pick(const nm_router_rule *rule, uint32_t n_expert, uint32_t k, float *z,
                    const float *select_bias, uint32_t *ids, float *w);

#endif
