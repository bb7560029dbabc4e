/* planner_bound.c: what no plan within the rules can be predicted to beat.
 *
 * For prices p (device time; host time costs 1 - p), s (a program) and b (a byte) the time of a layer plus
 * what its programs and bytes cost is at least
 *
 *     (1 - p) H + p D + s programs + b bytes  >=  constants + sum over experts of
 *         min( (1 - p) host(n_e) ,  s / G + b bytes_e + the cheapest launch that its rows could have )
 *
 * (1 - p) H + p D is no more than the larger of both, which is what overlaps best. Where each side is slower beside the
 * other, the best overlap takes the larger of
 *
 *     H + D d (1 - 1 / h)    the host works for longer, and beside the device all the while that this takes
 *     D + H h (1 - 1 / d)    the other way round
 *
 * with the device's factor d and the least of the host's, h; these, weighed by 1 - p and p, are weights of H and D again, and
 * no factor is over 2, or idling would be quicker than overlapping. All is
 * averaged over the scenarios, where a launch may be left out in any of them. G is the largest group,
 * so that an expert carries at least 1/G of a launch and of a program; tiers are forgotten, and where
 * groups may have several capacities, so is that they are few: every load takes its own. The sum over
 * the layers less s slots + b bytes holds for every plan that fits the budgets. Whatever the prices, it
 * is a bound; so they are simply searched for: p per layer by golden section (the bound is concave in
 * it), s and b by the same when a budget is tight. */
#include "moe/planner_priv.h"

#include <math.h>
#include <string.h>

enum { PRICE_STEPS = 12, BUDGET_STEPS = 10, ONE_PRICES = 16 };

typedef struct bound {
    const nm_planner *p;
    const nm_layer_work *l;
    double move_us; /* least host time of a row's way in and out */
    double launch_share, submit_share;
    bool any_capacity; /* every load takes its own */
    double slot_price, byte_price;
    double host_beside, device_beside; /* h, d */
    double host, device;               /* weights of H and D at the current price */
    double attention_us, alone_us; /* of a chunk, the mean over the prompt, at the current price */
    double *of_rows; /* [max_rows + 1] cheapest with any capacity, at the current price */
    /* the different loads of each expert of the layer at hand, with how often */
    uint32_t *first; /* [n_expert + 1] */
    uint32_t *rows;  /* [n_expert * n_scenarios] */
    double *share;
    uint32_t *all_first, *all_rows; /* of all layers, one after the other */
    double *all_share;
} bound;

/* The least that a curve takes per row, anywhere. */
static double least_per_row(const nm_curve *c)
{
    double least = HUGE_VAL;
    for (uint32_t i = 0; i < c->n; i++)
        least = fmin(least, c->us[i] / c->rows[i]);
    if (c->n > 1) {
        const double rise = c->us[c->n - 1] - c->us[c->n - 2];
        least = fmin(least, rise / (c->rows[c->n - 1] - c->rows[c->n - 2]));
    }
    return c->n > 0 ? fmax(least, 0.0) : 0.0;
}

static void set_price(bound *b, double price)
{
    const double h = b->host_beside, d = b->device_beside;
    b->host = (1.0 - price) + price * h * (1.0 - 1.0 / d);
    b->device = price + (1.0 - price) * d * (1.0 - 1.0 / h);
}

/* n rows in a launch of capacity c, its overflow with it. */
static double launched(const bound *b, uint32_t n, uint32_t c)
{
    const nm_planner *p = b->p;
    const uint32_t in = n < c ? n : c;
    double passes = 1.0, host = b->submit_share + b->move_us * in;
    if (n > c && p->options.overflow == NM_OVERFLOW_REPASS) {
        passes = (n + c - 1) / c;
        host = passes * b->submit_share + b->move_us * n;
    } else if (n > c && !nm_overflow_is_lossy(p->options.overflow)) {
        host += p->host_us[n - c];
    }
    return b->device * passes * (b->launch_share + p->device_us[c]) + b->host * host;
}

/* Attention of a chunk, which may be on the device whatever a plan sets aside for it. The host's share of a short chunk goes by
 * rows, and so does, here, that of the device. */
