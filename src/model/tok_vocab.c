/* tok_vocab.c: the tokens' texts.
 *
 * A token has a text (as the file writes it) and a piece (the bytes it stands for). For byte-level
 * BPE the text is in GPT-2's alphabet, which gives each of the 256 bytes a printable character:
 * those in 21..7e, a1..ac, ae..ff stand for themselves, the other 68 take U+0100 onward in order
 * (so a space is U+0120). For SentencePiece a space is written U+2581. User-defined and control
 * tokens are plain text in both.
 *
 * Pieces are decoded once into one pool: detokenising must hand out borrowed bytes, and 4 bytes of
 * offset plus the piece cost less than a view per token. The map from text to id holds only ids
 * and compares with the file's own strings. */
#include "model/tokenizer_priv.h"

#include "base/num.h"
#include "base/utf8.h"

#include <stdlib.h>

#define SPACE_MARK       "\xe2\x96\x81" /* U+2581 */
#define SPACE_MARK_BYTES 3

/* ---- hash map ------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    return h ^ h >> 32;
}

uint64_t nm_tok_hash(const char *p, size_t n)
{
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ n, word;
    for (; n >= sizeof word; n -= sizeof word, p += sizeof word) {
        memcpy(&word, p, sizeof word);
        h = mix(h ^ word);
    }
    word = 0;
    if (n)
        memcpy(&word, p, n);
    return mix(h ^ word);
}

/* At most half full, so that a miss ends soon. */
static npumoe_status idmap_init(nm_idmap *m, const npumoe_allocator *a, size_t n, npumoe_error *err)
{
    size_t cap = 16;
    while (cap / 2 < n)
        cap *= 2;
    m->slot = nm_realloc_array(a, NULL, cap, sizeof *m->slot);
    if (!m->slot)
        return nm_err_nomem(err, (uint64_t)cap * sizeof *m->slot, "the vocabulary's index");
    memset(m->slot, 0xff, cap * sizeof *m->slot);
    m->mask = cap - 1;
    return NPUMOE_OK;
}

static nm_str text_of(const nm_tokenizer *t, int32_t id)
{
    return t->texts[id];
}

/* The slot that holds the string, or the free one where it would go. */
static size_t idmap_probe(const nm_tokenizer *t, const nm_idmap *m, nm_str s,
                          nm_str (*get)(const nm_tokenizer *, int32_t))
{
    size_t i = (size_t)nm_tok_hash(s.p, s.n) & m->mask;
    while (m->slot[i] >= 0 && !nm_str_eq(get(t, m->slot[i]), s))
        i = (i + 1) & m->mask;
    return i;
}

npumoe_status nm_tok_index_texts(nm_tokenizer *t, npumoe_error *err)
{
    NM_TRY(idmap_init(&t->by_text, t->a, t->n_vocab, err));
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        nm_str s = t->texts[id];
        if (s.n > NM_TOKEN_MAX_BYTES)
            return nm_err_set(err, NPUMOE_ETOKEN,
                              "tokenizer.ggml.tokens: token %u has %zu bytes, at most %d expected",
                              id, s.n, NM_TOKEN_MAX_BYTES);
        if (s.n == 0)
            continue; /* a hole in the vocabulary: never found, stands for nothing */
        size_t i = idmap_probe(t, &t->by_text, s, text_of);
        if (t->by_text.slot[i] >= 0)
            return nm_err_set(err, NPUMOE_ETOKEN,
                              "tokenizer.ggml.tokens: tokens %d and %u are both '%.*s'",
                              t->by_text.slot[i], id, NM_STR_ARG(s));
        t->by_text.slot[i] = (int32_t)id;
    }
    return NPUMOE_OK;
}

/* Where two ordinary tokens stand for the same bytes the first is found. */
npumoe_status nm_tok_index_pieces(nm_tokenizer *t, npumoe_error *err)
{
    NM_TRY(idmap_init(&t->by_piece, t->a, t->n_vocab, err));
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        nm_str s = nm_tok_piece(t, (int32_t)id);
        if (s.n == 0 || nm_tok_type(t, (int32_t)id) != NM_TOK_NORMAL)
            continue;
        size_t i = idmap_probe(t, &t->by_piece, s, nm_tok_piece);
        if (t->by_piece.slot[i] < 0)
            t->by_piece.slot[i] = (int32_t)id;
    }
    return NPUMOE_OK;
}

int32_t nm_tok_find_text(const nm_tokenizer *t, const char *p, size_t n)
{
    if (n == 0)
        return -1;
    return t->by_text.slot[idmap_probe(t, &t->by_text, (nm_str){p, n}, text_of)];
}

int32_t nm_tok_find_piece(const nm_tokenizer *t, const char *p, size_t n)
{
    return t->by_piece.slot[idmap_probe(t, &t->by_piece, (nm_str){p, n}, nm_tok_piece)];
}

/* ---- pieces -------------------------------------------------------------------------------- */

