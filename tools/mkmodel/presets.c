/* presets.c: families and known geometries. Sources of the numbers: docs/families/. */
#include <stdio.h>

#include "mkmodel.h"

static const mk_family families[MK_ARCH_COUNT] = {
    [MK_OLMOE] = {.arch = "olmoe",
                  .vocab_model = "gpt2",
                  .vocab_pre = "olmo",
                  .qk_norm_full = true},
    [MK_QWEN3MOE] = {.arch = "qwen3moe",
                     .vocab_model = "gpt2",
                     .vocab_pre = "qwen2",
                     .qk_norm_head = true,
                     .expert_ff_key = true,
                     .head_dim_key = true,
                     .renormalised = true},
    [MK_QWEN2MOE] = {.arch = "qwen2moe",
                     .vocab_model = "gpt2",
                     .vocab_pre = "qwen2",
                     .qkv_bias = true,
                     .shared_expert = true,
                     .expert_ff_key = true},
    [MK_LLAMA] = {.arch = "llama",
                  .vocab_model = "llama",
                  .vocab_pre = "default",
                  .renormalised = true},
    [MK_GRANITEMOE] = {.arch = "granitemoe",
                       .vocab_model = "gpt2",
                       .vocab_pre = "refact",
                       .multipliers = true,
                       .renormalised = true},
    [MK_PHIMOE] = {.arch = "phimoe",
                   .vocab_model = "llama",
                   .vocab_pre = "default",
                   .qkv_bias = true,
                   .layer_norm = true},
    [MK_GPT_OSS] = {.arch = "gpt-oss",
                    .vocab_model = "gpt2",
                    .vocab_pre = "gpt-4o",
                    .qkv_bias = true,
                    .expert_ff_key = true,
                    .head_dim_key = true,
                    .renormalised = true,
                    .oss = true},
};

