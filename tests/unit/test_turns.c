/* test_turns.c: who goes next in a prompt by plan, by the rule and from traces of tiny models; into what the
 * host's experts are cut; and that neither changes a bit of the answer. */
#include "moe/turns.h"
#include "support/plan_rig.h"
#include "support/tiny.h"
#include "tap.h"

#include <jansson.h>
#include <math.h>
#include <unistd.h>

/* A chunk in flight, its stage's needs met. */
static nm_turn at(nm_stage stage, uint32_t layer, size_t age)
{
    return (nm_turn){
        .stage = stage, .layer = layer, .stored = layer + 1, .age = age, .arrived = true};
}

static nm_turn rests(uint32_t layer, size_t age, double us)
{
    nm_turn t = at(NM_STAGE_REST, layer, age);
    t.rest_us = us;
    return t;
}

/* Three chunks of a model with four layers; the lanes are not in the order of age. */
static void next_is(uint32_t expected, nm_turn a, nm_turn b, nm_turn c, const char *what)
{
    const nm_turn turns[] = {a, b, c};
    const uint32_t got = nm_turns_next(turns, 3, 4);
    ok(got == expected, "%s: lane %d", what, (int)got);
}

static void test_first_and_last(void)
{
    const nm_turn idle = at(NM_STAGE_IDLE, 0, 0);
    nm_turn waits = at(NM_STAGE_FINISH, 1, 0);
    waits.arrived = false;
    next_is(3, idle, idle, idle, "no chunk, nobody");
    next_is(3, waits, idle, idle, "not there yet, nobody");
    next_is(1, at(NM_STAGE_NORM, 2, 200), at(NM_STAGE_FINISH, 2, 100), at(NM_STAGE_NORM, 1, 300),
            "of stages that lead to a launch the oldest chunk's");
    next_is(2, rests(1, 100, 5.0), rests(0, 200, 2.0), at(NM_STAGE_JOIN, 0, 300),
            "such a stage before any host experts");
    next_is(1, rests(2, 100, 5.0), rests(0, 300, 2.0), rests(1, 200, 3.0),
            "of host experts the shortest");
    next_is(1, rests(1, 300, 1.0), rests(1, 200, 3.0), rests(2, 100, 9.0),
            "... but in a layer the older chunk's");
    next_is(2, rests(1, 300, 1.0), rests(1, 200, 3.0), rests(2, 100, 2.0),
            "... which the younger one's never stands in for");
    next_is(2, rests(0, 300, 4.0), rests(1, 200, 4.0), rests(2, 100, 4.0), "equal ones by age");
    next_is(3, at(NM_STAGE_FINISH, 3, 300), waits, idle, "chunks end in order");
    next_is(0, at(NM_STAGE_FINISH, 2, 300), waits, idle, "... but finish layers as they like");
    next_is(0, at(NM_STAGE_NORM, 3, 300), waits, idle, "... and begin the last one as they like");
}

static void test_attention_waits(void)
{
    const nm_turn idle = at(NM_STAGE_IDLE, 0, 0);
    nm_turn older = at(NM_STAGE_ATTEND, 0, 100), ready = at(NM_STAGE_ATTEND, 1, 300);
    older.arrived = false;
    older.stored = 0;
    ready.stored = 1;
    next_is(3, ready, older, idle, "no attention before the older chunk's keys are stored");
    older.layer = older.stored = 1;
    next_is(3, ready, older, idle, "... those of this layer, too");
    older.stored = 2;
    next_is(0, ready, older, idle, "... and then it is");
    nm_turn joins = at(NM_STAGE_JOIN, 1, 100);
    joins.arrived = false;
    next_is(3, ready, joins, idle, "the host does not attend while another waits for its O");
    ready.device_attends = true;
    next_is(0, ready, joins, idle, "... the device may");
    next_is(1, at(NM_STAGE_ATTEND, 1, 100), at(NM_STAGE_JOIN, 0, 200), idle,
            "... nor when that is there, of whichever chunk");
}

static void test_second_begins(void)
{
    const nm_turn idle = at(NM_STAGE_IDLE, 0, 0), begins = at(NM_STAGE_NORM, 0, 300);
    nm_turn first = at(NM_STAGE_ATTEND, 0, 100), other, oldest = at(NM_STAGE_NORM, 0, 0);
    first.stored = oldest.stored = 0;
    first.arrived = oldest.arrived = false;
    first.on_device = first.device_attends = true;
    next_is(3, begins, first, idle, "none begins before an older one's attention is the device's");
    next_is(0, begins, first, rests(0, 200, 2.0), "... unless there are experts for the host");
    next_is(0, begins, first, oldest, "... or that one has to wait itself");
    other = first;
    other.layer = 1;
    next_is(0, begins, other, idle, "... and only of the first layer");
    other = first;
    other.device_attends = false;
    next_is(0, begins, other, idle, "attention of the host is not waited for");
    other = first;
    other.on_device = false;
    next_is(0, begins, other, idle, "... nor that without QKV from the device");
}

/* The place of the first event of that name, layer and lane among the trace's; -1: there is none. */
static int place_of(const run *r, const char *name, int layer, int lane)
{
    json_t *root = json_loads(r->trace, 0, NULL), *events = json_object_get(root, "traceEvents");
    double best = HUGE_VAL;
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *e = json_array_get(events, i), *args = json_object_get(e, "args");
        const char *is = json_string_value(json_object_get(e, "name"));
        if (is && strcmp(is, name) == 0 &&
            json_integer_value(json_object_get(args, "layer")) == layer &&
            json_integer_value(json_object_get(args, "chunk in flight")) == lane)
            best = fmin(best, json_number_value(json_object_get(e, "ts")));
    }
    json_decref(root);
    return best < HUGE_VAL ? (int)best : -1;
}

