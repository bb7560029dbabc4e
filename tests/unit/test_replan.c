/* test_replan.c: another plan between requests, end to end on a tiny model and device tile: no other plan
 * without other loads, one that is predicted faster with them, no flapping between two kinds of prompts
 * that take turns, a device that fails while loading, sessions that live through all of it with the same
 * answers, the flag that turns it off. */
#include "engine/model.h"
#include "engine/session.h"
#include "moe/profile.h"
#include "support/plan_rig.h"
#include "support/synth.h"
#include "support/tiny.h"
#include "tap.h"

#include <jansson.h>
#include <limits.h>
#include <unistd.h>

enum { CHUNK = 32, N_PROMPT = 4 * CHUNK, N_VOCAB = 101, REQUESTS = 4 };

/* Order of fp32 sums only. */
#define NEAR 2e-5

typedef enum kind { TALES, CODE } kind;

/* Few different tokens, so that few experts have most of the rows. */
static void fill_prompt(npumoe_token *prompt, kind k, uint32_t seed)
{
    for (uint32_t i = 0; i < N_PROMPT; i++) {
        seed = seed * 1664525u + 1013904223u;
        prompt[i] = (npumoe_token)((k == TALES ? 1 : 60) + (seed >> 24) % 3);
    }
}

/* ---- a plan to begin with ---------------------------------------------------------------------- */

static nm_curve line(double base, double per_row)
{
    return (nm_curve){.n = 2, .rows = {1, 1024}, .us = {base, base + 1023 * per_row}};
}

static nm_cost make_cost(const nm_plan_model *m, uint32_t slots)
{
    nm_cost c = {.geometry = m->geometry,
                 .isa = "test",
                 .host_threads = 1,
                 .chunk = CHUNK,
                 .launch_us = 10,
                 .launch_host_us = 1,
                 .load_us_per_mb = 1000,
                 .host_watts = -1,
                 .device_watts = -1};
    c.host_expert = line(20, 10);
    c.device_expert = line(5, 0.6);
    c.gather = c.scatter = line(1, 0.1);
    c.host_layer = c.host_part[NM_PART_ATTENTION] = c.host_part[NM_PART_QKV] =
        c.host_part[NM_PART_O] = line(10, 0.1);
    c.device = synth_device(25000);
    c.device.shares_weights = true;
    c.device.slots = slots;
    return c;
}

/* Planned for loads that nobody has: only the first experts are busy. */
static char *make_plan(const npumoe_model *m, nm_plan_policy policy, uint32_t slots)
{
    const nm_plan_model model = plan_rig_model(m);
    const nm_cost cost = make_cost(&model, slots);
    const uint32_t n = model.geometry.n_expert, k = model.geometry.n_expert_used;
    uint32_t load[3][4 * 8];
    nm_layer_loads layers[3];
    const nm_loads loads = {
        .n_layers = 3, .n_expert = n, .n_scenarios = 4, .chunk = CHUNK, .layers = layers};
    nm_planner_options o = nm_planner_options_default();
    nm_plan *plan;
    npumoe_error err;
    char *json;
    if (model.n_layer != 3 || n != 8)
        bail("the tiny model has changed");
    for (uint32_t l = 0; l < 3; l++) {
        layers[l] = (nm_layer_loads){l, load[l]};
        for (uint32_t i = 0; i < 4 * n; i++)
            load[l][i] = i % n < k ? CHUNK : 0;
    }
    o.policy = policy;
    o.max_group = 2;
    o.max_capacities = 1;
    o.compare = false;
    o.in_flight = 2;
    if (nm_planner_make(nm_allocator_default(), &model, &loads, &cost, &o, &plan, &err) !=
            NPUMOE_OK ||
        nm_plan_print(plan, &json, &err) != NPUMOE_OK)
        bail("no plan: %s", err.message);
    nm_plan_free(&plan);
    return json;
}

/* ---- a model with a plan and a session that lives on --------------------------------------------- */

typedef struct bed {
    npumoe_model *model;
    npumoe_device *device;
    npumoe_session *session;
    char log[1024];
    uint32_t asked; /* requests so far: seeds */
} bed;

typedef struct bed_spec {
    nm_plan_policy policy;
    const char *debug;
    uint32_t slots;
    bool off;
} bed_spec;

static void remember(void *user, npumoe_log_level level, const char *text)
{
    bed *b = user;
    (void)level;
    const size_t at = strlen(b->log);
    snprintf(b->log + at, sizeof b->log - at, "%s", text);
}

