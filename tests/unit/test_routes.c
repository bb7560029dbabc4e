/* test_routes.c: recorded routing in place of the router's: each position takes its token's experts and weights,
 * a short trace repeats, a trace and its CSV say the same; and files that do not fit or lie. */
#include "engine/session.h"
#include "moe/routes.h"
#include "support/tiny.h"
#include "tap.h"

#include <unistd.h>

enum { LAYERS = 3, USED = 3, N_PROMPT = 50, TOKENS = 20, N_VOCAB = 101 };

static char path[600];
static npumoe_token prompt[N_PROMPT];
static uint32_t seen_ids[LAYERS][N_PROMPT * USED];
static float seen_weights[LAYERS][N_PROMPT * USED];

static void see(void *user, uint32_t layer, size_t pos0, uint32_t n, uint32_t k,
                const uint32_t *ids, const float *weights)
{
    (void)user;
    memcpy(seen_ids[layer] + pos0 * k, ids, n * k * sizeof *ids);
    memcpy(seen_weights[layer] + pos0 * k, weights, n * k * sizeof *weights);
}

static uint32_t expert_at(uint32_t layer, uint32_t token, uint32_t slot)
{
    return (layer + 3 * token + slot) % 8;
}

static void write_text(const char *text)
{
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0)
        bail("cannot write %s", path);
}

/* All layers, tokens in order; weights 0.5, 0.25, 0.125. */
static void write_csv(bool weights, bool by_token)
{
    FILE *f = fopen(path, "w");
    if (!f)
        bail("cannot write %s", path);
    fputs("text,token,position,part,layer,expert_0,expert_1,expert_2", f);
    fputs(weights ? ",weight_0,weight_1,weight_2\n# text 0 = made up\n\n" : "\n", f);
    for (uint32_t i = 0; i < LAYERS * TOKENS; i++) {
        const uint32_t l = by_token ? i % LAYERS : i / TOKENS;
        const uint32_t t = by_token ? i / LAYERS : i % TOKENS;
        fprintf(f, "0,%u,%u,main,%u,%u,%u,%u%s\n", t, t, l, expert_at(l, t, 0), expert_at(l, t, 1),
                expert_at(l, t, 2), weights ? ",0.5,0.25,0.125" : "");
    }
    if (fclose(f) != 0)
        bail("cannot write %s", path);
}

static npumoe_model *load(const char *arch, uint32_t n_layer)
{
    npumoe_model_options o = npumoe_model_options_default();
    npumoe_error err = {0};
    npumoe_model *m = NULL;
    tiny_spec s = tiny_default(arch);
    s.n_layer = n_layer;
    if (strcmp(arch, "llama") == 0)
        s.n_expert = s.k = 0;
    o.isa = "scalar";
    o.n_threads = 2;
    if (tiny_write(&s, tiny_path(), &err) != NPUMOE_OK ||
        npumoe_model_load(tiny_path(), &o, &m, &err) != NPUMOE_OK)
        bail("%s", err.message);
    unlink(tiny_path());
    return m;
}

/* What the layers are given, and the last prediction. */
static void evaluate(npumoe_model *m, uint32_t n_chunk, float *logits)
{
    npumoe_session_options o = npumoe_session_options_default();
    const nm_hooks hooks = {.route = see};
    npumoe_error err = {0};
    npumoe_session *s = NULL;
    o.n_ctx = 64;
    o.n_chunk = n_chunk;
    if (npumoe_session_new(m, &o, &s, &err) != NPUMOE_OK)
        bail("%s", err.message);
    nm_session_set_hooks(s, &hooks);
    if (npumoe_session_eval(s, prompt, N_PROMPT, NULL, &err) != NPUMOE_OK)
        bail("%s", err.message);
    memcpy(logits, npumoe_session_logits(s), N_VOCAB * sizeof *logits);
    npumoe_session_free(&s);
}

static bool saw_the_file(bool weights)
{
    static const float given[USED] = {0.5f, 0.25f, 0.125f};
    bool same = true;
    for (uint32_t l = 0; l < LAYERS; l++)
        for (uint32_t i = 0; i < N_PROMPT * USED; i++) {
            const uint32_t s = i % USED;
            same = same && seen_ids[l][i] == expert_at(l, i / USED % TOKENS, s) &&
                   seen_weights[l][i] == (weights ? given[s] : 1.0f / 3.0f);
        }
    return same;
}

