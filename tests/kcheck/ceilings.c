/* ceilings.c: what a unit multiplies and a thread reads at most, by the loops of kernels/probe.h: the
 * numbers that shares of --bench are shares of. CPU time of this thread, the best of several. */
#include "kcheck.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "kernels/probe.h"

#include <string.h>

enum { TRIES = 5, PASSES = 2000, AHEAD_BYTES = 2048, LONG_BYTES = 16 << 20 };

static size_t rank_of(const char *tier)
{
    size_t i = 0;
    while (nm_kern_tier(i) && strcmp(nm_kern_tier(i), tier) != 0)
        i++;
    return i;
}

static double better(double best, double amount, uint64_t start_ns)
{
    const uint64_t ns = nm_clock_thread_cpu_ns() - start_ns;
    const double rate = 1e9 * amount / (double)(ns ? ns : 1);
    return rate > best ? rate : best;
}

double unit_rate(const nm_cpu *cpu, const char *isa, const char *type, bool tiles)
{
    static _Alignas(NM_ALIGN) char x[NM_PROBE_X_BYTES], out[NM_PROBE_OUT_BYTES];
    double best = 0;
    const nm_probe_product *u;
    for (size_t i = 0; (u = nm_probe_product_at(i)); i++) {
        if (strcmp(u->type, type) != 0 || rank_of(u->isa) > rank_of(isa) ||
            (strcmp(u->isa, "amx") == 0 && !tiles) || !u->usable(cpu))
            continue;
        for (int try = 0; try < TRIES; try++) {
            const uint64_t start = nm_clock_thread_cpu_ns();
            const uint64_t done = u->run(x, NULL, 64 * u->w_step_bytes, PASSES, out);
            best = better(best, (double)done, start);
        }
    }
    return best;
}

double read_rate(const nm_cpu *cpu, const void *memory, size_t bytes)
{
    const nm_probe_reader *reader = nm_probe_reader_for(cpu);
    const size_t passes = 1 + LONG_BYTES / bytes; /* what a cache holds is read again */
    double best = 0;
    for (int try = 0; try < TRIES; try++) {
        const uint64_t start = nm_clock_thread_cpu_ns();
        for (size_t i = 0; i < passes; i++)
            reader->run(memory, bytes, bytes < LONG_BYTES ? 0 : AHEAD_BYTES);
        best = better(best, (double)bytes * (double)passes, start);
    }
    return best;
}
