/* The tokenizer's rules on small vocabularies made here. Real ones: test_tokenizer_vocab.c; broken
 * ones: test_tokenizer_bad.c.
 *
 * Merging is held against a naive version that joins strings in plain sight, on random vocabularies
 * and texts, short and long: it shares nothing with the table, the scan and the heap. */
#include "base/utf8.h"
#include "model/pretok_tables.h"

#include "tap.h"
#include "vocab_build.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define SEED 20261121

static uint64_t rng = SEED;

static unsigned below(unsigned n)
{
    rng ^= rng << 13; /* xorshift64 */
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (unsigned)((rng >> 11) % n);
}

/* ---- a vocabulary that is open ---------------------------------------------------------------- */

typedef struct opened {
    gb_bytes file;
    nm_gguf *g;
    nm_tokenizer *t;
} opened;

static opened open_vocab(const vocab_spec *s)
{
    opened o = {vocab_build(s), NULL, NULL};
    npumoe_error err;
    if (nm_gguf_open_memory(o.file.p, o.file.n, "test", NULL, &o.g, &err) != NPUMOE_OK ||
        nm_tokenizer_new(o.g, NULL, &o.t, &err) != NPUMOE_OK)
        bail("%s", err.message);
    return o;
}

static void close_vocab(opened *o)
{
    nm_tokenizer_free(&o->t);
    nm_gguf_free(&o->g);
    gb_free(&o->file);
}

/* The ids as text: "5 7 1". */
static const char *ids_of(const nm_tokenizer *t, const char *text, size_t n, unsigned flags)
{
    static char out[4096];
    npumoe_token ids[512];
    npumoe_error err;
    size_t n_ids = 0, at = 0;
    if (nm_tokenizer_encode(t, text, n, flags, ids, 512, &n_ids, &err) != NPUMOE_OK) {
        snprintf(out, sizeof out, "error: %s", err.message);
        return out;
    }
    out[0] = '\0';
    for (size_t i = 0; i < n_ids && at < sizeof out - 16; i++)
        at += (size_t)snprintf(out + at, sizeof out - at, "%s%d", i ? " " : "", ids[i]);
    return out;
}

#define ids_are(t, text, flags, want) \
    is_str(ids_of((t), (text), strlen(text), (flags)), (want), "ids of '%s', flags %d", text, flags)

/* ---- byte-level BPE ---------------------------------------------------------------------------- */

enum { HE = 256, LL, HELL, HELLO, SP_W, AB, BC, SPECIAL, TURN, TURNS, TAG, N_BPE };

static char alphabet[256][4];

static opened open_bpe(const char *pre, int add_bos, int add_eos)
{
    static const char *tokens[N_BPE] = {
        [HE] = "he",        [LL] = "ll",         [HELL] = "hell", [HELLO] = "hello",
        [SP_W] = "\u0120w", [AB] = "ab",         [BC] = "bc",     [SPECIAL] = "<s>",
        [TURN] = "<turn>",  [TURNS] = "<turn>>", [TAG] = "<tag>"};
    static const char *const merges[] = {"h e", "l l", "he ll", "hell o", "\u0120 w", "b c", "a b"};
    static int32_t types[N_BPE];
    for (int i = 0; i < 256; i++)
        tokens[i] = alphabet[i];
    for (int i = 0; i < N_BPE; i++)
        types[i] = i < SPECIAL ? NM_TOK_NORMAL : i == TAG ? NM_TOK_USER : NM_TOK_CONTROL;
    vocab_spec s = {.model = "gpt2",
                    .pre = pre,
                    .tokens = tokens,
                    .n_tokens = N_BPE,
                    .types = types,
                    .n_types = N_BPE,
                    .merges = merges,
                    .n_merges = 7,
                    .bos = SPECIAL + 1,
                    .eos = TURN + 1,
                    .add_bos = add_bos,
                    .add_eos = add_eos};
    return open_vocab(&s);
}

