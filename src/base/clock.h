/* clock.h: two clocks, in nanoseconds. Neither is the time of day, neither ever goes back. */
#ifndef NM_BASE_CLOCK_H
#define NM_BASE_CLOCK_H

#include <stdint.h>

/* Time since some fixed moment; runs on while the process sleeps. */
uint64_t nm_clock_ns(void);
/* CPU time that the calling thread has used; stands still while it waits. */
uint64_t nm_clock_thread_cpu_ns(void);

#endif
