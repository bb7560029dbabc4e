/* strips.c: panels of strips, met by all groups of packed rows.
 *
 *   for each panel of at most 64 outputs        decoded once, stays in L2
 *     for each group of 4 or 8 packed rows      stays in L1: 10 KiB of 4 rows and 1024 inputs
 *       for each strip of the panel             streams from L2
 *         one call of the kernel
 *
 * PANEL_BYTES is half of the smallest L2 that cores with these instructions have (512 KiB for a
 * core: Cortex-A76; 1 MiB and more: Neoverse; 12 MiB and more shared by a cluster of 4 to 6: Apple's
 * performance cores, 4 MiB by their efficiency cores). Rows of x are read again for each panel, so a
 * panel has MIN_COLS outputs even where that is more bytes: of 16384 inputs, 0.6 MiB. */
#include "kernels/arm/strips.h"

#include "base/alloc.h"
#include "base/num.h"
#include "kernels/kern.h"
#include "kernels/products.h"

#include <string.h>

enum { PANEL_BYTES = 256 * 1024, MIN_COLS = 32 };

static size_t blocks_of(size_t k)
{
    return (k + NM_STRIP_INPUTS - 1) / NM_STRIP_INPUTS;
}

static size_t strip_bytes(const nm_strips *s, uint32_t type, size_t k)
{
    return blocks_of(k) * s->block_bytes(type);
}

static size_t group_bytes(const nm_strips *s, size_t k)
{
    return blocks_of(k) * s->x_block_bytes;
}

/* Results of gate and up, then the panel. */
size_t nm_strips_scratch_bytes(const nm_strips *s, size_t max_k)
{
    size_t least = 2 * MIN_COLS / NM_STRIP * blocks_of(max_k) * s->w_block_bytes;
    return 2 * sizeof(nm_strip_results) + nm_max_size(PANEL_BYTES, least);
}

static size_t panel_cols(size_t bytes_per_strip)
{
    size_t strips = bytes_per_strip ? PANEL_BYTES / bytes_per_strip : NM_STRIP_COLS;
    size_t cols = strips * NM_STRIP / MIN_COLS * MIN_COLS;
    return nm_min_size(nm_max_size(cols, MIN_COLS), NM_STRIP_COLS);
}

/* ---- packed rows ---------------------------------------------------------------------------- */

size_t nm_strips_packed_bytes(const nm_strips *s, size_t m, size_t k)
{
    return (m + s->group - 1) / s->group * group_bytes(s, k);
}

void nm_strips_pack(const nm_strips *s, size_t m, size_t k, const float *const *x, size_t i0,
                    size_t i1, void *xp)
{
    static const float zeros[NM_STRIP_INPUTS];
    float last[NM_STRIP_GROUP][NM_STRIP_INPUTS] = {{0}};
    (void)m;
    for (size_t i = i0; i < i1; i += s->group) {
        char *to = (char *)xp + i / s->group * group_bytes(s, k);
        size_t n = nm_min_size(s->group, i1 - i);
        for (size_t p = 0; p < k; p += NM_STRIP_INPUTS, to += s->x_block_bytes) {
            const float *rows[NM_STRIP_GROUP];
            for (size_t r = 0; r < s->group; r++)
                rows[r] = r < n ? x[i + r] + p : zeros;
            for (size_t r = 0; r < n && k - p < NM_STRIP_INPUTS; r++) {
                memcpy(last[r], rows[r], (k - p) * sizeof(float));
                rows[r] = last[r];
            }
            s->pack(rows, to);
        }
    }
}

/* ---- panels --------------------------------------------------------------------------------- */

static void decode_panel(const nm_strips *s, const nm_kern *kern, const nm_mat *w, uint64_t j,
                         size_t n, char *panel)
{
    const size_t bytes = strip_bytes(s, w->type, (size_t)w->cols);
    for (size_t c = 0; c < n; c += NM_STRIP, panel += bytes)
        s->decode(kern, w, j + c, nm_min_size(NM_STRIP, n - c), panel);
}

