/* product_i8_amx.c: the product on AMX tiles of bytes, near fp32 at twice the rate of bf16x3.
 *
 * TDPBSSD multiplies 16 rows of 64 bytes by 16 columns of as many in the 16 cycles that bf16 needs for
 * half of the inputs. Both operands are integers of 16 bits with one scale per row and 256 inputs (a
 * group: a super-block of the K-quants), in two planes of bytes,
 *
 *   v = 256 hi + lo     x: lo has a sign      W: lo has none (the shortest way to split)
 *
 * and of the four products of planes three are computed: 1.5 tiles of bf16 instead of its 3.
 *
 *   sum W x / 256 = 256 sum hi hi + sum (hi(W) lo(x) + lo(W) hi(x)) + sum lo(W) lo(x) / 256
 *
 * lo(W) is 128 on average, so of the last term sum lo(x) / 2 is added: it belongs to x alone, is packed
 * with it, and is where the second sum starts. What is left out is without bias. Within a group
 * everything is exact in 32 bits:  256 * 256 * 128 * 128 + 256 * (128 * 128 + 255 * 128) < 2^31.
 *
 * Error of a group of n inputs, with X and W the largest of x and of the weights that its scale allows
 * for (i8_amx.inc): x is rounded by X 2^-16, W by W 2^-15, lo lo leaves out at most n X W 2^-16.
 * Measured: 2^-14 of the sum's typical size. Scales per row would do without the flush below, but
 * one outlier of x would then cost bits everywhere.
 *
 * Packed x: strips of 16 rows; in a strip, for each group: 16 scales, 16 sums of lo(x) / 2, and for
 * each 64 inputs a tile per plane, [ k / 4 ] [ 16 rows ] [ 4 inputs ].
 *
 * Blocks: a panel of 32 outputs by one group (panel_amx.inc) meets one strip at a time: two tiles of
 * outputs, two sums each; four tiles are left for operands. After a group the sums of integers are
 * stored and, row by row between the products of the next strip, scaled and added to sums in fp32: the
 * "flush". So are panels decoded. Neither costs the matrix unit time as long as both are less than
 * its 32 operations per product.
 *
 * A row of the inner activations gets one scale per 256 columns, so `gated` computes 256 columns before
 * it packs them: ranges of a network start at multiples of that (gated_step).
 *
 * Bits: an element is, group by group in order, fma(scale(W), float(sum of integers) scale(x), sum).
 */
#include "kernels/products.h"

#include "base/alloc.h"
#include "base/num.h"
#include "kernels/kern.h"
#include "kernels/tmpl/vec.h"

#include "kernels/x86/tiles.inc"

#include "kernels/x86/strips_amx.inc"

#include "kernels/x86/i8_amx.inc"

enum {
    QUADS = STEP / 4, /* rows of a tile of x */
    SLOTS = 4,        /* per 64 inputs: where there is time for something else */
    HALF_BYTES = GROUP / STEP * PLANES * TILE,
    PANEL_BYTES = 2 * HALF_BYTES, /* 32 outputs by a group */
    PANELS = 2,                   /* one in use, one being decoded */
    ROWS = 2 * SIDE,              /* of a panel */
    AHEAD = 2                     /* panels between prefetching and decoding */
};

/* Of 16 rows and one group; its tiles follow. */
typedef struct x_head {
    float scale[SIDE];  /* a 256th of what 1 of v is worth: see pack_scale */
    int32_t rest[SIDE]; /* sum lo / 2 */
} x_head;

enum { GROUP_BYTES = (int)sizeof(x_head) + HALF_BYTES };

/* ---- packed x ------------------------------------------------------------------------------ */

static size_t strip_bytes(size_t k)
{
    const size_t rest = k % GROUP;
    return k / GROUP * GROUP_BYTES +
           (rest ? sizeof(x_head) + (rest + STEP - 1) / STEP * PLANES * TILE : 0);
}

static size_t packed_bytes(size_t m, size_t k)
{
    return strips_of(m) * strip_bytes(k);
}

