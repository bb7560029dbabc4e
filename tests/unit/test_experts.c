/* Grouped execution of experts: against the formula in double precision, and the promise that the
 * bits of a result do not depend on threads or on how the work was cut. */
#include "support/tiers.h"
#include "tap.h"

#include "moe/experts.h"

enum { T = 137, K = 3, E = 6, N = 72, FF = 40, PAIRS = T * K, ROWS = PAIRS + T };

static float gate[E][FF][N], up[E][FF][N], down[E][N][FF];
static float shared_gate[FF][N], shared_up[FF][N], shared_down[N][FF];
static float b_gate[FF], b_up[FF], b_down[N];
static float x[T][N], w[T][K], share[T], before[T][N];
static uint32_t ids[T][K];
static nm_network_item items[E + 1];
static nm_network_part parts[E + 1];
static const float *rx[ROWS];
static float *ry[ROWS], rw[ROWS];
static uint32_t first[E + 1], order[PAIRS];

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

static double network64(const float *in, float g_w[FF][N], float u_w[FF][N], const float *d_w,
                        bool biased)
{
    double sum = 0;
    for (size_t j = 0; j < FF; j++) {
        double g = dot(in, g_w[j], N) + (biased ? (double)b_gate[j] : 0);
        double u = dot(in, u_w[j], N) + (biased ? (double)b_up[j] : 0);
        sum += g / (1 + exp(-g)) * u * (double)d_w[j];
    }
    return sum;
}

static double want64(size_t t, size_t i)
{
    double shared = network64(x[t], shared_gate, shared_up, shared_down[i], true);
    double sum = (double)share[t] * (shared + (double)b_down[i]);
    for (size_t s = 0; s < K; s++) {
        uint32_t e = ids[t][s];
        sum += (double)w[t][s] * network64(x[t], gate[e], up[e], down[e][i], false);
    }
    return (double)before[t][i] + 0.5 * sum;
}

static double worst_of(float y[T][N])
{
    double worst = 0;
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < N; i++) {
            double off = fabs((double)y[t][i] - want64(t, i));
            worst = off <= worst ? worst : off; /* a NaN is the worst */
        }
    return worst;
}

static nm_expert_room room = {items, parts, rx, ry, rw};

static nm_expert_weights weights;
static nm_ffn_weights ffn;
static nm_dispatch dispatch = {.n_expert = E, .first = first, .order = order};

static nm_expert_job job_of(const nm_compute *c, float y[T][N])
{
    return (nm_expert_job){.compute = c,
                           .weights = &weights,
                           .act = NM_ACT_SWIGLU,
                           .dispatch = &dispatch,
                           .k = K,
                           .w = &w[0][0],
                           .shared = &ffn,
                           .shared_gate = share,
                           .n_tokens = T,
                           .x = &x[0][0],
                           .y = &y[0][0],
                           .scale = 0.5f,
                           .room = &room};
}

/* A computation with that many threads and room for packed rows. */
static void compute_new(nm_compute *c, int n_threads, size_t packed_bytes)
{
    const npumoe_allocator *a = nm_allocator_default();
    npumoe_error err;
    c->scratch_bytes = nm_compute_scratch_bytes(N, 16);
    c->scratch = nm_alloc_aligned(a, (size_t)n_threads * c->scratch_bytes);
    c->packed_bytes = packed_bytes;
    c->packed = nm_alloc_aligned(a, packed_bytes);
    if (!c->scratch || !c->packed || nm_pool_new(a, n_threads, &c->pool, &err) != NPUMOE_OK)
        bail("no pool");
}

static void compute_free(nm_compute *c)
{
    nm_pool_free(&c->pool);
    nm_free_aligned(nm_allocator_default(), c->scratch);
    nm_free_aligned(nm_allocator_default(), c->packed);
}

/* Two parties: one takes experts 0 and 4, of 0 only the rows beyond the first five; then the rest. */
static void run_split(const nm_compute *c, float y[T][N])
{
    static const uint32_t mine[] = {0, 4}, others[] = {1, 2, 3}, taken[E] = {5};
    nm_expert_job j = job_of(c, y);
    j.experts = mine;
    j.n_experts = 2;
    j.taken = taken;
    nm_experts_run(&j);
    j.shared = NULL;
    j.taken = NULL;
    j.experts = others;
    j.n_experts = 3;
    nm_experts_run(&j);
    uint32_t part_first[E + 1] = {0, 5, 5, 5, 5, 5, 5}; /* the five rows, as a device gets them */
    nm_dispatch part = dispatch;
    part.first = part_first;
    j.dispatch = &part;
    j.experts = NULL;
    nm_experts_run(&j);
}

