/* Whole runs on a tiny model: learning, accumulation, objectives, evaluation, stopping, memory, faults. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "train_fixture.h"

static void near(double a, double b, double rel) {
    if (!(fabs(a - b) <= rel * fabs(b))) {
        fail_msg("%.9g, expected %.9g", a, b);
    }
}

static void test_learns(void **state) {
    (void)state;
    static fx_log log;
    fm_train_result r;
    fx_ok(fx_run((const char *[]){"max_steps", "120", "eval_steps", "60", NULL}, &log, &r));
    assert_true(log.loss[1] > 5); /* about log(300) */
    assert_true(log.loss[120] < 2.5);
    assert_true(r.eval_loss < 2.5 && r.eval_loss == log.eval[120]);
    assert_int_equal(r.steps, 120);
    assert_string_equal(r.stopped_by, "end");
    /* The result is a model folder. */
    fm_model *m;
    fx_ok(fm_model_open(&m, fx_out, NULL));
    const fm_tokenizer *t;
    fx_ok(fm_model_tokenizer(&t, m));
    assert_true(fm_tokenizer_vocab_size(t) > 256);
    fm_model_close(m);
    /* A second run does not write over it. */
    assert_int_equal(fx_run(NULL, NULL, NULL), FM_ERR_EXISTS);
    fx_ok(fx_run((const char *[]){"overwrite_output_dir", "true", NULL}, NULL, NULL));
    fx_clean();
}

/* The same samples in one pass, two or four give the same numbers up to the rounding of sums: the divisor is the number
 * of trained tokens of the step, not of the pass. */
static void test_accumulation(void **state) {
    (void)state;
    static fx_log log[3];
    const char *const split[3][2] = {{"4", "1"}, {"2", "2"}, {"1", "4"}};
    for (int i = 0; i < 3; i++) {
        fx_ok(fx_run((const char *[]){"per_device_train_batch_size", split[i][0], "gradient_accumulation_steps",
                                      split[i][1], "dropout", "0.1", "label_smoothing_factor", "0.1", NULL},
                     &log[i], NULL));
        fx_clean();
    }
    for (int s = 1; s <= 12; s++) {
        near(log[1].loss[s], log[0].loss[s], 2e-5);
        near(log[2].loss[s], log[0].loss[s], 2e-5);
    }
    assert_int_equal(log[0].n_tokens, log[2].n_tokens);
}

static void test_objectives_agree(void **state) {
    (void)state;
    static fx_log log[2];
    for (int i = 0; i < 2; i++) {
        fx_ok(fx_run((const char *[]){"stage", i ? "probe" : "pt", "z_loss", "1e-3", "eval_steps", "6", NULL}, &log[i],
                     NULL));
        fx_clean();
    }
    for (int s = 1; s <= 12; s++) {
        near(log[1].loss[s], log[0].loss[s], 1e-5);
    }
    near(log[1].eval[12], log[0].eval[12], 1e-5);
}

/* One epoch takes each window once, the last step with what is left; evaluation does not change the numbers. */
static void test_epoch(void **state) {
    (void)state;
    static fx_log log[2];
    fm_train_result r;
    for (int i = 0; i < 2; i++) {
        fx_ok(fx_run((const char *[]){"max_steps", "0", "num_train_epochs", "1", "eval_steps", i ? "3" : "0",
                                      "eval_on_start", i ? "true" : "false", NULL},
                     &log[i], &r));
        fx_clean();
    }
    fm_dataset *d;
    char path[300];
    snprintf(path, sizeof path, "%s/packed/train", fx_top);
    fx_ok(fm_dataset_open(&d, path));
    assert_int_equal(r.tokens, fm_dataset_tokens(d) - fm_dataset_documents(d)); /* all but each document's first */
    fm_dataset_close(d);
    assert_memory_equal(log[0].loss + 1, log[1].loss + 1, (size_t)r.steps * sizeof(double));
}

/* By epochs: three evaluations and checkpoints, at the steps where an epoch ends; a smaller evaluation batch gives the
 * same bits. */
