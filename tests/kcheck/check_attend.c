/* check_attend.c: attention against its formula in fp64: tasks as the tier's own kernel does them (attend.h),
 * and whole calls, which go the ways of attention.c, attention_few.c and attention_shared.c.
 *
 * Tolerance. A score is off by what its products are off by, relative to scale * sum |q k|; an error e of
 * scores moves weights by 2e relative to each other, so a result by that much of the largest |v| that its row sees,
 * and by the error of p v. Products are off by 2^-21 in fp32, 2^-15 in two planes of bf16, 2^-8 in one, and the
 * order of fp32 sums adds 2^-24 per term as in class DOT (support/attention_exact.c). Relative to the sum itself there is no bound: it may cancel.
 *
 * Not finite. A NaN or +Inf among the scores of a row makes all of it NaN. A score of -Inf is a weight of 0, or NaN
 * where an infinity has two planes of bf16 (Inf - Inf); whether that weight times what is not finite in V is NaN or
 * left out is open, and a row that sees nothing else is 0 or NaN. What is not finite in V comes out in its own
 * element: NaN, or the Inf of its sign as long as its weight is a number of fp32. Rows that do not see it are as
 * exact as ever. Denormal numbers may be zeros on the matrix unit. Where sums leave fp32, and values are sums
 * before they are divided, any result is right.
 *
 * Keys and values end with the last position at a page without access, or have guards around them, and
 * hold NaN at what nobody sees: other heads, gaps between rows, positions before all windows and after the last
 * row. Rows of q that are not the task's are NaN, those of the result keep the poison that they had. Scratch
 * has exactly the bytes that attend.h says. One row of each task is computed alone, too: the same bits. */
#include "kcheck.h"

#include "kernels/attend.h"
#include "quant/blocks.h"
#include "support/attention_exact.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

enum { SLOT_K, SLOT_V, SLOT_Q, SLOT_OUT, SLOT_SCRATCH, SLOT_PART, SLOT_MAX, SLOT_SUM, SLOTS_HERE };
enum { MOST_POSITIONS = 4600, MOST_DIM = 576, MOST_HEADS = 256, MOST_NUMBERS = 1 << 20 };

static const uint32_t types[] = {NM_TYPE_F32, NM_TYPE_F16, NM_TYPE_Q8_0};
/* Around blocks of 32, 64 and 128 positions. */
static const size_t ends[] = {1,   2,   31,  32,  33,  61,  63,  64, 65,
                              127, 128, 129, 131, 255, 256, 257, 307};
static const size_t windows[] = {0, 0, 0, 0, 1, 2, 31, 32, 33, 61, 127, 128, 129, 200};
static const size_t dims[] = {1, 3, 7, 16, 31, 32, 33, 48, 61, 64, 80, 96, 127, 128, 160};
static const size_t wide[][2] = {{192, 128}, {576, 512}, {64, 544}, {33, 225}};
/* Rows of a task, around columns of 32 and the fewest that a task has room for. */
static const struct rows {
    uint32_t queries, heads;
} rows[] = {{0, 1},  {1, 1}, {1, 5},  {31, 1}, {32, 1}, {33, 1}, {61, 1}, {8, 4},  {11, 3},
            {5, 13}, {7, 9}, {16, 2}, {1, 64}, {3, 43}, {97, 1}, {16, 8}, {127, 1}};

/* ---- a case --------------------------------------------------------------------------------- */

typedef struct attend_case {
    uint32_t type, heads, n_kv, group;
    size_t dim_k, dim_v, window, queries, end;
    bool latent; /* values are the first numbers of keys */
    float rise;  /* if not 0: what scores grow by from key to key; values are of about 2^100 then */
    placement where;
    nm_attention_args args;
    nm_attend task;
    attention_exact exact;
    attention_planes planes;
    float sinks[MOST_HEADS];
    char name[240];
} attend_case;

static float k_numbers[MOST_NUMBERS], v_numbers[MOST_NUMBERS];
static double scores[MOST_POSITIONS], want[MOST_DIM];

