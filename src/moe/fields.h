/* fields.h: reading JSON objects that nobody needs to trust.
 *
 * A reader walks down a document and takes field after field; each is asked for with its range, and the
 * first that is missing, of another kind or out of range ends the reading with a message that has
 * its path ("layers[3].groups[0].capacities[1]"), what was found and what was expected. Keys that
 * nobody asks for are ignored, so that later versions can add some. */
#ifndef NM_MOE_FIELDS_H
#define NM_MOE_FIELDS_H

#include "base/err.h"

#include <jansson.h>

enum { NM_FIELDS_PATH = 160 };

/* An object or array and where it is; children point to their parent for the path. */
typedef struct nm_fields {
    const json_t *json;
    const struct nm_fields *parent;
    const char *key; /* NULL = an element: index */
    size_t index;
    npumoe_error *err;
} nm_fields;

nm_fields nm_fields_root(const json_t *root, npumoe_error *err);

/* EFORMAT: "layers[3].us: found X, expected WHAT". key NULL: the object itself. */
npumoe_status nm_fields_bad(const nm_fields *f, const char *key, const char *expected);

npumoe_status nm_fields_object(const nm_fields *f, const char *key, nm_fields *out);
/* At most max elements. */
npumoe_status nm_fields_array(const nm_fields *f, const char *key, size_t max, nm_fields *out,
                              size_t *n);
/* Element i of an array, which must be an object. */
npumoe_status nm_fields_at(const nm_fields *array, size_t i, nm_fields *out);

npumoe_status nm_fields_u32(const nm_fields *f, const char *key, uint32_t min, uint32_t max,
                            uint32_t *out);
npumoe_status nm_fields_u64(const nm_fields *f, const char *key, uint64_t *out);
npumoe_status nm_fields_real(const nm_fields *f, const char *key, double min, double max,
                             double *out);
npumoe_status nm_fields_bool(const nm_fields *f, const char *key, bool *out);
/* Printable text of at most out_bytes - 1 bytes. */
npumoe_status nm_fields_text(const nm_fields *f, const char *key, char *out, size_t out_bytes);
/* Elements of an array of numbers. */
npumoe_status nm_fields_u32_at(const nm_fields *array, size_t i, uint32_t min, uint32_t max,
                               uint32_t *out);
npumoe_status nm_fields_real_at(const nm_fields *array, size_t i, double min, double max,
                                double *out);

/* A text of JSON: EFORMAT with line, column and byte; `what` names it ("plan"). Caller decrefs. */
npumoe_status nm_fields_parse(const char *text, size_t bytes, const char *what, json_t **out,
                              npumoe_error *err);
/* Checks "schema" and "version"; says what the file is instead. */
npumoe_status nm_fields_schema(const nm_fields *f, const char *schema, uint32_t version);

/* A document as text for people: what fits on a line of 100 is on one line. Ends with a line feed; free
 * with npumoe_text_free. root NULL or out of memory: ENOMEM. */
npumoe_status nm_fields_print(const json_t *root, char **text, npumoe_error *err);

/* A number for a file: six significant digits, so that equal tables are equal texts. */
json_t *nm_fields_number(double v);
/* A list; NULL = out of memory. */
json_t *nm_fields_numbers(const uint32_t *v, uint32_t n);

#endif
