/* gguf_priv.h: what the files of the GGUF reader share.
 *
 * gguf_parse.c turns the bytes of one file into a nm_gguf_part; gguf.c joins the parts of a set and
 * indexes the names; gguf_get.c reads typed values. */
#ifndef NM_FORMATS_GGUF_PRIV_H
#define NM_FORMATS_GGUF_PRIV_H

#include "base/file.h"
#include "formats/gguf.h"

#define NM_GGUF_ALIGN_DEFAULT 32
#define NM_GGUF_ALIGN_MIN     8
#define NM_GGUF_ALIGN_MAX     (1u << 20)
#define NM_GGUF_KEY_MAX       65535
#define NM_GGUF_NAME_MAX      63
#define NM_GGUF_DEPTH_MAX     4         /* arrays within arrays */
#define NM_GGUF_STRINGS_MAX   (1 << 24) /* in one array: no vocabulary has a tenth of that */

/* One file of a set. */
typedef struct nm_gguf_part {
    char *path; /* as given, or found by name */
    nm_map map; /* owned; zeroed for bytes that the caller lent */
    const unsigned char *data;
    uint64_t bytes;
    uint32_t version;
    uint64_t alignment;
    nm_gguf_kv *kv;
    size_t n_kv;
    nm_gguf_tensor *tensors;
    size_t n_tensors;
} nm_gguf_part;

/* A name and the number of what it names, sorted by name: lookup is a binary search, and unlike a
 * hash table no choice of names makes it slow. */
typedef struct nm_gguf_name {
    nm_str name;
    size_t at;
} nm_gguf_name;

struct nm_gguf {
    const npumoe_allocator *a;
    nm_gguf_part *parts; /* [0] is the first of the set and owns the keys that callers see */
    uint32_t n_parts;
    nm_gguf_tensor *tensors; /* of all parts, in their order */
    size_t n_tensors;
    nm_gguf_name *kv_names, *tensor_names;
};

/* Parses and checks part->data[0..bytes): fills version, alignment, kv and tensors. On failure too
 * the caller frees what is there with nm_gguf_part_fini. */
npumoe_status nm_gguf_part_parse(nm_gguf_part *part, const npumoe_allocator *a, npumoe_error *err);
void nm_gguf_part_fini(nm_gguf_part *part, const npumoe_allocator *a);

/* Fills *out with the sorted names of n entries of entry_bytes each, which begin with an nm_str.
 * *twice: the smallest number of an entry whose name an earlier one has, or n. */
npumoe_status nm_gguf_index(const npumoe_allocator *a, const void *entries, size_t entry_bytes,
                            size_t n, nm_gguf_name **out, size_t *twice, npumoe_error *err);

/* Integer value of a kv of any integer kind; false for other kinds or when it is not in
 * 0..max. */
bool nm_gguf_kv_u64(const nm_gguf_kv *kv, uint64_t max, uint64_t *out);
bool nm_gguf_kind_signed(uint32_t kind);
/* Bytes of one value of a scalar kind; 0 for STRING, ARRAY and numbers past the end. */
size_t nm_gguf_kind_bytes(uint32_t kind);

#endif
