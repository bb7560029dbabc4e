/* dot_q_avx512vnni.c: the products of tmpl/dot_q.inc for AVX-512 with VNNI. */
#include "kernels/products.h"
#include "kernels/tmpl/vec.h"

#include "base/alloc.h"
#include "base/num.h"

#include "kernels/x86/vec_avx512.inc"

#include "kernels/x86/codes_avx512vnni.inc"

#define RUN  64
#define UNIT 4096
#include "kernels/tmpl/dot.inc"

#include "kernels/tmpl/dot_q.inc"

const nm_product nm_product_dot_q_avx512vnni = DOT_PRODUCT("avx512vnni");
