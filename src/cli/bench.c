/* bench.c: npumoe bench: tokens per second, in llama-bench's table and JSON, beside what the machine
 * allows and beside an earlier run.
 *
 * Tests are the combinations of all lists: pp N (a prompt of N random tokens in chunks), tg N (N
 * tokens one by one), ppN+tgM (both), each after a prompt of D tokens that is not timed (@ dD). The
 * machine's limits come from a cost table, or from a quick measurement before the first test. */
#include "bench.h"
#include "env.h"
#include "out.h"
#include "report.h"
#include "verbs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool set_format(const cli_opt *opt, void *field, const char *text, char *why,
                       size_t why_bytes)
{
    static const char *const names[] = {"md", "json", "jsonl", "csv"};
    (void)opt;
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *(bench_format *)field = (bench_format)i;
            return true;
        }
    snprintf(why, why_bytes, "md, json, jsonl or csv");
    return false;
}

static bool append(cli_numbers *list, int64_t number)
{
    int64_t *v = realloc(list->v, (list->n + 1) * sizeof *v);
    if (!v)
        return false;
    v[list->n++] = number;
    list->v = v;
    return true;
}

/* "512,128": one pair; the option may be given again. */
static bool add_pair(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes)
{
    char *end;
    long p = strtol(text, &end, 10);
    long g = *end == ',' ? strtol(end + 1, &end, 10) : 0;
    if (*end == '\0' && p >= 1 && g >= 1 && (double)p <= opt->max && (double)g <= opt->max &&
        append(field, p) && append(field, g))
        return true;
    snprintf(why, why_bytes, "a prompt and tokens to generate, like 512,128");
    return false;
}

/* Calls add(list, word) for the words between commas. */
static bool each_word(const char *text, bool (*add)(void *list, const char *word), void *list)
{
    while (true) {
        char word[64];
        size_t n = strcspn(text, ",");
        if (n == 0 || n >= sizeof word)
            return false;
        memcpy(word, text, n);
        word[n] = '\0';
        if (!add(list, word))
            return false;
        if (text[n] == '\0')
            return true;
        text += n + 1;
    }
}

static bool add_kv_type(void *list, const char *word)
{
    npumoe_kv_type type;
    char why[64];
    return cli_set_kv_type(NULL, &type, word, why, sizeof why) && append(list, type);
}

static bool add_kv_types(const cli_opt *opt, void *field, const char *text, char *why,
                         size_t why_bytes)
{
    (void)opt;
    if (each_word(text, add_kv_type, field))
        return true;
    snprintf(why, why_bytes, "a list of f16, q8_0, f32");
    return false;
}

static bool add_precision(void *list, const char *word)
{
    npumoe_precision precision;
    char why[64];
    return cli_set_precision(NULL, &precision, word, why, sizeof why) && append(list, precision);
}

static bool add_precisions(const cli_opt *opt, void *field, const char *text, char *why,
                           size_t why_bytes)
{
    (void)opt;
    if (each_word(text, add_precision, field))
        return true;
    snprintf(why, why_bytes, "a list of auto, fast, full, fp32");
    return false;
}

#define AT(field) offsetof(bench_args, field)

static const cli_opt bench_model_opts[] = {
    {"-m", "--model", "FILE", cli_add_string, AT(models), 0, 0,
     "the GGUF file; several with commas, or given again; without\nit the demo model that comes "
     "with npumoe",
     true},
    {NULL, "--isa", "TIER", cli_add_string, AT(isas), 0, 0,
     "kernels: scalar, avx2, avx512, amx, neon; several with commas;\ndefault: the best", true},
    {NULL, "--precision", "KIND", add_precisions, AT(precisions), 0, 0,
     "products of many rows: auto (by weight type), fast, full, fp32;\nseveral with commas (auto)",
     true},
    {0},
};

static const cli_opt bench_memory_opts[] = {
    {NULL, "--memory-limit", "SIZE", cli_set_bytes, offsetof(model_args, memory_limit), 0, 0,
     "refuse what needs more than this", false},
    {NULL, "--mlock", NULL, cli_set_flag, offsetof(model_args, mlock), 0, 0,
     "keep the model in memory", false},
    {0},
};

static const cli_opt bench_routes_opts[] = {
    {NULL, "--routes", "TRACE", cli_set_string, offsetof(model_args, routes), 0, 0,
     "experts and weights of each token from TRACE (calibrate --trace, or\nCSV) in place of the "
     "routers' choice; output is then no answer",
     true},
    {0},
};

