/* planner_budget.c: one way per layer, so that programs and bytes of all together fit.
 *
 * When every layer's best way fits, that is the answer. Else it is a multiple-choice knapsack with two
 * weights: best[s][b] is the least sum of scores of the layers so far with at most s programs and b units
 * of bytes; a layer turns it into
 *
 *     best'[s][b] = min over ways of best[s - programs][b - units] + score
 *
 * Exact, as long as the table has a cell for each program and each expert's bytes. A budget of
 * thousands takes coarser units, ways rounded up to them; then all finer units are tried as well, with
 * what part of the budget their tables can count to. So a larger budget never gives a worse answer: it
 * tries all that the smaller one tried. A budget that cannot run out has no dimension. */
#include "moe/planner_priv.h"

#include "base/num.h"

#include <math.h>
#include <string.h>

enum { CELLS_ONE = 8192, CELLS_EACH = 360, MOST_WAYS = 64, MOST_SLACK = 1 << 20 };

typedef struct table {
    const nm_layer_work *layers;
    uint32_t n_layers;
    uint64_t slot_unit, byte_unit;
    bool by_slots, by_bytes; /* budgets that could run out */
    size_t ns, nb;           /* cells: 0 .. budget in units; 1 where it cannot */
    double *best, *next;
    uint16_t *choice; /* [n_layers][ns * nb] */
} table;

static uint64_t units(uint64_t v, uint64_t unit)
{
    return v / unit + (v % unit != 0);
}

/* Where a way's cells lie; false when it is larger than the whole table. */
static bool offset(const table *t, const nm_way *w, size_t *s, size_t *b)
{
    const uint64_t su = t->by_slots ? units(w->programs, t->slot_unit) : 0;
    const uint64_t bu = t->by_bytes ? units(w->bytes, t->byte_unit) : 0;
    if (su >= t->ns || bu >= t->nb || !(w->score < HUGE_VAL))
        return false;
    *s = (size_t)su;
    *b = (size_t)bu;
    return true;
}

static void add_layer(table *t, uint32_t layer)
{
    const nm_layer_work *l = &t->layers[layer];
    uint16_t *choice = t->choice + layer * t->ns * t->nb;
    for (size_t i = 0; i < t->ns * t->nb; i++)
        t->next[i] = HUGE_VAL;
    for (size_t w = 0; w < l->n_ways; w++) {
        size_t ds, db;
        if (l->ways[w]->left_out || !offset(t, l->ways[w], &ds, &db))
            continue;
        const double score = l->ways[w]->score;
        for (size_t s = ds; s < t->ns; s++) {
            const double *from = t->best + (s - ds) * t->nb;
            double *to = t->next + s * t->nb;
            uint16_t *c = choice + s * t->nb;
            for (size_t b = db; b < t->nb; b++)
                if (from[b - db] + score < to[b]) {
                    to[b] = from[b - db] + score;
                    c[b] = (uint16_t)w;
                }
        }
    }
    double *swap = t->best;
    t->best = t->next;
    t->next = swap;
}

/* Fills the table; the sum of scores. */
static double run(table *t, uint32_t *choice)
{
    const size_t cells = t->ns * t->nb;
    for (size_t i = 0; i < cells; i++)
        t->best[i] = 0.0;
    for (uint32_t l = 0; l < t->n_layers; l++)
        add_layer(t, l);
    size_t s = t->ns - 1, b = t->nb - 1;
    for (uint32_t l = t->n_layers; l-- > 0;) {
        size_t ds = 0, db = 0;
        choice[l] = t->choice[l * cells + s * t->nb + b];
        offset(t, t->layers[l].ways[choice[l]], &ds, &db);
        s -= ds;
        b -= db;
    }
    return t->best[cells - 1];
}

/* What all layers could ask for at most. */
static void most(const nm_layer_work *layers, uint32_t n, uint64_t *programs, uint64_t *bytes)
{
    *programs = *bytes = 0;
    for (uint32_t l = 0; l < n; l++) {
        uint64_t p = 0, b = 0;
        for (size_t w = 0; w < layers[l].n_ways; w++) {
            if (layers[l].ways[w]->left_out)
                continue;
            p = layers[l].ways[w]->programs > p ? layers[l].ways[w]->programs : p;
            b = layers[l].ways[w]->bytes > b ? layers[l].ways[w]->bytes : b;
        }
        *programs += p;
        *bytes += b;
    }
}

static bool best_fits(const nm_planner *p, const nm_layer_work *layers, uint32_t n,
                      uint32_t *choice)
{
    uint64_t programs = 0, bytes = 0;
    for (uint32_t l = 0; l < n; l++) {
        choice[l] = 0;
        for (size_t w = 1; w < layers[l].n_ways; w++)
            if (layers[l].ways[w]->score < layers[l].ways[choice[l]]->score)
                choice[l] = (uint32_t)w;
        programs += layers[l].ways[choice[l]]->programs;
        bytes += layers[l].ways[choice[l]]->bytes;
    }
    return programs <= p->slots && bytes <= p->cost->device.total_bytes;
}

