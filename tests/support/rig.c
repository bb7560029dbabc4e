/* rig.c: see rig.h. */
#include "support/rig.h"

#include "tap.h"

void rig_program(rig *r, const nm_program_desc *d)
{
    npumoe_error err = {0};
    if (nm_npu_compile(r->npu, d, &r->program, &err) != NPUMOE_OK ||
        nm_npu_load(r->npu, r->program, &err) != NPUMOE_OK ||
        nm_npu_buffer_init(r->npu, &r->in, (size_t)r->program->in_bytes, &err) != NPUMOE_OK ||
        nm_npu_buffer_init(r->npu, &r->out, (size_t)r->program->out_bytes, &err) != NPUMOE_OK)
        bail("no program: %s", err.message);
}

rig rig_new(const nm_tile_options *o, const nm_program_desc *d)
{
    rig r = {0};
    npumoe_error err = {0};
    if (nm_tile_new(NULL, o, &r.npu, &err) != NPUMOE_OK)
        bail("no device: %s", err.message);
    rig_program(&r, d);
    return r;
}

void rig_free(rig *r)
{
    nm_npu_buffer_fini(r->npu, &r->in);
    nm_npu_buffer_fini(r->npu, &r->out);
    nm_npu_program_free(r->npu, &r->program);
    nm_npu_free(&r->npu);
}

bool rig_equal(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(a[i] == b[i]))
            return false;
    return true;
}
