/* npumoe.h: the only public header of libnpumoe.
 *
 * Two nouns carry the interface.
 *
 *   The MODEL is what a GGUF file holds: weights (views into the memory-mapped file), tokenizer
 *   and geometry. It is immutable after loading, owns the thread pool, and may be shared.
 *   The SESSION is one mutable timeline: a KV cache and the tokens it stands for. A caller always
 *   hands a session the FULL token prefix; the session finds what it already holds, rewinds to
 *   the common part and computes the rest. There is no "position" to keep in step.
 *
 * Around them: a SAMPLER picks the next token, a DETOKENIZER turns a stream of tokens into text
 * that never splits a UTF-8 character, and npumoe_generate() ties these together with stop
 * strings.
 *
 * Conventions
 *   - Fallible functions return npumoe_status (0 or negative), give their result through a
 *     pointer that is written on success only, and take an npumoe_error * last, which may be NULL.
 *   - `const T *` arguments are borrowed for the call. What a function creates, the caller frees
 *     with the matching _free(T **), which accepts a pointer to NULL and nulls it.
 *   - Option structs begin with struct_bytes and must be filled by their _default() function
 *     first; the caller then sets what it wants otherwise. A zero means zero (temp 0 is greedy,
 *     n_predict 0 generates nothing) unless the comment at the field says "0 = ...". NULL for a
 *     whole struct means its _default(). Structs for results begin with struct_bytes too: the
 *     caller sets it to sizeof before the call, and no more than that is written. Later versions
 *     only add fields at the end, so programs keep working with a newer library.
 *   - The library never prints, exits, aborts or reads the environment. It holds no mutable
 *     global state. Log lines go to the caller's function.
 *   - Threads: a model may be used by many sessions, but as its thread pool is one, evaluations
 *     of sessions of one model are serialised inside. One session belongs to one thread at a time.
 *     A callback of a running evaluation must not evaluate a session of the same model, which
 *     would wait for itself: it gets EINVAL. (It may make and free other sessions.)
 *   - Counts are elements; sizes in bytes end in _bytes.
 */
#ifndef NPUMOE_H
#define NPUMOE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "npumoe_version.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define NPUMOE_API __attribute__((visibility("default")))
#else
#define NPUMOE_API
#endif

/* ---- status and errors ------------------------------------------------------------------- */

typedef enum npumoe_status {
#define X(name, number, text) NPUMOE_##name = (number),
#include "npumoe_errors.def"
#undef X
} npumoe_status;

#define NPUMOE_NO_OFFSET UINT64_MAX

/* What went wrong, in words for the user: which file, where, what was found, what was expected. */
typedef struct npumoe_error {
    npumoe_status code;
    uint64_t offset; /* byte in the file concerned, or NPUMOE_NO_OFFSET */
    char message[512];
} npumoe_error;

/* The fixed text of a status ("malformed file"); never NULL, never to be freed. */
NPUMOE_API const char *npumoe_status_text(npumoe_status status);

/* "0.1.0" of the linked library. */
NPUMOE_API const char *npumoe_version(void);

/* ---- memory, log, progress ---------------------------------------------------------------- */

/* Where the library takes memory from. realloc(ctx, NULL, n) allocates, free(ctx, NULL) does
 * nothing; all return NULL on failure and must be thread safe. NULL for the struct = malloc. */
typedef struct npumoe_allocator {
    void *ctx;
    void *(*realloc)(void *ctx, void *ptr, size_t bytes);
    void (*free)(void *ctx, void *ptr);
} npumoe_allocator;

typedef enum npumoe_log_level {
    NPUMOE_LOG_ERROR,
    NPUMOE_LOG_WARN,
    NPUMOE_LOG_INFO,
    NPUMOE_LOG_DEBUG
} npumoe_log_level;

/* One line without line feed; borrowed for the call. */
typedef void (*npumoe_log_fn)(void *user, npumoe_log_level level, const char *line);

/* Called now and then during long work with done <= total (units are the work's own).
 * Returning false cancels: the call ends with NPUMOE_ECANCELED and loses nothing finished. */
typedef bool (*npumoe_progress_fn)(void *user, uint64_t done, uint64_t total);

/* Frees text that the library returned as `char **` (reports). NULL is fine. */
NPUMOE_API void npumoe_text_free(char **text);

/* ---- model -------------------------------------------------------------------------------- */

typedef struct npumoe_model npumoe_model;
typedef int32_t npumoe_token;

/* How many bits of the products of many rows are worth paying for, where the CPU has a choice (a
 * matrix unit, VNNI). One token at a time is near fp32 in all of them. */
typedef enum npumoe_precision {
    NPUMOE_PRECISION_AUTO = 0, /* by weight type: rounding stays below what the type itself lost */
    NPUMOE_PRECISION_FAST,     /* activations of 8 bits: bf16, or bytes with VNNI */
    NPUMOE_PRECISION_FULL,     /* near fp32; on a host the projections of attention nearest */
    NPUMOE_PRECISION_FP32      /* fp32 only: the same bits for any chunk size; the slowest */
} npumoe_precision;

