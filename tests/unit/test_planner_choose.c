/* test_planner_choose.c: limits of host time. A plan keeps to its limit where any does, is never slower than it need be
 * by more than a lower limit would make it, and says what was asked for. */
#include "support/synth.h"
#include "tap.h"

#include "moe/drift.h"
#include "moe/planner_priv.h"

#include <math.h>

enum { PROMPT = 1024 };

static synth_rng rng = {20260422};

static synth_setting make_setting(const synth_shape *s, double launch_us)
{
    synth_setting x;
    if (!synth_make(s, &rng, launch_us, &x))
        bail("no memory");
    return x;
}

/* A device that takes so many times as long as the host for whatever it does, and can do it all. */
static void set_device(nm_cost *c, double factor)
{
    for (uint32_t i = 0; i < c->device_expert.n; i++)
        c->device_expert.us[i] = factor * nm_curve_at(&c->host_expert, c->device_expert.rows[i]);
    for (int p = NM_PART_QKV; p <= NM_PART_O; p++) {
        c->device_part[p] = c->host_part[p];
        for (uint32_t i = 0; i < c->host_part[p].n; i++)
            c->device_part[p].us[i] = factor * c->host_part[p].us[i];
    }
    c->device.has_attention = true;
}

static nm_planner_options options_of(double limit, bool compare)
{
    nm_planner_options o = nm_planner_options_default();
    o.in_flight = 0;
    o.n_prompt = PROMPT;
    o.host_limit = limit;
    o.compare = compare;
    return o;
}

static nm_plan *make_with(const synth_setting *x, nm_planner_options o)
{
    nm_plan *plan = NULL;
    npumoe_error err = {0};
    if (nm_planner_make(nm_allocator_default(), &x->model, &x->loads, &x->cost, &o, &plan, &err) !=
        NPUMOE_OK)
        bail("limit %g: %s", o.host_limit, err.message);
    return plan;
}

static nm_plan *make(const synth_setting *x, double limit, bool compare)
{
    return make_with(x, options_of(limit, compare));
}

static double share(const nm_plan *p)
{
    return p->predicted.host_us / p->cpu_only.host_us;
}

static bool fits(const synth_setting *x, const nm_plan *p)
{
    return p->programs <= x->cost.device.slots && p->bytes <= x->cost.device.total_bytes;
}

/* Settings of all kinds: limits from what the quickest plan takes downwards. */
static void test_limits(void)
{
    enum { CASES = 12, STEPS = 4 };
    static const double parts[STEPS] = {1.0, 0.9, 0.75, 0.5};
    unsigned kept = 0, slower = 0, less = 0, within = 0, costs = 0;
    for (int i = 0; i < CASES; i++) {
        const synth_shape s = {2 + synth_next(&rng, 4),
                               8 + synth_next(&rng, 24),
                               2 + synth_next(&rng, 3),
                               256,
                               12,
                               synth_unit(&rng),
                               0.5};
        synth_setting x = make_setting(&s, synth_next(&rng, 2) ? 5.0 : 150.0);
        set_device(&x.cost, 0.4 + 0.6 * synth_unit(&rng));
        if (synth_next(&rng, 2))
            x.cost.device.slots = s.n_layers * (4 + synth_next(&rng, 12));
        nm_plan *free_plan = make(&x, 0.0, false);
        double before = free_plan->predicted.host_us, us = free_plan->predicted.us;
        for (int j = 0; j < STEPS; j++) {
            const double limit = fmin(parts[j] * share(free_plan), 1.0);
            nm_plan *p = make(&x, limit, false);
            const bool reached = share(p) <= limit * (1.0 + 1e-9);
            kept += reached || p->predicted.host_us <= before * (1.0 + 1e-9);
            slower += p->predicted.us <= p->cpu_only.us * (1.0 + 1e-9);
            less += p->predicted.us >= 0.9 * us;
            us = p->predicted.us;
            within += fits(&x, p) && p->host_limit == limit;
            /* what a limit that does not bind costs: nothing */
            costs += j > 0 || p->predicted.us <= free_plan->predicted.us * 1.005;
            before = p->predicted.host_us;
            nm_plan_free(&p);
        }
        nm_plan_free(&free_plan);
        synth_free(&x);
    }
    is_int(kept, CASES * STEPS, "host time is within its limit, or as little as can be");
    is_int(slower, CASES * STEPS, "and no prompt is slower than the host alone");
    is_int(less, CASES * STEPS, "lower limits, more time, or nearly so");
    is_int(within, CASES * STEPS, "within slots and bytes, and the plan says which limit");
    is_int(costs, CASES * STEPS, "a limit that does not bind costs no time");
}

