/* attention_exact.h: attention by its formula, in fp64, and how far from it a kernel may be. Shared by
 * kcheck and the unit test of attention; knows no TAP and allocates nothing. */
#ifndef TESTS_SUPPORT_ATTENTION_EXACT_H
#define TESTS_SUPPORT_ATTENTION_EXACT_H

#include "kernels/attention.h"

/* args->q and what the cache gives back: k [position][n_head_kv][dim_k], v [position][n_head_kv][dim_v]. */
typedef struct attention_exact {
    const nm_attention_args *args;
    const float *k, *v;
    size_t first, end; /* positions to look at, of those that a row sees; 0, SIZE_MAX = all */
    bool sinks;        /* args->sinks join, if there are any */
} attention_exact;

/* One row: (query of the chunk, query head). */
typedef struct attention_row {
    size_t seen;     /* positions */
    double max, sum; /* of the scores; of exp(score - max), that of the sink included */
    double score;    /* largest finite scale * sum |q k| */
    double value;    /* largest finite |v| */
    double least;    /* smallest exp(score - max) */
    bool infinite;   /* a product of some score is not finite */
    bool nan;        /* a score is NaN */
} attention_row;

/* o[dim_v] becomes the result, divided by its sum; scores: room for as many doubles as positions are
 * seen. What is not finite comes out as fp64 has it: a NaN or +Inf among the scores makes NaN of all of o,
 * a score of -Inf is a weight of 0, Inf in v an Inf of its own element. Nothing seen: NaN, of 0 / 0. */
attention_row attention_exact_row(const attention_exact *e, size_t query, size_t head,
                                  double *scores, double *o);

/* What products are made of. */
typedef enum attention_planes {
    ATTENTION_FP32,
    ATTENTION_TWO, /* hi + lo of bf16 */
    ATTENTION_ONE  /* bf16 */
} attention_planes;

/* How far a result may be, given the largest scale * sum |q k| and the largest |v| of its row. terms: of a score whose
 * roundings may all go the same way, dim_k; 0 where numbers are uniform, and roundings average out. */
double attention_bound(attention_planes planes, size_t terms, double score, double value);

#endif
