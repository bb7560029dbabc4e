/* load.c: see load.h. */
#include "load.h"

#include "out.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

#ifndef NPUMOE_DATADIR
#define NPUMOE_DATADIR "/usr/local/share/npumoe"
#endif

/* ---- option groups ------------------------------------------------------------------------ */

bool cli_set_kv_type(const cli_opt *opt, void *field, const char *text, char *why, size_t why_bytes)
{
    (void)opt;
    npumoe_kv_type type;
    if (strcmp(text, "f16") == 0)
        type = NPUMOE_KV_F16;
    else if (strcmp(text, "q8_0") == 0)
        type = NPUMOE_KV_Q8_0;
    else if (strcmp(text, "f32") == 0)
        type = NPUMOE_KV_F32;
    else {
        snprintf(why, why_bytes, "f16, q8_0 or f32");
        return false;
    }
    *(npumoe_kv_type *)field = type;
    return true;
}

static const char *const precisions[] = {
    [NPUMOE_PRECISION_AUTO] = "auto",
    [NPUMOE_PRECISION_FAST] = "fast",
    [NPUMOE_PRECISION_FULL] = "full",
    [NPUMOE_PRECISION_FP32] = "fp32",
};

bool cli_set_precision(const cli_opt *opt, void *field, const char *text, char *why,
                       size_t why_bytes)
{
    (void)opt;
    for (size_t i = 0; i < sizeof precisions / sizeof precisions[0]; i++) {
        if (strcmp(text, precisions[i]) == 0) {
            *(npumoe_precision *)field = (npumoe_precision)i;
            return true;
        }
    }
    snprintf(why, why_bytes, "auto, fast, full or fp32");
    return false;
}

const char *precision_name(npumoe_precision precision)
{
    return precisions[precision];
}

const char *kv_type_name(npumoe_kv_type type)
{
    switch (type) {
    case NPUMOE_KV_F16:
        return "f16";
    case NPUMOE_KV_Q8_0:
        return "q8_0";
    case NPUMOE_KV_F32:
        return "f32";
    }
    return "?";
}

/* ID+BIAS or ID-BIAS, as llama.cpp: "15043+1", "2-inf" */
static bool add_logit_bias(const cli_opt *opt, void *field, const char *text, char *why,
                           size_t why_bytes)
{
    (void)opt;
    sampling_args *s = field;
    char *end;
    errno = 0;
    long id = strtol(text, &end, 10);
    bool good =
        end != text && id >= 0 && id <= INT32_MAX && errno == 0 && (*end == '+' || *end == '-');
    float bias = 0.0f;
    if (good) {
        const char *number = end;
        bias = strtof(number, &end);
        good = end != number && *end == '\0' && !isnan(bias);
    }
    if (!good) {
        snprintf(why, why_bytes, "ID+BIAS or ID-BIAS, like 15043+1 or 2-inf");
        return false;
    }
    npumoe_logit_bias *grown = realloc(s->bias, (s->n_bias + 1) * sizeof *grown);
    if (!grown)
        return false;
    grown[s->n_bias] = (npumoe_logit_bias){.token = (npumoe_token)id, .bias = bias};
    s->bias = grown;
    s->n_bias++;
    return true;
}

#define AT(type, field) offsetof(type, field)

#define MODEL_FILE_OPT                                                                             \
    {                                                                                              \
        "-m", "--model", "FILE", cli_set_string, AT(model_args, path), 0, 0,                       \
            "the GGUF file (any part of a split set); without it the demo model\nthat comes with " \
            "npumoe",                                                                              \
            false                                                                                  \
    }

const cli_opt model_file_opts[] = {MODEL_FILE_OPT, {0}};

