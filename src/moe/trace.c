/* trace.c: the reader of traces (trace.h has the format). */
#include "moe/trace.h"

#include "base/file.h"
#include "base/num.h"
#include "moe/trace_priv.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef struct block_place {
    uint64_t head; /* offset of its header */
    uint64_t data; /* of the first layer's ids */
} block_place;

struct nm_trace {
    const npumoe_allocator *a;
    const char *label; /* for messages; owned with `path` */
    char *path;
    nm_map map;
    const unsigned char *data;
    uint64_t bytes;
    nm_trace_info info;
    uint32_t id_bytes;
    const unsigned char *layers; /* u32[n_layers] */
    block_place *blocks;
    size_t blocks_cap;
    nm_str *texts; /* their names */
    size_t texts_cap;
};

/* ---- opening -------------------------------------------------------------------------------- */

static npumoe_status bad_u64(const nm_trace *t, uint64_t at, const char *what, uint64_t found,
                             const char *expected, npumoe_error *err)
{
    return nm_err_at(err, NPUMOE_EFORMAT, at,
                     "%s: at byte %" PRIu64 ": %s: found %" PRIu64 ", expected %s", t->label, at,
                     what, found, expected);
}

static npumoe_status too_short(const nm_trace *t, uint64_t at, const char *what, npumoe_error *err)
{
    return nm_err_at(err, NPUMOE_EFORMAT, at,
                     "%s: at byte %" PRIu64 ": the file ends within %s; was its writing stopped?",
                     t->label, at, what);
}

static npumoe_status check_header(nm_trace *t, npumoe_error *err)
{
    const unsigned char *h = t->data;
    const struct {
        uint32_t at, min, max;
        const char *what, *expected;
    } fields[] = {
        {8, NM_TRACE_VERSION, NM_TRACE_VERSION, "version", "1"},
        {24, 1, NM_MAX_LAYERS, "layers", "1..1024"},
        {28, 1, NM_MAX_LAYERS, "layers with experts", "1..1024"},
        {32, 1, NM_MAX_EXPERTS, "experts", "1..4096"},
        {36, 1, NM_MAX_EXPERT_USED, "experts of a token", "1..64"},
        {44, 2, 2, "bytes of a weight", "2"},
        {48, NM_PROFILE_WINDOW, NM_PROFILE_WINDOW, "tokens of a window", "2048"},
        {52, 0, NM_PROFILE_NAME, "bytes of the name", "at most 256"},
    };
    if (t->bytes < NM_TRACE_HEADER)
        return too_short(t, t->bytes, "the header", err);
    if (memcmp(h, NM_TRACE_MAGIC, 8) != 0)
        return nm_err_at(err, NPUMOE_EFORMAT, 0,
                         "%s: this is no trace: it does not begin with " NM_TRACE_MAGIC, t->label);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const uint32_t v = nm_trace_u32(h + fields[i].at);
        if (v < fields[i].min || v > fields[i].max)
            return bad_u64(t, fields[i].at, fields[i].what, v, fields[i].expected, err);
    }
    if (nm_trace_u32(h + 40) != nm_trace_id_bytes(nm_trace_u32(h + 32)))
        return bad_u64(t, 40, "bytes of an id", nm_trace_u32(h + 40), "1, or 2 above 256 experts",
                       err);
    return NPUMOE_OK;
}

static npumoe_status read_header(nm_trace *t, uint64_t *end, npumoe_error *err)
{
    NM_TRY(check_header(t, err));
    const unsigned char *h = t->data;
    nm_trace_info *n = &t->info;
    n->router_hash = nm_trace_u64(h + 16);
    n->n_layer = nm_trace_u32(h + 24);
    n->n_layers = nm_trace_u32(h + 28);
    n->n_expert = nm_trace_u32(h + 32);
    n->k = nm_trace_u32(h + 36);
    t->id_bytes = nm_trace_u32(h + 40);
    n->name.n = nm_trace_u32(h + 52);
    *end = (NM_TRACE_HEADER + 4 * (uint64_t)n->n_layers + n->name.n + 7) / 8 * 8;
    if (nm_trace_u32(h + 12) != *end)
        return bad_u64(t, 12, "bytes of the header", nm_trace_u32(h + 12), "what it holds", err);
    if (n->k > n->n_expert)
        return bad_u64(t, 36, "experts of a token", n->k, "at most all", err);
    if (t->bytes < *end)
        return too_short(t, t->bytes, "the header", err);
    t->layers = h + NM_TRACE_HEADER;
    n->name.p = (const char *)t->layers + 4 * (size_t)n->n_layers;
    for (uint32_t i = 0; i < n->n_layers; i++) {
        const uint32_t layer = nm_trace_layer(t, i);
        if (layer >= n->n_layer || (i > 0 && layer <= nm_trace_layer(t, i - 1)))
            return bad_u64(t, NM_TRACE_HEADER + 4 * (uint64_t)i, "a layer with experts", layer,
                           "ascending numbers below the layers", err);
    }
    return NPUMOE_OK;
}