static void test_bpe(void)
{
    opened o = open_bpe("gpt-2", 0, 0);
    is_str(nm_tokenizer_kind(o.t), "gpt2/gpt-2", "kind");
    is_int(nm_tokenizer_n_vocab(o.t), N_BPE, "size");
    ids_are(o.t, "", 0, "");
    ids_are(o.t, "hello", 0, "259");
    ids_are(o.t, "hell", 0, "258");
    ids_are(o.t, "he", 0, "256");
    ids_are(o.t, "lll", 0, "257 108"); /* the leftmost of equals */
    ids_are(o.t, "abc", 0, "97 262");  /* "b c" ranks before "a b" */
    ids_are(o.t, "hello world", 0, "259 260 111 114 108 100");
    ids_are(o.t, "\u00e9", 0, "195 169");
    ids_are(o.t, "<s>", 0, "60 115 62"); /* control tokens are text unless asked for */
    ids_are(o.t, "<s>", 2, "263");
    ids_are(o.t, "a<turn>b", 2, "97 264 98");
    ids_are(o.t, "a<turn>>b", 2, "97 265 98");    /* the longest */
    ids_are(o.t, "<tag>a<tag>", 0, "266 97 266"); /* user-defined: always */
    ids_are(o.t, "hel<tag>lo", 0, "256 108 266 108 111");
    ids_are(o.t, "<s><s", 2, "263 60 115");
    ids_are(o.t, "a", NPUMOE_TOKENIZE_ADD_SPECIAL, "97");
    is_int(nm_tokenizer_bos(o.t), SPECIAL, "BOS");
    is_int(nm_tokenizer_eos(o.t), TURN, "EOS");
    ok(nm_tokenizer_is_end(o.t, TURN), "EOS ends");
    ok(!nm_tokenizer_is_end(o.t, SPECIAL) && !nm_tokenizer_is_end(o.t, -1) &&
           !nm_tokenizer_is_end(o.t, N_BPE),
       "other ids do not");
    ok(nm_tokenizer_is_control(o.t, TURN) && !nm_tokenizer_is_control(o.t, TAG), "control");
    is_int((int64_t)nm_tokenizer_bytes(o.t, TURN, false).n, 0, "a control token is no text");
    is_int((int64_t)nm_tokenizer_bytes(o.t, TURN, true).n, 6, "unless its name is wanted");
    is_int((int64_t)nm_tokenizer_bytes(o.t, N_BPE, true).n, 0, "no bytes past the end");
    is_mem(nm_tokenizer_bytes(o.t, SP_W, false).p, " w", 2, "pieces are decoded");
    close_vocab(&o);
    o = open_bpe("gpt-2", 2, 2);
    ids_are(o.t, "a", NPUMOE_TOKENIZE_ADD_SPECIAL, "263 97 264");
    ids_are(o.t, "", NPUMOE_TOKENIZE_ADD_SPECIAL, "263 264");
    ids_are(o.t, "a", 0, "97");
    close_vocab(&o);
    o = open_bpe("llama-bpe", 0, 0); /* adds BOS when the file does not say */
    ids_are(o.t, "a", NPUMOE_TOKENIZE_ADD_SPECIAL, "263 97");
    ids_are(o.t, "ab", 0, "261"); /* a word that is a token */
    close_vocab(&o);
}

static void test_capacity(void)
{
    opened o = open_bpe("gpt-2", 0, 0);
    npumoe_token ids[4] = {-7, -7, -7, -7};
    npumoe_error err;
    size_t n = 99;
    is_int(nm_tokenizer_encode(o.t, "a b c", 5, 0, ids, 3, &n, &err), NPUMOE_EINVAL, "no room");
    is_str(err.message, "the text has 5 tokens, room for 3", "says how many");
    is_int((int64_t)n, 99, "the count is left alone");
    is_int(ids[3], -7, "nothing past the end is written");
    is_int(nm_tokenizer_encode(o.t, "a b c", 5, 0, NULL, 0, &n, &err), NPUMOE_EINVAL, "no array");
    ok(nm_tokenizer_bound(o.t, 5) >= 5 && nm_tokenizer_bound(o.t, SIZE_MAX) == SIZE_MAX, "bound");
    close_vocab(&o);
}

