/* test_plan_rows.c: QKV and O shared by rows between device and host. All parts are on the device and all experts on
 * the host, so in fp32 the answer has the CPU path's bits: whoever has which rows, attends or fails, in whatever time and
 * order, with however many chunks in flight. Then what is counted, what the memory is, other plans, and allocations that
 * fail. */
#include "engine/model.h"
#include "engine/session.h"
#include "support/counting.h"
#include "support/plan_rig.h"
#include "support/tiny.h"
#include "tap.h"

#include <jansson.h>
#include <limits.h>
#include <unistd.h>

enum { ROWS = 16 };

/* Order of fp32 sums only: logits are of order 1. */
#define NEAR 2e-5

/* Which side has a part. */
typedef enum side { HOST, DEVICE, BOTH } side;

static const char *const sides[] = {"the host's", "the device's", "shared"};

static plan_spec parts_only(side qkv, side o, bool attends)
{
    plan_spec p = {.capacity = 16, .group = 1, .in_flight = 1, .parts = true, .crossover = 2};
    p.qkv_rows = qkv == BOTH ? ROWS : 0;
    p.o_rows = o == BOTH ? ROWS : 0;
    p.without = (qkv == HOST ? 1u << NM_PART_QKV : 0u) | (o == HOST ? 1u << NM_PART_O : 0u) |
                (attends ? 0u : 1u << NM_PART_ATTENTION) | 1u << NM_PART_SHARED;
    return p;
}

/* Runs s, by plan or not; the same bits as `as`? */
static void same(const run_spec *s, const run *as, const char *what)
{
    run *r = plan_rig_execute(s);
    ok(r->status == NPUMOE_OK && plan_rig_same(r, as), "%s: the same bits (%.2g) %s", what,
       plan_rig_difference(r, as), r->err.message);
    is_int(r->calls_in_eval, 0, "%s: evaluating allocates nothing", what);
    plan_rig_free(&r);
}

/* ---- whoever has which rows -------------------------------------------------------------------- */

static void test_sides(const char *arch, const run *cpu)
{
    static const side pairs[][2] = {
        {BOTH, HOST}, {BOTH, DEVICE}, {HOST, BOTH}, {DEVICE, BOTH}, {BOTH, BOTH}};
    static const uint32_t lanes[] = {1, 2, 4};
    char what[160];
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        for (int attends = 0; attends < 2; attends++)
            for (size_t j = 0; j < sizeof lanes / sizeof lanes[0]; j++) {
                const plan_spec p = parts_only(pairs[i][0], pairs[i][1], attends != 0);
                run_spec s = plan_rig_run(&p);
                s.plan.in_flight = lanes[j];
                s.n_threads = attends ? 1 : 3;
                s.device.debug_flags = lanes[j] > 1 ? "late=5" : NULL;
                snprintf(what, sizeof what, "%s: QKV %s, O %s, %s attends, %u in flight", arch,
                         sides[pairs[i][0]], sides[pairs[i][1]],
                         attends ? "the device" : "the host", lanes[j]);
                same(&s, cpu, what);
            }
}

/* With experts on the device, too, sums have another order than the CPU's: that of the same plan without rows. */
static void test_with_experts(const char *arch)
{
    plan_spec p = {.overflow = NM_OVERFLOW_REPASS,
                   .capacity = 16,
                   .group = 2,
                   .n_groups = 3,
                   .in_flight = 2,
                   .parts = true};
    run_spec s = plan_rig_run(&p);
    run *whole = plan_rig_execute(&s);
    s.plan.qkv_rows = s.plan.o_rows = ROWS;
    for (s.plan.in_flight = 1; s.plan.in_flight <= NM_PLAN_MAX_IN_FLIGHT; s.plan.in_flight++)
        for (s.n_threads = 1; s.n_threads <= 3; s.n_threads += 2) {
            char what[96];
            snprintf(what, sizeof what, "%s: with experts, %u in flight, %d threads", arch,
                     s.plan.in_flight, s.n_threads);
            same(&s, whole, what);
        }
    plan_rig_free(&whole);
}

/* ---- whatever rows there are ------------------------------------------------------------------- */

