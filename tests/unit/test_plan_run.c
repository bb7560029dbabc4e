/* test_plan_run.c: prompts by plan, end to end on tiny models: the same answer as the CPU path for the
 * exact policies, the same bits whatever the timing, the depth of the queue and the threads; what is
 * counted; devices that fail at load and in mid-prompt; plans that are for something else; and that
 * evaluating allocates nothing. Plans are made by hand: the planner has tests of its own. */
#include "engine/model.h"
#include "engine/session.h"
#include "moe/profile.h"
#include "support/plan_rig.h"
#include "support/tiny.h"
#include "tap.h"

#include <pthread.h>
#include <unistd.h>

static const plan_spec spill = {.capacity = 16, .group = 2, .n_groups = 3, .in_flight = 2};

/* Order of fp32 sums only: logits are of order 1. */
#define NEAR 2e-5

/* Rows are not lost or counted twice: device + host = all. */
static void check_counts(const run *r, const char *what)
{
    const npumoe_plan_stats *s = &r->stats;
    ok(s->n_tokens == RIG_PROMPT, "%s: all tokens by plan", what);
    ok(s->n_layer_chunks == 3u * ((RIG_PROMPT + RIG_CHUNK - 1) / RIG_CHUNK), "%s: all layers",
       what);
    ok(s->n_launches > 0 && s->n_device_rows > 0, "%s: the device worked", what);
    ok(s->n_computed_rows >= s->n_device_rows && s->n_device_rows <= s->n_pairs,
       "%s: padding counts", what);
    ok(s->device_busy_seconds > 0 && s->host_cpu_seconds > 0 && s->wall_seconds > 0,
       "%s: clocks ran", what);
    ok(s->n_failures == 0 && s->n_fallbacks == 0, "%s: nothing failed", what);
}

static void test_exact(const char *arch, const run *cpu)
{
    const plan_spec plans[] = {
        spill,
        {.overflow = NM_OVERFLOW_REPASS, .capacity = 16, .group = 4, .n_groups = 2, .in_flight = 2},
        {.capacity = 16, .group = 1, .n_groups = 8, .in_flight = 1, .parts = true},
        {.overflow = NM_OVERFLOW_REPASS,
         .capacity = 16,
         .group = 3,
         .n_groups = 1,
         .in_flight = 3,
         .parts = true},
        {.capacity = 16,
         .group = 2,
         .n_groups = 2,
         .in_flight = 2,
         .parts = true,
         .without = 1u << NM_PART_O | 1u << NM_PART_QKV},
        {.capacity = 16,
         .group = 2,
         .n_groups = 2,
         .in_flight = 1,
         .parts = true,
         .without = 1u << NM_PART_O,
         .attention = 2},
        {.capacity = 16,
         .group = 2,
         .n_groups = 2,
         .in_flight = 2,
         .parts = true,
         .without = 1u << NM_PART_QKV},
        {.capacity = 16, .group = 2, .n_groups = 3, .in_flight = NM_PLAN_MAX_IN_FLIGHT},
        {.capacity = 16,
         .group = 2,
         .n_groups = 2,
         .in_flight = NM_PLAN_MAX_IN_FLIGHT,
         .parts = true,
         .attention = 2},
        {.capacity = 0, .group = 1, .n_groups = 8, .in_flight = 2},
        {.overflow = NM_OVERFLOW_REPASS, .capacity = 0, .group = 8, .n_groups = 1, .in_flight = 2}};
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        const run_spec s = plan_rig_run(&plans[i]);
        char what[64];
        snprintf(what, sizeof what, "%s, plan %d", arch, (int)i);
        run *r = plan_rig_execute(&s);
        is_int(r->status, NPUMOE_OK, "%s: %s", what, r->err.message);
        const double d = plan_rig_difference(r, cpu);
        ok(d < NEAR, "%s: logits are the CPU's (%.2g)", what, d);
        is_int(r->calls_in_eval, 0, "%s: evaluating allocates nothing", what);
        check_counts(r, what);
        is_int((int64_t)r->stats.n_dropped, 0, "%s: nothing is dropped", what);
        if (plans[i].overflow == NM_OVERFLOW_REPASS && plans[i].capacity)
            ok(r->stats.n_overflow > 0 && r->stats.n_repassed == r->stats.n_overflow,
               "%s: all overflow went again", what);
        if (plans[i].parts)
            ok(r->stats.n_part_launches > 0, "%s: parts on the device", what);
        plan_rig_free(&r);
    }
}

