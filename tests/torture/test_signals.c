/* test_signals.c: Ctrl-C. `npumoe run` stops its answer in good order and ends with 130; a second
 * signal leaves at once; `npumoe quantize` leaves neither its output nor a part of it. */
#include "torture.h"

#include <dirent.h>

static char program[512], model[512], out[512], err[512];

static const char *err_text(void)
{
    static char text[4096];
    torture_read(err, text, sizeof text);
    return text;
}

/* Until the file has bytes; false after that many seconds. */
static bool wait_for_bytes(const char *path, double seconds)
{
    char text[2];
    for (double waited = 0; waited < seconds; waited += 0.01) {
        if (torture_read(path, text, sizeof text) > 0)
            return true;
        torture_sleep(0.01);
    }
    return false;
}

static pid_t start_run(char *n_ctx)
{
    char *argv[] = {program,
                    (char[]){"run"},
                    (char[]){"-m"},
                    model,
                    (char[]){"-p"},
                    (char[]){"Once upon a time"},
                    (char[]){"-c"},
                    n_ctx,
                    (char[]){"--ignore-eos"},
                    (char[]){"--temp"},
                    (char[]){"1"},
                    NULL};
    return torture_start(argv, out, err);
}

static void interrupt_run(int number, int want)
{
    char ctx[] = "16384"; /* more than it can write before the signal comes */
    pid_t pid = start_run(ctx);
    if (!ok(wait_for_bytes(out, 60), "the answer begins")) {
        note("stderr: %s", err_text());
        kill(pid, SIGKILL);
    }
    kill(pid, number);
    is_int(torture_wait(pid, 30), want, "signal %d during the answer", number);
    char text[256];
    ok(torture_read(out, text, sizeof text) > 0, "what was written stays");
    ok(strstr(err_text(), "tokens per second") != NULL, "timings are printed after the signal");
}

static void interrupt_twice(void)
{
    char ctx[] = "16384";
    pid_t pid = start_run(ctx);
    wait_for_bytes(out, 60);
    kill(pid, SIGSTOP); /* so that both are pending before it can act on the first */
    kill(pid, SIGINT);
    kill(pid, SIGTERM);
    kill(pid, SIGCONT);
    int code = torture_wait(pid, 30);
    ok(code == 130 || code == 143, "two signals end it (exit %d)", code);
}

static void interrupt_quantize(const char *folder, const char *big)
{
    char target[512];
    snprintf(target, sizeof target, "%s/small.gguf", folder);
    char *argv[] = {program,
                    (char[]){"quantize"},
                    (char[]){"-t"},
                    (char[]){"1"},
                    (char *)(uintptr_t)big,
                    target,
                    (char[]){"Q2_K"},
                    NULL};
    pid_t pid = torture_start(argv, out, err);
    /* The partial file appears when the work has begun. */
    bool begun = false;
    for (int i = 0; i < 3000 && !begun; i++) {
        DIR *d = opendir(folder);
        for (struct dirent *e; d && (e = readdir(d)) != NULL;)
            begun = begun || strstr(e->d_name, ".partial") != NULL;
        if (d)
            closedir(d);
        torture_sleep(0.002);
    }
    ok(begun, "quantize has begun to write");
    kill(pid, SIGINT);
    is_int(torture_wait(pid, 60), 130, "SIGINT ends quantize with 130");
    int left = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (strncmp(e->d_name, "small.gguf", 10) == 0) {
            note("left: %s", e->d_name);
            left++;
        }
    if (d)
        closedir(d);
    is_int(left, 0, "no output and no part of one is left");
}

int main(void)
{
    torture t;
    snprintf(program, sizeof program, "%s", torture_env("NPUMOE", "build/release/npumoe"));
    if (access(program, X_OK) != 0) {
        skip(1, "no program %s", program);
        return done_testing();
    }
    torture_begin(&t);
    torture_path(&t, "run.gguf", model, sizeof model);
    torture_path(&t, "out", out, sizeof out);
    torture_path(&t, "err", err, sizeof err);
    torture_model(&t, "--preset tiny-olmoe --ctx 16384", "run.gguf");
    interrupt_run(SIGINT, 130);
    interrupt_run(SIGTERM, 143);
    interrupt_twice();

    char big[512];
    torture_model(&t, "--preset tiny-olmoe --type F32 --layers 8 --embd 512 --ff 1024", "big.gguf");
    torture_path(&t, "big.gguf", big, sizeof big);
    interrupt_quantize(t.folder, big);
    torture_end(&t);
    return done_testing();
}
