/* The tape: checkpointing, planning, gradient sharing, version checks, parameters. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "tensor/ops.h"

#define T      12
#define D      16
#define LAYERS 3

typedef struct net {
    fm_params *ps;
    fm_param *w1[LAYERS], *w2[LAYERS], *norm[LAYERS];
} net;

static void net_new(net *n, fm_dtype dtype, bool memory) {
    assert_int_equal(fm_params_new(&n->ps), FM_OK);
    char name[64];
    for (int i = 0; i < LAYERS; i++) {
        snprintf(name, sizeof name, "l%d.w1", i);
        fm_param_desc d = {.name = name, .n_dims = 2, .dim = {2 * D, D}, .init = FM_INIT_NORMAL, .init_std = 0.2};
        assert_int_equal(fm_params_add(n->ps, &d, &n->w1[i]), FM_OK);
        snprintf(name, sizeof name, "l%d.w2", i);
        d.dim[0] = D;
        d.dim[1] = 2 * D;
        assert_int_equal(fm_params_add(n->ps, &d, &n->w2[i]), FM_OK);
        snprintf(name, sizeof name, "l%d.norm", i);
        fm_param_desc nd = {.name = name, .n_dims = 1, .dim = {D}, .init = FM_INIT_ONES, .no_decay = true};
        assert_int_equal(fm_params_add(n->ps, &nd, &n->norm[i]), FM_OK);
    }
    if (memory) {
        assert_int_equal(fm_params_alloc(n->ps, dtype), FM_OK);
        assert_int_equal(fm_params_alloc_grads(n->ps), FM_OK);
        assert_int_equal(fm_params_init(n->ps, 5, NULL), FM_OK);
    }
}

typedef struct layer_args {
    net *n;
    int i;
} layer_args;

static fm_status layer(fm_ctx *c, void *args, fm_tensor *const *in, fm_tensor **out) {
    const layer_args *a = args;
    fm_tensor *h = fm_rmsnorm(c, in[0], fm_leaf(c, a->n->norm[a->i]), 1e-6f);
    h = fm_activation(c, fm_linear(c, h, fm_leaf(c, a->n->w1[a->i]), NULL), FM_ACT_SILU);
    h = fm_dropout(c, h, 0.3, "test.drop");
    out[0] = fm_add(c, in[0], fm_linear(c, h, fm_leaf(c, a->n->w2[a->i]), NULL));
    return fm_ctx_status(c);
}

static fm_tensor *forward(fm_ctx *c, net *n, void *x, bool checkpoint, fm_tensor **leaf) {
    fm_tensor *h = fm_require_grad(fm_from_memory(c, fm_ctx_compute(c), 2, (int64_t[]){T, D}, x));
    *leaf = h;
    for (int i = 0; i < LAYERS; i++) {
        layer_args a = {n, i};
        fm_tensor *out = NULL;
        fm_status s = checkpoint ? fm_checkpoint(c, layer, &a, sizeof a, 1, &h, 1, &out) : layer(c, &a, &h, &out);
        assert_int_equal(s, FM_OK);
        h = out;
    }
    return fm_sum_all(c, fm_mul(c, h, h));
}

static fm_ctx *ctx_new(const fm_backend *b, fm_dtype compute) {
    fm_ctx *c;
    fm_ctx_options o = {
        .size = sizeof o, .backend = b, .compute = compute, .arena_bytes = 1 << 20, .grad_bytes = 1 << 20, .seed = 3};
    assert_int_equal(fm_ctx_new(&c, &o), FM_OK);
    fm_ctx_set_training(c, true);
    return c;
}

static void fill_input(double *x) {
    fm_rng_key k = {.seed = 11};
    for (int i = 0; i < T * D; i++) {
        x[i] = fm_rng_normal(k, (uint64_t)i);
    }
}

/* Recomputation gives the bits of the plain run, and takes less arena. */
static void checkpoint_equals_plain(void **state) {
    (void)state;
    double x[T * D];
    fill_input(x);
    net n;
    net_new(&n, FM_F64, true);
    size_t bytes = sizeof(double) * 2 * D * D;
    double kept[2 * D * D], dx[T * D], loss = 0;
    int64_t peak[2];
    for (int mode = 0; mode < 2; mode++) {
        fm_ctx *c = ctx_new(fm_cpu_backend(), FM_F64);
        fm_tensor *leaf;
        fm_params_begin_step(n.ps);
        fm_tape_begin(c);
        fm_tensor *l = forward(c, &n, x, mode == 1, &leaf);
        assert_non_null(l);
        assert_int_equal(fm_backward(c, l, 1), FM_OK);
        peak[mode] = fm_ctx_arena_peak(c);
        fm_dtype d;
        void *g = fm_grad_of(leaf, &d);
        assert_non_null(g);
        if (mode == 0) {
            loss = *(double *)fm_data(c, l);
            memcpy(kept, n.w1[0]->grad, bytes);
            memcpy(dx, g, sizeof dx);
            double norm = 0;
            for (int i = 0; i < T * D; i++) {
                norm += dx[i] * dx[i];
            }
            assert_true(norm > 0);
        } else {
            assert_true(loss == *(double *)fm_data(c, l));
            assert_memory_equal(kept, n.w1[0]->grad, bytes);
            assert_memory_equal(dx, g, sizeof dx);
        }
        fm_ctx_free(c);
    }
    assert_true(peak[1] < peak[0]);
    fm_params_free(n.ps);
}

