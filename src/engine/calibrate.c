/* calibrate.c: reads texts through a model and counts where its routers send the tokens.
 *
 * Text comes in pieces of any size. It is collected to blocks of 16 KiB, which are cut where a line
 * begins (so that no word is torn) and tokenised; tokens are collected to windows of 2048 (profile.h);
 * a window is evaluated, and counted only when all of it was. So what is counted does not depend on the
 * pieces, and a run that is stopped anywhere has counted whole windows. Nor, in fp32, does it depend
 * on how many tokens are computed together; other products round by the number of rows an expert
 * gets, and then a token near a tie may be counted with its other expert.
 *
 * SEQUENCES. Tokens see what comes before them in their sequence of n_ctx tokens. With the default
 * of 2048 a window is a sequence; longer ones hold several windows, shorter ones are several to a window. Each
 * begins as the model's texts begin: BOS takes the place of its first token, as in perplexity.
 *
 * SAMPLES. Of a long text the first of every n sequences may be enough (of n windows, where a sequence is shorter); the
 * others are tokenised and passed over. Which windows are held out goes by the number of those that are counted.
 *
 * RESUMING. npumoe_calibrator_save writes the profile with one more key, "resume": how many texts are
 * complete, a hash of the bytes of each, how many windows of the next are done (counted or passed over), and a hash of
 * their tokens. The resumed run is fed the same texts again, all that the stopped one had begun: complete ones are
 * hashed only; of the next, what was counted is tokenised and passed over (its tokens must have that hash). Bytes for
 * whole texts, as they need no tokenizer; tokens for a part of one, as windows do not end where bytes can be told.
 * Where a sequence holds several windows, those of the unfinished one are evaluated again, since the
 * cache is gone, but not counted. The result is bit for bit that of a run that was not stopped. */
#include "base/abi.h"
#include "base/file.h"
#include "base/num.h"
#include "engine/model.h"
#include "engine/session.h"
#include "moe/fields.h"
#include "moe/trace.h"

#include <inttypes.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)1 << 14)
#define WINDOW      NM_PROFILE_WINDOW
#define FNV_OFFSET  UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME   UINT64_C(0x100000001b3)

struct npumoe_calibrator {
    npumoe_model *model;
    const npumoe_allocator *a;
    npumoe_session *session;
    nm_profile *profile;
    npumoe_progress_fn progress;
    void *progress_user;
    uint64_t max_windows, windows; /* windows: counted, in all texts */
    uint64_t every;                /* of so many sequences of a text the first is counted */
    uint32_t n_chunk;
    npumoe_token bos; /* -1 = none */

    char *trace_path;
    nm_trace_writer *trace;
    uint64_t trace_bytes; /* of a resumed run */

    /* The text being read. */
    uint64_t text, n_complete;        /* its number; how many are done */
    uint64_t text_windows, text_hash; /* hash: of the tokens of those windows */
    uint64_t bytes_hash;              /* of what was fed */
    uint64_t text_counted;            /* of its windows, those that are not passed over */
    char *block;
    size_t block_bytes;
    npumoe_token *block_tokens;
    size_t block_tokens_cap;

    /* Its sequence: windows before the present one, then `have` tokens of that. */
    uint32_t sequence; /* n_ctx */
    npumoe_token *tokens;
    uint32_t base, have;

    /* The routing of the window in work: [n_layers][n][k]. */
    uint16_t *ids;
    float *weights; /* NULL without a trace */
    uint32_t n,
        piece; /* tokens of the window; where the evaluated sequence's position 0 lies in it */
    uint32_t slot_of[NM_MAX_LAYERS];
    bool failed; /* a window could not be written to the trace: nothing may follow */

    /* Of the bytes of complete texts, as many as are known: all, but while a run resumes what an older version
     * left, which kept none. */
    uint64_t *hashes;
    size_t n_hashes, hashes_cap;

