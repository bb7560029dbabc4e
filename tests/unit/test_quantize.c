/* test_quantize.c: npumoe_quantize().
 *
 * Which type each tensor gets is compared with llama.cpp: the table below was printed by
 * llama-quantize --dry-run (build of 2026-08) for the very files that write_model() makes.
 * What the bytes are is compared with the encoder called directly on whole tensors, so neither
 * batches nor threads may show. */
#include "base/file.h"
#include "engine/quant_mix.h"
#include "formats/gguf_write.h"
#include "tap.h"

#include <math.h>
#include <unistd.h>

enum { LAYERS = 16 };

static char folder[] = "/tmp/npumoe-test-quantize-XXXXXX";

static const char *in_folder(const char *name)
{
    static char paths[4][256];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void must(npumoe_status st, const npumoe_error *err)
{
    if (st != NPUMOE_OK)
        bail("%s", err->message);
}

/* ---- model files --------------------------------------------------------------------------- */

typedef struct shape {
    const char *name;
    uint64_t ne[3];
} shape;

/* Rows of 256 and few of them: the rules look at names, not at sizes. */
static const shape layer_shapes[] = {
    {"attn_norm.weight", {256, 1, 1}},    {"attn_q.weight", {256, 4, 1}},
    {"attn_k.weight", {256, 2, 1}},       {"attn_v.weight", {256, 2, 1}},
    {"attn_v.bias", {2, 1, 1}},           {"attn_output.weight", {256, 4, 1}},
    {"ffn_gate_inp.weight", {256, 2, 1}}, {"ffn_gate_exps.weight", {256, 2, 2}},
    {"ffn_up_exps.weight", {256, 2, 2}},  {"ffn_down_exps.weight", {256, 2, 2}},
};

enum { PER_LAYER = sizeof layer_shapes / sizeof *layer_shapes };

typedef struct model {
    uint32_t n_expert, n_head_kv;
    bool tied;
} model;

static uint32_t dims(const uint64_t *ne)
{
    return ne[2] > 1 ? 3 : ne[1] > 1 ? 2 : 1;
}

static void declare(nm_gguf_writer *w, const model *m, npumoe_error *err)
{
    char name[64];
    const uint64_t embd[] = {256, 8};
    must(nm_gguf_put_tensor(w, "token_embd.weight", NM_TYPE_F32, 2, embd, err), err);
    if (!m->tied)
        must(nm_gguf_put_tensor(w, "output.weight", NM_TYPE_F32, 2, embd, err), err);
    for (int l = 0; l < LAYERS; l++)
        for (size_t i = 0; i < PER_LAYER; i++) {
            snprintf(name, sizeof name, "blk.%d.%s", l, layer_shapes[i].name);
            must(nm_gguf_put_tensor(w, name, NM_TYPE_F32, dims(layer_shapes[i].ne),
                                    layer_shapes[i].ne, err),
                 err);
        }
    must(nm_gguf_begin_data(w, err), err);
}

/* The first value is -1.0, then a slow wave: fine for every encoder. */
static void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = sinf((float)i * 0.37f) * (1 + (float)(i % 7)) - (i == 0);
}

static void write_data(nm_gguf_writer *w, size_t n, npumoe_error *err)
{
    static float x[256 * 8];
    fill(x, n);
    must(nm_gguf_write_data(w, x, n * sizeof *x, err), err);
}

