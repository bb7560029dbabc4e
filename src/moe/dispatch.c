/* dispatch.c: see dispatch.h. */
#include "moe/dispatch.h"

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
}
