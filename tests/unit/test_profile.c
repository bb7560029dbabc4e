/* test_profile.c: profiles: counts against brute force, joining, files, and files that lie. */
#include "moe/profile.h"
#include "tap.h"

#include <jansson.h>

#define SEED UINT64_C(20261121)

static uint64_t state = SEED;

static uint32_t random_below(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 20) % n);
}

/* Skewed and bursty routes: a token likes the experts near a topic that wanders, and low numbers. */
static void make_ids(uint16_t *ids, uint32_t n_layers, uint32_t n, uint32_t n_expert, uint32_t k)
{
    for (uint32_t l = 0; l < n_layers; l++) {
        uint32_t topic = random_below(n_expert);
        for (uint32_t i = 0; i < n; i++) {
            uint16_t *of = ids + ((size_t)l * n + i) * k;
            if (random_below(100) == 0)
                topic = random_below(n_expert);
            for (uint32_t s = 0; s < k;) {
                uint32_t e = random_below(3) ? (topic + random_below(4)) % n_expert
                                             : random_below(1 + random_below(n_expert));
                uint32_t seen = 0;
                while (seen < s && of[seen] != e)
                    seen++;
                if (seen == s)
                    of[s++] = (uint16_t)e;
            }
        }
    }
}

enum { LAYERS = 2, EXPERTS = 24, USED = 3, WINDOWS = 21 };

static const uint32_t layer_of[LAYERS] = {1, 3};

static nm_profile *empty(uint32_t n_expert, uint32_t k)
{
    const nm_profile_model m = {.name = (char[]){"a model"},
                                .architecture = (char[]){"olmoe"},
                                .router_hash = UINT64_C(0xfedcba9876543210),
                                .n_layer = 4,
                                .n_vocab = 100,
                                .n_embd = 64,
                                .n_head = 4,
                                .n_head_kv = 2,
                                .dim_k = 16,
                                .dim_v = 16,
                                .n_expert = n_expert,
                                .n_expert_used = k,
                                .n_ff_expert = 32,
                                .type_gate = NM_TYPE_Q4_K,
                                .type_up = NM_TYPE_Q4_K,
                                .type_down = NM_TYPE_Q6_K};
    nm_profile *p = NULL;
    npumoe_error err = {0};
    if (nm_profile_new(NULL, &m, layer_of, LAYERS, &p, &err) != NPUMOE_OK)
        bail("%s", err.message);
    return p;
}

/* The routes of two texts: windows 0..12 and 13..20; the last of each is short. */
static uint16_t *routes[WINDOWS];
static uint32_t lengths[WINDOWS];
static const uint32_t text_begin[] = {0, 13, WINDOWS};

static void make_routes(void)
{
    for (int i = 0; i < WINDOWS; i++) {
        lengths[i] = i == 12 ? 1111 : i == WINDOWS - 1 ? 100 : NM_PROFILE_WINDOW;
        routes[i] = malloc((size_t)LAYERS * lengths[i] * USED * sizeof **routes);
        if (!routes[i])
            bail("out of memory");
        make_ids(routes[i], LAYERS, lengths[i], EXPERTS, USED);
    }
}

static void add_text(nm_profile *p, int text)
{
    npumoe_error err = {0};
    ok(nm_profile_add_text(p, text ? "two.txt" : "one.txt", 1000, &err) == NPUMOE_OK, "text %d",
       text);
    for (uint32_t i = text_begin[text]; i < text_begin[text + 1]; i++)
        if (nm_profile_add_window(p, nm_profile_part_of(i - text_begin[text]), lengths[i],
                                  routes[i], &err) != NPUMOE_OK)
            bail("%s", err.message);
}

typedef struct text_buffer {
    char *p;
    size_t n, cap;
} text_buffer;

static npumoe_status to_memory(void *user, const char *text, size_t bytes, npumoe_error *err)
{
    text_buffer *b = user;
    (void)err;
    if (b->n + bytes + 1 > b->cap) {
        b->cap = (b->n + bytes + 1) * 2;
        b->p = realloc(b->p, b->cap);
        if (!b->p)
            bail("out of memory");
    }
    memcpy(b->p + b->n, text, bytes);
    b->n += bytes;
    b->p[b->n] = '\0';
    return NPUMOE_OK;
}