const cli_opt model_opts[] = {
    MODEL_FILE_OPT,
    {"-t", "--threads", "N", cli_set_i32, AT(model_args, threads), 1, 512,
     "threads; default: the CPUs that affinity and cgroup allow", false},
    {"-tb", "--threads-batch", "N", cli_set_i32, AT(model_args, threads_batch), 1, 512,
     "threads for the prompt; one pool serves both, so the larger of\n-t and -tb counts", false},
    {NULL, "--isa", "TIER", cli_set_string, AT(model_args, isa), 0, 0,
     "kernels: scalar, avx2, avx512, amx, neon; default: the best this\nCPU runs (see npumoe "
     "doctor)",
     false},
    {NULL, "--precision", "KIND", cli_set_precision, AT(model_args, precision), 0, 0,
     "products of many rows: auto (by weight type), fast (activations of\n8 bits: bf16 on a matrix "
     "unit, bytes with VNNI), full (near fp32),\nfp32 (nothing else)",
     false},
    {NULL, "--routes", "TRACE", cli_set_string, AT(model_args, routes), 0, 0,
     "experts and weights of each token from TRACE (calibrate --trace, or\nCSV) in place of the "
     "routers' choice; output is then no answer",
     true},
    {NULL, "--memory-limit", "SIZE", cli_set_bytes, AT(model_args, memory_limit), 0, 0,
     "refuse what needs more than this (like 8G); default: what the\nmachine and the cgroup have",
     false},
    {NULL, "--mlock", NULL, cli_set_flag, AT(model_args, mlock), 0, 0,
     "keep the model in memory, never swapped out", false},
    {NULL, "--check-tensors", NULL, cli_set_flag, AT(model_args, check_tensors), 0, 0,
     "look for NaN and infinity in all weights while loading", false},
    {0},
};

const cli_opt session_opts[] = {
    {"-c", "--ctx-size", "N", cli_set_i32, AT(session_args, ctx), 0, INT32_MAX,
     "tokens the context holds; 0 = as many as the model was trained for", false},
    {"-b", "--batch-size", "N", cli_set_i32, AT(session_args, batch), 1, 1 << 20,
     "upper limit of -ub (2048)", false},
    {"-ub", "--ubatch-size", "N", cli_set_i32, AT(session_args, ubatch), 1, 1 << 20,
     "tokens of the prompt that are computed together (2048)", false},
    {"-ctk", "--cache-type-k", "TYPE", cli_set_kv_type, AT(session_args, type_k), 0, 0,
     "type of the cached keys: f16, q8_0, f32 (f16)", false},
    {"-ctv", "--cache-type-v", "TYPE", cli_set_kv_type, AT(session_args, type_v), 0, 0,
     "type of the cached values: f16, q8_0, f32 (f16)", false},
    {0},
};

#define LOG_OPTS                                                                     \
    {"-v",                                                                           \
     "--verbose",                                                                    \
     NULL,                                                                           \
     cli_set_flag,                                                                   \
     AT(common_args, verbose),                                                       \
     0,                                                                              \
     0,                                                                              \
     "say more on standard error",                                                   \
     false},                                                                         \
    {                                                                                \
        NULL, "--log-file", "FILE", cli_set_string, AT(common_args, log_file), 0, 0, \
            "append all log lines to FILE, with time stamps", false                  \
    }

const cli_opt log_opts[] = {LOG_OPTS, {0}};

const cli_opt common_opts[] = {
    LOG_OPTS,
    {NULL, "--no-perf", NULL, cli_set_flag, AT(common_args, no_perf), 0, 0, "no timings at the end",
     false},
    {0},
};

const cli_opt text_opts[] = {
    {"-p", "--prompt", "TEXT", cli_set_string, AT(text_args, prompt), 0, 0,
     "the text; without -p and -f standard input is read", true},
    {"-f", "--file", "FILE", cli_set_string, AT(text_args, file), 0, 0,
     "read it from FILE; - is standard input", true},
    {NULL, "--no-escape", NULL, cli_set_flag, AT(text_args, no_escape), 0, 0,
     "leave \\n, \\t, \\x41 ... in -p as they are", false},
    {0},
};

