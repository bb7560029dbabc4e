/* product_amx.c: the products on AMX tiles, in bf16 with fp32 sums.
 *
 * A tile is 16 rows of 64 bytes. TDPBF16PS multiplies a tile of weights, 16 rows of W by 32 inputs as
 * decoding leaves them, by a tile of x, 16 pairs of inputs by 16 rows of x, in 16 cycles:
 *
 *          x: strip of 16 rows                  So y^T = W x^T: the decoded weights need no
 *          k  [ (k, k+1) of row 0, row 1, .. ]  transposition, the rows of x get theirs once, when
 *   W      .  [ ...                          ]  they are packed. Lane n of a result is a row of x:
 *   n [ k 0..31 ] -> [ n x 16 rows of x, fp32]  two results of neighbouring outputs n, n + 1 make
 *                                               one row of the next product's x tile.
 *
 * Packed x: strips of 16 rows, padded with zero rows; in a strip, for each 32 inputs, one tile per
 * plane. A plane is a term of v = hi + lo, hi = bf16(v), lo = bf16(v - hi), which has 16 bits of v:
 *
 *   bf16     hi hi                 4 tiles loaded for 4 products
 *   bf16x2   hi hi + hi lo(x)      6 for 8: weights that are bf16 lose nothing
 *   bf16x3   ... + lo(W) hi        8 for 12: what is missing, lo lo, is below 2^-16 of a term
 *
 * Blocks. Results are computed 2 x 2 tiles at a time: two tiles of 16 outputs (of W; for a gated
 * network 16 of gate and 16 of up) by two strips. Weights of 32 rows by KC inputs are decoded into a
 * panel of 16 KiB; it and the next one stay in L1 while all strips pass over them. x streams from L2
 * (tile loads with the streaming hint leave L1 to the panels). Sums of a part of the inputs wait in
 * scratch for the next part. Rows of x beyond what L2 holds are a second round.
 *
 * While the matrix unit works, the vector ports are idle. So the next panel is decoded in the slots
 * between the products of the current one, a row or two at a time: the processor overlaps them as
 * long as its window of 512 operations reaches from one product to the next. Decoding a panel in one
 * go costs a third more time at 64 rows of x.
 *
 * Why not 4 x 1 tiles, or sums in registers over all inputs with W and x in L2: PERF.md has the
 * figures of what was tried.
 *
 * Bits: the products of an element are added in the order of the inputs, 32 by 32, for each 32
 * first hi lo, then hi hi, then lo hi. Nothing depends on where in a block it falls. The matrix unit
 * takes and makes denormals as zeros. With two planes an infinity of x or W may come out as NaN
 * (Inf times a zero rest).
 */
#include "kernels/products.h"

#include "base/alloc.h"
#include "base/num.h"
#include "kernels/kern.h"
#include "kernels/tmpl/vec.h"

#include "kernels/x86/tiles.inc"

#include "kernels/x86/strips_amx.inc"

#include "kernels/x86/bf16_amx.inc"

enum {
    STEP = 32,               /* inputs of a tile */
    PANEL_BYTES = 16 * 1024, /* 2 n-tiles */
    PANELS = 2,              /* one in use, one being decoded */
    AHEAD = 2                /* panels between prefetching and decoding */
};

/* ---- packed x ------------------------------------------------------------------------------ */

static size_t strip_bytes(size_t k, int planes)
{
    return (k + STEP - 1) / STEP * (size_t)planes * TILE;
}

/* Inputs p .. p + 31 of up to 16 rows; beyond k and beyond the rows zeros. */
ALWAYS void pack_tile(size_t k, const float *const *x, size_t rows, size_t p, char *to,
                      const int planes)
{
    __m512i hi[16], lo[16];
    const size_t left = k - p;
    const __mmask16 first = first_lanes(left), second = first_lanes(left < 16 ? 0 : left - 16);
    for (size_t r = 0; r < 16; r++) {
        __m512 a = _mm512_setzero_ps(), b = a;
        if (r < rows) {
            a = _mm512_maskz_loadu_ps(first, x[r] + p);
            b = _mm512_maskz_loadu_ps(second, x[r] + p + 16);
        }
        bf16x2 s = split_any(a, b, planes);
        hi[r] = s.hi;
        lo[r] = s.lo;
    }
    transpose(hi);
    for (int i = 0; i < 16; i++)
        _mm512_store_si512(to + 64 * i, hi[i]);
    if (planes == 1)
        return;
    transpose(lo);
    for (int i = 0; i < 16; i++)
        _mm512_store_si512(to + TILE + 64 * i, lo[i]);
}

