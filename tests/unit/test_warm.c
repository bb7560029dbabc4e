/* Touching memory beforehand: pages come, what is in them stays, a session computes the same after it; and whoever
 * watches may stop it. */
#include "support/plan_rig.h"
#include "support/tiny.h"
#include "tap.h"

#include "base/sys.h"
#include "engine/warm.h"

#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 37, N_CTX = 64, MIB = 1 << 20 };

static npumoe_token tokens[N_CTX];

/* ---- memory --------------------------------------------------------------------------------- */

#ifdef __linux__
static int present(char *p, size_t n_pages, size_t page)
{
    unsigned char in[PAGES];
    int n = 0;
    if (mincore(p, n_pages * page, in) != 0)
        return -1;
    for (size_t i = 0; i < n_pages; i++)
        n += in[i] & 1;
    return n;
}

/* From the middle of one page to the middle of another. */
static void test_pages(void)
{
    const size_t page = (size_t)nm_sys_page_bytes(), all = PAGES * page;
    char *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        bail("no memory");
    madvise(p, all, MADV_NOHUGEPAGE);
    p[3 * page + 7] = 42;
    p[3 * page + page - 1] = 43;
    is_int(present(p, PAGES, page), 1, "of new memory one page is there");
    nm_sys_touch(p + 3 * page + 9, 20 * page);
    is_int(present(p, PAGES, page), 21,
           "then all that was touched, from half a page to half a page");
    ok(p[3 * page + 7] == 42 && p[3 * page + page - 1] == 43 && p[4 * page] == 0,
       "what was in it stays");
    nm_sys_touch(p + 30 * page, 0);
    nm_sys_touch_read_only(p + 30 * page, 0);
    is_int(present(p, PAGES, page), 21, "nothing of nothing");
    nm_sys_touch(p + 30 * page, 1);
    is_int(present(p, PAGES, page), 22, "a byte is a page");
    munmap(p, all);
}
#endif