static text_buffer text_of(const nm_profile *p, bool all_pairs)
{
    text_buffer b = {0};
    npumoe_error err = {0};
    ok(nm_profile_write(p, all_pairs, NULL, to_memory, &b, &err) == NPUMOE_OK, "is written");
    return b;
}

static bool same_profile(const nm_profile *p, const nm_profile *q)
{
    text_buffer a = text_of(p, true), b = text_of(q, true);
    const bool same = a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
    free(a.p);
    free(b.p);
    return same;
}

static nm_profile *parse(const char *text, size_t n, npumoe_error *err)
{
    nm_profile *p = NULL;
    return nm_profile_parse(NULL, text, n, "p.json", &p, err) == NPUMOE_OK ? p : NULL;
}

/* ---- bins ----------------------------------------------------------------------------------- */

static void bins(void)
{
    bool good = true;
    for (uint32_t load = 0; load <= NM_PROFILE_WINDOW; load++) {
        const uint32_t b = nm_profile_bin_of(load);
        good = good && nm_profile_bin_low(b) <= load && load <= nm_profile_bin_high(b);
        good = good && (load > 16 || nm_profile_bin_low(b) == nm_profile_bin_high(b));
        good = good && (nm_profile_bin_high(b) - nm_profile_bin_low(b)) * 4 <= load;
    }
    ok(good, "every load is in its bin, bins are at most a quarter of their load wide");
    uint32_t next = 0;
    for (uint32_t i = 0; i < NM_PROFILE_SIZES; i++) {
        is_int(nm_profile_first_bin(i), next, "size %u begins", NM_PROFILE_SIZE(i));
        is_int(nm_profile_bin_of(NM_PROFILE_SIZE(i)) + 1, nm_profile_n_bins(i), "its last bin");
        is_int(nm_profile_bin_high(nm_profile_n_bins(i) - 1), NM_PROFILE_SIZE(i), "its last load");
        next += nm_profile_n_bins(i);
    }
    is_int(next, NM_PROFILE_BINS, "bins of all sizes");
}

/* ---- questions against all loads ------------------------------------------------------------ */

/* Loads of every chunk of a size in a part. */
static size_t brute_loads(nm_profile_part part, uint32_t layer, uint32_t expert, uint32_t size,
                          uint32_t *loads)
{
    size_t n = 0;
    for (int t = 0; t < 2; t++)
        for (uint32_t i = text_begin[t]; i < text_begin[t + 1]; i++) {
            if (nm_profile_part_of(i - text_begin[t]) != part)
                continue;
            const uint16_t *ids = routes[i] + (size_t)layer * lengths[i] * USED;
            for (uint32_t c = 0; c < lengths[i] / size; c++, n++) {
                loads[n] = 0;
                for (uint32_t j = c * size * USED; j < (c + 1) * size * USED; j++)
                    loads[n] += ids[j] == expert;
            }
        }
    return n;
}

