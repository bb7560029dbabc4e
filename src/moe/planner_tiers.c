/* planner_tiers.c: choosing K capacities out of M. planner.h has the recurrences and why they are exact;
 * here is what they look like when the innermost loop has to be a row of numbers: items are sorted by
 * their preferred capacity, so that "preference in (i, j]" is a range. */
#include "moe/planner_priv.h"

#include <math.h>

typedef struct work {
    uint32_t n, m, k;
    double *w;       /* [m][n], capped, items sorted by preference */
    uint32_t *first; /* [m + 1]: items with preference below m end at first[m] */
    double *cost;    /* [k][m]: best with tier k the largest, at m, of items up to it */
    uint32_t *from;  /* [k][m] */
} work;

static void work_free(const npumoe_allocator *a, work *x)
{
    nm_free(a, x->w);
    nm_free(a, x->first);
    nm_free(a, x->cost);
    nm_free(a, x->from);
}

static uint32_t preference(const nm_tiers_problem *t, uint32_t e)
{
    uint32_t best = 0;
    for (uint32_t m = 1; m < t->n_grid; m++)
        if (t->w[(size_t)m * t->n_items + e] < t->w[(size_t)best * t->n_items + e])
            best = m;
    return best;
}

/* Sorts items by preference, dropping those that nothing can tempt from what they have. */
static npumoe_status prepare(const npumoe_allocator *a, const nm_tiers_problem *t, work *x,
                             npumoe_error *err)
{
    const size_t n = t->n_items, m = t->n_grid;
    uint32_t *pref = nm_alloc_array(a, n, sizeof *pref);
    *x = (work){.m = t->n_grid, .k = t->k < t->n_grid ? t->k : t->n_grid};
    x->w = nm_alloc_array(a, n * m, sizeof *x->w);
    x->first = nm_alloc_array(a, m + 1, sizeof *x->first);
    x->cost = nm_alloc_array(a, m * x->k, sizeof *x->cost);
    x->from = nm_alloc_array(a, m * x->k, sizeof *x->from);
    if (!pref || !x->w || !x->first || !x->cost || !x->from) {
        nm_free(a, pref);
        return nm_err_nomem(err, n * m * sizeof *x->w, "choosing tiers");
    }
    for (uint32_t e = 0; e < n; e++) {
        pref[e] = preference(t, e);
        if (t->w[pref[e] * n + e] >= t->cap[e])
            pref[e] = UINT32_MAX;
        else
            x->n++;
    }
    uint32_t at = 0;
    for (uint32_t c = 0; c < m; c++) {
        x->first[c] = at;
        for (uint32_t e = 0; e < n; e++) {
            if (pref[e] != c)
                continue;
            for (size_t j = 0; j < m; j++)
                x->w[j * x->n + at] = fmin(t->w[j * n + e], t->cap[e]);
            at++;
        }
    }
    x->first[m] = at;
    nm_free(a, pref);
    return NPUMOE_OK;
}

static double sum(const double *w, uint32_t from, uint32_t to)
{
    double s = 0.0;
    for (uint32_t e = from; e < to; e++)
        s += w[e];
    return s;
}

static double sum_of_lesser(const double *a, const double *b, uint32_t from, uint32_t to)
{
    double s = 0.0;
    for (uint32_t e = from; e < to; e++)
        s += a[e] < b[e] ? a[e] : b[e];
    return s;
}

/* The shortest path; returns the number of tiers, ascending in `tiers`. */
static uint32_t path(work *x, uint32_t *tiers)
{
    const uint32_t m = x->m;
    for (uint32_t j = 0; j < m; j++)
        x->cost[j] = sum(x->w + (size_t)j * x->n, 0, x->first[j + 1]);
    for (uint32_t k = 1; k < x->k; k++)
        for (uint32_t j = 0; j < m; j++)
            x->cost[(size_t)k * m + j] = HUGE_VAL;
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = i + 1; j < m; j++) {
            const double between = sum_of_lesser(x->w + (size_t)i * x->n, x->w + (size_t)j * x->n,
                                                 x->first[i + 1], x->first[j + 1]);
            for (uint32_t k = 1; k < x->k; k++) {
                const double c = x->cost[(size_t)(k - 1) * m + i] + between;
                if (c < x->cost[(size_t)k * m + j]) {
                    x->cost[(size_t)k * m + j] = c;
                    x->from[(size_t)k * m + j] = i;
                }
            }
        }
    uint32_t best_k = 0, best_j = 0;
    double best = HUGE_VAL;
    for (uint32_t j = 0; j < m; j++) {
        const double above = sum(x->w + (size_t)j * x->n, x->first[j + 1], x->n);
        for (uint32_t k = 0; k < x->k; k++)
            if (x->cost[(size_t)k * m + j] + above < best) {
                best = x->cost[(size_t)k * m + j] + above;
                best_k = k;
                best_j = j;
            }
    }
    for (uint32_t k = best_k + 1; k-- > 0;) {
        tiers[k] = best_j;
        best_j = x->from[(size_t)k * m + best_j];
    }
    return best_k + 1;
}

