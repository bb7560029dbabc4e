/* fuzz_model.c: any bytes as a model.
 *
 * A file that opens is configured and bound; one that passes both runs three tokens through all
 * layers, in two chunks. So a combination of keys and shapes that the checks let through, but that
 * a buffer was not sized for, shows under AddressSanitizer. */
#include "engine/forward.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { N_CTX = 3, MOST_SCRATCH = 64 << 20 };

static void run(nm_forward *f, float *logits)
{
    const npumoe_token last = (npumoe_token)(f->config->n_vocab - 1);
    const npumoe_token tokens[N_CTX] = {0, last, last / 2};
    nm_forward_chunk(f, tokens, 2, 0, 2);
    nm_forward_chunk(f, tokens + 2, 1, 2, 0);
    nm_forward_logits(f, 0, 1, logits);
}

static void evaluate(const nm_config *c, const nm_weights *w, nm_pool *pool, const nm_kern *kern)
{
    const npumoe_allocator *a = nm_allocator_default();
    nm_buffers buf;
    nm_kv kv = {0};
    size_t need = nm_buffers_plan(&buf, c, 2, 1, false, NULL);
    char *scratch = need <= MOST_SCRATCH ? nm_alloc_aligned(a, need) : NULL;
    if (scratch && nm_kv_init(&kv, c, N_CTX, NM_TYPE_F16, NM_TYPE_F16, a, NULL) == NPUMOE_OK) {
        nm_buffers_plan(&buf, c, 2, 1, false, scratch);
        nm_forward f = {.config = c,
                        .weights = w,
                        .compute = {.kern = kern,
                                    .pool = pool,
                                    .scratch = buf.scratch,
                                    .scratch_bytes = buf.scratch_bytes,
                                    .packed = buf.packed,
                                    .packed_bytes = buf.packed_bytes},
                        .kv = &kv,
                        .buf = &buf};
        run(&f, buf.logits);
        nm_kv_fini(&kv);
    }
    nm_free_aligned(a, scratch);
}

static void bind(const nm_gguf *g, const nm_config *c)
{
    nm_weights w;
    nm_kern kern;
    nm_pool *pool = NULL;
    npumoe_error err;
    const nm_cpu cpu = nm_cpu_detect();
    if (nm_weights_init(&w, g, c, NULL, &err) != NPUMOE_OK)
        return;
    if (nm_kern_init(&kern, &cpu, NULL, &err) == NPUMOE_OK &&
        nm_pool_new(nm_allocator_default(), 1, &pool, &err) == NPUMOE_OK)
        evaluate(c, &w, pool, &kern);
    nm_pool_free(&pool);
    nm_weights_fini(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    nm_gguf *g = NULL;
    nm_config c;
    npumoe_error err;
    const nm_gguf_options o = {0};
    if (nm_gguf_open_memory(data, bytes, "fuzz", &o, &g, &err) != NPUMOE_OK)
        return 0;
    if (nm_config_init(&c, g, NULL, &err) == NPUMOE_OK) {
        bind(g, &c);
        nm_config_fini(&c);
    }
    nm_gguf_free(&g);
    return 0;
}
