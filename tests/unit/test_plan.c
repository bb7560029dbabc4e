/* test_plan.c: plans and cost tables as files: what is written is read again; what is broken, or for
 * something else, is refused with a message that says what. */
#include "support/synth.h"
#include "tap.h"

#include "moe/fields.h"
#include "quant/quant.h"

#include <math.h>

static const npumoe_allocator *mem(void)
{
    return nm_allocator_default();
}

static nm_plan *make(void)
{
    const synth_shape s = {3, 16, 4, 128, 8, 1.0, 0.5};
    synth_rng rng = {5};
    const nm_plan_model model = synth_model(s.n_layers, s.n_expert, s.k);
    nm_cost cost = synth_cost(&model, s.chunk, 100.0);
    nm_planner_options o = nm_planner_options_default();
    nm_loads loads;
    nm_plan *plan = NULL;
    npumoe_error err = {0};
    cost.device.slots = 40;
    cost.device_part[NM_PART_QKV] = cost.device_part[NM_PART_O] = cost.host_part[NM_PART_O];
    for (int i = 0; i < NM_COST_WORKS; i++)
        cost.beside[i] = 1.0 + 0.05 * i;
    o.compare = true;
    o.no_parts = true; /* those of these tests are theirs */
    if (!synth_loads(&s, &rng, &loads) ||
        nm_planner_make(mem(), &model, &loads, &cost, &o, &plan, &err) != NPUMOE_OK)
        bail("no plan: %s", err.message);
    for (uint32_t i = 0; i < loads.n_layers; i++)
        free(loads.layers[i].load);
    free(loads.layers);
    return plan;
}

/* ---- curves --------------------------------------------------------------------------------- */

static void test_curves(void)
{
    const nm_curve c = {.n = 3, .rows = {4, 8, 16}, .us = {10.0, 12.0, 20.0}};
    const nm_curve one = {.n = 1, .rows = {10}, .us = {5.0}};
    is_near(nm_curve_at(&c, 0), 0.0, 0.0, "nothing costs nothing");
    is_near(nm_curve_at(&c, 1), 10.0, 0.0, "a weight that is touched is decoded whole");
    is_near(nm_curve_at(&c, 6), 11.0, 1e-12, "a straight line between points");
    is_near(nm_curve_at(&c, 16), 20.0, 1e-12, "a point");
    is_near(nm_curve_at(&c, 32), 36.0, 1e-12, "beyond the last as between the last two");
    is_near(nm_curve_at(&one, 20), 10.0, 1e-12, "one point: in proportion");
}

/* ---- there and back ------------------------------------------------------------------------- */

static void test_round_trip(const nm_plan *plan, const char *text)
{
    nm_plan *again = NULL;
    npumoe_error err = {0};
    char *second = NULL;
    is_int(nm_plan_parse(mem(), text, strlen(text), &again, &err), NPUMOE_OK, "a plan is read: %s",
           err.message);
    if (!again)
        return;
    is_int(again->n_layers, plan->n_layers, "its layers");
    is_int(again->layers[0].n_groups, plan->layers[0].n_groups, "groups");
    is_int(again->programs, plan->programs, "programs");
    is_u64(again->model.router_hash, plan->model.router_hash, "router hash");
    is_near(again->predicted.us, plan->predicted.us, plan->predicted.us * 1e-5, "prediction");
    is_int(nm_plan_print(again, &second, &err), NPUMOE_OK, "it is printed");
    is_str(second, text, "as the same text");
    npumoe_text_free(&second);
    nm_plan_free(&again);
}

