/* gguf_write.c: a GGUF v3 file in one pass.
 *
 * Keys are encoded as they come into one buffer; tensors are declared before any data, so every
 * offset is known when the header is written and nothing is ever patched. What is kept in memory
 * is the metadata, never tensor data. The layout is the one that llama.cpp's reader demands, which
 * is stricter than ours: tensors in the order of their declaration, each padded to the alignment,
 * the last one too.
 *
 * The writer refuses what the reader would refuse (names, shapes, duplicates), so a bug in a caller
 * shows here and not in the next program. */
#include "formats/gguf_write.h"
#include "base/num.h"
#include "formats/gguf_priv.h"

#include <inttypes.h>

typedef struct buffer {
    const npumoe_allocator *a;
    void *p;
    size_t n, cap;
} buffer;

typedef struct out_key {
    nm_str name; /* first, for nm_gguf_index; owned copy */
} out_key;

typedef struct out_tensor {
    nm_str name; /* first, for nm_gguf_index; owned copy */
    uint32_t type, n_dims;
    uint64_t ne[4];
    uint64_t bytes, offset;
} out_tensor;

struct nm_gguf_writer {
    const npumoe_allocator *a;
    char *path;
    nm_outfile *file;
    buffer kv; /* the encoded keys */
    uint64_t alignment;
    out_key *keys;
    size_t n_keys, cap_keys;
    out_tensor *tensors;
    size_t n_tensors, cap_tensors;
    bool in_data;     /* begin_data was called */
    size_t current;   /* the tensor that write_data is in */
    uint64_t written; /* bytes of it */
};

/* ---- bytes --------------------------------------------------------------------------------- */

static npumoe_status put(buffer *b, const void *data, size_t n, npumoe_error *err)
{
    if (n > SIZE_MAX - b->n)
        return nm_err_nomem(err, n, "metadata");
    NM_TRY(nm_grow(b->a, &b->p, &b->cap, b->n + n, 1, err));
    if (n)
        memcpy((char *)b->p + b->n, data, n);
    b->n += n;
    return NPUMOE_OK;
}

/* The n low bytes of v, low first. */
static npumoe_status put_le(buffer *b, uint64_t v, size_t n, npumoe_error *err)
{
    unsigned char raw[8];
    for (size_t i = 0; i < n; i++)
        raw[i] = (unsigned char)(v >> (8 * i));
    return put(b, raw, n, err);
}

static npumoe_status put_str(buffer *b, nm_str s, npumoe_error *err)
{
    NM_TRY(put_le(b, s.n, 8, err));
    return put(b, s.p, s.n, err);
}

/* ---- life ---------------------------------------------------------------------------------- */

npumoe_status nm_gguf_writer_new(const npumoe_allocator *a, const char *path, nm_gguf_writer **out,
                                 npumoe_error *err)
{
    a = nm_allocator_or_default(a);
    nm_gguf_writer *w = nm_zalloc(a, sizeof *w);
    if (!w)
        return nm_err_nomem(err, sizeof *w, "a GGUF writer");
    w->a = w->kv.a = a;
    w->alignment = NM_GGUF_ALIGN_DEFAULT;
    w->path = nm_strndup(a, path, strlen(path));
    npumoe_status st = w->path ? nm_outfile_new(a, path, &w->file, err)
                               : nm_err_nomem(err, strlen(path), "a file name");
    if (st != NPUMOE_OK) {
        nm_gguf_writer_free(&w);
        return st;
    }
    *out = w;
    return NPUMOE_OK;
}

void nm_gguf_writer_free(nm_gguf_writer **writer)
{
    nm_gguf_writer *w = *writer;
    if (!w)
        return;
    nm_outfile_free(&w->file);
    for (size_t i = 0; i < w->n_keys; i++)
        nm_free(w->a, (void *)(uintptr_t)w->keys[i].name.p);
    for (size_t i = 0; i < w->n_tensors; i++)
        nm_free(w->a, (void *)(uintptr_t)w->tensors[i].name.p);
    nm_free(w->a, w->keys);
    nm_free(w->a, w->tensors);
    nm_free(w->a, w->kv.p);
    nm_free(w->a, w->path);
    nm_free(w->a, w);
    *writer = NULL;
}

/* ---- keys ---------------------------------------------------------------------------------- */

static npumoe_status copy_name(const nm_gguf_writer *w, nm_str name, size_t max, nm_str *out,
                               npumoe_error *err)
{
    if (w->in_data)
        return nm_err_set(err, NPUMOE_EINVAL, "%s: '%.*s' comes after the data began", w->path,
                          NM_STR_ARG(name));
    if (name.n < 1 || name.n > max)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "%s: the name '%.*s' has %zu bytes, expected 1 to %zu", w->path,
                          NM_STR_ARG(name), name.n, max);
    char *copy = nm_strndup(w->a, name.p, name.n);
    if (!copy)
        return nm_err_nomem(err, name.n, "a name");
    *out = (nm_str){copy, name.n};
    return NPUMOE_OK;
}

