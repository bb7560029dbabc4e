/* tokenizer_priv.h: what the files of the tokenizer share; nobody else includes it.
 *
 *   tokenizer.c     metadata -> checked nm_tokenizer; the accessors
 *   tok_vocab.c     token texts: hash map, the bytes each token stands for, byte tokens
 *   special.c       which tokens are special, and the cutter that finds them in a text
 *   pretok.c        the table of pre-tokenizers; runs their steps (PCRE2 or hand-written)
 *   pretok_fast.c   the hand-written splitters
 *   merge.c         the merge engine that BPE and SentencePiece share
 *   bpe.c, spm.c    the two algorithms: their tables and their symbols
 *   encode.c        a text's way through all of these
 *   detok.c         back to text, streaming
 *
 * Invariants of an nm_tokenizer
 *   - 1 <= n_vocab < 2^31; texts[] are views into the GGUF, unique, each <= NM_TOKEN_MAX_BYTES
 *   - every id stored anywhere (bos .. byte_token[], pairs) is -1 or below n_vocab + n_extra
 *   - nothing changes after nm_tokenizer_new() returned */
#ifndef NM_MODEL_TOKENIZER_PRIV_H
#define NM_MODEL_TOKENIZER_PRIV_H

#include "model/tokenizer.h"

#define NM_TOKEN_MAX_BYTES 65535 /* of one token's text */
#define NM_SPECIAL_MAX_BYTES \
    1024 /* of a special token, and of a SentencePiece piece: these
                                      bound the work per byte of text */
#define NM_TEXT_MAX_BYTES INT32_MAX

typedef struct nm_pretok nm_pretok; /* a pre-tokenizer with its compiled patterns (pretok.c) */

/* ---- vocabulary ---------------------------------------------------------------------------- */

/* llama.cpp's numbers; they are in files (tokenizer.ggml.token_type). */
enum {
    NM_TOK_NORMAL = 1,
    NM_TOK_UNKNOWN = 2,
    NM_TOK_CONTROL = 3,
    NM_TOK_USER = 4,
    NM_TOK_UNUSED = 5,
    NM_TOK_BYTE = 6,
    NM_TOK_TYPE_MASK = 0x0f,
    NM_TOK_END = 0x10,   /* ends a generation */
    NM_TOK_RSTRIP = 0x20 /* swallows white space after it */
};

/* Open addressing, linear probing; -1 = free. Which text an id stands for is the owner's. */
typedef struct nm_idmap {
    int32_t *slot;
    size_t mask;
} nm_idmap;

/* Code point -> symbol id, for SentencePiece's first symbols. cp UINT32_MAX = free. */
typedef struct nm_cpmap {
    struct nm_cpslot {
        uint32_t cp;
        int32_t id;
    } * slot;
    size_t mask, count;
} nm_cpmap;

/* Two neighbouring symbols that may become one. Lowest rank first. key: left << 32 | right. */
typedef struct nm_pair {
    uint64_t key; /* NM_PAIR_FREE = free slot */
    uint32_t rank;
    int32_t merged;
} nm_pair;

#define NM_PAIR_FREE UINT64_MAX

static inline uint64_t nm_pair_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

typedef struct nm_pairs {
    nm_pair *slot;
    size_t mask, count;
} nm_pairs;

/* Tokens that are looked for in the text itself: ids sorted by their bytes, and where each first
 * byte begins among them. */
typedef struct nm_cutter {
    int32_t *ids;
    uint32_t first[257];
} nm_cutter;

struct nm_tokenizer {
    const npumoe_allocator *a;
    const nm_gguf *g;
    bool spm;
    bool add_bos, add_eos, add_space, ignore_merges;
    bool chunked; /* spm: no piece holds a space after another character (spm.c) */
    char kind[64];

    uint32_t n_vocab;
    const nm_str *texts;
    unsigned char *types; /* n_vocab: NM_TOK_* type and flags */
    uint32_t *piece_at;   /* n_vocab + 1 offsets into pieces */
    char *pieces;         /* the bytes tokens stand for, one after another */
    size_t max_piece_bytes;
    nm_idmap by_text;  /* of texts; only while loading for bpe */
    nm_idmap by_piece; /* of pieces of ordinary tokens; only with ignore_merges */
    int32_t byte_token[256];
    int32_t bos, eos, unk;

    nm_pairs pairs;
    nm_cpmap chars;   /* spm */
    uint32_t n_extra; /* spm: characters that are symbols, not tokens: ids from n_vocab up */

    nm_pretok *pretok;            /* bpe */
    nm_cutter cut_plain, cut_all; /* user-defined tokens; control tokens as well */
};

/* tokenizer.c: the reader's errors about a key (wrong kind) become ETOKEN. */
npumoe_status nm_tok_bad(npumoe_error *err, npumoe_status st);

