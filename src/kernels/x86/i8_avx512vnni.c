/* i8_avx512vnni.c: tmpl/ints.inc on vpdpbusd of 512 bits: 128 products a cycle. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx512.inc"

#define NM_X_BITS     8
#define NM_INTS_MR    6
#define NM_INTS_GROUP 2
#include "kernels/x86/ints_zmm.inc"

#define INTS_PRODUCT nm_product_i8_avx512vnni
#define INTS_NAME    "i8 avx512vnni"

VEC iv iv_dot(iv acc, iv x, iv w)
{
    return _mm512_dpbusd_epi32(acc, x, w);
}

#include "kernels/tmpl/ints.inc"
