/* i16_avxvnni.c: tmpl/ints.inc on vpdpwssd of 256 bits (AVX-VNNI): 32 products a cycle. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx2.inc"

#define NM_X_BITS     16
#define NM_INTS_MR    6
#define NM_INTS_GROUP 2
#include "kernels/x86/ints_ymm.inc"

#define INTS_PRODUCT nm_product_i16_avxvnni
#define INTS_NAME    "i16 avxvnni"

VEC iv iv_dot(iv acc, iv x, iv w)
{
    return _mm256_dpwssd_avx_epi32(acc, x, w);
}

#include "kernels/tmpl/ints.inc"
