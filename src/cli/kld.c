#include "kld.h"

#include "ui.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char magic[8] = {'_', 'l', 'o', 'g', 'i', 't', 's', '_'};

static bool alloc_row(kld_file *k)
{
    k->row_items = 4 + ((size_t)k->n_vocab + 1) / 2 * 2;
    k->row = calloc(k->row_items, sizeof *k->row);
    if (!k->row)
        ui_error("out of memory");
    return k->row != NULL;
}

bool kld_create(kld_file *k, const char *path, uint32_t n_ctx, int32_t n_vocab, int32_t n_chunk,
                const int32_t *tokens)
{
    *k = (kld_file){
        .path = path, .writing = true, .n_ctx = n_ctx, .n_vocab = n_vocab, .n_chunk = n_chunk};
    if (!alloc_row(k))
        return false;
    if (!out_open(&k->out, path)) {
        kld_close(k, false);
        return false;
    }
    out_write(&k->out, magic, sizeof magic);
    out_write(&k->out, &n_ctx, sizeof n_ctx);
    out_write(&k->out, &n_vocab, sizeof n_vocab);
    out_write(&k->out, &n_chunk, sizeof n_chunk);
    out_write(&k->out, tokens, sizeof *tokens * (size_t)n_ctx * (size_t)n_chunk);
    return true;
}

/* Header and tokens; the sizes are checked against the file's length before anything is allocated. */
static bool read_header(kld_file *k, int32_t n_vocab)
{
    char head[8];
    struct stat info;
    if (fread(head, 1, sizeof head, k->f) != sizeof head || memcmp(head, magic, sizeof head) != 0) {
        ui_error("%s is no file of log probabilities (--kl-divergence-base writes one)", k->path);
        return false;
    }
    if (fread(&k->n_ctx, sizeof k->n_ctx, 1, k->f) != 1 ||
        fread(&k->n_vocab, sizeof k->n_vocab, 1, k->f) != 1 ||
        fread(&k->n_chunk, sizeof k->n_chunk, 1, k->f) != 1) {
        ui_error("%s ends within its header", k->path);
        return false;
    }
    if (k->n_vocab != n_vocab) {
        ui_error("%s is for a vocabulary of %d tokens, this model has %d", k->path, (int)k->n_vocab,
                 (int)n_vocab);
        return false;
    }
    double rows = (double)k->n_chunk * (double)(k->n_ctx - 1 - k->n_ctx / 2);
    double need = 20.0 + 4.0 * (double)k->n_ctx * (double)k->n_chunk +
                  rows * 2.0 * (4.0 + (double)((n_vocab + 1) / 2) * 2.0);
    bool sane = k->n_ctx >= 2 && k->n_ctx <= INT32_MAX && k->n_chunk > 0;
    if (!sane || fstat(fileno(k->f), &info) != 0 || (double)info.st_size < need) {
        ui_error("%s is cut short or broken: %d windows of %u tokens need %.0f bytes, it has %.0f",
                 k->path, (int)k->n_chunk, k->n_ctx, need, sane ? (double)info.st_size : 0.0);
        return false;
    }
    return true;
}

bool kld_open(kld_file *k, const char *path, int32_t n_vocab)
{
    *k = (kld_file){.path = path};
    k->f = fopen(path, "rb");
    if (!k->f) {
        ui_error("cannot read %s: %s", path, strerror(errno));
        return false;
    }
    bool good = read_header(k, n_vocab) && alloc_row(k);
    if (good) {
        size_t n = (size_t)k->n_ctx * (size_t)k->n_chunk;
        k->tokens = malloc(n * sizeof *k->tokens);
        good = k->tokens && fread(k->tokens, sizeof *k->tokens, n, k->f) == n;
        for (size_t i = 0; good && i < n; i++)
            good = k->tokens[i] >= 0 && k->tokens[i] < n_vocab;
        if (!good)
            ui_error("%s holds broken tokens", path);
    }
    if (!good)
        kld_close(k, false);
    return good;
}

bool kld_write_row(kld_file *k, const float *logits, float max, double log_sum)
{
    float min = max;
    for (int32_t i = 0; i < k->n_vocab; i++)
        min = logits[i] < min ? logits[i] : min;
    if (min < max - 16.0f)
        min = max - 16.0f;
    float scale = (max - min) / 65535.0f;
    float min_log_p = (float)((double)min - log_sum);
    memcpy(k->row, &scale, sizeof scale);
    memcpy(k->row + 2, &min_log_p, sizeof min_log_p);
    for (int32_t i = 0; i < k->n_vocab; i++) {
        float q = logits[i] > min && scale > 0.0f ? (logits[i] - min) / scale : 0.0f;
        long rounded = lrintf(q);
        k->row[4 + i] = (uint16_t)(rounded > 65535 ? 65535 : rounded);
    }
    return out_write(&k->out, k->row, sizeof *k->row * k->row_items);
}

bool kld_read_row(kld_file *k, float *log_p)
{
    float scale, min;
    if (fread(k->row, sizeof *k->row, k->row_items, k->f) != k->row_items) {
        ui_error("%s: cannot read the predictions", k->path);
        return false;
    }
    memcpy(&scale, k->row, sizeof scale);
    memcpy(&min, k->row + 2, sizeof min);
    for (int32_t i = 0; i < k->n_vocab; i++)
        log_p[i] = scale * (float)k->row[4 + i] + min;
    return true;
}

