/* types.c: the table of ggml types, and lookups in it. */
#include "base/num.h"
#include "quant/blocks.h"

#include <ctype.h>

#define CODEC(number, upper, lower, elems, bytes) \
    [number] = {upper, elems, bytes, true, nm_decode_##lower, nm_encode_##lower}
#define BLOCK(number, upper, lower, elems) \
    CODEC(number, upper, lower, elems, (uint32_t)sizeof(nm_block_##lower))
#define KNOWN(number, upper, elems, bytes) [number] = {upper, elems, bytes, false, NULL, NULL}

static const nm_type_traits types[NM_TYPE_END] = {
    CODEC(NM_TYPE_F32, "F32", f32, 1, 4),
    CODEC(NM_TYPE_F16, "F16", f16, 1, 2),
    BLOCK(NM_TYPE_Q4_0, "Q4_0", q4_0, 32),
    BLOCK(NM_TYPE_Q4_1, "Q4_1", q4_1, 32),
    BLOCK(NM_TYPE_Q5_0, "Q5_0", q5_0, 32),
    BLOCK(NM_TYPE_Q5_1, "Q5_1", q5_1, 32),
    BLOCK(NM_TYPE_Q8_0, "Q8_0", q8_0, 32),
    BLOCK(NM_TYPE_Q2_K, "Q2_K", q2_k, 256),
    BLOCK(NM_TYPE_Q3_K, "Q3_K", q3_k, 256),
    BLOCK(NM_TYPE_Q4_K, "Q4_K", q4_k, 256),
    BLOCK(NM_TYPE_Q5_K, "Q5_K", q5_k, 256),
    BLOCK(NM_TYPE_Q6_K, "Q6_K", q6_k, 256),
    BLOCK(NM_TYPE_IQ4_NL, "IQ4_NL", iq4_nl, 32),
    BLOCK(NM_TYPE_IQ4_XS, "IQ4_XS", iq4_xs, 256),
    CODEC(NM_TYPE_BF16, "BF16", bf16, 1, 2),
    BLOCK(NM_TYPE_MXFP4, "MXFP4", mxfp4, 32),
    /* known by size, so that a file that uses them can be described and refused by name */
    KNOWN(9, "Q8_1", 32, 36),
    KNOWN(15, "Q8_K", 256, 292),
    KNOWN(16, "IQ2_XXS", 256, 66),
    KNOWN(17, "IQ2_XS", 256, 74),
    KNOWN(18, "IQ3_XXS", 256, 98),
    KNOWN(19, "IQ1_S", 256, 50),
    KNOWN(21, "IQ3_S", 256, 110),
    KNOWN(22, "IQ2_S", 256, 82),
    KNOWN(24, "I8", 1, 1),
    KNOWN(25, "I16", 1, 2),
    KNOWN(26, "I32", 1, 4),
    KNOWN(27, "I64", 1, 8),
    KNOWN(28, "F64", 1, 8),
    KNOWN(29, "IQ1_M", 256, 56),
    KNOWN(34, "TQ1_0", 256, 54),
    KNOWN(35, "TQ2_0", 256, 66),
    KNOWN(40, "NVFP4", 64, 36),
    KNOWN(41, "Q1_0", 128, 18),
    KNOWN(42, "Q2_0", 64, 18),
};

static const nm_type_traits unknown_type;

/* The layouts are the file format. */
_Static_assert(sizeof(nm_block_q4_0) == 18 && sizeof(nm_block_q4_1) == 20, "Q4");
_Static_assert(sizeof(nm_block_q5_0) == 22 && sizeof(nm_block_q5_1) == 24, "Q5");
_Static_assert(sizeof(nm_block_q8_0) == 34 && sizeof(nm_block_mxfp4) == 17, "Q8_0, MXFP4");
_Static_assert(sizeof(nm_block_q2_k) == 84 && sizeof(nm_block_q3_k) == 110, "Q2_K, Q3_K");
_Static_assert(sizeof(nm_block_q4_k) == 144 && sizeof(nm_block_q5_k) == 176, "Q4_K, Q5_K");
_Static_assert(sizeof(nm_block_q6_k) == 210 && sizeof(nm_block_iq4_xs) == 136, "Q6_K, IQ4_XS");
_Static_assert(sizeof(nm_block_iq4_nl) == 18, "IQ4_NL");

const nm_type_traits *nm_type_get(uint32_t type)
{
    return type < NM_TYPE_END ? &types[type] : &unknown_type;
}

static bool same_letters(nm_str a, const char *b)
{
    size_t i = 0;
    for (; i < a.n && b[i]; i++)
        if (toupper((unsigned char)a.p[i]) != b[i])
            return false;
    return i == a.n && !b[i];
}

bool nm_type_by_name(nm_str name, nm_type *out)
{
    for (uint32_t t = 0; t < NM_TYPE_END; t++)
        if (types[t].name && same_letters(name, types[t].name)) {
            *out = (nm_type)t;
            return true;
        }
    return false;
}

bool nm_row_bytes(uint32_t type, uint64_t n, uint64_t *bytes)
{
    const nm_type_traits *t = nm_type_get(type);
    if (!t->name || n % t->block_elems)
        return false;
    return nm_mul_u64(n / t->block_elems, t->block_bytes, bytes);
}
