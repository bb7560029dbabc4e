/* rope.c: see rope.h. */
#include "model/rope.h"

#include <math.h>

#define TWO_PI 6.283185307179586

/* Index of the pair that turns `turns` times within the original context. */
static double yarn_dim(const nm_rope *r, double turns)
{
    return (double)r->n_rot * log((double)r->n_ctx_orig / (turns * TWO_PI)) /
           (2.0 * log((double)r->freq_base));
}

/* Share of the unscaled frequency for pair i: 1 for the fast ones, 0 for the slow ones. */
static double yarn_keep(const nm_rope *r, uint32_t i)
{
    double low = fmax(0.0, floor(yarn_dim(r, (double)r->beta_fast)));
    double high = fmin((double)r->n_rot - 1.0, ceil(yarn_dim(r, (double)r->beta_slow)));
    double t = ((double)i - low) / fmax(0.001, high - low);
    return (1.0 - fmin(1.0, fmax(0.0, t))) * (double)r->ext_factor;
}

static void fill(const nm_rope *r, const float *factors, double *freq)
{
    for (uint32_t i = 0; i < r->n_rot / 2; i++) {
        double f = pow((double)r->freq_base, -2.0 * (double)i / (double)r->n_rot);
        if (factors)
            f /= (double)factors[i];
        if (r->scaling == NM_ROPE_SCALING_LINEAR) {
            f /= (double)r->factor;
        } else if (r->scaling == NM_ROPE_SCALING_YARN) {
            double keep = yarn_keep(r, i);
            f = f / (double)r->factor * (1.0 - keep) + f * keep;
        }
        freq[i] = f;
    }
}

npumoe_status nm_rope_table_init(nm_rope_table *t, const nm_rope *rope, const float *factors,
                                 const float *long_factors, const npumoe_allocator *a,
                                 npumoe_error *err)
{
    bool two = long_factors != NULL;
    size_t half = rope->n_rot / 2;
    *t = (nm_rope_table){
        .allocator = nm_allocator_or_default(a),
        .kind = rope->kind,
        .n_rot = rope->n_rot,
        .n_variants = two ? 2 : 1,
        .switch_len = rope->n_ctx_orig,
        .mscale = rope->attn_factor,
    };
    if (rope->scaling == NM_ROPE_SCALING_YARN)
        t->mscale *= (float)(1.0 + 0.1 * log((double)rope->factor));
    t->freq = nm_alloc_array(t->allocator, half * t->n_variants, sizeof *t->freq);
    if (t->freq == NULL)
        return nm_err_nomem(err, half * t->n_variants * sizeof *t->freq, "rope frequencies");
    fill(rope, factors, t->freq);
    if (two)
        fill(rope, long_factors, t->freq + half);
    return NPUMOE_OK;
}

void nm_rope_table_fini(nm_rope_table *t)
{
    if (t->freq)
        nm_free(t->allocator, t->freq);
    *t = (nm_rope_table){0};
}

uint32_t nm_rope_variant(const nm_rope_table *t, size_t n_tokens)
{
    return t->n_variants == 2 && n_tokens > t->switch_len ? 1 : 0;
}

void nm_rope_angles(const nm_rope_table *t, uint32_t variant, size_t pos, float *cos_out,
                    float *sin_out)
{
    size_t half = t->n_rot / 2;
    const double *freq = t->freq + variant * half;
    for (size_t i = 0; i < half; i++) {
        double angle = (double)pos * freq[i];
        cos_out[i] = (float)(cos(angle) * (double)t->mscale);
        sin_out[i] = (float)(sin(angle) * (double)t->mscale);
    }
}
