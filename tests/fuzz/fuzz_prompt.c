/* fuzz_prompt.c: any bytes as a prompt, for a vocabulary of each algorithm.
 *
 * The first byte picks the vocabulary (each way of cutting words that the table knows, and
 * SentencePiece) and the flags. Beyond not crashing: the count is within the bound; plain tokens give
 * the very bytes back (every byte has a token here); streaming gives valid UTF-8, and what it
 * gives is the prompt where that was valid. */
#include "base/utf8.h"
#include "model/tokenizer.h"

#include "../vocab_build.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define N_OWN 40

static const char *const pres[] = {
    "gpt-2",  "refact",       "llama-bpe",      "qwen2",  "qwen35", "default",    "gpt-4o",
    "tekken", "deepseek-llm", "deepseek-coder", "falcon", "laguna", "deepseek-v3"};
#define N_PRES (sizeof pres / sizeof *pres)

static void check(bool fine)
{
    if (!fine)
        __builtin_trap();
}

static const char *const bpe_own[N_OWN] = {
    "he",           "ll",           "hell",    "hello",     "aa",           "aaaa",
    "aaaaaaaa",     "\u0120\u0120", "\u0120a", "12",        "123",          "in",
    "ing",          "th",           "the",     "\u0120the", "\u010a\u010a", "\u00e4\u00b8",
    "\u00e2\u0122", "\u00c3\u00a9", "<s>",     "</s>",      "<|im_start|>", "<|im_end|>",
    "  ",           "   ",          "<tag>",   "<tag",      "x<tag>y"};
static const char *const bpe_merges[] = {
    "h e",        "l l",           "he ll",         "hell o",        "a a",
    "aa aa",      "aaaa aaaa",     "\u0120 \u0120", "\u0120 a",      "1 2",
    "12 3",       "i n",           "in g",          "t h",           "th e",
    "\u0120 the", "\u010a \u010a", "\u00e4 \u00b8", "\u00e2 \u0122", "\u00c3 \u00a9"};
static const char *const spm_own[N_OWN] = {"\u2581",
                                           "a",
                                           "b",
                                           "h",
                                           "e",
                                           "l",
                                           "o",
                                           "he",
                                           "ll",
                                           "lo",
                                           "llo",
                                           "hello",
                                           "\u2581hello",
                                           "aa",
                                           "aaaa",
                                           "\u2581\u2581",
                                           "\u2581a",
                                           "\u00e9",
                                           "\u4e2d",
                                           "\u4e2d\u6587",
                                           "<s>",
                                           "</s>",
                                           "<|im_start|>",
                                           "<tag>",
                                           "<tag",
                                           "x<tag>y"};

static gb_bytes build(unsigned which)
{
    static char alphabet[256][4], bytes[256][8];
    const char *tokens[256 + N_OWN];
    int32_t types[256 + N_OWN];
    float scores[256 + N_OWN];
    bool spm = which == N_PRES;
    size_t n = 256;
    vb_alphabet(alphabet);
    for (unsigned i = 0; i < 256; i++) {
        snprintf(bytes[i], sizeof bytes[i], "<0x%02X>", i);
        tokens[i] = spm ? bytes[i] : alphabet[i];
        types[i] = spm ? 6 : 1;
        scores[i] = 0;
    }
    for (const char *const *z = spm ? spm_own : bpe_own; *z; z++, n++) {
        tokens[n] = *z;
        types[n] = strstr(*z, "tag") || (*z)[0] == ' ' ? 4 : (*z)[0] == '<' ? 3 : 1;
        scores[n] = (float)(n % 7);
    }
    vocab_spec s = {.model = spm ? "llama" : "gpt2",
                    .pre = spm ? NULL : pres[which],
                    .tokens = tokens,
                    .n_tokens = n,
                    .types = types,
                    .n_types = n,
                    .merges = bpe_merges,
                    .n_merges = sizeof bpe_merges / sizeof *bpe_merges,
                    .scores = scores,
                    .n_scores = n,
                    .bos = 257,
                    .eos = 258};
    return vocab_build(&s);
}

/* Loaded once: a fuzzer calls a million times. */
static const nm_tokenizer *vocabulary(unsigned which)
{
    static gb_bytes files[N_PRES + 1];
    static nm_gguf *ggufs[N_PRES + 1];
    static nm_tokenizer *loaded[N_PRES + 1];
    npumoe_error err;
    if (!loaded[which]) {
        files[which] = build(which);
        check(nm_gguf_open_memory(files[which].p, files[which].n, "fuzz", NULL, &ggufs[which],
                                  &err) == NPUMOE_OK);
        npumoe_status st = nm_tokenizer_new(ggufs[which], NULL, &loaded[which], &err);
        if (st != NPUMOE_OK)
            fprintf(stderr, "%s\n", err.message);
        check(st == NPUMOE_OK);
    }
    return loaded[which];
}

static bool holds_space_mark(const char *p, size_t n)
{
    for (size_t i = 0; i + 3 <= n; i++)
        if (memcmp(p + i, "\xe2\x96\x81", 3) == 0)
            return true;
    return false;
}

/* The tokens' bytes are the prompt's. SentencePiece: less the space in front of the text and after each
 * special token, which the detokenizer takes off again. */
static void check_back(const nm_tokenizer *t, const npumoe_token *ids, size_t n_ids,
                       const char *text, size_t n)
{
    nm_detok *d = NULL;
    const char *out;
    size_t got, at = 0;
    bool valid = nm_utf8_valid(text, n) == n;
    check(nm_detok_new(t, true, NULL, &d, NULL) == NPUMOE_OK);
    for (size_t i = 0; i <= n_ids; i++) {
        npumoe_status st = i < n_ids ? nm_detok_push(d, ids[i], &out, &got, NULL)
                                     : nm_detok_finish(d, &out, &got, NULL);
        check(st == NPUMOE_OK && nm_utf8_valid(out, got) == got);
        check(!valid || (got <= n - at && memcmp(out, text + at, got) == 0));
        at += got;
    }
    check(!valid || at == n);
    nm_detok_free(&d);
    if (nm_tokenizer_drops_space(t))
        return;
    at = 0;
    for (size_t i = 0; i < n_ids; i++) {
        nm_str s = nm_tokenizer_bytes(t, ids[i], true);
        check(s.n <= n - at && memcmp(s.p, text + at, s.n) == 0);
        at += s.n;
    }
    check(at == n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0)
        return 0;
    const nm_tokenizer *t = vocabulary(data[0] % (N_PRES + 1));
    unsigned flags = data[0] / (N_PRES + 1) & NPUMOE_TOKENIZE_PARSE_SPECIAL;
    const char *text = (const char *)data + 1;
    size_t n = bytes - 1, cap = nm_tokenizer_bound(t, n), n_ids = 0;
    npumoe_token *ids = malloc(cap * sizeof *ids);
    npumoe_error err;
    check(ids != NULL);
    check(nm_tokenizer_encode(t, text, n, flags, ids, cap, &n_ids, &err) == NPUMOE_OK);
    for (size_t i = 0; i < n_ids; i++)
        check(ids[i] >= 0 && (uint32_t)ids[i] < nm_tokenizer_n_vocab(t));
    if (!nm_tokenizer_drops_space(t) || !holds_space_mark(text, n))
        check_back(t, ids, n_ids, text, n);
    free(ids);
    return 0;
}
