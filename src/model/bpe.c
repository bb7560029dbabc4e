/* bpe.c: byte-level BPE ("tokenizer.ggml.model" = "gpt2").
 *
 * The text is cut into words by the pre-tokenizer (pretok.c); each byte of a word is a symbol; then
 * merges by rank (merge.c). The file lists merges as strings "left right"; they are turned into a
 * table (left id, right id) -> (rank, merged id) at load, so encoding touches no string.
 *
 * Bytes that are no UTF-8 belong to no pattern. A run of them is a word of its own, so every byte
 * string survives a round trip wherever the vocabulary has a token for each of its bytes. (Most
 * engines put U+FFFD there, which loses the bytes.) The valid stretches between are cut as texts of
 * their own. */
#include "model/tokenizer_priv.h"

#include "base/utf8.h"

#define MERGES "tokenizer.ggml.merges"

/* ---- loading ------------------------------------------------------------------------------- */

/* "left right"; a space at the very beginning belongs to left. */
static npumoe_status load_merge(nm_tokenizer *t, nm_str s, uint32_t rank, char *joined,
                                npumoe_error *err)
{
    const char *space = s.n > 1 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
    size_t n_left = space ? (size_t)(space - s.p) : 0;
    size_t n_right = space ? s.n - n_left - 1 : 0;
    if (n_right == 0 || n_left + n_right > NM_TOKEN_MAX_BYTES)
        return nm_err_set(err, NPUMOE_ETOKEN,
                          MERGES ": merge %u is '%.*s', expected two tokens with a space between",
                          rank, NM_STR_ARG(s));
    memcpy(joined, s.p, n_left);
    memcpy(joined + n_left, space + 1, n_right);
    nm_str part[3] = {{s.p, n_left}, {space + 1, n_right}, {joined, n_left + n_right}};
    int32_t id[3];
    for (int i = 0; i < 3; i++) {
        id[i] = nm_tok_find_text(t, part[i].p, part[i].n);
        if (id[i] < 0)
            return nm_err_set(err, NPUMOE_ETOKEN,
                              MERGES ": merge %u ('%.*s') needs '%.*s', which is no token", rank,
                              NM_STR_ARG(s), NM_STR_ARG(part[i]));
    }
    return nm_pairs_put(&t->pairs, t->a, (nm_pair){nm_pair_key(id[0], id[1]), rank, id[2]}, err);
}

npumoe_status nm_bpe_load(nm_tokenizer *t, npumoe_error *err)
{
    nm_gguf_array merges;
    npumoe_status st = nm_gguf_get_arr(t->g, MERGES, NM_GGUF_STRING, &merges, err);
    if (st == NPUMOE_ENOENT)
        return nm_err_set(err, NPUMOE_ETOKEN, MERGES ": missing, a 'gpt2' tokenizer needs it");
    if (st != NPUMOE_OK)
        return nm_tok_bad(err, st);
    if (merges.count >= UINT32_MAX)
        return nm_err_set(err, NPUMOE_ETOKEN, MERGES ": %llu entries, fewer than 2^32 expected",
                          (unsigned long long)merges.count);
    NM_TRY(nm_pairs_reserve(&t->pairs, t->a, (size_t)merges.count, err));
    char *joined = nm_alloc(t->a, NM_TOKEN_MAX_BYTES);
    if (!joined)
        return nm_err_nomem(err, NM_TOKEN_MAX_BYTES, "a merge");
    for (uint32_t i = 0; i < merges.count && st == NPUMOE_OK; i++)
        st = load_merge(t, merges.strings[i], i, joined, err);
    nm_free(t->a, joined);
    return st;
}

/* ---- encoding ------------------------------------------------------------------------------ */

npumoe_status nm_bpe_word(nm_encoder *e, const char *p, size_t n)
{
    const nm_tokenizer *t = e->t;
    if (t->ignore_merges && n <= t->max_piece_bytes) {
        int32_t id = nm_tok_find_piece(t, p, n);
        if (id >= 0) {
            nm_enc_push(e, id);
            return NPUMOE_OK;
        }
    }
    NM_TRY(nm_grow(t->a, (void **)&e->sym, &e->sym_cap, n, sizeof *e->sym, e->err));
    for (size_t i = 0; i < n; i++)
        e->sym[i] = (nm_sym){t->byte_token[(unsigned char)p[i]], (uint32_t)i};
    e->n_sym = n;
    NM_TRY(nm_merge(e));
    for (size_t i = 0; i < e->n_sym; i++) {
        if (e->sym[i].id >= 0)
            nm_enc_push(e, e->sym[i].id);
        else
            NM_TRY(nm_enc_push_bytes(e, p + e->sym[i].at, 1));
    }
    return NPUMOE_OK;
}

npumoe_status nm_bpe_encode(nm_encoder *e, const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t good = nm_utf8_valid(p + i, n - i);
        if (good)
            NM_TRY(nm_pretok_split(e, p + i, good));
        i += good;
        size_t bad = i;
        uint32_t cp;
        while (bad < n && nm_utf8_next(p + bad, n - bad, &cp) <= 0)
            bad++;
        if (bad > i)
            NM_TRY(nm_bpe_word(e, p + i, bad - i));
        i = bad;
    }
    return NPUMOE_OK;
}
