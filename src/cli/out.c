#include "out.h"

#include "ui.h"

#include <errno.h>
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
    return fwrite(text, 1, bytes, stdout) == bytes && fflush(stdout) == 0;
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

/* ---- .npy --------------------------------------------------------------------------------- */

bool npy_open(npy_file *npy, const char *path, uint64_t rows, uint64_t cols)
{
    bool standard = strcmp(path, "-") == 0;
    *npy = (npy_file){.path = path, .rows_left = rows, .cols = cols};
    npy->f = standard ? stdout : fopen(path, "wb");
    if (!npy->f) {
        ui_error("cannot write %s: %s", path, strerror(errno));
        return false;
    }
    /* magic, version 1.0, header length, then a Python literal padded so that data is 64-aligned */
    char dict[128];
    int n = snprintf(dict, sizeof dict,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %llu), }",
                     (unsigned long long)rows, (unsigned long long)cols);
    size_t total = (10 + (size_t)n + 1 + 63) / 64 * 64;
    size_t header = total - 10;
    unsigned char lead[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    lead[8] = (unsigned char)(header & 0xff);
    lead[9] = (unsigned char)(header >> 8);
    fwrite(lead, 1, sizeof lead, npy->f);
    fprintf(npy->f, "%s%*s\n", dict, (int)(header - (size_t)n - 1), "");
    return true;
}

bool npy_row(npy_file *npy, const float *row)
{
    /* every machine that npumoe builds for is little endian */
    if (npy->rows_left == 0 || fwrite(row, sizeof *row, npy->cols, npy->f) != npy->cols) {
        npy->failed = true;
        return false;
    }
    npy->rows_left--;
    return true;
}

bool npy_close(npy_file *npy)
{
    if (!npy->f)
        return false;
    bool standard = npy->f == stdout;
    errno = 0;
    bool lost = ferror(npy->f) != 0 || npy->failed;
    lost = (standard ? fflush(npy->f) : fclose(npy->f)) != 0 || lost;
    npy->f = NULL;
    if (lost && !standard)
        ui_error("cannot write %s%s%s", npy->path, errno ? ": " : "", errno ? strerror(errno) : "");
    bool complete = !lost && npy->rows_left == 0;
    struct stat info;
    if (!complete && !standard && lstat(npy->path, &info) == 0 && S_ISREG(info.st_mode))
        remove(npy->path); /* never a device such as /dev/full */
    return complete;
}
