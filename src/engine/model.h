/* model.h: what a model is made of. Immutable after loading, except for the lock and the count of
 * session memory (an atomic of its own, so that a callback of a running evaluation may make or free
 * a session). */
#ifndef NM_ENGINE_MODEL_H
#define NM_ENGINE_MODEL_H

#include "engine/access.h"
#include "engine/placement.h"
#include "model/config.h"
#include "model/tokenizer.h"
#include "model/weights.h"

#include <pthread.h>
#include <stdatomic.h>

#define NM_DEFAULT_CTX 4096u
#define NM_LEAST_CTX   64u /* of a session that loading leaves room for */

struct npumoe_model {
    const npumoe_allocator *allocator;
    nm_gguf *gguf;
    nm_config config;
    nm_weights weights;      /* zero with vocab_only */
    nm_tokenizer *tokenizer; /* NULL: the file has none */
    nm_kern kern;
    nm_precision precision;
    nm_pool *pool;
    char *name;         /* general.name, terminated */
    char *architecture; /* general.architecture, terminated */
    uint64_t memory_limit_bytes;
    bool vocab_only;
    bool has_lock;
    pthread_mutex_t lock;           /* held during an evaluation */
    nm_routes *routes;              /* NULL = the routers decide; changed without sessions only */
    nm_placement *placement;        /* NULL = no plan; changed under the lock */
    uint64_t n_placements;          /* so far; under the lock */
    _Atomic uint64_t session_bytes; /* KV and scratch of all living sessions */
};

/* ETOOBIG unless the weights, the living sessions and one more session fit. */
npumoe_status nm_model_check_memory(npumoe_model *model, uint64_t kv_bytes, uint64_t scratch_bytes,
                                    npumoe_error *err);

#endif
