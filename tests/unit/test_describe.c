/* test_describe: the reports about a file and about the machine. */
#include "base/utf8.h"
#include "engine/describe.h"

#include "support/scripted_model.h"
#include "tap.h"

#include <unistd.h>

#define SEED 11u

static json_t *parse(const char *json)
{
    json_error_t why;
    json_t *root = json_loads(json, JSON_ALLOW_NUL, &why);
    if (!root)
        bail("the report is no JSON: %s", why.text);
    return root;
}

static const json_t *at(const json_t *o, const char *a, const char *b)
{
    o = json_object_get(o, a);
    return b ? json_object_get(o, b) : o;
}

static int64_t number(const json_t *o, const char *a, const char *b)
{
    const json_t *v = at(o, a, b);
    return json_is_integer(v) ? (int64_t)json_integer_value(v) : -1;
}

static const char *text(const json_t *o, const char *a, const char *b)
{
    const char *s = json_string_value(at(o, a, b));
    return s ? s : "(absent)";
}

static json_t *describe(const char *path, const uint32_t *ctxs, size_t n)
{
    char *json = NULL;
    npumoe_error err = {0};
    if (npumoe_describe_file(path, ctxs, n, &json, &err) != NPUMOE_OK)
        bail("cannot describe %s: %s", path, err.message);
    json_t *root = parse(json);
    npumoe_text_free(&json);
    return root;
}

/* ---- a file ------------------------------------------------------------------------------- */

/* Sizes of the scripted model, counted by hand from its header file. */
enum {
    D = SCRIPTED_N_EMBD,
    EXPERTS = 3 * 2 * SCRIPTED_N_FF * D,
    PARAMS = 2 * SCRIPTED_N_VOCAB * D + 4 * D * D + 5 * D + 2 * D + EXPERTS
};

static void test_file(const char *path)
{
    const uint32_t ctxs[] = {16, 1000};
    json_t *r = describe(path, ctxs, 2);
    is_str(text(r, "file", NULL), path, "file");
    is_str(text(r, "architecture", NULL), "olmoe", "architecture");
    ok(json_is_true(at(r, "supported", NULL)), "supported");
    ok(at(r, "problem", NULL) == NULL, "no problem");
    is_int(number(r, "parameters", NULL), PARAMS, "parameters");
    is_int(number(r, "parameters_active", NULL), PARAMS - EXPERTS / 2,
           "active: one of two experts");
    is_int(number(r, "weights_bytes", NULL), 4 * PARAMS, "bytes of F32 weights");
    is_near(json_real_value(at(r, "bits_per_weight", NULL)), 32.0, 1e-9, "bits per weight");
    is_int(number(r, "tensors", NULL), 15, "tensors");
    is_int(number(r, "geometry", "n_layer"), 1, "layers");
    is_int(number(r, "geometry", "n_ctx_train"), SCRIPTED_N_CTX_TRAIN, "training context");
    is_int(number(r, "geometry", "head_dim_k"), 32, "head size, which no key states");
    is_int(number(r, "experts", "count"), 2, "experts");
    is_int(number(r, "experts", "used"), 1, "used");
    is_int(number(r, "experts", "bytes"), 4 * EXPERTS, "bytes of the experts");
    is_str(text(at(r, "experts", "types"), "down", NULL), "F32", "type of the experts");
    is_str(text(at(r, "experts", "router"), "rule", NULL),
           "softmax over all experts, then the top 1", "the router's rule");
    is_str(text(r, "tokenizer", "model"), "llama", "tokenizer");
    is_int(number(r, "tokenizer", "tokens"), SCRIPTED_N_VOCAB, "its tokens");
    is_str(text(r, "metadata", "tokenizer.ggml.tokens"), "[64 x string]", "arrays are summed up");
    const json_t *types = at(r, "tensor_types", NULL), *memory = at(r, "memory", NULL);
    is_int((int64_t)json_array_size(types), 1, "one tensor type");
    is_int(number(json_array_get(types, 0), "tensors", NULL), 15, "... of all tensors");
    is_int((int64_t)json_array_size(memory), 2, "memory for two contexts");
    for (size_t i = 0; i < 2; i++) {
        const json_t *m = json_array_get(memory, i);
        /* one layer, two KV heads of 32, keys and values, two bytes each */
        int64_t kv = (int64_t)ctxs[i] * 2 * 32 * 2 * 2, scratch = number(m, "scratch_bytes", NULL);
        ok(number(m, "kv_bytes", "f16") >= kv && number(m, "kv_bytes", "f16") < kv + 4096,
           "KV bytes in F16 for %u", ctxs[i]);
        ok(number(m, "kv_bytes", "q8_0") < kv * 17 / 32 + 4096, "... less in Q8_0");
        ok(number(m, "kv_bytes", "f32") >= 2 * kv, "... twice in F32");
        is_int(number(m, "total_bytes", NULL), 4 * PARAMS + number(m, "kv_bytes", "f16") + scratch,
               "the total is the sum");
    }
    json_decref(r);
    r = describe(path, NULL, 0);
    memory = at(r, "memory", NULL);
    is_int((int64_t)json_array_size(memory), 1, "without contexts: one");
    is_int(number(json_array_get(memory, 0), "n_ctx", NULL), SCRIPTED_N_CTX_TRAIN,
           "... the training context");
    json_decref(r);
}

