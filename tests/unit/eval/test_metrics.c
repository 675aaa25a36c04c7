/* Metrics against figures of other programs (tests/interop/make_metrics_golden.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "fathom/eval.h"

typedef struct check {
    const fm_score *s;
    const char *metric;
    int line, n;
} check;

static fm_status check_figure(void *arg, const char *key, fm_json *value) {
    check *c = arg;
    double want = fm_json_num(value, NAN);
    double got = strcmp(key, c->metric) == 0 ? c->s->value : fm_score_get(c->s, key);
    if (!(fabs(got - want) <= 1e-9 * fmax(1, fabs(want)))) {
        fail_msg("line %d: %s %s: expected %.12g, found %.12g (%s)", c->line, c->metric, key, want, got,
                 c->s->signature);
    }
    c->n++;
    return FM_OK;
}

static void texts(fm_text *out, const fm_json *array) {
    for (size_t i = 0; i < fm_json_size(array); i++) {
        out[i].ptr = fm_json_str(fm_json_at(array, i), &out[i].len);
        assert_non_null(out[i].ptr);
    }
}

static fm_score_options options_of(const fm_json *j) {
    static const char *const smooths[] = {"exp", "floor", "add-k", "none"};
    fm_score_options o = {.size = sizeof o, .lowercase = fm_json_bool(fm_json_get(j, "lowercase"), false)};
    const char *smooth = fm_json_str(fm_json_get(j, "smooth"), NULL);
    assert_true(fm_cut_parse(&o.cut, fm_json_str(fm_json_get(j, "tokenize"), NULL)));
    for (int i = 0; smooth && i < 4; i++) {
        o.smooth = strcmp(smooth, smooths[i]) == 0 ? (fm_bleu_smooth)i : o.smooth;
    }
    return o;
}

static int run_case(fm_json *j, int line) {
    fm_text hyp[64], ref[256];
    const char *metric = fm_json_str(fm_json_get(j, "metric"), NULL);
    const fm_json *refs = fm_json_get(j, "refs");
    if (!metric) {
        return 0; /* the line of versions */
    }
    fm_score_rows rows = {
        .n = fm_json_size(fm_json_get(j, "hyp")), .n_refs = fm_json_size(refs), .hyp = hyp, .ref = ref};
    assert_true(rows.n <= 64 && rows.n * rows.n_refs <= 256);
    texts(hyp, fm_json_get(j, "hyp"));
    for (size_t r = 0; r < rows.n_refs; r++) {
        texts(ref + r * rows.n, fm_json_at(refs, r));
    }
    fm_score_options o = options_of(j);
    fm_score s;
    assert_int_equal(fm_score_run(&s, metric, &rows, &o), FM_OK);
    check c = {.s = &s, .metric = metric, .line = line};
    assert_int_equal(fm_json_each(fm_json_get(j, "want"), check_figure, &c), FM_OK);
    fm_score_deinit(&s);
    return c.n;
}

static void test_golden(void **state) {
    (void)state;
    char *text;
    size_t n;
    assert_int_equal(fm_file_read(&text, &n, FM_SOURCE_DIR "/tests/unit/eval/data/metrics.jsonl", 1 << 20), FM_OK);
    int line = 0, figures = 0;
    for (char *p = text, *nl; (nl = strchr(p, '\n')) != NULL; p = nl + 1) {
        fm_json *j;
        assert_int_equal(fm_json_parse(&j, p, (size_t)(nl - p), "metrics.jsonl"), FM_OK);
        figures += run_case(j, ++line);
        fm_json_free(j);
    }
    assert_true(figures > 600);
    fm_free(text);
}

static fm_text t(const char *s) {
    return (fm_text){s, strlen(s)};
}

static double value_of(const char *metric, const char *hyp, const char *ref, const fm_score_options *o) {
    fm_text h = t(hyp), r = t(ref);
    fm_score_rows rows = {.n = 1, .n_refs = 1, .hyp = &h, .ref = &r};
    fm_score s;
    assert_int_equal(fm_score_run(&s, metric, &rows, o), FM_OK);
    double v = s.value;
    fm_score_deinit(&s);
    return v;
}

/* The examples of the SQuAD script's rules, and Chinese by character. */
static void test_answers(void **state) {
    (void)state;
    fm_score_options plain = {.size = sizeof plain}, squad = {.size = sizeof squad, .normalize = true};
    fm_score_options zh = {.size = sizeof zh, .cut = FM_CUT_CHAR, .normalize = true};
    assert_true(value_of("em", " the  cat ", "the cat", &plain) == 1);
    assert_true(value_of("em", "The cat", "the cat", &plain) == 0);
    assert_true(value_of("em", "The cat!", "a cat", &squad) == 1);
    assert_true(value_of("em", "cats", "a cat", &squad) == 0);
    assert_true(fabs(value_of("f1", "the big cat", "cat sat", &squad) - 0.5) < 1e-12);
    assert_true(value_of("f1", "", "", &plain) == 1 && value_of("f1", "x", "", &plain) == 0);
    assert_true(fabs(value_of("f1", "北京。", "北京市", &zh) - 2 * 2.0 / 5) < 1e-12);
    assert_true(fabs(value_of("rouge", "他喜欢猫", "他喜欢狗", &zh) - 0.75) < 1e-12);
}

static void test_errors(void **state) {
    (void)state;
    fm_text a = t("x"), two[2] = {t("x"), t("y")};
    fm_score s;
    fm_score_rows one = {.n = 1, .n_refs = 1, .hyp = &a, .ref = &a}, none = {.n = 0, .n_refs = 1};
    assert_int_equal(fm_score_run(&s, "blue", &one, NULL), FM_ERR_ARGUMENT);
    assert_non_null(strstr(fm_error_get().hint, "bleu"));
    assert_int_equal(fm_score_run(&s, "bleu", &none, NULL), FM_ERR_ARGUMENT);
    fm_score_rows refs2 = {.n = 1, .n_refs = 2, .hyp = &a, .ref = two};
    assert_int_equal(fm_score_run(&s, "accuracy", &refs2, NULL), FM_ERR_ARGUMENT);
    fm_text bad[2] = {t("1"), t("B-X O")}, ref[2] = {t("one"), t("O")};
    fm_score_rows number = {.n = 1, .n_refs = 1, .hyp = &bad[0], .ref = &ref[0]};
    fm_score_rows tags = {.n = 1, .n_refs = 1, .hyp = &bad[1], .ref = &ref[1]};
    assert_int_equal(fm_score_run(&s, "regression", &number, NULL), FM_ERR_DATA);
    assert_int_equal(fm_score_run(&s, "entity", &tags, NULL), FM_ERR_DATA);
    assert_non_null(strstr(fm_error_get().message, "2 tags"));
    fm_text empty = t("");
    fm_score_rows nothing = {.n = 1, .n_refs = 1, .hyp = &empty, .ref = &empty};
    assert_int_equal(fm_score_run(&s, "entity", &nothing, NULL), FM_OK);
    assert_true(s.value == 0 && s.n_labels == 0);
    fm_score_deinit(&s);
    assert_int_equal(fm_score_run(&s, "multilabel", &nothing, NULL), FM_OK);
    fm_score_deinit(&s);
    /* Bytes that are not UTF-8 are compared as they are, without harm. */
    assert_true(value_of("bleu", "\xff\xfe a b c d", "\xff\xfe a b c d", NULL) > 99.99);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
