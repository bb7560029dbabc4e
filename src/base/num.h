/* num.h: sizes are checked before they are used. All return false on overflow and then leave the
 * result alone. Header only: each is an instruction and a flag. */
#ifndef NM_BASE_NUM_H
#define NM_BASE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool nm_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t t;
    if (__builtin_mul_overflow(a, b, &t)) /* it would store the wrapped value in *out */
        return false;
    *out = t;
    return true;
}

static inline bool nm_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t t;
    if (__builtin_add_overflow(a, b, &t))
        return false;
    *out = t;
    return true;
}

static inline bool nm_mul_size(size_t a, size_t b, size_t *out)
{
    size_t t;
    if (__builtin_mul_overflow(a, b, &t))
        return false;
    *out = t;
    return true;
}

/* Round up to a multiple of a power of two; false when the result does not fit. */
static inline bool nm_align_u64(uint64_t v, uint64_t align, uint64_t *out)
{
    uint64_t t;
    if (__builtin_add_overflow(v, align - 1, &t))
        return false;
    *out = t & ~(align - 1);
    return true;
}

static inline size_t nm_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t nm_max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
