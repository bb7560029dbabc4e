/* test_planner.c: the planner against brute force and against its promises: tiers by exact paths, budgets
 * kept, ours never predicted worse, the same plan every time, more room never hurting, a lower bound that
 * no plan passes. */
#include "support/synth.h"
#include "tap.h"

#include "moe/planner_priv.h"

#include <math.h>

static synth_rng rng = {20260418};

static const npumoe_allocator *mem(void)
{
    return nm_allocator_default();
}

/* ---- tiers ---------------------------------------------------------------------------------- */

enum { GRID = 7, ITEMS = 9 };

/* Falls to a preferred capacity and rises after it, by steps of its own on both sides. */
static void unimodal(double *w, double *cap)
{
    for (uint32_t e = 0; e < ITEMS; e++) {
        const uint32_t best = synth_next(&rng, GRID);
        double v = synth_unit(&rng);
        w[best * ITEMS + e] = v;
        for (uint32_t m = best + 1; m < GRID; m++)
            w[m * ITEMS + e] = w[(m - 1) * ITEMS + e] + synth_unit(&rng);
        for (uint32_t m = best; m-- > 0;)
            w[m * ITEMS + e] = w[(m + 1) * ITEMS + e] + synth_unit(&rng);
        cap[e] = synth_next(&rng, 3) ? 0.5 + 2.0 * synth_unit(&rng) : HUGE_VAL;
    }
}

static void arbitrary(double *w, double *cap)
{
    for (uint32_t i = 0; i < GRID * ITEMS; i++)
        w[i] = synth_unit(&rng);
    for (uint32_t e = 0; e < ITEMS; e++)
        cap[e] = synth_unit(&rng);
}

static double cost_of(const double *w, const double *cap, uint32_t set)
{
    double sum = 0.0;
    for (uint32_t e = 0; e < ITEMS; e++) {
        double best = cap[e];
        for (uint32_t m = 0; m < GRID; m++)
            if (set & 1u << m)
                best = fmin(best, w[m * ITEMS + e]);
        sum += best;
    }
    return sum;
}

static uint32_t count_bits(uint32_t v)
{
    uint32_t n = 0;
    for (; v; v &= v - 1)
        n++;
    return n;
}

static double brute(const double *w, const double *cap, uint32_t k)
{
    double best = HUGE_VAL;
    for (uint32_t set = 0; set < 1u << GRID; set++)
        if (count_bits(set) <= k)
            best = fmin(best, cost_of(w, cap, set));
    return best;
}

static double chosen(const double *w, const double *cap, uint32_t k, double *total)
{
    uint32_t tiers[GRID], n, set = 0;
    const nm_tiers_problem t = {ITEMS, GRID, k, w, cap};
    npumoe_error err;
    if (nm_tiers_static(mem(), &t, tiers, &n, total, &err) != NPUMOE_OK)
        return HUGE_VAL;
    for (uint32_t i = 0; i < n; i++)
        set |= 1u << tiers[i];
    return n <= k ? cost_of(w, cap, set) : HUGE_VAL;
}

static void test_static_tiers(void)
{
    enum { CASES = 400 };
    double w[GRID * ITEMS], cap[ITEMS], total;
    unsigned exact = 0, honest = 0, feasible = 0, near = 0;
    for (int i = 0; i < CASES; i++) {
        const uint32_t k = 1 + synth_next(&rng, 4);
        unimodal(w, cap);
        exact += fabs(chosen(w, cap, k, &total) - brute(w, cap, k)) < 1e-9;
        arbitrary(w, cap);
        const double got = chosen(w, cap, k, &total), want = brute(w, cap, k);
        honest += fabs(total - got) < 1e-9;
        feasible += got >= want - 1e-9;
        near += got <= want * 1.25;
    }
    is_int(exact, CASES, "static tiers are brute force's where costs fall and rise");
    is_int(honest, CASES, "with any costs the total is what the tiers cost");
    is_int(feasible, CASES, "and never below the best");
    ok(near > CASES * 9 / 10, "and seldom far above it: %u of %d within a quarter", near, CASES);
}

