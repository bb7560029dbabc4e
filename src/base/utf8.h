/* utf8.h: strict UTF-8 (no surrogates, no overlong forms, nothing above U+10FFFF), on bytes that
 * may hold anything.
 *
 * Ill-formed bytes are measured as the Unicode Standard recommends (3.9, "maximal subparts"): the
 * longest prefix of a character that was begun correctly counts as one error, any other byte as
 * one each. Knows nothing of properties or normalisation; those are utf8proc's. */
#ifndef NM_BASE_UTF8_H
#define NM_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define NM_UTF8_MAX 4

/* Looks at the n >= 1 bytes at p.
 *   > 0  a character of that many bytes; *cp is its code point
 *   < 0  minus the length of an ill-formed subpart
 *   0    all n bytes are a correct beginning of a character whose end is missing */
int nm_utf8_next(const char *p, size_t n, uint32_t *cp);

/* Bytes of the longest prefix that is valid. */
size_t nm_utf8_valid(const char *p, size_t n);

/* Bytes written to out (1..4); 0 when cp is a surrogate or too large. */
size_t nm_utf8_put(uint32_t cp, char out[NM_UTF8_MAX]);

#endif
