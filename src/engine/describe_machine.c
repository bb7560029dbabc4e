/* describe_machine.c: what `npumoe doctor` shows: the machine, and what this build makes of it. */
#include "base/sys.h"
#include "base/threads.h"
#include "engine/describe.h"
#include "engine/memory.h"
#include "kernels/kern.h"

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
    nm_describe_put(root, "architectures", describe_architectures());
    return nm_describe_finish(root, json, err);
}
