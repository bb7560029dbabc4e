/* build.h: which source this program was built from. Only build.c is compiled again when the commit
 * changes. */
#ifndef NPUMOE_CLI_BUILD_H
#define NPUMOE_CLI_BUILD_H

const char *cli_build_commit(void); /* "1a2b3c4d5", with "-dirty" for uncommitted changes */
int cli_build_number(void);         /* commits up to it; 0 = unknown */

#endif
