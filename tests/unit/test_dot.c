/* test_dot.c: the integer products for few rows at the ends of all ranges: codes of all zeros and
 * all ones, rows whose integers are at both ends with both signs, sums of x that do not fit fp32, the
 * smallest and largest scales, weights that end where memory does. An integer that overflows or
 * saturates is off by far more than rounding. (kcheck has random codes and rows.) */
#include "tap.h"

#include "kernels/kern.h"
#include "quant/blocks.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

enum { K = 512, ROWS = 4, N_X = 6, EDGE_ROWS = 70, EDGE_K = 288, LENGTHS = 2 };

typedef struct mat {
    nm_mat mat;
    _Alignas(64) char bytes[ROWS * K * 2];
    float w[ROWS][K];
} mat;

static void put_scale(uint32_t type, char *block)
{
    nm_block_put_half((nm_half2b *)(void *)block,
                      1.0f); /* most begin with d, m or dmin behind it */
    switch (type) {
    case NM_TYPE_MXFP4:
        *block = 127;
        break;
    case NM_TYPE_Q2_K:
        nm_block_put_half(&((nm_block_q2_k *)(void *)block)->d, 1.0f);
        nm_block_put_half(&((nm_block_q2_k *)(void *)block)->dmin, 0.5f);
        break;
    case NM_TYPE_Q3_K:
        nm_block_put_half(&((nm_block_q3_k *)(void *)block)->d, 1.0f);
        break;
    case NM_TYPE_Q6_K:
        nm_block_put_half(&((nm_block_q6_k *)(void *)block)->d, 1.0f);
        break;
    case NM_TYPE_Q4_1:
    case NM_TYPE_Q5_1:
    case NM_TYPE_Q4_K:
    case NM_TYPE_Q5_K:
        nm_block_put_half((nm_half2b *)(void *)block + 1, 0.5f);
        break;
    default:
        break;
    }
}

/* Row j: bytes 00, ff, 80, 7f. */
static void make_mat(uint32_t type, mat *m)
{
    static const unsigned char fill[ROWS] = {0x00, 0xff, 0x80, 0x7f};
    const nm_type_traits *t = nm_type_get(type);
    uint64_t row_bytes = 0;
    nm_row_bytes(type, K, &row_bytes);
    m->mat = (nm_mat){.type = type, .rows = ROWS, .cols = K, .row_bytes = row_bytes};
    m->mat.data = m->bytes;
    for (size_t j = 0; j < ROWS; j++) {
        char *row = m->bytes + j * row_bytes;
        memset(row, fill[j], row_bytes);
        for (uint64_t at = 0; at < row_bytes; at += t->block_bytes)
            put_scale(type, row + at);
        t->decode(row, m->w[j], K);
    }
}

/* All at one end, at the other, in turn; with lo at its ends while hi is not. */
static float x_of(int row, size_t p)
{
    const float top = 127 * 256 + 127, other = 126 * 256 - 127;
    switch (row) {
    case 0:
        return top;
    case 1:
        return -top;
    case 2:
        return p % 2 ? top : -top;
    case 3:
        return p % 32 ? other : top;
    case 4:
        return p % 32 ? -other : top;
    default:
        return p % 32 ? 128 : -top; /* the one code that is moved by one */
    }
}

static void check_type(const nm_kern *k, uint32_t type)
{
    static mat m;
    static float x[N_X][K], y[N_X][ROWS];
    static _Alignas(64) char xp[N_X * K * 5];
    const nm_product *p = k->products[NM_PRODUCT_DOT_Q];
    const float *xs[N_X];
    float *ys[N_X];
    make_mat(type, &m);
    for (int i = 0; i < N_X; i++) {
        for (size_t q = 0; q < K; q++)
            x[i][q] = x_of(i, q);
        xs[i] = x[i];
        ys[i] = y[i];
    }
    p->pack(N_X, K, xs, 0, N_X, xp);
    nm_out_args a = {.kern = k, .w = &m.mat, .j1 = ROWS, .m = N_X, .xp = xp, .y = ys};
    p->out(&a);
    double worst = 0;
    for (int i = 0; i < N_X; i++)
        for (int j = 0; j < ROWS; j++) {
            double sum = 0, size = 0, rounded = 0;
            for (size_t q = 0; q < K; q++) {
                double w = (double)m.w[j][q];
                sum += (double)x[i][q] * w;
                size += fabs((double)x[i][q]) * (fabs(w) + 128);
                rounded += fabs(w);
            }
            double bound = 0x1p-20 * size + (i == 5 ? 1.01 * rounded : 0) + 1e-3;
            worst = fmax(worst, fabs((double)y[i][j] - sum) / bound);
        }
    ok(worst <= 1, "%s %s (%s): %.3f of the tolerance", k->isa, p->name, nm_type_get(type)->name,
       worst);
}

