/* npu.c: what all devices have in common: checking descriptions and enforcing limits. */
#include "device/npu.h"

#include "base/clock.h"
#include "base/num.h"

#include <inttypes.h>

void nm_npu_free(nm_npu **npu)
{
    if (*npu)
        (*npu)->ops->free(*npu);
    *npu = NULL;
}

uint64_t nm_npu_program_bytes(const nm_npu *npu, const nm_program_desc *desc)
{
    return npu->ops->program_bytes(npu, desc);
}

/* ---- compiling ------------------------------------------------------------------------------ */

static bool same_shape(const nm_mat *a, const nm_mat *b)
{
    return a->rows == b->rows && a->cols == b->cols;
}

static npumoe_status check_networks(const nm_program_desc *d, npumoe_error *err)
{
    const nm_program_network *first = &d->networks[0];
    for (uint32_t i = 0; i < d->n; i++) {
        const nm_program_network *w = &d->networks[i];
        const bool fits = same_shape(&w->gate, &w->up) && w->down.cols == w->gate.rows &&
                          same_shape(&w->gate, &first->gate) && same_shape(&w->down, &first->down);
        if (!fits)
            return nm_err_set(err, NPUMOE_EINVAL,
                              "program of layer %" PRIu32 ", network %" PRIu32
                              ": its matrices are not of the shapes of the first network's",
                              d->layer, i);
    }
    return NPUMOE_OK;
}

static npumoe_status check_matrices(const nm_program_desc *d, npumoe_error *err)
{
    for (uint32_t i = 1; i < d->n; i++)
        if (d->matrices[i].w.cols != d->matrices[0].w.cols)
            return nm_err_set(err, NPUMOE_EINVAL,
                              "program of layer %" PRIu32 ", matrix %" PRIu32 ": found %" PRIu64
                              " inputs, expected %" PRIu64,
                              d->layer, i, d->matrices[i].w.cols, d->matrices[0].w.cols);
    return NPUMOE_OK;
}

static npumoe_status check_attention(const nm_program_desc *d, npumoe_error *err)
{
    const nm_program_attention *a = d->attention;
    if (d->n != 1 || a->n_head == 0 || a->n_head_kv == 0 || a->n_head % a->n_head_kv != 0 ||
        a->dim_k == 0 || a->dim_v == 0)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "program of attention: found %" PRIu32 " of %" PRIu32
                          " heads for %" PRIu32 " of keys, %" PRIu32 " and %" PRIu32 " wide",
                          d->n, a->n_head, a->n_head_kv, a->dim_k, a->dim_v);
    if (a->positions < d->capacity)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "program of attention: found %" PRIu32 " positions, expected at least "
                          "its %" PRIu32 " rows",
                          a->positions, d->capacity);
    return NPUMOE_OK;
}

static npumoe_status check_parts(const nm_program_desc *d, npumoe_error *err)
{
    switch (d->kind) {
    case NM_PROGRAM_EXPERTS:
        return check_networks(d, err);
    case NM_PROGRAM_LINEAR:
        return check_matrices(d, err);
    case NM_PROGRAM_ATTENTION:
        break;
    }
    return check_attention(d, err);
}

static npumoe_status check_capacity(const nm_npu_caps *c, const nm_program_desc *d,
                                    npumoe_error *err)
{
    if (d->capacity >= c->capacity_min && d->capacity <= c->capacity_max &&
        d->capacity % c->capacity_multiple == 0)
        return NPUMOE_OK;
    return nm_err_set(err, NPUMOE_EINVAL,
                      "program of layer %" PRIu32 ": capacity: found %" PRIu32
                      ", device %s takes %" PRIu32 " to %" PRIu32 " in steps of %" PRIu32,
                      d->layer, d->capacity, c->name, c->capacity_min, c->capacity_max,
                      c->capacity_multiple);
}

static npumoe_status check_kind(const nm_npu_caps *c, const nm_program_desc *d, npumoe_error *err)
{
    if (d->kind == NM_PROGRAM_LINEAR && !c->has_linear)
        return nm_err_set(err, NPUMOE_EUNSUPPORTED, "device %s has no programs of single matrices",
                          c->name);
    if (d->kind == NM_PROGRAM_ATTENTION && !c->has_attention)
        return nm_err_set(err, NPUMOE_EUNSUPPORTED, "device %s has no programs of attention",
                          c->name);
    if (d->twin == NULL)
        return NPUMOE_OK;
    if (!c->shares_weights)
        return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                          "programs of device %s cannot share their weights", c->name);
    if (d->twin->kind != d->kind || d->twin->n != d->n)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "program of layer %" PRIu32 ": found %" PRIu32 " parts, expected %" PRIu32
                          " as in the one whose weights it uses",
                          d->layer, d->n, d->twin->n);
    return NPUMOE_OK;
}

