/* npu.c: see npu.h. */
#include "npu.h"

#include "out.h"
#include "report.h"
#include "safe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT(f) offsetof(npu_args, f)

enum { TRACE_EVENTS = 1 << 18, MAX_CPUS = 512 };

const cli_opt npu_opts[] = {
    {NULL, "--plan", "FILE", cli_add_string, AT(plans), 0, 0,
     "evaluate prompts by this plan (npumoe plan)", true},
    {NULL, "--npu-from", "N", cli_set_i32, AT(from), 2, 65536,
     "prompts of at least N tokens go by the plan, whatever it predicts;\n"
     "default: those that it predicts to be faster",
     true},
    {NULL, "--in-flight", "N", cli_set_i32, AT(in_flight), 1, 4,
     "chunks at a time; default: as the plan says", true},
    {NULL, "--no-replan", NULL, cli_set_flag, AT(no_replan), 0, 0,
     "keep the plan whatever the loads; default: between prompts another\nmay be made", true},
    {NULL, "--require-npu", NULL, cli_set_flag, AT(require), 0, 0,
     "fail where the plan, or a part of it, cannot run on the device", true},
    {NULL, "--lossy", NULL, cli_set_flag, AT(lossy), 0, 0,
     "accept plans that change results (prune, reroute)", true},
    {NULL, "--stats", NULL, cli_set_flag, AT(stats), 0, 0,
     "say at the end what host and device did", true},
    {NULL, "--stats-out", "FILE", cli_set_string, AT(stats_out), 0, 0,
     "write it as JSON, for npumoe explain --after", true},
    {NULL, "--trace-out", "FILE", cli_set_string, AT(trace_out), 0, 0,
     "write what happened when, for Perfetto or chrome://tracing", true},
    {NULL, "--device", "NAME", cli_set_string, AT(device), 0, 0,
     "tile, or cpu: none; default: the one that the plan is for", true},
    {NULL, "--npu-threads", "N", cli_set_i32, AT(threads), 1, 512, "threads of device tile (1)",
     true},
    {NULL, "--npu-cpu", "LIST", cli_add_numbers, AT(cpus), 0, 4095,
     "CPUs that they stay on; default: anywhere", true},
    {NULL, "--npu-isa", "TIER", cli_set_string, AT(isa), 0, 0,
     "its kernels: scalar, avx2, avx512, amx, neon; default: the best", true},
    {NULL, "--npu-precision", "KIND", cli_set_precision, AT(precision), 0, 0,
     "of its products: auto, fast, full, fp32 (full)", true},
    {NULL, "--slots", "N", cli_set_i32, AT(slots), 1, 1000000,
     "programs that it may have loaded; default: any number", true},
    {NULL, "--npu-mem", "BYTES", cli_set_bytes, AT(memory), 0, 0,
     "bytes of all programs, such as 3.5G; default: no limit", true},
    {NULL, "--npu-program-mem", "BYTES", cli_set_bytes, AT(program_memory), 0, 0,
     "bytes of one program, such as 2G; default: no limit", true},
    {NULL, "--npu-queue", "N", cli_set_i32, AT(queue), 1, 1024, "launches in flight (64)", true},
    {NULL, "--npu-launch-us", "N", cli_set_i32, AT(launch_us), 0, 1000000,
     "microseconds added to each launch, to resemble another device (0)", true},
    {NULL, "--npu-debug", "FLAGS", cli_set_string, AT(debug), 0, 0,
     "failures for tests, like 'fail-load=2 fail-launch=3-5 fail-submit=7',\nand late=SEED: "
     "waiting takes longer, at random",
     true},
    {0},
};

/* ---- before the model ------------------------------------------------------------------------- */

