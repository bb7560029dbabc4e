/* exec_policy.c: the policies that change results: PRUNE and REROUTE; see executor.h.
 *
 * Both begin the same way: of an expert with more rows than its capacity, the rows with the smallest
 * saliency, weight * |x|, are picked. Ties go to the later token, so the choice is one of the routing
 * alone. What a dropped or moved row costs in accuracy is `npumoe verify`'s to say. */
#include "moe/executor_priv.h"

#include <math.h>
#include <string.h>

/* ---- which rows -------------------------------------------------------------------------------- */

static float length_of(const float *x, uint32_t n)
{
    float sum = 0.0f;
    for (uint32_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrtf(sum);
}

/* True when pair a matters more than pair b. A NaN matters most, so that it stays visible. */
static bool before(const nm_executor *ex, uint32_t a, uint32_t b)
{
    const float x = ex->saliency[a], y = ex->saliency[b];
    if (x > y || (isnan(x) && !isnan(y)))
        return true;
    if (y > x || (isnan(y) && !isnan(x)))
        return false;
    return a < b;
}

static void swap(uint32_t *a, uint32_t *b)
{
    const uint32_t t = *a;
    *a = *b;
    *b = t;
}

/* Moves the `keep` pairs that matter most to the front of list[n], in any order (Hoare's selection:
 * no memory, and the middle element as a pivot does well on lists that are in order). */
static void select_most(const nm_executor *ex, uint32_t *list, uint32_t n, uint32_t keep)
{
    uint32_t lo = 0, hi = n;
    while (hi - lo > 1) {
        swap(&list[lo + (hi - lo) / 2], &list[hi - 1]);
        uint32_t at = lo;
        for (uint32_t i = lo; i + 1 < hi; i++)
            if (before(ex, list[i], list[hi - 1]))
                swap(&list[i], &list[at++]);
        swap(&list[at], &list[hi - 1]);
        if (at == keep)
            return;
        if (at < keep)
            lo = at + 1;
        else
            hi = at;
    }
}

/* The pairs of expert e that find no room: ex->picked[0 .. n). Returns n. */
static uint32_t pick_least(nm_executor *ex, const exec_lane *lane, uint32_t e, uint32_t capacity)
{
    const nm_dispatch *d = &lane->dispatch;
    const uint32_t load = nm_dispatch_load(d, e), k = lane->input.k;
    if (load <= capacity)
        return 0;
    memcpy(ex->picked, d->order + d->first[e], load * sizeof *ex->picked);
    for (uint32_t i = 0; i < load; i++) {
        const uint32_t pair = ex->picked[i];
        const float *x = lane->input.x + (size_t)(pair / k) * ex->n_embd;
        ex->saliency[pair] = fabsf(lane->input.w[pair]) * length_of(x, ex->n_embd);
    }
    select_most(ex, ex->picked, load, capacity);
    memmove(ex->picked, ex->picked + capacity, (load - capacity) * sizeof *ex->picked);
    return load - capacity;
}

/* ---- prune -------------------------------------------------------------------------------------- */

#define DROPPED UINT32_MAX /* in own_ids */

/* Sorts the pairs of own_ids again, without those that were dropped. */
static void sort_again(const nm_executor *ex, exec_lane *lane, uint32_t n_pairs)
{
    uint32_t *first = lane->own_first;
    memset(first, 0, ((size_t)ex->n_expert + 1) * sizeof *first);
    for (uint32_t p = 0; p < n_pairs; p++)
        if (lane->own_ids[p] != DROPPED)
            first[lane->own_ids[p] + 1]++;
    for (uint32_t e = 0; e < ex->n_expert; e++)
        first[e + 1] += first[e];
    const uint32_t kept = first[ex->n_expert];
    for (uint32_t p = 0; p < n_pairs; p++)
        if (lane->own_ids[p] != DROPPED)
            lane->own_order[first[lane->own_ids[p]]++] = p;
    for (uint32_t e = ex->n_expert; e > 0; e--)
        first[e] = first[e - 1];
    first[0] = 0;
    lane->dispatch = (nm_dispatch){
        .n_expert = ex->n_expert, .n_pairs = kept, .first = first, .order = lane->own_order};
}

static uint32_t copy_ids(exec_lane *lane)
{
    const uint32_t n_pairs = lane->input.n * lane->input.k;
    memcpy(lane->own_ids, lane->input.ids, n_pairs * sizeof *lane->own_ids);
    return n_pairs;
}

void nm_exec_prune(nm_executor *ex, exec_lane *lane, const uint32_t *capacity)
{
    nm_exec_counts *counts = &ex->layers[lane->input.layer].counts;
    const uint32_t n_pairs = copy_ids(lane);
    for (uint32_t e = 0; e < ex->n_expert; e++) {
        const uint32_t n = pick_least(ex, lane, e, capacity[e]);
        for (uint32_t i = 0; i < n; i++)
            lane->own_ids[ex->picked[i]] = DROPPED;
        counts->dropped += n;
        counts->overflow += n;
    }
    sort_again(ex, lane, n_pairs);
}

/* ---- reroute ------------------------------------------------------------------------------------ */

static bool has_expert(const exec_lane *lane, uint32_t token, uint32_t e)
{
    const uint32_t k = lane->input.k;
    for (uint32_t s = 0; s < k; s++)
        if (lane->own_ids[token * k + s] == e)
            return true;
    return false;
}

/* The token's best expert, by the router, that it does not have yet and that has room; n_expert = none. */
static uint32_t next_best(const nm_executor *ex, const exec_lane *lane, uint32_t token,
                          const uint32_t *room)
{
    const float *score = lane->input.score + (size_t)token * ex->n_expert;
    uint32_t best = ex->n_expert;
    for (uint32_t e = 0; e < ex->n_expert; e++)
        if (room[e] > 0 && (best == ex->n_expert || score[e] > score[best]) &&
            !has_expert(lane, token, e))
            best = e;
    return best;
}

void nm_exec_reroute(nm_executor *ex, exec_lane *lane, const uint32_t *capacity)
{
    nm_exec_counts *counts = &ex->layers[lane->input.layer].counts;
    const uint32_t n_pairs = copy_ids(lane), k = lane->input.k;
    uint32_t *room = lane->own_first; /* free rows; the table is made afterwards */
    for (uint32_t e = 0; e < ex->n_expert; e++) {
        const uint32_t load = nm_dispatch_load(&lane->dispatch, e);
        room[e] = capacity[e] != UINT32_MAX && load < capacity[e] ? capacity[e] - load : 0;
    }
    for (uint32_t e = 0; e < ex->n_expert; e++) {
        const uint32_t n = pick_least(ex, lane, e, capacity[e]);
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t pair = ex->picked[i], to = next_best(ex, lane, pair / k, room);
            if (to == ex->n_expert)
                continue;
            lane->own_ids[pair] = to;
            room[to]--;
            counts->rerouted++;
            counts->overflow++;
        }
    }
    sort_again(ex, lane, n_pairs);
}
