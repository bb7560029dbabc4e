/* file.c: mapping files to read, and writing files that appear whole or not at all (POSIX).
 *
 * stdio does the buffering of output; errors carry the system's reason, for "No space left on device"
 * is what the user must know. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* strerror_r has two incompatible forms (XSI and GNU); each overload accepts one of them. */
static const char *reason_xsi(int rc, const char *text)
{
    return rc == 0 ? text : "unknown system error";
}

static const char *reason_gnu(const char *result, const char *text)
{
    (void)text;
    return result;
}

#define REASON_BYTES 128
#define SYSTEM_REASON(code, buf) \
    _Generic(strerror_r((code), (buf), REASON_BYTES), int               \
             : reason_xsi, char *                                       \
             : reason_gnu)(strerror_r((code), (buf), REASON_BYTES), (buf))

static npumoe_status system_error(npumoe_error *err, const char *doing, const char *path)
{
    int code = errno;
    char buf[REASON_BYTES] = "";
    return nm_err_set(err, code == ENOENT ? NPUMOE_ENOENT : NPUMOE_EIO, "cannot %s '%s': %s", doing,
                      path, SYSTEM_REASON(code, buf));
}

static npumoe_status map_fd(int fd, const char *path, nm_map *out, npumoe_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return system_error(err, "examine", path);
    if (!S_ISREG(st.st_mode))
        return nm_err_set(err, NPUMOE_EINVAL, "cannot open '%s': it is %s, expected a regular file",
                          path, S_ISDIR(st.st_mode) ? "a folder" : "a device or a pipe");
    if ((uint64_t)st.st_size > SIZE_MAX)
        return nm_err_set(err, NPUMOE_ETOOBIG,
                          "cannot map '%s': %" PRIu64 " bytes exceed the address space", path,
                          (uint64_t)st.st_size);
    *out = (nm_map){NULL, (uint64_t)st.st_size};
    if (st.st_size == 0) /* mmap refuses an empty range */
        return NPUMOE_OK;
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        *out = (nm_map){NULL, 0};
        return system_error(err, "map", path);
    }
    out->data = p;
    return NPUMOE_OK;
}

npumoe_status nm_map_open(const char *path, nm_map *out, npumoe_error *err)
{
    /* O_NONBLOCK: a named pipe must be refused, not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return system_error(err, "open", path);
    npumoe_status st = map_fd(fd, path, out, err);
    close(fd); /* the mapping stays */
    return st;
}

void nm_map_close(nm_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, (size_t)map->bytes);
    *map = (nm_map){NULL, 0};
}

/* ---- writing ------------------------------------------------------------------------------- */

struct nm_outfile {
    const npumoe_allocator *a;
    FILE *f;       /* NULL once committed */
    char *path;    /* the final name: links are followed */
    char *partial; /* what exists meanwhile */
    bool keep;     /* partial stays when it was not committed */
};

static const char *kind_of(mode_t mode)
{
    if (S_ISDIR(mode))
        return "a folder";
    if (S_ISFIFO(mode))
        return "a pipe";
    if (S_ISSOCK(mode))
        return "a socket";
    return "a device";
}

/* The name that rename() gives: of a link that is what it points to, so that the link stays a link.
 * rename() would also put a file in the place of a device or a pipe: those are refused here, before
 * anything is computed. */
static npumoe_status final_name(const npumoe_allocator *a, const char *path, char **out,
                                npumoe_error *err)
{
    struct stat info;
    if (lstat(path, &info) != 0) { /* a new file; what else is wrong shows when it is created */
        *out = nm_strndup(a, path, strlen(path));
        return *out ? NPUMOE_OK : nm_err_nomem(err, strlen(path) + 1, "a file name");
    }
    if (stat(path, &info) != 0)
        return system_error(err, "follow the link", path);
    if (!S_ISREG(info.st_mode))
        return nm_err_set(err, NPUMOE_EINVAL,
                          "cannot write '%s': it is %s, expected a regular file", path,
                          kind_of(info.st_mode));
    char *real = realpath(path, NULL);
    if (!real)
        return system_error(err, "follow", path);
    *out = nm_strndup(a, real, strlen(real));
    free(real);
    return *out ? NPUMOE_OK : nm_err_nomem(err, strlen(path) + 1, "a file name");
}

/* PATH.partial.<pid>; of a run that may go on later PATH.partial, which it must find again. */
static char *partial_name(const npumoe_allocator *a, const char *path, bool keep)
{
    size_t bytes = strlen(path) + sizeof ".partial." + 20;
    char *name = nm_alloc(a, bytes), pid[24] = "";
    if (!keep)
        snprintf(pid, sizeof pid, ".%ld", (long)getpid());
    if (name)
        snprintf(name, bytes, "%s.partial%s", path, pid);
    return name;
}

