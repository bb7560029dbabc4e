#include "report.h"

#include <stdio.h>
#include <string.h>

const json_t *report_at(const json_t *root, const char *path)
{
    while (root && *path) {
        char key[64];
        size_t n = strcspn(path, ".");
        if (n >= sizeof key)
            return NULL;
        memcpy(key, path, n);
        key[n] = '\0';
        root = json_object_get(root, key);
        path += n + (path[n] == '.');
    }
    return root;
}

const char *report_text(const json_t *root, const char *path)
{
    const char *text = json_string_value(report_at(root, path));
    return text ? text : "";
}

uint64_t report_u64(const json_t *root, const char *path)
{
    json_int_t v = json_integer_value(report_at(root, path));
    return v > 0 ? (uint64_t)v : 0;
}

const char *human_bytes(uint64_t bytes, char *buf, size_t cap)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes / 1024.0;
    int u = 0;
    if (bytes < 1024) {
        snprintf(buf, cap, "%llu B", (unsigned long long)bytes);
        return buf;
    }
    while (v >= 1024.0 && u < 3) {
        v /= 1024.0;
        u++;
    }
    snprintf(buf, cap, "%.2f %s", v, units[u]);
    return buf;
}

const char *human_count(uint64_t n, char *buf, size_t cap)
{
    if (n >= 1000000000u)
        snprintf(buf, cap, "%.2f B", (double)n / 1e9);
    else if (n >= 1000000u)
        snprintf(buf, cap, "%.2f M", (double)n / 1e6);
    else
        snprintf(buf, cap, "%.1f K", (double)n / 1e3);
    return buf;
}

char *report_trim(char *text)
{
    size_t n = strlen(text), more = 0; /* bytes of the last character after its first */
    while (more < 3 && more < n && ((unsigned char)text[n - 1 - more] & 0xc0) == 0x80)
        more++;
    if (more < n) {
        unsigned char first = (unsigned char)text[n - 1 - more];
        size_t expected = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc0 ? 1 : 0;
        if (more < expected)
            text[n - 1 - more] = '\0';
    }
    return text;
}
