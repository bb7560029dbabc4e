/* fault.h: a device around a device that fails, or is late, on request: for tests of what is above.
 *
 * Loads and launches are counted from 1. What fails does so with EDEVICE and a message that says so;
 * a launch that fails has run (its queue place was taken), but nobody gets its result. */
#ifndef NM_DEVICE_FAULT_H
#define NM_DEVICE_FAULT_H

#include "device/npu.h"

typedef struct nm_fault_options {
    uint64_t load_from, load_to;     /* these loads fail; 0 = none */
    uint64_t launch_from, launch_to; /* wait() for these launches fails; 0 = none */
    uint64_t submit_from, submit_to; /* these are refused with an error at once; 0 = none */
    uint64_t
        delay_seed; /* not 0: wait() is late by 0 to 2 ms and poll() often says no, at random */
} nm_fault_options;

/* Owns *inner from then on, on success only. */
npumoe_status nm_fault_new_take(const npumoe_allocator *a, nm_npu **inner,
                                const nm_fault_options *options, nm_npu **out, npumoe_error *err);

#endif
