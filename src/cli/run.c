/* run.c: npumoe run: a prompt in, the answer on standard output.
 *
 * The prompt is text as it is (no chat template). Standard output carries the answer and nothing
 * else, flushed token by token; the model's name, the progress bar and the timings go to standard
 * error. Ctrl-C stops the prompt or the answer in good order (timings, exit 130), a second one
 * leaves at once. */
#include "npu.h"
#include "out.h"
#include "verbs.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct run_args {
    model_args model;
    session_args session;
    text_args text;
    sampling_args sampling;
    common_args common;
    npu_args npu;
    int64_t n_predict;
    cli_strings stop, then;
    const char *plan_out;
    bool ignore_eos, special, display_prompt, no_parse_special, warm_up;
} run_args;

static const cli_opt run_opts[] = {
    {"-n", "--predict", "N", cli_set_i64, offsetof(run_args, n_predict), -1, INT32_MAX,
     "tokens to write at most; -1 = until the model ends or the\ncontext is full (-1)", false},
    {NULL, "--then", "FILE", cli_add_string, offsetof(run_args, then), 0, 0,
     "answer this prompt too, for itself; may be given again", true},
    {NULL, "--plan-out", "FILE", cli_set_string, offsetof(run_args, plan_out), 0, 0,
     "write the plan for the loads of these prompts: another one, if\nre-planning finds one", true},
    {NULL, "--warmup", NULL, cli_set_flag, offsetof(run_args, warm_up), 0, 0,
     "touch all memory that the prompt needs beforehand, so that its\ntime is that of a later one",
     true},
    {"-r", "--reverse-prompt", "TEXT", cli_add_string, offsetof(run_args, stop), 0, 0,
     "stop before this text; may be given again (also --stop)", true},
    {NULL, "--ignore-eos", NULL, cli_set_flag, offsetof(run_args, ignore_eos), 0, 0,
     "never let the model end its answer", false},
    {NULL, "--special", NULL, cli_set_flag, offsetof(run_args, special), 0, 0,
     "show control tokens by name", false},
    {NULL, "--no-parse-special", NULL, cli_set_flag, offsetof(run_args, no_parse_special), 0, 0,
     "names of control tokens in the prompt are plain text", false},
    {NULL, "--display-prompt", NULL, cli_set_flag, offsetof(run_args, display_prompt), 0, 0,
     "write the prompt before the answer", false},
    {NULL, "--no-display-prompt", NULL, cli_clear_flag, offsetof(run_args, display_prompt), 0, 0,
     "do not (the default)", true},
    {0},
};

static const cli_help help = {
    "run",
    "[-m FILE] [-p TEXT | -f FILE | < FILE] [options]",
    "Continues a prompt. The answer goes to standard output, everything else to\n"
    "standard error. Ctrl-C stops the answer; a second Ctrl-C leaves at once.\n"
    "Without -c the context has room for the prompt and the answer (-n, or else 2048\n"
    "tokens; 4096 in all at least), up to the length that the model was trained for.",
    "npumoe run -p \"Once upon a time\"\n"
    "npumoe run -m olmoe.gguf -f chapter.txt -n 200 --temp 0\n"
    "cat letter.txt | npumoe run -m qwen3.gguf -s 1 --stop \"Yours\" >answer.txt",
};

/* ---- the context -------------------------------------------------------------------------- */

enum { ROOM_FOR_ANSWER = 2048, SMALLEST_CONTEXT = 4096 };

/* Without -c: room for the prompt and the answer, up to what the model was trained for. */
static uint32_t context_for(const run_args *a, size_t n_prompt, uint32_t n_ctx_train)
{
    if (a->session.ctx >= 0)
        return a->session.ctx ? (uint32_t)a->session.ctx : n_ctx_train;
    uint64_t want = n_prompt + (a->n_predict >= 0 ? (uint64_t)a->n_predict + 1 : ROOM_FOR_ANSWER);
    if (want < SMALLEST_CONTEXT)
        want = SMALLEST_CONTEXT;
    if (n_ctx_train && want > n_ctx_train)
        want = n_ctx_train;
    return want > UINT32_MAX ? UINT32_MAX : (uint32_t)want;
}

