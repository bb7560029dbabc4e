/* test_beside.c: host and device at the same time: the clocks, what factors make of predictions, and the
 * measurement, of which a busy machine leaves nothing to judge but ranges, order and an end. */
#include "support/synth.h"
#include "tap.h"

#include "device/tile/tile.h"
#include "engine/plan_cost.h"
#include "moe/planner_clocks.h"
#include "quant/quant.h"

#include <math.h>

static const npumoe_allocator *mem(void)
{
    return nm_allocator_default();
}

/* ---- clocks --------------------------------------------------------------------------------- */

static void test_clocks(void)
{
    nm_clocks c = nm_clocks_new(1.25);
    nm_clocks_work(&c, 10.0, 2.0);
    is_near(c.now, 10.0, 0.0, "beside an idle device nothing is slower");
    const double first = nm_clocks_launch(&c, 80.0), second = nm_clocks_launch(&c, 20.0);
    is_near(first, 90.0, 0.0, "a launch begins at once");
    is_near(second, 110.0, 0.0, "the next one after it");
    nm_clocks_work(&c, 25.0, 2.0);
    is_near(c.now, 60.0, 1e-12, "25 us of work, twice as long");
    is_near(c.at, 50.0, 1e-12, "in these 50 us the device does 40");
    nm_clocks_wait(&c, first);
    is_near(c.now, 100.0, 1e-12, "while the host waits the device goes on as alone");
    nm_clocks_wait(&c, first);
    is_near(c.now, 100.0, 1e-12, "what is over is not waited for");
    nm_clocks_work(&c, 50.0, 2.0);
    is_near(c.now, 162.5, 1e-12, "25 us beside the rest of the device, 37.5 alone");
    ok(c.at > second, "the device is done");
    is_near(c.work, 122.5, 1e-12, "the host's time at work");
    is_near(c.busy, 115.0, 1e-12, "the device's: 100 alone, 15 more beside the host");
}

/* The sums are what the clocks say of one launch and one piece of work. */
static void test_overlap(void)
{
    static const double host[] = {0.0, 10.0, 40.0, 300.0}, device[] = {0.0, 25.0, 100.0};
    static const double beside[] = {1.0, 1.3, 2.0}, slow[] = {1.0, 1.1, 2.0};
    unsigned same = 0, n = 0, kept = 0;
    for (uint32_t i = 0; i < 4 * 3 * 3 * 3; i++) {
        const double h = host[i % 4], d = device[i / 4 % 3], b = beside[i / 12 % 3];
        const double s = slow[i / 36];
        nm_clocks c = nm_clocks_new(s);
        const double end = nm_clocks_launch(&c, d);
        nm_clocks_work(&c, h, b);
        nm_clocks_wait(&c, end);
        const nm_overlap o = nm_clocks_overlap(h, h * b, d, s);
        same += fabs(o.us - c.now) < 1e-9 && fabs(o.host_us - c.work) < 1e-9 &&
                fabs(o.device_us - c.busy) < 1e-9;
        kept += o.us >= fmax(h, d) - 1e-9 && o.us <= h + d + 1e-9;
        n++;
    }
    is_int(same, n, "sums overlap as the clocks do");
    is_int(kept, n, "no quicker than without factors, no slower than one after the other");
}

/* ---- predictions ---------------------------------------------------------------------------- */

typedef struct figures {
    nm_prediction plan, host;
    double bound;
} figures;

/* The same plan, structure and all, with factors. */
static figures predict(nm_plan *plan, const nm_loads *loads, double host, double device)
{
    npumoe_error err = {0};
    for (int i = 0; i < NM_COST_WORKS; i++)
        plan->cost.beside[i] = i == NM_WORK_DEVICE ? device : host;
    if (nm_planner_predict(plan, loads, &err) != NPUMOE_OK)
        bail("%s", err.message);
    return (figures){plan->predicted, plan->cpu_only, plan->bound_us};
}

