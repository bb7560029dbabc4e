/* test_planner_told.c: what a plan says of itself beside its times: the shapes that were looked at and not taken are the best of
 * them, and those that a budget forbade; prompts from the crossover on are faster by plan, one token less is not; what a group spares
 * the host it spares where it is launched; and nothing is on the device that no chunk of the prompt launches. */
#include "support/synth.h"
#include "tap.h"

#include "moe/planner_priv.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 256 };

static synth_rng rng = {20261124};

static synth_setting make_setting(const synth_shape *s, double factor, double launch_us)
{
    synth_setting x;
    if (!synth_make(s, &rng, launch_us, &x))
        bail("no memory");
    synth_slow(&x.cost, CHUNK, factor, true);
    x.cost.launch_us = launch_us;
    return x;
}

/* ---- shapes that were not taken --------------------------------------------------------------- */

static void offer(nm_layer_work *l, unsigned name, double score)
{
    char what[NM_PLAN_WORDS];
    const nm_offer o = {.score = score, .predicted = {.us = score}};
    snprintf(what, sizeof what, "shape %u", name);
    nm_layer_tried(l, what, &o);
}

/* Whatever the order, and however many there are. */
static void test_best_are_kept(void)
{
    enum { MANY = 3 * NM_PLANNER_TRIED };
    nm_layer_work l = {0};
    unsigned best = 0, of_name = 0;
    for (unsigned i = 0; i < MANY; i++) {
        offer(&l, i, MANY - i + 0.5); /* the best come last */
        offer(&l, i, MANY - i);
        offer(&l, i, MANY - i + 0.7);
    }
    offer(&l, MANY, HUGE_VAL);
    is_int(l.n_tried, NM_PLANNER_TRIED, "so many are kept");
    for (uint32_t i = 0; i < l.n_tried; i++) {
        best += l.tried[i].score <= NM_PLANNER_TRIED;
        of_name +=
            l.tried[i].score == floor(l.tried[i].score) && l.tried[i].as.us == l.tried[i].score;
    }
    is_int(best, NM_PLANNER_TRIED, "the best ones");
    is_int(of_name, NM_PLANNER_TRIED, "and of each name the best one");
}

static bool names(const nm_plan_rejected *r, const char *what)
{
    return strstr(r->what, what) != NULL;
}

/* A device that is quicker at everything: the rivals of a way with all parts have some, and no list ends with group sizes. */
static void test_rivals(void)
{
    enum { LAYERS = 3 };
    const synth_shape s = {LAYERS, 16, 2, CHUNK, 8, 0.8, 0.4};
    synth_setting x = make_setting(&s, 0.4, 5.0);
    nm_plan *p = synth_plan(&x, 4 * CHUNK, 0);
    unsigned full = 0, attend = 0, large = 0;
    for (uint32_t l = 0; l < LAYERS; l++) {
        const nm_plan_layer *of = &p->layers[l];
        full += of->n_rejected == NM_PLAN_MAX_REJECTED;
        bool any = false;
        for (uint32_t i = 0; i < of->n_rejected; i++) {
            any = any || names(&of->rejected[i], "attention");
            large += of->rejected[i].too_large;
        }
        attend += any;
    }
    is_int(full, LAYERS, "every layer has rivals to show");
    is_int(attend, LAYERS, "with attention among them");
    is_int(large, 0, "without budgets none was too large");
    nm_plan_free(&p);
    synth_free(&x);
}