static void test_strategies(void **state) {
    (void)state;
    static fx_log log[2];
    fm_train_result r;
    for (int i = 0; i < 2; i++) {
        fx_clean();
        fx_ok(fx_run((const char *[]){"max_steps", "0", "num_train_epochs", "3", "eval_strategy", "epoch",
                                      "save_strategy", "epoch", "per_device_eval_batch_size", i ? "1" : "0", NULL},
                     &log[i], &r));
    }
    assert_memory_equal(&log[0], &log[1], sizeof log[0]);
    int64_t *steps;
    size_t n;
    fx_ok(fm_trainer_list_checkpoints(fx_out, &steps, &n));
    assert_int_equal(n, 3);
    int n_evals = 0;
    for (int64_t s = 1; s <= r.steps; s++) {
        n_evals += isfinite(log[0].eval[s]);
    }
    assert_int_equal(n_evals, 3);
    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(log[0].eval[steps[i]]));
    }
    fm_free(steps);
    fx_clean();
}

static void test_early_stopping(void **state) {
    (void)state;
    static fx_log log;
    fm_train_result r;
    /* No gain can reach 1000: the second evaluation after the first already ends the run. */
    fx_ok(fx_run((const char *[]){"max_steps", "60", "eval_steps", "5", "early_stopping_patience", "2",
                                  "early_stopping_threshold", "1000", "load_best_model_at_end", "true",
                                  "save_total_limit", "1", NULL},
                 &log, &r));
    assert_string_equal(r.stopped_by, "early_stopping");
    assert_int_equal(r.steps, 15);
    assert_int_equal(r.best_step, 15);
    fx_clean();
}

static void test_best(void **state) {
    (void)state;
    static fx_log log;
    fm_train_result r;
    /* "Greater is better" on the loss makes the first evaluation the best, so that best and last differ. */
    fx_ok(fx_run((const char *[]){"max_steps", "40", "eval_steps", "10", "greater_is_better", "true",
                                  "load_best_model_at_end", "true", "save_total_limit", "1", NULL},
                 &log, &r));
    assert_int_equal(r.best_step, 10);
    near(r.eval_loss, log.eval[10], 0);
    char a[400], b[400], ha[33], hb[33];
    snprintf(a, sizeof a, "%s/model.safetensors", fx_out);
    snprintf(b, sizeof b, "%s/checkpoint-10/model.safetensors", fx_out);
    fx_ok(fm_file_hash(ha, a));
    fx_ok(fm_file_hash(hb, b));
    assert_string_equal(ha, hb);
    int64_t *steps;
    size_t n;
    fx_ok(fm_trainer_list_checkpoints(fx_out, &steps, &n));
    assert_int_equal(n, 2); /* the newest and the best */
    assert_int_equal(steps[0], 10);
    assert_int_equal(steps[1], 40);
    fm_free(steps);
    fx_clean();
}

/* ---- faults ---------------------------------------------------------------------------------- */

static char messages[8192];
static void keep_message(void *user, fm_log_level level, const char *text) {
    (void)user;
    (void)level;
    size_t n = strlen(messages);
    snprintf(messages + n, sizeof messages - n, "%s\n", text);
}

static void test_nan(void **state) {
    (void)state;
    fm_train_config *c = fx_config((const char *[]){"max_skipped_steps", "2", NULL});
    fm_trainer r = {.cfg = c};
    fx_ok(fm_trainer_setup(&r));
    fx_ok(fm_trainer_step(&r));
    fm_param *p = fm_params_find(r.model->params, "model.layers.1.mlp.down_proj.weight");
    assert_non_null(p);
    float *w = p->data, kept = w[5];
    size_t bytes = (size_t)p->numel * 4;
    w[5] = NAN;
    fm_param_changed(p);
    float *before = malloc(bytes);
    assert_non_null(before);
    memcpy(before, w, bytes);
    messages[0] = '\0';
    fm_log_set_sink(keep_message, NULL);
    fx_ok(fm_trainer_step(&r));
    fm_log_set_sink(NULL, NULL);
    assert_true(r.skipped);
    assert_int_equal(r.st.step, 2);
    assert_int_equal(r.st.updates, 1);
    assert_memory_equal(before, w, bytes); /* nothing was applied */
    assert_non_null(strstr(messages, "not finite: model."));
    assert_non_null(strstr(messages, "data.txt:"));
    w[5] = kept;
    fm_param_changed(p);
    fx_ok(fm_trainer_step(&r));
    assert_false(r.skipped);
    assert_true(isfinite(r.loss));
    assert_int_equal(r.st.guard.skipped, 1);
    w[5] = NAN;
    fm_param_changed(p);
    fx_ok(fm_trainer_step(&r));
    assert_int_equal(fm_trainer_step(&r), FM_ERR_NUMERIC); /* two in a row */
    free(before);
    fm_trainer_deinit(&r);
    fm_train_config_free(c);
    fx_clean();
}

