/* Curriculum: which windows are drawn when, from what difficulty, and that a resumed run draws the same. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data/curriculum.h"
#include "train_fixture.h"

static void test_switched(void **state) {
    (void)state;
    fm_curriculum c = {.n_levels = 3, .level_begin = {0, 10, 25, 40}, .from = {0, 80, 240}};
    int seen[40] = {0};
    for (int64_t k = 0; k < 80; k++) {
        int64_t w = fm_curriculum_window(&c, k, 7, true);
        assert_in_range(w, 0, 9);
        seen[w]++;
        if (k % 10 == 9) { /* passes are whole */
            for (int i = 0; i < 10; i++) {
                assert_int_equal(seen[i], k / 10 + 1);
            }
        }
    }
    memset(seen, 0, sizeof seen);
    for (int64_t k = 80; k < 105; k++) {
        seen[fm_curriculum_window(&c, k, 7, true)]++;
    }
    for (int i = 0; i < 40; i++) {
        assert_int_equal(seen[i], i < 25);
    }
    memset(seen, 0, sizeof seen);
    for (int64_t k = 240; k < 280; k++) {
        seen[fm_curriculum_window(&c, k, 7, true)]++;
        assert_int_equal(fm_curriculum_window(&c, k, 7, false), k - 240);
    }
    for (int i = 0; i < 40; i++) {
        assert_int_equal(seen[i], 1);
    }
    int same = 0; /* each pass in an order of its own */
    for (int64_t k = 0; k < 10; k++) {
        same += fm_curriculum_window(&c, k, 7, true) == fm_curriculum_window(&c, k + 10, 7, true);
    }
    assert_true(same < 8);
}

static void test_weights(void **state) {
    (void)state;
    fm_curriculum c = {.n_levels = 3, .level_begin = {0, 10, 20, 30}, .by_weights = true, .total = 30000};
    double share[2][3] = {{0}};
    for (int half = 0; half < 2; half++) {
        for (int64_t k = 0; k < 6000; k++) {
            share[half][fm_curriculum_window(&c, half ? 30000 + k : k, 3, true) / 10] += 1 / 6000.0;
        }
    }
    assert_true(fabs(share[1][0] - 1 / 6.0) < 0.02 && fabs(share[1][1] - 2 / 6.0) < 0.02 &&
                fabs(share[1][2] - 3 / 6.0) < 0.02);
    /* The first fifth: on average a tenth of the way. */
    assert_true(fabs(share[0][0] - (0.9 * 3 + 0.1) / 6) < 0.02 && fabs(share[0][2] - (0.9 + 0.3) / 6) < 0.02);
}

static void test_levels(void **state) {
    (void)state;
    static const float d[] = {5, 1, 3, 3, 2, 9, 3};
    static const uint8_t want[] = {2, 0, 0, 1, 0, 2, 1};
    uint8_t level[7];
    fx_ok(fm_levels_of(level, d, 7, 3));
    assert_memory_equal(level, want, sizeof want);
}

/* Easy rows all have the label fox, hard ones another; the column says so. */
static void write_rows(const char *name, int n, bool good) {
    char path[300], text[256];
    snprintf(path, sizeof path, "%s/%s", fx_top, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < n; i++) {
        fx_text(text, sizeof text, i);
        bool hard = i % 2 == 1;
        fprintf(f, "{\"text\": \"%s\", \"label\": \"%s\", \"hard\": ", text, hard ? "dog" : "fox");
        fprintf(f, good ? "%d.5}\n" : "\"very %d\"}\n", hard);
    }
    fclose(f);
}

static fm_status run(const char *const *more, fx_log *log) {
    char train[300], tok[300];
    snprintf(train, sizeof train, "%s/rows.jsonl", fx_top);
    snprintf(tok, sizeof tok, "%s/tok", fx_top);
    const char *set[60] = {"stage",      "cls", "dataset",         train,   "tokenizer",         tok,
                           "cutoff_len", "64",  "learning_rate",   "1e-2",  "warmup_ratio",      "0",
                           "max_steps",  "16",  "curriculum_unit", "steps", "curriculum_levels", "8",
                           NULL};
    size_t n = 18;
    for (; more && *more; more++) {
        set[n++] = *more;
    }
    set[n] = NULL;
    return fx_run(set, log, NULL);
}

static void hash_of(char out[33]) {
    char path[400];
    snprintf(path, sizeof path, "%s/model.safetensors", fx_out);
    fx_ok(fm_file_hash(out, path));
}

static void forget(int step) {
    char path[400];
    snprintf(path, sizeof path, "%s/checkpoint-%d", fx_out, step);
    fx_ok(fm_remove_tree(path));
    snprintf(path, sizeof path, "%s/model.safetensors", fx_out);
    fx_ok(fm_remove_tree(path));
}

