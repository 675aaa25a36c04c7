/* Quantised frozen weights: nf4 against bitsandbytes (tests/golden/make_nf4.py), and products through every type, with
 * the gradient of their input, against the numbers that the type stands for. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "io/safetensors.h"
#include "model/quant_base.h"
#include "tensor/ops.h"

#define GOLDEN FM_SOURCE_DIR "/tests/golden/data/nf4.safetensors"

static fm_pool *pool;
static fm_scratch *scratch;
static fm_exec x;

static void ok(fm_status s) {
    if (s != FM_OK) {
        fail_msg("%s", fm_error_get().message);
    }
}

static fm_param *add(fm_params *ps, const char *name, int64_t n, int64_t k, fm_dtype d, bool twice) {
    fm_param *p = NULL;
    fm_param_desc desc = {.name = name, .n_dims = 2, .dim = {n, k}};
    ok(fm_params_add(ps, &desc, &p));
    p->frozen = true;
    p->dtype = d;
    p->own_dtype = true;
    p->nf4_twice = twice;
    return p;
}

/* Elements first, first + step ... of y; the mean of scales that are quantised twice is a sum in another order. */
static void near(const fm_safetensors *st, const char *name, const char *what, const float *y, int64_t first,
                 int64_t step, bool exact) {
    char full[32];
    snprintf(full, sizeof full, "%s%s", name, what);
    const fm_st_tensor *t = fm_safetensors_find(st, full);
    assert_non_null(t);
    for (int64_t j = 0; j < t->dims[0]; j++) {
        double a = (double)y[first + j * step], b = (double)((const float *)t->data)[j];
        if (!(fabs(a - b) <= (exact ? 0 : 1e-6 * fabs(b) + 1e-9))) {
            fail_msg("%s: element %lld is %.9g, expected %.9g", full, (long long)j, a, b);
        }
    }
}

static void test_nf4(void **state) {
    (void)state;
    fm_safetensors *st;
    fm_params *ps;
    ok(fm_safetensors_open(&st, GOLDEN));
    const fm_st_tensor *w = fm_safetensors_find(st, "w"), *codes = fm_safetensors_find(st, "codes");
    assert_non_null(w);
    assert_non_null(codes);
    int64_t n = w->dims[0], k = w->dims[1];
    ok(fm_params_new(&ps));
    fm_param *from = add(ps, "w", n, k, FM_F32, false);
    fm_param *q[2] = {add(ps, "once", n, k, FM_NF4, false), add(ps, "twice", n, k, FM_NF4, true)};
    ok(fm_params_alloc(ps, FM_F32));
    assert_int_equal(w->dtype, FM_BF16);
    for (int64_t i = 0; i < n * k; i++) {
        ((float *)from->data)[i] = fm_bf16_to_f32(((const fm_bf16 *)w->data)[i]);
    }
    float *y = test_malloc((size_t)(n * k) * 4);
    for (int i = 0; i < 2; i++) {
        ok(fm_param_quantise(fm_cpu_backend(), &x, q[i], from));
        assert_memory_equal(q[i]->data, codes->data, (size_t)codes->bytes);
        ok(fm_param_rows(fm_cpu_backend(), &x, q[i], 0, n, FM_F32, y));
        near(st, q[i]->name, ".first", y, 0, 1, i == 0);
        near(st, q[i]->name, ".every", y, 3, 29, i == 0);
        float part[5]; /* rows that begin inside a block */
        ok(fm_param_rows(fm_cpu_backend(), &x, q[i], 11, 1, FM_F32, y + n * k - k));
        ok(fm_param_rows(fm_cpu_backend(), &x, q[i], 0, n - 1, FM_F32, y));
        memcpy(part, y + 11 * k, sizeof part);
        assert_memory_equal(part, y + n * k - k, sizeof part);
    }
    assert_true(fm_param_bytes(q[1], FM_NF4) < fm_param_bytes(q[0], FM_NF4));
    ((float *)from->data)[99] = NAN;
    assert_int_equal(fm_param_quantise(fm_cpu_backend(), &x, q[0], from), FM_ERR_NUMERIC);
    test_free(y);
    fm_params_free(ps);
    fm_safetensors_close(st);
}

