/* test_probe_loops: the loops that measure do what they say they do: every multiplication that they count,
 * with operands that are walked through. Linked with nothing but the core, for processors that are emulated.
 *
 * A loop is a block of sums, a row for each register of x and a column for each of w. All numbers of one
 * register are the same here, so each sum is known whatever an instruction pairs: with p products per sum
 * of 32 bits it grows by p times the register's x times the register's w. */
#include "base/alloc.h"
#include "kernels/probe.h"

#include "tap.h"

#include <math.h>

/* What of a unit's loop is neither in nm_probe_product nor to be seen in its results. */
typedef struct unit {
    const char *name;
    size_t register_bytes;
    size_t steps;  /* of one walk over x */
    double across; /* groups of 32 bits of x that one sum takes */
} unit;

static const unit units[] = {
    {"scalar", 4, 32, 1},       {"avx2", 32, 32, 1},
    {"avx_vnni", 32, 32, 1},    {"avx512", 64, 32, 1},
    {"avx512_bf16", 64, 32, 1}, {"avx512_vnni", 64, 32, 1},
    {"amx_bf16", 1024, 8, 16},  {"amx_int8", 1024, 8, 16}, /* rows of 64 bytes */
    {"neon", 16, 32, 1},        {"dotprod", 16, 32, 1},
    {"i8mm", 16, 32, 2}, /* rows of 8 bytes */
    {"bf16", 16, 32, 2},
};

static const unit *unit_of(const nm_probe_product *p)
{
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(units[i].name, p->unit) == 0)
            return &units[i];
    return NULL;
}

/* ---- operands ------------------------------------------------------------------------------- */

enum { WALKS = 3, PASSES = 3 }; /* over x for one pass over w; over w */

static char *need(size_t bytes)
{
    char *p = nm_alloc_aligned(nm_allocator_default(), bytes);
    if (!p)
        bail("no memory");
    return p;
}

/* 32 bits full of a small whole number. */
static uint32_t word_of(const char *type, uint32_t n)
{
    const float f = (float)n;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (strcmp(type, "f32") == 0)
        return bits;
    if (strcmp(type, "bf16") == 0)
        return (bits >> 16) * 0x00010001u;
    return n * (strcmp(type, "i16") == 0 ? 0x00010001u : 0x01010101u);
}

/* Numbers in those 32 bits. */
static double numbers(const char *type)
{
    return strcmp(type, "f32") == 0 ? 1 : strcmp(type, "i8") == 0 ? 4 : 2;
}

/* The number in register i of an operand: all ones, or from 1 to 7 so that no two steps are alike for long. */
static uint32_t number(bool own, size_t i, uint32_t seed)
{
    const uint64_t mixed = (i + 1) * 6364136223846793005u + seed * 1442695040888963407u;
    return own ? 1 + (uint32_t)(mixed >> 33) % 7 : 1;
}

enum { OF_X = 1, OF_W = 2 };

static void fill(char *to, size_t bytes, const nm_probe_product *p, bool own, uint32_t seed)
{
    const size_t wide = unit_of(p)->register_bytes;
    for (size_t at = 0; at < bytes; at += 4) {
        const uint32_t word = word_of(p->type, number(own, at / wide, seed));
        memcpy(to + at, &word, sizeof word);
    }
}

/* ---- one loop ------------------------------------------------------------------------------- */

typedef struct block {
    const nm_probe_product *p;
    char *x, *w, *out;
    size_t w_bytes, rows, columns; /* rows and columns of the block of sums */
    uint64_t ops;                  /* of the last run */
} block;

static double value(const block *b, const char *at)
{
    float f;
    int32_t i;
    memcpy(&f, at, sizeof f);
    memcpy(&i, at, sizeof i);
    return b->p->type[0] == 'i' ? (double)i : (double)f;
}

static void run(block *b, bool own, bool registers)
{
    fill(b->x, NM_PROBE_X_BYTES, b->p, own, OF_X);
    fill(b->w, b->w_bytes, b->p, own, OF_W);
    memset(b->out, 0, NM_PROBE_OUT_BYTES);
    b->ops = b->p->run(b->x, registers ? NULL : b->w, b->w_bytes, PASSES, b->out);
}

/* The block's shape: columns from what a step of w takes, rows from how much comes out. Sums begin with
 * numbers of x, of which none is zero, so what is zero was not stored. */
static bool find_shape(block *b)
{
    const unit *u = unit_of(b->p);
    size_t bytes = NM_PROBE_OUT_BYTES;
    run(b, false, false);
    while (bytes > 0 && memcmp(b->out + bytes - 4, "\0\0\0\0", 4) == 0)
        bytes -= 4;
    b->columns = b->p->w_step_bytes / u->steps / u->register_bytes;
    b->rows = b->columns ? bytes / b->columns / u->register_bytes : 0;
    return b->rows > 0 && b->rows * b->columns * u->register_bytes == bytes &&
           b->columns * u->steps * u->register_bytes == b->p->w_step_bytes &&
           b->rows * u->steps * u->register_bytes <= NM_PROBE_X_BYTES;
}