    /* From a file: what is passed over. */
    uint64_t resume_complete, resume_windows, resume_hash;
    size_t resume_texts, n_begun; /* texts begun: then, and of this run */
};

npumoe_calibrate_options npumoe_calibrate_options_default(void)
{
    return (npumoe_calibrate_options){.struct_bytes = sizeof(npumoe_calibrate_options)};
}

/* ---- observing ------------------------------------------------------------------------------ */

static void on_route(void *user, uint32_t layer, size_t pos0, uint32_t n, uint32_t k,
                     const uint32_t *ids, const float *weights)
{
    npumoe_calibrator *c = user;
    for (uint32_t i = 0; i < n; i++) {
        /* windows of the sequence before this one are there only to be seen by attention */
        const size_t position = pos0 + i;
        if (position < c->base)
            continue;
        const size_t row = c->piece + position - c->base;
        const size_t at = (c->slot_of[layer] * (size_t)c->n + row) * k;
        for (uint32_t s = 0; s < k; s++) {
            c->ids[at + s] = (uint16_t)ids[(size_t)i * k + s];
            if (c->weights)
                c->weights[at + s] = weights[(size_t)i * k + s];
        }
    }
}

static bool on_progress(void *user, uint64_t done, uint64_t total)
{
    const npumoe_calibrator *c = user;
    (void)total;
    const uint64_t within = c->piece + done < c->n ? c->piece + done : c->n;
    return !c->progress || c->progress(c->progress_user, npumoe_calibrator_tokens(c) + within, 0);
}

/* ---- making --------------------------------------------------------------------------------- */

/* A multiple of the window, or a power of two that divides it. */
static uint32_t sequence_of(uint32_t n_ctx)
{
    if (n_ctx >= WINDOW)
        return n_ctx / WINDOW * WINDOW;
    uint32_t n = WINDOW;
    while (n > n_ctx)
        n /= 2;
    return n;
}

static npumoe_status find_bos(npumoe_calibrator *c, npumoe_error *err)
{
    npumoe_token tokens[8];
    size_t n = 0;
    c->bos = -1;
    if (c->model->tokenizer == NULL)
        return nm_err_set(err, NPUMOE_ETOKEN, "the file has no tokenizer, which texts need");
    NM_TRY(nm_tokenizer_encode(c->model->tokenizer, "", 0, NPUMOE_TOKENIZE_ADD_SPECIAL, tokens,
                               sizeof tokens / sizeof tokens[0], &n, err));
    const npumoe_token bos = nm_tokenizer_bos(c->model->tokenizer);
    if (n > 0 && bos >= 0 && tokens[0] == bos)
        c->bos = bos;
    return NPUMOE_OK;
}

static npumoe_status make_session(npumoe_calibrator *c, const npumoe_calibrate_options *o,
                                  npumoe_error *err)
{
    const uint32_t train = c->model->config.n_ctx_train;
    npumoe_session_options so = npumoe_session_options_default();
    uint32_t n_ctx = o->n_ctx ? o->n_ctx : WINDOW;
    if (!o->n_ctx && train > 0 && train < n_ctx)
        n_ctx = train;
    so.n_ctx = c->sequence = sequence_of(n_ctx);
    so.n_chunk = c->n_chunk = o->n_chunk ? o->n_chunk : WINDOW;
    so.progress = on_progress;
    so.progress_user = c;
    NM_TRY(npumoe_session_new(c->model, &so, &c->session, err));
    const nm_hooks hooks = {.route = on_route, .user = c};
    nm_session_set_hooks(c->session, &hooks);
    return NPUMOE_OK;
}

