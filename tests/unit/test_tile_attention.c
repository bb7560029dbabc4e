/* test_tile_attention.c: attention programs of device `tile`: the CPU's bits, whatever threads, windows and padding;
 * refusals. */
#include "device/tile/tile.h"
#include "kernels/matmul.h"
#include "support/rig.h"
#include "tap.h"

static uint64_t seed = 4711;

static float uniform(void)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(int32_t)(seed >> 32) / 2147483648.0f;
}

enum { C = 32, HEADS = 6, KV_HEADS = 2, DIM_K = 16, DIM_V = 32, POSITIONS = 5 * C };

static const nm_program_attention heads = {.positions = POSITIONS,
                                           .n_head = HEADS,
                                           .n_head_kv = KV_HEADS,
                                           .dim_k = DIM_K,
                                           .dim_v = DIM_V,
                                           .scale = 0.25f};
static float queries[C][HEADS][DIM_K];
static float keys[POSITIONS][KV_HEADS][DIM_K], values[POSITIONS][KV_HEADS][DIM_V];

static nm_compute compute_of(nm_kern *kern)
{
    const npumoe_allocator *a = nm_allocator_default();
    const nm_cpu cpu = nm_cpu_detect();
    nm_compute c = {.kern = kern, .precision = NM_PRECISION_FULL};
    c.scratch_bytes = nm_compute_scratch_bytes(DIM_K, DIM_V);
    c.scratch = nm_alloc_aligned(a, c.scratch_bytes);
    if (nm_kern_init(kern, &cpu, NULL, NULL) != NPUMOE_OK ||
        nm_pool_new(a, 1, &c.pool, NULL) != NPUMOE_OK || c.scratch == NULL)
        bail("no pool");
    return c;
}

static rig rig_with(const nm_tile_options *o, const nm_program_desc *d)
{
    rig r = rig_new(o, d);
    memcpy(r.in.data, queries, sizeof queries);
    return r;
}

static nm_program_desc attention(const nm_program_attention *a)
{
    return (nm_program_desc){.kind = NM_PROGRAM_ATTENTION, .capacity = C, .attention = a, .n = 1};
}

static nm_npu_cache cache_of(void)
{
    for (int p = 0; p < POSITIONS; p++)
        for (int h = 0; h < KV_HEADS; h++) {
            for (int i = 0; i < DIM_K; i++)
                keys[p][h][i] = uniform();
            for (int i = 0; i < DIM_V; i++)
                values[p][h][i] = uniform();
        }
    return (nm_npu_cache){{NM_TYPE_F32, keys, sizeof keys[0], sizeof keys[0][0]},
                          {NM_TYPE_F32, values, sizeof values[0], sizeof values[0][0]}};
}

static npumoe_status attend(rig *r, const nm_npu_cache *cache, npumoe_error *err)
{
    uint64_t ticket;
    NM_TRY(nm_npu_submit_with(r->npu, r->program, &r->in, &r->out, cache, &ticket, err));
    return nm_npu_wait(r->npu, ticket, NULL, err);
}

static void test_attention(void)
{
    static float want[C][HEADS][DIM_V];
    nm_kern kern;
    nm_compute c = compute_of(&kern);
    const nm_npu_cache cache = cache_of();
    for (uint32_t window = 0; window < 2 * C; window += C + 3)
        for (uint32_t threads = 1; threads <= 3; threads++) {
            nm_program_attention a = heads;
            nm_tile_options o = nm_tile_options_default();
            a.window = window;
            o.n_threads = threads;
            const nm_program_desc d = attention(&a);
            rig r = rig_with(&o, &d);
            nm_attention(&c, &(nm_attention_args){.n_q = C,
                                                  .pos0 = POSITIONS - C,
                                                  .n_head = HEADS,
                                                  .n_head_kv = KV_HEADS,
                                                  .dim_k = DIM_K,
                                                  .dim_v = DIM_V,
                                                  .scale = a.scale,
                                                  .window = window,
                                                  .q = queries[0][0],
                                                  .k = cache.k,
                                                  .v = cache.v,
                                                  .out = want[0][0]});
            memset(r.out.data, 0xff, r.out.bytes);
            ok(attend(&r, &cache, NULL) == NPUMOE_OK &&
                   rig_equal(r.out.data, want[0][0], sizeof want / 4),
               "attention, window %d, %d threads: the CPU's bits", (int)window, (int)threads);
            is_int((int64_t)r.program->bytes, 0, "it takes no bytes");
            rig_free(&r);
        }
    nm_pool_free(&c.pool);
    nm_free_aligned(nm_allocator_default(), c.scratch);
}

