/* expert_types.h: how the experts of a layer are quantised, in memory and in JSON.
 *
 * Quantisers give some layers of a model more bits than others (Q4_K_M keeps ffn_down of half of the layers in
 * Q6_K), so one layer's types do not tell two files of a model apart. A profile keeps those of the file that was
 * calibrated, a plan those that it was made for. */
#ifndef NM_MOE_EXPERT_TYPES_H
#define NM_MOE_EXPERT_TYPES_H

#include "model/weights.h"
#include "moe/fields.h"

typedef struct nm_expert_types {
    bool known;
    uint32_t type[3]; /* nm_type of gate, up, down */
} nm_expert_types;

nm_expert_types nm_expert_types_of(const nm_expert_weights *experts);
/* "gate", "up", "down"; NULL past the end. */
const char *nm_expert_types_name(unsigned i);

/* {"gate": "Q4_K", "up": "Q4_K", "down": "Q6_K"} */
json_t *nm_expert_types_json(const uint32_t type[3]);
/* Of the object's key "types". EFORMAT. */
npumoe_status nm_expert_types_read(const nm_fields *f, uint32_t type[3]);
/* The same; not known where the key is missing: files from before there was one. */
npumoe_status nm_expert_types_read_if(const nm_fields *f, nm_expert_types *out);

#endif
