/* npu.h: the contract between the engine and a device that runs programs of fixed shape.
 *
 * A device is what an NPU is to its driver: a place for PROGRAMS, each a static graph with its
 * weights baked in, a queue of LAUNCHES, and BUFFERS that both sides can see. It knows no model, no
 * routing and no plan: which rows go where was decided before it is asked, and everything that
 * depends on run-time data (gather, scatter, routing weights) stays with the caller.
 *
 *   compile   description -> program   shapes are fixed here; a program belongs to one device
 *   load      weights become resident: costs a slot and bytes, and time
 *   submit    one launch of a loaded program: in -> out, both of the program's full shape
 *   wait      until that launch is done
 *
 *   EXPERTS   G gated networks of one layer with C rows each:
 *               in  [G][C][n_in]    rows g * C .. belong to network g
 *               out [G][C][n_out]   act(x Wgate^T) * (x Wup^T) Wdown^T, not weighted
 *   LINEAR    matrices that read the same C rows (queries, keys, values):
 *               in  [C][n_in]
 *               out [C][rows of w] of the first matrix, then of the second ...
 *   ATTENTION the last C of P positions attend to all that they see of the P:
 *               in  [C][n_head * dim_k] queries, row i at position P - C + i
 *               out [C][n_head * dim_v]
 *             Keys and values are no weights: each launch says where the P of them lie (nm_npu_cache), in
 *             memory that both sides see, as the state of a Core ML model does. Every layer of a model can
 *             use one program; each P is another.
 *
 * STATIC means: all C rows are computed, whether they carry a token or not. What padding rows hold
 * is nobody's business (a new buffer holds zeros); their results are discarded. A row's result
 * depends on that row and the weights only, of ATTENTION on what it sees, so padding cannot change bits.
 *
 * Launches run in the order of submission, one at a time, as on one NPU die, so that one may read what
 * another before it writes. At most
 * caps.queue_depth launches may be submitted and not waited for; the next submit is refused with
 * *ticket = 0 and NPUMOE_OK, so that the caller decides what to do meanwhile. Tickets are 1, 2, 3,
 * ... in order of submission. Each must be waited for once; whoever waits out of order may be refused
 * until the oldest has been waited for. A launch that failed says
 * so in wait(); its out buffer is then undefined. Nothing falls back in silence: a device never
 * computes elsewhere what it could not run.
 *
 * Limits are the device's word, enforced by nm_npu_load() in npu.c for all devices alike: program slots,
 * bytes of one program, bytes in total, capacities.
 *
 * Threads: submit, poll, wait and buffers may be called from several threads. Everything else belongs to one
 * thread at a time, and not while launches of the same program are in flight.
 *
 * nm_npu_cancel() makes the device pass over what was submitted and has not started; each of these must still be
 * waited for. Somebody has pressed Ctrl-C, and a queue may hold seconds of work.
 *
 * Memory: compile, load and buffers allocate; submit, poll and wait never do.
 *
 * Why rows of fp32 at the border although devices compute in less: how to round is the device's
 * affair, and gather touches each row anyway. Why no partial launches ("only 37 of 64 rows"): no NPU
 * has them, and a stand-in that had them would measure something else. Why refusal instead of
 * blocking: the host has other work. Sources: the facts are those of Core ML and the ANE as public
 * measurements report them: some 120 programs per process, 2 GB per program, 3.5 GB together, about
 * 0.1 to 0.3 ms per launch. */
#ifndef NM_DEVICE_NPU_H
#define NM_DEVICE_NPU_H

#include "base/err.h"
#include "base/threads.h"
#include "kernels/attention.h"
#include "kernels/product.h"

typedef struct nm_npu nm_npu;
typedef struct nm_program nm_program;

typedef enum nm_program_kind {
    NM_PROGRAM_EXPERTS,
    NM_PROGRAM_LINEAR,
    NM_PROGRAM_ATTENTION
} nm_program_kind;

/* A gated network of an EXPERTS program. */
typedef struct nm_program_network {
    nm_mat gate, up, down;               /* [n_ff][n_in] twice, [n_out][n_ff] */
    const float *b_gate, *b_up, *b_down; /* or NULL */
} nm_program_network;

/* A matrix of a LINEAR program. */
typedef struct nm_program_matrix {
    nm_mat w;
    const float *bias; /* [w.rows] or NULL */
} nm_program_matrix;

/* Of an ATTENTION program; as in nm_attention_args. */
typedef struct nm_program_attention {
    uint32_t positions; /* P, at least C */
    uint32_t n_head, n_head_kv, dim_k, dim_v;
    float scale;
    uint32_t window;
} nm_program_attention;

/* Keys and values of one layer, at least P positions. Those that no row with a token sees may be anything, as
 * long as nobody writes them before the launch has ended. */
