/* test_tile.c: device `tile` against the contract of device/npu.h: results are the CPU's with the same
 * product, bit for bit, whatever its threads; limits, queue, failures, clocks; many threads at once. */
#include "base/clock.h"
#include "base/threads.h"
#include "device/fault.h"
#include "device/tile/tile.h"
#include "kernels/network.h"
#include "support/rig.h"
#include "tap.h"

#include <pthread.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

enum { N_IN = 96, N_FF = 64, C = 32, G = 3, ROWS = C * G };

static uint64_t seed = 4711;

static float uniform(void)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(int32_t)(seed >> 32) / 2147483648.0f;
}

static nm_mat matrix(nm_type type, uint64_t rows, uint64_t cols)
{
    const nm_type_traits *t = nm_type_get(type);
    nm_mat w = {.type = type, .rows = rows, .cols = cols};
    float *row = malloc(cols * sizeof *row);
    if (!nm_row_bytes(type, cols, &w.row_bytes) || !row)
        bail("no matrix");
    char *data = malloc(rows * w.row_bytes);
    for (uint64_t r = 0; r < rows; r++) {
        for (uint64_t c = 0; c < cols; c++)
            row[c] = uniform();
        t->encode(row, data + r * w.row_bytes, cols, NULL);
    }
    free(row);
    w.data = data;
    return w;
}

static float bias[N_FF];
static nm_program_network nets[2][G]; /* F32, Q4_0 */
static nm_program_matrix mats[3];
static float x[ROWS][N_IN], expected[ROWS][N_IN];

static void make_weights(void)
{
    const nm_type types[] = {NM_TYPE_F32, NM_TYPE_Q4_0};
    for (int t = 0; t < 2; t++)
        for (int g = 0; g < G; g++) {
            nets[t][g] = (nm_program_network){.gate = matrix(types[t], N_FF, N_IN),
                                              .up = matrix(types[t], N_FF, N_IN),
                                              .down = matrix(types[t], N_IN, N_FF)};
            nets[t][g].b_gate = g == 1 ? bias : NULL;
        }
    mats[0] = (nm_program_matrix){matrix(NM_TYPE_Q8_0, 40, N_IN), bias};
    mats[1] = (nm_program_matrix){matrix(NM_TYPE_Q4_0, N_FF, N_IN), NULL};
    mats[2] = (nm_program_matrix){matrix(NM_TYPE_BF16, 32, N_IN), bias};
    for (size_t i = 0; i < N_FF; i++)
        bias[i] = uniform();
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < N_IN; j++)
            x[i][j] = uniform();
}

static nm_program_desc experts(int type, uint32_t n)
{
    return (nm_program_desc){
        .kind = NM_PROGRAM_EXPERTS, .capacity = C, .layer = 7, .networks = nets[type], .n = n};
}

static nm_program_desc linear(uint32_t n)
{
    return (nm_program_desc){.kind = NM_PROGRAM_LINEAR, .capacity = C, .matrices = mats, .n = n};
}

/* ---- the CPU's answer ------------------------------------------------------------------------ */

static void cpu_experts(const nm_compute *c, int type)
{
    nm_network_item items[G];
    nm_network_part parts[G];
    const float *rows[ROWS];
    float *out[ROWS];
    memset(expected, 0, sizeof expected);
    for (int i = 0; i < ROWS; i++) {
        rows[i] = x[i];
        out[i] = expected[i];
    }
    for (int g = 0; g < G; g++) {
        const nm_program_network *w = &nets[type][g];
        items[g] = (nm_network_item){.gate = w->gate,
                                     .up = w->up,
                                     .down = w->down,
                                     .b_gate = w->b_gate,
                                     .m = C,
                                     .x = rows + g * C,
                                     .y = out + g * C};
    }
    nm_network_run(&(nm_network_job){.compute = c, .items = items, .n_items = G, .parts = parts});
}

static nm_compute compute_of(nm_kern *kern, const char *isa)
{
    const npumoe_allocator *a = nm_allocator_default();
    const nm_cpu cpu = nm_cpu_detect();
    nm_compute c = {.kern = kern, .precision = NM_PRECISION_FULL};
    c.scratch_bytes = nm_compute_scratch_bytes(N_IN, N_IN);
    c.scratch = nm_alloc_aligned(a, c.scratch_bytes);
    c.packed_bytes = nm_compute_packed_min(N_IN + N_FF);
    c.packed = nm_alloc_aligned(a, c.packed_bytes);
    if (nm_kern_init(kern, &cpu, isa, NULL) != NPUMOE_OK ||
        nm_pool_new(a, 1, &c.pool, NULL) != NPUMOE_OK)
        bail("no pool");
    return c;
}

