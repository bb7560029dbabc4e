/* half.c: fp16 and bf16, by integer arithmetic: the same bits on every machine. */
#include "quant/blocks.h"

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float nm_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exp = (h >> 10) & 31u, man = h & 0x3ffu;
    if (exp == 31) /* Inf, NaN (made quiet, as the processors' own conversion does) */
        return float_of(sign | 0x7f800000u | (man << 13) | (man ? 0x00400000u : 0));
    if (exp)
        return float_of(sign | ((exp + 112) << 23) | (man << 13));
    /* denormal: man * 2^-24, exact in fp32 */
    float f = (float)man * 0x1p-24f;
    return sign ? -f : f;
}

uint16_t nm_f32_to_f16(float f)
{
    uint32_t u = bits_of(f);
    uint16_t sign = (uint16_t)((u >> 16) & 0x8000u);
    uint32_t a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
    if (a >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (a < 0x38800000u) {
        /* denormal result: adding 0.5 aligns the mantissa so that the FPU does the rounding */
        float r = float_of(a) + 0.5f;
        return (uint16_t)(sign | (bits_of(r) - 0x3f000000u));
    }
    uint32_t odd = (a >> 13) & 1u;
    return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + odd) >> 13));
}

float nm_bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t nm_f32_to_bf16(float f)
{
    uint32_t u = bits_of(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((u >> 16) | 64); /* keep NaN a NaN */
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

void nm_decode_f32(const void *src, float *dst, size_t n)
{
    if (n)
        memcpy(dst, src, n * sizeof *dst);
}

void nm_encode_f32(const float *src, void *dst, size_t n, const float *weights)
{
    (void)weights;
    if (n)
        memcpy(dst, src, n * sizeof *src);
}

static uint16_t load_u16(const void *p, size_t i)
{
    uint16_t v;
    memcpy(&v, (const char *)p + i * sizeof v, sizeof v);
    return v;
}

void nm_decode_f16(const void *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = nm_f16_to_f32(load_u16(src, i));
}

void nm_encode_f16(const float *src, void *dst, size_t n, const float *weights)
{
    (void)weights;
    for (size_t i = 0; i < n; i++) {
        uint16_t v = nm_f32_to_f16(src[i]);
        memcpy((char *)dst + i * sizeof v, &v, sizeof v);
    }
}

void nm_decode_bf16(const void *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = nm_bf16_to_f32(load_u16(src, i));
}

void nm_encode_bf16(const float *src, void *dst, size_t n, const float *weights)
{
    (void)weights;
    for (size_t i = 0; i < n; i++) {
        uint16_t v = nm_f32_to_bf16(src[i]);
        memcpy((char *)dst + i * sizeof v, &v, sizeof v);
    }
}
