#include "base/utf8.h"

#include <string.h>

/* Second bytes that the lead byte allows: the only place where overlong forms, surrogates and
 * values above U+10FFFF can be told from good ones. */
static void second_range(unsigned char lead, unsigned char *lo, unsigned char *hi)
{
    *lo = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    *hi = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
}

int nm_utf8_next(const char *p, size_t n, uint32_t *cp)
{
    const unsigned char *b = (const unsigned char *)p;
    unsigned char lead = b[0], lo, hi;
    if (lead < 0x80) {
        *cp = lead;
        return 1;
    }
    if (lead < 0xc2 || lead > 0xf4)
        return -1;
    int len = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t v = lead & (0x7fu >> len);
    second_range(lead, &lo, &hi);
    for (int i = 1; i < len; i++) {
        if ((size_t)i == n)
            return 0;
        if (b[i] < lo || b[i] > hi)
            return -i;
        v = v << 6 | (b[i] & 0x3fu);
        lo = 0x80;
        hi = 0xbf;
    }
    *cp = v;
    return len;
}

size_t nm_utf8_valid(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        while (n - i >= sizeof word) { /* eight ASCII bytes at a time */
            memcpy(&word, p + i, sizeof word);
            if (word & UINT64_C(0x8080808080808080))
                break;
            i += sizeof word;
        }
        if (i == n)
            break;
        uint32_t cp;
        int len = nm_utf8_next(p + i, n - i, &cp);
        if (len <= 0)
            break;
        i += (size_t)len;
    }
    return i;
}

size_t nm_utf8_put(uint32_t cp, char out[NM_UTF8_MAX])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        return 0;
    size_t len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80u | (cp & 0x3fu));
        cp >>= 6;
    }
    out[0] = (char)((0xf00u >> len & 0xf0u) | cp);
    return len;
}
