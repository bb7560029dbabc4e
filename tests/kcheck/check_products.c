/* check_products.c: every product of every tier against exact results, and against itself.
 *
 * Against exact results: `out` with bias, weight and sum, and `gated` followed by `out` with the unit
 * matrix, which shows what `gated` has packed. problem.c has the tolerances.
 *
 * Against itself, bit for bit: rows packed in parts, ranges of outputs one by one from the last to
 * the first, groups of rows as packs of their own, a row alone, weights decoded to panels beforehand. That is the promise of product.h that
 * results depend on nothing but their own row of x and of W.
 *
 * Rows that are NaN, infinite or have a block with such a scale must give NaN or an infinity in
 * their own results and leave all others as they are. Weights end at a page without access or stand
 * one byte beside all alignment; packed rows and scratch have exactly the bytes that the product
 * asked for, with guards around them; y has guards between its rows. */
#include "products.h"

#include "base/alloc.h"
#include "base/num.h"
#include "kernels/products.h"
#include "quant/blocks.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

enum { SLOT_W, SLOT_UP, SLOT_UNIT, SLOT_X, SLOT_XP, SLOT_HP, SLOT_Y, SLOT_SCRATCH };
enum { SLOT_PANELS = SLOT_SCRATCH + 1, SLOT_PANELS_UP };
enum { GAP = 3 };

static const size_t ms[] = {0, 1, 2, 3, 4, 15, 16, 17, 31, 33, 61};
static const size_t ns[] = {0, 1, 31, 32, 33, 64, 95};
static const size_t ks_256[] = {256, 768, 1280};
static const size_t ks_32[] = {32, 96, 160, 1056};
static const size_t ks_1[] = {1, 7, 33, 61, 257};
static const float gap_value = 12345.0f;

/* One draw: rows, two matrices, exact results. Everything a product is compared with. */
typedef struct problem {
    uint32_t type, up_type;
    size_t k, m, n;
    flavour flavour;
    drawn_mat gate, up; /* `out` takes gate */
    const float *x[PROBLEM_M];
    float bias[PROBLEM_N], bias_up[PROBLEM_N], weight[PROBLEM_M], before[PROBLEM_M][PROBLEM_N];
    exact e_gate[PROBLEM_M * PROBLEM_N], e_up[PROBLEM_M * PROBLEM_N];
    char name[96];
} problem;

static problem prob;

/* Of x and of W, and most inputs of a usual problem. Emulation is 100 times slower: there less of everything but
 * tails, odd sizes, groups of rows and more than one panel. */
static struct sizes {
    bool emulated;
    size_t m, n, k;
} sizes;
static float gate_w[PROBLEM_N * PROBLEM_K], gate_min[PROBLEM_N * PROBLEM_K],
    gate_most[PROBLEM_N * PROBLEM_K];
static float up_w[PROBLEM_N * PROBLEM_K], up_min[PROBLEM_N * PROBLEM_K],
    up_most[PROBLEM_N * PROBLEM_K];

/* ---- problems ------------------------------------------------------------------------------- */

static nm_mat make_mat(uint32_t type, size_t rows, size_t cols, const void *data)
{
    const nm_type_traits *t = nm_type_get(type);
    return (nm_mat){.type = type,
                    .rows = rows,
                    .cols = cols,
                    .row_bytes = cols / t->block_elems * t->block_bytes,
                    .data = data};
}

static void draw_mat(kcheck *c, const problem *p, uint32_t type, flavour f, int slot, drawn_mat *to)
{
    const nm_type_traits *t = nm_type_get(type);
    const size_t bytes = p->n * (p->k / t->block_elems) * t->block_bytes;
    const size_t align = t->block_elems == 1 ? t->block_bytes : 1;
    placement where = draw_bits(c) % 2 ? AT_PAGE_END : ONE_OFF;
    void *data = slot_take(slot, where, bytes / align, align);
    draw_weights(c, type, f, p->n, p->k, data);
    to->mat = make_mat(type, p->n, p->k, data);
    exact_weights(to);
}

/* One or two numbers next to fp32's limit, or a block of x below it whose sum exceeds it (2^5 numbers
 * of 2^121 to 2^125), all of one sign. All others are small. */
