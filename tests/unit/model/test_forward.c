/* Forward, loss and gradients of whole models. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "model/model.h"

#define T 24
#define V 50

static int32_t ids[T], pos[T], targets[T];
static int32_t offsets[] = {0, 9, 10, 24};
static float weights[T];

static fm_batch batch(void) {
    for (int s = 0; s < 3; s++) {
        for (int32_t t = offsets[s]; t < offsets[s + 1]; t++) {
            pos[t] = t - offsets[s];
            ids[t] = (t * 31 + 7) % V;
            targets[t] = t % 5 == 4 ? -100 : (t * 17 + 3) % V;
            weights[t] = 0.5f + 0.1f * (float)(t % 4);
        }
    }
    return (fm_batch){.n_tokens = T, .n_segments = 3, .ids = ids, .pos = pos, .q_offsets = offsets, .targets = targets};
}

static fm_model *tiny(fm_dtype master, const char *family, bool tied, double dropout) {
    fm_model_config cfg = {.vocab_size = V,
                           .d_model = 24,
                           .n_layers = 3,
                           .n_heads = 4,
                           .n_kv_heads = 2,
                           .head_dim = 8,
                           .d_ff = 32,
                           .max_position = 64,
                           .act = FM_ACT_SILU,
                           .norm_eps = 1e-5,
                           .init_std = 0.2,
                           .rope = {.theta = 100, .dim = 8, .factor = 1},
                           .tied = tied,
                           .hidden_dropout = dropout,
                           .embedding_dropout = dropout,
                           .attention_dropout = dropout,
                           .bos_id = -1,
                           .eos_id = -1,
                           .pad_id = -1};
    snprintf(cfg.family, sizeof cfg.family, "%s", family);
    cfg.qk_norm = strcmp(family, "qwen3") == 0;
    cfg.qkv_bias = strcmp(family, "qwen2") == 0;
    cfg.window = strcmp(family, "mistral") == 0 ? 5 : 0;
    fm_model *m;
    assert_int_equal(fm_model_build(&m, &cfg), FM_OK);
    assert_int_equal(fm_params_alloc(m->params, master), FM_OK);
    assert_int_equal(fm_params_init(m->params, 3, NULL), FM_OK);
    assert_int_equal(fm_params_alloc_grads(m->params), FM_OK);
    return m;
}

static fm_ctx *context(fm_dtype compute, bool meta) {
    fm_ctx *c;
    fm_ctx_options o = {.size = sizeof o,
                        .backend = meta ? NULL : fm_cpu_backend(),
                        .compute = compute,
                        .arena_bytes = 8 << 20,
                        .grad_bytes = 8 << 20,
                        .seed = 5};
    assert_int_equal(fm_ctx_new(&c, &o), FM_OK);
    return c;
}

static void check(fm_ctx *c) {
    if (fm_ctx_status(c) != FM_OK) {
        print_error("%s\n", fm_error_get().message);
    }
    assert_int_equal(fm_ctx_status(c), FM_OK);
}

static const fm_loss_options loss_options = {.ignore_index = -100, .scale = 1.0 / 20, .is_root = true};

/* Loss of the batch; with `backward` the gradients are left in the store. Without it the tape is off, as the fused loss
 * forms gradients in its forward pass. */
static double loss(fm_ctx *c, fm_model *m, const fm_batch *b, bool backward) {
    if (backward) {
        fm_tape_begin(c);
        fm_params_begin_step(m->params);
    } else {
        fm_tape_off(c);
        fm_ctx_reset(c);
    }
    fm_tensor *l = fm_model_loss(c, m, b, &loss_options, NULL);
    check(c);
    double v = fm_load_as_f64(l->dtype, fm_data(c, l), 0);
    if (backward) {
        fm_status s = fm_backward(c, l, 1);
        if (s != FM_OK) {
            print_error("%s\n", fm_error_get().message);
        }
        assert_int_equal(s, FM_OK);
    }
    fm_tape_off(c);
    return v;
}