/* A prompt that leaves no room for a single token is refused here, with what would help. */
static bool prompt_fits(const run_args *a, size_t n_prompt, uint32_t n_ctx, uint32_t n_ctx_train)
{
    if (n_prompt == 0) {
        ui_error("the prompt is empty, and this model has no token to begin with");
        return false;
    }
    if (n_prompt < n_ctx || (n_prompt == n_ctx && a->n_predict == 0))
        return true;
    if (n_ctx < n_ctx_train)
        ui_error("the prompt has %zu tokens, the context holds %u: give -c %zu or more, "
                 "or shorten the prompt",
                 n_prompt, n_ctx, n_prompt + 256);
    else
        ui_error("the prompt has %zu tokens, and this model was trained for %u: shorten the "
                 "prompt%s",
                 n_prompt, n_ctx_train,
                 a->session.ctx > 0 ? "" : ", or give a larger -c and expect nonsense");
    return false;
}

/* ---- the answer --------------------------------------------------------------------------- */

typedef struct answer {
    bool write_failed;
    bool ended_line; /* the last byte written was a line feed */
} answer;

static bool show_text(void *user, npumoe_token token, const char *text, size_t bytes)
{
    answer *out = user;
    (void)token;
    if (bytes) {
        out->ended_line = text[bytes - 1] == '\n';
        if (!out_text(text, bytes)) {
            out->write_failed = true;
            return false;
        }
    }
    return !ui_interrupted();
}

static void print_timings(const npumoe_session *session, double load_seconds, double start)
{
    npumoe_session_stats stats = {.struct_bytes = sizeof stats};
    npumoe_session_get_stats(session, &stats);
    ui_timings(load_seconds, &stats, ui_now() - start);
}

typedef struct opened {
    npumoe_model *model;
    npumoe_session *session;
    npumoe_sampler *sampler;
    npumoe_token *tokens;
    size_t n_tokens, capacity;
    ui_progress bar;
} opened;

/* The bar is the prompt's; while the answer is written a call only looks for Ctrl-C. */
static bool prompt_progress(void *user, uint64_t done, uint64_t total)
{
    ui_progress *bar = user;
    if (total > 1)
        return ui_progress_step(bar, done, total);
    return !ui_interrupted();
}

typedef struct generation {
    answer out;
    ui_progress *bar;
} generation;

static bool first_text(void *user, npumoe_token token, const char *text, size_t bytes)
{
    generation *g = user;
    ui_progress_end(g->bar);
    return show_text(&g->out, token, text, bytes);
}

static int generate(const run_args *a, opened *o, double load_seconds)
{
    double start = ui_now();
    generation g = {.bar = &o->bar, .out.ended_line = true};
    npumoe_generate_options opt = npumoe_generate_options_default();
    opt.n_predict = a->n_predict;
    opt.stop = a->stop.v;
    opt.n_stop = a->stop.n;
    opt.ignore_end = a->ignore_eos;
    opt.special = a->special;
    opt.on_text = first_text;
    opt.user = &g;
    npumoe_generate_result result = {0};
    npumoe_error err = {0};
    ui_progress_begin(&o->bar, "prompt", "tokens");
    npumoe_status st = npumoe_generate(o->session, o->sampler, o->tokens, &o->n_tokens, o->capacity,
                                       &opt, &result, &err);
    ui_progress_end(&o->bar);
    if (st != NPUMOE_OK && st != NPUMOE_ECANCELED)
        return ui_fail(st, &err);
    if (!g.out.ended_line && !g.out.write_failed)
        out_text("\n", 1);
    if (!a->common.no_perf) {
        fputc('\n', stderr);
        print_timings(o->session, load_seconds, start);
    }
    if (st == NPUMOE_OK && result.reason == NPUMOE_STOP_CONTEXT)
        ui_note("the context of %u tokens is full; -c gives more",
                npumoe_session_n_ctx(o->session));
    return g.out.write_failed ? 1 : ui_exit_code(0);
}

/* ---- from arguments to a session ---------------------------------------------------------- */

/* --ignore-eos, as llama.cpp: end tokens are never drawn. */
static bool forbid_end_tokens(sampling_args *s, const npumoe_model *model, int32_t n_vocab)
{
    for (npumoe_token t = 0; t < n_vocab; t++) {
        if (!npumoe_token_is_end(model, t))
            continue;
        npumoe_logit_bias *grown = realloc(s->bias, (s->n_bias + 1) * sizeof *grown);
        if (!grown) {
            ui_error("out of memory");
            return false;
        }
        grown[s->n_bias] = (npumoe_logit_bias){.token = t, .bias = -INFINITY};
        s->bias = grown;
        s->n_bias++;
    }
    return true;
}

