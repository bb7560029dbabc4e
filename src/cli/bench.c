/* bench.c: npumoe bench: tokens per second, in llama-bench's table and JSON.
 *
 * Tests are the combinations of all lists: pp N (a prompt of N random tokens in chunks), tg N (N
 * tokens one by one), each after a prompt of D tokens that is not timed (@ dD). Each is run once to
 * warm up and then -r times. A repetition begins with another token than the one before, so that
 * nothing of a prompt is reused except the D tokens that are meant to be.
 *
 * Columns and keys are llama-bench's, ours come after them: CPU seconds of a repetition (user and
 * system, all threads). */
#include "build.h"
#include "load.h"
#include "report.h"
#include "verbs.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef enum output_format { OUT_MD, OUT_JSON, OUT_JSONL, OUT_CSV } output_format;

typedef struct bench_args {
    model_args model;
    common_args common;
    cli_numbers n_prompt, n_gen, n_depth, threads, ubatch;
    int32_t batch, reps, delay;
    npumoe_kv_type type_k, type_v;
    output_format format;
    bool no_warmup, progress;
} bench_args;

static bool set_format(const cli_opt *opt, void *field, const char *text, char *why,
                       size_t why_bytes)
{
    static const char *const names[] = {"md", "json", "jsonl", "csv"};
    (void)opt;
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *(output_format *)field = (output_format)i;
            return true;
        }
    snprintf(why, why_bytes, "md, json, jsonl or csv");
    return false;
}

static const cli_opt bench_model_opts[] = {
    {"-m", "--model", "FILE", cli_set_string, offsetof(model_args, path), 0, 0,
     "the GGUF file; without it the demo model that comes with npumoe", false},
    {NULL, "--isa", "TIER", cli_set_string, offsetof(model_args, isa), 0, 0,
     "kernels: scalar, avx2, avx512, amx, neon; default: the best", false},
    {NULL, "--memory-limit", "SIZE", cli_set_bytes, offsetof(model_args, memory_limit), 0, 0,
     "refuse what needs more than this", false},
    {NULL, "--mlock", NULL, cli_set_flag, offsetof(model_args, mlock), 0, 0,
     "keep the model in memory", false},
    {0},
};

static const cli_opt bench_opts[] = {
    {"-p", "--n-prompt", "LIST", cli_add_numbers, offsetof(bench_args, n_prompt), 0, 1 << 24,
     "lengths of the prompt; 0 = no such test (512)", true},
    {"-n", "--n-gen", "LIST", cli_add_numbers, offsetof(bench_args, n_gen), 0, 1 << 24,
     "tokens to generate; 0 = no such test (128)", true},
    {"-d", "--n-depth", "LIST", cli_add_numbers, offsetof(bench_args, n_depth), 0, 1 << 24,
     "tokens in the context before the test (0)", true},
    {"-t", "--threads", "LIST", cli_add_numbers, offsetof(bench_args, threads), 1, 512,
     "threads; default: the CPUs that affinity and cgroup allow", true},
    {"-b", "--batch-size", "N", cli_set_i32, offsetof(bench_args, batch), 1, 1 << 20,
     "upper limit of -ub (2048)", true},
    {"-ub", "--ubatch-size", "LIST", cli_add_numbers, offsetof(bench_args, ubatch), 1, 1 << 20,
     "tokens of the prompt that are computed together (512)", true},
    {"-ctk", "--cache-type-k", "TYPE", cli_set_kv_type, offsetof(bench_args, type_k), 0, 0,
     "f16, q8_0, f32 (f16)", true},
    {"-ctv", "--cache-type-v", "TYPE", cli_set_kv_type, offsetof(bench_args, type_v), 0, 0,
     "f16, q8_0, f32 (f16)", true},
    {"-r", "--repetitions", "N", cli_set_i32, offsetof(bench_args, reps), 1, 10000,
     "repetitions of each test (5)", true},
    {NULL, "--delay", "N", cli_set_i32, offsetof(bench_args, delay), 0, 3600,
     "seconds to wait before each test (0)", true},
    {"-o", "--output", "FORMAT", set_format, offsetof(bench_args, format), 0, 0,
     "md, json, jsonl or csv (md)", true},
    {NULL, "--no-warmup", NULL, cli_set_flag, offsetof(bench_args, no_warmup), 0, 0,
     "no run before the timed ones", true},
    {NULL, "--progress", NULL, cli_set_flag, offsetof(bench_args, progress), 0, 0,
     "say on standard error which test runs", true},
    {0},
};

