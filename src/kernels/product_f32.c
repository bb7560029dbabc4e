/* product_f32.c: the product that every tier has: weights decoded to an fp32 panel, gemm_nt.
 *
 * The panel is row-major in the thread's scratch:
 *
 *   panel[r][0..cols), row stride = cols rounded up to a cache line, plus one line
 *
 * The extra line keeps rows of the panel out of each other's cache sets when cols is a power of
 * two. A panel stays within PANEL_BYTES, a quarter of the smallest L2 of the last years (1 MiB on
 * servers, 2 MiB now), so that x and y have room beside it; few rows of x pass over it so fast that
 * it should still be in L1. Packed rows are fp32 rows of a whole number of cache lines: an
 * unaligned row of x costs gemm_nt 40 %.
 *
 * Why not transpose the panel so that lanes run along the outputs, as BLAS does: the transposition
 * costs as much as the decoding, and with few rows of x there is nothing to pay it from. Lanes
 * along the inputs need a horizontal sum per result, 1/k of the work.
 *
 * Panels made beforehand are all rows with that stride.
 *
 * Bits: an element is one call of gemm_nt's inner sum over its own two rows; kern.def promises the
 * rest. */
#include "kernels/products.h"

#include "base/alloc.h"
#include "base/num.h"
#include "kernels/kern.h"

#include <string.h>

enum {
    LINE = NM_ALIGN / sizeof(float),
    PANEL_BYTES = 512 * 1024,
    MAX_ROWS = 32, /* of a panel */
    MIN_ROWS = 4,
    L1_BYTES = 32 * 1024,
    BLOCK = 64 /* rows of x per call of gemm_nt */
};

static size_t row_floats(size_t k)
{
    return (k + LINE - 1) / LINE * LINE;
}

static size_t panel_stride(uint64_t cols)
{
    return row_floats((size_t)cols) + LINE;
}

static size_t panel_rows(size_t stride, size_t m)
{
    size_t room = m < NM_PRODUCT_FEW ? L1_BYTES : PANEL_BYTES;
    size_t rows = room / (stride * sizeof(float)) / MIN_ROWS * MIN_ROWS;
    return rows < MIN_ROWS ? MIN_ROWS : nm_min_size(rows, MAX_ROWS);
}

/* A block of results that cannot go straight to their place. */
typedef float results[BLOCK][MAX_ROWS];

static size_t panel_bytes(size_t max_k)
{
    size_t stride = panel_stride(max_k) * sizeof(float);
    return nm_max_size(PANEL_BYTES, 2 * MIN_ROWS * stride); /* gate and up */
}

static size_t scratch_bytes(size_t max_k)
{
    return sizeof(results) + panel_bytes(max_k);
}

static bool takes(uint32_t type)
{
    return nm_type_get(type)->supported;
}

static size_t packed_bytes(size_t m, size_t k)
{
    return m * row_floats(k) * sizeof(float);
}

static void pack(size_t m, size_t k, const float *const *x, size_t i0, size_t i1, void *xp)
{
    (void)m;
    for (size_t i = i0; i < i1; i++) {
        float *row = (float *)xp + i * row_floats(k);
        memcpy(row, x[i], k * sizeof(float));
        memset(row + k, 0, (row_floats(k) - k) * sizeof(float));
    }
}

static const char *row_of(const nm_mat *w, uint64_t row)
{
    return (const char *)w->data + row * w->row_bytes;
}

static uint64_t panels_bytes(uint64_t rows, uint64_t cols)
{
    const uint64_t bytes = rows * panel_stride(cols) * sizeof(float);
    return (bytes + NM_ALIGN - 1) / NM_ALIGN * NM_ALIGN;
}

static void to_panels(const nm_kern *kern, const nm_mat *w, uint64_t j0, uint64_t j1, void *to)
{
    const size_t stride = panel_stride(w->cols), k = (size_t)w->cols;
    for (uint64_t j = j0; j < j1; j++) {
        float *row = (float *)to + j * stride;
        kern->decode[w->type](row_of(w, j), row, k);
        memset(row + k, 0, (stride - k) * sizeof *row);
    }
}

