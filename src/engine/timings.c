/* timings.c: see timings.h. */
#include "engine/timings.h"

#include "base/clock.h"

void nm_timings_go(nm_timings *t)
{
    t->mark_ns = nm_clock_ns();
}

void nm_timings_stop(nm_timings *t)
{
    t->used_ns += nm_clock_ns() - t->mark_ns;
}

void nm_timings_take(nm_timings *t, const nm_plan *plan, uint64_t pos, uint32_t n_tokens,
                     uint32_t n_lanes)
{
    nm_span *s = &t->spans[t->n++ % NM_TIMINGS_SPANS];
    *s = (nm_span){.pos = pos,
                   .n_tokens = n_tokens,
                   .n_chunks = (n_tokens + plan->chunk - 1) / plan->chunk,
                   .ns = t->used_ns,
                   .predicted_us = nm_timings_predict(plan, pos, n_tokens, n_lanes)};
    t->used_ns = 0;
}

static double max(double a, double b)
{
    return a > b ? a : b;
}

/* Attention of a layer in the prediction: the mean over the plan's prompt. */
static double planned_attention(const nm_plan *plan)
{
    const uint32_t n = plan->n_prompt ? (plan->n_prompt - 1) / plan->chunk + 1 : 1;
    double us = 0.0;
    for (uint32_t i = 0; i < n; i++)
        us += nm_curve_at(&plan->cost.attention, plan->n_past + (double)i * plan->chunk + 1.0);
    return us / n;
}

/* A chunk after n_past tokens. With two in flight a layer takes as long as the later of host and device, and
 * attention is the host's. */
static double predict_chunk(const nm_plan *plan, uint64_t n_past, double planned_us)
{
    const double more = nm_curve_at(&plan->cost.attention, (double)n_past + 1.0) - planned_us;
    double us = plan->predicted.us;
    for (uint32_t i = 0; i < nm_plan_whole_layers(plan); i++) {
        const nm_prediction *l = &plan->layers[i].predicted;
        us += plan->in_flight > 1
                  ? max(l->device_us, l->host_us + more) - max(l->device_us, l->host_us)
                  : more;
    }
    return us;
}

double nm_timings_predict(const nm_plan *plan, uint64_t n_past, uint32_t n_tokens, uint32_t n_lanes)
{
    const uint32_t n_chunks = n_tokens / plan->chunk;
    double us = 0.0;
    if (n_tokens % plan->chunk != 0 || n_chunks < n_lanes || n_lanes != plan->in_flight)
        return -1.0;
    if (n_past == plan->n_past && n_tokens == plan->n_prompt)
        return plan->predicted.us * n_chunks; /* what it was made for */
    const double planned_us = planned_attention(plan);
    for (uint32_t i = 0; i < n_chunks; i++)
        us += predict_chunk(plan, n_past + (uint64_t)i * plan->chunk, planned_us);
    return us;
}
