/* probe_lists.h: what the files of one tier offer to probe.c. Private to src/kernels. */
#ifndef NM_KERNELS_PROBE_LISTS_H
#define NM_KERNELS_PROBE_LISTS_H

#include "kernels/probe.h"

extern const nm_probe_product nm_probe_products_ref[];
extern const nm_probe_reader nm_probe_reader_ref;

#if defined(__x86_64__)
extern const nm_probe_product nm_probe_products_avx2[], nm_probe_products_avxvnni[],
    nm_probe_products_avx512[], nm_probe_products_avx512bf16[], nm_probe_products_avx512vnni[],
    nm_probe_products_amx[];
extern const nm_probe_reader nm_probe_reader_avx2, nm_probe_reader_avx512;
#elif defined(__aarch64__)
extern const nm_probe_product nm_probe_products_neon[], nm_probe_products_neonbf16[],
    nm_probe_products_neondot[], nm_probe_products_neoni8mm[];
extern const nm_probe_reader nm_probe_reader_neon;
#endif

#endif
