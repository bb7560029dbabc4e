/* pretok.c: runs the steps of a pre-tokenizer.
 *
 * Each piece of a step goes through the next step at once, so nothing is stored: depth is the number
 * of steps, never the length of the text.
 *
 * PCRE2 is called with NO_UTF_CHECK, because it would check the whole rest of the text before every
 * match (quadratic); the caller hands over valid UTF-8 only. A piece is a subject of its own: its end
 * is the end of the text for \s+(?!\S), as in the tokenizers this follows. The limits on
 * backtracking are lifted: the patterns of the table backtrack at most over one run of
 * characters. */
#include "model/pretok_tables.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct nm_pretok {
    const npumoe_allocator *a;
    const nm_pretok_rule *rule;
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    size_t n_steps;
    pcre2_code *code[NM_PRETOK_MAX_STEPS]; /* NULL where the step has a function */
};

static void *pcre_alloc(size_t bytes, void *a)
{
    return nm_alloc(a, bytes);
}

static void pcre_free(void *ptr, void *a)
{
    nm_free(a, ptr);
}

/* ---- loading ------------------------------------------------------------------------------- */

const nm_pretok_rule *nm_pretok_find(nm_str name)
{
    for (size_t i = 0; i < nm_pretok_n_rules; i++)
        for (const char *const *z = nm_pretok_rules[i].names; *z; z++)
            if (nm_str_eqz(name, *z))
                return &nm_pretok_rules[i];
    return NULL;
}

/* Appends " name" when it fits. */
static void add_name(char *list, size_t room, const char *name)
{
    size_t n = strlen(list), len = strlen(name);
    if (n + len + 2 > room)
        return;
    list[n] = ' ';
    memcpy(list + n + 1, name, len + 1);
}

/* The list has the first name of every rule, then of the others what an error message can hold. */
static npumoe_status unknown_name(nm_str name, npumoe_error *err)
{
    char list[sizeof err->message - 100] = "";
    for (size_t i = 0; i < nm_pretok_n_rules; i++)
        add_name(list, sizeof list, nm_pretok_rules[i].names[0]);
    for (size_t i = 0; i < nm_pretok_n_rules; i++)
        for (const char *const *z = nm_pretok_rules[i].names + 1; *z; z++)
            add_name(list, sizeof list, *z);
    return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                      "tokenizer.ggml.pre: unknown pre-tokenizer '%.*s'; there are:%s",
                      (int)(name.n < 40 ? name.n : 40), name.p, list);
}

static npumoe_status compile(nm_pretok *p, size_t i, npumoe_error *err)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *ctx = pcre2_compile_context_create(p->memory);
    if (ctx)
        p->code[i] = pcre2_compile((PCRE2_SPTR)p->rule->steps[i].pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &code, &at, ctx);
    pcre2_compile_context_free(ctx);
    if (p->code[i]) {
        (void)pcre2_jit_compile(p->code[i],
                                PCRE2_JIT_COMPLETE); /* without it: slower, same result */
        return NPUMOE_OK;
    }
    if (!ctx || code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED)
        return nm_err_set(err, NPUMOE_ENOMEM, "out of memory: pre-tokenizer pattern %zu", i);
    return nm_err_set(err, NPUMOE_EINTERNAL,
                      "pre-tokenizer '%s': PCRE2 error %d at character %zu of pattern %zu",
                      p->rule->names[0], code, (size_t)at, i);
}

