/* test_probe_products: what the probe says it did when it measured the engine's products, beside what kernels
 * were asked for.
 *
 * The functions of engine/probe.c are here in its place: nothing is timed, each work is done once, and what it
 * says it did is kept. The kernels are those of the tier `scalar`, whose products all come down to gemm_nt,
 * and gemm_nt is one that counts its multiplications. */
#include "base/alloc.h"
#include "engine/probe.h"

#include "tap.h"

enum { PASSES = 3 };

static _Atomic uint64_t multiplied; /* threads of a pool count together */
static uint64_t told, entries;

static void counting_gemm_nt(size_t m, size_t n, size_t k, const float *const *x, const float *w,
                             size_t ldw, float *const *y)
{
    (void)x, (void)w, (void)ldw, (void)y;
    multiplied += (uint64_t)m * n * k;
}

/* ---- in place of probe.c -------------------------------------------------------------------- */

bool nm_probe_next(nm_probe *p)
{
    return !p->counting;
}

nm_probe_rate nm_probe_measure(nm_probe *p, nm_probe_work work, void *arg)
{
    (void)p, (void)work, (void)arg;
    bail("products use the pool themselves");
    return (nm_probe_rate){0};
}

nm_probe_rate nm_probe_measure_call(nm_probe *p, nm_probe_work work, void *arg)
{
    (void)p;
    multiplied = 0;
    told = work(arg, 0, PASSES);
    return (nm_probe_rate){1, 2, 3};
}

void nm_probe_put(nm_probe *p, const char *section, json_t *what, const char *unit,
                  const nm_probe_rate *rate)
{
    const char *type = json_string_value(json_object_get(what, "type"));
    uint64_t macs = PASSES; /* of the matrices that the entry names */
    static const char *const sides[] = {"m", "n", "k"};
    for (size_t i = 0; i < 3; i++)
        macs *= (uint64_t)json_integer_value(json_object_get(what, sides[i]));
    const long long m = json_integer_value(json_object_get(what, "m"));
    ok(strcmp(section, "product") == 0 && strcmp(unit, "gops_per_s") == 0 && rate->max == 3,
       "%s, m %lld: a rate of operations", type, m);
    is_u64(multiplied, macs, "%s, m %lld: the matrices are those of the entry", type, m);
    is_u64(told, 2 * multiplied, "%s, m %lld: a multiplication and its addition are two operations",
           type, m);
    entries++;
    json_decref(what);
    (void)p;
}

json_t *nm_probe_rounded(double v)
{
    return json_real(v);
}

void nm_probe_note(nm_probe *p, const char *fmt, ...)
{
    (void)p;
    bail("the probe gave up: %s", fmt);
}

/* --------------------------------------------------------------------------------------------- */

static void test_threads(int threads)
{
    nm_probe p = {.cpu = nm_cpu_detect()};
    if (nm_kern_init(&p.kern, &p.cpu, "scalar", NULL) != NPUMOE_OK ||
        nm_pool_new(nm_allocator_default(), threads, &p.pool, NULL) != NPUMOE_OK)
        bail("no kernels, or no pool");
    p.kern.gemm_nt = counting_gemm_nt;
    entries = 0;
    nm_probe_products(&p);
    is_u64(entries, 16, "%d threads: four types with four numbers of rows", threads);
    nm_pool_free(&p.pool);
}

int main(void)
{
    test_threads(1);
    test_threads(3);
    return done_testing();
}
