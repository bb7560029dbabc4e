/* test_planner_rows.c: QKV and O shared by rows. Where one chunk is in flight it is done, it is predicted to be quicker, no
 * plan is below its bound, and a layer's time and the walk through the prompt agree; where several overlap it is not. */
#include "support/synth.h"
#include "tap.h"

#include "moe/planner_priv.h"

#include <math.h>

enum { CHUNK = 256 };

static synth_rng rng = {20260423};

/* A device that takes so many times as long as the host for whatever it does. */
static synth_setting make_setting(const synth_shape *s, double factor, bool attention)
{
    synth_setting x;
    if (!synth_make(s, &rng, 5.0, &x))
        bail("no memory");
    nm_cost *c = &x.cost;
    for (uint32_t i = 0; i < c->device_expert.n; i++)
        c->device_expert.us[i] = factor * nm_curve_at(&c->host_expert, c->device_expert.rows[i]);
    for (int p = NM_PART_QKV; p <= NM_PART_O; p++) {
        c->device_part[p] = (nm_curve){.n = 1, .rows = {CHUNK}};
        c->device_part[p].us[0] = factor * nm_curve_at(&c->host_part[p], CHUNK);
    }
    c->device_part[NM_PART_ATTENTION] = c->host_part[NM_PART_ATTENTION];
    for (uint32_t i = 0; i < c->host_part[NM_PART_ATTENTION].n; i++)
        c->device_part[NM_PART_ATTENTION].us[i] *= factor;
    c->device.has_attention = attention;
    return x;
}

static nm_plan *make(const synth_setting *x, uint32_t n_prompt, uint32_t in_flight)
{
    nm_planner_options o = nm_planner_options_default();
    nm_plan *plan = NULL;
    npumoe_error err = {0};
    o.n_prompt = n_prompt;
    o.in_flight = in_flight;
    o.compare = false;
    if (nm_planner_make(nm_allocator_default(), &x->model, &x->loads, &x->cost, &o, &plan, &err) !=
        NPUMOE_OK)
        bail("%s", err.message);
    return plan;
}

static uint32_t shared(const nm_plan *p)
{
    uint32_t n = 0;
    for (uint32_t l = 0; l < p->n_layers; l++)
        for (int i = 0; i < NM_COST_PARTS; i++)
            n += p->layers[l].part_rows[i] > 0 ? 1 : 0;
    return n;
}

static bool is_valid(const nm_plan *p)
{
    bool fine = true;
    for (uint32_t l = 0; l < p->n_layers; l++)
        for (int i = 0; i < NM_COST_PARTS; i++) {
            const uint32_t rows = p->layers[l].part_rows[i];
            fine = fine && (rows == 0 || (p->layers[l].on_device[i] && rows < CHUNK &&
                                          rows % p->cost.device.capacity_multiple == 0));
        }
    return fine;
}

/* The same plan, with whole parts. */
static double whole_us(nm_plan *p, const nm_loads *loads)
{
    uint32_t kept[64][NM_COST_PARTS];
    nm_prediction with, without;
    npumoe_error err = {0};
    for (uint32_t l = 0; l < p->n_layers; l++) {
        memcpy(kept[l], p->layers[l].part_rows, sizeof kept[l]);
        memset(p->layers[l].part_rows, 0, sizeof kept[l]);
    }
    if (nm_planner_judge(p, loads, &with, &without, &err) != NPUMOE_OK)
        bail("%s", err.message);
    for (uint32_t l = 0; l < p->n_layers; l++)
        memcpy(p->layers[l].part_rows, kept[l], sizeof kept[l]);
    return with.us;
}

