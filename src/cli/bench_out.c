/* bench_out.c: results of bench as JSON objects, and objects as text.
 *
 * Columns and keys are llama-bench's in its order; ours come after them. docs/cli.md explains each. */
#include "bench.h"
#include "build.h"
#include "report.h"
#include "safe.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- an object ------------------------------------------------------------------------------ */

typedef struct summary {
    double avg_ns, stddev_ns, avg_ts, stddev_ts;
} summary;

static double test_tokens(const bench_test *t)
{
    return (double)(t->n_prompt + t->n_gen);
}

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

static summary summarise(const bench_test *t)
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

static json_t *number_array(const bench_test *t, bool rate)
{
    json_t *array = json_array();
    for (int32_t i = 0; i < t->reps; i++) {
        double s = t->seconds[i];
        json_array_append_new(array, rate ? json_real(test_tokens(t) / s)
                                          : json_integer((json_int_t)(s * 1e9)));
    }
    return array;
}

/* Always valid: of names that are no UTF-8, other bytes than ASCII become '?'. */
static json_t *any_text(const char *s)
{
    json_t *v = json_string(s);
    char *clean = v ? NULL : strdup(s);
    for (char *p = clean; p && *p; p++)
        *p = (unsigned char)*p < 0x80 ? *p : '?';
    v = v ? v : json_string(clean ? clean : "?");
    free(clean);
    return v;
}

/* llama-bench's keys, and the first three of ours. */
static json_t *usual_keys(const bench_model *m, const char *cpu, const bench_test *t)
{
    char when[32] = "", backend[32];
    struct tm tm;
    if (gmtime_r(&t->when, &tm))
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    snprintf(backend, sizeof backend, "CPU (%s)", m->info.isa);
    summary s = summarise(t);
    int32_t ub = t->ubatch < t->batch ? t->ubatch : t->batch;
    return json_pack(
        "{s:s, s:i, s:o, s:s, s:s, s:o, s:o, s:I, s:I, s:i, s:i, s:i, s:s, s:s, s:i, s:i, s:i, s:i,"
        " s:i, s:s, s:I, s:I, s:f, s:f, s:o, s:o, s:f, s:s, s:I}",
        "build_commit", cli_build_commit(), "build_number", cli_build_number(), "cpu_info",
        any_text(cpu), "gpu_info", "", "backends", backend, "model_filename", any_text(m->path),
        "model_type", any_text(m->description), "model_size", (json_int_t)m->info.weights_bytes,
        "model_n_params", (json_int_t)m->info.n_params, "n_batch", (int)t->batch, "n_ubatch",
        (int)ub, "n_threads", (int)t->n_threads, "type_k", kv_type_name(t->type_k), "type_v",
        kv_type_name(t->type_v), "n_gpu_layers", 0, "n_cpu_moe", 0, "n_prompt", (int)t->n_prompt,
        "n_gen", (int)t->n_gen, "n_depth", (int)t->n_depth, "test_time", when, "avg_ns",
        (json_int_t)s.avg_ns, "stddev_ns", (json_int_t)s.stddev_ns, "avg_ts", s.avg_ts, "stddev_ts",
        s.stddev_ts, "samples_ns", number_array(t, false), "samples_ts", number_array(t, true),
        "cpu_seconds", t->cpu_seconds, "isa", m->info.isa, "model_n_params_active",
        (json_int_t)m->info.n_params_active);
}

static void put(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
}

/* Null where nothing is known: every result has every key. */
static json_t *real_or_null(double v)
{
    return v > 0 && isfinite(v) ? json_real(v) : json_null();
}

static json_t *bytes_or_null(int64_t v)
{
    return v >= 0 ? json_integer(v) : json_null();
}

/* No machine can do the operations of the prompt, nor read the bytes of the tokens that follow, in less
 * time than its limits allow. */
