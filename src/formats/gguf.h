/* gguf.h: a GGUF file as checked views.
 *
 * The reader maps the file (all parts of a split set), checks everything before it is used, and
 * hands out views into the mapping: strings, arrays, tensor data. Nothing here knows what a model
 * is. Format: docs/formats/gguf.md.
 *
 * Invariants after nm_gguf_open returned OK
 *   - every string, array and tensor lies wholly inside its file; tensors are aligned to
 *     general.alignment, do not overlap, have a known type size and 1..4 dimensions whose product
 *     and byte size fit in 63 bits; ne[0] is a multiple of the block;
 *   - keys and tensor names are unique; key names hold 1..65535 bytes, tensor names 1..63;
 *   - a split set is complete and its parts agree.
 * Values of little-endian files are read with memcpy, so alignment inside the file is no matter.
 *
 * Views live as long as the nm_gguf. Thread safe for reading. */
#ifndef NM_FORMATS_GGUF_H
#define NM_FORMATS_GGUF_H

#include "base/alloc.h"
#include "base/str.h"
#include "quant/quant.h"

typedef enum nm_gguf_kind {
    NM_GGUF_U8,
    NM_GGUF_I8,
    NM_GGUF_U16,
    NM_GGUF_I16,
    NM_GGUF_U32,
    NM_GGUF_I32,
    NM_GGUF_F32,
    NM_GGUF_BOOL,
    NM_GGUF_STRING,
    NM_GGUF_ARRAY,
    NM_GGUF_U64,
    NM_GGUF_I64,
    NM_GGUF_F64,
    NM_GGUF_KIND_END
} nm_gguf_kind;

typedef struct nm_gguf nm_gguf;

typedef struct nm_gguf_array {
    nm_gguf_kind kind; /* of the elements; nested arrays are checked, skipped, and read as count */
    uint64_t count;
    const unsigned char *data; /* the elements as the file has them: packed little-endian scalars */
    uint64_t bytes;            /* of data */
    const nm_str *strings;     /* kind STRING: count views, index built at open; else NULL */
} nm_gguf_array;

typedef struct nm_gguf_kv {
    nm_str key;
    nm_gguf_kind kind;
    uint64_t offset; /* of the value in its file */
    union {
        uint64_t u; /* unsigned kinds, BOOL */
        int64_t i;  /* signed kinds */
        double f;   /* F32, F64 */
        nm_str str;
        nm_gguf_array arr;
    } v;
} nm_gguf_kv;

typedef struct nm_gguf_tensor {
    nm_str name;
    uint32_t type; /* nm_type or another ggml number */
    uint32_t n_dims;
    uint64_t ne[4]; /* ne[0] is contiguous (the row); unused dimensions are 1 */
    const void *data;
    uint64_t bytes;
    uint64_t offset; /* in its file */
    uint32_t part;   /* which file of the set */
} nm_gguf_tensor;

typedef struct nm_gguf_options {
    const npumoe_allocator *allocator;
    bool single_part; /* this file alone, whatever split.* say */
} nm_gguf_options;

/* Opens, maps and checks. Owner: the caller. */
npumoe_status nm_gguf_open(const char *path, const nm_gguf_options *options, nm_gguf **out,
                           npumoe_error *err);
/* The same over bytes in memory (borrowed; tests, fuzzing), always as a single part. name is for
 * messages. */
npumoe_status nm_gguf_open_memory(const void *data, size_t bytes, const char *name,
                                  const nm_gguf_options *options, nm_gguf **out, npumoe_error *err);
void nm_gguf_free(nm_gguf **gguf);

const char *nm_gguf_path(const nm_gguf *g); /* of the first part */
/* A path for messages: its last bytes when it is long, which say most. */
const char *nm_gguf_label(const char *path);
const char *nm_gguf_part_path(const nm_gguf *g, uint32_t part);
uint32_t nm_gguf_version(const nm_gguf *g);
uint32_t nm_gguf_n_parts(const nm_gguf *g);
uint64_t nm_gguf_mapped_bytes(const nm_gguf *g);

size_t nm_gguf_n_kv(const nm_gguf *g);
const nm_gguf_kv *nm_gguf_kv_at(const nm_gguf *g, size_t i);
const nm_gguf_kv *nm_gguf_find(const nm_gguf *g, const char *key); /* NULL = absent; log n */
size_t nm_gguf_n_tensors(const nm_gguf *g);
const nm_gguf_tensor *nm_gguf_tensor_at(const nm_gguf *g, size_t i);
const nm_gguf_tensor *nm_gguf_find_tensor(const nm_gguf *g, const char *name); /* NULL = absent */

/* Typed access. Integers convert between kinds when the value fits; F32/F64 likewise; anything else
 * is EMODEL with key, kind found and kind expected. An absent key gives ENOENT from the _get
 * functions; the _or functions give the default instead. An array must have elements of exactly
 * the kind asked for, but I64 stands for any integer kind and F64 for F32 and F64: read those with
 * nm_gguf_arr_i64 and _f32. */
npumoe_status nm_gguf_get_u32(const nm_gguf *g, const char *key, uint32_t *out, npumoe_error *err);
npumoe_status nm_gguf_get_f32(const nm_gguf *g, const char *key, float *out, npumoe_error *err);
npumoe_status nm_gguf_get_bool(const nm_gguf *g, const char *key, bool *out, npumoe_error *err);
npumoe_status nm_gguf_get_str(const nm_gguf *g, const char *key, nm_str *out, npumoe_error *err);
npumoe_status nm_gguf_get_arr(const nm_gguf *g, const char *key, nm_gguf_kind kind,
                              nm_gguf_array *out, npumoe_error *err);
npumoe_status nm_gguf_u32_or(const nm_gguf *g, const char *key, uint32_t dflt, uint32_t *out,
                             npumoe_error *err);
npumoe_status nm_gguf_f32_or(const nm_gguf *g, const char *key, float dflt, float *out,
                             npumoe_error *err);
npumoe_status nm_gguf_bool_or(const nm_gguf *g, const char *key, bool dflt, bool *out,
                              npumoe_error *err);
npumoe_status nm_gguf_str_or(const nm_gguf *g, const char *key, const char *dflt, nm_str *out,
                             npumoe_error *err);
/* Element i of a scalar array as a number (the caller checked kind and count). */
float nm_gguf_arr_f32(const nm_gguf_array *arr, uint64_t i);
int64_t nm_gguf_arr_i64(const nm_gguf_array *arr, uint64_t i);

const char *nm_gguf_kind_name(nm_gguf_kind kind);

#endif
