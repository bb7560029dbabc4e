// Causal attention, forward and backward, on AMX tiles in bf16: for heads of 64 and lengths that are multiples of 64.
// PyTorch's batched product reaches a fifth of the tiles' speed at this head size. Scores of one block of queries at a
// time stay in cache; the backward pass computes them again from the logarithm of each row's sum.
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint16_t bf16;

enum { WIDTH = 64, BLOCK = 64, PAD = 32, ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_TILEDATA = 18 };

static inline float up(bf16 v)
{
    uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline bf16 down(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Asks the system for the tile registers; 0 when there are some and this process may use them.
int amx_enable(void)
{
    return (int)syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILEDATA);
}

static void tiles_on(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
}

// c[m][n] = a[m][k] * b, or += when `add`; b is packed as [k / 2][n][2]. m and n are multiples of 32, as is k.
static void product(const bf16 *a, long lda, const bf16 *b, long ldb, float *c, long ldc, long m,
                    long n, long k, int add)
{
    for (long i = 0; i < m; i += 32)
        for (long j = 0; j < n; j += 32) {
            float *out = c + i * ldc + j;
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            if (add) {
                _tile_loadd(0, out, ldc * 4);
                _tile_loadd(1, out + 16, ldc * 4);
                _tile_loadd(2, out + 16 * ldc, ldc * 4);
                _tile_loadd(3, out + 16 * ldc + 16, ldc * 4);
            }
            for (long p = 0; p < k; p += 32) {
                _tile_loadd(4, a + i * lda + p, lda * 2);
                _tile_loadd(5, a + (i + 16) * lda + p, lda * 2);
                _tile_loadd(6, b + p / 2 * ldb + j * 2, ldb * 2);
                _tile_loadd(7, b + p / 2 * ldb + j * 2 + 32, ldb * 2);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, out, ldc * 4);
            _tile_stored(1, out + 16, ldc * 4);
            _tile_stored(2, out + 16 * ldc, ldc * 4);
            _tile_stored(3, out + 16 * ldc + 16, ldc * 4);
        }
}

// Packs x [n][WIDTH] for products with its transpose.
static void pack_across(const bf16 *x, uint32_t *out, long ldo, long n)
{
    for (long k = 0; k < WIDTH / 2; k++)
        for (long t = 0; t < n; t++)
            memcpy(out + k * ldo + t, x + t * WIDTH + 2 * k, 4);
}

// Packs rows in pairs for products with the matrix itself.
static void pack_pairs(const bf16 *x, long ldx, uint32_t *out, long rows, long ldo, long columns)
{
    for (long i = 0; i < rows; i += 2, out += ldo)
        for (long j = 0; j < columns; j++)
            out[j] = x[i * ldx + j] | (uint32_t)x[(i + 1) * ldx + j] << 16;
}

static void transpose(const bf16 *x, long ldx, bf16 *out)
{
    for (long i = 0; i < WIDTH; i++)
        for (long j = 0; j < BLOCK; j++)
            out[i * BLOCK + j] = x[j * ldx + i];
}

struct attention {
    long pairs, sharing, length,
        row;     // (batch, key head) pairs; query heads of each; tokens; elements of an output row
    long groups; // key heads
    float factor;
};

// Where head `h` of pair `i` starts in [batch][token][head][WIDTH] rows.
static long output_at(const struct attention *s, long i, long h)
{
    return i / s->groups * s->length * s->row + (i % s->groups * s->sharing + h) * WIDTH;
}

struct scratch {
    uint32_t *k_across, *k_pairs, *v_across, *v_pairs, *p_pairs, *ds_pairs;
    float *scores, *dp, *dk, *dv;
    bf16 *p, *ds;
};

static void *room(long bytes)
{
    void *p = aligned_alloc(64, (size_t)bytes);
    if (!p)
        abort();
    return p;
}

// Rows are padded: a stride of a power of two would put a tile's 16 rows in the same few cache sets.
static struct scratch scratch_make(long length)
{
    long packed = (length + PAD) * WIDTH * 2, block = BLOCK * (length + PAD);
    return (struct scratch){
        .k_across = room(packed),
        .k_pairs = room(packed),
        .v_across = room(packed),
        .v_pairs = room(packed),
        .p_pairs = room(block * 2),
        .ds_pairs = room(block * 2),
        .scores = room(block * 4),
        .dp = room(block * 4),
        .dk = room(block * 4),
        .dv = room(block * 4),
        .p = room(block * 2),
        .ds = room(block * 2),
    };
}

static void scratch_free(struct scratch *w)
{
    void *all[] = {w->k_across, w->k_pairs, w->v_across, w->v_pairs, w->p_pairs, w->ds_pairs,
                   w->scores,   w->dp,      w->dk,       w->dv,      w->p,       w->ds};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void softmax_row(float *x, bf16 *p, float *lse, long seen, long end, float factor)
{
    float top = -INFINITY, sum = 0;
    for (long j = 0; j < seen; j++)
        top = x[j] > top ? x[j] : top;
    for (long j = 0; j < seen; j++) {
        x[j] = expf((x[j] - top) * factor);
        sum += x[j];
    }
    *lse = top * factor + logf(sum);
    sum = 1.0f / sum;
    for (long j = 0; j < seen; j++)
        p[j] = down(x[j] * sum);
    memset(p + seen, 0, (size_t)(end - seen) * sizeof *p);
}

static void forward_block(const struct attention *s, struct scratch *w, const bf16 *q, bf16 *out,
                          float *lse, long first)
{
    long end = first + BLOCK, ld = s->length + PAD;
    float mixed[BLOCK * WIDTH];
    product(q, WIDTH, (bf16 *)w->k_across, 2 * ld, w->scores, ld, BLOCK, end, WIDTH, 0);
    for (long i = 0; i < BLOCK; i++)
        softmax_row(w->scores + i * ld, w->p + i * ld, lse + i, first + i + 1, end, s->factor);
    product(w->p, ld, (bf16 *)w->v_pairs, 2 * WIDTH, mixed, WIDTH, BLOCK, WIDTH, end, 0);
    for (long i = 0; i < BLOCK; i++)
        for (long j = 0; j < WIDTH; j++)
            out[i * s->row + j] = down(mixed[i * WIDTH + j]);
}

// q [pair][sharing][length][WIDTH], k and v [pair][length][WIDTH] -> out [batch][length][heads][WIDTH], lse per query row.
void attention_forward(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *out, float *lse,
                       const struct attention *s)
{
    struct scratch w = scratch_make(s->length);
    long size = s->length * WIDTH;
    tiles_on();
    for (long i = 0; i < s->pairs; i++, k += size, v += size) {
        pack_across(k, w.k_across, s->length + PAD, s->length);
        pack_pairs(v, WIDTH, w.v_pairs, s->length, WIDTH, WIDTH);
        for (long h = 0; h < s->sharing; h++, q += size, lse += s->length)
            for (long first = 0; first < s->length; first += BLOCK)
                forward_block(s, &w, q + first * WIDTH, out + output_at(s, i, h) + first * s->row,
                              lse + first, first);
    }
    _tile_release();
    scratch_free(&w);
}

// Probabilities again, and the gradient at the scores, of one query row.
static void gradient_row(const float *x, const float *dp, float lse, float dot, bf16 *p, bf16 *ds,
                         long seen, long end, float factor)
{
    for (long j = 0; j < seen; j++) {
        float share = expf(x[j] * factor - lse);
        p[j] = down(share);
        ds[j] = down(share * (dp[j] - dot) * factor);
    }
    memset(p + seen, 0, (size_t)(end - seen) * sizeof *p);
    memset(ds + seen, 0, (size_t)(end - seen) * sizeof *ds);
}

static float dot_row(const bf16 *a, const bf16 *b)
{
    float sum = 0;
    for (long j = 0; j < WIDTH; j++)
        sum += up(a[j]) * up(b[j]);
    return sum;
}

static void backward_block(const struct attention *s, struct scratch *w, const bf16 *q,
                           const bf16 *out, const bf16 *dout, const float *lse, bf16 *dq,
                           long first)
{
    long end = first + BLOCK, ld = s->length + PAD;
    bf16 turned[WIDTH * BLOCK];
    float wide[BLOCK * WIDTH];
    product(q, WIDTH, (bf16 *)w->k_across, 2 * ld, w->scores, ld, BLOCK, end, WIDTH, 0);
    product(dout, s->row, (bf16 *)w->v_across, 2 * ld, w->dp, ld, BLOCK, end, WIDTH, 0);
    for (long i = 0; i < BLOCK; i++)
        gradient_row(w->scores + i * ld, w->dp + i * ld, lse[i],
                     dot_row(out + i * s->row, dout + i * s->row), w->p + i * ld, w->ds + i * ld,
                     first + i + 1, end, s->factor);
    pack_pairs(w->p, ld, w->p_pairs, BLOCK, ld, end);
    pack_pairs(w->ds, ld, w->ds_pairs, BLOCK, ld, end);
    transpose(dout, s->row, turned);
    product(turned, BLOCK, (bf16 *)w->p_pairs, 2 * ld, w->dv, ld, WIDTH, end, BLOCK, 1);
    transpose(q, WIDTH, turned);
    product(turned, BLOCK, (bf16 *)w->ds_pairs, 2 * ld, w->dk, ld, WIDTH, end, BLOCK, 1);
    product(w->ds, ld, (bf16 *)w->k_pairs, 2 * WIDTH, wide, WIDTH, BLOCK, WIDTH, end, 0);
    for (long j = 0; j < BLOCK * WIDTH; j++)
        dq[j] = down(wide[j]);
}

static void store_turned(const float *x, long ldx, bf16 *out, long n)
{
    for (long t = 0; t < n; t++)
        for (long j = 0; j < WIDTH; j++)
            out[t * WIDTH + j] = down(x[j * ldx + t]);
}

void attention_backward(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *out,
                        const bf16 *dout, const float *lse, bf16 *dq, bf16 *dk, bf16 *dv,
                        const struct attention *s)
{
    struct scratch w = scratch_make(s->length);
    long size = s->length * WIDTH;
    size_t padded = (size_t)(s->length + PAD) * WIDTH * sizeof *w.dk;
    tiles_on();
    for (long i = 0; i < s->pairs; i++, k += size, v += size, dk += size, dv += size) {
        pack_across(k, w.k_across, s->length + PAD, s->length);
        pack_across(v, w.v_across, s->length + PAD, s->length);
        pack_pairs(k, WIDTH, w.k_pairs, s->length, WIDTH, WIDTH);
        memset(w.dk, 0, padded);
        memset(w.dv, 0, padded);
        for (long h = 0; h < s->sharing; h++, q += size, dq += size, lse += s->length)
            for (long first = 0; first < s->length; first += BLOCK) {
                long at = output_at(s, i, h) + first * s->row;
                backward_block(s, &w, q + first * WIDTH, out + at, dout + at, lse + first,
                               dq + first * WIDTH, first);
            }
        store_turned(w.dk, s->length + PAD, dk, s->length);
        store_turned(w.dv, s->length + PAD, dv, s->length);
    }
    _tile_release();
    scratch_free(&w);
}