static void compute_fini(nm_compute *c)
{
    nm_pool_free(&c->pool);
    nm_free_aligned(nm_allocator_default(), c->scratch);
    nm_free_aligned(nm_allocator_default(), c->packed);
}

static nm_tile_weights form; /* of what is tested */

static nm_tile_options options(void)
{
    nm_tile_options o = nm_tile_options_default();
    o.weights = form;
    return o;
}

/* ---- a device with a program ------------------------------------------------------------------ */

static void fill_input(const rig *r)
{
    memcpy(r->in.data, x, (size_t)r->program->in_bytes);
}

static rig rig_with(const nm_tile_options *o, const nm_program_desc *d)
{
    rig r = rig_new(o, d);
    fill_input(&r);
    return r;
}

static npumoe_status launch(rig *r, nm_launch_times *times, npumoe_error *err)
{
    uint64_t ticket;
    NM_TRY(nm_npu_submit(r->npu, r->program, &r->in, &r->out, &ticket, err));
    return nm_npu_wait(r->npu, ticket, times, err);
}

/* ---- results ---------------------------------------------------------------------------------- */

static void test_experts(void)
{
    nm_kern kern;
    nm_compute c = compute_of(&kern, NULL);
    for (int type = 0; type < 2; type++) {
        cpu_experts(&c, type);
        for (uint32_t threads = 1; threads <= 3; threads++) {
            nm_tile_options o = options();
            o.n_threads = threads;
            const nm_program_desc d = experts(type, G);
            rig r = rig_with(&o, &d);
            for (int i = 0; i < 3; i++) {
                memset(r.out.data, 0xff, r.out.bytes);
                if (launch(&r, NULL, NULL) != NPUMOE_OK)
                    bail("launch");
            }
            ok(rig_equal(r.out.data, expected[0], ROWS * N_IN),
               "experts, %s, %d threads: the CPU's bits", type ? "Q4_0" : "F32", (int)threads);
            rig_free(&r);
        }
    }
    compute_fini(&c);
}

/* Several matrices are finer than one, where the CPU has a product that is: the same bits each time. */
static void test_linear(uint32_t n, nm_precision precision)
{
    nm_kern kern;
    nm_compute c = compute_of(&kern, NULL);
    float want[3][C][N_FF];
    const float *rows[C];
    float *y[3][C];
    nm_linear list[3];
    const uint32_t types[] = {mats[0].w.type, mats[1].w.type, mats[2].w.type};
    const nm_product *product = nm_product_pick(&kern, precision, C, types, n);
    if (form == NM_TILE_WEIGHTS_PACKED && product->to_panels == NULL) {
        skip(3, "%s has no panels", product->name);
        compute_fini(&c);
        return;
    }
    for (int i = 0; i < C; i++)
        rows[i] = x[i];
    for (uint32_t m = 0; m < n; m++) {
        for (int i = 0; i < C; i++)
            y[m][i] = want[m][i];
        list[m] = (nm_linear){&mats[m].w, mats[m].bias, y[m]};
    }
    c.precision = precision;
    nm_matmul(&c, list, n, C, rows);
    nm_tile_options o = options();
    const nm_program_desc d = linear(n);
    rig r = rig_with(&o, &d);
    ok(launch(&r, NULL, NULL) == NPUMOE_OK, "linear: launched");
    bool same = true;
    const float *at = r.out.data;
    uint64_t n_out = 0;
    for (uint32_t m = 0; m < n; m++, n_out += mats[m - 1].w.rows)
        for (int i = 0; i < C; i++, at += mats[m].w.rows)
            same = same && rig_equal(at, want[m][i], (size_t)mats[m].w.rows);
    ok(same, "linear: %u, the CPU's bits of %s", n, product->name);
    is_int((int64_t)r.program->n_out, (int64_t)n_out, "outputs of all matrices");
    rig_free(&r);
    compute_fini(&c);
}