static const cli_opt bench_opts[] = {
    {"-p", "--n-prompt", "LIST", cli_add_numbers, AT(n_prompt), 0, 1 << 24,
     "lengths of the prompt; 0 = no such test (512)", true},
    {"-n", "--n-gen", "LIST", cli_add_numbers, AT(n_gen), 0, 1 << 24,
     "tokens to generate; 0 = no such test (128)", true},
    {"-pg", NULL, "P,N", add_pair, AT(n_pg), 1, 1 << 24,
     "a prompt of P tokens and N more, as one test; may be given\nagain", true},
    {"-d", "--n-depth", "LIST", cli_add_numbers, AT(n_depth), 0, 1 << 24,
     "tokens in the context before the test (0)", true},
    {"-t", "--threads", "LIST", cli_add_numbers, AT(threads), 1, 512,
     "threads; default: the CPUs that affinity and cgroup allow", true},
    {"-b", "--batch-size", "LIST", cli_add_numbers, AT(batch), 1, 1 << 20,
     "upper limit of -ub (2048)", true},
    {"-ub", "--ubatch-size", "LIST", cli_add_numbers, AT(ubatch), 1, 1 << 20,
     "tokens of the prompt that are computed together (2048)", true},
    {"-ctk", "--cache-type-k", "TYPES", add_kv_types, AT(type_k), 0, 0, "f16, q8_0, f32 (f16)",
     true},
    {"-ctv", "--cache-type-v", "TYPES", add_kv_types, AT(type_v), 0, 0, "f16, q8_0, f32 (f16)",
     true},
    {"-r", "--repetitions", "N", cli_set_i32, AT(reps), 1, 10000, "repetitions of each test (5)",
     true},
    {NULL, "--delay", "N", cli_set_i32, AT(delay), 0, 3600, "seconds to wait before each test (0)",
     true},
    {"-o", "--output", "FORMAT", set_format, AT(format), 0, 0, "md, json, jsonl or csv (md)", true},
    {NULL, "--no-warmup", NULL, cli_set_flag, AT(no_warmup), 0, 0, "no run before the timed ones",
     true},
    {NULL, "--progress", NULL, cli_set_flag, AT(progress), 0, 0,
     "say on standard error which test runs", true},
    {NULL, "--cost", "FILE", cli_set_string, AT(cost), 0, 0,
     "the machine's limits, from npumoe probe -o FILE; default: a\nquick probe first", true},
    {NULL, "--no-probe", NULL, cli_set_flag, AT(no_probe), 0, 0, "no probe, so no limits", true},
    {NULL, "--compare", "FILE", cli_set_string, AT(compare), 0, 0,
     "show the results of an earlier run (-o json) beside these", true},
    {0},
};

static const cli_help help = {
    "bench",
    "[-m FILE] [options]\n       npumoe bench --compare OLD.json NEW.json",
    "Measures prompt processing (pp) and generation (tg) in tokens per second, and compares\n"
    "them with what the machine allows. LIST is 1,2,4 or a range: 512-2048+512, 8-64*2. All\n"
    "combinations are run. The second form measures nothing. --plan takes several plans, with\n"
    "commas or given again, and none for the host alone: each test is run by all of them in\n"
    "turns, with a row for each. A plan stays as it is: bench never makes another. --stats,\n"
    "--stats-out and --trace-out are of the last repetition; the files of one test by one plan.",
    "npumoe bench -m olmoe.gguf\n"
    "npumoe bench -m olmoe.gguf -p 512,2048 -n 0 -d 0,4096 -t 1-16*2\n"
    "npumoe bench -m olmoe.gguf --plan none,olmoe.plan.json -p 1024 -n 0\n"
    "npumoe bench -m olmoe.gguf -o json >bench.json\n"
    "npumoe bench -m olmoe.gguf --cost machine.json --compare bench.json",
};

/* ---- all tests ----------------------------------------------------------------------------- */

typedef struct bench {
    const bench_args *a;
    ui_log *log;
    bench_model m[BENCH_MAX_PLANS]; /* one for each plan; without plans one */
    size_t n_models;
    npumoe_precision precision; /* of them */
    char cpu[128];
    json_t *table, *then; /* limits and an earlier run, or NULL */
    bench_printer printer;
    json_t *last; /* result */
    bool ready;   /* limits and columns are known */
} bench;

