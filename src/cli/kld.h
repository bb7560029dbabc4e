/* kld.h: the predictions of one model in a file, to compare another with: llama.cpp's format, so
 * that either program reads what the other wrote.
 *
 *   "_logits_"                     8 bytes
 *   n_ctx, n_vocab, n_chunk        uint32, int32, int32
 *   tokens                         int32[n_chunk][n_ctx]
 *   for each window, for each scored position (n_ctx - 1 - n_ctx/2 of them) one row:
 *     float scale, float min       then uint16[n_vocab], one more if n_vocab is odd
 *     log p(t) = scale * q[t] + min; log p below max - 16 is cut off
 * Little endian, nothing aligned. */
#ifndef NPUMOE_CLI_KLD_H
#define NPUMOE_CLI_KLD_H

#include "out.h"
#include <stdbool.h>

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct kld_file {
    FILE *f;      /* reading */
    out_file out; /* writing */
    const char *path;
    bool writing;
    uint32_t n_ctx;
    int32_t n_vocab, n_chunk;
    int32_t *tokens; /* reading: [n_chunk * n_ctx], owned */
    uint16_t *row;   /* one row as stored, owned */
    size_t row_items;
} kld_file;

/* Each says why not and returns false. */
bool kld_create(kld_file *k, const char *path, uint32_t n_ctx, int32_t n_vocab, int32_t n_chunk,
                const int32_t *tokens);
bool kld_open(kld_file *k, const char *path, int32_t n_vocab);
/* log_sum: log of the sum of exp(logits). */
bool kld_write_row(kld_file *k, const float *logits, float max, double log_sum);
/* log_p[n_vocab] */
bool kld_read_row(kld_file *k, float *log_p);
/* Frees everything. Writing: the file appears if keep; false after a message when it could not. */
bool kld_close(kld_file *k, bool keep);

/* One value for each position, to be ranked. All zero is empty. */
typedef struct kld_values {
    float *each; /* [n], owned; sorted by rank */
    size_t n, room;
    bool sorted;
} kld_values;

/* False after a message: no memory. */
bool kld_values_add(kld_values *v, double value);
/* What a share of the positions (0.99) does not exceed; 0 without positions. */
double kld_values_rank(kld_values *v, double share);
void kld_values_free(kld_values *v);

/* What is summed up over all positions. */
typedef struct kld_sums {
    uint64_t n, same_top;
    double nll, nll2, base, base2, nll_base; /* of -log p(token): this model, base, product */
    double kl, kl2;                          /* KL(base || this) */
    double dp, dp2, dp4, dp_max;             /* p(token) - p_base(token) */
    kld_values each;                         /* KL of each position */
} kld_sums;

#define KLD_CUT (-16.0) /* log p below which a file knows nothing */

/* Adds one position: logits of this model and of the base, each with the log of the sum of its exp(logits)
 * (0 for log probabilities). Tokens whose base log p is not above `cut` are left out of KL; -INFINITY: none.
 * Returns this position's KL; -INFINITY after a message when there is no memory. */
double kld_add(kld_sums *s, const float *logits, double log_sum, const float *base,
               double base_log_sum, double cut, int32_t n_vocab, int32_t token);
/* The KL that a share of the positions (0.99) does not exceed; 0 without positions. */
double kld_rank(kld_sums *s, double share);
void kld_print(kld_sums *s);
void kld_sums_free(kld_sums *s);

/* ln of the sum of exp(logits), and the largest. NaN anywhere makes the sum NaN. */
double kld_log_sum_exp(const float *logits, int32_t n, float *max);

#endif