static void write_model(const char *path, const model *m)
{
    nm_gguf_writer *w = NULL;
    npumoe_error err = {0};
    must(nm_gguf_writer_new(NULL, path, &w, &err), &err);
    must(nm_gguf_put_str(w, "general.architecture", NM_STR("llama"), &err), &err);
    must(nm_gguf_put_u32(w, "general.file_type", 0, &err), &err);
    must(nm_gguf_put_u32(w, "llama.block_count", LAYERS, &err), &err);
    must(nm_gguf_put_u32(w, "llama.context_length", 512, &err), &err);
    must(nm_gguf_put_u32(w, "llama.embedding_length", 256, &err), &err);
    must(nm_gguf_put_u32(w, "llama.feed_forward_length", 256, &err), &err);
    must(nm_gguf_put_u32(w, "llama.attention.head_count", 4, &err), &err);
    must(nm_gguf_put_u32(w, "llama.attention.head_count_kv", m->n_head_kv, &err), &err);
    must(nm_gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, &err), &err);
    must(nm_gguf_put_u32(w, "llama.expert_count", m->n_expert, &err), &err);
    must(nm_gguf_put_u32(w, "llama.expert_used_count", 2, &err), &err);
    declare(w, m, &err);
    write_data(w, 256 * 8, &err);
    if (!m->tied)
        write_data(w, 256 * 8, &err);
    for (int l = 0; l < LAYERS; l++)
        for (size_t i = 0; i < PER_LAYER; i++)
            write_data(
                w, (size_t)(layer_shapes[i].ne[0] * layer_shapes[i].ne[1] * layer_shapes[i].ne[2]),
                &err);
    must(nm_gguf_writer_finish(w, &err), &err);
    nm_gguf_writer_free(&w);
}

/* ---- which type ---------------------------------------------------------------------------- */

/* One letter per type: */
static char letter(uint32_t type)
{
    static const char letters[NM_TYPE_END] = {
        [NM_TYPE_F32] = 'f',  [NM_TYPE_F16] = 'h',   [NM_TYPE_BF16] = 'b',   [NM_TYPE_Q4_0] = 'a',
        [NM_TYPE_Q4_1] = 'A', [NM_TYPE_Q5_0] = 'v',  [NM_TYPE_Q5_1] = 'V',   [NM_TYPE_Q8_0] = '8',
        [NM_TYPE_Q2_K] = '2', [NM_TYPE_Q3_K] = '3',  [NM_TYPE_Q4_K] = '4',   [NM_TYPE_Q5_K] = '5',
        [NM_TYPE_Q6_K] = '6', [NM_TYPE_MXFP4] = 'm', [NM_TYPE_IQ4_NL] = 'n', [NM_TYPE_IQ4_XS] = 'x',
    };
    return type < NM_TYPE_END && letters[type] ? letters[type] : '?';
}

/* token_embd, output ('-' = none); attn_q attn_k attn_output gate up of layer 0; attn_v of all
 * layers; ffn_down of all layers. */
static void summary(const nm_gguf *g, const uint32_t *types, char *out)
{
    char name[64];
    size_t n = 0;
    static const char *const first[] = {"token_embd.weight",        "output.weight",
                                        "blk.0.attn_q.weight",      "blk.0.attn_k.weight",
                                        "blk.0.attn_output.weight", "blk.0.ffn_gate_exps.weight",
                                        "blk.0.ffn_up_exps.weight"};
    static const char *const all[] = {"attn_v", "ffn_down_exps"};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        const nm_gguf_tensor *t = nm_gguf_find_tensor(g, first[i]);
        out[n++] = t ? letter(types[t - nm_gguf_tensor_at(g, 0)]) : '-';
    }
    for (size_t i = 0; i < 2; i++) {
        out[n++] = ' ';
        for (int l = 0; l < LAYERS; l++) {
            snprintf(name, sizeof name, "blk.%d.%s.weight", l, all[i]);
            out[n++] = letter(types[nm_gguf_find_tensor(g, name) - nm_gguf_tensor_at(g, 0)]);
        }
    }
    out[n] = '\0';
}

typedef struct golden {
    const char *type, *untied16, *untied8, *tied2;
} golden;

