#include "base/alloc.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

static void *std_realloc(void *ctx, void *ptr, size_t bytes)
{
    (void)ctx;
    return realloc(ptr, bytes);
}

static void std_free(void *ctx, void *ptr)
{
    (void)ctx;
    free(ptr);
}

static const npumoe_allocator std_allocator = {NULL, std_realloc, std_free};

const npumoe_allocator *nm_allocator_default(void)
{
    return &std_allocator;
}

const npumoe_allocator *nm_allocator_or_default(const npumoe_allocator *a)
{
    return a ? a : &std_allocator;
}

void *nm_alloc(const npumoe_allocator *a, size_t bytes)
{
    return a->realloc(a->ctx, NULL, bytes ? bytes : 1);
}

void *nm_zalloc(const npumoe_allocator *a, size_t bytes)
{
    void *p = nm_alloc(a, bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

void *nm_alloc_array(const npumoe_allocator *a, size_t count, size_t elem_bytes)
{
    size_t bytes;
    return nm_mul_size(count, elem_bytes, &bytes) ? nm_zalloc(a, bytes) : NULL;
}

void *nm_realloc_array(const npumoe_allocator *a, void *ptr, size_t count, size_t elem_bytes)
{
    size_t bytes;
    if (!nm_mul_size(count, elem_bytes, &bytes))
        return NULL;
    return a->realloc(a->ctx, ptr, bytes ? bytes : 1);
}

void nm_free(const npumoe_allocator *a, void *ptr)
{
    if (ptr)
        a->free(a->ctx, ptr);
}

/* The pointer that the allocator gave is kept in the word before the aligned block. */
void *nm_alloc_aligned(const npumoe_allocator *a, size_t bytes)
{
    if (bytes > SIZE_MAX - NM_ALIGN - sizeof(void *))
        return NULL;
    char *raw = nm_alloc(a, bytes + NM_ALIGN + sizeof(void *));
    if (!raw)
        return NULL;
    uintptr_t at = ((uintptr_t)raw + sizeof(void *) + NM_ALIGN - 1) & ~(uintptr_t)(NM_ALIGN - 1);
    memcpy((void *)(at - sizeof(void *)), &raw, sizeof raw);
    return (void *)at;
}

void nm_free_aligned(const npumoe_allocator *a, void *ptr)
{
    if (!ptr)
        return;
    void *raw;
    memcpy(&raw, (char *)ptr - sizeof raw, sizeof raw);
    nm_free(a, raw);
}

char *nm_strndup(const npumoe_allocator *a, const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? nm_alloc(a, n + 1) : NULL;
    if (p) {
        if (n)
            memcpy(p, s, n);
        p[n] = '\0';
    }
    return p;
}

npumoe_status nm_grow(const npumoe_allocator *a, void **ptr, size_t *cap, size_t need,
                      size_t elem_bytes, npumoe_error *err)
{
    if (need <= *cap)
        return NPUMOE_OK;
    size_t want = *cap + *cap / 2 + 16;
    if (want < need)
        want = need;
    void *p = nm_realloc_array(a, *ptr, want, elem_bytes);
    if (!p)
        return nm_err_nomem(err, (uint64_t)want * elem_bytes, "a growing array");
    *ptr = p;
    *cap = want;
    return NPUMOE_OK;
}