/* Finite differences in f64 over a few elements of every parameter. */
static void check_gradients(const char *family, bool tied, bool recompute, double dropout) {
    fm_model *m = tiny(FM_F64, family, tied, dropout);
    fm_ctx *c = context(FM_F64, false);
    fm_batch b = batch();
    b.loss_weight = weights;
    fm_ctx_set_training(c, true);
    fm_ctx_set_step(c, 4, 1000);
    m->checkpoint_layers = recompute;
    loss(c, m, &b, true);
    for (int i = 0; i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        assert_true(p->grad_written);
        for (int k = 0; k < 3; k++) {
            int64_t at = (p->numel - 1) * k / 2;
            double *w = (double *)p->data + at, old = *w, h = 1e-5, got = ((double *)p->grad)[at];
            *w = old + h;
            fm_param_changed(p);
            double up = loss(c, m, &b, false);
            *w = old - h;
            fm_param_changed(p);
            double down = loss(c, m, &b, false);
            *w = old;
            fm_param_changed(p);
            double want = (up - down) / (2 * h);
            if (fabs(got - want) > 1e-7 * fmax(1, fabs(want))) {
                print_error("%s %s[%lld]: gradient %.9g, differences give %.9g\n", family, p->name, (long long)at, got,
                            want);
            }
            assert_true(fabs(got - want) <= 1e-7 * fmax(1, fabs(want)));
        }
    }
    fm_ctx_free(c);
    fm_model_close(m);
}

static void test_gradients(void **state) {
    (void)state;
    check_gradients("llama", true, false, 0);
    check_gradients("llama", false, true, 0);
    check_gradients("qwen2", false, false, 0);
    check_gradients("qwen3", true, true, 0.2);
    check_gradients("mistral", false, false, 0.2);
}

static void copy_grads(double *out, fm_model *m) {
    for (int i = 0; i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        for (int64_t k = 0; k < p->numel; k++) {
            *out++ = fm_load_as_f64(FM_F32, p->grad, k);
        }
    }
}

/* Recomputation, fused norms and the in-place walk of inference give the same hidden states. */
static void check_same_hidden(fm_dtype compute) {
    fm_model *m = tiny(FM_F32, "qwen3", true, 0);
    fm_ctx *c = context(compute, false);
    fm_batch b = batch();
    size_t bytes = (size_t)fm_dtype_bytes(compute, T * 24);
    void *first = malloc(bytes);
    assert_non_null(first);
    int64_t n = fm_params_numel(m->params);
    double *g[2] = {malloc((size_t)n * 8), malloc((size_t)n * 8)};
    for (int way = 0; way < 3; way++) {
        m->checkpoint_layers = way == 1;
        if (way < 2) {
            fm_tape_begin(c);
        } else {
            fm_tape_off(c);
            fm_ctx_reset(c);
        }
        fm_tensor *h = fm_model_forward(c, m, &b);
        check(c);
        if (way == 0) {
            memcpy(first, fm_data(c, h), bytes);
        }
        assert_memory_equal(first, fm_data(c, h), bytes);
        if (way < 2) {
            loss(c, m, &b, true);
            copy_grads(g[way], m);
        }
    }
    double num = 0, den = 0;
    for (int64_t i = 0; i < n; i++) {
        num += (g[0][i] - g[1][i]) * (g[0][i] - g[1][i]);
        den += g[0][i] * g[0][i];
    }
    assert_true(sqrt(num / den) <= (compute == FM_F32 ? 1e-6 : 1e-2));
    free(first);
    free(g[0]);
    free(g[1]);
    fm_ctx_free(c);
    fm_model_close(m);
}

static void test_same_hidden(void **state) {
    (void)state;
    check_same_hidden(FM_F32);
    check_same_hidden(FM_BF16);
}

/* Documents packed together do not see each other. */
static void test_packing(void **state) {
    (void)state;
    fm_model *m = tiny(FM_F32, "llama", true, 0);
    fm_ctx *c = context(FM_BF16, false);
    fm_batch b = batch();
    uint16_t packed[T * 24];
    fm_tape_off(c);
    fm_tensor *h = fm_model_forward(c, m, &b);
    check(c);
    memcpy(packed, fm_data(c, h), sizeof packed);
    for (int s = 0; s < 3; s++) {
        int32_t n = offsets[s + 1] - offsets[s], one[2] = {0, n};
        fm_batch alone = {
            .n_tokens = n, .n_segments = 1, .ids = ids + offsets[s], .pos = pos + offsets[s], .q_offsets = one};
        fm_ctx_reset(c);
        h = fm_model_forward(c, m, &alone);
        check(c);
        assert_memory_equal(fm_data(c, h), packed + 24 * offsets[s], (size_t)n * 24 * 2);
    }
    fm_ctx_free(c);
    fm_model_close(m);
}