/* Bytes that no token covers: U+FFFD, the unknown token, or an error, in this order. */
static void test_missing_bytes(void)
{
    const char *tokens[259];
    for (int i = 0; i < 256; i++)
        tokens[i] = i == 0xff ? "nobody" : alphabet[i];
    tokens[256] = "<unk>";
    vocab_spec s = {.model = "gpt2",
                    .pre = "gpt-2",
                    .tokens = tokens,
                    .n_tokens = 257,
                    .merges = tokens,
                    .n_merges = 0,
                    .unk = 257};
    opened o = open_vocab(&s);
    ids_are(o.t, "a\xff", 0, "97 239 191 189");
    close_vocab(&o);
    tokens[0xef] = "nobody either";
    o = open_vocab(&s);
    ids_are(o.t, "a\xff", 0, "97 256");
    close_vocab(&o);
    s.unk = 0;
    o = open_vocab(&s);
    ids_are(o.t, "a\xff", 0,
            "error: the vocabulary has no token for byte 0xff, none for U+FFFD, and no unknown "
            "token");
    close_vocab(&o);
}

/* A byte that has a letter of the alphabet and a byte token is the letter. */
static void test_two_for_a_byte(void)
{
    const char *tokens[257];
    int32_t types[257];
    for (int i = 0; i < 256; i++) {
        tokens[i] = alphabet[i];
        types[i] = NM_TOK_NORMAL;
    }
    tokens[256] = "<0x61>";
    types[256] = NM_TOK_BYTE;
    vocab_spec s = {.model = "gpt2",
                    .pre = "gpt-2",
                    .tokens = tokens,
                    .n_tokens = 257,
                    .types = types,
                    .n_types = 257,
                    .merges = tokens,
                    .n_merges = 0};
    opened o = open_vocab(&s);
    ids_are(o.t, "ab", 0, "97 98");
    is_mem(nm_tokenizer_bytes(o.t, 256, false).p, "a", 1, "a byte token is its byte");
    close_vocab(&o);
    tokens[97] = "nobody";
    o = open_vocab(&s);
    ids_are(o.t, "ab", 0, "256 98");
    close_vocab(&o);
}

static void test_invalid_utf8(void)
{
    opened o = open_bpe("gpt-2", 0, 0);
    /* The bad run is a word of its own: "l" does not merge across it. */
    ids_are(o.t, "l\xff\xfel", 0, "108 255 254 108");
    ids_are(o.t, "\xe4\xb8", 0, "228 184");
    for (int round = 0; round < 200; round++) {
        char text[64];
        npumoe_token ids[64];
        size_t n = below(64), n_ids = 0, at = 0;
        for (size_t i = 0; i < n; i++)
            text[i] = (char)below(256);
        if (nm_tokenizer_encode(o.t, text, n, 0, ids, 64, &n_ids, NULL) != NPUMOE_OK)
            break;
        for (size_t i = 0; i < n_ids; i++) {
            nm_str s = nm_tokenizer_bytes(o.t, ids[i], false);
            if (at + s.n <= n && memcmp(text + at, s.p, s.n) == 0)
                at += s.n;
        }
        if (at != n || round == 199)
            is_int((int64_t)at, (int64_t)n, "random bytes come back (%d texts)", round + 1);
        if (at != n)
            break;
    }
    close_vocab(&o);
}

/* ---- merging against a naive version ------------------------------------------------------------ */

#define MAX_TOKENS 64
#define MAX_TEXT   300

typedef struct random_vocab {
    char text[MAX_TOKENS][16], merge[MAX_TOKENS][24];
    const char *tokens[MAX_TOKENS], *merges[MAX_TOKENS];
    float scores[MAX_TOKENS];
    int n_tokens, n_merges;
} random_vocab;

static int token_named(const random_vocab *v, const char *text)
{
    for (int i = 0; i < v->n_tokens; i++)
        if (strcmp(v->tokens[i], text) == 0)
            return i;
    return -1;
}

