/* test_gguf.c: what a good GGUF file gives, and the writer. Bad files: test_gguf_broken.c.
 *
 * Files are either words (gguf_build.h), so that the reader is not tested with its own writer, or
 * written by the writer and read back. */
#include "base/file.h"
#include "formats/gguf_write.h"
#include "gguf_build.h"
#include "tap.h"

#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/npumoe-test-gguf-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static nm_gguf *open_words(const char *words, gb_bytes *b)
{
    nm_gguf *g = NULL;
    npumoe_error err = {0};
    *b = gb_build(words);
    if (nm_gguf_open_memory(b->p, b->n, "m.gguf", NULL, &g, &err) != NPUMOE_OK)
        bail("a good file was refused: %s", err.message);
    return g;
}

/* ---- metadata ------------------------------------------------------------------------------ */

static const char kinds_words[] = GB_HEAD(0, 18)
    GB_KEY("u8", 0) "1:255 " GB_KEY("i8", 1) "1:-1 " GB_KEY("u16", 2) "2:65535 " GB_KEY("i16", 3) "2:-2 " GB_KEY(
        "u32", 4) "4:4000000000 " GB_KEY("i32",
                                         5) "4:-3 " GB_KEY("f32",
                                                           6) "f:1.5 " GB_KEY("yes",
                                                                              7) "1:1 " GB_KEY("no",
                                                                                               7) "1:0 " GB_STR("str",
                                                                                                                "text")
        GB_KEY("u64", 10) "8:-1 " GB_KEY("i64", 11) "8:-4 " GB_KEY("f64", 12) "d:-2.25 " GB_KEY(
            "big",
            12) "d:1e300 " GB_ARR("i32s", 5,
                                  3) "4:-1 4:0 4:7 " GB_ARR("strs", 8,
                                                            3) "s=one s= s=three " GB_ARR("arrs", 9,
                                                                                          2) "4:8 "
                                                                                             "8:1 "
                                                                                             "s=x "
                                                                                             "4:4 "
                                                                                             "8:2 "
                                                                                             "4:1 "
                                                                                             "4:"
                                                                                             "2"
                                                                                             " " GB_ARR(
                                                                                                 "n"
                                                                                                 "o"
                                                                                                 "n"
                                                                                                 "e",
                                                                                                 6,
                                                                                                 0);

static void test_scalars(const nm_gguf *g)
{
    is_u64(nm_gguf_n_kv(g), 18, "18 keys");
    is_u64(nm_gguf_find(g, "u8")->v.u, 255, "u8");
    is_int(nm_gguf_find(g, "i8")->v.i, -1, "i8 is sign-extended");
    is_int(nm_gguf_find(g, "i16")->v.i, -2, "i16");
    is_int(nm_gguf_find(g, "i32")->v.i, -3, "i32");
    is_int(nm_gguf_find(g, "i64")->v.i, -4, "i64");
    is_u64(nm_gguf_find(g, "u64")->v.u, UINT64_MAX, "u64");
    is_near(nm_gguf_find(g, "f32")->v.f, 1.5, 0, "f32");
    is_near(nm_gguf_find(g, "f64")->v.f, -2.25, 0, "f64");
    ok(nm_str_eqz(nm_gguf_find(g, "str")->v.str, "text"), "string");
    is_u64(nm_gguf_find(g, "u8")->offset, 38, "offset of a value");
    ok(nm_gguf_find(g, "nothing") == NULL, "an absent key");
    ok(nm_gguf_find(g, "") == NULL, "an empty key");
    ok(nm_str_eqz(nm_gguf_kv_at(g, 0)->key, "u8"), "keys keep their order");
}

static void test_integers(const nm_gguf *g)
{
    uint32_t v = 7;
    npumoe_error err;
    is_int(nm_gguf_get_u32(g, "u8", &v, &err), NPUMOE_OK, "u8 as u32");
    is_u64(v, 255, "its value");
    is_int(nm_gguf_get_u32(g, "u32", &v, &err), NPUMOE_OK, "u32");
    is_u64(v, 4000000000u, "its value");
    is_int(nm_gguf_get_u32(g, "i32", &v, &err), NPUMOE_EMODEL, "-3 as u32");
    is_str(err.message,
           "m.gguf: byte 122: key 'i32' is -3 (i32), expected an integer from 0 to 4294967295",
           "says what was found");
    is_int(nm_gguf_get_u32(g, "u64", &v, &err), NPUMOE_EMODEL, "2^64-1 as u32");
    is_int(nm_gguf_get_u32(g, "f32", &v, &err), NPUMOE_EMODEL, "f32 as u32");
    is_int(nm_gguf_get_u32(g, "yes", &v, &err), NPUMOE_EMODEL, "bool as u32");
    is_u64(v, 4000000000u, "a failure leaves the result alone");
    is_int(nm_gguf_get_u32(g, "nothing", &v, &err), NPUMOE_ENOENT, "absent");
    is_str(err.message, "m.gguf: key 'nothing' is missing", "says which");
    is_int(nm_gguf_u32_or(g, "nothing", 5, &v, &err), NPUMOE_OK, "absent with a default");
    is_u64(v, 5, "the default");
    is_int(nm_gguf_u32_or(g, "str", 5, &v, &err), NPUMOE_EMODEL, "a default hides no wrong kind");
}

