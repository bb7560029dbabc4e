/* trace_csv.c: a trace as text for other tools: a line for each token and layer.
 *
 *   text,token,position,part,layer,expert_0,..,expert_k-1,weight_0,..,weight_k-1
 *
 * Texts by number (their names are in comments, "# text 0 = grimm.txt", before their first line), layers by
 * their number in the model, experts in the router's order. Weights have as many digits as it takes to read back the
 * same float, so that a replay of the text (--routes) is one of the trace. */
#include "moe/trace.h"

#include <inttypes.h>
#include <stdio.h>

typedef struct csv {
    const nm_trace *t;
    const nm_trace_info *info;
    npumoe_sink_fn sink;
    void *user;
    npumoe_error *err;
    uint32_t *ids;
    float *weights;
} csv;

static npumoe_status put(const csv *c, const char *text, size_t bytes)
{
    if (c->sink(c->user, text, bytes))
        return NPUMOE_OK;
    return nm_err_set(c->err, NPUMOE_ECANCELED, "the reader of the CSV stopped");
}

static npumoe_status put_names(const csv *c)
{
    char text[64 * 24 + 100];
    size_t n = (size_t)snprintf(text, sizeof text, "text,token,position,part,layer");
    for (uint32_t s = 0; s < c->info->k; s++)
        n += (size_t)snprintf(text + n, sizeof text - n, ",expert_%" PRIu32, s);
    for (uint32_t s = 0; s < c->info->k; s++)
        n += (size_t)snprintf(text + n, sizeof text - n, ",weight_%" PRIu32, s);
    text[n++] = '\n';
    return put(c, text, n);
}

static npumoe_status put_row(const csv *c, const nm_trace_block *b, uint32_t layer, uint32_t i)
{
    char text[64 * 24 + 100];
    const uint32_t k = c->info->k;
    size_t n = (size_t)snprintf(
        text, sizeof text, "%" PRIu32 ",%" PRIu64 ",%" PRIu32 ",%s,%" PRIu32, b->text, b->token + i,
        b->position + i, b->part == NM_PROFILE_HELD ? "held_out" : "main",
        nm_trace_layer(c->t, layer));
    for (uint32_t s = 0; s < k; s++)
        n += (size_t)snprintf(text + n, sizeof text - n, ",%" PRIu32, c->ids[(size_t)i * k + s]);
    for (uint32_t s = 0; s < k; s++)
        n += (size_t)snprintf(text + n, sizeof text - n, ",%.9g",
                              (double)c->weights[(size_t)i * k + s]);
    text[n++] = '\n';
    return put(c, text, n);
}

static npumoe_status put_text_name(const csv *c, const nm_trace_block *b)
{
    char text[NM_PROFILE_NAME + 64];
    if (b->token > 0)
        return NPUMOE_OK;
    int n = snprintf(text, sizeof text, "# text %" PRIu32 " = %.*s\n", b->text,
                     NM_STR_ARG(nm_trace_text_name(c->t, b->text)));
    for (int i = 0; i < n - 1; i++)
        if ((unsigned char)text[i] < 0x20)
            text[i] = '?';
    return put(c, text, (size_t)n);
}

static npumoe_status put_block(const csv *c, uint64_t block)
{
    const nm_trace_block b = nm_trace_block_at(c->t, block);
    NM_TRY(put_text_name(c, &b));
    for (uint32_t l = 0; l < c->info->n_layers; l++) {
        NM_TRY(nm_trace_read(c->t, block, l, 0, b.n, c->ids, c->weights, c->err));
        for (uint32_t i = 0; i < b.n; i++)
            NM_TRY(put_row(c, &b, l, i));
    }
    return NPUMOE_OK;
}

npumoe_status npumoe_trace_to_csv(const char *path, npumoe_sink_fn sink, void *user,
                                  npumoe_error *err)
{
    const npumoe_allocator *a = nm_allocator_default();
    nm_trace *t = NULL;
    NM_TRY(nm_trace_open(NULL, path, &t, err));
    csv c = {.t = t, .info = nm_trace_get_info(t), .sink = sink, .user = user, .err = err};
    const size_t pairs = (size_t)NM_PROFILE_WINDOW * c.info->k;
    c.ids = nm_alloc_array(a, pairs, sizeof *c.ids);
    c.weights = nm_alloc_array(a, pairs, sizeof *c.weights);
    npumoe_status st =
        c.ids && c.weights ? put_names(&c) : nm_err_nomem(err, pairs * sizeof *c.ids, "a window");
    for (uint64_t b = 0; st == NPUMOE_OK && b < c.info->blocks; b++)
        st = put_block(&c, b);
    nm_free(a, c.ids);
    nm_free(a, c.weights);
    nm_trace_free(&t);
    return st;
}
