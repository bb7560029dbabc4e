/* bf16_avx512bf16.c: the products on bf16 with VDPBF16PS (AVX512-BF16) for processors without a matrix unit:
 * Zen 4, Zen 5, Cooper Lake. For weights without blocks: those with codes go the integer way (i16), which is as
 * fast as one plane of bf16 and exact in the weights.
 *
 * A number is one or two planes of bf16: hi = bf16(v), lo = bf16(v - hi), together 16 significant bits.
 *
 *   bf16     hi hi            rounds both sides to 8 bits: F32, F16 and BF16 weights
 *   bf16x2   lo hi + hi hi    x in two planes, for weights that are bf16
 *
 * Three for F16 and F32 weights (bf16x3) would be slower than the fp32 product, as VDPBF16PS does
 * twice the products of an FMA at best.
 *
 * Lanes run along the outputs: a pair of inputs of x, in every lane, meets the same pair of 16 outputs. Weights are
 * decoded a slab of inputs at a time into L1, and there met by all rows:
 *
 *   panel of 32 outputs: [pair of inputs][output][of the pair]
 *   packed rows: in groups of 4, per 32 inputs [plane][pair][row][of the pair]; so a register block walks
 *       through consecutive lines, and all its addresses are two pointers plus constants
 *
 * Register block: 8 rows by 2 vectors of outputs, whose sums stay in registers over a slab. With 16 of them an
 * instruction of 6 cycles (Zen 5) that starts twice a cycle has its operand in time. Between slabs they wait in
 * scratch, of BATCH rows at most (32 KiB); for more rows weights are decoded again. (PERF.md: what else was tried.)
 *
 * Panels made beforehand are, for each 32 outputs, all slabs one after the other.
 *
 * Rounding (Intel SDM volume 2, VDPBF16PS): sum += x1 w1, then sum += x0 w0, each fused and rounded to nearest even
 * whatever MXCSR says; denormal numbers, inputs, sums and results, count as zeros. So k inputs of one plane are k
 * roundings, of two 2 k: the bound of the class DOT (2 k eps sum |x w|, eps = 2^-24) for one plane by half, for two
 * but for 2^-8 of it, plus 2^-126 a product. (Zen 5 does just this: 32 million random sums had these bits.)
 *
 * Bits: an element's sum runs over its own pairs of inputs in order, of each lo hi and then hi hi, whatever the register
 * block. An infinity of x comes out of two planes as NaN: its rest is one. */
#include "base/alloc.h"
#include "base/num.h"
#include "kernels/products.h"
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx512.inc"

#include "kernels/tmpl/blocks.inc"
#include "kernels/x86/planes_bf16.inc"
#include "kernels/x86/transpose.inc"

enum {
    STEP = NM_PRODUCT_STEP,   /* outputs of a panel; inputs of a block of x */
    GROUP = 4,                /* rows of x */
    ROWS = 8,                 /* of a register block */
    VECTORS = STEP / VW,      /* of outputs */
    PLANE = STEP / 2 * GROUP, /* pairs of a plane of a block of x */
    SLAB = 256,               /* inputs that are decoded and multiplied at a time */
    BATCH = 256               /* rows of x */
};

/* Two bf16 of neighbouring inputs. */
typedef uint32_t pair;

typedef float sums[BATCH][STEP];

typedef struct scratch {
    sums gate, up;
    pair panel[SLAB / 2 * STEP];
} scratch;

/* ---- rows of x ------------------------------------------------------------------------------ */

VEC size_t group_bytes(int planes, size_t k)
{
    return (k + STEP - 1) / STEP * (size_t)planes * PLANE * sizeof(pair);
}

