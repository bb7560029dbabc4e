/* UTF-8: every code point there and back, every kind of ill-formed bytes. */
#include "base/utf8.h"

#include "tap.h"

static void test_all_code_points(void)
{
    uint32_t wrong = 0, refused = 0;
    for (uint32_t cp = 0; cp <= 0x110010; cp++) {
        char out[NM_UTF8_MAX];
        uint32_t back = 0;
        size_t n = nm_utf8_put(cp, out);
        if (n == 0)
            refused++;
        else if ((size_t)nm_utf8_next(out, n, &back) != n || back != cp ||
                 nm_utf8_valid(out, n) != n || (n > 1 && nm_utf8_next(out, n - 1, &back) != 0))
            wrong++;
    }
    is_int(wrong, 0, "code points come back, and are incomplete without their last byte");
    is_int(refused, 0x800 + 0x11, "surrogates and what is above U+10FFFF are refused");
}

typedef struct bad {
    const char *bytes;
    size_t n;
    int next; /* what nm_utf8_next says of the first bytes */
} bad;

static void test_ill_formed(void)
{
    static const bad list[] = {
        {"\x80", 1, -1},
        {"\xbf\x80", 2, -1},
        {"\xc0\x80", 2, -1},
        {"\xc1\xbf", 2, -1},
        {"\xc2", 1, 0},
        {"\xc2\x41", 2, -1},
        {"\xe0\x9f\xbf", 3, -1},
        {"\xe0\xa0", 2, 0},
        {"\xe0\xa0\x41", 3, -2},
        {"\xed\xa0\x80", 3, -1},
        {"\xed\x9f", 2, 0},
        {"\xe4\xb8", 2, 0},
        {"\xe4\xb8\xe4", 3, -2},
        {"\xf0\x8f\xbf\xbf", 4, -1},
        {"\xf0\x9f\x98", 3, 0},
        {"\xf0\x9f\x98x", 4, -3},
        {"\xf4\x90\x80\x80", 4, -1},
        {"\xf5\x80\x80\x80", 4, -1},
        {"\xff", 1, -1},
        {"\xfe\xfe", 2, -1},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        uint32_t cp;
        is_int(nm_utf8_next(list[i].bytes, list[i].n, &cp), list[i].next, "ill-formed %zu", i);
        is_int((int64_t)nm_utf8_valid(list[i].bytes, list[i].n), 0, "no valid prefix in %zu", i);
    }
}

static void test_valid_prefix(void)
{
    /* A bad byte at every place of a text longer than a machine word. */
    const char text[] = "abcdefgh\xc3\xa9ijklmnop\xf0\x9f\x98\x80qrstuvwx";
    size_t n = sizeof text - 1;
    is_int((int64_t)nm_utf8_valid(text, n), (int64_t)n, "a valid text is valid to its end");
    for (size_t i = 0; i < n; i++) {
        char copy[sizeof text];
        memcpy(copy, text, sizeof text);
        copy[i] = (char)0xff;
        size_t want = i;
        while (want > 0 && (text[want] & 0xc0) == 0x80)
            want--;
        is_int((int64_t)nm_utf8_valid(copy, n), (int64_t)want, "bad byte at %zu", i);
    }
    is_int((int64_t)nm_utf8_valid(NULL, 0), 0, "an empty text");
}

int main(void)
{
    test_all_code_points();
    test_ill_formed();
    test_valid_prefix();
    return done_testing();
}
