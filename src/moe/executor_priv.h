/* executor_priv.h: what the files of the executor share. executor.c: programs and memory;
 * exec_assign.c: which rows go where; exec_policy.c: prune and reroute; exec_run.c: launches;
 * exec_replace.c: another plan. */
#ifndef NM_MOE_EXECUTOR_PRIV_H
#define NM_MOE_EXECUTOR_PRIV_H

#include "moe/executor.h"

typedef struct exec_group {
    const nm_plan_group *plan;
    nm_program *programs[NM_PLAN_MAX_CAPACITIES]; /* NULL: not on the device */
    bool failed;
    struct exec_group *kept_from; /* the same group of the plan before, while that is replaced */
    bool kept[NM_PLAN_MAX_CAPACITIES]; /* its programs that were taken over from there */
} exec_group;

typedef struct exec_layer {
    const nm_plan_layer *plan;       /* NULL: nothing of this layer is planned */
    exec_group *groups;              /* [plan->n_groups] */
    nm_program *part[NM_COST_PARTS]; /* NULL: not on the device; attention's are the executor's */
    bool part_failed[NM_COST_PARTS];
    bool part_kept[NM_COST_PARTS]; /* as kept, of groups */
    nm_exec_counts counts;
} exec_layer;

/* A launch of this chunk: rows [from, from + capacity) of each of the group's experts; with group NULL
 * the shared expert's, which are all tokens. */
typedef struct exec_pass {
    exec_group *group;
    nm_program *program;
    uint32_t from, rows; /* rows that carry a token */
    uint32_t overflow;   /* of the group's first launch: rows beyond its capacity */
    int32_t slot;        /* of the buffers; -1 = not submitted */
    double us;           /* of device time, as predicted */
    uint64_t ticket;
    bool failed;
} exec_pass;

/* Bytes of a launch's buffers. */
typedef struct exec_size {
    size_t in, out;
} exec_size;

/* Buffers of one launch in flight. */
typedef struct exec_slot {
    nm_npu_buffer in, out;
    bool taken;
} exec_slot;

/* A launch of a part that is a stage of its own: QKV, attention, O. */
typedef struct exec_part {
    nm_program *program;
    uint32_t layer, n; /* rows that carry a token */
    nm_cost_part part;
    uint64_t ticket; /* 0 = not in flight */
    bool failed;
} exec_part;

typedef struct exec_lane {
    bool busy;
    uint64_t order;      /* lanes that began earlier submit first */
    uint32_t chunk_rows; /* of the chunk; the last layer may want fewer */
    nm_exec_input input;
    nm_dispatch dispatch; /* what is used: the input's, or own arrays after prune and reroute */
    uint32_t *own_first, *own_order, *own_ids; /* [n_expert + 1], [n_pairs], [n_pairs] */
    uint32_t *taken;                           /* [n_expert] rows that the device does */
    exec_pass *passes;                         /* [max_passes], in the order of the plan */
    uint32_t n_passes, submitted, done;
    float *acc; /* [n_tokens][n_embd], zeros between layers */
    bool acc_used;
    nm_npu_buffer rows, wide, out; /* executor.h, dense parts */
    exec_part linear, attention;
} exec_lane;

struct nm_executor {
    const npumoe_allocator *allocator;
    nm_executor_options o;
    uint32_t n_layer, n_embd, n_expert, n_used;
    exec_layer *layers;     /* [n_layer] */
    exec_group *groups;     /* of all layers */
    nm_program **attention; /* [n_attention] of chunk i; NULL: not on the device */
    bool *attention_kept;   /* [n_attention] as kept, of groups */
    uint32_t n_attention;
    exec_slot *slots;
    uint32_t n_slots; /* the largest first */
    uint32_t flying;  /* launches of groups in flight */
    double flying_us; /* their time, as predicted */
    exec_lane lanes[NM_EXEC_MAX_LANES];
    uint64_t begun;
    bool asks;         /* of every group whether it pays */
    double part_price; /* for the chunks that are short, of the run that goes on */
    uint32_t max_passes;
    uint32_t max_capacity; /* rows of the largest group capacity */
    uint32_t failed;
    uint32_t loaded;  /* programs that work */
    uint32_t refused; /* that could not be loaded */
    npumoe_error first_refusal;
    /* Scratch of one call. */
    uint32_t *loads;  /* [NM_PLAN_MAX_GROUP] */
    uint32_t *spare;  /* [n_expert] free rows, for reroute */
    uint32_t *rest;   /* [n_expert] the host's, of a slice */
    float *saliency;  /* [n_pairs] */
    uint32_t *picked; /* [n_pairs] */
    nm_dispatch lost; /* rows of failed launches */
    uint32_t *lost_first, *lost_order;
};

/* executor.c: rows of the part's program by that plan. */
uint32_t nm_exec_part_capacity(const nm_executor *ex, const nm_plan *plan,
                               const nm_plan_layer *layer, nm_cost_part part);
/* exec_assign.c: fills the lane's passes, taken and dispatch from its input. */
void nm_exec_assign(nm_executor *ex, exec_lane *lane);
/* Whether the part's program is there and faster than the host for so many rows, which may be more than it takes. */
bool nm_exec_part_pays(const nm_executor *ex, const exec_lane *lane, uint32_t layer,
                       nm_cost_part part, uint32_t rows);
/* exec_policy.c: make the lane's own dispatch. group_capacity[e]: rows the device takes of expert e in
 * this chunk, UINT32_MAX = e is the host's. */
void nm_exec_prune(nm_executor *ex, exec_lane *lane, const uint32_t *capacity);
void nm_exec_reroute(nm_executor *ex, exec_lane *lane, const uint32_t *capacity);

/* executor.c: an executor in steps: memory and which group is where; programs that are not there yet; and
 * the rest. Every one may be followed by nm_executor_free. */
npumoe_status nm_exec_create(const npumoe_allocator *a, const nm_executor_options *o,
                             nm_executor **out, npumoe_error *err);
npumoe_status nm_exec_bring(nm_executor *ex, npumoe_error *err);
npumoe_status nm_exec_complete(nm_executor *ex, npumoe_error *err);

/* executor.c: a launch of it failed; logged once, from now on the host's. */
void nm_exec_group_failed(nm_executor *ex, uint32_t layer, exec_group *g, const npumoe_error *why);
void nm_exec_part_failed(nm_executor *ex, uint32_t layer, nm_cost_part part,
                         const npumoe_error *why);

#endif
