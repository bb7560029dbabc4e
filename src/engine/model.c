/* model.c: loading a GGUF file into a model; see model.h.
 *
 * Order: map and check the file, read the configuration, ask whether it fits, tokenizer, bind the
 * weights, then kernels and threads. Nothing before the last step costs more than the header. */
#include "engine/model.h"

#include "base/abi.h"
#include "engine/buffers.h"
#include "engine/kv.h"
#include "engine/memory.h"
#include "engine/precision.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

npumoe_model_options npumoe_model_options_default(void)
{
    return (npumoe_model_options){.struct_bytes = sizeof(npumoe_model_options)};
}

const npumoe_allocator *nm_model_allocator(const npumoe_model *model)
{
    return model->allocator;
}

NM_PRINTF(3, 4)
static void log_line(const npumoe_model_options *o, npumoe_log_level level, const char *fmt, ...)
{
    if (o->log == NULL)
        return;
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    o->log(o->log_user, level, line);
}

static npumoe_status report(const npumoe_model_options *o, uint64_t done, uint64_t total,
                            npumoe_error *err)
{
    if (o->progress == NULL || o->progress(o->progress_user, done, total))
        return NPUMOE_OK;
    return nm_err_set(err, NPUMOE_ECANCELED, "loading was cancelled");
}

/* ---- does it fit ---------------------------------------------------------------------------- */

static uint64_t tensor_bytes(const nm_gguf *g)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < nm_gguf_n_tensors(g); i++)
        sum += nm_gguf_tensor_at(g, i)->bytes; /* each lies in a file: no overflow */
    return sum;
}

npumoe_status nm_model_check_memory(npumoe_model *m, uint64_t kv_bytes, uint64_t scratch_bytes,
                                    npumoe_error *err)
{
    const nm_memory have = nm_memory_read(m->memory_limit_bytes);
    const nm_memory_need need = {.weights_bytes = tensor_bytes(m->gguf),
                                 .kv_bytes = kv_bytes,
                                 .scratch_bytes = scratch_bytes,
                                 .others_bytes = atomic_load(&m->session_bytes)};
    return nm_memory_check_session(&have, &need, err);
}

/* With the smallest session that is of any use; a larger one is asked about when it is made. */
static npumoe_status check_fit(npumoe_model *m, int n_threads, npumoe_error *err)
{
    const nm_config *c = &m->config;
    const uint32_t n_ctx = c->n_ctx_train < NM_LEAST_CTX ? c->n_ctx_train : NM_LEAST_CTX;
    nm_buffers b;
    nm_memory_need need = {.weights_bytes = tensor_bytes(m->gguf)};
    NM_TRY(nm_kv_bytes(c, n_ctx, NM_TYPE_F16, NM_TYPE_F16, &need.kv_bytes, err));
    need.scratch_bytes = nm_buffers_plan(&b, c, n_ctx, n_threads, false, NULL);
    need.scratch_bytes += (uint64_t)n_ctx * sizeof(npumoe_token) + c->n_vocab * sizeof(float);
    const nm_memory have = nm_memory_read(m->memory_limit_bytes);
    return nm_memory_check_load(&have, &need, err);
}

/* ---- optional extras ------------------------------------------------------------------------ */

/* Best effort: a limit on locked memory is no reason to fail. */
static void lock_weights(const npumoe_model *m, const npumoe_model_options *o)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < nm_gguf_n_tensors(m->gguf); i++) {
        const nm_gguf_tensor *t = nm_gguf_tensor_at(m->gguf, i);
        uintptr_t at = (uintptr_t)t->data & ~(page - 1);
        if (mlock((const void *)at, (size_t)((uintptr_t)t->data + t->bytes - at)) != 0) {
            log_line(o, NPUMOE_LOG_WARN, "mlock of tensor '%.*s' failed: %s; see ulimit -l",
                     NM_STR_ARG(t->name), strerror(errno));
            return;
        }
    }
}