static npumoe_status make_room(npumoe_calibrator *c, const npumoe_calibrate_options *o,
                               npumoe_error *err)
{
    const nm_profile *p = c->profile;
    const size_t pairs = (size_t)p->n_layers * WINDOW * p->model.n_expert_used;
    const size_t n_tokens = c->sequence > WINDOW ? c->sequence : WINDOW;
    c->block = nm_alloc(c->a, BLOCK_BYTES);
    c->tokens = nm_alloc_array(c->a, n_tokens, sizeof *c->tokens);
    c->ids = nm_alloc_array(c->a, pairs, sizeof *c->ids);
    if (o->trace_path) {
        c->trace_path = nm_strndup(c->a, o->trace_path, strlen(o->trace_path));
        c->weights = nm_alloc_array(c->a, pairs, sizeof *c->weights);
    }
    if (!c->block || !c->tokens || !c->ids || (o->trace_path && (!c->trace_path || !c->weights)))
        return nm_err_nomem(err, pairs * sizeof *c->ids + BLOCK_BYTES, "a window of routes");
    for (uint32_t i = 0; i < p->n_layers; i++)
        c->slot_of[p->layer_of[i]] = i;
    return NPUMOE_OK;
}

npumoe_status npumoe_calibrator_new(npumoe_model *model, const npumoe_calibrate_options *options,
                                    npumoe_calibrator **out, npumoe_error *err)
{
    npumoe_calibrate_options o = npumoe_calibrate_options_default();
    NM_TRY(nm_abi_read(&o, sizeof o, options, "npumoe_calibrate_options", err));
    if (model == NULL || out == NULL)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "npumoe_calibrator_new: model and out must not be NULL");
    if (model->vocab_only)
        return nm_err_set(err, NPUMOE_EINVAL, "the model was loaded with vocab_only");
    npumoe_calibrator *c = nm_zalloc(model->allocator, sizeof *c);
    if (c == NULL)
        return nm_err_nomem(err, sizeof *c, "a calibration");
    c->model = model;
    c->a = model->allocator;
    c->progress = o.progress;
    c->progress_user = o.progress_user;
    c->max_windows = o.max_windows;
    c->every = o.every ? o.every : 1;
    npumoe_status st = nm_profile_new_for(&model->config, &model->weights, &c->profile, err);
    if (st == NPUMOE_OK)
        st = find_bos(c, err);
    if (st == NPUMOE_OK)
        st = make_session(c, &o, err);
    if (st == NPUMOE_OK)
        st = make_room(c, &o, err);
    if (st != NPUMOE_OK) {
        npumoe_calibrator_free(&c);
        return st;
    }
    *out = c;
    return NPUMOE_OK;
}

void npumoe_calibrator_free(npumoe_calibrator **calibrator)
{
    if (calibrator == NULL || *calibrator == NULL)
        return;
    npumoe_calibrator *c = *calibrator;
    npumoe_session_free(&c->session);
    nm_profile_free(&c->profile);
    nm_trace_writer_free(&c->trace);
    nm_free(c->a, c->trace_path);
    nm_free(c->a, c->block);
    nm_free(c->a, c->block_tokens);
    nm_free(c->a, c->tokens);
    nm_free(c->a, c->ids);
    nm_free(c->a, c->weights);
    nm_free(c->a, c->hashes);
    nm_free(c->a, c);
    *calibrator = NULL;
}

npumoe_status npumoe_calibrator_check(const npumoe_calibrator *c, const npumoe_profile *profile,
                                      const char *label, npumoe_error *err)
{
    return nm_profile_check(profile, label, &c->model->config, &c->model->weights, err);
}

/* The stopped run has counted more than was fed to this one. */
static bool is_behind(const npumoe_calibrator *c)
{
    return c->n_complete < c->resume_complete ||
           (c->n_complete == c->resume_complete && c->text_windows < c->resume_windows);
}

/* Not before all texts of a stopped run were seen to be the same: its windows are in the profile already. */
bool npumoe_calibrator_full(const npumoe_calibrator *c)
{
    return c->max_windows > 0 && c->windows >= c->max_windows && !is_behind(c) &&
           c->n_begun >= c->resume_texts;
}

uint64_t npumoe_calibrator_tokens(const npumoe_calibrator *c)
{
    return c->profile->part[NM_PROFILE_MAIN].tokens + c->profile->part[NM_PROFILE_HELD].tokens;
}

