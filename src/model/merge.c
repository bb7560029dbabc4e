/* merge.c: the engine that BPE and SentencePiece share.
 *
 * Both algorithms do the same: among all neighbouring symbols that the table knows as a pair, take
 * the one with the lowest rank (the leftmost of equals), replace it by one symbol, repeat. They
 * differ in where the ranks come from (the order of merges; the order of scores) and in how the
 * text is cut before.
 *
 * A word of a real text has a handful of symbols: there a scan over an array beats everything.
 * But a word can be as long as the text (a megabyte of one letter is one word for most
 * pre-tokenizers), and so beyond SHORT symbols there is a doubly linked list and a heap of
 * candidates, n log n in all. A candidate is its rank and its place in one number, so that the heap
 * orders by both and stays small: for a megabyte of one letter its cache misses are the cost. When a
 * candidate comes up and the symbols at its place no longer make a pair of that rank, it is stale and
 * dropped.
 *
 * The scan and the heap must give the same result: tests/unit/test_tokenizer.c holds them against
 * each other. */
#include "model/tokenizer_priv.h"

#include "base/num.h"

#define SHORT 32
#define NONE  UINT32_MAX

typedef struct nm_link {
    uint32_t prev, next; /* NONE at the ends */
} nm_link;

#define ARITY 4 /* children of a heap node: fewer levels, and they share a cache line */

/* ---- table --------------------------------------------------------------------------------- */

