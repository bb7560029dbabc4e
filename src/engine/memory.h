/* memory.h: does it fit? Asked before anything large is touched.
 *
 * A mapped model larger than the memory runs, but at the speed of the disk; a user who asked for a
 * model that cannot fit wants to hear the numbers, not to wait.
 *
 * Two figures, because two kinds of memory are needed. The weights are pages of a file: the kernel
 * drops others for them and can drop them again, so they are measured by the TOTAL, the smallest of
 * the machine's memory, the cgroup's limit and the caller's. KV cache and scratch stay: they are
 * measured by what is AVAILABLE now, which counts the page cache as free. */
#ifndef NM_ENGINE_MEMORY_H
#define NM_ENGINE_MEMORY_H

#include "base/err.h"

#define NM_MEMORY_UNKNOWN UINT64_MAX

typedef struct nm_memory {
    uint64_t total_bytes, available_bytes; /* or NM_MEMORY_UNKNOWN */
    const char *what; /* whose total: "this machine", "this cgroup" or "the memory limit" */
} nm_memory;

typedef struct nm_memory_need {
    uint64_t weights_bytes, kv_bytes, scratch_bytes;
    uint64_t others_bytes; /* of living sessions */
} nm_memory_need;

/* limit_bytes: the caller's own, 0 = none. It is a limit of the total. */
nm_memory nm_memory_read(uint64_t limit_bytes);

/* ETOOBIG with the numbers. At load, need is the smallest session's: a shorter context is then no
 * advice that helps. */
npumoe_status nm_memory_check_load(const nm_memory *have, const nm_memory_need *need,
                                   npumoe_error *err);
npumoe_status nm_memory_check_session(const nm_memory *have, const nm_memory_need *need,
                                      npumoe_error *err);

#endif
