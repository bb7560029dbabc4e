#include "quant/fit.h"

#include <float.h>
#include <math.h>

/* Below this a block is all zero: its reciprocal would overflow. */
#define TINY 1e-30f

int nm_fit_round(float v, int lo, int hi)
{
    if (!(v > (float)lo))
        return lo;
    if (v >= (float)hi)
        return hi;
    return (int)lrintf(v);
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
    *sxq = *sqq = 0;
    for (int i = 0; i < n; i++) {
        double q = nm_fit_round(x[i] * inverse, lo, hi);
        *sxq += (double)w[i] * x[i] * q;
        *sqq += (double)w[i] * q * q;
    }
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

typedef struct affine_sums {
    double w, wx, wq, wqq, wxq;
} affine_sums;

/* Least squares of x ~ scale q + base for given q; base is kept <= 0. False when degenerate. */
static bool solve_affine(const affine_sums *s, float *scale, float *base)
{
    double det = s->w * s->wqq - s->wq * s->wq;
    if (!(det > 0))
        return false;
    double a = (s->w * s->wxq - s->wx * s->wq) / det;
    double b = (s->wqq * s->wx - s->wq * s->wxq) / det;
    if (b > 0) {
        b = 0;
        a = s->wqq > 0 ? s->wxq / s->wqq : 0;
    }
    *scale = (float)a;
    *base = (float)b;
    return a > 0;
}

static double affine_try(int n, int top, const float *x, const float *w, float lo, float inverse,
                         float *scale, float *base)
{
    affine_sums s = {0};
    int8_t q[NM_FIT_MAX];
    for (int i = 0; i < n; i++) {
        q[i] = (int8_t)nm_fit_round((x[i] - lo) * inverse, 0, top);
        double wi = w[i], qi = q[i];
        s.w += wi;
        s.wx += wi * x[i];
        s.wq += wi * qi;
        s.wqq += wi * qi * qi;
        s.wxq += wi * x[i] * qi;
    }
    if (!solve_affine(&s, scale, base))
        return DBL_MAX;
    double err = 0;
    for (int i = 0; i < n; i++) {
        double e = (double)*scale * q[i] + *base - x[i];
        err += w[i] * e * e;
    }
    return err;
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
    float scale = (hi - lo) / (float)top, base = lo;
    double best = DBL_MAX;
    for (int step = 0; step <= 24; step++) {
        float a = 0, b = 0, inverse = ((float)top - 1.0f + 0.08f * (float)step) / (hi - lo);
        double err = affine_try(n, top, x, w, lo, inverse, &a, &b);
        if (err < best) {
            best = err;
            scale = a;
            base = b;
        }
    }
    *min = -base;
    for (int i = 0; i < n; i++)
        q[i] = (uint8_t)nm_fit_round((x[i] - base) / scale, 0, top);
    return scale;
}