/* y and dx of one product. */
static void product(fm_param *w, fm_dtype compute, float *y, float *dx) {
    enum { T = 9 };
    static float in[T * 256];
    int64_t n = w->dim[0], k = w->dim[1];
    for (int64_t i = 0; i < T * k; i++) {
        in[i] = (float)sin(0.37 * (double)i);
    }
    fm_ctx *c;
    fm_ctx_options o = {.size = sizeof o, .backend = fm_cpu_backend(), .pool = pool, .compute = compute};
    ok(fm_ctx_new(&c, &o));
    fm_tape_begin(c);
    fm_tensor *a = fm_require_grad(fm_from_memory(c, FM_F32, 2, (int64_t[]){T, k}, in));
    fm_tensor *out = fm_linear(c, fm_cast(c, a, compute), fm_leaf(c, w), NULL);
    fm_tensor *twice = fm_cast(c, fm_mul(c, out, out), FM_F32);
    assert_non_null(twice);
    memcpy(y, fm_data(c, twice), (size_t)(T * n) * 4);
    ok(fm_backward(c, fm_sum_all(c, twice), 1.0));
    fm_dtype d;
    memcpy(dx, fm_grad_of(a, &d), (size_t)(T * k) * 4);
    assert_true(!fm_param_quantised(w) || !w->copy.data); /* its numbers are not kept */
    fm_ctx_free(c);
}

/* Largest difference. In a function of its own: gcc 12 for Arm fails on the loop inside the test. */
static double furthest(const float *a, const float *b, int m) {
    double off = 0;
    for (int i = 0; i < m; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        off = d > off ? d : off;
    }
    return off;
}

static void test_products(void **state) {
    (void)state;
    static const fm_dtype types[] = {FM_NF4, FM_I8, FM_Q8_0, FM_Q4_0, FM_Q5_1, FM_Q4_K, FM_Q6_K};
    static float y[2][9 * 37], dx[2][9 * 256];
    for (size_t t = 0; t < FM_ARRAY_LEN(types); t++) {
        for (int b = 0; b < 2; b++) {
            fm_dtype compute = b ? FM_BF16 : FM_F32;
            fm_params *ps;
            ok(fm_params_new(&ps));
            fm_param *from = add(ps, "from", 37, 256, FM_F32, false), *q = add(ps, "q", 37, 256, types[t], true);
            fm_param *plain = add(ps, "plain", 37, 256, FM_F32, false);
            assert_true(fm_param_quantisable(q, types[t]));
            ok(fm_params_alloc(ps, FM_F32));
            for (int i = 0; i < 37 * 256; i++) {
                ((float *)from->data)[i] = (float)(0.1 * cos(1.7 * i) * (1 + i % 7));
            }
            ok(fm_param_quantise(fm_cpu_backend(), &x, q, from));
            ok(fm_param_rows(fm_cpu_backend(), &x, q, 0, 37, FM_F32, plain->data));
            double off = furthest(plain->data, from->data, 37 * 256);
            assert_true(off > 0 && off < 0.15);
            product(q, compute, y[0], dx[0]);
            product(plain, compute, y[1], dx[1]);
            assert_memory_equal(y[0], y[1], sizeof y[0]);
            assert_memory_equal(dx[0], dx[1], sizeof dx[0]);
            fm_params_free(ps);
        }
    }
}

static void test_parse(void **state) {
    (void)state;
    fm_dtype d;
    ok(fm_quant_base_parse(&d, "nf4"));
    assert_int_equal(d, FM_NF4);
    assert_int_equal(fm_quant_base_parse(&d, "fp4"), FM_ERR_CONFIG);
    assert_non_null(strstr(fm_error_get().hint, "q4_k"));
    assert_int_equal(fm_quant_base_parse(&d, "bf16"), FM_ERR_CONFIG);
}

static int setup(void **state) {
    (void)state;
    if (fm_pool_new(&pool, 2) != FM_OK || fm_scratch_new(&scratch) != FM_OK) {
        return -1;
    }
    x = (fm_exec){.pool = pool, .scratch = scratch};
    return 0;
}
static int teardown(void **state) {
    (void)state;
    fm_scratch_free(scratch);
    fm_pool_free(pool);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nf4), cmocka_unit_test(test_products),
                                       cmocka_unit_test(test_parse)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
