/* test_planner_settings.c: what a plan is free to choose where nobody says: how many slots attention gets, how many chunks are in
 * flight. More slots are hardly ever worse, no plan that fits is below the bound, none is behind the same with the choice made for it.
 * And planning ends, whatever a cost table says, and when it is told to. */
#include "support/synth.h"
#include "tap.h"

#include "moe/planner_priv.h"

#include <math.h>
#include <unistd.h>

enum { CHUNK = 256 };

static synth_rng rng = {20261123};

static synth_setting make_setting(const synth_shape *s, double factor)
{
    synth_setting x;
    if (!synth_make(s, &rng, 5.0, &x))
        bail("no memory");
    synth_slow(&x.cost, CHUNK, factor, true);
    return x;
}

static nm_planner_options for_prompt(uint32_t n)
{
    nm_planner_options o = nm_planner_options_default();
    o.n_prompt = n;
    o.in_flight = 0;
    o.compare = false;
    return o;
}

/* Attention's programs are all layers', so that with few slots they are the best that there is. */
static void test_slots(void)
{
    static const uint32_t slots[] = {1, 2, 4, 6, 10, 16, 24, 32, 48, 64, 96};
    enum { N = sizeof slots / sizeof slots[0], CASES = 4 };
    unsigned more = 0, bound = 0, fits = 0, above = 0, whole = 0;
    for (int c = 0; c < CASES; c++) {
        const synth_shape s = {4, 16, 2, CHUNK, 8, 0.8, 0.4};
        synth_setting x = make_setting(&s, 0.3 + 0.2 * c);
        double us[N], bounds[N];
        for (size_t i = 0; i < N; i++) {
            const nm_planner_options o = for_prompt((c % 2 ? 6 : 4) * CHUNK);
            x.cost.device.slots = slots[i];
            nm_plan *p = synth_plan_with(&x, &o);
            us[i] = p->predicted.us;
            bounds[i] = p->bound_us;
            more += i == 0 || us[i] <= 1.02 * us[i - 1];
            fits += p->programs <= slots[i];
            above += p->attention_chunks > slots[i] / 8;
            whole += p->attention_chunks * CHUNK >= o.n_prompt;
            nm_plan_free(&p);
        }
        for (size_t i = 0; i < N; i++) /* of more slots */
            for (size_t j = 0; j <= i; j++)
                bound += bounds[i] <= us[j] * (1.0 + 1e-9);
        synth_free(&x);
    }
    is_int(fits, N * CASES, "plans fit their slots");
    is_int(more, N * CASES, "more of them are no worse, to two hundredths");
    is_int(bound, CASES * N * (N + 1) / 2, "no plan that fits is below the bound");
    ok(above > CASES, "attention has more than an eighth of them in %u", above);
    ok(whole > 2 * CASES, "and all chunks of the prompt in %u", whole);
}

/* With two or three chunks it may be better to run them one after the other: QKV and O are shared by rows then. */
static void test_in_flight(void)
{
    enum { CASES = 12 };
    unsigned alone = 0, together = 0, best = 0;
    for (int i = 0; i < CASES; i++) {
        const synth_shape s = {
            2 + synth_next(&rng, 3), 8 + synth_next(&rng, 16), 2, CHUNK, 8, synth_unit(&rng), 0.4};
        synth_setting x = make_setting(&s, 0.2 + 0.8 * synth_unit(&rng));
        x.cost.device.has_attention = i % 3 == 0;
        nm_planner_options o = for_prompt((2 + synth_next(&rng, 2)) * CHUNK);
        nm_plan *p = synth_plan_with(&x, &o);
        bool good = true;
        alone += p->in_flight == 1;
        together += p->in_flight > 1;
        for (o.in_flight = 1; o.in_flight <= NM_PLAN_MAX_IN_FLIGHT; o.in_flight++) {
            nm_plan *q = synth_plan_with(&x, &o);
            /* fewer lanes than are best, if it makes hardly a difference: a hundredth */
            good =
                good && p->predicted.us <= q->predicted.us * (o.in_flight == 1 ? 1.0 + 1e-9 : 1.02);
            nm_plan_free(&q);
        }
        best += good;
        nm_plan_free(&p);
        synth_free(&x);
    }
    ok(alone > 0 && together > 0, "one chunk in flight in %u plans, several in %u", alone,
       together);
    is_int(best, CASES, "whichever is quicker");
}

/* Times that no machine has are no reason to work for ever. */
static void test_ends(void)
{
    const synth_shape s = {3, 8, 2, CHUNK, 8, 0.5, 0.3};
    synth_setting x = make_setting(&s, 0.5);
    const nm_planner_options o = for_prompt(4 * CHUNK);
    x.cost.host_region_us = 1e11;
    alarm(60);
    nm_plan *p = synth_plan_with(&x, &o);
    ok(p->predicted.us >= 1e11, "a host that takes a day for a layer: %.3g us", p->predicted.us);
    alarm(0);
    nm_plan_free(&p);
    synth_free(&x);
}

/* User data: calls that are still answered with yes, and how often layers were all done. */
typedef struct patience {
    int left;
    unsigned after;
} patience;

static bool ask(void *user, uint64_t done, uint64_t total)
{
    patience *p = user;
    p->after += done == total;
    return p->left-- > 0;
}

static void test_cancel(void)
{
    const synth_shape s = {3, 8, 2, CHUNK, 8, 0.5, 0.3};
    synth_setting x = make_setting(&s, 0.5);
    nm_planner_options o = for_prompt(3 * CHUNK);
    patience all = {.left = 1 << 30};
    o.progress = ask;
    o.progress_user = &all;
    nm_plan *p = synth_plan_with(&x, &o);
    nm_plan_free(&p);
    ok(all.after > 20, "it asks %u times after all layers", all.after);
    const int calls = (1 << 30) - all.left;
    unsigned cancelled = 0;
    for (int i = 0; i < 8; i++) {
        patience some = {.left = i * (calls - 1) / 7};
        npumoe_error err = {0};
        o.progress_user = &some;
        cancelled += nm_planner_make(nm_allocator_default(), &x.model, &x.loads, &x.cost, &o, &p,
                                     &err) == NPUMOE_ECANCELED;
    }
    is_int(cancelled, 8, "and ends whenever it is told to");
    synth_free(&x);
}

int main(void)
{
    note("seed %llu", (unsigned long long)rng.state);
    test_slots();
    test_in_flight();
    test_ends();
    test_cancel();
    return done_testing();
}
