/* logits.c: npumoe logits: the raw predictions as a float32 .npy, for comparison with other engines
 * and for golden values.
 *
 * Row i of --all is what the model predicts after tokens[0..i]; without --all there is one row, after
 * the last token. Nothing is normalised. Rows are written as they are computed, so memory does not
 * grow with the text. */
#include "npu.h"
#include "out.h"
#include "safe.h"
#include "verbs.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct logits_args {
    model_args model;
    session_args session;
    text_args text;
    common_args common;
    npu_args npu;
    const char *tokens, *output;
    int32_t top;
    bool all, no_bos, no_parse_special;
} logits_args;

static const cli_opt logits_opts[] = {
    {NULL, "--tokens", "LIST", cli_set_string, offsetof(logits_args, tokens), 0, 0,
     "token ids in place of a text: 1,2,3 or a JSON array, or @FILE\nwith them, in lines too; "
     "nothing is added",
     true},
    {NULL, "--all", NULL, cli_set_flag, offsetof(logits_args, all), 0, 0,
     "one row per token; default: only after the last", true},
    {"-o", "--output", "FILE", cli_set_string, offsetof(logits_args, output), 0, 0,
     "the .npy file (float32, rows x vocabulary); - is standard output", true},
    {NULL, "--top", "N", cli_set_i32, offsetof(logits_args, top), 1, 1000,
     "without -o: print the N likeliest next tokens (5)", true},
    {NULL, "--no-bos", NULL, cli_set_flag, offsetof(logits_args, no_bos), 0, 0,
     "do not add the tokens that the model's texts begin and end with", true},
    {NULL, "--no-parse-special", NULL, cli_set_flag, offsetof(logits_args, no_parse_special), 0, 0,
     "names of control tokens in the text are plain text", true},
    {0},
};

static const cli_help help = {
    "logits",
    "[-m FILE] [-p TEXT | -f FILE | --tokens LIST] [options]",
    "Computes the model's raw predictions (logits). With -o they are written as a NumPy\n"
    "file; without, the likeliest next tokens are printed: id, logit, probability, text.",
    "npumoe logits -m olmoe.gguf -p \"The capital of France is\"\n"
    "npumoe logits -m olmoe.gguf --tokens 1,2,3 --all -o logits.npy\n"
    "python3 -c 'import numpy; print(numpy.load(\"logits.npy\").shape)'",
};

/* ---- token lists -------------------------------------------------------------------------- */

static npumoe_token *tokens_of_json(const json_t *array, size_t *n)
{
    *n = json_array_size(array);
    npumoe_token *tokens = malloc((*n ? *n : 1) * sizeof *tokens);
    for (size_t i = 0; tokens && i < *n; i++) {
        const json_t *item = json_array_get(array, i);
        json_int_t v = json_integer_value(item);
        if (!json_is_integer(item) || v < 0 || v > INT32_MAX) {
            ui_error("--tokens: item %zu is no token id", i);
            free(tokens);
            return NULL;
        }
        tokens[i] = (npumoe_token)v;
    }
    return tokens;
}

/* Ids with white space, a comma or both between them. NULL after a message. */
static npumoe_token *tokens_of_words(const char *text, size_t *n)
{
    npumoe_token *tokens = malloc((strlen(text) / 2 + 1) * sizeof *tokens);
    const char *space = " \t\r\n", *p = text + strspn(text, space);
    bool good = tokens != NULL;
    for (*n = 0; good && *p; (*n)++) {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        good = *p >= '0' && *p <= '9' && errno == 0 && v <= INT32_MAX &&
               (*end == '\0' || *end == ',' || strchr(space, *end));
        tokens[*n] = good ? (npumoe_token)v : 0;
        p = end + strspn(end, space);
        if (good && *p == ',') {
            p += 1 + strspn(p + 1, space);
            good = *p != '\0';
        }
    }
    if (good)
        return tokens;
    free(tokens);
    ui_error("--tokens: not a list of token ids like 1,2,3 or [1, 2, 3]");
    return NULL;
}

