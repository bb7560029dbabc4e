/* test_turns.c: who goes next in a prompt by plan, and into what the host's experts are cut: from traces of tiny
 * models; and that neither changes a bit of the answer. */
#include "support/plan_rig.h"
#include "support/tiny.h"
#include "tap.h"

#include <jansson.h>
#include <math.h>
#include <unistd.h>

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
    static const uint32_t chunks[] = {RIG_PROMPT, 144, 144, 144, 144};
    npumoe_token saved[RIG_PROMPT];
    plan_spec p = {.capacity = 16, .group = 1, .n_groups = 1};
    same_tokens(saved);
    for (uint32_t i = 0; i < 5; i++) {
        p.in_flight = i ? i : 2;
        p.chunk = chunks[i];
        p.parts = i == 4;
        run_spec s = plan_rig_run(&p);
        s.n_chunk = chunks[i];
        s.trace_events = 1000;
        s.device.debug_flags = i == 3 ? "fail-launch=2-3" : NULL;
        run *quick = plan_rig_execute(&s);
        s.plan.host_us =
            4000; /* 64 rows are a slice; of 210 a device has 16 at most, which leaves three */
        run *slow = plan_rig_execute(&s);
        ok(quick->status == NPUMOE_OK && slow->status == NPUMOE_OK && plan_rig_same(quick, slow),
           "%s, %d tokens, %d in flight: busy experts in slices, same bits", arch, (int)chunks[i],
           (int)p.in_flight);
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
    plan_rig_start();
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++) {
        const tiny_spec t = tiny_default(archs[i]);
        npumoe_error err;
        if (tiny_write(&t, tiny_path(), &err) != NPUMOE_OK)
            bail("%s", err.message);
        test_slices(archs[i]);
        if (i == 0) {
            test_repeated();
            test_turns();
        }
    }
    unlink(tiny_path());
    return done_testing();
}
