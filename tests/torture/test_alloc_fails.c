/* test_alloc_fails.c: every allocation of the library fails once.
 *
 * A whole life (load, session, tokenize, a prompt in chunks, sampled answer, free) runs on an allocator
 * that counts; another one has a device, too, and evaluates its prompt by a plan. First undisturbed; then, for each n, with the n-th allocation failing. Each time the
 * life must end with ENOMEM and a message, or not have needed that allocation, and all memory must have
 * been given back. In the sanitizer build the same runs show that nothing is used after it failed.
 * Evaluation must not allocate at all: that is counted too. */
#include "npumoe/npumoe.h"
#include "support/counting.h"
#include "torture.h"

#define ARGS_SMALL                                                                            \
    "--preset tiny-%s --layers 2 --embd 64 --heads 2 --kv-heads 1 --head-dim 32 --experts 8 " \
    "--used 2 --ff 32 --vocab 400 --ctx 256"

static const char prompt[] = "Once upon a time there was a king who had a daughter, and she was "
                             "neither good nor bad, but fond of long walks in the forest.";

static bool swallow(void *user, npumoe_token token, const char *text, size_t bytes)
{
    (void)token;
    (void)text;
    *(size_t *)user += bytes;
    return true;
}

static npumoe_status answer(npumoe_model *model, npumoe_session *session, counting *c,
                            npumoe_error *err)
{
    npumoe_token tokens[256];
    size_t n, text_bytes = 0;
    npumoe_status st = npumoe_tokenize(model, prompt, sizeof prompt - 1,
                                       NPUMOE_TOKENIZE_ADD_SPECIAL, tokens, 256, &n, err);
    if (st != NPUMOE_OK)
        return st;
    const long before = c->calls;
    st = npumoe_session_eval(session, tokens, n, NULL, err);
    if (st != NPUMOE_OK)
        return st;
    if (c->fail_at == 0)
        is_int(c->calls, before, "a prompt of %zu tokens is evaluated without allocating", n);
    npumoe_sampler *sampler = NULL;
    npumoe_sampler_options so = npumoe_sampler_options_default();
    so.seed = 1;
    st = npumoe_sampler_new(model, &so, &sampler, err);
    if (st != NPUMOE_OK)
        return st;
    static const char *const stop[] = {"never in the text"};
    npumoe_generate_options go = npumoe_generate_options_default();
    go.n_predict = 8;
    go.ignore_end = true;
    go.stop = stop;
    go.n_stop = 1;
    go.on_text = swallow;
    go.user = &text_bytes;
    npumoe_generate_result result;
    st = npumoe_generate(session, sampler, tokens, &n, 256, &go, &result, err);
    npumoe_sampler_free(&sampler);
    return st;
}

/* A model, and the plan (JSON) that prompts go by, or NULL. */
typedef struct life {
    const char *name, *path;
    char *plan;
} life;

static npumoe_status attach(const life *l, npumoe_model *model, npumoe_device *device,
                            npumoe_error *err)
{
    npumoe_plan_options po = npumoe_plan_options_default();
    po.plan = l->plan;
    po.plan_bytes = strlen(l->plan);
    po.device = device;
    po.require_npu = true;
    po.trace_events = 64;
    return npumoe_model_use_plan(model, &po, err);
}

/* What was planned did run on the device. */
static void check_planned(npumoe_model *model)
{
    npumoe_plan_stats stats = {.struct_bytes = sizeof stats};
    npumoe_plan_get_stats(model, &stats);
    ok(stats.n_launches > 0 && stats.n_fallbacks == 0, "... %llu launches, %u fallbacks",
       (unsigned long long)stats.n_launches, stats.n_fallbacks);
}