static npumoe_status check_tensor(const nm_gguf_tensor *t, float *row, npumoe_error *err)
{
    const nm_type_traits *tr = nm_type_get(t->type);
    uint64_t row_bytes, n_rows = t->ne[1] * t->ne[2] * t->ne[3];
    if (!nm_row_bytes(t->type, t->ne[0], &row_bytes))
        return nm_err_set(err, NPUMOE_EINTERNAL, "tensor '%.*s': bad row", NM_STR_ARG(t->name));
    for (uint64_t r = 0; r < n_rows; r++) {
        tr->decode((const char *)t->data + r * row_bytes, row, (size_t)t->ne[0]);
        for (uint64_t i = 0; i < t->ne[0]; i++) {
            if (!isfinite(row[i]))
                return nm_err_at(err, NPUMOE_EMODEL, t->offset + r * row_bytes,
                                 "tensor '%.*s': element [%" PRIu64 ", %" PRIu64
                                 "] is %g, expected a finite number",
                                 NM_STR_ARG(t->name), i, r, (double)row[i]);
        }
    }
    return NPUMOE_OK;
}

/* Reads every weight once. */
static npumoe_status scan_weights(const npumoe_model *m, const npumoe_model_options *o,
                                  npumoe_error *err)
{
    uint64_t widest = 1, done = 0;
    const size_t n = nm_gguf_n_tensors(m->gguf);
    for (size_t i = 0; i < n; i++) {
        uint64_t cols = nm_gguf_tensor_at(m->gguf, i)->ne[0];
        widest = cols > widest ? cols : widest;
    }
    float *row = nm_alloc_array(m->allocator, (size_t)widest, sizeof *row);
    if (row == NULL)
        return nm_err_nomem(err, widest * sizeof *row, "a row of weights");
    npumoe_status st = NPUMOE_OK;
    for (size_t i = 0; i < n && st == NPUMOE_OK; i++) {
        const nm_gguf_tensor *t = nm_gguf_tensor_at(m->gguf, i);
        st = check_tensor(t, row, err);
        done += t->bytes;
        if (st == NPUMOE_OK)
            st = report(o, done, m->weights.weights_bytes, err);
    }
    nm_free(m->allocator, row);
    return st;
}

/* ---- loading -------------------------------------------------------------------------------- */

static npumoe_status load_weights(npumoe_model *m, const npumoe_model_options *o, npumoe_error *err)
{
    NM_TRY(nm_weights_init(&m->weights, m->gguf, &m->config, m->allocator, err));
    if (o->check_tensors)
        NM_TRY(scan_weights(m, o, err));
    if (o->use_mlock)
        lock_weights(m, o);
    return NPUMOE_OK;
}

static npumoe_status load_tokenizer(npumoe_model *m, const npumoe_model_options *o,
                                    npumoe_error *err)
{
    if (nm_gguf_find(m->gguf, "tokenizer.ggml.model") == NULL) {
        log_line(o, NPUMOE_LOG_WARN, "the file holds no tokenizer; only token numbers can be used");
        return NPUMOE_OK;
    }
    return nm_tokenizer_new(m->gguf, m->allocator, &m->tokenizer, err);
}

/* The tokenizer's list is what counts, here and in llama.cpp; that a file says something else is
 * worth a word. */
static void compare_vocab_size(const npumoe_model *m, const npumoe_model_options *o)
{
    char key[128];
    uint32_t stated;
    snprintf(key, sizeof key, "%s.vocab_size", m->config.family->arch);
    if (nm_gguf_u32_or(m->gguf, key, m->config.n_vocab, &stated, NULL) != NPUMOE_OK ||
        stated != m->config.n_vocab)
        log_line(o, NPUMOE_LOG_WARN,
                 "key %s is not the size of the vocabulary, %" PRIu32 ", and is ignored", key,
                 m->config.n_vocab);
}

