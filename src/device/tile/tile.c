/* tile.c: life, programs and memory of device `tile`.
 *
 * Working memory (packed rows, scratch, row pointers) is the largest that any compiled program
 * needs: there is one launch at a time. */
#include "device/tile/tile_priv.h"

#include "base/num.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    LEAST_ROWS = 16,
    MOST_ROWS = 65536,
    /* Packed rows that stay in a core's L2 beside the weights that pass. */
    PACKED_BYTES_EACH = 1024 * 1024
};

nm_tile_options nm_tile_options_default(void)
{
    return (nm_tile_options){
        .precision = NM_PRECISION_FULL,
        .n_threads = 1,
        .slots = UINT32_MAX,
        .program_bytes = UINT64_MAX,
        .total_bytes = UINT64_MAX,
        .capacity_multiple = LEAST_ROWS,
        .capacity_max = MOST_ROWS,
        .queue_depth = 64,
    };
}

/* ---- programs ------------------------------------------------------------------------------- */

static void program_free(nm_npu *npu, nm_program *head)
{
    const npumoe_allocator *a = ((tile *)npu)->allocator;
    tile_program *p = (tile_program *)head;
    nm_free(a, p->networks);
    nm_free(a, p->matrices);
    nm_free(a, p->items);
    nm_free(a, p->linears);
    nm_free(a, p);
}

/* ---- working memory ------------------------------------------------------------------------- */

static bool grow_aligned(const npumoe_allocator *a, void **p, size_t *have, size_t need)
{
    if (need <= *have)
        return true;
    void *fresh = nm_alloc_aligned(a, need);
    if (fresh == NULL)
        return false;
    nm_free_aligned(a, *p);
    *p = fresh;
    *have = need;
    return true;
}

static bool grow_rows(tile *t, size_t rows, size_t parts)
{
    if (rows > t->max_rows) {
        const float **x = nm_alloc_array(t->allocator, rows, sizeof *x);
        float **y = nm_alloc_array(t->allocator, rows, sizeof *y);
        if (x == NULL || y == NULL) {
            nm_free(t->allocator, x);
            nm_free(t->allocator, y);
            return false;
        }
        nm_free(t->allocator, t->x);
        nm_free(t->allocator, t->y);
        t->x = x;
        t->y = y;
        t->max_rows = rows;
    }
    if (parts > t->max_parts) {
        nm_network_part *p = nm_alloc_array(t->allocator, parts, sizeof *p);
        if (p == NULL)
            return false;
        nm_free(t->allocator, t->parts);
        t->parts = p;
        t->max_parts = parts;
    }
    return true;
}

/* Makes the working memory of each thread large enough. */
static bool grow_scratch(tile *t, size_t each)
{
    const size_t n = t->head.caps.n_threads;
    size_t all = t->compute.scratch_bytes * n;
    const bool fits = grow_aligned(t->allocator, &t->compute.scratch, &all, each * n);
    t->compute.scratch_bytes = all / n;
    return fits;
}

static npumoe_status reserve_attention(tile *t, const nm_program_attention *a, npumoe_error *err)
{
    const size_t each = nm_attention_scratch_bytes(a->dim_k > a->dim_v ? a->dim_k : a->dim_v);
    return grow_scratch(t, each) ? NPUMOE_OK
                                 : nm_err_nomem(err, each, "working memory of device tile");
}

/* Makes the working memory large enough for a program. */
static npumoe_status reserve(tile *t, const nm_program_desc *d, npumoe_error *err)
{
    if (d->kind == NM_PROGRAM_ATTENTION)
        return reserve_attention(t, d->attention, err);
    const bool experts = d->kind == NM_PROGRAM_EXPERTS;
    const uint64_t n_in = experts ? d->networks[0].gate.cols : d->matrices[0].w.cols;
    const uint64_t n_ff = experts ? d->networks[0].gate.rows : 0;
    const size_t rows = (size_t)d->capacity * d->n;
    const size_t cols = (size_t)(n_in + n_ff);
    size_t packed = nm_product_packed_max(d->capacity, cols + 2 * NM_PRODUCT_PAD);
    packed = nm_max_size(nm_min_size(packed, 4u * PACKED_BYTES_EACH * t->head.caps.n_threads),
                         nm_compute_packed_min(cols));
    packed = nm_max_size(packed, (size_t)PACKED_BYTES_EACH * t->head.caps.n_threads);
    const size_t scratch = nm_compute_scratch_bytes(n_in > n_ff ? n_in : n_ff, 0);
    const bool fits =
        grow_aligned(t->allocator, &t->compute.packed, &t->compute.packed_bytes, packed) &&
        grow_scratch(t, scratch) && grow_rows(t, rows, d->n);
    return fits ? NPUMOE_OK : nm_err_nomem(err, packed, "working memory of device tile");
}