/* Lanes: rows of x, whose largest number is `most`, plus something that is NaN if one is none. v =
 * x * factor. Numbers below 2^-100 are zeros. The rest of the sums' unit, 2^16, is in W's scale: so
 * neither a sum times scale(x) nor scale(W) leaves the range of fp32 much before the result does. */
VEC __m512 pack_scale(__m512 most, __m512 poison, __m512 *factor)
{
    const __mmask16 some = _mm512_cmp_ps_mask(most, _mm512_set1_ps(0x1p-100f), _CMP_GE_OQ);
    *factor = _mm512_maskz_div_ps(some, _mm512_set1_ps(MAX_V), most);
    __m512 scale = _mm512_maskz_mul_ps(some, most, _mm512_set1_ps(1.0f / (256.0f * MAX_V)));
    return _mm512_add_ps(scale, poison);
}

/* 0, or NaN if a lane is infinite or NaN. */
VEC __m512 poison_of(__m512 v)
{
    return _mm512_mul_ps(v, _mm512_setzero_ps());
}

/* Adds four bytes to each lane. */
VEC __m512i add_bytes(__m512i sum, __m512i bytes)
{
    __m512i pairs = _mm512_maddubs_epi16(_mm512_set1_epi8(1), bytes);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

/* 64 numbers as integers: bytes hi and lo. Dword 4 q + c has inputs 16 c + 4 q .. + 3, as packs
 * leaves them: place_quad undoes it. Adds to the sum of lo. */
VEC void split_row(const __m512 x[4], __m512 factor, __m512i *hi, __m512i *lo, __m512i *sum)
{
    const __m512i low = _mm512_set1_epi16(255), half = _mm512_set1_epi16(128);
    __m512i v[4];
    UNROLL for (int i = 0; i < 4; i++) v[i] = _mm512_cvtps_epi32(_mm512_mul_ps(x[i], factor));
    __m512i a = _mm512_packs_epi32(v[0], v[1]), b = _mm512_packs_epi32(v[2], v[3]);
    *lo = _mm512_packus_epi16(_mm512_and_si512(a, low), _mm512_and_si512(b, low));
    *hi = _mm512_packs_epi16(_mm512_srai_epi16(_mm512_add_epi16(a, half), 8),
                             _mm512_srai_epi16(_mm512_add_epi16(b, half), 8));
    *sum = add_bytes(*sum, *lo);
}

/* Which row of the tile dword d of split_row becomes. */
VEC size_t place_quad(size_t d)
{
    return d % 4 * 4 + d / 4;
}

/* 16 numbers from p on, those beyond k are zeros. */
VEC __m512 load_some(const float *x, size_t p, size_t k)
{
    return p + 16 <= k ? _mm512_loadu_ps(x + p)
                       : _mm512_maskz_loadu_ps(first_lanes(p < k ? k - p : 0), x + p);
}

/* The scales of up to 16 rows of a group of n inputs. */
static __m512 group_scales(const float *const *x, size_t rows, size_t p, size_t k, float *scale)
{
    const size_t end = nm_min_size(p + GROUP, k);
    _Alignas(64) float most[SIDE] = {0}, poison[SIDE] = {0};
    for (size_t r = 0; r < rows; r++) {
        __m512 a = _mm512_setzero_ps(), b = a;
        for (size_t i = p; i < end; i += 16) {
            __m512 v = load_some(x[r], i, k);
            a = _mm512_max_ps(_mm512_abs_ps(v), a); /* of NaN the second operand */
            b = _mm512_add_ps(b, poison_of(v));
        }
        most[r] = _mm512_reduce_max_ps(a);
        poison[r] = _mm512_reduce_add_ps(b);
    }
    __m512 factor;
    _mm512_storeu_ps(scale, pack_scale(_mm512_load_ps(most), _mm512_load_ps(poison), &factor));
    return factor;
}

/* A group of up to 16 rows, from input p on. */
static void pack_group(const float *const *x, size_t rows, size_t p, size_t k, char *to)
{
    x_head *head = (x_head *)(void *)to;
    _Alignas(64) float factor[SIDE];
    _mm512_store_ps(factor, group_scales(x, rows, p, k, head->scale));
    __m512i sums[SIDE];
    for (size_t r = 0; r < SIDE; r++)
        sums[r] = _mm512_setzero_si512();
    to += sizeof *head;
    for (const size_t end = nm_min_size(p + GROUP, k); p < end; p += STEP, to += PLANES * TILE) {
        __m512i hi[SIDE], lo[SIDE];
        for (size_t r = 0; r < rows; r++) {
            __m512 v[4];
            UNROLL for (size_t i = 0; i < 4; i++) v[i] = load_some(x[r], p + 16 * i, k);
            split_row(v, _mm512_set1_ps(factor[r]), &hi[r], &lo[r], &sums[r]);
        }
        for (size_t r = rows; r < SIDE; r++)
            hi[r] = lo[r] = _mm512_setzero_si512();
        transpose(hi);
        transpose(lo);
        for (size_t d = 0; d < QUADS; d++) {
            _mm512_store_si512(to + 64 * place_quad(d), hi[d]);
            _mm512_store_si512(to + TILE + 64 * place_quad(d), lo[d]);
        }
    }
    for (size_t r = 0; r < SIDE; r++)
        head->rest[r] = _mm512_reduce_add_epi32(sums[r]) >> 1;
}

static void pack(size_t m, size_t k, const float *const *x, size_t i0, size_t i1, void *xp)
{
    (void)m;
    for (size_t i = i0; i < i1; i += SIDE) {
        char *to = (char *)xp + i / SIDE * strip_bytes(k);
        for (size_t p = 0; p < k; p += GROUP, to += GROUP_BYTES)
            pack_group(x + i, nm_min_size(SIDE, i1 - i), p, k, to);
    }
}

/* ---- a call -------------------------------------------------------------------------------- */

/* The two tile rows of a panel: for `out` both of one matrix, for `gated` one of each. */
typedef struct side {
    const nm_mat *w;
    unit_fn *unit;
    decode_fn *decode;
    size_t unit_bytes;
    size_t output_bytes; /* from an output to the next */
    uint64_t first;      /* its first output, after the panel's */
} side;

typedef struct call {
    side sides[2];
    uint64_t step;   /* outputs of a panel: 32 or 16 */
    uint64_t j0, j1; /* outputs */
    size_t k;
    const char *x;
    size_t strip_bytes;
    char *panels, *sums;
} call;

static bool next_place(const call *c, place *at)
{
    at->k0 += GROUP;
    if (at->k0 < c->k)
        return true;
    at->k0 = 0;
    at->j += c->step;
    return at->j < c->j1;
}

/* ---- decoding ------------------------------------------------------------------------------ */

/* Panels made beforehand: for each 16 outputs, for each group, a block: 16 scales, then what a panel has of
 * them, of a short last group as many tiles as it needs. Outputs are padded with zeros to a multiple of
 * NM_PRODUCT_STEP. */
enum { HEAD_BYTES = SIDE * (int)sizeof(float) };

static size_t tiles_bytes(size_t n)
{
    return (n + STEP - 1) / STEP * PLANES * TILE;
}

/* Of 16 outputs. */
static size_t w_strip_bytes(size_t k)
{
    const size_t rest = k % GROUP;
    return k / GROUP * (HEAD_BYTES + HALF_BYTES) + (rest ? HEAD_BYTES + tiles_bytes(rest) : 0);
}

static void fetch_unit(const span *r, const char *src, size_t rows, char *to, float *scales)
{
    (void)to;
    (void)scales;
    for (size_t i = 0; i < rows * r->row_bytes; i += 64)
        _mm_prefetch(src + i, _MM_HINT_T0);
}

/* A panel being decoded, row by row, and how far it is. Rows come one at a time: two in one go fill
 * the processor's window, and the tiles behind them wait. */
typedef struct feed {
    span spans[2];
    char *panel;
    float *scales;
    size_t row; /* the next one */
    size_t due; /* see feed_share */
} feed;

/* Where an output's unit is; of panels: where the block of 16 is. */
static const char *unit_at(const side *s, uint64_t j, size_t k0)
{
    return (const char *)s->w->data + j * s->output_bytes + k0 / GROUP * s->unit_bytes;
}

/* Up to 16 outputs from j on, a group of each. */
static span span_at(const side *s, uint64_t j, uint64_t j1, size_t k0)
{
    return (span){.unit = s->unit,
                  .decode = s->decode,
                  .src = unit_at(s, j, k0),
                  .row_bytes = s->output_bytes,
                  .n = nm_min_size(GROUP, (size_t)s->w->cols - k0),
                  .rows = j < j1 ? nm_min_size(SIDE, (size_t)(j1 - j)) : 0};
}

/* Nothing to decode: the next panel is asked for, one line after the other. */
static span span_of_panels(const side *s, uint64_t j, size_t k0)
{
    const size_t n = nm_min_size(GROUP, (size_t)s->w->cols - k0);
    return (span){.unit = fetch_unit,
                  .src = unit_at(s, j, k0) + HEAD_BYTES,
                  .row_bytes = tiles_bytes(n) / SIDE,
                  .n = n,
                  .rows = SIDE};
}

/* Distance in bytes from a row's unit to the one that will be decoded AHEAD panels later; 0 = none. */
static size_t distance_ahead(const call *c, const side *s, place at)
{
    const uint64_t j = at.j;
    for (int i = 0; i < AHEAD; i++)
        if (!next_place(c, &at))
            return 0;
    if (at.j + s->first + SIDE > s->w->rows)
        return 0;
    return (size_t)(at.j - j) * s->output_bytes + at.k0 / GROUP * s->unit_bytes;
}

static void start_feed(feed *f, const call *c, place at, char *panel, float *scales)
{
    *f = (feed){.panel = panel, .scales = scales};
    for (size_t t = 0; t < 2; t++) {
        const side *s = &c->sides[t];
        const uint64_t j = at.j + s->first;
        const size_t ahead = distance_ahead(c, s, at);
        span *r = &f->spans[t];
        *r = s->w->panels_of ? span_of_panels(s, j, at.k0) : span_at(s, j, c->j1, at.k0);
        r->ahead = ahead ? ahead - at.k0 / GROUP * s->unit_bytes : 0;
        r->ahead_bytes = ahead == 0 ? 0 : s->w->panels_of ? r->row_bytes : s->unit_bytes;
        if (s->w->panels_of) {
            const char *head = unit_at(s, j, at.k0);
            _mm_prefetch(head + r->ahead, _MM_HINT_T1);
            memcpy(scales + t * SIDE, head, HEAD_BYTES);
        } else if (r->rows < SIDE) { /* what lies there may be no number */
            memset(panel + t * HALF_BYTES, 0, HALF_BYTES);
            memset(scales + t * SIDE, 0, SIDE * sizeof *scales);
        }
    }
}

ALWAYS void feed_row(feed *f)
{
    const size_t t = f->row / SIDE, row = f->row % SIDE;
    const span *r = &f->spans[t];
    f->row++;
    if (row >= r->rows)
        return;
    const char *src = r->src + row * r->row_bytes;
    for (size_t i = 0; i < r->ahead_bytes; i += 64)
        _mm_prefetch(src + r->ahead + i, _MM_HINT_T1);
    r->unit(r, src, 1, f->panel + t * HALF_BYTES + 64 * row, f->scales + t * SIDE + row);
}

/* One of `shares` equal parts of the panel, or nothing if they are many. */
ALWAYS void feed_share(feed *f, size_t shares)
{
    f->due += ROWS;
    if (f->due < shares || f->row == ROWS)
        return;
    f->due -= shares;
    feed_row(f);
}

static void feed_rest(feed *f)
{
    while (f->row < ROWS)
        feed_row(f);
}

/* ---- sums of integers to sums in fp32 ------------------------------------------------------ */

typedef struct run_state run_state;
/* What becomes of the sums of a strip; strip counts from the first one of the round. */
typedef void finish_fn(const run_state *run, uint64_t j, size_t strip);

/* The sums of one strip with one panel, stored and not yet added. */
typedef struct flush {
    const int32_t *from; /* tiles: hi hi and the rest of the first 16 outputs, of the second 16 */
    float *to;
    const float *x_scale, *w_scale;
    __mmask16 old; /* 0 with the first group: there is no sum yet */
    bool ends;     /* the last group */
    uint64_t j;    /* where it belongs */
    size_t strip;
} flush;

/* Outputs row, row + 1, .. of 32; all in one tile. */
ALWAYS void flush_rows(const flush *f, size_t row, const size_t n)
{
    const int32_t *hi = f->from + row / SIDE * (2 * SIDE * SIDE) + row % SIDE * SIDE;
    const float *w = f->w_scale + row;
    float *to = f->to + row * SIDE;
    const __m512 x = _mm512_loadu_ps(f->x_scale);
    const __mmask16 old = f->old;
    for (size_t i = 0; i < n; i++, hi += SIDE, to += SIDE) {
        __m512i sum = _mm512_slli_epi32(_mm512_load_si512(hi), 8);
        sum = _mm512_add_epi32(sum, _mm512_load_si512(hi + SIDE * SIDE));
        __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), x);
        v = _mm512_fmadd_ps(v, _mm512_set1_ps(w[i]), _mm512_maskz_load_ps(old, to));
        _mm512_store_ps(to, v);
    }
}

