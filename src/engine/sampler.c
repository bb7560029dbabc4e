/* sampler.c: from logits to one token.
 *
 * Owns: the penalties' window, the random generator, and one candidate array of n_vocab entries, all
 * allocated when the sampler is made; picking allocates nothing.
 * Never knows: text, models, sessions, or where the logits came from (generate.c does).
 *
 * One pick
 *   1. every logit is checked (NaN and +infinity are an error that names the token: they mean broken
 *      weights, and a sampler that swallows them turns a bug into odd prose), biased, penalised;
 *   2. temp <= 0: the largest wins;
 *   3. else top-k is selected with a heap of k, in which nearly every entry of the vocabulary costs
 *      one comparison; without top-k all candidates become a heap, O(n), from which the best are
 *      popped until top-p and min-p are satisfied. So the vocabulary is never sorted;
 *   4. softmax of logit / temp over the kept ones in double, and one draw by walking the sum.
 * top-p and min-p look at probabilities before temperature, as llama.cpp's default chain does.
 *
 * Deterministic: order is (logit descending, token ascending), the generator is xoshiro256** seeded
 * through splitmix64 (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2018),
 * and the same seed and calls give the same picks wherever exp() rounds alike.
 *
 * Penalties (Keskar et al. 2019 as llama.cpp applies it, and OpenAI's two): for a token seen c > 0
 * times in the window, logit > 0 is divided by repeat_penalty, else multiplied; then c *
 * frequency_penalty and presence_penalty are subtracted. */
#include "engine/sampler.h"

#include "base/abi.h"
#include "base/num.h"

#include <math.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

typedef struct candidate {
    float logit;
    npumoe_token token;
} candidate;

struct npumoe_sampler {
    const npumoe_allocator *alloc;
    npumoe_sampler_options opt; /* logit_bias points to our copy */
    npumoe_logit_bias *bias;
    size_t n_vocab;
    candidate *cand;  /* [n_vocab] */
    double *weight;   /* [n_vocab] */
    uint32_t *counts; /* [n_vocab] how often each token is in the window; NULL = no penalties */
    npumoe_token *ring;
    size_t ring_cap, ring_len, ring_at; /* ring_cap 0 = window without end: counts only grow */
    uint64_t rng[4];
};

