/* router.c: see router.h. */
#include "moe/router.h"

#include <math.h>

#define MIN_SUM 6.103515625e-5f /* 2^-14, the smallest normal fp16: llama.cpp's clamp */

/* What sorts: NaN below everything. */
static float rank_of(float v)
{
    return isnan(v) ? -INFINITY : v;
}

static void softmax(size_t n, float *x)
{
    float max = -INFINITY, sum = 0.0f;
    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        sum += x[i];
    }
    for (size_t i = 0; i < n; i++)
        x[i] /= sum;
}

/* Insertion into a list of k, descending; ascending index order makes ties stable. O(E k) with a
 * short inner loop: most experts fail the first comparison. */
static void top_k(uint32_t n, uint32_t k, const float *p, const float *bias, uint32_t *ids)
{
    float best[64]; /* NM_MAX_EXPERT_USED */
    uint32_t have = 0;
    for (uint32_t i = 0; i < n; i++) {
        float v = rank_of(bias ? p[i] + bias[i] : p[i]);
        if (have == k && !(v > best[k - 1]))
            continue;
        uint32_t at = have < k ? have++ : k - 1;
        for (; at > 0 && v > best[at - 1]; at--) {
            best[at] = best[at - 1];
            ids[at] = ids[at - 1];
        }
        best[at] = v;
        ids[at] = i;
    }
}

/* Index of the largest value other than `skip`. */
static uint32_t arg_max(uint32_t n, const float *z, uint32_t skip)
{
    uint32_t at = n;
    for (uint32_t i = 0; i < n; i++) {
        if (i != skip && (at == n || rank_of(z[i]) > rank_of(z[at])))
            at = i;
    }
    return at;
}

/* Probability of pick `a` in the softmax over the experts inside the band, without `skip`. The
 * largest term is exp(0) = 1, so the probability is 1 / sum. */
static float band_weight(uint32_t n, const float *z, uint32_t a, uint32_t skip, float band)
{
    float top = z[a], sum = 0.0f;
    for (uint32_t i = 0; i < n; i++) {
        if (i == skip)
            continue;
        float size = fabsf(z[i]);
        float factor = size < top ? top : size;
        if ((top - z[i]) / factor > band)
            continue;
        sum += expf(z[i] - top);
    }
    return 1.0f / sum;
}

static void sparsemixer(uint32_t n, const float *z, float band, uint32_t *ids, float *w)
{
    ids[0] = arg_max(n, z, n);
    w[0] = band_weight(n, z, ids[0], n, band);
    ids[1] = arg_max(n, z, ids[0]);
    w[1] = band_weight(n, z, ids[1], ids[0], band);
}

static void gather(uint32_t k, const float *p, const uint32_t *ids, float *w)
{
    for (uint32_t s = 0; s < k; s++)
        w[s] = p[ids[s]];
}

static void finish(const nm_router_rule *rule, uint32_t k, float *w)
{
    if (rule->renormalise) {
        float sum = 0.0f;
        for (uint32_t s = 0; s < k; s++)
            sum += w[s];
        sum = sum < MIN_SUM ? MIN_SUM : sum;
        for (uint32_t s = 0; s < k; s++)
            w[s] /= sum;
    }
    if (rule->scale != 0.0f && rule->scale != 1.0f) {
        for (uint32_t s = 0; s < k; s++)
            w[s] *= rule->scale;
    }
}

void nm_router_pick(const nm_router_rule *rule, uint32_t n_expert, uint32_t k, float *z,
                    const float *select_bias, uint32_t *ids, float *w)
{
    switch (rule->score) {
    case NM_SCORE_SOFTMAX:
        softmax(n_expert, z);
        top_k(n_expert, k, z, select_bias, ids);
        gather(k, z, ids, w);
        break;
    case NM_SCORE_SOFTMAX_TOPK:
        top_k(n_expert, k, z, select_bias, ids);
        gather(k, z, ids, w);
        softmax(k, w);
        break;
    case NM_SCORE_SIGMOID:
        for (uint32_t i = 0; i < n_expert; i++)
            z[i] = 1.0f / (1.0f + expf(-z[i]));
        top_k(n_expert, k, z, select_bias, ids);
        gather(k, z, ids, w);
        break;
    case NM_SCORE_SPARSEMIXER:
        sparsemixer(n_expert, z, rule->band, ids, w);
        break;
    }
    finish(rule, k, w);
}
