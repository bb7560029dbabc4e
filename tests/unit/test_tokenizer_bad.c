/* Broken vocabularies, each with its exact message; and every allocation of loading, encoding and
 * detokenising failing in turn. */
#include "model/tokenizer_priv.h"

#include "tap.h"
#include "vocab_build.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ---- broken vocabularies ----------------------------------------------------------------------- */

static const char *const tokens[] = {"a", "b", "ab", "<s>"};
static const char *const twins[] = {"a", "b", "a", "<s>"};
static const char *const merges[] = {"a b"};
static const int32_t types[] = {1, 1, 1, 3};
static const float scores[] = {0, -1, -2, -3};
static char long_text[NM_TOKEN_MAX_BYTES + 2], long_piece[NM_SPECIAL_MAX_BYTES + 2];
static const char *const with_long_text[] = {"a", "b", "ab", long_text};
static const char *const with_long_piece[] = {"a", "b", "ab", long_piece};

#define BASE .tokens = tokens, .n_tokens = 4, .types = types, .n_types = 4
#define BPE  .model = "gpt2", .pre = "gpt-2", .merges = merges, .n_merges = 1, BASE
#define SPM  .model = "llama", .scores = scores, .n_scores = 4, BASE
#define LIST(...)                   \
    .merges = (const char *const[]) \
    {                               \
        __VA_ARGS__                 \
    }
#define INTS(...)              \
    .types = (const int32_t[]) \
    {                          \
        __VA_ARGS__            \
    }

typedef struct broken {
    vocab_spec spec;
    npumoe_status status;
    const char *message;
} broken;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored \
    "-Woverride-init" /* each case is a good vocabulary but for one field */
