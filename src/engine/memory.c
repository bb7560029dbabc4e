/* memory.c: see memory.h. Linux: /proc/meminfo and the memory controller of cgroup v2 or v1; macOS:
 * sysctl hw.memsize, and nothing about what is available. */
#include "engine/memory.h"

#include "base/num.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __APPLE__
#include <sys/sysctl.h>

static nm_memory read_system(void)
{
    uint64_t bytes = 0;
    size_t n = sizeof bytes;
    nm_memory m = {NM_MEMORY_UNKNOWN, NM_MEMORY_UNKNOWN, "this machine"};
    if (sysctlbyname("hw.memsize", &bytes, &n, NULL, 0) == 0 && bytes != 0)
        m.total_bytes = bytes;
    return m;
}

#else

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The number after `key` at the beginning of a line of a file. */
static uint64_t read_line(const char *path, const char *key)
{
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return NM_MEMORY_UNKNOWN;
    char line[256];
    unsigned long long v = 0;
    bool found = false;
    while (!found && fgets(line, sizeof line, f))
        found = strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%llu", &v) == 1;
    fclose(f);
    return found ? (uint64_t)v : NM_MEMORY_UNKNOWN;
}

static nm_memory read_machine(void)
{
    const uint64_t total = read_line("/proc/meminfo", "MemTotal:");
    const uint64_t available = read_line("/proc/meminfo", "MemAvailable:");
    nm_memory m = {NM_MEMORY_UNKNOWN, NM_MEMORY_UNKNOWN, "this machine"};
    if (total != NM_MEMORY_UNKNOWN && total != 0)
        m.total_bytes = total * 1024;
    if (available != NM_MEMORY_UNKNOWN)
        m.available_bytes = available * 1024;
    return m;
}

/* The files of one version of the memory controller. */
typedef struct controller {
    const char *root, *limit, *usage;
    const char *active, *inactive; /* page cache, in memory.stat */
} controller;

static const controller version_1 = {
    .root = "/sys/fs/cgroup/memory",
    .limit = "memory.limit_in_bytes",
    .usage = "memory.usage_in_bytes",
    .active = "total_active_file ",
    .inactive = "total_inactive_file ",
};
static const controller version_2 = {
    .root = "/sys/fs/cgroup",
    .limit = "memory.max",
    .usage = "memory.current",
    .active = "active_file ",
    .inactive = "inactive_file ",
};

/* A number in a file of a group. "max" and whatever else is no number mean unknown. */
static uint64_t read_group(const controller *c, const char *path, const char *file, const char *key)
{
    char full[600];
    if (snprintf(full, sizeof full, "%s%s/%s", c->root, path, file) >= (int)sizeof full)
        return NM_MEMORY_UNKNOWN;
    return read_line(full, key);
}

/* What a group's limit leaves: its page cache can be dropped for us. */
static uint64_t left_in_group(const controller *c, const char *path, uint64_t limit)
{
    uint64_t used = read_group(c, path, c->usage, "");
    uint64_t active = read_group(c, path, "memory.stat", c->active);
    uint64_t inactive = read_group(c, path, "memory.stat", c->inactive);
    if (used == NM_MEMORY_UNKNOWN)
        return NM_MEMORY_UNKNOWN;
    used -= active != NM_MEMORY_UNKNOWN ? least(used, active) : 0;
    used -= inactive != NM_MEMORY_UNKNOWN ? least(used, inactive) : 0;
    return limit - least(limit, used);
}

/* The smallest figures of a cgroup and its ancestors; path is as in /proc/self/cgroup. */
static void walk_up(const controller *c, char *path, nm_memory *group)
{
    for (;;) {
        uint64_t limit = read_group(c, path, c->limit, "");
        if (limit != NM_MEMORY_UNKNOWN && limit != 0) {
            group->total_bytes = least(group->total_bytes, limit);
            group->available_bytes = least(group->available_bytes, left_in_group(c, path, limit));
        }
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            return;
        *slash = 0;
    }
}

