/* decode_neon.c: the decoders of tmpl/decode.inc for Armv8-A Advanced SIMD. */
#include "kernels/tmpl/vec.h"

#include "kernels/arm/vec_neon.inc"

#include "kernels/tmpl/decode.inc"

void nm_kern_fill_decode_neon(nm_kern *table)
{
    fill_decode(table);
}