static void make_large(kcheck *c, float *row, size_t k, size_t i)
{
    static const float odd[] = {FLT_MAX, -FLT_MAX, 0x1.ffp127f, -0x1.ffp127f};
    const size_t at = draw_bits(c) % k / NM_QK * NM_QK, end = nm_min_size(at + NM_QK, k);
    const float most = ldexpf(draw_bits(c) % 2 ? 1.0f : -1.0f, 121 + (int)(draw_bits(c) % 5));
    for (size_t p = 0; p < k; p++)
        row[p] *= 0x1p-12f;
    for (size_t n = 0; i % 3 == 1 && n < 1 + i % 2; n++)
        row[draw_bits(c) % k] = odd[draw_bits(c) % COUNT(odd)];
    for (size_t p = at; i % 3 == 2 && p < end; p++)
        row[p] = most * (0.5f + 0.5f * fabsf(draw(c, PLAIN)));
}

/* Of numbers from 2^-97 down to denormals; of two rows one has a single number that is not 0. */
static void make_tiny(kcheck *c, float *row, size_t k, size_t i)
{
    const float size = ldexpf(1.0f, -97 - (int)(draw_bits(c) % 48));
    const size_t only = draw_bits(c) % k;
    for (size_t p = 0; p < k; p++)
        row[p] *= i % 2 && p != only ? 0.0f : size;
}

/* Of SPECIAL rows some have one number that is none, or is extreme. */
static void draw_rows(kcheck *c, problem *p)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0x1p+126f, 0x1p-149f, 0x1p-126f};
    float *x = slot_take(SLOT_X, draw_bits(c) % 2 ? AT_PAGE_END : ONE_OFF, p->m * p->k, sizeof *x);
    draw_many(c, p->flavour == SPECIAL ? PLAIN : p->flavour, x, p->m * p->k);
    for (size_t i = 0; i < p->m; i++) {
        float *row = x + i * p->k;
        p->x[i] = row;
        if (p->flavour == SPECIAL && draw_bits(c) % 3 == 0)
            row[draw_bits(c) % p->k] = odd[draw_bits(c) % COUNT(odd)];
        if (p->flavour == LARGE)
            make_large(c, row, p->k, i);
        if (p->flavour == TINY)
            make_tiny(c, row, p->k, i);
        if (i % 7 == 5) /* a whole row, hence whole blocks, of zeros */
            memset(row, 0, p->k * sizeof *row);
    }
}

static problem *new_problem(kcheck *c, uint32_t type, size_t k, flavour f)
{
    problem *p = &prob;
    *p = (problem){.type = type, .k = k, .m = sizes.m, .n = sizes.n, .flavour = f};
    p->up_type = draw_bits(c) % 2 ? type : k % 32 == 0 ? NM_TYPE_Q8_0 : NM_TYPE_F32;
    p->gate.w = gate_w;
    p->gate.min = gate_min;
    p->gate.most = gate_most;
    p->up.w = up_w;
    p->up.min = up_min;
    p->up.most = up_most;
    return p;
}

/* Once matrices are drawn. */
static void finish_problem(kcheck *c, problem *p)
{
    draw_rows(c, p);
    exact_products(&p->gate, p->m, p->x, p->e_gate);
    exact_products(&p->up, p->m, p->x, p->e_up);
    draw_many(c, PLAIN, p->bias, p->n);
    draw_many(c, PLAIN, p->bias_up, p->n);
    draw_many(c, PLAIN, p->weight, p->m);
    for (size_t i = 0; i < p->m; i++)
        draw_many(c, PLAIN, p->before[i], p->n);
}

static void make_problem(kcheck *c, uint32_t type, size_t k, flavour f)
{
    problem *p = new_problem(c, type, k, f);
    if (k > 800 || f >= N_FLAVOURS) {
        p->m = 17;
        p->n = 64;
    }
    /* One poisoned row of gate would poison all that comes after `gated`. */
    flavour of_gate = f == SPECIAL && draw_bits(c) % 2 ? PLAIN : f;
    draw_mat(c, p, type, of_gate, SLOT_W, &p->gate);
    draw_mat(c, p, p->up_type, f == SPECIAL ? PLAIN : f, SLOT_UP, &p->up);
    finish_problem(c, p);
    snprintf(p->name, sizeof p->name, "%s k %zu, numbers %d", nm_type_get(type)->name, k, (int)f);
}

