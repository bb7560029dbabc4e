/* args.c: see args.h. Values are parsed strictly: a number is the whole text, in range, and finite;
 * anything else is refused with what was expected, because a flag that is silently half understood
 * ("-n 1O0" as 1) costs a user more than an error. */
#include "args.h"

#include "env.h"
#include "ui.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- values ------------------------------------------------------------------------------- */

static bool expected(char *why, size_t why_bytes, const char *what)
{
    snprintf(why, why_bytes, "%s", what);
    return false;
}

static bool out_of_range(const cli_opt *opt, char *why, size_t why_bytes, const char *kind)
{
    if (opt->max < 9e18)
        snprintf(why, why_bytes, "%s from %.15g to %.15g", kind, opt->min, opt->max);
    else
        snprintf(why, why_bytes, "%s, %.15g or more", kind, opt->min);
    return false;
}

bool cli_set_flag(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes)
{
    (void)opt;
    bool yes = true;
    if (text) { /* from the environment */
        yes = strcmp(text, "1") == 0 || strcmp(text, "true") == 0 || strcmp(text, "on") == 0;
        bool no = strcmp(text, "0") == 0 || strcmp(text, "false") == 0 || strcmp(text, "off") == 0;
        if (!yes && !no)
            return expected(why, why_bytes, "1 or 0");
    }
    *(bool *)field = yes;
    return true;
}

bool cli_clear_flag(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes)
{
    bool set;
    if (!cli_set_flag(opt, &set, text, why, why_bytes))
        return false;
    *(bool *)field = !set;
    return true;
}

bool cli_set_i64(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || isspace((unsigned char)text[0]) || errno == ERANGE ||
        (double)v < opt->min || (double)v > opt->max)
        return out_of_range(opt, why, why_bytes, "a whole number");
    *(int64_t *)field = v;
    return true;
}

bool cli_set_i32(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes)
{
    int64_t v;
    if (!cli_set_i64(opt, &v, text, why, why_bytes))
        return false;
    if (v < INT32_MIN || v > INT32_MAX)
        return expected(why, why_bytes, "a whole number below 2147483648");
    *(int32_t *)field = (int32_t)v;
    return true;
}

bool cli_set_most(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes)
{
    int32_t v;
    if (!cli_set_i32(opt, &v, text, why, why_bytes))
        return false;
    if (v == 0)
        return expected(why, why_bytes, "-1 (all), or 1 or more");
    *(int32_t *)field = v;
    return true;
}

bool cli_set_float(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes)
{
    char *end;
    float v = strtof(text, &end);
    if (end == text || *end != '\0' || isspace((unsigned char)text[0]) || !isfinite(v) ||
        (double)v < opt->min || (double)v > opt->max)
        return out_of_range(opt, why, why_bytes, "a number");
    *(float *)field = v;
    return true;
}

bool cli_set_string(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes)
{
    (void)opt, (void)why, (void)why_bytes;
    *(const char **)field = text;
    return true;
}

bool cli_add_string(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes)
{
    (void)opt;
    cli_strings *list = field;
    const char **v = realloc(list->v, (list->n + 1) * sizeof *v);
    if (!v)
        return expected(why, why_bytes, "more memory");
    v[list->n] = text;
    list->v = v;
    list->n++;
    return true;
}

void cli_strings_free(cli_strings *list)
{
    free(list->v);
    *list = (cli_strings){0};
}

static bool add_number(cli_numbers *list, int64_t number)
{
    int64_t *v = realloc(list->v, (list->n + 1) * sizeof *v);
    if (!v)
        return false;
    v[list->n] = number;
    list->v = v;
    list->n++;
    return true;
}

/* first .. last; stops before a number that is beyond, or beyond all numbers. */
static bool add_steps(cli_numbers *list, long long first, long long last, long long step, char op)
{
    enum { MOST = 4096 };
    long long v = first;
    while (list->n < MOST && add_number(list, v)) {
        if (step > (op == '*' ? last / v : last - v))
            return true;
        v = op == '*' ? v * step : v + step;
    }
    return false;
}

/* One item of a list: "8", "8-64" (step 1), "8-64+8", "8-64*2". Returns what follows it, or NULL. */
static const char *add_range(cli_numbers *list, const char *text, const cli_opt *opt)
{
    char *end;
    errno = 0;
    long long first = strtoll(text, &end, 10), last = first, step = 1;
    if (end == text)
        return NULL;
    char op = '+';
    if (*end == '-') {
        text = end + 1;
        last = strtoll(text, &end, 10);
        if (end == text)
            return NULL;
        if (*end == '+' || *end == '*') {
            op = *end;
            text = end + 1;
            step = strtoll(text, &end, 10);
            if (end == text)
                return NULL;
        }
    }
    if (errno == ERANGE || (double)first < opt->min || (double)last > opt->max || first > last ||
        step < 1 || (op == '*' && (step < 2 || first < 1)))
        return NULL;
    return add_steps(list, first, last, step, op) ? end : NULL;
}

