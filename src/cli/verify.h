/* verify.h: what the files of npumoe verify share: verify.c evaluates a text both ways, verify_greedy.c
 * continues prompts both ways, verify_report.c says what came of it. */
#ifndef NPUMOE_CLI_VERIFY_H
#define NPUMOE_CLI_VERIFY_H

#include "kld.h"
#include "load.h"

#include <jansson.h>

/* One way through the model. */
typedef struct verify_side {
    npumoe_session *session;
    char what[96]; /* "CPU path, avx512, auto" */
    double seconds;
} verify_side;

/* Rows of logits against rows of logits; the base's come first. */
typedef struct verify_sums {
    kld_sums kld;
    kld_values diffs; /* the largest of a logit at each position */
    int32_t n_vocab;
    double max_diff, sum_diff; /* |difference| of a logit; over all of kld.n rows */
    size_t max_diff_at;        /* positions are tokens of the text */
    double kl_max;
    size_t kl_max_at;
    double flip_gap; /* largest top-2 gap of the base where the first choices differ */
} verify_sums;

/* False after a message: a value is not finite, or no memory. */
bool verify_add(verify_sums *s, const float *base, const float *logits, npumoe_token target,
                size_t position);
void verify_sums_free(verify_sums *s);

/* A prompt that was continued both ways. */
typedef struct verify_prompt {
    size_t start;           /* its first token in the text */
    uint32_t n_same;        /* tokens of the answers that are equal */
    bool differs, near_tie; /* near_tie: the gap is below the noise */
    bool ended;             /* both answers ended together */
    npumoe_token base, other;
    double gap;       /* between the base's first and second choice where the answers part */
    double diff_here; /* largest difference of a logit there */
} verify_prompt;

/* Noise is what the largest difference of a logit does not exceed at this share of the positions. Not at all of them:
 * a token that rounding at a near tie of the router sends to another expert has logits a thousand times further
 * apart than others, and no gap would be above that. Nor at 99.9 %, which is still among such tokens. The demo
 * model, every expert on the device, 15,000 positions of tales: median 0.0017, 99 % 0.012, 99.9 % 0.23, all 2.3. */
#define VERIFY_NOISE 0.99

typedef struct verify_greedy {
    uint32_t n_prompts, n_prompt_tokens, n_predict;
    verify_prompt *prompts; /* owned */
    kld_values *diffs;      /* borrowed; those of the answers are added, but for where they part */
    double noise;           /* VERIFY_NOISE of diffs */
    uint32_t n_equal, n_near, n_other;
} verify_greedy;

/* Continues g->n_prompts prompts cut from tokens[n]. bos: -1 = none. Exit code, after a message. */
int verify_greedy_run(verify_greedy *g, verify_side *base, verify_side *other,
                      const npumoe_token *tokens, size_t n, npumoe_token bos,
                      const npumoe_model *model, int32_t n_vocab);

/* Everything that is said. */
typedef struct verify_result {
    const char *model, *text;
    verify_side *base, *other;
    size_t n_tokens, n_windows, n_windows_all, window;
    verify_sums *sums;
    verify_greedy *greedy;        /* or NULL */
    json_t *plan;                 /* npumoe_plan_report(), or NULL */
    double max_kl, min_agreement; /* gates; < 0 = none */
} verify_result;

/* Prints the result as text or JSON. False when a gate is not passed, after a message with the numbers. */
bool verify_print(const verify_result *r, bool json);

#endif