/* Letters a to d, then joins of what is there. */
static void make_random(random_vocab *v)
{
    memset(v, 0, sizeof *v);
    for (; v->n_tokens < 4; v->n_tokens++) {
        v->text[v->n_tokens][0] = (char)('a' + v->n_tokens);
        v->tokens[v->n_tokens] = v->text[v->n_tokens];
    }
    for (int tries = 0; tries < 60; tries++) {
        const char *x = v->tokens[below((unsigned)v->n_tokens)];
        const char *y = v->tokens[below((unsigned)v->n_tokens)];
        if (strlen(x) + strlen(y) > 9)
            continue;
        char joined[32];
        snprintf(joined, sizeof joined, "%s%s", x, y);
        snprintf(v->merge[v->n_merges], sizeof v->merge[0], "%s %s", x, y);
        if (token_named(v, joined) < 0) {
            memcpy(v->text[v->n_tokens], joined, strlen(joined) + 1);
            v->tokens[v->n_tokens] = v->text[v->n_tokens];
            v->n_tokens++;
        }
        v->merges[v->n_merges] = v->merge[v->n_merges];
        v->n_merges++;
    }
    for (int i = 0; i < v->n_tokens; i++)
        v->scores[i] = (float)below(8); /* few values: many ties */
}

/* The rank of joining two strings; -1 = they do not join. */
static double bpe_rank(const random_vocab *v, const char *x, const char *y)
{
    char key[40];
    snprintf(key, sizeof key, "%s %s", x, y);
    for (int i = 0; i < v->n_merges; i++)
        if (strcmp(v->merges[i], key) == 0)
            return i;
    return -1;
}

static double spm_rank(const random_vocab *v, const char *x, const char *y)
{
    char key[40];
    snprintf(key, sizeof key, "%s%s", x, y);
    int id = token_named(v, key);
    return id < 0 ? -1 : 100 - (double)v->scores[id];
}

static int naive(const random_vocab *v, const char *text, int n,
                 double (*rank)(const random_vocab *, const char *, const char *), int *ids)
{
    static char part[MAX_TEXT][16];
    for (int i = 0; i < n; i++)
        snprintf(part[i], sizeof part[i], "%c", text[i]);
    for (;;) {
        int best = -1;
        double best_rank = 0;
        for (int i = 0; i + 1 < n; i++) {
            double r = rank(v, part[i], part[i + 1]);
            if (r >= 0 && (best < 0 || r < best_rank)) {
                best = i;
                best_rank = r;
            }
        }
        if (best < 0)
            break;
        char joined[40];
        snprintf(joined, sizeof joined, "%s%s", part[best], part[best + 1]);
        memcpy(part[best], joined, strlen(joined) + 1); /* a token, so it fits */
        memmove(part + best + 1, part + best + 2, (size_t)(n - best - 2) * sizeof part[0]);
        n--;
    }
    for (int i = 0; i < n; i++)
        ids[i] = token_named(v, part[i]);
    return n;
}

static void test_merging(bool spm)
{
    unsigned checked = 0, right = 0;
    for (int round = 0; round < 30; round++) {
        random_vocab v;
        make_random(&v);
        vocab_spec s = {.model = spm ? "llama" : "gpt2",
                        .pre = "gpt-2",
                        .tokens = v.tokens,
                        .n_tokens = (size_t)v.n_tokens,
                        .merges = v.merges,
                        .n_merges = (size_t)v.n_merges,
                        .scores = v.scores,
                        .n_scores = (size_t)v.n_tokens,
                        .add_space = 1};
        opened o = open_vocab(&s);
        for (int i = 0; i < 12; i++) {
            char text[MAX_TEXT];
            int n = (int)below(i % 2 ? MAX_TEXT : 40), want[MAX_TEXT];
            unsigned letters = 1 + below(4); /* few letters: long runs */
            npumoe_token got[MAX_TEXT];
            size_t n_got = 0;
            for (int j = 0; j < n; j++)
                text[j] = (char)('a' + below(letters));
            int n_want = naive(&v, text, n, spm ? spm_rank : bpe_rank, want);
            npumoe_status st =
                nm_tokenizer_encode(o.t, text, (size_t)n, 0, got, MAX_TEXT, &n_got, NULL);
            checked++;
            right += st == NPUMOE_OK && n_got == (size_t)n_want &&
                     memcmp(got, want, n_got * sizeof *got) == 0;
        }
        close_vocab(&o);
    }
    is_int(right, checked, "%s merges as the naive version does, %u texts", spm ? "spm" : "bpe",
           checked);
}

/* ---- SentencePiece ------------------------------------------------------------------------------ */

#define SP "\u2581"

enum {
    S_UNK,
    S_BOS,
    S_EOS,
    S_B0,
    S_SP = S_B0 + 256,
    S_A,
    S_B,
    S_SPA,
    S_AB,
    S_E,
    S_XY,
    S_TAG,
    S_UV,
    S_CTL,
    N_SPM
};

