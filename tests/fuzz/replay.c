/* replay.c: runs a fuzz target over saved inputs, with no fuzz engine.
 *
 * fuzz_NAME            every file of tests/fuzz/corpus/NAME (run from the root of the repository)
 * fuzz_NAME FILE...    these files
 *
 * Each input is a heap block of exactly its size, so that AddressSanitizer sees an over-read. A
 * crash ends the program without a TAP plan, which the harness counts as a failure.
 * Small inputs are also cut short and changed in a few hundred seeded ways: a small, repeatable share
 * of what libFuzzer does, so that `make check` sees gross mistakes at once. */
#include "tap.h"

#include <dirent.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define MUTATE_BYTES ((size_t)1 << 16) /* larger inputs are replayed only as they are */
#define N_MUTATIONS  300

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13; /* xorshift64, Marsaglia 2003 */
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void give_copy(const uint8_t *data, size_t bytes)
{
    uint8_t *copy = malloc(bytes ? bytes : 1);
    if (!copy)
        bail("out of memory");
    memcpy(copy, data, bytes);
    LLVMFuzzerTestOneInput(copy, bytes);
    free(copy);
}

static void mutate(const uint8_t *data, size_t bytes)
{
    static const uint8_t nasty[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0xfe};
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15) ^ bytes;
    uint8_t *copy = malloc(bytes ? bytes : 1);
    if (!copy)
        bail("out of memory");
    for (int i = 0; i < N_MUTATIONS && bytes > 0; i++) {
        memcpy(copy, data, bytes);
        for (uint64_t n = 1 + next_random(&seed) % 4; n > 0; n--) {
            const uint64_t r = next_random(&seed);
            /* Half of the changes hit the first 256 bytes, where headers are. */
            const size_t at = (r & 1) && bytes > 256 ? (r >> 8) % 256 : (r >> 8) % bytes;
            copy[at] = (r & 2) ? nasty[(r >> 4) % sizeof nasty] : (uint8_t)(r >> 40);
        }
        give_copy(copy, bytes);
    }
    free(copy);
    for (size_t n = 0; n < bytes; n += n < 64 ? 1 : 1 + bytes / 128)
        give_copy(data, n);
}

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
    if (n <= MUTATE_BYTES)
        mutate(exact, n);
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
