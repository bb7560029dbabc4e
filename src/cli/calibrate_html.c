#include "calibrate.h"

bool calibrate_write_html(const json_t *stats, const char *path)
{
    (void)stats;
    (void)path;
    return true;
}
