/* test_planner_rows.c: QKV and O shared by rows. Where one chunk is in flight it is done, it is predicted to be quicker, no
 * plan is below its bound, and a layer's time and the walk through the prompt agree; where several overlap it is not. */
#include "support/synth.h"
#include "tap.h"

#include "moe/planner_priv.h"

#include <math.h>

enum { CHUNK = 256 };

static synth_rng rng = {20260423};

static synth_setting make_setting(const synth_shape *s, double factor, bool attention)
{
    synth_setting x;
    if (!synth_make(s, &rng, 5.0, &x))
        bail("no memory");
    synth_slow(&x.cost, CHUNK, factor, attention);
    return x;
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

static double judged(const nm_plan *p, const nm_loads *loads)
{
    nm_prediction with, without;
    npumoe_error err = {0};
    if (nm_planner_judge(p, loads, &with, &without, &err) != NPUMOE_OK)
        bail("%s", err.message);
    return with.us;
}

/* Whether with some rows of a part that is all the device's it would be quicker. */
static bool leaves_some(nm_plan *p, const nm_loads *loads)
{
    bool some = false;
    for (uint32_t l = 0; l < p->n_layers; l++)
        for (int i = NM_PART_QKV; i <= NM_PART_O; i += NM_PART_O - NM_PART_QKV) {
            uint32_t *rows = &p->layers[l].part_rows[i];
            if (*rows > 0 || !p->layers[l].on_device[i])
                continue;
            for (*rows = 16; *rows < CHUNK; *rows += 16)
                some = some || judged(p, loads) < p->predicted.us * 0.999;
            *rows = 0;
        }
    return some;
}

static void test_all_kinds(void)
{
    enum { CASES = 40 };
    unsigned some = 0, valid = 0, quicker = 0, bound = 0, near = 0, same = 0, left = 0;
    for (int i = 0; i < CASES; i++) {
        const synth_shape s = {
            2 + synth_next(&rng, 3), 8 + synth_next(&rng, 24), 2, CHUNK, 8, synth_unit(&rng), 0.4};
        synth_setting x = make_setting(&s, 0.3 + 1.2 * synth_unit(&rng), synth_next(&rng, 2));
        const uint32_t in_flight = synth_next(&rng, 2);
        nm_plan *p = synth_plan_alone(&x, in_flight ? 3 * CHUNK : CHUNK, in_flight);
        double sum = 0.0;
        for (uint32_t l = 0; l + 1 < p->n_layers; l++)
            sum += p->layers[l].predicted.us;
        some += shared(p) > 0;
        valid += is_valid(p);
        quicker += shared(p) == 0 || p->predicted.us < whole_us(p, &x.loads);
        bound += p->bound_us <= p->predicted.us * (1.0 + 1e-9);
        /* of the last layer a prompt wants little, so there the sum is short of something */
        near += in_flight || p->predicted.us >= 0.97 * sum;
        left += in_flight < 2 && leaves_some(p, &x.loads);
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
    is_int(left, 0, "and no part is left whole that had better be shared");
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
    c->launch_us = c->launch_host_us = 0.0;
    static const struct {
        double attention_us;
        uint32_t n_past;
    } cases[] = {{8000.0, 0}, {40000.0, 0}, {40000.0, 16 * CHUNK}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const double a = cases[i].attention_us, past = cases[i].n_past;
        c->host_part[NM_PART_ATTENTION] = (nm_curve){.n = 2, .rows = {1, 32 * CHUNK}, .us = {a, a}};
        nm_planner_options o = nm_planner_options_default();
        o.n_past = cases[i].n_past;
        o.n_prompt = CHUNK;
        o.in_flight = 0;
        o.compare = false;
        nm_plan *p = synth_plan_with(&x, &o);
        /* two thirds of 256 rows, in steps of 16: 176 for 8800 us beside 80 of the host for 8000 */
        is_int(p->layers[0].part_rows[NM_PART_QKV], 176, "QKV: the device takes 176 of 256 rows");
        uint32_t best = 0;
        double least = HUGE_VAL;
        for (uint32_t r = 16; r < CHUNK; r += 16) {
            const double first = a * r * (past + 0.5 * r) / CHUNK / (past + 0.5 * CHUNK);
            const double us = fmax(first + 50.0 * r, a + 100.0 * (CHUNK - r));
            best = us < least ? r : best;
            least = fmin(us, least);
        }
        is_int(p->layers[0].part_rows[NM_PART_O], best,
               "O: %u, as attention to the others runs beside it", best);
        ok(p->layers[0].bound_us <= p->layers[0].predicted.us * (1.0 + 1e-9),
           "no quicker than its bound: %.0f us, %.0f", p->layers[0].predicted.us,
           p->layers[0].bound_us);
        nm_plan_free(&p);
    }
    synth_free(&x);
}

/* us more or less of all layers, one after the other or as a prompt, with these rows of the part than with all. */
static double gain_of(nm_plan *p, const nm_loads *loads, nm_cost_part part, uint32_t rows,
                      uint32_t n_prompt)
{
    double us[2];
    p->n_prompt = n_prompt;
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t l = 0; l < p->n_layers; l++)
            p->layers[l].part_rows[part] = i * rows;
        us[i] = judged(p, loads);
    }
    return us[1] - us[0];
}