static void test_column(void **state) {
    (void)state;
    static fx_log log;
    char want[33], got[33];
    write_rows("rows.jsonl", 120, true);
    const char *const set[] = {"curriculum",       "column", "curriculum_column",      "hard", "save_steps", "5",
                               "save_total_limit", "0",      "resume_from_checkpoint", "auto", NULL};
    fx_ok(run(set, &log));
    assert_true(log.loss[8] < 0.1);              /* only foxes so far */
    assert_true(log.loss[9] > 10 * log.loss[8]); /* and here come the dogs */
    hash_of(want);
    forget(16);
    forget(15);
    fx_ok(run(set, &log)); /* from step 10, after the levels were switched */
    hash_of(got);
    assert_string_equal(got, want);
    for (int step = 10; step <= 16; step += step == 15 ? 1 : 5) {
        forget(step);
    }
    fx_ok(run(set, &log)); /* from step 5, before it */
    hash_of(got);
    assert_string_equal(got, want);
    forget(16);
    /* Another order in the middle of a run is refused. */
    forget(16);
    const char *const other[] = {"curriculum", "length", "resume_from_checkpoint", "true", NULL};
    assert_int_equal(run(other, NULL), FM_ERR_CONFIG);
    assert_non_null(strstr(fm_error_get().message, "another curriculum"));
}

/* A model that has learned some of the rows finds them easier. */
static void test_loss(void **state) {
    (void)state;
    char base[300], path[400], tok[300];
    write_rows("rows.jsonl", 60, true);
    snprintf(base, sizeof base, "%s/judge", fx_top);
    snprintf(tok, sizeof tok, "%s/tok", fx_top);
    fx_ok(fx_run((const char *const[]){"tokenizer", tok, "max_steps", "60", NULL}, NULL, NULL));
    fx_ok(fm_remove_tree(base));
    fx_ok(fm_rename_dir(fx_out, base));
    snprintf(path, sizeof path, "%s/rows.jsonl", fx_top);
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    for (int i = 0; i < 60; i++) { /* words that the model has never seen in this order */
        fprintf(f, "{\"text\": \"dog the owl meets sees fox the and likes.\", \"label\": \"dog\", \"hard\": 1}\n");
    }
    fclose(f);
    const char *const set[] = {"curriculum", "loss", "curriculum_model", base, "curriculum_mode", "weights", NULL};
    fx_ok(run(set, NULL));
    float loss[120];
    char *data;
    size_t n;
    snprintf(path, sizeof path, "%s/cache/difficulty.f32", fx_out);
    fx_ok(fm_file_read(&data, &n, path, sizeof loss));
    assert_int_equal(n, sizeof loss);
    memcpy(loss, data, n);
    fm_free(data);
    for (int i = 0; i < 60; i++) {
        assert_true(loss[i] < loss[60 + i] - 0.5F);
    }
}

static void test_plain_text(void **state) {
    (void)state;
    static fx_log log;
    const char *const set[] = {"curriculum", "length", "curriculum_levels", "2,4", "curriculum_unit", "steps", NULL};
    fx_ok(fx_run(set, &log, NULL));
    assert_true(log.loss[12] < log.loss[1]);
}

static void expect(const char *part, fm_status s) {
    if (s != FM_ERR_CONFIG || !strstr(fm_error_get().message, part)) {
        fail_msg("%s: %s", fm_status_name(s), fm_error_get().message);
    }
    fx_clean();
}

static void test_refusals(void **state) {
    (void)state;
    write_rows("rows.jsonl", 40, true);
    expect("needs curriculum_column", run((const char *const[]){"curriculum", "column", NULL}, NULL));
    expect("needs curriculum_model", run((const char *const[]){"curriculum", "loss", NULL}, NULL));
    expect("curriculum_levels is set", run(NULL, NULL));
    expect("rising", run((const char *const[]){"curriculum", "length", "curriculum_levels", "15,5", NULL}, NULL));
    expect("is not set", run((const char *const[]){"curriculum", "length", "curriculum_levels", "", NULL}, NULL));
    expect("no columns", fx_run((const char *const[]){"curriculum", "column", "curriculum_column", "hard",
                                                      "curriculum_levels", "2", NULL},
                                NULL, NULL));
    write_rows("rows.jsonl", 40, false);
    assert_int_equal(run((const char *const[]){"curriculum", "column", "curriculum_column", "hard", NULL}, NULL),
                     FM_ERR_DATA); /* all rows are set aside */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_switched),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_levels),
        cmocka_unit_test_setup(test_column, fx_fresh),
        cmocka_unit_test_setup(test_loss, fx_fresh),
        cmocka_unit_test_setup(test_plain_text, fx_fresh),
        cmocka_unit_test_setup(test_refusals, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
