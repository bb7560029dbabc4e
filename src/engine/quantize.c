/* quantize.c: one GGUF file in, the same model in other types out.
 *
 * Owns: the walk over the tensors, in batches, on all threads. Must never know: how a block is
 * encoded (quant/) or which tensor gets which type (quant_mix.c).
 *
 * A tensor is a flat run of elements here: rows are whole blocks, and blocks are encoded one by one,
 * so nothing depends on where rows or batches end. A batch is cut into slices; a thread decodes a
 * slice, encodes it into its place in the batch's buffer and decodes that again. The second decode
 * costs little and answers what a user asks of a quantised file: how large is the error, and has
 * anything become infinite on the way. Memory is one batch, whatever the size of the model: the
 * input is mapped, the output streamed.
 *
 * Decisions that can fail (types, permission to requantise) are all taken before a byte is written. */
#include "base/abi.h"
#include "base/file.h"
#include "base/num.h"
#include "base/threads.h"
#include "engine/quant_mix.h"
#include "formats/gguf_write.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    SLICE = 8192,       /* elements; a multiple of every block */
    BATCH_SLICES = 256, /* 2 Mi elements */
    QUANTIZATION_VERSION = 2,
};

#define BATCH_ELEMS ((uint64_t)SLICE * BATCH_SLICES)
#define NONE        UINT64_MAX

typedef struct slice_result {
    double error, square; /* sums of (x - y)^2 and x^2 */
    uint64_t bad;         /* first element that is not finite before or after, or NONE */
} slice_result;

/* What the threads share while they encode one batch. */
typedef struct batch {
    nm_pool *pool;
    const nm_type_traits *from, *to;
    const unsigned char *in;
    unsigned char *out;
    uint64_t n;     /* elements */
    float *scratch; /* 2 * SLICE per thread */
    slice_result results[BATCH_SLICES];
} batch;

typedef struct job {
    npumoe_quantize_options opt;
    const npumoe_allocator *a;
    const nm_mix *mix;
    const char *in_path;
    nm_gguf *in;
    nm_gguf_writer *w; /* NULL for a dry run */
    uint32_t *types;
    batch batch;
    uint64_t done, total; /* bytes of input */
    uint64_t out_bytes, n_elems;
} job;

npumoe_quantize_options npumoe_quantize_options_default(void)
{
    return (npumoe_quantize_options){.struct_bytes = sizeof(npumoe_quantize_options),
                                     .type = "Q4_K_M"};
}

NM_PRINTF(3, 4)
static void log_line(const job *j, npumoe_log_level level, const char *fmt, ...)
{
    char line[400];
    va_list ap;
    if (!j->opt.log)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    j->opt.log(j->opt.log_user, level, line);
}

static npumoe_status advance(job *j, uint64_t bytes, npumoe_error *err)
{
    j->done += bytes;
    if (j->opt.progress && !j->opt.progress(j->opt.progress_user, j->done, j->total))
        return nm_err_set(err, NPUMOE_ECANCELED, "quantising %s was cancelled", j->in_path);
    return NPUMOE_OK;
}

static uint64_t elems(const nm_gguf_tensor *t)
{
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; /* fits: the reader saw to that */
}

static uint64_t bytes_as(const nm_gguf_tensor *t, uint32_t type)
{
    const nm_type_traits *traits = nm_type_get(type);
    return elems(t) / traits->block_elems * traits->block_bytes;
}

/* ---- one batch ----------------------------------------------------------------------------- */

static void encode_slice(batch *b, size_t i, float *x)
{
    uint64_t first = i * (uint64_t)SLICE;
    size_t n = (size_t)(b->n - first < SLICE ? b->n - first : SLICE);
    float *y = x + SLICE;
    unsigned char *dst = b->out + first / b->to->block_elems * b->to->block_bytes;
    b->from->decode(b->in + first / b->from->block_elems * b->from->block_bytes, x, n);
    b->to->encode(x, dst, n, NULL);
    b->to->decode(dst, y, n);
    slice_result r = {.bad = NONE};
    for (size_t k = 0; k < n; k++) {
        double d = (double)x[k] - (double)y[k];
        r.error += d * d;
        r.square += (double)x[k] * (double)x[k];
        if (r.bad == NONE && !(isfinite(x[k]) && isfinite(y[k])))
            r.bad = first + k;
    }
    b->results[i] = r;
}

