// Fused elementwise kernels for training on a CPU: PyTorch keeps the matrix products, these replace the chains of
// small memory-bound operations around them. Each call runs on one thread; the trainer runs one call per core.
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

static inline float up(bf16 v)
{
    uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

// Round to nearest even.
static inline bf16 down(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

void rmsnorm(const bf16 *x, const float *w, bf16 *y, float *scale, long n, long d, float eps)
{
    for (long i = 0; i < n; i++, x += d, y += d) {
        float sum = 0;
        for (long j = 0; j < d; j++)
            sum += up(x[j]) * up(x[j]);
        float s = scale[i] = 1.0f / sqrtf(sum / (float)d + eps);
        for (long j = 0; j < d; j++)
            y[j] = down(up(x[j]) * s * w[j]);
    }
}

// Gradient of one row: x and dy are the row and the gradient at the output, dw accumulates.
static inline void rmsnorm_row_grad(const bf16 *x, const float *w, const float *dy, float s,
                                    bf16 *dx, float *dw, long d)
{
    float dot = 0;
    for (long j = 0; j < d; j++)
        dot += dy[j] * w[j] * up(x[j]);
    dot *= s * s / (float)d;
    for (long j = 0; j < d; j++) {
        dw[j] += dy[j] * up(x[j]) * s;
        dx[j] = down(s * (dy[j] * w[j] - up(x[j]) * dot));
    }
}

void rmsnorm_grad(const bf16 *x, const float *w, const bf16 *dy, const float *scale, bf16 *dx,
                  float *dw, long n, long d)
{
    float wide[d];
    for (long i = 0; i < n; i++, x += d, dy += d, dx += d) {
        for (long j = 0; j < d; j++)
            wide[j] = up(dy[j]);
        rmsnorm_row_grad(x, w, wide, scale[i], dx, dw, d);
    }
}

// One packed projection row holds `heads` query heads, `groups` key heads and `groups` value heads of width d.
struct heads {
    long batch, length, heads, groups, d;
};

static inline bf16 *head_at(bf16 *base, const struct heads *h, long count, long b, long t,
                            long head)
{
    return base + ((b * count + head) * h->length + t) * h->d;
}

static inline void norm_and_rotate(const bf16 *x, const float *w, const float *turn, bf16 *out,
                                   float *scale, long d, float eps)
{
    float sum = 0;
    for (long j = 0; j < d; j++)
        sum += up(x[j]) * up(x[j]);
    float s = *scale = 1.0f / sqrtf(sum / (float)d + eps);
    long half = d / 2;
    for (long j = 0; j < half; j++) {
        float a = up(x[j]) * s * w[j], b = up(x[j + half]) * s * w[j + half];
        out[j] = down(a * turn[j] - b * turn[j + half]);
        out[j + half] = down(b * turn[j] + a * turn[j + half]);
    }
}

static inline void norm_and_rotate_grad(const bf16 *x, const float *w, const float *turn,
                                        const bf16 *dout, float s, bf16 *dx, float *dw, long d)
{
    float dy[d];
    long half = d / 2;
    for (long j = 0; j < half; j++) {
        float a = up(dout[j]), b = up(dout[j + half]);
        dy[j] = a * turn[j] + b * turn[j + half];
        dy[j + half] = b * turn[j] - a * turn[j + half];
    }
    rmsnorm_row_grad(x, w, dy, s, dx, dw, d);
}

// turn: per position d/2 cosines, then d/2 sines. q, k, v come out as [batch][head][position][d].
void split_heads(const bf16 *rows, const float *wq, const float *wk, const float *turn, bf16 *q,
                 bf16 *k, bf16 *v, float *scale, const struct heads *h, float eps)
{
    long per_row = h->heads + 2 * h->groups;
    for (long b = 0; b < h->batch; b++)
        for (long t = 0; t < h->length; t++)
            for (long i = 0; i < per_row; i++, rows += h->d) {
                long group = i - h->heads;
                if (group < 0)
                    norm_and_rotate(rows, wq, turn + t * h->d, head_at(q, h, h->heads, b, t, i),
                                    scale++, h->d, eps);
                else if (group < h->groups)
                    norm_and_rotate(rows, wk, turn + t * h->d,
                                    head_at(k, h, h->groups, b, t, group), scale++, h->d, eps);
                else
                    memcpy(head_at(v, h, h->groups, b, t, group - h->groups), rows,
                           (size_t)h->d * sizeof *rows);
            }
}

void split_heads_grad(const bf16 *rows, const float *wq, const float *wk, const float *turn,
                      bf16 *dq, bf16 *dk, bf16 *dv, const float *scale, bf16 *drows, float *dwq,
                      float *dwk, const struct heads *h)
{
    long per_row = h->heads + 2 * h->groups;
    for (long b = 0; b < h->batch; b++)
        for (long t = 0; t < h->length; t++)
            for (long i = 0; i < per_row; i++, rows += h->d, drows += h->d) {
                long group = i - h->heads;
                const float *angle = turn + t * h->d;
                if (group < 0)
                    norm_and_rotate_grad(rows, wq, angle, head_at(dq, h, h->heads, b, t, i),
                                         *scale++, drows, dwq, h->d);
                else if (group < h->groups)
                    norm_and_rotate_grad(rows, wk, angle, head_at(dk, h, h->groups, b, t, group),
                                         *scale++, drows, dwk, h->d);
                else
                    memcpy(drows, head_at(dv, h, h->groups, b, t, group - h->groups),
                           (size_t)h->d * sizeof *rows);
            }
}

// Causal softmax in place: row i of a block stands at position first + i % block and sees the columns up to that position.
void causal_softmax(bf16 *s, long rows, long block, long first, long columns, float factor)
{
    float wide[columns];
    for (long i = 0; i < rows; i++, s += columns) {
        long seen = first + i % block + 1;
        float top = -INFINITY, sum = 0;
        for (long j = 0; j < seen; j++) {
            wide[j] = up(s[j]) * factor;
            top = wide[j] > top ? wide[j] : top;
        }
        for (long j = 0; j < seen; j++) {
            wide[j] = expf(wide[j] - top);
            sum += wide[j];
        }
        sum = 1.0f / sum;
        for (long j = 0; j < seen; j++)
            s[j] = down(wide[j] * sum);
        memset(s + seen, 0, (size_t)(columns - seen) * sizeof *s);
    }
}

// The gradient replaces dp.
void causal_softmax_grad(const bf16 *p, bf16 *dp, long rows, long block, long first, long columns,
                         float factor)
{
    for (long i = 0; i < rows; i++, p += columns, dp += columns) {
        long seen = first + i % block + 1;
        float dot = 0;
        for (long j = 0; j < seen; j++)
            dot += up(p[j]) * up(dp[j]);
        for (long j = 0; j < seen; j++)
            dp[j] = down(up(p[j]) * (up(dp[j]) - dot) * factor);
        memset(dp + seen, 0, (size_t)(columns - seen) * sizeof *dp);
    }
}

// Rows of gate_up are ff gate values followed by ff up values.
void swiglu(const bf16 *gate_up, bf16 *h, long n, long ff)
{
    for (long i = 0; i < n; i++, gate_up += 2 * ff, h += ff)
        for (long j = 0; j < ff; j++) {
            float g = up(gate_up[j]);
            h[j] = down(g / (1.0f + expf(-g)) * up(gate_up[j + ff]));
        }
}

void swiglu_grad(const bf16 *gate_up, const bf16 *dh, bf16 *dgate_up, long n, long ff)
{
    for (long i = 0; i < n; i++, gate_up += 2 * ff, dgate_up += 2 * ff, dh += ff)
        for (long j = 0; j < ff; j++) {
            float g = up(gate_up[j]), u = up(gate_up[j + ff]), d = up(dh[j]);
            float sigmoid = 1.0f / (1.0f + expf(-g));
            dgate_up[j] = down(d * u * sigmoid * (1.0f + g * (1.0f - sigmoid)));
            dgate_up[j + ff] = down(d * g * sigmoid);
        }
}

// order[i] = token * k + slot of the i-th row when the routed rows are sorted by expert; -1 is a row of padding.
void gather(const bf16 *x, const int64_t *order, const float *weight, bf16 *out, long n, long k,
            long d)
{
    for (long i = 0; i < n; i++, out += d) {
        if (order[i] < 0) {
            memset(out, 0, (size_t)d * sizeof *out);
            continue;
        }
        const bf16 *row = x + order[i] / k * d;
        if (!weight) {
            memcpy(out, row, (size_t)d * sizeof *out);
            continue;
        }
        float w = weight[order[i]];
        for (long j = 0; j < d; j++)
            out[j] = down(up(row[j]) * w);
    }
}

// place[token * k + slot] = sorted row. weight may be NULL for 1.
void combine(const bf16 *y, const int64_t *place, const float *weight, bf16 *out, long n, long k,
             long d)
{
    float sum[d];
    for (long i = 0; i < n; i++, out += d, place += k) {
        memset(sum, 0, sizeof sum);
        for (long slot = 0; slot < k; slot++) {
            const bf16 *row = y + place[slot] * d;
            float w = weight ? weight[i * k + slot] : 1.0f;
            for (long j = 0; j < d; j++)
                sum[j] += w * up(row[j]);
        }
        for (long j = 0; j < d; j++)
            out[j] = down(sum[j]);
    }
}

void combine_weight_grad(const bf16 *dout, const bf16 *y, const int64_t *place, float *dweight,
                         long n, long k, long d)
{
    for (long i = 0; i < n; i++, dout += d)
        for (long slot = 0; slot < k; slot++, place++, dweight++) {
            const bf16 *row = y + *place * d;
            float dot = 0;
            for (long j = 0; j < d; j++)
                dot += up(dout[j]) * up(row[j]);
            *dweight = dot;
        }
}

// Cross-entropy of each row; the gradient, times `factor`, replaces the logits when factor is not 0.
void cross_entropy(bf16 *logits, const int64_t *target, float *loss, long n, long vocabulary,
                   float factor)
{
    float wide[vocabulary];
    for (long i = 0; i < n; i++, logits += vocabulary) {
        float top = -INFINITY, sum = 0;
        for (long j = 0; j < vocabulary; j++) {
            wide[j] = up(logits[j]);
            top = wide[j] > top ? wide[j] : top;
        }
        loss[i] = top - wide[target[i]];
        for (long j = 0; j < vocabulary; j++) {
            wide[j] = expf(wide[j] - top);
            sum += wide[j];
        }
        loss[i] += logf(sum);
        if (factor == 0)
            continue;
        wide[target[i]] -= sum;
        for (long j = 0; j < vocabulary; j++)
            logits[j] = down(wide[j] * (factor / sum));
    }
}
