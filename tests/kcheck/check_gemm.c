/* check_gemm.c: the products: against ref by the bound of class DOT, and against themselves with one
 * row and one column at a time, bit for bit (batch invariance). */
#include "kcheck.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 16 };

static const size_t ms[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13};
static const size_t ns[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 13};
static const size_t ks[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 61, 64, 127, 257};
static const size_t widths[] = {0, 1, 3, 4, 5, 8, 15, 16, 17, 31, 33, 61, 64, 65, 127};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* 2 k eps sum |x w| + what gradual underflow may lose. */
static double dot_bound(size_t k, double size)
{
    return 2 * (double)(k + 1) * 0x1p-24 * size + (double)k * 0x1p-149;
}

/* With finite inputs of any size, sums beyond fp32 may overflow in one order and not in another. */
static bool may_overflow(double size)
{
    return isfinite(size) && size > (double)FLT_MAX / 4;
}

/* ---- gemm_nt ------------------------------------------------------------------------------- */

typedef struct nt_case {
    size_t m, n, k, ldw;
    float *w;
    const float *x[MOST];
    float *want[MOST], *got[MOST];
    char name[128];
} nt_case;

static void nt_make(kcheck *c, nt_case *t, flavour f, placement where)
{
    float *x = slot_take(0, where, t->m * t->k, sizeof *x);
    t->w = slot_take(1, where, t->n ? (t->n - 1) * t->ldw + t->k : 0, sizeof *t->w);
    float *want = slot_take(2, where, t->m * t->n, sizeof *want);
    float *got = slot_take(3, where, t->m * t->n, sizeof *got);
    draw_many(c, f, x, t->m * t->k);
    draw_many(c, f, t->w, t->n ? (t->n - 1) * t->ldw + t->k : 0);
    for (size_t i = 0; i < t->m; i++) {
        t->x[i] = x + i * t->k;
        t->want[i] = want + i * t->n;
        t->got[i] = got + (t->m - 1 - i) * t->n; /* rows in any order */
    }
    snprintf(t->name, sizeof t->name, "m %zu n %zu k %zu ldw %zu, numbers %d, placement %d", t->m,
             t->n, t->k, t->ldw, (int)f, (int)where);
}

static void nt_compare(kcheck *c, const nt_case *t)
{
    for (size_t i = 0; i < t->m; i++)
        for (size_t j = 0; j < t->n; j++) {
            double size = 0;
            for (size_t p = 0; p < t->k; p++)
                size += fabs((double)t->x[i][p] * (double)t->w[j * t->ldw + p]);
            if (!may_overflow(size))
                near_enough(c, t->got[i][j], t->want[i][j], dot_bound(t->k, size), t->name);
            float alone, *to = &alone;
            c->tier.gemm_nt(1, 1, t->k, &t->x[i], t->w + j * t->ldw, t->ldw, &to);
            if (memcmp(&alone, &t->got[i][j], sizeof alone) != 0 && !isnan(alone))
                fail(c, "%s: element %zu,%zu is %a in the block, %a alone", t->name, i, j,
                     (double)t->got[i][j], (double)alone);
        }
}

static void nt_run(kcheck *c, size_t m, size_t n, size_t k, size_t gap, flavour f, placement where)
{
    nt_case t = {.m = m, .n = n, .k = k, .ldw = k + gap};
    nt_make(c, &t, f, where);
    c->ref.gemm_nt(m, n, k, t.x, t.w, t.ldw, t.want);
    c->tier.gemm_nt(m, n, k, t.x, t.w, t.ldw, t.got);
    nt_compare(c, &t);
    if (!slot_guards_intact(3))
        fail(c, "%s: wrote outside y", t.name);
    c->cases++;
}

void check_gemm_nt(kcheck *c)
{
    for (size_t a = 0; a < COUNT(ms); a++)
        for (size_t b = 0; b < COUNT(ns); b++)
            for (size_t d = 0; d < COUNT(ks); d++) {
                if (!chosen(c))
                    continue;
                placement where = (placement)(draw_bits(c) % N_PLACEMENTS);
                flavour f = (flavour)(draw_bits(c) % N_FLAVOURS);
                nt_run(c, ms[a], ns[b], ks[d], draw_bits(c) % 4, PLAIN, where);
                nt_run(c, ms[a], ns[b], ks[d], draw_bits(c) % 4, f, AT_PAGE_END);
            }
}

/* ---- gemm_nn ------------------------------------------------------------------------------- */

