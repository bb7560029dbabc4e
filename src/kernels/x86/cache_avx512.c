/* cache_avx512.c: the kernels of tmpl/cache.inc for AVX-512 F, BW, VL, DQ. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx512.inc"

#include "kernels/tmpl/cache.inc"

void nm_kern_fill_cache_avx512(nm_kern *table)
{
    fill_cache(table);
}
