/* synth.h: made-up models, loads and cost tables for tests of plans. */
#ifndef TESTS_SUPPORT_SYNTH_H
#define TESTS_SUPPORT_SYNTH_H

#include "moe/planner.h"

/* A generator of its own, so that a test prints one seed. */
typedef struct synth_rng {
    uint64_t state;
} synth_rng;

uint32_t synth_next(synth_rng *r, uint32_t below); /* 0 .. below - 1 */
double synth_unit(synth_rng *r);                   /* 0 .. 1 */

typedef struct synth_shape {
    uint32_t n_layers, n_expert, k, chunk, n_scenarios;
    double zipf; /* popularity of the i-th expert ~ 1 / (i + 1)^zipf */
    double vary; /* how much chunks differ: factor exp(vary * normal) per chunk and expert */
} synth_shape;

/* k * chunk pairs per scenario, an expert at most chunk; another order of experts in each layer. */
bool synth_loads(const synth_shape *shape, synth_rng *r, nm_loads *out);

/* OLMoE's geometry (2048 x 1024, Q4_K) with n_expert experts. */
nm_plan_model synth_model(uint32_t n_layers, uint32_t n_expert, uint32_t k);

/* A device of one thread without limits of slots and bytes. */
nm_cost_device synth_device(uint64_t expert_bytes);

/* Times like those of one core with AVX-512 and one with AMX: host expert 60 us + 12 us per row, device
 * some 4 us per row; launches of launch_us. Slots and bytes without limit. */
nm_cost synth_cost(const nm_plan_model *model, uint32_t chunk, double launch_us);

/* A model, what its experts are loaded with, and what that costs. */
typedef struct synth_setting {
    nm_plan_model model;
    nm_loads loads;
    nm_cost cost;
} synth_setting;

bool synth_make(const synth_shape *shape, synth_rng *r, double launch_us, synth_setting *out);
void synth_free(synth_setting *x);

/* What the planner makes of it; where that fails, the test program ends. Owner: the caller. */
nm_plan *synth_plan_with(const synth_setting *x, const nm_planner_options *o);
/* For prompts of so many tokens, by default options: beside the other policies, or without a look at them. */
nm_plan *synth_plan(const synth_setting *x, uint32_t n_prompt, uint32_t in_flight);
nm_plan *synth_plan_alone(const synth_setting *x, uint32_t n_prompt, uint32_t in_flight);

/* A device that takes so many times as long as the host for whatever it does; parts of chunks of that length. */
void synth_slow(nm_cost *c, uint32_t chunk, double factor, bool attention);

#endif
