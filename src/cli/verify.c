/* verify.c: npumoe verify: is what the plan computes what the model computes?
 *
 * A text goes through the model twice: the base, and the way that is to be checked.
 *
 *   with --plan      the plan on its device, against --against
 *     cpu            the CPU path with the same kernels and chunks: what remains is the device (the default)
 *     fp32           the CPU path with --precision fp32
 *     reference      plain C in fp32 (--isa scalar --precision fp32): slow, and what the others are tested with
 *   without          the CPU path as --isa and --precision say, against fp32 or reference (the default)
 *
 * The text is cut into windows of -c tokens; each is one prompt, so that a plan sees chunks as in daily use,
 * two in flight where it says so. Every position but a window's last counts, from the first token on: unlike
 * perplexity, where predictions without much before them blur the number, here they are as good as others.
 * Rows of logits of the base are kept in memory for a window (n_ctx x vocabulary x 4 bytes): rounding them
 * for a file would drown what is measured. Between the first token and the last there is no tolerance; there
 * are distributions, and gates that the user sets.
 *
 * A check that checks nothing must not pass: no launch that the device completed is an error. */
#include "verify.h"

#include "npu.h"
#include "out.h"
#include "verbs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_WINDOW = 2048, DEFAULT_PROMPT = 512 };

typedef enum against { AGAINST_DEFAULT, AGAINST_CPU, AGAINST_FP32, AGAINST_REFERENCE } against;

typedef struct verify_args {
    model_args model;
    session_args session;
    text_args text;
    common_args common;
    npu_args npu;
    against against;
    int32_t chunks, greedy, prompts, prompt_tokens;
    float max_kl, min_agreement;
    bool json;
} verify_args;

static const char *const against_names[] = {"", "cpu", "fp32", "reference"};

static bool set_against(const cli_opt *opt, void *field, const char *text, char *why,
                        size_t why_bytes)
{
    (void)opt;
    for (size_t i = 1; i < sizeof against_names / sizeof against_names[0]; i++) {
        if (strcmp(text, against_names[i]) == 0) {
            *(against *)field = (against)i;
            return true;
        }
    }
    snprintf(why, why_bytes, "cpu, fp32 or reference");
    return false;
}

#define AT(f) offsetof(verify_args, f)

static const cli_opt verify_opts[] = {
    {NULL, "--against", "BASE", set_against, AT(against), 0, 0,
     "cpu: the CPU path, else the same; fp32: with --precision fp32;\nreference: plain C in fp32, "
     "slow; default: cpu with --plan,\nreference without",
     true},
    {NULL, "--chunks", "N", cli_set_most, AT(chunks), -1, INT32_MAX,
     "windows of -c tokens to compare at most; -1 = all (8)", true},
    {NULL, "--max-kl", "X", cli_set_float, AT(max_kl), 0, 1e9,
     "fail (exit code 1) when the mean KL divergence is above X", true},
    {NULL, "--min-agreement", "PERCENT", cli_set_float, AT(min_agreement), 0, 100,
     "fail when fewer positions have the same likeliest token", true},
    {NULL, "--greedy", "N", cli_set_i32, AT(greedy), 0, INT32_MAX,
     "also continue prompts from the text by N tokens both ways", true},
    {NULL, "--prompts", "N", cli_set_i32, AT(prompts), 1, 1 << 20,
     "so many prompts, evenly over the text (20)", true},
    {NULL, "--prompt-tokens", "N", cli_set_i32, AT(prompt_tokens), 1, INT32_MAX,
     "tokens of each prompt (512)", true},
    {NULL, "--json", NULL, cli_set_flag, AT(json), 0, 0, "the result as JSON", true},
    {0},
};