/* ---- one row of x ---------------------------------------------------------------------------- */

/* y = W x for rows [j0, j1); next as in product.h. */
static void multiply(const nm_kern *k, const nm_mat *w, const float *x, uint64_t j0, uint64_t j1,
                     const void *next, float *y)
{
    static _Alignas(64) char xp[K * 5];
    const nm_product *p = k->products[NM_PRODUCT_DOT_Q];
    p->pack(1, (size_t)w->cols, &x, 0, 1, xp);
    nm_out_args a = {
        .kern = k, .w = w, .j0 = j0, .j1 = j1, .m = 1, .xp = xp, .next = next, .y = &y};
    p->out(&a);
}

/* The largest error of y, as a part of what rounding x (2^-15 of its block's maximum, here of any) and
 * the offset of codes (128 scales of x's sum, 2^-22 of it) allow. */
static double worst_error(const nm_mat *w, const float *x, const float *y, double scale)
{
    double worst = 0;
    for (uint64_t j = 0; j < w->rows; j++) {
        float row[K];
        nm_type_get(w->type)->decode(nm_mat_row_at(w, j), row, (size_t)w->cols);
        double sum = 0, size = 0, sum_x = 0;
        for (size_t p = 0; p < w->cols; p++) {
            sum += (double)x[p] * (double)row[p];
            size += fabs((double)x[p] * (double)row[p]);
            sum_x += fabs((double)x[p]);
        }
        double bound = 0x1p-14 * size + 0x1p-22 * 128 * scale * sum_x;
        double off = fabs((double)y[j] - sum) / bound;
        worst = off <= worst ? worst : off; /* NaN is worse than all */
    }
    return worst;
}

/* EDGE_ROWS rows that end with the last byte before a page without access. */
static void check_end_of_memory(const nm_kern *k, uint32_t type)
{
    static const size_t lengths[LENGTHS] = {NM_QK, EDGE_K};
    const size_t page = (size_t)sysconf(_SC_PAGESIZE),
                 room = (EDGE_ROWS * EDGE_K * 2 / page + 1) * page;
    char *memory = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + room, page, PROT_NONE) != 0)
        bail("no memory");
    for (int i = 0; i < LENGTHS; i++) {
        float x[EDGE_K], y[EDGE_ROWS], pieces[EDGE_ROWS];
        uint64_t row_bytes = 0;
        nm_row_bytes(type, lengths[i], &row_bytes);
        char *data = memory + room - EDGE_ROWS * row_bytes;
        const nm_mat w = {.type = type,
                          .rows = EDGE_ROWS,
                          .cols = lengths[i],
                          .row_bytes = row_bytes,
                          .data = data};
        for (size_t at = 0; at < EDGE_ROWS * row_bytes; at++)
            data[at] = (char)(at * 37 % 251);
        for (size_t at = 0; at < EDGE_ROWS * row_bytes; at += nm_type_get(type)->block_bytes)
            put_scale(type, data + at);
        for (size_t p = 0; p < lengths[i]; p++)
            x[p] = sinf((float)p);
        multiply(k, &w, x, 0, EDGE_ROWS, NULL, y);
        double worst = worst_error(&w, x, y, 1);
        ok(worst <= 1, "%s %s k %zu, memory ends: %.3f of the tolerance", k->isa,
           nm_type_get(type)->name, lengths[i], worst);
        multiply(k, &w, x, 0, 32, memory + room,
                 pieces); /* asking there must not be reading there */
        multiply(k, &w, x, 32, 64, data, pieces);
        multiply(k, &w, x, 64, EDGE_ROWS, NULL, pieces);
        ok(memcmp(y, pieces, sizeof y) == 0, "... in three ranges the same bits");
    }
    munmap(memory, room + page);
}