/* ---- windows -------------------------------------------------------------------------------- */

/* The window's tokens through the model, in as many sequences as it takes. */
static npumoe_status evaluate(npumoe_calibrator *c, npumoe_error *err)
{
    const uint32_t step = c->sequence < WINDOW ? c->sequence : c->n;
    for (c->piece = 0; c->piece < c->n; c->piece += step) {
        const uint32_t n = c->n - c->piece < step ? c->n - c->piece : step;
        npumoe_token *first = c->tokens + c->piece;
        if (c->base == 0) {
            nm_session_reset(c->session);
            if (c->bos >= 0)
                first[0] = c->bos;
        }
        NM_TRY(npumoe_session_eval(c->session, first, c->base + n, NULL, err));
    }
    return NPUMOE_OK;
}

static npumoe_status count(npumoe_calibrator *c, npumoe_error *err)
{
    const nm_profile_part part = nm_profile_part_of(c->text_counted);
    const nm_trace_block block = {.n = c->n,
                                  .text = (uint32_t)c->text,
                                  .part = part,
                                  .token = c->text_windows * WINDOW,
                                  .position = c->base};
    const char *name = c->text_windows == 0 ? c->profile->texts[c->text].name : NULL;
    if (c->trace) {
        npumoe_status st = nm_trace_writer_add(c->trace, &block, name, c->ids, c->weights, err);
        c->failed = st != NPUMOE_OK;
        NM_TRY(st);
    }
    NM_TRY(nm_profile_add_window(c->profile, part, c->n, c->ids, err));
    c->windows++;
    return NPUMOE_OK;
}

static uint64_t windows_per_sequence(const npumoe_calibrator *c)
{
    return c->sequence > WINDOW ? c->sequence / WINDOW : 1;
}

static uint64_t hash_bytes(uint64_t h, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)bytes[i]) * FNV_PRIME;
    return h;
}

static uint64_t hash_tokens(uint64_t h, const npumoe_token *tokens, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (int b = 0; b < 32; b += 8)
            h = (h ^ (((uint32_t)tokens[i] >> b) & 0xff)) * FNV_PRIME;
    return h;
}

/* Takes next to no time, but there may be no end of them. */
static npumoe_status pass_over(const npumoe_calibrator *c, npumoe_error *err)
{
    if (c->progress && !c->progress(c->progress_user, npumoe_calibrator_tokens(c), 0))
        return nm_err_set(err, NPUMOE_ECANCELED, "calibration was cancelled");
    return NPUMOE_OK;
}

/* What to do with the window that has gathered. passed: a stopped run has done it; but those of its last sequence are
 * evaluated again. wanted: it is one of the sample. */
static npumoe_status pass_or_count(npumoe_calibrator *c, bool passed, bool wanted,
                                   npumoe_error *err)
{
    const uint64_t n = windows_per_sequence(c);
    const bool evaluated = wanted && (!passed || c->text_windows / n == c->resume_windows / n);
    NM_TRY(evaluated ? evaluate(c, err) : pass_over(c, err));
    if (!passed)
        return wanted ? count(c, err) : NPUMOE_OK;
    if (c->text_windows + 1 == c->resume_windows && c->text_hash != c->resume_hash)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "'%s' is not the text that the stopped run read: its first %" PRIu64
                          " tokens differ",
                          c->profile->texts[c->text].name, c->resume_windows * WINDOW);
    return NPUMOE_OK;
}

/* n tokens lie at tokens[base]. */
static npumoe_status finish_window(npumoe_calibrator *c, npumoe_error *err)
{
    const bool passed = c->text == c->resume_complete && c->text_windows < c->resume_windows;
    const bool wanted = c->text_windows / windows_per_sequence(c) % c->every == 0;
    const uint64_t hash = c->text_hash;
    c->n = c->have;
    c->text_hash = hash_tokens(hash, c->tokens + c->base, c->n);
    npumoe_status st = pass_or_count(c, passed, wanted, err);
    if (st != NPUMOE_OK) {
        c->text_hash = hash;
        return st;
    }
    c->text_windows++;
    c->text_counted += wanted;
    c->base = c->base + 2 * WINDOW <= c->sequence ? c->base + WINDOW : 0;
    c->have = 0;
    return NPUMOE_OK;
}