/* The estimate is what a session really takes. */
static void test_memory_is_real(const char *path)
{
    npumoe_model *model = NULL;
    npumoe_session *session = NULL;
    npumoe_session_stats stats = {.struct_bytes = sizeof stats};
    npumoe_session_options o = npumoe_session_options_default();
    o.n_ctx = 40;
    if (npumoe_model_load(path, NULL, &model, NULL) != NPUMOE_OK ||
        npumoe_session_new(model, &o, &session, NULL) != NPUMOE_OK)
        bail("cannot open the scripted model");
    npumoe_session_get_stats(session, &stats);
    const uint32_t ctx = 40;
    json_t *r = describe(path, &ctx, 1);
    const json_t *m = json_array_get(at(r, "memory", NULL), 0);
    is_int(number(m, "kv_bytes", "f16"), (int64_t)stats.kv_bytes, "KV bytes are the session's");
    is_int(number(m, "scratch_bytes", NULL), (int64_t)stats.scratch_bytes,
           "scratch bytes are the session's");
    json_decref(r);
    npumoe_session_free(&session);
    npumoe_model_free(&model);
}

/* Replaces every "olmoe" in the file: same lengths, another architecture. */
static void make_unsupported(const char *path)
{
    static char data[1 << 20];
    FILE *f = fopen(path, "r+b");
    size_t n = f ? fread(data, 1, sizeof data, f) : 0;
    for (size_t i = 0; i + 5 <= n; i++)
        if (memcmp(data + i, "olmoe", 5) == 0)
            data[i + 4] = 'x';
    if (!f || fseek(f, 0, SEEK_SET) != 0 || fwrite(data, 1, n, f) != n || fclose(f) != 0)
        bail("cannot change %s", path);
}

static void test_unsupported(const char *path)
{
    make_unsupported(path);
    json_t *r = describe(path, NULL, 0);
    is_str(text(r, "architecture", NULL), "olmox", "an unknown architecture");
    ok(json_is_false(at(r, "supported", NULL)), "is not supported");
    ok(strstr(text(r, "problem", NULL), "olmox") != NULL, "... which is said by name");
    is_int(number(r, "parameters", NULL), PARAMS, "its parameters are counted");
    is_int(number(r, "parameters_active", NULL), PARAMS - EXPERTS / 2, "... the active ones too");
    is_int(number(r, "experts", "count"), 2, "its experts are shown");
    is_int(number(r, "geometry", "n_embd"), D, "its width too");
    ok(at(r, "memory", NULL) == NULL, "the memory it would need is not guessed");
    json_decref(r);
}

