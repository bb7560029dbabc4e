/* plan_compare.c: npumoe_plan_compare(): a plan beside what was measured when it ran: what `npumoe explain
 * --after` shows.
 *
 * Figures are per chunk of the plan's length, so that a run of any length stands beside the prediction: sums
 * are divided by tokens / chunk. In the last layer a run may compute fewer rows than a chunk has (only those
 * whose prediction is wanted); that is not corrected, but whole_layers says of how many layers the plan itself
 * expects all rows. Nor is what a run did that was stopped in mid-chunk: stopped says so. A plan predicts a chunk after n_past tokens; times of
 * the whole and of layers are corrected for the attention of the positions where the run's chunks were, by
 * what the spans' predictions have in addition.
 *
 * How near the planner is, is judged by spans (timings.h): their prediction is for their own positions. */
#include "engine/describe.h"
#include "moe/fields.h"
#include "moe/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SPANS = 1 << 20 };

/* What is compared. Names are keys of the JSON. */
typedef struct figures {
    double us, host_us, wait_us, device_us, launches, device_rows, padding, overflow, dropped;
} figures;

/* more_us: of attention at the run's positions; device: which share of it is the device's. */
static figures predicted(const nm_prediction *p, double more_us, double device)
{
    return (figures){.us = p->us + more_us,
                     .host_us = p->host_us + (1.0 - device) * more_us,
                     .wait_us = p->wait_us,
                     .device_us = p->device_us + device * more_us,
                     .launches = p->launches,
                     .device_rows = p->rows,
                     .padding = p->padding,
                     .overflow = p->overflow,
                     .dropped = p->dropped};
}

static double not_waiting(const figures *f)
{
    return f->us > f->wait_us ? f->us - f->wait_us : 0.0;
}

/* `measured` of the report or of one of its layers, divided by chunks. */
static npumoe_status measured(const nm_fields *in, double chunks, figures *out)
{
    nm_fields f;
    figures m;
    double computed, parts;
    const struct {
        const char *key;
        double *to;
    } wanted[] = {{"us", &m.us},
                  {"wait_us", &m.wait_us},
                  {"device_us", &m.device_us},
                  {"launches", &m.launches},
                  {"part_launches", &parts},
                  {"device_rows", &m.device_rows},
                  {"computed_rows", &computed},
                  {"overflow", &m.overflow},
                  {"dropped", &m.dropped}};
    NM_TRY(nm_fields_object(in, "measured", &f));
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        NM_TRY(nm_fields_real(&f, wanted[i].key, 0.0, 1e18, wanted[i].to));
        *wanted[i].to /= chunks;
    }
    m.host_us = not_waiting(&m);
    m.launches += parts; /* a prediction counts both */
    m.padding = computed > m.device_rows ? computed - m.device_rows : 0.0;
    *out = m;
    return NPUMOE_OK;
}

static json_t *pair_json(double predicted_value, double measured_value)
{
    json_t *o = json_object();
    nm_describe_put(o, "predicted", nm_fields_number(predicted_value));
    nm_describe_put(o, "measured", nm_fields_number(measured_value));
    nm_describe_put(o, "difference",
                    predicted_value > 0.0 ? nm_fields_number(measured_value / predicted_value - 1.0)
                                          : json_null());
    return o;
}

static json_t *figures_json(const figures *p, const figures *m)
{
    json_t *o = json_object();
    nm_describe_put(o, "us", pair_json(p->us, m->us));
    nm_describe_put(o, "host_us", pair_json(p->host_us, m->host_us));
    nm_describe_put(o, "wait_us", pair_json(p->wait_us, m->wait_us));
    nm_describe_put(o, "device_us", pair_json(p->device_us, m->device_us));
    nm_describe_put(o, "launches", pair_json(p->launches, m->launches));
    nm_describe_put(o, "device_rows", pair_json(p->device_rows, m->device_rows));
    nm_describe_put(o, "padding", pair_json(p->padding, m->padding));
    nm_describe_put(o, "overflow", pair_json(p->overflow, m->overflow));
    nm_describe_put(o, "dropped", pair_json(p->dropped, m->dropped));
    return o;
}

