/* test_plan_run.c: prompts by plan, end to end on tiny models: the same answer as the CPU path for the
 * exact policies, the same bits whatever the timing, the depth of the queue and the threads; what is
 * counted; devices that fail at load and in mid-prompt; plans that are for something else; and that
 * evaluating allocates nothing. Plans are made by hand: the planner has tests of its own. */
#include "engine/model.h"
#include "engine/session.h"
#include "moe/profile.h"
#include "support/tiny.h"
#include "tap.h"

#include <jansson.h>
#include <pthread.h>
#include <unistd.h>

enum { N_PROMPT = 210, CHUNK = 32, N_VOCAB = 101, MANY = 8 };

static npumoe_token prompt[N_PROMPT];

/* ---- an allocator that counts ------------------------------------------------------------------ */

typedef struct counter {
    pthread_mutex_t lock;
    long calls, alive;
} counter;

static void *count_realloc(void *ctx, void *ptr, size_t bytes)
{
    counter *c = ctx;
    pthread_mutex_lock(&c->lock);
    void *p = realloc(ptr, bytes);
    c->calls++;
    c->alive += p && !ptr;
    pthread_mutex_unlock(&c->lock);
    return p;
}

static void count_free(void *ctx, void *ptr)
{
    counter *c = ctx;
    pthread_mutex_lock(&c->lock);
    c->alive -= ptr != NULL;
    pthread_mutex_unlock(&c->lock);
    free(ptr);
}

/* ---- plans by hand ------------------------------------------------------------------------------ */

typedef struct plan_spec {
    nm_overflow overflow;
    uint32_t capacity;        /* of all groups; 0 = a ladder of 16 and 32 */
    uint32_t group, n_groups; /* experts per group; the first n_groups * group experts */
    uint32_t in_flight;
    uint32_t crossover;   /* 0 = 17 */
    bool parts;           /* QKV, attention, O and the shared expert on the device */
    uint32_t attention;   /* chunks that have a program for it; 0 = MANY */
    uint32_t without;     /* bits of parts that stay on the host */
    uint64_t router_hash; /* not 0: another model's */
    uint32_t chunk;       /* 0 = CHUNK */
    double host_us;       /* of one row of an expert; 0 = 10 */
} plan_spec;

static const plan_spec spill = {.capacity = 16, .group = 2, .n_groups = 3, .in_flight = 2};

static nm_curve curve(double us)
{
    return (nm_curve){.n = 2, .rows = {1, 64}, .us = {us, 2 * us}};
}

static void fill_cost(nm_plan *p, const plan_spec *s)
{
    nm_cost *c = &p->cost;
    c->geometry = p->model.geometry;
    memcpy(c->isa, "test", 5);
    c->host_threads = 1;
    c->chunk = p->chunk;
    c->host_layer = c->gather = c->scatter = curve(10);
    c->host_expert = curve(s->host_us > 0 ? s->host_us : 10);
    c->device_expert = curve(1);
    for (int i = 0; i < NM_COST_PARTS; i++) {
        c->host_part[i] = curve(1000);
        c->device_part[i] = curve(10);
    }
    c->host_watts = c->device_watts = -1;
    c->device = (nm_cost_device){
        .name = "tile",
        .shares_weights = true,
        .has_linear = true,
        .has_attention = true,
        .slots = UINT32_MAX,
        .capacity_multiple = 16,
        .capacity_min = 16,
        .capacity_max = 65536,
        .queue_depth = 64,
        .program_bytes = UINT64_MAX,
        .total_bytes = UINT64_MAX,
        .expert_bytes = 1000,
        .part_bytes = {[NM_PART_QKV] = 10, [NM_PART_O] = 20, [NM_PART_SHARED] = 30},
        .threads = 1};
}

static void fill_layer(nm_plan *p, nm_plan_layer *l, const plan_spec *s)
{
    l->n_groups = s->n_groups;
    l->groups = nm_alloc_array(p->allocator, s->n_groups, sizeof *l->groups);
    l->price = -1;
    for (uint32_t g = 0; g < s->n_groups; g++) {
        nm_plan_group *to = &l->groups[g];
        to->n_experts = s->group;
        to->experts = nm_alloc_array(p->allocator, s->group, sizeof *to->experts);
        for (uint32_t i = 0; i < s->group;
             i++) /* not in ascending order: the plan's order counts */
            to->experts[i] = (g + 1) * s->group - 1 - i;
        to->n_capacities = s->capacity ? 1 : 2;
        to->capacities[0] = s->capacity ? s->capacity : 16;
        to->capacities[1] = s->capacity ? 0 : 32;
        l->programs += nm_plan_group_programs(to);
        l->bytes += nm_plan_group_bytes(&p->cost, to);
    }
    for (int i = 0; i < NM_COST_PARTS; i++) {
        l->on_device[i] = s->parts && !(s->without & 1u << i) &&
                          (i != NM_PART_SHARED || p->model.geometry.n_ff_shared);
        l->programs += l->on_device[i] && i != NM_PART_ATTENTION;
        l->bytes += l->on_device[i] ? p->cost.device.part_bytes[i] : 0;
    }
    p->programs += l->programs;
    p->bytes += l->bytes;
    if (l->on_device[NM_PART_ATTENTION] && p->attention_chunks == 0)
        p->programs += p->attention_chunks = s->attention ? s->attention : MANY;
}

