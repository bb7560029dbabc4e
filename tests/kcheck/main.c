/* main.c: kcheck [--seed N] [--filter TEXT] [--tier NAME] [--emulated] [--bench]; kcheck --list
 *
 * --emulated: no buffer ends at a page without access, because qemu (7.2 at least) touches the
 * masked lanes of AVX loads, which processors do not; fewer cases, and smaller products.
 * --list: the tables of kern.def in docs/kernels.md.
 * Prints TAP: one line per tier and kernel. A crash inside a kernel is a failure of that kernel. */
#include "products.h"

#include "tap.h"

#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#define EXACT          \
    {                  \
        CLASS_EXACT, 0 \
    }
#define ULP(n)       \
    {                \
        CLASS_ULP, n \
    }
#define DOT          \
    {                \
        CLASS_DOT, 0 \
    }
#define EXP(n)       \
    {                \
        CLASS_EXP, n \
    }

static const struct kernel {
    const char *name;
    check_fn *check;
    margin tolerance;
} kernels[] = {
#define K(name, args, tolerance, what) {#name, check_##name, tolerance},
#include "kernels/kern.def"
    {"decode", check_decode, EXACT}, {"attention", check_attend, DOT}, /* the check has its bound */
};

typedef struct options {
    uint64_t seed;
    const char *filter, *tier;
    bool bench, emulated;
} options;

static const struct {
    const char *name, *what, *tolerance;
} listed[] = {
#define K(name, args, tolerance, what) {#name, what, #tolerance},
#include "kernels/kern.def"
};

static const struct {
    const char *name, *slot, *tier, *has, *what;
} listed_products[] = {
#define P(arch, name, slot, tier, has, what) {#name, #slot, #tier, #has, what},
#include "kernels/kern.def"
};

/* has_avx512_vnni is a CPU's avx512_vnni. */
static const char *feature(const char *has)
{
    return strncmp(has, "has_", 4) == 0 ? has + 4 : "";
}

static void print_list(void)
{
    puts("| kernel | what | tolerance |\n|---|---|---|");
    for (size_t i = 0; i < sizeof listed / sizeof listed[0]; i++)
        printf("| `%s` | %s | %s |\n", listed[i].name, listed[i].what, listed[i].tolerance);
    puts("\n| product | slot | tier | and | instruction |\n|---|---|---|---|---|");
    for (size_t i = 0; i < sizeof listed_products / sizeof listed_products[0]; i++)
        printf("| `%s` | `%s` | `%s` | %s | %s |\n", listed_products[i].name,
               listed_products[i].slot, listed_products[i].tier, feature(listed_products[i].has),
               listed_products[i].what);
}

static sigjmp_buf crashed;
/* Threads of a pool have nowhere to jump to. */
static _Thread_local bool can_jump;

static void on_crash(int sig)
{
    static const char text[] = "\nBail out! a worker of a pool crashed\n";
    if (can_jump)
        siglongjmp(crashed, sig);
    _exit(write(STDOUT_FILENO, text, sizeof text - 1) > 0 ? 1 : 2);
}

static void catch_crashes(void)
{
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_handler = on_crash;
    act.sa_flags = SA_NODEFER;
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &act, NULL);
}

void guarded(kcheck *c, void (*check)(kcheck *c, void *arg), void *arg)
{
    can_jump = true;
    int sig = sigsetjmp(crashed, 1);
    if (sig == 0)
        check(c, arg);
    else
        fail(c, "crashed: %s", strsignal(sig));
}

void report_run(const kcheck *c, const char *name)
{
    ok(!c->failure[0] && c->cases > 0, "%s: %lu cases, worst error %.2f of the tolerance", name,
       c->cases, c->worst);
    if (c->failure[0])
        fprintf(stderr, "#   %s\n", c->failure);
}

void report_missing(const char *product)
{
    skip(1, "product %s: this CPU lacks what it needs", product);
}

static void call_check(kcheck *c, void *arg)
{
    check_fn *const *check = arg;
    (*check)(c);
}

