/* kv.c: see kv.h. */
#include "engine/kv.h"

#include "base/alloc.h"
#include "base/num.h"
#include "base/sys.h"

#include <inttypes.h>
#include <string.h>

npumoe_status nm_kv_type(npumoe_kv_type type, uint32_t *out, npumoe_error *err)
{
    switch (type) {
    case NPUMOE_KV_F16:
        *out = NM_TYPE_F16;
        return NPUMOE_OK;
    case NPUMOE_KV_Q8_0:
        *out = NM_TYPE_Q8_0;
        return NPUMOE_OK;
    case NPUMOE_KV_F32:
        *out = NM_TYPE_F32;
        return NPUMOE_OK;
    }
    return nm_err_set(err, NPUMOE_EINVAL, "KV cache type %d: expected F16, Q8_0 or F32", (int)type);
}

/* Bytes of one head and of one position. Widths are bounded by the configuration: no overflow. */
static npumoe_status row_sizes(uint32_t type, uint32_t dim, uint32_t n_head, size_t *head_bytes,
                               size_t *pos_bytes, npumoe_error *err)
{
    uint64_t bytes;
    if (!nm_row_bytes(type, dim, &bytes))
        return nm_err_set(err, NPUMOE_EINVAL,
                          "a %s KV cache needs heads that are a multiple of %" PRIu32
                          " wide; this model's are %" PRIu32 " (use F16)",
                          nm_type_get(type)->name, nm_type_get(type)->block_elems, dim);
    *head_bytes = (size_t)bytes;
    *pos_bytes = (size_t)bytes * n_head;
    return NPUMOE_OK;
}

static npumoe_status too_big(npumoe_error *err)
{
    return nm_err_set(err, NPUMOE_ETOOBIG, "the size of the KV cache does not fit in 64 bits");
}

/* Lays out all layers; layers may be NULL (then only *bytes is of use). */
static npumoe_status lay_out(const nm_config *c, uint32_t n_ctx, uint32_t type_k, uint32_t type_v,
                             nm_kv_layer *layers, uint64_t *bytes, npumoe_error *err)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < c->n_layer; i++) {
        const nm_layer_desc *d = &c->layers[i];
        nm_kv_layer l;
        NM_TRY(row_sizes(type_k, d->dim_k, d->n_head_kv, &l.k_head_bytes, &l.k_pos_bytes, err));
        NM_TRY(row_sizes(type_v, d->dim_v, d->n_head_kv, &l.v_head_bytes, &l.v_pos_bytes, err));
        uint64_t k_bytes, v_bytes;
        if (!nm_mul_u64(l.k_pos_bytes, n_ctx, &k_bytes) ||
            !nm_align_u64(k_bytes, NM_ALIGN, &k_bytes) ||
            !nm_mul_u64(l.v_pos_bytes, n_ctx, &v_bytes) ||
            !nm_align_u64(v_bytes, NM_ALIGN, &v_bytes))
            return too_big(err);
        l.k_at = at;
        if (!nm_add_u64(at, k_bytes, &l.v_at) || !nm_add_u64(l.v_at, v_bytes, &at))
            return too_big(err);
        if (layers)
            layers[i] = l;
    }
    *bytes = at;
    return NPUMOE_OK;
}

npumoe_status nm_kv_bytes(const nm_config *c, uint32_t n_ctx, uint32_t type_k, uint32_t type_v,
                          uint64_t *bytes, npumoe_error *err)
{
    return lay_out(c, n_ctx, type_k, type_v, NULL, bytes, err);
}

npumoe_status nm_kv_init(nm_kv *kv, const nm_config *c, uint32_t n_ctx, uint32_t type_k,
                         uint32_t type_v, const npumoe_allocator *a, npumoe_error *err)
{
    npumoe_status st = NPUMOE_OK;
    *kv = (nm_kv){.allocator = nm_allocator_or_default(a),
                  .type_k = type_k,
                  .type_v = type_v,
                  .n_layer = c->n_layer,
                  .n_ctx = n_ctx};
    kv->layers = nm_alloc_array(kv->allocator, c->n_layer, sizeof *kv->layers);
    if (kv->layers == NULL) {
        st = nm_err_nomem(err, c->n_layer * sizeof *kv->layers, "KV cache layout");
        goto out;
    }
    NM_TRY_OUT(lay_out(c, n_ctx, type_k, type_v, kv->layers, &kv->bytes, err));
    kv->data = kv->bytes > SIZE_MAX ? NULL : nm_alloc_aligned(kv->allocator, (size_t)kv->bytes);
    if (kv->data == NULL)
        st = nm_err_nomem(err, kv->bytes, "the KV cache");
    else
        nm_sys_advise_huge(kv->data, (size_t)kv->bytes);
out:
    if (st != NPUMOE_OK)
        nm_kv_fini(kv);
    return st;
}

void nm_kv_fini(nm_kv *kv)
{
    if (kv->data)
        nm_free_aligned(kv->allocator, kv->data);
    if (kv->layers)
        nm_free(kv->allocator, kv->layers);
    *kv = (nm_kv){0};
}

nm_kv_view nm_kv_keys(const nm_kv *kv, uint32_t layer)
{
    const nm_kv_layer *l = &kv->layers[layer];
    return (nm_kv_view){kv->type_k, kv->data + l->k_at, l->k_pos_bytes, l->k_head_bytes};
}

nm_kv_view nm_kv_values(const nm_kv *kv, uint32_t layer)
{
    const nm_kv_layer *l = &kv->layers[layer];
    return (nm_kv_view){kv->type_v, kv->data + l->v_at, l->v_pos_bytes, l->v_head_bytes};
}

/* All rows are multiples of 2 bytes from a 64-byte aligned start, so the casts are aligned. */
static void store_row(const nm_kern *kern, uint32_t type, size_t n, const float *in, char *out)
{
    if (type == NM_TYPE_F16)
        kern->f32_to_f16(n, in, (uint16_t *)(void *)out);
    else if (type == NM_TYPE_Q8_0)
        kern->f32_to_q8_0(n, in, out);
    else
        memcpy(out, in, n * sizeof *in);
}

void nm_kv_store(const nm_kv *kv, const nm_kern *kern, const nm_layer_desc *d, uint32_t layer,
                 size_t pos, const float *k, const float *v)
{
    const nm_kv_layer *l = &kv->layers[layer];
    store_row(kern, kv->type_k, (size_t)d->n_head_kv * d->dim_k, k,
              kv->data + l->k_at + pos * l->k_pos_bytes);
    store_row(kern, kv->type_v, (size_t)d->n_head_kv * d->dim_v, v,
              kv->data + l->v_at + pos * l->v_pos_bytes);
}