/* Extreme blocks of gate (`out` shows them one by one), plain ones of up and of x. */
static void make_extremes(kcheck *c, uint32_t type, size_t k, extremes kind)
{
    problem *p = new_problem(c, type, k, PLAIN);
    const nm_type_traits *t = nm_type_get(type);
    const size_t bytes = EXTREME_ROWS * (k / t->block_elems) * t->block_bytes;
    p->m = sizes.emulated ? 5 : 17;
    p->n = EXTREME_ROWS;
    void *data = slot_take(SLOT_W, kind.finite ? ONE_OFF : AT_PAGE_END, bytes, 1);
    draw_extreme_weights(c, type, kind, p->n, k, data);
    p->gate.mat = make_mat(type, p->n, k, data);
    exact_weights(&p->gate);
    draw_mat(c, p, p->up_type, PLAIN, SLOT_UP, &p->up);
    finish_problem(c, p);
    snprintf(p->name, sizeof p->name, "%s k %zu, extreme%s%s", t->name, k,
             kind.finite ? ", finite" : "", kind.one_block ? ", one block of a row" : "");
}

/* ---- running a product ---------------------------------------------------------------------- */

/* What one case asks for, and the buffers of its answer. */
typedef struct ask {
    const product_run *run;
    const problem *p;
    size_t m, n, k;
    bool bias, weight, add, pieces;
    void *scratch;
    float *y[PROBLEM_M];
    char name[200];
} ask;

/* Rows of NaN, or of p->before for a sum, gaps with a known value. */
static void take_y(ask *a)
{
    const size_t stride = a->n + GAP;
    float *y = slot_take(SLOT_Y, ALIGNED, a->m * stride, sizeof *y);
    for (size_t i = 0; i < a->m; i++) {
        a->y[i] = y + (a->m - 1 - i) * stride; /* rows in any order */
        for (size_t j = 0; j < stride; j++)
            a->y[i][j] = j >= a->n ? gap_value : a->add ? a->p->before[i][j] : NAN;
    }
}

static bool gaps_intact(const ask *a)
{
    for (size_t i = 0; i < a->m; i++)
        for (size_t j = 0; j < GAP; j++)
            if (a->y[i][a->n + j] != gap_value)
                return false;
    return slot_guards_intact(SLOT_Y);
}

static void *pack_rows(kcheck *c, const ask *a, size_t m, const float *const *x)
{
    const nm_product *pr = a->run->product;
    const size_t bytes = pr->packed_bytes(m, a->k);
    char *xp = slot_take(SLOT_XP, AT_PAGE_END, bytes / NM_ALIGN, NM_ALIGN);
    if (bytes % NM_ALIGN != 0 || bytes > nm_product_packed_max(m, a->k))
        fail(c, "%s: %zu packed bytes", a->name, bytes);
    size_t cut = a->pieces ? m / 2 / pr->group * pr->group : 0;
    if (cut < m || m == 0)
        pr->pack(m, a->k, x, cut, m, xp);
    if (cut > 0)
        pr->pack(m, a->k, x, 0, cut, xp);
    if (!slot_guards_intact(SLOT_XP))
        fail(c, "%s: pack wrote outside its rows", a->name);
    return xp;
}

static void call_out(const ask *a, const nm_mat *w, size_t m, const void *xp, size_t i0,
                     float *const *y)
{
    nm_out_args args = {.kern = &a->run->kern,
                        .w = w,
                        .m = m,
                        .xp = xp,
                        .bias = a->bias ? a->p->bias : NULL,
                        .weight = a->weight ? a->p->weight + i0 : NULL,
                        .add = a->add,
                        .y = y,
                        .scratch = a->scratch};
    if (!a->pieces) {
        args.j1 = w->rows;
        a->run->product->out(&args);
        return;
    }
    for (uint64_t end = w->rows; end > 0; end = args.j0) {
        args.j0 = (end - 1) / NM_PRODUCT_STEP * NM_PRODUCT_STEP;
        args.j1 = end;
        a->run->product->out(&args);
    }
}

