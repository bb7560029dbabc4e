/* test_drift.c: the window of seen loads: what counts, what it replaces, what it is divided into, and what
 * a plan for it is worth on chunks that it was not made from. */
#include "moe/drift.h"
#include "support/synth.h"
#include "tap.h"

enum { N_EXPERT = 16, N_LAYER = 3, CHUNK = 128, K = 2 };

static const uint32_t layer_numbers[N_LAYER] = {0, 2, 3}; /* 1 has no experts */

static nm_curve line(double base, double per_row)
{
    return (nm_curve){.n = 2, .rows = {1, 1024}, .us = {base, base + 1023 * per_row}};
}

static nm_cost make_cost(void)
{
    nm_cost c = {.geometry = {.n_embd = 64,
                              .n_ff = 32,
                              .n_expert = N_EXPERT,
                              .n_expert_used = K,
                              .n_head = 4,
                              .n_head_kv = 2,
                              .dim_k = 16,
                              .dim_v = 16},
                 .host_threads = 1,
                 .chunk = CHUNK,
                 .launch_us = 20,
                 .launch_host_us = 1,
                 .host_watts = -1,
                 .device_watts = -1};
    memcpy(c.isa, "test", 5);
    c.host_expert = line(20, 10);
    c.device_expert = line(5, 0.6);
    c.gather = c.scatter = line(1, 0.1);
    c.host_layer = c.host_part[NM_PART_ATTENTION] = line(10, 0.1);
    c.device = (nm_cost_device){.name = "tile",
                                .slots = 6,
                                .capacity_multiple = 16,
                                .capacity_min = 16,
                                .capacity_max = 1024,
                                .queue_depth = 64,
                                .program_bytes = UINT64_MAX,
                                .total_bytes = UINT64_MAX,
                                .expert_bytes = 1000,
                                .threads = 1};
    return c;
}

/* A plan that has what a window must know of it. */
static void bare_plan(nm_plan *plan, nm_plan_layer *layers)
{
    *plan = (nm_plan){.chunk = CHUNK, .n_layers = N_LAYER, .layers = layers};
    plan->model.geometry.n_expert = N_EXPERT;
    for (uint32_t i = 0; i < N_LAYER; i++)
        layers[i] = (nm_plan_layer){.layer = layer_numbers[i]};
}

static nm_drift *make_drift(void)
{
    nm_plan plan;
    nm_plan_layer layers[N_LAYER];
    nm_drift *d = NULL;
    npumoe_error err;
    bare_plan(&plan, layers);
    if (nm_drift_new(nm_allocator_default(), &plan, &d, &err) != NPUMOE_OK)
        bail("%s", err.message);
    return d;
}

/* One chunk of n tokens in which expert `busy` has all rows of the first slot, its neighbour of the
 * second. */
static void stage(nm_drift *d, uint32_t lane, uint32_t n, uint32_t busy)
{
    uint32_t first[N_EXPERT + 1] = {0};
    for (uint32_t e = 0; e < N_EXPERT; e++)
        first[e + 1] = first[e] + (e == busy || e == (busy + 1) % N_EXPERT ? n : 0);
    const nm_dispatch loads = {.n_expert = N_EXPERT, .n_pairs = K * n, .first = first};
    nm_drift_begin(d, lane, n);
    for (uint32_t i = 0; i < N_LAYER; i++)
        nm_drift_add(d, lane, layer_numbers[i], &loads);
    nm_drift_add(d, lane, 1, &loads);  /* not planned: ignored */
    nm_drift_add(d, lane, 77, &loads); /* no such layer */
}

static void chunks(nm_drift *d, uint32_t count, uint32_t busy)
{
    for (uint32_t i = 0; i < count; i++) {
        stage(d, i % NM_DRIFT_LANES, CHUNK, busy);
        nm_drift_end(d, i % NM_DRIFT_LANES);
    }
}

/* Chunks of the window in which the expert is busy. */
static uint32_t count_busy(const nm_drift *d, uint32_t busy)
{
    nm_loads parts[2];
    uint32_t n = 0;
    npumoe_error err;
    if (nm_drift_split(d, nm_allocator_default(), &parts[0], &parts[1], &err) != NPUMOE_OK)
        bail("%s", err.message);
    for (int i = 0; i < 2; i++) {
        for (uint32_t s = 0; s < parts[i].n_scenarios; s++)
            n += parts[i].layers[0].load[s * N_EXPERT + busy] == CHUNK &&
                 parts[i].layers[0].load[s * N_EXPERT + busy + 1] == CHUNK;
        nm_loads_free(nm_allocator_default(), &parts[i]);
    }
    return n;
}

