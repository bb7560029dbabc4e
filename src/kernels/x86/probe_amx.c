/* probe_amx.c: bfloat16 and 8-bit integers on tiles (probe.h).
 *
 * All eight tiles are 16 rows of 64 bytes: four sums, two of x, two of w. A step loads four tiles for
 * four multiplications of 16 x 16 results, the best ratio that eight tiles allow. The layout of the
 * operands (pairs of bf16, quads of bytes interleaved in w) does not matter to the clock. */
#include "kernels/probe_lists.h"
#include "kernels/tmpl/vec.h"

#include "kernels/x86/tiles.inc"

enum {
    TILE_BYTES = 16 * 64,
    STEPS = 8, /* of one walk over x */
    W_STEP = STEPS * 2 * TILE_BYTES
};

_Static_assert(STEPS * 2 * TILE_BYTES == NM_PROBE_X_BYTES, "x is one walk");
_Static_assert(4 * TILE_BYTES == NM_PROBE_OUT_BYTES, "out holds the sums");

static void load_sums(const char *x)
{
    _tile_loadd(0, x, 64);
    _tile_loadd(1, x + TILE_BYTES, 64);
    _tile_loadd(2, x + 2 * TILE_BYTES, 64);
    _tile_loadd(3, x + 3 * TILE_BYTES, 64);
}

static void store_sums(char *out)
{
    _tile_stored(0, out, 64);
    _tile_stored(1, out + TILE_BYTES, 64);
    _tile_stored(2, out + 2 * TILE_BYTES, 64);
    _tile_stored(3, out + 3 * TILE_BYTES, 64);
    _tile_release();
}

/* Numbers of tiles are part of the instruction, so these cannot be arguments. */
VEC void multiply(bool bf16)
{
    if (bf16) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    } else {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
}

VEC void load_operands(const char *x, const char *w)
{
    _tile_loadd(4, x, 64);
    _tile_loadd(5, x + TILE_BYTES, 64);
    _tile_loadd(6, w, 64);
    _tile_loadd(7, w + TILE_BYTES, 64);
}

VEC uint64_t product(bool bf16, const char *x, const char *w, size_t w_bytes, size_t passes,
                     void *out)
{
    const size_t n_steps = w_bytes / (2 * TILE_BYTES);
    tiles_on();
    load_sums(x);
    load_operands(x, x);
    for (size_t pass = 0; pass < passes; pass++)
        for (size_t s = 0; s < n_steps; s++) {
            if (w)
                load_operands(x + s % STEPS * 2 * TILE_BYTES, w + s * 2 * TILE_BYTES);
            multiply(bf16);
        }
    store_sums(out);
    const uint64_t macs = 4 * 16 * 16 * (bf16 ? 32 : 64);
    return (uint64_t)passes * n_steps * macs * 2;
}

static uint64_t bf16_tiles(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return product(true, x, w, w_bytes, passes, out);
}

static uint64_t i8_tiles(const void *x, const void *w, size_t w_bytes, size_t passes, void *out)
{
    return product(false, x, w, w_bytes, passes, out);
}

static bool has_bf16(const nm_cpu *cpu)
{
    return cpu->amx_tile && cpu->amx_bf16 && nm_cpu_permit_tiles();
}

static bool has_int8(const nm_cpu *cpu)
{
    return cpu->amx_tile && cpu->amx_int8 && nm_cpu_permit_tiles();
}

const nm_probe_product nm_probe_products_amx[] = {
    {"bf16", "amx_bf16", "amx", has_bf16, W_STEP, bf16_tiles},
    {"i8", "amx_int8", "amx", has_int8, W_STEP, i8_tiles},
    {0},
};
