/* planner_clocks.h: host and device at the same time, in a prediction.
 *
 * A cost table has times of each side alone, and factors for the time in which both work (cost.h, BESIDE). How
 * long that is, only the schedule knows: a host that waits leaves the device alone, and a device that has run
 * out of launches the host. So there are two clocks. `now` is time. `at` is how far the device has come, counted in
 * its own time alone: it goes like `now`, and slower while both work. When a launch ends is known by `at`
 * from the moment of its submission, however the host spends the time until then; that is why launches need no list
 * of what ran beside them. Where all factors are 1, both clocks are the same.
 *
 * Which launch it is that runs makes no difference here: the device has one factor. Latency that was added to launches
 * to resemble another device counts as work, though it slows nobody down. */
#ifndef NM_MOE_PLANNER_CLOCKS_H
#define NM_MOE_PLANNER_CLOCKS_H

#include <math.h>

typedef struct nm_clocks {
    double now, work; /* time; how much of it the host worked */
    double at, free_at,
        busy;    /* the device's clock; by it, the end of all launches; time in which it worked */
    double slow; /* the device's factor, 1 or more */
} nm_clocks;

static inline nm_clocks nm_clocks_new(double slow)
{
    return (nm_clocks){.slow = slow};
}

/* The host does what takes it `us` alone and `beside` times as long beside the device. */
static inline void nm_clocks_work(nm_clocks *c, double us, double beside)
{
    const double left = fmax(0.0, c->free_at - c->at); /* of the device, alone */
    const double both = fmin(us * beside, left * c->slow);
    const double took = us + both * (1.0 - 1.0 / beside);
    const double lost = both * (1.0 - 1.0 / c->slow); /* by the device */
    c->now += took;
    c->work += took;
    c->at += took - lost;
    c->busy += lost;
}

/* The host waits until the device's clock shows `end`. */
static inline void nm_clocks_wait(nm_clocks *c, double end)
{
    c->now += fmax(0.0, end - c->at);
    c->at = fmax(c->at, end);
}

/* A launch, behind those before it; its end by the device's clock. */
static inline double nm_clocks_launch(nm_clocks *c, double us)
{
    c->busy += us;
    c->free_at = fmax(c->free_at, c->at) + us;
    return c->free_at;
}

/* Sums of two sides that overlap as far as they can: device_us alone; the host's us alone and beside. */
typedef struct nm_overlap {
    double us, host_us,
        device_us; /* both at work: slowed down for as long as the shorter one works */
} nm_overlap;

static inline nm_overlap nm_clocks_overlap(double host_us, double beside_us, double device_us,
                                           double slow)
{
    const double both = fmin(beside_us, device_us * slow);
    const double host = host_us > 0.0 ? host_us + both * (1.0 - host_us / beside_us) : 0.0;
    const double device = device_us + both * (1.0 - 1.0 / slow);
    return (nm_overlap){fmax(host, device), host, device};
}

#endif
