/* experts.c: see experts.h. */
#include "moe/experts.h"

#include "base/num.h"

/* The list under construction: rows used so far of the room's pointer arrays. */
typedef struct list {
    const nm_expert_job *job;
    size_t n_items, rows;
} list;

static void add_row(list *l, size_t token, float weight)
{
    const nm_expert_job *j = l->job;
    nm_expert_room *r = j->room;
    const nm_mat *gate = j->shared ? &j->shared->gate : &j->weights->gate.mat;
    const size_t n = (size_t)gate->cols;
    r->x[l->rows] = j->x + token * n;
    r->y[l->rows] = j->y + token * n;
    r->weight[l->rows] = j->scale * weight;
    l->rows++;
}

/* An item of the rows added since `first`. */
static nm_network_item *add_item(list *l, size_t first)
{
    nm_expert_room *r = l->job->room;
    nm_network_item *it = &r->items[l->n_items++];
    *it = (nm_network_item){
        .m = l->rows - first,
        .x = r->x + first,
        .y = r->y + first,
        .weight = r->weight + first,
    };
    return it;
}

static void add_shared(list *l)
{
    const nm_expert_job *j = l->job;
    const nm_ffn_weights *w = j->shared;
    const size_t first = l->rows;
    for (size_t t = 0; t < j->n_tokens; t++)
        add_row(l, t, j->shared_gate ? j->shared_gate[t] : 1.0f);
    nm_network_item *it = add_item(l, first);
    it->gate = w->gate;
    it->up = w->up;
    it->down = w->down;
    it->b_gate = w->b_gate;
    it->b_up = w->b_up;
    it->b_down = w->b_down;
}

/* Rows of expert e from `from` on, `most` of them at most. */
static void add_expert(list *l, uint32_t e, size_t from, size_t most)
{
    const nm_expert_job *j = l->job;
    const nm_dispatch *d = j->dispatch;
    const size_t first = l->rows, begin = nm_min_size(d->first[e] + from, d->first[e + 1]);
    const size_t end = begin + nm_min_size(most, d->first[e + 1] - begin);
    for (size_t i = begin; i < end; i++)
        add_row(l, d->order[i] / j->k, j->w[d->order[i]]);
    if (l->rows == first)
        return;
    nm_network_item *it = add_item(l, first);
    it->gate = nm_mat_stack_at(&j->weights->gate, e);
    it->up = nm_mat_stack_at(&j->weights->up, e);
    it->down = nm_mat_stack_at(&j->weights->down, e);
}

static void add_experts(list *l)
{
    const nm_expert_job *j = l->job;
    const uint32_t n = j->experts ? j->n_experts : j->dispatch->n_expert;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t e = j->experts ? j->experts[i] : i;
        const bool cut = j->experts && i + 1 == n && j->most > 0;
        const size_t behind = j->experts && i == 0 ? j->skip : 0;
        add_expert(l, e, (j->taken ? j->taken[e] : 0) + behind, cut ? j->most : SIZE_MAX);
    }
}

void nm_experts_run(const nm_expert_job *job)
{
    list l = {.job = job};
    if (job->shared && job->n_tokens > 0)
        add_shared(&l);
    if (job->dispatch)
        add_experts(&l);
    nm_network_run(&(nm_network_job){
        .compute = job->compute,
        .act = job->act,
        .items = job->room->items,
        .n_items = l.n_items,
        .parts = job->room->parts,
    });
}
