/* test_quant.c: block formats.
 *
 * Decode: pseudo-random blocks of every type must give the bits that ggml gives; the hashes were
 * made with ggml 0.21 over the same generator (NaN counted as one value). That covers every scale,
 * denormal, infinity and bit plane.
 * Encode: the relative error on normal numbers may not exceed what ggml 0.21 reached on the same kind
 * of data; extreme inputs must stay inside the block. */
#include "base/alloc.h"
#include "quant/blocks.h"
#include "tap.h"

#include <math.h>
#include <stdlib.h>

static uint64_t lcg(uint64_t *s)
{
    *s = *s * 6364136223846793005ull + 1442695040888963407ull;
    return *s >> 33;
}

/* Sum of 12 uniforms: close enough to normal, no libm. */
static float normal(uint64_t *s)
{
    float sum = -6;
    for (int i = 0; i < 12; i++)
        sum += (float)(lcg(s) & 0xffffff) / 16777216.0f;
    return sum;
}

typedef struct expectation {
    nm_type type;
    uint64_t hash; /* of decoded random blocks */
    float rmse;    /* relative, of encode + decode of normal numbers: ggml's, rounded up */
} expectation;

static const expectation expected[] = {
    {NM_TYPE_F32, 0x038b299c9ea1cacdull, 0},
    {NM_TYPE_F16, 0xea32e763fee29d9aull, 0.0003f},
    {NM_TYPE_Q4_0, 0x0f63f5cd6c65dc8aull, 0.087f},
    {NM_TYPE_Q4_1, 0xc31aca2eeecf0692ull, 0.079f},
    {NM_TYPE_Q5_0, 0x3ec7341fc8143affull, 0.0435f},
    {NM_TYPE_Q5_1, 0x949bb7796b9989edull, 0.0385f},
    {NM_TYPE_Q8_0, 0x7bbba3446610d2efull, 0.0055f},
    {NM_TYPE_Q2_K, 0xd8863e92ef901c4cull, 0.297f},
    {NM_TYPE_Q3_K, 0xa9af8c055f04a7f0ull, 0.151f},
    {NM_TYPE_Q4_K, 0x0ba1b3563c519e98ull, 0.0712f},
    {NM_TYPE_Q5_K, 0xa01bd13c68a3caf0ull, 0.0362f},
    {NM_TYPE_Q6_K, 0x6ff580f356278a26ull, 0.0178f},
    {NM_TYPE_IQ4_NL, 0xe6691ab3ef54a615ull, 0.076f},
    {NM_TYPE_IQ4_XS, 0xee75a6c4e82f1641ull, 0.0768f},
    {NM_TYPE_BF16, 0xb76d5e44cfad658full, 0.0017f},
    {NM_TYPE_MXFP4, 0xee3899c2a21747c1ull, 0.116f},
};

#define N_EXPECTED (sizeof expected / sizeof expected[0])

static uint64_t hash_floats(const float *y, size_t n)
{
    uint64_t h = 1469598103934665603ull;
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &y[i], sizeof u);
        if (isnan(y[i]))
            u = 0x7fc00000u;
        for (int b = 0; b < 4; b++) {
            h ^= (u >> (8 * b)) & 255u;
            h *= 1099511628211ull;
        }
    }
    return h;
}

static void test_decode(const expectation *e)
{
    const nm_type_traits *t = nm_type_get(e->type);
    size_t n = 256 * 64, bytes = n / t->block_elems * t->block_bytes;
    uint8_t *blocks = malloc(bytes);
    float *y = malloc(n * sizeof *y);
    uint64_t seed = (uint64_t)e->type + 1;
    for (size_t i = 0; i < bytes; i++)
        blocks[i] = (uint8_t)lcg(&seed);
    t->decode(blocks, y, n);
    ok(hash_floats(y, n) == e->hash, "%s decodes to ggml's bits", t->name);
    free(blocks);
    free(y);
}

static double relative_rmse(const nm_type_traits *t, const float *x, size_t n, const float *weights)
{
    uint8_t *q = malloc(n / t->block_elems * t->block_bytes);
    float *y = malloc(n * sizeof *y);
    t->encode(x, q, n, weights);
    t->decode(q, y, n);
    double err = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        err += (double)(x[i] - y[i]) * (x[i] - y[i]);
        sum += (double)x[i] * x[i];
    }
    free(q);
    free(y);
    return sqrt(err / sum);
}

static void test_encode_error(const expectation *e)
{
    const nm_type_traits *t = nm_type_get(e->type);
    size_t n = 256 * 128;
    float *x = malloc(n * sizeof *x), *ones = malloc(n * sizeof *ones);
    uint64_t seed = 7;
    for (size_t i = 0; i < n; i++) {
        x[i] = 0.02f * normal(&seed);
        ones[i] = 1.0f;
    }
    double got = relative_rmse(t, x, n, NULL), same = relative_rmse(t, x, n, ones);
    ok(got <= (double)e->rmse, "%s error %.5f is at most ggml's %.5f", t->name, got,
       (double)e->rmse);
    ok(got == same, "%s importance 1 is no importance", t->name);
    free(x);
    free(ones);
}

/* Every pattern must encode inside the block and decode to something; finite in the type's range
 * must come back finite. */