/* word[r] of rows 0 .. 3 to [word][row]. */
VEC void put_group(const __m512i row[GROUP], pair *to)
{
    const __m512i a = _mm512_unpacklo_epi32(row[0], row[1]);
    const __m512i b = _mm512_unpackhi_epi32(row[0], row[1]);
    const __m512i c = _mm512_unpacklo_epi32(row[2], row[3]);
    const __m512i d = _mm512_unpackhi_epi32(row[2], row[3]);
    /* Quarter q of t[i]: word 4 q + i. */
    const __m512i t0 = _mm512_unpacklo_epi64(a, c), t1 = _mm512_unpackhi_epi64(a, c);
    const __m512i t2 = _mm512_unpacklo_epi64(b, d), t3 = _mm512_unpackhi_epi64(b, d);
    const __m512i low01 = _mm512_shuffle_i32x4(t0, t1, 0x44);
    const __m512i low23 = _mm512_shuffle_i32x4(t2, t3, 0x44);
    const __m512i high01 = _mm512_shuffle_i32x4(t0, t1, 0xee);
    const __m512i high23 = _mm512_shuffle_i32x4(t2, t3, 0xee);
    _mm512_storeu_si512(to, _mm512_shuffle_i32x4(low01, low23, 0x88));
    _mm512_storeu_si512(to + 16, _mm512_shuffle_i32x4(low01, low23, 0xdd));
    _mm512_storeu_si512(to + 32, _mm512_shuffle_i32x4(high01, high23, 0x88));
    _mm512_storeu_si512(to + 48, _mm512_shuffle_i32x4(high01, high23, 0xdd));
}

/* Up to 32 inputs of up to 4 rows; beyond them zeros. */
VEC void pack_block(int planes, const float *const *x, size_t rows, size_t p, size_t left, pair *to)
{
    __m512i hi[GROUP], lo[GROUP];
    const __mmask16 first = first_lanes(left), second = first_lanes(left < 16 ? 0 : left - 16);
    UNROLL for (size_t r = 0; r < GROUP; r++)
    {
        hi[r] = lo[r] = _mm512_setzero_si512();
        if (r < rows) {
            const bf16x2 s = split_any(_mm512_maskz_loadu_ps(first, x[r] + p),
                                       _mm512_maskz_loadu_ps(second, x[r] + p + 16), planes);
            hi[r] = s.hi;
            lo[r] = s.lo;
        }
    }
    put_group(hi, to);
    if (planes == 2)
        put_group(lo, to + PLANE);
}

VEC void pack_planes(int planes, size_t k, const float *const *x, size_t i0, size_t i1, void *xp)
{
    for (size_t i = i0; i < i1; i += GROUP) {
        pair *to = (pair *)(void *)((char *)xp + i / GROUP * group_bytes(planes, k));
        for (size_t p = 0; p < k; p += STEP, to += planes * PLANE)
            pack_block(planes, x + i, nm_min_size(GROUP, i1 - i), p, k - p, to);
    }
}

/* ---- the panel ------------------------------------------------------------------------------ */

/* 32 weights of a row, or what is left of them and zeros, as pairs. */
VEC __m512i load_pairs(uint32_t type, const void *row, size_t p, size_t left)
{
    const __mmask32 all = left < 32 ? (__mmask32)((1u << left) - 1) : 0xffffffffu;
    const __mmask16 first = (__mmask16)all, second = (__mmask16)(all >> 16);
    if (type == NM_TYPE_F32) {
        const float *from = (const float *)row + p;
        return to_bf16(in_range(_mm512_maskz_loadu_ps(first, from)),
                       in_range(_mm512_maskz_loadu_ps(second, from + 16)));
    }
    const __m512i words = _mm512_maskz_loadu_epi16(all, (const uint16_t *)row + p);
    if (type == NM_TYPE_BF16)
        return words;
    return to_bf16(_mm512_cvtph_ps(_mm512_castsi512_si256(words)),
                   _mm512_cvtph_ps(_mm512_extracti64x4_epi64(words, 1)));
}

