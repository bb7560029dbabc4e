/* profile.c: making profiles, adding windows, joining (profile.h). */
#include "moe/profile.h"

#include "base/num.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <string.h>

#define COACT_MAX_EXPERTS 1024u /* above, pairs would need more memory than they are worth */
#define MIN_CHUNK         NM_PROFILE_SIZE(0)
#define WINDOW_CHUNKS     (NM_PROFILE_WINDOW / MIN_CHUNK)

nm_profile_part nm_profile_part_of(uint64_t window)
{
    /* Not the first: a text's beginning is unlike the rest. Early enough for texts of 8,000 tokens. */
    return window % 8 == 3 ? NM_PROFILE_HELD : NM_PROFILE_MAIN;
}

/* ---- bins ----------------------------------------------------------------------------------- */

uint32_t nm_profile_n_bins(uint32_t size_index)
{
    return 17 + 4 * (3 + size_index); /* 0..16, then octaves from 16 to the size */
}

uint32_t nm_profile_first_bin(uint32_t size_index)
{
    return size_index * 29 + 2 * size_index * (size_index - 1);
}

uint32_t nm_profile_bin_of(uint32_t load)
{
    if (load <= 16)
        return load;
    const uint32_t v = load - 1, octave = 31 - (uint32_t)__builtin_clz(v);
    return 17 + 4 * (octave - 4) + ((v >> (octave - 2)) & 3);
}

uint32_t nm_profile_bin_low(uint32_t bin)
{
    if (bin <= 16)
        return bin;
    const uint32_t octave = 4 + (bin - 17) / 4, quarter = (bin - 17) % 4;
    return (1u << octave) + (quarter << (octave - 2)) + 1;
}

uint32_t nm_profile_bin_high(uint32_t bin)
{
    return nm_profile_bin_low(bin + 1) - 1;
}

const nm_profile_bin *nm_profile_bins(const nm_profile *p, nm_profile_part part, uint32_t layer,
                                      uint32_t expert, uint32_t size_index)
{
    const size_t at = (size_t)layer * p->model.n_expert + expert;
    return p->part[part].bins + at * NM_PROFILE_BINS + nm_profile_first_bin(size_index);
}

/* ---- making --------------------------------------------------------------------------------- */

static npumoe_status check_geometry(const nm_profile_model *m, const uint32_t *layer_of,
                                    uint32_t n_layers, npumoe_error *err)
{
    if (m->n_expert == 0 || m->n_expert > NM_MAX_EXPERTS)
        return nm_err_set(err, NPUMOE_EINVAL, "experts: found %" PRIu32 ", expected 1..%u",
                          m->n_expert, NM_MAX_EXPERTS);
    if (m->n_expert_used == 0 || m->n_expert_used > m->n_expert ||
        m->n_expert_used > NM_MAX_EXPERT_USED)
        return nm_err_set(err, NPUMOE_EINVAL, "experts of a token: found %" PRIu32 " of %" PRIu32,
                          m->n_expert_used, m->n_expert);
    if (m->n_layer > NM_MAX_LAYERS || n_layers == 0 || n_layers > m->n_layer)
        return nm_err_set(err, NPUMOE_EINVAL, "layers with experts: found %" PRIu32 " of %" PRIu32,
                          n_layers, m->n_layer);
    for (uint32_t i = 0; i < n_layers; i++)
        if (layer_of[i] >= m->n_layer || (i > 0 && layer_of[i] <= layer_of[i - 1]))
            return nm_err_set(err, NPUMOE_EINVAL,
                              "layers with experts: entry %" PRIu32 " is layer %" PRIu32
                              ", expected ascending numbers below %" PRIu32,
                              i, layer_of[i], m->n_layer);
    return NPUMOE_OK;
}

static size_t n_places(const nm_profile *p)
{
    return (size_t)p->n_layers * p->model.n_expert;
}