/* 32 of x add up to more than a float holds; with weights this small no sum of products does. */
static void check_large_x(const nm_kern *k, uint32_t type)
{
    const float scale = nm_type_get(type)->block_elems == NM_QK ? 0x1p-10f : 0x1p-18f;
    const nm_half2b small = nm_block_put_u16(nm_f32_to_f16(scale));
    static mat m;
    float x[K], y[ROWS];
    make_mat(type, &m);
    for (size_t at = 0; at < ROWS * m.mat.row_bytes; at += nm_type_get(type)->block_bytes) {
        char *block = m.bytes + at;
        if (type == NM_TYPE_MXFP4)
            *block = 127 - 10;
        else if (type == NM_TYPE_Q2_K)
            ((nm_block_q2_k *)(void *)block)->d = ((nm_block_q2_k *)(void *)block)->dmin = small;
        else if (type == NM_TYPE_Q3_K)
            ((nm_block_q3_k *)(void *)block)->d = small;
        else if (type == NM_TYPE_Q6_K)
            ((nm_block_q6_k *)(void *)block)->d = small;
        else
            memcpy(block, &small, sizeof small);
        if (type == NM_TYPE_Q4_1 || type == NM_TYPE_Q5_1 || type == NM_TYPE_Q4_K ||
            type == NM_TYPE_Q5_K)
            memcpy(block + sizeof small, &small, sizeof small);
    }
    for (size_t p = 0; p < K; p++)
        x[p] = p % 64 < 32 ? 3e37f : -3e37f; /* K of one sign would be too much for results, too */
    multiply(k, &m.mat, x, 0, ROWS, NULL, y);
    double worst = worst_error(&m.mat, x, y, (double)scale);
    ok(worst <= 1, "%s %s, x of 3e37: %.3f of the tolerance", k->isa, nm_type_get(type)->name,
       worst);
}

/* Scales from 2^-128 (a denormal) to 2^126, whose larger codes are no floats any more. */
static void check_powers(const nm_kern *k)
{
    static const struct {
        unsigned char e, codes;
        float x;
    } cases[] = {{0, 0x71, 0x1p100f},    {1, 0x2f, 0x1p100f},    {2, 0x77, 0x1p100f},
                 {252, 0x77, 0x1p-100f}, {253, 0x11, 0x1p-100f}, {254, 0x19, 0x1p-100f}};
    static mat m;
    float x[K], y[ROWS];
    make_mat(NM_TYPE_MXFP4, &m);
    const size_t bytes = ROWS * m.mat.row_bytes, step = sizeof(nm_block_mxfp4);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(m.bytes, cases[i].codes, bytes);
        for (size_t at = 0; at < bytes; at += step)
            m.bytes[at] = (char)cases[i].e;
        for (size_t p = 0; p < K; p++)
            x[p] = cases[i].x * (float)(1 + p % 7);
        multiply(k, &m.mat, x, 0, ROWS, NULL, y);
        double worst = worst_error(&m.mat, x, y, ldexp(1, cases[i].e - 127));
        ok(worst <= 1, "%s MXFP4, scale 2^%d: %.3f of the tolerance", k->isa, cases[i].e - 127,
           worst);
    }
    memset(m.bytes, 0x77,
           bytes); /* 6 times 2^126 and more; x so small that sums of integers are fp32 */
    for (int e = 253; e <= 255; e++) {
        for (size_t at = 0; at < bytes; at += step)
            m.bytes[at] = (char)e;
        multiply(k, &m.mat, x, 0, ROWS, NULL, y);
        ok(!isfinite(y[0]), "%s MXFP4, a weight beyond fp32 (e = %d) does not get lost", k->isa, e);
    }
}

int main(void)
{
    const nm_cpu cpu = nm_cpu_detect();
    for (int less = 0; less < 3; less++) {
        nm_cpu have = cpu;
        have.avx512_vnni = have.avx512_vnni && less < 1;
        have.dotprod = have.dotprod && less < 1;
        have.avx_vnni = have.avx_vnni && less < 2;
        nm_kern k;
        if (nm_kern_init(&k, &have, NULL, NULL) != NPUMOE_OK || !k.products[NM_PRODUCT_DOT_Q])
            continue;
        for (uint32_t type = 0; type < NM_TYPE_END; type++)
            if (nm_type_get(type)->supported && k.products[NM_PRODUCT_DOT_Q]->takes(type)) {
                check_type(&k, type);
                check_large_x(&k, type);
                if (nm_type_get(type)->block_elems == NM_QK)
                    check_end_of_memory(&k, type);
            }
        check_powers(&k);
    }
    ok(nm_type_get(NM_TYPE_Q8_0)->supported, "there are types");
    done_testing();
}