/* JSON, by the plan's own printer: what is tested goes the way that users' plans go. */
static char *make_plan(npumoe_model *m, const plan_spec *s)
{
    const npumoe_allocator *a = nm_allocator_default();
    const nm_config *c = &m->config;
    const nm_expert_weights *w = &m->weights.layers[0].experts;
    nm_plan *p = nm_zalloc(a, sizeof *p);
    npumoe_error err = {0};
    char *json = NULL;
    p->allocator = a;
    p->overflow = s->overflow;
    p->model.n_layer = c->n_layer;
    strncpy(p->model.architecture, m->architecture, NM_COST_NAME - 1);
    p->model.geometry =
        (nm_cost_geometry){.n_embd = c->n_embd,
                           .n_ff = c->layers[0].n_ff,
                           .n_ff_shared = c->layers[0].n_ff_shared,
                           .n_expert = c->n_expert,
                           .n_expert_used = c->n_expert_used,
                           .n_head = c->n_head,
                           .n_head_kv = c->n_head_kv,
                           .dim_k = c->dim_k,
                           .dim_v = c->dim_v,
                           .type = {w->gate.mat.type, w->up.mat.type, w->down.mat.type}};
    if (nm_profile_router_hash(c, &m->weights, &p->model.router_hash, &err) != NPUMOE_OK)
        bail("no hash: %s", err.message);
    p->model.router_hash = s->router_hash ? s->router_hash : p->model.router_hash;
    p->chunk = s->chunk ? s->chunk : CHUNK;
    p->in_flight = s->in_flight;
    p->n_tiers = 2;
    p->max_group = 8;
    p->max_capacities = 2;
    p->crossover = s->crossover ? s->crossover : 17;
    fill_cost(p, s);
    p->n_layers = c->n_layer;
    p->layers = nm_alloc_array(a, c->n_layer, sizeof *p->layers);
    for (uint32_t i = 0; i < c->n_layer; i++) {
        p->layers[i].layer = i;
        fill_layer(p, &p->layers[i], s);
    }
    if (nm_plan_print(p, &json, &err) != NPUMOE_OK)
        bail("no plan: %s", err.message);
    nm_plan_free(&p);
    return json;
}

/* ---- running ------------------------------------------------------------------------------------ */

typedef struct run_spec {
    plan_spec plan;
    npumoe_device_options device;
    bool require, lossy, no_plan;
    int n_threads;
    uint32_t trace_events;
    uint32_t n_prompt, n_chunk; /* 0 = N_PROMPT, CHUNK */
} run_spec;

typedef struct run {
    npumoe_status status;
    npumoe_error err;
    float logits[N_PROMPT][N_VOCAB];
    npumoe_plan_stats stats;
    long calls_in_eval;
    size_t n_past;
    char *report, *trace, *log;
} run;

static run_spec run_of(const plan_spec *p)
{
    return (run_spec){.plan = *p,
                      .device = {.struct_bytes = sizeof(npumoe_device_options),
                                 .precision = NPUMOE_PRECISION_FP32,
                                 .n_threads = 1},
                      .n_threads = 2};
}

static bool keep(void *user, size_t position, const float *logits)
{
    memcpy(((run *)user)->logits[position], logits, N_VOCAB * sizeof *logits);
    return true;
}

static void remember(void *user, npumoe_log_level level, const char *line)
{
    run *r = user;
    (void)level;
    free(r->log);
    r->log = strdup(line);
}

static void evaluate(run *r, npumoe_model *m, const run_spec *spec, counter *count)
{
    npumoe_session *s = NULL;
    npumoe_eval_options o = npumoe_eval_options_default();
    npumoe_session_options so = npumoe_session_options_default();
    so.n_chunk = spec->n_chunk ? spec->n_chunk : CHUNK;
    so.type_k = so.type_v = NPUMOE_KV_F32; /* F16 would turn a last bit into one of eleven */
    o.on_logits = keep;
    o.user = r;
    r->status = npumoe_session_new(m, &so, &s, &r->err);
    if (r->status != NPUMOE_OK)
        return;
    const long before = count->calls;
    r->status =
        npumoe_session_eval(s, prompt, spec->n_prompt ? spec->n_prompt : N_PROMPT, &o, &r->err);
    r->calls_in_eval = count->calls - before;
    r->n_past = npumoe_session_length(s);
    npumoe_session_free(&s);
}