static void test_others(const nm_gguf *g)
{
    float f = 0;
    bool b = false;
    nm_str s = {0};
    npumoe_error err;
    is_int(nm_gguf_get_f32(g, "f64", &f, &err), NPUMOE_OK, "f64 as f32");
    is_near((double)f, -2.25, 0, "its value");
    is_int(nm_gguf_get_f32(g, "big", &f, &err), NPUMOE_EMODEL, "1e300 does not fit f32");
    is_int(nm_gguf_get_f32(g, "u8", &f, &err), NPUMOE_EMODEL, "an integer is no f32");
    is_int(nm_gguf_f32_or(g, "nothing", 0.5f, &f, &err), NPUMOE_OK, "f32 with a default");
    is_near((double)f, 0.5, 0, "the default");
    is_int(nm_gguf_get_bool(g, "yes", &b, &err), NPUMOE_OK, "bool");
    is_int(b, true, "true");
    is_int(nm_gguf_get_bool(g, "no", &b, &err), NPUMOE_OK, "bool");
    is_int(b, false, "false");
    is_int(nm_gguf_get_bool(g, "u8", &b, &err), NPUMOE_EMODEL, "an integer is no bool");
    is_int(nm_gguf_bool_or(g, "nothing", true, &b, &err), NPUMOE_OK, "bool with a default");
    is_int(b, true, "the default");
    is_int(nm_gguf_get_str(g, "str", &s, &err), NPUMOE_OK, "string");
    ok(nm_str_eqz(s, "text"), "its bytes");
    is_int(nm_gguf_str_or(g, "nothing", "dflt", &s, &err), NPUMOE_OK, "string with a default");
    ok(nm_str_eqz(s, "dflt"), "the default");
    is_int(nm_gguf_get_str(g, "strs", &s, &err), NPUMOE_EMODEL, "an array is no string");
    is_str(strchr(err.message, 'k'), "key 'strs' is an array of 3 string, expected a string",
           "says so");
}

static void test_arrays(const nm_gguf *g)
{
    nm_gguf_array a = {0};
    npumoe_error err;
    is_int(nm_gguf_get_arr(g, "i32s", NM_GGUF_I32, &a, &err), NPUMOE_OK, "array of i32");
    is_u64(a.count, 3, "3 elements");
    is_int(nm_gguf_arr_i64(&a, 0), -1, "the first");
    is_int(nm_gguf_arr_i64(&a, 2), 7, "the last");
    is_near((double)nm_gguf_arr_f32(&a, 2), 7, 0, "as a float");
    is_int(nm_gguf_get_arr(g, "i32s", NM_GGUF_I64, &a, &err), NPUMOE_OK, "as any integer");
    is_int(nm_gguf_get_arr(g, "i32s", NM_GGUF_U32, &a, &err), NPUMOE_EMODEL, "not as u32");
    is_int(nm_gguf_get_arr(g, "none", NM_GGUF_F64, &a, &err), NPUMOE_OK, "empty, as any float");
    is_u64(a.count, 0, "0 elements");
    is_int(nm_gguf_get_arr(g, "u8", NM_GGUF_U8, &a, &err), NPUMOE_EMODEL, "a scalar is no array");
    is_int(nm_gguf_get_arr(g, "strs", NM_GGUF_STRING, &a, &err), NPUMOE_OK, "array of strings");
    ok(nm_str_eqz(a.strings[0], "one") && a.strings[1].n == 0 && nm_str_eqz(a.strings[2], "three"),
       "its strings");
    is_u64(a.bytes, 8 * 3 + 8, "its payload");
    const nm_gguf_kv *kv = nm_gguf_find(g, "arrs");
    is_u64(kv->v.arr.count, 2, "nested: count");
    is_u64(kv->v.arr.bytes, 12 + 9 + 12 + 8, "nested: payload");
}