static double cover_cost(const double *need, const double *cost, const double *tail, uint32_t set)
{
    double sum = 0.0;
    uint32_t top = 0;
    for (uint32_t m = 0; m < GRID; m++)
        top = set & 1u << m ? m : top;
    for (uint32_t m = 0; m < GRID; m++) {
        uint32_t t = m;
        while (t < GRID && !(set & 1u << t))
            t++;
        sum += need[m] * cost[t < GRID ? t : top];
    }
    return sum + tail[top];
}

static void test_cover(void)
{
    enum { CASES = 400 };
    unsigned exact = 0, honest = 0;
    for (int i = 0; i < CASES; i++) {
        double need[GRID], cost[GRID], tail[GRID], total, best = HUGE_VAL;
        uint32_t tiers[GRID], set = 0;
        const uint32_t k = 1 + synth_next(&rng, 4);
        for (uint32_t m = 0; m < GRID; m++) {
            need[m] = synth_next(&rng, 20);
            cost[m] = (m ? cost[m - 1] : 0.0) + synth_unit(&rng);
        }
        tail[GRID - 1] = 0.0;
        for (uint32_t m = GRID - 1; m-- > 0;)
            tail[m] = tail[m + 1] + 10.0 * synth_unit(&rng);
        const uint32_t n = nm_tiers_cover(GRID, k, need, cost, tail, tiers, &total);
        for (uint32_t t = 0; t < n; t++)
            set |= 1u << tiers[t];
        for (uint32_t s = 1; s < 1u << GRID; s++)
            if (count_bits(s) <= k)
                best = fmin(best, cover_cost(need, cost, tail, s));
        honest += n <= k && fabs(cover_cost(need, cost, tail, set) - total) < 1e-9;
        exact += fabs(total - best) < 1e-9;
    }
    is_int(exact, CASES, "covering tiers are brute force's");
    is_int(honest, CASES, "and cost what the path says");
}

/* ---- plans ---------------------------------------------------------------------------------- */

static synth_setting make_setting(const synth_shape *s, double launch_us)
{
    synth_setting x;
    if (!synth_make(s, &rng, launch_us, &x))
        bail("no memory");
    return x;
}

static nm_plan *make(const synth_setting *x, const nm_planner_options *o)
{
    nm_plan *plan = NULL;
    npumoe_error err = {0};
    if (nm_planner_make(mem(), &x->model, &x->loads, &x->cost, o, &plan, &err) != NPUMOE_OK)
        note("%s: %s", nm_plan_policy_name(o->policy), err.message);
    return plan;
}

static double make_us(const synth_setting *x, const nm_planner_options *o)
{
    nm_plan *plan = make(x, o);
    const double us = plan ? plan->predicted.us : HUGE_VAL;
    nm_plan_free(&plan);
    return us;
}

/* Slots and bytes of some kinds: none, few of one, few of both, plenty. */
static void draw_budgets(nm_cost *c)
{
    static const uint32_t slots[] = {0, 1, 3, 7, 20, 120, UINT32_MAX};
    static const uint64_t experts[] = {0, 1, 4, 13, 40, 1u << 20};
    c->device.slots = slots[synth_next(&rng, 7)];
    c->device.total_bytes = experts[synth_next(&rng, 6)] * c->device.expert_bytes + 77;
    c->device.program_bytes = (1 + synth_next(&rng, 12)) * c->device.expert_bytes;
    c->device.shares_weights = synth_next(&rng, 2);
    c->device.queue_depth = 1 + synth_next(&rng, 8);
}

/* Every third setting has none, some are as bad as can be. */
static void draw_beside(nm_cost *c)
{
    const uint32_t kind = synth_next(&rng, 3);
    for (int i = 0; i < NM_COST_WORKS; i++)
        c->beside[i] = kind == 0 ? 0.0 : fmin(1.0 + kind * synth_unit(&rng), NM_COST_MOST_BESIDE);
}

