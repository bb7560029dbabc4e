/* info.c: npumoe info: what a GGUF file holds, for people or as JSON. The facts are the library's
 * (npumoe_describe_file); this file only lays them out. */
#include "load.h"
#include "report.h"
#include "safe.h"
#include "verbs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct info_args {
    model_args model;
    common_args common;
    cli_numbers ctxs;
    bool json, metadata;
} info_args;

static const cli_opt info_opts[] = {
    {"-c", "--ctx-size", "LIST", cli_add_numbers, offsetof(info_args, ctxs), 1, UINT32_MAX,
     "context lengths to give the memory for, like 4096,32768;\ndefault: what the model was "
     "trained for",
     true},
    {NULL, "--json", NULL, cli_set_flag, offsetof(info_args, json), 0, 0, "everything, as JSON",
     true},
    {NULL, "--metadata", NULL, cli_set_flag, offsetof(info_args, metadata), 0, 0,
     "also all keys of the file", true},
    {0},
};

static const cli_help help = {
    "info",
    "[FILE] [options]",
    "Shows what a model file holds: geometry, experts and their router, tensor types, size,\n"
    "tokenizer, and the memory that it needs for a context. Reads the header only.",
    "npumoe info olmoe.gguf\n"
    "npumoe info olmoe.gguf -c 4096,32768\n"
    "npumoe info olmoe.gguf --json | jq .experts",
};

/* ---- lines -------------------------------------------------------------------------------- */

static void line(const char *name, const char *value)
{
    if (*value) {
        printf("%-14s ", name);
        safe_put(stdout, value, strlen(value));
        putchar('\n');
    }
}

static void print_head(const json_t *r)
{
    char a[32], b[32], text[160];
    line("file", report_text(r, "file"));
    line("name", report_text(r, "name"));
    line("model", report_text(r, "description"));
    snprintf(text, sizeof text, "%s%s", report_text(r, "architecture"),
             json_is_true(report_at(r, "supported")) ? "" : " (cannot be run by this version)");
    line("architecture", text);
    if (!json_is_true(report_at(r, "supported")))
        line("problem", report_text(r, "problem"));
    snprintf(text, sizeof text, "%s, %s of them active per token",
             human_count(report_u64(r, "parameters"), a, sizeof a),
             human_count(report_u64(r, "parameters_active"), b, sizeof b));
    line("parameters", text);
    snprintf(text, sizeof text, "%s in %" PRIu64 " tensors, %.2f bits per weight",
             human_bytes(report_u64(r, "weights_bytes"), a, sizeof a), report_u64(r, "tensors"),
             json_number_value(report_at(r, "bits_per_weight")));
    line("weights", text);
    uint64_t parts = report_u64(r, "parts");
    snprintf(text, sizeof text, "GGUF version %" PRIu64 ", %s%s", report_u64(r, "gguf_version"),
             human_bytes(report_u64(r, "file_bytes"), a, sizeof a),
             parts > 1 ? ", in several parts" : "");
    line("format", text);
}

static void print_geometry(const json_t *r)
{
    char text[200];
    snprintf(text, sizeof text,
             "%" PRIu64 " layers, width %" PRIu64 ", %" PRIu64 " heads (%" PRIu64
             " for keys) of %" PRIu64,
             report_u64(r, "geometry.n_layer"), report_u64(r, "geometry.n_embd"),
             report_u64(r, "geometry.n_head"), report_u64(r, "geometry.n_head_kv"),
             report_u64(r, "geometry.head_dim_k"));
    line("layers", text);
    snprintf(text, sizeof text, "%" PRIu64 " tokens", report_u64(r, "geometry.n_ctx_train"));
    line("context", text);
    uint64_t window = report_u64(r, "geometry.sliding_window");
    if (window) {
        snprintf(text, sizeof text, "%" PRIu64 " tokens", window);
        line("window", text);
    }
}

static void print_experts(const json_t *r)
{
    char a[32], text[200];
    const json_t *experts = report_at(r, "experts");
    if (!experts) {
        line("experts", "none: a dense model");
        return;
    }
    uint64_t shared = report_u64(experts, "shared"), width = report_u64(experts, "n_ff_shared");
    int n = snprintf(
        text, sizeof text, "%" PRIu64 " per layer of width %" PRIu64 ", %" PRIu64 " per token",
        report_u64(experts, "count"), report_u64(experts, "n_ff"), report_u64(experts, "used"));
    if (n > 0 && (shared || width))
        snprintf(text + n, sizeof text - (size_t)n, ", and a shared one for all");
    line("experts", text);
    line("router", report_text(experts, "router.rule"));
    const char *key;
    json_t *value;
    n = 0;
    text[0] = '\0';
    json_object_foreach(json_object_get(experts, "types"), key, value)
    {
        if (n >= 0 && (size_t)n < sizeof text)
            n += snprintf(text + n, sizeof text - (size_t)n, "%s%s %s", n ? "; " : "", key,
                          json_string_value(value));
    }
    line("expert types", text);
    snprintf(text, sizeof text, "%s, %.1f %% of the weights",
             human_bytes(report_u64(experts, "bytes"), a, sizeof a),
             100.0 * json_number_value(report_at(experts, "share_of_bytes")));
    line("expert bytes", text);
}

