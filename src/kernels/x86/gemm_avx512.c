/* gemm_avx512.c: the products of tmpl/gemm.inc for AVX-512 F, BW, VL, DQ. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx512.inc"

#include "kernels/tmpl/gemm.inc"

void nm_kern_fill_gemm_avx512(nm_kern *table)
{
    fill_gemm(table);
}