/* Elements of the triangle of pairs of one layer; 0 = not kept. */
static size_t n_coact(const nm_profile *p)
{
    const size_t e = p->model.n_expert;
    return e > COACT_MAX_EXPERTS ? 0 : e * (e + 1) / 2;
}

/* A copy that JSON and a terminal can take. NULL when out of memory. */
static char *clean_name(const npumoe_allocator *a, const char *name)
{
    char text[NM_PROFILE_NAME];
    const size_t bytes = strlen(name);
    size_t n = 0;
    for (size_t i = 0; i < bytes;) {
        uint32_t cp = 0;
        const int step = nm_utf8_next(name + i, bytes - i, &cp);
        const size_t taken = step > 0 ? (size_t)step : step < 0 ? (size_t)-step : bytes - i;
        const bool good = step > 0 && cp >= 0x20 && cp != 0x7f;
        if (n + (good ? taken : 1) >= sizeof text)
            break;
        if (good)
            memcpy(text + n, name + i, taken);
        else
            text[n] = '?';
        n += good ? taken : 1;
        i += taken;
    }
    return nm_strndup(a, text, n);
}

static npumoe_status allocate(nm_profile *p, const nm_profile_model *model,
                              const uint32_t *layer_of, npumoe_error *err)
{
    const npumoe_allocator *a = p->allocator;
    bool good = true;
    p->model.name = clean_name(a, model->name);
    p->model.architecture = clean_name(a, model->architecture);
    p->layer_of = nm_alloc_array(a, p->n_layers, sizeof *p->layer_of);
    p->types = nm_alloc_array(a, p->n_layers, sizeof *p->types);
    p->loads = nm_alloc_array(a, (size_t)WINDOW_CHUNKS * p->model.n_expert, sizeof *p->loads);
    good = p->model.name && p->model.architecture && p->layer_of && p->types && p->loads;
    for (int i = 0; i < NM_PROFILE_PARTS; i++) {
        nm_profile_counts *c = &p->part[i];
        c->pairs = nm_alloc_array(a, n_places(p), sizeof *c->pairs);
        c->bins = nm_alloc_array(a, n_places(p), NM_PROFILE_BINS * sizeof *c->bins);
        good = good && c->pairs && c->bins;
    }
    if (n_coact(p) > 0) {
        p->coact = nm_alloc_array(a, p->n_layers, n_coact(p) * sizeof *p->coact);
        p->coact_known = nm_alloc_array(a, n_places(p), sizeof *p->coact_known);
        good = good && p->coact && p->coact_known;
    }
    if (!good)
        return nm_err_set(err, NPUMOE_ENOMEM, "out of memory for a profile of %zu experts",
                          n_places(p));
    memcpy(p->layer_of, layer_of, p->n_layers * sizeof *layer_of);
    if (p->coact_known)
        memset(p->coact_known, 1, n_places(p));
    return NPUMOE_OK;
}

npumoe_status nm_profile_new(const npumoe_allocator *a, const nm_profile_model *model,
                             const uint32_t *layer_of, uint32_t n_layers, nm_profile **out,
                             npumoe_error *err)
{
    NM_TRY(check_geometry(model, layer_of, n_layers, err));
    a = nm_allocator_or_default(a);
    nm_profile *p = nm_zalloc(a, sizeof *p);
    if (p == NULL)
        return nm_err_nomem(err, sizeof *p, "a profile");
    p->allocator = a;
    p->model = *model;
    p->model.name = p->model.architecture = NULL;
    p->n_layers = n_layers;
    npumoe_status st = allocate(p, model, layer_of, err);
    if (st != NPUMOE_OK) {
        nm_profile_free(&p);
        return st;
    }
    *out = p;
    return NPUMOE_OK;
}