static const cli_help help = {
    "verify",
    "[-m FILE] -f TEXT [--plan FILE] [options]",
    "Evaluates a text twice, by a plan and on the CPU (or on the CPU and by the reference),\n"
    "and says how far the predictions are apart: logits, KL divergence, likeliest tokens,\n"
    "perplexity; what was dropped; with --greedy also whether answers are equal.",
    "npumoe verify -m olmoe.gguf -f book.txt --plan olmoe.plan.json --max-kl 1e-4\n"
    "npumoe verify -m olmoe.gguf -f book.txt --plan olmoe.plan.json --greedy 200\n"
    "npumoe verify -m olmoe.gguf -f book.txt --precision fast --against fp32",
};

/* ---- sums ----------------------------------------------------------------------------------- */

static double top_gap(const float *logits, int32_t n, int32_t *top)
{
    float first = -INFINITY, second = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        if (logits[i] > first) {
            second = first;
            first = logits[i];
            *top = i;
        } else if (logits[i] > second) {
            second = logits[i];
        }
    }
    return (double)first - (double)second;
}

static void add_flip(verify_sums *s, const float *base, const float *logits)
{
    int32_t a = 0, b = 0;
    const double gap = top_gap(base, s->n_vocab, &a);
    top_gap(logits, s->n_vocab, &b);
    if (a != b)
        s->flip_gap = fmax(s->flip_gap, gap);
}

bool verify_add(verify_sums *s, const float *base, const float *logits, npumoe_token target,
                size_t position)
{
    float max;
    const double base_sum = kld_log_sum_exp(base, s->n_vocab, &max);
    const double sum = kld_log_sum_exp(logits, s->n_vocab, &max);
    if (!isfinite(base_sum) || !isfinite(sum)) {
        ui_error("the prediction after token %zu is not a finite number (%s)", position,
                 isfinite(base_sum) ? "by the way that is checked" : "by the base already");
        return false;
    }
    double largest = 0.0;
    for (int32_t i = 0; i < s->n_vocab; i++) {
        const double d = fabs((double)base[i] - (double)logits[i]);
        s->sum_diff += d;
        largest = fmax(largest, d);
    }
    if (largest > s->max_diff) {
        s->max_diff = largest;
        s->max_diff_at = position;
    }
    if (!kld_values_add(&s->diffs, largest))
        return false;
    const double kl = kld_add(&s->kld, logits, sum, base, base_sum, -INFINITY, s->n_vocab, target);
    if (kl > s->kl_max) {
        s->kl_max = kl;
        s->kl_max_at = position;
    }
    add_flip(s, base, logits);
    return kl != -INFINITY;
}

void verify_sums_free(verify_sums *s)
{
    kld_sums_free(&s->kld);
    kld_values_free(&s->diffs);
    *s = (verify_sums){0};
}

/* ---- windows -------------------------------------------------------------------------------- */

typedef struct work {
    const verify_args *args;
    verify_side base, other;
    verify_sums sums;
    npumoe_token *tokens; /* of the text */
    size_t n_tokens, window, n_windows, n_windows_all;
    npumoe_token bos;    /* -1 = none */
    npumoe_token *input; /* [window] */
    float *rows;         /* [window - 1][n_vocab] of the base */
    size_t start;        /* of the window */
    bool failed;
} work;

static bool keep_row(void *user, size_t position, const float *logits)
{
    work *w = user;
    if (position + 1 < w->window)
        memcpy(w->rows + position * (size_t)w->sums.n_vocab, logits,
               (size_t)w->sums.n_vocab * sizeof *logits);
    return true;
}

static bool compare_row(void *user, size_t position, const float *logits)
{
    work *w = user;
    if (position + 1 < w->window)
        w->failed = !verify_add(&w->sums, w->rows + position * (size_t)w->sums.n_vocab, logits,
                                w->tokens[w->start + position + 1], w->start + position);
    return !w->failed;
}

static npumoe_status pass(work *w, verify_side *side, npumoe_logits_fn on_logits, npumoe_error *err)
{
    npumoe_eval_options eval = npumoe_eval_options_default();
    const double start = ui_now();
    eval.on_logits = on_logits;
    eval.user = w;
    npumoe_status st = npumoe_session_eval(side->session, w->input, w->window, &eval, err);
    side->seconds += ui_now() - start;
    return st;
}

