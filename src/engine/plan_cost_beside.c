/* plan_cost_beside.c: how many times as long each side takes while the other works (plan_cost.h, nm_cost.beside).
 *
 * A device of this machine's cores has launches of experts queued, with weights from memory, and the host does a
 * little of one kind of work again and again: alone, beside the device, alone ... What a machine's neighbours
 * take of it changes from one tenth of a second to the next, by more than what is to be measured; so each
 * round is a ratio of what lies next to each other in time, and of the rounds the median counts, which in a ratio may
 * be disturbed on either side. Launches that ran while the host worked, and those after it, while it waited,
 * give the device's ratio from the same rounds.
 *
 * Times are CPU time: what a core's neighbours do to it is in it, and what others who want the same core do is
 * not, which would hit two sides at work twice as hard as one, for as long as they happen to be
 * there. Where there are fewer CPUs than threads, host and device are such others to each other, always; nothing is
 * measured then, as each gets its share of the CPUs while both work.
 *
 * One factor for a kind of work and not a curve: see cost.h. One for the device, the mean over what the host may do
 * meanwhile: launches of experts are most of its work, and which of the host's kinds they meet nobody knows beforehand. */
#include "engine/plan_cost.h"

#include "base/clock.h"

#include <math.h>

enum {
    EXPERTS = 2, /* of a program */
    MOST_PROGRAMS = 32,
    COLD_BYTES = 64 << 20, /* all programs together */
    MOST_CAPACITY = 64,
    SETS = 3, /* of buffers, one for each launch in the queue */
    MOST_QUEUED = SETS * NM_COST_BUFFERS,
    ENOUGH_US = 4000, /* of host work, at a time */
    LAUNCHES = 3,     /* that the host works for, at least */
    MOST_TIMES = 1000,
    TAIL = 2, /* launches while the host waits */
    ROUNDS = 7,
    LEAST_ROUNDS = 3,
    MOST_US = 1000000, /* of a kind of work; then no more than the least rounds */
    SHORT_US = 20000   /* of a launch, where a capacity can be so small */
};

/* Programs that take turns, and the queue. */
typedef struct load {
    nm_cost_job *job;
    nm_npu *npu;
    nm_cost_network experts[MOST_PROGRAMS * EXPERTS];
    uint32_t n_experts;
    nm_program *p[MOST_PROGRAMS];
    uint32_t n, next;
    nm_cost_buffers buffers[SETS];
    uint64_t first, end; /* tickets that are not waited for: first .. end - 1 */
} load;

/* Launches of which something is known, and how long they took together. */
typedef struct launches {
    double us;
    uint32_t n;
} launches;

static void load_fini(load *d)
{
    for (int i = 0; i < SETS; i++)
        nm_cost_buffers_fini(&d->buffers[i], d->npu);
    for (; d->n > 0; d->n--)
        nm_npu_program_free(d->npu, &d->p[d->n - 1]);
    for (uint32_t i = 0; i < d->n_experts; i++)
        nm_cost_network_free(&d->experts[i]);
}

static npumoe_status load_program(load *d, uint32_t capacity, npumoe_error *err)
{
    nm_program_network networks[EXPERTS];
    for (uint32_t i = 0; i < EXPERTS; i++) {
        nm_cost_network *w = &d->experts[d->n_experts];
        NM_TRY(nm_cost_network_new(d->job, d->job->geometry.n_ff, w, err));
        d->n_experts++;
        networks[i] = (nm_program_network){.gate = w->gate, .up = w->up, .down = w->down};
    }
    const nm_program_desc desc = {.kind = NM_PROGRAM_EXPERTS,
                                  .act = NM_ACT_SWIGLU,
                                  .capacity = capacity,
                                  .networks = networks,
                                  .n = EXPERTS};
    NM_TRY(nm_npu_compile(d->npu, &desc, &d->p[d->n], err));
    npumoe_status st = nm_npu_load(d->npu, d->p[d->n], err);
    if (st == NPUMOE_OK)
        d->n++;
    else
        nm_npu_program_free(d->npu, &d->p[d->n]);
    return st;
}

/* For an expert's mean rows, or fewer where its launches would take long. */
static uint32_t choose_capacity(const load *d, const nm_cost *c)
{
    const nm_npu_caps *caps = &d->npu->caps;
    const uint32_t step = caps->capacity_multiple, mean = nm_cost_mean_rows(d->job);
    uint32_t rows = mean < MOST_CAPACITY ? mean : MOST_CAPACITY, capacity;
    do {
        capacity = (rows + step - 1) / step * step;
        rows /= 2;
    } while (rows > 0 && nm_cost_launch(c, EXPERTS, capacity) > SHORT_US);
    return capacity > caps->capacity_min ? capacity : caps->capacity_min;
}

