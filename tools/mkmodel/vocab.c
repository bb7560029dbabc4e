/* vocab.c: a tokenizer for a synthetic model: made up, or copied from a real file.
 *
 * Made up: all 256 bytes, then pieces of growing length over the English letters in order of frequency,
 * each joined from two earlier pieces, until the vocabulary is full:
 *     _e, et, _eta, eta, etao      (_ = space)
 * so every text can be encoded at two to four letters a token, and merges are consistent. Byte-level
 * BPE (gpt2) spells bytes in GPT-2's visible alphabet and lists merges; SentencePiece (llama) has
 * <0x00>.. byte tokens and scores that fall with the id. What is left over is marked unused. */
#include <stdio.h>

#include "mkmodel.h"

enum { T_NORMAL = 1, T_UNKNOWN = 2, T_CONTROL = 3, T_UNUSED = 5, T_BYTE = 6 };

#define PIECE_BYTES 24 /* longest token with its end mark */

typedef struct vocab {
    const mk_spec *s;
    bool bpe;
    char *text, *merge_text; /* slots of PIECE_BYTES and 2 * PIECE_BYTES */
    nm_str *token, *merge;
    float *score;
    int32_t *type;
    uint32_t n, n_merges, limit;
} vocab;

static const char letters[] = "etaoinshrdlucmfwypvbgkjqxz";
#define N_LETTERS 26
#define N_PAIRS   (N_LETTERS * N_LETTERS)

static void push(vocab *v, const char *text, int32_t type)
{
    if (v->n >= v->s->vocab)
        return;
    char *slot = v->text + (size_t)v->n * PIECE_BYTES;
    (void)snprintf(slot, PIECE_BYTES, "%s", text);
    v->token[v->n] = nm_str_of(slot);
    v->type[v->n] = type;
    v->score[v->n] = type == T_NORMAL ? -(float)v->n : 0.0f;
    v->n++;
}

/* left + right, while there is room before the special tokens. */
static bool join(vocab *v, const char *left, const char *right)
{
    char piece[PIECE_BYTES];
    if (v->n >= v->limit)
        return false;
    (void)snprintf(piece, sizeof piece, "%s%s", left, right);
    if (v->bpe) {
        char *slot = v->merge_text + (size_t)v->n_merges * 2 * PIECE_BYTES;
        (void)snprintf(slot, 2 * PIECE_BYTES, "%s %s", left, right);
        v->merge[v->n_merges++] = nm_str_of(slot);
    }
    push(v, piece, T_NORMAL);
    return true;
}

/* Pair p of letters, most frequent ones first (by the sum of their ranks). */
static void make_pairs(char pairs[N_PAIRS][3])
{
    size_t n = 0;
    for (size_t sum = 0; sum <= 2 * (N_LETTERS - 1); sum++)
        for (size_t i = 0; i < N_LETTERS; i++)
            if (sum >= i && sum - i < N_LETTERS) {
                pairs[n][0] = letters[i];
                pairs[n][1] = letters[sum - i];
                pairs[n++][2] = '\0';
            }
}

static void push_pieces(vocab *v)
{
    const char *space = v->bpe ? "\xC4\xA0" : "\xE2\x96\x81"; /* U+0120, U+2581 */
    char pairs[N_PAIRS][3], one[2] = {0}, head[8];
    make_pairs(pairs);
    for (size_t i = 0; i < N_LETTERS; i++) {
        one[0] = letters[i];
        if (!join(v, space, one))
            return;
    }
    for (size_t p = 0; p < N_PAIRS; p++) {
        char right[2] = {pairs[p][1], '\0'};
        one[0] = pairs[p][0];
        if (!join(v, one, right))
            return;
    }
    for (size_t p = 0; p < N_PAIRS; p++)
        for (size_t i = 0; i < N_LETTERS; i++) {
            one[0] = letters[i];
            (void)snprintf(head, sizeof head, "%s%s", space, one);
            if (!join(v, head, pairs[p]) || !join(v, pairs[p], one))
                return;
        }
    for (size_t p = 0; p < N_PAIRS; p++)
        for (size_t q = 0; q < N_PAIRS; q++)
            if (!join(v, pairs[p], pairs[q]))
                return;
}

/* GPT-2 spells a byte that is not printable in Latin-1 as U+0100 + its count among those. */
static void push_gpt2_bytes(vocab *v)
{
    unsigned hidden = 0;
    for (unsigned b = 0; b < 256; b++) {
        bool visible = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        unsigned cp = visible ? b : 256 + hidden++;
        char text[3] = {(char)cp, '\0', '\0'};
        if (cp >= 128) {
            text[0] = (char)(0xC0 | (cp >> 6));
            text[1] = (char)(0x80 | (cp & 63));
        }
        push(v, text, T_NORMAL);
    }
}

