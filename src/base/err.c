#include "base/err.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Names from a file may hold anything, terminal escapes too; a message is one printable line. */
static void clean(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

static npumoe_status set_v(npumoe_error *err, npumoe_status code, uint64_t offset, const char *fmt,
                           va_list ap)
{
    if (err) {
        err->code = code;
        err->offset = offset;
        vsnprintf(err->message, sizeof err->message, fmt, ap);
        clean(err->message);
    }
    return code;
}

npumoe_status nm_err_set(npumoe_error *err, npumoe_status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_v(err, code, NPUMOE_NO_OFFSET, fmt, ap);
    va_end(ap);
    return code;
}

npumoe_status nm_err_at(npumoe_error *err, npumoe_status code, uint64_t offset, const char *fmt,
                        ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_v(err, code, offset, fmt, ap);
    va_end(ap);
    return code;
}

npumoe_status nm_err_prefix(npumoe_error *err, npumoe_status code, const char *fmt, ...)
{
    if (!err)
        return code;
    char tail[sizeof err->message];
    memcpy(tail, err->message, sizeof tail);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : (size_t)n;
    if (used + 3 < sizeof err->message) {
        size_t room = sizeof err->message - used - 3; /* the tail may lose its end */
        snprintf(err->message + used, sizeof err->message - used, ": %.*s", (int)room, tail);
    }
    return code;
}

npumoe_status nm_err_nomem(npumoe_error *err, uint64_t bytes, const char *what)
{
    return nm_err_set(err, NPUMOE_ENOMEM, "out of memory: %" PRIu64 " bytes for %s", bytes, what);
}

const char *npumoe_status_text(npumoe_status status)
{
    switch (status) {
#define X(name, number, text) \
    case NPUMOE_##name:       \
        return text;
#include "npumoe/npumoe_errors.def"
#undef X
    }
    return "unknown status";
}

const char *npumoe_version(void)
{
    return NPUMOE_VERSION_STRING;
}
