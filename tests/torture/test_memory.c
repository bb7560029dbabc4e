/* test_memory.c: what a loaded model costs, and what happens when there is too little.
 *
 * The promise: resident memory after loading and a long prompt is the mapping plus the KV cache plus
 * less than 100 MB. The bound is checked on the peak (VmHWM), which is the stricter one. Too little
 * memory is refused before anything large is touched, with the numbers. Linux. */
#include "npumoe/npumoe.h"
#include "torture.h"

#include <sys/resource.h>

#define N_PROMPT      600 /* more than a chunk */
#define ALLOWED_BYTES (UINT64_C(100) << 20)

/* A line of /proc/self/status in bytes; 0 = not there. */
static uint64_t status_bytes(const char *key)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), " %llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return (uint64_t)kib * 1024;
}

static void resident(const char *path)
{
    npumoe_model *model = NULL;
    npumoe_session *session = NULL;
    npumoe_error err = {0};
    npumoe_session_options so = npumoe_session_options_default();
    so.n_ctx = 4096;
    if (npumoe_model_load(path, NULL, &model, &err) != NPUMOE_OK ||
        npumoe_session_new(model, &so, &session, &err) != NPUMOE_OK)
        bail("%s", err.message);
    npumoe_token tokens[N_PROMPT];
    for (int i = 0; i < N_PROMPT; i++)
        tokens[i] = 300 + i % 50;
    is_int(npumoe_session_eval(session, tokens, N_PROMPT, NULL, &err), NPUMOE_OK, "a prompt");
    npumoe_model_info info = {.struct_bytes = sizeof info};
    npumoe_session_stats stats = {.struct_bytes = sizeof stats};
    npumoe_model_get_info(model, &info);
    npumoe_session_get_stats(session, &stats);
    const uint64_t peak = status_bytes("VmHWM:");
    const uint64_t bound = info.mapped_bytes + stats.kv_bytes + ALLOWED_BYTES;
    note("peak %.1f MiB; mapping %.1f, KV %.1f, scratch %.1f", (double)peak / (1 << 20),
         (double)info.mapped_bytes / (1 << 20), (double)stats.kv_bytes / (1 << 20),
         (double)stats.scratch_bytes / (1 << 20));
    /* Pages of the mapping that no token needed are not resident, so the anonymous part is bounded
     * by itself too. */
    const uint64_t anonymous = status_bytes("RssAnon:");
    if (torture_sanitized() || peak == 0) {
        skip(2, "resident memory says nothing under a sanitizer or without /proc");
    } else {
        ok(peak < bound, "peak of %.1f MiB is below mapping + KV + 100 MiB",
           (double)peak / (1 << 20));
        ok(anonymous < stats.kv_bytes + ALLOWED_BYTES, "%.1f MiB anonymous: below KV + 100 MiB",
           (double)anonymous / (1 << 20));
    }
    ok(info.mapped_bytes > (UINT64_C(60) << 20), "the model is large enough to tell");
    npumoe_session_free(&session);
    npumoe_model_free(&model);
}

static void refused(const char *path)
{
    npumoe_model *model = NULL;
    npumoe_error err = {0};
    npumoe_model_options mo = npumoe_model_options_default();
    mo.memory_limit_bytes = UINT64_C(8) << 20;
    is_int(npumoe_model_load(path, &mo, &model, &err), NPUMOE_ETOOBIG, "a limit refuses the model");
    ok(model == NULL && strstr(err.message, "needs") && strstr(err.message, "has"),
       "with the numbers: %s", err.message);
    mo.memory_limit_bytes = 0;
    if (npumoe_model_load(path, &mo, &model, &err) != NPUMOE_OK)
        bail("%s", err.message);
    npumoe_session *session = NULL;
    npumoe_session_options so = npumoe_session_options_default();
    so.n_ctx = UINT32_MAX;
    npumoe_status st = npumoe_session_new(model, &so, &session, &err);
    ok(st == NPUMOE_ETOOBIG || st == NPUMOE_EINVAL, "an absurd context is refused: %s",
       err.message);
    ok(session == NULL, "and gives no session");
    npumoe_model_free(&model);
}

/* The program with an address space too small for the session, then for the mapping. */
static void little_address_space(const char *path)
{
    char program[512];
    snprintf(program, sizeof program, "%s", torture_env("NPUMOE", "build/release/npumoe"));
    if (torture_sanitized() || access(program, X_OK) != 0) {
        skip(1, "a limit of the address space says nothing under a sanitizer");
        return;
    }
    unsigned died = 0, refusals = 0, silent = 0;
    for (uint64_t mib = 16; mib <= 256; mib += 16) {
        char command[2048];
        snprintf(command, sizeof command,
                 "ulimit -c 0; ulimit -v %" PRIu64
                 "; '%s' run -m '%s' -p Hello -n 2 -t 1 2>'%s.err' "
                 ">/dev/null",
                 mib * 1024, program, path, path);
        int status = system(command);
        int code = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
        died += code > 1 && code != 127;
        if (code != 1)
            continue;
        char text[1024], err_path[600];
        snprintf(err_path, sizeof err_path, "%s.err", path);
        torture_read(err_path, text, sizeof text);
        refusals++;
        silent += strncmp(text, "npumoe: ", 8) != 0 && strstr(text, "\nnpumoe: ") == NULL;
    }
    is_int(died, 0, "no limit of the address space makes it crash");
    is_int(silent, 0, "each refusal says why");
    ok(refusals > 0, "some were refused (%u of 16)", refusals);
}

int main(void)
{
    torture t;
    char path[512];
    torture_begin(&t);
    /* 100 MB of experts, few of them used, so that it is large and yet quick. */
    torture_model(&t,
                  "--preset tiny-olmoe --type F16 --layers 2 --embd 256 --heads 4 --kv-heads 4 "
                  "--head-dim 64 --experts 64 --used 2 --ff 512 --ctx 4096",
                  "big.gguf");
    torture_path(&t, "big.gguf", path, sizeof path);
    resident(path);
    refused(path);
    little_address_space(path);
    torture_end(&t);
    return done_testing();
}
