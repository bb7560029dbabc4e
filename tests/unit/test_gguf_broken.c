/* test_gguf_broken.c: files that must be refused, each with its exact message and offset.
 *
 * Every file is tried twice: as a heap block of exactly its size, so that AddressSanitizer sees a
 * read past the end, and as a file on disk, through the mapping. The bytes are in the table; the
 * language is in gguf_build.h. Offsets in the messages were worked out by hand from the words.
 *
 * Then a good file with every kind of entry is cut at every length (always refused), and every
 * byte of it is changed in turn (never a crash). */
#include "formats/gguf.h"
#include "gguf_build.h"
#include "tap.h"

#include <unistd.h>

typedef struct broken {
    const char *name;
    const char *words;
    npumoe_status code;
    const char *message; /* without the file name */
} broken;

#define F NPUMOE_EFORMAT
#define U NPUMOE_EUNSUPPORTED

/* clang-format off */
static const broken cases[] = {
    /* ---- header: magic 0, version 4, tensors 8, keys 16, first entry 24 */
    {"empty file", "",
     F, "byte 0: the file is empty, expected a GGUF file"},
    {"half a magic", "'GG'",
     F, "byte 0: truncated: the magic 'GGUF' needs 4 bytes, 2 are left in the file"},
    {"another format", "'GGML' z:40",
     F, "byte 0: not a GGUF file: it begins with 47 47 4d 4c, expected 47 47 55 46 ('GGUF')"},
    {"magic alone", "'GGUF'",
     F, "byte 4: truncated: the version needs 4 bytes, 0 are left in the file"},
    {"cut in the version", "'GGUF' 2:3",
     F, "byte 4: truncated: the version needs 4 bytes, 2 are left in the file"},
    {"version 0", "'GGUF' 4:0 8:0 8:0",
     U, "byte 4: GGUF version 0; versions 2 and 3 are supported"},
    {"version 1", "'GGUF' 4:1 4:0 4:0",
     U, "byte 4: GGUF version 1; versions 2 and 3 are supported"},
    {"version 4", "'GGUF' 4:4 8:0 8:0",
     U, "byte 4: GGUF version 4; versions 2 and 3 are supported"},
    {"big-endian version 3", "'GGUF' 4:0x03000000 z:16",
     U, "byte 4: a big-endian file (version field 0x03000000); little-endian files are supported"},
    {"cut in the tensor count", "'GGUF' 4:3 4:0",
     F, "byte 8: truncated: the number of tensors needs 8 bytes, 4 are left in the file"},
    {"cut in the key count", "'GGUF' 4:3 8:0 4:0",
     F, "byte 16: truncated: the number of keys needs 8 bytes, 4 are left in the file"},
    {"more tensors than the file can hold", GB_HEAD(3, 0) "z:98",
     F, "byte 8: the header says 3 tensors, but the 98 bytes that follow hold at most 2"},
    {"2^64-1 tensors", GB_HEAD(-1, 0) "z:98",
     F, "byte 8: the header says 18446744073709551615 tensors, but the 98 bytes that follow hold at most 2"},
    {"2^63 keys", GB_HEAD(0, 0x8000000000000000) "z:64",
     F, "byte 16: the header says 9223372036854775808 keys, but the 64 bytes that follow hold at most 4"},
    {"keys, but the file ends", GB_HEAD(0, 1),
     F, "byte 16: the header says 1 keys, but the 0 bytes that follow hold at most 0"},
    {"more keys than there are", GB_HEAD(0, 2) GB_STR("a", "0123456789abcdef"),
     F, "byte 61: key 1: truncated: the length of the name needs 8 bytes, 0 are left in the file"},

    /* ---- keys: name length at 24 */
    {"empty key", GB_HEAD(0, 1) GB_U32("", 1) "z:8",
     F, "byte 24: key 0: the name has 0 bytes, expected 1 to 65535"},
    {"key of 65536 bytes", GB_HEAD(0, 1) "S:65536 4:4 4:1",
     F, "byte 24: key 0: the name has 65536 bytes, expected 1 to 65535"},
    {"key longer than the file", GB_HEAD(0, 1) "8:100 'abcdefgh'",
     F, "byte 32: key 0: truncated: the name needs 100 bytes, 8 are left in the file"},
    {"key of 2^64-1 bytes", GB_HEAD(0, 1) "8:-1 'abcdefgh'",
     F, "byte 32: key 0: truncated: the name needs 18446744073709551615 bytes, 8 are left in the file"},
    {"cut in the kind", GB_HEAD(0, 1) "s=abcdef 2:4",
     F, "byte 38: key 'abcdef': truncated: the kind needs 4 bytes, 2 are left in the file"},
    {"kind 13", GB_HEAD(0, 1) GB_KEY("a", 13) "4:0",
     F, "byte 33: key 'a': the kind is 13, expected 0 to 12"},
    {"kind 13 of a key with NUL and escape", GB_HEAD(0, 1) "8:5 'ab' 1:0 1:27 'c' 4:13 4:0",
     F, "byte 37: key 'ab??c': the kind is 13, expected 0 to 12"},
    {"kind 2^32-1", GB_HEAD(0, 1) GB_KEY("a", -1) "4:0",
     F, "byte 33: key 'a': the kind is 4294967295, expected 0 to 12"},
    {"u8 without a value", GB_HEAD(0, 1) GB_KEY("ab", 0),
     F, "byte 38: key 'ab': truncated: the value needs 1 bytes, 0 are left in the file"},
    {"cut in a u32", GB_HEAD(0, 1) GB_KEY("ab", 4) "2:1",
     F, "byte 38: key 'ab': truncated: the value needs 4 bytes, 2 are left in the file"},
    {"cut in a u64", GB_HEAD(0, 1) GB_KEY("ab", 10) "4:1",
     F, "byte 38: key 'ab': truncated: the value needs 8 bytes, 4 are left in the file"},
    {"cut in an f64", GB_HEAD(0, 1) GB_KEY("ab", 12) "z:7",
     F, "byte 38: key 'ab': truncated: the value needs 8 bytes, 7 are left in the file"},
    {"bool 2", GB_HEAD(0, 1) GB_KEY("ab", 7) "1:2",
     F, "byte 38: key 'ab': a boolean is 2, expected 0 or 1"},
    {"cut in a string's length", GB_HEAD(0, 1) GB_KEY("ab", 8) "4:5",
     F, "byte 38: key 'ab': truncated: the length of the value needs 8 bytes, 4 are left in the file"},
    {"string longer than the file", GB_HEAD(0, 1) GB_KEY("ab", 8) "8:5 'abcd'",
     F, "byte 46: key 'ab': truncated: the value needs 5 bytes, 4 are left in the file"},
    {"string of 2^64-1 bytes", GB_HEAD(0, 1) GB_KEY("ab", 8) "8:-1 'abcd'",
     F, "byte 46: key 'ab': truncated: the value needs 18446744073709551615 bytes, 4 are left in the file"},
    {"key twice", GB_HEAD(0, 2) GB_U32("ab", 1) GB_U32("ab", 1),
     F, "byte 50: key 'ab': occurs twice"},
    {"key twice, others between", GB_HEAD(0, 4) GB_U32("ab", 1) GB_U32("a", 1) GB_U32("abc", 1) GB_U32("ab", 2),
     F, "byte 86: key 'ab': occurs twice"},
    {"two keys twice: the first repetition", GB_HEAD(0, 4) GB_U32("z", 1) GB_U32("a", 1) GB_U32("z", 1) GB_U32("a", 1),
     F, "byte 66: key 'z': occurs twice"},
    {"terminal escape in a key", GB_HEAD(0, 1) GB_KEY("a\033[2Jb", 99) "4:0",
     F, "byte 38: key 'a?[2Jb': the kind is 99, expected 0 to 12"},

    /* ---- arrays: element kind at 38, count at 42, elements at 50 */
    {"array without a kind", GB_HEAD(0, 1) GB_KEY("ab", 9) "2:4",
     F, "byte 38: key 'ab': truncated: the kind of the array's elements needs 4 bytes, 2 are left in the file"},
    {"array of kind 99", GB_HEAD(0, 1) GB_ARR("ab", 99, 0),
     F, "byte 38: key 'ab': the kind of the array's elements is 99, expected 0 to 12"},
    {"array without a count", GB_HEAD(0, 1) GB_KEY("ab", 9) "4:4 4:1",
     F, "byte 42: key 'ab': truncated: the array's count needs 8 bytes, 4 are left in the file"},
    {"array of u8 too long", GB_HEAD(0, 1) GB_ARR("ab", 0, 5) "z:4",
     F, "byte 42: key 'ab': the array's count is 5, but the 4 bytes left in the file hold at most 4 of kind u8"},
    {"array of u64 whose bytes overflow", GB_HEAD(0, 1) GB_ARR("ab", 10, 0x2000000000000001) "z:8",
     F, "byte 42: key 'ab': the array's count is 2305843009213693953, but the 8 bytes left in the file hold at most 1 of kind u64"},
    {"array of f32, the last one cut", GB_HEAD(0, 1) GB_ARR("ab", 6, 3) "z:11",
     F, "byte 42: key 'ab': the array's count is 3, but the 11 bytes left in the file hold at most 2 of kind f32"},
    {"array of bool with a 255", GB_HEAD(0, 1) GB_ARR("ab", 7, 3) "1:0 1:1 1:255",
     F, "byte 52: key 'ab': a boolean is 255, expected 0 or 1"},
    {"array of 2^60 strings", GB_HEAD(0, 1) GB_ARR("ab", 8, 0x1000000000000000) "z:64",
     F, "byte 42: key 'ab': the array's count is 1152921504606846976, but the 64 bytes left in the file hold at most 8 of kind string"},
    {"array of strings, the second too long", GB_HEAD(0, 1) GB_ARR("ab", 8, 2) "s=abc 8:9 'abc'",
     F, "byte 69: key 'ab': truncated: a string needs 9 bytes, 3 are left in the file"},
    {"array of strings, the last missing", GB_HEAD(0, 1) GB_ARR("ab", 8, 2) "s=abcdefgh",
     F, "byte 66: key 'ab': truncated: the length of a string needs 8 bytes, 0 are left in the file"},
    {"array of too many arrays", GB_HEAD(0, 1) GB_ARR("ab", 9, 3) "z:35",
     F, "byte 42: key 'ab': the array's count is 3, but the 35 bytes left in the file hold at most 2 of kind array"},
    {"array in an array with a bad kind", GB_HEAD(0, 1) GB_ARR("ab", 9, 1) "4:77 8:0",
     F, "byte 50: key 'ab': the kind of the array's elements is 77, expected 0 to 12"},
    {"array in an array, too long", GB_HEAD(0, 1) GB_ARR("ab", 9, 1) "4:5 8:2 4:1",
     F, "byte 54: key 'ab': the array's count is 2, but the 4 bytes left in the file hold at most 1 of kind i32"},
    {"array in an array with bool 3", GB_HEAD(0, 1) GB_ARR("ab", 9, 2) "4:7 8:1 1:1 4:7 8:1 1:3",
     F, "byte 75: key 'ab': a boolean is 3, expected 0 or 1"},
    {"arrays five deep", GB_HEAD(0, 1) GB_ARR("ab", 9, 1) "4:9 8:1 4:9 8:1 4:9 8:1 4:0 8:1 1:0",
     F, "byte 86: key 'ab': arrays are nested deeper than 4 levels"},

    /* ---- alignment: value of the key at 53 */
    {"alignment as u64", GB_HEAD(0, 1) GB_KEY("general.alignment", 10) "8:32",
     F, "byte 53: key 'general.alignment': is of kind u64, expected u32"},
    {"alignment as string", GB_HEAD(0, 1) GB_STR("general.alignment", "32"),
     F, "byte 53: key 'general.alignment': is of kind string, expected u32"},
    {"alignment 0", GB_HEAD(0, 1) GB_U32("general.alignment", 0),
     F, "byte 53: key 'general.alignment': is 0, expected a power of two from 8 to 1048576"},
    {"alignment 4", GB_HEAD(0, 1) GB_U32("general.alignment", 4),
     F, "byte 53: key 'general.alignment': is 4, expected a power of two from 8 to 1048576"},
    {"alignment 48", GB_HEAD(0, 1) GB_U32("general.alignment", 48),
     F, "byte 53: key 'general.alignment': is 48, expected a power of two from 8 to 1048576"},
    {"alignment 2 MiB", GB_HEAD(0, 1) GB_U32("general.alignment", 0x200000),
     F, "byte 53: key 'general.alignment': is 2097152, expected a power of two from 8 to 1048576"},
    {"alignment twice", GB_HEAD(0, 2) GB_U32("general.alignment", 32) GB_U32("general.alignment", 64),
     F, "byte 65: key 'general.alignment': occurs twice"},

    /* ---- tensors: name length at 24, with a name of one byte: dims at 33, ne from 37 */
    {"tensor without a name", GB_HEAD(1, 0) GB_DIM1("", 8) GB_TYPE(0, 0) "pad:32 z:64",
     F, "byte 24: tensor 0: the name has 0 bytes, expected 1 to 63"},
    {"tensor name of 64 bytes", GB_HEAD(1, 0) "S:64 4:1 8:8 " GB_TYPE(0, 0) "pad:32 z:32",
     F, "byte 24: tensor 0: the name has 64 bytes, expected 1 to 63"},
    {"tensor name longer than the file", GB_HEAD(1, 0) "8:60 z:40",
     F, "byte 32: tensor 0: truncated: the name needs 60 bytes, 40 are left in the file"},
    {"no dimensions", GB_HEAD(1, 0) "s=t 4:0 " GB_TYPE(0, 0) "z:64",
     F, "byte 33: tensor 't': 0 dimensions, expected 1 to 4"},
    {"five dimensions", GB_HEAD(1, 0) "s=t 4:5 8:1 8:1 8:1 8:1 8:1 " GB_TYPE(0, 0) "z:64",
     F, "byte 33: tensor 't': 5 dimensions, expected 1 to 4"},
    {"2^32-1 dimensions", GB_HEAD(1, 0) "s=t 4:-1 z:64",
     F, "byte 33: tensor 't': 4294967295 dimensions, expected 1 to 4"},
    {"cut in the number of dimensions", GB_HEAD(1, 0) "s=abcdefghijklmnopqrstuvw 2:1",
     F, "byte 55: tensor 'abcdefghijklmnopqrstuvw': truncated: the number of dimensions needs 4 bytes, 2 are left in the file"},
    {"cut in a dimension", GB_HEAD(1, 0) "s=t 4:3 8:8 8:8 4:1",
     F, "byte 53: tensor 't': truncated: a dimension needs 8 bytes, 4 are left in the file"},
    {"dimension 0", GB_HEAD(1, 0) GB_DIM2("t", 8, 0) GB_TYPE(0, 0) "pad:32",
     F, "byte 45: tensor 't': dimension 1 is 0, expected 1 or more"},
    {"dimension 2^63", GB_HEAD(1, 0) GB_DIM1("t", 0x8000000000000000) GB_TYPE(0, 0),
     F, "byte 37: tensor 't': the product of its dimensions exceeds 2^63 - 1 (dimension 0 is 9223372036854775808)"},
    {"2^32 x 2^32 elements", GB_HEAD(1, 0) GB_DIM2("t", 0x100000000, 0x100000000) GB_TYPE(0, 0),
     F, "byte 45: tensor 't': the product of its dimensions exceeds 2^63 - 1 (dimension 1 is 4294967296)"},
    {"2^32 x 2^31 elements", GB_HEAD(1, 0) GB_DIM2("t", 0x100000000, 0x80000000) GB_TYPE(0, 0),
     F, "byte 45: tensor 't': the product of its dimensions exceeds 2^63 - 1 (dimension 1 is 2147483648)"},
    {"2^62 elements of 4 bytes", GB_HEAD(1, 0) GB_DIM2("t", 0x80000000, 0x80000000) GB_TYPE(0, 0),
     F, "byte 53: tensor 't': its size in bytes as F32 exceeds 2^63 - 1"},
    {"cut in the type", GB_HEAD(1, 0) "s=abcdefghijklm 4:1 8:8 2:0",
     F, "byte 57: tensor 'abcdefghijklm': truncated: the type needs 4 bytes, 2 are left in the file"},
    {"type 4, which was removed", GB_HEAD(1, 0) GB_DIM1("t", 32) GB_TYPE(4, 0) "pad:32 z:32",
     U, "byte 45: tensor 't': its type has the number 4, which is none of ggml's types known here"},
    {"type 1000", GB_HEAD(1, 0) GB_DIM1("t", 32) GB_TYPE(1000, 0) "pad:32 z:32",
     U, "byte 45: tensor 't': its type has the number 1000, which is none of ggml's types known here"},
    {"rows of 48 in Q8_0", GB_HEAD(1, 0) GB_DIM2("t", 48, 2) GB_TYPE(8, 0) "pad:32 z:128",
     F, "byte 53: tensor 't': its rows have 48 elements, expected a multiple of 32, the block of type Q8_0"},
    {"rows of 32 in Q4_K", GB_HEAD(1, 0) GB_DIM2("t", 32, 8) GB_TYPE(12, 0) "pad:32 z:256",
     F, "byte 53: tensor 't': its rows have 32 elements, expected a multiple of 256, the block of type Q4_K"},
    {"cut in the offset", GB_HEAD(1, 0) "s=abcdefghi 4:1 8:8 4:0 4:0",
     F, "byte 57: tensor 'abcdefghi': truncated: the offset needs 8 bytes, 4 are left in the file"},
    {"offset 4", GB_HEAD(1, 0) GB_DIM1("t", 8) GB_TYPE(0, 4) "pad:32 z:64",
     F, "byte 49: tensor 't': its offset is 4, expected a multiple of the alignment, 32"},
    {"offset 32 with alignment 64", GB_HEAD(1, 1) GB_U32("general.alignment", 64) GB_DIM1("t", 8) GB_TYPE(0, 32) "pad:64 z:64",
     F, "byte 82: tensor 't': its offset is 32, expected a multiple of the alignment, 64"},
    {"offset that overflows", GB_HEAD(1, 0) GB_DIM1("t", 8) GB_TYPE(0, 0xffffffffffffffe0) "pad:32 z:64",
     F, "byte 32: tensor 't': its offset 18446744073709551584 plus size overflows"},
    {"tensor twice", GB_HEAD(2, 0) GB_DIM1("t", 8) GB_TYPE(0, 0) GB_DIM1("t", 8) GB_TYPE(0, 32) "pad:32 z:64",
     F, "byte 65: tensor 't': occurs twice"},

    /* ---- data: infos of one tensor end at 57, data begin at 64 */
    {"no data at all", GB_HEAD(1, 0) GB_DIM1("t", 8) GB_TYPE(0, 0),
     F, "byte 57: tensor 't': truncated: its data are bytes 64 to 96, the file ends at 57"},
    {"data one byte short", GB_HEAD(1, 0) GB_DIM1("t", 8) GB_TYPE(0, 0) "pad:32 z:31",
     F, "byte 95: tensor 't': truncated: its data are bytes 64 to 96, the file ends at 95"},
    {"offset past the end", GB_HEAD(1, 0) GB_DIM1("t", 8) GB_TYPE(0, 4096) "pad:32 z:32",
     F, "byte 96: tensor 't': truncated: its data are bytes 4160 to 4192, the file ends at 96"},
    {"huge tensor in a small file", GB_HEAD(1, 0) GB_DIM2("t", 4096, 0x1000000000) GB_TYPE(12, 0) "pad:32 z:32",
     F, "byte 128: tensor 't': truncated: its data are bytes 96 to 158329674399840, the file ends at 128"},
    {"same place", GB_HEAD(2, 0) GB_DIM1("t", 8) GB_TYPE(0, 0) GB_DIM1("u", 8) GB_TYPE(0, 0) "pad:32 z:64",
     F, "byte 96: tensor 'u': its data overlap those of 't', bytes 96 to 128"},
    {"overlap", GB_HEAD(2, 0) GB_DIM1("t", 9) GB_TYPE(0, 0) GB_DIM1("u", 8) GB_TYPE(0, 32) "pad:32 z:64",
     F, "byte 128: tensor 'u': its data overlap those of 't', bytes 96 to 132"},
    {"overlap, later one first", GB_HEAD(2, 0) GB_DIM1("t", 8) GB_TYPE(0, 32) GB_DIM1("u", 9) GB_TYPE(0, 0) "pad:32 z:64",
     F, "byte 128: tensor 't': its data overlap those of 'u', bytes 96 to 132"},
};
/* clang-format on */