static int compare_windows(work *w)
{
    ui_progress bar;
    npumoe_error err = {0};
    npumoe_status st = NPUMOE_OK;
    ui_progress_begin(&bar, "verify", "windows");
    for (size_t i = 0; st == NPUMOE_OK && i < w->n_windows; i++) {
        w->start = i * w->window;
        memcpy(w->input, w->tokens + w->start, w->window * sizeof *w->input);
        if (w->bos >= 0)
            w->input[0] = w->bos;
        st = pass(w, &w->base, keep_row, &err);
        if (st == NPUMOE_OK)
            st = pass(w, &w->other, compare_row, &err);
        ui_progress_step(&bar, i + 1, w->n_windows);
    }
    ui_progress_end(&bar);
    if (w->failed)
        return 1;
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}

/* ---- the two ways --------------------------------------------------------------------------- */

static bool go_on(void *user, uint64_t done, uint64_t total)
{
    (void)user, (void)done, (void)total;
    return !ui_interrupted();
}

static int make_session(const verify_args *a, npumoe_model *model, uint32_t n_ctx, uint32_t n_chunk,
                        bool ignore_plan, verify_side *side)
{
    npumoe_session_options opt = session_options(&a->session, n_ctx);
    npumoe_error err = {0};
    opt.n_chunk = n_chunk < opt.n_chunk ? n_chunk : opt.n_chunk;
    opt.ignore_plan = ignore_plan;
    opt.progress = go_on;
    npumoe_status st = npumoe_session_new(model, &opt, &side->session, &err);
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}

static void name_side(const npumoe_model *model, npumoe_precision precision, verify_side *side)
{
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_model_get_info(model, &info);
    snprintf(side->what, sizeof side->what, "CPU, %s, precision %s, %d thread%s", info.isa,
             precision_name(precision), (int)info.n_threads, info.n_threads == 1 ? "" : "s");
}

typedef struct opened {
    npumoe_model *model, *base; /* base: NULL = the same model */
    npu npu;
    json_t *plan; /* what the library says of it, or NULL */
} opened;

/* The model of the base, where it is another one: same file, other kernels. */
static int open_base(const verify_args *a, ui_log *log, opened *o)
{
    char path[4400];
    model_args m = a->model;
    if (a->against == AGAINST_CPU)
        return 0;
    m.path = model_find(&a->model, path, sizeof path);
    m.precision = NPUMOE_PRECISION_FP32;
    if (a->against == AGAINST_REFERENCE)
        m.isa = "scalar";
    return model_open(&m, false, log, &o->base, NULL);
}

static json_t *plan_report(npumoe_model *model)
{
    char *text = NULL;
    npumoe_error err = {0};
    npumoe_status st = npumoe_plan_report(model, &text, &err);
    json_t *root = st == NPUMOE_OK ? json_loads(text, 0, NULL) : NULL;
    npumoe_text_free(&text);
    if (!root)
        ui_fail(st, &err);
    return root;
}

static uint32_t plan_chunk(const json_t *plan)
{
    const json_int_t chunk = json_integer_value(json_object_get(plan, "chunk"));
    return chunk > 0 && chunk < UINT32_MAX ? (uint32_t)chunk : UINT32_MAX;
}

/* Sessions of both ways, in chunks of one length. */
static int open_sides(const verify_args *a, const opened *o, uint32_t n_ctx, work *w)
{
    const uint32_t chunk = plan_chunk(o->plan);
    npumoe_model *base = o->base ? o->base : o->model;
    int code = make_session(a, base, n_ctx, chunk, true, &w->base);
    if (code == 0)
        code = make_session(a, o->model, n_ctx, chunk, false, &w->other);
    name_side(base, o->base ? NPUMOE_PRECISION_FP32 : a->model.precision, &w->base);
    name_side(o->model, a->model.precision, &w->other);
    return code;
}

/* ---- the verb ------------------------------------------------------------------------------- */