static void push_spm_base(vocab *v)
{
    char text[8];
    push(v, "<unk>", T_UNKNOWN);
    push(v, "<s>", T_CONTROL);
    push(v, "</s>", T_CONTROL);
    for (unsigned b = 0; b < 256; b++) {
        (void)snprintf(text, sizeof text, "<0x%02X>", b);
        push(v, text, T_BYTE);
    }
    push(v, "\xE2\x96\x81", T_NORMAL);
    for (char c = 33; c < 127; c++) {
        text[0] = c;
        text[1] = '\0';
        push(v, text, T_NORMAL);
    }
}

static npumoe_status put_ids(nm_gguf_writer *w, const vocab *v, npumoe_error *err)
{
    uint32_t bos = v->bpe ? v->s->vocab - 3 : 1, eos = v->bpe ? v->s->vocab - 1 : 2;
    NM_TRY(nm_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", bos, err));
    NM_TRY(nm_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", eos, err));
    NM_TRY(nm_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", !v->bpe, err));
    if (v->bpe)
        return nm_gguf_put_str_array(w, "tokenizer.ggml.merges", v->merge, v->n_merges, err);
    NM_TRY(nm_gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 0, err));
    return nm_gguf_put_array(w, "tokenizer.ggml.scores", NM_GGUF_F32, v->score, v->n, err);
}

static npumoe_status put_all(nm_gguf_writer *w, const vocab *v, npumoe_error *err)
{
    const mk_family *f = mk_family_of(v->s->arch);
    NM_TRY(nm_gguf_put_str(w, "tokenizer.ggml.model", nm_str_of(f->vocab_model), err));
    NM_TRY(nm_gguf_put_str(w, "tokenizer.ggml.pre", nm_str_of(f->vocab_pre), err));
    NM_TRY(nm_gguf_put_str_array(w, "tokenizer.ggml.tokens", v->token, v->n, err));
    NM_TRY(nm_gguf_put_array(w, "tokenizer.ggml.token_type", NM_GGUF_I32, v->type, v->n, err));
    return put_ids(w, v, err);
}

static void build(vocab *v)
{
    if (v->bpe) {
        push_gpt2_bytes(v);
        v->limit = v->s->vocab - 3;
    } else {
        push_spm_base(v);
        v->limit = v->s->vocab;
    }
    push_pieces(v);
    for (uint32_t i = 0; v->n < v->limit; i++) {
        char text[PIECE_BYTES];
        (void)snprintf(text, sizeof text, "<unused%u>", i);
        push(v, text, T_UNUSED);
    }
    if (v->bpe) {
        push(v, "<|endoftext|>", T_CONTROL);
        push(v, "<|im_start|>", T_CONTROL);
        push(v, "<|im_end|>", T_CONTROL);
    }
}

npumoe_status mk_put_vocab(nm_gguf_writer *w, const mk_spec *s, npumoe_error *err)
{
    const npumoe_allocator *a = nm_allocator_default();
    const uint32_t least = 400; /* bytes, single characters, specials */
    if (s->vocab < least)
        return nm_err_set(err, NPUMOE_EINVAL, "vocabulary of %u tokens; a synthetic one needs %u",
                          s->vocab, least);
    vocab v = {.s = s, .bpe = strcmp(mk_family_of(s->arch)->vocab_model, "gpt2") == 0};
    v.text = nm_alloc_array(a, s->vocab, PIECE_BYTES);
    v.merge_text = nm_alloc_array(a, s->vocab, (size_t)2 * PIECE_BYTES);
    v.token = nm_alloc_array(a, s->vocab, sizeof *v.token);
    v.merge = nm_alloc_array(a, s->vocab, sizeof *v.merge);
    v.score = nm_alloc_array(a, s->vocab, sizeof *v.score);
    v.type = nm_alloc_array(a, s->vocab, sizeof *v.type);
    npumoe_status st;
    if (!v.text || !v.merge_text || !v.token || !v.merge || !v.score || !v.type) {
        st = nm_err_nomem(err, (uint64_t)s->vocab * PIECE_BYTES * 5, "vocabulary");
    } else {
        build(&v);
        st = put_all(w, &v, err);
    }
    nm_free(a, v.text);
    nm_free(a, v.merge_text);
    nm_free(a, v.token);
    nm_free(a, v.merge);
    nm_free(a, v.score);
    nm_free(a, v.type);
    return st;
}

npumoe_status mk_vocab_count(const nm_gguf *g, uint32_t *n, npumoe_error *err)
{
    nm_gguf_array tokens;
    NM_TRY(nm_gguf_get_arr(g, "tokenizer.ggml.tokens", NM_GGUF_STRING, &tokens, err));
    *n = (uint32_t)tokens.count;
    return NPUMOE_OK;
}

npumoe_status mk_copy_vocab(nm_gguf_writer *w, const nm_gguf *g, npumoe_error *err)
{
    for (size_t i = 0; i < nm_gguf_n_kv(g); i++) {
        const nm_gguf_kv *kv = nm_gguf_kv_at(g, i);
        if (kv->key.n >= 10 && memcmp(kv->key.p, "tokenizer.", 10) == 0)
            NM_TRY(nm_gguf_put_copy(w, kv, err));
    }
    return NPUMOE_OK;
}
