/* perplexity.c: npumoe perplexity: how well a model predicts a text.
 *
 * PPL = exp(mean of -ln p(token | tokens before it in its window)). Which tokens count:
 *
 *   default       windows [0, c), [c, 2c), ... of c tokens; the rest that fills no window is left out.
 *                 In each, tokens c/2 + 1 .. c - 1 count (c - 1 - c/2 of them): every one has at least
 *                 half a window before it. This is llama-perplexity's number.
 *   --score all   the same windows; tokens 1 .. c - 1 count.
 *   --ppl-stride S  windows of c tokens that begin at 0, S, 2S, ...; each counts the tokens that no
 *                 earlier window counted, so every token but the first counts exactly once, with at
 *                 least c - S tokens before it (the first window's have fewer). The last window may
 *                 be short. This is the usual "strided" perplexity; the smaller S, the dearer.
 *
 * Where texts of a model begin with BOS, the first token of each window is replaced by it for the
 * evaluation (it is never one that counts). The text is tokenised once, with BOS in front.
 * Standard error: of the mean, taking tokens as independent, times PPL.
 *
 * Memory is constant in the length of the text apart from its tokens: the session hands over one row
 * of logits after the other. */
#include "kld.h"
#include "npu.h"
#include "out.h"
#include "verbs.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct perplexity_args {
    model_args model;
    session_args session;
    text_args text;
    common_args common;
    npu_args npu;
    int32_t chunks, stride;
    bool score_all, kl_divergence;
    const char *kl_base;
    double load_seconds; /* measured, not given */
} perplexity_args;

static bool set_score(const cli_opt *opt, void *field, const char *text, char *why,
                      size_t why_bytes)
{
    (void)opt;
    bool all = strcmp(text, "all") == 0;
    if (!all && strcmp(text, "half") != 0) {
        snprintf(why, why_bytes, "half or all");
        return false;
    }
    *(bool *)field = all;
    return true;
}

static const cli_opt perplexity_opts[] = {
    {NULL, "--chunks", "N", cli_set_most, offsetof(perplexity_args, chunks), -1, INT32_MAX,
     "windows to evaluate at most; -1 = all (-1)", true},
    {NULL, "--score", "WHAT", set_score, offsetof(perplexity_args, score_all), 0, 0,
     "half: the second half of each window, as llama-perplexity;\nall: all of it (half)", true},
    {NULL, "--ppl-stride", "N", cli_set_i32, offsetof(perplexity_args, stride), 0, INT32_MAX,
     "windows begin N tokens apart, each token counts once; 0 = off", true},
    {NULL, "--kl-divergence-base", "FILE", cli_set_string, offsetof(perplexity_args, kl_base), 0, 0,
     "write the predictions to FILE, to compare others with; with\n"
     "--kl-divergence: read them from it (llama.cpp's format)",
     true},
    {NULL, "--kl-divergence", NULL, cli_set_flag, offsetof(perplexity_args, kl_divergence), 0, 0,
     "compare with the predictions in that file; the text is in it", true},
    {0},
};

static const cli_help help = {
    "perplexity",
    "[-m FILE] -f FILE [options]",
    "Measures how well a model predicts a text: the perplexity (lower is better) with\n"
    "its standard error. Windows of -c tokens (default 512).",
    "npumoe perplexity -m olmoe-q4.gguf -f wiki.test.raw\n"
    "npumoe perplexity -m olmoe-f16.gguf -f wiki.test.raw --kl-divergence-base base.kld\n"
    "npumoe perplexity -m olmoe-q4.gguf --kl-divergence --kl-divergence-base base.kld",
};

/* ---- one window --------------------------------------------------------------------------- */

/* What the rows of logits are turned into. */
typedef struct score {
    int32_t n_vocab;
    const npumoe_token *window; /* tokens of the window, the first not yet replaced */
    uint64_t n;
    double nll, nll2;
    kld_file *kld; /* NULL, or open for writing or reading */
    kld_sums *sums;
    float *base; /* [n_vocab] when reading */
    bool broken; /* NaN, or the file could not be used */
} score;

static bool on_logits(void *user, size_t position, const float *logits)
{
    score *s = user;
    float max;
    double log_sum = kld_log_sum_exp(logits, s->n_vocab, &max);
    npumoe_token target = s->window[position + 1];
    double nll = log_sum - (double)logits[target];
    if (!isfinite(nll)) {
        ui_error("the prediction of token %d is not a finite number", (int)target);
        s->broken = true;
        return false;
    }
    s->n++;
    s->nll += nll;
    s->nll2 += nll * nll;
    if (s->kld && s->kld->writing)
        s->broken = !kld_write_row(s->kld, logits, max, log_sum);
    else if (s->kld) {
        s->broken = !kld_read_row(s->kld, s->base);
        s->broken = s->broken || kld_add(s->sums, logits, log_sum, s->base, 0.0, KLD_CUT,
                                         s->n_vocab, target) == -INFINITY;
    }
    return !s->broken;
}

