/* tap.h: the test macros. A test program prints TAP (the Test Anything Protocol, version 12) on
 * stdout, one line per check, and what it compared on stderr when a check fails.
 *
 *   int main(void)
 *   {
 *       is_int(nm_cpus_allowed() > 0, 1, "at least one CPU");
 *       if (!vocab)
 *           skip(3, "no vocabulary folder");     counts as three skipped checks
 *       return done_testing();
 *   }
 *
 * Every macro is an expression that is true when the check passed, so a test can go on only where
 * that makes sense: `if (!ok(p != NULL, "loads")) bail("nothing left to test");`. The name is a
 * printf format. Arguments are evaluated once. For one-file programs: state is static. */
#ifndef TAP_H
#define TAP_H

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#define TAP_PRINTF(f, a) __attribute__((format(printf, f, a), unused))
#define TAP_UNUSED       __attribute__((unused))
#else
#define TAP_PRINTF(f, a)
#define TAP_UNUSED
#endif

static struct {
    unsigned run, failed;
} tap_state;

static void tap_name(const char *fmt, va_list ap)
{
    char text[512];
    vsnprintf(text, sizeof text, fmt, ap);
    for (char *c = text; *c; c++) /* '#' would start a directive, a line feed a new line */
        if (*c == '#' || *c == '\n' || *c == '\r')
            *c = ' ';
    printf("%s\n", text);
    fflush(stdout);
}

TAP_PRINTF(4, 0)
static bool tap_result_v(bool pass, const char *file, int line, const char *fmt, va_list ap)
{
    tap_state.run++;
    tap_state.failed += !pass;
    printf("%sok %u - ", pass ? "" : "not ", tap_state.run);
    tap_name(fmt, ap);
    if (!pass)
        fprintf(stderr, "# failed at %s:%d\n", file, line);
    return pass;
}

#define TAP_BODY(pass)                                               \
    va_list ap;                                                      \
    va_start(ap, fmt);                                               \
    const bool tap_pass = tap_result_v((pass), file, line, fmt, ap); \
    va_end(ap)

TAP_PRINTF(4, 5)
static bool tap_ok(const char *file, int line, bool pass, const char *fmt, ...)
{
    TAP_BODY(pass);
    return tap_pass;
}

TAP_PRINTF(5, 6)
static bool tap_is_int(const char *file, int line, int64_t got, int64_t want, const char *fmt, ...)
{
    TAP_BODY(got == want);
    if (!tap_pass)
        fprintf(stderr, "#   got  %" PRId64 "\n#   want %" PRId64 "\n", got, want);
    return tap_pass;
}

TAP_PRINTF(5, 6)
static bool tap_is_u64(const char *file, int line, uint64_t got, uint64_t want, const char *fmt,
                       ...)
{
    TAP_BODY(got == want);
    if (!tap_pass)
        fprintf(stderr,
                "#   got  %" PRIu64 " (0x%" PRIx64 ")\n#   want %" PRIu64 " (0x%" PRIx64 ")\n", got,
                got, want, want);
    return tap_pass;
}

TAP_PRINTF(5, 6)
static bool tap_is_str(const char *file, int line, const char *got, const char *want,
                       const char *fmt, ...)
{
    TAP_BODY(got && want ? strcmp(got, want) == 0 : got == want);
    if (!tap_pass)
        fprintf(stderr, "#   got  \"%s\"\n#   want \"%s\"\n", got ? got : "(null)",
                want ? want : "(null)");
    return tap_pass;
}

TAP_PRINTF(6, 7)
static bool tap_is_near(const char *file, int line, double got, double want, double tolerance,
                        const char *fmt, ...)
{
    /* Written so that a NaN fails. */
    TAP_BODY(fabs(got - want) <= tolerance || got == want);
    if (!tap_pass)
        fprintf(stderr, "#   got  %.9g\n#   want %.9g +- %.3g (off by %.3g)\n", got, want,
                tolerance, got - want);
    return tap_pass;
}

TAP_PRINTF(6, 7)
static bool tap_is_mem(const char *file, int line, const void *got, const void *want, size_t bytes,
                       const char *fmt, ...)
{
    const unsigned char *g = got, *w = want;
    size_t at = 0;
    while (at < bytes && g[at] == w[at])
        at++;
    TAP_BODY(at == bytes);
    if (!tap_pass)
        fprintf(stderr, "#   first difference at byte %zu of %zu: got %02x, want %02x\n", at, bytes,
                g[at], w[at]);
    return tap_pass;
}

TAP_PRINTF(2, 3)
static void tap_skip(unsigned n, const char *fmt, ...)
{
    for (; n > 0; n--) {
        va_list ap;
        va_start(ap, fmt);
        printf("ok %u # SKIP ", ++tap_state.run);
        tap_name(fmt, ap);
        va_end(ap);
    }
}

TAP_PRINTF(1, 2)
static void tap_note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("# ");
    tap_name(fmt, ap);
    va_end(ap);
}

TAP_PRINTF(3, 4)
static void tap_bail(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("Bail out! %s:%d: ", file, line);
    tap_name(fmt, ap);
    va_end(ap);
    exit(255);
}

/* The plan comes last, so a program that dies early is noticed; the value is main's. */
TAP_UNUSED
static int tap_done(void)
{
    printf("1..%u%s\n", tap_state.run, tap_state.run ? "" : " # SKIP nothing was tested");
    return tap_state.failed ? 1 : 0;
}

#define ok(cond, ...)          tap_ok(__FILE__, __LINE__, (cond), __VA_ARGS__)
#define is_int(got, want, ...) tap_is_int(__FILE__, __LINE__, (got), (want), __VA_ARGS__)
#define is_u64(got, want, ...) tap_is_u64(__FILE__, __LINE__, (got), (want), __VA_ARGS__)
#define is_str(got, want, ...) tap_is_str(__FILE__, __LINE__, (got), (want), __VA_ARGS__)
#define is_near(got, want, tolerance, ...) \
    tap_is_near(__FILE__, __LINE__, (got), (want), (tolerance), __VA_ARGS__)
#define is_mem(got, want, bytes, ...) \
    tap_is_mem(__FILE__, __LINE__, (got), (want), (bytes), __VA_ARGS__)
#define skip(n, ...)   tap_skip((n), __VA_ARGS__) /* n checks, with the reason */
#define note(...)      tap_note(__VA_ARGS__)      /* a comment in the output */
#define bail(...)      tap_bail(__FILE__, __LINE__, __VA_ARGS__)
#define done_testing() tap_done()

#endif
