/* explain_after.c: npumoe explain PLAN --after STATS: what was predicted, what was measured, and the difference:
 * for a chunk, for each chunk, for each layer. All figures are the library's (npumoe_plan_compare). */
#include "explain.h"

#include "out.h"
#include "report.h"
#include "safe.h"
#include "ui.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SPANS_SHOWN = 16 };

static double at(const json_t *r, const char *path)
{
    return json_number_value(report_at(r, path));
}

/* "+4.2 %", or nothing where nothing was predicted. */
static const char *percent(const json_t *pair, char buf[16])
{
    const json_t *d = json_object_get(pair, "difference");
    buf[0] = '\0';
    if (json_is_number(d))
        snprintf(buf, 16, "%+.1f %%", 100.0 * fmin(json_number_value(d), 9999.0));
    return buf;
}

static void print_pair(const json_t *r, const char *key, const char *name, double scale,
                       const char *unit)
{
    char off[16];
    const json_t *pair = json_object_get(report_at(r, "per_chunk"), key);
    printf("  %-22s %10.2f %10.2f %-3s %10s\n", name, scale * at(pair, "predicted"),
           scale * at(pair, "measured"), unit, percent(pair, off));
}

static void print_head(const json_t *r)
{
    const double added = at(r, "device.added_launch_us");
    printf("ran          %.0f tokens by plan in %.1f chunks of %.0f, %.0f in flight%s\n",
           at(r, "tokens"), at(r, "chunks"), at(r, "chunk"), at(r, "in_flight"),
           at(r, "in_flight") == at(r, "planned_in_flight") ? "" : " (planned: otherwise)");
    printf("policy       %s, overflow %s\n", report_text(r, "policy"), report_text(r, "overflow"));
    printf("device       ");
    safe_put(stdout, report_text(r, "device.name"), strlen(report_text(r, "device.name")));
    printf("%s, %.0f thread%s, products %s; programs loaded in %.2f s\n",
           json_is_true(report_at(r, "device.simulated")) ? " (SIMULATED)" : "",
           at(r, "device.threads"), at(r, "device.threads") == 1.0 ? "" : "s",
           report_text(r, "device.arithmetic"), at(r, "load_us") * 1e-6);
    if (added > 0.0)
        printf("             %.0f us ADDED to each launch to resemble another device\n", added);
    printf("events       %.0f failures, %.0f groups or parts on the CPU instead, %.0f groups not "
           "worth a launch\n",
           at(r, "failures"), at(r, "fallbacks"), at(r, "skipped"));
    printf("             %.0f pairs passed again, %.0f moved; %.0f launches of dense parts\n",
           at(r, "repassed"), at(r, "rerouted"), at(r, "part_launches"));
    if (at(r, "stopped") > 0.0)
        printf(
            "             STOPPED %.0f time%s in a prompt: chunks that were not through are in the "
            "figures, not in the tokens\n",
            at(r, "stopped"), at(r, "stopped") == 1.0 ? "" : "s");
}

static void print_chunk(const json_t *r)
{
    printf("\nfor one chunk, on average at the positions of this run\n"
           "                         predicted   measured     difference\n");
    print_pair(r, "us", "time", 1e-3, "ms");
    print_pair(r, "host_us", "host at work", 1e-3, "ms");
    print_pair(r, "wait_us", "host waits", 1e-3, "ms");
    print_pair(r, "device_us", "device busy", 1e-3, "ms");
    print_pair(r, "launches", "launches", 1.0, "");
    print_pair(r, "device_rows", "pairs on the device", 1.0, "");
    print_pair(r, "padding", "padding rows", 1.0, "");
    print_pair(r, "overflow", "overflow pairs", 1.0, "");
    print_pair(r, "dropped", "dropped pairs", 1.0, "");
    printf("  %-22s %10s %10.2f ms\n", "CPU time of the host", "", at(r, "host_cpu_us") * 1e-3);
}

static void print_spans(const json_t *r)
{
    size_t i;
    json_t *s;
    char off[16];
    const json_t *list = json_object_get(r, "spans"), *acc = json_object_get(r, "accuracy");
    if (json_is_object(acc))
        printf("\nhow near     predicted time is off by %.1f %% (median), %.1f %% (P90), %.1f %% "
               "(worst) of %.0f\n",
               100.0 * at(acc, "median"), 100.0 * at(acc, "p90"), 100.0 * at(acc, "worst"),
               at(acc, "spans"));
    else
        printf("\nhow near     nothing to judge by: no prompt had whole chunks, with as many in "
               "flight as planned\n");
    printf("  position   tokens  chunks   predicted   measured     difference\n");
    json_array_foreach((json_t *)(uintptr_t)list, i, s)
    {
        const json_t *us = json_object_get(s, "us");
        if (i == SPANS_SHOWN) {
            printf("  ... and %zu more (--json)\n", json_array_size(list) - SPANS_SHOWN);
            break;
        }
        printf("  %8.0f %8.0f %7.0f  ", at(s, "position"), at(s, "tokens"), at(s, "chunks"));
        if (json_is_number(json_object_get(us, "predicted")))
            printf("%10.2f ", at(us, "predicted") * 1e-3);
        else
            printf("%10s ", "-");
        printf("%10.2f ms  %10s\n", at(us, "measured") * 1e-3, percent(us, off));
    }
}

static double measured(const json_t *layer, const char *key)
{
    return at(json_object_get(layer, key), "measured");
}

static void print_layers(const json_t *r)
{
    size_t i;
    json_t *l;
    char a[16], b[16], c[16];
    printf("\n              host at work ms           device busy ms           launches            "
           "rows: not       over-\n"
           "layer     predicted measured         predicted measured     predicted measured     "
           "worth it padding flow  dropped\n");
    json_array_foreach(json_object_get(r, "layers"), i, l)
    {
        const json_t *h = json_object_get(l, "host_us"), *d = json_object_get(l, "device_us"),
                     *n = json_object_get(l, "launches");
        printf("%5d     %8.2f %8.2f %8s  %8.2f %8.2f %8s  %7.1f %7.1f %8s  %6.0f  %6.0f %6.0f "
               "%6.0f\n",
               (int)at(l, "layer"), at(h, "predicted") * 1e-3, at(h, "measured") * 1e-3,
               percent(h, a), at(d, "predicted") * 1e-3, at(d, "measured") * 1e-3, percent(d, b),
               at(n, "predicted"), at(n, "measured"), percent(n, c), at(l, "skipped"),
               measured(l, "padding"), measured(l, "overflow"), measured(l, "dropped"));
    }
    if (at(r, "whole_layers") < (double)json_array_size(json_object_get(r, "layers")))
        printf("predicted of the last layer are all rows; a prompt wants one, and only that is "
               "computed\n");
}

int explain_after(const char *plan_path, const char *plan, size_t plan_bytes,
                  const char *stats_path, bool json)
{
    npumoe_error err = {0};
    char *stats = NULL, *text = NULL;
    size_t bytes = 0;
    if (!in_read_all(stats_path, &stats, &bytes))
        return 1;
    npumoe_status st = npumoe_plan_compare(plan, plan_bytes, stats, bytes, &text, &err);
    free(stats);
    if (st != NPUMOE_OK) {
        ui_error("%s after %s: %s", plan_path, stats_path, err.message);
        return 1;
    }
    if (json) {
        out_text(text, strlen(text));
    } else {
        json_t *r = json_loads(text, 0, NULL);
        print_head(r);
        print_chunk(r);
        print_spans(r);
        print_layers(r);
        json_decref(r);
    }
    npumoe_text_free(&text);
    return 0;
}
