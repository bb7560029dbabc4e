/* probe.h: loops that ask a processor for its limits, for `npumoe probe` and nothing else.
 *
 * A PRODUCT is the inner loop of a matrix product and nothing around it: a register block of
 * accumulators, operands that come from registers, or from arrays that fit into a level of cache. Its
 * rate is what no kernel with that unit can exceed. A READER sums an array and does as little as a
 * load allows; its rate is what no kernel that streams weights can exceed.
 *
 * Why loops of our own beside kern.def: a limit must not move when a kernel gets better, and a unit
 * is measured here before any kernel uses it.
 *
 * Each file of a tier exports a list that ends with a zero entry; probe.c puts those together that
 * the compiler could build. What is usable says a flag of nm_cpu, so tests can pretend. */
#ifndef NM_KERNELS_PROBE_H
#define NM_KERNELS_PROBE_H

#include "kernels/kern.h"

#define NM_PROBE_X_BYTES   16384u /* the operand that always stays in L1 */
#define NM_PROBE_OUT_BYTES 4096u

typedef struct nm_probe_product {
    const char *type; /* of the operands: "f32", "bf16", "i16", "i8" */
    const char *unit; /* the instructions: "avx512", "avx512_vnni", "amx_bf16" */
    const char *isa;  /* the lowest tier (kern.h) that may use them */
    bool (*usable)(const nm_cpu *cpu);
    size_t w_step_bytes; /* w_bytes is a multiple of this */
    /* Meets x[NM_PROBE_X_BYTES], again and again, with w[w_bytes], `passes` times. w == NULL: the
     * same number of steps on registers that are loaded once. Writes what came out to
     * out[NM_PROBE_OUT_BYTES], so that nothing is optimised away. All aligned to NM_ALIGN. Returns
     * the operations done; a multiplication and its addition are two. */
    uint64_t (*run)(const void *x, const void *w, size_t w_bytes, size_t passes, void *out);
} nm_probe_product;

typedef struct nm_probe_reader {
    const char *unit;
    bool (*usable)(const nm_cpu *cpu);
    /* Sums bytes (a multiple of 512) at p, aligned to NM_ALIGN; asks for the cache line ahead_bytes
     * further on unless that is 0. Prefetching past the end is harmless. */
    uint64_t (*run)(const void *p, size_t bytes, size_t ahead_bytes);
} nm_probe_reader;

/* The product at index among those of this build, in ascending order of tiers; NULL past the end. */
const nm_probe_product *nm_probe_product_at(size_t index);
/* The widest reader that the CPU can run. */
const nm_probe_reader *nm_probe_reader_for(const nm_cpu *cpu);

#endif