static double attention_at(const bound *b, uint32_t chunk)
{
    const nm_planner *p = b->p;
    const double host = b->host * nm_planner_part_host_us(p, NM_PART_ATTENTION, chunk);
    if (!p->attends)
        return host;
    return fmin(host, b->host * p->cost->launch_host_us +
                          b->device * nm_planner_part_device_us(p, NM_PART_ATTENTION, chunk));
}

/* The mean over the prompt of what `of` says of a chunk. */
static double over_prompt(const bound *b, double (*of)(const bound *b, uint32_t chunk))
{
    double us = 0.0;
    for (uint32_t i = 0; i < (b->p->n_chunks ? b->p->n_chunks : 1); i++)
        us += nm_planner_chunk_share(b->p, i) * of(b, i);
    return us;
}

/* A chunk by itself: QKV, attention and O one after the other, the rows of QKV and O shared as well as can be; O goes along with the
 * host's attention. Neither side takes less for a row than anywhere on its curve; moving rows costs nothing. */
static double alone_at(const bound *b, uint32_t chunk)
{
    const nm_planner *p = b->p;
    const double t = p->loads->chunk;
    const double attention = nm_planner_part_host_us(p, NM_PART_ATTENTION, chunk);
    double h[NM_COST_PARTS], d[NM_COST_PARTS], both[NM_COST_PARTS];
    for (int i = NM_PART_QKV; i <= NM_PART_O; i += NM_PART_O - NM_PART_QKV) {
        h[i] = fmin(p->part_host_us[i], t * least_per_row(&p->cost->host_part[i]));
        d[i] =
            p->part_possible[i] ? fmax(p->part_device_us[i] - p->cost->launch_us, 0.0) : HUGE_VAL;
        both[i] = d[i] < HUGE_VAL && h[i] + d[i] > 0.0 ? h[i] * d[i] / (h[i] + d[i]) : h[i];
    }
    double here = attention + h[NM_PART_O];
    if (d[NM_PART_O] < HUGE_VAL && h[NM_PART_O] + d[NM_PART_O] > 0.0)
        here = fmax(attention, d[NM_PART_O] * here / (h[NM_PART_O] + d[NM_PART_O]));
    const double there = p->attends ? p->cost->launch_host_us +
                                          nm_planner_part_device_us(p, NM_PART_ATTENTION, chunk) +
                                          both[NM_PART_O]
                                    : HUGE_VAL;
    return both[NM_PART_QKV] + fmin(here, there);
}

/* of_rows, for all loads that there can be: the best of host, one launch, and with REPASS one launch and the best for what is left. */
static void fill_rows(bound *b, double price)
{
    const nm_planner *p = b->p;
    set_price(b, price);
    b->attention_us = over_prompt(b, attention_at);
    b->alone_us = p->two ? 0.0 : over_prompt(b, alone_at);
    b->of_rows[0] = 0.0;
    for (uint32_t n = 1; b->any_capacity && n <= p->loads->chunk; n++) {
        double best = b->host * p->host_us[n];
        for (uint32_t m = 0; m < p->n_grid; m++) {
            const uint32_t c = p->grid[m];
            double v = launched(b, n, c);
            if (n > c && p->options.overflow == NM_OVERFLOW_REPASS)
                v = fmin(v, launched(b, c, c) + b->of_rows[n - c]);
            best = fmin(best, v);
        }
        b->of_rows[n] = best;
    }
}

static double any_capacity(const bound *b, uint32_t e)
{
    double sum = 0.0;
    for (uint32_t i = b->first[e]; i < b->first[e + 1]; i++)
        sum += b->share[i] * b->of_rows[b->rows[i]];
    return sum;
}

static double one_capacity(const bound *b, uint32_t e)
{
    const nm_planner *p = b->p;
    double best = HUGE_VAL;
    for (uint32_t m = 0; m < p->n_grid; m++) {
        double sum = 0.0;
        for (uint32_t i = b->first[e]; i < b->first[e + 1] && sum < best; i++)
            sum += b->share[i] *
                   fmin(b->host * p->host_us[b->rows[i]], launched(b, b->rows[i], p->grid[m]));
        best = fmin(best, sum);
    }
    return best;
}

