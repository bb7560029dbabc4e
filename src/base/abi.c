#include "base/abi.h"

#include "base/num.h"

#include <string.h>

static size_t bytes_of(const void *s)
{
    size_t bytes;
    memcpy(&bytes, s, sizeof bytes);
    return bytes;
}

npumoe_status nm_abi_read(void *ours, size_t ours_bytes, const void *theirs, const char *name,
                          npumoe_error *err)
{
    if (!theirs)
        return NPUMOE_OK;
    size_t bytes = bytes_of(theirs);
    if (bytes < sizeof bytes)
        return nm_err_set(
            err, NPUMOE_EINVAL,
            "%s: struct_bytes is %zu, expected its size; fill the struct with %s_default()", name,
            bytes, name);
    for (size_t i = ours_bytes; i < bytes; i++)
        if (((const unsigned char *)theirs)[i])
            return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                              "%s: the caller sets an option that this library, version %s, does "
                              "not know (byte %zu of %zu)",
                              name, NPUMOE_VERSION_STRING, i, bytes);
    memcpy(ours, theirs, nm_min_size(bytes, ours_bytes));
    memcpy(ours, &ours_bytes, sizeof ours_bytes);
    return NPUMOE_OK;
}

void nm_abi_write(void *theirs, const void *ours, size_t ours_bytes)
{
    size_t bytes = nm_min_size(bytes_of(theirs), ours_bytes);
    if (bytes < sizeof bytes)
        return;
    memcpy(theirs, ours, bytes);
    memcpy(theirs, &bytes, sizeof bytes);
}