static void put_ceilings(json_t *o, const bench_model *m, const json_t *table, const bench_test *t)
{
    const npumoe_model_work *p = &t->prompt_work, *g = &t->gen_work;
    double ops = (double)(p->matrix_ops + p->attention_ops + p->output_ops);
    double read_bytes = (double)(g->weight_bytes + g->kv_bytes);
    cost_limits l = cost_find(table, m->info.isa, t->n_threads, m->info.weights_bytes);
    bool known = (!t->n_prompt || l.gops_per_s > 0) && (!t->n_gen || l.gb_per_s > 0);
    double least = 0.0, least_i8 = 0.0;
    if (known && t->n_prompt) {
        least += ops / (l.gops_per_s * 1e9);
        least_i8 += l.gops_i8_per_s > 0 ? ops / (l.gops_i8_per_s * 1e9) : 0.0;
    }
    if (known && t->n_gen) {
        least += read_bytes / (l.gb_per_s * 1e9);
        least_i8 += t->n_prompt && !(l.gops_i8_per_s > 0) ? 0.0 : read_bytes / (l.gb_per_s * 1e9);
    }
    double ceiling = least > 0 ? test_tokens(t) / least : 0.0;
    double avg_ts = json_real_value(json_object_get(o, "avg_ts"));
    put(o, "prompt_ops", json_integer((json_int_t)ops));
    put(o, "gen_read_bytes", json_integer((json_int_t)read_bytes));
    put(o, "ceiling_ts", real_or_null(ceiling));
    put(o, "ceiling_percent", real_or_null(ceiling > 0 ? 100.0 * avg_ts / ceiling : 0.0));
    put(o, "ceiling_i8_ts",
        real_or_null(t->n_prompt && least_i8 > 0 ? test_tokens(t) / least_i8 : 0.0));
    put(o, "limit_gops_per_s", real_or_null(l.gops_per_s));
    put(o, "limit_unit", l.unit[0] ? json_string(l.unit) : json_null());
    put(o, "limit_i8_gops_per_s", real_or_null(l.gops_i8_per_s));
    put(o, "limit_read_gb_per_s", real_or_null(l.gb_per_s));
    put(o, "limit_read_from", l.from[0] ? json_string(l.from) : json_null());
}

json_t *bench_result(const bench_model *m, const char *cpu, const json_t *table,
                     const bench_test *t)
{
    json_t *o = usual_keys(m, cpu, t);
    put(o, "precision", json_string(precision_name(t->precision)));
    put(o, "cpu_seconds_per_1k_tokens", json_real(t->cpu_seconds * 1e3 / test_tokens(t)));
    put_ceilings(o, m, table, t);
    put(o, "peak_rss_bytes", bytes_or_null(t->peak_rss_bytes));
    put(o, "peak_rss_beyond_bytes", bytes_or_null(t->peak_beyond_bytes));
    put(o, "kv_bytes", json_integer((json_int_t)t->kv_bytes));
    put(o, "scratch_bytes", json_integer((json_int_t)t->scratch_bytes));
    return o;
}

/* ---- the table ------------------------------------------------------------------------------ */

typedef struct column {
    const char *title;
    int width;
    bool left;
    void (*print)(const json_t *result, char *buf, size_t cap);
} column;

static double figure(const json_t *result, const char *key)
{
    return json_number_value(json_object_get(result, key));
}

#define TEXT_COLUMN(name, key)                               \
    static void name(const json_t *r, char *buf, size_t cap) \
    {                                                        \
        snprintf(buf, cap, "%s", report_text(r, key));       \
    }
#define COUNT_COLUMN(name, key)                              \
    static void name(const json_t *r, char *buf, size_t cap) \
    {                                                        \
        snprintf(buf, cap, "%" PRIu64, report_u64(r, key));  \
    }
/* Nothing where there is no figure. */
#define FIGURE_COLUMN(name, key, format)                     \
    static void name(const json_t *r, char *buf, size_t cap) \
    {                                                        \
        if (json_is_number(json_object_get(r, key)))         \
            snprintf(buf, cap, format, figure(r, key));      \
    }
#define BYTES_COLUMN(name, key)                              \
    static void name(const json_t *r, char *buf, size_t cap) \
    {                                                        \
        if (json_is_number(json_object_get(r, key)))         \
            human_bytes(report_u64(r, key), buf, cap);       \
    }

TEXT_COLUMN(print_model, "model_type")
BYTES_COLUMN(print_size, "model_size")
TEXT_COLUMN(print_backend, "backends")
COUNT_COLUMN(print_threads, "n_threads")
COUNT_COLUMN(print_batch, "n_batch")
COUNT_COLUMN(print_ubatch, "n_ubatch")
TEXT_COLUMN(print_type_k, "type_k")
TEXT_COLUMN(print_type_v, "type_v")
TEXT_COLUMN(print_precision, "precision")
FIGURE_COLUMN(print_cpu, "cpu_seconds", "%.2f")
FIGURE_COLUMN(print_cpu_per_1k, "cpu_seconds_per_1k_tokens", "%.3g")
FIGURE_COLUMN(print_ceiling, "ceiling_ts", "%.2f")
FIGURE_COLUMN(print_percent, "ceiling_percent", "%.1f %%")
BYTES_COLUMN(print_peak, "peak_rss_bytes")
BYTES_COLUMN(print_beyond, "peak_rss_beyond_bytes")
FIGURE_COLUMN(print_then, "compare_avg_ts", "%.2f")
FIGURE_COLUMN(print_ratio, "compare_ratio", "%.2f")
FIGURE_COLUMN(print_cpu_ratio, "compare_cpu_ratio", "%.2f")
TEXT_COLUMN(print_differs, "compare_differs")

