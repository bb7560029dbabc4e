/* network.c: see network.h.
 *
 * Tickets are numbers; which part and piece a ticket means is found by walking the parts, with a
 * cursor per thread that only moves forward because tickets only grow. */
#include "kernels/network.h"

#include "base/num.h"
#include "kernels/products.h"

enum {
    PACK_ROWS = 16,     /* per ticket of phase 1 */
    GATED_ROWS = 256,   /* of a ticket of phase 2 at most: products decode again for more anyway */
    TICKETS_EACH = 8,   /* of phase 3, per thread: what the slowest may lag behind */
    MOST_COLUMNS = 256, /* of a ticket of phase 3 */
    FEWEST_COLUMNS = 32
};

typedef struct wave {
    const nm_network_job *job;
    size_t n_parts;
    size_t columns; /* of a ticket of phase 3 */
    bool packed;
} wave;

/* Where the ticket counter stands in the list of parts. */
typedef struct cursor {
    size_t part, before; /* tickets of the parts before */
} cursor;

/* Moves to the part of ticket t; false past the end. *at is the ticket's number within the part. */
static bool seek(const wave *w, cursor *c, size_t t, size_t (*count)(const nm_network_part *),
                 size_t *at)
{
    for (; c->part < w->n_parts; c->part++) {
        size_t n = count(&w->job->parts[c->part]);
        if (t < c->before + n) {
            *at = t - c->before;
            return true;
        }
        c->before += n;
    }
    return false;
}

static size_t n_packs(const nm_network_part *p)
{
    return p->shares_x ? 0 : (p->m + PACK_ROWS - 1) / PACK_ROWS;
}

static void pack(const nm_network_part *p, size_t piece)
{
    const nm_network_item *it = p->item;
    const size_t i = piece * PACK_ROWS;
    p->product->pack(p->m, (size_t)it->gate.cols, it->x + p->row, i,
                     nm_min_size(i + PACK_ROWS, p->m), p->xp);
}

/* Rows of a ticket of phase 2: those of a busy part in pieces of equal size. */
static size_t gated_rows(const nm_network_part *p)
{
    const size_t pieces = (p->m + GATED_ROWS - 1) / GATED_ROWS;
    return ((p->m + pieces - 1) / pieces + PACK_ROWS - 1) / PACK_ROWS * PACK_ROWS;
}

static size_t n_pieces(const nm_network_part *p)
{
    const size_t rows = gated_rows(p);
    return (p->m + rows - 1) / rows;
}

static size_t n_gated(const nm_network_part *p)
{
    const size_t ranges = ((size_t)p->item->gate.rows + p->product->task - 1) / p->product->task;
    return ranges * n_pieces(p);
}

/* Where ticket t of the part begins to read: pieces of a range follow each other, so threads that meet
 * the same weights do so at about the same time. */
static uint64_t gated_start(const nm_network_part *p, size_t t)
{
    return (uint64_t)(t / n_pieces(p)) * p->product->task;
}

static void gated(const wave *w, const nm_network_part *p, size_t t, const void *next,
                  void *scratch)
{
    const nm_network_item *it = p->item;
    const uint64_t j0 = gated_start(p, t), end = j0 + p->product->task;
    const size_t rows = gated_rows(p), row = t % n_pieces(p) * rows;
    const nm_gated_args args = {
        .kern = w->job->compute->kern,
        .gate = &it->gate,
        .up = &it->up,
        .b_gate = it->b_gate,
        .b_up = it->b_up,
        .act = w->job->act,
        .j0 = j0,
        .j1 = end < it->gate.rows ? end : it->gate.rows,
        .m = nm_min_size(rows, p->m - row),
        .xp = p->xp + p->product->packed_bytes(row, (size_t)it->gate.cols),
        .hp = p->hp + p->product->packed_bytes(row, (size_t)it->gate.rows),
        .next = next,
        .scratch = scratch,
    };
    p->product->gated(&args);
}