static void replay(npumoe_model *m)
{
    static float own[N_VOCAB], got[N_VOCAB], again[N_VOCAB];
    npumoe_error err = {0};
    evaluate(m, 16, own);
    write_csv(true, false);
    ok(npumoe_model_use_routes(m, path, &err) == NPUMOE_OK, "CSV, layer by layer %s", err.message);
    evaluate(m, 16, got);
    ok(saw_the_file(true), "every position has its token's experts and weights, again and again");
    ok(memcmp(own, got, sizeof own) != 0, "and the prediction is another");
    evaluate(m, 7, again);
    ok(saw_the_file(true), "other chunks, the same routes");
    ok(memcmp(again, got, sizeof got) == 0, "and, in fp32, the same bits");
    write_csv(false, true);
    ok(npumoe_model_use_routes(m, path, &err) == NPUMOE_OK, "CSV, token by token, no weights %s",
       err.message);
    evaluate(m, 50, got);
    ok(saw_the_file(false), "all experts weigh the same");
    ok(npumoe_model_use_routes(m, NULL, &err) == NPUMOE_OK, "the routers decide again");
    evaluate(m, 16, got);
    ok(memcmp(own, got, sizeof own) == 0, "as before");
}

static void refuse(npumoe_model *m, const char *text, npumoe_status code, const char *message)
{
    npumoe_error err = {0};
    write_text(text);
    is_int(npumoe_model_use_routes(m, path, &err), code, "refused: %s", message);
    if (!ok(strstr(err.message, message) != NULL, "... says so"))
        note("message: %s", err.message);
}

#define NAMES \
    "text,token,position,part,layer,expert_0,expert_1,expert_2,weight_0,weight_1,weight_2\n"
#define ROW "0,0,0,main,0,1,2,3,.5,.3,.2\n"

static void refusals(npumoe_model *m)
{
    refuse(m, "", NPUMOE_EFORMAT, "the file is empty");
    refuse(m, "# nothing\n", NPUMOE_EFORMAT, "no line of names");
    refuse(m, "NPUTRACE", NPUMOE_EFORMAT, "the file ends within the header");
    refuse(m, "{}", NPUMOE_EFORMAT, "line 1: the names of the columns: found '{}'");
    refuse(m, "text,token,position,part,layer,expert_0,expert_1\n", NPUMOE_EMODEL,
           "2 experts for each token, the model takes 3");
    refuse(m, "text,token,position,part,layer,expert_0,expert_1,expert_2,weight_0\n",
           NPUMOE_EFORMAT, "1 columns of weights, expected 3 or none");
    refuse(m, NAMES ROW, NPUMOE_EFORMAT, "1 tokens in the first layer with experts, 0 in the 2.");
    refuse(m, NAMES "0,0,0,main,3,1,2,3,.5,.3,.2\n", NPUMOE_EFORMAT, "line 2: layer: found '3'");
    refuse(m, NAMES "x,0,0,main,0,1,2,3,.5,.3,.2\n", NPUMOE_EFORMAT, "line 2: text: found 'x'");
    const char *const rows[][2] = {
        {"0,0,0,main,2,1,2,8,.5,.3,.2\n", "line 4: expert: found '8'"},
        {"0,0,0,main,2,1,2,1,.5,.3,.2\n", "line 4: expert: found '1'"},
        {"0,0,0,main,2,1,2,3,.5,.3,nan\n", "line 4: weight: found 'nan'"},
        {"0,0,0,main,2,1,2,3,.5,.3,\n", "line 4: weight: found ''"},
        {"0,0,0,main,2,1,2,3,.5,.3,.2,9\n", "line 4: behind the last column: found '9'"},
        {"0,7,0,main,2,1,2,3,.5,.3,.2\n", "the same order of tokens as in the first layer"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s%s0,0,0,main,1,1,2,3,.5,.3,.2\n%s", NAMES, ROW, rows[i][0]);
        refuse(m, text, NPUMOE_EFORMAT, rows[i][1]);
    }
    unlink(path);
    is_int(npumoe_model_use_routes(m, path, NULL), NPUMOE_ENOENT, "no file");
}

static void while_in_use(npumoe_model *m)
{
    npumoe_session *s = NULL;
    npumoe_error err = {0};
    write_csv(true, false);
    if (npumoe_session_new(m, NULL, &s, &err) != NPUMOE_OK)
        bail("%s", err.message);
    is_int(npumoe_model_use_routes(m, path, &err), NPUMOE_EINVAL, "not while a session lives: %s",
           err.message);
    npumoe_session_free(&s);
    is_int(npumoe_model_use_routes(m, path, &err), NPUMOE_OK, "but after it");
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/npumoe-routes-%ld", tmp && *tmp ? tmp : "/tmp", (long)getpid());
    for (uint32_t i = 0; i < N_PROMPT; i++)
        prompt[i] = (npumoe_token)(i * 17 % N_VOCAB);
    npumoe_model *m = load("olmoe", LAYERS);
    replay(m);
    refusals(m);
    while_in_use(m);
    npumoe_model_free(&m);
    m = load("llama", 2);
    is_int(npumoe_model_use_routes(m, path, NULL), NPUMOE_EUNSUPPORTED, "a model without experts");
    npumoe_model_free(&m);
    unlink(path);
    return done_testing();
}
