/* Grouped execution of experts: against the formula in double precision, and the promise that a
 * slot's bits do not depend on threads or on who computes which part of the rows. */
#include "tap.h"

#include "moe/experts.h"

enum { T = 37, K = 3, E = 6, N = 40, FF = 24, PAIRS = T * K };

static float gate[E][FF][N], up[E][FF][N], down[E][N][FF];
static float x[T][N], w[T][K], extra[T][N];
static uint32_t ids[T][K];
static float room_gate[PAIRS * FF], room_up[PAIRS * FF];
static const float *rx[PAIRS], *rh[PAIRS];
static float *rg[PAIRS], *ru[PAIRS], *rs[PAIRS];
static uint32_t first[E + 1], order[PAIRS], busy[E];

static float uniform(void)
{
    static uint64_t rng = 42;
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(rng >> 11) / 4503599627370496.0 - 1.0);
}

static void fill(float *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = uniform();
}

/* Different experts per token; expert 5 gets none, expert 0 most. */
static void make_routing(void)
{
    for (uint32_t t = 0; t < T; t++) {
        ids[t][0] = t % 4 == 3 ? 1 : 0;
        ids[t][1] = 2 + t % 2;
        ids[t][2] = 4;
    }
    for (uint32_t t = 0; t < T; t++)
        fill(w[t], K);
}

