/* describe.c: see describe.h. Reports are built with jansson, which allocates by malloc: they are
 * made once, for people, outside of any model's allocator. */
#include "engine/describe.h"

#include "base/utf8.h"

#include <stdlib.h>

json_t *nm_describe_text(nm_str s)
{
    static const char bad[] = "\xef\xbf\xbd";
    if (s.n > SIZE_MAX / 3 - 1)
        return NULL;
    char *clean = malloc(3 * s.n + 1);
    if (!clean)
        return NULL;
    size_t n = 0;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        int step = nm_utf8_next(s.p + i, s.n - i, &cp);
        size_t taken = step > 0 ? (size_t)step : step < 0 ? (size_t)-step : s.n - i;
        memcpy(clean + n, step > 0 ? s.p + i : bad, step > 0 ? taken : sizeof bad - 1);
        n += step > 0 ? taken : sizeof bad - 1;
        i += taken;
    }
    json_t *text = json_stringn(clean, n);
    free(clean);
    return text;
}

void nm_describe_put(json_t *object, const char *key, json_t *value)
{
    if (value)
        json_object_set_new(object, key, value);
}

json_t *nm_describe_u64(uint64_t v)
{
    return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v);
}

npumoe_status nm_describe_finish(json_t *root, char **json, npumoe_error *err)
{
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(root);
    if (!text)
        return nm_err_set(err, NPUMOE_ENOMEM, "out of memory for a report");
    *json = text;
    return NPUMOE_OK;
}

void npumoe_text_free(char **text)
{
    if (!text)
        return;
    free(*text);
    *text = NULL;
}
