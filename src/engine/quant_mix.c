/* quant_mix.c: the rules of the mixes as a table, and the walk that applies them.
 *
 * Three kinds of matrix get more bits, and only in some layers: attn_v (one small matrix that every
 * head of a group shares), ffn_down (its errors go into the residual unattenuated) and attn_output;
 * the output matrix always does. Which layers is a condition on "the i-th of n": for attn_v the
 * count of such matrices so far, for ffn_down the layer.
 *
 * What stays as it is: vectors, norms, the router, and a few small matrices of other architectures.
 * Rows that are no multiple of the type's block get the nearest type with a smaller one. */
#include "engine/quant_mix.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

typedef enum when {
    NEVER,
    GQA_4,      /* four or more query heads share a KV head */
    FIRST_2,    /* i < 2 */
    FIRST_4,    /* i < 4 */
    FIRST_8TH,  /* i < n/8 */
    FIRST_16TH, /* i < n/16 */
    MORE_BITS   /* the first and last eighth, and every third between */
} when;

typedef struct choice {
    when when;
    nm_type yes, no;
} choice;

struct nm_mix {
    const char *name;
    uint32_t file_type; /* llama.cpp's number */
    nm_type base;
    choice attn_v, ffn_down;
    nm_type attn_output;
    bool eight_output; /* attn_output is Q5_K in models of 8 experts */
};

#define PLAIN(name, number, base)                                                 \
    {                                                                             \
        name, number, base, {NEVER, base, base}, {NEVER, base, base}, base, false \
    }

/* clang-format off */
#define T(x) NM_TYPE_##x
static const nm_mix mixes[] = {
    PLAIN("F32", 0, T(F32)),
    PLAIN("F16", 1, T(F16)),
    PLAIN("BF16", 32, T(BF16)),
    PLAIN("Q8_0", 7, T(Q8_0)),
    {"Q6_K",   18, T(Q6_K), {NEVER, T(Q6_K), T(Q6_K)}, {NEVER, T(Q6_K), T(Q6_K)}, T(Q6_K), false},
    {"Q5_K_M", 17, T(Q5_K), {MORE_BITS, T(Q6_K), T(Q5_K)}, {MORE_BITS, T(Q6_K), T(Q5_K)}, T(Q5_K), false},
    PLAIN("Q5_K_S", 16, T(Q5_K)),
    PLAIN("Q5_1", 9, T(Q5_1)),
    PLAIN("Q5_0", 8, T(Q5_0)),
    {"Q4_K_M", 15, T(Q4_K), {MORE_BITS, T(Q6_K), T(Q4_K)}, {MORE_BITS, T(Q6_K), T(Q4_K)}, T(Q4_K), true},
    {"Q4_K_S", 14, T(Q4_K), {FIRST_4, T(Q5_K), T(Q4_K)}, {FIRST_8TH, T(Q5_K), T(Q4_K)}, T(Q4_K), true},
    {"IQ4_NL", 25, T(IQ4_NL), {GQA_4, T(Q5_K), T(IQ4_NL)}, {FIRST_8TH, T(Q5_K), T(IQ4_NL)}, T(IQ4_NL), true},
    {"IQ4_XS", 30, T(IQ4_XS), {GQA_4, T(Q5_K), T(IQ4_XS)}, {FIRST_8TH, T(Q5_K), T(IQ4_XS)}, T(IQ4_XS), true},
    PLAIN("Q4_1", 3, T(Q4_1)),
    PLAIN("Q4_0", 2, T(Q4_0)),
    {"Q3_K_L", 13, T(Q3_K), {NEVER, T(Q5_K), T(Q5_K)}, {NEVER, T(Q5_K), T(Q5_K)}, T(Q5_K), false},
    {"Q3_K_M", 12, T(Q3_K), {FIRST_2, T(Q5_K), T(Q4_K)}, {FIRST_16TH, T(Q5_K), T(Q4_K)}, T(Q4_K), true},
    {"Q3_K_S", 11, T(Q3_K), {NEVER, T(Q3_K), T(Q3_K)}, {NEVER, T(Q3_K), T(Q3_K)}, T(Q3_K), true},
    {"Q2_K",   10, T(Q2_K), {GQA_4, T(Q4_K), T(Q3_K)}, {NEVER, T(Q3_K), T(Q3_K)}, T(Q3_K), true},
    PLAIN("MXFP4", 38, T(MXFP4)), /* experts; all else is Q8_0 */
};
/* clang-format on */

enum { N_MIXES = sizeof mixes / sizeof *mixes };