/* Blocks of a text follow each other; its first has its name. */
static npumoe_status enter_text(nm_trace *t, uint64_t at, uint32_t text, nm_str name,
                                npumoe_error *err)
{
    nm_trace_info *n = &t->info;
    if (text + UINT64_C(1) == n->texts && name.n == 0)
        return NPUMOE_OK;
    if (text < n->texts || text >= NM_PROFILE_MAX_TEXTS)
        return bad_u64(t, at + 8, "a text's number", text, "ascending ones, each text named once",
                       err);
    NM_TRY(
        nm_grow(t->a, (void **)&t->texts, &t->texts_cap, text + (size_t)1, sizeof *t->texts, err));
    while (n->texts < text) /* those without a window */
        t->texts[n->texts++] = (nm_str){"", 0};
    t->texts[n->texts++] = name;
    return NPUMOE_OK;
}

static npumoe_status enter_block(nm_trace *t, uint64_t at, uint64_t *next, npumoe_error *err)
{
    const unsigned char *h = t->data + at;
    const uint32_t n = nm_trace_u32(h + 4), name_bytes = nm_trace_u32(h + 28);
    nm_trace_info *info = &t->info;
    const uint64_t pair_bytes = t->id_bytes + UINT64_C(2);
    const uint64_t data = at + NM_TRACE_BLOCK + (name_bytes + UINT64_C(7)) / 8 * 8;
    const uint64_t end = data + (uint64_t)n * info->k * info->n_layers * pair_bytes;
    if (n == 0 || n > NM_PROFILE_WINDOW)
        return bad_u64(t, at + 4, "tokens of a block", n, "1..2048", err);
    if (nm_trace_u32(h + 12) > 1)
        return bad_u64(t, at + 12, "flags", nm_trace_u32(h + 12), "0 or 1", err);
    if (name_bytes >= NM_PROFILE_NAME)
        return bad_u64(t, at + 28, "bytes of a name", name_bytes, "below 256", err);
    *next = (end + 7) / 8 * 8;
    if (*next > t->bytes)
        return too_short(t, t->bytes, "a block", err);
    const nm_str name = {(const char *)h + NM_TRACE_BLOCK, name_bytes};
    NM_TRY(enter_text(t, at, nm_trace_u32(h + 8), name, err));
    NM_TRY(nm_grow(t->a, (void **)&t->blocks, &t->blocks_cap, (size_t)info->blocks + 1,
                   sizeof *t->blocks, err));
    t->blocks[info->blocks++] = (block_place){at, data};
    info->tokens += n;
    return NPUMOE_OK;
}

static npumoe_status check_end(const nm_trace *t, uint64_t at, npumoe_error *err)
{
    const unsigned char *h = t->data + at;
    if (nm_trace_u64(h + 16) != t->info.tokens)
        return bad_u64(t, at + 16, "tokens of all blocks", nm_trace_u64(h + 16), "what they hold",
                       err);
    if (nm_trace_u64(h + 24) != t->info.blocks)
        return bad_u64(t, at + 24, "blocks", nm_trace_u64(h + 24), "as many as there are", err);
    if (at + NM_TRACE_BLOCK != t->bytes)
        return bad_u64(t, at, "bytes behind the end", t->bytes - at - NM_TRACE_BLOCK, "none", err);
    return NPUMOE_OK;
}

static npumoe_status read_all(nm_trace *t, npumoe_error *err)
{
    uint64_t at;
    NM_TRY(read_header(t, &at, err));
    for (;;) {
        if (t->bytes - at < NM_TRACE_BLOCK)
            return too_short(t, t->bytes, "a block's header", err);
        if (memcmp(t->data + at, NM_TRACE_END_MAGIC, 4) == 0)
            return check_end(t, at, err);
        if (memcmp(t->data + at, NM_TRACE_BLOCK_MAGIC, 4) != 0)
            return bad_u64(t, at, "a block's first bytes", nm_trace_u32(t->data + at), "BLCK", err);
        NM_TRY(enter_block(t, at, &at, err));
    }
}

/* Takes the mapping over, also when it fails. */
static npumoe_status open_data(const npumoe_allocator *a, const nm_map *map, const void *data,
                               size_t bytes, const char *label, nm_trace **out, npumoe_error *err)
{
    a = nm_allocator_or_default(a);
    nm_trace *t = nm_zalloc(a, sizeof *t);
    nm_map own = *map;
    if (t == NULL) {
        nm_map_close(&own);
        return nm_err_nomem(err, sizeof *t, "a trace");
    }
    t->a = a;
    t->map = own;
    t->data = data;
    t->bytes = bytes;
    t->path = nm_strndup(a, label, strlen(label));
    t->label = t->path;
    npumoe_status st = t->path ? read_all(t, err) : nm_err_nomem(err, strlen(label), "a file name");
    if (st != NPUMOE_OK) {
        nm_trace_free(&t);
        return st;
    }
    *out = t;
    return NPUMOE_OK;
}

