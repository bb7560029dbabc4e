#include "moe/profile_stats.h"

#include <math.h>

/* ---- skew and drift ------------------------------------------------------------------------- */

static const uint64_t *pairs_of(const nm_profile *p, nm_profile_part part, uint32_t layer)
{
    return p->part[part].pairs + (size_t)layer * p->model.n_expert;
}

void nm_profile_order(const nm_profile *p, uint32_t layer, uint32_t *order)
{
    const uint64_t *pairs = pairs_of(p, NM_PROFILE_MAIN, layer);
    for (uint32_t e = 0; e < p->model.n_expert; e++) {
        uint32_t at = e; /* insertion: some hundred experts, once per report */
        for (; at > 0 && pairs[order[at - 1]] < pairs[e]; at--)
            order[at] = order[at - 1];
        order[at] = e;
    }
}

double nm_profile_gini(const nm_profile *p, nm_profile_part part, uint32_t layer)
{
    const uint64_t *pairs = pairs_of(p, part, layer);
    const uint32_t n = p->model.n_expert;
    double differences = 0, sum = 0;
    for (uint32_t e = 0; e < n; e++) {
        sum += (double)pairs[e];
        for (uint32_t f = 0; f < e; f++)
            differences += fabs((double)pairs[e] - (double)pairs[f]);
    }
    return sum > 0 ? differences / (n * sum) : 0;
}

double nm_profile_coverage(const nm_profile *p, nm_profile_part part, uint32_t layer,
                           const uint32_t *order, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += nm_profile_popularity(p, part, layer, order[i]);
    return sum;
}

double nm_profile_distance(const uint64_t *a, const uint64_t *b, uint32_t n)
{
    double sum_a = 0, sum_b = 0, distance = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum_a += (double)a[i];
        sum_b += (double)b[i];
    }
    for (uint32_t i = 0; sum_a > 0 && sum_b > 0 && i < n; i++)
        distance += fabs((double)a[i] / sum_a - (double)b[i] / sum_b) / 2;
    return distance;
}

/* ---- loads ---------------------------------------------------------------------------------- */

double nm_profile_pool_above(const nm_profile *p, nm_profile_part part, uint32_t layer,
                             uint32_t chunk, double rows)
{
    double sum = 0;
    for (uint32_t e = 0; e < p->model.n_expert; e++)
        sum += nm_profile_above(p, part, layer, e, chunk, rows);
    return sum / p->model.n_expert;
}

double nm_profile_pool_quantile(const nm_profile *p, nm_profile_part part, uint32_t layer,
                                uint32_t chunk, double q)
{
    double low = 0, high = chunk;
    if (nm_profile_pool_above(p, part, layer, chunk, 0) <= 1 - q)
        return 0;
    while (high - low > 0.25) { /* loads are whole numbers */
        const double middle = (low + high) / 2;
        if (nm_profile_pool_above(p, part, layer, chunk, middle) <= 1 - q)
            high = middle;
        else
            low = middle;
    }
    return high;
}

/* ---- capacities ----------------------------------------------------------------------------- */

double nm_profile_padding_share(const nm_profile_cost *c)
{
    return c->computed > 0 ? fmax(0, 1 - (c->rows - c->overflow) / c->computed) : 0;
}

double nm_profile_overflow_share(const nm_profile_cost *c)
{
    return c->rows > 0 ? c->overflow / c->rows : 0;
}

void nm_profile_add_cost(const nm_profile *p, nm_profile_part part, uint32_t layer, uint32_t chunk,
                         const uint32_t *capacity, nm_profile_cost *cost)
{
    for (uint32_t e = 0; e < p->model.n_expert; e++) {
        cost->computed += capacity[e];
        cost->rows += nm_profile_mean(p, part, layer, e, chunk);
        cost->overflow += nm_profile_overflow(p, part, layer, e, chunk, capacity[e]);
    }
}

/* Expected overflow of every expert at every capacity. */
typedef struct curves {
    uint32_t n_expert, n; /* capacities 0, STEP, .. (n - 1) * STEP */
    double rows;          /* of all experts */
    double *overflow;     /* [n_expert][n] */
} curves;

static npumoe_status make_curves(const nm_profile *p, uint32_t layer, uint32_t chunk, curves *c,
                                 npumoe_error *err)
{
    c->n_expert = p->model.n_expert;
    c->n = (chunk + NM_PROFILE_STEP - 1) / NM_PROFILE_STEP + 1;
    c->rows = 0;
    c->overflow = nm_alloc_array(p->allocator, (size_t)c->n_expert * c->n, sizeof *c->overflow);
    if (c->overflow == NULL)
        return nm_err_nomem(err, (uint64_t)c->n_expert * c->n * sizeof *c->overflow,
                            "curves of overflow");
    for (uint32_t e = 0; e < c->n_expert; e++) {
        for (uint32_t i = 0; i < c->n; i++)
            c->overflow[(size_t)e * c->n + i] = nm_profile_overflow(
                p, NM_PROFILE_MAIN, layer, e, chunk, (double)i * NM_PROFILE_STEP);
        c->rows += c->overflow[(size_t)e * c->n];
    }
    return NPUMOE_OK;
}

npumoe_status nm_profile_uniform_capacity(const nm_profile *p, uint32_t layer, uint32_t chunk,
                                          double limit, uint32_t *capacity, npumoe_error *err)
{
    curves c;
    NM_TRY(make_curves(p, layer, chunk, &c, err));
    uint32_t i = 0;
    for (;; i++) {
        double over = 0;
        for (uint32_t e = 0; e < c.n_expert; e++)
            over += c.overflow[(size_t)e * c.n + i];
        if (over <= limit * c.rows || i + 1 == c.n)
            break;
    }
    for (uint32_t e = 0; e < c.n_expert; e++)
        capacity[e] = i * NM_PROFILE_STEP;
    nm_free(p->allocator, c.overflow);
    return NPUMOE_OK;
}

/* Each expert's best capacity where a pair that overflows costs as much as `price` computed rows.
 * Returns the overflow of all. */
static double choose(const curves *c, double price, uint32_t *capacity)
{
    double over = 0;
    for (uint32_t e = 0; e < c->n_expert; e++) {
        const double *curve = c->overflow + (size_t)e * c->n;
        uint32_t i = 0; /* convex: the first step that does not pay is the last */
        while (i + 1 < c->n && (curve[i] - curve[i + 1]) * price > NM_PROFILE_STEP)
            i++;
        capacity[e] = i * NM_PROFILE_STEP;
        over += curve[i];
    }
    return over;
}

npumoe_status nm_profile_own_capacities(const nm_profile *p, uint32_t layer, uint32_t chunk,
                                        double limit, uint32_t *capacity, npumoe_error *err)
{
    curves c;
    NM_TRY(make_curves(p, layer, chunk, &c, err));
    double low = 1, high = 1e6; /* a pair is worth at least the row that carries it */
    for (int i = 0; i < 60; i++) {
        const double price = sqrt(low * high);
        if (choose(&c, price, capacity) <= limit * c.rows)
            high = price;
        else
            low = price;
    }
    choose(&c, high, capacity);
    nm_free(p->allocator, c.overflow);
    return NPUMOE_OK;
}
