/* cost.h: what work costs on the host and on a device, as measured points.
 *
 * A planner that multiplies FLOPs by a rate is wrong where it matters: below 16 rows an expert costs
 * its decoding, not its products; a launch costs the same whatever it carries; threads share a
 * barrier. So there are no formulas here. A cost is a curve: points (rows, microseconds) that were
 * measured on the machine that will run the plan, with weights of the model's own geometry and
 * types (made up: time does not depend on their values), by the very functions that run it.
 * Between two points a curve is a straight line; beyond the last it goes on as between the last
 * two; between 0 and the first point it is the first point, because a weight that is touched at all
 * is decoded whole. At 0 rows nothing runs and nothing costs.
 *
 * A table is for one geometry, one pair of weight types, one tier and number of host threads, one
 * chunk and one device with its options. nm_cost_fits() says what differs; a plan embeds the table
 * it was made from, so that a prediction can be traced to its points and the executor can use the
 * same figures when it chooses at run time.
 *
 * Units: microseconds of wall time, for the host with all threads of its pool at work (an expert's
 * time is its share of a batch of experts, as nm_experts_run has them), for the device the time
 * that it is busy. Host CPU time is wall times threads.
 *
 * BESIDE. All curves are of one side at work while the other has nothing to do. Where the device is cores of this
 * machine, both share memory, the last cache and power, and each is slower while the other works: `beside` says how
 * many times as long it takes then, by kind of work. Factors and not second curves: what is shared slows work down by
 * its kind far more than by its number of rows, and a factor can be measured in turn, alone and beside, so that
 * both see the same weather. They hold only for the time in which both really work: whoever waits leaves the
 * other alone (nm_clocks in planner_clocks.h). The host alone, without a plan, has no use for them.
 *
 * Knows no profile and no plan. JSON: schema "npumoe-plan-cost", docs/plan.md. */
#ifndef NM_MOE_COST_H
#define NM_MOE_COST_H

#include "base/alloc.h"
#include "base/str.h"

#include <jansson.h>

enum { NM_CURVE_MAX = 32, NM_COST_NAME = 64, NM_COST_MAX_ROWS = 1 << 20, NM_COST_PARTS = 4 };

typedef struct nm_curve {
    uint32_t n;                  /* points; 0 = never measured */
    uint32_t rows[NM_CURVE_MAX]; /* ascending, >= 1 */
    double us[NM_CURVE_MAX];     /* >= 0, finite */
} nm_curve;

/* 0 at 0 rows; see above. c->n > 0. */
double nm_curve_at(const nm_curve *c, double rows);

/* What the table is for: the model's part, from a profile. */
typedef struct nm_cost_geometry {
    uint32_t n_embd, n_ff, n_ff_shared; /* of one expert; shared: 0 = none */
    uint32_t n_expert, n_expert_used;
    uint32_t n_head, n_head_kv, dim_k, dim_v;
    uint32_t type[3]; /* nm_type of gate, up, down */
} nm_cost_geometry;

/* Parts of a layer that are not routed, in the order in which a chunk meets them. QKV, O: LINEAR programs, one for
 * each layer; SHARED: an EXPERTS program; ATTENTION: programs without weights, one for each number of
 * positions, which all layers share. */
typedef enum nm_cost_part {
    NM_PART_QKV,
    NM_PART_ATTENTION,
    NM_PART_O,
    NM_PART_SHARED
} nm_cost_part;

/* "qkv", "attention", "o", "shared": in files, messages and traces. */
const char *nm_cost_part_name(nm_cost_part part);

/* Kinds of work, as far as they are slowed down in different ways by what runs beside them. */
typedef enum nm_cost_work {
    NM_WORK_EXPERTS,   /* host: gated networks, the shared one too */
    NM_WORK_DENSE,     /* host: QKV, O */
    NM_WORK_ATTENTION, /* host */
    NM_WORK_ROWS, /* host: norms, storing keys, routing; rows on their way to the device and back */
    NM_WORK_DEVICE, /* the device, whatever it does */
    NM_COST_WORKS
} nm_cost_work;

/* "experts", "dense", "attention", "rows", "device": in files. */
const char *nm_cost_work_name(nm_cost_work work);

/* No factor is larger: two sides that both took more than twice as long had better take turns. */
#define NM_COST_MOST_BESIDE 2.0

