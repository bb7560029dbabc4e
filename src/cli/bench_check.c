/* bench_check.c: what can be known to be wrong with the options before the first test, which may take minutes. */
#include "bench.h"

#include "out.h"
#include "report.h"
#include "ui.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static size_t count_lengths(const bench_args *a)
{
    size_t n = a->n_pg.n / 2;
    for (size_t i = 0; i < a->n_prompt.n; i++)
        n += a->n_prompt.v[i] > 0;
    for (size_t i = 0; i < a->n_gen.n; i++)
        n += a->n_gen.v[i] > 0;
    return n;
}

static size_t count_tests(const bench_args *a)
{
    const cli_numbers *const factors[] = {&a->n_depth, &a->threads, &a->batch,     &a->ubatch,
                                          &a->type_k,  &a->type_v,  &a->precisions};
    size_t n = count_lengths(a), plans = 0;
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++)
        n *= factors[i]->n;
    for (size_t i = 0; i < a->npu.plans.n; i++)
        plans += strcmp(a->npu.plans.v[i], "none") != 0;
    return n * a->isas.n * plans;
}

/* A plan is for one model, and a file about what it did for one test. */
bool bench_plans_fit(const bench_args *a)
{
    const char *file = a->npu.stats_out ? "--stats-out" : "--trace-out";
    if (a->npu.plans.n == 0)
        return true;
    if (a->models.n > 1)
        ui_error("--plan: a plan is for one model, found %zu with -m", a->models.n);
    else if ((a->npu.stats_out || a->npu.trace_out) && count_tests(a) != 1)
        ui_error("%s: the file is of one test by one plan, found %zu; such as -p 512 -n 0", file,
                 count_tests(a));
    else
        return true;
    return false;
}

static bool is_usable(const json_t *usable, const char *isa)
{
    size_t i;
    json_t *tier;
    bool found = strcmp(isa, "auto") == 0;
    json_array_foreach(usable, i, tier)
    {
        found |= strcmp(isa, json_string_value(tier)) == 0;
    }
    return found;
}

static bool isas_are_here(const cli_strings *isas)
{
    char *json = NULL;
    bool ok = true;
    if (npumoe_describe_machine(&json, NULL) != NPUMOE_OK)
        return ok;
    json_t *o = json_loads(json, 0, NULL);
    for (size_t i = 0; i < isas->n && ok; i++) {
        ok = is_usable(report_at(o, "kernels.usable"), isas->v[i]);
        if (!ok)
            ui_error("--isa: this machine has no '%s' (npumoe doctor)", isas->v[i]);
    }
    json_decref(o);
    npumoe_text_free(&json);
    return ok;
}

/* Whatever can be known to fail in a later test, before the first one, which may take minutes. What is
 * asked for once, that test refuses as soon. */
bool bench_can_begin(const bench_args *a)
{
    if (count_lengths(a) == 0) {
        ui_error("bench: nothing to measure: -p and -n are 0, and there is no -pg");
        return false;
    }
    for (size_t i = 0; i < a->models.n && a->models.n > 1; i++)
        if (access(a->models.v[i], R_OK) != 0) {
            ui_error("cannot open '%s': %s", a->models.v[i], strerror(errno));
            return false;
        }
    return a->isas.n == 1 || isas_are_here(&a->isas);
}

static bool spares_models(const bench_args *a)
{
    bool ok = true;
    for (size_t i = 0; (i < a->models.n || i == 0) && ok; i++) {
        const model_args one_model = {.path = a->models.n ? a->models.v[i] : NULL,
                                      .routes = a->model.routes};
        ok = spares_model(&one_model, "--log-file", a->common.log_file) &&
             npu_spares_inputs(&a->npu, &one_model, a->common.log_file, NULL);
    }
    return ok;
}

/* What is written must be no file that is read. */
bool bench_spares_inputs(const bench_args *a, const char *results)
{
    if (!spares_models(a))
        return false;
    const char *const ins[][2] = {
        {"--cost", a->cost}, {"--compare", a->compare}, {"the results", results}};
    const char *const outs[][2] = {{"--log-file", a->common.log_file},
                                   {"--stats-out", a->npu.stats_out},
                                   {"--trace-out", a->npu.trace_out}};
    for (size_t i = 0; i < 9; i++)
        if (!out_apart(outs[i / 3][0], outs[i / 3][1], ins[i % 3][0], ins[i % 3][1]))
            return false;
    return true;
}

/* Two files that are laid side by side are not measured again, whatever is asked for beside them. */
bool bench_measures_nothing(const bench_args *a)
{
    const struct {
        const char *option;
        size_t given;
    } tests[] = {
        {"-m", a->models.n},          {"-p", a->n_prompt.n},       {"-n", a->n_gen.n},
        {"-pg", a->n_pg.n},           {"-d", a->n_depth.n},        {"-t", a->threads.n},
        {"-b", a->batch.n},           {"-ub", a->ubatch.n},        {"-ctk", a->type_k.n},
        {"-ctv", a->type_v.n},        {"--isa", a->isas.n},        {"--precision", a->precisions.n},
        {"--plan", a->npu.plans.n},   {"--cost", a->cost != NULL}, {"--delay", a->delay != 0},
        {"--no-warmup", a->no_warmup}};
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        if (tests[i].given) {
            ui_error("bench --compare OLD NEW measures nothing: %s has no meaning beside it",
                     tests[i].option);
            return false;
        }
    return true;
}