typedef struct npumoe_model_options {
    size_t struct_bytes;
    const npumoe_allocator *allocator; /* must outlive the model; NULL = malloc */
    npumoe_log_fn log;
    void *log_user;
    npumoe_progress_fn progress; /* while checking and reading the file */
    void *progress_user;
    const char *isa;   /* kernel tier: "scalar", "avx2", "avx512", "amx", "neon"; NULL = the best */
    int32_t n_threads; /* 0 = CPUs that affinity and cgroup allow */
    uint64_t memory_limit_bytes; /* 0 = what the machine and the cgroup have; see ETOOBIG */
    bool vocab_only;             /* tokenizer, no weights needed in the file; any architecture, and
                                    geometry that is not known is 0 */
    bool use_mlock;              /* pin the mapping in memory */
    bool check_tensors;          /* also scan weights for NaN/Inf (reads the whole file) */
    npumoe_precision precision;
} npumoe_model_options;

NPUMOE_API npumoe_model_options npumoe_model_options_default(void);

/* Loads a GGUF file (any part of a split set names the whole set). Owner: the caller.
 * ENOENT/EIO, EFORMAT (with the offset), EUNSUPPORTED (architecture or type, listing what is
 * supported), EMODEL, ETOKEN, ETOOBIG (before anything large is touched, with the numbers: the
 * weights and a small session exceed the machine's memory, the cgroup's limit or the caller's). */
NPUMOE_API npumoe_status npumoe_model_load(const char *path, const npumoe_model_options *options,
                                           npumoe_model **out, npumoe_error *err);
NPUMOE_API void npumoe_model_free(npumoe_model **model);

typedef struct npumoe_model_info {
    size_t struct_bytes;
    const char *architecture; /* "qwen3moe"; lives as long as the model */
    const char *name;         /* general.name or "" */
    const char *isa;          /* kernel tier in use */
    int32_t n_threads;
    int32_t n_vocab, n_layer, n_embd, n_head, n_head_kv, head_dim;
    int32_t n_expert, n_expert_used, n_ff_expert;
    uint32_t n_ctx_train;
    uint64_t n_params, n_params_active; /* active: per token */
    uint64_t weights_bytes;             /* tensor data in the file(s) */
    uint64_t mapped_bytes;
} npumoe_model_info;

NPUMOE_API void npumoe_model_get_info(const npumoe_model *model, npumoe_model_info *info);

/* Replaces the routers' choices by recorded ones: a trace (`npumoe calibrate --trace`) or CSV of the same form
 * (docs/calibrate.md), which is easily written by hand. The token at position p of a session takes the
 * experts and weights of the trace's token p modulo their number, so a short trace repeats; at most
 * 65536 tokens are used. path NULL gives the routers their say again. For loads of one's choice: what is
 * then computed is no longer the model's answer. EINVAL while a session of the model is alive, EMODEL for a
 * trace of another geometry, EFORMAT with byte or line, EUNSUPPORTED for a model without experts. */
NPUMOE_API npumoe_status npumoe_model_use_routes(npumoe_model *model, const char *path,
                                                 npumoe_error *err);

/* Everything `npumoe info` shows, as one JSON object: file(s), geometry, experts, router rule,
 * tensor types with counts and bytes, tokenizer, KV bytes and total memory for each of the
 * n_ctxs context lengths (0 of them = the training context). Works without loading weights, for
 * unsupported architectures too (then geometry is what the header says). Free with
 * npumoe_text_free. */
NPUMOE_API npumoe_status npumoe_describe_file(const char *path, const uint32_t *ctxs, size_t n_ctxs,
                                              char **json, npumoe_error *err);

/* ---- tokens ------------------------------------------------------------------------------- */

typedef enum npumoe_tokenize_flags {
    NPUMOE_TOKENIZE_PLAIN = 0,
    NPUMOE_TOKENIZE_ADD_SPECIAL = 1,  /* BOS/EOS as the model's metadata asks */
    NPUMOE_TOKENIZE_PARSE_SPECIAL = 2 /* "<|im_start|>" in the text becomes its control token */
} npumoe_tokenize_flags;

/* An upper bound for the tokens of a text of that many bytes, for sizing the array below. */
NPUMOE_API size_t npumoe_tokens_bound(const npumoe_model *model, size_t text_bytes);

/* Text (any bytes; invalid UTF-8 is kept by byte tokens where the vocabulary has them) to
 * tokens. tokens[capacity] is the caller's; EINVAL when it is too small, with the need in the
 * message. Linear in text_bytes. */
NPUMOE_API npumoe_status npumoe_tokenize(const npumoe_model *model, const char *text,
                                         size_t text_bytes, unsigned flags, npumoe_token *tokens,
                                         size_t capacity, size_t *n_tokens, npumoe_error *err);

/* The bytes one token stands for (not terminated; may be a part of a character). special: give
 * the name of control tokens instead of nothing. Borrowed from the model; *bytes = 0 for ids out
 * of range. */
NPUMOE_API const char *npumoe_token_bytes(const npumoe_model *model, npumoe_token token,
                                          bool special, size_t *bytes);

NPUMOE_API npumoe_token npumoe_token_bos(const npumoe_model *model); /* -1 = none */
NPUMOE_API npumoe_token npumoe_token_eos(const npumoe_model *model);
/* True for every token that ends a generation (EOS, EOT, EOM ...). */
NPUMOE_API bool npumoe_token_is_end(const npumoe_model *model, npumoe_token token);

typedef struct npumoe_detokenizer npumoe_detokenizer;

/* A detokenizer keeps the incomplete tail of a character until its last byte arrives, and drops
 * the leading space that SentencePiece adds to a text. special as in npumoe_token_bytes. The model
 * must outlive it. */
