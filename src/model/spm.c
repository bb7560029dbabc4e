/* spm.c: SentencePiece-style BPE ("tokenizer.ggml.model" = "llama").
 *
 * Symbols are characters; a space is U+2581; two neighbours merge when their joined text is a
 * piece, the best score first. No pre-tokenizer. Characters that end up outside every piece
 * become byte tokens.
 *
 * Scores become ranks and every way of cutting a piece in two becomes an entry of the pair table,
 * so that encoding is the same engine as BPE's (merge.c) and touches no string. Characters that
 * occur in pieces but are none themselves still have to merge: they get symbol ids from n_vocab up.
 *
 * Pieces that take part: normal, user-defined, unused. Not control, unknown and byte tokens: a
 * text that spells "</s>" or "<0x0A>" must not become one (SentencePiece's rule: those are no
 * pieces of its model; llama.cpp lets them in). Unused pieces are not cut again; no
 * vocabulary of the supported families has any.
 *
 * Words: where no piece holds a space after another character (true for Llama's and Phi's
 * vocabularies, checked at load) no merge can cross the place before a space, so the text is
 * merged word by word. The result is the same; the symbols stay in the cache. */
#include "model/tokenizer_priv.h"

#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>

#define SCORES  "tokenizer.ggml.scores"
#define SPACE   0x2581u
#define NO_CP   UINT32_MAX
#define NO_TEXT UINT32_MAX /* nm_sym.at of the space that is added in front */

/* ---- characters ---------------------------------------------------------------------------- */

static struct nm_cpslot *cp_probe(const nm_cpmap *m, uint32_t cp)
{
    size_t i = (cp * UINT32_C(0x9e3779b1) >> 8) & m->mask;
    while (m->slot[i].cp != cp && m->slot[i].cp != NO_CP)
        i = (i + 1) & m->mask;
    return &m->slot[i];
}

static int32_t cp_find(const nm_cpmap *m, uint32_t cp)
{
    const struct nm_cpslot *slot = cp_probe(m, cp);
    return slot->cp == NO_CP ? -1 : slot->id;
}

static npumoe_status cp_reserve(nm_tokenizer *t, size_t n, npumoe_error *err)
{
    nm_cpmap *m = &t->chars, old = *m;
    size_t cap = 16;
    while (cap / 2 < n)
        cap *= 2;
    if (old.slot && cap <= old.mask + 1)
        return NPUMOE_OK;
    struct nm_cpslot *slot = nm_realloc_array(t->a, NULL, cap, sizeof *slot);
    if (!slot)
        return nm_err_nomem(err, (uint64_t)cap * sizeof *slot, "the table of characters");
    memset(slot, 0xff, cap * sizeof *slot);
    *m = (nm_cpmap){slot, cap - 1, old.count};
    for (size_t i = 0; old.slot && i <= old.mask; i++)
        if (old.slot[i].cp != NO_CP)
            *cp_probe(m, old.slot[i].cp) = old.slot[i];
    nm_free(t->a, old.slot);
    return NPUMOE_OK;
}

static npumoe_status cp_put(nm_tokenizer *t, uint32_t cp, int32_t id, npumoe_error *err)
{
    NM_TRY(cp_reserve(t, t->chars.count + 1, err));
    *cp_probe(&t->chars, cp) = (struct nm_cpslot){cp, id};
    t->chars.count++;
    return NPUMOE_OK;
}

/* ---- loading ------------------------------------------------------------------------------- */

typedef struct scored {
    float score;
    int32_t id;
} scored;

static int by_score(const void *x, const void *y)
{
    float a = ((const scored *)x)->score, b = ((const scored *)y)->score;
    return a > b ? -1 : a < b;
}

static bool takes_part(const nm_tokenizer *t, int32_t id)
{
    unsigned type = nm_tok_type(t, id);
    nm_str s = t->texts[id];
    return s.n > 0 && (type == NM_TOK_NORMAL || type == NM_TOK_USER || type == NM_TOK_UNUSED) &&
           nm_utf8_valid(s.p, s.n) == s.n;
}