ALWAYS void pack_planes(size_t m, size_t k, const float *const *x, size_t i0, size_t i1, void *xp,
                        const int planes)
{
    (void)m;
    for (size_t i = i0; i < i1; i += SIDE) {
        char *to = (char *)xp + i / SIDE * strip_bytes(k, planes);
        for (size_t p = 0; p < k; p += STEP, to += planes * TILE)
            pack_tile(k, x + i, nm_min_size(SIDE, i1 - i), p, to, planes);
    }
}

/* ---- a call -------------------------------------------------------------------------------- */

/* The two rows of tiles of a panel: for `out` both of one matrix, for `gated` one of each. */
typedef struct side {
    const nm_mat *w;
    unit_fn *unit;
    decode_fn *decode;
    size_t halves;       /* units of a stored block: 2 of a super-block, else 1 */
    size_t block_bytes;  /* of such a block, or of the small blocks of a unit */
    size_t output_bytes; /* from an output to the next */
    uint64_t first;      /* its first output, after the panel's */
} side;

typedef struct call {
    side sides[2];
    int planes;      /* of W */
    uint64_t step;   /* outputs of a panel: 32 or 16 */
    uint64_t j0, j1; /* outputs */
    uint64_t end;    /* where panels end: j1, or beyond it where the padding does */
    size_t k, units; /* inputs, and units of them in a row */
    size_t kc;       /* inputs of a panel */
    const char *x;
    size_t strip_bytes;
    char *panels, *sums;
} call;

static bool next_place(const call *c, place *at)
{
    at->k0 += c->kc;
    if (at->k0 < c->k)
        return true;
    at->k0 = 0;
    at->j += c->step;
    return at->j < c->end;
}

/* ---- decoding ------------------------------------------------------------------------------ */

/* A panel being decoded, in runs of 16 rows by one unit, and how far it is. */
typedef struct feed {
    unit_fn *unit; /* of the run */
    decode_fn *decode;
    const char *src; /* the next row's */
    char *to;
    size_t row_bytes, half, n;
    size_t ahead, ahead_bytes; /* what to prefetch, from src on */
    size_t rows;               /* left of the run */
    size_t left;               /* left of the panel: rows of units */
    size_t due, quota;         /* see feed_share */
    size_t together;           /* rows decoded at a time */
    const call *c;
    place at;
    char *panel;
    size_t units, run; /* of a row of this panel; the next one */
} feed;

static void start_feed(feed *f, const call *c, place at, char *to)
{
    size_t units = (nm_min_size(c->kc, c->k - at.k0) + UNIT - 1) / UNIT;
    *f = (feed){.c = c, .at = at, .panel = to, .units = units, .left = 2 * SIDE * units};
    f->quota = f->left;
    f->together = c->planes == 2 ? 1 : 2;
}

/* Distance in bytes from a block to the one that will be decoded two panels later; 0 = none. */
static size_t distance_ahead(const call *c, const side *s, uint64_t j, size_t unit, size_t units)
{
    size_t then = unit + AHEAD * units;
    if (then < c->units)
        return AHEAD * units / s->halves * s->block_bytes;
    then -= c->units;
    if (then >= c->units || j + c->step + SIDE > s->w->rows)
        return 0;
    return (size_t)c->step * s->output_bytes + then / s->halves * s->block_bytes -
           unit / s->halves * s->block_bytes;
}

static void zero_rows(char *to, size_t rows, size_t n, int planes)
{
    for (size_t i = 0; i < n; i += STEP)
        for (int p = 0; p < planes; p++, to += TILE)
            memset(to, 0, rows * 64);
}

/* Where an output's unit is; of panels: where the tiles of 16 are. */
static const char *unit_at(const side *s, uint64_t j, size_t unit)
{
    return (const char *)s->w->data + j * s->output_bytes + unit / s->halves * s->block_bytes;
}

/* Panels made beforehand are, for each 16 outputs, what decoding makes of all their units; outputs padded
 * with zeros to a multiple of NM_PRODUCT_STEP. There is nothing to decode: the next panel is asked for, one
 * line after the other. */
static size_t tiles_bytes(size_t n, int planes)
{
    return (n + STEP - 1) / STEP * (size_t)planes * TILE;
}

