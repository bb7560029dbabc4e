/* explain.c: npumoe explain: a plan for people: what runs where and why, before it runs. All facts are
 * the library's (npumoe_plan_describe). */
#include "explain.h"
#include "load.h"
#include "out.h"
#include "report.h"
#include "safe.h"
#include "verbs.h"

#include <stdlib.h>
#include <string.h>

typedef struct explain_args {
    cli_numbers layers;
    const char *after;
    bool json, all;
} explain_args;

static const cli_opt explain_opts[] = {
    {"-l", "--layers", "LIST", cli_add_numbers, offsetof(explain_args, layers), 0, 1023,
     "explain these layers in full, like 0,3-5", true},
    {NULL, "--after", "FILE", cli_set_string, offsetof(explain_args, after), 0, 0,
     "beside what was measured: FILE is of npumoe run --plan ... --stats-out", true},
    {NULL, "--all", NULL, cli_set_flag, offsetof(explain_args, all), 0, 0,
     "explain all layers in full", true},
    {NULL, "--json", NULL, cli_set_flag, offsetof(explain_args, json), 0, 0, "everything, as JSON",
     true},
    {0},
};

static const cli_help help = {
    "explain",
    "PLAN [options]",
    "Says what runs where by a plan, and why: in total, per layer, with what was looked at and\n"
    "not taken, and how far the plan is from what no plan can beat. All times are predictions\n"
    "for one chunk; with --after they stand beside what was measured when it ran.",
    "npumoe explain olmoe.plan.json\n"
    "npumoe explain olmoe.plan.json -l 0,15\n"
    "npumoe explain olmoe.plan.json --json | jq .layers[0].groups\n"
    "npumoe explain olmoe.plan.json --after run.stats.json",
};

static double at(const json_t *r, const char *path)
{
    return json_number_value(report_at(r, path));
}

static double ms(const json_t *r, const char *path)
{
    return at(r, path) * 1e-3;
}

static void put(const char *text)
{
    safe_put(stdout, text, strlen(text));
}

