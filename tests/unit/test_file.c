/* file: what nm_outfile replaces, follows and refuses. */
#include "base/file.h"

#include "tap.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[2][128];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static mode_t mode_of(const char *name)
{
    struct stat info;
    return lstat(in_folder(name), &info) == 0 ? info.st_mode : 0;
}

static npumoe_status put(const char *name, const char *text, npumoe_error *err)
{
    nm_outfile *f = NULL;
    npumoe_status st = nm_outfile_new(nm_allocator_default(), in_folder(name), &f, err);
    if (st == NPUMOE_OK)
        st = nm_outfile_write(f, text, strlen(text), err);
    if (st == NPUMOE_OK)
        st = nm_outfile_commit(f, err);
    nm_outfile_free(&f);
    return st;
}

static const char *text_of(const char *name)
{
    static char text[64];
    FILE *f = fopen(in_folder(name), "rb");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    return text;
}

static void files_and_links(void)
{
    npumoe_error err = {0};
    is_int(put("new", "one", &err), NPUMOE_OK, "a new file");
    is_int(put("new", "two", &err), NPUMOE_OK, "a file that exists");
    is_str(text_of("new"), "two", "... is replaced");
    ok(symlink("new", in_folder("link")) == 0 && symlink("none", in_folder("dangling")) == 0,
       "links");
    is_int(put("link", "three", &err), NPUMOE_OK, "a link to a file");
    ok(S_ISLNK(mode_of("link")), "... is a link still");
    is_str(text_of("new"), "three", "... and its file is replaced");
    is_int(put("dangling", "x", &err), NPUMOE_ENOENT, "a link to nothing is refused");
    ok(S_ISLNK(mode_of("dangling")), "... and stays");
}

static void refused(const char *name, const char *what)
{
    npumoe_error err = {0};
    mode_t before = mode_of(name);
    is_int(put(name, "x", &err), NPUMOE_EINVAL, "%s is refused", what);
    ok(strstr(err.message, what) != NULL, "... and named: %s", err.message);
    ok(before != 0 && mode_of(name) == before, "... and stays what it was");
}

static void others(void)
{
    ok(mkfifo(in_folder("fifo"), 0600) == 0 && mkdir(in_folder("dir"), 0700) == 0, "made");
    refused("fifo", "a pipe");
    refused("dir", "a folder");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", in_folder("sock"));
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0)
        refused("sock", "a socket");
    else
        skip(1, "no socket here");
    close(fd);
    /* a device of our own; never one of /dev */
    if (system("command -v mknod >/dev/null") == 0) {
        char command[128];
        snprintf(command, sizeof command, "mknod '%s/null' c 1 3 2>/dev/null", folder);
        if (system(command) == 0)
            refused("null", "a device");
        else
            skip(1, "only root makes devices");
    }
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/npumoe-file.XXXXXX");
    if (!mkdtemp(folder))
        bail("no temporary folder");
    files_and_links();
    others();
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    is_int(system(command), 0, "cleaned up");
    return done_testing();
}