/* ---- products ------------------------------------------------------------------------------ */

struct run_state {
    const call *c;
    const void *args;
    finish_fn *finish;
    expect_fn *expect;
    size_t first, strips; /* of the round */
    feed feed;
    flush flush;
    int32_t *tiles; /* what flush reads */
    float *nowhere; /* as much as a strip's sums */
    float *scales;  /* of W: of the panel before, of both */
    float *h;       /* gated: [strip][256][16] */
};

#define LOAD(tile, from)      _tile_loadd(tile, from, 64)
#define STREAM(tile, from)    _tile_stream_loadd(tile, from, 64)
#define STORE(tile, to)       _tile_stored(tile, to, 64)
#define MULTIPLY_S(sum, w, x) _tile_dpbssd(sum, w, x)
#define MULTIPLY_U(sum, w, x) _tile_dpbusd(sum, w, x)

/* Two rows are flushed and a share of the next panel is decoded. */
ALWAYS void slot(run_state *run, size_t row, size_t shares)
{
    flush_rows(&run->flush, row, 2);
    feed_share(&run->feed, shares);
}

static tile_pair tiles_of(const call *c, place at, const char *panel)
{
    tile_pair h;
    for (size_t t = 0; t < 2; t++) {
        const side *s = &c->sides[t];
        h.w[t] = s->w->panels_of ? unit_at(s, at.j + s->first, at.k0) + HEAD_BYTES
                                 : panel + t * HALF_BYTES;
    }
    return h;
}

