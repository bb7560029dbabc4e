/* calibrate.h: private to the verb calibrate: a profile's statistics (npumoe_profile_describe) as text
 * and as a page. */
#ifndef NPUMOE_CLI_CALIBRATE_H
#define NPUMOE_CLI_CALIBRATE_H

#include <jansson.h>
#include <stdbool.h>

/* What was read and the verdict; with `all` the tables too. To standard output. */
void calibrate_print(const json_t *stats, bool all);
/* One self-contained page. False after a message. */
bool calibrate_write_html(const json_t *stats, const char *path);

#endif
