/* What evaluations end with, from rows made by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/finding.h"
#include "eval/task.h"
#include "../failures.h"

#define N 100

static fm_eval_row row[N];
static double stats[2 * N];
static fm_sv output[N];
static int64_t said[N];
static bool cut[N];
static fm_eval_config cfg;
static fm_eval e;
static fm_eval_scores s;
static fm_interval v;

static const fm_eval_task *task_of(const char *name) {
    const fm_eval_task *t = NULL;
    for (size_t i = 0; (t = fm_eval_task_at(i)) != NULL; i++) {
        if (strcmp(t->name, name) == 0) {
            return t;
        }
    }
    return NULL;
}

/* A figure that needs no finding of its own. */
static void begin(const char *task, const char *measure) {
    cfg = (fm_eval_config){.num_fewshot = -1, .batch_tokens = 1024};
    e = (fm_eval){.cfg = &cfg, .task = task_of(task), .row = row, .n_rows = N, .n_measures = 1, .n_stats = 2};
    snprintf(e.measure[0].name, sizeof e.measure[0].name, "%s", measure);
    s = (fm_eval_scores){.stats = stats, .output = output, .said = said, .cut = cut, .max_new_tokens = 64};
    v = (fm_interval){.value = 0.8, .low = 0.77, .high = 0.83, .difference = NAN, .diff_low = NAN, .diff_high = NAN};
    for (int i = 0; i < N; i++) {
        static char text[N][32];
        snprintf(text[i], sizeof text[i], "answer number %d", i);
        row[i] = (fm_eval_row){.subject = "", .n_choices = 4, .gold = i % 4, .target = fm_sv_of("answer number 1")};
        output[i] = fm_sv_of(text[i]);
        said[i] = i % 4;
        cut[i] = false;
    }
}

static fm_json *found(const fm_eval_scores *other, const char *parts) {
    fm_json *report;
    assert_int_equal(fm_json_parse(&report, parts, strlen(parts), "report"), FM_OK);
    assert_int_equal(fm_eval_findings(report, &e, 0, &v, &s, other), FM_OK);
    return report;
}

/* The only finding is of this kind, with this in its text, or there is none (kind NULL). */
static void expect(const fm_eval_scores *other, const char *parts, const char *kind, const char *text) {
    fm_json *report = found(other, parts);
    fm_str all = {0};
    fm_finding_text(&all, fm_json_get(report, "findings"), "");
    if (fm_json_size(fm_json_get(report, "findings")) != (kind ? 1u : 0u)) {
        fail_msg("expected %s, found:\n%s", kind ? kind : "nothing", all.data);
    }
    if (kind) {
        assert_string_equal(fm_json_str(fm_json_get(fm_json_at(fm_json_get(report, "findings"), 0), "kind"), NULL),
                            kind);
        if (!strstr(all.data, text)) {
            fail_msg("no \"%s\" in:\n%s", text, all.data);
        }
    }
    fm_str_free(&all);
    fm_json_free(report);
}

static void test_intervals(void **state) {
    (void)state;
    begin("qa", "em");
    expect(NULL, "{}", NULL, NULL);
    v.low = 0.71, v.high = 0.89; /* 0.09 on each side: 1.8^2 times the rows */
    expect(NULL, "{}", "wide interval", "data rows: 100 -> 330");
    cfg.max_samples = 100;
    expect(NULL, "{}", "wide interval", "eval max_samples: 100 -> 330");
}

static void test_parts(void **state) {
    (void)state;
    begin("qa", "em");
    expect(
        NULL,
        "{\"slices\":[{\"by\":\"topic\",\"value\":\"dose\",\"n\":20,\"metrics\":{\"em\":{\"value\":0.4,\"low\":0.3,"
        "\"high\":0.5}}},{\"by\":\"topic\",\"value\":\"few\",\"n\":3,\"metrics\":{\"em\":{\"value\":0,\"low\":0,"
        "\"high\":0}}},{\"by\":\"topic\",\"value\":\"noise\",\"n\":20,\"metrics\":{\"em\":{\"value\":0.39,\"low\":0.1,"
        "\"high\":0.9}}}]}",
        "weak part", "topic dose: em 0.4 [0.3, 0.5] over 20 rows, 0.8 over all");
}