static void line(const char *name, const char *value)
{
    printf("%-12s ", name);
    put(value);
    putchar('\n');
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* Rows of a chunk that the device takes of a part, the host the others; 0: one side has all. */
static int shared_rows(const json_t *layer, const char *part)
{
    return (int)json_integer_value(json_object_get(json_object_get(layer, "rows"), part));
}

/* Layers that have a part on the device, and of how many rows of a chunk. */
typedef struct extent {
    int layers, least, most;
} extent;

static extent extent_of(const json_t *layers, const char *part, int chunk)
{
    size_t i;
    json_t *l;
    extent e = {0, chunk, 0};
    json_array_foreach(layers, i, l)
    {
        if (strcmp(report_text(json_object_get(l, "parts"), part), "device") != 0)
            continue;
        const int rows = shared_rows(l, part) ? shared_rows(l, part) : chunk;
        e.layers++;
        e.least = rows < e.least ? rows : e.least;
        e.most = rows > e.most ? rows : e.most;
    }
    return e;
}

/* What of a layer beside experts is on the device, in how many of them. */
static void print_parts(const json_t *r)
{
    const json_t *layers = json_object_get(r, "layers"), *on;
    const int chunks = (int)at(r, "attention_chunks");
    const char *part;
    char text[256] = "";
    size_t end = 0;
    json_object_foreach(json_object_get(json_array_get(layers, 0), "parts"), part, on)
    {
        const extent e = extent_of(layers, part, (int)at(r, "chunk"));
        char rows[48] = "";
        if (e.layers == 0)
            continue;
        if (e.least < e.most)
            snprintf(rows, sizeof rows, " %d to %d rows", e.least, e.most);
        else if (e.most < (int)at(r, "chunk"))
            snprintf(rows, sizeof rows, " %d rows", e.most);
        snprintf(text + end, sizeof text - end, "%s%s%s in %d", end ? ", " : "", part, rows,
                 e.layers);
        end = strlen(text);
    }
    if (end == 0)
        return;
    snprintf(text + end, sizeof text - end, " of %d layers on the device",
             (int)json_array_size(layers));
    end = strlen(text);
    if (chunks > 0)
        snprintf(text + end, sizeof text - end, "; attention up to position %d",
                 chunks * (int)at(r, "chunk"));
    line("", text);
}

static void print_head(const json_t *r)
{
    char text[256], a[32], b[32];
    snprintf(text, sizeof text, "%s (%s), %d layers, experts in %s", report_text(r, "model.name"),
             report_text(r, "model.architecture"), (int)at(r, "model.n_layer"),
             report_text(r, "model.types"));
    line("model", text);
    const json_t *slots = report_at(r, "device.slots"), *mem = report_at(r, "device.memory_bytes");
    char slots_text[48] = "any number of programs", mem_text[48] = "no limit of bytes";
    if (json_is_integer(slots))
        snprintf(slots_text, sizeof slots_text, "%d programs", (int)json_integer_value(slots));
    if (json_is_integer(mem))
        snprintf(mem_text, sizeof mem_text, "%s",
                 human_bytes((uint64_t)json_integer_value(mem), a, sizeof a));
    snprintf(text, sizeof text, "%s%s, %d thread%s, weights %s; %s, %s; %.0f us per launch",
             report_text(r, "device.name"),
             json_is_true(report_at(r, "device.simulated")) ? " (SIMULATED)" : "",
             (int)at(r, "device.threads"), at(r, "device.threads") == 1.0 ? "" : "s",
             strcmp(report_text(r, "device.weights"), "packed") == 0 ? "packed" : "as in the file",
             slots_text, mem_text, at(r, "device.launch_us"));
    line("device", text);
    if (at(r, "device.added_launch_us") > 0.0) {
        snprintf(text, sizeof text, "%.0f us of that were ADDED to resemble another device",
                 at(r, "device.added_launch_us"));
        line("", text);
    }
    const char *precision = json_string_value(report_at(r, "host.precision"));
    const bool usual = precision == NULL || strcmp(precision, "auto") == 0;
    snprintf(text, sizeof text, "%s, %d thread%s%s%s", report_text(r, "host.isa"),
             (int)at(r, "host.threads"), at(r, "host.threads") == 1.0 ? "" : "s",
             usual ? "" : ", precision ", usual ? "" : precision);
    line("host", text);
    if (json_is_object(report_at(r, "beside"))) {
        snprintf(text, sizeof text,
                 "beside a busy device %.2f times as long for experts, %.2f dense parts, "
                 "%.2f attention, %.2f rows; the device %.2f times",
                 at(r, "beside.experts"), at(r, "beside.dense"), at(r, "beside.attention"),
                 at(r, "beside.rows"), at(r, "beside.device"));
        line("", text);
    }
    const double limit = at(r, "host_limit");
    char limit_text[64] = "";
    if (limit > 0.0)
        snprintf(limit_text, sizeof limit_text,
                 ", the host's CPU at most %.3g %% of its time alone", 100.0 * limit);
    snprintf(text, sizeof text, "policy %s, overflow %s (%s), objective %s%s",
             report_text(r, "policy"), report_text(r, "overflow"),
             json_is_true(report_at(r, "exact")) ? "exact" : "LOSSY", report_text(r, "objective"),
             limit_text);
    line("plan", text);
    snprintf(text, sizeof text, "%d programs, %s, loaded in %.1f s", (int)at(r, "programs"),
             human_bytes(report_u64(r, "bytes"), b, sizeof b), at(r, "load_us") * 1e-6);
    line("", text);
    print_parts(r);
}

static void print_prediction(const json_t *r)
{
    const double us = at(r, "predicted.us");
    const json_t *crossover = report_at(r, "crossover");
    printf("\npredicted for a chunk of %d tokens, the mean over a prompt of %d%s, %d in flight%s\n",
           (int)at(r, "chunk"), (int)at(r, "prompt"), at(r, "n_past") > 0.0 ? " after others" : "",
           (int)at(r, "in_flight"), us > 0.0 ? "" : " (nothing)");
    printf("  time          %9.1f ms   %.2f times faster than the host alone (%.1f ms)\n",
           us * 1e-3, at(r, "speedup"), ms(r, "cpu_only.us"));
    printf("  host at work  %9.1f ms   %.0f %% of the host alone; waits %.1f ms\n",
           ms(r, "predicted.host_us"), 100.0 * at(r, "host_share"), ms(r, "predicted.wait_us"));
    printf("  device busy   %9.1f ms   in %.1f launches\n", ms(r, "predicted.device_us"),
           at(r, "predicted.launches"));
    printf("  pairs         %9.1f %%    on the device; %.1f %% overflow, %.2f %% dropped\n",
           100.0 * at(r, "predicted.device_share"), 100.0 * at(r, "predicted.overflow_share"),
           100.0 * at(r, "predicted.dropped_share"));
    printf("  padding       %9.1f %%    of the rows that the device computes\n",
           100.0 * at(r, "predicted.padding_share"));
    printf("  lower bound   %9.1f ms   no plan within these rules is faster; the gap is %.1f %%\n",
           ms(r, "bound_us"), 100.0 * at(r, "gap"));
    if (report_at(r, "predicted.joules"))
        printf("  energy        %9.3f J    with %s watts; %.3f J without the device\n",
               at(r, "predicted.joules"), report_text(r, "watts_source"), at(r, "cpu_only.joules"));
    if (json_is_integer(crossover) && at(r, "crossover") > 1.0) /* single tokens are anyway */
        printf(
            "  prompts of fewer than %d tokens are the host's alone: by plan they take no less\n",
            (int)at(r, "crossover"));
    else if (!json_is_integer(crossover))
        printf("  the host alone takes no longer for prompts of any length\n");
}

static void print_rejected(const json_t *list, const char *title)
{
    size_t i;
    json_t *o;
    if (json_array_size(list) == 0)
        return;
    printf("%s\n", title);
    json_array_foreach((json_t *)(uintptr_t)list, i, o)
    {
        printf("  %9.1f ms  ", ms(o, "us"));
        put(report_text(o, "what"));
        printf(" (%d programs): ", (int)at(o, "programs"));
        put(report_text(o, "why"));
        putchar('\n');
    }
}

/* ---- layers --------------------------------------------------------------------------------- */

static void print_table(const json_t *r)
{
    size_t i;
    json_t *l;
    printf("\nlayer  on device  programs  launches  padding  overflow     ms   host  device   gap  "
           "limit\n");
    json_array_foreach(json_object_get(r, "layers"), i, l)
    {
        printf("%5d  %4d of %-3d  %7d  %8.1f  %5.1f %%  %6.1f %%  %6.1f %6.1f %6.1f %5.1f%%  ",
               (int)at(l, "layer"), (int)at(l, "device_experts"), (int)at(r, "model.n_expert"),
               (int)at(l, "programs"), at(l, "predicted.launches"),
               100.0 * at(l, "predicted.padding_share"), 100.0 * at(l, "predicted.overflow_share"),
               ms(l, "predicted.us"), ms(l, "predicted.host_us"), ms(l, "predicted.device_us"),
               100.0 * at(l, "gap"));
        put(report_text(l, "limit"));
        putchar('\n');
    }
    if (at(r, "whole_layers") < (double)json_array_size(json_object_get(r, "layers")))
        printf(
            "of the last layer a prompt wants one row, so the totals above have only part of it\n");
}

static void print_numbers(const char *name, const json_t *list)
{
    size_t i;
    json_t *v;
    printf("%s", name);
    json_array_foreach((json_t *)(uintptr_t)list, i, v) printf(" %d", (int)json_integer_value(v));
}

static void print_layer(const json_t *l)
{
    size_t i;
    json_t *g;
    const char *key;
    printf("\nlayer %d\n", (int)at(l, "layer"));
    json_array_foreach(json_object_get(l, "groups"), i, g)
    {
        print_numbers("  device: experts", json_object_get(g, "experts"));
        print_numbers("; capacity", json_object_get(g, "capacities"));
        printf("\n    ");
        put(report_text(g, "why"));
        putchar('\n');
    }
    if (json_array_size(json_object_get(l, "host_experts")) > 0) {
        print_numbers("  host: experts", json_object_get(l, "host_experts"));
        putchar('\n');
    }
    printf("  dense parts:");
    json_object_foreach(json_object_get(l, "parts"), key, g)
    {
        if (shared_rows(l, key) > 0)
            printf(" %s %d rows on the device, the others on the host;", key, shared_rows(l, key));
        else
            printf(" %s on the %s;", key, json_string_value(g));
    }
    printf(" routing, norms on the host\n");
    print_rejected(json_object_get(l, "rejected"), "  looked at and not taken:");
}

static bool is_wanted(const explain_args *a, const json_t *l)
{
    for (size_t i = 0; i < a->layers.n; i++)
        if (a->layers.v[i] == (int64_t)at(l, "layer"))
            return true;
    return a->all;
}

/* False after a message: a layer was asked for that the plan does not have. */
static bool has_layers(const explain_args *a, const json_t *r, const char *path)
{
    const json_t *layers = json_object_get(r, "layers");
    for (size_t i = 0; i < a->layers.n; i++) {
        bool found = false;
        for (size_t j = 0; j < json_array_size(layers); j++)
            found |= a->layers.v[i] == (int64_t)at(json_array_get(layers, j), "layer");
        if (found)
            continue;
        ui_error("--layers: %s has no layer %lld with experts", path, (long long)a->layers.v[i]);
        return false;
    }
    return true;
}

static int explain(const explain_args *a, const char *path)
{
    npumoe_error err = {0};
    char *text = NULL, *plan = NULL;
    size_t bytes = 0, i;
    json_t *l;
    if (!in_read_all(path, &plan, &bytes))
        return 1;
    if (a->after) {
        const int code = explain_after(path, plan, bytes, a->after, a->json);
        free(plan);
        return code;
    }
    npumoe_status st = npumoe_plan_describe(plan, bytes, &text, &err);
    free(plan);
    if (st != NPUMOE_OK) {
        ui_error("%s: %s", path, err.message);
        return 1;
    }
    if (a->json) {
        out_text(text, strlen(text));
        npumoe_text_free(&text);
        return 0;
    }
    json_t *r = json_loads(text, 0, NULL);
    npumoe_text_free(&text);
    if (!has_layers(a, r, path)) {
        json_decref(r);
        return 1;
    }
    print_head(r);
    print_prediction(r);
    print_rejected(report_at(r, "rejected"), "\nother policies with the same costs and budgets");
    print_table(r);
    json_array_foreach(json_object_get(r, "layers"), i, l)
    {
        if (is_wanted(a, l))
            print_layer(l);
    }
    json_decref(r);
    return 0;
}

int cmd_explain(int argc, char **argv)
{
    explain_args a = {0};
    const cli_group groups[] = {{"Options", explain_opts, &a}, {0}};
    const char *path = NULL;
    size_t n = 0;
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, &path, 1, &n);
    int code = cli_exit_code(parsed);
    if (parsed == CLI_GO && n == 0) {
        ui_error("explain: which plan? (npumoe plan writes one; npumoe explain -h)");
        code = 1;
    } else if (parsed == CLI_GO) {
        code = explain(&a, path);
    }
    cli_numbers_free(&a.layers);
    return code;
}
