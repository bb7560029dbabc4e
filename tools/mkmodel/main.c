/* main.c: mkmodel, the command: options, progress, Ctrl-C. What it makes: mkmodel.h. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mkmodel.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
    (void)sig;
    interrupted = 1;
}

static void usage(FILE *f)
{
    fputs("mkmodel: writes a synthetic MoE model as a GGUF file\n"
          "usage: mkmodel --preset NAME [options] OUT.gguf\n"
          "  --preset NAME     geometry to start from (list below)\n"
          "  --type T          F32 F16 BF16 Q8_0 Q4_0 Q4_K_M Q5_K_M Q6_K MXFP4 ... [Q4_K_M]\n"
          "  --layers N  --embd N  --heads N  --kv-heads N  --head-dim N  --vocab N  --ctx N\n"
          "  --experts N  --used N  --ff N  --ff-shared N  --window N  --ctx-orig N\n"
          "  --seed N          every weight follows from it [1]\n"
          "  --skew X          busiest expert's load over the mean [0.65 E/k, at most 8]\n"
          "  --vocab-from F    copy the tokenizer of another GGUF file (sets --vocab)\n"
          "  --threads N       [CPUs allowed]\n"
          "  --list            tensors and sizes, write nothing\n"
          "presets:",
          f);
    for (size_t i = 0; mk_preset_name(i); i++)
        fprintf(f, "%s%s", i % 5 == 0 ? "\n  " : " ", mk_preset_name(i));
    fputc('\n', f);
}

static bool show_progress(void *user, uint64_t done, uint64_t total)
{
    int *last = user;
    int percent = (int)(total ? done * 100 / total : 100);
    if (percent != *last && isatty(STDERR_FILENO)) {
        fprintf(stderr, "\rmkmodel: %3d %%  %.2f of %.2f GB", percent, (double)done / 1e9,
                (double)total / 1e9);
        if (percent == 100)
            fputc('\n', stderr);
        *last = percent;
    }
    return !interrupted;
}

static npumoe_status write_tensors(nm_gguf_writer *w, const mk_spec *s, const mk_tensor *t,
                                   size_t n, nm_pool *pool, npumoe_error *err)
{
    mk_weights *m = NULL;
    uint64_t total = 0, done = 0;
    int last = -1;
    NM_TRY(mk_weights_new(s, pool, &m, err));
    for (size_t i = 0; i < n; i++)
        total += t[i].bytes;
    npumoe_status st = NPUMOE_OK;
    for (size_t i = 0; i < n && st == NPUMOE_OK; i++)
        st = mk_write_tensor(m, w, &t[i], show_progress, &last, &done, total, err);
    mk_weights_free(&m);
    return st;
}

static npumoe_status write_file(const char *path, const mk_spec *s, const nm_gguf *vocab,
                                const mk_tensor *t, size_t n, nm_pool *pool, npumoe_error *err)
{
    nm_gguf_writer *w = NULL;
    npumoe_status st;
    NM_TRY(nm_gguf_writer_new(nm_allocator_default(), path, &w, err));
    NM_TRY_OUT(mk_put_metadata(w, s, err));
    NM_TRY_OUT(vocab ? mk_copy_vocab(w, vocab, err) : mk_put_vocab(w, s, err));
    for (size_t i = 0; i < n; i++)
        NM_TRY_OUT(
            nm_gguf_put_tensor(w, t[i].name, (uint32_t)t[i].type, t[i].n_dims, t[i].ne, err));
    NM_TRY_OUT(nm_gguf_begin_data(w, err));
    NM_TRY_OUT(write_tensors(w, s, t, n, pool, err));
    st = nm_gguf_writer_finish(w, err);
out:
    nm_gguf_writer_free(&w);
    return st;
}

static void list_tensors(const mk_tensor *t, size_t n)
{
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        printf("%-40s %-6s %6llu %6llu %4llu %12llu\n", t[i].name,
               nm_type_get((uint32_t)t[i].type)->name, (unsigned long long)t[i].ne[0],
               (unsigned long long)t[i].ne[1], (unsigned long long)t[i].ne[2],
               (unsigned long long)t[i].bytes);
        total += t[i].bytes;
    }
    printf("%zu tensors, %.3f GB\n", n, (double)total / 1e9);
}

static npumoe_status check_heads(const mk_spec *s, npumoe_error *err)
{
    if (s->heads == 0 || s->kv_heads == 0 || s->heads % s->kv_heads != 0 || s->head_dim % 2 != 0 ||
        s->head_dim == 0 || (s->heads * s->head_dim) % 32 != 0)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "--heads %u --kv-heads %u --head-dim %u do not fit together", s->heads,
                          s->kv_heads, s->head_dim);
    return NPUMOE_OK;
}

static npumoe_status check_spec(const mk_spec *s, npumoe_error *err)
{
    if (s->embd < 32 || s->embd % 32 != 0 || s->ff % 32 != 0 || s->ff == 0)
        return nm_err_set(err, NPUMOE_EINVAL, "--embd %u --ff %u: multiples of 32 are needed",
                          s->embd, s->ff);
    NM_TRY(check_heads(s, err));
    if (s->used == 0 || s->used > s->experts || s->experts > 1024)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "--experts %u --used %u: 1 <= used <= experts <= 1024", s->experts,
                          s->used);
    if (s->arch == MK_PHIMOE && s->used != 2)
        return nm_err_set(err, NPUMOE_EINVAL, "phimoe routes to 2 experts, not %u", s->used);
    if (s->arch == MK_GPT_OSS && s->ctx_orig == 0)
        return nm_err_set(err, NPUMOE_EINVAL, "gpt-oss needs --ctx-orig, the length before YaRN");
    if (s->layers == 0 || s->layers > 1024 || s->ctx == 0)
        return nm_err_set(err, NPUMOE_EINVAL, "--layers %u --ctx %u", s->layers, s->ctx);
    return NPUMOE_OK;
}

static npumoe_status run(mk_spec *s, const char *path, int threads, bool list, npumoe_error *err)
{
    const npumoe_allocator *a = nm_allocator_default();
    nm_gguf_options options = {0};
    nm_gguf *vocab = NULL;
    nm_pool *pool = NULL;
    mk_tensor *t = NULL;
    size_t n = 0;
    npumoe_status st;
    if (s->vocab_from) {
        NM_TRY_OUT(nm_gguf_open(s->vocab_from, &options, &vocab, err));
        NM_TRY_OUT(mk_vocab_count(vocab, &s->vocab, err));
    }
    NM_TRY_OUT(check_spec(s, err));
    NM_TRY_OUT(mk_layout(s, a, &t, &n, err));
    if (list) {
        list_tensors(t, n);
        goto out;
    }
    NM_TRY_OUT(nm_pool_new(a, threads > 0 ? threads : nm_cpus_allowed(), &pool, err));
    st = write_file(path, s, vocab, t, n, pool, err);
out:
    nm_pool_free(&pool);
    nm_gguf_free(&vocab);
    nm_free(a, t);
    return st;
}

/* ---- options ------------------------------------------------------------------------------ */

