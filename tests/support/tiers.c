/* tiers.c: see tiers.h. */
#include "support/tiers.h"

#include "tap.h"

const char *tiers_next(size_t *at)
{
    const nm_cpu cpu = nm_cpu_detect();
    for (const char *tier; (tier = nm_kern_tier(*at));) {
        ++*at;
        if (nm_kern_tier_usable(tier, &cpu))
            return tier;
    }
    return NULL;
}

const char *tiers_next_kern(size_t *at, nm_kern *kern)
{
    const nm_cpu cpu = nm_cpu_detect();
    const char *tier = tiers_next(at);
    npumoe_error err = {0};
    if (tier && nm_kern_init(kern, &cpu, tier, &err) != NPUMOE_OK)
        bail("tier %s: %s", tier, err.message);
    return tier;
}