/* A file with every kind of value and a few tensors; nothing wrong with it. */
static const char good_words[] = GB_HEAD(3, 16) GB_STR("general.architecture",
                                                       "olmoe") GB_U32("general.alignment", 64)
    GB_KEY("u8", 0) "1:255 " GB_KEY("i8", 1) "1:-1 " GB_KEY("u16", 2) "2:65535 " GB_KEY("i16", 3) "2:-2 " GB_KEY("i32", 5) "4:-3 " GB_KEY("f32", 6) "f:1.5 " GB_KEY("yes", 7) "1:1 " GB_KEY(
        "u64",
        10) "8:-1 " GB_KEY("i64",
                           11) "8:-4 " GB_KEY("f64",
                                              12) "d:-2.25 " GB_ARR("arr.i32", 5,
                                                                    3) "4:-1 4:0 "
                                                                       "4:"
                                                                       "7 " GB_ARR("arr.str", 8, 3) "s=one s= s=three " GB_ARR(
                                                                           "arr.arr", 9,
                                                                           2) "4:8 8:1 s=x 4:9 8:1 "
                                                                              "4:2 8:2 2:1 "
                                                                              "2:2 " GB_ARR(
                                                                                  "arr."
                                                                                  "bool",
                                                                                  7, 0) GB_DIM2("w",
                                                                                                32,
                                                                                                4)
                                                                                  GB_TYPE(8, 64) GB_DIM1(
                                                                                      "norm",
                                                                                      8)
                                                                                      GB_TYPE(0, 0) "s=e 4:4 8:8 8:2 8:1 8:2 " GB_TYPE(
                                                                                          1,
                                                                                          256) "pad"
                                                                                               ":64"
                                                                                               " z:"
                                                                                               "64 "
                                                                                               "z:"
                                                                                               "192"
                                                                                               " z:"
                                                                                               "64";