/* Every tier in this form: the bits of its product, or a refusal where that has no panels. */
static void test_tiers(void)
{
    const nm_cpu cpu = nm_cpu_detect();
    const uint32_t types[] = {NM_TYPE_Q4_0, NM_TYPE_Q4_0, NM_TYPE_Q4_0};
    for (size_t i = 0; nm_kern_tier(i); i++) {
        npumoe_error err = {0};
        nm_kern kern;
        nm_program *p = NULL;
        nm_tile_options o = options();
        o.isa = nm_kern_tier(i);
        if (nm_kern_init(&kern, &cpu, o.isa, NULL) != NPUMOE_OK)
            continue;
        nm_compute c = compute_of(&kern, o.isa);
        const nm_product *product = nm_product_pick(&kern, c.precision, C, types, 3);
        const nm_program_desc d = experts(1, G);
        if (form == NM_TILE_WEIGHTS_PACKED && product->to_panels == NULL) {
            nm_npu *npu;
            if (nm_tile_new(NULL, &o, &npu, NULL) != NPUMOE_OK)
                bail("no device");
            is_int(nm_npu_compile(npu, &d, &p, &err), NPUMOE_EUNSUPPORTED, "%s", err.message);
            nm_npu_free(&npu);
        } else {
            cpu_experts(&c, 1);
            rig r = rig_with(&o, &d);
            launch(&r, NULL, NULL);
            ok(rig_equal(r.out.data, expected[0], ROWS * N_IN), "%s, %s: its bits", o.isa,
               product->name);
            rig_free(&r);
        }
        compute_fini(&c);
    }
}

/* A loaded program has all that it needs: it does not look at the caller's weights. */
static void test_own_weights(void)
{
    nm_tile_options o = options();
    const nm_program_desc d = experts(1, 1);
    rig r = rig_with(&o, &d);
    const nm_mat *w[] = {&nets[1][0].gate, &nets[1][0].up, &nets[1][0].down};
    char *kept[3];
    launch(&r, NULL, NULL);
    float first[C * N_IN];
    memcpy(first, r.out.data, sizeof first);
    uint64_t panels = 0;
    for (int i = 0; i < 3; i++) {
        const size_t bytes = (size_t)(w[i]->rows * w[i]->row_bytes);
        nm_kern kern;
        const nm_cpu cpu = nm_cpu_detect();
        if ((kept[i] = malloc(bytes)) == NULL || nm_kern_init(&kern, &cpu, NULL, NULL) != NPUMOE_OK)
            bail("no memory");
        panels += nm_product_panels_bytes(nm_product_pick(&kern, o.precision, C, &w[i]->type, 1),
                                          w[i]->rows, w[i]->cols);
        memcpy(kept[i], w[i]->data, bytes);
        memset((void *)(uintptr_t)w[i]->data, 0xff, bytes);
    }
    launch(&r, NULL, NULL);
    ok(rig_equal(r.out.data, first, C * N_IN), "weights are the device's own");
    if (form == NM_TILE_WEIGHTS_PACKED)
        is_int((int64_t)r.program->bytes, (int64_t)panels, "bytes are those of the panels");
    is_int(strcmp(r.npu->caps.weights, form == NM_TILE_WEIGHTS_PACKED ? "packed" : "file"), 0,
           "caps say how they are kept");
    for (int i = 0; i < 3; i++) {
        memcpy((void *)(uintptr_t)w[i]->data, kept[i], (size_t)(w[i]->rows * w[i]->row_bytes));
        free(kept[i]);
    }
    nm_npu_unload(r.npu, r.program);
    ok(nm_npu_load(r.npu, r.program, NULL) == NPUMOE_OK, "loaded again");
    launch(&r, NULL, NULL);
    ok(rig_equal(r.out.data, first, C * N_IN), "the same again");
    rig_free(&r);
}

/* What padding holds is nobody's business: rows before it do not change. */
static void test_padding(void)
{
    nm_tile_options o = options();
    const nm_program_desc d = experts(1, 1);
    rig r = rig_with(&o, &d);
    float first[7 * N_IN];
    launch(&r, NULL, NULL);
    memcpy(first, r.out.data, sizeof first);
    for (size_t i = 7 * N_IN; i < (size_t)C * N_IN; i++)
        r.in.data[i] = i % 3 ? 1e30f : -INFINITY;
    launch(&r, NULL, NULL);
    ok(rig_equal(first, r.out.data, 7 * N_IN), "rows do not see the padding");
    rig_free(&r);
}

