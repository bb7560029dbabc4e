/* matmul.c: see matmul.h.
 *
 * A region has two phases: the rows are packed in pieces, then tickets are drawn, each a range of
 * outputs of one matrix for all packed rows. Few rows are packed by the caller: waking others for a
 * microsecond of work costs more. A matrix with too few outputs to go round (a router) is cut along
 * the rows of x as well, at the price of decoding a range in more than one place.
 *
 * When the rows do not fit into the room, they go through in blocks. */
#include "kernels/matmul.h"

#include "base/num.h"
#include "kernels/attention.h"
#include "kernels/products.h"

enum {
    PACK_ROWS = 16,  /* per ticket of the first phase */
    CUT_ROWS = 64,   /* rows of x per ticket when there are too few ranges */
    LEAST_ROWS = 32, /* of a block */
    /* Weights that one thread reads in about the time that waking another takes. */
    SMALL_BYTES = 16 * 1024
};

typedef struct matmul_job {
    const nm_compute *compute;
    const nm_product *product;
    const nm_linear *list;
    size_t n;
    size_t i0, m; /* the block of rows */
    size_t cut;   /* rows per ticket of the second phase */
    bool packed;
    const float *const *x;
} matmul_job;

static size_t ranges_of(const matmul_job *j, const nm_linear *l)
{
    return ((size_t)l->w->rows + j->product->task - 1) / j->product->task;
}

static size_t all_ranges(const matmul_job *j)
{
    size_t sum = 0;
    for (size_t i = 0; i < j->n; i++)
        sum += ranges_of(j, &j->list[i]);
    return sum;
}

static void pack(const matmul_job *j, size_t i0, size_t i1)
{
    const size_t k = (size_t)j->list[0].w->cols;
    j->product->pack(j->m, k, j->x + j->i0, i0, i1, j->compute->packed);
}

/* The matrix of range *range, which becomes the number within it; NULL past the last. */
static const nm_linear *linear_of(const matmul_job *j, size_t *range)
{
    for (const nm_linear *l = j->list; l < j->list + j->n; l++) {
        if (*range < ranges_of(j, l))
            return l;
        *range -= ranges_of(j, l);
    }
    return NULL;
}

/* Where a thread begins to read for range `range`, NULL past the last. */
static const void *start_of(const matmul_job *j, size_t range)
{
    const nm_linear *l = linear_of(j, &range);
    return l ? nm_mat_row_at(l->w, (uint64_t)range * j->product->task) : NULL;
}

/* Range `range` of the list's outputs for rows [i, i + cut) of the block. */
static void multiply(const matmul_job *j, void *scratch, size_t range, size_t i, const void *next)
{
    const nm_linear *l = linear_of(j, &range);
    const uint64_t j0 = (uint64_t)range * j->product->task, end = j0 + j->product->task;
    const nm_out_args args = {
        .kern = j->compute->kern,
        .w = l->w,
        .j0 = j0,
        .j1 = end < l->w->rows ? end : l->w->rows,
        .m = nm_min_size(j->cut, j->m - i),
        .xp = (char *)j->compute->packed + j->product->packed_bytes(i, (size_t)l->w->cols),
        .bias = l->bias,
        .next = next,
        .y = l->y + j->i0 + i,
        .scratch = scratch,
    };
    j->product->out(&args);
}

static void region(void *arg, int thread, int n_threads)
{
    const matmul_job *j = arg;
    nm_pool *pool = j->compute->pool;
    if (!j->packed) {
        for (size_t t = nm_pool_next(pool); t * PACK_ROWS < j->m; t = nm_pool_next(pool))
            pack(j, t * PACK_ROWS, nm_min_size((t + 1) * PACK_ROWS, j->m));
        nm_pool_barrier_reset(pool);
    }
    void *scratch = nm_compute_slice(j->compute, thread);
    const size_t cuts = (j->m + j->cut - 1) / j->cut, n = all_ranges(j) * cuts;
    /* A ticket is drawn while the one before is still in hand, to know what will be read next. */
    for (size_t t = (size_t)thread, soon; t < n; t = soon) {
        soon = (size_t)n_threads + nm_pool_next(pool);
        multiply(j, scratch, t / cuts, t % cuts * j->cut, start_of(j, soon / cuts));
    }
}

/* One row and little to multiply it with (a router): done before others have woken up. */
static bool is_small(const matmul_job *j)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < j->n; i++)
        bytes += j->list[i].w->rows * j->list[i].w->row_bytes;
    return j->m == 1 && bytes <= SMALL_BYTES;
}

static void run_small(matmul_job *j)
{
    j->cut = 1;
    pack(j, 0, 1);
    for (size_t r = 0; r < all_ranges(j); r++)
        multiply(j, nm_compute_slice(j->compute, 0), r, 0, start_of(j, r + 1));
}

static void run_block(matmul_job *j)
{
    const size_t threads = (size_t)nm_pool_size(j->compute->pool);
    j->cut = j->m;
    if (all_ranges(j) < 4 * threads && threads > 1)
        j->cut = nm_min_size(j->m, CUT_ROWS);
    j->packed = j->m < NM_PRODUCT_FEW;
    if (j->packed)
        pack(j, 0, j->m);
    nm_pool_run(j->compute->pool, region, j);
}

void nm_matmul(const nm_compute *c, const nm_linear *list, size_t n, size_t m,
               const float *const *x)
{
    const nm_mat *mats[NM_PRODUCT_MATS];
    for (size_t i = 0; i < n && i < NM_PRODUCT_MATS; i++)
        mats[i] = list[i].w;
    if (m == 0 || n == 0)
        return;
    const nm_product *p = nm_product_for(c->kern, c->precision, m, mats, n);
    const size_t rows = nm_product_rows(p, (size_t)list[0].w->cols, c->packed_bytes);
    matmul_job j = {.compute = c, .product = p, .list = list, .n = n, .x = x};
    for (; j.i0 < m; j.i0 += rows) {
        j.m = nm_min_size(rows, m - j.i0);
        if (is_small(&j))
            run_small(&j);
        else
            run_block(&j);
    }
}

size_t nm_compute_scratch_bytes(uint64_t max_cols, uint32_t head_dim)
{
    size_t bytes = nm_max_size(nm_products_scratch_bytes((size_t)max_cols),
                               nm_attention_scratch_bytes(head_dim));
    return (bytes + NM_ALIGN - 1) / NM_ALIGN * NM_ALIGN;
}

size_t nm_compute_packed_min(uint64_t cols)
{
    return nm_product_packed_max(LEAST_ROWS, (size_t)cols + NM_PRODUCT_PAD);
}

void nm_mat_row(const nm_kern *kern, const nm_mat *w, uint64_t row, float *out)
{
    const char *at = (const char *)w->data + row * w->row_bytes;
    kern->decode[w->type](at, out, (size_t)w->cols);
}
