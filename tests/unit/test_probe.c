/* test_probe: the loops that measure do what they say they do, and the cost table is complete. Speeds
 * themselves are not judged: the machine may be busy. */
#include "base/alloc.h"
#include "kernels/probe.h"

#include "tap.h"

#include <jansson.h>

/* ---- the loops ------------------------------------------------------------------------------ */

static char *need(size_t bytes)
{
    char *p = nm_alloc_aligned(nm_allocator_default(), bytes);
    if (!p)
        bail("no memory");
    return p;
}

/* With all ones every accumulator counts its instructions: from 1, one a multiplication. */
static void fill_ones(char *p, size_t bytes, const char *type)
{
    const float one = 1.0f;
    const uint32_t bf16 = 0x3f803f80u, i8 = 0x01010101u, i16 = 0x00010001u;
    const void *word = strcmp(type, "f32") == 0    ? (const void *)&one
                       : strcmp(type, "bf16") == 0 ? (const void *)&bf16
                       : strcmp(type, "i16") == 0  ? (const void *)&i16
                                                   : (const void *)&i8;
    for (size_t i = 0; i < bytes; i += 4)
        memcpy(p + i, word, 4);
}

static double first_value(const char *out, const char *type)
{
    float f;
    int32_t i;
    memcpy(&f, out, sizeof f);
    memcpy(&i, out, sizeof i);
    return type[0] == 'i' ? (double)i : (double)f;
}

/* The operations that the loop says it did must be those that the accumulators saw: with passes of
 * one and three the difference is two passes' worth in each, whatever they began with. */
static void test_product(const nm_probe_product *p)
{
    const size_t w_bytes = 3 * p->w_step_bytes;
    char *x = need(NM_PROBE_X_BYTES), *w = need(w_bytes), *out = need(NM_PROBE_OUT_BYTES);
    fill_ones(x, NM_PROBE_X_BYTES, p->type);
    fill_ones(w, w_bytes, p->type);
    for (int registers = 0; registers < 2; registers++) {
        const char *where = registers ? "registers" : "memory";
        uint64_t ops[2];
        double value[2];
        for (int i = 0; i < 2; i++) {
            memset(out, 0, NM_PROBE_OUT_BYTES);
            ops[i] = p->run(x, registers ? NULL : w, w_bytes, i ? 3 : 1, out);
            value[i] = first_value(out, p->type);
        }
        is_u64(ops[1], 3 * ops[0], "%s %s, %s: three passes are three times one", p->type, p->unit,
               where);
        /* how many numbers came out: the block's elements of 32 bits */
        size_t n = NM_PROBE_OUT_BYTES / 4;
        while (n > 0 && memcmp(out + 4 * (n - 1), "\0\0\0\0", 4) == 0)
            n--;
        is_near((value[1] - value[0]) * (double)n * 2.0, (double)(ops[1] - ops[0]), 0.5,
                "%s %s, %s: %zu sums saw all operations", p->type, p->unit, where, n);
    }
    nm_free_aligned(nm_allocator_default(), x);
    nm_free_aligned(nm_allocator_default(), w);
    nm_free_aligned(nm_allocator_default(), out);
}

/* Every byte is read: one that changes changes the sum. */
static void test_reader(const nm_cpu *cpu)
{
    enum { BYTES = 4096 };
    const nm_probe_reader *r = nm_probe_reader_for(cpu);
    char *p = need(BYTES);
    memset(p, 0, BYTES);
    is_u64(r->run(p, BYTES, 0), 0, "%s reader: zeros", r->unit);
    int missed = 0;
    for (int i = 0; i < BYTES; i++) {
        p[i] = 1;
        /* the result shows 8 bytes of the vector of sums: those at multiples of the vector */
        bool seen = r->run(p, BYTES, 512) != 0;
        p[i] = 0;
        missed += !seen && i % 64 < 8;
    }
    is_int(missed, 0, "%s reader: no line is left out", r->unit);
    nm_free_aligned(nm_allocator_default(), p);
}