static run *execute(const run_spec *s)
{
    counter count = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const npumoe_allocator a = {&count, count_realloc, count_free};
    npumoe_model_options mo = npumoe_model_options_default();
    npumoe_plan_options po = npumoe_plan_options_default();
    npumoe_device_options dopt = s->device;
    npumoe_model *m = NULL;
    npumoe_device *d = NULL;
    run *r = calloc(1, sizeof *r);
    mo.allocator = dopt.allocator = &a;
    mo.n_threads = s->n_threads;
    mo.precision = NPUMOE_PRECISION_FP32;
    if (npumoe_model_load(tiny_path(), &mo, &m, &r->err) != NPUMOE_OK ||
        npumoe_device_new(&dopt, &d, &r->err) != NPUMOE_OK)
        bail("%s", r->err.message);
    char *json = make_plan(m, &s->plan);
    po.plan = json;
    po.plan_bytes = strlen(json);
    po.device = d;
    po.require_npu = s->require;
    po.allow_lossy = s->lossy;
    po.trace_events = s->trace_events;
    po.log = remember;
    po.log_user = r;
    r->stats.struct_bytes = sizeof r->stats;
    r->status = s->no_plan ? NPUMOE_OK : npumoe_model_use_plan(m, &po, &r->err);
    if (r->status == NPUMOE_OK) {
        evaluate(r, m, s, &count);
        npumoe_plan_get_stats(m, &r->stats);
        if (!s->no_plan)
            npumoe_plan_report(m, &r->report, NULL);
        if (s->trace_events)
            npumoe_plan_trace(m, &r->trace, NULL);
    }
    npumoe_text_free(&json);
    npumoe_model_free(&m);
    npumoe_device_free(&d);
    is_int(count.alive, 0, "all memory is back");
    return r;
}

static void run_free(run **r)
{
    npumoe_text_free(&(*r)->report);
    npumoe_text_free(&(*r)->trace);
    free((*r)->log);
    free(*r);
    *r = NULL;
}

static double largest_difference(const run *a, const run *b)
{
    double most = 0;
    for (size_t i = 0; i < N_PROMPT; i++)
        for (size_t j = 0; j < N_VOCAB; j++) {
            const double d = fabs((double)a->logits[i][j] - (double)b->logits[i][j]);
            most = d > most || isnan(d) ? d : most;
        }
    return most;
}

static bool same_bits(const run *a, const run *b)
{
    return memcmp(a->logits, b->logits, sizeof a->logits) == 0;
}

static run *cpu_run(void)
{
    run_spec s = run_of(&spill);
    s.no_plan = true;
    run *r = execute(&s);
    if (r->status != NPUMOE_OK)
        bail("%s", r->err.message);
    return r;
}

/* Order of fp32 sums only: logits are of order 1. */
#define NEAR 2e-5

/* ---- tests --------------------------------------------------------------------------------------- */

/* Rows are not lost or counted twice: device + host = all. */
static void check_counts(const run *r, const char *what)
{
    const npumoe_plan_stats *s = &r->stats;
    ok(s->n_tokens == N_PROMPT, "%s: all tokens by plan", what);
    ok(s->n_layer_chunks == 3u * ((N_PROMPT + CHUNK - 1) / CHUNK), "%s: all layers", what);
    ok(s->n_launches > 0 && s->n_device_rows > 0, "%s: the device worked", what);
    ok(s->n_computed_rows >= s->n_device_rows && s->n_device_rows <= s->n_pairs,
       "%s: padding counts", what);
    ok(s->device_busy_seconds > 0 && s->host_cpu_seconds > 0 && s->wall_seconds > 0,
       "%s: clocks ran", what);
    ok(s->n_failures == 0 && s->n_fallbacks == 0, "%s: nothing failed", what);
}