static void fetch_unit(decode_fn *decode, const char *src, size_t row_bytes, size_t rows,
                       size_t half, size_t n, char *to)
{
    (void)decode;
    (void)half;
    (void)n;
    (void)to;
    for (size_t i = 0; i < rows * row_bytes; i += 64)
        _mm_prefetch(src + i, _MM_HINT_T0);
}

static void start_run_of_panels(feed *f, const side *s, uint64_t j, size_t unit)
{
    f->unit = fetch_unit;
    f->src = unit_at(s, j, unit);
    f->row_bytes = tiles_bytes(f->n, f->c->planes) / SIDE;
    f->ahead = distance_ahead(f->c, s, j, unit, f->units);
    f->ahead_bytes = f->ahead ? f->row_bytes : 0;
    f->rows = SIDE;
}

static void start_run(feed *f)
{
    const call *c = f->c;
    const size_t tile = f->run / f->units, u = f->run % f->units, unit = f->at.k0 / UNIT + u;
    const side *s = &c->sides[tile];
    const uint64_t j = f->at.j + s->first;
    const size_t rows = j < c->j1 ? nm_min_size(SIDE, (size_t)(c->j1 - j)) : 0;
    f->n = nm_min_size(UNIT, c->k - unit * UNIT);
    f->run++;
    if (s->w->panels_of) {
        start_run_of_panels(f, s, j, unit);
        return;
    }
    f->half = unit % s->halves;
    f->unit = s->unit;
    f->decode = s->decode;
    f->row_bytes = s->output_bytes;
    f->src = unit_at(s, j, unit);
    f->to = f->panel + tile * (PANEL_BYTES / 2) + u * (UNIT / STEP) * (size_t)c->planes * TILE;
    f->ahead = distance_ahead(c, s, j, unit, f->units);
    f->ahead_bytes = f->ahead && f->half == 0 ? s->block_bytes : 0;
    f->rows = rows;
    f->left -= SIDE - rows;
    if (rows < SIDE)
        zero_rows(f->to + 64 * rows, SIDE - rows, f->n, c->planes);
}

/* Decodes a few rows; returns how many. */
ALWAYS size_t feed_some(feed *f)
{
    while (f->rows == 0) {
        if (f->left == 0)
            return 1; /* nothing is due any more */
        start_run(f);
    }
    const size_t rows = nm_min_size(f->rows, f->together), bytes = f->row_bytes;
    for (size_t i = 0; i < f->ahead_bytes; i += 64)
        for (size_t r = 0; r < rows; r++)
            _mm_prefetch(f->src + f->ahead + r * bytes + i, _MM_HINT_T1);
    f->unit(f->decode, f->src, bytes, rows, f->half, f->n, f->to);
    f->src += rows * bytes;
    f->to += rows * 64;
    f->rows -= rows;
    f->left -= rows;
    return rows;
}

static void feed_due(feed *f, size_t steps)
{
    while (f->due >= steps * f->together)
        f->due -= steps * feed_some(f);
}

/* One of `steps` equal shares of the panel. */
ALWAYS void feed_share(feed *f, size_t steps)
{
    f->due += f->quota;
    if (f->due >= steps * f->together)
        feed_due(f, steps);
}

static void feed_rest(feed *f)
{
    while (f->left)
        feed_some(f);
}

/* ---- products ------------------------------------------------------------------------------ */

#define LOAD(tile, from)    _tile_loadd(tile, from, 64)
#define STREAM(tile, from)  _tile_stream_loadd(tile, from, 64)
#define STORE(tile, to)     _tile_stored(tile, to, 64)
#define MULTIPLY(sum, w, x) _tile_dpbf16ps(sum, w, x)

/* Decoding happens in the slots of a step. */
#define SLOT          feed_share(f, shares)
#define SLOTS(wp, xp) ((wp) == 2 ? 6 : 4)