/* Twice as quick as the host and without budgets, a device can take nearly everything. */
static void test_all_shares(void)
{
    const synth_shape s = {6, 32, 4, 256, 16, 0.8, 0.4};
    synth_setting x = make_setting(&s, 5.0);
    set_device(&x.cost, 0.5);
    nm_plan *quickest = make(&x, 0.0, false);
    double us = quickest->predicted.us;
    unsigned reached = 0, used = 0, rising = 0;
    for (int percent = 30; percent >= 10; percent -= 2) {
        nm_plan *p = make(&x, percent / 100.0, false);
        reached += share(p) <= percent / 100.0 * (1.0 + 1e-9);
        used += share(p) >= 0.75 * percent / 100.0 || p->predicted.us <= quickest->predicted.us;
        rising += p->predicted.us >= us * 0.98;
        us = p->predicted.us;
        nm_plan_free(&p);
    }
    is_int(reached, 11, "30 to 10 %% of the host: all of them are reached");
    is_int(used, 11, "and used up to three quarters and more");
    is_int(rising, 11, "less host time, more time");
    ok(us < 2.0 * quickest->predicted.us, "10 %%: %.2f times the quickest",
       us / quickest->predicted.us);
    nm_plan_free(&quickest);
    synth_free(&x);
}

static double product(const nm_plan *p)
{
    return p->predicted.us * p->predicted.host_us;
}

/* Devices that can spare the host little: nothing is slower than without, and the last percents do not cost any time. Other
 * policies, of which some place whatever they can, are held against it by the same rule. */
static void test_out_of_reach(void)
{
    static const double factors[] = {1.0, 1.5, 2.2, 4.0};
    const synth_shape s = {3, 16, 2, 256, 12, 0.5, 0.4};
    synth_setting x = make_setting(&s, 5.0);
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        set_device(&x.cost, factors[i]);
        nm_plan *quickest = make(&x, 0.0, false), *alone = make(&x, 0.05, false),
                *p = make(&x, 0.05, true);
        ok(share(p) > 0.05, "device of %g: 5 %% is out of reach: %.0f %%", factors[i],
           100.0 * share(p));
        ok(p->predicted.us <= p->cpu_only.us * (1.0 + 1e-9) &&
               alone->predicted.us <= alone->cpu_only.us * (1.0 + 1e-9),
           "not slower than the host alone");
        ok(product(p) <= product(alone) * (1.0 + 1e-9) &&
               product(alone) <= product(quickest) * 1.001,
           "time times host time is no more than the quickest's, nor after a look at others");
        ok(p->policy == NM_POLICY_OURS && p->host_limit == 0.05, "and it says what was asked for");
        nm_plan_free(&p);
        nm_plan_free(&alone);
        nm_plan_free(&quickest);
    }
    synth_free(&x);
}