static void test_exact(const char *arch, const run *cpu)
{
    const plan_spec plans[] = {
        spill,
        {.overflow = NM_OVERFLOW_REPASS, .capacity = 16, .group = 4, .n_groups = 2, .in_flight = 2},
        {.capacity = 16, .group = 1, .n_groups = 8, .in_flight = 1, .parts = true},
        {.overflow = NM_OVERFLOW_REPASS,
         .capacity = 16,
         .group = 3,
         .n_groups = 1,
         .in_flight = 3,
         .parts = true},
        {.capacity = 16,
         .group = 2,
         .n_groups = 2,
         .in_flight = 2,
         .parts = true,
         .without = 1u << NM_PART_O | 1u << NM_PART_QKV},
        {.capacity = 16,
         .group = 2,
         .n_groups = 2,
         .in_flight = 1,
         .parts = true,
         .without = 1u << NM_PART_O,
         .attention = 2},
        {.capacity = 16,
         .group = 2,
         .n_groups = 2,
         .in_flight = 2,
         .parts = true,
         .without = 1u << NM_PART_QKV},
        {.capacity = 16, .group = 2, .n_groups = 3, .in_flight = NM_PLAN_MAX_IN_FLIGHT},
        {.capacity = 16,
         .group = 2,
         .n_groups = 2,
         .in_flight = NM_PLAN_MAX_IN_FLIGHT,
         .parts = true,
         .attention = 2},
        {.capacity = 0, .group = 1, .n_groups = 8, .in_flight = 2},
        {.overflow = NM_OVERFLOW_REPASS, .capacity = 0, .group = 8, .n_groups = 1, .in_flight = 2}};
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        const run_spec s = run_of(&plans[i]);
        char what[64];
        snprintf(what, sizeof what, "%s, plan %d", arch, (int)i);
        run *r = execute(&s);
        is_int(r->status, NPUMOE_OK, "%s: %s", what, r->err.message);
        const double d = largest_difference(r, cpu);
        ok(d < NEAR, "%s: logits are the CPU's (%.2g)", what, d);
        is_int(r->calls_in_eval, 0, "%s: evaluating allocates nothing", what);
        check_counts(r, what);
        is_int((int64_t)r->stats.n_dropped, 0, "%s: nothing is dropped", what);
        if (plans[i].overflow == NM_OVERFLOW_REPASS && plans[i].capacity)
            ok(r->stats.n_overflow > 0 && r->stats.n_repassed == r->stats.n_overflow,
               "%s: all overflow went again", what);
        if (plans[i].parts)
            ok(r->stats.n_part_launches > 0, "%s: parts on the device", what);
        run_free(&r);
    }
}

/* The place of the first event of that name, layer and lane among the trace's; -1: there is none. */
static int place_of(const run *r, const char *name, int layer, int lane)
{
    json_t *root = json_loads(r->trace, 0, NULL), *events = json_object_get(root, "traceEvents");
    double best = HUGE_VAL;
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *e = json_array_get(events, i), *args = json_object_get(e, "args");
        const char *is = json_string_value(json_object_get(e, "name"));
        if (is && strcmp(is, name) == 0 &&
            json_integer_value(json_object_get(args, "layer")) == layer &&
            json_integer_value(json_object_get(args, "chunk in flight")) == lane)
            best = fmin(best, json_number_value(json_object_get(e, "ts")));
    }
    json_decref(root);
    return best < HUGE_VAL ? (int)best : -1;
}

static size_t count_of(const run *r, const char *what)
{
    size_t n = 0;
    for (const char *at = r->trace; (at = strstr(at, what)); at++)
        n++;
    return n;
}

static void same_tokens(npumoe_token *saved)
{
    memcpy(saved, prompt, N_PROMPT * sizeof *saved);
    for (size_t i = 0; i < N_PROMPT; i++)
        prompt[i] = saved[0];
}

/* All tokens want the same three experts, which take a slow host long: it looks at the device in between, and the
 * answer is that of a host that does them in one go. */
static void test_slices(const char *arch)
{
    static const uint32_t chunks[] = {N_PROMPT, 144, 144, 144, 144};
    npumoe_token saved[N_PROMPT];
    plan_spec p = {.capacity = 16, .group = 1, .n_groups = 1};
    same_tokens(saved);
    for (uint32_t i = 0; i < 5; i++) {
        p.in_flight = i ? i : 2;
        p.chunk = chunks[i];
        p.parts = i == 4;
        run_spec s = run_of(&p);
        s.n_chunk = chunks[i];
        s.trace_events = 1000;
        s.device.debug_flags = i == 3 ? "fail-launch=2-3" : NULL;
        run *quick = execute(&s);
        s.plan.host_us =
            4000; /* 64 rows are a slice; of 210 a device has 16 at most, which leaves three */
        run *slow = execute(&s);
        ok(quick->status == NPUMOE_OK && slow->status == NPUMOE_OK && same_bits(quick, slow),
           "%s, %d tokens, %d in flight: busy experts in slices, same bits", arch, (int)chunks[i],
           (int)p.in_flight);
        const size_t few = count_of(quick, "\"host experts\""),
                     many = count_of(slow, "\"host experts\"");
        ok(few > 0 && many >= (i ? 2 : 4) * few, "... %d of them, not %d", (int)many, (int)few);
        run_free(&quick);
        run_free(&slow);
    }
    memcpy(prompt, saved, sizeof saved);
}

