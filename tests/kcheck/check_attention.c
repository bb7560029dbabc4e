/* check_attention.c: rows of a KV cache against ref by the bound of class DOT, and against themselves
 * with one row (and for scores one position) at a time, bit for bit. */
#include "kcheck.h"

#include "quant/blocks.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 9, LIMIT = 4096 };

static const uint32_t types[] = {NM_TYPE_F32, NM_TYPE_F16, NM_TYPE_Q8_0};
static const size_t ms[] = {0, 1, 2, 3, 4, 5, 7, 8, 9};
static const size_t ns[] = {0, 1, 2, 3, 4, 5, 8, 13, 32};
static const size_t dims[] = {0, 1, 7, 16, 31, 32, 33, 48, 64, 80, 96, 127, 128, 160, 192, 257};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

typedef struct kv_case {
    uint32_t type;
    size_t m, n, dim, stride, ld;
    char *cache;                /* [n] rows, stride bytes apart */
    float *decoded;             /* [n][dim] */
    float *x;                   /* of scores: [m][dim]; of values: weights [m][ld] */
    float *before, *want, *got; /* of scores: [m][ld]; of values: [m][dim] */
    char name[120];
} kv_case;

static void kv_make(kcheck *c, kv_case *t, flavour f, placement where, size_t x_floats,
                    size_t y_floats)
{
    const nm_type_traits *traits = nm_type_get(t->type);
    size_t row_bytes = t->dim / traits->block_elems * traits->block_bytes;
    t->stride = row_bytes + draw_bits(c) % 3 * 2;
    t->cache = slot_take(0, where, t->n ? (t->n - 1) * t->stride + row_bytes : 0, 1);
    t->decoded = slot_take(1, ALIGNED, t->n * t->dim, sizeof(float));
    t->x = slot_take(2, where, x_floats, sizeof(float));
    t->before = slot_take(3, ALIGNED, y_floats, sizeof(float));
    t->want = slot_take(4, ALIGNED, y_floats, sizeof(float));
    t->got = slot_take(5, where, y_floats, sizeof(float));
    draw_many(c, f, t->x, x_floats);
    draw_many(c, PLAIN, t->before, y_floats);
    for (size_t p = 0; p < t->n && t->dim; p++) {
        float row[LIMIT];
        draw_many(c, t->type == NM_TYPE_Q8_0 ? PLAIN : f, row, t->dim);
        traits->encode(row, t->cache + p * t->stride, t->dim, NULL);
        traits->decode(t->cache + p * t->stride, t->decoded + p * t->dim, t->dim);
    }
    if (y_floats) {
        memcpy(t->want, t->before, y_floats * sizeof(float));
        memcpy(t->got, t->before, y_floats * sizeof(float));
    }
    snprintf(t->name, sizeof t->name, "%s m %zu n %zu dim %zu stride %zu, numbers %d, placement %d",
             traits->name, t->m, t->n, t->dim, t->stride, (int)f, (int)where);
}

static void compare(kcheck *c, const kv_case *t, float got, float want, float alone, size_t terms,
                    double size)
{
    double bound = 2 * (double)(terms + 1) * 0x1p-24 * size + (double)terms * 0x1p-149;
    if (!isfinite(size) || size < 1e37)
        near_enough(c, got, want, bound, t->name);
    if (memcmp(&alone, &got, sizeof got) != 0 && !isnan(alone))
        fail(c, "%s: %a among others, %a alone", t->name, (double)got, (double)alone);
}

static void scores_run(kcheck *c, kv_case t, flavour f, placement where)
{
    const float *q[MOST];
    t.ld = t.n + draw_bits(c) % 3;
    kv_make(c, &t, f, where, t.m * t.dim, t.m ? (t.m - 1) * t.ld + t.n : 0);
    for (size_t r = 0; r < t.m; r++)
        q[r] = t.x + r * t.dim;
    c->ref.kv_scores(t.type, t.n, t.cache, t.stride, t.dim, t.m, q, t.want, t.ld);
    c->tier.kv_scores(t.type, t.n, t.cache, t.stride, t.dim, t.m, q, t.got, t.ld);
    for (size_t r = 0; r < t.m; r++)
        for (size_t p = 0; p < t.ld && r * t.ld + p < (t.m - 1) * t.ld + t.n; p++) {
            size_t at = r * t.ld + p;
            double size = 0;
            float alone = t.before[at];
            if (p < t.n)
                c->tier.kv_scores(t.type, 1, t.cache + p * t.stride, t.stride, t.dim, 1, &q[r],
                                  &alone, 1);
            for (size_t i = 0; p < t.n && i < t.dim; i++)
                size += fabs((double)q[r][i] * (double)t.decoded[p * t.dim + i]);
            compare(c, &t, t.got[at], t.want[at], alone, t.dim, size);
        }
    if (!slot_guards_intact(5))
        fail(c, "%s: wrote outside", t.name);
    c->cases++;
}

static void values_run(kcheck *c, kv_case t, flavour f, placement where)
{
    float *want[MOST], *got[MOST];
    t.ld = t.n + draw_bits(c) % 3;
    kv_make(c, &t, f, where, t.m ? (t.m - 1) * t.ld + t.n : 0, t.m * t.dim);
    for (size_t r = 0; r < t.m; r++) {
        want[r] = t.want + r * t.dim;
        got[r] = t.got + r * t.dim;
    }
    c->ref.kv_values(t.type, t.n, t.cache, t.stride, t.dim, t.m, t.x, t.ld, want);
    c->tier.kv_values(t.type, t.n, t.cache, t.stride, t.dim, t.m, t.x, t.ld, got);
    for (size_t r = 0; r < t.m; r++) {
        float row[LIMIT], *alone = row;
        memcpy(row, t.before + r * t.dim, t.dim * sizeof(float));
        c->tier.kv_values(t.type, t.n, t.cache, t.stride, t.dim, 1, t.x + r * t.ld, 1, &alone);
        for (size_t i = 0; i < t.dim; i++) {
            double size = fabs((double)t.before[r * t.dim + i]);
            for (size_t p = 0; p < t.n; p++)
                size += fabs((double)t.x[r * t.ld + p] * (double)t.decoded[p * t.dim + i]);
            compare(c, &t, got[r][i], want[r][i], row[i], t.n + 1, size);
        }
    }
    if (!slot_guards_intact(5))
        fail(c, "%s: wrote outside", t.name);
    c->cases++;
}

static void run_all(kcheck *c, void (*run)(kcheck *c, kv_case t, flavour f, placement where))
{
    for (size_t a = 0; a < COUNT(types); a++)
        for (size_t b = 0; b < COUNT(ms); b++)
            for (size_t d = 0; d < COUNT(ns); d++)
                for (size_t e = 0; e < COUNT(dims); e++) {
                    bool blocks = types[a] != NM_TYPE_Q8_0 || dims[e] % NM_QK == 0;
                    if (!blocks || !chosen(c))
                        continue;
                    run(c, (kv_case){.type = types[a], .m = ms[b], .n = ns[d], .dim = dims[e]},
                        (flavour)(draw_bits(c) % N_FLAVOURS),
                        (placement)(draw_bits(c) % N_PLACEMENTS));
                }
}

void check_kv_scores(kcheck *c)
{
    run_all(c, scores_run);
}

void check_kv_values(kcheck *c)
{
    run_all(c, values_run);
}
