/* attend_avx512.c: the attention of tmpl/attend.inc for AVX-512 F, BW, VL, DQ. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx512.inc"

#include "kernels/tmpl/attend.inc"

void nm_kern_fill_attend_avx512(nm_kern *table)
{
    table->attend_task = attend_task;
}
