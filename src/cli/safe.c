#include "safe.h"

#include <stdbool.h>

/* Bytes of the control character at text[0], 0 = none. */
static size_t control_bytes(const unsigned char *text, size_t bytes)
{
    if (text[0] < 0x20 || text[0] == 0x7f)
        return 1;
    return text[0] == 0xc2 && bytes > 1 && text[1] >= 0x80 && text[1] <= 0x9f ? 2 : 0;
}

static void put_control(FILE *f, const unsigned char *text, size_t bytes)
{
    if (text[0] == '\n' || text[0] == '\t' || text[0] == '\r')
        fprintf(f, "\\%c", text[0] == '\n' ? 'n' : text[0] == '\t' ? 't' : 'r');
    else
        for (size_t i = 0; i < bytes; i++)
            fprintf(f, "\\x%02x", text[i]);
}

static void put(FILE *f, const char *text, size_t bytes, bool lines)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t from = 0, i = 0; /* [from, i) is harmless and not yet written */
    while (i < bytes) {
        size_t n = control_bytes(p + i, bytes - i);
        if (n == 0 || (lines && (p[i] == '\n' || p[i] == '\t'))) {
            i++;
            continue;
        }
        fwrite(text + from, 1, i - from, f);
        put_control(f, p + i, n);
        i += n;
        from = i;
    }
    if (i > from)
        fwrite(text + from, 1, i - from, f);
}

void safe_put(FILE *f, const char *text, size_t bytes)
{
    put(f, text, bytes, false);
}

void safe_put_lines(FILE *f, const char *text, size_t bytes)
{
    put(f, text, bytes, true);
}