/* Last chunks of fewer rows than the program has, of just as many, of one more; prompts that go on after a few tokens, so
 * that chunks begin elsewhere; rows of the last layer that nobody wants: some of the device's, all of these and some of
 * the host's, all but one. */
static void test_lengths(const char *arch)
{
    static const struct {
        uint32_t n, first, from;
    } cases[] = {{3 * RIG_CHUNK + 2, 0, 0},
                 {3 * RIG_CHUNK + ROWS, 0, 0},
                 {3 * RIG_CHUNK + ROWS + 1, 0, 0},
                 {3 * RIG_CHUNK + 5, 10, 0},
                 {RIG_PROMPT, 75, 0},
                 {RIG_PROMPT, 2 * RIG_CHUNK, 0},
                 {4 * RIG_CHUNK, 0, 3 * RIG_CHUNK + 5},
                 {4 * RIG_CHUNK, 0, 3 * RIG_CHUNK + ROWS},
                 {4 * RIG_CHUNK, 0, 2 * RIG_CHUNK + ROWS + 9},
                 {4 * RIG_CHUNK, 0, 4 * RIG_CHUNK},
                 {3 * RIG_CHUNK + 7, 0, 3 * RIG_CHUNK + 7}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const plan_spec p = parts_only(BOTH, BOTH, false);
        run_spec s = plan_rig_run(&p);
        s.n_prompt = cases[i].n;
        s.n_first = cases[i].first;
        s.logits_from = cases[i].from;
        s.no_plan = true;
        run *cpu = plan_rig_execute(&s);
        s.no_plan = false;
        for (int j = 0; j < 4; j++) {
            char what[128];
            s.plan = parts_only(BOTH, BOTH, j % 2 != 0);
            s.plan.in_flight = j < 2 ? 1 : 3;
            snprintf(what, sizeof what, "%s: %u tokens after %u, logits from %u on, %s attends",
                     arch, cases[i].n, cases[i].first, cases[i].from,
                     j % 2 ? "the device" : "the host");
            same(&s, cpu, what);
        }
        plan_rig_free(&cpu);
    }
}

/* ---- devices that fail ------------------------------------------------------------------------- */

static void test_failures(const run *cpu)
{
    char flags[48];
    for (int attends = 0; attends < 2; attends++)
        for (int submits = 0; submits < 2; submits++)
            for (int at = 1; at <= 12; at++) {
                const plan_spec p = parts_only(BOTH, BOTH, attends != 0);
                run_spec s = plan_rig_run(&p);
                snprintf(flags, sizeof flags, "fail-%s=%d", submits ? "submit" : "launch", at);
                s.device.debug_flags = flags;
                s.plan.in_flight = 1 + (uint32_t)at % 3;
                run *r = plan_rig_execute(&s);
                ok(r->status == NPUMOE_OK && plan_rig_same(r, cpu), "%s: the same bits (%.2g)",
                   flags, plan_rig_difference(r, cpu));
                is_int((int64_t)r->stats.n_failures, 1, "%s: counted", flags);
                plan_rig_free(&r);
                s.require = true;
                r = plan_rig_execute(&s);
                is_int(r->status, NPUMOE_EDEVICE, "%s, required: %s", flags, r->err.message);
                plan_rig_free(&r);
            }
    static const char *const more[] = {"fail-load=1", "fail-load=2-3", "fail-launch=3-40",
                                       "fail-submit=2-90", "fail-load=9-14"};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        const plan_spec p = parts_only(BOTH, BOTH, true);
        run_spec s = plan_rig_run(&p);
        s.device.debug_flags = more[i];
        s.plan.in_flight = 2;
        same(&s, cpu, more[i]);
    }
}

/* A quarter of the rows: the chunk's queries need more room than all that the device's QKV brings. */
static void test_few_rows(const run *cpu)
{
    plan_spec p = parts_only(BOTH, BOTH, true);
    p.chunk = 4 * ROWS;
    run_spec s = plan_rig_run(&p);
    s.n_chunk = p.chunk;
    run *r = plan_rig_execute(&s);
    ok(r->status == NPUMOE_OK && plan_rig_same(r, cpu), "a quarter of the rows: the same bits");
    is_int((int64_t)r->stats.n_failures, 0, "no launch is refused");
    plan_rig_free(&r);
}