/* clang-format off */
static const golden goldens[] = {
    {"F32", "fffffff ffffffffffffffff ffffffffffffffff",
     "fffffff ffffffffffffffff ffffffffffffffff", "f-fffff ffffffffffffffff ffffffffffffffff"},
    {"F16", "hhhhhhh hhhhhhhhhhhhhhhh hhhhhhhhhhhhhhhh",
     "hhhhhhh hhhhhhhhhhhhhhhh hhhhhhhhhhhhhhhh", "h-hhhhh hhhhhhhhhhhhhhhh hhhhhhhhhhhhhhhh"},
    {"BF16", "bbbbbbb bbbbbbbbbbbbbbbb bbbbbbbbbbbbbbbb",
     "bbbbbbb bbbbbbbbbbbbbbbb bbbbbbbbbbbbbbbb", "b-bbbbb bbbbbbbbbbbbbbbb bbbbbbbbbbbbbbbb"},
    {"Q4_0", "a6aaaaa aaaaaaaaaaaaaaaa aaaaaaaaaaaaaaaa",
     "a6a8aaa 8888888888888888 aaaaaaaaaaaaaaaa", "6-aaaaa aaaaaaaaaaaaaaaa aaaaaaaaaaaaaaaa"},
    {"Q4_1", "A6AAAAA AAAAAAAAAAAAAAAA AAAAAAAAAAAAAAAA",
     "A6A8AAA 8888888888888888 AAAAAAAAAAAAAAAA", "6-AAAAA AAAAAAAAAAAAAAAA AAAAAAAAAAAAAAAA"},
    {"Q5_0", "v6vvvvv vvvvvvvvvvvvvvvv vvvvvvvvvvvvvvvv",
     "v6v8vvv 8888888888888888 vvvvvvvvvvvvvvvv", "6-vvvvv vvvvvvvvvvvvvvvv vvvvvvvvvvvvvvvv"},
    {"Q5_1", "V6VVVVV VVVVVVVVVVVVVVVV VVVVVVVVVVVVVVVV",
     "V6V8VVV 8888888888888888 VVVVVVVVVVVVVVVV", "6-VVVVV VVVVVVVVVVVVVVVV VVVVVVVVVVVVVVVV"},
    {"Q8_0", "8888888 8888888888888888 8888888888888888",
     "8888888 8888888888888888 8888888888888888", "8-88888 8888888888888888 8888888888888888"},
    {"Q2_K", "2622322 4444444444444444 3333333333333333",
     "2628522 8888888888888888 3333333333333333", "6-22322 3333333333333333 3333333333333333"},
    {"Q3_K_S", "3633333 3333333333333333 3333333333333333",
     "3638533 8888888888888888 3333333333333333", "6-33333 3333333333333333 3333333333333333"},
    {"Q3_K_M", "3633433 5544444444444444 5444444444444444",
     "3638533 8888888888888888 5444444444444444", "6-33433 5544444444444444 5444444444444444"},
    {"Q3_K_L", "3633533 5555555555555555 5555555555555555",
     "3638333 8888888888888888 5555555555555555", "6-33533 5555555555555555 5555555555555555"},
    {"Q4_K_S", "4644444 5555444444444444 5544444444444444",
     "4648544 8888888888888888 5544444444444444", "6-44444 5555444444444444 5544444444444444"},
    {"Q4_K_M", "4644444 6644644644644666 6644644644644666",
     "4648544 8888888888888888 6644644644644666", "6-44444 6644644644644666 6644644644644666"},
    {"Q5_K_S", "5655555 5555555555555555 5555555555555555",
     "5658555 8888888888888888 5555555555555555", "6-55555 5555555555555555 5555555555555555"},
    {"Q5_K_M", "5655555 6655655655655666 6655655655655666",
     "5658555 8888888888888888 6655655655655666", "6-55555 6655655655655666 6655655655655666"},
    {"Q6_K", "6666666 6666666666666666 6666666666666666",
     "6668666 8888888888888888 6666666666666666", "6-66666 6666666666666666 6666666666666666"},
    {"IQ4_NL", "n6nnnnn 5555555555555555 55nnnnnnnnnnnnnn",
     "n6n85nn 8888888888888888 55nnnnnnnnnnnnnn", "6-nnnnn nnnnnnnnnnnnnnnn 55nnnnnnnnnnnnnn"},
    {"IQ4_XS", "x6xxxxx 5555555555555555 55xxxxxxxxxxxxxx",
     "x6x85xx 8888888888888888 55xxxxxxxxxxxxxx", "6-xxxxx xxxxxxxxxxxxxxxx 55xxxxxxxxxxxxxx"},
    {"MXFP4_MOE", "88888mm 8888888888888888 mmmmmmmmmmmmmmmm",
     "88888mm 8888888888888888 mmmmmmmmmmmmmmmm", "8-888mm 8888888888888888 mmmmmmmmmmmmmmmm"},
};
/* clang-format on */

