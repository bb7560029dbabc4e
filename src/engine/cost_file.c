/* cost_file.c: see cost_file.h. */
#include "engine/cost_file.h"

#include "moe/fields.h"

#include <string.h>

#define MACHINE "npumoe-cost-table"
#define WORK    "work"

/* Whoever writes more into one file does not do it to make plans. */
enum { MACHINE_VERSION = 1, MOST_WORK = 1024 };

static bool is_machine(const json_t *root)
{
    const char *schema = json_string_value(json_object_get(root, "schema"));
    return schema && strcmp(schema, MACHINE) == 0;
}

static npumoe_status read_work(const json_t *root, nm_cost *out, npumoe_error *err)
{
    const npumoe_status st = nm_cost_from_json(root, out, err);
    if (st != NPUMOE_OK)
        nm_err_prefix(err, st, "cost table");
    return st;
}

/* The list; n = 0 where there is none yet. */
static npumoe_status work_of(const json_t *machine, nm_fields *list, size_t *n, npumoe_error *err)
{
    const nm_fields f = nm_fields_root(machine, err);
    npumoe_status st = nm_fields_schema(&f, MACHINE, MACHINE_VERSION);
    *n = 0;
    if (st == NPUMOE_OK && json_object_get(machine, WORK))
        st = nm_fields_array(&f, WORK, MOST_WORK, list, n);
    if (st != NPUMOE_OK)
        nm_err_prefix(err, st, "cost table");
    return st;
}

/* ---- reading ------------------------------------------------------------------------------------ */

/* Of an error's own beginning, which is this one's, too. */
static const char *reason(const npumoe_error *err)
{
    static const char begin[] = "cost table: ";
    const size_t n = sizeof begin - 1;
    return strncmp(err->message, begin, n) == 0 ? err->message + n : err->message;
}

/* From the last one to the first. A table that cannot be read ends it: somebody should know. */
static npumoe_status pick_work(const json_t *machine, nm_cost_serves_fn serves, const void *user,
                               json_t **root, nm_cost *out, npumoe_error *err)
{
    nm_fields list;
    size_t n;
    npumoe_error why = {0}, other;
    NM_TRY(work_of(machine, &list, &n, err));
    for (size_t i = n; i > 0; i--) {
        json_t *const table = json_array_get(list.json, i - 1);
        NM_TRY(read_work(table, out, err));
        if (serves(user, out, i == n ? &why : &other) == NPUMOE_OK) {
            *root = json_incref(table);
            return NPUMOE_OK;
        }
    }
    if (n == 0)
        return nm_err_set(err, NPUMOE_EMODEL,
                          "cost table: it says what the machine can do, and has no costs of a "
                          "model's work; npumoe plan PROFILE --save-cost FILE measures and adds "
                          "them");
    return nm_err_set(err, NPUMOE_EMODEL,
                      "cost table: none of its %zu under \"work\" serves here; the newest: %s", n,
                      reason(&why));
}

npumoe_status nm_cost_file_pick(const char *text, size_t bytes, nm_cost_serves_fn serves,
                                const void *user, json_t **root, nm_cost *out, npumoe_error *err)
{
    json_t *file = NULL;
    *root = NULL;
    NM_TRY(nm_fields_parse(text, bytes, "cost table", &file, err));
    npumoe_status st;
    if (is_machine(file)) {
        st = pick_work(file, serves, user, root, out, err);
        json_decref(file);
        return st;
    }
    st = read_work(file, out, err);
    if (st == NPUMOE_OK)
        st = serves(user, out, err);
    if (st == NPUMOE_OK)
        *root = file;
    else
        json_decref(file);
    return st;
}

/* ---- adding ------------------------------------------------------------------------------------- */

static bool are_equal(const json_t *a, const json_t *b, const char *key)
{
    const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);
    return x == y || json_equal(x, y);
}

/* Of the same work by the same settings: the newer one takes the older one's place. */
static bool replaces(const json_t *a, const json_t *b)
{
    static const char *const own[] = {"geometry", "isa", "precision", "host_threads", "chunk"};
    static const char *const device[] = {"name", "weights", "arithmetic", "threads"};
    const json_t *d = json_object_get(a, "device"), *e = json_object_get(b, "device");
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (!are_equal(a, b, own[i]))
            return false;
    for (size_t i = 0; i < sizeof device / sizeof device[0]; i++)
        if (!are_equal(d, e, device[i]))
            return false;
    return true;
}

/* What the list is to be; NULL = out of memory. */
static json_t *with_work(const json_t *list, json_t *work)
{
    json_t *out = json_array(), *old;
    size_t i;
    json_array_foreach(list, i, old)
    {
        if (!replaces(old, work))
            json_array_append(out, old);
    }
    json_array_append(out, work);
    return out;
}

static npumoe_status add(json_t *machine, json_t *work, npumoe_error *err)
{
    nm_fields list = {0};
    size_t n;
    nm_cost cost;
    if (!is_machine(machine))
        return nm_err_set(err, NPUMOE_EFORMAT,
                          "cost table: schema: expected \"" MACHINE "\", of npumoe probe");
    NM_TRY(work_of(machine, &list, &n, err));
    NM_TRY(read_work(work, &cost, err));
    json_t *all = with_work(list.json, work);
    if (json_array_size(all) > MOST_WORK) {
        json_decref(all);
        return nm_err_set(err, NPUMOE_ETOOBIG,
                          "cost table: it has %d of models' work; begin a new file", MOST_WORK);
    }
    return json_object_set_new(machine, WORK, all) == 0
               ? NPUMOE_OK
               : nm_err_set(err, NPUMOE_ENOMEM, "cost table: out of memory");
}

npumoe_status npumoe_cost_table_add(const char *table, size_t table_bytes, const char *work,
                                    size_t work_bytes, char **json, npumoe_error *err)
{
    json_t *machine = NULL, *cost = NULL;
    *json = NULL;
    npumoe_status st = nm_fields_parse(table, table_bytes, "cost table", &machine, err);
    if (st == NPUMOE_OK)
        st = nm_fields_parse(work, work_bytes, "cost table", &cost, err);
    if (st == NPUMOE_OK)
        st = add(machine, cost, err);
    if (st == NPUMOE_OK)
        st = nm_fields_print(machine, json, err);
    json_decref(machine);
    json_decref(cost);
    return st;
}