static npumoe_status take_tokens(npumoe_calibrator *c, const npumoe_token *tokens, size_t n,
                                 npumoe_error *err)
{
    while (n > 0 && !npumoe_calibrator_full(c)) {
        const size_t room = WINDOW - c->have, take = n < room ? n : room;
        memcpy(c->tokens + c->base + c->have, tokens, take * sizeof *tokens);
        c->have += (uint32_t)take;
        tokens += take;
        n -= take;
        if (c->have == WINDOW)
            NM_TRY(finish_window(c, err));
    }
    return NPUMOE_OK;
}

/* ---- texts ---------------------------------------------------------------------------------- */

static bool is_space(char ch)
{
    return ch == ' ' || ch == '\n' || ch == '\r' || ch == '\t';
}

/* Where a full block ends: before a line that begins with a word; else before a word's space; else
 * between two bytes. */
static size_t cut_block(const char *text, size_t bytes)
{
    for (size_t i = bytes - 1; i > bytes / 2; i--)
        if (text[i - 1] == '\n' && !is_space(text[i]))
            return i;
    for (size_t i = bytes - 1; i > bytes / 2; i--)
        if (text[i] == ' ' && !is_space(text[i - 1]))
            return i;
    return bytes;
}

static npumoe_status take_block(npumoe_calibrator *c, size_t bytes, npumoe_error *err)
{
    const nm_tokenizer *t = c->model->tokenizer;
    size_t n = 0;
    NM_TRY(nm_grow(c->a, (void **)&c->block_tokens, &c->block_tokens_cap,
                   nm_tokenizer_bound(t, bytes), sizeof *c->block_tokens, err));
    NM_TRY(nm_tokenizer_encode(t, c->block, bytes, NPUMOE_TOKENIZE_PLAIN, c->block_tokens,
                               c->block_tokens_cap, &n, err));
    NM_TRY(take_tokens(c, c->block_tokens, n, err));
    c->block_bytes -= bytes;
    memmove(c->block, c->block + bytes, c->block_bytes);
    return NPUMOE_OK;
}

static npumoe_status open_trace(npumoe_calibrator *c, npumoe_error *err)
{
    const nm_profile *p = c->profile;
    NM_TRY(nm_trace_writer_new(c->a, c->trace_path, p, c->trace_bytes, &c->trace, err));
    nm_trace_writer_count(c->trace, npumoe_calibrator_tokens(c), c->windows, p->n_texts);
    return NPUMOE_OK;
}

/* The text being read was complete when the run was stopped. */
static bool is_complete(const npumoe_calibrator *c)
{
    return c->text < c->resume_complete;
}

npumoe_status npumoe_calibrator_begin_text(npumoe_calibrator *c, const char *name, uint64_t bytes,
                                           bool *wanted, npumoe_error *err)
{
    const bool known = c->text < c->profile->n_texts;
    *wanted = false;
    if (npumoe_calibrator_full(c))
        return NPUMOE_OK;
    if (known && !nm_profile_is_text(c->profile, c->text, name, bytes))
        return nm_err_set(err, NPUMOE_EINVAL,
                          "text %" PRIu64 " is '%s' of %" PRIu64
                          " bytes, but the stopped run read '%s' of %" PRIu64,
                          c->text + 1, name, bytes, c->profile->texts[c->text].name,
                          c->profile->texts[c->text].bytes);
    if (!is_complete(c) && c->trace_path && !c->trace)
        NM_TRY(open_trace(c, err));
    if (!known)
        NM_TRY(nm_profile_add_text(c->profile, name, bytes, err));
    c->text_windows = c->text_counted = 0;
    c->text_hash = c->bytes_hash = FNV_OFFSET;
    c->block_bytes = 0;
    c->base = c->have = 0;
    c->n_begun = (size_t)c->text + 1;
    *wanted = true;
    return NPUMOE_OK;
}