static void test_element_kinds(void)
{
    gb_bytes b;
    nm_gguf *g = open_words(
        GB_HEAD(0, 5) GB_ARR("i8", 1, 2) "1:-128 1:127 " GB_ARR("u64", 10, 1) "8:-1 " GB_ARR(
            "f64", 12, 3) "d:1e300 d:-3.75 d:-1e300 " GB_ARR("i16", 3,
                                                             1) "2:-2 " GB_ARR("bool", 7,
                                                                               2) "1:0 1:1 ",
        &b);
    is_int(nm_gguf_arr_i64(&nm_gguf_find(g, "i8")->v.arr, 0), -128, "i8 element");
    is_int(nm_gguf_arr_i64(&nm_gguf_find(g, "i16")->v.arr, 0), -2, "i16 element");
    is_int(nm_gguf_arr_i64(&nm_gguf_find(g, "bool")->v.arr, 1), 1, "bool element");
    is_int(nm_gguf_arr_i64(&nm_gguf_find(g, "u64")->v.arr, 0), INT64_MAX, "2^64-1 is clamped");
    const nm_gguf_array *f = &nm_gguf_find(g, "f64")->v.arr;
    is_int(nm_gguf_arr_i64(f, 0), INT64_MAX, "1e300 is clamped");
    is_int(nm_gguf_arr_i64(f, 1), -3, "-3.75 is cut");
    is_int(nm_gguf_arr_i64(f, 2), INT64_MIN, "-1e300 is clamped");
    ok(isinf(nm_gguf_arr_f32(f, 0)), "1e300 as f32 is infinite");
    is_near((double)nm_gguf_arr_f32(f, 1), -3.75, 0, "-3.75 as f32");
    nm_gguf_free(&g);
    gb_free(&b);
}

static void test_metadata(void)
{
    gb_bytes b;
    nm_gguf *g = open_words(kinds_words, &b);
    test_scalars(g);
    test_integers(g);
    test_others(g);
    test_arrays(g);
    nm_gguf_free(&g);
    ok(g == NULL, "free nulls the pointer");
    gb_free(&b);
    test_element_kinds();
}

/* ---- tensors ------------------------------------------------------------------------------- */

static void test_tensors(void)
{
    gb_bytes b;
    nm_gguf *g = open_words(GB_HEAD(2, 1) GB_U32("general.alignment", 64) GB_DIM2("w", 64, 3)
                                GB_TYPE(8, 64) "s=n 4:4 8:2 8:1 8:2 8:1 " GB_TYPE(
                                    0, 0) "pad:64 f:1 f:2 f:3 f:4 pad:64 z:204",
                            &b);
    const nm_gguf_tensor *w = nm_gguf_find_tensor(g, "w"), *n = nm_gguf_find_tensor(g, "n");
    is_u64(nm_gguf_n_tensors(g), 2, "2 tensors");
    ok(nm_gguf_tensor_at(g, 0) == w, "tensors keep their order");
    ok(nm_gguf_find_tensor(g, "x") == NULL, "an absent tensor");
    is_u64(w->bytes, 2 * 34 * 3, "bytes of a Q8_0 matrix");
    is_u64(w->ne[0] * 1000 + w->ne[1] * 100 + w->ne[2] * 10 + w->ne[3], 64311, "its shape");
    is_u64(n->n_dims, 4, "4 dimensions");
    is_u64((uint64_t)((const unsigned char *)n->data - b.p), n->offset, "a view into the file");
    is_u64(n->offset % 64, 0, "aligned");
    float f[4];
    memcpy(f, n->data, sizeof f);
    is_near((double)f[3], 4, 0, "its data");
    nm_gguf_free(&g);
    gb_free(&b);
}

static void test_versions(void)
{
    gb_bytes b;
    nm_gguf *g = open_words("'GGUF' 4:2 8:0 8:1 " GB_STR("general.architecture", "llama"), &b);
    is_int(nm_gguf_version(g), 2, "version 2");
    nm_gguf_free(&g);
    gb_free(&b);
    g = open_words(GB_HEAD(0, 0), &b);
    is_int(nm_gguf_version(g), 3, "version 3, nothing in it");
    is_u64(nm_gguf_n_tensors(g) + nm_gguf_n_kv(g), 0, "no tensors, no keys");
    ok(!nm_gguf_find(g, "x") && !nm_gguf_find_tensor(g, "x"), "nothing is found");
    nm_gguf_free(&g);
    gb_free(&b);
}

/* ---- split sets ---------------------------------------------------------------------------- */

#define SPLIT(no, count, total)                       \
    GB_KEY("split.no", 2)                             \
    "2:" #no " " GB_KEY("split.count", 2) "2:" #count \
                                          " " GB_KEY("split.tensors.count", 5) "4:" #total " "
