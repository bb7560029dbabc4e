/* rows_neon.c: the row kernels of tmpl/rows.inc for Armv8-A Advanced SIMD. */
#include "kernels/tmpl/vec.h"

#include "kernels/arm/vec_neon.inc"

#include "kernels/tmpl/rows.inc"

void nm_kern_fill_rows_neon(nm_kern *table)
{
    fill_rows(table);
}
