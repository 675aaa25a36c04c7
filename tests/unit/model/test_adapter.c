/* Weight-decomposed adapters against the peft library: output and every gradient of one layer (tests/golden/
 * make_dora.py), in training and with packed weights, and the lengths made anew when a weight changes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "io/safetensors.h"
#include "tensor/dora.h"
#include "tensor/ops.h"

#define GOLDEN FM_SOURCE_DIR "/tests/golden/data/dora.safetensors"

static fm_safetensors *st;
static const float *golden(const char *name) {
    const fm_st_tensor *t = fm_safetensors_find(st, name);
    assert_non_null(t);
    return (const float *)t->data;
}

static void near(const char *name, const float *x, int64_t n) {
    const float *want = golden(name);
    double largest = 0, off = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        off = fmax(off, fabs((double)want[i] - (double)x[i]));
    }
    if (!(off <= 3e-6 * largest)) {
        fail_msg("%s is off by %g, largest %g", name, off, largest);
    }
}

enum { T = 7, K = 24, N = 18, R = 5 };

typedef struct layer {
    fm_params *ps;
    fm_param *w, *bias;
    fm_lora lora;
    fm_ctx *c;
} layer;

static fm_param *param(layer *l, const char *name, int n_dims, int64_t rows, int64_t cols, bool frozen) {
    fm_param *p = NULL;
    fm_param_desc d = {.name = name, .n_dims = (uint8_t)n_dims, .dim = {rows, cols}};
    assert_int_equal(fm_params_add(l->ps, &d, &p), FM_OK);
    p->frozen = frozen;
    return p;
}

static void open_layer(layer *l) {
    memset(l, 0, sizeof *l);
    assert_int_equal(fm_params_new(&l->ps), FM_OK);
    l->w = param(l, "w", 2, N, K, true);
    l->bias = param(l, "bias", 1, N, 0, true);
    l->lora.a = param(l, "a", 2, R, K, false);
    l->lora.b = param(l, "b", 2, N, R, false);
    l->lora.magnitude = param(l, "magnitude", 1, N, 0, false);
    l->lora.scale = 7.0F / 5;
    assert_int_equal(fm_dora_new(&l->lora.dora, N), FM_OK);
    assert_int_equal(fm_params_alloc(l->ps, FM_F32), FM_OK);
    assert_int_equal(fm_params_alloc_grads(l->ps), FM_OK);
    for (int i = 0; i < fm_params_count(l->ps); i++) {
        fm_param *p = fm_params_at(l->ps, i);
        memcpy(p->data, golden(p->name), (size_t)p->numel * 4);
        fm_param_changed(p);
    }
    l->w->lora = &l->lora;
    fm_ctx_options o = {.size = sizeof o, .backend = fm_cpu_backend(), .compute = FM_F32};
    assert_int_equal(fm_ctx_new(&l->c, &o), FM_OK);
}

static void close_layer(layer *l) {
    fm_ctx_free(l->c);
    fm_dora_free(l->lora.dora);
    fm_params_free(l->ps);
}

static fm_tensor *forward(layer *l, fm_tensor *x) {
    fm_tensor *y = fm_linear(l->c, x, fm_leaf(l->c, l->w), fm_leaf(l->c, l->bias));
    assert_non_null(y);
    return y;
}

static fm_tensor *input(layer *l, const char *name, int64_t cols) {
    return fm_from_memory(l->c, FM_F32, 2, (int64_t[]){T, cols}, (void *)(uintptr_t)golden(name));
}

static void test_golden(void **state) {
    (void)state;
    layer l;
    open_layer(&l);
    fm_tape_begin(l.c);
    fm_tensor *x = fm_require_grad(input(&l, "x", K)), *y = forward(&l, x);
    near("y", fm_data(l.c, y), (int64_t)T * N);
    assert_int_equal(fm_backward(l.c, fm_sum_all(l.c, fm_mul(l.c, y, input(&l, "dy", N))), 1.0), FM_OK);
    fm_dtype d;
    near("dx", fm_grad_of(x, &d), (int64_t)T * K);
    near("da", l.lora.a->grad, R * K);
    near("db", l.lora.b->grad, N * R);
    near("dmagnitude", l.lora.magnitude->grad, N);
    close_layer(&l);
}

static void test_packed_and_changed(void **state) {
    (void)state;
    layer l;
    float lengths[N];
    open_layer(&l);
    fm_ctx_set_pack(l.c, true);
    fm_tensor *x = input(&l, "x", K);
    near("y", fm_data(l.c, forward(&l, x)), (int64_t)T * N);
    assert_int_equal(fm_dora_lengths(fm_cpu_backend(), fm_ctx_exec(l.c), l.w, lengths), FM_OK);
    near("magnitude_at_first", lengths, N);
    /* B = 0 and magnitudes of twice the lengths: twice the plain product. */
    memset(l.lora.b->data, 0, (size_t)l.lora.b->numel * 4);
    fm_param_changed(l.lora.b);
    for (int i = 0; i < N; i++) {
        ((float *)l.lora.magnitude->data)[i] = 2 * lengths[i];
    }
    fm_param_changed(l.lora.magnitude);
    fm_ctx_reset(l.c);
    const float *y = fm_data(l.c, forward(&l, input(&l, "x", K)));
    l.w->lora = NULL;
    const float *plain = fm_data(l.c, forward(&l, input(&l, "x", K))), *bias = l.bias->data;
    for (int i = 0; i < T * N; i++) {
        double want = 2 * ((double)plain[i] - (double)bias[i % N]) + (double)bias[i % N];
        assert_true(fabs((double)y[i] - want) < 1e-5);
    }
    close_layer(&l);
}

/* A row of zeros has no direction: no NaN. */
static void test_zero_row(void **state) {
    (void)state;
    layer l;
    open_layer(&l);
    memset(l.w->data, 0, K * 4);
    memset(l.lora.b->data, 0, (size_t)l.lora.b->numel * 4);
    fm_param_changed(l.w);
    fm_param_changed(l.lora.b);
    const float *y = fm_data(l.c, forward(&l, input(&l, "x", K)));
    for (int i = 0; i < T * N; i++) {
        assert_true(isfinite((double)y[i]));
    }
    close_layer(&l);
}

static int setup(void **state) {
    (void)state;
    return fm_safetensors_open(&st, GOLDEN) == FM_OK ? 0 : -1;
}
static int teardown(void **state) {
    (void)state;
    fm_safetensors_close(st);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_packed_and_changed),
                                       cmocka_unit_test(test_zero_row)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
