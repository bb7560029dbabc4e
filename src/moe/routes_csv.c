/* routes_csv.c: routes from text (the format is in routes.h). Two passes over the mapping: the first counts the
 * lines of each layer, so that memory is taken once; the second reads and checks. */
#include "moe/routes.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIXED = 5 /* columns before the experts: text, token, position, part, layer */ };

typedef struct csv {
    const char *at, *end, *label;
    uint64_t line; /* of what `row` holds */
    nm_str row;    /* without its end */
    nm_str rest;   /* of the row, after the fields that were taken */
    bool has_weights;
    npumoe_error *err;
} csv;

static npumoe_status bad(const csv *c, const char *what, nm_str found, const char *expected)
{
    return nm_err_set(c->err, NPUMOE_EFORMAT, "%s: line %" PRIu64 ": %s: found '%.*s', expected %s",
                      c->label, c->line, what, NM_STR_ARG(found), expected);
}

/* The next line that is neither empty nor a comment. */
static bool next_row(csv *c)
{
    while (c->at < c->end) {
        const char *stop = memchr(c->at, '\n', (size_t)(c->end - c->at));
        const char *end = stop ? stop : c->end;
        c->row = (nm_str){c->at, (size_t)(end - c->at)};
        c->at = stop ? stop + 1 : c->end;
        c->line++;
        if (c->row.n > 0 && c->row.p[c->row.n - 1] == '\r')
            c->row.n--;
        c->rest = c->row;
        if (c->row.n > 0 && c->row.p[0] != '#')
            return true;
    }
    return false;
}

/* Fields are separated by commas, without quotes: there are no texts in them. */
static nm_str field(csv *c)
{
    const char *comma = c->rest.n ? memchr(c->rest.p, ',', c->rest.n) : NULL;
    const size_t n = comma ? (size_t)(comma - c->rest.p) : c->rest.n;
    const nm_str f = {c->rest.p, n};
    c->rest.p += comma ? n + 1 : n;
    c->rest.n -= comma ? n + 1 : n;
    return f;
}

static bool to_u64(nm_str f, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < f.n; i++) {
        if (f.p[i] < '0' || f.p[i] > '9' || v > (UINT64_MAX - 9) / 10)
            return false;
        v = 10 * v + (uint64_t)(f.p[i] - '0');
    }
    *out = v;
    return f.n > 0;
}

static bool to_weight(nm_str f, float *out)
{
    char text[40], *end;
    if (f.n == 0 || f.n >= sizeof text)
        return false;
    memcpy(text, f.p, f.n);
    text[f.n] = '\0';
    *out = strtof(text, &end);
    return end == text + f.n && isfinite(*out);
}

/* ---- the line of names ---------------------------------------------------------------------- */

static bool is_name(nm_str f, const char *stem, uint32_t i)
{
    char want[24];
    snprintf(want, sizeof want, "%s%" PRIu32, stem, i);
    return nm_str_eqz(f, want);
}

static npumoe_status read_names(csv *c, const nm_routes *r)
{
    static const char *const fixed[FIXED] = {"text", "token", "position", "part", "layer"};
    if (!next_row(c))
        return nm_err_set(c->err, NPUMOE_EFORMAT, "%s: no line of names", c->label);
    for (int i = 0; i < FIXED; i++) {
        const nm_str f = field(c);
        if (!nm_str_eqz(f, fixed[i]))
            return bad(c, "the names of the columns", f,
                       "text,token,position,part,layer,expert_0,... (or a trace)");
    }
    uint32_t k = 0, w = 0;
    nm_str f = field(c);
    for (; is_name(f, "expert_", k); f = field(c))
        k++;
    for (; is_name(f, "weight_", w); f = field(c))
        w++;
    if (f.n > 0 || c->rest.n > 0)
        return bad(c, "the names of the columns", f, "expert_0,... and weight_0,... or no weights");
    if (k != r->k)
        return nm_err_set(c->err, NPUMOE_EMODEL,
                          "%s: %" PRIu32 " experts for each token, the model takes %" PRIu32,
                          c->label, k, r->k);
    if (w != 0 && w != k)
        return nm_err_set(c->err, NPUMOE_EFORMAT,
                          "%s: %" PRIu32 " columns of weights, expected %" PRIu32 " or none",
                          c->label, w, k);
    c->has_weights = w > 0;
    return NPUMOE_OK;
}

/* ---- lines ---------------------------------------------------------------------------------- */