static void test_same_bits(const char *arch)
{
    static const uint32_t depths[] = {0, 1, 2, 3};
    plan_spec p = {.overflow = NM_OVERFLOW_REPASS,
                   .capacity = 16,
                   .group = 2,
                   .n_groups = 4,
                   .in_flight = 2,
                   .parts = true};
    run_spec s = plan_rig_run(&p);
    run *first = plan_rig_execute(&s);
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++)
        for (int late = 0; late < 2; late++) {
            s = plan_rig_run(&p);
            s.device.queue_depth = depths[i];
            s.device.debug_flags = late ? "late=5" : NULL;
            s.device.n_threads = 1 + (uint32_t)late;
            s.n_threads = 1 + (int)i;
            run *r = plan_rig_execute(&s);
            ok(r->status == NPUMOE_OK && plan_rig_same(first, r),
               "%s: the same bits with a queue of %d, %s, %d threads", arch, (int)depths[i],
               late ? "late" : "in time", 1 + (int)i);
            plan_rig_free(&r);
        }
    for (p.in_flight = 1; p.in_flight <= NM_PLAN_MAX_IN_FLIGHT; p.in_flight++)
        for (int late = 0; late < 2; late++) {
            s = plan_rig_run(&p);
            s.device.debug_flags = late ? "late=5" : NULL;
            run *r = plan_rig_execute(&s);
            ok(r->status == NPUMOE_OK && plan_rig_same(first, r),
               "%s: the same bits with %d chunks at a time, %s", arch, (int)p.in_flight,
               late ? "late" : "in time");
            plan_rig_free(&r);
        }
    plan_rig_free(&first);
}

static void test_lossy(const run *cpu)
{
    plan_spec p = {
        .overflow = NM_OVERFLOW_PRUNE, .capacity = 16, .group = 8, .n_groups = 1, .in_flight = 2};
    run_spec s = plan_rig_run(&p);
    run *r = plan_rig_execute(&s);
    is_int(r->status, NPUMOE_EUNSUPPORTED, "not unless allowed: %s", r->err.message);
    plan_rig_free(&r);
    s.lossy = true;
    r = plan_rig_execute(&s);
    is_int(r->status, NPUMOE_OK, "prune: %s", r->err.message);
    ok(r->stats.n_dropped > 0 && r->stats.n_dropped == r->stats.n_overflow,
       "prune drops and counts");
    ok(r->stats.n_device_rows + r->stats.n_dropped == r->stats.n_pairs,
       "all pairs are accounted for");
    ok(plan_rig_difference(r, cpu) > NEAR, "and it shows");
    run *again = plan_rig_execute(&s);
    ok(plan_rig_same(r, again), "prune: the same bits again");
    plan_rig_free(&again);
    plan_rig_free(&r);
    p.overflow = s.plan.overflow = NM_OVERFLOW_REROUTE;
    r = plan_rig_execute(&s);
    is_int(r->status, NPUMOE_OK, "reroute: %s", r->err.message);
    ok(r->stats.n_rerouted > 0 && r->stats.n_dropped == 0, "reroute moves and counts");
    plan_rig_free(&r);
}