/* Prompts of one chunk, and one chunk at a time: nothing overlaps but experts, and host time can be had for time there, too. */
static void test_one_chunk(void)
{
    const synth_shape s = {4, 24, 4, 256, 12, 0.8, 0.4};
    synth_setting x = make_setting(&s, 5.0);
    set_device(&x.cost, 0.5);
    for (int i = 0; i < 2; i++) {
        nm_planner_options o = options_of(0.0, false);
        o.n_prompt = i ? PROMPT : 256;
        o.in_flight = i ? 1 : 0;
        nm_plan *quickest = make_with(&x, o);
        o.host_limit = 0.6 * share(quickest);
        nm_plan *p = make_with(&x, o);
        ok(share(p) <= o.host_limit * (1.0 + 1e-9), "%s: %.1f %% instead of %.1f",
           i ? "one at a time" : "one chunk", 100.0 * share(p), 100.0 * share(quickest));
        ok(p->predicted.us <= p->cpu_only.us, "quicker than the host alone");
        nm_plan_free(&p);
        nm_plan_free(&quickest);
    }
    synth_free(&x);
}

/* Beside a device at work the host takes longer, by as much as there are chunks in flight to keep it at work. */
static void test_beside(void)
{
    const synth_shape s = {3, 24, 4, 256, 12, 0.8, 0.4};
    unsigned kept = 0, made = 0;
    synth_setting x = make_setting(&s, 5.0);
    for (int w = 0; w < NM_COST_WORKS; w++)
        x.cost.beside[w] = 1.0 + synth_unit(&rng);
    for (double factor = 0.4; factor < 0.9; factor += 0.1) {
        set_device(&x.cost, factor);
        for (int percent = 55; percent >= 30; percent -= 5) {
            nm_planner_options o = options_of(percent / 100.0, false);
            o.in_flight = NM_PLAN_MAX_IN_FLIGHT;
            nm_plan *all = make_with(&x, o), *p = make(&x, percent / 100.0, false);
            made += share(all) <= percent / 100.0;
            kept += share(all) <= percent / 100.0 && share(p) <= percent / 100.0 * (1.0 + 1e-9);
            nm_plan_free(&all);
            nm_plan_free(&p);
        }
    }
    ok(made > 10, "%u limits that can be kept", made);
    is_u64(kept, made, "are kept, however many chunks are in flight");
    synth_free(&x);
}

/* Others know no limits: they are taken if they are better by ours. */
static void test_others(void)
{
    const synth_shape s = {3, 24, 4, 256, 16, 0.9, 0.5};
    synth_setting x = make_setting(&s, 5.0);
    set_device(&x.cost, 0.6);
    for (int percent = 40; percent >= 10; percent -= 10) {
        nm_plan *alone = make(&x, percent / 100.0, false), *p = make(&x, percent / 100.0, true);
        ok(share(p) <= fmax(percent / 100.0, share(alone)) * (1.0 + 1e-9) &&
               p->predicted.us <= p->cpu_only.us && p->policy == NM_POLICY_OURS &&
               p->host_limit == percent / 100.0,
           "%d %%, among policies: %.1f %%", percent, 100.0 * share(p));
        nm_plan_free(&alone);
        nm_plan_free(&p);
    }
    synth_free(&x);
}

/* Re-planning weighs plans by it: one that is a tenth above its limit is as bad as one that takes a tenth longer. */
static void test_drift(void)
{
    const synth_shape s = {3, 24, 4, 256, 16, 0.9, 0.5};
    synth_setting x = make_setting(&s, 5.0);
    npumoe_error err = {0};
    double free_cost, within, above;
    set_device(&x.cost, 0.5);
    nm_plan *p = make(&x, 0.0, false);
    nm_prediction with, without;
    if (nm_planner_judge(p, &x.loads, &with, &without, &err) != NPUMOE_OK ||
        nm_drift_cost(p, &x.loads, &free_cost, &err) != NPUMOE_OK)
        bail("%s", err.message);
    const double at = with.host_us / without.host_us;
    p->host_limit = 1.01 * at;
    nm_drift_cost(p, &x.loads, &within, &err);
    p->host_limit = at / 1.1;
    nm_drift_cost(p, &x.loads, &above, &err);
    ok(free_cost == with.us && within == with.us, "within its limit a plan costs its time");
    ok(fabs(above / with.us - 1.1) < 1e-6, "a tenth above it, a tenth more");
    nm_plan_free(&p);
    synth_free(&x);
}

