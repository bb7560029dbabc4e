/* Whether a model fits: the numbers and the advice of each refusal, and what this machine says. */
#include "engine/memory.h"
#include "tap.h"

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)

static void check_load(void)
{
    npumoe_error err = {0};
    const nm_memory have = {8 * GIB, 2 * GIB, "this machine"};
    nm_memory_need need = {.weights_bytes = 7 * GIB, .kv_bytes = 2 * MIB, .scratch_bytes = 8 * MIB};
    is_int(nm_memory_check_load(&have, &need, &err), NPUMOE_OK,
           "weights larger than what is free, smaller than the machine, load: %s", err.message);
    need.weights_bytes = 9 * GIB;
    is_int(nm_memory_check_load(&have, &need, &err), NPUMOE_ETOOBIG, "larger than the machine");
    is_str(
        err.message,
        "needs 9.0 GiB (weights 9.0, KV cache 0.0, scratch 0.0), but this machine has 8.0 GiB; a "
        "smaller quantisation would need less",
        "... is refused with the numbers, and no word about the context");
    const nm_memory tiny = {1024, 0, "the memory limit"}, none = {12, 0, "the memory limit"};
    nm_memory_check_load(&tiny, &need, &err);
    ok(strstr(err.message, "but the memory limit has 1.0 KiB;"), "a small one: %s", err.message);
    nm_memory_check_load(&none, &need, &err);
    ok(strstr(err.message, "but the memory limit has 12 bytes;"), "a very small one");
    const nm_memory unknown = {NM_MEMORY_UNKNOWN, NM_MEMORY_UNKNOWN, "this machine"};
    is_int(nm_memory_check_load(&unknown, &need, &err), NPUMOE_OK, "nobody knows: it loads");
    need.weights_bytes = UINT64_MAX;
    is_int(nm_memory_check_load(&have, &need, &err), NPUMOE_ETOOBIG, "sums do not wrap around");
}

static void check_session(void)
{
    npumoe_error err = {0};
    const nm_memory have = {8 * GIB, 2 * GIB, "this cgroup"};
    nm_memory_need need = {.weights_bytes = 5 * GIB, .kv_bytes = GIB, .scratch_bytes = GIB / 2};
    is_int(nm_memory_check_session(&have, &need, &err), NPUMOE_OK, "a session that fits");
    need.kv_bytes = 2 * GIB;
    is_int(nm_memory_check_session(&have, &need, &err), NPUMOE_ETOOBIG, "more than is available");
    is_str(err.message,
           "the session needs 2.5 GiB (KV cache 2.0, scratch 0.5), but only 2.0 GiB are available "
           "now; "
           "a shorter context (-c) would need less",
           "... is refused with the numbers");
    need.kv_bytes = GIB;
    need.others_bytes = 2 * GIB;
    is_int(nm_memory_check_session(&have, &need, &err), NPUMOE_ETOOBIG, "with another session");
    is_str(err.message,
           "needs 8.5 GiB (weights 5.0, KV cache 1.0, scratch 2.5), but this cgroup has 8.0 GiB; a "
           "shorter context (-c) or a smaller quantisation would need less",
           "... all together are too much");
}

static void check_machine(void)
{
    const nm_memory m = nm_memory_read(0), small = nm_memory_read(MIB);
    ok(m.total_bytes > 16 * MIB, "this machine has memory");
#ifdef __linux__
    ok(m.available_bytes <= m.total_bytes, "and no more of it available than there is");
#endif
    is_u64(small.total_bytes, MIB, "the caller's limit counts");
    is_str(small.what, "the memory limit", "... and is named");
    is_u64(nm_memory_read(UINT64_MAX - 1).total_bytes, m.total_bytes, "a huge one does not");
}

int main(void)
{
    check_load();
    check_session();
    check_machine();
    return done_testing();
}
