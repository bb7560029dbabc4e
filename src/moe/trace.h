/* trace.h: every routing decision of a run, as a file, and its reader.
 *
 * A trace is what a calibration saw before it counted: which experts each token chose in each layer, with
 * which weights. bench and the simulator replay it. Little endian, everything aligned to 8 bytes:
 *
 *     header   64 bytes   "NPUTRACE" | version 1 | header_bytes | router hash (u64) | n_layer | n_layers
 *                         | n_expert | k | id_bytes (1, or 2 above 256 experts) | weight_bytes (2)
 *                         | window 2048 | name_bytes | 8 zero bytes
 *              then       model layer of each of n_layers (u32), the model's name, zeros to a multiple of 8
 *     block    32 bytes   "BLCK" | n tokens (1..2048) | text number | flags (1: held out) | first token's
 *                         number in its text (u64) | its position in its sequence | name_bytes
 *              then       the text's name (in its first block only), zeros to 8; for each layer
 *                         ids[n][k] (id_bytes each) and weights[n][k] (fp16); zeros to 8
 *     end      32 bytes   "DONE" | 0 | texts | 0 | tokens (u64) | blocks (u64)
 *
 * A block is a window of calibration (profile.h), so it is added to a profile by one call. Weights are
 * half precision: they rank pairs (pruning) and scale outputs, which 11 bits do. A layer of 64 experts,
 * 8 used, takes 24 bytes for a token.
 *
 * The reader maps the file and walks over all headers once, so any block is at hand at once and memory is
 * 16 bytes for each. Sizes are checked then; ids and weights when they are read, since that touches
 * every page. Nothing in a trace can make it read outside the mapping. */
#ifndef NM_MOE_TRACE_H
#define NM_MOE_TRACE_H

#include "base/alloc.h"
#include "moe/profile.h"

/* ---- reading -------------------------------------------------------------------------------- */

typedef struct nm_trace nm_trace;

typedef struct nm_trace_info {
    nm_str name; /* of the model */
    uint64_t router_hash;
    uint32_t n_layer, n_layers, n_expert, k;
    uint64_t tokens, blocks, texts;
} nm_trace_info;

typedef struct nm_trace_block {
    uint32_t n, text;
    nm_profile_part part;
    uint64_t token;    /* number of the first in its text */
    uint32_t position; /* of the first in its sequence: what attention sees before it */
} nm_trace_block;

/* EFORMAT with the offset; a trace whose writing was stopped is one. */
npumoe_status nm_trace_open(const npumoe_allocator *a, const char *path, nm_trace **out,
                            npumoe_error *err);
/* Over bytes in memory, borrowed. */
npumoe_status nm_trace_open_memory(const npumoe_allocator *a, const void *data, size_t bytes,
                                   const char *label, nm_trace **out, npumoe_error *err);
void nm_trace_free(nm_trace **trace);

const nm_trace_info *nm_trace_get_info(const nm_trace *t);
uint32_t nm_trace_layer(const nm_trace *t, uint32_t layer); /* its number in the model */
nm_str nm_trace_text_name(const nm_trace *t, uint32_t text);
nm_trace_block nm_trace_block_at(const nm_trace *t, uint64_t block);

/* Tokens [first, first + n) of a block in one layer: ids[n][k] and weights[n][k], each may be NULL.
 * EFORMAT for an id out of range, an expert twice for one token, a weight that is not finite. */
npumoe_status nm_trace_read(const nm_trace *t, uint64_t block, uint32_t layer, uint32_t first,
                            uint32_t n, uint32_t *ids, float *weights, npumoe_error *err);

/* ---- writing -------------------------------------------------------------------------------- */

/* Writes PATH.partial, which a stopped run leaves and a later one goes on with. */
typedef struct nm_trace_writer nm_trace_writer;

/* The geometry is that of a profile. resume: bytes of PATH.partial that count, as
 * nm_trace_writer_sync gave them; 0 = from the beginning. */
npumoe_status nm_trace_writer_new(const npumoe_allocator *a, const char *path, const nm_profile *p,
                                  uint64_t resume, nm_trace_writer **out, npumoe_error *err);
/* What the resumed bytes hold, for the end of the file. */
void nm_trace_writer_count(nm_trace_writer *w, uint64_t tokens, uint64_t blocks, uint64_t texts);
/* ids[n_layers][n][k], weights[n_layers][n][k]. text_name: in the first block of a text, else NULL. */
npumoe_status nm_trace_writer_add(nm_trace_writer *w, const nm_trace_block *b,
                                  const char *text_name, const uint16_t *ids, const float *weights,
                                  npumoe_error *err);
/* Everything added is on its way to the disk; *bytes is where a later run goes on. */
npumoe_status nm_trace_writer_sync(nm_trace_writer *w, uint64_t *bytes, npumoe_error *err);
/* Ends the trace and gives it its name. */
npumoe_status nm_trace_writer_commit(nm_trace_writer *w, npumoe_error *err);
/* Closes; PATH.partial stays unless it was committed. */
void nm_trace_writer_free(nm_trace_writer **w);

#endif