npumoe_status npumoe_calibrator_feed(npumoe_calibrator *c, const char *text, size_t text_bytes,
                                     npumoe_error *err)
{
    const uint64_t hash = hash_bytes(c->bytes_hash, text, text_bytes);
    if (is_complete(c)) {
        NM_TRY(pass_over(c, err));
        text_bytes = 0;
    }
    while (text_bytes > 0 && !npumoe_calibrator_full(c)) {
        const size_t take = nm_min_size(text_bytes, BLOCK_BYTES - c->block_bytes);
        memcpy(c->block + c->block_bytes, text, take);
        c->block_bytes += take;
        text += take;
        text_bytes -= take;
        if (c->block_bytes == BLOCK_BYTES)
            NM_TRY(take_block(c, cut_block(c->block, BLOCK_BYTES), err));
    }
    c->bytes_hash = hash;
    return NPUMOE_OK;
}

/* The rest of the text that is read, and whether it is long enough. */
static npumoe_status end_reading(npumoe_calibrator *c, npumoe_error *err)
{
    if (c->block_bytes > 0 && !npumoe_calibrator_full(c))
        NM_TRY(take_block(c, c->block_bytes, err));
    if (c->have > 0 && !npumoe_calibrator_full(c))
        NM_TRY(finish_window(c, err));
    if (c->text == c->resume_complete && c->text_windows < c->resume_windows)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "'%s' is not the text that the stopped run read: it is shorter",
                          c->profile->texts[c->text].name);
    return NPUMOE_OK;
}

/* Of a complete text: is it the one that it was? */
static npumoe_status keep_hash(npumoe_calibrator *c, npumoe_error *err)
{
    if (c->text < c->n_hashes && c->hashes[c->text] != c->bytes_hash)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "'%s' is not the text that the stopped run read: other bytes",
                          c->profile->texts[c->text].name);
    if (c->text < c->n_hashes)
        return NPUMOE_OK;
    NM_TRY(nm_grow(c->a, (void **)&c->hashes, &c->hashes_cap, c->n_hashes + 1, sizeof *c->hashes,
                   err));
    c->hashes[c->n_hashes++] = c->bytes_hash;
    return NPUMOE_OK;
}

npumoe_status npumoe_calibrator_end_text(npumoe_calibrator *c, npumoe_error *err)
{
    if (!is_complete(c)) {
        NM_TRY(end_reading(c, err));
        /* where nothing more is wanted, nobody knows whether this was its end: it is not complete */
        if (npumoe_calibrator_full(c))
            return NPUMOE_OK;
    }
    NM_TRY(keep_hash(c, err));
    c->text++;
    c->n_complete++;
    c->text_windows = c->text_counted = 0;
    c->text_hash = FNV_OFFSET;
    return NPUMOE_OK;
}

/* ---- stopping and going on ------------------------------------------------------------------ */

/* The key "resume". hashes: of all complete texts or, of an older version's run, of none. */
static char *print_resume(const npumoe_calibrator *c, uint64_t trace_bytes)
{
    /* A resumed run may be stopped again before it has come to what it knows. */
    const bool behind = is_behind(c);
    const uint64_t complete = behind ? c->resume_complete : c->n_complete;
    const size_t n = complete <= c->n_hashes ? (size_t)complete : 0, room = 400 + 20 * n;
    char *out = nm_alloc(c->a, room);
    if (out == NULL)
        return NULL;
    size_t end = (size_t)snprintf(out, room,
                                  "\"resume\":{\"complete\":%" PRIu64 ",\"windows\":%" PRIu64
                                  ",\"hash\":\"%016" PRIx64 "\",\"all_windows\":%" PRIu64
                                  ",\"n_ctx\":%" PRIu32 ",\"n_chunk\":%" PRIu32
                                  ",\"every\":%" PRIu64 ",\"trace_bytes\":%" PRIu64,
                                  complete, behind ? c->resume_windows : c->text_windows,
                                  behind ? c->resume_hash : c->text_hash, c->windows, c->sequence,
                                  c->n_chunk, c->every, trace_bytes);
    for (size_t i = 0; i < n; i++)
        end += (size_t)snprintf(out + end, room - end, "%s\"%016" PRIx64 "\"",
                                i ? "," : ",\"texts\":[", c->hashes[i]);
    snprintf(out + end, room - end, n ? "]}" : "}");
    return out;
}

