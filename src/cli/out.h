/* out.h: a verb's input and output: whole files read, standard output written, .npy files.
 *
 * Output is checked: a full disk or a closed pipe ends the verb with exit code 1, because a result
 * that is cut short must not look complete. A closed pipe (`npumoe ... | head`) needs no words. */
#ifndef NPUMOE_CLI_OUT_H
#define NPUMOE_CLI_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Ignores SIGPIPE, so that a closed pipe is an error of write(). Call first in main. */
void out_init(void);
/* Writes text and flushes (to a terminal: control characters shown, not sent); false when that failed (out_finish says why). */
bool out_text(const char *text, size_t bytes);
/* Flushes standard output: code, or 1 with a message when anything written to it was lost. */
int out_finish(int code);

/* The whole file, or standard input for "-". Zero-terminated too; free() it. false after a message
 * that names the file. */
bool in_read_all(const char *path, char **text, size_t *bytes);

/* A file that appears whole or not at all: written as NAME.partial.PID and renamed at the end, so
 * that what had the name before stays when the work fails or is stopped. Links are followed. "-" is
 * standard output; it, devices and pipes are written directly. */
typedef struct out_file {
    FILE *f;
    const char *name;     /* as the user gave it */
    char *path, *partial; /* NULL when written directly */
    bool failed;
    int why; /* errno of the write that failed */
} out_file;

/* False, after a message, when an output would take another file's place: both names are of one
 * file, or the same name. NULL and "-" are nobody's. */
bool out_apart(const char *option, const char *path, const char *other_option, const char *other);

/* false after a message when no file of that name can be made: to be asked before an hour of work, not after it.
 * Nothing is written; true for NULL and for what is not a file. */
bool out_promises(const char *name);

/* false after a message. */
bool out_open(out_file *o, const char *name);
/* false once anything could not be written; out_close says why. */
bool out_write(out_file *o, const void *data, size_t bytes);
/* keep: the file is complete and takes its name; else nothing of it stays. False, after a message,
 * when something was not written. */
bool out_close(out_file *o, bool keep);

/* A float32 array of shape [rows][cols] in NumPy's format 1.0, little endian, row by row. The number
 * of rows must be known at the beginning. path "-" is standard output. */
typedef struct npy_file {
    out_file out;
    uint64_t rows_left, cols;
} npy_file;

bool npy_open(npy_file *npy, const char *path, uint64_t rows, uint64_t cols);
bool npy_row(npy_file *npy, const float *row);
/* Closes; false when rows are missing, after a message when they could not be written. Then the
 * file does not appear. */
bool npy_close(npy_file *npy);

#endif
