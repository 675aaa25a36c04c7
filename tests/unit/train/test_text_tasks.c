/* Labels and numbers of texts: what is learned, what is measured, how a saved model says it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "train_fixture.h"

/* Sentences of the corpus; the label is their first animal, the number how many of them are the fox. */
static void write_rows(const char *name, int begin, int end, int kind) {
    char path[300], text[256];
    snprintf(path, sizeof path, "%s/%s", fx_top, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = begin; i < end; i++) {
        fx_text(text, sizeof text, i);
        char who[16];
        int fox = 0;
        assert_int_equal(sscanf(text, "the %15s", who), 1);
        for (const char *p = text; (p = strstr(p, "fox")) != NULL; p++) {
            fox++;
        }
        if (kind == 3) { /* each animal with its adjective-less article: "the fox" is an entity of two words */
            char words[512] = "", tags[512] = "", copy[256];
            snprintf(copy, sizeof copy, "%s", text);
            bool the = false;
            for (char *save, *w = strtok_r(copy, " .", &save); w; w = strtok_r(NULL, " .", &save)) {
                bool first = strcmp(w, "the") == 0;
                size_t a = strlen(words), b = strlen(tags);
                snprintf(words + a, sizeof words - a, "%s\"%s\"", a ? "," : "", w);
                snprintf(tags + b, sizeof tags - b, "%s\"%s\"", b ? "," : "", first ? "B-WHO" : the ? "I-WHO" : "O");
                the = first;
            }
            fprintf(f, "{\"tokens\": [%s], \"tags\": [%s]}\n", words, tags);
        } else if (kind == 4) {
            char *fox_at = strstr(text, "fox");
            int at = fox_at ? (int)(fox_at - text) : 0;
            fprintf(f, "{\"text\": \"\u00e9 %s\", \"entities\": [", text);
            fprintf(f, fox_at ? "{\"start\": %d, \"end\": %d, \"label\": \"FOX\"}]}\n" : "]}\n", at + 2, at + 5);
        } else if (kind == 0) {
            fprintf(f, "{\"text\": \"%s\", \"label\": \"%s\"}\n", text, who);
        } else if (kind == 1) {
            fprintf(f, "{\"text\": \"%s\", \"score\": %d}\n", text, fox);
        } else {
            bool dog = strstr(text, "dog") != NULL, cat = strstr(text, "cat") != NULL;
            fprintf(f, "{\"text\": \"%s\", \"labels\": [%s%s%s]}\n", text, dog ? "\"dog\"" : "", dog && cat ? "," : "",
                    cat ? "\"cat\"" : "");
        }
    }
    fclose(f);
}

static fm_status run(const char *stage, int kind, const char *const *more, fx_log *log, fm_train_result *r) {
    char train[300], test[300], tok[300];
    write_rows("rows.jsonl", 0, 400, kind);
    write_rows("test.jsonl", 400, 460, kind);
    snprintf(train, sizeof train, "%s/rows.jsonl", fx_top);
    snprintf(test, sizeof test, "%s/test.jsonl", fx_top);
    snprintf(tok, sizeof tok, "%s/tok", fx_top);
    const char *set[40] = {"stage",         stage,  "dataset",       train,  "eval_dataset", test,
                           "tokenizer",     tok,    "cutoff_len",    "64",   "max_steps",    "150",
                           "learning_rate", "1e-2", "logging_steps", "1000", "warmup_ratio", "0.05"};
    size_t n = 18;
    for (; more && *more; more++) {
        set[n++] = *more;
    }
    set[n] = NULL;
    return fx_run(set, log, r);
}

static void test_labels(void **state) {
    (void)state;
    fm_train_result r;
    fx_ok(run("cls", 0,
              (const char *const[]){"metric_for_best_model", "eval_accuracy", "load_best_model_at_end", "true",
                                    "eval_steps", "50", NULL},
              NULL, &r));
    assert_true(r.best_metric > 0.95); /* more is better without saying so */
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .threads = 1};
    fx_ok(fm_model_open(&m, fx_out, &o));
    fm_head_info h;
    fx_ok(fm_model_head_info(&h, m, 0));
    assert_string_equal(h.kind, "classification");
    assert_int_equal(h.n_outputs, 5);
    static const char *const names[] = {"bear", "cat", "dog", "fox", "owl"};
    for (int i = 0; i < 5; i++) {
        assert_string_equal(fm_model_label(m, 0, i), names[i]);
    }
    /* The saved model says what training measured. */
    const fm_tokenizer *t;
    int right = 0;
    fx_ok(fm_model_tokenizer(&t, m));
    for (int i = 400; i < 460; i++) {
        char text[256];
        float score[5];
        fm_tokens ids = {0};
        fm_encode_options eo = {.size = sizeof eo, .add_special = true, .n_threads = 1};
        fx_text(text, sizeof text, i);
        fx_ok(fm_tokenizer_encode(&ids, t, text, strlen(text), &eo));
        int32_t offsets[] = {0, (int32_t)ids.n};
        fm_texts in = {.size = sizeof in, .ids = ids.ids, .offsets = offsets, .n = 1};
        fx_ok(fm_model_scores(m, 0, &in, score));
        int best = 0;
        for (int k = 1; k < 5; k++) {
            best = score[k] > score[best] ? k : best;
        }
        right += strncmp(text + 4, names[best], strlen(names[best])) == 0;
        fm_tokens_free(&ids);
    }
    fm_model_close(m);
    assert_true(fabs(right / 60.0 - r.best_metric) < 1e-6);
}

