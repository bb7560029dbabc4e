/* blocks.h: the bytes of one block of each quantised type, as GGUF files hold them.
 *
 * Little endian, no padding; a block may stand at any address, so code copies scales out with
 * memcpy (nm_block_half) and reads the rest as bytes. Source: ggml's ggml-common.h (the format's
 * definition); the essay of each type is in docs/formats/quant.md. */
#ifndef NM_QUANT_BLOCKS_H
#define NM_QUANT_BLOCKS_H

#include "quant/quant.h"

#include <string.h>

#define NM_QK   32  /* elements of a small block */
#define NM_QK_K 256 /* elements of a super-block */

/* 16-bit fields are kept as two bytes, so that every struct has alignment 1. */
typedef struct nm_half2b {
    uint8_t b[2];
} nm_half2b;

typedef struct nm_block_q4_0 {
    nm_half2b d;    /* x = (q - 8) d */
    uint8_t qs[16]; /* low nibbles: elements 0..15, high: 16..31 */
} nm_block_q4_0;

typedef struct nm_block_q4_1 {
    nm_half2b d, m; /* x = q d + m */
    uint8_t qs[16];
} nm_block_q4_1;

typedef struct nm_block_q5_0 {
    nm_half2b d;   /* x = (q - 16) d */
    uint8_t qh[4]; /* bit i: fifth bit of element i */
    uint8_t qs[16];
} nm_block_q5_0;

typedef struct nm_block_q5_1 {
    nm_half2b d, m; /* x = q d + m */
    uint8_t qh[4];
    uint8_t qs[16];
} nm_block_q5_1;

typedef struct nm_block_q8_0 {
    nm_half2b d; /* x = q d */
    int8_t qs[32];
} nm_block_q8_0;

typedef struct nm_block_iq4_nl {
    nm_half2b d; /* x = table[q] d */
    uint8_t qs[16];
} nm_block_iq4_nl;

typedef struct nm_block_mxfp4 {
    uint8_t e; /* x = fp4[q] 2^(e - 127) (OCP microscaling, E2M1 elements, E8M0 scale) */
    uint8_t qs[16];
} nm_block_mxfp4;

typedef struct nm_block_q2_k {
    uint8_t scales[16]; /* 16 sub-blocks of 16: low nibble scale, high nibble minimum */
    uint8_t qs[64];     /* 2 bits each: 128 elements share 32 bytes, plane by plane */
    nm_half2b d, dmin;  /* x = d scale q - dmin minimum */
} nm_block_q2_k;

typedef struct nm_block_q3_k {
    uint8_t hmask[32]; /* third bit, inverted meaning: unset = minus 4 */
    uint8_t qs[64];
    uint8_t scales[12]; /* 16 of 6 bits, biased by 32 */
    nm_half2b d;        /* x = d (scale - 32) (q - 4) */
} nm_block_q3_k;

typedef struct nm_block_q4_k {
    nm_half2b d, dmin;  /* x = d scale q - dmin minimum */
    uint8_t scales[12]; /* 8 scales and 8 minimums of 6 bits */
    uint8_t qs[128];    /* 64 elements share 32 bytes: low nibbles first */
} nm_block_q4_k;

typedef struct nm_block_q5_k {
    nm_half2b d, dmin;
    uint8_t scales[12];
    uint8_t qh[32]; /* bit b of byte l: fifth bit of element 32 b + l */
    uint8_t qs[128];
} nm_block_q5_k;

typedef struct nm_block_q6_k {
    uint8_t ql[128];   /* low 4 bits */
    uint8_t qh[64];    /* high 2 bits */
    int8_t scales[16]; /* sub-blocks of 16 */
    nm_half2b d;       /* x = d scale (q - 32) */
} nm_block_q6_k;

typedef struct nm_block_iq4_xs {
    nm_half2b d;         /* x = d (scale - 32) table[q] */
    nm_half2b scales_h;  /* 8 times the high 2 bits */
    uint8_t scales_l[4]; /* 8 times the low 4 bits */
    uint8_t qs[128];     /* sub-block of 32 = 16 bytes, as in IQ4_NL */
} nm_block_iq4_xs;

static inline uint16_t nm_block_u16(nm_half2b h)
{
    return (uint16_t)(h.b[0] | (h.b[1] << 8));
}

static inline float nm_block_half(nm_half2b h)
{
    return nm_f16_to_f32(nm_block_u16(h));
}

static inline nm_half2b nm_block_put_u16(uint16_t v)
{
    return (nm_half2b){{(uint8_t)(v & 0xff), (uint8_t)(v >> 8)}};
}

/* Stores f as fp16 and returns what a reader will see. */
static inline float nm_block_put_half(nm_half2b *h, float f)
{
    *h = nm_block_put_u16(nm_f32_to_f16(f));
    return nm_block_half(*h);
}

/* The 6-bit scale and minimum number j (0..7) of Q4_K and Q5_K. */
static inline void nm_block_scale_min(const uint8_t s[12], int j, uint8_t *scale, uint8_t *min)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (uint8_t)((s[j + 4] & 15) | ((s[j - 4] >> 6) << 4));
        *min = (uint8_t)((s[j + 4] >> 4) | ((s[j] >> 6) << 4));
    }
}

/* The 6-bit scale number j (0..15) of Q3_K, bias removed. */
static inline int nm_block_q3_scale(const uint8_t s[12], int j)
{
    int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
    int high = (s[8 + j % 4] >> (2 * (j / 4))) & 3;
    return (low | (high << 4)) - 32;
}

/* 2^(e - 128): half of the E8M0 scale, because the table below holds twice the E2M1 values. */
static inline float nm_block_e8m0_half(uint8_t e)
{
    uint32_t bits = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

extern const int8_t nm_table_iq4_nl[16]; /* ascending */
extern const int8_t nm_table_mxfp4[16];  /* 2 x E2M1: 0..12, then the negatives */

/* Decoders and encoders, for the table in types.c. */
#define NM_QUANT_CODEC(t)                                      \
    void nm_decode_##t(const void *src, float *dst, size_t n); \
    void nm_encode_##t(const float *src, void *dst, size_t n, const float *weights);
NM_QUANT_CODEC(f32)
NM_QUANT_CODEC(f16)
NM_QUANT_CODEC(bf16)
NM_QUANT_CODEC(q4_0)
NM_QUANT_CODEC(q4_1)
NM_QUANT_CODEC(q5_0)
NM_QUANT_CODEC(q5_1)
NM_QUANT_CODEC(q8_0)
NM_QUANT_CODEC(q2_k)
NM_QUANT_CODEC(q3_k)
NM_QUANT_CODEC(q4_k)
NM_QUANT_CODEC(q5_k)
NM_QUANT_CODEC(q6_k)
NM_QUANT_CODEC(iq4_nl)
NM_QUANT_CODEC(iq4_xs)
NM_QUANT_CODEC(mxfp4)
#undef NM_QUANT_CODEC

#endif
