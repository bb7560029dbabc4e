/* tiers.h: every tier of kernels that this CPU has, one after the other. */
#ifndef TESTS_SUPPORT_TIERS_H
#define TESTS_SUPPORT_TIERS_H

#include "kernels/kern.h"

/* The next usable tier from *at, which begins at 0; NULL after the last. */
const char *tiers_next(size_t *at);

/* The same, with its table; bails out where that cannot be had. */
const char *tiers_next_kern(size_t *at, nm_kern *kern);

#endif
