/* gguf_get.c: metadata values as the type that the caller needs.
 *
 * Files in circulation disagree about the exact kind of an integer (u32 here, i32 or u64 there), so
 * integers convert when the value fits. Kinds that differ in meaning never do: a model with
 * "qwen3moe.rope.freq_base" as a string is broken, and guessing would hide it. */
#include "formats/gguf_priv.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

const char *nm_gguf_kind_name(nm_gguf_kind kind)
{
    static const char *const names[NM_GGUF_KIND_END] = {
        [NM_GGUF_U8] = "u8",   [NM_GGUF_I8] = "i8",       [NM_GGUF_U16] = "u16",
        [NM_GGUF_I16] = "i16", [NM_GGUF_U32] = "u32",     [NM_GGUF_I32] = "i32",
        [NM_GGUF_F32] = "f32", [NM_GGUF_BOOL] = "bool",   [NM_GGUF_STRING] = "string",
        [NM_GGUF_U64] = "u64", [NM_GGUF_ARRAY] = "array", [NM_GGUF_I64] = "i64",
        [NM_GGUF_F64] = "f64",
    };
    return (unsigned)kind < NM_GGUF_KIND_END ? names[kind] : "?";
}

bool nm_gguf_kind_signed(uint32_t kind)
{
    return kind == NM_GGUF_I8 || kind == NM_GGUF_I16 || kind == NM_GGUF_I32 || kind == NM_GGUF_I64;
}

static bool is_integer(nm_gguf_kind kind)
{
    return nm_gguf_kind_signed(kind) || kind == NM_GGUF_U8 || kind == NM_GGUF_U16 ||
           kind == NM_GGUF_U32 || kind == NM_GGUF_U64;
}

static bool is_float(nm_gguf_kind kind)
{
    return kind == NM_GGUF_F32 || kind == NM_GGUF_F64;
}

bool nm_gguf_kv_u64(const nm_gguf_kv *kv, uint64_t max, uint64_t *out)
{
    if (!is_integer(kv->kind) || (nm_gguf_kind_signed(kv->kind) && kv->v.i < 0))
        return false;
    uint64_t v = nm_gguf_kind_signed(kv->kind) ? (uint64_t)kv->v.i : kv->v.u;
    if (v > max)
        return false;
    *out = v;
    return true;
}

/* "a string", "an array of f32", "the integer -1": what was found, for messages. */
static void describe(const nm_gguf_kv *kv, char *buf, size_t bytes)
{
    if (kv->kind == NM_GGUF_ARRAY)
        snprintf(buf, bytes, "an array of %" PRIu64 " %s", kv->v.arr.count,
                 nm_gguf_kind_name(kv->v.arr.kind));
    else if (nm_gguf_kind_signed(kv->kind))
        snprintf(buf, bytes, "%" PRId64 " (%s)", kv->v.i, nm_gguf_kind_name(kv->kind));
    else if (is_integer(kv->kind))
        snprintf(buf, bytes, "%" PRIu64 " (%s)", kv->v.u, nm_gguf_kind_name(kv->kind));
    else if (is_float(kv->kind))
        snprintf(buf, bytes, "%g (%s)", kv->v.f, nm_gguf_kind_name(kv->kind));
    else
        snprintf(buf, bytes, "a %s", nm_gguf_kind_name(kv->kind));
}

static npumoe_status wrong(const nm_gguf *g, const nm_gguf_kv *kv, const char *expected,
                           npumoe_error *err)
{
    char found[80];
    describe(kv, found, sizeof found);
    return nm_err_at(
        err, NPUMOE_EMODEL, kv->offset, "%s: byte %" PRIu64 ": key '%.*s' is %s, expected %s",
        nm_gguf_label(nm_gguf_path(g)), kv->offset, NM_STR_ARG(kv->key), found, expected);
}

static npumoe_status get(const nm_gguf *g, const char *key, const nm_gguf_kv **out,
                         npumoe_error *err)
{
    *out = nm_gguf_find(g, key);
    return *out ? NPUMOE_OK
                : nm_err_set(err, NPUMOE_ENOENT, "%s: key '%s' is missing",
                             nm_gguf_label(nm_gguf_path(g)), key);
}

npumoe_status nm_gguf_get_u32(const nm_gguf *g, const char *key, uint32_t *out, npumoe_error *err)
{
    const nm_gguf_kv *kv;
    uint64_t v;
    NM_TRY(get(g, key, &kv, err));
    if (!nm_gguf_kv_u64(kv, UINT32_MAX, &v))
        return wrong(g, kv, "an integer from 0 to 4294967295", err);
    *out = (uint32_t)v;
    return NPUMOE_OK;
}

npumoe_status nm_gguf_get_f32(const nm_gguf *g, const char *key, float *out, npumoe_error *err)
{
    const nm_gguf_kv *kv;
    NM_TRY(get(g, key, &kv, err));
    if (!is_float(kv->kind))
        return wrong(g, kv, "a number of kind f32 or f64", err);
    if (isfinite(kv->v.f) && fabs(kv->v.f) > (double)FLT_MAX)
        return wrong(g, kv, "a number that fits f32", err);
    *out = (float)kv->v.f;
    return NPUMOE_OK;
}