static const cli_help help = {
    "bench",
    "[-m FILE] [options]",
    "Measures prompt processing (pp) and generation (tg) in tokens per second. LIST is\n"
    "1,2,4 or a range: 512-2048+512, 8-64*2. All combinations are run.",
    "npumoe bench -m olmoe.gguf\n"
    "npumoe bench -m olmoe.gguf -p 512,2048 -n 0 -d 0,4096 -t 1-16*2\n"
    "npumoe bench -m olmoe.gguf -o json >bench.json",
};

/* ---- one test ----------------------------------------------------------------------------- */

typedef struct test {
    int32_t n_threads, ubatch, n_prompt, n_gen, n_depth;
    double *seconds; /* [reps] */
    int32_t reps;
    double cpu_seconds; /* mean of one repetition */
    time_t when;
} test;

typedef struct bench_model {
    npumoe_model *model;
    npumoe_model_info info;
    const char *path;
    char description[96];
} bench_model;

static double test_tokens(const test *t)
{
    return (double)(t->n_prompt + t->n_gen);
}

/* Tokens that look random and are the same in each run of the program. */
static void fill_tokens(npumoe_token *tokens, size_t n, int32_t n_vocab, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        tokens[i] = (npumoe_token)((x >> 33) % (uint64_t)n_vocab);
    }
}

/* The timed part: the prompt at once, then the generated tokens one by one. */
static npumoe_status timed_part(npumoe_session *s, const test *t, const npumoe_token *tokens,
                                npumoe_error *err)
{
    size_t at = (size_t)t->n_depth;
    npumoe_status st = NPUMOE_OK;
    if (t->n_prompt) {
        at += (size_t)t->n_prompt;
        st = npumoe_session_eval(s, tokens, at, NULL, err);
    }
    for (int32_t i = 0; i < t->n_gen && st == NPUMOE_OK; i++)
        st = npumoe_session_eval(s, tokens, ++at, NULL, err);
    return st;
}

/* One repetition; *seconds and *cpu of the timed part. What follows the depth differs from one
 * repetition to the next in its first token, so the session finds exactly the depth to reuse. */
static npumoe_status repetition(npumoe_session *s, const test *t, npumoe_token *tokens,
                                int32_t n_vocab, int32_t index, double *seconds, double *cpu,
                                npumoe_error *err)
{
    size_t depth = (size_t)t->n_depth, n = (size_t)(t->n_prompt + t->n_gen);
    fill_tokens(tokens, depth, n_vocab, 1);
    fill_tokens(tokens + depth, n, n_vocab, 2);
    tokens[depth] = (npumoe_token)((index + 1) % n_vocab);
    if (depth) {
        npumoe_status st = npumoe_session_eval(s, tokens, depth, NULL, err);
        if (st != NPUMOE_OK)
            return st;
    }
    double cpu_start = ui_cpu_seconds(), start = ui_now();
    npumoe_status st = timed_part(s, t, tokens, err);
    *seconds = ui_now() - start;
    *cpu = ui_cpu_seconds() - cpu_start;
    return st;
}

static bool go_on(void *user, uint64_t done, uint64_t total)
{
    (void)user, (void)done, (void)total;
    return !ui_interrupted();
}

static void nap(int32_t seconds)
{
    struct timespec t = {.tv_sec = seconds};
    while (seconds && nanosleep(&t, &t) != 0 && !ui_interrupted())
        continue;
}

/* Fills in the results. Returns an exit code. */
static int run_test(const bench_args *a, const bench_model *m, test *t)
{
    size_t n = (size_t)t->n_depth + (size_t)t->n_prompt + (size_t)t->n_gen;
    npumoe_token *tokens = malloc(n * sizeof *tokens);
    t->seconds = calloc((size_t)t->reps, sizeof *t->seconds);
    if (!tokens || !t->seconds) {
        ui_error("out of memory");
        free(tokens);
        return 1;
    }
    session_args sa = {
        .batch = a->batch, .ubatch = t->ubatch, .type_k = a->type_k, .type_v = a->type_v};
    npumoe_session_options opt = session_options(&sa, (uint32_t)n);
    opt.progress = go_on;
    npumoe_session *session = NULL;
    npumoe_error err = {0};
    npumoe_status st = npumoe_session_new(m->model, &opt, &session, &err);
    t->when = time(NULL);
    double cpu_sum = 0.0;
    for (int32_t i = a->no_warmup ? 0 : -1; i < t->reps && st == NPUMOE_OK; i++) {
        double seconds, cpu;
        if (a->progress)
            ui_note("%s %d of %d", i < 0 ? "warm-up, then" : "repetition", i < 0 ? t->reps : i + 1,
                    t->reps);
        st = repetition(session, t, tokens, m->info.n_vocab, i, &seconds, &cpu, &err);
        if (i >= 0 && st == NPUMOE_OK) {
            t->seconds[i] = seconds;
            cpu_sum += cpu;
        }
    }
    t->cpu_seconds = cpu_sum / (double)t->reps;
    npumoe_session_free(&session);
    free(tokens);
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}