/* The program's head; false when a size does not fit. */
static bool measure(const nm_program_desc *d, nm_program *p)
{
    uint64_t in = 0, out = 0, rows = d->capacity;
    *p = (nm_program){.kind = d->kind, .layer = d->layer, .capacity = d->capacity, .n = d->n};
    switch (d->kind) {
    case NM_PROGRAM_EXPERTS:
        rows *= d->n; /* both below 2^32 */
        in = d->networks[0].gate.cols;
        out = d->networks[0].down.rows;
        break;
    case NM_PROGRAM_LINEAR:
        in = d->matrices[0].w.cols;
        for (uint32_t i = 0; i < d->n; i++)
            if (!nm_add_u64(out, d->matrices[i].w.rows, &out))
                return false;
        break;
    case NM_PROGRAM_ATTENTION:
        in = (uint64_t)d->attention->n_head * d->attention->dim_k;
        out = (uint64_t)d->attention->n_head * d->attention->dim_v;
        break;
    }
    if (in > UINT32_MAX || out > UINT32_MAX)
        return false;
    p->n_in = (uint32_t)in;
    p->n_out = (uint32_t)out;
    return nm_mul_u64(rows, in * sizeof(float), &p->in_bytes) &&
           nm_mul_u64(rows, out * sizeof(float), &p->out_bytes) && p->in_bytes <= SIZE_MAX &&
           p->out_bytes <= SIZE_MAX;
}

npumoe_status nm_npu_compile(nm_npu *npu, const nm_program_desc *desc, nm_program **out,
                             npumoe_error *err)
{
    nm_program head;
    if (desc->n == 0)
        return nm_err_set(err, NPUMOE_EINVAL, "program of layer %" PRIu32 ": it is empty",
                          desc->layer);
    NM_TRY(check_capacity(&npu->caps, desc, err));
    NM_TRY(check_kind(&npu->caps, desc, err));
    NM_TRY(check_parts(desc, err));
    if (!measure(desc, &head))
        return nm_err_set(err, NPUMOE_ETOOBIG, "program of layer %" PRIu32 ": its rows do not fit",
                          desc->layer);
    head.twin = desc->twin;
    head.bytes = desc->twin ? 0 : npu->ops->program_bytes(npu, desc);
    if (head.bytes > npu->caps.program_bytes)
        return nm_err_set(err, NPUMOE_ETOOBIG,
                          "program of layer %" PRIu32 ": found %" PRIu64
                          " bytes, device %s takes %" PRIu64,
                          desc->layer, head.bytes, npu->caps.name, npu->caps.program_bytes);
    nm_program *p;
    NM_TRY(npu->ops->compile(npu, desc, &p, err));
    *p = head;
    *out = p;
    return NPUMOE_OK;
}

/* ---- loading -------------------------------------------------------------------------------- */

static npumoe_status check_room(const nm_npu *npu, const nm_program *p, npumoe_error *err)
{
    const nm_npu_caps *c = &npu->caps;
    const nm_npu_stats *s = &npu->stats;
    if (s->programs_loaded >= c->slots)
        return nm_err_set(err, NPUMOE_ETOOBIG,
                          "program of layer %" PRIu32 ": all %" PRIu32
                          " slots of device %s are taken",
                          p->layer, c->slots, c->name);
    if (p->bytes > c->total_bytes - s->bytes_loaded)
        return nm_err_set(err, NPUMOE_ETOOBIG,
                          "program of layer %" PRIu32 ": found %" PRIu64
                          " bytes, device %s has %" PRIu64 " of %" PRIu64 " left",
                          p->layer, p->bytes, c->name, c->total_bytes - s->bytes_loaded,
                          c->total_bytes);
    return NPUMOE_OK;
}

