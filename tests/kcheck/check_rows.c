/* check_rows.c: the kernels that work along one row. */
#include "kcheck.h"

#include "quant/blocks.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Around the widths of all vectors, multiples of them, primes. */
static const size_t sizes[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,   11,  13,  15,  16,   17,
                               23, 31, 32, 33, 47, 48, 63, 64, 65, 127, 128, 129, 509, 1024, 1031};

/* One drawn row and the results of both tiers. */
typedef struct row_case {
    size_t n;
    flavour flavour;
    placement where;
    const float *a, *b, *d; /* inputs */
    float *want, *got;      /* start as copies of `start` */
    const float *start;
    char name[96];
} row_case;

static void row_make(kcheck *c, row_case *t)
{
    size_t n = t->n;
    float *a = slot_take(0, t->where, n, sizeof *a), *b = slot_take(1, t->where, n, sizeof *b);
    float *d = slot_take(2, t->where, n, sizeof *d),
          *start = slot_take(3, t->where, n, sizeof *start);
    t->want = slot_take(4, t->where, n, sizeof(float));
    t->got = slot_take(5, t->where, n, sizeof(float));
    draw_many(c, t->flavour, a, n);
    draw_many(c, t->flavour, b, n);
    draw_many(c, t->flavour, d, n);
    draw_many(c, t->flavour, start, n);
    if (n) {
        memcpy(t->want, start, n * sizeof(float));
        memcpy(t->got, start, n * sizeof(float));
    }
    t->a = a;
    t->b = b;
    t->d = d;
    t->start = start;
    snprintf(t->name, sizeof t->name, "n %zu, numbers %d, placement %d", n, (int)t->flavour,
             (int)t->where);
}

static void row_done(kcheck *c, const row_case *t, bool compare)
{
    if (compare)
        same(c, t->got, t->want, t->n, t->name);
    if (!slot_guards_intact(5))
        fail(c, "%s: wrote outside the row", t->name);
    c->cases++;
}

/* Runs the following block with a fresh case `t` for every size, flavour and placement. */
#define FOR_ROWS(c)                                                                                \
    for (size_t size_ = 0; size_ < sizeof sizes / sizeof sizes[0]; size_++)                        \
        for (int flavour_ = 0; flavour_ < N_FLAVOURS; flavour_++)                                  \
            for (int where_ = 0; where_ < N_PLACEMENTS; where_++)                                  \
                for (row_case t = {sizes[size_], (flavour)flavour_, (placement)where_, NULL, NULL, \
                                   NULL, NULL, NULL, NULL, ""};                                    \
                     t.name[0] == '\0' && (row_make(c, &t), true);)

void check_rms_norm(kcheck *c)
{
    FOR_ROWS(c)
    {
        const float *w = draw_bits(c) % 4 ? t.a : NULL;
        bool in_place = draw_bits(c) % 2 != 0;
        c->ref.rms_norm(t.n, t.start, w, 1e-5f, t.want);
        c->tier.rms_norm(t.n, in_place ? t.got : t.start, w, 1e-5f, t.got);
        row_done(c, &t, true);
    }
}

/* Where an input meets the mean, or the result the bias, their difference is as small as chance
 * will have it and relative error means nothing: so the error is counted in ulps of the largest
 * term. With special numbers everything is NaN or the two tiers agree to the bit. */
static void compare_layer_norm(kcheck *c, const row_case *t, const float *w, const float *b)
{
    double largest = 0;
    for (size_t i = 0; i < t->n; i++) {
        double terms = fabs((double)t->want[i]) + (b ? 2 * fabs((double)b[i]) : 0) +
                       (w ? fabs((double)w[i]) : 1);
        if (isfinite(terms) && terms > largest)
            largest = terms;
    }
    for (size_t i = 0; i < t->n; i++)
        near_enough(c, t->got[i], t->want[i], c->tolerance.ulps * 0x1p-24 * largest, t->name);
}

void check_layer_norm(kcheck *c)
{
    FOR_ROWS(c)
    {
        const float *w = draw_bits(c) % 4 ? t.a : NULL, *b = draw_bits(c) % 4 ? t.b : NULL;
        bool in_place = draw_bits(c) % 2 != 0;
        c->ref.layer_norm(t.n, t.start, w, b, 1e-5f, t.want);
        c->tier.layer_norm(t.n, in_place ? t.got : t.start, w, b, 1e-5f, t.got);
        compare_layer_norm(c, &t, w, b);
        row_done(c, &t, false);
    }
}

