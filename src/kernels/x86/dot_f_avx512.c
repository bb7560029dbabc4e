/* dot_f_avx512.c: the products of tmpl/dot_f.inc for AVX-512. */
#include "kernels/products.h"
#include "kernels/tmpl/vec.h"

#include "base/alloc.h"
#include "base/num.h"

#include "kernels/x86/vec_avx512.inc"

#define RUN  32
#define UNIT 1
#include "kernels/tmpl/dot.inc"

#include "kernels/tmpl/dot_f.inc"

const nm_product nm_product_dot_f_avx512 = DOT_PRODUCT("avx512");