/* Of few slots: what would be better and does not fit, and what would have fit. */
static void test_budgets(void)
{
    enum { LAYERS = 4 };
    static const uint32_t slots[] = {5, 9, 20};
    unsigned large = 0, others = 0, wrong = 0, layers = 0;
    for (size_t k = 0; k < sizeof slots / sizeof slots[0]; k++) {
        const synth_shape s = {LAYERS, 16, 2, CHUNK, 8, 0.8, 0.4};
        synth_setting x = make_setting(&s, 0.4, 5.0);
        x.cost.device.slots = slots[k];
        x.cost.device.has_attention = false;
        nm_plan *p = synth_plan(&x, 4 * CHUNK, 2);
        for (uint32_t l = 0; l + 1 < LAYERS; l++) { /* of the last one a prompt wants a row */
            const nm_plan_layer *of = &p->layers[l];
            bool some = false, fit = false;
            for (uint32_t i = 0; i < of->n_rejected; i++) {
                const nm_plan_rejected *r = &of->rejected[i];
                const bool fits = p->programs - of->programs + r->programs <= slots[k];
                some = some || r->too_large;
                fit = fit || fits;
                wrong += r->too_large && (fits || r->us > 1.04 * of->predicted.us);
            }
            large += some;
            others += fit;
            layers++;
        }
        nm_plan_free(&p);
        synth_free(&x);
    }
    is_int(large, layers, "each layer names what there was no room for");
    is_int(others, layers, "and what there was room for");
    is_int(wrong, 0, "nothing that fits, or that is slower, was too large");
}

/* ---- from which length on --------------------------------------------------------------------- */

/* Faster, with something launched. */
static bool pays(const nm_plan *plan, const nm_loads *loads, uint32_t n)
{
    nm_plan p = *plan;
    nm_loads shorter = {0};
    nm_prediction with = {0}, without = {0};
    npumoe_error err = {0};
    p.n_prompt = n;
    if (n < CHUNK && nm_planner_thin(nm_allocator_default(), loads, n, &shorter, &err) != NPUMOE_OK)
        bail("%s", err.message);
    if (nm_planner_judge(&p, n < CHUNK ? &shorter : loads, &with, &without, &err) != NPUMOE_OK)
        bail("%s", err.message);
    nm_loads_free(nm_allocator_default(), &shorter);
    return with.launches > 0.0 && with.us < without.us;
}

static void test_crossover(void)
{
    enum { CASES = 30 };
    unsigned plans = 0, from = 0, before = 0, own = 0, late = 0;
    for (uint32_t i = 0; i < CASES; i++) {
        const synth_shape s = {2, 8 + synth_next(&rng, 16), 2, CHUNK, 8, synth_unit(&rng), 0.5};
        synth_setting x =
            make_setting(&s, 0.2 + 0.9 * synth_unit(&rng), 20.0 + 400.0 * synth_unit(&rng));
        const uint32_t n = 40 + synth_next(&rng, 4 * CHUNK);
        nm_plan *p = synth_plan(&x, n, i % 3);
        if (p->crossover < UINT32_MAX) {
            plans++;
            from += pays(p, &x.loads, p->crossover);
            before += p->crossover == 1 || !pays(p, &x.loads, p->crossover - 1);
            own += p->predicted.us < p->cpu_only.us ? p->crossover <= n : p->crossover > n;
            late += p->crossover > 16;
        }
        nm_plan_free(&p);
        synth_free(&x);
    }
    ok(plans > CASES / 2 && late > CASES / 4, "%u plans pay from somewhere on, %u of them late",
       plans, late);
    is_int(from, plans, "a prompt of that length is faster, and something is launched");
    is_int(before, plans, "with a token less it is not");
    is_int(own, plans, "it agrees with what is predicted for the plan's own prompt");
}

/* ---- what is launched ------------------------------------------------------------------------- */

/* Mean over the scenarios of what the host would take for the group where it is launched. */
static double spared(const nm_plan *p, const nm_loads *loads, uint32_t l, const nm_plan_group *g)
{
    double us = 0.0;
    for (uint32_t s = 0; s < loads->n_scenarios; s++) {
        uint32_t load[NM_PLAN_MAX_GROUP];
        double alone = 0.0;
        for (uint32_t i = 0; i < g->n_experts; i++) {
            load[i] = loads->layers[l].load[s * loads->n_expert + g->experts[i]];
            alone += nm_curve_at(&p->cost.host_expert, load[i]);
        }
        us += nm_plan_launch_pays(p, &p->layers[l], g, load) ? alone : 0.0;
    }
    return us / loads->n_scenarios;
}

