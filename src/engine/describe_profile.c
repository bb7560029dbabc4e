/* describe_profile.c: a profile as the numbers and sentences that `npumoe calibrate` shows.
 *
 * The order of experts and the capacities come from the MAIN part; what they would be worth is judged on
 * the HELD part, which they have not seen ("judged_on"; a text too short to hold anything out is judged
 * on itself, and the report says so). Shares are 0..1. Keys: docs/calibrate.md. */
#include "engine/describe.h"
#include "moe/profile_stats.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define DEFAULT_CHUNK 512u
#define LEAST_CHUNKS  8u /* for a verdict */
#define MAX_CHUNK     16384u
#define N_COVERAGE    20 /* points of the curve, besides 0 */
#define N_LOADS       33 /* classes of relative load, a quarter of the mean each; the last is open */
#define LIMIT         0.05
#define TIGHT_LIMIT   0.01

typedef struct report {
    const nm_profile *p;
    uint32_t chunk;
    nm_profile_part judge;
    uint32_t *order;    /* [n_layers][n_expert] */
    uint32_t *capacity; /* [n_expert] */
    npumoe_error *err;
    /* gathered for the verdict */
    double top_quarter, gini, busiest, worst_text, held_distance;
    uint32_t idle;
    nm_profile_cost uniform, own; /* with the same overflow in MAIN; judged */
} report;

static json_t *share(double v)
{
    return json_real(round(v * 1e5) / 1e5);
}

static void set(json_t *o, const char *key, json_t *v)
{
    nm_describe_put(o, key, v);
}

static const uint32_t *order_of(const report *r, uint32_t layer)
{
    return r->order + (size_t)layer * r->p->model.n_expert;
}

/* ---- what was read -------------------------------------------------------------------------- */

static json_t *model_json(const nm_profile *p)
{
    const nm_profile_model *m = &p->model;
    char hash[20];
    json_t *o = json_object(), *layers = json_array();
    snprintf(hash, sizeof hash, "%016" PRIx64, m->router_hash);
    set(o, "name", json_string(m->name));
    set(o, "architecture", json_string(m->architecture));
    set(o, "router_hash", json_string(hash));
    set(o, "n_layer", json_integer(m->n_layer));
    set(o, "n_expert", json_integer(m->n_expert));
    set(o, "n_expert_used", json_integer(m->n_expert_used));
    set(o, "n_embd", json_integer(m->n_embd));
    set(o, "n_ff_expert", json_integer(m->n_ff_expert));
    for (uint32_t i = 0; i < p->n_layers; i++)
        json_array_append_new(layers, json_integer(p->layer_of[i]));
    set(o, "layers", layers);
    return o;
}

static json_t *tokens_json(const nm_profile *p)
{
    json_t *o = json_object();
    set(o, "main", nm_describe_u64(p->part[NM_PROFILE_MAIN].tokens));
    set(o, "held_out", nm_describe_u64(p->part[NM_PROFILE_HELD].tokens));
    return o;
}

/* Mean over layers of the distance between a text's popularity and that of all texts. */
static double text_distance(const report *r, const nm_profile_text *t)
{
    const nm_profile *p = r->p;
    const uint32_t n = p->model.n_expert;
    double sum = 0;
    for (uint32_t l = 0; l < p->n_layers; l++) {
        uint64_t all[NM_MAX_EXPERTS];
        const size_t first = (size_t)l * n;
        for (uint32_t e = 0; e < n; e++)
            all[e] = p->part[NM_PROFILE_MAIN].pairs[first + e] +
                     p->part[NM_PROFILE_HELD].pairs[first + e];
        sum += nm_profile_distance(t->pairs + first, all, n);
    }
    return sum / p->n_layers;
}