/* A prompt of one chunk gains what its layers gain; of the last one it wants QKV. */
static void test_walk(void)
{
    const synth_shape s = {4, 16, 2, CHUNK, 8, 0.5, 0.4};
    for (int i = 0; i < 8; i++) {
        const nm_cost_part part = i % 2 ? NM_PART_O : NM_PART_QKV;
        const uint32_t rows = i / 2 % 2 ? 64 : 208;
        synth_setting x = make_setting(&s, 0.5, i >= 4);
        nm_plan *p = synth_plan_alone(&x, 0, 1);
        for (uint32_t l = 0; l < p->n_layers; l++) {
            nm_plan_layer *layer = &p->layers[l];
            memset(layer->part_rows, 0, sizeof layer->part_rows);
            layer->on_device[NM_PART_QKV] = part == NM_PART_QKV;
            layer->on_device[NM_PART_O] = part == NM_PART_O;
            layer->on_device[NM_PART_ATTENTION] = i >= 4;
        }
        p->attention_chunks = i >= 4;
        const double layers = gain_of(p, &x.loads, part, rows, 0);
        const double want = layers * (part == NM_PART_O ? s.n_layers - 1 : s.n_layers) / s.n_layers;
        is_near(gain_of(p, &x.loads, part, rows, CHUNK), want, 1e-6,
                "%u rows of %s, the %s attends: %.0f us", rows, nm_cost_part_name(part),
                i < 4 ? "host" : "device", want);
        nm_plan_free(&p);
        synth_free(&x);
    }
}

/* What rows in the device's cache cost the host is a share of that for a whole chunk. */
static void test_far(void)
{
    const synth_shape s = {3, 16, 2, CHUNK, 8, 0.5, 0.4};
    synth_setting x = make_setting(&s, 0.5, false);
    nm_plan *p = synth_plan_alone(&x, 0, 1);
    for (uint32_t l = 0; l < p->n_layers; l++) {
        p->layers[l].on_device[NM_PART_QKV] = true;
        p->layers[l].part_rows[NM_PART_QKV] = CHUNK / 4;
    }
    const double us = judged(p, &x.loads);
    p->cost.part_far_us[NM_PART_QKV] = 1000.0;
    is_near(judged(p, &x.loads), us + s.n_layers * 250.0, 1e-6, "a quarter of the rows are far");
    nm_plan_free(&p);
    synth_free(&x);
}