static size_t pick(kcheck *c, const size_t *from, size_t n)
{
    return from[draw_bits(c) % n];
}

/* Of blocks a whole number. */
static size_t pick_dim(kcheck *c, uint32_t type)
{
    const size_t dim = pick(c, dims, COUNT(dims));
    return type == NM_TYPE_Q8_0 ? (dim + NM_QK - 1) / NM_QK * NM_QK : dim;
}

static float odd_number(kcheck *c)
{
    static const float odd[] = {NAN,      INFINITY,  -INFINITY,  0x1p+100f, -0x1p+100f,
                                65504.0f, 0x1p-149f, -0x1p-126f, 0x1p-24f,  -0.0f};
    return odd[draw_bits(c) % COUNT(odd)];
}

/* Which heads and queries of the case have numbers; all else is NaN. */
typedef struct there {
    size_t first, end; /* positions */
    uint32_t kv0, kv1, head0, head1;
    size_t query0, query1;
} there;

/* One view and what it gives back. One case of four has an odd number, as a rule near the end, where some rows see it. */
static nm_kv_view make_cache(kcheck *c, const attend_case *t, there at, int slot, size_t dim,
                             float *numbers)
{
    const nm_type_traits *traits = nm_type_get(t->type);
    const size_t elem = traits->block_elems == 1 ? traits->block_bytes : 2, n_kv = t->n_kv;
    nm_kv_view view = {.type = t->type};
    const size_t head_bytes = dim / traits->block_elems * traits->block_bytes;
    view.head_bytes = head_bytes + draw_bits(c) % 3 * elem;
    view.pos_bytes = n_kv * view.head_bytes + draw_bits(c) % 3 * elem;
    const size_t n = t->args.pos0 + t->args.n_q;
    const size_t bytes =
        n ? (n - 1) * view.pos_bytes + (n_kv - 1) * view.head_bytes + head_bytes : 0;
    char *data = slot_take(slot, t->where, bytes / elem, elem);
    memset(data, 0xff, bytes);
    const flavour f = draw_bits(c) % 4 ? PLAIN : WIDE;
    const size_t back = draw_bits(c) % 2 ? 5 : 2 * t->queries + 1;
    const size_t odd = draw_bits(c) % 4 || at.end <= at.first
                           ? SIZE_MAX
                           : at.end - 1 - draw_bits(c) % nm_min_size(back, at.end - at.first);
    for (size_t p = at.first; p < at.end; p++)
        for (size_t h = at.kv0; h < at.kv1; h++) {
            float row[MOST_DIM];
            draw_many(c, f, row, dim);
            if (t->rise > 0 && numbers == k_numbers)
                row[0] = t->rise * (float)p;
            for (size_t d = 0; t->rise > 0 && numbers == v_numbers && d < dim; d++)
                row[d] *= 0x1p+100f;
            if (p == odd)
                row[draw_bits(c) % dim] = odd_number(c);
            char *to = data + p * view.pos_bytes + h * view.head_bytes;
            traits->encode(row, to, dim, NULL);
            traits->decode(to, numbers + (p * n_kv + h) * dim, dim);
        }
    view.data = data;
    return view;
}

static void make_queries(kcheck *c, attend_case *t, there at)
{
    const size_t n_head = (size_t)t->n_kv * t->group, n = t->args.n_q * n_head * t->dim_k;
    const uint32_t kind = draw_bits(c) % 8, odd = draw_bits(c) % 4;
    float *q = slot_take(SLOT_Q, t->where, n, sizeof *q);
    memset(q, 0xff, n * sizeof *q);
    for (size_t i = at.query0; i < at.query1; i++)
        for (size_t h = at.head0; h < at.head1; h++) {
            float *row = q + (i * n_head + h) * t->dim_k;
            draw_many(c, kind == 0 ? WIDE : PLAIN, row, t->dim_k);
            for (size_t d = 0; kind == 1 && d < t->dim_k; d++)
                row[d] *= 40; /* steep */
            if (t->rise > 0)
                row[0] = 1 / t->args.scale;
            if (odd == 0 && draw_bits(c) % 5 == 0)
                row[draw_bits(c) % t->dim_k] = odd_number(c);
        }
    t->args.q = q;
}

