/* memory.h: does it fit? Asked before anything large is touched.
 *
 * A mapped model larger than the memory runs, but at the speed of the disk; a user who asked for a
 * model that cannot fit wants to hear the numbers, not to wait. The limit is the smallest of the
 * machine's memory, the cgroup's and the caller's. */
#ifndef NM_ENGINE_MEMORY_H
#define NM_ENGINE_MEMORY_H

#include "base/err.h"

typedef struct nm_memory_need {
    uint64_t weights_bytes, kv_bytes, scratch_bytes;
} nm_memory_need;

/* Bytes that this process may use: the machine's memory or its cgroup's limit. what: "this machine"
 * or "this cgroup". 0 = unknown. */
uint64_t nm_memory_available(const char **what);

/* ETOOBIG with the numbers. limit_bytes: the caller's own, 0 = none. */
npumoe_status nm_memory_check(const nm_memory_need *need, uint64_t limit_bytes, npumoe_error *err);

#endif
