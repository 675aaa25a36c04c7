/* The JSON log and TensorBoard sinks: lines parse, fields are right, resume drops the lost past. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "io/tfevents.h"
#include "track/sinks.h"

static char dir[200];

static void write_events(const fm_train_sink *s, int64_t first_step, int64_t from, int64_t to, const char *report_to) {
    fm_train_info info = {.size = sizeof info,
                          .output_dir = dir,
                          .run_name = "a \"run\"",
                          .report_to = report_to,
                          .first_step = first_step,
                          .n_steps = 20};
    void *state;
    assert_int_equal(s->begin(&state, s->user, &info), FM_OK);
    for (int64_t i = from; i <= to; i++) {
        fm_train_event e = {.size = sizeof e,
                            .step = i,
                            .n_steps = 20,
                            .loss = 1.0 / (double)i,
                            .learning_rate = 1e-3,
                            .grad_norm = 2,
                            .mfu = NAN,
                            .eval_loss = i == 4 ? 3.5 : NAN,
                            .eval_perplexity = NAN,
                            .eval_bits_per_byte = NAN,
                            .n_tokens = 100 * i,
                            .skipped = i == 3};
        assert_int_equal(s->event(state, &e), FM_OK);
    }
    s->end(state, NULL);
}

static int fresh(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/fm_sinks_%d", (int)getpid());
    return fm_remove_tree(dir) == FM_OK && fm_mkdirs(dir) == FM_OK ? 0 : -1;
}
static int clean(void **state) {
    (void)state;
    return fm_remove_tree(dir) == FM_OK ? 0 : -1;
}

/* Steps of the log's lines, each parsed. */
static int read_log(int64_t *steps, int cap) {
    char path[300], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/trainer_log.jsonl", dir);
    assert_int_equal(fm_file_read(&text, &n, path, 0), FM_OK);
    int k = 0;
    for (char *p = text; *p;) {
        char *end = strchr(p, '\n');
        assert_non_null(end);
        fm_json *j;
        assert_int_equal(fm_json_parse(&j, p, (size_t)(end - p), "line"), FM_OK);
        assert_true(k < cap);
        int64_t step = steps[k++] = fm_json_int(fm_json_get(j, "step"), -1);
        assert_string_equal(fm_json_str(fm_json_get(j, "run"), NULL), "a \"run\"");
        assert_float_equal(fm_json_num(fm_json_get(j, "loss"), 0), (1.0 / (double)step), 1e-6);
        assert_null(fm_json_get(j, "mfu"));
        assert_int_equal(fm_json_get(j, "eval_loss") != NULL, step == 4);
        assert_int_equal(fm_json_get(j, "skipped") != NULL, step == 3);
        const char *when = fm_json_str(fm_json_get(j, "@timestamp"), NULL);
        assert_non_null(when);
        assert_int_equal(strlen(when), strlen("2026-01-02T03:04:05.678Z"));
        fm_json_free(j);
        p = end + 1;
    }
    fm_free(text);
    return k;
}

static void test_jsonl(void **state) {
    (void)state;
    int64_t steps[32];
    write_events(&fm_sink_jsonl, 0, 1, 9, "none");
    assert_int_equal(read_log(steps, 32), 9);
    char path[300];
    snprintf(path, sizeof path, "%s/trainer_log.jsonl", dir);
    FILE *f = fopen(path, "a"); /* a torn line, as a kill leaves it */
    assert_non_null(f);
    fputs("{\"step\": 10, \"lo", f);
    fclose(f);
    write_events(&fm_sink_jsonl, 6, 7, 12, "none");
    assert_int_equal(read_log(steps, 32), 12);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(steps[i], i + 1);
    }
    write_events(&fm_sink_jsonl, 0, 1, 2, "none"); /* a new run in the same folder */
    assert_int_equal(read_log(steps, 32), 2);
}

typedef struct seen {
    int n_loss, n_eval;
    int64_t last;
} seen;
static fm_status see(void *user, const char *tag, size_t n, double value, int64_t step, double wall_s) {
    seen *s = user;
    (void)wall_s;
    if (n == strlen("train/loss") && memcmp(tag, "train/loss", n) == 0) {
        assert_float_equal(value, (1.0 / (double)step), 1e-6);
        assert_int_equal(step, s->last + 1);
        s->last = step;
        s->n_loss++;
    }
    s->n_eval += n == strlen("eval/loss") && memcmp(tag, "eval/loss", n) == 0;
    return FM_OK;
}

static void test_tensorboard(void **state) {
    (void)state;
    char runs[300], path[600];
    snprintf(runs, sizeof runs, "%s/runs", dir);
    write_events(&fm_sink_tensorboard, 0, 1, 3, "none");
    assert_false(fm_path_exists(runs));
    write_events(&fm_sink_tensorboard, 0, 1, 9, "tensorboard");
    write_events(&fm_sink_tensorboard, 6, 7, 12, "tensorboard");
    char **names;
    size_t n;
    assert_int_equal(fm_dir_list(&names, &n, runs), FM_OK);
    assert_int_equal(n, 1);
    snprintf(path, sizeof path, "%s/%s", runs, names[0]);
    fm_names_free(names, n);
    seen s = {0};
    assert_int_equal(fm_tfevents_read(path, see, &s), FM_OK);
    assert_int_equal(s.n_loss, 12);
    assert_int_equal(s.n_eval, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_jsonl, fresh, clean),
                                       cmocka_unit_test_setup_teardown(test_tensorboard, fresh, clean)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