/* A tokenizer needs no geometry: with vocab_only a file of an architecture that cannot be run, or
 * that states none of its sizes, is as good as any. What is not known is 0. */
static npumoe_status load_config(npumoe_model *m, npumoe_error *err)
{
    npumoe_status st = nm_config_init(&m->config, m->gguf, m->allocator, err);
    bool vocab_will_do = m->vocab_only && (st == NPUMOE_EUNSUPPORTED || st == NPUMOE_EMODEL);
    if (st != NPUMOE_OK && !vocab_will_do)
        return st;
    nm_str arch;
    NM_TRY(nm_gguf_str_or(m->gguf, "general.architecture", "", &arch, err));
    if (st != NPUMOE_OK)
        NM_TRY(nm_gguf_str_or(m->gguf, "general.name", "", &m->config.name, err));
    m->architecture = nm_strndup(m->allocator, arch.p, arch.n);
    m->name = nm_strndup(m->allocator, m->config.name.p, m->config.name.n);
    if (m->architecture == NULL || m->name == NULL)
        return nm_err_nomem(err, arch.n + m->config.name.n + 2, "the model's names");
    return NPUMOE_OK;
}

static npumoe_status load_into(npumoe_model *m, const char *path, const npumoe_model_options *o,
                               npumoe_error *err)
{
    const nm_gguf_options go = {.allocator = m->allocator};
    const nm_cpu cpu = nm_cpu_detect();
    if (o->n_threads < 0 || o->n_threads > NM_POOL_MAX_THREADS)
        return nm_err_set(err, NPUMOE_EINVAL, "n_threads: found %d, expected 0..%d",
                          (int)o->n_threads, NM_POOL_MAX_THREADS);
    const int n_threads = o->n_threads > 0 ? o->n_threads : nm_pool_default_threads();
    NM_TRY(nm_kern_init(&m->kern, &cpu, o->isa, err));
    NM_TRY(nm_precision_read(o->precision, &m->precision, err));
    NM_TRY(nm_gguf_open(path, &go, &m->gguf, err));
    NM_TRY(load_config(m, err));
    m->precision = nm_precision_of_family(m->precision, m->config.family);
    if (m->config.family)
        compare_vocab_size(m, o);
    if (!m->vocab_only)
        NM_TRY(check_fit(m, n_threads, err));
    NM_TRY(load_tokenizer(m, o, err));
    if (m->config.family == NULL && m->tokenizer)
        m->config.n_vocab = nm_tokenizer_n_vocab(m->tokenizer);
    if (!m->vocab_only)
        NM_TRY(load_weights(m, o, err));
    NM_TRY(nm_pool_new(m->allocator, n_threads, &m->pool, err));
    return report(o, 1, 1, err);
}

/* Error-checking: a callback of a running evaluation that evaluates again is told so, where a plain
 * mutex would wait for itself forever. */
static npumoe_status make_lock(npumoe_model *m, npumoe_error *err)
{
    pthread_mutexattr_t attr;
    if (pthread_mutexattr_init(&attr) != 0)
        return nm_err_set(err, NPUMOE_ENOMEM, "no resources for a mutex");
    m->has_lock = pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK) == 0 &&
                  pthread_mutex_init(&m->lock, &attr) == 0;
    pthread_mutexattr_destroy(&attr);
    return m->has_lock ? NPUMOE_OK : nm_err_set(err, NPUMOE_ENOMEM, "no resources for a mutex");
}

/* Messages of formats/ begin with the file, those of model/ do not. */
static bool names_file(const npumoe_model *m, const npumoe_error *err)
{
    const char *label = nm_gguf_label(nm_gguf_path(m->gguf));
    const size_t n = strlen(label);
    return err && strncmp(err->message, label, n) == 0 && err->message[n] == ':';
}

