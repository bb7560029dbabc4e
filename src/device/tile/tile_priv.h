/* tile_priv.h: what the files of device `tile` share. tile.c owns programs and memory, weights.c
 * what programs keep of their weights, slabs.c where, queue.c launches and the worker. */
#ifndef NM_DEVICE_TILE_PRIV_H
#define NM_DEVICE_TILE_PRIV_H

#include "device/tile/tile.h"
#include "kernels/network.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct tile_program {
    nm_program head;
    nm_act act;
    nm_program_network *networks; /* EXPERTS: [n]; the weights' data are the caller's ... */
    nm_program_matrix *matrices;  /* LINEAR: [n] */
    nm_program_attention attention;
    char *weights;          /* ... and this the device's own copy, while loaded */
    nm_network_item *items; /* [n] with views into the copy */
    nm_linear *linears;     /* [n] */
} tile_program;

enum { LAUNCH_FREE, LAUNCH_QUEUED, LAUNCH_DONE };

typedef struct tile_launch {
    atomic_uint state; /* written under the lock */
    uint64_t ticket;
    tile_program *program;
    const float *in;
    float *out;
    nm_npu_cache cache; /* ATTENTION */
    nm_launch_times times;
    bool passed_over; /* cancelled before it started */
} tile_launch;

typedef struct tile_block tile_block;
typedef struct tile_slab tile_slab;

typedef struct tile {
    nm_npu head;
    const npumoe_allocator *allocator;
    pthread_mutex_t memory; /* of the slabs: buffers may come and go on several threads */
    tile_slab *slabs;       /* memory of loaded programs' weights, and of buffers */
    uint32_t depth;
    nm_kern kern;
    nm_compute compute;
    nm_tile_weights weights;
    char arithmetic[64];
    /* Of the largest program so far: */
    const float **x; /* [rows] */
    float **y;       /* [rows], or of a LINEAR program [matrices][C] */
    nm_network_part *parts;
    size_t max_rows, max_parts;
    uint32_t *cpus;
    size_t n_cpus;
    uint64_t *thread_ns; /* [n_threads] CPU time, read at both ends of a launch */
    /* The queue: launch t is in ring[t % depth]. */
    tile_launch *ring;
    uint64_t next_ticket; /* to be given; under the lock */
    bool stop;
    bool has_worker;
    nm_pool_fn chore; /* something else to do for the worker, with its pool; under the lock */
    void *chore_arg;
    bool chore_runs;
    pthread_t worker;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    atomic_uint_fast64_t submitted; /* last ticket: what an idle worker looks at */
    atomic_uint_fast64_t cancelled; /* tickets up to this one do not start any more */
    nm_npu_stats counts;            /* under the lock */
} tile;

/* What a LINEAR program of n matrices is computed in. Several are queries, keys and values: of all products, what
 * these round to changes routes the most (docs/accuracy.md), so where the device is near fp32 they are finer. */
nm_precision nm_tile_linear_precision(const tile *t, uint32_t n);
/* EUNSUPPORTED: it is to be packed and its product has no panels, or is not made for all of its matrices. */
npumoe_status nm_tile_check_form(const tile *t, const nm_program_desc *d, npumoe_error *err);
uint64_t nm_tile_program_bytes(const nm_npu *npu, const nm_program_desc *d);
npumoe_status nm_tile_load(nm_npu *npu, nm_program *head, npumoe_error *err);
void nm_tile_fill(nm_npu *npu, nm_program *const *programs, size_t n, nm_pool *pool);
void nm_tile_unload(nm_npu *npu, nm_program *head);

/* Memory at a multiple of NM_ALIGN; NULL = none left. Given back by its address; NULL is allowed. */
char *nm_tile_take(tile *t, size_t bytes);
void nm_tile_give(tile *t, const char *p);

npumoe_status nm_tile_start(tile *t, npumoe_error *err);
void nm_tile_stop(tile *t);
/* Lets the device's threads run fn between launches, as a region of their pool, while the caller does something
 * else. end() returns when they have left it; those who have not begun by then do not. */
void nm_tile_help_begin(tile *t, nm_pool_fn fn, void *arg);
void nm_tile_help_end(tile *t);
npumoe_status nm_tile_submit(nm_npu *npu, nm_program *p, const nm_npu_buffer *in,
                             nm_npu_buffer *out, const nm_npu_cache *cache, uint64_t *ticket,
                             npumoe_error *err);
bool nm_tile_poll(nm_npu *npu, uint64_t ticket);
npumoe_status nm_tile_wait(nm_npu *npu, uint64_t ticket, nm_launch_times *times, npumoe_error *err);
void nm_tile_cancel(nm_npu *npu);
void nm_tile_stats(const nm_npu *npu, nm_npu_stats *stats);

#endif
