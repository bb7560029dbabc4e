/* gguf.c: opening a GGUF file or a split set, and finding names in it.
 *
 * A split set is PREFIX-00001-of-0000N.gguf to PREFIX-0000N-of-0000N.gguf. Each file is a whole
 * GGUF file with its own tensors and three keys: split.no (from 0), split.count, and
 * split.tensors.count (of the whole set). All other keys are in the first file. Any part names the
 * set: the part given is opened first and says how many there are, the others are found by name.
 * Names decide, the keys must agree: a part that was renamed is an error, not a guess.
 *
 * Sorted indexes rather than a hash table: a file cannot choose names that make lookup slow, the
 * neighbours in sorted order show duplicates, and a load does a few hundred lookups. */
#include "formats/gguf_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensor data are used as they lie in the file: a little-endian host is needed"
#endif

#define SPLIT_MAX 99999 /* five digits in the name */

/* ---- names --------------------------------------------------------------------------------- */

static int compare_str(nm_str a, nm_str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int by_name(const void *pa, const void *pb)
{
    const nm_gguf_name *a = pa, *b = pb;
    int c = compare_str(a->name, b->name);
    return c ? c : (a->at > b->at) - (a->at < b->at);
}

npumoe_status nm_gguf_index(const npumoe_allocator *a, const void *entries, size_t entry_bytes,
                            size_t n, nm_gguf_name **out, size_t *twice, npumoe_error *err)
{
    nm_gguf_name *index = nm_alloc_array(a, n, sizeof *index);
    if (!index)
        return nm_err_nomem(err, n * sizeof *index, "an index of names");
    const char *entry = entries;
    for (size_t i = 0; i < n; i++, entry += entry_bytes) {
        memcpy(&index[i].name, entry, sizeof index[i].name);
        index[i].at = i;
    }
    qsort(index, n, sizeof *index, by_name);
    *twice = n;
    for (size_t i = 1; i < n; i++)
        if (index[i].at < *twice && nm_str_eq(index[i - 1].name, index[i].name))
            *twice = index[i].at;
    *out = index;
    return NPUMOE_OK;
}

static const nm_gguf_name *find(const nm_gguf_name *index, size_t n, const char *name)
{
    nm_str key = nm_str_of(name);
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = compare_str(index[mid].name, key);
        if (c == 0)
            return &index[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* ---- one part ------------------------------------------------------------------------------ */

static npumoe_status open_part(nm_gguf_part *part, const npumoe_allocator *a, const char *path,
                               npumoe_error *err)
{
    part->path = nm_strndup(a, path, strlen(path));
    if (!part->path)
        return nm_err_nomem(err, strlen(path), "a file name");
    NM_TRY(nm_map_open(path, &part->map, err));
    part->data = part->map.data;
    part->bytes = part->map.bytes;
    return nm_gguf_part_parse(part, a, err);
}

/* A split.* key of a part, which has no index of its own. Absent: *out stays. */
static npumoe_status split_key(const nm_gguf_part *part, const char *key, uint64_t max,
                               uint64_t *out, npumoe_error *err)
{
    for (size_t i = 0; i < part->n_kv; i++) {
        const nm_gguf_kv *kv = &part->kv[i];
        if (!nm_str_eqz(kv->key, key))
            continue;
        if (!nm_gguf_kv_u64(kv, max, out))
            return nm_err_at(err, NPUMOE_EFORMAT, kv->offset,
                             "%s: byte %" PRIu64
                             ": key '%s': expected an integer from 0 to %" PRIu64,
                             nm_gguf_label(part->path), kv->offset, key, max);
        return NPUMOE_OK;
    }
    return NPUMOE_OK;
}

/* ---- a split set --------------------------------------------------------------------------- */

typedef struct split_name {
    size_t prefix_bytes; /* before "-00002-of-00003.gguf" */
    uint32_t number, count;
} split_name;

static bool five_digits(const char *p, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 5; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        *out = *out * 10 + (uint32_t)(p[i] - '0');
    }
    return true;
}

static bool parse_split_name(const char *path, split_name *out)
{
    static const char tail[] = "-00001-of-00001.gguf";
    size_t n = strlen(path);
    if (n < sizeof tail - 1)
        return false;
    out->prefix_bytes = n - (sizeof tail - 1);
    const char *p = path + out->prefix_bytes;
    return p[0] == '-' && five_digits(p + 1, &out->number) && memcmp(p + 6, "-of-", 4) == 0 &&
           five_digits(p + 10, &out->count) && memcmp(p + 15, ".gguf", 5) == 0;
}

/* The part given must be called what its keys say, or its fellows cannot be found. */
static npumoe_status check_split_name(const nm_gguf_part *part, uint64_t no, uint64_t count,
                                      split_name *name, npumoe_error *err)
{
    if (no >= count)
        return nm_err_set(err, NPUMOE_EFORMAT,
                          "%s: split.no is %" PRIu64 ", expected less than split.count, %" PRIu64,
                          nm_gguf_label(part->path), no, count);
    if (!parse_split_name(part->path, name))
        return nm_err_set(err, NPUMOE_EFORMAT,
                          "%s: this is part %" PRIu64 " of %" PRIu64
                          " and must be called NAME-%05" PRIu64 "-of-%05" PRIu64
                          ".gguf, because the other parts are found by name",
                          nm_gguf_label(part->path), no + 1, count, no + 1, count);
    if (name->number != no + 1 || name->count != count)
        return nm_err_set(err, NPUMOE_EFORMAT,
                          "%s: the name says part %" PRIu32 " of %" PRIu32
                          ", its keys say part %" PRIu64 " of %" PRIu64,
                          nm_gguf_label(part->path), name->number, name->count, no + 1, count);
    return NPUMOE_OK;
}

/* Opens part i of the set that `given` belongs to and compares its keys. */
static npumoe_status open_fellow(nm_gguf *g, const nm_gguf_part *given, const split_name *name,
                                 uint32_t i, npumoe_error *err)
{
    uint64_t no = UINT64_MAX, count = 0;
    size_t bytes = strlen(given->path) + 1;
    char *path = nm_alloc(g->a, bytes);
    if (!path)
        return nm_err_nomem(err, bytes, "a file name");
    snprintf(path, bytes, "%.*s-%05" PRIu32 "-of-%05" PRIu32 ".gguf", (int)name->prefix_bytes,
             given->path, i + 1, name->count);
    nm_gguf_part *part = &g->parts[i];
    npumoe_status st = open_part(part, g->a, path, err);
    nm_free(g->a, path);
    if (st == NPUMOE_ENOENT)
        return nm_err_prefix(err, st, "part %" PRIu32 " of %" PRIu32 " is missing", i + 1,
                             name->count);
    NM_TRY(st);
    NM_TRY(split_key(part, "split.no", SPLIT_MAX, &no, err));
    NM_TRY(split_key(part, "split.count", SPLIT_MAX, &count, err));
    if (no != i || count != name->count)
        return nm_err_set(
            err, NPUMOE_EFORMAT,
            "%s: the keys split.no and split.count do not say that this is part %" PRIu32
            " of %" PRIu32,
            nm_gguf_label(part->path), i + 1, name->count);
    return NPUMOE_OK;
}

/* Makes room for all parts and moves the one that is open to its place. */
static npumoe_status open_set(nm_gguf *g, uint64_t no, uint64_t count, npumoe_error *err)
{
    split_name name = {0};
    NM_TRY(check_split_name(&g->parts[0], no, count, &name, err));
    nm_gguf_part *parts = nm_alloc_array(g->a, (size_t)count, sizeof *parts);
    if (!parts)
        return nm_err_nomem(err, count * sizeof *parts, "the parts of a split file");
    parts[no] = g->parts[0];
    nm_free(g->a, g->parts);
    g->parts = parts;
    g->n_parts = (uint32_t)count;
    for (uint32_t i = 0; i < g->n_parts; i++)
        if (i != no)
            NM_TRY(open_fellow(g, &g->parts[no], &name, i, err));
    return NPUMOE_OK;
}

static npumoe_status open_fellows(nm_gguf *g, npumoe_error *err)
{
    uint64_t no = 0, count = 1;
    NM_TRY(split_key(&g->parts[0], "split.count", SPLIT_MAX, &count, err));
    NM_TRY(split_key(&g->parts[0], "split.no", SPLIT_MAX, &no, err));
    if (count == 0)
        return nm_err_set(err, NPUMOE_EFORMAT, "%s: split.count is 0, expected 1 or more",
                          nm_gguf_label(g->parts[0].path));
    return count > 1 ? open_set(g, no, count, err) : NPUMOE_OK;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static npumoe_status join_tensors(nm_gguf *g, npumoe_error *err)
{
    size_t n = 0;
    for (uint32_t i = 0; i < g->n_parts; i++)
        n += g->parts[i].n_tensors;
    g->tensors = nm_alloc_array(g->a, n, sizeof *g->tensors);
    if (!g->tensors)
        return nm_err_nomem(err, n * sizeof *g->tensors, "the list of tensors");
    for (uint32_t i = 0; i < g->n_parts; i++) {
        nm_gguf_part *part = &g->parts[i];
        for (size_t j = 0; j < part->n_tensors; j++) {
            g->tensors[g->n_tensors] = part->tensors[j];
            g->tensors[g->n_tensors++].part = i;
        }
        nm_free(g->a, part->tensors);
        part->tensors = NULL;
        part->n_tensors = 0;
    }
    return NPUMOE_OK;
}

/* What can only be seen when all parts are there. */
static npumoe_status check_set(const nm_gguf *g, size_t twice, npumoe_error *err)
{
    const nm_gguf_part *first = &g->parts[0];
    uint64_t total = g->n_tensors;
    if (twice != g->n_tensors) {
        const nm_gguf_tensor *t = &g->tensors[twice];
        const nm_gguf_part *part = &g->parts[t->part];
        uint64_t at = (uint64_t)((const unsigned char *)t->name.p - part->data);
        return nm_err_at(err, NPUMOE_EFORMAT, at,
                         "%s: byte %" PRIu64 ": tensor '%.*s': an earlier part has it too",
                         nm_gguf_label(part->path), at, NM_STR_ARG(t->name));
    }
    if (g->n_parts < 2)
        return NPUMOE_OK;
    NM_TRY(split_key(first, "split.tensors.count", UINT64_MAX, &total, err));
    if (total != g->n_tensors)
        return nm_err_set(err, NPUMOE_EFORMAT,
                          "%s: split.tensors.count is %" PRIu64 ", but the %" PRIu32
                          " parts hold %zu tensors",
                          nm_gguf_label(first->path), total, g->n_parts, g->n_tensors);
    return NPUMOE_OK;
}

static npumoe_status finish_open(nm_gguf *g, npumoe_error *err)
{
    const nm_gguf_part *first = &g->parts[0];
    size_t twice;
    NM_TRY(join_tensors(g, err));
    NM_TRY(
        nm_gguf_index(g->a, first->kv, sizeof *first->kv, first->n_kv, &g->kv_names, &twice, err));
    NM_TRY(nm_gguf_index(g->a, g->tensors, sizeof *g->tensors, g->n_tensors, &g->tensor_names,
                         &twice, err));
    return check_set(g, twice, err);
}

static npumoe_status new_gguf(const nm_gguf_options *options, nm_gguf **out, npumoe_error *err)
{
    const npumoe_allocator *a = nm_allocator_or_default(options ? options->allocator : NULL);
    nm_gguf *g = nm_zalloc(a, sizeof *g);
    if (!g)
        return nm_err_nomem(err, sizeof *g, "an open GGUF file");
    g->a = a;
    g->parts = nm_alloc_array(a, 1, sizeof *g->parts);
    if (!g->parts) {
        nm_free(a, g);
        return nm_err_nomem(err, sizeof *g->parts, "an open GGUF file");
    }
    g->n_parts = 1;
    *out = g;
    return NPUMOE_OK;
}

npumoe_status nm_gguf_open(const char *path, const nm_gguf_options *options, nm_gguf **out,
                           npumoe_error *err)
{
    nm_gguf *g;
    NM_TRY(new_gguf(options, &g, err));
    npumoe_status st;
    NM_TRY_OUT(open_part(&g->parts[0], g->a, path, err));
    if (!options || !options->single_part)
        NM_TRY_OUT(open_fellows(g, err));
    NM_TRY_OUT(finish_open(g, err));
    *out = g;
    return NPUMOE_OK;
out:
    nm_gguf_free(&g);
    return st;
}

npumoe_status nm_gguf_open_memory(const void *data, size_t bytes, const char *name,
                                  const nm_gguf_options *options, nm_gguf **out, npumoe_error *err)
{
    nm_gguf *g;
    NM_TRY(new_gguf(options, &g, err));
    nm_gguf_part *part = &g->parts[0];
    npumoe_status st;
    part->path = nm_strndup(g->a, name, strlen(name));
    part->data = data;
    part->bytes = bytes;
    NM_TRY_OUT(part->path ? NPUMOE_OK : nm_err_nomem(err, strlen(name), "a file name"));
    NM_TRY_OUT(nm_gguf_part_parse(part, g->a, err));
    NM_TRY_OUT(finish_open(g, err));
    *out = g;
    return NPUMOE_OK;
out:
    nm_gguf_free(&g);
    return st;
}

void nm_gguf_free(nm_gguf **gguf)
{
    nm_gguf *g = *gguf;
    if (!g)
        return;
    for (uint32_t i = 0; i < g->n_parts; i++)
        nm_gguf_part_fini(&g->parts[i], g->a);
    nm_free(g->a, g->parts);
    nm_free(g->a, g->tensors);
    nm_free(g->a, g->kv_names);
    nm_free(g->a, g->tensor_names);
    nm_free(g->a, g);
    *gguf = NULL;
}

/* ---- access -------------------------------------------------------------------------------- */

const char *nm_gguf_path(const nm_gguf *g)
{
    return g->parts[0].path;
}

const char *nm_gguf_part_path(const nm_gguf *g, uint32_t part)
{
    return g->parts[part].path;
}

uint32_t nm_gguf_version(const nm_gguf *g)
{
    return g->parts[0].version;
}

uint32_t nm_gguf_n_parts(const nm_gguf *g)
{
    return g->n_parts;
}

uint64_t nm_gguf_mapped_bytes(const nm_gguf *g)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < g->n_parts; i++)
        sum += g->parts[i].bytes;
    return sum;
}

size_t nm_gguf_n_kv(const nm_gguf *g)
{
    return g->parts[0].n_kv;
}

const nm_gguf_kv *nm_gguf_kv_at(const nm_gguf *g, size_t i)
{
    return &g->parts[0].kv[i];
}

const nm_gguf_kv *nm_gguf_find(const nm_gguf *g, const char *key)
{
    const nm_gguf_name *name = find(g->kv_names, g->parts[0].n_kv, key);
    return name ? &g->parts[0].kv[name->at] : NULL;
}

size_t nm_gguf_n_tensors(const nm_gguf *g)
{
    return g->n_tensors;
}

const nm_gguf_tensor *nm_gguf_tensor_at(const nm_gguf *g, size_t i)
{
    return &g->tensors[i];
}

const nm_gguf_tensor *nm_gguf_find_tensor(const nm_gguf *g, const char *name)
{
    const nm_gguf_name *found = find(g->tensor_names, g->n_tensors, name);
    return found ? &g->tensors[found->at] : NULL;
}
