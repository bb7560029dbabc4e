/* tile.h: device `tile`, cores of this machine as a static matrix engine.
 *
 * Worker threads of its own behind a bounded queue, programs with weights of their own in memory, all
 * rows of a capacity computed: what an NPU does, on hardware that every machine has, so that the time
 * of host and device, the padding and the waiting can be measured and not only modelled.
 *
 * It computes with the many-row products of src/kernels (kernels/product.h), the best that the CPU
 * has or `isa` allows, so a row's result is, bit for bit, what the CPU path gives with the same
 * product. Limits can be set to those of another device (an ANE: 120 slots, 2 GB, 3.5 GB), and
 * launch_ns makes the device busy for as long before each launch. */
#ifndef NM_DEVICE_TILE_H
#define NM_DEVICE_TILE_H

#include "device/npu.h"

typedef enum nm_tile_weights {
    NM_TILE_WEIGHTS_FILE,  /* as the file has them: decoded in passing, by every launch */
    NM_TILE_WEIGHTS_PACKED /* decoded by load to the product's panels (kernels/product.h) */
} nm_tile_weights;

typedef struct nm_tile_options {
    const char *isa; /* tier of its kernels, as in nm_kern_init(); NULL = the best */
    nm_precision precision;
    nm_tile_weights weights;
    uint32_t n_threads;   /* at least 1 */
    const uint32_t *cpus; /* [n_cpus]: thread i stays on cpus[i % n_cpus]; NULL = anywhere */
    size_t n_cpus;
    uint32_t slots;                      /* UINT32_MAX = no limit */
    uint64_t program_bytes, total_bytes; /* UINT64_MAX = no limit */
    uint32_t capacity_multiple, capacity_max;
    uint32_t queue_depth; /* 1 .. NM_TILE_MAX_QUEUE */
    uint64_t launch_ns;
} nm_tile_options;

#define NM_TILE_MAX_QUEUE 1024u

/* "file", "packed"; NULL = "file". EINVAL for others. */
npumoe_status nm_tile_weights_parse(const char *name, nm_tile_weights *out, npumoe_error *err);

/* One thread, any CPU, near fp32, weights as in the file, no limits, 64 launches in flight, no added latency. */
nm_tile_options nm_tile_options_default(void);
/* EINVAL for numbers out of range or a CPU that cannot be had; EUNSUPPORTED for the isa. */
npumoe_status nm_tile_new(const npumoe_allocator *a, const nm_tile_options *options, nm_npu **out,
                          npumoe_error *err);

#endif