static void test_choices(void **state) {
    (void)state;
    begin("mc", "acc");
    expect(NULL, "{}", NULL, NULL);
    v = (fm_interval){.value = 0.27, .low = 0.24, .high = 0.3, .diff_low = NAN};
    expect(NULL, "{}", "no better than guessing", "guessing gives 0.25");
    begin("mc", "acc");
    for (int i = 0; i < 80; i++) {
        said[i] = 1;
    }
    expect(NULL, "{}", "always the same choice", "choice B in 85% of the rows; it is right in 25%");
}

static void test_answers(void **state) {
    (void)state;
    begin("qa", "em");
    output[3] = fm_sv_of(" \n");
    expect(NULL, "{}", "empty answers", "1 of 100 answers are empty");
    s.has_template = true;
    expect(NULL, "{}", "empty answers", "eval apply_chat_template: false -> true");
    begin("qa", "em");
    for (int i = 0; i < 10; i++) {
        output[i] = fm_sv_of("It is so: take it, take it, take it, take it, take it, ");
        cut[i] = true;
    }
    expect(NULL, "{}", "repetition", "10 of 100 answers end in one piece");
    begin("qa", "em");
    for (int i = 0; i < 10; i++) {
        cut[i] = true;
    }
    expect(NULL, "{}", "answers cut", "eval max_new_tokens: 64 -> 128");
    for (int i = 0; i < N; i++) {
        cut[i] = true;
        output[i] = fm_sv_of("words that go on and on without any two of them being said in one and the same order");
    }
    expect(NULL, "{}", "answers do not end", "eval filter: strip -> first_line");
}

static void test_form(void **state) {
    (void)state;
    begin("gsm8k", "exact_match_strict");
    cfg.num_fewshot = 0;
    for (int i = 0; i < N; i++) {
        output[i] = fm_sv_of(i < 20 ? "so it is 42" : "so it is\n#### 42");
    }
    expect(NULL, "{}", "form of answers", "20 of 100 answers have no \"#### NUMBER\"");
    expect(NULL, "{}", "form of answers", "20 of them have a number");
    expect(NULL, "{}", "form of answers", "eval num_fewshot: 0 -> 5");
}

static void test_speed_and_length(void **state) {
    (void)state;
    begin("qa", "em");
    s.generated = 100 * N, s.first_token_ms = 1000, s.per_token_ms = 90;
    expect(NULL, "{}", "slow answers", "an answer takes 10.0 s on average");
    expect(NULL, "{}", "slow answers", "convert dtype: auto -> int8");
    begin("qa", "em");
    s.n_truncated = 7;
    cfg.num_fewshot = 5;
    expect(NULL, "{}", "prompts cut", "eval num_fewshot: 5 -> 2");
}

static void test_second_model(void **state) {
    (void)state;
    begin("qa", "em");
    v.difference = 0.02, v.diff_low = -0.02, v.diff_high = 0.06, v.p = 0.4;
    expect(&s, "{}", "difference within noise", "data rows: 100 -> 480");
    v.difference = -0.05, v.diff_low = -0.08, v.diff_high = -0.02, v.p = 0.01;
    expect(&s, "{}", "worse than the second model", "em differs by -0.05");
    v.difference = 0.05, v.diff_low = 0.02, v.diff_high = 0.08;
    expect(&s, "{}", NULL, NULL);
    e.measure[0].lower_is_better = true; /* then more is worse */
    v.low = 0.79, v.high = 0.81;
    expect(&s, "{}", "worse than the second model", "em differs by 0.05");
}

static fm_status all_of_them(int variant, uint64_t *sum) {
    fm_json *report = fm_json_new_object();
    fm_str text = {0};
    (void)variant;
    if (!report) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory");
    }
    fm_status st = fm_eval_findings(report, &e, 0, &v, &s, &s);
    fm_finding_text(&text, fm_json_get(report, "findings"), "");
    st = st == FM_OK ? fm_str_check(&text) : st;
    *sum = text.len;
    fm_str_free(&text);
    fm_json_free(report);
    return st;
}

static void test_failures(void **state) {
    (void)state;
    begin("qa", "em");
    v.low = 0.7, v.high = 0.9, v.difference = 0.02, v.diff_low = -0.02, v.diff_high = 0.06;
    output[0] = fm_sv_of("");
    s.n_truncated = 1;
    failures_check(&(failures_work){.name = "findings", .run = all_of_them, .n_variants = 1});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intervals),    cmocka_unit_test(test_parts),    cmocka_unit_test(test_choices),
        cmocka_unit_test(test_answers),      cmocka_unit_test(test_form),     cmocka_unit_test(test_speed_and_length),
        cmocka_unit_test(test_second_model), cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