npumoe_status nm_npu_reserve(nm_npu *npu, nm_program *p, npumoe_error *err)
{
    nm_npu_stats *s = &npu->stats;
    if (p->loaded)
        return NPUMOE_OK;
    NM_TRY(check_room(npu, p, err));
    if (p->twin && !p->twin->loaded)
        return nm_err_set(
            err, NPUMOE_EINVAL,
            "program of layer %" PRIu32 ": the one whose weights it uses is not loaded", p->layer);
    const uint64_t start = nm_clock_ns();
    npumoe_status st = npu->ops->load(npu, p, err);
    s->load_ns += nm_clock_ns() - start;
    if (st != NPUMOE_OK) {
        s->load_failures++;
        return st;
    }
    p->loaded = true;
    p->empty = npu->ops->fill != NULL;
    s->loads++;
    s->programs_loaded++;
    s->bytes_loaded += p->bytes;
    return NPUMOE_OK;
}

static void fill(nm_npu *npu, nm_program *const *programs, size_t n, nm_pool *pool)
{
    const uint64_t start = nm_clock_ns();
    npu->ops->fill(npu, programs, n, pool);
    npu->stats.load_ns += nm_clock_ns() - start;
    for (size_t i = 0; i < n; i++)
        programs[i]->empty = false;
}

void nm_npu_fill(nm_npu *npu, nm_program *const *programs, size_t n, nm_pool *pool)
{
    if (npu->ops->fill && n > 0)
        fill(npu, programs, n, pool);
}

npumoe_status nm_npu_load(nm_npu *npu, nm_program *p, npumoe_error *err)
{
    NM_TRY(nm_npu_reserve(npu, p, err));
    if (p->empty)
        fill(npu, &p, 1, NULL);
    return NPUMOE_OK;
}

void nm_npu_unload(nm_npu *npu, nm_program *p)
{
    if (!p->loaded)
        return;
    npu->ops->unload(npu, p);
    p->loaded = false;
    npu->stats.unloads++;
    npu->stats.programs_loaded--;
    npu->stats.bytes_loaded -= p->bytes;
}

void nm_npu_program_free(nm_npu *npu, nm_program **p)
{
    if (*p == NULL)
        return;
    nm_npu_unload(npu, *p);
    npu->ops->program_free(npu, *p);
    *p = NULL;
}

npumoe_status nm_npu_buffer_init(nm_npu *npu, nm_npu_buffer *b, size_t bytes, npumoe_error *err)
{
    return npu->ops->buffer_init(npu, b, bytes, err);
}

void nm_npu_buffer_fini(nm_npu *npu, nm_npu_buffer *b)
{
    if (b->data)
        npu->ops->buffer_fini(npu, b);
    *b = (nm_npu_buffer){0};
}

/* ---- launching ------------------------------------------------------------------------------ */

npumoe_status nm_npu_submit_with(nm_npu *npu, nm_program *p, const nm_npu_buffer *in,
                                 nm_npu_buffer *out, const nm_npu_cache *cache, uint64_t *ticket,
                                 npumoe_error *err)
{
    if ((p->kind == NM_PROGRAM_ATTENTION) != (cache != NULL))
        return nm_err_set(err, NPUMOE_EINVAL, "program of layer %" PRIu32 ": %s keys and values",
                          p->layer, cache ? "it takes no" : "it was launched without");
    if (!p->loaded || p->empty)
        return nm_err_set(err, NPUMOE_EINVAL, "program of layer %" PRIu32 " is not loaded",
                          p->layer);
    if (in->bytes < p->in_bytes || out->bytes < p->out_bytes)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "program of layer %" PRIu32 ": found buffers of %zu and %zu bytes, "
                          "expected %" PRIu64 " and %" PRIu64,
                          p->layer, in->bytes, out->bytes, p->in_bytes, p->out_bytes);
    return npu->ops->submit(npu, p, in, out, cache, ticket, err);
}

npumoe_status nm_npu_submit(nm_npu *npu, nm_program *p, const nm_npu_buffer *in, nm_npu_buffer *out,
                            uint64_t *ticket, npumoe_error *err)
{
    return nm_npu_submit_with(npu, p, in, out, NULL, ticket, err);
}

bool nm_npu_poll(nm_npu *npu, uint64_t ticket)
{
    return npu->ops->poll(npu, ticket);
}

npumoe_status nm_npu_wait(nm_npu *npu, uint64_t ticket, nm_launch_times *times, npumoe_error *err)
{
    nm_launch_times none;
    return npu->ops->wait(npu, ticket, times ? times : &none, err);
}

void nm_npu_cancel(nm_npu *npu)
{
    if (npu->ops->cancel)
        npu->ops->cancel(npu);
}

nm_npu_stats nm_npu_get_stats(const nm_npu *npu)
{
    nm_npu_stats s = npu->stats;
    npu->ops->stats(npu, &s);
    return s;
}