FIGURE_COLUMN(print_host_cpu, "host_cpu_seconds", "%.3f")
FIGURE_COLUMN(print_busy, "device_busy_seconds", "%.3f")
FIGURE_COLUMN(print_launches, "launches", "%.0f")
FIGURE_COLUMN(print_dropped, "dropped_pairs", "%.0f")

static void print_share(const json_t *r, const char *key, char *buf, size_t cap)
{
    if (figure(r, "launches") > 0)
        snprintf(buf, cap, "%.1f %%", 100.0 * figure(r, key));
}

static void print_padding(const json_t *r, char *buf, size_t cap)
{
    print_share(r, "padding_share", buf, cap);
}

static void print_overflow(const json_t *r, char *buf, size_t cap)
{
    print_share(r, "overflow_share", buf, cap);
}

static void print_latency(const json_t *r, char *buf, size_t cap)
{
    snprintf(buf, cap, "%.2f", figure(r, "avg_ns") * 1e-6);
}

/* Added latency makes a figure one of another device: said in its row. */
static void print_plan(const json_t *r, char *buf, size_t cap)
{
    const char *path = report_text(r, "plan"), *slash = strrchr(path, '/');
    const double added = figure(r, "added_launch_us");
    snprintf(buf, cap, "%s", slash ? slash + 1 : path);
    if (added > 0)
        snprintf(buf, cap, "%s (+%.0f us a launch)", slash ? slash + 1 : path, added);
}

static void print_params(const json_t *r, char *buf, size_t cap)
{
    human_count(report_u64(r, "model_n_params"), buf, cap);
}

static void print_test(const json_t *r, char *buf, size_t cap)
{
    uint64_t p = report_u64(r, "n_prompt"), g = report_u64(r, "n_gen"),
             d = report_u64(r, "n_depth");
    char prompt[32] = "", gen[32] = "", depth[32] = "";
    if (p)
        snprintf(prompt, sizeof prompt, "pp%" PRIu64, p);
    if (g)
        snprintf(gen, sizeof gen, "%stg%" PRIu64, p ? "+" : "", g);
    if (d)
        snprintf(depth, sizeof depth, " @ d%" PRIu64, d);
    snprintf(buf, cap, "%s%s%s", prompt, gen, depth);
}

static void print_speed(const json_t *r, char *buf, size_t cap)
{
    snprintf(buf, cap, "%.2f \u00b1 %.2f", figure(r, "avg_ts"), figure(r, "stddev_ts"));
}

static size_t add(column *list, size_t n, bool wanted, column c)
{
    if (wanted)
        list[n++] = c;
    return n;
}

enum { MAX_COLUMNS = 32 };

static size_t add_plan(column *list, size_t n, bool wanted)
{
    n = add(list, n, wanted, (column){"ms", 9, false, print_latency});
    n = add(list, n, wanted, (column){"host CPU s", 10, false, print_host_cpu});
    n = add(list, n, wanted, (column){"busy s", 8, false, print_busy});
    n = add(list, n, wanted, (column){"launches", 8, false, print_launches});
    n = add(list, n, wanted, (column){"padding", 7, false, print_padding});
    n = add(list, n, wanted, (column){"overflow", 8, false, print_overflow});
    return add(list, n, wanted, (column){"dropped", 7, false, print_dropped});
}

/* Columns that never change are left out, as llama-bench does. */
static size_t columns(const bench_printer *p, column list[MAX_COLUMNS])
{
    size_t n = 0;
    n = add(list, n, true, (column){"model", 30, true, print_model});
    n = add(list, n, true, (column){"size", 10, false, print_size});
    n = add(list, n, true, (column){"params", 10, false, print_params});
    n = add(list, n, true, (column){"backend", 14, true, print_backend});
    n = add(list, n, true, (column){"threads", 7, false, print_threads});
    n = add(list, n, p->batch, (column){"n_batch", 7, false, print_batch});
    n = add(list, n, p->ubatch, (column){"n_ubatch", 8, false, print_ubatch});
    n = add(list, n, p->type_k, (column){"type_k", 6, false, print_type_k});
    n = add(list, n, p->type_v, (column){"type_v", 6, false, print_type_v});
    n = add(list, n, p->precision, (column){"precision", 9, true, print_precision});
    n = add(list, n, p->plan, (column){"plan", 18, true, print_plan});
    n = add(list, n, true, (column){"test", 15, false, print_test});
    n = add(list, n, true, (column){"t/s", 20, false, print_speed});
    n = add_plan(list, n, p->plan);
    n = add(list, n, true, (column){"CPU s", 10, false, print_cpu});
    n = add(list, n, true, (column){"CPU s/1k", 8, false, print_cpu_per_1k});
    n = add(list, n, p->ceilings, (column){"ceiling", 10, false, print_ceiling});
    n = add(list, n, p->ceilings, (column){"share", 7, false, print_percent});
    n = add(list, n, true, (column){"peak RSS", 10, false, print_peak});
    n = add(list, n, true, (column){"beyond", 10, false, print_beyond});
    n = add(list, n, p->compare, (column){"then t/s", 10, false, print_then});
    n = add(list, n, p->compare, (column){"ratio", 6, false, print_ratio});
    n = add(list, n, p->compare, (column){"CPU ratio", 9, false, print_cpu_ratio});
    n = add(list, n, p->compare, (column){"differs", 12, true, print_differs});
    return n;
}

