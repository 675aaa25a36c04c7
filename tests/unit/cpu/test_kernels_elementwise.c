/* Element-wise kernels of each SIMD set against the reference. */
#include "kernel_test.h"
#include "../../quick.h"

static const fm_dtype types[] = {FM_F32, FM_BF16};
static const int64_t sizes[] = {0, 1, 7, 16, 33, 70001};
#define EACH_TYPE(d) for (const fm_dtype *d = types; d < types + 2; d++)
#define EACH_SIZE(n) for (const int64_t *n = sizes; n < sizes + sizeof sizes / sizeof *sizes; n++)

typedef struct shape {
    int64_t n, dim;
    int variant;
    double alpha, beta;
    fm_dtype to;
    bool flag;
} shape;

static void binary_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    void *y = s->variant == 0 ? p[2] : p[s->variant - 1];
    *(fm_binary_args *)args = (fm_binary_args){s->n, p[0], p[1], y};
}

static void binary(void **state) {
    (void)state;
    EACH_TYPE(d) EACH_SIZE(n) {
        for (int variant = 0; variant < 3; variant++) { /* y apart, y = a, y = b */
            for (int k = 0; k < 2; k++) {
                shape s = {.n = *n, .variant = variant};
                kt_case c = {.name = "binary", .k = k ? FM_K_mul : FM_K_add, .d = *d, .args = binary_args, .shape = &s};
                c.buf[0] = (kt_buf){*d, *n, -3, 3, true};
                c.buf[1] = (kt_buf){*d, *n, -3, 3, true};
                c.buf[2] = (kt_buf){*d, *n, 0, 0, true};
                /* One operation: the same bits, except that bf16 rounds f32 and not f64. */
                c.rtol = *d == FM_BF16 ? 0x1p-7 : 0.0;
                kt_check(&c);
            }
        }
    }
}

static void axpby_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_axpby_args *)args = (fm_axpby_args){s->n, s->alpha, s->beta, s->flag ? p[1] : p[0], p[1]};
}

static void fill_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_fill_args *)args = (fm_fill_args){s->n, s->alpha, p[0]};
}

static void axpby_and_fill(void **state) {
    (void)state;
    static const double pairs[][2] = {{1, 1}, {0.3, 0}, {-0.7, 1.5}, {0, 0.5}};
    EACH_TYPE(d) EACH_SIZE(n) {
        for (int i = 0; i < 8; i++) {
            shape s = {.n = *n, .alpha = pairs[i / 2][0], .beta = pairs[i / 2][1], .flag = i % 2};
            kt_case c = {.name = "axpby",
                         .k = FM_K_axpby,
                         .d = *d,
                         .rtol = kt_rtol(*d, 3e-7),
                         .atol = 1e-6,
                         .args = axpby_args,
                         .shape = &s};
            c.buf[0] = (kt_buf){*d, *n, -3, 3, false};
            c.buf[1] = (kt_buf){*d, *n, -3, 3, true};
            kt_check(&c);
        }
        shape s = {.n = *n, .alpha = 0.1};
        kt_case c = {.name = "fill", .k = FM_K_fill, .d = *d, .args = fill_args, .shape = &s};
        c.buf[0] = (kt_buf){*d, *n, -3, 3, true};
        kt_check(&c);
    }
}

static void cast_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_cast_args *)args = (fm_cast_args){s->n, s->to, p[0], p[1], s->flag};
}

static void casts(void **state) {
    (void)state;
    static const fm_dtype all[] = {FM_F32, FM_BF16, FM_F16, FM_F64, FM_I32, FM_E4M3};
    for (int from = 0; from < 3; from++) {
        for (int to = 0; to < 6; to++) {
            for (int acc = 0; acc < 2; acc++) {
                for (const int64_t *n = sizes; n < sizes + 5; n++) {
                    shape s = {.n = *n, .to = all[to], .flag = acc};
                    kt_case c = {.name = "cast", .k = FM_K_cast, .d = all[from], .args = cast_args, .shape = &s};
                    /* Up to the edge of f16: subnormal numbers and overflow too. */
                    c.buf[0] = (kt_buf){all[from], *n, -9, 9, false};
                    c.buf[1] = (kt_buf){all[to], *n, -3, 3, true};
                    c.rtol = acc ? kt_rtol(all[to], 1e-7) : 0.0;
                    kt_check(&c);
                    c.buf[0].lo = -1e-6;
                    c.buf[0].hi = 1e-6;
                    kt_check(&c);
                    c.buf[0].lo = -70000;
                    c.buf[0].hi = 70000;
                    kt_check(&c);
                }
            }
        }
    }
}