static void test_numbers(void **state) {
    (void)state;
    static fx_log log;
    fm_train_result r;
    fx_ok(run("reg", 1, NULL, &log, &r));
    double mse = fx_metric(&log, "eval_mse");
    assert_true(mse < 0.15 && fx_metric(&log, "eval_pearson") > 0.9);
    assert_true(fabs(mse - r.eval_loss) < 1e-6); /* one number: the loss is the mean squared error */
}

static void test_several(void **state) {
    (void)state;
    static fx_log log;
    fx_ok(run("cls", 2, NULL, &log, NULL));
    assert_true(fx_metric(&log, "eval_f1_micro") > 0.9 && fx_metric(&log, "eval_accuracy") > 0.75);
}

static void test_tags(void **state) {
    (void)state;
    static fx_log log;
    fm_train_result r;
    fx_ok(run("tag", 3, (const char *const[]){"metric_for_best_model", "eval_f1", NULL}, &log, &r));
    assert_true(fx_metric(&log, "eval_f1") > 0.95 && fx_metric(&log, "eval_accuracy") > 0.97);
    assert_true(r.best_metric > 0.95);
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .threads = 1};
    fx_ok(fm_model_open(&m, fx_out, &o));
    fm_head_info h;
    fx_ok(fm_model_head_info(&h, m, 0));
    assert_true(h.per_token);
    assert_int_equal(h.n_outputs, 3);
    assert_string_equal(fm_model_label(m, 0, 1), "I-WHO");
    fm_model_close(m);
    fx_clean();
    fx_ok(run("tag", 4, (const char *const[]){"max_steps", "60", NULL}, &log, NULL)); /* offsets count characters */
    assert_true(fx_metric(&log, "eval_f1") > 0.9);
}

/* The loss of an evaluation does not depend on how many windows a pass has, nor on the packing. */
static void test_batches(void **state) {
    (void)state;
    fm_train_result a, b;
    fx_ok(run("cls", 0, (const char *const[]){"max_steps", "3", "per_device_eval_batch_size", "1", NULL}, NULL, &a));
    fx_clean();
    fx_ok(run("cls", 0, (const char *const[]){"max_steps", "3", "per_device_eval_batch_size", "4", NULL}, NULL, &b));
    assert_true(a.eval_loss == b.eval_loss);
}

/* A step in two micro-batches changes the weights as one in one does: labels are counted over the step. */
static void test_accumulation(void **state) {
    (void)state;
    fx_log a, b;
    const char *const one[] = {"max_steps", "6", "logging_steps", "1", "per_device_train_batch_size", "4", NULL};
    const char *const two[] = {
        "max_steps", "6", "logging_steps", "1", "per_device_train_batch_size", "2", "gradient_accumulation_steps",
        "2",         NULL};
    fx_ok(run("cls", 0, one, &a, NULL));
    fx_clean();
    fx_ok(run("cls", 0, two, &b, NULL));
    for (int i = 1; i <= 6; i++) {
        assert_true(fabs(a.loss[i] - b.loss[i]) < 1e-4 * fabs(a.loss[i]));
    }
}

static void test_refusals(void **state) {
    (void)state;
    char text[300];
    snprintf(text, sizeof text, "%s/packed", fx_top);
    assert_int_equal(fx_run((const char *const[]){"stage", "cls", NULL}, NULL, NULL), FM_ERR_CONFIG); /* packed text */
    assert_int_equal(run("cls", 1, NULL, NULL, NULL), FM_OK); /* scores are labels too: 0, 1, 2 ... */
    fx_clean();
    assert_int_equal(run("reg", 0, NULL, NULL, NULL), FM_ERR_DATA); /* names are no numbers */
    assert_int_equal(run("cls", 0, (const char *const[]){"metric_for_best_model", "eval_mse", NULL}, NULL, NULL),
                     FM_ERR_CONFIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_labels, fx_fresh),   cmocka_unit_test_setup(test_numbers, fx_fresh),
        cmocka_unit_test_setup(test_several, fx_fresh),  cmocka_unit_test_setup(test_tags, fx_fresh),
        cmocka_unit_test_setup(test_batches, fx_fresh),  cmocka_unit_test_setup(test_accumulation, fx_fresh),
        cmocka_unit_test_setup(test_refusals, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
