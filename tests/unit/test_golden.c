/* test_golden.c: logits of all families against values that an independent program computed.
 *
 * tests/golden/NAME.txt holds mkmodel's arguments, tokens and some logits of tests/golden/oracle.py (numpy,
 * double precision, written from the published reference code). The model is made anew by mkmodel,
 * whose bytes depend on the arguments alone, and evaluated several ways: the scalar tier in small chunks,
 * the best tier in one chunk, and the best tier growing the prompt in uneven steps, the last of them
 * single tokens (decode); the best tier in fp32 and with precision full, the kernels that most people
 * run on most files.
 *
 * Tolerance: 2e-4 absolute for fp32, with logits of rms 2.5. Single precision sums of up to 256 terms in any
 * order are good to 256 * 2^-24 = 1.5e-5 relative in the worst case, and about ten such products follow each
 * other. Precision full rounds operands to about 2^-15, which makes 5e-3; a wrong formula (renormalisation,
 * rope order, window, bias) moves logits by more than 1e-2. */
#include <libgen.h>
#include <sys/wait.h>
#include <unistd.h>

#include "npumoe/npumoe.h"
#include "tap.h"

#define TOLERANCE_FP32 2e-4
#define TOLERANCE_FULL 5e-3
#define MAX_TOKENS     512
#define MAX_AT         16
#define N_TOP          8

static const char *const names[] = {"olmoe",         "qwen3moe",     "qwen2moe",    "llama",
                                    "granitemoe",    "phimoe-short", "phimoe-long", "phimoe-narrow",
                                    "qwen3moe-q8_0", "olmoe-q4_k_m", "llama-f16"};

typedef struct at {
    size_t position;
    double mean, rms, value[N_TOP];
    int id[N_TOP];
} at;

typedef struct golden {
    char args[256];
    uint32_t n_ctx, chunk;
    size_t grow_from; /* prefixes shorter than this are another function (LongRoPE) */
    npumoe_token tokens[MAX_TOKENS];
    size_t n_tokens, n_at;
    at at[MAX_AT];
} golden;

static bool read_at(FILE *f, golden *g)
{
    if (g->n_at == MAX_AT)
        return false;
    at *a = &g->at[g->n_at++];
    if (fscanf(f, " %zu mean %lf rms %lf top", &a->position, &a->mean, &a->rms) != 3)
        return false;
    for (int i = 0; i < N_TOP; i++)
        if (fscanf(f, " %d %lf", &a->id[i], &a->value[i]) != 2)
            return false;
    return true;
}

static bool read_line(FILE *f, const char *word, golden *g)
{
    if (strcmp(word, "#") == 0)
        return fscanf(f, "%*[^\n]") == 0;
    if (strcmp(word, "args") == 0)
        return fscanf(f, " %255[^\n]", g->args) == 1;
    if (strcmp(word, "n_ctx") == 0)
        return fscanf(f, "%u", &g->n_ctx) == 1;
    if (strcmp(word, "chunk") == 0)
        return fscanf(f, "%u", &g->chunk) == 1;
    if (strcmp(word, "grow_from") == 0)
        return fscanf(f, "%zu", &g->grow_from) == 1;
    if (strcmp(word, "at") == 0)
        return read_at(f, g);
    if (strcmp(word, "tokens") != 0 || fscanf(f, "%zu", &g->n_tokens) != 1 ||
        g->n_tokens > MAX_TOKENS)
        return false;
    for (size_t i = 0; i < g->n_tokens; i++)
        if (fscanf(f, "%d", &g->tokens[i]) != 1)
            return false;
    return true;
}

static bool read_golden(const char *name, golden *g)
{
    char path[256], word[16];
    snprintf(path, sizeof path, "tests/golden/%s.txt", name);
    FILE *f = fopen(path, "r");
    bool good = f != NULL;
    memset(g, 0, sizeof *g);
    while (good && fscanf(f, "%15s", word) == 1)
        good = read_line(f, word, g);
    if (f)
        fclose(f);
    return good && g->n_tokens > 0 && g->n_at > 0;
}