static json_t *texts_json(report *r)
{
    json_t *texts = json_array();
    for (size_t i = 0; i < r->p->n_texts; i++) {
        const nm_profile_text *t = &r->p->texts[i];
        json_t *o = json_object();
        set(o, "name", json_string(t->name));
        set(o, "bytes", nm_describe_u64(t->bytes));
        set(o, "tokens", nm_describe_u64(t->tokens));
        set(o, "held_out", nm_describe_u64(t->held_tokens));
        if (t->pairs && t->tokens > 0 && r->p->n_texts > 1) {
            const double d = text_distance(r, t);
            r->worst_text = fmax(r->worst_text, d);
            set(o, "distance", share(d));
        }
        json_array_append_new(texts, o);
    }
    return texts;
}

/* ---- layers --------------------------------------------------------------------------------- */

static uint32_t count_idle(const report *r, uint32_t layer)
{
    const nm_profile *p = r->p;
    uint32_t idle = 0;
    for (uint32_t e = 0; e < p->model.n_expert; e++) {
        const size_t at = (size_t)layer * p->model.n_expert + e;
        idle += p->part[NM_PROFILE_MAIN].pairs[at] == 0 && p->part[NM_PROFILE_HELD].pairs[at] == 0;
    }
    return idle;
}

/* Experts that make up a share of a layer's experts, at least one. */
static uint32_t experts_of(const nm_profile *p, double part)
{
    const uint32_t n = (uint32_t)lround(part * p->model.n_expert);
    return n > 0 ? n : 1;
}

static json_t *layer_json(report *r, uint32_t l)
{
    static const struct {
        const char *key;
        double q;
    } quantiles[] = {{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}};
    const nm_profile *p = r->p;
    const uint32_t n = p->model.n_expert, *order = order_of(r, l);
    const double mean = (double)r->chunk * p->model.n_expert_used / n;
    const double gini = nm_profile_gini(p, NM_PROFILE_MAIN, l);
    const double busiest = nm_profile_popularity(p, NM_PROFILE_MAIN, l, order[0]) * n;
    json_t *o = json_object(), *popularity = json_array();
    set(o, "layer", json_integer(p->layer_of[l]));
    set(o, "gini", share(gini));
    set(o, "busiest", share(busiest));
    set(o, "idle", json_integer(count_idle(r, l)));
    set(o, "idle_in_a_chunk", share(1 - nm_profile_pool_above(p, NM_PROFILE_MAIN, l, r->chunk, 0)));
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++)
        set(o, quantiles[i].key,
            share(nm_profile_pool_quantile(p, NM_PROFILE_MAIN, l, r->chunk, quantiles[i].q) /
                  mean));
    set(o, "top_10", share(nm_profile_coverage(p, r->judge, l, order, experts_of(p, 0.10))));
    const double quarter = nm_profile_coverage(p, r->judge, l, order, experts_of(p, 0.25));
    set(o, "top_25", share(quarter));
    set(o, "top_50", share(nm_profile_coverage(p, r->judge, l, order, experts_of(p, 0.50))));
    const size_t first = (size_t)l * n;
    const double distance = nm_profile_distance(p->part[NM_PROFILE_MAIN].pairs + first,
                                                p->part[NM_PROFILE_HELD].pairs + first, n);
    set(o, "held_out_distance", share(distance));
    for (uint32_t e = 0; e < n; e++)
        json_array_append_new(popularity, share(nm_profile_popularity(p, NM_PROFILE_MAIN, l, e)));
    set(o, "popularity", popularity);
    r->idle += count_idle(r, l);
    r->gini += gini / p->n_layers;
    r->busiest += busiest / p->n_layers;
    r->top_quarter += quarter / p->n_layers;
    r->held_distance += distance / p->n_layers;
    return o;
}

