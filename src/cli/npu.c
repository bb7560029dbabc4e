/* npu.c: see npu.h. */
#include "npu.h"

#include "out.h"
#include "safe.h"

#include <stdlib.h>
#include <string.h>

#define AT(f) offsetof(npu_args, f)

enum { TRACE_EVENTS = 1 << 18 };

const cli_opt npu_opts[] = {
    {NULL, "--plan", "FILE", cli_set_string, AT(plan), 0, 0,
     "evaluate prompts by this plan (npumoe plan)", true},
    {NULL, "--device", "NAME", cli_set_string, AT(device), 0, 0, "tile (tile)", false},
    {NULL, "--npu-threads", "N", cli_set_i32, AT(threads), 1, 512, "threads of device tile (1)",
     false},
    {NULL, "--npu-cpu", "LIST", cli_add_numbers, AT(cpus), 0, 4095,
     "CPUs that they stay on; default: anywhere", false},
    {NULL, "--npu-isa", "TIER", cli_set_string, AT(isa), 0, 0,
     "its kernels: scalar, avx2, avx512, amx, neon; default: the best", false},
    {NULL, "--npu-precision", "KIND", cli_set_precision, AT(precision), 0, 0,
     "of its products: auto, fast, full, fp32 (full)", false},
    {NULL, "--slots", "N", cli_set_i32, AT(slots), 1, 1000000,
     "programs that it may have loaded; default: any number", false},
    {NULL, "--npu-mem", "BYTES", cli_set_bytes, AT(memory), 0, 0,
     "bytes of all programs, such as 3.5G; default: no limit", false},
    {NULL, "--npu-program-mem", "BYTES", cli_set_bytes, AT(program_memory), 0, 0,
     "bytes of one program, such as 2G; default: no limit", false},
    {NULL, "--npu-queue", "N", cli_set_i32, AT(queue), 1, 1024, "launches in flight (64)", false},
    {NULL, "--npu-launch-us", "N", cli_set_i32, AT(launch_us), 0, 1000000,
     "microseconds added to each launch, to resemble another device (0)", false},
    {NULL, "--in-flight", "N", cli_set_i32, AT(in_flight), 1, 2,
     "chunks at a time; default: as the plan says", false},
    {NULL, "--require-npu", NULL, cli_set_flag, AT(require), 0, 0,
     "fail where a part of the plan cannot run on the device", false},
    {NULL, "--lossy", NULL, cli_set_flag, AT(lossy), 0, 0,
     "accept plans that change results (prune, reroute)", false},
    {NULL, "--stats", NULL, cli_set_flag, AT(stats), 0, 0,
     "say at the end what host and device did", false},
    {NULL, "--trace-out", "FILE", cli_set_string, AT(trace_out), 0, 0,
     "write what happened when, for Perfetto or chrome://tracing", true},
    {NULL, "--npu-debug", "FLAGS", cli_set_string, AT(debug), 0, 0,
     "failures for tests, like 'fail-load=2 fail-launch=3-5'", true},
    {0},
};

static npumoe_status make_device(const npu_args *a, npumoe_device **out, npumoe_error *err)
{
    npumoe_device_options o = npumoe_device_options_default();
    uint32_t cpus[64];
    o.name = a->device;
    o.isa = a->isa;
    o.precision = a->precision;
    o.n_threads = (uint32_t)a->threads;
    for (; o.n_cpus < a->cpus.n && o.n_cpus < 64; o.n_cpus++)
        cpus[o.n_cpus] = (uint32_t)a->cpus.v[o.n_cpus];
    o.cpus = cpus;
    o.slots = (uint32_t)a->slots;
    o.memory_bytes = a->memory;
    o.program_bytes = a->program_memory;
    o.queue_depth = (uint32_t)a->queue;
    o.launch_us = (uint32_t)a->launch_us;
    o.debug_flags = a->debug;
    return npumoe_device_new(&o, out, err);
}