static void check_mix(const nm_gguf *g, const char *type, const char *want, const char *what)
{
    uint32_t types[LAYERS * PER_LAYER + 2];
    char got[64];
    npumoe_error err = {0};
    const nm_mix *mix = nm_mix_by_name(type);
    if (!ok(mix != NULL, "%s is known", type))
        return;
    must(nm_mix_plan(g, mix, false, nm_allocator_default(), types, &err), &err);
    summary(g, types, got);
    is_str(got, want, "%s, %s", type, what);
}

static const model models[] = {{16, 1, false}, {8, 4, false}, {2, 4, true}};

static void test_mixes(void)
{
    nm_gguf *g[3] = {0};
    npumoe_error err = {0};
    for (size_t i = 0; i < 3; i++) {
        const char *path = in_folder(i == 0 ? "m16.gguf" : i == 1 ? "m8.gguf" : "tied.gguf");
        write_model(path, &models[i]);
        must(nm_gguf_open(path, NULL, &g[i], &err), &err);
    }
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        check_mix(g[0], goldens[i].type, goldens[i].untied16, "16 experts, 4 heads per KV head");
        check_mix(g[1], goldens[i].type, goldens[i].untied8, "8 experts");
        check_mix(g[2], goldens[i].type, goldens[i].tied2, "output tied to the embedding");
    }
    for (size_t i = 0; i < 3; i++)
        nm_gguf_free(&g[i]);
    ok(nm_mix_by_name("q4_k") == nm_mix_by_name("Q4_K_M"), "any case, aliases");
    ok(nm_mix_by_name("Q4_K_X") == NULL, "an unknown name");
}

/* Rows that are no multiple of 256 or of 32; llama.cpp refuses those of 33 in a 32-block type. */
static void test_fallback(void)
{
    static const struct {
        const char *type;
        uint64_t row;
        uint32_t want;
    } rows[] = {
        {"Q4_K_S", 96, NM_TYPE_Q5_0}, {"Q5_K_S", 96, NM_TYPE_Q5_1},  {"Q6_K", 96, NM_TYPE_Q8_0},
        {"Q2_K", 96, NM_TYPE_Q4_0},   {"Q3_K_S", 96, NM_TYPE_Q4_0},  {"IQ4_XS", 96, NM_TYPE_IQ4_NL},
        {"Q4_K_S", 33, NM_TYPE_F16},  {"IQ4_NL", 33, NM_TYPE_F16},   {"Q8_0", 33, NM_TYPE_F16},
        {"F16", 33, NM_TYPE_F16},     {"Q4_K_S", 256, NM_TYPE_Q4_K},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const uint64_t ne[] = {rows[i].row, 2};
        static const float zeros[512];
        nm_gguf_writer *w = NULL;
        nm_gguf *g = NULL;
        npumoe_error err = {0};
        uint32_t type = 0;
        must(nm_gguf_writer_new(NULL, in_folder("row.gguf"), &w, &err), &err);
        must(nm_gguf_put_tensor(w, "blk.0.attn_q.weight", NM_TYPE_F32, 2, ne, &err), &err);
        must(nm_gguf_begin_data(w, &err), &err);
        must(nm_gguf_write_data(w, zeros, (size_t)ne[0] * 2 * 4, &err), &err);
        must(nm_gguf_writer_finish(w, &err), &err);
        nm_gguf_writer_free(&w);
        must(nm_gguf_open(in_folder("row.gguf"), NULL, &g, &err), &err);
        must(
            nm_mix_plan(g, nm_mix_by_name(rows[i].type), true, nm_allocator_default(), &type, &err),
            &err);
        is_int(type, rows[i].want, "%s with rows of %d", rows[i].type, (int)rows[i].row);
        nm_gguf_free(&g);
    }
}

/* ---- which bytes --------------------------------------------------------------------------- */

