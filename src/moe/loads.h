/* loads.h: scenarios for the planner from a profile's histograms.
 *
 * A scenario is a made-up chunk: a load for every expert of a layer. The loads of one expert over all
 * scenarios are the quantiles of its histogram, one from the middle of each of n equal shares, corrected so
 * that their sum is the histogram's mean; which scenario gets which is a permutation of its own (Latin
 * hypercube sampling: McKay, Beckman, Conover 1979). So every expert's distribution is met exactly with
 * a few dozen scenarios, and experts are independent of each other. In truth they are not: a chunk's topic
 * raises some together, and all loads of a chunk add up to tokens times k. The profile knows neither for
 * more than pairs; the first makes waiting a little longer than predicted, the second a little shorter. */
#ifndef NM_MOE_LOADS_H
#define NM_MOE_LOADS_H

#include "moe/planner.h"
#include "moe/profile.h"

#define NM_SCENARIOS 64u

/* Owner of out's content: the caller (nm_loads_free). EINVAL when the profile has no tokens. */
npumoe_status nm_loads_of_profile(const npumoe_allocator *a, const nm_profile *p,
                                  nm_profile_part part, uint32_t chunk, uint32_t n_scenarios,
                                  nm_loads *out, npumoe_error *err);

#endif
