/* plan.c: npumoe plan: from a profile to a plan for a device. The library plans; this file reads and
 * writes files and says in a few lines what came out (npumoe explain says all of it). */
#include "load.h"
#include "out.h"
#include "report.h"
#include "safe.h"
#include "verbs.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct plan_args {
    npumoe_planner_options o;
    const char *output, *cost, *save_cost, *npu_precision, *precision;
    int32_t chunk, prompt, n_past, in_flight, tiers, group, capacities, slots, launch_us,
        npu_threads, threads, host_cpu;
    bool quiet;
} plan_args;

#define AT(f) offsetof(plan_args, f)

/* Two cores that share memory alone were never found to slow each other by more (1.00 to 1.3). */
#define NEIGHBOURS 1.4

static const cli_opt device_opts[] = {
    {NULL, "--device", "NAME", cli_set_string, AT(o.device), 0, 0,
     "tile: cores of this machine as a static matrix engine;\ncpu: no device (tile)", false},
    {NULL, "--slots", "N", cli_set_i32, AT(slots), 1, 1000000,
     "programs that it may have loaded, such as 120 for an ANE;\ndefault: any number", false},
    {NULL, "--npu-mem", "BYTES", cli_set_bytes, AT(o.memory_bytes), 0, 0,
     "bytes of all programs, such as 3.5G; default: no limit", false},
    {NULL, "--npu-program-mem", "BYTES", cli_set_bytes, AT(o.program_bytes), 0, 0,
     "bytes of one program, such as 2G; default: no limit", false},
    {NULL, "--npu-launch-us", "N", cli_set_i32, AT(launch_us), 0, 1000000,
     "microseconds added to each launch, to resemble another\ndevice (0)", false},
    {NULL, "--npu-threads", "N", cli_set_i32, AT(npu_threads), 1, 512, "threads of device tile (1)",
     false},
    {NULL, "--npu-isa", "TIER", cli_set_string, AT(o.npu_isa), 0, 0,
     "its kernels: scalar, avx2, avx512, amx, neon;\ndefault: the best", false},
    {NULL, "--npu-precision", "NAME", cli_set_string, AT(npu_precision), 0, 0,
     "of its products: auto, fast, full, fp32 (full)", false},
    {NULL, "--npu-weights", "KIND", cli_set_string, AT(o.npu_weights), 0, 0,
     "file: decoded in every launch; packed: when loaded, for\nmore bytes (file)", false},
    {0},
};

static const cli_opt plan_opts[] = {
    {NULL, "--policy", "NAME", cli_set_string, AT(o.policy), 0, 0,
     "ours; or to compare with: paper, ladder, naive, cpu (ours)", false},
    {NULL, "--objective", "NAME", cli_set_string, AT(o.objective), 0, 0,
     "latency, cpu (host time, never slower than without a\ndevice), energy (latency)", false},
    {NULL, "--host-cpu", "PERCENT", cli_set_i32, AT(host_cpu), 1, 100,
     "most CPU time of the host, of what it takes without a\ndevice: the quickest plan that needs "
     "no more; default:\nthe quickest of all",
     false},
    {NULL, "--overflow", "NAME", cli_set_string, AT(o.overflow), 0, 0,
     "rows beyond a capacity: spill, repass (exact); prune,\nreroute (lossy); default: the "
     "policy's own, spill for ours",
     false},
    {NULL, "--chunk", "T", cli_set_i32, AT(chunk), 1, 16384, "tokens of a chunk (512)", false},
    {NULL, "--prompt-tokens", "N", cli_set_i32, AT(prompt), 1, 1 << 24,
     "tokens of the prompts that it is for: later chunks attend\nto more (2048)", false},
    {NULL, "--n-past", "N", cli_set_i32, AT(n_past), 0, 1 << 24,
     "tokens before it, in the cache already (0)", false},
    {NULL, "--in-flight", "N", cli_set_i32, AT(in_flight), 1, 4,
     "chunks at a time: 1, or up to 4 as a wavefront;\ndefault: 2 to 4, as many as pay", false},
    {NULL, "--tiers", "N", cli_set_i32, AT(tiers), 1, 8,
     "capacities per layer where groups have one each (6)", false},
    {NULL, "--max-group", "N", cli_set_i32, AT(group), 1, 256, "experts per launch (16)", false},
    {NULL, "--max-capacities", "N", cli_set_i32, AT(capacities), 1, 8,
     "programs per group, of which a chunk takes one;\n1: static tiers; default: as --tiers",
     false},
    {NULL, "--all-experts", NULL, cli_set_flag, AT(o.all_experts), 0, 0,
     "every expert on the device, as far as it has room: for\ncomparison", false},
    {NULL, "--no-parts", NULL, cli_set_flag, AT(o.no_parts), 0, 0,
     "attention and dense parts stay on the host: for comparison", false},
    {NULL, "--alone", NULL, cli_set_flag, AT(o.alone), 0, 0,
     "no look at the other policies, none of whose plans is\ntaken where it is better", false},
    {0},
};