static void test_launches(void)
{
    enum { CASES = 48 };
    unsigned groups = 0, right = 0, launched = 0, seldom = 0, plans = 0;
    for (uint32_t i = 0; i < CASES; i++) {
        const synth_shape s = {3, 24, 2, CHUNK, 8, 1.6, 0.6};
        synth_setting x = make_setting(&s, 0.3 + 0.1 * (i % 5), 300.0);
        nm_plan *p = synth_plan(&x, i % 2 ? 3 * CHUNK : 0, i % 3);
        for (uint32_t l = 0; l < s.n_layers; l++)
            for (uint32_t k = 0; k < p->layers[l].n_groups; k++) {
                const nm_plan_group *g = &p->layers[l].groups[k];
                const double us = spared(p, &x.loads, l, g);
                groups++;
                right += fabs(g->host_saved_us - us) <= 1e-6 * us + 1e-9;
                launched += g->launches > 0.0;
                seldom += g->launches < 1.0;
            }
        plans += nm_plan_check(p, NULL) == NPUMOE_OK;
        nm_plan_free(&p);
        synth_free(&x);
    }
    ok(seldom > 0, "%u of %u groups are not launched in every chunk", seldom, groups);
    is_int(right, groups, "groups spare the host what they would take there when launched");
    is_int(launched, groups, "all of them are, in some chunk");
    is_int(plans, CASES, "the plans are in order");
}

/* Of a prompt without a whole chunk only what that launches counts; its prediction stays what it is. */
static void test_short_prompts(void)
{
    static const uint32_t prompts[] = {1, 2, 30, CHUNK - 1};
    enum { CASES = 6, N = sizeof prompts / sizeof prompts[0] };
    unsigned none = 0, idle = 0, more = 0;
    for (uint32_t i = 0; i < CASES; i++) {
        const synth_shape s = {3, 16, 2, CHUNK, 8, 1.0, 0.4};
        synth_setting x = make_setting(&s, 0.4 + 0.05 * i, 100.0);
        for (size_t k = 0; k < N; k++) {
            nm_plan *p = synth_plan(&x, prompts[k], i % 3);
            none += prompts[k] == 1 && p->programs == 0 && p->bytes == 0;
            idle += (p->predicted.launches == 0.0) == (p->programs == 0);
            more += p->programs > 0;
            nm_plan_free(&p);
        }
        synth_free(&x);
    }
    is_int(none, CASES, "nothing is on the device for prompts of one token");
    is_int(idle, CASES * N, "nor for others that launch nothing");
    ok(more > 0, "%u plans have something there", more);
}

/* Nor is it where another policy's plan was the better one: these place what their policy says, whatever is launched. */
static void test_policies_short(void)
{
    enum { CASES = 6 };
    const synth_shape s = {3, 16, 2, CHUNK, 8, 1.0, 0.4};
    nm_planner_options o = nm_planner_options_default();
    unsigned none = 0, others = 0;
    o.n_prompt = 1;
    o.n_tiers = o.max_capacities = 1; /* which a ladder has more of */
    for (uint32_t i = 0; i < CASES; i++) {
        synth_setting x = make_setting(&s, 0.1 + 0.1 * i, 5.0);
        nm_plan *p = synth_plan_with(&x, &o);
        none += p->programs == 0 && p->bytes == 0 && p->predicted.us == p->cpu_only.us;
        for (uint32_t k = 0; k < p->n_rejected; k++)
            others += p->rejected[k].programs > 0;
        nm_plan_free(&p);
        synth_free(&x);
    }
    is_int(none, CASES, "another policy's plan leaves nothing on the device for one token either");
    ok(others > 0, "%u plans of other policies would", others);
}

int main(void)
{
    note("seed %llu", (unsigned long long)rng.state);
    test_best_are_kept();
    test_rivals();
    test_budgets();
    test_crossover();
    test_launches();
    test_short_prompts();
    test_policies_short();
    return done_testing();
}
