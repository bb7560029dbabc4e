/* dot_q_neon.c: the products of tmpl/dot_q.inc for Armv8-A Advanced SIMD. */
#include "kernels/products.h"
#include "kernels/tmpl/vec.h"

#include "base/alloc.h"
#include "base/num.h"

#include "kernels/arm/vec_neon.inc"

#include "kernels/arm/codes_neon.inc"

#define RUN  64
#define UNIT 4096
#include "kernels/tmpl/dot.inc"

#include "kernels/tmpl/dot_q.inc"

const nm_product nm_product_dot_q_neon = DOT_PRODUCT("neon");
