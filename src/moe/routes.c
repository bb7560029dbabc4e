/* routes.c: see routes.h. */
#include "moe/routes.h"

#include "base/file.h"
#include "base/num.h"
#include "moe/trace.h"
#include "moe/trace_priv.h"

#include <inttypes.h>
#include <string.h>

npumoe_status nm_routes_reserve(nm_routes *r, npumoe_error *err)
{
    size_t pairs = 0;
    if (!nm_mul_size((size_t)r->tokens * r->n_layers, r->k, &pairs))
        return nm_err_nomem(err, SIZE_MAX, "routes");
    r->ids = nm_alloc_array(r->a, pairs, sizeof *r->ids);
    r->weights = nm_alloc_array(r->a, pairs, sizeof *r->weights);
    return r->ids && r->weights ? NPUMOE_OK
                                : nm_err_nomem(err, pairs * (2 + sizeof(float)), "routes");
}

/* ---- from a trace --------------------------------------------------------------------------- */

static npumoe_status check_geometry(const nm_routes *r, const nm_trace *t, const char *path,
                                    npumoe_error *err)
{
    const nm_trace_info *n = nm_trace_get_info(t);
    if (n->n_layer != r->n_layer || n->n_layers != r->n_layers || n->n_expert != r->n_expert ||
        n->k != r->k)
        return nm_err_set(err, NPUMOE_EMODEL,
                          "%s: the trace is of %" PRIu32 " layers, %" PRIu32
                          " with experts, %" PRIu32 " of %" PRIu32
                          " for each token; the model has %" PRIu32 ", %" PRIu32 ", %" PRIu32
                          " of %" PRIu32,
                          path, n->n_layer, n->n_layers, n->k, n->n_expert, r->n_layer, r->n_layers,
                          r->k, r->n_expert);
    for (uint32_t i = 0; i < n->n_layers; i++) {
        if (r->slot_of[nm_trace_layer(t, i)] != i)
            return nm_err_set(err, NPUMOE_EMODEL,
                              "%s: in the trace layer %" PRIu32
                              " has experts, in the model it has none",
                              path, nm_trace_layer(t, i));
    }
    return n->tokens > 0 ? NPUMOE_OK
                         : nm_err_set(err, NPUMOE_EFORMAT, "%s: the trace has no token", path);
}

/* Tokens of one block in one layer, from token `at` on. */
static npumoe_status read_block(nm_routes *r, const nm_trace *t, uint64_t block, uint32_t layer,
                                uint64_t at, uint32_t n, uint32_t *ids, npumoe_error *err)
{
    const size_t first = (size_t)(layer * r->tokens + at) * r->k, pairs = (size_t)n * r->k;
    NM_TRY(nm_trace_read(t, block, layer, 0, n, ids, r->weights + first, err));
    for (size_t i = 0; i < pairs; i++)
        r->ids[first + i] = (uint16_t)ids[i];
    return NPUMOE_OK;
}

static npumoe_status read_blocks(nm_routes *r, const nm_trace *t, uint32_t *ids, npumoe_error *err)
{
    uint64_t at = 0;
    for (uint64_t b = 0; at < r->tokens; b++) {
        const uint32_t in_block = nm_trace_block_at(t, b).n;
        const uint32_t n = in_block < r->tokens - at ? in_block : (uint32_t)(r->tokens - at);
        for (uint32_t l = 0; l < r->n_layers; l++)
            NM_TRY(read_block(r, t, b, l, at, n, ids, err));
        at += n;
    }
    return NPUMOE_OK;
}

static npumoe_status read_trace(nm_routes *r, const char *path, npumoe_error *err)
{
    nm_trace *t = NULL;
    uint32_t *ids = NULL;
    NM_TRY(nm_trace_open(r->a, path, &t, err));
    npumoe_status st = check_geometry(r, t, path, err);
    if (st == NPUMOE_OK) {
        const uint64_t all = nm_trace_get_info(t)->tokens;
        r->tokens = all < NM_ROUTES_TOKENS ? all : NM_ROUTES_TOKENS;
        st = nm_routes_reserve(r, err);
        ids = nm_alloc_array(r->a, (size_t)NM_PROFILE_WINDOW * r->k, sizeof *ids);
    }
    if (st == NPUMOE_OK)
        st = ids ? read_blocks(r, t, ids, err)
                 : nm_err_nomem(err, (size_t)NM_PROFILE_WINDOW * r->k * sizeof *ids, "routes");
    nm_free(r->a, ids);
    nm_trace_free(&t);
    return st;
}

/* ---- loading -------------------------------------------------------------------------------- */

static npumoe_status read_file(nm_routes *r, const char *path, npumoe_error *err)
{
    nm_map map;
    NM_TRY(nm_map_open(path, &map, err));
    const size_t magic = strlen(NM_TRACE_MAGIC);
    const bool is_trace = map.bytes >= magic && memcmp(map.data, NM_TRACE_MAGIC, magic) == 0;
    npumoe_status st =
        is_trace ? read_trace(r, path, err)
                 : nm_routes_read_csv(r, path, (const char *)map.data, (size_t)map.bytes, err);
    nm_map_close(&map);
    return st;
}

npumoe_status nm_routes_load(const npumoe_allocator *a, const char *path, const nm_config *c,
                             nm_routes **out, npumoe_error *err)
{
    a = nm_allocator_or_default(a);
    nm_routes *r = nm_zalloc(a, sizeof *r);
    if (r == NULL)
        return nm_err_nomem(err, sizeof *r, "routes");
    r->a = a;
    r->n_layer = c->n_layer;
    r->n_expert = c->n_expert;
    r->k = c->n_expert_used;
    r->slot_of = nm_alloc_array(a, c->n_layer, sizeof *r->slot_of);
    npumoe_status st =
        r->slot_of ? NPUMOE_OK : nm_err_nomem(err, c->n_layer * sizeof *r->slot_of, "routes");
    for (uint32_t i = 0; st == NPUMOE_OK && i < c->n_layer; i++)
        r->slot_of[i] = c->layers[i].ffn == NM_FFN_MOE ? r->n_layers++ : UINT32_MAX;
    if (st == NPUMOE_OK && r->n_layers == 0)
        st = nm_err_set(err, NPUMOE_EUNSUPPORTED, "a model without experts has no routes");
    if (st == NPUMOE_OK)
        st = read_file(r, path, err);
    if (st != NPUMOE_OK) {
        nm_routes_free(&r);
        return st;
    }
    *out = r;
    return NPUMOE_OK;
}

void nm_routes_free(nm_routes **routes)
{
    nm_routes *r = *routes;
    if (r == NULL)
        return;
    nm_free(r->a, r->slot_of);
    nm_free(r->a, r->ids);
    nm_free(r->a, r->weights);
    nm_free(r->a, r);
    *routes = NULL;
}

/* ---- using ---------------------------------------------------------------------------------- */

uint64_t nm_routes_tokens(const nm_routes *r)
{
    return r->tokens;
}

void nm_routes_get(const nm_routes *r, uint32_t layer, size_t pos0, uint32_t n, uint32_t *ids,
                   float *weights)
{
    const size_t base = (size_t)r->slot_of[layer] * (size_t)r->tokens;
    for (uint32_t i = 0; i < n; i++) {
        const size_t from = (base + (pos0 + i) % (size_t)r->tokens) * r->k;
        for (uint32_t s = 0; s < r->k; s++) {
            ids[(size_t)i * r->k + s] = r->ids[from + s];
            weights[(size_t)i * r->k + s] = r->weights[from + s];
        }
    }
}
