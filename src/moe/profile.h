/* profile.h: what calibration knows: how the tokens of a text spread over the experts of a model.
 *
 * A profile is made of counts only, so two of them are joined by adding, in any order, and the same
 * routing always gives the same profile. It knows the model's geometry and a hash of its routers (every
 * quantisation of a model shares its profiles); it never knows a device, a capacity or a cost.
 *
 * WINDOWS. A text is cut into windows of 2048 tokens. A window is the unit of everything: it is
 * added whole, in one call for each layer, and belongs to one PART: window 3, 11, 19 ... of each text is
 * held out (HELD), the others are the ones to plan with (MAIN). Both parts hold the same counts, so any
 * question can be asked of either: plan with MAIN, see on HELD what the plan would have met.
 *
 * CHUNKS. Each window gives 16 chunks of 128 tokens, 8 of 256 ... and one of 2048, all from the
 * same routing. The last window of a text may be shorter; then only its whole chunks are counted,
 * since a load is a number of tokens out of the chunk's size. Popularity counts all of its tokens.
 *
 * LOADS. n_e of every chunk goes into a histogram per (layer, expert, size). Bins are exact up to 16,
 * then four to an octave, (16, 20], (20, 24], (24, 28], (28, 32], (32, 40] ...; a bin has the number of
 * its chunks and the sum of their loads, so that means and what lies above a bin's edge are exact. Why
 * no moments and no fitted distribution: a plan needs E[(n - C)+] for any capacity C, and loads are
 * neither normal nor binomial (they follow the topic). Why not all loads: 60 layers of 512 experts would
 * take gigabytes.
 *
 * Invariants (kept by the functions here, and checked when a file is read)
 *   - layers: MoE layers only, ascending model layer numbers; dense layers have no entry;
 *   - for each layer and part: sum over e of pairs[e] = tokens * k;
 *   - for each layer, part and size: an expert's bins count `chunks` chunks, and the loads of all
 *     experts add up to chunks * size * k.
 *
 * Expert numbers and layers index from 0; `layer` is the position among the MoE layers, whose number
 * in the model is p->layer_of[layer]. Files: profile_json.c, docs/calibrate.md. */
#ifndef NM_MOE_PROFILE_H
#define NM_MOE_PROFILE_H

#include "base/alloc.h"
#include "model/weights.h"
#include "moe/expert_types.h"

#define NM_PROFILE_WINDOW       2048u
#define NM_PROFILE_SIZES        5
#define NM_PROFILE_SIZE(i)      (128u << (i))
#define NM_PROFILE_BINS         185 /* of all sizes together */
#define NM_PROFILE_COACT_SIZE   2   /* co-activation is counted in chunks of 512 */
#define NM_PROFILE_COACT_STORED 32  /* experts of a layer whose pairs a file keeps */
#define NM_PROFILE_TEXTS_SPREAD 16  /* texts whose own popularity is kept, for the drift */
#define NM_PROFILE_MAX_TEXTS    65536u
#define NM_PROFILE_NAME         256 /* bytes of a name with its end; longer ones are cut */
#define NM_PROFILE_MAX_TOKENS   (UINT64_C(1) << 33) /* keeps all 32-bit counts from overflowing */

typedef enum nm_profile_part { NM_PROFILE_MAIN, NM_PROFILE_HELD, NM_PROFILE_PARTS } nm_profile_part;

/* The part of window w of a text. */
nm_profile_part nm_profile_part_of(uint64_t window);

/* Which model, and what a planner must know of it when the model is not there. */
typedef struct nm_profile_model {
    char *name;         /* general.name, or "" */
    char *architecture; /* "olmoe" */
    uint64_t router_hash;
    uint32_t n_layer, n_vocab, n_embd, n_head, n_head_kv, dim_k, dim_v, window;
    uint32_t n_expert, n_expert_used;
    uint32_t n_ff_expert, n_ff_shared; /* shared 0 = none */
    uint32_t n_ff_dense;               /* of the dense layers; 0 = there are none */
    /* nm_type of the file that was calibrated, in its first MoE layer. Informative: another
     * quantisation of the model has the same profile. */
    uint32_t type_gate, type_up, type_down, type_qkv, type_out;
} nm_profile_model;