/* Weights hit by a fault after a quiet stretch: the loss leaps, the steps are left out, the rows and the parameter are
 * named, and the run goes back to its checkpoint and on. */
static void test_spike(void **state) {
    (void)state;
    fm_train_config *c =
        fx_config((const char *[]){"max_steps", "80", "max_skipped_steps", "2", "learning_rate", "1e-4", NULL});
    fm_trainer r = {.cfg = c};
    fx_ok(fm_trainer_setup(&r));
    for (int i = 0; i < FM_GUARD_MIN + 4; i++) {
        fx_ok(fm_trainer_step(&r));
        assert_false(r.skipped);
    }
    fx_ok(fm_trainer_save(&r));
    double quiet = r.loss;
    float *w = r.model->head->data, kept = w[3];
    for (int64_t i = 0; i < r.model->head->numel; i++) {
        w[i] *= 200;
    }
    fm_param_changed(r.model->head);
    messages[0] = '\0';
    fm_log_set_sink(keep_message, NULL);
    fx_ok(fm_trainer_step(&r));
    assert_true(r.skipped && r.loss > 2 * quiet);
    assert_true(w[3] == 200 * kept);
    assert_int_equal(r.st.rollbacks, 0);
    fx_ok(fm_trainer_step(&r));
    fm_log_set_sink(NULL, NULL);
    assert_non_null(strstr(messages, "far above the median"));
    assert_non_null(strstr(messages, "the largest gradient is that of "));
    assert_non_null(strstr(messages, "data.txt:"));
    assert_int_equal(r.st.rollbacks, 1);
    assert_true(w[3] == kept);
    fx_ok(fm_trainer_step(&r));
    assert_true(!r.skipped && fabs(r.loss - quiet) < 0.2 * quiet);
    fm_trainer_deinit(&r);
    fm_train_config_free(c);
    fx_clean();
}

/* Weights that are broken for good: after two skipped steps the run stands where its checkpoint was, at half the rate,
 * and goes on with the rows that follow; the third time it ends. */
static void test_roll_back(void **state) {
    (void)state;
    fm_train_config *c = fx_config(
        (const char *[]){"max_skipped_steps", "2", "max_rollbacks", "2", "lr_scheduler_type", "constant", NULL});
    fm_trainer r = {.cfg = c};
    fx_ok(fm_trainer_setup(&r));
    fx_ok(fm_trainer_step(&r));
    fx_ok(fm_trainer_step(&r));
    fx_ok(fm_trainer_save(&r));
    fm_param *p = fm_params_find(r.model->params, "model.layers.1.mlp.down_proj.weight");
    size_t bytes = (size_t)p->numel * 4;
    float *saved = malloc(bytes), *moment = malloc(bytes);
    assert_non_null(saved);
    assert_non_null(moment);
    memcpy(saved, p->data, bytes);
    memcpy(moment, fm_optim_state(&r.optim, p, 0), bytes);
    for (int time = 1; time <= 3; time++) {
        fx_ok(fm_trainer_step(&r));
        ((float *)p->data)[5] = NAN;
        fm_param_changed(p);
        int64_t step = r.st.step, done = r.st.samples_done;
        fx_ok(fm_trainer_step(&r));
        if (time == 3) {
            assert_int_equal(fm_trainer_step(&r), FM_ERR_NUMERIC);
            break;
        }
        fx_ok(fm_trainer_step(&r));
        assert_int_equal(r.st.rollbacks, time);
        assert_memory_equal(p->data, saved, bytes);
        assert_memory_equal(fm_optim_state(&r.optim, p, 0), moment, bytes);
        assert_int_equal(r.st.updates, 2);
        assert_int_equal(r.st.step, step + 2);
        assert_true(r.st.samples_done > done); /* the rows are not met again */
        fx_ok(fm_trainer_step(&r));
        assert_false(r.skipped);
        assert_true(fabs(r.lr - r.learning_rate * (time == 1 ? 0.5 : 0.25)) < 1e-12);
        /* Back on the saved weights for the next round. */
        bool back;
        r.st.rollbacks--;
        fx_ok(fm_trainer_roll_back(&r, &back));
        assert_true(back);
    }
    free(saved);
    free(moment);
    fm_trainer_deinit(&r);
    fm_train_config_free(c);
    fx_clean();
}

/* The n-th allocation of a step fails, for every n: the step is done with a smaller plan, or fails as lack of memory
 * and can be run again; the loss is that of the undisturbed step. */
