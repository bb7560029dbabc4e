/* cpus.c: how many CPUs this process may really use.
 *
 * Three bounds, the smallest counts: CPUs online, the affinity mask (taskset, cpusets), and the
 * CPU bandwidth of the control group and of all its ancestors (containers). More threads than
 * that make every barrier wait for a thread that the kernel has put aside.
 *
 *   version 2   /proc/self/cgroup line `0::PATH`; MOUNT/PATH/cpu.max holds `QUOTA PERIOD` or
 *               `max PERIOD`, in microseconds
 *   version 1   line `N:cpu,cpuacct:PATH`; MOUNT/cpu,cpuacct/PATH/cpu.cfs_quota_us (-1 = none)
 *               and cpu.cfs_period_us
 *
 * PATH may name groups above the mount when the container has no cgroup namespace; files that are
 * not there say nothing, and the walk goes on towards the root of the mount.
 *
 * Sources: Linux Documentation/admin-guide/cgroup-v2.rst, scheduler/sched-bwc.rst. */
#include "base/threads.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#endif

enum { PATH_BYTES = 4096 };

/* CPUs for a quota, rounded up; INT_MAX when there is none. */
static int quota_cpus(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return INT_MAX;
    long long cpus = quota / period + (quota % period != 0);
    return cpus < INT_MAX ? (int)cpus : INT_MAX;
}

/* First line of dir/name; false when the file is not there. */
static bool read_line(const char *dir, const char *name, char *line, int line_bytes)
{
    char path[PATH_BYTES + 64];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return false;
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(line, line_bytes, f) != NULL;
    fclose(f);
    return ok;
}

static int limit_v2(const char *dir)
{
    char line[128];
    long long quota, period;
    if (!read_line(dir, "cpu.max", line, sizeof line) ||
        sscanf(line, "%lld %lld", &quota, &period) != 2)
        return INT_MAX;
    return quota_cpus(quota, period);
}

static int limit_v1(const char *dir)
{
    char line[128];
    long long quota, period;
    if (!read_line(dir, "cpu.cfs_quota_us", line, sizeof line) || sscanf(line, "%lld", &quota) != 1)
        return INT_MAX;
    if (!read_line(dir, "cpu.cfs_period_us", line, sizeof line) ||
        sscanf(line, "%lld", &period) != 1)
        return INT_MAX;
    return quota_cpus(quota, period);
}

/* Smallest limit of mount/path and of every group above it, up to mount itself. */
static int walk_up(const char *mount, const char *path, int (*limit)(const char *dir))
{
    char dir[PATH_BYTES];
    int n = snprintf(dir, sizeof dir, "%s%s", mount, path);
    if (n < 0 || (size_t)n >= sizeof dir)
        return INT_MAX;
    size_t stop = strlen(mount), len = (size_t)n;
    int least = INT_MAX;
    for (;;) {
        while (len > stop && dir[len - 1] == '/')
            dir[--len] = '\0';
        int here = limit(dir);
        least = here < least ? here : least;
        if (len <= stop)
            return least;
        while (len > stop && dir[len - 1] != '/')
            dir[--len] = '\0';
    }
}

/* Is "cpu" one of the names in a comma separated list? */
static bool has_cpu_controller(const char *names)
{
    while (*names) {
        size_t n = strcspn(names, ",");
        if (n == 3 && memcmp(names, "cpu", 3) == 0)
            return true;
        names += n + (names[n] == ',');
    }
    return false;
}

/* line: "hierarchy:controllers:path", cut apart in place. */
static int limit_of_line(char *line, const char *mount)
{
    line[strcspn(line, "\n")] = '\0';
    char *names = strchr(line, ':');
    char *path = names ? strchr(names + 1, ':') : NULL;
    if (!path)
        return INT_MAX;
    *names++ = '\0';
    *path++ = '\0';
    if (*names == '\0')
        return walk_up(mount, path, limit_v2);
    if (!has_cpu_controller(names))
        return INT_MAX;
    char hierarchy[PATH_BYTES];
    int n = snprintf(hierarchy, sizeof hierarchy, "%s/%s", mount, names);
    if (n < 0 || (size_t)n >= sizeof hierarchy)
        return INT_MAX;
    return walk_up(hierarchy, path, limit_v1);
}

int nm_cpus_of_cgroup(const char *proc_file, const char *mount)
{
    FILE *f = fopen(proc_file, "re");
    if (!f)
        return INT_MAX;
    char line[PATH_BYTES];
    int least = INT_MAX;
    while (fgets(line, sizeof line, f)) {
        int here = limit_of_line(line, mount);
        least = here < least ? here : least;
    }
    fclose(f);
    return least;
}

static int cpus_of_affinity(void)
{
#if defined(__linux__)
    /* The kernel refuses masks smaller than its own, so grow until it accepts. */
    for (size_t cpus = 1024; cpus <= 65536; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC(cpus);
        if (!set)
            break;
        size_t bytes = CPU_ALLOC_SIZE(cpus);
        int n = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (n > 0)
            return n;
    }
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 && n < INT_MAX ? (int)n : 1;
}

int nm_cpus_allowed(void)
{
    int cpus = cpus_of_affinity();
    int group = nm_cpus_of_cgroup("/proc/self/cgroup", "/sys/fs/cgroup");
    return group < cpus ? group : cpus;
}

int nm_pool_default_threads(void)
{
    const int n = nm_cpus_allowed();
    return n < NM_POOL_MAX_THREADS ? n : NM_POOL_MAX_THREADS;
}

bool nm_cpu_is_allowed(unsigned cpu)
{
#if defined(__linux__)
    cpu_set_t set; /* of 1024 CPUs: machines with more refuse, and then nobody is tied */
    return cpu < CPU_SETSIZE && sched_getaffinity(0, sizeof set, &set) == 0 && CPU_ISSET(cpu, &set);
#else
    (void)cpu;
    return false;
#endif
}

void nm_thread_pin(unsigned cpu)
{
#if defined(__linux__)
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set); /* of the calling thread */
#else
    (void)cpu;
#endif
}
