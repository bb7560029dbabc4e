/* plan_cost.c: see plan_cost.h: what host and device measurements share. */
#include "engine/plan_cost.h"

#include "base/clock.h"
#include "base/num.h"
#include "engine/precision.h"
#include "quant/quant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 5, LONG_US = 60000, VERY_LONG_US = 300000, FAR_PAST = 4096 };

npumoe_status nm_cost_step(nm_cost_job *job, npumoe_error *err)
{
    if (job->done < job->total)
        job->done++;
    if (job->progress && !job->progress(job->progress_user, job->done, job->total))
        return nm_err_set(err, NPUMOE_ECANCELED, "measuring costs was cancelled");
    return NPUMOE_OK;
}

uint32_t nm_cost_mean_rows(const nm_cost_job *job)
{
    const nm_cost_geometry *g = &job->geometry;
    const uint64_t rows = (uint64_t)job->chunk * g->n_expert_used / g->n_expert;
    return rows > 0 ? (uint32_t)rows : 1;
}

/* ---- weights -------------------------------------------------------------------------------- */

/* Plain numbers without a pattern. */
static void fill(float *x, size_t n)
{
    uint32_t seed = 12345;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) * (1.0f / 8388608.0f) - 1.0f;
    }
}

npumoe_status nm_cost_matrix(uint32_t type, uint64_t rows, uint64_t cols, nm_mat *out,
                             npumoe_error *err)
{
    const npumoe_allocator *a = nm_allocator_default();
    const nm_type_traits *t = nm_type_get(type);
    uint64_t row_bytes, bytes;
    if (!t->name || !t->supported || !nm_row_bytes(type, cols, &row_bytes) ||
        !nm_mul_u64(row_bytes, rows, &bytes) || bytes > SIZE_MAX)
        return nm_err_set(
            err, NPUMOE_EUNSUPPORTED, "plan: rows of %llu weights in %s: the type has blocks of %u",
            (unsigned long long)cols, t->name ? t->name : "an unknown type", t->block_elems);
    float *row = nm_alloc_array(a, (size_t)cols, sizeof *row);
    char *data = nm_alloc_aligned(a, (size_t)bytes);
    if (!row || !data) {
        nm_free(a, row);
        nm_free_aligned(a, data);
        return nm_err_nomem(err, bytes, "weights to measure with");
    }
    fill(row, (size_t)cols);
    if (t->encode)
        t->encode(row, data, (size_t)cols, NULL);
    else
        memset(data, 0x2c, (size_t)row_bytes); /* halves of 0.06, codes that differ */
    for (uint64_t i = 1; i < rows; i++)
        memcpy(data + i * row_bytes, data, (size_t)row_bytes);
    nm_free(a, row);
    *out = (nm_mat){.type = type, .rows = rows, .cols = cols, .row_bytes = row_bytes, .data = data};
    return NPUMOE_OK;
}

void nm_cost_matrix_free(nm_mat *m)
{
    nm_free_aligned(nm_allocator_default(), (void *)(uintptr_t)m->data);
    *m = (nm_mat){0};
}

npumoe_status nm_cost_network_new(const nm_cost_job *job, uint32_t n_ff, nm_cost_network *out,
                                  npumoe_error *err)
{
    const nm_cost_geometry *g = &job->geometry;
    *out = (nm_cost_network){0};
    npumoe_status st = nm_cost_matrix(g->type[0], n_ff, g->n_embd, &out->gate, err);
    if (st == NPUMOE_OK)
        st = nm_cost_matrix(g->type[1], n_ff, g->n_embd, &out->up, err);
    if (st == NPUMOE_OK)
        st = nm_cost_matrix(g->type[2], g->n_embd, n_ff, &out->down, err);
    if (st != NPUMOE_OK)
        nm_cost_network_free(out);
    return st;
}

void nm_cost_network_free(nm_cost_network *n)
{
    nm_cost_matrix_free(&n->gate);
    nm_cost_matrix_free(&n->up);
    nm_cost_matrix_free(&n->down);
}

/* ---- keys and values ------------------------------------------------------------------------- */

void nm_cost_pasts(const nm_cost_job *job, uint32_t past[NM_COST_PASTS])
{
    const uint32_t far = job->last > FAR_PAST ? job->last : FAR_PAST;
    past[0] = 0;
    past[1] = job->chunk < far ? job->chunk : far;
    past[2] = far;
}

