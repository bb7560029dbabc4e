/* planner.h: from loads and costs to a plan.
 *
 * WHAT IS MINIMISED. A chunk of T tokens arrives at a layer; expert e gets n_e rows, which nobody knows
 * beforehand. The profile knows how n_e is distributed. From it come SCENARIOS: a few dozen made-up
 * chunks per layer, a row of loads each, in which every expert has the loads of its histogram in the
 * right shares (one per quantile, in an order of its own, so that experts are independent). All that a
 * plan costs is computed on every scenario as the executor would run it (which capacity is taken,
 * what is skipped, what overflows, when device and host wait for each other) and averaged. So an
 * expected maximum is one, not the maximum of expectations, and a plan made from loads that a session
 * really saw is the same call with other scenarios.
 *
 * THE TIME OF A LAYER. The host gathers and submits group after group, computes what is not on the
 * device, then waits for each group in order and adds its rows. With D the device's busy time, H all
 * that the host does for the experts, F the fixed part (norms, QKV, attention, O, routing)
 *     one chunk in flight    F + (first gather) + about max(D + last scatter, H)
 *     two                    max(D, F + H)
 * The maximum is what couples experts: an expert is worth moving to the device only as long as the
 * device is not the later of the two. With a price p for device time and 1 - p for host time the
 * coupling is gone: p D + (1 - p) H is a sum over experts. The right p is where both finish
 * together; it is found by bisection (D falls and H grows with p). For every p that sum is at most
 * the maximum, which is also where the lower bound comes from.
 *
 * Host and device that share a machine's memory are slower beside each other (cost.h, BESIDE). For as long as both work,
 * times are longer by factors, so neither formula is quite the maximum; planner_clocks.h has what they become.
 *
 * TIERS are K capacities out of M allowed ones. w(e, c) is what expert e costs at capacity c at the
 * current price: padding against overflow. As a function of c it falls to a preferred capacity and rises
 * after it. If so, an expert whose preference lies between two neighbouring tiers takes one of these two,
 * so with W(i, j) = sum over experts with c_i < preference <= c_j of min(w(e, c_i), w(e, c_j)) the best K
 * tiers are a shortest path:
 *     F(1, j) = sum over preference <= c_j of w(e, c_j)
 *     F(k, j) = min over i < j of F(k - 1, i) + W(i, j)
 *     best    = min over j of F(K, j) + sum over preference > c_j of w(e, c_j)
 * O(M^2 E + K M^2), exact whatever the order of the experts. Staying on the host is a tier that everyone
 * may take: w is capped by its cost, which keeps the shape. Where a measured curve has bumps that
 * break it, the path is still a feasible choice; experts then take their true best tier, and
 * capacities are moved one by one while that helps.
 *
 * GROUPS are runs of at most max_group experts of one tier, ordered by load, so that groups that are
 * small are small together and are skipped together. A group may have several capacities (programs of the
 * same weights), its own ones: they are chosen for the distribution of its busiest load, where only "at least"
 * counts: the same path with one-sided costs, exact without any condition. Tiers that all groups of a layer share
 * are for those with one capacity each, or a layer of 128 experts would have six for all.
 *
 * PADDING is time wherever the device is what a layer waits for. Where it is not, rows computed in vain seem
 * free, and a plan would take them without end; so padding has a small price of its own
 * (NM_PLANNER_PADDING).
 *
 * PARTS. QKV, attention, O and the shared expert are on the device or not, for each layer. Attention has no
 * weights, so its programs are all layers', one for each chunk of the prompt; their slots are set aside before
 * anything is planned, or a layer's ways would depend on those of others.
 *
 * RESIDENCY. Slots and bytes couple the layers. Each layer offers a list of ways (none depends on a
 * budget, so a larger budget can only help): structures at several prices of a slot and of a byte, each
 * shortened group by group. One way per layer under two budgets is a multiple-choice knapsack; it is
 * solved exactly by dynamic programming over (programs, units of bytes) where it matters.
 * The structures of the other policies are ways too, so ours is never predicted worse.
 *
 * THE LOWER BOUND. For prices p of device time, s of a slot, b of a byte, every expert alone takes the
 * cheapest of host and device at its own ideal capacity with 1/max_group of a launch; groups, tiers and
 * integrality are forgotten. The sum less s slots + b bytes is below every plan for any prices; the
 * prices are chosen to make it large. `gap` is what is left: padding to the grid, whole launches,
 * waiting in single scenarios; and slack of the bound itself.
 *
 * Deterministic: no clock, no random state but a counter; ties go to the first. Knows costs (cost.h)
 * and loads; no file, no model, no device. */
