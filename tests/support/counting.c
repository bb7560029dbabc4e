/* counting.c: see counting.h. */
#include "support/counting.h"

#include <stdlib.h>

static void *count_realloc(void *ctx, void *ptr, size_t bytes)
{
    counting *c = ctx;
    pthread_mutex_lock(&c->lock);
    const bool fail = ++c->calls == c->fail_at;
    void *p = fail ? NULL : realloc(ptr, bytes);
    c->alive += p && !ptr;
    pthread_mutex_unlock(&c->lock);
    return p;
}

static void count_free(void *ctx, void *ptr)
{
    counting *c = ctx;
    pthread_mutex_lock(&c->lock);
    c->alive -= ptr != NULL;
    pthread_mutex_unlock(&c->lock);
    free(ptr);
}

npumoe_allocator counting_allocator(counting *c)
{
    return (npumoe_allocator){c, count_realloc, count_free};
}
