/* probe_compute.c: rates of multiplication: the limits of each unit, and what the engine's own products
 * make of them (probe.h). */
#include "engine/probe.h"

#include "base/num.h"
#include "base/sys.h"
#include "kernels/matmul.h"

#include <stdlib.h>

/* ---- limits --------------------------------------------------------------------------------- */

/* Sizes when the machine does not tell: the smallest in the field. */
enum { LEAST_L1_BYTES = 32 * 1024, LEAST_L2_BYTES = 512 * 1024 };

typedef struct operands {
    const nm_probe_product *product;
    char *data; /* per thread: x, out, w */
    size_t stride_bytes;
    size_t w_bytes;
    bool registers;
} operands;

static uint64_t multiply(void *arg, int thread, size_t passes)
{
    const operands *o = arg;
    char *x = o->data + (size_t)thread * o->stride_bytes, *out = x + NM_PROBE_X_BYTES;
    const char *w = o->registers ? NULL : out + NM_PROBE_OUT_BYTES;
    return o->product->run(x, w, o->w_bytes, passes, out);
}

/* Numbers of the type, plain and without a pattern: multipliers draw power by the bits that flip, and
 * denormals are slow. */
static void fill(char *to, size_t bytes, const char *type, uint64_t seed)
{
    for (size_t i = 0; i < bytes; i += 4) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t bits = (uint32_t)(seed >> 32);
        float f = (float)(bits >> 8) / 8388608.0f - 1.0f;
        if (strcmp(type, "f32") == 0)
            memcpy(&bits, &f, sizeof bits);
        else if (strcmp(type, "bf16") == 0)
            bits = (uint32_t)nm_f32_to_bf16(f) << 16 | nm_f32_to_bf16(0.5f - f);
        memcpy(to + i, &bits, sizeof bits);
    }
}

static size_t whole_steps(uint64_t bytes, size_t step)
{
    return bytes < step ? step : (size_t)(bytes / step * step);
}

static void measure_product(nm_probe *p, const nm_probe_product *product)
{
    uint64_t l1 = nm_sys_cache_bytes(1), l2 = nm_sys_cache_bytes(2);
    l1 = l1 ? l1 : LEAST_L1_BYTES;
    l2 = l2 ? l2 : LEAST_L2_BYTES;
    const uint64_t free_l1 = l1 > 3 * NM_PROBE_X_BYTES / 2 ? l1 - 3 * NM_PROBE_X_BYTES / 2 : 0;
    const struct {
        const char *name;
        size_t w_bytes;
    } places[] = {
        {"registers", whole_steps(free_l1, product->w_step_bytes)},
        {"l1", whole_steps(free_l1, product->w_step_bytes)},
        {"l2", whole_steps(l2 / 2, product->w_step_bytes)},
    };
    enum { N_PLACES = 3 };
    const size_t n = (size_t)nm_pool_size(p->pool);
    operands o = {.product = product};
    size_t most = 0; /* caches of odd sizes: L1's share may be the larger */
    for (int i = 0; i < N_PLACES; i++)
        most = nm_max_size(most, places[i].w_bytes);
    o.stride_bytes = NM_PROBE_X_BYTES + NM_PROBE_OUT_BYTES + most + NM_ALIGN;
    o.stride_bytes -= o.stride_bytes % NM_ALIGN;
    if (!p->counting && !(o.data = nm_alloc_aligned(nm_allocator_default(), n * o.stride_bytes))) {
        nm_probe_note(p, "no memory to multiply in");
        return;
    }
    if (o.data)
        fill(o.data, n * o.stride_bytes, product->type, 1);
    for (int i = 0; i < N_PLACES; i++) {
        if (!nm_probe_next(p))
            continue;
        o.w_bytes = places[i].w_bytes;
        o.registers = i == 0;
        nm_probe_rate rate = nm_probe_measure(p, multiply, &o);
        json_t *what = json_pack("{s:s, s:s, s:s, s:s}", "type", product->type, "unit",
                                 product->unit, "isa", product->isa, "from", places[i].name);
        nm_describe_put(what, "bytes_per_thread",
                        nm_describe_u64(i == 0 ? 0 : NM_PROBE_X_BYTES + o.w_bytes));
        nm_probe_put(p, "multiply", what, "gops_per_s", &rate);
    }
    nm_free_aligned(nm_allocator_default(), o.data);
}