#define PART_0    \
    GB_HEAD(1, 4) \
    GB_STR("general.name", "set") SPLIT(0, 3, 3) GB_DIM1("a", 8) GB_TYPE(0, 0) "pad:32 f:1 z:28"
#define PART_1 GB_HEAD(0, 3) SPLIT(1, 3, 3)
#define PART_2     \
    GB_HEAD(2, 3)  \
    SPLIT(2, 3, 3) \
    GB_DIM1("c", 8) GB_TYPE(0, 32) GB_DIM1("b", 8) GB_TYPE(0, 0) "pad:32 f:2 z:28 f:3 z:28"

static void save(const char *name, const char *words)
{
    gb_bytes b = gb_build(words);
    if (!gb_save(&b, in_folder(name)))
        bail("cannot write %s", in_folder(name));
    gb_free(&b);
}

static void save_set(void)
{
    save("m-00001-of-00003.gguf", PART_0);
    save("m-00002-of-00003.gguf", PART_1);
    save("m-00003-of-00003.gguf", PART_2);
}

static void split_good(const char *name)
{
    nm_gguf *g = NULL;
    npumoe_error err = {0};
    if (!is_int(nm_gguf_open(in_folder(name), NULL, &g, &err), NPUMOE_OK, "%s opens the set",
                name)) {
        note("%s", err.message);
        return;
    }
    is_int(nm_gguf_n_parts(g), 3, "3 parts");
    is_u64(nm_gguf_n_tensors(g), 3, "3 tensors");
    const nm_gguf_tensor *c = nm_gguf_find_tensor(g, "c");
    float f = 0;
    if (c)
        memcpy(&f, c->data, sizeof f);
    is_near((double)f, 3, 0, "data of the last part");
    is_int(c ? c->part : 99, 2, "its part");
    ok(nm_gguf_find(g, "general.name") != NULL, "keys of the first part");
    is_str(nm_gguf_path(g), in_folder("m-00001-of-00003.gguf"), "named by the first part");
    is_str(nm_gguf_part_path(g, 2), in_folder("m-00003-of-00003.gguf"), "path of a part");
    nm_gguf_free(&g);
}

/* The message without the folder, which is random. */
static void split_bad(const char *name, npumoe_status code, const char *before, const char *want)
{
    nm_gguf *g = NULL;
    npumoe_error err = {0};
    char text[700];
    is_int(nm_gguf_open(in_folder(name), NULL, &g, &err), code, "%s: status", want);
    snprintf(text, sizeof text, "%s%s/%s", before, folder, want);
    is_str(err.message, text, "%s", want);
    nm_gguf_free(&g);
}

static void test_splits(void)
{
    save_set();
    split_good("m-00001-of-00003.gguf");
    split_good("m-00002-of-00003.gguf");
    split_good("m-00003-of-00003.gguf");

    nm_gguf_options single = {.single_part = true};
    nm_gguf *g = NULL;
    is_int(nm_gguf_open(in_folder("m-00003-of-00003.gguf"), &single, &g, NULL), NPUMOE_OK,
           "one part alone");
    is_u64(g ? nm_gguf_n_tensors(g) : 0, 2, "has its own tensors");
    nm_gguf_free(&g);

    unlink(in_folder("m-00002-of-00003.gguf"));
    split_bad("m-00001-of-00003.gguf", NPUMOE_ENOENT, "part 2 of 3 is missing: cannot open '",
              "m-00002-of-00003.gguf': No such file or directory");
    save("m-00002-of-00003.gguf", PART_0);
    split_bad("m-00001-of-00003.gguf", NPUMOE_EFORMAT, "",
              "m-00002-of-00003.gguf: the keys split.no and split.count do not say that this is "
              "part 2 of 3");
    save("m-00002-of-00003.gguf",
         GB_HEAD(1, 3) SPLIT(1, 3, 3) GB_DIM1("a", 8) GB_TYPE(0, 0) "pad:32 z:32");
    split_bad("m-00001-of-00003.gguf", NPUMOE_EFORMAT, "",
              "m-00002-of-00003.gguf: byte 114: tensor 'a': an earlier part has it too");
    save("m-00002-of-00003.gguf",
         GB_HEAD(1, 3) SPLIT(1, 3, 3) GB_DIM1("d", 8) GB_TYPE(0, 0) "pad:32 z:32");
    split_bad("m-00003-of-00003.gguf", NPUMOE_EFORMAT, "",
              "m-00001-of-00003.gguf: split.tensors.count is 3, but the 3 parts hold 4 tensors");
    save("m-00002-of-00003.gguf", "'GGUF' 4:9 z:16");
    split_bad("m-00003-of-00003.gguf", NPUMOE_EUNSUPPORTED, "",
              "m-00002-of-00003.gguf: byte 4: GGUF version 9; versions 2 and 3 are supported");
    save("renamed.gguf", PART_2);
    split_bad("renamed.gguf", NPUMOE_EFORMAT, "",
              "renamed.gguf: this is part 3 of 3 and must be called NAME-00003-of-00003.gguf, "
              "because the other parts are found by name");
    save("m-00001-of-00003.gguf", PART_2);
    split_bad("m-00001-of-00003.gguf", NPUMOE_EFORMAT, "",
              "m-00001-of-00003.gguf: the name says part 1 of 3, its keys say part 3 of 3");
    save("m-00001-of-00003.gguf", GB_HEAD(0, 3) SPLIT(3, 3, 0));
    split_bad("m-00001-of-00003.gguf", NPUMOE_EFORMAT, "",
              "m-00001-of-00003.gguf: split.no is 3, expected less than split.count, 3");
    save("m-00001-of-00003.gguf", GB_HEAD(0, 1) GB_STR("split.count", "three"));
    split_bad("m-00001-of-00003.gguf", NPUMOE_EFORMAT, "",
              "m-00001-of-00003.gguf: byte 47: key 'split.count': expected an integer from 0 to "
              "99999");
    save("m-00001-of-00003.gguf", GB_HEAD(0, 1) GB_STR("general.name", "whole"));
    is_int(nm_gguf_open(in_folder("m-00001-of-00003.gguf"), NULL, &g, NULL), NPUMOE_OK,
           "no split.count: a whole file, whatever its name");
    nm_gguf_free(&g);
}