static void test_cost_round_trip(const nm_plan *plan)
{
    nm_cost c = plan->cost, alone = plan->cost;
    memset(alone.beside, 0, sizeof alone.beside);
    c.part_far_us[NM_PART_QKV] = 7.0;
    for (int i = 0; i < NM_COST_WORKS; i++)
        c.beside[i] = i == NM_WORK_ROWS ? 1.25 : 1.0;
    json_t *root = nm_cost_to_json(&c), *plain = nm_cost_to_json(&alone);
    npumoe_error err = {0};
    is_int(nm_cost_from_json(root, &c, &err), NPUMOE_OK, "a cost table is read: %s", err.message);
    is_int(c.host_expert.n, plan->cost.host_expert.n, "points");
    is_near(c.part_far_us[NM_PART_QKV], 7.0, 0.0, "what far rows cost");
    is_near(c.beside[NM_WORK_ROWS], 1.25, 0.0, "what is slower beside the device");
    json_object_del(root, "qkv_far_us");
    json_object_del(root, "beside");
    is_int(nm_cost_from_json(root, &c, &err), NPUMOE_OK, "a table without: %s", err.message);
    is_near(c.part_far_us[NM_PART_QKV], 0.0, 0.0, "nothing");
    is_near(nm_cost_beside(&c, NM_WORK_ROWS), 1.0, 0.0, "nothing is slower");
    ok(json_object_get(plain, "beside") == NULL, "and nothing is written of it");
    is_u64(c.device.total_bytes, UINT64_MAX, "no limit stays no limit");
    ok(c.host_watts < 0.0, "unknown watts stay unknown");
    is_int(nm_cost_fits(&c, &plan->model.geometry, 128, "tile", &err), NPUMOE_OK, "it fits");
    is_int(nm_cost_fits(&c, &plan->model.geometry, 256, "tile", &err), NPUMOE_EMODEL,
           "another chunk: %s", err.message);
    is_int(nm_cost_fits(&c, &plan->model.geometry, 128, "cpu", &err), NPUMOE_EMODEL,
           "another device: %s", err.message);
    nm_cost_geometry g = plan->model.geometry;
    g.n_ff++;
    is_int(nm_cost_fits(&c, &g, 128, "tile", &err), NPUMOE_EMODEL, "another width: %s",
           err.message);
    json_decref(root);
    json_decref(plain);
}

/* ---- broken files --------------------------------------------------------------------------- */

typedef struct breakage {
    const char *path[6]; /* keys; "#0" is an element */
    const char *value;   /* JSON; NULL removes the key */
    const char *says;    /* part of the message */
} breakage;

static const breakage breakages[] = {
    {{"schema"}, "\"npumoe-profile\"", "found \"npumoe-profile\", expected \"npumoe-plan\""},
    {{"schema_version"}, "2", "schema_version: found 2"},
    {{"policy"}, "\"best\"", "policy: found \"best\""},
    {{"overflow"}, "17", "overflow: found 17"},
    {{"chunk"}, "0", "chunk: found 0"},
    {{"chunk"}, "1e3", "chunk: found 1000, expected an integer"},
    {{"tiers"}, "-1", "tiers: found -1"},
    {{"part_price"}, "0", "part_price: found 0"},
    {{"n_past"}, "4294967295", "n_past: found 4294967295, expected"},
    {{"programs"}, "3", "it says 3 programs"},
    {{"predicted", "us"}, "\"fast\"", "predicted.us: found \"fast\""},
    {{"predicted", "us"}, "-5", "predicted.us: found -5"},
    {{"predicted", "us"}, "0", "plan: predicted: found 0 us, expected more than 0"},
    {{"cpu_only", "us"}, "0", "plan: cpu_only: found 0 us, expected more than 0"},
    {{"predicted", "us"}, NULL, "predicted.us: found nothing"},
    {{"model", "router_hash"}, "\"0x12\"", "model.router_hash"},
    {{"model", "name"}, "\"a\\u0007b\"", "model.name"},
    {{"model", "n_layer"}, "2", "number of the layer: found 2, expected less than 2"},
    {{"layers"}, "{}", "layers: found an object"},
    {{"layers"}, "[]", "layers: found none"},
    {{"attention_chunks"}, "3", "attention_chunks: found 3, but no layer"},
    {{"attention_chunks"}, "-1", "attention_chunks: found -1"},
    {{"layers", "#0", "parts"}, "[\"attention\"]", "attention_chunks: found 0, but a layer"},
    {{"layers", "#1", "layer"}, "0", "expected more than 0"},
    {{"layers", "#0", "price"}, "1.5", "layers[0].price"},
    {{"layers", "#0", "parts"}, "[\"head\"]", "layers[0].parts"},
    {{"layers", "#0", "groups", "#0"}, "7", "layers[0].groups[0]: found 7"},
    {{"layers", "#0", "groups", "#0", "experts"}, "[]", "experts: found 0"},
    {{"layers", "#0", "groups", "#0", "experts"},
     "[16]",
     "expert: found 16, expected less than 16"},
    {{"layers", "#0", "groups", "#0", "experts"}, "[1, 1]", "groups that have an expert"},
    {{"layers", "#0", "groups", "#0", "experts"}, "[0.5]", "experts[0]: found 0.5"},
    {{"layers", "#0", "groups", "#0", "capacities"}, "[]", "capacities: found 0"},
    {{"layers", "#0", "groups", "#0", "capacities"}, "[17]", "expected a multiple of 16"},
    {{"layers", "#0", "groups", "#0", "capacities"}, "[4096]", "expected at most 128"},
    {{"layers", "#0", "groups", "#0", "capacities"}, "[32, 32]", "more than the one before"},
    {{"layers", "#0", "groups", "#0", "capacities"},
     "[16,32,48,64,80,96,112,128,144]",
     "an array of at most 8"},
    {{"layers", "#0", "groups", "#0", "rows"}, "null", "rows: found null"},
    {{"cost", "chunk"}, "\"x\"", "cost: chunk: found \"x\""},
    {{"cost", "host_expert"}, "[]", "host_expert"},
    {{"cost", "host_expert"}, "[[2, 1], [1, 2]]", "host_expert[1][0]"},
    {{"cost", "host_expert"}, "[[1, 1e99]]", "host_expert[0][1]"},
    {{"cost", "beside"}, "1.1", "cost: beside: found 1.1, expected an object"},
    {{"cost", "beside"}, "null", "cost: beside: found null"},
    {{"cost", "beside"}, "{}", "cost: beside.experts: found nothing"},
    {{"cost", "beside"},
     "{\"experts\":0.99,\"dense\":1,\"attention\":1,\"rows\":1,\"device\":1}",
     "cost: beside.experts: found 0.99"},
    {{"cost", "beside"},
     "{\"experts\":1,\"dense\":1,\"attention\":1,\"rows\":1,\"device\":2.01}",
     "cost: beside.device: found 2.01"},
    {{"cost", "beside"},
     "{\"experts\":1,\"dense\":1,\"attention\":\"1\",\"rows\":1,\"device\":1}",
     "cost: beside.attention: found \"1\""},
    {{"cost", "device", "slots"}, "2", "programs: found"},
    {{"cost", "device", "total_bytes"}, "1000", "bytes on the device"},
    {{"cost", "device", "program_bytes"}, "1000", "bytes of a program"},
    {{"cost", "geometry", "n_expert"}, "1", "n_expert_used"},
    {{"cost", "geometry", "types", "up"}, "\"Q99\"", "name of a tensor type"},
};

