/* test_plan_counts.c: what counts as the device's work. Launches that came to their end, and their rows, whatever fails,
 * beside the trace, which knows which results were taken; sums over layers. And what happens to a prompt of which the device
 * did nothing. */
#include "moe/exec_trace.h"
#include "support/plan_rig.h"
#include "support/tiny.h"
#include "tap.h"

#include <jansson.h>
#include <unistd.h>

static const plan_spec spill = {.capacity = 16, .group = 2, .n_groups = 3, .in_flight = 2};

static int64_t number(const json_t *o, const char *key)
{
    return (int64_t)json_number_value(json_object_get(o, key));
}

/* ---- counters ------------------------------------------------------------------------------------- */

typedef struct traced {
    int64_t taken, taken_rows; /* launches of groups whose rows were added, and these */
    int64_t ended; /* launches of all kinds that the device has begun and ended, well or not */
} traced;

static traced read_trace(const char *text)
{
    traced t = {0};
    size_t i;
    json_t *root = json_loads(text, 0, NULL), *e;
    json_array_foreach(json_object_get(root, "traceEvents"), i, e)
    {
        const json_t *args = json_object_get(e, "args");
        const bool timed = json_object_get(e, "dur") != NULL;
        const char *name = json_string_value(json_object_get(e, "name"));
        if (timed && strcmp(name, "scatter") == 0 && number(args, "group") >= 0) {
            t.taken++;
            t.taken_rows += number(args, "rows");
        }
        t.ended += timed && number(e, "tid") == NM_TRACK_DEVICE + 1;
    }
    json_decref(root);
    return t;
}

/* The report's sums are those of its layers. */
static void check_report(const run *r, const char *what)
{
    static const char *const keys[] = {"chunks",      "pairs",    "launches",      "part_launches",
                                       "device_rows", "overflow", "computed_rows", "repassed",
                                       "dropped",     "rerouted", "skipped",       "failures"};
    json_t *root = json_loads(r->report, 0, NULL), *layer;
    const json_t *all = json_object_get(root, "measured");
    int wrong = 0;
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        int64_t sum = 0;
        size_t i;
        json_array_foreach(json_object_get(root, "layers"), i, layer)
        {
            sum += number(json_object_get(layer, "measured"), keys[k]);
        }
        wrong += sum != number(all, keys[k]);
    }
    is_int(wrong, 0, "%s: the layers add up", what);
    is_int(number(all, "device_rows"), (int64_t)r->stats.n_device_rows, "%s: one report", what);
    json_decref(root);
}

/* lost: launches that came to their end for nothing. */
static void check_counts(const run *r, bool at_submit, int lost, const char *what)
{
    const npumoe_plan_stats *s = &r->stats;
    const traced t = read_trace(r->trace);
    const int64_t failed = at_submit ? 0 : (int64_t)s->n_failures;
    is_int((int64_t)s->n_launches, t.taken, "%s: launches whose rows were added", what);
    is_int((int64_t)s->n_device_rows, t.taken_rows, "%s: these rows, and the host's are all others",
           what);
    is_int((int64_t)(s->n_launches + s->n_part_launches), t.ended - failed - lost,
           "%s: all launches but those that failed", what);
    ok(s->n_device_rows + s->n_dropped <= s->n_pairs && s->n_device_rows <= s->n_computed_rows &&
           s->n_repassed <= s->n_overflow && s->n_dropped <= s->n_overflow,
       "%s: no pair twice", what);
    check_report(r, what);
}

static void test_faults(void)
{
    static const struct {
        const char *flags;
        bool all;
    } faults[] = {{NULL, false},
                  {"fail-launch=4", false},
                  {"fail-launch=2-9", false},
                  {"fail-submit=5-6", false},
                  {"fail-submit=2-30", false},
                  {"fail-launch=1-100000", true},
                  {"fail-submit=1-100000", true}};
    const plan_spec plans[] = {
        spill,
        {.overflow = NM_OVERFLOW_REPASS, .capacity = 16, .group = 4, .n_groups = 2, .in_flight = 1},
        {.overflow = NM_OVERFLOW_PRUNE, .capacity = 16, .group = 8, .n_groups = 1, .in_flight = 2},
        {.capacity = 16,
         .group = 2,
         .n_groups = 4,
         .in_flight = 2,
         .parts = true,
         .without = 1u << NM_PART_ATTENTION}};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        for (size_t k = 0; k < sizeof plans / sizeof plans[0]; k++) {
            char what[64];
            run_spec s = plan_rig_run(&plans[k]);
            s.device.debug_flags = faults[i].flags;
            s.lossy = true;
            s.trace_events = 1 << 14;
            snprintf(what, sizeof what, "%s, plan %d", faults[i].flags ? faults[i].flags : "sound",
                     (int)k);
            run *r = plan_rig_execute(&s);
            is_int(r->status, NPUMOE_OK, "%s: %s", what, r->err.message);
            const bool at_submit = faults[i].flags && strstr(faults[i].flags, "submit");
            ok((r->stats.n_failures > 0) == (faults[i].flags != NULL), "%s: fails", what);
            check_counts(r, at_submit, 0, what);
            const npumoe_plan_stats *c = &r->stats;
            if (faults[i].all)
                ok(c->n_launches + c->n_part_launches + c->n_device_rows + c->n_computed_rows +
                               c->n_repassed ==
                           0 &&
                       c->n_overflow == c->n_dropped,
                   "%s: the device did nothing", what);
            plan_rig_free(&r);
        }
}

