/* describe_machine.c: what `npumoe doctor` shows: the machine, and what this build makes of it. */
#include "base/sys.h"
#include "base/threads.h"
#include "engine/describe.h"
#include "engine/device.h"
#include "engine/memory.h"
#include "kernels/kern.h"
#include "kernels/product.h"

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "unknown"
#endif

static json_t *cpu_flags(const nm_cpu *c)
{
    const struct {
        const char *name;
        bool present;
    } flags[] = {
        {"avx2", c->avx2},
        {"fma", c->fma},
        {"f16c", c->f16c},
        {"avx_vnni", c->avx_vnni},
        {"avx512f", c->avx512f},
        {"avx512bw", c->avx512bw},
        {"avx512vl", c->avx512vl},
        {"avx512dq", c->avx512dq},
        {"avx512_vnni", c->avx512_vnni},
        {"avx512_vbmi", c->avx512_vbmi},
        {"avx512_bf16", c->avx512_bf16},
        {"avx512_fp16", c->avx512_fp16},
        {"amx_tile", c->amx_tile},
        {"amx_int8", c->amx_int8},
        {"amx_bf16", c->amx_bf16},
        {"neon", c->neon},
        {"dotprod", c->dotprod},
        {"i8mm", c->i8mm},
        {"bf16", c->bf16},
        {"fp16", c->fp16},
    };
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (flags[i].present)
            json_array_append_new(list, json_string(flags[i].name));
    return list;
}

static json_t *describe_cpu(const nm_cpu *cpu)
{
    char model[256];
    json_t *o = json_object();
    nm_sys_cpu_model(model, sizeof model);
    nm_describe_put(o, "model", nm_describe_text(nm_str_of(model)));
    nm_describe_put(o, "online", json_integer(nm_sys_cpus_online()));
    nm_describe_put(o, "allowed", json_integer(nm_cpus_allowed()));
    nm_describe_put(o, "flags", cpu_flags(cpu));
    return o;
}

static json_t *describe_kernels(const nm_cpu *cpu)
{
    json_t *o = json_object(), *built = json_array(), *usable = json_array();
    for (size_t i = 0; nm_kern_tier(i); i++) {
        const char *tier = nm_kern_tier(i);
        json_array_append_new(built, json_string(tier));
        if (nm_kern_tier_usable(tier, cpu))
            json_array_append_new(usable, json_string(tier));
    }
    nm_describe_put(o, "built", built);
    nm_describe_put(o, "usable", usable);
    nm_kern table;
    if (nm_kern_init(&table, cpu, NULL, NULL) == NPUMOE_OK) {
        nm_describe_put(o, "chosen", json_string(table.isa));
        nm_describe_put(o, "with", json_string(table.with));
    }
    return o;
}

static json_t *describe_memory(void)
{
    char mode[32];
    json_t *o = json_object();
    const nm_memory memory = nm_memory_read(0);
    if (memory.total_bytes != NM_MEMORY_UNKNOWN) {
        nm_describe_put(o, "limit_bytes", nm_describe_u64(memory.total_bytes));
        nm_describe_put(o, "limited_by", json_string(memory.what));
    }
    nm_describe_put(o, "page_bytes", nm_describe_u64(nm_sys_page_bytes()));
    uint64_t huge = nm_sys_huge_page_bytes(mode, sizeof mode);
    if (huge) {
        nm_describe_put(o, "huge_page_bytes", nm_describe_u64(huge));
        nm_describe_put(o, "huge_pages", nm_describe_text(nm_str_of(mode)));
    }
    return o;
}

static json_t *limit(uint64_t n, uint64_t none)
{
    return n == none ? json_null() : nm_describe_u64(n);
}

/* Forms of weights that the device can be made with; whether panels can be made depends on the product. */
static json_t *forms_of_weights(const nm_cpu *cpu)
{
    static const char *const names[] = {"file", "packed"};
    const uint32_t type = NM_TYPE_Q4_0;
    json_t *list = json_array();
    nm_kern kern;
    const bool panels =
        nm_kern_init(&kern, cpu, NULL, NULL) == NPUMOE_OK &&
        nm_product_panels_bytes(nm_product_pick(&kern, NM_PRECISION_FULL, NM_PRODUCT_FEW, &type, 1),
                                256, 256) > 0;
    for (int i = 0; i < (panels ? 2 : 1); i++)
        json_array_append_new(list, json_string(names[i]));
    return list;
}

/* As it is without options: each of these is one of `npumoe run`. */
static void describe_device(json_t *list, const char *name, const nm_cpu *cpu)
{
    npumoe_device_options options = npumoe_device_options_default();
    npumoe_device *device = NULL;
    options.name = name;
    if (npumoe_device_new(&options, &device, NULL) != NPUMOE_OK)
        return;
    const nm_npu_caps *c = &nm_device_npu(device)->caps;
    json_t *o = json_object();
    nm_describe_put(o, "name", json_string(c->name));
    nm_describe_put(o, "simulated", json_boolean(c->simulated));
    if (c->n_threads > 0) { /* else it has no programs */
        nm_describe_put(o, "arithmetic", json_string(c->arithmetic));
        nm_describe_put(o, "weights", forms_of_weights(cpu));
        nm_describe_put(o, "threads", json_integer(c->n_threads));
        nm_describe_put(o, "slots", limit(c->slots, UINT32_MAX));
        nm_describe_put(o, "program_bytes", limit(c->program_bytes, UINT64_MAX));
        nm_describe_put(o, "memory_bytes", limit(c->total_bytes, UINT64_MAX));
        nm_describe_put(o, "capacity_min", json_integer(c->capacity_min));
        nm_describe_put(o, "capacity_max", json_integer(c->capacity_max));
        nm_describe_put(o, "capacity_multiple", json_integer(c->capacity_multiple));
        nm_describe_put(o, "queue_depth", json_integer(c->queue_depth));
    }
    json_array_append_new(list, o);
    npumoe_device_free(&device);
}

static json_t *describe_devices(const nm_cpu *cpu)
{
    json_t *list = json_array();
    describe_device(list, "tile", cpu);
    describe_device(list, "cpu", cpu);
    return list;
}

static json_t *describe_architectures(void)
{
    json_t *list = json_array();
    for (size_t i = 0; npumoe_supported_architecture(i); i++)
        json_array_append_new(list, json_string(npumoe_supported_architecture(i)));
    return list;
}

npumoe_status npumoe_describe_machine(char **json, npumoe_error *err)
{
    const nm_cpu cpu = nm_cpu_detect();
    char os[256];
    json_t *root = json_object();
    nm_sys_os(os, sizeof os);
    nm_describe_put(root, "version", json_string(npumoe_version()));
    nm_describe_put(root, "compiler", json_string(COMPILER));
    nm_describe_put(root, "os", nm_describe_text(nm_str_of(os)));
    nm_describe_put(root, "cpu", describe_cpu(&cpu));
    nm_describe_put(root, "kernels", describe_kernels(&cpu));
    nm_describe_put(root, "memory", describe_memory());
    nm_describe_put(root, "devices", describe_devices(&cpu));
    nm_describe_put(root, "architectures", describe_architectures());
    return nm_describe_finish(root, json, err);
}