/* ---- compiling ------------------------------------------------------------------------------ */

static npumoe_status check_type(const tile *t, const nm_mat *w, npumoe_error *err)
{
    if (w->type < NM_TYPE_END && t->kern.decode[w->type])
        return NPUMOE_OK;
    return nm_err_set(err, NPUMOE_EUNSUPPORTED, "device tile has no decoder for weights of type %s",
                      nm_type_get(w->type)->name);
}

static npumoe_status check_types(const tile *t, const nm_program_desc *d, npumoe_error *err)
{
    if (d->kind == NM_PROGRAM_ATTENTION)
        return NPUMOE_OK;
    NM_TRY(nm_tile_check_form(t, d, err));
    for (uint32_t i = 0; i < d->n; i++) {
        if (d->kind == NM_PROGRAM_LINEAR) {
            NM_TRY(check_type(t, &d->matrices[i].w, err));
            continue;
        }
        NM_TRY(check_type(t, &d->networks[i].gate, err));
        NM_TRY(check_type(t, &d->networks[i].up, err));
        NM_TRY(check_type(t, &d->networks[i].down, err));
    }
    return NPUMOE_OK;
}

static bool copy_desc(const npumoe_allocator *a, const nm_program_desc *d, tile_program *p)
{
    p->act = d->act;
    if (d->kind == NM_PROGRAM_ATTENTION) {
        p->attention = *d->attention;
        return true;
    }
    if (d->kind == NM_PROGRAM_EXPERTS) {
        p->networks = nm_alloc_array(a, d->n, sizeof *p->networks);
        p->items = nm_alloc_array(a, d->n, sizeof *p->items);
        if (p->networks == NULL || p->items == NULL)
            return false;
        memcpy(p->networks, d->networks, d->n * sizeof *p->networks);
        return true;
    }
    p->matrices = nm_alloc_array(a, 2 * (size_t)d->n, sizeof *p->matrices);
    p->linears = nm_alloc_array(a, d->n, sizeof *p->linears);
    if (p->matrices == NULL || p->linears == NULL)
        return false;
    memcpy(p->matrices, d->matrices, d->n * sizeof *p->matrices);
    return true;
}

static npumoe_status compile(nm_npu *npu, const nm_program_desc *d, nm_program **out,
                             npumoe_error *err)
{
    tile *t = (tile *)npu;
    NM_TRY(check_types(t, d, err));
    NM_TRY(reserve(t, d, err));
    tile_program *p = nm_zalloc(t->allocator, sizeof *p);
    if (p == NULL)
        return nm_err_nomem(err, sizeof *p, "a program of device tile");
    if (!copy_desc(t->allocator, d, p)) {
        program_free(npu, &p->head);
        return nm_err_nomem(err, d->n * sizeof *p->networks, "a program of device tile");
    }
    *out = &p->head;
    return NPUMOE_OK;
}

/* ---- buffers -------------------------------------------------------------------------------- */

static npumoe_status buffer_init(nm_npu *npu, nm_npu_buffer *b, size_t bytes, npumoe_error *err)
{
    char *p = nm_tile_take((tile *)npu, bytes);
    if (p == NULL)
        return nm_err_nomem(err, bytes, "a buffer of device tile");
    memset(p, 0, bytes);
    *b = (nm_npu_buffer){.data = (void *)p, .bytes = bytes};
    return NPUMOE_OK;
}

static void buffer_fini(nm_npu *npu, nm_npu_buffer *b)
{
    nm_tile_give((tile *)npu, (const char *)b->data);
}

/* ---- life ----------------------------------------------------------------------------------- */

static void tile_free(nm_npu *npu)
{
    tile *t = (tile *)npu;
    const npumoe_allocator *a = t->allocator;
    nm_tile_stop(t);
    nm_pool_free(&t->compute.pool);
    nm_free_aligned(a, t->compute.packed);
    nm_free_aligned(a, t->compute.scratch);
    nm_free(a, t->x);
    nm_free(a, t->y);
    nm_free(a, t->parts);
    nm_free(a, t->cpus);
    nm_free(a, t->thread_ns);
    nm_free(a, t->ring);
    pthread_mutex_destroy(&t->memory);
    nm_free(a, t);
}