/* 64 inputs. Tiles 0, 2: hi hi of either 16 outputs; 1, 3: what meets a lo. A product waits 52 cycles
 * for the one before it on its sum, so these take turns. Meanwhile 8 outputs from row on are flushed. */
ALWAYS void multiply_step(const char *w, const char *w1, const char *x, run_state *run, size_t row,
                          size_t shares)
{
    STREAM(6, x);
    LOAD(4, w);
    MULTIPLY_S(0, 4, 6);
    LOAD(5, w + TILE);
    MULTIPLY_U(1, 5, 6);
    slot(run, row, shares);
    LOAD(7, w1);
    MULTIPLY_S(2, 7, 6);
    LOAD(5, w1 + TILE);
    MULTIPLY_U(3, 5, 6);
    slot(run, row + 2, shares);
    STREAM(6, x + TILE);
    MULTIPLY_S(1, 4, 6);
    slot(run, row + 4, shares);
    MULTIPLY_S(3, 7, 6);
    slot(run, row + 6, shares);
}

/* The rows that the steps of a short group have left. */
static void flush_end(run_state *run, size_t row)
{
    flush *f = &run->flush;
    for (; row < 2 * SIDE; row += 2)
        flush_rows(f, row, 2);
    if (f->ends)
        run->finish(run, f->j, f->strip);
    f->ends = false;
}

