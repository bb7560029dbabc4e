/* tokenizer.c: from metadata to a checked tokenizer.
 *
 * Keys read: tokenizer.ggml.model, .pre, .tokens, .token_type; and by the other files .merges
 * (bpe.c), .scores (spm.c), the *_token_id and add_* keys (special.c). Everything is checked here and
 * there before it is used; encoding trusts it. Facts about the families, patterns and traps:
 * docs/tokenizers.md. */
#include "model/tokenizer_priv.h"

#include <stdio.h>

#define MODEL  "tokenizer.ggml.model"
#define PRE    "tokenizer.ggml.pre"
#define TOKENS "tokenizer.ggml.tokens"
#define TYPES  "tokenizer.ggml.token_type"

npumoe_status nm_tok_bad(npumoe_error *err, npumoe_status st)
{
    if (st == NPUMOE_ENOMEM)
        return st;
    if (err)
        err->code = NPUMOE_ETOKEN;
    return NPUMOE_ETOKEN;
}

/* ---- loading ------------------------------------------------------------------------------- */

static npumoe_status load_tokens(nm_tokenizer *t, npumoe_error *err)
{
    nm_gguf_array arr;
    npumoe_status st = nm_gguf_get_arr(t->g, TOKENS, NM_GGUF_STRING, &arr, err);
    if (st == NPUMOE_ENOENT)
        return nm_err_set(err, NPUMOE_ETOKEN, TOKENS ": missing");
    if (st != NPUMOE_OK)
        return nm_tok_bad(err, st);
    if (arr.count < 1 || arr.count > INT32_MAX / 2)
        return nm_err_set(err, NPUMOE_ETOKEN, TOKENS ": %llu entries, expected 1 to %d",
                          (unsigned long long)arr.count, INT32_MAX / 2);
    t->n_vocab = (uint32_t)arr.count;
    t->texts = arr.strings;
    return NPUMOE_OK;
}

static npumoe_status load_types(nm_tokenizer *t, npumoe_error *err)
{
    t->types = nm_alloc(t->a, t->n_vocab);
    if (!t->types)
        return nm_err_nomem(err, t->n_vocab, "token types");
    memset(t->types, NM_TOK_NORMAL, t->n_vocab);
    const nm_gguf_kv *kv = nm_gguf_find(t->g, TYPES);
    if (!kv)
        return NPUMOE_OK;
    if (kv->kind != NM_GGUF_ARRAY ||
        (kv->v.arr.kind != NM_GGUF_I32 && kv->v.arr.kind != NM_GGUF_U32))
        return nm_err_at(err, NPUMOE_ETOKEN, kv->offset, TYPES ": expected an array of i32");
    if (kv->v.arr.count != t->n_vocab)
        return nm_err_at(err, NPUMOE_ETOKEN, kv->offset,
                         TYPES ": %llu entries, expected %u as in " TOKENS,
                         (unsigned long long)kv->v.arr.count, t->n_vocab);
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        int64_t v = nm_gguf_arr_i64(&kv->v.arr, i);
        if (v < 0 || v > NM_TOK_BYTE)
            return nm_err_at(err, NPUMOE_ETOKEN, kv->offset,
                             TYPES ": type %lld of token %u, expected 0 to %d", (long long)v, i,
                             NM_TOK_BYTE);
        if (v > 0) /* 0 is "undefined" */
            t->types[i] = (unsigned char)v;
    }
    return NPUMOE_OK;
}

/* The key is absent in files from before mid-2024; then the rule is llama.cpp's "default". */
static npumoe_status load_pretok(nm_tokenizer *t, npumoe_error *err)
{
    nm_str pre;
    npumoe_status st = nm_gguf_str_or(t->g, PRE, "default", &pre, err);
    if (st != NPUMOE_OK)
        return nm_tok_bad(err, st);
    NM_TRY(nm_pretok_new(pre, t->a, &t->pretok, err));
    t->ignore_merges = nm_pretok_ignores_merges(t->pretok);
    snprintf(t->kind, sizeof t->kind, "gpt2/%.*s", (int)(pre.n < 40 ? pre.n : 40), pre.p);
    return NPUMOE_OK;
}

