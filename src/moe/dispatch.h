/* dispatch.h: the (token, slot) pairs of a chunk sorted by expert.
 *
 * Pair p = token * k + slot. A stable counting sort: `order` lists the pairs expert by expert, and
 * inside an expert by ascending pair, so the result depends on the routing only.
 *
 * All arrays are the caller's; nothing is allocated here. */
#ifndef NM_MOE_DISPATCH_H
#define NM_MOE_DISPATCH_H

#include <stddef.h>
#include <stdint.h>

typedef struct nm_dispatch {
    uint32_t n_expert;
    uint32_t n_pairs;
    uint32_t *first; /* [n_expert + 1]: rows of expert e are order[first[e] .. first[e + 1]) */
    uint32_t *order; /* [n_pairs]: pair numbers */
} nm_dispatch;

/* ids[n_pairs], each < d->n_expert. Fills the arrays of d. */
void nm_dispatch_sort(nm_dispatch *d, const uint32_t *ids, uint32_t n_pairs);

static inline uint32_t nm_dispatch_load(const nm_dispatch *d, uint32_t expert)
{
    return d->first[expert + 1] - d->first[expert];
}

#endif
