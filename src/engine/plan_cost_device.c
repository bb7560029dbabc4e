/* plan_cost_device.c: the device's part of a cost table (plan_cost.h).
 *
 * A point of the curve is programs of several experts, launched often in a row: what a launch takes from
 * the one before it, less what an empty one takes, over its experts. So the curve and launch_us together
 * give back what was measured, added latency included.
 *
 * The host writes each launch's rows and reads what came of them, in buffers that take turns: a device that finds
 * its rows where it left them is quicker, with small experts twice as quick, than one that has to fetch them from another core's cache.
 *
 * A model's weights do not stay in a cache from one chunk to the next, so launches take turns among programs with
 * more bytes than caches have, where capacities can share them (a device that keeps a copy for each capacity would
 * load for longer than it is measured). And short launches are measured twice, with time in between: a core
 * that was asleep, or disturbed for a moment, is slow for longer than a few of them take, and a planner that
 * believes 16 rows to cost what 48 cost never asks for 16. */
#include "engine/plan_cost.h"

#include "base/clock.h"
#include "quant/quant.h"

#include <stdio.h>
#include <string.h>

enum {
    MOST_EXPERTS = 4, /* of a program */
    MOST_PROGRAMS = 48,
    MOST_POINTS = 16,
    COLD_BYTES = 160 << 20, /* all programs together */
    WARM_UP = 2,
    LAUNCHES = 7,
    EMPTY_LAUNCHES = 63,
    PER_LINE = 64 / sizeof(float),
    MOST_LAUNCHES = 63,
    ENOUGH_US = 40000, /* of launches, for one point */
    SHORT_US = 60000,  /* launches up to this are measured twice */
    ENOUGH_ROWS = 64,  /* from here on a point may be left to the last two */
    LONG_US = 150000
};

typedef struct device {
    nm_cost_job *job;
    nm_npu *npu;
    nm_cost_network experts[MOST_EXPERTS];
    uint32_t n_experts;
    nm_program *owners[MOST_PROGRAMS]; /* the weights, for programs of any capacity; or none */
    uint32_t n_owners;
    double host_us; /* of the latest series: submit and wait, per launch */
} device;

/* Programs that take turns. */
typedef struct turns {
    nm_program *p[MOST_PROGRAMS];
    uint32_t n, next;
    const nm_npu_cache *cache; /* of attention */
} turns;

/* ---- launches in a row ---------------------------------------------------------------------- */

/* Its lines are the host's now, as after a gather. */
static void write_lines(const nm_npu_buffer *b)
{
    volatile float *line = b->data;
    for (size_t i = 0; i < b->bytes / sizeof *b->data; i += PER_LINE)
        line[i] = line[i];
}

static void read_lines(const nm_npu_buffer *b)
{
    const volatile float *line = b->data;
    for (size_t i = 0; i < b->bytes / sizeof *b->data; i += PER_LINE)
        (void)line[i];
}

/* us[i]: from the end of the launch before, or its own submission, to its end. */
static npumoe_status launch(device *d, turns *t, nm_cost_buffers *r, uint32_t n, double *us,
                            npumoe_error *err)
{
    uint64_t first = 0, ticket, host_ns = 0, last_end = 0;
    const uint32_t depth =
        d->npu->caps.queue_depth < NM_COST_BUFFERS ? d->npu->caps.queue_depth : NM_COST_BUFFERS;
    uint32_t submitted = 0, waited = 0;
    while (waited < n) {
        nm_launch_times times;
        uint64_t start;
        if (submitted < n && submitted - waited < depth) {
            const uint32_t turn = submitted % NM_COST_BUFFERS;
            write_lines(&r->in[turn]);
            start = nm_clock_thread_cpu_ns();
            NM_TRY(nm_npu_submit_with(d->npu, t->p[t->next++ % t->n], &r->in[turn], &r->out[turn],
                                      t->cache, &ticket, err));
            if (ticket == 0)
                return nm_err_set(err, NPUMOE_EINTERNAL,
                                  "device %s: its queue of %u is full after %u", d->npu->caps.name,
                                  d->npu->caps.queue_depth, submitted - waited);
            if (submitted++ == 0)
                first = ticket;
            host_ns += nm_clock_thread_cpu_ns() - start;
        } else {
            start = nm_clock_thread_cpu_ns();
            NM_TRY(nm_npu_wait(d->npu, first + waited, &times, err));
            host_ns += nm_clock_thread_cpu_ns() - start;
            read_lines(&r->out[waited % NM_COST_BUFFERS]);
            const uint64_t from = times.submitted_ns > last_end ? times.submitted_ns : last_end;
            us[waited++] = (double)(times.ended_ns - from) * 1e-3;
            last_end = times.ended_ns;
        }
    }
    d->host_us = (double)host_ns * 1e-3 / n;
    return NPUMOE_OK;
}

