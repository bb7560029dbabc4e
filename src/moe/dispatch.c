/* dispatch.c: see dispatch.h. */
#include "moe/dispatch.h"

/* Insertion sort by load, descending: at most a few hundred experts, usually a few busy ones. Equal
 * loads keep ascending expert numbers. */
static void sort_busy(nm_dispatch *d)
{
    d->n_busy = 0;
    for (uint32_t e = 0; e < d->n_expert; e++) {
        uint32_t load = nm_dispatch_load(d, e);
        if (load == 0)
            continue;
        uint32_t at = d->n_busy++;
        for (; at > 0 && nm_dispatch_load(d, d->busy[at - 1]) < load; at--)
            d->busy[at] = d->busy[at - 1];
        d->busy[at] = e;
    }
}

void nm_dispatch_sort(nm_dispatch *d, const uint32_t *ids, uint32_t n_pairs)
{
    uint32_t *first = d->first;
    d->n_pairs = n_pairs;
    for (uint32_t e = 0; e <= d->n_expert; e++)
        first[e] = 0;
    for (uint32_t p = 0; p < n_pairs; p++)
        first[ids[p] + 1]++;
    for (uint32_t e = 0; e < d->n_expert; e++)
        first[e + 1] += first[e];
    /* first[e] serves as the cursor of expert e and ends at the start of e + 1 ... */
    for (uint32_t p = 0; p < n_pairs; p++)
        d->order[first[ids[p]]++] = p;
    /* ... so shifting by one restores the starts. */
    for (uint32_t e = d->n_expert; e > 0; e--)
        first[e] = first[e - 1];
    first[0] = 0;
    sort_busy(d);
}