static void make_sinks(kcheck *c, attend_case *t)
{
    static const float some[] = {0, -INFINITY, 30, -1e4f, 1e4f};
    for (size_t h = 0; h < (size_t)t->n_kv * t->group; h++)
        t->sinks[h] = draw_bits(c) % 2 ? 3 * draw(c, PLAIN) : some[draw_bits(c) % COUNT(some)];
    t->args.sinks = draw_bits(c) % 2 ? t->sinks : NULL;
}

/* All but the way to compute it: args and exact. */
static void make_case(kcheck *c, attend_case *t, there at)
{
    t->where = (placement)(draw_bits(c) % N_PLACEMENTS);
    t->args.n_head = t->n_kv * t->group;
    t->args.n_head_kv = t->n_kv;
    t->args.dim_k = (uint32_t)t->dim_k;
    t->args.dim_v = (uint32_t)t->dim_v;
    t->args.scale = 1.0f / sqrtf((float)t->dim_k);
    t->args.window = (uint32_t)t->window;
    t->args.k = make_cache(c, t, at, SLOT_K, t->dim_k, k_numbers);
    t->args.v = t->args.k;
    if (t->latent) {
        slot_take(SLOT_V, ALIGNED, 0, 1);
        for (size_t i = 0; i < (t->args.pos0 + t->args.n_q) * t->n_kv; i++)
            memcpy(v_numbers + i * t->dim_v, k_numbers + i * t->dim_k, t->dim_v * sizeof(float));
    } else {
        t->args.v = make_cache(c, t, at, SLOT_V, t->dim_v, v_numbers);
    }
    make_queries(c, t, at);
    make_sinks(c, t);
    t->args.out = slot_take(SLOT_OUT, t->where, t->args.n_q * t->args.n_head * t->dim_v, 4);
    t->exact = (attention_exact){&t->args, k_numbers, v_numbers, 0, SIZE_MAX, true};
    snprintf(t->name, sizeof t->name,
             "%s%s, heads %u / %u, dims %zu %zu, queries %zu from %zu, window %zu%s, placement %d",
             nm_type_get(t->type)->name, t->latent ? ", one memory" : "", t->args.n_head, t->n_kv,
             t->dim_k, t->dim_v, t->args.n_q, t->args.pos0, t->window,
             t->args.sinks ? ", sinks" : "", (int)t->where);
}

/* ---- comparing ------------------------------------------------------------------------------ */

static bool leaves_fp32(const attention_row *row)
{
    return row->score > (double)FLT_MAX / 16 ||
           row->value * 512 * (double)row->seen > (double)FLT_MAX;
}

/* True: got is right, and there is no error to measure. */
static bool right_kind(const attend_case *t, const attention_row *row, float got, double exact)
{
    if (row->infinite && t->planes != ATTENTION_FP32 && isnan(got))
        return true;
    if (isnan(got) && isnan(exact))
        return true;
    if (row->nan || row->max == INFINITY)
        return isnan(got);
    if (row->max == -INFINITY)
        return got == 0;
    if (row->least < 0x1p-100) /* whether a weight is 0 decides between NaN and Inf */
        return !isfinite(got) || row->infinite;
    return (double)got == exact;
}

static void compare_row(kcheck *c, const attend_case *t, const attention_row *row, size_t at,
                        const float *got)
{
    const double tiny = t->planes == ATTENTION_FP32 ? 0x1p-139 : 0x1p-120;
    const double bound = attention_bound(t->planes, t->dim_k, row->score, row->value) + tiny;
    for (size_t i = 0; i < t->dim_v && !leaves_fp32(row); i++) {
        const double off = fabs((double)got[i] - want[i]);
        if (isfinite(want[i]) && off <= bound)
            c->worst = fmax(c->worst, off / bound);
        else if ((isfinite(want[i]) && !isnan(got[i])) || !right_kind(t, row, got[i], want[i]))
            fail(c, "%s: row %zu, element %zu is %.9g, exact is %.9g, bound %.3g", t->name, at, i,
                 (double)got[i], want[i], bound);
    }
}

