/* weights.c: the content of tensors, drawn row by row on all cores and streamed.
 *
 * Two ways to fill a row of a matrix:
 *   direct  n random floats, encoded by src/quant;
 *   bank    for large tensors of block types: BANK_CHUNKS chunks (a super-block each) are drawn and
 *           encoded once per (type, deviation), and rows are strings of chunks picked at random. The
 *           reference encoders of K-quants search for scales at 5 to 20 M weights/s; copying picks
 *           runs at the speed of the disk. Each block is one that a direct draw could have given,
 *           and two rows share a chunk in the same place with probability 1 / BANK_CHUNKS only, so
 *           products with it behave the same. What is lost: the file compresses well.
 *
 * Which way is taken depends on the tensor alone, never on threads, so bytes are reproducible. */
#include <math.h>
#include <stdlib.h>

#include "base/num.h"
#include "mkmodel.h"

#define BANK_CHUNKS 1024
#define MAX_BANKS   48
#define BATCH_BYTES ((size_t)8 << 20)

typedef struct bank {
    nm_type type;
    float std;
    bool anchors; /* the chunk begins a row of the embedding */
    uint32_t elems;
    size_t chunk_bytes;
    unsigned char *data;
} bank;

struct mk_weights {
    mk_spec spec;
    nm_pool *pool;
    mk_skew *skew;
    bank banks[MAX_BANKS];
    size_t n_banks;
    unsigned char *batch;
    size_t batch_bytes;
    float *rows; /* one row of floats per thread */
    size_t row_elems;
};

npumoe_status mk_weights_new(const mk_spec *s, nm_pool *pool, mk_weights **out, npumoe_error *err)
{
    mk_weights *m = nm_zalloc(nm_allocator_default(), sizeof *m);
    if (!m)
        return nm_err_nomem(err, sizeof *m, "weights");
    m->spec = *s;
    m->pool = pool;
    npumoe_status st = mk_skew_new(s, &m->skew, err);
    if (st != NPUMOE_OK)
        mk_weights_free(&m);
    else
        *out = m;
    return st;
}

void mk_weights_free(mk_weights **w)
{
    const npumoe_allocator *a = nm_allocator_default();
    if (!*w)
        return;
    mk_skew_free(&(*w)->skew);
    for (size_t i = 0; i < (*w)->n_banks; i++)
        nm_free(a, (*w)->banks[i].data);
    nm_free(a, (*w)->batch);
    nm_free(a, (*w)->rows);
    nm_free(a, *w);
    *w = NULL;
}

static uint64_t tensor_key(const mk_spec *s, const char *name)
{
    uint64_t h = s->seed;
    for (const char *p = name; *p; p++)
        h = mk_hash(h, (unsigned char)*p);
    return h;
}

static void fill_normal(float *dst, uint64_t n, uint64_t key, uint64_t first, float std)
{
    for (uint64_t i = 0; i < n; i++)
        dst[i] = std * mk_normal(key, first + i);
}

static void set_anchors(const mk_spec *s, float *row, float unit)
{
    for (size_t i = 0; i < MK_ANCHORS; i++)
        row[mk_anchor_channel[i]] = unit * mk_anchor_value(s, i);
}

/* ---- banks -------------------------------------------------------------------------------- */

typedef struct bank_job {
    const mk_weights *m;
    const bank *b;
    nm_pool *pool;
} bank_job;

static void bank_run(void *arg, int thread, int n_threads)
{
    bank_job *j = arg;
    const bank *b = j->b;
    (void)thread, (void)n_threads;
    uint64_t key = mk_hash(j->m->spec.seed + 0x62616e6b, (uint64_t)b->type * 2 + b->anchors);
    float buf[256];
    for (size_t i = nm_pool_next(j->pool); i < BANK_CHUNKS; i = nm_pool_next(j->pool)) {
        fill_normal(buf, b->elems, key, (uint64_t)i * b->elems, b->std);
        if (b->anchors)
            set_anchors(&j->m->spec, buf, b->std);
        nm_type_get((uint32_t)b->type)->encode(buf, b->data + i * b->chunk_bytes, b->elems, NULL);
    }
}