static npumoe_status quantize(const char *in, const char *out, const char *type, int n_threads,
                              bool requantise, npumoe_error *err)
{
    npumoe_quantize_options o = npumoe_quantize_options_default();
    o.type = type;
    o.n_threads = n_threads;
    o.allow_requantize = requantise;
    return npumoe_quantize(in_folder(in), in_folder(out), &o, err);
}

static void check_tensor(const nm_gguf_tensor *from, const nm_gguf_tensor *to)
{
    size_t n = (size_t)(from->ne[0] * from->ne[1] * from->ne[2]);
    float *x = malloc(n * sizeof *x);
    unsigned char *want = malloc(n * sizeof *x);
    if (!x || !want)
        bail("out of memory");
    nm_type_get(from->type)->decode(from->data, x, n);
    if (from->type == to->type)
        memcpy(want, from->data, (size_t)from->bytes);
    else
        nm_type_get(to->type)->encode(x, want, n, NULL);
    is_mem(to->data, want, (size_t)to->bytes, "%.*s: bytes of %s", NM_STR_ARG(to->name),
           nm_type_get(to->type)->name);
    free(x);
    free(want);
}

static void test_file(void)
{
    nm_gguf *in = NULL, *out = NULL;
    npumoe_error err = {0};
    uint32_t u = 0;
    static const char *const names[] = {"token_embd.weight",          "output.weight",
                                        "blk.0.attn_norm.weight",     "blk.3.attn_v.weight",
                                        "blk.3.attn_v.bias",          "blk.3.ffn_gate_inp.weight",
                                        "blk.15.ffn_down_exps.weight"};
    must(quantize("m16.gguf", "q.gguf", "Q4_K_M", 2, false, &err), &err);
    must(nm_gguf_open(in_folder("m16.gguf"), NULL, &in, &err), &err);
    must(nm_gguf_open(in_folder("q.gguf"), NULL, &out, &err), &err);
    is_u64(nm_gguf_n_tensors(out), nm_gguf_n_tensors(in), "all tensors");
    ok(!nm_gguf_get_u32(out, "general.file_type", &u, &err) && u == 15, "general.file_type");
    ok(!nm_gguf_get_u32(out, "general.quantization_version", &u, &err) && u == 2,
       "general.quantization_version");
    ok(!nm_gguf_get_u32(out, "llama.context_length", &u, &err) && u == 512, "other keys");
    is_u64(nm_gguf_n_kv(out), nm_gguf_n_kv(in) + 1, "no key is lost");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_tensor(nm_gguf_find_tensor(in, names[i]), nm_gguf_find_tensor(out, names[i]));
    is_int(nm_gguf_find_tensor(out, names[2])->type, NM_TYPE_F32, "a norm stays F32");
    is_int(nm_gguf_find_tensor(out, names[5])->type, NM_TYPE_F32, "the router stays F32");
    nm_gguf_free(&in);
    nm_gguf_free(&out);
}

/* Larger than a batch (2 Mi elements), which ends in the middle of a row. */
static void test_batches(void)
{
    const uint64_t ne[] = {768, 3000};
    const size_t n = 768 * 3000;
    nm_gguf_writer *w = NULL;
    nm_gguf *in = NULL, *out = NULL;
    npumoe_error err = {0};
    nm_map one = {0}, three = {0};
    float *x = malloc(n * sizeof *x);
    if (!x)
        bail("out of memory");
    fill(x, n);
    must(nm_gguf_writer_new(NULL, in_folder("big.gguf"), &w, &err), &err);
    must(nm_gguf_put_tensor(w, "token_embd.weight", NM_TYPE_F32, 2, ne, &err), &err);
    must(nm_gguf_begin_data(w, &err), &err);
    must(nm_gguf_write_data(w, x, n * sizeof *x, &err), &err);
    must(nm_gguf_writer_finish(w, &err), &err);
    nm_gguf_writer_free(&w);
    free(x);
    must(quantize("big.gguf", "one.gguf", "Q8_0", 1, false, &err), &err);
    must(quantize("big.gguf", "three.gguf", "Q8_0", 3, false, &err), &err);
    must(nm_gguf_open(in_folder("big.gguf"), NULL, &in, &err), &err);
    must(nm_gguf_open(in_folder("one.gguf"), NULL, &out, &err), &err);
    check_tensor(nm_gguf_tensor_at(in, 0), nm_gguf_tensor_at(out, 0));
    must(nm_map_open(in_folder("one.gguf"), &one, &err), &err);
    must(nm_map_open(in_folder("three.gguf"), &three, &err), &err);
    is_u64(one.bytes, three.bytes, "1 thread and 3 threads: size");
    is_mem(one.data, three.data, (size_t)one.bytes, "1 thread and 3 threads: bytes");
    nm_map_close(&one);
    nm_map_close(&three);
    nm_gguf_free(&in);
    nm_gguf_free(&out);
    unlink(in_folder("big.gguf"));
    unlink(in_folder("one.gguf"));
    unlink(in_folder("three.gguf"));
}