/* As many programs as no cache holds, or as the device has room for, which may be for none. */
static npumoe_status load_init(load *d, const nm_cost *c, npumoe_error *err)
{
    const uint32_t capacity = choose_capacity(d, c);
    if (capacity > d->npu->caps.capacity_max)
        return NPUMOE_OK;
    npumoe_status st = NPUMOE_OK;
    uint64_t bytes = 0;
    while (st == NPUMOE_OK && d->n < MOST_PROGRAMS && (d->n < 2 || bytes < COLD_BYTES)) {
        st = load_program(d, capacity, err);
        bytes += st == NPUMOE_OK ? d->p[d->n - 1]->bytes : 0;
    }
    if (st == NPUMOE_ETOOBIG)
        st = NPUMOE_OK;
    for (int i = 0; st == NPUMOE_OK && d->n > 0 && i < SETS; i++)
        st = nm_cost_buffers_init(&d->buffers[i], d->npu, d->p[0], err);
    return st;
}

/* ---- launches ------------------------------------------------------------------------------- */

static npumoe_status fill_queue(load *d, npumoe_error *err)
{
    const uint32_t queue = d->npu->caps.queue_depth;
    const uint32_t depth = queue < MOST_QUEUED ? queue : MOST_QUEUED;
    while (d->end - d->first < depth) {
        const uint32_t i = d->next++ % (MOST_QUEUED * MOST_PROGRAMS);
        nm_cost_buffers *b = &d->buffers[i / NM_COST_BUFFERS % SETS];
        uint64_t ticket;
        NM_TRY(nm_npu_submit(d->npu, d->p[i % d->n], &b->in[i % NM_COST_BUFFERS],
                             &b->out[i % NM_COST_BUFFERS], &ticket, err));
        if (ticket == 0)
            return nm_err_set(err, NPUMOE_EINTERNAL, "device %s: its queue of %u is full after %u",
                              d->npu->caps.name, queue, (unsigned)(d->end - d->first));
        d->first = d->end == d->first ? ticket : d->first;
        d->end = ticket + 1;
    }
    return NPUMOE_OK;
}

/* The oldest one, to its end; counted where it began and ended within these times. */
static npumoe_status take(load *d, uint64_t from, uint64_t to, launches *sum, npumoe_error *err)
{
    nm_launch_times t;
    NM_TRY(nm_npu_wait(d->npu, d->first++, &t, err));
    if (t.started_ns >= from && t.ended_ns <= to) {
        sum->us += (double)t.busy_ns * 1e-3;
        sum->n++;
    }
    return NPUMOE_OK;
}

/* Nothing is in the queue any more. */
static void drain(load *d)
{
    nm_npu_cancel(d->npu);
    while (d->first < d->end)
        nm_npu_wait(d->npu, d->first++, NULL, NULL);
}

/* ---- in turn -------------------------------------------------------------------------------- */

/* One kind of work, so many times that some launches fit beside it. */
typedef struct turn {
    load *d;
    nm_cost_host *host;
    nm_cost_work work;
    uint32_t times;
} turn;

/* us of one time. Of a pool's threads the first one counts: tasks are drawn until there are none. */
static double work_once(const turn *t)
{
    const uint64_t start = nm_clock_thread_cpu_ns();
    nm_cost_host_work(t->host, t->work);
    return (double)(nm_clock_thread_cpu_ns() - start) * 1e-3;
}

static double alone(const turn *t)
{
    double us = 0.0;
    for (uint32_t i = 0; i < t->times; i++)
        us += work_once(t);
    return us;
}

/* The host's us while the device works; the device's launches by whether the host worked or waited. */
static npumoe_status beside(const turn *t, double *us, launches *working, launches *waiting,
                            npumoe_error *err)
{
    load *d = t->d;
    launches none = {0};
    *us = 0.0;
    NM_TRY(fill_queue(d, err));
    NM_TRY(take(d, 0, 0, &none, err)); /* the device is awake */
    const uint64_t start = nm_clock_ns();
    for (uint32_t i = 0; i < t->times; i++) {
        NM_TRY(fill_queue(d, err));
        *us += work_once(t);
        while (d->first < d->end && nm_npu_poll(d->npu, d->first))
            NM_TRY(take(d, start, UINT64_MAX, working, err));
    }
    const uint64_t end = nm_clock_ns();
    for (const uint32_t n = waiting->n + TAIL; waiting->n < n;) {
        NM_TRY(fill_queue(d, err));
        NM_TRY(take(d, end, UINT64_MAX, waiting, err));
    }
    drain(d);
    return NPUMOE_OK;
}

