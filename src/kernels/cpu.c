/* cpu.c: which instructions this processor has and this operating system lets us use.
 *
 * On x86 the instruction bit alone proves nothing: registers wider than 128 bits exist only when
 * the system saves them at a context switch, which XCR0 tells (Intel SDM volume 1, 13.3 and 14.3).
 * AMX also needs a permission of the process on Linux (Documentation/arch/x86/xstate.rst): without it
 * the first tile instruction raises SIGILL. It makes signal frames and the state of threads larger for
 * good, so it is asked for only when somebody is about to use tiles. A sandbox may refuse it; then the
 * tier is not usable. */
#include "kernels/kern.h"

#if defined(__x86_64__)

#include <cpuid.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum {
    XCR0_AVX = 0x6,     /* xmm and the upper halves of ymm */
    XCR0_AVX512 = 0xe6, /* these, mask registers, zmm */
    XCR0_AMX = 0x60000  /* tile configuration and data */
};

static uint64_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool bit(uint32_t word, int n)
{
    return (word >> n) & 1u;
}

bool nm_cpu_permit_tiles(void)
{
#if defined(__linux__)
    enum { REQ_XCOMP_PERM = 0x1023, XFEATURE_TILE_DATA = 18 }; /* the kernel's asm/prctl.h */
    return syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XFEATURE_TILE_DATA) == 0;
#else
    return false; /* no other system that we know saves them */
#endif
}

static void read_leaf_7_1(nm_cpu *cpu, bool ymm, bool zmm)
{
    uint32_t a, b, c, d;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d))
        return;
    cpu->avx_vnni = ymm && bit(a, 4);
    cpu->avx512_bf16 = zmm && bit(a, 5);
}

nm_cpu nm_cpu_detect(void)
{
    nm_cpu cpu = {0};
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27)) /* OSXSAVE: xgetbv may be used */
        return cpu;
    uint64_t xcr0 = read_xcr0();
    bool ymm = (xcr0 & XCR0_AVX) == XCR0_AVX && bit(c, 28);
    bool zmm = ymm && (xcr0 & XCR0_AVX512) == XCR0_AVX512;
    cpu.fma = ymm && bit(c, 12);
    cpu.f16c = ymm && bit(c, 29);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return cpu;
    cpu.avx2 = ymm && bit(b, 5);
    cpu.avx512f = zmm && bit(b, 16);
    cpu.avx512dq = zmm && bit(b, 17);
    cpu.avx512bw = zmm && bit(b, 30);
    cpu.avx512vl = zmm && bit(b, 31);
    cpu.avx512_vbmi = zmm && bit(c, 1);
    cpu.avx512_vnni = zmm && bit(c, 11);
    cpu.avx512_fp16 = zmm && bit(d, 23);
    bool tiles = bit(d, 24) && (xcr0 & XCR0_AMX) == XCR0_AMX;
    cpu.amx_bf16 = tiles && bit(d, 22);
    cpu.amx_tile = tiles;
    cpu.amx_int8 = tiles && bit(d, 25);
    if (a >= 1) /* the last subleaf */
        read_leaf_7_1(&cpu, ymm, zmm);
    return cpu;
}

#elif defined(__aarch64__) && defined(__APPLE__)

#include <sys/sysctl.h>

static bool has(const char *name)
{
    int value = 0;
    size_t bytes = sizeof value;
    return sysctlbyname(name, &value, &bytes, NULL, 0) == 0 && value != 0;
}

nm_cpu nm_cpu_detect(void)
{
    nm_cpu cpu = {0};
    cpu.neon = true;
    cpu.dotprod = has("hw.optional.arm.FEAT_DotProd");
    cpu.i8mm = has("hw.optional.arm.FEAT_I8MM");
    cpu.bf16 = has("hw.optional.arm.FEAT_BF16");
    cpu.fp16 = has("hw.optional.arm.FEAT_FP16");
    return cpu;
}

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

/* Bits of the kernel's ABI (arch/arm64/include/uapi/asm/hwcap.h), spelled out because old C
 * libraries lack the newer names. */
enum {
    HWCAP_BIT_ASIMD = 1,
    HWCAP_BIT_ASIMDHP = 10,
    HWCAP_BIT_ASIMDDP = 20,
    HWCAP2_BIT_I8MM = 13,
    HWCAP2_BIT_BF16 = 14
};

nm_cpu nm_cpu_detect(void)
{
    nm_cpu cpu = {0};
    unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
    cpu.neon = (one >> HWCAP_BIT_ASIMD) & 1;
    cpu.fp16 = (one >> HWCAP_BIT_ASIMDHP) & 1;
    cpu.dotprod = (one >> HWCAP_BIT_ASIMDDP) & 1;
    cpu.i8mm = (two >> HWCAP2_BIT_I8MM) & 1;
    cpu.bf16 = (two >> HWCAP2_BIT_BF16) & 1;
    return cpu;
}

#else

nm_cpu nm_cpu_detect(void)
{
    return (nm_cpu){0};
}

#endif

#if !defined(__x86_64__)

bool nm_cpu_permit_tiles(void)
{
    return false;
}

#endif
