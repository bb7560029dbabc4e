/* turns.c: see turns.h. */
#include "moe/turns.h"

typedef struct all {
    const nm_turn *turns;
    uint32_t n, n_layers;
} all;

/* Whether the stage must not run before an older chunk has moved on. */
static bool is_behind(const all *a, const nm_turn *t)
{
    const bool ends = t->stage == NM_STAGE_FINISH && t->layer + 1 == a->n_layers;
    for (uint32_t i = 0; i < a->n; i++) {
        const nm_turn *o = &a->turns[i];
        if (o->stage == NM_STAGE_IDLE || o->age >= t->age)
            continue;
        if (ends || (t->stage == NM_STAGE_ATTEND && o->stored <= t->layer))
            return true;
        if (t->stage == NM_STAGE_REST && o->stage == NM_STAGE_REST && o->layer == t->layer)
            return true;
    }
    return false;
}

/* An older chunk begins, too, and its attention will be the device's. */
static bool begins_later(const all *a, const nm_turn *t)
{
    bool later = false;
    if (t->stage != NM_STAGE_NORM || t->layer > 0)
        return false;
    for (uint32_t i = 0; i < a->n; i++) {
        const nm_turn *o = &a->turns[i];
        if (o->stage == NM_STAGE_REST)
            return false;
        later = later || (o->stage == NM_STAGE_ATTEND && o->layer == 0 && o->age < t->age &&
                          o->on_device && o->device_attends && !is_behind(a, o));
    }
    return later;
}

/* The host's attention is long, and another chunk is about to give the device its experts. */
static bool attends_later(const all *a, const nm_turn *t)
{
    for (uint32_t i = 0; i < a->n; i++)
        if (t->stage == NM_STAGE_ATTEND && !t->device_attends && a->turns[i].stage == NM_STAGE_JOIN)
            return true;
    return false;
}

static bool goes_before(const nm_turn *a, const nm_turn *b)
{
    const bool leads = a->stage != NM_STAGE_REST, other_leads = b->stage != NM_STAGE_REST;
    if (leads != other_leads)
        return leads;
    if (!leads && a->rest_us != b->rest_us)
        return a->rest_us < b->rest_us;
    return a->age < b->age;
}

uint32_t nm_turns_next(const nm_turn *turns, uint32_t n, uint32_t n_layers)
{
    const all a = {turns, n, n_layers};
    uint32_t best = n;
    for (uint32_t i = 0; i < n; i++) {
        const nm_turn *t = &turns[i];
        if (t->stage == NM_STAGE_IDLE || !t->arrived || is_behind(&a, t) || begins_later(&a, t) ||
            attends_later(&a, t))
            continue;
        if (best == n || goes_before(t, &turns[best]))
            best = i;
    }
    return best;
}
