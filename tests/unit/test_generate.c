/* test_generate: stop strings against a definition for every way to cut a text, and the generation
 * loop on a model whose answer is known (support/scripted_model.h). */
#include "engine/stop.h"

#include "support/scripted_model.h"
#include "tap.h"

#include <unistd.h>

#define SEED 7u

/* ---- stop strings ------------------------------------------------------------------------- */

static uint64_t lcg_state = SEED;

static uint32_t random_below(uint32_t n)
{
    lcg_state = lcg_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(lcg_state >> 33) % n;
}

/* The definition: the shortest prefix of the text that ends with a stop string; of several, the
 * longest stop string. Returns its index and the length of the text before it. */
static size_t find_stop(const char *text, size_t n, const char *const *stops, size_t n_stops,
                        size_t *before)
{
    for (size_t end = 1; end <= n; end++) {
        size_t best = NM_STOP_NONE;
        for (size_t i = 0; i < n_stops; i++) {
            size_t len = strlen(stops[i]);
            if (len <= end && memcmp(text + end - len, stops[i], len) == 0 &&
                (best == NM_STOP_NONE || len > strlen(stops[best])))
                best = i;
        }
        if (best != NM_STOP_NONE) {
            *before = end - strlen(stops[best]);
            return best;
        }
    }
    *before = n;
    return NM_STOP_NONE;
}

/* Pushes text in random pieces; out[] gets what was shown. *held_too_much counts pushes after which
 * more was held back than the longest stop string allows. */
static size_t run_stop(const char *text, size_t n, const char *const *stops, size_t n_stops,
                       char *out, size_t *out_n, int *held_too_much)
{
    nm_stop *s = NULL;
    npumoe_error err;
    size_t longest = 1, match = NM_STOP_NONE, at = 0;
    if (nm_stop_new(nm_allocator_default(), stops, n_stops, &s, &err) != NPUMOE_OK)
        bail("%s", err.message);
    for (size_t i = 0; i < n_stops; i++)
        longest = strlen(stops[i]) > longest ? strlen(stops[i]) : longest;
    *out_n = 0;
    while (at < n && match == NM_STOP_NONE) {
        size_t piece = random_below(5);
        piece = piece < n - at ? piece : n - at;
        nm_str ready;
        if (nm_stop_push(s, (nm_str){text + at, piece}, &ready, &match, &err) != NPUMOE_OK)
            bail("%s", err.message);
        at += piece;
        memcpy(out + *out_n, ready.p, ready.n);
        *out_n += ready.n;
        *held_too_much += match == NM_STOP_NONE && at - *out_n > longest - 1;
    }
    nm_str rest = nm_stop_finish(s);
    if (match == NM_STOP_NONE && rest.n) {
        memcpy(out + *out_n, rest.p, rest.n);
        *out_n += rest.n;
    }
    nm_stop_free(&s);
    return match;
}

static void test_stop_random(void)
{
    int wrong = 0, held = 0, found = 0;
    for (int round = 0; round < 4000; round++) {
        char text[40], out[40], store[4][8];
        const char *stops[4];
        size_t n = random_below(40), n_stops = random_below(5), before, out_n;
        for (size_t i = 0; i < n; i++)
            text[i] = (char)('a' + random_below(2));
        for (size_t i = 0; i < n_stops; i++) {
            size_t len = 1 + random_below(6);
            for (size_t j = 0; j < len; j++)
                store[i][j] = (char)('a' + random_below(2));
            store[i][len] = '\0';
            stops[i] = store[i];
        }
        size_t want = find_stop(text, n, stops, n_stops, &before);
        size_t got = run_stop(text, n, stops, n_stops, out, &out_n, &held);
        bool same = got == want || (got != NM_STOP_NONE && want != NM_STOP_NONE &&
                                    strcmp(stops[got], stops[want]) == 0);
        wrong += !same || out_n != before || memcmp(out, text, out_n) != 0;
        found += got != NM_STOP_NONE;
    }
    is_int(wrong, 0, "4000 random texts, stop strings and cuts agree with the definition");
    is_int(held, 0, "never more is held back than could be the beginning of a stop string");
    ok(found > 500, "%d of them found something", found);
}