typedef struct nm_profile_bin {
    uint32_t count;  /* chunks whose load is in this bin */
    uint32_t excess; /* sum over them of load - the bin's smallest load */
} nm_profile_bin;

typedef struct nm_profile_counts {
    uint64_t tokens;
    uint64_t chunks[NM_PROFILE_SIZES];
    uint64_t *pairs;      /* [n_layers][n_expert] */
    nm_profile_bin *bins; /* [n_layers][n_expert][NM_PROFILE_BINS], sizes one behind the other */
} nm_profile_counts;

typedef struct nm_profile_text {
    char *name;
    uint64_t bytes, tokens, held_tokens; /* tokens: of both parts */
    uint64_t *pairs; /* [n_layers][n_expert] of both parts; NULL behind the first few texts */
} nm_profile_text;

typedef struct npumoe_profile nm_profile; /* a name of the public interface */

struct npumoe_profile {
    const npumoe_allocator *allocator;
    nm_profile_model model;
    uint32_t n_layers;      /* MoE layers */
    uint32_t *layer_of;     /* [n_layers] */
    nm_expert_types *types; /* [n_layers] of the file that was calibrated; informative as well */
    nm_profile_counts part[NM_PROFILE_PARTS];
    /* Sum over the MAIN chunks of 512 of n_e * n_f, e <= f: [n_layers][n_expert (n_expert + 1) / 2].
     * coact_known[n_layers][n_expert]: a file keeps the busiest experts only. */
    uint64_t *coact;
    uint8_t *coact_known;
    nm_profile_text *texts;
    size_t n_texts, texts_cap;
    uint32_t *loads; /* [16][n_expert], room for nm_profile_add_window */
};

/* ---- making --------------------------------------------------------------------------------- */

/* An empty profile. model and layer_of[n_layers] are copied. EINVAL for a geometry that cannot be;
 * ENOMEM. */
npumoe_status nm_profile_new(const npumoe_allocator *a, const nm_profile_model *model,
                             const uint32_t *layer_of, uint32_t n_layers, nm_profile **out,
                             npumoe_error *err);
/* An empty profile of a loaded model. EUNSUPPORTED when it has no experts. */
npumoe_status nm_profile_new_for(const nm_config *c, const nm_weights *w, nm_profile **out,
                                 npumoe_error *err);
void nm_profile_free(nm_profile **p);

/* Hash of what decides about routing: the geometry, and router weights and biases as fp32. FNV-1a. */
npumoe_status nm_profile_router_hash(const nm_config *c, const nm_weights *w, uint64_t *hash,
                                     npumoe_error *err);

/* Begins a text; the windows that follow belong to it. Bytes of the name that are no UTF-8 and control
 * characters become '?', since a file has to name it. */
npumoe_status nm_profile_add_text(nm_profile *p, const char *name, uint64_t bytes,
                                  npumoe_error *err);
/* True when text i of the profile has this name (cleaned) and size. */
bool nm_profile_is_text(const nm_profile *p, size_t i, const char *name, uint64_t bytes);
/* One window of the newest text for ALL layers: ids[n_layers][n][k], each < n_expert, no expert
 * twice for a token; 1 <= n <= NM_PROFILE_WINDOW. Without a text (a run that only wants loads) nothing
 * is counted for texts. ETOOBIG past NM_PROFILE_MAX_TOKENS; then nothing was added. */
npumoe_status nm_profile_add_window(nm_profile *p, nm_profile_part part, uint32_t n,
                                    const uint16_t *ids, npumoe_error *err);
/* p += other. EINVAL when they are of different models, naming what differs; ETOOBIG; then p is as it
 * was. Co-activation is kept where both have it. */
npumoe_status nm_profile_merge(nm_profile *p, const nm_profile *other, npumoe_error *err);

/* EINVAL unless p was made with these routers; says which model it is of. `label` names the profile. */
npumoe_status nm_profile_check(const nm_profile *p, const char *label, const nm_config *c,
                               const nm_weights *w, npumoe_error *err);

