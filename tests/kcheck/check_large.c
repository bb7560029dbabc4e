/* check_large.c: products of more rows than a block has, and of more inputs than a block has.
 *
 * check_products.c tries what is small in every way; here are the sizes at which products cut their
 * work: rounds of rows, groups of columns that are packed together, sums that wait in scratch. Rows
 * alone, in ranges of one task, must have the bits of all rows in one range; and the error, against
 * fp64, must be what the class of the product allows on average. */
#include "products.h"

#include "base/alloc.h"
#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_M = 529, INPUTS = 512, INNER = 288, LONG = 16640, LONG_M = 80, LONG_N = 64 };

/* One matrix or network, its rows, and where results go: of all rows, and of one alone. */
typedef struct large {
    kcheck *c;
    const product_run *run;
    size_t m, k;
    const float *x[MOST_M];
    float *y[MOST_M], *alone;
    char *scratch, *xp, *hp;
    nm_mat gate, up, down; /* `out` alone takes down */
} large;

static void *take(size_t bytes)
{
    void *p = nm_alloc_aligned(nm_allocator_default(), bytes + NM_ALIGN);
    if (!p)
        exit(1);
    memset(p, 0x5a, bytes);
    return p;
}

static void give(void *p)
{
    nm_free_aligned(nm_allocator_default(), p);
}

static nm_mat take_mat(kcheck *c, uint32_t type, size_t rows, size_t cols)
{
    const nm_type_traits *t = nm_type_get(type);
    const size_t row_bytes = cols / t->block_elems * t->block_bytes;
    void *data = take(rows * row_bytes);
    draw_weights(c, type, PLAIN, rows, cols, data);
    return (nm_mat){.type = type, .rows = rows, .cols = cols, .row_bytes = row_bytes, .data = data};
}

static void give_mat(const nm_mat *w)
{
    give((void *)(uintptr_t)w->data);
}

static void call_out(const large *l, const void *xp, size_t m, float *const *y, size_t step)
{
    nm_out_args a = {.kern = &l->run->kern, .w = &l->down, .m = m, .xp = xp, .y = y};
    a.scratch = l->scratch;
    for (; a.j0 < l->down.rows; a.j0 = a.j1) {
        a.j1 = a.j0 + step < l->down.rows ? a.j0 + step : l->down.rows;
        l->run->product->out(&a);
    }
}

static void call_gated(const large *l, size_t m, size_t step)
{
    nm_gated_args a = {.kern = &l->run->kern, .gate = &l->gate, .up = &l->up, .m = m};
    a.xp = l->xp;
    a.hp = l->hp;
    a.scratch = l->scratch;
    for (; a.j0 < l->gate.rows; a.j0 = a.j1) {
        a.j1 = a.j0 + step < l->gate.rows ? a.j0 + step : l->gate.rows;
        l->run->product->gated(&a);
    }
}

/* Rows x[0..m) to y: a network if there is a gate, else one product. */
static void multiply(const large *l, size_t m, const float *const *x, float *const *y, bool pieces)
{
    const nm_product *p = l->run->product;
    const size_t step = pieces ? p->task : 1 << 20;
    p->pack(m, l->k, x, 0, m, l->xp);
    if (l->gate.rows) {
        call_gated(l, m, step);
        call_out(l, l->hp, m, y, step);
    } else {
        call_out(l, l->xp, m, y, step);
    }
}

static void compare_row(const large *l, size_t i)
{
    const size_t n = (size_t)l->down.rows;
    multiply(l, 1, l->x + i, &l->alone, true);
    if (memcmp(l->alone, l->y[i], n * sizeof(float)) != 0)
        fail(l->c, "m %zu, k %zu, %s: row %zu has other bits alone", l->m, l->k,
             nm_type_get(l->gate.rows ? l->gate.type : l->down.type)->name, i);
}

static void compare_rows(const large *l)
{
    const size_t rows[] = {0,   15,  16,  63,  64,  79,  127, 128,
                           240, 254, 255, 256, 257, 272, 528, l->m - 1};
    multiply(l, l->m, l->x, l->y, false);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        if (rows[r] < l->m)
            compare_row(l, rows[r]);
    l->c->cases++;
}

static void make_rows(large *l, size_t n)
{
    const nm_product *p = l->run->product;
    const size_t most = nm_max_size(l->k, INNER);
    float *x = take(l->m * l->k * sizeof *x), *y = take((l->m + 1) * n * sizeof *y);
    draw_many(l->c, PLAIN, x, l->m * l->k);
    for (size_t i = 0; i < l->m; i++) {
        l->x[i] = x + i * l->k;
        l->y[i] = y + (i + 1) * n;
    }
    l->alone = y;
    l->scratch = take(p->scratch_bytes(most));
    l->xp = take(p->packed_bytes(l->m, l->k));
    l->hp = take(p->packed_bytes(l->m, INNER));
}

static void give_rows(const large *l)
{
    give((void *)(uintptr_t)l->x[0]);
    give(l->alone);
    give(l->scratch);
    give(l->xp);
    give(l->hp);
}

/* Root mean square of the error, of that of the results. */
static double relative_error(const large *l)
{
    double off = 0, size = 0;
    float *w = take(l->k * sizeof *w);
    for (size_t j = 0; j < l->down.rows; j++) {
        const char *row = (const char *)l->down.data + j * l->down.row_bytes;
        nm_type_get(l->down.type)->decode(row, w, l->k);
        for (size_t i = 0; i < l->m; i += 7) {
            double sum = 0;
            for (size_t p = 0; p < l->k; p++)
                sum += (double)w[p] * (double)l->x[i][p];
            off += pow(sum - (double)l->y[i][j], 2);
            size += pow(sum, 2);
        }
    }
    give(w);
    return sqrt(off / size);
}