/* ---- statistics --------------------------------------------------------------------------- */

typedef struct summary {
    double avg_ns, stddev_ns, avg_ts, stddev_ts;
} summary;

static void mean_stddev(const double *v, int32_t n, double *mean, double *stddev)
{
    double sum = 0.0, sq = 0.0;
    for (int32_t i = 0; i < n; i++)
        sum += v[i];
    *mean = sum / (double)n;
    for (int32_t i = 0; i < n; i++)
        sq += (v[i] - *mean) * (v[i] - *mean);
    *stddev = n > 1 ? sqrt(sq / (double)(n - 1)) : 0.0;
}

static summary summarise(const test *t)
{
    summary s = {0};
    double *v = calloc((size_t)t->reps, sizeof *v);
    if (!v)
        return s;
    for (int32_t i = 0; i < t->reps; i++)
        v[i] = t->seconds[i] * 1e9;
    mean_stddev(v, t->reps, &s.avg_ns, &s.stddev_ns);
    for (int32_t i = 0; i < t->reps; i++)
        v[i] = test_tokens(t) / t->seconds[i];
    mean_stddev(v, t->reps, &s.avg_ts, &s.stddev_ts);
    free(v);
    return s;
}

static void test_name(const test *t, char *buf, size_t bytes)
{
    int n = t->n_prompt ? snprintf(buf, bytes, "pp%d", (int)t->n_prompt)
                        : snprintf(buf, bytes, "tg%d", (int)t->n_gen);
    if (t->n_depth && n > 0)
        snprintf(buf + n, bytes - (size_t)n, " @ d%d", (int)t->n_depth);
}

/* ---- output ------------------------------------------------------------------------------- */

static bool list_varies(const cli_numbers *list, int64_t usual)
{
    return list->n > 1 || (list->n == 1 && list->v[0] != usual);
}

/* Columns that never change are left out of the table, as llama-bench does. */
static void markdown_head(const bench_args *a)
{
    bool ub = list_varies(&a->ubatch, 512), k = a->type_k != NPUMOE_KV_F16,
         v = a->type_v != NPUMOE_KV_F16;
    printf("| %-30s | %10s | %10s | %-14s | %7s |", "model", "size", "params", "backend",
           "threads");
    if (ub)
        printf(" %8s |", "n_ubatch");
    if (k)
        printf(" %6s |", "type_k");
    if (v)
        printf(" %6s |", "type_v");
    printf(" %15s | %20s | %10s |\n", "test", "t/s", "CPU s");
    printf(
        "| ------------------------------ | ---------: | ---------: | -------------- | ------: |");
    if (ub)
        printf(" -------: |");
    if (k)
        printf(" -----: |");
    if (v)
        printf(" -----: |");
    printf(" --------------: | -------------------: | ---------: |\n");
}

static void markdown_row(const bench_args *a, const bench_model *m, const test *t)
{
    char size[32], params[32], backend[32], name[48], speed[48];
    summary s = summarise(t);
    human_bytes(m->info.weights_bytes, size, sizeof size);
    human_count(m->info.n_params, params, sizeof params);
    snprintf(backend, sizeof backend, "CPU (%s)", m->info.isa);
    test_name(t, name, sizeof name);
    snprintf(speed, sizeof speed, "%.2f \u00b1 %.2f", s.avg_ts, s.stddev_ts);
    printf("| %-30s | %10s | %10s | %-14s | %7d |", m->description, size, params, backend,
           (int)t->n_threads);
    if (list_varies(&a->ubatch, 512))
        printf(" %8d |", (int)t->ubatch);
    if (a->type_k != NPUMOE_KV_F16)
        printf(" %6s |", kv_type_name(a->type_k));
    if (a->type_v != NPUMOE_KV_F16)
        printf(" %6s |", kv_type_name(a->type_v));
    /* the sign is two bytes but one column */
    printf(" %15s | %21s | %10.2f |\n", name, speed, t->cpu_seconds);
}

