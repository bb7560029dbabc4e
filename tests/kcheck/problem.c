/* problem.c: weights for the products, exact results, and how far a product may be from them.
 *
 * The bounds, with eps = 2^-24 and k inputs. All have 2 (k + 1) eps times the sum of the terms'
 * magnitudes for the order of fp32 sums (class DOT of kern.def).
 *
 *   F32, DOT_F       nothing else
 *   DOT_Q, I16,      x is rounded to integers of at least 14 bits with a sign: by at most 2^-14 of
 *   I8X2             its block's maximum (a block is 32 inputs), whatever the weights; they are exact,
 *                    but their minimums are summed apart, so the terms are |x| (|w| + 2 |min|)
 *   I8X3             x is rounded by 2^-16, weights by 2^-15 of the largest that their scales allow in
 *                    256 inputs (drawn codes come near that), and the product of what is below
 *                    2^-8 of either is left out
 *   BF16             x and w each by 2^-8 of itself (8 significant bits)
 *   BF16X2           x = hi + lo by 2^-16 (lo is below 2^-8 of x and rounded likewise); w by 2^-8,
 *                    but BF16 weights not at all
 *   BF16X3           x and w by 2^-16 each, and the product of both lo parts, 2^-16, is left out
 *
 * Gradual underflow is nobody's promise: matrix units take denormals for zeros, and products of two
 * scales may be smaller than any fp32. So numbers below 2^-100 (sums, integers) or 2^-126 (planes)
 * may vanish. */
#include "products.h"

#include "quant/blocks.h"

#include <math.h>
#include <stddef.h>

/* ---- weights -------------------------------------------------------------------------------- */

/* Where a block has its scales (halves) and its codes; -1 = none. */
typedef struct block_map {
    uint32_t type;
    int scale[2];
    struct {
        size_t at, bytes;
    } codes[2];
} block_map;

#define CODES(t, f)                                             \
    {                                                           \
        offsetof(nm_block_##t, f), sizeof((nm_block_##t *)0)->f \
    }
#define AT(t, f) (int)offsetof(nm_block_##t, f)

static const block_map maps[] = {
    {NM_TYPE_Q4_0, {AT(q4_0, d), -1}, {{0, 0}}},
    {NM_TYPE_Q4_1, {AT(q4_1, d), AT(q4_1, m)}, {CODES(q4_1, qs)}},
    {NM_TYPE_Q5_0, {AT(q5_0, d), -1}, {{0, 0}}},
    {NM_TYPE_Q5_1, {AT(q5_1, d), AT(q5_1, m)}, {CODES(q5_1, qs), CODES(q5_1, qh)}},
    {NM_TYPE_Q8_0, {AT(q8_0, d), -1}, {{0, 0}}},
    {NM_TYPE_Q2_K, {AT(q2_k, d), AT(q2_k, dmin)}, {CODES(q2_k, qs)}},
    {NM_TYPE_Q3_K, {AT(q3_k, d), -1}, {{0, 0}}},
    {NM_TYPE_Q4_K, {AT(q4_k, d), AT(q4_k, dmin)}, {CODES(q4_k, qs)}},
    {NM_TYPE_Q5_K, {AT(q5_k, d), AT(q5_k, dmin)}, {CODES(q5_k, qs), CODES(q5_k, qh)}},
    {NM_TYPE_Q6_K, {AT(q6_k, d), -1}, {{0, 0}}},
    {NM_TYPE_IQ4_NL, {AT(iq4_nl, d), -1}, {{0, 0}}},
    {NM_TYPE_IQ4_XS, {AT(iq4_xs, d), -1}, {{0, 0}}},
};

static const block_map *map_of(uint32_t type)
{
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++)
        if (maps[i].type == type)
            return &maps[i];
    return NULL;
}

/* 2^-9 to 2^-6, or any finite number. */
static uint16_t draw_half(kcheck *c, flavour f)
{
    uint16_t bits = (uint16_t)(draw_bits(c) >> 8);
    uint16_t exponent = (uint16_t)(f == WIDE ? (bits >> 3) % 31 : 6 + (bits & 3));
    return (uint16_t)((bits & 0x83ff) | (unsigned)exponent << 10);
}

static uint16_t special_half(kcheck *c)
{
    static const uint16_t values[] = {0x7e00, 0x7c00, 0xfc00, 0x7bff, 0x0001, 0x8000, 0x0000};
    return values[draw_bits(c) % (sizeof values / sizeof values[0])];
}

static void draw_scales(kcheck *c, const block_map *map, flavour f, bool special, char *block)
{
    for (int i = 0; i < 2 && map->scale[i] >= 0; i++) {
        uint16_t h = special ? special_half(c) : draw_half(c, f);
        memcpy(block + map->scale[i], &h, sizeof h);
    }
}

static void draw_number(kcheck *c, uint32_t type, flavour f, bool special, char *to)
{
    static const float values[] = {NAN, INFINITY, -INFINITY, 65504.0f, 0x1p-24f, -0.0f};
    float v = special ? values[draw_bits(c) % (sizeof values / sizeof values[0])] : draw(c, f);
    if (f == WIDE && type == NM_TYPE_F16)
        v = nm_f16_to_f32(draw_half(c, WIDE));
    uint16_t h = type == NM_TYPE_F16 ? nm_f32_to_f16(v) : nm_f32_to_bf16(v);
    if (type == NM_TYPE_F32)
        memcpy(to, &v, sizeof v);
    else
        memcpy(to, &h, sizeof h);
}