static const char *temp_folder(void)
{
    static char folder[] = "/tmp/npumoe-test-gguf-XXXXXX";
    if (!mkdtemp(folder))
        bail("cannot make a folder in /tmp");
    return folder;
}

/* The number after "byte ". */
static uint64_t offset_in(const char *message)
{
    return strtoull(message + 5, NULL, 10);
}

static void expect(const broken *c, npumoe_status st, nm_gguf *g, const npumoe_error *err,
                   const char *file, const char *how)
{
    char want[700];
    snprintf(want, sizeof want, "%s: %s", file, c->message);
    is_int(st, c->code, "%s (%s): status", c->name, how);
    is_str(err->message, want, "%s (%s): message", c->name, how);
    is_u64(err->offset, offset_in(c->message), "%s (%s): offset", c->name, how);
    nm_gguf_free(&g);
}

static void try_broken(const broken *c, const char *folder)
{
    gb_bytes b = gb_build(c->words);
    nm_gguf *g = NULL;
    npumoe_error err = {0};
    char path[128];

    unsigned char *exact = malloc(b.n ? b.n : 1);
    if (!exact)
        bail("out of memory");
    memcpy(exact, b.p, b.n);
    npumoe_status st = nm_gguf_open_memory(exact, b.n, "m.gguf", NULL, &g, &err);
    expect(c, st, g, &err, "m.gguf", "memory");
    free(exact);

    g = NULL;
    err = (npumoe_error){0};
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    if (!gb_save(&b, path))
        bail("cannot write %s", path);
    st = nm_gguf_open(path, NULL, &g, &err);
    expect(c, st, g, &err, path, "file");
    unlink(path);
    gb_free(&b);
}

