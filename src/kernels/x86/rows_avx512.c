/* rows_avx512.c: the row kernels of tmpl/rows.inc for AVX-512 F, BW, VL, DQ. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx512.inc"

#include "kernels/tmpl/rows.inc"

void nm_kern_fill_rows_avx512(nm_kern *table)
{
    fill_rows(table);
}