/* Name and kind of a key; its value follows. */
static npumoe_status begin_key(nm_gguf_writer *w, nm_str key, nm_gguf_kind kind, npumoe_error *err)
{
    void *keys = w->keys;
    npumoe_status st = nm_grow(w->a, &keys, &w->cap_keys, w->n_keys + 1, sizeof *w->keys, err);
    w->keys = keys;
    NM_TRY(st);
    NM_TRY(copy_name(w, key, NM_GGUF_KEY_MAX, &w->keys[w->n_keys].name, err));
    w->n_keys++;
    NM_TRY(put_str(&w->kv, key, err));
    return put_le(&w->kv, kind, 4, err);
}

static npumoe_status put_scalar(nm_gguf_writer *w, nm_str key, nm_gguf_kind kind, uint64_t bits,
                                npumoe_error *err)
{
    if (nm_str_eqz(key, "general.alignment")) {
        if (kind != NM_GGUF_U32 || bits < NM_GGUF_ALIGN_MIN || bits > NM_GGUF_ALIGN_MAX ||
            (bits & (bits - 1)))
            return nm_err_set(err, NPUMOE_EINVAL,
                              "%s: general.alignment must be a power of two from %d to %u", w->path,
                              NM_GGUF_ALIGN_MIN, NM_GGUF_ALIGN_MAX);
        w->alignment = bits;
    }
    NM_TRY(begin_key(w, key, kind, err));
    return put_le(&w->kv, bits, nm_gguf_kind_bytes(kind), err);
}

npumoe_status nm_gguf_put_u32(nm_gguf_writer *w, const char *key, uint32_t v, npumoe_error *err)
{
    return put_scalar(w, nm_str_of(key), NM_GGUF_U32, v, err);
}

npumoe_status nm_gguf_put_u64(nm_gguf_writer *w, const char *key, uint64_t v, npumoe_error *err)
{
    return put_scalar(w, nm_str_of(key), NM_GGUF_U64, v, err);
}

npumoe_status nm_gguf_put_i32(nm_gguf_writer *w, const char *key, int32_t v, npumoe_error *err)
{
    return put_scalar(w, nm_str_of(key), NM_GGUF_I32, (uint32_t)v, err);
}

npumoe_status nm_gguf_put_f32(nm_gguf_writer *w, const char *key, float v, npumoe_error *err)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_scalar(w, nm_str_of(key), NM_GGUF_F32, bits, err);
}

npumoe_status nm_gguf_put_bool(nm_gguf_writer *w, const char *key, bool v, npumoe_error *err)
{
    return put_scalar(w, nm_str_of(key), NM_GGUF_BOOL, v, err);
}

npumoe_status nm_gguf_put_str(nm_gguf_writer *w, const char *key, nm_str v, npumoe_error *err)
{
    NM_TRY(begin_key(w, nm_str_of(key), NM_GGUF_STRING, err));
    return put_str(&w->kv, v, err);
}

static npumoe_status begin_array(nm_gguf_writer *w, nm_str key, nm_gguf_kind kind, uint64_t n,
                                 npumoe_error *err)
{
    NM_TRY(begin_key(w, key, NM_GGUF_ARRAY, err));
    NM_TRY(put_le(&w->kv, kind, 4, err));
    return put_le(&w->kv, n, 8, err);
}

npumoe_status nm_gguf_put_str_array(nm_gguf_writer *w, const char *key, const nm_str *v, size_t n,
                                    npumoe_error *err)
{
    NM_TRY(begin_array(w, nm_str_of(key), NM_GGUF_STRING, n, err));
    for (size_t i = 0; i < n; i++)
        NM_TRY(put_str(&w->kv, v[i], err));
    return NPUMOE_OK;
}

npumoe_status nm_gguf_put_array(nm_gguf_writer *w, const char *key, nm_gguf_kind kind,
                                const void *data, size_t n, npumoe_error *err)
{
    size_t bytes, size = nm_gguf_kind_bytes(kind);
    if (size == 0 || !nm_mul_size(n, size, &bytes))
        return nm_err_set(err, NPUMOE_EINVAL, "%s: key '%s': %zu elements of kind %s are no array",
                          w->path, key, n, nm_gguf_kind_name(kind));
    NM_TRY(begin_array(w, nm_str_of(key), kind, n, err));
    return put(&w->kv, data, bytes, err);
}

