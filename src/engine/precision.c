/* precision.c: see precision.h. */
#include "engine/precision.h"

#include "base/err.h"

npumoe_status nm_precision_read(npumoe_precision from, nm_precision *to, npumoe_error *err)
{
    static const nm_precision table[] = {[NPUMOE_PRECISION_AUTO] = NM_PRECISION_AUTO,
                                         [NPUMOE_PRECISION_FAST] = NM_PRECISION_FAST,
                                         [NPUMOE_PRECISION_FULL] = NM_PRECISION_FULL,
                                         [NPUMOE_PRECISION_FP32] = NM_PRECISION_FP32};
    if ((unsigned)from >= sizeof table / sizeof table[0])
        return nm_err_set(err, NPUMOE_EINVAL,
                          "precision: found %d, expected one of npumoe_precision", (int)from);
    *to = table[from];
    return NPUMOE_OK;
}

nm_precision nm_precision_of_family(nm_precision asked, const nm_family *family)
{
    const bool jumps = family && family->router.score == NM_SCORE_SPARSEMIXER;
    return asked == NM_PRECISION_AUTO && jumps ? NM_PRECISION_FULL : asked;
}

const char *nm_precision_name(nm_precision p)
{
    static const char *const names[] = {[NM_PRECISION_AUTO] = "auto",
                                        [NM_PRECISION_FAST] = "fast",
                                        [NM_PRECISION_FULL] = "full",
                                        [NM_PRECISION_FINE] = "fine",
                                        [NM_PRECISION_FP32] = "fp32"};
    return names[p];
}
