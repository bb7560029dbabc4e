/* cache_neon.c: the kernels of tmpl/cache.inc for Armv8-A Advanced SIMD. */
#include "kernels/tmpl/vec.h"

#include "kernels/arm/vec_neon.inc"

#include "kernels/tmpl/cache.inc"

void nm_kern_fill_cache_neon(nm_kern *table)
{
    fill_cache(table);
}
