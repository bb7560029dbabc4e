/* test_probe: the cost table is complete. Speeds themselves are not judged: the machine may
 * be busy. */
#include "npumoe/npumoe.h"

#include "tap.h"

#include <jansson.h>

/* ---- the table ------------------------------------------------------------------------------ */

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* UNIT_min <= UNIT_median <= UNIT_max, all above 0, in every entry. */
static void check_section(const json_t *table, const char *section, const char *unit, size_t least)
{
    const json_t *list = json_object_get(table, section), *row;
    char min[64], median[64], max[64];
    size_t i, bad = 0;
    snprintf(min, sizeof min, "%s_min", unit);
    snprintf(median, sizeof median, "%s_median", unit);
    snprintf(max, sizeof max, "%s_max", unit);
    json_array_foreach(list, i, row)
    {
        bad += !(number(row, min) > 0 && number(row, min) <= number(row, median) &&
                 number(row, median) <= number(row, max) && number(row, "threads") == 1);
    }
    ok(json_array_size(list) >= least, "%s has %zu entries, at least %zu", section,
       json_array_size(list), least);
    is_int((int)bad, 0, "%s: min <= median <= max", section);
}

static bool count_calls(void *user, uint64_t done, uint64_t total)
{
    uint64_t *calls = user;
    if (done >= total)
        bail("progress %" PRIu64 " of %" PRIu64, done, total);
    ++*calls;
    return true;
}

/* The engine's products: each of these types with each of these numbers of rows, once, in this order; speeds
 * that grow with the rows are no promise. (That operations are counted right: test_probe_products.) */
static void check_products(const json_t *table)
{
    static const char *const types[] = {"F32", "BF16", "Q8_0", "Q4_K"};
    static const int rows[] = {1, 8, 64, 512};
    const json_t *list = json_object_get(table, "product");
    const char *isa = json_string_value(json_object_get(table, "isa"));
    check_section(table, "product", "gops_per_s", 16);
    is_u64(json_array_size(list), 16, "product has nothing beyond these");
    for (size_t i = 0; i < 16; i++) {
        const json_t *row = json_array_get(list, i);
        const char *type = types[i / 4];
        is_str(json_string_value(json_object_get(row, "type")), type, "product %zu: type", i);
        is_str(json_string_value(json_object_get(row, "isa")), isa, "product %zu: tier", i);
        ok(json_is_string(json_object_get(row, "with")), "product %zu: extensions of it", i);
        ok(number(row, "m") == rows[i % 4] && number(row, "n") == 1024 && number(row, "k") == 2048,
           "product %zu: %d rows meet an expert of OLMoE", i, rows[i % 4]);
    }
}

static bool stop_at_three(void *user, uint64_t done, uint64_t total)
{
    uint64_t *calls = user;
    (void)done, (void)total;
    return ++*calls < 3;
}

static npumoe_probe_options one_thread(void)
{
    static const int32_t one = 1;
    npumoe_probe_options o = npumoe_probe_options_default();
    o.threads = &one;
    o.n_threads = 1;
    return o;
}

/* The whole of it; a quick one, which leaves the engine's products out, is run by tests/cli/bench.sh. */
static void test_table(void)
{
    npumoe_probe_options o = one_thread();
    npumoe_error err = {0};
    char *json = NULL;
    uint64_t calls = 0;
    o.progress = count_calls;
    o.progress_user = &calls;
    is_int(npumoe_probe(&o, &json, &err), NPUMOE_OK, "a probe %s", err.message);
    json_t *table = json ? json_loads(json, 0, NULL) : NULL;
    is_str(json_string_value(json_object_get(table, "schema")), "npumoe-cost-table", "the schema");
    check_section(table, "multiply", "gops_per_s", 3);
    check_section(table, "read", "gb_per_s", 2);
    is_int((int)json_array_size(json_object_get(table, "pool")), 1, "pool");
    ok(calls >= 22, "progress was told %" PRIu64 " times", calls);
    check_products(table);
    json_decref(table);
    npumoe_text_free(&json);
}

static void test_cancel(void)
{
    npumoe_probe_options o = one_thread();
    npumoe_error err = {0};
    char *json = NULL;
    uint64_t calls = 0;
    o.progress = stop_at_three;
    o.progress_user = &calls;
    is_int(npumoe_probe(&o, &json, &err), NPUMOE_ECANCELED, "cancelled");
    is_u64(calls, 3, "... at once");
    ok(json == NULL, "... without a table");
}

static void test_refused(void)
{
    const int32_t none = 0;
    npumoe_probe_options o = npumoe_probe_options_default();
    npumoe_error err = {0};
    char *json = NULL;
    o.threads = &none;
    o.n_threads = 1;
    is_int(npumoe_probe(&o, &json, &err), NPUMOE_EINVAL, "no thread");
    o = npumoe_probe_options_default();
    o.file = "/no/such/file";
    is_int(npumoe_probe(&o, &json, &err), NPUMOE_ENOENT, "no file");
    o = npumoe_probe_options_default();
    o.isa = "avx1024";
    is_int(npumoe_probe(&o, &json, &err), NPUMOE_EINVAL, "no tier");
}

int main(void)
{
    test_table();
    test_cancel();
    test_refused();
    return done_testing();
}
