#include "out.h"

#include "safe.h"
#include "ui.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- standard output ---------------------------------------------------------------------- */

void out_init(void)
{
    signal(SIGPIPE, SIG_IGN);
}

bool out_text(const char *text, size_t bytes)
{
    if (isatty(STDOUT_FILENO))
        safe_put_lines(stdout, text, bytes); /* a model's answer is no command for the terminal */
    else
        fwrite(text, 1, bytes, stdout);
    return fflush(stdout) == 0 && !ferror(stdout);
}

/* An earlier write failed, and its errno is gone by now: a pipe without a reader and a device that
 * takes nothing can still be told. */
static int reason_of_loss(void)
{
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    if (poll(&p, 1, 0) == 1 && (p.revents & POLLERR))
        return EPIPE;
    return write(STDOUT_FILENO, "", 0) != 0 ? errno : 0;
}

int out_finish(int code)
{
    errno = 0;
    bool lost = fflush(stdout) != 0;
    int why = errno;
    if (!lost && !ferror(stdout))
        return code;
    if (!lost)
        why = reason_of_loss();
    if (why != EPIPE)
        ui_error("cannot write to standard output%s%s", why ? ": " : "", why ? strerror(why) : "");
    return code ? code : 1;
}

/* ---- whole files -------------------------------------------------------------------------- */

static bool read_stream(FILE *f, char **text, size_t *bytes)
{
    size_t cap = 1 << 16, n = 0;
    char *p = malloc(cap + 1);
    while (p) {
        n += fread(p + n, 1, cap - n, f);
        if (n < cap)
            break;
        cap *= 2;
        char *grown = realloc(p, cap + 1);
        if (!grown)
            free(p);
        p = grown;
    }
    if (!p) {
        errno = ENOMEM;
        return false;
    }
    if (ferror(f)) {
        free(p);
        return false;
    }
    p[n] = '\0';
    *text = p;
    *bytes = n;
    return true;
}

bool in_read_all(const char *path, char **text, size_t *bytes)
{
    bool standard = strcmp(path, "-") == 0;
    const char *name = standard ? "standard input" : path;
    FILE *f = standard ? stdin : fopen(path, "rb");
    struct stat info;
    bool ok = f != NULL;
    if (ok && fstat(fileno(f), &info) == 0 && S_ISDIR(info.st_mode)) {
        errno = EISDIR;
        ok = false;
    }
    ok = ok && read_stream(f, text, bytes);
    if (!ok && !ui_interrupted())
        ui_error("cannot read %s: %s", name, strerror(errno));
    if (f && !standard)
        fclose(f);
    return ok;
}

/* ---- files written ------------------------------------------------------------------------- */

static bool cannot_write(const char *name)
{
    ui_error("cannot write %s: %s", name, strerror(errno));
    return false;
}

/* The names of open files lead to whatever they are: `-o /dev/stdout >x.npy` means the stream, and
 * must not replace x.npy under the shell that holds it. */
