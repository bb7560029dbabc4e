/* attend_amx.c: a task of attention on the matrix unit (AMX, bf16 products, fp32 sums).
 *
 * Everything is transposed, so that queries are lanes and no sum or maximum runs across a vector:
 *
 *   S^T [keys][rows] = K Q^T           softmax runs down the keys, 16 rows at a time
 *   O^T [dims][rows] += V^T P^T        P^T as the softmax leaves it is the second operand at once
 *
 *   tile A: 16 rows of 32 bf16         K: keys x dims         V^T: dims x keys
 *   tile B: 16 rows of 16 pairs        Q^T: pairs of dims x rows     P^T: pairs of keys x rows
 *   tile C: 16 x 16 fp32
 *
 * A block of NM_ATTEND_KEYS positions, aligned to absolute positions, is packed once for the task;
 * then every column of 32 rows meets it: scores, softmax step, values. The matrix unit works beside the
 * vector units, so a column's exponentials are computed between the products that make the next column's
 * scores (hence two S). Tiles lie in memory in the
 * order in which the products read them, 1 KiB each:
 *
 *   K [key pair-tile][dim step][plane][2]     Q [column][dim step][plane][2]
 *   V [dim pair-tile][key step][plane][2]     P [key step][plane][2]
 *   S [2][key][32]                            O [column][dim][32]
 *
 * Precision. bf16 has 8 bits, K and V in F16 11, and routers of MoE models are sensitive, so each
 * number is two planes, hi = bf16(x) and lo = bf16(x - hi): 16 bits and more, exact for F16. A
 * product is three: hi hi + lo hi + hi lo; what is left out is 2^-18 of it. nm_attend.fine chooses
 * that or hi hi alone.
 *
 * The scale of the scores and log2 e are multiplied into q, so the exponential is one of base 2.
 * The maximum of a row moves only when a block exceeds it by more than SLACK: exponentials of up
 * to 2^SLACK cost nothing in floating point, and O is nearly never scaled again.
 *
 * Invariants. A row's result depends on the positions it sees only: masked scores become -Inf and
 * their exponentials 0, whose products add 0; what is not finite in V is packed as 0 and added by
 * hand to the rows that see it, as 0 * Inf would be NaN. Blocks start at multiples of their size,
 * so the chunk a row came in changes nothing either.
 *
 * Why transposed: with lanes along the keys, each row needs a horizontal maximum and sum, and P
 * (fp32, row-major) one more pass to become an operand. The price is that V is transposed while it
 * is packed, once per block and task. Sources: Intel Architecture Instruction Set Extensions
 * Reference, chapter 3 (AMX); Milakov & Gimelshein 2018 (online softmax), Dao 2022 (blocks). */
#include "kernels/attend.h"
#include "kernels/tmpl/vec.h"

#include "kernels/x86/tiles.inc"

enum {
    LANES = 16,                /* rows of a tile's second operand, floats of a vector */
    STEP = 32,                 /* bf16 in a row of the first operand */
    COLUMN = NM_ATTEND_COLUMN, /* rows of the task that are together: two tiles */
    KEYS = NM_ATTEND_KEYS,     /* positions of a block */
    TILE = LANES * STEP,       /* bf16 in a tile */
    QUAD = 4 * TILE,           /* two planes of two tiles */
    KEY_STEPS = KEYS / STEP
};

static const float SLACK = 8;

typedef struct work {
    const nm_attend *task;
    size_t rows, columns;
    size_t steps_k, steps_v; /* STEPs in a key, in a value */
    uint16_t *q, *k, *v, *p;
    float *s, *o;
    float *max, *sum;      /* of the rows; max in units of log2 */
    uint32_t *first, *end; /* what a row sees, counted from `base` */
    size_t base;           /* of the first block */
    bool v_not_finite;     /* the packed block left something out */
} work;

/* ---- tiles --------------------------------------------------------------------------------- */

enum { C_STRIDE = COLUMN * sizeof(float) };