/* Parts: on the host, or on the device with a program of their own. */
static double part_at(const bound *b, int i)
{
    const nm_planner *p = b->p;
    double best = b->host * p->part_host_us[i];
    if (i == NM_PART_ATTENTION)
        return b->attention_us;
    if (i != NM_PART_SHARED && nm_planner_tries_one(p)) /* where rows may be shared */
        best = fmin(best, b->host * p->loads->chunk * least_per_row(&p->cost->host_part[i]));
    if (p->part_possible[i])
        best =
            fmin(best, b->host * p->part_move_us[i] + b->device * p->part_device_us[i] +
                           b->slot_price + b->byte_price * (double)p->cost->device.part_bytes[i]);
    return best;
}

/* At the price that fill_rows was called with. */
static double layer_at(const bound *b)
{
    const nm_planner *p = b->p;
    const bool two = p->two;
    const double outside = two ? 0.0 : p->layer_us + b->alone_us;
    double inside = two ? b->host * p->layer_us : 0.0;
    for (int i = two ? 0 : NM_PART_SHARED; i < NM_COST_PARTS; i++)
        if (p->part_exists[i])
            inside += part_at(b, i);
    const double room =
        b->slot_price / p->options.max_group + b->byte_price * (double)p->cost->device.expert_bytes;
    for (uint32_t e = 0; e < p->n_expert; e++) {
        const double host = b->host * b->l->host[e];
        if (host <= room || p->n_grid == 0)
            inside += host;
        else
            inside +=
                fmin(host, room + (b->any_capacity ? any_capacity(b, e) : one_capacity(b, e)));
    }
    return outside + inside;
}

static double filled_at(bound *b, double price)
{
    fill_rows(b, price);
    return layer_at(b);
}

/* Golden section on a concave function of the price. */
static double best_price(bound *b)
{
    const double ratio = 0.6180339887498949;
    double low = 0.0, high = 1.0;
    double x1 = high - ratio * (high - low), x2 = low + ratio * (high - low);
    double f1 = filled_at(b, x1), f2 = filled_at(b, x2);
    double best = fmax(f1, f2);
    for (int i = 0; i < PRICE_STEPS; i++) {
        if (f1 >= f2) {
            high = x2;
            x2 = x1;
            f2 = f1;
            x1 = high - ratio * (high - low);
            f1 = filled_at(b, x1);
        } else {
            low = x1;
            x1 = x2;
            f1 = f2;
            x2 = low + ratio * (high - low);
            f2 = filled_at(b, x2);
        }
        best = fmax(best, fmax(f1, f2));
    }
    return best;
}

/* ---- one layer ------------------------------------------------------------------------------ */

static void collect_loads(bound *b)
{
    const nm_planner *p = b->p;
    uint32_t at = 0;
    for (uint32_t e = 0; e < p->n_expert; e++) {
        b->first[e] = at;
        for (uint32_t s = 0; s < p->n_scenarios; s++) {
            const uint32_t n = b->l->load[(size_t)s * p->n_expert + e];
            uint32_t i = b->first[e];
            while (i < at && b->rows[i] != n)
                i++;
            if (n == 0)
                continue;
            if (i == at) {
                b->rows[at] = n;
                b->share[at++] = 0.0;
            }
            b->share[i] += 1.0 / p->n_scenarios;
        }
    }
    b->first[p->n_expert] = at;
}

static void look_at(bound *b, const nm_layer_work *layers, uint32_t i)
{
    const size_t n = b->p->n_expert, cells = n * b->p->n_scenarios;
    b->l = &layers[i];
    b->first = b->all_first + i * (n + 1);
    b->rows = b->all_rows + i * cells;
    b->share = b->all_share + i * cells;
}