/* Means over layers of the numbers of the layers; idle experts are summed. */
static json_t *total_json(const json_t *layers)
{
    static const char *const keys[] = {
        "gini",   "busiest", "idle",   "idle_in_a_chunk",  "p50", "p95", "p99",
        "top_10", "top_25",  "top_50", "held_out_distance"};
    json_t *o = json_object();
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        double sum = 0;
        size_t l;
        json_t *layer;
        json_array_foreach(layers, l, layer) sum +=
            json_number_value(json_object_get(layer, keys[i]));
        const bool count = json_is_integer(json_object_get(json_array_get(layers, 0), keys[i]));
        set(o, keys[i],
            count ? json_integer((json_int_t)sum) : share(sum / (double)json_array_size(layers)));
    }
    return o;
}

/* ---- curves --------------------------------------------------------------------------------- */

/* Mean over layers of the share of pairs that the first share of the experts carries; between two
 * experts in proportion. */
static double mean_coverage(const report *r, nm_profile_part part, double of_experts)
{
    const nm_profile *p = r->p;
    const double n = of_experts * p->model.n_expert;
    const uint32_t whole = (uint32_t)n;
    double sum = 0;
    for (uint32_t l = 0; l < p->n_layers; l++) {
        sum += nm_profile_coverage(p, part, l, order_of(r, l), whole);
        if (whole < p->model.n_expert)
            sum += (n - whole) * nm_profile_popularity(p, part, l, order_of(r, l)[whole]);
    }
    return sum / p->n_layers;
}

static json_t *coverage_json(const report *r)
{
    json_t *o = json_object(), *x = json_array(), *main = json_array(), *held = json_array();
    for (int i = 0; i <= N_COVERAGE; i++) {
        const double of_experts = (double)i / N_COVERAGE;
        json_array_append_new(x, share(of_experts));
        json_array_append_new(main, share(mean_coverage(r, NM_PROFILE_MAIN, of_experts)));
        json_array_append_new(held, share(mean_coverage(r, NM_PROFILE_HELD, of_experts)));
    }
    set(o, "experts", x);
    set(o, "main", main);
    if (r->p->part[NM_PROFILE_HELD].tokens > 0)
        set(o, "held_out", held);
    else
        json_decref(held);
    return o;
}

/* Share of (layer, expert, chunk) per class of load / mean load: idle, then quarters. */
static json_t *loads_of_size(const report *r, uint32_t size)
{
    const nm_profile *p = r->p;
    const double mean = (double)size * p->model.n_expert_used / p->model.n_expert;
    json_t *o = json_object(), *shares = json_array();
    double above[N_LOADS] = {0};
    for (uint32_t l = 0; l < p->n_layers; l++)
        for (int i = 0; i < N_LOADS; i++)
            above[i] +=
                nm_profile_pool_above(p, NM_PROFILE_MAIN, l, size, i * mean / 4) / p->n_layers;
    set(o, "chunk", json_integer(size));
    set(o, "idle", share(1 - above[0]));
    for (int i = 0; i < N_LOADS; i++)
        json_array_append_new(shares, share(above[i] - (i + 1 < N_LOADS ? above[i + 1] : 0)));
    set(o, "shares", shares);
    return o;
}

static json_t *loads_json(const report *r)
{
    json_t *sizes = json_array();
    for (uint32_t i = 0; i < NM_PROFILE_SIZES; i++) {
        if (r->p->part[NM_PROFILE_MAIN].chunks[i] == 0)
            continue;
        json_t *o = loads_of_size(r, NM_PROFILE_SIZE(i));
        set(o, "chunks", nm_describe_u64(r->p->part[NM_PROFILE_MAIN].chunks[i]));
        set(o, "held_out", nm_describe_u64(r->p->part[NM_PROFILE_HELD].chunks[i]));
        json_array_append_new(sizes, o);
    }
    return sizes;
}

/* ---- capacities ----------------------------------------------------------------------------- */

typedef enum capacity_rule {
    UNIFORM_TIMES, /* a multiple of the mean load */
    PAPER,         /* the busiest quarter has four times the others' */
    WORST,         /* every token may come */
    UNIFORM_LIMIT, /* one for all, overflow at most a share */
    OWN_LIMIT,     /* one for each expert, likewise */
    OWN_AS_UNIFORM /* the same with the overflow that the uniform one of a share has */
} capacity_rule;

