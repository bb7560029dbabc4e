/* test_abi.c: option structs of older and newer callers. */
#include "base/abi.h"
#include "tap.h"

#include <stddef.h>

typedef struct opts {
    size_t struct_bytes;
    int a, b, c, d;
} opts;

static const opts dflt = {sizeof(opts), 1, 2, 3, 4};

static void test_read(void)
{
    npumoe_error err = {0};
    opts ours = dflt;
    is_int(nm_abi_read(&ours, sizeof ours, NULL, "opts", &err), NPUMOE_OK, "NULL is the defaults");
    is_int(ours.d, 4, "which stay");

    opts older = {offsetof(opts, c), 10, 20, 30, 40};
    is_int(nm_abi_read(&ours, sizeof ours, &older, "opts", &err), NPUMOE_OK, "an older caller");
    ok(ours.a == 10 && ours.b == 20, "its fields are taken");
    ok(ours.c == 3 && ours.d == 4, "fields it does not know keep their defaults");
    is_u64(ours.struct_bytes, sizeof ours, "the copy has our size");

    struct {
        opts o;
        int extra[2];
    } newer = {{sizeof newer, 5, 6, 7, 8}, {0, 0}};
    ours = dflt;
    is_int(nm_abi_read(&ours, sizeof ours, &newer, "opts", &err), NPUMOE_OK, "a newer caller");
    is_int(ours.d, 8, "with the fields that we know");
    newer.extra[1] = 1;
    ours = dflt;
    is_int(nm_abi_read(&ours, sizeof ours, &newer, "opts", &err), NPUMOE_EUNSUPPORTED,
           "which sets an option that we do not know");
    is_int(ours.a, 1, "nothing was taken");

    opts unset = {0};
    is_int(nm_abi_read(&ours, sizeof ours, &unset, "opts", &err), NPUMOE_EINVAL,
           "struct_bytes was forgotten");
    is_str(err.message,
           "opts: struct_bytes is 0, expected its size; fill the struct with opts_default()",
           "and the message says so");
}

static void test_write(void)
{
    opts theirs = {offsetof(opts, c), -1, -1, -1, -1};
    nm_abi_write(&theirs, &dflt, sizeof dflt);
    ok(theirs.a == 1 && theirs.b == 2, "an older caller gets its fields");
    ok(theirs.c == -1 && theirs.d == -1, "and nothing beyond");
    is_u64(theirs.struct_bytes, offsetof(opts, c), "the size says what was written");
    theirs = (opts){0, -1, -1, -1, -1};
    nm_abi_write(&theirs, &dflt, sizeof dflt);
    is_int(theirs.a, -1, "no size, no room");
}

int main(void)
{
    test_read();
    test_write();
    return done_testing();
}