static bed *bed_new(const bed_spec *spec)
{
    npumoe_error err;
    bed *b = calloc(1, sizeof *b);
    const uint32_t slots = spec->slots ? spec->slots : 3;
    npumoe_model_options mo = npumoe_model_options_default();
    npumoe_device_options dopt = npumoe_device_options_default();
    npumoe_plan_options po = npumoe_plan_options_default();
    npumoe_session_options so = npumoe_session_options_default();
    mo.precision = dopt.precision = NPUMOE_PRECISION_FP32;
    mo.n_threads = 2;
    dopt.slots = slots;
    dopt.debug_flags = spec->debug;
    if (npumoe_model_load(tiny_path(), &mo, &b->model, &err) != NPUMOE_OK ||
        npumoe_device_new(&dopt, &b->device, &err) != NPUMOE_OK)
        bail("%s", err.message);
    char *json = make_plan(b->model, spec->policy, slots);
    po.plan = json;
    po.plan_bytes = strlen(json);
    po.device = b->device;
    po.no_replan = spec->off;
    po.log = remember;
    po.log_user = b;
    so.type_k = so.type_v = NPUMOE_KV_F32;
    if (npumoe_model_use_plan(b->model, &po, &err) != NPUMOE_OK ||
        npumoe_session_new(b->model, &so, &b->session, &err) != NPUMOE_OK)
        bail("%s", err.message);
    npumoe_text_free(&json);
    return b;
}

static void bed_free(bed **b)
{
    npumoe_session_free(&(*b)->session);
    npumoe_model_free(&(*b)->model);
    npumoe_device_free(&(*b)->device);
    free(*b);
    *b = NULL;
}

static void ask(bed *b, const npumoe_token *prompt)
{
    npumoe_error err;
    nm_session_reset(b->session);
    if (npumoe_session_eval(b->session, prompt, N_PROMPT, NULL, &err) != NPUMOE_OK)
        bail("%s", err.message);
}

/* Requests of one kind, with a moment of rest after them. */
static npumoe_status requests(bed *b, kind k, npumoe_error *err)
{
    npumoe_token prompt[N_PROMPT];
    for (int i = 0; i < REQUESTS; i++) {
        fill_prompt(prompt, k, ++b->asked);
        ask(b, prompt);
    }
    return npumoe_plan_adapt(b->model, NULL, NULL, err);
}

static npumoe_plan_stats stats_of(const bed *b)
{
    npumoe_plan_stats s = {.struct_bytes = sizeof s};
    npumoe_plan_get_stats(b->model, &s);
    return s;
}

static uint32_t loaded(const bed *b)
{
    npumoe_device_info info = {.struct_bytes = sizeof info};
    npumoe_device_get_info(b->device, &info);
    return info.programs_loaded;
}

/* What the report says about re-planning: json_decref() it. */
static json_t *reported(const bed *b)
{
    npumoe_error err;
    char *text = NULL;
    if (npumoe_plan_report(b->model, &text, &err) != NPUMOE_OK)
        bail("%s", err.message);
    json_t *root = json_loads(text, 0, NULL), *r = json_object_get(root, "replanning");
    json_incref(r);
    json_decref(root);
    npumoe_text_free(&text);
    return r;
}

static int64_t number(const json_t *o, const char *key)
{
    return (int64_t)json_number_value(json_object_get(o, key));
}

static int count_events(const json_t *report, const char *outcome)
{
    const json_t *events = json_object_get(report, "events");
    int n = 0;
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *o = json_object_get(json_array_get(events, i), "outcome");
        n += json_is_string(o) && strcmp(json_string_value(o), outcome) == 0;
    }
    return n;
}

/* Of a device whose first plan has been exchanged; all events are still there. */
static void check_report(const bed *b)
{
    json_t *r = reported(b);
    const npumoe_plan_stats s = stats_of(b);
    const json_t *events = json_object_get(r, "events"), *e = json_array_get(events, 0);
    is_int(number(r, "chunks_seen"), (int64_t)s.n_chunks_seen, "report: chunks seen");
    is_int(number(r, "changes"), (int64_t)s.n_replans, "report: changes");
    is_int(count_events(r, "changed"), (int64_t)s.n_replans, "report: each is an event");
    is_int((int64_t)json_array_size(events), (int64_t)s.n_new_plans, "report: so is each plan");
    ok(number(r, "next_look") > number(e, "chunks_seen") && number(r, "window") <= 64,
       "report: the next look is after %d chunks", (int)number(r, "next_look"));
    ok(json_number_value(json_object_get(e, "gain")) > 0.05 && number(e, "programs_loaded") > 0 &&
           number(e, "chunks_seen") > 0 && number(e, "planning_us") > 0 &&
           number(e, "loading_us") > 0,
       "report: when, why, what it took");
    json_decref(r);
}

