/* dot_q_avx2.c: the products of tmpl/dot_q.inc for AVX2. */
#include "kernels/products.h"
#include "kernels/tmpl/vec.h"

#include "base/alloc.h"
#include "base/num.h"

#include "kernels/x86/vec_avx2.inc"

#include "kernels/x86/codes_avx2.inc"

#define RUN  64
#define UNIT 4096
#include "kernels/tmpl/dot.inc"

#include "kernels/tmpl/dot_q.inc"

const nm_product nm_product_dot_q_avx2 = DOT_PRODUCT("avx2");