/* Attention fails, and O with it: nobody wants what O brings, 5 ms later, and yet its place in the queue must come back:
 * there are two. */
static void test_short_queue(const run *cpu)
{
    for (uint32_t in_flight = 1; in_flight <= 2; in_flight++) {
        const plan_spec p = parts_only(BOTH, BOTH, true);
        run_spec s = plan_rig_run(&p);
        s.device.debug_flags = "fail-launch=2-5";
        s.device.queue_depth = 2;
        s.device.launch_us = 5000;
        s.plan.in_flight = in_flight;
        same(&s, cpu, "a queue of two, attention fails");
    }
}

/* A device that is slower than the host: whole chunks go as the plan says, which knew why, three layers with two parts. A
 * short one goes where others are in flight and the plan has made the device cheap. */
static void test_slow_device(const run *cpu)
{
    enum { WHOLE = 3 * 2 * 6, ALL = 3 * 2 * 7 };
    static const struct {
        side of;
        uint32_t in_flight;
        double price;
        int launches;
        uint32_t chunk; /* of the session; 0 = the plan's */
    } cases[] = {{BOTH, 1, 0.5, WHOLE, 0},
                 {BOTH, 3, 0.37, ALL, 0}, /* of all 18 rows that the host would have, not of 16 */
                 {DEVICE, 1, 0.5, WHOLE, 0},
                 {DEVICE, 1, 0.2, WHOLE, 0},
                 {DEVICE, 3, 0.5, WHOLE, 0},
                 {DEVICE, 3, 0.2, ALL, 0},
                 /* all chunks are short, which is not what the price is for */
                 {DEVICE, 3, 0.2, 0, RIG_CHUNK / 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const plan_spec p = parts_only(cases[i].of, cases[i].of, false);
        run_spec s = plan_rig_run(&p);
        s.plan.slow_parts = true;
        s.plan.in_flight = cases[i].in_flight;
        s.plan.part_price = cases[i].price;
        s.n_chunk = cases[i].chunk;
        run *r = plan_rig_execute(&s);
        is_int(r->status, NPUMOE_OK, "a slow device: %s", r->err.message);
        is_int((int64_t)r->stats.n_part_launches, cases[i].launches,
               "... launches, parts %s, %u in flight, price %g", sides[cases[i].of],
               cases[i].in_flight, cases[i].price);
        ok(plan_rig_same(r, cpu), "... the same bits");
        plan_rig_free(&r);
    }
}

/* ---- what is said of it ------------------------------------------------------------------------ */

/* Events of the trace of so many rows: launches of a part, or stages of the host. */
static int events_of(const run *r, nm_trace_track track, const char *name, int rows)
{
    json_t *root = json_loads(r->trace, 0, NULL), *events = json_object_get(root, "traceEvents");
    int n = 0;
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *e = json_array_get(events, i), *args = json_object_get(e, "args");
        const char *is = json_string_value(json_object_get(e, "name"));
        n += is && strcmp(is, name) == 0 &&
             json_integer_value(json_object_get(e, "tid")) == (int)track + 1 &&
             json_integer_value(json_object_get(args, "rows")) == rows;
    }
    json_decref(root);
    return n;
}

/* Three layers; six whole chunks, of which the device has 16 rows, and one of 18, of which too. */
static void test_counts(void)
{
    plan_spec p = parts_only(BOTH, DEVICE, true);
    run_spec s = plan_rig_run(&p);
    s.trace_events = 4000;
    run *r = plan_rig_execute(&s);
    is_int(events_of(r, NM_TRACK_DEVICE, "qkv", ROWS), 3 * 7,
           "the device has 16 rows of QKV of each chunk");
    is_int(events_of(r, NM_TRACK_DEVICE, "o", RIG_CHUNK), 3 * 6, "of O it has all");
    is_int(events_of(r, NM_TRACK_DEVICE, "o", 18), 3, "that are there");
    is_int((int64_t)r->stats.n_part_launches, 3 * 7 * 3, "all launches of parts are counted");
    plan_rig_free(&r);
    s.plan = parts_only(DEVICE, BOTH, false);
    s.n_prompt = RIG_CHUNK + 7;
    r = plan_rig_execute(&s);
    is_int(events_of(r, NM_TRACK_DEVICE, "o", ROWS), 3, "16 rows of O");
    is_int(events_of(r, NM_TRACK_DEVICE, "o", 7), 3, "or less, if there are less");
    is_int(events_of(r, NM_TRACK_DEVICE, "qkv", RIG_CHUNK), 3, "QKV has none of that");
    plan_rig_free(&r);
}

