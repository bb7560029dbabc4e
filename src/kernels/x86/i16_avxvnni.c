/* i16_avxvnni.c: tmpl/i16.inc on vpdpwssd of 256 bits (AVX-VNNI): 32 products a cycle. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx2.inc"

#define NM_I16_MR    5
#define NM_I16_GROUP 1
#include "kernels/x86/i16_ymm.inc"

#define I16_PRODUCT nm_product_i16_avxvnni
#define I16_NAME    "i16 avxvnni"

VEC iv iv_dot(iv acc, iv a, iv b)
{
    return _mm256_dpwssd_avx_epi32(acc, a, b);
}

#include "kernels/tmpl/i16.inc"