npumoe_status npumoe_calibrator_save(npumoe_calibrator *c, const char *path, npumoe_error *err)
{
    uint64_t trace_bytes = 0;
    if (c->failed)
        return nm_err_set(err, NPUMOE_EIO,
                          "the trace could not be written, so its run cannot go on");
    if (c->trace)
        NM_TRY(nm_trace_writer_sync(c->trace, &trace_bytes, err));
    char *extra = print_resume(c, c->trace ? trace_bytes : c->trace_bytes);
    if (extra == NULL)
        return nm_err_nomem(err, 0, "what a stopped run leaves");
    npumoe_status st = nm_profile_save(c->profile, path, true, extra, err);
    nm_free(c->a, extra);
    return st;
}

static bool parse_hash(const char *text, uint64_t *hash)
{
    int used = 0;
    return text && sscanf(text, "%16" SCNx64 "%n", hash, &used) == 1 && used == 16 &&
           text[used] == '\0';
}

/* Of complete texts. An older version kept none: then those are compared by name and length. */
static npumoe_status read_hashes(npumoe_calibrator *c, const nm_fields *resume, npumoe_error *err)
{
    nm_fields list;
    size_t n = 0;
    if (json_object_get(resume->json, "texts") == NULL)
        return NPUMOE_OK;
    NM_TRY(nm_fields_array(resume, "texts", NM_PROFILE_MAX_TEXTS, &list, &n));
    if (n != c->resume_complete)
        return nm_fields_bad(resume, "texts", "a hash of each complete text");
    NM_TRY(nm_grow(c->a, (void **)&c->hashes, &c->hashes_cap, n, sizeof *c->hashes, err));
    for (c->n_hashes = 0; c->n_hashes < n; c->n_hashes++)
        if (!parse_hash(json_string_value(json_array_get(list.json, c->n_hashes)),
                        &c->hashes[c->n_hashes]))
            return nm_fields_bad(resume, "texts", "16 hexadecimal digits of each");
    return NPUMOE_OK;
}

static npumoe_status read_resume(npumoe_calibrator *c, const nm_fields *root, npumoe_error *err)
{
    nm_fields f;
    char hash[24];
    uint32_t n_ctx, n_chunk;
    uint64_t every = 1;
    NM_TRY(nm_fields_object(root, "resume", &f));
    NM_TRY(nm_fields_u64(&f, "complete", &c->resume_complete));
    NM_TRY(nm_fields_u64(&f, "windows", &c->resume_windows));
    NM_TRY(nm_fields_text(&f, "hash", hash, sizeof hash));
    if (!parse_hash(hash, &c->resume_hash))
        return nm_fields_bad(&f, "hash", "16 hexadecimal digits");
    NM_TRY(read_hashes(c, &f, err));
    NM_TRY(nm_fields_u64(&f, "all_windows", &c->windows));
    NM_TRY(nm_fields_u32(&f, "n_ctx", 1, INT32_MAX, &n_ctx));
    NM_TRY(nm_fields_u32(&f, "n_chunk", 1, INT32_MAX, &n_chunk));
    if (json_object_get(f.json, "every")) /* an older version's run counted all */
        NM_TRY(nm_fields_u64(&f, "every", &every));
    NM_TRY(nm_fields_u64(&f, "trace_bytes", &c->trace_bytes));
    if (n_ctx != c->sequence || n_chunk != c->n_chunk)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "the stopped run had sequences of %" PRIu32
                          " tokens in chunks of %" PRIu32 ", this one %" PRIu32 " in %" PRIu32,
                          n_ctx, n_chunk, c->sequence, c->n_chunk);
    if (every != c->every)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "the stopped run counted every %" PRIu64
                          ". window or sequence, this one every %" PRIu64 ".",
                          every, c->every);
    if (c->max_windows > 0 && c->windows > c->max_windows)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "the stopped run has counted %" PRIu64
                          " windows already, more than the %" PRIu64 " that are wanted",
                          c->windows, c->max_windows);
    if ((c->trace_bytes > 0) != (c->trace_path != NULL))
        return nm_err_set(err, NPUMOE_EINVAL,
                          "the stopped run wrote %s trace, this one is to write %s",
                          c->trace_bytes ? "a" : "no", c->trace_path ? "one" : "none");
    return NPUMOE_OK;
}