static bool is_poison(const void *at, size_t bytes)
{
    const unsigned char *p = at;
    for (size_t i = 0; i < bytes; i++)
        if (p[i] != 0xa5)
            return false;
    return true;
}

static void compare_guards(kcheck *c, const attend_case *t, int slots)
{
    for (int i = 0; i < slots; i++)
        if (!slot_guards_intact(i))
            fail(c, "%s: wrote outside %s", t->name,
                 i == SLOT_OUT  ? "out"
                 : i < SLOT_OUT ? "its arguments"
                                : "scratch or parts");
}

static float *out_row(const attend_case *t, size_t query, size_t head)
{
    return t->args.out + (query * t->args.n_head + head) * t->dim_v;
}

/* Rows of the chunk that are not the task's must be as they were; of large cases the others are a sample. */
static void compare_out(kcheck *c, const attend_case *t, there at)
{
    const size_t n_head = t->args.n_head, n = t->args.n_q * n_head, heads = at.head1 - at.head0;
    const size_t steps = (at.query1 - at.query0) * heads * t->end * (t->dim_k + t->dim_v);
    const size_t step = 1 + steps / (c->one_in > 1 ? 200000 : 2000000);
    for (size_t r = 0, own = 0; r < n; r++) {
        const size_t query = r / n_head, head = r % n_head;
        if (query < at.query0 || query >= at.query1 || head < at.head0 || head >= at.head1) {
            if (!is_poison(out_row(t, query, head), t->dim_v * sizeof(float)))
                fail(c, "%s: wrote query %zu, head %zu", t->name, query, head);
            continue;
        }
        if (own++ % step != 0 && r + 1 < n)
            continue;
        const attention_row row = attention_exact_row(&t->exact, query, head, scores, want);
        compare_row(c, t, &row, r, out_row(t, query, head));
    }
}

/* ---- tasks ---------------------------------------------------------------------------------- */

static void *take_scratch(const attend_case *t)
{
    const size_t bytes = nm_attend_task_bytes(nm_max_size(t->dim_k, t->dim_v));
    return slot_take(SLOT_SCRATCH, AT_PAGE_END, (bytes + NM_ALIGN - 1) / NM_ALIGN, NM_ALIGN);
}

/* A row of a part: max and sum in natural units, o not divided. */
static void compare_part_row(kcheck *c, const attend_case *t, size_t r)
{
    const nm_attend *k = &t->task;
    const attention_row row = attention_exact_row(&t->exact, k->query0 + r / k->heads,
                                                  k->head0 + r % k->heads, scores, want);
    const float max = k->max[r], sum = k->sum[r];
    float o[MOST_DIM];
    if (row.seen == 0) {
        if (max != -INFINITY || sum != 0)
            fail(c, "%s: row %zu sees nothing, max %g, sum %g", t->name, r, (double)max,
                 (double)sum);
        return;
    }
    for (size_t i = 0; i < t->dim_v; i++)
        o[i] = k->part[r * t->dim_v + i] / sum;
    compare_row(c, t, &row, r, o);
    if (row.infinite || row.nan || leaves_fp32(&row))
        return;
    const double off = fabs((double)sum * exp((double)max - row.max) / row.sum - 1);
    const double bound = attention_bound(t->planes, t->dim_k, row.score, 1);
    if (bound < 0.5 && !(off <= bound))
        fail(c, "%s: row %zu: sum %.9g, max %.9g, exact are %.9g, %.9g", t->name, r, (double)sum,
             (double)max, row.sum, row.max);
}

