/* test_trace.c: a trace is read as it was written, going on after a stop too; and traces that lie. */
#include "moe/trace.h"
#include "tap.h"

#include <unistd.h>

enum { LAYERS = 2, EXPERTS = 300, USED = 3, N = 100 };

static const uint32_t layer_of[LAYERS] = {1, 2};
static uint16_t ids[LAYERS * N * USED];
static float weights[LAYERS * N * USED];
static char path[512], partial[600];

static nm_profile *model_profile(uint32_t n_expert)
{
    const nm_profile_model m = {.name = (char[]){"trace me"},
                                .architecture = (char[]){"olmoe"},
                                .router_hash = 7,
                                .n_layer = 3,
                                .n_embd = 8,
                                .n_head = 1,
                                .n_head_kv = 1,
                                .dim_k = 8,
                                .dim_v = 8,
                                .n_expert = n_expert,
                                .n_expert_used = USED,
                                .n_ff_expert = 8};
    nm_profile *p = NULL;
    npumoe_error err = {0};
    if (nm_profile_new(NULL, &m, layer_of, LAYERS, &p, &err) != NPUMOE_OK)
        bail("%s", err.message);
    return p;
}

static void fill(uint32_t n_expert, uint32_t salt)
{
    for (uint32_t i = 0; i < LAYERS * N * USED; i++) {
        ids[i] = (uint16_t)((i / USED * 7 + i % USED * 11 + salt) % n_expert);
        weights[i] = (float)(i % 64 + 1) / 64.0f; /* exact in half precision */
    }
}

static void add(nm_trace_writer *w, uint32_t text, uint64_t token, const char *name)
{
    npumoe_error err = {0};
    const nm_trace_block b = {.n = N,
                              .text = text,
                              .part = token ? NM_PROFILE_HELD : NM_PROFILE_MAIN,
                              .token = token,
                              .position = (uint32_t)token};
    if (nm_trace_writer_add(w, &b, name, ids, weights, &err) != NPUMOE_OK)
        bail("%s", err.message);
}

/* Writes three blocks of two texts; with a stop after the first, or without. */
static void write_trace(uint32_t n_expert, bool stop)
{
    npumoe_error err = {0};
    nm_profile *p = model_profile(n_expert);
    nm_trace_writer *w = NULL;
    uint64_t bytes = 0;
    fill(n_expert, 0);
    ok(nm_trace_writer_new(NULL, path, p, 0, &w, &err) == NPUMOE_OK, "begins %s", err.message);
    add(w, 0, 0, "first.txt");
    ok(nm_trace_writer_sync(w, &bytes, &err) == NPUMOE_OK, "%" PRIu64 " bytes are safe", bytes);
    if (stop) {
        add(w, 0, N, NULL); /* more than what counts */
        nm_trace_writer_free(&w);
        ok(access(partial, F_OK) == 0 && access(path, F_OK) != 0, "a stop leaves the part");
        ok(nm_trace_writer_new(NULL, path, p, bytes + 1000000, &w, &err) == NPUMOE_EFORMAT,
           "a part that is too short: %s", err.message);
        ok(nm_trace_writer_new(NULL, path, p, bytes, &w, &err) == NPUMOE_OK, "which goes on");
        nm_trace_writer_count(w, N, 1, 1);
    }
    fill(n_expert, 5);
    add(w, 0, N, NULL);
    add(w, 2, 0, "third.txt");
    ok(nm_trace_writer_commit(w, &err) == NPUMOE_OK, "is finished");
    nm_trace_writer_free(&w);
    ok(access(partial, F_OK) != 0, "no part is left");
    nm_profile_free(&p);
}

static void check_block(const nm_trace *t, uint64_t block, uint32_t n_expert, uint32_t salt)
{
    static uint32_t got[N * USED];
    static float got_weights[N * USED];
    npumoe_error err = {0};
    bool same = true;
    fill(n_expert, salt);
    for (uint32_t l = 0; l < LAYERS; l++) {
        same = same && nm_trace_read(t, block, l, 0, N, got, got_weights, &err) == NPUMOE_OK;
        for (size_t i = 0; same && i < N * USED; i++)
            same = got[i] == ids[l * N * USED + i] && got_weights[i] == weights[l * N * USED + i];
        same = same && nm_trace_read(t, block, l, 60, 7, got, NULL, &err) == NPUMOE_OK;
        for (size_t i = 0; same && i < (size_t)7 * USED; i++)
            same = got[i] == ids[(size_t)(l * N + 60) * USED + i];
    }
    ok(same, "block %" PRIu64 " has what was written", block);
    is_int(nm_trace_read(t, block, 0, 60, 41, got, NULL, &err), NPUMOE_EINVAL, "no more than that");
}

