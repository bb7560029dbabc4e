/* probe.c: the lists of all tiers as one; see probe.h. */
#include "kernels/probe.h"

#include "kernels/probe_lists.h"

static const nm_probe_product *const products[] = {
    nm_probe_products_ref,
#if defined(__x86_64__)
    nm_probe_products_avx2,       nm_probe_products_avxvnni,    nm_probe_products_avx512,
    nm_probe_products_avx512bf16, nm_probe_products_avx512vnni, nm_probe_products_amx,
#elif defined(__aarch64__)
    nm_probe_products_neon,    nm_probe_products_neonbf16,
    nm_probe_products_neondot, nm_probe_products_neoni8mm,
#endif
};

/* Ascending, as the products. */
static const nm_probe_reader *const readers[] = {
    &nm_probe_reader_ref,
#if defined(__x86_64__)
    &nm_probe_reader_avx2,
    &nm_probe_reader_avx512,
#elif defined(__aarch64__)
    &nm_probe_reader_neon,
#endif
};

const nm_probe_product *nm_probe_product_at(size_t index)
{
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        for (const nm_probe_product *p = products[i]; p->run; p++)
            if (index-- == 0)
                return p;
    return NULL;
}

const nm_probe_reader *nm_probe_reader_for(const nm_cpu *cpu)
{
    size_t i = sizeof readers / sizeof readers[0] - 1;
    while (!readers[i]->usable(cpu)) /* the plain one always is */
        i--;
    return readers[i];
}