static void test_errors(void)
{
    char *json = NULL;
    npumoe_error err = {0};
    is_int(npumoe_describe_file("/no/such/file.gguf", NULL, 0, &json, &err), NPUMOE_ENOENT,
           "a missing file");
    ok(strstr(err.message, "/no/such/file.gguf") != NULL, "... is named");
    const uint32_t zero = 0;
    is_int(npumoe_describe_file("/no/such/file.gguf", &zero, 1, &json, &err), NPUMOE_EINVAL,
           "a context of 0");
    is_int(npumoe_describe_file(NULL, NULL, 0, &json, &err), NPUMOE_EINVAL, "no path");
    ok(json == NULL, "no report is made");
    npumoe_text_free(&json);
    npumoe_text_free(NULL);
}

/* ---- texts -------------------------------------------------------------------------------- */

static void test_texts(void)
{
    uint64_t x = SEED;
    int invalid = 0, changed = 0;
    for (int round = 0; round < 3000; round++) {
        char bytes[24];
        x = x * 6364136223846793005u + 1442695040888963407u;
        size_t n = (size_t)(x >> 40) % sizeof bytes;
        for (size_t i = 0; i < n; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            bytes[i] = (char)(round % 2 ? x >> 56 : (x >> 56) % 128); /* every other one ASCII */
        }
        json_t *t = nm_describe_text((nm_str){bytes, n});
        const char *s = json_string_value(t);
        size_t len = json_string_length(t);
        invalid += !s || nm_utf8_valid(s, len) != len;
        if (nm_utf8_valid(bytes, n) == n)
            changed += len != n || memcmp(s, bytes, n) != 0;
        json_decref(t);
    }
    is_int(invalid, 0, "any bytes become valid UTF-8");
    is_int(changed, 0, "valid text stays as it is");
    json_t *t = nm_describe_text((nm_str){"a\xe2\x82z\xff", 5});
    is_str(json_string_value(t), "a\xef\xbf\xbdz\xef\xbf\xbd", "broken sequences become U+FFFD");
    json_decref(t);
}

/* ---- the machine -------------------------------------------------------------------------- */

static void test_machine(void)
{
    char *json = NULL;
    is_int(npumoe_describe_machine(&json, NULL), NPUMOE_OK, "the machine");
    json_t *r = parse(json);
    npumoe_text_free(&json);
    is_str(text(r, "version", NULL), npumoe_version(), "version");
    ok(number(r, "cpu", "allowed") >= 1, "at least one CPU is allowed");
    ok(number(r, "cpu", "allowed") <= number(r, "cpu", "online"), "... not more than are online");
    ok(number(r, "memory", "limit_bytes") > 1 << 20, "memory");
    ok(number(r, "memory", "page_bytes") >= 4096, "page size");
    const json_t *usable = at(r, "kernels", "usable");
    size_t n = json_array_size(usable);
    ok(n >= 1, "at least one tier of kernels");
    is_str(json_string_value(json_array_get(usable, 0)), "scalar", "... scalar always");
    is_str(text(r, "kernels", "chosen"), json_string_value(json_array_get(usable, n - 1)),
           "the best usable one is chosen");
    ok(json_array_size(at(r, "architectures", NULL)) >= 6, "the supported architectures");
    json_decref(r);
}

int main(void)
{
    note("seed %u", SEED);
    char path[] = "/tmp/npumoe-test-describe-XXXXXX";
    int fd = mkstemp(path);
    npumoe_error err = {0};
    if (fd < 0)
        bail("no temporary file");
    close(fd);
    if (scripted_model_write(path, &err) != NPUMOE_OK)
        bail("cannot write the model: %s", err.message);
    test_file(path);
    test_memory_is_real(path);
    test_unsupported(path);
    unlink(path);
    test_errors();
    test_texts();
    test_machine();
    return done_testing();
}