const cli_opt sampling_opts[] = {
    {"-s", "--seed", "N", cli_set_i64, AT(sampling_args, seed), -1, 9e18,
     "seed of the random numbers; -1 = from the system (-1)", false},
    {NULL, "--temp", "N", cli_set_float, AT(sampling_args, opt.temp), 0, 1e6,
     "temperature; 0 = always the likeliest token (0.8)", false},
    {NULL, "--top-k", "N", cli_set_i32, AT(sampling_args, opt.top_k), 0, INT32_MAX,
     "draw among the N likeliest tokens; 0 = off (40)", false},
    {NULL, "--top-p", "N", cli_set_float, AT(sampling_args, opt.top_p), 0, 1e6,
     "... among the likeliest that together have this probability;\n1 = off (0.95)", false},
    {NULL, "--min-p", "N", cli_set_float, AT(sampling_args, opt.min_p), 0, 1,
     "... among those with this part of the likeliest one's\nprobability; 0 = off (0.05)", false},
    {NULL, "--repeat-last-n", "N", cli_set_i32, AT(sampling_args, opt.penalty_last_n), -1,
     INT32_MAX, "tokens that the penalties look back on; -1 = all (64)", false},
    {NULL, "--repeat-penalty", "N", cli_set_float, AT(sampling_args, opt.repeat_penalty), 1e-6, 1e6,
     "divide the logits of tokens already seen; 1 = off (1)", false},
    {NULL, "--presence-penalty", "N", cli_set_float, AT(sampling_args, opt.presence_penalty), -1e6,
     1e6, "subtract from them; 0 = off (0)", false},
    {NULL, "--frequency-penalty", "N", cli_set_float, AT(sampling_args, opt.frequency_penalty),
     -1e6, 1e6, "subtract for each time they were seen; 0 = off (0)", false},
    {"-l", "--logit-bias", "ID+BIAS", add_logit_bias, 0, 0, 0,
     "add to the logit of token ID, like 15043+1 or 2-inf; may be\ngiven again", true},
    {0},
};

sampling_args sampling_default(void)
{
    return (sampling_args){.opt = npumoe_sampler_options_default(), .seed = -1};
}

void sampling_free(sampling_args *s)
{
    free(s->bias);
    s->bias = NULL;
    s->n_bias = 0;
}

/* ---- the demo model ----------------------------------------------------------------------- */