NPUMOE_API npumoe_status npumoe_detokenizer_new(const npumoe_model *model, bool special,
                                                npumoe_detokenizer **out, npumoe_error *err);
NPUMOE_API void npumoe_detokenizer_free(npumoe_detokenizer **detok);
/* Text that became complete with this token: valid UTF-8 (broken sequences become U+FFFD), not
 * terminated, borrowed until the next call. */
NPUMOE_API npumoe_status npumoe_detokenizer_push(npumoe_detokenizer *detok, npumoe_token token,
                                                 const char **text, size_t *text_bytes,
                                                 npumoe_error *err);
/* The held-back tail at the end of the stream (as U+FFFD); the detokenizer is then as new. */
NPUMOE_API npumoe_status npumoe_detokenizer_finish(npumoe_detokenizer *detok, const char **text,
                                                   size_t *text_bytes, npumoe_error *err);

/* ---- session ------------------------------------------------------------------------------ */

typedef struct npumoe_session npumoe_session;

typedef enum npumoe_kv_type { NPUMOE_KV_F16 = 0, NPUMOE_KV_Q8_0, NPUMOE_KV_F32 } npumoe_kv_type;

typedef struct npumoe_session_options {
    size_t struct_bytes;
    uint32_t n_ctx;   /* tokens the KV cache holds; 0 = min(the model's, 4096) */
    uint32_t n_chunk; /* tokens that prefill processes together (ubatch); 0 = 2048 */
    npumoe_kv_type type_k, type_v;
    npumoe_progress_fn progress; /* tokens of one eval; false cancels, finished chunks stay. In a
                                    warm-up: bytes */
    void *progress_user;
    bool ignore_plan; /* evaluate on the CPU although the model has a plan */
} npumoe_session_options;

NPUMOE_API npumoe_session_options npumoe_session_options_default(void);

/* Allocates the KV cache and all scratch memory; evaluation allocates nothing after this.
 * ETOOBIG with the numbers when weights and sessions exceed the limit, or the new memory what is
 * available now. The model must outlive the session. */
NPUMOE_API npumoe_status npumoe_session_new(npumoe_model *model,
                                            const npumoe_session_options *options,
                                            npumoe_session **out, npumoe_error *err);
NPUMOE_API void npumoe_session_free(npumoe_session **session);

/* Logits of one position, n_vocab floats, borrowed for the call. Positions come in order.
 * Returning false cancels. */
typedef bool (*npumoe_logits_fn)(void *user, size_t position, const float *logits);

typedef struct npumoe_eval_options {
    size_t struct_bytes;
    npumoe_logits_fn on_logits; /* NULL: only the last position's logits are computed */
    void *user;
    size_t logits_from; /* with on_logits: the first position wanted; positions that the session
                           already holds from an earlier call are computed again for it */
} npumoe_eval_options;

NPUMOE_API npumoe_eval_options npumoe_eval_options_default(void);

/* Brings the session to exactly tokens[0..n_tokens): keeps the common prefix, drops what differs,
 * computes the rest in chunks. n_tokens >= 1. On success npumoe_session_logits() holds the
 * prediction after the last token. On NPUMOE_ECANCELED the finished chunks stay, and so they do on EDEVICE
 * (npumoe_model_use_plan(), require_npu).
 * ETOOLONG when n_tokens > n_ctx, EINVAL for a token id out of range and inside a callback of an
 * evaluation with the same model. */
NPUMOE_API npumoe_status npumoe_session_eval(npumoe_session *session, const npumoe_token *tokens,
                                             size_t n_tokens, const npumoe_eval_options *options,
                                             npumoe_error *err);
/* Touches the memory that a prompt of n_tokens would be the first to touch: the weights, which the system otherwise maps
 * page by page when they are used, as much of the cache, working memory, and the device's buffers. Not needed: the
 * first prompt does the same on its way, and is slower for it. Tokens, logits and results stay what they are. The
 * session's progress function is told of bytes. ECANCELED when it says so, ETOOLONG when n_tokens > n_ctx, EINVAL
 * inside a callback of an evaluation or a warm-up with the same model. A file larger than free memory is read in
 * vain. */
NPUMOE_API npumoe_status npumoe_session_warm_up(npumoe_session *session, size_t n_tokens,
                                                npumoe_error *err);
/* n_vocab floats after the last evaluated token; valid until the next eval; NULL before one. */
NPUMOE_API const float *npumoe_session_logits(const npumoe_session *session);
/* Tokens the KV cache stands for right now. */
NPUMOE_API size_t npumoe_session_length(const npumoe_session *session);
NPUMOE_API uint32_t npumoe_session_n_ctx(const npumoe_session *session);

typedef struct npumoe_session_stats {
    size_t struct_bytes;
    uint64_t n_prompt, n_reused, n_decoded; /* tokens: computed in chunks, found, one by one */
    double prompt_seconds, decode_seconds;
    uint64_t kv_bytes, scratch_bytes;
} npumoe_session_stats;

NPUMOE_API void npumoe_session_get_stats(const npumoe_session *session,
                                         npumoe_session_stats *stats);
NPUMOE_API void npumoe_session_reset_stats(npumoe_session *session);

/* The least that tokens n_past .. n_past + n_tokens - 1 take, whatever the kernels: for comparing a
 * speed with a machine's limits. A multiplication and its addition are two operations. */