typedef struct nm_npu_cache {
    nm_kv_view k, v;
} nm_npu_cache;

/* What to compile. Borrowed for the call, except the weights' data and biases, which must stay until
 * the program is freed: load reads them (again after an unload). */
typedef struct nm_program_desc {
    nm_program_kind kind;
    nm_act act;
    uint32_t capacity;                     /* C */
    uint32_t layer;                        /* for messages, as are these: */
    const uint32_t *experts;               /* [n] or NULL */
    const nm_program_network *networks;    /* EXPERTS: [n], all of equal shapes */
    const nm_program_matrix *matrices;     /* LINEAR: [n], all with the same cols */
    const nm_program_attention *attention; /* ATTENTION: [n], which is 1 */
    uint32_t n;
    /* A program of the same networks or matrices and another capacity, whose weights this one uses
     * too: then it takes a slot and no bytes. It is loaded after that one and unloaded before it.
     * NULL = none; only where caps.shares_weights. */
    struct nm_program *twin;
} nm_program_desc;

typedef struct nm_npu_caps {
    const char *name; /* "tile"; lives as long as the device */
    bool simulated;   /* times are a model's, not a clock's */
    bool overlaps_host;
    bool shares_weights;    /* nm_program_desc.twin */
    bool has_linear;        /* takes LINEAR programs */
    bool has_attention;     /* takes ATTENTION programs */
    uint32_t slots;         /* programs loaded at a time; UINT32_MAX = any number */
    uint64_t program_bytes; /* of one program; UINT64_MAX = no limit, as below */
    uint64_t total_bytes;   /* of all that are loaded */
    uint32_t capacity_multiple, capacity_min, capacity_max;
    uint32_t queue_depth;
    uint32_t n_threads;       /* of a device made of CPU cores; else 0 */
    uint64_t added_launch_ns; /* latency that was added to each launch to resemble another device;
                                 to be shown wherever its times are */
    const char *arithmetic;   /* how it multiplies, for people: "bf16x3" */
    const char *weights;      /* how it keeps them: "file", as the file does, or "packed" */
} nm_npu_caps;

typedef struct nm_npu_cost {
    double busy_seconds, busy_low, busy_high; /* of one launch */
    double host_seconds;
    double joules, joules_low, joules_high; /* 0 = unknown */
} nm_npu_cost;

/* Memory that device and host share, NM_ALIGN aligned. */
typedef struct nm_npu_buffer {
    float *data;
    size_t bytes;
    void *device; /* the device's own */
} nm_npu_buffer;

/* When a launch was on the device, by nm_clock_ns(). */
typedef struct nm_launch_times {
    uint64_t submitted_ns, started_ns, ended_ns;
    uint64_t busy_ns; /* computing: CPU time of its threads together, padding included */
} nm_launch_times;

typedef struct nm_npu_stats {
    uint32_t programs_loaded;
    uint64_t bytes_loaded;
    uint64_t loads, unloads, load_ns, load_failures;
    uint64_t launches, launch_failures, refused; /* refused: the queue was full */
    uint64_t rows;                               /* computed, padding included */
    uint64_t busy_ns;     /* as in nm_launch_times, of all launches that were waited for */
    uint64_t occupied_ns; /* time from start to end of them, added latency included */
} nm_npu_stats;

/* What a device implements. Optional ones may be NULL and say so. */
typedef struct nm_npu_ops {
    void (*free)(nm_npu *npu); /* nothing is in flight, all programs and buffers are freed */
    /* Bytes on the device, once loaded. */
    uint64_t (*program_bytes)(const nm_npu *npu, const nm_program_desc *desc);
    /* Optional: a prediction. */
    npumoe_status (*cost)(nm_npu *npu, const nm_program_desc *desc, nm_npu_cost *cost,
                          npumoe_error *err);
    npumoe_status (*compile)(nm_npu *npu, const nm_program_desc *desc, nm_program **out,
                             npumoe_error *err);
    /* Claims what it needs and brings the weights; with `fill`, only the former. */
    npumoe_status (*load)(nm_npu *npu, nm_program *p, npumoe_error *err);
    /* Optional: brings the weights of programs [n] that were loaded, in the order of loading. Cannot fail. */
    void (*fill)(nm_npu *npu, nm_program *const *programs, size_t n, nm_pool *pool);
    void (*unload)(nm_npu *npu, nm_program *p);
    void (*program_free)(nm_npu *npu, nm_program *p); /* is not loaded */
    npumoe_status (*buffer_init)(nm_npu *npu, nm_npu_buffer *b, size_t bytes, npumoe_error *err);
    void (*buffer_fini)(nm_npu *npu, nm_npu_buffer *b);
    /* cache: of an ATTENTION program, else NULL. */
    npumoe_status (*submit)(nm_npu *npu, nm_program *p, const nm_npu_buffer *in, nm_npu_buffer *out,
                            const nm_npu_cache *cache, uint64_t *ticket, npumoe_error *err);
    bool (*poll)(nm_npu *npu, uint64_t ticket);
    npumoe_status (*wait)(nm_npu *npu, uint64_t ticket, nm_launch_times *times, npumoe_error *err);
    void (*cancel)(nm_npu *npu); /* optional: a device that cannot, runs what it has */
    /* Sets what a device counts itself: all from `launches` on. */
    void (*stats)(const nm_npu *npu, nm_npu_stats *stats);
} nm_npu_ops;

