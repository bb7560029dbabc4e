/* report.h: reading the JSON reports of the library, and numbers for people. */
#ifndef NPUMOE_CLI_REPORT_H
#define NPUMOE_CLI_REPORT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* The value at a path of keys "experts.router.rule", or NULL. */
const json_t *report_at(const json_t *root, const char *path);
const char *report_text(const json_t *root, const char *path); /* "" when absent */
uint64_t report_u64(const json_t *root, const char *path);     /* 0 when absent */

/* "4.21 GiB", "12.0 MiB", "512 B" */
const char *human_bytes(uint64_t bytes, char *buf, size_t cap);
/* "6.92 B", "34.10 M" */
const char *human_count(uint64_t n, char *buf, size_t cap);

/* Takes away the last character where it was cut in two (UTF-8 that snprintf ended); returns text. */
char *report_trim(char *text);

#endif