/* Windows and their memory. False after a message. */
static bool make_windows(const verify_args *a, const npumoe_model *model, work *w)
{
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_model_get_info(model, &info);
    const uint32_t given = given_ctx(&a->session, model);
    w->window = given ? given : DEFAULT_WINDOW;
    if (!given && info.n_ctx_train && w->window > info.n_ctx_train)
        w->window = info.n_ctx_train;
    w->window = w->window < w->n_tokens ? w->window : w->n_tokens;
    if (w->window < 2) {
        ui_error("verify: the text has %zu token%s: give some thousand tokens of what the model is "
                 "used for",
                 w->n_tokens, w->n_tokens == 1 ? "" : "s");
        return false;
    }
    w->n_windows = w->n_windows_all = w->n_tokens / w->window;
    if (a->chunks > 0 && (size_t)a->chunks < w->n_windows)
        w->n_windows = (size_t)a->chunks;
    w->sums.n_vocab = info.n_vocab;
    w->bos = model_adds_bos(model) ? npumoe_token_bos(model) : -1;
    w->input = malloc(w->window * sizeof *w->input);
    w->rows = calloc(w->window, (size_t)info.n_vocab * sizeof *w->rows);
    if (w->input && w->rows)
        return true;
    ui_error("out of memory for the predictions of %zu tokens: give a smaller -c", w->window);
    return false;
}

/* Prompts must fit the context with their answers. */
static bool make_prompts(const verify_args *a, const work *w, const npumoe_model *model,
                         verify_greedy *g)
{
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_model_get_info(model, &info);
    const size_t n = a->prompt_tokens ? (size_t)a->prompt_tokens : DEFAULT_PROMPT;
    *g = (verify_greedy){.n_prompts = (uint32_t)a->prompts,
                         .n_prompt_tokens = (uint32_t)(n < w->n_tokens ? n : w->n_tokens),
                         .n_predict = (uint32_t)a->greedy};
    if (!info.n_ctx_train || g->n_prompt_tokens + (uint64_t)g->n_predict <= info.n_ctx_train)
        return true;
    ui_error("verify: prompts of %u tokens and answers of %u do not fit the %u that the model was "
             "trained for: give smaller --prompt-tokens or --greedy",
             g->n_prompt_tokens, g->n_predict, info.n_ctx_train);
    return false;
}

static bool ran_by_plan(const opened *o)
{
    npumoe_plan_stats s = {.struct_bytes = sizeof s};
    npumoe_plan_get_stats(o->model, &s);
    if (s.n_launches + s.n_part_launches > 0)
        return true;
    if (s.n_tokens == 0)
        ui_error(
            "verify: not one token went by the plan, so nothing was verified: it leaves prompts of "
            "this length to the CPU (npumoe explain shows from how many tokens on it pays)");
    else if (s.n_failures > 0)
        ui_error("verify: the device completed not one launch (%llu failed), so nothing was "
                 "verified: both ways are the CPU's",
                 (unsigned long long)s.n_failures);
    else
        ui_error("verify: nothing was worth a launch on the device, so nothing was verified: both "
                 "ways are the CPU's; longer chunks (-ub) or windows (-c) give its programs more "
                 "rows, --npu-from does not help");
    return false;
}

static int measure(const verify_args *a, opened *o, work *w)
{
    verify_greedy g = {0};
    if (!make_windows(a, o->model, w) || !make_prompts(a, w, o->model, &g))
        return 1;
    const size_t answers = a->greedy ? (size_t)g.n_prompt_tokens + g.n_predict : 0;
    int code = open_sides(a, o, (uint32_t)(w->window > answers ? w->window : answers), w);
    if (code == 0)
        code = compare_windows(w);
    if (code == 0 && a->greedy) {
        g.diffs = &w->sums.diffs;
        code = verify_greedy_run(&g, &w->base, &w->other, w->tokens, w->n_tokens, w->bos, o->model,
                                 w->sums.n_vocab);
    }
    if (code == 0 && o->plan) {
        json_decref(o->plan);
        o->plan = plan_report(o->model);
        code = o->plan && ran_by_plan(o) ? 0 : 1;
    }
    if (code == 0) {
        npumoe_model_info info = {.struct_bytes = sizeof info};
        npumoe_model_get_info(o->model, &info);
        const verify_result r = {.model = info.name,
                                 .text = a->text.file ? a->text.file : "",
                                 .base = &w->base,
                                 .other = &w->other,
                                 .n_tokens = w->n_tokens,
                                 .n_windows = w->n_windows,
                                 .n_windows_all = w->n_windows_all,
                                 .window = w->window,
                                 .sums = &w->sums,
                                 .greedy = a->greedy ? &g : NULL,
                                 .plan = o->plan,
                                 .max_kl = (double)a->max_kl,
                                 .min_agreement = (double)a->min_agreement};
        code = verify_print(&r, a->json) ? 0 : 1;
    }
    free(g.prompts);
    return code;
}