/* tok_vocab.c */
uint64_t nm_tok_hash(const char *p, size_t n);
npumoe_status nm_tok_index_texts(nm_tokenizer *t, npumoe_error *err);
npumoe_status nm_tok_index_pieces(nm_tokenizer *t, npumoe_error *err);
int32_t nm_tok_find_text(const nm_tokenizer *t, const char *p, size_t n);
int32_t nm_tok_find_piece(const nm_tokenizer *t, const char *p, size_t n);
npumoe_status nm_tok_decode_pieces(nm_tokenizer *t, npumoe_error *err);
void nm_tok_find_bytes(nm_tokenizer *t);

static inline unsigned nm_tok_type(const nm_tokenizer *t, int32_t id)
{
    return t->types[id] & NM_TOK_TYPE_MASK;
}

static inline nm_str nm_tok_piece(const nm_tokenizer *t, int32_t id)
{
    return (nm_str){t->pieces + t->piece_at[id], t->piece_at[id + 1] - t->piece_at[id]};
}

/* ---- encoding ------------------------------------------------------------------------------- */

/* id -1 = nothing to merge with. at: where its first byte is in the text (spm). */
typedef struct nm_sym {
    int32_t id;
    uint32_t at;
} nm_sym;

/* One encode call: its output, and the scratch memory that grows to the longest word. */
typedef struct nm_encoder {
    const nm_tokenizer *t;
    npumoe_token *tokens;
    size_t capacity, n_tokens; /* n_tokens goes on counting past capacity */
    npumoe_error *err;
    nm_sym *sym; /* symbols of the word at hand */
    size_t n_sym, sym_cap;
    struct nm_link *link; /* merge.c */
    size_t link_cap;
    uint64_t *heap;
    size_t heap_cap;
    void *match; /* pretok.c: pcre2_match_data */
    void *match_ctx;
} nm_encoder;

static inline void nm_enc_push(nm_encoder *e, int32_t id)
{
    if (e->n_tokens < e->capacity)
        e->tokens[e->n_tokens] = id;
    e->n_tokens++;
}

/* A byte or character that no symbol covers: byte tokens, or what stands for them (encode.c). */
npumoe_status nm_enc_push_bytes(nm_encoder *e, const char *p, size_t n);

/* merge.c */
npumoe_status nm_pairs_reserve(nm_pairs *p, const npumoe_allocator *a, size_t n, npumoe_error *err);
/* The first entry of a pair wins. */
npumoe_status nm_pairs_put(nm_pairs *p, const npumoe_allocator *a, nm_pair pair, npumoe_error *err);
/* Merges e->sym[0..n_sym) as far as the pairs go; n_sym shrinks. */
npumoe_status nm_merge(nm_encoder *e);

/* bpe.c */
npumoe_status nm_bpe_load(nm_tokenizer *t, npumoe_error *err);
npumoe_status nm_bpe_word(nm_encoder *e, const char *p, size_t n);
npumoe_status nm_bpe_encode(nm_encoder *e, const char *p, size_t n);

/* spm.c */
npumoe_status nm_spm_load(nm_tokenizer *t, npumoe_error *err);
npumoe_status nm_spm_encode(nm_encoder *e, const char *p, size_t n, bool add_space);

/* special.c */
npumoe_status nm_special_load(nm_tokenizer *t, npumoe_error *err);
void nm_special_free(nm_tokenizer *t);
/* The first special token at or after from: its id, place and length; -1 = none. */
int32_t nm_special_find(const nm_tokenizer *t, const nm_cutter *c, const char *p, size_t n,
                        size_t from, size_t *at, size_t *len);

/* pretok.c */
npumoe_status nm_pretok_new(nm_str name, const npumoe_allocator *a, nm_pretok **out,
                            npumoe_error *err);
void nm_pretok_free(nm_pretok **p);
bool nm_pretok_ignores_merges(const nm_pretok *p);
bool nm_pretok_adds_bos(const nm_pretok *p);
npumoe_status nm_pretok_begin(nm_encoder *e);
void nm_pretok_end(nm_encoder *e);
/* Cuts valid UTF-8 into words and hands each to nm_bpe_word. */
npumoe_status nm_pretok_split(nm_encoder *e, const char *p, size_t n);

/* pretok_fast.c: bytes of the first word of a valid, non-empty text. */
typedef size_t (*nm_split_fn)(const char *p, size_t n);
size_t nm_split_gpt2(const char *p, size_t n);
size_t nm_split_digit(const char *p, size_t n);  /* single \p{N}, or all up to the next one */
size_t nm_split_cl100k(const char *p, size_t n); /* digits by three */
size_t nm_split_qwen2(const char *p, size_t n);  /* digits one by one */
size_t nm_split_qwen35(const char *p, size_t n); /* marks count as letters */

#endif