/* The value that a path names; *holder and *key: where it hangs. */
static json_t *walk(json_t *root, const char *const *path, json_t **holder, const char **key)
{
    json_t *at = root;
    for (int i = 0; i < 6 && path[i]; i++) {
        *holder = at;
        *key = path[i];
        at = path[i][0] == '#' ? json_array_get(at, (size_t)(path[i][1] - '0'))
                               : json_object_get(at, path[i]);
    }
    return at;
}

static char *break_it(const char *text, const breakage *b)
{
    json_t *root = json_loads(text, 0, NULL), *holder = NULL;
    const char *key = "";
    if (!walk(root, b->path, &holder, &key))
        note("nothing at %s", key);
    if (b->value == NULL)
        json_object_del(holder, key);
    else if (key[0] == '#')
        json_array_set_new(holder, (size_t)(key[1] - '0'),
                           json_loads(b->value, JSON_DECODE_ANY, NULL));
    else
        json_object_set_new(holder, key, json_loads(b->value, JSON_DECODE_ANY, NULL));
    char *out = json_dumps(root, 0);
    json_decref(root);
    return out;
}

static void refuse_all(const char *text, const breakage *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const breakage *b = &list[i];
        char *broken = break_it(text, b);
        nm_plan *plan = NULL;
        npumoe_error err = {0};
        const npumoe_status st = nm_plan_parse(mem(), broken, strlen(broken), &plan, &err);
        ok(st == NPUMOE_EFORMAT && plan == NULL && strstr(err.message, b->says), "%s", err.message);
        free(broken);
        nm_plan_free(&plan);
    }
}

static void test_cut(const char *text)
{
    const size_t n = strlen(text) - 1; /* the last line feed may go */
    unsigned refused = 0, tried = 0;
    for (size_t at = 0; at < n; at += 1 + at / 50) {
        nm_plan *plan = NULL;
        npumoe_error err = {0};
        refused +=
            nm_plan_parse(mem(), text, at, &plan, &err) == NPUMOE_EFORMAT && err.message[0] != '\0';
        tried++;
        nm_plan_free(&plan);
    }
    is_int(refused, tried, "a plan that ends early is refused");
}

