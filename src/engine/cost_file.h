/* cost_file.h: one file for one machine: what it can do, and what models' work costs on it.
 *
 * There are two kinds of costs. What the machine can do (rates of its units, reading, launching: npumoe_probe, schema
 * "npumoe-cost-table") knows no model; bench takes its ceilings from it. What a model's work costs ("npumoe-plan-cost",
 * moe/cost.h) is measured for a geometry, a length of chunk and the settings of host and device; plans are made
 * with it. The first has a list "work" of the second, so that one file serves both, and grows with the models.
 *
 * A table of one model's work alone is read, too. */
#ifndef NM_ENGINE_COST_FILE_H
#define NM_ENGINE_COST_FILE_H

#include "moe/cost.h"

#include <jansson.h>

/* Whether a table serves; not OK: why not. */
typedef npumoe_status (*nm_cost_serves_fn)(const void *user, const nm_cost *cost,
                                           npumoe_error *err);

/* The table in such a text that serves, the newest first: *root (json_decref) and *out. Errors begin with "cost
 * table: ". EFORMAT; EMODEL if there is none: says why the newest does not. */
npumoe_status nm_cost_file_pick(const char *text, size_t bytes, nm_cost_serves_fn serves,
                                const void *user, json_t **root, nm_cost *out, npumoe_error *err);

#endif
