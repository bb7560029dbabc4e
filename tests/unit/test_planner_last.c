/* test_planner_last.c: prompts that are not whole chunks. What their last chunk takes is predicted by its rows: known to the
 * microsecond by hand, between what whole chunks take for random settings, not below the bound; programs that do not pay for
 * it are not launched; and short prompts are judged by programs that are larger than they. */
#include "support/synth.h"
#include "tap.h"

#include "moe/planner_priv.h"

#include <math.h>

enum { CHUNK = 256 };

static synth_rng rng = {20261122};

static nm_curve straight(double per_row)
{
    return (nm_curve){.n = 2, .rows = {1, 4096}, .us = {per_row, 4096.0 * per_row}};
}

static synth_setting make_setting(const synth_shape *s, double factor)
{
    synth_setting x;
    if (!synth_make(s, &rng, 5.0, &x))
        bail("no memory");
    synth_slow(&x.cost, CHUNK, factor, true);
    return x;
}

/* What the plan's structure takes for a prompt of n tokens, and the host alone, of all of it. */
static void judge(nm_plan *p, const nm_loads *loads, uint32_t n, nm_prediction *with,
                  nm_prediction *without)
{
    npumoe_error err = {0};
    const uint32_t before = p->n_prompt;
    p->n_prompt = n;
    if (nm_planner_judge(p, loads, with, without, &err) != NPUMOE_OK)
        bail("%s", err.message);
    p->n_prompt = before;
    nm_prediction *const of[] = {with, without};
    for (int i = 0; i < 2; i++) {
        of[i]->us *= (double)n / CHUNK;
        of[i]->host_us *= (double)n / CHUNK;
        of[i]->device_us *= (double)n / CHUNK;
        of[i]->launches *= (double)n / CHUNK;
    }
}

/* The host alone, all costs by rows and loads that are even: what n rows take is a sum. */
static void test_by_hand(void)
{
    enum { LAYERS = 3, REST = 64, N = 2 * CHUNK + REST };
    const synth_shape s = {LAYERS, 8, 2, CHUNK, 2, 0.0, 0.0};
    synth_setting x = make_setting(&s, 1e6); /* not worth a launch */
    nm_cost *c = &x.cost;
    c->host_expert = straight(10.0);
    c->host_layer = straight(3.0);
    c->host_part[NM_PART_QKV] = straight(7.0);
    c->host_part[NM_PART_O] = straight(5.0);
    c->host_part[NM_PART_ATTENTION] = /* 4 us per row, and 1/64 for each token before it */
        (nm_curve){
            .n = 2, .rows = {1, 4097}, .us = {4.0 * CHUNK, 4.0 * CHUNK + 4096.0 * CHUNK / 64}};
    c->host_region_us = 0.0;
    nm_plan *p = synth_plan_alone(&x, N, 0);
    const double attention = (4.0 * N) + CHUNK * (CHUNK / 64.0) + REST * (2.0 * CHUNK / 64.0);
    /* the last layer: norm (0.1) and storing (0.35) of all, QKV, and nothing after it */
    const double rows = (LAYERS - 1) * (3.0 + 7.0 + 5.0 + 2 * 10.0) + 0.45 * 3.0 + 7.0;
    const double us = rows * N + (LAYERS - 1) * attention;
    is_int(p->programs, 0, "all on the host");
    ok(fabs(p->cpu_only.us * N / CHUNK / us - 1.0) < 1e-6, "%u tokens: %.1f us, expected %.1f", N,
       p->cpu_only.us * N / CHUNK, us);
    ok(fabs(p->predicted.us / p->cpu_only.us - 1.0) < 1e-9, "the plan takes the same");
    nm_plan_free(&p);
    synth_free(&x);
}