static const cli_opt host_opts[] = {
    {"-t", "--threads", "N", cli_set_i32, AT(threads), 1, 512,
     "threads of the host; default: the CPUs allowed less the\ndevice's", false},
    {NULL, "--isa", "TIER", cli_set_string, AT(o.isa), 0, 0, "its kernels; default: the best",
     false},
    {NULL, "--precision", "NAME", cli_set_string, AT(precision), 0, 0,
     "of its products: auto, fast, full, fp32 (auto)", false},
    {NULL, "--types", "LIST", cli_set_string, AT(o.types), 0, 0,
     "types of expert weights, Q8_0 or gate,up,down; default: as\nin the model that was "
     "calibrated",
     false},
    {0},
};

static const cli_opt file_opts[] = {
    {"-o", "--output", "FILE", cli_set_string, AT(output), 0, 0,
     "write the plan to FILE; - is standard output (-)", true},
    {NULL, "--cost", "FILE", cli_set_string, AT(cost), 0, 0,
     "a cost table that --save-cost wrote, or wrote to, instead of\nmeasuring", true},
    {NULL, "--save-cost", "FILE", cli_set_string, AT(save_cost), 0, 0,
     "write the cost table that was used; a FILE of npumoe probe keeps\nwhat it has, and serves "
     "bench and plan from then on",
     true},
    {"-q", "--quiet", NULL, cli_set_flag, AT(quiet), 0, 0, "no summary", true},
    {0},
};

static const cli_help help = {
    "plan",
    "PROFILE [options]",
    "Makes a plan from a profile (npumoe calibrate): which experts run on the device, in which\n"
    "groups and with which capacities, so that a chunk takes the least time within the\n"
    "device's slots and memory. What work costs is measured here first, in some seconds, in\n"
    "which the machine should do nothing else. The plan is JSON; the summary goes to\n"
    "standard error.",
    "npumoe plan olmoe.profile -o olmoe.plan.json\n"
    "npumoe plan olmoe.profile --slots 120 --npu-mem 3.5G --npu-launch-us 150 -o ane.json\n"
    "npumoe plan olmoe.profile --policy ladder --cost machine.cost.json -o ladder.json\n"
    "npumoe explain olmoe.plan.json",
};

static bool set_precision(const char *option, const char *name, npumoe_precision *out)
{
    static const char *const names[] = {"auto", "fast", "full", "fp32"};
    static const npumoe_precision values[] = {NPUMOE_PRECISION_AUTO, NPUMOE_PRECISION_FAST,
                                              NPUMOE_PRECISION_FULL, NPUMOE_PRECISION_FP32};
    for (int i = 0; name && i < 4; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = values[i];
            return true;
        }
    if (name)
        ui_error("%s: found '%s', expected auto, fast, full or fp32", option, name);
    return name == NULL;
}

/* What a cost table does not record, and so cannot be compared with. */
static bool table_decides(const plan_args *a)
{
    const struct {
        const char *option;
        bool given;
    } settings[] = {{"--npu-isa", a->o.npu_isa != NULL},
                    {"--npu-precision", a->npu_precision != NULL}};
    for (size_t i = 0; a->cost && i < sizeof settings / sizeof settings[0]; i++)
        if (settings[i].given) {
            ui_error("%s has no effect with --cost: %s was measured with its own; leave one of "
                     "the two out",
                     settings[i].option, a->cost);
            return false;
        }
    return true;
}

static bool read_args(plan_args *a)
{
    npumoe_planner_options *o = &a->o;
    o->n_chunk = (uint32_t)a->chunk;
    o->n_prompt = (uint32_t)a->prompt;
    o->n_past = (uint32_t)a->n_past;
    o->n_in_flight = (uint32_t)a->in_flight;
    o->host_limit = a->host_cpu / 100.0;
    o->n_tiers = (uint32_t)a->tiers;
    o->max_group = (uint32_t)a->group;
    o->max_capacities = (uint32_t)a->capacities;
    o->slots = (uint32_t)a->slots;
    o->launch_us = (uint32_t)a->launch_us;
    o->npu_threads = (uint32_t)a->npu_threads;
    o->n_threads = a->threads;
    return table_decides(a) &&
           set_precision("--npu-precision", a->npu_precision, &o->npu_precision) &&
           set_precision("--precision", a->precision, &o->precision);
}

