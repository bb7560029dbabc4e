/* device.c: devices as the public header has them: names and options to src/device. */
#include "engine/device.h"

#include "base/abi.h"
#include "base/alloc.h"
#include "base/num.h"
#include "device/fault.h"
#include "device/none.h"
#include "device/tile/tile.h"
#include "engine/precision.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

struct npumoe_device {
    const npumoe_allocator *allocator;
    nm_npu *npu;
    atomic_int held;
};

npumoe_device_options npumoe_device_options_default(void)
{
    return (npumoe_device_options){.struct_bytes = sizeof(npumoe_device_options),
                                   .precision = NPUMOE_PRECISION_FULL,
                                   .n_threads = 1};
}

nm_npu *nm_device_npu(npumoe_device *device)
{
    return device->npu;
}

void nm_device_hold(npumoe_device *device, bool hold)
{
    atomic_fetch_add(&device->held, hold ? 1 : -1);
}

/* ---- debug flags ----------------------------------------------------------------------------- */

typedef struct debug_flag {
    const char *name;
    uint64_t *from, *to; /* to NULL: one number */
} debug_flag;

/* Digits only, from 1 on: 0 is "never". */
static bool read_number(const char **text, uint64_t *out)
{
    uint64_t n = 0;
    const char *at = *text;
    for (; *at >= '0' && *at <= '9'; at++)
        if (!nm_mul_u64(n, 10, &n) || !nm_add_u64(n, (uint64_t)(*at - '0'), &n))
            return false;
    const bool found = at > *text;
    *text = at;
    *out = n;
    return found && n > 0;
}

/* "7" or "3-5" behind the name. */
static bool read_range(const char *text, const debug_flag *f, const char **end)
{
    if (!read_number(&text, f->from))
        return false;
    if (f->to)
        *f->to = *f->from;
    if (f->to && *text == '-') {
        text++;
        if (!read_number(&text, f->to) || *f->to < *f->from)
            return false;
    }
    *end = text;
    return *text == '\0' || *text == ' ';
}

static npumoe_status read_debug_flags(const char *text, nm_fault_options *o, npumoe_error *err)
{
    const debug_flag flags[] = {{"fail-load=", &o->load_from, &o->load_to},
                                {"fail-launch=", &o->launch_from, &o->launch_to},
                                {"fail-submit=", &o->submit_from, &o->submit_to},
                                {"late=", &o->delay_seed, NULL}};
    const size_t n = sizeof flags / sizeof flags[0];
    while (*text) {
        size_t i = 0;
        while (i < n && strncmp(text, flags[i].name, strlen(flags[i].name)) != 0)
            i++;
        if (i == n || !read_range(text + strlen(flags[i].name), &flags[i], &text))
            return nm_err_set(err, NPUMOE_EINVAL,
                              "debug_flags: found '%s', expected fail-load=N, fail-launch=N-M, "
                              "fail-submit=N or late=SEED, numbers of 1 and up, N up to M",
                              text);
        text += strspn(text, " ");
    }
    return NPUMOE_OK;
}

/* ---- life ------------------------------------------------------------------------------------ */

static npumoe_status make_tile(const npumoe_device_options *o, nm_npu **out, npumoe_error *err)
{
    nm_tile_options t = nm_tile_options_default();
    NM_TRY(nm_precision_read(o->precision, &t.precision, err));
    NM_TRY(nm_tile_weights_parse(o->weights, &t.weights, err));
    t.isa = o->isa;
    t.n_threads = o->n_threads;
    t.cpus = o->cpus;
    t.n_cpus = o->n_cpus;
    t.launch_ns = (uint64_t)o->launch_us * 1000;
    t.slots = o->slots ? o->slots : t.slots;
    t.program_bytes = o->program_bytes ? o->program_bytes : t.program_bytes;
    t.total_bytes = o->memory_bytes ? o->memory_bytes : t.total_bytes;
    t.capacity_multiple = o->capacity_multiple ? o->capacity_multiple : t.capacity_multiple;
    t.queue_depth = o->queue_depth ? o->queue_depth : t.queue_depth;
    return nm_tile_new(o->allocator, &t, out, err);
}

static npumoe_status make_npu(const npumoe_device_options *o, nm_npu **out, npumoe_error *err)
{
    const char *name = o->name ? o->name : "tile";
    nm_fault_options fault = {0};
    nm_npu *npu;
    if (strcmp(name, "cpu") == 0)
        return nm_none_new(o->allocator, out, err);
    if (strcmp(name, "tile") != 0)
        return nm_err_set(err, NPUMOE_EUNSUPPORTED, "device: found '%s', expected tile or cpu",
                          name);
    if (o->debug_flags)
        NM_TRY(read_debug_flags(o->debug_flags, &fault, err));
    NM_TRY(make_tile(o, &npu, err));
    if (o->debug_flags == NULL) {
        *out = npu;
        return NPUMOE_OK;
    }
    npumoe_status st = nm_fault_new_take(o->allocator, &npu, &fault, out, err);
    if (st != NPUMOE_OK)
        nm_npu_free(&npu);
    return st;
}

npumoe_status npumoe_device_new(const npumoe_device_options *options, npumoe_device **out,
                                npumoe_error *err)
{
    npumoe_device_options opt = npumoe_device_options_default();
    NM_TRY(nm_abi_read(&opt, sizeof opt, options, "npumoe_device_options", err));
    opt.allocator = nm_allocator_or_default(opt.allocator);
    if (out == NULL)
        return nm_err_set(err, NPUMOE_EINVAL, "npumoe_device_new: out must not be NULL");
    npumoe_device *d = nm_zalloc(opt.allocator, sizeof *d);
    if (d == NULL)
        return nm_err_nomem(err, sizeof *d, "a device");
    d->allocator = opt.allocator;
    npumoe_status st = make_npu(&opt, &d->npu, err);
    if (st != NPUMOE_OK) {
        nm_free(opt.allocator, d);
        return st;
    }
    *out = d;
    return NPUMOE_OK;
}

void npumoe_device_free(npumoe_device **device)
{
    if (device == NULL || *device == NULL)
        return;
    npumoe_device *d = *device;
    nm_npu_free(&d->npu);
    nm_free(d->allocator, d);
    *device = NULL;
}

void npumoe_device_get_info(const npumoe_device *device, npumoe_device_info *info)
{
    const nm_npu_caps *c = &device->npu->caps;
    const nm_npu_stats s = nm_npu_get_stats(device->npu);
    const npumoe_device_info all = {
        .struct_bytes = sizeof all,
        .name = c->name,
        .arithmetic = c->arithmetic,
        .simulated = c->simulated,
        .n_threads = c->n_threads,
        .slots = c->slots,
        .capacity_multiple = c->capacity_multiple,
        .queue_depth = c->queue_depth,
        .memory_bytes = c->total_bytes,
        .added_launch_ns = c->added_launch_ns,
        .programs_loaded = s.programs_loaded,
        .bytes_loaded = s.bytes_loaded,
        .load_seconds = (double)s.load_ns * 1e-9,
        .weights = c->weights ? c->weights : "",
    };
    nm_abi_write(info, &all, sizeof all);
}
