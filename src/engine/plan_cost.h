/* plan_cost.h: measuring a cost table (moe/cost.h) on this machine, without a model file.
 *
 * Weights are made up, of the profile's geometry and types: how long a product takes depends on its shape
 * and on how its weights are stored, not on their values (they are plain numbers: denormals would be slow).
 * What is timed is what runs later: nm_network_run, nm_matmul, nm_attention, the router, a device behind
 * its queue. Weights and buffers are taken in turns, so that they come from memory as those of a whole
 * model do and not from a cache that one expert has for itself.
 *
 * Every figure is the lower quartile of a few runs. Host and device are timed one after the other, each alone.
 * Beside each other both are slower where the device is cores of this machine: by how much is
 * measured on its own, in turn alone and beside (plan_cost_beside.c). */
#ifndef NM_ENGINE_PLAN_COST_H
#define NM_ENGINE_PLAN_COST_H

#include "device/npu.h"
#include "kernels/matmul.h"
#include "moe/cost.h"

typedef struct nm_cost_job {
    nm_cost_geometry geometry;
    uint32_t type_qkv, type_out; /* of the attention's matrices */
    uint32_t window;             /* 0 = attention over all positions */
    uint32_t chunk, last;        /* tokens of a chunk; before the end of a prompt */
    const nm_kern *kern;
    nm_pool *pool;
    nm_precision precision;
    nm_npu *npu; /* NULL = device "cpu" */
    npumoe_progress_fn progress;
    void *progress_user;
    uint64_t done, total; /* steps; kept by the functions below */
} nm_cost_job;

/* EUNSUPPORTED for types that this geometry cannot have; ENOMEM; ECANCELED. */
npumoe_status nm_cost_measure(nm_cost_job *job, nm_cost *out, npumoe_error *err);

/* ---- shared by plan_cost_*.c ------------------------------------------------------------------ */

npumoe_status nm_cost_measure_host(nm_cost_job *job, nm_cost *out, npumoe_error *err);
npumoe_status nm_cost_measure_device(nm_cost_job *job, nm_cost *out, npumoe_error *err);

/* nm_cost.beside, of a device that has threads of this machine. */
npumoe_status nm_cost_measure_beside(nm_cost_job *job, nm_cost *out, npumoe_error *err);

/* How many times as long a side takes beside the other: the host's us between two of the host alone; the device's
 * launches, so many in so many us, while the host works and while it waits (0 where one is missing). */
double nm_cost_host_ratio(double before_us, double beside_us, double after_us);
double nm_cost_device_ratio(double working_us, uint32_t working, double waiting_us,
                            uint32_t waiting);

/* The host's kinds of work, a little at a time, with weights from memory. free() accepts a pointer to NULL. */
typedef struct nm_cost_host nm_cost_host;
npumoe_status nm_cost_host_new(nm_cost_job *job, nm_cost_host **out, npumoe_error *err);
void nm_cost_host_free(nm_cost_host **w);
/* Any kind but the device's. */
void nm_cost_host_work(nm_cost_host *w, nm_cost_work work);

/* Gather and scatter anew, with a device's buffers. */
npumoe_status nm_cost_measure_moves(nm_cost_job *job, nm_cost *out, npumoe_error *err);

/* nm_cost.part_far_us, of a LINEAR program that is loaded. */
npumoe_status nm_cost_measure_far(nm_cost_job *job, nm_program *p, double *us, npumoe_error *err);

/* Rows of a program's launches, in buffers that take turns; what goes in is set to numbers. fini() accepts zeros. */
enum { NM_COST_BUFFERS = 3 };
typedef struct nm_cost_buffers {
    nm_npu_buffer in[NM_COST_BUFFERS], out[NM_COST_BUFFERS];
} nm_cost_buffers;
npumoe_status nm_cost_buffers_init(nm_cost_buffers *b, nm_npu *npu, const nm_program *p,
                                   npumoe_error *err);
void nm_cost_buffers_fini(nm_cost_buffers *b, nm_npu *npu);

/* Rows of an expert in a chunk, if all were equally popular; 1 at least. */
uint32_t nm_cost_mean_rows(const nm_cost_job *job);

/* One step done; ECANCELED. */
npumoe_status nm_cost_step(nm_cost_job *job, npumoe_error *err);

/* A made-up matrix, of one row that is repeated; owner: the caller (nm_free_aligned of data). */
npumoe_status nm_cost_matrix(uint32_t type, uint64_t rows, uint64_t cols, nm_mat *out,
                             npumoe_error *err);
void nm_cost_matrix_free(nm_mat *m);

/* Three matrices of a gated network. */
typedef struct nm_cost_network {
    nm_mat gate, up, down;
} nm_cost_network;
npumoe_status nm_cost_network_new(const nm_cost_job *job, uint32_t n_ff, nm_cost_network *out,
                                  npumoe_error *err);
void nm_cost_network_free(nm_cost_network *n);

/* Tokens before a chunk for which attention is measured, ascending. */
enum { NM_COST_PASTS = 3 };
void nm_cost_pasts(const nm_cost_job *job, uint32_t past[NM_COST_PASTS]);
/* Keys and values to attend to, for the largest of these and a chunk; owner: the caller. fini() accepts zeros. */
npumoe_status nm_cost_cache_init(const nm_cost_job *job, nm_npu_cache *out, npumoe_error *err);
void nm_cost_cache_fini(nm_npu_cache *cache);

/* us of fn: the lower quartile of a few runs, after one to warm up; fewer when a run is long. */
double nm_cost_time(void (*fn)(void *arg), void *arg);

/* Sorts; n > 0. What disturbs a measurement only adds to it, and often to half of the runs. */
double nm_cost_quartile(double *us, size_t n);
/* Of ratios, which may be disturbed either way. */
double nm_cost_median(double *ratio, size_t n);

/* Appends a point. More rows never take less time, and what disturbs only adds: points that are above it
 * come down. */
void nm_cost_add_point(nm_curve *c, uint32_t rows, double us);

#endif
