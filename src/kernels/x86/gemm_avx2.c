/* gemm_avx2.c: the products of tmpl/gemm.inc for AVX2 + FMA + F16C. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx2.inc"

#include "kernels/tmpl/gemm.inc"

void nm_kern_fill_gemm_avx2(nm_kern *table)
{
    fill_gemm(table);
}
