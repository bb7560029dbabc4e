/* dot_f_neon.c: the products of tmpl/dot_f.inc for Armv8-A Advanced SIMD. */
#include "kernels/products.h"
#include "kernels/tmpl/vec.h"

#include "base/alloc.h"
#include "base/num.h"

#include "kernels/arm/vec_neon.inc"

#define RUN  32
#define UNIT 1
#include "kernels/tmpl/dot.inc"

#include "kernels/tmpl/dot_f.inc"

const nm_product nm_product_dot_f_neon = DOT_PRODUCT("neon");