/* slots: of the device; owner: the caller, of both */
static nm_plan *planned(uint32_t in_flight, uint32_t n_prompt, uint32_t slots, nm_loads *loads)
{
    const synth_shape s = {3, 24, 4, 128, 16, 1.0, 0.6};
    synth_rng rng = {7};
    const nm_plan_model model = synth_model(s.n_layers, s.n_expert, s.k);
    nm_cost cost = synth_cost(&model, s.chunk, 20.0);
    nm_planner_options o = nm_planner_options_default();
    nm_plan *plan = NULL;
    npumoe_error err = {0};
    cost.device.slots = slots;
    o.in_flight = in_flight;
    o.n_prompt = n_prompt;
    o.compare = false;
    if (!synth_loads(&s, &rng, loads) ||
        nm_planner_make(mem(), &model, loads, &cost, &o, &plan, &err) != NPUMOE_OK)
        bail("no plan: %s", err.message);
    return plan;
}

static void free_loads(nm_loads *loads)
{
    for (uint32_t i = 0; i < loads->n_layers; i++)
        free(loads->layers[i].load);
    free(loads->layers);
}

static void no_time(nm_curve *c)
{
    memset(c->us, 0, sizeof c->us);
}

/* This kind of the host's work takes no time at all. */
static void without(nm_cost *c, nm_cost_work kind)
{
    if (kind == NM_WORK_EXPERTS) {
        no_time(&c->host_expert);
        no_time(&c->host_part[NM_PART_SHARED]);
        c->host_region_us = 0.0;
    } else if (kind == NM_WORK_DENSE) {
        no_time(&c->host_part[NM_PART_QKV]);
        no_time(&c->host_part[NM_PART_O]);
    } else if (kind == NM_WORK_ATTENTION) {
        no_time(&c->host_part[NM_PART_ATTENTION]);
    } else {
        no_time(&c->host_layer);
        no_time(&c->gather);
        no_time(&c->scatter);
        memset(c->part_far_us, 0, sizeof c->part_far_us);
        c->join_us = c->launch_host_us = 0.0;
    }
}

/* Each factor slows its own kind down and no other. rest: experts are left to the host. */
static void test_kinds(uint32_t in_flight, uint32_t n_prompt, uint32_t slots, bool rest)
{
    nm_loads loads;
    nm_plan *plan = planned(in_flight, n_prompt, slots, &loads);
    const nm_cost cost = plan->cost;
    for (int w = 0; w < NM_WORK_DEVICE; w++) {
        figures f[2][2]; /* [the kind takes no time][with its factor] */
        npumoe_error err = {0};
        for (int i = 0; i < 4; i++) {
            plan->cost = cost;
            for (int k = 0; k < NM_COST_WORKS; k++)
                plan->cost.beside[k] = i % 2 && k == w ? 2.0 : 1.0;
            if (i / 2)
                without(&plan->cost, (nm_cost_work)w);
            if (nm_planner_predict(plan, &loads, &err) != NPUMOE_OK)
                bail("%s", err.message);
            f[i / 2][i % 2] = (figures){plan->predicted, plan->cpu_only, plan->bound_us};
        }
        const char *name = nm_cost_work_name((nm_cost_work)w);
        ok(f[0][1].plan.host_us >= f[0][0].plan.host_us,
           "%u in flight, %s twice as long: %.1f, %.1f us", in_flight, name, f[0][0].plan.host_us,
           f[0][1].plan.host_us);
        /* one chunk: nothing but experts is beside the device; more chunks: all kinds that there are */
        const bool beside = w == NM_WORK_ROWS || (w == NM_WORK_EXPERTS ? rest : in_flight > 1);
        ok(beside == (f[0][1].plan.host_us > f[0][0].plan.host_us * 1.001),
           "... %s beside the device", beside ? "some of it" : "nothing of it");
        is_near(f[1][1].plan.host_us, f[1][0].plan.host_us, f[1][0].plan.host_us * 1e-9,
                "... where there is nothing of it its factor changes nothing");
        is_near(f[1][1].plan.us, f[1][0].plan.us, f[1][0].plan.us * 1e-9, "... nor the time");
    }
    nm_plan_free(&plan);
    free_loads(&loads);
}

