/* fp16 with a loss scale, averaged weights, noise on embeddings: values by hand and effects in whole runs. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/cpu/cpu.h"
#include "nn/nn.h"
#include "train_fixture.h"

static void test_rule(void **state) {
    (void)state;
    fm_loss_scale s = {.scale = 8};
    fm_loss_scale_good(&s, 3);
    fm_loss_scale_good(&s, 3);
    assert_true(s.scale == 8 && s.good == 2);
    assert_true(fm_loss_scale_overflow(&s));
    assert_true(s.scale == 4 && s.good == 0);
    for (int i = 0; i < 3; i++) {
        fm_loss_scale_good(&s, 3);
    }
    assert_true(s.scale == 8 && s.good == 0);
    s.scale = 1;
    assert_false(fm_loss_scale_overflow(&s)); /* the scale is not to blame */
    s.scale = FM_LOSS_SCALE_MAX;
    fm_loss_scale_good(&s, 1);
    assert_true(s.scale == FM_LOSS_SCALE_MAX);
}

/* fp16 learns as fp32 does. */
static void test_fp16(void **state) {
    (void)state;
    static fx_log log[2];
    for (int i = 0; i < 2; i++) {
        fx_clean();
        fx_ok(fx_run((const char *[]){"precision", i ? "fp16" : "fp32", "max_steps", "20", NULL}, &log[i], NULL));
    }
    assert_true(log[1].loss[20] < 0.8 * log[1].loss[1]);
    for (int s = 1; s <= 20; s++) {
        if (!(fabs(log[1].loss[s] - log[0].loss[s]) < 0.01 * log[0].loss[s])) {
            fail_msg("step %d: loss %g in fp16, %g in fp32", s, log[1].loss[s], log[0].loss[s]);
        }
    }
}

/* Gradients that overflow: the scale is halved until they fit, no weight moves before, the guard does not count them;
 * then it grows again. The norm does not depend on the scale. */
static void test_overflow(void **state) {
    (void)state;
    fm_train_config *c = fx_config((const char *[]){"precision", "fp16", "initial_loss_scale", "16777216",
                                                    "loss_scale_window", "2", "max_skipped_steps", "1", NULL});
    fm_trainer r = {.cfg = c};
    fx_ok(fm_trainer_setup(&r));
    fm_param *head = r.model->head;
    size_t bytes = (size_t)head->numel * 4;
    float *before = malloc(bytes);
    assert_non_null(before);
    memcpy(before, head->data, bytes);
    r.st.loss_scale.scale = 0x1p40; /* larger than any gradient allows */
    int skipped = 0;
    for (; skipped < 60; skipped++) {
        double scale = r.st.loss_scale.scale;
        fx_ok(fm_trainer_step(&r));
        if (!r.skipped) {
            break;
        }
        assert_true(r.st.loss_scale.scale == scale / 2);
        assert_memory_equal(before, head->data, bytes);
        assert_int_equal(r.st.updates, 0);
    }
    assert_true(skipped >= 10 && skipped < 40);
    assert_memory_not_equal(before, head->data, bytes);
    assert_int_equal(r.st.guard.skipped, 0);
    double scale = r.st.loss_scale.scale, norm = r.grad_norm;
    assert_true(norm > 0.01 && norm < 100);
    fx_ok(fm_trainer_step(&r));
    assert_true(r.skipped || r.st.loss_scale.scale >= scale);
    free(before);
    fm_trainer_deinit(&r);
    fm_train_config_free(c);
    fx_clean();
}

/* Updates far below the spacing of fp16 are kept by the masters. */
static void test_masters(void **state) {
    (void)state;
    fm_train_config *c = fx_config((const char *[]){"precision", "fp16", "learning_rate", "1e-7", "lr_scheduler_type",
                                                    "constant", "warmup_ratio", "0", NULL});
    fm_trainer r = {.cfg = c};
    fx_ok(fm_trainer_setup(&r));
    float before = ((float *)r.model->head->data)[7];
    for (int i = 0; i < 5; i++) {
        fx_ok(fm_trainer_step(&r));
    }
    float after = ((float *)r.model->head->data)[7];
    assert_true(after != before && fabsf(after - before) < 2e-6F);
    fm_trainer_deinit(&r);
    fm_train_config_free(c);
    fx_clean();
}

static void test_ema(void **state) {
    (void)state;
    fm_train_config *c = fx_config((const char *[]){"ema_decay", "0.5", NULL});
    fm_trainer r = {.cfg = c};
    fx_ok(fm_trainer_setup(&r));
    fm_param *p = r.model->head;
    const float *ema = fm_ema_of(&r.ema, p);
    double want = (double)((float *)p->data)[3];
    assert_true((double)ema[3] == want);
    for (int t = 1; t <= 8; t++) {
        fx_ok(fm_trainer_step(&r));
        double d = fmin(0.5, (1.0 + t) / (10.0 + t));
        want += (1 - d) * ((double)((float *)p->data)[3] - want);
        assert_true(fabs((double)ema[3] - want) < 1e-7);
    }
    float w = ((float *)p->data)[3], e = ema[3];
    assert_true(w != e);
    fx_ok(fm_ema_swap(&r.ema, r.pool));
    assert_true(((float *)p->data)[3] == e && ema[3] == w);
    fx_ok(fm_ema_swap(&r.ema, r.pool));
    assert_true(((float *)p->data)[3] == w && ema[3] == e);
    fm_trainer_deinit(&r);
    fm_train_config_free(c);
    fx_clean();
}

