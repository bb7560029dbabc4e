/* cost.c: see cost.h. */
#include "moe/cost.h"

#include "base/num.h"
#include "quant/quant.h"

#include <stdio.h>

const char *nm_cost_part_name(nm_cost_part part)
{
    static const char *const names[NM_COST_PARTS] = {"qkv", "attention", "o", "shared"};
    return names[part];
}

const char *nm_cost_work_name(nm_cost_work work)
{
    static const char *const names[NM_COST_WORKS] = {"experts", "dense", "attention", "rows",
                                                     "device"};
    return names[work];
}

double nm_curve_at(const nm_curve *c, double rows)
{
    if (rows <= 0.0 || c->n == 0)
        return 0.0;
    if (c->n == 1 || rows <= c->rows[0])
        return c->n == 1 && rows > c->rows[0] ? c->us[0] * rows / c->rows[0] : c->us[0];
    uint32_t i = 1;
    while (i + 1 < c->n && rows > c->rows[i])
        i++;
    const double x0 = c->rows[i - 1], x1 = c->rows[i];
    const double us = c->us[i - 1] + (c->us[i] - c->us[i - 1]) * (rows - x0) / (x1 - x0);
    return us > 0.0 ? us : 0.0;
}

double nm_cost_beside(const nm_cost *c, nm_cost_work work)
{
    return c->beside[work] > 1.0 ? c->beside[work] : 1.0;
}

double nm_cost_part_device(const nm_cost *c, nm_cost_part part, uint32_t capacity)
{
    const nm_curve *d = &c->device_part[part];
    return d->n == 1 ? d->us[0] * capacity / d->rows[0] : nm_curve_at(d, capacity);
}

bool nm_cost_part_pays(const nm_cost *c, nm_cost_part part, const nm_cost_short *s)
{
    const nm_curve *host = &c->host_part[part], *device = &c->device_part[part];
    double host_us, device_us;
    if (host->n == 0 || device->n == 0)
        return true;
    if (part == NM_PART_ATTENTION) {
        host_us = nm_curve_at(host, (double)s->n_past + 1.0) * s->rows / s->capacity;
        device_us = nm_curve_at(device, (double)s->n_past + 1.0);
    } else {
        host_us = nm_curve_at(host, s->rows);
        device_us = nm_cost_part_device(c, part, s->capacity);
    }
    return (1.0 - s->price) * host_us >= s->price * device_us;
}

double nm_cost_launch(const nm_cost *c, uint32_t n_experts, uint32_t capacity)
{
    return c->launch_us + n_experts * nm_curve_at(&c->device_expert, capacity);
}

uint64_t nm_cost_group_bytes(const nm_cost *c, uint32_t n_experts, uint32_t n_capacities)
{
    const uint64_t copies = c->device.shares_weights ? 1 : n_capacities;
    uint64_t bytes;
    if (!nm_mul_u64(c->device.expert_bytes, n_experts * copies, &bytes))
        return UINT64_MAX;
    return bytes;
}

void nm_cost_no_device(nm_cost *c)
{
    c->device = (nm_cost_device){.capacity_multiple = 1, .capacity_min = 1, .capacity_max = 1};
    snprintf(c->device.name, sizeof c->device.name, "cpu");
    c->device_expert.n = 0;
    for (int i = 0; i < NM_COST_PARTS; i++)
        c->device_part[i].n = 0;
    c->launch_us = c->launch_host_us = 0.0;
    c->load_us_per_mb = c->unload_us_per_mb = 0.0;
    for (int i = 0; i < NM_COST_WORKS; i++)
        c->beside[i] = 0.0;
    c->device_watts = -1.0;
}

/* ---- does it fit? --------------------------------------------------------------------------- */

static npumoe_status number_fits(const char *what, uint32_t found, uint32_t expected,
                                 npumoe_error *err)
{
    if (found == expected)
        return NPUMOE_OK;
    return nm_err_set(err, NPUMOE_EMODEL,
                      "cost table: it was measured with %s %u, expected %u; measure again "
                      "(leave out --cost)",
                      what, found, expected);
}

npumoe_status nm_cost_fits(const nm_cost *c, const nm_cost_geometry *g, uint32_t chunk,
                           const char *device, npumoe_error *err)
{
    const nm_cost_geometry *m = &c->geometry;
    const struct {
        const char *what;
        uint32_t found, expected;
    } numbers[] = {
        {"width", m->n_embd, g->n_embd},
        {"expert width", m->n_ff, g->n_ff},
        {"shared expert width", m->n_ff_shared, g->n_ff_shared},
        {"experts", m->n_expert, g->n_expert},
        {"experts per token", m->n_expert_used, g->n_expert_used},
        {"heads", m->n_head, g->n_head},
        {"KV heads", m->n_head_kv, g->n_head_kv},
        {"key width", m->dim_k, g->dim_k},
        {"value width", m->dim_v, g->dim_v},
        {"chunks of tokens:", c->chunk, chunk},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        NM_TRY(number_fits(numbers[i].what, numbers[i].found, numbers[i].expected, err));
    static const char *const which[] = {"gate", "up", "down"};
    for (int i = 0; i < 3; i++)
        if (m->type[i] != g->type[i])
            return nm_err_set(err, NPUMOE_EMODEL,
                              "cost table: it was measured with %s in %s, expected %s; measure "
                              "again (leave out --cost)",
                              which[i], nm_type_get(m->type[i])->name,
                              nm_type_get(g->type[i])->name);
    if (device && strcmp(device, c->device.name) != 0)
        return nm_err_set(err, NPUMOE_EMODEL,
                          "cost table: it is for device %s, expected %s; measure again (leave out "
                          "--cost)",
                          c->device.name, device);
    return NPUMOE_OK;
}