static void cell(const column *c, const char *text)
{
    int width = 0; /* characters, not bytes */
    for (const char *p = text; *p; p++)
        width += ((unsigned char)*p & 0xc0) != 0x80;
    int blanks = width < c->width ? c->width - width : 0;
    printf(" %*s", c->left ? 0 : blanks, "");
    safe_put(stdout, text, strlen(text)); /* names come from files of others */
    printf("%*s |", c->left ? blanks : 0, "");
}

static void markdown_head(const column *list, size_t n)
{
    putchar('|');
    for (size_t i = 0; i < n; i++)
        cell(&list[i], list[i].title);
    printf("\n|");
    for (size_t i = 0; i < n; i++) {
        putchar(' ');
        for (int w = 1; w < list[i].width; w++)
            putchar('-');
        printf("%s |", list[i].left ? "-" : ":");
    }
    putchar('\n');
}

static void markdown(const bench_printer *p, const json_t *result)
{
    column list[MAX_COLUMNS];
    size_t n = columns(p, list);
    if (p->n == 0)
        markdown_head(list, n);
    putchar('|');
    for (size_t i = 0; i < n; i++) {
        char text[512] = "";
        list[i].print(result, text, sizeof text);
        cell(&list[i], report_trim(text));
    }
    putchar('\n');
}

/* ---- CSV ------------------------------------------------------------------------------------ */

/* Text of others (the results may be a file of theirs) without control characters, quotes doubled. */
static void csv_text(const char *text)
{
    for (size_t n; *text; text += n) {
        n = strcspn(text, "\"");
        safe_put(stdout, text, n);
        if (text[n] == '"') {
            fputs("\"\"", stdout);
            n++;
        }
    }
}

/* A value as CSV: text in quotes. Arrays are joined by blanks. */
static void csv_value(const json_t *v)
{
    if (json_is_string(v)) {
        putchar('"');
        csv_text(json_string_value(v));
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
    } else if (json_is_real(v)) {
        printf("%.6f", json_real_value(v));
    }
}

static void csv_row(const json_t *object, bool head)
{
    const char *key, *comma = "";
    json_t *value, *all = (json_t *)(uintptr_t)object; /* the macro wants one that may change */
    if (head) {
        json_object_foreach(all, key, value)
        {
            fputs(comma, stdout);
            csv_text(key);
            comma = ",";
        }
        putchar('\n');
    }
    comma = "";
    json_object_foreach(all, key, value)
    {
        fputs(comma, stdout);
        csv_value(value);
        comma = ",";
    }
    putchar('\n');
}

/* ---- any format ----------------------------------------------------------------------------- */

void bench_print(bench_printer *p, const json_t *result)
{
    if (p->format == BENCH_MD) {
        markdown(p, result);
    } else if (p->format == BENCH_CSV) {
        csv_row(result, p->n == 0);
    } else {
        if (p->format == BENCH_JSON)
            fputs(p->n ? ",\n" : "[\n", stdout);
        json_dumpf(result, stdout, p->format == BENCH_JSON ? JSON_INDENT(2) : JSON_COMPACT);
        if (p->format == BENCH_JSONL)
            putchar('\n');
    }
    p->n++;
    fflush(stdout);
}

static void put_text(const json_t *result, const char *key)
{
    const char *text = report_text(result, key);
    safe_put(stdout, text, strlen(text));
}

void bench_print_end(const bench_printer *p, const json_t *last)
{
    if (p->n == 0)
        return;
    if (p->format == BENCH_JSON)
        puts("\n]");
    if (p->format != BENCH_MD)
        return;
    putchar('\n');
    if (json_is_number(json_object_get(last, "limit_gops_per_s"))) {
        printf("limits of this machine, %" PRIu64 " threads: %.0f G operations/s (",
               report_u64(last, "n_threads"), figure(last, "limit_gops_per_s"));
        put_text(last, "limit_unit");
        printf("), reading %.1f GB/s (", figure(last, "limit_read_gb_per_s"));
        put_text(last, "limit_read_from");
        puts(")");
    }
    fputs("build: ", stdout);
    put_text(last, "build_commit");
    printf(" (%" PRIu64 ")\n", report_u64(last, "build_number"));
}