static npumoe_token *tokens_of_array(const char *text, size_t *n)
{
    json_error_t why;
    json_t *array = json_loads(text, 0, &why);
    npumoe_token *tokens = NULL;
    if (json_is_array(array))
        tokens = tokens_of_json(array, n);
    else
        ui_error("--tokens: not a list of token ids like 1,2,3 or [1, 2, 3]");
    json_decref(array);
    return tokens;
}

/* "1,2,3", "[1, 2, 3]" or "@FILE" with either. NULL after a message. */
static npumoe_token *parse_tokens(const char *list, size_t *n)
{
    char *text = NULL;
    size_t bytes;
    if (list[0] == '@') {
        if (!in_read_all(list + 1, &text, &bytes))
            return NULL;
    } else if (!(text = strdup(list))) {
        ui_error("out of memory");
        return NULL;
    }
    npumoe_token *tokens = strchr(text, '[') ? tokens_of_array(text, n) : tokens_of_words(text, n);
    free(text);
    return tokens;
}

static npumoe_token *get_tokens(const logits_args *a, const npumoe_model *model, size_t *n)
{
    if (a->tokens) {
        if (a->text.prompt || a->text.file) {
            ui_error("give a text (-p, -f) or --tokens, not both");
            return NULL;
        }
        return parse_tokens(a->tokens, n);
    }
    char *text;
    size_t bytes;
    if (!text_read(&a->text, false, &text, &bytes))
        return NULL;
    unsigned flags = NPUMOE_TOKENIZE_PLAIN;
    if (!a->no_bos)
        flags |= NPUMOE_TOKENIZE_ADD_SPECIAL;
    if (!a->no_parse_special)
        flags |= NPUMOE_TOKENIZE_PARSE_SPECIAL;
    npumoe_token *tokens = text_tokens(model, text, bytes, flags, n);
    free(text);
    return tokens;
}

/* ---- output ------------------------------------------------------------------------------- */

/* Where rows go, and how many of their elements are NaN. */
typedef struct row_sink {
    npy_file npy;
    size_t n_vocab;
    uint64_t n_nan, n_rows;
    bool to_file;
} row_sink;

static bool take_row(void *user, size_t position, const float *logits)
{
    row_sink *sink = user;
    (void)position;
    for (size_t i = 0; i < sink->n_vocab; i++)
        sink->n_nan += isnan(logits[i]) ? 1 : 0;
    sink->n_rows++;
    return !sink->to_file || npy_row(&sink->npy, logits);
}

/* They are results like any other here, but nobody should have to look for them. */
static void warn_nan(const row_sink *sink)
{
    if (sink->n_nan > 0)
        ui_note("warning: %llu of %llu logits are NaN, not numbers: broken weights? "
                "--check-tensors looks for them",
                (unsigned long long)sink->n_nan,
                (unsigned long long)(sink->n_rows * sink->n_vocab));
}

/* id, logit, probability and text of the likeliest tokens; ties by id. */
static void print_top(const npumoe_model *model, const float *logits, int32_t n_vocab, int32_t top)
{
    double sum = 0.0;
    float max = -INFINITY;
    for (int32_t i = 0; i < n_vocab; i++)
        max = logits[i] > max ? logits[i] : max;
    for (int32_t i = 0; i < n_vocab; i++)
        sum += exp((double)(logits[i] - max));
    float last = INFINITY;
    int32_t last_id = -1;
    for (int32_t k = 0; k < top && k < n_vocab; k++) {
        int32_t best = -1;
        for (int32_t i = 0; i < n_vocab; i++) {
            bool after = logits[i] < last || (logits[i] == last && i > last_id);
            if (after && (best < 0 || logits[i] > logits[best]))
                best = i;
        }
        if (best < 0)
            break;
        last = logits[best];
        last_id = best;
        size_t bytes;
        const char *text = npumoe_token_bytes(model, best, true, &bytes);
        printf("%7d %12.6f %9.6f '", (int)best, (double)last, exp((double)(last - max)) / sum);
        safe_put(stdout, text, bytes);
        puts("'");
    }
}