void nm_profile_free(nm_profile **profile)
{
    if (profile == NULL || *profile == NULL)
        return;
    nm_profile *p = *profile;
    const npumoe_allocator *a = p->allocator;
    for (size_t i = 0; i < p->n_texts; i++) {
        nm_free(a, p->texts[i].name);
        nm_free(a, p->texts[i].pairs);
    }
    for (int i = 0; i < NM_PROFILE_PARTS; i++) {
        nm_free(a, p->part[i].pairs);
        nm_free(a, p->part[i].bins);
    }
    nm_free(a, p->texts);
    nm_free(a, p->coact);
    nm_free(a, p->coact_known);
    nm_free(a, p->loads);
    nm_free(a, p->layer_of);
    nm_free(a, p->types);
    nm_free(a, p->model.name);
    nm_free(a, p->model.architecture);
    nm_free(a, p);
    *profile = NULL;
}

/* ---- adding --------------------------------------------------------------------------------- */

npumoe_status nm_profile_add_text(nm_profile *p, const char *name, uint64_t bytes,
                                  npumoe_error *err)
{
    if (p->n_texts >= NM_PROFILE_MAX_TEXTS)
        return nm_err_set(err, NPUMOE_ETOOBIG, "a profile has at most %u texts",
                          NM_PROFILE_MAX_TEXTS);
    NM_TRY(nm_grow(p->allocator, (void **)&p->texts, &p->texts_cap, p->n_texts + 1,
                   sizeof *p->texts, err));
    nm_profile_text t = {.name = clean_name(p->allocator, name), .bytes = bytes};
    if (p->n_texts < NM_PROFILE_TEXTS_SPREAD)
        t.pairs = nm_alloc_array(p->allocator, n_places(p), sizeof *t.pairs);
    if (!t.name || (p->n_texts < NM_PROFILE_TEXTS_SPREAD && !t.pairs)) {
        nm_free(p->allocator, t.name);
        nm_free(p->allocator, t.pairs);
        return nm_err_nomem(err, n_places(p) * sizeof *t.pairs, "a text's popularity");
    }
    p->texts[p->n_texts++] = t;
    return NPUMOE_OK;
}

bool nm_profile_is_text(const nm_profile *p, size_t i, const char *name, uint64_t bytes)
{
    char *clean = clean_name(p->allocator, name);
    const bool same = clean && i < p->n_texts && p->texts[i].bytes == bytes &&
                      strcmp(p->texts[i].name, clean) == 0;
    nm_free(p->allocator, clean);
    return same;
}

/* Counts the loads of the whole chunks of 128 and all pairs of a layer. */
static void count_layer(nm_profile *p, nm_profile_part part, uint32_t layer, uint32_t n,
                        const uint16_t *ids)
{
    const uint32_t k = p->model.n_expert_used, n_expert = p->model.n_expert;
    uint64_t *pairs = p->part[part].pairs + (size_t)layer * n_expert;
    nm_profile_text *t = p->n_texts ? &p->texts[p->n_texts - 1] : NULL;
    uint64_t *of_text = t && t->pairs ? t->pairs + (size_t)layer * n_expert : NULL;
    memset(p->loads, 0, (size_t)WINDOW_CHUNKS * n_expert * sizeof *p->loads);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *loads = p->loads + (size_t)(i / MIN_CHUNK) * n_expert;
        for (uint32_t s = 0; s < k; s++)
            loads[ids[(size_t)i * k + s]]++;
    }
    for (uint32_t c = 0; c < WINDOW_CHUNKS; c++)
        for (uint32_t e = 0; e < n_expert; e++) {
            pairs[e] += p->loads[(size_t)c * n_expert + e];
            if (of_text)
                of_text[e] += p->loads[(size_t)c * n_expert + e];
        }
}

