/* fuzz_routes.c: any bytes as routes in CSV, for two geometries. What is accepted is in range at every position. */
#include "moe/routes.h"

#include <math.h>

enum { LAYERS = 3, EXPERTS = 8, USED = 3, POSITIONS = 70 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(bool fine)
{
    if (!fine)
        __builtin_trap();
}

static void check_position(const nm_routes *r, uint32_t layer, size_t pos)
{
    uint32_t ids[USED];
    float weights[USED];
    nm_routes_get(r, layer, pos, 1, ids, weights);
    for (uint32_t s = 0; s < r->k; s++) {
        check(ids[s] < r->n_expert && isfinite(weights[s]));
        for (uint32_t u = 0; u < s; u++)
            check(ids[u] != ids[s]);
    }
}

/* A model whose first layer has experts only if it is asked for, and k of them for a token. */
static void read_for(uint32_t k, bool first, const uint8_t *data, size_t bytes)
{
    const npumoe_allocator *a = nm_allocator_default();
    nm_routes *r = nm_zalloc(a, sizeof *r);
    npumoe_error err;
    check(r != NULL);
    *r = (nm_routes){.a = a, .n_layer = LAYERS, .n_expert = EXPERTS, .k = k};
    r->slot_of = nm_alloc_array(a, LAYERS, sizeof *r->slot_of);
    check(r->slot_of != NULL);
    for (uint32_t i = 0; i < LAYERS; i++)
        r->slot_of[i] = i > 0 || first ? r->n_layers++ : UINT32_MAX;
    if (nm_routes_read_csv(r, "input", (const char *)data, bytes, &err) == NPUMOE_OK) {
        const size_t n = (size_t)nm_routes_tokens(r);
        check(n > 0 && n <= NM_ROUTES_TOKENS);
        for (uint32_t i = first ? 0 : 1; i < LAYERS; i++)
            for (size_t pos = 0; pos < POSITIONS; pos++)
                check_position(r, i, pos % 2 ? pos : n - 1 + pos);
    } else {
        check(err.message[0] != '\0');
    }
    nm_routes_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    read_for(USED, false, data, bytes);
    read_for(1, true, data, bytes);
    return 0;
}
