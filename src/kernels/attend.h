/* attend.h: one task of attention, as the kernels of the tiers see it. Private to src/kernels.
 *
 * attention.c cuts the work into tasks and shares them out; a tier may bring a kernel that does a
 * whole task its own way (nm_kern.attend_task). */
#ifndef NM_KERNELS_ATTEND_H
#define NM_KERNELS_ATTEND_H

#include "base/num.h"
#include "kernels/attention.h"

/* Rows are (query, head) pairs of one KV head, ordered by query, then head: row i * heads + h is
 * query query0 + i of the chunk and head head0 + h. */
typedef struct nm_attend {
    const nm_attention_args *args;
    const nm_kern *kern; /* decoders */
    uint32_t kv_head, head0, heads;
    size_t query0, queries;
    size_t first, end; /* positions to look at, of those that a row sees */
    bool fine;         /* near fp32; false: one pass of bf16, if the tier has it */
    /* Where results go. NULL: divided by their sum, with sinks, to args->out. Else row r is
     * part + r * dim_v, relative to maximum max[r] (natural units) and not divided by sum[r]. */
    float *part, *max, *sum;
} nm_attend;

/* Latent attention (MLA) keeps one row per position: values are the first numbers of keys. */
static inline bool nm_attend_values_in_keys(const nm_attention_args *a)
{
    return a->v.data == a->k.data && a->v.type == a->k.type && a->v.pos_bytes == a->k.pos_bytes &&
           a->v.head_bytes == a->k.head_bytes && a->dim_v <= a->dim_k;
}

/* Sizes of these kernels (x86/attend_amx.c, tmpl/attend.inc). Widths are padded to a tile. */
enum {
    NM_ATTEND_KEYS = 128,     /* positions of a block */
    NM_ATTEND_COLUMN = 32,    /* rows that go through a block together */
    NM_ATTEND_MIN_ROWS = 128, /* that a task may have, whatever the widths */
    NM_ATTEND_MAX_ROWS = 512,
    NM_ATTEND_ROWS_BYTES = 640 * 1024
};

static inline size_t nm_attend_padded(size_t dim)
{
    return (dim + 31) / 32 * 32;
}

/* Bytes that one row keeps in scratch: q in two planes of bf16 or in fp32, o in fp32, its numbers. */
static inline size_t nm_attend_row_bytes(size_t dim_k, size_t dim_v)
{
    return 4 * (nm_attend_padded(dim_k) + nm_attend_padded(dim_v) + 4);
}

/* Rows of one task, at most: what fits half an L2 beside the block, as packing a block is paid for
 * by the rows that meet it. */
static inline size_t nm_attend_max_rows(size_t dim_k, size_t dim_v)
{
    size_t rows = NM_ATTEND_ROWS_BYTES / nm_attend_row_bytes(dim_k, dim_v) / NM_ATTEND_COLUMN;
    return nm_min_size(NM_ATTEND_MAX_ROWS,
                       nm_max_size(rows * NM_ATTEND_COLUMN, NM_ATTEND_MIN_ROWS));
}

/* Scratch of attend_task for tasks of nm_attend_max_rows, whatever the widths up to dim. */
static inline size_t nm_attend_task_bytes(size_t dim)
{
    size_t row = nm_attend_row_bytes(dim, dim);
    size_t rows = nm_max_size(NM_ATTEND_ROWS_BYTES, NM_ATTEND_MIN_ROWS * row);
    rows = nm_min_size(rows, NM_ATTEND_MAX_ROWS * row);
    return rows + 4 * NM_ATTEND_KEYS * (2 * nm_attend_padded(dim) + 3 * NM_ATTEND_COLUMN);
}

/* ---- states of rows ------------------------------------------------------------------------ */

/* Online softmax of one row: o is not yet divided by sum. Nothing seen: max -INFINITY, sum 0, and the
 * result is zeros. A NaN score makes sum NaN for good, whatever max is, and the result is NaN. */
typedef struct nm_attend_state {
    float max, sum;
    float *o; /* [dim_v] */
} nm_attend_state;

void nm_attend_clear(nm_attend_state *s, size_t dim_v);
/* into = into + from, both relative to the larger maximum. */
void nm_attend_merge(const nm_kern *kern, nm_attend_state *into, const nm_attend_state *from,
                     size_t dim_v);
/* o becomes the result. A sink (or NULL) joins the sum without a value. */
void nm_attend_finish(const nm_kern *kern, nm_attend_state *s, const float *sink, size_t dim_v);

/* ---- few rows ------------------------------------------------------------------------------ */

enum { NM_ATTEND_FEW_ROWS = 8 };

/* All of nm_attention() for up to NM_ATTEND_FEW_ROWS rows of each KV head; false: more of them, or
 * more heads than the scratch has room for. */
bool nm_attend_few(const nm_compute *c, const nm_attention_args *args);

/* ---- sharing out tasks of attend_task ----------------------------------------------------- */

size_t nm_attend_shared_bytes(uint32_t head_dim);
/* All of nm_attention() by kern->attend_task, which the table must have. */
void nm_attend_shared(const nm_compute *c, const nm_attention_args *args);

#endif
