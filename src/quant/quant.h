/* quant.h: block formats of GGUF tensors: their layout, and the reference encode and decode.
 *
 * A row of n elements is stored as n / block_elems blocks of block_bytes each; n must be a
 * multiple of block_elems. Decode of a block is exact arithmetic as ggml defines it (fp32 in the
 * order of ggml's dequantize_row_*), so decoded weights are bit-equal to llama.cpp's.
 * Numbers of the enum are ggml's (they are in files). */
#ifndef NM_QUANT_QUANT_H
#define NM_QUANT_QUANT_H

#include "base/err.h"
#include "base/str.h"

typedef enum nm_type {
    NM_TYPE_F32 = 0,
    NM_TYPE_F16 = 1,
    NM_TYPE_Q4_0 = 2,
    NM_TYPE_Q4_1 = 3,
    NM_TYPE_Q5_0 = 6,
    NM_TYPE_Q5_1 = 7,
    NM_TYPE_Q8_0 = 8,
    NM_TYPE_Q2_K = 10,
    NM_TYPE_Q3_K = 11,
    NM_TYPE_Q4_K = 12,
    NM_TYPE_Q5_K = 13,
    NM_TYPE_Q6_K = 14,
    NM_TYPE_IQ4_NL = 20,
    NM_TYPE_IQ4_XS = 23,
    NM_TYPE_BF16 = 30,
    NM_TYPE_MXFP4 = 39,
    NM_TYPE_END = 64 /* one past every number a file may name */
} nm_type;

typedef struct nm_type_traits {
    const char *name;     /* "Q4_K"; NULL = a number we do not know */
    uint32_t block_elems; /* 1, 32 or 256 */
    uint32_t block_bytes;
    bool supported; /* false: a ggml type with known size that we cannot compute with */
    /* n is a multiple of block_elems; src and dst need no alignment beyond their type's. */
    void (*decode)(const void *src, float *dst, size_t n);
    /* weights (importance, n floats) may be NULL. NULL = no encoder. */
    void (*encode)(const float *src, void *dst, size_t n, const float *weights);
} nm_type_traits;

/* Never NULL; an unknown number gives an entry whose name is NULL. Covers every ggml type that has
 * a size, so that files with other types can be described and refused by name. */
const nm_type_traits *nm_type_get(uint32_t type);
/* By llama.cpp's name, any case; false when unknown. */
bool nm_type_by_name(nm_str name, nm_type *out);
/* Bytes of a row; false when n is no multiple of the block or the product overflows. */
bool nm_row_bytes(uint32_t type, uint64_t n, uint64_t *bytes);

/* Scalar conversions, exact (round to nearest even, NaN kept). */
float nm_f16_to_f32(uint16_t h);
uint16_t nm_f32_to_f16(float f);
float nm_bf16_to_f32(uint16_t h);
uint16_t nm_f32_to_bf16(float f);

#endif