/* What the sums of row i and column j grow by. Step s meets register s * rows + i of x, which begins again
 * with each walk, and register s * columns + j of w, which goes on. */
static double growth(const block *b, bool own, size_t i, size_t j)
{
    const unit *u = unit_of(b->p);
    double sum = 0;
    for (size_t s = 0; s < WALKS * u->steps; s++)
        sum += (double)number(own, s % u->steps * b->rows + i, OF_X) *
               (double)number(own, s * b->columns + j, OF_W);
    return sum * PASSES * numbers(b->p->type) * u->across;
}

/* Sums that are not what they must be. Integers are exact. Of the others only the first number of bf16
 * is not whole (two numbers of 16 bits, taken for one of 32): its tail is cut where the exponent grows,
 * by at most an ulp of that exponent whichever way a unit rounds, and those ulps together are less than two of the last. */
static int wrong_sums(const block *b, bool own)
{
    const size_t wide = unit_of(b->p)->register_bytes;
    int wrong = 0;
    for (size_t r = 0; r < b->rows * b->columns; r++)
        for (size_t at = r * wide; at < (r + 1) * wide; at += 4) {
            const double grown = growth(b, own, r / b->columns, r % b->columns);
            const double want = value(b, b->x + at) + grown;
            const double off = fabs(value(b, b->out + at) - want);
            wrong += !(off <= (b->p->type[0] == 'i' ? 0 : ldexp(want, -22)));
        }
    return wrong;
}

/* Two operations for each one by which the sums of all ones have grown. */
static double operations_seen(const block *b)
{
    const size_t bytes = b->rows * b->columns * unit_of(b->p)->register_bytes;
    double grown = 0;
    for (size_t at = 0; at < bytes; at += 4)
        grown += nearbyint(value(b, b->out + at) - value(b, b->x + at));
    return 2 * grown;
}

static void test_sums(block *b)
{
    const nm_probe_product *p = b->p;
    for (int registers = 0; registers < 2; registers++) {
        const char *where = registers ? "registers" : "memory";
        run(b, false, registers != 0);
        is_int(wrong_sums(b, false), 0, "%s %s, %s: %zu x %zu sums counted all steps", p->type,
               p->unit, where, b->rows, b->columns);
        is_near((double)b->ops, operations_seen(b), 0,
                "%s %s, %s: operations are those of the sums", p->type, p->unit, where);
    }
    run(b, true, false);
    is_int(wrong_sums(b, true), 0, "%s %s: each step meets its own x and its own w", p->type,
           p->unit);
}

static void test_product(const nm_probe_product *p)
{
    block b = {.p = p, .w_bytes = WALKS * p->w_step_bytes};
    if (!unit_of(p)) {
        ok(false, "%s %s: the table above has no such unit", p->type, p->unit);
        return;
    }
    b.x = need(NM_PROBE_X_BYTES);
    b.w = need(b.w_bytes);
    b.out = need(NM_PROBE_OUT_BYTES);
    bool whole = find_shape(&b);
    ok(whole, "%s %s: %zu x %zu registers of sums", p->type, p->unit, b.rows, b.columns);
    if (whole)
        test_sums(&b);
    nm_free_aligned(nm_allocator_default(), b.x);
    nm_free_aligned(nm_allocator_default(), b.w);
    nm_free_aligned(nm_allocator_default(), b.out);
}

/* Every byte is read: one that changes changes the sum. */
static void test_reader(const nm_cpu *cpu)
{
    enum { BYTES = 4096 };
    const nm_probe_reader *r = nm_probe_reader_for(cpu);
    char *p = need(BYTES);
    memset(p, 0, BYTES);
    is_u64(r->run(p, BYTES, 0), 0, "%s reader: zeros", r->unit);
    int missed = 0;
    for (int i = 0; i < BYTES; i++) {
        p[i] = 1;
        /* the result shows 8 bytes of the vector of sums: those at multiples of the vector */
        bool seen = r->run(p, BYTES, 512) != 0;
        p[i] = 0;
        missed += !seen && i % 64 < 8;
    }
    is_int(missed, 0, "%s reader: no line is left out", r->unit);
    nm_free_aligned(nm_allocator_default(), p);
}

int main(void)
{
    const nm_cpu cpu = nm_cpu_detect(), plain = {0};
    const nm_probe_product *p;
    size_t usable = 0;
    ok(nm_probe_product_at(0)->usable(&plain), "the first product runs everywhere");
    for (size_t i = 0; (p = nm_probe_product_at(i)); i++) {
        if (!p->usable(&cpu))
            continue;
        test_product(p);
        usable++;
    }
    ok(usable >= 1, "%zu products", usable);
    test_reader(&plain);
    test_reader(&cpu);
    return done_testing();
}
