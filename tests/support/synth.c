/* synth.c: see synth.h. */
#include "support/synth.h"

#include "quant/quant.h"
#include "tap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

uint32_t synth_next(synth_rng *r, uint32_t below)
{
    r->state = r->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((r->state >> 33) * below) >> 31);
}

double synth_unit(synth_rng *r)
{
    return (synth_next(r, 1u << 30) + 0.5) / (1u << 30);
}

static double normal(synth_rng *r)
{
    return sqrt(-2.0 * log(synth_unit(r))) * cos(6.283185307179586 * synth_unit(r));
}

/* Deals the chunk's pairs out by weight; what an expert cannot take goes to the next. */
static void deal(const synth_shape *s, const double *weight, uint32_t *load)
{
    double sum = 0.0;
    uint32_t left = s->k * s->chunk;
    for (uint32_t e = 0; e < s->n_expert; e++)
        sum += weight[e];
    for (uint32_t e = 0; e < s->n_expert; e++) {
        double rows = floor(s->k * (double)s->chunk * weight[e] / sum);
        load[e] = rows < s->chunk ? (uint32_t)rows : s->chunk;
        left -= load[e];
    }
    for (uint32_t e = 0; left > 0; e = (e + 1) % s->n_expert) {
        const uint32_t room = s->chunk - load[e], more = left < 4 ? left : 4;
        const uint32_t n = room < more ? room : more;
        load[e] += n;
        left -= n;
    }
}

bool synth_loads(const synth_shape *s, synth_rng *r, nm_loads *out)
{
    *out = (nm_loads){.n_layers = s->n_layers,
                      .n_expert = s->n_expert,
                      .n_scenarios = s->n_scenarios,
                      .chunk = s->chunk};
    out->layers = calloc(s->n_layers, sizeof *out->layers);
    double *weight = calloc(s->n_expert, sizeof *weight);
    uint32_t *place = calloc(s->n_expert, sizeof *place);
    bool fine = out->layers && weight && place;
    for (uint32_t l = 0; fine && l < s->n_layers; l++) {
        nm_layer_loads *layer = &out->layers[l];
        layer->layer = l;
        layer->load = calloc((size_t)s->n_scenarios * s->n_expert, sizeof *layer->load);
        fine = layer->load != NULL;
        for (uint32_t e = 0; e < s->n_expert; e++) {
            const uint32_t other = synth_next(r, e + 1);
            place[e] = place[other];
            place[other] = e;
        }
        for (uint32_t c = 0; fine && c < s->n_scenarios; c++) {
            for (uint32_t e = 0; e < s->n_expert; e++)
                weight[e] = pow(place[e] + 1.0, -s->zipf) * exp(s->vary * normal(r));
            deal(s, weight, layer->load + (size_t)c * s->n_expert);
        }
    }
    free(weight);
    free(place);
    return fine;
}

nm_plan_model synth_model(uint32_t n_layers, uint32_t n_expert, uint32_t k)
{
    nm_plan_model m = {.router_hash = 0x0123456789abcdef, .n_layer = n_layers};
    snprintf(m.name, sizeof m.name, "synthetic");
    snprintf(m.architecture, sizeof m.architecture, "olmoe");
    m.geometry = (nm_cost_geometry){.n_embd = 2048,
                                    .n_ff = 1024,
                                    .n_expert = n_expert,
                                    .n_expert_used = k,
                                    .n_head = 16,
                                    .n_head_kv = 16,
                                    .dim_k = 128,
                                    .dim_v = 128,
                                    .type = {NM_TYPE_Q4_K, NM_TYPE_Q4_K, NM_TYPE_Q4_K}};
    return m;
}

static nm_curve line(double at_one, double per_row)
{
    static const uint32_t rows[] = {1, 16, 64, 256, 2048};
    nm_curve c = {.n = sizeof rows / sizeof rows[0]};
    for (uint32_t i = 0; i < c.n; i++) {
        c.rows[i] = rows[i];
        c.us[i] = at_one + per_row * rows[i];
    }
    return c;
}