void nm_probe_compute(nm_probe *p)
{
    const nm_probe_product *product;
    for (size_t i = 0; (product = nm_probe_product_at(i)); i++)
        if (product->usable(&p->cpu))
            measure_product(p, product);
}

/* ---- products of the engine ----------------------------------------------------------------- */

/* An expert's matrix in OLMoE. */
enum { OUTPUTS = 1024, INPUTS = 2048, MOST_ROWS = 512 };

typedef struct job {
    nm_compute compute;
    nm_mat w;
    size_t m;
    float *values, *results;
    void *weights;
    const float *x[MOST_ROWS];
    float *y[MOST_ROWS];
} job;

static uint64_t multiply_rows(void *arg, int thread, size_t passes)
{
    const job *j = arg;
    const nm_linear linear = {&j->w, NULL, j->y};
    (void)thread;
    for (size_t i = 0; i < passes; i++)
        nm_matmul(&j->compute, &linear, 1, j->m, j->x);
    return 2 * (uint64_t)passes * j->m * j->w.rows * j->w.cols;
}

static void encode(job *j, uint32_t type)
{
    j->w = (nm_mat){.type = type, .rows = OUTPUTS, .cols = INPUTS, .data = j->weights};
    (void)nm_row_bytes(type, INPUTS, &j->w.row_bytes); /* INPUTS is a multiple of every block */
    for (size_t r = 0; r < OUTPUTS; r++)
        nm_type_get(type)->encode(j->values + r % MOST_ROWS * INPUTS,
                                  (char *)j->weights + r * j->w.row_bytes, INPUTS, NULL);
}

static bool job_init(job *j, const nm_probe *p)
{
    const npumoe_allocator *a = nm_allocator_default();
    size_t scratch = nm_compute_scratch_bytes(INPUTS, 128);
    *j = (job){.compute = {.kern = &p->kern,
                           .pool = p->pool,
                           .scratch_bytes = scratch,
                           .packed_bytes = nm_product_packed_max(MOST_ROWS, INPUTS)}};
    j->compute.scratch = nm_alloc_aligned(a, scratch * (size_t)nm_pool_size(p->pool));
    j->compute.packed = nm_alloc_aligned(a, j->compute.packed_bytes);
    j->values = nm_alloc_aligned(a, sizeof(float) * MOST_ROWS * INPUTS);
    j->results = nm_alloc_aligned(a, sizeof(float) * MOST_ROWS * OUTPUTS);
    j->weights = nm_alloc_aligned(a, sizeof(float) * OUTPUTS * INPUTS);
    if (!j->compute.scratch || !j->compute.packed || !j->values || !j->results || !j->weights)
        return false;
    fill((char *)j->values, sizeof(float) * MOST_ROWS * INPUTS, "f32", 2);
    for (size_t i = 0; i < MOST_ROWS; i++) {
        j->x[i] = j->values + i * INPUTS;
        j->y[i] = j->results + i * OUTPUTS;
    }
    return true;
}

static void job_fini(job *j)
{
    const npumoe_allocator *a = nm_allocator_default();
    nm_free_aligned(a, j->compute.scratch);
    nm_free_aligned(a, j->compute.packed);
    nm_free_aligned(a, j->values);
    nm_free_aligned(a, j->results);
    nm_free_aligned(a, j->weights);
}

void nm_probe_products(nm_probe *p)
{
    static const uint32_t types[] = {NM_TYPE_F32, NM_TYPE_BF16, NM_TYPE_Q8_0, NM_TYPE_Q4_K};
    static const size_t rows[] = {1, 8, 64, 512};
    job *j = p->counting ? NULL : nm_alloc(nm_allocator_default(), sizeof *j);
    if (!p->counting && (!j || !job_init(j, p))) {
        nm_probe_note(p, "no memory for the engine's products");
    } else {
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            if (j)
                encode(j, types[t]);
            for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
                if (!nm_probe_next(p))
                    continue;
                j->m = rows[r];
                nm_probe_rate rate = nm_probe_measure_call(p, multiply_rows, j);
                json_t *what =
                    json_pack("{s:s, s:s, s:s, s:i, s:i, s:i}", "type", nm_type_get(types[t])->name,
                              "isa", p->kern.isa, "with", p->kern.with, "m", (int)rows[r], "n",
                              OUTPUTS, "k", INPUTS);
                nm_probe_put(p, "product", what, "gops_per_s", &rate);
            }
        }
    }
    if (j)
        job_fini(j);
    nm_free(nm_allocator_default(), j);
}
