/* i16_avx2.c: tmpl/ints.inc on AVX2 alone: what VNNI adds up in one instruction takes two, which
 * still is half as much again as fp32 can do. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx2.inc"

#define NM_X_BITS     16
#define NM_INTS_MR    4
#define NM_INTS_GROUP 4
#include "kernels/x86/ints_ymm.inc"

#define INTS_PRODUCT nm_product_i16_avx2
#define INTS_NAME    "i16 avx2"

/* The empty statement keeps the order of sums: gcc 12 would multiply first, add afterwards, and keep
 * what is between on the stack. */
VEC iv iv_dot(iv acc, iv x, iv w)
{
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x, w));
    __asm__("" : "+x"(acc));
    return acc;
}

#include "kernels/tmpl/ints.inc"
