/* npu.h: --plan and what belongs to it: options, attaching, what happened.
 *
 * A verb has npu_args in its own arguments and npu_opts among its groups, and calls in this order
 *
 *   npu_spares_inputs   with its other checks of outputs
 *   npu_read            before the model is opened: what the options and the plan say of each other
 *   npu_open            with the model, before its sessions are made
 *   npu_report          before the model goes, after its sessions went
 *   npu_close           after the model went
 *
 * all of which do nothing without --plan. */
#ifndef NPUMOE_CLI_NPU_H
#define NPUMOE_CLI_NPU_H

#include "load.h"

typedef struct npu_args {
    cli_strings plans; /* all but bench take one */
    const char *device, *trace_out, *stats_out, *isa, *debug;
    npumoe_precision precision;
    cli_numbers cpus;
    int32_t threads, slots, launch_us, queue, in_flight, from; /* 0 = not given */
    uint64_t memory, program_memory;
    bool require, lossy, no_replan, stats;
} npu_args;

#define NPU_ARGS_DEFAULT                   \
    {                                      \
        .precision = NPUMOE_PRECISION_FULL \
    }

extern const cli_opt npu_opts[];

typedef struct npu {
    const char *path; /* of the plan; NULL = none. Borrowed from the arguments */
    char *plan;       /* its text */
    size_t plan_bytes;
    char device_name[32], weights[16];
    uint32_t chunk;
    npumoe_device *device;
} npu;

/* What --trace-out, --stats-out and --log-file (or NULL) must not replace: the model, its routes, the plan, the text. False after a
 * message. */
bool npu_spares_inputs(const npu_args *args, const model_args *model, const char *log_file,
                       const char *text_file);
/* Refuses options that need --plan where there is none, and more than one plan; reads the plan. The model
 * gets the plan's number of threads for the host unless -t says otherwise. False after a message. */
bool npu_read(const npu_args *args, model_args *model, npu *out);
/* Only the first part of that: whether options lack their plan. */
bool npu_has_plan(const npu_args *args);
/* The same for one of several plans; path NULL = none. */
bool npu_read_one(const char *path, model_args *model, npu *out);
/* Attaches the plan to the model. Exit code; after a message. */
int npu_open(const npu_args *args, npumoe_model *model, ui_log *log, npu *n);
/* When nobody waits: another plan, if prompts have other loads than the plan was made for. Ctrl-C ends it: ask
 * ui_interrupted(). */
void npu_adapt(npumoe_model *model, const npu *n);
/* Whether that ever brought another plan. */
bool npu_has_adapted(npumoe_model *model);
/* The plan that is in use, into a file; path NULL = nowhere. Exit code. */
int npu_save(const npu *n, npumoe_model *model, const char *path);
/* --stats, --stats-out and --trace-out. Exit code. */
int npu_report(const npu_args *args, npumoe_model *model, const npu *n);
void npu_close(npu *n);
void npu_args_free(npu_args *args);

#endif