/* A device as far as planning goes: the caps that limit a plan, and its options that change times. */
typedef struct nm_cost_device {
    char name[NM_COST_NAME];    /* "tile"; "cpu" = none at all: no program may be planned */
    char weights[NM_COST_NAME]; /* as caps have it, bytes and curves are for that; "" = unknown */
    char arithmetic[NM_COST_NAME]; /* how it multiplied when it was measured; "" = unknown */
    bool simulated;
    bool shares_weights; /* programs of the same experts keep one copy of them */
    bool has_linear;     /* takes LINEAR programs */
    bool has_attention;  /* takes ATTENTION programs */
    uint32_t slots;      /* programs loaded at the same time */
    uint32_t capacity_multiple, capacity_min, capacity_max;
    uint32_t queue_depth;
    uint64_t program_bytes, total_bytes;
    uint64_t expert_bytes, part_bytes[NM_COST_PARTS]; /* as packed on the device */
    uint32_t threads;       /* workers of the device, 0 = it has no CPU threads */
    double added_launch_us; /* asked for by the user; part of launch_us; shown in every output */
} nm_cost_device;

typedef struct nm_cost {
    nm_cost_geometry geometry;
    /* host */
    char isa[NM_COST_NAME];
    char precision[NM_COST_NAME]; /* of its products of many rows; "" = unknown */
    uint32_t host_threads;
    uint32_t chunk;       /* tokens for which attention and the dense programs were measured */
    nm_curve host_expert; /* rows of one expert -> us */
    /* tokens -> us; SHARED has no points where there is none. ATTENTION: n_past + 1 -> us of `chunk` queries, two
     * points and more. */
    nm_curve host_part[NM_COST_PARTS];
    nm_curve
        host_layer; /* tokens -> us: norms, rope, KV write, router, top-k, dispatch, residual */
    nm_curve gather, scatter; /* rows -> us, into and out of a device's buffers */
    double join_us;           /* clearing and adding up what the device brings, of a chunk */
    double host_region_us;    /* starting the pool on a remainder, however small it is */
    /* device */
    nm_cost_device device;
    double launch_us;       /* device time that a launch of any size costs beyond its experts */
    double launch_host_us;  /* host time of submit and wait */
    nm_curve device_expert; /* capacity of one expert in a group -> us */
    nm_curve device_part[NM_COST_PARTS]; /* fixed tokens of the program -> us; ATTENTION as above */
    double part_far_us
        [NM_COST_PARTS]; /* host: what its work before and after such a program takes longer, of
                                              a chunk, as the rows lie in the device's cache; 0 = not known */
    double load_us_per_mb, unload_us_per_mb;
    double beside[NM_COST_WORKS]; /* how many times as long beside the other side at work, 1 to
                                     NM_COST_MOST_BESIDE; 0 = not measured */
    /* power; < 0 = unknown. Where from, for output: "published", "given". */
    double host_watts, device_watts; /* of all host threads busy, of the device busy */
    char watts_source[NM_COST_NAME];
} nm_cost;

/* The factor; 1 where none was measured. */
double nm_cost_beside(const nm_cost *c, nm_cost_work work);

/* Device time of a program of QKV or O for so many rows, beyond a launch. Measured is one for a whole chunk: one for fewer rows
 * takes its share. (A program that is given fewer rows than it has takes as long as always.) */
double nm_cost_part_device(const nm_cost *c, nm_cost_part part, uint32_t capacity);

/* A part of a chunk that is shorter than its program: whether the device, which computes all rows of the program, is worth
 * its time when the host would compute so many. price: of that time, where the host's costs 1 - price. */
typedef struct nm_cost_short {
    uint32_t rows, capacity;
    uint64_t n_past; /* tokens before the chunk, for attention */
    double price;
} nm_cost_short;
#define NM_COST_EVEN_PRICE 0.5 /* both alike: as quick on the device as on the host */

bool nm_cost_part_pays(const nm_cost *c, nm_cost_part part, const nm_cost_short *s);

/* Device time of one launch of n experts with that capacity; host time it costs beside rows. */
double nm_cost_launch(const nm_cost *c, uint32_t n_experts, uint32_t capacity);

/* Programs' bytes of a group on the device: one program per capacity. */
uint64_t nm_cost_group_bytes(const nm_cost *c, uint32_t n_experts, uint32_t n_capacities);

/* "cpu": a device without programs, for plans that place nothing. */
void nm_cost_no_device(nm_cost *c);

/* EMODEL: the table is for another geometry, type, chunk or device; names each with both values. */
npumoe_status nm_cost_fits(const nm_cost *c, const nm_cost_geometry *g, uint32_t chunk,
                           const char *device, npumoe_error *err);

/* JSON. Load checks schema, presence, ranges and order of all points: EFORMAT with the key. */
json_t *nm_cost_to_json(const nm_cost *c); /* NULL = out of memory */
npumoe_status nm_cost_from_json(const json_t *root, nm_cost *out, npumoe_error *err);

#endif
