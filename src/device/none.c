/* none.c: see none.h. As it compiles nothing, nothing is ever loaded or launched, and the operations
 * for that, which need a program or a ticket, are not there. */
#include "device/none.h"

#include "base/alloc.h"

#include <inttypes.h>

typedef struct none {
    nm_npu head;
    const npumoe_allocator *allocator;
} none;

static void none_free(nm_npu *npu)
{
    none *n = (none *)npu;
    nm_free(n->allocator, n);
}

static uint64_t program_bytes(const nm_npu *npu, const nm_program_desc *d)
{
    (void)npu, (void)d;
    return 0;
}

static npumoe_status compile(nm_npu *npu, const nm_program_desc *d, nm_program **out,
                             npumoe_error *err)
{
    (void)npu, (void)out;
    return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                      "program of layer %" PRIu32 ": device cpu has no programs", d->layer);
}

static void stats(const nm_npu *npu, nm_npu_stats *s)
{
    (void)npu, (void)s; /* npu.c's zeros are all there is */
}

static const nm_npu_ops ops = {
    .free = none_free, .program_bytes = program_bytes, .compile = compile, .stats = stats};

npumoe_status nm_none_new(const npumoe_allocator *a, nm_npu **out, npumoe_error *err)
{
    a = nm_allocator_or_default(a);
    none *n = nm_zalloc(a, sizeof *n);
    if (n == NULL)
        return nm_err_nomem(err, sizeof *n, "device cpu");
    n->allocator = a;
    n->head.ops = &ops;
    n->head.caps = (nm_npu_caps){.name = "cpu",
                                 .arithmetic = "none",
                                 .capacity_multiple = 1,
                                 .capacity_min = 1,
                                 .capacity_max = UINT32_MAX,
                                 .queue_depth = 1};
    *out = &n->head;
    return NPUMOE_OK;
}