static void dropout_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_dropout_args *)args = (fm_dropout_args){.n_tokens = s->n,
                                                 .dim = s->dim,
                                                 .p = s->alpha,
                                                 .key = {0x123456789abcdefu, 42, 7},
                                                 .first_token = (uint64_t)s->variant * 0x400000000u + 3,
                                                 .x = s->flag ? p[1] : p[0],
                                                 .y = p[1],
                                                 .acc_y = s->variant == 1};
}

static void dropout(void **state) {
    (void)state;
    static const int64_t dims[][2] = {{1, 1}, {3, 5}, {7, 33}, {40, 1001}, {64, 1024}};
    static const double ps[] = {0.0, 0.1, 0.5, 1.0};
    EACH_TYPE(d) {
        for (int i = 0; i < 5 * 4 * 3; i++) {
            int64_t rows = dims[i % 5][0], dim = dims[i % 5][1];
            shape s = {.n = rows, .dim = dim, .alpha = ps[i / 5 % 4], .variant = i / 20, .flag = i / 20 == 2};
            kt_case c = {.name = "dropout", .k = FM_K_dropout, .d = *d, .args = dropout_args, .shape = &s};
            c.rtol = kt_rtol(*d, 2e-7);
            c.atol = 1e-6;
            c.buf[0] = (kt_buf){*d, rows * dim, 1, 2, false};
            c.buf[1] = (kt_buf){*d, rows * dim, 4, 5, true};
            kt_check(&c);
        }
    }
}

static void act_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_act_args *)args = (fm_act_args){s->n, (fm_act)s->variant, p[0], p[1]};
}
static void act_bwd_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_act_bwd_args *)args = (fm_act_bwd_args){s->n, (fm_act)s->variant, p[0], p[1], p[2], s->flag};
}
static void glu_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_glu_args *)args = (fm_glu_args){s->n, (fm_act)s->variant, p[0], p[1], p[2]};
}
static void glu_bwd_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_glu_bwd_args *)args = (fm_glu_bwd_args){.n = s->n,
                                                 .act = (fm_act)s->variant,
                                                 .gate = p[0],
                                                 .up = p[1],
                                                 .dy = p[2],
                                                 .dgate = s->flag ? p[0] : p[3],
                                                 .dup = s->flag ? p[1] : p[4],
                                                 .y = s->flag ? p[5] : NULL};
}

static void activations(void **state) {
    (void)state;
    static const fm_kernel kernels[] = {FM_K_act_fwd, FM_K_act_bwd, FM_K_glu_fwd, FM_K_glu_bwd};
    static void (*const args[])(void *, void **, const void *) = {act_args, act_bwd_args, glu_args, glu_bwd_args};
    EACH_TYPE(d) {
        for (int k = 0; k < 4; k++) {
            for (int act = 0; act < FM_ACT_COUNT; act++) {
                for (int i = 0; i < (test_quick() && act % 2 ? 5 : 7); i++) {
                    int64_t n = i < 5 ? sizes[i] : test_quick() ? 4003 : 20003;
                    shape s = {.n = n, .variant = act, .flag = i % 2};
                    kt_case c = {.name = fm_kernel_name(kernels[k]),
                                 .k = kernels[k],
                                 .d = *d,
                                 .args = args[k],
                                 .shape = &s,
                                 .rtol = kt_rtol(*d, 3e-6),
                                 .atol = 2e-6};
                    for (int b = 0; b < 6; b++) {
                        c.buf[b] = (kt_buf){*d, n, -6, 6, true};
                    }
                    kt_check(&c);
                }
            }
        }
    }
}