/* Where launches are repeated until nothing is left, those with fewer rows than others of their group are done. */
static void test_repeated(void)
{
    const plan_spec p = {
        .overflow = NM_OVERFLOW_REPASS, .capacity = 16, .group = 4, .n_groups = 2, .in_flight = 2};
    run_spec s = run_of(&p);
    s.trace_events = 2000;
    run *r = execute(&s);
    const size_t turns = count_of(r, "\"host experts\"");
    ok(r->stats.n_repassed > 0 && turns > 0 && turns <= r->stats.n_layer_chunks,
       "nothing left to the host is one turn: %d for %d", (int)turns, (int)r->stats.n_layer_chunks);
    run_free(&r);
}

/* Who goes next. What the device does meanwhile can only hide a wrong order, not make one. */
static void test_turns(void)
{
    npumoe_token saved[N_PROMPT];
    plan_spec p = {.capacity = 16, .group = 1, .n_groups = 1, .in_flight = 2, .chunk = 144};
    run_spec s = run_of(&p);
    same_tokens(saved);
    s.n_chunk = 144;
    s.trace_events = 1000;
    s.plan.host_us = 4000;
    run *r = execute(&s);
    const int younger = place_of(r, "host experts", 0, 1),
              older = place_of(r, "host experts", 1, 0);
    ok(place_of(r, "host experts", 0, 0) < younger,
       "in a layer the older chunk's experts go first");
    ok(younger >= 0 && younger < older,
       "those of a shorter chunk that is a layer behind before the next layer's");
    run_free(&r);
    memcpy(prompt, saved, sizeof saved);
    p = (plan_spec){.capacity = 16, .group = 2, .n_groups = 2, .in_flight = 2, .parts = true};
    s = run_of(&p);
    s.trace_events = 1000;
    r = execute(&s);
    const int first = place_of(r, "o", 0, 0), second = place_of(r, "qkv", 0, 1);
    ok(first >= 0 && first < second,
       "the second chunk begins when the first one's attention is there");
    run_free(&r);
}

static void test_same_bits(const char *arch)
{
    static const uint32_t depths[] = {0, 1, 2, 3};
    plan_spec p = {.overflow = NM_OVERFLOW_REPASS,
                   .capacity = 16,
                   .group = 2,
                   .n_groups = 4,
                   .in_flight = 2,
                   .parts = true};
    run_spec s = run_of(&p);
    run *first = execute(&s);
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++)
        for (int late = 0; late < 2; late++) {
            s = run_of(&p);
            s.device.queue_depth = depths[i];
            s.device.debug_flags = late ? "late=5" : NULL;
            s.device.n_threads = 1 + (uint32_t)late;
            s.n_threads = 1 + (int)i;
            run *r = execute(&s);
            ok(r->status == NPUMOE_OK && same_bits(first, r),
               "%s: the same bits with a queue of %d, %s, %d threads", arch, (int)depths[i],
               late ? "late" : "in time", 1 + (int)i);
            run_free(&r);
        }
    for (p.in_flight = 1; p.in_flight <= NM_PLAN_MAX_IN_FLIGHT; p.in_flight++)
        for (int late = 0; late < 2; late++) {
            s = run_of(&p);
            s.device.debug_flags = late ? "late=5" : NULL;
            run *r = execute(&s);
            ok(r->status == NPUMOE_OK && same_bits(first, r),
               "%s: the same bits with %d chunks at a time, %s", arch, (int)p.in_flight,
               late ? "late" : "in time");
            run_free(&r);
        }
    run_free(&first);
}

static void test_lossy(const run *cpu)
{
    plan_spec p = {
        .overflow = NM_OVERFLOW_PRUNE, .capacity = 16, .group = 8, .n_groups = 1, .in_flight = 2};
    run_spec s = run_of(&p);
    run *r = execute(&s);
    is_int(r->status, NPUMOE_EUNSUPPORTED, "not unless allowed: %s", r->err.message);
    run_free(&r);
    s.lossy = true;
    r = execute(&s);
    is_int(r->status, NPUMOE_OK, "prune: %s", r->err.message);
    ok(r->stats.n_dropped > 0 && r->stats.n_dropped == r->stats.n_overflow,
       "prune drops and counts");
    ok(r->stats.n_device_rows + r->stats.n_dropped == r->stats.n_pairs,
       "all pairs are accounted for");
    ok(largest_difference(r, cpu) > NEAR, "and it shows");
    run *again = execute(&s);
    ok(same_bits(r, again), "prune: the same bits again");
    run_free(&again);
    run_free(&r);
    p.overflow = s.plan.overflow = NM_OVERFLOW_REROUTE;
    r = execute(&s);
    is_int(r->status, NPUMOE_OK, "reroute: %s", r->err.message);
    ok(r->stats.n_rerouted > 0 && r->stats.n_dropped == 0, "reroute moves and counts");
    run_free(&r);
}