/* Where the device attends and the host has rows of O, it computes them before O has ended: in a JOIN of its own. */
static void test_two_joins(void)
{
    const plan_spec shared = parts_only(BOTH, BOTH, true), whole = parts_only(BOTH, DEVICE, true);
    run_spec s = plan_rig_run(&shared);
    s.trace_events = 4000;
    run *r = plan_rig_execute(&s);
    is_int(events_of(r, NM_TRACK_HOST, "join, route", RIG_CHUNK), 2 * 3 * 6,
           "whole chunks join in two steps");
    is_int(events_of(r, NM_TRACK_HOST, "join, route", 18), 2 * 3,
           "and so does one that has more rows than O");
    plan_rig_free(&r);
    s.plan = whole;
    r = plan_rig_execute(&s);
    is_int(events_of(r, NM_TRACK_HOST, "join, route", RIG_CHUNK), 3 * 6, "else in one");
    plan_rig_free(&r);
}

/* Where the trace's first event of that name, in that layer, begins, or ends. */
static double first_us(const json_t *events, const char *name, nm_trace_track track, int layer,
                       bool end)
{
    double first = HUGE_VAL;
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *e = json_array_get(events, i);
        const char *is = json_string_value(json_object_get(e, "name"));
        const double at = json_number_value(json_object_get(e, "ts"));
        if (is && strcmp(is, name) == 0 && at < first &&
            json_integer_value(json_object_get(e, "tid")) == (int)track + 1 &&
            json_integer_value(json_object_get(json_object_get(e, "args"), "layer")) == layer)
            first = at + (end ? json_number_value(json_object_get(e, "dur")) : 0.0);
    }
    return first;
}

/* The first of two joins does not wait for O: each launch takes 20 ms. */
static void test_first_join(void)
{
    const plan_spec p = parts_only(DEVICE, BOTH, true);
    run_spec s = plan_rig_run(&p);
    s.trace_events = 4000;
    s.n_prompt = RIG_CHUNK;
    s.device.launch_us = 20000;
    run *r = plan_rig_execute(&s);
    json_t *root = json_loads(r->trace, 0, NULL), *events = json_object_get(root, "traceEvents");
    for (int layer = 0; layer < 3; layer++)
        ok(first_us(events, "join, route", NM_TRACK_HOST, layer, false) <
               first_us(events, "o", NM_TRACK_DEVICE, layer, true),
           "layer %d: the host has its rows of O before the device has", layer);
    json_decref(root);
    plan_rig_free(&r);
}

/* Two chunks with q, k and v of their own are in flight at a time. */
static void test_second_chunk(void)
{
    plan_spec p = parts_only(BOTH, BOTH, false);
    p.in_flight = 2;
    run_spec s = plan_rig_run(&p);
    s.trace_events = 4000;
    run *r = plan_rig_execute(&s);
    json_t *root = json_loads(r->trace, 0, NULL), *events = json_object_get(root, "traceEvents");
    int n = 0;
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *args = json_object_get(json_array_get(events, i), "args");
        n += json_integer_value(json_object_get(args, "chunk in flight")) == 1;
    }
    ok(n > 0, "a second chunk is in flight: %d events", n);
    json_decref(root);
    plan_rig_free(&r);
}

/* By a plan that stays: others have room for what the next one may share. */
static uint64_t bytes_with(side qkv, side o, uint32_t in_flight)
{
    plan_spec p = parts_only(qkv, o, false);
    p.in_flight = in_flight;
    run_spec s = plan_rig_run(&p);
    s.no_replan = true;
    run *r = plan_rig_execute(&s);
    const uint64_t bytes = r->scratch_bytes;
    plan_rig_free(&r);
    return bytes;
}

