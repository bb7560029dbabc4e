/* safe.h: text of others (names and tokens of a model file, its answer) on the user's terminal.
 *
 * A control character there is a command: it moves the cursor, rewrites lines, sets the title. It
 * is shown as C would spell it: \n, \t, \x1b. UTF-8 stays as it is, except U+0080 to U+009F. */
#ifndef NPUMOE_CLI_SAFE_H
#define NPUMOE_CLI_SAFE_H

#include <stddef.h>
#include <stdio.h>

void safe_put(FILE *f, const char *text, size_t bytes);
/* The same for text of several lines: \n and \t stay. */
void safe_put_lines(FILE *f, const char *text, size_t bytes);

#endif