static void test_failures(const run *cpu)
{
    run_spec s = plan_rig_run(&spill);
    static const char *const flags[] = {"fail-load=2", "fail-load=1-9", "fail-launch=4",
                                        "fail-launch=3-40", "fail-submit=5-6"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        s.require = false;
        s.device.debug_flags = flags[i];
        run *r = plan_rig_execute(&s);
        is_int(r->status, NPUMOE_OK, "%s: finished", flags[i]);
        const double d = plan_rig_difference(r, cpu);
        ok(d < NEAR, "%s: nothing is lost (%.2g)", flags[i], d);
        ok(r->stats.n_fallbacks > 0 && r->log, "%s: counted and said: %s", flags[i],
           r->log ? r->log : "");
        plan_rig_free(&r);
        s.require = true;
        r = plan_rig_execute(&s);
        is_int(r->status, NPUMOE_EDEVICE, "%s, required: %s", flags[i], r->err.message);
        plan_rig_free(&r);
    }
    static const char *const launches[] = {"fail-launch=1-3", "fail-launch=2", "fail-launch=3",
                                           "fail-submit=2",   "fail-submit=3", "fail-load=1-3"};
    for (size_t i = 0; i < sizeof launches / sizeof launches[0]; i++)
        for (uint32_t without = 0; without < 1u << NM_PART_SHARED; without++) {
            s = plan_rig_run(&spill);
            s.plan.parts = true;
            s.plan.without = without;
            s.device.debug_flags = launches[i];
            run *r = plan_rig_execute(&s);
            ok(r->status == NPUMOE_OK && plan_rig_difference(r, cpu) < NEAR,
               "%s: parts that fail, without %d", launches[i], (int)without);
            plan_rig_free(&r);
        }
}

static void test_limits(const run *cpu)
{
    run_spec s = plan_rig_run(&spill);
    s.device.slots = 4;
    run *r = plan_rig_execute(&s);
    ok(r->status == NPUMOE_OK && plan_rig_difference(r, cpu) < NEAR,
       "too few slots: the host does what does not fit");
    plan_rig_free(&r);
    s = plan_rig_run(&spill);
    s.plan.router_hash = 12345;
    r = plan_rig_execute(&s);
    is_int(r->status, NPUMOE_EMODEL, "another model: %s", r->err.message);
    plan_rig_free(&r);
    s = plan_rig_run(&spill);
    s.trace_events = 50;
    r = plan_rig_execute(&s);
    ok(r->status == NPUMOE_OK && plan_rig_difference(r, cpu) < NEAR, "with a trace");
    ok(r->trace && strstr(r->trace, "\"launch\"") && strstr(r->trace, "traceEvents"),
       "the trace has launches");
    ok(strstr(r->trace, "host, thread 2") && strstr(r->trace, "\"tid\":4,\"ts\""),
       "and what the second thread did");
    ok(r->report && strstr(r->report, "npumoe-plan-report"), "a report");
    plan_rig_free(&r);
}