/* Tiles 0, 1: first strip, 2, 3: second; of 4, 5: weights; 6, 7: x. */
ALWAYS void multiply_step(const char *w, const char *w1, const char *x0, const char *x1,
                          const bool two, feed *f, size_t shares, const int wp, const int xp)
{
    LOAD(4, w);
    if (xp == 2) {
        STREAM(6, x0 + TILE);
        MULTIPLY(0, 4, 6);
        LOAD(5, w1);
        MULTIPLY(1, 5, 6);
        SLOT;
        if (two) {
            STREAM(7, x1 + TILE);
            MULTIPLY(2, 4, 7);
            MULTIPLY(3, 5, 7);
        }
        SLOT;
    }
    STREAM(6, x0);
    MULTIPLY(0, 4, 6);
    if (xp == 1) {
        SLOT;
        LOAD(5, w1);
    }
    MULTIPLY(1, 5, 6);
    SLOT;
    if (two) {
        STREAM(7, x1);
        MULTIPLY(2, 4, 7);
    }
    if (xp == 1)
        SLOT;
    if (two)
        MULTIPLY(3, 5, 7);
    SLOT;
    if (wp == 2) {
        LOAD(4, w + TILE);
        MULTIPLY(0, 4, 6);
        if (two)
            MULTIPLY(2, 4, 7);
        SLOT;
        LOAD(5, w1 + TILE);
        MULTIPLY(1, 5, 6);
        if (two)
            MULTIPLY(3, 5, 7);
        SLOT;
    }
}

static tile_pair tiles_of(const call *c, place at, const char *panel)
{
    tile_pair h;
    for (size_t t = 0; t < 2; t++) {
        const side *s = &c->sides[t];
        h.w[t] = s->w->panels_of ? unit_at(s, at.j + s->first, at.k0 / UNIT)
                                 : panel + t * (PANEL_BYTES / 2);
    }
    return h;
}

/* One or two strips over a panel. */
ALWAYS void multiply_strips(const call *c, tile_pair panel, place at, size_t strip, const bool two,
                            feed *f, size_t shares, const int wp, const int xp)
{
    char *sums = c->sums + strip * SUM_BYTES;
    const size_t steps = (nm_min_size(c->kc, c->k - at.k0) + STEP - 1) / STEP;
    const char *x = c->x + strip * c->strip_bytes + at.k0 / STEP * (size_t)xp * TILE;
    if (at.k0 == 0) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        LOAD(0, sums);
        LOAD(1, sums + TILE);
        if (two) {
            LOAD(2, sums + 2 * TILE);
            LOAD(3, sums + 3 * TILE);
        }
    }
    for (size_t i = 0; i < steps; i++, x += xp * TILE) {
        const size_t at_step = i * (size_t)wp * TILE;
        multiply_step(panel.w[0] + at_step, panel.w[1] + at_step, x, x + c->strip_bytes, two, f,
                      shares, wp, xp);
    }
    STORE(0, sums);
    STORE(1, sums + TILE);
    if (two) {
        STORE(2, sums + 2 * TILE);
        STORE(3, sums + 3 * TILE);
    }
}

/* What becomes of the sums of a strip; strip counts from the first one of the round. */
typedef void finish_fn(const call *c, const void *args, uint64_t j, size_t first, size_t strip);
/* Strips first .. first + strips - 1 (c->x points to the first) with all weights. */
ALWAYS void run_round(const call *c, size_t first, size_t strips, expect_fn *expect,
                      finish_fn *finish, const void *args, const int wp, const int xp)
{
    feed f;
    place at = {c->j0, 0};
    char *panel = c->panels, *other = panel + PANEL_BYTES;
    start_feed(&f, c, at, panel);
    for (bool more = true; more;) {
        feed_rest(&f);
        const place now = at;
        more = next_place(c, &at);
        if (more)
            start_feed(&f, c, at, other);
        settle(panel);
        const tile_pair w = tiles_of(c, now, panel);
        const size_t inputs = nm_min_size(c->kc, c->k - now.k0);
        const size_t shares = (strips + 1) / 2 * ((inputs + STEP - 1) / STEP) * SLOTS(wp, xp);
        for (size_t s = 0; s < strips; s += 2) {
            const bool two = s + 1 < strips, last = now.k0 + c->kc >= c->k;
            if (last && expect)
                expect(args, now.j, first, s);
            if (two)
                multiply_strips(c, w, now, s, true, &f, shares, wp, xp);
            else
                multiply_strips(c, w, now, s, false, &f, shares, wp, xp);
            if (!last)
                continue;
            finish(c, args, now.j, first, s);
            if (two)
                finish(c, args, now.j, first, s + 1);
        }
        char *t = panel;
        panel = other;
        other = t;
    }
}

ALWAYS void run(call *c, size_t m, const void *xp_rows, expect_fn *expect, finish_fn *finish,
                const void *args, const int wp, const int xp)
{
    const size_t strips = strips_of(m);
    if (strips == 0 || c->j0 >= c->j1)
        return;
    const size_t most = strips_of_round(strips, c->strip_bytes);
    tiles_on();
    for (size_t s = 0; s < strips; s += most) {
        c->x = (const char *)xp_rows + s * c->strip_bytes;
        run_round(c, s, nm_min_size(most, strips - s), expect, finish, args, wp, xp);
    }
    _tile_release();
}

