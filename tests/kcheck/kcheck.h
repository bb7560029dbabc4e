/* kcheck.h: what the files of kcheck share.
 *
 * kcheck runs every kernel of kern.def, in every tier that this CPU can run, against the tier below
 * all others, ref/. A check function draws inputs for many shapes, lets both tiers compute, and
 * compares by the tolerance class that kern.def states. Buffers come from slots: memory that ends
 * at a page without access (so a read past the end is caught) or stands between poisoned guards
 * one element off alignment (so a write beside the end is caught). */
#ifndef NM_KCHECK_H
#define NM_KCHECK_H

#include "kernels/kern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- the run ------------------------------------------------------------------------------- */

typedef struct margin {
    enum { CLASS_EXACT, CLASS_ULP, CLASS_DOT, CLASS_EXP } class;
    int ulps;
} margin;

typedef struct kcheck {
    nm_kern ref, tier;
    margin tolerance; /* of the kernel under test */
    uint64_t rng;
    unsigned long cases;
    unsigned one_in;   /* run one case in so many, where there are thousands */
    double worst;      /* largest error seen, in units of the tolerance */
    char failure[320]; /* of the first case that failed; "" = none */
} kcheck;

/* Notes the first failure; what follows is counted but not told. */
__attribute__((format(printf, 2, 3))) void fail(kcheck *c, const char *fmt, ...);

/* Runs the check; a crash in it is a failure of c. */
void guarded(kcheck *c, void (*check)(kcheck *c, void *arg), void *arg);
/* The line of TAP that says how it went. */
void report_run(const kcheck *c, const char *name);
/* A line for a product that this CPU cannot run. */
void report_missing(const char *product);

/* ---- buffers ------------------------------------------------------------------------------- */

enum { SLOTS = 10, SLOT_BYTES = 4 << 20, GUARD_BYTES = 64 };

/* Where a buffer stands in its slot. */
typedef enum placement {
    AT_PAGE_END, /* the next byte faults */
    ALIGNED,     /* 64 bytes, guards on both sides */
    ONE_OFF,     /* one element further */
    N_PLACEMENTS
} placement;

/* no_edges: AT_PAGE_END is ALIGNED. */
void slots_init(bool no_edges);
/* count elements in a slot, the bytes around them poisoned. */
void *slot_take(int slot, placement where, size_t count, size_t elem_bytes);
bool slot_guards_intact(int slot);

/* ---- numbers ------------------------------------------------------------------------------- */

typedef enum flavour {
    PLAIN,   /* uniform in -1 .. 1 */
    WIDE,    /* magnitudes from 1e-12 to 1e12, signs, zeros */
    SPECIAL, /* mostly plain; some NaN, Inf, denormals, -0 */
    N_FLAVOURS,
    /* Of products only (check_products.c): what draw() gives is plain. */
    TINY = N_FLAVOURS, /* rows of x that are tiny as a whole */
    LARGE              /* rows of x, or of F32 weights, with numbers next to fp32's limit */
} flavour;

uint32_t draw_bits(kcheck *c);
/* True for one case in c->one_in. */
bool chosen(kcheck *c);
float draw(kcheck *c, flavour f);
void draw_many(kcheck *c, flavour f, float *to, size_t n);
void draw_bytes(kcheck *c, void *to, size_t n);

/* Distance in representable numbers; 0 for two NaN, huge for one. */
double ulps_apart(float a, float b);
/* By the class of c->tolerance (not DOT); notes the failure under `what` and returns false. */
bool same(kcheck *c, const float *got, const float *want, size_t n, const char *what);
/* |got - want| <= bound; infinities and NaN must be the same kind. */
bool near_enough(kcheck *c, float got, float want, double bound, const char *what);

/* ---- checks and benchmarks, one pair per kernel -------------------------------------------- */

typedef void check_fn(kcheck *c);
/* Prints the lines of one kernel (bench.c). */
typedef struct kbench kbench;
typedef void bench_fn(kbench *b);

#define K(name, args, tolerance, what) \
    check_fn check_##name;             \
    bench_fn bench_##name;
#include "kernels/kern.def"
check_fn check_decode;
check_fn check_attend;

/* Prints one line per kernel whose name contains filter. */
size_t bench_tier(const nm_kern *tier, const nm_cpu *cpu, const char *filter);
/* One line per way, shape, cache type and number of queries of attention. */
size_t bench_attention(const nm_kern *tier, const nm_cpu *cpu, const char *filter);

/* Operations a second, in registers, of the best unit for operands of this type ("f32", "bf16", "i16", "i8")
 * that the tier may use; `tiles`: the matrix unit too. 0 = there is none. */
double unit_rate(const nm_cpu *cpu, const char *isa, const char *type, bool tiles);
/* Bytes a second that this thread reads; bytes: a multiple of 512, more than caches hold. */
double read_rate(const nm_cpu *cpu, const void *memory, size_t bytes);

#endif