static void test_budgets_and_policies(void)
{
    enum { CASES = 20 };
    unsigned made = 0, kept = 0, best = 0, faster = 0, total = 0;
    for (int i = 0; i < CASES; i++) {
        const synth_shape s = {1 + synth_next(&rng, 3),
                               4 + synth_next(&rng, 20),
                               2,
                               64 + synth_next(&rng, 200),
                               12,
                               1.2 * synth_unit(&rng),
                               0.6};
        synth_setting x = make_setting(&s, synth_next(&rng, 2) ? 3.0 : 150.0);
        nm_planner_options o = nm_planner_options_default();
        double us[NM_POLICY_END];
        draw_budgets(&x.cost);
        draw_beside(&x.cost);
        o.max_group = 1 + synth_next(&rng, 10);
        o.n_tiers = 1 + synth_next(&rng, 6);
        o.max_capacities = 1 + synth_next(&rng, 6);
        o.in_flight = 1 + synth_next(&rng, 2);
        o.overflow = synth_next(&rng, 3) ? NM_OVERFLOW_SPILL : NM_OVERFLOW_REPASS;
        for (o.policy = NM_POLICY_OURS; o.policy < NM_POLICY_END; o.policy++) {
            nm_plan *plan = make(&x, &o);
            us[o.policy] = plan ? plan->predicted.us : HUGE_VAL;
            made += plan != NULL;
            kept += plan && plan->programs <= x.cost.device.slots &&
                    plan->bytes <= x.cost.device.total_bytes;
            best += plan && plan->bound_us <= plan->predicted.us * (1.0 + 1e-9);
            total++;
            nm_plan_free(&plan);
        }
        bool won = true;
        for (int p = NM_POLICY_PAPER; p < NM_POLICY_END; p++)
            won = won && us[NM_POLICY_OURS] <= us[p] * (1.0 + 1e-9);
        faster += won;
        synth_free(&x);
    }
    is_int(made, total, "every policy makes a valid plan for any budgets");
    is_int(kept, total, "within slots and bytes");
    is_int(best, total, "and no plan is below its lower bound");
    is_int(faster, CASES, "ours is never predicted worse than another policy");
}

static void test_same_again(void)
{
    const synth_shape s = {3, 32, 4, 256, 32, 0.9, 0.5};
    synth_setting x = make_setting(&s, 100.0);
    const nm_planner_options o = nm_planner_options_default();
    char *text[2] = {NULL, NULL};
    x.cost.device.slots = 11;
    for (int i = 0; i < 2; i++) {
        nm_plan *plan = make(&x, &o);
        if (plan)
            nm_plan_print(plan, &text[i], NULL);
        nm_plan_free(&plan);
    }
    is_str(text[0], text[1], "the same plan, byte for byte");
    npumoe_text_free(&text[0]);
    npumoe_text_free(&text[1]);
    synth_free(&x);
}

static void test_more_room(void)
{
    static const uint32_t slots[] = {0, 1, 2, 3, 5, 8, 13, 30, 60, 120, 500, 5000, UINT32_MAX};
    static const uint32_t experts[] = {0, 1, 2, 3, 5, 8, 20, 40, 80, 200};
    const synth_shape s = {4, 48, 6, 256, 24, 1.0, 0.5};
    synth_setting x = make_setting(&s, 120.0);
    nm_planner_options o = nm_planner_options_default();
    o.compare = false; /* ours alone keeps the promise */
    double before = HUGE_VAL;
    unsigned fine = 0;
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        x.cost.device.slots = slots[i];
        const double us = make_us(&x, &o);
        fine += us <= before * (1.0 + 1e-12);
        before = us;
    }
    is_int(fine, sizeof slots / sizeof slots[0], "more slots never hurt");
    fine = 0;
    before = HUGE_VAL;
    x.cost.device.slots = 25;
    for (size_t i = 0; i < sizeof experts / sizeof experts[0]; i++) {
        x.cost.device.total_bytes = experts[i] * x.cost.device.expert_bytes;
        const double us = make_us(&x, &o);
        fine += us <= before * (1.0 + 1e-12);
        before = us;
    }
    is_int(fine, sizeof experts / sizeof experts[0], "nor do more bytes");
    synth_free(&x);
}

