/* probe_read.c: how fast memory can be read: caches, anonymous pages of both sizes, and a mapped file,
 * which is what a model's weights are (probe.h).
 *
 * Each thread reads its own stretch from one end to the other, again and again. Memory is read from
 * sets of 256 MiB and more, which no cache holds. What is best differs between processors by how far
 * their prefetchers see: each memory is read without and with prefetch at some distances, and the best
 * one is what the table tells (and which). */
#include "engine/probe.h"

#include "base/file.h"
#include "base/sys.h"
#include "engine/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { N_KINDS = 3, HUGE_BYTES = 2 * 1024 * 1024 };
static const uint64_t set_bytes = UINT64_C(512) << 20, least_set_bytes = UINT64_C(256) << 20;

typedef struct area {
    const char *name;
    void *map;
    size_t map_bytes;
    const char *data; /* NULL: could not be made */
    size_t bytes;
} area;

struct nm_probe_memory {
    area kinds[N_KINDS];
};

/* ---- making it ------------------------------------------------------------------------------ */

/* Pages as the advice says; the content is never zero, as zero pages may be shared. */
static bool make_anonymous(area *a, const char *name, size_t bytes, int advice)
{
    void *map =
        mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return false;
    char *data = (char *)map + (HUGE_BYTES - (uintptr_t)map % HUGE_BYTES) % HUGE_BYTES;
    if (advice && madvise(data, bytes, advice) != 0) {
        munmap(map, bytes + HUGE_BYTES);
        return false;
    }
    memset(data, 0x35, bytes);
    *a = (area){name, map, bytes + HUGE_BYTES, data, bytes};
    return true;
}

/* A file without a name, so that nothing is left behind whatever happens. */
static int nameless_file(const char *folder)
{
#ifdef O_TMPFILE
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
#endif
    char path[4096];
    if (snprintf(path, sizeof path, "%s/npumoe-probe-XXXXXX", folder) >= (int)sizeof path)
        return -1;
    int named = mkstemp(path);
    if (named >= 0)
        (void)unlink(path);
    return named;
}

static bool write_all(int fd, size_t bytes)
{
    enum { PIECE = 1 << 20 };
    char *piece = nm_alloc(nm_allocator_default(), PIECE);
    bool ok = piece != NULL;
    if (ok)
        memset(piece, 0x35, PIECE);
    for (size_t at = 0; ok && at < bytes;) {
        ssize_t n = write(fd, piece, bytes - at < PIECE ? bytes - at : PIECE);
        ok = n > 0 || (n < 0 && errno == EINTR);
        at += n > 0 ? (size_t)n : 0;
    }
    nm_free(nm_allocator_default(), piece);
    return ok;
}

static bool make_file(area *a, const char *folder, size_t bytes)
{
    int fd = nameless_file(folder);
    if (fd < 0)
        return false;
    void *map = MAP_FAILED;
    if (write_all(fd, bytes))
        map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return false;
    *a = (area){"file", map, bytes, map, bytes};
    return true;
}

/* The caller's own file, if it is large enough to be no cache's. */
static bool map_file(area *a, const char *path, size_t bytes)
{
    nm_map file;
    if (nm_map_open(path, &file, NULL) != NPUMOE_OK)
        return false;
    if (file.bytes < least_set_bytes) {
        nm_map_close(&file);
        return false;
    }
    void *map = (void *)(uintptr_t)file.data;
    *a = (area){"file", map, (size_t)file.bytes, (const char *)file.data,
                file.bytes < bytes ? (size_t)file.bytes : bytes};
    return true;
}

static size_t affordable_bytes(bool quick)
{
    const nm_memory memory = nm_memory_read(0);
    uint64_t bytes = quick ? least_set_bytes : set_bytes;
    while (memory.available_bytes != NM_MEMORY_UNKNOWN && bytes > memory.available_bytes / 8)
        bytes /= 2;
    return (size_t)bytes;
}

/* Quick: of the anonymous ones only the better. */
nm_probe_memory *nm_probe_memory_new(nm_probe *p)
{
    const npumoe_probe_options *o = p->options;
    nm_probe_memory *m = nm_zalloc(nm_allocator_default(), sizeof *m);
    const size_t bytes = affordable_bytes(o->quick);
    int small = 0, huge = 0;
    bool has_huge = false;
#ifdef MADV_HUGEPAGE
    char mode[32];
    small = MADV_NOHUGEPAGE;
    huge = MADV_HUGEPAGE;
    has_huge = nm_sys_huge_page_bytes(mode, sizeof mode) && strcmp(mode, "never") != 0;
#endif
    if (!m || bytes < (1 << 20)) {
        nm_probe_note(p, "no memory to read from");
        nm_free(nm_allocator_default(), m);
        return NULL;
    }
    if (!(o->quick && has_huge) && !make_anonymous(&m->kinds[0], "pages_small", bytes, small))
        nm_probe_note(p, "no memory of small pages");
    if (has_huge && !make_anonymous(&m->kinds[1], "pages_huge", bytes, huge))
        nm_probe_note(p, "no memory of huge pages");
    const char *folder = o->scratch_folder ? o->scratch_folder : "/tmp";
    bool own = o->file && map_file(&m->kinds[2], o->file, bytes);
    if (o->file && !own)
        nm_probe_note(p, "%s is below 256 MiB; a temporary file was read instead", o->file);
    if (!own && !make_file(&m->kinds[2], folder, bytes))
        nm_probe_note(p, "no file of %zu MiB could be made in %s", bytes >> 20, folder);
    return m;
}

