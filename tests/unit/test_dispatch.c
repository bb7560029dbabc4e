/* The counting sort of (token, slot) pairs by expert, against the definition. */
#include "tap.h"

#include "moe/dispatch.h"

enum { MAX_PAIRS = 4096, MAX_EXPERTS = 300 };

static uint32_t first[MAX_EXPERTS + 1], order[MAX_PAIRS], ids[MAX_PAIRS];

static nm_dispatch fresh(uint32_t n_expert)
{
    memset(first, 0xff, sizeof first);
    memset(order, 0xff, sizeof order);
    return (nm_dispatch){.n_expert = n_expert, .first = first, .order = order};
}

/* Every pair once, grouped by expert, ascending inside; loads as counted. */
static bool order_holds(const nm_dispatch *d, uint32_t n_pairs)
{
    bool seen[MAX_PAIRS] = {false};
    if (d->first[0] != 0 || d->first[d->n_expert] != n_pairs)
        return false;
    for (uint32_t e = 0; e < d->n_expert; e++) {
        for (uint32_t i = d->first[e]; i < d->first[e + 1]; i++) {
            uint32_t p = d->order[i];
            if (p >= n_pairs || seen[p] || ids[p] != e)
                return false;
            if (i > d->first[e] && d->order[i - 1] >= p)
                return false;
            seen[p] = true;
        }
    }
    return true;
}

int main(void)
{
    static const uint32_t shapes[][2] = {{0, 8},   {1, 1},      {2, 8},     {8, 8},    {97, 1},
                                         {511, 3}, {4096, 128}, {4096, 64}, {600, 300}};
    uint32_t state = 12345;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        uint32_t n_pairs = shapes[s][0], n_expert = shapes[s][1];
        for (uint32_t p = 0; p < n_pairs; p++) {
            state = state * 1664525u + 1013904223u;
            uint32_t r = state >> 16;
            ids[p] = (r % 3 == 0 ? r / 3 : r / 3 % 5) % n_expert; /* skewed */
        }
        nm_dispatch d = fresh(n_expert);
        nm_dispatch_sort(&d, ids, n_pairs);
        ok(order_holds(&d, n_pairs), "%u pairs, %u experts: stable order", n_pairs, n_expert);
    }
    const uint32_t example[] = {2, 0, 2, 1, 2, 0};
    memcpy(ids, example, sizeof example);
    nm_dispatch d = fresh(4);
    nm_dispatch_sort(&d, ids, 6);
    const uint32_t want_first[] = {0, 2, 3, 6, 6}, want_order[] = {1, 5, 3, 0, 2, 4};
    is_mem(first, want_first, sizeof want_first, "example: starts");
    is_mem(order, want_order, sizeof want_order, "example: order");
    return done_testing();
}