/* What the roundings of a class give on average, for uniform numbers, and half of that again: a bit less gives twice.
 *
 * Integers: x is off by a unit / sqrt(12), a unit is an n-th of the largest number, whose 1 / sqrt(3) x is on average:
 * 1 / 2n. (Where lo of dot_q would be -128, one in 256, it is off by a unit more: 2 % more in all.)
 * bf16: x between 1/2 and 1 is off by 2^-8 / sqrt(12), one octave lower by half of that, ...: 2^-9.4, so are
 * the weights: 2^-8.9. Two planes have 8 bits more, so 2^-17.4 for one side and 2^-16.9 for both, at most: lo has a
 * sign, which is a bit, too.
 * i8x3: what is left out, lo lo, is 2^-14.6 of uniform x and of weights whose scales are uniform below 2; the
 * rounding of both makes that 2^-14 (the head of product_i8_amx.c). */
static double usual_error(nm_product_slot slot)
{
    switch (slot) {
    case NM_PRODUCT_BF16:
        return 1.5 * 0x1p-9;
    case NM_PRODUCT_I8:
        return 1.5 / (2 * 127);
    case NM_PRODUCT_DOT_Q:
    case NM_PRODUCT_I8X2:
        return 1.5 / (2 * 32639);
    case NM_PRODUCT_I16:
        return 1.5 / (2 * 32767);
    case NM_PRODUCT_I8X3:
        return 1.5 * 0x1p-14;
    case NM_PRODUCT_BF16X2:
    case NM_PRODUCT_BF16X3:
        return 1.5 * 0x1p-17;
    case NM_PRODUCT_F32:
    case NM_PRODUCT_DOT_F:
    case NM_PRODUCT_END:
        break;
    }
    return 0x1p-18;
}

static nm_mat take_panels(const large *l, const nm_mat *w)
{
    const nm_product *p = l->run->product;
    void *to = take((size_t)nm_product_panels_bytes(p, w->rows, w->cols));
    return nm_product_to_panels(p, &l->run->kern, w, to);
}

/* All again, from panels. */
static void compare_panels(const large *l)
{
    if (l->run->product->to_panels == NULL)
        return;
    const size_t n = (size_t)l->down.rows, bytes = l->m * n * sizeof(float);
    large p = *l;
    float *before = take(bytes);
    memcpy(before, l->y[0], bytes);
    memset(l->y[0], 0xff, bytes);
    p.gate = take_panels(l, &l->gate);
    p.up = take_panels(l, &l->up);
    p.down = take_panels(l, &l->down);
    multiply(&p, l->m, l->x, l->y, true);
    if (memcmp(before, l->y[0], bytes) != 0)
        fail(l->c, "m %zu, %s: other bits from panels", l->m, nm_type_get(l->gate.type)->name);
    give_mat(&p.gate);
    give_mat(&p.up);
    give_mat(&p.down);
    give(before);
}

static void check_rows_of(kcheck *c, const product_run *run, uint32_t type, size_t m)
{
    const uint32_t inner = run->product->takes(NM_TYPE_Q8_0) ? NM_TYPE_Q8_0 : type;
    large l = {.c = c, .run = run, .m = m, .k = INPUTS};
    l.gate = take_mat(c, type, INNER, INPUTS);
    l.up = take_mat(c, type, INNER, INPUTS);
    l.down = take_mat(c, inner, 96, INNER);
    make_rows(&l, 96);
    compare_rows(&l);
    compare_panels(&l);
    give_rows(&l);
    give_mat(&l.gate);
    give_mat(&l.up);
    give_mat(&l.down);
}

static void check_long(kcheck *c, const product_run *run, uint32_t type)
{
    large l = {.c = c, .run = run, .m = LONG_M, .k = LONG};
    l.down = take_mat(c, type, LONG_N, LONG);
    make_rows(&l, LONG_N);
    compare_rows(&l);
    const double error = relative_error(&l);
    if (!(error <= usual_error(run->slot)))
        fail(c, "k %d, %s: error is 2^%.1f on average", LONG, nm_type_get(type)->name, log2(error));
    give_rows(&l);
    give_mat(&l.down);
}

void check_large(kcheck *c, void *of_run)
{
    static const size_t ms[] = {257, 273, 529};
    static const uint32_t types[] = {NM_TYPE_Q8_0, NM_TYPE_Q4_K, NM_TYPE_BF16, NM_TYPE_F32};
    const product_run *run = of_run;
    size_t n = 0;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        if (!run->product->takes(types[t]) || (run->slot == NM_PRODUCT_F32 && n > 0))
            continue;
        check_rows_of(c, run, types[t], ms[n % (sizeof ms / sizeof ms[0])]);
        check_long(c, run, types[t]);
        n++;
    }
    const uint32_t type = run->product->takes(NM_TYPE_BF16) ? NM_TYPE_BF16 : NM_TYPE_Q8_0;
    check_rows_of(c, run, type, 255);
    check_rows_of(c, run, type, 256);
    if (n == 1) { /* one type, all sizes */
        check_rows_of(c, run, type, ms[1]);
        check_rows_of(c, run, type, ms[2]);
    }
}
