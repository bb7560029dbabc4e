/* skew.c: routers that load their experts as trained ones do.
 *
 * Trained MoE models do not use experts evenly: within a layer the busiest gets 5 to 20 times the mean
 * (bounded by E / k), a few get nothing in a whole chunk, and which ones differs by layer. Random
 * router weights give every expert about the same load instead. The design:
 *
 *   1. Four ANCHOR channels of the residual stream hold one constant for all tokens, alternately
 *      + and -, as the "massive activations" of real models do. The embedding puts the constant
 *      there, layers hardly write there (MK_WRITER), and the attention norm damps the channels, so
 *      that only routers see them. (Alternating signs: LayerNorm's mean does not change.)
 *   2. A router row is   random part  +  bias part:
 *         w_e = (tau / sqrt(d)) z_e / rho  +  b_e * anchors
 *      With h the normed input, z_e . h is close to normal with deviation tau for any token, and the anchors
 *      contribute exactly tau * b_e, because their value after the norm is known (mk_growth).
 *   3. b over experts is a fixed curve with a heavy upper end, permuted anew for each layer and scaled
 *      by 0.85 .. 1.15; the lowest 1/32 of the experts sit far below all others and stay idle.
 *   4. The curve's scale is found by bisection on a Monte Carlo of step 2 (normal scores, top k, the
 *      busiest expert's load over the mean). The load asked for is --skew, by default 0.65 of the
 *      highest possible E / k, at most 8: with an E / k of 5 to 8 that is 3.3 to 5.2, so less than 5 in
 *      some or all layers (README.md has what is reached).
 *
 * Tokens stay varied: the random part depends on the whole hidden state. */
#include <math.h>

#include "mkmodel.h"

#define TAU       1.5f /* deviation of a router score over tokens */
#define MC_TOKENS 1024

const uint32_t mk_anchor_channel[MK_ANCHORS] = {3, 10, 17, 28};

bool mk_is_anchor(uint64_t channel)
{
    for (size_t i = 0; i < MK_ANCHORS; i++)
        if (mk_anchor_channel[i] == channel)
            return true;
    return false;
}

/* A quarter of the energy of the other channels together. */
static float anchor_size(const mk_spec *s)
{
    return sqrtf(0.25f * (float)s->embd / (float)MK_ANCHORS);
}

float mk_anchor_value(const mk_spec *s, size_t i)
{
    return i % 2 == 0 ? anchor_size(s) : -anchor_size(s);
}

struct mk_skew {
    mk_spec spec;
    float *bias; /* [experts], ascending, units of TAU */
};

/* The shape: a gentle line, so that most experts get 0.3 to 1 times the mean, and a steep rise at the
 * upper end for the few busy ones. q in (0, 1). */
static float curve(float q)
{
    float q2 = q * q;
    float q10 = q2 * q2 * q2 * q2 * q2;
    float line = 0.8f * (q - 0.5f);
    return line + 1.5f * q10;
}

static void fill_curve(float *bias, uint32_t n, float scale)
{
    uint32_t idle = n >= 12 ? (n + 31) / 32 : 0;
    for (uint32_t i = 0; i < n; i++) {
        float q = ((float)i + 0.5f) / (float)n;
        bias[i] = i < idle ? -8.0f : scale * curve(q);
    }
}

/* Load of the busiest expert over the mean when scores are bias + normal. */
static float simulate(const float *bias, uint32_t n, uint32_t k, uint32_t *count, float *score)
{
    memset(count, 0, n * sizeof *count);
    for (uint64_t t = 0; t < MC_TOKENS; t++) {
        for (uint32_t e = 0; e < n; e++)
            score[e] = bias[e] + mk_normal(0x6d63, t * n + e);
        for (uint32_t j = 0; j < k; j++) {
            uint32_t best = 0;
            for (uint32_t e = 1; e < n; e++)
                if (score[e] > score[best])
                    best = e;
            count[best]++;
            score[best] = -1e30f;
        }
    }
    uint32_t busiest = 0;
    for (uint32_t e = 0; e < n; e++)
        busiest = count[e] > busiest ? count[e] : busiest;
    return (float)busiest * (float)n / (float)(MC_TOKENS * k);
}

