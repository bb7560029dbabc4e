/* profile_stats.h: numbers that describe a profile to people: skew, coverage, drift, and what capacities
 * would cost. The planner asks profile.h instead; nothing here decides anything.
 *
 * PADDING is the share of computed rows that carry no token, OVERFLOW the share of pairs above a
 * capacity, when every expert with a capacity is launched for every chunk with all its rows. */
#ifndef NM_MOE_PROFILE_STATS_H
#define NM_MOE_PROFILE_STATS_H

#include "moe/profile.h"

/* Experts of a layer by falling popularity in MAIN; of equals the lower number first. */
void nm_profile_order(const nm_profile *p, uint32_t layer, uint32_t *order);
/* Gini coefficient of an expert's pairs: 0 = all equal, 1 - 1/n = one has all. */
double nm_profile_gini(const nm_profile *p, nm_profile_part part, uint32_t layer);
/* Share of a part's pairs that the first n experts of an order carry. */
double nm_profile_coverage(const nm_profile *p, nm_profile_part part, uint32_t layer,
                           const uint32_t *order, uint32_t n);
/* Total variation distance (0..1) of two popularities, given as counts; 0 if one is empty. */
double nm_profile_distance(const uint64_t *a, const uint64_t *b, uint32_t n);

/* Loads of all experts of a layer in one pool. */
double nm_profile_pool_above(const nm_profile *p, nm_profile_part part, uint32_t layer,
                             uint32_t chunk, double rows);
double nm_profile_pool_quantile(const nm_profile *p, nm_profile_part part, uint32_t layer,
                                uint32_t chunk, double q);

/* Rows of one chunk through one layer, or sums of them. */
typedef struct nm_profile_cost {
    double computed; /* capacities */
    double rows;     /* pairs */
    double overflow;
} nm_profile_cost;

double nm_profile_padding_share(const nm_profile_cost *c);
double nm_profile_overflow_share(const nm_profile_cost *c);
/* capacity[n_expert]; 0 = never launched, all its rows overflow. Adds to *cost. */
void nm_profile_add_cost(const nm_profile *p, nm_profile_part part, uint32_t layer, uint32_t chunk,
                         const uint32_t *capacity, nm_profile_cost *cost);

#define NM_PROFILE_STEP 16u /* capacities are multiples of this */

/* The smallest uniform capacity of a layer, and the capacities for each expert of its own with the
 * fewest computed rows, whose overflow in MAIN is at most a share `limit`. The second is exact up to
 * one step of one expert: Lagrange multiplier over convex curves. ENOMEM. */
npumoe_status nm_profile_uniform_capacity(const nm_profile *p, uint32_t layer, uint32_t chunk,
                                          double limit, uint32_t *capacity, npumoe_error *err);
npumoe_status nm_profile_own_capacities(const nm_profile *p, uint32_t layer, uint32_t chunk,
                                        double limit, uint32_t *capacity, npumoe_error *err);

#endif