typedef struct npumoe_model_work {
    size_t struct_bytes;
    /* Operations when they are a prompt, of which the last prediction is wanted: products with the
     * weights that a token uses (in the last layer all tokens but one need keys and values only),
     * scores and sums of values over the positions that each token sees, one row of logits. */
    uint64_t matrix_ops, attention_ops, output_ops;
    /* Bytes read when they are computed one by one: weights that a token uses, as they are stored,
     * with the whole output matrix; keys and values that each token sees, once. */
    uint64_t weight_bytes, kv_bytes;
} npumoe_model_work;

/* All 0 for a vocab_only model, no tokens, or cache types that the model cannot have. */
NPUMOE_API void npumoe_model_get_work(const npumoe_model *model, uint64_t n_past, uint64_t n_tokens,
                                      npumoe_kv_type type_k, npumoe_kv_type type_v,
                                      npumoe_model_work *work);

/* ---- devices and plans --------------------------------------------------------------------- */

/* A device runs programs of fixed shape: what an NPU is. "tile" is made of cores of this machine, with
 * threads, weights and a queue of its own (docs/device.md). */
typedef struct npumoe_device npumoe_device;

typedef struct npumoe_device_options {
    size_t struct_bytes;
    const npumoe_allocator *allocator; /* must outlive the device; NULL = malloc */
    const char *name;                  /* "tile", or "cpu": no programs at all; NULL = "tile" */
    const char *isa;            /* kernel tier of its cores, as for a model; NULL = the best */
    npumoe_precision precision; /* FULL; AUTO rounds as a model's AUTO does */
    uint32_t n_threads;         /* 1 */
    const uint32_t *cpus;       /* thread i stays on cpus[i % n_cpus]; NULL = anywhere */
    size_t n_cpus;
    uint32_t slots;             /* programs loaded at a time; 0 = any number */
    uint64_t program_bytes;     /* of one program; 0 = no limit, as below */
    uint64_t memory_bytes;      /* of all loaded programs */
    uint32_t capacity_multiple; /* rows of a program are multiples of this; 0 = 16 */
    uint32_t queue_depth;       /* launches in flight; 0 = 64 */
    uint32_t launch_us;         /* added to each launch, to resemble another device; 0 */
    const char *debug_flags;    /* NULL, or for tests: "fail-load=2 fail-launch=3-5 fail-submit=7
                                   late=1": these loads, launches and submissions fail, counted
                                   from 1; waiting takes longer at random, with that seed */
    const char
        *weights; /* how it keeps them: "file", as the file has them, or "packed", decoded when
                            they are loaded: more bytes, nothing to decode in a launch; NULL = "file" */
} npumoe_device_options;

NPUMOE_API npumoe_device_options npumoe_device_options_default(void);
/* EINVAL, EUNSUPPORTED (unknown name or tier), ENOMEM. */
NPUMOE_API npumoe_status npumoe_device_new(const npumoe_device_options *options,
                                           npumoe_device **out, npumoe_error *err);
/* No model may use it any more. */
NPUMOE_API void npumoe_device_free(npumoe_device **device);

typedef struct npumoe_device_info {
    size_t struct_bytes;
    const char *name, *arithmetic; /* "tile", "bf16x3"; live as long as the device */
    bool simulated;
    uint32_t n_threads, slots, capacity_multiple, queue_depth; /* slots UINT32_MAX = any number */
    uint64_t memory_bytes;                                     /* UINT64_MAX = no limit */
    uint64_t added_launch_ns;                                  /* to be shown with every time */
    uint32_t programs_loaded;
    uint64_t bytes_loaded;
    double load_seconds; /* so far */
    const char *weights; /* "file", "packed" */
} npumoe_device_info;

NPUMOE_API void npumoe_device_get_info(const npumoe_device *device, npumoe_device_info *info);

typedef struct npumoe_plan_options {
    size_t struct_bytes;
    const char *plan; /* JSON, as `npumoe plan` writes it */
    size_t plan_bytes;
    npumoe_device *device; /* must outlive its use by the model; NULL: the plan must have nothing on
                              a device */
    bool require_npu;      /* what the plan puts on the device and cannot run there is an error */
    bool allow_lossy;      /* accept the policies prune and reroute, which change results */
    uint32_t n_in_flight;  /* chunks at a time, 1 to 4; 0 = as the plan says */
    uint32_t trace_events; /* how many npumoe_plan_trace() remembers; 0 = none */
    npumoe_log_fn log;     /* what fell back, and why */
    void *log_user;
    bool no_replan; /* loads are not counted, and npumoe_plan_adapt() does nothing */
    uint32_t
        from_tokens;  /* prompts of at least so many tokens go by the plan, whatever it predicts: to
                             compare plans. 2 to the plan's chunk; 0 = the plan's own crossover */
    const char *name; /* of the plan in messages, such as its file; copied; NULL = "plan" */
} npumoe_plan_options;

NPUMOE_API npumoe_plan_options npumoe_plan_options_default(void);
/* Loads a plan's programs; sessions made from then on evaluate prompts by it, in chunks of the plan's
 * length. NULL takes the plan away. EINVAL while a session that uses the model's plan is alive; EMODEL for
 * the plan of another model, EUNSUPPORTED for another device or a lossy policy, EFORMAT; ETOOBIG and
 * EDEVICE with require_npu, else what cannot be loaded stays on the CPU, and the log says so. A prompt that
 * does not go by the plan is evaluated on the CPU, and the log says why, once; with require_npu the
 * evaluation fails with EDEVICE. So it is, each evaluation by itself, where a prompt went by the plan and the device
 * completed no launch of it, as none was worth it or all failed: with require_npu EDEVICE at its end, and what was
 * evaluated stays in the session. Single tokens are always the CPU's and no reason. */
