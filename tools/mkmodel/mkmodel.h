/* mkmodel.h: the synthetic model maker: a specification in, a GGUF file out.
 *
 * A specification (mk_spec) says family, geometry, type and seed. layout.c turns it into metadata and
 * a list of tensors, weights.c draws their content, skew.c designs the routers, vocab.c the
 * tokenizer. Everything that reaches the file is a pure function of the specification: random
 * numbers are integers of a counter-based generator, and floats come from them by operations that
 * IEEE 754 rounds exactly (+ - * / sqrt), never by libm. The same seed gives the same bytes on
 * every machine and for every number of threads, which is what lets tests/golden store logits
 * instead of models.
 *
 * Why synthetic weights need a design: plain random weights route uniformly, and everything that
 * one then measures about experts (padding, overflow, cache hits) is upside down. skew.c has the
 * design, tools/mkmodel/README.md the loads that were measured. */
#ifndef MKMODEL_H
#define MKMODEL_H

#include "base/str.h"
#include "base/threads.h"
#include "formats/gguf_write.h"

typedef enum mk_arch {
    MK_OLMOE,
    MK_QWEN3MOE,
    MK_QWEN2MOE,
    MK_LLAMA,
    MK_GRANITEMOE,
    MK_PHIMOE,
    MK_GPT_OSS, /* for measuring and for other engines; not yet one of npumoe's families */
    MK_ARCH_COUNT
} mk_arch;

/* What a family has; facts and sources: docs/families/. */
typedef struct mk_family {
    const char *arch;
    const char *vocab_model; /* "gpt2" or "llama" */
    const char *vocab_pre;
    bool qk_norm_head, qk_norm_full; /* RMSNorm of Q and K per head / over the whole projection */
    bool qkv_bias;
    bool layer_norm;    /* LayerNorm with bias, biases also on attn_output and output (phimoe) */
    bool shared_expert; /* with a sigmoid gate */
    bool multipliers;   /* granite's four scales; embeddings tied */
    bool expert_ff_key; /* expert_feed_forward_length is stored */
    bool head_dim_key;  /* attention.key_length is stored even when it is embd / heads */
    bool renormalised;  /* routing weights sum to 1 */
    bool oss;           /* gpt-oss: biases everywhere, attention sinks, post_attention_norm, YaRN */
} mk_family;

typedef struct mk_spec {
    mk_arch arch;
    const char *name;
    uint32_t layers, embd, heads, kv_heads, head_dim;
    uint32_t experts, used, ff, ff_shared;
    uint32_t vocab, ctx;
    uint32_t ctx_orig; /* phimoe: > 0 = LongRoPE factors, trained length; gpt-oss: YaRN's */
    uint32_t window;   /* phimoe, gpt-oss: 0 = none */
    float rope_base, eps;
    float embd_scale, residual_scale, attn_scale, logit_scale; /* granitemoe; 0 = not used */
    const char *type;                                          /* "Q4_K_M", "F32", ... */
    const char *vocab_from;                                    /* GGUF to copy tokenizer.* from */
    uint64_t seed;
    float skew; /* busiest expert's load over the mean; 0 = chosen from experts and used */
} mk_spec;

/* The preset's values; false when there is none of that name. */
bool mk_preset(const char *name, mk_spec *out);
const char *mk_preset_name(size_t i); /* NULL past the end */
const mk_family *mk_family_of(mk_arch arch);

/* ---- random numbers (weights.c) ----------------------------------------------------------- */