static npumoe_status set_times(turn *t, npumoe_error *err)
{
    launches l = {0};
    NM_TRY(fill_queue(t->d, err));
    for (int i = 0; i < TAIL; i++)
        NM_TRY(take(t->d, 0, UINT64_MAX, &l, err));
    drain(t->d);
    t->times = 1;
    const double first = alone(t), one = fmax(1.0, fmin(first, alone(t)));
    const double want = fmax(ENOUGH_US, LAUNCHES * l.us / l.n) / one;
    t->times = want < MOST_TIMES ? (uint32_t)want + 1 : MOST_TIMES;
    return NPUMOE_OK;
}

double nm_cost_host_ratio(double before_us, double beside_us, double after_us)
{
    return 2.0 * beside_us / (before_us + after_us);
}

double nm_cost_device_ratio(double working_us, uint32_t working, double waiting_us,
                            uint32_t waiting)
{
    return working > 0 && waiting > 0 ? working_us / working / (waiting_us / waiting) : 0.0;
}

static double as_factor(double ratio)
{
    return fmin(fmax(ratio, 1.0), NM_COST_MOST_BESIDE);
}

/* Medians of the rounds; *device: 0 where no launch was short enough. */
static npumoe_status measure_work(turn *t, double *host, double *device, npumoe_error *err)
{
    double of_host[ROUNDS], of_device[ROUNDS];
    uint32_t n = 0, rounds = 0;
    const uint64_t start = nm_clock_ns();
    NM_TRY(set_times(t, err));
    double before = alone(t);
    while (rounds < ROUNDS &&
           (rounds < LEAST_ROUNDS || (double)(nm_clock_ns() - start) * 1e-3 < MOST_US)) {
        launches working = {0}, waiting = {0};
        double us;
        NM_TRY(beside(t, &us, &working, &waiting, err));
        const double after = alone(t);
        of_host[rounds++] = nm_cost_host_ratio(before, us, after);
        before = after;
        if (working.n > 0)
            of_device[n++] = nm_cost_device_ratio(working.us, working.n, waiting.us, waiting.n);
    }
    *host = as_factor(nm_cost_median(of_host, rounds));
    *device = n > 0 ? as_factor(nm_cost_median(of_device, n)) : 0.0;
    return NPUMOE_OK;
}

static npumoe_status measure_all(load *d, nm_cost_host *host, nm_cost *out, npumoe_error *err)
{
    double factor[NM_COST_WORKS] = {0.0}, sum = 0.0;
    uint32_t n = 0;
    for (int w = 0; w < NM_WORK_DEVICE; w++) {
        turn t = {.d = d, .host = host, .work = (nm_cost_work)w};
        double device = 0.0;
        NM_TRY(measure_work(&t, &factor[w], &device, err));
        sum += device;
        n += device > 0.0;
        NM_TRY(nm_cost_step(d->job, err));
    }
    factor[NM_WORK_DEVICE] = n > 0 ? sum / n : 1.0;
    for (int w = 0; w < NM_COST_WORKS; w++)
        out->beside[w] = factor[w];
    return NPUMOE_OK;
}

/* The device's curves are there already: out says how long a launch takes. */
npumoe_status nm_cost_measure_beside(nm_cost_job *job, nm_cost *out, npumoe_error *err)
{
    const double threads = nm_pool_size(job->pool) + (double)job->npu->caps.n_threads;
    const double cpus = nm_cpus_allowed();
    load d = {.job = job, .npu = job->npu};
    nm_cost_host *host = NULL;
    if (threads > cpus) {
        for (int w = 0; w < NM_COST_WORKS; w++)
            out->beside[w] = as_factor(threads / cpus);
        return NPUMOE_OK;
    }
    npumoe_status st = load_init(&d, out, err);
    if (st == NPUMOE_OK && d.n > 0)
        st = nm_cost_host_new(job, &host, err);
    if (st == NPUMOE_OK && d.n > 0)
        st = measure_all(&d, host, out, err);
    drain(&d);
    nm_cost_host_free(&host);
    load_fini(&d);
    return st;
}
