#include "env.h"

#include <stdio.h>
#include <stdlib.h>

const char *cli_env_option(const char *long_name, char *name, size_t name_bytes)
{
    int n = snprintf(name, name_bytes, "NPUMOE_%s", long_name + 2);
    if (n < 0 || (size_t)n >= name_bytes)
        return NULL;
    for (char *p = name; *p; p++) {
        if (*p == '-')
            *p = '_';
        else if (*p >= 'a' && *p <= 'z')
            *p = (char)(*p - 'a' + 'A');
    }
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

bool cli_env_no_color(void)
{
    const char *value = getenv("NO_COLOR");
    return value && *value;
}

const char *cli_env_temporary_folder(void)
{
    const char *value = getenv("TMPDIR");
    return value && *value ? value : "/tmp";
}
