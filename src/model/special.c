/* special.c: tokens that are not made by merging.
 *
 * Kinds (tokenizer.ggml.token_type): control tokens ("<|im_start|>") are found in a text only when
 * the caller asks (PARSE_SPECIAL), else a user could forge a turn; user-defined ones (runs of
 * spaces in GPT-NeoX's family, tags) always. Unknown goes with control.
 *
 * The cutter takes the leftmost, then the longest token. (llama.cpp takes the longest of the
 * whole vocabulary first, so that the two differ where special tokens overlap in a text; leftmost
 * and longest is Hugging Face's rule.) At each byte that begins some special token the sorted
 * list is narrowed byte by byte: at most NM_SPECIAL_MAX_BYTES steps, so linear in the text.
 *
 * Files do not say which tokens end a generation, beyond EOS and sometimes EOT: as everywhere in
 * the GGUF world they are known by name. Some files type them "normal" by mistake; being known by
 * name makes them control tokens. */
#include "model/tokenizer_priv.h"

#include <stdio.h>
#include <stdlib.h>

#define KEY(name) "tokenizer.ggml." name
#define BAR       "\xef\xbd\x9c" /* U+FF5C, DeepSeek's bar */
#define LOW       "\xe2\x96\x81" /* U+2581 */

/* ---- known names ---------------------------------------------------------------------------- */

static const char *const end_names[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<eos>",
    "<end_of_utterance>",
    "[e~[",
    "<turn|>",
    "<|tool_response>",
    "<" BAR "end" LOW "of" LOW "sentence" BAR ">",
};

/* Fill-in-the-middle tokens. A key names one; else the first of the names that is there. */
typedef struct fim_kind {
    const char *key;
    bool ends; /* padding, repository and file marks end a generation */
    const char *names[9];
} fim_kind;