/* Strip s over a panel; then what is left of the strip before. */
static void multiply_strip(run_state *run, tile_pair panel, const float *w_scales, place at,
                           size_t s, size_t shares)
{
    const call *c = run->c;
    const size_t steps = (nm_min_size(GROUP, c->k - at.k0) + STEP - 1) / STEP;
    const char *x = c->x + s * c->strip_bytes + at.k0 / GROUP * GROUP_BYTES;
    const x_head *head = (const void *)x;
    x += sizeof *head;
    _tile_zero(0);
    _tile_loadd(1, head->rest, 0); /* the same row 16 times */
    _tile_zero(2);
    _tile_loadd(3, head->rest, 0);
    for (size_t i = 0; i < steps; i++) {
        const size_t at_step = i * PLANES * TILE;
        multiply_step(panel.w[0] + at_step, panel.w[1] + at_step, x + at_step, run, 8 * i, shares);
    }
    flush_end(run, 8 * steps);
    STORE(0, run->tiles);
    STORE(1, run->tiles + SIDE * SIDE);
    STORE(2, run->tiles + 2 * SIDE * SIDE);
    STORE(3, run->tiles + 3 * SIDE * SIDE);
    settle(run->tiles);
    run->flush = (flush){.from = run->tiles,
                         .to = (float *)(void *)(c->sums + s * SUM_BYTES),
                         .x_scale = head->scale,
                         .w_scale = w_scales,
                         .old = at.k0 == 0 ? 0 : 0xffff,
                         .ends = at.k0 + GROUP >= c->k,
                         .j = at.j,
                         .strip = s};
    if (run->flush.ends && run->expect && s % 2 == 0) /* for two strips */
        run->expect(run->args, at.j, run->first, s);
}