static void out(const wave *w, const nm_network_part *p, uint64_t j0, uint64_t j1, const void *next,
                void *scratch)
{
    const nm_network_item *it = p->item;
    const nm_out_args args = {
        .kern = w->job->compute->kern,
        .w = &it->down,
        .j0 = j0,
        .j1 = j1,
        .m = p->m,
        .xp = p->hp,
        .bias = it->b_down,
        .weight = it->weight ? it->weight + p->row : NULL,
        .add = !w->job->replace,
        .next = next,
        .y = it->y + p->row,
        .scratch = scratch,
    };
    p->product->out(&args);
}

/* Where ticket t of phase 3 begins to read, NULL past the last. */
static const void *out_start(const wave *w, size_t t, size_t part)
{
    const uint64_t j0 = (uint64_t)t * w->columns;
    const nm_mat *down = &w->job->parts[part].item->down;
    return j0 < down->rows ? nm_mat_row_at(down, j0) : NULL;
}

static void out_columns(const wave *w, size_t t, const void *next, void *scratch)
{
    const uint64_t rows = w->job->items[0].down.rows, j0 = (uint64_t)t * w->columns;
    const uint64_t j1 = j0 + w->columns < rows ? j0 + w->columns : rows;
    for (size_t i = 0; i < w->n_parts; i++) {
        const nm_network_part *p = &w->job->parts[i];
        const void *after = i + 1 < w->n_parts ? out_start(w, t, i + 1) : next;
        for (uint64_t j = j0; j < j1; j += p->product->task) {
            const uint64_t end = j + p->product->task < j1 ? j + p->product->task : j1;
            out(w, p, j, end, end < j1 ? nm_mat_row_at(&p->item->down, end) : after, scratch);
        }
    }
}

/* A thread's first ticket of phases 2 and 3 is its own number, the others are drawn, and with few
 * rows one before it is needed: so the thread knows what it will read next. With many rows it does
 * not matter, and tickets in hand are work that others cannot take. */
typedef struct turn {
    const wave *w;
    int n_threads;
    size_t now, soon;
} turn;

static size_t draw(const turn *t)
{
    return (size_t)t->n_threads + nm_pool_next(t->w->job->compute->pool);
}

static turn turn_first(const wave *w, int thread, int n_threads)
{
    turn t = {w, n_threads, (size_t)thread, 0};
    t.soon = w->packed ? draw(&t) : SIZE_MAX;
    return t;
}

static void turn_next(turn *t)
{
    t->now = t->w->packed ? t->soon : draw(t);
    t->soon = t->w->packed ? draw(t) : SIZE_MAX;
}

static void run_gated(const wave *w, int thread, int n_threads, void *scratch)
{
    const nm_network_part *parts = w->job->parts;
    cursor c = {0}, ahead = {0};
    size_t at, then;
    for (turn t = turn_first(w, thread, n_threads); seek(w, &c, t.now, n_gated, &at);
         turn_next(&t)) {
        const void *next = NULL;
        if (w->packed && seek(w, &ahead, t.soon, n_gated, &then))
            next =
                nm_mat_row_at(&parts[ahead.part].item->gate, gated_start(&parts[ahead.part], then));
        else if (w->packed)
            next = out_start(w, (size_t)thread, 0);
        gated(w, &parts[c.part], at, next, scratch);
    }
}

static void run_out(const wave *w, int thread, int n_threads, void *scratch)
{
    const uint64_t rows = w->job->items[0].down.rows;
    for (turn t = turn_first(w, thread, n_threads); t.now * w->columns < rows; turn_next(&t))
        out_columns(w, t.now, w->packed ? out_start(w, t.soon, 0) : NULL, scratch);
}

