/* ui.h: everything npumoe says beside its output: messages, log, progress, timings, Ctrl-C.
 * All of it goes to standard error; standard output belongs to the verb's result (out.h). */
#ifndef NPUMOE_CLI_UI_H
#define NPUMOE_CLI_UI_H

#include "npumoe/npumoe.h"

#include <stdio.h>

#if defined(__GNUC__)
#define CLI_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define CLI_PRINTF(f, a)
#endif

/* "npumoe: MESSAGE" on a line of its own (a progress bar is cleared first). */
void ui_error(const char *fmt, ...) CLI_PRINTF(1, 2);
void ui_note(const char *fmt, ...) CLI_PRINTF(1, 2);

/* Reports a library error and gives the exit code for it: 1, or 130 when Ctrl-C was the reason. */
int ui_fail(npumoe_status status, const npumoe_error *err);

/* Seconds of a steady clock. */
double ui_now(void);
/* Seconds of CPU that this process has used on all threads. */
double ui_cpu_seconds(void);

/* ---- log ----------------------------------------------------------------------------------- */

typedef struct ui_log {
    FILE *file;   /* --log-file: every line with a time stamp, llama.cpp's form */
    bool verbose; /* info and debug lines on standard error too */
    bool lost;    /* a line could not be written to the file */
    double start;
} ui_log;

/* path may be NULL. Returns false after saying why. */
bool ui_log_open(ui_log *log, const char *path, bool verbose);
void ui_log_close(ui_log *log);
/* An npumoe_log_fn; user is the ui_log. */
void ui_log_line(void *user, npumoe_log_level level, const char *line);

/* ---- Ctrl-C -------------------------------------------------------------------------------- */

/* From now on the first SIGINT or SIGTERM only sets a mark, and the second leaves at once. */
void ui_catch_interrupts(void);
bool ui_interrupted(void);
/* 130 after SIGINT, 143 after SIGTERM, else code. */
int ui_exit_code(int code);

/* ---- progress ------------------------------------------------------------------------------ */

/* A bar on standard error, if that is a terminal and the work lasts. */
typedef struct ui_progress {
    const char *label; /* "prompt" */
    const char *unit;  /* "tokens" */
    double start, drawn;
    bool terminal, plain;
} ui_progress;

void ui_progress_begin(ui_progress *p, const char *label, const char *unit);
/* An npumoe_progress_fn; user is the ui_progress. false when Ctrl-C was pressed. */
bool ui_progress_step(void *user, uint64_t done, uint64_t total);
void ui_progress_end(ui_progress *p);

/* ---- the footer ---------------------------------------------------------------------------- */

/* llama.cpp's lines, whose words people's scripts look for. */
void ui_timings(double load_seconds, const npumoe_session_stats *stats, double total_seconds);

#endif