/* us of a launch in a row of n or, when they are short, of more; after some to warm up. */
static npumoe_status time_turns(device *d, turns *t, uint32_t n, double *us, npumoe_error *err)
{
    nm_cost_buffers r;
    double each[MOST_LAUNCHES];
    NM_TRY(nm_cost_buffers_init(&r, d->npu, t->p[0], err));
    npumoe_status st = launch(d, t, &r, WARM_UP, each, err);
    while (st == NPUMOE_OK && n < MOST_LAUNCHES && n * each[WARM_UP - 1] < ENOUGH_US)
        n = 2 * n + 1;
    if (st == NPUMOE_OK)
        st = launch(d, t, &r, n, each, err);
    if (st == NPUMOE_OK)
        *us = nm_cost_quartile(each, n);
    nm_cost_buffers_fini(&r, d->npu);
    return st;
}

static npumoe_status load(device *d, const nm_program_desc *desc, nm_program **out,
                          npumoe_error *err)
{
    NM_TRY(nm_npu_compile(d->npu, desc, out, err));
    npumoe_status st = nm_npu_load(d->npu, *out, err);
    if (st != NPUMOE_OK)
        nm_npu_program_free(d->npu, out);
    return st;
}

/* cache: of attention, or NULL. */
static npumoe_status time_program(device *d, const nm_program_desc *desc, const nm_npu_cache *cache,
                                  uint32_t n, double *us, npumoe_error *err)
{
    turns t = {.n = 1, .cache = cache};
    npumoe_status st = load(d, desc, &t.p[0], err);
    if (st == NPUMOE_OK)
        st = time_turns(d, &t, n, us, err);
    nm_npu_program_free(d->npu, &t.p[0]);
    return st;
}

/* ---- launches ------------------------------------------------------------------------------- */

/* A program that does next to nothing. */
static npumoe_status measure_launch(device *d, nm_cost *out, npumoe_error *err)
{
    nm_mat gate, down;
    NM_TRY(nm_cost_matrix(NM_TYPE_F32, 32, 64, &gate, err));
    npumoe_status st = nm_cost_matrix(NM_TYPE_F32, 64, 32, &down, err);
    const nm_program_network network = {.gate = gate, .up = gate, .down = down};
    const nm_program_desc desc = {.kind = NM_PROGRAM_EXPERTS,
                                  .act = NM_ACT_SWIGLU,
                                  .capacity = out->device.capacity_min,
                                  .networks = &network,
                                  .n = 1};
    if (st == NPUMOE_OK)
        st = time_program(d, &desc, NULL, EMPTY_LAUNCHES, &out->launch_us, err);
    out->launch_host_us = d->host_us;
    nm_cost_matrix_free(&gate);
    nm_cost_matrix_free(&down);
    return st == NPUMOE_OK ? nm_cost_step(d->job, err) : st;
}

/* ---- experts -------------------------------------------------------------------------------- */

static void describe(const device *d, nm_program_network *networks, nm_program_desc *desc)
{
    for (uint32_t i = 0; i < d->n_experts; i++)
        networks[i] = (nm_program_network){
            .gate = d->experts[i].gate, .up = d->experts[i].up, .down = d->experts[i].down};
    *desc = (nm_program_desc){.kind = NM_PROGRAM_EXPERTS,
                              .act = NM_ACT_SWIGLU,
                              .capacity = d->npu->caps.capacity_min,
                              .networks = networks,
                              .n = d->n_experts};
}