static opened open_spm(const char *name, int add_space, bool phrase)
{
    static char bytes[256][8];
    static const char *tokens[N_SPM] = {
        [S_UNK] = "<unk>", [S_BOS] = "<s>", [S_EOS] = "</s>", [S_SP] = SP,
        [S_A] = "a",       [S_B] = "b",     [S_SPA] = SP "a", [S_AB] = "ab",
        [S_E] = "\u00e9",  [S_XY] = "xy",   [S_TAG] = "<tag>"};
    static int32_t types[N_SPM];
    static float scores[N_SPM];
    for (int i = 0; i < N_SPM; i++) {
        types[i] = NM_TOK_NORMAL;
        scores[i] = -10;
    }
    for (int i = 0; i < 256; i++) {
        snprintf(bytes[i], sizeof bytes[i], "<0x%02X>", (unsigned)i);
        tokens[S_B0 + i] = bytes[i];
        types[S_B0 + i] = NM_TOK_BYTE;
    }
    tokens[S_UV] = phrase ? "a" SP : "uv"; /* a piece with a space after a letter */
    types[S_UNK] = NM_TOK_UNKNOWN;
    types[S_BOS] = types[S_EOS] = NM_TOK_CONTROL;
    tokens[S_CTL] = "qq";
    types[S_CTL] = NM_TOK_CONTROL;
    types[S_TAG] = NM_TOK_USER;
    scores[S_SPA] = -1;
    scores[S_AB] = -2;
    scores[S_UV] = -0.5F;
    vocab_spec s = {.model = "llama",
                    .name = name,
                    .tokens = tokens,
                    .n_tokens = N_SPM,
                    .types = types,
                    .n_types = N_SPM,
                    .scores = scores,
                    .n_scores = N_SPM,
                    .add_space = add_space};
    return open_vocab(&s);
}

static void test_spm(void)
{
    opened o = open_spm(NULL, 0, false);
    is_str(nm_tokenizer_kind(o.t), "llama", "kind");
    ids_are(o.t, "", 0, "");
    ids_are(o.t, "a", 0, "262");      /* the added space */
    ids_are(o.t, "ab", 0, "262 261"); /* the better score wins, not the longer */
    ids_are(o.t, " a", 0, "259 262");
    ids_are(o.t, "a a", 0, "262 262");
    ids_are(o.t, "\u00e9", 0, "259 264");
    ids_are(o.t, "\u00e8", 0, "259 198 171"); /* no piece: its bytes */
    ids_are(o.t, "\xff", 0, "259 258");       /* no character: its byte */
    ids_are(o.t, "xy", 0, "259 265");         /* x and y are no pieces, but xy is */
    ids_are(o.t, "x", 0, "259 123");
    ids_are(o.t, "uv", 0, "259 267");
    ids_are(o.t, "</s>", 0, "259 63 50 118 65"); /* never a control token by merging */
    ids_are(o.t, "qq", 0, "259 116 116");
    ids_are(o.t, "qq", 2, "268");
    ids_are(o.t, "</s>", 2, "2");
    ids_are(o.t, "a</s>a", 2, "262 2 262"); /* a space again after a special token */
    ids_are(o.t, "<tag>b", 0, "266 259 261");
    ids_are(o.t, "a", 1, "1 262");
    ids_are(o.t, "", 1, "1");
    ok(nm_tokenizer_drops_space(o.t), "its text drops the space");
    is_int(nm_tokenizer_bos(o.t), 1, "BOS by default");
    is_int(nm_tokenizer_eos(o.t), 2, "EOS by default");
    close_vocab(&o);
    o = open_spm(NULL, 1, false);
    ids_are(o.t, "a", 0, "260");
    ids_are(o.t, " a", 0, "262");
    close_vocab(&o);
    o = open_spm(NULL, 0, true); /* words cannot be merged on their own here */
    ids_are(o.t, "a a", 0, "259 267 260");
    close_vocab(&o);
    o = open_spm("My Phi-3 model", 0, false); /* special tokens swallow white space */
    ids_are(o.t, "</s> \n a", 2, "2 262");
    ids_are(o.t, "<s> a", 2, "1 259 262"); /* but not <s> */
    close_vocab(&o);
}