static double distance(const float *a, const float *b)
{
    double most = 0;
    for (int i = 0; i < N_VOCAB; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        most = d > most || isnan(d) ? d : most;
    }
    return most;
}

/* The answer to one prompt of the kind, without changing what was asked so far. */
static void answer(bed *b, kind k, float *logits)
{
    npumoe_token prompt[N_PROMPT];
    fill_prompt(prompt, k, 4711);
    ask(b, prompt);
    memcpy(logits, npumoe_session_logits(b->session), N_VOCAB * sizeof *logits);
}

static void cpu_answer(kind k, float *logits)
{
    npumoe_error err;
    npumoe_model_options mo = npumoe_model_options_default();
    npumoe_session_options so = npumoe_session_options_default();
    bed b = {0};
    mo.precision = NPUMOE_PRECISION_FP32;
    so.type_k = so.type_v = NPUMOE_KV_F32;
    so.n_chunk = CHUNK;
    if (npumoe_model_load(tiny_path(), &mo, &b.model, &err) != NPUMOE_OK ||
        npumoe_session_new(b.model, &so, &b.session, &err) != NPUMOE_OK)
        bail("%s", err.message);
    answer(&b, k, logits);
    npumoe_session_free(&b.session);
    npumoe_model_free(&b.model);
}

/* ---- tests --------------------------------------------------------------------------------------- */

/* Loads that the plan was not made for, then more of the same, then others. */
static void test_adapts(void)
{
    float cpu[2][N_VOCAB], before[N_VOCAB], after[N_VOCAB];
    npumoe_error err = {0};
    bed *b = bed_new(&(bed_spec){0});
    cpu_answer(TALES, cpu[TALES]);
    cpu_answer(CODE, cpu[CODE]);
    is_int(npumoe_plan_adapt(b->model, NULL, NULL, &err), NPUMOE_OK, "nothing was seen yet");
    answer(b, TALES, before);
    ok(distance(before, cpu[TALES]) < NEAR, "by the first plan: the CPU's answer");
    is_int(requests(b, TALES, &err), NPUMOE_OK, "adapts: %s", err.message);
    npumoe_plan_stats s = stats_of(b);
    is_int((int64_t)s.n_replans, 1, "loads that the plan was not made for: another plan");
    ok(s.drift > 0.05, "because it is predicted %.1f %% faster", 100 * s.drift);
    ok(s.n_programs_loaded > 0 && s.n_programs_unloaded > 0 && loaded(b) <= 3,
       "%d programs came, %d went, %d stayed", (int)s.n_programs_loaded, (int)s.n_programs_unloaded,
       (int)s.n_programs_kept);
    ok(strstr(b->log, "another plan") != NULL, "and the log says so: %s", b->log);
    answer(b, TALES, after);
    ok(distance(after, cpu[TALES]) < NEAR, "the old session gives the same answer (%.2g)",
       distance(after, before));
    const uint64_t changes = s.n_replans;
    for (int i = 0; i < 6; i++)
        requests(b, TALES, &err);
    s = stats_of(b);
    is_int((int64_t)s.n_replans, (int64_t)changes, "more of the same: no other plan");
    for (int i = 0; i < 6; i++)
        requests(b, CODE, &err);
    s = stats_of(b);
    ok(s.n_replans > changes, "other loads: another plan again (%d)", (int)s.n_replans);
    answer(b, CODE, after);
    ok(distance(after, cpu[CODE]) < NEAR, "and the CPU's answer (%.2g)",
       distance(after, cpu[CODE]));
    answer(b, CODE, before);
    ok(memcmp(before, after, sizeof after) == 0, "by one plan, the same bits");
    s = stats_of(b);
    ok(s.n_tokens == s.n_chunks_seen * CHUNK, "counters go on: %d tokens", (int)s.n_tokens);
    check_report(b);
    bed_free(&b);
}