/* The meta device counts the bytes of the real run exactly, with and without recomputation. */
static void meta_is_exact(void **state) {
    (void)state;
    double x[T * D];
    fill_input(x);
    for (int mode = 0; mode < 2; mode++) {
        int64_t arena[2], grads[2];
        for (int meta = 0; meta < 2; meta++) {
            net n;
            net_new(&n, FM_F64, !meta);
            fm_ctx *c = ctx_new(meta ? NULL : fm_cpu_backend(), FM_F64);
            fm_tensor *leaf;
            fm_params_begin_step(n.ps);
            fm_tape_begin(c);
            fm_tensor *l = forward(c, &n, meta ? NULL : x, mode == 1, &leaf);
            assert_int_equal(fm_backward(c, l, 1), FM_OK);
            arena[meta] = fm_ctx_arena_peak(c);
            grads[meta] = fm_ctx_grad_peak(c);
            fm_ctx_free(c);
            fm_params_free(n.ps);
        }
        assert_int_equal(arena[0], arena[1]);
        assert_int_equal(grads[0], grads[1]);
    }
}

/* x + x, and a gradient shared by a residual add that is then written to on one side. */
static void shared_gradients(void **state) {
    (void)state;
    double x[4] = {1, 2, 3, 4};
    fm_ctx *c = ctx_new(fm_cpu_backend(), FM_F64);
    fm_tape_begin(c);
    fm_tensor *leaf = fm_require_grad(fm_from_memory(c, FM_F64, 2, (int64_t[]){2, 2}, x));
    fm_tensor *y = fm_add(c, leaf, leaf);         /* 2x */
    fm_tensor *z = fm_add(c, y, fm_mul(c, y, y)); /* 2x + 4x^2: y gets a shared and a written part */
    assert_int_equal(fm_backward(c, fm_sum_all(c, z), 1), FM_OK);
    fm_dtype d;
    const double *g = fm_grad_of(leaf, &d);
    for (int i = 0; i < 4; i++) {
        assert_true(g[i] == 2 + 8 * x[i]);
    }
    fm_ctx_free(c);
}

/* A kept input that was changed in place is refused, with the place of the call. */
static void stale_input_is_refused(void **state) {
    (void)state;
    double x[4] = {1, 2, 3, 4};
    fm_ctx *c = ctx_new(fm_cpu_backend(), FM_F64);
    fm_tape_begin(c);
    fm_tensor *leaf = fm_require_grad(fm_from_memory(c, FM_F64, 2, (int64_t[]){2, 2}, x));
    fm_tensor *l = fm_sum_all(c, fm_mul(c, leaf, leaf));
    fm_touch(leaf);
    assert_int_equal(fm_backward(c, l, 1), FM_ERR_STATE);
    assert_non_null(strstr(fm_error_get().message, "test_tape.c"));
    fm_ctx_free(c);
}

static void full_arena_is_an_error(void **state) {
    (void)state;
    fm_ctx *c = ctx_new(fm_cpu_backend(), FM_F32);
    assert_null(fm_new(c, FM_F32, 2, (int64_t[]){1024, 1024}));
    assert_int_equal(fm_ctx_status(c), FM_ERR_NO_MEMORY);
    assert_null(fm_add(c, NULL, NULL)); /* a failed context stays failed, and NULL goes through */
    fm_ctx_reset(c);
    assert_non_null(fm_new(c, FM_F32, 1, (int64_t[]){16}));
    fm_ctx_free(c);
}