/* The second launch is attention, and O, behind it, has read nothing. */
static void test_attention(void)
{
    plan_spec p = spill;
    p.parts = true;
    p.in_flight = 1;
    run_spec s = plan_rig_run(&p);
    s.device.debug_flags = "fail-launch=2";
    s.trace_events = 1 << 14;
    run *r = plan_rig_execute(&s);
    ok(r->status == NPUMOE_OK && r->log && strstr(r->log, "attention"), "attention fails: %s",
       r->log ? r->log : "");
    check_counts(r, false, 1, "attention fails, and O with it");
    plan_rig_free(&r);
}

/* ---- a prompt of which the device did nothing -------------------------------------------------------- */

/* A host whose experts take next to nothing: no launch is worth it. */
static run_spec idle(void)
{
    plan_spec p = spill;
    p.asks = true;
    p.host_us = 0.001;
    p.crossover = 10;
    return plan_rig_run(&p);
}

static void check_idle(run_spec s, const char *why, const char *what)
{
    const size_t n = s.n_prompt ? s.n_prompt : RIG_PROMPT;
    s.require = false;
    run *r = plan_rig_execute(&s);
    is_int(r->status, NPUMOE_OK, "%s: %s", what, r->err.message);
    ok(r->stats.n_tokens > 0 && r->stats.n_launches == 0, "%s: by plan, without a launch", what);
    ok(r->log && strstr(r->log, "completed no launch") && strstr(r->log, why), "%s: a warning: %s",
       what, r->log ? r->log : "");
    plan_rig_free(&r);
    s.require = true;
    r = plan_rig_execute(&s);
    is_int(r->status, NPUMOE_EDEVICE, "%s, required: %s", what, r->err.message);
    if (strstr(s.device.debug_flags ? s.device.debug_flags : "", "fail") == NULL) {
        ok(strstr(r->err.message, why) != NULL, "... which says why");
        is_int((int64_t)r->n_past, (int64_t)n, "... what was evaluated stays");
    }
    plan_rig_free(&r);
}

static void test_idle(void)
{
    run_spec s = idle();
    check_idle(s, "prompts like this one", "nothing pays");
    s.n_chunk = RIG_CHUNK / 2;
    check_idle(s, "chunks of 16 tokens", "short chunks");
    s = idle();
    s.n_prompt = RIG_CHUNK - 5;
    check_idle(s, "a longer prompt does", "a short prompt");
    s = plan_rig_run(&spill);
    s.device.debug_flags = "fail-submit=1-100000";
    check_idle(s, "all launches that were tried failed", "all fail");
}

/* Each evaluation is judged by itself, whether the plan leaves the continuation to the host or finds nothing worth it; what is
 * the host's own, a short last chunk or a single token, is no reason. */
static void test_continuation(void)
{
    plan_spec p = spill; /* no group is worth it, and dense parts are for whole chunks alone */
    p.asks = true;
    p.host_us = 0.001;
    p.in_flight = 1;
    p.parts = p.slow_parts = true;
    p.without = 1u << NM_PART_ATTENTION;
    for (uint32_t crossover = 2; crossover <= 17; crossover += 15) {
        p.crossover = crossover;
        run_spec s = plan_rig_run(&p);
        s.require = true;
        s.n_first = 4 * RIG_CHUNK;
        s.n_prompt = 6 * RIG_CHUNK;
        run *r = plan_rig_execute(&s);
        is_int(r->status, NPUMOE_OK, "crossover %u: goes on: %s", crossover, r->err.message);
        plan_rig_free(&r);
        s.n_prompt = s.n_first + 2;
        r = plan_rig_execute(&s);
        is_int(r->status, NPUMOE_EDEVICE, "crossover %u: two tokens more: %s", crossover,
               r->err.message);
        is_int((int64_t)r->n_past, s.n_first + (crossover == 2 ? 2 : 0),
               "... what was evaluated stays");
        plan_rig_free(&r);
        s.n_prompt = s.n_first + 1;
        r = plan_rig_execute(&s);
        is_int(r->status, NPUMOE_OK, "crossover %u: a single token", crossover);
        plan_rig_free(&r);
        s.n_first = 0;
        s.n_prompt = 4 * RIG_CHUNK + 2;
        r = plan_rig_execute(&s);
        ok(r->status == NPUMOE_OK && r->stats.n_part_launches > 0,
           "crossover %u: whole chunks and two tokens", crossover);
        plan_rig_free(&r);
    }
}

int main(void)
{
    plan_rig_start();
    plan_rig_family("qwen2moe"); /* with a shared expert */
    test_faults();
    test_attention();
    test_idle();
    test_continuation();
    unlink(tiny_path());
    return done_testing();
}