static void test_between(void)
{
    enum { CASES = 40 };
    unsigned above = 0, below = 0, bound = 0, same = 0, planned = 0, cheap = 0, cheaper = 0;
    for (int i = 0; i < CASES; i++) {
        const synth_shape s = {
            2 + synth_next(&rng, 3), 8 + synth_next(&rng, 24), 2, CHUNK, 12, synth_unit(&rng), 0.4};
        synth_setting x = make_setting(&s, 0.1 + 1.2 * synth_unit(&rng));
        const uint32_t whole = (1 + synth_next(&rng, 4)) * CHUNK;
        const uint32_t rest = 1 + synth_next(&rng, CHUNK - 1);
        nm_plan *p = synth_plan_alone(&x, whole + rest, synth_next(&rng, 2));
        nm_prediction fewer, more, at, host_fewer, host_more, host_at;
        judge(p, &x.loads, whole, &fewer, &host_fewer);
        judge(p, &x.loads, whole + rest, &at, &host_at);
        judge(p, &x.loads, whole + CHUNK, &more, &host_more);
        planned += p->programs > 0;
        above += host_at.us > host_fewer.us && at.us > 0.999 * fewer.us;
        /* what does not pay on the device is the host's, which may end later for it, by some */
        below += host_at.us < host_more.us && at.us < 1.2 * more.us;
        bound += p->bound_us <= p->predicted.us * (1.0 + 1e-9);
        same += fabs(at.us / (p->predicted.us * (whole + rest) / CHUNK) - 1.0) < 1e-9;
        cheap += p->part_price < NM_COST_EVEN_PRICE;
        p->part_price = NM_COST_EVEN_PRICE;
        judge(p, &x.loads, whole + rest, &fewer, &host_fewer);
        cheaper += at.us <= fewer.us;
        nm_plan_free(&p);
        synth_free(&x);
    }
    ok(planned > CASES / 2, "%u of %u use the device", planned, (unsigned)CASES);
    is_int(above, CASES, "a short chunk more takes longer");
    is_int(below, CASES, "and less than a whole one");
    is_int(bound, CASES, "not below the bound");
    ok(cheap > 0, "in %u the device is cheap for it", cheap);
    is_int(cheaper, CASES, "which is no slower than if it were not");
    is_int(same, CASES, "the plan says the same");
}

/* Launches of a prompt, by the rows that its last chunk has: parts only, a device twice as quick as the host. */
static void test_pays(void)
{
    enum { LAYERS = 3 };
    const synth_shape s = {LAYERS, 8, 2, CHUNK, 1, 0.0, 0.0};
    synth_setting x = make_setting(&s, 0.5);
    nm_cost *c = &x.cost;
    c->host_part[NM_PART_QKV] = c->host_part[NM_PART_O] = straight(50.0);
    c->device_part[NM_PART_QKV].us[0] = c->device_part[NM_PART_O].us[0] = 25.0 * CHUNK;
    for (uint32_t i = 0; i < c->device_expert.n; i++)
        c->device_expert.us[i] = 1e9;
    nm_plan *p = synth_plan_alone(&x, 4 * CHUNK, 0);
    unsigned parts = 0;
    for (uint32_t l = 0; l < LAYERS; l++) /* of the last layer only QKV is run */
        for (int i = NM_PART_QKV; i <= NM_PART_O; i++)
            parts += p->layers[l].on_device[i] && (i == NM_PART_QKV || l + 1 < LAYERS);
    nm_prediction with, without;
    judge(p, &x.loads, 4 * CHUNK, &with, &without);
    ok(parts > 0, "%u parts are the device's", parts);
    ok(fabs(with.launches - 4.0 * parts) < 1e-6, "all of them in whole chunks");
    judge(p, &x.loads, 4 * CHUNK + CHUNK / 2, &with, &without);
    ok(fabs(with.launches - 5.0 * parts) < 1e-6,
       "in half a chunk, for which host and device take the same");
    judge(p, &x.loads, 4 * CHUNK + CHUNK / 2 - 1, &with, &without);
    ok(fabs(with.launches - 4.0 * parts) < 1e-6, "not with a row less");
    nm_plan_free(&p);
    synth_free(&x);
}

/* Of prompts that are shorter than the capacities of a plan: its programs are asked for, whatever their size. */
static void test_crossover(void)
{
    enum { LARGE = 1024 };
    const synth_shape s = {2, 4, 2, LARGE, 4, 0.0, 0.0};
    synth_setting x = make_setting(&s, 0.001);
    x.cost.chunk = LARGE;
    x.cost.host_part[NM_PART_ATTENTION] = straight(0.01);
    x.cost.device.has_attention = false;
    x.cost.device_expert = straight(1e-3);
    x.cost.launch_us = x.cost.launch_host_us = 0.0;
    nm_planner_options o = nm_planner_options_default();
    nm_plan *p = NULL;
    npumoe_error err = {0};
    o.policy = NM_POLICY_NAIVE; /* one capacity: a whole chunk */
    o.compare = false;
    o.n_prompt = 4 * LARGE;
    const npumoe_status st =
        nm_planner_make(nm_allocator_default(), &x.model, &x.loads, &x.cost, &o, &p, &err);
    ok(st == NPUMOE_OK && p->layers[0].groups[0].capacities[0] == LARGE,
       "programs of a whole chunk");
    ok(p && p->crossover <= 4, "pay for prompts of %u tokens", p ? p->crossover : 0);
    nm_plan_free(&p);
    synth_free(&x);
}

int main(void)
{
    note("seed %llu", (unsigned long long)rng.state);
    test_by_hand();
    test_between();
    test_pays();
    test_crossover();
    return done_testing();
}