#ifndef NM_MOE_PLANNER_H
#define NM_MOE_PLANNER_H

#include "moe/plan.h"

/* Loads of one MoE layer: n_scenarios chunks of `chunk` tokens. */
typedef struct nm_layer_loads {
    uint32_t layer; /* number in the model */
    uint32_t *load; /* [n_scenarios][n_expert] */
} nm_layer_loads;

typedef struct nm_loads {
    uint32_t n_layers, n_expert, n_scenarios, chunk;
    uint32_t rows;          /* of a chunk that they are loads of: of a prompt's last one; 0 = all */
    nm_layer_loads *layers; /* [n_layers], ascending */
} nm_loads;

static inline uint32_t nm_loads_rows(const nm_loads *l)
{
    return l->rows ? l->rows : l->chunk;
}

void nm_loads_free(const npumoe_allocator *a, nm_loads *loads);

#define NM_PLANNER_NO_ATTENTION UINT32_MAX /* of attention_chunks: none */

typedef struct nm_planner_options {
    nm_plan_policy policy;
    nm_overflow overflow;
    nm_objective objective;
    /* With LATENCY: most of the host's time, as a share of what it takes alone. The quickest plan within it, or, if there is
     * none, that with the least product of time and host time; never one that is slower than the host alone. 0 = any. */
    double host_limit;
    uint32_t n_tiers;        /* capacities per layer */
    uint32_t max_group;      /* experts per group */
    uint32_t max_capacities; /* per group; 1 = static tiers */
    uint32_t in_flight;      /* 1 .. NM_PLAN_MAX_IN_FLIGHT; 0 = as many as pay */
    uint32_t n_prompt; /* tokens of the prompts that it is for; 0 = chunks without end, all alike */
    uint32_t n_past;   /* tokens before them */
    double part_price; /* of a short last chunk's parts; 0 = what is best for the prompt */
    uint32_t attention_chunks; /* with programs for attention on the device; 0 = as many as pay */
    bool all_experts; /* every expert on the device, as far as the budgets go: for comparison */
    bool compare;     /* also predict the other policies, for plan->rejected */
    bool no_parts;    /* they stay on the host: for comparison */
    npumoe_progress_fn progress; /* layers; false cancels */
    bool again; /* they were all planned before: it is only asked whether to go on */
    void *progress_user;
} nm_planner_options;

nm_planner_options nm_planner_options_default(void);

/* cost->device has the budgets. Owner of *out: the caller. EINVAL for options that contradict each
 * other or the device; ENOMEM, ECANCELED. The plan passes nm_plan_check. */
npumoe_status nm_planner_make(const npumoe_allocator *a, const nm_plan_model *model,
                              const nm_loads *loads, const nm_cost *cost,
                              const nm_planner_options *options, nm_plan **out, npumoe_error *err);

/* The options that a plan was made with, as far as it says. */
nm_planner_options nm_planner_options_of(const nm_plan *plan);

/* What a plan, as it is, takes for these loads, and what the host alone would: sums over layers. */
npumoe_status nm_planner_judge(const nm_plan *plan, const nm_loads *loads, nm_prediction *with,
                               nm_prediction *without, npumoe_error *err);

/* Fills all figures of the plan's groups, layers and totals (not the bounds) from these loads: for a plan
 * edited by hand, or to see what a plan does with loads that it was not made for. */
npumoe_status nm_planner_predict(nm_plan *plan, const nm_loads *loads, npumoe_error *err);

#endif
