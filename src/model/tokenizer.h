/* tokenizer.h: text to tokens and back, from the metadata of a GGUF file.
 *
 * Two algorithms: byte-level BPE (tokenizer.ggml.model "gpt2": split by the pre-tokenizer's
 * pattern, then merges by rank) and SentencePiece-style BPE ("llama": merges by score over the whole
 * text, byte fallback). Both are linear (times a logarithm) in the text, whatever the text.
 * Special and added tokens are cut out first. Immutable after loading; encode is thread safe.
 * Facts: docs/tokenizers.md. */
#ifndef NM_MODEL_TOKENIZER_H
#define NM_MODEL_TOKENIZER_H

#include "formats/gguf.h"

typedef struct nm_tokenizer nm_tokenizer;

/* Reads and checks tokenizer.ggml.*; keeps views into g, which must outlive it. ETOKEN with key,
 * found, expected; EUNSUPPORTED for another model or pre-tokenizer, listing what there is. */
npumoe_status nm_tokenizer_new(const nm_gguf *g, const npumoe_allocator *a, nm_tokenizer **out,
                               npumoe_error *err);
void nm_tokenizer_free(nm_tokenizer **t);

uint32_t nm_tokenizer_n_vocab(const nm_tokenizer *t);
const char *nm_tokenizer_kind(const nm_tokenizer *t); /* "gpt2/qwen2", "llama" */
size_t nm_tokenizer_bound(const nm_tokenizer *t, size_t text_bytes);
/* flags: npumoe_tokenize_flags. */
npumoe_status nm_tokenizer_encode(const nm_tokenizer *t, const char *text, size_t text_bytes,
                                  unsigned flags, npumoe_token *tokens, size_t capacity,
                                  size_t *n_tokens, npumoe_error *err);
nm_str nm_tokenizer_bytes(const nm_tokenizer *t, npumoe_token token, bool special);
npumoe_token nm_tokenizer_bos(const nm_tokenizer *t); /* -1 = none */
npumoe_token nm_tokenizer_eos(const nm_tokenizer *t);
bool nm_tokenizer_is_end(const nm_tokenizer *t, npumoe_token token);
bool nm_tokenizer_is_control(const nm_tokenizer *t, npumoe_token token);
/* Whether a detokenized text begins with the space that SentencePiece added. */
bool nm_tokenizer_drops_space(const nm_tokenizer *t);

/* Streaming back to text; the public npumoe_detokenizer wraps it (model/detok.c). */
typedef struct nm_detok nm_detok;
npumoe_status nm_detok_new(const nm_tokenizer *t, bool special, const npumoe_allocator *a,
                           nm_detok **out, npumoe_error *err);
void nm_detok_free(nm_detok **d);
npumoe_status nm_detok_push(nm_detok *d, npumoe_token token, const char **text, size_t *text_bytes,
                            npumoe_error *err);
npumoe_status nm_detok_finish(nm_detok *d, const char **text, size_t *text_bytes,
                              npumoe_error *err);

#endif
