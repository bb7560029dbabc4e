#include "cost.h"

#include "env.h"
#include "report.h"
#include "ui.h"

#include <stdlib.h>
#include <string.h>

/* ---- making one ----------------------------------------------------------------------------- */

npumoe_status cost_measure(const cli_numbers *threads, bool quick, const char *isa,
                           const char *file, npumoe_progress_fn progress, void *user, char **json,
                           npumoe_error *err)
{
    npumoe_probe_options o = npumoe_probe_options_default();
    int32_t *list = threads->n ? malloc(threads->n * sizeof *list) : NULL;
    for (size_t i = 0; list && i < threads->n; i++)
        list[i] = (int32_t)threads->v[i];
    o.threads = list;
    o.n_threads = threads->n;
    o.quick = quick;
    o.isa = isa;
    o.file = file;
    o.scratch_folder = cli_env_temporary_folder();
    o.progress = progress;
    o.progress_user = user;
    npumoe_status st = npumoe_probe(&o, json, err);
    free(list);
    return st;
}

/* ---- reading one ---------------------------------------------------------------------------- */

static bool is_list_of(const json_t *table, const char *section, const char *key)
{
    const json_t *list = json_object_get(table, section), *row;
    size_t i;
    json_array_foreach(list, i, row)
    {
        if (!json_is_integer(json_object_get(row, "threads")) ||
            !json_is_number(json_object_get(row, key)))
            return false;
    }
    return json_array_size(list) > 0;
}

/* What is a number but no rate would end as a ceiling that nothing reaches, or none. More than 1e18 a second is no
 * machine's, and what is calculated from it must stay finite. */
static bool are_rates(const char *path, const json_t *table, const char *section, const char *key)
{
    static const double most = 1e9;
    const json_t *row;
    size_t i;
    json_array_foreach(json_object_get(table, section), i, row)
    {
        const double rate = json_number_value(json_object_get(row, key));
        if (!(rate > 0 && rate <= most)) {
            ui_error("--cost: %s: entry %zu of \"%s\": \"%s\" is %g, expected a number above 0 and "
                     "up to %g",
                     path, i + 1, section, key, rate, most);
            return false;
        }
    }
    return true;
}

json_t *cost_load(const char *path)
{
    enum { VERSION = 1 };
    json_error_t why;
    json_t *table = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (!table) {
        if (why.line > 0)
            ui_error("--cost: %s is no JSON: line %d: %s", path, why.line, why.text);
        else
            ui_error("--cost: %s", why.text);
        return NULL;
    }
    bool ours = strcmp(report_text(table, "schema"), "npumoe-cost-table") == 0;
    uint64_t version = report_u64(table, "schema_version");
    if (strcmp(report_text(table, "schema"), "npumoe-plan-cost") == 0)
        ui_error(
            "--cost: %s is a table of npumoe plan, of one model's work; expected one of what the "
            "machine can do, which npumoe probe -o FILE makes",
            path);
    else if (!ours)
        ui_error("--cost: %s is no cost table; npumoe probe -o FILE makes one", path);
    else if (version != VERSION)
        ui_error("--cost: %s has version %llu of the table, expected %d; make it anew with "
                 "npumoe probe",
                 path, (unsigned long long)version, VERSION);
    else if (!is_list_of(table, "multiply", "gops_per_s_max") ||
             !is_list_of(table, "read", "gb_per_s_max"))
        ui_error("--cost: %s lacks figures in \"multiply\" or \"read\"", path);
    else if (are_rates(path, table, "multiply", "gops_per_s_max") &&
             are_rates(path, table, "read", "gb_per_s_max"))
        return table;
    json_decref(table);
    return NULL;
}

/* ---- asking it ------------------------------------------------------------------------------ */

static double number(const json_t *row, const char *key)
{
    return json_number_value(json_object_get(row, key));
}

/* "" for what is no text: the table is a file that anyone may have written. */
static const char *text_of(const json_t *v)
{
    const char *text = json_string_value(v);
    return text ? text : "";
}

/* The place of a tier in the table's ascending list; of an unknown one, past the end. */
static size_t rank(const json_t *table, const char *tier)
{
    const json_t *tiers = json_object_get(table, "tiers");
    size_t i = 0;
    while (i < json_array_size(tiers) && strcmp(text_of(json_array_get(tiers, i)), tier) != 0)
        i++;
    return i;
}

/* Products with 8 bits of x lose too much for most weights; in two planes, at half the rate, they
 * do not. So a unit for 8 bits counts as half a unit for 16. */
static void find_multiply(const json_t *table, const char *isa, int threads, cost_limits *limits)
{
    const json_t *row;
    size_t i, own = rank(table, isa);
    json_array_foreach(json_object_get(table, "multiply"), i, row)
    {
        double rate = number(row, "gops_per_s_max");
        bool i8 = strcmp(report_text(row, "type"), "i8") == 0;
        if (strcmp(report_text(row, "from"), "registers") != 0 ||
            (int)report_u64(row, "threads") != threads ||
            rank(table, report_text(row, "isa")) > own)
            continue;
        if (i8 && rate > limits->gops_i8_per_s) {
            limits->gops_i8_per_s = rate;
            snprintf(limits->unit_i8, sizeof limits->unit_i8, "%s", report_text(row, "unit"));
        }
        if (rate / (i8 ? 2 : 1) > limits->gops_per_s) {
            limits->gops_per_s = rate / (i8 ? 2 : 1);
            snprintf(limits->unit, sizeof limits->unit, "%s%s", report_text(row, "unit"),
                     i8 ? " / 2" : "");
        }
    }
}

/* Of the sets measured that are no larger, the largest: no set can be read faster than a smaller
 * one. A mapped file comes before memory, because weights are one. */
static void find_read(const json_t *table, int threads, uint64_t set_bytes, cost_limits *limits)
{
    const json_t *row;
    size_t i;
    uint64_t best_bytes = 0;
    json_array_foreach(json_object_get(table, "read"), i, row)
    {
        const char *from = report_text(row, "from");
        uint64_t bytes = report_u64(row, "bytes_per_thread") * (uint64_t)threads;
        bool cache = from[0] == 'l', file = strcmp(from, "file") == 0;
        if (report_u64(row, "threads") != (uint64_t)threads)
            continue;
        bool beside = !cache && limits->from[0] && limits->from[0] != 'l'; /* both are memory */
        bool smaller = bytes < best_bytes && !(beside && file);
        if (limits->gb_per_s > 0 && (bytes > set_bytes || smaller))
            continue;
        if (beside && !file && number(row, "gb_per_s_max") < limits->gb_per_s)
            continue;
        best_bytes = bytes;
        limits->gb_per_s = number(row, "gb_per_s_max");
        snprintf(limits->from, sizeof limits->from, "%s", from);
    }
}

cost_limits cost_find(const json_t *table, const char *isa, int threads, uint64_t set_bytes)
{
    cost_limits limits = {0};
    if (table) {
        find_multiply(table, isa, threads, &limits);
        find_read(table, threads, set_bytes, &limits);
    }
    return limits;
}