static void nap(int32_t seconds)
{
    struct timespec t = {.tv_sec = seconds};
    while (seconds && nanosleep(&t, &t) != 0 && !ui_interrupted())
        continue;
}

/* Takes the result over. */
static void publish(bench *b, json_t *result)
{
    if (b->then)
        bench_compare(result, b->then);
    bench_print(&b->printer, result);
    json_decref(b->last);
    b->last = result;
}

static json_t *result_of(const bench *b, const bench_model *m, const bench_test *t)
{
    json_t *result = bench_result(m, b->cpu, b->table, t);
    if (b->a->npu.plans.n)
        bench_put_plan(result, m, t);
    return result;
}

static int one(bench *b, bench_test t, int64_t n_prompt, int64_t n_gen)
{
    bench_test tests[BENCH_MAX_PLANS];
    if (n_prompt + n_gen == 0)
        return 0;
    t.n_prompt = (int32_t)n_prompt;
    t.n_gen = (int32_t)n_gen;
    for (size_t i = 0; i < b->n_models; i++) {
        const uint32_t chunk = b->m[i].npu.chunk;
        tests[i] = t;
        tests[i].n_threads = b->m[i].info.n_threads;
        if (chunk && (uint32_t)t.ubatch > chunk)
            tests[i].ubatch = (int32_t)chunk;
    }
    nap(b->a->delay);
    int code = bench_run(b->m, tests, b->n_models);
    for (size_t i = 0; i < b->n_models; i++) {
        if (code == 0)
            publish(b, result_of(b, &b->m[i], &tests[i]));
        free(tests[i].seconds);
    }
    for (size_t i = 0; i < b->n_models && code == 0; i++)
        code = bench_report(&b->a->npu, &b->m[i], &tests[i]);
    return code ? code : ferror(stdout) ? 1 : 0;
}

/* The order of llama-bench: all prompt tests of a depth, then generation, then both. */
static int at_depth(bench *b, bench_test t)
{
    const bench_args *a = b->a;
    int code = 0;
    for (size_t i = 0; i < a->n_prompt.n && code == 0; i++)
        code = one(b, t, a->n_prompt.v[i], 0);
    for (size_t i = 0; i < a->n_gen.n && code == 0; i++)
        code = one(b, t, 0, a->n_gen.v[i]);
    for (size_t i = 0; i + 1 < a->n_pg.n && code == 0; i += 2)
        code = one(b, t, a->n_pg.v[i], a->n_pg.v[i + 1]);
    return code;
}

/* Digits of a number in mixed radices: `number` counts through all combinations of the lists. */
static int64_t pick(const cli_numbers *list, size_t *number)
{
    int64_t v = list->v[*number % list->n];
    *number /= list->n;
    return v;
}

static int with_model(bench *b)
{
    const bench_args *a = b->a;
    size_t all = a->n_depth.n * a->type_v.n * a->type_k.n * a->ubatch.n * a->batch.n;
    int code = 0;
    for (size_t i = 0; i < all && code == 0; i++) {
        size_t number = i;
        bench_test t = {.precision = b->precision,
                        .reps = a->reps,
                        .warm_up = !a->no_warmup,
                        .progress = a->progress};
        t.n_depth = (int32_t)pick(&a->n_depth, &number);
        t.type_v = (npumoe_kv_type)pick(&a->type_v, &number);
        t.type_k = (npumoe_kv_type)pick(&a->type_k, &number);
        t.ubatch = (int32_t)pick(&a->ubatch, &number);
        t.batch = (int32_t)pick(&a->batch, &number);
        code = at_depth(b, t);
    }
    return code;
}

/* ---- the machine's limits ------------------------------------------------------------------ */

/* When the first model is open, so that a wrong name is soon told. */
static int probe_limits(bench *b, const char *path)
{
    ui_progress bar;
    npumoe_error err = {0};
    char *json = NULL;
    ui_progress_begin(&bar, "probe", "measurements");
    npumoe_status st =
        cost_measure(&b->a->threads, true, NULL, path, ui_progress_step, &bar, &json, &err);
    ui_progress_end(&bar);
    if (st != NPUMOE_OK)
        return ui_fail(st, &err);
    b->table = json_loads(json, 0, NULL);
    npumoe_text_free(&json);
    return 0;
}

