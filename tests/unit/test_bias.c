/* Errors of products are without bias: what the outputs of a row have in common is no larger than chance leaves of
 * errors that have nothing in common. A product that leaves out a part of each sum makes up for its mean (i8x3 for
 * that of lo times lo, with a number that is packed with x or with the inner activations); where that were lost,
 * errors would still be within their tolerance. Weights here have no mean, so rounding x is no bias. */
#include "support/tiers.h"
#include "tap.h"

#include "kernels/matmul.h"
#include "kernels/network.h"
#include "quant/quant.h"

#include <math.h>

/* MOST: i8x3 has up to 3.1, as lo of a code is not 128 on average but near it; without what makes up for it, 35 to 83. */
enum { ROWS = 48, N = 512, MOST = 8 };

static float x[ROWS][N], want[ROWS][N], got[ROWS][N];

static float uniform(void)
{
    static uint32_t seed = 11;
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 8388608.0f - 1.0f;
}

/* owner: the caller, of its data */
static nm_mat matrix(uint32_t type)
{
    const nm_type_traits *t = nm_type_get(type);
    nm_mat m = {.type = type, .rows = N, .cols = N};
    float row[N];
    if (!nm_row_bytes(type, N, &m.row_bytes))
        bail("no rows of this type");
    char *data = malloc((size_t)(N * m.row_bytes));
    for (size_t i = 0; data && i < N; i++) {
        for (size_t j = 0; j < N; j++)
            row[j] = uniform();
        t->encode(row, data + i * m.row_bytes, N, NULL);
    }
    if (!data)
        bail("no memory");
    m.data = data;
    return m;
}

typedef struct weights {
    nm_mat gate, up, down;
} weights;

static void run(const nm_kern *kern, nm_precision precision, const weights *w, bool network,
                float (*y)[N])
{
    const npumoe_allocator *a = nm_allocator_default();
    const float *rows[ROWS];
    float *to[ROWS];
    nm_compute c = {.kern = kern, .precision = precision};
    c.scratch_bytes = nm_compute_scratch_bytes(N, 16);
    c.scratch = nm_alloc_aligned(a, c.scratch_bytes);
    c.packed_bytes = (size_t)4 << 20;
    c.packed = nm_alloc_aligned(a, c.packed_bytes);
    if (!c.scratch || !c.packed || nm_pool_new(a, 1, &c.pool, NULL) != NPUMOE_OK)
        bail("no pool");
    for (size_t i = 0; i < ROWS; i++) {
        rows[i] = x[i];
        to[i] = y[i];
    }
    nm_network_part part;
    nm_network_item item = {
        .gate = w->gate, .up = w->up, .down = w->down, .m = ROWS, .x = rows, .y = to};
    if (network)
        nm_network_run(&(nm_network_job){.compute = &c,
                                         .act = NM_ACT_SWIGLU,
                                         .items = &item,
                                         .n_items = 1,
                                         .parts = &part,
                                         .replace = true});
    else
        nm_matmul(&c, &(nm_linear){&w->down, NULL, to}, 1, ROWS, rows);
    nm_pool_free(&c.pool);
    nm_free_aligned(a, c.scratch);
    nm_free_aligned(a, c.packed);
}

/* Mean over the rows of (sum of errors)^2 / (sum of their squares): 1 where they have nothing in common, up to N where
 * they are all the same.
 * Of 16 outputs in each `step`, from `first` on. */
static double common(size_t first, size_t step)
{
    double sum = 0.0;
    for (size_t i = 0; i < ROWS; i++) {
        double e1 = 0.0, e2 = 0.0;
        for (size_t j = first; j < N; j += step)
            for (size_t k = j; k < j + 16; k++) {
                const double e = (double)got[i][k] - (double)want[i][k];
                e1 += e;
                e2 += e * e;
            }
        sum += e2 > 0.0 ? e1 * e1 / e2 : 1.0;
    }
    return sum / ROWS;
}

static void check(const nm_kern *kern, nm_precision precision, uint32_t type, const weights *w,
                  bool network)
{
    const uint32_t types[] = {type, type, type};
    const nm_product *p = nm_product_pick(kern, precision, ROWS, types, 3);
    run(kern, NM_PRECISION_FP32, w, network, want);
    run(kern, precision, w, network, got);
    /* all outputs; either half of each 32, which a matrix unit has in tiles of their own */
    const double all = common(0, 16), even = common(0, 32), odd = common(16, 32);
    ok(all < MOST && even < MOST && odd < MOST, "%s, %s, %s, %s: no common error (%.2f %.2f %.2f)",
       kern->isa, p->name, nm_type_get(type)->name, network ? "network" : "matrix", all, even, odd);
}

int main(void)
{
    static const uint32_t types[] = {NM_TYPE_Q8_0, NM_TYPE_Q6_K};
    static const nm_precision precisions[] = {NM_PRECISION_AUTO, NM_PRECISION_FULL,
                                              NM_PRECISION_FINE, NM_PRECISION_FAST};
    weights w[2];
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < N; j++)
            x[i][j] = uniform();
    for (int t = 0; t < 2; t++)
        w[t] = (weights){matrix(types[t]), matrix(types[t]), matrix(types[t])};
    nm_kern kern;
    for (size_t at = 0; tiers_next_kern(&at, &kern);)
        for (int n = 0; n < 16; n++)
            check(&kern, precisions[n / 4], types[n / 2 % 2], &w[n / 2 % 2], n % 2);
    for (int t = 0; t < 2; t++) {
        free((void *)(uintptr_t)w[t].gate.data);
        free((void *)(uintptr_t)w[t].up.data);
        free((void *)(uintptr_t)w[t].down.data);
    }
    return done_testing();
}