/* An option that was given and means nothing without a plan, or NULL. */
static const char *needs_plan(const npu_args *a)
{
    const struct {
        const char *option;
        bool given;
    } all[] = {
        {"--require-npu", a->require},
        {"--npu-from", a->from != 0},
        {"--in-flight", a->in_flight != 0},
        {"--no-replan", a->no_replan},
        {"--lossy", a->lossy},
        {"--stats", a->stats},
        {"--stats-out", a->stats_out != NULL},
        {"--trace-out", a->trace_out != NULL},
        {"--device", a->device != NULL},
        {"--npu-threads", a->threads != 0},
        {"--npu-cpu", a->cpus.n != 0},
        {"--npu-isa", a->isa != NULL},
        {"--npu-precision", a->precision != NPUMOE_PRECISION_FULL},
        {"--slots", a->slots != 0},
        {"--npu-mem", a->memory != 0},
        {"--npu-program-mem", a->program_memory != 0},
        {"--npu-queue", a->queue != 0},
        {"--npu-launch-us", a->launch_us != 0},
        {"--npu-debug", a->debug != NULL},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i].given)
            return all[i].option;
    return NULL;
}

bool npu_spares_inputs(const npu_args *a, const model_args *model, const char *log_file,
                       const char *text_file)
{
    const struct {
        const char *option, *path;
    } outs[] = {
        {"--log-file", log_file}, {"--trace-out", a->trace_out}, {"--stats-out", a->stats_out}};
    bool ok = true;
    for (size_t i = 0; i < sizeof outs / sizeof outs[0] && ok; i++) {
        const char *option = outs[i].option, *path = outs[i].path;
        ok = (!path || i == 0 || spares_model(model, option, path)) &&
             out_apart(option, path, "-f", text_file) &&
             out_apart(option, path, "--routes", model->routes);
        for (size_t j = 0; j < i && ok; j++)
            ok = out_apart(outs[j].option, outs[j].path, option, path);
        for (size_t j = 0; j < a->plans.n && ok; j++)
            ok = out_apart(option, path, "--plan", a->plans.v[j]);
        ok = ok && (i == 0 || out_promises(path)); /* the log is open */
    }
    return ok;
}

/* What of the plan concerns the command line. */
static bool look_at_plan(npu *n, model_args *model)
{
    npumoe_error err = {0};
    char *json = NULL;
    if (npumoe_plan_describe(n->plan, n->plan_bytes, &json, &err) != NPUMOE_OK) {
        ui_error("%s: %s", n->path, err.message);
        return false;
    }
    json_t *o = json_loads(json, 0, NULL);
    snprintf(n->device_name, sizeof n->device_name, "%s", report_text(o, "device.name"));
    snprintf(n->weights, sizeof n->weights, "%s", report_text(o, "device.weights"));
    n->chunk = (uint32_t)report_u64(o, "chunk");
    if (model->threads <= 0 && model->threads_batch <= 0)
        model->threads = (int32_t)report_u64(o, "host.threads");
    json_decref(o);
    npumoe_text_free(&json);
    return true;
}

bool npu_read_one(const char *path, model_args *model, npu *n)
{
    n->path = path;
    return path == NULL || (in_read_all(path, &n->plan, &n->plan_bytes) && look_at_plan(n, model));
}

bool npu_has_plan(const npu_args *a)
{
    const char *lonely = a->plans.n == 0 ? needs_plan(a) : NULL;
    const bool figures = lonely && strncmp(lonely, "--stats", 7) == 0;
    if (lonely)
        ui_error("%s needs --plan%s", lonely,
                 figures ? ": it says what a plan did; the host alone is measured by npumoe bench"
                         : "");
    if (a->cpus.n > MAX_CPUS)
        ui_error("--npu-cpu: found %zu CPUs, expected at most %d, as many as the device may have "
                 "threads",
                 a->cpus.n, MAX_CPUS);
    return lonely == NULL && a->cpus.n <= MAX_CPUS;
}

bool npu_read(const npu_args *a, model_args *model, npu *n)
{
    if (a->plans.n > 1)
        ui_error("--plan: found %zu plans, expected one; npumoe bench compares them", a->plans.n);
    return npu_has_plan(a) && a->plans.n <= 1 &&
           npu_read_one(a->plans.n ? a->plans.v[0] : NULL, model, n);
}

/* ---- with the model --------------------------------------------------------------------------- */

