/* rope.h: rotary position embedding: from the keys and factor tensors to cos and sin.
 *
 * Angle of pair i at position p:  a = p * f[i],  with
 *   none      f[i] = base^(-2i/n_rot) / factors[i]
 *   linear    f[i] / factor
 *   yarn      a mix of both by a ramp over i between the pairs that turn beta_fast and beta_slow
 *             times in the original context (Peng et al. 2023, arXiv:2309.00071, section 3.2)
 *   longrope  f[i] with `long` factors for sequences longer than the original context, else
 *             `short` (Ding et al. 2024, arXiv:2402.13753)
 * cos and sin are multiplied by mscale. Frequencies and angles are computed in double, because at
 * position 100000 a float angle has lost three digits; results are rounded once.
 *
 * A table has one or two variants; which one holds depends on the length of the whole sequence, so
 * the session keeps it (a cache of keys belongs to one variant). */
#ifndef NM_MODEL_ROPE_H
#define NM_MODEL_ROPE_H

#include "model/config.h"

typedef struct nm_rope_table {
    const npumoe_allocator *allocator;
    nm_rope_kind kind;
    uint32_t n_rot;
    uint32_t n_variants; /* 1, or 2 with longrope: 0 = short, 1 = long */
    uint32_t switch_len; /* sequences longer than this take variant 1 */
    float mscale;
    double *freq; /* [n_variants][n_rot / 2], owned */
} nm_rope_table;

/* factors: [n_rot / 2] or NULL (= 1); long_factors: the same, NULL unless longrope. */
npumoe_status nm_rope_table_init(nm_rope_table *t, const nm_rope *rope, const float *factors,
                                 const float *long_factors, const npumoe_allocator *a,
                                 npumoe_error *err);
void nm_rope_table_fini(nm_rope_table *t);

/* The variant for a sequence of that many tokens. */
uint32_t nm_rope_variant(const nm_rope_table *t, size_t n_tokens);
/* cos[n_rot / 2], sin[n_rot / 2] of one position. */
void nm_rope_angles(const nm_rope_table *t, uint32_t variant, size_t pos, float *cos_out,
                    float *sin_out);

#endif
