/* usage.h: the memory that this process uses, as the system counts it. */
#ifndef NPUMOE_CLI_USAGE_H
#define NPUMOE_CLI_USAGE_H

#include <stdint.h>

typedef struct usage_memory {
    int64_t peak_bytes; /* resident, at most, since usage_reset_peak(); -1 = unknown */
    int64_t own_bytes;  /* resident now, and no page of a file: heap, stacks, what threads share;
                           -1 = unknown */
} usage_memory;

/* Lets the peak begin anew where the system can do that (Linux); else it is that of the process. */
void usage_reset_peak(void);
usage_memory usage_memory_now(void);

#endif