static void test_what_counts(void)
{
    nm_drift *d = make_drift();
    nm_loads study, exam;
    npumoe_error err;
    nm_drift_request(d);
    stage(d, 0, CHUNK / 2 - 1, 3);
    nm_drift_end(d, 0);
    is_int((int64_t)nm_drift_seen(d), 0, "a chunk of less than half the length says nothing");
    stage(d, 0, CHUNK, 3);
    stage(d, 0, CHUNK, 3); /* the first was cancelled */
    stage(d, 1, CHUNK / 2, 3);
    nm_drift_end(d, 1);
    nm_drift_end(d, 0);
    nm_drift_end(d, 0);
    is_int((int64_t)nm_drift_seen(d), 2,
           "one that was not ended does not count, nor one ended twice");
    is_int(nm_drift_split(d, nm_allocator_default(), &study, &exam, &err), NPUMOE_EINVAL, "%s",
           err.message);
    chunks(d, NM_DRIFT_LEAST - 2, 3);
    is_int(count_busy(d, 3), NM_DRIFT_LEAST, "half a chunk is scaled to a whole one");
    is_int(nm_drift_split(d, nm_allocator_default(), &study, &exam, &err), NPUMOE_OK, "split");
    is_int(exam.n_scenarios, NM_DRIFT_LEAST / NM_DRIFT_EXAM, "every third chunk is kept back");
    is_int(study.n_scenarios + exam.n_scenarios, NM_DRIFT_LEAST, "the others are to plan with");
    ok(study.n_layers == N_LAYER && study.layers[1].layer == 2 && study.chunk == CHUNK,
       "layers have the model's numbers");
    nm_loads_free(nm_allocator_default(), &study);
    nm_loads_free(nm_allocator_default(), &exam);
    nm_drift_free(&d);
}

static void test_window(void)
{
    nm_drift *d = make_drift();
    nm_drift_request(d);
    chunks(d, NM_DRIFT_WINDOW + 10, 2);
    is_int(count_busy(d, 2), NM_DRIFT_WINDOW, "the first request may have all of it");
    nm_drift_request(d);
    chunks(d, 5, 7);
    is_int(count_busy(d, 7), 5, "the next one takes its place chunk by chunk");
    chunks(d, NM_DRIFT_WINDOW, 7);
    is_int(count_busy(d, 7), NM_DRIFT_WINDOW / 2, "up to half of the window");
    is_int(count_busy(d, 2), NM_DRIFT_WINDOW / 2, "so that the one before is not forgotten");
    nm_drift_request(d);
    chunks(d, NM_DRIFT_WINDOW, 2);
    is_int(count_busy(d, 2), NM_DRIFT_WINDOW / 2, "two that take turns share it");
    nm_drift_request(d);
    chunks(d, NM_DRIFT_WINDOW, 2);
    is_int(count_busy(d, 2), NM_DRIFT_WINDOW, "what stays the same has it after two requests");
    nm_drift_free(&d);
}

static void test_shift(void)
{
    nm_drift *d = make_drift();
    nm_drift_request(d);
    chunks(d, NM_DRIFT_LEAST, 2);
    ok(nm_drift_shift(d) >= 1.0, "before the first mark everything is new");
    nm_drift_mark(d);
    ok(fabs(nm_drift_shift(d)) < 1e-12, "no shift from itself");
    chunks(d, NM_DRIFT_LEAST, 2);
    ok(fabs(nm_drift_shift(d)) < 1e-12, "nor by more of the same");
    chunks(d, 2 * NM_DRIFT_LEAST, 9);
    const double half = nm_drift_shift(d);
    ok(fabs(half - 0.5) < 1e-9, "half of the window is different: %.3f", half);
    nm_drift_free(&d);
}