static void test_file(void)
{
    const synth_shape s = {2, 16, 2, 256, 8, 0.5, 0.4};
    synth_setting x = make_setting(&s, 5.0);
    nm_plan *p = make(&x, 0.25, false), *none = make(&x, 0.0, false), *read = NULL;
    npumoe_error err = {0};
    char *text = NULL, *without = NULL;
    if (nm_plan_print(p, &text, &err) != NPUMOE_OK ||
        nm_plan_print(none, &without, &err) != NPUMOE_OK)
        bail("%s", err.message);
    ok(strstr(text, "\"host_limit\": 0.25"), "a plan says its limit");
    ok(!strstr(without, "host_limit"), "and nothing where there is none");
    is_int(nm_plan_parse(nm_allocator_default(), text, strlen(text), &read, &err), NPUMOE_OK,
           "it is read: %s", err.message);
    ok(read && nm_planner_options_of(read).host_limit == 0.25, "and asked for again");
    nm_plan_free(&read);
    char *at = strstr(text, "\"host_limit\": 0.25");
    if (at)
        memcpy(at, "\"host_limit\": 1.25", 18);
    is_int(nm_plan_parse(nm_allocator_default(), text, strlen(text), &read, &err), NPUMOE_EFORMAT,
           "1.25 is none");
    ok(strstr(err.message, "host_limit"), "... %s", err.message);
    npumoe_text_free(&text);
    p->objective = NM_OBJECTIVE_CPU;
    is_int(nm_plan_check(p, &err), NPUMOE_EFORMAT, "nor is one with another objective");
    ok(strstr(err.message, "objective cpu"), "... %s", err.message);
    npumoe_text_free(&without);
    nm_plan_free(&p);
    nm_plan_free(&none);
    synth_free(&x);
}

static void refuse(const synth_setting *x, nm_planner_options o, const char *word)
{
    nm_plan *plan = NULL;
    npumoe_error err = {0};
    is_int(nm_planner_make(nm_allocator_default(), &x->model, &x->loads, &x->cost, &o, &plan, &err),
           NPUMOE_EINVAL, "refused");
    ok(strstr(err.message, word), "... %s", err.message);
    nm_plan_free(&plan);
}

static void test_refused(void)
{
    const synth_shape s = {2, 8, 2, 128, 8, 0.5, 0.4};
    synth_setting x = make_setting(&s, 5.0);
    nm_planner_options o = nm_planner_options_default();
    o.n_prompt = PROMPT;
    o.host_limit = 1.5;
    refuse(&x, o, "found 1.5, expected a share");
    o.host_limit = -0.1;
    refuse(&x, o, "found -0.1");
    o.host_limit = (double)NAN;
    refuse(&x, o, "nan");
    o.host_limit = 0.3;
    o.objective = NM_OBJECTIVE_CPU;
    refuse(&x, o, "found cpu");
    o.objective = NM_OBJECTIVE_LATENCY;
    o.n_prompt = 0;
    refuse(&x, o, "0 tokens");
    o.n_prompt = PROMPT;
    o.policy = NM_POLICY_PAPER;
    refuse(&x, o, "found paper");
    o.policy = NM_POLICY_OURS;
    o.all_experts = true;
    refuse(&x, o, "found all experts on it");
    synth_free(&x);
}

int main(void)
{
    note("seed %llu", (unsigned long long)rng.state);
    test_limits();
    test_all_shares();
    test_out_of_reach();
    test_one_chunk();
    test_beside();
    test_drift();
    test_others();
    test_file();
    test_refused();
    return done_testing();
}