static size_t count_of(const run *r, const char *what)
{
    size_t n = 0;
    for (const char *at = r->trace; (at = strstr(at, what)); at++)
        n++;
    return n;
}

static void same_tokens(npumoe_token *saved)
{
    memcpy(saved, plan_rig_prompt, RIG_PROMPT * sizeof *saved);
    for (size_t i = 0; i < RIG_PROMPT; i++)
        plan_rig_prompt[i] = saved[0];
}

/* All tokens want the same three experts, which take a slow host long: it looks at the device in between, and the
 * answer is that of a host that does them in one go. */
static void test_slices(const char *arch)
{
    /* When a launch fails, which others are in flight is a matter of time, and what the host does instead has another order of
     * sums: so one chunk at a time where launches fail. */
    static const struct {
        uint32_t chunk, in_flight;
        bool fails, parts;
    } cases[] = {{RIG_PROMPT, 2, false, false}, {144, 1, false, false}, {144, 2, false, false},
                 {144, 3, false, false},        {144, 4, false, true},  {144, 1, true, false}};
    npumoe_token saved[RIG_PROMPT];
    plan_spec p = {.capacity = 16, .group = 1, .n_groups = 1};
    same_tokens(saved);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        p.in_flight = cases[i].in_flight;
        p.chunk = cases[i].chunk;
        p.parts = cases[i].parts;
        run_spec s = plan_rig_run(&p);
        s.n_chunk = cases[i].chunk;
        s.trace_events = 1000;
        s.device.debug_flags = cases[i].fails ? "fail-launch=1-2" : NULL;
        run *quick = plan_rig_execute(&s);
        s.plan.host_us =
            4000; /* 64 rows are a slice; of 210 a device has 16 at most, which leaves three */
        run *slow = plan_rig_execute(&s);
        ok(quick->status == NPUMOE_OK && slow->status == NPUMOE_OK && plan_rig_same(quick, slow),
           "%s, %d tokens, %d in flight%s: busy experts in slices, same bits", arch, (int)p.chunk,
           (int)p.in_flight, cases[i].fails ? ", a device that fails" : "");
        ok(!cases[i].fails || quick->stats.n_launches == 0 || quick->stats.n_failures > 0,
           "... with a launch that failed, if it should and there was any");
        const size_t few = count_of(quick, "\"host experts\""),
                     many = count_of(slow, "\"host experts\"");
        ok(few > 0 && many >= (i ? 2 : 4) * few, "... %d of them, not %d", (int)many, (int)few);
        plan_rig_free(&quick);
        plan_rig_free(&slow);
    }
    memcpy(plan_rig_prompt, saved, sizeof saved);
}

/* Where launches are repeated until nothing is left, those with fewer rows than others of their group are done. */
static void test_repeated(void)
{
    const plan_spec p = {
        .overflow = NM_OVERFLOW_REPASS, .capacity = 16, .group = 4, .n_groups = 2, .in_flight = 2};
    run_spec s = plan_rig_run(&p);
    s.trace_events = 2000;
    run *r = plan_rig_execute(&s);
    const size_t turns = count_of(r, "\"host experts\"");
    ok(r->stats.n_repassed > 0 && turns > 0 && turns <= r->stats.n_layer_chunks,
       "nothing left to the host is one turn: %d for %d", (int)turns, (int)r->stats.n_layer_chunks);
    plan_rig_free(&r);
}

/* Who goes next. What the device does meanwhile can only hide a wrong order, not make one. */
static void test_turns(void)
{
    npumoe_token saved[RIG_PROMPT];
    plan_spec p = {.capacity = 16, .group = 1, .n_groups = 1, .in_flight = 2, .chunk = 144};
    run_spec s = plan_rig_run(&p);
    same_tokens(saved);
    s.n_chunk = 144;
    s.trace_events = 1000;
    s.plan.host_us = 4000;
    run *r = plan_rig_execute(&s);
    const int younger = place_of(r, "host experts", 0, 1),
              older = place_of(r, "host experts", 1, 0);
    ok(place_of(r, "host experts", 0, 0) < younger,
       "in a layer the older chunk's experts go first");
    ok(younger >= 0 && younger < older,
       "those of a shorter chunk that is a layer behind before the next layer's");
    plan_rig_free(&r);
    memcpy(plan_rig_prompt, saved, sizeof saved);
    p = (plan_spec){.capacity = 16, .group = 2, .n_groups = 2, .in_flight = 2, .parts = true};
    s = plan_rig_run(&p);
    s.trace_events = 1000;
    r = plan_rig_execute(&s);
    const int first = place_of(r, "o", 0, 0), second = place_of(r, "qkv", 0, 1);
    ok(first >= 0 && first < second,
       "the second chunk begins when the first one's attention is there");
    plan_rig_free(&r);
}

int main(void)
{
    static const char *const archs[] = {"olmoe", "qwen2moe"};
    test_first_and_last();
    test_attention_waits();
    test_second_begins();
    plan_rig_start();
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++) {
        plan_rig_family(archs[i]);
        test_slices(archs[i]);
        if (i == 0) {
            test_repeated();
            test_turns();
        }
    }
    unlink(tiny_path());
    return done_testing();
}