static void test_does_not_flap(void)
{
    npumoe_error err = {0};
    bed *b = bed_new(&(bed_spec){0});
    uint64_t at_half = 0;
    for (int i = 0; i < 24; i++) {
        requests(b, i % 2 ? CODE : TALES, &err);
        if (i == 11)
            at_half = stats_of(b).n_replans;
    }
    const npumoe_plan_stats s = stats_of(b);
    ok(s.n_replans >= 1 && s.n_replans <= 3, "two kinds that take turns: %d plans in 24 turns",
       (int)s.n_replans);
    is_int((int64_t)s.n_replans, (int64_t)at_half, "and no more in the second half of them");
    bed_free(&b);
}

/* Bytes of the session that is there before any other plan is. */
static uint64_t scratch_bytes(bool off)
{
    npumoe_session_stats s = {.struct_bytes = sizeof s};
    bed *b = bed_new(&(bed_spec){.off = off});
    npumoe_session_get_stats(b->session, &s);
    bed_free(&b);
    return s.scratch_bytes;
}

/* The first plan shares no rows; the next one may, and then each chunk in flight has queries, keys and values that the
 * host computed while the other has its turn. */
static void test_room(void)
{
    const uint64_t with = scratch_bytes(false), without = scratch_bytes(true);
    ok(with > without, "sessions have room for plans that share rows: %d and %d bytes", (int)with,
       (int)without);
}

static void test_off(void)
{
    npumoe_error err = {0};
    bed *b = bed_new(&(bed_spec){.off = true});
    for (int i = 0; i < 3; i++)
        is_int(requests(b, TALES, &err), NPUMOE_OK, "off: nothing happens");
    npumoe_plan_stats s = stats_of(b);
    ok(s.n_replans == 0 && s.n_looks == 0 && s.n_chunks_seen == 0, "off: nothing is counted");
    json_t *r = reported(b);
    ok(json_is_null(r), "off: the report has null");
    json_decref(r);
    bed_free(&b);
    b = bed_new(&(bed_spec){.policy = NM_POLICY_NAIVE});
    requests(b, TALES, &err);
    s = stats_of(b);
    ok(s.n_launches > 0 && s.n_looks == 0, "policies to compare with stay as they are");
    bed_free(&b);
}

/* Loads of the device that the first plan needs. */
static uint32_t first_loads(void)
{
    bed *b = bed_new(&(bed_spec){0});
    const uint32_t n = loaded(b);
    bed_free(&b);
    return n;
}

static void test_failure(void)
{
    float cpu[N_VOCAB], before[N_VOCAB], after[N_VOCAB];
    npumoe_error err = {0};
    char debug[64];
    const uint32_t n = first_loads();
    cpu_answer(TALES, cpu);
    for (uint32_t at = 1; at <= 2; at++) {
        snprintf(debug, sizeof debug, "fail-load=%u", n + at);
        bed *b = bed_new(&(bed_spec){.debug = debug});
        answer(b, TALES, before);
        is_int(requests(b, TALES, &err), NPUMOE_EDEVICE, "load %u fails: %s", at, err.message);
        const npumoe_plan_stats s = stats_of(b);
        ok(s.n_replan_failures == 1 && s.n_replans == 0 && s.n_fallbacks == 0,
           "counted, and the old plan is whole");
        json_t *r = reported(b);
        is_int(count_events(r, "failed"), 1, "and reported");
        json_decref(r);
        is_int(loaded(b), n, "with all its programs");
        ok(strstr(b->log, "the old plan stays") != NULL, "the log says so: %s", b->log);
        answer(b, TALES, after);
        ok(memcmp(before, after, sizeof after) == 0, "the same bits as before");
        bed_free(&b);
    }
    snprintf(debug, sizeof debug, "fail-load=%u-1000", n + 1);
    bed *b = bed_new(&(bed_spec){.debug = debug});
    is_int(requests(b, TALES, &err), NPUMOE_EDEVICE, "nothing loads any more: %s", err.message);
    ok(stats_of(b).n_fallbacks > 0, "counted as what the host does now");
    answer(b, TALES, after);
    ok(distance(after, cpu) < NEAR, "and still the CPU's answer (%.2g)", distance(after, cpu));
    requests(b, CODE, &err);
    requests(b, CODE, &err);
    requests(b, CODE, &err);
    is_int((int64_t)stats_of(b).n_looks, 1, "a device that fails is not tried again");
    bed_free(&b);
}

