/* counting.h: an allocator that counts, and fails when it is told to. */
#ifndef TESTS_SUPPORT_COUNTING_H
#define TESTS_SUPPORT_COUNTING_H

#include "npumoe/npumoe.h"

#include <pthread.h>

typedef struct counting {
    pthread_mutex_t lock; /* it may be called from any thread */
    long calls, alive;
    long fail_at; /* the call that returns NULL; 0 = none */
} counting;

#define COUNTING_INIT                      \
    {                                      \
        .lock = PTHREAD_MUTEX_INITIALIZER, \
    }

/* Of malloc; c must outlive all that it gives. */
npumoe_allocator counting_allocator(counting *c);

#endif
