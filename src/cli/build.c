#include "build.h"

#ifndef NPUMOE_BUILD_COMMIT
#define NPUMOE_BUILD_COMMIT "unknown"
#endif
#ifndef NPUMOE_BUILD_NUMBER
#define NPUMOE_BUILD_NUMBER 0
#endif

const char *cli_build_commit(void)
{
    return NPUMOE_BUILD_COMMIT;
}

int cli_build_number(void)
{
    return NPUMOE_BUILD_NUMBER;
}