static void call_gated(const ask *a, const nm_mat *gate, const nm_mat *up, const void *xp, void *hp)
{
    nm_gated_args args = {.kern = &a->run->kern,
                          .gate = gate,
                          .up = up,
                          .b_gate = a->bias ? a->p->bias : NULL,
                          .b_up = a->bias ? a->p->bias_up : NULL,
                          .act = NM_ACT_SWIGLU,
                          .j1 = gate->rows,
                          .m = a->m,
                          .xp = xp,
                          .hp = hp,
                          .scratch = a->scratch};
    if (!a->pieces) {
        a->run->product->gated(&args);
        return;
    }
    const uint32_t own = a->run->product->gated_step, step = own ? own : NM_PRODUCT_STEP;
    for (uint64_t end = gate->rows; end > 0; end = args.j0) {
        args.j0 = (end - 1) / step * step;
        args.j1 = end;
        a->run->product->gated(&args);
    }
}

/* ---- comparing ------------------------------------------------------------------------------ */

/* Sums near fp32's limits may overflow in one order and not in another; integers times the product
 * of their scales overflow when that does. */
static bool too_large(double size)
{
    return size > (double)FLT_MAX / 8;
}

static double largest(const exact *e)
{
    return fmax(fmax(e->terms, e->blocks), fmax(e->apart, e->groups));
}

/* The sums of i8x3 are those of integers times the scale of x until W's comes in: less than half of the sum of
 * |x| of 256 inputs, whatever the weights. */
static bool too_large_for(nm_product_slot slot, const exact *e)
{
    return slot == NM_PRODUCT_I8X3 && e->x > (double)FLT_MAX;
}

/* An element of a result: row i of x, row j of W. */
typedef struct element {
    const char *name;
    size_t i, j;
} element;

static void compare_one(kcheck *c, element e, float got, double want, double size, double bound)
{
    if (!isfinite(want)) {
        if (isfinite(got))
            fail(c, "%s: element %zu,%zu is %.9g, exact is %g", e.name, e.i, e.j, (double)got,
                 want);
    } else if (!too_large(fmax(size, 0x1p16 * bound))) { /* nor does rounding by that leave much */
        double off = fabs((double)got - want);
        if (!(off <= bound))
            fail(c, "%s: element %zu,%zu is %.9g, exact is %.9g, bound %.3g", e.name, e.i, e.j,
                 (double)got, want, bound);
        else if (bound > 0 && off / bound > c->worst)
            c->worst = off / bound;
    }
}

static void compare_out(kcheck *c, const ask *a)
{
    const problem *p = a->p;
    for (size_t i = 0; i < a->m; i++)
        for (size_t j = 0; j < a->n; j++) {
            const exact *e = &p->e_gate[i * PROBLEM_N + j];
            double b = a->bias ? (double)p->bias[j] : 0;
            double f = a->weight ? (double)p->weight[i] : 1;
            double y = a->add ? (double)p->before[i][j] : 0;
            if (e->beyond || too_large_for(a->run->slot, e))
                continue;
            double size = fmax(fabs(f), 1) * (largest(e) + fabs(b)) + fabs(y);
            double bound = fabs(f) * product_bound(a->run->slot, p->type, p->k, e);
            compare_one(c, (element){a->name, i, j}, a->y[i][j], f * (e->sum + b) + y, size,
                        bound + 0x1p-22 * (fabs(f) * (e->size + fabs(b)) + fabs(y)) + 0x1p-148);
        }
}

/* silu(g) u and how far it may be from that, with errors dg and du. |silu'| < 1.1. */
static void gated_bound(double g, double dg, double u, double du, double *h, double *dh)
{
    double silu = g / (1 + exp(-g));
    *h = silu * u;
    *dh = 1.1 * dg * (fabs(u) + du) + fabs(silu) * du + 0x1p-20 * fabs(*h) + 0x1p-140;
}