static void test_objectives(void)
{
    const synth_shape s = {2, 32, 4, 256, 24, 1.0, 0.5};
    synth_setting x = make_setting(&s, 60.0);
    nm_planner_options o = nm_planner_options_default();
    npumoe_error err = {0};
    nm_plan *fast = make(&x, &o), *spare = NULL, *plan = NULL;
    o.objective = NM_OBJECTIVE_CPU;
    spare = make(&x, &o);
    ok(fast && spare && spare->predicted.host_us <= fast->predicted.host_us,
       "objective cpu takes less host time");
    ok(spare && spare->predicted.us <= spare->cpu_only.us * (1.0 + 1e-9),
       "and is not slower than the host alone");
    nm_plan_free(&spare);
    o.objective = NM_OBJECTIVE_ENERGY;
    is_int(nm_planner_make(mem(), &x.model, &x.loads, &x.cost, &o, &plan, &err), NPUMOE_EINVAL,
           "no energy without watts");
    ok(strstr(err.message, "watts") != NULL, "and the message says so: %s", err.message);
    x.cost.host_watts = 20.0;
    x.cost.device_watts = 5.0;
    spare = make(&x, &o);
    ok(fast && spare && spare->predicted.joules <= spare->cpu_only.joules &&
           spare->predicted.joules > 0.0,
       "with watts it takes less than the host alone");
    nm_plan_free(&spare);
    nm_plan_free(&fast);
    synth_free(&x);
}

static unsigned count_parts(const synth_setting *x, const nm_planner_options *o)
{
    nm_plan *plan = make(x, o);
    unsigned n = 0;
    for (uint32_t l = 0; plan && l < plan->n_layers; l++)
        n += plan->layers[l].on_device[NM_PART_QKV] + plan->layers[l].on_device[NM_PART_O];
    nm_plan_free(&plan);
    return n;
}

/* Layers with attention on the device; the plan's programs for it. */
static unsigned count_attention(const synth_setting *x, const nm_planner_options *o,
                                uint32_t *chunks)
{
    nm_plan *plan = make(x, o);
    unsigned n = 0;
    uint32_t programs = 0;
    *chunks = plan ? plan->attention_chunks : 0;
    for (uint32_t l = 0; plan && l < plan->n_layers; l++) {
        n += plan->layers[l].on_device[NM_PART_ATTENTION];
        programs += plan->layers[l].programs;
    }
    if (plan)
        is_int(plan->programs, programs + *chunks, "programs of attention are counted once");
    nm_plan_free(&plan);
    return n;
}

static void test_attention(void)
{
    const synth_shape s = {3, 32, 4, 256, 24, 1.0, 0.5};
    synth_setting x = make_setting(&s, 3.0);
    nm_planner_options o = nm_planner_options_default();
    const nm_curve *host = &x.cost.host_part[NM_PART_ATTENTION];
    uint32_t chunks;
    o.n_prompt = 8 * s.chunk;
    is_int(count_attention(&x, &o, &chunks), 0, "a device without attention has none");
    nm_curve *device = &x.cost.device_part[NM_PART_ATTENTION];
    *device = *host;
    for (uint32_t i = 0; i < device->n; i++)
        device->us[i] /= 20.0;
    x.cost.device.has_attention = true;
    is_int(count_attention(&x, &o, &chunks), 3, "attention that is much faster there goes there");
    is_int(chunks, 32768 / s.chunk, "with programs for many chunks, where any number is allowed");
    x.cost.device.slots = 96;
    is_int(count_attention(&x, &o, &chunks), 3, "also where slots are few");
    is_int(chunks, 8, "with programs for the prompt's chunks");
    o.n_prompt = 13 * s.chunk;
    is_int(count_attention(&x, &o, &chunks), 3, "a longer prompt, too");
    is_int(chunks, 13, "for all of its chunks, more than an eighth of the slots, as it pays");
    x.cost.device.slots = UINT32_MAX;
    o.no_parts = true;
    is_int(count_attention(&x, &o, &chunks), 0, "or nobody wants it");
    o.no_parts = false;
    *device = *host;
    for (uint32_t i = 0; i < device->n; i++)
        device->us[i] *= 20.0;
    is_int(count_attention(&x, &o, &chunks), 0, "or it is slow there");
    synth_free(&x);
}

