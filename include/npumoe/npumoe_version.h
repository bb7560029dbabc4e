/* Version of the library; the build reads it from here, so it is stated once. */
#ifndef NPUMOE_VERSION_H
#define NPUMOE_VERSION_H

#define NPUMOE_VERSION_MAJOR  0
#define NPUMOE_VERSION_MINOR  1
#define NPUMOE_VERSION_PATCH  0
#define NPUMOE_VERSION_STRING "0.1.0"

#endif