static const fim_kind fim_kinds[] = {
    {KEY("fim_pre_token_id"),
     false,
     {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<" BAR "fim" LOW "begin" BAR ">", "<PRE>",
      LOW "<PRE>", "<|code_prefix|>", "<|prefix|>"}},
    {KEY("fim_suf_token_id"),
     false,
     {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<" BAR "fim" LOW "hole" BAR ">", "<SUF>",
      LOW "<SUF>", "<|code_suffix|>", "<|suffix|>"}},
    {KEY("fim_mid_token_id"),
     false,
     {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<" BAR "fim" LOW "end" BAR ">", "<MID>",
      LOW "<MID>", "<|code_middle|>", "<|middle|>"}},
    {KEY("fim_pad_token_id"), true, {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
    {KEY("fim_rep_token_id"),
     true,
     {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
    {KEY("fim_sep_token_id"), true, {"<|file_sep|>"}},
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static int32_t find_name(const nm_tokenizer *t, const char *name)
{
    return nm_tok_find_text(t, name, strlen(name));
}

static void set_type(nm_tokenizer *t, int32_t id, unsigned type)
{
    t->types[id] = (unsigned char)((t->types[id] & ~(unsigned)NM_TOK_TYPE_MASK) | type);
}

static void set_flag(nm_tokenizer *t, int32_t id, unsigned flag, bool on)
{
    unsigned v = t->types[id];
    t->types[id] = (unsigned char)(on ? v | flag : v & ~flag);
}

/* ---- ids in the metadata --------------------------------------------------------------------- */

/* *id stays when the key is absent. */
static npumoe_status read_id(const nm_tokenizer *t, const char *key, int32_t *id, npumoe_error *err)
{
    uint32_t v;
    npumoe_status st = nm_gguf_get_u32(t->g, key, &v, err);
    if (st == NPUMOE_ENOENT)
        return NPUMOE_OK;
    if (st != NPUMOE_OK)
        return nm_tok_bad(err, st);
    if (v >= t->n_vocab)
        return nm_err_at(err, NPUMOE_ETOKEN, nm_gguf_find(t->g, key)->offset,
                         "%s: is %u, expected less than %u, the number of tokens", key, v,
                         t->n_vocab);
    *id = (int32_t)v;
    return NPUMOE_OK;
}

static npumoe_status load_ids(nm_tokenizer *t, npumoe_error *err)
{
    int32_t eot = -1, eom = -1;
    t->bos = t->spm && t->n_vocab > 1 ? 1 : -1;
    t->eos = t->spm && t->n_vocab > 2 ? 2 : -1;
    t->unk = t->spm ? 0 : -1;
    NM_TRY(read_id(t, KEY("bos_token_id"), &t->bos, err));
    NM_TRY(read_id(t, KEY("eos_token_id"), &t->eos, err));
    NM_TRY(read_id(t, KEY("unknown_token_id"), &t->unk, err));
    NM_TRY(read_id(t, KEY("eot_token_id"), &eot, err));
    NM_TRY(read_id(t, KEY("eom_token_id"), &eom, err));
    const int32_t ends[] = {t->eos, eot, eom};
    for (size_t i = 0; i < COUNT(ends); i++)
        if (ends[i] >= 0)
            set_flag(t, ends[i], NM_TOK_END, true);
    for (size_t i = 0; i < COUNT(fim_kinds); i++) {
        int32_t id = -1;
        NM_TRY(read_id(t, fim_kinds[i].key, &id, err));
        for (size_t j = 0; id < 0 && fim_kinds[i].names[j]; j++)
            id = find_name(t, fim_kinds[i].names[j]);
        if (id < 0)
            continue;
        set_type(t, id, NM_TOK_CONTROL);
        if (fim_kinds[i].ends)
            set_flag(t, id, NM_TOK_END, true);
    }
    return NPUMOE_OK;
}

static npumoe_status read_bool(const nm_tokenizer *t, const char *key, bool *v, npumoe_error *err)
{
    npumoe_status st = nm_gguf_bool_or(t->g, key, *v, v, err);
    return st == NPUMOE_OK ? st : nm_tok_bad(err, st);
}

static npumoe_status load_flags(nm_tokenizer *t, npumoe_error *err)
{
    t->add_bos = t->spm || (nm_pretok_adds_bos(t->pretok) && t->bos >= 0);
    t->add_eos = false;
    t->add_space = t->spm;
    NM_TRY(read_bool(t, KEY("add_bos_token"), &t->add_bos, err));
    NM_TRY(read_bool(t, KEY("add_eos_token"), &t->add_eos, err));
    if (t->spm)
        NM_TRY(read_bool(t, KEY("add_space_prefix"), &t->add_space, err));
    if (t->add_bos && t->bos < 0)
        return nm_err_set(err, NPUMOE_ETOKEN,
                          KEY("add_bos_token") " is true but " KEY("bos_token_id") " is missing");
    if (t->add_eos && t->eos < 0)
        return nm_err_set(err, NPUMOE_ETOKEN,
                          KEY("add_eos_token") " is true but " KEY("eos_token_id") " is missing");
    return NPUMOE_OK;
}

/* ---- rules of single models ------------------------------------------------------------------ */

/* gpt-oss: the marks of its channels are text that a caller wants to see, and "<|end|>" only ends a
 * message when there are tokens that end the turn. */
static void mend_harmony(nm_tokenizer *t)
{
    static const char *const shown[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};
    for (size_t i = 0; i < COUNT(shown); i++)
        if (find_name(t, shown[i]) >= 0)
            set_type(t, find_name(t, shown[i]), NM_TOK_USER);
    int32_t end = find_name(t, "<|end|>");
    bool call = find_name(t, "<|call|>") >= 0 || find_name(t, "<|calls|>") >= 0;
    bool turn = find_name(t, "<|return|>") >= 0 || find_name(t, "<|flush|>") >= 0;
    if (end >= 0 && call && turn) {
        set_flag(t, end, NM_TOK_END, false);
        set_type(t, end, NM_TOK_USER);
    }
}

static int lower_ascii(char c)
{
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

static bool name_contains(nm_str name, const char *what)
{
    size_t n = strlen(what);
    for (size_t i = 0; i + n <= name.n; i++) {
        size_t j = 0;
        while (j < n && lower_ascii(name.p[i + j]) == what[j])
            j++;
        if (j == n)
            return true;
    }
    return false;
}

/* Phi-3's chat tokens swallow the white space after them. The file does not say so; the model's
 * name does (general.name holds "phi-3" or "phi3", as llama.cpp decides it). */
static void mend_phi3(nm_tokenizer *t)
{
    nm_str name = {NULL, 0};
    if (nm_gguf_get_str(t->g, "general.name", &name, NULL) != NPUMOE_OK ||
        (!name_contains(name, "phi-3") && !name_contains(name, "phi3")))
        return;
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        unsigned type = nm_tok_type(t, (int32_t)i);
        if (type == NM_TOK_CONTROL || type == NM_TOK_USER || type == NM_TOK_UNKNOWN)
            set_flag(t, (int32_t)i, NM_TOK_RSTRIP, true);
    }
    static const char *const keep[] = {"<unk>", "<s>", "<|endoftext|>"};
    for (size_t i = 0; i < COUNT(keep); i++)
        if (find_name(t, keep[i]) >= 0)
            set_flag(t, find_name(t, keep[i]), NM_TOK_RSTRIP, false);
}

/* ---- the cutter ------------------------------------------------------------------------------ */

typedef struct entry {
    nm_str text;
    int32_t id;
} entry;

static int by_bytes(const void *x, const void *y)
{
    nm_str a = ((const entry *)x)->text, b = ((const entry *)y)->text;
    int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

static bool is_cut(const nm_tokenizer *t, uint32_t id, bool all)
{
    unsigned type = nm_tok_type(t, (int32_t)id);
    return t->texts[id].n > 0 &&
           (type == NM_TOK_USER || (all && (type == NM_TOK_CONTROL || type == NM_TOK_UNKNOWN)));
}

static npumoe_status build_cutter(nm_tokenizer *t, nm_cutter *c, bool all, npumoe_error *err)
{
    size_t n = 0;
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        if (!is_cut(t, i, all))
            continue;
        if (t->texts[i].n > NM_SPECIAL_MAX_BYTES)
            return nm_err_set(err, NPUMOE_ETOKEN,
                              KEY("tokens") ": special token %u has %zu bytes, at most %d expected",
                              i, t->texts[i].n, NM_SPECIAL_MAX_BYTES);
        n++;
    }
    entry *list = nm_alloc_array(t->a, n, sizeof *list);
    c->ids = nm_alloc_array(t->a, n, sizeof *c->ids);
    if (!list || !c->ids) {
        nm_free(t->a, list);
        return nm_err_nomem(err, (uint64_t)n * sizeof *list, "special tokens");
    }
    n = 0;
    for (uint32_t i = 0; i < t->n_vocab; i++)
        if (is_cut(t, i, all))
            list[n++] = (entry){t->texts[i], (int32_t)i};
    if (n)
        qsort(list, n, sizeof *list, by_bytes);
    size_t at = 0;
    for (unsigned b = 0; b < 256; b++) {
        c->first[b] = (uint32_t)at;
        for (; at < n && (unsigned char)list[at].text.p[0] == b; at++)
            c->ids[at] = list[at].id;
    }
    c->first[256] = (uint32_t)n;
    nm_free(t->a, list);
    return NPUMOE_OK;
}

/* In ids[lo, hi), which agree in depth bytes: the first whose next byte is >= byte. */
static uint32_t lower(const nm_tokenizer *t, const nm_cutter *c, uint32_t lo, uint32_t hi,
                      size_t depth, unsigned byte)
{
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        nm_str s = t->texts[c->ids[mid]];
        if (s.n <= depth || (unsigned char)s.p[depth] < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The longest special token that p begins with; -1 = none. */
static int32_t match_at(const nm_tokenizer *t, const nm_cutter *c, const char *p, size_t n)
{
    unsigned byte = (unsigned char)p[0];
    uint32_t lo = c->first[byte], hi = c->first[byte + 1];
    int32_t best = -1;
    for (size_t depth = 1; lo < hi; depth++) {
        if (t->texts[c->ids[lo]].n == depth)
            best = c->ids[lo++];
        if (depth == n)
            break;
        byte = (unsigned char)p[depth];
        lo = lower(t, c, lo, hi, depth, byte);
        hi = lower(t, c, lo, hi, depth, byte + 1);
    }
    return best;
}

int32_t nm_special_find(const nm_tokenizer *t, const nm_cutter *c, const char *p, size_t n,
                        size_t from, size_t *at, size_t *len)
{
    for (size_t i = from; c->first[256] > 0 && i < n; i++) {
        unsigned byte = (unsigned char)p[i];
        if (c->first[byte] == c->first[byte + 1])
            continue;
        int32_t id = match_at(t, c, p + i, n - i);
        if (id < 0)
            continue;
        *at = i;
        *len = t->texts[id].n;
        return id;
    }
    return -1;
}

/* ---------------------------------------------------------------------------------------------- */

npumoe_status nm_special_load(nm_tokenizer *t, npumoe_error *err)
{
    NM_TRY(load_ids(t, err));
    for (size_t i = 0; i < COUNT(end_names); i++) {
        int32_t id = find_name(t, end_names[i]);
        if (id < 0)
            continue;
        set_flag(t, id, NM_TOK_END, true);
        set_type(t, id, NM_TOK_CONTROL);
    }
    mend_harmony(t);
    mend_phi3(t);
    NM_TRY(load_flags(t, err));
    NM_TRY(build_cutter(t, &t->cut_plain, false, err));
    return build_cutter(t, &t->cut_all, true, err);
}

void nm_special_free(nm_tokenizer *t)
{
    nm_free(t->a, t->cut_plain.ids);
    nm_free(t->a, t->cut_all.ids);
}
