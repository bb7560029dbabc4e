/* cache_avx2.c: the kernels of tmpl/cache.inc for AVX2, FMA and F16C. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx2.inc"

#include "kernels/tmpl/cache.inc"

void nm_kern_fill_cache_avx2(nm_kern *table)
{
    fill_cache(table);
}