/* One size of units after the other, or only those whose table counts to the whole budget; the best answer
 * stays in choice. */
static void run_levels(table *t, uint64_t slots, uint64_t bytes, uint64_t expert_bytes,
                       size_t limit, bool all, uint32_t *trial, uint32_t *choice)
{
    double best = HUGE_VAL;
    for (t->slot_unit = 1;; t->slot_unit *= 2) {
        const uint64_t s = slots / t->slot_unit;
        t->ns = t->by_slots ? (s < limit ? (size_t)s : limit) + 1 : 1;
        for (t->byte_unit = expert_bytes;; t->byte_unit *= 2) {
            const uint64_t b = bytes / t->byte_unit;
            t->nb = t->by_bytes ? (b < limit ? (size_t)b : limit) + 1 : 1;
            const bool whole = (!t->by_slots || s <= limit) && (!t->by_bytes || b <= limit);
            const double score = all || whole ? run(t, trial) : HUGE_VAL;
            if (score < best) {
                best = score;
                memcpy(choice, trial, t->n_layers * sizeof *choice);
            }
            if (!t->by_bytes || b <= limit)
                break;
        }
        if (!t->by_slots || slots / t->slot_unit <= limit)
            break;
    }
}

/* A smaller way that is nearly as good, if not better. */
static bool is_nearly_beaten(const nm_layer_work *l, const nm_way *w, double slack)
{
    for (size_t i = 0; i < l->n_ways; i++) {
        const nm_way *o = l->ways[i];
        const bool smaller = o->programs < w->programs || o->bytes < w->bytes;
        if (!o->left_out && smaller && o->programs <= w->programs && o->bytes <= w->bytes &&
            o->score <= w->score * slack)
            return true;
    }
    return false;
}

/* Leaves out ways that another one nearly beats, until few enough are left; the best one stays, and all that are as
 * good, should there be so many. Does not look at budgets. They stay in the list: at other scores others are left out. */
static void thin(nm_layer_work *l)
{
    size_t left = l->n_ways;
    double best = HUGE_VAL;
    for (size_t i = 0; i < l->n_ways; i++) {
        l->ways[i]->left_out = false;
        best = fmin(best, l->ways[i]->score);
    }
    for (double slack = 1.001; left > MOST_WAYS && slack < MOST_SLACK;
         slack = 1.0 + 2.0 * (slack - 1.0))
        for (size_t i = l->n_ways; i-- > 1;) {
            nm_way *w = l->ways[i];
            if (w->left_out || w->score <= best || !is_nearly_beaten(l, w, slack))
                continue;
            w->left_out = true;
            left--;
        }
}

npumoe_status nm_planner_choose(const nm_planner *p, nm_layer_work *layers, uint32_t n_layers,
                                bool thorough, uint32_t *choice, npumoe_error *err)
{
    const nm_cost_device *d = &p->cost->device;
    uint64_t programs, bytes;
    if (best_fits(p, layers, n_layers, choice))
        return NPUMOE_OK;
    for (uint32_t l = 0; l < n_layers; l++)
        thin(&layers[l]);
    most(layers, n_layers, &programs, &bytes);
    table t = {.layers = layers,
               .n_layers = n_layers,
               .by_slots = programs > p->slots,
               .by_bytes = bytes > d->total_bytes};
    const size_t limit = t.by_slots && t.by_bytes ? CELLS_EACH : CELLS_ONE;
    const uint64_t unit = d->expert_bytes ? d->expert_bytes : 1;
    const size_t cells = (t.by_slots ? limit + 1 : 1) * (t.by_bytes ? limit + 1 : 1);
    t.best = nm_alloc_array(p->a, cells, sizeof *t.best);
    t.next = nm_alloc_array(p->a, cells, sizeof *t.next);
    t.choice = nm_alloc_array(p->a, cells * n_layers, sizeof *t.choice);
    uint32_t *trial = nm_alloc_array(p->a, n_layers, sizeof *trial);
    npumoe_status st = NPUMOE_OK;
    if (t.best && t.next && t.choice && trial)
        run_levels(&t, p->slots, d->total_bytes, unit, limit, thorough, trial, choice);
    else
        st = nm_err_nomem(err, cells * n_layers * sizeof *t.choice, "placing programs");
    nm_free(p->a, t.best);
    nm_free(p->a, t.next);
    nm_free(p->a, t.choice);
    nm_free(p->a, trial);
    return st;
}
