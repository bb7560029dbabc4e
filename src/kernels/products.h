/* products.h: the products of all tiers, and what their callers in this folder share. Private to
 * src/kernels.
 *
 * A product's file defines it as a constant; the tier that needs its instructions puts its address
 * into the table when the CPU has them. */
#ifndef NM_KERNELS_PRODUCTS_H
#define NM_KERNELS_PRODUCTS_H

#include "kernels/product.h"

extern const nm_product nm_product_f32;
#if defined(__x86_64__)
extern const nm_product nm_product_dot_f_avx2, nm_product_dot_f_avx512;
extern const nm_product nm_product_dot_q_avx2, nm_product_dot_q_avxvnni,
    nm_product_dot_q_avx512vnni;
extern const nm_product nm_product_i16_avx2, nm_product_i16_avxvnni, nm_product_i16_avx512vnni;
extern const nm_product nm_product_i8_avxvnni, nm_product_i8_avx512vnni;
extern const nm_product nm_product_bf16, nm_product_bf16x2, nm_product_bf16x3,
    nm_product_i8x3; /* AMX */
extern const nm_product nm_product_bf16_avx512, nm_product_bf16x2_avx512;
#elif defined(__aarch64__)
extern const nm_product nm_product_dot_f_neon, nm_product_dot_q_neon, nm_product_dot_q_neondot;
extern const nm_product nm_product_i8x2_dot, nm_product_i8x2_mmla, nm_product_bf16_neon,
    nm_product_bf16x2_neon, nm_product_bf16x3_neon;
#endif

/* The most that any product of this build needs for rows of up to max_k inputs. */
size_t nm_products_scratch_bytes(size_t max_k);
/* Rows of k inputs that fit into room_bytes, a multiple of the group; at least one group. */
size_t nm_product_rows(const nm_product *p, size_t k, size_t room_bytes);

/* Row i, outputs j .. j + n - 1 of `out`: y = (add ? y : 0) + weight * (sum + bias). Overwrites sum. */
void nm_product_store(const nm_out_args *a, size_t i, uint64_t j, size_t n, float *sum);
/* Outputs j .. j + n - 1 of one row of `gated`: gate = act(gate + bias) * (up + bias). */
void nm_product_activate(const nm_gated_args *a, uint64_t j, size_t n, float *gate, float *up);

#endif