static void run_part(kcheck *c, attend_case *t, there at)
{
    nm_attend *k = &t->task;
    const size_t n = k->queries * k->heads;
    k->part = slot_take(SLOT_PART, t->where, n * t->dim_v, sizeof(float));
    k->max = slot_take(SLOT_MAX, t->where, n, sizeof(float));
    k->sum = slot_take(SLOT_SUM, t->where, n, sizeof(float));
    c->tier.attend_task(k, take_scratch(t));
    for (size_t r = 0; r < n; r++)
        compare_part_row(c, t, r);
    at.query1 = at.query0; /* nothing of out is the task's */
    compare_out(c, t, at);
    compare_guards(c, t, SLOTS_HERE);
}

/* One row as a task of its own. */
static void compare_alone(kcheck *c, const attend_case *t)
{
    const size_t n = t->task.queries * t->task.heads, r = draw_bits(c) % n;
    const size_t bytes = t->dim_v * sizeof(float);
    nm_attend alone = t->task;
    alone.query0 += r / t->task.heads;
    alone.head0 += (uint32_t)(r % t->task.heads);
    alone.queries = alone.heads = 1;
    alone.end = t->args.pos0 + alone.query0 + 1;
    alone.first = t->window && alone.end > t->window ? alone.end - t->window : 0;
    float before[MOST_DIM], *got = out_row(t, alone.query0, alone.head0);
    memcpy(before, got, bytes);
    memset(got, 0xa5, bytes);
    c->tier.attend_task(&alone, take_scratch(t));
    for (size_t i = 0; i < t->dim_v; i++)
        if (memcmp(&before[i], &got[i], sizeof *got) != 0 && !(isnan(before[i]) && isnan(got[i])))
            fail(c, "%s: row %zu, element %zu is %a, alone %a", t->name, r, i, (double)before[i],
                 (double)got[i]);
    compare_guards(c, t, SLOT_PART);
}

/* The task's place in a chunk: queries before and after it, other heads of its KV head, other KV heads. */
static void run_task(kcheck *c, attend_case *t)
{
    const bool part = draw_bits(c) % 3 == 0;
    const size_t before = draw_bits(c) % 3,
                 after = draw_bits(c) % 2 || t->heads > 13 ? 0 : draw_bits(c) % 40;
    const uint32_t kv = draw_bits(c) % t->n_kv, from = draw_bits(c) % (t->group - t->heads + 1);
    const size_t last = before + t->queries;
    nm_attend *k = &t->task;
    t->args.n_q = last + after;
    t->args.pos0 = t->end > last ? t->end - last : 0;
    t->end = t->args.pos0 + last;
    const size_t past = t->args.pos0 + before + 1;
    *k = (nm_attend){.args = &t->args,
                     .kern = &c->tier,
                     .kv_head = kv,
                     .head0 = kv * t->group + from,
                     .heads = t->heads,
                     .query0 = before,
                     .queries = t->queries,
                     .first = t->window && past > t->window ? past - t->window : 0,
                     .end = t->end,
                     .fine = draw_bits(c) % 2};
    if (part && t->end > k->first) {
        k->first += draw_bits(c) % (t->end - k->first + 1);
        k->end -= draw_bits(c) % (t->end - k->first + 1);
    }
    const there at = {k->first, k->end, kv, kv + 1, k->head0, k->head0 + k->heads, before, last};
    make_case(c, t, at);
    const bool tiles = strcmp(c->tier.isa, "amx") == 0;
    t->planes = !tiles ? ATTENTION_FP32 : k->fine ? ATTENTION_TWO : ATTENTION_ONE;
    t->exact.first = k->first;
    t->exact.end = k->end;
    t->exact.sinks = !part;
    const size_t length = strlen(t->name);
    snprintf(t->name + length, sizeof t->name - length, ", task %zu x %u, positions %zu to %zu%s%s",
             k->queries, k->heads, k->first, k->end, part ? ", part" : "", k->fine ? ", fine" : "");
    c->cases++;
    if (part) {
        run_part(c, t, at);
        return;
    }
    c->tier.attend_task(k, take_scratch(t));
    compare_out(c, t, at);
    compare_guards(c, t, SLOT_PART);
    if (t->queries)
        compare_alone(c, t);
}

