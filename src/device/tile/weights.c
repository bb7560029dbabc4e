/* weights.c: what a loaded program of device `tile` keeps of its weights.
 *
 * Two forms, chosen for the device:
 *
 *   file     a copy in the file's encoding, which the product decodes between its matrix instructions
 *            in every launch: a quarter of the bytes, hence of the memory traffic
 *   packed   the panels of the product (kernels/product.h), decoded once by load, which takes that much
 *            longer: launches only multiply, and the bytes are those of a device that has integers or
 *            bf16 instead of the file's blocks
 *
 * Results are the same bits. Which one is faster depends on how quick the type's decoder is and on how
 * many rows share it: docs/device.md has the figures. A packed program always runs the product for many
 * rows, whatever its capacity: its panels are that product's alone.
 *
 * A program's bytes are one block (slabs.c): matrix after matrix, each followed by nothing but the padding to
 * NM_ALIGN, biases as they come. A program with a twin has none of its own. */
#include "device/tile/tile_priv.h"

#include "base/num.h"

#include <string.h>

npumoe_status nm_tile_weights_parse(const char *name, nm_tile_weights *out, npumoe_error *err)
{
    const bool packed = name && strcmp(name, "packed") == 0;
    *out = packed ? NM_TILE_WEIGHTS_PACKED : NM_TILE_WEIGHTS_FILE;
    if (name == NULL || packed || strcmp(name, "file") == 0)
        return NPUMOE_OK;
    return nm_err_set(err, NPUMOE_EINVAL,
                      "weights of device tile: found '%s', expected file or packed", name);
}

/* ---- forms ---------------------------------------------------------------------------------- */

nm_precision nm_tile_linear_precision(const tile *t, uint32_t n)
{
    return n > 1 ? nm_precision_of_attention(t->compute.precision) : t->compute.precision;
}

/* The product whose panels the matrices become, which are multiplied together; NULL = they stay as they
 * are. */
static const nm_product *panels_for(const tile *t, nm_precision precision, uint32_t capacity,
                                    const nm_mat *const *w, size_t n)
{
    const size_t rows = capacity < NM_PRODUCT_FEW ? NM_PRODUCT_FEW : capacity;
    if (t->weights == NM_TILE_WEIGHTS_FILE)
        return NULL;
    return nm_product_for(&t->kern, precision, rows, w, n);
}

static const nm_product *panels_of_network(const tile *t, uint32_t capacity,
                                           const nm_program_network *w)
{
    const nm_mat *const mats[] = {&w->gate, &w->up, &w->down};
    return panels_for(t, t->compute.precision, capacity, mats, 3);
}

static const nm_product *panels_of_matrices(const tile *t, uint32_t capacity,
                                            const nm_program_matrix *m, uint32_t n)
{
    const nm_mat *mats[NM_PRODUCT_MATS];
    for (uint32_t i = 0; i < n && i < NM_PRODUCT_MATS; i++)
        mats[i] = &m[i].w;
    return panels_for(t, nm_tile_linear_precision(t, n), capacity, mats, n);
}

static npumoe_status check_panels(const nm_product *p, const nm_mat *w, npumoe_error *err)
{
    if (p == NULL || (p->takes(w->type) && nm_product_panels_bytes(p, w->rows, w->cols) > 0))
        return NPUMOE_OK;
    return nm_err_set(
        err, NPUMOE_EUNSUPPORTED,
        "device tile cannot keep weights of type %s packed: its product %s has no panels "
        "for them; let it keep them as in the file (--npu-weights file)",
        nm_type_get(w->type)->name, p->name);
}

npumoe_status nm_tile_check_form(const tile *t, const nm_program_desc *d, npumoe_error *err)
{
    const nm_product *p;
    for (uint32_t i = 0; d->kind == NM_PROGRAM_EXPERTS && i < d->n; i++) {
        p = panels_of_network(t, d->capacity, &d->networks[i]);
        NM_TRY(check_panels(p, &d->networks[i].gate, err));
        NM_TRY(check_panels(p, &d->networks[i].up, err));
        NM_TRY(check_panels(p, &d->networks[i].down, err));
    }
    if (d->kind == NM_PROGRAM_EXPERTS)
        return NPUMOE_OK;
    p = panels_of_matrices(t, d->capacity, d->matrices, d->n);
    for (uint32_t i = 0; i < d->n; i++)
        NM_TRY(check_panels(p, &d->matrices[i].w, err));
    return NPUMOE_OK;
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + NM_ALIGN - 1) & ~(uint64_t)(NM_ALIGN - 1);
}

static uint64_t mat_bytes(const nm_product *p, const nm_mat *w)
{
    return p ? nm_product_panels_bytes(p, w->rows, w->cols) : aligned(w->rows * w->row_bytes);
}

static uint64_t vector_bytes(const float *v, uint64_t n)
{
    return v ? aligned(n * sizeof *v) : 0;
}

