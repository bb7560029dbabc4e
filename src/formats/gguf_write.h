/* gguf_write.h: writes a GGUF v3 file in one pass, tensors streamed.
 *
 * Order of use: new -> kv calls -> tensor declarations (name, type, shape) -> begin_data -> for each
 * tensor in the order declared any number of write_data calls -> finish. Bytes go to
 * PATH.partial.<pid>; finish syncs and renames, free without finish removes the partial file.
 * Memory is constant in the size of the tensors. */
#ifndef NM_FORMATS_GGUF_WRITE_H
#define NM_FORMATS_GGUF_WRITE_H

#include "formats/gguf.h"

typedef struct nm_gguf_writer nm_gguf_writer;

npumoe_status nm_gguf_writer_new(const npumoe_allocator *a, const char *path, nm_gguf_writer **out,
                                 npumoe_error *err);
void nm_gguf_writer_free(nm_gguf_writer **w);

npumoe_status nm_gguf_put_u32(nm_gguf_writer *w, const char *key, uint32_t v, npumoe_error *err);
npumoe_status nm_gguf_put_u64(nm_gguf_writer *w, const char *key, uint64_t v, npumoe_error *err);
npumoe_status nm_gguf_put_i32(nm_gguf_writer *w, const char *key, int32_t v, npumoe_error *err);
npumoe_status nm_gguf_put_f32(nm_gguf_writer *w, const char *key, float v, npumoe_error *err);
npumoe_status nm_gguf_put_bool(nm_gguf_writer *w, const char *key, bool v, npumoe_error *err);
npumoe_status nm_gguf_put_str(nm_gguf_writer *w, const char *key, nm_str v, npumoe_error *err);
npumoe_status nm_gguf_put_str_array(nm_gguf_writer *w, const char *key, const nm_str *v, size_t n,
                                    npumoe_error *err);
/* data: n packed little-endian scalars of kind. */
npumoe_status nm_gguf_put_array(nm_gguf_writer *w, const char *key, nm_gguf_kind kind,
                                const void *data, size_t n, npumoe_error *err);
/* Copies a key with its value, whatever its kind (nested arrays too), from an open file. */
npumoe_status nm_gguf_put_copy(nm_gguf_writer *w, const nm_gguf_kv *kv, npumoe_error *err);

npumoe_status nm_gguf_put_tensor(nm_gguf_writer *w, const char *name, uint32_t type,
                                 uint32_t n_dims, const uint64_t *ne, npumoe_error *err);
npumoe_status nm_gguf_begin_data(nm_gguf_writer *w, npumoe_error *err);
npumoe_status nm_gguf_write_data(nm_gguf_writer *w, const void *data, size_t bytes,
                                 npumoe_error *err);
npumoe_status nm_gguf_writer_finish(nm_gguf_writer *w, npumoe_error *err);

#endif
