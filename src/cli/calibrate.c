/* calibrate.c: npumoe calibrate: how the tokens of texts spread over a model's experts.
 *
 * With texts: reads them through the model and writes a profile. A run that is stopped leaves
 * PROFILE.partial (and TRACE.partial), also one that is killed: every minute what was counted is saved;
 * the same command goes on there. Without texts: joins and shows profiles, or turns a trace into CSV. */
#include "calibrate.h"
#include "load.h"
#include "out.h"
#include "report.h"
#include "verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_TEXTS = 4096, PIECE_BYTES = 1 << 14 };
#define SAVE_SECONDS 60.0

typedef struct calibrate_args {
    cli_strings texts, in_files;
    const char *output, *html, *trace, *trace_csv;
    int64_t chunks, every;
    int32_t ctx, ubatch, chunk;
    bool show, json, restart;
    model_args model;
    common_args common;
} calibrate_args;

#define AT(member) offsetof(calibrate_args, member)

static const cli_opt calibrate_opts[] = {
    {"-f", "--file", "FILE", cli_add_string, AT(texts), 0, 0,
     "a text to read; more may follow, - is standard input", true},
    {"-o", "--output", "FILE", cli_set_string, AT(output), 0, 0,
     "write the profile (JSON) to FILE; a stopped run leaves FILE.partial", true},
    {NULL, "--in-file", "FILE", cli_add_string, AT(in_files), 0, 0,
     "join this profile of the same model; may be repeated", true},
    {NULL, "--chunks", "N", cli_set_i64, AT(chunks), 1, 1e12,
     "stop after N windows of 2048 tokens; default: read all", false},
    {NULL, "--every", "N", cli_set_i64, AT(every), 1, 1e12,
     "count every N-th window only (sequence, if longer): a sample of long\ntexts, better than "
     "their beginning (1)",
     false},
    {"-c", "--ctx-size", "N", cli_set_i32, AT(ctx), 1, INT32_MAX,
     "tokens of a sequence (2048): a multiple of 2048, or a power of two\nbelow", false},
    {"-ub", "--ubatch-size", "N", cli_set_i32, AT(ubatch), 1, 65536,
     "tokens that are computed together (2048); the profile always has\nchunks of 128 to 2048",
     false},
    {NULL, "--restart", NULL, cli_set_flag, AT(restart), 0, 0, "forget what a stopped run left",
     true},
    {0},
};

static const cli_opt report_opts[] = {
    {NULL, "--show-statistics", NULL, cli_set_flag, AT(show), 0, 0,
     "print all tables: layers, texts, capacities; of the profile that\nfollows, or of the one "
     "just "
     "made",
     true},
    {NULL, "--chunk", "N", cli_set_i32, AT(chunk), 1, 16384,
     "tokens of the chunks that loads and capacities are shown for (512)", false},
    {NULL, "--json", NULL, cli_set_flag, AT(json), 0, 0, "statistics as JSON", true},
    {NULL, "--html", "FILE", cli_set_string, AT(html), 0, 0,
     "write a page with the popularity map, loads and coverage", true},
    {NULL, "--trace", "FILE", cli_set_string, AT(trace), 0, 0, "record every routing decision",
     true},
    {NULL, "--trace-csv", "FILE", cli_set_string, AT(trace_csv), 0, 0,
     "write the trace as CSV, too; without texts: the one that --trace\nnames", true},
    {0},
};

static const cli_help help = {
    "calibrate",
    "[-m FILE] -f TEXT... -o PROFILE [options]",
    "Reads texts through a model and counts where its routers send the tokens: loads of\n"
    "every expert in chunks of 128 to 2048 tokens, popularity, co-activation. An eighth is\n"
    "held out to judge the rest by. Ctrl-C keeps what was counted; the same command goes\n"
    "on. npumoe plan makes a placement of the profile.",
    "npumoe calibrate -m olmoe.gguf -f books/*.txt -o olmoe.profile\n"
    "npumoe calibrate --show-statistics olmoe.profile --html olmoe.html\n"
    "npumoe calibrate --in-file prose.profile --in-file code.profile -o both.profile\n"
    "npumoe calibrate --trace olmoe.trace --trace-csv olmoe.csv",
};

