/* fuzz_trace.c: any bytes as a trace. What the reader gives of an accepted file is in range. */
#include "moe/trace.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static uint32_t ids[NM_PROFILE_WINDOW * NM_MAX_EXPERT_USED];
static float weights[NM_PROFILE_WINDOW * NM_MAX_EXPERT_USED];

static void check(bool fine)
{
    if (!fine)
        __builtin_trap();
}

static void read_block(const nm_trace *t, uint64_t b)
{
    const nm_trace_info *info = nm_trace_get_info(t);
    const nm_trace_block block = nm_trace_block_at(t, b);
    check(block.n >= 1 && block.n <= NM_PROFILE_WINDOW && block.text < info->texts);
    check(nm_trace_text_name(t, block.text).n < NM_PROFILE_NAME);
    for (uint32_t l = 0; l < info->n_layers && l < 4; l++) {
        check(nm_trace_layer(t, l) < info->n_layer);
        if (nm_trace_read(t, b, l, 0, block.n, ids, weights, NULL) != NPUMOE_OK)
            continue;
        for (size_t i = 0; i < (size_t)block.n * info->k; i++)
            check(ids[i] < info->n_expert && isfinite(weights[i]));
        check(nm_trace_read(t, b, l, block.n / 2, block.n - block.n / 2, ids, NULL, NULL) ==
              NPUMOE_OK);
    }
    check(nm_trace_read(t, b, 0, 1, block.n, ids, weights, NULL) == NPUMOE_EINVAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    nm_trace *t = NULL;
    if (nm_trace_open_memory(NULL, data, bytes, "input", &t, NULL) != NPUMOE_OK)
        return 0;
    for (uint64_t b = 0; b < nm_trace_get_info(t)->blocks && b < 16; b++)
        read_block(t, b);
    nm_trace_free(&t);
    return 0;
}