NPUMOE_API npumoe_status npumoe_model_use_plan(npumoe_model *model,
                                               const npumoe_plan_options *options,
                                               npumoe_error *err);

/* Looks whether the prompts of late load the experts otherwise than the plan expects, makes another plan if
 * that is worth it, and loads its programs (docs/device.md). For moments when nobody waits, such as after an
 * answer: planning takes up to seconds, during which other threads may evaluate; loading waits for them.
 * Sessions stay valid; the next evaluation is the first by the new plan. Without a plan, with
 * no_replan, and when nothing is to be done, OK. If the new plan cannot be loaded, the old one stays, and
 * the error says why. progress (NULL = none) is asked while it plans, in layers; false ends the call with ECANCELED, the
 * old plan stays, and it looks again some chunks later. EINVAL in a callback of an evaluation; ENOMEM. */
NPUMOE_API npumoe_status npumoe_plan_adapt(npumoe_model *model, npumoe_progress_fn progress,
                                           void *progress_user, npumoe_error *err);

/* What plans did since they were attached or the counters reset, measured. */
typedef struct npumoe_plan_stats {
    size_t struct_bytes;
    uint64_t n_tokens;                       /* of prompts, by plan */
    uint64_t n_layer_chunks;                 /* layers that chunks passed by plan */
    uint64_t n_pairs;                        /* (token, expert) pairs in them */
    uint64_t n_launches, n_part_launches;    /* completed: of groups; of dense parts */
    uint64_t n_device_rows, n_computed_rows; /* pairs on the device; rows it computed for them */
    uint64_t n_overflow, n_repassed, n_dropped, n_rerouted;
    uint64_t n_skipped;             /* groups that were not worth a launch */
    uint64_t n_failures;            /* launches and submissions */
    uint32_t n_fallbacks;           /* groups and parts that are not, or no longer, on the device */
    double wall_seconds;            /* of the evaluations */
    double host_cpu_seconds;        /* CPU time of the model's threads in them */
    double device_busy_seconds;     /* CPU time of the device's threads in launches */
    double device_occupied_seconds; /* with added latency */
    double host_wait_seconds;       /* waiting for the device */
    double gather_seconds, scatter_seconds;
    /* npumoe_plan_adapt(), since the plan was attached: */
    uint64_t n_chunks_seen;        /* whose loads were counted */
    uint64_t n_looks, n_new_plans; /* looks at loads that moved; plans made for them */
    uint64_t n_replans;            /* of these, put to work */
    uint64_t n_replan_failures;    /* that could not be loaded */
    uint64_t n_programs_kept, n_programs_loaded, n_programs_unloaded; /* by them */
    double drift; /* gain that the last plan made promised: share of what the objective counts */
    double planning_seconds, replan_load_seconds;
    /* Evaluations that were stopped, or failed, while a prompt went by the plan. What their unfinished chunks did is
     * in the counters above, but not in n_tokens. */
    uint64_t n_stopped;
    uint64_t
        n_single_tokens; /* evaluations of one token: answers, prompts of one; always the host's */
} npumoe_plan_stats;

NPUMOE_API void npumoe_plan_get_stats(npumoe_model *model, npumoe_plan_stats *stats);
NPUMOE_API void npumoe_plan_reset_stats(npumoe_model *model);
/* The same per layer, with what the plan predicted, and how long chunks took, as JSON; free with
 * npumoe_text_free. EINVAL without a plan. */
NPUMOE_API npumoe_status npumoe_plan_report(npumoe_model *model, char **json, npumoe_error *err);
/* A plan beside what npumoe_plan_report() said after a run: what was predicted, what was measured and the
 * difference, in total, per chunk and per layer, as JSON (docs/plan.md has the keys). EFORMAT, EMODEL for
 * the report of another plan. */
NPUMOE_API npumoe_status npumoe_plan_compare(const char *plan, size_t plan_bytes,
                                             const char *report, size_t report_bytes, char **json,
                                             npumoe_error *err);
/* The plan that is in use, the newest after npumoe_plan_adapt(), as JSON for npumoe_plan_options.plan. EINVAL without
 * one. */
NPUMOE_API npumoe_status npumoe_plan_get(npumoe_model *model, char **json, npumoe_error *err);
/* The newest events as a Chrome trace (chrome://tracing, Perfetto): host, its other threads, device, queue. */
NPUMOE_API npumoe_status npumoe_plan_trace(npumoe_model *model, char **json, npumoe_error *err);

/* ---- sampling and generation -------------------------------------------------------------- */

typedef struct npumoe_logit_bias {
    npumoe_token token;
    float bias; /* added to the logit; -INFINITY forbids */
} npumoe_logit_bias;

/* llama.cpp's names and defaults; the number that begins a comment is the one that _default() puts
 * there, and no zero stands for it. Order: logit bias, penalties, then greedy when temp <= 0, else
 * top-k, top-p, min-p, temperature, draw. */