/* q, k and v of a chunk in a session's bytes, where chunks in flight cannot share them. */
static void test_bytes(void)
{
    npumoe_error err;
    npumoe_model *m = NULL;
    if (npumoe_model_load(tiny_path(), NULL, &m, &err) != NPUMOE_OK)
        bail("%s", err.message);
    const nm_plan_model model = plan_rig_model(m);
    const nm_cost_geometry *g = &model.geometry;
    const uint32_t q = g->n_head * g->dim_k > g->n_embd ? g->n_head * g->dim_k : g->n_embd;
    const uint64_t own =
        (uint64_t)RIG_CHUNK * (q + g->n_head_kv * (g->dim_k + g->dim_v)) * sizeof(float);
    npumoe_model_free(&m);
    const uint64_t one = bytes_with(DEVICE, DEVICE, 1), two = bytes_with(DEVICE, DEVICE, 2),
                   three = bytes_with(DEVICE, DEVICE, 3);
    is_u64(bytes_with(BOTH, BOTH, 1), one, "one chunk in flight needs nothing more");
    is_u64(bytes_with(DEVICE, BOTH, 3), three, "nor rows of O");
    const uint64_t both = bytes_with(BOTH, BOTH, 2);
    ok(both > two + own, "two chunks, and logits beside them");
    is_u64(bytes_with(BOTH, BOTH, 3) - both, three - two + own, "each one more: as much again");
}

/* ---- another plan ------------------------------------------------------------------------------ */

typedef struct bed {
    npumoe_model *model;
    npumoe_device *device;
    npumoe_session *session;
} bed;

static nm_plan *plan_for(npumoe_model *m, const plan_spec *p)
{
    npumoe_error err;
    nm_plan *plan = NULL;
    char *json = plan_rig_json(m, p);
    if (nm_plan_parse(nm_allocator_default(), json, strlen(json), &plan, &err) != NPUMOE_OK)
        bail("%s", err.message);
    npumoe_text_free(&json);
    return plan;
}

/* Takes a part of a layer out of a plan. */
static void without(nm_plan *plan, uint32_t layer, nm_cost_part part)
{
    nm_plan_layer *l = &plan->layers[layer];
    if (!l->on_device[part])
        return;
    l->on_device[part] = false;
    l->part_rows[part] = 0;
    l->programs--;
    l->bytes -= plan->cost.device.part_bytes[part];
    plan->programs--;
    plan->bytes -= plan->cost.device.part_bytes[part];
}

/* QKV of the first layer, O of the second: few parts. */
static char *few_parts(npumoe_model *m, const plan_spec *p)
{
    npumoe_error err;
    char *json = NULL;
    nm_plan *plan = plan_for(m, p);
    for (uint32_t l = 0; l < plan->n_layers; l++) {
        if (l != 0)
            without(plan, l, NM_PART_QKV);
        if (l != 1)
            without(plan, l, NM_PART_O);
    }
    if (nm_plan_print(plan, &json, &err) != NPUMOE_OK)
        bail("%s", err.message);
    nm_plan_free(&plan);
    return json;
}

/* slots: 0 = any number; make: the plan's JSON */
static bed bed_with(const plan_spec *p, char *(*make)(npumoe_model *m, const plan_spec *p),
                    const char *debug_flags, uint32_t slots)
{
    bed b = {0};
    npumoe_error err;
    npumoe_model_options mo = npumoe_model_options_default();
    npumoe_plan_options po = npumoe_plan_options_default();
    npumoe_session_options so = npumoe_session_options_default();
    npumoe_device_options dopt = plan_rig_run(p).device;
    dopt.debug_flags = debug_flags;
    dopt.slots = slots;
    mo.precision = NPUMOE_PRECISION_FP32;
    so.type_k = so.type_v = NPUMOE_KV_F32;
    if (npumoe_model_load(tiny_path(), &mo, &b.model, &err) != NPUMOE_OK ||
        npumoe_device_new(&dopt, &b.device, &err) != NPUMOE_OK)
        bail("%s", err.message);
    char *json = make(b.model, p);
    po.plan = json;
    po.plan_bytes = strlen(json);
    po.device = b.device;
    if (npumoe_model_use_plan(b.model, &po, &err) != NPUMOE_OK ||
        npumoe_session_new(b.model, &so, &b.session, &err) != NPUMOE_OK)
        bail("%s", err.message);
    npumoe_text_free(&json);
    return b;
}

