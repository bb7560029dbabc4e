/* products.h: the products of all tiers, for kern.c. Private to src/kernels.
 *
 * A product's file defines it as a constant; the tier that needs its instructions puts its address
 * into the table when the CPU has them. */
#ifndef NM_KERNELS_PRODUCTS_H
#define NM_KERNELS_PRODUCTS_H

#include "kernels/product.h"

extern const nm_product nm_product_f32;

#endif
