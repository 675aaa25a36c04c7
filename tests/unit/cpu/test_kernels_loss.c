/* Softmax and cross-entropy of each SIMD set against the reference. */
#include "kernel_test.h"

static const fm_dtype types[] = {FM_F32, FM_BF16};
#define EACH_TYPE(d) for (const fm_dtype *d = types; d < types + 2; d++)

typedef struct shape {
    int64_t rows, dim;
    bool acc;
} shape;

static void softmax_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_softmax_args *)args = (fm_softmax_args){s->rows, s->dim, p[0], p[1]};
}
static void softmax_bwd_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_softmax_bwd_args *)args = (fm_softmax_bwd_args){s->rows, s->dim, p[0], p[1], p[2], s->acc};
}

static void softmax(void **state) {
    (void)state;
    static const shape shapes[] = {{1, 1, false}, {3, 15, true}, {7, 64, false}, {65, 129, true}, {100, 1000, false}};
    EACH_TYPE(d) for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const shape *s = &shapes[i];
        kt_case c = {.name = "softmax_fwd",
                     .k = FM_K_softmax_fwd,
                     .d = *d,
                     .rtol = kt_rtol(*d, 3e-6),
                     .atol = 1e-9,
                     .args = softmax_args,
                     .shape = s};
        c.buf[0] = (kt_buf){*d, s->rows * s->dim, -20, 20, false};
        c.buf[1] = (kt_buf){*d, s->rows * s->dim, -1, 1, true};
        kt_check(&c);
        c.name = "softmax_bwd";
        c.k = FM_K_softmax_bwd;
        c.args = softmax_bwd_args;
        c.atol = 3e-6;
        c.buf[0] = (kt_buf){*d, s->rows * s->dim, 0, 2.0 / (double)s->dim, false};
        c.buf[1] = (kt_buf){*d, s->rows * s->dim, -1, 1, false};
        c.buf[2] = (kt_buf){*d, s->rows * s->dim, -1, 1, true};
        kt_check(&c);
    }
}

typedef struct ce_shape {
    int64_t rows, classes;
    float smooth, z;
    bool weight;
    int over; /* dx: 0 apart, 1 over x with the rows of x, 2 over x, dense, -1 none */
} ce_shape;

enum { X, TARGET, WEIGHT, DX, LOSS, ARGMAX };

static void ce_args(void *args, void **p, const void *ctx) {
    const ce_shape *s = ctx;
    int32_t *target = p[TARGET];
    for (int64_t r = 0; r < s->rows; r += 4) {
        target[r] = -100;
    }
    fm_cross_entropy_args *a = args;
    *a = (fm_cross_entropy_args){.n_rows = s->rows,
                                 .n_classes = s->classes,
                                 .x = p[X],
                                 .x_stride = s->classes + 3,
                                 .target = target,
                                 .ignore_index = -100,
                                 .smooth = s->smooth,
                                 .z_loss = s->z,
                                 .dscale = 8.0,
                                 .weight = p[WEIGHT],
                                 .dx = p[DX],
                                 .dx_stride = s->classes,
                                 .loss = p[LOSS],
                                 .argmax = p[ARGMAX]};
    float *x = p[X];
    if (s->classes > 5) { /* a tie: the first of equal largest logits counts */
        x[a->x_stride * 1 + 3] = x[a->x_stride * 1 + s->classes - 1] = 30.0F;
    }
}
static void ce_args_f32_over(void *args, void **p, const void *ctx) {
    const ce_shape *s = ctx;
    ce_args(args, p, ctx);
    fm_cross_entropy_args *a = args;
    a->dx = p[X];
    a->dx_stride = s->over == 1 ? a->x_stride : s->classes;
}
static void ce_args_bf16_over(void *args, void **p, const void *ctx) {
    ce_args_f32_over(args, p, ctx);
    fm_cross_entropy_args *a = args;
    a->dx_stride *= ((const ce_shape *)ctx)->over == 1 ? 2 : 1;
}

