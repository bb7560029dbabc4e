/* fault.c: see fault.h. Forwards everything; programs and buffers are the inner device's own. */
#include "device/fault.h"

#include "base/alloc.h"

#include <inttypes.h>
#include <pthread.h>
#include <time.h>

typedef struct fault {
    nm_npu head;
    const npumoe_allocator *allocator;
    nm_npu *inner;
    nm_fault_options options;
    pthread_mutex_t lock; /* of what follows: tests submit from many threads */
    uint64_t loads, submits, failures;
    uint64_t rng;
} fault;

static bool is_due(uint64_t n, uint64_t from, uint64_t to)
{
    return from > 0 && n >= from && n <= to;
}

static void fault_free(nm_npu *npu)
{
    fault *f = (fault *)npu;
    nm_npu_free(&f->inner);
    pthread_mutex_destroy(&f->lock);
    nm_free(f->allocator, f);
}

static uint64_t program_bytes(const nm_npu *npu, const nm_program_desc *d)
{
    const nm_npu *inner = ((const fault *)npu)->inner;
    return inner->ops->program_bytes(inner, d);
}

static npumoe_status compile(nm_npu *npu, const nm_program_desc *d, nm_program **out,
                             npumoe_error *err)
{
    nm_npu *inner = ((fault *)npu)->inner;
    return inner->ops->compile(inner, d, out, err);
}

static npumoe_status load(nm_npu *npu, nm_program *p, npumoe_error *err)
{
    fault *f = (fault *)npu;
    if (is_due(++f->loads, f->options.load_from, f->options.load_to))
        return nm_err_set(err, NPUMOE_EDEVICE,
                          "load %" PRIu64 " (layer %" PRIu32 ") fails on request", f->loads,
                          p->layer);
    return f->inner->ops->load(f->inner, p, err);
}

static void fill(nm_npu *npu, nm_program *const *programs, size_t n, nm_pool *pool)
{
    nm_npu *inner = ((fault *)npu)->inner;
    if (inner->ops->fill)
        inner->ops->fill(inner, programs, n, pool);
}

static void unload(nm_npu *npu, nm_program *p)
{
    nm_npu *inner = ((fault *)npu)->inner;
    inner->ops->unload(inner, p);
}

static void program_free(nm_npu *npu, nm_program *p)
{
    nm_npu *inner = ((fault *)npu)->inner;
    inner->ops->program_free(inner, p);
}

static npumoe_status buffer_init(nm_npu *npu, nm_npu_buffer *b, size_t bytes, npumoe_error *err)
{
    nm_npu *inner = ((fault *)npu)->inner;
    return inner->ops->buffer_init(inner, b, bytes, err);
}

static void buffer_fini(nm_npu *npu, nm_npu_buffer *b)
{
    nm_npu *inner = ((fault *)npu)->inner;
    inner->ops->buffer_fini(inner, b);
}

static npumoe_status submit(nm_npu *npu, nm_program *p, const nm_npu_buffer *in, nm_npu_buffer *out,
                            const nm_npu_cache *cache, uint64_t *ticket, npumoe_error *err)
{
    fault *f = (fault *)npu;
    pthread_mutex_lock(&f->lock);
    const uint64_t n = ++f->submits;
    const bool fails = is_due(n, f->options.submit_from, f->options.submit_to);
    f->failures += fails;
    pthread_mutex_unlock(&f->lock);
    *ticket = 0;
    if (fails)
        return nm_err_set(err, NPUMOE_EDEVICE,
                          "submission %" PRIu64 " (layer %" PRIu32 ") fails on request", n,
                          p->layer);
    return f->inner->ops->submit(f->inner, p, in, out, cache, ticket, err);
}

static uint64_t draw(fault *f)
{
    pthread_mutex_lock(&f->lock);
    f->rng = f->rng * 6364136223846793005u + 1442695040888963407u;
    const uint64_t r = f->rng >> 33;
    pthread_mutex_unlock(&f->lock);
    return r;
}

static bool poll(nm_npu *npu, uint64_t ticket)
{
    fault *f = (fault *)npu;
    if (f->options.delay_seed && draw(f) % 2)
        return false;
    return f->inner->ops->poll(f->inner, ticket);
}

static npumoe_status wait(nm_npu *npu, uint64_t ticket, nm_launch_times *times, npumoe_error *err)
{
    fault *f = (fault *)npu;
    NM_TRY(f->inner->ops->wait(f->inner, ticket, times, err));
    if (f->options.delay_seed)
        nanosleep(&(struct timespec){.tv_nsec = (long)(draw(f) % 2000000)}, NULL);
    if (!is_due(ticket, f->options.launch_from, f->options.launch_to))
        return NPUMOE_OK;
    pthread_mutex_lock(&f->lock);
    f->failures++;
    pthread_mutex_unlock(&f->lock);
    return nm_err_set(err, NPUMOE_EDEVICE, "launch %" PRIu64 " fails on request", ticket);
}

static void cancel(nm_npu *npu)
{
    nm_npu_cancel(((fault *)npu)->inner);
}

static void stats(const nm_npu *npu, nm_npu_stats *s)
{
    fault *f = (fault *)npu;
    f->inner->ops->stats(f->inner, s);
    pthread_mutex_lock(&f->lock);
    s->launch_failures += f->failures;
    pthread_mutex_unlock(&f->lock);
}

static const nm_npu_ops ops = {
    .free = fault_free,
    .program_bytes = program_bytes,
    .compile = compile,
    .load = load,
    .fill = fill,
    .unload = unload,
    .program_free = program_free,
    .buffer_init = buffer_init,
    .buffer_fini = buffer_fini,
    .submit = submit,
    .poll = poll,
    .wait = wait,
    .cancel = cancel,
    .stats = stats,
};

npumoe_status nm_fault_new_take(const npumoe_allocator *a, nm_npu **inner,
                                const nm_fault_options *options, nm_npu **out, npumoe_error *err)
{
    a = nm_allocator_or_default(a);
    fault *f = nm_zalloc(a, sizeof *f);
    if (f == NULL)
        return nm_err_nomem(err, sizeof *f, "a failing device");
    f->allocator = a;
    f->head.ops = &ops;
    f->head.caps = (*inner)->caps;
    f->options = *options;
    f->rng = options->delay_seed;
    f->inner = *inner;
    pthread_mutex_init(&f->lock, NULL);
    *inner = NULL;
    *out = &f->head;
    return NPUMOE_OK;
}
