/* stop.h: finds stop strings in a stream of text that comes in pieces.
 *
 * Text that may be the beginning of a stop string is held back until it is certain; everything else
 * is handed on at once. The match is the one that is complete first (of those, the one that began
 * first), so the result does not depend on how the text was cut into pieces.
 *
 * Held back is a suffix of the text that is a prefix of a stop string. Stop strings are valid UTF-8
 * (checked), so what is handed on never ends inside a character if what came in did not. */
#ifndef NM_ENGINE_STOP_H
#define NM_ENGINE_STOP_H

#include "base/alloc.h"
#include "base/str.h"

typedef struct nm_stop nm_stop;

#define NM_STOP_NONE SIZE_MAX

/* Copies the strings. EINVAL: an empty one, or one that is not valid UTF-8. n = 0 is fine. */
npumoe_status nm_stop_new(const npumoe_allocator *a, const char *const *strings, size_t n,
                          nm_stop **out, npumoe_error *err);
void nm_stop_free(nm_stop **stop);

/* Takes a piece. *ready is the text that may be shown now (borrowed until the next call), *match the
 * index of the stop string that was found, or NM_STOP_NONE. After a match the matcher is empty. */
npumoe_status nm_stop_push(nm_stop *stop, nm_str piece, nm_str *ready, size_t *match,
                           npumoe_error *err);
/* The text still held back, at the end of the stream. */
nm_str nm_stop_finish(nm_stop *stop);

#endif