static void test_paths(void)
{
    nm_gguf *g = NULL;
    npumoe_error err = {0};
    is_int(nm_gguf_open(in_folder("none.gguf"), NULL, &g, &err), NPUMOE_ENOENT, "no such file");
    is_int(nm_gguf_open(folder, NULL, &g, &err), NPUMOE_EINVAL, "a folder");
    if (mkfifo(in_folder("pipe"), 0600) == 0)
        is_int(nm_gguf_open(in_folder("pipe"), NULL, &g, &err), NPUMOE_EINVAL,
               "a pipe is refused, not waited for");
    else
        skip(1, "no pipes here");
}

/* ---- memory and time ----------------------------------------------------------------------- */

typedef struct counting {
    long live, until_failure; /* blocks out; calls that still succeed */
} counting;

static void *counting_realloc(void *ctx, void *ptr, size_t bytes)
{
    counting *c = ctx;
    if (c->until_failure-- <= 0)
        return NULL;
    c->live += ptr == NULL;
    return realloc(ptr, bytes);
}

static void counting_free(void *ctx, void *ptr)
{
    counting *c = ctx;
    c->live -= ptr != NULL;
    free(ptr);
}

static void test_allocation_failures(void)
{
    gb_bytes b = gb_build(GB_HEAD(2, 3) GB_U32("general.alignment", 32)
                              GB_ARR("strs", 8, 2) "s=one s=two " GB_STR("s", "x") GB_DIM1("t", 8)
                                  GB_TYPE(0, 0) GB_DIM1("u", 8) GB_TYPE(0, 32) "pad:32 z:64");
    long n = 0, leaked = 0, wrong = 0;
    npumoe_status st = NPUMOE_ENOMEM;
    for (; st != NPUMOE_OK && n < 100; n++) {
        counting c = {.until_failure = n};
        npumoe_allocator a = {&c, counting_realloc, counting_free};
        nm_gguf_options o = {.allocator = &a};
        nm_gguf *g = NULL;
        npumoe_error err = {0};
        st = nm_gguf_open_memory(b.p, b.n, "m.gguf", &o, &g, &err);
        wrong += st != NPUMOE_OK && (st != NPUMOE_ENOMEM || g || err.code != st);
        nm_gguf_free(&g);
        leaked += c.live != 0;
    }
    is_int(st, NPUMOE_OK, "opens once %ld allocations succeed", n - 1);
    ok(n > 5, "failed at each of them before");
    is_int(wrong, 0, "each failure is ENOMEM");
    is_int(leaked, 0, "and leaks nothing");
    gb_free(&b);
}

/* A hundred thousand names that share a long beginning, in falling order: sorting and looking up
 * must not become quadratic (then this takes minutes, not a fraction of a second). */
