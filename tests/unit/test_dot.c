/* test_dot.c: the integer products for few rows at the ends of all ranges: codes of all zeros and
 * all ones, rows whose integers are at both ends with both signs. An integer that overflows or
 * saturates is off by far more than rounding. (kcheck has random codes and rows.) */
#include "tap.h"

#include "kernels/kern.h"
#include "quant/blocks.h"

#include <math.h>

enum { K = 512, ROWS = 4, N_X = 6 };

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
            if (nm_type_get(type)->supported && k.products[NM_PRODUCT_DOT_Q]->takes(type))
                check_type(&k, type);
    }
    ok(nm_type_get(NM_TYPE_Q8_0)->supported, "there are types");
    done_testing();
}
