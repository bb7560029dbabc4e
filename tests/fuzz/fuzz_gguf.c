/* fuzz_gguf.c: any bytes as a GGUF file.
 *
 * What opens is walked: every value, every string byte, every tensor's first and last block decoded.
 * So a view that reaches out of the input shows under AddressSanitizer, and block decoders meet
 * arbitrary bits. */
#include "formats/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static volatile uint64_t sink; /* keeps the reads */

static void read_bytes(const void *p, uint64_t n)
{
    const unsigned char *c = p;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += c[i];
    sink += sum;
}

static void walk_array(const nm_gguf_array *arr)
{
    read_bytes(arr->data, arr->bytes);
    if (arr->kind == NM_GGUF_ARRAY)
        return;
    for (uint64_t i = 0; i < arr->count; i++) {
        if (arr->kind == NM_GGUF_STRING)
            read_bytes(arr->strings[i].p, arr->strings[i].n);
        else
            sink += (uint64_t)nm_gguf_arr_i64(arr, i) + (nm_gguf_arr_f32(arr, i) > 0);
    }
}

static void walk_key(const nm_gguf *g, const nm_gguf_kv *kv)
{
    char key[64];
    npumoe_error err;
    uint32_t u;
    float f;
    bool b;
    nm_str s;
    nm_gguf_array a;
    read_bytes(kv->key.p, kv->key.n);
    if (kv->kind == NM_GGUF_STRING)
        read_bytes(kv->v.str.p, kv->v.str.n);
    if (kv->kind == NM_GGUF_ARRAY)
        walk_array(&kv->v.arr);
    if (kv->key.n >= sizeof key)
        return;
    memcpy(key, kv->key.p, kv->key.n);
    key[kv->key.n] = '\0';
    /* Each of these either fits or explains itself. */
    sink +=
        (uint64_t)nm_gguf_get_u32(g, key, &u, &err) + (uint64_t)nm_gguf_get_f32(g, key, &f, &err) +
        (uint64_t)nm_gguf_get_bool(g, key, &b, &err) + (uint64_t)nm_gguf_get_str(g, key, &s, &err) +
        (uint64_t)nm_gguf_get_arr(g, key, NM_GGUF_I64, &a, &err);
}

static void walk_tensor(const nm_gguf_tensor *t)
{
    const nm_type_traits *traits = nm_type_get(t->type);
    float out[256];
    read_bytes(t->name.p, t->name.n);
    read_bytes(t->data, t->bytes < 4096 ? t->bytes : 4096);
    const unsigned char *last = (const unsigned char *)t->data + t->bytes - traits->block_bytes;
    read_bytes(last, traits->block_bytes);
    if (!traits->decode)
        return;
    traits->decode(t->data, out, traits->block_elems);
    traits->decode(last, out, traits->block_elems);
    sink += out[0] > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    nm_gguf *g = NULL;
    npumoe_error err;
    if (nm_gguf_open_memory(data, bytes, "fuzz", NULL, &g, &err) != NPUMOE_OK)
        return 0;
    for (size_t i = 0; i < nm_gguf_n_kv(g); i++)
        walk_key(g, nm_gguf_kv_at(g, i));
    for (size_t i = 0; i < nm_gguf_n_tensors(g); i++)
        walk_tensor(nm_gguf_tensor_at(g, i));
    nm_gguf_free(&g);
    return 0;
}