static void encode_slices(void *arg, int thread, int n_threads)
{
    batch *b = arg;
    size_t n_slices = (size_t)((b->n + SLICE - 1) / SLICE);
    (void)n_threads;
    for (size_t i; (i = nm_pool_next(b->pool)) < n_slices;)
        encode_slice(b, i, b->scratch + (size_t)thread * 2 * SLICE);
}

/* Slices are added up in their order, so the log does not depend on the threads. */
static slice_result encode_batch(batch *b)
{
    slice_result sum = {.bad = NONE};
    nm_pool_run(b->pool, encode_slices, b);
    for (uint64_t i = 0; i * SLICE < b->n; i++) {
        sum.error += b->results[i].error;
        sum.square += b->results[i].square;
        if (sum.bad == NONE)
            sum.bad = b->results[i].bad;
    }
    return sum;
}

/* ---- one tensor ---------------------------------------------------------------------------- */

static npumoe_status not_finite(const job *j, const nm_gguf_tensor *t, uint32_t type, uint64_t at,
                                uint64_t in_batch, npumoe_error *err)
{
    float block[256];
    const nm_type_traits *from = nm_type_get(t->type);
    uint64_t b = in_batch / from->block_elems;
    from->decode(j->batch.in + b * from->block_bytes, block, from->block_elems);
    return nm_err_set(err, NPUMOE_EMODEL,
                      "%s: tensor '%.*s': element %" PRIu64 " is %g, which cannot be stored as %s",
                      j->in_path, NM_STR_ARG(t->name), at,
                      (double)block[in_batch % from->block_elems], nm_type_get(type)->name);
}

static npumoe_status convert(job *j, const nm_gguf_tensor *t, uint32_t type, double *error,
                             npumoe_error *err)
{
    batch *b = &j->batch;
    double error_sum = 0, square_sum = 0;
    b->from = nm_type_get(t->type);
    b->to = nm_type_get(type);
    for (uint64_t at = 0, n = elems(t); at < n; at += b->n) {
        b->n = n - at < BATCH_ELEMS ? n - at : BATCH_ELEMS;
        b->in = (const unsigned char *)t->data + at / b->from->block_elems * b->from->block_bytes;
        slice_result r = encode_batch(b);
        if (r.bad != NONE)
            return not_finite(j, t, type, at + r.bad, r.bad, err);
        error_sum += r.error;
        square_sum += r.square;
        NM_TRY(nm_gguf_write_data(j->w, b->out,
                                  (size_t)(b->n / b->to->block_elems * b->to->block_bytes), err));
        NM_TRY(advance(j, b->n / b->from->block_elems * b->from->block_bytes, err));
    }
    *error = square_sum > 0 ? sqrt(error_sum / square_sum) : 0;
    return NPUMOE_OK;
}

static npumoe_status copy(job *j, const nm_gguf_tensor *t, npumoe_error *err)
{
    const uint64_t step = BATCH_ELEMS;
    for (uint64_t at = 0; at < t->bytes; at += step) {
        uint64_t n = t->bytes - at < step ? t->bytes - at : step;
        NM_TRY(nm_gguf_write_data(j->w, (const unsigned char *)t->data + at, (size_t)n, err));
        NM_TRY(advance(j, n, err));
    }
    return NPUMOE_OK;
}

static void log_tensor(const job *j, size_t i, double error)
{
    const nm_gguf_tensor *t = nm_gguf_tensor_at(j->in, i);
    const double mib = 1048576;
    char shape[100], what[100] = "";
    int n = 0;
    for (uint32_t d = 0; d < t->n_dims; d++)
        n += snprintf(shape + n, sizeof shape - (size_t)n, "%s%" PRIu64, d ? " x " : "", t->ne[d]);
    if (j->types[i] != t->type)
        n = snprintf(what, sizeof what, " -> %-6s %9.2f MiB", nm_type_get(j->types[i])->name,
                     (double)bytes_as(t, j->types[i]) / mib);
    if (j->types[i] != t->type && j->w)
        snprintf(what + n, sizeof what - (size_t)n, "  rms error %.2f %%", 100 * error);
    log_line(j, NPUMOE_LOG_INFO, "[%4zu/%4zu] %-36.*s %-20s %-6s %9.2f MiB%s", i + 1,
             nm_gguf_n_tensors(j->in), NM_STR_ARG(t->name), shape, nm_type_get(t->type)->name,
             (double)t->bytes / mib, what);
}