static void test_stop_refused(void)
{
    nm_stop *s = NULL;
    npumoe_error err;
    const char *const empty[] = {"ok", ""}, *const bad[] = {"\xa9"};
    is_int(nm_stop_new(nm_allocator_default(), empty, 2, &s, &err), NPUMOE_EINVAL, "empty");
    is_str(err.message, "stop string 1 is empty", "... says which");
    is_int(nm_stop_new(nm_allocator_default(), bad, 1, &s, &err), NPUMOE_EINVAL,
           "half a character");
    is_str(err.message, "stop string 0 is not valid UTF-8", "... says which");
    ok(s == NULL, "nothing was made");
}

/* ---- generation --------------------------------------------------------------------------- */

typedef struct collected {
    char text[512];
    size_t n;
    int calls, stop_after; /* stop_after 0 = never */
} collected;

static bool collect(void *user, npumoe_token token, const char *text, size_t bytes)
{
    collected *c = user;
    (void)token;
    if (c->n + bytes < sizeof c->text) {
        memcpy(c->text + c->n, text, bytes);
        c->n += bytes;
        c->text[c->n] = '\0';
    }
    return ++c->calls != c->stop_after;
}

typedef struct world {
    npumoe_model *model;
    npumoe_session *session;
    npumoe_sampler *sampler;
    bool cancel; /* what the session's progress function says */
} world;

static bool may_go_on(void *user, uint64_t done, uint64_t total)
{
    (void)done, (void)total;
    return !((world *)user)->cancel;
}

static void make_world(world *w, const char *path)
{
    npumoe_error err = {0};
    if (scripted_model_write(path, &err) != NPUMOE_OK)
        bail("cannot write the model: %s", err.message);
    npumoe_model_options mo = npumoe_model_options_default();
    mo.n_threads = 1;
    if (npumoe_model_load(path, &mo, &w->model, &err) != NPUMOE_OK)
        bail("cannot load the model: %s", err.message);
    npumoe_session_options so = npumoe_session_options_default();
    so.n_ctx = 20;
    so.progress = may_go_on;
    so.progress_user = w;
    if (npumoe_session_new(w->model, &so, &w->session, &err) != NPUMOE_OK)
        bail("no session: %s", err.message);
    npumoe_sampler_options o = npumoe_sampler_options_default();
    o.temp = 0.0f;
    if (npumoe_sampler_new(w->model, &o, &w->sampler, &err) != NPUMOE_OK)
        bail("no sampler: %s", err.message);
}

/* Generates from one token; returns the reason or the negative status. */
static int go(world *w, npumoe_token first, npumoe_generate_options *o, collected *c,
              npumoe_token *tokens, size_t capacity, size_t *n_tokens,
              npumoe_generate_result *result)
{
    npumoe_error err = {0};
    *c = (collected){.stop_after = c->stop_after};
    o->on_text = collect;
    o->user = c;
    tokens[0] = first;
    *n_tokens = 1;
    npumoe_status st =
        npumoe_generate(w->session, w->sampler, tokens, n_tokens, capacity, o, result, &err);
    return st == NPUMOE_OK ? (int)result->reason : (int)st;
}

#define FULL " two three four.\xe2\x82\xac"

static void test_script(world *w)
{
    npumoe_token tokens[64];
    npumoe_generate_result r = {0};
    collected c = {0};
    size_t n;
    npumoe_generate_options o = npumoe_generate_options_default();
    is_int(go(w, 3, &o, &c, tokens, 64, &n, &r), NPUMOE_STOP_END, "the model ends its answer");
    is_str(c.text, FULL, "the whole text; a character of three byte tokens comes whole");
    is_u64(r.n_generated, 8, "eight tokens (the end token is not counted)");
    is_int((int64_t)n, 9, "they are appended to the prompt");
    is_int(tokens[8], 11, "... in order");

    is_int(go(w, 3, &o, &c, tokens, 2, &n, &r), NPUMOE_STOP_END, "a small array");
    is_str(c.text, FULL, "... streams the same text");
    is_int((int64_t)n, 2, "... and takes what it has room for");
    is_int(tokens[1], 4, "... from the front");

    o.n_predict = 3;
    is_int(go(w, 3, &o, &c, tokens, 64, &n, &r), NPUMOE_STOP_LENGTH, "n_predict 3");
    is_str(c.text, " two three f", "... three tokens");
    o.n_predict = 6;
    is_int(go(w, 3, &o, &c, tokens, 64, &n, &r), NPUMOE_STOP_LENGTH,
           "n_predict inside a character");
    is_str(c.text, " two three four.\xef\xbf\xbd", "... shows the incomplete one as U+FFFD");
    o.n_predict = 0;
    is_int(go(w, 3, &o, &c, tokens, 64, &n, &r), NPUMOE_STOP_LENGTH, "n_predict 0 only evaluates");
    is_int(c.calls, 0, "... and shows nothing");
    is_int((int64_t)npumoe_session_length(w->session), 1, "... the prompt is in the session");
}

