/* Several tasks on one trunk: what is learned, how losses are weighed, how heads are saved and found by name. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "task_rows.h"

static void write_all(int n) {
    write_file("rows.jsonl", 0, n, 0x3f, names);
    write_file("test.jsonl", n, n + 40, 0x3f, names);
}

static void test_learns(void **state) {
    (void)state;
    static fx_log log;
    fm_train_result r;
    write_all(200);
    fx_ok(run(TASKS, "%s/rows.jsonl",
              (const char *const[]){"max_steps", "260", "logging_steps", "1000", "metric_for_best_model",
                                    "eval_who_accuracy", "load_best_model_at_end", "true", NULL},
              &log, &r));
    assert_true(fx_metric(&log, "eval_who_accuracy") > 0.95);
    assert_true(fx_metric(&log, "eval_fox_mse") < 0.3);
    assert_true(fx_metric(&log, "eval_both_f1_micro") > 0.85);
    assert_true(fx_metric(&log, "eval_names_f1") > 0.95);
    assert_true(fx_metric(&log, "eval_find_em") > 0.95 && fx_metric(&log, "eval_find_f1") > 0.95);
    assert_true(fx_metric(&log, "eval_say_perplexity") < 1.5);
    assert_true(r.best_metric == fx_metric(&log, "eval_who_accuracy")); /* more is better without saying so */
    double sum = 0;
    for (int i = 0; i < N_KINDS; i++) {
        char name[64];
        snprintf(name, sizeof name, "eval_%s_loss", names[i]);
        sum += fx_metric(&log, name);
    }
    assert_true(fabs(sum - r.eval_loss) < 1e-9);

    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .threads = 1};
    fx_ok(fm_model_open(&m, fx_out, &o));
    static const char *const kinds[] = {"lm", "classification", "reward", "multi-label", "tagging", "span"};
    assert_int_equal(fm_model_head_count(m), 6);
    for (int i = 0; i < 6; i++) {
        fm_head_info h;
        fx_ok(fm_model_head_info(&h, m, i));
        assert_string_equal(h.kind, kinds[i]);
        assert_string_equal(h.name, i ? names[i - 1] : "");
    }
    assert_true(fm_model_generates(m));
    assert_string_equal(fm_model_label(m, 1, 4), "owl");
    assert_string_equal(fm_model_label(m, 4, 1), "I-WHO");
    /* The head by name says what training measured. */
    const fm_tokenizer *t;
    int head, right = 0;
    fx_ok(fm_model_head_find(&head, m, "who"));
    fx_ok(fm_model_tokenizer(&t, m));
    for (int i = 200; i < 240; i++) {
        char text[256];
        float score[5];
        fm_tokens ids = {0};
        fm_encode_options eo = {.size = sizeof eo, .add_special = true, .n_threads = 1};
        fx_text(text, sizeof text, i);
        fx_ok(fm_tokenizer_encode(&ids, t, text, strlen(text), &eo));
        int32_t offsets[] = {0, (int32_t)ids.n};
        fm_texts in = {.size = sizeof in, .ids = ids.ids, .offsets = offsets, .n = 1};
        fx_ok(fm_model_scores(m, head, &in, score));
        int best = 0;
        for (int k = 1; k < 5; k++) {
            best = score[k] > score[best] ? k : best;
        }
        const char *name = fm_model_label(m, head, best);
        right += strncmp(text + 4, name, strlen(name)) == 0;
        fm_tokens_free(&ids);
    }
    fm_model_close(m);
    assert_true(fabs(right / 40.0 - r.best_metric) < 1e-6);
}