npumoe_status nm_pretok_new(nm_str name, const npumoe_allocator *a, nm_pretok **out,
                            npumoe_error *err)
{
    const nm_pretok_rule *rule = nm_pretok_find(name);
    if (!rule)
        return unknown_name(name, err);
    nm_pretok *p = nm_zalloc(a, sizeof *p);
    if (!p)
        return nm_err_nomem(err, sizeof *p, "the pre-tokenizer");
    p->a = a;
    p->rule = rule;
    npumoe_status st = NPUMOE_OK;
    p->memory = pcre2_general_context_create(pcre_alloc, pcre_free, (void *)(uintptr_t)a);
    p->limits = p->memory ? pcre2_match_context_create(p->memory) : NULL;
    if (!p->limits) {
        st = nm_err_nomem(err, 0, "the pre-tokenizer");
        goto out;
    }
    pcre2_set_match_limit(p->limits, UINT32_MAX);
    pcre2_set_heap_limit(p->limits, UINT32_MAX);
    for (; p->n_steps < NM_PRETOK_MAX_STEPS && rule->steps[p->n_steps].pattern; p->n_steps++)
        if (!rule->steps[p->n_steps].fn)
            NM_TRY_OUT(compile(p, p->n_steps, err));
    *out = p;
    p = NULL;
out:
    nm_pretok_free(&p);
    return st;
}

void nm_pretok_free(nm_pretok **p)
{
    if (!*p)
        return;
    for (size_t i = 0; i < NM_PRETOK_MAX_STEPS; i++)
        pcre2_code_free((*p)->code[i]);
    pcre2_match_context_free((*p)->limits);
    pcre2_general_context_free((*p)->memory);
    nm_free((*p)->a, *p);
    *p = NULL;
}

bool nm_pretok_ignores_merges(const nm_pretok *p)
{
    return p->rule->ignore_merges;
}

bool nm_pretok_adds_bos(const nm_pretok *p)
{
    return p->rule->add_bos;
}

/* ---- running ------------------------------------------------------------------------------- */

/* Match data is written to, so each call has its own; one pair of offsets is all that is read. */
npumoe_status nm_pretok_begin(nm_encoder *e)
{
    e->match = pcre2_match_data_create(1, e->t->pretok->memory);
    return e->match ? NPUMOE_OK : nm_err_nomem(e->err, 0, "pre-tokenizing");
}

void nm_pretok_end(nm_encoder *e)
{
    pcre2_match_data_free(e->match);
    e->match = NULL;
}

static npumoe_status run_step(nm_encoder *e, size_t step, const char *p, size_t n);

static npumoe_status run_pattern(nm_encoder *e, size_t step, const char *p, size_t n)
{
    const nm_pretok *pt = e->t->pretok;
    size_t done = 0;
    while (done < n) {
        int rc = pcre2_match(pt->code[step], (PCRE2_SPTR)p, n, done, PCRE2_NO_UTF_CHECK, e->match,
                             pt->limits);
        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        if (rc < 0)
            return nm_err_set(e->err, rc == PCRE2_ERROR_NOMEMORY ? NPUMOE_ENOMEM : NPUMOE_EINTERNAL,
                              "pre-tokenizer '%s': PCRE2 error %d in pattern %zu",
                              pt->rule->names[0], rc, step);
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(e->match);
        size_t from = at[0], to = at[1];
        if (to <= from) /* no pattern of the table matches nothing */
            return nm_err_set(e->err, NPUMOE_EINTERNAL,
                              "pre-tokenizer '%s': empty match of pattern %zu", pt->rule->names[0],
                              step);
        if (from > done)
            NM_TRY(run_step(e, step + 1, p + done, from - done));
        NM_TRY(run_step(e, step + 1, p + from, to - from));
        done = to;
    }
    return done < n ? run_step(e, step + 1, p + done, n - done) : NPUMOE_OK;
}

static npumoe_status run_step(nm_encoder *e, size_t step, const char *p, size_t n)
{
    const nm_pretok *pt = e->t->pretok;
    if (step == pt->n_steps)
        return nm_bpe_word(e, p, n);
    nm_split_fn fn = pt->rule->steps[step].fn;
    if (!fn)
        return run_pattern(e, step, p, n);
    for (size_t i = 0; i < n;) {
        size_t len = fn(p + i, n - i);
        NM_TRY(run_step(e, step + 1, p + i, len));
        i += len;
    }
    return NPUMOE_OK;
}

npumoe_status nm_pretok_split(nm_encoder *e, const char *p, size_t n)
{
    return run_step(e, 0, p, n);
}
