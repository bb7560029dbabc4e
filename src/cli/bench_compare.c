/* bench_compare.c: results of an earlier run, found again and laid beside those of this one.
 *
 * Two results are of one test when they have prompt, tokens and depth in common. Of several, the one
 * counts that has most in common, and what it has not is said: a ratio of two machines is no news
 * about a program. */
#include "bench.h"
#include "out.h"
#include "report.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading -------------------------------------------------------------------------------- */

/* A JSON value after another, as -o jsonl writes them, or one array. */
static json_t *parse(const char *text, size_t bytes, json_error_t *why)
{
    json_t *all = json_array();
    size_t at = 0;
    while (all) {
        at += strspn(text + at, " \t\r\n");
        if (at >= bytes)
            return all;
        json_t *one = json_loadb(text + at, bytes - at, JSON_DISABLE_EOF_CHECK, why);
        if (!one) {
            for (size_t i = 0; i < at; i++)
                why->line += text[i] == '\n';
            break;
        }
        at += (size_t)why->position;
        if (json_is_array(one))
            json_array_extend(all, one);
        else
            json_array_append(all, one);
        json_decref(one);
    }
    json_decref(all);
    return NULL;
}

static const char *const needed[] = {"n_prompt", "n_gen", "avg_ts"};

/* The key that a result lacks, or NULL. */
static const char *lacks(const json_t *result)
{
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (!json_is_number(json_object_get(result, needed[i])))
            return needed[i];
    return NULL;
}

json_t *bench_load(const char *option, const char *path)
{
    char *text = NULL;
    size_t bytes = 0, i;
    json_error_t why = {.line = 0};
    if (!in_read_all(path, &text, &bytes))
        return NULL;
    if (bytes > INT_MAX) { /* jansson counts in int */
        ui_error("%s: %s has %zu bytes; results have at most %d", option, path, bytes, INT_MAX);
        free(text);
        return NULL;
    }
    json_t *all = parse(text, bytes, &why), *result;
    free(text);
    if (!all) {
        ui_error("%s: %s is no JSON: line %d: %s; results are written by bench -o json", option,
                 path, why.line, why.text);
        return NULL;
    }
    json_array_foreach(all, i, result)
    {
        const char *key = lacks(result);
        if (!key)
            continue;
        ui_error("%s: %s holds no results of bench: entry %zu has no number \"%s\"", option, path,
                 i + 1, key);
        json_decref(all);
        return NULL;
    }
    if (json_array_size(all) == 0) {
        ui_error("%s: %s holds no results", option, path);
        json_decref(all);
        return NULL;
    }
    return all;
}

/* ---- finding -------------------------------------------------------------------------------- */

static bool same(const json_t *a, const json_t *b, const char *key)
{
    const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);
    return x == y || (x && y && json_equal(x, y));
}

/* Of a result that has no depth (an old llama-bench) it is 0. */
static bool same_test(const json_t *a, const json_t *b)
{
    return same(a, b, "n_prompt") && same(a, b, "n_gen") &&
           report_u64(a, "n_depth") == report_u64(b, "n_depth");
}

static const char *base_name(const json_t *result)
{
    const char *path = report_text(result, "model_filename"), *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A file may have been moved, and another program gives types other names. */
static bool same_model(const json_t *a, const json_t *b)
{
    return same(a, b, "model_size") &&
           (same(a, b, "model_type") || strcmp(base_name(a), base_name(b)) == 0);
}

/* What makes results differ, the heaviest first; the model, heavier than all, stands by its size where
 * its type says nothing. */
static const char *const conditions[] = {"model_type", "model_size", "n_threads", "isa",
                                         "precision",  "plan",       "cpu_info",  "type_k",
                                         "type_v",     "n_ubatch",   "n_batch"};
enum { N_CONDITIONS = sizeof conditions / sizeof conditions[0], MODEL_CONDITIONS = 2 };

/* Results of runs without --plan do not say so. */
static const char *plan_of(const json_t *result)
{
    const char *plan = report_text(result, "plan");
    return plan[0] ? plan : "none";
}

static bool meets(const json_t *a, const json_t *b, int condition)
{
    if (condition < MODEL_CONDITIONS && same_model(a, b))
        return true;
    if (strcmp(conditions[condition], "plan") == 0)
        return strcmp(plan_of(a), plan_of(b)) == 0;
    return same(a, b, conditions[condition]);
}

static const json_t *nearest(const json_t *result, const json_t *then)
{
    const json_t *best = NULL, *one;
    unsigned best_score = 0;
    size_t i;
    json_array_foreach(then, i, one)
    {
        unsigned score = 1;
        for (int c = 0; c < N_CONDITIONS; c++)
            score += meets(result, one, c) ? 2u << (N_CONDITIONS - c) : 0;
        if (same_test(result, one) && score > best_score) {
            best = one;
            best_score = score;
        }
    }
    return best;
}

static const char *shown(const json_t *result, const char *key, char *buf, size_t cap)
{
    const json_t *v = json_object_get(result, key);
    if (strcmp(key, "plan") == 0)
        snprintf(buf, cap, "%s", plan_of(result));
    else if (json_is_integer(v))
        snprintf(buf, cap, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else
        snprintf(buf, cap, "%s", json_is_string(v) ? json_string_value(v) : "?");
    return report_trim(buf);
}

/* "n_threads 1 -> 2, isa avx2 -> avx512"; "" when nothing differs. */
static void differences(const json_t *result, const json_t *then, char *buf, size_t cap)
{
    size_t n = 0;
    char was[64], is[64];
    buf[0] = '\0';
    for (int c = 0; c < N_CONDITIONS && n < cap; c++) {
        if (meets(result, then, c))
            continue;
        int w = snprintf(buf + n, cap - n, "%s%s %s -> %s", n ? ", " : "", conditions[c],
                         shown(then, conditions[c], was, sizeof was),
                         shown(result, conditions[c], is, sizeof is));
        n += w > 0 ? (size_t)w : 0;
    }
    report_trim(buf); /* half a character would be no JSON string */
}

/* NULL when one of them has no such figure. */
static json_t *ratio(const json_t *result, const json_t *then, const char *key)
{
    double a = json_number_value(json_object_get(result, key));
    double b = json_number_value(json_object_get(then, key));
    return a > 0 && b > 0 ? json_real(a / b) : json_null();
}

void bench_compare(json_t *result, const json_t *then)
{
    const json_t *one = nearest(result, then);
    char text[512] = "no such test";
    if (one)
        differences(result, one, text, sizeof text);
    double avg = json_number_value(json_object_get(one, "avg_ts"));
    json_object_set_new(result, "compare_avg_ts", one ? json_real(avg) : json_null());
    json_object_set_new(result, "compare_ratio", ratio(result, one, "avg_ts"));
    json_object_set_new(result, "compare_cpu_ratio",
                        ratio(result, one, "cpu_seconds_per_1k_tokens"));
    json_object_set_new(result, "compare_rss_ratio", ratio(result, one, "peak_rss_bytes"));
    json_object_set_new(result, "compare_differs", json_string(text));
}
