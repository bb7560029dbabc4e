/* trace_write.c: see trace.h for the format. */
#include "base/file.h"
#include "moe/trace.h"
#include "moe/trace_priv.h"

#include <string.h>

struct nm_trace_writer {
    const npumoe_allocator *a;
    nm_outfile *f;
    uint32_t n_layers, n_expert, k;
    uint64_t bytes, tokens, blocks, texts;
    unsigned char *room; /* of one layer of a window */
};

static npumoe_status put(nm_trace_writer *w, const void *data, size_t bytes, npumoe_error *err)
{
    NM_TRY(nm_outfile_write(w->f, data, bytes, err));
    w->bytes += bytes;
    return NPUMOE_OK;
}

static npumoe_status pad(nm_trace_writer *w, npumoe_error *err)
{
    static const unsigned char zeros[8];
    return put(w, zeros, (8 - w->bytes % 8) % 8, err);
}

static npumoe_status put_header(nm_trace_writer *w, const nm_profile *p, npumoe_error *err)
{
    unsigned char h[NM_TRACE_HEADER] = NM_TRACE_MAGIC, layer[4];
    const size_t name_bytes = strlen(p->model.name);
    nm_trace_put_u32(h + 8, NM_TRACE_VERSION);
    nm_trace_put_u32(h + 12,
                     (uint32_t)((NM_TRACE_HEADER + 4 * w->n_layers + name_bytes + 7) / 8 * 8));
    nm_trace_put_u64(h + 16, p->model.router_hash);
    nm_trace_put_u32(h + 24, p->model.n_layer);
    nm_trace_put_u32(h + 28, w->n_layers);
    nm_trace_put_u32(h + 32, w->n_expert);
    nm_trace_put_u32(h + 36, w->k);
    nm_trace_put_u32(h + 40, nm_trace_id_bytes(w->n_expert));
    nm_trace_put_u32(h + 44, 2);
    nm_trace_put_u32(h + 48, NM_PROFILE_WINDOW);
    nm_trace_put_u32(h + 52, (uint32_t)name_bytes);
    NM_TRY(put(w, h, sizeof h, err));
    for (uint32_t i = 0; i < w->n_layers; i++) {
        nm_trace_put_u32(layer, p->layer_of[i]);
        NM_TRY(put(w, layer, sizeof layer, err));
    }
    NM_TRY(put(w, p->model.name, name_bytes, err));
    return pad(w, err);
}

npumoe_status nm_trace_writer_new(const npumoe_allocator *a, const char *path, const nm_profile *p,
                                  uint64_t resume, nm_trace_writer **out, npumoe_error *err)
{
    a = nm_allocator_or_default(a);
    nm_trace_writer *w = nm_zalloc(a, sizeof *w);
    if (w == NULL)
        return nm_err_nomem(err, sizeof *w, "a trace");
    w->a = a;
    w->n_layers = p->n_layers;
    w->n_expert = p->model.n_expert;
    w->k = p->model.n_expert_used;
    w->room = nm_alloc_array(a, (size_t)NM_PROFILE_WINDOW * w->k, NM_TRACE_PAIR_BYTES);
    npumoe_status st = w->room ? nm_outfile_resume(a, path, resume, &w->f, err)
                               : nm_err_nomem(err, NM_PROFILE_WINDOW, "a trace");
    if (st == NPUMOE_OK && resume == 0)
        st = put_header(w, p, err);
    else
        w->bytes = resume;
    if (st != NPUMOE_OK) {
        nm_trace_writer_free(&w);
        return st;
    }
    *out = w;
    return NPUMOE_OK;
}

/* Where a resumed run stands; the end of a trace counts what is in it. */
void nm_trace_writer_count(nm_trace_writer *w, uint64_t tokens, uint64_t blocks, uint64_t texts)
{
    w->tokens = tokens;
    w->blocks = blocks;
    w->texts = texts;
}

static npumoe_status put_layer(nm_trace_writer *w, size_t pairs, const uint16_t *ids,
                               const float *weights, npumoe_error *err)
{
    const uint32_t id_bytes = nm_trace_id_bytes(w->n_expert);
    unsigned char *at = w->room;
    for (size_t i = 0; i < pairs; i++, at += id_bytes) {
        at[0] = (unsigned char)ids[i];
        if (id_bytes == 2)
            at[1] = (unsigned char)(ids[i] >> 8);
    }
    for (size_t i = 0; i < pairs; i++, at += 2) {
        const uint16_t half = nm_f32_to_f16(weights[i]);
        at[0] = (unsigned char)half;
        at[1] = (unsigned char)(half >> 8);
    }
    return put(w, w->room, (size_t)(at - w->room), err);
}

npumoe_status nm_trace_writer_add(nm_trace_writer *w, const nm_trace_block *b,
                                  const char *text_name, const uint16_t *ids, const float *weights,
                                  npumoe_error *err)
{
    unsigned char h[NM_TRACE_BLOCK] = NM_TRACE_BLOCK_MAGIC;
    const size_t name_bytes = text_name ? strlen(text_name) : 0, pairs = (size_t)b->n * w->k;
    nm_trace_put_u32(h + 4, b->n);
    nm_trace_put_u32(h + 8, b->text);
    nm_trace_put_u32(h + 12, b->part == NM_PROFILE_HELD ? 1 : 0);
    nm_trace_put_u64(h + 16, b->token);
    nm_trace_put_u32(h + 24, b->position);
    nm_trace_put_u32(h + 28, (uint32_t)name_bytes);
    NM_TRY(put(w, h, sizeof h, err));
    NM_TRY(put(w, text_name, name_bytes, err));
    NM_TRY(pad(w, err));
    for (uint32_t l = 0; l < w->n_layers; l++)
        NM_TRY(put_layer(w, pairs, ids + l * pairs, weights + l * pairs, err));
    NM_TRY(pad(w, err));
    w->tokens += b->n;
    w->blocks++;
    w->texts = b->text + UINT64_C(1) > w->texts ? b->text + UINT64_C(1) : w->texts;
    return NPUMOE_OK;
}

npumoe_status nm_trace_writer_sync(nm_trace_writer *w, uint64_t *bytes, npumoe_error *err)
{
    NM_TRY(nm_outfile_sync(w->f, err));
    *bytes = w->bytes;
    return NPUMOE_OK;
}

npumoe_status nm_trace_writer_commit(nm_trace_writer *w, npumoe_error *err)
{
    unsigned char h[NM_TRACE_BLOCK] = NM_TRACE_END_MAGIC;
    nm_trace_put_u32(h + 8, (uint32_t)w->texts);
    nm_trace_put_u64(h + 16, w->tokens);
    nm_trace_put_u64(h + 24, w->blocks);
    NM_TRY(put(w, h, sizeof h, err));
    return nm_outfile_commit(w->f, err);
}

void nm_trace_writer_free(nm_trace_writer **writer)
{
    if (writer == NULL || *writer == NULL)
        return;
    nm_trace_writer *w = *writer;
    nm_outfile_free(&w->f);
    nm_free(w->a, w->room);
    nm_free(w->a, w);
    *writer = NULL;
}
