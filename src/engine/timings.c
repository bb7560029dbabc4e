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

/* Attention of a layer in the prediction: the mean over the plan's prompt, by rows. */
static double planned_attention(const nm_plan *plan, bool on_device)
{
    const uint32_t n = plan->n_prompt ? plan->n_prompt : plan->chunk;
    double us = 0.0;
    for (uint32_t i = 0; i < n; i += plan->chunk) {
        const uint32_t rows = n - i < plan->chunk ? n - i : plan->chunk;
        us += rows * nm_plan_attention(plan, on_device, plan->n_past + (uint64_t)i);
    }
    return us / n;
}

/* A chunk after n_past tokens; planned_us: on the host, on the device. With two in flight a layer takes as long as
 * the later of both. */
static double predict_chunk(const nm_plan *plan, uint64_t n_past, const double *planned_us)
{
    double us = plan->predicted.us;
    for (uint32_t i = 0; i < nm_plan_whole_layers(plan); i++) {
        const nm_prediction *l = &plan->layers[i].predicted;
        const bool planned = plan->layers[i].on_device[NM_PART_ATTENTION];
        const bool there = planned && n_past / plan->chunk < plan->attention_chunks;
        const double device_us = there ? nm_plan_attention(plan, true, n_past) : 0.0;
        const double host_us = there ? 0.0 : nm_plan_attention(plan, false, n_past);
        const double more_device = planned ? device_us - planned_us[1] : 0.0;
        const double more_host = planned ? host_us : host_us - planned_us[0];
        us += plan->in_flight > 1 ? max(l->device_us + more_device, l->host_us + more_host) -
                                        max(l->device_us, l->host_us)
                                  : more_device + more_host;
    }
    return us;
}

double nm_timings_predict(const nm_plan *plan, uint64_t n_past, uint32_t n_tokens, uint32_t n_lanes)
{
    const uint32_t n_chunks = n_tokens / plan->chunk;
    double us = 0.0;
    if (n_lanes != plan->in_flight)
        return -1.0;
    if (n_past == plan->n_past && n_tokens == plan->n_prompt)
        return plan->predicted.us * n_tokens / plan->chunk; /* what it was made for */
    if (n_tokens % plan->chunk != 0 || n_chunks < n_lanes)
        return -1.0;
    const double planned_us[] = {planned_attention(plan, false), planned_attention(plan, true)};
    for (uint32_t i = 0; i < n_chunks; i++)
        us += predict_chunk(plan, n_past + (uint64_t)i * plan->chunk, planned_us);
    return us;
}