/* ---- reading texts -------------------------------------------------------------------------- */

typedef struct run {
    const calibrate_args *a;
    npumoe_calibrator *cal;
    char *partial; /* PROFILE.partial */
    ui_progress bar;
    uint64_t bytes, bytes_read; /* of all texts, as far as known; read so far */
    uint64_t found;             /* tokens of the run that is resumed */
    double saved;               /* when */
    int code;
} run;

/* Tokens to come are estimated by the bytes read so far. */
static bool show_progress(void *user, uint64_t done, uint64_t total)
{
    run *r = user;
    const double per_byte = r->bytes_read > 1 << 16 ? (double)done / (double)r->bytes_read
                                                    : 0.25 / fmax(1.0, (double)r->a->every);
    total = (uint64_t)(per_byte * (double)r->bytes);
    if (r->a->chunks > 0 && (uint64_t)r->a->chunks * 2048 < total)
        total = (uint64_t)r->a->chunks * 2048;
    total = total > done ? total : done;
    return ui_progress_step(&r->bar, done - r->found, total - r->found);
}

static bool failed(run *r, npumoe_status st, const npumoe_error *err)
{
    if (st == NPUMOE_OK)
        return false;
    r->code = ui_fail(st, err);
    return true;
}

/* What was counted so far. */
static bool save_partial(run *r)
{
    npumoe_error err = {0};
    npumoe_status st = npumoe_calibrator_save(r->cal, r->partial, &err);
    if (st != NPUMOE_OK)
        ui_error("%s", err.message);
    r->saved = ui_now();
    return st == NPUMOE_OK;
}

static bool feed_text(run *r, FILE *f, const char *name)
{
    static char piece[PIECE_BYTES];
    npumoe_error err = {0};
    while (!npumoe_calibrator_full(r->cal)) {
        errno = 0;
        const size_t n = fread(piece, 1, sizeof piece, f);
        if (ferror(f) && !ui_interrupted())
            ui_error("cannot read %s: %s", name, strerror(errno));
        if (ferror(f)) {
            r->code = 1;
            return false;
        }
        if (n == 0)
            break;
        r->bytes_read += n;
        if (failed(r, npumoe_calibrator_feed(r->cal, piece, n, &err), &err))
            return false;
        if (ui_now() - r->saved > SAVE_SECONDS && !save_partial(r)) {
            r->code = 1;
            return false;
        }
    }
    return !failed(r, npumoe_calibrator_end_text(r->cal, &err), &err);
}

/* The last part of a path: a profile names texts, not somebody's folders. */
static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static bool read_text(run *r, const char *path)
{
    const bool standard = strcmp(path, "-") == 0;
    FILE *f = standard ? stdin : fopen(path, "rb");
    struct stat info;
    uint64_t bytes = 0;
    bool wanted = false, ok = f != NULL;
    if (ok && fstat(fileno(f), &info) == 0 && S_ISREG(info.st_mode))
        bytes = (uint64_t)info.st_size;
    if (!ok) {
        ui_error("cannot read %s: %s", path, strerror(errno));
        r->code = 1;
    } else {
        npumoe_error err = {0};
        ok = !failed(r,
                     npumoe_calibrator_begin_text(r->cal, standard ? "stdin" : base_name(path),
                                                  bytes, &wanted, &err),
                     &err);
        if (ok && wanted)
            ok = feed_text(r, f, path);
        else
            r->bytes_read += bytes;
    }
    if (f && !standard)
        fclose(f);
    return ok;
}

static uint64_t sum_bytes(const cli_strings *texts)
{
    uint64_t sum = 0;
    struct stat info;
    for (size_t i = 0; i < texts->n; i++)
        if (stat(texts->v[i], &info) == 0 && S_ISREG(info.st_mode))
            sum += (uint64_t)info.st_size;
    return sum;
}

/* ---- a whole run ---------------------------------------------------------------------------- */