/* Row i of what gated packed, after the unit matrix. */
static void compare_gated_row(kcheck *c, const ask *a, const float *y, size_t i)
{
    const problem *p = a->p;
    float h[PROBLEM_N];
    double dh[PROBLEM_N], h_max[PROBLEM_N / 32 + 1] = {0}, h_sum = 0, h_most = 0;
    bool poisoned = false, extreme = false;
    for (size_t j = 0; j < a->n; j++) {
        const exact *eg = &p->e_gate[i * PROBLEM_N + j], *eu = &p->e_up[i * PROBLEM_N + j];
        double bg = a->bias ? (double)p->bias[j] : 0, bu = a->bias ? (double)p->bias_up[j] : 0;
        double dg =
            product_bound(a->run->slot, p->type, p->k, eg) + 0x1p-22 * (eg->size + fabs(bg));
        double du =
            product_bound(a->run->slot, p->up_type, p->k, eu) + 0x1p-22 * (eu->size + fabs(bu));
        double exact_h;
        gated_bound(eg->sum + bg, dg, eu->sum + bu, du, &exact_h, &dh[j]);
        poisoned = poisoned || (!isfinite(eg->sum) && !eg->beyond) || !isfinite(eu->sum);
        extreme =
            extreme || eg->beyond || !(largest(eg) < 1e18 && largest(eu) < 1e18 && dh[j] < 1e36);
        h[j] = (float)exact_h;
        h_max[j / 32] = fmax(h_max[j / 32], fabs(exact_h) + dh[j]);
        h_sum += fabs(exact_h) + dh[j];
        h_most = fmax(h_most, fabs(exact_h) + dh[j]);
    }
    for (size_t j = 0; j < a->n; j++) {
        if (poisoned) { /* one that is no number makes every sum of its row none, as 0 NaN is NaN */
            if (isfinite(y[j]))
                fail(c, "%s: gated lost a NaN or an infinity", a->name);
            continue;
        }
        double size = fabs((double)h[j]) + dh[j];
        exact e = {.sum = (double)h[j], .size = size, .terms = size, .x = h_sum, .w = 1};
        e.blocks = h_max[j / 32];
        e.groups = (double)a->n * h_most;
        e.apart = 2 * h_sum;
        /* Ones and zeros are exact as bf16. */
        double bound = product_bound(a->run->slot, NM_TYPE_BF16, a->n, &e) + dh[j];
        if (!extreme)
            compare_one(c, (element){a->name, i, j}, y[j], e.sum, size, bound + 0x1p-22 * size);
    }
}

/* Also true of two NaN, whatever their bits. */
static bool same_bits(const float *a, const float *b, size_t n)
{
    for (size_t j = 0; j < n; j++)
        if (memcmp(&a[j], &b[j], sizeof *a) != 0 && !(isnan(a[j]) && isnan(b[j])))
            return false;
    return true;
}

/* ---- cases ---------------------------------------------------------------------------------- */

static float whole[PROBLEM_M][PROBLEM_N];

static void keep(const ask *a)
{
    for (size_t i = 0; i < a->m; i++)
        memcpy(whole[i], a->y[i], a->n * sizeof(float));
}

static void compare_with_whole(kcheck *c, const ask *a, const char *what)
{
    for (size_t i = 0; i < a->m; i++)
        if (!same_bits(whole[i], a->y[i], a->n))
            fail(c, "%s: row %zu has other bits %s", a->name, i, what);
    if (!gaps_intact(a))
        fail(c, "%s: wrote outside y %s", a->name, what);
}

/* The rows from i0 on, as a pack of their own inside the pack of all. */
static void check_part(kcheck *c, ask *a, const nm_mat *w, const char *xp, size_t i0)
{
    take_y(a);
    call_out(a, w, i0, xp, 0, a->y);
    call_out(a, w, a->m - i0, xp + a->run->product->packed_bytes(i0, a->k), i0, a->y + i0);
    compare_with_whole(c, a, "as two packs");
}

static void check_alone(kcheck *c, ask *a, const nm_mat *w, size_t i)
{
    take_y(a);
    const void *xp = pack_rows(c, a, 1, a->p->x + i);
    call_out(a, w, 1, xp, i, a->y + i);
    if (!same_bits(whole[i], a->y[i], a->n))
        fail(c, "%s: row %zu has other bits alone", a->name, i);
}

