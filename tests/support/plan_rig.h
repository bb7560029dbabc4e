/* plan_rig.h: prompts by plans made by hand, on the model at tiny_path(). */
#ifndef TESTS_SUPPORT_PLAN_RIG_H
#define TESTS_SUPPORT_PLAN_RIG_H

#include "engine/model.h"

enum { RIG_PROMPT = 210, RIG_CHUNK = 32, RIG_VOCAB = 101, RIG_MANY = 8 };

/* What is evaluated: plan_rig_start() writes tokens of all kinds. */
extern npumoe_token plan_rig_prompt[RIG_PROMPT];
void plan_rig_start(void);

typedef struct plan_spec {
    nm_overflow overflow;
    uint32_t capacity;        /* of all groups; 0 = a ladder of 16 and 32 */
    uint32_t group, n_groups; /* experts per group; the first n_groups * group experts */
    uint32_t in_flight;
    uint32_t crossover; /* 0 = 17 */
    bool parts;         /* QKV, attention, O and the shared expert on the device */
    uint32_t attention; /* chunks that have a program for it; 0 = RIG_MANY */
    uint32_t without;   /* bits of parts that stay on the host */
    uint32_t qkv_rows;  /* rows of these that the device takes, where it has them; 0 = all */
    uint32_t o_rows;
    uint64_t router_hash; /* not 0: another model's */
    uint32_t chunk;       /* 0 = RIG_CHUNK */
    bool slow_parts;      /* a device that takes 1.8 times as long as the host for whole parts */
    double host_us;       /* of one row of an expert; 0 = 10 */
    double part_price;    /* 0 = even */
    bool asks;            /* whether a group pays; else all that have a row are launched */
} plan_spec;

/* JSON, by the plan's own printer: what is tested goes the way that users' plans go. */
char *plan_rig_json(npumoe_model *m, const plan_spec *s);

typedef struct run_spec {
    plan_spec plan;
    npumoe_device_options device;
    bool require, lossy, no_plan;
    bool no_replan;
    int n_threads;
    uint32_t trace_events;
    uint32_t n_prompt, n_chunk; /* 0 = RIG_PROMPT, RIG_CHUNK */
    uint32_t n_first;           /* evaluated before; the rest of the prompt goes on from there */
    uint32_t logits_from;       /* of these tokens on; n_prompt: of the last one alone */
} run_spec;

typedef struct run {
    npumoe_status status;
    npumoe_error err;
    float logits[RIG_PROMPT][RIG_VOCAB];
    npumoe_plan_stats stats;
    long calls_in_eval;
    size_t n_past;
    uint64_t scratch_bytes; /* of the session */
    char *report, *trace, *log;
} run;

/* Writes the tiny model of that family, which all that follows runs. */
void plan_rig_family(const char *arch);
/* What a plan says of the model that it is for. */
nm_plan_model plan_rig_model(const npumoe_model *m);

/* A run by that plan, with two threads, a device in fp32 and all else as usual. */
run_spec plan_rig_run(const plan_spec *p);
/* These bail out where not even a model can be had, or where some memory does not come back. */
run *plan_rig_execute(const run_spec *s);
run *plan_rig_cpu(void); /* without a plan */
void plan_rig_free(run **r);

double plan_rig_difference(const run *a, const run *b); /* of logits, the largest */
bool plan_rig_same(const run *a, const run *b);         /* bits of logits */

#endif