/* Runs mkmodel with the file's arguments, split at blanks. */
static bool make_model(const char *tool, char *args, const char *out)
{
    char *argv[48];
    int n = 0;
    argv[n++] = (char *)(uintptr_t)tool;
    for (char *p = args; *p && n < 46; p += strspn(p, " ")) {
        argv[n++] = p;
        p += strcspn(p, " ");
        if (*p)
            *p++ = '\0';
    }
    argv[n++] = (char *)(uintptr_t)out;
    argv[n] = NULL;
    pid_t pid = fork();
    if (pid == 0) {
        execv(tool, argv);
        _exit(127);
    }
    int status;
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

/* ---- comparing ---------------------------------------------------------------------------- */

typedef struct check {
    const golden *g;
    size_t n_vocab, next; /* next: index into g->at */
    double worst, tolerance;
    size_t worst_position;
    unsigned wrong_top;
} check;

static void take(check *c, size_t position, double difference)
{
    if (!(difference <= c->worst)) { /* true for NaN too */
        c->worst = difference;
        c->worst_position = position;
    }
}

static void compare_row(check *c, const at *a, const float *logits)
{
    double sum = 0, squares = 0;
    size_t top = 0;
    for (size_t i = 0; i < c->n_vocab; i++) {
        sum += (double)logits[i];
        squares += (double)logits[i] * (double)logits[i];
        top = logits[i] > logits[top] ? i : top;
    }
    take(c, a->position, fabs(sum / (double)c->n_vocab - a->mean));
    take(c, a->position, fabs(sqrt(squares / (double)c->n_vocab) - a->rms));
    for (int i = 0; i < N_TOP; i++)
        take(c, a->position, fabs((double)logits[a->id[i]] - a->value[i]));
    /* Equal within the tolerance is a tie, not an error. */
    c->wrong_top += (int)top != a->id[0] && a->value[0] - a->value[1] > 2 * c->tolerance;
}

static bool on_logits(void *user, size_t position, const float *logits)
{
    check *c = user;
    if (c->next < c->g->n_at && c->g->at[c->next].position == position)
        compare_row(c, &c->g->at[c->next++], logits);
    return true;
}

static void report(const check *c, size_t expected, const char *name, const char *how)
{
    is_int((long long)c->next, (long long)expected, "%s, %s: all positions came", name, how);
    if (!ok(c->worst <= c->tolerance, "%s, %s: logits (worst %.1e)", name, how, c->worst))
        note("position %zu differs by %g", c->worst_position, c->worst);
    is_int(c->wrong_top, 0, "%s, %s: same first choice everywhere", name, how);
}

static npumoe_session *open_session(npumoe_model *m, const golden *g, uint32_t chunk)
{
    npumoe_session_options o = npumoe_session_options_default();
    npumoe_session *s = NULL;
    npumoe_error err;
    o.n_ctx = g->n_ctx;
    o.n_chunk = chunk;
    o.type_k = o.type_v = NPUMOE_KV_F32;
    if (npumoe_session_new(m, &o, &s, &err) != NPUMOE_OK)
        bail("%s", err.message);
    return s;
}

static void run_prompt(npumoe_model *m, const golden *g, size_t n_vocab, uint32_t chunk,
                       double tolerance, const char *name, const char *how)
{
    npumoe_session *s = open_session(m, g, chunk);
    check c = {.g = g, .n_vocab = n_vocab, .tolerance = tolerance};
    npumoe_eval_options o = npumoe_eval_options_default();
    npumoe_error err;
    o.on_logits = on_logits;
    o.user = &c;
    if (npumoe_session_eval(s, g->tokens, g->n_tokens, &o, &err) != NPUMOE_OK)
        bail("%s", err.message);
    report(&c, g->n_at, name, how);
    npumoe_session_free(&s);
}

/* Ends a step at every position that has values, and decodes the last two one by one. */
static void run_growing(npumoe_model *m, const golden *g, size_t n_vocab, double tolerance,
                        const char *name, const char *how)
{
    npumoe_session *s = open_session(m, g, g->chunk);
    check c = {.g = g, .n_vocab = n_vocab, .tolerance = tolerance};
    npumoe_error err;
    for (; c.next < g->n_at; c.next++) {
        const at *a = &g->at[c.next];
        if (a->position < g->grow_from)
            continue;
        if (npumoe_session_eval(s, g->tokens, a->position + 1, NULL, &err) != NPUMOE_OK)
            bail("%s", err.message);
        compare_row(&c, a, npumoe_session_logits(s));
    }
    report(&c, g->n_at, name, how);
    npumoe_session_free(&s);
}

static npumoe_model *load(const char *path, const char *isa, npumoe_precision precision,
                          size_t *n_vocab)
{
    npumoe_model_options o = npumoe_model_options_default();
    npumoe_model *m = NULL;
    npumoe_error err;
    npumoe_model_info info = {.struct_bytes = sizeof info};
    o.isa = isa;
    o.precision = precision;
    o.n_threads = 2;
    if (npumoe_model_load(path, &o, &m, &err) != NPUMOE_OK)
        bail("%s", err.message);
    npumoe_model_get_info(m, &info);
    *n_vocab = (size_t)info.n_vocab;
    return m;
}

static void test_case(const char *tool, const char *folder, const char *name)
{
    golden g;
    char path[512];
    size_t n_vocab;
    if (!read_golden(name, &g))
        bail("tests/golden/%s.txt is missing or malformed", name);
    snprintf(path, sizeof path, "%s/%s.gguf", folder, name);
    if (!ok(make_model(tool, g.args, path), "%s: mkmodel", name))
        return;
    npumoe_model *m = load(path, "scalar", NPUMOE_PRECISION_AUTO, &n_vocab);
    run_prompt(m, &g, n_vocab, g.chunk, TOLERANCE_FP32, name, "scalar");
    npumoe_model_free(&m);
    m = load(path, NULL, NPUMOE_PRECISION_FP32, &n_vocab);
    run_prompt(m, &g, n_vocab, 512, TOLERANCE_FP32, name, "fp32");
    run_growing(m, &g, n_vocab, TOLERANCE_FP32, name, "fp32, growing");
    npumoe_model_free(&m);
    m = load(path, NULL, NPUMOE_PRECISION_FULL, &n_vocab);
    run_prompt(m, &g, n_vocab, 512, TOLERANCE_FULL, name, "full");
    run_growing(m, &g, n_vocab, TOLERANCE_FULL, name, "full, growing");
    npumoe_model_free(&m);
    unlink(path);
}

int main(int argc, char **argv)
{
    char self[512], tool[600], folder[] = "/tmp/npumoe-golden-XXXXXX";
    (void)argc;
    /* build/CONFIG/tests/unit/test_golden -> build/CONFIG/mkmodel */
    snprintf(self, sizeof self, "%s", argv[0]);
    snprintf(tool, sizeof tool, "%s/../../mkmodel", dirname(self));
    if (access(tool, X_OK) != 0)
        bail("%s is not there: make tools", tool);
    if (!mkdtemp(folder))
        bail("cannot make a folder in /tmp");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        test_case(tool, folder, names[i]);
    rmdir(folder);
    return done_testing();
}