/* Inputs p .. p + n - 1 of rows j .. j + 31; of rows beyond the last, that one again. */
VEC void decode_type(uint32_t type, const nm_mat *mat, uint64_t j, size_t p, size_t n, pair *to)
{
    for (size_t half = 0; half < STEP; half += VW) {
        const char *rows[VW];
        for (size_t r = 0; r < VW; r++) {
            const uint64_t row = j + half + r;
            rows[r] = nm_mat_row_at(mat, row < mat->rows ? row : mat->rows - 1);
        }
        for (size_t i = 0; i < n; i += STEP) {
            __m512i words[16];
            UNROLL for (size_t r = 0; r < VW; r++)
            {
                words[r] = load_pairs(type, rows[r], p + i, n - i);
            }
            transpose(words);
            UNROLL for (size_t q = 0; q < VW; q++)
            {
                _mm512_storeu_si512(to + (i / 2 + q) * STEP + half, words[q]);
            }
        }
    }
}

static void decode_slab(const nm_mat *mat, uint64_t j, size_t p, size_t n, pair *to)
{
    if (mat->type == NM_TYPE_BF16)
        decode_type(NM_TYPE_BF16, mat, j, p, n, to);
    else if (mat->type == NM_TYPE_F16)
        decode_type(NM_TYPE_F16, mat, j, p, n, to);
    else
        decode_type(NM_TYPE_F32, mat, j, p, n, to);
}

/* Of 32 outputs. */
static size_t panel_bytes(uint64_t cols)
{
    return (size_t)((cols + STEP - 1) / STEP * STEP / 2 * STEP * sizeof(pair));
}

/* The slab as pairs, decoded if it is not yet. */
static const pair *slab_of(const nm_mat *mat, uint64_t j, size_t p, size_t n, pair *panel)
{
    if (mat->panels_of) {
        const char *at = (const char *)mat->data + j / STEP * panel_bytes(mat->cols);
        return (const pair *)(const void *)at + p / 2 * STEP;
    }
    decode_slab(mat, j, p, n, panel);
    return panel;
}

static ahead ahead_of(const nm_mat *mat, uint64_t j, size_t p, size_t n, size_t m)
{
    const bool in_row = p + n < mat->cols;
    const size_t from = in_row ? p + n : 0, slab = nm_min_size(SLAB, (size_t)mat->cols - from);
    const size_t blocks = (m + ROWS - 1) / ROWS;
    const uintptr_t data = (uintptr_t)mat->data;
    j = in_row ? j : j + STEP;
    if (mat->panels_of) {
        const size_t pair_bytes = STEP * sizeof(pair);
        const uint64_t at = j / STEP * panel_bytes(mat->cols) + from / 2 * pair_bytes;
        return ahead_over(data + (uintptr_t)at, 1, 0, slab / 2 * pair_bytes, blocks);
    }
    const size_t each = nm_type_get(mat->type)->block_bytes;
    return ahead_over(data + (uintptr_t)(j * mat->row_bytes + from * each), STEP,
                      (size_t)mat->row_bytes, slab * each, blocks);
}

/* ---- rows times panel ----------------------------------------------------------------------- */

VEC __m512 dot(__m512 sum, __m512i x, __m512i w)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

/* A pair of inputs of mr rows times 32 outputs. x: its first plane; groups are `stride` pairs apart. */
VEC void multiply_pair(int mr, int planes, const pair *w, const pair *x, size_t stride,
                       __m512 acc[ROWS][VECTORS])
{
    __m512i ws[VECTORS];
    UNROLL for (int v = 0; v < VECTORS; v++)
    {
        ws[v] = _mm512_loadu_si512(w + v * VW);
    }
    UNROLL for (int plane = planes - 1; plane >= 0; plane--)
    {
        UNROLL for (int a = 0; a < mr; a++)
        {
            const pair *at = x + (size_t)(a / GROUP) * stride + plane * PLANE + a % GROUP;
            const __m512i xs = _mm512_set1_epi32((int)*at);
            UNROLL for (int v = 0; v < VECTORS; v++)
            {
                acc[a][v] = dot(acc[a][v], xs, ws[v]);
            }
        }
    }
}

