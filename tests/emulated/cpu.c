/* cpu.c: takes the place of src/kernels/cpu.c in `make EMULATE_AMX=1`: this processor, with a matrix unit (tiles.h)
 * where it has the vectors that one comes with. */
#include "kernels/kern.h"

nm_cpu real_cpu_detect(void);
bool real_cpu_permit_tiles(void);

#define nm_cpu_detect       real_cpu_detect
#define nm_cpu_permit_tiles real_cpu_permit_tiles
#include "../../src/kernels/cpu.c"
#undef nm_cpu_detect
#undef nm_cpu_permit_tiles

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