static void count_chunk(nm_profile *p, nm_profile_part part, uint32_t layer, uint32_t size_index,
                        const uint32_t *loads)
{
    const uint32_t n_expert = p->model.n_expert;
    nm_profile_bin *bins = p->part[part].bins + (size_t)layer * n_expert * NM_PROFILE_BINS +
                           nm_profile_first_bin(size_index);
    for (uint32_t e = 0; e < n_expert; e++, bins += NM_PROFILE_BINS) {
        const uint32_t bin = nm_profile_bin_of(loads[e]);
        bins[bin].count++;
        bins[bin].excess += loads[e] - nm_profile_bin_low(bin);
    }
}

static void count_coact(nm_profile *p, uint32_t layer, const uint32_t *loads)
{
    const uint32_t n_expert = p->model.n_expert;
    uint64_t *row = p->coact + layer * n_coact(p); /* of expert e, from column e */
    for (uint32_t e = 0; e < n_expert; row += n_expert - e, e++)
        for (uint32_t f = e; loads[e] > 0 && f < n_expert; f++)
            row[f - e] += (uint64_t)loads[e] * loads[f];
}

/* Histograms of all sizes: the chunks of a size are pairs of chunks of the one before. */
static void count_sizes(nm_profile *p, nm_profile_part part, uint32_t layer, uint32_t n)
{
    const uint32_t n_expert = p->model.n_expert;
    for (uint32_t i = 0; i < NM_PROFILE_SIZES; i++) {
        const uint32_t chunks = n / NM_PROFILE_SIZE(i);
        for (uint32_t c = 0; c < chunks; c++) {
            uint32_t *loads = p->loads + (size_t)c * n_expert;
            if (i > 0) {
                const uint32_t *a = p->loads + 2 * (size_t)c * n_expert, *b = a + n_expert;
                for (uint32_t e = 0; e < n_expert; e++)
                    loads[e] = a[e] + b[e];
            }
            count_chunk(p, part, layer, i, loads);
            if (i == NM_PROFILE_COACT_SIZE && part == NM_PROFILE_MAIN && p->coact)
                count_coact(p, layer, loads);
        }
    }
}

static npumoe_status check_room(const nm_profile *p, uint64_t main, uint64_t held,
                                npumoe_error *err)
{
    const uint64_t now = p->part[NM_PROFILE_MAIN].tokens + p->part[NM_PROFILE_HELD].tokens;
    if (main + held > NM_PROFILE_MAX_TOKENS - now)
        return nm_err_set(err, NPUMOE_ETOOBIG,
                          "a profile holds at most %" PRIu64 " tokens: it has %" PRIu64
                          ", and %" PRIu64 " were to be added",
                          NM_PROFILE_MAX_TOKENS, now, main + held);
    return NPUMOE_OK;
}

npumoe_status nm_profile_add_window(nm_profile *p, nm_profile_part part, uint32_t n,
                                    const uint16_t *ids, npumoe_error *err)
{
    if (n == 0 || n > NM_PROFILE_WINDOW)
        return nm_err_set(err, NPUMOE_EINVAL, "a window has 1..%u tokens, found %" PRIu32,
                          NM_PROFILE_WINDOW, n);
    NM_TRY(check_room(p, n, 0, err));
    nm_profile_counts *c = &p->part[part];
    for (uint32_t l = 0; l < p->n_layers; l++) {
        count_layer(p, part, l, n, ids + (size_t)l * n * p->model.n_expert_used);
        count_sizes(p, part, l, n);
    }
    c->tokens += n;
    for (uint32_t i = 0; i < NM_PROFILE_SIZES; i++)
        c->chunks[i] += n / NM_PROFILE_SIZE(i);
    if (p->n_texts > 0) {
        p->texts[p->n_texts - 1].tokens += n;
        p->texts[p->n_texts - 1].held_tokens += part == NM_PROFILE_HELD ? n : 0;
    }
    return NPUMOE_OK;
}

/* ---- joining -------------------------------------------------------------------------------- */

static npumoe_status differ(npumoe_error *err, const char *what, uint64_t ours, uint64_t theirs)
{
    return nm_err_set(err, NPUMOE_EINVAL,
                      "profiles of different models: %s is %" PRIu64 " here and %" PRIu64 " there",
                      what, ours, theirs);
}