static void run_kernel(kcheck *c, const struct kernel *k, uint64_t seed)
{
    char name[64];
    c->tolerance = k->tolerance;
    c->rng = seed;
    c->cases = 0;
    c->worst = 0;
    c->failure[0] = '\0';
    check_fn *check = k->check;
    guarded(c, call_check, &check);
    snprintf(name, sizeof name, "%s %s", c->tier.isa, k->name);
    report_run(c, name);
}

/* Lines of --bench. */
static size_t run_tier(const char *tier, const nm_cpu *cpu, const options *o)
{
    static kcheck c;
    c.one_in = o->emulated ? 5 : 1;
    if (nm_kern_init(&c.ref, cpu, "scalar", NULL) != NPUMOE_OK ||
        nm_kern_init(&c.tier, cpu, tier, NULL) != NPUMOE_OK)
        bail("tier %s cannot be made", tier);
    if (o->bench)
        return bench_tier(&c.tier, cpu, o->filter) + (o->tier || strcmp(tier, "scalar") != 0
                                                          ? bench_attention(&c.tier, cpu, o->filter)
                                                          : 0);
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++)
        if (!o->filter || strstr(kernels[i].name, o->filter))
            run_kernel(&c, &kernels[i], o->seed);
    return 0;
}

/* A number in C's notation, and nothing else: another seed than the one that was meant would check other numbers. */
static uint64_t seed_of(const char *text)
{
    char *end;
    errno = 0;
    const unsigned long long n = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *end || !isdigit((unsigned char)*text))
        bail("--seed %s: expected a number from 0 to 2^64 - 1", text);
    return n;
}

static options parse(int argc, char **argv)
{
    static const char usage[] =
        "usage: kcheck [--seed N] [--filter TEXT] [--tier NAME] [--emulated] [--bench], or --list";
    options o = {.seed = 1};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--bench") == 0) {
            o.bench = true;
            continue;
        }
        if (strcmp(argv[i], "--help") == 0) {
            puts(usage);
            exit(0);
        }
        if (strcmp(argv[i], "--list") == 0) {
            print_list();
            exit(0);
        }
        if (strcmp(argv[i], "--emulated") == 0) {
            o.emulated = true;
            continue;
        }
        if (value && strcmp(argv[i], "--seed") == 0)
            o.seed = seed_of(value);
        else if (value && strcmp(argv[i], "--filter") == 0)
            o.filter = value;
        else if (value && strcmp(argv[i], "--tier") == 0)
            o.tier = value;
        else
            bail("%s", usage);
        i++;
    }
    return o;
}

/* A mistyped name would check nothing and pass. */
static void check_names(const options *o)
{
    /* --bench has more names, and says so itself when none fits */
    bool tier = !o->tier, kernel = !o->filter || o->bench || strstr("products", o->filter);
    for (size_t i = 0; !tier && nm_kern_tier(i); i++)
        tier = strcmp(o->tier, nm_kern_tier(i)) == 0;
    for (size_t i = 0; !kernel && i < sizeof kernels / sizeof kernels[0]; i++)
        kernel = strstr(kernels[i].name, o->filter) != NULL;
    if (!tier)
        bail("--tier %s: this build has no such tier", o->tier);
    if (!kernel)
        bail("--filter %s: no kernel's name has this in it", o->filter);
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    check_names(&o);
    nm_cpu cpu = nm_cpu_detect();
    size_t lines = 0;
    slots_init(o.emulated);
    catch_crashes();
    if (!o.bench)
        printf("# seed %llu\n", (unsigned long long)o.seed);
    for (size_t i = 0; nm_kern_tier(i); i++) {
        const char *tier = nm_kern_tier(i);
        if (o.tier && strcmp(o.tier, tier) != 0)
            continue;
        if (nm_kern_tier_usable(tier, &cpu))
            lines += run_tier(tier, &cpu, &o);
        else if (!o.bench)
            skip(1, "%s: this CPU lacks it", tier);
    }
    if (o.bench)
        lines += bench_products(&cpu, o.tier, o.filter);
    if (o.bench && lines == 0)
        bail("--filter %s: no line of --bench has this in it", o.filter ? o.filter : "");
    if (!o.bench && (!o.filter || strstr("products", o.filter)))
        check_products(&cpu, o.tier, o.seed, o.emulated);
    return o.bench ? 0 : done_testing();
}
