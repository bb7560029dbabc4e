/* gguf_parse.c: the bytes of one GGUF file -> a checked list of keys and tensors.
 *
 * Owns: every check that needs one file only. Must never know: what a key means (but for
 * general.alignment, which the layout depends on), what an architecture is, other files of a set.
 *
 *   byte 0   "GGUF" | u32 version | u64 tensor count | u64 key count
 *   byte 24  keys:    string name | u32 kind | value                        (count times)
 *            tensors: string name | u32 dims | u64 ne[dims] | u32 type | u64 offset
 *            padding to general.alignment
 *            data:    tensors at their offsets, counted from here
 *   string = u64 bytes | bytes;   array = u32 kind | u64 count | elements
 *
 * The file is hostile until shown otherwise:
 *   - nothing is read before take() has seen that it lies inside the file;
 *   - no memory is taken because a count says so: lists grow with entries that were really there,
 *     strings are indexed after all of them were read (and at most NM_GGUF_STRINGS_MAX), and a
 *     count that the rest of the file could not hold is refused first;
 *   - arithmetic on sizes goes through base/num.h;
 *   - nesting is limited, so the recursion is;
 *   - the work is linear in the file, but for two sorts.
 * All numbers are little endian. They are put together from bytes, so neither the host's order nor
 * alignment matters here. (Array payloads and tensor data are handed out as they are: hosts are
 * little endian too, which gguf.c checks at open.)
 *
 * Errors read "FILE: byte N: key 'K': what was found, what was expected" and carry N.
 *
 * Source: the GGUF specification in ggml's docs/gguf.md; where it leaves a case open, the stricter
 * reading was taken unless files in circulation need the other. */
#include "base/num.h"
#include "formats/gguf_priv.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    NAME_SHOWN = 120,                        /* bytes of a name that a message shows */
    KV_MIN_BYTES = 8 + 1 + 4 + 1,            /* name length, name, kind, value */
    TENSOR_MIN_BYTES = 8 + 1 + 4 + 8 + 4 + 8 /* name length, name, dims, ne, type, offset */
};

/* What the reader is inside of, for messages. */
typedef enum place { IN_HEADER, IN_KEY, IN_TENSOR } place;

typedef struct reader {
    const npumoe_allocator *a;
    const unsigned char *data;
    uint64_t bytes, at;
    const char *file;
    place place;
    uint64_t entry; /* number of the key or tensor */
    nm_str name;    /* its name, n == 0 until it is known */
    npumoe_error *err;
} reader;

static NM_PRINTF(4, 5) npumoe_status
    fail(const reader *r, npumoe_status code, uint64_t at, const char *fmt, ...)
{
    char text[300], where[240] = "";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *what = r->place == IN_KEY ? "key" : "tensor";
    const nm_str name = {r->name.p, r->name.n < NAME_SHOWN ? r->name.n : NAME_SHOWN};
    if (r->place != IN_HEADER && name.n)
        snprintf(where, sizeof where, "%s '%.*s': ", what, NM_STR_ARG(name));
    else if (r->place != IN_HEADER)
        snprintf(where, sizeof where, "%s %" PRIu64 ": ", what, r->entry);
    return nm_err_at(r->err, code, at, "%s: byte %" PRIu64 ": %s%s", r->file, at, where, text);
}

/* ---- bytes --------------------------------------------------------------------------------- */

static uint64_t left(const reader *r)
{
    return r->bytes - r->at;
}

static npumoe_status take(reader *r, uint64_t n, const char *what, const unsigned char **out)
{
    if (n > left(r))
        return fail(r, NPUMOE_EFORMAT, r->at,
                    "truncated: %s needs %" PRIu64 " bytes, %" PRIu64 " are left in the file", what,
                    n, left(r));
    *out = r->data + r->at;
    r->at += n;
    return NPUMOE_OK;
}

