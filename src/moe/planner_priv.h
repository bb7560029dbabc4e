/* planner_priv.h: what the files of the planner share; planner.h has the ideas.
 *
 *   planner.c         options, one policy from end to end, the comparison with the others
 *   planner_layers.c  tables, layers, their ways, and a way as a layer of the plan
 *   planner_sim.c     what a way costs on every scenario
 *   planner_schedule.c  a prompt through all layers, stage by stage
 *   planner_rows.c    QKV and O shared by rows
 *   planner_last.c    a prompt's last chunk, where it is short
 *   planner_clocks.h  host and device at the same time: for these two
 *   planner_tiers.c   the two shortest paths
 *   planner_ways.c    ways of a layer for ours
 *   planner_fixed.c   the other policies: structures that do not ask for costs
 *   planner_popular.c residency for these, by popularity
 *   planner_choose.c  one way per layer: at which price of the device's time
 *   planner_budget.c  one way per layer under two budgets
 *   planner_bound.c   the lower bound
 *   planner_predict.c a plan and other loads; what is never launched; the crossover
 *   planner_rejected.c  what was not taken
 *
 * A WAY is one complete answer for one layer: groups, parts, and what they cost. */
#ifndef NM_MOE_PLANNER_PRIV_H
#define NM_MOE_PLANNER_PRIV_H

#include "moe/planner.h"
#include "moe/planner_clocks.h"

enum {
    NM_PLANNER_GRID = 96,   /* allowed capacities, most */
    NM_PLANNER_TRIED = 128, /* shapes that are remembered, the best of them */
    NM_PLANNER_CHOICES = 3, /* of attention programs */
    NM_PARTS_ALL = (1 << NM_COST_PARTS) - 1
};

typedef struct nm_way_group {
    uint32_t first, n; /* into way->experts */
    uint32_t n_capacities;
    uint32_t capacities[NM_PLAN_MAX_CAPACITIES];
} nm_way_group;

typedef struct nm_way {
    uint32_t n_groups, n_experts;
    uint32_t parts;               /* bits of nm_cost_part */
    uint32_t rows[NM_COST_PARTS]; /* of QKV and O: the device's, of a chunk; 0 = all */
    nm_way_group *groups;
    uint32_t *experts; /* in the same block */
    double price;
    uint32_t programs;
    uint64_t bytes;
    nm_prediction predicted;
    double score;  /* to be made small; HUGE_VAL = not allowed by the objective */
    bool spares;   /* only that: another one is as good but for its host time (planner_choose.c) */
    bool left_out; /* planner_budget.c: too many others are as good */
} nm_way;

/* Costs by rows, looked up instead of interpolated; and what all layers share. */
typedef struct nm_planner {
    const npumoe_allocator *a;
    nm_planner_options options;
    const nm_plan_model *model;
    const nm_loads *loads;
    const nm_cost *cost;
    uint32_t n_expert, n_scenarios;
    uint32_t max_rows;              /* of the tables */
    double *host_us, *device_us;    /* [max_rows + 1] one expert */
    uint32_t moved_rows;            /* of these tables: all pairs of a chunk */
    double *gather_us, *scatter_us; /* [moved_rows + 1] one launch */
    uint32_t n_grid;
    uint32_t grid[NM_PLANNER_GRID]; /* allowed capacities, ascending */
    double layer_us;                /* host: norms, routing and such */
    bool attends;                   /* the device could, had it programs for all chunks */
    uint32_t attention_chunks;      /* that would have a program */
    uint32_t slots;                 /* for all other programs */
    uint32_t n_lanes;               /* chunks in flight, at most */
    bool two;                       /* or more, and as many to be had */
    uint32_t n_chunks; /* of the prompt, the last one perhaps short; 0 = an endless row of chunks */
    uint32_t rows;     /* of the chunks that costs and loads are of: all, but for */
    double part_price; /* where they are fewer than a chunk has: nm_cost_short.price */
    struct nm_planner *last; /* the prompt's last chunk, where it is short; NULL: it is not */
    nm_loads last_loads;     /* of that */
    double part_host_us[NM_COST_PARTS];   /* on the host; 0 where there is no such part */
    double part_device_us[NM_COST_PARTS]; /* device busy, launch included */
    double part_move_us[NM_COST_PARTS];   /* host: gather, submit, scatter of such a launch */
    bool part_exists[NM_COST_PARTS], part_possible[NM_COST_PARTS];
    double beside[NM_COST_WORKS]; /* nm_cost_beside() */
    /* working memory of one simulation */
    uint32_t *rest;             /* [n_expert] */
    double *pass_us, *pass_end; /* [room] */
    uint32_t *pass_rows;        /* [room] */
    size_t pass_room;
} nm_planner;

