/* test_mkmodel.c: the model maker: its files open, are reproducible, have a tokenizer that works, and a run
 * that fails or is interrupted leaves nothing. What the models compute: test_golden.c. */
#include <libgen.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "formats/gguf.h"
#include "model/tokenizer.h"
#include "tap.h"

static char tool[600], folder[] = "/tmp/npumoe-mkmodel-XXXXXX";

#define MAX_ARGS 16

/* Starts mkmodel with the words of args and the output file appended. */
static pid_t start(const char *args, const char *out)
{
    static char words[512];
    char *argv[MAX_ARGS + 3];
    int n = 0;
    snprintf(words, sizeof words, "%s", args);
    argv[n++] = tool;
    for (char *p = words; *p && n < MAX_ARGS; p += strspn(p, " ")) {
        argv[n++] = p;
        p += strcspn(p, " ");
        if (*p)
            *p++ = '\0';
    }
    argv[n++] = (char *)(uintptr_t)out;
    argv[n] = NULL;
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(126);
        execv(tool, argv);
        _exit(127);
    }
    return pid;
}

static int finish(pid_t pid)
{
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

static char *path_of(const char *name)
{
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static bool same_bytes(const char *a, const char *b)
{
    FILE *f = fopen(a, "rb"), *g = fopen(b, "rb");
    bool same = f && g;
    while (same) {
        int x = getc(f), y = getc(g);
        same = x == y;
        if (x == EOF)
            break;
    }
    if (f)
        fclose(f);
    if (g)
        fclose(g);
    return same;
}

static size_t count_files(void)
{
    char command[300];
    size_t n = 0;
    snprintf(command, sizeof command, "ls -A %s | wc -l", folder);
    FILE *f = popen(command, "r");
    if (!f || fscanf(f, "%zu", &n) != 1)
        n = 999;
    if (f)
        pclose(f);
    return n;
}

/* ---- tests -------------------------------------------------------------------------------- */

static const char text[] =
    "The other side of the hill, 1234 sheep:\n\tna\xC3\xAFve \xF0\x9F\x90\x91\xFF!";

static void test_tokenizer(const nm_gguf *g, const char *preset)
{
    nm_tokenizer *t = NULL;
    npumoe_error err;
    npumoe_token tokens[256];
    size_t n = 0;
    char back[512];
    size_t bytes = 0;
    if (!ok(nm_tokenizer_new(g, nm_allocator_default(), &t, &err) == NPUMOE_OK, "%s: tokenizer",
            preset)) {
        note("%s", err.message);
        return;
    }
    npumoe_status st = nm_tokenizer_encode(t, text, sizeof text - 1, 0, tokens, 256, &n, &err);
    is_int(st, NPUMOE_OK, "%s: text with broken UTF-8 is encoded", preset);
    for (size_t i = 0; i < n; i++) {
        nm_str s = nm_tokenizer_bytes(t, tokens[i], false);
        memcpy(back + bytes, s.p, s.n);
        bytes += s.n;
    }
    size_t skip_space = nm_tokenizer_drops_space(t) && bytes > 0 && back[0] == ' ';
    is_int((long long)(bytes - skip_space), (long long)sizeof text - 1, "%s: all bytes", preset);
    is_mem(back + skip_space, text, sizeof text - 1, "%s: and the same", preset);
    ok(n < sizeof text - 1, "%s: some pieces are longer than a byte (%zu tokens)", preset, n);
    nm_tokenizer_free(&t);
}

static void test_preset(const char *preset)
{
    char args[128];
    const char *path = path_of("m.gguf");
    npumoe_error err;
    nm_gguf *g = NULL;
    nm_gguf_options options = {0};
    snprintf(args, sizeof args, "--preset %s --type Q8_0", preset);
    is_int(finish(start(args, path)), 0, "%s: is made", preset);
    if (ok(nm_gguf_open(path, &options, &g, &err) == NPUMOE_OK, "%s: opens", preset))
        test_tokenizer(g, preset);
    else
        note("%s", err.message);
    nm_gguf_free(&g);
    unlink(path);
}

static void test_reproducible(void)
{
    const char *args =
        "--preset tiny-olmoe --type Q4_K_M --embd 256 --head-dim 64 --ff 256 --threads";
    char one[160], three[160], other[160];
    snprintf(one, sizeof one, "%s 1", args);
    snprintf(three, sizeof three, "%s 3", args);
    snprintf(other, sizeof other, "%s 1 --seed 2", args);
    is_int(finish(start(one, path_of("a"))), 0, "one thread");
    is_int(finish(start(three, path_of("b"))), 0, "three threads");
    is_int(finish(start(other, path_of("c"))), 0, "another seed");
    ok(same_bytes(path_of("a"), path_of("b")), "threads do not change a byte");
    ok(!same_bytes(path_of("a"), path_of("c")), "the seed does");
    unlink(path_of("a"));
    unlink(path_of("b"));
    unlink(path_of("c"));
}

static void test_failures(void)
{
    static const char *const bad[] = {
        "--preset no-such",
        "--layers 2",
        "--preset tiny-llama --type Q9_9",
        "--preset tiny-llama --heads 7",
        "--preset tiny-llama --used 9",
        "--preset tiny-phimoe --used 3",
        "--preset tiny-llama --vocab 100",
        "--preset tiny-llama --layers x",
        "--preset tiny-llama --vocab-from /nonexistent.gguf",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        is_int(finish(start(bad[i], path_of("x"))), 1, "refused: %s", bad[i]);
    is_int((long long)count_files(), 0, "refused runs leave no file");
    /* Some seconds of work, interrupted once it has begun to write. */
    pid_t pid = start("--preset olmoe-1b-7b --type F16 --layers 2", path_of("x"));
    for (int i = 0; i < 400 && count_files() == 0; i++)
        usleep(5000);
    kill(pid, SIGINT);
    is_int(finish(pid), 130, "Ctrl-C: exit code");
    is_int((long long)count_files(), 0, "Ctrl-C: no file is left");
}

int main(int argc, char **argv)
{
    static const char *const presets[] = {"tiny-olmoe", "tiny-qwen3moe",   "tiny-qwen2moe",
                                          "tiny-llama", "tiny-granitemoe", "tiny-phimoe"};
    char self[512];
    (void)argc;
    /* build/CONFIG/tests/unit/test_mkmodel -> build/CONFIG/mkmodel */
    snprintf(self, sizeof self, "%s", argv[0]);
    snprintf(tool, sizeof tool, "%s/../../mkmodel", dirname(self));
    if (access(tool, X_OK) != 0)
        bail("%s is not there: make tools", tool);
    if (!mkdtemp(folder))
        bail("cannot make a folder in /tmp");
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
        test_preset(presets[i]);
    test_reproducible();
    test_failures();
    rmdir(folder);
    return done_testing();
}
