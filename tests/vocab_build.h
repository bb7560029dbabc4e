/* vocab_build.h: a GGUF file in memory that holds a vocabulary, for tests and fuzz targets.
 *
 *   vocab_spec s = {.model = "gpt2", .pre = "gpt-2", .tokens = list, .n_tokens = 3, ...};
 *   gb_bytes file = vocab_build(&s);
 *
 * A NULL field is a key that is left out; n_types and the like exist so that a test can give an
 * array the wrong length. */
#ifndef VOCAB_BUILD_H
#define VOCAB_BUILD_H

#include "gguf_build.h"

#include <stdbool.h>

enum { VB_U32 = 4, VB_I32 = 5, VB_F32 = 6, VB_BOOL = 7, VB_STR = 8, VB_ARR = 9 };

typedef struct vocab_spec {
    const char *model, *pre, *name;
    const char *const *tokens;
    size_t n_tokens;
    const int32_t *types;
    size_t n_types;
    const char *const *merges;
    size_t n_merges;
    const float *scores;
    size_t n_scores;
    int32_t bos, eos, unk, eot;               /* 0 = no key; else the id + 1 */
    int add_bos, add_eos, add_space;          /* 0 = no key; 1 = false; 2 = true */
    int tokens_kind, types_kind, scores_kind; /* 0 = the right kind of element */
} vocab_spec;

static inline void vb_key(gb_bytes *b, uint64_t *n, const char *key, uint64_t kind)
{
    gb_int(b, strlen(key), 8);
    gb_add(b, key, strlen(key));
    gb_int(b, kind, 4);
    ++*n;
}

static inline void vb_text(gb_bytes *b, const char *text)
{
    gb_int(b, strlen(text), 8);
    if (*text)
        gb_add(b, text, strlen(text));
}

static inline void vb_str(gb_bytes *b, uint64_t *n, const char *key, const char *v)
{
    if (!v)
        return;
    vb_key(b, n, key, VB_STR);
    vb_text(b, v);
}

static inline void vb_id(gb_bytes *b, uint64_t *n, const char *key, int32_t id_plus_1)
{
    if (!id_plus_1)
        return;
    vb_key(b, n, key, VB_U32);
    gb_int(b, (uint64_t)(id_plus_1 - 1), 4);
}

static inline void vb_bool(gb_bytes *b, uint64_t *n, const char *key, int v)
{
    if (!v)
        return;
    vb_key(b, n, key, VB_BOOL);
    gb_int(b, (uint64_t)(v - 1), 1);
}

static inline void vb_strings(gb_bytes *b, uint64_t *n, const char *key, const char *const *v,
                              size_t count)
{
    if (!v)
        return;
    vb_key(b, n, key, VB_ARR);
    gb_int(b, VB_STR, 4);
    gb_int(b, count, 8);
    for (size_t i = 0; i < count; i++)
        vb_text(b, v[i]);
}

static inline void vb_words(gb_bytes *b, uint64_t *n, const char *key, int kind, const void *v,
                            size_t count)
{
    if (!v)
        return;
    vb_key(b, n, key, VB_ARR);
    gb_int(b, (uint64_t)kind, 4);
    gb_int(b, count, 8);
    gb_add(b, v, count * 4);
}

static inline gb_bytes vocab_build(const vocab_spec *s)
{
    gb_bytes b = {NULL, 0};
    uint64_t n = 0;
    gb_add(&b, "GGUF", 4);
    gb_int(&b, 3, 4);
    gb_int(&b, 0, 8);
    gb_int(&b, 0, 8); /* number of keys: filled in below */
    vb_str(&b, &n, "general.name", s->name);
    vb_str(&b, &n, "tokenizer.ggml.model", s->model);
    vb_str(&b, &n, "tokenizer.ggml.pre", s->pre);
    if (s->tokens_kind)
        vb_words(&b, &n, "tokenizer.ggml.tokens", s->tokens_kind, s->scores, s->n_scores);
    else
        vb_strings(&b, &n, "tokenizer.ggml.tokens", s->tokens, s->n_tokens);
    vb_words(&b, &n, "tokenizer.ggml.token_type", s->types_kind ? s->types_kind : VB_I32, s->types,
             s->n_types);
    vb_strings(&b, &n, "tokenizer.ggml.merges", s->merges, s->n_merges);
    vb_words(&b, &n, "tokenizer.ggml.scores", s->scores_kind ? s->scores_kind : VB_F32, s->scores,
             s->n_scores);
    vb_id(&b, &n, "tokenizer.ggml.bos_token_id", s->bos);
    vb_id(&b, &n, "tokenizer.ggml.eos_token_id", s->eos);
    vb_id(&b, &n, "tokenizer.ggml.unknown_token_id", s->unk);
    vb_id(&b, &n, "tokenizer.ggml.eot_token_id", s->eot);
    vb_bool(&b, &n, "tokenizer.ggml.add_bos_token", s->add_bos);
    vb_bool(&b, &n, "tokenizer.ggml.add_eos_token", s->add_eos);
    vb_bool(&b, &n, "tokenizer.ggml.add_space_prefix", s->add_space);
    for (size_t i = 0; i < 8; i++)
        b.p[16 + i] = (unsigned char)(n >> (8 * i));
    return b;
}

/* ---- a byte-level alphabet -------------------------------------------------------------------- */

/* GPT-2's characters for the bytes 0 to 255, zero-terminated. */
static inline void vb_alphabet(char text[256][4])
{
    unsigned next = 0x100;
    for (unsigned b = 0; b < 256; b++) {
        bool itself = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        unsigned cp = itself ? b : next++;
        if (cp < 0x80) {
            text[b][0] = (char)cp;
            text[b][1] = '\0';
        } else {
            text[b][0] = (char)(0xc0 | cp >> 6);
            text[b][1] = (char)(0x80 | (cp & 0x3f));
            text[b][2] = '\0';
        }
    }
}

#endif
