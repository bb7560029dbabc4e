/* warm.h: touching memory before somebody has to wait for it.
 *
 * Pages come when they are first touched: a file's are looked up in the system's cache and mapped, a few at a
 * time; others are cleared. Of a model of 0.9 GB that is a tenth of the first prompt's time, and a machine that lends
 * its memory from a hypervisor may take a millisecond for each megabyte. All threads of the pool share it,
 * piece by piece. */
#ifndef NM_ENGINE_WARM_H
#define NM_ENGINE_WARM_H

#include "base/err.h"
#include "base/threads.h"

typedef struct nm_warm {
    nm_pool *pool;            /* NULL: bytes are only counted */
    npumoe_progress_fn go_on; /* asked now and then; or NULL */
    void *user;
    uint64_t bytes, total; /* so far; total is the caller's to know */
    bool cancelled;        /* nothing is touched any more */
} nm_warm;

void nm_warm_memory(nm_warm *w, void *p, size_t bytes);
/* A mapped file, or what else must not be written to. */
void nm_warm_read_only(nm_warm *w, const void *p, size_t bytes);

#endif