static void note_restart(const run *r)
{
    ui_note("%s is what a stopped run left; --restart begins anew without it", r->partial);
}

/* Goes on where a stopped run ended, if there is one. */
static bool resume(run *r)
{
    npumoe_error err = {0};
    if (access(r->partial, F_OK) != 0)
        return true;
    if (r->a->restart) {
        (void)unlink(r->partial);
        return true;
    }
    npumoe_status st = npumoe_calibrator_resume(r->cal, r->partial, &err);
    if (st != NPUMOE_OK) {
        ui_error("%s", err.message);
        note_restart(r);
        r->code = 1;
        return false;
    }
    r->found = npumoe_calibrator_tokens(r->cal);
    ui_note("going on after %" PRIu64 " tokens, from %s", r->found, r->partial);
    return true;
}

/* A stopped run keeps what it has. */
static void keep(run *r)
{
    if (npumoe_calibrator_tokens(r->cal) > 0 && save_partial(r))
        ui_note("%" PRIu64 " tokens are kept in %s; the same command goes on from there",
                npumoe_calibrator_tokens(r->cal), r->partial);
}

static bool read_texts(run *r)
{
    bool ok = resume(r);
    if (!ok)
        return false;
    r->bytes = sum_bytes(&r->a->texts);
    ui_progress_begin(&r->bar, "calibrate", "tokens");
    r->saved = ui_now();
    for (size_t i = 0; ok && i < r->a->texts.n && !npumoe_calibrator_full(r->cal); i++)
        ok = read_text(r, r->a->texts.v[i]) && !ui_interrupted();
    ui_progress_end(&r->bar);
    if (!ok)
        keep(r);
    return ok;
}

static bool finish(run *r, npumoe_profile *base, npumoe_profile **out)
{
    npumoe_error err = {0};
    npumoe_profile *own = NULL;
    if (npumoe_calibrator_tokens(r->cal) == 0) {
        ui_error("the texts are empty: no token was counted");
        r->code = 1;
        return false;
    }
    if (failed(r, npumoe_calibrator_finish(r->cal, &own, &err), &err)) {
        if (r->found > 0)
            note_restart(r);
        return false;
    }
    if (base == NULL) {
        *out = own;
        return true;
    }
    const bool ok = !failed(r, npumoe_profile_merge(base, own, &err), &err);
    npumoe_profile_free(&own);
    return ok;
}

/* base: the joined --in-file profiles, or NULL. The result is in *out or, with a base, in it. */
static int calibrate_with(const calibrate_args *a, npumoe_model *model, npumoe_profile *base,
                          npumoe_profile **out)
{
    run r = {.a = a};
    npumoe_error err = {0};
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_calibrate_options o = npumoe_calibrate_options_default();
    npumoe_model_get_info(model, &info);
    if (a->ctx > 0 && (uint32_t)a->ctx > info.n_ctx_train)
        ui_note("sequences of %d tokens are longer than the %u that this model was trained for; "
                "routing beyond those is not what it learned",
                a->ctx, info.n_ctx_train);
    o.n_ctx = (uint32_t)a->ctx;
    o.n_chunk = (uint32_t)a->ubatch;
    o.max_windows = (uint64_t)a->chunks;
    o.every = (uint64_t)a->every;
    o.trace_path = a->trace;
    o.progress = show_progress;
    o.progress_user = &r;
    const size_t bytes = strlen(a->output) + sizeof ".partial";
    r.partial = malloc(bytes);
    if (!r.partial) {
        ui_error("out of memory");
        return 1;
    }
    snprintf(r.partial, bytes, "%s.partial", a->output);
    bool ok = !failed(&r, npumoe_calibrator_new(model, &o, &r.cal, &err), &err);
    if (ok && base)
        ok = !failed(&r, npumoe_calibrator_check(r.cal, base, "--in-file", &err), &err);
    ok = ok && read_texts(&r) && finish(&r, base, out);
    if (ok && !failed(&r, npumoe_profile_save(base ? base : *out, a->output, &err), &err))
        (void)unlink(r.partial);
    npumoe_calibrator_free(&r.cal);
    free(r.partial);
    return r.code;
}

