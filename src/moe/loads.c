/* loads.c: see loads.h. */
#include "moe/loads.h"

#include <math.h>

/* Quantiles of one expert into at[n], ascending, with the right sum. */
static void quantiles(const nm_profile *p, nm_profile_part part, uint32_t layer, uint32_t expert,
                      uint32_t chunk, uint32_t n, uint32_t *at)
{
    const double mean = nm_profile_mean(p, part, layer, expert, chunk);
    int64_t missing = (int64_t)floor(mean * n + 0.5);
    for (uint32_t s = 0; s < n; s++) {
        const double q = nm_profile_quantile(p, part, layer, expert, chunk, (s + 0.5) / (double)n);
        at[s] = q < chunk ? (uint32_t)floor(q + 0.5) : chunk;
        missing -= at[s];
    }
    /* What quantiles miss of a mean lies in the tail; what they have too much came from rounding. */
    for (uint32_t s = n; missing > 0 && s-- > 0;) {
        const int64_t room = chunk - at[s], more = missing < room ? missing : room;
        at[s] += (uint32_t)more;
        missing -= more;
    }
    for (uint32_t s = 0, idle = 0; missing < 0 && idle < n; s = (s + 1) % n) {
        idle = at[s] > 0 ? 0 : idle + 1;
        missing += at[s] > 0;
        at[s] -= at[s] > 0;
    }
}

static uint32_t next(uint64_t *state, uint32_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((*state >> 33) * below) >> 31);
}

static npumoe_status fill_layer(const npumoe_allocator *a, const nm_profile *p,
                                nm_profile_part part, uint32_t layer, nm_loads *out,
                                npumoe_error *err)
{
    const uint32_t n = out->n_scenarios, n_expert = out->n_expert;
    uint32_t *load = nm_alloc_array(a, (size_t)n * n_expert, sizeof *load);
    uint32_t *one = nm_alloc_array(a, n, sizeof *one);
    out->layers[layer] = (nm_layer_loads){p->layer_of[layer], load};
    if (!load || !one) {
        nm_free(a, one);
        return nm_err_nomem(err, (uint64_t)n * n_expert * sizeof *load, "loads");
    }
    for (uint32_t e = 0; e < n_expert; e++) {
        uint64_t state = ((uint64_t)layer << 32) + e + 1;
        quantiles(p, part, layer, e, out->chunk, n, one);
        for (uint32_t s = n; s-- > 1;) {
            const uint32_t other = next(&state, s + 1), v = one[s];
            one[s] = one[other];
            one[other] = v;
        }
        for (uint32_t s = 0; s < n; s++)
            load[(size_t)s * n_expert + e] = one[s];
    }
    nm_free(a, one);
    return NPUMOE_OK;
}

npumoe_status nm_loads_of_profile(const npumoe_allocator *a, const nm_profile *p,
                                  nm_profile_part part, uint32_t chunk, uint32_t n_scenarios,
                                  nm_loads *out, npumoe_error *err)
{
    *out = (nm_loads){.n_expert = p->model.n_expert, .n_scenarios = n_scenarios, .chunk = chunk};
    if (p->part[part].tokens == 0)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "profile: it has seen no tokens to plan with; calibrate with more text");
    out->layers = nm_alloc_array(a, p->n_layers, sizeof *out->layers);
    if (!out->layers)
        return nm_err_nomem(err, p->n_layers * sizeof *out->layers, "loads");
    out->n_layers = p->n_layers;
    npumoe_status st = NPUMOE_OK;
    for (uint32_t l = 0; l < p->n_layers && st == NPUMOE_OK; l++)
        st = fill_layer(a, p, part, l, out, err);
    if (st != NPUMOE_OK)
        nm_loads_free(a, out);
    return st;
}
