/* replay.c: runs a fuzz target over saved inputs, with no fuzz engine.
 *
 * fuzz_NAME            every file of tests/fuzz/corpus/NAME (run from the root of the repository)
 * fuzz_NAME FILE...    these files
 *
 * Each input is a heap block of exactly its size, so that AddressSanitizer sees an over-read. A
 * crash ends the program without a TAP plan, which the harness counts as a failure. */
#include "tap.h"

#include <dirent.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!ok(f != NULL, "%s opens", path))
        return;
    size_t n = 0, cap = 1 << 16, got;
    uint8_t *data = malloc(cap);
    while (data && (got = fread(data + n, 1, cap - n, f)) > 0) {
        n += got;
        if (n == cap)
            data = realloc(data, cap *= 2);
    }
    fclose(f);
    uint8_t *exact = data ? realloc(data, n ? n : 1) : NULL;
    if (!exact)
        bail("out of memory");
    int rc = LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    ok(rc == 0, "%s: %zu bytes", path, n);
}

static int visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

/* "build/asan/tests/fuzz/fuzz_gguf" -> "gguf" */
static const char *target_name(const char *program)
{
    const char *slash = strrchr(program, '/'), *name = slash ? slash + 1 : program;
    return strncmp(name, "fuzz_", 5) == 0 ? name + 5 : name;
}

static void replay_corpus(const char *program)
{
    char folder[256], path[768];
    struct dirent **list;
    snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", target_name(program));
    int n = scandir(folder, &list, visible, alphasort);
    if (n < 0) {
        skip(1, "no folder %s", folder);
        return;
    }
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name);
        replay_file(path);
        free(list[i]);
    }
    free(list);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        replay_file(argv[i]);
    if (argc < 2)
        replay_corpus(argv[0]);
    return done_testing();
}
