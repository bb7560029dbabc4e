/* attend_avx2.c: the attention of tmpl/attend.inc for AVX2 and FMA. */
#include "kernels/tmpl/vec.h"

#include "kernels/x86/vec_avx2.inc"

#include "kernels/tmpl/attend.inc"

void nm_kern_fill_attend_avx2(nm_kern *table)
{
    table->attend_task = attend_task;
}