static bed bed_new(const plan_spec *p, const char *debug_flags, uint32_t slots)
{
    return bed_with(p, plan_rig_json, debug_flags, slots);
}

static void bed_free(bed *b)
{
    npumoe_session_free(&b->session);
    npumoe_model_free(&b->model);
    npumoe_device_free(&b->device);
}

static void answers(const bed *b, const run *cpu, const char *what)
{
    npumoe_error err = {0};
    nm_session_reset(b->session);
    const npumoe_status st =
        npumoe_session_eval(b->session, plan_rig_prompt, RIG_PROMPT, NULL, &err);
    ok(st == NPUMOE_OK && memcmp(npumoe_session_logits(b->session), cpu->logits[RIG_PROMPT - 1],
                                 sizeof cpu->logits[0]) == 0,
       "%s: the same bits %s", what, err.message);
}

/* As re-planning does it. */
static npumoe_status change(const bed *b, nm_plan **next, nm_exec_change *c, npumoe_error *err)
{
    nm_placement *p = b->model->placement;
    const npumoe_status st = nm_executor_replace(&p->ex, *next, c, err);
    if (st == NPUMOE_OK) {
        nm_plan *old = p->plan;
        p->plan = *next;
        *next = old;
    }
    return st;
}

/* From one plan to another and back, in sessions that were made for the first one. Programs with as many rows as before
 * stay. */
static void test_replace(const run *cpu, bool attends)
{
    static const struct {
        side from[2], to[2];
        uint32_t kept, loaded;
    } cases[] = {{{DEVICE, DEVICE}, {BOTH, BOTH}, 0, 6},
                 {{BOTH, BOTH}, {DEVICE, DEVICE}, 0, 6},
                 {{BOTH, DEVICE}, {BOTH, BOTH}, 3, 3},
                 {{BOTH, BOTH}, {BOTH, BOTH}, 6, 0},
                 {{HOST, BOTH}, {BOTH, BOTH}, 3, 3}};
    const uint32_t more = attends ? RIG_MANY : 0; /* programs of attention */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        plan_spec p = parts_only(cases[i].from[0], cases[i].from[1], attends);
        p.in_flight = 3;
        bed b = bed_new(&p, NULL, 0);
        answers(&b, cpu, "the first plan");
        p = parts_only(cases[i].to[0], cases[i].to[1], attends);
        p.in_flight = 3;
        nm_plan *next = plan_for(b.model, &p);
        npumoe_error err = {0};
        for (int back = 0; back < 2; back++) {
            nm_exec_change c = {0};
            is_int(change(&b, &next, &c, &err), NPUMOE_OK, "another one %s", err.message);
            is_int(c.kept, cases[i].kept + more, "what has as many rows stays");
            if (!back)
                is_int(c.loaded, cases[i].loaded, "the rest comes");
            answers(&b, cpu, back ? "back again" : "the other plan");
        }
        nm_plan_free(&next);
        bed_free(&b);
    }
}

/* Nothing that the other plan brought stays where it cannot be loaded. */
static void test_replace_fails(const run *cpu)
{
    for (int at = 1; at <= 12; at++) {
        char flags[48];
        snprintf(flags, sizeof flags, "fail-load=%d", 6 + at);
        plan_spec p = parts_only(DEVICE, BOTH, false);
        p.in_flight = 2;
        bed b = bed_new(&p, flags, 0);
        p.qkv_rows = ROWS;
        p.o_rows = 0;
        nm_plan *next = plan_for(b.model, &p);
        npumoe_error err = {0};
        nm_exec_change c;
        is_int(change(&b, &next, &c, &err), at <= 6 ? NPUMOE_EDEVICE : NPUMOE_OK, "%s: %s", flags,
               err.message);
        answers(&b, cpu, flags);
        nm_plan_free(&next);
        bed_free(&b);
    }
}