static npumoe_status write_tensor(job *j, size_t i, npumoe_error *err)
{
    const nm_gguf_tensor *t = nm_gguf_tensor_at(j->in, i);
    double error = 0;
    j->out_bytes += bytes_as(t, j->types[i]);
    j->n_elems += elems(t);
    if (!j->w)
        NM_TRY(advance(j, t->bytes, err));
    else if (j->types[i] == t->type)
        NM_TRY(copy(j, t, err));
    else
        NM_TRY(convert(j, t, j->types[i], &error, err));
    log_tensor(j, i, error);
    return NPUMOE_OK;
}

/* ---- the file ------------------------------------------------------------------------------ */

static npumoe_status find_mix(job *j, npumoe_error *err)
{
    char names[256] = "";
    size_t n = 0;
    const char *name;
    j->mix = nm_mix_by_name(j->opt.type);
    if (j->mix)
        return NPUMOE_OK;
    for (size_t i = 0; (name = nm_mix_name(i)) && n < sizeof names - 1; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? " " : "", name);
    return nm_err_set(err, NPUMOE_EINVAL, "quantize: no type '%.40s'; there are %s", j->opt.type,
                      names);
}

static npumoe_status check_tensor(const job *j, size_t i, npumoe_error *err)
{
    const nm_gguf_tensor *t = nm_gguf_tensor_at(j->in, i);
    const nm_type_traits *from = nm_type_get(t->type);
    if (j->types[i] == t->type)
        return NPUMOE_OK;
    if (!from->supported || !from->decode)
        return nm_err_set(err, NPUMOE_EUNSUPPORTED,
                          "%s: tensor '%.*s' has type %s, which cannot be decoded", j->in_path,
                          NM_STR_ARG(t->name), from->name);
    if (from->block_elems > 1 && !j->opt.allow_requantize)
        return nm_err_set(
            err, NPUMOE_EINVAL,
            "%s: tensor '%.*s' is quantised already (%s); quantising again loses more "
            "than quantising the original, and must be allowed explicitly",
            j->in_path, NM_STR_ARG(t->name), from->name);
    return NPUMOE_OK;
}

static npumoe_status plan(job *j, npumoe_error *err)
{
    size_t n = nm_gguf_n_tensors(j->in);
    j->types = nm_alloc_array(j->a, n, sizeof *j->types);
    if (!j->types)
        return nm_err_nomem(err, n * sizeof *j->types, "a quantisation plan");
    NM_TRY(nm_mix_plan(j->in, j->mix, j->opt.pure, j->a, j->types, err));
    for (size_t i = 0; i < n; i++) {
        NM_TRY(check_tensor(j, i, err));
        j->total += nm_gguf_tensor_at(j->in, i)->bytes;
    }
    return NPUMOE_OK;
}

static npumoe_status check_paths(const job *j, const char *out_path, npumoe_error *err)
{
    for (uint32_t i = 0; i < nm_gguf_n_parts(j->in); i++)
        if (nm_file_same(nm_gguf_part_path(j->in, i), out_path))
            return nm_err_set(err, NPUMOE_EINVAL,
                              "quantize: '%s' is the input; give the output another name",
                              out_path);
    return NPUMOE_OK;
}