/* All weights meet the strips of a round. */
static void run_round(run_state *run)
{
    const call *c = run->c;
    place at = {c->j0, 0};
    char *panel = c->panels, *other = panel + PANEL_BYTES;
    float *scales[3] = {run->scales, run->scales + 2 * SIDE, run->scales + 4 * SIDE};
    /* Nothing waits: what is flushed goes nowhere. */
    run->flush = (flush){
        .from = run->tiles, .to = run->nowhere, .x_scale = run->scales, .w_scale = run->scales};
    start_feed(&run->feed, c, at, panel, scales[0]);
    for (bool more = true; more;) {
        feed_rest(&run->feed);
        const place now = at;
        more = next_place(c, &at);
        if (more)
            start_feed(&run->feed, c, at, other, scales[1]);
        settle(panel);
        const tile_pair w = tiles_of(c, now, panel);
        const size_t inputs = nm_min_size(GROUP, c->k - now.k0);
        const size_t shares = run->strips * ((inputs + STEP - 1) / STEP) * SLOTS;
        for (size_t s = 0; s < run->strips; s++)
            multiply_strip(run, w, scales[0], now, s, shares);
        char *t = panel;
        panel = other;
        other = t;
        float *used = scales[0]; /* until the last strip has been flushed */
        scales[0] = scales[1];
        scales[1] = scales[2];
        scales[2] = used;
    }
    flush_end(run, 0);
}

static void run_all(run_state *run, call *c, size_t m, const void *xp)
{
    const size_t strips = strips_of(m);
    if (strips == 0 || c->j0 >= c->j1)
        return;
    const size_t most = strips_of_round(strips, c->strip_bytes);
    run->c = c;
    tiles_on();
    for (size_t s = 0; s < strips; s += most) {
        c->x = (const char *)xp + s * c->strip_bytes;
        run->first = s;
        run->strips = nm_min_size(most, strips - s);
        run_round(run);
    }
    _tile_release();
}

/* ---- scratch ------------------------------------------------------------------------------- */

enum {
    TILES_BYTES = 4 * TILE,
    SCALES_BYTES = 3 * 2 * SIDE * (int)sizeof(float),
    H_STRIP = GROUP * SIDE, /* floats */
    SCRATCH_BYTES = PANELS * PANEL_BYTES + TILES_BYTES + SUM_BYTES + SCALES_BYTES +
                    MAX_STRIPS * (SUM_BYTES + H_STRIP * (int)sizeof(float))
};

static size_t scratch_bytes(size_t max_k)
{
    (void)max_k;
    return SCRATCH_BYTES;
}

