/* support.c: buffers with guards, random numbers, comparisons. */
#include "kcheck.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void fail(kcheck *c, const char *fmt, ...)
{
    if (c->failure[0])
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->failure, sizeof c->failure, fmt, ap);
    va_end(ap);
}

/* ---- buffers ------------------------------------------------------------------------------- */

enum { POISON = 0xa5 };

static struct slot {
    char *memory; /* SLOT_BYTES, then a page without access */
    char *at;
    size_t bytes;
} slots[SLOTS];

static bool edges;

void slots_init(bool no_edges)
{
    edges = !no_edges;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < SLOTS; i++) {
        char *m =
            mmap(NULL, SLOT_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
        if (m == MAP_FAILED || mprotect(m + SLOT_BYTES, page, PROT_NONE) != 0) {
            printf("Bail out! no memory for guarded buffers\n");
            exit(1);
        }
        slots[i].memory = m;
    }
}

void *slot_take(int slot, placement where, size_t count, size_t elem_bytes)
{
    struct slot *s = &slots[slot];
    s->bytes = count * elem_bytes;
    if (s->bytes + 3 * GUARD_BYTES > SLOT_BYTES) {
        printf("Bail out! a case of %zu bytes does not fit a slot\n", s->bytes);
        exit(1);
    }
    s->at = s->memory + GUARD_BYTES;
    if (where == AT_PAGE_END && edges)
        s->at = s->memory + SLOT_BYTES - s->bytes;
    else if (where == ONE_OFF)
        s->at += elem_bytes;
    memset(s->at - GUARD_BYTES, POISON, GUARD_BYTES + s->bytes);
    if (where != AT_PAGE_END || !edges)
        memset(s->at + s->bytes, POISON, GUARD_BYTES);
    return s->at;
}

bool slot_guards_intact(int slot)
{
    const struct slot *s = &slots[slot];
    const char *end = s->at + s->bytes;
    size_t after = end + GUARD_BYTES > s->memory + SLOT_BYTES ? 0 : GUARD_BYTES;
    for (size_t i = 0; i < GUARD_BYTES; i++)
        if ((unsigned char)s->at[-1 - (ptrdiff_t)i] != POISON ||
            (i < after && (unsigned char)end[i] != POISON))
            return false;
    return true;
}

/* ---- numbers ------------------------------------------------------------------------------- */

uint32_t draw_bits(kcheck *c)
{
    c->rng = c->rng * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(c->rng >> 32);
}

bool chosen(kcheck *c)
{
    return draw_bits(c) % c->one_in == 0;
}

static float special(uint32_t which)
{
    static const float values[] = {NAN,        INFINITY,  -INFINITY, 0.0f,  -0.0f,    0x1p-149f,
                                   -0x1p-130f, 0x1p-126f, 1.0f,      -1.0f, 0x1p-60f, -0x1p+20f};
    return values[which % (sizeof values / sizeof values[0])];
}

float draw(kcheck *c, flavour f)
{
    uint32_t bits = draw_bits(c);
    float v = (float)(int32_t)bits / 2147483648.0f;
    if (f == WIDE)
        return bits % 16 == 0 ? 0.0f : v * powf(10.0f, (float)((int)(draw_bits(c) % 25) - 12));
    if (f == SPECIAL && bits % 16 == 0)
        return special(draw_bits(c));
    return v;
}

void draw_many(kcheck *c, flavour f, float *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = draw(c, f);
}

void draw_bytes(kcheck *c, void *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)to)[i] = (unsigned char)(draw_bits(c) >> 8);
}

/* ---- comparisons --------------------------------------------------------------------------- */

/* Order of the number line as integers: -Inf .. -0 = +0 .. Inf. */
static int64_t place_of(float f)
{
    int32_t i;
    memcpy(&i, &f, sizeof i);
    return i < 0 ? -(int64_t)(i & 0x7fffffff) : i;
}

double ulps_apart(float a, float b)
{
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b) ? 0 : INFINITY;
    return fabs((double)(place_of(a) - place_of(b)));
}

static bool same_bits(float a, float b)
{
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

static bool note(kcheck *c, double error, bool ok)
{
    if (ok && error > c->worst)
        c->worst = error;
    return ok;
}

static bool same_one(kcheck *c, float got, float want)
{
    if (c->tolerance.class == CLASS_EXACT)
        return same_bits(got, want);
    double off = ulps_apart(got, want), limit = c->tolerance.ulps;
    return note(c, off / limit, off <= limit);
}

bool same(kcheck *c, const float *got, const float *want, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (!same_one(c, got[i], want[i])) {
            fail(c, "%s: element %zu of %zu is %.9g (%a), ref has %.9g (%a)", what, i, n,
                 (double)got[i], (double)got[i], (double)want[i], (double)want[i]);
            return false;
        }
    return true;
}

bool near_enough(kcheck *c, float got, float want, double bound, const char *what)
{
    bool ok = isnan(want) ? isnan(got) : got == want;
    if (!ok && isfinite(want) && isfinite(got)) {
        double off = fabs((double)got - (double)want);
        ok = note(c, bound > 0 ? off / bound : 0, off <= bound);
    }
    if (!ok)
        fail(c, "%s: %.9g, ref has %.9g, bound %.3g", what, (double)got, (double)want, bound);
    return ok;
}