/* The loss from the logits of the head, by its definition. */
static void test_loss_is_cross_entropy(void **state) {
    (void)state;
    fm_model *m = tiny(FM_F32, "llama", false, 0);
    fm_ctx *c = context(FM_BF16, false);
    fm_batch b = batch();
    fm_tensor *rows = NULL;
    fm_tape_begin(c);
    fm_tensor *l = fm_model_loss(c, m, &b, &loss_options, &rows);
    check(c);
    double total = (double)*(float *)fm_data(c, l), sum = 0;
    float each[T];
    memcpy(each, fm_data(c, rows), sizeof each);
    fm_tape_off(c);
    fm_ctx_reset(c);
    fm_tensor *x = fm_model_head(c, m, fm_model_forward(c, m, &b), NULL);
    check(c);
    assert_int_equal(x->dtype, FM_F32);
    for (int t = 0; t < T; t++) {
        const float *row = (const float *)fm_data(c, x) + t * V;
        double z = 0, want = 0;
        for (int i = 0; i < V; i++) {
            z += exp((double)row[i]);
        }
        if (targets[t] >= 0) {
            want = log(z) - (double)row[targets[t]];
        }
        assert_true(fabs((double)each[t] - want) < 1e-5);
        sum += want / 20;
    }
    assert_true(fabs(sum - total) < 1e-5);
    /* A choice of rows. */
    float all[T * V];
    memcpy(all, fm_data(c, x), sizeof all);
    int32_t some[] = {23, 0, 9};
    fm_ctx_reset(c);
    fm_tensor *idx = fm_from_memory(c, FM_I32, 1, (int64_t[]){3}, some);
    x = fm_model_head(c, m, fm_model_forward(c, m, &b), idx);
    check(c);
    for (int k = 0; k < 3; k++) {
        assert_memory_equal((const float *)fm_data(c, x) + k * V, all + some[k] * V, V * sizeof(float));
    }
    fm_ctx_free(c);
    fm_model_close(m);
}

/* The planner's numbers are the run's. */
static void test_meta(void **state) {
    (void)state;
    for (int recompute = 0; recompute < 2; recompute++) {
        fm_model *m = tiny(FM_F32, "llama", true, 0.1);
        fm_batch b = batch();
        int64_t arena[2], grads[2];
        m->checkpoint_layers = recompute == 1;
        for (int meta = 0; meta < 2; meta++) {
            fm_ctx *c = context(FM_BF16, meta == 1);
            fm_ctx_set_training(c, true);
            fm_params_begin_step(m->params);
            fm_tape_begin(c);
            fm_tensor *l = fm_model_loss(c, m, &b, &loss_options, NULL);
            check(c);
            assert_int_equal(fm_backward(c, l, 1), FM_OK);
            arena[meta] = fm_ctx_arena_peak(c);
            grads[meta] = fm_ctx_grad_peak(c);
            fm_ctx_free(c);
        }
        assert_int_equal(arena[0], arena[1]);
        assert_int_equal(grads[0], grads[1]);
        fm_model_close(m);
    }
}

static void test_refusals(void **state) {
    (void)state;
    fm_model *m = tiny(FM_F32, "llama", true, 0);
    fm_ctx *c = context(FM_F32, false);
    fm_batch b = batch();
    b.targets = NULL;
    fm_tape_begin(c);
    assert_null(fm_model_loss(c, m, &b, &loss_options, NULL));
    assert_int_equal(fm_ctx_status(c), FM_ERR_ARGUMENT);
    b = batch();
    ids[3] = V;
    fm_tape_begin(c);
    assert_null(fm_model_forward(c, m, &b));
    assert_true(fm_ctx_status(c) != FM_OK);
    /* A cache with the tape on. */
    fm_kv_cache *kv;
    assert_int_equal(fm_kv_cache_new(&kv, 3, 2, 8, 8, FM_F32, T, 0), FM_OK);
    b = batch();
    b.kv = kv;
    b.kv_offsets = offsets;
    b.slots = pos;
    fm_tape_begin(c);
    assert_null(fm_model_forward(c, m, &b));
    assert_int_equal(fm_ctx_status(c), FM_ERR_STATE);
    fm_kv_cache_free(kv);
    fm_ctx_free(c);
    fm_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients), cmocka_unit_test(test_same_hidden),
        cmocka_unit_test(test_packing),   cmocka_unit_test(test_loss_is_cross_entropy),
        cmocka_unit_test(test_meta),      cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