npumoe_status npumoe_model_load(const char *path, const npumoe_model_options *options,
                                npumoe_model **out, npumoe_error *err)
{
    if (path == NULL || out == NULL)
        return nm_err_set(err, NPUMOE_EINVAL, "npumoe_model_load: path and out must not be NULL");
    npumoe_model_options opt = npumoe_model_options_default();
    NM_TRY(nm_abi_read(&opt, sizeof opt, options, "npumoe_model_options", err));
    const npumoe_model_options *o = &opt;
    const npumoe_allocator *a = nm_allocator_or_default(o->allocator);
    npumoe_model *m = nm_zalloc(a, sizeof *m);
    if (m == NULL)
        return nm_err_nomem(err, sizeof *m, "a model");
    m->allocator = a;
    m->memory_limit_bytes = o->memory_limit_bytes;
    m->vocab_only = o->vocab_only;
    npumoe_status st = make_lock(m, err);
    if (st == NPUMOE_OK) {
        st = load_into(m, path, o, err);
        if (m->gguf && st != NPUMOE_ENOMEM && st != NPUMOE_ECANCELED && !names_file(m, err))
            nm_err_prefix(err, st, "%s", path);
    }
    if (st != NPUMOE_OK) {
        npumoe_model_free(&m);
        return st;
    }
    if (err) /* the search for optional keys may have left words here */
        *err = (npumoe_error){.code = NPUMOE_OK, .offset = NPUMOE_NO_OFFSET};
    log_line(o, NPUMOE_LOG_INFO, "%s: %s, %" PRIu32 " layers, %.2f GiB, kernels %s, %d threads",
             path, m->config.family ? m->config.family->title : m->architecture, m->config.n_layer,
             (double)m->weights.weights_bytes / 1073741824.0, m->kern.isa, nm_pool_size(m->pool));
    *out = m;
    return NPUMOE_OK;
}

void npumoe_model_free(npumoe_model **model)
{
    if (model == NULL || *model == NULL)
        return;
    npumoe_model *m = *model;
    nm_placement_free(m->allocator, &m->placement);
    nm_routes_free(&m->routes);
    nm_pool_free(&m->pool);
    nm_weights_fini(&m->weights);
    nm_tokenizer_free(&m->tokenizer);
    nm_config_fini(&m->config);
    nm_gguf_free(&m->gguf);
    if (m->name)
        nm_free(m->allocator, m->name);
    if (m->architecture)
        nm_free(m->allocator, m->architecture);
    if (m->has_lock)
        pthread_mutex_destroy(&m->lock);
    nm_free(m->allocator, m);
    *model = NULL;
}

/* ---- reports -------------------------------------------------------------------------------- */

void npumoe_model_get_info(const npumoe_model *model, npumoe_model_info *info)
{
    const nm_config *c = &model->config;
    const npumoe_model_info all = {
        .struct_bytes = sizeof *info,
        .architecture = model->architecture,
        .name = model->name,
        .isa = model->kern.isa,
        .n_threads = nm_pool_size(model->pool),
        .n_vocab = (int32_t)c->n_vocab,
        .n_layer = (int32_t)c->n_layer,
        .n_embd = (int32_t)c->n_embd,
        .n_head = (int32_t)c->n_head,
        .n_head_kv = (int32_t)c->n_head_kv,
        .head_dim = (int32_t)c->dim_k,
        .n_expert = (int32_t)c->n_expert,
        .n_expert_used = (int32_t)c->n_expert_used,
        .n_ff_expert = (int32_t)c->n_ff_expert,
        .n_ctx_train = c->n_ctx_train,
        .n_params = model->weights.n_params,
        .n_params_active = model->weights.n_params_active,
        .weights_bytes = model->weights.weights_bytes,
        .mapped_bytes = nm_gguf_mapped_bytes(model->gguf),
    };
    nm_abi_write(info, &all, sizeof all);
}

const char *npumoe_supported_architecture(size_t index)
{
    const nm_family *f = nm_family_at(index);
    return f ? f->arch : NULL;
}