/* Scores that grow from block to block of 64 by less than what fp32's exponents hold, here by 2^28 to 2^120 in their
 * exponentials: a maximum that does not move with them leaves no room for values. */
static void make_rising(kcheck *c, attend_case *t)
{
    t->rise = (28 + 92 * fabsf(draw(c, PLAIN))) * 0x1.62e43p-1f / 64;
    t->latent = false;
    t->end = 257 + draw_bits(c) % 51;
}

/* Numbers of i fixed, the others drawn. */
static attend_case draw_task(kcheck *c, uint32_t type, size_t i)
{
    const struct rows r = rows[i < COUNT(rows) ? i : draw_bits(c) % COUNT(rows)];
    attend_case t = {.type = type, .queries = r.queries, .heads = r.heads};
    t.group = t.heads + draw_bits(c) % 3;
    t.n_kv = 1 + draw_bits(c) % 3;
    t.dim_k = pick_dim(c, type);
    t.dim_v = pick_dim(c, type);
    t.end = pick(c, ends, COUNT(ends));
    t.window = pick(c, windows, COUNT(windows));
    t.latent = t.dim_v <= t.dim_k && draw_bits(c) % 3 == 0;
    if (i >= COUNT(rows) && i < COUNT(rows) + COUNT(ends))
        t.end = ends[i - COUNT(rows)];
    else if (type == NM_TYPE_F32 && i % 8 == 0) /* halves have no such values */
        make_rising(c, &t);
    return t;
}

static void run_wide(kcheck *c, uint32_t type, const size_t *width, bool most)
{
    attend_case t = {.type = type, .group = 2, .heads = 2, .n_kv = 1, .queries = 17, .end = 131};
    t.dim_k = width[0];
    t.dim_v = width[1];
    t.latent = t.dim_v <= t.dim_k;
    if (type == NM_TYPE_Q8_0 && (t.dim_k % NM_QK || t.dim_v % NM_QK))
        return;
    if (most) {
        t.queries = nm_attend_max_rows(t.dim_k, t.dim_v) / t.heads;
        t.end = 0; /* as few as that */
    }
    run_task(c, &t);
}

static void check_tasks(kcheck *c)
{
    for (size_t a = 0; a < COUNT(types); a++) {
        for (size_t i = 0; i < 10 * COUNT(rows); i++) /* all rows, all ends, then any */
            if (chosen(c)) {
                attend_case t = draw_task(c, types[a], i);
                run_task(c, &t);
            }
        for (size_t i = 0; i < COUNT(wide); i++)
            if (chosen(c))
                run_wide(c, types[a], wide[i], false);
    }
    static const size_t most[][2] = {{128, 128}, {32, 32}, {1, 64}};
    for (size_t i = 0; i < COUNT(most) && c->one_in == 1; i++)
        run_wide(c, NM_TYPE_F16, most[i], true);
}

/* ---- calls ---------------------------------------------------------------------------------- */

static void run_call(kcheck *c, nm_compute *compute, attend_case *t)
{
    const size_t bytes = nm_attention_scratch_bytes((uint32_t)nm_max_size(t->dim_k, t->dim_v));
    const size_t threads = (size_t)nm_pool_size(compute->pool);
    t->args.n_q = t->queries;
    t->args.pos0 = t->end > t->queries ? t->end - t->queries : 0;
    t->end = t->args.pos0 + t->queries;
    const size_t past = t->args.pos0 + 1,
                 first = t->window && past > t->window ? past - t->window : 0;
    const there at = {first, t->end, 0, t->n_kv, 0, t->n_kv * t->group, 0, t->queries};
    make_case(c, t, at);
    compute->kern = &c->tier;
    compute->scratch_bytes = (bytes + NM_ALIGN - 1) / NM_ALIGN * NM_ALIGN;
    compute->scratch =
        slot_take(SLOT_SCRATCH, AT_PAGE_END, threads * compute->scratch_bytes / NM_ALIGN, NM_ALIGN);
    const bool few = t->queries * t->group <= NM_ATTEND_FEW_ROWS;
    if (strcmp(c->tier.isa, "amx") == 0 && compute->precision != NM_PRECISION_FP32 && !few)
        t->planes = compute->precision == NM_PRECISION_FAST ? ATTENTION_ONE : ATTENTION_TWO;
    const size_t length = strlen(t->name);
    snprintf(t->name + length, sizeof t->name - length, ", precision %d, %zu threads",
             (int)compute->precision, threads);
    nm_attention(compute, &t->args);
    compare_out(c, t, at);
    compare_guards(c, t, SLOT_PART);
    c->cases++;
}

