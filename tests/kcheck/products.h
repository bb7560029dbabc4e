/* products.h: what check_products.c, problem.c and bench_products.c share.
 *
 * A problem is a set of rows and matrices with, for every element of the result, what each class of
 * products needs to know for its tolerance. It is computed once, in fp64, from weights as quant/
 * decodes them, and all products are compared with it. */
#ifndef NM_KCHECK_PRODUCTS_H
#define NM_KCHECK_PRODUCTS_H

#include "kcheck.h"

enum { PROBLEM_M = 61, PROBLEM_N = 95, PROBLEM_K = 1280 };

/* ---- the products of this machine ----------------------------------------------------------- */

/* One product as one CPU would have it; the same constant may serve several. */
typedef struct product_run {
    nm_cpu cpu;
    nm_kern kern;
    nm_product_slot slot;
    const nm_product *product;
    char name[32]; /* "avx512 i16" */
    kcheck check;
    uint64_t bits; /* digest of all results of `out` */
} product_run;

enum { MAX_PRODUCT_RUNS = 48 };

/* Every different product that this CPU has, or would have without some of its features: features
 * are taken away one by one. Only those of `tier` unless it is NULL. Returns their number. */
size_t product_runs(const nm_cpu *cpu, const char *tier, product_run runs[MAX_PRODUCT_RUNS]);

/* ---- numbers -------------------------------------------------------------------------------- */

/* Blocks with any codes and scales of flavour f: PLAIN: weights of about 1; WIDE: any finite scale;
 * SPECIAL: plain ones, but some rows have a block whose scale is NaN, infinite, huge or denormal. */
void draw_weights(kcheck *c, uint32_t type, flavour f, size_t rows, size_t k, void *to);

/* Which ones: only such that every weight is finite, and one block of a row rather than all. */
typedef struct extremes {
    bool finite, one_block;
} extremes;

/* Enough rows for each pair of extreme scales with each extreme of codes. */
enum { EXTREME_ROWS = 95 };

/* Block formats: rows whose blocks have d = dmin = -1, the largest and smallest half or one that is none,
 * or MXFP4's first and last exponents; codes all at min, all at max, or any. */
void draw_extreme_weights(kcheck *c, uint32_t type, extremes kind, size_t rows, size_t k, void *to);

/* A matrix and its exact numbers. */
typedef struct drawn_mat {
    nm_mat mat;
    float *w; /* [rows][cols] */
    float
        *min; /* [rows][cols]: what a weight is when its code is 0, for types that have minimums */
    float *most; /* [rows][cols]: the largest magnitude that a weight's scales allow */
} drawn_mat;

/* Fills w, min and most from mat. */
void exact_weights(drawn_mat *w);

/* One element of x W^T. */
typedef struct exact {
    double sum;    /* of x w */
    double size;   /* of |x w| */
    double terms;  /* of |x| (|w| + 2 |min|): what is added up where minimums are summed apart */
    double blocks; /* over blocks of 32 inputs: max |x| sum |w| */
    double groups; /* over groups of n <= 256 inputs: n max |x| (max |most| + 2 max |min|) */
    double apart;  /* of |x most| */
    double x, w;   /* of |x|, of |w| */
    /* MXFP4: scales allow for weights next to fp32's limit or beyond it. Integers know the sum, fp32 does
     * not, and what the scale becomes may be infinite: any result is right. */
    bool beyond;
} exact;

/* exact[i * PROBLEM_N + j] for i < m and all rows of the matrix. */
void exact_products(const drawn_mat *w, size_t m, const float *const *x, exact *to);

/* How far from e->sum a product of this slot may be, k inputs, weights of this type. */
double product_bound(nm_product_slot slot, uint32_t type, size_t k, const exact *e);

/* ---- checks and benchmarks ------------------------------------------------------------------ */

/* Many rows and long ones, of a product_run. */
void check_large(kcheck *c, void *run);
/* emulated: smaller problems and fewer of them, no large ones; every type, product and odd size. */
void check_products(const nm_cpu *cpu, const char *tier, uint64_t seed, bool emulated);
size_t bench_products(const nm_cpu *cpu, const char *tier, const char *filter);

#endif