/* Initial values depend on (seed, name, index) alone. */
static void init_does_not_depend_on_threads(void **state) {
    (void)state;
    net a, b;
    net_new(&a, FM_F32, true);
    net_new(&b, FM_F32, true);
    fm_pool *p;
    assert_int_equal(fm_pool_new(&p, 2), FM_OK);
    assert_int_equal(fm_params_init(b.ps, 5, p), FM_OK);
    double sum = 0, sq = 0;
    const float *w = a.w1[1]->data;
    for (int i = 0; i < 2 * D * D; i++) {
        sum += w[i];
        sq += (double)w[i] * w[i];
        assert_true(w[i] >= -0.6f && w[i] <= 0.6f); /* 3 standard deviations */
    }
    assert_true(sq / (2 * D * D) > 0.03 && sq / (2 * D * D) < 0.05);
    assert_true(sum / (2 * D * D) < 0.04 && sum / (2 * D * D) > -0.04);
    assert_memory_equal(a.w1[1]->data, b.w1[1]->data, 2 * D * D * sizeof(float));
    assert_memory_not_equal(a.w1[1]->data, a.w1[2]->data, 2 * D * D * sizeof(float));
    fm_pool_free(p);
    fm_params_free(a.ps);
    fm_params_free(b.ps);
}

static void store_finds_by_name(void **state) {
    (void)state;
    fm_params *ps;
    fm_param *p, *q;
    assert_int_equal(fm_params_new(&ps), FM_OK);
    char name[32];
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "p%d", i);
        fm_param_desc d = {.name = name, .n_dims = 1, .dim = {i + 1}};
        assert_int_equal(fm_params_add(ps, &d, &p), FM_OK);
    }
    fm_param_desc twice = {.name = "p7", .n_dims = 1, .dim = {8}};
    assert_int_equal(fm_params_add(ps, &twice, &q), FM_ERR_STATE);
    fm_param_desc tied = {.name = "tied", .n_dims = 1, .dim = {500}, .tie = p};
    assert_int_equal(fm_params_add(ps, &tied, &q), FM_OK);
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "p%d", i);
        assert_int_equal(fm_params_find(ps, name)->numel, i + 1);
    }
    assert_null(fm_params_find(ps, "p500"));
    assert_int_equal(fm_params_numel(ps), 500 * 501 / 2); /* the tied one counts once */
    fm_params_free(ps);
}

/* A batch of questions alone: no loss, gradients of zero, also where another batch left one before. */
static void no_row_carries_loss(void **state) {
    (void)state;
    double x[T * D];
    int32_t none[T], last[T];
    fill_input(x);
    for (int t = 0; t < T; t++) {
        none[t] = -100;
        last[t] = t + 1 == T ? 3 : -100;
    }
    net n;
    net_new(&n, FM_F64, true);
    for (int root = 0; root < 2; root++) {
        fm_loss_options o = {.ignore_index = -100, .scale = 1, .is_root = root != 0};
        for (int learned = 1; learned >= 0; learned--) {
            fm_ctx *c = ctx_new(fm_cpu_backend(), FM_F64);
            fm_params_begin_step(n.ps);
            fm_tape_begin(c);
            fm_tensor *leaf = fm_require_grad(fm_from_memory(c, FM_F64, 2, (int64_t[]){T, D}, x));
            fm_tensor *y = fm_linear_ce(c, leaf, fm_leaf(c, n.w1[0]),
                                        fm_from_memory(c, FM_I32, 1, (int64_t[]){T}, learned ? last : none), &o, NULL);
            assert_non_null(y);
            assert_int_equal(fm_backward(c, y, 1), FM_OK);
            fm_dtype d;
            const double *dx = fm_grad_of(leaf, &d), *dw = n.w1[0]->grad, *loss = fm_data(c, y);
            double sum_x = 0, sum_before = 0, sum_w = 0;
            for (int i = 0; i < T * D; i++) {
                sum_x += fabs(dx[i]);
                sum_before += i < (T - 1) * D ? fabs(dx[i]) : 0;
            }
            for (int i = 0; i < 2 * D * D; i++) {
                sum_w += fabs(dw[i]);
            }
            assert_true(sum_before == 0);
            if (learned) {
                assert_true(*loss > 0 && sum_x > 0 && sum_w > 0);
            } else {
                assert_true(*loss == 0 && sum_x == 0 && sum_w == 0);
            }
            fm_ctx_free(c);
        }
    }
    fm_params_free(n.ps);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpoint_equals_plain), cmocka_unit_test(meta_is_exact),
        cmocka_unit_test(shared_gradients),        cmocka_unit_test(stale_input_is_refused),
        cmocka_unit_test(full_arena_is_an_error),  cmocka_unit_test(init_does_not_depend_on_threads),
        cmocka_unit_test(store_finds_by_name),     cmocka_unit_test(no_row_carries_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
