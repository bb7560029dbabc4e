/* i16_avx512.c: tmpl/ints.inc on AVX-512 without VNNI (Skylake-X, Skylake-SP): what VNNI adds up in one instruction
 * takes two, as in i16_avx2.c, of 512 bits and with registers enough for 6 rows. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx512.inc"

#define NM_X_BITS     16
#define NM_INTS_MR    6
#define NM_INTS_GROUP 2
#include "kernels/x86/ints_zmm.inc"

#define INTS_PRODUCT nm_product_i16_avx512
#define INTS_NAME    "i16 avx512"

/* The empty statement keeps the order of sums, as in i16_avx2.c. */
VEC iv iv_dot(iv acc, iv x, iv w)
{
    acc = _mm512_add_epi32(acc, _mm512_madd_epi16(x, w));
    __asm__("" : "+v"(acc));
    return acc;
}

#include "kernels/tmpl/ints.inc"