void check_silu_mul(kcheck *c)
{
    FOR_ROWS(c)
    {
        if (t.flavour == WIDE) /* up to where the exponential overflows, not at that very point */
            for (size_t i = 0; i < t.n; i++)
                t.got[i] = t.want[i] = 88.0f * draw(c, PLAIN);
        c->ref.silu_mul(t.n, t.want, t.a);
        c->tier.silu_mul(t.n, t.got, t.a);
        row_done(c, &t, true);
    }
}

void check_axpy(kcheck *c)
{
    FOR_ROWS(c)
    {
        float s = draw(c, t.flavour);
        c->ref.axpy(t.n, s, t.a, t.want);
        c->tier.axpy(t.n, s, t.a, t.got);
        row_done(c, &t, true);
    }
}

void check_add(kcheck *c)
{
    FOR_ROWS(c)
    {
        c->ref.add(t.n, t.a, t.want);
        c->tier.add(t.n, t.a, t.got);
        row_done(c, &t, true);
    }
}

void check_scale(kcheck *c)
{
    FOR_ROWS(c)
    {
        float s = draw(c, t.flavour);
        c->ref.scale(t.n, s, t.want);
        c->tier.scale(t.n, s, t.got);
        row_done(c, &t, true);
    }
}

/* Scores with a spread of +-30 and some masked; now and then all masked, or all NaN, or both kinds
 * and no number. */
static void draw_scores(kcheck *c, row_case *t)
{
    const uint64_t kind = draw_bits(c) % 8;
    for (size_t i = 0; i < t->n && t->flavour == WIDE; i++) {
        float score = draw_bits(c) % 4 == 0 ? -INFINITY : 30 * draw(c, PLAIN);
        if (kind < 3) /* 0: all masked, 1: all NaN, 2: NaN at even places */
            score = kind == 0 || (kind == 2 && i % 2 != 0) ? -INFINITY : NAN;
        t->got[i] = t->want[i] = score;
    }
}

static size_t count_nan(const float *x, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        found += isnan(x[i]) ? 1 : 0;
    return found;
}

void check_softmax(kcheck *c)
{
    FOR_ROWS(c)
    {
        draw_scores(c, &t);
        const bool nan = count_nan(t.got, t.n) > 0;
        c->ref.softmax(t.n, t.want);
        c->tier.softmax(t.n, t.got);
        if (nan && count_nan(t.got, t.n) != t.n)
            fail(c, "%s: a row with NaN has %zu NaN of %zu", t.name, count_nan(t.got, t.n), t.n);
        row_done(c, &t, true);
    }
}

void check_softmax_online(kcheck *c)
{
    FOR_ROWS(c)
    {
        draw_scores(c, &t);
        bool first = draw_bits(c) % 2 != 0;
        float m = first ? -INFINITY : 3 * draw(c, PLAIN), l = first ? 0 : 1 + fabsf(draw(c, PLAIN));
        float want[3] = {m, l, 7}, got[3] = {m, l, 7};
        const size_t nan = count_nan(t.got, t.n);
        c->ref.softmax_online(t.n, t.want, &want[0], &want[1], &want[2]);
        c->tier.softmax_online(t.n, t.got, &got[0], &got[1], &got[2]);
        if (ulps_apart(got[0], want[0]) > 0)
            fail(c, "%s: maximum %g, ref has %g", t.name, (double)got[0], (double)want[0]);
        same(c, got + 1, want + 1, 2, "sum and correction");
        if (nan > 0 && (!isnan(got[1]) || count_nan(t.got, t.n) < nan))
            fail(c, "%s: %zu NaN among the scores, but the sum is %g", t.name, nan, (double)got[1]);
        row_done(c, &t, true);
    }
}

void check_rope_neox(kcheck *c)
{
    FOR_ROWS(c)
    {
        c->ref.rope_neox(t.n, t.want, t.a, t.b);
        c->tier.rope_neox(t.n, t.got, t.a, t.b);
        row_done(c, &t, true);
    }
}