static npumoe_status make_experts(device *d, nm_cost *out, npumoe_error *err)
{
    const nm_npu_caps *caps = &d->npu->caps;
    nm_program_network networks[MOST_EXPERTS];
    nm_program_desc desc;
    do {
        NM_TRY(nm_cost_network_new(d->job, d->job->geometry.n_ff, &d->experts[d->n_experts], err));
        d->n_experts++;
        if (d->n_experts == 1) {
            describe(d, networks, &desc);
            out->device.expert_bytes = nm_npu_program_bytes(d->npu, &desc);
        }
        const uint64_t bytes = out->device.expert_bytes, next = (d->n_experts + 1) * bytes;
        if (d->n_experts * bytes >= COLD_BYTES || next > caps->program_bytes ||
            next > caps->total_bytes)
            break;
    } while (d->n_experts < MOST_EXPERTS);
    if (out->device.expert_bytes <= caps->program_bytes &&
        out->device.expert_bytes <= caps->total_bytes)
        return NPUMOE_OK;
    return nm_err_set(err, NPUMOE_ETOOBIG,
                      "plan: an expert takes %llu bytes on device %s, which has %llu for a program "
                      "and %llu in all; give it more (--npu-mem)",
                      (unsigned long long)out->device.expert_bytes, caps->name,
                      (unsigned long long)caps->program_bytes,
                      (unsigned long long)caps->total_bytes);
}

/* Weights that no cache holds, where programs can share them; how long loading took. */
static npumoe_status make_owners(device *d, nm_program_desc *desc, nm_cost *out, npumoe_error *err)
{
    const nm_npu_caps *caps = &d->npu->caps;
    const uint64_t bytes = d->n_experts * out->device.expert_bytes, start = nm_clock_ns();
    uint64_t n = caps->shares_weights ? COLD_BYTES / (bytes + 1) + 1 : 0;
    n = n < MOST_PROGRAMS ? n : MOST_PROGRAMS;
    n = n < caps->slots / 2 ? n : caps->slots / 2; /* each has a twin */
    n = n < caps->total_bytes / (bytes + 1) ? n : caps->total_bytes / (bytes + 1);
    desc->capacity = caps->capacity_min;
    while (d->n_owners < n) {
        NM_TRY(load(d, desc, &d->owners[d->n_owners], err));
        d->n_owners++;
    }
    if (n > 0)
        out->load_us_per_mb = (double)(nm_clock_ns() - start) * 1e3 / (double)(n * bytes);
    return NPUMOE_OK;
}

static void free_turns(device *d, turns *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        nm_npu_program_free(d->npu, &t->p[i]);
    t->n = 0;
}

/* Programs of that capacity. */
static npumoe_status make_turns(device *d, nm_program_desc desc, turns *t, nm_cost *out,
                                npumoe_error *err)
{
    const uint64_t start = nm_clock_ns();
    npumoe_status st = NPUMOE_OK;
    do {
        desc.twin = d->n_owners > 0 ? d->owners[t->n] : NULL;
        st = load(d, &desc, &t->p[t->n], err);
        t->n += st == NPUMOE_OK;
    } while (st == NPUMOE_OK && t->n < d->n_owners);
    if (d->n_owners == 0)
        out->load_us_per_mb = (double)(nm_clock_ns() - start) * 1e3 /
                              (double)(d->n_experts * out->device.expert_bytes);
    if (st != NPUMOE_OK)
        free_turns(d, t);
    return st;
}

/* us of a launch with that capacity; the lesser of this time and *us, unless that is 0. */
static npumoe_status measure_capacity(device *d, const nm_program_desc *desc, nm_cost *out,
                                      double *us, npumoe_error *err)
{
    turns t = {.n = 0};
    double now = 0.0;
    NM_TRY(make_turns(d, *desc, &t, out, err));
    npumoe_status st = time_turns(d, &t, LAUNCHES, &now, err);
    free_turns(d, &t);
    *us = *us > 0.0 && *us < now ? *us : now;
    return st == NPUMOE_OK ? nm_cost_step(d->job, err) : st;
}

