/* env.h: the only place of npumoe that reads the environment. */
#ifndef NPUMOE_CLI_ENV_H
#define NPUMOE_CLI_ENV_H

#include <stdbool.h>
#include <stddef.h>

/* NPUMOE_<OPTION>: "--ctx-size" reads NPUMOE_CTX_SIZE. NULL when unset or empty. The variable's
 * name is written to name for messages. */
const char *cli_env_option(const char *long_name, char *name, size_t name_bytes);

/* NO_COLOR (no-color.org): set and not empty means plain output. */
bool cli_env_no_color(void);

/* TMPDIR, or /tmp. */
const char *cli_env_temporary_folder(void);

#endif