static size_t scratch_bytes(size_t max_k)
{
    (void)max_k;
    return PANELS * PANEL_BYTES + MAX_STRIPS * SUM_BYTES;
}

static side make_side(const nm_kern *kern, const nm_mat *w, int planes, uint64_t first)
{
    const nm_type_traits *t = nm_type_get(w->type);
    if (w->panels_of)
        return (side){.w = w,
                      .halves = 1,
                      .block_bytes = tiles_bytes(UNIT, planes),
                      .output_bytes = tiles_bytes((size_t)w->cols, planes) / SIDE,
                      .first = first};
    return (side){.w = w,
                  .unit = unit_for(w->type, planes),
                  .decode = kern->decode[w->type],
                  .halves = t->block_elems == NM_QK_K ? 2 : 1,
                  .block_bytes = t->block_elems == NM_QK_K ? t->block_bytes
                                                           : UNIT / t->block_elems * t->block_bytes,
                  .output_bytes = (size_t)w->row_bytes,
                  .first = first};
}

static call make_call(const nm_mat *w, uint64_t j0, uint64_t j1, void *scratch, int wp, int xp)
{
    const size_t k = (size_t)w->cols;
    return (call){.planes = wp,
                  .j0 = j0,
                  .j1 = j1,
                  .end = j1,
                  .k = k,
                  .units = (k + UNIT - 1) / UNIT,
                  .kc = (size_t)(PANEL_BYTES / (2 * SIDE * 2 * wp)),
                  .strip_bytes = strip_bytes(k, xp),
                  .panels = scratch,
                  .sums = (char *)scratch + PANELS * PANEL_BYTES};
}

/* ---- y (+)= weight * (x W^T + bias) -------------------------------------------------------- */

static void finish_out(const call *c, const void *args, uint64_t j, size_t first, size_t strip)
{
    const float *sums = (const void *)(c->sums + strip * SUM_BYTES);
    put_out(args, j, c->j1, (first + strip) * SIDE, sums);
    put_out(args, j + SIDE, c->j1, (first + strip) * SIDE, sums + SIDE * SIDE);
}

ALWAYS void out_planes(const nm_out_args *a, const int wp, const int xp)
{
    call c = make_call(a->w, a->j0, a->j1, a->scratch, wp, xp);
    c.step = 2 * SIDE;
    c.sides[0] = make_side(a->kern, a->w, wp, 0);
    c.sides[1] = make_side(a->kern, a->w, wp, SIDE);
    run(&c, a->m, a->xp, expect_out, finish_out, a, wp, xp);
}

/* ---- hp = act(x Wgate^T) * (x Wup^T) ------------------------------------------------------- */

/* Outputs beyond the last one are padding of the next product's inputs: zeros. */
ALWAYS void finish_gated(const call *c, const nm_gated_args *a, uint64_t j, size_t strip,
                         float *gate, const int planes)
{
    float *up = gate + SIDE * SIDE;
    const size_t n = j < c->j1 ? nm_min_size(SIDE, (size_t)(c->j1 - j)) : 0;
    activate(a, j, n, gate, up);
    memset(gate + n * SIDE, 0, (SIDE - n) * SIDE * sizeof *gate);
    char *to = (char *)a->hp + strip * strip_bytes((size_t)a->gate->rows, planes) +
               j / STEP * (size_t)planes * TILE + j % STEP * 32;
    const __m512i pairs =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (int i = 0; i < SIDE; i += 2, to += 64) {
        __m512 even = _mm512_load_ps(gate + SIDE * i), odd = _mm512_load_ps(gate + SIDE * (i + 1));
        bf16x2 s = split_any(even, odd, planes);
        _mm512_store_si512(to, _mm512_permutexvar_epi16(pairs, s.hi));
        if (planes == 2)
            _mm512_store_si512(to + TILE, _mm512_permutexvar_epi16(pairs, s.lo));
    }
}

static void finish_gated_1(const call *c, const void *args, uint64_t j, size_t first, size_t strip)
{
    finish_gated(c, args, j, first + strip, (void *)(c->sums + strip * SUM_BYTES), 1);
}

static void finish_gated_2(const call *c, const void *args, uint64_t j, size_t first, size_t strip)
{
    finish_gated(c, args, j, first + strip, (void *)(c->sums + strip * SUM_BYTES), 2);
}

