/* check_decode.c: decoders of all types: the reference's bits from any bytes whatever. */
#include "products.h"

#include "quant/blocks.h"

#include <string.h>

/* kind 0 .. 7: all bytes equal (0x00, 0xff, 0x7f, ...); above: noise, in which scales are often NaN,
 * infinite or denormal. */
static void draw_blocks(kcheck *c, void *to, size_t bytes, unsigned kind)
{
    static const unsigned char fill[] = {0x00, 0xff, 0x7f, 0x80, 0x55, 0xaa, 0x7c, 0x01};
    if (kind < sizeof fill)
        memset(to, fill[kind], bytes);
    else
        draw_bytes(c, to, bytes);
}

static void compare(kcheck *c, uint32_t type, const void *src, size_t n, placement where)
{
    float *want = slot_take(1, where, n, sizeof *want), *got = slot_take(2, where, n, sizeof *got);
    c->ref.decode[type](src, want, n);
    c->tier.decode[type](src, got, n);
    same(c, got, want, n, nm_type_get(type)->name);
    if (!slot_guards_intact(2))
        fail(c, "%s: n %zu: wrote outside the row", nm_type_get(type)->name, n);
    c->cases++;
}

static void check_type(kcheck *c, uint32_t type)
{
    const nm_type_traits *t = nm_type_get(type);
    static const size_t counts[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 61};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        for (unsigned kind = 0; kind < 24; kind++) {
            if (!chosen(c))
                continue;
            placement where = (placement)(kind % N_PLACEMENTS);
            size_t bytes = counts[i] * t->block_bytes;
            /* Blocks may stand at any address, plain numbers at multiples of their size. */
            char *src = slot_take(0, where, bytes, t->block_elems == 1 ? t->block_bytes : 1);
            draw_blocks(c, src, bytes, kind);
            compare(c, type, src, counts[i] * t->block_elems, where);
        }
}

static void check_extremes(kcheck *c, uint32_t type)
{
    const nm_type_traits *t = nm_type_get(type);
    for (int where = 0; where < N_PLACEMENTS; where++) {
        char *src = slot_take(0, (placement)where, EXTREME_ROWS * t->block_bytes, 1);
        draw_extreme_weights(c, type, (extremes){0}, EXTREME_ROWS, t->block_elems, src);
        compare(c, type, src, EXTREME_ROWS * t->block_elems, (placement)where);
    }
}

static void check_every_half(kcheck *c, uint32_t type)
{
    uint16_t *all = slot_take(0, ALIGNED, 65536, sizeof *all);
    for (uint32_t i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    compare(c, type, all, 65536, ALIGNED);
}

void check_decode(kcheck *c)
{
    for (uint32_t type = 0; type < NM_TYPE_END; type++)
        if (c->ref.decode[type]) {
            check_type(c, type);
            if (nm_type_get(type)->block_elems > 1)
                check_extremes(c, type);
        }
    check_every_half(c, NM_TYPE_F16);
    check_every_half(c, NM_TYPE_BF16);
}