/* ---- streaming ---------------------------------------------------------------------------------- */

/* Pushes byte tokens and gathers the text; checks that each piece is valid UTF-8. */
static size_t stream(const nm_tokenizer *t, const npumoe_token *ids, size_t n, bool special,
                     char *out, bool *valid)
{
    nm_detok *d = NULL;
    const char *text = NULL;
    size_t at = 0, got = 0;
    if (nm_detok_new(t, special, NULL, &d, NULL) != NPUMOE_OK)
        bail("no detokenizer");
    for (size_t i = 0; i <= n; i++) {
        npumoe_status st = i < n ? nm_detok_push(d, ids[i], &text, &got, NULL)
                                 : nm_detok_finish(d, &text, &got, NULL);
        *valid = *valid && st == NPUMOE_OK && nm_utf8_valid(text, got) == got;
        memcpy(out + at, text, got);
        at += got;
    }
    nm_detok_free(&d);
    out[at] = '\0';
    return at;
}

typedef struct broken {
    const char *in, *out;
} broken;

static void test_streaming(void)
{
    static const broken list[] = {
        {"abc", "abc"},
        {"\u00e9\u4e2d\U0001f600", "\u00e9\u4e2d\U0001f600"},
        {"\xff", "\ufffd"},
        {"a\x80z", "a\ufffdz"},
        {"\xe4\xb8", "\ufffd"},   /* unfinished at the end: one */
        {"\xe4\xb8z", "\ufffdz"}, /* one maximal subpart: one */
        {"\xe4\xb8\xe4\xb8\xad", "\ufffd\u4e2d"},
        {"\xf0\x9f\x98", "\ufffd"},
        {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"}, /* a surrogate: each byte on its own */
        {"\xc0\xaf", "\ufffd\ufffd"},
        {"\xf0\x80\x80\xaf", "\ufffd\ufffd\ufffd\ufffd"},
    };
    opened o = open_bpe("gpt-2", 0, 0);
    bool valid = true;
    char out[512];
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        npumoe_token ids[32];
        size_t n = strlen(list[i].in);
        for (size_t j = 0; j < n; j++)
            ids[j] = (unsigned char)list[i].in[j];
        stream(o.t, ids, n, false, out, &valid);
        is_str(out, list[i].out, "streamed byte by byte, %zu", i);
    }
    ok(valid, "every piece is valid UTF-8");
    const npumoe_token mixed[] = {'a', SPECIAL, 0xc3, TURN, 0xa9, TAG, HELLO};
    stream(o.t, mixed, 7, false, out, &valid);
    is_str(out, "a\u00e9<tag>hello", "control tokens give nothing");
    stream(o.t, mixed, 7, true, out, &valid);
    is_str(out, "a<s>\ufffd<turn>\ufffd<tag>hello", "or their names");
    nm_detok *d = NULL;
    npumoe_error err;
    const char *text;
    size_t n;
    if (nm_detok_new(o.t, false, NULL, &d, NULL) != NPUMOE_OK)
        bail("no detokenizer");
    is_int(nm_detok_push(d, N_BPE, &text, &n, &err), NPUMOE_EINVAL, "an id out of range");
    is_str(err.message, "token 267, expected 0 to 266", "says which");
    nm_detok_free(&d);
    nm_detok_free(&d);
    close_vocab(&o);
}

static void test_streaming_spaces(void)
{
    opened o = open_spm(NULL, 0, false);
    bool valid = true;
    char out[64];
    const npumoe_token two[] = {S_SPA, S_SPA}, bos[] = {S_BOS, S_SPA}, plain[] = {S_A, S_SPA};
    const npumoe_token spaces[] = {S_SP, S_SPA}, bytes[] = {S_SP, S_B0 + 0xc3, S_B0 + 0xa9};
    stream(o.t, two, 2, false, out, &valid);
    is_str(out, "a a", "the first space is not the text's");
    stream(o.t, bos, 2, true, out, &valid);
    is_str(out, "<s>a", "nor the one after a special token");
    stream(o.t, plain, 2, false, out, &valid);
    is_str(out, "a a", "no space, nothing dropped");
    stream(o.t, spaces, 2, false, out, &valid);
    is_str(out, " a", "only one is dropped");
    stream(o.t, bytes, 3, false, out, &valid);
    is_str(out, "\u00e9", "byte tokens make characters");
    close_vocab(&o);
    o = open_spm(NULL, 1, false);
    stream(o.t, two, 2, false, out, &valid);
    is_str(out, " a a", "no space is added, none dropped");
    close_vocab(&o);
}