/* Two capacities of the same weights: one copy of them. */
static void test_twin(void)
{
    npumoe_error err;
    nm_tile_options o = options();
    nm_program_desc d = experts(1, G);
    rig r = rig_with(&o, &d), small = {.npu = r.npu};
    const uint64_t bytes = nm_npu_get_stats(r.npu).bytes_loaded;
    d.twin = r.program;
    d.capacity = 16;
    nm_npu_unload(r.npu, r.program);
    ok(nm_npu_compile(r.npu, &d, &small.program, &err) == NPUMOE_OK, "compiled");
    is_int(nm_npu_load(r.npu, small.program, &err), NPUMOE_EINVAL, "no: %s", err.message);
    nm_npu_program_free(r.npu, &small.program);
    nm_npu_load(r.npu, r.program, &err);
    rig_program(&small, &d);
    fill_input(&small);
    const nm_npu_stats s = nm_npu_get_stats(r.npu);
    ok(s.programs_loaded == 2 && s.bytes_loaded == bytes, "a slot and no bytes");
    ok(launch(&r, NULL, NULL) == NPUMOE_OK && launch(&small, NULL, NULL) == NPUMOE_OK, "both run");
    ok(rig_equal(r.out.data, small.out.data, 16 * N_IN), "the same rows, the same bits");
    d.n = 1;
    is_int(nm_npu_compile(r.npu, &d, &small.program, &err), NPUMOE_EINVAL, "%s", err.message);
    nm_npu_buffer_fini(r.npu, &small.in);
    nm_npu_buffer_fini(r.npu, &small.out);
    nm_npu_program_free(r.npu, &small.program);
    rig_free(&r);
}

/* ---- limits ----------------------------------------------------------------------------------- */

static void test_limits(void)
{
    npumoe_error err;
    nm_tile_options o = options();
    const nm_program_desc d = experts(1, 1);
    nm_npu *npu;
    nm_program *p[3] = {0};
    o.slots = 2;
    if (nm_tile_new(NULL, &o, &npu, &err) != NPUMOE_OK)
        bail("no device");
    const uint64_t bytes = nm_npu_program_bytes(npu, &d);
    ok(bytes >= 3 * N_FF * N_IN / 2, "a program has its weights' bytes");
    for (int i = 0; i < 3; i++)
        ok(nm_npu_compile(npu, &d, &p[i], &err) == NPUMOE_OK, "compiling takes no slot");
    ok(nm_npu_load(npu, p[0], &err) == NPUMOE_OK && nm_npu_load(npu, p[1], &err) == NPUMOE_OK,
       "two slots");
    ok(nm_npu_load(npu, p[0], &err) == NPUMOE_OK, "loading again does nothing");
    is_int(nm_npu_load(npu, p[2], &err), NPUMOE_ETOOBIG, "no third: %s", err.message);
    nm_npu_unload(npu, p[0]);
    ok(nm_npu_load(npu, p[2], &err) == NPUMOE_OK, "a slot is free again");
    const nm_npu_stats s = nm_npu_get_stats(npu);
    is_int((int64_t)s.programs_loaded, 2, "two are loaded");
    ok(s.bytes_loaded == 2 * bytes && s.loads == 3 && s.unloads == 1, "and counted");
    npu->caps.total_bytes = 2 * bytes - 1;
    nm_npu_unload(npu, p[1]);
    is_int(nm_npu_load(npu, p[1], &err), NPUMOE_ETOOBIG, "bytes in total: %s", err.message);
    for (int i = 0; i < 3; i++)
        nm_npu_program_free(npu, &p[i]);
    npu->caps.program_bytes = bytes - 1;
    is_int(nm_npu_compile(npu, &d, &p[0], &err), NPUMOE_ETOOBIG, "bytes of one: %s", err.message);
    nm_npu_free(&npu);
}

