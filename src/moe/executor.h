/* executor.h: runs a plan: which rows go to the device, when, and how they come back.
 *
 * Owns the device's programs of one model (one per group and capacity, and per dense part), the buffers
 * that launches travel in, and the counters. It must never know what a session is, how attention works
 * or why the plan chose what it chose. One evaluation uses it at a time.
 *
 * LANES. A lane is one chunk in flight. For each MoE layer of a planned chunk the engine calls
 *
 *   nm_exec_begin    from the dispatch table: which groups are launched, at which capacity, which rows
 *                    (the first min(load, C) of each expert); gathers and submits what fits
 *   nm_exec_rest     what is left for the host: cold experts, overflow, groups not worth a launch
 *   nm_exec_pump     any time in between: takes what is done, submits what the device needs next
 *   nm_exec_finish   waits for what is missing and adds everything to y
 *
 * and for parts on the device nm_exec_linear_* and nm_exec_attention_*.
 *
 * ORDER. Results are the same bits from run to run, whatever the timing, the depth of the queue and the
 * number of buffers: a launch's rows are added, times their routing weights, to an accumulator of the
 * lane in the plan's order of launches; the host adds its part to y in its own fixed order; at the end
 * y += accumulator. Why not slots [token][k][n_embd] that one pass sums: network.h says what they
 * cost, and the host's experts do not use them either. Why not the order of completion: it is not an
 * order.
 *
 * A launch that fails is not lost: its rows are computed by the host in nm_exec_finish, the group stays
 * off the device from then on, and the event is counted and logged. With `require` the evaluation fails
 * instead.
 *
 * Overflow policies (plan.h): SPILL and REPASS are exact. PRUNE drops, of an expert's rows beyond its
 * capacity, those with the smallest routing weight times length of x; nothing is renormalised (ours:
 * the paper's score is not public). REROUTE sends them, weight kept, to the token's next best expert
 * that has a free row in a group that is launched anyway; without one the host computes them. */
#ifndef NM_MOE_EXECUTOR_H
#define NM_MOE_EXECUTOR_H

#include "device/npu.h"
#include "moe/exec_trace.h"
#include "moe/experts.h"
#include "moe/plan.h"

typedef struct nm_executor nm_executor;

enum { NM_EXEC_MAX_LANES = NM_PLAN_MAX_IN_FLIGHT };

typedef struct nm_executor_options {
    const nm_plan *plan; /* of this model; must outlive the executor, as must all that follow */
    nm_npu *npu;
    const nm_config *config;
    const nm_weights *weights;
    const nm_kern *kern;
    nm_pool *pool;         /* the host's */
    uint32_t n_tokens;     /* of the longest chunk */
    uint32_t n_lanes;      /* 1 .. NM_EXEC_MAX_LANES */
    uint64_t buffer_bytes; /* most for launches in flight; two launches fit always. 0 = 1 GiB */
    bool require;          /* what cannot run on the device is an error */
    uint32_t from;         /* prompts of at least so many tokens; 0 = the plan's crossover */
    const char *label;     /* what messages begin with: the plan's name */
    npumoe_log_fn log;     /* or NULL */
    void *log_user;
    nm_exec_trace *trace; /* or NULL */
} nm_executor_options;

/* What happened, of one layer or of all. Launches, their rows and what is beyond their capacities are those of launches that
 * came to their end; of one that failed the host has the rows. */
typedef struct nm_exec_counts {
    uint64_t chunks;                     /* that passed this layer by plan */
    uint64_t pairs;                      /* (token, expert) pairs of them */
    uint64_t launches;                   /* of groups; parts are not in */
    uint64_t device_rows, computed_rows; /* pairs on the device; what it computed for them */
    uint64_t overflow;                   /* pairs beyond a capacity, whatever became of them */
    uint64_t repassed, dropped, rerouted;
    uint64_t skipped;                        /* groups with rows that were not worth a launch */
    uint64_t failures;                       /* launches and submissions */
    uint64_t part_launches;                  /* of dense parts, whose results were taken */
    uint64_t busy_ns, occupied_ns;           /* device: computing; in use, added latency included */
    uint64_t gather_ns, scatter_ns, wait_ns; /* host */
} nm_exec_counts;

/* Compiles and loads all programs. Without `require`, what cannot be loaded is left to the host, logged
 * and counted; with it EDEVICE or ETOOBIG. ENOMEM. */