static nm_memory read_cgroup(void)
{
    nm_memory group = {NM_MEMORY_UNKNOWN, NM_MEMORY_UNKNOWN, "this cgroup"};
    FILE *f = fopen("/proc/self/cgroup", "r");
    if (f == NULL)
        return group;
    char line[512];
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = 0;
        if (strcmp(controllers, ":") == 0)
            walk_up(&version_2, path, &group);
        else if (strstr(controllers, "memory"))
            walk_up(&version_1, path, &group);
    }
    fclose(f);
    return group;
}

/* Version 1 says "no limit" with a number larger than any machine. */
static nm_memory read_system(void)
{
    nm_memory machine = read_machine(), group = read_cgroup();
    if (group.total_bytes >= machine.total_bytes)
        return machine;
    group.available_bytes = least(group.available_bytes, machine.available_bytes);
    return group;
}

#endif

nm_memory nm_memory_read(uint64_t limit_bytes)
{
    nm_memory m = read_system();
    if (limit_bytes != 0 && limit_bytes < m.total_bytes) {
        m.total_bytes = limit_bytes;
        m.what = "the memory limit";
    }
    return m;
}

static uint64_t add(uint64_t a, uint64_t b)
{
    return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

/* A unit in which the largest number of a message has a few digits. */
static double unit_of(uint64_t bytes, const char **name)
{
    const bool large = bytes >= UINT64_C(1) << 30;
    *name = large ? "GiB" : "MiB";
    return large ? 1024.0 * 1024.0 * 1024.0 : 1024.0 * 1024.0;
}

/* For what may be of another order than the unit of its message. */
static const char *size_text(uint64_t bytes, char *buf, size_t buf_bytes)
{
    const char *name;
    const double unit = unit_of(bytes, &name);
    if (bytes >= UINT64_C(1) << 20)
        snprintf(buf, buf_bytes, "%.1f %s", (double)bytes / unit, name);
    else if (bytes >= UINT64_C(1) << 10)
        snprintf(buf, buf_bytes, "%.1f KiB", (double)bytes / 1024.0);
    else
        snprintf(buf, buf_bytes, "%" PRIu64 " bytes", bytes);
    return buf;
}

static npumoe_status check_total(const nm_memory *have, const nm_memory_need *need,
                                 const char *advice, npumoe_error *err)
{
    const uint64_t scratch = add(need->scratch_bytes, need->others_bytes);
    const uint64_t sum = add(need->weights_bytes, add(need->kv_bytes, scratch));
    if (have->total_bytes == NM_MEMORY_UNKNOWN || sum <= have->total_bytes)
        return NPUMOE_OK;
    const char *name;
    char has[32];
    const double unit = unit_of(sum, &name);
    return nm_err_set(err, NPUMOE_ETOOBIG,
                      "needs %.1f %s (weights %.1f, KV cache %.1f, scratch %.1f), but %s has %s; "
                      "%s would need less",
                      (double)sum / unit, name, (double)need->weights_bytes / unit,
                      (double)need->kv_bytes / unit, (double)scratch / unit, have->what,
                      size_text(have->total_bytes, has, sizeof has), advice);
}

npumoe_status nm_memory_check_load(const nm_memory *have, const nm_memory_need *need,
                                   npumoe_error *err)
{
    return check_total(have, need, "a smaller quantisation", err);
}

npumoe_status nm_memory_check_session(const nm_memory *have, const nm_memory_need *need,
                                      npumoe_error *err)
{
    NM_TRY(check_total(have, need, "a shorter context (-c) or a smaller quantisation", err));
    const uint64_t sum = add(need->kv_bytes, need->scratch_bytes);
    if (have->available_bytes == NM_MEMORY_UNKNOWN || sum <= have->available_bytes)
        return NPUMOE_OK;
    const char *name;
    char has[32];
    const double unit = unit_of(sum, &name);
    return nm_err_set(err, NPUMOE_ETOOBIG,
                      "the session needs %.1f %s (KV cache %.1f, scratch %.1f), but only %s are "
                      "available now; a shorter context (-c) would need less",
                      (double)sum / unit, name, (double)need->kv_bytes / unit,
                      (double)need->scratch_bytes / unit,
                      size_text(have->available_bytes, has, sizeof has));
}