/* rank[id]: 0 for the best score; equal scores share a rank. */
static npumoe_status load_ranks(const nm_tokenizer *t, uint32_t *rank, npumoe_error *err)
{
    const nm_gguf_kv *kv = nm_gguf_find(t->g, SCORES);
    if (!kv)
        return nm_err_set(err, NPUMOE_ETOKEN, SCORES ": missing, a 'llama' tokenizer needs it");
    if (kv->kind != NM_GGUF_ARRAY ||
        (kv->v.arr.kind != NM_GGUF_F32 && kv->v.arr.kind != NM_GGUF_I32))
        return nm_err_at(err, NPUMOE_ETOKEN, kv->offset, SCORES ": expected an array of f32");
    if (kv->v.arr.count != t->n_vocab)
        return nm_err_at(err, NPUMOE_ETOKEN, kv->offset,
                         SCORES ": %llu entries, expected %u as in tokenizer.ggml.tokens",
                         (unsigned long long)kv->v.arr.count, t->n_vocab);
    scored *list = nm_alloc_array(t->a, t->n_vocab, sizeof *list);
    if (!list)
        return nm_err_nomem(err, (uint64_t)t->n_vocab * sizeof *list, "token scores");
    npumoe_status st = NPUMOE_OK;
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        float v = kv->v.arr.kind == NM_GGUF_F32 ? nm_gguf_arr_f32(&kv->v.arr, i)
                                                : (float)nm_gguf_arr_i64(&kv->v.arr, i);
        list[i] = (scored){v, (int32_t)i};
        if (isnan(v)) {
            st = nm_err_at(err, NPUMOE_ETOKEN, kv->offset, SCORES ": score %u is not a number", i);
            goto out;
        }
    }
    qsort(list, t->n_vocab, sizeof *list, by_score);
    for (uint32_t i = 0, r = 0; i < t->n_vocab; i++) {
        r += i > 0 && list[i].score < list[i - 1].score;
        rank[list[i].id] = r;
    }
out:
    nm_free(t->a, list);
    return st;
}

/* The characters of all pieces; whether words may be merged on their own. */
static npumoe_status load_chars(nm_tokenizer *t, npumoe_error *err)
{
    uint32_t cp, before;
    for (int32_t id = 0; id < (int32_t)t->n_vocab; id++) {
        nm_str s = t->texts[id];
        if (!takes_part(t, id))
            continue;
        if (s.n > NM_SPECIAL_MAX_BYTES)
            return nm_err_set(err, NPUMOE_ETOKEN,
                              "tokenizer.ggml.tokens: piece %d has %zu bytes, at most %d expected",
                              id, s.n, NM_SPECIAL_MAX_BYTES);
        if ((size_t)nm_utf8_next(s.p, s.n, &cp) == s.n)
            NM_TRY(cp_put(t, cp, id, err));
    }
    t->chunked = true;
    for (int32_t id = 0; id < (int32_t)t->n_vocab; id++) {
        nm_str s = t->texts[id];
        if (!takes_part(t, id))
            continue;
        before = SPACE;
        for (size_t i = 0; i < s.n; before = cp) {
            i += (size_t)nm_utf8_next(s.p + i, s.n - i, &cp);
            if (cp == SPACE && before != SPACE)
                t->chunked = false;
            if (cp_find(&t->chars, cp) < 0)
                NM_TRY(cp_put(t, cp, (int32_t)(t->n_vocab + t->n_extra++), err));
        }
    }
    return NPUMOE_OK;
}

/* The symbol of a part of a piece; -1 = none. */
static int32_t symbol_of(const nm_tokenizer *t, const char *p, size_t n)
{
    uint32_t cp;
    if ((size_t)nm_utf8_next(p, n, &cp) == n)
        return cp_find(&t->chars, cp);
    int32_t id = nm_tok_find_text(t, p, n);
    return id >= 0 && takes_part(t, id) ? id : -1;
}

