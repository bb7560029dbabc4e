/* routes.h: recorded routing in place of a router's: which experts each token goes to, with which weights.
 *
 * For runs whose loads must be what somebody wants them to be: a skewed or adversarial routing on a model
 * with made-up weights, the routing of a large model on one of the same shape with fewer bits, the very
 * loads of another run. The tokens of a trace form one row; position p of any session takes the route of
 * token p modulo their number. So a route depends on the position only: not on chunks, lanes or what was
 * evaluated before, and a trace that is shorter than a prompt repeats.
 *
 * Two sources: a trace (trace.h) and the CSV that npumoe_trace_to_csv writes, which is easily written by hand:
 *
 *     text,token,position,part,layer,expert_0,..,expert_k-1,weight_0,..,weight_k-1
 *     0,0,0,main,0,17,3,0.61,0.39
 *
 * The n-th line of a layer is the row's n-th token; text and token must then be the same in all layers (any
 * numbers), position and part are not looked at, lines that begin with # are comments. Without weight
 * columns all k experts weigh 1/k.
 *
 * Everything is read and checked at once, at most NM_ROUTES_TOKENS tokens: routing itself cannot fail. */
#ifndef NM_MOE_ROUTES_H
#define NM_MOE_ROUTES_H

#include "base/alloc.h"
#include "model/config.h"

enum { NM_ROUTES_TOKENS = 65536 };

typedef struct nm_routes nm_routes;

/* EMODEL: of another geometry; EFORMAT with line or byte; ENOENT, EIO, ENOMEM. */
npumoe_status nm_routes_load(const npumoe_allocator *a, const char *path, const nm_config *c,
                             nm_routes **out, npumoe_error *err);
void nm_routes_free(nm_routes **routes);
uint64_t nm_routes_tokens(const nm_routes *r);
/* ids[n][k], weights[n][k] of positions pos0 ... in a layer with experts. */
void nm_routes_get(const nm_routes *r, uint32_t layer, size_t pos0, uint32_t n, uint32_t *ids,
                   float *weights);

/* What files of routes are made of: routes.c takes traces, routes_csv.c takes text. */
struct nm_routes {
    const npumoe_allocator *a;
    uint32_t n_layer, n_layers, n_expert, k; /* layers of the model; of them with experts */
    uint32_t *slot_of;                       /* [n_layer]; UINT32_MAX: no experts */
    uint64_t tokens;
    uint16_t *ids;  /* [n_layers][tokens][k] */
    float *weights; /* likewise */
};

/* Makes room for r->tokens tokens. */
npumoe_status nm_routes_reserve(nm_routes *r, npumoe_error *err);
npumoe_status nm_routes_read_csv(nm_routes *r, const char *label, const char *text, size_t bytes,
                                 npumoe_error *err);

#endif