bool cli_add_numbers(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes)
{
    cli_numbers list = {0};
    const char *p = text;
    while ((p = add_range(&list, p, opt)) && *p == ',')
        p++;
    if (!p || *p != '\0') {
        cli_numbers_free(&list);
        char kind[128];
        snprintf(kind, sizeof kind, "%s", "numbers like 1,2,4 or 512-2048+512 or 8-64*2, each");
        return out_of_range(opt, why, why_bytes, kind);
    }
    bool ok = true;
    for (size_t i = 0; i < list.n && ok; i++)
        ok = add_number(field, list.v[i]);
    cli_numbers_free(&list);
    return ok || expected(why, why_bytes, "more memory");
}

void cli_numbers_free(cli_numbers *list)
{
    free(list->v);
    *list = (cli_numbers){0};
}

bool cli_set_bytes(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes)
{
    (void)opt;
    char *end;
    double v = strtod(text, &end);
    static const char units[] = "KMGT";
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    if (unit) {
        v = ldexp(v, 10 * (int)(unit - units + 1));
        end++;
    }
    if (end == text || *end != '\0' || !(v >= 1) || v > 1e18)
        return expected(why, why_bytes, "a size like 4096, 512M, 8G or 1.5T");
    *(uint64_t *)field = (uint64_t)v;
    return true;
}

/* ---- suggestions -------------------------------------------------------------------------- */

/* Edits (insert, delete, replace, swap of neighbours) from a to b; words longer than the table are
 * far from everything. Damerau's distance in its restricted form. */
static size_t distance(const char *a, const char *b)
{
    enum { MAX = 40 };
    size_t na = strlen(a), nb = strlen(b);
    if (na >= MAX || nb >= MAX)
        return MAX;
    size_t d[MAX][MAX];
    for (size_t i = 0; i <= na; i++)
        d[i][0] = i;
    for (size_t j = 0; j <= nb; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= na; i++)
        for (size_t j = 1; j <= nb; j++) {
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[na][nb];
}

const char *cli_nearest(const char *word, const char *const *words, size_t n)
{
    const char *best = NULL;
    size_t best_d = strlen(word) / 3 + 2; /* farther than this is another word */
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, words[i]);
        bool begins = strlen(word) > 3 && strncmp(word, words[i], strlen(word)) == 0;
        if (begins && d > 1)
            d = 1;
        if (d < best_d) {
            best_d = d;
            best = words[i];
        }
    }
    return best;
}

/* ---- the line ----------------------------------------------------------------------------- */

/* Other spellings that llama.cpp's users type. */
static const char *const aliases[][2] = {
    {"--n-predict", "--predict"},
    {"--stop", "--reverse-prompt"},
    {"--temperature", "--temp"},
};

enum { N_ALIASES = sizeof aliases / sizeof aliases[0] };

static const char *canonical(const char *name)
{
    for (size_t i = 0; i < N_ALIASES; i++)
        if (strcmp(name, aliases[i][0]) == 0)
            return aliases[i][1];
    return name;
}

static const cli_opt *find(const cli_group *groups, const char *name, size_t name_bytes,
                           const cli_group **where)
{
    char word[64];
    if (name_bytes >= sizeof word)
        return NULL;
    memcpy(word, name, name_bytes);
    word[name_bytes] = '\0';
    for (int pass = 0; pass < 2; pass++) {
        const char *key = pass ? canonical(word) : word;
        for (const cli_group *g = groups; g->opts; g++)
            for (const cli_opt *o = g->opts; o->set; o++)
                if ((o->short_name && strcmp(key, o->short_name) == 0) ||
                    (o->long_name && strcmp(key, o->long_name) == 0)) {
                    *where = g;
                    return o;
                }
    }
    return NULL;
}

static bool apply(const cli_group *g, const cli_opt *o, const char *text, const char *source)
{
    char why[160] = "";
    if (o->set(o, (char *)g->target + o->offset, text, why, sizeof why))
        return true;
    ui_error("%s: '%s' is not %s", source, text ? text : "", why);
    return false;
}

static bool apply_environment(const cli_group *groups)
{
    for (const cli_group *g = groups; g->opts; g++)
        for (const cli_opt *o = g->opts; o->set; o++) {
            char name[64];
            const char *text =
                o->no_env || !o->long_name ? NULL : cli_env_option(o->long_name, name, sizeof name);
            if (text && !apply(g, o, text, name))
                return false;
        }
    return true;
}

/* Habits from llama.cpp that have no counterpart here; what to do instead. */
static const struct {
    const char *names[4];
    const char *advice;
} foreign[] = {
    {{"-ngl", "--gpu-layers", "--n-gpu-layers", "-cmoe"}, "there is no GPU path; leave it out"},
    {{"-fa", "--flash-attn"}, "attention is always of that kind; leave it out"},
    {{"-cnv", "--conversation", "-i", "--interactive"},
     "there is no chat; the prompt is continued"},
    {{"-no-cnv", "--no-conversation"}, "the prompt is continued as it is; leave it out"},
    {{"-sys", "--system-prompt", "--jinja", "--chat-template"}, "no chat template is applied"},
    {{"-hf", "-hfr", "--hf-repo", "-mu"}, "nothing is downloaded; give the file with -m"},
    {{"-e", "--escape"}, "escapes in -p are on unless --no-escape; leave it out"},
    {{"--no-mmap"}, "weights are always used where the file is mapped; leave it out"},
    {{"--no-warmup", "--color", "-co"}, "not needed; leave it out"},
};

