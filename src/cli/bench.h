/* bench.h: the parts of `npumoe bench`.
 *
 *   bench.c          options, and the loops over all their values
 *   bench_check.c    what is wrong with the options, said before the first test
 *   bench_test.c     one test: repetitions, and what the process used meanwhile
 *   bench_plan.c     what a plan did in a test
 *   bench_out.c      a result as a JSON object; objects as a table, JSON, JSON lines, CSV
 *   bench_compare.c  results of an earlier run beside those of this one
 *
 * A result is a JSON object from the moment it is measured. So all formats show the same, and the
 * results of another run (of llama-bench too) can be treated as our own. */
#ifndef NPUMOE_CLI_BENCH_H
#define NPUMOE_CLI_BENCH_H

#include "cost.h"
#include "npu.h"

#include <jansson.h>
#include <time.h>

typedef enum bench_format { BENCH_MD, BENCH_JSON, BENCH_JSONL, BENCH_CSV } bench_format;

typedef struct bench_args {
    model_args model; /* path stays NULL: -m is a list here */
    common_args common;
    cli_strings models, isas;
    cli_numbers n_prompt, n_gen, n_pg, n_depth, threads, batch, ubatch, type_k, type_v;
    cli_numbers precisions;
    npu_args npu;
    int32_t reps, delay;
    bench_format format;
    bool no_warmup, progress, no_probe;
    const char *cost, *compare;
} bench_args;

/* Each says what is wrong and returns false. results: a file that is shown in place of measuring, or NULL. */
bool bench_can_begin(const bench_args *a);
bool bench_plans_fit(const bench_args *a);
bool bench_spares_inputs(const bench_args *a, const char *results);
bool bench_measures_nothing(const bench_args *a);

typedef struct bench_test {
    int32_t n_threads, batch, ubatch, n_prompt, n_gen, n_depth;
    npumoe_kv_type type_k, type_v;
    npumoe_precision precision; /* that the model was opened with */
    int32_t reps;
    bool warm_up, progress;
    /* results */
    double *seconds;    /* [reps]; owned, free() */
    double cpu_seconds; /* mean of one repetition, all threads */
    time_t when;
    uint64_t kv_bytes, scratch_bytes;
    int64_t peak_rss_bytes, peak_beyond_bytes; /* -1 = this system does not tell */
    npumoe_model_work prompt_work, gen_work;
    npumoe_plan_stats plan; /* of all timed repetitions together */
} bench_test;

/* A model that is open, with a plan or without; several of one file for one test, to be compared. */
typedef struct bench_model {
    npumoe_model *model;
    npumoe_model_info info;
    const char *path;
    char description[96];
    npu npu;
} bench_model;

enum { BENCH_MAX_PLANS = 16 };

/* Runs the same test on n models in turns, one repetition of each after the other, so that what the
 * machine does meanwhile meets all of them; t[i] is of m[i]. An exit code, 0 = the results are filled
 * in. */
int bench_run(const bench_model *m, bench_test *t, size_t n);
/* What --stats, --stats-out and --trace-out say of the last repetition. Exit code. */
int bench_report(const npu_args *args, const bench_model *m, const bench_test *t);
/* After each timed repetition: adds up what the plan did since npumoe_plan_reset_stats(). */
void bench_add_plan(npumoe_model *model, bench_test *t);

/* ---- results ------------------------------------------------------------------------------- */

/* Keys of a run with --plan: what the plan did in a repetition, on average. */
void bench_put_plan(json_t *result, const bench_model *m, const bench_test *t);
/* The object that -o json shows. table: a cost table or NULL. */
json_t *bench_result(const bench_model *m, const char *cpu, const json_t *table,
                     const bench_test *t);

typedef struct bench_printer {
    bench_format format;
    /* columns that are shown because a list has several values, or an unusual one */
    bool batch, ubatch, type_k, type_v, precision;
    bool ceilings, compare, plan;
    size_t n; /* results printed */
} bench_printer;

void bench_print(bench_printer *p, const json_t *result);
/* What stands after all results; nothing when there were none. */
void bench_print_end(const bench_printer *p, const json_t *last);

/* ---- another run --------------------------------------------------------------------------- */

/* The results in a file of -o json or -o jsonl (llama-bench's too) as an array; NULL after a message
 * that says what is wrong with it. option: "--compare", for messages. */
json_t *bench_load(const char *option, const char *path);
/* Adds compare_* keys: the figures of the result among `then` that is nearest to this one. */
void bench_compare(json_t *result, const json_t *then);

#endif
