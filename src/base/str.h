/* str.h: a borrowed run of bytes. GGUF strings are not terminated and may hold anything. */
#ifndef NM_BASE_STR_H
#define NM_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct nm_str {
    const char *p;
    size_t n;
} nm_str;

#define NM_STR(lit)   ((nm_str){(lit), sizeof(lit) - 1})
/* For printf("%.*s"): NM_STR_ARG(s) gives both arguments, long strings cut at 200 bytes. */
#define NM_STR_ARG(s) (int)((s).n < 200 ? (s).n : 200), (s).p

static inline nm_str nm_str_of(const char *z)
{
    return (nm_str){z, z ? strlen(z) : 0};
}

static inline bool nm_str_eq(nm_str a, nm_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool nm_str_eqz(nm_str a, const char *z)
{
    return nm_str_eq(a, nm_str_of(z));
}

#endif
