/* Real vocabularies: the reference ids of ../shared/vocab, both ways, and texts that no vector
 * has. The folder is found by NPUMOE_SHARED or as ../shared; without it all is skipped. */
#include "model/tokenizer.h"

#include "tap.h"

#include <time.h>

#define SEPARATOR "\n__ggml_vocab_test__\n"

#define SMALL ((size_t)1 << 16)
#define LARGE ((size_t)1 << 18)

typedef struct vocab {
    const char *name;
    const char *kind;
    bool has_vectors;
    bool all_bytes;      /* a token for each of the 256 bytes */
    size_t linear_bytes; /* for check_linear: one of each algorithm is tried at length */
} vocab;

static const vocab vocabs[] = {
    {"gpt-2", "gpt2/gpt-2", true, true, SMALL},
    {"deepseek-llm", "gpt2/deepseek-llm", true, false, SMALL},
    {"llama-spm", "llama", true, true, LARGE},
    {"phi-3", "llama", true, true, SMALL},
    {"gpt-neox", "gpt2/default", false, false, SMALL},
    {"qwen2", "gpt2/qwen2", true, true, LARGE},
    {"llama-bpe", "gpt2/llama-bpe", true, true, SMALL},
};

static const char *shared(void)
{
    const char *dir = getenv("NPUMOE_SHARED");
    return dir && *dir ? dir : "../shared";
}

/* NULL when there is no such file. Zero-terminated; the caller frees. */
static char *slurp(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    size_t cap = 1 << 16, n = 0, got;
    char *p = malloc(cap + 1);
    while (p && (got = fread(p + n, 1, cap - n, f)) > 0) {
        n += got;
        if (n == cap)
            p = realloc(p, (cap *= 2) + 1);
    }
    fclose(f);
    if (!p)
        bail("out of memory");
    p[n] = '\0';
    *bytes = n;
    return p;
}

static void *must(void *p)
{
    if (!p)
        bail("out of memory");
    return p;
}

static npumoe_token *encode(const nm_tokenizer *t, const char *text, size_t n, unsigned flags,
                            size_t *n_tokens)
{
    size_t cap = nm_tokenizer_bound(t, n);
    npumoe_token *tokens = must(malloc((cap + 1) * sizeof *tokens));
    npumoe_error err;
    *n_tokens = 0;
    if (nm_tokenizer_encode(t, text, n, flags, tokens, cap, n_tokens, &err) != NPUMOE_OK) {
        note("%s", err.message);
        free(tokens);
        return NULL;
    }
    return tokens;
}

static char *decode(const nm_tokenizer *t, const npumoe_token *tokens, size_t n, size_t *bytes)
{
    nm_detok *d = NULL;
    if (nm_detok_new(t, true, NULL, &d, NULL) != NPUMOE_OK)
        bail("no detokenizer");
    size_t cap = 64, used = 0, got = 0;
    char *out = must(malloc(cap));
    const char *text = NULL;
    for (size_t i = 0; i <= n; i++) {
        npumoe_status st = i < n ? nm_detok_push(d, tokens[i], &text, &got, NULL)
                                 : nm_detok_finish(d, &text, &got, NULL);
        if (st != NPUMOE_OK)
            bail("detokenizer refuses token %d", tokens[i]);
        while (used + got + 1 > cap)
            out = must(realloc(out, cap *= 2));
        memcpy(out + used, text, got);
        used += got;
    }
    nm_detok_free(&d);
    out[used] = '\0';
    *bytes = used;
    return out;
}

/* The bytes of the tokens as they are, without the detokenizer's repairs. */
static char *raw_bytes(const nm_tokenizer *t, const npumoe_token *tokens, size_t n, size_t *bytes)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        total += nm_tokenizer_bytes(t, tokens[i], true).n;
    char *out = must(malloc(total + 1));
    for (size_t i = 0; i < n; i++) {
        nm_str s = nm_tokenizer_bytes(t, tokens[i], true);
        memcpy(out + at, s.p, s.n);
        at += s.n;
    }
    *bytes = total;
    return out;
}