static void test_several_chunks(void)
{
    const synth_shape s = {3, 16, 2, CHUNK, 8, 0.7, 0.4};
    for (int attention = 0; attention < 2; attention++) {
        synth_setting x = make_setting(&s, 0.5, attention);
        nm_plan *p = synth_plan_alone(&x, 4 * CHUNK, 0);
        is_int(shared(p), 0, "where chunks overlap nothing is shared");
        nm_plan_free(&p);
        /* a plan of one chunk, for prompts of many: as it is */
        p = synth_plan_alone(&x, CHUNK, 0);
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

/* Where each side slows the other down, sharing is worth less, or nothing. */
static void test_beside(void)
{
    static const double factors[] = {1.0, 1.3, 1.5, 2.0}, devices[] = {0.3, 0.5, 0.8};
    const synth_shape s = {3, 16, 2, CHUNK, 8, 0.5, 0.4};
    unsigned n = 0, some = 0, quicker = 0;
    for (int i = 0; i < 4 * 3 * 2; i++, n++) {
        synth_setting x = make_setting(&s, devices[i / 4 % 3], i / 12 != 0);
        for (int w = 0; w < NM_COST_WORKS; w++)
            x.cost.beside[w] = factors[i % 4];
        nm_plan *p = synth_plan_alone(&x, CHUNK, 0);
        some += shared(p) > 0;
        quicker += p->predicted.us <= whole_us(p, &x.loads) * (1.0 + 1e-9);
        nm_plan_free(&p);
        synth_free(&x);
    }
    ok(some > n / 3 && some < n, "rows are shared in %u of %u plans", some, n);
    is_int(quicker, n, "where that is quicker, beside each other");
}

/* A device that is slower than the host at everything still takes some of the rows. */
static void test_slower_device(void)
{
    const synth_shape s = {3, 16, 2, CHUNK, 8, 0.5, 0.4};
    for (int attention = 0; attention < 2; attention++) {
        synth_setting x = make_setting(&s, 1.3, attention);
        nm_plan *p = synth_plan_alone(&x, CHUNK, 0);
        is_int(shared(p), 2 * s.n_layers, "a slower device: QKV and O of all layers are shared");
        nm_plan_free(&p);
        synth_free(&x);
    }
}

/* A chunk of no more rows than a program has takes that program's time. */
static void test_short_chunks(void)
{
    const synth_shape s = {2, 16, 2, CHUNK, 8, 0.5, 0.4};
    static const uint32_t tokens[] = {80, 160, 161};
    double us[3];
    synth_setting x = make_setting(&s, 0.5, false);
    nm_plan *p = synth_plan_alone(&x, CHUNK, 0);
    for (uint32_t l = 0; l < p->n_layers; l++) {
        nm_plan_layer *layer = &p->layers[l];
        for (uint32_t g = 0; g < layer->n_groups; g++)
            nm_free(p->allocator, layer->groups[g].experts);
        layer->n_groups = 0;
        layer->on_device[NM_PART_QKV] = true;
        layer->on_device[NM_PART_O] = layer->on_device[NM_PART_ATTENTION] = false;
        layer->part_rows[NM_PART_QKV] = 160;
        layer->part_rows[NM_PART_O] = 0;
    }
    for (uint32_t i = 0; i < 3; i++) {
        nm_prediction with, without;
        npumoe_error err = {0};
        p->n_prompt = tokens[i];
        is_int(nm_planner_judge(p, &x.loads, &with, &without, &err), NPUMOE_OK, "%u tokens %s",
               tokens[i], err.message);
        us[i] = with.device_us * tokens[i] / CHUNK;
        ok(with.host_us < without.host_us, "... with less of the host");
    }
    is_near(us[0], us[2], 1e-6, "a program of 160 rows, whether these are there");
    is_near(us[1], us[2], 1e-6, "or just these");
    nm_plan_free(&p);
    synth_free(&x);
}

int main(void)
{
    note("seed %llu", (unsigned long long)rng.state);
    test_all_kinds();
    test_by_hand();
    test_walk();
    test_far();
    test_several_chunks();
    test_beside();
    test_slower_device();
    test_short_chunks();
    return done_testing();
}