uint64_t nm_tile_program_bytes(const nm_npu *npu, const nm_program_desc *d)
{
    const tile *t = (const tile *)npu;
    const nm_product *p;
    uint64_t sum = 0;
    if (d->kind == NM_PROGRAM_ATTENTION)
        return 0;
    for (uint32_t i = 0; d->kind == NM_PROGRAM_EXPERTS && i < d->n; i++) {
        const nm_program_network *w = &d->networks[i];
        p = panels_of_network(t, d->capacity, w);
        sum += mat_bytes(p, &w->gate) + mat_bytes(p, &w->up) + mat_bytes(p, &w->down) +
               vector_bytes(w->b_gate, w->gate.rows) + vector_bytes(w->b_up, w->up.rows) +
               vector_bytes(w->b_down, w->down.rows);
    }
    if (d->kind == NM_PROGRAM_EXPERTS)
        return sum;
    p = panels_of_matrices(t, d->capacity, d->matrices, d->n);
    for (uint32_t i = 0; i < d->n; i++) {
        const nm_program_matrix *m = &d->matrices[i];
        sum += mat_bytes(p, &m->w) + vector_bytes(m->bias, m->w.rows);
    }
    return sum;
}

/* ---- loading -------------------------------------------------------------------------------- */

/* Puts it to *at and moves on. */
static nm_mat keep_mat(const tile *t, const nm_product *p, const nm_mat *w, char **at)
{
    nm_mat kept = *w;
    if (p) {
        kept = nm_product_to_panels(p, &t->kern, w, *at);
    } else {
        memcpy(*at, w->data, (size_t)(w->rows * w->row_bytes));
        kept.data = *at;
    }
    *at += mat_bytes(p, w);
    return kept;
}

static const float *keep_vector(const float *v, uint64_t n, char **at)
{
    if (v == NULL)
        return NULL;
    float *copy = (void *)*at;
    memcpy(copy, v, (size_t)n * sizeof *v);
    *at += vector_bytes(v, n);
    return copy;
}

static void load_network(const tile *t, uint32_t capacity, const nm_program_network *w,
                         nm_network_item *it, char **at)
{
    const nm_product *p = panels_of_network(t, capacity, w);
    it->gate = keep_mat(t, p, &w->gate, at);
    it->up = keep_mat(t, p, &w->up, at);
    it->down = keep_mat(t, p, &w->down, at);
    it->b_gate = keep_vector(w->b_gate, w->gate.rows, at);
    it->b_up = keep_vector(w->b_up, w->up.rows, at);
    it->b_down = keep_vector(w->b_down, w->down.rows, at);
}

static void load_matrices(const tile *t, tile_program *p, char *at)
{
    const uint32_t n = p->head.n;
    const nm_product *panels = panels_of_matrices(t, p->head.capacity, p->matrices, n);
    for (uint32_t i = 0; i < n; i++) {
        /* linears[i].w keeps pointing to matrices[i].w of the second half: the copies. */
        nm_program_matrix *copy = &p->matrices[n + i];
        copy->w = keep_mat(t, panels, &p->matrices[i].w, &at);
        copy->bias = keep_vector(p->matrices[i].bias, p->matrices[i].w.rows, &at);
        p->linears[i] = (nm_linear){.w = &copy->w, .bias = copy->bias};
    }
}

static void load_twin(tile_program *p, const tile_program *twin)
{
    for (uint32_t i = 0; i < p->head.n; i++)
        if (p->head.kind == NM_PROGRAM_EXPERTS)
            p->items[i] = twin->items[i];
        else
            p->linears[i] = twin->linears[i];
}

npumoe_status nm_tile_load(nm_npu *npu, nm_program *head, npumoe_error *err)
{
    tile_program *p = (tile_program *)head;
    if (head->twin || head->bytes == 0)
        return NPUMOE_OK;
    p->weights = nm_tile_take((tile *)npu, (size_t)head->bytes);
    return p->weights ? NPUMOE_OK : nm_err_nomem(err, head->bytes, "a program of device tile");
}

static void fill_one(const tile *t, tile_program *p)
{
    char *at = p->weights;
    for (uint32_t i = 0; p->head.kind == NM_PROGRAM_EXPERTS && i < p->head.n; i++)
        load_network(t, p->head.capacity, &p->networks[i], &p->items[i], &at);
    if (p->head.kind == NM_PROGRAM_LINEAR)
        load_matrices(t, p, at);
}

typedef struct tile_filling {
    const tile *t;
    nm_program *const *programs; /* [n] */
    size_t n;
    atomic_size_t next; /* shared by two pools, so neither's tickets will do */
} tile_filling;

static void fill_region(void *arg, int thread, int n_threads)
{
    tile_filling *f = arg;
    (void)thread;
    (void)n_threads;
    for (size_t i = atomic_fetch_add(&f->next, 1); i < f->n; i = atomic_fetch_add(&f->next, 1))
        if (f->programs[i]->empty && f->programs[i]->twin == NULL)
            fill_one(f->t, (tile_program *)f->programs[i]);
}

/* Half of the time is the kernel's, which clears new pages; that, too, goes on several CPUs at once. */
void nm_tile_fill(nm_npu *npu, nm_program *const *programs, size_t n, nm_pool *pool)
{
    tile *t = (tile *)npu;
    tile_filling f = {.t = t, .programs = programs, .n = n};
    atomic_init(&f.next, 0);
    if (pool && n > 1)
        nm_tile_help_begin(t, fill_region, &f);
    if (pool)
        nm_pool_run(pool, fill_region, &f);
    else
        fill_region(&f, 0, 1);
    if (pool && n > 1)
        nm_tile_help_end(t);
    for (size_t i = 0; i < n; i++)
        if (programs[i]->empty && programs[i]->twin)
            load_twin((tile_program *)programs[i], (const tile_program *)programs[i]->twin);
}

void nm_tile_unload(nm_npu *npu, nm_program *head)
{
    tile_program *p = (tile_program *)head;
    nm_tile_give((tile *)npu, p->weights);
    p->weights = NULL;
}