/* A table may come from elsewhere, or have other numbers of threads; better no limit than a wrong one. */
static void warn_of_table(const bench *b)
{
    const char *cpu = report_text(b->table, "machine.cpu.model");
    if (b->table && strcmp(cpu, b->cpu) != 0)
        ui_note("%s was made on another machine: %s", b->a->cost, cpu);
    for (size_t i = 0; b->table && i < b->a->threads.n; i++) {
        int threads = (int)b->a->threads.v[i];
        cost_limits l = cost_find(b->table, report_text(b->table, "isa"), threads, UINT64_MAX);
        if (!(l.gops_per_s > 0) || !(l.gb_per_s > 0))
            ui_note("no limits for %d threads in %s; npumoe probe -t %d measures them", threads,
                    b->a->cost ? b->a->cost : "the probe", threads);
    }
}

static bool unusual(const cli_numbers *list, int64_t usual)
{
    return list->n > 1 || list->v[0] != usual;
}

static void set_columns(bench *b, bool from_file)
{
    const bench_args *a = b->a;
    b->printer.format = a->format;
    b->printer.compare = b->then != NULL;
    if (from_file)
        return;
    b->printer.batch = unusual(&a->batch, 2048);
    b->printer.plan = a->npu.plans.n > 0;
    b->printer.ubatch = b->printer.plan || unusual(&a->ubatch, 2048);
    b->printer.type_k = unusual(&a->type_k, NPUMOE_KV_F16);
    b->printer.type_v = unusual(&a->type_v, NPUMOE_KV_F16);
    b->printer.precision = unusual(&a->precisions, NPUMOE_PRECISION_AUTO);
    b->printer.ceilings = b->table != NULL;
}

static int get_ready(bench *b, const char *path)
{
    int code = b->table || b->a->no_probe ? 0 : probe_limits(b, path);
    if (code == 0) {
        warn_of_table(b);
        set_columns(b, false);
    }
    b->ready = true;
    return code;
}

/* ---- models -------------------------------------------------------------------------------- */

/* What kind of model it is, for the table: as info says it. */
static void describe_model(bench_model *m)
{
    char *json = NULL;
    snprintf(m->description, sizeof m->description, "%s", m->info.architecture);
    if (npumoe_describe_file(m->path, NULL, 0, &json, NULL) == NPUMOE_OK) {
        json_t *o = json_loads(json, 0, NULL);
        snprintf(m->description, sizeof m->description, "%s", report_text(o, "description"));
        json_decref(o);
    }
    npumoe_text_free(&json);
}

/* With plan number i, if there are any: "none" is one without. */
static int open_model(bench *b, const model_args *ma, size_t i)
{
    const bench_args *a = b->a;
    bench_model *m = &b->m[i];
    model_args own = *ma;
    const char *plan = i < a->npu.plans.n ? a->npu.plans.v[i] : NULL;
    if (plan && strcmp(plan, "none") == 0)
        plan = NULL;
    *m = (bench_model){.path = ma->path};
    b->n_models = i + 1;
    if (!npu_read_one(plan, &own, &m->npu))
        return 1;
    int code = model_open(&own, false, b->log, &m->model, NULL);
    if (code == 0)
        code = npu_open(&a->npu, m->model, b->log, &m->npu);
    if (code)
        return code;
    m->info = (npumoe_model_info){.struct_bytes = sizeof m->info};
    npumoe_model_get_info(m->model, &m->info);
    describe_model(m);
    return 0;
}

static void close_models(bench *b)
{
    for (size_t i = 0; i < b->n_models; i++) {
        npumoe_model_free(&b->m[i].model);
        npu_close(&b->m[i].npu);
    }
    b->n_models = 0;
}

static int with_path(bench *b, const char *path)
{
    const bench_args *a = b->a;
    const size_t n_plans = a->npu.plans.n ? a->npu.plans.n : 1;
    int code = 0;
    size_t all = a->threads.n * a->precisions.n * a->isas.n;
    for (size_t i = 0; i < all && code == 0; i++) {
        size_t number = i;
        model_args ma = a->model;
        ma.path = path;
        ma.threads = (int32_t)pick(&a->threads, &number);
        ma.precision = b->precision = (npumoe_precision)pick(&a->precisions, &number);
        ma.isa = a->isas.v[number];
        for (size_t p = 0; p < n_plans && code == 0; p++)
            code = open_model(b, &ma, p);
        if (code == 0 && !b->ready)
            code = get_ready(b, path);
        if (code == 0)
            code = with_model(b);
        close_models(b);
    }
    return code;
}