/* A session keeps the plan; a plan that is no plan is refused. */
static void test_api(void)
{
    npumoe_error err;
    npumoe_model *m = NULL;
    npumoe_device *d = NULL;
    npumoe_session *session = NULL;
    npumoe_plan_options po = npumoe_plan_options_default();
    npumoe_device_options dopt = npumoe_device_options_default();
    dopt.debug_flags = "explode=1";
    is_int(npumoe_device_new(&dopt, &d, &err), NPUMOE_EINVAL, "%s", err.message);
    dopt.debug_flags = NULL;
    dopt.name = "abacus";
    is_int(npumoe_device_new(&dopt, &d, &err), NPUMOE_EUNSUPPORTED, "%s", err.message);
    dopt.name = "tile";
    dopt.precision = (npumoe_precision)9;
    is_int(npumoe_device_new(&dopt, &d, &err), NPUMOE_EINVAL, "%s", err.message);
    dopt.precision = NPUMOE_PRECISION_FULL;
    if (npumoe_device_new(&dopt, &d, &err) != NPUMOE_OK ||
        npumoe_model_load(tiny_path(), NULL, &m, &err) != NPUMOE_OK)
        bail("%s", err.message);
    char *json = plan_rig_json(m, &spill), *text = NULL;
    po.plan = json;
    po.plan_bytes = strlen(json);
    is_int(npumoe_model_use_plan(m, &po, &err), NPUMOE_EINVAL, "no device: %s", err.message);
    po.device = d;
    po.from_tokens = 1;
    is_int(npumoe_model_use_plan(m, &po, &err), NPUMOE_EINVAL, "%s", err.message);
    po.from_tokens = 0;
    po.plan = "{}";
    po.plan_bytes = 2;
    is_int(npumoe_model_use_plan(m, &po, &err), NPUMOE_EFORMAT, "%s", err.message);
    is_int(npumoe_plan_report(m, &text, &err), NPUMOE_EINVAL, "%s", err.message);
    po.plan = json;
    po.plan_bytes = strlen(json);
    is_int(npumoe_model_use_plan(m, &po, &err), NPUMOE_OK, "attached");
    npumoe_device_info info = {.struct_bytes = sizeof info};
    npumoe_device_get_info(d, &info);
    is_int((int64_t)info.programs_loaded, 9, "three groups in three layers are loaded");
    if (npumoe_session_new(m, NULL, &session, &err) != NPUMOE_OK)
        bail("%s", err.message);
    is_int(npumoe_model_use_plan(m, NULL, &err), NPUMOE_EINVAL, "in use: %s", err.message);
    npumoe_session_free(&session);
    is_int(npumoe_model_use_plan(m, NULL, &err), NPUMOE_OK, "taken away");
    npumoe_device_get_info(d, &info);
    is_int((int64_t)info.programs_loaded, 0, "and unloaded");
    npumoe_text_free(&json);
    npumoe_model_free(&m);
    npumoe_device_free(&d);
}

/* How much of a plan_rig_prompt goes by plan: nothing below the crossover, whole chunks from there on, and a last
 * one that is short if it is not too short, or beside others. */
static void test_share(void)
{
    static const struct {
        uint32_t crossover, chunk, n, alone,
            beside; /* one in flight, or several by a plan that asks */
    } cases[] = {
        {17, RIG_CHUNK, 16, 0, 0},
        {17, RIG_CHUNK, 17, 17, 17},
        {17, RIG_CHUNK, RIG_CHUNK + 15, RIG_CHUNK, RIG_CHUNK + 15},
        {17, RIG_CHUNK, RIG_CHUNK + 16, RIG_CHUNK + 16, RIG_CHUNK + 16},
        {5, RIG_CHUNK, 2 * RIG_CHUNK + 4, 2 * RIG_CHUNK, 2 * RIG_CHUNK + 4},
        {5, RIG_CHUNK, 2 * RIG_CHUNK + 5, 2 * RIG_CHUNK + 5, 2 * RIG_CHUNK + 5},
        {5, RIG_CHUNK, 2 * RIG_CHUNK + 1, 2 * RIG_CHUNK, 2 * RIG_CHUNK},
        {3 * RIG_CHUNK, RIG_CHUNK, 3 * RIG_CHUNK - 1, 0, 0},
        {3 * RIG_CHUNK, RIG_CHUNK, 3 * RIG_CHUNK + 15, 3 * RIG_CHUNK, 3 * RIG_CHUNK + 15},
        {3 * RIG_CHUNK, RIG_CHUNK, 3 * RIG_CHUNK + 16, 3 * RIG_CHUNK + 16, 3 * RIG_CHUNK + 16},
        {3 * RIG_CHUNK, RIG_CHUNK / 2, 4 * RIG_CHUNK, 0, 0}, /* chunks that it was not made for */
        {20, RIG_CHUNK / 2, 4 * RIG_CHUNK, 0, 0},
        {10, RIG_CHUNK / 2, 4 * RIG_CHUNK + 1, 4 * RIG_CHUNK, 4 * RIG_CHUNK},
        {1, RIG_CHUNK, 1, 0, 0},
        {UINT32_MAX, RIG_CHUNK, 4 * RIG_CHUNK, 0, 0}};
    for (size_t i = 0; i < 3 * (sizeof cases / sizeof cases[0]); i++) {
        const size_t k = i / 3;
        const uint32_t lanes = i % 3 ? 2 : 1;
        const bool asks = i % 3 != 1;
        const uint32_t by_plan = lanes > 1 && asks ? cases[k].beside : cases[k].alone;
        plan_spec p = spill;
        p.in_flight = lanes;
        p.asks = asks;
        p.crossover = cases[k].crossover;
        run_spec s = plan_rig_run(&p);
        s.n_prompt = cases[k].n;
        s.n_chunk = cases[k].chunk;
        run *r = plan_rig_execute(&s);
        is_int((int64_t)r->stats.n_tokens, by_plan,
               "%u tokens in chunks of %u, crossover %u, %u in flight%s", s.n_prompt, s.n_chunk,
               p.crossover, lanes, asks ? "" : ", nobody asks");
        is_int((int64_t)r->n_past, s.n_prompt, "... all evaluated");
        plan_rig_free(&r);
    }
}