ALWAYS void gated_planes(const nm_gated_args *a, const int wp, const int xp)
{
    call c = make_call(a->gate, a->j0, a->j1, a->scratch, wp, xp);
    c.step = SIDE;
    c.end = (a->j1 + STEP - 1) / STEP * STEP;
    c.sides[0] = make_side(a->kern, a->gate, wp, 0);
    c.sides[1] = make_side(a->kern, a->up, wp, 0);
    run(&c, a->m, a->xp, NULL, xp == 1 ? finish_gated_1 : finish_gated_2, a, wp, xp);
}

/* ---- panels made beforehand ------------------------------------------------------------------ */

static uint64_t panels_bytes(uint64_t rows, uint64_t cols, int planes)
{
    const uint64_t padded = (rows + NM_PRODUCT_STEP - 1) / NM_PRODUCT_STEP * NM_PRODUCT_STEP;
    return padded / SIDE * tiles_bytes((size_t)cols, planes);
}

static void to_panels(const nm_kern *kern, const nm_mat *w, uint64_t j0, uint64_t j1, char *to,
                      int planes)
{
    const side s = make_side(kern, w, planes, 0);
    const size_t k = (size_t)w->cols, units = (k + UNIT - 1) / UNIT;
    const uint64_t end = (j1 + NM_PRODUCT_STEP - 1) / NM_PRODUCT_STEP * NM_PRODUCT_STEP;
    for (uint64_t j = j0; j < end; j += SIDE) {
        const size_t rows = j < j1 ? nm_min_size(SIDE, (size_t)(j1 - j)) : 0;
        char *strip = to + j / SIDE * tiles_bytes(k, planes);
        for (size_t u = 0; u < units; u++, strip += tiles_bytes(UNIT, planes)) {
            const size_t n = nm_min_size(UNIT, k - u * UNIT);
            zero_rows(strip + 64 * rows, SIDE - rows, n, planes);
            s.unit(s.decode, unit_at(&s, j, u), s.output_bytes, rows, u % s.halves, n, strip);
        }
    }
}

/* ---- the three products -------------------------------------------------------------------- */

static bool takes(uint32_t type)
{
    return nm_type_get(type)->supported;
}

static bool takes_bf16(uint32_t type)
{
    return type == NM_TYPE_BF16;
}

#define PRODUCT(NAME, wp, xp, takes_types)                                                       \
    static size_t NAME##_packed_bytes(size_t m, size_t k)                                        \
    {                                                                                            \
        return strips_of(m) * strip_bytes(k, xp);                                                \
    }                                                                                            \
    static void NAME##_pack(size_t m, size_t k, const float *const *x, size_t i0, size_t i1,     \
                            void *to)                                                            \
    {                                                                                            \
        pack_planes(m, k, x, i0, i1, to, xp);                                                    \
    }                                                                                            \
    static void NAME##_gated(const nm_gated_args *a)                                             \
    {                                                                                            \
        gated_planes(a, wp, xp);                                                                 \
    }                                                                                            \
    static void NAME##_out(const nm_out_args *a)                                                 \
    {                                                                                            \
        out_planes(a, wp, xp);                                                                   \
    }                                                                                            \
    static uint64_t NAME##_panels_bytes(uint64_t rows, uint64_t cols)                            \
    {                                                                                            \
        return panels_bytes(rows, cols, wp);                                                     \
    }                                                                                            \
    static void NAME##_to_panels(const nm_kern *kern, const nm_mat *w, uint64_t j0, uint64_t j1, \
                                 void *to)                                                       \
    {                                                                                            \
        to_panels(kern, w, j0, j1, to, wp);                                                      \
    }                                                                                            \
    const nm_product nm_product_##NAME = {                                                       \
        .name = #NAME,                                                                           \
        .group = SIDE,                                                                           \
        .task = 128,                                                                             \
        .takes = takes_types,                                                                    \
        .packed_bytes = NAME##_packed_bytes,                                                     \
        .pack = NAME##_pack,                                                                     \
        .scratch_bytes = scratch_bytes,                                                          \
        .gated = NAME##_gated,                                                                   \
        .out = NAME##_out,                                                                       \
        .panels_bytes = NAME##_panels_bytes,                                                     \
        .to_panels = NAME##_to_panels,                                                           \
    };

PRODUCT(bf16, 1, 1, takes)
PRODUCT(bf16x2, 1, 2, takes_bf16)
PRODUCT(bf16x3, 2, 2, takes)
