/* encode.c: a text's way to tokens.
 *
 *   BOS if asked; then, piece by piece: a special token as itself, the text between special tokens
 *   through the algorithm of the vocabulary; EOS if asked.
 *
 * SentencePiece puts a space before a text, and again after each special token (as llama.cpp
 * does; Hugging Face calls this "legacy").
 *
 * Bytes without a symbol: byte tokens where the vocabulary has them; else the bytes of U+FFFD, if
 * it has those; else the unknown token; else the text cannot be encoded and the call says so.
 * Nothing is left out in silence. U+FFFD goes before the unknown token because
 * vocabularies name odd tokens unknown (GPT-NeoX's is the end of text). */
#include "model/tokenizer_priv.h"

static bool has_bytes(const nm_tokenizer *t, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (t->byte_token[(unsigned char)p[i]] < 0)
            return false;
    return true;
}

npumoe_status nm_enc_push_bytes(nm_encoder *e, const char *p, size_t n)
{
    static const char replacement[] = "\xef\xbf\xbd";
    const nm_tokenizer *t = e->t;
    if (!has_bytes(t, p, n)) {
        if (!has_bytes(t, replacement, 3)) {
            if (t->unk < 0)
                return nm_err_set(e->err, NPUMOE_ETOKEN,
                                  "the vocabulary has no token for byte 0x%02x, none for U+FFFD, "
                                  "and no unknown token",
                                  (unsigned char)p[0]);
            nm_enc_push(e, t->unk);
            return NPUMOE_OK;
        }
        p = replacement;
        n = 3;
    }
    for (size_t i = 0; i < n; i++)
        nm_enc_push(e, t->byte_token[(unsigned char)p[i]]);
    return NPUMOE_OK;
}

static bool is_ascii_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* after: the text follows a special token or begins the whole. */
static npumoe_status encode_plain(nm_encoder *e, const char *p, size_t n, bool after)
{
    if (n == 0)
        return NPUMOE_OK;
    if (e->t->spm)
        return nm_spm_encode(e, p, n, after && e->t->add_space);
    return nm_bpe_encode(e, p, n);
}

static npumoe_status encode_text(nm_encoder *e, const char *p, size_t n, bool parse_special)
{
    const nm_cutter *cutter = parse_special ? &e->t->cut_all : &e->t->cut_plain;
    size_t done = 0, at = 0, len = 0;
    bool after = true;
    for (int32_t id; (id = nm_special_find(e->t, cutter, p, n, done, &at, &len)) >= 0;) {
        NM_TRY(encode_plain(e, p + done, at - done, after));
        nm_enc_push(e, id);
        after = true;
        done = at + len;
        while (e->t->types[id] & NM_TOK_RSTRIP && done < n && is_ascii_space(p[done]))
            done++;
    }
    return encode_plain(e, p + done, n - done, after);
}

static void release(nm_encoder *e)
{
    const npumoe_allocator *a = e->t->a;
    if (e->match)
        nm_pretok_end(e);
    nm_free(a, e->sym);
    nm_free(a, e->link);
    nm_free(a, e->heap);
}

npumoe_status nm_tokenizer_encode(const nm_tokenizer *t, const char *text, size_t text_bytes,
                                  unsigned flags, npumoe_token *tokens, size_t capacity,
                                  size_t *n_tokens, npumoe_error *err)
{
    if (text_bytes > NM_TEXT_MAX_BYTES)
        return nm_err_set(err, NPUMOE_EINVAL, "a text of %zu bytes, at most %d expected",
                          text_bytes, NM_TEXT_MAX_BYTES);
    npumoe_status st = NPUMOE_OK;
    nm_encoder e = {.t = t, .tokens = tokens, .capacity = capacity, .err = err};
    if (flags & NPUMOE_TOKENIZE_ADD_SPECIAL && t->add_bos)
        nm_enc_push(&e, t->bos);
    if (text_bytes > 0) {
        if (!t->spm)
            NM_TRY_OUT(nm_pretok_begin(&e));
        NM_TRY_OUT(encode_text(&e, text, text_bytes, flags & NPUMOE_TOKENIZE_PARSE_SPECIAL));
    }
    if (flags & NPUMOE_TOKENIZE_ADD_SPECIAL && t->add_eos)
        nm_enc_push(&e, t->eos);
    if (e.n_tokens > capacity)
        st = nm_err_set(err, NPUMOE_EINVAL, "the text has %zu tokens, room for %zu", e.n_tokens,
                        capacity);
    else
        *n_tokens = e.n_tokens;
out:
    release(&e);
    return st;
}

/* BPE: a byte is at most one token, or three where U+FFFD stands for it. SentencePiece: besides, up to
 * three for a space where U+2581 is no piece, and a space after every special token. */
size_t nm_tokenizer_bound(const nm_tokenizer *t, size_t text_bytes)
{
    size_t per_byte = t->spm ? 6 : 3, extra = 8;
    bool complete = true;
    for (int i = 0; i < 256; i++)
        complete = complete && t->byte_token[i] >= 0;
    if (complete)
        per_byte = t->spm ? 6 : 1;
    return text_bytes > (SIZE_MAX - extra) / per_byte ? SIZE_MAX : text_bytes * per_byte + extra;
}
