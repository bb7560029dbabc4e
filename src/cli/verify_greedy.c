/* verify_greedy.c: prompts continued greedily both ways, token by token side by side, until the
 * answers part.
 *
 * Two ways of rounding give other answers only where the two likeliest tokens are nearly equal. So where
 * answers part the gap between the base's two best logits is compared with the noise: what the largest difference of
 * any logit between both ways does not exceed at 99 % of all other positions that were compared. A gap above it
 * is not explained by rounding alone. After the first difference there is nothing left to compare: the
 * answers are then of different texts. */
#include "verify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct best {
    npumoe_token first;
    double gap; /* to the second */
} best;

static best best_of(const float *logits, int32_t n)
{
    int32_t a = 0, b = -1;
    for (int32_t i = 1; i < n; i++) {
        if (logits[i] > logits[a]) {
            b = a;
            a = i;
        } else if (b < 0 || logits[i] > logits[b]) {
            b = i;
        }
    }
    return (best){a, b < 0 ? 0.0 : (double)logits[a] - (double)logits[b]};
}

static double max_diff(const float *a, const float *b, int32_t n)
{
    double max = 0.0;
    for (int32_t i = 0; i < n; i++)
        max = fmax(max, fabs((double)a[i] - (double)b[i]));
    return max;
}

static int eval(verify_side *side, const npumoe_token *tokens, size_t n)
{
    npumoe_error err = {0};
    const double start = ui_now();
    npumoe_status st = npumoe_session_eval(side->session, tokens, n, NULL, &err);
    side->seconds += ui_now() - start;
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}

/* tokens has room for the answer. */
static int continue_prompt(verify_greedy *g, verify_prompt *p, verify_side *base,
                           verify_side *other, npumoe_token *tokens, const npumoe_model *model,
                           int32_t n_vocab)
{
    size_t n = g->n_prompt_tokens;
    while (p->n_same < g->n_predict) {
        if (eval(base, tokens, n) != 0 || eval(other, tokens, n) != 0)
            return ui_exit_code(1);
        const float *a = npumoe_session_logits(base->session);
        const float *b = npumoe_session_logits(other->session);
        const best x = best_of(a, n_vocab), y = best_of(b, n_vocab);
        const double diff = max_diff(a, b, n_vocab);
        if (x.first != y.first) {
            *p = (verify_prompt){.start = p->start,
                                 .n_same = p->n_same,
                                 .differs = true,
                                 .base = x.first,
                                 .other = y.first,
                                 .gap = x.gap,
                                 .diff_here = diff};
            return 0;
        }
        if (!kld_values_add(g->diffs, diff))
            return 1;
        p->ended = npumoe_token_is_end(model, x.first);
        if (p->ended)
            return 0;
        p->n_same++;
        tokens[n++] = x.first;
    }
    return 0;
}

static void judge(verify_greedy *g)
{
    g->noise = kld_values_rank(g->diffs, VERIFY_NOISE);
    for (uint32_t i = 0; i < g->n_prompts; i++) {
        verify_prompt *p = &g->prompts[i];
        p->near_tie = p->differs && p->gap <= g->noise;
        g->n_equal += !p->differs;
        g->n_near += p->near_tie;
        g->n_other += p->differs && !p->near_tie;
    }
}

int verify_greedy_run(verify_greedy *g, verify_side *base, verify_side *other,
                      const npumoe_token *tokens, size_t n, npumoe_token bos,
                      const npumoe_model *model, int32_t n_vocab)
{
    const size_t spare = n - g->n_prompt_tokens, room = g->n_prompt_tokens + (size_t)g->n_predict;
    npumoe_token *own = malloc(room * sizeof *own);
    ui_progress bar;
    int code = 0;
    g->prompts = calloc(g->n_prompts, sizeof *g->prompts);
    if (!own || !g->prompts) {
        ui_error("out of memory");
        code = 1;
    }
    ui_progress_begin(&bar, "answers", "prompts");
    for (uint32_t i = 0; code == 0 && i < g->n_prompts; i++) {
        verify_prompt *p = &g->prompts[i];
        p->start = g->n_prompts > 1 ? spare * i / (g->n_prompts - 1) : 0;
        memcpy(own, tokens + p->start, g->n_prompt_tokens * sizeof *own);
        if (bos >= 0)
            own[0] = bos;
        code = continue_prompt(g, p, base, other, own, model, n_vocab);
        if (!ui_progress_step(&bar, i + 1, g->n_prompts) && code == 0)
            code = ui_exit_code(1);
    }
    ui_progress_end(&bar);
    if (code == 0)
        judge(g);
    free(own);
    return code;
}
