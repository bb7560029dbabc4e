/* decode_avx2.c: the decoders of tmpl/decode.inc for AVX2 + FMA + F16C. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx2.inc"

#include "kernels/tmpl/decode.inc"

void nm_kern_fill_decode_avx2(nm_kern *table)
{
    fill_decode(table);
}
