/* describe.h: helpers of the describe_*.c files, which say what a file or a machine is as JSON. */
#ifndef NM_ENGINE_DESCRIBE_H
#define NM_ENGINE_DESCRIBE_H

#include "base/err.h"
#include "base/str.h"

#include <jansson.h>

/* Any bytes as a JSON string: sequences that are not UTF-8 become U+FFFD. NULL when out of memory. */
json_t *nm_describe_text(nm_str s);
/* object[key] = value; takes value over, NULL is ignored. */
void nm_describe_put(json_t *object, const char *key, json_t *value);
json_t *nm_describe_u64(uint64_t v); /* as an integer; saturates at 2^63 - 1 */
/* The text of a document for the caller of the library; takes root over. */
npumoe_status nm_describe_finish(json_t *root, char **json, npumoe_error *err);

#endif