static void read_trace(uint32_t n_expert)
{
    npumoe_error err = {0};
    nm_trace *t = NULL;
    if (!ok(nm_trace_open(NULL, path, &t, &err) == NPUMOE_OK, "opens %s", err.message))
        return;
    const nm_trace_info *info = nm_trace_get_info(t);
    is_u64(info->blocks, 3, "three blocks");
    is_u64(info->tokens, 3 * N, "of 100 tokens");
    is_u64(info->texts, 3, "of texts 0 to 2");
    is_u64(info->router_hash, 7, "the routers' hash");
    ok(nm_str_eqz(info->name, "trace me"), "the model's name");
    is_int(nm_trace_layer(t, 1), 2, "the number of a layer");
    ok(nm_str_eqz(nm_trace_text_name(t, 2), "third.txt"), "a text's name");
    is_u64(nm_trace_text_name(t, 1).n, 0, "no name of a text without a window");
    const nm_trace_block b = nm_trace_block_at(t, 1);
    ok(b.text == 0 && b.part == NM_PROFILE_HELD && b.token == N && b.position == N, "a block");
    check_block(t, 0, n_expert, 0);
    check_block(t, 1, n_expert, 5);
    check_block(t, 2, n_expert, 5);
    nm_trace_free(&t);
}

static size_t read_file(unsigned char *data, size_t bytes)
{
    FILE *f = fopen(path, "rb");
    const size_t n = f ? fread(data, 1, bytes, f) : 0;
    if (f)
        fclose(f);
    return n;
}

/* One byte changed, at every place of the headers; the message of some. */
static void lies(void)
{
    static unsigned char data[16384], copy[16384];
    const size_t n = read_file(data, sizeof data);
    static const struct {
        size_t at;
        unsigned char value;
        const char *message;
    } list[] = {
        {0, 'X', "this is no trace"},
        {8, 9, "version: found 9"},
        {12, 1, "bytes of the header"},
        {28, 200, "bytes of the header"},
        {37, 9, "experts of a token"},
        {40, 1, "bytes of an id: found 1"},
        {64, 2, "a layer with experts: found 2"},
        {80, 'x', "a block's first bytes"},
        {84, 0, "tokens of a block: found 0"},
        {92, 2, "flags: found 2"},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        npumoe_error err = {0};
        nm_trace *t = NULL;
        memcpy(copy, data, n);
        copy[list[i].at] = list[i].value;
        is_int(nm_trace_open_memory(NULL, copy, n, "t", &t, &err), NPUMOE_EFORMAT, "byte %zu",
               list[i].at);
        if (!ok(strstr(err.message, list[i].message) != NULL, "... says why"))
            note("message: %s", err.message);
        nm_trace_free(&t);
    }
    bool refused = true;
    for (size_t bytes = 0; bytes < n; bytes++) {
        nm_trace *t = NULL;
        refused = refused && nm_trace_open_memory(NULL, data, bytes, "t", &t, NULL) != NPUMOE_OK;
        nm_trace_free(&t);
    }
    ok(refused, "cut anywhere it is refused");
    /* the first id of the first block: twice the same expert, then one that is not there */
    const size_t first = 80 + 32 + 16;
    uint32_t got[USED];
    npumoe_error err = {0};
    nm_trace *t = NULL;
    memcpy(copy, data, n);
    memcpy(copy + first, copy + first + 2, 2);
    ok(nm_trace_open_memory(NULL, copy, n, "t", &t, &err) == NPUMOE_OK, "ids are not looked at");
    is_int(nm_trace_read(t, 0, 0, 0, 1, got, NULL, &err), NPUMOE_EFORMAT, "until they are read: %s",
           err.message);
    copy[first + 1] = 0xff;
    is_int(nm_trace_read(t, 0, 0, 0, 1, got, NULL, &err), NPUMOE_EFORMAT, "out of range");
    nm_trace_free(&t);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/npumoe-trace-%ld", tmp && *tmp ? tmp : "/tmp", (long)getpid());
    snprintf(partial, sizeof partial, "%s.partial", path);
    write_trace(200, false);
    read_trace(200);
    unlink(path);
    write_trace(EXPERTS, true);
    read_trace(EXPERTS);
    lies();
    unlink(path);
    return done_testing();
}
