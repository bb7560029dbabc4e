/* fields.c: see fields.h. */
#include "moe/fields.h"

#include "base/alloc.h"
#include "base/str.h"

#include <math.h>
#include <stdio.h>

nm_fields nm_fields_root(const json_t *root, npumoe_error *err)
{
    return (nm_fields){.json = root, .err = err};
}

/* ---- messages ------------------------------------------------------------------------------- */

/* Appends "layers[3].us"; returns the length. A path that does not fit is cut. */
static size_t put_path(const nm_fields *f, char *out, size_t at)
{
    if (f == NULL)
        return at;
    at = put_path(f->parent, out, at);
    int n = 0;
    if (f->key)
        n = snprintf(out + at, NM_FIELDS_PATH - at, "%s%s", at ? "." : "", f->key);
    else if (f->parent)
        n = snprintf(out + at, NM_FIELDS_PATH - at, "[%zu]", f->index);
    at += n > 0 ? (size_t)n : 0;
    return at < NM_FIELDS_PATH ? at : NM_FIELDS_PATH - 1;
}

static void describe(const json_t *v, char *out, size_t bytes)
{
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT:
        snprintf(out, bytes, "an object");
        break;
    case JSON_ARRAY:
        snprintf(out, bytes, "an array of %zu", json_array_size(v));
        break;
    case JSON_STRING:
        snprintf(out, bytes, "\"%.60s\"", json_string_value(v));
        break;
    case JSON_INTEGER:
        snprintf(out, bytes, "%lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL:
        snprintf(out, bytes, "%g", json_real_value(v));
        break;
    case JSON_TRUE:
        snprintf(out, bytes, "true");
        break;
    case JSON_FALSE:
        snprintf(out, bytes, "false");
        break;
    case JSON_NULL:
        snprintf(out, bytes, v ? "null" : "nothing");
        break;
    }
}

static npumoe_status bad(const nm_fields *f, const nm_fields *at, const json_t *found,
                         const char *expected)
{
    char path[NM_FIELDS_PATH] = "", what[96];
    put_path(at, path, 0);
    describe(found, what, sizeof what);
    return nm_err_set(f->err, NPUMOE_EFORMAT, "%s: found %s, expected %s",
                      path[0] ? path : "document", what, expected);
}

npumoe_status nm_fields_bad(const nm_fields *f, const char *key, const char *expected)
{
    const nm_fields at = {.parent = f, .key = key};
    if (key == NULL)
        return bad(f, f, f->json, expected);
    return bad(f, &at, json_object_get(f->json, key), expected);
}

static npumoe_status bad_at(const nm_fields *array, size_t i, const char *expected)
{
    const nm_fields at = {.parent = array, .index = i};
    return bad(array, &at, json_array_get(array->json, i), expected);
}

/* ---- structure ------------------------------------------------------------------------------ */

npumoe_status nm_fields_object(const nm_fields *f, const char *key, nm_fields *out)
{
    const json_t *v = json_object_get(f->json, key);
    if (!json_is_object(v))
        return nm_fields_bad(f, key, "an object");
    *out = (nm_fields){.json = v, .parent = f, .key = key, .err = f->err};
    return NPUMOE_OK;
}

npumoe_status nm_fields_array(const nm_fields *f, const char *key, size_t max, nm_fields *out,
                              size_t *n)
{
    const json_t *v = json_object_get(f->json, key);
    char expected[64];
    snprintf(expected, sizeof expected, "an array of at most %zu", max);
    if (!json_is_array(v) || json_array_size(v) > max)
        return nm_fields_bad(f, key, expected);
    *out = (nm_fields){.json = v, .parent = f, .key = key, .err = f->err};
    *n = json_array_size(v);
    return NPUMOE_OK;
}

npumoe_status nm_fields_at(const nm_fields *array, size_t i, nm_fields *out)
{
    const json_t *v = json_array_get(array->json, i);
    if (!json_is_object(v))
        return bad_at(array, i, "an object");
    *out = (nm_fields){.json = v, .parent = array, .index = i, .err = array->err};
    return NPUMOE_OK;
}

/* ---- values --------------------------------------------------------------------------------- */

