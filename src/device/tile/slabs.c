/* slabs.c: memory for weights and buffers of device `tile`, in few large pieces.
 *
 * A plan may have a thousand programs of one expert each, four megabytes or less. Memory of their own would
 * begin and end somewhere inside a huge page and so have none, or one; a gigabyte of weights in small
 * pages costs its tables' walk on the way to every page, and half a million faults while it is loaded. So programs
 * lie side by side in slabs of SLAB_BYTES that begin at a huge page; one that is larger than half of that has a
 * slab for itself.
 *
 * Blocks are kept in order of address, and a new one takes the first gap that holds it: programs come and go
 * together with plans, rarely, and mostly all of them. A slab without blocks is given back at once. What is never
 * written is never there: the rest of the last slab costs addresses only.
 *
 * The address sanitizer sees an allocation, not the blocks in it: where it is at work it is told, and blocks have a gap
 * behind them. */
#include "device/tile/tile_priv.h"

#include "base/sys.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#endif

#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#define GAP NM_ALIGN
#else
#define GAP                               0
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { HUGE_BYTES = 2 << 20, SLAB_BYTES = 64 << 20 };

struct tile_block {
    tile_block *next; /* by address */
    size_t from, bytes;
};

struct tile_slab {
    tile_slab *next;
    void *raw; /* what the allocator gave */
    char *at;  /* the first huge page in it */
    size_t bytes;
    tile_block *blocks;
};

static size_t rounded(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

/* Links the block in at the first gap that is large enough. */
static char *fit(tile_slab *s, tile_block *b)
{
    tile_block **link = &s->blocks;
    size_t at = 0;
    while (*link && (*link)->from - at < b->bytes) {
        at = (*link)->from + (*link)->bytes;
        link = &(*link)->next;
    }
    if (s->bytes - at < b->bytes)
        return NULL;
    b->from = at;
    b->next = *link;
    *link = b;
    return s->at + at;
}

static tile_slab *slab_new(tile *t, size_t least)
{
    tile_slab *s = nm_zalloc(t->allocator, sizeof *s);
    if (s == NULL)
        return NULL;
    s->bytes = least > SLAB_BYTES / 2 ? rounded(least, HUGE_BYTES) : SLAB_BYTES;
    s->raw = nm_alloc_aligned(t->allocator, s->bytes + HUGE_BYTES);
    if (s->raw == NULL) {
        nm_free(t->allocator, s);
        return NULL;
    }
    s->at = (char *)s->raw + (rounded((uintptr_t)s->raw, HUGE_BYTES) - (uintptr_t)s->raw);
    nm_sys_advise_huge(s->at, s->bytes);
    ASAN_POISON_MEMORY_REGION(s->at, s->bytes);
    s->next = t->slabs;
    t->slabs = s;
    return s;
}

char *nm_tile_take(tile *t, size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    tile_block *b = nm_zalloc(t->allocator, sizeof *b);
    if (b == NULL)
        return NULL;
    b->bytes = rounded(bytes ? bytes : 1, NM_ALIGN) + GAP;
    char *p = NULL;
    pthread_mutex_lock(&t->memory);
    for (tile_slab *s = t->slabs; s && p == NULL; s = s->next)
        p = fit(s, b);
    if (p == NULL && slab_new(t, b->bytes))
        p = fit(t->slabs, b);
    if (p)
        ASAN_UNPOISON_MEMORY_REGION(p, b->bytes - GAP);
    pthread_mutex_unlock(&t->memory);
    if (p == NULL)
        nm_free(t->allocator, b);
    return p;
}

static void slab_free(tile *t, tile_slab **link)
{
    tile_slab *s = *link;
    *link = s->next;
    ASAN_UNPOISON_MEMORY_REGION(s->at, s->bytes);
    nm_free_aligned(t->allocator, s->raw);
    nm_free(t->allocator, s);
}

static void give(tile *t, const char *p)
{
    tile_slab **link = &t->slabs;
    while (p && *link && !(p >= (*link)->at && p < (*link)->at + (*link)->bytes))
        link = &(*link)->next;
    if (p == NULL || *link == NULL)
        return;
    tile_block **block = &(*link)->blocks;
    while (*block && (*link)->at + (*block)->from != p)
        block = &(*block)->next;
    tile_block *gone = *block;
    if (gone == NULL)
        return;
    *block = gone->next;
    ASAN_POISON_MEMORY_REGION(p, gone->bytes);
    nm_free(t->allocator, gone);
    if ((*link)->blocks == NULL)
        slab_free(t, link);
}

void nm_tile_give(tile *t, const char *p)
{
    pthread_mutex_lock(&t->memory);
    give(t, p);
    pthread_mutex_unlock(&t->memory);
}
