/* usage.c: Linux tells in /proc/self/status, elsewhere getrusage() knows the peak alone. */
#include "usage.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#ifdef __linux__

void usage_reset_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f)
        return;
    fputs("5", f); /* proc(5): resets VmHWM to the current size */
    fclose(f);
}

usage_memory usage_memory_now(void)
{
    usage_memory m = {-1, -1};
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        long long kib;
        if (sscanf(line, "VmHWM: %lld kB", &kib) == 1)
            m.peak_bytes = kib * 1024;
        else if (sscanf(line, "RssAnon: %lld kB", &kib) == 1 ||
                 sscanf(line, "RssShmem: %lld kB", &kib) == 1)
            m.own_bytes = (m.own_bytes < 0 ? 0 : m.own_bytes) + kib * 1024;
    }
    if (f)
        fclose(f);
    return m;
}

#else

void usage_reset_peak(void) {}

usage_memory usage_memory_now(void)
{
    usage_memory m = {-1, -1};
    struct rusage r;
    if (getrusage(RUSAGE_SELF, &r) == 0)
        m.peak_bytes = (int64_t)r.ru_maxrss; /* macOS: bytes */
    return m;
}

#endif
