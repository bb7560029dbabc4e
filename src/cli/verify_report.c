/* verify_report.c: what came of a verification, for people and as JSON (docs/cli.md lists the keys), and
 * whether it passes. The text is made from the JSON, so that they cannot disagree. */
#include "verify.h"

#include "out.h"
#include "report.h"
#include "safe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- JSON ----------------------------------------------------------------------------------- */

static json_t *sums_json(verify_sums *s)
{
    const double n = (double)s->kld.n;
    return json_pack("{s:I, s:{s:f, s:f, s:I}, s:{s:f, s:f, s:f, s:I}, s:{s:f, s:I, s:f}, "
                     "s:{s:f, s:f}}",
                     "positions", (json_int_t)s->kld.n, "logit_difference", "max", s->max_diff,
                     "mean", s->sum_diff / (n * (double)s->n_vocab), "max_at",
                     (json_int_t)s->max_diff_at, "kl", "mean", s->kld.kl / n, "p99",
                     kld_rank(&s->kld, 0.99), "max", s->kl_max, "max_at", (json_int_t)s->kl_max_at,
                     "top1", "same_share", (double)s->kld.same_top / n, "different",
                     (json_int_t)(s->kld.n - s->kld.same_top), "largest_gap", s->flip_gap,
                     "perplexity", "base", exp(s->kld.base / n), "other", exp(s->kld.nll / n));
}

static json_t *greedy_json(const verify_greedy *g)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < g->n_prompts; i++) {
        const verify_prompt *p = &g->prompts[i];
        if (p->differs)
            json_array_append_new(list, json_pack("{s:i, s:I, s:i, s:i, s:i, s:f, s:f, s:b}",
                                                  "prompt", (int)i, "start", (json_int_t)p->start,
                                                  "same_tokens", (int)p->n_same, "base_token",
                                                  (int)p->base, "other_token", (int)p->other, "gap",
                                                  p->gap, "max_difference_here", p->diff_here,
                                                  "near_tie", (int)p->near_tie));
    }
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:o}", "prompts", (int)g->n_prompts,
                     "prompt_tokens", (int)g->n_prompt_tokens, "tokens", (int)g->n_predict, "equal",
                     (int)g->n_equal, "part_at_near_ties", (int)g->n_near, "part_elsewhere",
                     (int)g->n_other, "noise", g->noise, "noise_share", VERIFY_NOISE, "differences",
                     list);
}

static json_t *plan_json(const json_t *report)
{
    static const char *const counts[] = {"pairs",   "device_rows", "overflow",
                                         "dropped", "rerouted",    "failures"};
    const json_t *m = json_object_get(report, "measured");
    json_t *o = json_pack(
        "{s:s, s:s, s:s, s:s, s:O, s:O, s:O, s:O}", "device", report_text(report, "device.name"),
        "arithmetic", report_text(report, "device.arithmetic"), "policy",
        report_text(report, "policy"), "overflow_policy", report_text(report, "overflow"), "chunk",
        json_object_get(report, "chunk"), "in_flight", json_object_get(report, "in_flight"),
        "tokens", json_object_get(report, "tokens"), "fallbacks",
        json_object_get(report, "fallbacks"));
    for (size_t i = 0; o && i < sizeof counts / sizeof counts[0]; i++)
        json_object_set(o, counts[i], json_object_get(m, counts[i]));
    return o;
}

static json_t *result_json(const verify_result *r)
{
    json_t *o = json_pack(
        "{s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:{s:s, s:f}, s:{s:s, s:f}, s:o}", "schema",
        "npumoe-verify", "schema_version", 1, "model", r->model, "text", r->text, "text_tokens",
        (json_int_t)r->n_tokens, "window", (json_int_t)r->window, "windows",
        (json_int_t)r->n_windows, "windows_in_text", (json_int_t)r->n_windows_all, "base", "what",
        r->base->what, "seconds", r->base->seconds, "other", "what", r->other->what, "seconds",
        r->other->seconds, "compared", sums_json(r->sums));
    if (o && r->plan)
        json_object_set_new(o, "plan", plan_json(r->plan));
    if (o && r->greedy)
        json_object_set_new(o, "greedy", greedy_json(r->greedy));
    return o;
}

/* ---- gates ---------------------------------------------------------------------------------- */

/* What does not pass, each with its numbers; the array is of texts. */
static json_t *failures(const verify_result *r, const json_t *o)
{
    json_t *list = json_array();
    const double kl = json_number_value(report_at(o, "compared.kl.mean"));
    const double top1 = 100.0 * json_number_value(report_at(o, "compared.top1.same_share"));
    const char *policy = report_text(o, "plan.overflow_policy");
    const uint64_t lost = report_u64(o, "plan.dropped") + report_u64(o, "plan.rerouted");
    if (r->max_kl >= 0.0 && !(kl <= r->max_kl))
        json_array_append_new(
            list, json_sprintf("mean KL divergence %.3g over %llu positions is above --max-kl %.3g "
                               "(largest %.3g after token %llu)",
                               kl, (unsigned long long)r->sums->kld.n, r->max_kl, r->sums->kl_max,
                               (unsigned long long)r->sums->kl_max_at));
    if (r->min_agreement >= 0.0 && !(top1 >= r->min_agreement))
        json_array_append_new(
            list,
            json_sprintf("the likeliest token is the same at %.3f %% of %llu positions, below "
                         "--min-agreement %.3g",
                         top1, (unsigned long long)r->sums->kld.n, r->min_agreement));
    if (r->greedy && r->greedy->n_other > 0 && r->max_kl >= 0.0)
        json_array_append_new(
            list,
            json_sprintf(
                "%u of %u answers part where the base's best two logits are further "
                "apart than the noise of %.3g (what logits differ by at most at %.0f %% of all "
                "other positions)",
                r->greedy->n_other, r->greedy->n_prompts, r->greedy->noise, 100.0 * VERIFY_NOISE));
    if (lost > 0 && (strcmp(policy, "spill") == 0 || strcmp(policy, "repass") == 0))
        json_array_append_new(
            list, json_sprintf("%llu pairs were dropped or moved under policy %s, which "
                               "is exact: this is an error of npumoe",
                               (unsigned long long)lost, policy));
    return list;
}