static void scale_curve(nm_curve *c, double by)
{
    for (uint32_t i = 0; i < c->n; i++)
        c->us[i] *= by;
}

static nm_curve level(double us)
{
    return (nm_curve){.n = 2, .rows = {1, 4096}, .us = {us, us}};
}

/* Two chunks whose dense parts are the device's, 12 ms of a layer, and whose experts are the host's, more than that.
 * The host waits for the first chunk's parts and for the last QKV, and nowhere else; were both chunks to begin at once, also
 * for the second one's QKV. */
static void test_turns(void)
{
    const synth_shape s = {4, 16, 2, 128, 1, 0.5, 0.0};
    synth_setting x = make_setting(&s, 3.0);
    nm_planner_options o = nm_planner_options_default();
    static const double device[] = {
        [NM_PART_QKV] = 10000, [NM_PART_ATTENTION] = 1000, [NM_PART_O] = 1000};
    for (int i = NM_PART_QKV; i <= NM_PART_O; i++) {
        x.cost.device_part[i] = level(device[i]);
        x.cost.host_part[i] = level(100000);
    }
    x.cost.device.has_attention = true;
    scale_curve(&x.cost.device_expert, 10000);
    scale_curve(&x.cost.host_expert, 8);
    o.compare = false;
    o.in_flight = 2;
    o.n_prompt = 2 * s.chunk;
    nm_plan *p = make(&x, &o);
    uint32_t on_device = 0, groups = 0;
    for (uint32_t l = 0; l < p->n_layers; l++) {
        groups += p->layers[l].n_groups;
        for (int i = NM_PART_QKV; i <= NM_PART_O; i++)
            on_device += p->layers[l].on_device[i];
    }
    const double waits = 2 * p->predicted.wait_us, host = 2 * p->predicted.host_us;
    ok(groups == 0 && on_device >= 11, "parts on the device, experts on the host");
    ok(host > 6 * 12000 && waits > 20000 && waits < 25000, "the host waits twice: %.0f us of %.0f",
       waits, waits + host);
    nm_plan_free(&p);
    synth_free(&x);
}

static void test_far_rows(void)
{
    const synth_shape s = {2, 32, 4, 256, 24, 1.0, 0.5};
    synth_setting x = make_setting(&s, 3.0);
    const nm_planner_options o = nm_planner_options_default();
    const double host_us = nm_curve_at(&x.cost.host_part[NM_PART_QKV], s.chunk);
    x.cost.device_part[NM_PART_QKV] = (nm_curve){1, {s.chunk}, {host_us / 20.0}};
    x.cost.device_part[NM_PART_O] = x.cost.device_part[NM_PART_QKV];
    is_int(count_parts(&x, &o), 4, "parts that the device computes much faster go there");
    x.cost.part_far_us[NM_PART_QKV] = x.cost.part_far_us[NM_PART_O] = host_us;
    is_int(count_parts(&x, &o), 0, "unless their rows cost the host what it would save");
    synth_free(&x);
}