static const nm_npu_ops ops = {
    .free = tile_free,
    .program_bytes = nm_tile_program_bytes,
    .compile = compile,
    .load = nm_tile_load,
    .fill = nm_tile_fill,
    .unload = nm_tile_unload,
    .program_free = program_free,
    .buffer_init = buffer_init,
    .buffer_fini = buffer_fini,
    .submit = nm_tile_submit,
    .poll = nm_tile_poll,
    .wait = nm_tile_wait,
    .cancel = nm_tile_cancel,
    .stats = nm_tile_stats,
};

static npumoe_status check_options(const nm_tile_options *o, npumoe_error *err)
{
    if (o->n_threads < 1 || o->n_threads > NM_POOL_MAX_THREADS)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "threads of device tile: found %" PRIu32 ", expected 1 to %d",
                          o->n_threads, NM_POOL_MAX_THREADS);
    if (o->queue_depth < 1 || o->queue_depth > NM_TILE_MAX_QUEUE)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "queue of device tile: found %" PRIu32 " launches, expected 1 to %u",
                          o->queue_depth, NM_TILE_MAX_QUEUE);
    if (o->capacity_multiple < 1 || o->capacity_max < o->capacity_multiple)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "capacities of device tile: found a multiple of %" PRIu32
                          " up to %" PRIu32,
                          o->capacity_multiple, o->capacity_max);
    return NPUMOE_OK;
}

/* The products that a type meets here are what the device calls its arithmetic: of most matrices; and of queries, keys
 * and values, where that is another. */
static void name_arithmetic(tile *t)
{
    const uint32_t type = NM_TYPE_Q4_0;
    const nm_precision fine = nm_tile_linear_precision(t, 3);
    const char *most = nm_product_pick(&t->kern, t->compute.precision, LEAST_ROWS, &type, 1)->name;
    const char *qkv = nm_product_pick(&t->kern, fine, LEAST_ROWS, &type, 1)->name;
    if (strcmp(most, qkv) == 0)
        snprintf(t->arithmetic, sizeof t->arithmetic, "%s", most);
    else
        snprintf(t->arithmetic, sizeof t->arithmetic, "%s, qkv %s", most, qkv);
    t->head.caps.arithmetic = t->arithmetic;
}

static npumoe_status set_up(tile *t, const nm_tile_options *o, npumoe_error *err)
{
    const nm_cpu cpu = nm_cpu_detect();
    NM_TRY(nm_kern_init(&t->kern, &cpu, o->isa, err));
    t->ring = nm_alloc_array(t->allocator, o->queue_depth, sizeof *t->ring);
    t->thread_ns = nm_alloc_array(t->allocator, o->n_threads, sizeof *t->thread_ns);
    t->cpus = nm_alloc_array(t->allocator, o->n_cpus, sizeof *t->cpus);
    if (t->ring == NULL || t->thread_ns == NULL || t->cpus == NULL)
        return nm_err_nomem(err, o->queue_depth * sizeof *t->ring, "the queue of device tile");
    t->depth = o->queue_depth;
    t->n_cpus = o->n_cpus;
    if (o->n_cpus > 0)
        memcpy(t->cpus, o->cpus, o->n_cpus * sizeof *t->cpus);
    NM_TRY(nm_pool_new(t->allocator, (int)o->n_threads, &t->compute.pool, err));
    t->compute.kern = &t->kern;
    t->compute.precision = o->precision;
    t->weights = o->weights;
    name_arithmetic(t);
    return nm_tile_start(t, err);
}

npumoe_status nm_tile_new(const npumoe_allocator *a, const nm_tile_options *o, nm_npu **out,
                          npumoe_error *err)
{
    NM_TRY(check_options(o, err));
    a = nm_allocator_or_default(a);
    tile *t = nm_zalloc(a, sizeof *t);
    if (t == NULL)
        return nm_err_nomem(err, sizeof *t, "device tile");
    t->allocator = a;
    pthread_mutex_init(&t->memory, NULL);
    t->head.ops = &ops;
    t->head.caps = (nm_npu_caps){
        .name = "tile",
        .overlaps_host = true,
        .shares_weights = true,
        .has_linear = true,
        .has_attention = true,
        .slots = o->slots,
        .program_bytes = o->program_bytes,
        .total_bytes = o->total_bytes,
        .capacity_multiple = o->capacity_multiple,
        .capacity_min = o->capacity_multiple,
        .capacity_max = o->capacity_max,
        .queue_depth = o->queue_depth,
        .n_threads = o->n_threads,
        .added_launch_ns = o->launch_ns,
        .weights = o->weights == NM_TILE_WEIGHTS_PACKED ? "packed" : "file",
    };
    npumoe_status st = set_up(t, o, err);
    if (st != NPUMOE_OK) {
        tile_free(&t->head);
        return st;
    }
    *out = &t->head;
    return NPUMOE_OK;
}