void draw_weights(kcheck *c, uint32_t type, flavour f, size_t rows, size_t k, void *to)
{
    const nm_type_traits *t = nm_type_get(type);
    const block_map *map = map_of(type);
    size_t blocks = k / t->block_elems;
    char *at = to;
    draw_bytes(c, to, rows * blocks * t->block_bytes);
    for (size_t r = 0; r < rows; r++) {
        bool poison = f == SPECIAL && draw_bits(c) % 4 == 0;
        size_t where = draw_bits(c) % blocks;
        flavour usual = f == SPECIAL ? PLAIN : f;
        for (size_t b = 0; b < blocks; b++, at += t->block_bytes) {
            bool special = poison && b == where;
            if (map)
                draw_scales(c, map, usual, special, at);
            else if (type == NM_TYPE_MXFP4)
                *at = (char)(special || f == WIDE
                                 ? (draw_bits(c) >> 8) % 250 /* above, decoded weights overflow */
                                 : 120 + (draw_bits(c) >> 8) % 6);
            else
                draw_number(c, type, usual, special, at);
        }
    }
}

static void decode_min(const drawn_mat *w, size_t j, float *to)
{
    const nm_type_traits *t = nm_type_get(w->mat.type);
    const block_map *map = map_of(w->mat.type);
    const char *from = (const char *)w->mat.data + j * w->mat.row_bytes;
    for (uint64_t p = 0; p < w->mat.cols; p += t->block_elems, from += t->block_bytes) {
        char block[sizeof(nm_block_q6_k)];
        memcpy(block, from, t->block_bytes);
        for (int i = 0; i < 2; i++)
            memset(block + map->codes[i].at, 0, map->codes[i].bytes);
        t->decode(block, to + p, t->block_elems);
    }
}

void exact_weights(drawn_mat *w)
{
    const nm_mat *mat = &w->mat;
    const size_t k = (size_t)mat->cols;
    const block_map *map = map_of(mat->type);
    const bool has_min = map && map->codes[0].bytes > 0;
    memset(w->min, 0, mat->rows * k * sizeof *w->min);
    for (size_t j = 0; j < mat->rows; j++) {
        nm_type_get(mat->type)->decode((const char *)mat->data + j * mat->row_bytes, w->w + j * k,
                                       k);
        if (has_min)
            decode_min(w, j, w->min + j * k);
    }
}

/* ---- results -------------------------------------------------------------------------------- */

/* Largest magnitude of x or sum of magnitudes of w in each block of 32. */
static double block_max(const float *x, size_t n)
{
    double max = 0;
    for (size_t p = 0; p < n; p++)
        max = fmax(max, fabs((double)x[p]));
    return max;
}

static double sum_abs(const float *w, size_t n)
{
    double sum = 0;
    for (size_t p = 0; p < n; p++)
        sum += fabs((double)w[p]);
    return sum;
}

static void exact_row(const drawn_mat *w, size_t j, const float *x, const double *x_max, exact *e)
{
    const size_t k = (size_t)w->mat.cols;
    const float *row = w->w + j * k, *min = w->min + j * k;
    double sum = 0, size = 0, mins = 0;
    for (size_t p = 0; p < k; p++) {
        double term = (double)x[p] * (double)row[p];
        sum += term;
        size += fabs(term);
        mins += fabs((double)x[p] * (double)min[p]);
    }
    *e = (exact){.sum = sum, .size = size, .terms = size + 2 * mins};
    for (size_t p = 0; p < k; p += NM_QK_K) {
        size_t n = k - p < NM_QK_K ? k - p : NM_QK_K;
        e->groups +=
            (double)n * block_max(x + p, n) * (block_max(row + p, n) + 2 * block_max(min + p, n));
    }
    for (size_t b = 0; b * NM_QK < k; b++) {
        size_t n = k - b * NM_QK < NM_QK ? k - b * NM_QK : NM_QK;
        double in_block = sum_abs(row + b * NM_QK, n);
        e->blocks += x_max[b] * in_block;
        e->w += in_block;
    }
    e->x = sum_abs(x, k);
}

void exact_products(const drawn_mat *w, size_t m, const float *const *x, exact *to)
{
    const size_t k = (size_t)w->mat.cols;
    double x_max[(PROBLEM_K + NM_QK - 1) / NM_QK];
    for (size_t i = 0; i < m; i++) {
        for (size_t p = 0; p < k; p += NM_QK)
            x_max[p / NM_QK] = block_max(x[i] + p, k - p < NM_QK ? k - p : NM_QK);
        for (size_t j = 0; j < w->mat.rows; j++)
            exact_row(w, j, x[i], x_max, &to[i * PROBLEM_N + j]);
    }
}

double product_bound(nm_product_slot slot, uint32_t type, size_t k, const exact *e)
{
    const double order = 2 * (double)(k + 1) * 0x1p-24;
    const double planes = order * e->size + 0x1p-126 * (e->x + e->w + (double)k);
    switch (slot) {
    case NM_PRODUCT_F32:
    case NM_PRODUCT_DOT_F:
        return order * e->size + (double)k * 0x1p-149;
    case NM_PRODUCT_DOT_Q:
    case NM_PRODUCT_I16:
    case NM_PRODUCT_I8X2:
        return 0x1p-14 * e->blocks + order * e->terms + 0x1p-100 * (e->x + e->w + (double)k);
    case NM_PRODUCT_I8X3:
        return 0x1p-13 * e->groups + order * e->size + 0x1p-100 * (e->x + e->w + (double)k);
    case NM_PRODUCT_BF16:
        return (0x1p-7 + 0x1p-16) * e->size + planes;
    case NM_PRODUCT_BF16X2:
        return (type == NM_TYPE_BF16 ? 0x1p-16 : 0x1p-8 + 0x1p-15) * e->size + planes;
    case NM_PRODUCT_BF16X3:
        return 0x1.88p-15 * e->size + planes;
    case NM_PRODUCT_END:
        break;
    }
    return 0;
}
