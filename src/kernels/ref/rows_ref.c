/* rows_ref.c: everything that works along one row, as plainly as C can say it.
 *
 * Sums and exponentials are fp64, each result is rounded once; what the fast tiers must reproduce
 * bit for bit (rope, axpy, scale, add, stores) is fp32 with one rounding per operation, which is
 * why src/kernels is compiled with -ffp-contract=off. */
#include "kernels/tiers.h"

#include <math.h>

static void rms_norm(size_t n, const float *in, const float *w, float eps, float *out)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)in[i] * (double)in[i];
    float inverse = (float)(1.0 / sqrt(sum / (double)n + (double)eps));
    for (size_t i = 0; i < n; i++)
        out[i] = w ? in[i] * inverse * w[i] : in[i] * inverse;
}

static void layer_norm(size_t n, const float *in, const float *w, const float *b, float eps,
                       float *out)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)in[i];
    float mean = (float)(sum / (double)n);
    for (size_t i = 0; i < n; i++) {
        float centred = in[i] - mean;
        squares += (double)centred * (double)centred;
    }
    float inverse = (float)(1.0 / sqrt(squares / (double)n + (double)eps));
    for (size_t i = 0; i < n; i++) {
        float v = (in[i] - mean) * inverse;
        if (w)
            v *= w[i];
        out[i] = b ? v + b[i] : v;
    }
}

/* The exponential is rounded to fp32 before it is used: below -88.7 it overflows and silu is -0,
 * as in every fp32 implementation of the formula. */
static void silu_mul(size_t n, float *gate, const float *up)
{
    for (size_t i = 0; i < n; i++) {
        float e = (float)exp(-(double)gate[i]);
        gate[i] = gate[i] / (1.0f + e) * up[i];
    }
}

static void axpy(size_t n, float s, const float *in, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] += in[i] * s;
}

static void add(size_t n, const float *in, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] += in[i];
}

static void scale(size_t n, float s, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= s;
}

static float max_of(size_t n, const float *x, float start)
{
    float max = start;
    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

/* x[i] = exp(x[i] - max); returns their sum. A maximum of -INFINITY means that there is no number
 * above it: nothing is subtracted then, so that -INFINITY gives 0 and NaN stays NaN. */
static double exponentials(size_t n, float *x, float max)
{
    double sum = 0;
    const float subtract = max == -INFINITY ? 0.0f : max;
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)exp((double)(x[i] - subtract));
        sum += (double)x[i];
    }
    return sum;
}

static void softmax(size_t n, float *x)
{
    double sum = exponentials(n, x, max_of(n, x, -INFINITY));
    if (sum == 0)
        return;
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] / sum);
}

static void softmax_online(size_t n, float *s, float *m, float *l, float *corr)
{
    float max = max_of(n, s, *m);
    double sum = exponentials(n, s, max);
    *corr = max == -INFINITY ? 1.0f : (float)exp((double)(*m - max));
    *l = (float)((double)*l * (double)*corr + sum);
    *m = max;
}

static void rope_neox(size_t n_rot, float *x, const float *cosine, const float *sine)
{
    float *y = x + n_rot / 2;
    for (size_t i = 0; i < n_rot / 2; i++) {
        float a = x[i], b = y[i];
        x[i] = a * cosine[i] - b * sine[i];
        y[i] = a * sine[i] + b * cosine[i];
    }
}

static void rope_norm(size_t n_rot, float *x, const float *cosine, const float *sine)
{
    for (size_t i = 0; i < n_rot / 2; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * sine[i];
        x[2 * i + 1] = a * sine[i] + b * cosine[i];
    }
}

static void f32_to_f16(size_t n, const float *in, uint16_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = nm_f32_to_f16(in[i]);
}

static void f32_to_q8_0(size_t n, const float *in, void *out)
{
    nm_type_get(NM_TYPE_Q8_0)->encode(in, out, n, NULL);
}

void nm_kern_fill_rows_ref(nm_kern *table)
{
    table->rms_norm = rms_norm;
    table->layer_norm = layer_norm;
    table->silu_mul = silu_mul;
    table->axpy = axpy;
    table->add = add;
    table->scale = scale;
    table->softmax = softmax;
    table->softmax_online = softmax_online;
    table->rope_neox = rope_neox;
    table->rope_norm = rope_norm;
    table->f32_to_f16 = f32_to_f16;
    table->f32_to_q8_0 = f32_to_q8_0;
    for (uint32_t type = 0; type < NM_TYPE_END; type++)
        table->decode[type] = nm_type_get(type)->supported ? nm_type_get(type)->decode : NULL;
}
