/* vec.h: what every file that instantiates a template includes first.
 *
 * A fast tier is three files per architecture, each of a few lines: this header, the vector of the
 * tier (x86/vec_avx2.inc, x86/vec_avx512.inc, arm/vec_neon.inc), one template (gemm.inc, rows.inc,
 * decode.inc). All functions of vectors and templates are static, and those of vectors are inlined
 * always: a shared copy could be compiled for a higher tier and called by a lower one.
 *
 * The vector of a tier is the type `vec` of VW floats and
 *
 *   v_set1 v_load v_store            any alignment
 *   v_load_n(p, n, rest)             the first n < VW lanes from p, the others `rest`; touches no
 *   v_store_n(p, v, n)               byte beyond p[n - 1]
 *   v_add v_sub v_mul v_div          one rounding each, never fused
 *   v_fma(a, b, c)                   a * b + c, one rounding
 *   v_max_num(x, number)             larger one; `number` where x is NaN
 *   v_clamp(x, lo, hi)               NaN stays NaN
 *   v_abs v_nan_to_zero v_with_sign_of v_round (to nearest even)
 *   v_ldexp(x, n)                    x * 2^n rounded once, n a whole number in -150 .. 128
 *   v_first v_sum v_max_of_lanes     to scalar; v_sum adds halves: (l, l + VW/2), ...
 *   v_sum4(to, a, b, c, d)           four results, each bit for bit v_sum
 *   v_load_pairs v_store_pairs       2 VW floats as evens and odds
 *   v_store_f16 v_store_i8           VW halves (nearest even), VW bytes (towards zero)
 *   v_load_f16 v_load_bf16 v_load_i8 v_load_bytes     VW of them; the last: floats, any address
 *   acc64, acc_zero, acc_add, acc_add_square, acc_sum    sums in fp64
 *
 * the type `bytes` of 16 bytes with b_load, b_store, b_set1, b_and, b_or, b_sub, b_shr, b_shl,
 * b_lookup (16 entries), b_spread_pair, b_test, and
 *
 *   b_put(to, b, d)                  to[i] = (signed) b[i] * d,       i < 16
 *   b_put_add(to, b, d, m)           to[i] = (signed) b[i] * d + m    fused
 *   b_put_halves(to, b, d0, d1)      to[i] = (signed) b[i] * (i < 8 ? d0 : d1)
 *   b_words(a, b, c, d)              16 bytes from four little-endian words
 *   s_half(p)                        the fp16 at p, any alignment
 *
 * and the register blocks of the products: NT_MR x NT_NR, NN_MR x NN_NV, AT_MR x AT_NV vectors. */
#ifndef NM_KERNELS_TMPL_VEC_H
#define NM_KERNELS_TMPL_VEC_H

#include "kernels/tiers.h"
#include "quant/blocks.h"

#include <math.h>
#include <string.h>

#define VEC static inline __attribute__((always_inline))

/* Loops over a register block must vanish, or the block lives in memory. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#endif
