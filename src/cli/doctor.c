/* doctor.c: npumoe doctor: what this machine offers, what npumoe uses of it, and what is amiss. */
#include "build.h"
#include "load.h"
#include "report.h"
#include "verbs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct doctor_args {
    model_args model;
    bool json;
} doctor_args;

static const cli_opt doctor_opts[] = {
    {NULL, "--json", NULL, cli_set_flag, offsetof(doctor_args, json), 0, 0, "the same as JSON",
     true},
    {0},
};

static const cli_help help = {
    "doctor",
    "[options]",
    "Shows the version, the CPU, which kernels are built, usable and chosen, how many CPUs\n"
    "and how much memory may be used, the devices and their limits, and whether the model\n"
    "(the demo model without -m) is there and can be used.",
    "npumoe doctor\n"
    "npumoe doctor --json | jq .kernels.chosen",
};

/* "a, b, c" of an array of strings. */
static const char *join(const json_t *array, char *buf, size_t cap)
{
    size_t n = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < json_array_size(array) && n < cap; i++) {
        int w = snprintf(buf + n, cap - n, "%s%s", i ? ", " : "",
                         json_string_value(json_array_get(array, i)));
        n += w > 0 ? (size_t)w : 0;
    }
    return buf;
}

static const char *limit(const json_t *bytes, char *buf, size_t cap)
{
    return json_is_integer(bytes) ? human_bytes((uint64_t)json_integer_value(bytes), buf, cap)
                                  : "any";
}

static void print_device(const json_t *d)
{
    char forms[64], slots[32] = "any number", one[32], all[32];
    printf("%-14s %s", "device", report_text(d, "name"));
    if (!json_object_get(d, "weights")) {
        printf(": none, for plans that leave everything to the host\n");
        return;
    }
    printf(": %s products, %" PRIu64 " thread%s, %" PRIu64 " launches in flight; weights: %s\n",
           report_text(d, "arithmetic"), report_u64(d, "threads"),
           report_u64(d, "threads") == 1 ? "" : "s", report_u64(d, "queue_depth"),
           join(json_object_get(d, "weights"), forms, sizeof forms));
    if (json_is_integer(json_object_get(d, "slots")))
        snprintf(slots, sizeof slots, "%" PRIu64, report_u64(d, "slots"));
    printf("%-14s programs: %s, bytes of one: %s, of all: %s; capacities %" PRIu64 " to %" PRIu64
           " in steps of %" PRIu64 "\n",
           "", slots, limit(json_object_get(d, "program_bytes"), one, sizeof one),
           limit(json_object_get(d, "memory_bytes"), all, sizeof all),
           report_u64(d, "capacity_min"), report_u64(d, "capacity_max"),
           report_u64(d, "capacity_multiple"));
}

static void print_machine(const json_t *r)
{
    char buf[512], a[32];
    printf("%-14s %s (build %s, %s)\n", "npumoe", report_text(r, "version"), cli_build_commit(),
           report_text(r, "compiler"));
    printf("%-14s %s\n", "system", report_text(r, "os"));
    printf("%-14s %s\n", "CPU", report_text(r, "cpu.model"));
    printf("%-14s %" PRIu64 " of %" PRIu64 " may be used\n", "CPUs", report_u64(r, "cpu.allowed"),
           report_u64(r, "cpu.online"));
    printf("%-14s %s\n", "CPU features", join(report_at(r, "cpu.flags"), buf, sizeof buf));
    const char *with = report_text(r, "kernels.with");
    printf("%-14s %s%s%s (usable: ", "kernels", report_text(r, "kernels.chosen"),
           *with ? " with " : "", with);
    printf("%s; ", join(report_at(r, "kernels.usable"), buf, sizeof buf));
    printf("built: %s)\n", join(report_at(r, "kernels.built"), buf, sizeof buf));
    printf("%-14s %s, limited by %s\n", "memory",
           human_bytes(report_u64(r, "memory.limit_bytes"), a, sizeof a),
           report_text(r, "memory.limited_by"));
    printf("%-14s %s", "pages", human_bytes(report_u64(r, "memory.page_bytes"), a, sizeof a));
    if (report_u64(r, "memory.huge_page_bytes"))
        printf(", huge pages of %s: %s",
               human_bytes(report_u64(r, "memory.huge_page_bytes"), a, sizeof a),
               report_text(r, "memory.huge_pages"));
    printf("\n");
    const json_t *devices = report_at(r, "devices");
    for (size_t i = 0; i < json_array_size(devices); i++)
        print_device(json_array_get(devices, i));
    printf("%-14s %s\n", "architectures", join(report_at(r, "architectures"), buf, sizeof buf));
}

/* What is wrong with a model's file: "" = nothing, as far as can be seen without its weights. */
static void look_at_model(const char *path, char *problem, size_t cap)
{
    char *json = NULL;
    npumoe_error err = {0};
    problem[0] = '\0';
    if (npumoe_describe_file(path, NULL, 0, &json, &err) != NPUMOE_OK) {
        snprintf(problem, cap, "%s", err.message);
        return;
    }
    json_t *r = json_loads(json, 0, NULL);
    if (!json_is_true(json_object_get(r, "supported"))) {
        const char *why = report_text(r, "problem");
        snprintf(problem, cap, "%s: architecture %s: %s", path, report_text(r, "architecture"),
                 why[0] ? why : "not supported");
    }
    json_decref(r);
    npumoe_text_free(&json);
}

/* Things that make npumoe slower or less useful than it could be here. Returns how many. */
static int print_findings(const json_t *r, const char *demo, const char *problem)
{
    int n = 0;
    if (problem[0]) {
        printf("note: the model cannot be used: %s\n", problem);
        n++;
    }
    if (strcmp(report_text(r, "kernels.chosen"), "scalar") == 0) {
        puts("note: only the scalar kernels run on this CPU; expect a tenth of the usual speed");
        n++;
    }
    if (report_u64(r, "cpu.allowed") < report_u64(r, "cpu.online")) {
        puts("note: affinity or the cgroup leaves npumoe only a part of the CPUs");
        n++;
    }
    if (!demo) {
        puts(
            "note: no model with -m or NPUMOE_MODEL, and the demo model is not beside the program");
        n++;
    }
    return n;
}

int cmd_doctor(int argc, char **argv)
{
    doctor_args a = {0};
    const cli_group groups[] = {
        {"Output", doctor_opts, &a}, {"Model", model_file_opts, &a.model}, {0}};
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, NULL, 0, NULL);
    if (parsed != CLI_GO)
        return cli_exit_code(parsed);
    char *json = NULL, buf[4400];
    npumoe_error err = {0};
    npumoe_status st = npumoe_describe_machine(&json, &err);
    if (st != NPUMOE_OK)
        return ui_fail(st, &err);
    json_t *r = json_loads(json, 0, NULL);
    npumoe_text_free(&json);
    if (!r) {
        ui_error("out of memory");
        return 1;
    }
    const char *model = model_find(&a.model, buf, sizeof buf);
    char problem[700] = "";
    if (model)
        look_at_model(model, problem, sizeof problem);
    if (a.json) {
        json_object_set_new(r, "build_commit", json_string(cli_build_commit()));
        json_object_set_new(r, "default_model", model ? json_string(model) : json_null());
        json_object_set_new(r, "model_problem", problem[0] ? json_string(problem) : json_null());
        json_dumpf(r, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_machine(r);
        printf("%-14s %s\n", "model", model ? model : "none");
        if (print_findings(r, model, problem) == 0)
            puts("nothing amiss");
    }
    json_decref(r);
    return problem[0] ? 1 : 0;
}