static void region(void *arg, int thread, int n_threads)
{
    const wave *w = arg;
    nm_pool *pool = w->job->compute->pool;
    void *scratch = nm_compute_slice(w->job->compute, thread);
    if (!w->packed) {
        cursor c = {0};
        size_t piece;
        while (seek(w, &c, nm_pool_next(pool), n_packs, &piece))
            pack(&w->job->parts[c.part], piece);
        nm_pool_barrier_reset(pool);
    }
    run_gated(w, thread, n_threads, scratch);
    nm_pool_barrier_reset(pool);
    run_out(w, thread, n_threads, scratch);
}

/* A multiple of NM_PRODUCT_STEP, where ranges must start. */
static size_t columns_of_ticket(const nm_network_job *job)
{
    size_t n = (size_t)job->items[0].down.rows;
    size_t tickets = (size_t)nm_pool_size(job->compute->pool) * TICKETS_EACH;
    size_t columns = (n / tickets + NM_PRODUCT_STEP - 1) / NM_PRODUCT_STEP * NM_PRODUCT_STEP;
    return nm_min_size(nm_max_size(columns, FEWEST_COLUMNS), MOST_COLUMNS);
}

/* One token and its experts: all read the same row, packed once. */
static bool same_row(const nm_network_part *a, const nm_network_part *b)
{
    return a->m == 1 && b->m == 1 && a->product == b->product &&
           a->item->x[a->row] == b->item->x[b->row] && a->item->gate.cols == b->item->gate.cols;
}

/* Takes rows of the item from `row` on into the wave; returns how many fitted. */
static size_t add_part(wave *w, const nm_network_item *it, size_t row, size_t *used)
{
    const nm_compute *c = w->job->compute;
    const nm_mat *const mats[] = {&it->gate, &it->up, &it->down};
    const size_t n = (size_t)it->gate.cols, n_ff = (size_t)it->gate.rows;
    nm_network_part *p = &w->job->parts[w->n_parts];
    *p = (nm_network_part){.item = it, .row = row, .m = it->m - row};
    /* By the item's rows, not the part's: where a wave ends must not change the arithmetic. */
    p->product = nm_product_for(c->kern, c->precision, it->m, mats, 3);
    const nm_product *f = p->product;
    const size_t left = c->packed_bytes - *used;
    const size_t group = f->packed_bytes(f->group, n) + f->packed_bytes(f->group, n_ff);
    const size_t room = left / group * f->group;
    if (p->m > room && w->n_parts > 0)
        return 0; /* whole in the next wave rather than cut in two */
    p->m = nm_min_size(p->m, room);
    p->xp = (char *)c->packed + *used;
    p->hp = p->xp + f->packed_bytes(p->m, n);
    if (w->n_parts > 0 && same_row(p - 1, p)) {
        p->shares_x = true;
        p->hp = p->xp;
        p->xp = p[-1].xp;
    }
    *used = (size_t)(p->hp - (char *)c->packed) + f->packed_bytes(p->m, n_ff);
    w->n_parts++;
    return p->m;
}

/* Work so small that packing it together costs more than packing it here. */
static bool packs_are_few(const wave *w)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n_parts; i++)
        n += w->job->parts[i].shares_x ? 0 : w->job->parts[i].m;
    return n < NM_PRODUCT_FEW;
}

static void run_wave(wave *w)
{
    if (w->n_parts == 0)
        return;
    w->packed = packs_are_few(w);
    for (size_t i = 0; w->packed && i < w->n_parts; i++)
        if (!w->job->parts[i].shares_x)
            pack(&w->job->parts[i], 0);
    nm_pool_run(w->job->compute->pool, region, w);
    w->n_parts = 0;
}

void nm_network_run(const nm_network_job *job)
{
    wave w = {.job = job};
    if (job->n_items == 0)
        return;
    w.columns = columns_of_ticket(job);
    size_t used = 0;
    for (size_t i = 0; i < job->n_items; i++) {
        for (size_t row = 0; row < job->items[i].m;) {
            size_t taken = add_part(&w, &job->items[i], row, &used);
            row += taken;
            if (row < job->items[i].m) {
                run_wave(&w);
                used = 0;
            }
        }
    }
    run_wave(&w);
}
