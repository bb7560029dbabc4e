/* profile_query.c: questions about loads (profile.h says how sizes between and outside those counted
 * are answered).
 *
 * Inside a bin of more than one load the loads are taken as spread evenly over [mean - r, mean + r], the
 * widest interval around the bin's mean that stays in the bin. That keeps the mean, and makes every
 * answer exact at the bins' edges and continuous between them. */
#include "moe/profile.h"

#include <math.h>

/* The two counted sizes that speak for a chunk, and how much the larger one has to say. */
typedef struct neighbours {
    uint32_t low, high;
    double high_share;
    bool any; /* false: the part has no chunk at all */
} neighbours;

static neighbours find_neighbours(const nm_profile_counts *c, uint32_t chunk)
{
    neighbours nb = {0};
    bool has_low = false, has_high = false;
    for (uint32_t i = 0; i < NM_PROFILE_SIZES; i++) {
        if (c->chunks[i] == 0)
            continue;
        if (NM_PROFILE_SIZE(i) <= chunk) {
            nb.low = i;
            has_low = true;
        }
        if (NM_PROFILE_SIZE(i) >= chunk && !has_high) {
            nb.high = i;
            has_high = true;
        }
    }
    nb.any = has_low || has_high;
    if (!has_low)
        nb.low = nb.high;
    if (!has_high)
        nb.high = nb.low;
    if (nb.low != nb.high)
        nb.high_share = log2((double)chunk / NM_PROFILE_SIZE(nb.low)) / (nb.high - nb.low);
    return nb;
}

/* One bin as an interval of loads. */
typedef struct span {
    double count, mean, radius;
} span;

static span span_of(const nm_profile_bin *bins, uint32_t bin)
{
    const double low = nm_profile_bin_low(bin), high = nm_profile_bin_high(bin);
    span s = {.count = bins[bin].count, .mean = low};
    if (bins[bin].count == 0)
        return s;
    s.mean = low + bins[bin].excess / s.count;
    s.radius = bins[bin].count > 1 ? fmin(s.mean - low, high - s.mean) : 0;
    return s;
}

/* E[(x - c)+] of x in a span. */
static double span_overflow(span s, double c)
{
    if (c <= s.mean - s.radius)
        return s.mean - c;
    if (c >= s.mean + s.radius)
        return 0;
    const double over = s.mean + s.radius - c;
    return over * over / (4 * s.radius);
}

static double span_above(span s, double rows)
{
    if (rows < s.mean - s.radius)
        return 1;
    return rows >= s.mean + s.radius ? 0 : (s.mean + s.radius - rows) / (2 * s.radius);
}

/* ---- one counted size ----------------------------------------------------------------------- */

typedef struct histogram {
    const nm_profile_bin *bins;
    uint32_t n_bins;
    double chunks, size;
} histogram;

static histogram histogram_of(const nm_profile *p, nm_profile_part part, uint32_t layer,
                              uint32_t expert, uint32_t size_index)
{
    return (histogram){.bins = nm_profile_bins(p, part, layer, expert, size_index),
                       .n_bins = nm_profile_n_bins(size_index),
                       .chunks = (double)p->part[part].chunks[size_index],
                       .size = NM_PROFILE_SIZE(size_index)};
}

static double histogram_overflow(const histogram *h, double capacity)
{
    double sum = 0;
    for (uint32_t b = 1; b < h->n_bins; b++)
        if (h->bins[b].count > 0 && nm_profile_bin_high(b) > capacity) {
            const span s = span_of(h->bins, b);
            sum += s.count * span_overflow(s, capacity);
        }
    return sum / h->chunks;
}

static double histogram_above(const histogram *h, double rows)
{
    double sum = 0;
    for (uint32_t b = 1; b < h->n_bins; b++)
        if (h->bins[b].count > 0) {
            const span s = span_of(h->bins, b);
            sum += s.count * span_above(s, rows);
        }
    return sum / h->chunks;
}

static double histogram_quantile(const histogram *h, double q)
{
    double want = q * h->chunks, last = 0;
    for (uint32_t b = 0; b < h->n_bins; b++) {
        if (h->bins[b].count == 0)
            continue;
        const span s = span_of(h->bins, b);
        last = s.mean + s.radius;
        if (want <= s.count)
            return s.mean + s.radius * (2 * want / s.count - 1);
        want -= s.count;
    }
    return last;
}

/* ---- questions ------------------------------------------------------------------------------ */

double nm_profile_popularity(const nm_profile *p, nm_profile_part part, uint32_t layer,
                             uint32_t expert)
{
    const nm_profile_counts *c = &p->part[part];
    const double all = (double)c->tokens * p->model.n_expert_used;
    return all > 0 ? (double)c->pairs[(size_t)layer * p->model.n_expert + expert] / all : 0;
}