static side make_side(const nm_kern *kern, const nm_mat *w, uint64_t first)
{
    const nm_type_traits *t = nm_type_get(w->type);
    if (w->panels_of)
        return (side){.w = w,
                      .unit_bytes = HEAD_BYTES + HALF_BYTES,
                      .output_bytes = w_strip_bytes((size_t)w->cols) / SIDE,
                      .first = first};
    return (side){.w = w,
                  .unit = unit_for(w->type),
                  .decode = kern->decode[w->type],
                  .unit_bytes = GROUP / t->block_elems * t->block_bytes,
                  .output_bytes = (size_t)w->row_bytes,
                  .first = first};
}

static call make_call(const nm_mat *w, uint64_t j0, uint64_t j1, void *scratch, run_state *run)
{
    const size_t k = (size_t)w->cols;
    char *tiles = (char *)scratch + PANELS * PANEL_BYTES, *nowhere = tiles + TILES_BYTES;
    char *scales = nowhere + SUM_BYTES, *sums = scales + SCALES_BYTES;
    run->tiles = (int32_t *)(void *)tiles;
    run->nowhere = (float *)(void *)nowhere;
    run->scales = (float *)(void *)scales;
    run->h = (float *)(void *)(sums + MAX_STRIPS * SUM_BYTES);
    return (call){
        .j0 = j0, .j1 = j1, .k = k, .strip_bytes = strip_bytes(k), .panels = scratch, .sums = sums};
}

/* ---- y (+)= weight * (x W^T + bias) -------------------------------------------------------- */

static void finish_out(const run_state *run, uint64_t j, size_t strip)
{
    const call *c = run->c;
    const float *sums = (const void *)(c->sums + strip * SUM_BYTES);
    put_out(run->args, j, c->j1, (run->first + strip) * SIDE, sums);
    put_out(run->args, j + SIDE, c->j1, (run->first + strip) * SIDE, sums + SIDE * SIDE);
}

static void out(const nm_out_args *a)
{
    run_state run = {.args = a, .finish = finish_out, .expect = expect_out};
    call c = make_call(a->w, a->j0, a->j1, a->scratch, &run);
    c.step = 2 * SIDE;
    c.sides[0] = make_side(a->kern, a->w, 0);
    c.sides[1] = make_side(a->kern, a->w, SIDE);
    run_all(&run, &c, a->m, a->xp);
}

/* ---- hp = act(x Wgate^T) * (x Wup^T) ------------------------------------------------------- */

/* Four inputs of 16 rows as integers: a row of the tiles hi and lo. Adds to the sum of lo. */
VEC __m512i put_quad(const float *h, __m512 factor, char *to, __m512i sum)
{
    const __m512i low = _mm512_set4_epi32(0x0e0c0e0c, 0x0a080a08, 0x06040604, 0x02000200);
    const __m512i high = _mm512_set4_epi32(0x0f0d0f0d, 0x0b090b09, 0x07050705, 0x03010301);
    const __m512i half = _mm512_set1_epi16(128);
    const __mmask64 upper = 0xcccccccccccccccc; /* bytes 2, 3 of a dword */
    __m512i v[4];
    UNROLL for (int i = 0; i < 4; i++) v[i] =
        _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(h + SIDE * i), factor));
    __m512i a = _mm512_mask_blend_epi16(0xaaaaaaaa, v[0], _mm512_slli_epi32(v[1], 16));
    __m512i b = _mm512_mask_blend_epi16(0xaaaaaaaa, v[2], _mm512_slli_epi32(v[3], 16));
    __m512i lo = _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(a, low), upper, b, low);
    a = _mm512_add_epi16(a, half);
    b = _mm512_add_epi16(b, half);
    __m512i hi = _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(a, high), upper, b, high);
    _mm512_store_si512(to, hi);
    _mm512_store_si512(to + TILE, lo);
    return add_bytes(sum, lo);
}

