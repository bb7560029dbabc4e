/* bench_plan.c: what a plan did in a test of bench, as keys of its result.
 *
 * The host's CPU time is that of the model's own threads while a prompt goes by the plan; what does not (a
 * short tail, generated tokens, a prompt below the crossover) is not in these counters, and then the
 * process's CPU time less the device's busy time stands in, which is never too small. */
#include "bench.h"
#include "report.h"

void bench_add_plan(npumoe_model *model, bench_test *t)
{
    npumoe_plan_stats s = {.struct_bytes = sizeof s}, *sum = &t->plan;
    npumoe_plan_get_stats(model, &s);
    sum->n_tokens += s.n_tokens;
    sum->n_pairs += s.n_pairs;
    sum->n_launches += s.n_launches;
    sum->n_part_launches += s.n_part_launches;
    sum->n_device_rows += s.n_device_rows;
    sum->n_computed_rows += s.n_computed_rows;
    sum->n_overflow += s.n_overflow;
    sum->n_dropped += s.n_dropped;
    sum->n_rerouted += s.n_rerouted;
    sum->n_failures += s.n_failures;
    sum->n_fallbacks = s.n_fallbacks;
    sum->host_cpu_seconds += s.host_cpu_seconds;
    sum->device_busy_seconds += s.device_busy_seconds;
    sum->device_occupied_seconds += s.device_occupied_seconds;
    sum->host_wait_seconds += s.host_wait_seconds;
}

static void put(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
}

static void put_count(json_t *o, const char *key, uint64_t sum, const bench_test *t)
{
    put(o, key, json_real((double)sum / (double)t->reps));
}

static void put_seconds(json_t *o, const char *key, double sum, const bench_test *t)
{
    put(o, key, json_real(sum / (double)t->reps));
}

static json_t *share(uint64_t part, uint64_t whole)
{
    return json_real(whole ? (double)part / (double)whole : 0.0);
}

static double host_seconds(const bench_test *t)
{
    const npumoe_plan_stats *s = &t->plan;
    const uint64_t all = (uint64_t)t->n_prompt * (uint64_t)t->reps;
    if (t->n_gen == 0 && s->n_tokens == all)
        return s->host_cpu_seconds / (double)t->reps;
    const double left = t->cpu_seconds - s->device_busy_seconds / (double)t->reps;
    return left > 0.0 ? left : 0.0;
}

void bench_put_plan(json_t *o, const bench_model *m, const bench_test *t)
{
    const npumoe_plan_stats *s = &t->plan;
    npumoe_device_info d = {.struct_bytes = sizeof d, .name = "none"};
    if (m->npu.device)
        npumoe_device_get_info(m->npu.device, &d);
    json_t *plan = json_string(m->npu.path ? m->npu.path : "none");
    put(o, "plan", plan ? plan : json_string("?")); /* a name that is no UTF-8 */
    put(o, "device", json_string(d.name));
    put(o, "added_launch_us", json_real((double)d.added_launch_ns * 1e-3));
    put_count(o, "plan_tokens", s->n_tokens, t);
    put(o, "host_cpu_seconds", json_real(host_seconds(t)));
    put_seconds(o, "device_busy_seconds", s->device_busy_seconds, t);
    put_seconds(o, "device_occupied_seconds", s->device_occupied_seconds, t);
    put_seconds(o, "host_wait_seconds", s->host_wait_seconds, t);
    put_count(o, "launches", s->n_launches, t);
    put_count(o, "part_launches", s->n_part_launches, t);
    put(o, "device_share", share(s->n_device_rows, s->n_pairs));
    put(o, "padding_share", share(s->n_computed_rows - s->n_device_rows, s->n_computed_rows));
    put(o, "overflow_share", share(s->n_overflow, s->n_pairs));
    put_count(o, "dropped_pairs", s->n_dropped, t);
    put_count(o, "rerouted_pairs", s->n_rerouted, t);
    put_count(o, "launch_failures", s->n_failures, t);
    put(o, "fallbacks", json_integer(s->n_fallbacks));
}

int bench_report(const npu_args *a, const bench_model *m, const bench_test *t)
{
    if (a->stats && m->npu.path)
        ui_note("%s: the last of %d repetitions of %d + %d tokens", m->npu.path, t->reps,
                t->n_prompt, t->n_gen);
    return npu_report(a, m->model, &m->npu);
}
