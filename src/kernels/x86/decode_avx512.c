/* decode_avx512.c: the decoders of tmpl/decode.inc for AVX-512 F, BW, VL, DQ. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx512.inc"

#include "kernels/tmpl/decode.inc"

void nm_kern_fill_decode_avx512(nm_kern *table)
{
    fill_decode(table);
}
