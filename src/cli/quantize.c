/* quantize.c: npumoe quantize IN OUT TYPE. The work is npumoe_quantize(). */
#include "load.h"
#include "verbs.h"

#include <stdlib.h>

typedef struct quantize_args {
    common_args common;
    bool pure, allow_requantize, dry_run;
    int32_t threads;
} quantize_args;

static const cli_opt quantize_opts[] = {
    {NULL, "--pure", NULL, cli_set_flag, offsetof(quantize_args, pure), 0, 0,
     "every matrix in the base type, no mix", true},
    {NULL, "--allow-requantize", NULL, cli_set_flag, offsetof(quantize_args, allow_requantize), 0,
     0, "accept a file that is already quantised; loses quality", true},
    {NULL, "--dry-run", NULL, cli_set_flag, offsetof(quantize_args, dry_run), 0, 0,
     "say what would be done, write nothing", true},
    {"-t", "--threads", "N", cli_set_i32, offsetof(quantize_args, threads), 1, 512,
     "threads; default: the CPUs that affinity and cgroup allow", false},
    {0},
};

static const cli_help help = {
    "quantize",
    "[options] IN.gguf OUT.gguf TYPE",
    "Writes a copy of a model with its matrices in a smaller type. TYPE is llama.cpp's\n"
    "name of a mix (Q4_K_M, Q8_0, BF16, ...). OUT appears only when it is complete.\n"
    "Ctrl-C stops in good order; a second one leaves at once, and OUT.partial.PID behind.",
    "npumoe quantize olmoe-f16.gguf olmoe-q4_k_m.gguf Q4_K_M\n"
    "npumoe quantize --dry-run olmoe-f16.gguf none Q5_K_M",
};

int cmd_quantize(int argc, char **argv)
{
    quantize_args a = {0};
    const cli_group groups[] = {
        {"Quantising", quantize_opts, &a}, {"Other", log_opts, &a.common}, {0}};
    const char *words[3];
    size_t n = 0;
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, words, 3, &n);
    if (parsed != CLI_GO)
        return cli_exit_code(parsed);
    if (n != 3) {
        ui_error("quantize: give IN.gguf OUT.gguf TYPE (npumoe help quantize)");
        return 1;
    }
    const model_args in = {.path = words[0]}, out = {.path = words[1]};
    a.common.verbose = true;
    ui_log log;
    if (!spares_model(&out, "--log-file", a.common.log_file) || !log_open(&log, &a.common, &in))
        return 1;
    ui_catch_interrupts();
    ui_progress bar;
    ui_progress_begin(&bar, "quantize", "bytes");
    npumoe_quantize_options o = npumoe_quantize_options_default();
    o.type = words[2];
    o.pure = a.pure;
    o.allow_requantize = a.allow_requantize;
    o.n_threads = a.threads;
    o.dry_run = a.dry_run;
    o.progress = ui_progress_step;
    o.progress_user = &bar;
    o.log = ui_log_line;
    o.log_user = &log;
    npumoe_error err = {0};
    npumoe_status st = npumoe_quantize(words[0], words[1], &o, &err);
    ui_progress_end(&bar);
    ui_log_close(&log);
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}