static void test_predictions(uint32_t in_flight, uint32_t n_prompt)
{
    nm_loads loads;
    nm_plan *plan = planned(in_flight, n_prompt, UINT32_MAX, &loads);
    const nm_prediction made = plan->predicted;
    const figures none = predict(plan, &loads, 0.0, 0.0), one = predict(plan, &loads, 1.0, 1.0);
    const figures some = predict(plan, &loads, 1.3, 1.1), turns = predict(plan, &loads, 2.0, 2.0);
    const double both = one.plan.host_us + one.plan.device_us;
    note("%u in flight, prompt %u: %.0f us without factors, %.0f, %.0f; host and device %.0f",
         in_flight, n_prompt, one.plan.us, some.plan.us, turns.plan.us, both);
    is_near(none.plan.us, made.us, made.us * 1e-12, "not measured is as planned");
    is_near(one.plan.us, made.us, made.us * 1e-12, "so is a factor of 1");
    ok(some.plan.us > one.plan.us * 1.02, "side by side the prompt takes longer");
    ok(some.plan.us < turns.plan.us && turns.plan.us <= both * (1.0 + 1e-9),
       "but never longer than one after the other");
    is_near(turns.plan.us, both, both * 1e-9, "which is what factors of 2 mean");
    ok(some.plan.host_us > one.plan.host_us && some.plan.host_us <= 1.3001 * one.plan.host_us,
       "the host's work by no more than its factor");
    ok(some.plan.device_us > one.plan.device_us &&
           some.plan.device_us <= 1.1001 * one.plan.device_us,
       "nor the device's");
    is_near(turns.host.us, one.host.us, 0.0, "the host alone stays alone");
    is_near(turns.host.host_us, one.host.host_us, 0.0, "and works as before");
    nm_plan_free(&plan);
    free_loads(&loads);
}

/* ---- measuring ------------------------------------------------------------------------------ */

typedef struct counter {
    uint64_t steps, stop; /* stop: at this step */
    uint64_t done, total; /* of the last one */
    bool back;            /* one had less done than the one before */
} counter;

static bool count(void *user, uint64_t done, uint64_t total)
{
    counter *c = user;
    c->steps++;
    c->back = c->back || done < c->done;
    c->done = done;
    c->total = total;
    return done <= total && c->steps != c->stop;
}

static void measure_side_by_side(nm_cost_job *job, counter *c)
{
    nm_cost cost = {.host_threads = 1};
    npumoe_error err = {0};
    if (nm_pool_new(mem(), 1, &job->pool, &err) != NPUMOE_OK)
        bail("%s", err.message);
    is_int(nm_cost_measure_beside(job, &cost, &err), NPUMOE_OK, "it is measured: %s", err.message);
    is_u64(c->steps, NM_WORK_DEVICE, "a step for each kind of the host's work");
    for (int i = 0; i < NM_COST_WORKS; i++)
        ok(cost.beside[i] >= 1.0 && cost.beside[i] <= NM_COST_MOST_BESIDE, "%s: %.3f",
           nm_cost_work_name((nm_cost_work)i), cost.beside[i]);
    for (uint64_t stop = 1; stop <= NM_WORK_DEVICE; stop++) {
        nm_cost none = {0};
        *c = (counter){.stop = stop};
        ok(nm_cost_measure_beside(job, &none, &err) == NPUMOE_ECANCELED && c->steps == stop &&
               none.beside[NM_WORK_DEVICE] == 0.0,
           "cancelled at step %d: nothing is measured", (int)stop);
    }
    nm_pool_free(&job->pool);
}

/* As many threads of the host as there are CPUs, and the device's. */
static void measure_crowded(nm_cost_job *job, int cpus)
{
    nm_cost cost = {0};
    npumoe_error err = {0};
    unsigned right = 0;
    if (nm_pool_new(mem(), cpus, &job->pool, &err) != NPUMOE_OK ||
        nm_cost_measure_beside(job, &cost, &err) != NPUMOE_OK)
        bail("%s", err.message);
    for (int i = 0; i < NM_COST_WORKS; i++)
        right += fabs(cost.beside[i] - (cpus + 1.0) / cpus) < 1e-12;
    is_int(right, NM_COST_WORKS, "%d threads on %d CPUs: a share for each", cpus + 1, cpus);
    nm_pool_free(&job->pool);
}