/* Programs that both plans have are not loaded again. */
static void test_keeps(void)
{
    float cpu[N_VOCAB], now[N_VOCAB];
    npumoe_error err = {0};
    bed *b = bed_new(&(bed_spec){.slots = 8});
    requests(b, TALES, &err);
    requests(b, CODE, &err);
    for (int i = 0; i < 8; i++)
        requests(b, i % 2 ? CODE : TALES, &err);
    const npumoe_plan_stats s = stats_of(b);
    npumoe_device_info info = {.struct_bytes = sizeof info};
    npumoe_device_get_info(b->device, &info);
    ok(s.n_replans > 0 && s.n_programs_kept > 0 && info.programs_loaded <= 8,
       "%d plans: %d programs stayed, %d came, %d went", (int)s.n_replans, (int)s.n_programs_kept,
       (int)s.n_programs_loaded, (int)s.n_programs_unloaded);
    cpu_answer(CODE, cpu);
    answer(b, CODE, now);
    ok(distance(now, cpu) < NEAR, "and the CPU's answer (%.2g)", distance(now, cpu));
    bed_free(&b);
}

typedef struct listener {
    int asked, after; /* after: so many times it agrees */
    uint64_t done, total;
} listener;

static bool listen(void *user, uint64_t done, uint64_t total)
{
    listener *l = user;
    l->done = done;
    l->total = total;
    return ++l->asked <= l->after;
}

/* Planning that somebody ends: nothing changes, and the loads are looked at again. */
static void test_cancelled(void)
{
    float before[N_VOCAB], after[N_VOCAB];
    npumoe_token prompt[N_PROMPT];
    npumoe_error err = {0};
    bed *b = bed_new(&(bed_spec){.off = false});
    for (int i = 0; i < REQUESTS; i++) {
        fill_prompt(prompt, TALES, ++b->asked);
        ask(b, prompt);
    }
    answer(b, TALES, before);
    listener impatient = {.after = 1}, patient = {.after = INT_MAX};
    is_int(npumoe_plan_adapt(b->model, listen, &impatient, &err), NPUMOE_ECANCELED, "cancelled: %s",
           err.message);
    is_int(impatient.asked, 2, "at the second time of asking");
    npumoe_plan_stats s = stats_of(b);
    ok(s.n_looks == 1 && s.n_new_plans == 0 && s.n_replans == 0 && s.planning_seconds > 0,
       "cancelled: looked at, no plan made");
    ok(strstr(b->log, "another plan") == NULL, "cancelled: not a word in the log");
    answer(b, TALES, after);
    ok(memcmp(before, after, sizeof after) == 0, "cancelled: the same bits as before");
    is_int(npumoe_plan_adapt(b->model, listen, &patient, &err), NPUMOE_OK, "at once again: OK");
    is_int(patient.asked, 0, "but not looked at");
    for (int i = 0; i < REQUESTS; i++)
        ask(b, prompt);
    is_int(npumoe_plan_adapt(b->model, listen, &patient, &err), NPUMOE_OK, "later: %s",
           err.message);
    ok(patient.asked > 2 && patient.total == 3 && patient.done == 3,
       "all %d layers told of, %d times", (int)patient.done, patient.asked);
    is_int((int64_t)stats_of(b).n_replans, 1, "later: the plan that was not made then");
    bed_free(&b);
}

static bool adapt_inside(void *user, size_t position, const float *logits)
{
    npumoe_error err;
    bed *b = user;
    (void)position;
    (void)logits;
    b->asked = npumoe_plan_adapt(b->model, NULL, NULL, &err) == NPUMOE_EINVAL;
    return false;
}

static void test_inside(void)
{
    npumoe_token prompt[N_PROMPT];
    npumoe_error err;
    bed *b = bed_new(&(bed_spec){0});
    npumoe_eval_options o = npumoe_eval_options_default();
    o.on_logits = adapt_inside;
    o.user = b;
    fill_prompt(prompt, TALES, 1);
    npumoe_session_eval(b->session, prompt, N_PROMPT, &o, &err);
    is_int(b->asked, 1, "never inside a request");
    bed_free(&b);
}

int main(void)
{
    const tiny_spec t = tiny_default("olmoe");
    npumoe_error err;
    if (tiny_write(&t, tiny_path(), &err) != NPUMOE_OK)
        bail("%s", err.message);
    test_adapts();
    test_does_not_flap();
    test_room();
    test_off();
    test_failure();
    test_keeps();
    test_cancelled();
    test_inside();
    unlink(tiny_path());
    return done_testing();
}
