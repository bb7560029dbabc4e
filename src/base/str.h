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

#define NM_STR(lit)  ((nm_str){(lit), sizeof(lit) - 1})
#define NM_STR_SHOWN 200 /* bytes of a string that a message shows */
/* For printf("%.*s"): NM_STR_ARG(s) gives both arguments, long strings cut, and NUL, at which printf
 * would stop, as '?'. Not outside a function: the room is a local of the enclosing block. */
#define NM_STR_ARG(s)                                   \
    (int)((s).n < NM_STR_SHOWN ? (s).n : NM_STR_SHOWN), \
        nm_str_printable((s), (char[NM_STR_SHOWN]){0})

/* s.p, or its first bytes in room[NM_STR_SHOWN] with '?' for every NUL. */
static inline const char *nm_str_printable(nm_str s, char *room)
{
    const size_t n = s.n < NM_STR_SHOWN ? s.n : NM_STR_SHOWN;
    if (n == 0 || memchr(s.p, 0, n) == NULL)
        return s.p;
    for (size_t i = 0; i < n; i++)
        room[i] = (char)(s.p[i] ? s.p[i] : '?');
    return room;
}

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