/* Positions that only rows without a token see may hold anything. */
static void test_attention_padding(void)
{
    enum { TOKENS = 21 };
    nm_tile_options o = nm_tile_options_default();
    const nm_program_desc d = attention(&heads);
    const nm_npu_cache cache = cache_of();
    static float want[C][HEADS][DIM_V];
    rig r = rig_with(&o, &d);
    if (attend(&r, &cache, NULL) != NPUMOE_OK)
        bail("launch");
    memcpy(want, r.out.data, sizeof want);
    memset(keys[POSITIONS - C + TOKENS], 0xff, (C - TOKENS) * sizeof keys[0]);
    memset(values[POSITIONS - C + TOKENS], 0xff, (C - TOKENS) * sizeof values[0]);
    memset(r.in.data + TOKENS * HEADS * DIM_K, 0xff, (C - TOKENS) * HEADS * DIM_K * sizeof(float));
    ok(attend(&r, &cache, NULL) == NPUMOE_OK &&
           rig_equal(r.out.data, want[0][0], TOKENS * HEADS * DIM_V),
       "attention: what padding rows see and hold changes no bit of the others");
    rig_free(&r);
}

static void test_attention_refusals(void)
{
    npumoe_error err;
    nm_tile_options o = nm_tile_options_default();
    nm_npu *npu;
    nm_program *p = NULL;
    uint64_t ticket;
    if (nm_tile_new(NULL, &o, &npu, &err) != NPUMOE_OK)
        bail("no device");
    nm_program_attention a = heads;
    nm_program_desc d = attention(&a);
    a.positions = C - 1;
    is_int(nm_npu_compile(npu, &d, &p, &err), NPUMOE_EINVAL, "positions: %s", err.message);
    a = heads;
    a.n_head = 5;
    is_int(nm_npu_compile(npu, &d, &p, &err), NPUMOE_EINVAL, "heads: %s", err.message);
    a = heads;
    npu->caps.has_attention = false;
    is_int(nm_npu_compile(npu, &d, &p, &err), NPUMOE_EUNSUPPORTED, "device: %s", err.message);
    nm_npu_free(&npu);
    d = attention(&heads);
    rig r = rig_with(&o, &d);
    is_int(nm_npu_submit(r.npu, r.program, &r.in, &r.out, &ticket, &err), NPUMOE_EINVAL, "%s",
           err.message);
    rig_free(&r);
    static float weights[16][32];
    const nm_program_matrix matrix = {{.type = NM_TYPE_F32,
                                       .rows = 16,
                                       .cols = 32,
                                       .row_bytes = sizeof weights[0],
                                       .data = weights},
                                      NULL};
    d = (nm_program_desc){.kind = NM_PROGRAM_LINEAR, .capacity = C, .matrices = &matrix, .n = 1};
    r = rig_new(&o, &d);
    const nm_npu_cache cache = cache_of();
    is_int(attend(&r, &cache, &err), NPUMOE_EINVAL, "%s", err.message);
    rig_free(&r);
}

int main(void)
{
    printf("# seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < C; i++)
        for (int h = 0; h < HEADS; h++)
            for (int d = 0; d < DIM_K; d++)
                queries[i][h][d] = uniform();
    test_attention();
    test_attention_padding();
    test_attention_refusals();
    return done_testing();
}
