/* args.h: command lines as tables.
 *
 * A verb describes its options in groups. A group is an array of cli_opt (ended by a zero entry)
 * and the struct whose fields they set; groups are shared between verbs (model, session, sampling).
 * From the tables come the parser, the environment variables, the help text and the suggestion for a
 * mistyped option, so that these cannot disagree.
 *
 * Spelling is llama.cpp's: -c, --ctx-size, two letters after one dash (-ub), also --name=value. An
 * option may stand anywhere; "--" ends the options. */
#ifndef NPUMOE_CLI_ARGS_H
#define NPUMOE_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cli_opt cli_opt;

/* Parses text into the field. On failure writes what was expected ("a number from 1 to 512") into
 * why and returns false. text is NULL for flags. */
typedef bool (*cli_set_fn)(const cli_opt *opt, void *field, const char *text, char *why,
                           size_t why_bytes);

struct cli_opt {
    const char *short_name; /* "-c" or NULL */
    const char *long_name;  /* "--ctx-size"; the environment variable's name comes from it */
    const char *value;      /* "N" for the help; NULL = a flag */
    cli_set_fn set;
    size_t offset;    /* of the field in the group's target */
    double min, max;  /* for numbers */
    const char *help; /* lines separated by \n */
    bool no_env;      /* prompts, files, outputs: not from the environment */
};

typedef struct cli_group {
    const char *title;
    const cli_opt *opts;
    void *target;
} cli_group;

typedef struct cli_help {
    const char *verb;
    const char *usage;    /* after "npumoe VERB " */
    const char *about;    /* lines */
    const char *examples; /* lines */
} cli_help;

/* Growing lists for options that may be given more than once. Free with cli_*_free. */
typedef struct cli_strings {
    const char **v;
    size_t n;
} cli_strings;

typedef struct cli_numbers {
    int64_t *v;
    size_t n;
} cli_numbers;

void cli_strings_free(cli_strings *list);
void cli_numbers_free(cli_numbers *list);

/* Field types: bool, bool (cleared), int32_t, int64_t, float, const char *, cli_strings,
 * cli_numbers ("1,2,4" and "512-2048+512" and "8-64*2"; given again, the lists are joined). */
bool cli_set_flag(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes);
bool cli_clear_flag(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes);
bool cli_set_i32(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes);
bool cli_set_i64(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes);
/* An int32_t that limits something: -1 = all; 0 is refused. min must be -1. */
bool cli_set_most(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes);
bool cli_set_float(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes);
bool cli_set_string(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes);
bool cli_add_string(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes);
bool cli_add_numbers(const cli_opt *opt, void *field, const char *text, char *why,
                     size_t why_bytes);
/* uint64_t bytes: "4096", "512M", "8G", "1.5T" (powers of 1024) */
bool cli_set_bytes(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes);

typedef enum cli_parsed {
    CLI_GO,   /* run the verb */
    CLI_DONE, /* help was asked for and printed: exit 0 */
    CLI_BAD   /* the message is on stderr: exit 1 */
} cli_parsed;

/* groups: ended by one without opts. argv[0] is the verb. At most max_positional arguments that are
 * no options go to positional; more are an error. First the environment, then the line. */
cli_parsed cli_parse(const cli_help *help, const cli_group *groups, int argc, char **argv,
                     const char **positional, size_t max_positional, size_t *n_positional);

/* For every verb: `int cmd(argc, argv)` wants an int at once. */
static inline int cli_exit_code(cli_parsed p)
{
    return p == CLI_BAD ? 1 : 0;
}

void cli_print_help(const cli_help *help, const cli_group *groups);

/* The entry of words[n] nearest to a mistyped word, or NULL when none is near. */
const char *cli_nearest(const char *word, const char *const *words, size_t n);

#endif
