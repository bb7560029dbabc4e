/* alloc.h: memory comes from the caller's allocator, so that tests can count it and fail it.
 *
 * Each object that owns memory keeps the `const npumoe_allocator *` it was made with. Array sizes
 * go through nm_alloc_array / nm_grow, which check the product for overflow.
 * Big numeric buffers are 64-byte aligned (one cache line, one zmm): nm_alloc_aligned; they must be
 * freed with nm_free_aligned. */
#ifndef NM_BASE_ALLOC_H
#define NM_BASE_ALLOC_H

#include "base/err.h"

#define NM_ALIGN 64

/* malloc's own, for callers that gave NULL. */
const npumoe_allocator *nm_allocator_default(void);
/* a, or the default when a is NULL. */
const npumoe_allocator *nm_allocator_or_default(const npumoe_allocator *a);

void *nm_alloc(const npumoe_allocator *a, size_t bytes);  /* NULL on failure; 0 bytes give 1 */
void *nm_zalloc(const npumoe_allocator *a, size_t bytes); /* zeroed */
void *nm_alloc_array(const npumoe_allocator *a, size_t count, size_t elem_bytes); /* zeroed */
void *nm_realloc_array(const npumoe_allocator *a, void *ptr, size_t count, size_t elem_bytes);
void nm_free(const npumoe_allocator *a, void *ptr);

void *nm_alloc_aligned(const npumoe_allocator *a, size_t bytes); /* NM_ALIGN; not zeroed */
void nm_free_aligned(const npumoe_allocator *a, void *ptr);

char *nm_strndup(const npumoe_allocator *a, const char *s, size_t n); /* zero-terminated copy */

/* Makes room for at least need elements in *ptr (capacity *cap grows by half); keeps the content. */
npumoe_status nm_grow(const npumoe_allocator *a, void **ptr, size_t *cap, size_t need,
                      size_t elem_bytes, npumoe_error *err);

#endif
