/* tiers.h: what the files of one tier offer to kern.c. Private to src/kernels.
 *
 * Each function overrides the slots of the table that its file implements. The functions behind
 * the slots are static: a helper shared between files of different tiers could be compiled for the
 * higher one and called by the lower. */
#ifndef NM_KERNELS_TIERS_H
#define NM_KERNELS_TIERS_H

#include "kernels/kern.h"

void nm_kern_fill_gemm_ref(nm_kern *table);
void nm_kern_fill_rows_ref(nm_kern *table);
void nm_kern_fill_cache_ref(nm_kern *table);

#if defined(__x86_64__)
void nm_kern_fill_gemm_avx2(nm_kern *table);
void nm_kern_fill_rows_avx2(nm_kern *table);
void nm_kern_fill_cache_avx2(nm_kern *table);
void nm_kern_fill_decode_avx2(nm_kern *table);
void nm_kern_fill_attend_avx2(nm_kern *table);
void nm_kern_fill_gemm_avx512(nm_kern *table);
void nm_kern_fill_rows_avx512(nm_kern *table);
void nm_kern_fill_cache_avx512(nm_kern *table);
void nm_kern_fill_decode_avx512(nm_kern *table);
void nm_kern_fill_attend_avx512(nm_kern *table);
void nm_kern_fill_attend_amx(nm_kern *table);
#elif defined(__aarch64__)
void nm_kern_fill_gemm_neon(nm_kern *table);
void nm_kern_fill_rows_neon(nm_kern *table);
void nm_kern_fill_cache_neon(nm_kern *table);
void nm_kern_fill_decode_neon(nm_kern *table);
void nm_kern_fill_attend_neon(nm_kern *table);
#endif

#endif
