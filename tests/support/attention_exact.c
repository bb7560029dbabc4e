/* attention_exact.c: see attention_exact.h. */
#include "support/attention_exact.h"

#include <math.h>

/* Score and size of one position. */
static double score_of(const attention_exact *e, const float *q, const float *k, attention_row *row)
{
    double sum = 0, size = 0;
    for (size_t i = 0; i < e->args->dim_k; i++) {
        const double x = (double)q[i] * (double)k[i];
        sum += x;
        size += fabs(x);
    }
    if (isfinite(size))
        row->score = fmax(row->score, size * (double)e->args->scale);
    row->infinite = row->infinite || !isfinite(size);
    row->nan = row->nan || isnan(sum);
    return sum * (double)e->args->scale;
}

attention_row attention_exact_row(const attention_exact *e, size_t query, size_t head,
                                  double *scores, double *o)
{
    const nm_attention_args *a = e->args;
    const size_t past = a->pos0 + query + 1, end = past < e->end ? past : e->end;
    const size_t window = a->window && past > a->window ? past - a->window : 0;
    const size_t first = window > e->first ? window : e->first;
    const size_t n_kv = a->n_head_kv, kv = head / (a->n_head / n_kv);
    const float *q = a->q + (query * a->n_head + head) * a->dim_k;
    const bool sink = e->sinks && a->sinks;
    attention_row row = {.seen = end > first ? end - first : 0};
    row.max = sink ? (double)a->sinks[head] : -INFINITY;
    for (size_t p = 0; p < row.seen; p++) {
        scores[p] = score_of(e, q, e->k + ((first + p) * n_kv + kv) * a->dim_k, &row);
        row.max = fmax(row.max, scores[p]);
    }
    row.sum = sink ? exp((double)a->sinks[head] - row.max) : 0;
    row.least = 1;
    for (size_t p = 0; p < row.seen; p++) {
        row.sum += scores[p] = exp(scores[p] - row.max);
        row.least = fmin(row.least, scores[p]);
    }
    for (size_t i = 0; i < a->dim_v; i++)
        o[i] = 0;
    for (size_t p = 0; p < row.seen; p++) {
        const float *v = e->v + ((first + p) * n_kv + kv) * a->dim_v;
        for (size_t i = 0; i < a->dim_v; i++) {
            o[i] += scores[p] * (double)v[i];
            if (isfinite(v[i]))
                row.value = fmax(row.value, fabs((double)v[i]));
        }
    }
    for (size_t i = 0; i < a->dim_v; i++)
        o[i] /= row.sum;
    return row;
}

/* Of a product, relative to its size.
 *
 * fp32: each is off by some 2^-24 of its size, in blocks of 64 of them; 2^-21 of the whole covers that.
 * TWO: numbers are hi + lo; hi is rounded, so lo is at most 2^-9 of it, and lo is cut to 8 bits: 2^-16 for each of
 * the two factors, and lo * lo, 2^-18, is left out. ONE: 2^-9 each. */
static double product_of(attention_planes planes)
{
    switch (planes) {
    case ATTENTION_TWO:
        return 0x1p-16 * 2.3;
    case ATTENTION_ONE:
        return 0x1p-8 * 1.01;
    case ATTENTION_FP32:
        break;
    }
    return 0x1p-21;
}

/* No order of fp32 sums exceeds 2^-24 of their size per term (Higham, 3.1). An error e of all scores moves weights
 * by 2e relative to each other, and the result by that much of |v|. */
double attention_bound(attention_planes planes, size_t terms, double score, double value)
{
    const double product = product_of(planes), scores = product + (double)terms * 0x1p-24;
    return value * fmin(2, 2 * score * scores + product + 0x1p-20);
}
