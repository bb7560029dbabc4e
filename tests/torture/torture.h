/* torture.h: what the torture programs share: a folder of their own, a synthetic model in it, and
 * running the program under test. POSIX. Header only, as tap.h. */
#ifndef TORTURE_H
#define TORTURE_H

#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct torture {
    char folder[256];
} torture;

TAP_UNUSED
static const char *torture_env(const char *name, const char *dflt)
{
    const char *v = getenv(name);
    return v && *v ? v : dflt;
}

/* Sanitizers reserve terabytes and keep freed memory, so limits and sizes mean nothing there. */
TAP_UNUSED
static bool torture_sanitized(void)
{
    const char *config = torture_env("NPUMOE_CONFIG", "release");
    return strcmp(config, "release") != 0 && strcmp(config, "debug") != 0;
}

TAP_UNUSED
static void torture_begin(torture *t)
{
    snprintf(t->folder, sizeof t->folder, "%s/npumoe-torture.XXXXXX",
             torture_env("TMPDIR", "/tmp"));
    if (!mkdtemp(t->folder))
        bail("no temporary folder: %s", strerror(errno));
}

TAP_UNUSED
static void torture_path(const torture *t, const char *name, char *path, size_t path_bytes)
{
    snprintf(path, path_bytes, "%s/%s", t->folder, name);
}

TAP_UNUSED
static void torture_end(const torture *t)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", t->folder);
    if (system(command) != 0)
        note("%s stays", t->folder);
}

/* build/CONFIG/mkmodel with these arguments, writing NAME in the folder. */
TAP_UNUSED
static void torture_model(const torture *t, const char *arguments, const char *name)
{
    char command[1024];
    snprintf(command, sizeof command, "'%s/mkmodel' %s '%s/%s' >/dev/null",
             torture_env("NPUMOE_BUILD", "build/release"), arguments, t->folder, name);
    if (system(command) != 0)
        bail("%s failed", command);
}

TAP_UNUSED
static void torture_sleep(double seconds)
{
    struct timespec ts = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&ts, NULL);
}

/* Starts the program with its output going to these files. */
TAP_UNUSED
static pid_t torture_start(char *const argv[], const char *out, const char *err)
{
    /* Emptied before the fork: who waits for output must not meet that of an earlier run. */
    int in_fd = open("/dev/null", O_RDONLY);
    int out_fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int err_fd = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (in_fd < 0 || out_fd < 0 || err_fd < 0)
        bail("%s, %s: %s", out, err, strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        bail("fork: %s", strerror(errno));
    if (pid == 0) {
        if (dup2(in_fd, 0) < 0 || dup2(out_fd, 1) < 0 || dup2(err_fd, 2) < 0)
            _exit(126);
        execv(argv[0], argv);
        _exit(127);
    }
    close(in_fd);
    close(out_fd);
    close(err_fd);
    return pid;
}

/* Exit code; 128 + N after signal N as shells have it; -1 when it did not end in time. */
TAP_UNUSED
static int torture_wait(pid_t pid, double seconds)
{
    for (double waited = 0; waited < seconds; waited += 0.01) {
        int status;
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        torture_sleep(0.01);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return -1;
}

/* The beginning of a file as text; empty when it cannot be read. */
TAP_UNUSED
static size_t torture_read(const char *path, char *text, size_t text_bytes)
{
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(text, 1, text_bytes - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    return n;
}

#endif