static bool take_u32(const json_t *v, uint32_t min, uint32_t max, uint32_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < (json_int_t)min ||
        json_integer_value(v) > (json_int_t)max)
        return false;
    *out = (uint32_t)json_integer_value(v);
    return true;
}

static bool take_real(const json_t *v, double min, double max, double *out)
{
    if (!json_is_number(v))
        return false;
    const double d = json_number_value(v);
    if (!(d >= min && d <= max)) /* NaN too */
        return false;
    *out = d;
    return true;
}

npumoe_status nm_fields_u32(const nm_fields *f, const char *key, uint32_t min, uint32_t max,
                            uint32_t *out)
{
    char expected[64];
    snprintf(expected, sizeof expected, "an integer from %u to %u", min, max);
    return take_u32(json_object_get(f->json, key), min, max, out) ? NPUMOE_OK
                                                                  : nm_fields_bad(f, key, expected);
}

npumoe_status nm_fields_u64(const nm_fields *f, const char *key, uint64_t *out)
{
    const json_t *v = json_object_get(f->json, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return nm_fields_bad(f, key, "an integer of at least 0");
    *out = (uint64_t)json_integer_value(v);
    return NPUMOE_OK;
}

npumoe_status nm_fields_real(const nm_fields *f, const char *key, double min, double max,
                             double *out)
{
    char expected[80];
    snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
    return take_real(json_object_get(f->json, key), min, max, out)
               ? NPUMOE_OK
               : nm_fields_bad(f, key, expected);
}

npumoe_status nm_fields_bool(const nm_fields *f, const char *key, bool *out)
{
    const json_t *v = json_object_get(f->json, key);
    if (!json_is_boolean(v))
        return nm_fields_bad(f, key, "true or false");
    *out = json_is_true(v);
    return NPUMOE_OK;
}

/* Text is shown to people: no control characters. */
static bool printable(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            return false;
    return true;
}

npumoe_status nm_fields_text(const nm_fields *f, const char *key, char *out, size_t out_bytes)
{
    const json_t *v = json_object_get(f->json, key);
    char expected[64];
    snprintf(expected, sizeof expected, "printable text below %zu bytes", out_bytes);
    if (!json_is_string(v) || json_string_length(v) >= out_bytes ||
        !printable(json_string_value(v), json_string_length(v)))
        return nm_fields_bad(f, key, expected);
    memcpy(out, json_string_value(v), json_string_length(v) + 1);
    return NPUMOE_OK;
}

npumoe_status nm_fields_u32_at(const nm_fields *array, size_t i, uint32_t min, uint32_t max,
                               uint32_t *out)
{
    char expected[64];
    snprintf(expected, sizeof expected, "an integer from %u to %u", min, max);
    return take_u32(json_array_get(array->json, i), min, max, out) ? NPUMOE_OK
                                                                   : bad_at(array, i, expected);
}

npumoe_status nm_fields_real_at(const nm_fields *array, size_t i, double min, double max,
                                double *out)
{
    char expected[80];
    snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
    return take_real(json_array_get(array->json, i), min, max, out) ? NPUMOE_OK
                                                                    : bad_at(array, i, expected);
}

/* ---- documents ------------------------------------------------------------------------------ */

npumoe_status nm_fields_parse(const char *text, size_t bytes, const char *what, json_t **out,
                              npumoe_error *err)
{
    json_error_t e;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &e);
    if (root == NULL)
        return nm_err_at(err, NPUMOE_EFORMAT, e.position < 0 ? 0 : (uint64_t)e.position,
                         "%s: not JSON: line %d, column %d: %s", what, e.line, e.column, e.text);
    *out = root;
    return NPUMOE_OK;
}

npumoe_status nm_fields_schema(const nm_fields *f, const char *schema, uint32_t version)
{
    const json_t *name = json_object_get(f->json, "schema");
    const json_t *number = json_object_get(f->json, "schema_version");
    char expected[96];
    if (!json_is_object(f->json))
        return nm_fields_bad(f, NULL, "an object");
    snprintf(expected, sizeof expected, "\"%s\"", schema);
    if (!json_is_string(name) || strcmp(json_string_value(name), schema) != 0)
        return nm_fields_bad(f, "schema", expected);
    snprintf(expected, sizeof expected, "%u, the version that this npumoe reads", version);
    if (!json_is_integer(number) || json_integer_value(number) != (json_int_t)version)
        return nm_fields_bad(f, "schema_version", expected);
    return NPUMOE_OK;
}