enum { O_PRESET = 256, O_TYPE, O_SEED, O_SKEW, O_VOCAB_FROM, O_THREADS, O_LIST, O_NUMBER };

typedef struct number_option {
    const char *name;
    size_t offset;
} number_option;

#define NUMBER(option, field)            \
    {                                    \
        option, offsetof(mk_spec, field) \
    }
static const number_option numbers[] = {
    NUMBER("layers", layers),
    NUMBER("embd", embd),
    NUMBER("heads", heads),
    NUMBER("kv-heads", kv_heads),
    NUMBER("head-dim", head_dim),
    NUMBER("vocab", vocab),
    NUMBER("ctx", ctx),
    NUMBER("experts", experts),
    NUMBER("used", used),
    NUMBER("ff", ff),
    NUMBER("ff-shared", ff_shared),
    NUMBER("window", window),
    NUMBER("ctx-orig", ctx_orig),
};
#define N_NUMBERS (sizeof numbers / sizeof *numbers)

static bool parse_u64(const char *text, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || v > max)
        return false;
    *out = v;
    return true;
}

static void make_options(struct option *o)
{
    const struct option fixed[] = {{"preset", required_argument, NULL, O_PRESET},
                                   {"type", required_argument, NULL, O_TYPE},
                                   {"seed", required_argument, NULL, O_SEED},
                                   {"skew", required_argument, NULL, O_SKEW},
                                   {"vocab-from", required_argument, NULL, O_VOCAB_FROM},
                                   {"threads", required_argument, NULL, O_THREADS},
                                   {"list", no_argument, NULL, O_LIST},
                                   {"help", no_argument, NULL, 'h'}};
    const size_t n_fixed = sizeof fixed / sizeof *fixed;
    memcpy(o, fixed, sizeof fixed);
    for (size_t i = 0; i < N_NUMBERS; i++)
        o[n_fixed + i] =
            (struct option){numbers[i].name, required_argument, NULL, O_NUMBER + (int)i};
    o[n_fixed + N_NUMBERS] = (struct option){0};
}