static int measure_all(bench *b)
{
    const bench_args *a = b->a;
    char buf[4400];
    const model_args first = {.path = a->models.n ? a->models.v[0] : NULL};
    const char *path = model_path(&first, buf, sizeof buf);
    if (!path || (a->cost && !(b->table = cost_load(a->cost))))
        return 1;
    int code = 0;
    for (size_t i = 0; i < (a->models.n ? a->models.n : 1) && code == 0; i++)
        code = with_path(b, i ? a->models.v[i] : path);
    return code;
}

/* True when a key has another value in some result than in the first. */
static bool varies(const json_t *results, const char *key)
{
    const json_t *first = json_object_get(json_array_get(results, 0), key), *result;
    size_t i;
    json_array_foreach(results, i, result)
    {
        const json_t *value = json_object_get(result, key);
        if (value != first && !(value && first && json_equal(value, first)))
            return true;
    }
    return false;
}

static int show_file(bench *b, const char *path)
{
    json_t *results = bench_load("bench", path), *one_result;
    size_t i;
    if (!results)
        return 1;
    set_columns(b, true);
    b->printer.batch = varies(results, "n_batch");
    b->printer.ubatch = varies(results, "n_ubatch");
    b->printer.type_k = varies(results, "type_k");
    b->printer.type_v = varies(results, "type_v");
    b->printer.precision = varies(results, "precision");
    json_array_foreach(results, i, one_result)
    {
        b->printer.plan |= json_is_string(json_object_get(one_result, "plan"));
        b->printer.ceilings |= json_is_number(json_object_get(one_result, "ceiling_ts"));
    }
    json_array_foreach(results, i, one_result)
    {
        publish(b, json_incref(one_result));
    }
    json_decref(results);
    return 0;
}

static int bench_all(const bench_args *a, ui_log *log, const char *results)
{
    bench b = {.a = a, .log = log};
    char *json = NULL;
    int code = 0;
    if (a->compare && !(b.then = bench_load("--compare", a->compare)))
        return 1;
    if (npumoe_describe_machine(&json, NULL) == NPUMOE_OK) {
        json_t *o = json_loads(json, 0, NULL);
        snprintf(b.cpu, sizeof b.cpu, "%s", report_text(o, "cpu.model"));
        json_decref(o);
    }
    npumoe_text_free(&json);
    code = results ? show_file(&b, results) : measure_all(&b);
    bench_print_end(&b.printer, b.last);
    json_decref(b.last);
    json_decref(b.table);
    json_decref(b.then);
    return code;
}

/* ---- the line ------------------------------------------------------------------------------- */

static int32_t cpus_allowed(void)
{
    char *json = NULL;
    uint64_t n = 0;
    if (npumoe_describe_machine(&json, NULL) == NPUMOE_OK) {
        json_t *o = json_loads(json, 0, NULL);
        n = report_u64(o, "cpu.allowed");
        json_decref(o);
    }
    npumoe_text_free(&json);
    return n ? (int32_t)n : 1;
}

/* Of the host by the first plan, for all of them; without one those of the machine. 0 after a message. */
static int32_t default_threads(const bench_args *a)
{
    model_args model = {0};
    for (size_t i = 0; i < a->npu.plans.n && model.threads == 0; i++) {
        npu n = {0};
        const bool ok =
            strcmp(a->npu.plans.v[i], "none") == 0 || npu_read_one(a->npu.plans.v[i], &model, &n);
        npu_close(&n);
        if (!ok)
            return 0;
    }
    return model.threads > 0 ? model.threads : cpus_allowed();
}