/* ---- a split input ------------------------------------------------------------------------- */

static void write_part(const char *name, uint32_t no, const char *tensor)
{
    const uint64_t ne[] = {256, 8};
    nm_gguf_writer *w = NULL;
    npumoe_error err = {0};
    must(nm_gguf_writer_new(NULL, in_folder(name), &w, &err), &err);
    must(nm_gguf_put_u32(w, "split.no", no, &err), &err);
    must(nm_gguf_put_u32(w, "split.count", 2, &err), &err);
    must(nm_gguf_put_u32(w, "split.tensors.count", 2, &err), &err);
    must(nm_gguf_put_tensor(w, tensor, NM_TYPE_F32, 2, ne, &err), &err);
    must(nm_gguf_begin_data(w, &err), &err);
    write_data(w, 256 * 8, &err);
    must(nm_gguf_writer_finish(w, &err), &err);
    nm_gguf_writer_free(&w);
}

static void test_split(void)
{
    nm_gguf *out = NULL;
    npumoe_error err = {0};
    write_part("s-00001-of-00002.gguf", 0, "token_embd.weight");
    write_part("s-00002-of-00002.gguf", 1, "output.weight");
    is_int(quantize("s-00002-of-00002.gguf", "joined.gguf", "Q4_0", 1, false, &err), NPUMOE_OK,
           "a split input");
    is_int(nm_gguf_open(in_folder("joined.gguf"), NULL, &out, &err), NPUMOE_OK, "gives one file");
    is_u64(out ? nm_gguf_n_tensors(out) : 0, 2, "with all tensors");
    ok(out && !nm_gguf_find(out, "split.count"), "and no split keys");
    nm_gguf_free(&out);
    is_int(quantize("s-00002-of-00002.gguf", "s-00001-of-00002.gguf", "Q4_0", 1, false, &err),
           NPUMOE_EINVAL, "a part of the input is no output");
    unlink(in_folder("s-00001-of-00002.gguf"));
    unlink(in_folder("s-00002-of-00002.gguf"));
    unlink(in_folder("joined.gguf"));
}

/* ---- callbacks and refusals ---------------------------------------------------------------- */

typedef struct record {
    uint64_t last, total;
    int calls, lines, stop_after;
} record;

static bool on_progress(void *user, uint64_t done, uint64_t total)
{
    record *r = user;
    r->last = done;
    r->total = total;
    return ++r->calls != r->stop_after;
}

static void on_log(void *user, npumoe_log_level level, const char *line)
{
    record *r = user;
    r->lines += level == NPUMOE_LOG_INFO && *line;
}

static void test_callbacks(void)
{
    record r = {0};
    npumoe_error err = {0};
    npumoe_quantize_options o = npumoe_quantize_options_default();
    o.type = "Q8_0";
    o.progress = on_progress;
    o.log = on_log;
    o.progress_user = o.log_user = &r;
    is_int(npumoe_quantize(in_folder("m16.gguf"), in_folder("cb.gguf"), &o, &err), NPUMOE_OK,
           "with callbacks");
    is_u64(r.last, r.total, "progress ends at its total");
    is_int(r.lines, LAYERS * PER_LAYER + 2 + 1, "a line per tensor and one in the end");
    unlink(in_folder("cb.gguf"));

    r = (record){.stop_after = 5};
    is_int(npumoe_quantize(in_folder("m16.gguf"), in_folder("cb.gguf"), &o, &err), NPUMOE_ECANCELED,
           "cancelled");
    is_int(r.calls, 5, "at once");
    ok(access(in_folder("cb.gguf"), F_OK) != 0, "leaves no file");

    r = (record){0};
    o.dry_run = true;
    is_int(npumoe_quantize(in_folder("m16.gguf"), NULL, &o, &err), NPUMOE_OK, "dry run");
    is_int(r.lines, LAYERS * PER_LAYER + 2 + 1, "says the same");
}