/* Text, token and layer of a line; the rest are the experts. */
static npumoe_status read_place(csv *c, const nm_routes *r, uint64_t key[2], uint32_t *slot)
{
    uint64_t layer;
    for (int i = 0; i < 2; i++) {
        const nm_str f = field(c);
        if (!to_u64(f, &key[i]))
            return bad(c, i == 0 ? "text" : "token", f, "a number");
    }
    field(c);
    field(c);
    const nm_str f = field(c);
    if (!to_u64(f, &layer) || layer >= r->n_layer || r->slot_of[layer] == UINT32_MAX)
        return bad(c, "layer", f, "a layer of the model that has experts");
    *slot = r->slot_of[layer];
    return NPUMOE_OK;
}

static npumoe_status read_route(csv *c, const nm_routes *r, uint16_t *ids, float *weights)
{
    for (uint32_t s = 0; s < r->k; s++) {
        const nm_str f = field(c);
        uint64_t e = 0;
        bool good = to_u64(f, &e) && e < r->n_expert;
        for (uint32_t u = 0; good && u < s; u++)
            good = ids[u] != e;
        if (!good)
            return bad(c, "expert", f, "different experts of the model");
        ids[s] = (uint16_t)e;
    }
    for (uint32_t s = 0; s < r->k; s++) {
        weights[s] = 1.0f / (float)r->k;
        if (!c->has_weights)
            continue;
        const nm_str f = field(c);
        if (!to_weight(f, &weights[s]))
            return bad(c, "weight", f, "a number");
    }
    return c->rest.n == 0 ? NPUMOE_OK : bad(c, "behind the last column", c->rest, "nothing");
}

typedef struct place {
    uint64_t text, token;
} place;

/* counts[slot]: lines so far. */
static npumoe_status read_row(csv *c, nm_routes *r, uint64_t *counts, place *places)
{
    uint64_t key[2];
    uint32_t slot;
    NM_TRY(read_place(c, r, key, &slot));
    const uint64_t at = counts[slot]++;
    if (at >= r->tokens)
        return NPUMOE_OK; /* more than are used */
    if (slot == 0)
        places[at] = (place){key[0], key[1]};
    else if (at >= counts[0] || places[at].text != key[0] || places[at].token != key[1])
        return bad(c, "text, token", c->row, "the same order of tokens as in the first layer");
    const size_t pair = (size_t)(slot * r->tokens + at) * r->k;
    return read_route(c, r, r->ids + pair, r->weights + pair);
}

static npumoe_status read_rows(csv *c, nm_routes *r, uint64_t *counts)
{
    place *places = nm_alloc_array(r->a, (size_t)r->tokens, sizeof *places);
    npumoe_status st = places ? NPUMOE_OK : nm_err_nomem(c->err, sizeof *places, "routes");
    memset(counts, 0, r->n_layers * sizeof *counts);
    while (st == NPUMOE_OK && next_row(c))
        st = read_row(c, r, counts, places);
    nm_free(r->a, places);
    return st;
}

/* Lines of each layer, which must be equally many. */
static npumoe_status count_rows(csv *c, nm_routes *r, uint64_t *counts)
{
    uint64_t key[2];
    uint32_t slot;
    while (next_row(c)) {
        NM_TRY(read_place(c, r, key, &slot));
        counts[slot]++;
    }
    for (uint32_t i = 0; i < r->n_layers; i++) {
        if (counts[i] == 0 || counts[i] != counts[0])
            return nm_err_set(c->err, NPUMOE_EFORMAT,
                              "%s: %" PRIu64 " tokens in the first layer with experts, %" PRIu64
                              " in the %" PRIu32 ". of %" PRIu32 "; expected as many in all",
                              c->label, counts[0], counts[i], i + 1, r->n_layers);
    }
    r->tokens = counts[0] < NM_ROUTES_TOKENS ? counts[0] : NM_ROUTES_TOKENS;
    return nm_routes_reserve(r, c->err);
}

npumoe_status nm_routes_read_csv(nm_routes *r, const char *label, const char *text, size_t bytes,
                                 npumoe_error *err)
{
    csv c = {.at = text, .end = text + bytes, .label = label, .err = err};
    uint64_t *counts = nm_alloc_array(r->a, r->n_layers, sizeof *counts);
    if (counts == NULL)
        return nm_err_nomem(err, r->n_layers * sizeof *counts, "routes");
    memset(counts, 0, r->n_layers * sizeof *counts);
    npumoe_status st =
        bytes ? read_names(&c, r) : nm_err_set(err, NPUMOE_EFORMAT, "%s: the file is empty", label);
    csv again = c;
    if (st == NPUMOE_OK)
        st = count_rows(&c, r, counts);
    if (st == NPUMOE_OK)
        st = read_rows(&again, r, counts);
    nm_free(r->a, counts);
    return st;
}