npumoe_status nm_executor_new(const npumoe_allocator *a, const nm_executor_options *options,
                              nm_executor **out, npumoe_error *err);
void nm_executor_free(nm_executor **ex);

/* ---- another plan (exec_replace.c) ------------------------------------------------------------- */

typedef struct nm_exec_change {
    uint32_t kept, loaded, unloaded;       /* programs */
    uint64_t loaded_bytes, unloaded_bytes; /* as the plans' cost table has them */
} nm_exec_change;

/* What nm_executor_replace would do: programs of the same experts and capacity are kept. */
nm_exec_change nm_executor_compare(const nm_executor *ex, const nm_plan *next);
/* *ex runs `next` from now on, a plan of the same model, device and chunk, that must outlive it; nothing may
 * be in flight. What leaves is unloaded first, since both may not fit. Slices of a group that is kept
 * keep their order: the plan's is changed to it. On failure (EDEVICE, ETOOBIG, ENOMEM; `require` or not)
 * everything is as it was; what then does not load again is logged, counted and the host's. */
npumoe_status nm_executor_replace(nm_executor **ex, nm_plan *next, nm_exec_change *change,
                                  npumoe_error *err);

/* The memory of all launches and chunks in flight. Nothing may be in flight. */
void nm_executor_each_buffer(const nm_executor *ex,
                             void (*fn)(void *user, void *data, size_t bytes), void *user);

/* Prompts of at least so many tokens go by plan; UINT32_MAX: none. */
uint32_t nm_executor_from(const nm_executor *ex);
/* Programs that were loaded. */
uint32_t nm_executor_loaded(const nm_executor *ex);
/* How many of a prompt's n tokens from position pos on, in chunks of that many, should go by plan: all, all but a
 * short last chunk, or none. */
size_t nm_executor_share(const nm_executor *ex, uint32_t chunk, size_t pos, size_t n,
                         uint32_t lanes);
/* Tokens of the first chunk of these. Attention on the device has programs for chunks that begin at multiples of the
 * plan's: where a whole one follows, a short one goes before it; not in chunks shorter than the plan's. */
uint32_t nm_executor_next(const nm_executor *ex, uint32_t chunk, size_t pos, size_t n);
/* Whether the plan has anything on the device in this layer that still works. */
bool nm_executor_has_layer(const nm_executor *ex, uint32_t layer);

/* ---- routed experts --------------------------------------------------------------------------- */

typedef struct nm_exec_input {
    uint32_t layer, n, k;
    const nm_dispatch *dispatch; /* stays until finish, as do the arrays */
    const uint32_t *ids;         /* [n][k] */
    const float *w;              /* [n][k] */
    const float *x;              /* [n][n_embd] */
    const float *score;          /* [n][n_expert] the router's, for REROUTE */
    const float *shared_gate;    /* [n] or NULL = 1 */
    float scale;                 /* of all results */
} nm_exec_input;

/* Before a run of chunks: whether a short one among them has whole ones beside it, so that the plan's part_price is for it. */
void nm_exec_start(nm_executor *ex, bool beside_others);
/* Before a lane's chunk: its rows. Where a model's last layer wants fewer, that is not a short chunk. */
void nm_exec_chunk(nm_executor *ex, uint32_t lane, uint32_t rows);
/* The lane must be idle. EDEVICE only with `require`. */
npumoe_status nm_exec_begin(nm_executor *ex, uint32_t lane, const nm_exec_input *input,
                            npumoe_error *err);

/* How far the host is with its share of the experts; zeros at first. */
typedef struct nm_exec_place {
    bool shared;          /* the shared one is done, or is none of its business */
    uint32_t expert, row; /* the next one, and its rows that are done */
} nm_exec_place;

/* Takes out of a job for all experts what the device does, and of the rest the next slice, some milliseconds
 * of work, in which the rows of a busy expert may be cut; where that is changes no sum. Submits what keeps
 * the device busy so long. */
npumoe_status nm_exec_rest(nm_executor *ex, uint32_t lane, nm_exec_place *at, bool *more,
                           nm_expert_job *job, npumoe_error *err);
/* About how long the host takes for all that is left to it. */
double nm_exec_rest_us(const nm_executor *ex, uint32_t lane, nm_exec_place at);
/* Takes what is done. With several lanes it submits only what keeps the device busy for some
 * milliseconds, so that no lane waits behind all of another's launches; whoever is going to be away for
 * long says so with nm_exec_submit_all. Never waits for the device. */