static const char *foreign_advice(const char *word)
{
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        for (size_t n = 0; n < 4 && foreign[i].names[n]; n++)
            if (strcmp(word, foreign[i].names[n]) == 0)
                return foreign[i].advice;
    return NULL;
}

static cli_parsed unknown(const cli_help *help, const cli_group *groups, const char *word)
{
    const char *words[128];
    size_t n = 0;
    for (const cli_group *g = groups; g->opts; g++)
        for (const cli_opt *o = g->opts; o->set; o++)
            if (o->long_name && n < 128 - N_ALIASES)
                words[n++] = o->long_name;
    const cli_group *where;
    for (size_t i = 0; i < N_ALIASES; i++)
        if (find(groups, aliases[i][1], strlen(aliases[i][1]), &where))
            words[n++] = aliases[i][0];
    const char *advice = foreign_advice(word), *near = cli_nearest(word, words, n);
    if (advice)
        ui_error("%s: unknown option %s: %s (npumoe help %s lists all)", help->verb, word, advice,
                 help->verb);
    else if (near)
        ui_error("%s: unknown option %s; did you mean %s? (npumoe help %s lists all)", help->verb,
                 word, near, help->verb);
    else
        ui_error("%s: unknown option %s (npumoe help %s lists all)", help->verb, word, help->verb);
    return CLI_BAD;
}

/* "-5" and "-1.5e3" are values, not options; so is "-" (standard input). */
static bool looks_like_option(const char *word)
{
    return word[0] == '-' && word[1] != '\0' && !isdigit((unsigned char)word[1]) && word[1] != '.';
}

/* Takes the option at argv[*i], and its value. */
static cli_parsed take(const cli_help *help, const cli_group *groups, int argc, char **argv, int *i)
{
    const char *word = argv[*i];
    const char *equals = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;
    size_t name_bytes = equals ? (size_t)(equals - word) : strlen(word);
    const cli_group *g = NULL;
    const cli_opt *o = find(groups, word, name_bytes, &g);
    if (!o)
        return unknown(help, groups, word);
    const char *text = NULL;
    if (equals) {
        text = equals + 1;
        if (!o->value) {
            ui_error("%s: option %.*s takes no value", help->verb, (int)name_bytes, word);
            return CLI_BAD;
        }
    } else if (o->value) {
        if (*i + 1 >= argc) {
            ui_error("%s: option %s needs a value: %s", help->verb, word, o->value);
            return CLI_BAD;
        }
        text = argv[++*i];
    }
    return apply(g, o, text, word) ? CLI_GO : CLI_BAD;
}

cli_parsed cli_parse(const cli_help *help, const cli_group *groups, int argc, char **argv,
                     const char **positional, size_t max_positional, size_t *n_positional)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            cli_print_help(help, groups);
            return CLI_DONE;
        }
    if (!apply_environment(groups))
        return CLI_BAD;
    size_t n = 0;
    bool options = true;
    for (int i = 1; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && looks_like_option(argv[i])) {
            cli_parsed p = take(help, groups, argc, argv, &i);
            if (p != CLI_GO)
                return p;
        } else if (n < max_positional) {
            positional[n++] = argv[i];
        } else {
            ui_error("%s: unexpected argument '%s' (npumoe help %s)", help->verb, argv[i],
                     help->verb);
            return CLI_BAD;
        }
    }
    if (n_positional)
        *n_positional = n;
    return CLI_GO;
}

/* ---- help --------------------------------------------------------------------------------- */

static void print_indented(const char *text, const char *indent)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        printf("%s%.*s\n", n ? indent : "", (int)n, text);
        text += n + (text[n] == '\n');
    }
}

static void print_option(const cli_opt *o)
{
    enum { COLUMN = 30 };
    char left[80];
    int n = snprintf(left, sizeof left, "  %s%s%s%s%s", o->short_name ? o->short_name : "",
                     o->short_name && o->long_name ? ", " : "", o->long_name ? o->long_name : "",
                     o->value ? " " : "", o->value ? o->value : "");
    const char *text = o->help;
    bool first = true;
    if (n >= COLUMN - 1) {
        puts(left);
        first = false;
    }
    while (*text) {
        size_t len = strcspn(text, "\n");
        printf("%-*s%.*s\n", COLUMN, first ? left : "", (int)len, text);
        first = false;
        text += len + (text[len] == '\n');
    }
}

void cli_print_help(const cli_help *help, const cli_group *groups)
{
    printf("Usage: npumoe %s %s\n\n", help->verb, help->usage);
    print_indented(help->about, "");
    for (const cli_group *g = groups; g->opts; g++) {
        printf("\n%s\n", g->title);
        for (const cli_opt *o = g->opts; o->set; o++)
            print_option(o);
    }
    printf("\nExamples\n");
    print_indented(help->examples, "  ");
}
