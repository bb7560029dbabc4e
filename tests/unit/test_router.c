/* Every router rule against its formula in double precision, written here a second time without any
 * cleverness; ties, NaN and infinities. */
#include "tap.h"

#include "moe/router.h"

enum { MAX_E = 256, MAX_K = 16 };

static uint64_t rng = 0x1234567;

static double uniform(void)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (double)(rng >> 11) / 9007199254740992.0;
}

static void softmax64(uint32_t n, double *p)
{
    double max = p[0], sum = 0;
    for (uint32_t i = 1; i < n; i++)
        max = p[i] > max ? p[i] : max;
    for (uint32_t i = 0; i < n; i++)
        sum += p[i] = exp(p[i] - max);
    for (uint32_t i = 0; i < n; i++)
        p[i] /= sum;
}

/* k times the largest that is left, the first of equals. */
static void pick64(uint32_t n, uint32_t k, const double *p, uint32_t *ids)
{
    bool taken[MAX_E] = {false};
    for (uint32_t s = 0; s < k; s++) {
        uint32_t at = n;
        for (uint32_t i = 0; i < n; i++) {
            if (!taken[i] && (at == n || p[i] > p[at]))
                at = i;
        }
        taken[at] = true;
        ids[s] = at;
    }
}

/* transformers' sparsemixer with training = False, line by line. */
static void sparsemixer64(uint32_t n, const float *z, double eps, uint32_t *ids, double *w)
{
    double scores[MAX_E];
    for (uint32_t i = 0; i < n; i++)
        scores[i] = (double)z[i];
    for (uint32_t s = 0; s < 2; s++) {
        double masked[MAX_E];
        for (uint32_t i = 0; i < n; i++)
            masked[i] = s == 1 && i == ids[0] ? -INFINITY : scores[i];
        pick64(n, 1, masked, &ids[s]);
        double max = masked[ids[s]];
        for (uint32_t i = 0; i < n; i++) {
            double factor = fabs(scores[i]) < max ? max : fabs(scores[i]);
            if ((max - scores[i]) / factor > 2 * eps)
                masked[i] = -INFINITY;
        }
        softmax64(n, masked);
        w[s] = masked[ids[s]];
    }
}

static void route64(const nm_router_rule *rule, uint32_t n, uint32_t k, const float *z,
                    const float *bias, uint32_t *ids, double *w)
{
    double p[MAX_E], select[MAX_E], sum = 0;
    for (uint32_t i = 0; i < n; i++)
        p[i] = (double)z[i];
    if (rule->score == NM_SCORE_SOFTMAX)
        softmax64(n, p);
    for (uint32_t i = 0; i < n && rule->score == NM_SCORE_SIGMOID; i++)
        p[i] = 1 / (1 + exp(-p[i]));
    for (uint32_t i = 0; i < n; i++)
        select[i] = p[i] + (bias ? (double)bias[i] : 0);
    if (rule->score == NM_SCORE_SPARSEMIXER) {
        sparsemixer64(n, z, 0.01, ids, w);
    } else {
        pick64(n, k, select, ids);
        for (uint32_t s = 0; s < k; s++)
            w[s] = p[ids[s]];
    }
    if (rule->score == NM_SCORE_SOFTMAX_TOPK)
        softmax64(k, w);
    for (uint32_t s = 0; s < k; s++)
        sum += w[s];
    for (uint32_t s = 0; s < k; s++)
        w[s] = w[s] / (rule->renormalise ? fmax(sum, 6.103515625e-5) : 1) *
               (rule->scale != 0.0f ? (double)rule->scale : 1);
}

static void check_rule(const char *what, const nm_router_rule *rule, uint32_t n, uint32_t k,
                       double spread, const float *bias)
{
    bool same_ids = true;
    double worst = 0;
    for (int round = 0; round < 300; round++) {
        float z[MAX_E], probs[MAX_E], w[MAX_K];
        double want[MAX_K];
        uint32_t ids[MAX_K], want_ids[MAX_K];
        for (uint32_t i = 0; i < n; i++)
            z[i] = (float)((uniform() * 2 - 1) * spread);
        memcpy(probs, z, sizeof z);
        nm_router_pick(rule, n, k, probs, bias, ids, w);
        route64(rule, n, k, z, bias, want_ids, want);
        same_ids = same_ids && memcmp(ids, want_ids, k * sizeof *ids) == 0;
        for (uint32_t s = 0; s < k; s++)
            worst = fmax(worst, fabs((double)w[s] - want[s]) / fmax(fabs(want[s]), 1e-30));
    }
    ok(same_ids, "%s, E %u k %u spread %g: same experts in the same order", what, n, k, spread);
    /* A sum of n positive terms in fp32 and one exponential: a few ulp plus n/2 roundings at most. */
    ok(worst < 4e-6, "%s, E %u k %u spread %g: weights (worst %.2g)", what, n, k, spread, worst);
}