static void print_tokenizer(const json_t *r)
{
    char text[200];
    const char *model = report_text(r, "tokenizer.model"), *pre = report_text(r, "tokenizer.pre");
    if (!*model) {
        line("tokenizer", "none in the file");
        return;
    }
    snprintf(text, sizeof text, "%s%s%s, %" PRIu64 " tokens%s", model, *pre ? "/" : "", pre,
             report_u64(r, "tokenizer.tokens"),
             json_is_true(report_at(r, "tokenizer.chat_template")) ? ", chat template" : "");
    line("tokenizer", text);
}

static void print_types(const json_t *r)
{
    char a[32];
    size_t i;
    json_t *t;
    printf("\n%-10s %8s %12s\n", "type", "tensors", "size");
    json_array_foreach(report_at(r, "tensor_types"), i, t)
    {
        printf("%-10s %8" PRIu64 " %12s%s\n", report_text(t, "type"), report_u64(t, "tensors"),
               human_bytes(report_u64(t, "bytes"), a, sizeof a),
               json_is_true(json_object_get(t, "supported")) ? "" : "  not supported");
    }
}

static void print_memory(const json_t *r)
{
    char k[32], q[32], s[32], t[32];
    size_t i;
    json_t *m;
    const json_t *list = report_at(r, "memory");
    if (!list)
        return;
    printf("\n%-10s %12s %12s %12s %12s\n", "context", "KV f16", "KV q8_0", "scratch", "total f16");
    json_array_foreach(list, i, m)
    {
        printf("%-10" PRIu64 " %12s %12s %12s %12s\n", report_u64(m, "n_ctx"),
               human_bytes(report_u64(m, "kv_bytes.f16"), k, sizeof k),
               human_bytes(report_u64(m, "kv_bytes.q8_0"), q, sizeof q),
               human_bytes(report_u64(m, "scratch_bytes"), s, sizeof s),
               human_bytes(report_u64(m, "total_bytes"), t, sizeof t));
    }
}

static void print_metadata(json_t *r)
{
    const char *key;
    json_t *value;
    putchar('\n');
    json_object_foreach(json_object_get(r, "metadata"), key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        size_t n = strlen(key);
        safe_put(stdout, key, n);
        printf("%*s ", n < 42 ? (int)(42 - n) : 0, "");
        safe_put(stdout, text ? text : "", text ? strlen(text) : 0);
        putchar('\n');
        free(text);
    }
}

/* ---- the verb ----------------------------------------------------------------------------- */

static int info(const info_args *a, const char *path)
{
    uint32_t ctxs[64];
    size_t n = 0;
    for (; n < a->ctxs.n && n < 64; n++)
        ctxs[n] = (uint32_t)a->ctxs.v[n];
    char *json = NULL;
    npumoe_error err = {0};
    npumoe_status st = npumoe_describe_file(path, ctxs, n, &json, &err);
    if (st != NPUMOE_OK)
        return ui_fail(st, &err);
    if (a->json) {
        puts(json);
        npumoe_text_free(&json);
        return 0;
    }
    json_t *r = json_loads(json, JSON_ALLOW_NUL, NULL);
    npumoe_text_free(&json);
    if (!r) {
        ui_error("out of memory");
        return 1;
    }
    print_head(r);
    print_geometry(r);
    print_experts(r);
    print_tokenizer(r);
    print_types(r);
    print_memory(r);
    if (a->metadata)
        print_metadata(r);
    json_decref(r);
    return 0;
}

int cmd_info(int argc, char **argv)
{
    info_args a = {0};
    const cli_group groups[] = {
        {"Output", info_opts, &a},
        {"Model", model_file_opts, &a.model},
        {0},
    };
    const char *file = NULL;
    size_t n = 0;
    cli_parsed parsed = cli_parse(&help, groups, argc, argv, &file, 1, &n);
    int code = cli_exit_code(parsed);
    if (parsed == CLI_GO) {
        char buf[4400];
        if (file)
            a.model.path = file;
        const char *path = model_path(&a.model, buf, sizeof buf);
        code = path ? info(&a, path) : 1;
    }
    cli_numbers_free(&a.ctxs);
    return code;
}