static void test_read_only(void)
{
    const size_t page = (size_t)nm_sys_page_bytes();
    char *p = mmap(NULL, 4 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        bail("no memory");
    nm_sys_touch_read_only(p + 5, 3 * page);
    ok(p[page] == 0, "memory that must not be written to");
    munmap(p, 4 * page);
}

typedef struct watcher {
    uint64_t last, total, stop_at;
    unsigned calls;
    bool ascends;
} watcher;

static bool watch(void *user, uint64_t done, uint64_t total)
{
    watcher *w = user;
    w->ascends = (w->calls == 0 || done > w->last) && done <= total;
    w->last = done;
    w->total = total;
    w->calls++;
    return done < w->stop_at;
}

static void test_batches(void)
{
    enum { BYTES = 600 * MIB };
    char *p = mmap(NULL, BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    nm_pool *pool = NULL;
    npumoe_error err;
    if (p == MAP_FAILED || nm_pool_new(nm_allocator_default(), 3, &pool, &err) != NPUMOE_OK)
        bail("no memory or threads");
    watcher all = {.stop_at = UINT64_MAX}, some = {.stop_at = 300 * MIB};
    nm_warm w = {.pool = pool, .go_on = watch, .user = &all, .total = BYTES};
    nm_warm_read_only(&w, p, BYTES);
    ok(all.calls == 3 && all.last == BYTES && all.ascends && !w.cancelled,
       "600 MiB in %u steps, to the end", all.calls);
    w = (nm_warm){.pool = pool, .go_on = watch, .user = &some, .total = BYTES};
    nm_warm_read_only(&w, p, BYTES);
    ok(some.calls == 2 && some.last == 512 * (uint64_t)MIB && w.cancelled, "stopped after 512");
    nm_warm_read_only(&w, p, BYTES);
    is_int(some.calls, 2, "and nothing more");
    w = (nm_warm){0};
    nm_warm_memory(&w, p, BYTES); /* which would fault */
    is_u64(w.bytes, BYTES, "without threads bytes are only counted");
    nm_pool_free(&pool);
    munmap(p, BYTES);
}

/* ---- sessions ------------------------------------------------------------------------------- */

static npumoe_model *load(void)
{
    npumoe_model_options o = npumoe_model_options_default();
    npumoe_model *m = NULL;
    npumoe_error err;
    o.n_threads = 2;
    o.precision = NPUMOE_PRECISION_FP32;
    if (npumoe_model_load(tiny_path(), &o, &m, &err) != NPUMOE_OK)
        bail("cannot load: %s", err.message);
    return m;
}

static npumoe_session *open_session(npumoe_model *m, watcher *w)
{
    npumoe_session_options o = npumoe_session_options_default();
    npumoe_session *s = NULL;
    npumoe_error err;
    o.n_ctx = N_CTX;
    o.progress = w ? watch : NULL;
    o.progress_user = w;
    if (npumoe_session_new(m, &o, &s, &err) != NPUMOE_OK)
        bail("no session: %s", err.message);
    return s;
}

static void eval(npumoe_session *s, size_t n, float *logits)
{
    npumoe_error err;
    if (npumoe_session_eval(s, tokens, n, NULL, &err) != NPUMOE_OK)
        bail("evaluation: %s", err.message);
    memcpy(logits, npumoe_session_logits(s), RIG_VOCAB * sizeof *logits);
}

/* Keys and values that are in the cache are among what is touched. */
static void test_results(npumoe_model *m)
{
    npumoe_session *a = open_session(m, NULL), *b = open_session(m, NULL);
    npumoe_error err;
    float one[RIG_VOCAB], two[RIG_VOCAB], again[RIG_VOCAB];
    eval(a, 40, one);
    is_int(npumoe_session_warm_up(b, N_CTX, &err), NPUMOE_OK, "a new session");
    ok(npumoe_session_length(b) == 0 && !npumoe_session_logits(b), "has no tokens and no logits");
    eval(b, 20, two);
    is_int(npumoe_session_warm_up(b, 20, &err), NPUMOE_OK, "one in the middle of a prompt");
    is_int(npumoe_session_warm_up(b, 0, &err), NPUMOE_OK, "for no tokens at all");
    is_mem(npumoe_session_logits(b), two, sizeof two, "keeps its logits");
    is_int((int64_t)npumoe_session_length(b), 20, "... and its tokens");
    eval(b, 40, again);
    is_mem(again, one, sizeof one, "and goes on with the same bits");
    is_int(npumoe_session_warm_up(b, N_CTX + 1, &err), NPUMOE_ETOOLONG, "more than its context");
    is_str(err.message, "65 tokens do not fit a context of 64", "... says so");
    npumoe_session_free(&a);
    npumoe_session_free(&b);
}

static void test_watched(npumoe_model *m)
{
    npumoe_error err;
    float logits[RIG_VOCAB];
    watcher w = {.stop_at = UINT64_MAX};
    npumoe_session *s = open_session(m, &w);
    is_int(npumoe_session_warm_up(s, 10, &err), NPUMOE_OK, "watched");
    ok(w.calls > 3 && w.ascends && w.last == w.total && w.total > 100000,
       "it is told of bytes to the last one: %u times, %llu of %llu", w.calls,
       (unsigned long long)w.last, (unsigned long long)w.total);
    w = (watcher){.stop_at = 1};
    is_int(npumoe_session_warm_up(s, 10, &err), NPUMOE_ECANCELED, "and may stop");
    is_int(w.calls, 1, "at once");
    ok(strstr(err.message, "cancelled after touching ") == err.message, "%s", err.message);
    w = (watcher){.stop_at = UINT64_MAX};
    eval(s, 10, logits);
    npumoe_session_free(&s);
}

/* In a callback of an evaluation it would wait for itself. */
typedef struct inside {
    npumoe_session *s;
    npumoe_status status;
} inside;

static bool warm_inside(void *user, size_t position, const float *logits)
{
    inside *i = user;
    (void)position;
    (void)logits;
    i->status = npumoe_session_warm_up(i->s, 4, NULL);
    return true;
}

static void test_inside(npumoe_model *m)
{
    npumoe_session *s = open_session(m, NULL), *other = open_session(m, NULL);
    inside i = {other, NPUMOE_OK};
    npumoe_eval_options o = npumoe_eval_options_default();
    npumoe_error err;
    o.on_logits = warm_inside;
    o.user = &i;
    is_int(npumoe_session_eval(s, tokens, 4, &o, &err), NPUMOE_OK, "an evaluation");
    is_int(i.status, NPUMOE_EINVAL, "in which nobody can warm up");
    npumoe_session_free(&s);
    npumoe_session_free(&other);
}

/* Buffers of launches and of all chunks in flight are among what is touched. */
static void test_by_plan(npumoe_model *m)
{
    const plan_spec spec = {.group = 2, .n_groups = 2, .in_flight = 2, .parts = true};
    char *json = plan_rig_json(m, &spec);
    npumoe_device *d = NULL;
    npumoe_plan_options o = npumoe_plan_options_default();
    npumoe_error err;
    watcher without = {.stop_at = UINT64_MAX}, with = {.stop_at = UINT64_MAX};
    float before[RIG_VOCAB], after[RIG_VOCAB];
    npumoe_session *s = open_session(m, &without);
    if (npumoe_session_warm_up(s, N_CTX, &err) != NPUMOE_OK)
        bail("%s", err.message);
    npumoe_session_free(&s);
    o.plan = json;
    o.plan_bytes = strlen(json);
    if (npumoe_device_new(NULL, &d, &err) != NPUMOE_OK)
        bail("%s", err.message);
    o.device = d;
    if (npumoe_model_use_plan(m, &o, &err) != NPUMOE_OK)
        bail("%s", err.message);
    s = open_session(m, NULL);
    eval(s, N_CTX, before);
    npumoe_session_free(&s);
    s = open_session(m, &with);
    is_int(npumoe_session_warm_up(s, N_CTX, &err), NPUMOE_OK, "by plan");
    ok(with.total > without.total, "there is more to touch: %llu bytes, %llu without",
       (unsigned long long)with.total, (unsigned long long)without.total);
    with = (watcher){.stop_at = UINT64_MAX};
    eval(s, N_CTX, after);
    is_mem(after, before, sizeof after, "and the same bits come of it");
    npumoe_session_free(&s);
    if (npumoe_model_use_plan(m, NULL, &err) != NPUMOE_OK)
        bail("%s", err.message);
    npumoe_device_free(&d);
    npumoe_text_free(&json);
}

int main(void)
{
#ifdef __linux__
    test_pages();
#endif
    test_read_only();
    test_batches();
    for (size_t i = 0; i < N_CTX; i++)
        tokens[i] = (npumoe_token)(i * 37 % RIG_VOCAB);
    plan_rig_family("olmoe");
    npumoe_model *m = load();
    test_results(m);
    test_watched(m);
    test_inside(m);
    test_by_plan(m);
    npumoe_model_free(&m);
    unlink(tiny_path());
    return done_testing();
}