typedef struct evaluator {
    npumoe_session *session;
    npumoe_token *buffer; /* [window]: with BOS in front */
    npumoe_token bos;     /* -1 = none */
} evaluator;

/* Scores window[first .. n). The last token is only predicted, so it is not evaluated. */
static npumoe_status score_window(const evaluator *t, score *s, const npumoe_token *window,
                                  size_t n, size_t first, npumoe_error *err)
{
    memcpy(t->buffer, window, n * sizeof *window);
    if (t->bos >= 0)
        t->buffer[0] = t->bos;
    s->window = window;
    npumoe_eval_options eval = npumoe_eval_options_default();
    eval.on_logits = on_logits;
    eval.user = s;
    eval.logits_from = first - 1;
    return npumoe_session_eval(t->session, t->buffer, n - 1, &eval, err);
}

/* ---- all windows -------------------------------------------------------------------------- */

static double standard_error(const score *s)
{
    double mean = s->nll / (double)s->n, var = s->nll2 / (double)s->n - mean * mean;
    return s->n > 1 && var > 0 ? sqrt(var / (double)(s->n - 1)) : 0.0;
}

static void report_window(const score *s, size_t index, size_t n_windows, double seconds)
{
    if (index == 0) {
        double all = seconds * (double)n_windows;
        ui_note("%.2f seconds per window, about %.1f minutes for %zu", seconds, all / 60.0,
                n_windows);
    }
    printf("[%zu]%.4f,", index + 1, exp(s->nll / (double)s->n));
    fflush(stdout);
}

typedef struct plan {
    size_t n_tokens, window, stride, n_windows;
    bool all, strided;
} plan;

/* The tokens of window i and the first of them that counts. */
static size_t window_span(const plan *p, size_t i, size_t *n, size_t *first)
{
    size_t start = i * p->stride, end = start + p->window;
    if (end > p->n_tokens)
        end = p->n_tokens;
    *n = end - start;
    if (p->strided)
        *first = i == 0 ? 1 : p->window - p->stride;
    else
        *first = p->all ? 1 : p->window / 2 + 1;
    return start;
}

static int score_all_windows(const plan *p, evaluator *t, score *s, const npumoe_token *tokens)
{
    for (size_t i = 0; i < p->n_windows; i++) {
        size_t n, first, start = window_span(p, i, &n, &first);
        double began = ui_now();
        npumoe_error err = {0};
        npumoe_status st = score_window(t, s, tokens + start, n, first, &err);
        if (s->broken)
            return 1;
        if (st != NPUMOE_OK) {
            putchar('\n');
            return ui_fail(st, &err);
        }
        report_window(s, i, p->n_windows, ui_now() - began);
        if (ferror(stdout))
            return 1;
    }
    putchar('\n');
    if (s->sums)
        kld_print(s->sums);
    else {
        double ppl = exp(s->nll / (double)s->n);
        printf("Final estimate: PPL = %.4f +/- %.5f\n", ppl, ppl * standard_error(s));
    }
    ui_note("%" PRIu64 " tokens counted in %zu windows of %zu", s->n, p->n_windows, p->window);
    return 0;
}

/* False after a message. */
static bool make_plan(const perplexity_args *a, const npumoe_model *model, size_t n_tokens, plan *p)
{
    uint32_t given = given_ctx(&a->session, model);
    size_t window = given ? given : 512;
    *p = (plan){.n_tokens = n_tokens, .window = window, .stride = window, .all = a->score_all};
    if (window < 4) {
        ui_error("perplexity: windows of %zu tokens are too short: give -c 4 or more", window);
        return false;
    }
    if (a->stride > 0) {
        p->stride = (size_t)a->stride;
        p->strided = true;
        if (p->stride >= window) {
            ui_error("perplexity: --ppl-stride %zu must be below the window of %zu tokens",
                     p->stride, window);
            return false;
        }
    }
    if (n_tokens < window) {
        ui_error(
            "the text has %zu tokens, one window needs %zu: give a longer text or a smaller -c",
            n_tokens, window);
        return false;
    }
    p->n_windows =
        p->strided ? 1 + (n_tokens - window + p->stride - 1) / p->stride : n_tokens / window;
    if (a->chunks > 0 && (size_t)a->chunks < p->n_windows)
        p->n_windows = (size_t)a->chunks;
    return true;
}

/* ---- the verb ----------------------------------------------------------------------------- */

/* No bar: the windows' numbers on standard output are the progress. */
static bool go_on(void *user, uint64_t done, uint64_t total)
{
    (void)user, (void)done, (void)total;
    return !ui_interrupted();
}