/* ---- spans ---------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* How far off predictions were: shares of them, without sign. */
static json_t *accuracy_json(double *off, size_t n)
{
    if (n == 0)
        return json_null();
    qsort(off, n, sizeof *off, by_value);
    json_t *o = json_object();
    nm_describe_put(o, "spans", json_integer((json_int_t)n));
    nm_describe_put(o, "median", nm_fields_number(off[n / 2]));
    nm_describe_put(o, "p90", nm_fields_number(off[(n - 1) * 9 / 10]));
    nm_describe_put(o, "worst", nm_fields_number(off[n - 1]));
    return o;
}

/* Sums over the spans of which the plan says something. */
typedef struct span_sums {
    double tokens, predicted_us;
} span_sums;

/* One span; *off < 0 where the plan says nothing of it. */
static npumoe_status span_json(const nm_fields *list, size_t i, json_t **out, double *off,
                               span_sums *sums)
{
    nm_fields f;
    double position, tokens, chunks, us, expected = 0.0;
    NM_TRY(nm_fields_at(list, i, &f));
    NM_TRY(nm_fields_real(&f, "position", 0.0, 1e12, &position));
    NM_TRY(nm_fields_real(&f, "tokens", 1.0, 1e12, &tokens));
    NM_TRY(nm_fields_real(&f, "chunks", 1.0, 1e12, &chunks));
    NM_TRY(nm_fields_real(&f, "us", 0.0, 1e18, &us));
    *off = -1.0;
    if (!json_is_null(json_object_get(f.json, "predicted_us"))) {
        NM_TRY(nm_fields_real(&f, "predicted_us", 0.0, 1e18, &expected));
        *off = expected > 0.0 ? fabs(us / expected - 1.0) : -1.0;
        sums->tokens += tokens;
        sums->predicted_us += expected;
    }
    *out = json_pack("{s:I, s:I, s:I}", "position", (json_int_t)position, "tokens",
                     (json_int_t)tokens, "chunks", (json_int_t)chunks);
    if (*off < 0.0)
        nm_describe_put(*out, "us",
                        json_pack("{s:n, s:f, s:n}", "predicted", "measured", us, "difference"));
    else
        nm_describe_put(*out, "us", pair_json(expected, us));
    return NPUMOE_OK;
}