static npumoe_status measure_experts(device *d, nm_cost *out, npumoe_error *err)
{
    static const uint32_t steps[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128};
    const nm_npu_caps *caps = &d->npu->caps;
    const uint32_t multiple = caps->capacity_multiple;
    const uint32_t most = (d->job->chunk + multiple - 1) / multiple * multiple;
    uint32_t capacities[MOST_POINTS], n = 0;
    double us[MOST_POINTS] = {0.0};
    nm_program_network networks[MOST_EXPERTS];
    nm_program_desc desc;
    NM_TRY(make_experts(d, out, err));
    describe(d, networks, &desc);
    NM_TRY(make_owners(d, &desc, out, err));
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        desc.capacity = capacities[n] = steps[i] * multiple;
        if (desc.capacity < caps->capacity_min || desc.capacity > caps->capacity_max ||
            desc.capacity > most)
            continue;
        NM_TRY(measure_capacity(d, &desc, out, &us[n], err));
        n++;
        if (desc.capacity >= ENOUGH_ROWS && n >= 2 && us[n - 1] > LONG_US)
            break;
    }
    for (uint32_t i = 0; i < n; i++) {
        desc.capacity = capacities[i];
        if (us[i] < SHORT_US)
            NM_TRY(measure_capacity(d, &desc, out, &us[i], err));
    }
    for (uint32_t i = 0; i < n; i++)
        nm_cost_add_point(&out->device_expert, capacities[i],
                          (us[i] - out->launch_us) / d->n_experts);
    if (out->device_expert.n > 0)
        return NPUMOE_OK;
    return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                      "plan: device %s allows no capacity up to a chunk of %u", caps->name,
                      d->job->chunk);
}

/* ---- dense parts ---------------------------------------------------------------------------- */

static npumoe_status measure_part(device *d, nm_cost *out, nm_cost_part part, nm_program_desc *desc,
                                  npumoe_error *err)
{
    const nm_npu_caps *caps = &d->npu->caps;
    const uint32_t multiple = caps->capacity_multiple;
    double us;
    desc->act = NM_ACT_SWIGLU;
    desc->capacity = (d->job->chunk + multiple - 1) / multiple * multiple;
    out->device.part_bytes[part] = nm_npu_program_bytes(d->npu, desc);
    if (desc->capacity < caps->capacity_min || desc->capacity > caps->capacity_max ||
        out->device.part_bytes[part] > caps->program_bytes ||
        out->device.part_bytes[part] > caps->total_bytes)
        return NPUMOE_OK; /* not on this device */
    turns t = {.n = 1};
    NM_TRY(load(d, desc, &t.p[0], err));
    npumoe_status st = time_turns(d, &t, 3, &us, err);
    if (st == NPUMOE_OK &&
        desc->kind == NM_PROGRAM_LINEAR) /* others' rows are gathered and scattered */
        st = nm_cost_measure_far(d->job, t.p[0], &out->part_far_us[part], err);
    nm_npu_program_free(d->npu, &t.p[0]);
    if (st != NPUMOE_OK)
        return st;
    nm_cost_add_point(&out->device_part[part], desc->capacity, us - out->launch_us);
    return nm_cost_step(d->job, err);
}

static npumoe_status measure_parts(device *d, nm_cost *out, npumoe_error *err)
{
    const nm_cost_job *job = d->job;
    const nm_cost_geometry *g = &job->geometry;
    const uint64_t rows[] = {(uint64_t)g->n_head * g->dim_k, (uint64_t)g->n_head_kv * g->dim_k,
                             (uint64_t)g->n_head_kv * g->dim_v};
    nm_program_matrix qkv[3] = {{{0}, NULL}}, o = {{0}, NULL};
    nm_cost_network shared = {0};
    npumoe_status st = NPUMOE_OK;
    for (int i = 0; i < 3; i++)
        NM_TRY_OUT(nm_cost_matrix(job->type_qkv, rows[i], g->n_embd, &qkv[i].w, err));
    NM_TRY_OUT(nm_cost_matrix(job->type_out, g->n_embd, (uint64_t)g->n_head * g->dim_v, &o.w, err));
    nm_program_desc all = {.kind = NM_PROGRAM_LINEAR, .matrices = qkv, .n = 3};
    nm_program_desc one = {.kind = NM_PROGRAM_LINEAR, .matrices = &o, .n = 1};
    NM_TRY_OUT(measure_part(d, out, NM_PART_QKV, &all, err));
    NM_TRY_OUT(measure_part(d, out, NM_PART_O, &one, err));
    if (g->n_ff_shared > 0) {
        NM_TRY_OUT(nm_cost_network_new(job, g->n_ff_shared, &shared, err));
        const nm_program_network n = {.gate = shared.gate, .up = shared.up, .down = shared.down};
        nm_program_desc desc = {.kind = NM_PROGRAM_EXPERTS, .networks = &n, .n = 1};
        NM_TRY_OUT(measure_part(d, out, NM_PART_SHARED, &desc, err));
    }
out:
    for (int i = 0; i < 3; i++)
        nm_cost_matrix_free(&qkv[i].w);
    nm_cost_matrix_free(&o.w);
    nm_cost_network_free(&shared);
    return st;
}