/* ---- for something else ---------------------------------------------------------------------- */

static void refuses(const nm_plan *plan, const nm_plan_model *m, const nm_cost_device *d,
                    uint32_t chunk, npumoe_status code, const char *says)
{
    npumoe_error err = {0};
    const npumoe_status st = nm_plan_fits(plan, m, d, chunk, &err);
    ok(st == code && strstr(err.message, says), "%s", err.message);
}

static void test_fits(const nm_plan *plan)
{
    nm_plan_model m = plan->model;
    nm_cost_device d = plan->cost.device;
    is_int(nm_plan_fits(plan, &m, &d, 128, NULL), NPUMOE_OK, "its own model, device and chunk");
    is_int(nm_plan_fits(plan, &m, NULL, 0, NULL), NPUMOE_OK, "device and chunk not asked");
    m.router_hash++;
    refuses(plan, &m, &d, 128, NPUMOE_EMODEL, "routers 0123456789abcdef");
    m = plan->model;
    snprintf(m.architecture, sizeof m.architecture, "qwen3moe");
    refuses(plan, &m, &d, 128, NPUMOE_EMODEL, "expected qwen3moe");
    m = plan->model;
    m.geometry.type[1] = NM_TYPE_Q8_0;
    refuses(plan, &m, &d, 128, NPUMOE_EMODEL, "up weights: found Q4_K, expected Q8_0");
    m = plan->model;
    m.geometry.n_expert = 32;
    refuses(plan, &m, &d, 128, NPUMOE_EMODEL, "number of experts: found 16, expected 32");
    m = plan->model;
    snprintf(d.name, sizeof d.name, "coreml");
    refuses(plan, &m, &d, 128, NPUMOE_EUNSUPPORTED, "device is coreml");
    d = plan->cost.device;
    d.slots = 1;
    d.total_bytes = 5;
    npumoe_error err;
    ok(nm_plan_fits(plan, &m, &d, 128, &err) == NPUMOE_OK,
       "less room than planned: it is seen when programs are loaded");
    d = plan->cost.device;
    d.capacity_multiple = 1000;
    refuses(plan, &m, &d, 128, NPUMOE_EUNSUPPORTED, "multiples of 1000");
    d = plan->cost.device;
    refuses(plan, &m, &d, 256, NPUMOE_EUNSUPPORTED, "chunk is 256");
}

/* ---- what a layer takes ----------------------------------------------------------------------- */

/* Planner, reader and check count by the one function: what it counts is known by hand. */
static void test_layer_counts(void)
{
    nm_plan_group groups[] = {{.n_experts = 3, .n_capacities = 2},
                              {.n_experts = 1, .n_capacities = 1}};
    const nm_plan_layer l = {
        .n_groups = 2,
        .groups = groups,
        .on_device = {[NM_PART_QKV] = true, [NM_PART_ATTENTION] = true, [NM_PART_SHARED] = true}};
    nm_cost c = {
        .device = {.expert_bytes = 1000,
                   .part_bytes = {[NM_PART_QKV] = 10, [NM_PART_O] = 5, [NM_PART_SHARED] = 1}}};
    uint32_t programs = 77;
    uint64_t bytes = 88;
    ok(nm_plan_count_layer(&c, &l, &programs, &bytes), "a layer is counted");
    is_int(programs, 5, "... a program per capacity and part, none for attention");
    ok(bytes == 7011, "... weights per program");
    c.device.shares_weights = true;
    ok(nm_plan_count_layer(&c, &l, &programs, &bytes), "with weights shared");
    is_int(programs, 5, "... the same programs");
    ok(bytes == 4011, "... weights per group");
    c.device.expert_bytes = UINT64_MAX - 4;
    groups[0].n_experts = 1;
    ok(!nm_plan_count_layer(&c, &l, &programs, &bytes), "more bytes than 64 bits count");
    groups[1].n_experts = 0;
    ok(!nm_plan_count_layer(&c, &l, &programs, &bytes), "... by those of a part");
    ok(programs == 5 && bytes == 4011, "nothing is written then");
}

/* ---- parts that host and device share by rows ------------------------------------------------- */