static void test_refusals(void)
{
    const synth_shape s = {1, 8, 2, 64, 4, 0.5, 0.5};
    synth_setting x = make_setting(&s, 5.0);
    nm_planner_options o = nm_planner_options_default();
    npumoe_error err = {0};
    nm_plan *plan = NULL;
    o.n_tiers = 9;
    is_int(nm_planner_make(mem(), &x.model, &x.loads, &x.cost, &o, &plan, &err), NPUMOE_EINVAL,
           "too many tiers: %s", err.message);
    o = nm_planner_options_default();
    o.in_flight = NM_PLAN_MAX_IN_FLIGHT + 1;
    is_int(nm_planner_make(mem(), &x.model, &x.loads, &x.cost, &o, &plan, &err), NPUMOE_EINVAL,
           "too many in flight: %s", err.message);
    o = nm_planner_options_default();
    o.policy = NM_POLICY_LADDER;
    o.overflow = NM_OVERFLOW_PRUNE;
    is_int(nm_planner_make(mem(), &x.model, &x.loads, &x.cost, &o, &plan, &err), NPUMOE_EINVAL,
           "a ladder that prunes: %s", err.message);
    o = nm_planner_options_default();
    x.loads.layers[0].load[3] = s.chunk + 1;
    is_int(nm_planner_make(mem(), &x.model, &x.loads, &x.cost, &o, &plan, &err), NPUMOE_EINVAL,
           "a load above the chunk: %s", err.message);
    synth_free(&x);
}

/* ---- the bound, by trying all plans ---------------------------------------------------------- */

enum { TINY = 4, SETS = 6 };

static const uint32_t sets[SETS][2] = {{16, 0}, {32, 0}, {64, 0}, {16, 32}, {16, 64}, {32, 64}};

/* Puts experts into groups by label (label 0: host); set[g]: which capacities. */
static void write_plan(nm_plan *plan, const uint32_t *label, const uint32_t *set, double price)
{
    nm_plan_layer *l = &plan->layers[0];
    l->n_groups = 0;
    l->price = price;
    for (uint32_t g = 1; g <= TINY; g++) {
        nm_plan_group *group = &l->groups[l->n_groups];
        group->n_experts = 0;
        for (uint32_t e = 0; e < TINY; e++)
            if (label[e] == g)
                group->experts[group->n_experts++] = e;
        if (group->n_experts == 0)
            continue;
        const uint32_t *c = sets[set[g - 1]];
        group->n_capacities = c[1] ? 2 : 1;
        group->capacities[0] = c[0];
        group->capacities[1] = c[1];
        l->n_groups++;
    }
}

/* The next number in base n, digit by digit; false at the end. */
static bool count_up(uint32_t *digit, uint32_t n_digits, uint32_t base)
{
    for (uint32_t i = 0; i < n_digits; i++) {
        if (++digit[i] < base)
            return true;
        digit[i] = 0;
    }
    return false;
}

/* Each partition once: labels appear in order. */
static bool is_canonical(const uint32_t *label)
{
    uint32_t most = 0;
    for (uint32_t e = 0; e < TINY; e++) {
        if (label[e] > most + 1)
            return false;
        most = label[e] > most ? label[e] : most;
    }
    return true;
}

static double try_all(const synth_setting *x, nm_plan *plan, unsigned *tried)
{
    static const double prices[] = {-1.0, 0.02, 0.4};
    uint32_t label[TINY] = {0}, set[TINY];
    double best = HUGE_VAL;
    do {
        if (!is_canonical(label))
            continue;
        uint32_t n_groups = 0;
        for (uint32_t e = 0; e < TINY; e++)
            n_groups = label[e] > n_groups ? label[e] : n_groups;
        memset(set, 0, sizeof set);
        do {
            for (size_t p = 0; p < 3; p++) {
                write_plan(plan, label, set, prices[p]);
                if (nm_planner_predict(plan, &x->loads, NULL) != NPUMOE_OK)
                    return -1.0;
                best = fmin(best, plan->predicted.us);
                (*tried)++;
            }
        } while (count_up(set, n_groups, SETS));
    } while (count_up(label, TINY, TINY + 1));
    return best;
}

/* A plan with room for any groups of four experts. */
static nm_plan *roomy_plan(const synth_setting *x, const nm_planner_options *o)
{
    nm_planner_options naive = *o;
    naive.policy = NM_POLICY_NAIVE;
    nm_plan *plan = make(x, &naive);
    if (!plan || plan->layers[0].n_groups != TINY)
        bail("the naive plan has other groups than expected");
    for (uint32_t g = 0; g < TINY; g++) {
        nm_plan_group *group = &plan->layers[0].groups[g];
        nm_free(plan->allocator, group->experts);
        group->experts = nm_alloc_array(plan->allocator, TINY, sizeof *group->experts);
    }
    plan->policy = NM_POLICY_OURS;
    return plan;
}

