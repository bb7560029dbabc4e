/* turns.h: which chunk in flight goes next: of a prompt that runs (engine/pipeline.c), and of one that is foreseen
 * (planner_schedule.c). One rule for both: what a plan is chosen by is what happens.
 *
 * Stages of a layer, as engine/pipeline.h has them. Of those that are ready, those that lead to a launch go first, the
 * older chunk before the younger; REST comes last and in slices, since the device does not wait for it. Of two RESTs the
 * shorter one goes first where the younger chunk is a layer behind: what ends sooner has work for the device
 * sooner. (When the older one always did, it left the other's last milliseconds for later: the device had nothing to do, and
 * then both chunks wanted it at the same time, layer after layer.) Within a layer the younger one cannot get past the
 * older, which goes first.
 *
 * Where both sides share QKV or O by rows, NORM leads to a launch and then computes for about as long as that takes, and JOIN
 * comes twice if the device attends: for the host's rows of O when attention has ended, and when O has. Neither waits for
 * another chunk, so the rules are the same.
 *
 * Chunks attend in a layer after the older ones have stored their keys there, and end in order. Two more rules keep them
 * apart:
 * - While a chunk waits for its O program, no other begins to attend on the host: else both would attend one after the
 *   other while the device has nothing, and then the host would wait for both one's experts. The first chunk must have
 *   its experts on the device before the second attends, and that order keeps itself.
 * - Chunks that began together would want the device together, too, and then the host. So where attention is the
 *   device's, the younger one begins when the older one's QKV, attention and O are with it, unless the host has experts
 *   to compute. */
#ifndef NM_MOE_TURNS_H
#define NM_MOE_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum nm_stage {
    NM_STAGE_NORM,
    NM_STAGE_ATTEND,
    NM_STAGE_JOIN,
    NM_STAGE_REST,
    NM_STAGE_FINISH,
    NM_STAGE_IDLE
} nm_stage;

/* A chunk in flight, before its stage. */
typedef struct nm_turn {
    nm_stage stage;
    uint32_t layer;
    uint32_t stored;     /* layers whose keys are in the cache */
    size_t age;          /* smaller is older: its position, or its number */
    bool on_device;      /* ATTEND: q, k and v come from there, at least of some rows */
    bool device_attends; /* ATTEND: this layer's attention is the device's */
    bool arrived;        /* what the stage needs of the device is there */
    double rest_us;      /* REST: what is left of it */
} nm_turn;

/* The place of the one that goes next, of a model with so many layers; n: nobody is ready. */
uint32_t nm_turns_next(const nm_turn *turns, uint32_t n, uint32_t n_layers);

#endif