static bool is_rewritten(nm_str key)
{
    static const char *const keys[] = {"general.file_type", "general.quantization_version",
                                       "split.no", "split.count", "split.tensors.count"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (nm_str_eqz(key, keys[i]))
            return true;
    return false;
}

static npumoe_status write_header(job *j, npumoe_error *err)
{
    for (size_t i = 0; i < nm_gguf_n_kv(j->in); i++)
        if (!is_rewritten(nm_gguf_kv_at(j->in, i)->key))
            NM_TRY(nm_gguf_put_copy(j->w, nm_gguf_kv_at(j->in, i), err));
    NM_TRY(nm_gguf_put_u32(j->w, "general.quantization_version", QUANTIZATION_VERSION, err));
    NM_TRY(nm_gguf_put_u32(j->w, "general.file_type", nm_mix_file_type(j->mix), err));
    for (size_t i = 0; i < nm_gguf_n_tensors(j->in); i++) {
        const nm_gguf_tensor *t = nm_gguf_tensor_at(j->in, i);
        char name[64] = "";
        memcpy(name, t->name.p, nm_min_size(t->name.n, sizeof name - 1));
        NM_TRY(nm_gguf_put_tensor(j->w, name, j->types[i], t->n_dims, t->ne, err));
    }
    return nm_gguf_begin_data(j->w, err);
}

static npumoe_status start_threads(job *j, npumoe_error *err)
{
    int n = j->opt.n_threads > 0 ? j->opt.n_threads : nm_pool_default_threads();
    size_t scratch = (size_t)n * 2 * SLICE, out = (size_t)BATCH_ELEMS * sizeof(float);
    NM_TRY(nm_pool_new(j->a, n, &j->batch.pool, err));
    j->batch.scratch = nm_alloc_aligned(j->a, scratch * sizeof(float));
    j->batch.out = nm_alloc_aligned(j->a, out);
    if (!j->batch.scratch || !j->batch.out)
        return nm_err_nomem(err, scratch * sizeof(float) + out, "quantisation buffers");
    return NPUMOE_OK;
}

static void log_total(const job *j)
{
    const double mib = 1048576, n = j->n_elems ? (double)j->n_elems : 1;
    log_line(j, NPUMOE_LOG_INFO, "%.2f MiB (%.2f bits per weight) -> %.2f MiB (%.2f) as %s",
             (double)j->total / mib, 8 * (double)j->total / n, (double)j->out_bytes / mib,
             8 * (double)j->out_bytes / n, j->opt.type);
}

static npumoe_status run(job *j, const char *out_path, npumoe_error *err)
{
    nm_gguf_options gguf = {.allocator = j->a};
    NM_TRY(find_mix(j, err));
    NM_TRY(nm_gguf_open(j->in_path, &gguf, &j->in, err));
    NM_TRY(plan(j, err));
    if (!j->opt.dry_run) {
        NM_TRY(check_paths(j, out_path, err));
        NM_TRY(start_threads(j, err));
        NM_TRY(nm_gguf_writer_new(j->a, out_path, &j->w, err));
        NM_TRY(write_header(j, err));
    }
    for (size_t i = 0; i < nm_gguf_n_tensors(j->in); i++)
        NM_TRY(write_tensor(j, i, err));
    if (j->w)
        NM_TRY(nm_gguf_writer_finish(j->w, err));
    log_total(j);
    return NPUMOE_OK;
}

npumoe_status npumoe_quantize(const char *in_path, const char *out_path,
                              const npumoe_quantize_options *options, npumoe_error *err)
{
    job j = {
        .opt = npumoe_quantize_options_default(), .a = nm_allocator_default(), .in_path = in_path};
    NM_TRY(nm_abi_read(&j.opt, sizeof j.opt, options, "npumoe_quantize_options", err));
    if (!j.opt.type)
        j.opt.type = npumoe_quantize_options_default().type;
    if (!in_path || (!out_path && !j.opt.dry_run) || j.opt.n_threads < 0 ||
        j.opt.n_threads > NM_POOL_MAX_THREADS)
        return nm_err_set(err, NPUMOE_EINVAL, "quantize: needs two paths and 0 to %d threads",
                          NM_POOL_MAX_THREADS);
    npumoe_status st = run(&j, out_path, err);
    nm_gguf_writer_free(&j.w);
    nm_pool_free(&j.batch.pool);
    nm_free_aligned(j.a, j.batch.scratch);
    nm_free_aligned(j.a, j.batch.out);
    nm_free(j.a, j.types);
    nm_gguf_free(&j.in);
    return st;
}
