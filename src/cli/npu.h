/* npu.h: --plan and what belongs to it: options, attaching, what happened. */
#ifndef NPUMOE_CLI_NPU_H
#define NPUMOE_CLI_NPU_H

#include "load.h"

typedef struct npu_args {
    const char *plan, *device, *trace_out, *isa, *debug;
    npumoe_precision precision;
    cli_numbers cpus;
    int32_t threads, slots, launch_us, queue, in_flight;
    uint64_t memory, program_memory;
    bool require, lossy, stats;
} npu_args;

#define NPU_ARGS_DEFAULT                                 \
    {                                                    \
        .precision = NPUMOE_PRECISION_FULL, .threads = 1 \
    }

extern const cli_opt npu_opts[];

typedef struct npu {
    npumoe_device *device;
} npu;

/* Attaches the plan of --plan to the model, if there is one. Exit code; after a message. */
int npu_open(const npu_args *args, npumoe_model *model, ui_log *log, npu *out);
/* --stats and --trace-out, before the model goes. */
int npu_report(const npu_args *args, npumoe_model *model, const npu *n);
/* After the model went. */
void npu_close(npu *n, npu_args *args);

#endif
