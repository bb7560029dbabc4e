#include "quant/fit.h"

#include <float.h>
#include <math.h>

/* Below this a block is all zero: its reciprocal would overflow. */
#define TINY 1e-30f

/* Nearest whole number in [lo, hi], ties to even; NaN gives lo. Adding 1.5 * 2^23 pushes the fraction
 * out of the mantissa, so the FPU's own rounding does the work: no call, no branch. */
static inline float round_clip(float v, float lo, float hi)
{
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    return (v + 0x1.8p23f) - 0x1.8p23f;
}

int nm_fit_round(float v, int lo, int hi)
{
    return (int)round_clip(v, (float)lo, (float)hi);
}

float nm_fit_mean_square(int n, const float *x)
{
    float s = 0;
    for (int i = 0; i < n; i++)
        s += x[i] * x[i];
    return s / (float)n;
}

void nm_fit_weights(int n, const float *x, const float *imp, float sigma2, float *w)
{
    for (int i = 0; i < n; i++)
        w[i] = (imp ? imp[i] : 1.0f) * sqrtf(sigma2 + x[i] * x[i]);
}

/* Rounds x / trial to [lo, hi] and gives the sums that least squares needs. */
static void project(int n, int lo, int hi, const float *x, const float *w, float inverse,
                    double *sxq, double *sqq)
{
    float xq = 0, qq = 0;
    for (int i = 0; i < n; i++) {
        float q = round_clip(x[i] * inverse, (float)lo, (float)hi), wq = w[i] * q;
        xq += wq * x[i];
        qq += wq * q;
    }
    *sxq = (double)xq;
    *sqq = (double)qq;
}

/* Among trial scales around the one that puts `extreme` on `level`, the one whose least-squares
 * error is smallest: the error falls by sxq^2 / sqq. */
static float search_scale(int n, int lo, int hi, const float *x, const float *w, float extreme,
                          float level, double *gain)
{
    float best_inverse = level / extreme;
    *gain = -1;
    for (int step = -9; step <= 9; step++) {
        float inverse = (level + 0.1f * (float)step) / extreme;
        double sxq, sqq;
        project(n, lo, hi, x, w, inverse, &sxq, &sqq);
        if (sqq > 0 && sxq * sxq / sqq > *gain) {
            *gain = sxq * sxq / sqq;
            best_inverse = inverse;
        }
    }
    return best_inverse;
}

float nm_fit_symmetric(int n, int top, const float *x, const float *w, int8_t *q)
{
    float extreme = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    for (int i = 0; i < n; i++)
        q[i] = 0;
    if (!(fabsf(extreme) > TINY && fabsf(extreme) <= FLT_MAX))
        return 0;
    /* the extreme value takes the side that has one more level */
    double gain, sxq, sqq;
    float inverse = search_scale(n, -top - 1, top, x, w, extreme, -(float)(top + 1), &gain);
    project(n, -top - 1, top, x, w, inverse, &sxq, &sqq);
    for (int i = 0; i < n; i++)
        q[i] = (int8_t)nm_fit_round(x[i] * inverse, -top - 1, top);
    return sqq > 0 ? (float)(sxq / sqq) : 0;
}

float nm_fit_positive(int n, int top, const float *x, const float *w, uint8_t *q)
{
    float extreme = 0;
    for (int i = 0; i < n; i++)
        extreme = x[i] > extreme ? x[i] : extreme;
    for (int i = 0; i < n; i++)
        q[i] = 0;
    if (!(extreme > TINY && extreme <= FLT_MAX))
        return 0;
    double gain, sxq, sqq;
    float inverse = search_scale(n, 0, top, x, w, extreme, (float)top, &gain);
    project(n, 0, top, x, w, inverse, &sxq, &sqq);
    for (int i = 0; i < n; i++)
        q[i] = (uint8_t)nm_fit_round(x[i] * inverse, 0, top);
    return sqq > 0 ? (float)(sxq / sqq) : 0;
}

/* Sums over a sub-block; w, wx and wxx do not depend on the trial. */
typedef struct affine_sums {
    double w, wx, wxx, wq, wqq, wxq;
} affine_sums;

/* Least squares of x ~ scale q + base for given q; base is kept <= 0. Returns the error that is left,
 * sum w (scale q + base - x)^2, multiplied out; DBL_MAX when degenerate. */
static double solve_affine(const affine_sums *s, double *scale, double *base)
{
    double det = s->w * s->wqq - s->wq * s->wq;
    if (!(det > 0))
        return DBL_MAX;
    double a = (s->w * s->wxq - s->wx * s->wq) / det;
    double b = (s->wqq * s->wx - s->wq * s->wxq) / det;
    if (b > 0) {
        b = 0;
        a = s->wxq / s->wqq;
    }
    if (!(a > 0))
        return DBL_MAX;
    *scale = a;
    *base = b;
    return s->wxx + a * a * s->wqq + b * b * s->w + 2 * (a * b * s->wq - a * s->wxq - b * s->wx);
}

static void affine_project(int n, int top, const float *x, const float *w, float lo, float inverse,
                           affine_sums *s)
{
    float wq = 0, wqq = 0, wxq = 0;
    for (int i = 0; i < n; i++) {
        float q = round_clip((x[i] - lo) * inverse, 0, (float)top), p = w[i] * q;
        wq += p;
        wqq += p * q;
        wxq += p * x[i];
    }
    s->wq = (double)wq;
    s->wqq = (double)wqq;
    s->wxq = (double)wxq;
}

float nm_fit_affine(int n, int top, const float *x, const float *w, uint8_t *q, float *min)
{
    float lo = 0, hi = x[0];
    for (int i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    memset(q, 0, (size_t)n);
    *min = -lo;
    if (!(hi - lo > TINY && hi - lo <= FLT_MAX))
        return 0;
    affine_sums s = {0};
    for (int i = 0; i < n; i++) {
        s.w += (double)w[i];
        s.wx += (double)w[i] * x[i];
        s.wxx += (double)w[i] * x[i] * x[i];
    }
    float scale = (hi - lo) / (float)top, base = lo;
    double best = DBL_MAX;
    for (int step = 0; step <= 24; step++) {
        double a = 0, b = 0;
        float inverse = ((float)top - 1.0f + 0.08f * (float)step) / (hi - lo);
        affine_project(n, top, x, w, lo, inverse, &s);
        double err = solve_affine(&s, &a, &b);
        if (err < best) {
            best = err;
            scale = (float)a;
            base = (float)b;
        }
    }
    *min = -base;
    for (int i = 0; i < n; i++)
        q[i] = (uint8_t)nm_fit_round((x[i] - base) / scale, 0, top);
    return scale;
}
