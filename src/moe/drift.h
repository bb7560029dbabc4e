/* drift.h: the loads that prompts really had, kept as scenarios, and what a plan would make of them.
 *
 * Owns a window of chunks: for each the load of every expert of every layer. That is the form in which
 * the planner takes its scenarios, so what was seen goes to it as it is: no histogram is filled, nothing
 * is taken as independent that was not. It knows plans and the dispatch table; no device, no clock.
 *
 * THE WINDOW holds 64 chunks, as many as the planner makes up from a profile. It belongs to several
 * requests: once full, a chunk replaces the oldest of the other requests until its own has half the window,
 * and from then on the oldest of its own. So a long prompt cannot make forget everything before it, two
 * kinds of prompts that take turns end up in one window and get one plan for both, and a change that
 * stays has the whole window after two long requests. Why not exponential forgetting: weights are no
 * scenarios, and a half-life in chunks forgets all others during one long prompt.
 *
 * A chunk counts when all of it went by plan; one that was cancelled does not. One shorter than the
 * plan's is scaled to its length if it has at least half of it: relative loads change slowly with the
 * length (profile.h), and shorter ones say too little. Rows are counted as they were computed: the
 * last layer computes only rows that somebody wants, and a plan for what really happens has nothing there.
 *
 * THE MEASURE. Distances between distributions say that loads moved, not whether that costs anything. So
 * drift is time: what the present plan takes for the chunks of the window, against what a plan takes
 * that was made for them. Both are the planner's own prediction. A new plan is made from two thirds of the
 * chunks and judged on the others (every third), or it would win by having seen its exam. The distance
 * (total variation of popularity, mean over layers) only decides whether looking again is worth it.
 *
 * Memory is allocated when it is made; counting allocates nothing. One thread at a time. */
#ifndef NM_MOE_DRIFT_H
#define NM_MOE_DRIFT_H

#include "moe/dispatch.h"
#include "moe/planner.h"

enum {
    NM_DRIFT_WINDOW = 64, /* chunks */
    NM_DRIFT_LEAST = 12,  /* below this many there is nothing to judge on */
    NM_DRIFT_LANES = NM_PLAN_MAX_IN_FLIGHT,
    NM_DRIFT_EXAM = 3 /* one chunk in so many is for judging only */
};

typedef struct nm_drift nm_drift;

/* For the layers of this plan, chunks of its length. */
npumoe_status nm_drift_new(const npumoe_allocator *a, const nm_plan *plan, nm_drift **out,
                           npumoe_error *err);
void nm_drift_free(nm_drift **d);

/* ---- counting --------------------------------------------------------------------------------- */

/* A request begins: what follows belongs to it. */
void nm_drift_request(nm_drift *d);
/* A chunk of n tokens begins in this lane; what the lane had and did not end is forgotten. */
void nm_drift_begin(nm_drift *d, uint32_t lane, uint32_t n);
/* Its loads in one layer (number in the model). A layer that never comes had none. */
void nm_drift_add(nm_drift *d, uint32_t lane, uint32_t layer, const nm_dispatch *loads);
/* All layers are through. */
void nm_drift_end(nm_drift *d, uint32_t lane);

/* ---- asking ----------------------------------------------------------------------------------- */

uint64_t nm_drift_seen(const nm_drift *d);   /* chunks that counted, ever */
uint32_t nm_drift_window(const nm_drift *d); /* chunks in the window */

/* Copies of the window, oldest first, divided: to plan with, and to judge on. EINVAL with fewer than
 * NM_DRIFT_LEAST chunks. Owner of both: the caller (nm_loads_free with the same allocator). */
npumoe_status nm_drift_split(const nm_drift *d, const npumoe_allocator *a, nm_loads *study,
                             nm_loads *exam, npumoe_error *err);

/* Remembers the popularity of the window, and says how far it is from what was remembered: 0 (the same)
 * to 1; 1 before the first mark, and after one is taken back. */
void nm_drift_mark(nm_drift *d);
void nm_drift_unmark(nm_drift *d);
double nm_drift_shift(const nm_drift *d);

/* ---- judging ---------------------------------------------------------------------------------- */

/* What the plan's objective counts, for these loads: us of a chunk, host us, or joules; smaller is
 * better. Above a limit of host time, us times how many times the limit it takes. Changes nothing in the plan. */
npumoe_status nm_drift_cost(const nm_plan *plan, const nm_loads *loads, double *cost,
                            npumoe_error *err);
/* The plan's own options and cost table, other loads. The policy must be NM_POLICY_OURS: the others do
 * not ask what anything costs. progress, unless NULL: as nm_planner_options. Owner of *out: the caller. */
npumoe_status nm_drift_plan(const npumoe_allocator *a, const nm_plan *plan, const nm_loads *loads,
                            npumoe_progress_fn progress, void *progress_user, nm_plan **out,
                            npumoe_error *err);

#endif