static void multiply_panel(const nm_strips *s, const nm_mat *w, size_t rows, size_t n,
                           const void *xp, const char *panel, nm_strip_results y)
{
    const size_t k = (size_t)w->cols, bytes = strip_bytes(s, w->type, k);
    for (size_t c = 0; c < n; c += NM_STRIP, panel += bytes) {
        float(*to)[NM_STRIP_COLS] = (float(*)[NM_STRIP_COLS])(void *)(&y[0][0] + c);
        s->multiply(w->type, rows, blocks_of(k), xp, panel, to);
    }
}

/* ---- results -------------------------------------------------------------------------------- */

void nm_strips_out(const nm_strips *s, const nm_out_args *a)
{
    const size_t k = (size_t)a->w->cols;
    const size_t step = panel_cols(strip_bytes(s, a->w->type, k));
    nm_strip_results *sums = a->scratch;
    char *panel = (char *)(sums + 2);
    for (uint64_t j = a->j0; j < a->j1; j += step) {
        const size_t n = nm_min_size(step, (size_t)(a->j1 - j));
        const char *xp = a->xp;
        decode_panel(s, a->kern, a->w, j, n, panel);
        for (size_t i = 0; i < a->m; i += s->group, xp += group_bytes(s, k)) {
            const size_t rows = nm_min_size(s->group, a->m - i);
            multiply_panel(s, a->w, rows, n, xp, panel, *sums);
            for (size_t r = 0; r < rows; r++)
                nm_product_store(a, i + r, j, n, (*sums)[r]);
        }
    }
}

/* Packs n columns from j on of one group; what is beyond the rows and columns is zeros. */
static void pack_results(const nm_strips *s, size_t rows, uint64_t j, size_t n, nm_strip_results h,
                         char *group)
{
    const size_t whole = blocks_of(n) * NM_STRIP_INPUTS;
    char *to = group + j / NM_STRIP_INPUTS * s->x_block_bytes;
    for (size_t r = 0; r < s->group; r++) {
        size_t have = r < rows ? n : 0;
        memset(h[r] + have, 0, (whole - have) * sizeof(float));
    }
    for (size_t c = 0; c < n; c += NM_STRIP_INPUTS, to += s->x_block_bytes) {
        const float *at[NM_STRIP_GROUP];
        for (size_t r = 0; r < s->group; r++)
            at[r] = h[r] + c;
        s->pack(at, to);
    }
}

void nm_strips_gated(const nm_strips *s, const nm_gated_args *a)
{
    const size_t k = (size_t)a->gate->cols, n_ff = (size_t)a->gate->rows;
    const size_t bytes_g = strip_bytes(s, a->gate->type, k);
    const size_t step = panel_cols(bytes_g + strip_bytes(s, a->up->type, k));
    nm_strip_results *gate = a->scratch, *up = gate + 1;
    char *panel_g = (char *)(up + 1), *panel_u = panel_g + step / NM_STRIP * bytes_g;
    for (uint64_t j = a->j0; j < a->j1; j += step) {
        const size_t n = nm_min_size(step, (size_t)(a->j1 - j));
        const char *xp = a->xp;
        char *hp = a->hp;
        decode_panel(s, a->kern, a->gate, j, n, panel_g);
        decode_panel(s, a->kern, a->up, j, n, panel_u);
        for (size_t i = 0; i < a->m; i += s->group) {
            const size_t rows = nm_min_size(s->group, a->m - i);
            multiply_panel(s, a->gate, rows, n, xp, panel_g, *gate);
            multiply_panel(s, a->up, rows, n, xp, panel_u, *up);
            for (size_t r = 0; r < rows; r++)
                nm_product_activate(a, j, n, (*gate)[r], (*up)[r]);
            pack_results(s, rows, j, n, *gate, hp);
            xp += group_bytes(s, k);
            hp += group_bytes(s, n_ff);
        }
    }
}
