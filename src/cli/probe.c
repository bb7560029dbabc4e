/* probe.c: npumoe probe: measures this machine and writes the cost table that bench and planning use. */
#include "cost.h"
#include "env.h"
#include "load.h"
#include "out.h"
#include "report.h"
#include "verbs.h"

#include <stdlib.h>
#include <string.h>

typedef struct probe_args {
    cli_numbers threads;
    const char *output, *model, *isa;
    bool quick;
} probe_args;

static const cli_opt probe_opts[] = {
    {"-t", "--threads", "LIST", cli_add_numbers, offsetof(probe_args, threads), 1, 512,
     "numbers of threads to measure with; default: 1, 2, 4 ... to the\nCPUs that affinity and "
     "cgroup allow",
     true},
    {"-o", "--output", "FILE", cli_set_string, offsetof(probe_args, output), 0, 0,
     "write the table to FILE; - is standard output (-)", true},
    {"-m", "--model", "FILE", cli_set_string, offsetof(probe_args, model), 0, 0,
     "read this file when the speed of mapped files is measured;\ndefault: a temporary one of "
     "512 MiB",
     true},
    {NULL, "--isa", "TIER", cli_set_string, offsetof(probe_args, isa), 0, 0,
     "kernels of the products: scalar, avx2, avx512, amx, neon;\ndefault: the best", false},
    {NULL, "--quick", NULL, cli_set_flag, offsetof(probe_args, quick), 0, 0,
     "at most 5 seconds: fewer repetitions, no products", true},
    {0},
};

static const cli_help help = {
    "probe",
    "[options]",
    "Measures this machine in at most 20 seconds: rates of multiplication by type and by\n"
    "where the operands lie, products of the engine, reading of caches, memory and files,\n"
    "what starting and joining threads costs. Writes a cost table as JSON. The machine\n"
    "should do nothing else meanwhile.",
    "npumoe probe -o machine.json\n"
    "npumoe probe --quick -t 1,2 -m olmoe.gguf\n"
    "npumoe bench -m olmoe.gguf --cost machine.json",
};

static bool write_table(const char *name, const char *json)
{
    out_file out;
    if (!out_open(&out, name))
        return false;
    out_write(&out, json, strlen(json));
    out_write(&out, "\n", 1);
    return out_close(&out, true);
}

static int probe(const probe_args *a)
{
    ui_progress bar;
    npumoe_error err = {0};
    char *json = NULL;
    const char *output = a->output ? a->output : "-";
    const model_args model = {.path = a->model ? a->model : ""};
    if (!spares_model(&model, "-o", a->output))
        return 1;
    ui_progress_begin(&bar, "probe", "measurements");
    npumoe_status st =
        cost_measure(&a->threads, a->quick, a->isa, a->model, ui_progress_step, &bar, &json, &err);
    ui_progress_end(&bar);
    if (st != NPUMOE_OK)
        return ui_fail(st, &err);
    bool written = !ui_interrupted() && write_table(output, json);
    npumoe_text_free(&json);
    return written ? 0 : 1;
}

int cmd_probe(int argc, char **argv)
{
    probe_args a = {0};
    const cli_group groups[] = {{"Options", probe_opts, &a}, {0}};
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, NULL, 0, NULL);
    int code = cli_exit_code(parsed);
    if (parsed == CLI_GO) {
        ui_catch_interrupts();
        code = ui_exit_code(probe(&a));
    }
    cli_numbers_free(&a.threads);
    return code;
}
