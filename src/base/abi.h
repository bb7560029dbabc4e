/* abi.h: structs that cross the public boundary, from callers built against another version.
 *
 * Every option and result struct begins with struct_bytes, the size that the caller was compiled
 * with; fields are only ever added at the end. A shorter struct comes from an older caller: its
 * missing fields keep their defaults. A longer one comes from a newer caller: what we do not know
 * must be zero, the default, or the call is refused rather than half obeyed. */
#ifndef NM_BASE_ABI_H
#define NM_BASE_ABI_H

#include "base/err.h"

/* Copies the caller's struct over the defaults in ours[ours_bytes]. theirs may be NULL: defaults.
 * name is the type's, for messages. EINVAL: struct_bytes was not set; EUNSUPPORTED: see above. */
npumoe_status nm_abi_read(void *ours, size_t ours_bytes, const void *theirs, const char *name,
                          npumoe_error *err);

/* Gives a result to the caller: as much of ours as theirs has room for. A struct_bytes of 0 has
 * room for nothing. */
void nm_abi_write(void *theirs, const void *ours, size_t ours_bytes);

#endif