static void test_bound(void)
{
    enum { CASES = 10, PLAIN = 6 };
    unsigned below = 0, near = 0, tried = 0;
    double worst = 0.0;
    for (int i = 0; i < CASES; i++) {
        const synth_shape s = {1, TINY, 2, 64, 8, 1.5 * synth_unit(&rng), 0.7};
        synth_setting x = make_setting(&s, i % 2 ? 2.0 : 200.0);
        nm_planner_options o = nm_planner_options_default();
        o.n_tiers = 3;
        o.max_capacities = 2;
        o.overflow = i % 4 < 2 ? NM_OVERFLOW_SPILL : NM_OVERFLOW_REPASS;
        o.in_flight = 1 + (uint32_t)(i < PLAIN ? i / 3 : i % 2);
        for (int w = 0; i >= PLAIN && w < NM_COST_WORKS; w++)
            x.cost.beside[w] = i == PLAIN ? NM_COST_MOST_BESIDE : 1.0 + synth_unit(&rng);
        nm_plan *ours = make(&x, &o), *roomy = roomy_plan(&x, &o);
        const double best = try_all(&x, roomy, &tried);
        if (ours) {
            below += best > 0.0 && ours->bound_us <= best * (1.0 + 1e-9);
            worst = fmax(worst, ours->predicted.us / best - 1.0);
            near += ours->predicted.us <= best * 1.05;
        }
        for (uint32_t g = 0; g < TINY; g++) /* all groups are freed */
            roomy->layers[0].groups[g].n_experts = 0;
        roomy->layers[0].n_groups = TINY;
        nm_plan_free(&ours);
        nm_plan_free(&roomy);
        synth_free(&x);
    }
    note("%u plans tried; ours is at most %.2f %% above the best of them", tried, 100.0 * worst);
    is_int(below, CASES, "the lower bound is below every plan there is");
    is_int(near, CASES, "ours is within 5 %% of the best plan there is");
}

/* Planner and executor must agree on what is launched. */
static void test_launch_rule(void)
{
    const synth_shape s = {1, 16, 4, 128, 16, 1.0, 0.8};
    synth_setting x = make_setting(&s, 150.0);
    const nm_planner_options o = nm_planner_options_default();
    nm_plan *plan = make(&x, &o);
    double launches = 0.0;
    for (uint32_t c = 0; plan && c < s.n_scenarios; c++)
        for (uint32_t g = 0; g < plan->layers[0].n_groups; g++) {
            const nm_plan_group *group = &plan->layers[0].groups[g];
            uint32_t load[NM_PLAN_MAX_GROUP];
            for (uint32_t i = 0; i < group->n_experts; i++)
                load[i] = x.loads.layers[0].load[c * s.n_expert + group->experts[i]];
            launches += nm_plan_launch_pays(plan, &plan->layers[0], group, load);
        }
    ok(plan && plan->layers[0].n_groups > 0, "there is something to launch");
    is_near(launches / s.n_scenarios, plan ? plan->predicted.launches : -1.0, 1e-9,
            "nm_plan_launch_pays says what the planner assumed");
    nm_plan_free(&plan);
    synth_free(&x);
}

/* What it predicts for its prompt and from where on it says that it pays are one statement; among the cases
 * are plans that pay for several chunks in flight only. */