/* What has this name already can only be the rest of a killed run of our pid, or a link that
 * somebody laid there: it goes, and is not written through. */
static FILE *create(const char *path)
{
    (void)unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return NULL;
    FILE *f = fdopen(fd, "wb");
    if (!f)
        close(fd);
    return f;
}

/* The first `bytes` bytes of a partial file stay, and writing goes on behind them. */
static npumoe_status reopen(nm_outfile *f, uint64_t bytes, npumoe_error *err)
{
    int fd = open(f->partial, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat info;
    if (fd < 0)
        return system_error(err, "open", f->partial);
    if (fstat(fd, &info) == 0 && (uint64_t)info.st_size < bytes) {
        close(fd);
        return nm_err_set(err, NPUMOE_EFORMAT,
                          "'%s' has %" PRIu64 " bytes, expected at least %" PRIu64, f->partial,
                          (uint64_t)info.st_size, bytes);
    }
    npumoe_status st = NPUMOE_OK;
    if (ftruncate(fd, (off_t)bytes) != 0 || lseek(fd, 0, SEEK_END) < 0 ||
        !(f->f = fdopen(fd, "wb"))) {
        st = system_error(err, "go on writing", f->partial);
        close(fd);
    }
    return st;
}

static npumoe_status open_outfile(const npumoe_allocator *a, const char *path, bool keep,
                                  uint64_t bytes, nm_outfile **out, npumoe_error *err)
{
    nm_outfile *f = nm_zalloc(a, sizeof *f);
    if (!f)
        return nm_err_nomem(err, sizeof *f, "an output file");
    f->a = a;
    f->keep = keep;
    npumoe_status st = final_name(a, path, &f->path, err);
    if (st == NPUMOE_OK && !(f->partial = partial_name(a, f->path, keep)))
        st = nm_err_nomem(err, strlen(path), "a file name");
    if (st == NPUMOE_OK && bytes > 0)
        st = reopen(f, bytes, err);
    else if (st == NPUMOE_OK && !(f->f = create(f->partial)))
        st = system_error(err, "create", f->partial);
    if (st != NPUMOE_OK) {
        nm_outfile_free(&f);
        return st;
    }
    *out = f;
    return NPUMOE_OK;
}

npumoe_status nm_outfile_new(const npumoe_allocator *a, const char *path, nm_outfile **out,
                             npumoe_error *err)
{
    return open_outfile(a, path, false, 0, out, err);
}

npumoe_status nm_outfile_resume(const npumoe_allocator *a, const char *path, uint64_t bytes,
                                nm_outfile **out, npumoe_error *err)
{
    return open_outfile(a, path, true, bytes, out, err);
}

npumoe_status nm_outfile_sync(nm_outfile *f, npumoe_error *err)
{
    if (fflush(f->f) != 0 || fsync(fileno(f->f)) != 0)
        return system_error(err, "write", f->partial);
    return NPUMOE_OK;
}

npumoe_status nm_outfile_write(nm_outfile *f, const void *data, size_t bytes, npumoe_error *err)
{
    if (bytes && fwrite(data, 1, bytes, f->f) != bytes)
        return system_error(err, "write", f->partial);
    return NPUMOE_OK;
}

/* The rename itself must survive a power cut too. Some file systems cannot sync a folder; the
 * file is complete all the same, so that is no error. */
static void sync_folder(const npumoe_allocator *a, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? nm_strndup(a, path, (size_t)(slash - path) + 1) : nm_strndup(a, ".", 1);
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    nm_free(a, folder);
}

npumoe_status nm_outfile_commit(nm_outfile *f, npumoe_error *err)
{
    NM_TRY(nm_outfile_sync(f, err));
    int rc = fclose(f->f);
    f->f = NULL;
    if (rc != 0 || rename(f->partial, f->path) != 0) {
        npumoe_status st = system_error(err, "finish", f->path);
        (void)unlink(f->partial);
        return st;
    }
    sync_folder(f->a, f->path);
    return NPUMOE_OK;
}

void nm_outfile_free(nm_outfile **f)
{
    nm_outfile *o = *f;
    if (!o)
        return;
    if (o->f) {
        fclose(o->f);
        if (!o->keep)
            (void)unlink(o->partial);
    }
    nm_free(o->a, o->path);
    nm_free(o->a, o->partial);
    nm_free(o->a, o);
    *f = NULL;
}

bool nm_file_same(const char *path_a, const char *path_b)
{
    struct stat a, b;
    return stat(path_a, &a) == 0 && stat(path_b, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}
