/* Findings from the numbers of runs. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "train_fixture.h"

/* A run whose checkpoint is real and whose log is the one given: loss and eval loss of each line, NaN = none. */
static void make_run(const char *const *set, const double *loss, const double *eval, int n) {
    char path[400];
    fx_clean();
    fx_ok(fx_run(set, NULL, NULL));
    snprintf(path, sizeof path, "%s/trainer_log.jsonl", fx_out);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < n; i++) {
        fprintf(f, "{\"step\": %d, \"epoch\": %g, \"loss\": %g, \"learning_rate\": 0.002, \"mfu\": 0.5", 10 * (i + 1),
                i / 4.0, loss[i]);
        if (eval && isfinite(eval[i])) {
            fprintf(f, ", \"eval_loss\": %g", eval[i]);
        }
        fprintf(f, "}\n");
    }
    fprintf(f, "{\"step\": 9"); /* cut short by a kill */
    fclose(f);
}

static const fm_advice_change *changed(const fm_finding *f, const char *key) {
    for (int i = 0; i < f->n_changes; i++) {
        if (strcmp(f->change[i].key, key) == 0) {
            return &f->change[i];
        }
    }
    fail_msg("%s is not changed", key);
    return NULL;
}

static const char *const plain[] = {"max_steps", "2", NULL};

static void test_overfitting(void **state) {
    (void)state;
    static const double loss[] = {3, 2.5, 2, 1.6, 1.3, 1, 0.8, 0.6}, eval[] = {3, NAN, 2.2, NAN, 2.3, NAN, 2.6, 2.9};
    fm_advice a = {.size = sizeof a};
    make_run(plain, loss, eval, 8);
    fx_ok(fm_train_advise(&a, fx_out));
    assert_int_equal(a.n, 1);
    assert_string_equal(a.finding[0].kind, "overfitting");
    assert_non_null(strstr(a.finding[0].evidence, "eval loss 2.2 at step 30"));
    assert_string_equal(changed(&a.finding[0], "dropout")->to, "0.1");
    assert_string_equal(changed(&a.finding[0], "early_stopping_patience")->to, "3");
    /* The changed configuration runs as it is. */
    char path[400];
    fm_train_config *c;
    snprintf(path, sizeof path, "%s/next.yaml", fx_top);
    fx_ok(fm_train_advice_apply(&a, fx_out, path));
    fx_ok(fm_train_config_new(&c));
    fx_ok(fm_options_load_yaml(c, fm_train_options(), path));
    assert_true(c->dropout == 0.1 && c->early_stopping_patience == 3 && c->load_best_model_at_end && c->max_steps == 2);
    snprintf(path, sizeof path, "%s-advised", fx_out);
    assert_string_equal(c->output_dir, path);
    fm_train_result r = {.size = sizeof r};
    fx_ok(fm_train_run_sinks(c, NULL, 0, &r));
    assert_int_equal(r.steps, 2);
    fm_train_config_free(c);
    fx_ok(fm_remove_tree(path));
    /* Where all of it is set already, dropout goes on to 0.3 and no further. */
    const char *const set[] = {
        "max_steps", "2", "dropout", "0.3", "early_stopping_patience", "3", "load_best_model_at_end", "true", NULL};
    make_run(set, loss, eval, 8);
    fx_ok(fm_train_advise(&a, fx_out));
    assert_int_equal(a.finding[0].n_changes, 0);
}

static void test_divergence(void **state) {
    (void)state;
    static const double loss[] = {3, 2.5, 2, 1.6, 1.5, 1.9, 3.1, 3.5};
    fm_advice a = {.size = sizeof a};
    make_run(plain, loss, NULL, 8);
    fx_ok(fm_train_advise(&a, fx_out));
    assert_string_equal(a.finding[0].kind, "divergence");
    assert_string_equal(changed(&a.finding[0], "learning_rate")->from, "0.003");
    assert_string_equal(changed(&a.finding[0], "learning_rate")->to, "0.0015");
    assert_string_equal(changed(&a.finding[0], "max_grad_norm")->to, "0.5");
}

static void test_underfitting(void **state) {
    (void)state;
    static const double loss[] = {3, 2.8, 2.6, 2.4, 2.2, 2, 1.8, 1.6}, eval[] = {3, NAN, 2.6, NAN, 2.2, NAN, NAN, 1.7};
    static const double flat[] = {3, 2, 1.6, 1.5, 1.49, 1.49, 1.48, 1.48};
    fm_advice a = {.size = sizeof a};
    make_run(plain, loss, eval, 8);
    fx_ok(fm_train_advise(&a, fx_out));
    assert_int_equal(a.n, 1);
    assert_string_equal(a.finding[0].kind, "underfitting");
    assert_string_equal(changed(&a.finding[0], "max_steps")->to, "4");
    make_run((const char *const[]){"max_steps", "0", "num_train_epochs", "1", NULL}, loss, eval, 8);
    fx_ok(fm_train_advise(&a, fx_out));
    assert_string_equal(changed(&a.finding[0], "num_train_epochs")->to, "2");
    make_run(plain, flat, NULL, 8);
    fx_ok(fm_train_advise(&a, fx_out));
    assert_int_equal(a.n, 0);
}