static void test_refusals(void)
{
    npumoe_error err;
    nm_tile_options o = options();
    nm_program_desc d = experts(1, G);
    nm_npu *npu;
    nm_program *p = NULL;
    o.n_threads = 0;
    is_int(nm_tile_new(NULL, &o, &npu, &err), NPUMOE_EINVAL, "no thread: %s", err.message);
    o = options();
    o.cpus = &(uint32_t){1023};
    o.n_cpus = 1;
    is_int(nm_tile_new(NULL, &o, &npu, &err), NPUMOE_EINVAL, "no such CPU: %s", err.message);
    o = options();
    o.isa = "abacus";
    is_int(nm_tile_new(NULL, &o, &npu, &err), NPUMOE_EINVAL, "no such tier");
    o = options();
    if (nm_tile_new(NULL, &o, &npu, &err) != NPUMOE_OK)
        bail("no device");
    d.capacity = 17;
    is_int(nm_npu_compile(npu, &d, &p, &err), NPUMOE_EINVAL, "capacity: %s", err.message);
    d = experts(1, 0);
    is_int(nm_npu_compile(npu, &d, &p, &err), NPUMOE_EINVAL, "empty: %s", err.message);
    nm_program_network odd[2] = {nets[0][0], nets[0][1]};
    odd[1].down.cols--;
    d = (nm_program_desc){.capacity = C, .networks = odd, .n = 2};
    is_int(nm_npu_compile(npu, &d, &p, &err), NPUMOE_EINVAL, "shapes: %s", err.message);
    d = experts(1, 1);
    nm_npu_buffer small = {0}, in = {0};
    uint64_t ticket;
    if (nm_npu_compile(npu, &d, &p, &err) != NPUMOE_OK ||
        nm_npu_buffer_init(npu, &small, 64, &err) != NPUMOE_OK ||
        nm_npu_buffer_init(npu, &in, C * N_IN * sizeof(float), &err) != NPUMOE_OK)
        bail("no program");
    is_int(nm_npu_submit(npu, p, &in, &in, &ticket, &err), NPUMOE_EINVAL, "%s", err.message);
    nm_npu_load(npu, p, &err);
    is_int(nm_npu_submit(npu, p, &in, &small, &ticket, &err), NPUMOE_EINVAL, "%s", err.message);
    is_int(nm_npu_wait(npu, 99, NULL, &err), NPUMOE_EINVAL, "%s", err.message);
    nm_npu_buffer_fini(npu, &small);
    nm_npu_buffer_fini(npu, &in);
    nm_npu_program_free(npu, &p);
    nm_npu_free(&npu);
}

/* ---- queue and clocks -------------------------------------------------------------------------- */

static void test_queue(void)
{
    nm_tile_options o = options();
    o.queue_depth = 3;
    const nm_program_desc d = experts(1, G);
    rig r = rig_with(&o, &d);
    uint64_t ticket[4];
    for (int i = 0; i < 4; i++)
        ok(nm_npu_submit(r.npu, r.program, &r.in, &r.out, &ticket[i], NULL) == NPUMOE_OK,
           "submit %d", i);
    ok(ticket[0] == 1 && ticket[1] == 2 && ticket[2] == 3, "tickets count");
    ok(ticket[3] == 0, "the queue is full, whether launches are done or not");
    nm_launch_times first, second;
    ok(nm_npu_wait(r.npu, 2, &second, NULL) == NPUMOE_OK, "out of order");
    ok(nm_npu_poll(r.npu, 1), "what came before is done");
    ok(nm_npu_wait(r.npu, 1, &first, NULL) == NPUMOE_OK, "the first");
    ok(first.ended_ns <= second.started_ns, "one launch at a time, in order");
    ok(first.submitted_ns <= first.started_ns && first.started_ns < first.ended_ns,
       "times in order");
    ok(nm_npu_submit(r.npu, r.program, &r.in, &r.out, &ticket[3], NULL) == NPUMOE_OK &&
           ticket[3] == 4,
       "room again");
    is_int(nm_npu_wait(r.npu, 1, NULL, NULL), NPUMOE_EINVAL, "nobody waits twice");
    ok(nm_npu_wait(r.npu, 3, NULL, NULL) == NPUMOE_OK &&
           nm_npu_wait(r.npu, 4, NULL, NULL) == NPUMOE_OK,
       "the rest");
    const nm_npu_stats s = nm_npu_get_stats(r.npu);
    ok(s.launches == 4 && s.refused == 1 && s.rows == 4 * ROWS, "all counted, padding included");
    ok(s.busy_ns > 0 && s.occupied_ns > 0, "clocks ran");
    rig_free(&r);
}