/* ---- summary -------------------------------------------------------------------------------- */

static double at(const json_t *r, const char *path)
{
    return json_number_value(report_at(r, path));
}

static void print_rejected(const json_t *r)
{
    size_t i;
    json_t *o;
    json_array_foreach((json_t *)(uintptr_t)report_at(r, "rejected"), i, o)
    {
        fprintf(stderr, "  %-32s %9.1f ms\n", report_text(o, "what"), at(o, "us") * 1e-3);
    }
}

/* What the table found of the two sides at work beside each other. */
static void print_beside(const json_t *r)
{
    static const char *const host[] = {"experts", "dense", "attention", "rows"};
    const json_t *beside = report_at(r, "beside");
    double least = HUGE_VAL, most = 0.0;
    for (size_t i = 0; i < sizeof host / sizeof host[0]; i++) {
        least = fmin(least, at(beside, host[i]));
        most = fmax(most, at(beside, host[i]));
    }
    if (!json_is_object(beside))
        return;
    fprintf(stderr, "  beside a busy device the host takes %.2f ", least);
    if (most - least >= 0.005)
        fprintf(stderr, "to %.2f ", most);
    fprintf(stderr, "times as long, the device beside a busy host %.2f\n", at(beside, "device"));
    if (fmax(most, at(beside, "device")) > NEIGHBOURS)
        fputs("  that is much: others were at work, or the two share a core; measure again to see "
              "if it "
              "stays\n",
              stderr);
}

/* With one chunk nothing overlaps but its own experts: half of a prompt is one of two that do. */
static void print_chunk_hint(const json_t *r)
{
    enum { LEAST = 64, STEP = 32 };
    const uint64_t prompt = report_u64(r, "prompt"), chunk = report_u64(r, "chunk");
    if (prompt < LEAST || prompt > chunk || report_u64(r, "programs") == 0 ||
        report_u64(r, "in_flight") < 2)
        return;
    fprintf(stderr,
            "  a prompt of %" PRIu64 " tokens is one chunk of %" PRIu64
            ", beside which there is no other; two overlap: try --chunk %" PRIu64 "\n",
            prompt, chunk, (prompt / 2 + STEP - 1) / STEP * STEP);
}

/* Host CPU time, and whether it is within the limit that was asked for. */
static void print_host(const json_t *r)
{
    const double share = at(r, "host_share"), limit = at(r, "host_limit");
    fprintf(stderr, "  the host works for %.1f %% of the time that it takes alone", 100.0 * share);
    if (limit > 0.0 && share > limit * (1.0 + 1e-6))
        fprintf(stderr, "; no plan with %.0f %% was found", 100.0 * limit);
    else if (limit > 0.0)
        fprintf(stderr, " (limit: %.0f %%)", 100.0 * limit);
    fprintf(stderr, "\n");
}

static void print_summary(const char *plan)
{
    char *text = NULL, a[32];
    npumoe_error err;
    if (npumoe_plan_describe(plan, strlen(plan), &text, &err) != NPUMOE_OK) {
        ui_note("no summary: %s", err.message);
        return;
    }
    json_t *r = json_loads(text, 0, NULL);
    const double us = at(r, "predicted.us"), added = at(r, "device.added_launch_us");
    fprintf(stderr, "policy %s on device %s", report_text(r, "policy"),
            report_text(r, "device.name"));
    if (added > 0.0)
        fprintf(stderr, " (%.0f us added to each launch)", added);
    fprintf(stderr, ": chunks of %d tokens in %.1f ms, predicted\n", (int)at(r, "chunk"),
            us * 1e-3);
    fprintf(stderr, "  %-32s %9.1f ms  (%.2f times faster)\n", "host alone",
            at(r, "cpu_only.us") * 1e-3, at(r, "speedup"));
    print_rejected(r);
    fprintf(stderr, "  %-32s %9.1f ms  (gap %.1f %%)\n", "lower bound", at(r, "bound_us") * 1e-3,
            100.0 * at(r, "gap"));
    fprintf(stderr, "  %d programs, %s; %.0f %% of the pairs on the device, %.0f %% padding\n",
            (int)at(r, "programs"), human_bytes(report_u64(r, "bytes"), a, sizeof a),
            100.0 * at(r, "predicted.device_share"), 100.0 * at(r, "predicted.padding_share"));
    print_host(r);
    print_beside(r);
    print_chunk_hint(r);
    json_decref(r);
    npumoe_text_free(&text);
}

