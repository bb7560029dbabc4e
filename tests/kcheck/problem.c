/* problem.c: weights for the products, exact results, and how far a product may be from them.
 *
 * The bounds, with eps = 2^-24 and k inputs. All have 2 (k + 1) eps times the sum of the terms'
 * magnitudes for the order of fp32 sums (class DOT of kern.def).
 *
 *   F32, DOT_F       nothing else
 *   I16, I8X2, I8,   x becomes whole numbers of at most n (32767; 32639 where there are two planes of bytes; 127),
 *   DOT_Q            in units of an n-th of its block's maximum (a block is 32 inputs): off by half of one,
 *                    of DOT_Q by one and a half, where lo would be -128. The unit, its inverse and the number times
 *                    that are rounded to fp32, with four roundings at most: 4 eps n units. Weights
 *                    are exact, but their minimums are summed apart, so the terms are |x| (|w| + 2 |min|), and
 *                    so are offsets of codes, at most the largest weight that a block's scale
 *                    allows: eps of that times |x| for each block
 *   I8X3             x is rounded by 2^-16, weights by 2^-15 of the largest that their scales allow in
 *                    256 inputs, and the product of what is below
 *                    2^-8 of either is left out
 *   BF16             x and w each by 2^-8 of itself (8 significant bits)
 *   BF16X2           x = hi + lo by 2^-16 (lo is below 2^-8 of x and rounded likewise); w by 2^-8,
 *                    but BF16 weights not at all
 *   BF16X3           x and w by 2^-16 each, and the product of both lo parts, 2^-16, is left out
 *
 * Gradual underflow is nobody's promise: matrix units take denormals for zeros, and products of two
 * scales may be smaller than any fp32. So numbers below 2^-100 (sums, integers) or 2^-126 (planes)
 * may vanish; then the error is what they were worth, and not more. */
#include "products.h"

#include "quant/blocks.h"

#include <float.h>
#include <math.h>
#include <stddef.h>

/* ---- weights -------------------------------------------------------------------------------- */

/* Where a block has its scales (halves) and its codes; -1 = none. */
typedef struct block_map {
    uint32_t type;
    bool has_min;
    int scale[2];
    struct {
        size_t at, bytes;
    } codes[3];
} block_map;

#define CODES(t, f)                                             \
    {                                                           \
        offsetof(nm_block_##t, f), sizeof((nm_block_##t *)0)->f \
    }
#define AT(t, f) (int)offsetof(nm_block_##t, f)

static const block_map maps[] = {
    {NM_TYPE_Q4_0, false, {AT(q4_0, d), -1}, {CODES(q4_0, qs)}},
    {NM_TYPE_Q4_1, true, {AT(q4_1, d), AT(q4_1, m)}, {CODES(q4_1, qs)}},
    {NM_TYPE_Q5_0, false, {AT(q5_0, d), -1}, {CODES(q5_0, qs), CODES(q5_0, qh)}},
    {NM_TYPE_Q5_1, true, {AT(q5_1, d), AT(q5_1, m)}, {CODES(q5_1, qs), CODES(q5_1, qh)}},
    {NM_TYPE_Q8_0, false, {AT(q8_0, d), -1}, {CODES(q8_0, qs)}},
    {NM_TYPE_Q2_K, true, {AT(q2_k, d), AT(q2_k, dmin)}, {CODES(q2_k, qs)}},
    {NM_TYPE_Q3_K, false, {AT(q3_k, d), -1}, {CODES(q3_k, qs), CODES(q3_k, hmask)}},
    {NM_TYPE_Q4_K, true, {AT(q4_k, d), AT(q4_k, dmin)}, {CODES(q4_k, qs)}},
    {NM_TYPE_Q5_K, true, {AT(q5_k, d), AT(q5_k, dmin)}, {CODES(q5_k, qs), CODES(q5_k, qh)}},
    {NM_TYPE_Q6_K, false, {AT(q6_k, d), -1}, {CODES(q6_k, ql), CODES(q6_k, qh)}},
    {NM_TYPE_IQ4_NL, false, {AT(iq4_nl, d), -1}, {CODES(iq4_nl, qs)}},
    {NM_TYPE_IQ4_XS, false, {AT(iq4_xs, d), -1}, {CODES(iq4_xs, qs)}},
    {NM_TYPE_MXFP4, false, {-1, -1}, {CODES(mxfp4, qs)}},
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
    if (f == LARGE) /* +-2^-24, so that sums of 256 of the largest numbers are within fp32 */
        return (uint16_t)((bits & 0x8000) | 1);
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
    static const float huge[] = {FLT_MAX, -0x1.ffp127f}; /* infinite if they were rounded to bf16 */
    float v = special ? values[draw_bits(c) % (sizeof values / sizeof values[0])] : draw(c, f);
    if (f == LARGE)
        v = special ? huge[draw_bits(c) % 2] : v * 0x1p-12f;
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
        bool poison =
            (f == SPECIAL || (f == LARGE && type == NM_TYPE_F32)) && draw_bits(c) % 4 == 0;
        size_t where = draw_bits(c) % blocks;
        flavour usual = f == SPECIAL ? PLAIN : f;
        for (size_t b = 0; b < blocks; b++, at += t->block_bytes) {
            bool special = poison && b == where;
            if (type == NM_TYPE_MXFP4)
                *at = (char)(special || f == WIDE
                                 ? (draw_bits(c) >> 8) % 250 /* above, decoded weights overflow */
                             : f == LARGE ? 100
                                          : 120 + (draw_bits(c) >> 8) % 6);
            else if (map)
                draw_scales(c, map, usual, special, at);
            else
                draw_number(c, type, usual, special, at);
        }
    }
}