static void write_values(float bad)
{
    const uint64_t ne[] = {32, 2};
    float x[64];
    nm_gguf_writer *w = NULL;
    npumoe_error err = {0};
    fill(x, 64);
    x[37] = bad;
    must(nm_gguf_writer_new(NULL, in_folder("bad.gguf"), &w, &err), &err);
    must(nm_gguf_put_tensor(w, "a.weight", NM_TYPE_F32, 2, ne, &err), &err);
    must(nm_gguf_begin_data(w, &err), &err);
    must(nm_gguf_write_data(w, x, sizeof x, &err), &err);
    must(nm_gguf_writer_finish(w, &err), &err);
    nm_gguf_writer_free(&w);
}

static void refuse(const char *in, const char *out, const char *type, npumoe_status code,
                   const char *words)
{
    npumoe_error err = {0};
    is_int(quantize(in, out, type, 1, false, &err), code, "%s: status", words);
    ok(strstr(err.message, words) != NULL, "%s", words);
    if (!strstr(err.message, words))
        note("%s", err.message);
}

static void test_refusals(void)
{
    npumoe_error err = {0};
    refuse("m16.gguf", "r.gguf", "Q9_Z", NPUMOE_EINVAL,
           "no type 'Q9_Z'; there are F32 F16 BF16 Q8_0");
    refuse("none.gguf", "r.gguf", "Q8_0", NPUMOE_ENOENT, "No such file");
    refuse("m16.gguf", "m16.gguf", "Q8_0", NPUMOE_EINVAL, "is the input");
    refuse("q.gguf", "r.gguf", "Q8_0", NPUMOE_EINVAL,
           "tensor 'token_embd.weight' is quantised already (Q4_K)");
    is_int(quantize("q.gguf", "r.gguf", "Q8_0", 1, true, &err), NPUMOE_OK, "unless allowed");
    unlink(in_folder("r.gguf"));
    write_values(NAN);
    refuse("bad.gguf", "r.gguf", "Q8_0", NPUMOE_EMODEL,
           "tensor 'a.weight': element 37 is nan, which cannot be stored as Q8_0");
    write_values(70000);
    refuse("bad.gguf", "r.gguf", "F16", NPUMOE_EMODEL,
           "tensor 'a.weight': element 37 is 70000, which cannot be stored as F16");
    is_int(quantize("bad.gguf", "r.gguf", "BF16", 1, false, &err), NPUMOE_OK, "BF16 holds it");
    unlink(in_folder("r.gguf"));
    is_int(npumoe_quantize(NULL, "x", NULL, &err), NPUMOE_EINVAL, "no input");
}

/* With three names: only writes the models of test_mixes() there, for whoever wants to compare the
 * table with another llama-quantize. */
int main(int argc, char **argv)
{
    if (argc > 1) {
        for (size_t i = 0; i < 3 && argv[i + 1]; i++)
            write_model(argv[i + 1], &models[i]);
        return 0;
    }
    if (!mkdtemp(folder))
        bail("cannot make a folder in /tmp");
    test_mixes();
    test_fallback();
    test_file();
    test_batches();
    test_split();
    test_callbacks();
    test_refusals();
    static const char *const left[] = {"m16.gguf", "m8.gguf", "tied.gguf",
                                       "row.gguf", "q.gguf",  "bad.gguf"};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        unlink(in_folder(left[i]));
    is_int(rmdir(folder), 0, "nothing else was left behind");
    return done_testing();
}