static void share(nm_plan *plan, uint32_t layer, nm_cost_part part, uint32_t rows)
{
    nm_plan_layer *l = &plan->layers[layer];
    if (!l->on_device[part]) {
        plan->programs++;
        plan->bytes += plan->cost.device.part_bytes[part];
    }
    l->on_device[part] = true;
    l->part_rows[part] = rows;
}

static const breakage unshared[] = {
    {{"layers", "#0", "rows"}, "16", "layers[0].rows: found 16"},
    {{"layers", "#0", "rows"}, "{\"head\": 16}", "layers[0].rows: found an object"},
    {{"layers", "#0", "rows", "qkv"}, "0", "layers[0].rows.qkv: found 0"},
    {{"layers", "#0", "rows", "qkv"}, "\"16\"", "layers[0].rows.qkv: found \"16\""},
    {{"layers", "#0", "rows", "qkv"}, "8", "layer 0: rows of qkv: found 8, expected at least 16"},
    {{"layers", "#0", "rows", "qkv"}, "24", "rows of qkv: found 24, expected a multiple of 16"},
    {{"layers", "#0", "rows", "o"}, "128", "rows of o: found 128, expected less than 128"},
    {{"layers", "#0", "rows", "o"}, "8192", "rows of o: found 8192, expected at most 4096"},
    {{"layers", "#0", "rows"},
     "{\"shared\": 16}",
     "shared: found 16, expected none, as it is not shared"},
    {{"layers", "#0", "rows"},
     "{\"attention\": 16}",
     "attention: found 16, expected none, as it is not shared"},
    {{"layers", "#2", "parts"}, "[]", "layer 2: rows of o: found 48, expected none, as it is the"},
};

static void test_rows(void)
{
    nm_plan *plan = make(), *again = NULL;
    npumoe_error err = {0};
    char *text = NULL, *second = NULL;
    plan->cost.device.slots = UINT32_MAX;
    share(plan, 0, NM_PART_QKV, 64);
    share(plan, 0, NM_PART_O, 112);
    share(plan, 2, NM_PART_O, 48);
    if (nm_plan_print(plan, &text, &err) != NPUMOE_OK)
        bail("a plan cannot be printed");
    ok(strstr(text, "\"rows\": {\"qkv\": 64, \"o\": 112}") && strstr(text, "\"rows\": {\"o\": 48}"),
       "rows are written");
    is_int(nm_plan_parse(mem(), text, strlen(text), &again, &err), NPUMOE_OK, "and read: %s",
           err.message);
    for (uint32_t i = 0; again && i < again->n_layers; i++)
        ok(memcmp(again->layers[i].part_rows, plan->layers[i].part_rows,
                  sizeof plan->layers[i].part_rows) == 0,
           "layer %u has the same rows", i);
    if (again && nm_plan_print(again, &second, &err) == NPUMOE_OK)
        is_str(second, text, "as the same text");
    ok(nm_plan_shares_part(plan, NM_PART_QKV) && !nm_plan_shares_part(plan, NM_PART_SHARED),
       "some layer shares QKV");
    is_int(nm_plan_part_capacity(plan, &plan->layers[0], NM_PART_O, 16), 112, "of O a program");
    is_int(nm_plan_part_capacity(plan, &plan->layers[1], NM_PART_O, 48), 144, "without: all rows");
    nm_cost_device d = plan->cost.device;
    const uint32_t n_groups = plan->layers[0].n_groups;
    d.capacity_min = 80;
    plan->layers[0].n_groups = 0;
    refuses(plan, &plan->model, &d, 128, NPUMOE_EUNSUPPORTED, "layer 0, qkv has capacity 64");
    plan->layers[0].n_groups = n_groups;
    refuse_all(text, unshared, sizeof unshared / sizeof unshared[0]);
    npumoe_text_free(&text);
    npumoe_text_free(&second);
    nm_plan_free(&again);
    nm_plan_free(&plan);
}

int main(void)
{
    nm_plan *plan = make();
    char *text = NULL;
    if (nm_plan_print(plan, &text, NULL) != NPUMOE_OK)
        bail("a plan cannot be printed");
    test_curves();
    test_layer_counts();
    test_round_trip(plan, text);
    test_cost_round_trip(plan);
    refuse_all(text, breakages, sizeof breakages / sizeof breakages[0]);
    ok(strstr(text, "\"rows\": {") == NULL, "without shared parts no rows are written");
    test_rows();
    test_cut(text);
    test_fits(plan);
    npumoe_text_free(&text);
    nm_plan_free(&plan);
    return done_testing();
}