/* ---- extreme blocks -------------------------------------------------------------------------- */

enum { MINUS_ONE = 0xbc00, LARGEST = 0x7bff, LEAST_NORMAL = 0x0400, MOST_DENORMAL = 0x03ff };
enum { HALF_INF = 0x7c00, HALF_NAN = 0x7e00, LOUD_NAN = 0x7c01, HALF_ONE = 0x3c00, MINUS = 0x8000 };

/* d and dmin; where there is one scale, d. */
static const uint16_t extreme_scales[][2] = {
    {MINUS_ONE, MINUS_ONE},
    {LARGEST, LARGEST},
    {MINUS | LARGEST, LARGEST},
    {LEAST_NORMAL, MINUS | LEAST_NORMAL},
    {MOST_DENORMAL, MOST_DENORMAL},
    {MINUS | 1, 1},
    {LARGEST, 1},
    {1, LARGEST},
    {0, 0},
    {MINUS, HALF_ONE},
    {HALF_ONE, 0},
    /* w = m - 8 d and m - 16 d in the middle of codes: that and 8 d (16 d) are both rounded up from a half by i8x3,
     * so that the sum of the two, the weight of code 0, is one more than 16 bits hold. */
    {0xabff, HALF_ONE},
    {0xa801, 0x3c01},
    /* From here on not finite. */
    {HALF_INF, HALF_ONE},
    {MINUS | HALF_INF, HALF_INF},
    {HALF_ONE, HALF_INF},
    {HALF_NAN, HALF_NAN},
    {LOUD_NAN, HALF_ONE},
    {HALF_ONE, MINUS | LOUD_NAN},
};

/* Of MXFP4. 12 times 2^(e - 128) is the largest weight: from 253 on it exceeds fp32. */
static const uint8_t extreme_exponents[] = {0,   1,   2,   64,  100, 127, 128, 160,
                                            200, 249, 250, 251, 252, 253, 254, 255};

/* Every byte of codes: unsigned codes and those of 2 to 6 bits at min and max, then signed bytes. */
static const int extreme_fills[] = {0x00, 0xff, 0x80, 0x7f, -1 /* noise */};

/* The first of scales and of exponents, both alike. */
enum { N_FINITE = 13, N_FILLS = sizeof extreme_fills / sizeof extreme_fills[0] };
_Static_assert(sizeof extreme_scales / sizeof extreme_scales[0] * N_FILLS <= EXTREME_ROWS,
               "a row for each pair and fill");