npumoe_status nm_exec_submit_all(nm_executor *ex, npumoe_error *err);
npumoe_status nm_exec_pump(nm_executor *ex, npumoe_error *err);
/* Waits for the launch of all lanes that ends next, *layer's, takes what is done and submits what waits. */
npumoe_status nm_exec_wait_next(nm_executor *ex, uint32_t *layer, npumoe_error *err);
/* True when finish would not wait. */
bool nm_exec_is_done(nm_executor *ex, uint32_t lane);
/* job: as it was given to nm_exec_rest; its y receives the device's part, and what the device failed to
 * do is computed with it. */
npumoe_status nm_exec_finish(nm_executor *ex, uint32_t lane, const nm_expert_job *job,
                             npumoe_error *err);
/* Waits for everything in flight and forgets it: after a cancelled or failed chunk. */
void nm_exec_abandon(nm_executor *ex);

/* ---- dense parts ------------------------------------------------------------------------------
 *
 * A lane has three buffers: QKV reads `rows` and writes `wide`; attention reads its queries at the front of
 * `wide`, where QKV left them, and writes `rows`; O reads that and writes `out`. So attention and O can be
 * submitted one after the other, and their rows never pass the host. If attention fails, so does O: what it
 * has read was nothing.
 *
 * QKV and O may be shared by rows (plan.h): the device takes the first ones, as many as the program has, and the host
 * the others meanwhile. The buffers have room for all rows of a chunk where both sides use them: queries of the host's
 * rows go behind the device's before attention is submitted, and the host writes its rows of O behind the device's. */

/* Rows to write the input to, [*rows][inputs], or NULL: the host does this part (it is not in the plan, does
 * not work, or is not worth it for so few rows). *rows: how many of the n the device takes, the first ones. */
float *nm_exec_linear_input(nm_executor *ex, uint32_t lane, uint32_t layer, nm_cost_part part,
                            uint32_t n, uint32_t *rows);
npumoe_status nm_exec_linear_submit(nm_executor *ex, uint32_t lane, npumoe_error *err);
/* Of the lane's parts that are in flight: whether wait would not wait. */
bool nm_exec_parts_are_done(nm_executor *ex, uint32_t lane);
/* *out: matrix by matrix, row m of the next begins nm_exec_linear_rows() rows after; NULL: it failed, and
 * the host must compute it from the rows that were written. out NULL: nobody wants the result, as what it was made from was
 * never there; it is not counted. Called once for each submission. */
npumoe_status nm_exec_linear_wait(nm_executor *ex, uint32_t lane, float **out, npumoe_error *err);
/* Where O's rows are, [n][n_embd]: those of the device once it has been waited for. */
float *nm_exec_linear_output(const nm_executor *ex, uint32_t lane);
/* Rows that the outputs of one matrix take, of the program that linear_input chose last. */
uint32_t nm_exec_linear_rows(const nm_executor *ex, uint32_t lane);
/* Where the queries of the chunk at `pos` are to be, [n][n_head * dim_k], or NULL: the host attends (it is not in
 * the plan, does not work, is not worth it for so few rows, or no program ends with this chunk, or after the
 * `room` positions of the cache). */
float *nm_exec_attention_input(nm_executor *ex, uint32_t lane, uint32_t layer, size_t pos,
                               uint32_t n, size_t room);
npumoe_status nm_exec_attention_submit(nm_executor *ex, uint32_t lane, const nm_npu_cache *cache,
                                       npumoe_error *err);
/* Whether attention_wait would not wait. */
bool nm_exec_attention_is_done(nm_executor *ex, uint32_t lane);
/* *out: [n][n_head * dim_v]; NULL: it failed, the queries are where they were. */
npumoe_status nm_exec_attention_wait(nm_executor *ex, uint32_t lane, float **out,
                                     npumoe_error *err);

/* ---- reading ----------------------------------------------------------------------------------- */

nm_exec_counts nm_executor_counts(const nm_executor *ex, uint32_t layer);
nm_exec_counts nm_executor_total(const nm_executor *ex);
void nm_exec_counts_add(nm_exec_counts *sum, const nm_exec_counts *c);
void nm_executor_reset_counts(nm_executor *ex);
/* Groups and parts that the plan wanted on the device and that are not, or no longer. */
uint32_t nm_executor_failed(const nm_executor *ex);

#endif