static npumoe_status load_algorithm(nm_tokenizer *t, npumoe_error *err)
{
    if (t->spm)
        return nm_spm_load(t, err);
    NM_TRY(nm_bpe_load(t, err));
    nm_free(t->a, t->by_text.slot);
    t->by_text.slot = NULL; /* encoding looks at ids only */
    return t->ignore_merges ? nm_tok_index_pieces(t, err) : NPUMOE_OK;
}

static npumoe_status load(nm_tokenizer *t, npumoe_error *err)
{
    nm_str model;
    npumoe_status st = nm_gguf_get_str(t->g, MODEL, &model, err);
    if (st == NPUMOE_ENOENT)
        return nm_err_set(err, NPUMOE_ETOKEN, MODEL ": missing");
    if (st != NPUMOE_OK)
        return nm_tok_bad(err, st);
    t->spm = nm_str_eqz(model, "llama");
    if (!t->spm && !nm_str_eqz(model, "gpt2"))
        return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                          MODEL ": unknown tokenizer '%.*s'; there are: gpt2 llama",
                          NM_STR_ARG(model));
    snprintf(t->kind, sizeof t->kind, "llama");
    NM_TRY(load_tokens(t, err));
    NM_TRY(load_types(t, err));
    NM_TRY(nm_tok_index_texts(t, err));
    if (!t->spm)
        NM_TRY(load_pretok(t, err));
    NM_TRY(nm_special_load(t, err));
    NM_TRY(nm_tok_decode_pieces(t, err));
    nm_tok_find_bytes(t);
    return load_algorithm(t, err);
}

npumoe_status nm_tokenizer_new(const nm_gguf *g, const npumoe_allocator *a, nm_tokenizer **out,
                               npumoe_error *err)
{
    a = nm_allocator_or_default(a);
    nm_tokenizer *t = nm_zalloc(a, sizeof *t);
    if (!t)
        return nm_err_nomem(err, sizeof *t, "the tokenizer");
    t->a = a;
    t->g = g;
    npumoe_status st = load(t, err);
    if (st == NPUMOE_OK)
        *out = t;
    else
        nm_tokenizer_free(&t);
    return st;
}

void nm_tokenizer_free(nm_tokenizer **t)
{
    if (!*t)
        return;
    const npumoe_allocator *a = (*t)->a;
    nm_special_free(*t);
    nm_pretok_free(&(*t)->pretok);
    nm_free(a, (*t)->types);
    nm_free(a, (*t)->piece_at);
    nm_free(a, (*t)->pieces);
    nm_free(a, (*t)->by_text.slot);
    nm_free(a, (*t)->by_piece.slot);
    nm_free(a, (*t)->pairs.slot);
    nm_free(a, (*t)->chars.slot);
    nm_free(a, *t);
    *t = NULL;
}

/* ---- accessors ----------------------------------------------------------------------------- */

uint32_t nm_tokenizer_n_vocab(const nm_tokenizer *t)
{
    return t->n_vocab;
}

const char *nm_tokenizer_kind(const nm_tokenizer *t)
{
    return t->kind;
}

nm_str nm_tokenizer_bytes(const nm_tokenizer *t, npumoe_token token, bool special)
{
    if (token < 0 || (uint32_t)token >= t->n_vocab)
        return (nm_str){NULL, 0};
    unsigned type = nm_tok_type(t, token);
    if (!special && (type == NM_TOK_CONTROL || type == NM_TOK_UNKNOWN))
        return (nm_str){NULL, 0};
    return nm_tok_piece(t, token);
}

npumoe_token nm_tokenizer_bos(const nm_tokenizer *t)
{
    return t->bos;
}

npumoe_token nm_tokenizer_eos(const nm_tokenizer *t)
{
    return t->eos;
}

bool nm_tokenizer_is_end(const nm_tokenizer *t, npumoe_token token)
{
    return token >= 0 && (uint32_t)token < t->n_vocab && t->types[token] & NM_TOK_END;
}

bool nm_tokenizer_is_control(const nm_tokenizer *t, npumoe_token token)
{
    return token >= 0 && (uint32_t)token < t->n_vocab && nm_tok_type(t, token) == NM_TOK_CONTROL;
}

bool nm_tokenizer_drops_space(const nm_tokenizer *t)
{
    return t->add_space;
}