static void test_loops(void)
{
    const nm_cpu cpu = nm_cpu_detect(), plain = {0};
    const nm_probe_product *p;
    size_t usable = 0;
    ok(nm_probe_product_at(0)->usable(&plain), "the first product runs everywhere");
    for (size_t i = 0; (p = nm_probe_product_at(i)); i++) {
        if (!p->usable(&cpu))
            continue;
        test_product(p);
        usable++;
    }
    ok(usable >= 1, "%zu products", usable);
    test_reader(&plain);
    test_reader(&cpu);
}

/* ---- the table ------------------------------------------------------------------------------ */

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* UNIT_min <= UNIT_median <= UNIT_max, all above 0, in every entry. */
static void check_section(const json_t *table, const char *section, const char *unit, size_t least)
{
    const json_t *list = json_object_get(table, section), *row;
    char min[64], median[64], max[64];
    size_t i, bad = 0;
    snprintf(min, sizeof min, "%s_min", unit);
    snprintf(median, sizeof median, "%s_median", unit);
    snprintf(max, sizeof max, "%s_max", unit);
    json_array_foreach(list, i, row)
    {
        bad += !(number(row, min) > 0 && number(row, min) <= number(row, median) &&
                 number(row, median) <= number(row, max) && number(row, "threads") == 1);
    }
    ok(json_array_size(list) >= least, "%s has %zu entries, at least %zu", section,
       json_array_size(list), least);
    is_int((int)bad, 0, "%s: min <= median <= max", section);
}

static bool count_calls(void *user, uint64_t done, uint64_t total)
{
    uint64_t *calls = user;
    if (done >= total)
        bail("progress %" PRIu64 " of %" PRIu64, done, total);
    ++*calls;
    return true;
}

static bool stop_at_three(void *user, uint64_t done, uint64_t total)
{
    uint64_t *calls = user;
    (void)done, (void)total;
    return ++*calls < 3;
}

static void test_table(void)
{
    const int32_t one = 1;
    npumoe_probe_options o = npumoe_probe_options_default();
    npumoe_error err = {0};
    char *json = NULL;
    uint64_t calls = 0;
    o.quick = true;
    o.threads = &one;
    o.n_threads = 1;
    o.progress = count_calls;
    o.progress_user = &calls;
    is_int(npumoe_probe(&o, &json, &err), NPUMOE_OK, "a quick probe %s", err.message);
    json_t *table = json ? json_loads(json, 0, NULL) : NULL;
    is_str(json_string_value(json_object_get(table, "schema")), "npumoe-cost-table", "the schema");
    check_section(table, "multiply", "gops_per_s", 3);
    check_section(table, "read", "gb_per_s", 2);
    is_int((int)json_array_size(json_object_get(table, "pool")), 1, "pool");
    ok(calls >= 6, "progress was told %" PRIu64 " times", calls);
    json_decref(table);
    npumoe_text_free(&json);
    o.progress = stop_at_three;
    calls = 0;
    is_int(npumoe_probe(&o, &json, &err), NPUMOE_ECANCELED, "cancelled");
    is_u64(calls, 3, "... at once");
    ok(json == NULL, "... without a table");
}

static void test_refused(void)
{
    const int32_t none = 0;
    npumoe_probe_options o = npumoe_probe_options_default();
    npumoe_error err = {0};
    char *json = NULL;
    o.threads = &none;
    o.n_threads = 1;
    is_int(npumoe_probe(&o, &json, &err), NPUMOE_EINVAL, "no thread");
    o = npumoe_probe_options_default();
    o.file = "/no/such/file";
    is_int(npumoe_probe(&o, &json, &err), NPUMOE_ENOENT, "no file");
    o = npumoe_probe_options_default();
    o.isa = "avx1024";
    is_int(npumoe_probe(&o, &json, &err), NPUMOE_EINVAL, "no tier");
}

int main(void)
{
    test_loops();
    test_table();
    test_refused();
    return done_testing();
}