npumoe_status nm_cost_cache_init(const nm_cost_job *job, nm_npu_cache *out, npumoe_error *err)
{
    const nm_cost_geometry *g = &job->geometry;
    const size_t k_bytes = (size_t)g->n_head_kv * g->dim_k * 2;
    const size_t v_bytes = (size_t)g->n_head_kv * g->dim_v * 2;
    uint32_t past[NM_COST_PASTS];
    nm_cost_pasts(job, past);
    const size_t n = (size_t)past[NM_COST_PASTS - 1] + job->chunk, bytes = n * (k_bytes + v_bytes);
    char *kv = nm_alloc_aligned(nm_allocator_default(), bytes);
    if (kv == NULL)
        return nm_err_nomem(err, bytes, "keys to measure with");
    memset(kv, 0x2c, bytes); /* halves of 0.06 */
    *out = (nm_npu_cache){{NM_TYPE_F16, kv, k_bytes, (size_t)g->dim_k * 2},
                          {NM_TYPE_F16, kv + n * k_bytes, v_bytes, (size_t)g->dim_v * 2}};
    return NPUMOE_OK;
}

void nm_cost_cache_fini(nm_npu_cache *cache)
{
    nm_free_aligned(nm_allocator_default(), (void *)(uintptr_t)cache->k.data);
    *cache = (nm_npu_cache){0};
}

/* ---- time ----------------------------------------------------------------------------------- */

static int by_value(const void *x, const void *y)
{
    double a, b;
    memcpy(&a, x, sizeof a);
    memcpy(&b, y, sizeof b);
    return (a > b) - (a < b);
}

double nm_cost_quartile(double *us, size_t n)
{
    qsort(us, n, sizeof *us, by_value);
    return us[n / 4];
}

double nm_cost_median(double *ratio, size_t n)
{
    qsort(ratio, n, sizeof *ratio, by_value);
    return 0.5 * (ratio[(n - 1) / 2] + ratio[n / 2]);
}

double nm_cost_time(void (*fn)(void *arg), void *arg)
{
    double us[RUNS];
    int runs = RUNS;
    for (int i = -1; i < runs; i++) {
        const uint64_t start = nm_clock_ns();
        fn(arg);
        const double took = (double)(nm_clock_ns() - start) * 1e-3;
        if (i < 0)
            runs = took > VERY_LONG_US ? 1 : took > LONG_US ? 3 : RUNS;
        else
            us[i] = took;
    }
    return nm_cost_quartile(us, (size_t)runs);
}

void nm_cost_add_point(nm_curve *c, uint32_t rows, double us)
{
    if (c->n == NM_CURVE_MAX || (c->n > 0 && c->rows[c->n - 1] >= rows))
        return;
    us = us > 0.0 ? us : 0.0;
    for (uint32_t i = 0; i < c->n; i++)
        c->us[i] = c->us[i] < us ? c->us[i] : us;
    c->rows[c->n] = rows;
    c->us[c->n++] = us;
}

/* ---- all ------------------------------------------------------------------------------------ */

npumoe_status nm_cost_measure(nm_cost_job *job, nm_cost *out, npumoe_error *err)
{
    nm_cost c = {.geometry = job->geometry,
                 .host_threads = (uint32_t)nm_pool_size(job->pool),
                 .chunk = job->chunk,
                 .host_watts = -1.0,
                 .device_watts = -1.0};
    snprintf(c.isa, sizeof c.isa, "%s", job->kern->isa);
    snprintf(c.precision, sizeof c.precision, "%s", nm_precision_name(job->precision));
    NM_TRY(nm_cost_measure_host(job, &c, err));
    if (job->npu == NULL) {
        nm_cost_no_device(&c);
    } else {
        NM_TRY(nm_cost_measure_device(job, &c, err));
        NM_TRY(nm_cost_measure_moves(job, &c, err));
        if (job->npu->caps.n_threads > 0)
            NM_TRY(nm_cost_measure_beside(job, &c, err));
    }
    job->done = job->total; /* with what this device and this model do not have */
    NM_TRY(nm_cost_step(job, err));
    *out = c;
    return NPUMOE_OK;
}

/* ---- buffers -------------------------------------------------------------------------------- */

void nm_cost_buffers_fini(nm_cost_buffers *b, nm_npu *npu)
{
    for (int i = 0; i < NM_COST_BUFFERS; i++) {
        nm_npu_buffer_fini(npu, &b->in[i]);
        nm_npu_buffer_fini(npu, &b->out[i]);
    }
}

npumoe_status nm_cost_buffers_init(nm_cost_buffers *b, nm_npu *npu, const nm_program *p,
                                   npumoe_error *err)
{
    *b = (nm_cost_buffers){0};
    npumoe_status st = NPUMOE_OK;
    for (int i = 0; st == NPUMOE_OK && i < NM_COST_BUFFERS; i++) {
        st = nm_npu_buffer_init(npu, &b->in[i], (size_t)p->in_bytes, err);
        if (st == NPUMOE_OK)
            st = nm_npu_buffer_init(npu, &b->out[i], (size_t)p->out_bytes, err);
        for (size_t j = 0; st == NPUMOE_OK && j < b->in[i].bytes / sizeof *b->in[i].data; j++)
            b->in[i].data[j] = (float)(j % 251) / 128.0f - 1.0f;
    }
    if (st != NPUMOE_OK)
        nm_cost_buffers_fini(b, npu);
    return st;
}