/* Launches of attention when a plan_rig_prompt goes on after `first` tokens that the CPU computed, in a session of n_ctx. */
static uint64_t launches_after(size_t first, uint32_t n_ctx, const run *cpu)
{
    npumoe_error err;
    npumoe_model *m = NULL;
    npumoe_device *d = NULL;
    npumoe_session *s = NULL;
    npumoe_plan_options po = npumoe_plan_options_default();
    npumoe_model_options mo = npumoe_model_options_default();
    npumoe_session_options so = npumoe_session_options_default();
    npumoe_plan_stats stats = {.struct_bytes = sizeof stats};
    plan_spec p = spill;
    npumoe_device_options dopt = plan_rig_run(&p).device;
    p.parts = true;
    p.without = ~(1u << NM_PART_ATTENTION);
    mo.precision = NPUMOE_PRECISION_FP32;
    so.n_chunk = RIG_CHUNK;
    so.n_ctx = n_ctx;
    so.type_k = so.type_v = NPUMOE_KV_F32;
    if (npumoe_device_new(&dopt, &d, &err) != NPUMOE_OK ||
        npumoe_model_load(tiny_path(), &mo, &m, &err) != NPUMOE_OK)
        bail("%s", err.message);
    char *json = plan_rig_json(m, &p);
    po.plan = json;
    po.plan_bytes = strlen(json);
    po.device = d;
    po.no_replan = true;
    if (npumoe_model_use_plan(m, &po, &err) != NPUMOE_OK ||
        npumoe_session_new(m, &so, &s, &err) != NPUMOE_OK)
        bail("%s", err.message);
    ok(npumoe_session_eval(s, plan_rig_prompt, first, NULL, &err) == NPUMOE_OK &&
           npumoe_session_eval(s, plan_rig_prompt, RIG_PROMPT, NULL, &err) == NPUMOE_OK,
       "goes on after %d", (int)first);
    double most = 0;
    for (size_t j = 0; j < RIG_VOCAB; j++)
        most = fmax(most, fabs((double)npumoe_session_logits(s)[j] -
                               (double)cpu->logits[RIG_PROMPT - 1][j]));
    ok(most < NEAR, "to the same end (%.2g)", most);
    npumoe_plan_get_stats(m, &stats);
    npumoe_session_free(&s);
    npumoe_text_free(&json);
    npumoe_model_free(&m);
    npumoe_device_free(&d);
    return stats.n_part_launches;
}

/* Attention has programs for chunks that begin at multiples of 32: a plan_rig_prompt that goes on at 10 has a chunk of 22
 * first, and then these. Of the last chunk only what its room in the cache allows. In the last layer one row of
 * the last chunk is wanted: the host's. */