static void test_latency(void)
{
    nm_tile_options o = options();
    o.launch_ns = 3000000;
    const nm_program_desc d = experts(1, 1);
    rig r = rig_with(&o, &d);
    nm_launch_times t;
    launch(&r, &t, NULL);
    ok(t.ended_ns - t.started_ns >= 3000000, "added latency occupies the device");
    ok(t.busy_ns < 3000000, "but it is not busy then");
    is_int((int64_t)r.npu->caps.added_launch_ns, 3000000, "and says so");
    rig_free(&r);
}

/* ---- many programs at once -------------------------------------------------------------------- */

enum { FILLED = 9 };

/* Those that found a slot, and a twin of the last of them, run as if they had been loaded one by one. */
static void try_filled(nm_npu *npu, nm_program *const *p, const float *want)
{
    rig r = {.npu = npu};
    npumoe_error err;
    if (nm_npu_buffer_init(npu, &r.in, (size_t)p[0]->in_bytes, &err) != NPUMOE_OK ||
        nm_npu_buffer_init(npu, &r.out, (size_t)p[0]->out_bytes, &err) != NPUMOE_OK)
        bail("no buffers: %s", err.message);
    memcpy(r.in.data, x, (size_t)p[0]->in_bytes);
    r.program = p[0];
    is_int(launch(&r, NULL, &err), NPUMOE_EINVAL, "reserved is not loaded: %s", err.message);
    nm_pool *pool;
    if (nm_pool_new(nm_allocator_default(), 3, &pool, &err) != NPUMOE_OK)
        bail("no threads: %s", err.message);
    nm_npu_fill(npu, p, FILLED, pool);
    nm_npu_fill(npu, p, FILLED, pool); /* nothing is left to do */
    nm_pool_free(&pool);
    bool same = true;
    for (int i = 0; i < FILLED; i++) {
        r.program = p[i];
        memset(r.out.data, 0, r.out.bytes);
        same = same && launch(&r, NULL, &err) == NPUMOE_OK &&
               rig_equal(r.out.data, want, (size_t)p[i]->capacity * N_IN);
    }
    ok(same, "all run, with the bits of one that was loaded alone");
    nm_npu_buffer_fini(npu, &r.in);
    nm_npu_buffer_fini(npu, &r.out);
}

static void test_fill(void)
{
    npumoe_error err;
    nm_tile_options o = options();
    nm_program_desc d = experts(1, G);
    nm_program *p[FILLED + 1] = {NULL};
    nm_npu *inner, *npu;
    rig alone = rig_with(&o, &d);
    launch(&alone, NULL, NULL);
    o.n_threads = 2;
    o.slots = FILLED;
    const nm_fault_options f = {.load_from = 3, .load_to = 3};
    if (nm_tile_new(NULL, &o, &inner, NULL) != NPUMOE_OK ||
        nm_fault_new_take(NULL, &inner, &f, &npu, NULL) != NPUMOE_OK)
        bail("no device");
    for (int i = 0; i <= FILLED; i++) {
        d.twin = i == FILLED - 1 ? p[i - 1] : NULL;
        d.capacity = d.twin ? 16 : C;
        if (nm_npu_compile(npu, &d, &p[i], &err) != NPUMOE_OK)
            bail("no program: %s", err.message);
        npumoe_status st = nm_npu_reserve(npu, p[i], &err);
        if (i == 2) { /* again, as the order of calls says which fails */
            is_int(st, NPUMOE_EDEVICE, "the third: %s", err.message);
            st = nm_npu_reserve(npu, p[i], &err);
        }
        if (i == FILLED)
            is_int(st, NPUMOE_ETOOBIG, "one too many: %s", err.message);
        else
            ok(st == NPUMOE_OK, "a place for program %d", i);
    }
    try_filled(npu, p, alone.out.data);
    const nm_npu_stats s = nm_npu_get_stats(npu);
    ok(s.loads == FILLED && s.load_failures == 1 && s.load_ns > 0, "counted as loads");
    for (int i = FILLED; i >= 0; i--)
        nm_npu_program_free(npu, &p[i]);
    nm_npu_free(&npu);
    rig_free(&alone);
}

/* ---- failures ---------------------------------------------------------------------------------- */