/* A shape of a layer, to be shown if it is not taken. */
typedef struct nm_tried {
    double score;
    nm_plan_rejected as;
} nm_tried;

/* One layer at work. */
typedef struct nm_layer_work {
    const nm_planner *p;
    const uint32_t *load; /* [n_scenarios][n_expert] */
    uint32_t *order;      /* experts by mean load, busiest first */
    double *mean, *busy;  /* rows; share of scenarios with rows */
    double *host;         /* host us of all its rows */
    double cpu_only_us;   /* of this layer */
    nm_way **ways;        /* [0]: all on the host */
    size_t n_ways, ways_cap;
    nm_tried tried[NM_PLANNER_TRIED];
    uint32_t n_tried;
} nm_layer_work;

/* Host time of moving rows into and out of the device's buffers, one launch. */
double nm_planner_gather(const nm_planner *p, uint32_t rows);
double nm_planner_scatter(const nm_planner *p, uint32_t rows);

npumoe_status nm_loads_check(const nm_loads *l, npumoe_error *err);
/* *p can be freed after a failure, too. Everything is borrowed. */
npumoe_status nm_planner_init(nm_planner *p, const npumoe_allocator *a, const nm_plan_model *model,
                              const nm_loads *loads, const nm_cost *cost,
                              const nm_planner_options *options, npumoe_error *err);
void nm_planner_fini(nm_planner *p);
/* All layers of the loads, each with one way: all on the host. *out can be freed after a failure, too. */
npumoe_status nm_layers_new(const nm_planner *p, nm_layer_work **out, npumoe_error *err);
void nm_layers_free(const nm_planner *p, nm_layer_work **layers);
/* Progress; ECANCELED. */
npumoe_status nm_planner_tell(const nm_planner *p, uint32_t done, npumoe_error *err);

/* ---- ways ----------------------------------------------------------------------------------- */

/* NULL = out of memory. Groups and experts are the caller's to fill. */
nm_way *nm_way_new(const nm_planner *p, uint32_t n_groups, uint32_t n_experts);
/* Simulates, scores and takes the way over (frees it when it is not wanted, or on failure). */
typedef struct nm_offer {
    double score;
    nm_prediction predicted;
    uint32_t programs;
    uint64_t bytes;
} nm_offer;
npumoe_status nm_layer_offer(nm_layer_work *l, nm_way *w, nm_offer *out, npumoe_error *err);
/* The same for a way whose prediction is there. */
npumoe_status nm_layer_take(nm_layer_work *l, nm_way *w, nm_offer *out, npumoe_error *err);
/* Remembers a choice by name, to be shown if it is not taken: of each name the best one, of all names the best. */
void nm_layer_tried(nm_layer_work *l, const char *what, const nm_offer *o);

/* ", with qkv o"; nothing where there are none. */
void nm_planner_name_parts(uint32_t parts, char *out, size_t bytes);
/* The rejected of all layers, of a plan whose programs are counted. */
npumoe_status nm_planner_fill_rejected(const nm_planner *p, const nm_layer_work *layers,
                                       nm_plan *plan, npumoe_error *err);

/* What a group does with one scenario's loads, whenever it happens. */
typedef struct nm_outcome {
    uint32_t busiest, passes;
    double rows, padding, overflow;
    double device_us, host_us, alone_us; /* alone: all its rows on the host */
    double beside_us;                    /* host_us beside a device at work */
} nm_outcome;
nm_outcome nm_planner_look(const nm_planner *p, const nm_way_group *g, const uint32_t *experts,
                           const uint32_t *load);
/* nm_plan_launch_pays(). */
static inline bool nm_planner_launches(const nm_outcome *o, double price)
{
    return o->busiest > 0 && (price < 0.0 || price * o->device_us + (1.0 - price) * o->host_us <
                                                 (1.0 - price) * o->alone_us);
}
/* Fills w->predicted as nm_planner_simulate() does, with two chunks in flight, where only sums count: of its groups
 * of[i] has the outcomes by scenario; alone_us[n_scenarios]: all experts on the host. */
void nm_planner_sum(const nm_planner *p, const double *alone_us, const nm_outcome *const *of,
                    uint32_t n, nm_way *w);

typedef struct nm_group_figures {
    double launches, rows, padding, overflow, device_us, host_saved_us;
} nm_group_figures;

