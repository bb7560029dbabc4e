/* planner_rows.c: QKV and O shared by rows.
 *
 * With one chunk in flight nothing runs beside QKV, attention and O: whichever side computes a part, the other
 * waits. So host and device share its rows: the device takes the first, the host the others, and both end together. What is
 * more, attention goes row by row: O of the rows that the host has attended to runs while it attends to the others.
 *
 *   host     QKV of its rows | store | attention .......... | O of its rows | join
 *   device   [QKV of first rows]                [O of first rows]
 *
 * With several chunks in flight another chunk fills these gaps, and whole parts are launched.
 *
 * A device's time for fewer rows is a share of that for all (cost.h). */
#include "moe/planner_clocks.h"
#include "moe/planner_priv.h"

#include <math.h>

/* Of a part with its rows shared: the device's launch, what the host has of it, and what it takes to move rows. */
typedef struct halves {
    double device_us, rest_us, move_us;
} halves;

static halves halves_of(const nm_planner *p, nm_cost_part part, uint32_t rows)
{
    const nm_cost *c = p->cost;
    const uint32_t rest = p->rows > rows ? p->rows - rows : 0;
    return (halves){.device_us = c->launch_us + nm_cost_part_device(c, part, rows),
                    .rest_us = rest ? nm_curve_at(&c->host_part[part], rest) : 0.0,
                    .move_us = c->launch_host_us + c->part_far_us[part] * rows / c->chunk};
}

double nm_planner_attended(const nm_planner *p, uint32_t chunk, uint32_t rows)
{
    const double t = p->rows, n = fmin(rows, t);
    const double past = p->options.n_past + (double)chunk * p->loads->chunk;
    return n * (past + 0.5 * n) / (t * (past + 0.5 * t));
}

uint32_t nm_planner_shared_rows(const nm_planner *p, const nm_way *w, nm_cost_part part)
{
    const bool there = (w->parts & 1u << part) != 0;
    return there && w->rows[part] < p->loads->chunk ? w->rows[part] : 0;
}

nm_part_times nm_planner_part_times(const nm_planner *p, const nm_way *w, nm_cost_part part,
                                    uint32_t chunk)
{
    const uint32_t rows = nm_planner_shared_rows(p, w, part);
    if (!nm_planner_part_is_there(p, w, part, chunk))
        return (nm_part_times){.host_us = nm_planner_part_host_us(p, part, chunk)};
    if (rows == 0)
        return (nm_part_times){.move_us = p->part_move_us[part],
                               .device_us = nm_planner_part_device_us(p, part, chunk)};
    const halves h = halves_of(p, part, rows);
    return (nm_part_times){.move_us = h.move_us, .host_us = h.rest_us, .device_us = h.device_us};
}

/* What a chunk by itself takes less than one side after the other, each slowed down by what runs beside it. attention_us:
 * the host's, before O; 0 where it is the device's. */
static double both_us(const nm_planner *p, nm_cost_part part, uint32_t rows, halves h,
                      double attention_us)
{
    const double attention = part == NM_PART_QKV ? 0.0 : attention_us;
    const double before = attention > 0.0 ? attention * nm_planner_attended(p, 0, rows) : 0.0;
    nm_clocks c = nm_clocks_new(p->beside[NM_WORK_DEVICE]);
    const double end = nm_clocks_launch(&c, h.device_us);
    nm_clocks_work(&c, attention - before, p->beside[NM_WORK_ATTENTION]);
    nm_clocks_work(&c, h.rest_us, p->beside[NM_WORK_DENSE]);
    nm_clocks_wait(&c, end);
    return h.device_us + attention - before + h.rest_us - c.now;
}

double nm_planner_rows_overlap(const nm_planner *p, const nm_way *w)
{
    double us = 0.0;
    for (int i = NM_PART_QKV; i <= NM_PART_O; i++) {
        const uint32_t rows = nm_planner_shared_rows(p, w, (nm_cost_part)i);
        const bool device = (w->parts & 1u << NM_PART_ATTENTION) != 0;
        if (rows > 0)
            us += both_us(p, (nm_cost_part)i, rows, halves_of(p, (nm_cost_part)i, rows),
                          device ? 0.0 : p->part_host_us[NM_PART_ATTENTION]);
    }
    return us;
}

/* The rows with which a part takes least; 0: all of them on the device. */
static uint32_t best_rows(const nm_planner *p, nm_cost_part part, double attention_us)
{
    const nm_cost_device *d = &p->cost->device;
    const uint32_t t = p->loads->chunk, step = d->capacity_multiple;
    double least = p->part_device_us[part] + p->part_move_us[part];
    uint32_t best = 0;
    for (uint32_t rows = step; rows < t; rows += step) {
        if (rows < d->capacity_min || rows > d->capacity_max)
            continue;
        const halves h = halves_of(p, part, rows);
        const double us =
            h.device_us + h.rest_us + h.move_us - both_us(p, part, rows, h, attention_us);
        if (us < least) {
            least = us;
            best = rows;
        }
    }
    return best;
}

bool nm_planner_share_rows(const nm_planner *p, nm_way *w)
{
    const bool device = (w->parts & 1u << NM_PART_ATTENTION) != 0;
    const double attention_us = device ? 0.0 : p->part_host_us[NM_PART_ATTENTION];
    bool any = false;
    if (p->two)
        return false;
    for (int i = NM_PART_QKV; i <= NM_PART_O; i++) {
        if (i == NM_PART_ATTENTION || !(w->parts & 1u << i))
            continue;
        w->rows[i] = best_rows(p, (nm_cost_part)i, attention_us);
        any = any || w->rows[i] > 0;
    }
    return any;
}
