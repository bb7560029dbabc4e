/* How a wave is cut into tickets: a busy item by rows too, without a bit of the result changing; where waves end, and
 * rows that items share. */
#include "support/tiers.h"
#include "tap.h"

#include "kernels/network.h"

#include <pthread.h>

enum { MOST = 1000, FEW = 5, N = 64, FF = 96, MOST_ROWS_OF_A_TICKET = 256 };

static float gate[FF][N], up[FF][N], down[N][FF], x[MOST][N];
static const float *rows[MOST];

/* What the product under test was asked for; tickets of several threads come at the same time. */
static struct {
    pthread_mutex_t lock;
    const nm_product *real;
    size_t calls, most;
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void gated_seen(const nm_gated_args *args)
{
    pthread_mutex_lock(&seen.lock);
    seen.calls++;
    seen.most = args->m > seen.most ? args->m : seen.most;
    pthread_mutex_unlock(&seen.lock);
    seen.real->gated(args);
}

static void make_data(void)
{
    uint32_t seed = 7;
    float *const arrays[] = {&gate[0][0], &up[0][0], &down[0][0], &x[0][0]};
    const size_t sizes[] = {(size_t)FF * N, (size_t)FF * N, (size_t)N * FF, (size_t)MOST * N};
    for (size_t a = 0; a < 4; a++)
        for (size_t i = 0; i < sizes[a]; i++) {
            seed = seed * 1664525u + 1013904223u;
            arrays[a][i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
        }
    for (size_t i = 0; i < MOST; i++)
        rows[i] = x[i];
}

static nm_mat mat_of(const void *data, uint64_t n, uint64_t cols)
{
    return (nm_mat){
        .type = NM_TYPE_F32, .rows = n, .cols = cols, .row_bytes = cols * 4, .data = data};
}

/* m rows of x, by one item of all of them or by items of at most `each`, which are all above the few. */
static void run(const nm_compute *c, size_t m, size_t each, float (*y)[N])
{
    nm_network_item items[8];
    nm_network_part parts[8];
    float *to[MOST];
    size_t n = 0;
    for (size_t i = 0; i < m; i++)
        to[i] = y[i];
    for (size_t i = 0; i < m; i += each, n++)
        items[n] = (nm_network_item){.gate = mat_of(gate, FF, N),
                                     .up = mat_of(up, FF, N),
                                     .down = mat_of(down, N, FF),
                                     .m = m - i < each ? m - i : each,
                                     .x = rows + i,
                                     .y = to + i};
    const nm_network_job job = {.compute = c,
                                .act = NM_ACT_SWIGLU,
                                .items = items,
                                .n_items = n,
                                .parts = parts,
                                .replace = true};
    nm_network_run(&job);
}

static void check_tier(nm_kern *kern, nm_precision precision, int n_threads, size_t packed_bytes)
{
    static float want[MOST][N], got[MOST][N];
    const npumoe_allocator *a = nm_allocator_default();
    npumoe_error err;
    nm_compute c = {.kern = kern, .precision = precision, .packed_bytes = packed_bytes};
    c.scratch_bytes = nm_compute_scratch_bytes(FF, 16);
    c.scratch = nm_alloc_aligned(a, (size_t)n_threads * c.scratch_bytes);
    c.packed = nm_alloc_aligned(a, packed_bytes);
    if (!c.scratch || !c.packed || nm_pool_new(a, n_threads, &c.pool, &err) != NPUMOE_OK)
        bail("no pool");
    for (size_t m = MOST; m >= MOST - 40; m -= 13) {
        run(&c, m, MOST_ROWS_OF_A_TICKET, want);
        seen.calls = seen.most = 0;
        run(&c, m, m, got);
        is_mem(got, want, m * sizeof got[0],
               "%s, precision %d, %d threads, %d rows, %d bytes: an item of them or several, same "
               "bits",
               kern->isa, (int)precision, n_threads, (int)m, (int)packed_bytes);
        ok(seen.most > 0 && seen.most <= MOST_ROWS_OF_A_TICKET,
           "... no ticket of more than %d rows (%d)", MOST_ROWS_OF_A_TICKET, (int)seen.most);
    }
    seen.calls = 0;
    run(&c, FEW, FEW, got);
    const size_t ranges = (FF + seen.real->task - 1) / seen.real->task;
    ok(seen.calls == ranges, "... few rows: a ticket for each range of outputs (%d)",
       (int)seen.calls);
    nm_pool_free(&c.pool);
    nm_free_aligned(a, c.scratch);
    nm_free_aligned(a, c.packed);
}

/* ---- rows that are left ----------------------------------------------------------------------- */

enum { SMALL = 24, LEFT = 3, ITEMS = 3 };

/* One thread, as nothing here depends on how many there are. */
static void with_room(nm_compute *c, size_t packed_bytes,
                      void (*check)(const nm_compute *, void *arg), void *arg)
{
    const npumoe_allocator *a = nm_allocator_default();
    npumoe_error err;
    c->packed_bytes = packed_bytes;
    c->scratch_bytes = nm_compute_scratch_bytes(FF, 1);
    c->scratch = nm_alloc_aligned(a, c->scratch_bytes);
    c->packed = nm_alloc_aligned(a, packed_bytes);
    if (!c->scratch || !c->packed || nm_pool_new(a, 1, &c->pool, &err) != NPUMOE_OK)
        bail("no pool");
    check(c, arg);
    nm_pool_free(&c->pool);
    nm_free_aligned(a, c->scratch);
    nm_free_aligned(a, c->packed);
}

typedef struct rows_run {
    size_t m;
    float (*y)[N];
} rows_run;

static void run_rows(const nm_compute *c, void *arg)
{
    const rows_run *r = arg;
    run(c, r->m, r->m, r->y);
}

/* Room for whole groups of rows and an item of one to three more: these are as few as rows of products for few rows,
 * but their item is not. */
static void check_left(const nm_kern *kern, nm_precision precision)
{
    static float want[SMALL + LEFT][N], got[SMALL + LEFT][N];
    const uint32_t type = NM_TYPE_F32;
    const nm_product *p = nm_product_pick(kern, precision, SMALL, &type, 1);
    const size_t rows_in = (SMALL + p->group - 1) / p->group * p->group;
    nm_compute c = {.kern = kern, .precision = precision};
    for (size_t m = rows_in + 1; m <= rows_in + LEFT && m <= SMALL + LEFT; m++) {
        with_room(&c, (size_t)1 << 20, run_rows, &(rows_run){m, want});
        with_room(&c, p->packed_bytes(rows_in, N) + p->packed_bytes(rows_in, FF), run_rows,
                  &(rows_run){m, got});
        is_mem(got, want, m * sizeof got[0],
               "%s, precision %d: %d rows in a wave and %d left, same bits", kern->isa,
               (int)precision, (int)rows_in, (int)(m - rows_in));
    }
}

/* ---- one row of x, several products ----------------------------------------------------------- */

typedef struct tokens {
    nm_network_item items[ITEMS];
    float *to[ITEMS], (*y)[N];
    size_t n, from;
} tokens;

static void run_tokens(const nm_compute *c, void *arg)
{
    const tokens *t = arg;
    nm_network_part parts[ITEMS];
    const nm_network_job job = {.compute = c,
                                .act = NM_ACT_SWIGLU,
                                .items = t->items + t->from,
                                .n_items = t->n,
                                .parts = parts,
                                .replace = true};
    nm_network_run(&job);
}

/* rows of floats as matrices of blocks, which another product takes. */
static nm_mat blocks_of(const void *data, uint64_t n, uint64_t cols, void *to)
{
    const nm_type_traits *t = nm_type_get(NM_TYPE_Q8_0);
    const uint64_t row_bytes = cols / t->block_elems * t->block_bytes;
    for (uint64_t j = 0; j < n; j++)
        t->encode((const float *)data + j * cols, (char *)to + j * row_bytes, (size_t)cols, NULL);
    return (nm_mat){
        .type = NM_TYPE_Q8_0, .rows = n, .cols = cols, .row_bytes = row_bytes, .data = to};
}

/* A token whose experts are of different types: packed once for those that have a product in common, and only for them. */
static void check_products_differ(const nm_kern *kern, nm_precision precision)
{
    static float want[ITEMS][N], got[ITEMS][N];
    static char in_blocks[3][FF * N * 2];
    nm_compute c = {.kern = kern, .precision = precision};
    tokens t = {.n = 1};
    for (size_t i = 0; i < ITEMS; i++) {
        t.to[i] = want[i];
        t.items[i] = (nm_network_item){.gate = mat_of(gate, FF, N),
                                       .up = mat_of(up, FF, N),
                                       .down = mat_of(down, N, FF),
                                       .m = 1,
                                       .x = rows,
                                       .y = &t.to[i]};
    }
    t.items[1].gate = blocks_of(gate, FF, N, in_blocks[0]);
    t.items[1].up = blocks_of(up, FF, N, in_blocks[1]);
    t.items[1].down = blocks_of(down, N, FF, in_blocks[2]);
    for (t.from = 0; t.from < ITEMS; t.from++)
        with_room(&c, (size_t)1 << 20, run_tokens, &t);
    for (size_t i = 0; i < ITEMS; i++)
        t.to[i] = got[i];
    t.from = 0;
    t.n = ITEMS;
    with_room(&c, (size_t)1 << 20, run_tokens, &t);
    is_mem(got, want, sizeof got,
           "%s, precision %d: a row that F32, Q8_0 and F32 read, as each alone", kern->isa,
           (int)precision);
}

static void check_kern(nm_kern *kern, nm_precision precision)
{
    const uint32_t type = NM_TYPE_F32;
    const nm_product *real = nm_product_pick(kern, precision, FEW, &type, 1);
    nm_product recording = *real;
    recording.gated = gated_seen;
    seen.real = real;
    for (int i = 0; i < NM_PRODUCT_END; i++)
        if (kern->products[i] == real)
            kern->products[i] = &recording;
    check_tier(kern, precision, 1, (size_t)4 << 20);
    check_tier(kern, precision, 3, (size_t)4 << 20);
    check_tier(kern, precision, 2, (size_t)400 << 10); /* waves of some 300 rows and more */
}

int main(void)
{
    static const nm_precision precisions[] = {NM_PRECISION_FP32, NM_PRECISION_AUTO,
                                              NM_PRECISION_FAST};
    nm_kern kern; /* a check changes its table, so each precision gets a new one */
    make_data();
    for (size_t p = 0; p < 3; p++)
        for (size_t at = 0; tiers_next_kern(&at, &kern);) {
            check_left(&kern, precisions[p]);
            check_products_differ(&kern, precisions[p]);
            check_kern(&kern, precisions[p]);
        }
    return done_testing();
}