static void test_all_kinds(void)
{
    enum { CASES = 40 };
    unsigned some = 0, valid = 0, quicker = 0, bound = 0, near = 0, same = 0;
    for (int i = 0; i < CASES; i++) {
        const synth_shape s = {
            2 + synth_next(&rng, 3), 8 + synth_next(&rng, 24), 2, CHUNK, 8, synth_unit(&rng), 0.4};
        synth_setting x = make_setting(&s, 0.3 + 1.2 * synth_unit(&rng), synth_next(&rng, 2));
        const uint32_t in_flight = synth_next(&rng, 2);
        nm_plan *p = make(&x, in_flight ? 3 * CHUNK : CHUNK, in_flight);
        double sum = 0.0;
        for (uint32_t l = 0; l + 1 < p->n_layers; l++)
            sum += p->layers[l].predicted.us;
        some += shared(p) > 0;
        valid += is_valid(p);
        quicker += shared(p) == 0 || p->predicted.us < whole_us(p, &x.loads);
        bound += p->bound_us <= p->predicted.us * (1.0 + 1e-9);
        /* of the last layer a prompt wants little, so there the sum is short of something */
        near += in_flight || p->predicted.us >= 0.97 * sum;
        nm_prediction with, without;
        npumoe_error err = {0};
        same += nm_planner_judge(p, &x.loads, &with, &without, &err) == NPUMOE_OK &&
                fabs(with.us / p->predicted.us - 1.0) < 1e-9;
        nm_plan_free(&p);
        synth_free(&x);
    }
    ok(some > CASES / 2, "rows are shared in %u of %u plans", some, (unsigned)CASES);
    is_int(valid, CASES, "of parts that are on the device, in whole steps, not all rows");
    is_int(quicker, CASES, "that is quicker than whole parts");
    is_int(bound, CASES, "and not below the bound");
    is_int(near, CASES, "the walk takes what the layers take");
    is_int(same, CASES, "and again, from the plan as it is written");
}

/* A layer of which parts are all: known to the microsecond. */
static void test_by_hand(void)
{
    const synth_shape s = {2, 8, 2, CHUNK, 1, 0.0, 0.0};
    synth_setting x = make_setting(&s, 0.5, false);
    nm_cost *c = &x.cost;
    for (int p = NM_PART_QKV; p <= NM_PART_O; p += 2)
        c->host_part[p] = (nm_curve){.n = 2, .rows = {16, CHUNK}, .us = {1600.0, 100.0 * CHUNK}};
    c->device_part[NM_PART_QKV].us[0] = c->device_part[NM_PART_O].us[0] = 50.0 * CHUNK;
    c->host_part[NM_PART_ATTENTION] = (nm_curve){.n = 1, .rows = {1}, .us = {8000.0}};
    c->launch_us = c->launch_host_us = 0.0;
    nm_plan *p = make(&x, CHUNK, 0);
    /* two thirds of 256 rows, in steps of 16: 176 for 8800 us beside 80 of the host for 8000 */
    is_int(p->layers[0].part_rows[NM_PART_QKV], 176, "QKV: the device takes 176 of 256 rows");
    const double a = nm_curve_at(&c->host_part[NM_PART_ATTENTION], 1.0);
    uint32_t best = 0;
    double least = HUGE_VAL;
    for (uint32_t r = 16; r < CHUNK; r += 16) {
        const double first = a * r * r / CHUNK / CHUNK;
        const double us = fmax(first + 50.0 * r, a + 100.0 * (CHUNK - r));
        best = us < least ? r : best;
        least = fmin(us, least);
    }
    is_int(p->layers[0].part_rows[NM_PART_O], best,
           "O: %u, as attention to the others runs beside it", best);
    nm_plan_free(&p);
    synth_free(&x);
}

static void test_several_chunks(void)
{
    const synth_shape s = {3, 16, 2, CHUNK, 8, 0.7, 0.4};
    for (int attention = 0; attention < 2; attention++) {
        synth_setting x = make_setting(&s, 0.5, attention);
        nm_plan *p = make(&x, 4 * CHUNK, 0);
        is_int(shared(p), 0, "where chunks overlap nothing is shared");
        nm_plan_free(&p);
        /* a plan of one chunk, for prompts of many: as it is */
        p = make(&x, CHUNK, 0);
        ok(shared(p) > 0, "one chunk");
        nm_prediction with, without;
        npumoe_error err = {0};
        p->n_prompt = 5 * CHUNK;
        for (p->in_flight = 1; p->in_flight <= NM_PLAN_MAX_IN_FLIGHT; p->in_flight++) {
            const npumoe_status st = nm_planner_judge(p, &x.loads, &with, &without, &err);
            ok(st == NPUMOE_OK && with.us > 0.0 && with.us < without.us,
               "%u of five chunks in flight: %.0f us, %.0f", p->in_flight, with.us, without.us);
        }
        nm_plan_free(&p);
        synth_free(&x);
    }
}

int main(void)
{
    note("seed %llu", (unsigned long long)rng.state);
    test_all_kinds();
    test_by_hand();
    test_several_chunks();
    return done_testing();
}
