/* Configuration and weight binding: what each family reads, and the message of everything that can
 * be wrong with keys and tensors. */
#include "support/tiny.h"
#include "tap.h"

#include "model/weights.h"

#include <unistd.h>

static const char *const archs[] = {"granitemoe", "llama",    "olmoe",
                                    "phimoe",     "qwen2moe", "qwen3moe"};
enum { N_ARCHS = 6 };

/* Configuration and weights of a spec; the status and message of whichever fails first. */
static npumoe_status load(const tiny_spec *s, nm_gguf **g, nm_config *c, nm_weights *w,
                          npumoe_error *err)
{
    *g = NULL;
    *c = (nm_config){0};
    *w = (nm_weights){0};
    if (tiny_write(s, tiny_path(), err) != NPUMOE_OK)
        bail("cannot write %s: %s", tiny_path(), err->message);
    NM_TRY(nm_gguf_open(tiny_path(), &(nm_gguf_options){0}, g, err));
    NM_TRY(nm_config_init(c, *g, NULL, err));
    return nm_weights_init(w, *g, c, NULL, err);
}

static void unload(nm_gguf **g, nm_config *c, nm_weights *w)
{
    if (w->layers)
        nm_weights_fini(w);
    if (c->layers)
        nm_config_fini(c);
    nm_gguf_free(g);
}

static void expect(const tiny_spec *s, npumoe_status code, const char *message)
{
    nm_gguf *g;
    nm_config c;
    nm_weights w;
    npumoe_error err = {0};
    npumoe_status st = load(s, &g, &c, &w, &err);
    is_int(st, code, "status: %s", message);
    /* What is found somewhere has its byte before it. */
    const char *got = err.message;
    char where[40];
    snprintf(where, sizeof where, "byte %llu: ", (unsigned long long)err.offset);
    if (strncmp(message, "key ", 4) == 0 && strstr(message, ": found "))
        ok(strncmp(got, where, strlen(where)) == 0 && err.offset > 0, "... says where: %s", got);
    got += strncmp(got, where, strlen(where)) == 0 ? strlen(where) : 0;
    is_str(got, message, "message");
    unload(&g, &c, &w);
}

static void check_geometry(const char *arch, const tiny_spec *s, const nm_config *c)
{
    is_str(c->family->arch, arch, "%s: family", arch);
    is_int(c->n_layer, s->n_layer, "%s: layers", arch);
    is_int(c->n_vocab, s->n_vocab, "%s: vocabulary", arch);
    is_int(c->layers[2].n_head_kv, s->n_head_kv, "%s: KV heads", arch);
    is_int(c->layers[2].dim_k, s->dim, "%s: head width", arch);
    is_int(c->layers[2].ffn, NM_FFN_MOE, "%s: a layer with experts", arch);
    is_int(c->layers[2].n_ff, s->n_ff, "%s: expert width", arch);
    is_int(c->layers[2].window, s->window, "%s: window", arch);
    is_int(c->ropes[0].n_rot, s->dim, "%s: rope width", arch);
}

static void check_families(void)
{
    for (int i = 0; i < N_ARCHS; i++) {
        tiny_spec s = tiny_default(archs[i]);
        nm_gguf *g;
        nm_config c;
        nm_weights w;
        npumoe_error err = {0};
        if (!ok(load(&s, &g, &c, &w, &err) == NPUMOE_OK, "%s loads: %s", archs[i], err.message)) {
            unload(&g, &c, &w);
            continue;
        }
        check_geometry(archs[i], &s, &c);
        uint64_t expert = 3ull * s.n_embd * s.n_ff, all = (uint64_t)s.n_layer * s.n_expert * expert;
        is_u64(w.n_params - w.n_params_active, all / s.n_expert * (s.n_expert - s.k),
               "%s: inactive parameters are those of the other experts", archs[i]);
        is_int(w.n_ropes, 1, "%s: one rope table", archs[i]);
        unload(&g, &c, &w);
        is_str(npumoe_supported_architecture((size_t)i), archs[i], "supported: %s", archs[i]);
    }
    ok(npumoe_supported_architecture(N_ARCHS) == NULL, "the list ends");
}

