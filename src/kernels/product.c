/* product.c: which product computes what.
 *
 * Rounding weights and the rows they meet to bf16 (8 bits) loses less than few-bit weights have lost
 * already, yet it sends tokens near a tie to other experts. Where a matrix unit multiplies bytes, two
 * planes of those (i8x3) are near fp32 and cost at most a quarter of the rate, so `auto` takes them for
 * all block formats. F16 and F32 want two planes of both; BF16 weights are exact in one, so only x needs a
 * second. PERF.md and docs/accuracy.md have the measurements behind this. */
#include "kernels/products.h"

#include "base/num.h"
#include "kernels/kern.h"

#include <string.h>

/* Every product of this build, for sizes that must be known before the CPU is. */
static const nm_product *const all[] = {
#define P(arch, name, slot, tier, has, what) NM_ON_##arch(&nm_product_##name, )
#include "kernels/kern.def"
};

static bool takes_all(const nm_product *p, const uint32_t *types, size_t n_types)
{
    for (size_t i = 0; i < n_types; i++)
        if (!p->takes(types[i]))
            return false;
    return true;
}

static nm_product_slot planes_for(nm_precision precision, uint32_t type)
{
    if (precision == NM_PRECISION_FAST)
        return NM_PRODUCT_BF16;
    if (type == NM_TYPE_BF16)
        return NM_PRODUCT_BF16X2;
    bool fine = type == NM_TYPE_F32 || type == NM_TYPE_F16 || type == NM_TYPE_Q8_0;
    return fine || precision != NM_PRECISION_AUTO ? NM_PRODUCT_BF16X3 : NM_PRODUCT_BF16;
}

nm_precision nm_precision_of_attention(nm_precision model)
{
    return model == NM_PRECISION_FULL ? NM_PRECISION_FINE : model;
}

/* The most demanding of the types decides for all. */
static nm_product_slot matrix_slot(nm_precision precision, const uint32_t *types, size_t n_types)
{
    nm_product_slot most = NM_PRODUCT_BF16;
    for (size_t i = 0; i < n_types; i++) {
        nm_product_slot s = planes_for(precision, types[i]);
        most = s > most ? s : most;
    }
    /* One type wants two planes of x, another one of each: three serve both. */
    for (size_t i = 0; i < n_types && most == NM_PRODUCT_BF16X2; i++)
        if (types[i] != NM_TYPE_BF16)
            most = NM_PRODUCT_BF16X3;
    return most;
}

const nm_product *nm_product_pick(const nm_kern *kern, nm_precision precision, size_t m,
                                  const uint32_t *types, size_t n_types)
{
    const nm_product_slot few[] = {NM_PRODUCT_DOT_Q, NM_PRODUCT_DOT_F, NM_PRODUCT_F32};
    const nm_product_slot planes = matrix_slot(precision, types, n_types);
    /* Two planes of bytes are half the price of two of bf16. */
    const bool bytes = precision == NM_PRECISION_AUTO || precision == NM_PRECISION_FULL ||
                       (planes != NM_PRODUCT_BF16 && precision != NM_PRECISION_FINE);
    const nm_product_slot ints = precision == NM_PRECISION_FAST ? NM_PRODUCT_I8 : NM_PRODUCT_I16;
    const nm_product_slot many[] = {bytes ? NM_PRODUCT_I8X3 : planes,
                                    planes,
                                    ints,
                                    NM_PRODUCT_I16,
                                    NM_PRODUCT_I8X2,
                                    NM_PRODUCT_F32};
    const nm_product_slot plain[] = {NM_PRODUCT_F32};
    const nm_product_slot *list = m < NM_PRODUCT_FEW ? few : many;
    if (precision == NM_PRECISION_FP32)
        list = plain;
    for (;; list++) {
        const nm_product *p = kern->products[*list];
        if (*list == NM_PRODUCT_F32 || (p && takes_all(p, types, n_types)))
            return p;
    }
}

const nm_product *nm_product_for(const nm_kern *kern, nm_precision precision, size_t m,
                                 const nm_mat *const *w, size_t n)
{
    uint32_t types[NM_PRODUCT_MATS];
    n = nm_min_size(n, NM_PRODUCT_MATS);
    for (size_t i = 0; i < n; i++) {
        if (w[i]->panels_of)
            return w[i]->panels_of;
        types[i] = w[i]->type;
    }
    return nm_product_pick(kern, precision, m, types, n);
}

uint64_t nm_product_panels_bytes(const nm_product *p, uint64_t rows, uint64_t cols)
{
    /* No panel has more than 4 bytes per weight, once sizes are multiples of these. */
    uint64_t weights, most;
    if (p->panels_bytes == NULL || rows > UINT64_MAX - 256 || cols > UINT64_MAX - 256 ||
        !nm_mul_u64(rows + 256, cols + 256, &weights) || !nm_mul_u64(weights, 4, &most))
        return 0;
    return p->panels_bytes(rows, cols);
}

nm_mat nm_product_to_panels(const nm_product *p, const nm_kern *kern, const nm_mat *w, void *to)
{
    nm_mat panels = *w;
    p->to_panels(kern, w, 0, w->rows, to);
    panels.panels_of = p;
    panels.row_bytes = 0;
    panels.data = to;
    return panels;
}

size_t nm_products_scratch_bytes(size_t max_k)
{
    size_t most = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        most = nm_max_size(most, all[i]->scratch_bytes(max_k));
    return most;
}

size_t nm_product_rows(const nm_product *p, size_t k, size_t room_bytes)
{
    size_t groups = room_bytes / p->packed_bytes(p->group, k);
    return (groups ? groups : 1) * p->group;
}

void nm_product_store(const nm_out_args *a, size_t i, uint64_t j, size_t n, float *sum)
{
    if (a->bias)
        a->kern->add(n, a->bias + j, sum);
    const float weight = a->weight ? a->weight[i] : 1.0f;
    float *y = a->y[i] + j;
    if (a->add) {
        a->kern->axpy(n, weight, sum, y);
        return;
    }
    a->kern->scale(n, weight, sum);
    memcpy(y, sum, n * sizeof *sum);
}

void nm_product_activate(const nm_gated_args *a, uint64_t j, size_t n, float *gate, float *up)
{
    if (a->b_gate)
        a->kern->add(n, a->b_gate + j, gate);
    if (a->b_up)
        a->kern->add(n, a->b_up + j, up);
    switch (a->act) {
    case NM_ACT_SWIGLU:
        a->kern->silu_mul(n, gate, up);
        break;
    }
}