/* The head of every device; its own members follow. Read caps, leave the rest to npu.c. */
struct nm_npu {
    const nm_npu_ops *ops;
    nm_npu_caps caps;
    nm_npu_stats stats; /* npu.c's part: what is loaded */
};

/* The head of every program. */
struct nm_program {
    nm_program_kind kind;
    uint32_t layer, capacity, n;
    uint32_t n_in, n_out;         /* elements of a row; LINEAR: n_out of all matrices together */
    uint64_t in_bytes, out_bytes; /* of its buffers, at least */
    uint64_t bytes;               /* on the device; 0 with a twin */
    const nm_program *twin;
    bool loaded;
    bool empty; /* reserved, and not filled yet */
};

/* Frees the device; all its programs and buffers must have been freed. */
void nm_npu_free(nm_npu **npu);

uint64_t nm_npu_program_bytes(const nm_npu *npu, const nm_program_desc *desc);
/* EINVAL for a description that contradicts itself or a capacity that the device does not allow (the
 * message names layer, found, expected); EUNSUPPORTED for weights it cannot hold; ETOOBIG for more
 * bytes than one program may have. */
npumoe_status nm_npu_compile(nm_npu *npu, const nm_program_desc *desc, nm_program **out,
                             npumoe_error *err);
/* ETOOBIG: slots or bytes are used up; EDEVICE: the device failed; EINVAL: its twin is not loaded. Loading
 * what is loaded does nothing. */
npumoe_status nm_npu_load(nm_npu *npu, nm_program *p, npumoe_error *err);
/* The same in two steps, for many programs. reserve() claims slot and bytes and says all that load() would,
 * so what fits, and which load fails, depends on the order of these calls only. fill() then brings the
 * weights of those that are reserved (others are passed over), with the threads of `pool` (NULL = none) and
 * of the device at once; a twin's owner comes before it. Launches only after that. */
npumoe_status nm_npu_reserve(nm_npu *npu, nm_program *p, npumoe_error *err);
void nm_npu_fill(nm_npu *npu, nm_program *const *programs, size_t n, nm_pool *pool);
void nm_npu_unload(nm_npu *npu, nm_program *p);
/* Unloads first. Accepts a pointer to NULL and nulls it. */
void nm_npu_program_free(nm_npu *npu, nm_program **p);

npumoe_status nm_npu_buffer_init(nm_npu *npu, nm_npu_buffer *b, size_t bytes, npumoe_error *err);
void nm_npu_buffer_fini(nm_npu *npu, nm_npu_buffer *b); /* all zero is fine */

/* EINVAL: not loaded, or a buffer too small; EDEVICE. *ticket = 0 with OK: the queue is full. in and out
 * must not overlap, and nobody but launches before this one touches them, as far as the program's shape goes
 * (in_bytes, out_bytes), until wait() has returned; what lies behind is the caller's. */
npumoe_status nm_npu_submit(nm_npu *npu, nm_program *p, const nm_npu_buffer *in, nm_npu_buffer *out,
                            uint64_t *ticket, npumoe_error *err);
/* The same of any program; EINVAL: ATTENTION without a cache, or another program with one. */
npumoe_status nm_npu_submit_with(nm_npu *npu, nm_program *p, const nm_npu_buffer *in,
                                 nm_npu_buffer *out, const nm_npu_cache *cache, uint64_t *ticket,
                                 npumoe_error *err);
/* True when wait() would not wait. Changes nothing. */
bool nm_npu_poll(nm_npu *npu, uint64_t ticket);
/* times may be NULL. EDEVICE: the launch failed; ECANCELED: it was passed over. */
npumoe_status nm_npu_wait(nm_npu *npu, uint64_t ticket, nm_launch_times *times, npumoe_error *err);
/* Of what was submitted, nothing starts any more. */
void nm_npu_cancel(nm_npu *npu);
/* A snapshot; complete when nothing is in flight. */
nm_npu_stats nm_npu_get_stats(const nm_npu *npu);

#endif