/* Over epochs the training loss falls away from an evaluation that stands still. */
static void test_gap(void **state) {
    (void)state;
    static const double loss[] = {3, 2.9, 2.8, 2.4, 2, 1.7, 1.4, 1.2, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4, 0.3, 0.3},
                        eval[] = {NAN, NAN, 2.95,  NAN, NAN, 2.2,   NAN, NAN, 2,
                                  NAN, NAN, 1.995, NAN, NAN, 1.994, NAN, NAN, 1.993},
                        near[] = {NAN, NAN, 2.95, NAN, NAN, 1.9, NAN, NAN, 1.3,
                                  NAN, NAN, 0.9,  NAN, NAN, 0.6, NAN, NAN, 0.5};
    fm_advice a = {.size = sizeof a};
    make_run(plain, loss, eval, 18);
    fx_ok(fm_train_advise(&a, fx_out));
    assert_int_equal(a.n, 1);
    assert_string_equal(a.finding[0].kind, "overfitting");
    assert_non_null(strstr(a.finding[0].evidence, "stands still, 1.643 above"));
    assert_non_null(strstr(a.finding[0].advice, "more rows"));
    make_run(plain, loss, near, 18);
    fx_ok(fm_train_advise(&a, fx_out));
    for (int i = 0; i < a.n; i++) {
        assert_string_not_equal(a.finding[i].kind, "overfitting");
    }
}

/* Three evaluations within the first epoch: 4, 3, 2.5 -> the next doubling gains half of the last one's 0.5. */
static void test_learning_curve(void **state) {
    (void)state;
    static const double loss[] = {5, 4, 3, 2.5}, eval[] = {4, 3, NAN, 2.5};
    fm_advice a = {.size = sizeof a};
    make_run(plain, loss, eval, 4);
    fx_ok(fm_train_advise(&a, fx_out));
    assert_int_equal(a.n, 1);
    assert_string_equal(a.finding[0].kind, "learning curve");
    assert_non_null(strstr(a.finding[0].evidence, "2.5 with all: twice as many would give about 2.25"));
    char *json;
    fx_ok(fm_train_advice_json(&json, &a));
    assert_non_null(strstr(json, "\"kind\": \"learning curve\""));
    assert_non_null(strstr(json, "add rows to dataset"));
    fm_string_free(json);
    static const double level[] = {2.51, 2.505, NAN, 2.5};
    make_run(plain, loss, level, 4);
    fx_ok(fm_train_advise(&a, fx_out));
    assert_int_equal(a.n, 0);
}

/* The rows of a skipped step are named again. */
static void test_suspect_rows(void **state) {
    (void)state;
    static const double loss[] = {3, 2.5, 2, 1.6, 1.5, 1.9, 3.1, 3.5};
    char path[400];
    fm_advice a = {.size = sizeof a};
    make_run(plain, loss, NULL, 8);
    snprintf(path, sizeof path, "%s/trainer_log.jsonl", fx_out);
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    fprintf(f, "0, \"loss\": 4}\n{\"step\": 91, \"rows\": \"document 7 (a.jsonl:8)\", \"skipped\": true}\n");
    fclose(f);
    fx_ok(fm_train_advise(&a, fx_out));
    assert_string_equal(a.finding[0].kind, "divergence");
    assert_non_null(strstr(a.finding[0].advice, "document 7 (a.jsonl:8)"));
}

static void test_missing(void **state) {
    (void)state;
    fm_advice a = {.size = sizeof a};
    assert_int_equal(fm_train_advise(&a, fx_top), FM_ERR_NOT_FOUND);
    assert_non_null(strstr(fm_error_get().message, "trainer_log.jsonl"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_overfitting, fx_fresh),    cmocka_unit_test_setup(test_divergence, fx_fresh),
        cmocka_unit_test_setup(test_underfitting, fx_fresh),   cmocka_unit_test_setup(test_gap, fx_fresh),
        cmocka_unit_test_setup(test_learning_curve, fx_fresh), cmocka_unit_test_setup(test_suspect_rows, fx_fresh),
        cmocka_unit_test_setup(test_missing, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