/* A plan for which there is no room: the one before goes on, and none of its launches is refused. */
static void too_many(bed *b, nm_plan *next, const run *cpu)
{
    npumoe_error err = {0};
    nm_exec_change c;
    is_int(change(b, &next, &c, &err), NPUMOE_ETOOBIG, "no room for all: %s", err.message);
    answers(b, cpu, "the old plan again");
    is_u64(nm_executor_total(b->model->placement->ex).failures, 0, "no launch is refused");
    nm_plan_free(&next);
}

/* A program of the other plan, which was loaded before the one that finds no room, where the old plan's never came: it is
 * too large for the old one's buffers, and does not stay. */
static void test_replace_missing(const run *cpu)
{
    plan_spec p = parts_only(BOTH, BOTH, false);
    bed b = bed_new(&p, "fail-load=1", 5);
    p.qkv_rows = p.o_rows = 0;
    nm_plan *next = plan_for(b.model, &p);
    too_many(&b, next, cpu);
    bed_free(&b);
}

/* A program that was new, whose like had failed in the old plan: it has room there by its capacity, but nobody made room, as the
 * plan's other program is smaller. */
static void test_replace_new(const run *cpu)
{
    const plan_spec p = parts_only(DEVICE, BOTH, false);
    bed b = bed_with(&p, few_parts, "fail-load=1", 4);
    nm_plan *next = plan_for(b.model, &p);
    too_many(&b, next, cpu);
    bed_free(&b);
}

/* ---- warmed up --------------------------------------------------------------------------------- */

static bool keep_total(void *user, uint64_t done, uint64_t total)
{
    (void)done;
    *(uint64_t *)user = total;
    return true;
}

static void add_bytes(void *user, void *data, size_t bytes)
{
    (void)data;
    *(uint64_t *)user += bytes;
}

/* Bytes that a session touches beforehand, but those of launches; scratch: its working memory's. */
static uint64_t warmed(uint32_t in_flight, uint64_t *scratch)
{
    plan_spec p = parts_only(BOTH, BOTH, false);
    npumoe_session_options so = npumoe_session_options_default();
    npumoe_session_stats stats = {.struct_bytes = sizeof stats};
    npumoe_error err = {0};
    uint64_t total = 0, launches = 0;
    p.in_flight = in_flight;
    bed b = bed_new(&p, NULL, 0);
    npumoe_session_free(&b.session);
    so.progress = keep_total;
    so.progress_user = &total;
    if (npumoe_session_new(b.model, &so, &b.session, &err) != NPUMOE_OK ||
        npumoe_session_warm_up(b.session, RIG_PROMPT, &err) != NPUMOE_OK)
        bail("%s", err.message);
    nm_executor_each_buffer(b.model->placement->ex, add_bytes, &launches);
    npumoe_session_get_stats(b.session, &stats);
    *scratch = stats.scratch_bytes;
    bed_free(&b);
    return total - launches;
}

static void test_warmed(void)
{
    uint64_t one, three;
    const uint64_t of_one = warmed(1, &one), of_three = warmed(3, &three);
    is_u64(of_three - of_one, three - one, "q, k and v of all chunks are touched beforehand");
}

/* ---- cancelled --------------------------------------------------------------------------------- */

static bool go_on(void *user, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return (*(long *)user)-- > 0;
}

/* After so many layers of chunks, whatever is under way then; and to the end. The cache ends with the prompt, where a
 * last chunk's program has more positions than that. */
static void test_cancel(const run *cpu, uint32_t in_flight, bool attends)
{
    plan_spec p = parts_only(BOTH, BOTH, attends);
    npumoe_session_options so = npumoe_session_options_default();
    npumoe_error err = {0};
    unsigned n = 0, cancelled = 0, right = 0;
    long left = 0;
    p.in_flight = in_flight;
    bed b = bed_new(&p, "late=3", 0);
    npumoe_session_free(&b.session);
    so.type_k = so.type_v = NPUMOE_KV_F32;
    so.n_ctx = RIG_PROMPT;
    so.progress = go_on;
    so.progress_user = &left;
    if (npumoe_session_new(b.model, &so, &b.session, &err) != NPUMOE_OK)
        bail("%s", err.message);
    for (long at = 0; at < 3 * 7; at += 5, n++) {
        left = at;
        cancelled += npumoe_session_eval(b.session, plan_rig_prompt, RIG_PROMPT, NULL, &err) ==
                     NPUMOE_ECANCELED;
        left = LONG_MAX;
        right +=
            npumoe_session_eval(b.session, plan_rig_prompt, RIG_PROMPT, NULL, &err) == NPUMOE_OK &&
            memcmp(npumoe_session_logits(b.session), cpu->logits[RIG_PROMPT - 1],
                   sizeof cpu->logits[0]) == 0;
        nm_session_reset(b.session);
    }
    is_int(cancelled, n, "%u in flight: cancelled in the midst of a prompt", in_flight);
    is_int(right, n, "... which goes on to the same bits");
    bed_free(&b);
}