static bool names_open_file(const char *name)
{
    static const char *const places[] = {"/dev/std", "/dev/fd/", "/proc/self/fd/"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (strncmp(name, places[i], strlen(places[i])) == 0)
            return true;
    return false;
}

/* Sets path, behind all links, and partial. */
static bool name_partial(out_file *o)
{
    struct stat info;
    bool exists = lstat(o->name, &info) == 0;
    o->path = exists ? realpath(o->name, NULL) : strdup(o->name);
    if (!o->path)
        return false;
    size_t bytes = strlen(o->path) + sizeof ".partial." + 20;
    o->partial = malloc(bytes);
    if (o->partial)
        snprintf(o->partial, bytes, "%s.partial.%ld", o->path, (long)getpid());
    return o->partial != NULL;
}

/* What has that name already is the rest of a killed run, or a link that is not to be followed. */
static FILE *create_new(const char *path)
{
    (void)unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (fd >= 0 && !f)
        close(fd);
    return f;
}

static void forget_names(out_file *o)
{
    free(o->path);
    free(o->partial);
    o->path = o->partial = NULL;
}

bool out_apart(const char *option, const char *path, const char *other_option, const char *other)
{
    struct stat a, b;
    if (!path || !other || strcmp(path, "-") == 0 || strcmp(other, "-") == 0)
        return true;
    bool same = strcmp(path, other) == 0;
    if (stat(path, &a) == 0 && stat(other, &b) == 0)
        same = S_ISREG(a.st_mode) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
    if (same)
        ui_error("%s: %s is the file of %s, which must not be overwritten", option, path,
                 other_option);
    return !same;
}

/* Devices, pipes, open files: written as they are. */
static bool is_written_directly(const char *name)
{
    struct stat info;
    return (stat(name, &info) == 0 && !S_ISREG(info.st_mode)) || names_open_file(name);
}

bool out_promises(const char *name)
{
    out_file o;
    if (!name || strcmp(name, "-") == 0 || is_written_directly(name))
        return true;
    if (!out_open(&o, name))
        return false;
    (void)out_close(&o, false);
    return true;
}

bool out_open(out_file *o, const char *name)
{
    *o = (out_file){.name = name};
    if (strcmp(name, "-") == 0)
        o->f = stdout;
    else if (is_written_directly(name))
        o->f = fopen(name, "wb");
    else if (name_partial(o))
        o->f = create_new(o->partial);
    if (o->f)
        return true;
    cannot_write(name);
    forget_names(o);
    return false;
}

bool out_write(out_file *o, const void *data, size_t bytes)
{
    if (!o->failed && bytes && fwrite(data, 1, bytes, o->f) != bytes) {
        o->failed = true;
        o->why = errno;
    }
    return !o->failed;
}

bool out_close(out_file *o, bool keep)
{
    if (!o->f)
        return false;
    bool standard = o->f == stdout;
    errno = 0;
    bool lost = fflush(o->f) != 0 || ferror(o->f) || o->failed;
    lost = (!standard && fclose(o->f) != 0) || lost;
    o->f = NULL;
    if (!lost && keep && o->partial)
        lost = rename(o->partial, o->path) != 0;
    int why = o->failed ? o->why : errno;
    if (lost && keep && !standard)
        ui_error("cannot write %s%s%s", o->name, why ? ": " : "", why ? strerror(why) : "");
    if (o->partial && (lost || !keep))
        (void)unlink(o->partial);
    forget_names(o);
    return !lost;
}

/* ---- .npy --------------------------------------------------------------------------------- */

bool npy_open(npy_file *npy, const char *path, uint64_t rows, uint64_t cols)
{
    *npy = (npy_file){.rows_left = rows, .cols = cols};
    if (!out_open(&npy->out, path))
        return false;
    /* magic, version 1.0, header length, then a Python literal padded so that data is 64-aligned */
    char dict[128], header[256];
    int n = snprintf(dict, sizeof dict,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %llu), }",
                     (unsigned long long)rows, (unsigned long long)cols);
    size_t total = (10 + (size_t)n + 1 + 63) / 64 * 64;
    size_t rest = total - 10;
    unsigned char lead[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    lead[8] = (unsigned char)(rest & 0xff);
    lead[9] = (unsigned char)(rest >> 8);
    snprintf(header, sizeof header, "%s%*s\n", dict, (int)(rest - (size_t)n - 1), "");
    out_write(&npy->out, lead, sizeof lead);
    out_write(&npy->out, header, rest);
    return true;
}

bool npy_row(npy_file *npy, const float *row)
{
    /* every machine that npumoe builds for is little endian */
    if (npy->rows_left == 0 || !out_write(&npy->out, row, sizeof *row * (size_t)npy->cols))
        return false;
    npy->rows_left--;
    return true;
}

bool npy_close(npy_file *npy)
{
    bool complete = npy->rows_left == 0;
    /* rows that could not be written are said here; rows that were not computed by who knows why */
    return out_close(&npy->out, complete || npy->out.failed) && complete;
}