void nm_probe_memory_free(nm_probe_memory **memory)
{
    for (int i = 0; *memory && i < N_KINDS; i++)
        if ((*memory)->kinds[i].map)
            munmap((*memory)->kinds[i].map, (*memory)->kinds[i].map_bytes);
    nm_free(nm_allocator_default(), *memory);
    *memory = NULL;
}

/* ---- reading it ----------------------------------------------------------------------------- */

typedef struct sweep {
    const nm_probe_reader *reader;
    const char *data;
    size_t bytes_per_thread, stride_bytes, ahead_bytes;
    _Atomic uint64_t sink;
} sweep;

static uint64_t read_once(void *arg, int thread, size_t passes)
{
    sweep *s = arg;
    uint64_t sum = 0;
    for (size_t i = 0; i < passes; i++)
        sum += s->reader->run(s->data + (size_t)thread * s->stride_bytes, s->bytes_per_thread,
                              s->ahead_bytes);
    s->sink += sum;
    return (uint64_t)passes * s->bytes_per_thread;
}

static void put_read(nm_probe *p, const char *from, const sweep *s, const nm_probe_rate *rate)
{
    json_t *what = json_pack("{s:s, s:s}", "from", from, "unit", s->reader->unit);
    nm_describe_put(what, "bytes_per_thread", nm_describe_u64(s->bytes_per_thread));
    nm_describe_put(what, "prefetch_bytes", nm_describe_u64(s->ahead_bytes));
    nm_probe_put(p, "read", what, "gb_per_s", rate);
}

/* With the best distance; 0 is none. */
static void measure_memory(nm_probe *p, const area *a, sweep *s)
{
    static const size_t distances[] = {0, 512, 1024, 2048, 4096};
    enum { N_DISTANCES = sizeof distances / sizeof distances[0] };
    const int reps = p->reps;
    nm_probe_rate best = {0};
    size_t best_at = 0;
    s->data = a->data;
    s->stride_bytes = a->bytes / (size_t)nm_pool_size(p->pool) / 4096 * 4096;
    s->bytes_per_thread = s->stride_bytes;
    for (int i = 0; i < N_DISTANCES; i++) {
        s->ahead_bytes = distances[i];
        p->reps = reps < 3 ? reps : 3;
        nm_probe_rate rate = nm_probe_measure(p, read_once, s);
        if (rate.max > best.max) {
            best = rate;
            best_at = distances[i];
        }
    }
    p->reps = reps;
    s->ahead_bytes = best_at;
    nm_probe_rate rate = nm_probe_measure(p, read_once, s);
    rate.min = rate.min < best.min ? rate.min : best.min;
    rate.max = rate.max > best.max ? rate.max : best.max;
    put_read(p, a->name, s, &rate);
}

/* Caches are read from the first area: any memory will do. */
static void measure_caches(nm_probe *p, const area *a, sweep *s)
{
    enum { L3_BYTES = 16 << 20 };
    const uint64_t l1 = nm_sys_cache_bytes(1), l2 = nm_sys_cache_bytes(2);
    const uint64_t l3 = nm_sys_cache_bytes(3), n = (uint64_t)nm_pool_size(p->pool);
    const struct {
        const char *name;
        uint64_t bytes_per_thread;
    } sets[] = {
        {"l1", l1 / 2},
        {"l2", l2 / 2},
        {"l3", l3 > 2 * n * l2 ? (l3 / 4 < L3_BYTES ? l3 / 4 : L3_BYTES) / n : 0},
    };
    s->data = a->data;
    s->ahead_bytes = 0;
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        s->bytes_per_thread = (size_t)(sets[i].bytes_per_thread / 4096 * 4096);
        s->stride_bytes = s->bytes_per_thread;
        if (s->bytes_per_thread == 0 || s->bytes_per_thread * n > a->bytes || !nm_probe_next(p))
            continue;
        nm_probe_rate rate = nm_probe_measure(p, read_once, s);
        put_read(p, sets[i].name, s, &rate);
    }
}

void nm_probe_reads(nm_probe *p, nm_probe_memory *m)
{
    sweep s = {.reader = nm_probe_reader_for(&p->cpu)};
    bool caches_done = false;
    for (int i = 0; m && i < N_KINDS; i++) {
        const area *a = &m->kinds[i];
        if (a->data && !caches_done)
            measure_caches(p, a, &s);
        caches_done = caches_done || a->data;
        if (a->data && nm_probe_next(p))
            measure_memory(p, a, &s);
    }
}