static npumoe_status load_pairs(nm_tokenizer *t, const uint32_t *rank, npumoe_error *err)
{
    uint32_t cp;
    NM_TRY(nm_pairs_reserve(&t->pairs, t->a, t->n_vocab, err));
    for (int32_t id = 0; id < (int32_t)t->n_vocab; id++) {
        nm_str s = t->texts[id];
        if (!takes_part(t, id))
            continue;
        for (size_t cut = (size_t)nm_utf8_next(s.p, s.n, &cp); cut < s.n;
             cut += (size_t)nm_utf8_next(s.p + cut, s.n - cut, &cp)) {
            int32_t left = symbol_of(t, s.p, cut);
            int32_t right = left < 0 ? -1 : symbol_of(t, s.p + cut, s.n - cut);
            if (right >= 0)
                NM_TRY(nm_pairs_put(&t->pairs, t->a,
                                    (nm_pair){nm_pair_key(left, right), rank[id], id}, err));
        }
    }
    return NPUMOE_OK;
}

npumoe_status nm_spm_load(nm_tokenizer *t, npumoe_error *err)
{
    uint32_t *rank = nm_alloc_array(t->a, t->n_vocab, sizeof *rank);
    if (!rank)
        return nm_err_nomem(err, (uint64_t)t->n_vocab * sizeof *rank, "token ranks");
    npumoe_status st;
    NM_TRY_OUT(load_ranks(t, rank, err));
    NM_TRY_OUT(cp_reserve(t, 0, err));
    NM_TRY_OUT(load_chars(t, err));
    NM_TRY_OUT(load_pairs(t, rank, err));
out:
    nm_free(t->a, rank);
    return st;
}

/* ---- encoding ------------------------------------------------------------------------------ */

/* A character outside every piece; invalid bytes come one by one. */
static npumoe_status push_unknown(nm_encoder *e, const char *p, size_t n, uint32_t at)
{
    char mark[NM_UTF8_MAX];
    uint32_t cp;
    if (at == NO_TEXT || p[at] == ' ')
        return nm_enc_push_bytes(e, mark, nm_utf8_put(SPACE, mark));
    int len = nm_utf8_next(p + at, n - at, &cp);
    return nm_enc_push_bytes(e, p + at, len > 0 ? (size_t)len : 1);
}

static npumoe_status flush(nm_encoder *e, const char *p, size_t n)
{
    NM_TRY(nm_merge(e));
    for (size_t i = 0; i < e->n_sym; i++) {
        int32_t id = e->sym[i].id;
        if (id >= 0 && id < (int32_t)e->t->n_vocab)
            nm_enc_push(e, id);
        else
            NM_TRY(push_unknown(e, p, n, e->sym[i].at));
    }
    e->n_sym = 0;
    return NPUMOE_OK;
}

static npumoe_status add_symbol(nm_encoder *e, int32_t id, uint32_t at)
{
    NM_TRY(nm_grow(e->t->a, (void **)&e->sym, &e->sym_cap, e->n_sym + 1, sizeof *e->sym, e->err));
    e->sym[e->n_sym++] = (nm_sym){id, at};
    return NPUMOE_OK;
}

npumoe_status nm_spm_encode(nm_encoder *e, const char *p, size_t n, bool add_space)
{
    const nm_tokenizer *t = e->t;
    uint32_t cp, before = SPACE;
    e->n_sym = 0;
    if (add_space)
        NM_TRY(add_symbol(e, cp_find(&t->chars, SPACE), NO_TEXT));
    for (size_t i = 0; i < n;) {
        int len = nm_utf8_next(p + i, n - i, &cp);
        if (len <= 0)
            cp = NO_CP;
        else if (cp == ' ')
            cp = SPACE;
        if (cp == SPACE && before != SPACE && t->chunked)
            NM_TRY(flush(e, p, n));
        NM_TRY(add_symbol(e, cp == NO_CP ? -1 : cp_find(&t->chars, cp), (uint32_t)i));
        i += len > 0 ? (size_t)len : 1;
        before = cp;
    }
    return flush(e, p, n);
}
