/* file.h: the two things this library does with files.
 *
 * Reading: nm_map maps a whole regular file read-only, so that weights are paged in when they are
 * used and shared between processes. What lies in the mapping changes if another program rewrites
 * the file in place; programs that replace a file by rename (as we do) are safe.
 *
 * Writing: nm_outfile writes to PATH.partial.<pid> and gives the file its name only when every
 * byte is on the disk, so that a reader never sees half a file and a failed run leaves none. Where
 * PATH is a link, what it points to is replaced; a folder, a device or a pipe is refused. */
#ifndef NM_BASE_FILE_H
#define NM_BASE_FILE_H

#include "base/alloc.h"

typedef struct nm_map {
    const unsigned char *data; /* NULL for an empty file */
    uint64_t bytes;
} nm_map;

/* ENOENT, EIO (with the system's reason), EINVAL (a folder, a pipe, a device). */
npumoe_status nm_map_open(const char *path, nm_map *out, npumoe_error *err);
void nm_map_close(nm_map *map); /* a zeroed map is fine */

typedef struct nm_outfile nm_outfile;

/* EINVAL when something that is no regular file has that name; EIO, ENOENT. */
npumoe_status nm_outfile_new(const npumoe_allocator *a, const char *path, nm_outfile **out,
                             npumoe_error *err);
/* For work that may be stopped and go on later: the partial file is PATH.partial, and stays when it was
 * not committed. bytes: how much of it counts (the rest is cut off); 0 = begin anew. EFORMAT when there
 * is less. */
npumoe_status nm_outfile_resume(const npumoe_allocator *a, const char *path, uint64_t bytes,
                                nm_outfile **out, npumoe_error *err);
/* Everything written so far is on the disk. */
npumoe_status nm_outfile_sync(nm_outfile *f, npumoe_error *err);
/* Appends; buffered. EIO with the system's reason (disk full ...). */
npumoe_status nm_outfile_write(nm_outfile *f, const void *data, size_t bytes, npumoe_error *err);
/* Flushes, syncs, renames to the final name. After this only nm_outfile_free is allowed. */
npumoe_status nm_outfile_commit(nm_outfile *f, npumoe_error *err);
/* Closes, and removes the partial file if it was not committed (and is none to go on with). */
void nm_outfile_free(nm_outfile **f);

/* True when both names exist and are one file (links included). */
bool nm_file_same(const char *path_a, const char *path_b);

#endif
