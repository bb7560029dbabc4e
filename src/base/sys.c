/* sys.c: see sys.h. Linux tells through /proc and /sys, macOS through sysctl; whatever cannot be
 * found is left out of a report rather than guessed. */
#include "base/sys.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif
#include <sys/utsname.h>
#include <unistd.h>

#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

/* From the first page of it to its last. */
static char *pages_of(const void *p, size_t *bytes, size_t *page)
{
    *page = (size_t)nm_sys_page_bytes();
    const uintptr_t from = (uintptr_t)p / *page * *page, end = (uintptr_t)p + *bytes;
    *bytes = end > from ? (size_t)(end - from) : 0;
    return (char *)from;
}

/* In one call, where the kernel has it (Linux 5.14). */
static bool populate(char *from, size_t bytes, bool write)
{
#ifdef MADV_POPULATE_WRITE
    return madvise(from, bytes, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0;
#else
    (void)from;
    (void)bytes;
    (void)write;
    return false;
#endif
}

/* A page's first byte may lie before the memory, and be somebody else's. */
void nm_sys_touch(void *p, size_t bytes)
{
    size_t page, all = bytes;
    char *const from = pages_of(p, &all, &page);
    if (bytes == 0 || populate(from, all, true))
        return;
    volatile char *at = p;
    for (size_t i = 0; i < bytes; i += page)
        at[i] = at[i];
    at[bytes - 1] = at[bytes - 1];
}

void nm_sys_touch_read_only(const void *p, size_t bytes)
{
    size_t page, all = bytes;
    char *const from = pages_of(p, &all, &page);
    if (bytes == 0 || populate(from, all, false))
        return;
    const volatile char *at = p;
    for (size_t i = 0; i < bytes; i += page)
        (void)at[i];
    (void)at[bytes - 1];
}

#ifdef __APPLE__

void nm_sys_cpu_model(char *buf, size_t buf_bytes)
{
    size_t n = buf_bytes;
    if (sysctlbyname("machdep.cpu.brand_string", buf, &n, NULL, 0) != 0)
        buf[0] = '\0';
    buf[buf_bytes - 1] = '\0';
}

uint64_t nm_sys_huge_page_bytes(char *mode, size_t mode_bytes)
{
    (void)mode_bytes;
    mode[0] = '\0';
    return 0;
}

void nm_sys_advise_huge(void *p, size_t bytes)
{
    (void)p;
    (void)bytes;
}

uint64_t nm_sys_cache_bytes(int level)
{
    /* of the fast cores, where there are two kinds */
    static const char *const names[][2] = {{"hw.perflevel0.l1dcachesize", "hw.l1dcachesize"},
                                           {"hw.perflevel0.l2cachesize", "hw.l2cachesize"},
                                           {"hw.perflevel0.l3cachesize", "hw.l3cachesize"}};
    for (int i = 0; level >= 1 && level <= 3 && i < 2; i++) {
        uint64_t bytes = 0;
        size_t n = sizeof bytes;
        if (sysctlbyname(names[level - 1][i], &bytes, &n, NULL, 0) == 0 && bytes)
            return bytes;
    }
    return 0;
}

#else

void nm_sys_advise_huge(void *p, size_t bytes)
{
    enum { LEAST = 4 << 20 };
    if (bytes < LEAST)
        return;
    const uintptr_t page = (uintptr_t)nm_sys_page_bytes();
    const uintptr_t from = ((uintptr_t)p + page - 1) / page * page;
    const uintptr_t to = ((uintptr_t)p + bytes) / page * page;
    (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
}

/* The value of the first "key : value" line with one of these keys. */
void nm_sys_cpu_model(char *buf, size_t buf_bytes)
{
    buf[0] = '\0';
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f)
        return;
    char line[512];
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, "model name", 10) != 0 && strncmp(line, "Model", 5) != 0)
            continue;
        const char *value = strchr(line, ':');
        if (!value)
            continue;
        value += 1 + strspn(value + 1, " \t");
        snprintf(buf, buf_bytes, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    fclose(f);
}

uint64_t nm_sys_huge_page_bytes(char *mode, size_t mode_bytes)
{
    static const char folder[] = "/sys/kernel/mm/transparent_hugepage";
    char path[128], line[128];
    unsigned long long bytes = 0;
    mode[0] = '\0';
    snprintf(path, sizeof path, "%s/hpage_pmd_size", folder);
    FILE *f = fopen(path, "r");
    if (f) {
        if (fscanf(f, "%llu", &bytes) != 1)
            bytes = 0;
        fclose(f);
    }
    snprintf(path, sizeof path, "%s/enabled", folder);
    f = fopen(path, "r");
    if (f) {
        /* "always [madvise] never" */
        char *open = fgets(line, sizeof line, f) ? strchr(line, '[') : NULL;
        if (open)
            snprintf(mode, mode_bytes, "%.*s", (int)strcspn(open + 1, "]"), open + 1);
        fclose(f);
    }
    return mode[0] ? (uint64_t)bytes : 0;
}

/* One line of /sys/devices/system/cpu/cpu0/cache/indexI/NAME, without the line feed. */
static bool cache_line(int index, const char *name, char *text, size_t text_bytes)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    bool read = fgets(text, (int)text_bytes, f) != NULL;
    fclose(f);
    if (read)
        text[strcspn(text, "\n")] = '\0';
    return read;
}

uint64_t nm_sys_cache_bytes(int level)
{
    char text[32];
    for (int i = 0; cache_line(i, "level", text, sizeof text); i++) {
        unsigned long long size;
        char unit = 0;
        if (text[0] - '0' != level || !cache_line(i, "type", text, sizeof text) ||
            strcmp(text, "Instruction") == 0 || !cache_line(i, "size", text, sizeof text) ||
            sscanf(text, "%llu%c", &size, &unit) < 1)
            continue;
        return (uint64_t)size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
    }
    return 0;
}

#endif

int nm_sys_cpus_online(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

uint64_t nm_sys_page_bytes(void)
{
    long n = sysconf(_SC_PAGESIZE);
    return n > 0 ? (uint64_t)n : 4096;
}

void nm_sys_os(char *buf, size_t buf_bytes)
{
    struct utsname u;
    if (uname(&u) != 0) {
        buf[0] = '\0';
        return;
    }
    snprintf(buf, buf_bytes, "%s %s %s", u.sysname, u.release, u.machine);
}