const nm_mix *nm_mix_by_name(const char *name)
{
    static const char *const alias[][2] = {
        {"MXFP4_MOE", "MXFP4"}, {"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};
    for (size_t i = 0; i < sizeof alias / sizeof *alias; i++)
        if (strcasecmp(name, alias[i][0]) == 0)
            name = alias[i][1];
    for (size_t i = 0; i < N_MIXES; i++)
        if (strcasecmp(name, mixes[i].name) == 0)
            return &mixes[i];
    return NULL;
}

const char *nm_mix_name(size_t index)
{
    return index < N_MIXES ? mixes[index].name : NULL;
}

uint32_t nm_mix_file_type(const nm_mix *mix)
{
    return mix->file_type;
}

/* ---- what a tensor is ---------------------------------------------------------------------- */

typedef enum role { OTHER, OUTPUT, TOKEN_EMBD, ATTN_V, ATTN_K, ATTN_OUTPUT, FFN_DOWN } role;

typedef struct entry {
    char name[64];
    int layer; /* -1 = none */
    role role;
    size_t at; /* its number in the file */
} entry;

static bool has(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

static role role_of(const char *name)
{
    if (strcmp(name, "output.weight") == 0)
        return OUTPUT;
    if (strcmp(name, "token_embd.weight") == 0)
        return TOKEN_EMBD;
    if (has(name, "attn_v.weight") || has(name, "attn_qkv.weight") || has(name, "attn_kv_b.weight"))
        return ATTN_V;
    if (has(name, "attn_k.weight"))
        return ATTN_K;
    if (has(name, "attn_output.weight"))
        return ATTN_OUTPUT;
    return has(name, "ffn_down") ? FFN_DOWN : OTHER;
}

static uint32_t n_dims_used(const nm_gguf_tensor *t)
{
    uint32_t n = 4;
    while (n > 1 && t->ne[n - 1] == 1)
        n--;
    return n;
}

static bool is_quantised(const nm_gguf_tensor *t, const char *name)
{
    static const char *const keep[] = {
        "_norm.weight",
        "ffn_gate_inp.weight",
        "ffn_gate_tid2eid.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d",
        "shortconv.conv",
        "indexer.k_proj.weight",
        "indexer.q_proj.weight",
        "attn_rel_b.weight",
        "position_embd",
        "token_types.weight",
    };
    size_t n = strlen(name);
    if (n_dims_used(t) < 2 || n < 6 || strcmp(name + n - 6, "weight") != 0)
        return false;
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
        if (has(name, keep[i]))
            return false;
    return true;
}

static void describe(const nm_gguf_tensor *t, size_t at, entry *e)
{
    size_t n = t->name.n < sizeof e->name ? t->name.n : sizeof e->name - 1;
    memset(e, 0, sizeof *e);
    memcpy(e->name, t->name.p, n);
    if (sscanf(e->name, "blk.%d.", &e->layer) != 1)
        e->layer = -1;
    e->role = role_of(e->name);
    e->at = at;
}

/* llama.cpp's order; it decides which matrices are "the first". */
static int by_layer(const void *pa, const void *pb)
{
    const entry *a = pa, *b = pb;
    if (a->layer != b->layer)
        return a->layer < b->layer ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* ---- the rules ----------------------------------------------------------------------------- */

typedef struct walk {
    const nm_mix *mix;
    bool pure, tied;
    uint32_t n_layer, n_expert, n_gqa;
    uint32_t i_attn_v, n_attn_v;
} walk;

static nm_type choose(const walk *w, const choice *c, int64_t i, int64_t n)
{
    bool yes = false;
    switch (c->when) {
    case NEVER:
        break;
    case GQA_4:
        yes = w->n_gqa >= 4;
        break;
    case FIRST_2:
        yes = i < 2;
        break;
    case FIRST_4:
        yes = i < 4;
        break;
    case FIRST_8TH:
        yes = i < n / 8;
        break;
    case FIRST_16TH:
        yes = i < n / 16;
        break;
    case MORE_BITS:
        yes = i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
        break;
    }
    return yes ? c->yes : c->no;
}

static bool divides(nm_type type, uint64_t row)
{
    return row % nm_type_get(type)->block_elems == 0;
}

static nm_type output_type(const nm_mix *mix, uint64_t row)
{
    if (mix->base == NM_TYPE_MXFP4 || mix->base == NM_TYPE_Q8_0 || !divides(mix->base, row))
        return NM_TYPE_Q8_0;
    return NM_TYPE_Q6_K;
}

static nm_type mixed_type(walk *w, const entry *e, const nm_gguf_tensor *t)
{
    const nm_mix *mix = w->mix;
    bool eight = w->n_expert == 8;
    if (e->role == OUTPUT || (e->role == TOKEN_EMBD && w->tied))
        return output_type(mix, t->ne[0]);
    if (mix->base == NM_TYPE_MXFP4)
        return t->ne[2] > 1 ? NM_TYPE_MXFP4 : NM_TYPE_Q8_0;
    switch (e->role) {
    case ATTN_V: {
        nm_type v = choose(w, &mix->attn_v, w->i_attn_v++, w->n_attn_v);
        return eight ? NM_TYPE_Q8_0 : v; /* eight experts dwarf attn_k and attn_v */
    }
    case ATTN_K:
        return eight ? NM_TYPE_Q8_0 : mix->base;
    case FFN_DOWN:
        return choose(w, &mix->ffn_down, e->layer, w->n_layer);
    case ATTN_OUTPUT:
        return !eight ? mix->attn_output : mix->eight_output ? NM_TYPE_Q5_K : mix->base;
    default:
        return mix->base;
    }
}

/* A type whose block divides the row: of the same quality with blocks of 32, else F16. */
static nm_type fallback(nm_type type, uint64_t row)
{
    if (divides(type, row))
        return type;
    switch (type) {
    case NM_TYPE_IQ4_XS:
        type = NM_TYPE_IQ4_NL;
        break;
    case NM_TYPE_Q2_K:
    case NM_TYPE_Q3_K:
        type = NM_TYPE_Q4_0;
        break;
    case NM_TYPE_Q4_K:
        type = NM_TYPE_Q5_0;
        break;
    case NM_TYPE_Q5_K:
        type = NM_TYPE_Q5_1;
        break;
    case NM_TYPE_Q6_K:
        type = NM_TYPE_Q8_0;
        break;
    default:
        break;
    }
    return divides(type, row) ? type : NM_TYPE_F16;
}

static nm_type type_for(walk *w, const entry *e, const nm_gguf_tensor *t)
{
    nm_type base = w->mix->base;
    if (!is_quantised(t, e->name))
        return (nm_type)t->type;
    bool block = nm_type_get(base)->block_elems > 1;
    nm_type type = block && !w->pure ? mixed_type(w, e, t) : base;
    return fallback(type, t->ne[0]);
}

/* ---- the model ----------------------------------------------------------------------------- */

/* An integer key of the architecture; the first element when it is an array per layer; 0 when it
 * is absent or something else: then the rules that need it do not apply. */
static uint32_t arch_key(const nm_gguf *g, const char *name)
{
    nm_str arch;
    char key[128];
    uint32_t v = 0;
    nm_gguf_array arr;
    if (nm_gguf_str_or(g, "general.architecture", "", &arch, NULL) != NPUMOE_OK)
        return 0;
    snprintf(key, sizeof key, "%.*s.%s", (int)(arch.n < 64 ? arch.n : 64), arch.p, name);
    if (nm_gguf_get_u32(g, key, &v, NULL) == NPUMOE_OK)
        return v;
    if (nm_gguf_get_arr(g, key, NM_GGUF_I64, &arr, NULL) == NPUMOE_OK && arr.count > 0) {
        int64_t first = nm_gguf_arr_i64(&arr, 0);
        return first > 0 && first <= UINT32_MAX ? (uint32_t)first : 0;
    }
    return 0;
}

npumoe_status nm_mix_plan(const nm_gguf *g, const nm_mix *mix, bool pure, const npumoe_allocator *a,
                          uint32_t *types, npumoe_error *err)
{
    size_t n = nm_gguf_n_tensors(g);
    uint32_t n_head = arch_key(g, "attention.head_count");
    uint32_t n_kv = arch_key(g, "attention.head_count_kv");
    walk w = {.mix = mix,
              .pure = pure,
              .tied = !nm_gguf_find_tensor(g, "output.weight"),
              .n_layer = arch_key(g, "block_count"),
              .n_expert = arch_key(g, "expert_count"),
              .n_gqa = n_kv ? n_head / n_kv : 0};
    entry *entries = nm_alloc_array(a, n, sizeof *entries);
    if (!entries)
        return nm_err_nomem(err, n * sizeof *entries, "a quantisation plan");
    for (size_t i = 0; i < n; i++) {
        describe(nm_gguf_tensor_at(g, i), i, &entries[i]);
        w.n_attn_v += entries[i].role == ATTN_V;
    }
    qsort(entries, n, sizeof *entries, by_layer);
    for (size_t i = 0; i < n; i++)
        types[entries[i].at] = type_for(&w, &entries[i], nm_gguf_tensor_at(g, entries[i].at));
    nm_free(a, entries);
    return NPUMOE_OK;
}