static npumoe_status put_spans(const nm_fields *report, json_t *out, span_sums *sums)
{
    nm_fields list;
    size_t n = 0, known = 0;
    NM_TRY(nm_fields_array(report, "spans", MAX_SPANS, &list, &n));
    double *off = nm_alloc_array(nm_allocator_default(), n + 1, sizeof *off);
    json_t *spans = json_array();
    npumoe_status st = off ? NPUMOE_OK : nm_err_nomem(report->err, n * sizeof *off, "a report");
    for (size_t i = 0; st == NPUMOE_OK && i < n; i++) {
        json_t *span = NULL;
        st = span_json(&list, i, &span, &off[known], sums);
        known += st == NPUMOE_OK && off[known] >= 0.0;
        if (span)
            json_array_append_new(spans, span);
    }
    nm_describe_put(out, "spans", spans);
    if (st == NPUMOE_OK)
        nm_describe_put(out, "accuracy", accuracy_json(off, known));
    nm_free(nm_allocator_default(), off);
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* Whether the report says that its counters are this plan's; known: older ones do not say whose they are. */
static npumoe_status has_identity(const nm_plan *plan, const nm_fields *report, bool *known,
                                  bool *same)
{
    char found[20], want[17];
    *known = json_object_get(report->json, "plan_hash") != NULL;
    *same = false;
    if (!*known)
        return NPUMOE_OK;
    NM_TRY(nm_fields_text(report, "plan_hash", found, sizeof found));
    NM_TRY(nm_plan_identity(plan, want, report->err));
    *same = strcmp(found, want) == 0;
    return NPUMOE_OK;
}

/* The counters of a run that changed its plan are those of its last one: this one is another. */
static npumoe_status check_was_kept(const nm_fields *report, bool known)
{
    nm_fields f;
    uint64_t changes = 0;
    if (!json_is_object(json_object_get(report->json, "replanning")))
        return NPUMOE_OK;
    NM_TRY(nm_fields_object(report, "replanning", &f));
    NM_TRY(nm_fields_u64(&f, "changes", &changes));
    if (changes == 0)
        return NPUMOE_OK;
    return nm_err_set(report->err, NPUMOE_EMODEL,
                      "the plan was replaced in that run (%llu times), and what was counted is "
                      "another plan's: %s, or run with --no-replan to compare",
                      (unsigned long long)changes,
                      known ? "give the one that run --plan-out writes"
                            : "this report does not say which; run again with --plan-out and give "
                              "what that writes");
}

static npumoe_status check_is_of(const nm_plan *plan, const nm_fields *report)
{
    char hash[20], want[20], policy[32], overflow[32];
    uint32_t chunk, programs;
    bool known, same;
    NM_TRY(nm_fields_text(report, "router_hash", hash, sizeof hash));
    NM_TRY(nm_fields_text(report, "policy", policy, sizeof policy));
    NM_TRY(nm_fields_text(report, "overflow", overflow, sizeof overflow));
    NM_TRY(nm_fields_u32(report, "chunk", 1, NM_PLAN_MAX_CHUNK, &chunk));
    NM_TRY(nm_fields_u32(report, "programs", 0, UINT32_MAX, &programs));
    snprintf(want, sizeof want, "%016llx", (unsigned long long)plan->model.router_hash);
    if (strcmp(hash, want) != 0)
        return nm_err_set(report->err, NPUMOE_EMODEL,
                          "the run was with another model than the plan is for: routers %s, "
                          "expected %s",
                          hash, want);
    NM_TRY(has_identity(plan, report, &known, &same));
    if (!same)
        NM_TRY(check_was_kept(report, known));
    if (strcmp(policy, nm_plan_policy_name(plan->policy)) != 0 ||
        strcmp(overflow, nm_overflow_name(plan->overflow)) != 0 || chunk != plan->chunk ||
        programs != plan->programs)
        return nm_err_set(report->err, NPUMOE_EMODEL,
                          "the run was by another plan: policy %s, overflow %s, chunks of %u, %u "
                          "programs; this one: %s, %s, %u, %u",
                          policy, overflow, chunk, programs, nm_plan_policy_name(plan->policy),
                          nm_overflow_name(plan->overflow), plan->chunk, plan->programs);
    if (known && !same)
        return nm_err_set(report->err, NPUMOE_EMODEL,
                          "the run was by another plan than this one, with as many programs: give "
                          "the one that the run had, or that its --plan-out wrote");
    return NPUMOE_OK;
}

static npumoe_status put_layers(const nm_plan *plan, const nm_fields *report, double chunks,
                                double more_us, json_t *out)
{
    nm_fields list;
    size_t n;
    json_t *layers = json_array();
    nm_describe_put(out, "layers", layers);
    NM_TRY(nm_fields_array(report, "layers", plan->n_layers, &list, &n));
    if (n != plan->n_layers)
        return nm_fields_bad(report, "layers", "as many as the plan has");
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        nm_fields f;
        figures m;
        const figures p = predicted(&plan->layers[i].predicted, more_us / plan->n_layers,
                                    plan->layers[i].on_device[NM_PART_ATTENTION]);
        NM_TRY(nm_fields_at(&list, i, &f));
        NM_TRY(measured(&f, chunks, &m));
        json_t *layer = figures_json(&p, &m);
        const json_t *raw = json_object_get(f.json, "measured");
        nm_describe_put(layer, "layer", json_integer(plan->layers[i].layer));
        nm_describe_put(layer, "skipped", json_copy(json_object_get(raw, "skipped")));
        nm_describe_put(layer, "failures", json_copy(json_object_get(raw, "failures")));
        json_array_append_new(layers, layer);
    }
    return NPUMOE_OK;
}

/* Share of the layers. */
static double attention_on_device(const nm_plan *plan)
{
    double n = 0.0;
    for (uint32_t i = 0; i < plan->n_layers; i++)
        n += plan->layers[i].on_device[NM_PART_ATTENTION];
    return n > 0.0 ? n / plan->n_layers : 0.0;
}

/* Evaluations that did not come to their end; older reports do not have them. */
static npumoe_status stopped(const nm_fields *report, uint64_t *n)
{
    *n = 0;
    return json_object_get(report->json, "stopped") ? nm_fields_u64(report, "stopped", n)
                                                    : NPUMOE_OK;
}

/* Layers of chunks that went by the plan, of chunks that were not through, too. */
static npumoe_status began(const nm_fields *report, bool *out)
{
    nm_fields f;
    double chunks;
    NM_TRY(nm_fields_object(report, "measured", &f));
    NM_TRY(nm_fields_real(&f, "chunks", 0.0, 1e18, &chunks));
    *out = chunks > 0.0;
    return NPUMOE_OK;
}