static void test_faults(void)
{
    npumoe_error err;
    nm_tile_options o = options();
    nm_npu *inner;
    rig r = {0};
    nm_program *p;
    const nm_fault_options f = {.load_from = 2,
                                .load_to = 2,
                                .launch_from = 3,
                                .launch_to = 4,
                                .submit_from = 6,
                                .submit_to = 6,
                                .delay_seed = 1};
    if (nm_tile_new(NULL, &o, &inner, NULL) != NPUMOE_OK ||
        nm_fault_new_take(NULL, &inner, &f, &r.npu, NULL) != NPUMOE_OK)
        bail("no device");
    ok(inner == NULL, "taken");
    const nm_program_desc d = experts(1, 1);
    rig_program(&r, &d);
    fill_input(&r);
    nm_npu_compile(r.npu, &d, &p, &err);
    is_int(nm_npu_load(r.npu, p, &err), NPUMOE_EDEVICE, "the second load fails: %s", err.message);
    ok(nm_npu_load(r.npu, p, &err) == NPUMOE_OK, "the third does not");
    for (int i = 1; i <= 5; i++)
        is_int(launch(&r, NULL, &err), i == 3 || i == 4 ? NPUMOE_EDEVICE : NPUMOE_OK, "launch %d",
               i);
    is_int(launch(&r, NULL, &err), NPUMOE_EDEVICE, "a refusal: %s", err.message);
    ok(launch(&r, NULL, &err) == NPUMOE_OK, "works again");
    const nm_npu_stats s = nm_npu_get_stats(r.npu);
    ok(s.load_failures == 1 && s.launch_failures == 3 && s.launches == 6, "all counted");
    nm_npu_program_free(r.npu, &p);
    rig_free(&r);
}

/* ---- many threads ------------------------------------------------------------------------------ */

enum { SUBMITTERS = 4, EACH = 40 };

static void *submitter(void *arg)
{
    rig *r = arg;
    npumoe_error err;
    nm_npu_buffer out = {0};
    uintptr_t wrong = 0;
    if (nm_npu_buffer_init(r->npu, &out, r->out.bytes, &err) != NPUMOE_OK)
        return (void *)1;
    for (int i = 0; i < EACH; i++) {
        uint64_t ticket = 0;
        memset(out.data, 0, out.bytes);
        while (ticket == 0)
            if (nm_npu_submit(r->npu, r->program, &r->in, &out, &ticket, &err) != NPUMOE_OK)
                return (void *)1;
        wrong += nm_npu_wait(r->npu, ticket, NULL, &err) != NPUMOE_OK;
        wrong += !rig_equal(out.data, r->out.data, out.bytes / sizeof(float));
    }
    nm_npu_buffer_fini(r->npu, &out);
    return (void *)wrong;
}

static void test_many(void)
{
    nm_tile_options o = options();
    o.queue_depth = 3; /* fewer than threads: they meet refusals */
    o.n_threads = 2;
    const nm_program_desc d = experts(0, G);
    rig r = rig_with(&o, &d);
    pthread_t threads[SUBMITTERS];
    uintptr_t wrong = 0;
    launch(&r, NULL, NULL);
    for (int i = 0; i < SUBMITTERS; i++)
        if (pthread_create(&threads[i], NULL, submitter, &r) != 0)
            bail("no thread");
    for (int i = 0; i < SUBMITTERS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        wrong += (uintptr_t)result;
    }
    is_int((int64_t)wrong, 0, "%d threads submit and wait, all get their bits", SUBMITTERS);
    is_int((int64_t)nm_npu_get_stats(r.npu).launches, SUBMITTERS * EACH + 1, "all launches ran");
    rig_free(&r);
}

/* Freeing finishes what is in flight. */
static void test_abandoned(void)
{
    nm_tile_options o = options();
    const nm_program_desc d = experts(0, G);
    rig r = rig_with(&o, &d);
    uint64_t ticket;
    for (int i = 0; i < 5; i++)
        nm_npu_submit(r.npu, r.program, &r.in, &r.out, &ticket, NULL);
    nm_npu_wait(r.npu, ticket, NULL, NULL);
    rig_free(&r);
    ok(true, "freed with launches that nobody waited for");
}

