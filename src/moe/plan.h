/* plan.h: a placement of one model's experts on one device, with what it is predicted to cost.
 *
 * A plan says, for chunks of `chunk` tokens, which experts of which layer run as which programs. It
 * is made by the planner (planner.h) from a profile and a cost table, read by the executor, shown by
 * `npumoe explain`. It holds no weights and knows no file of a model, only the key of the model it is
 * for: the hash of its routers, its geometry, and the types of its expert weights, because a prediction
 * for Q4_K is not one for BF16.
 *
 *     plan
 *       layer 0                          experts in no group run on the host
 *         group 0   experts 17 3 40 ..   capacities 64            one program, one launch per chunk
 *         group 1   experts 5 22 ..      capacities 16 32 64      three programs of the same weights
 *         parts     qkv 640 rows, attention device, o host, shared device
 *       layer 1 ...
 *
 * A GROUP is a set of experts that go to the device in one launch: slice i of its program holds the
 * first C rows of expert experts[i]. It has one or more CAPACITIES, each a program of its own: at run
 * time the host takes the smallest that holds the group's busiest expert, or the largest. One capacity
 * is the static tier of NPUMoE; five of one expert each are the ladder of OpenVINO's NPUW; what lies
 * between them is for the planner to find. nm_plan_pick() is this choice; planner and executor both
 * call it, so that a prediction cannot differ from what runs. A group of which no expert has a row is
 * not launched, nor one whose rows the host computes for less than the launch is worth:
 * nm_plan_launch_pays(), again for both.
 *
 * ATTENTION programs have no weights, so all layers share them, one for each number of positions: chunk i of
 * those that begin at multiples of `chunk` ends at position (i + 1) chunk and takes program i, if i is below
 * attention_chunks. Later chunks attend on the host.
 *
 * A PART may be shared by rows: of QKV and O the device may take the first part_rows rows of a chunk, and the host the
 * others at the same time. Then the part's program has that capacity, else the chunk rounded up.
 *
 * Rows above the largest capacity are the plan's overflow policy's: SPILL gives them to the host while
 * the device runs, REPASS launches the group again with what is left (both exact); PRUNE and REROUTE
 * lose or move pairs and are there to be compared with.
 *
 * A plan is valid (nm_plan_check, called by load and by the planner on its own work) when
 *   - layers ascend and are below n_layer; groups hold 1 .. max_group experts, an expert is in at
 *     most one group of its layer;
 *   - capacities ascend strictly, are multiples of device.capacity_multiple, within capacity_min ..
 *     min(capacity_max, chunk rounded up to the multiple); a layer has at most n_tiers different ones
 *     (ladder and naive bring their own);
 *   - of parts only QKV and O have rows, where they are on the device: multiples of device.capacity_multiple,
 *     from capacity_min on, at most capacity_max, fewer than the chunk rounded up;
 *   - programs <= device.slots, bytes <= device.total_bytes, each program <= device.program_bytes.
 *     One program per capacity and group, and per part but attention; attention_chunks programs of that for
 *     all layers together, if one of them has it on the device, else 0; bytes count weights once per group
 *     where the device shares them, else once per program;
 *   - device "cpu" has no groups and no parts; ladders (more than one capacity) have SPILL or REPASS;
 *   - every number is finite and in range; what a chunk takes by plan, and the host alone, is more than nothing.
 *
 * Whether it is valid for a model is another question, nm_plan_fits(). Both speak of what was found
 * and what was expected. JSON: schema "npumoe-plan", docs/plan.md; written by nm_plan_print, whose
 * order of keys and digits is fixed, so that equal plans are equal files. */
#ifndef NM_MOE_PLAN_H
#define NM_MOE_PLAN_H

#include "moe/cost.h"
#include "moe/expert_types.h"

#define NM_PLAN_MAX_CHUNK 16384u
#define NM_PLAN_MOST_US   1e15 /* of any prediction */

enum {
    NM_PLAN_MAX_CAPACITIES = 8, /* of one group */
    NM_PLAN_MAX_GROUP = 256,    /* experts */
    NM_PLAN_MAX_REJECTED = 12,  /* per layer and for the whole plan */
    NM_PLAN_MAX_ATTENTION = 4096,
    NM_PLAN_MAX_IN_FLIGHT = 4, /* chunks */
    NM_PLAN_WORDS = 96
};

typedef enum nm_plan_policy {
    NM_POLICY_OURS,
    NM_POLICY_PAPER,
    NM_POLICY_LADDER,
    NM_POLICY_NAIVE,
    NM_POLICY_CPU,
    NM_POLICY_END
} nm_plan_policy;