static int verify(verify_args *a, ui_log *log, const char *text, size_t bytes)
{
    opened o = {0};
    work w = {.args = a};
    int code = npu_read(&a->npu, &a->model, &o.npu)
                   ? model_open(&a->model, false, log, &o.model, NULL)
                   : 1;
    if (code == 0)
        code = npu_open(&a->npu, o.model, log, &o.npu);
    if (code == 0 && o.npu.path)
        code = (o.plan = plan_report(o.model)) ? 0 : 1;
    if (code == 0)
        code = open_base(a, log, &o);
    if (code == 0) {
        w.tokens = text_tokens(o.model, text, bytes, NPUMOE_TOKENIZE_ADD_SPECIAL, &w.n_tokens);
        code = w.tokens ? measure(a, &o, &w) : 1;
    }
    if (code == 0)
        code = npu_report(&a->npu, o.model, &o.npu);
    npumoe_session_free(&w.base.session);
    npumoe_session_free(&w.other.session);
    npumoe_model_free(&o.base);
    npumoe_model_free(&o.model);
    npu_close(&o.npu);
    json_decref(o.plan);
    verify_sums_free(&w.sums);
    free(w.tokens);
    free(w.input);
    free(w.rows);
    return code;
}

/* False after a message. */
static bool check(verify_args *a)
{
    if (a->against == AGAINST_DEFAULT)
        a->against = a->npu.plans.n ? AGAINST_CPU : AGAINST_REFERENCE;
    if (a->npu.plans.n == 0 && a->against == AGAINST_CPU) {
        ui_error("verify: --against cpu needs --plan: else both ways are the same");
        return false;
    }
    if (!a->text.prompt && !a->text.file && isatty(STDIN_FILENO)) {
        ui_error("verify: which text? -f FILE, or standard input: some thousand tokens of what the "
                 "model is used for");
        return false;
    }
    return npu_spares_inputs(&a->npu, &a->model, a->common.log_file, a->text.file);
}

int cmd_verify(int argc, char **argv)
{
    verify_args a = {.session = SESSION_ARGS_DEFAULT,
                     .npu = NPU_ARGS_DEFAULT,
                     .chunks = 8,
                     .prompts = 20,
                     .max_kl = -1.0f,
                     .min_agreement = -1.0f};
    const cli_group groups[] = {
        {"Text", text_opts, &a.text},
        {"Verification", verify_opts, &a},
        {"Model", model_opts, &a.model},
        {"Context", session_opts, &a.session},
        {"Device", npu_opts, &a.npu},
        {"Other", log_opts, &a.common},
        {0},
    };
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, NULL, 0, NULL);
    int code = cli_exit_code(parsed);
    if (parsed != CLI_GO)
        return code;
    ui_log log = {0};
    char *text = NULL;
    size_t bytes = 0;
    code = 1;
    ui_catch_interrupts();
    if (check(&a) && log_open(&log, &a.common, &a.model) &&
        text_read(&a.text, false, &text, &bytes))
        code = verify(&a, &log, text, bytes);
    free(text);
    ui_log_close(&log);
    npu_args_free(&a.npu);
    return ui_exit_code(code);
}
