/* fit.h: least-squares fits of a scale (and a minimum) to a few numbers; used by the encoders only.
 *
 * The error that counts is sum_i w_i (x_i - value_i)^2. Rounding makes it a search over integer
 * vectors; as everybody does, we try a small family of scales, round, solve the scale by least
 * squares for the rounded vector, and keep the best. */
#ifndef NM_QUANT_FIT_H
#define NM_QUANT_FIT_H

#include "quant/blocks.h"

#define NM_FIT_MAX 32 /* elements of a sub-block */

/* Nearest integer in [lo, hi]; NaN gives lo. */
int nm_fit_round(float v, int lo, int hi);

/* x ~ scale * q, -top-1 <= q <= top (a symmetric code with one more negative level). Returns the
 * scale (of either sign), writes q. */
float nm_fit_symmetric(int n, int top, const float *x, const float *w, int8_t *q);

/* x ~ scale * q - min, 0 <= q <= top, scale >= 0, min >= 0. */
float nm_fit_affine(int n, int top, const float *x, const float *w, uint8_t *q, float *min);

/* x ~ scale * q, 0 <= q <= top, x >= 0: for scales of scales. */
float nm_fit_positive(int n, int top, const float *x, const float *w, uint8_t *q);

/* w_i for an element: importance (1 when imp is NULL) times sqrt(sigma2 + x^2), where sigma2 is the
 * mean square of the super-block: large weights matter more to the product they join. */
void nm_fit_weights(int n, const float *x, const float *imp, float sigma2, float *w);
float nm_fit_mean_square(int n, const float *x);

#endif