/* False, after a message, when there is no plan to take one from, or no memory. */
static bool defaults(bench_args *a)
{
    const int32_t threads = a->threads.n ? 0 : default_threads(a);
    if (a->threads.n == 0 && threads == 0)
        return false;
    const struct {
        cli_numbers *list;
        int64_t value;
    } lists[] = {
        {&a->n_prompt, 512},
        {&a->n_gen, 128},
        {&a->n_depth, 0},
        {&a->batch, 2048},
        {&a->ubatch, 2048},
        {&a->threads, threads},
        {&a->type_k, NPUMOE_KV_F16},
        {&a->type_v, NPUMOE_KV_F16},
        {&a->precisions, NPUMOE_PRECISION_AUTO},
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (lists[i].list->n == 0 && !append(lists[i].list, lists[i].value)) {
            ui_error("out of memory");
            return false;
        }
    return true;
}

/* Commas separate names, except in the name of a file that is there. The words live in *room. */
static bool split_words(cli_strings *list, bool files, char **room)
{
    cli_strings words = {0};
    size_t bytes = 1;
    for (size_t i = 0; i < list->n; i++)
        bytes += strlen(list->v[i]) + 1;
    char *at = *room = malloc(bytes);
    bool ok = at != NULL;
    for (size_t i = 0; ok && i < list->n; i++) {
        const char *text = list->v[i];
        bool whole = files && access(text, F_OK) == 0;
        size_t n = strlen(text);
        memcpy(at, text, n + 1);
        for (char *word = at; ok && word;) {
            char *comma = whole ? NULL : strchr(word, ',');
            if (comma)
                *comma = '\0';
            ok = cli_add_string(NULL, &words, word, NULL, 0);
            word = comma ? comma + 1 : NULL;
        }
        at += n + 1;
    }
    cli_strings_free(list);
    *list = words;
    return ok;
}

static int bench_logged(const bench_args *a, const char *results)
{
    ui_log log = {0};
    if (!bench_spares_inputs(a, results) || !log_open(&log, &a->common, &a->model))
        return 1;
    ui_catch_interrupts();
    int code = ui_exit_code(bench_all(a, &log, results));
    ui_log_close(&log);
    return code;
}

static int prepared(bench_args *a, const char *results)
{
    char name[64], *model_room = NULL, *isa_room = NULL, *plan_room = NULL, why[64];
    const char *model = cli_env_option("--model", name, sizeof name);
    const char *isa = cli_env_option("--isa", name, sizeof name);
    bool ok = true;
    if (a->models.n == 0 && model)
        ok = cli_add_string(NULL, &a->models, model, why, sizeof why);
    const char *precision = cli_env_option("--precision", name, sizeof name);
    if (a->precisions.n == 0 && precision &&
        !add_precisions(NULL, &a->precisions, precision, why, sizeof why)) {
        ui_error("%s: '%s' is not %s", name, precision, why);
        return 1;
    }
    if (a->isas.n == 0)
        ok = ok && cli_add_string(NULL, &a->isas, isa ? isa : "auto", why, sizeof why);
    ok = ok && split_words(&a->models, true, &model_room) &&
         split_words(&a->isas, false, &isa_room) && split_words(&a->npu.plans, true, &plan_room);
    a->npu.no_replan |= a->npu.plans.n > 0; /* what is measured must stay the same */
    int code = 1;
    if (!ok)
        ui_error("out of memory");
    else if (a->npu.plans.n > BENCH_MAX_PLANS)
        ui_error("--plan: found %zu, expected at most %d", a->npu.plans.n, BENCH_MAX_PLANS);
    else if (npu_has_plan(&a->npu) &&
             (results || (defaults(a) && bench_can_begin(a) && bench_plans_fit(a))))
        code = bench_logged(a, results);
    free(model_room);
    free(isa_room);
    free(plan_room);
    return code;
}

int cmd_bench(int argc, char **argv)
{
    bench_args a = {.npu = NPU_ARGS_DEFAULT, .reps = 5};
    const char *results = NULL;
    size_t n_results = 0;
    const cli_group groups[] = {
        {"Tests", bench_opts, &a},
        {"Model", bench_model_opts, &a},
        {"Routing", bench_routes_opts, &a.model},
        {"Device", npu_opts, &a.npu},
        {"Memory", bench_memory_opts, &a.model},
        {"Other", log_opts, &a.common},
        {0},
    };
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, &results, 1, &n_results);
    int code = cli_exit_code(parsed);
    if (parsed == CLI_GO && n_results && !a.compare) {
        ui_error("bench: unexpected argument '%s' (npumoe help bench)", results);
        code = 1;
    } else if (parsed == CLI_GO && n_results && !bench_measures_nothing(&a)) {
        code = 1;
    } else if (parsed == CLI_GO) {
        code = prepared(&a, n_results ? results : NULL);
    }
    cli_numbers *const lists[] = {&a.n_prompt, &a.n_gen,  &a.n_pg,   &a.n_depth, &a.threads,
                                  &a.batch,    &a.ubatch, &a.type_k, &a.type_v,  &a.precisions};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        cli_numbers_free(lists[i]);
    cli_strings_free(&a.models);
    cli_strings_free(&a.isas);
    npu_args_free(&a.npu);
    return code;
}