/* The run itself is not changed by its average; what is evaluated and written is, by choice. */
static void test_ema_run(void **state) {
    (void)state;
    static fx_log log[3];
    char hash[3][33], path[400];
    static const char *const eval[] = {"false", "true", "true"}, *const save[] = {"false", "true", "false"};
    for (int i = 0; i < 3; i++) {
        fx_clean();
        fx_ok(fx_run((const char *[]){"ema_decay", i ? "0.8" : "0", "ema_evaluate", eval[i], "ema_save", save[i],
                                      "eval_steps", "12", NULL},
                     &log[i], NULL));
        snprintf(path, sizeof path, "%s/model.safetensors", fx_out);
        fx_ok(fm_file_hash(hash[i], path));
        for (int s = 1; s <= 12; s++) {
            assert_true(log[i].loss[s] == log[0].loss[s]);
        }
    }
    assert_true(log[1].eval[12] != log[0].eval[12] && log[2].eval[12] == log[1].eval[12]);
    assert_string_not_equal(hash[1], hash[0]);
    assert_string_equal(hash[2], hash[0]);
}

/* Bounds by segment, mean near 0, none outside of training, the same again. */
static void test_noise(void **state) {
    (void)state;
    enum { T = 40, D = 32, CUT = 8 };
    static float zero[T * D], first[T * D];
    const int32_t offsets[] = {0, CUT, T};
    fm_batch b = {.n_tokens = T, .n_segments = 2, .q_offsets = offsets};
    fm_ctx *c;
    fm_ctx_options o = {.size = sizeof o, .backend = fm_cpu_backend(), .compute = FM_F32, .seed = 5};
    fx_ok(fm_ctx_new(&c, &o));
    for (int pass = 0; pass < 3; pass++) {
        fm_ctx_reset(c);
        fm_ctx_set_training(c, true);
        fm_ctx_set_step(c, pass == 2 ? 4 : 3, 1000);
        fm_tensor *x = fm_from_memory(c, FM_F32, 2, (int64_t[]){T, D}, zero);
        const float *y = fm_data(c, fm_embedding_noise(c, x, &b, 5));
        assert_non_null(y);
        double sum = 0, most[2] = {0};
        for (int i = 0; i < T * D; i++) {
            int segment = i / D >= CUT;
            sum += (double)y[i];
            most[segment] = fmax(most[segment], fabs((double)y[i]));
        }
        for (int s = 0; s < 2; s++) {
            double bound = 5 / sqrt((s ? T - CUT : CUT) * (double)D);
            assert_true(most[s] <= bound && most[s] > 0.95 * bound);
        }
        assert_true(fabs(sum / (T * D)) < 0.02);
        if (pass == 0) {
            memcpy(first, y, sizeof first);
        } else {
            assert_int_equal(memcmp(first, y, sizeof first) == 0, pass == 1);
        }
        fm_ctx_set_training(c, false);
        assert_true(fm_embedding_noise(c, x, &b, 5) == x);
    }
    fm_ctx_free(c);
}

static void test_refused(void **state) {
    (void)state;
    assert_int_equal(fx_run((const char *[]){"fp16", "true", NULL}, NULL, NULL), FM_ERR_CONFIG); /* precision is fp32 */
    assert_int_equal(fx_run((const char *[]){"precision", "auto", "fp16", "true", "bf16", "true", NULL}, NULL, NULL),
                     FM_ERR_CONFIG);
}

/* Asked for without a number: patience 3. */
static void test_patience(void **state) {
    (void)state;
    fm_train_result r;
    fx_ok(fx_run((const char *[]){"max_steps", "60", "eval_steps", "4", "early_stopping", "true",
                                  "early_stopping_threshold", "1000", NULL},
                 NULL, &r));
    assert_string_equal(r.stopped_by, "early_stopping");
    assert_int_equal(r.steps, 16); /* the first evaluation, then three without gain */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rule),
        cmocka_unit_test_setup(test_fp16, fx_fresh),
        cmocka_unit_test_setup(test_overflow, fx_fresh),
        cmocka_unit_test_setup(test_masters, fx_fresh),
        cmocka_unit_test_setup(test_ema, fx_fresh),
        cmocka_unit_test_setup(test_ema_run, fx_fresh),
        cmocka_unit_test(test_noise),
        cmocka_unit_test_setup(test_refused, fx_fresh),
        cmocka_unit_test_setup(test_patience, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
