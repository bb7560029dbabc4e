/* quant_mix.h: which type each tensor of a quantised file gets.
 *
 * A mix ("Q4_K_M") is a base type for most matrices and better types for the few that hurt most.
 * The choices are those of llama.cpp (src/llama-quant.cpp) for mixture-of-experts models, so that a
 * file has the size and the quality that its name promises elsewhere. */
#ifndef NM_ENGINE_QUANT_MIX_H
#define NM_ENGINE_QUANT_MIX_H

#include "formats/gguf.h"

typedef struct nm_mix nm_mix;

/* By llama.cpp's name, any case; NULL when unknown. */
const nm_mix *nm_mix_by_name(const char *name);
/* The name at index, NULL past the end; for messages. */
const char *nm_mix_name(size_t index);
/* What general.file_type says of such a file. */
uint32_t nm_mix_file_type(const nm_mix *mix);

/* Fills types[i] for tensor i of g: the type it has now when it is to stay as it is.
 * pure: the base type for every matrix. */
npumoe_status nm_mix_plan(const nm_gguf *g, const nm_mix *mix, bool pure, const npumoe_allocator *a,
                          uint32_t *types, npumoe_error *err);

#endif
