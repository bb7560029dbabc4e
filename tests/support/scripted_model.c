#include "support/scripted_model.h"

#include "formats/gguf_write.h"

#include <stdio.h>

/* After token i comes next[i]. Text of a token: pieces[i]. */
static const char *const pieces[SCRIPTED_N_VOCAB] = {
    "<unk>",
    "<s>",
    "</s>",
    "One",
    "\xe2\x96\x81two",
    "\xe2\x96\x81three",
    ("\xe2\x96\x81"
     "f"),
    "our",
    ".",
    "<0xE2>",
    "<0x82>",
    "<0xAC>",
    "END",
    "<0xF0>",
    "loop-a",
    "loop-b",
    "control",
};

static const int next_token[SCRIPTED_N_VOCAB] = {
    [SCRIPTED_BOS] = 3,
    [3] = 4,
    [4] = 5,
    [5] = 6,
    [6] = 7,
    [7] = 8,
    [8] = 9,
    [9] = 10,
    [10] = 11,
    [11] = SCRIPTED_EOS,
    [SCRIPTED_EOS] = 12,
    [12] = 13,
    [13] = SCRIPTED_EOS,
    [14] = 15,
    [15] = 14,
    [16] = 3,
};

static npumoe_status put_vocab(nm_gguf_writer *w, npumoe_error *err)
{
    nm_str texts[SCRIPTED_N_VOCAB];
    char spare[SCRIPTED_N_VOCAB][24];
    float scores[SCRIPTED_N_VOCAB];
    int32_t types[SCRIPTED_N_VOCAB];
    for (int i = 0; i < SCRIPTED_N_VOCAB; i++) {
        snprintf(spare[i], sizeof spare[i], "spare%d", i);
        texts[i] = nm_str_of(pieces[i] ? pieces[i] : spare[i]);
        scores[i] = (float)-i;
        bool byte = texts[i].n == 6 && memcmp(texts[i].p, "<0x", 3) == 0;
        types[i] = i == 0                                              ? 2
                   : i == SCRIPTED_BOS || i == SCRIPTED_EOS || i == 16 ? 3
                   : byte                                              ? 6
                                                                       : 1;
    }
    NM_TRY(nm_gguf_put_str(w, "tokenizer.ggml.model", NM_STR("llama"), err));
    NM_TRY(nm_gguf_put_str_array(w, "tokenizer.ggml.tokens", texts, SCRIPTED_N_VOCAB, err));
    NM_TRY(
        nm_gguf_put_array(w, "tokenizer.ggml.scores", NM_GGUF_F32, scores, SCRIPTED_N_VOCAB, err));
    NM_TRY(nm_gguf_put_array(w, "tokenizer.ggml.token_type", NM_GGUF_I32, types, SCRIPTED_N_VOCAB,
                             err));
    NM_TRY(nm_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", SCRIPTED_BOS, err));
    return nm_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", SCRIPTED_EOS, err);
}

static npumoe_status put_keys(nm_gguf_writer *w, npumoe_error *err)
{
    const struct {
        const char *key;
        uint32_t value;
    } keys[] = {
        {"olmoe.block_count", 1},
        {"olmoe.context_length", SCRIPTED_N_CTX_TRAIN},
        {"olmoe.embedding_length", SCRIPTED_N_EMBD},
        {"olmoe.feed_forward_length", SCRIPTED_N_FF},
        {"olmoe.attention.head_count", SCRIPTED_N_HEAD},
        {"olmoe.attention.head_count_kv", SCRIPTED_N_HEAD},
        {"olmoe.expert_count", 2},
        {"olmoe.expert_used_count", 1},
    };
    NM_TRY(nm_gguf_put_str(w, "general.architecture", NM_STR("olmoe"), err));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        NM_TRY(nm_gguf_put_u32(w, keys[i].key, keys[i].value, err));
    NM_TRY(nm_gguf_put_f32(w, "olmoe.attention.layer_norm_rms_epsilon", 1e-5f, err));
    return nm_gguf_put_f32(w, "olmoe.rope.freq_base", 10000.0f, err);
}

typedef struct tensor {
    const char *name;
    uint64_t ne[3];
} tensor;

static const tensor tensors[] = {
    {"token_embd.weight", {SCRIPTED_N_EMBD, SCRIPTED_N_VOCAB, 0}},
    {"output_norm.weight", {SCRIPTED_N_EMBD, 0, 0}},
    {"output.weight", {SCRIPTED_N_EMBD, SCRIPTED_N_VOCAB, 0}},
    {"blk.0.attn_norm.weight", {SCRIPTED_N_EMBD, 0, 0}},
    {"blk.0.attn_q.weight", {SCRIPTED_N_EMBD, SCRIPTED_N_EMBD, 0}},
    {"blk.0.attn_k.weight", {SCRIPTED_N_EMBD, SCRIPTED_N_EMBD, 0}},
    {"blk.0.attn_v.weight", {SCRIPTED_N_EMBD, SCRIPTED_N_EMBD, 0}},
    {"blk.0.attn_output.weight", {SCRIPTED_N_EMBD, SCRIPTED_N_EMBD, 0}},
    {"blk.0.attn_q_norm.weight", {SCRIPTED_N_EMBD, 0, 0}},
    {"blk.0.attn_k_norm.weight", {SCRIPTED_N_EMBD, 0, 0}},
    {"blk.0.ffn_norm.weight", {SCRIPTED_N_EMBD, 0, 0}},
    {"blk.0.ffn_gate_inp.weight", {SCRIPTED_N_EMBD, 2, 0}},
    {"blk.0.ffn_gate_exps.weight", {SCRIPTED_N_EMBD, SCRIPTED_N_FF, 2}},
    {"blk.0.ffn_up_exps.weight", {SCRIPTED_N_EMBD, SCRIPTED_N_FF, 2}},
    {"blk.0.ffn_down_exps.weight", {SCRIPTED_N_FF, SCRIPTED_N_EMBD, 2}},
};

enum { N_TENSORS = sizeof tensors / sizeof tensors[0] };

static uint32_t n_dims(const tensor *t)
{
    return t->ne[2] ? 3 : t->ne[1] ? 2 : 1;
}

/* Norms are 1, the embedding is the identity, the output the script, the rest 0. */
static npumoe_status write_tensor(nm_gguf_writer *w, const tensor *t, npumoe_error *err)
{
    static float data[SCRIPTED_N_VOCAB * SCRIPTED_N_EMBD];
    size_t n = t->ne[0] * (t->ne[1] ? t->ne[1] : 1) * (t->ne[2] ? t->ne[2] : 1);
    for (size_t i = 0; i < n; i++)
        data[i] = n_dims(t) == 1 ? 1.0f : 0.0f;
    for (size_t i = 0; i < SCRIPTED_N_VOCAB; i++) {
        if (strcmp(t->name, "token_embd.weight") == 0)
            data[i * SCRIPTED_N_EMBD + i] = 8.0f;
        if (strcmp(t->name, "output.weight") == 0)
            data[(size_t)next_token[i] * SCRIPTED_N_EMBD + i] = 10.0f;
    }
    return nm_gguf_write_data(w, data, n * sizeof *data, err);
}

npumoe_status scripted_model_write(const char *path, npumoe_error *err)
{
    nm_gguf_writer *w = NULL;
    NM_TRY(nm_gguf_writer_new(nm_allocator_default(), path, &w, err));
    npumoe_status st = put_keys(w, err);
    if (st == NPUMOE_OK)
        st = put_vocab(w, err);
    for (size_t i = 0; i < N_TENSORS && st == NPUMOE_OK; i++)
        st = nm_gguf_put_tensor(w, tensors[i].name, NM_TYPE_F32, n_dims(&tensors[i]), tensors[i].ne,
                                err);
    if (st == NPUMOE_OK)
        st = nm_gguf_begin_data(w, err);
    for (size_t i = 0; i < N_TENSORS && st == NPUMOE_OK; i++)
        st = write_tensor(w, &tensors[i], err);
    if (st == NPUMOE_OK)
        st = nm_gguf_writer_finish(w, err);
    nm_gguf_writer_free(&w);
    return st;
}
