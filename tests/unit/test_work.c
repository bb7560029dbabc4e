/* test_work: npumoe_model_get_work() against counts by hand. */
#include "npumoe/npumoe.h"

#include "quant/quant.h"
#include "support/tiny.h"
#include "tap.h"

#include <unistd.h>

static npumoe_model *load(const tiny_spec *s)
{
    npumoe_error err = {0};
    npumoe_model_options o = npumoe_model_options_default();
    npumoe_model *m = NULL;
    o.n_threads = 1;
    if (tiny_write(s, tiny_path(), &err) != NPUMOE_OK ||
        npumoe_model_load(tiny_path(), &o, &m, &err) != NPUMOE_OK)
        bail("no model: %s", err.message);
    return m;
}

static npumoe_model_work work_of(const npumoe_model *m, uint64_t n_past, uint64_t n)
{
    npumoe_model_work w = {.struct_bytes = sizeof w};
    npumoe_model_get_work(m, n_past, n, NPUMOE_KV_F16, NPUMOE_KV_F32, &w);
    return w;
}

/* Weights of one layer that a token meets, without norms. */
static uint64_t layer_elems(const tiny_spec *s)
{
    uint64_t d = s->n_embd, q = (uint64_t)s->n_head * s->dim, kv = (uint64_t)s->n_head_kv * s->dim;
    return d * q * 2 + d * kv * 2 + d * s->n_expert + 3ull * s->k * s->n_ff * d +
           (s->n_ff_shared ? 3ull * s->n_ff_shared * d + d : 0);
}

static void test_counts(const char *arch)
{
    tiny_spec s = tiny_default(arch);
    s.type = NM_TYPE_F32;
    s.window = 0;
    npumoe_model *m = load(&s);
    enum { N = 7, PAST = 5 };
    npumoe_model_work w = work_of(m, PAST, N);
    uint64_t all = layer_elems(&s), kv = 2ull * s.n_embd * s.n_head_kv * s.dim;
    uint64_t seen = 6 + 7 + 8 + 9 + 10 + 11 + 12, heads = 4ull * s.n_head * s.dim;
    is_u64(w.matrix_ops, 2 * ((s.n_layer - 1) * N * all + all + (N - 1) * kv),
           "%s: products of a prompt", arch);
    is_u64(w.attention_ops, heads * ((s.n_layer - 1) * seen + 12), "%s: its attention", arch);
    is_u64(w.output_ops, 2ull * s.n_vocab * s.n_embd, "%s: one row of logits", arch);
    is_u64(w.kv_bytes, seen * s.n_layer * s.n_head_kv * s.dim * (2 + 4),
           "%s: keys in F16, values in F32", arch);
    /* all stored as F32; norms and biases are small beside the matrices */
    uint64_t matrices = N * 4 * (s.n_layer * all + (uint64_t)s.n_vocab * s.n_embd + s.n_embd);
    ok(w.weight_bytes >= matrices && w.weight_bytes < matrices + matrices / 20,
       "%s: weights read, %" PRIu64 " bytes of matrices in %" PRIu64, arch, matrices,
       w.weight_bytes);
    npumoe_model_work none = work_of(m, PAST, 0);
    is_u64(none.matrix_ops + none.attention_ops + none.weight_bytes + none.kv_bytes, 0,
           "%s: no tokens, no work", arch);
    npumoe_model_free(&m);
}

/* A token sees min(position + 1, window) positions, wherever a run of tokens begins and ends. */
static void test_window(void)
{
    tiny_spec s = tiny_default("phimoe");
    s.window = 9;
    npumoe_model *m = load(&s);
    uint64_t one = work_of(m, 0, 1).kv_bytes;
    for (uint64_t past = 0; past < 14; past += 3)
        for (uint64_t n = 1; n < 14; n += 4) {
            uint64_t seen = 0;
            for (uint64_t p = past; p < past + n; p++)
                seen += p + 1 < s.window ? p + 1 : s.window;
            is_u64(work_of(m, past, n).kv_bytes, seen * one,
                   "window: %" PRIu64 " tokens after %" PRIu64, n, past);
        }
    npumoe_model_free(&m);
}

/* Fewer bits are fewer bytes and the same operations. */
static void test_types(void)
{
    tiny_spec s = tiny_default("olmoe");
    s.type = NM_TYPE_F32;
    npumoe_model *plain = load(&s);
    npumoe_model_work a = work_of(plain, 0, 3);
    npumoe_model_free(&plain);
    s.type = NM_TYPE_Q8_0;
    npumoe_model *coarse = load(&s);
    npumoe_model_work b = work_of(coarse, 0, 3);
    npumoe_model_free(&coarse);
    is_u64(b.matrix_ops, a.matrix_ops, "Q8_0 takes the operations of F32");
    double ratio = (double)b.weight_bytes / (double)a.weight_bytes;
    ok(ratio > 34.0 / 128 && ratio < 0.35, "and 34 of 128 bytes (%.3f)", ratio);
    npumoe_model_work odd = {.struct_bytes = sizeof odd, .matrix_ops = 1};
    s.dim = 24; /* no multiple of a block of Q8_0 */
    npumoe_model *narrow = load(&s);
    npumoe_model_get_work(narrow, 0, 3, NPUMOE_KV_Q8_0, NPUMOE_KV_F16, &odd);
    is_u64(odd.matrix_ops, 0, "a cache that the model cannot have has no work");
    npumoe_model_free(&narrow);
}

int main(void)
{
    test_counts("olmoe");
    test_counts("qwen3moe");
    test_counts("qwen2moe");
    test_window();
    test_types();
    unlink(tiny_path());
    return done_testing();
}