static bool byte_is_itself(unsigned b)
{
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

/* GPT-2's alphabet: the code point of each byte. */
static void alphabet(uint32_t cp_of[256])
{
    uint32_t next = 0x100;
    for (unsigned b = 0; b < 256; b++)
        cp_of[b] = byte_is_itself(b) ? b : next++;
}

/* Decodes a text in GPT-2's alphabet; false when it has any other character. */
static bool decode_alphabet(nm_str s, const int16_t byte_of[0x144], char *out, size_t *n_out)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        int len = nm_utf8_next(s.p + i, s.n - i, &cp);
        if (len <= 0 || cp >= 0x144 || byte_of[cp] < 0)
            return false;
        out[n++] = (char)byte_of[cp];
        i += (size_t)len;
    }
    *n_out = n;
    return true;
}

static size_t decode_spaces(nm_str s, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n;) {
        if (s.n - i >= SPACE_MARK_BYTES && memcmp(s.p + i, SPACE_MARK, SPACE_MARK_BYTES) == 0) {
            out[n++] = ' ';
            i += SPACE_MARK_BYTES;
        } else {
            out[n++] = s.p[i++];
        }
    }
    return n;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* "<0x0A>" -> 10; -1 for anything else. */
static int byte_of_text(nm_str s)
{
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>')
        return -1;
    int hi = hex_digit(s.p[3]), lo = hex_digit(s.p[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

static npumoe_status decode_piece(const nm_tokenizer *t, uint32_t id, const int16_t *byte_of,
                                  char *out, size_t *n, npumoe_error *err)
{
    nm_str s = t->texts[id];
    unsigned type = nm_tok_type(t, (int32_t)id);
    if (type == NM_TOK_BYTE) {
        int b = byte_of_text(s);
        if (b < 0)
            return nm_err_set(err, NPUMOE_ETOKEN,
                              "tokenizer.ggml.tokens: byte token %u is '%.*s', expected '<0xHH>'",
                              id, NM_STR_ARG(s));
        out[0] = (char)b;
        *n = 1;
        return NPUMOE_OK;
    }
    bool ordinary = type == NM_TOK_NORMAL || type == NM_TOK_UNUSED;
    if (ordinary && t->spm) {
        *n = decode_spaces(s, out);
    } else if (!ordinary || !decode_alphabet(s, byte_of, out, n)) {
        if (s.n)
            memcpy(out, s.p, s.n);
        *n = s.n;
    }
    return NPUMOE_OK;
}

npumoe_status nm_tok_decode_pieces(nm_tokenizer *t, npumoe_error *err)
{
    uint64_t total = 0; /* a piece is never longer than its text */
    for (uint32_t id = 0; id < t->n_vocab; id++)
        total += t->texts[id].n;
    if (total > UINT32_MAX)
        return nm_err_set(err, NPUMOE_ETOKEN,
                          "tokenizer.ggml.tokens: %llu bytes in all, less than 4 GiB expected",
                          (unsigned long long)total);
    t->pieces = nm_alloc(t->a, (size_t)total);
    t->piece_at = nm_alloc_array(t->a, (size_t)t->n_vocab + 1, sizeof *t->piece_at);
    if (!t->pieces || !t->piece_at)
        return nm_err_nomem(err, total + 4 * (uint64_t)t->n_vocab, "the tokens' bytes");
    uint32_t cp_of[256];
    int16_t byte_of[0x144];
    alphabet(cp_of);
    memset(byte_of, 0xff, sizeof byte_of);
    for (unsigned b = 0; b < 256; b++)
        byte_of[cp_of[b]] = (int16_t)b;
    uint32_t at = 0;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        size_t n = 0;
        NM_TRY(decode_piece(t, id, byte_of, t->pieces + at, &n, err));
        at += (uint32_t)n;
        t->piece_at[id + 1] = at;
        t->max_piece_bytes = nm_max_size(t->max_piece_bytes, n);
    }
    return NPUMOE_OK;
}

/* ---- byte tokens --------------------------------------------------------------------------- */

static bool is_byte(const nm_tokenizer *t, int32_t id, unsigned byte)
{
    nm_str s = nm_tok_piece(t, id);
    unsigned type = nm_tok_type(t, id);
    return s.n == 1 && (unsigned char)s.p[0] == byte && type != NM_TOK_CONTROL &&
           type != NM_TOK_UNKNOWN;
}

/* The symbol of each byte, -1 where the vocabulary has none. It must decode to just this byte:
 * deepseek-llm has a user-defined token U+00F8 that in GPT-2's alphabet would be byte f8 but
 * stands for the letter. A vocabulary that lacks bytes is legal; encode.c says what then happens. */
void nm_tok_find_bytes(nm_tokenizer *t)
{
    memset(t->byte_token, 0xff, sizeof t->byte_token);
    uint32_t cp_of[256];
    alphabet(cp_of);
    for (unsigned b = 0; b < 256 && !t->spm; b++) {
        char text[NM_UTF8_MAX];
        int32_t id = nm_tok_find_text(t, text, nm_utf8_put(cp_of[b], text));
        if (id >= 0 && is_byte(t, id, b))
            t->byte_token[b] = id;
    }
    /* Then byte tokens; then any token of one byte. */
    for (int any = 0; any < 2; any++) {
        for (int32_t id = 0; id < (int32_t)t->n_vocab; id++) {
            nm_str s = nm_tok_piece(t, id);
            if (s.n != 1 || (!any && nm_tok_type(t, id) != NM_TOK_BYTE))
                continue;
            unsigned b = (unsigned char)s.p[0];
            if (t->byte_token[b] < 0 && is_byte(t, id, b))
                t->byte_token[b] = id;
        }
    }
}