typedef struct npumoe_sampler_options {
    size_t struct_bytes;
    uint64_t seed;                             /* NPUMOE_SEED_RANDOM = from the system */
    float temp;                                /* 0.8; <= 0 = greedy */
    int32_t top_k;                             /* 40; <= 0 = off */
    float top_p;                               /* 0.95; >= 1 = off; 0 keeps the best only */
    float min_p;                               /* 0.05; 0 = off */
    float repeat_penalty;                      /* 1.0 = off; must be above 0 */
    float presence_penalty, frequency_penalty; /* 0 = off */
    int32_t penalty_last_n;                    /* 64; 0 = off, -1 = the whole context */
    const npumoe_logit_bias *logit_bias;       /* copied */
    size_t n_logit_bias;
} npumoe_sampler_options;

#define NPUMOE_SEED_RANDOM UINT64_MAX

typedef struct npumoe_sampler npumoe_sampler;

NPUMOE_API npumoe_sampler_options npumoe_sampler_options_default(void);
NPUMOE_API npumoe_status npumoe_sampler_new(const npumoe_model *model,
                                            const npumoe_sampler_options *options,
                                            npumoe_sampler **out, npumoe_error *err);
NPUMOE_API void npumoe_sampler_free(npumoe_sampler **sampler);
/* Picks a token from logits[n_vocab] (not changed). The same seed and calls give the same picks. */
NPUMOE_API npumoe_status npumoe_sampler_pick(npumoe_sampler *sampler, const float *logits,
                                             npumoe_token *token, npumoe_error *err);
/* Tells the penalties that a token (of the prompt or the answer) is now part of the text. */
NPUMOE_API void npumoe_sampler_accept(npumoe_sampler *sampler, npumoe_token token);
NPUMOE_API uint64_t npumoe_sampler_seed(const npumoe_sampler *sampler);

typedef enum npumoe_stop_reason {
    NPUMOE_STOP_END,     /* the model ended its answer */
    NPUMOE_STOP_LENGTH,  /* n_predict tokens */
    NPUMOE_STOP_STRING,  /* a stop string; it is not part of the text */
    NPUMOE_STOP_CONTEXT, /* the context is full */
    NPUMOE_STOP_CANCEL   /* the callback said so */
} npumoe_stop_reason;

/* New text (valid UTF-8, never part of a stop string, not terminated) and the token that
 * completed it. text_bytes may be 0. Returning false ends the generation. */
typedef bool (*npumoe_text_fn)(void *user, npumoe_token token, const char *text, size_t text_bytes);

typedef struct npumoe_generate_options {
    size_t struct_bytes;
    int64_t n_predict;       /* -1; < 0 = until the end or the context is full, 0 = no token */
    const char *const *stop; /* stop strings */
    size_t n_stop;
    bool ignore_end; /* go on past end tokens */
    bool special;    /* control tokens appear in the text */
    npumoe_text_fn on_text;
    void *user;
} npumoe_generate_options;

typedef struct npumoe_generate_result {
    npumoe_stop_reason reason;
    size_t stop_index; /* which stop string */
    uint64_t n_generated;
} npumoe_generate_result;

NPUMOE_API npumoe_generate_options npumoe_generate_options_default(void);

/* Evaluates the prompt, then samples until a stop. tokens[0..n_tokens) is the full prompt; what was
 * generated is appended when capacity allows (*n_tokens counts on), else it is only streamed.
 * The sampler's penalties see exactly this timeline: its history is set to the prompt first. The
 * last token is not evaluated yet; a later call with the same tokens goes on there.
 * EINVAL for a stop string that is empty or no UTF-8, ETOOLONG for a prompt longer than the context,
 * ECANCELED when the session's progress function ended the prompt (in the answer: STOP_CANCEL). */
NPUMOE_API npumoe_status npumoe_generate(npumoe_session *session, npumoe_sampler *sampler,
                                         npumoe_token *tokens, size_t *n_tokens, size_t capacity,
                                         const npumoe_generate_options *options,
                                         npumoe_generate_result *result, npumoe_error *err);

/* ---- calibration -------------------------------------------------------------------------- */

/* How the tokens of texts spread over a model's experts: counts only, no device. A plan is made from
 * it. Written as JSON (docs/calibrate.md); every quantisation of a model shares its profiles. */
typedef struct npumoe_profile npumoe_profile;

/* EFORMAT names the key, what was found and what was expected. Owner: the caller. */
NPUMOE_API npumoe_status npumoe_profile_load(const char *path, npumoe_profile **out,
                                             npumoe_error *err);
/* The file appears whole or not at all. */
NPUMOE_API npumoe_status npumoe_profile_save(const npumoe_profile *profile, const char *path,
                                             npumoe_error *err);
/* Adds the counts of another profile. EINVAL when it is of another model; then nothing changes. */
NPUMOE_API npumoe_status npumoe_profile_merge(npumoe_profile *profile, const npumoe_profile *other,
                                              npumoe_error *err);
NPUMOE_API void npumoe_profile_free(npumoe_profile **profile);
/* What `npumoe calibrate --json` shows: skew, coverage, loads of chunks of n_chunk tokens (0 = 512),
 * padding and overflow of capacities, drift, and a verdict in words. docs/calibrate.md lists the
 * keys. Free with npumoe_text_free. */
NPUMOE_API npumoe_status npumoe_profile_describe(const npumoe_profile *profile, uint32_t n_chunk,
                                                 char **json, npumoe_error *err);