/* The whole table, by more steps than were expected, or fewer: progress ends where it said that it would. */
static void measure_whole(nm_cost_job *job, counter *c)
{
    static const uint64_t totals[] = {3, 1000};
    npumoe_error err = {0};
    if (nm_pool_new(mem(), 1, &job->pool, &err) != NPUMOE_OK)
        bail("%s", err.message);
    for (int i = 0; i < 2; i++) {
        nm_cost cost = {0};
        *c = (counter){0};
        job->done = 0;
        job->total = totals[i];
        ok(nm_cost_measure(job, &cost, &err) == NPUMOE_OK && cost.host_expert.n > 0,
           "a table is measured: %s", err.message);
        ok(c->done == totals[i] && c->total == totals[i] && !c->back && c->steps > 3,
           "... to the end: step %d of %d", (int)c->done, (int)c->total);
    }
    nm_pool_free(&job->pool);
}

/* What a round's times mean. */
static void test_rounds(void)
{
    is_near(nm_cost_host_ratio(100.0, 130.0, 100.0), 1.3, 1e-12,
            "the host, 130 us between two of 100");
    is_near(nm_cost_host_ratio(90.0, 130.0, 110.0), 1.3, 1e-12,
            "... where the machine changed meanwhile");
    is_near(nm_cost_device_ratio(360.0, 3, 200.0, 2), 1.2, 1e-12,
            "the device, 120 us a launch while the host works and 100 while it waits");
    is_near(nm_cost_device_ratio(0.0, 0, 200.0, 2), 0.0, 0.0, "... not known where none fitted");
}

static void test_measuring(void)
{
    const nm_cpu cpu = nm_cpu_detect();
    counter c = {0};
    nm_kern kern;
    npumoe_error err = {0};
    nm_tile_options t = nm_tile_options_default();
    t.isa = "scalar";
    t.queue_depth = 2; /* shorter than the measurement would like */
    nm_cost_job job = {.geometry = {.n_embd = 64,
                                    .n_ff = 32,
                                    .n_expert = 8,
                                    .n_expert_used = 2,
                                    .n_head = 2,
                                    .n_head_kv = 1,
                                    .dim_k = 32,
                                    .dim_v = 32,
                                    .type = {NM_TYPE_Q8_0, NM_TYPE_Q8_0, NM_TYPE_Q8_0}},
                       .type_qkv = NM_TYPE_Q8_0,
                       .type_out = NM_TYPE_Q8_0,
                       .chunk = 32,
                       .last = 64,
                       .kern = &kern,
                       .progress = count,
                       .progress_user = &c,
                       .total = 100};
    const int cpus = nm_cpus_allowed();
    if (nm_kern_init(&kern, &cpu, "scalar", &err) != NPUMOE_OK ||
        nm_tile_new(mem(), &t, &job.npu, &err) != NPUMOE_OK)
        bail("%s", err.message);
    measure_crowded(&job, cpus);
    if (cpus < 2)
        skip(NM_WORK_DEVICE + NM_COST_WORKS + 2, "one CPU");
    else
        measure_side_by_side(&job, &c);
    measure_whole(&job, &c);
    is_u64(nm_npu_get_stats(job.npu).programs_loaded, 0, "nothing stays on the device");
    nm_npu_free(&job.npu);
}

int main(void)
{
    test_clocks();
    test_overlap();
    test_predictions(1, 0);
    test_predictions(2, 0);
    test_predictions(2, 4 * 128);
    test_predictions(4, 16 * 128);
    test_kinds(1, 0, UINT32_MAX, true);
    test_kinds(2, 4 * 128, UINT32_MAX, false);
    test_kinds(4, 16 * 128, UINT32_MAX, false);
    test_kinds(2, 4 * 128, 5, true);
    test_kinds(4, 16 * 128, 5, true);
    test_rounds();
    test_measuring();
    return done_testing();
}