void draw_extreme_weights(kcheck *c, uint32_t type, extremes kind, size_t rows, size_t k, void *to)
{
    const nm_type_traits *t = nm_type_get(type);
    const block_map *map = map_of(type);
    const size_t blocks = k / t->block_elems, size = t->block_bytes;
    const size_t n = kind.finite             ? N_FINITE
                     : type == NM_TYPE_MXFP4 ? sizeof extreme_exponents
                                             : sizeof extreme_scales / sizeof extreme_scales[0];
    draw_weights(c, type, PLAIN, rows, k, to);
    for (size_t r = 0; r < rows; r++) {
        const uint16_t *scales = extreme_scales[r % n];
        const int fill = extreme_fills[r / n % N_FILLS];
        const size_t where = draw_bits(c) % blocks;
        for (size_t b = 0; b < blocks; b++) {
            char *block = (char *)to + (r * blocks + b) * size;
            if (kind.one_block && b != where)
                continue;
            if (fill >= 0)
                memset(block, fill, size);
            if (type == NM_TYPE_MXFP4)
                *block = (char)extreme_exponents[r % n];
            for (int i = 0; i < 2 && map->scale[i] >= 0; i++)
                memcpy(block + map->scale[i], &scales[i], sizeof scales[i]);
        }
    }
}

/* Row j of w as if every byte of codes were `fill`. */
static void decode_filled(const nm_mat *w, const block_map *map, size_t j, int fill, float *to)
{
    const nm_type_traits *t = nm_type_get(w->type);
    const char *from = (const char *)w->data + j * w->row_bytes;
    for (uint64_t p = 0; p < w->cols; p += t->block_elems, from += t->block_bytes) {
        char block[sizeof(nm_block_q6_k)];
        memcpy(block, from, t->block_bytes);
        for (int i = 0; i < 3; i++)
            memset(block + map->codes[i].at, fill, map->codes[i].bytes);
        t->decode(block, to + p, t->block_elems);
    }
}

/* What the scales of row j allow for: at least each weight's own size. */
static void find_most(const nm_mat *w, const block_map *map, size_t j, const float *row,
                      float *most)
{
    /* Least and largest code of unsigned ones, of signed bytes; of MXFP4 0x77 is the largest. */
    static const int fills[] = {0x00, 0xff, 0x80, 0x7f, 0x77};
    float other[PROBLEM_K];
    for (size_t p = 0; p < w->cols; p++)
        most[p] = fabsf(row[p]);
    for (size_t f = 0; map && f < sizeof fills / sizeof fills[0]; f++) {
        decode_filled(w, map, j, fills[f], other);
        for (size_t p = 0; p < w->cols; p++)
            most[p] = fmaxf(most[p], fabsf(other[p]));
    }
}

void exact_weights(drawn_mat *w)
{
    const nm_mat *mat = &w->mat;
    const size_t k = (size_t)mat->cols;
    const block_map *map = map_of(mat->type);
    memset(w->min, 0, mat->rows * k * sizeof *w->min);
    for (size_t j = 0; j < mat->rows; j++) {
        nm_type_get(mat->type)->decode((const char *)mat->data + j * mat->row_bytes, w->w + j * k,
                                       k);
        if (map && map->has_min)
            decode_filled(mat, map, j, 0, w->min + j * k);
        find_most(mat, map, j, w->w + j * k, w->most + j * k);
    }
}

/* ---- results -------------------------------------------------------------------------------- */

enum { MOST_BLOCKS = (PROBLEM_K + NM_QK - 1) / NM_QK, MOST_GROUPS = PROBLEM_K / NM_QK_K };

/* Largest magnitude of n numbers; NaN counts for nothing. */
static double largest(const float *x, size_t n)
{
    float max = 0;
    for (size_t p = 0; p < n; p++)
        max = fabsf(x[p]) > max ? fabsf(x[p]) : max;
    return (double)max;
}

static double sum_abs(const float *w, size_t n)
{
    double sum = 0;
    for (size_t p = 0; p < n; p++)
        sum += fabs((double)w[p]);
    return sum;
}

static size_t part(size_t k, size_t p, size_t most)
{
    return k - p < most ? k - p : most;
}

/* What a row of x contributes to every element, and a row of W: computed once. */
typedef struct x_facts {
    double block[MOST_BLOCKS], group[MOST_GROUPS], sum; /* largest, largest, of magnitudes */
} x_facts;