/* The folder of the running program, without the final slash. */
static bool program_folder(char *buf, size_t buf_bytes)
{
#ifdef __APPLE__
    char raw[4096];
    uint32_t size = sizeof raw;
    if (_NSGetExecutablePath(raw, &size) != 0)
        return false;
    char *real = realpath(raw, NULL);
    if (!real)
        return false;
    snprintf(buf, buf_bytes, "%s", real);
    free(real);
#else
    ssize_t n = readlink("/proc/self/exe", buf, buf_bytes - 1);
    if (n < 0)
        return false;
    buf[n] = '\0';
#endif
    char *slash = strrchr(buf, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return true;
}

/* The first npumoe-*.gguf of a folder by name. */
static bool find_demo(const char *folder, char *buf, size_t buf_bytes)
{
    DIR *d = opendir(folder);
    if (!d)
        return false;
    char best[256] = "";
    for (struct dirent *e; (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        bool fits = n > 5 && n < sizeof best && strncmp(e->d_name, "npumoe-", 7) == 0 &&
                    strcmp(e->d_name + n - 5, ".gguf") == 0;
        if (fits && (best[0] == '\0' || strcmp(e->d_name, best) < 0))
            memcpy(best, e->d_name, n + 1);
    }
    closedir(d);
    if (best[0] == '\0')
        return false;
    int n = snprintf(buf, buf_bytes, "%s/%s", folder, best);
    return n > 0 && (size_t)n < buf_bytes;
}

static bool find_default_model(char *buf, size_t buf_bytes)
{
    /* build/npumoe, build/release/npumoe, an installed PREFIX/bin/npumoe, and what the build knew */
    static const char *const beside[] = {"/../models", "/../../models", "/../share/npumoe"};
    char folder[4096], place[4200];
    if (program_folder(folder, sizeof folder))
        for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
            snprintf(place, sizeof place, "%s%s", folder, beside[i]);
            char *real = realpath(place, NULL); /* a path that can be read in messages */
            bool found = real && find_demo(real, buf, buf_bytes);
            free(real);
            if (found)
                return true;
        }
    return find_demo(NPUMOE_DATADIR, buf, buf_bytes);
}

const char *model_find(const model_args *args, char *buf, size_t buf_bytes)
{
    if (args->path)
        return args->path;
    return find_default_model(buf, buf_bytes) ? buf : NULL;
}

const char *model_path(const model_args *args, char *buf, size_t buf_bytes)
{
    const char *path = model_find(args, buf, buf_bytes);
    if (!path) {
        ui_error("no model: give a GGUF file with -m FILE or NPUMOE_MODEL "
                 "(the demo model is not beside the program)");
    } else if (!args->path) {
        const char *slash = strrchr(path, '/');
        ui_note("model: %s (the demo model that ships with npumoe; use -m for your own)",
                slash ? slash + 1 : path);
    }
    return path;
}

/* ---- outputs that would destroy the model --------------------------------------------------- */

static bool is_file(const char *path, const struct stat *file)
{
    struct stat info;
    return stat(path, &info) == 0 && info.st_dev == file->st_dev && info.st_ino == file->st_ino;
}

/* The parts of a split set are found by name, as the library finds them. */
static bool is_part(const char *model, const struct stat *file)
{
    static const char tail[] = "-00001-of-00001.gguf";
    size_t n = strlen(model), tail_bytes = sizeof tail - 1;
    unsigned number, count;
    int end = 0;
    if (n < tail_bytes ||
        sscanf(model + n - tail_bytes, "-%5u-of-%5u.gguf%n", &number, &count, &end) != 2)
        return false;
    char *part = (size_t)end == tail_bytes ? strdup(model) : NULL;
    bool found = false;
    for (unsigned i = 1; part && i <= count && !found; i++) {
        snprintf(part + n - tail_bytes, tail_bytes + 1, "-%05u-of-%05u.gguf", i % 100000, count);
        found = is_file(part, file);
    }
    free(part);
    return found;
}

bool spares_model(const model_args *model, const char *option, const char *path)
{
    char buf[4400];
    struct stat file;
    if (!path || stat(path, &file) != 0)
        return true;
    const char *in_use = model_find(model, buf, sizeof buf);
    if (!in_use || (!is_file(in_use, &file) && !is_part(in_use, &file)))
        return true;
    ui_error("%s: %s is the model (%s), which must not be overwritten", option, path, in_use);
    return false;
}

bool log_open(ui_log *log, const common_args *common, const model_args *model)
{
    return spares_model(model, "--log-file", common->log_file) &&
           ui_log_open(log, common->log_file, common->verbose);
}

/* ---- opening ------------------------------------------------------------------------------ */

int32_t model_threads(const model_args *args)
{
    return args->threads > args->threads_batch ? args->threads : args->threads_batch;
}

int model_open(const model_args *args, bool vocab_only, ui_log *log, npumoe_model **out,
               double *load_seconds)
{
    char buf[4400];
    const char *path = model_path(args, buf, sizeof buf);
    if (!path)
        return 1;
    ui_progress bar;
    ui_progress_begin(&bar, "model", "bytes");
    npumoe_model_options o = npumoe_model_options_default();
    o.log = ui_log_line;
    o.log_user = log;
    o.progress = ui_progress_step;
    o.progress_user = &bar;
    o.isa = args->isa;
    o.precision = args->precision;
    o.n_threads = model_threads(args);
    o.memory_limit_bytes = args->memory_limit;
    o.use_mlock = args->mlock;
    o.check_tensors = args->check_tensors;
    o.vocab_only = vocab_only;
    double start = ui_now();
    npumoe_error err = {0};
    npumoe_status st = npumoe_model_load(path, &o, out, &err);
    ui_progress_end(&bar);
    if (load_seconds)
        *load_seconds = ui_now() - start;
    if (st == NPUMOE_OK && args->routes) {
        ui_note("routing comes from %s: what is computed is no answer of the model", args->routes);
        st = npumoe_model_use_routes(*out, args->routes, &err);
    }
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}

uint32_t given_ctx(const session_args *args, const npumoe_model *model)
{
    npumoe_model_info info = {.struct_bytes = sizeof info};
    if (args->ctx != 0)
        return args->ctx > 0 ? (uint32_t)args->ctx : 0;
    npumoe_model_get_info(model, &info);
    return info.n_ctx_train;
}

npumoe_session_options session_options(const session_args *args, uint32_t n_ctx)
{
    npumoe_session_options o = npumoe_session_options_default();
    o.n_ctx = n_ctx;
    o.n_chunk = (uint32_t)(args->ubatch < args->batch ? args->ubatch : args->batch);
    o.type_k = args->type_k;
    o.type_v = args->type_v;
    return o;
}

/* ---- prompts ------------------------------------------------------------------------------ */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The byte that \C stands for, or -1. */
static int escape_byte(char c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'e':
        return 27;
    case '\\':
    case '\'':
    case '"':
        return c;
    default:
        return -1;
    }
}