static int attach(const npu_args *a, npumoe_model *model, ui_log *log, npu *n, const char *text,
                  size_t bytes)
{
    npumoe_plan_options o = npumoe_plan_options_default();
    npumoe_error err = {0};
    npumoe_status st = make_device(a, &n->device, &err);
    o.plan = text;
    o.plan_bytes = bytes;
    o.device = n->device;
    o.require_npu = a->require;
    o.allow_lossy = a->lossy;
    o.n_in_flight = (uint32_t)a->in_flight;
    o.trace_events = a->trace_out ? TRACE_EVENTS : 0;
    o.log = ui_log_line;
    o.log_user = log;
    if (st == NPUMOE_OK)
        st = npumoe_model_use_plan(model, &o, &err);
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}

int npu_open(const npu_args *a, npumoe_model *model, ui_log *log, npu *n)
{
    char *text = NULL;
    size_t bytes = 0;
    if (a->plan == NULL) {
        if (a->require)
            ui_error("--require-npu needs --plan");
        return a->require;
    }
    if (!text_read(&(text_args){.file = a->plan, .no_escape = true}, true, &text, &bytes))
        return 1;
    const int code = attach(a, model, log, n, text, bytes);
    free(text);
    return code;
}

static double share(double part, double whole)
{
    return whole > 0.0 ? 100.0 * part / whole : 0.0;
}

static void print_stats(npumoe_model *model, const npu *n)
{
    npumoe_plan_stats s = {.struct_bytes = sizeof s};
    npumoe_device_info d = {.struct_bytes = sizeof d};
    npumoe_plan_get_stats(model, &s);
    npumoe_device_get_info(n->device, &d);
    fprintf(stderr, "device %s (%s, %u threads): %u programs, %.2f GiB, loaded in %.2f s", d.name,
            d.arithmetic, d.n_threads, d.programs_loaded, (double)d.bytes_loaded / 1073741824.0,
            d.load_seconds);
    if (d.added_launch_ns)
        fprintf(stderr, ", %.0f us added to each launch", (double)d.added_launch_ns * 1e-3);
    fprintf(stderr,
            "\n  %llu tokens by plan in %.3f s (%.1f tokens/s)\n"
            "  host    %.3f s CPU, %.3f s waiting, %.3f s gather, %.3f s scatter\n"
            "  device  %.3f s busy, %.3f s occupied, %llu launches, %llu of dense parts\n"
            "  rows    %.1f %% of the pairs on the device, %.1f %% padding, %.1f %% overflow, "
            "%llu dropped, %llu moved\n"
            "  %llu groups not worth a launch, %llu failures, %u programs on the CPU instead\n",
            (unsigned long long)s.n_tokens, s.wall_seconds,
            s.wall_seconds > 0 ? (double)s.n_tokens / s.wall_seconds : 0, s.host_cpu_seconds,
            s.host_wait_seconds, s.gather_seconds, s.scatter_seconds, s.device_busy_seconds,
            s.device_occupied_seconds, (unsigned long long)s.n_launches,
            (unsigned long long)s.n_part_launches,
            share((double)s.n_device_rows, (double)s.n_pairs),
            share((double)(s.n_computed_rows - s.n_device_rows), (double)s.n_computed_rows),
            share((double)s.n_overflow, (double)s.n_pairs), (unsigned long long)s.n_dropped,
            (unsigned long long)s.n_rerouted, (unsigned long long)s.n_skipped,
            (unsigned long long)s.n_failures, s.n_fallbacks);
}

int npu_report(const npu_args *a, npumoe_model *model, const npu *n)
{
    char *json = NULL;
    npumoe_error err = {0};
    out_file out;
    if (n->device == NULL)
        return 0;
    if (a->stats)
        print_stats(model, n);
    if (a->trace_out == NULL)
        return 0;
    npumoe_status st = npumoe_plan_trace(model, &json, &err);
    if (st != NPUMOE_OK)
        return ui_fail(st, &err);
    bool good = out_open(&out, a->trace_out);
    if (good) {
        out_write(&out, json, strlen(json));
        good = out_close(&out, true);
    }
    npumoe_text_free(&json);
    return good ? 0 : 1;
}

void npu_close(npu *n, npu_args *args)
{
    npumoe_device_free(&n->device);
    cli_numbers_free(&args->cpus);
}
