/* family.c: the table of families; see family.h. */
#include "model/family.h"

#include <stdio.h>

#define FAMILY(name) extern const nm_family nm_family_##name;
#include "model/families/families.def"
#undef FAMILY

static const nm_family *const families[] = {
#define FAMILY(name) &nm_family_##name,
#include "model/families/families.def"
#undef FAMILY
};

const nm_family *nm_family_at(size_t index)
{
    return index < sizeof families / sizeof families[0] ? families[index] : NULL;
}

const nm_family *nm_family_find(nm_str arch)
{
    for (size_t i = 0; nm_family_at(i); i++) {
        if (nm_str_eqz(arch, families[i]->arch))
            return families[i];
    }
    return NULL;
}

void nm_family_list(char *buf, size_t cap)
{
    size_t used = 0;
    if (cap > 0)
        buf[0] = 0;
    for (size_t i = 0; nm_family_at(i) && used < cap; i++) {
        int n = snprintf(buf + used, cap - used, "%s%s", i ? ", " : "", families[i]->arch);
        used += n > 0 ? (size_t)n : 0;
    }
}