npumoe_status nm_gguf_get_bool(const nm_gguf *g, const char *key, bool *out, npumoe_error *err)
{
    const nm_gguf_kv *kv;
    NM_TRY(get(g, key, &kv, err));
    if (kv->kind != NM_GGUF_BOOL)
        return wrong(g, kv, "a bool", err);
    *out = kv->v.u != 0;
    return NPUMOE_OK;
}

npumoe_status nm_gguf_get_str(const nm_gguf *g, const char *key, nm_str *out, npumoe_error *err)
{
    const nm_gguf_kv *kv;
    NM_TRY(get(g, key, &kv, err));
    if (kv->kind != NM_GGUF_STRING)
        return wrong(g, kv, "a string", err);
    *out = kv->v.str;
    return NPUMOE_OK;
}

npumoe_status nm_gguf_get_arr(const nm_gguf *g, const char *key, nm_gguf_kind kind,
                              nm_gguf_array *out, npumoe_error *err)
{
    const nm_gguf_kv *kv;
    char expected[48];
    NM_TRY(get(g, key, &kv, err));
    nm_gguf_kind of = kv->v.arr.kind; /* means something only if kv is an array */
    bool fits =
        kv->kind == NM_GGUF_ARRAY && (of == kind || (kind == NM_GGUF_I64 && is_integer(of)) ||
                                      (kind == NM_GGUF_F64 && is_float(of)));
    if (!fits) {
        snprintf(expected, sizeof expected, "an array of %s%s",
                 kind == NM_GGUF_I64   ? "integers"
                 : kind == NM_GGUF_F64 ? "floats"
                                       : nm_gguf_kind_name(kind),
                 kind == NM_GGUF_STRING ? "s" : "");
        return wrong(g, kv, expected, err);
    }
    *out = kv->v.arr;
    return NPUMOE_OK;
}

/* ---- with a default ------------------------------------------------------------------------ */

npumoe_status nm_gguf_u32_or(const nm_gguf *g, const char *key, uint32_t dflt, uint32_t *out,
                             npumoe_error *err)
{
    *out = dflt;
    return nm_gguf_find(g, key) ? nm_gguf_get_u32(g, key, out, err) : NPUMOE_OK;
}

npumoe_status nm_gguf_f32_or(const nm_gguf *g, const char *key, float dflt, float *out,
                             npumoe_error *err)
{
    *out = dflt;
    return nm_gguf_find(g, key) ? nm_gguf_get_f32(g, key, out, err) : NPUMOE_OK;
}

npumoe_status nm_gguf_bool_or(const nm_gguf *g, const char *key, bool dflt, bool *out,
                              npumoe_error *err)
{
    *out = dflt;
    return nm_gguf_find(g, key) ? nm_gguf_get_bool(g, key, out, err) : NPUMOE_OK;
}

npumoe_status nm_gguf_str_or(const nm_gguf *g, const char *key, const char *dflt, nm_str *out,
                             npumoe_error *err)
{
    *out = nm_str_of(dflt);
    return nm_gguf_find(g, key) ? nm_gguf_get_str(g, key, out, err) : NPUMOE_OK;
}

/* ---- elements ------------------------------------------------------------------------------ */

static double element_f64(const nm_gguf_array *arr, uint64_t i)
{
    float f;
    double d;
    if (arr->kind == NM_GGUF_F32) {
        memcpy(&f, arr->data + i * sizeof f, sizeof f);
        return (double)f;
    }
    memcpy(&d, arr->data + i * sizeof d, sizeof d);
    return d;
}

/* memcpy into the low bytes: the host is little endian (gguf.c). */
static uint64_t element_bits(const nm_gguf_array *arr, uint64_t i)
{
    size_t n = nm_gguf_kind_bytes(arr->kind);
    uint64_t v = 0;
    memcpy(&v, arr->data + i * n, n);
    return v;
}

int64_t nm_gguf_arr_i64(const nm_gguf_array *arr, uint64_t i)
{
    if (is_float(arr->kind)) {
        double d = element_f64(arr, i);
        if (!(d > -9.2e18)) /* NaN too */
            return isnan(d) ? 0 : INT64_MIN;
        return d < 9.2e18 ? (int64_t)d : INT64_MAX;
    }
    uint64_t v = element_bits(arr, i);
    if (nm_gguf_kind_signed(arr->kind)) {
        uint64_t sign = (uint64_t)1 << (8 * nm_gguf_kind_bytes(arr->kind) - 1);
        return (int64_t)((v ^ sign) - sign);
    }
    return v > INT64_MAX ? INT64_MAX : (int64_t)v;
}

float nm_gguf_arr_f32(const nm_gguf_array *arr, uint64_t i)
{
    if (!is_float(arr->kind))
        return (float)nm_gguf_arr_i64(arr, i);
    double d = element_f64(arr, i);
    if (isfinite(d) && fabs(d) > (double)FLT_MAX)
        return d < 0 ? -INFINITY : INFINITY;
    return (float)d;
}
