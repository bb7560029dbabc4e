/* cost.h: cost tables: measured (npumoe_probe), read from a file of `npumoe probe`, and asked. */
#ifndef NPUMOE_CLI_COST_H
#define NPUMOE_CLI_COST_H

#include "args.h"

#include "npumoe/npumoe.h"

#include <jansson.h>

/* npumoe_probe() with a list of threads, and the user's folder for temporary files. */
npumoe_status cost_measure(const cli_numbers *threads, bool quick, const char *isa,
                           const char *file, npumoe_progress_fn progress, void *user, char **json,
                           npumoe_error *err);

/* The table in a file; NULL after a message that says what is wrong with it. */
json_t *cost_load(const char *path);

/* Limits for some number of threads, from the largest figures of the table. */
typedef struct cost_limits {
    double gops_per_s;    /* of the fastest unit for operands of about 16 bits; 0 = not measured */
    double gops_i8_per_s; /* of the fastest unit for 8 bits */
    double gb_per_s;      /* of reading a set of the size asked for */
    char unit[32], unit_i8[32], from[32];
} cost_limits;

/* isa: only units that kernels of this tier may use. set_bytes: what is read again and again; a set
 * that fits into a cache is read faster than memory. */
cost_limits cost_find(const json_t *table, const char *isa, int threads, uint64_t set_bytes);

#endif
