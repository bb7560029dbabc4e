/* tiny.h: seeded GGUF models of every family, small enough to run hundreds of times in a test, with
 * a few ways to make one wrong. For larger geometries with realistic routing: tools/mkmodel. */
#ifndef TINY_H
#define TINY_H

#include "formats/gguf_write.h"

typedef struct tiny_spec {
    const char *arch;
    uint32_t n_layer, n_embd, n_head, n_head_kv, dim, n_ff, n_expert, k, n_ff_shared;
    uint32_t n_vocab, n_ctx, window, ctx_orig;
    uint32_t type; /* nm_type of the matrices */
    uint64_t seed;
    bool merged; /* attn_qkv and ffn_gate_up_exps instead of separate tensors */
    bool tied;   /* no output.weight */
    /* Ways to be wrong; NULL = not used. */
    const char *omit;    /* leave out the key or tensor of that name */
    const char *extra;   /* add a tensor of that name */
    const char *reshape; /* a tensor with one more row (or element) than it should have */
    const char *nan;     /* a tensor whose first element is NaN */
    const char *set_key; /* a u32 key with another value */
    uint32_t set_value;
    const char *set_f32_key; /* the same for f32; it is added where the family has none */
    float set_f32_value;
} tiny_spec;

/* A sensible tiny model of an architecture. */
tiny_spec tiny_default(const char *arch);
npumoe_status tiny_write(const tiny_spec *s, const char *path, npumoe_error *err);
/* A file name in $TMPDIR or /tmp that nobody else uses; static buffer, one per process. */
const char *tiny_path(void);

#endif