static int ascending(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

typedef struct worst {
    double mean, edge, overflow, above, quantile;
} worst;

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static void compare_expert(const nm_profile *p, nm_profile_part part, uint32_t l, uint32_t e,
                           uint32_t size, worst *w)
{
    static uint32_t loads[WINDOWS * 16];
    const size_t n = brute_loads(part, l, e, size, loads);
    double mean = 0;
    for (size_t i = 0; i < n; i++)
        mean += loads[i] / (double)n;
    qsort(loads, n, sizeof *loads, ascending);
    w->mean = larger(w->mean, fabs(mean - nm_profile_mean(p, part, l, e, size)));
    for (uint32_t c = 0; c <= size; c++) {
        double over = 0, above = 0;
        for (size_t i = 0; i < n; i++) {
            over += loads[i] > c ? (loads[i] - c) / (double)n : 0;
            above += loads[i] > c ? 1.0 / (double)n : 0;
        }
        const double off = fabs(over - nm_profile_overflow(p, part, l, e, size, c));
        const double off_above = fabs(above - nm_profile_above(p, part, l, e, size, c));
        if (c == nm_profile_bin_high(nm_profile_bin_of(c))) {
            w->edge = larger(w->edge, larger(off, off_above));
        } else {
            /* what is above a capacity within a bin differs by less than the bin's share */
            w->overflow = larger(w->overflow, off / (1 + mean));
        }
    }
    for (int q = 1; q < 20; q++) {
        const double got = nm_profile_quantile(p, part, l, e, size, q / 20.0);
        const double low = loads[(size_t)((double)n * (q / 20.0) * 0.999)];
        w->quantile = larger(w->quantile, (fabs(got - low) - 1) / (8 + low));
    }
}

static void questions(const nm_profile *p)
{
    for (int part = 0; part < NM_PROFILE_PARTS; part++)
        for (uint32_t i = 0; i < NM_PROFILE_SIZES; i++) {
            worst w = {0};
            for (uint32_t l = 0; l < LAYERS; l++)
                for (uint32_t e = 0; e < EXPERTS; e++)
                    compare_expert(p, (nm_profile_part)part, l, e, NM_PROFILE_SIZE(i), &w);
            ok(w.mean < 1e-9, "part %d, chunks of %u: means are exact (%.2g)", part,
               NM_PROFILE_SIZE(i), w.mean);
            ok(w.edge < 1e-9, "... overflow and share above at bins' edges, too (%.2g)", w.edge);
            ok(w.overflow < 0.03, "... overflow inside bins (off by %.3f of the mean)", w.overflow);
            ok(w.quantile < 0.25, "... quantiles within a bin (%.3f)", w.quantile);
        }
}

/* Sizes that were not counted: against all windows cut into such chunks. */
static void between_sizes(const nm_profile *p)
{
    static const uint32_t sizes[] = {160, 192, 384, 768, 1536};
    static uint32_t loads[WINDOWS * 16];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        double off = 0, off_mean = 0, all = 0;
        for (uint32_t l = 0; l < LAYERS; l++)
            for (uint32_t e = 0; e < EXPERTS; e++) {
                const size_t n = brute_loads(NM_PROFILE_MAIN, l, e, sizes[i], loads);
                double mean = 0, over = 0, capacity;
                for (size_t j = 0; j < n; j++)
                    mean += loads[j] / (double)n;
                capacity = floor(mean);
                for (size_t j = 0; j < n; j++)
                    over += loads[j] > capacity ? (loads[j] - capacity) / (double)n : 0;
                off += nm_profile_overflow(p, NM_PROFILE_MAIN, l, e, sizes[i], capacity) - over;
                off_mean += fabs(nm_profile_mean(p, NM_PROFILE_MAIN, l, e, sizes[i]) - mean);
                all += mean;
            }
        ok(fabs(off) / all < 0.02, "chunks of %u: overflow at the mean is off by %.4f of all pairs",
           sizes[i], off / all);
        ok(off_mean / all < 0.06, "... means by %.4f (other chunks of the windows)",
           off_mean / all);
    }
    const double at_2048 = nm_profile_overflow(p, NM_PROFILE_MAIN, 0, 0, 2048, 100);
    is_near(nm_profile_overflow(p, NM_PROFILE_MAIN, 0, 0, 4096, 200), 2 * at_2048, 1e-9,
            "above the largest size: relative loads of the largest");
    const double at_128 = nm_profile_overflow(p, NM_PROFILE_MAIN, 0, 0, 128, 20);
    is_near(nm_profile_overflow(p, NM_PROFILE_MAIN, 0, 0, 64, 10), at_128 / 2, 1e-9,
            "below the smallest: of the smallest");
}

static void nothing_known(void)
{
    nm_profile *p = empty(EXPERTS, USED);
    double r;
    is_near(nm_profile_mean(p, NM_PROFILE_MAIN, 0, 0, 512), 0, 0, "an empty profile: mean 0");
    is_near(nm_profile_popularity(p, NM_PROFILE_HELD, 0, 0), 0, 0, "... popularity 0");
    ok(!nm_profile_coactivation(p, 0, 0, 1, &r), "... no co-activation");
    is_u64(nm_profile_chunks(p, NM_PROFILE_MAIN, 512), 0, "... no chunks");
    uint16_t ids[LAYERS][100][USED];
    make_ids(&ids[0][0][0], LAYERS, 100, EXPERTS, USED);
    ok(nm_profile_add_window(p, NM_PROFILE_MAIN, 100, &ids[0][0][0], NULL) == NPUMOE_OK,
       "100 tokens without a text");
    const double pop = nm_profile_popularity(p, NM_PROFILE_MAIN, 0, ids[0][0][0]);
    ok(pop > 0, "popularity is known without a whole chunk");
    is_near(nm_profile_mean(p, NM_PROFILE_MAIN, 0, ids[0][0][0], 1000), pop * USED * 1000, 1e-9,
            "... and speaks for loads");
    nm_profile_free(&p);
}

