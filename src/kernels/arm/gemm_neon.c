/* gemm_neon.c: the products of tmpl/gemm.inc for Armv8-A Advanced SIMD. */
#include "kernels/tmpl/vec.h"

#include "kernels/arm/vec_neon.inc"

#include "kernels/tmpl/gemm.inc"

void nm_kern_fill_gemm_neon(nm_kern *table)
{
    fill_gemm(table);
}