typedef struct nn_case {
    size_t m, n, k, ldx, ldw, ldy;
    bool beta_one;
    float *x, *w, *want, *got, *before;
    char name[160];
} nn_case;

static size_t span_of(size_t rows, size_t stride, size_t cols)
{
    return rows ? (rows - 1) * stride + cols : 0;
}

static void nn_make(kcheck *c, nn_case *t, flavour f, placement where)
{
    size_t y_floats = span_of(t->m, t->ldy, t->n);
    t->x = slot_take(0, where, span_of(t->m, t->ldx, t->k), sizeof(float));
    t->w = slot_take(1, where, span_of(t->k, t->ldw, t->n), sizeof(float));
    t->want = slot_take(2, where, y_floats, sizeof(float));
    t->got = slot_take(3, where, y_floats, sizeof(float));
    t->before = slot_take(4, where, y_floats, sizeof(float));
    draw_many(c, f, t->x, span_of(t->m, t->ldx, t->k));
    draw_many(c, f, t->w, span_of(t->k, t->ldw, t->n));
    draw_many(c, t->beta_one ? f : SPECIAL, t->before, y_floats); /* NaN that must not be read */
    if (y_floats) {
        memcpy(t->want, t->before, y_floats * sizeof(float));
        memcpy(t->got, t->before, y_floats * sizeof(float));
    }
    snprintf(t->name, sizeof t->name,
             "m %zu n %zu k %zu ldx %zu ldw %zu ldy %zu beta %d, numbers %d, placement %d", t->m,
             t->n, t->k, t->ldx, t->ldw, t->ldy, t->beta_one, (int)f, (int)where);
}

static void nn_compare(kcheck *c, const nn_case *t)
{
    for (size_t i = 0; i < t->m; i++)
        for (size_t j = 0; j < t->n; j++) {
            size_t at = i * t->ldy + j;
            double size = t->beta_one ? fabs((double)t->before[at]) : 0;
            for (size_t p = 0; p < t->k; p++)
                size += fabs((double)t->x[i * t->ldx + p] * (double)t->w[p * t->ldw + j]);
            if (!may_overflow(size))
                near_enough(c, t->got[at], t->want[at], dot_bound(t->k + 1, size), t->name);
            float alone = t->before[at];
            c->tier.gemm_nn(1, 1, t->k, t->x + i * t->ldx, t->ldx, t->w + j, t->ldw, &alone, t->ldy,
                            t->beta_one);
            if (memcmp(&alone, &t->got[at], sizeof alone) != 0 && !isnan(alone))
                fail(c, "%s: element %zu,%zu is %a in the block, %a alone", t->name, i, j,
                     (double)t->got[at], (double)alone);
        }
    for (size_t i = 0; i + 1 < t->m; i++) /* what lies between rows is not ours */
        if (t->ldy > t->n && memcmp(t->got + i * t->ldy + t->n, t->before + i * t->ldy + t->n,
                                    (t->ldy - t->n) * sizeof(float)) != 0)
            fail(c, "%s: wrote between rows of y", t->name);
}

static void nn_run(kcheck *c, size_t m, size_t n, size_t k, flavour f, placement where)
{
    nn_case t = {.m = m, .n = n, .k = k};
    t.ldx = k + draw_bits(c) % 3;
    t.ldw = n + draw_bits(c) % 3;
    t.ldy = n + draw_bits(c) % 3;
    t.beta_one = draw_bits(c) % 2 != 0;
    nn_make(c, &t, f, where);
    c->ref.gemm_nn(m, n, k, t.x, t.ldx, t.w, t.ldw, t.want, t.ldy, t.beta_one);
    c->tier.gemm_nn(m, n, k, t.x, t.ldx, t.w, t.ldw, t.got, t.ldy, t.beta_one);
    nn_compare(c, &t);
    if (!slot_guards_intact(3))
        fail(c, "%s: wrote outside y", t.name);
    c->cases++;
}

void check_gemm_nn(kcheck *c)
{
    static const size_t depths[] = {0, 1, 2, 7, 64};
    for (size_t a = 0; a < COUNT(ms); a++)
        for (size_t b = 0; b < COUNT(widths); b++)
            for (size_t d = 0; d < COUNT(depths); d++)
                for (int where = 0; where < N_PLACEMENTS; where++)
                    if (chosen(c))
                        nn_run(c, ms[a], widths[b], depths[d], (flavour)(draw_bits(c) % N_FLAVOURS),
                               (placement)where);
}
