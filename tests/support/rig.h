/* rig.h: a device `tile` with one loaded program and buffers for it. */
#ifndef TESTS_SUPPORT_RIG_H
#define TESTS_SUPPORT_RIG_H

#include "device/tile/tile.h"

typedef struct rig {
    nm_npu *npu;
    nm_program *program;
    nm_npu_buffer in, out;
} rig;

/* These bail out on failure. */
rig rig_new(const nm_tile_options *o, const nm_program_desc *d);
/* Another one for r->npu; its program and buffers are not freed. */
void rig_program(rig *r, const nm_program_desc *d);
void rig_free(rig *r);

/* False also for NaN. */
bool rig_equal(const float *a, const float *b, size_t n);

#endif