typedef enum nm_overflow {
    NM_OVERFLOW_SPILL,
    NM_OVERFLOW_REPASS,
    NM_OVERFLOW_PRUNE,
    NM_OVERFLOW_REROUTE,
    NM_OVERFLOW_END
} nm_overflow;

typedef enum nm_objective {
    NM_OBJECTIVE_LATENCY,
    NM_OBJECTIVE_ENERGY,
    NM_OBJECTIVE_CPU,
    NM_OBJECTIVE_END
} nm_objective;

/* "ours", "spill", "latency" ...; NULL past the end. */
const char *nm_plan_policy_name(nm_plan_policy p);
const char *nm_overflow_name(nm_overflow o);
/* Whether it changes results. */
static inline bool nm_overflow_is_lossy(nm_overflow o)
{
    return o == NM_OVERFLOW_PRUNE || o == NM_OVERFLOW_REROUTE;
}
const char *nm_objective_name(nm_objective o);

/* Expectations for one chunk of `chunk` tokens, per layer or summed over layers. */
typedef struct nm_prediction {
    double us;        /* wall time: what overlaps counted once */
    double host_us;   /* host at work: everything that is not waiting for the device */
    double device_us; /* device busy */
    double wait_us;   /* host waiting for the device */
    double launches;
    double rows;     /* (token, expert) pairs on the device */
    double padding;  /* computed rows that carry no token */
    double overflow; /* rows above a capacity, of experts on the device */
    double dropped;  /* of them lost: PRUNE */
    double joules;   /* < 0: no watts known */
} nm_prediction;

typedef struct nm_plan_group {
    uint32_t n_experts, n_capacities;
    uint32_t *experts;                                   /* slice order; owned by the plan */
    uint32_t capacities[NM_PLAN_MAX_CAPACITIES];         /* ascending */
    double launches, rows, padding, overflow, device_us; /* predicted, per chunk */
    double
        host_saved_us; /* host time that these experts would take there, in chunks that launch it */
} nm_plan_group;

/* A choice that was looked at and lost. */
typedef struct nm_plan_rejected {
    char what[NM_PLAN_WORDS]; /* "all experts on the host", "static tiers 64 128, groups of 8" */
    double us, host_us, device_us;
    uint32_t programs;
    uint64_t bytes;
    bool too_large; /* it was better, and did not fit the budgets */
} nm_plan_rejected;

typedef struct nm_plan_layer {
    uint32_t layer;                    /* number in the model */
    nm_expert_types types;             /* that it was made for; not known: whatever the file has */
    bool on_device[NM_COST_PARTS];     /* by nm_cost_part */
    uint32_t part_rows[NM_COST_PARTS]; /* of a whole chunk, the first ones: the device's; 0 = all */
    uint32_t n_groups;
    nm_plan_group *groups; /* in launch order; owned by the plan */
    uint32_t programs;     /* slots */
    uint64_t bytes;
    double price; /* of device time where host time costs 1 - price; < 0: every group that has a row
                     is launched */
    nm_prediction predicted;
    double bound_us; /* no plan within the rules is predicted faster for this layer */
    uint32_t n_rejected;
    nm_plan_rejected rejected[NM_PLAN_MAX_REJECTED];
} nm_plan_layer;

/* Which model: what must be equal for a plan to be used with it. */
typedef struct nm_plan_model {
    char name[NM_PLAN_WORDS]; /* for messages; need not be equal */
    char architecture[NM_COST_NAME];
    uint64_t router_hash;
    uint32_t n_layer;
    nm_cost_geometry geometry;
} nm_plan_model;

typedef struct nm_plan {
    const npumoe_allocator *allocator;
    nm_plan_policy policy;
    nm_overflow overflow;
    nm_objective objective;
    double host_limit; /* most host time asked for, as a share of the host alone; 0 = any */
    nm_plan_model model;
    uint32_t chunk;     /* T that capacities are for */
    uint32_t in_flight; /* chunks at a time that the prediction assumes */
    uint32_t
        n_prompt;    /* tokens of the prompt that is predicted, by chunk; 0 = chunks without end */
    uint32_t n_past; /* tokens before it */
    double part_price; /* parts of a short chunk among others: nm_cost_short.price */
    uint32_t n_tiers, max_group;
    uint32_t max_capacities; /* of a group; 1 = static tiers */
    uint32_t
        crossover; /* the fewest tokens of a prompt that is predicted to be faster than on the host
                           alone, something being launched; may be several chunks; UINT32_MAX = none
                           that was tried */
    nm_cost cost;  /* embedded; cost.device has the budgets as the user set them */
    uint32_t n_layers; /* that have experts */
    nm_plan_layer *layers;
    uint32_t attention_chunks; /* whose attention has a program */
    uint32_t programs;
    uint64_t bytes;
    nm_prediction
        predicted; /* of as many rows as a chunk has: the mean over the prompt (planner_schedule.c) */
    nm_prediction cpu_only; /* the same without a device, for comparison */
    double bound_us, gap;   /* predicted.us / bound_us - 1 */
    uint32_t n_rejected;
    nm_plan_rejected rejected[NM_PLAN_MAX_REJECTED]; /* whole plans: the other policies */
} nm_plan;