typedef struct npumoe_calibrate_options {
    size_t struct_bytes;
    uint32_t n_ctx;   /* tokens of a sequence: rounded down to a multiple or a power-of-two part of
                         2048; 0 = 2048 */
    uint32_t n_chunk; /* tokens computed together; does not change what is counted; 0 = 2048 */
    uint64_t max_windows;        /* stop after this many windows of 2048 tokens; 0 = never */
    const char *trace_path;      /* record every routing decision; NULL = do not */
    npumoe_progress_fn progress; /* tokens counted so far; total is 0. false stops */
    void *progress_user;
    /* Of every n sequences of a text the first is counted (of every n windows, where sequences are shorter); 0 = all */
    uint64_t every;
} npumoe_calibrate_options;

NPUMOE_API npumoe_calibrate_options npumoe_calibrate_options_default(void);

/* Reads texts and counts. Between begin_text and end_text the text's bytes are fed in pieces of any
 * size; what is counted depends on the text only. */
typedef struct npumoe_calibrator npumoe_calibrator;

/* The model must outlive it. EUNSUPPORTED when the model has no experts. */
NPUMOE_API npumoe_status npumoe_calibrator_new(npumoe_model *model,
                                               const npumoe_calibrate_options *options,
                                               npumoe_calibrator **out, npumoe_error *err);
/* EINVAL unless the profile is of the calibrated model; label names it in the message. */
NPUMOE_API npumoe_status npumoe_calibrator_check(const npumoe_calibrator *calibrator,
                                                 const npumoe_profile *profile, const char *label,
                                                 npumoe_error *err);
/* Goes on with a run that npumoe_calibrator_save wrote: the same texts are to be fed again, from the
 * beginning, and what was counted is passed over. Before the first text. EINVAL when the model or the
 * options are not those of that run, or it has counted more than max_windows; from the calls that follow when
 * the texts are not. */
NPUMOE_API npumoe_status npumoe_calibrator_resume(npumoe_calibrator *calibrator, const char *path,
                                                  npumoe_error *err);
/* bytes: 0 = unknown. *wanted: false when no more is to be read; then it is neither fed nor ended. */
NPUMOE_API npumoe_status npumoe_calibrator_begin_text(npumoe_calibrator *calibrator,
                                                      const char *name, uint64_t bytes,
                                                      bool *wanted, npumoe_error *err);
/* ECANCELED when progress said so: finished windows stay counted. */
NPUMOE_API npumoe_status npumoe_calibrator_feed(npumoe_calibrator *calibrator, const char *text,
                                                size_t text_bytes, npumoe_error *err);
NPUMOE_API npumoe_status npumoe_calibrator_end_text(npumoe_calibrator *calibrator,
                                                    npumoe_error *err);
/* True once max_windows are counted and the texts of a resumed run were seen to be the same. */
NPUMOE_API bool npumoe_calibrator_full(const npumoe_calibrator *calibrator);
/* Tokens counted, with those of a resumed run. */
NPUMOE_API uint64_t npumoe_calibrator_tokens(const npumoe_calibrator *calibrator);
/* Writes what was counted so far, to be resumed: a profile with an additional key. At any time. */
NPUMOE_API npumoe_status npumoe_calibrator_save(npumoe_calibrator *calibrator, const char *path,
                                                npumoe_error *err);
/* Ends the trace and hands the profile over; only _free is allowed after this. EINVAL when a resumed run did not
 * come to all texts that were begun. */
NPUMOE_API npumoe_status npumoe_calibrator_finish(npumoe_calibrator *calibrator,
                                                  npumoe_profile **out, npumoe_error *err);
/* Frees. A trace that was not finished stays as TRACE.partial when its run was saved. */
NPUMOE_API void npumoe_calibrator_free(npumoe_calibrator **calibrator);

/* Text in pieces; false stops. */
typedef bool (*npumoe_sink_fn)(void *user, const char *text, size_t text_bytes);
/* A trace as CSV, a line for each token and layer, with a line of names first. ECANCELED when the
 * sink stops. */
NPUMOE_API npumoe_status npumoe_trace_to_csv(const char *path, npumoe_sink_fn sink, void *user,
                                             npumoe_error *err);

/* ---- plans -------------------------------------------------------------------------------- */

/* What a plan is to be made for. Names are those of the command line. */
typedef struct npumoe_planner_options {
    size_t struct_bytes;
    const char *device;      /* "tile", or "cpu": nothing on a device; NULL = "tile" */
    const char *policy;      /* "ours", "paper", "ladder", "naive", "cpu"; NULL = "ours" */
    const char *overflow;    /* "spill", "repass", "prune", "reroute"; NULL = the policy's own */
    const char *objective;   /* "latency", "energy", "cpu"; NULL = "latency" */
    uint32_t n_chunk;        /* tokens of a chunk, 2 or more; 0 = 512 */
    uint32_t n_prompt;       /* tokens of the prompts that it is for; 0 = 2048 */
    uint32_t n_past;         /* tokens before them, in the cache already */
    uint32_t n_in_flight;    /* chunks at a time: 1 to 4; 0 = as many as pay */
    uint32_t n_tiers;        /* capacities per layer; 0 = 6 */
    uint32_t max_group;      /* experts per launch; 0 = 16 */
    uint32_t max_capacities; /* programs of one group, of which a chunk takes one; 0 = n_tiers, 1 =
                                static tiers */
    bool all_experts;        /* every expert on the device as far as it has room: for comparison */
    bool no_parts;           /* attention and dense parts stay on the host: for comparison */
    bool alone; /* no look at the other policies, of which the best is taken if it beats ours */
    /* the device */
    uint32_t slots;         /* programs loaded at a time; 0 = any number */
    uint64_t program_bytes; /* of one program; 0 = no limit, as below */
    uint64_t memory_bytes;  /* of all programs */
    uint32_t launch_us;     /* added to each launch */
    uint32_t npu_threads;   /* of device tile; 0 = 1 */
    const char *npu_isa;    /* its kernels; NULL = the best */
    npumoe_precision npu_precision;
    /* the host */
    const char *isa;   /* NULL = the best */
    int32_t n_threads; /* 0 = CPUs allowed less the device's */
    npumoe_precision precision;
    const char
        *types; /* of expert weights: "Q8_0", or gate,up,down "Q4_K,Q4_K,Q6_K"; NULL = as in the
                          file that was calibrated */
    /* a cost table of an earlier call, or a table of npumoe_probe() to which such were added; NULL = measure now, which
     * takes seconds */
    const char *cost;
    size_t cost_bytes;
    npumoe_progress_fn progress;
    void *progress_user;
    const char
        *npu_weights; /* how the device keeps them, as in npumoe_device_options; NULL = "file" */
    /* the host's time at most this share of what it takes alone: the quickest plan within it, or, if there is none, that
     * with the least product of time and host time. 0, 1 = any; only with policy ours and objective latency */
    double host_limit;
} npumoe_planner_options;

