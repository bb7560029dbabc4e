/* cpu.c: what `make EMULATE_AMX=1` says of this processor: that it has a matrix unit (tiles.inc), where it has the
 * vectors that one comes with. The functions of src/kernels/cpu.c have other names in such a build. */
#include "kernels/kern.h"

nm_cpu real_cpu_detect(void);

nm_cpu nm_cpu_detect(void)
{
    nm_cpu cpu = real_cpu_detect();
    cpu.amx_tile = cpu.amx_bf16 = cpu.amx_int8 = cpu.avx512bw;
    return cpu;
}

bool nm_cpu_permit_tiles(void)
{
    return true;
}