static int read_and_calibrate(calibrate_args *a, npumoe_profile *base, npumoe_profile **out)
{
    ui_log log;
    npumoe_model *model = NULL;
    double load_seconds;
    if (!log_open(&log, &a->common, &a->model))
        return 1;
    int code = model_open(&a->model, false, &log, &model, &load_seconds);
    if (code == 0)
        code = calibrate_with(a, model, base, out);
    npumoe_model_free(&model);
    ui_log_close(&log);
    return code;
}

/* ---- profiles and traces that exist --------------------------------------------------------- */

/* All of them joined; NULL with *code = 0 when there are none. */
static npumoe_profile *join_files(const cli_strings *files, int *code)
{
    npumoe_profile *sum = NULL, *next = NULL;
    npumoe_error err = {0};
    *code = 0;
    for (size_t i = 0; i < files->n && *code == 0; i++) {
        npumoe_status st = npumoe_profile_load(files->v[i], sum ? &next : &sum, &err);
        if (st == NPUMOE_OK && next)
            st = npumoe_profile_merge(sum, next, &err);
        npumoe_profile_free(&next);
        if (st != NPUMOE_OK && st != NPUMOE_EINVAL)
            *code = ui_fail(st, &err);
        else if (st != NPUMOE_OK) {
            ui_error("%s: %s", files->v[i], err.message);
            *code = 1;
        }
    }
    if (*code != 0)
        npumoe_profile_free(&sum);
    return sum;
}

static bool to_out_file(void *user, const char *text, size_t bytes)
{
    return out_write(user, text, bytes) && !ui_interrupted();
}

static int write_csv(const calibrate_args *a)
{
    out_file out;
    npumoe_error err = {0};
    if (!out_open(&out, a->trace_csv))
        return 1;
    npumoe_status st = npumoe_trace_to_csv(a->trace, to_out_file, &out, &err);
    const bool lost = out.failed;
    if (!out_close(&out, st == NPUMOE_OK || lost))
        return 1;
    return st == NPUMOE_OK ? 0 : ui_fail(st, &err);
}

static int show(const calibrate_args *a, const npumoe_profile *profile)
{
    npumoe_error err = {0};
    char *text = NULL;
    npumoe_status st = npumoe_profile_describe(profile, (uint32_t)a->chunk, &text, &err);
    if (st != NPUMOE_OK)
        return ui_fail(st, &err);
    json_t *stats = json_loads(text, 0, NULL);
    bool ok = stats != NULL;
    if (!ok)
        ui_error("out of memory");
    if (ok && a->json)
        puts(text);
    else if (ok)
        calibrate_print(stats, a->show);
    if (ok && a->html)
        ok = calibrate_write_html(stats, a->html);
    json_decref(stats);
    npumoe_text_free(&text);
    return ok ? 0 : 1;
}

/* ---- the verb ------------------------------------------------------------------------------- */

/* What is written must not be what is read. */
static bool spares_inputs(const calibrate_args *a)
{
    const struct {
        const char *option, *path;
    } outputs[] = {{"-o", a->output},
                   {"--html", a->html},
                   {"--trace", a->texts.n ? a->trace : NULL},
                   {"--trace-csv", a->trace_csv},
                   {"--log-file", a->common.log_file}};
    struct stat out, in;
    for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++) {
        const char *path = outputs[i].path;
        for (size_t j = 0; j < i; j++)
            if (!out_apart(outputs[i].option, path, outputs[j].option, outputs[j].path))
                return false;
        for (size_t j = 0; j < a->in_files.n; j++)
            if (!out_apart(outputs[i].option, path, "--in-file", a->in_files.v[j]))
                return false;
        if (path && a->texts.n > 0 && !spares_model(&a->model, outputs[i].option, path))
            return false;
        for (size_t j = 0; path && stat(path, &out) == 0 && j < a->texts.n; j++)
            if (stat(a->texts.v[j], &in) == 0 && S_ISREG(in.st_mode) && in.st_dev == out.st_dev &&
                in.st_ino == out.st_ino) {
                ui_error("%s: %s is a text that is to be read", outputs[i].option, path);
                return false;
            }
        if (path != a->common.log_file && !out_promises(path)) /* the log is open */
            return false;
    }
    return true;
}

