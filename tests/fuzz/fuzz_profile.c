/* fuzz_profile.c: any bytes as a profile. What is accepted keeps the invariants of profile.h: written
 * and read again it is the same, and joined with itself it has twice the tokens. */
#include "moe/profile.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct buffer {
    char *p;
    size_t n;
} buffer;

static void check(bool fine)
{
    if (!fine)
        __builtin_trap();
}

static npumoe_status append(void *user, const char *text, size_t bytes, npumoe_error *err)
{
    buffer *b = user;
    char *grown = realloc(b->p, b->n + bytes + 1);
    (void)err;
    if (!grown)
        return NPUMOE_ENOMEM;
    b->p = grown;
    memcpy(b->p + b->n, text, bytes);
    b->n += bytes;
    return NPUMOE_OK;
}

static void ask(const nm_profile *p)
{
    static const uint32_t chunks[] = {1, 128, 300, 2048, 9000};
    double r;
    for (uint32_t e = 0; e < p->model.n_expert && e < 8; e++)
        for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
            const double mean = nm_profile_mean(p, NM_PROFILE_MAIN, 0, e, chunks[i]);
            const double half = nm_profile_overflow(p, NM_PROFILE_MAIN, 0, e, chunks[i], mean / 2);
            check(mean >= 0 && half >= mean / 2 * 0.999999 && half <= mean * 1.000001);
            check(nm_profile_quantile(p, NM_PROFILE_HELD, 0, e, chunks[i], 0.9) >= 0);
            check(nm_profile_above(p, NM_PROFILE_MAIN, 0, e, chunks[i], 3) <= 1.000001);
        }
    if (nm_profile_coactivation(p, 0, 0, p->model.n_expert - 1, &r))
        check(r >= -1 && r <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    nm_profile *p = NULL, *q = NULL;
    buffer one = {0}, two = {0};
    if (nm_profile_parse(NULL, (const char *)data, bytes, "input", &p, NULL) != NPUMOE_OK)
        return 0;
    ask(p);
    check(nm_profile_write(p, true, NULL, append, &one, NULL) == NPUMOE_OK);
    check(nm_profile_parse(NULL, one.p, one.n, "again", &q, NULL) == NPUMOE_OK);
    check(nm_profile_write(q, true, NULL, append, &two, NULL) == NPUMOE_OK);
    check(one.n == two.n && memcmp(one.p, two.p, one.n) == 0);
    const uint64_t tokens = p->part[NM_PROFILE_MAIN].tokens;
    if (nm_profile_merge(p, q, NULL) == NPUMOE_OK)
        check(p->part[NM_PROFILE_MAIN].tokens == 2 * tokens);
    nm_profile_free(&p);
    nm_profile_free(&q);
    free(one.p);
    free(two.p);
    return 0;
}