static uint64_t le(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = n; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

static npumoe_status take_u32(reader *r, const char *what, uint32_t *out)
{
    const unsigned char *p = NULL;
    NM_TRY(take(r, 4, what, &p));
    *out = (uint32_t)le(p, 4);
    return NPUMOE_OK;
}

static npumoe_status take_u64(reader *r, const char *what, uint64_t *out)
{
    const unsigned char *p = NULL;
    NM_TRY(take(r, 8, what, &p));
    *out = le(p, 8);
    return NPUMOE_OK;
}

static npumoe_status take_str(reader *r, const char *length_of, const char *what, nm_str *out)
{
    uint64_t n;
    const unsigned char *p = NULL;
    NM_TRY(take_u64(r, length_of, &n));
    NM_TRY(take(r, n, what, &p));
    *out = (nm_str){(const char *)p, (size_t)n};
    return NPUMOE_OK;
}

/* The name of a key or tensor: min 1, max bytes. Sets r->name. */
static npumoe_status take_name(reader *r, uint64_t max)
{
    uint64_t at = r->at;
    nm_str name;
    NM_TRY(take_str(r, "the length of the name", "the name", &name));
    if (name.n < 1 || name.n > max)
        return fail(r, NPUMOE_EFORMAT, at, "the name has %zu bytes, expected 1 to %" PRIu64, name.n,
                    max);
    r->name = name;
    return NPUMOE_OK;
}

/* ---- values -------------------------------------------------------------------------------- */

size_t nm_gguf_kind_bytes(uint32_t kind)
{
    static const unsigned char bytes[NM_GGUF_KIND_END] = {
        [NM_GGUF_U8] = 1,  [NM_GGUF_I8] = 1,  [NM_GGUF_U16] = 2, [NM_GGUF_I16] = 2,
        [NM_GGUF_U32] = 4, [NM_GGUF_I32] = 4, [NM_GGUF_F32] = 4, [NM_GGUF_BOOL] = 1,
        [NM_GGUF_U64] = 8, [NM_GGUF_I64] = 8, [NM_GGUF_F64] = 8,
    };
    return kind < NM_GGUF_KIND_END ? bytes[kind] : 0;
}

static npumoe_status take_kind(reader *r, const char *what, nm_gguf_kind *out)
{
    uint64_t at = r->at;
    uint32_t kind;
    NM_TRY(take_u32(r, what, &kind));
    if (kind >= NM_GGUF_KIND_END)
        return fail(r, NPUMOE_EFORMAT, at, "%s is %" PRIu32 ", expected 0 to %d", what, kind,
                    NM_GGUF_KIND_END - 1);
    *out = (nm_gguf_kind)kind;
    return NPUMOE_OK;
}

static npumoe_status check_bools(const reader *r, const unsigned char *p, uint64_t n, uint64_t at)
{
    for (uint64_t i = 0; i < n; i++)
        if (p[i] > 1)
            return fail(r, NPUMOE_EFORMAT, at + i, "a boolean is %u, expected 0 or 1", p[i]);
    return NPUMOE_OK;
}

static npumoe_status take_scalars(reader *r, nm_gguf_kind kind, uint64_t count,
                                  const unsigned char **out)
{
    uint64_t at = r->at, size = nm_gguf_kind_bytes(kind);
    if (count > left(r) / size)
        return fail(r, NPUMOE_EFORMAT, at,
                    "truncated: an array of %" PRIu64 " x %" PRIu64 " bytes, %" PRIu64
                    " are left in the file",
                    count, size, left(r));
    NM_TRY(take(r, count * size, "an array", out));
    return kind == NM_GGUF_BOOL ? check_bools(r, *out, count, at) : NPUMOE_OK;
}

/* strings may be NULL: then they are only checked. */
static npumoe_status take_strings(reader *r, uint64_t count, nm_str *strings)
{
    nm_str s;
    for (uint64_t i = 0; i < count; i++) {
        NM_TRY(take_str(r, "the length of a string", "a string", &s));
        if (strings)
            strings[i] = s;
    }
    return NPUMOE_OK;
}

/* The kind and count of an array; refuses a count that the rest of the file cannot hold. */
static npumoe_status take_array_head(reader *r, nm_gguf_array *arr)
{
    NM_TRY(take_kind(r, "the kind of the array's elements", &arr->kind));
    uint64_t at = r->at;
    NM_TRY(take_u64(r, "the array's count", &arr->count));
    uint64_t least = arr->kind == NM_GGUF_STRING  ? 8
                     : arr->kind == NM_GGUF_ARRAY ? 12
                                                  : nm_gguf_kind_bytes(arr->kind);
    if (arr->count > left(r) / least)
        return fail(r, NPUMOE_EFORMAT, at,
                    "the array's count is %" PRIu64 ", but the %" PRIu64
                    " bytes left in the file hold at most %" PRIu64 " of kind %s",
                    arr->count, left(r), left(r) / least, nm_gguf_kind_name(arr->kind));
    return NPUMOE_OK;
}

/* Checks the elements of an array and steps over them. */
static npumoe_status skip_elements(reader *r, const nm_gguf_array *arr, int depth)
{
    const unsigned char *p = NULL;
    if (arr->kind == NM_GGUF_STRING)
        return take_strings(r, arr->count, NULL);
    if (arr->kind != NM_GGUF_ARRAY)
        return take_scalars(r, arr->kind, arr->count, &p);
    if (depth >= NM_GGUF_DEPTH_MAX)
        return fail(r, NPUMOE_EFORMAT, r->at, "arrays are nested deeper than %d levels",
                    NM_GGUF_DEPTH_MAX);
    for (uint64_t i = 0; i < arr->count; i++) {
        nm_gguf_array inner = {0};
        NM_TRY(take_array_head(r, &inner));
        NM_TRY(skip_elements(r, &inner, depth + 1));
    }
    return NPUMOE_OK;
}

/* The strings are read twice: the index is made when all of them have been there. A string is at
 * least 8 bytes of the file, so the index is at most twice as large as the array itself. */
static npumoe_status index_strings(reader *r, nm_gguf_array *arr)
{
    if (arr->count > NM_GGUF_STRINGS_MAX)
        return fail(r, NPUMOE_EFORMAT, r->at - 8,
                    "the array's count is %" PRIu64 ", expected at most %d strings", arr->count,
                    NM_GGUF_STRINGS_MAX);
    const uint64_t from = r->at;
    NM_TRY(take_strings(r, arr->count, NULL));
    nm_str *strings = nm_alloc_array(r->a, (size_t)arr->count, sizeof *strings);
    if (!strings)
        return nm_err_nomem(r->err, arr->count * sizeof *strings, "an array of strings");
    arr->strings = strings; /* owned by the kv from here */
    r->at = from;
    return take_strings(r, arr->count, strings);
}

static npumoe_status take_array(reader *r, nm_gguf_array *arr)
{
    NM_TRY(take_array_head(r, arr));
    arr->data = r->data + r->at;
    uint64_t from = r->at;
    NM_TRY(arr->kind == NM_GGUF_STRING ? index_strings(r, arr) : skip_elements(r, arr, 1));
    arr->bytes = r->at - from;
    return NPUMOE_OK;
}

static int64_t sign_extend(uint64_t v, size_t bytes)
{
    uint64_t sign = (uint64_t)1 << (8 * bytes - 1);
    return (int64_t)((v ^ sign) - sign);
}

static npumoe_status take_scalar(reader *r, nm_gguf_kv *kv)
{
    const unsigned char *p = NULL;
    size_t n = nm_gguf_kind_bytes(kv->kind);
    uint64_t at = r->at;
    NM_TRY(take(r, n, "the value", &p));
    uint64_t bits = le(p, n);
    if (kv->kind == NM_GGUF_F32) {
        uint32_t bits32 = (uint32_t)bits;
        float f;
        memcpy(&f, &bits32, sizeof f);
        kv->v.f = (double)f;
    } else if (kv->kind == NM_GGUF_F64) {
        memcpy(&kv->v.f, &bits, sizeof kv->v.f);
    } else if (nm_gguf_kind_signed(kv->kind)) {
        kv->v.i = sign_extend(bits, n);
    } else {
        kv->v.u = bits;
    }
    return kv->kind == NM_GGUF_BOOL ? check_bools(r, p, 1, at) : NPUMOE_OK;
}

static npumoe_status take_kv(reader *r, nm_gguf_kv *kv)
{
    NM_TRY(take_name(r, NM_GGUF_KEY_MAX));
    kv->key = r->name;
    NM_TRY(take_kind(r, "the kind", &kv->kind));
    kv->offset = r->at;
    if (kv->kind == NM_GGUF_STRING)
        return take_str(r, "the length of the value", "the value", &kv->v.str);
    if (kv->kind == NM_GGUF_ARRAY)
        return take_array(r, &kv->v.arr);
    return take_scalar(r, kv);
}

/* ---- tensors ------------------------------------------------------------------------------- */

static npumoe_status take_shape(reader *r, nm_gguf_tensor *t)
{
    uint64_t at = r->at;
    NM_TRY(take_u32(r, "the number of dimensions", &t->n_dims));
    if (t->n_dims < 1 || t->n_dims > 4)
        return fail(r, NPUMOE_EFORMAT, at, "%" PRIu32 " dimensions, expected 1 to 4", t->n_dims);
    uint64_t product = 1;
    for (uint32_t d = 0; d < 4; d++) {
        t->ne[d] = 1;
        if (d >= t->n_dims)
            continue;
        at = r->at;
        NM_TRY(take_u64(r, "a dimension", &t->ne[d]));
        if (t->ne[d] == 0)
            return fail(r, NPUMOE_EFORMAT, at, "dimension %" PRIu32 " is 0, expected 1 or more", d);
        if (!nm_mul_u64(product, t->ne[d], &product) || product > INT64_MAX)
            return fail(r, NPUMOE_EFORMAT, at,
                        "the product of its dimensions exceeds 2^63 - 1 (dimension %" PRIu32
                        " is %" PRIu64 ")",
                        d, t->ne[d]);
    }
    return NPUMOE_OK;
}

static npumoe_status take_type(reader *r, nm_gguf_tensor *t)
{
    uint64_t at = r->at;
    NM_TRY(take_u32(r, "the type", &t->type));
    const nm_type_traits *traits = nm_type_get(t->type);
    if (!traits->name)
        return fail(r, NPUMOE_EUNSUPPORTED, at,
                    "its type has the number %" PRIu32 ", which is none of ggml's types known here",
                    t->type);
    if (t->ne[0] % traits->block_elems)
        return fail(r, NPUMOE_EFORMAT, at,
                    "its rows have %" PRIu64 " elements, expected a multiple of %" PRIu32
                    ", the block of type %s",
                    t->ne[0], traits->block_elems, traits->name);
    uint64_t rows = t->ne[1] * t->ne[2] * t->ne[3]; /* take_shape saw that this fits */
    if (!nm_row_bytes(t->type, t->ne[0], &t->bytes) || !nm_mul_u64(t->bytes, rows, &t->bytes) ||
        t->bytes > INT64_MAX)
        return fail(r, NPUMOE_EFORMAT, at, "its size in bytes as %s exceeds 2^63 - 1",
                    traits->name);
    return NPUMOE_OK;
}

/* t->offset is still relative to the start of the data; place_tensors() makes it absolute. */
static npumoe_status take_tensor(reader *r, uint64_t alignment, nm_gguf_tensor *t)
{
    NM_TRY(take_name(r, NM_GGUF_NAME_MAX));
    t->name = r->name;
    NM_TRY(take_shape(r, t));
    NM_TRY(take_type(r, t));
    uint64_t at = r->at;
    NM_TRY(take_u64(r, "the offset", &t->offset));
    if (t->offset % alignment)
        return fail(r, NPUMOE_EFORMAT, at,
                    "its offset is %" PRIu64 ", expected a multiple of the alignment, %" PRIu64,
                    t->offset, alignment);
    return NPUMOE_OK;
}

/* ---- where the data lies ------------------------------------------------------------------- */

static npumoe_status place_tensor(reader *r, uint64_t data_at, nm_gguf_tensor *t)
{
    uint64_t from, end;
    r->name = t->name;
    uint64_t entry_at = (uint64_t)((const unsigned char *)t->name.p - r->data);
    if (!nm_add_u64(data_at, t->offset, &from) || !nm_add_u64(from, t->bytes, &end))
        return fail(r, NPUMOE_EFORMAT, entry_at, "its offset %" PRIu64 " plus size overflows",
                    t->offset);
    if (end > r->bytes)
        return fail(r, NPUMOE_EFORMAT, r->bytes,
                    "truncated: its data are bytes %" PRIu64 " to %" PRIu64
                    ", the file ends at %" PRIu64,
                    from, end, r->bytes);
    t->offset = from;
    t->data = r->data + from;
    return NPUMOE_OK;
}

static int by_offset(const void *pa, const void *pb)
{
    const nm_gguf_tensor *a = *(const nm_gguf_tensor *const *)pa;
    const nm_gguf_tensor *b = *(const nm_gguf_tensor *const *)pb;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return (a > b) - (a < b); /* one array: file order decides, so messages are stable */
}

/* Sorted by offset, each tensor must end before the next begins. */
static npumoe_status check_overlaps(reader *r, const nm_gguf_tensor *tensors, size_t n)
{
    const nm_gguf_tensor **order = nm_alloc_array(r->a, n, sizeof *order);
    if (!order)
        return nm_err_nomem(r->err, n * sizeof *order, "the order of tensors");
    for (size_t i = 0; i < n; i++)
        order[i] = &tensors[i];
    qsort(order, n, sizeof *order, by_offset);
    npumoe_status st = NPUMOE_OK;
    for (size_t i = 1; i < n && st == NPUMOE_OK; i++) {
        const nm_gguf_tensor *prev = order[i - 1], *t = order[i];
        if (t->offset >= prev->offset + prev->bytes)
            continue;
        r->name = t->name;
        st = fail(r, NPUMOE_EFORMAT, t->offset,
                  "its data overlap those of '%.*s', bytes %" PRIu64 " to %" PRIu64,
                  NM_STR_ARG(prev->name), prev->offset, prev->offset + prev->bytes);
    }
    nm_free(r->a, order);
    return st;
}

static npumoe_status place_tensors(reader *r, nm_gguf_part *part)
{
    uint64_t data_at;
    r->place = IN_TENSOR;
    if (part->n_tensors == 0)
        return NPUMOE_OK;
    if (!nm_align_u64(r->at, part->alignment, &data_at)) /* at <= bytes: needs a 2^64 byte file */
        return fail(r, NPUMOE_EFORMAT, r->at, "the start of the data overflows");
    for (size_t i = 0; i < part->n_tensors; i++)
        NM_TRY(place_tensor(r, data_at, &part->tensors[i]));
    return check_overlaps(r, part->tensors, part->n_tensors);
}

/* ---- the file ------------------------------------------------------------------------------ */

static npumoe_status check_version(const reader *r, uint32_t version)
{
    if (version >= 2 && version <= 3)
        return NPUMOE_OK;
    if ((version & 0xffff) == 0 && version != 0)
        return fail(r, NPUMOE_EUNSUPPORTED, 4,
                    "a big-endian file (version field 0x%08" PRIx32
                    "); little-endian files are supported",
                    version);
    return fail(r, NPUMOE_EUNSUPPORTED, 4,
                "GGUF version %" PRIu32 "; versions 2 and 3 are supported", version);
}

static npumoe_status check_count(const reader *r, uint64_t at, const char *what, uint64_t count,
                                 uint64_t least)
{
    if (count <= left(r) / least)
        return NPUMOE_OK;
    return fail(r, NPUMOE_EFORMAT, at,
                "the header says %" PRIu64 " %s, but the %" PRIu64
                " bytes that follow hold at most %" PRIu64,
                count, what, left(r), left(r) / least);
}

static npumoe_status take_header(reader *r, uint32_t *version, uint64_t *n_kv, uint64_t *n_tensors)
{
    const unsigned char *magic = NULL;
    if (r->bytes == 0)
        return fail(r, NPUMOE_EFORMAT, 0, "the file is empty, expected a GGUF file");
    NM_TRY(take(r, 4, "the magic 'GGUF'", &magic));
    if (memcmp(magic, "GGUF", 4) != 0)
        return fail(r, NPUMOE_EFORMAT, 0,
                    "not a GGUF file: it begins with %02x %02x %02x %02x, expected 47 47 55 46 "
                    "('GGUF')",
                    magic[0], magic[1], magic[2], magic[3]);
    NM_TRY(take_u32(r, "the version", version));
    NM_TRY(check_version(r, *version));
    NM_TRY(take_u64(r, "the number of tensors", n_tensors));
    NM_TRY(take_u64(r, "the number of keys", n_kv));
    NM_TRY(check_count(r, 8, "tensors", *n_tensors, TENSOR_MIN_BYTES));
    return check_count(r, 16, "keys", *n_kv, KV_MIN_BYTES);
}

/* A list that grows in capacity cap; the new last element is zeroed, so that a failure half-way
 * leaves nothing to free that is not there. */
static npumoe_status take_kvs(reader *r, nm_gguf_part *part, uint64_t count)
{
    size_t cap = 0;
    void *list = NULL;
    for (r->entry = 0; r->entry < count; r->entry++) {
        r->place = IN_KEY;
        r->name = (nm_str){NULL, 0};
        NM_TRY(nm_grow(r->a, &list, &cap, part->n_kv + 1, sizeof *part->kv, r->err));
        part->kv = list;
        nm_gguf_kv *kv = &part->kv[part->n_kv++];
        memset(kv, 0, sizeof *kv);
        NM_TRY(take_kv(r, kv));
    }
    return NPUMOE_OK;
}

static npumoe_status take_tensors(reader *r, nm_gguf_part *part, uint64_t count)
{
    size_t cap = 0;
    void *list = NULL;
    for (r->entry = 0; r->entry < count; r->entry++) {
        r->place = IN_TENSOR;
        r->name = (nm_str){NULL, 0};
        NM_TRY(nm_grow(r->a, &list, &cap, part->n_tensors + 1, sizeof *part->tensors, r->err));
        part->tensors = list;
        nm_gguf_tensor *t = &part->tensors[part->n_tensors++];
        memset(t, 0, sizeof *t);
        NM_TRY(take_tensor(r, part->alignment, t));
    }
    return NPUMOE_OK;
}

/* The alignment is needed before names are indexed, so this looks through the list. A second
 * general.alignment is refused with the other duplicates. */
static npumoe_status find_alignment(reader *r, nm_gguf_part *part)
{
    part->alignment = NM_GGUF_ALIGN_DEFAULT;
    r->place = IN_KEY;
    for (size_t i = 0; i < part->n_kv; i++) {
        const nm_gguf_kv *kv = &part->kv[i];
        if (!nm_str_eqz(kv->key, "general.alignment"))
            continue;
        r->name = kv->key;
        if (kv->kind != NM_GGUF_U32)
            return fail(r, NPUMOE_EFORMAT, kv->offset, "is of kind %s, expected u32",
                        nm_gguf_kind_name(kv->kind));
        uint64_t v = kv->v.u;
        if (v < NM_GGUF_ALIGN_MIN || v > NM_GGUF_ALIGN_MAX || (v & (v - 1)))
            return fail(r, NPUMOE_EFORMAT, kv->offset,
                        "is %" PRIu64 ", expected a power of two from %d to %u", v,
                        NM_GGUF_ALIGN_MIN, NM_GGUF_ALIGN_MAX);
        part->alignment = v;
        return NPUMOE_OK;
    }
    return NPUMOE_OK;
}

/* Names of one file are unique. (Over a whole set, gguf.c looks again at tensors.) */
static npumoe_status check_unique(reader *r, place where, const void *entries, size_t entry_bytes,
                                  size_t n)
{
    nm_gguf_name *index;
    size_t twice;
    NM_TRY(nm_gguf_index(r->a, entries, entry_bytes, n, &index, &twice, r->err));
    nm_free(r->a, index);
    if (twice == n)
        return NPUMOE_OK;
    r->place = where;
    memcpy(&r->name, (const char *)entries + twice * entry_bytes, sizeof r->name);
    uint64_t at = (uint64_t)((const unsigned char *)r->name.p - r->data);
    return fail(r, NPUMOE_EFORMAT, at, "occurs twice");
}

npumoe_status nm_gguf_part_parse(nm_gguf_part *part, const npumoe_allocator *a, npumoe_error *err)
{
    reader r = {.a = a,
                .data = part->data,
                .bytes = part->bytes,
                .file = nm_gguf_label(part->path),
                .err = err};
    uint64_t n_kv, n_tensors;
    NM_TRY(take_header(&r, &part->version, &n_kv, &n_tensors));
    NM_TRY(take_kvs(&r, part, n_kv));
    NM_TRY(find_alignment(&r, part));
    NM_TRY(take_tensors(&r, part, n_tensors));
    NM_TRY(check_unique(&r, IN_KEY, part->kv, sizeof *part->kv, part->n_kv));
    NM_TRY(check_unique(&r, IN_TENSOR, part->tensors, sizeof *part->tensors, part->n_tensors));
    return place_tensors(&r, part);
}

const char *nm_gguf_label(const char *path)
{
    const size_t shown = 120, n = strlen(path);
    return n > shown ? path + n - shown : path;
}

void nm_gguf_part_fini(nm_gguf_part *part, const npumoe_allocator *a)
{
    for (size_t i = 0; i < part->n_kv; i++)
        if (part->kv[i].kind == NM_GGUF_ARRAY)
            nm_free(a, (void *)(uintptr_t)part->kv[i].v.arr.strings);
    nm_free(a, part->kv);
    nm_free(a, part->tensors);
    nm_map_close(&part->map);
    nm_free(a, part->path);
    memset(part, 0, sizeof *part);
}