/* Fills w->predicted; figures[w->n_groups] or NULL. */
void nm_planner_simulate(const nm_planner *p, const uint32_t *load, nm_way *w,
                         nm_group_figures *figures);
/* What padding is held against a plan beyond the time it takes. Rows that are computed in vain are energy and a
 * device that others could use, but where the device waits anyway they take no time at all, and between ways that
 * are equally quick they should decide. So a score grows by this share of it for each share of padding: one
 * hundredth of time for a quarter of padding less. */
#define NM_PLANNER_PADDING 0.04
double nm_planner_padded(double score, const nm_prediction *x);
/* The same for one row, where nothing is known yet but what the host alone takes. */
double nm_planner_padding_us(const nm_planner *p, double cpu_only_us);

/* By the objective; HUGE_VAL when the way is slower than the host alone and only host time counts. */
double nm_planner_score(const nm_planner *p, const nm_prediction *x, double cpu_only_us);

/* One layer with the loads of one chunk: launches into p->pass_us and pass_rows, rows into *sum. */
typedef struct nm_passes {
    uint32_t n;
    double rest_us; /* what the host computes meanwhile */
} nm_passes;
void nm_planner_passes(const nm_planner *p, const nm_way *w, const uint32_t *load, nm_passes *out,
                       nm_prediction *sum);

/* The factor of a part's work on the host. */
double nm_planner_part_beside(const nm_planner *p, nm_cost_part part);
/* Whether the device computes a part of the chunk with that number: late chunks may have no program for attention, and
 * for a short one it may not pay (nm_cost_part_pays). */
bool nm_planner_part_is_there(const nm_planner *p, const nm_way *w, nm_cost_part part,
                              uint32_t chunk);
/* A part's time on the host, or on the device with its launch: attention grows with the chunk's number. */
double nm_planner_part_host_us(const nm_planner *p, nm_cost_part part, uint32_t chunk);
double nm_planner_part_device_us(const nm_planner *p, nm_cost_part part, uint32_t chunk);
/* What that chunk is of the prompt: a share of its tokens. */
double nm_planner_chunk_share(const nm_planner *p, uint32_t chunk);

/* ---- parts shared by rows (planner_rows.c) ---------------------------------------------------- */

/* 0: the part is the host's, or all of it the device's. */
uint32_t nm_planner_shared_rows(const nm_planner *p, const nm_way *w, nm_cost_part part);
typedef struct nm_part_times {
    double move_us, host_us; /* of the host: to and fro; its rows */
    double device_us;        /* launch included */
} nm_part_times;
nm_part_times nm_planner_part_times(const nm_planner *p, const nm_way *w, nm_cost_part part,
                                    uint32_t chunk);
/* Of the host's attention of that chunk: what its first rows take. */
double nm_planner_attended(const nm_planner *p, uint32_t chunk, uint32_t rows);
/* Time for which host and device both work at them, where one chunk is in flight. */
double nm_planner_rows_overlap(const nm_planner *p, const nm_way *w);
/* Shares what pays to be shared; false: nothing. */
bool nm_planner_share_rows(const nm_planner *p, nm_way *w);

/* Layers that a prompt goes through whole: in the model's last one only keys are stored, and one row of the
 * last chunk goes on. */
uint32_t nm_planner_whole_layers(const nm_planner *p);

/* Of a prompt, by chunk; ways[n_layers]. Without a prompt (n_chunks 0): nothing is written. */
npumoe_status nm_planner_schedule(const nm_planner *p, nm_way *const *ways, nm_prediction *out,
                                  npumoe_error *err);

/* < 0: no watts known. */
double nm_planner_joules(const nm_cost *c, const nm_prediction *x);

void nm_prediction_add(nm_prediction *sum, const nm_prediction *x);
/* A way as a layer of a plan, with all figures. On failure what was made stays, for nm_plan_free. */
npumoe_status nm_layer_fill(const nm_planner *p, const nm_layer_work *l, nm_way *w,
                            nm_plan_layer *out, npumoe_error *err);

/* ---- tiers ---------------------------------------------------------------------------------- */

/* w[m * n_items + e]: cost of item e at capacity m; cap[e]: what it costs otherwise (HUGE_VAL: nothing
 * else). Chooses at most k of n_grid; tiers ascending; returns how many. *total: the cost then. */
typedef struct nm_tiers_problem {
    uint32_t n_items, n_grid, k;
    const double *w, *cap;
} nm_tiers_problem;
npumoe_status nm_tiers_static(const npumoe_allocator *a, const nm_tiers_problem *t, uint32_t *tiers,
                              uint32_t *n_tiers, double *total, npumoe_error *err);