/* Element i of stream key: 64 well mixed bits (Steele, Lea, Flood 2014: splitmix64). */
static inline uint64_t mk_hash(uint64_t key, uint64_t i)
{
    uint64_t z = key + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Variance 1, mean 0, nearly normal: the sum of four 16-bit uniforms (Irwin-Hall), bounded by
 * +-3.46. Exact: an integer below 2^18 times one constant. */
static inline float mk_normal(uint64_t key, uint64_t i)
{
    uint64_t h = mk_hash(key, i);
    int32_t s = (int32_t)((h & 0xffff) + ((h >> 16) & 0xffff) + ((h >> 32) & 0xffff) + (h >> 48));
    return (float)(s - 131070) * (float)(1.0 / 37837.227);
}

/* Uniform in [0, 1) with 24 bits. */
static inline float mk_uniform(uint64_t key, uint64_t i)
{
    return (float)(mk_hash(key, i) >> 40) * (1.0f / 16777216.0f);
}

/* ---- tensors (layout.c, weights.c) -------------------------------------------------------- */

typedef enum mk_role {
    MK_EMBEDDING, /* rows of unit variance with the anchor channels (see skew.c) */
    MK_MATRIX,    /* random, standard deviation std */
    MK_WRITER,    /* the same, but rows that write to anchor channels are small */
    MK_NORM,      /* around std in size; anchor channels damped to `anchor` */
    MK_VECTOR,    /* random around 0: biases */
    MK_ROUTER,    /* designed by skew.c */
    MK_FACTORS    /* LongRoPE: from 1 rising to 1 + std */
} mk_role;

typedef struct mk_tensor {
    char name[64];
    nm_type type;
    uint32_t n_dims;
    uint64_t ne[3];
    mk_role role;
    float std;
    float anchor; /* MK_NORM: weight of anchor channels; 0 = no anchors in this vector */
    bool signs;   /* MK_NORM: random signs */
    uint32_t layer;
    uint64_t bytes;
} mk_tensor;

/* Four channels of the residual stream that hold the same value for every token, so that routers
 * can have a constant part (skew.c). All in the first block of a row. */
#define MK_ANCHORS 4
extern const uint32_t mk_anchor_channel[MK_ANCHORS];
float mk_anchor_value(const mk_spec *s, size_t i); /* what the embedding holds there */
bool mk_is_anchor(uint64_t channel);

/* Allocates the list; *out is freed with nm_free. */
npumoe_status mk_layout(const mk_spec *s, const npumoe_allocator *a, mk_tensor **out, size_t *n,
                        npumoe_error *err);
/* general.*, geometry and rope keys; the tokenizer is mk_put_vocab's. */
npumoe_status mk_put_metadata(nm_gguf_writer *w, const mk_spec *s, npumoe_error *err);
/* Variance that the branches have added to the residual stream before the FFN norm of a layer,
 * relative to the embedding's: the design value that layout.c sizes its weights for. */
float mk_growth(const mk_spec *s, uint32_t layer);
/* Damping of anchor channels by the FFN norm: the router undoes it, experts do not see them. */
#define MK_FFN_ANCHOR 0.05f

/* Writes the content of one tensor. done counts bytes over all tensors; progress may be NULL. */
typedef struct mk_weights mk_weights;
npumoe_status mk_weights_new(const mk_spec *s, nm_pool *pool, mk_weights **out, npumoe_error *err);
void mk_weights_free(mk_weights **w);
npumoe_status mk_write_tensor(mk_weights *m, nm_gguf_writer *w, const mk_tensor *t,
                              npumoe_progress_fn progress, void *user, uint64_t *done,
                              uint64_t total, npumoe_error *err);

/* ---- routers (skew.c) --------------------------------------------------------------------- */

typedef struct mk_skew mk_skew;
npumoe_status mk_skew_new(const mk_spec *s, mk_skew **out, npumoe_error *err);
void mk_skew_free(mk_skew **k);
/* Row e (embd floats) of the router of a layer. */
void mk_skew_row(const mk_skew *k, uint32_t layer, uint32_t expert, float *row);

/* ---- tokenizer (vocab.c) ------------------------------------------------------------------ */

/* Writes tokenizer.*: synthetic, s->vocab tokens, valid for the family. */
npumoe_status mk_put_vocab(nm_gguf_writer *w, const mk_spec *s, npumoe_error *err);
/* Number of tokens of the file named by vocab_from. */
npumoe_status mk_vocab_count(const nm_gguf *g, uint32_t *n, npumoe_error *err);
npumoe_status mk_copy_vocab(nm_gguf_writer *w, const nm_gguf *g, npumoe_error *err);

#endif