static const struct capacity_case {
    const char *name;
    capacity_rule rule;
    double argument;
} capacity_cases[] = {
    {"uniform, 1 x mean", UNIFORM_TIMES, 1},
    {"uniform, 1.5 x mean", UNIFORM_TIMES, 1.5},
    {"uniform, 2 x mean", UNIFORM_TIMES, 2},
    {"uniform, 4 x mean", UNIFORM_TIMES, 4},
    {"uniform, whole chunk", WORST, 0},
    {"paper: busiest quarter 4 x, others 1 x mean", PAPER, 4},
    {"uniform, overflow 5 %", UNIFORM_LIMIT, LIMIT},
    {"one per expert, the same overflow", OWN_AS_UNIFORM, LIMIT},
    {"one per expert, overflow 5 %", OWN_LIMIT, LIMIT},
    {"one per expert, overflow 1 %", OWN_LIMIT, TIGHT_LIMIT},
};

static uint32_t round_up(double rows, uint32_t chunk)
{
    const double steps = ceil(rows / NM_PROFILE_STEP - 1e-9) * NM_PROFILE_STEP;
    const uint32_t most = (chunk + NM_PROFILE_STEP - 1) / NM_PROFILE_STEP * NM_PROFILE_STEP;
    return steps < most ? (uint32_t)steps : most;
}

/* A uniform capacity comes in steps, so it overflows less than it may; this is by how much. */
static npumoe_status fill_as_uniform(report *r, double limit, uint32_t layer)
{
    nm_profile_cost cost = {0};
    NM_TRY(nm_profile_uniform_capacity(r->p, layer, r->chunk, limit, r->capacity, r->err));
    nm_profile_add_cost(r->p, NM_PROFILE_MAIN, layer, r->chunk, r->capacity, &cost);
    return nm_profile_own_capacities(r->p, layer, r->chunk, nm_profile_overflow_share(&cost),
                                     r->capacity, r->err);
}

static npumoe_status fill_capacity(report *r, const struct capacity_case *c, uint32_t layer)
{
    const nm_profile *p = r->p;
    const uint32_t n = p->model.n_expert, quarter = experts_of(p, 0.25);
    const double mean = (double)r->chunk * p->model.n_expert_used / n;
    switch (c->rule) {
    case UNIFORM_LIMIT:
        return nm_profile_uniform_capacity(p, layer, r->chunk, c->argument, r->capacity, r->err);
    case OWN_LIMIT:
        return nm_profile_own_capacities(p, layer, r->chunk, c->argument, r->capacity, r->err);
    case OWN_AS_UNIFORM:
        return fill_as_uniform(r, c->argument, layer);
    case UNIFORM_TIMES:
    case PAPER:
    case WORST:
        break;
    }
    for (uint32_t i = 0; i < n; i++) {
        double rows = c->rule == WORST ? r->chunk : mean;
        if (c->rule == UNIFORM_TIMES || (c->rule == PAPER && i < quarter))
            rows *= c->argument;
        r->capacity[order_of(r, layer)[i]] = round_up(rows, r->chunk);
    }
    return NPUMOE_OK;
}

static json_t *cost_json(const nm_profile_cost *c)
{
    json_t *o = json_object();
    set(o, "padding", share(nm_profile_padding_share(c)));
    set(o, "overflow", share(nm_profile_overflow_share(c)));
    return o;
}