npumoe_status nm_trace_open(const npumoe_allocator *a, const char *path, nm_trace **out,
                            npumoe_error *err)
{
    nm_map map;
    NM_TRY(nm_map_open(path, &map, err));
    return open_data(a, &map, map.data, (size_t)map.bytes, path, out, err);
}

npumoe_status nm_trace_open_memory(const npumoe_allocator *a, const void *data, size_t bytes,
                                   const char *label, nm_trace **out, npumoe_error *err)
{
    const nm_map none = {NULL, 0};
    return open_data(a, &none, data, bytes, label, out, err);
}

void nm_trace_free(nm_trace **trace)
{
    if (trace == NULL || *trace == NULL)
        return;
    nm_trace *t = *trace;
    nm_map_close(&t->map);
    nm_free(t->a, t->path);
    nm_free(t->a, t->blocks);
    nm_free(t->a, t->texts);
    nm_free(t->a, t);
    *trace = NULL;
}

/* ---- reading -------------------------------------------------------------------------------- */

const nm_trace_info *nm_trace_get_info(const nm_trace *t)
{
    return &t->info;
}

uint32_t nm_trace_layer(const nm_trace *t, uint32_t layer)
{
    return nm_trace_u32(t->layers + 4 * (size_t)layer);
}

nm_str nm_trace_text_name(const nm_trace *t, uint32_t text)
{
    return text < t->info.texts ? t->texts[text] : (nm_str){"", 0};
}

nm_trace_block nm_trace_block_at(const nm_trace *t, uint64_t block)
{
    const unsigned char *h = t->data + t->blocks[block].head;
    return (nm_trace_block){.n = nm_trace_u32(h + 4),
                            .text = nm_trace_u32(h + 8),
                            .part = nm_trace_u32(h + 12) ? NM_PROFILE_HELD : NM_PROFILE_MAIN,
                            .token = nm_trace_u64(h + 16),
                            .position = nm_trace_u32(h + 24)};
}

static uint32_t id_at(const nm_trace *t, const unsigned char *ids, size_t i)
{
    return t->id_bytes == 1 ? ids[i] : (uint32_t)ids[2 * i] | (uint32_t)ids[2 * i + 1] << 8;
}

/* The k ids of a token. */
static bool read_ids(const nm_trace *t, const unsigned char *from, size_t first, uint32_t *ids)
{
    for (uint32_t s = 0; s < t->info.k; s++) {
        const uint32_t e = id_at(t, from, first + s);
        for (uint32_t u = 0; u < s; u++)
            if (id_at(t, from, first + u) == e)
                return false;
        if (e >= t->info.n_expert)
            return false;
        if (ids)
            ids[s] = e;
    }
    return true;
}

npumoe_status nm_trace_read(const nm_trace *t, uint64_t block, uint32_t layer, uint32_t first,
                            uint32_t n, uint32_t *ids, float *weights, npumoe_error *err)
{
    const uint32_t k = t->info.k, in_block = nm_trace_u32(t->data + t->blocks[block].head + 4);
    const size_t pairs = (size_t)in_block * k;
    if (layer >= t->info.n_layers || first > in_block || n > in_block - first)
        return nm_err_set(err, NPUMOE_EINVAL, "%s: block %" PRIu64 " has %" PRIu32 " tokens",
                          t->label, block, in_block);
    const uint64_t place = t->blocks[block].data + layer * pairs * (t->id_bytes + 2);
    const unsigned char *from = t->data + place, *halves = from + pairs * t->id_bytes;
    for (uint32_t i = 0; i < n; i++) {
        const size_t at = (size_t)(first + i) * k;
        if (!read_ids(t, from, at, ids ? ids + (size_t)i * k : NULL))
            return nm_err_at(err, NPUMOE_EFORMAT, place + at * t->id_bytes,
                             "%s: block %" PRIu64 ", layer %" PRIu32 ", token %" PRIu32
                             ": expected %" PRIu32 " different experts below %" PRIu32,
                             t->label, block, layer, first + i, k, t->info.n_expert);
        for (uint32_t s = 0; weights && s < k; s++) {
            const unsigned char *h = halves + 2 * (at + s);
            const float w = nm_f16_to_f32((uint16_t)(h[0] | h[1] << 8));
            if (!isfinite(w))
                return nm_err_at(err, NPUMOE_EFORMAT, place,
                                 "%s: block %" PRIu64 ", layer %" PRIu32 ", token %" PRIu32
                                 ": a weight is not finite",
                                 t->label, block, layer, first + i);
            weights[(size_t)i * k + s] = w;
        }
    }
    return NPUMOE_OK;
}
