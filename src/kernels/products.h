/* products.h: the products of all tiers, and what their callers in this folder share. Private to
 * src/kernels.
 *
 * A product's file defines it as a constant; the tier that needs its instructions puts its address
 * into the table when the CPU has them. */
#ifndef NM_KERNELS_PRODUCTS_H
#define NM_KERNELS_PRODUCTS_H

#include "kernels/product.h"

/* Declared for all architectures, defined for this one. */
#define P(arch, name, slot, tier, has, what) extern const nm_product nm_product_##name;
#include "kernels/kern.def"

/* NM_ON_<architecture>(text): the text where this build is for it, else nothing. */
#define NM_ON_ANY(...) __VA_ARGS__
#if defined(__x86_64__)
#define NM_ON_X86(...) __VA_ARGS__
#else
#define NM_ON_X86(...)
#endif
#if defined(__aarch64__)
#define NM_ON_ARM(...) __VA_ARGS__
#else
#define NM_ON_ARM(...)
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