/* The bank for rows of t with deviation std, made on first use. */
static npumoe_status get_bank(mk_weights *m, const mk_tensor *t, float std, bool anchors,
                              const bank **out, npumoe_error *err)
{
    const nm_type_traits *tr = nm_type_get((uint32_t)t->type);
    uint32_t elems = t->ne[0] % 256 == 0 ? 256 : tr->block_elems;
    for (size_t i = 0; i < m->n_banks; i++) {
        bank *b = &m->banks[i];
        if (b->type == t->type && !(b->std < std) && !(b->std > std) && b->anchors == anchors &&
            b->elems == elems) {
            *out = b;
            return NPUMOE_OK;
        }
    }
    if (m->n_banks == MAX_BANKS)
        return nm_err_set(err, NPUMOE_EINTERNAL, "more than %d kinds of matrix", MAX_BANKS);
    bank *b = &m->banks[m->n_banks];
    *b = (bank){.type = t->type, .std = std, .anchors = anchors, .elems = elems};
    b->chunk_bytes = (size_t)(elems / tr->block_elems) * tr->block_bytes;
    b->data = nm_alloc(nm_allocator_default(), BANK_CHUNKS * b->chunk_bytes);
    if (!b->data)
        return nm_err_nomem(err, BANK_CHUNKS * b->chunk_bytes, "bank of blocks");
    m->n_banks++;
    bank_job job = {.m = m, .b = b, .pool = m->pool};
    nm_pool_run(m->pool, bank_run, &job);
    *out = b;
    return NPUMOE_OK;
}

/* ---- rows --------------------------------------------------------------------------------- */

typedef struct row_job {
    mk_weights *m;
    const mk_tensor *t;
    const nm_type_traits *traits;
    const bank *plain, *first, *quiet; /* banks, or NULL: direct */
    uint64_t key, row0, n_rows;
    size_t row_bytes;
} row_job;

#define QUIET 0.05f /* deviation of rows that write to anchor channels, relative */

static void draw_norm(const row_job *j, float *row)
{
    const mk_tensor *t = j->t;
    for (uint64_t i = 0; i < t->ne[0]; i++) {
        float v = t->std * (0.75f + 0.5f * mk_uniform(j->key, i));
        bool minus = t->signs && mk_hash(j->key ^ 1, i) >> 63;
        row[i] = minus ? -v : v;
    }
    for (size_t i = 0; i < MK_ANCHORS && t->anchor > 0; i++)
        row[mk_anchor_channel[i]] = t->anchor;
}

static void draw_row(const row_job *j, uint64_t r, float *row)
{
    const mk_tensor *t = j->t;
    const mk_spec *s = &j->m->spec;
    uint64_t n = t->ne[0];
    switch (t->role) {
    case MK_NORM:
        draw_norm(j, row);
        return;
    case MK_ROUTER:
        mk_skew_row(j->m->skew, t->layer, (uint32_t)r, row);
        return;
    case MK_FACTORS:
        for (uint64_t i = 0; i < n; i++) {
            float q = (float)i / (float)n;
            float rise = t->std * q;
            row[i] = 1.0f + rise * q;
        }
        return;
    case MK_WRITER:
        fill_normal(row, n, j->key, r * n, mk_is_anchor(r % t->ne[1]) ? QUIET * t->std : t->std);
        return;
    case MK_EMBEDDING:
        fill_normal(row, n, j->key, r * n, t->std);
        set_anchors(s, row, t->std);
        return;
    case MK_MATRIX:
    case MK_VECTOR:
        fill_normal(row, n, j->key, r * n, t->std);
        return;
    }
}

static void copy_row(const row_job *j, uint64_t r, unsigned char *dst)
{
    const bank *b = j->quiet && mk_is_anchor(r % j->t->ne[1]) ? j->quiet : j->plain;
    uint64_t chunks = j->t->ne[0] / b->elems;
    for (uint64_t c = 0; c < chunks; c++) {
        const bank *from = c == 0 && j->first ? j->first : b;
        size_t pick = (size_t)(mk_hash(j->key, r * chunks + c) % BANK_CHUNKS);
        memcpy(dst + c * b->chunk_bytes, from->data + pick * b->chunk_bytes, b->chunk_bytes);
    }
}