static npumoe_status make_device(const npu_args *a, npu *n, npumoe_error *err)
{
    npumoe_device_options o = npumoe_device_options_default();
    uint32_t cpus[MAX_CPUS];
    o.name = a->device ? a->device : n->device_name;
    o.isa = a->isa;
    o.precision = a->precision;
    o.n_threads = a->threads ? (uint32_t)a->threads : o.n_threads;
    for (; o.n_cpus < a->cpus.n && o.n_cpus < MAX_CPUS; o.n_cpus++)
        cpus[o.n_cpus] = (uint32_t)a->cpus.v[o.n_cpus];
    o.cpus = cpus;
    o.slots = (uint32_t)a->slots;
    o.memory_bytes = a->memory;
    o.program_bytes = a->program_memory;
    o.queue_depth = (uint32_t)a->queue;
    o.launch_us = (uint32_t)a->launch_us;
    o.debug_flags = a->debug;
    o.weights = n->weights[0] ? n->weights : NULL; /* bytes and times of the plan are for that */
    return npumoe_device_new(&o, &n->device, err);
}

int npu_open(const npu_args *a, npumoe_model *model, ui_log *log, npu *n)
{
    npumoe_plan_options o = npumoe_plan_options_default();
    npumoe_error err = {0};
    if (n->path == NULL)
        return 0;
    npumoe_status st = make_device(a, n, &err);
    o.plan = n->plan;
    o.plan_bytes = n->plan_bytes;
    o.name = n->path;
    o.device = n->device;
    o.require_npu = a->require;
    o.allow_lossy = a->lossy;
    o.no_replan = a->no_replan;
    o.n_in_flight = (uint32_t)a->in_flight;
    o.from_tokens = (uint32_t)a->from;
    o.trace_events = a->trace_out ? TRACE_EVENTS : 0;
    o.log = ui_log_line;
    o.log_user = log;
    if (st == NPUMOE_OK)
        st = npumoe_model_use_plan(model, &o, &err);
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}

/* ---- what happened ---------------------------------------------------------------------------- */

/* If another plan cannot be loaded, the old one stays, and the log has said so. */
void npu_adapt(npumoe_model *model, const npu *n)
{
    ui_progress bar;
    if (n->device == NULL)
        return;
    ui_progress_begin(&bar, "another plan", "layers");
    npumoe_plan_adapt(model, ui_progress_step, &bar, NULL);
    ui_progress_end(&bar);
}

bool npu_has_adapted(npumoe_model *model)
{
    npumoe_plan_stats s = {.struct_bytes = sizeof s};
    npumoe_plan_get_stats(model, &s);
    return s.n_replans > 0;
}