/* The first may have started; of the others none does, and the device is as before. */
static void test_cancel(void)
{
    enum { N = 8 };
    nm_tile_options o = options();
    o.launch_ns = 100000000;
    const nm_program_desc d = experts(1, 1);
    rig r = rig_with(&o, &d);
    nm_npu *const tile = r.npu;
    uint64_t ticket[N];
    nm_launch_times t;
    for (int i = 0; i < N; i++)
        nm_npu_submit(tile, r.program, &r.in, &r.out, &ticket[i], NULL);
    nm_npu_cancel(tile);
    npumoe_error err;
    for (int i = 1; i < N; i++)
        is_int(nm_npu_wait(tile, ticket[i], NULL, &err), NPUMOE_ECANCELED, "launch %d", i);
    is_str(err.message, "launch 8 was cancelled", "message");
    const npumoe_status first = nm_npu_wait(tile, ticket[0], NULL, NULL);
    ok(first == NPUMOE_OK || first == NPUMOE_ECANCELED, "the first: as it came");
    launch(&r, &t, NULL);
    is_int((int64_t)nm_npu_get_stats(tile).launches, first == NPUMOE_OK ? 2 : 1,
           "what did not start does not count, and the next runs");
    rig_free(&r);
}

static void free_weights(void)
{
    for (int t = 0; t < 2; t++)
        for (int g = 0; g < G; g++) {
            free((void *)(uintptr_t)nets[t][g].gate.data);
            free((void *)(uintptr_t)nets[t][g].up.data);
            free((void *)(uintptr_t)nets[t][g].down.data);
        }
    for (int m = 0; m < 2; m++)
        free((void *)(uintptr_t)mats[m].w.data);
}

/* False: the best product of this machine has no panels. */
static bool is_possible(void)
{
    const uint32_t types[] = {NM_TYPE_Q4_0};
    const nm_cpu cpu = nm_cpu_detect();
    nm_kern kern;
    if (nm_kern_init(&kern, &cpu, NULL, NULL) != NPUMOE_OK)
        bail("no kernels");
    return form == NM_TILE_WEIGHTS_FILE ||
           nm_product_pick(&kern, NM_PRECISION_FULL, C, types, 1)->to_panels != NULL;
}

static void test_form(void)
{
    printf("# weights %s\n", form == NM_TILE_WEIGHTS_PACKED ? "packed" : "as in the file");
    test_tiers();
    if (!is_possible()) {
        skip(1, "no panels on this machine");
        return;
    }
    test_experts();
    test_linear(1, NM_PRECISION_FULL);
    test_linear(2, NM_PRECISION_FINE);
    test_linear(3, NM_PRECISION_FINE);
    test_own_weights();
    test_padding();
    test_twin();
    test_limits();
    test_refusals();
    test_queue();
    test_latency();
    test_fill();
    test_faults();
    test_many();
    test_abandoned();
    test_cancel();
}

/* Blocks of one slab, side by side: the address sanitizer knows where each ends, and which are gone. */
static void test_blocks(void)
{
#ifdef __SANITIZE_ADDRESS__
    npumoe_error err;
    nm_npu *npu = NULL;
    nm_npu_buffer b[3] = {0};
    const nm_tile_options o = nm_tile_options_default();
    if (nm_tile_new(nm_allocator_default(), &o, &npu, &err) != NPUMOE_OK)
        bail("%s", err.message);
    for (size_t i = 0; i < 3; i++)
        if (nm_npu_buffer_init(npu, &b[i], 1000, &err) != NPUMOE_OK)
            bail("%s", err.message);
    const char *middle = (const char *)b[1].data;
    ok(!__asan_region_is_poisoned(b[1].data, 1000), "a block may be used");
    ok(__asan_address_is_poisoned(middle + 1024) && __asan_address_is_poisoned(middle - 1),
       "what lies between it and its neighbours may not");
    nm_npu_buffer_fini(npu, &b[1]);
    ok(__asan_address_is_poisoned(middle), "nor what was given back");
    nm_npu_buffer_fini(npu, &b[0]);
    nm_npu_buffer_fini(npu, &b[2]);
    nm_npu_free(&npu);
#endif
}

int main(void)
{
    printf("# seed %llu\n", (unsigned long long)seed);
    make_weights();
    test_blocks();
    test_form();
    form = NM_TILE_WEIGHTS_PACKED;
    test_form();
    free_weights();
    return done_testing();
}