/* ---- allocations ------------------------------------------------------------------------------- */

/* Plan, session and prompt with the n-th allocation failing, for each n. */
static void test_allocations(const run *cpu)
{
    bool failed = true;
    int n = 0, odd = 0;
    for (; failed && n < 2000; n++) {
        counting count = COUNTING_INIT;
        const npumoe_allocator a = counting_allocator(&count);
        npumoe_model_options mo = npumoe_model_options_default();
        npumoe_plan_options po = npumoe_plan_options_default();
        npumoe_session_options so = npumoe_session_options_default();
        plan_spec p = parts_only(BOTH, BOTH, true);
        p.in_flight = 2;
        npumoe_device_options dopt = plan_rig_run(&p).device;
        bed b = {0};
        npumoe_error err = {0};
        mo.allocator = dopt.allocator = &a;
        mo.precision = NPUMOE_PRECISION_FP32;
        so.type_k = so.type_v = NPUMOE_KV_F32;
        if (npumoe_model_load(tiny_path(), &mo, &b.model, &err) != NPUMOE_OK ||
            npumoe_device_new(&dopt, &b.device, &err) != NPUMOE_OK)
            bail("%s", err.message);
        char *json = plan_rig_json(b.model, &p);
        po.plan = json;
        po.plan_bytes = strlen(json);
        po.device = b.device;
        count.fail_at = count.calls + n + 1;
        npumoe_status st = npumoe_model_use_plan(b.model, &po, &err);
        if (st == NPUMOE_OK)
            st = npumoe_session_new(b.model, &so, &b.session, &err);
        if (st == NPUMOE_OK)
            st = npumoe_session_eval(b.session, plan_rig_prompt, RIG_PROMPT, NULL, &err);
        failed = count.calls >= count.fail_at;
        const bool right =
            st == NPUMOE_OK && memcmp(npumoe_session_logits(b.session), cpu->logits[RIG_PROMPT - 1],
                                      sizeof cpu->logits[0]) == 0;
        odd += !(failed && st == NPUMOE_ENOMEM) && !right;
        npumoe_text_free(&json);
        bed_free(&b);
        odd += count.alive != 0;
    }
    ok(!failed && n > 20, "at last nothing fails: %d allocations", n - 1);
    is_int(odd, 0, "each failure is said, or does no harm, and nothing is left");
}

int main(void)
{
    static const char *const archs[] = {"olmoe", "qwen2moe", "qwen3moe", "phimoe"};
    plan_rig_start();
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++) {
        plan_rig_family(archs[i]);
        run *cpu = plan_rig_cpu();
        test_sides(archs[i], cpu);
        test_with_experts(archs[i]);
        if (i % 2 == 0)
            test_lengths(archs[i]);
        if (i == 1) {
            test_failures(cpu);
            test_short_queue(cpu);
            test_few_rows(cpu);
        }
        test_slow_device(cpu);
        if (i == 2) {
            test_counts();
            test_two_joins();
            test_first_join();
            test_second_chunk();
            test_bytes();
            test_warmed();
            test_replace(cpu, false);
            test_replace(cpu, true);
            test_replace_fails(cpu);
            test_replace_missing(cpu);
            test_replace_new(cpu);
            for (uint32_t j = 1; j <= 3; j += 2)
                for (int attends = 0; attends < 2; attends++)
                    test_cancel(cpu, j, attends != 0);
            test_allocations(cpu);
        }
        plan_rig_free(&cpu);
    }
    unlink(tiny_path());
    return done_testing();
}