static void test_many_names(void)
{
    enum { N = 100000 };
    gb_bytes b = gb_build("'GGUF' 4:3 8:0 8:100000");
    b.p = realloc(b.p, b.n + N * (8 + 38 + 4 + 1));
    if (!b.p)
        bail("out of memory");
    for (int i = 0; i < N; i++) {
        unsigned char *p = b.p + b.n;
        memset(p, 0, 8 + 38 + 4 + 1);
        p[0] = 38;
        memcpy(p + 8, "a.long.prefix.that.all.names.sha", 32);
        snprintf((char *)p + 40, 7, "%06d", N - i);
        p[46] = NM_GGUF_U8; /* the kind, over the terminator */
        b.n += 8 + 38 + 4 + 1;
    }
    nm_gguf *g = NULL;
    npumoe_error err = {0};
    is_int(nm_gguf_open_memory(b.p, b.n, "m.gguf", NULL, &g, &err), NPUMOE_OK, "%d keys", N);
    size_t found = 0;
    for (size_t i = 0; g && i < nm_gguf_n_kv(g); i++) {
        char key[40] = "";
        memcpy(key, nm_gguf_kv_at(g, i)->key.p, 38);
        found += nm_gguf_find(g, key) == nm_gguf_kv_at(g, i);
    }
    is_u64(found, N, "each is found");
    nm_gguf_free(&g);
    gb_free(&b);
}

/* ---- writer -------------------------------------------------------------------------------- */

static npumoe_status put_everything(nm_gguf_writer *w, npumoe_error *err)
{
    static const int32_t ints[] = {-1, 0, 1 << 30};
    const nm_str strings[] = {NM_STR("one"), NM_STR(""), NM_STR("three")};
    NM_TRY(nm_gguf_put_u32(w, "u32", 4000000000u, err));
    NM_TRY(nm_gguf_put_u64(w, "u64", UINT64_MAX, err));
    NM_TRY(nm_gguf_put_i32(w, "i32", -5, err));
    NM_TRY(nm_gguf_put_f32(w, "f32", 0.1f, err));
    NM_TRY(nm_gguf_put_bool(w, "bool", true, err));
    NM_TRY(nm_gguf_put_str(w, "str", NM_STR("a\0b"), err));
    NM_TRY(nm_gguf_put_str_array(w, "strs", strings, 3, err));
    NM_TRY(nm_gguf_put_array(w, "ints", NM_GGUF_I32, ints, 3, err));
    return nm_gguf_put_array(w, "empty", NM_GGUF_F32, NULL, 0, err);
}

static npumoe_status put_tensors(nm_gguf_writer *w, npumoe_error *err)
{
    const uint64_t shape[] = {5, 3}, q8[] = {32, 2, 2};
    unsigned char data[136];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)i;
    NM_TRY(nm_gguf_put_tensor(w, "odd", NM_TYPE_F16, 2, shape, err));
    NM_TRY(nm_gguf_put_tensor(w, "q8", NM_TYPE_Q8_0, 3, q8, err));
    NM_TRY(nm_gguf_begin_data(w, err));
    for (size_t i = 0; i < 30; i += 10) /* in three pieces */
        NM_TRY(nm_gguf_write_data(w, data + i, 10, err));
    NM_TRY(nm_gguf_write_data(w, data, 136, err));
    return nm_gguf_writer_finish(w, err);
}

static npumoe_status write_file(const char *path, npumoe_error *err)
{
    nm_gguf_writer *w = NULL;
    NM_TRY(nm_gguf_writer_new(NULL, path, &w, err));
    npumoe_status st = put_everything(w, err);
    if (st == NPUMOE_OK)
        st = put_tensors(w, err);
    nm_gguf_writer_free(&w);
    return st;
}