nm_cost_device synth_device(uint64_t expert_bytes)
{
    return (nm_cost_device){.name = "tile",
                            .slots = UINT32_MAX,
                            .capacity_multiple = 16,
                            .capacity_min = 16,
                            .capacity_max = 65536,
                            .queue_depth = 64,
                            .program_bytes = UINT64_MAX,
                            .total_bytes = UINT64_MAX,
                            .expert_bytes = expert_bytes,
                            .threads = 1};
}

nm_cost synth_cost(const nm_plan_model *model, uint32_t chunk, double launch_us)
{
    nm_cost c = {.geometry = model->geometry,
                 .isa = "avx512",
                 .host_threads = 1,
                 .chunk = chunk,
                 .host_region_us = 5.0,
                 .launch_us = launch_us,
                 .launch_host_us = 8.0,
                 .load_us_per_mb = 200.0,
                 .unload_us_per_mb = 1.0,
                 .host_watts = -1.0,
                 .device_watts = -1.0};
    c.host_expert = line(180.0, 14.0);
    c.device_expert = line(30.0, 9.0);
    c.host_layer = line(20.0, 2.0);
    c.host_part[NM_PART_ATTENTION] = line(3000.0, 4.0);
    c.gather = line(0.5, 0.4);
    c.scatter = line(0.5, 0.6);
    c.host_part[NM_PART_QKV] = c.host_part[NM_PART_O] = line(100.0, 12.0);
    c.device = synth_device(3u * 2048 * 1024 * 2);
    memcpy(c.device.weights, "file", sizeof "file");
    c.device.has_linear = true;
    c.device.capacity_max = 4096;
    c.device.part_bytes[NM_PART_QKV] = c.device.part_bytes[NM_PART_O] = 4u * 2048 * 2048;
    return c;
}

bool synth_make(const synth_shape *shape, synth_rng *r, double launch_us, synth_setting *out)
{
    *out = (synth_setting){.model = synth_model(shape->n_layers, shape->n_expert, shape->k)};
    out->cost = synth_cost(&out->model, shape->chunk, launch_us);
    return synth_loads(shape, r, &out->loads);
}

void synth_free(synth_setting *x)
{
    nm_loads_free(nm_allocator_default(), &x->loads);
}

nm_plan *synth_plan_with(const synth_setting *x, const nm_planner_options *o)
{
    nm_plan *plan = NULL;
    npumoe_error err = {0};
    if (nm_planner_make(nm_allocator_default(), &x->model, &x->loads, &x->cost, o, &plan, &err) !=
        NPUMOE_OK)
        bail("%s", err.message);
    return plan;
}

static nm_planner_options options_for(uint32_t n_prompt, uint32_t in_flight, bool compare)
{
    nm_planner_options o = nm_planner_options_default();
    o.n_prompt = n_prompt;
    o.in_flight = in_flight;
    o.compare = compare;
    return o;
}

nm_plan *synth_plan(const synth_setting *x, uint32_t n_prompt, uint32_t in_flight)
{
    const nm_planner_options o = options_for(n_prompt, in_flight, true);
    return synth_plan_with(x, &o);
}

nm_plan *synth_plan_alone(const synth_setting *x, uint32_t n_prompt, uint32_t in_flight)
{
    const nm_planner_options o = options_for(n_prompt, in_flight, false);
    return synth_plan_with(x, &o);
}

void synth_slow(nm_cost *c, uint32_t chunk, double factor, bool attention)
{
    for (uint32_t i = 0; i < c->device_expert.n; i++)
        c->device_expert.us[i] = factor * nm_curve_at(&c->host_expert, c->device_expert.rows[i]);
    for (int p = NM_PART_QKV; p <= NM_PART_O; p++) {
        c->device_part[p] = (nm_curve){.n = 1, .rows = {chunk}};
        c->device_part[p].us[0] = factor * nm_curve_at(&c->host_part[p], chunk);
    }
    c->device_part[NM_PART_ATTENTION] = c->host_part[NM_PART_ATTENTION];
    for (uint32_t i = 0; i < c->host_part[NM_PART_ATTENTION].n; i++)
        c->device_part[NM_PART_ATTENTION].us[i] *= factor;
    c->device.has_attention = attention;
}