static void coactivation(const nm_profile *p)
{
    static uint32_t a[WINDOWS * 16], b[WINDOWS * 16];
    double worst_off = 0, r;
    for (uint32_t l = 0; l < LAYERS; l++)
        for (uint32_t e = 0; e < EXPERTS; e++)
            for (uint32_t f = 0; f < EXPERTS; f++) {
                const size_t n = brute_loads(NM_PROFILE_MAIN, l, e, 512, a);
                brute_loads(NM_PROFILE_MAIN, l, f, 512, b);
                double ma = 0, mb = 0, ab = 0, aa = 0, bb = 0;
                for (size_t i = 0; i < n; i++) {
                    ma += a[i] / (double)n;
                    mb += b[i] / (double)n;
                }
                for (size_t i = 0; i < n; i++) {
                    ab += (a[i] - ma) * (b[i] - mb);
                    aa += (a[i] - ma) * (a[i] - ma);
                    bb += (b[i] - mb) * (b[i] - mb);
                }
                const bool known = nm_profile_coactivation(p, l, e, f, &r);
                worst_off = larger(worst_off, known ? fabs(r - ab / sqrt(aa * bb)) : 1);
            }
    ok(worst_off < 1e-6, "co-activation is the correlation of loads (off by %.2g)", worst_off);
}

/* ---- joining, files ------------------------------------------------------------------------- */

static void joining(const nm_profile *both)
{
    nm_profile *one = empty(EXPERTS, USED), *two = empty(EXPERTS, USED);
    npumoe_error err = {0};
    add_text(one, 0);
    add_text(two, 1);
    ok(!same_profile(one, both), "half of the texts is another profile");
    ok(nm_profile_merge(one, two, &err) == NPUMOE_OK, "two profiles are joined");
    ok(same_profile(one, both), "... which gives the profile of both texts");
    two->model.router_hash++;
    ok(nm_profile_merge(one, two, &err) == NPUMOE_EINVAL, "not with other routers");
    ok(strstr(err.message, "fedcba9876543211") != NULL, "... saying so: %s", err.message);
    two->model.router_hash--;
    two->part[NM_PROFILE_MAIN].tokens = NM_PROFILE_MAX_TOKENS - 1;
    ok(nm_profile_merge(one, two, &err) == NPUMOE_ETOOBIG, "not past the limit of tokens");
    ok(same_profile(one, both), "... and nothing is added");
    nm_profile_free(&two);
    nm_profile *small = empty(EXPERTS - 1, USED);
    ok(nm_profile_merge(one, small, &err) == NPUMOE_EINVAL, "not of another geometry");
    nm_profile_free(&small);
    nm_profile_free(&one);
}

/* More texts than have a popularity of their own: still the same joined or in one pass. */
static void many_texts(void)
{
    enum { TEXTS = NM_PROFILE_TEXTS_SPREAD + 9 };
    nm_profile *all = empty(EXPERTS, USED), *a = empty(EXPERTS, USED), *b = empty(EXPERTS, USED);
    for (int i = 0; i < TEXTS; i++) {
        nm_profile *parts[] = {all, i < 11 ? a : b};
        for (int j = 0; j < 2; j++) {
            nm_profile_add_text(parts[j], "\xff\x01 text \xc3\xa9", 5, NULL);
            nm_profile_add_window(parts[j], NM_PROFILE_MAIN, lengths[i % 12], routes[i % 12], NULL);
        }
    }
    ok(nm_profile_merge(a, b, NULL) == NPUMOE_OK && same_profile(a, all), "many texts");
    ok(all->texts[NM_PROFILE_TEXTS_SPREAD].pairs == NULL, "... the late ones without popularity");
    is_str(all->texts[3].name, "?? text \xc3\xa9", "... names are text");
    nm_profile_free(&a);
    nm_profile_free(&b);
    nm_profile_free(&all);
}