static void test_odd_start(const run *cpu)
{
    const uint32_t layers = 3, chunks = RIG_PROMPT / RIG_CHUNK; /* from 32 on: a short one, too */
    is_int((int64_t)launches_after(10, 512, cpu), chunks * (layers - 1),
           "all chunks but the first attend on the device");
    is_int((int64_t)launches_after(10, RIG_PROMPT, cpu), (chunks - 1) * (layers - 1),
           "one fewer where the cache ends in the last");
}

static bool stop_at(void *user, uint64_t done, uint64_t total)
{
    (void)total;
    return done < *(const uint64_t *)user;
}

static uint64_t stopped_of(npumoe_model *m)
{
    npumoe_plan_stats s = {.struct_bytes = sizeof s};
    npumoe_plan_get_stats(m, &s);
    return s.n_stopped;
}

/* Cancelled at any time, the session goes on as if nothing had been. */
static void test_cancel(const run *cpu)
{
    npumoe_error err;
    npumoe_model *m = NULL;
    npumoe_device *d = NULL;
    npumoe_plan_options po = npumoe_plan_options_default();
    npumoe_model_options mo = npumoe_model_options_default();
    npumoe_device_options dopt = plan_rig_run(&spill).device;
    int64_t n_stopped = 0;
    mo.precision = NPUMOE_PRECISION_FP32;
    if (npumoe_device_new(&dopt, &d, &err) != NPUMOE_OK ||
        npumoe_model_load(tiny_path(), &mo, &m, &err) != NPUMOE_OK)
        bail("%s", err.message);
    char *json = plan_rig_json(m, &spill);
    po.plan = json;
    po.plan_bytes = strlen(json);
    po.device = d;
    if (npumoe_model_use_plan(m, &po, &err) != NPUMOE_OK)
        bail("%s", err.message);
    for (uint64_t at = 10; at < RIG_PROMPT; at += 35) {
        uint64_t limit = at;
        npumoe_session_options so = npumoe_session_options_default();
        npumoe_session *s = NULL;
        so.type_k = so.type_v = NPUMOE_KV_F32;
        so.progress = stop_at;
        so.progress_user = &limit;
        if (npumoe_session_new(m, &so, &s, &err) != NPUMOE_OK)
            bail("%s", err.message);
        is_int(npumoe_session_eval(s, plan_rig_prompt, RIG_PROMPT, NULL, &err), NPUMOE_ECANCELED,
               "%s", err.message);
        is_int((int64_t)stopped_of(m), ++n_stopped, "... which is counted");
        ok(npumoe_session_length(s) % RIG_CHUNK == 0, "whole chunks stay: %d",
           (int)npumoe_session_length(s));
        limit = UINT64_MAX;
        ok(npumoe_session_eval(s, plan_rig_prompt, RIG_PROMPT, NULL, &err) == NPUMOE_OK, "goes on");
        is_int((int64_t)stopped_of(m), n_stopped, "... to its end");
        double most = 0;
        for (size_t j = 0; j < RIG_VOCAB; j++)
            most = fmax(most, fabs((double)npumoe_session_logits(s)[j] -
                                   (double)cpu->logits[RIG_PROMPT - 1][j]));
        ok(most < NEAR, "to the same end (%.2g)", most);
        npumoe_session_free(&s);
    }
    npumoe_text_free(&json);
    npumoe_model_free(&m);
    npumoe_device_free(&d);
}

int main(void)
{
    static const char *const archs[] = {"olmoe", "qwen2moe", "qwen3moe", "phimoe"};
    plan_rig_start();
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++) {
        plan_rig_family(archs[i]);
        run *cpu = plan_rig_cpu();
        test_exact(archs[i], cpu);
        if (i < 2) {
            test_same_bits(archs[i]);
            test_failures(cpu);
            test_odd_start(cpu);
        }
        if (i == 0) {
            test_lossy(cpu);
            test_limits(cpu);
            test_api();
            test_share();
            test_cancel(cpu);
        }
        plan_rig_free(&cpu);
    }
    unlink(tiny_path());
    return done_testing();
}
