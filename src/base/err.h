/* err.h: errors are values.
 *
 * Every fallible function returns npumoe_status and fills an npumoe_error that the caller may not
 * want (NULL). A message is for the user: it names the file or key, what was found and what was
 * expected. Functions forward with NM_TRY; cleanup goes through one `out:` label. */
#ifndef NM_BASE_ERR_H
#define NM_BASE_ERR_H

#include "npumoe/npumoe.h"

#if defined(__GNUC__)
#define NM_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define NM_UNLIKELY(x)  __builtin_expect(!!(x), 0)
#else
#define NM_PRINTF(f, a)
#define NM_UNLIKELY(x) (x)
#endif

/* Returns the code after filling *err, so that `return nm_err_set(...)` reads well. */
npumoe_status nm_err_set(npumoe_error *err, npumoe_status code, const char *fmt, ...)
    NM_PRINTF(3, 4);
/* The same with the file offset that the message speaks of. */
npumoe_status nm_err_at(npumoe_error *err, npumoe_status code, uint64_t offset, const char *fmt,
                        ...) NM_PRINTF(4, 5);
/* Puts "prefix: " before the message that is there (which file, which tensor). Returns code. */
npumoe_status nm_err_prefix(npumoe_error *err, npumoe_status code, const char *fmt, ...)
    NM_PRINTF(3, 4);
npumoe_status nm_err_nomem(npumoe_error *err, uint64_t bytes, const char *what);

#define NM_TRY(expr)                                  \
    do {                                              \
        npumoe_status nm_try_status_ = (expr);        \
        if (NM_UNLIKELY(nm_try_status_ != NPUMOE_OK)) \
            return nm_try_status_;                    \
    } while (0)

/* The same inside a function with a local `npumoe_status st` and a label `out`. */
#define NM_TRY_OUT(expr)                  \
    do {                                  \
        st = (expr);                      \
        if (NM_UNLIKELY(st != NPUMOE_OK)) \
            goto out;                     \
    } while (0)

#endif