static int evaluate(const logits_args *a, npumoe_session *session, const npumoe_token *tokens,
                    size_t n, int32_t n_vocab)
{
    npumoe_eval_options eval = npumoe_eval_options_default();
    row_sink sink = {.n_vocab = (size_t)n_vocab, .to_file = a->output != NULL};
    if (a->output && !npy_open(&sink.npy, a->output, a->all ? n : 1, (uint64_t)n_vocab))
        return 1;
    const bool every_row = a->output && a->all;
    if (every_row) {
        eval.on_logits = take_row;
        eval.user = &sink;
    }
    npumoe_error err = {0};
    npumoe_status st = npumoe_session_eval(session, tokens, n, &eval, &err);
    if (!every_row && st == NPUMOE_OK)
        take_row(&sink, n - 1, npumoe_session_logits(session));
    bool lost = sink.npy.out.failed;
    bool complete = !a->output || npy_close(&sink.npy);
    warn_nan(&sink);
    if (st != NPUMOE_OK && (ui_interrupted() || !lost))
        return ui_fail(st, &err);
    return complete ? 0 : 1; /* what could not be written was said, or will be by main */
}

static int logits(const logits_args *a, npumoe_model *model)
{
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_model_get_info(model, &info);
    size_t n = 0;
    npumoe_token *tokens = get_tokens(a, model, &n);
    if (!tokens)
        return 1;
    npumoe_session *session = NULL;
    ui_progress bar;
    ui_progress_begin(&bar, "text", "tokens");
    int code = 1;
    if (n == 0) {
        ui_error("there are no tokens to evaluate");
    } else if (n > UINT32_MAX) {
        ui_error("%zu tokens are too many", n);
    } else {
        uint32_t given = given_ctx(&a->session, model), n_ctx = given ? given : (uint32_t)n;
        npumoe_session_options opt = session_options(&a->session, n_ctx);
        opt.progress = ui_progress_step;
        opt.progress_user = &bar;
        npumoe_error err = {0};
        npumoe_status st = npumoe_session_new(model, &opt, &session, &err);
        code = st == NPUMOE_OK ? evaluate(a, session, tokens, n, info.n_vocab) : ui_fail(st, &err);
    }
    ui_progress_end(&bar);
    if (code == 0 && !a->output)
        print_top(model, npumoe_session_logits(session), info.n_vocab, a->top);
    npumoe_session_free(&session);
    free(tokens);
    return code;
}

static int with_model(logits_args *a, ui_log *log)
{
    npumoe_model *model = NULL;
    npu n = {0};
    int code =
        npu_read(&a->npu, &a->model, &n) ? model_open(&a->model, false, log, &model, NULL) : 1;
    if (code == 0)
        code = npu_open(&a->npu, model, log, &n);
    if (code == 0)
        code = logits(a, model);
    if (code == 0)
        code = npu_report(&a->npu, model, &n);
    npumoe_model_free(&model);
    npu_close(&n);
    return code;
}

static bool spares_inputs(const logits_args *a)
{
    bool ok = spares_model(&a->model, "-o", a->output) &&
              npu_spares_inputs(&a->npu, &a->model, a->common.log_file, a->text.file) &&
              out_apart("-o", a->output, "-f", a->text.file) &&
              out_apart("-o", a->output, "--trace-out", a->npu.trace_out) &&
              out_apart("-o", a->output, "--log-file", a->common.log_file);
    for (size_t i = 0; i < a->npu.plans.n && ok; i++)
        ok = out_apart("-o", a->output, "--plan", a->npu.plans.v[i]);
    return ok;
}

int cmd_logits(int argc, char **argv)
{
    logits_args a = {.session = SESSION_ARGS_DEFAULT, .npu = NPU_ARGS_DEFAULT, .top = 5};
    const cli_group groups[] = {
        {"Text", text_opts, &a.text},
        {"Logits", logits_opts, &a},
        {"Model", model_opts, &a.model},
        {"Context", session_opts, &a.session},
        {"Device", npu_opts, &a.npu},
        {"Other", log_opts, &a.common},
        {0},
    };
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, NULL, 0, NULL);
    int code = cli_exit_code(parsed);
    ui_log log = {0};
    if (parsed == CLI_GO) {
        ui_catch_interrupts();
        code = spares_inputs(&a) && log_open(&log, &a.common, &a.model) ? with_model(&a, &log) : 1;
        code = ui_exit_code(code);
    }
    ui_log_close(&log);
    npu_args_free(&a.npu);
    return code;
}