/* ---- text ----------------------------------------------------------------------------------- */

static double at(const json_t *o, const char *path)
{
    return json_number_value(report_at(o, path));
}

static void put_line(const char *name, const char *text)
{
    printf("%-12s ", name);
    safe_put(stdout, text, strlen(text));
    putchar('\n');
}

static void print_head(const json_t *o)
{
    char text[200];
    put_line("base", report_text(o, "base.what"));
    if (report_at(o, "plan")) {
        snprintf(text, sizeof text, "%s; %s by plan: policy %s, overflow %s, products %s",
                 report_text(o, "other.what"), report_text(o, "plan.device"),
                 report_text(o, "plan.policy"), report_text(o, "plan.overflow_policy"),
                 report_text(o, "plan.arithmetic"));
        put_line("checked", text);
    } else {
        put_line("checked", report_text(o, "other.what"));
    }
    printf("%-12s %.0f, in %.0f of the text's %.0f windows of %.0f tokens\n", "positions",
           at(o, "compared.positions"), at(o, "windows"), at(o, "windows_in_text"),
           at(o, "window"));
}

static void print_compared(const json_t *o)
{
    printf("%-12s largest difference %.3g (after token %.0f), mean %.3g\n", "logits",
           at(o, "compared.logit_difference.max"), at(o, "compared.logit_difference.max_at"),
           at(o, "compared.logit_difference.mean"));
    printf("%-12s mean %.3g, P99 %.3g, largest %.3g (after token %.0f)\n", "KL",
           at(o, "compared.kl.mean"), at(o, "compared.kl.p99"), at(o, "compared.kl.max"),
           at(o, "compared.kl.max_at"));
    printf("%-12s the same at %.3f %%", "likeliest", 100.0 * at(o, "compared.top1.same_share"));
    if (at(o, "compared.top1.different") > 0.0)
        printf("; another at %.0f positions, where the best two were at most %.3g apart",
               at(o, "compared.top1.different"), at(o, "compared.top1.largest_gap"));
    printf("\n%-12s %.5f; base %.5f\n", "perplexity", at(o, "compared.perplexity.other"),
           at(o, "compared.perplexity.base"));
}

static void print_plan(const json_t *p)
{
    const double pairs = at(p, "pairs");
    printf("%-12s %.0f tokens; %.1f %% of %.0f pairs on the device, %.1f %% overflow\n", "by plan",
           at(p, "tokens"), pairs > 0.0 ? 100.0 * at(p, "device_rows") / pairs : 0.0, pairs,
           pairs > 0.0 ? 100.0 * at(p, "overflow") / pairs : 0.0);
    printf("%-12s %.0f pairs dropped (%.3f %%), %.0f moved (%.3f %%); %.0f failures, %.0f programs "
           "on the CPU instead\n",
           "", at(p, "dropped"), pairs > 0.0 ? 100.0 * at(p, "dropped") / pairs : 0.0,
           at(p, "rerouted"), pairs > 0.0 ? 100.0 * at(p, "rerouted") / pairs : 0.0,
           at(p, "failures"), at(p, "fallbacks"));
}

static void print_greedy(const json_t *g)
{
    size_t i;
    json_t *d;
    printf("%-12s %.0f of %.0f answers of %.0f tokens are equal; %.0f part at a near tie, %.0f "
           "elsewhere\n",
           "greedy", at(g, "equal"), at(g, "prompts"), at(g, "tokens"), at(g, "part_at_near_ties"),
           at(g, "part_elsewhere"));
    json_array_foreach(json_object_get(g, "differences"), i, d) printf(
        "  prompt %3.0f  after %3.0f tokens: best two %.3g apart, noise %.3g (here %.3g)%s\n",
        at(d, "prompt"), at(d, "same_tokens"), at(d, "gap"), at(g, "noise"),
        at(d, "max_difference_here"),
        json_is_true(json_object_get(d, "near_tie")) ? "" : "  NOT a near tie");
}

static void print_text(const json_t *o)
{
    print_head(o);
    print_compared(o);
    if (report_at(o, "plan"))
        print_plan(report_at(o, "plan"));
    if (report_at(o, "greedy"))
        print_greedy(report_at(o, "greedy"));
    printf("%-12s %.2f s; base %.2f s\n", "time", at(o, "other.seconds"), at(o, "base.seconds"));
}

bool verify_print(const verify_result *r, bool json)
{
    json_t *o = result_json(r), *bad = failures(r, o), *text;
    const bool good = json_array_size(bad) == 0;
    size_t i;
    if (!o) {
        json_decref(bad);
        ui_error("out of memory, or a name that is no UTF-8");
        return false;
    }
    json_object_set_new(o, "passed", json_boolean(good));
    json_object_set(o, "failures", bad);
    if (json) {
        char *dump = json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
        if (dump) {
            out_text(dump, strlen(dump));
            out_text("\n", 1);
        }
        free(dump);
    } else {
        print_text(o);
    }
    json_array_foreach(bad, i, text) ui_error("verify: %s", json_string_value(text));
    json_decref(bad);
    json_decref(o);
    return good;
}