/* ---- files ---------------------------------------------------------------------------------- */

/* label is for messages. EFORMAT names the key, what was found and what was expected. */
npumoe_status nm_profile_parse(const npumoe_allocator *a, const char *text, size_t bytes,
                               const char *label, nm_profile **out, npumoe_error *err);
npumoe_status nm_profile_load(const npumoe_allocator *a, const char *path, nm_profile **out,
                              npumoe_error *err);
/* Gets the file's text piece by piece; anything but OK ends the writing with it. */
typedef npumoe_status (*nm_profile_sink)(void *user, const char *text, size_t bytes,
                                         npumoe_error *err);
/* all_pairs: co-activation of all experts, for a run that will go on; else of the busiest. extra: keys
 * to add at the end as JSON ("\"resume\":{...}"), or NULL. */
npumoe_status nm_profile_write(const nm_profile *p, bool all_pairs, const char *extra,
                               nm_profile_sink sink, void *user, npumoe_error *err);
/* Appears whole or not at all. */
npumoe_status nm_profile_save(const nm_profile *p, const char *path, bool all_pairs,
                              const char *extra, npumoe_error *err);

/* ---- questions ------------------------------------------------------------------------------
 *
 * About the load n of one expert in one chunk of `chunk` tokens, 1 and up. A size that was not counted
 * is read off its two neighbours in RELATIVE loads n / chunk, which change slowly with the size:
 * overflow, mean and busy share as the mixture of both with weights linear in log2(chunk), quantiles as
 * the mean of both. Outside the sizes that have chunks (below 128, above 2048, or above what the texts
 * were long enough for) the nearest one speaks. Relative loads spread less in larger chunks, so this
 * is too careful above the largest and too bold below 128. A part without any chunk knows only
 * popularity: then every chunk is taken to have its mean load. */

/* Expected load; exact for the sizes counted. */
double nm_profile_mean(const nm_profile *p, nm_profile_part part, uint32_t layer, uint32_t expert,
                       uint32_t chunk);
/* E[(n - capacity)+]. Exact where the capacity is a bin's edge; inside a bin the loads are taken as
 * spread evenly around the bin's mean. Convex and falling in capacity. */
double nm_profile_overflow(const nm_profile *p, nm_profile_part part, uint32_t layer,
                           uint32_t expert, uint32_t chunk, double capacity);
/* The load that a share q (0..1) of the chunks does not exceed. */
double nm_profile_quantile(const nm_profile *p, nm_profile_part part, uint32_t layer,
                           uint32_t expert, uint32_t chunk, double q);
/* Share of the chunks with n > rows (rows 0: the expert has something to do). */
double nm_profile_above(const nm_profile *p, nm_profile_part part, uint32_t layer, uint32_t expert,
                        uint32_t chunk, double rows);
/* Share of the layer's pairs; 0 for a part that saw nothing. */
double nm_profile_popularity(const nm_profile *p, nm_profile_part part, uint32_t layer,
                             uint32_t expert);
/* Correlation (-1..1) of the loads of two experts over chunks of 512; false when it is not known or
 * one of them never varies. */
bool nm_profile_coactivation(const nm_profile *p, uint32_t layer, uint32_t e, uint32_t f,
                             double *correlation);
/* Chunks of the counted size that speaks for `chunk` (the nearer one): how far to trust the answers. */
uint64_t nm_profile_chunks(const nm_profile *p, nm_profile_part part, uint32_t chunk);

/* ---- bins (for profile_*.c and tests) ------------------------------------------------------- */

uint32_t nm_profile_n_bins(uint32_t size_index);    /* of one histogram */
uint32_t nm_profile_first_bin(uint32_t size_index); /* where it begins among NM_PROFILE_BINS */
uint32_t nm_profile_bin_of(uint32_t load);          /* within a histogram */
uint32_t nm_profile_bin_low(uint32_t bin);          /* smallest load of a bin */
uint32_t nm_profile_bin_high(uint32_t bin);         /* largest */
const nm_profile_bin *nm_profile_bins(const nm_profile *p, nm_profile_part part, uint32_t layer,
                                      uint32_t expert, uint32_t size_index);

#endif