static void check_scales(void)
{
    tiny_spec s = tiny_default("granitemoe");
    nm_gguf *g;
    nm_config c;
    nm_weights w;
    npumoe_error err = {0};
    s.n_ff_shared = 48;
    s.tied = true;
    ok(load(&s, &g, &c, &w, &err) == NPUMOE_OK, "granite with a shared expert, tied: %s",
       err.message);
    is_near(c.embedding_scale, 1.7, 1e-6, "embedding multiplier");
    is_near(c.residual_scale, 0.6, 1e-6, "residual multiplier");
    is_near(c.attention_scale, 0.11, 1e-6, "attention multiplier replaces 1/sqrt(d)");
    is_near(c.logit_scale, 0.5, 1e-6, "the logit scale is a divisor");
    is_int(c.layers[0].n_ff_shared, 48, "shared width");
    ok(w.output.data == w.token_embd.data, "no output.weight: the embedding is used again");
    unload(&g, &c, &w);
    s = tiny_default("llama");
    s.n_expert = 0;
    ok(load(&s, &g, &c, &w, &err) == NPUMOE_OK, "dense llama: %s", err.message);
    is_int(c.layers[0].ffn, NM_FFN_DENSE, "a dense layer");
    is_near(c.attention_scale, 1 / sqrt(32), 1e-7, "1/sqrt(d) by default");
    unload(&g, &c, &w);
}

/* attn_qkv and ffn_gate_up_exps are cut into the same places. */
static void check_merged(void)
{
    tiny_spec s = tiny_default("llama");
    nm_gguf *g;
    nm_config c;
    nm_weights w;
    npumoe_error err = {0};
    s.merged = true;
    ok(load(&s, &g, &c, &w, &err) == NPUMOE_OK, "merged tensors: %s", err.message);
    const nm_layer_weights *l = &w.layers[1];
    const char *qkv = nm_gguf_find_tensor(g, "blk.1.attn_qkv.weight")->data;
    const char *gu = nm_gguf_find_tensor(g, "blk.1.ffn_gate_up_exps.weight")->data;
    ok(l->wq.data == qkv && l->wq.rows == 128, "q is the first rows");
    ok(l->wk.data == qkv + 128 * 64 * 4 && l->wk.rows == 64, "k follows");
    ok(l->wv.data == qkv + 192 * 64 * 4 && l->wv.rows == 64, "v follows");
    nm_mat up = nm_mat_stack_at(&l->experts.up, 3);
    ok(up.data == gu + (3 * 64 + 32) * 64 * 4 && up.rows == 32, "up rows follow gate rows, per "
                                                                "expert");
    unload(&g, &c, &w);
}

static void check_keys(void)
{
    tiny_spec s = tiny_default("qwen3moe");
    s.omit = "general.architecture";
    expect(&s, NPUMOE_EMODEL, "key general.architecture is missing");
    s.omit = "qwen3moe.block_count";
    expect(&s, NPUMOE_EMODEL, "key qwen3moe.block_count is missing");
    s.omit = "qwen3moe.attention.layer_norm_rms_epsilon";
    expect(&s, NPUMOE_EMODEL, "key qwen3moe.attention.layer_norm_rms_epsilon is missing");
    s.omit = NULL;
    s.set_key = "qwen3moe.expert_used_count";
    s.set_value = 9;
    expect(&s, NPUMOE_EMODEL, "key qwen3moe.expert_used_count: found 9, expected 1..8");
    s.set_key = "qwen3moe.expert_count";
    s.set_value = 0;
    expect(&s, NPUMOE_EMODEL, "key qwen3moe.expert_count: found 0, expected 1..4096");
    s.set_key = "qwen3moe.attention.head_count_kv";
    s.set_value = 3;
    expect(&s, NPUMOE_EMODEL,
           "key qwen3moe.attention.head_count_kv: found 3, expected a divisor of head_count 4");
    s.set_key = "qwen3moe.block_count";
    s.set_value = 4000000000u;
    expect(&s, NPUMOE_EMODEL, "key qwen3moe.block_count: found 4000000000, expected 1..1024");
    s = tiny_default("phimoe");
    s.set_key = "phimoe.expert_used_count";
    s.set_value = 3;
    expect(&s, NPUMOE_EMODEL,
           "key phimoe.expert_used_count: found 3, expected 2 (sparsemixer is defined for two "
           "picks)");
    s = tiny_default("granitemoe");
    s.omit = "granitemoe.logit_scale";
    expect(&s, NPUMOE_EMODEL, "key granitemoe.logit_scale is missing (the divisor of the logits)");
    s = tiny_default("mamba");
    expect(&s, NPUMOE_EUNSUPPORTED,
           "architecture 'mamba' is not supported; supported are: granitemoe, llama, olmoe, "
           "phimoe, qwen2moe, qwen3moe");
}