/* FNV-1a over what `out` stored; any NaN counts as one. */
static void digest_whole(const ask *a, uint64_t *digest)
{
    for (size_t i = 0; i < a->m; i++)
        for (size_t j = 0; j < a->n; j++) {
            uint32_t bits = 0;
            if (!isnan(whole[i][j]))
                memcpy(&bits, &whole[i][j], sizeof bits);
            *digest = (*digest ^ bits) * 0x100000001b3u;
        }
}

/* w as panels in exactly the bytes that they need; of large ones a range at a time, from the last on. */
static nm_mat make_panels(kcheck *c, const ask *a, const nm_mat *w, int slot)
{
    const nm_product *pr = a->run->product;
    const uint64_t bytes = nm_product_panels_bytes(pr, w->rows, w->cols);
    char *to = slot_take(slot, AT_PAGE_END, bytes / NM_ALIGN, NM_ALIGN);
    nm_mat panels = nm_product_to_panels(pr, &a->run->kern, w, to);
    if (bytes == 0 || bytes % NM_ALIGN != 0)
        fail(c, "%s: panels of %llu bytes", a->name, (unsigned long long)bytes);
    if (w->rows > 2 * NM_PRODUCT_STEP) {
        memset(to, 0xff, bytes);
        for (uint64_t end = w->rows, j; end > 0; end = j) {
            j = (end - 1) / NM_PRODUCT_STEP * NM_PRODUCT_STEP;
            pr->to_panels(&a->run->kern, w, j, end, to);
        }
    }
    if (!slot_guards_intact(slot))
        fail(c, "%s: wrote outside the panels", a->name);
    return panels;
}

static void check_panels(kcheck *c, ask *a, const nm_mat *w)
{
    if (a->run->product->to_panels == NULL || w->rows == 0)
        return;
    const nm_mat panels = make_panels(c, a, w, SLOT_PANELS);
    for (int pieces = 0; pieces < 2; pieces++) {
        a->pieces = pieces;
        take_y(a);
        const void *xp = pack_rows(c, a, a->m, a->p->x);
        call_out(a, &panels, a->m, xp, 0, a->y);
        compare_with_whole(c, a, pieces ? "from panels, in pieces" : "from panels");
    }
}

static void run_out(kcheck *c, ask *a, uint64_t *digest)
{
    const nm_mat w = make_mat(a->p->type, a->n, a->p->k, a->p->gate.mat.data);
    const size_t group = a->run->product->group;
    a->pieces = false;
    take_y(a);
    char *xp = pack_rows(c, a, a->m, a->p->x);
    call_out(a, &w, a->m, xp, 0, a->y);
    compare_out(c, a);
    keep(a);
    digest_whole(a, digest);
    compare_with_whole(c, a, "after all");
    if (a->m > group)
        check_part(c, a, &w, xp, (a->m / group + 1) / 2 * group);
    a->pieces = true;
    take_y(a);
    xp = pack_rows(c, a, a->m, a->p->x);
    call_out(a, &w, a->m, xp, 0, a->y);
    compare_with_whole(c, a, "in pieces");
    check_panels(c, a, &w);
    if (a->m > 0)
        check_alone(c, a, &w, draw_bits(c) % a->m);
}

/* F32 if the product takes it, else BF16 or Q8_0; false if there is none of n inputs. */
static bool make_unit(const nm_product *pr, size_t n, nm_mat *unit)
{
    const uint32_t type = pr->takes(NM_TYPE_F32)    ? NM_TYPE_F32
                          : pr->takes(NM_TYPE_BF16) ? NM_TYPE_BF16
                                                    : NM_TYPE_Q8_0;
    if (!pr->takes(type) || n % nm_type_get(type)->block_elems != 0)
        return false;
    *unit = make_mat(type, n, n, NULL);
    char *data = slot_take(SLOT_UNIT, ALIGNED, n * unit->row_bytes, 1);
    unit->data = data;
    memset(data, 0, n * unit->row_bytes);
    for (size_t j = 0; j < n; j++, data += unit->row_bytes) {
        const float one = 1.0f;
        if (type == NM_TYPE_F32) {
            memcpy(data + j * sizeof one, &one, sizeof one);
            continue;
        }
        if (type == NM_TYPE_BF16) {
            const uint16_t bits = 0x3f80; /* 1 */
            memcpy(data + j * sizeof bits, &bits, sizeof bits);
            continue;
        }
        nm_block_q8_0 *block = (nm_block_q8_0 *)(void *)data + j / NM_QK;
        /* Not 1 times 1: a product may offset the codes, and rounds by the largest possible. */
        nm_block_put_half(&block->d, 1.0f / 64);
        block->qs[j % NM_QK] = 64;
    }
    return true;
}