/* What is known of a part without chunks. */
static double popular_load(const nm_profile *p, nm_profile_part part, uint32_t layer,
                           uint32_t expert, uint32_t chunk)
{
    return nm_profile_popularity(p, part, layer, expert) * p->model.n_expert_used * chunk;
}

/* Mixture of f(size, argument in loads of that size) / size^power over the neighbours. */
static double mix(const nm_profile *p, nm_profile_part part, uint32_t layer, uint32_t expert,
                  uint32_t chunk, const neighbours *nb,
                  double (*f)(const histogram *h, double argument), double argument,
                  bool scale_argument, bool scale_value)
{
    double sum = 0;
    for (int i = 0; i < 2; i++) {
        const double share = i ? nb->high_share : 1 - nb->high_share;
        if (share <= 0)
            continue;
        const histogram h = histogram_of(p, part, layer, expert, i ? nb->high : nb->low);
        const double ratio = chunk / h.size;
        const double v = f(&h, scale_argument ? argument / ratio : argument);
        sum += share * (scale_value ? v * ratio : v);
    }
    return sum;
}

double nm_profile_overflow(const nm_profile *p, nm_profile_part part, uint32_t layer,
                           uint32_t expert, uint32_t chunk, double capacity)
{
    const neighbours nb = find_neighbours(&p->part[part], chunk);
    if (!nb.any)
        return fmax(0, popular_load(p, part, layer, expert, chunk) - capacity);
    return mix(p, part, layer, expert, chunk, &nb, histogram_overflow, fmax(0, capacity), true,
               true);
}

double nm_profile_mean(const nm_profile *p, nm_profile_part part, uint32_t layer, uint32_t expert,
                       uint32_t chunk)
{
    return nm_profile_overflow(p, part, layer, expert, chunk, 0);
}

double nm_profile_above(const nm_profile *p, nm_profile_part part, uint32_t layer, uint32_t expert,
                        uint32_t chunk, double rows)
{
    const neighbours nb = find_neighbours(&p->part[part], chunk);
    if (!nb.any)
        return popular_load(p, part, layer, expert, chunk) > rows ? 1 : 0;
    return mix(p, part, layer, expert, chunk, &nb, histogram_above, rows, true, false);
}

double nm_profile_quantile(const nm_profile *p, nm_profile_part part, uint32_t layer,
                           uint32_t expert, uint32_t chunk, double q)
{
    const neighbours nb = find_neighbours(&p->part[part], chunk);
    if (!nb.any)
        return popular_load(p, part, layer, expert, chunk);
    return mix(p, part, layer, expert, chunk, &nb, histogram_quantile, fmin(1, fmax(0, q)), false,
               true);
}

uint64_t nm_profile_chunks(const nm_profile *p, nm_profile_part part, uint32_t chunk)
{
    const neighbours nb = find_neighbours(&p->part[part], chunk);
    return nb.any ? p->part[part].chunks[nb.high_share < 0.5 ? nb.low : nb.high] : 0;
}

/* ---- co-activation -------------------------------------------------------------------------- */

/* Sum of loads of an expert over the chunks that co-activation is counted in. */
static double load_sum(const nm_profile *p, uint32_t layer, uint32_t expert)
{
    const nm_profile_bin *bins =
        nm_profile_bins(p, NM_PROFILE_MAIN, layer, expert, NM_PROFILE_COACT_SIZE);
    double sum = 0;
    for (uint32_t b = 1; b < nm_profile_n_bins(NM_PROFILE_COACT_SIZE); b++)
        sum += (double)bins[b].count * nm_profile_bin_low(b) + bins[b].excess;
    return sum;
}

static double coact_at(const nm_profile *p, uint32_t layer, uint32_t e, uint32_t f)
{
    const size_t n = p->model.n_expert, low = e < f ? e : f, high = e < f ? f : e;
    const uint64_t *of_layer = p->coact + layer * (n * (n + 1) / 2);
    return (double)of_layer[low * n - low * (low + 1) / 2 + high];
}

bool nm_profile_coactivation(const nm_profile *p, uint32_t layer, uint32_t e, uint32_t f,
                             double *correlation)
{
    const double n = (double)p->part[NM_PROFILE_MAIN].chunks[NM_PROFILE_COACT_SIZE];
    const size_t first = (size_t)layer * p->model.n_expert;
    if (!p->coact || n < 2 || !p->coact_known[first + e] || !p->coact_known[first + f])
        return false;
    const double me = load_sum(p, layer, e) / n, mf = load_sum(p, layer, f) / n;
    const double var_e = coact_at(p, layer, e, e) / n - me * me;
    const double var_f = coact_at(p, layer, f, f) / n - mf * mf;
    if (!(var_e > 1e-9) || !(var_f > 1e-9))
        return false;
    const double r = (coact_at(p, layer, e, f) / n - me * mf) / sqrt(var_e * var_f);
    *correlation = fmin(1, fmax(-1, r));
    return true;
}