VEC void load_a(const uint16_t *at)
{
    _tile_loadd(4, at, 64);
    _tile_loadd(5, at + TILE, 64);
}

VEC void load_b(const uint16_t *at, bool two)
{
    _tile_loadd(6, at, 64);
    if (two)
        _tile_loadd(7, at + TILE, 64);
}

VEC void multiply_loaded(bool two)
{
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(2, 5, 6);
    if (two) {
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
}

/* ---- numbers ------------------------------------------------------------------------------- */

typedef struct planes {
    __m512 hi, lo; /* bf16 in the upper halves; what is below counts for nothing in lo */
} planes;

/* hi to nearest, so that lo is as likely negative as positive and cutting it favours no side. */
VEC planes split(__m512 x)
{
    __m512i bits = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
    __m512 hi = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(-0x10000)));
    return (planes){hi, _mm512_sub_ps(x, hi)};
}

/* bf16 of a in the lower, of b in the upper halves. A row of 32 numbers becomes the pairs (0, 16),
 * (1, 17), ...: the order of a sum's terms is free as long as both operands have the same. */
VEC __m512i pair(__m512 a, __m512 b)
{
    __m512i low = _mm512_srli_epi32(_mm512_castps_si512(a), 16);
    __m512i high = _mm512_castps_si512(b);
    const __m512i upper = _mm512_set1_epi32(-0x10000);
    return _mm512_ternarylogic_epi32(low, high, upper, 0xf8); /* low | (high & upper) */
}

/* 2^x, relative error below 2e-7; -Inf gives 0, NaN NaN. */
VEC __m512 exp2_of(__m512 x)
{
    __m512 r = _mm512_reduce_ps(x, 0); /* x - round(x) */
    __m512 p = _mm512_set1_ps(0x1.5c08e6p-10f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.3d0c52p-7f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.c6b6e4p-5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.ebf918p-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.62e428p-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, _mm512_sub_ps(x, r)); /* Inf - NaN cannot meet: r is 0 there */
}

