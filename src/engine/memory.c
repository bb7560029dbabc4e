/* memory.c: see memory.h. Linux: /proc/meminfo and the memory controller of cgroup v2 or v1; macOS:
 * sysctl hw.memsize. */
#include "engine/memory.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __APPLE__
#include <sys/sysctl.h>

uint64_t nm_memory_available(const char **what)
{
    uint64_t bytes = 0;
    size_t n = sizeof bytes;
    *what = "this machine";
    return sysctlbyname("hw.memsize", &bytes, &n, NULL, 0) == 0 ? bytes : 0;
}

#else

static uint64_t machine_bytes(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    if (f == NULL)
        return 0;
    char line[256];
    unsigned long long kib = 0;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemTotal: %llu kB", &kib) == 1)
            break;
    }
    fclose(f);
    return (uint64_t)kib * 1024;
}

/* A file with one number; "max" and anything else that is no number mean no limit. */
static uint64_t read_limit(const char *path)
{
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return UINT64_MAX;
    unsigned long long v = 0;
    int n = fscanf(f, "%llu", &v);
    fclose(f);
    return n == 1 && v > 0 ? (uint64_t)v : UINT64_MAX;
}

/* The smallest limit of a cgroup and its ancestors; path is as in /proc/self/cgroup. */
static uint64_t walk_up(const char *root, char *path, const char *file)
{
    uint64_t least = UINT64_MAX;
    for (;;) {
        char full[600];
        if (snprintf(full, sizeof full, "%s%s/%s", root, path, file) < (int)sizeof full) {
            uint64_t v = read_limit(full);
            least = v < least ? v : least;
        }
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            return least;
        *slash = 0;
    }
}

static uint64_t cgroup_bytes(void)
{
    FILE *f = fopen("/proc/self/cgroup", "r");
    if (f == NULL)
        return UINT64_MAX;
    char line[512];
    uint64_t least = UINT64_MAX;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = 0;
        uint64_t v = UINT64_MAX;
        if (strcmp(controllers, ":") == 0)
            v = walk_up("/sys/fs/cgroup", path, "memory.max");
        else if (strstr(controllers, "memory"))
            v = walk_up("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes");
        least = v < least ? v : least;
    }
    fclose(f);
    return least;
}

uint64_t nm_memory_available(const char **what)
{
    uint64_t machine = machine_bytes(), group = cgroup_bytes();
    *what = "this machine";
    if (group == UINT64_MAX || (machine != 0 && group >= machine))
        return machine;
    *what = "this cgroup";
    return group;
}

#endif

npumoe_status nm_memory_check(const nm_memory_need *need, uint64_t limit_bytes, npumoe_error *err)
{
    const char *what;
    uint64_t have = nm_memory_available(&what);
    if (limit_bytes != 0 && (have == 0 || limit_bytes < have)) {
        have = limit_bytes;
        what = "the memory limit";
    }
    uint64_t sum;
    if (!nm_add_u64(need->weights_bytes, need->kv_bytes, &sum) ||
        !nm_add_u64(sum, need->scratch_bytes, &sum))
        sum = UINT64_MAX;
    if (have == 0 || sum <= have)
        return NPUMOE_OK;
    const bool large = sum >= UINT64_C(1) << 30;
    const double unit = large ? 1024.0 * 1024.0 * 1024.0 : 1024.0 * 1024.0;
    return nm_err_set(err, NPUMOE_ETOOBIG,
                      "needs %.1f %s (weights %.1f, KV cache %.1f, scratch %.1f), but %s has %.1f; "
                      "a smaller quantisation or a shorter context (-c) would need less",
                      (double)sum / unit, large ? "GiB" : "MiB", (double)need->weights_bytes / unit,
                      (double)need->kv_bytes / unit, (double)need->scratch_bytes / unit, what,
                      (double)have / unit);
}