size_t text_unescape(char *text, size_t bytes)
{
    size_t out = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '\\' && i + 1 < bytes) {
            int byte = escape_byte(text[i + 1]);
            if (byte >= 0) {
                text[out++] = (char)byte;
                i++;
                continue;
            }
            if (text[i + 1] == 'x' && i + 3 < bytes && hex_digit(text[i + 2]) >= 0 &&
                hex_digit(text[i + 3]) >= 0) {
                text[out++] = (char)(hex_digit(text[i + 2]) * 16 + hex_digit(text[i + 3]));
                i += 3;
                continue;
            }
        }
        text[out++] = text[i];
    }
    text[out] = '\0';
    return out;
}

bool text_read(const text_args *args, bool drop_newline, char **text, size_t *bytes)
{
    *text = NULL;
    if (args->prompt && args->file) {
        ui_error("give -p or -f, not both");
        return false;
    }
    if (args->prompt) {
        *text = strdup(args->prompt);
        if (!*text) {
            ui_error("out of memory");
            return false;
        }
        *bytes = strlen(*text);
        if (!args->no_escape)
            *bytes = text_unescape(*text, *bytes);
        return true;
    }
    const char *path = args->file ? args->file : "-";
    if (strcmp(path, "-") == 0 && isatty(STDIN_FILENO))
        ui_note("type the text, end it with Ctrl-D on a line of its own:");
    if (!in_read_all(path, text, bytes))
        return false;
    if (ui_interrupted()) {
        free(*text);
        *text = NULL; /* callers may free what they were not given */
        return false;
    }
    if (drop_newline && *bytes > 0 && (*text)[*bytes - 1] == '\n')
        (*text)[--*bytes] = '\0';
    return true;
}

npumoe_token *text_tokens(const npumoe_model *model, const char *text, size_t bytes, unsigned flags,
                          size_t *n_tokens)
{
    size_t cap = npumoe_tokens_bound(model, bytes);
    npumoe_token *tokens =
        cap < SIZE_MAX / sizeof *tokens ? malloc((cap ? cap : 1) * sizeof *tokens) : NULL;
    if (!tokens) {
        ui_error("out of memory for %zu tokens", cap);
        return NULL;
    }
    npumoe_error err = {0};
    npumoe_status st = npumoe_tokenize(model, text, bytes, flags, tokens, cap, n_tokens, &err);
    if (st != NPUMOE_OK) {
        ui_fail(st, &err);
        free(tokens);
        return NULL;
    }
    /* the bound is generous; a large prompt should not keep it */
    npumoe_token *fitted = realloc(tokens, (*n_tokens ? *n_tokens : 1) * sizeof *tokens);
    return fitted ? fitted : tokens;
}

bool model_adds_bos(const npumoe_model *model)
{
    npumoe_token tokens[8];
    size_t n = 0;
    npumoe_status st =
        npumoe_tokenize(model, "", 0, NPUMOE_TOKENIZE_ADD_SPECIAL, tokens, 8, &n, NULL);
    return st == NPUMOE_OK && n > 0 && tokens[0] == npumoe_token_bos(model);
}