static void run_gated(kcheck *c, ask *a)
{
    const problem *p = a->p;
    const nm_product *pr = a->run->product;
    nm_mat unit, gate = make_mat(p->type, a->n, p->k, p->gate.mat.data);
    nm_mat up = make_mat(p->up_type, a->n, p->k, p->up.mat.data);
    const size_t bytes = pr->packed_bytes(a->m, a->n);
    ask second = *a;
    if (!pr->takes(p->up_type) || !make_unit(pr, a->n, &unit))
        return;
    second.k = a->n;
    second.add = second.bias = second.weight = false;
    for (int way = 0; way < (pr->to_panels && a->n ? 4 : 2); way++) {
        a->pieces = way % 2;
        if (way == 2) {
            gate = make_panels(c, a, &gate, SLOT_PANELS);
            up = make_panels(c, a, &up, SLOT_PANELS_UP);
        }
        const void *xp = pack_rows(c, a, a->m, p->x);
        char *hp = slot_take(SLOT_HP, AT_PAGE_END, bytes / NM_ALIGN, NM_ALIGN);
        call_gated(a, &gate, &up, xp, hp);
        if (!slot_guards_intact(SLOT_HP))
            fail(c, "%s: gated wrote outside its rows", a->name);
        take_y(&second);
        call_out(&second, &unit, a->m, hp, 0, second.y);
        for (size_t i = 0; i < a->m && way == 0; i++)
            compare_gated_row(c, a, second.y[i], i);
        if (way > 0)
            compare_with_whole(c, &second, way == 1 ? "gated in pieces" : "gated from panels");
        keep(&second);
    }
}

static void run_case(kcheck *c, product_run *run, void *scratch, size_t m, size_t n)
{
    const problem *p = &prob;
    const uint32_t bits = draw_bits(c);
    ask a = {.run = run, .p = p, .m = m, .n = n, .k = p->k, .scratch = scratch};
    a.bias = bits & 1;
    a.weight = bits & 2;
    a.add = bits & 4;
    snprintf(a.name, sizeof a.name, "%s, m %zu n %zu bias %d weight %d add %d", p->name, m, n,
             a.bias, a.weight, a.add);
    run_out(c, &a, &run->bits);
    run_gated(c, &a);
    if (!slot_guards_intact(SLOT_SCRATCH))
        fail(c, "%s: wrote outside scratch", a.name);
    c->cases++;
}

static void *take_scratch(const product_run *run)
{
    const size_t bytes = run->product->scratch_bytes(nm_max_size(prob.k, PROBLEM_N));
    return slot_take(SLOT_SCRATCH, AT_PAGE_END, (bytes + NM_ALIGN - 1) / NM_ALIGN, NM_ALIGN);
}

/* Every m and every n, each with one drawn of the other. */
static void run_problem(kcheck *c, void *of_run)
{
    product_run *run = of_run;
    void *scratch = take_scratch(run);
    for (size_t i = 0; i < COUNT(ms) + COUNT(ns); i++) {
        size_t m = i < COUNT(ms) ? ms[i] : ms[draw_bits(c) % COUNT(ms)];
        size_t n = i < COUNT(ms) ? ns[draw_bits(c) % COUNT(ns)] : ns[i - COUNT(ms)];
        if (m <= prob.m && n <= prob.n && chosen(c))
            run_case(c, run, scratch, m, n);
    }
}

/* Every row of W, few and many of x. */
static void run_extremes(kcheck *c, void *of_run)
{
    product_run *run = of_run;
    void *scratch = take_scratch(run);
    run_case(c, run, scratch, 1, prob.n);
    run_case(c, run, scratch, prob.m, prob.n);
}