static float wanted(const mk_spec *s)
{
    float bound = (float)s->experts / (float)s->used;
    float w = s->skew > 0 ? s->skew : 0.65f * bound;
    if (s->skew <= 0 && w > 8.0f)
        w = 8.0f;
    return w < 0.95f * bound ? w : 0.95f * bound;
}

npumoe_status mk_skew_new(const mk_spec *s, mk_skew **out, npumoe_error *err)
{
    const npumoe_allocator *a = nm_allocator_default();
    uint32_t n = s->experts;
    mk_skew *k = nm_zalloc(a, sizeof *k);
    float *score = nm_alloc_array(a, n, sizeof *score);
    uint32_t *count = nm_alloc_array(a, n, sizeof *count);
    npumoe_status st = NPUMOE_OK;
    if (k)
        k->bias = nm_alloc_array(a, n, sizeof *k->bias);
    if (!k || !k->bias || !score || !count) {
        st = nm_err_nomem(err, n * sizeof(float), "router design");
        goto out;
    }
    k->spec = *s;
    float lo = 0.0f, hi = 8.0f;
    for (int i = 0; i < 12; i++) {
        float mid = 0.5f * (lo + hi);
        fill_curve(k->bias, n, mid);
        if (simulate(k->bias, n, s->used, count, score) < wanted(s))
            lo = mid;
        else
            hi = mid;
    }
    fill_curve(k->bias, n, hi);
    *out = k;
out:
    nm_free(a, score);
    nm_free(a, count);
    if (st != NPUMOE_OK)
        mk_skew_free(&k);
    return st;
}

void mk_skew_free(mk_skew **k)
{
    if (!*k)
        return;
    nm_free(nm_allocator_default(), (*k)->bias);
    nm_free(nm_allocator_default(), *k);
    *k = NULL;
}

/* Which place of the curve an expert has in this layer: its rank among random keys. */
static uint32_t place(const mk_spec *s, uint32_t layer, uint32_t expert)
{
    uint64_t key = s->seed * 0x51ed + 0x7065726d + ((uint64_t)layer << 32);
    uint64_t mine = mk_hash(key, expert);
    uint32_t rank = 0;
    for (uint32_t e = 0; e < s->experts; e++)
        rank += mk_hash(key, e) < mine;
    return rank;
}

void mk_skew_row(const mk_skew *k, uint32_t layer, uint32_t expert, float *row)
{
    const mk_spec *s = &k->spec;
    float varied = 1.0f + mk_growth(s, layer); /* variance of ordinary channels */
    float anchors = 0.25f;                     /* mean square that the anchors add */
    float rms = sqrtf(varied + anchors);
    float rho = sqrtf(varied) / rms; /* deviation of ordinary channels after the norm */
    float std = TAU / (sqrtf((float)s->embd) * rho);
    uint64_t key =
        s->seed * 0x2545 + 0x726f7574 + ((uint64_t)layer << 40) + ((uint64_t)expert << 20);
    for (uint32_t i = 0; i < s->embd; i++)
        row[i] = std * mk_normal(key, i);
    float spread = 0.85f + 0.3f * mk_uniform(s->seed + 77, layer);
    float bias = TAU * spread * k->bias[place(s, layer, expert)];
    float unit = anchor_size(s) * MK_FFN_ANCHOR / rms; /* an anchor as the router sees it */
    for (size_t i = 0; i < MK_ANCHORS; i++) {
        float share = bias / ((float)MK_ANCHORS * unit);
        row[mk_anchor_channel[i]] = i % 2 == 0 ? share : -share;
    }
}
