/* timings.h: how long chunks and layers by plan took, beside what the plan said.
 *
 * A span is what can be compared with a prediction: with one chunk in flight a chunk; with two, whose
 * times overlap, all chunks of an evaluation. Time in which predictions are handed to the caller (the output
 * matrix, callbacks) is not in it: plans know nothing of that. The newest spans are kept. */
#ifndef NM_ENGINE_TIMINGS_H
#define NM_ENGINE_TIMINGS_H

#include "moe/plan.h"

enum { NM_TIMINGS_SPANS = 1024 };

typedef struct nm_span {
    uint64_t pos; /* of the first token */
    uint32_t n_tokens, n_chunks;
    uint64_t ns;
    double predicted_us; /* < 0: the plan says nothing of such a span */
} nm_span;

typedef struct nm_timings {
    uint64_t mark_ns, used_ns; /* of the span that runs */
    uint64_t n;                /* spans so far; the newest at (n - 1) % NM_TIMINGS_SPANS */
    nm_span spans[NM_TIMINGS_SPANS];
    uint64_t
        *layer_ns; /* [n_layer] time of the evaluating thread in each layer, waiting included */
} nm_timings;

/* Time runs from go to stop; take ends the span. */
void nm_timings_go(nm_timings *t);
void nm_timings_stop(nm_timings *t);
void nm_timings_take(nm_timings *t, const nm_plan *plan, uint64_t pos, uint32_t n_tokens,
                     uint32_t n_lanes);

/* What the plan says of n_tokens after n_past, with so many chunks in flight: its prediction, with the
 * attention of these positions in place of that of the plan's prompt. < 0 where some chunk is shorter than the
 * plan's, or there are not the chunks in flight that the prediction is for. */
double nm_timings_predict(const nm_plan *plan, uint64_t n_past, uint32_t n_tokens,
                          uint32_t n_lanes);

#endif
