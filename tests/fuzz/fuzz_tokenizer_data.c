/* fuzz_tokenizer_data.c: any bytes as a file whose tokenizer is then used.
 *
 * A file that is refused proves little, so there are two readings of the input. First byte even:
 * the rest is a GGUF file. Odd: it describes a vocabulary (flags, token texts, types, merges, scores;
 * see build), which comes past the reader every time and spends the fuzzer's effort on the
 * tokenizer. What loads encodes a few texts and decodes them; the ids must be in range, the count
 * within the bound. */
#include "model/tokenizer.h"

#include "../vocab_build.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define MAX_TOKENS 96
#define MAX_BYTES  24

typedef struct reader {
    const uint8_t *p;
    size_t left;
} reader;

static unsigned take(reader *r)
{
    if (r->left == 0)
        return 0;
    r->left--;
    return *r->p++;
}

/* A short zero-terminated text. */
static void take_text(reader *r, char out[MAX_BYTES])
{
    size_t n = take(r) % MAX_BYTES;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)take(r);
    out[n] = '\0';
}

static gb_bytes build(reader r)
{
    static const char *const pres[] = {
        "gpt-2",       "refact", "llama-bpe", "qwen2",  "qwen35",  "deepseek-llm", "deepseek-coder",
        "deepseek-v3", "gpt-4o", "tekken",    "falcon", "default", "laguna",       "nonsense"};
    static char text[MAX_TOKENS + 256][MAX_BYTES], merge[MAX_TOKENS][2 * MAX_BYTES];
    static char alphabet[256][4];
    const char *tokens[MAX_TOKENS + 256], *merges[MAX_TOKENS];
    int32_t types[MAX_TOKENS + 256];
    float scores[MAX_TOKENS + 256];
    unsigned flags = take(&r), own = take(&r) % MAX_TOKENS, n = 0;
    vb_alphabet(alphabet);
    for (unsigned i = 0; i < 256 && flags & 1; i++, n++) {
        tokens[n] = alphabet[i];
        types[n] = 1;
        scores[n] = 0;
        if (flags & 2) {
            snprintf(text[MAX_TOKENS + i], MAX_BYTES, "<0x%02X>", i);
            tokens[n] = text[MAX_TOKENS + i];
            types[n] = 6;
        }
    }
    unsigned first = n;
    for (unsigned i = 0; i < own; i++, n++) {
        take_text(&r, text[i]);
        tokens[n] = text[i];
        types[n] = (int32_t)(take(&r) % 8);
        scores[n] = (float)take(&r) / 4;
    }
    unsigned n_merges = n > 0 ? take(&r) % MAX_TOKENS : 0;
    for (unsigned i = 0; i < n_merges; i++) {
        unsigned x = take(&r), y = take(&r);
        snprintf(merge[i], sizeof merge[i], "%s %s", tokens[(first + x) % n],
                 tokens[(first + y) % n]);
        merges[i] = merge[i];
    }
    vocab_spec s = {.model = flags & 2 ? "llama" : "gpt2",
                    .pre = pres[take(&r) % (sizeof pres / sizeof *pres)],
                    .name = flags & 4 ? "phi-3" : NULL,
                    .tokens = tokens,
                    .n_tokens = n,
                    .types = flags & 8 ? NULL : types,
                    .n_types = n,
                    .merges = merges,
                    .n_merges = n_merges,
                    .scores = scores,
                    .n_scores = n,
                    .bos = (int32_t)take(&r),
                    .eos = (int32_t)take(&r),
                    .unk = flags & 16 ? (int32_t)take(&r) : 0,
                    .add_bos = flags & 32 ? 2 : 0,
                    .add_eos = flags & 64 ? 2 : 0,
                    .add_space = flags & 128 ? 1 : 0};
    return vocab_build(&s);
}

static void check(bool fine)
{
    if (!fine)
        __builtin_trap();
}

static void decode(const nm_tokenizer *t, const npumoe_token *ids, size_t n, bool special)
{
    nm_detok *d = NULL;
    const char *text;
    size_t got;
    check(nm_detok_new(t, special, NULL, &d, NULL) == NPUMOE_OK);
    for (size_t i = 0; i < n; i++) {
        check(ids[i] >= 0 && (uint32_t)ids[i] < nm_tokenizer_n_vocab(t));
        check(nm_detok_push(d, ids[i], &text, &got, NULL) == NPUMOE_OK);
    }
    check(nm_detok_finish(d, &text, &got, NULL) == NPUMOE_OK);
    nm_detok_free(&d);
}

static void use(const nm_tokenizer *t, const char *text, size_t n)
{
    size_t cap = nm_tokenizer_bound(t, n), n_ids = 0;
    npumoe_token *ids = malloc(cap * sizeof *ids);
    npumoe_error err;
    check(ids != NULL);
    for (unsigned flags = 0; flags < 4; flags++) {
        npumoe_status st = nm_tokenizer_encode(t, text, n, flags, ids, cap, &n_ids, &err);
        check(st == NPUMOE_OK || st == NPUMOE_ETOKEN); /* never "too small": that is the bound */
        if (st == NPUMOE_OK)
            decode(t, ids, n_ids, flags & 1);
    }
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char text[] =
        "Hello  world, it's 1234 <s></s>\r\n\t \xe2\x96\x81\xff\xe4\xb8\xad"
        "\xcc\x81 \xf0\x9f\x98\x80\xf0\x9f aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    if (bytes == 0)
        return 0;
    gb_bytes built = {NULL, 0};
    if (data[0] & 1)
        built = build((reader){data + 1, bytes - 1});
    nm_gguf *g = NULL;
    nm_tokenizer *t = NULL;
    npumoe_error err;
    const void *file = built.p ? built.p : data + 1;
    size_t n = built.p ? built.n : bytes - 1;
    if (nm_gguf_open_memory(file, n, "fuzz", NULL, &g, &err) == NPUMOE_OK &&
        nm_tokenizer_new(g, NULL, &t, &err) == NPUMOE_OK) {
        use(t, text, sizeof text - 1);
        use(t, (const char *)data, bytes);
    }
    nm_tokenizer_free(&t);
    nm_gguf_free(&g);
    gb_free(&built);
    return 0;
}