void check_rope_norm(kcheck *c)
{
    FOR_ROWS(c)
    {
        c->ref.rope_norm(t.n, t.want, t.a, t.b);
        c->tier.rope_norm(t.n, t.got, t.a, t.b);
        row_done(c, &t, true);
    }
}

/* ---- stores -------------------------------------------------------------------------------- */

static bool same_half(uint16_t a, uint16_t b)
{
    bool nan_a = (a & 0x7fffu) > 0x7c00u, nan_b = (b & 0x7fffu) > 0x7c00u;
    return a == b || (nan_a && nan_b);
}

static void compare_f16(kcheck *c, const float *in, size_t n, placement where)
{
    uint16_t *got = slot_take(6, where, n, sizeof *got);
    c->tier.f32_to_f16(n, in, got);
    for (size_t i = 0; i < n; i++) {
        uint16_t want;
        c->ref.f32_to_f16(1, in + i, &want);
        if (!same_half(got[i], want))
            fail(c, "%a becomes %04x, ref has %04x", (double)in[i], got[i], want);
    }
    if (!slot_guards_intact(6))
        fail(c, "n %zu: wrote outside the row", n);
    c->cases++;
}

void check_f32_to_f16(kcheck *c)
{
    FOR_ROWS(c)
    {
        compare_f16(c, t.a, t.n, t.where);
    }
    /* Every half, its neighbours in fp32 and the ties between halves. */
    float *in = slot_take(0, ALIGNED, 65536, sizeof *in);
    for (int shift = c->one_in > 1 ? 1 : -1; shift <= 1; shift++)
        for (uint32_t tie = 0; tie < 2; tie++) {
            for (uint32_t h = 0; h < 65536; h++) {
                float f = nm_f16_to_f32((uint16_t)h);
                uint32_t bits;
                memcpy(&bits, &f, sizeof bits);
                bits += (tie << 12) + (uint32_t)shift;
                memcpy(&in[h], &bits, sizeof bits);
            }
            compare_f16(c, in, 65536, ALIGNED);
        }
    for (int round = 0; round < (c->one_in > 1 ? 1 : 4); round++) {
        draw_bytes(c, in, 65536 * sizeof *in);
        compare_f16(c, in, 65536, ALIGNED);
    }
}

/* Halves of the scale, so that many quotients are ties, and the last number below a half of it, which a sum
 * with 0.5 would round to 1; a block of denormals; zeros. */
static void draw_for_q8(kcheck *c, float *x, size_t n, unsigned kind)
{
    float unit = ldexpf(1.0f, (int)(draw_bits(c) % 20) - 10);
    for (size_t i = 0; i < n; i++) {
        int half = (int)(draw_bits(c) % 509) - 254;
        x[i] = kind == 0   ? draw(c, PLAIN)
               : kind == 1 ? (i % 32 == 0 ? 127 * unit : 0.5f * (float)half * unit)
               : kind == 2 ? draw(c, PLAIN) * 0x1p-140f
               : kind == 3 ? draw(c, WIDE)
               : kind == 4 ? draw(c, SPECIAL)
               : kind == 6
                   ? (i % 32 == 0 ? 127 * unit : copysignf(0x1.fffffep-2f, (float)half) * unit)
                   : 0.0f;
    }
}

void check_f32_to_q8_0(kcheck *c)
{
    for (size_t blocks = 0; blocks < 9; blocks++)
        for (unsigned kind = 0; kind < 70; kind++) {
            placement where = (placement)(kind % N_PLACEMENTS);
            size_t n = blocks * NM_QK, bytes = blocks * sizeof(nm_block_q8_0);
            float *in = slot_take(0, where, n, sizeof *in);
            char *want = slot_take(1, where, bytes, 1), *got = slot_take(2, where, bytes, 1);
            draw_for_q8(c, in, n, kind % 7);
            c->ref.f32_to_q8_0(n, in, want);
            c->tier.f32_to_q8_0(n, in, got);
            for (size_t i = 0; i < bytes; i++)
                if (want[i] != got[i])
                    fail(c, "%zu blocks, numbers %u: byte %zu is %02x, ref has %02x", blocks,
                         kind % 7, i, (unsigned char)got[i], (unsigned char)want[i]);
            if (!slot_guards_intact(2))
                fail(c, "%zu blocks: wrote outside the row", blocks);
            c->cases++;
        }
}