/* Transposes 16 x 16 words of 32 bits. */
VEC void transpose(__m512i x[16])
{
    __m512i t[16];
    UNROLL
    for (int i = 0; i < 16; i += 4) {
        __m512i a = _mm512_unpacklo_epi32(x[i], x[i + 1]),
                b = _mm512_unpackhi_epi32(x[i], x[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(x[i + 2], x[i + 3]);
        __m512i d = _mm512_unpackhi_epi32(x[i + 2], x[i + 3]);
        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88);
        __m512i b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
        __m512i c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
        __m512i d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
        x[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        x[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        x[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        x[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

VEC __mmask16 lanes(size_t n)
{
    return (__mmask16)(n >= LANES ? 0xffffu : (1u << n) - 1);
}

/* ---- rows of the cache --------------------------------------------------------------------- */

/* Numbers at .. at + 15 of a row that has n; 0 beyond. */
VEC __m512 load_f32(const char *row, size_t at, size_t n)
{
    return at < n ? _mm512_maskz_loadu_ps(lanes(n - at), row + 4 * at) : _mm512_setzero_ps();
}

VEC __m512 load_f16(const char *row, size_t at, size_t n)
{
    if (at >= n)
        return _mm512_setzero_ps();
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes(n - at), row + 2 * at));
}

VEC __m512 load_q8_0(const char *row, size_t at, size_t n)
{
    if (at >= n)
        return _mm512_setzero_ps();
    const nm_block_q8_0 *b = (const nm_block_q8_0 *)(const void *)row + at / NM_QK;
    uint16_t half;
    memcpy(&half, &b->d, sizeof half);
    __m512i q = _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(b->qs + at % NM_QK)));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(q), _mm512_set1_ps(_cvtsh_ss(half)));
}

VEC __m512 load(uint32_t type, const char *row, size_t at, size_t n)
{
    return type == NM_TYPE_F16    ? load_f16(row, at, n)
           : type == NM_TYPE_Q8_0 ? load_q8_0(row, at, n)
                                  : load_f32(row, at, n);
}

/* Rows 0 .. n-1 are there, the others 0. */
typedef struct panel {
    const char *data;
    size_t stride, n, dim;
} panel;

static panel panel_of(const nm_kv_view *view, uint32_t head, size_t at, size_t end, size_t dim)
{
    const char *data = (const char *)view->data + head * view->head_bytes + at * view->pos_bytes;
    return (panel){data, view->pos_bytes, nm_min_size(KEYS, end - at), dim};
}

VEC void pack_keys_of(uint32_t type, const panel *from, size_t steps, uint16_t *to)
{
    for (size_t key = 0; key < KEYS; key++) {
        const char *row = from->data + key * from->stride;
        uint16_t *at = to + key / 32 * steps * QUAD + key / 16 % 2 * TILE + key % 16 * STEP;
        for (size_t i = 0; i < steps; i++, at += QUAD) {
            planes a = {_mm512_setzero_ps(), _mm512_setzero_ps()}, b = a;
            if (key < from->n) {
                a = split(load(type, row, i * STEP, from->dim));
                b = split(load(type, row, i * STEP + LANES, from->dim));
            }
            _mm512_store_si512(at, pair(a.hi, b.hi));
            _mm512_store_si512(at + 2 * TILE, pair(a.lo, b.lo));
        }
    }
}

static void pack_keys(work *w, size_t at, size_t end)
{
    const nm_kv_view *view = &w->task->args->k;
    panel from = panel_of(view, w->task->kv_head, at, end, w->task->args->dim_k);
    if (view->type == NM_TYPE_F16)
        pack_keys_of(NM_TYPE_F16, &from, w->steps_k, w->k);
    else if (view->type == NM_TYPE_Q8_0)
        pack_keys_of(NM_TYPE_Q8_0, &from, w->steps_k, w->k);
    else
        pack_keys_of(NM_TYPE_F32, &from, w->steps_k, w->k);
}

/* 16 dims from `dim` on of 32 keys from `key` on: a tile of each plane. True when something in it
 * is not finite; with `clean`, that becomes 0. */
VEC bool pack_values_tile(uint32_t type, const panel *from, size_t key, size_t dim, bool clean,
                          uint16_t *to)
{
    __m512i hi[16], lo[16];
    __m512 check = _mm512_setzero_ps(); /* 0 * x: NaN for what is not finite */
    UNROLL
    for (size_t i = 0; i < 16; i++) {
        planes x[2];
        UNROLL
        for (size_t j = 0; j < 2; j++) {
            size_t at = key + 2 * i + j;
            __m512 v = _mm512_setzero_ps();
            if (at < from->n)
                v = load(type, from->data + at * from->stride, dim, from->dim);
            if (clean)
                v = _mm512_mask_mov_ps(v, _mm512_fpclass_ps_mask(v, 0x99), _mm512_setzero_ps());
            check = _mm512_fmadd_ps(v, _mm512_setzero_ps(), check);
            x[j] = split(v);
        }
        hi[i] = pair(x[0].hi, x[1].hi);
        lo[i] = pair(x[0].lo, x[1].lo);
    }
    transpose(hi);
    transpose(lo);
    UNROLL
    for (size_t i = 0; i < 16; i++) {
        _mm512_store_si512(to + i * STEP, hi[i]);
        _mm512_store_si512(to + 2 * TILE + i * STEP, lo[i]);
    }
    return _mm512_cmp_ps_mask(check, check, _CMP_UNORD_Q) != 0;
}

VEC bool pack_values_of(uint32_t type, const panel *from, size_t steps, bool clean, uint16_t *to)
{
    bool bad = false;
    for (size_t d = 0; d < steps; d++)
        for (size_t s = 0; s < KEY_STEPS; s++, to += QUAD) {
            bad |= pack_values_tile(type, from, s * STEP, d * STEP, clean, to);
            bad |= pack_values_tile(type, from, s * STEP, d * STEP + LANES, clean, to + TILE);
        }
    return bad;
}

static void pack_values(work *w, size_t at, size_t end)
{
    const nm_kv_view *view = &w->task->args->v;
    panel from = panel_of(view, w->task->kv_head, at, end, w->task->args->dim_v);
    if (view->type == NM_TYPE_F16)
        w->v_not_finite = pack_values_of(NM_TYPE_F16, &from, w->steps_v, false, w->v);
    else if (view->type == NM_TYPE_Q8_0)
        w->v_not_finite = pack_values_of(NM_TYPE_Q8_0, &from, w->steps_v, false, w->v);
    else
        w->v_not_finite = pack_values_of(NM_TYPE_F32, &from, w->steps_v, false, w->v);
    if (w->v_not_finite)
        pack_values_of(view->type, &from, w->steps_v, true, w->v);
}

/* ---- rows of the task ---------------------------------------------------------------------- */

static size_t query_of(const work *w, size_t row)
{
    return w->task->query0 + row / w->task->heads;
}

static size_t head_of(const work *w, size_t row)
{
    return w->task->head0 + row % w->task->heads;
}

/* 16 rows from `row` on, scaled; rows that are not there are zeros. */
static void pack_queries_tile(const work *w, size_t row, size_t step, uint16_t *to)
{
    const nm_attention_args *a = w->task->args;
    const __m512 scale = _mm512_set1_ps(a->scale * 0x1.715476p+0f);
    __m512i hi[16], lo[16];
    UNROLL
    for (size_t i = 0; i < 16; i++) {
        hi[i] = lo[i] = _mm512_setzero_si512();
        if (row + i >= w->rows)
            continue;
        const float *q = a->q + (query_of(w, row + i) * a->n_head + head_of(w, row + i)) * a->dim_k;
        const char *from = (const char *)q;
        planes x = split(_mm512_mul_ps(load_f32(from, step * STEP, a->dim_k), scale));
        planes y = split(_mm512_mul_ps(load_f32(from, step * STEP + LANES, a->dim_k), scale));
        hi[i] = pair(x.hi, y.hi);
        lo[i] = pair(x.lo, y.lo);
    }
    transpose(hi);
    transpose(lo);
    UNROLL
    for (size_t i = 0; i < 16; i++) {
        _mm512_store_si512(to + i * STEP, hi[i]);
        _mm512_store_si512(to + 2 * TILE + i * STEP, lo[i]);
    }
}

static void begin(work *w)
{
    const nm_attend *t = w->task;
    const nm_attention_args *a = t->args;
    uint16_t *to = w->q;
    for (size_t c = 0; c < w->columns; c++)
        for (size_t i = 0; i < w->steps_k; i++, to += QUAD) {
            pack_queries_tile(w, c * COLUMN, i, to);
            pack_queries_tile(w, c * COLUMN + LANES, i, to + TILE);
        }
    memset(w->o, 0, w->columns * w->steps_v * STEP * COLUMN * sizeof *w->o);
    for (size_t r = 0; r < w->columns * COLUMN; r++) {
        /* Rows that are not there look like the last one, so they never make a block special. */
        size_t pos = a->pos0 + query_of(w, nm_min_size(r, w->rows - 1)) + 1;
        size_t first = a->window && pos > a->window ? pos - a->window : 0;
        first = nm_max_size(first, t->first);
        pos = nm_min_size(pos, t->end);
        w->max[r] = -INFINITY;
        w->sum[r] = 0;
        w->first[r] = (uint32_t)(nm_max_size(first, w->base) - w->base);
        w->end[r] = (uint32_t)(nm_max_size(pos, w->base) - w->base);
    }
}

/* ---- one column meets one block ------------------------------------------------------------ */

/* What the rows of a column see of a block: STEPs, and whether all see all of these. */
typedef struct span {
    size_t step0, step1;
    bool partly;
} span;

/* Rows are ordered by position, so the first and the last say it. */
static span seen(const work *w, size_t column, uint32_t block)
{
    uint32_t first0 = w->first[column * COLUMN], first1 = w->first[column * COLUMN + COLUMN - 1];
    uint32_t end0 = w->end[column * COLUMN], end1 = w->end[column * COLUMN + COLUMN - 1];
    if (end1 <= block || first0 >= block + KEYS || end1 <= first0)
        return (span){0, 0, false};
    uint32_t from = first0 > block ? first0 - block : 0;
    uint32_t to = end1 - block < KEYS ? end1 - block : KEYS;
    span s = {from / STEP, (to + STEP - 1) / STEP, false};
    s.partly = first1 > block + s.step0 * STEP || end0 < block + s.step1 * STEP;
    return s;
}

static void mask_scores(const work *w, size_t column, uint32_t block, span at, float *s)
{
    for (size_t half = 0; half < COLUMN; half += LANES) {
        __m512i first = _mm512_loadu_si512(w->first + column * COLUMN + half);
        __m512i end = _mm512_loadu_si512(w->end + column * COLUMN + half);
        for (size_t key = at.step0 * STEP; key < at.step1 * STEP; key++) {
            __m512i pos = _mm512_set1_epi32((int)(block + (uint32_t)key));
            __mmask16 hidden =
                _mm512_cmplt_epu32_mask(pos, first) | _mm512_cmpge_epu32_mask(pos, end);
            _mm512_mask_storeu_ps(s + key * COLUMN + half, hidden, _mm512_set1_ps(-INFINITY));
        }
    }
}

VEC __m512 column_max(const float *s, size_t n)
{
    __m512 a = _mm512_set1_ps(-INFINITY), b = a;
    for (size_t key = 0; key < n; key += 2, s += 2 * COLUMN) { /* NaN: the second one is taken */
        a = _mm512_max_ps(_mm512_load_ps(s), a);
        b = _mm512_max_ps(_mm512_load_ps(s + COLUMN), b);
    }
    return _mm512_max_ps(a, b);
}

/* One tile of rows: moves the maximum when the block demands it. Returns what to subtract. */
static __m512 new_maximum(work *w, size_t row, const float *s, size_t n)
{
    __m512 old = _mm512_load_ps(w->max + row), top = column_max(s, n);
    __mmask16 grows =
        _mm512_cmp_ps_mask(top, _mm512_add_ps(old, _mm512_set1_ps(SLACK)), _CMP_GT_OQ);
    if (grows) {
        __m512 max = _mm512_mask_mov_ps(old, grows, top);
        __m512 keep =
            _mm512_mask_mov_ps(_mm512_set1_ps(1), grows, exp2_of(_mm512_sub_ps(old, max)));
        _mm512_store_ps(w->max + row, max);
        _mm512_store_ps(w->sum + row, _mm512_mul_ps(_mm512_load_ps(w->sum + row), keep));
        float *o = w->o + row / COLUMN * w->steps_v * STEP * COLUMN + row % COLUMN;
        for (size_t d = 0; d < w->steps_v * STEP; d++, o += COLUMN)
            _mm512_store_ps(o, _mm512_mul_ps(_mm512_load_ps(o), keep));
        old = max;
    }
    __mmask16 none = _mm512_cmp_ps_mask(old, _mm512_set1_ps(-INFINITY), _CMP_EQ_OQ);
    return _mm512_mask_mov_ps(old, none, _mm512_setzero_ps());
}

/* A column whose scores are there, and whose exponentials are made while the matrix unit is busy
 * with the next column's scores: 4 keys at a time between its products. */
typedef struct pending {
    size_t column;
    span seen;
    const float *s; /* [keys][COLUMN] */
    uint16_t *p;
    size_t key, keys; /* done; in all */
    __m512 subtract[2], total[2];
} pending;

VEC void exponentials(pending *e, bool fine)
{
    uint16_t *p = e->p + e->key / STEP * QUAD + e->key % STEP * LANES;
    if (e->key >= e->keys)
        return;
    UNROLL for (size_t i = 0; i < 4; i++)
    {
        const size_t half = i % 2, key = i / 2 * 2; /* pairs of keys, both tiles of rows */
        const float *at = e->s + (e->key + key) * COLUMN + half * LANES;
        __m512 a = exp2_of(_mm512_sub_ps(_mm512_load_ps(at), e->subtract[half]));
        __m512 b = exp2_of(_mm512_sub_ps(_mm512_load_ps(at + COLUMN), e->subtract[half]));
        planes x = split(a), y = split(b);
        uint16_t *to = p + key * LANES + half * TILE;
        _mm512_store_si512(to, pair(x.hi, y.hi));
        if (fine)
            _mm512_store_si512(to + 2 * TILE, pair(x.lo, y.lo));
        __m512 both = fine ? _mm512_add_ps(a, b) : _mm512_add_ps(x.hi, y.hi);
        e->total[half] = _mm512_add_ps(e->total[half], both);
    }
    e->key += 4;
}

/* c[32][32 or 16] = or += a[32][steps * 32] b, operands as packed, c with rows of COLUMN. Meanwhile
 * some of e, if not NULL. */
VEC void multiply(const uint16_t *a, const uint16_t *b, size_t steps, float *c, bool add, bool two,
                  bool fine, pending *e)
{
    if (add) {
        _tile_loadd(0, c, C_STRIDE);
        _tile_loadd(2, c + 16 * COLUMN, C_STRIDE);
    } else {
        _tile_zero(0);
        _tile_zero(2);
    }
    if (two && add) {
        _tile_loadd(1, c + LANES, C_STRIDE);
        _tile_loadd(3, c + 16 * COLUMN + LANES, C_STRIDE);
    } else if (two) {
        _tile_zero(1);
        _tile_zero(3);
    }
    for (size_t i = 0; i < steps; i++, a += QUAD, b += QUAD) {
        load_a(a);
        load_b(b, two);
        multiply_loaded(two);
        if (e)
            exponentials(e, fine);
        if (fine) {
            load_b(b + 2 * TILE, two);
            multiply_loaded(two);
            if (e)
                exponentials(e, fine);
            load_a(a + 2 * TILE);
            load_b(b, two);
            multiply_loaded(two);
        }
    }
    _tile_stored(0, c, C_STRIDE);
    _tile_stored(2, c + 16 * COLUMN, C_STRIDE);
    if (two) {
        _tile_stored(1, c + LANES, C_STRIDE);
        _tile_stored(3, c + 16 * COLUMN + LANES, C_STRIDE);
    }
}

/* o[row] += p[row] v for the rows of a column that see the position. */
static void add_one(const work *w, size_t column, uint32_t block, size_t key, float v, float *o)
{
    const uint16_t *p = w->p + key / STEP * QUAD + key % STEP / 2 * STEP + key % 2;
    for (size_t r = 0; r < COLUMN; r++) {
        size_t row = column * COLUMN + r;
        uint32_t pos = block + (uint32_t)key;
        uint32_t bits = (uint32_t)p[r / LANES * TILE + r % LANES * 2] << 16;
        float weight;
        memcpy(&weight, &bits, sizeof weight);
        if (pos >= w->first[row] && pos < w->end[row])
            o[r] += weight * v;
    }
}

/* Elements of V that are not finite were packed as 0; now they join the rows that see them. */
static void add_not_finite(work *w, size_t column, size_t at, span s)
{
    const nm_attention_args *a = w->task->args;
    panel from = panel_of(&a->v, w->task->kv_head, at, w->task->end, a->dim_v);
    size_t last = nm_min_size(from.n, s.step1 * STEP);
    for (size_t key = s.step0 * STEP; key < last; key++)
        for (size_t d = 0; d < a->dim_v; d += LANES) {
            float v[LANES];
            _mm512_storeu_ps(v, load(a->v.type, from.data + key * from.stride, d, a->dim_v));
            for (size_t i = 0; i < LANES; i++)
                if (!isfinite(v[i]))
                    add_one(w, column, (uint32_t)(at - w->base), key, v[i],
                            w->o + (column * w->steps_v * STEP + d + i) * COLUMN);
        }
}

static bool has_two(const work *w, size_t column)
{
    return w->rows - column * COLUMN > LANES;
}

/* Scores of a column, while `last` gets its exponentials. */
VEC void score_column(work *w, size_t column, span at, float *s, bool two, bool fine, pending *last)
{
    const uint16_t *q = w->q + column * w->steps_k * QUAD;
    for (size_t i = at.step0; i < at.step1; i++)
        multiply(w->k + i * w->steps_k * QUAD, q, w->steps_k, s + i * STEP * COLUMN, false, two,
                 fine, last);
}

static pending begin_column(work *w, size_t column, uint32_t block, span at, float *s)
{
    if (at.partly)
        mask_scores(w, column, block, at, s);
    const size_t row = column * COLUMN;
    pending e = {.column = column, .seen = at, .keys = (at.step1 - at.step0) * STEP};
    e.s = s + at.step0 * STEP * COLUMN;
    e.p = w->p + at.step0 * QUAD;
    e.total[0] = e.total[1] = e.subtract[1] = _mm512_setzero_ps();
    e.subtract[0] = new_maximum(w, row, e.s, e.keys);
    if (has_two(w, column))
        e.subtract[1] = new_maximum(w, row + LANES, e.s + LANES, e.keys);
    return e;
}

/* What is left of the exponentials, then O += P V. */
VEC void end_column(work *w, size_t at, bool fine, pending *e)
{
    while (e->key < e->keys)
        exponentials(e, fine);
    settle(e->p);
    float *sum = w->sum + e->column * COLUMN;
    _mm512_store_ps(sum, _mm512_add_ps(_mm512_load_ps(sum), e->total[0]));
    _mm512_store_ps(sum + LANES, _mm512_add_ps(_mm512_load_ps(sum + LANES), e->total[1]));
    const size_t steps = e->seen.step1 - e->seen.step0;
    for (size_t i = 0; i < w->steps_v; i++) {
        const uint16_t *v = w->v + (i * KEY_STEPS + e->seen.step0) * QUAD;
        float *o = w->o + (e->column * w->steps_v + i) * STEP * COLUMN;
        if (has_two(w, e->column))
            multiply(v, e->p, steps, o, true, true, fine, NULL);
        else
            multiply(v, e->p, steps, o, true, false, fine, NULL);
    }
    if (w->v_not_finite)
        add_not_finite(w, e->column, at, e->seen);
}

VEC void attend_block_of(work *w, size_t at, bool fine)
{
    const uint32_t block = (uint32_t)(at - w->base);
    pending last = {.keys = 0};
    float *s = w->s;
    for (size_t c = 0; c < w->columns; c++) {
        span here = seen(w, c, block);
        if (here.step0 == here.step1)
            continue;
        if (has_two(w, c))
            score_column(w, c, here, s, true, fine, &last);
        else
            score_column(w, c, here, s, false, fine, &last);
        if (last.keys)
            end_column(w, at, fine, &last);
        last = begin_column(w, c, block, here, s);
        s = s == w->s ? w->s + KEYS * COLUMN : w->s;
    }
    if (last.keys)
        end_column(w, at, fine, &last);
}

static void attend_block(work *w, size_t at)
{
    pack_keys(w, at, w->task->end);
    pack_values(w, at, w->task->end);
    settle(w->k);
    if (w->task->fine)
        attend_block_of(w, at, true);
    else
        attend_block_of(w, at, false);
}

/* ---- the results --------------------------------------------------------------------------- */

/* 16 rows from `row` on, each times its factor, to where to[] says. */
static void put_rows(const work *w, size_t row, const float *factor, float *const *to, size_t n)
{
    size_t dim_v = w->task->args->dim_v;
    const float *o = w->o + row / COLUMN * w->steps_v * STEP * COLUMN + row % COLUMN;
    const __m512 f = _mm512_loadu_ps(factor);
    for (size_t d = 0; d < dim_v; d += LANES) {
        __m512i x[16];
        UNROLL
        for (size_t i = 0; i < 16; i++)
            x[i] = _mm512_castps_si512(_mm512_mul_ps(_mm512_load_ps(o + (d + i) * COLUMN), f));
        transpose(x);
        for (size_t i = 0; i < n; i++)
            _mm512_mask_storeu_ps(to[i] + d, lanes(dim_v - d), _mm512_castsi512_ps(x[i]));
    }
}

/* What a row is multiplied by in the end. A sink joins the sum without a value. */
static float last_factor(const work *w, size_t row)
{
    const float *sinks = w->task->args->sinks;
    float sum = w->sum[row], keep = 1.0f;
    if (sinks) {
        float sink = sinks[head_of(w, row)] * 0x1.715476p+0f, old = w->max[row];
        float max = old > sink ? old : sink;
        keep = exp2f(old - max);
        sum = sum * keep + exp2f(sink - max);
    }
    return sum == 0 ? 0.0f : keep / sum;
}

static void finish(const work *w)
{
    const nm_attend *t = w->task;
    const nm_attention_args *a = t->args;
    for (size_t row = 0; row < w->rows; row += LANES) {
        float factor[LANES], *to[LANES];
        size_t n = nm_min_size(LANES, w->rows - row);
        for (size_t i = 0; i < LANES; i++) {
            size_t r = nm_min_size(row + i, w->rows - 1);
            factor[i] = t->part ? 1.0f : last_factor(w, r);
            to[i] = t->part ? t->part + r * a->dim_v
                            : a->out + (query_of(w, r) * a->n_head + head_of(w, r)) * a->dim_v;
        }
        put_rows(w, row, factor, to, n);
    }
    for (size_t row = 0; t->part && row < w->rows; row++) {
        t->max[row] = w->max[row] * 0x1.62e430p-1f;
        t->sum[row] = w->sum[row];
    }
}

/* ---- the task ------------------------------------------------------------------------------ */

static void *take(char **at, size_t bytes)
{
    void *p = *at;
    *at += bytes;
    return p;
}

static work work_make(const nm_attend *task, void *scratch)
{
    char *at = scratch;
    work w = {.task = task, .rows = task->queries * task->heads};
    w.columns = (w.rows + COLUMN - 1) / COLUMN;
    w.steps_k = nm_attend_padded(task->args->dim_k) / STEP;
    w.steps_v = nm_attend_padded(task->args->dim_v) / STEP;
    w.base = task->first / KEYS * KEYS;
    size_t lanes_bytes = w.columns * COLUMN * sizeof(float);
    w.k = take(&at, KEYS / STEP * w.steps_k * QUAD * sizeof *w.k);
    w.v = take(&at, KEYS / STEP * w.steps_v * QUAD * sizeof *w.v);
    w.s = take(&at, 2 * KEYS * COLUMN * sizeof *w.s);
    w.p = take(&at, KEYS / STEP * QUAD * sizeof *w.p);
    w.max = take(&at, lanes_bytes);
    w.sum = take(&at, lanes_bytes);
    w.first = take(&at, lanes_bytes);
    w.end = take(&at, lanes_bytes);
    w.q = take(&at, w.columns * w.steps_k * QUAD * sizeof *w.q);
    w.o = take(&at, w.columns * w.steps_v * STEP * COLUMN * sizeof *w.o);
    return w;
}

static void attend_task(const nm_attend *task, void *scratch)
{
    work w = work_make(task, scratch);
    begin(&w);
    tiles_on();
    for (size_t at = w.base; at < task->end; at += KEYS)
        attend_block(&w, at);
    _tile_release();
    finish(&w);
}

void nm_kern_fill_attend_amx(nm_kern *table)
{
    table->attend_task = attend_task;
}