void nm_plan_free(nm_plan **plan);

/* How the executor keeps host and device busy, and the planner foresees it. */
enum {
    NM_PLAN_SLICE_US =
        8000,          /* of the host's experts between two looks at the device, as predicted */
    NM_PLAN_AHEAD = 2, /* launches that are in flight at least, if there are any */
    NM_PLAN_AHEAD_US = 8000 /* and what they take, beyond the time until the host looks again */
};

#define NM_PLAN_EQUAL 1e-9 /* a share of time that is none: sums are rounded */

/* What such a share is, for a prompt that takes the host alone so long. */
static inline double nm_plan_most_host_us(double host_limit, double cpu_only_us)
{
    return host_limit > 0.0 ? host_limit * cpu_only_us * (1.0 + NM_PLAN_EQUAL) : NM_PLAN_MOST_US;
}

/* Which of a group's programs runs when its busiest expert has `load` rows: an index into
 * capacities. */
static inline uint32_t nm_plan_pick(const nm_plan_group *g, uint32_t load)
{
    uint32_t i = 0;
    while (i + 1 < g->n_capacities && g->capacities[i] < load)
        i++;
    return i;
}

/* Whether to launch a group: load[i] rows of its i-th expert, in this chunk. */
bool nm_plan_launch_pays(const nm_plan *plan, const nm_plan_layer *layer, const nm_plan_group *g,
                         const uint32_t *load);

/* Layers that predicted and cpu_only count whole: of a prompt all but the model's last. */
uint32_t nm_plan_whole_layers(const nm_plan *plan);

/* Attention of `chunk` queries after n_past tokens, on the device or not. */
double nm_plan_attention(const nm_plan *plan, bool on_device, uint64_t n_past);

/* Rows of a part's program, on a device with that step of capacities. */
uint32_t nm_plan_part_capacity(const nm_plan *plan, const nm_plan_layer *layer, nm_cost_part part,
                               uint32_t step);
/* Whether in some layer host and device share this part by rows. */
bool nm_plan_shares_part(const nm_plan *plan, nm_cost_part part);

/* Slots and bytes that a group takes on the plan's device. */
uint32_t nm_plan_group_programs(const nm_plan_group *g);
uint64_t nm_plan_group_bytes(const nm_cost *cost, const nm_plan_group *g);

/* What a layer takes on the plan's device: programs, each of them a slot, and bytes, of weights as they are kept there. Counted
 * are its groups and its dense parts, a program for each part. Programs of attention are not: all layers share them
 * (attention_chunks), so whoever adds layers up adds them once. false, and nothing written: more bytes than 64 bits hold. */
bool nm_plan_count_layer(const nm_cost *cost, const nm_plan_layer *layer, uint32_t *programs,
                         uint64_t *bytes);

/* The invariants above. EFORMAT, with layer and group. */
npumoe_status nm_plan_check(const nm_plan *plan, npumoe_error *err);

/* For the model, the device and the chunk at hand? EMODEL or EUNSUPPORTED; the message has found and
 * expected. device NULL and chunk 0: not asked. A shorter chunk than the plan's is fine, and so is a device with
 * less room than planned: what it does not take when programs are loaded is the host's, or an error there. */
npumoe_status nm_plan_fits(const nm_plan *plan, const nm_plan_model *model,
                           const nm_cost_device *device, uint32_t chunk, npumoe_error *err);

/* Text of JSON to a checked plan, and back; owner: the caller. EFORMAT names key and byte. */
npumoe_status nm_plan_parse(const npumoe_allocator *a, const char *json, size_t json_bytes,
                            nm_plan **out, npumoe_error *err);
npumoe_status nm_plan_print(const nm_plan *plan, char **json, npumoe_error *err);
/* Which plan it is, in 16 hex digits: FNV-1a of what nm_plan_print writes. A plan that was parsed has the one of every file that it
 * is printed to. */
npumoe_status nm_plan_identity(const nm_plan *plan, char out[17], npumoe_error *err);

#endif