/* A number that no model can mean is refused where it stands, not met as NaN in the logits. */
static void check_numbers(void)
{
    static const struct {
        const char *arch, *key;
        float value;
        const char *expected;
    } cases[] = {
        {"olmoe", "attention.clamp_kqv", NAN,
         "found nan, expected a finite number above 0, or 0 for none"},
        {"olmoe", "attention.clamp_kqv", -1.0f,
         "found -1, expected a finite number above 0, or 0 for none"},
        {"granitemoe", "logit_scale", INFINITY,
         "found inf, expected a finite number above 0 whose reciprocal is one too"},
        {"granitemoe", "logit_scale", 0x1p-140f,
         "found 7.17465e-43, expected a finite number above 0 whose reciprocal is one too"},
        {"granitemoe", "logit_scale", -2.0f,
         "found -2, expected a finite number above 0 whose reciprocal is one too"},
        {"granitemoe", "embedding_scale", NAN, "found nan, expected a finite number above 0"},
        {"granitemoe", "residual_scale", -1.0f, "found -1, expected a finite number above 0"},
        {"granitemoe", "attention.scale", INFINITY, "found inf, expected a finite number above 0"},
        {"qwen3moe", "attention.layer_norm_rms_epsilon", -1.0f,
         "found -1, expected a finite number above 0"},
        {"qwen3moe", "expert_weights_scale", -1.0f,
         "found -1, expected a finite number above 0, or 0 for none"},
        {"qwen3moe", "rope.freq_base", 1.0f, "found 1, expected a number above 1"},
        {"qwen3moe", "rope.scaling.factor", NAN, "found nan, expected a number >= 1"},
        {"qwen3moe", "rope.scaling.yarn_beta_fast", INFINITY,
         "found inf, expected a finite number above 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tiny_spec s = tiny_default(cases[i].arch);
        char key[96], message[256];
        snprintf(key, sizeof key, "%s.%s", cases[i].arch, cases[i].key);
        snprintf(message, sizeof message, "key %s: %s", key, cases[i].expected);
        s.set_f32_key = key;
        s.set_f32_value = cases[i].value;
        expect(&s, NPUMOE_EMODEL, message);
    }
    tiny_spec s = tiny_default("qwen3moe");
    s.dim = 1;
    expect(
        &s, NPUMOE_EMODEL,
        "4 heads (qwen3moe.attention.head_count) are 1 wide each, expected an even width of 2 or "
        "more");
}

static void check_tensors(void)
{
    tiny_spec s = tiny_default("olmoe");
    s.omit = "blk.1.attn_q_norm.weight";
    expect(&s, NPUMOE_EMODEL, "tensor 'blk.1.attn_q_norm.weight' is missing (expected shape [64])");
    s.omit = "blk.2.ffn_down_exps.weight";
    expect(&s, NPUMOE_EMODEL,
           "tensor 'blk.2.ffn_down_exps.weight' is missing (expected shape [32, 64, 8])");
    s.omit = NULL;
    s.reshape = "blk.0.attn_k.weight";
    expect(&s, NPUMOE_EMODEL,
           "tensor 'blk.0.attn_k.weight': found shape [64, 33], expected [64, 32]");
    s.reshape = "output_norm.weight";
    expect(&s, NPUMOE_EMODEL, "tensor 'output_norm.weight': found shape [65], expected [64]");
    s.reshape = NULL;
    s.extra = "blk.0.attn_output.scale";
    expect(&s, NPUMOE_EMODEL,
           "tensor 'blk.0.attn_output.scale' has no place in a model of architecture olmoe with 3 "
           "layers");
    s.extra = "blk.3.attn_norm.weight";
    expect(&s, NPUMOE_EMODEL,
           "tensor 'blk.3.attn_norm.weight' has no place in a model of architecture olmoe with 3 "
           "layers");
    s = tiny_default("llama");
    s.extra = "blk.0.ffn_gate.0.weight";
    expect(&s, NPUMOE_EUNSUPPORTED,
           "tensor 'blk.0.ffn_gate.0.weight': one tensor per expert is the layout of files made "
           "before April 2024; convert the model again or download a newer GGUF");
    s = tiny_default("qwen2moe");
    s.omit = "blk.0.attn_v.bias";
    expect(&s, NPUMOE_EMODEL, "tensor 'blk.0.attn_v.bias' is missing (expected shape [64])");
    s = tiny_default("phimoe");
    s.omit = "rope_factors_short.weight";
    expect(&s, NPUMOE_EMODEL, "tensor 'rope_factors_short.weight' is missing (expected shape [8])");
}

/* The keys of a file as the converter writes it for Phi-3.5-MoE, without tensors. */
static float phi_mscale(uint32_t n_layer, float attn_factor)
{
    static const struct {
        const char *key;
        uint32_t value;
    } keys[] = {
        {"phimoe.embedding_length", 4096},
        {"phimoe.context_length", 131072},
        {"phimoe.feed_forward_length", 6400},
        {"phimoe.attention.head_count", 32},
        {"phimoe.attention.head_count_kv", 8},
        {"phimoe.expert_count", 16},
        {"phimoe.expert_used_count", 2},
        {"phimoe.vocab_size", 32064},
        {"phimoe.rope.scaling.original_context_length", 4096},
    };
    nm_gguf_writer *w = NULL;
    nm_gguf *g = NULL;
    nm_config c = {0};
    npumoe_error err = {0};
    bool fine = nm_gguf_writer_new(NULL, tiny_path(), &w, &err) == NPUMOE_OK;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        fine = fine && nm_gguf_put_u32(w, keys[i].key, keys[i].value, &err) == NPUMOE_OK;
    fine = fine && nm_gguf_put_u32(w, "phimoe.block_count", n_layer, &err) == NPUMOE_OK &&
           nm_gguf_put_str(w, "general.architecture", NM_STR("phimoe"), &err) == NPUMOE_OK &&
           nm_gguf_put_f32(w, "phimoe.attention.layer_norm_rms_epsilon", 1e-5f, &err) == 0 &&
           nm_gguf_put_f32(w, "phimoe.rope.scaling.attn_factor", attn_factor, &err) == 0 &&
           nm_gguf_begin_data(w, &err) == NPUMOE_OK && nm_gguf_writer_finish(w, &err) == 0;
    nm_gguf_writer_free(&w);
    const nm_gguf_options o = {0};
    fine = fine && nm_gguf_open(tiny_path(), &o, &g, &err) == NPUMOE_OK &&
           nm_config_init(&c, g, NULL, &err) == NPUMOE_OK;
    if (!fine)
        bail("%s", err.message);
    float factor = c.ropes[0].attn_factor;
    nm_config_fini(&c);
    nm_gguf_free(&g);
    return factor;
}

static void check_phi_mscale(void)
{
    is_near(phi_mscale(32, 1.190238f), 1.243163121016122, 1e-7,
            "Phi-3.5-MoE: the checkpoint's mscale, not the converter's");
    is_near(phi_mscale(32, 1.1f), 1.1, 1e-7, "a file that states another factor keeps it");
    is_near(phi_mscale(24, 1.190238f), 1.190238, 1e-7, "and so does another model");
}

/* Angles against the closed formulas. */
static void check_rope(void)
{
    nm_rope_table t;
    npumoe_error err;
    nm_rope r = {.n_rot = 8, .freq_base = 10000.0f, .factor = 1.0f, .attn_factor = 1.0f};
    float c[4], s[4], longf[4] = {2, 2, 2, 2};
    nm_rope_table_init(&t, &r, NULL, NULL, NULL, &err);
    nm_rope_angles(&t, 0, 4096, c, s);
    is_near(c[3], cos(4096 * pow(10000, -6.0 / 8)), 1e-7, "plain rope: cos");
    is_near(s[1], sin(4096 * pow(10000, -2.0 / 8)), 1e-7, "plain rope: sin");
    nm_rope_table_fini(&t);
    r.scaling = NM_ROPE_SCALING_LINEAR;
    r.factor = 4.0f;
    nm_rope_table_init(&t, &r, NULL, NULL, NULL, &err);
    nm_rope_angles(&t, 0, 4096, c, s);
    is_near(s[0], sin(1024.0), 1e-7, "linear scaling divides the position");
    nm_rope_table_fini(&t);
    r.scaling = NM_ROPE_SCALING_LONGROPE;
    r.n_ctx_orig = 100;
    r.attn_factor = 1.2f;
    nm_rope_table_init(&t, &r, NULL, longf, NULL, &err);
    is_int(nm_rope_variant(&t, 100), 0, "longrope: the original context is short");
    is_int(nm_rope_variant(&t, 101), 1, "longrope: one more is long");
    nm_rope_angles(&t, 1, 7, c, s);
    is_near(s[0], 1.2f * sin(3.5), 1e-6, "longrope: long factors and mscale");
    nm_rope_table_fini(&t);
    /* YaRN, DeepSeek-like: pairs that turn often keep their frequency, slow ones are divided. */
    r = (nm_rope){.n_rot = 64,
                  .freq_base = 10000.0f,
                  .scaling = NM_ROPE_SCALING_YARN,
                  .factor = 40.0f,
                  .attn_factor = 1.0f,
                  .ext_factor = 1.0f,
                  .beta_fast = 32.0f,
                  .beta_slow = 1.0f,
                  .n_ctx_orig = 4096};
    nm_rope_table_init(&t, &r, NULL, NULL, NULL, &err);
    is_near(t.freq[0], 1.0, 1e-12, "yarn: the fastest pair is unchanged");
    is_near(t.freq[31] * 40 / pow(10000, -62.0 / 64), 1.0, 1e-9, "yarn: the slowest is divided");
    is_near(t.mscale, 1 + 0.1 * log(40), 1e-6, "yarn: mscale");
    nm_rope_table_fini(&t);
}

int main(void)
{
    check_families();
    check_scales();
    check_merged();
    check_keys();
    check_numbers();
    check_tensors();
    check_rope();
    check_phi_mscale();
    unlink(tiny_path());
    return done_testing();
}