NPUMOE_API npumoe_planner_options npumoe_planner_options_default(void);

/* Makes a plan from a profile (the text of its JSON). *plan: JSON (docs/plan.md); *cost: the table it was
 * made with, or cost NULL. Free both with npumoe_text_free. The same profile, options and cost table give
 * the same text. EFORMAT, EINVAL (options), EMODEL (a cost table of something else), EUNSUPPORTED, ETOOBIG
 * (the device has no room for one expert), ECANCELED. */
NPUMOE_API npumoe_status npumoe_plan_make(const char *profile, size_t profile_bytes,
                                          const npumoe_planner_options *options, char **plan,
                                          char **cost, npumoe_error *err);

/* What runs where and why, as `npumoe explain` shows it before a run: one JSON object, whose keys
 * docs/plan.md lists. EFORMAT for what is no valid plan. */
NPUMOE_API npumoe_status npumoe_plan_describe(const char *plan, size_t plan_bytes, char **json,
                                              npumoe_error *err);

/* ---- files and machine -------------------------------------------------------------------- */

typedef struct npumoe_quantize_options {
    size_t struct_bytes;
    const char *type;            /* "Q4_K_M", "Q8_0", "BF16", ... (llama.cpp's names) */
    bool pure;                   /* every matrix in the base type, no mix */
    bool allow_requantize;       /* accept an input that is already quantised */
    int32_t n_threads;           /* 0 = as for a model */
    bool dry_run;                /* report only */
    npumoe_progress_fn progress; /* bytes of input */
    void *progress_user;
    npumoe_log_fn log; /* one line per tensor */
    void *log_user;
} npumoe_quantize_options;

NPUMOE_API npumoe_quantize_options npumoe_quantize_options_default(void);
/* Writes to OUT.partial.<pid> and renames, so a cancelled or failed run leaves no file. */
NPUMOE_API npumoe_status npumoe_quantize(const char *in_path, const char *out_path,
                                         const npumoe_quantize_options *options, npumoe_error *err);

/* What `npumoe doctor` shows, as one JSON object: version, compiler, CPU, ISA flags, kernel tiers
 * built and usable and the one chosen, CPUs allowed (affinity, cgroup), memory, page sizes. */
NPUMOE_API npumoe_status npumoe_describe_machine(char **json, npumoe_error *err);

typedef struct npumoe_probe_options {
    size_t struct_bytes;
    const int32_t
        *threads; /* numbers of threads to measure with, ascending, each 1..512; NULL = 1 and
                               on by twos to the CPUs that affinity and cgroup allow */
    size_t n_threads;
    bool quick;       /* a few seconds: fewer repetitions, no products of the engine */
    const char *isa;  /* tier of the engine's products, as for a model */
    const char *file; /* is read through a mapping, as weights are; NULL, or one below 256 MiB
                               = a nameless file that is made in scratch_folder */
    const char *scratch_folder;  /* NULL = /tmp */
    npumoe_progress_fn progress; /* measurements done */
    void *progress_user;
} npumoe_probe_options;

NPUMOE_API npumoe_probe_options npumoe_probe_options_default(void);
/* Measures this machine for at most some 20 seconds, on all the threads named, and describes it as a
 * cost table: one JSON object, whose keys docs/cli.md lists. What this machine lacks or forbids is left
 * out, with a line in "notes". EINVAL, ENOENT and EIO for the options; ECANCELED. */
NPUMOE_API npumoe_status npumoe_probe(const npumoe_probe_options *options, char **json,
                                      npumoe_error *err);

/* One file for one machine: adds what a model's work costs (*cost of npumoe_plan_make()) to such a table, in place of
 * what it has of the same work by the same settings. *json serves npumoe_plan_make() and all that the table served before; free
 * with npumoe_text_free. EFORMAT, ETOOBIG, ENOMEM. */
NPUMOE_API npumoe_status npumoe_cost_table_add(const char *table, size_t table_bytes,
                                               const char *work, size_t work_bytes, char **json,
                                               npumoe_error *err);

/* Names of the supported architectures; index from 0, NULL past the end. */
NPUMOE_API const char *npumoe_supported_architecture(size_t index);

#ifdef __cplusplus
}
#endif

#endif