static void test_encode_extremes(const expectation *e)
{
    const nm_type_traits *t = nm_type_get(e->type);
    const float values[] = {0,        -0.0f,    1e-45f, -1e-38f, 1e-20f,   1.0f,
                            -60000.f, 60000.0f, 3e38f,  -3e38f,  INFINITY, NAN};
    size_t block = t->block_bytes * (t->block_elems == 1 ? 256 : 256 / t->block_elems);
    uint8_t *q = malloc(block + 32);
    bool guards = true, finite = true;
    for (size_t a = 0; a < sizeof values / sizeof *values; a++)
        for (size_t b = 0; b < sizeof values / sizeof *values; b++) {
            float x[256], y[256];
            for (size_t i = 0; i < 256; i++)
                x[i] = i % 7 == 3 ? values[b] : values[a];
            memset(q, 0xa5, block + 32);
            t->encode(x, q, 256, NULL);
            t->decode(q, y, 256);
            for (size_t i = 0; i < 32; i++)
                guards = guards && q[block + i] == 0xa5;
            if (a < 8 && b < 8)
                for (size_t i = 0; i < 256; i++)
                    finite = finite && isfinite(y[i]);
        }
    ok(guards, "%s extreme values stay inside the block", t->name);
    ok(finite, "%s finite values in range stay finite", t->name);
    free(q);
}

/* The importance of an element must pull the fit towards it. */
static void test_importance(void)
{
    const nm_type types[] = {NM_TYPE_Q2_K, NM_TYPE_Q3_K,   NM_TYPE_Q4_K,  NM_TYPE_Q5_K,
                             NM_TYPE_Q6_K, NM_TYPE_IQ4_NL, NM_TYPE_IQ4_XS};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        const nm_type_traits *t = nm_type_get(types[k]);
        float x[256 * 16], w[256 * 16], y[256 * 16];
        uint8_t q[256 * 16];
        uint64_t seed = 11;
        double plain = 0, weighted = 0;
        for (size_t i = 0; i < 256 * 16; i++) {
            x[i] = normal(&seed);
            w[i] = i % 16 == 5 ? 100.0f : 0.01f;
        }
        t->encode(x, q, 256 * 16, NULL);
        t->decode(q, y, 256 * 16);
        for (size_t i = 5; i < 256 * 16; i += 16)
            plain += pow((double)(x[i] - y[i]), 2);
        t->encode(x, q, 256 * 16, w);
        t->decode(q, y, 256 * 16);
        for (size_t i = 5; i < 256 * 16; i += 16)
            weighted += pow((double)(x[i] - y[i]), 2);
        ok(weighted < 0.8 * plain, "%s heeds importance (%.4f < %.4f)", t->name, weighted, plain);
    }
}

static void test_halves(void)
{
    bool f16 = true, bf16 = true;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = nm_f16_to_f32((uint16_t)h), g = nm_bf16_to_f32((uint16_t)h);
        if (isnan(f))
            f16 = f16 && isnan(nm_f16_to_f32(nm_f32_to_f16(f)));
        else
            f16 = f16 && nm_f32_to_f16(f) == h;
        if (isnan(g))
            bf16 = bf16 && isnan(nm_bf16_to_f32(nm_f32_to_bf16(g)));
        else
            bf16 = bf16 && nm_f32_to_bf16(g) == h;
    }
    ok(f16, "every fp16 value survives fp32");
    ok(bf16, "every bf16 value survives fp32");
    is_int(nm_f32_to_f16(65519.0f), 0x7bff, "65519 rounds to the largest half");
    is_int(nm_f32_to_f16(65520.0f), 0x7c00, "65520 rounds to infinity");
    is_int(nm_f32_to_f16(1.0f + 0x1p-11f), 0x3c00, "a tie rounds to even (down)");
    is_int(nm_f32_to_f16(1.0f + 3 * 0x1p-11f), 0x3c02, "a tie rounds to even (up)");
    is_int(nm_f32_to_f16(0x1p-25f), 0, "half the least denormal rounds to zero");
    is_int(nm_f32_to_f16(0x1.8p-25f), 1, "more than that rounds up");
    is_int(nm_f32_to_bf16(1.0f + 0x1p-8f), 0x3f80, "a bf16 tie rounds to even");
}

static void test_lookup(void)
{
    nm_type t = NM_TYPE_F32;
    uint64_t bytes = 1;
    ok(nm_type_by_name(NM_STR("q4_k"), &t) && t == NM_TYPE_Q4_K, "names in any case");
    ok(!nm_type_by_name(NM_STR("Q4_"), &t), "no prefix matches");
    ok(!nm_type_by_name(NM_STR("Q4_KX"), &t), "no longer name matches");
    ok(nm_type_get(4)->name == NULL, "number 4 was retired");
    ok(nm_type_get(UINT32_MAX)->name == NULL, "a wild number is unknown");
    ok(nm_type_get(16)->name && !nm_type_get(16)->supported, "IQ2_XXS is known, not supported");
    ok(nm_row_bytes(NM_TYPE_Q4_K, 512, &bytes) && bytes == 288, "two super-blocks");
    ok(!nm_row_bytes(NM_TYPE_Q4_K, 300, &bytes), "300 is no multiple of 256");
    ok(!nm_row_bytes(NM_TYPE_F32, UINT64_MAX / 2, &bytes), "overflow is seen");
    ok(!nm_row_bytes(99, 32, &bytes), "unknown types have no size");
}

int main(void)
{
    test_halves();
    test_lookup();
    for (size_t i = 0; i < N_EXPECTED; i++) {
        test_decode(&expected[i]);
        test_encode_error(&expected[i]);
        test_encode_extremes(&expected[i]);
    }
    test_importance();
    return done_testing();
}