/* Loads of a chunk in which `hot` and the three after it have most rows. */
static void stage_skewed(nm_drift *d, uint32_t hot, synth_rng *rng)
{
    uint32_t load[N_EXPERT] = {0}, first[N_EXPERT + 1] = {0};
    for (uint32_t i = 0; i < K * CHUNK; i++) {
        uint32_t e;
        do
            e = synth_next(rng, 8) ? (hot + synth_next(rng, 4)) % N_EXPERT
                                   : synth_next(rng, N_EXPERT);
        while (load[e] == CHUNK);
        load[e]++;
    }
    for (uint32_t e = 0; e < N_EXPERT; e++)
        first[e + 1] = first[e] + load[e];
    const nm_dispatch loads = {.n_expert = N_EXPERT, .n_pairs = K * CHUNK, .first = first};
    nm_drift_begin(d, 0, CHUNK);
    for (uint32_t i = 0; i + 1 < N_LAYER; i++) /* the last one has no rows, as in prompts */
        nm_drift_add(d, 0, layer_numbers[i], &loads);
    nm_drift_end(d, 0);
}

static nm_plan *plan_for(const nm_drift *d, nm_loads *exam)
{
    const nm_cost cost = make_cost();
    nm_plan_model model = {.n_layer = 4, .geometry = cost.geometry};
    nm_planner_options o = nm_planner_options_default();
    nm_loads study;
    nm_plan *plan = NULL;
    npumoe_error err;
    o.compare = false;
    memcpy(model.architecture, "olmoe", 6);
    if (nm_drift_split(d, nm_allocator_default(), &study, exam, &err) != NPUMOE_OK ||
        nm_planner_make(nm_allocator_default(), &model, &study, &cost, &o, &plan, &err) !=
            NPUMOE_OK)
        bail("%s", err.message);
    nm_loads_free(nm_allocator_default(), &study);
    return plan;
}

static void test_judging(void)
{
    synth_rng rng = {20261121};
    nm_drift *tales = make_drift(), *code = make_drift();
    nm_loads exam_tales, exam_code, study;
    npumoe_error err;
    for (int i = 0; i < NM_DRIFT_WINDOW; i++) {
        stage_skewed(tales, 1, &rng);
        stage_skewed(code, 9, &rng);
    }
    nm_plan *present = plan_for(tales, &exam_tales), *same = NULL, *other = NULL;
    double before = 0, after = 0, again = 0;
    if (nm_drift_split(code, nm_allocator_default(), &study, &exam_code, &err) != NPUMOE_OK ||
        nm_drift_plan(nm_allocator_default(), present, &study, NULL, NULL, &other, &err) !=
            NPUMOE_OK)
        bail("%s", err.message);
    const nm_prediction promised = present->predicted;
    nm_drift_cost(present, &exam_code, &before, &err);
    nm_drift_cost(other, &exam_code, &after, &err);
    ok(after < 0.9 * before, "drift: a plan for the new loads is faster: %.0f, %.0f us", before,
       after);
    ok(memcmp(&promised, &present->predicted, sizeof promised) == 0, "judging changes no plan");
    ok(other->programs <= 6 && other->layers[N_LAYER - 1].n_groups == 0,
       "budgets hold, and a layer without rows takes nothing");
    nm_loads_free(nm_allocator_default(), &study);
    nm_loads_free(nm_allocator_default(), &exam_code);
    if (nm_drift_split(tales, nm_allocator_default(), &study, &exam_code, &err) != NPUMOE_OK ||
        nm_drift_plan(nm_allocator_default(), present, &study, NULL, NULL, &same, &err) !=
            NPUMOE_OK)
        bail("%s", err.message);
    nm_drift_cost(present, &exam_tales, &before, &err);
    nm_drift_cost(same, &exam_tales, &again, &err);
    ok(fabs(again - before) < 0.02 * before, "no drift: nothing to gain: %.0f, %.0f us", before,
       again);
    nm_loads_free(nm_allocator_default(), &study);
    nm_loads_free(nm_allocator_default(), &exam_code);
    nm_loads_free(nm_allocator_default(), &exam_tales);
    nm_plan_free(&present);
    nm_plan_free(&same);
    nm_plan_free(&other);
    nm_drift_free(&tales);
    nm_drift_free(&code);
}

int main(void)
{
    test_what_counts();
    test_window();
    test_shift();
    test_judging();
    return done_testing();
}