/* Large, infinite and NaN inputs: the same class of result as the reference. */
static void extremes(void **state) {
    (void)state;
    float in[] = {0.0F, -0.0F, 1e-30F, -1e-30F, 50.0F, -50.0F, 1000.0F, -1000.0F, 3e38F, -3e38F, NAN};
    enum { N = sizeof in / sizeof *in };
    fm_exec x = {NULL, NULL};
    assert_int_equal(fm_scratch_new(&x.scratch), FM_OK);
    for (size_t i = 0; i < KT_N_ISAS; i++) {
        const fm_backend *b = kt_set(i, FM_K_act_fwd, FM_F32);
        for (int act = 0; b && act < FM_ACT_COUNT; act++) {
            float want[N], got[N], dy[N];
            for (int j = 0; j < N; j++) {
                dy[j] = 1.0F;
            }
            fm_act_args f = {N, (fm_act)act, in, want};
            assert_int_equal(fm_kernel_run(fm_cpu_backend_isa(FM_ISA_REF), &x, FM_K_act_fwd, FM_F32, &f), FM_OK);
            f.y = got;
            assert_int_equal(fm_kernel_run(b, &x, FM_K_act_fwd, FM_F32, &f), FM_OK);
            fm_act_bwd_args g = {N, (fm_act)act, in, dy, got, false};
            for (int pass = 0; pass < 2; pass++) {
                for (int j = 0; j < N; j++) {
                    bool same =
                        isnan(want[j]) ? isnan(got[j]) : fabsf(got[j] - want[j]) <= 1e-5F * fabsf(want[j]) + 1e-12F;
                    if (!same && got[j] != want[j] && !(pass == 1 && isnan(in[j]))) {
                        fail_msg("%s act %d pass %d: f(%g) is %g, expected %g", b->name, act, pass, (double)in[j],
                                 (double)got[j], (double)want[j]);
                    }
                }
                g.dx = want;
                assert_int_equal(fm_kernel_run(fm_cpu_backend_isa(FM_ISA_REF), &x, FM_K_act_bwd, FM_F32, &g), FM_OK);
                g.dx = got;
                assert_int_equal(fm_kernel_run(b, &x, FM_K_act_bwd, FM_F32, &g), FM_OK);
            }
        }
    }
    fm_scratch_free(x.scratch);
}

/* sigmoid and tanh contain vf_exp and the polynomial of vf_tanh: error in units of the last place against libm. */
static void accuracy(void **state) {
    (void)state;
    enum { N = 400000 };
    float *in = malloc(N * sizeof *in), *out = malloc(N * sizeof *out);
    assert_true(in && out);
    fm_exec x = {NULL, NULL};
    assert_int_equal(fm_scratch_new(&x.scratch), FM_OK);
    for (int64_t i = 0; i < N; i++) {
        in[i] = (float)(-20.0 + 40.0 * (double)i / N);
    }
    for (size_t s = 0; s < KT_N_ISAS; s++) {
        const fm_backend *b = kt_set(s, FM_K_act_fwd, FM_F32);
        for (int which = 0; b && which < 2; which++) {
            fm_act_args f = {N, which ? FM_ACT_TANH : FM_ACT_SIGMOID, in, out};
            assert_int_equal(fm_kernel_run(b, &x, FM_K_act_fwd, FM_F32, &f), FM_OK);
            double worst = 0.0;
            for (int64_t i = 0; i < N; i++) {
                double v = (double)in[i], want = which ? tanh(v) : 1.0 / (1.0 + exp(-v));
                int e;
                frexp(want, &e);
                worst = fmax(worst, fabs((double)out[i] - want) / ldexp(1.0, e - 24));
            }
            assert_true(worst < (which ? 1.5 : 2.6));
        }
    }
    fm_scratch_free(x.scratch);
    free(in);
    free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binary),   cmocka_unit_test(axpby_and_fill), cmocka_unit_test(casts),
        cmocka_unit_test(dropout),  cmocka_unit_test(activations),    cmocka_unit_test(extremes),
        cmocka_unit_test(accuracy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