/* need[m]: how often the smallest sufficient capacity is m; cost[m]: of running m once. Each need is met
 * by the smallest chosen tier that is not below it; what is above the largest tier t costs
 * cost[t] + tail[t] in all, tail[m] being the cost of everything that m does not hold. */
uint32_t nm_tiers_cover(uint32_t n_grid, uint32_t k, const double *need, const double *cost,
                        const double *tail, uint32_t *tiers, double *total);

/* ---- makers --------------------------------------------------------------------------------- */

npumoe_status nm_planner_ours(nm_layer_work *l, npumoe_error *err);
/* A layer's structure under another policy, with all experts that it would ever place, groups in the
 * order in which they become resident. NULL and OK: nothing on the device. */
npumoe_status nm_planner_fixed(nm_layer_work *l, nm_plan_policy policy, nm_way **out,
                               npumoe_error *err);

/* One way per layer into out[n_layers], by popularity: of the fixed structure of the policy, or, for ours,
 * of its best way with every expert. Owner of out's: the caller. */
npumoe_status nm_planner_popular(const nm_planner *p, nm_layer_work *layers, nm_way **out,
                                 npumoe_error *err);

/* ---- the whole ------------------------------------------------------------------------------ */

/* choice[n_layers]: which way of each layer. The all-host way of every layer fits any budget. thorough: budgets of
 * thousands in all units, not only in those that count to their end, which takes up to 20 times as long. */
npumoe_status nm_planner_choose(const nm_planner *p, nm_layer_work *layers, uint32_t n_layers,
                                bool thorough, uint32_t *choice, npumoe_error *err);

/* What a prompt may take where host time is limited. */
typedef struct nm_planner_limits {
    double most_us, most_host_us;
} nm_planner_limits;

/* cpu_only: of the host alone. Without a limit anything is within. */
nm_planner_limits nm_planner_limits_of(double host_limit, const nm_prediction *cpu_only);
/* Whether one prompt is better than another: a quicker one, both being within the limits. Above the limit of host time, for one
 * percent less of that a prompt may take one percent longer: the very least of it could take any time. Slower than
 * the host alone is worse than any. */
bool nm_planner_is_better(const nm_planner_limits *m, double us, double host_us, double than_us,
                          double than_host_us);

/* The ways of all layers for the objective, out of their lists into out[n_layers]: the caller's. *limits: that they were chosen by. */
npumoe_status nm_planner_choose_ways(const nm_planner *p, nm_layer_work *layers, nm_way **out,
                                     nm_planner_limits *limits, npumoe_error *err);

/* Whether a plan with one chunk in flight may take the place of one with several. */
static inline bool nm_planner_tries_one(const nm_planner *p)
{
    enum { FEW_CHUNKS = 3 };
    return p->options.in_flight == 0 && p->n_chunks > 1 && p->n_chunks <= FEW_CHUNKS;
}

/* Numbers of attention programs worth a plan of their own, beside that which options with 0 get: returns how many. */
uint32_t nm_planner_attention_choices(const nm_planner *p, uint32_t chunks[NM_PLANNER_CHOICES]);

/* ---- chunks that are short (planner_last.c) ---------------------------------------------------- */

/* Loads of n rows of a chunk. Owner of *out: the caller, also after a failure. */
npumoe_status nm_planner_thin(const npumoe_allocator *a, const nm_loads *from, uint32_t n,
                              nm_loads *out, npumoe_error *err);
/* Fills p->last if the prompt has a last chunk that is short. */
npumoe_status nm_planner_last_new(nm_planner *p, npumoe_error *err);
void nm_planner_last_free(nm_planner *p);
/* Fills p->options.part_price with the price at which a prompt is quickest: of prompts that are whole chunks, one with half a
 * chunk more. */
npumoe_status nm_planner_choose_part_price(nm_planner *p, nm_way *const *ways,
                                           const nm_planner_limits *limits, npumoe_error *err);

/* Lower bounds in us: of each layer without budgets, of their sum with them. */
npumoe_status nm_planner_bound(const nm_planner *p, const nm_layer_work *layers, uint32_t n_layers,
                               double *layer_us, double *total_us, npumoe_error *err);

/* Takes off the device what nothing of the plan's prompt launches; no prediction of the prompt changes, but
 * that of one token, which is the host's. */
npumoe_status nm_planner_trim(nm_plan *plan, const nm_loads *loads, npumoe_error *err);

/* Fills plan->crossover. */
npumoe_status nm_planner_crossover(nm_plan *plan, const nm_loads *loads, npumoe_error *err);

#endif
