/* pretok_fast.c: the most used patterns of pretok_tables.c by hand.
 *
 * Each function gives the length of the first word of a text that is valid UTF-8. Classes come from
 * a table for ASCII and from utf8proc (Unicode 15) above. Everything is one look at each character, but
 * white space, whose run may be looked at three times (up to its last line end, up to its last
 * character, that one).
 *
 * What the alternatives mean at a place, in their order (gpt2; cl100k):
 *   contraction     's 't 're 've 'm 'll 'd; cl100k in any case
 *   letters         after one optional space; cl100k: after one optional character that is no
 *                   letter, digit or line end
 *   digits          gpt2: after one optional space; cl100k: up to `digits` of them, no space
 *   other           after one optional space; cl100k: line ends after it belong to it
 *   white space     cl100k: up to the last line end of the run, if it has one; else all but its last
 *                   character when something follows (that one joins the next word), else all
 * Every character is a letter, a digit, white space or other, so some alternative always holds. */
#include "model/tokenizer_priv.h"

#include "base/utf8.h"

#include <utf8proc.h>

enum { END = 0, LETTER = 1, DIGIT = 2, SPACE = 4, MARK = 8, OTHER = 16 };

static unsigned class_of(uint32_t cp)
{
    if (cp < 0x80) {
        if ((cp | 0x20) >= 'a' && (cp | 0x20) <= 'z')
            return LETTER;
        if (cp >= '0' && cp <= '9')
            return DIGIT;
        return cp == ' ' || (cp >= 9 && cp <= 13) ? SPACE : OTHER;
    }
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return DIGIT;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return MARK;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return SPACE;
    default:
        return cp == 0x85 ? SPACE : OTHER;
    }
}

/* The class of the character at i and its length; END and 0 at the end. */
static unsigned look(const char *p, size_t n, size_t i, size_t *len)
{
    uint32_t cp = 0;
    *len = 0;
    if (i >= n)
        return END;
    int got = nm_utf8_next(p + i, n - i, &cp);
    *len = got > 0 ? (size_t)got : 1;
    return got > 0 ? class_of(cp) : OTHER;
}

/* The end of the run of characters in the classes of set that begins at i. */
static size_t run(const char *p, size_t n, size_t i, unsigned set)
{
    size_t len;
    while (look(p, n, i, &len) & set)
        i += len;
    return i;
}

static bool is_line_end(char c)
{
    return c == '\r' || c == '\n';
}

/* Bytes of a contraction at p, 0 = none. fold: 0x20 makes capitals small, 0 keeps them. */
static size_t contraction(const char *p, size_t n, int fold)
{
    if (n < 2 || p[0] != '\'')
        return 0;
    int a = p[1] | fold, b = n > 2 ? p[2] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* All of a run of white space at p when nothing follows or it is one character, else all but the
 * last character. */
static size_t spaces(const char *p, size_t n)
{
    size_t end = 0, last = 0, len;
    while (look(p, n, end, &len) == SPACE) {
        last = end;
        end += len;
    }
    return end == n || last == 0 ? end : last;
}

size_t nm_split_digit(const char *p, size_t n)
{
    size_t len, i = 0;
    while (look(p, n, i, &len) != DIGIT && len > 0)
        i += len;
    return i > 0 ? i : len;
}

size_t nm_split_gpt2(const char *p, size_t n)
{
    size_t len, i = contraction(p, n, 0);
    if (i)
        return i;
    i = p[0] == ' ';
    unsigned c = look(p, n, i, &len);
    switch (c) {
    case LETTER:
    case DIGIT:
        return run(p, n, i, c);
    case OTHER:
    case MARK:
        return run(p, n, i, OTHER | MARK);
    default:
        return spaces(p, n);
    }
}

/* letters: the classes that make words; digits: how many digits a word may have. */
static size_t cl100k(const char *p, size_t n, unsigned letters, int digits)
{
    size_t len, next_len, i = contraction(p, n, 0x20);
    if (i)
        return i;
    unsigned c = look(p, n, 0, &len);
    if (c & letters)
        return run(p, n, len, letters);
    if (c == DIGIT) {
        for (; digits > 0 && look(p, n, i, &len) == DIGIT; digits--)
            i += len;
        return i;
    }
    if (!is_line_end(p[0]) && look(p, n, len, &next_len) & letters)
        return run(p, n, len, letters);
    size_t start = p[0] == ' ', end = run(p, n, start, (OTHER | MARK) & ~letters);
    if (end > start) {
        while (end < n && is_line_end(p[end]))
            end++;
        return end;
    }
    end = run(p, n, 0, SPACE);
    while (end > 0 && !is_line_end(p[end - 1]))
        end--;
    return end > 0 ? end : spaces(p, n);
}

size_t nm_split_cl100k(const char *p, size_t n)
{
    return cl100k(p, n, LETTER, 3);
}

size_t nm_split_qwen2(const char *p, size_t n)
{
    return cl100k(p, n, LETTER, 1);
}

size_t nm_split_qwen35(const char *p, size_t n)
{
    return cl100k(p, n, LETTER | MARK, 1);
}