/* An empty profile of the same model takes it over, with a message that names the difference. */
static npumoe_status adopt(npumoe_calibrator *c, nm_profile *p, npumoe_error *err)
{
    NM_TRY(nm_profile_merge(c->profile, p, err));
    if (c->resume_complete > p->n_texts || p->n_texts > c->resume_complete + 1)
        return nm_err_set(err, NPUMOE_EFORMAT, "resume.complete: found %" PRIu64 " of %zu texts",
                          c->resume_complete, p->n_texts);
    c->resume_texts = p->n_texts;
    return NPUMOE_OK;
}

npumoe_status npumoe_calibrator_resume(npumoe_calibrator *c, const char *path, npumoe_error *err)
{
    nm_map map;
    json_t *root = NULL;
    nm_profile *p = NULL;
    NM_TRY(nm_map_open(path, &map, err));
    npumoe_status st =
        nm_profile_parse(c->a, (const char *)map.data, (size_t)map.bytes, path, &p, err);
    if (st == NPUMOE_OK)
        st = nm_fields_parse((const char *)map.data, (size_t)map.bytes, path, &root, err);
    nm_map_close(&map);
    if (st == NPUMOE_OK) {
        const nm_fields fields = nm_fields_root(root, err);
        st = read_resume(c, &fields, err);
        if (st == NPUMOE_OK)
            st = adopt(c, p, err);
        if (st != NPUMOE_OK)
            nm_err_prefix(err, st, "%s", path);
    }
    json_decref(root);
    nm_profile_free(&p);
    return st;
}

npumoe_status npumoe_calibrator_finish(npumoe_calibrator *c, npumoe_profile **out,
                                       npumoe_error *err)
{
    if (c->n_begun < c->resume_texts)
        return nm_err_set(
            err, NPUMOE_EINVAL,
            "the stopped run had begun %zu texts, and only %zu of them were read again",
            c->resume_texts, c->n_begun);
    if (c->trace_path && !c->trace) /* resumed, and there was nothing left to read */
        NM_TRY(open_trace(c, err));
    if (c->trace)
        NM_TRY(nm_trace_writer_commit(c->trace, err));
    *out = c->profile;
    c->profile = NULL;
    return NPUMOE_OK;
}

/* ---- profiles of the public interface ------------------------------------------------------- */

npumoe_status npumoe_profile_load(const char *path, npumoe_profile **out, npumoe_error *err)
{
    return nm_profile_load(NULL, path, out, err);
}

npumoe_status npumoe_profile_save(const npumoe_profile *profile, const char *path,
                                  npumoe_error *err)
{
    return nm_profile_save(profile, path, false, NULL, err);
}

npumoe_status npumoe_profile_merge(npumoe_profile *profile, const npumoe_profile *other,
                                   npumoe_error *err)
{
    return nm_profile_merge(profile, other, err);
}

void npumoe_profile_free(npumoe_profile **profile)
{
    nm_profile_free(profile);
}