static npumoe_status open_exact(const unsigned char *data, size_t n)
{
    nm_gguf *g = NULL;
    unsigned char *exact = malloc(n ? n : 1);
    if (!exact)
        bail("out of memory");
    memcpy(exact, data, n);
    npumoe_status st = nm_gguf_open_memory(exact, n, "m.gguf", NULL, &g, NULL);
    nm_gguf_free(&g);
    free(exact);
    return st;
}

static void try_every_cut(void)
{
    gb_bytes b = gb_build(good_words);
    size_t data_end = b.n, accepted = 0;
    is_int(open_exact(b.p, b.n), NPUMOE_OK, "the good file is good");
    for (size_t n = 0; n < data_end; n++)
        accepted += open_exact(b.p, n) == NPUMOE_OK;
    is_u64(accepted, 0, "no cut of its %zu bytes is accepted", data_end);
    gb_free(&b);
}

static void try_every_byte(void)
{
    static const unsigned char values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    gb_bytes b = gb_build(good_words);
    size_t refused = 0;
    for (size_t i = 0; i < b.n; i++) {
        unsigned char was = b.p[i];
        for (size_t v = 0; v < sizeof values; v++) {
            b.p[i] = values[v];
            refused += open_exact(b.p, b.n) != NPUMOE_OK;
        }
        b.p[i] = was;
    }
    ok(refused > 500, "changed bytes: no crash, %zu of %zu files refused", refused,
       b.n * sizeof values);
    gb_free(&b);
}