static size_t pair_home(uint64_t key, size_t mask)
{
    return (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & mask;
}

static nm_pair *probe(const nm_pair *slot, size_t mask, uint64_t key)
{
    size_t i = pair_home(key, mask);
    while (slot[i].key != key && slot[i].key != NM_PAIR_FREE)
        i = (i + 1) & mask;
    return (nm_pair *)&slot[i];
}

npumoe_status nm_pairs_reserve(nm_pairs *p, const npumoe_allocator *a, size_t n, npumoe_error *err)
{
    size_t cap = 16;
    while (cap / 3 * 2 < n)
        cap *= 2;
    if (p->slot && cap <= p->mask + 1)
        return NPUMOE_OK;
    nm_pair *slot = nm_realloc_array(a, NULL, cap, sizeof *slot);
    if (!slot)
        return nm_err_nomem(err, (uint64_t)cap * sizeof *slot, "the table of merges");
    for (size_t i = 0; i < cap; i++)
        slot[i].key = NM_PAIR_FREE;
    for (size_t i = 0; p->slot && i <= p->mask; i++)
        if (p->slot[i].key != NM_PAIR_FREE)
            *probe(slot, cap - 1, p->slot[i].key) = p->slot[i];
    nm_free(a, p->slot);
    p->slot = slot;
    p->mask = cap - 1;
    return NPUMOE_OK;
}

npumoe_status nm_pairs_put(nm_pairs *p, const npumoe_allocator *a, nm_pair pair, npumoe_error *err)
{
    NM_TRY(nm_pairs_reserve(p, a, p->count + 1, err));
    nm_pair *slot = probe(p->slot, p->mask, pair.key);
    if (slot->key == NM_PAIR_FREE) {
        *slot = pair;
        p->count++;
    }
    return NPUMOE_OK;
}

static const nm_pair *find(const nm_pairs *p, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return NULL;
    const nm_pair *slot = probe(p->slot, p->mask, nm_pair_key(left, right));
    return slot->key == NM_PAIR_FREE ? NULL : slot;
}

/* ---- short words --------------------------------------------------------------------------- */

static uint32_t rank_at(const nm_pairs *p, const nm_sym *s, size_t i, int32_t *merged)
{
    const nm_pair *pair = find(p, s[i].id, s[i + 1].id);
    if (!pair)
        return NONE;
    *merged = pair->merged;
    return pair->rank;
}

static size_t merge_short(const nm_pairs *p, nm_sym *s, size_t n)
{
    uint32_t rank[SHORT];
    int32_t merged[SHORT];
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = rank_at(p, s, i, &merged[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            best = rank[i] < rank[best] ? i : best;
        if (rank[best] == NONE)
            break;
        s[best].id = merged[best];
        n--;
        for (size_t i = best + 1; i < n; i++)
            s[i] = s[i + 1];
        for (size_t i = best + 1; i + 1 < n; i++) {
            rank[i] = rank[i + 1];
            merged[i] = merged[i + 1];
        }
        if (best + 1 < n)
            rank[best] = rank_at(p, s, best, &merged[best]);
        if (best > 0)
            rank[best - 1] = rank_at(p, s, best - 1, &merged[best - 1]);
    }
    return n;
}

/* ---- long words ---------------------------------------------------------------------------- */

static npumoe_status heap_push(nm_encoder *e, size_t *n, uint64_t c)
{
    NM_TRY(nm_grow(e->t->a, (void **)&e->heap, &e->heap_cap, *n + 1, sizeof *e->heap, e->err));
    size_t i = (*n)++;
    for (; i > 0 && c < e->heap[(i - 1) / ARITY]; i = (i - 1) / ARITY)
        e->heap[i] = e->heap[(i - 1) / ARITY];
    e->heap[i] = c;
    return NPUMOE_OK;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (size_t first; (first = ARITY * i + 1) < *n;) {
        size_t least = first, end = nm_min_size(first + ARITY, *n);
        for (size_t j = first + 1; j < end; j++)
            least = heap[j] < heap[least] ? j : least;
        if (heap[least] >= last)
            break;
        heap[i] = heap[least];
        i = least;
    }
    heap[i] = last;
    return top;
}

/* The pair of the symbol at i and its right neighbour; NULL = none. */
static const nm_pair *pair_at(const nm_encoder *e, uint32_t i)
{
    uint32_t j = e->link[i].next;
    return j == NONE ? NULL : find(&e->t->pairs, e->sym[i].id, e->sym[j].id);
}

static npumoe_status offer(nm_encoder *e, size_t *n_heap, uint32_t i)
{
    const nm_pair *pair = i == NONE ? NULL : pair_at(e, i);
    return pair ? heap_push(e, n_heap, (uint64_t)pair->rank << 32 | i) : NPUMOE_OK;
}

static npumoe_status merge_long(nm_encoder *e)
{
    uint32_t n = (uint32_t)e->n_sym;
    size_t n_heap = 0;
    nm_sym *s = e->sym;
    NM_TRY(nm_grow(e->t->a, (void **)&e->link, &e->link_cap, n, sizeof *e->link, e->err));
    for (uint32_t i = 0; i < n; i++)
        e->link[i] = (nm_link){i == 0 ? NONE : i - 1, i + 1 == n ? NONE : i + 1};
    for (uint32_t i = 0; i < n; i++)
        NM_TRY(offer(e, &n_heap, i));
    while (n_heap > 0) {
        uint64_t c = heap_pop(e->heap, &n_heap);
        uint32_t at = (uint32_t)c, right = e->link[at].next;
        const nm_pair *pair = pair_at(e, at);
        if (!pair || pair->rank != c >> 32)
            continue;
        s[at].id = pair->merged;
        s[right].id = -1; /* gone: makes no pair any more */
        e->link[at].next = e->link[right].next;
        if (e->link[right].next != NONE)
            e->link[e->link[right].next].prev = at;
        NM_TRY(offer(e, &n_heap, e->link[at].prev));
        NM_TRY(offer(e, &n_heap, at));
    }
    size_t m = 0;
    for (uint32_t i = 0; i != NONE; i = e->link[i].next)
        s[m++] = s[i];
    e->n_sym = m;
    return NPUMOE_OK;
}

npumoe_status nm_merge(nm_encoder *e)
{
    if (e->n_sym > SHORT)
        return merge_long(e);
    e->n_sym = merge_short(&e->t->pairs, e->sym, e->n_sym);
    return NPUMOE_OK;
}