static void check_written(const nm_gguf *g)
{
    npumoe_error err;
    uint32_t u = 0;
    float f = 0;
    nm_str s = {0};
    nm_gguf_array a = {0};
    is_u64(nm_gguf_n_kv(g), 9, "9 keys");
    ok(!nm_gguf_get_u32(g, "u32", &u, &err) && u == 4000000000u, "u32");
    is_u64(nm_gguf_find(g, "u64")->v.u, UINT64_MAX, "u64");
    is_int(nm_gguf_find(g, "i32")->v.i, -5, "i32");
    ok(!nm_gguf_get_f32(g, "f32", &f, &err) && f == 0.1f, "f32");
    is_u64(nm_gguf_find(g, "bool")->v.u, 1, "bool");
    ok(!nm_gguf_get_str(g, "str", &s, &err) && nm_str_eq(s, NM_STR("a\0b")), "string with a zero");
    ok(!nm_gguf_get_arr(g, "strs", NM_GGUF_STRING, &a, &err) && a.count == 3 &&
           nm_str_eqz(a.strings[2], "three"),
       "strings");
    ok(!nm_gguf_get_arr(g, "ints", NM_GGUF_I32, &a, &err) && nm_gguf_arr_i64(&a, 2) == 1 << 30,
       "ints");
    const nm_gguf_tensor *odd = nm_gguf_find_tensor(g, "odd"), *q8 = nm_gguf_find_tensor(g, "q8");
    is_u64(odd->bytes, 30, "bytes of 5 x 3 F16");
    is_int(((const unsigned char *)odd->data)[29], 29, "its last byte");
    is_u64(q8->offset, odd->offset + 32, "the next tensor is aligned");
    is_int(((const unsigned char *)q8->data)[135], 135, "its last byte");
    is_u64(nm_gguf_mapped_bytes(g), q8->offset + 160, "the last tensor is padded too");
}

static bool exists(const char *name)
{
    return access(in_folder(name), F_OK) == 0;
}

static void test_writer(void)
{
    char partial[80];
    nm_gguf *g = NULL;
    npumoe_error err = {0};
    snprintf(partial, sizeof partial, "w.gguf.partial.%ld", (long)getpid());
    if (!is_int(write_file(in_folder("w.gguf"), &err), NPUMOE_OK, "a file is written"))
        bail("%s", err.message);
    is_int(nm_gguf_open(in_folder("w.gguf"), NULL, &g, &err), NPUMOE_OK, "and read back");
    check_written(g);
    nm_gguf_free(&g);
    is_int(exists(partial), 0, "no partial file is left");
}

/* Copies every key of a file into a new one and compares the bytes of the two key sections. */
static void test_copy(void)
{
    gb_bytes b;
    nm_gguf *g = open_words(kinds_words, &b), *copy = NULL;
    nm_gguf_writer *w = NULL;
    npumoe_error err = {0};
    npumoe_status st = nm_gguf_writer_new(NULL, in_folder("copy.gguf"), &w, &err);
    for (size_t i = 0; i < nm_gguf_n_kv(g) && st == NPUMOE_OK; i++)
        st = nm_gguf_put_copy(w, nm_gguf_kv_at(g, i), &err);
    if (st == NPUMOE_OK)
        st = nm_gguf_writer_finish(w, &err);
    is_int(st, NPUMOE_OK, "all kinds are copied");
    nm_gguf_writer_free(&w);
    is_int(nm_gguf_open(in_folder("copy.gguf"), NULL, &copy, &err), NPUMOE_OK, "and read back");
    nm_map m = {0};
    if (nm_map_open(in_folder("copy.gguf"), &m, &err) != NPUMOE_OK)
        bail("%s", err.message);
    ok(m.bytes >= b.n, "the copy is there");
    is_mem(m.data, b.p, b.n, "byte for byte");
    nm_map_close(&m);
    nm_gguf_free(&copy);
    nm_gguf_free(&g);
    gb_free(&b);
}

static nm_gguf_writer *writer(void)
{
    nm_gguf_writer *w = NULL;
    if (nm_gguf_writer_new(NULL, in_folder("bad.gguf"), &w, NULL) != NPUMOE_OK)
        bail("no writer");
    return w;
}