/* The first step's loss is the weighted sum of the tasks' losses, in one pass or in several. */
static void test_weights(void **state) {
    (void)state;
    static fx_log one, two, both, parts, size;
    write_all(60);
    const char *const a[] = {"max_steps", "1", "task_weights", "who=1,fox=0", NULL};
    const char *const b[] = {"max_steps", "1", "task_weights", "who=0,fox=0.5", NULL};
    const char *const ab[] = {"max_steps", "3", "task_weights", "who=1,fox=0.5", NULL};
    const char *const ab2[] = {"max_steps",
                               "3",
                               "task_weights",
                               "who=1,fox=0.5",
                               "per_device_train_batch_size",
                               "1",
                               "gradient_accumulation_steps",
                               "4",
                               NULL};
    write_file("rows.jsonl", 0, 60, 1U << WHO | 1U << FOX, names);
    write_file("more.jsonl", 0, 120, 1U << FOX, NULL);
    write_file("test.jsonl", 60, 80, 1U << WHO | 1U << FOX, names);
    const char *tasks = "who=cls,fox=reg:stars";
    fx_ok(run(tasks, "%s/rows.jsonl", a, &one, NULL));
    fx_clean();
    fx_ok(run(tasks, "%s/rows.jsonl", b, &two, NULL));
    fx_clean();
    fx_ok(run(tasks, "%s/rows.jsonl", ab, &both, NULL));
    fx_clean();
    fx_ok(run(tasks, "%s/rows.jsonl", ab2, &parts, NULL));
    fx_clean();
    assert_true(one.loss[1] > 0.5 && two.loss[1] > 0);
    assert_true(fabs(one.loss[1] + two.loss[1] - both.loss[1]) < 1e-5 * both.loss[1]);
    for (int i = 1; i <= 3; i++) {
        assert_true(fabs(parts.loss[i] - both.loss[i]) < 1e-4 * both.loss[i]);
    }
    /* 60 rows of who, 60 + 120 of fox: shares 1/4 and 3/4, times two tasks. A whole file is of one task. */
    fx_ok(run(tasks, "%s/rows.jsonl,fox=%s/more.jsonl",
              (const char *const[]){"max_steps", "1", "task_weights", "size", NULL}, &size, NULL));
    assert_true(fabs(size.eval[1] - 0.5 * fx_metric(&size, "eval_who_loss") - 1.5 * fx_metric(&size, "eval_fox_loss")) <
                1e-6);
}

/* Learned weights: the task that is learned well counts more in the end, and a resumed run ends with the same bytes. */
static void test_uncertainty(void **state) {
    (void)state;
    static fx_log log;
    char want[33], got[33], path[400];
    write_all(60);
    const char *const set[] = {"max_steps",
                               "14",
                               "task_weights",
                               "uncertainty",
                               "dropout",
                               "0.1",
                               "save_steps",
                               "5",
                               "gradient_accumulation_steps",
                               "2",
                               "per_device_train_batch_size",
                               "2",
                               NULL};
    fx_ok(run(TASKS, "%s/rows.jsonl", set, &log, NULL));
    double names_weight = fx_metric(&log, "eval_names_weight"), who = fx_metric(&log, "eval_who_weight");
    assert_true(names_weight > 0 && who > 0 && names_weight != who);
    snprintf(path, sizeof path, "%s/model.safetensors", fx_out);
    fx_ok(fm_file_hash(want, path));
    for (int step = 10; step <= 14; step += 4) {
        char gone[400];
        snprintf(gone, sizeof gone, "%s/checkpoint-%d", fx_out, step);
        fx_ok(fm_remove_tree(gone));
    }
    fx_ok(fm_remove_tree(path));
    const char *const again[] = {"max_steps",
                                 "14",
                                 "task_weights",
                                 "uncertainty",
                                 "dropout",
                                 "0.1",
                                 "save_steps",
                                 "5",
                                 "gradient_accumulation_steps",
                                 "2",
                                 "per_device_train_batch_size",
                                 "2",
                                 "resume_from_checkpoint",
                                 "true",
                                 NULL};
    fx_ok(run(TASKS, "%s/rows.jsonl", again, &log, NULL));
    fx_ok(fm_file_hash(got, path));
    assert_string_equal(got, want);
}

/* The losses of the tasks are scaled as one in fp16: the run learns as in fp32. */
static void test_fp16(void **state) {
    (void)state;
    static fx_log log[2];
    for (int i = 0; i < 2; i++) {
        fx_clean();
        fx_ok(run(TASKS, "%s/rows.jsonl",
                  (const char *const[]){"max_steps", "6", "initial_loss_scale", "256", "precision", i ? "fp16" : "fp32",
                                        NULL},
                  &log[i], NULL));
    }
    for (int s = 1; s <= 6; s++) {
        if (!(fabs(log[1].loss[s] - log[0].loss[s]) < 0.02 * log[0].loss[s])) {
            fail_msg("step %d: loss %g in fp16, %g in fp32", s, log[1].loss[s], log[0].loss[s]);
        }
    }
}