static double share(double part, double whole)
{
    return whole > 0.0 ? 100.0 * part / whole : 0.0;
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static void print_replans(const npumoe_plan_stats *s)
{
    fprintf(stderr, "  plans   loads of %llu chunk%s seen, looked at %llu time%s",
            (unsigned long long)s->n_chunks_seen, plural(s->n_chunks_seen),
            (unsigned long long)s->n_looks, plural(s->n_looks));
    if (s->n_new_plans)
        fprintf(stderr, "; %llu made in %.2f s, the last %.1f %% %s by prediction",
                (unsigned long long)s->n_new_plans, s->planning_seconds, fabs(100.0 * s->drift),
                s->drift < 0.0 ? "slower" : "faster");
    fprintf(stderr, "; %llu taken", (unsigned long long)s->n_replans);
    if (s->n_replans)
        fprintf(stderr, ": %llu program%s stayed, %llu came, %llu went, in %.2f s",
                (unsigned long long)s->n_programs_kept, plural(s->n_programs_kept),
                (unsigned long long)s->n_programs_loaded,
                (unsigned long long)s->n_programs_unloaded, s->replan_load_seconds);
    if (s->n_replan_failures)
        fprintf(stderr, "; %llu could not be loaded", (unsigned long long)s->n_replan_failures);
    fprintf(stderr, "\n");
}

/* What the tokens by plan do not say: what was begun only, and what never goes by a plan. */
static void print_rest(const npumoe_plan_stats *s)
{
    const bool begun = s->n_layer_chunks > 0 || s->n_launches + s->n_part_launches > 0;
    if (s->n_stopped > 0)
        fprintf(stderr,
                "  STOPPED in a prompt: what stands here has its unfinished chunks, too, but not "
                "their tokens\n");
    else if (s->n_tokens == 0 && !begun)
        fprintf(stderr, "  nothing went by the plan: the host computed all of it alone%s\n",
                s->n_single_tokens > 0 ? " (single tokens always are its own)" : "");
    else if (s->n_launches + s->n_part_launches == 0)
        fprintf(stderr, "  the device completed no launch: the host computed all of it alone\n");
}

static void print_stats(npumoe_model *model, const npu *n)
{
    npumoe_plan_stats s = {.struct_bytes = sizeof s};
    npumoe_device_info d = {.struct_bytes = sizeof d};
    char size[32];
    npumoe_plan_get_stats(model, &s);
    npumoe_device_get_info(n->device, &d);
    fprintf(stderr, "device %s (%s, %u thread%s): %u program%s, weights %s, %s, loaded in %.2f s",
            d.name, d.arithmetic, d.n_threads, plural(d.n_threads), d.programs_loaded,
            plural(d.programs_loaded),
            strcmp(d.weights, "packed") == 0 ? "packed" : "as in the file",
            human_bytes(d.bytes_loaded, size, sizeof size), d.load_seconds);
    if (d.added_launch_ns)
        fprintf(stderr, ", %.0f us added to each launch", (double)d.added_launch_ns * 1e-3);
    fprintf(stderr,
            "\n  %llu token%s by plan in %.3f s (%.1f tokens/s)\n"
            "  host    %.3f s CPU, %.3f s waiting, %.3f s gather, %.3f s scatter\n"
            "  device  %.3f s busy, %.3f s occupied, %llu launch%s, %llu of dense parts\n"
            "  rows    %.1f %% of the pairs on the device, %.1f %% padding, %.1f %% overflow, "
            "%llu dropped, %llu moved\n"
            "  %llu group%s not worth a launch, %llu failure%s, %u program%s on the CPU instead\n",
            (unsigned long long)s.n_tokens, plural(s.n_tokens), s.wall_seconds,
            s.wall_seconds > 0 ? (double)s.n_tokens / s.wall_seconds : 0, s.host_cpu_seconds,
            s.host_wait_seconds, s.gather_seconds, s.scatter_seconds, s.device_busy_seconds,
            s.device_occupied_seconds, (unsigned long long)s.n_launches,
            s.n_launches == 1 ? "" : "es", (unsigned long long)s.n_part_launches,
            share((double)s.n_device_rows, (double)s.n_pairs),
            share((double)(s.n_computed_rows - s.n_device_rows), (double)s.n_computed_rows),
            share((double)s.n_overflow, (double)s.n_pairs), (unsigned long long)s.n_dropped,
            (unsigned long long)s.n_rerouted, (unsigned long long)s.n_skipped, plural(s.n_skipped),
            (unsigned long long)s.n_failures, plural(s.n_failures), s.n_fallbacks,
            plural(s.n_fallbacks));
    print_rest(&s);
    if (s.n_chunks_seen)
        print_replans(&s);
}

/* What one of the library's reports says, into a file. Exit code. */
static int write_report(npumoe_model *model, const char *path,
                        npumoe_status (*get)(npumoe_model *, char **, npumoe_error *))
{
    char *json = NULL;
    npumoe_error err = {0};
    out_file out;
    if (path == NULL)
        return 0;
    npumoe_status st = get(model, &json, &err);
    if (st != NPUMOE_OK)
        return ui_fail(st, &err);
    bool good = out_open(&out, path);
    if (good) {
        out_write(&out, json, strlen(json));
        good = out_close(&out, true);
    }
    npumoe_text_free(&json);
    return good ? 0 : 1;
}

int npu_save(const npu *n, npumoe_model *model, const char *path)
{
    return n->device ? write_report(model, path, npumoe_plan_get) : 0;
}

int npu_report(const npu_args *a, npumoe_model *model, const npu *n)
{
    if (n->device == NULL)
        return 0;
    if (a->stats)
        print_stats(model, n);
    const int code = write_report(model, a->stats_out, npumoe_plan_report);
    return code ? code : write_report(model, a->trace_out, npumoe_plan_trace);
}

void npu_close(npu *n)
{
    npumoe_device_free(&n->device);
    free(n->plan);
    *n = (npu){0};
}

void npu_args_free(npu_args *args)
{
    cli_strings_free(&args->plans);
    cli_numbers_free(&args->cpus);
}