/* An allocator that keeps the size of its largest block. */
static void *watch_realloc(void *ctx, void *ptr, size_t bytes)
{
    size_t *largest = ctx;
    *largest = bytes > *largest ? bytes : *largest;
    return realloc(ptr, bytes);
}

static void watch_free(void *ctx, void *ptr)
{
    (void)ctx;
    free(ptr);
}

/* A file of holes is large for nothing: `words`, then zeros up to `bytes`, which read as empty
 * strings. It must be refused before the index of the strings is made. */
static void try_sparse(const char *folder, const char *words, off_t bytes, const char *message)
{
    gb_bytes b = gb_build(words);
    char path[128], want[400];
    size_t largest = 0;
    npumoe_error err = {0};
    nm_gguf *g = NULL;
    const npumoe_allocator a = {&largest, watch_realloc, watch_free};
    snprintf(path, sizeof path, "%s/sparse.gguf", folder);
    snprintf(want, sizeof want, "%s: %s", path, message);
    if (!gb_save(&b, path) || truncate(path, bytes) != 0)
        bail("cannot write %s", path);
    is_int(nm_gguf_open(path, &(nm_gguf_options){.allocator = &a}, &g, &err), F, "a sparse file");
    is_str(err.message, want, "... with the numbers");
    ok(largest < 65536, "... and before memory is taken (largest block %zu bytes)", largest);
    nm_gguf_free(&g);
    unlink(path);
    gb_free(&b);
}