static json_t *number_array(const test *t, bool rate)
{
    json_t *array = json_array();
    for (int32_t i = 0; i < t->reps; i++) {
        double s = t->seconds[i];
        json_array_append_new(array, rate ? json_real(test_tokens(t) / s)
                                          : json_integer((json_int_t)(s * 1e9)));
    }
    return array;
}

static json_t *test_json(const bench_args *a, const bench_model *m, const char *cpu, const test *t)
{
    char when[32] = "", backend[32];
    struct tm tm;
    if (gmtime_r(&t->when, &tm))
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    snprintf(backend, sizeof backend, "CPU (%s)", m->info.isa);
    summary s = summarise(t);
    int32_t batch = a->batch, ub = t->ubatch < batch ? t->ubatch : batch;
    return json_pack(
        "{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:i, s:i, s:i, s:s, s:s, s:i, s:i, s:i, s:i,"
        " s:i, s:s, s:I, s:I, s:f, s:f, s:o, s:o, s:f, s:s, s:I}",
        "build_commit", cli_build_commit(), "build_number", cli_build_number(), "cpu_info", cpu,
        "gpu_info", "", "backends", backend, "model_filename", m->path, "model_type",
        m->description, "model_size", (json_int_t)m->info.weights_bytes, "model_n_params",
        (json_int_t)m->info.n_params, "n_batch", (int)batch, "n_ubatch", (int)ub, "n_threads",
        (int)t->n_threads, "type_k", kv_type_name(a->type_k), "type_v", kv_type_name(a->type_v),
        "n_gpu_layers", 0, "n_cpu_moe", 0, "n_prompt", (int)t->n_prompt, "n_gen", (int)t->n_gen,
        "n_depth", (int)t->n_depth, "test_time", when, "avg_ns", (json_int_t)s.avg_ns, "stddev_ns",
        (json_int_t)s.stddev_ns, "avg_ts", s.avg_ts, "stddev_ts", s.stddev_ts, "samples_ns",
        number_array(t, false), "samples_ts", number_array(t, true), "cpu_seconds", t->cpu_seconds,
        "isa", m->info.isa, "model_n_params_active", (json_int_t)m->info.n_params_active);
}

/* A value as CSV: quotes where there is a comma, quote or blank. Arrays are joined by blanks. */
static void csv_value(const json_t *v)
{
    if (json_is_string(v)) {
        putchar('"');
        for (const char *p = json_string_value(v); *p; p++)
            printf(*p == '"' ? "\"\"" : "%c", *p);
        putchar('"');
    } else if (json_is_array(v)) {
        putchar('"');
        for (size_t i = 0; i < json_array_size(v); i++) {
            putchar(i ? ' ' : '[');
            csv_value(json_array_get(v, i));
        }
        printf("]\"");
    } else if (json_is_integer(v)) {
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
    } else {
        printf("%.6f", json_real_value(v));
    }
}

static void csv_row(json_t *object, bool head)
{
    const char *key;
    json_t *value;
    bool first = true;
    if (head) {
        json_object_foreach(object, key, value)
        {
            printf("%s%s", first ? "" : ",", key);
            first = false;
        }
        putchar('\n');
    }
    first = true;
    json_object_foreach(object, key, value)
    {
        if (!first)
            putchar(',');
        csv_value(value);
        first = false;
    }
    putchar('\n');
}

static void print_result(const bench_args *a, const bench_model *m, const char *cpu, const test *t,
                         size_t index)
{
    if (a->format == OUT_MD) {
        if (index == 0)
            markdown_head(a);
        markdown_row(a, m, t);
    } else {
        json_t *object = test_json(a, m, cpu, t);
        if (a->format == OUT_CSV)
            csv_row(object, index == 0);
        else {
            if (a->format == OUT_JSON)
                fputs(index ? ",\n" : "[\n", stdout);
            json_dumpf(object, stdout, a->format == OUT_JSON ? JSON_INDENT(2) : JSON_COMPACT);
            if (a->format == OUT_JSONL)
                putchar('\n');
        }
        json_decref(object);
    }
    fflush(stdout);
}

/* ---- all tests ---------------------------------------------------------------------------- */

typedef struct bench {
    const bench_args *a;
    ui_log *log;
    bench_model m;
    char cpu[128];
    size_t n_done;
} bench;

static int one(bench *b, int32_t threads, int64_t ubatch, int64_t depth, int64_t n_prompt,
               int64_t n_gen)
{
    if (n_prompt + n_gen == 0)
        return 0;
    test t = {.n_threads = threads,
              .ubatch = (int32_t)ubatch,
              .n_depth = (int32_t)depth,
              .n_prompt = (int32_t)n_prompt,
              .n_gen = (int32_t)n_gen,
              .reps = b->a->reps};
    nap(b->a->delay);
    int code = run_test(b->a, &b->m, &t);
    if (code == 0)
        print_result(b->a, &b->m, b->cpu, &t, b->n_done++);
    free(t.seconds);
    return code ? code : ferror(stdout) ? 1 : 0;
}

