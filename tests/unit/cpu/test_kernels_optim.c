/* Optimizers and the sum of squares of each SIMD set against the reference. */
#include "kernel_test.h"

typedef struct shape {
    int64_t n;
    double l1, l2, momentum;
    bool copy, zero, nesterov;
} shape;

static const shape shapes[] = {
    {1, 0, 0, 0, false, false, false},
    {33, 0, 0, 0.9, true, true, false},
    {1001, 1e-2, 0, 0.9, true, false, true},
    {70003, 1e-3, 0.1, 0, false, true, false},
};

static void adamw_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_adamw_args *)args = (fm_adamw_args){.n = s->n,
                                             .w = p[0],
                                             .g = p[1],
                                             .m = p[2],
                                             .v = p[3],
                                             .w_bf16 = p[4],
                                             .lr = 1e-2,
                                             .beta1 = 0.9,
                                             .beta2 = 0.999,
                                             .eps = 1e-8,
                                             .decay = 0.1,
                                             .l1 = s->l1,
                                             .l2 = s->l2,
                                             .bias1 = 1 - pow(0.9, 3),
                                             .bias2 = 1 - pow(0.999, 3),
                                             .grad_scale = 0.5,
                                             .zero_grad = s->zero};
}

static void sgd_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_sgd_args *)args = (fm_sgd_args){.n = s->n,
                                         .w = p[0],
                                         .g = p[1],
                                         .m = s->momentum > 0 ? p[2] : NULL,
                                         .w_bf16 = p[4],
                                         .lr = 1e-1,
                                         .momentum = s->momentum,
                                         .decay = 0.1,
                                         .l1 = s->l1,
                                         .l2 = s->l2,
                                         .grad_scale = 0.5,
                                         .nesterov = s->nesterov,
                                         .zero_grad = s->zero};
}

static void lion_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_lion_args *)args = (fm_lion_args){.n = s->n,
                                           .w = p[0],
                                           .g = p[1],
                                           .m = p[2],
                                           .w_bf16 = p[4],
                                           .lr = 1e-2,
                                           .beta1 = 0.9,
                                           .beta2 = 0.99,
                                           .decay = 0.1,
                                           .l1 = s->l1,
                                           .l2 = s->l2,
                                           .grad_scale = 0.5,
                                           .zero_grad = s->zero};
}

static void steps(void **state) {
    (void)state;
    static const struct {
        const char *name;
        fm_kernel k;
        void (*args)(void *args, void **p, const void *ctx);
    } kinds[] = {{"adamw", FM_K_adamw, adamw_args}, {"sgd", FM_K_sgd, sgd_args}, {"lion", FM_K_lion, lion_args}};
    for (size_t i = 0; i < 3 * sizeof shapes / sizeof *shapes; i++) {
        const shape *s = &shapes[i / 3];
        kt_case c = {.name = kinds[i % 3].name,
                     .k = kinds[i % 3].k,
                     .d = FM_F32,
                     .rtol = 1e-6,
                     .atol = 2e-7,
                     .args = kinds[i % 3].args,
                     .shape = s};
        for (int b = 0; b < 3; b++) {
            c.buf[b] = (kt_buf){FM_F32, s->n, -1, 1, true};
        }
        c.buf[3] = (kt_buf){FM_F32, s->n, 0, 1, true};
        kt_check(&c);
        if (s->copy) {
            c.buf[4] = (kt_buf){FM_BF16, s->n, 0, 0, true};
            c.rtol = 0x1p-7;
            kt_check(&c);
        }
    }
}

typedef struct squares_shape {
    int64_t n, bad;
    fm_dtype d;
} squares_shape;

static void squares_args(void *args, void **p, const void *ctx) {
    const squares_shape *s = ctx;
    for (int64_t i = 0; i < s->bad; i++) {
        fm_store_from_f64(s->d, p[0], i * (s->n / s->bad), i % 2 ? (double)NAN : (double)INFINITY);
    }
    *(fm_sum_squares_args *)args = (fm_sum_squares_args){s->n, p[0], p[1], p[2]};
}

static void sum_squares(void **state) {
    (void)state;
    static const fm_dtype types[] = {FM_F32, FM_BF16};
    static const int64_t sizes[][2] = {{1, 0}, {47, 0}, {65536, 0}, {65537, 0}, {300001, 0}, {300001, 5}, {9, 1}};
    for (int i = 0; i < 14; i++) {
        squares_shape s = {sizes[i / 2][0], sizes[i / 2][1], types[i % 2]};
        kt_case c = {
            .name = "sum_squares", .k = FM_K_sum_squares, .d = s.d, .rtol = 1e-10, .args = squares_args, .shape = &s};
        c.buf[0] = (kt_buf){s.d, s.n, -1e19, 1e19, false};
        c.buf[1] = (kt_buf){FM_F64, 1, 5, 5, s.bad == 0}; /* inf or NaN: which one depends on the order */
        c.buf[2] = (kt_buf){FM_I64, 1, 5, 6, true};
        kt_check(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps),
        cmocka_unit_test(sum_squares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