/* Slices, as the executor makes them: of the busiest experts a piece in one and the rest in the next. */
static void run_slices(const nm_compute *c, float y[T][N])
{
    static const uint32_t all[] = {0, 1, 2, 3, 4, 5};
    static const struct {
        uint32_t from, to; /* experts */
        size_t skip, most;
    } slices[] = {{0, 1, 0, 30}, {0, 1, 30, 40}, {0, 5, 70, 64}, {4, 6, 64, 0}};
    nm_expert_job j = job_of(c, y);
    j.experts = all;
    j.n_experts = 0;
    nm_experts_run(&j); /* the shared one */
    j.shared = NULL;
    for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++) {
        j.experts = all + slices[i].from;
        j.n_experts = slices[i].to - slices[i].from;
        j.skip = slices[i].skip;
        j.most = slices[i].most;
        nm_experts_run(&j);
    }
}

static void check_precision(const nm_kern *kern, nm_precision precision, double bound)
{
    static float want[T][N], y[T][N];
    nm_compute c = {.kern = kern, .precision = precision};
    const size_t little = nm_compute_packed_min(N + FF);
    compute_new(&c, 1, (size_t)1 << 20);
    memcpy(want, before, sizeof want);
    nm_expert_job j = job_of(&c, want);
    nm_experts_run(&j);
    const double worst = worst_of(want);
    ok(worst < bound, "%s, precision %d: against the formula (worst %.2g)", kern->isa,
       (int)precision, worst);
    compute_free(&c);
    for (int n = 1; n <= 4; n++) {
        compute_new(&c, n, n % 2 ? little : (size_t)1 << 20);
        memcpy(y, before, sizeof y);
        j = job_of(&c, y);
        nm_experts_run(&j);
        is_mem(y, want, sizeof y, "%s, precision %d, %d threads, %d bytes of room: same bits",
               kern->isa, (int)precision, n, (int)c.packed_bytes);
        memcpy(y, before, sizeof y);
        run_split(&c, y);
        ok(worst_of(y) < bound, "%s, precision %d, %d threads: split between parties", kern->isa,
           (int)precision, n);
        memcpy(y, before, sizeof y);
        run_slices(&c, y);
        is_mem(y, want, sizeof y, "%s, precision %d, %d threads: cut into slices, same bits",
               kern->isa, (int)precision, n);
        compute_free(&c);
    }
}

static void make_data(void)
{
    fill(&gate[0][0][0], E * FF * N);
    fill(&up[0][0][0], E * FF * N);
    fill(&down[0][0][0], E * N * FF);
    fill(&shared_gate[0][0], FF * N);
    fill(&shared_up[0][0], FF * N);
    fill(&shared_down[0][0], N * FF);
    fill(b_gate, FF);
    fill(b_up, FF);
    fill(b_down, N);
    fill(&x[0][0], T * N);
    fill(share, T);
    fill(&before[0][0], T * N);
    make_routing();
    weights = (nm_expert_weights){.n_expert = E,
                                  .gate = stack_of(gate, FF, N),
                                  .up = stack_of(up, FF, N),
                                  .down = stack_of(down, N, FF)};
    ffn = (nm_ffn_weights){.gate = stack_of(shared_gate, FF, N).mat,
                           .up = stack_of(shared_up, FF, N).mat,
                           .down = stack_of(shared_down, N, FF).mat,
                           .b_gate = b_gate,
                           .b_up = b_up,
                           .b_down = b_down};
    nm_dispatch_sort(&dispatch, &ids[0][0], PAIRS);
}

int main(void)
{
    nm_kern kern;
    make_data();
    for (size_t at = 0; tiers_next_kern(&at, &kern);) {
        check_precision(&kern, NM_PRECISION_FP32, 1e-3);
        check_precision(&kern, NM_PRECISION_FULL, 2e-2);
        check_precision(&kern, NM_PRECISION_FAST, 1.0);
    }
    return done_testing();
}