static npumoe_status check_same(const nm_profile *p, const nm_profile *q, npumoe_error *err)
{
    const nm_profile_model *a = &p->model, *b = &q->model;
    if (a->n_expert != b->n_expert)
        return differ(err, "the number of experts", a->n_expert, b->n_expert);
    if (a->n_expert_used != b->n_expert_used)
        return differ(err, "the number of experts of a token", a->n_expert_used, b->n_expert_used);
    if (p->n_layers != q->n_layers)
        return differ(err, "the number of layers with experts", p->n_layers, q->n_layers);
    for (uint32_t i = 0; i < p->n_layers; i++)
        if (p->layer_of[i] != q->layer_of[i])
            return differ(err, "a layer with experts", p->layer_of[i], q->layer_of[i]);
    if (a->router_hash != b->router_hash)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "profiles of different models: the routers' hash is %016" PRIx64
                          " here (%s) and %016" PRIx64 " there (%s)",
                          a->router_hash, a->name, b->router_hash, b->name);
    return NPUMOE_OK;
}

static void add_all(uint64_t *to, const uint64_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] += from[i];
}

static void add_counts(const nm_profile *p, nm_profile_counts *to, const nm_profile_counts *from)
{
    to->tokens += from->tokens;
    add_all(to->chunks, from->chunks, NM_PROFILE_SIZES);
    add_all(to->pairs, from->pairs, n_places(p));
    for (size_t i = 0; i < n_places(p) * NM_PROFILE_BINS; i++) {
        to->bins[i].count += from->bins[i].count;
        to->bins[i].excess += from->bins[i].excess;
    }
}

npumoe_status nm_profile_merge(nm_profile *p, const nm_profile *other, npumoe_error *err)
{
    NM_TRY(check_same(p, other, err));
    NM_TRY(check_room(p, other->part[NM_PROFILE_MAIN].tokens, other->part[NM_PROFILE_HELD].tokens,
                      err));
    const size_t n_texts = p->n_texts;
    for (size_t i = 0; i < other->n_texts; i++) {
        const nm_profile_text *t = &other->texts[i];
        npumoe_status st = nm_profile_add_text(p, t->name, t->bytes, err);
        if (st != NPUMOE_OK) {
            while (p->n_texts > n_texts) {
                nm_free(p->allocator, p->texts[--p->n_texts].name);
                nm_free(p->allocator, p->texts[p->n_texts].pairs);
            }
            return st;
        }
        nm_profile_text *copy = &p->texts[p->n_texts - 1];
        copy->tokens = t->tokens;
        copy->held_tokens = t->held_tokens;
        if (copy->pairs && t->pairs)
            memcpy(copy->pairs, t->pairs, n_places(p) * sizeof *t->pairs);
    }
    for (int i = 0; i < NM_PROFILE_PARTS; i++)
        add_counts(p, &p->part[i], &other->part[i]);
    if (p->coact)
        add_all(p->coact, other->coact, p->n_layers * n_coact(p));
    for (size_t i = 0; p->coact && i < n_places(p); i++)
        p->coact_known[i] &= other->coact_known[i];
    return NPUMOE_OK;
}

npumoe_status nm_profile_check(const nm_profile *p, const char *label, const nm_config *c,
                               const nm_weights *w, npumoe_error *err)
{
    uint64_t hash;
    NM_TRY(nm_profile_router_hash(c, w, &hash, err));
    if (hash == p->model.router_hash)
        return NPUMOE_OK;
    return nm_err_set(err, NPUMOE_EINVAL,
                      "%s: a profile of another model: its routers (%s, %s, hash %016" PRIx64
                      ") are not those of this model (%.*s, hash %016" PRIx64 ")",
                      label, p->model.name, p->model.architecture, p->model.router_hash,
                      NM_STR_ARG(c->name), hash);
}