/* A run that starts from a model with heads keeps their labels, and heads it does not train stay as they are. */
static void test_goes_on(void **state) {
    (void)state;
    char base[300];
    write_all(40);
    fx_ok(run(TASKS, "%s/rows.jsonl", NULL, NULL, NULL));
    snprintf(base, sizeof base, "%s/base", fx_top);
    fx_ok(fm_remove_tree(base));
    fx_ok(fm_rename_dir(fx_out, base));
    write_file("rows.jsonl", 0, 4, 1U << WHO, names); /* fewer animals: ids stay those of the model */
    write_file("test.jsonl", 4, 8, 1U << WHO, names);
    fx_ok(run("who=cls", "%s/rows.jsonl",
              (const char *const[]){"model_name_or_path", base, "train_from_scratch", "false", "max_steps", "2", NULL},
              NULL, NULL));
    fm_model *a, *b;
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .threads = 1};
    fx_ok(fm_model_open(&a, base, &o));
    fx_ok(fm_model_open(&b, fx_out, &o));
    assert_int_equal(fm_model_head_count(b), 6);
    assert_string_equal(fm_model_label(b, 1, 4), "owl");
    assert_string_equal(fm_model_label(b, 4, 1), "I-WHO");
    const fm_param *p = fm_params_find(a->params, "heads.names.weight"),
                   *q = fm_params_find(b->params, "heads.names.weight");
    assert_non_null(p);
    assert_memory_equal(p->data, q->data, (size_t)p->numel * 4);
    p = fm_params_find(a->params, "heads.who.weight");
    q = fm_params_find(b->params, "heads.who.weight");
    assert_memory_not_equal(p->data, q->data, (size_t)p->numel * 4);
    fm_model_close(a);
    fm_model_close(b);
}

static int n_warnings;
static void on_log(void *user, fm_log_level level, const char *text) {
    (void)user;
    n_warnings += level == FM_LOG_WARN && strstr(text, "memory ran out") != NULL;
}

/* Windows of one task after windows of another: the memory that was planned holds all of them. */
static void test_memory(void **state) {
    (void)state;
    write_file("who.jsonl", 0, 30, 1U << WHO, NULL);
    write_file("say.jsonl", 0, 30, 1U << SAY, NULL);
    write_file("test.jsonl", 60, 64, 1U << WHO, names);
    n_warnings = 0;
    fm_log_set_sink(on_log, NULL);
    const char *const set[] = {
        "max_steps", "20", "per_device_train_batch_size", "1", "task_weights", "uncertainty", "shuffle", "false", NULL};
    fm_status s = run("who=cls,say=sft", "who=%s/who.jsonl,say=%s/say.jsonl", set, NULL, NULL);
    fm_log_set_sink(NULL, NULL);
    fx_ok(s);
    assert_int_equal(n_warnings, 0);
}

static void expect(fm_status want, const char *part, fm_status got) {
    if (got != want || !strstr(fm_error_get().message, part)) {
        fail_msg("%s: %s", fm_status_name(got), fm_error_get().message);
    }
    fx_clean();
}

static void test_refusals(void **state) {
    (void)state;
    write_all(10);
    const char *rows = "%s/rows.jsonl";
    expect(FM_ERR_CONFIG, "tasks: expected 1", run("", rows, NULL, NULL, NULL));
    expect(FM_ERR_CONFIG, "kind \"clss\"", run("who=clss", rows, NULL, NULL, NULL));
    expect(FM_ERR_CONFIG, "NAME=KIND", run("who", rows, NULL, NULL, NULL));
    expect(FM_ERR_CONFIG, "two are named", run("who=cls,who=cls", rows, NULL, NULL, NULL));
    expect(FM_ERR_CONFIG, "second of kind sft", run("a=sft,b=sft", rows, NULL, NULL, NULL));
    expect(FM_ERR_DATA, "no row is of task what", run("what=cls", rows, NULL, NULL, NULL));
    expect(FM_ERR_CONFIG, "task_weights",
           run("who=cls", rows, (const char *const[]){"task_weights", "what=1", NULL}, NULL, NULL));
    expect(FM_ERR_CONFIG, "all are 0",
           run("who=cls", rows, (const char *const[]){"task_weights", "who=0", NULL}, NULL, NULL));
    expect(FM_ERR_CONFIG, "no task measures",
           run("who=cls", rows, (const char *const[]){"metric_for_best_model", "eval_who_f2", NULL}, NULL, NULL));
    expect(FM_ERR_CONFIG, "key of stage multi",
           run("who=cls", rows, (const char *const[]){"stage", "cls", NULL}, NULL, NULL));
    expect(FM_ERR_NOT_FOUND, "none.jsonl", run("who=cls", "who=%s/none.jsonl", NULL, NULL, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_learns, fx_fresh),      cmocka_unit_test_setup(test_weights, fx_fresh),
        cmocka_unit_test_setup(test_uncertainty, fx_fresh), cmocka_unit_test_setup(test_fp16, fx_fresh),
        cmocka_unit_test_setup(test_goes_on, fx_fresh),     cmocka_unit_test_setup(test_refusals, fx_fresh),
        cmocka_unit_test_setup(test_memory, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