/* All of them, before the first is read: the last may be hours away. What is there twice counts twice, which may be
 * meant. */
static bool are_there(const cli_strings *files)
{
    struct stat *info = calloc(files->n + 1, sizeof *info);
    bool ok = info != NULL;
    if (!ok)
        ui_error("out of memory");
    for (size_t i = 0; ok && i < files->n; i++) {
        const char *path = files->v[i];
        if (strcmp(path, "-") == 0)
            continue;
        errno = 0;
        ok = access(path, R_OK) == 0 && stat(path, &info[i]) == 0 && !S_ISDIR(info[i].st_mode);
        if (!ok)
            ui_error("cannot read %s: %s", path, strerror(errno ? errno : EISDIR));
        for (size_t j = 0; ok && j < i; j++)
            if (info[i].st_ino == info[j].st_ino && info[i].st_dev == info[j].st_dev) {
                ui_note("%s is named more than once, and counts as often", path);
                break;
            }
    }
    free(info);
    return ok;
}

/* Arguments that are no options: texts, or with --show-statistics profiles. */
static bool add_positional(calibrate_args *a, const char *const *names, size_t n)
{
    char why[64] = "";
    cli_strings *list = a->show && a->texts.n == 0 ? &a->in_files : &a->texts;
    for (size_t i = 0; i < n; i++)
        if (!cli_add_string(calibrate_opts, list, names[i], why, sizeof why)) {
            ui_error("%s", why);
            return false;
        }
    return true;
}

static bool check(const calibrate_args *a)
{
    const char *problem = NULL;
    if (a->texts.n > 0 && !a->output)
        problem = "the profile needs a place: give -o PROFILE";
    else if (a->output && strcmp(a->output, "-") == 0)
        problem = "-o must name a file: a stopped run goes on from the one beside it";
    else if (a->texts.n == 0 && a->in_files.n == 0 && !(a->trace && a->trace_csv))
        problem = "nothing to read: give texts (-f), profiles (--in-file, --show-statistics "
                  "PROFILE) or --trace with --trace-csv";
    else if (a->trace_csv && !a->trace)
        problem = "--trace-csv needs --trace";
    else if (a->trace && !a->trace_csv && a->texts.n == 0)
        problem = "--trace records what texts do: give -f, or --trace-csv to convert it";
    if (problem)
        ui_error("calibrate: %s", problem);
    return !problem && are_there(&a->texts) && are_there(&a->in_files) && spares_inputs(a);
}

static int calibrate(calibrate_args *a)
{
    int code = 0;
    npumoe_error err = {0};
    npumoe_profile *profile = join_files(&a->in_files, &code);
    if (code == 0 && a->texts.n > 0)
        code = read_and_calibrate(a, profile, &profile);
    else if (code == 0 && profile && a->output) {
        npumoe_status st = npumoe_profile_save(profile, a->output, &err);
        code = st == NPUMOE_OK ? 0 : ui_fail(st, &err);
    }
    if (code == 0 && a->trace_csv)
        code = write_csv(a);
    if (code == 0 && profile)
        code = show(a, profile);
    npumoe_profile_free(&profile);
    return code;
}

int cmd_calibrate(int argc, char **argv)
{
    static const char *names[MAX_TEXTS];
    calibrate_args a = {0};
    size_t n = 0;
    const cli_group groups[] = {
        {"Calibration", calibrate_opts, &a},
        {"Report", report_opts, &a},
        {"Model", model_opts, &a.model},
        {"Other", log_opts, &a.common},
        {0},
    };
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, names, MAX_TEXTS, &n);
    int code = cli_exit_code(parsed);
    if (parsed == CLI_GO) {
        ui_catch_interrupts();
        code = add_positional(&a, names, n) && check(&a) ? ui_exit_code(calibrate(&a)) : 1;
    }
    cli_strings_free(&a.texts);
    cli_strings_free(&a.in_files);
    return code;
}
