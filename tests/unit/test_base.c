/* base: errors, sizes, memory. */
#include "base/alloc.h"
#include "base/num.h"
#include "base/str.h"

#include "tap.h"

static void errors(void)
{
    npumoe_error e = {0};
    is_int(nm_err_set(&e, NPUMOE_EFORMAT, "found %d", 7), NPUMOE_EFORMAT, "set returns its code");
    is_str(e.message, "found 7", "message is formatted");
    is_u64(e.offset, NPUMOE_NO_OFFSET, "no offset");
    is_int(nm_err_prefix(&e, e.code, "%s", "a.gguf"), NPUMOE_EFORMAT, "prefix keeps the code");
    is_str(e.message, "a.gguf: found 7", "prefix comes first");
    nm_err_at(&e, NPUMOE_EFORMAT, 32, "key");
    is_u64(e.offset, 32, "offset is kept");
    is_int(nm_err_set(NULL, NPUMOE_EIO, "x"), NPUMOE_EIO, "a caller may not want the message");

    char big[2 * sizeof e.message];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    nm_err_set(&e, NPUMOE_EIO, "%s", big);
    is_u64(strlen(e.message), sizeof e.message - 1, "a long message is cut");
    nm_err_prefix(&e, NPUMOE_EIO, "%s", big);
    is_u64(strlen(e.message), sizeof e.message - 1, "a long prefix is cut");
}

static void status_texts(void)
{
    is_str(npumoe_status_text(NPUMOE_OK), "no error", "text of OK");
    is_str(npumoe_status_text((npumoe_status)-999), "unknown status", "text of a stray number");
#define X(name, number, text) is_str(npumoe_status_text((npumoe_status)(number)), text, #name);
#include "npumoe/npumoe_errors.def"
#undef X
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", NPUMOE_VERSION_MAJOR, NPUMOE_VERSION_MINOR,
             NPUMOE_VERSION_PATCH);
    is_str(npumoe_version(), version, "version string and numbers agree");
}

static void sizes(void)
{
    uint64_t v = 5;
    ok(!nm_mul_u64(UINT64_MAX, 2, &v) && v == 5, "overflowing product is refused");
    ok(nm_mul_u64(1u << 20, 1u << 20, &v) && v == UINT64_C(1) << 40, "product");
    ok(!nm_add_u64(UINT64_MAX, 1, &v), "overflowing sum is refused");
    ok(nm_align_u64(33, 32, &v) && v == 64, "align up");
    ok(nm_align_u64(64, 32, &v) && v == 64, "aligned stays");
    ok(!nm_align_u64(UINT64_MAX - 3, 32, &v), "align past the end is refused");
}

/* Counts live blocks, and fails the call whose number is in `fail_at`. */
typedef struct counting {
    int live, calls, fail_at;
} counting;

static void *count_realloc(void *ctx, void *ptr, size_t bytes)
{
    counting *c = ctx;
    if (++c->calls == c->fail_at)
        return NULL;
    c->live += ptr == NULL;
    return realloc(ptr, bytes);
}

static void count_free(void *ctx, void *ptr)
{
    counting *c = ctx;
    c->live -= ptr != NULL;
    free(ptr);
}

static void memory(void)
{
    counting c = {0};
    const npumoe_allocator a = {&c, count_realloc, count_free};
    unsigned char *p = nm_alloc_aligned(&a, 100);
    ok(p != NULL && (uintptr_t)p % NM_ALIGN == 0, "aligned block");
    memset(p, 1, 100);
    nm_free_aligned(&a, p);
    is_int(c.live, 0, "aligned block is given back whole");
    ok(nm_alloc_aligned(&a, SIZE_MAX - 8) == NULL, "aligned size overflow");
    ok(nm_alloc_array(&a, SIZE_MAX / 2, 3) == NULL, "array size overflow");
    nm_free(&a, NULL);
    nm_free_aligned(&a, NULL);

    int *v = NULL;
    size_t cap = 0;
    for (size_t i = 0; i < 1000; i++) {
        if (nm_grow(&a, (void **)&v, &cap, i + 1, sizeof *v, NULL) != NPUMOE_OK)
            bail("out of memory");
        v[i] = (int)i;
    }
    ok(v[0] == 0 && v[999] == 999 && cap >= 1000, "a growing array keeps its content");
    c.fail_at = c.calls + 1;
    npumoe_error e;
    is_int(nm_grow(&a, (void **)&v, &cap, cap + 1, sizeof *v, &e), NPUMOE_ENOMEM, "growth fails");
    ok(v[999] == 999, "and leaves the array alone");
    nm_free(&a, v);
    char *s = nm_strndup(&a, "abc", 2);
    is_str(s, "ab", "strndup");
    nm_free(&a, s);
    is_int(c.live, 0, "nothing is left");
}

static void strings(void)
{
    ok(nm_str_eq(NM_STR("abc"), nm_str_of("abc")), "equal strings");
    ok(!nm_str_eqz((nm_str){"abcd", 3}, "abcd"), "length counts");
    ok(nm_str_eq((nm_str){NULL, 0}, NM_STR("")), "NULL with length 0 is empty");
    npumoe_error e;
    const nm_str nul = {"gpt\0oss", 7}, none = {"", 0};
    nm_err_set(&e, NPUMOE_EMODEL, "'%.*s' '%.*s'", NM_STR_ARG(nul), NM_STR_ARG(none));
    is_str(e.message, "'gpt?oss' ''", "a message shows what is behind a NUL");
}

int main(void)
{
    errors();
    status_texts();
    sizes();
    memory();
    strings();
    return done_testing();
}