/* mr rows times n inputs of a panel; added to the sums. */
VEC void multiply(int mr, int planes, const pair *w, size_t n, const pair *x, size_t stride,
                  float (*to)[STEP])
{
    __m512 acc[ROWS][VECTORS];
    UNROLL for (int a = 0; a < mr; a++) UNROLL for (int v = 0; v < VECTORS; v++)
    {
        acc[a][v] = _mm512_loadu_ps(to[a] + v * VW);
    }
    for (size_t i = 0; i < n; i += STEP, x += (planes - 1) * PLANE)
        for (int quads = 0; quads < STEP / 8; quads++)
            UNROLL for (int q = 0; q < 4; q++, w += STEP, x += GROUP)
            {
                multiply_pair(mr, planes, w, x, stride, acc);
            }
    UNROLL for (int a = 0; a < mr; a++) UNROLL for (int v = 0; v < VECTORS; v++)
    {
        _mm512_storeu_ps(to[a] + v * VW, acc[a][v]);
    }
}

#define MULTIPLY(mr)                                                        \
    case mr:                                                                \
        multiply(mr, planes, w, n, x + i / GROUP * stride, stride, to + i); \
        break

VEC void multiply_rows(int planes, const pair *w, size_t n, const pair *x, size_t stride, size_t m,
                       float (*to)[STEP], ahead *next, const ends *end)
{
    for (size_t i = 0, rows; i < m; i += rows) {
        ask_ahead(next);
        rows = rows_of_block(m - i, ROWS, GROUP);
        ask_rows(end, i, rows);
        switch (rows) {
            MULTIPLY(1);
            MULTIPLY(2);
            MULTIPLY(3);
            MULTIPLY(4);
            MULTIPLY(5);
            MULTIPLY(6);
            MULTIPLY(7);
            MULTIPLY(8);
        }
    }
}

static void multiply_slab(int planes, const pair *w, size_t n, const pair *x, size_t stride,
                          size_t m, float (*to)[STEP], ahead *next, const ends *end)
{
    if (planes == 1)
        multiply_rows(1, w, n, x, stride, m, to, next, end);
    else
        multiply_rows(2, w, n, x, stride, m, to, next, end);
}

/* m <= BATCH rows of x times 32 outputs from j on. y: where they will be stored, or NULL. */
static void multiply_mat(int planes, const nm_mat *mat, uint64_t j, const char *xp, size_t m,
                         scratch *s, sums to, float *const *y)
{
    const size_t k = (size_t)mat->cols, stride = group_bytes(planes, k) / sizeof(pair);
    const pair *x = (const pair *)(const void *)xp;
    memset(to, 0, m * sizeof to[0]);
    for (size_t p = 0; p < k; p += SLAB, x += SLAB / STEP * planes * PLANE) {
        const size_t n = nm_min_size(SLAB, k - p);
        const ends end = {p + n == k ? y : NULL, j};
        ahead next = ahead_of(mat, j, p, n, m);
        const pair *w = slab_of(mat, j, p, n, s->panel);
        multiply_slab(planes, w, n, x, stride, m, to, &next, &end);
    }
}

/* ---- out and gated -------------------------------------------------------------------------- */

static size_t scratch_bytes(size_t max_k)
{
    (void)max_k;
    return (sizeof(scratch) + NM_ALIGN - 1) / NM_ALIGN * NM_ALIGN;
}

static void out_planes(int planes, const nm_out_args *a)
{
    scratch *s = a->scratch;
    const size_t group = group_bytes(planes, (size_t)a->w->cols);
    for (uint64_t j = a->j0; j < a->j1; j += STEP) {
        const size_t n = nm_min_size(STEP, (size_t)(a->j1 - j));
        for (size_t i = 0; i < a->m; i += BATCH) {
            const size_t m = nm_min_size(BATCH, a->m - i);
            multiply_mat(planes, a->w, j, (const char *)a->xp + i / GROUP * group, m, s, s->gate,
                         a->y + i);
            for (size_t r = 0; r < m; r++)
                store_row(a, i + r, j, n, s->gate[r]);
        }
    }
}