static void cross_entropy(void **state) {
    (void)state;
    static const ce_shape shapes[] = {
        {2, 1, 0, 0, false, 0},         {5, 17, 0, 0, true, 0},        {6, 100, 0.1F, 1e-2F, false, 1},
        {33, 300, 0.2F, 0, true, 2},    {9, 5003, 0, 1e-3F, false, 0}, {7, 5003, 0.1F, 1e-4F, true, 1},
        {12, 2049, 0.05F, 0, false, 2}, {8, 4096, 0, 0, false, -1},
    };
    EACH_TYPE(d) for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const ce_shape *s = &shapes[i];
        kt_case c = {.name = "cross_entropy",
                     .k = FM_K_cross_entropy,
                     .d = *d,
                     .rtol = kt_rtol(*d, 3e-6),
                     .atol = 3e-6,
                     .shape = s};
        c.args = s->over <= 0 ? ce_args : *d == FM_BF16 ? ce_args_bf16_over : ce_args_f32_over;
        c.buf[X] = (kt_buf){FM_F32, s->rows * (s->classes + 3), -8, 12, s->over > 0 && *d == FM_F32};
        c.buf[TARGET] = (kt_buf){FM_I32, s->rows, 0, (double)s->classes, false};
        c.buf[WEIGHT] = (kt_buf){FM_F32, s->weight ? s->rows : 0, 0, 2, false};
        c.buf[DX] = (kt_buf){*d, s->over == 0 ? s->rows * s->classes : 0, -1, 1, s->over == 0};
        c.buf[LOSS] = (kt_buf){FM_F32, s->rows, -1, -1, true};
        c.buf[ARGMAX] = (kt_buf){FM_I32, s->rows, 0, 5, true};
        if (s->over > 0 && *d == FM_BF16) {
            /* The array is read back as bf16: after the call it holds dx. What lies between the rows is old x. */
            c.buf[X].out = false;
            kt_run want, got;
            kt_execute(&c, &want, fm_cpu_backend_isa(FM_ISA_REF), 1);
            for (size_t k = 0; k < KT_N_ISAS; k++) {
                const fm_backend *b = kt_set(k, c.k, *d);
                for (int threads = 1; b && threads <= 3; threads++) {
                    kt_execute(&c, &got, b, threads);
                    int64_t stride = s->over == 1 ? 2 * (s->classes + 3) : s->classes;
                    for (int64_t j = 0; j < s->rows * s->classes; j++) {
                        int64_t at = j / s->classes * stride + j % s->classes;
                        double g = fm_load_as_f64(FM_BF16, got.p[X], at), w = fm_load_as_f64(FM_BF16, want.p[X], at);
                        assert_true(fabs(g - w) <= c.atol + c.rtol * fabs(w));
                    }
                    kt_free(&got);
                }
            }
            kt_free(&want);
            continue;
        }
        kt_check(&c);
    }
}

/* Rows alone and in company give the same bits. */
static void row_invariance(void **state) {
    (void)state;
    ce_shape s = {40, 3001, 0.1F, 1e-3F, false, 0};
    kt_case c = {.name = "cross_entropy", .k = FM_K_cross_entropy, .d = FM_F32, .args = ce_args, .shape = &s};
    c.buf[X] = (kt_buf){FM_F32, s.rows * (s.classes + 3), -8, 12, false};
    c.buf[TARGET] = (kt_buf){FM_I32, s.rows, 0, (double)s.classes, false};
    c.buf[DX] = (kt_buf){FM_F32, s.rows * s.classes, -1, 1, true};
    c.buf[LOSS] = (kt_buf){FM_F32, s.rows, -1, -1, true};
    c.buf[ARGMAX] = (kt_buf){FM_I32, s.rows, 0, 5, true};
    for (size_t i = 0; i < KT_N_ISAS; i++) {
        const fm_backend *b = kt_set(i, c.k, c.d);
        if (!b) {
            continue;
        }
        kt_run all, some;
        s.rows = 40;
        kt_execute(&c, &all, b, 3);
        s.rows = 3;
        kt_execute(&c, &some, b, 1);
        assert_memory_equal(all.p[LOSS], some.p[LOSS], 3 * sizeof(float));
        assert_memory_equal(all.p[DX], some.p[DX], 3 * 3001 * sizeof(float));
        kt_free(&some);
        kt_free(&all);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax),
        cmocka_unit_test(cross_entropy),
        cmocka_unit_test(row_invariance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
