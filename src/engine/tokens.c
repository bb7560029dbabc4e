/* tokens.c: the public token functions: thin wrappers over the model's tokenizer. A model without
 * one still works with token numbers; text functions then say so. */
#include "engine/model.h"

struct npumoe_detokenizer {
    const npumoe_allocator *allocator;
    nm_detok *detok;
};

static npumoe_status no_tokenizer(npumoe_error *err)
{
    return nm_err_set(err, NPUMOE_ETOKEN, "this model file holds no tokenizer");
}

size_t npumoe_tokens_bound(const npumoe_model *model, size_t text_bytes)
{
    return model->tokenizer ? nm_tokenizer_bound(model->tokenizer, text_bytes) : text_bytes;
}

npumoe_status npumoe_tokenize(const npumoe_model *model, const char *text, size_t text_bytes,
                              unsigned flags, npumoe_token *tokens, size_t capacity,
                              size_t *n_tokens, npumoe_error *err)
{
    if (model->tokenizer == NULL)
        return no_tokenizer(err);
    return nm_tokenizer_encode(model->tokenizer, text, text_bytes, flags, tokens, capacity,
                               n_tokens, err);
}

const char *npumoe_token_bytes(const npumoe_model *model, npumoe_token token, bool special,
                               size_t *bytes)
{
    nm_str s = {"", 0};
    if (model->tokenizer)
        s = nm_tokenizer_bytes(model->tokenizer, token, special);
    *bytes = s.n;
    return s.p ? s.p : "";
}

npumoe_token npumoe_token_bos(const npumoe_model *model)
{
    return model->tokenizer ? nm_tokenizer_bos(model->tokenizer) : -1;
}

npumoe_token npumoe_token_eos(const npumoe_model *model)
{
    return model->tokenizer ? nm_tokenizer_eos(model->tokenizer) : -1;
}

bool npumoe_token_is_end(const npumoe_model *model, npumoe_token token)
{
    return model->tokenizer && nm_tokenizer_is_end(model->tokenizer, token);
}

npumoe_status npumoe_detokenizer_new(const npumoe_model *model, bool special,
                                     npumoe_detokenizer **out, npumoe_error *err)
{
    if (model->tokenizer == NULL)
        return no_tokenizer(err);
    npumoe_detokenizer *d = nm_zalloc(model->allocator, sizeof *d);
    if (d == NULL)
        return nm_err_nomem(err, sizeof *d, "a detokenizer");
    d->allocator = model->allocator;
    npumoe_status st = nm_detok_new(model->tokenizer, special, model->allocator, &d->detok, err);
    if (st != NPUMOE_OK) {
        nm_free(model->allocator, d);
        return st;
    }
    *out = d;
    return NPUMOE_OK;
}

void npumoe_detokenizer_free(npumoe_detokenizer **detok)
{
    if (detok == NULL || *detok == NULL)
        return;
    nm_detok_free(&(*detok)->detok);
    nm_free((*detok)->allocator, *detok);
    *detok = NULL;
}

npumoe_status npumoe_detokenizer_push(npumoe_detokenizer *detok, npumoe_token token,
                                      const char **text, size_t *text_bytes, npumoe_error *err)
{
    return nm_detok_push(detok->detok, token, text, text_bytes, err);
}

npumoe_status npumoe_detokenizer_finish(npumoe_detokenizer *detok, const char **text,
                                        size_t *text_bytes, npumoe_error *err)
{
    return nm_detok_finish(detok->detok, text, text_bytes, err);
}
