#include "moe/expert_types.h"

static const char *const names[3] = {"gate", "up", "down"};

nm_expert_types nm_expert_types_of(const nm_expert_weights *e)
{
    return (nm_expert_types){true, {e->gate.mat.type, e->up.mat.type, e->down.mat.type}};
}

const char *nm_expert_types_name(unsigned i)
{
    return i < 3 ? names[i] : NULL;
}

json_t *nm_expert_types_json(const uint32_t type[3])
{
    json_t *types = json_object();
    for (int i = 0; i < 3; i++)
        json_object_set_new(types, names[i], json_string(nm_type_get(type[i])->name));
    return types;
}

npumoe_status nm_expert_types_read(const nm_fields *f, uint32_t type[3])
{
    nm_fields types;
    NM_TRY(nm_fields_object(f, "types", &types));
    for (int i = 0; i < 3; i++) {
        char name[16];
        nm_type t;
        NM_TRY(nm_fields_text(&types, names[i], name, sizeof name));
        if (!nm_type_by_name(nm_str_of(name), &t))
            return nm_fields_bad(&types, names[i], "the name of a tensor type");
        type[i] = t;
    }
    return NPUMOE_OK;
}

npumoe_status nm_expert_types_read_if(const nm_fields *f, nm_expert_types *out)
{
    out->known = json_object_get(f->json, "types") != NULL;
    return out->known ? nm_expert_types_read(f, out->type) : NPUMOE_OK;
}
