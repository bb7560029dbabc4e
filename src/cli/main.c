/* main.c: npumoe VERB. Chooses the verb; everything else is in its file.
 *
 * Exit codes: 0 done; 1 any error (usage, file, model, output); 130 stopped by Ctrl-C. */
#include "args.h"
#include "build.h"
#include "out.h"
#include "ui.h"
#include "verbs.h"

#include <string.h>

typedef struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} verb;

static const verb verbs[] = {
    {"run", cmd_run, "answer a prompt"},
    {"info", cmd_info, "what a model file holds, and the memory it needs"},
    {"tokenize", cmd_tokenize, "show the tokens of a text"},
    {"logits", cmd_logits, "write the model's raw predictions as .npy"},
    {"perplexity", cmd_perplexity, "how well a model predicts a text; KL divergence"},
    {"calibrate", cmd_calibrate, "count how texts spread over a model's experts: a profile"},
    {"quantize", cmd_quantize, "write a smaller copy of a model"},
    {"bench", cmd_bench, "measure tokens per second (llama-bench's table)"},
    {"plan", cmd_plan, "place a profile's experts on a device"},
    {"explain", cmd_explain, "what runs where by a plan, and why"},
    {"verify", cmd_verify, "compare a plan, or a precision, with the CPU path or the reference"},
    {"probe", cmd_probe, "measure this machine: a cost table for bench and planning"},
    {"doctor", cmd_doctor, "what this machine offers and what npumoe uses of it"},
};

enum { N_VERBS = sizeof verbs / sizeof verbs[0] };

static void print_help(FILE *f)
{
    fprintf(f, "npumoe %s: Mixture-of-Experts language models from GGUF files\n\n",
            npumoe_version());
    fprintf(f, "Usage: npumoe VERB [options]\n\n");
    for (int i = 0; i < N_VERBS; i++)
        fprintf(f, "  %-12s%s\n", verbs[i].name, verbs[i].summary);
    fprintf(f,
            "\nnpumoe help VERB (or npumoe VERB -h) lists the options of a verb.\n"
            "npumoe run -p \"Once upon a time\" needs nothing else: a demo model is included.\n");
}

static const verb *find_verb(const char *name)
{
    for (int i = 0; i < N_VERBS; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    const char *names[N_VERBS];
    for (int i = 0; i < N_VERBS; i++)
        names[i] = verbs[i].name;
    const char *near = cli_nearest(name, names, N_VERBS);
    if (near)
        ui_error("there is no verb %s; did you mean %s? (npumoe help lists all)", name, near);
    else
        ui_error("there is no verb %s (npumoe help lists all)", name);
    return NULL;
}

static int help_on(const char *name)
{
    const verb *v = find_verb(name);
    if (!v)
        return 1;
    char verb_name[32], flag[] = "-h";
    strncpy(verb_name, v->name, sizeof verb_name - 1);
    verb_name[sizeof verb_name - 1] = '\0';
    char *argv[] = {verb_name, flag, NULL};
    return v->run(2, argv);
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return 1;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "version") == 0) {
        printf("npumoe %s (build %s)\n", npumoe_version(), cli_build_commit());
        return 0;
    }
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "help") == 0) {
        if (argc > 2)
            return help_on(argv[2]);
        print_help(stdout);
        return 0;
    }
    const verb *v = find_verb(word);
    return v ? v->run(argc - 1, argv + 1) : 1;
}

int main(int argc, char **argv)
{
    out_init();
    return out_finish(dispatch(argc, argv));
}
