/* replan.h: another plan when the loads have changed: when to look, whether to change, and changing.
 *
 * Requests are counted as they run (moe/drift.h). npumoe_plan_adapt(), called when nobody waits, does the
 * rest. In three steps, of which only the first and the last hold the model's lock:
 *
 *   look    enough new chunks, and their popularity moved since the last look? Copies the window
 *   plan    a new plan with the present one's options and cost table; both judged on chunks that neither
 *           was made from. The caller can cancel it: the loads stay to be looked at
 *   change  if the gain is large enough and pays for loading: programs that both plans have stay,
 *           others go and come, and the plan is another one from the next evaluation on
 *
 * Why the caller says when, and not a thread of ours: planning takes from milliseconds to seconds. Before a
 * prompt or between it and its answer somebody waits for that; a thread would compete with decoding,
 * and with it the plan of a request, and so its bits, would depend on timing. The caller knows when the
 * answer is out and nobody waits. Requests that come while step two runs are not kept from running; they
 * meet the old plan.
 *
 * Against flapping: the window spans requests (two kinds of prompts that take turns get one plan for
 * both), a gain must be NM_REPLAN_GAIN on chunks kept back for that, it must pay back the loading within as
 * many chunks as the window has, and after a change or a look in vain some chunks must pass.
 *
 * What stays the same for sessions: chunk, lanes and buffers. A request runs by one plan from its first
 * chunk to its last. Which products a row meets may change from one request to the next, as it does with any
 * two plans; in fp32 no result changes by more than the order of sums.
 *
 * Never re-planned: policies other than ours (they are there to be compared with), plans of which something
 * failed on the device (the new one would fail there again). */
#ifndef NM_ENGINE_REPLAN_H
#define NM_ENGINE_REPLAN_H

#include "moe/drift.h"
#include "moe/executor.h"

#define NM_REPLAN_GAIN  0.05 /* of what the objective counts */
#define NM_REPLAN_SHIFT 0.03 /* of popularity, before looking again */

enum {
    NM_REPLAN_WAIT = 12, /* chunks from one look to the next */
    NM_REPLAN_REST = 32, /* chunks from a change to the next look */
    NM_REPLAN_EVENTS = 16
};

/* A plan that was made, and what became of it. */
typedef enum nm_replan_outcome {
    NM_REPLAN_KEPT, /* not worth it: the present plan stays */
    NM_REPLAN_CHANGED,
    NM_REPLAN_FAILED /* it could not be loaded: the present plan stays */
} nm_replan_outcome;

typedef struct nm_replan_event {
    nm_replan_outcome outcome;
    uint64_t seen, at_ns;    /* chunks so far; since the plan was attached */
    double gain;             /* predicted, as nm_replan_gain */
    nm_exec_change programs; /* what changing takes, or took */
    double planning_seconds, loading_seconds;
} nm_replan_event;

typedef struct nm_replan {
    nm_drift *drift; /* NULL = off */
    bool busy;       /* somebody is at step two; under the model's lock, as all here */
    uint64_t next;   /* chunks seen before which nobody looks */
    /* for people */
    uint64_t looks, plans, changes, failures;
    nm_exec_change programs;         /* of all changes */
    double cost_present, cost_other; /* of the last plan made, on chunks kept back */
    double planning_seconds, loading_seconds;
    uint64_t n_events; /* the last NM_REPLAN_EVENTS are kept, number i at i % NM_REPLAN_EVENTS */
    nm_replan_event events[NM_REPLAN_EVENTS];
} nm_replan;

/* Share of its cost that the last plan made promised to save; below 0: it was worse. */
double nm_replan_gain(const nm_replan *r);

#endif
