/* precision.h: what the precision that a user asks for means inside. */
#ifndef NM_ENGINE_PRECISION_H
#define NM_ENGINE_PRECISION_H

#include "kernels/product.h"
#include "model/family.h"
#include "npumoe/npumoe.h"

/* EINVAL when it is none of npumoe_precision. */
npumoe_status nm_precision_read(npumoe_precision from, nm_precision *to, npumoe_error *err);

/* Of a model's host, what was asked for with AUTO refined by what the family needs (family NULL: by nothing):
 * sparsemixer's weights jump where a score crosses an edge, so what rounding moves elsewhere a little it
 * moves there a lot (docs/accuracy.md). What its router sees is computed more finely. */
nm_precision nm_precision_of_family(nm_precision asked, const nm_family *family);

/* "auto", "fast", "full", "fine", "fp32": in files and messages. */
const char *nm_precision_name(nm_precision p);

#endif