static void test_failures(const run *cpu)
{
    run_spec s = run_of(&spill);
    static const char *const flags[] = {"fail-load=2", "fail-load=1-9", "fail-launch=4",
                                        "fail-launch=3-40", "fail-submit=5-6"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        s.require = false;
        s.device.debug_flags = flags[i];
        run *r = execute(&s);
        is_int(r->status, NPUMOE_OK, "%s: finished", flags[i]);
        const double d = largest_difference(r, cpu);
        ok(d < NEAR, "%s: nothing is lost (%.2g)", flags[i], d);
        ok(r->stats.n_fallbacks > 0 && r->log, "%s: counted and said: %s", flags[i],
           r->log ? r->log : "");
        run_free(&r);
        s.require = true;
        r = execute(&s);
        is_int(r->status, NPUMOE_EDEVICE, "%s, required: %s", flags[i], r->err.message);
        run_free(&r);
    }
    static const char *const launches[] = {"fail-launch=1-3", "fail-launch=2", "fail-launch=3",
                                           "fail-submit=2",   "fail-submit=3", "fail-load=1-3"};
    for (size_t i = 0; i < sizeof launches / sizeof launches[0]; i++)
        for (uint32_t without = 0; without < 1u << NM_PART_SHARED; without++) {
            s = run_of(&spill);
            s.plan.parts = true;
            s.plan.without = without;
            s.device.debug_flags = launches[i];
            run *r = execute(&s);
            ok(r->status == NPUMOE_OK && largest_difference(r, cpu) < NEAR,
               "%s: parts that fail, without %d", launches[i], (int)without);
            run_free(&r);
        }
}

static void test_limits(const run *cpu)
{
    run_spec s = run_of(&spill);
    s.device.slots = 4;
    run *r = execute(&s);
    ok(r->status == NPUMOE_OK && largest_difference(r, cpu) < NEAR,
       "too few slots: the host does what does not fit");
    run_free(&r);
    s = run_of(&spill);
    s.plan.router_hash = 12345;
    r = execute(&s);
    is_int(r->status, NPUMOE_EMODEL, "another model: %s", r->err.message);
    run_free(&r);
    s = run_of(&spill);
    s.trace_events = 50;
    r = execute(&s);
    ok(r->status == NPUMOE_OK && largest_difference(r, cpu) < NEAR, "with a trace");
    ok(r->trace && strstr(r->trace, "\"launch\"") && strstr(r->trace, "traceEvents"),
       "the trace has launches");
    ok(strstr(r->trace, "host, thread 2") && strstr(r->trace, "\"tid\":4,\"ts\""),
       "and what the second thread did");
    ok(r->report && strstr(r->report, "npumoe-plan-report"), "a report");
    run_free(&r);
}

/* A session keeps the plan; a plan that is no plan is refused. */
static void test_api(void)
{
    npumoe_error err;
    npumoe_model *m = NULL;
    npumoe_device *d = NULL;
    npumoe_session *session = NULL;
    npumoe_plan_options po = npumoe_plan_options_default();
    npumoe_device_options dopt = npumoe_device_options_default();
    dopt.debug_flags = "explode=1";
    is_int(npumoe_device_new(&dopt, &d, &err), NPUMOE_EINVAL, "%s", err.message);
    dopt.debug_flags = NULL;
    dopt.name = "abacus";
    is_int(npumoe_device_new(&dopt, &d, &err), NPUMOE_EUNSUPPORTED, "%s", err.message);
    dopt.name = "tile";
    dopt.precision = (npumoe_precision)9;
    is_int(npumoe_device_new(&dopt, &d, &err), NPUMOE_EINVAL, "%s", err.message);
    dopt.precision = NPUMOE_PRECISION_FULL;
    if (npumoe_device_new(&dopt, &d, &err) != NPUMOE_OK ||
        npumoe_model_load(tiny_path(), NULL, &m, &err) != NPUMOE_OK)
        bail("%s", err.message);
    char *json = make_plan(m, &spill), *text = NULL;
    po.plan = json;
    po.plan_bytes = strlen(json);
    is_int(npumoe_model_use_plan(m, &po, &err), NPUMOE_EINVAL, "no device: %s", err.message);
    po.device = d;
    po.from_tokens = 1;
    is_int(npumoe_model_use_plan(m, &po, &err), NPUMOE_EINVAL, "%s", err.message);
    po.from_tokens = 0;
    po.plan = "{}";
    po.plan_bytes = 2;
    is_int(npumoe_model_use_plan(m, &po, &err), NPUMOE_EFORMAT, "%s", err.message);
    is_int(npumoe_plan_report(m, &text, &err), NPUMOE_EINVAL, "%s", err.message);
    po.plan = json;
    po.plan_bytes = strlen(json);
    is_int(npumoe_model_use_plan(m, &po, &err), NPUMOE_OK, "attached");
    npumoe_device_info info = {.struct_bytes = sizeof info};
    npumoe_device_get_info(d, &info);
    is_int((int64_t)info.programs_loaded, 9, "three groups in three layers are loaded");
    if (npumoe_session_new(m, NULL, &session, &err) != NPUMOE_OK)
        bail("%s", err.message);
    is_int(npumoe_model_use_plan(m, NULL, &err), NPUMOE_EINVAL, "in use: %s", err.message);
    npumoe_session_free(&session);
    is_int(npumoe_model_use_plan(m, NULL, &err), NPUMOE_OK, "taken away");
    npumoe_device_get_info(d, &info);
    is_int((int64_t)info.programs_loaded, 0, "and unloaded");
    npumoe_text_free(&json);
    npumoe_model_free(&m);
    npumoe_device_free(&d);
}