/* The prompt ends within the euro sign: the answer completes it. */
static void test_split_character(world *w)
{
    npumoe_generate_options o = npumoe_generate_options_default();
    npumoe_generate_result r = {0};
    npumoe_error err = {0};
    for (size_t n_prompt = 1; n_prompt <= 3; n_prompt++) {
        npumoe_token tokens[64] = {8, 9, 10};
        collected c = {0};
        size_t n = n_prompt;
        o.on_text = collect;
        o.user = &c;
        is_int(npumoe_generate(w->session, w->sampler, tokens, &n, 64, &o, &r, &err), NPUMOE_OK,
               "a prompt with %zu bytes of a character", n_prompt - 1);
        is_str(c.text, "\xe2\x82\xac", "... the character comes whole");
    }
    npumoe_token tokens[64] = {8, 9, 10};
    collected c = {0};
    size_t n = 3;
    o.user = &c;
    o.n_predict = 0;
    npumoe_generate(w->session, w->sampler, tokens, &n, 64, &o, &r, &err);
    is_int(c.calls, 0, "no answer: the prompt's bytes are not shown");
}

static void test_stops(world *w)
{
    npumoe_token tokens[64];
    npumoe_generate_result r = {0};
    collected c = {0};
    size_t n;
    npumoe_generate_options o = npumoe_generate_options_default();
    const char *const across[] = {"nothing", "ee fou"};
    o.stop = across;
    o.n_stop = 2;
    is_int(go(w, 3, &o, &c, tokens, 64, &n, &r), NPUMOE_STOP_STRING, "a stop string over 3 tokens");
    is_str(c.text, " two thr", "... is not shown, nor anything after it");
    is_int((int64_t)r.stop_index, 1, "... which one is told");
    const char *const almost[] = {"ee fox", "four.\xe2\x82\xac!"};
    o.stop = almost;
    is_int(go(w, 3, &o, &c, tokens, 64, &n, &r), NPUMOE_STOP_END, "almost a stop string");
    is_str(c.text, FULL, "... is shown in the end");
    const char *const euro[] = {"\xe2\x82\xac"};
    o.stop = euro;
    o.n_stop = 1;
    is_int(go(w, 3, &o, &c, tokens, 64, &n, &r), NPUMOE_STOP_STRING, "a character as stop string");
    is_str(c.text, " two three four.", "... ends before it");
    const char *const bad[] = {""};
    o.stop = bad;
    is_int(go(w, 3, &o, &c, tokens, 64, &n, &r), NPUMOE_EINVAL, "an empty stop string is refused");
}

static void test_ends(world *w)
{
    npumoe_token tokens[64];
    npumoe_generate_result r = {0};
    collected c = {0};
    size_t n;
    npumoe_generate_options o = npumoe_generate_options_default();
    o.ignore_end = true;
    o.n_predict = 11;
    is_int(go(w, 3, &o, &c, tokens, 64, &n, &r), NPUMOE_STOP_LENGTH, "past the end token");
    is_str(c.text, FULL "END\xef\xbf\xbd", "... with what follows; a lone lead byte is U+FFFD");
    o = npumoe_generate_options_default();
    o.special = true;
    is_int(go(w, 3, &o, &c, tokens, 64, &n, &r), NPUMOE_STOP_END, "with control tokens");
    is_str(c.text, FULL "</s>", "... the end token is shown by name");

    o = npumoe_generate_options_default();
    is_int(go(w, 14, &o, &c, tokens, 64, &n, &r), NPUMOE_STOP_CONTEXT, "an endless answer");
    is_int((int64_t)n, 20, "... fills the context of 20");
    is_u64(r.n_generated, 19, "... with 19 new tokens");

    c.stop_after = 2;
    is_int(go(w, 14, &o, &c, tokens, 64, &n, &r), NPUMOE_STOP_CANCEL, "the callback ends it");
    is_int(c.calls, 2, "... and is not called again");
    is_int((int64_t)n, 3, "... what was generated is in the array");
    c.stop_after = 0;
    w->cancel = true;
    is_int(go(w, 12, &o, &c, tokens, 64, &n, &r), NPUMOE_ECANCELED, "cancelled in the prompt");
    w->cancel = false;
}

