/* stop.c: see stop.h.
 *
 * Each byte that arrives is tried as the last byte of every stop string, by comparing backwards in
 * the buffer of text not yet handed on. That costs (number of stops) comparisons of mostly one byte
 * per byte of text; Aho-Corasick would do with one, but a request has a handful of short stop
 * strings, and the model needs a million times longer to write the byte.
 *
 * buf holds [handed on by the last call | held | new piece]; `done` is where the held text begins. */
#include "engine/stop.h"

#include "base/num.h"
#include "base/utf8.h"

#include <string.h>

struct nm_stop {
    const npumoe_allocator *alloc;
    nm_str *strings; /* each one's own copy */
    size_t n_strings;
    char *buf;
    size_t cap, len, done;
};

static npumoe_status copy_strings(nm_stop *s, const char *const *strings, size_t n,
                                  npumoe_error *err)
{
    s->strings = nm_alloc_array(s->alloc, n, sizeof *s->strings);
    if (!s->strings)
        return nm_err_nomem(err, (uint64_t)n * sizeof *s->strings, "the stop strings");
    for (size_t i = 0; i < n; i++) {
        nm_str from = nm_str_of(strings[i]);
        if (from.n == 0)
            return nm_err_set(err, NPUMOE_EINVAL, "stop string %zu is empty", i);
        if (nm_utf8_valid(from.p, from.n) != from.n)
            return nm_err_set(err, NPUMOE_EINVAL, "stop string %zu is not valid UTF-8", i);
        char *copy = nm_strndup(s->alloc, from.p, from.n);
        if (!copy)
            return nm_err_nomem(err, from.n, "a stop string");
        s->strings[s->n_strings++] = (nm_str){copy, from.n};
    }
    return NPUMOE_OK;
}

npumoe_status nm_stop_new(const npumoe_allocator *a, const char *const *strings, size_t n,
                          nm_stop **out, npumoe_error *err)
{
    nm_stop *s = nm_zalloc(a, sizeof *s);
    if (!s)
        return nm_err_nomem(err, sizeof *s, "the stop strings");
    s->alloc = a;
    npumoe_status st = copy_strings(s, strings, n, err);
    if (st != NPUMOE_OK) {
        nm_stop_free(&s);
        return st;
    }
    *out = s;
    return NPUMOE_OK;
}

void nm_stop_free(nm_stop **stop)
{
    if (!stop || !*stop)
        return;
    nm_stop *s = *stop;
    const npumoe_allocator *a = s->alloc;
    for (size_t i = 0; i < s->n_strings; i++)
        nm_free(a, (char *)(uintptr_t)s->strings[i].p);
    nm_free(a, s->strings);
    nm_free(a, s->buf);
    nm_free(a, s);
    *stop = NULL;
}

/* The longest stop string that ends right before buf[end]; NM_STOP_NONE if none does. */
static size_t ends_here(const nm_stop *s, size_t end)
{
    size_t found = NM_STOP_NONE;
    for (size_t i = 0; i < s->n_strings; i++) {
        nm_str t = s->strings[i];
        if (t.n > end || memcmp(s->buf + end - t.n, t.p, t.n) != 0)
            continue;
        if (found == NM_STOP_NONE || t.n > s->strings[found].n)
            found = i;
    }
    return found;
}

/* How many bytes at the end of buf could be the beginning of a stop string. */
static size_t maybe_prefix(const nm_stop *s)
{
    size_t hold = 0;
    for (size_t i = 0; i < s->n_strings; i++) {
        nm_str t = s->strings[i];
        for (size_t n = nm_min_size(t.n - 1, s->len); n > hold; n--)
            if (memcmp(s->buf + s->len - n, t.p, n) == 0)
                hold = n;
    }
    return hold;
}

npumoe_status nm_stop_push(nm_stop *s, nm_str piece, nm_str *ready, size_t *match,
                           npumoe_error *err)
{
    if (s->done) { /* below, the buffer holds nothing that was handed on */
        memmove(s->buf, s->buf + s->done, s->len - s->done);
        s->len -= s->done;
        s->done = 0;
    }
    if (piece.n) {
        NM_TRY(nm_grow(s->alloc, (void **)&s->buf, &s->cap, s->len + piece.n, 1, err));
        memcpy(s->buf + s->len, piece.p, piece.n);
    }
    size_t end = s->len + piece.n;
    *match = NM_STOP_NONE;
    while (s->len < end) {
        s->len++;
        *match = ends_here(s, s->len);
        if (*match != NM_STOP_NONE) {
            *ready = (nm_str){s->buf, s->len - s->strings[*match].n};
            s->len = s->done = 0;
            return NPUMOE_OK;
        }
    }
    s->done = s->len - maybe_prefix(s);
    *ready = s->done ? (nm_str){s->buf, s->done} : (nm_str){"", 0}; /* never a NULL */
    return NPUMOE_OK;
}

nm_str nm_stop_finish(nm_stop *s)
{
    nm_str rest = {s->len > s->done ? s->buf + s->done : NULL, s->len - s->done};
    s->len = s->done = 0;
    return rest;
}