/* ---- files ---------------------------------------------------------------------------------- */

static bool write_text(const char *name, const char *text)
{
    out_file out;
    if (!out_open(&out, name))
        return false;
    out_write(&out, text, strlen(text));
    return out_close(&out, true);
}

/* A table of what the machine can do stays where it is, and gets this one, too. */
static bool save_cost(const char *name, const char *cost)
{
    json_t *there = strcmp(name, "-") == 0 ? NULL : json_load_file(name, 0, NULL);
    const bool is_machine = there && strcmp(report_text(there, "schema"), "npumoe-cost-table") == 0;
    char *table = NULL, *both = NULL;
    size_t bytes = 0;
    npumoe_error err = {0};
    json_decref(there);
    if (!is_machine)
        return write_text(name, cost);
    bool ok = in_read_all(name, &table, &bytes);
    if (ok && npumoe_cost_table_add(table, bytes, cost, strlen(cost), &both, &err) != NPUMOE_OK) {
        ui_error("--save-cost: %s: %s", name, err.message);
        ok = false;
    }
    ok = ok && write_text(name, both);
    npumoe_text_free(&both);
    free(table);
    return ok;
}

/* The library says which of its two inputs it means; people want to know the file. */
static int refuse(const plan_args *a, const char *path, npumoe_status st, const npumoe_error *err)
{
    const char *file = NULL;
    if (strncmp(err->message, "profile: ", 9) == 0)
        file = path;
    else if (a->cost && strncmp(err->message, "cost table: ", 12) == 0)
        file = a->cost;
    if (file == NULL)
        return ui_fail(st, err);
    ui_error("%s: %s", file, err->message);
    return 1;
}

/* What is written must not be what is read, and one stream takes one document. */
static bool spares_inputs(const plan_args *a, const char *path)
{
    if (a->save_cost && strcmp(a->save_cost, "-") == 0 &&
        (!a->output || strcmp(a->output, "-") == 0)) {
        ui_error("--save-cost -: the plan goes to standard output, too; give -o FILE for one of "
                 "them");
        return false;
    }
    return out_apart("-o", a->output, "the profile", path) &&
           out_apart("-o", a->output, "--cost", a->cost) &&
           out_apart("-o", a->output, "--save-cost", a->save_cost) &&
           out_apart("--save-cost", a->save_cost, "the profile", path) && out_promises(a->output) &&
           out_promises(a->save_cost);
}

static int make(plan_args *a, const char *path)
{
    ui_progress bar;
    npumoe_error err = {0};
    char *profile = NULL, *table = NULL, *plan = NULL, *cost = NULL;
    size_t profile_bytes = 0;
    int code = 1;
    if (!spares_inputs(a, path) || !in_read_all(path, &profile, &profile_bytes))
        return 1;
    if (a->cost && !in_read_all(a->cost, &table, &a->o.cost_bytes))
        goto out;
    a->o.cost = table;
    ui_progress_begin(&bar, a->cost ? "plan" : "measure, plan", "steps");
    a->o.progress = ui_progress_step;
    a->o.progress_user = &bar;
    npumoe_status st = npumoe_plan_make(profile, profile_bytes, &a->o, &plan, &cost, &err);
    ui_progress_end(&bar);
    if (st != NPUMOE_OK) {
        code = refuse(a, path, st, &err);
        goto out;
    }
    if (ui_interrupted() || (a->save_cost && !save_cost(a->save_cost, cost)) ||
        !write_text(a->output ? a->output : "-", plan))
        goto out;
    if (!a->quiet)
        print_summary(plan);
    code = 0;
out:
    npumoe_text_free(&plan);
    npumoe_text_free(&cost);
    free(profile);
    free(table);
    return code;
}

int cmd_plan(int argc, char **argv)
{
    plan_args a = {.o = npumoe_planner_options_default()};
    const cli_group groups[] = {{"Plan", plan_opts, &a},
                                {"Device", device_opts, &a},
                                {"Host", host_opts, &a},
                                {"Files", file_opts, &a},
                                {0}};
    const char *path = NULL;
    size_t n = 0;
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, &path, 1, &n);
    if (parsed != CLI_GO)
        return cli_exit_code(parsed);
    if (n == 0) {
        ui_error("plan: which profile? (npumoe calibrate writes one; npumoe plan -h)");
        return 1;
    }
    if (!read_args(&a))
        return 1;
    ui_catch_interrupts();
    return ui_exit_code(make(&a, path));
}