/* F32 rows can be used where they lie. */
static bool is_plain(const nm_mat *w)
{
    return w->type == NM_TYPE_F32 && (uintptr_t)w->data % sizeof(float) == 0 &&
           w->row_bytes % sizeof(float) == 0;
}

/* Rows j .. j + n - 1 as fp32; *stride in floats. */
static const float *decode(const nm_kern *kern, const nm_mat *w, uint64_t j, size_t n, float *panel,
                           size_t *stride)
{
    if (w->panels_of) {
        *stride = panel_stride(w->cols);
        return (const float *)w->data + j * *stride;
    }
    if (is_plain(w)) {
        const void *at = row_of(w, j);
        *stride = (size_t)w->row_bytes / sizeof(float);
        return at;
    }
    *stride = panel_stride(w->cols);
    for (size_t r = 0; r < n; r++)
        kern->decode[w->type](row_of(w, j + r), panel + r * *stride, (size_t)w->cols);
    return panel;
}

static size_t point_x(const void *xp, size_t k, size_t i, size_t m, const float *x[BLOCK])
{
    size_t rows = nm_min_size(BLOCK, m - i);
    for (size_t r = 0; r < rows; r++)
        x[r] = (const float *)xp + (i + r) * row_floats(k);
    return rows;
}

static void point_results(results t, float *y[BLOCK])
{
    for (size_t r = 0; r < BLOCK; r++)
        y[r] = t[r];
}

static void out(const nm_out_args *a)
{
    const size_t k = (size_t)a->w->cols;
    results *sums = a->scratch;
    float *panel = (float *)(sums + 1);
    const size_t step = panel_rows(panel_stride(k), a->m);
    float *at[BLOCK];
    const float *x[BLOCK];
    point_results(*sums, at);
    for (uint64_t j = a->j0; j < a->j1; j += step) {
        const size_t n = nm_min_size(step, (size_t)(a->j1 - j));
        size_t stride, rows;
        const float *w = decode(a->kern, a->w, j, n, panel, &stride);
        for (size_t i = 0; i < a->m; i += rows) {
            rows = point_x(a->xp, k, i, a->m, x);
            a->kern->gemm_nt(rows, n, k, x, w, stride, at);
            for (size_t r = 0; r < rows; r++)
                nm_product_store(a, i + r, j, n, at[r]);
        }
    }
}

static void gated(const nm_gated_args *a)
{
    const size_t k = (size_t)a->gate->cols, n_ff = (size_t)a->gate->rows;
    results *ups = a->scratch;
    float *panel = (float *)(ups + 1);
    const size_t step = panel_rows(2 * panel_stride(k), a->m);
    float *up[BLOCK], *h[BLOCK];
    const float *x[BLOCK];
    point_results(*ups, up);
    for (uint64_t j = a->j0; j < a->j1; j += step) {
        const size_t n = nm_min_size(step, (size_t)(a->j1 - j));
        size_t stride_g, stride_u, rows;
        const float *wg = decode(a->kern, a->gate, j, n, panel, &stride_g);
        const float *wu = decode(a->kern, a->up, j, n, panel + step * panel_stride(k), &stride_u);
        for (size_t i = 0; i < a->m; i += rows) {
            rows = point_x(a->xp, k, i, a->m, x);
            for (size_t r = 0; r < rows; r++)
                h[r] = (float *)a->hp + (i + r) * row_floats(n_ff) + j;
            a->kern->gemm_nt(rows, n, k, x, wg, stride_g, h);
            a->kern->gemm_nt(rows, n, k, x, wu, stride_u, up);
            for (size_t r = 0; r < rows; r++)
                nm_product_activate(a, j, n, h[r], up[r]);
        }
    }
    if (a->j1 < n_ff)
        return;
    for (size_t i = 0; i < a->m; i++) {
        float *row = (float *)a->hp + i * row_floats(n_ff);
        memset(row + n_ff, 0, (row_floats(n_ff) - n_ff) * sizeof(float));
    }
}

const nm_product nm_product_f32 = {
    .name = "f32",
    .group = 1,
    .task = 32,
    .takes = takes,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .gated = gated,
    .out = out,
    .panels_bytes = panels_bytes,
    .to_panels = to_panels,
};
