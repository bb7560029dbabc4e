/* warm.c: see warm.h. */
#include "engine/warm.h"

#include "base/num.h"
#include "base/sys.h"

enum {
    PIECE_BYTES = 2 << 20,  /* of one thread at a time */
    BATCH_BYTES = 256 << 20 /* until somebody may cancel */
};

typedef struct batch {
    nm_pool *pool;
    char *memory; /* one of these two */
    const char *read_only;
    size_t bytes;
} batch;

static void touch(void *arg, int thread, int n_threads)
{
    const batch *b = arg;
    (void)thread;
    (void)n_threads;
    const size_t pieces = b->bytes / PIECE_BYTES + (b->bytes % PIECE_BYTES != 0);
    for (size_t i = nm_pool_next(b->pool); i < pieces; i = nm_pool_next(b->pool)) {
        const size_t at = i * PIECE_BYTES, n = nm_min_size(b->bytes - at, PIECE_BYTES);
        if (b->memory)
            nm_sys_touch(b->memory + at, n);
        else
            nm_sys_touch_read_only(b->read_only + at, n);
    }
}

static void run(nm_warm *w, char *memory, const char *read_only, size_t bytes)
{
    if (w->pool == NULL) {
        w->bytes += bytes;
        return;
    }
    for (size_t at = 0; at < bytes && !w->cancelled; at += BATCH_BYTES) {
        batch b = {.pool = w->pool,
                   .memory = memory ? memory + at : NULL,
                   .read_only = read_only ? read_only + at : NULL,
                   .bytes = nm_min_size(bytes - at, BATCH_BYTES)};
        nm_pool_run(w->pool, touch, &b);
        w->bytes += b.bytes;
        w->cancelled = w->go_on && !w->go_on(w->user, w->bytes, w->total);
    }
}

void nm_warm_memory(nm_warm *w, void *p, size_t bytes)
{
    run(w, p, NULL, p ? bytes : 0);
}

void nm_warm_read_only(nm_warm *w, const void *p, size_t bytes)
{
    run(w, NULL, p, p ? bytes : 0);
}