static void test_crossover(void)
{
    enum { CASES = 60 };
    unsigned agree = 0, plans = 0, chunks = 0, parts = 0, never = 0;
    for (int i = 0; i < CASES; i++) {
        const synth_shape s = {2, 8 + synth_next(&rng, 16), 2, 128, 8, synth_unit(&rng), 0.5};
        synth_setting x = make_setting(&s, 20.0 + 400.0 * synth_unit(&rng));
        nm_planner_options o = nm_planner_options_default();
        o.policy = synth_next(&rng, NM_POLICY_END);
        o.in_flight = synth_next(&rng, NM_PLAN_MAX_IN_FLIGHT + 1);
        o.n_prompt = synth_next(&rng, 5) * 100;
        nm_plan *p = make(&x, &o);
        if (p && p->programs > 0) {
            const uint32_t whole =
                p->n_prompt ? (p->n_prompt - 1) / p->chunk + 1 : 8; /* endless: 8 are as good */
            plans++;
            chunks += p->crossover > p->chunk && p->crossover < UINT32_MAX;
            parts += p->crossover < p->chunk;
            never += p->crossover == UINT32_MAX;
            agree += p->n_prompt == 0 ||
                     (p->predicted.us <= p->cpu_only.us) == (p->crossover <= whole * p->chunk);
        }
        nm_plan_free(&p);
        synth_free(&x);
    }
    note("%u plans: %u for several chunks, %u for less than one, %u never", plans, chunks, parts,
         never);
    is_int(agree, plans, "a plan's crossover agrees with its prediction");
    ok(chunks > 0 && parts > 0 && never > 0, "some pay late, some early, some never");
}

/* Without a number the planner takes one itself: no other is much better, and no smaller one is as good. */
static void test_in_flight(void)
{
    enum { CASES = 12 };
    unsigned good = 0, least = 0, fewest = 0, more = 0;
    for (int i = 0; i < CASES; i++) {
        const synth_shape s = {6, 16, 4, 128, 8, 1.0, 0.5};
        synth_setting x = make_setting(&s, 5.0 + 40.0 * (i % 4));
        nm_curve *device = &x.cost.device_part[NM_PART_ATTENTION];
        double us[NM_PLAN_MAX_IN_FLIGHT + 1];
        nm_planner_options o = nm_planner_options_default();
        x.cost.device.has_attention =
            i % 2 == 0; /* dense parts and experts there: one chunk waits for both */
        *device = x.cost.host_part[NM_PART_ATTENTION];
        for (uint32_t j = 0; j < device->n; j++)
            device->us[j] *= 0.5;
        o.compare = false;
        o.n_prompt = (i % 3 ? 8 : 4) * 128;
        o.in_flight = 0;
        nm_plan *p = make(&x, &o);
        nm_plan *other = make(&x, &o);
        npumoe_error err = {0};
        double best = HUGE_VAL;
        for (uint32_t n = 2; n <= NM_PLAN_MAX_IN_FLIGHT; n++) {
            other->in_flight = n;
            ok(nm_planner_predict(other, &x.loads, &err) == NPUMOE_OK, "%d in flight", (int)n);
            us[n] = other->predicted.us;
            best = fmin(best, us[n]);
        }
        good += p->in_flight >= 2 && p->in_flight <= NM_PLAN_MAX_IN_FLIGHT &&
                fabs(p->predicted.us - us[p->in_flight]) <= 1e-6 * best;
        least += p->predicted.us <= 1.0101 * best;
        fewest += p->in_flight == 2 || us[p->in_flight - 1] > 1.0099 * best;
        more += p->in_flight > 2;
        nm_plan_free(&p);
        nm_plan_free(&other);
        synth_free(&x);
    }
    note("%u of %u plans want more than two chunks in flight", more, (unsigned)CASES);
    is_int(good, CASES, "what is predicted is what so many chunks in flight take");
    is_int(least, CASES, "no number is 1 %% better");
    is_int(fewest, CASES, "a smaller number is 1 %% worse");
    ok(more > 0 && more < CASES, "some want more than two, some do not");
}

int main(void)
{
    note("seed %llu", (unsigned long long)rng.state);
    test_static_tiers();
    test_cover();
    test_budgets_and_policies();
    test_same_again();
    test_more_room();
    test_objectives();
    test_attention();
    test_turns();
    test_far_rows();
    test_refusals();
    test_bound();
    test_launch_rule();
    test_crossover();
    test_in_flight();
    return done_testing();
}