/* ---- the hand-written splitters ----------------------------------------------------------------- */

/* What the pattern finds at the beginning; what lies before the first match is a piece as well. */
static size_t pcre_split(pcre2_code *code, pcre2_match_data *m, const char *p, size_t n)
{
    if (pcre2_match(code, (PCRE2_SPTR)p, n, 0, 0, m, NULL) < 0)
        return n;
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m);
    return at[0] > 0 ? at[0] : at[1];
}

/* A text of characters from every class that some pattern tells apart. */
static size_t random_text(char *out, size_t room)
{
    static const char *const pool[] = {
        "a",      "B",          "s",        "t",      "l",      "r",      "e",      "'",
        "'",      "1",          "2",        " ",      " ",      " ",      "\n",     "\r",
        "\t",     "\v",         "\xc2\x85", "\u00a0", "\u180e", "\u2028", "\u3000", "\u200b",
        "\u00e9", "\u017f",     "\u4e2d",   "\u0661", "\u00b2", "\u2167", "\u0301", "\u0e33",
        "\u1f88", "\u02b0",     ".",        "_",      "$",      "!",      "\u2019", "\U0001f600",
        "\u0378", "\U000e0001", "\ufffd"};
    size_t n = 0, count = 1 + below(24);
    for (size_t i = 0; i < count; i++) {
        const char *c = pool[below(sizeof pool / sizeof *pool)];
        if (n + strlen(c) > room)
            break;
        memcpy(out + n, c, strlen(c));
        n += strlen(c);
    }
    return n;
}

static void check_splitter(const nm_pretok_step *step, const char *name)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)step->pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    pcre2_match_data *m = re ? pcre2_match_data_create_from_pattern(re, NULL) : NULL;
    if (!ok(m != NULL, "%s: the pattern compiles", name))
        return;
    unsigned wrong = 0;
    for (int round = 0; round < 20000 && wrong < 3; round++) {
        char text[128];
        size_t n = random_text(text, sizeof text);
        for (size_t i = 0; i < n && wrong < 3;) {
            size_t got = step->fn(text + i, n - i), want = pcre_split(re, m, text + i, n - i);
            if (got != want) {
                note("%s: %zu bytes, the pattern takes %zu", name, got, want);
                wrong++;
            }
            i += want;
        }
    }
    is_int(wrong, 0, "%s: by hand as by PCRE2", name);
    pcre2_match_data_free(m);
    pcre2_code_free(re);
}

static void test_splitters(void)
{
    for (size_t r = 0; r < nm_pretok_n_rules; r++) {
        const nm_pretok_rule *rule = &nm_pretok_rules[r];
        unsigned steps = 0;
        nm_pretok *p = NULL;
        npumoe_error err;
        for (const char *const *z = rule->names; *z; z++)
            ok(nm_pretok_find(nm_str_of(*z)) == rule, "%s is found", *z);
        if (!is_int(nm_pretok_new(nm_str_of(rule->names[0]), nm_allocator_default(), &p, &err),
                    NPUMOE_OK, "%s compiles", rule->names[0]))
            note("%s", err.message);
        nm_pretok_free(&p);
        for (; steps < NM_PRETOK_MAX_STEPS && rule->steps[steps].pattern; steps++)
            if (rule->steps[steps].fn && r < 6) { /* each function once or twice */
                check_splitter(&rule->steps[steps], rule->names[0]);
            }
    }
}

int main(void)
{
    note("seed %d", SEED);
    vb_alphabet(alphabet);
    test_bpe();
    test_capacity();
    test_missing_bytes();
    test_two_for_a_byte();
    test_invalid_utf8();
    test_merging(false);
    test_merging(true);
    test_spm();
    test_streaming();
    test_streaming_spaces();
    test_splitters();
    return done_testing();
}