bool kld_close(kld_file *k, bool keep)
{
    /* what could not be written is said here, once, even if the caller gave up because of it */
    bool good = !k->out.f || out_close(&k->out, keep || k->out.failed);
    if (k->f)
        fclose(k->f);
    free(k->tokens);
    free(k->row);
    *k = (kld_file){0};
    return good;
}

/* ---- statistics --------------------------------------------------------------------------- */

double kld_log_sum_exp(const float *logits, int32_t n, float *max)
{
    float m = logits[0];
    for (int32_t i = 1; i < n; i++)
        m = logits[i] > m ? logits[i] : m;
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)expf(logits[i] - m);
    *max = m;
    return (double)m + log(sum);
}

bool kld_values_add(kld_values *v, double value)
{
    if (v->n == v->room) {
        const size_t room = v->room ? 2 * v->room : 4096;
        float *grown = realloc(v->each, room * sizeof *grown);
        if (!grown) {
            ui_error("out of memory");
            return false;
        }
        v->each = grown;
        v->room = room;
    }
    v->each[v->n++] = (float)value;
    v->sorted = false;
    return true;
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double kld_values_rank(kld_values *v, double share)
{
    if (v->n == 0)
        return 0.0;
    if (!v->sorted)
        qsort(v->each, v->n, sizeof *v->each, by_value);
    v->sorted = true;
    return (double)v->each[(size_t)(share * (double)(v->n - 1))];
}

void kld_values_free(kld_values *v)
{
    free(v->each);
    *v = (kld_values){0};
}

double kld_add(kld_sums *s, const float *logits, double log_sum, const float *base,
               double base_log_sum, double cut, int32_t n_vocab, int32_t token)
{
    int32_t top = 0, base_top = 0;
    double kl = 0.0;
    for (int32_t i = 0; i < n_vocab; i++) {
        const double lb = (double)base[i] - base_log_sum;
        top = logits[i] > logits[top] ? i : top;
        base_top = base[i] > base[base_top] ? i : base_top;
        if (lb > cut)
            kl += exp(lb) * (lb - ((double)logits[i] - log_sum));
    }
    const double nll = log_sum - (double)logits[token];
    const double nll_base = base_log_sum - (double)base[token];
    const double dp = exp(-nll) - exp(-nll_base), dp2 = dp * dp;
    if (!kld_values_add(&s->each, kl))
        return -INFINITY;
    s->n++;
    s->same_top += top == base_top;
    s->nll += nll;
    s->nll2 += nll * nll;
    s->base += nll_base;
    s->base2 += nll_base * nll_base;
    s->nll_base += nll * nll_base;
    s->kl += kl;
    s->kl2 += kl * kl;
    s->dp += dp;
    s->dp2 += dp2;
    s->dp4 += dp2 * dp2;
    s->dp_max = fabs(dp) > s->dp_max ? fabs(dp) : s->dp_max;
    return kl;
}

/* Mean and its standard error. */
static double mean(double sum, double sum2, uint64_t n, double *error)
{
    double m = sum / (double)n, var = sum2 / (double)n - m * m;
    *error = n > 1 && var > 0 ? sqrt(var / (double)(n - 1)) : 0.0;
    return m;
}

double kld_rank(kld_sums *s, double share)
{
    return kld_values_rank(&s->each, share);
}

void kld_sums_free(kld_sums *s)
{
    kld_values_free(&s->each);
    *s = (kld_sums){0};
}

static void print_ranks(kld_sums *s)
{
    static const struct {
        const char *name;
        double share;
    } ranks[] = {{"Maximum KLD", 1.0},
                 {"99.9 % of KLD below", 0.999},
                 {"99 % of KLD below", 0.99},
                 {"90 % of KLD below", 0.9},
                 {"Median KLD", 0.5}};
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++)
        printf("%-30s: %10.6f\n", ranks[i].name, kld_rank(s, ranks[i].share));
}

void kld_print(kld_sums *s)
{
    double e, eb, ek, ep, em;
    double l = mean(s->nll, s->nll2, s->n, &e), lb = mean(s->base, s->base2, s->n, &eb);
    double kl = mean(s->kl, s->kl2, s->n, &ek);
    double dp = mean(s->dp, s->dp2, s->n, &em), rms = sqrt(mean(s->dp2, s->dp4, s->n, &ep));
    double cov = s->n > 1 ? (s->nll_base / (double)s->n - l * lb) / (double)(s->n - 1) : 0.0;
    double ratio_var = e * e + eb * eb - 2.0 * cov;
    double same = (double)s->same_top / (double)s->n;
    printf("Mean PPL(Q)                   : %10.6f +/- %10.6f\n", exp(l), exp(l) * e);
    printf("Mean PPL(base)                : %10.6f +/- %10.6f\n", exp(lb), exp(lb) * eb);
    printf("Mean ln(PPL(Q)/PPL(base))     : %10.6f +/- %10.6f\n", l - lb,
           ratio_var > 0 ? sqrt(ratio_var) : 0.0);
    printf("Mean KLD                      : %10.6f +/- %10.6f\n", kl, ek);
    print_ranks(s);
    printf("Mean change of p(token)       : %10.6f +/- %10.6f\n", dp, em);
    printf("RMS  change of p(token)       : %10.6f +/- %10.6f\n", rms,
           rms > 0 ? 0.5 * ep / rms : 0.0);
    printf("Maximum change of p(token)    : %10.6f\n", s->dp_max);
    printf("Same top token                : %9.4f %% +/- %7.4f %%\n", 100.0 * same,
           s->n > 1 ? 100.0 * sqrt(same * (1.0 - same) / (double)(s->n - 1)) : 0.0);
}