static void check_vectors(const nm_tokenizer *t, const char *name)
{
    char path[1024];
    size_t n_in, n_out;
    snprintf(path, sizeof path, "%s/vocab/ggml-vocab-%s.gguf.inp", shared(), name);
    char *in = slurp(path, &n_in);
    snprintf(path, sizeof path, "%s/vocab/ggml-vocab-%s.gguf.out", shared(), name);
    char *out = slurp(path, &n_out);
    if (!ok(in && out, "%s: vectors", name))
        return;
    unsigned count = 0, same = 0, back = 0;
    const char *line = out;
    for (char *text = in, *end; (end = strstr(text, SEPARATOR)); text = end + strlen(SEPARATOR)) {
        size_t n = (size_t)(end - text), n_tokens, n_back;
        npumoe_token *tokens = encode(t, text, n, NPUMOE_TOKENIZE_PLAIN, &n_tokens);
        if (!tokens)
            bail("%s: text %u cannot be encoded", name, count);
        size_t i = 0;
        bool equal = true;
        char *rest = NULL;
        for (; *line != '\n' && *line; line = rest, i++) {
            long want = strtol(line, &rest, 10);
            equal = equal && i < n_tokens && tokens[i] == want;
        }
        line += *line == '\n';
        equal = equal && i == n_tokens;
        if (!equal)
            note("%s: text %u differs", name, count);
        same += equal;
        char *again = decode(t, tokens, n_tokens, &n_back);
        back += n_back == n && memcmp(again, text, n) == 0;
        count++;
        free(again);
        free(tokens);
    }
    is_int(count, 46, "%s: 46 vectors", name);
    is_int(same, count, "%s: text to ids", name);
    is_int(back, count, "%s: ids to text", name);
    free(in);
    free(out);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Any bytes come back where every byte has a token. SentencePiece: U+2581 would come back as a
 * space, so it is not made; the added space is taken off. */
static void check_random(const nm_tokenizer *t, const vocab *v)
{
    uint64_t state = 20261121;
    unsigned good = 0;
    const unsigned rounds = 300;
    char text[400];
    for (unsigned r = 0; r < rounds; r++) {
        size_t n = (size_t)(next_random(&state) % sizeof text), n_tokens, n_back;
        for (size_t i = 0; i < n; i++) {
            uint64_t x = next_random(&state);
            text[i] = (char)(r % 3 == 0   ? x
                             : r % 3 == 1 ? x % 96 + 32
                             : x % 4      ? 0x80 | x % 80
                                          : ' ');
            if (text[i] == (char)0xe2)
                text[i] = ' ';
        }
        npumoe_token *tokens = encode(t, text, n, NPUMOE_TOKENIZE_PLAIN, &n_tokens);
        if (!tokens)
            break;
        char *back = raw_bytes(t, tokens, n_tokens, &n_back);
        size_t skip_space = n > 0 && nm_tokenizer_drops_space(t);
        good += n_back == n + skip_space && memcmp(back + skip_space, text, n) == 0;
        free(back);
        free(tokens);
    }
    if (v->all_bytes)
        is_int(good, rounds, "%s: random bytes come back", v->name);
    else
        skip(1, "%s has no tokens for bytes that UTF-8 never uses", v->name);
}

static double seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts); /* not wall time: others use the machine */
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static double best_time(const nm_tokenizer *t, const char *text, size_t n)
{
    double best = 1e9;
    for (int i = 0; i < 2; i++) {
        size_t n_tokens;
        double start = seconds();
        npumoe_token *tokens = encode(t, text, n, NPUMOE_TOKENIZE_PLAIN, &n_tokens);
        double took = seconds() - start;
        best = took < best ? took : best;
        free(tokens);
    }
    return best;
}

/* Twice the text may take little more than twice the time, whatever the text. The measure is the
 * best of two; short times get a floor, so that a busy machine does not fail the test. */
static void check_linear(const nm_tokenizer *t, const char *name, size_t n)
{
    static const char *const what[] = {"one letter", "spaces", "spaces, then a letter",
                                       "line ends",  "digits", "random bytes"};
    char *text = must(malloc(2 * n));
    uint64_t state = 7;
    for (unsigned kind = 0; kind < sizeof what / sizeof *what; kind++) {
        memset(text, "a  \n7"[kind < 5 ? kind : 0], 2 * n);
        for (size_t i = 0; kind == 5 && i < 2 * n; i++)
            text[i] = (char)next_random(&state);
        if (kind == 2)
            text[n - 1] = text[2 * n - 1] = 'x';
        double one = best_time(t, text, n), two = best_time(t, text, 2 * n);
        ok(two < 3 * one + 0.05, "%s: linear in %s (%.3f s, %.3f s)", name, what[kind], one, two);
    }
    free(text);
}

static void check_vocab(const vocab *v)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/vocab/ggml-vocab-%s.gguf", shared(), v->name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        skip(1, "no %s", path);
        return;
    }
    fclose(f);
    nm_gguf *g = NULL;
    nm_tokenizer *t = NULL;
    npumoe_error err = {0};
    if (nm_gguf_open(path, NULL, &g, &err) != NPUMOE_OK ||
        nm_tokenizer_new(g, NULL, &t, &err) != NPUMOE_OK) {
        ok(false, "%s: %s", v->name, err.message);
    } else {
        is_str(nm_tokenizer_kind(t), v->kind, "%s: kind", v->name);
        if (v->has_vectors)
            check_vectors(t, v->name);
        check_random(t, v);
        check_linear(t, v->name, v->linear_bytes);
    }
    nm_tokenizer_free(&t);
    nm_gguf_free(&g);
}

int main(void)
{
    for (size_t i = 0; i < sizeof vocabs / sizeof *vocabs; i++)
        check_vocab(&vocabs[i]);
    return done_testing();
}
