/* attend_neon.c: the attention of tmpl/attend.inc for NEON. */
#include "kernels/tmpl/vec.h"

#include "kernels/arm/vec_neon.inc"

#include "kernels/tmpl/attend.inc"

void nm_kern_fill_attend_neon(nm_kern *table)
{
    table->attend_task = attend_task;
}