static void test_out_of_memory(void **state) {
    (void)state;
    int recovered = 0, refused = 0;
    for (int64_t n = 1; n < 200; n++) {
        fm_train_config *c = fx_config((const char *[]){"dropout", "0.1", NULL});
        fm_trainer r = {.cfg = c}, ref = {.cfg = c};
        fx_ok(fm_trainer_setup(&ref));
        fx_ok(fm_trainer_step(&ref));
        fx_ok(fm_trainer_setup(&r));
        fm_mem_fail_at(n, false);
        fm_status s = fm_trainer_step(&r);
        bool reached = fm_mem_alloc_count() >= n;
        fm_mem_fail_at(0, false);
        if (s != FM_OK) {
            assert_int_equal(s, FM_ERR_NO_MEMORY);
            assert_int_equal(r.st.step, 0);
            refused++;
            fx_ok(fm_trainer_make_ctx(&r));
            fx_ok(fm_trainer_step(&r));
        }
        recovered += s == FM_OK && r.plan.micro_batch < 4;
        near(r.loss, ref.loss, 2e-6);
        fm_trainer_deinit(&r);
        fm_trainer_deinit(&ref);
        fm_train_config_free(c);
        if (!reached) {
            break;
        }
    }
    assert_true(recovered > 0);
    (void)refused;
    fx_clean();
}

/* What is tried when memory runs out again and again, in its order: smaller passes, recomputation, the optimizer on
 * disk with its moments as they were; then the failure. */
static void test_recovery_steps(void **state) {
    (void)state;
    fm_train_config *c = fx_config(NULL);
    fm_trainer r = {.cfg = c}, ref = {.cfg = c};
    fx_ok(fm_trainer_setup(&ref));
    fx_ok(fm_trainer_setup(&r));
    fx_ok(fm_trainer_step(&ref));
    fx_ok(fm_trainer_step(&r));
    for (int i = 1; i <= 4; i++) {
        (void)fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "on purpose");
        fx_ok(fm_trainer_recover(&r));
        assert_int_equal(r.plan.micro_batch, i == 1 ? 2 : 1);
        assert_int_equal(r.plan.recompute, i >= 3);
        assert_int_equal(r.optim.on_disk, i >= 4);
        assert_memory_equal(r.optim.block, ref.optim.block, r.optim.bytes);
        assert_int_equal(fm_ledger_current(FM_MEM_OPTIMIZER) < (int64_t)(r.optim.bytes + ref.optim.bytes), i >= 4);
    }
    fx_ok(fm_trainer_step(&ref));
    fx_ok(fm_trainer_step(&r));
    near(r.loss, ref.loss, 2e-6);
    (void)fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "on purpose");
    assert_int_equal(fm_trainer_recover(&r), FM_ERR_NO_MEMORY);
    fm_trainer_deinit(&r);
    fm_trainer_deinit(&ref);
    fm_train_config_free(c);
    fx_clean();
}

/* One allocation of a whole run fails, many places tried: the run ends well or says that memory is short; with the
 * sanitizers this also finds what is not given back. */
static void test_allocation_failures(void **state) {
    (void)state;
    int failed = 0;
    for (int64_t n = 1;; n += 1 + n / 6) {
        fm_train_config *c = fx_config((const char *[]){"max_steps", "2", "overwrite_output_dir", "true", NULL});
        fm_train_result r = {.size = sizeof r};
        fm_mem_fail_at(n, false);
        fm_status s = fm_train_run_sinks(c, NULL, 0, &r);
        bool reached = fm_mem_alloc_count() >= n;
        fm_mem_fail_at(0, false);
        if (s != FM_OK && s != FM_ERR_NO_MEMORY) {
            fail_msg("allocation %lld: %s: %s", (long long)n, fm_status_name(s), fm_error_get().message);
        }
        failed += s != FM_OK;
        fm_train_config_free(c);
        if (!reached) {
            break;
        }
    }
    assert_true(failed > 10);
    fx_clean();
}

