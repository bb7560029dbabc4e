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

static void add_expert(list *l, uint32_t e)
{
    const nm_expert_job *j = l->job;
    const nm_dispatch *d = j->dispatch;
    const size_t taken = j->taken ? j->taken[e] : 0, first = l->rows;
    for (size_t i = d->first[e] + taken; i < d->first[e + 1]; i++)
        add_row(l, d->order[i] / j->k, j->w[d->order[i]]);
    if (l->rows == first)
        return;
    nm_network_item *it = add_item(l, first);
    it->gate = nm_mat_stack_at(&j->weights->gate, e);
    it->up = nm_mat_stack_at(&j->weights->up, e);
    it->down = nm_mat_stack_at(&j->weights->down, e);
}

void nm_experts_run(const nm_expert_job *job)
{
    list l = {.job = job};
    if (job->shared && job->n_tokens > 0)
        add_shared(&l);
    if (job->dispatch) {
        const uint32_t n = job->experts ? job->n_experts : job->dispatch->n_expert;
        for (uint32_t i = 0; i < n; i++)
            add_expert(&l, job->experts ? job->experts[i] : i);
    }
    nm_network_run(&(nm_network_job){
        .compute = job->compute,
        .act = job->act,
        .items = job->room->items,
        .n_items = l.n_items,
        .parts = job->room->parts,
    });
}
