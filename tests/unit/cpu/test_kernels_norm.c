/* Norms of each SIMD set against the reference. */
#include "kernel_test.h"

typedef struct shape {
    int64_t rows, dim;
    bool res, weight, bias, dsum, acc, in_place;
} shape;

enum { X, RES, W, B, SUM, Y, RSTD, MEAN };

static void fwd_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_norm_args *)args = (fm_norm_args){.n_rows = s->rows,
                                           .dim = s->dim,
                                           .eps = 1e-5F,
                                           .x = p[X],
                                           .res = p[RES],
                                           .w = p[W],
                                           .b = p[B],
                                           .sum = p[SUM],
                                           .y = p[Y],
                                           .rstd = p[RSTD],
                                           .mean = p[MEAN]};
}

static void forward(fm_kernel k, fm_dtype d, shape s) {
    int64_t n = s.rows * s.dim;
    fm_dtype a = fm_dtype_acc(d);
    kt_case c = {.name = fm_kernel_name(k),
                 .k = k,
                 .d = d,
                 .rtol = kt_rtol(d, 4e-6),
                 .atol = 4e-6,
                 .args = fwd_args,
                 .shape = &s};
    c.buf[X] = (kt_buf){d, n, -2, 3, false};
    c.buf[RES] = (kt_buf){d, s.res ? n : 0, -2, 2, false};
    c.buf[W] = (kt_buf){d, s.weight ? s.dim : 0, 0.5, 1.5, false};
    c.buf[B] = (kt_buf){d, s.bias ? s.dim : 0, -1, 1, false};
    c.buf[SUM] = (kt_buf){d, s.res ? n : 0, 0, 0, true};
    c.buf[Y] = (kt_buf){d, n, 0, 0, true};
    c.buf[RSTD] = (kt_buf){a, s.rows, 0, 0, true};
    c.buf[MEAN] = (kt_buf){a, s.rows, 0, 0, k == FM_K_layernorm_fwd};
    kt_check(&c);
}

enum { BX, BW, BRSTD, BMEAN, BDY, BDSUM, BDX, BDW, BDB };

static void bwd_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_norm_bwd_args *)args = (fm_norm_bwd_args){.n_rows = s->rows,
                                                   .dim = s->dim,
                                                   .x = p[BX],
                                                   .w = p[BW],
                                                   .rstd = p[BRSTD],
                                                   .mean = p[BMEAN],
                                                   .dy = p[BDY],
                                                   .dsum = s->in_place ? p[BDX] : p[BDSUM],
                                                   .dx = p[BDX],
                                                   .acc_dx = s->acc,
                                                   .dw = p[BDW],
                                                   .db = p[BDB]};
}

static void backward(fm_kernel k, fm_dtype d, shape s) {
    int64_t n = s.rows * s.dim;
    fm_dtype a = fm_dtype_acc(d);
    kt_case c = {.name = fm_kernel_name(k),
                 .k = k,
                 .d = d,
                 .rtol = kt_rtol(d, 2e-5),
                 .atol = 2e-5,
                 .args = bwd_args,
                 .shape = &s};
    c.buf[BX] = (kt_buf){d, n, -2, 3, false};
    c.buf[BW] = (kt_buf){d, s.weight ? s.dim : 0, 0.5, 1.5, false};
    c.buf[BRSTD] = (kt_buf){a, s.rows, 0.4, 0.8, false};
    c.buf[BMEAN] = (kt_buf){a, s.rows, 0.2, 0.7, false};
    c.buf[BDY] = (kt_buf){d, n, -1, 1, false};
    c.buf[BDSUM] = (kt_buf){d, s.dsum ? n : 0, -1, 1, false};
    c.buf[BDX] = (kt_buf){d, n, -1, 1, true};
    c.buf[BDW] = (kt_buf){a, s.weight ? s.dim : 0, -1, 1, true};
    c.buf[BDB] = (kt_buf){a, s.bias ? s.dim : 0, -1, 1, true};
    kt_check(&c);
}

static const shape shapes[] = {
    {0, 8, true, true, true, true, false, false},    {3, 1, false, true, true, false, false, false},
    {5, 17, true, true, false, true, false, false},  {1, 64, false, false, false, false, true, false},
    {67, 130, true, true, true, true, false, false}, {200, 255, false, true, true, false, true, false},
    {300, 96, true, true, true, false, false, true},
};

static void forwards(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        forward(FM_K_rmsnorm_fwd, FM_F32, shapes[i]);
        forward(FM_K_rmsnorm_fwd, FM_BF16, shapes[i]);
        forward(FM_K_layernorm_fwd, FM_F32, shapes[i]);
        forward(FM_K_layernorm_fwd, FM_BF16, shapes[i]);
    }
}

static void backwards(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        backward(FM_K_rmsnorm_bwd, FM_F32, shapes[i]);
        backward(FM_K_rmsnorm_bwd, FM_BF16, shapes[i]);
        backward(FM_K_layernorm_bwd, FM_F32, shapes[i]);
        backward(FM_K_layernorm_bwd, FM_BF16, shapes[i]);
    }
}

/* The bits of a row do not depend on the rows beside it. */
static void row_invariance(void **state) {
    (void)state;
    enum { ROWS = 130, DIM = 333 };
    for (size_t i = 0; i < KT_N_ISAS; i++) {
        for (int layer = 0; layer < 2; layer++) {
            fm_kernel k = layer ? FM_K_layernorm_fwd : FM_K_rmsnorm_fwd;
            const fm_backend *b = kt_set(i, k, FM_F32);
            if (!b) {
                continue;
            }
            shape s = {ROWS, DIM, true, true, true, false, false, false};
            kt_case c = {.name = "row invariance", .k = k, .d = FM_F32, .args = fwd_args, .shape = &s};
            c.buf[X] = c.buf[RES] = (kt_buf){FM_F32, ROWS * DIM, -1, 1, false};
            c.buf[W] = c.buf[B] = (kt_buf){FM_F32, DIM, -1, 1, false};
            c.buf[SUM] = c.buf[Y] = (kt_buf){FM_F32, ROWS * DIM, 0, 0, true};
            kt_run all, some;
            kt_execute(&c, &all, b, 3);
            s.rows = 1;
            kt_execute(&c, &some, b, 1);
            assert_memory_equal(all.p[Y], some.p[Y], DIM * sizeof(float));
            kt_free(&some);
            s.rows = 77;
            kt_execute(&c, &some, b, 2);
            assert_memory_equal(all.p[Y], some.p[Y], 77 * DIM * sizeof(float));
            kt_free(&some);
            kt_free(&all);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forwards),
        cmocka_unit_test(backwards),
        cmocka_unit_test(row_invariance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