static npumoe_status capacity_json(report *r, const struct capacity_case *c, json_t *list)
{
    nm_profile_cost cost[NM_PROFILE_PARTS] = {{0}};
    for (uint32_t l = 0; l < r->p->n_layers; l++) {
        NM_TRY(fill_capacity(r, c, l));
        for (int i = 0; i < NM_PROFILE_PARTS; i++)
            nm_profile_add_cost(r->p, (nm_profile_part)i, l, r->chunk, r->capacity, &cost[i]);
    }
    json_t *o = json_object();
    set(o, "name", json_string(c->name));
    set(o, "mean_capacity",
        share(cost[NM_PROFILE_MAIN].computed / r->p->n_layers / r->p->model.n_expert));
    set(o, "main", cost_json(&cost[NM_PROFILE_MAIN]));
    if (r->judge == NM_PROFILE_HELD)
        set(o, "held_out", cost_json(&cost[NM_PROFILE_HELD]));
    json_array_append_new(list, o);
    if (c->rule == UNIFORM_LIMIT)
        r->uniform = cost[r->judge];
    if (c->rule == OWN_AS_UNIFORM)
        r->own = cost[r->judge];
    return NPUMOE_OK;
}

static npumoe_status capacities_json(report *r, json_t *list)
{
    for (size_t i = 0; i < sizeof capacity_cases / sizeof capacity_cases[0]; i++)
        NM_TRY(capacity_json(r, &capacity_cases[i], list));
    return NPUMOE_OK;
}

/* ---- the verdict ---------------------------------------------------------------------------- */

NM_PRINTF(2, 3) static void say(json_t *list, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_array_append_new(list, json_string(text));
}

/* An even quarter of the experts would carry a quarter of the pairs; below 35 % a choice of experts
 * saves less than what one launch more costs, above 45 % it is the first thing to do. */
static void judge_popularity(const report *r, json_t *list)
{
    const double c = r->top_quarter;
    const char *word = c >= 0.45   ? "Popularity pays"
                       : c >= 0.35 ? "Popularity pays a little"
                                   : "Popularity does not pay, as the routers spread tokens evenly";
    say(list,
        "%s: the busiest quarter of the experts carries %.0f %% of the pairs%s (even: 25 %%); the "
        "busiest "
        "expert of a layer has %.1f times the mean.",
        word, 100 * c, r->judge == NM_PROFILE_HELD ? " of text that was held out" : "", r->busiest);
    if (r->idle > 0)
        say(list, "%" PRIu32 " of %zu experts saw no token at all.", r->idle,
            (size_t)r->p->n_layers * r->p->model.n_expert);
}

static void judge_tiers(const report *r, json_t *list)
{
    const double ratio = r->uniform.computed > 0 ? r->own.computed / r->uniform.computed : 1;
    const char *word = ratio <= 0.75   ? "Tiers pay"
                       : ratio <= 0.90 ? "Tiers pay a little"
                                       : "Tiers do not pay";
    say(list,
        "%s: for chunks of %" PRIu32
        ", capacities that follow the experts compute %.2f times the rows "
        "of one capacity for all at the same overflow.",
        word, r->chunk, ratio);
    say(list,
        "Expect %.0f %% padding and %.1f %% overflow with them, %.0f %% and %.1f %% with one for "
        "all "
        "(as many tiers as experts are the best that tiers can be; a few lie between).",
        100 * nm_profile_padding_share(&r->own), 100 * nm_profile_overflow_share(&r->own),
        100 * nm_profile_padding_share(&r->uniform), 100 * nm_profile_overflow_share(&r->uniform));
}

/* True: so little that no other sentence would mean anything. */
static bool is_too_little(const report *r, json_t *list)
{
    const uint64_t chunks = nm_profile_chunks(r->p, NM_PROFILE_MAIN, r->chunk);
    if (chunks >= LEAST_CHUNKS)
        return false;
    say(list,
        "Too little text to judge anything: %" PRIu64 " tokens, %" PRIu64 " chunks of %" PRIu32
        "; give at least %u chunks, better a hundred.",
        r->p->part[NM_PROFILE_MAIN].tokens, chunks, r->chunk, LEAST_CHUNKS);
    return true;
}