static int with_session(const perplexity_args *a, npumoe_model *model, const plan *p, kld_file *kld,
                        const npumoe_token *tokens)
{
    double start = ui_now();
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_model_get_info(model, &info);
    npumoe_session_options opt = session_options(&a->session, (uint32_t)p->window);
    opt.progress = go_on;
    kld_sums sums = {0};
    evaluator t = {.bos = model_adds_bos(model) ? npumoe_token_bos(model) : -1};
    score s = {.n_vocab = info.n_vocab, .kld = kld};
    if (a->kl_divergence)
        s.sums = &sums;
    t.buffer = malloc(p->window * sizeof *t.buffer);
    s.base = malloc((size_t)info.n_vocab * sizeof *s.base);
    npumoe_error err = {0};
    int code = 1;
    if (!t.buffer || !s.base)
        ui_error("out of memory");
    else {
        npumoe_status st = npumoe_session_new(model, &opt, &t.session, &err);
        code = st == NPUMOE_OK ? score_all_windows(p, &t, &s, tokens) : ui_fail(st, &err);
    }
    if (code == 0 && !a->common.no_perf) {
        npumoe_session_stats stats = {.struct_bytes = sizeof stats};
        npumoe_session_get_stats(t.session, &stats);
        ui_timings(a->load_seconds, &stats, ui_now() - start);
    }
    npumoe_session_free(&t.session);
    kld_sums_free(&sums);
    free(t.buffer);
    free(s.base);
    return code;
}

/* Compares with the predictions in a file, over the tokens in it. */
static int compare(perplexity_args *a, npumoe_model *model)
{
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_model_get_info(model, &info);
    kld_file kld;
    if (!a->kl_base) {
        ui_error("--kl-divergence needs --kl-divergence-base FILE");
        return 1;
    }
    if (!kld_open(&kld, a->kl_base, info.n_vocab))
        return 1;
    a->session.ctx = (int32_t)kld.n_ctx;
    plan p;
    int code = 1;
    if (make_plan(a, model, (size_t)kld.n_ctx * (size_t)kld.n_chunk, &p))
        code = with_session(a, model, &p, &kld, kld.tokens);
    kld_close(&kld, false);
    return code;
}

static int measure(const perplexity_args *a, npumoe_model *model)
{
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_model_get_info(model, &info);
    char *text;
    size_t bytes, n = 0;
    if (!text_read(&a->text, false, &text, &bytes))
        return 1;
    npumoe_token *tokens = text_tokens(model, text, bytes, NPUMOE_TOKENIZE_ADD_SPECIAL, &n);
    free(text);
    plan p;
    kld_file kld = {0};
    int code = 1;
    if (tokens && make_plan(a, model, n, &p) &&
        (!a->kl_base || kld_create(&kld, a->kl_base, (uint32_t)p.window, info.n_vocab,
                                   (int32_t)p.n_windows, tokens)))
        code = with_session(a, model, &p, a->kl_base ? &kld : NULL, tokens);
    if (!kld_close(&kld, code == 0))
        code = 1;
    free(tokens);
    return code;
}

static bool check(const perplexity_args *a)
{
    if (a->kl_base && (a->score_all || a->stride)) {
        ui_error("--kl-divergence-base goes with the default windows, not with --score all or "
                 "--ppl-stride");
        return false;
    }
    return (a->kl_divergence || spares_model(&a->model, "--kl-divergence-base", a->kl_base)) &&
           npu_spares_inputs(&a->npu, &a->model, a->common.log_file, a->text.file) &&
           out_apart("--kl-divergence-base", a->kl_base, "--trace-out", a->npu.trace_out);
}

static int perplexity(perplexity_args *a, ui_log *log)
{
    npumoe_model *model = NULL;
    npu n = {0};
    int code = npu_read(&a->npu, &a->model, &n)
                   ? model_open(&a->model, false, log, &model, &a->load_seconds)
                   : 1;
    if (code == 0)
        code = npu_open(&a->npu, model, log, &n);
    if (code == 0)
        code = a->kl_divergence ? compare(a, model) : measure(a, model);
    if (code == 0)
        code = npu_report(&a->npu, model, &n);
    npumoe_model_free(&model);
    npu_close(&n);
    return code;
}

int cmd_perplexity(int argc, char **argv)
{
    perplexity_args a = {.session = SESSION_ARGS_DEFAULT, .npu = NPU_ARGS_DEFAULT, .chunks = -1};
    const cli_group groups[] = {
        {"Text", text_opts, &a.text},
        {"Perplexity", perplexity_opts, &a},
        {"Model", model_opts, &a.model},
        {"Context", session_opts, &a.session},
        {"Device", npu_opts, &a.npu},
        {"Other", common_opts, &a.common},
        {0},
    };
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, NULL, 0, NULL);
    int code = cli_exit_code(parsed);
    ui_log log = {0};
    if (parsed == CLI_GO) {
        ui_catch_interrupts();
        code = check(&a) && log_open(&log, &a.common, &a.model) ? perplexity(&a, &log) : 1;
        code = ui_exit_code(code);
    }
    ui_log_close(&log);
    npu_args_free(&a.npu);
    return code;
}