static void run_all(product_run *runs, size_t n, uint32_t type,
                    void (*run)(kcheck *c, void *of_run))
{
    for (size_t r = 0; r < n; r++)
        if (runs[r].product->takes(type))
            guarded(&runs[r].check, run, &runs[r]);
}

static void check_extremes(kcheck *draws, product_run *runs, size_t n_runs, uint32_t type)
{
    const size_t k = nm_type_get(type)->block_elems == 32 ? 288 : 512;
    /* All rows of all blocks; of finite ones, rows of one such block. These also the other way round. */
    for (unsigned i = 0; i < 4; i += sizes.emulated ? 3 : 1) {
        make_extremes(draws, type, k, (extremes){.finite = i & 1, .one_block = i & 2});
        run_all(runs, n_runs, type, run_extremes);
    }
}

static void check_type(kcheck *draws, product_run *runs, size_t n_runs, uint32_t type)
{
    const uint32_t block = nm_type_get(type)->block_elems;
    const size_t *ks = block == 1 ? ks_1 : block == 32 ? ks_32 : ks_256;
    const size_t n = block == 1 ? COUNT(ks_1) : block == 32 ? COUNT(ks_32) : COUNT(ks_256);
    for (size_t i = 0; i < n; i++)
        for (int f = PLAIN; f < N_FLAVOURS; f++) {
            if (ks[i] > sizes.k || !chosen(draws))
                continue;
            make_problem(draws, type, ks[i], (flavour)f);
            run_all(runs, n_runs, type, run_problem);
        }
    /* A matter of numbers, not of sizes: one of these. Types without blocks are few: all of them in any run. */
    for (int f = TINY; f <= LARGE; f++) {
        if (block > 1 && !chosen(draws))
            continue;
        make_problem(draws, type, block == 1 ? 61 : block == 32 ? 96 : 256, (flavour)f);
        run_all(runs, n_runs, type, run_problem);
    }
    if (block > 1)
        check_extremes(draws, runs, n_runs, type);
}

/* SDOT and SMMLA do the same sums of integers and the same roundings (arm/i8x2_neon.inc). All runs
 * of one slot draw the same cases. */
static void compare_twins(product_run *runs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i && runs[i].slot == NM_PRODUCT_I8X2; j++)
            if (runs[j].slot == runs[i].slot && runs[j].bits != runs[i].bits)
                fail(&runs[i].check, "other bits than %s", runs[j].name);
}

/* Products of this build that no CPU got which could be made of this one: they were not tested here. */
static void name_missing(const product_run *runs, size_t n)
{
    static const struct {
        const char *name;
        const nm_product *product;
    } all[] = {
#define P(arch, name, slot, tier, has, what) NM_ON_##arch({#name, &nm_product_##name}, )
#include "kernels/kern.def"
    };
    for (size_t i = 0; i < COUNT(all); i++) {
        size_t r = 0;
        while (r < n && runs[r].product != all[i].product)
            r++;
        if (r == n)
            report_missing(all[i].name);
    }
}

void check_products(const nm_cpu *cpu, const char *tier, uint64_t seed, bool emulated)
{
    static product_run runs[MAX_PRODUCT_RUNS];
    static kcheck draws;
    const size_t n = product_runs(cpu, tier, runs);
    sizes = emulated ? (struct sizes){true, 33, 64, 768}
                     : (struct sizes){false, PROBLEM_M, PROBLEM_N, PROBLEM_K};
    draws = (kcheck){.rng = seed, .one_in = emulated ? 4 : 1};
    for (size_t i = 0; i < n; i++) {
        runs[i].check.rng = seed;
        const bool slow = strcmp(runs[i].kern.isa, "scalar") == 0;
        runs[i].check.one_in = slow ? 4 : emulated ? 3 : 1;
    }
    for (uint32_t type = 0; type < NM_TYPE_END; type++)
        if (nm_type_get(type)->supported)
            check_type(&draws, runs, n, type);
    compare_twins(runs, n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(runs[i].kern.isa, "scalar") != 0 && !emulated)
            guarded(&runs[i].check, check_large, &runs[i]);
    for (size_t i = 0; i < n; i++)
        report_run(&runs[i].check, runs[i].name);
    if (!tier)
        name_missing(runs, n);
}