/* ---- attention ------------------------------------------------------------------------------- */

/* Of chunks that the device can take whole. */
static npumoe_status measure_attention(device *d, nm_cost *out, npumoe_error *err)
{
    const nm_cost_job *job = d->job;
    const nm_cost_geometry *g = &job->geometry;
    const nm_npu_caps *caps = &d->npu->caps;
    nm_npu_cache cache;
    uint32_t past[NM_COST_PASTS];
    npumoe_status st = NPUMOE_OK;
    if (job->chunk % caps->capacity_multiple != 0 || job->chunk < caps->capacity_min ||
        job->chunk > caps->capacity_max)
        return NPUMOE_OK;
    NM_TRY(nm_cost_cache_init(job, &cache, err));
    nm_cost_pasts(job, past);
    for (size_t i = 0; st == NPUMOE_OK && i < NM_COST_PASTS; i++) {
        const nm_program_attention a = {.positions = past[i] + job->chunk,
                                        .n_head = g->n_head,
                                        .n_head_kv = g->n_head_kv,
                                        .dim_k = g->dim_k,
                                        .dim_v = g->dim_v,
                                        .scale = 0.1f,
                                        .window = job->window};
        const nm_program_desc desc = {
            .kind = NM_PROGRAM_ATTENTION, .capacity = job->chunk, .attention = &a, .n = 1};
        double us = 0.0;
        st = time_program(d, &desc, &cache, 3, &us, err);
        nm_cost_add_point(&out->device_part[NM_PART_ATTENTION], past[i] + 1, us - out->launch_us);
    }
    nm_cost_cache_fini(&cache);
    return st == NPUMOE_OK ? nm_cost_step(d->job, err) : st;
}

npumoe_status nm_cost_measure_device(nm_cost_job *job, nm_cost *out, npumoe_error *err)
{
    const nm_npu_caps *caps = &job->npu->caps;
    device d = {.job = job, .npu = job->npu};
    out->device = (nm_cost_device){.simulated = caps->simulated,
                                   .shares_weights = caps->shares_weights,
                                   .has_linear = caps->has_linear,
                                   .has_attention = caps->has_attention,
                                   .slots = caps->slots,
                                   .capacity_multiple = caps->capacity_multiple,
                                   .capacity_min = caps->capacity_min,
                                   .capacity_max = caps->capacity_max,
                                   .queue_depth = caps->queue_depth,
                                   .program_bytes = caps->program_bytes,
                                   .total_bytes = caps->total_bytes,
                                   .threads = caps->n_threads,
                                   .added_launch_us = (double)caps->added_launch_ns * 1e-3};
    snprintf(out->device.name, sizeof out->device.name, "%s", caps->name);
    snprintf(out->device.weights, sizeof out->device.weights, "%s", caps->weights);
    snprintf(out->device.arithmetic, sizeof out->device.arithmetic, "%s", caps->arithmetic);
    npumoe_status st = measure_launch(&d, out, err);
    if (st == NPUMOE_OK)
        st = measure_experts(&d, out, err);
    for (; d.n_owners > 0; d.n_owners--)
        nm_npu_program_free(d.npu, &d.owners[d.n_owners - 1]);
    if (st == NPUMOE_OK && caps->has_linear)
        st = measure_parts(&d, out, err);
    if (st == NPUMOE_OK && caps->has_attention)
        st = measure_attention(&d, out, err);
    for (uint32_t i = 0; i < d.n_experts; i++)
        nm_cost_network_free(&d.experts[i]);
    return st;
}
