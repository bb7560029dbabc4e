/* calibrate_report.c: a profile's statistics as tables. docs/calibrate.md explains every column. */
#include "calibrate.h"
#include "report.h"
#include "safe.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NAME_COLUMNS = 44 };

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* Text of a file in at most that many columns, padded. */
static void put_name(const char *name, int columns)
{
    int used = 0;
    size_t n = 0;
    while (name[n] && used < columns) {
        n++;
        while (((unsigned char)name[n] & 0xc0) == 0x80)
            n++;
        used++;
    }
    safe_put(stdout, name, n);
    printf("%*s", columns - used, "");
}

static void print_head(const json_t *stats)
{
    const uint64_t main = report_u64(stats, "tokens.main"),
                   held = report_u64(stats, "tokens.held_out");
    const json_t *sizes = json_object_get(stats, "loads"), *size;
    size_t i;
    printf("model          ");
    safe_put(stdout, report_text(stats, "model.name"), strlen(report_text(stats, "model.name")));
    printf(" (");
    safe_put(stdout, report_text(stats, "model.architecture"),
             strlen(report_text(stats, "model.architecture")));
    printf("), routers %s\n", report_text(stats, "model.router_hash"));
    printf("experts        %zu layers of %" PRIu64 ", %" PRIu64 " per token\n",
           json_array_size(json_object_get(stats, "layers")), report_u64(stats, "model.n_expert"),
           report_u64(stats, "model.n_expert_used"));
    const size_t n_texts = json_array_size(json_object_get(stats, "texts"));
    printf("tokens         %" PRIu64 " in %zu text%s, %" PRIu64 " of them held out\n", main + held,
           n_texts, n_texts == 1 ? "" : "s", held);
    printf("chunks        ");
    json_array_foreach(sizes, i, size)
        printf("%s %" PRIu64 " of %" PRIu64, i ? "," : "", report_u64(size, "chunks"),
               report_u64(size, "chunk"));
    printf("\n");
}

static void print_texts(const json_t *stats)
{
    const json_t *texts = json_object_get(stats, "texts"), *t;
    size_t i;
    printf("\n%-*s %10s %10s %9s\n", NAME_COLUMNS, "text", "tokens", "held out", "distance");
    json_array_foreach(texts, i, t)
    {
        put_name(report_text(t, "name"), NAME_COLUMNS);
        printf(" %10" PRIu64 " %10" PRIu64, report_u64(t, "tokens"), report_u64(t, "held_out"));
        if (json_object_get(t, "distance"))
            printf(" %9.3f\n", number(t, "distance"));
        else
            printf(" %9s\n", "-");
    }
}

static void print_layer(const json_t *l, const char *name)
{
    printf("%5s  %5.3f %7.2f %5" PRIu64 " %8.1f  %6.2f %6.2f %6.2f  %6.1f %6.1f %6.1f  %8.3f\n",
           name, number(l, "gini"), number(l, "busiest"), report_u64(l, "idle"),
           100 * number(l, "idle_in_a_chunk"), number(l, "p50"), number(l, "p95"), number(l, "p99"),
           100 * number(l, "top_10"), 100 * number(l, "top_25"), 100 * number(l, "top_50"),
           number(l, "held_out_distance"));
}

static void print_layers(const json_t *stats)
{
    const json_t *layers = json_object_get(stats, "layers"), *l;
    size_t i;
    char name[24];
    printf("\nloads of chunks of %" PRIu64 " relative to the mean; coverage in %% of %s pairs\n",
           report_u64(stats, "chunk"),
           strcmp(report_text(stats, "judged_on"), "main") ? "held-out" : "all");
    printf("layer   gini busiest  idle  chunk %%     p50    p95    p99  top10%% top25%% top50%%  "
           "held-out\n");
    json_array_foreach(layers, i, l)
    {
        snprintf(name, sizeof name, "%" PRIu64, report_u64(l, "layer"));
        print_layer(l, name);
    }
    print_layer(json_object_get(stats, "total"), "all");
}

static void print_coverage(const json_t *stats)
{
    const json_t *c = json_object_get(stats, "coverage"), *x = json_object_get(c, "experts");
    const json_t *held = json_object_get(c, "held_out"), *main = json_object_get(c, "main");
    printf("\nexperts %%    ");
    for (size_t i = 2; i < json_array_size(x); i += 2)
        printf(" %5.0f", 100 * json_number_value(json_array_get(x, i)));
    printf("\ncarry %%      ");
    for (size_t i = 2; i < json_array_size(x); i += 2)
        printf(" %5.1f", 100 * json_number_value(json_array_get(main, i)));
    if (held)
        printf("\n... held out ");
    for (size_t i = 2; held && i < json_array_size(x); i += 2)
        printf(" %5.1f", 100 * json_number_value(json_array_get(held, i)));
    printf("\n");
}

static void print_capacities(const json_t *stats)
{
    const json_t *list = json_object_get(stats, "capacities"), *c;
    const bool judged = strcmp(report_text(stats, "judged_on"), "main") != 0;
    size_t i;
    printf("\n%-*s %9s  %8s %9s%s\n", NAME_COLUMNS, "capacity of an expert", "mean rows",
           "padding %", "overflow %", judged ? "  held out:  padding % overflow %" : "");
    json_array_foreach(list, i, c)
    {
        const json_t *main = json_object_get(c, "main"), *held = json_object_get(c, "held_out");
        put_name(report_text(c, "name"), NAME_COLUMNS);
        printf(" %9.1f  %9.1f %10.2f", number(c, "mean_capacity"), 100 * number(main, "padding"),
               100 * number(main, "overflow"));
        if (held)
            printf("  %20.1f %10.2f", 100 * number(held, "padding"),
                   100 * number(held, "overflow"));
        printf("\n");
    }
}

void calibrate_print(const json_t *stats, bool all)
{
    const json_t *verdict = json_object_get(stats, "verdict"), *sentence;
    size_t i;
    print_head(stats);
    if (all) {
        print_texts(stats);
        print_layers(stats);
        print_coverage(stats);
        print_capacities(stats);
    }
    printf("\n");
    json_array_foreach(verdict, i, sentence) printf("%s\n", json_string_value(sentence));
}