static nm_mat_stack stack_of(const void *data, uint64_t rows, uint64_t cols)
{
    nm_mat m = {.type = NM_TYPE_F32,
                .rows = rows,
                .cols = cols,
                .row_bytes = cols * sizeof(float),
                .data = data};
    return (nm_mat_stack){m, rows * cols * sizeof(float)};
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static double slot64(uint32_t t, uint32_t e, size_t row)
{
    double sum = 0;
    for (size_t j = 0; j < FF; j++) {
        double g = dot(x[t], gate[e][j], N), u = dot(x[t], up[e][j], N);
        sum += g / (1 + exp(-g)) * u * (double)down[e][row][j];
    }
    return sum;
}

static nm_expert_room room = {room_gate, room_up, rx, rh, rg, ru, rs};

static nm_expert_job job_of(const nm_compute *c, const nm_expert_weights *weights,
                            const nm_dispatch *d, float *slots)
{
    return (nm_expert_job){.compute = c,
                           .weights = weights,
                           .act = NM_ACT_SWIGLU,
                           .dispatch = d,
                           .experts = d->busy,
                           .n_experts = d->n_busy,
                           .k = K,
                           .x = &x[0][0],
                           .slots = slots,
                           .room = &room};
}

static void check_values(const float *slots)
{
    double worst = 0;
    for (uint32_t t = 0; t < T; t++) {
        for (uint32_t s = 0; s < K; s++) {
            for (size_t i = 0; i < N; i++) {
                double want = slot64(t, ids[t][s], i);
                worst = fmax(worst, fabs((double)slots[(t * K + s) * N + i] - want));
            }
        }
    }
    ok(worst < 1e-4, "slots against the formula (worst %.2g)", worst);
}

static void check_combine(const nm_compute *c, const float *slots)
{
    static float copy[PAIRS * N], out[T][N], before[T][N];
    double worst = 0;
    memcpy(copy, slots, sizeof copy);
    fill(&out[0][0], T * N);
    memcpy(before, out, sizeof before);
    const nm_combine_args args = {.compute = c,
                                  .n_tokens = T,
                                  .k = K,
                                  .n = N,
                                  .slots = copy,
                                  .w = &w[0][0],
                                  .extra = &extra[0][0],
                                  .scale = 0.5f,
                                  .out = &out[0][0]};
    nm_experts_combine(&args);
    for (uint32_t t = 0; t < T; t++) {
        for (size_t i = 0; i < N; i++) {
            double sum = (double)extra[t][i];
            for (uint32_t s = 0; s < K; s++)
                sum += (double)w[t][s] * (double)slots[(t * K + s) * N + i];
            worst = fmax(worst, fabs((double)out[t][i] - (double)before[t][i] - 0.5 * sum));
        }
    }
    ok(worst < 1e-4, "combined (worst %.2g)", worst);
}

static void check_threads(const nm_kern *kern, const nm_expert_weights *weights,
                          const nm_dispatch *d, const float *want, int n_threads)
{
    static float slots[PAIRS * N];
    npumoe_error err;
    nm_compute c = {.kern = kern, .scratch_bytes = nm_compute_scratch_bytes(N, 16)};
    c.scratch = nm_alloc_aligned(nm_allocator_default(), (size_t)n_threads * c.scratch_bytes);
    if (c.scratch == NULL || nm_pool_new(nm_allocator_default(), n_threads, &c.pool, &err) != 0)
        bail("no pool");
    nm_expert_job j = job_of(&c, weights, d, slots);
    memset(slots, 0xff, sizeof slots);
    nm_experts_run(&j);
    is_mem(slots, want, sizeof slots, "%d threads: same bits", n_threads);
    /* Two parties: one takes experts 4 and 0, of 0 only the rows beyond the first five. */
    const uint32_t mine[] = {4, 0}, others[] = {1, 2, 3}, none[E] = {0}, taken[E] = {5};
    memset(slots, 0xff, sizeof slots);
    j.experts = mine;
    j.n_experts = 2;
    j.taken = taken;
    nm_experts_run(&j);
    size_t untouched = 0;
    for (uint32_t i = 0; i < 5; i++)
        untouched += isnan(slots[d->order[d->first[0] + i] * N]) ? 1 : 0;
    is_int((int64_t)untouched, 5, "%d threads: rows taken by others are left alone", n_threads);
    j.experts = others;
    j.n_experts = 3;
    j.taken = none;
    nm_experts_run(&j);
    nm_dispatch part = *d; /* the five rows, as a device would get them */
    uint32_t part_first[E + 1] = {0, 5, 5, 5, 5, 5, 5};
    part.first = part_first;
    j = job_of(&c, weights, &part, slots);
    j.experts = (const uint32_t[]){0};
    j.n_experts = 1;
    nm_experts_run(&j);
    is_mem(slots, want, sizeof slots, "%d threads: split three ways, same bits", n_threads);
    if (n_threads > 1)
        check_combine(&c, want);
    nm_pool_free(&c.pool);
    nm_free_aligned(nm_allocator_default(), c.scratch);
}

int main(void)
{
    static float want[PAIRS * N];
    nm_kern kern;
    npumoe_error err;
    const nm_cpu cpu = nm_cpu_detect();
    if (nm_kern_init(&kern, &cpu, NULL, &err) != NPUMOE_OK)
        bail("%s", err.message);
    fill(&gate[0][0][0], E * FF * N);
    fill(&up[0][0][0], E * FF * N);
    fill(&down[0][0][0], E * N * FF);
    fill(&x[0][0], T * N);
    fill(&extra[0][0], T * N);
    make_routing();
    const nm_expert_weights weights = {.n_expert = E,
                                       .gate = stack_of(gate, FF, N),
                                       .up = stack_of(up, FF, N),
                                       .down = stack_of(down, N, FF)};
    nm_dispatch d = {.n_expert = E, .first = first, .order = order, .busy = busy};
    nm_dispatch_sort(&d, &ids[0][0], PAIRS);
    nm_compute c = {.kern = &kern, .scratch_bytes = nm_compute_scratch_bytes(N, 16)};
    c.scratch = nm_alloc_aligned(nm_allocator_default(), c.scratch_bytes);
    if (c.scratch == NULL || nm_pool_new(nm_allocator_default(), 1, &c.pool, &err) != NPUMOE_OK)
        bail("no pool");
    nm_expert_job j = job_of(&c, &weights, &d, want);
    nm_experts_run(&j);
    check_values(want);
    for (int n = 1; n <= 3; n++)
        check_threads(&kern, &weights, &d, want, n);
    nm_pool_free(&c.pool);
    nm_free_aligned(nm_allocator_default(), c.scratch);
    return done_testing();
}
