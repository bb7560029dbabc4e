/* gguf_build.h: GGUF files byte by byte, for tests.
 *
 * A file is written as a string of words, so that a test shows every byte it means, wrong ones
 * included, where the library's own writer could not be made to produce them:
 *
 *   'GGUF'    these bytes (no blanks, no quote)
 *   4:17      an integer of 1, 2, 4 or 8 bytes, little endian; 0x and minus are fine
 *   f:1.5     a float, d:1.5 a double
 *   s=abc     a string: u64 length and bytes; "s=" is the empty one
 *   S:70      a string of 70 letters 'a'
 *   z:32      32 zero bytes
 *   pad:32    zeros up to a multiple of 32
 *
 * The macros below put the usual groups together. */
#ifndef GGUF_BUILD_H
#define GGUF_BUILD_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GB_HEAD(n_tensors, n_kv) "'GGUF' 4:3 8:" #n_tensors " 8:" #n_kv " "
#define GB_KEY(key, kind)        "s=" key " 4:" #kind " "
#define GB_U32(key, v)           GB_KEY(key, 4) "4:" #v " "
#define GB_STR(key, v)           GB_KEY(key, 8) "s=" v " "
#define GB_ARR(key, kind, n)     GB_KEY(key, 9) "4:" #kind " 8:" #n " "
#define GB_DIM1(name, n)         "s=" name " 4:1 8:" #n " "
#define GB_DIM2(name, n0, n1)    "s=" name " 4:2 8:" #n0 " 8:" #n1 " "
#define GB_TYPE(type, offset)    "4:" #type " 8:" #offset " "

typedef struct gb_bytes {
    unsigned char *p; /* free() it */
    size_t n;
} gb_bytes;

static inline void gb_add(gb_bytes *b, const void *data, size_t n)
{
    b->p = realloc(b->p, b->n + n + 1);
    if (!b->p)
        abort();
    if (data)
        memcpy(b->p + b->n, data, n);
    else
        memset(b->p + b->n, 0, n);
    b->n += n;
}

static inline void gb_int(gb_bytes *b, uint64_t v, size_t n)
{
    unsigned char raw[8];
    for (size_t i = 0; i < 8; i++)
        raw[i] = (unsigned char)(v >> (8 * i));
    gb_add(b, raw, n);
}

/* strtoull takes "-1" as 2^64 - 1, whose low bytes are what is meant. */
static inline uint64_t gb_number(const char *text)
{
    return strtoull(text, NULL, 0);
}

static inline void gb_long_string(gb_bytes *b, size_t n)
{
    gb_int(b, n, 8);
    gb_add(b, NULL, n);
    memset(b->p + b->n - n, 'a', n);
}

static inline void gb_word(gb_bytes *b, const char *w, size_t n)
{
    float f;
    double d;
    if (n >= 2 && w[0] == '\'') {
        gb_add(b, w + 1, n - 2);
    } else if (n >= 2 && w[0] == 's' && w[1] == '=') {
        gb_int(b, n - 2, 8);
        gb_add(b, w + 2, n - 2);
    } else if (strncmp(w, "pad:", 4) == 0) {
        size_t to = (size_t)gb_number(w + 4);
        gb_add(b, NULL, (to - b->n % to) % to);
    } else if (w[0] == 'f') {
        f = strtof(w + 2, NULL);
        gb_add(b, &f, sizeof f);
    } else if (w[0] == 'd') {
        d = strtod(w + 2, NULL);
        gb_add(b, &d, sizeof d);
    } else if (w[0] == 'S') {
        gb_long_string(b, (size_t)gb_number(w + 2));
    } else if (w[0] == 'z') {
        gb_add(b, NULL, (size_t)gb_number(w + 2));
    } else if (strchr("1248", w[0]) && w[1] == ':') {
        gb_int(b, gb_number(w + 2), (size_t)(w[0] - '0'));
    } else {
        fprintf(stderr, "gguf_build: what is '%.*s'?\n", (int)n, w);
        abort();
    }
}

static inline gb_bytes gb_build(const char *words)
{
    gb_bytes b = {0};
    gb_add(&b, NULL, 0); /* an empty file has a pointer too */
    while (*words) {
        size_t n = strcspn(words, " ");
        if (n)
            gb_word(&b, words, n);
        words += n + (words[n] == ' ');
    }
    return b;
}

static inline void gb_free(gb_bytes *b)
{
    free(b->p);
    *b = (gb_bytes){0};
}

/* Writes the bytes to a file; false on failure. */
static inline int gb_save(const gb_bytes *b, const char *path)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        return 0;
    size_t n = fwrite(b->p, 1, b->n, f);
    return (fclose(f) == 0) & (n == b->n);
}

#endif