/* The payload of an array lies in the file as it must lie in ours, so it is copied whole. */
npumoe_status nm_gguf_put_copy(nm_gguf_writer *w, const nm_gguf_kv *kv, npumoe_error *err)
{
    uint64_t bits;
    uint32_t bits32;
    float f;
    switch (kv->kind) {
    case NM_GGUF_STRING:
        NM_TRY(begin_key(w, kv->key, kv->kind, err));
        return put_str(&w->kv, kv->v.str, err);
    case NM_GGUF_ARRAY:
        NM_TRY(begin_array(w, kv->key, kv->v.arr.kind, kv->v.arr.count, err));
        return put(&w->kv, kv->v.arr.data, (size_t)kv->v.arr.bytes, err);
    case NM_GGUF_F32:
        f = (float)kv->v.f; /* exact: it was a float */
        memcpy(&bits32, &f, sizeof bits32);
        return put_scalar(w, kv->key, kv->kind, bits32, err);
    case NM_GGUF_F64:
        memcpy(&bits, &kv->v.f, sizeof bits);
        return put_scalar(w, kv->key, kv->kind, bits, err);
    default:
        bits = nm_gguf_kind_signed(kv->kind) ? (uint64_t)kv->v.i : kv->v.u;
        return put_scalar(w, kv->key, kv->kind, bits, err);
    }
}

/* ---- tensors ------------------------------------------------------------------------------- */

static npumoe_status check_shape(const nm_gguf_writer *w, out_tensor *t, npumoe_error *err)
{
    const nm_type_traits *traits = nm_type_get(t->type);
    bool fits = t->n_dims >= 1 && t->n_dims <= 4 && nm_row_bytes(t->type, t->ne[0], &t->bytes) &&
                t->ne[0] > 0;
    for (uint32_t d = 1; d < t->n_dims && fits; d++)
        fits = t->ne[d] > 0 && nm_mul_u64(t->bytes, t->ne[d], &t->bytes) && t->bytes <= INT64_MAX;
    if (fits)
        return NPUMOE_OK;
    return nm_err_set(err, NPUMOE_EINVAL,
                      "%s: tensor '%.*s': shape %" PRIu64 " x %" PRIu64 " x %" PRIu64 " x %" PRIu64
                      " (%" PRIu32 " dimensions) is impossible for type %s",
                      w->path, NM_STR_ARG(t->name), t->ne[0], t->ne[1], t->ne[2], t->ne[3],
                      t->n_dims, traits->name ? traits->name : "?");
}

npumoe_status nm_gguf_put_tensor(nm_gguf_writer *w, const char *name, uint32_t type,
                                 uint32_t n_dims, const uint64_t *ne, npumoe_error *err)
{
    void *tensors = w->tensors;
    out_tensor t = {.type = type, .n_dims = n_dims, .ne = {1, 1, 1, 1}};
    for (uint32_t d = 0; n_dims <= 4 && d < n_dims; d++) /* check_shape refuses more */
        t.ne[d] = ne[d];
    t.name = nm_str_of(name);
    NM_TRY(check_shape(w, &t, err));
    npumoe_status st =
        nm_grow(w->a, &tensors, &w->cap_tensors, w->n_tensors + 1, sizeof *w->tensors, err);
    w->tensors = tensors;
    NM_TRY(st);
    NM_TRY(copy_name(w, nm_str_of(name), NM_GGUF_NAME_MAX, &t.name, err));
    w->tensors[w->n_tensors++] = t;
    return NPUMOE_OK;
}

static npumoe_status check_unique(const nm_gguf_writer *w, const void *entries, size_t entry_bytes,
                                  size_t n, const char *what, npumoe_error *err)
{
    nm_gguf_name *index;
    size_t twice;
    nm_str name;
    NM_TRY(nm_gguf_index(w->a, entries, entry_bytes, n, &index, &twice, err));
    nm_free(w->a, index);
    if (twice == n)
        return NPUMOE_OK;
    memcpy(&name, (const char *)entries + twice * entry_bytes, sizeof name);
    return nm_err_set(err, NPUMOE_EINVAL, "%s: %s '%.*s' is there twice", w->path, what,
                      NM_STR_ARG(name));
}

/* Offsets are fixed here and not at declaration, for general.alignment may come late. */
static npumoe_status place_tensors(nm_gguf_writer *w, npumoe_error *err)
{
    uint64_t end = 0;
    for (size_t i = 0; i < w->n_tensors; i++) {
        out_tensor *t = &w->tensors[i];
        if (!nm_align_u64(end, w->alignment, &t->offset) || !nm_add_u64(t->offset, t->bytes, &end))
            return nm_err_set(err, NPUMOE_EINVAL, "%s: the tensors exceed 2^64 bytes", w->path);
    }
    return NPUMOE_OK;
}