/* ---- random numbers ----------------------------------------------------------------------- */

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static uint64_t rng_next(uint64_t s[4])
{
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* [0, 1) with 53 random bits */
static double rng_double(uint64_t s[4])
{
    return (double)(rng_next(s) >> 11) * 0x1p-53;
}

/* ---- making one --------------------------------------------------------------------------- */

npumoe_sampler_options npumoe_sampler_options_default(void)
{
    return (npumoe_sampler_options){.struct_bytes = sizeof(npumoe_sampler_options),
                                    .seed = NPUMOE_SEED_RANDOM,
                                    .temp = 0.8f,
                                    .top_k = 40,
                                    .top_p = 0.95f,
                                    .min_p = 0.05f,
                                    .repeat_penalty = 1.0f,
                                    .penalty_last_n = 64};
}

static npumoe_status check_options(const npumoe_sampler_options *o, size_t n_vocab,
                                   npumoe_error *err)
{
    const struct {
        const char *name;
        float value;
    } numbers[] = {
        {"temp", o->temp},
        {"top_p", o->top_p},
        {"min_p", o->min_p},
        {"repeat_penalty", o->repeat_penalty},
        {"presence_penalty", o->presence_penalty},
        {"frequency_penalty", o->frequency_penalty},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (!isfinite(numbers[i].value))
            return nm_err_set(err, NPUMOE_EINVAL, "sampler: %s is not a finite number",
                              numbers[i].name);
    if (o->repeat_penalty <= 0.0f)
        return nm_err_set(err, NPUMOE_EINVAL, "sampler: repeat_penalty %g must be above 0",
                          (double)o->repeat_penalty);
    if (o->top_p < 0.0f)
        return nm_err_set(err, NPUMOE_EINVAL, "sampler: top_p %g must be 0 or more",
                          (double)o->top_p);
    if (o->min_p < 0.0f || o->min_p > 1.0f)
        return nm_err_set(err, NPUMOE_EINVAL, "sampler: min_p %g must be in 0 .. 1",
                          (double)o->min_p);
    if (o->penalty_last_n < -1)
        return nm_err_set(err, NPUMOE_EINVAL, "sampler: penalty_last_n %d must be -1 or more",
                          (int)o->penalty_last_n);
    for (size_t i = 0; i < o->n_logit_bias; i++) {
        const npumoe_logit_bias *b = &o->logit_bias[i];
        if (b->token < 0 || (size_t)b->token >= n_vocab)
            return nm_err_set(err, NPUMOE_EINVAL,
                              "sampler: logit bias for token %d, but the vocabulary has %zu",
                              (int)b->token, n_vocab);
        if (isnan(b->bias))
            return nm_err_set(err, NPUMOE_EINVAL, "sampler: logit bias of token %d is not a number",
                              (int)b->token);
    }
    return NPUMOE_OK;
}

static bool has_penalties(const npumoe_sampler_options *o)
{
    bool any =
        o->repeat_penalty != 1.0f || o->presence_penalty != 0.0f || o->frequency_penalty != 0.0f;
    return any && o->penalty_last_n != 0;
}

static npumoe_status alloc_arrays(npumoe_sampler *s, npumoe_error *err)
{
    const npumoe_sampler_options *o = &s->opt;
    s->cand = nm_alloc_array(s->alloc, s->n_vocab, sizeof *s->cand);
    s->weight = nm_alloc_array(s->alloc, s->n_vocab, sizeof *s->weight);
    if (!s->cand || !s->weight)
        return nm_err_nomem(err, (uint64_t)s->n_vocab * (sizeof *s->cand + sizeof *s->weight),
                            "the sampler");
    if (has_penalties(o)) {
        s->ring_cap = o->penalty_last_n > 0 ? (size_t)o->penalty_last_n : 0;
        s->counts = nm_alloc_array(s->alloc, s->n_vocab, sizeof *s->counts);
        s->ring = nm_alloc_array(s->alloc, s->ring_cap, sizeof *s->ring);
        if (!s->counts || !s->ring)
            return nm_err_nomem(err, s->n_vocab * sizeof *s->counts, "the sampler's penalties");
    }
    if (o->n_logit_bias) {
        s->bias = nm_alloc_array(s->alloc, o->n_logit_bias, sizeof *s->bias);
        if (!s->bias)
            return nm_err_nomem(err, o->n_logit_bias * sizeof *s->bias, "the logit biases");
        memcpy(s->bias, o->logit_bias, o->n_logit_bias * sizeof *s->bias);
    }
    s->opt.logit_bias = s->bias;
    return NPUMOE_OK;
}

npumoe_status nm_sampler_new(const npumoe_allocator *a, size_t n_vocab,
                             const npumoe_sampler_options *options, npumoe_sampler **out,
                             npumoe_error *err)
{
    npumoe_sampler_options o = npumoe_sampler_options_default();
    NM_TRY(nm_abi_read(&o, sizeof o, options, "npumoe_sampler_options", err));
    if (n_vocab == 0 || n_vocab > INT32_MAX)
        return nm_err_set(err, NPUMOE_EINVAL, "sampler: a vocabulary of %zu tokens", n_vocab);
    NM_TRY(check_options(&o, n_vocab, err));
    if (o.seed == NPUMOE_SEED_RANDOM && getentropy(&o.seed, sizeof o.seed) != 0)
        return nm_err_set(err, NPUMOE_EIO, "sampler: the system gives no random seed");

    npumoe_sampler *s = nm_zalloc(a, sizeof *s);
    if (!s)
        return nm_err_nomem(err, sizeof *s, "the sampler");
    s->alloc = a;
    s->opt = o;
    s->n_vocab = n_vocab;
    npumoe_status st = alloc_arrays(s, err);
    if (st != NPUMOE_OK) {
        npumoe_sampler_free(&s);
        return st;
    }
    uint64_t state = o.seed;
    for (int i = 0; i < 4; i++)
        s->rng[i] = splitmix64(&state);
    *out = s;
    return NPUMOE_OK;
}

void npumoe_sampler_free(npumoe_sampler **sampler)
{
    if (!sampler || !*sampler)
        return;
    npumoe_sampler *s = *sampler;
    const npumoe_allocator *a = s->alloc;
    nm_free(a, s->cand);
    nm_free(a, s->weight);
    nm_free(a, s->counts);
    nm_free(a, s->ring);
    nm_free(a, s->bias);
    nm_free(a, s);
    *sampler = NULL;
}

uint64_t npumoe_sampler_seed(const npumoe_sampler *sampler)
{
    return sampler->opt.seed;
}

/* ---- the penalties' window ---------------------------------------------------------------- */

void npumoe_sampler_accept(npumoe_sampler *s, npumoe_token token)
{
    if (!s->counts || token < 0 || (size_t)token >= s->n_vocab)
        return;
    if (s->ring_cap) {
        if (s->ring_len == s->ring_cap)
            s->counts[s->ring[s->ring_at]]--;
        else
            s->ring_len++;
        s->ring[s->ring_at] = token;
        s->ring_at = (s->ring_at + 1) % s->ring_cap;
    }
    s->counts[token]++;
}

void nm_sampler_set_history(npumoe_sampler *s, const npumoe_token *tokens, size_t n_tokens)
{
    if (!s->counts)
        return;
    memset(s->counts, 0, s->n_vocab * sizeof *s->counts);
    s->ring_len = s->ring_at = 0;
    size_t from = s->ring_cap && n_tokens > s->ring_cap ? n_tokens - s->ring_cap : 0;
    for (size_t i = from; i < n_tokens; i++)
        npumoe_sampler_accept(s, tokens[i]);
}

static float penalised(const npumoe_sampler_options *o, float logit, uint32_t count)
{
    logit = logit > 0.0f ? logit / o->repeat_penalty : logit * o->repeat_penalty;
    return logit - (float)count * o->frequency_penalty - o->presence_penalty;
}

/* ---- candidates --------------------------------------------------------------------------- */

static bool before(candidate a, candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

/* Heaps of both directions: the root is the best (best_first) or the worst of all. */
static inline bool above(candidate a, candidate b, bool best_first)
{
    return best_first ? before(a, b) : before(b, a);
}

static void sift_down(candidate *heap, size_t n, size_t i, bool best_first)
{
    candidate moving = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n)
            break;
        if (child + 1 < n && above(heap[child + 1], heap[child], best_first))
            child++;
        if (!above(heap[child], moving, best_first))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moving;
}

static void make_heap(candidate *heap, size_t n, bool best_first)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(heap, n, i, best_first);
}

/* Moves the root behind the heap, which then has n - 1 entries. */
static void pop(candidate *heap, size_t n, bool best_first)
{
    candidate root = heap[0];
    heap[0] = heap[n - 1];
    heap[n - 1] = root;
    sift_down(heap, n - 1, 0, best_first);
}

/* The best k < n come to c[0..k), in descending order. The worst of the best so far is at hand, so
 * nearly every entry costs one comparison. */
static void select_top(candidate *c, size_t n, size_t k)
{
    make_heap(c, k, false);
    for (size_t i = k; i < n; i++)
        if (before(c[i], c[0])) {
            candidate out = c[0];
            c[0] = c[i];
            c[i] = out;
            sift_down(c, k, 0, false);
        }
    for (size_t left = k; left > 1; left--)
        pop(c, left, false);
}

static npumoe_status fill_candidates(npumoe_sampler *s, const float *logits, npumoe_error *err)
{
    for (size_t i = 0; i < s->n_vocab; i++) {
        float l = logits[i];
        if (!(l < INFINITY)) /* NaN too */
            return nm_err_set(
                err, NPUMOE_EMODEL,
                "the logit of token %zu is %s: the weights are broken, or a kernel is", i,
                isnan(l) ? "not a number" : "infinite");
        s->cand[i] = (candidate){l, (npumoe_token)i};
    }
    for (size_t i = 0; i < s->opt.n_logit_bias; i++) {
        float *l = &s->cand[s->bias[i].token].logit;
        /* "-INFINITY forbids" and "+INFINITY forces" hold whatever the logit is */
        *l = isinf(s->bias[i].bias) ? s->bias[i].bias : *l + s->bias[i].bias;
    }
    if (s->counts)
        for (size_t i = 0; i < s->n_vocab; i++)
            if (s->counts[i])
                s->cand[i].logit = penalised(&s->opt, s->cand[i].logit, s->counts[i]);
    return NPUMOE_OK;
}

static candidate largest(const npumoe_sampler *s)
{
    candidate best = s->cand[0];
    for (size_t i = 1; i < s->n_vocab; i++)
        if (before(s->cand[i], best))
            best = s->cand[i];
    return best;
}

/* The candidates that top-k, top-p and min-p keep, in descending order: first[0], first[step], ... */
typedef struct kept {
    const candidate *first;
    ptrdiff_t step;
    size_t n;
} kept;

static double odds(candidate c, float max_logit)
{
    return exp((double)(c.logit - max_logit));
}

static kept keep_best(npumoe_sampler *s, float max_logit)
{
    const npumoe_sampler_options *o = &s->opt;
    const size_t n = s->n_vocab;
    const bool top_k = o->top_k > 0 && (size_t)o->top_k < n;
    const size_t k = top_k ? (size_t)o->top_k : n;
    kept out = top_k ? (kept){s->cand, 1, 0} : (kept){s->cand + n - 1, -1, 0};
    /* Without top-k nobody knows how many are needed: a heap, from which they are popped one by one
     * to the array's end. */
    if (top_k)
        select_top(s->cand, n, k);
    else
        make_heap(s->cand, n, true);
    double total = 0.0, mass = 0.0;
    if (o->top_p < 1.0f)
        for (size_t i = 0; i < k; i++)
            total += odds(s->cand[i], max_logit);
    while (out.n < k) {
        if (!top_k)
            pop(s->cand, n - out.n, true);
        double p = odds(out.first[(ptrdiff_t)out.n * out.step], max_logit);
        if (out.n > 0 && p < (double)o->min_p) /* the best one has p = 1 here */
            break;
        out.n++;
        mass += p;
        if (o->top_p < 1.0f && mass >= (double)o->top_p * total)
            break;
    }
    return out;
}

static npumoe_token draw(npumoe_sampler *s, kept from, float max_logit)
{
    double sum = 0.0;
    for (size_t i = 0; i < from.n; i++) {
        double d = (double)from.first[(ptrdiff_t)i * from.step].logit - (double)max_logit;
        s->weight[i] = exp(d / (double)s->opt.temp);
        sum += s->weight[i];
    }
    double r = rng_double(s->rng) * sum;
    size_t pick = 0;
    for (size_t i = 0; i < from.n; i++) {
        if (s->weight[i] <= 0.0)
            continue; /* a forbidden token is not drawn even when r is 0 */
        pick = i;
        if (r < s->weight[i])
            break;
        r -= s->weight[i];
    }
    return from.first[(ptrdiff_t)pick * from.step].token;
}

npumoe_status npumoe_sampler_pick(npumoe_sampler *s, const float *logits, npumoe_token *token,
                                  npumoe_error *err)
{
    NM_TRY(fill_candidates(s, logits, err));
    candidate best = largest(s);
    if (best.logit == -INFINITY)
        return nm_err_set(err, NPUMOE_EINVAL, "sampler: the logit biases forbid every token");
    if (s->opt.temp <= 0.0f || best.logit == INFINITY) {
        *token = best.token;
        return NPUMOE_OK;
    }
    const npumoe_sampler_options *o = &s->opt;
    bool cut =
        (o->top_k > 0 && (size_t)o->top_k < s->n_vocab) || o->top_p < 1.0f || o->min_p > 0.0f;
    kept all = {s->cand, 1, s->n_vocab};
    *token = draw(s, cut ? keep_best(s, best.logit) : all, best.logit);
    return NPUMOE_OK;
}