static void judge_drift(const report *r, json_t *list)
{
    if (r->worst_text > 0)
        say(list,
            "%s: a text's popularity is up to %.2f away from that of all (0 = the same, 1 = "
            "other experts).",
            r->worst_text > 0.25 ? "The texts differ: calibrate on what you will run"
                                 : "The texts agree",
            r->worst_text);
    if (r->judge == NM_PROFILE_HELD)
        say(list, "Held-out text is %.2f away from what was calibrated.", r->held_distance);
    else
        say(list, "No text is long enough to hold anything out (8,192 tokens): everything here is "
                  "judged on what was counted, and flatters it.");
    if (nm_profile_chunks(r->p, NM_PROFILE_MAIN, r->chunk) < 50)
        say(list,
            "Only %" PRIu64 " chunks were counted: give more text before you trust tails (P99).",
            nm_profile_chunks(r->p, NM_PROFILE_MAIN, r->chunk));
}

/* ---- all of it ------------------------------------------------------------------------------ */

static npumoe_status build(report *r, json_t *root)
{
    const nm_profile *p = r->p;
    json_t *layers = json_array(), *capacities = json_array(), *verdict = json_array();
    set(root, "schema", json_string("npumoe-statistics"));
    set(root, "schema_version", json_integer(1));
    set(root, "model", model_json(p));
    set(root, "tokens", tokens_json(p));
    set(root, "texts", texts_json(r));
    set(root, "chunk", json_integer(r->chunk));
    set(root, "judged_on", json_string(r->judge == NM_PROFILE_HELD ? "held_out" : "main"));
    for (uint32_t l = 0; l < p->n_layers; l++)
        json_array_append_new(layers, layer_json(r, l));
    set(root, "total", total_json(layers));
    set(root, "layers", layers);
    set(root, "coverage", coverage_json(r));
    set(root, "loads", loads_json(r));
    set(root, "capacities", capacities);
    set(root, "verdict", verdict);
    NM_TRY(capacities_json(r, capacities));
    if (is_too_little(r, verdict))
        return NPUMOE_OK;
    judge_popularity(r, verdict);
    judge_tiers(r, verdict);
    judge_drift(r, verdict);
    return NPUMOE_OK;
}

npumoe_status npumoe_profile_describe(const npumoe_profile *profile, uint32_t n_chunk, char **json,
                                      npumoe_error *err)
{
    const nm_profile *p = profile;
    const size_t n = (size_t)p->n_layers * p->model.n_expert;
    report r = {.p = p, .chunk = n_chunk ? n_chunk : DEFAULT_CHUNK, .err = err};
    if (r.chunk > MAX_CHUNK)
        return nm_err_set(err, NPUMOE_EINVAL, "chunk: found %" PRIu32 ", expected 1..%u", r.chunk,
                          MAX_CHUNK);
    if (p->part[NM_PROFILE_MAIN].tokens == 0)
        return nm_err_set(err, NPUMOE_EINVAL, "the profile is empty: no token was counted");
    r.judge =
        nm_profile_chunks(p, NM_PROFILE_HELD, r.chunk) > 0 ? NM_PROFILE_HELD : NM_PROFILE_MAIN;
    r.order = nm_alloc_array(p->allocator, n, sizeof *r.order);
    r.capacity = nm_alloc_array(p->allocator, p->model.n_expert, sizeof *r.capacity);
    npumoe_status st = NPUMOE_OK;
    json_t *root = json_object();
    if (!r.order || !r.capacity)
        st = nm_err_nomem(err, n * sizeof *r.order, "a report");
    for (uint32_t l = 0; st == NPUMOE_OK && l < p->n_layers; l++)
        nm_profile_order(p, l, r.order + (size_t)l * p->model.n_expert);
    if (st == NPUMOE_OK)
        st = build(&r, root);
    nm_free(p->allocator, r.order);
    nm_free(p->allocator, r.capacity);
    if (st != NPUMOE_OK) {
        json_decref(root);
        return st;
    }
    return nm_describe_finish(root, json, err);
}