static void test_reuse(world *w)
{
    npumoe_token tokens[64];
    npumoe_generate_result r = {0};
    npumoe_session_stats before = {.struct_bytes = sizeof before}, after = before;
    collected c = {0};
    size_t n;
    npumoe_error err = {0};
    npumoe_generate_options o = npumoe_generate_options_default();
    o.n_predict = 4;
    go(w, 3, &o, &c, tokens, 64, &n, &r);
    npumoe_session_get_stats(w->session, &before);
    o.n_predict = 1;
    o.on_text = NULL;
    is_int(npumoe_generate(w->session, w->sampler, tokens, &n, 64, &o, &r, &err), NPUMOE_OK,
           "going on with the same timeline");
    npumoe_session_get_stats(w->session, &after);
    is_u64(after.n_prompt + after.n_decoded - before.n_prompt - before.n_decoded, 1,
           "... evaluates only the token that was never evaluated");
    is_int(tokens[n - 1], 8, "... and goes on where it stopped");
    is_int(npumoe_generate(w->session, w->sampler, tokens, &n, 3, &o, &r, &err), NPUMOE_EINVAL,
           "a capacity below the prompt is refused");
    n = 21;
    memset(tokens, 0, sizeof tokens);
    is_int(npumoe_generate(w->session, w->sampler, tokens, &n, 64, &o, &r, &err), NPUMOE_ETOOLONG,
           "a prompt longer than the context is refused");
    is_str(err.message, "the prompt has 21 tokens, but the context holds only 20",
           "... with the numbers");
}

/* With a penalty that forbids whatever is in the text, prompt and answer alike. */
static void test_penalties(world *w)
{
    npumoe_sampler *sampler = NULL;
    npumoe_error err = {0};
    npumoe_sampler_options so = npumoe_sampler_options_default();
    so.temp = 0.0f;
    so.presence_penalty = 1000.0f;
    if (npumoe_sampler_new(w->model, &so, &sampler, &err) != NPUMOE_OK)
        bail("no sampler: %s", err.message);
    npumoe_generate_options o = npumoe_generate_options_default();
    o.n_predict = 2;
    npumoe_generate_result r = {0};
    for (int again = 0; again < 2; again++) {
        npumoe_token tokens[64] = {14};
        size_t n = 1;
        npumoe_generate(w->session, sampler, tokens, &n, 64, &o, &r, &err);
        is_int(tokens[1], 15, "the script goes on with what is new");
        is_int(tokens[2], 0, "... and not back to the prompt");
    }
    npumoe_token tokens[64] = {15, 14};
    size_t n = 2;
    npumoe_generate(w->session, sampler, tokens, &n, 64, &o, &r, &err);
    is_int(tokens[2], 0, "all of the prompt counts");
    is_int(tokens[3], 1, "and what was answered counts");
    npumoe_sampler_free(&sampler);
}

int main(void)
{
    note("seed %u", SEED);
    test_stop_random();
    test_stop_refused();
    char path[] = "/tmp/npumoe-test-generate-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        bail("no temporary file");
    close(fd);
    world w = {0};
    make_world(&w, path);
    test_script(&w);
    test_split_character(&w);
    test_stops(&w);
    test_ends(&w);
    test_reuse(&w);
    test_penalties(&w);
    npumoe_sampler_free(&w.sampler);
    npumoe_session_free(&w.session);
    npumoe_model_free(&w.model);
    unlink(path);
    return done_testing();
}