static int make_sampler(run_args *a, opened *o)
{
    sampling_args *s = &a->sampling;
    s->opt.seed = s->seed < 0 ? NPUMOE_SEED_RANDOM : (uint64_t)s->seed;
    s->opt.logit_bias = s->bias;
    s->opt.n_logit_bias = s->n_bias;
    npumoe_error err = {0};
    npumoe_status st = npumoe_sampler_new(o->model, &s->opt, &o->sampler, &err);
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}

/* Tokens of the prompt, in an array with room for the whole context. */
static int make_prompt(const run_args *a, opened *o, const char *text, size_t bytes)
{
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_model_get_info(o->model, &info);
    unsigned flags = NPUMOE_TOKENIZE_ADD_SPECIAL;
    if (!a->no_parse_special)
        flags |= NPUMOE_TOKENIZE_PARSE_SPECIAL;
    o->tokens = text_tokens(o->model, text, bytes, flags, &o->n_tokens);
    if (!o->tokens)
        return 1;
    uint32_t n_ctx = context_for(a, o->n_tokens, info.n_ctx_train);
    if (!prompt_fits(a, o->n_tokens, n_ctx, info.n_ctx_train))
        return 1;
    if (info.n_ctx_train && n_ctx > info.n_ctx_train)
        ui_note("the context of %u tokens is longer than the %u that this model was trained for",
                n_ctx, info.n_ctx_train);
    npumoe_token *grown = realloc(o->tokens, (size_t)n_ctx * sizeof *grown);
    if (!grown) {
        ui_error("out of memory for %u tokens", n_ctx);
        return 1;
    }
    o->tokens = grown;
    o->capacity = n_ctx;
    npumoe_session_options opt = session_options(&a->session, n_ctx);
    opt.progress = prompt_progress;
    opt.progress_user = &o->bar;
    npumoe_error err = {0};
    npumoe_status st = npumoe_session_new(o->model, &opt, &o->session, &err);
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}

/* Before the first answer, not after it. */
static bool can_read_all(const run_args *a)
{
    for (size_t i = 0; i < a->then.n; i++)
        if (strcmp(a->then.v[i], "-") != 0 && access(a->then.v[i], R_OK) != 0) {
            ui_error("--then: cannot read %s: %s", a->then.v[i], strerror(errno));
            return false;
        }
    return true;
}

/* --plan-out may replace the plan that it comes from, and none of these. */
static bool plan_out_is_apart(const run_args *a)
{
    const struct {
        const char *option, *path;
    } others[] = {{"-f", a->text.file},
                  {"--routes", a->model.routes},
                  {"--log-file", a->common.log_file},
                  {"--stats-out", a->npu.stats_out},
                  {"--trace-out", a->npu.trace_out}};
    bool ok = spares_model(&a->model, "--plan-out", a->plan_out);
    for (size_t i = 0; ok && i < sizeof others / sizeof others[0]; i++)
        ok = out_apart("--plan-out", a->plan_out, others[i].option, others[i].path);
    return ok && out_promises(a->plan_out);
}

/* What the files that are written must not replace. */
static bool spares_inputs(const run_args *a)
{
    if (a->plan_out && a->npu.plans.n == 0) {
        ui_error("--plan-out needs --plan");
        return false;
    }
    if (a->plan_out && !plan_out_is_apart(a))
        return false;
    for (size_t i = 0; i < a->then.n; i++)
        if (!out_apart("--trace-out", a->npu.trace_out, "--then", a->then.v[i]) ||
            !out_apart("--stats-out", a->npu.stats_out, "--then", a->then.v[i]) ||
            !out_apart("--plan-out", a->plan_out, "--then", a->then.v[i]) ||
            !out_apart("--log-file", a->common.log_file, "--then", a->then.v[i]))
            return false;
    return npu_spares_inputs(&a->npu, &a->model, a->common.log_file, a->text.file);
}

/* How long it took is part of loading. */
static int warm_up(opened *o, double *load_seconds)
{
    npumoe_error err = {0};
    const double start = ui_now();
    ui_progress_begin(&o->bar, "warm-up", "bytes");
    npumoe_status st = npumoe_session_warm_up(o->session, o->n_tokens, &err);
    ui_progress_end(&o->bar);
    *load_seconds += ui_now() - start;
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}

