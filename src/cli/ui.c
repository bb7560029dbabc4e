/* ui.c: see ui.h. The two mutable globals of the program live here: what a signal handler may
 * touch has nowhere else to be, and whoever writes a message must know of a bar to clear. */
#include "ui.h"

#include "env.h"
#include "safe.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t caught_signal;
static bool bar_on_screen;

static void clear_bar(void)
{
    if (bar_on_screen)
        fputs("\r\033[K", stderr);
    bar_on_screen = false;
}

/* ---- messages ----------------------------------------------------------------------------- */

static void say(const char *prefix, const char *fmt, va_list ap)
{
    char text[8192];
    clear_bar();
    vsnprintf(text, sizeof text, fmt, ap);
    fputs(prefix, stderr);
    safe_put_lines(stderr, text, strlen(text)); /* it may quote names of a file */
    fputc('\n', stderr);
}

void ui_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say("npumoe: ", fmt, ap);
    va_end(ap);
}

void ui_note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say("", fmt, ap);
    va_end(ap);
}

int ui_fail(npumoe_status status, const npumoe_error *err)
{
    if (status == NPUMOE_ECANCELED && ui_interrupted()) {
        ui_error("stopped");
        return ui_exit_code(1);
    }
    const char *text = err && err->message[0] ? err->message : npumoe_status_text(status);
    char at[32] = "";
    if (err && err->message[0] && err->offset != NPUMOE_NO_OFFSET)
        snprintf(at, sizeof at, "byte %" PRIu64, err->offset);
    if (strstr(text, at)) /* most messages say themselves where; "" is in every text */
        ui_error("%s", text);
    else
        ui_error("%s (at %s)", text, at);
    return 1;
}

double ui_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double ui_cpu_seconds(void)
{
    struct rusage r;
    if (getrusage(RUSAGE_SELF, &r) != 0)
        return 0.0;
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

/* ---- log ---------------------------------------------------------------------------------- */

bool ui_log_open(ui_log *log, const char *path, bool verbose)
{
    *log = (ui_log){.verbose = verbose, .start = ui_now()};
    if (path && !(log->file = fopen(path, "a"))) {
        ui_error("cannot write the log file %s: %s", path, strerror(errno));
        return false;
    }
    return true;
}

void ui_log_close(ui_log *log)
{
    if (log->file)
        fclose(log->file);
    log->file = NULL;
}

void ui_log_line(void *user, npumoe_log_level level, const char *line)
{
    ui_log *log = user;
    if (log->file && !log->lost) {
        double t = ui_now() - log->start;
        unsigned long long us = (unsigned long long)(t * 1e6);
        errno = 0;
        fprintf(log->file, "%llu.%02llu.%03llu.%03llu %c ", us / 60000000u, us / 1000000u % 60u,
                us / 1000u % 1000u, us % 1000u, "EWID"[level]);
        safe_put_lines(log->file, line, strlen(line));
        fputc('\n', log->file);
        if (fflush(log->file) != 0 || ferror(log->file)) {
            log->lost = true; /* said once; the work itself goes on */
            ui_error("warning: cannot write the log file: %s", strerror(errno));
        }
    }
    if (level <= NPUMOE_LOG_WARN)
        ui_error("%s%s", level == NPUMOE_LOG_WARN ? "warning: " : "", line);
    else if (log->verbose)
        ui_note("%s", line);
}

/* ---- Ctrl-C ------------------------------------------------------------------------------- */

static void on_signal(int number)
{
    if (caught_signal)
        _exit(128 + number);
    caught_signal = number;
}

void ui_catch_interrupts(void)
{
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_handler = on_signal;
    sigemptyset(&act.sa_mask);
    /* no SA_RESTART: a read of the prompt from the terminal ends too */
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

bool ui_interrupted(void)
{
    return caught_signal != 0;
}

int ui_exit_code(int code)
{
    return caught_signal ? 128 + (int)caught_signal : code;
}

/* ---- progress ----------------------------------------------------------------------------- */

enum { BAR_CELLS = 30, LINE_MAX_COLUMNS = 120 };

void ui_progress_begin(ui_progress *p, const char *label, const char *unit)
{
    *p = (ui_progress){.label = label, .unit = unit, .start = ui_now()};
    p->terminal = isatty(STDERR_FILENO) != 0;
    p->plain = cli_env_no_color();
}

/* Columns that a line may fill without wrapping; asked each time, as windows change. */
static int line_columns(void)
{
    struct winsize w = {0};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) != 0 || w.ws_col == 0)
        return 79;
    return w.ws_col - 1 < LINE_MAX_COLUMNS ? w.ws_col - 1 : LINE_MAX_COLUMNS;
}