static void test_plan(void **state) {
    (void)state;
    fm_train_config *c = fx_config((const char *[]){"per_device_train_batch_size", "16", "cutoff_len", "64", NULL});
    fm_plan big = {.size = sizeof big};
    fx_ok(fm_train_plan(&big, c, 0));
    assert_int_equal(big.micro_batch, 16);
    assert_true(big.fits);
    assert_int_equal(big.weights_bytes, big.grad_bytes);
    assert_int_equal(big.optimizer_bytes, 2 * big.weights_bytes);
    /* The plan is what a run takes: arena and gradient peaks to the byte. */
    fm_trainer r = {.cfg = c};
    fx_ok(fm_trainer_setup(&r));
    fx_ok(fm_trainer_step(&r));
    assert_int_equal(fm_ctx_arena_peak(r.ctx), big.activation_bytes);
    assert_int_equal(fm_ctx_grad_peak(r.ctx), big.activation_grad_bytes);
    double loss = r.loss;
    fm_trainer_deinit(&r);
    fm_train_config_free(c);
    /* Less memory: smaller passes, the same step. */
    char limit[32];
    snprintf(limit, sizeof limit, "%lld", (long long)(big.process_bytes - big.activation_bytes / 2));
    c = fx_config((const char *[]){"per_device_train_batch_size", "16", "cutoff_len", "64", "max_memory", limit, NULL});
    fm_plan small = {.size = sizeof small};
    fx_ok(fm_train_plan(&small, c, 0));
    assert_true(small.fits && small.micro_batch < 16 && small.micro_batch * small.accumulation == 16);
    assert_true(small.process_bytes <= big.process_bytes - big.activation_bytes / 2);
    r = (fm_trainer){.cfg = c};
    fx_ok(fm_trainer_setup(&r));
    fx_ok(fm_trainer_step(&r));
    near(r.loss, loss, 1e-6);
    fm_trainer_deinit(&r);
    fm_train_config_free(c);
    c = fx_config((const char *[]){"max_memory", "1MB", NULL});
    fx_ok(fm_train_plan(&small, c, 0));
    assert_false(small.fits);
    assert_true(small.recompute);
    fm_train_config_free(c);
    assert_int_equal(fx_run((const char *[]){"max_memory", "1MB", NULL}, NULL, NULL), FM_ERR_NO_MEMORY);
    fx_clean();
}

static void test_recompute(void **state) {
    (void)state;
    static fx_log log[2];
    for (int i = 0; i < 2; i++) {
        fx_ok(fx_run((const char *[]){"gradient_checkpointing", i ? "on" : "off", "dropout", "0.1", NULL}, &log[i],
                     NULL));
        fx_clean();
    }
    for (int s = 1; s <= 12; s++) {
        near(log[1].loss[s], log[0].loss[s], 1e-5);
    }
}

static void test_config(void **state) {
    (void)state;
    const struct {
        const char *key, *value;
    } bad[] = {
        {"stage", "sftt"}, {"optim", "adam8"},     {"lr_scheduler_type", "cos"}, {"metric_for_best_model", "bleu"},
        {"preset", "26m"}, {"report_to", "wandb"}, {"finetuning_type", "lora"}};
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        assert_int_equal(fx_run((const char *[]){bad[i].key, bad[i].value, NULL}, NULL, NULL), FM_ERR_CONFIG);
        assert_true(fm_error_get().hint[0] != '\0');
    }
    assert_false(fm_path_exists(fx_out));
    /* Raw files are packed into the output folder. */
    char raw[300], tok[300];
    snprintf(raw, sizeof raw, "%s/data.txt", fx_top);
    snprintf(tok, sizeof tok, "%s/tok", fx_top);
    fx_ok(fx_run((const char *[]){"dataset", raw, "tokenizer", tok, "txt_unit", "line", "max_steps", "2", NULL}, NULL,
                 NULL));
    fx_clean();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_learns, fx_fresh),
        cmocka_unit_test_setup(test_accumulation, fx_fresh),
        cmocka_unit_test_setup(test_objectives_agree, fx_fresh),
        cmocka_unit_test_setup(test_epoch, fx_fresh),
        cmocka_unit_test_setup(test_strategies, fx_fresh),
        cmocka_unit_test_setup(test_early_stopping, fx_fresh),
        cmocka_unit_test_setup(test_best, fx_fresh),
        cmocka_unit_test_setup(test_nan, fx_fresh),
        cmocka_unit_test_setup(test_roll_back, fx_fresh),
        cmocka_unit_test_setup(test_spike, fx_fresh),
        cmocka_unit_test_setup(test_out_of_memory, fx_fresh),
        cmocka_unit_test_setup(test_recovery_steps, fx_fresh),
        cmocka_unit_test_setup(test_allocation_failures, fx_fresh),
        cmocka_unit_test_setup(test_plan, fx_fresh),
        cmocka_unit_test_setup(test_recompute, fx_fresh),
        cmocka_unit_test_setup(test_config, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