typedef struct w_facts {
    double block[MOST_BLOCKS], group[MOST_GROUPS], sum; /* sum, largest that may be, sum */
    bool beyond;
} w_facts;

static void know_x(const float *x, size_t k, x_facts *to)
{
    for (size_t p = 0; p < k; p += NM_QK)
        to->block[p / NM_QK] = largest(x + p, part(k, p, NM_QK));
    for (size_t p = 0; p < k; p += NM_QK_K)
        to->group[p / NM_QK_K] = largest(x + p, part(k, p, NM_QK_K));
    to->sum = sum_abs(x, k);
}

static void know_w(const drawn_mat *w, size_t j, w_facts *to)
{
    const size_t k = (size_t)w->mat.cols;
    const float *row = w->w + j * k, *min = w->min + j * k, *most = w->most + j * k;
    *to = (w_facts){0};
    for (size_t p = 0; p < k; p += NM_QK)
        to->sum += to->block[p / NM_QK] = sum_abs(row + p, part(k, p, NM_QK));
    for (size_t p = 0; p < k; p += NM_QK_K) {
        const size_t n = part(k, p, NM_QK_K);
        to->group[p / NM_QK_K] = largest(most + p, n) + 2 * largest(min + p, n);
    }
    to->beyond = w->mat.type == NM_TYPE_MXFP4 && largest(most, k) > (double)FLT_MAX / 4;
}

static void exact_row(const drawn_mat *w, size_t j, const w_facts *of_w, const float *x,
                      const x_facts *of_x, exact *e)
{
    const size_t k = (size_t)w->mat.cols;
    const float *row = w->w + j * k, *min = w->min + j * k, *most = w->most + j * k;
    double sum = 0, size = 0, mins = 0, apart = 0;
    for (size_t p = 0; p < k; p++) {
        const double v = (double)x[p], term = v * (double)row[p];
        sum += term;
        size += fabs(term);
        mins += fabs(v * (double)min[p]);
        apart += fabs(v * (double)most[p]);
    }
    *e = (exact){.sum = sum,
                 .size = size,
                 .terms = size + 2 * mins,
                 .apart = apart,
                 .x = of_x->sum,
                 .w = of_w->sum,
                 .beyond = of_w->beyond};
    for (size_t p = 0; p < k; p += NM_QK_K)
        e->groups +=
            (double)part(k, p, NM_QK_K) * of_x->group[p / NM_QK_K] * of_w->group[p / NM_QK_K];
    for (size_t b = 0; b * NM_QK < k; b++)
        e->blocks += of_x->block[b] * of_w->block[b];
}

void exact_products(const drawn_mat *w, size_t m, const float *const *x, exact *to)
{
    static x_facts of_x[PROBLEM_M];
    w_facts of_w;
    for (size_t i = 0; i < m; i++)
        know_x(x[i], (size_t)w->mat.cols, &of_x[i]);
    for (size_t j = 0; j < w->mat.rows; j++) {
        know_w(w, j, &of_w);
        for (size_t i = 0; i < m; i++)
            exact_row(w, j, &of_w, x[i], &of_x[i], &to[i * PROBLEM_N + j]);
    }
}

/* x as whole numbers of at most n, off by this part of one. */
static double integers_bound(double off, double n, size_t k, const exact *e)
{
    const double order = 2 * (double)(k + 1) * 0x1p-24;
    const double vanish = fmin(0x1p-100 * (e->w + (double)k), e->terms + e->apart);
    return (off + 4 * 0x1p-24 * n) / n * e->blocks + order * e->terms +
           ((double)k / NM_QK + 8) * 0x1p-24 * e->apart + vanish + 0x1p-100 * e->x +
           0x1p-126 * (double)k;
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
        return integers_bound(1.5, 32639, k, e);
    case NM_PRODUCT_I16:
        return integers_bound(0.5, 32767, k, e);
    case NM_PRODUCT_I8X2:
        return integers_bound(0.5, 32639, k, e);
    case NM_PRODUCT_I8:
        return integers_bound(0.5, 127, k, e);
    case NM_PRODUCT_I8X3:
        return 0x1p-13 * e->groups + order * e->size + fmin(0x1p-100 * e->w, e->size) +
               0x1p-100 * e->x + 0x1p-126 * (double)k;
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
