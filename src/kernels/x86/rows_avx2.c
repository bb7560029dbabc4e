/* rows_avx2.c: the row kernels of tmpl/rows.inc for AVX2 + FMA + F16C. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx2.inc"

#include "kernels/tmpl/rows.inc"

void nm_kern_fill_rows_avx2(nm_kern *table)
{
    fill_rows(table);
}