static void files(const nm_profile *p)
{
    npumoe_error err = {0};
    text_buffer t = text_of(p, false);
    nm_profile *q = parse(t.p, t.n, &err);
    if (ok(q != NULL, "a written profile is read (%s)", err.message))
        ok(same_profile(p, q), "... and is the same");
    nm_profile_free(&q);
    free(t.p);

    /* of many experts only the pairs of the busiest are kept, until all are asked for */
    nm_profile *wide = empty(100, 5), *back;
    uint16_t *ids = malloc((size_t)LAYERS * NM_PROFILE_WINDOW * 5 * sizeof *ids);
    if (!ids)
        bail("out of memory");
    make_ids(ids, LAYERS, NM_PROFILE_WINDOW, 100, 5);
    nm_profile_add_window(wide, NM_PROFILE_MAIN, NM_PROFILE_WINDOW, ids, &err);
    text_buffer all = text_of(wide, true), some = text_of(wide, false);
    ok(some.n < all.n * 2 / 3, "pairs of the busiest: %zu bytes, of all: %zu", some.n, all.n);
    back = parse(all.p, all.n, &err);
    ok(back && same_profile(back, wide), "all pairs are read again");
    nm_profile_free(&back);
    back = parse(some.p, some.n, &err);
    uint32_t known = 0;
    for (uint32_t e = 0; back && e < 100; e++)
        known += back->coact_known[e];
    is_int(known, NM_PROFILE_COACT_STORED, "or those of the busiest");
    nm_profile_free(&back);
    nm_profile_free(&wide);
    free(ids);
    free(all.p);
    free(some.p);
}

/* ---- files that lie ------------------------------------------------------------------------- */

/* Walks "a.b[1]" down a document. */
static json_t *find(json_t *v, const char *path)
{
    while (v && *path) {
        char key[64];
        size_t n = strcspn(path, ".[");
        if (*path == '[') {
            v = json_array_get(v, strtoul(path + 1, NULL, 10));
            path = strchr(path, ']') + 1;
        } else {
            memcpy(key, path, n);
            key[n] = '\0';
            v = json_object_get(v, key);
            path += n;
        }
        path += *path == '.';
    }
    return v;
}