/* What the items cost when each takes the best of these tiers, whatever its preference. */
static double true_cost(const work *x, const uint32_t *tiers, uint32_t n_tiers)
{
    double s = 0.0;
    for (uint32_t e = 0; e < x->n; e++) {
        double best = HUGE_VAL;
        for (uint32_t t = 0; t < n_tiers; t++)
            best = fmin(best, x->w[(size_t)tiers[t] * x->n + e]);
        s += best;
    }
    return s;
}

static void sort_few(uint32_t *v, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t j = i; j > 0 && v[j] < v[j - 1]; j--) {
            const uint32_t t = v[j];
            v[j] = v[j - 1];
            v[j - 1] = t;
        }
}

/* For curves with bumps, where the path is not exact: moves one tier at a time while that helps. */
static double settle(const work *x, uint32_t *tiers, uint32_t n_tiers)
{
    double best = true_cost(x, tiers, n_tiers);
    bool moved = true;
    for (int sweep = 0; moved && sweep < 4; sweep++) {
        moved = false;
        for (uint32_t t = 0; t < n_tiers; t++) {
            uint32_t keep = tiers[t];
            for (uint32_t j = 0; j < x->m; j++) {
                tiers[t] = j;
                const double c = true_cost(x, tiers, n_tiers);
                if (c < best * (1.0 - 1e-12)) {
                    best = c;
                    keep = j;
                    moved = true;
                }
            }
            tiers[t] = keep;
        }
    }
    sort_few(tiers, n_tiers);
    return best;
}

npumoe_status nm_tiers_static(const npumoe_allocator *a, const nm_tiers_problem *t, uint32_t *tiers,
                              uint32_t *n_tiers, double *total, npumoe_error *err)
{
    work x;
    npumoe_status st = prepare(a, t, &x, err);
    *n_tiers = 0;
    *total = 0.0;
    if (st == NPUMOE_OK && x.n > 0) {
        *n_tiers = path(&x, tiers);
        *total = settle(&x, tiers, *n_tiers);
    }
    for (uint32_t e = 0; st == NPUMOE_OK && e < t->n_items; e++)
        if (t->w[(size_t)preference(t, e) * t->n_items + e] >= t->cap[e])
            *total += t->cap[e];
    work_free(a, &x);
    return st;
}

/* ---- at least ------------------------------------------------------------------------------- */

uint32_t nm_tiers_cover(uint32_t n_grid, uint32_t k, const double *need, const double *cost,
                        const double *tail, uint32_t *tiers, double *total)
{
    double best_to[NM_PLAN_MAX_CAPACITIES][NM_PLANNER_GRID], upto[NM_PLANNER_GRID + 1] = {0.0};
    uint32_t from[NM_PLAN_MAX_CAPACITIES][NM_PLANNER_GRID] = {{0}};
    double best = HUGE_VAL;
    uint32_t best_k = 0, best_j = 0;
    if (k > NM_PLAN_MAX_CAPACITIES)
        k = NM_PLAN_MAX_CAPACITIES;
    for (uint32_t j = 0; j < n_grid; j++)
        upto[j + 1] = upto[j] + need[j];
    for (uint32_t l = 0; l < k; l++)
        for (uint32_t j = 0; j < n_grid; j++) {
            best_to[l][j] = l == 0 ? cost[j] * upto[j + 1] : HUGE_VAL;
            for (uint32_t i = 0; l > 0 && i < j; i++) {
                const double c = best_to[l - 1][i] + cost[j] * (upto[j + 1] - upto[i + 1]);
                if (c < best_to[l][j]) {
                    best_to[l][j] = c;
                    from[l][j] = i;
                }
            }
            const double all = best_to[l][j] + cost[j] * (upto[n_grid] - upto[j + 1]) + tail[j];
            if (all < best) {
                best = all;
                best_k = l;
                best_j = j;
            }
        }
    *total = best;
    for (uint32_t l = best_k + 1; l-- > 0;) {
        tiers[l] = best_j;
        best_j = from[l][best_j];
    }
    return best_k + 1;
}