typedef struct choices {
    mk_spec spec;
    int threads;
    bool list, help;
} choices;

/* Everything but --preset; false when the value cannot be read. */
static bool apply(choices *c, int opt, const char *value)
{
    uint64_t v;
    switch (opt) {
    case O_PRESET:
        return true;
    case O_TYPE:
        c->spec.type = value;
        return true;
    case O_VOCAB_FROM:
        c->spec.vocab_from = value;
        return true;
    case O_SEED:
        return parse_u64(value, UINT64_MAX, &c->spec.seed);
    case O_SKEW:
        c->spec.skew = strtof(value, NULL);
        return c->spec.skew >= 1.0f;
    case O_THREADS:
        if (!parse_u64(value, NM_POOL_MAX_THREADS, &v))
            return false;
        c->threads = (int)v;
        return true;
    case O_LIST:
        c->list = true;
        return true;
    case 'h':
        c->help = true;
        return true;
    default:
        if (opt < O_NUMBER || !parse_u64(value, 1u << 30, &v))
            return false;
        uint32_t u = (uint32_t)v;
        memcpy((char *)&c->spec + numbers[opt - O_NUMBER].offset, &u, sizeof u);
        return true;
    }
}

/* The preset first, wherever it stands: the other options change it. */
static bool parse(int argc, char **argv, choices *c)
{
    struct option o[8 + N_NUMBERS + 1];
    bool have = false;
    int opt;
    make_options(o);
    while ((opt = getopt_long(argc, argv, "h", o, NULL)) != -1) {
        if (opt == O_PRESET && !(have = mk_preset(optarg, &c->spec)))
            fprintf(stderr, "mkmodel: no preset %s\n", optarg);
        c->help = c->help || opt == 'h';
        if (opt == '?' || (opt == O_PRESET && !have))
            return false;
    }
    optind = 1;
    while ((opt = getopt_long(argc, argv, "h", o, NULL)) != -1) {
        if (!apply(c, opt, optarg)) {
            fprintf(stderr, "mkmodel: bad value %s\n", optarg);
            return false;
        }
    }
    return have || c->help;
}

int main(int argc, char **argv)
{
    choices c = {0};
    npumoe_error err = {0};
    if (!parse(argc, argv, &c) || (!c.help && !c.list && optind != argc - 1)) {
        usage(stderr);
        return 1;
    }
    if (c.help) {
        usage(stdout);
        return 0;
    }
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    npumoe_status st = run(&c.spec, c.list ? NULL : argv[optind], c.threads, c.list, &err);
    if (st == NPUMOE_ECANCELED)
        return 130;
    if (st != NPUMOE_OK) {
        fprintf(stderr, "mkmodel: %s\n", err.message);
        return 1;
    }
    return 0;
}