static nm_precision pick_precision(kcheck *c)
{
    static const nm_precision some[] = {NM_PRECISION_FP32, NM_PRECISION_AUTO, NM_PRECISION_FAST,
                                        NM_PRECISION_FULL};
    return some[draw_bits(c) % COUNT(some)];
}

static void check_calls(kcheck *c, nm_compute *compute)
{
    static const size_t queries[] = {0, 1, 1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 97};
    static const uint32_t groups[] = {1, 1, 2, 3, 4, 5, 8};
    for (size_t a = 0; a < COUNT(types); a++)
        for (size_t i = 0; i < COUNT(queries) + COUNT(ends); i++) {
            if (!chosen(c))
                continue;
            attend_case t = {.type = types[a], .n_kv = 1 + draw_bits(c) % 3};
            t.queries = i < COUNT(queries) ? queries[i] : pick(c, queries, COUNT(queries));
            t.end = i < COUNT(queries) ? pick(c, ends, COUNT(ends)) : ends[i - COUNT(queries)];
            t.group = groups[draw_bits(c) % (t.queries > 33 ? 3 : COUNT(groups))];
            t.dim_k = pick_dim(c, t.type);
            t.dim_v = pick_dim(c, t.type);
            t.window = pick(c, windows, COUNT(windows));
            t.latent = t.dim_v <= t.dim_k && draw_bits(c) % 3 == 0;
            compute->precision = pick_precision(c);
            run_call(c, compute, &t);
        }
}

/* Contexts that are shared by spans and parts of positions. */
static void check_long_calls(kcheck *c, nm_compute *compute)
{
    static const struct {
        uint32_t type, n_kv, group;
        size_t queries, end, window;
        nm_precision precision;
    } calls[] = {
        {NM_TYPE_F16, 2, 2, 1, 2049, 0, NM_PRECISION_FP32},
        {NM_TYPE_Q8_0, 1, 4, 1, 2048, 1500, NM_PRECISION_FP32},
        {NM_TYPE_F16, 2, 4, 2, 2051, 0, NM_PRECISION_AUTO},
        {NM_TYPE_F32, 1, 16, 1, 4097, 0, NM_PRECISION_AUTO},
        {NM_TYPE_F16, 1, 16, 3, 4241, 4200, NM_PRECISION_FULL},
    };
    for (size_t i = 0; i < COUNT(calls); i++) {
        if (!chosen(c))
            continue;
        attend_case t = {.type = calls[i].type, .n_kv = calls[i].n_kv, .group = calls[i].group};
        t.queries = calls[i].queries;
        t.end = calls[i].end;
        t.window = calls[i].window;
        t.dim_k = t.dim_v = 32;
        compute->precision = calls[i].precision;
        run_call(c, compute, &t);
    }
}

void check_attend(kcheck *c)
{
    if (c->tier.attend_task)
        check_tasks(c);
    for (int threads = 1; threads <= 2; threads++) {
        nm_compute compute = {.kern = &c->tier};
        if (nm_pool_new(nm_allocator_default(), threads, &compute.pool, NULL) != NPUMOE_OK) {
            fail(c, "no pool of %d threads", threads);
            return;
        }
        if (threads == 1)
            check_calls(c, &compute);
        else
            check_long_calls(c, &compute);
        nm_pool_free(&compute.pool);
    }
}