static const char *why_nothing(const nm_plan *plan)
{
    if (plan->programs == 0)
        return "it leaves everything to the host";
    return plan->crossover == UINT32_MAX
               ? "it predicts that the host alone takes no longer (--npu-from runs it all the same)"
               : "no prompt was long enough";
}

static npumoe_status put_all(const nm_plan *plan, const nm_fields *report, json_t *out)
{
    static const char *const as_it_is[] = {"device", "tokens", "in_flight", "fallbacks", "load_us"};
    static const char *const counts[] = {"skipped", "failures", "repassed", "rerouted",
                                         "part_launches"};
    double tokens, wall, cpu;
    uint64_t n_stopped;
    bool has_begun;
    figures m;
    NM_TRY(check_is_of(plan, report));
    NM_TRY(nm_fields_real(report, "tokens", 0.0, 1e15, &tokens));
    NM_TRY(nm_fields_real(report, "wall_us", 0.0, 1e18, &wall));
    NM_TRY(nm_fields_real(report, "host_cpu_us", 0.0, 1e18, &cpu));
    NM_TRY(stopped(report, &n_stopped));
    NM_TRY(began(report, &has_begun));
    if (tokens == 0.0 && (n_stopped > 0 || has_begun))
        return nm_err_set(report->err, NPUMOE_EINVAL,
                          "that run was stopped before a chunk was through: there is none to "
                          "compare with");
    if (tokens == 0.0)
        return nm_err_set(report->err, NPUMOE_EINVAL, "nothing went by the plan in that run: %s",
                          why_nothing(plan));
    const double chunks = tokens / (double)plan->chunk;
    span_sums sums = {0};
    NM_TRY(put_spans(report, out, &sums));
    const double more = sums.tokens > 0.0
                            ? sums.predicted_us * plan->chunk / sums.tokens - plan->predicted.us
                            : 0.0;
    const figures p = predicted(&plan->predicted, more, attention_on_device(plan));
    NM_TRY(measured(report, chunks, &m));
    m.us = wall / chunks;
    m.host_us = not_waiting(&m);
    nm_describe_put(out, "schema", json_string("npumoe-explain-after"));
    nm_describe_put(out, "schema_version", json_integer(1));
    nm_describe_put(out, "policy", json_string(nm_plan_policy_name(plan->policy)));
    nm_describe_put(out, "overflow", json_string(nm_overflow_name(plan->overflow)));
    nm_describe_put(out, "chunk", json_integer(plan->chunk));
    nm_describe_put(out, "planned_in_flight", json_integer(plan->in_flight));
    nm_describe_put(out, "chunks", nm_fields_number(chunks));
    nm_describe_put(out, "stopped", json_integer((json_int_t)n_stopped));
    nm_describe_put(out, "whole_layers", json_integer(nm_plan_whole_layers(plan)));
    for (size_t i = 0; i < sizeof as_it_is / sizeof as_it_is[0]; i++)
        nm_describe_put(out, as_it_is[i],
                        json_deep_copy(json_object_get(report->json, as_it_is[i])));
    const json_t *raw = json_object_get(report->json, "measured");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        nm_describe_put(out, counts[i], json_copy(json_object_get(raw, counts[i])));
    nm_describe_put(out, "host_cpu_us", nm_fields_number(cpu / chunks));
    nm_describe_put(out, "per_chunk", figures_json(&p, &m));
    return put_layers(plan, report, chunks, more, out);
}

npumoe_status npumoe_plan_compare(const char *plan, size_t plan_bytes, const char *report,
                                  size_t report_bytes, char **json, npumoe_error *err)
{
    nm_plan *p = NULL;
    json_t *r = NULL, *out = json_object();
    if (!plan || !report || !json)
        return nm_err_set(err, NPUMOE_EINVAL,
                          "npumoe_plan_compare: plan, report and json must not be NULL");
    npumoe_status st = nm_plan_parse(nm_allocator_default(), plan, plan_bytes, &p, err);
    if (st == NPUMOE_OK)
        st = nm_fields_parse(report, report_bytes, "report", &r, err);
    if (st == NPUMOE_OK) {
        const nm_fields root = nm_fields_root(r, err);
        st = nm_fields_schema(&root, "npumoe-plan-report", 1);
        if (st == NPUMOE_OK)
            st = put_all(p, &root, out);
    }
    if (st == NPUMOE_OK)
        st = nm_fields_print(out, json, err);
    nm_plan_free(&p);
    json_decref(r);
    json_decref(out);
    return st;
}
