/* tokenize.c: npumoe tokenize: the tokens of a text, for people or as a JSON array. Bytes are taken
 * as they are, the final line feed too.
 *
 * Ctrl-C ends the process at once as long as nothing was written; then it ends the output behind a whole
 * token, and an array stays open, so that nobody takes a part for the whole. */
#include "load.h"
#include "out.h"
#include "safe.h"
#include "verbs.h"

#include <stdlib.h>

typedef struct tokenize_args {
    model_args model;
    text_args text;
    common_args common;
    bool ids, no_bos, no_parse_special, show_count;
} tokenize_args;

static const cli_opt tokenize_opts[] = {
    {NULL, "--ids", NULL, cli_set_flag, offsetof(tokenize_args, ids), 0, 0,
     "only the token ids, as a JSON array", true},
    {NULL, "--no-bos", NULL, cli_set_flag, offsetof(tokenize_args, no_bos), 0, 0,
     "do not add the tokens that the model's texts begin and end with", true},
    {NULL, "--no-parse-special", NULL, cli_set_flag, offsetof(tokenize_args, no_parse_special), 0,
     0, "names of control tokens in the text are plain text", true},
    {NULL, "--show-count", NULL, cli_set_flag, offsetof(tokenize_args, show_count), 0, 0,
     "the number of tokens at the end", true},
    {0},
};

static const cli_help help = {
    "tokenize",
    "[-m FILE] [-p TEXT | -f FILE | < FILE] [options]",
    "Shows how the model's tokenizer cuts a text. Needs no weights: a file with the\n"
    "vocabulary alone will do.",
    "npumoe tokenize -m qwen3.gguf -p \"Hello world\"\n"
    "npumoe tokenize -m qwen3.gguf -f book.txt --ids >ids.json",
};

static void print_ids(const npumoe_token *tokens, size_t n)
{
    putchar('[');
    for (size_t i = 0; i < n && !ui_interrupted(); i++)
        printf("%s%d", i ? ", " : "", (int)tokens[i]);
    puts(ui_interrupted() ? "" : "]");
}

static void print_table(const npumoe_model *model, const npumoe_token *tokens, size_t n)
{
    for (size_t i = 0; i < n && !ui_interrupted(); i++) {
        size_t bytes;
        const char *text = npumoe_token_bytes(model, tokens[i], true, &bytes);
        printf("%6d -> '", (int)tokens[i]);
        safe_put(stdout, text, bytes);
        puts("'");
    }
}

static int tokenize(const tokenize_args *a, const npumoe_model *model)
{
    char *text;
    size_t bytes, n = 0;
    if (!text_read(&a->text, false, &text, &bytes))
        return 1;
    unsigned flags = NPUMOE_TOKENIZE_PLAIN;
    if (!a->no_bos)
        flags |= NPUMOE_TOKENIZE_ADD_SPECIAL;
    if (!a->no_parse_special)
        flags |= NPUMOE_TOKENIZE_PARSE_SPECIAL;
    npumoe_token *tokens = text_tokens(model, text, bytes, flags, &n);
    free(text);
    if (!tokens)
        return 1;
    ui_catch_interrupts();
    if (a->ids)
        print_ids(tokens, n);
    else
        print_table(model, tokens, n);
    if (a->show_count && !ui_interrupted())
        printf("Total number of tokens: %zu\n", n);
    free(tokens);
    return 0;
}

int cmd_tokenize(int argc, char **argv)
{
    tokenize_args a = {0};
    const cli_group groups[] = {
        {"Text", text_opts, &a.text},
        {"Output", tokenize_opts, &a},
        {"Model", model_file_opts, &a.model},
        {"Other", log_opts, &a.common},
        {0},
    };
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, NULL, 0, NULL);
    if (parsed != CLI_GO)
        return cli_exit_code(parsed);
    ui_log log;
    if (!log_open(&log, &a.common, &a.model))
        return 1;
    npumoe_model *model = NULL;
    int code = model_open(&a.model, true, &log, &model, NULL);
    if (code == 0)
        code = tokenize(&a, model);
    npumoe_model_free(&model);
    ui_log_close(&log);
    return ui_exit_code(code);
}
