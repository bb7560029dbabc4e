/* matmul.c: weights decoded tile by tile, each tile met by all rows of x.
 *
 * A tile is nm_matmul_tile_rows() output rows. Its panel is row-major fp32 in the thread's scratch:
 *
 *   panel[r][0..cols), row stride = cols rounded up to a cache line, plus one line
 *
 * The extra line keeps rows of the panel out of each other's cache sets when cols is a power of
 * two. PANEL_BYTES is a quarter of the smallest L2 in the field (1 MiB and more on servers, 2 MiB
 * on this decade's cores), so x and y have room beside it.
 *
 * Why not transpose the panel so that lanes run along the outputs, as BLAS does: the transposition
 * costs as much as the decoding, and with few rows of x (decode, cold experts) there is nothing to
 * pay it from. Lanes along the inputs need a horizontal sum per result, 1/k of the work.
 *
 * Bits: an element is one call of the gemm kernel's inner sum over its own two rows, whatever the
 * tile, the block of x rows and the thread; kern.def promises the rest. */
#include "kernels/matmul.h"

#include "kernels/attention.h"

#include "base/num.h"

enum {
    LINE = NM_ALIGN / sizeof(float),
    PANEL_BYTES = 512 * 1024,
    MAX_TILE_ROWS = 32, /* more would leave small matrices with too few tiles to share */
    MIN_TILE_ROWS = 4,
    L1_BYTES = 32 * 1024,
    FEW = 4,     /* rows of x that make little work of a panel */
    X_BLOCK = 64 /* rows of x per ticket when there are too few tiles */
};

static size_t panel_stride(uint64_t cols)
{
    return ((size_t)cols + LINE - 1) / LINE * LINE + LINE;
}

size_t nm_matmul_tile_rows(uint64_t cols)
{
    size_t rows = PANEL_BYTES / (panel_stride(cols) * sizeof(float)) / 4 * 4;
    return rows < MIN_TILE_ROWS ? MIN_TILE_ROWS : nm_min_size(rows, MAX_TILE_ROWS);
}

/* Bytes of scratch for any matrix of at most max_cols columns: either the panel is within
 * PANEL_BYTES or it has the fewest rows allowed. */
static size_t matmul_scratch_bytes(uint64_t max_cols)
{
    return nm_max_size(PANEL_BYTES, MIN_TILE_ROWS * panel_stride(max_cols) * sizeof(float));
}

static const char *row_of(const nm_mat *w, uint64_t row)
{
    return (const char *)w->data + row * w->row_bytes;
}

/* F32 rows can be used where they lie. */
static bool is_plain(const nm_mat *w)
{
    return w->type == NM_TYPE_F32 && (uintptr_t)w->data % sizeof(float) == 0 &&
           w->row_bytes % sizeof(float) == 0;
}

/* y[i][j0 ..] for n rows of the panel. */
static void multiply(const nm_kern *kern, size_t n, size_t k, const float *panel, size_t stride,
                     uint64_t j0, size_t m, const float *const *x, float *const *y)
{
    enum { POINTERS = 64 };
    for (size_t i = 0; i < m; i += POINTERS) {
        float *at[POINTERS];
        size_t rows = nm_min_size(POINTERS, m - i);
        for (size_t r = 0; r < rows; r++)
            at[r] = y[i + r] + j0;
        kern->gemm_nt(rows, n, k, x + i, panel, stride, at);
    }
}

/* Rows to decode before x meets them. Few rows of x pass over the panel so fast that it should
 * still be in L1. */
static size_t rows_per_pass(size_t stride, size_t m)
{
    size_t rows = L1_BYTES / (stride * sizeof(float)) / MIN_TILE_ROWS * MIN_TILE_ROWS;
    return m > FEW ? MAX_TILE_ROWS : nm_max_size(rows, MIN_TILE_ROWS);
}

void nm_matmul_tile(const nm_kern *kern, void *scratch, const nm_mat *w, uint64_t j0, uint64_t j1,
                    size_t m, const float *const *x, float *const *y)
{
    size_t k = (size_t)w->cols, stride = panel_stride(w->cols);
    if (is_plain(w)) {
        const void *at = row_of(w, j0);
        multiply(kern, (size_t)(j1 - j0), k, at, (size_t)w->row_bytes / sizeof(float), j0, m, x, y);
        return;
    }
    for (size_t step = rows_per_pass(stride, m); j0 < j1; j0 += step) {
        size_t n = (size_t)(j1 - j0 < step ? j1 - j0 : step);
        float *panel = scratch;
        for (size_t r = 0; r < n; r++)
            kern->decode[w->type](row_of(w, j0 + r), panel + r * stride, k);
        multiply(kern, n, k, panel, stride, j0, m, x, y);
    }
}

typedef struct matmul_job {
    const nm_compute *compute;
    const nm_mat *w;
    const float *bias;
    size_t m, block; /* rows of x; rows of x per ticket */
    const float *const *x;
    float *const *y;
} matmul_job;

static void matmul_ticket(const matmul_job *job, void *scratch, size_t tile, size_t block)
{
    const nm_mat *w = job->w;
    size_t tile_rows = nm_matmul_tile_rows(w->cols);
    uint64_t j0 = (uint64_t)tile * tile_rows;
    uint64_t j1 = j0 + tile_rows < w->rows ? j0 + tile_rows : w->rows;
    size_t i0 = block * job->block, i1 = nm_min_size(i0 + job->block, job->m);
    const nm_kern *kern = job->compute->kern;
    nm_matmul_tile(kern, scratch, w, j0, j1, i1 - i0, job->x + i0, job->y + i0);
    if (job->bias)
        for (size_t i = i0; i < i1; i++)
            kern->add((size_t)(j1 - j0), job->bias + j0, job->y[i] + j0);
}

static void matmul_region(void *arg, int thread, int n_threads)
{
    const matmul_job *job = arg;
    (void)n_threads;
    size_t tile_rows = nm_matmul_tile_rows(job->w->cols);
    size_t n_tiles = (size_t)((job->w->rows + tile_rows - 1) / tile_rows);
    size_t n_blocks = (job->m + job->block - 1) / job->block;
    void *scratch = nm_compute_slice(job->compute, thread);
    for (;;) {
        size_t ticket = nm_pool_next(job->compute->pool);
        if (ticket >= n_tiles * n_blocks)
            return;
        matmul_ticket(job, scratch, ticket / n_blocks, ticket % n_blocks);
    }
}

void nm_matmul(const nm_compute *c, const nm_mat *w, const float *bias, size_t m,
               const float *const *x, float *const *y)
{
    if (m == 0 || w->rows == 0)
        return;
    matmul_job job = {c, w, bias, m, m, x, y};
    /* Too few tiles for the threads: share rows of x as well, at the price of decoding a tile in
     * more than one place. */
    size_t tiles = (size_t)w->rows / nm_matmul_tile_rows(w->cols) + 1;
    if (tiles < 4 * (size_t)nm_pool_size(c->pool))
        job.block = nm_min_size(m, X_BLOCK);
    nm_pool_run(c->pool, matmul_region, &job);
}

size_t nm_compute_scratch_bytes(uint64_t max_cols, uint32_t head_dim)
{
    size_t bytes =
        nm_max_size(matmul_scratch_bytes(max_cols), nm_attention_scratch_bytes(head_dim));
    return (bytes + NM_ALIGN - 1) / NM_ALIGN * NM_ALIGN;
}

void nm_mat_row(const nm_kern *kern, const nm_mat *w, uint64_t row, float *out)
{
    kern->decode[w->type](row_of(w, row), out, (size_t)w->cols);
}