static npumoe_status live(const life *l, counting *c, npumoe_error *err)
{
    const npumoe_allocator allocator = counting_allocator(c);
    npumoe_model_options mo = npumoe_model_options_default();
    mo.allocator = &allocator;
    mo.n_threads = 2;
    npumoe_model *model = NULL;
    npumoe_session *session = NULL;
    npumoe_device *device = NULL;
    npumoe_device_options dopt = npumoe_device_options_default();
    dopt.allocator = &allocator;
    npumoe_status st = npumoe_model_load(l->path, &mo, &model, err);
    if (st == NPUMOE_OK && l->plan)
        st = npumoe_device_new(&dopt, &device, err);
    if (st == NPUMOE_OK && l->plan)
        st = attach(l, model, device, err);
    if (st == NPUMOE_OK) {
        npumoe_session_options so = npumoe_session_options_default();
        so.n_ctx = 192;
        so.n_chunk = l->plan ? 0 : 16; /* 0: as the plan says */
        st = npumoe_session_new(model, &so, &session, err);
    }
    if (st == NPUMOE_OK)
        st = answer(model, session, c, err);
    if (st == NPUMOE_OK && l->plan && c->fail_at == 0)
        check_planned(model);
    npumoe_session_free(&session);
    npumoe_model_free(&model);
    npumoe_device_free(&device);
    return st;
}

static void sweep(const life *l)
{
    counting c = COUNTING_INIT;
    npumoe_error err = {0};
    npumoe_status st = live(l, &c, &err);
    if (!is_int(st, NPUMOE_OK, "%s: undisturbed", l->name)) {
        note("%s", err.message);
        return;
    }
    is_int(c.alive, 0, "%s: everything is given back", l->name);
    const long total = c.calls;
    note("%s: %ld allocations", l->name, total);
    long wrong_status = 0, leaked = 0, no_message = 0;
    for (long n = 1; n <= total; n++) {
        c.calls = c.alive = 0;
        c.fail_at = n;
        err = (npumoe_error){0};
        st = live(l, &c, &err);
        /* Sizes of later allocations may depend on threads' timing; a life that did not reach n is
         * fine, one that met a failure and says OK is fine only if it can do without. */
        if (st != NPUMOE_ENOMEM && !(st == NPUMOE_OK && c.calls < n)) {
            note("%s: allocation %ld: status %d, %s", l->name, n, st, err.message);
            wrong_status++;
        }
        no_message += st == NPUMOE_ENOMEM && strstr(err.message, "memory") == NULL;
        leaked += c.alive != 0;
    }
    is_int(wrong_status, 0, "%s: each failing allocation ends in ENOMEM", l->name);
    is_int(no_message, 0, "%s: each with a message", l->name);
    is_int(leaked, 0, "%s: none leaks", l->name);
}

/* A plan for the model, with all experts on the device, by the programs that users have. */
static char *make_plan(const torture *t, const char *model)
{
    enum { MOST = 1 << 20 };
    char command[2048], text[512], path[512], *plan = calloc(1, MOST);
    const char *program = torture_env("NPUMOE", "build/release/npumoe");
    torture_path(t, "text.txt", text, sizeof text);
    FILE *f = fopen(text, "w");
    for (int i = 0; f && i < 400; i++)
        fprintf(f, "once upon a time %d the sea rose %d times and %d ships sank\n", i, i * i % 977,
                i * 7919 % 1009);
    if (!f || fclose(f) != 0 || !plan)
        bail("no text to calibrate with");
    /* Experts this small pay on no device; told otherwise, it takes all of them. */
    snprintf(command, sizeof command,
             "d='%s' p='%s' && $p calibrate -m '%s' -f $d/text.txt --chunks 1 -c 128 "
             "-o $d/profile.json >/dev/null 2>&1 && $p plan $d/profile.json --chunk 32 "
             "--policy naive --isa scalar --npu-isa scalar -o - -q | "
             "sed 's/\"crossover\": [^,]*/\"crossover\": 1/' >$d/plan.json",
             t->folder, program, model);
    torture_path(t, "plan.json", path, sizeof path);
    if (system(command) != 0 || torture_read(path, plan, MOST) == 0)
        bail("%s failed", command);
    return plan;
}

int main(void)
{
    static const char *const families[] = {"olmoe", "llama"}; /* BPE and SentencePiece */
    torture t;
    torture_begin(&t);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        char args[512], path[512];
        snprintf(args, sizeof args, ARGS_SMALL, families[i]);
        torture_model(&t, args, "small.gguf");
        torture_path(&t, "small.gguf", path, sizeof path);
        life l = {families[i], path, NULL};
        sweep(&l);
        if (i > 0)
            continue;
        l = (life){"by plan", path, make_plan(&t, path)};
        sweep(&l);
        free(l.plan);
    }
    torture_end(&t);
    return done_testing();
}