#ifdef __clang__
#pragma GCC diagnostic ignored "-Winitializer-overrides"
#endif
static const broken list[] = {
    {{BPE, .model = NULL}, NPUMOE_ETOKEN, "tokenizer.ggml.model: missing"},
    {{BPE, .model = "rwkv"},
     NPUMOE_EUNSUPPORTED,
     "tokenizer.ggml.model: unknown tokenizer 'rwkv'; there are: gpt2 llama"},
    {{BPE, .model = ""},
     NPUMOE_EUNSUPPORTED,
     "tokenizer.ggml.model: unknown tokenizer ''; there are: gpt2 llama"},
    {{BPE, .tokens = NULL}, NPUMOE_ETOKEN, "tokenizer.ggml.tokens: missing"},
    {{BPE, .n_tokens = 0},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.tokens: 0 entries, expected 1 to 1073741823"},
    {{SPM, .n_tokens = 3},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.token_type: 4 entries, expected 3 as in tokenizer.ggml.tokens"},
    {{BPE, .n_types = 0},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.token_type: 0 entries, expected 4 as in tokenizer.ggml.tokens"},
    {{BPE, INTS(1, 7, 1, 3)},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.token_type: type 7 of token 1, expected 0 to 6"},
    {{BPE, INTS(1, -1, 1, 3)},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.token_type: type -1 of token 1, expected 0 to 6"},
    {{BPE, .types_kind = VB_F32},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.token_type: expected an array of i32"},
    {{BPE, .tokens = twins}, NPUMOE_ETOKEN, "tokenizer.ggml.tokens: tokens 0 and 2 are both 'a'"},
    {{BPE, INTS(1, 1, 6, 3)},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.tokens: byte token 2 is 'ab', expected '<0xHH>'"},
    {{SPM, .n_scores = 3},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.scores: 3 entries, expected 4 as in tokenizer.ggml.tokens"},
    {{SPM, .scores = NULL},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.scores: missing, a 'llama' tokenizer needs it"},
    {{SPM, .scores_kind = VB_U32},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.scores: expected an array of f32"},
    {{SPM, .scores = (const float[]){0, NAN, 0, 0}},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.scores: score 1 is not a number"},
    {{BPE, .merges = NULL},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.merges: missing, a 'gpt2' tokenizer needs it"},
    {{BPE, LIST("ab")},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.merges: merge 0 is 'ab', expected two tokens with a space between"},
    {{BPE, LIST("a ")},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.merges: merge 0 is 'a ', expected two tokens with a space between"},
    {{BPE, LIST("")},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.merges: merge 0 is '', expected two tokens with a space between"},
    {{BPE, LIST("x b")},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.merges: merge 0 ('x b') needs 'x', which is no token"},
    {{BPE, LIST("a x")},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.merges: merge 0 ('a x') needs 'x', which is no token"},
    {{BPE, LIST("a b", "b a"), .n_merges = 2},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.merges: merge 1 ('b a') needs 'ba', which is no token"},
    {{BPE, .bos = 5},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.bos_token_id: is 4, expected less than 4, the number of tokens"},
    {{BPE, .eos = 100},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.eos_token_id: is 99, expected less than 4, the number of tokens"},
    {{BPE, .unk = -1},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.unknown_token_id: is 4294967294, expected less than 4, the number of tokens"},
    {{BPE, .eot = 5},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.eot_token_id: is 4, expected less than 4, the number of tokens"},
    {{BPE, .add_bos = 2},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.add_bos_token is true but tokenizer.ggml.bos_token_id is missing"},
    {{BPE, .add_eos = 2},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.add_eos_token is true but tokenizer.ggml.eos_token_id is missing"},
    {{BPE, .tokens = with_long_text},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.tokens: token 3 has 65536 bytes, at most 65535 expected"},
    {{BPE, .tokens = with_long_piece},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.tokens: special token 3 has 1025 bytes, at most 1024 expected"},
    {{SPM, .tokens = with_long_piece, INTS(1, 1, 1, 1)},
     NPUMOE_ETOKEN,
     "tokenizer.ggml.tokens: piece 3 has 1025 bytes, at most 1024 expected"},
};
#pragma GCC diagnostic pop

static npumoe_status load(const vocab_spec *s, const npumoe_allocator *a, npumoe_error *err)
{
    gb_bytes file = vocab_build(s);
    nm_gguf *g = NULL;
    nm_tokenizer *t = NULL;
    if (nm_gguf_open_memory(file.p, file.n, "test", NULL, &g, err) != NPUMOE_OK)
        bail("%s", err->message);
    npumoe_status st = nm_tokenizer_new(g, a, &t, err);
    nm_tokenizer_free(&t);
    nm_gguf_free(&g);
    gb_free(&file);
    return st;
}

static void test_broken(void)
{
    npumoe_error err = {0};
    const vocab_spec bpe = {BPE}, spm = {SPM};
    memset(long_text, 'x', sizeof long_text - 1);
    memset(long_piece, 'x', sizeof long_piece - 1);
    is_int(load(&bpe, NULL, &err), NPUMOE_OK, "the good one of BPE");
    is_int(load(&spm, NULL, &err), NPUMOE_OK, "the good one of SentencePiece");
    for (size_t i = 0; i < COUNT(list); i++) {
        npumoe_status st = load(&list[i].spec, NULL, &err);
        is_int(st, list[i].status, "status of '%s'", list[i].message);
        is_str(err.message, list[i].message, "message");
        ok(st == err.code, "the same in the error");
    }
    is_int(load(&list[0].spec, NULL, NULL), NPUMOE_ETOKEN, "nobody wants the message");
}

static void test_unknown_pre(void)
{
    const vocab_spec s = {
        .model = "gpt2", .pre = "nobody-knows", .merges = merges, .n_merges = 1, BASE};
    npumoe_error err = {0};
    is_int(load(&s, NULL, &err), NPUMOE_EUNSUPPORTED, "unknown pre-tokenizer");
    ok(strncmp(err.message,
               "tokenizer.ggml.pre: unknown pre-tokenizer 'nobody-knows'; there are: gpt-2 refact",
               80) == 0,
       "its message begins: %s", err.message);
    ok(strstr(err.message, " qwen2 ") && strstr(err.message, " default"), "and names them all");
}

/* ---- failing allocations ------------------------------------------------------------------------ */

typedef struct counter {
    long left;   /* allocations until one fails; -1 = never */
    long living; /* blocks that are out */
    long calls;
} counter;

static void *counting_realloc(void *ctx, void *ptr, size_t bytes)
{
    counter *c = ctx;
    c->calls++;
    if (c->left == 0)
        return NULL;
    c->left -= c->left > 0;
    void *p = realloc(ptr, bytes);
    c->living += p && !ptr;
    return p;
}

static void counting_free(void *ctx, void *ptr)
{
    counter *c = ctx;
    c->living -= ptr != NULL;
    free(ptr);
}

static npumoe_status use_all(const nm_gguf *g, const npumoe_allocator *a)
{
    static const char text[] = "ab ab 12 ababababababababababababababababababababababab <s>ab";
    nm_tokenizer *t = NULL;
    nm_detok *d = NULL;
    npumoe_token ids[256];
    npumoe_error err;
    size_t n, got;
    const char *out;
    npumoe_status st;
    NM_TRY_OUT(nm_tokenizer_new(g, a, &t, &err));
    NM_TRY_OUT(nm_tokenizer_encode(t, text, sizeof text - 1, 3, ids, COUNT(ids), &n, &err));
    NM_TRY_OUT(nm_detok_new(t, true, a, &d, &err));
    for (size_t i = 0; i < n; i++)
        NM_TRY_OUT(nm_detok_push(d, ids[i], &out, &got, &err));
    NM_TRY_OUT(nm_detok_finish(d, &out, &got, &err));
out:
    nm_detok_free(&d);
    nm_tokenizer_free(&t);
    return st;
}

static void test_out_of_memory(const vocab_spec *s, const char *name)
{
    counter c = {.left = -1};
    const npumoe_allocator a = {&c, counting_realloc, counting_free};
    gb_bytes file = vocab_build(s);
    nm_gguf *g = NULL;
    if (nm_gguf_open_memory(file.p, file.n, "test", NULL, &g, NULL) != NPUMOE_OK)
        bail("the vocabulary does not open");
    is_int(use_all(g, &a), NPUMOE_OK, "%s: works with memory", name);
    is_int(c.living, 0, "%s: everything is given back", name);
    long calls = c.calls, wrong = 0;
    for (long i = 0; i < calls; i++) {
        c = (counter){.left = i};
        if (use_all(g, &a) != NPUMOE_ENOMEM || c.living != 0)
            wrong++;
    }
    is_int(wrong, 0, "%s: each of %ld allocations may fail", name, calls);
    nm_gguf_free(&g);
    gb_free(&file);
}

int main(void)
{
    test_broken();
    test_unknown_pre();
    const char *all[260];
    static char alphabet[256][4];
    vb_alphabet(alphabet);
    for (int i = 0; i < 256; i++)
        all[i] = alphabet[i];
    all[256] = "ab";
    all[257] = "<s>";
    const vocab_spec bpe = {.model = "gpt2",
                            .pre = "llama-bpe",
                            .tokens = all,
                            .n_tokens = 258,
                            .merges = merges,
                            .n_merges = 1},
                     pcre = {.model = "gpt2",
                             .pre = "deepseek-llm",
                             .tokens = all,
                             .n_tokens = 258,
                             .merges = merges,
                             .n_merges = 1},
                     spm = {SPM, .unk = 4};
    test_out_of_memory(&bpe, "bpe");
    test_out_of_memory(&pcre, "bpe with patterns");
    test_out_of_memory(&spm, "spm");
    return done_testing();
}