/* clang-format off */
static const mk_spec presets[] = {
    {.name = "olmoe-1b-7b", .arch = MK_OLMOE, .layers = 16, .embd = 2048, .heads = 16, .kv_heads = 16,
     .head_dim = 128, .experts = 64, .used = 8, .ff = 1024, .vocab = 50304, .ctx = 4096,
     .rope_base = 1e4f, .eps = 1e-5f},
    {.name = "qwen3-30b-a3b", .arch = MK_QWEN3MOE, .layers = 48, .embd = 2048, .heads = 32,
     .kv_heads = 4, .head_dim = 128, .experts = 128, .used = 8, .ff = 768, .vocab = 151936,
     .ctx = 40960, .rope_base = 1e6f, .eps = 1e-6f},
    {.name = "qwen1.5-moe-a2.7b", .arch = MK_QWEN2MOE, .layers = 24, .embd = 2048, .heads = 16,
     .kv_heads = 16, .head_dim = 128, .experts = 60, .used = 4, .ff = 1408, .ff_shared = 5632,
     .vocab = 151936, .ctx = 8192, .rope_base = 1e6f, .eps = 1e-6f},
    {.name = "mixtral-8x7b", .arch = MK_LLAMA, .layers = 32, .embd = 4096, .heads = 32, .kv_heads = 8,
     .head_dim = 128, .experts = 8, .used = 2, .ff = 14336, .vocab = 32000, .ctx = 32768,
     .rope_base = 1e6f, .eps = 1e-5f},
    {.name = "granite-3b-a800m", .arch = MK_GRANITEMOE, .layers = 32, .embd = 1536, .heads = 24,
     .kv_heads = 8, .head_dim = 64, .experts = 40, .used = 8, .ff = 512, .vocab = 49155,
     .ctx = 131072, .rope_base = 1e7f, .eps = 1e-6f, .embd_scale = 12.0f, .residual_scale = 0.22f,
     .attn_scale = 0.015625f, .logit_scale = 6.0f},
    {.name = "phi-tiny-moe", .arch = MK_PHIMOE, .layers = 32, .embd = 4096, .heads = 16, .kv_heads = 4,
     .head_dim = 128, .experts = 16, .used = 2, .ff = 448, .vocab = 32064, .ctx = 4096,
     .window = 2047, .rope_base = 1e4f, .eps = 1e-5f},
    {.name = "phi-3.5-moe", .arch = MK_PHIMOE, .layers = 32, .embd = 4096, .heads = 32, .kv_heads = 8,
     .head_dim = 128, .experts = 16, .used = 2, .ff = 6400, .vocab = 32064, .ctx = 131072,
     .ctx_orig = 4096, .window = 131072, .rope_base = 1e4f, .eps = 1e-5f},
    {.name = "gpt-oss-20b", .arch = MK_GPT_OSS, .layers = 24, .embd = 2880, .heads = 64, .kv_heads = 8,
     .head_dim = 64, .experts = 32, .used = 4, .ff = 2880, .vocab = 201088, .ctx = 131072,
     .ctx_orig = 4096, .window = 128, .rope_base = 150000.0f, .eps = 1e-5f},
    /* Tiny ones: seconds to run through the slowest path, and every number unlike its neighbours, so
     * that swapped dimensions cannot cancel. */
    {.name = "tiny-olmoe", .arch = MK_OLMOE, .layers = 3, .embd = 128, .heads = 4, .kv_heads = 4,
     .head_dim = 32, .experts = 16, .used = 4, .ff = 96, .vocab = 640, .ctx = 1024,
     .rope_base = 1e4f, .eps = 1e-5f},
    {.name = "tiny-qwen3moe", .arch = MK_QWEN3MOE, .layers = 3, .embd = 96, .heads = 4, .kv_heads = 2,
     .head_dim = 64, .experts = 24, .used = 4, .ff = 64, .vocab = 704, .ctx = 1024,
     .rope_base = 1e6f, .eps = 1e-6f},
    {.name = "tiny-qwen2moe", .arch = MK_QWEN2MOE, .layers = 3, .embd = 128, .heads = 4, .kv_heads = 2,
     .head_dim = 32, .experts = 15, .used = 4, .ff = 64, .ff_shared = 160, .vocab = 672, .ctx = 1024,
     .rope_base = 1e6f, .eps = 1e-6f},
    {.name = "tiny-llama", .arch = MK_LLAMA, .layers = 3, .embd = 128, .heads = 8, .kv_heads = 2,
     .head_dim = 16, .experts = 8, .used = 2, .ff = 224, .vocab = 608, .ctx = 1024,
     .rope_base = 1e6f, .eps = 1e-5f},
    {.name = "tiny-granitemoe", .arch = MK_GRANITEMOE, .layers = 3, .embd = 96, .heads = 6,
     .kv_heads = 2, .head_dim = 16, .experts = 20, .used = 4, .ff = 64, .vocab = 611, .ctx = 1024,
     .rope_base = 1e4f, .eps = 1e-6f, .embd_scale = 12.0f, .residual_scale = 0.22f,
     .attn_scale = 0.0625f, .logit_scale = 6.0f},
    {.name = "tiny-phimoe", .arch = MK_PHIMOE, .layers = 3, .embd = 128, .heads = 4, .kv_heads = 2,
     .head_dim = 32, .experts = 16, .used = 2, .ff = 96, .vocab = 640, .ctx = 1024, .ctx_orig = 256,
     .window = 100, .rope_base = 1e4f, .eps = 1e-5f},
};
/* clang-format on */

bool mk_preset(const char *name, mk_spec *out)
{
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        if (strcmp(presets[i].name, name) == 0) {
            *out = presets[i];
            out->type = "Q4_K_M";
            out->seed = 1;
            return true;
        }
    }
    return false;
}

const char *mk_preset_name(size_t i)
{
    return i < sizeof presets / sizeof *presets ? presets[i].name : NULL;
}

const mk_family *mk_family_of(mk_arch arch)
{
    return &families[arch];
}