/* How much of a prompt goes by plan: nothing below the crossover, whole chunks from there on, and a last
 * one if it is not too short. */
static void test_share(void)
{
    static const struct {
        uint32_t crossover, chunk, n, by_plan;
    } cases[] = {{17, CHUNK, 16, 0},
                 {17, CHUNK, 17, 17},
                 {17, CHUNK, CHUNK + 15, CHUNK},
                 {17, CHUNK, CHUNK + 16, CHUNK + 16},
                 {5, CHUNK, 2 * CHUNK + 4, 2 * CHUNK},
                 {5, CHUNK, 2 * CHUNK + 5, 2 * CHUNK + 5},
                 {3 * CHUNK, CHUNK, 3 * CHUNK - 1, 0},
                 {3 * CHUNK, CHUNK, 3 * CHUNK + 15, 3 * CHUNK},
                 {3 * CHUNK, CHUNK, 3 * CHUNK + 16, 3 * CHUNK + 16},
                 {3 * CHUNK, CHUNK / 2, 4 * CHUNK, 0}, /* chunks that it was not made for */
                 {20, CHUNK / 2, 4 * CHUNK, 0},
                 {10, CHUNK / 2, 4 * CHUNK + 1, 4 * CHUNK},
                 {1, CHUNK, 1, 0},
                 {UINT32_MAX, CHUNK, 4 * CHUNK, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        plan_spec p = spill;
        p.crossover = cases[i].crossover;
        run_spec s = run_of(&p);
        s.n_prompt = cases[i].n;
        s.n_chunk = cases[i].chunk;
        run *r = execute(&s);
        is_int((int64_t)r->stats.n_tokens, cases[i].by_plan,
               "%u tokens in chunks of %u, crossover %u", cases[i].n, cases[i].chunk,
               cases[i].crossover);
        is_int((int64_t)r->n_past, cases[i].n, "... all evaluated");
        run_free(&r);
    }
}

/* Launches of attention when a prompt goes on after `first` tokens that the CPU computed, in a session of n_ctx. */
static uint64_t launches_after(size_t first, uint32_t n_ctx, const run *cpu)
{
    npumoe_error err;
    npumoe_model *m = NULL;
    npumoe_device *d = NULL;
    npumoe_session *s = NULL;
    npumoe_plan_options po = npumoe_plan_options_default();
    npumoe_model_options mo = npumoe_model_options_default();
    npumoe_session_options so = npumoe_session_options_default();
    npumoe_plan_stats stats = {.struct_bytes = sizeof stats};
    plan_spec p = spill;
    npumoe_device_options dopt = run_of(&p).device;
    p.parts = true;
    p.without = ~(1u << NM_PART_ATTENTION);
    mo.precision = NPUMOE_PRECISION_FP32;
    so.n_chunk = CHUNK;
    so.n_ctx = n_ctx;
    so.type_k = so.type_v = NPUMOE_KV_F32;
    if (npumoe_device_new(&dopt, &d, &err) != NPUMOE_OK ||
        npumoe_model_load(tiny_path(), &mo, &m, &err) != NPUMOE_OK)
        bail("%s", err.message);
    char *json = make_plan(m, &p);
    po.plan = json;
    po.plan_bytes = strlen(json);
    po.device = d;
    po.no_replan = true;
    if (npumoe_model_use_plan(m, &po, &err) != NPUMOE_OK ||
        npumoe_session_new(m, &so, &s, &err) != NPUMOE_OK)
        bail("%s", err.message);
    ok(npumoe_session_eval(s, prompt, first, NULL, &err) == NPUMOE_OK &&
           npumoe_session_eval(s, prompt, N_PROMPT, NULL, &err) == NPUMOE_OK,
       "goes on after %d", (int)first);
    double most = 0;
    for (size_t j = 0; j < N_VOCAB; j++)
        most = fmax(
            most, fabs((double)npumoe_session_logits(s)[j] - (double)cpu->logits[N_PROMPT - 1][j]));
    ok(most < NEAR, "to the same end (%.2g)", most);
    npumoe_plan_get_stats(m, &stats);
    npumoe_session_free(&s);
    npumoe_text_free(&json);
    npumoe_model_free(&m);
    npumoe_device_free(&d);
    return stats.n_part_launches;
}

/* Attention has programs for chunks that begin at multiples of 32: a prompt that goes on at 10 has a chunk of 22
 * first, and then these. Of the last chunk only what its room in the cache allows. In the last layer one row of
 * the last chunk is wanted: the host's. */
static void test_odd_start(const run *cpu)
{
    const uint32_t layers = 3, chunks = N_PROMPT / CHUNK; /* from 32 on: a short one, too */
    is_int((int64_t)launches_after(10, 512, cpu), chunks * (layers - 1),
           "all chunks but the first attend on the device");
    is_int((int64_t)launches_after(10, N_PROMPT, cpu), (chunks - 1) * (layers - 1),
           "one fewer where the cache ends in the last");
}

static bool stop_at(void *user, uint64_t done, uint64_t total)
{
    (void)total;
    return done < *(const uint64_t *)user;
}

/* Cancelled at any time, the session goes on as if nothing had been. */
static void test_cancel(const run *cpu)
{
    npumoe_error err;
    npumoe_model *m = NULL;
    npumoe_device *d = NULL;
    npumoe_plan_options po = npumoe_plan_options_default();
    npumoe_model_options mo = npumoe_model_options_default();
    npumoe_device_options dopt = run_of(&spill).device;
    mo.precision = NPUMOE_PRECISION_FP32;
    if (npumoe_device_new(&dopt, &d, &err) != NPUMOE_OK ||
        npumoe_model_load(tiny_path(), &mo, &m, &err) != NPUMOE_OK)
        bail("%s", err.message);
    char *json = make_plan(m, &spill);
    po.plan = json;
    po.plan_bytes = strlen(json);
    po.device = d;
    if (npumoe_model_use_plan(m, &po, &err) != NPUMOE_OK)
        bail("%s", err.message);
    for (uint64_t at = 10; at < N_PROMPT; at += 35) {
        uint64_t limit = at;
        npumoe_session_options so = npumoe_session_options_default();
        npumoe_session *s = NULL;
        so.type_k = so.type_v = NPUMOE_KV_F32;
        so.progress = stop_at;
        so.progress_user = &limit;
        if (npumoe_session_new(m, &so, &s, &err) != NPUMOE_OK)
            bail("%s", err.message);
        is_int(npumoe_session_eval(s, prompt, N_PROMPT, NULL, &err), NPUMOE_ECANCELED, "%s",
               err.message);
        ok(npumoe_session_length(s) % CHUNK == 0, "whole chunks stay: %d",
           (int)npumoe_session_length(s));
        limit = UINT64_MAX;
        ok(npumoe_session_eval(s, prompt, N_PROMPT, NULL, &err) == NPUMOE_OK, "goes on");
        double most = 0;
        for (size_t j = 0; j < N_VOCAB; j++)
            most = fmax(most, fabs((double)npumoe_session_logits(s)[j] -
                                   (double)cpu->logits[N_PROMPT - 1][j]));
        ok(most < NEAR, "to the same end (%.2g)", most);
        npumoe_session_free(&s);
    }
    npumoe_text_free(&json);
    npumoe_model_free(&m);
    npumoe_device_free(&d);
}

int main(void)
{
    static const char *const archs[] = {"olmoe", "qwen2moe", "qwen3moe", "phimoe"};
    for (size_t i = 0; i < N_PROMPT; i++)
        prompt[i] = (npumoe_token)((i * 37 + i * i * 11) % N_VOCAB);
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++) {
        const tiny_spec t = tiny_default(archs[i]);
        npumoe_error err;
        if (tiny_write(&t, tiny_path(), &err) != NPUMOE_OK)
            bail("%s", err.message);
        run *cpu = cpu_run();
        test_exact(archs[i], cpu);
        if (i < 2) {
            test_same_bits(archs[i]);
            test_failures(cpu);
            test_slices(archs[i]);
            test_odd_start(cpu);
        }
        if (i == 0) {
            test_repeated();
            test_turns();
            test_lossy(cpu);
            test_limits(cpu);
            test_api();
            test_share();
            test_cancel(cpu);
        }
        run_free(&cpu);
    }
    unlink(tiny_path());
    return done_testing();
}
