/* none.h: device `cpu`: no programs at all. What a plan that leaves everything to the host runs with, so
 * that such a plan is a plan like others: it is attached, it is asked, it is reported. */
#ifndef NM_DEVICE_NONE_H
#define NM_DEVICE_NONE_H

#include "device/npu.h"

/* a NULL = malloc. */
npumoe_status nm_none_new(const npumoe_allocator *a, nm_npu **out, npumoe_error *err);

#endif
