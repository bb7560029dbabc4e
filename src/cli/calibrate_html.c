/* calibrate_html.c: a profile's statistics as one page: no script, no font, no file beside it.
 *
 * Colours are variables with one set for light and one for dark; the figures are SVG that uses them.
 * The popularity map has classes of colour, not a colour for each value, so that 30,000 cells stay
 * small: a class is a factor of popularity against an even spread. */
#include "calibrate.h"
#include "out.h"
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#if defined(__GNUC__)
#define HTML_PRINTF __attribute__((format(printf, 2, 3)))
#else
#define HTML_PRINTF
#endif

enum { N_CLASSES = 9, TITLES_MAX = 6000 };

/* Upper bounds of the classes of popularity x experts; the first is "never", the last is open. */
static const double class_bounds[N_CLASSES - 1] = {0, 0.25, 0.5, 0.75, 1, 1.5, 2, 4};

HTML_PRINTF static void put(out_file *f, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n > 0)
        out_write(f, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static void put_lines(out_file *f, const char *const *lines)
{
    for (; *lines; lines++) {
        out_write(f, *lines, strlen(*lines));
        out_write(f, "\n", 1);
    }
}

/* Text of a file: what is markup in HTML is spelled out. */
static void put_text(out_file *f, const char *text)
{
    for (const char *p = text; *p; p++) {
        switch (*p) {
        case '&':
            out_write(f, "&amp;", 5);
            break;
        case '<':
            out_write(f, "&lt;", 4);
            break;
        case '>':
            out_write(f, "&gt;", 4);
            break;
        case '"':
            out_write(f, "&quot;", 6);
            break;
        default:
            out_write(f, p, 1);
        }
    }
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static double item(const json_t *array, size_t i)
{
    return json_number_value(json_array_get(array, i));
}

/* ---- the head ------------------------------------------------------------------------------- */

static const char *const style[] = {
    "<style>",
    ":root{color-scheme:light dark;--ground:#fcfcfb;--text:#1b1d21;--quiet:#676d76;--line:#dfe1e4;",
    "--box:#fff;--main:#1f6fb5;--held:#c8590e;--third:#2f8f5b;",
    "--c0:#fff;--c1:#eef4fa;--c2:#dbe8f4;--c3:#c0d8ed;--c4:#9cc2e3;--c5:#6aa3d4;--c6:#3a80bd;",
    "--c7:#1c5c99;--c8:#0b3a69}",
    "@media(prefers-color-scheme:dark){:root{--ground:#14161a;--text:#e6e8eb;--quiet:#9aa1ab;",
    "--line:#33383f;--box:#1b1e23;--main:#6fb3ee;--held:#f0975a;--third:#6cc796;",
    "--c0:#14161a;--c1:#1a222c;--c2:#1d2d3e;--c3:#223c56;--c4:#295072;--c5:#356d9c;--c6:#5093ca;",
    "--c7:#85bdec;--c8:#d3e9fd}}",
    "*{box-sizing:border-box}",
    "body{margin:0 auto;max-width:70rem;padding:2rem 1.25rem 4rem;background:var(--ground);",
    "color:var(--text);font:15px/1.55 system-ui,-apple-system,'Segoe UI',sans-serif}",
    "h1{font-size:1.6rem;line-height:1.2;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2.5rem 0 "
    ".25rem}",
    "p{margin:.25rem 0 .75rem;max-width:48rem}.quiet{color:var(--quiet)}",
    ".facts{display:flex;flex-wrap:wrap;gap:.25rem 2rem;margin:.75rem 0 1.25rem;padding:0;",
    "list-style:none;color:var(--quiet)}.facts b{color:var(--text);font-weight:600}",
    ".verdict{margin:0;padding:1rem 1.25rem 1rem 2.25rem;background:var(--box);",
    "border:1px solid var(--line);border-radius:8px}.verdict li{margin:.2rem 0;max-width:60rem}",
    "figure{margin:.5rem 0 0;overflow-x:auto}svg{display:block;max-width:100%;height:auto}",
    "svg text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:var(--quiet)}",
    ".axis{stroke:var(--line);stroke-width:1;fill:none}.curve{fill:none;stroke-width:2;",
    "stroke-linejoin:round}.even{stroke:var(--quiet);stroke-width:1;stroke-dasharray:4 "
    "4;fill:none}",
    ".two{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:0 2rem}",
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;",
    "margin:.5rem 0}th,td{padding:.2rem .75rem;text-align:right;white-space:nowrap}",
    "th{font-weight:600;color:var(--quiet);border-bottom:1px solid var(--line)}",
    "th:first-child,td:first-child{text-align:left;padding-left:0}",
    "tr:last-child td{border-bottom:1px solid var(--line)}",
    ".c0{fill:var(--c0);stroke:var(--line);stroke-width:.5}.c1{fill:var(--c1)}.c2{fill:var(--c2)}",
    ".c3{fill:var(--c3)}.c4{fill:var(--c4)}.c5{fill:var(--c5)}.c6{fill:var(--c6)}",
    ".c7{fill:var(--c7)}.c8{fill:var(--c8)}",
    "</style>",
    NULL,
};

static void put_head(out_file *f, const json_t *stats)
{
    const char *name = report_text(stats, "model.name");
    const uint64_t main = report_u64(stats, "tokens.main"),
                   held = report_u64(stats, "tokens.held_out");
    put(f, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
           "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>");
    put_text(f, name);
    put(f, ": experts</title>\n");
    put_lines(f, style);
    put(f, "<h1>");
    put_text(f, *name ? name : "A model");
    put(f, "</h1>\n<p class=\"quiet\">How the tokens of %zu text%s spread over its experts</p>\n",
        json_array_size(json_object_get(stats, "texts")),
        json_array_size(json_object_get(stats, "texts")) == 1 ? "" : "s");
    put(f,
        "<ul class=\"facts\"><li><b>%zu</b> layers of <b>%" PRIu64
        "</b> experts</li><li><b>%" PRIu64 "</b> experts for a token</li><li><b>%" PRIu64
        "</b> tokens</li><li><b>%" PRIu64 "</b> of them held out</li><li>chunks of <b>%" PRIu64
        "</b></li></ul>\n",
        json_array_size(json_object_get(stats, "layers")), report_u64(stats, "model.n_expert"),
        report_u64(stats, "model.n_expert_used"), main + held, held, report_u64(stats, "chunk"));
}

static void put_verdict(out_file *f, const json_t *stats)
{
    const json_t *verdict = json_object_get(stats, "verdict"), *sentence;
    size_t i;
    put(f, "<ul class=\"verdict\">\n");
    json_array_foreach(verdict, i, sentence)
    {
        put(f, "<li>");
        put_text(f, json_string_value(sentence));
        put(f, "</li>\n");
    }
    put(f, "</ul>\n");
}

/* ---- the popularity map --------------------------------------------------------------------- */

static int class_of(double relative)
{
    int c = 0;
    while (c + 1 < N_CLASSES && relative > class_bounds[c])
        c++;
    return c;
}

static void put_legend(out_file *f, double x, double y)
{
    static const char *const names[N_CLASSES] = {"never", "0",   "1/4", "1/2",     "3/4",
                                                 "1",     "1.5", "2",   "4 x even"};
    for (int c = 0; c < N_CLASSES; c++) {
        put(f, "<rect class=\"c%d\" x=\"%.1f\" y=\"%.1f\" width=\"36\" height=\"10\"/>", c,
            x + c * 38 + (c ? 24 : 0), y);
        put(f, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", x + c * 38 + (c ? 24 : 0), y + 23,
            names[c]);
    }
}

static void put_map_row(out_file *f, const json_t *layer, double y, double w, double h, bool titles)
{
    const json_t *popularity = json_object_get(layer, "popularity");
    const size_t n = json_array_size(popularity);
    for (size_t e = 0; e < n; e++) {
        const double relative = item(popularity, e) * (double)n;
        put(f, "<rect class=\"c%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"",
            class_of(relative), 44 + (double)e * w, y, w > 3 ? w - 1 : w, h > 3 ? h - 1 : h);
        if (titles)
            put(f, "><title>layer %" PRIu64 ", expert %zu: %.2f x even</title></rect>",
                report_u64(layer, "layer"), e, relative);
        else
            put(f, "/>");
    }
    put(f, "\n");
}

static void put_map(out_file *f, const json_t *stats)
{
    const json_t *layers = json_object_get(stats, "layers"), *layer;
    const size_t n_layers = json_array_size(layers);
    const size_t n = (size_t)report_u64(stats, "model.n_expert");
    const double w = fmax(1.8, fmin(40, 1000.0 / (double)n)), h = n_layers > 40 ? 10 : 16;
    const double width = fmax(44 + (double)n * w + 8, 460), bottom = 8 + (double)n_layers * h;
    const size_t step = n <= 32 ? 4 : n <= 128 ? 8 : 32;
    size_t l;
    put(f, "<h2>Popularity</h2>\n<p class=\"quiet\">A row is a layer, a column an expert; the "
           "colour is "
           "its share of the layer's pairs against an even spread.</p>\n<figure>");
    put(f,
        "<svg viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" role=\"img\" aria-label=\"popularity by "
        "layer and "
        "expert\">\n",
        width, bottom + 60, width);
    json_array_foreach(layers, l, layer)
    {
        const double y = 8 + (double)l * h;
        if (n_layers <= 24 || l % 4 == 0)
            put(f, "<text x=\"36\" y=\"%.1f\" text-anchor=\"end\">%" PRIu64 "</text>",
                y + h / 2 + 4, report_u64(layer, "layer"));
        put_map_row(f, layer, y, w, h, n_layers * n <= TITLES_MAX);
    }
    for (size_t e = 0; e < n; e += step)
        put(f, "<text x=\"%.1f\" y=\"%.1f\">%zu</text>", 44 + (double)e * w, bottom + 14, e);
    put_legend(f, 44, bottom + 28);
    put(f, "</svg></figure>\n");
}

/* ---- curves --------------------------------------------------------------------------------- */

/* A plot area with its axes; values are mapped into it. */
typedef struct plot {
    out_file *f;
    double left, top, width, height, max_x, max_y;
} plot;

static double at_x(const plot *p, double v)
{
    return p->left + v / p->max_x * p->width;
}

static double at_y(const plot *p, double v)
{
    return p->top + p->height - v / p->max_y * p->height;
}

static void begin_plot(plot *p, const char *label)
{
    put(p->f,
        "<figure><svg viewBox=\"0 0 480 300\" width=\"480\" role=\"img\" aria-label=\"%s\">\n",
        label);
    for (int i = 0; i <= 4; i++) {
        const double v = p->max_y * i / 4;
        put(p->f, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>", p->left, at_y(p, v),
            p->left + p->width);
        put(p->f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.*f %%</text>\n", p->left - 6,
            at_y(p, v) + 4, p->max_y < 0.04 ? 1 : 0, 100 * v);
    }
}

static void end_plot(const plot *p, const char *x_label)
{
    put(p->f, "<text x=\"%.1f\" y=\"296\" text-anchor=\"middle\">%s</text>\n</svg></figure>\n",
        p->left + p->width / 2, x_label);
}

static void put_curve(const plot *p, const json_t *x, const json_t *y, const char *colour)
{
    put(p->f, "<path class=\"curve\" style=\"stroke:var(%s)\" d=\"", colour);
    for (size_t i = 0; i < json_array_size(y); i++)
        put(p->f, "%s%.1f %.1f", i ? "L" : "M", at_x(p, item(x, i)), at_y(p, item(y, i)));
    put(p->f, "\"/>\n");
}

static void put_key(const plot *p, int i, const char *colour, double opacity, const char *name)
{
    const double y = p->top + 6 + 17 * i, x = p->left + p->width - 118;
    put(p->f,
        "<path class=\"curve\" style=\"stroke:var(%s);stroke-opacity:%.2f\" d=\"M%.1f %.1fh18\"/>"
        "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n",
        colour, opacity, x, y, x + 24, y + 4, name);
}

static void put_coverage(out_file *f, const json_t *stats)
{
    const json_t *c = json_object_get(stats, "coverage"), *x = json_object_get(c, "experts");
    const json_t *held = json_object_get(c, "held_out");
    plot p = {f, 52, 10, 410, 240, 1, 1};
    put(f, "<div><h2>Coverage</h2>\n<p class=\"quiet\">Share of the pairs that the most popular "
           "experts "
           "carry, mean of the layers. The order is that of the text that was not held out.</p>\n");
    begin_plot(&p, "coverage curve");
    for (int i = 0; i <= 4; i++)
        put(f, "<text x=\"%.1f\" y=\"268\" text-anchor=\"middle\">%d %%</text>", at_x(&p, i / 4.0),
            25 * i);
    put(f, "<path class=\"even\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n", at_x(&p, 0), at_y(&p, 0),
        at_x(&p, 1), at_y(&p, 1));
    put_curve(&p, x, json_object_get(c, "main"), "--main");
    if (held)
        put_curve(&p, x, held, "--held");
    const double y = at_y(&p, 0) - 44; /* the corner below the curves */
    put(f,
        "<path class=\"curve\" style=\"stroke:var(--main)\" d=\"M330 %.1fh18\"/><text x=\"354\" "
        "y=\"%.1f\">calibrated</text>",
        y, y + 4);
    if (held)
        put(f,
            "<path class=\"curve\" style=\"stroke:var(--held)\" d=\"M330 %.1fh18\"/><text "
            "x=\"354\" "
            "y=\"%.1f\">held out</text>",
            y + 17, y + 21);
    put(f, "<path class=\"even\" d=\"M330 %.1fh18\"/><text x=\"354\" y=\"%.1f\">even</text>\n",
        y + 34, y + 38);
    end_plot(&p, "of the experts");
    put(f, "</div>\n");
}

/* The largest share of a class, for the axis. */
static double highest(const json_t *sizes)
{
    const json_t *size;
    double most = 0.01;
    size_t i;
    json_array_foreach(sizes, i, size)
    {
        const json_t *shares = json_object_get(size, "shares");
        for (size_t j = 0; j < json_array_size(shares); j++)
            most = fmax(most, item(shares, j));
    }
    return ceil(most * 25) / 25; /* whole percents on the axis */
}

static void put_load_curve(const plot *p, const json_t *size, double opacity)
{
    const json_t *shares = json_object_get(size, "shares");
    put(p->f, "<path class=\"curve\" style=\"stroke:var(--main);stroke-opacity:%.2f\" d=\"M",
        opacity);
    for (size_t j = 0; j < json_array_size(shares); j++) {
        const double x = ((double)j + 0.5) / 4;
        if (x <= p->max_x)
            put(p->f, "%s%.1f %.1f", j ? "L" : "", at_x(p, x), at_y(p, item(shares, j)));
    }
    put(p->f, "\"/>\n");
}

enum { DRAWN_MEANS = 5 };

/* Share of the loads that lie beyond the axis. */
static double not_drawn(const json_t *size)
{
    const json_t *shares = json_object_get(size, "shares");
    double sum = 0;
    for (size_t j = 4 * DRAWN_MEANS; j < json_array_size(shares); j++)
        sum += item(shares, j);
    return sum;
}

/* Of the chunk size that has most of them. */
static void put_not_drawn(out_file *f, const json_t *sizes)
{
    const json_t *size, *worst = NULL;
    size_t i;
    json_array_foreach(sizes, i, size)
    {
        if (worst == NULL || not_drawn(size) > not_drawn(worst))
            worst = size;
    }
    if (worst && not_drawn(worst) > 0)
        put(f, " Beyond %d times the mean, which is not drawn: %.2g %% in chunks of %" PRIu64 ".",
            DRAWN_MEANS, 100 * not_drawn(worst), report_u64(worst, "chunk"));
}

static void put_loads(out_file *f, const json_t *stats)
{
    const json_t *sizes = json_object_get(stats, "loads"), *size;
    const size_t n = json_array_size(sizes);
    plot p = {f, 52, 10, 410, 240, DRAWN_MEANS, highest(sizes)};
    char name[48];
    size_t i;
    put(f, "<div><h2>Loads</h2>\n<p class=\"quiet\">How often an expert gets a multiple of the "
           "mean load in "
           "a chunk, for chunks of several sizes. The longer the tail, the more a fixed capacity "
           "pads or overflows.");
    put_not_drawn(f, sizes);
    put(f, "</p>\n");
    begin_plot(&p, "distribution of loads");
    for (int x = 0; x <= DRAWN_MEANS; x++)
        put(f, "<text x=\"%.1f\" y=\"268\" text-anchor=\"middle\">%d x</text>", at_x(&p, x), x);
    json_array_foreach(sizes, i, size)
    {
        const double opacity = 0.25 + 0.75 * (double)(i + 1) / (double)n;
        put_load_curve(&p, size, opacity);
        snprintf(name, sizeof name, "%" PRIu64 " tokens", report_u64(size, "chunk"));
        put_key(&p, (int)i, "--main", opacity, name);
    }
    end_plot(&p, "load / mean load (classes of a quarter)");
    put(f, "</div>\n");
}

/* ---- tables --------------------------------------------------------------------------------- */

static void put_capacities(out_file *f, const json_t *stats)
{
    const json_t *list = json_object_get(stats, "capacities"), *c;
    size_t i;
    put(f,
        "<h2>Capacities</h2>\n<p class=\"quiet\">What fixed capacities would cost in chunks of "
        "%" PRIu64 " tokens: padding is the share of computed rows without a token, overflow the "
        "share of pairs "
        "that do not fit.</p>\n<div class=\"wide\"><table><tr><th>capacity of an "
        "expert</th><th>mean "
        "rows</th><th>padding</th><th>overflow</th><th>held out: "
        "padding</th><th>overflow</th></tr>\n",
        report_u64(stats, "chunk"));
    json_array_foreach(list, i, c)
    {
        const json_t *main = json_object_get(c, "main"), *held = json_object_get(c, "held_out");
        put(f, "<tr><td>");
        put_text(f, report_text(c, "name"));
        put(f, "</td><td>%.1f</td><td>%.1f %%</td><td>%.2f %%</td>", number(c, "mean_capacity"),
            100 * number(main, "padding"), 100 * number(main, "overflow"));
        if (held)
            put(f, "<td>%.1f %%</td><td>%.2f %%</td></tr>\n", 100 * number(held, "padding"),
                100 * number(held, "overflow"));
        else
            put(f, "<td>-</td><td>-</td></tr>\n");
    }
    put(f, "</table></div>\n");
}

static void put_layers(out_file *f, const json_t *stats)
{
    const json_t *layers = json_object_get(stats, "layers"), *l;
    size_t i;
    put(f, "<h2>Layers</h2>\n<p class=\"quiet\">Loads relative to the mean load of a chunk; "
           "coverage by the "
           "most popular tenth, quarter and half of the experts.</p>\n<div class=\"wide\"><table>"
           "<tr><th>layer</th><th>Gini</th><th>busiest</th><th>idle</th><th>idle in a "
           "chunk</th><th>P50</th>"
           "<th>P95</th><th>P99</th><th>top 10 %%</th><th>top 25 %%</th><th>top 50 %%</th>"
           "<th>held-out distance</th></tr>\n");
    json_array_foreach(layers, i, l) put(
        f,
        "<tr><td>%" PRIu64 "</td><td>%.3f</td><td>%.2f x</td><td>%" PRIu64 "</td><td>%.1f %%</td>"
        "<td>%.2f</td><td>%.2f</td><td>%.2f</td><td>%.1f %%</td><td>%.1f %%</td><td>%.1f %%</td>"
        "<td>%.3f</td></tr>\n",
        report_u64(l, "layer"), number(l, "gini"), number(l, "busiest"), report_u64(l, "idle"),
        100 * number(l, "idle_in_a_chunk"), number(l, "p50"), number(l, "p95"), number(l, "p99"),
        100 * number(l, "top_10"), 100 * number(l, "top_25"), 100 * number(l, "top_50"),
        number(l, "held_out_distance"));
    put(f, "</table></div>\n");
}

static void put_texts(out_file *f, const json_t *stats)
{
    const json_t *texts = json_object_get(stats, "texts"), *t;
    size_t i;
    put(f,
        "<h2>Texts</h2>\n<p class=\"quiet\">Distance: how far the popularity in this text is from "
        "that in "
        "all of them (total variation; 0 = the same experts, 1 = others).</p>\n<div class=\"wide\">"
        "<table><tr><th>text</th><th>tokens</th><th>held out</th><th>distance</th></tr>\n");
    json_array_foreach(texts, i, t)
    {
        put(f, "<tr><td>");
        put_text(f, report_text(t, "name"));
        put(f, "</td><td>%" PRIu64 "</td><td>%" PRIu64 "</td>", report_u64(t, "tokens"),
            report_u64(t, "held_out"));
        if (json_object_get(t, "distance"))
            put(f, "<td>%.3f</td></tr>\n", number(t, "distance"));
        else
            put(f, "<td>-</td></tr>\n");
    }
    put(f, "</table></div>\n");
}

bool calibrate_write_html(const json_t *stats, const char *path)
{
    out_file f;
    if (!out_open(&f, path))
        return false;
    put_head(&f, stats);
    put_verdict(&f, stats);
    put_map(&f, stats);
    put(&f, "<div class=\"two\">\n");
    put_loads(&f, stats);
    put_coverage(&f, stats);
    put(&f, "</div>\n");
    put_capacities(&f, stats);
    put_layers(&f, stats);
    put_texts(&f, stats);
    put(&f, "</html>\n");
    return out_close(&f, true);
}