static npumoe_status bound_init(bound *b, const nm_planner *p, const nm_layer_work *layers,
                                uint32_t n_layers, npumoe_error *err)
{
    const size_t cells = (size_t)p->n_expert * p->n_scenarios * n_layers;
    const double group = p->options.max_group;
    *b = (bound){.p = p,
                 .move_us = least_per_row(&p->cost->gather) + least_per_row(&p->cost->scatter),
                 .launch_share = p->cost->launch_us / group,
                 .submit_share = p->cost->launch_host_us / group,
                 .any_capacity =
                     p->options.max_capacities > 1 || p->options.policy == NM_POLICY_LADDER,
                 .host_beside = p->beside[NM_WORK_EXPERTS],
                 .device_beside = p->beside[NM_WORK_DEVICE]};
    for (int i = 0; i < NM_WORK_DEVICE; i++)
        b->host_beside = fmin(b->host_beside, p->beside[i]);
    b->of_rows = nm_alloc_array(p->a, (size_t)p->max_rows + 1, sizeof *b->of_rows);
    b->all_first = nm_alloc_array(p->a, ((size_t)p->n_expert + 1) * n_layers, sizeof *b->first);
    b->all_rows = nm_alloc_array(p->a, cells, sizeof *b->rows);
    b->all_share = nm_alloc_array(p->a, cells, sizeof *b->share);
    if (!b->of_rows || !b->all_first || !b->all_rows || !b->all_share)
        return nm_err_nomem(err, cells * sizeof *b->share, "the lower bound");
    for (uint32_t i = 0; i < n_layers; i++) {
        look_at(b, layers, i);
        collect_loads(b);
    }
    return NPUMOE_OK;
}

static void bound_fini(bound *b)
{
    nm_free(b->p->a, b->of_rows);
    nm_free(b->p->a, b->all_first);
    nm_free(b->p->a, b->all_rows);
    nm_free(b->p->a, b->all_share);
}

/* ---- all layers ----------------------------------------------------------------------------- */

/* Layers of a wavefront overlap, so that a late device in one can be made up for in another: then they
 * have one price. Else each has its own. */
static double all_at(bound *b, const nm_layer_work *layers, uint32_t n)
{
    const nm_cost_device *d = &b->p->cost->device;
    const bool one_price = b->p->two && b->p->n_chunks > 0;
    double sum = 0.0;
    for (int j = 0; one_price && j <= ONE_PRICES; j++) {
        const double price = (double)j / ONE_PRICES;
        double at = 0.0;
        fill_rows(b, price);
        for (uint32_t i = 0; i < n; i++) {
            look_at(b, layers, i);
            at += layer_at(b);
        }
        sum = fmax(sum, at);
    }
    for (uint32_t i = 0; !one_price && i < n; i++) {
        look_at(b, layers, i);
        sum += best_price(b);
    }
    if (b->slot_price > 0.0)
        sum -= b->slot_price * d->slots;
    if (b->byte_price > 0.0)
        sum -= b->byte_price * (double)d->total_bytes;
    return sum;
}

/* Raises one of the two prices from 0 by doubling and halving steps while the bound rises. */
static double raise(bound *b, double *price, double step, double now, const nm_layer_work *layers,
                    uint32_t n)
{
    double best_price_so_far = *price;
    for (int i = 0; i < BUDGET_STEPS; i++) {
        *price = best_price_so_far + step;
        const double v = all_at(b, layers, n);
        if (v > now) {
            now = v;
            best_price_so_far = *price;
            step *= 1.5;
        } else {
            step *= 0.4;
        }
    }
    *price = best_price_so_far;
    return now;
}

npumoe_status nm_planner_bound(const nm_planner *p, const nm_layer_work *layers, uint32_t n_layers,
                               double *layer_us, double *total_us, npumoe_error *err)
{
    const nm_cost_device *d = &p->cost->device;
    bound b;
    double sum = 0.0, saved = 0.0;
    npumoe_status st = bound_init(&b, p, layers, n_layers, err);
    if (st != NPUMOE_OK)
        goto out;
    for (uint32_t i = 0; i < n_layers; i++) {
        look_at(&b, layers, i);
        layer_us[i] = best_price(&b);
        saved += fmax(0.0, layers[i].cpu_only_us - layer_us[i]);
    }
    const uint32_t whole = nm_planner_whole_layers(p);
    sum = all_at(&b, layers, whole);
    /* A budget that could run out: prices begin at what it would be worth if it all were used. */
    const double experts = (double)n_layers * p->n_expert;
    if (p->n_grid > 0 && d->expert_bytes > 0 &&
        (double)d->total_bytes < experts * (double)d->expert_bytes)
        sum = raise(&b, &b.byte_price, 0.5 * saved / ((double)d->total_bytes + 1.0), sum, layers,
                    whole);
    if (p->n_grid > 0 && d->slots < experts / p->options.max_group)
        sum = raise(&b, &b.slot_price, 0.5 * saved / (d->slots + 1.0), sum, layers, whole);
    *total_us = sum;
out:
    bound_fini(&b);
    return st;
}