static void check_rules(void)
{
    static const struct {
        const char *what;
        nm_router_rule rule;
    } rules[] = {
        {"softmax", {.score = NM_SCORE_SOFTMAX}},
        {"softmax renormalised", {.score = NM_SCORE_SOFTMAX, .renormalise = true}},
        {"softmax of the top-k", {.score = NM_SCORE_SOFTMAX_TOPK}},
        {"sigmoid scaled", {.score = NM_SCORE_SIGMOID, .renormalise = true, .scale = 2.5f}},
    };
    float bias[MAX_E];
    for (int i = 0; i < MAX_E; i++)
        bias[i] = (float)(uniform() * 0.3);
    for (size_t r = 0; r < sizeof rules / sizeof rules[0]; r++) {
        check_rule(rules[r].what, &rules[r].rule, 64, 8, 5, NULL);
        check_rule(rules[r].what, &rules[r].rule, 8, 2, 12, NULL);
        check_rule(rules[r].what, &rules[r].rule, 1, 1, 1, NULL);
        check_rule(rules[r].what, &rules[r].rule, 5, 5, 2, NULL);
    }
    check_rule("sigmoid with selection bias", &rules[3].rule, 256, 8, 3, bias);
    const nm_router_rule mixer = {.score = NM_SCORE_SPARSEMIXER, .band = 0.02f};
    check_rule("sparsemixer", &mixer, 16, 2, 5, NULL);
    check_rule("sparsemixer, close logits", &mixer, 16, 2, 0.05, NULL);
    check_rule("sparsemixer, two experts", &mixer, 2, 2, 5, NULL);
}

/* Cases worked out by hand. */
static void check_sparsemixer_by_hand(void)
{
    const nm_router_rule rule = {.score = NM_SCORE_SPARSEMIXER, .band = 0.02f};
    uint32_t ids[2];
    float w[2];
    float far[4] = {1.0f, 8.0f, 2.0f, 7.0f};
    nm_router_pick(&rule, 4, 2, far, NULL, ids, w);
    ok(ids[0] == 1 && ids[1] == 3, "sparsemixer: the two largest");
    ok(w[0] == 1.0f && w[1] == 1.0f, "sparsemixer: alone in their bands, both weigh 1 (sum 2)");
    float near[4] = {10.0f, 9.9f, 0.0f, 0.0f}; /* 0.1 / 10 = 1 %: inside the 2 % band */
    nm_router_pick(&rule, 4, 2, near, NULL, ids, w);
    is_near(w[0], 1 / (1 + exp(-0.1)), 1e-6, "sparsemixer: first pick shares its band");
    ok(w[1] == 1.0f, "sparsemixer: the second pick does not see the first");
    float below[3] = {-1.0f, -1.01f,
                      -5.0f}; /* 0.01 / 1.01 < 2 %, although the maximum is negative */
    nm_router_pick(&rule, 3, 2, below, NULL, ids, w);
    is_near(w[0], 1 / (1 + exp(-0.01)), 1e-6, "sparsemixer: negative maximum");
    float zero[3] = {0.0f, 0.0f, 0.0f}; /* 0 / 0 compares false, so nothing is masked */
    nm_router_pick(&rule, 3, 2, zero, NULL, ids, w);
    ok(ids[0] == 0 && ids[1] == 1, "sparsemixer: equal logits take the lowest indices");
    is_near(w[0], 1.0 / 3, 1e-6, "sparsemixer: all zero, first of three");
    is_near(w[1], 1.0 / 2, 1e-6, "sparsemixer: all zero, second of two");
}

static bool different(const uint32_t *ids, uint32_t k, uint32_t n)
{
    for (uint32_t s = 0; s < k; s++) {
        for (uint32_t t = 0; t < s; t++) {
            if (ids[s] == ids[t])
                return false;
        }
        if (ids[s] >= n)
            return false;
    }
    return true;
}

static void check_ties_and_nan(void)
{
    const nm_score scores[] = {NM_SCORE_SOFTMAX, NM_SCORE_SOFTMAX_TOPK, NM_SCORE_SIGMOID,
                               NM_SCORE_SPARSEMIXER};
    for (size_t r = 0; r < 4; r++) {
        const nm_router_rule rule = {.score = scores[r], .band = 0.02f, .renormalise = r == 0};
        const uint32_t k = scores[r] == NM_SCORE_SPARSEMIXER ? 2 : 4;
        float tie[8] = {1, 3, 3, 1, 3, 1, 1, 1}, w[4];
        uint32_t ids[4];
        nm_router_pick(&rule, 8, k, tie, NULL, ids, w);
        const uint32_t want[4] = {1, 2, 4, 0};
        ok(memcmp(ids, want, k * sizeof *ids) == 0, "rule %zu: ties go to the lowest index", r);
        float one_nan[8] = {1, 3, NAN, 1, 2, 1, 1, 1};
        nm_router_pick(&rule, 8, k, one_nan, NULL, ids, w);
        ok(different(ids, k, 8), "rule %zu: one NaN, still different experts", r);
        float all_nan[8] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
        nm_router_pick(&rule, 8, k, all_nan, NULL, ids, w);
        ok(different(ids, k, 8), "rule %zu: all NaN, still different experts", r);
        ok(isnan(w[0]), "rule %zu: all NaN, and the weight says so", r);
        float inf[8] = {INFINITY, -INFINITY, 0, INFINITY, -INFINITY, 0, 0, 0};
        nm_router_pick(&rule, 8, k, inf, NULL, ids, w);
        ok(different(ids, k, 8), "rule %zu: infinities, still different experts", r);
    }
}

static void check_clamp(void)
{
    const nm_router_rule rule = {.score = NM_SCORE_SIGMOID, .renormalise = true};
    float z[4] = {-60, -61, -62, -63}, w[2];
    uint32_t ids[2];
    nm_router_pick(&rule, 4, 2, z, NULL, ids, w);
    is_near(w[0], exp(-60) / 6.103515625e-5, 1e-28, "the sum is clamped at 2^-14 before dividing");
}

int main(void)
{
    check_rules();
    check_sparsemixer_by_hand();
    check_ties_and_nan();
    check_clamp();
    return done_testing();
}