static void test_writer_refuses(void)
{
    const uint64_t ne[] = {32, 2}, odd[] = {31}, zero[] = {0};
    char long_name[65];
    memset(long_name, 'x', 64);
    long_name[64] = '\0';
    nm_gguf_writer *w = writer();
    is_int(nm_gguf_put_tensor(w, long_name, 0, 1, ne, NULL), NPUMOE_EINVAL, "a name of 64 bytes");
    is_int(nm_gguf_put_tensor(w, "t", NM_TYPE_Q8_0, 1, odd, NULL), NPUMOE_EINVAL, "rows of 31");
    is_int(nm_gguf_put_tensor(w, "t", 0, 1, zero, NULL), NPUMOE_EINVAL, "rows of 0");
    is_int(nm_gguf_put_tensor(w, "t", 0, 5, ne, NULL), NPUMOE_EINVAL, "5 dimensions");
    is_int(nm_gguf_put_tensor(w, "t", 4, 1, ne, NULL), NPUMOE_EINVAL, "an unknown type");
    is_int(nm_gguf_put_u32(w, "", 1, NULL), NPUMOE_EINVAL, "an empty key");
    is_int(nm_gguf_put_u32(w, "general.alignment", 33, NULL), NPUMOE_EINVAL, "alignment 33");
    is_int(nm_gguf_write_data(w, ne, 8, NULL), NPUMOE_EINVAL, "data before begin_data");
    is_int(nm_gguf_put_tensor(w, "t", 0, 2, ne, NULL), NPUMOE_OK, "a good tensor");
    is_int(nm_gguf_begin_data(w, NULL), NPUMOE_OK, "begin");
    is_int(nm_gguf_put_u32(w, "late", 1, NULL), NPUMOE_EINVAL, "a key after the data began");
    is_int(nm_gguf_write_data(w, long_name, 64, NULL), NPUMOE_OK, "64 of 256 bytes");
    is_int(nm_gguf_writer_finish(w, NULL), NPUMOE_EINVAL, "finish with bytes missing");
    static const char zeros[256];
    is_int(nm_gguf_write_data(w, zeros, 193, NULL), NPUMOE_EINVAL, "one byte too many");
    nm_gguf_writer_free(&w);
    is_int(exists("bad.gguf"), 0, "no file is left");

    w = writer();
    is_int(nm_gguf_put_u32(w, "k", 1, NULL), NPUMOE_OK, "a key");
    is_int(nm_gguf_put_u32(w, "k", 1, NULL), NPUMOE_OK, "again");
    is_int(nm_gguf_begin_data(w, NULL), NPUMOE_EINVAL, "the same key twice");
    nm_gguf_writer_free(&w);
    is_int(nm_gguf_writer_new(NULL, "/nowhere/x.gguf", &w, NULL), NPUMOE_ENOENT, "no such folder");
}

/* The alignment that a key asks for is the one that the file has. */
static void test_writer_alignment(void)
{
    const uint64_t ne[] = {3};
    nm_gguf_writer *w = writer();
    nm_gguf *g = NULL;
    npumoe_status st = nm_gguf_put_tensor(w, "a", 0, 1, ne, NULL);
    st = st ? st : nm_gguf_put_tensor(w, "b", 0, 1, ne, NULL);
    st = st ? st : nm_gguf_put_u32(w, "general.alignment", 4096, NULL);
    st = st ? st : nm_gguf_begin_data(w, NULL);
    st = st ? st : nm_gguf_write_data(w, "0123456789ab", 12, NULL);
    st = st ? st : nm_gguf_write_data(w, "0123456789ab", 12, NULL);
    st = st ? st : nm_gguf_writer_finish(w, NULL);
    nm_gguf_writer_free(&w);
    is_int(st, NPUMOE_OK, "alignment 4096");
    is_int(nm_gguf_open(in_folder("bad.gguf"), NULL, &g, NULL), NPUMOE_OK, "is read back");
    is_u64(g ? nm_gguf_find_tensor(g, "b")->offset : 0, 8192, "the second tensor is on a page");
    nm_gguf_free(&g);
}

/* ---- real files ---------------------------------------------------------------------------- */

static void test_vocab_file(const char *name, uint64_t n_tokens)
{
    char path[200];
    nm_gguf *g = NULL;
    npumoe_error err = {0};
    nm_gguf_array a = {0};
    snprintf(path, sizeof path, "../shared/vocab/%s", name);
    if (access(path, R_OK) != 0) {
        skip(2, "%s is not there", path);
        return;
    }
    if (!is_int(nm_gguf_open(path, NULL, &g, &err), NPUMOE_OK, "%s", name))
        bail("%s", err.message);
    is_int(nm_gguf_get_arr(g, "tokenizer.ggml.tokens", NM_GGUF_STRING, &a, &err), NPUMOE_OK,
           "has tokens");
    is_u64(a.count, n_tokens, "as many as there should be");
    nm_gguf_free(&g);
}

int main(void)
{
    if (!mkdtemp(folder))
        bail("cannot make a folder in /tmp");
    test_metadata();
    test_tensors();
    test_versions();
    test_splits();
    test_paths();
    test_allocation_failures();
    test_many_names();
    test_writer();
    test_copy();
    test_writer_refuses();
    test_writer_alignment();
    test_vocab_file("ggml-vocab-llama-spm.gguf", 32000);
    test_vocab_file("ggml-vocab-qwen2.gguf", 151657);

    static const char *const left[] = {"m-00001-of-00003.gguf",
                                       "m-00002-of-00003.gguf",
                                       "m-00003-of-00003.gguf",
                                       "renamed.gguf",
                                       "pipe",
                                       "w.gguf",
                                       "copy.gguf",
                                       "bad.gguf"};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        unlink(in_folder(left[i]));
    is_int(rmdir(folder), 0, "nothing else was left behind");
    return done_testing();
}
