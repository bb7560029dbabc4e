/* sampler.h: the sampler without a model, for generate.c and the tests. */
#ifndef NM_ENGINE_SAMPLER_H
#define NM_ENGINE_SAMPLER_H

#include "base/alloc.h"

/* npumoe_sampler_new() with what it takes from the model. The allocator must outlive the sampler. */
npumoe_status nm_sampler_new(const npumoe_allocator *a, size_t n_vocab,
                             const npumoe_sampler_options *options, npumoe_sampler **out,
                             npumoe_error *err);

/* Forgets what was accepted and takes these tokens as the text so far. The state of the random
 * generator stays: two answers to one prompt differ. */
void nm_sampler_set_history(npumoe_sampler *sampler, const npumoe_token *tokens, size_t n_tokens);

#endif