/* n columns of h, a group, are complete. */
static void pack_inner(float *h, size_t n, char *to)
{
    x_head *head = (x_head *)(void *)to;
    const size_t padded = (n + STEP - 1) / STEP * STEP;
    memset(h + n * SIDE, 0, (padded - n) * SIDE * sizeof *h);
    __m512 most = _mm512_setzero_ps(), poison = most, factor;
    for (size_t i = 0; i < n; i++) {
        __m512 v = _mm512_load_ps(h + SIDE * i);
        most = _mm512_max_ps(_mm512_abs_ps(v), most); /* of NaN the second operand */
        poison = _mm512_add_ps(poison, poison_of(v));
    }
    _mm512_storeu_ps(head->scale, pack_scale(most, poison, &factor));
    __m512i sum = _mm512_setzero_si512();
    to += sizeof *head;
    for (size_t i = 0; i < padded; i += STEP, to += PLANES * TILE)
        for (size_t q = 0; q < QUADS; q++)
            sum = put_quad(h + SIDE * (i + 4 * q), factor, to + 64 * q, sum);
    _mm512_storeu_si512(head->rest, _mm512_srai_epi32(sum, 1));
}

static void finish_gated(const run_state *run, uint64_t j, size_t strip)
{
    const nm_gated_args *a = run->args;
    const call *c = run->c;
    float *gate = (float *)(void *)(c->sums + strip * SUM_BYTES), *up = gate + SIDE * SIDE;
    const size_t n = nm_min_size(SIDE, (size_t)(c->j1 - j)), column = (size_t)(j % GROUP);
    activate(a, j, n, gate, up);
    float *h = run->h + strip * H_STRIP;
    memcpy(h + column * SIDE, gate, n * SIDE * sizeof *h);
    if (column + SIDE < GROUP && j + SIDE < c->j1)
        return;
    char *row = (char *)a->hp + (run->first + strip) * strip_bytes((size_t)a->gate->rows);
    pack_inner(h, column + n, row + j / GROUP * GROUP_BYTES);
}

static void gated(const nm_gated_args *a)
{
    run_state run = {.args = a, .finish = finish_gated};
    call c = make_call(a->gate, a->j0, a->j1, a->scratch, &run);
    c.step = SIDE;
    c.sides[0] = make_side(a->kern, a->gate, 0);
    c.sides[1] = make_side(a->kern, a->up, 0);
    run_all(&run, &c, a->m, a->xp);
}

/* ---- panels made beforehand ----------------------------------------------------------------- */

static uint64_t panels_bytes(uint64_t rows, uint64_t cols)
{
    const uint64_t padded = (rows + NM_PRODUCT_STEP - 1) / NM_PRODUCT_STEP * NM_PRODUCT_STEP;
    return padded / SIDE * w_strip_bytes((size_t)cols);
}

/* A block. */
static void decode_block(const span *r, char *to)
{
    _Alignas(64) char tiles[HALF_BYTES];
    _Alignas(64) float scales[SIDE] = {0};
    if (r->rows < SIDE)
        memset(tiles, 0, sizeof tiles);
    for (size_t row = 0; row < r->rows; row += 2)
        r->unit(r, r->src + row * r->row_bytes, nm_min_size(2, r->rows - row), tiles + 64 * row,
                scales + row);
    memcpy(to, scales, HEAD_BYTES);
    memcpy(to + HEAD_BYTES, tiles, tiles_bytes(r->n));
}

static void to_panels(const nm_kern *kern, const nm_mat *w, uint64_t j0, uint64_t j1, void *to)
{
    const side s = make_side(kern, w, 0);
    const size_t k = (size_t)w->cols;
    const uint64_t end = (j1 + NM_PRODUCT_STEP - 1) / NM_PRODUCT_STEP * NM_PRODUCT_STEP;
    for (uint64_t j = j0; j < end; j += SIDE) {
        char *block = (char *)to + j / SIDE * w_strip_bytes(k);
        for (size_t k0 = 0; k0 < k; k0 += GROUP, block += HEAD_BYTES + HALF_BYTES) {
            const span r = span_at(&s, j, j1, k0);
            decode_block(&r, block);
        }
    }
}

const nm_product nm_product_i8x3 = {
    .name = "i8x3",
    .group = SIDE,
    .task = GROUP,
    .gated_step = GROUP,
    .takes = takes,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .gated = gated,
    .out = out,
    .panels_bytes = panels_bytes,
    .to_panels = to_panels,
};
