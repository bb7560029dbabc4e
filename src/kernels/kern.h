/* kern.h: the table of kernels, chosen once for a CPU.
 *
 * nm_kern_init() is a function of the CPU flags alone (and of the system's leave to use tiles): it fills every slot from ref/, then lets
 * x86_init or arm_init override it, tier by tier in ascending order. Tests build two tables side
 * by side. The table hangs from the model; there is no global.
 *
 * Tiers ("isa" on the command line): scalar < avx2 (AVX2+FMA+F16C) < avx512 (F, BW, VL, DQ) < amx
 * (tiles, bf16) on x86; scalar < neon on arm64. An extension that helps few kernels (vnni, bf16, dotprod)
 * is no tier: its kernels take their slots when the CPU has it, and `with` names it. */
#ifndef NM_KERNELS_KERN_H
#define NM_KERNELS_KERN_H

#include "base/err.h"
#include "kernels/product.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nm_attend; /* attend.h */

struct nm_kern {
    const char *isa;  /* the tier */
    const char *with; /* extensions of the tier that kernels use ("vnni"); "" = none */
#define K(name, args, tolerance, what) void(*name) args;
#include "kernels/kern.def"
    /* A row of n elements (multiple of the block) to fp32; bit-equal to nm_type_get()->decode in
     * every tier. NULL for types that are not supported. */
    void (*decode[NM_TYPE_END])(const void *src, float *dst, size_t n);
    /* A whole task of attention, the tier's own way (attend.h); NULL = attention.c's blocks. */
    void (*attend_task)(const struct nm_attend *task, void *scratch);
    const nm_product *products[NM_PRODUCT_END]; /* by slot; NULL = this tier has none */
};

/* CPU feature bits, as found or as a test pretends. */
typedef struct nm_cpu {
    bool avx2, fma, f16c, avx512f, avx512bw, avx512vl, avx512dq, avx512_vnni, avx512_vbmi,
        avx512_bf16, avx512_fp16, avx_vnni, amx_tile, amx_int8,
        amx_bf16;                         /* x86; OS support included */
    bool neon, dotprod, i8mm, bf16, fp16; /* arm64 */
} nm_cpu;

nm_cpu nm_cpu_detect(void);
/* Asks Linux, for the whole process and for good, for the permission to use AMX tiles (8 KiB of state
 * per thread, made on first use); may be called again. False: refused, or there are none. Whoever makes
 * a table with the tier amx has asked; loops beside the table (probe.h) ask by their `usable`. */
bool nm_cpu_permit_tiles(void);
/* Fills *table with the best tier for cpu that is not above isa (NULL or "auto" = no cap), and asks
 * for no permission that a lower tier can do without. EINVAL: unknown name; EUNSUPPORTED: this CPU,
 * build or system lacks it; both list what there is. */
npumoe_status nm_kern_init(nm_kern *table, const nm_cpu *cpu, const char *isa, npumoe_error *err);
/* Tier names built into this library, ascending; NULL past the end. */
const char *nm_kern_tier(size_t index);
/* True when the CPU can run that tier, and the system lets it (amx asks). */
bool nm_kern_tier_usable(const char *tier, const nm_cpu *cpu);

#endif