static const struct lie {
    const char *place, *key; /* object and key, or array and "index" */
    const char *value;       /* JSON, or NULL: without the key */
    const char *message;     /* a part of it */
} lies[] = {
    {"", "schema", "\"npumoe-plan\"", "schema: found \"npumoe-plan\", expected \"npumoe-profile\""},
    {"", "schema_version", "2", "schema_version: found 2, expected 1"},
    {"", "model", "[]", "model: found an array of 0, expected an object"},
    {"", "window", "1024", "window: found 1024"},
    {"", "chunk_sizes", "[128]", "chunk_sizes"},
    {"", "main", NULL, "main: found nothing"},
    {"", "texts", "3", "texts: found 3"},
    {"", "layers", "[]", "layers with experts: found 0 of 4"},
    {"model", "name", "\"a\\u0007b\"", "model.name"},
    {"model", "n_expert", "0", "model.n_expert: found 0"},
    {"model", "n_expert", "4096", "layers[0].main.pairs"},
    {"model", "n_expert_used", "25", "experts of a token: found 25 of 24"},
    {"model", "n_expert_used", "2", "pairs that add up"},
    {"model", "n_layer", "3", "layers[1].layer: found 3"},
    {"model", "n_embd", "1e9", "model.n_embd: found 1e+09"},
    {"model", "router_hash", "\"fedc\"", "model.router_hash"},
    {"model", "router_hash", "\"0x123456789abcde\"", "model.router_hash"},
    {"model", "type_up", "\"Q9\"", "model.type_up"},
    {"main", "tokens", "-1", "main.tokens: found -1"},
    {"main", "tokens", "9999999999", "main.tokens"},
    {"main.chunks", "[0]", "9999", "main.chunks[0]"},
    {"main.chunks", "[4]", "17", "main.chunks[4]: found 17"},
    {"texts[0]", "held_tokens", "1000000", "texts[0].tokens"},
    {"texts[0]", "pairs", NULL, "texts[0].pairs: found nothing"},
    {"texts[1].pairs[1]", "[3]", "1", "texts[1].pairs[1]"},
    {"layers[1]", "layer", "1", "layers with experts: entry 1 is layer 1"},
    {"layers[0].main", "pairs", "[1,2]", "layers[0].main.pairs"},
    {"layers[0].main.pairs", "[2]", "0", "layers[0].main.pairs: found an array of 24"},
    {"layers[0].main", "loads", "[[],[],[],[]]", "layers[0].main.loads"},
    {"layers[0].main.loads[1]", "[3]", "[1,1]", "layers[0].main.loads[1][3]"},
    {"layers[0].main.loads[1]", "[3]", "[0,1,4]", "layers[0].main.loads[1][3]"},
    {"layers[0].main.loads[1]", "[3]", "[40,9,4]", "layers[0].main.loads[1][3]"},
    {"layers[0].main.loads[0]", "[3]", "[5,1,999999]", "layers[0].main.loads[0][3][2]"},
    {"layers[0].main.loads[0]", "[3]", "[5,1,2,7]", "layers[0].main.loads[0][3]"},
    {"layers[0].main.loads[0]", "[3]", "[20,1,2,100]", "layers[0].main.loads[0][3][3]"},
    {"layers[0].main.loads[0]", "[3]", "[]", "loads that add up"},
    {"layers[1].held_out", "pairs", "{}", "layers[1].held_out.pairs"},
    {"layers[1].coactivation", "experts", "[1,1]", "layers[1].coactivation"},
    {"layers[1].coactivation", "products", "[]", "layers[1].coactivation.products"},
    {"layers[1].coactivation.products", "[5]", "-3", "layers[1].coactivation.products[5]"},
};

static void lying(const nm_profile *p)
{
    text_buffer t = text_of(p, false);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        const struct lie *lie = &lies[i];
        npumoe_error err = {0};
        json_t *root = json_loadb(t.p, t.n, 0, NULL), *at = find(root, lie->place);
        if (lie->value == NULL)
            json_object_del(at, lie->key);
        else if (lie->key[0] == '[')
            json_array_set_new(at, strtoul(lie->key + 1, NULL, 10),
                               json_loads(lie->value, JSON_DECODE_ANY, NULL));
        else
            json_object_set_new(at, lie->key, json_loads(lie->value, JSON_DECODE_ANY, NULL));
        char *text = json_dumps(root, JSON_COMPACT);
        nm_profile *q = NULL;
        npumoe_status st = nm_profile_parse(NULL, text, strlen(text), "p.json", &q, &err);
        is_int(st, NPUMOE_EFORMAT, "%s.%s = %s", lie->place, lie->key,
               lie->value ? lie->value : "nothing");
        if (!ok(strstr(err.message, lie->message) && strstr(err.message, "p.json: "),
                "... says where"))
            note("message: %s", err.message);
        nm_profile_free(&q);
        free(text);
        json_decref(root);
    }
    npumoe_error err = {0};
    ok(!parse(t.p, t.n / 2, &err) && strstr(err.message, "p.json: not JSON"), "half a file: %s",
       err.message);
    ok(!parse("[1]", 3, &err), "an array: %s", err.message);
    ok(!parse("", 0, &err), "nothing: %s", err.message);
    free(t.p);
}

int main(void)
{
    note("seed %" PRIu64, SEED);
    make_routes();
    bins();
    nm_profile *p = empty(EXPERTS, USED);
    add_text(p, 0);
    add_text(p, 1);
    is_u64(p->part[NM_PROFILE_HELD].tokens, 3 * 2048 + 0u, "windows 3 and 11, and 3 of the second");
    questions(p);
    between_sizes(p);
    nothing_known();
    coactivation(p);
    joining(p);
    many_texts();
    files(p);
    lying(p);
    nm_profile_free(&p);
    for (int i = 0; i < WINDOWS; i++)
        free(routes[i]);
    return done_testing();
}