static int answer_one(run_args *a, const ui_log *log, opened *o, const char *text, size_t bytes,
                      double load_seconds)
{
    int code = make_prompt(a, o, text, bytes);
    if (code == 0)
        code = make_sampler(a, o);
    if (code == 0 && log->verbose)
        ui_note("%zu prompt tokens, context %u, seed %llu", o->n_tokens,
                npumoe_session_n_ctx(o->session),
                (unsigned long long)npumoe_sampler_seed(o->sampler));
    if (code == 0 && a->warm_up)
        code = warm_up(o, &load_seconds);
    if (code == 0 && a->display_prompt)
        out_text(text, bytes);
    if (code == 0)
        code = generate(a, o, load_seconds);
    npumoe_sampler_free(&o->sampler);
    npumoe_session_free(&o->session);
    free(o->tokens);
    *o = (opened){.model = o->model};
    return code;
}

/* The prompt, then those of --then. Between two nobody waits: the plan may adapt. */
static int answer_all(run_args *a, const ui_log *log, opened *o, const npu *n, const char *text,
                      size_t bytes, double load_seconds)
{
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_model_get_info(o->model, &info);
    if (a->ignore_eos && !forbid_end_tokens(&a->sampling, o->model, info.n_vocab))
        return 1;
    int code = answer_one(a, log, o, text, bytes, load_seconds);
    for (size_t i = 0; i < a->then.n && code == 0 && !ui_interrupted(); i++) {
        const text_args file = {.file = a->then.v[i]};
        char *next = NULL;
        size_t next_bytes = 0;
        npu_adapt(o->model, n);
        if (ui_interrupted())
            break;
        ui_note("then: %s", file.file);
        code = text_read(&file, true, &next, &next_bytes)
                   ? answer_one(a, log, o, next, next_bytes, load_seconds)
                   : 1;
        free(next);
    }
    return code;
}

static int run(run_args *a, ui_log *log, char *text, size_t bytes)
{
    opened o = {0};
    double load_seconds = 0;
    npu n = {0};
    int code = npu_read(&a->npu, &a->model, &n)
                   ? model_open(&a->model, false, log, &o.model, &load_seconds)
                   : 1;
    if (code == 0)
        code = npu_open(&a->npu, o.model, log, &n);
    if (code == 0)
        code = answer_all(a, log, &o, &n, text, bytes, load_seconds);
    if (code == 0 || (ui_interrupted() && o.model)) { /* what was done until then */
        const int reported = npu_report(&a->npu, o.model, &n);
        code = code ? code : reported;
    }
    if (code == 0 && a->plan_out) {
        if (!a->npu.stats_out ||
            !npu_has_adapted(o.model)) /* else the figures are of the plan that is there */
            npu_adapt(o.model, &n);
        if (!ui_interrupted())
            code = npu_save(&n, o.model, a->plan_out);
    }
    npumoe_model_free(&o.model);
    npu_close(&n);
    return code;
}

/* Escapes in stop strings are replaced as in -p; the copies are owned by the caller. */
static bool unescape_stops(const run_args *a, char **copies)
{
    for (size_t i = 0; i < a->stop.n; i++) {
        copies[i] = strdup(a->stop.v[i]);
        if (!copies[i])
            return false;
        text_unescape(copies[i], strlen(copies[i]));
        a->stop.v[i] = copies[i];
    }
    return true;
}

int cmd_run(int argc, char **argv)
{
    run_args a = {.session = SESSION_ARGS_DEFAULT,
                  .sampling = sampling_default(),
                  .npu = NPU_ARGS_DEFAULT,
                  .n_predict = -1};
    const cli_group groups[] = {
        {"Prompt", text_opts, &a.text},           {"Answer", run_opts, &a},
        {"Sampling", sampling_opts, &a.sampling}, {"Model", model_opts, &a.model},
        {"Context", session_opts, &a.session},    {"Device", npu_opts, &a.npu},
        {"Other", common_opts, &a.common},        {0},
    };
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, NULL, 0, NULL);
    int code = cli_exit_code(parsed);
    char **stops = calloc(a.stop.n + 1, sizeof *stops), *text = NULL;
    ui_log log = {0};
    if (parsed == CLI_GO) {
        size_t bytes = 0;
        code = 1;
        ui_catch_interrupts();
        if (stops && (a.text.no_escape || unescape_stops(&a, stops)) && can_read_all(&a) &&
            spares_inputs(&a) && log_open(&log, &a.common, &a.model) &&
            text_read(&a.text, true, &text, &bytes))
            code = run(&a, &log, text, bytes);
        code = ui_exit_code(code);
    }
    for (size_t i = 0; stops && i < a.stop.n; i++)
        free(stops[i]);
    free(stops);
    free(text);
    ui_log_close(&log);
    cli_strings_free(&a.stop);
    cli_strings_free(&a.then);
    npu_args_free(&a.npu);
    sampling_free(&a.sampling);
    return code;
}
