/* test_planner_budget.c: one way per layer under two budgets, of more ways than are looked at: near the best that
 * trying all would find, within budgets, and the same whatever was asked for before. */
#include "support/synth.h"
#include "tap.h"

#include "moe/planner_priv.h"

#include <math.h>

enum { LAYERS = 3, WAYS = 90, CASES = 24, MOST_PROGRAMS = 40 };

static synth_rng rng = {20260419};

typedef struct rig {
    nm_cost cost;
    nm_planner p;
    nm_layer_work layers[LAYERS];
    nm_way ways[LAYERS][WAYS];
    nm_way *of[LAYERS][WAYS];
} rig;

/* More programs and bytes are quicker, some more than others. [0] is the host alone. */
static void draw(rig *r)
{
    for (int l = 0; l < LAYERS; l++) {
        for (int i = 0; i < WAYS; i++) {
            const uint32_t n = i ? 1 + synth_next(&rng, MOST_PROGRAMS) : 0;
            r->ways[l][i] =
                (nm_way){.programs = n, .bytes = (n + synth_next(&rng, 4) * (n > 0)) * 10};
            r->of[l][i] = &r->ways[l][i];
        }
        r->layers[l] = (nm_layer_work){.p = &r->p, .ways = r->of[l], .n_ways = WAYS};
    }
    r->cost = (nm_cost){.device = {.expert_bytes = 10}};
    r->p = (nm_planner){.a = nm_allocator_default(), .cost = &r->cost};
}

/* price: how much a program is worth. */
static void score(rig *r, double price)
{
    for (int l = 0; l < LAYERS; l++)
        for (int i = 0; i < WAYS; i++) {
            const double n = r->ways[l][i].programs, b = (double)r->ways[l][i].bytes;
            r->ways[l][i].score =
                1000.0 / (1.0 + price * n) + 0.7 * fabs(b - 200.0) + (i * 37 % 11);
        }
}

static void set_budgets(rig *r, uint32_t slots, uint64_t bytes)
{
    r->p.slots = slots;
    r->cost.device.total_bytes = bytes;
}

static double choose(rig *r, uint32_t *choice)
{
    npumoe_error err = {0};
    double sum = 0.0;
    if (nm_planner_choose(&r->p, r->layers, LAYERS, true, choice, &err) != NPUMOE_OK)
        bail("%s", err.message);
    for (int l = 0; l < LAYERS; l++)
        sum += r->ways[l][choice[l]].score;
    return sum;
}

static bool fits(const rig *r, const uint32_t *choice)
{
    uint64_t programs = 0, bytes = 0;
    for (int l = 0; l < LAYERS; l++) {
        programs += r->ways[l][choice[l]].programs;
        bytes += r->ways[l][choice[l]].bytes;
    }
    return programs <= r->p.slots && bytes <= r->cost.device.total_bytes;
}

static double try_all(const rig *r)
{
    double best = HUGE_VAL;
    for (uint32_t i = 0; i < WAYS; i++)
        for (uint32_t j = 0; j < WAYS; j++)
            for (uint32_t k = 0; k < WAYS; k++) {
                const uint32_t c[LAYERS] = {i, j, k};
                if (fits(r, c))
                    best =
                        fmin(best, r->ways[0][i].score + r->ways[1][j].score + r->ways[2][k].score);
            }
    return best;
}

/* Prices of which one asks for much and the other for little, so that the same budgets hold for one only. */
static void test_prices(void)
{
    static rig r;
    unsigned same = 0, within = 0, near = 0, bound = 0;
    for (int i = 0; i < CASES; i++) {
        uint32_t first[LAYERS], between[LAYERS], again[LAYERS];
        draw(&r);
        set_budgets(&r, 20 + synth_next(&rng, 60), 200 + 10 * synth_next(&rng, 60));
        score(&r, 0.02);
        const double before = choose(&r, first);
        score(&r, 2.0);
        choose(&r, between);
        within += fits(&r, first) && fits(&r, between);
        score(&r, 0.02);
        same += choose(&r, again) == before && memcmp(first, again, sizeof first) == 0;
        const double best = try_all(&r);
        near += before >= best && before <= 1.05 * best;
        set_budgets(&r, UINT32_MAX, UINT64_MAX);
        bound += choose(&r, again) < before;
    }
    is_int(same, CASES, "the same choice, whatever other scores were asked about");
    is_int(within, CASES, "within slots and bytes");
    is_int(near, CASES, "within 5 %% of the best of all");
    ok(bound > CASES / 4, "budgets hold in %u of %u", bound, (unsigned)CASES);
}

/* The first price leaves nothing out, since all fits; the next one does. What the first chose is still there. */
static void test_list_stays(void)
{
    static rig r;
    uint32_t first[LAYERS], other[LAYERS];
    nm_way *was[LAYERS];
    draw(&r);
    set_budgets(&r, UINT32_MAX, UINT64_MAX);
    score(&r, 0.02);
    choose(&r, first);
    for (int l = 0; l < LAYERS; l++)
        was[l] = r.layers[l].ways[first[l]];
    set_budgets(&r, 15, 150);
    score(&r, 2.0);
    choose(&r, other);
    bool stays = true;
    for (int l = 0; l < LAYERS; l++)
        stays = stays && r.layers[l].n_ways == WAYS && r.layers[l].ways[first[l]] == was[l];
    ok(stays, "a list of ways is what it was");
}

/* Not one is better than another, so none can be left out. */
static void test_equal(void)
{
    static rig r;
    uint32_t choice[LAYERS];
    draw(&r);
    for (int l = 0; l < LAYERS; l++)
        for (int i = 0; i < WAYS; i++)
            r.ways[l][i].score = i ? 5.0 : 6.0;
    set_budgets(&r, 5, 50);
    const double sum = choose(&r, choice);
    ok(fits(&r, choice) && sum >= 15.0 && sum <= 18.0, "90 equal ways: %g", sum);
}

int main(void)
{
    note("seed %llu", (unsigned long long)rng.state);
    test_prices();
    test_list_stays();
    test_equal();
    return done_testing();
}