static void rows_run(void *arg, int thread, int n_threads)
{
    row_job *j = arg;
    (void)n_threads;
    float *row = j->m->rows + (size_t)thread * j->m->row_elems;
    for (size_t i = nm_pool_next(j->m->pool); i < j->n_rows; i = nm_pool_next(j->m->pool)) {
        unsigned char *dst = j->m->batch + i * j->row_bytes;
        if (j->plain) {
            copy_row(j, j->row0 + i, dst);
        } else {
            draw_row(j, j->row0 + i, row);
            j->traits->encode(row, dst, j->t->ne[0], NULL);
        }
    }
}

static npumoe_status choose_banks(mk_weights *m, row_job *j, npumoe_error *err)
{
    const mk_tensor *t = j->t;
    uint64_t elems = t->ne[0] * t->ne[1] * t->ne[2];
    bool matrix = t->role == MK_MATRIX || t->role == MK_WRITER || t->role == MK_EMBEDDING;
    if (!matrix || j->traits->block_elems == 1 || elems < (uint64_t)BANK_CHUNKS * 256 * 4)
        return NPUMOE_OK;
    NM_TRY(get_bank(m, t, t->std, false, &j->plain, err));
    if (t->role == MK_EMBEDDING)
        NM_TRY(get_bank(m, t, t->std, true, &j->first, err));
    if (t->role == MK_WRITER)
        NM_TRY(get_bank(m, t, QUIET * t->std, false, &j->quiet, err));
    return NPUMOE_OK;
}

static npumoe_status make_room(mk_weights *m, size_t batch_bytes, size_t row_elems,
                               npumoe_error *err)
{
    const npumoe_allocator *a = nm_allocator_default();
    size_t threads = (size_t)nm_pool_size(m->pool);
    if (m->batch_bytes < batch_bytes) {
        nm_free(a, m->batch);
        m->batch = nm_alloc(a, batch_bytes);
        m->batch_bytes = m->batch ? batch_bytes : 0;
    }
    if (m->row_elems < row_elems) {
        nm_free(a, m->rows);
        m->rows = nm_alloc_array(a, row_elems * threads, sizeof(float));
        m->row_elems = m->rows ? row_elems : 0;
    }
    if (!m->batch || !m->rows)
        return nm_err_nomem(err, batch_bytes + row_elems * threads * sizeof(float), "rows");
    return NPUMOE_OK;
}

npumoe_status mk_write_tensor(mk_weights *m, nm_gguf_writer *w, const mk_tensor *t,
                              npumoe_progress_fn progress, void *user, uint64_t *done,
                              uint64_t total, npumoe_error *err)
{
    uint64_t rows = t->ne[1] * t->ne[2];
    row_job j = {.m = m,
                 .t = t,
                 .traits = nm_type_get((uint32_t)t->type),
                 .key = tensor_key(&m->spec, t->name),
                 .row_bytes = (size_t)(t->bytes / rows)};
    if (!j.traits->encode)
        return nm_err_set(err, NPUMOE_EUNSUPPORTED, "%s: no encoder for %s", t->name,
                          j.traits->name);
    NM_TRY(choose_banks(m, &j, err));
    uint64_t per_batch = nm_max_size(1, BATCH_BYTES / j.row_bytes);
    NM_TRY(make_room(m, (size_t)per_batch * j.row_bytes, (size_t)t->ne[0], err));
    for (j.row0 = 0; j.row0 < rows; j.row0 += per_batch) {
        j.n_rows = rows - j.row0 < per_batch ? rows - j.row0 : per_batch;
        nm_pool_run(m->pool, rows_run, &j);
        size_t bytes = (size_t)j.n_rows * j.row_bytes;
        NM_TRY(nm_gguf_write_data(w, m->batch, bytes, err));
        *done += bytes;
        if (progress && !progress(user, *done, total))
            return nm_err_set(err, NPUMOE_ECANCELED, "interrupted");
    }
    return NPUMOE_OK;
}