static npumoe_status put_tensor_infos(const nm_gguf_writer *w, buffer *b, npumoe_error *err)
{
    for (size_t i = 0; i < w->n_tensors; i++) {
        const out_tensor *t = &w->tensors[i];
        NM_TRY(put_str(b, t->name, err));
        NM_TRY(put_le(b, t->n_dims, 4, err));
        for (uint32_t d = 0; d < t->n_dims; d++)
            NM_TRY(put_le(b, t->ne[d], 8, err));
        NM_TRY(put_le(b, t->type, 4, err));
        NM_TRY(put_le(b, t->offset, 8, err));
    }
    return NPUMOE_OK;
}

static npumoe_status put_padding(buffer *b, uint64_t at, uint64_t alignment, npumoe_error *err)
{
    while (at++ % alignment)
        NM_TRY(put_le(b, 0, 1, err));
    return NPUMOE_OK;
}

static npumoe_status write_header(nm_gguf_writer *w, buffer *head, buffer *tail, npumoe_error *err)
{
    NM_TRY(put(head, "GGUF", 4, err));
    NM_TRY(put_le(head, 3, 4, err));
    NM_TRY(put_le(head, w->n_tensors, 8, err));
    NM_TRY(put_le(head, w->n_keys, 8, err));
    NM_TRY(put_tensor_infos(w, tail, err));
    NM_TRY(put_padding(tail, head->n + w->kv.n + tail->n, w->alignment, err));
    NM_TRY(nm_outfile_write(w->file, head->p, head->n, err));
    NM_TRY(nm_outfile_write(w->file, w->kv.p, w->kv.n, err));
    return nm_outfile_write(w->file, tail->p, tail->n, err);
}

npumoe_status nm_gguf_begin_data(nm_gguf_writer *w, npumoe_error *err)
{
    if (w->in_data)
        return nm_err_set(err, NPUMOE_EINVAL, "%s: the data have begun already", w->path);
    NM_TRY(check_unique(w, w->keys, sizeof *w->keys, w->n_keys, "key", err));
    NM_TRY(check_unique(w, w->tensors, sizeof *w->tensors, w->n_tensors, "tensor", err));
    NM_TRY(place_tensors(w, err));
    w->in_data = true;
    buffer head = {.a = w->a}, tail = {.a = w->a};
    npumoe_status st = write_header(w, &head, &tail, err);
    nm_free(w->a, head.p);
    nm_free(w->a, tail.p);
    return st;
}

/* ---- data ---------------------------------------------------------------------------------- */

static npumoe_status write_padding(nm_gguf_writer *w, uint64_t at, npumoe_error *err)
{
    static const unsigned char zeros[256];
    uint64_t n = (w->alignment - at % w->alignment) % w->alignment;
    while (n) {
        size_t step = n < sizeof zeros ? (size_t)n : sizeof zeros;
        NM_TRY(nm_outfile_write(w->file, zeros, step, err));
        n -= step;
    }
    return NPUMOE_OK;
}

npumoe_status nm_gguf_write_data(nm_gguf_writer *w, const void *data, size_t n_bytes,
                                 npumoe_error *err)
{
    if (!w->in_data || w->current >= w->n_tensors)
        return nm_err_set(err, NPUMOE_EINVAL, "%s: %zu bytes of data that belong to no tensor",
                          w->path, n_bytes);
    const out_tensor *t = &w->tensors[w->current];
    if (n_bytes > t->bytes - w->written)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "%s: tensor '%.*s' has %" PRIu64 " bytes, %" PRIu64 " + %zu were written",
                          w->path, NM_STR_ARG(t->name), t->bytes, w->written, n_bytes);
    NM_TRY(nm_outfile_write(w->file, data, n_bytes, err));
    w->written += n_bytes;
    if (w->written < t->bytes)
        return NPUMOE_OK;
    w->written = 0;
    w->current++;
    return write_padding(w, t->bytes, err); /* the offset itself is aligned */
}

npumoe_status nm_gguf_writer_finish(nm_gguf_writer *w, npumoe_error *err)
{
    if (!w->in_data)
        NM_TRY(nm_gguf_begin_data(w, err));
    if (w->current < w->n_tensors) {
        const out_tensor *t = &w->tensors[w->current];
        return nm_err_set(err, NPUMOE_EINVAL,
                          "%s: tensor '%.*s' has %" PRIu64 " bytes, only %" PRIu64 " were written",
                          w->path, NM_STR_ARG(t->name), t->bytes, w->written);
    }
    return nm_outfile_commit(w->file, err);
}