json_t *nm_fields_number(double v)
{
    char text[40];
    double r = 0.0;
    if (!isfinite(v))
        return NULL;
    if (v == floor(v) && fabs(v) < 1e15)
        return json_integer((json_int_t)v);
    snprintf(text, sizeof text, "%.6g", v);
    if (sscanf(text, "%lf", &r) != 1)
        return NULL;
    return r == floor(r) && fabs(r) < 1e15 ? json_integer((json_int_t)r) : json_real(r);
}

/* ---- printing ------------------------------------------------------------------------------- */

enum { LINE = 100, STEP = 1 };

typedef struct text {
    char *p;
    size_t n, cap;
    bool failed;
} text;

static void put(text *t, const char *s, size_t n)
{
    const npumoe_allocator *a = nm_allocator_default();
    if (t->failed || nm_grow(a, (void **)&t->p, &t->cap, t->n + n + 1, 1, NULL) != NPUMOE_OK) {
        t->failed = true;
        return;
    }
    memcpy(t->p + t->n, s, n);
    t->n += n;
    t->p[t->n] = '\0';
}

static void put_line(text *t, size_t indent)
{
    put(t, "\n", 1);
    for (size_t i = 0; i < indent; i++)
        put(t, " ", 1);
}

/* The shortest form into line[LINE + 1]; false when it does not fit. */
static bool on_one_line(const json_t *v, char *line, size_t room)
{
    const size_t n = json_dumpb(v, line, room, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    return n > 0 && n <= room;
}

static void put_value(text *t, const json_t *v, size_t indent)
{
    char line[LINE];
    const char *key;
    json_t *part;
    size_t i;
    const size_t used = indent < LINE / 2 ? indent : LINE / 2;
    if (on_one_line(v, line, sizeof line - used)) {
        put(t, line, json_dumpb(v, line, sizeof line, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6)));
    } else if (json_is_object(v)) {
        bool first = true;
        put(t, "{", 1);
        /* jansson's iterator is not const, but changes nothing */
        json_object_foreach((json_t *)(uintptr_t)v, key, part)
        {
            put(t, first ? "" : ",", first ? 0 : 1);
            first = false;
            put_line(t, indent + STEP);
            json_t *name = json_string(key);
            char *quoted = json_dumps(name, JSON_ENCODE_ANY);
            if (quoted)
                put(t, quoted, strlen(quoted));
            t->failed |= quoted == NULL;
            npumoe_text_free(&quoted);
            json_decref(name);
            put(t, ": ", 2);
            put_value(t, part, indent + STEP);
        }
        put_line(t, indent);
        put(t, "}", 1);
    } else if (json_is_array(v)) {
        put(t, "[", 1);
        json_array_foreach((json_t *)(uintptr_t)v, i, part)
        {
            put(t, i ? "," : "", i ? 1 : 0);
            put_line(t, indent + STEP);
            put_value(t, part, indent + STEP);
        }
        put_line(t, indent);
        put(t, "]", 1);
    } else {
        char *whole = json_dumps(v, JSON_ENCODE_ANY);
        if (whole)
            put(t, whole, strlen(whole));
        t->failed |= whole == NULL;
        npumoe_text_free(&whole);
    }
}

npumoe_status nm_fields_print(const json_t *root, char **out, npumoe_error *err)
{
    text t = {0};
    if (root)
        put_value(&t, root, 0);
    put(&t, "\n", 1);
    if (!root || t.failed) {
        nm_free(nm_allocator_default(), t.p);
        return nm_err_nomem(err, t.n, "a JSON document");
    }
    *out = t.p;
    return NPUMOE_OK;
}

json_t *nm_fields_numbers(const uint32_t *v, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(v[i]));
    return list;
}