/* The order of llama-bench: all prompt tests of a depth, then all generation tests. */
static int with_model(bench *b, int32_t threads)
{
    const bench_args *a = b->a;
    int code = 0;
    for (size_t u = 0; u < a->ubatch.n; u++)
        for (size_t d = 0; d < a->n_depth.n; d++) {
            for (size_t p = 0; p < a->n_prompt.n && code == 0; p++)
                code = one(b, threads, a->ubatch.v[u], a->n_depth.v[d], a->n_prompt.v[p], 0);
            for (size_t g = 0; g < a->n_gen.n && code == 0; g++)
                code = one(b, threads, a->ubatch.v[u], a->n_depth.v[d], 0, a->n_gen.v[g]);
        }
    return code;
}

/* Names for the table and the JSON, from the descriptions that info and doctor show. */
static void describe(bench *b)
{
    char *json = NULL;
    snprintf(b->m.description, sizeof b->m.description, "%s", b->m.info.architecture);
    if (npumoe_describe_file(b->m.path, NULL, 0, &json, NULL) == NPUMOE_OK) {
        json_t *o = json_loads(json, 0, NULL);
        snprintf(b->m.description, sizeof b->m.description, "%s", report_text(o, "description"));
        json_decref(o);
    }
    npumoe_text_free(&json);
    if (npumoe_describe_machine(&json, NULL) == NPUMOE_OK) {
        json_t *o = json_loads(json, 0, NULL);
        snprintf(b->cpu, sizeof b->cpu, "%s", report_text(o, "cpu.model"));
        json_decref(o);
    }
    npumoe_text_free(&json);
}

static int bench_all(const bench_args *a, ui_log *log)
{
    char buf[4400];
    bench b = {.a = a, .log = log, .m.info.struct_bytes = sizeof b.m.info};
    b.m.path = model_path(&a->model, buf, sizeof buf);
    if (!b.m.path)
        return 1;
    int code = 0;
    for (size_t i = 0; i < a->threads.n && code == 0; i++) {
        model_args ma = a->model;
        ma.path = b.m.path;
        ma.threads = (int32_t)a->threads.v[i]; /* 0 = the default */
        code = model_open(&ma, false, log, &b.m.model, NULL);
        if (code == 0) {
            b.m.info.struct_bytes = sizeof b.m.info;
            npumoe_model_get_info(b.m.model, &b.m.info);
            if (i == 0)
                describe(&b);
            code = with_model(&b, b.m.info.n_threads);
        }
        npumoe_model_free(&b.m.model);
    }
    if (a->format == OUT_JSON && b.n_done)
        puts("\n]");
    if (a->format == OUT_MD && b.n_done)
        printf("\nbuild: %s (%d)\n", cli_build_commit(), cli_build_number());
    return code;
}

static void defaults(bench_args *a)
{
    const struct {
        cli_numbers *list;
        int64_t value;
    } lists[] = {
        {&a->n_prompt, 512}, {&a->n_gen, 128},  {&a->n_depth, 0},
        {&a->threads, 0},    {&a->ubatch, 512},
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (lists[i].list->n == 0 && (lists[i].list->v = malloc(sizeof(int64_t)))) {
            lists[i].list->v[0] = lists[i].value;
            lists[i].list->n = 1;
        }
}

int cmd_bench(int argc, char **argv)
{
    bench_args a = {.batch = 2048, .reps = 5};
    const cli_group groups[] = {
        {"Tests", bench_opts, &a},
        {"Model", bench_model_opts, &a.model},
        {"Other", log_opts, &a.common},
        {0},
    };
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, NULL, 0, NULL);
    int code = cli_exit_code(parsed);
    ui_log log = {0};
    if (parsed == CLI_GO && log_open(&log, &a.common, &a.model)) {
        ui_catch_interrupts();
        defaults(&a);
        code = ui_exit_code(bench_all(&a, &log));
        ui_log_close(&log);
    } else if (parsed == CLI_GO) {
        code = 1;
    }
    cli_numbers_free(&a.n_prompt);
    cli_numbers_free(&a.n_gen);
    cli_numbers_free(&a.n_depth);
    cli_numbers_free(&a.threads);
    cli_numbers_free(&a.ubatch);
    return code;
}