/* Rows i .. of gate and up, m of them: columns j .. j + n - 1 of hp, and zeros up to the next block. */
static void activate(int planes, const nm_gated_args *a, uint64_t j, size_t n, size_t i, size_t m,
                     scratch *s)
{
    const size_t group = group_bytes(planes, (size_t)a->gate->rows) / sizeof(pair);
    pair *to = (pair *)a->hp + i / GROUP * group + j / STEP * (size_t)planes * PLANE;
    for (size_t r = 0; r < m; r += GROUP, to += group) {
        const float *rows[GROUP];
        const size_t rest = nm_min_size(GROUP, m - r);
        for (size_t g = 0; g < rest; g++) {
            nm_product_activate(a, j, n, s->gate[r + g], s->up[r + g]);
            rows[g] = s->gate[r + g];
        }
        pack_block(planes, rows, rest, 0, n, to);
    }
}

static void gated_planes(int planes, const nm_gated_args *a)
{
    scratch *s = a->scratch;
    const size_t group = group_bytes(planes, (size_t)a->gate->cols);
    for (uint64_t j = a->j0; j < a->j1; j += STEP) {
        const size_t n = nm_min_size(STEP, (size_t)(a->j1 - j));
        for (size_t i = 0; i < a->m; i += BATCH) {
            const size_t m = nm_min_size(BATCH, a->m - i);
            const char *x = (const char *)a->xp + i / GROUP * group;
            multiply_mat(planes, a->gate, j, x, m, s, s->gate, NULL);
            multiply_mat(planes, a->up, j, x, m, s, s->up, NULL);
            activate(planes, a, j, n, i, m, s);
        }
    }
}

/* ---- panels --------------------------------------------------------------------------------- */

static uint64_t panels_bytes(uint64_t rows, uint64_t cols)
{
    return (rows + STEP - 1) / STEP * panel_bytes(cols);
}

static void to_panels(const nm_kern *kern, const nm_mat *w, uint64_t j0, uint64_t j1, void *to)
{
    (void)kern;
    for (uint64_t j = j0; j < j1; j += STEP)
        decode_slab(w, j, 0, (size_t)w->cols,
                    (pair *)to + j / STEP * (panel_bytes(w->cols) / sizeof(pair)));
}

/* ---- the products --------------------------------------------------------------------------- */

static bool takes_floats(uint32_t type)
{
    return type == NM_TYPE_BF16 || type == NM_TYPE_F16 || type == NM_TYPE_F32;
}

static bool takes_bf16(uint32_t type)
{
    return type == NM_TYPE_BF16;
}

#define PRODUCT(id, title, planes, types)                                                  \
    static size_t id##_packed_bytes(size_t m, size_t k)                                    \
    {                                                                                      \
        return (m + GROUP - 1) / GROUP * group_bytes(planes, k);                           \
    }                                                                                      \
    static void id##_pack(size_t m, size_t k, const float *const *x, size_t i0, size_t i1, \
                          void *xp)                                                        \
    {                                                                                      \
        (void)m;                                                                           \
        pack_planes(planes, k, x, i0, i1, xp);                                             \
    }                                                                                      \
    static void id##_out(const nm_out_args *a)                                             \
    {                                                                                      \
        out_planes(planes, a);                                                             \
    }                                                                                      \
    static void id##_gated(const nm_gated_args *a)                                         \
    {                                                                                      \
        gated_planes(planes, a);                                                           \
    }                                                                                      \
    const nm_product id = {.name = title,                                                  \
                           .group = GROUP,                                                 \
                           .task = 64,                                                     \
                           .takes = types,                                                 \
                           .packed_bytes = id##_packed_bytes,                              \
                           .pack = id##_pack,                                              \
                           .scratch_bytes = scratch_bytes,                                 \
                           .gated = id##_gated,                                            \
                           .out = id##_out,                                                \
                           .panels_bytes = panels_bytes,                                   \
                           .to_panels = to_panels}

PRODUCT(nm_product_bf16_avx512, "bf16 avx512bf16", 1, takes_floats);
PRODUCT(nm_product_bf16x2_avx512, "bf16x2 avx512bf16", 2, takes_bf16);