static void try_many_strings(const char *folder)
{
    try_sparse(folder, GB_HEAD(0, 1) GB_ARR("ab", 8, 39000000), 312000050,
               "byte 42: key 'ab': the array's count is 39000000, expected at most 16777216 "
               "strings");
    try_sparse(folder, GB_HEAD(0, 1) GB_ARR("ab", 8, 1000000) "8:9000000", 8000050,
               "byte 58: key 'ab': truncated: a string needs 9000000 bytes, 7999992 are left in "
               "the file");
}

/* Split keys are looked at in files only. */
static void try_split_of_none(const char *folder)
{
    gb_bytes b = gb_build(GB_HEAD(0, 1) GB_U32("split.count", 0));
    char path[128], want[200];
    npumoe_error err = {0};
    nm_gguf *g = NULL;
    snprintf(path, sizeof path, "%s/none.gguf", folder);
    snprintf(want, sizeof want, "%s: split.count is 0, expected 1 or more", path);
    if (!gb_save(&b, path))
        bail("cannot write %s", path);
    is_int(nm_gguf_open(path, NULL, &g, &err), F, "a set of no parts");
    is_str(err.message, want, "... is refused");
    nm_gguf_free(&g);
    unlink(path);
    gb_free(&b);
}

int main(void)
{
    const char *folder = temp_folder();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        try_broken(&cases[i], folder);
    try_many_strings(folder);
    try_split_of_none(folder);
    rmdir(folder);
    try_every_cut();
    try_every_byte();
    return done_testing();
}
