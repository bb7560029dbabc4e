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
/* Writes text and flushes; false when that failed (out_finish says why). */
bool out_text(const char *text, size_t bytes);
/* Flushes standard output: code, or 1 with a message when anything written to it was lost. */
int out_finish(int code);

/* The whole file, or standard input for "-". Zero-terminated too; free() it. false after a message
 * that names the file. */
bool in_read_all(const char *path, char **text, size_t *bytes);

/* A float32 array of shape [rows][cols] in NumPy's format 1.0, little endian, row by row. The number
 * of rows must be known at the beginning. path "-" is standard output. */
typedef struct npy_file {
    FILE *f;
    const char *path;
    uint64_t rows_left, cols;
    bool failed;
} npy_file;

bool npy_open(npy_file *npy, const char *path, uint64_t rows, uint64_t cols);
bool npy_row(npy_file *npy, const float *row);
/* Closes; false after a message when something was not written. A file that is not complete is
 * removed. */
bool npy_close(npy_file *npy);

#endif
