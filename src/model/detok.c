/* detok.c: tokens back to text, one at a time.
 *
 * Tokens can be parts of characters. The detokenizer keeps what may still become a character (at
 * most three bytes) and gives out everything before it; what can become none is replaced by
 * U+FFFD, one per maximal ill-formed subpart. So the output is valid UTF-8 at every step, and the
 * same however the tokens are spread over the calls.
 *
 * It undoes the space that encoding adds for SentencePiece: one leading space is dropped at the
 * beginning and after every special token. Who continues a text (a base model's answer to a prompt) must
 * push the prompt's last token first and drop what comes out, or the first word loses its space.
 *
 * Control and unknown tokens give nothing, or their name with `special`. The buffer is sized for
 * the longest token when it is made: push allocates nothing. */
#include "model/tokenizer_priv.h"

#include "base/num.h"
#include "base/utf8.h"

#define REPLACEMENT       "\xef\xbf\xbd"
#define REPLACEMENT_BYTES 3

struct nm_detok {
    const npumoe_allocator *a;
    const nm_tokenizer *t;
    bool special;
    bool at_start; /* the next space is not the text's */
    unsigned char n_held;
    char held[NM_UTF8_MAX - 1];
    char *in; /* what was held and the token's bytes */
    char *out;
};

npumoe_status nm_detok_new(const nm_tokenizer *t, bool special, const npumoe_allocator *a,
                           nm_detok **out, npumoe_error *err)
{
    a = nm_allocator_or_default(a);
    size_t room = nm_max_size(t->max_piece_bytes, 1) + sizeof((nm_detok *)0)->held;
    nm_detok *d = nm_zalloc(a, sizeof *d);
    if (!d)
        return nm_err_nomem(err, sizeof *d, "a detokenizer");
    *d = (nm_detok){.a = a, .t = t, .special = special, .at_start = true};
    d->in = nm_alloc(a, room);
    d->out = nm_alloc_array(a, room, REPLACEMENT_BYTES); /* every byte may be replaced */
    if (!d->in || !d->out) {
        nm_detok_free(&d);
        return nm_err_nomem(err, (uint64_t)room * (1 + REPLACEMENT_BYTES), "a detokenizer");
    }
    *out = d;
    return NPUMOE_OK;
}

void nm_detok_free(nm_detok **d)
{
    if (!*d)
        return;
    nm_free((*d)->a, (*d)->in);
    nm_free((*d)->a, (*d)->out);
    nm_free((*d)->a, *d);
    *d = NULL;
}

/* Copies what is whole from in[0..n) to d->out, holds back an unfinished end. */
static size_t settle(nm_detok *d, size_t n)
{
    size_t n_out = 0;
    d->n_held = 0;
    for (size_t i = 0; i < n;) {
        size_t good = nm_utf8_valid(d->in + i, n - i);
        memcpy(d->out + n_out, d->in + i, good);
        n_out += good;
        i += good;
        if (i == n)
            break;
        uint32_t cp;
        int len = nm_utf8_next(d->in + i, n - i, &cp);
        if (len == 0) {
            d->n_held = (unsigned char)(n - i);
            memcpy(d->held, d->in + i, n - i);
            break;
        }
        memcpy(d->out + n_out, REPLACEMENT, REPLACEMENT_BYTES);
        n_out += REPLACEMENT_BYTES;
        i += (size_t)-len;
    }
    return n_out;
}

npumoe_status nm_detok_push(nm_detok *d, npumoe_token token, const char **text, size_t *text_bytes,
                            npumoe_error *err)
{
    const nm_tokenizer *t = d->t;
    if (token < 0 || (uint32_t)token >= t->n_vocab)
        return nm_err_set(err, NPUMOE_EINVAL, "token %d, expected 0 to %u", token, t->n_vocab - 1);
    unsigned type = nm_tok_type(t, token);
    bool cut = type == NM_TOK_CONTROL || type == NM_TOK_UNKNOWN || type == NM_TOK_USER;
    nm_str s = nm_tokenizer_bytes(t, token, d->special);
    if (d->at_start && !cut && t->add_space && s.n && s.p[0] == ' ') {
        s.p++;
        s.n--;
    }
    d->at_start = cut;
    memcpy(d->in, d->held, d->n_held);
    if (s.n)
        memcpy(d->in + d->n_held, s.p, s.n);
    *text_bytes = settle(d, d->n_held + s.n);
    *text = d->out;
    return NPUMOE_OK;
}

npumoe_status nm_detok_finish(nm_detok *d, const char **text, size_t *text_bytes, npumoe_error *err)
{
    (void)err;
    *text_bytes = 0;
    if (d->n_held) {
        memcpy(d->out, REPLACEMENT, REPLACEMENT_BYTES);
        *text_bytes = REPLACEMENT_BYTES;
    }
    *text = d->out;
    d->n_held = 0;
    d->at_start = true;
    return NPUMOE_OK;
}