/* Numbers first, then as much of a bar as there is room for: a narrow terminal loses the bar, and a
 * very narrow one the end of the numbers, but never gets a second line. */
static void draw(const ui_progress *p, uint64_t done, uint64_t total, double seconds)
{
    char text[LINE_MAX_COLUMNS + 1], bar[BAR_CELLS + 3] = "";
    double part = total ? (double)done / (double)total : 0.0;
    int columns = line_columns();
    int used = snprintf(text, sizeof text, "%s %3.0f %%  %" PRIu64 "/%" PRIu64 " %s", p->label,
                        part * 100.0, done, total, p->unit);
    if (done > 0 && seconds > 0 && used > 0 && (size_t)used < sizeof text)
        used +=
            snprintf(text + used, sizeof text - (size_t)used, "  %.0f/s", (double)done / seconds);
    int cells = columns - used - 4 < BAR_CELLS ? columns - used - 4 : BAR_CELLS;
    if (cells >= 5) {
        bar[0] = '[';
        for (int i = 0; i < cells; i++)
            bar[1 + i] = i < (int)(part * cells) ? '#' : '.';
        bar[1 + cells] = ']';
        bar[2 + cells] = '\0';
    }
    const char *dim = p->plain ? "" : "\033[2m", *normal = p->plain ? "" : "\033[0m";
    fprintf(stderr, "\r\033[K%s%.*s%s%s%s", dim, columns, text, *bar ? "  " : "", bar, normal);
    fflush(stderr);
}

bool ui_progress_step(void *user, uint64_t done, uint64_t total)
{
    ui_progress *p = user;
    double now = ui_now(), seconds = now - p->start;
    /* short work shows nothing; a bar that flashes by is noise */
    if (p->terminal && seconds > 0.4 && now - p->drawn > 0.1) {
        draw(p, done, total, seconds);
        p->drawn = now;
        bar_on_screen = true;
    }
    return !ui_interrupted();
}

void ui_progress_end(ui_progress *p)
{
    (void)p;
    clear_bar();
}

/* ---- the footer --------------------------------------------------------------------------- */

static void timing_line(const char *name, double seconds, uint64_t n, const char *unit)
{
    double per = n ? seconds * 1e3 / (double)n : 0.0;
    double rate = seconds > 0 ? (double)n / seconds : 0.0;
    fprintf(stderr, "%16s = %10.2f ms / %5llu %s (%8.2f ms per token, %8.2f tokens per second)\n",
            name, seconds * 1e3, (unsigned long long)n, unit, per, rate);
}

void ui_timings(double load_seconds, const npumoe_session_stats *stats, double total_seconds)
{
    fprintf(stderr, "%16s = %10.2f ms\n", "load time", load_seconds * 1e3);
    timing_line("prompt eval time", stats->prompt_seconds, stats->n_prompt, "tokens");
    timing_line("eval time", stats->decode_seconds, stats->n_decoded, "runs  ");
    uint64_t n = stats->n_prompt + stats->n_decoded;
    fprintf(stderr, "%16s = %10.2f ms / %5llu tokens\n", "total time", total_seconds * 1e3,
            (unsigned long long)n);
}
