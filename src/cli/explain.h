/* explain.h: the parts of npumoe explain: explain.c shows a plan before it runs, explain_after.c beside what
 * was measured. */
#ifndef NPUMOE_CLI_EXPLAIN_H
#define NPUMOE_CLI_EXPLAIN_H

#include <stdbool.h>
#include <stddef.h>

/* stats_path: of --stats-out. Exit code. */
int explain_after(const char *plan_path, const char *plan, size_t plan_bytes,
                  const char *stats_path, bool json);

#endif
