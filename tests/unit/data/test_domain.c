/* Likeness to a domain: the measures by hand, and the step on a novel among other text. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "data/domain_judge.h"
#include "data/linear.h"
#include "data/records.h"
#include "run_step.h"

static void measures(void **state) {
    (void)state;
    static fm_domain_profile a, b;
    static const uint16_t one[] = {1, 1, 2}, two[] = {3, 4, 3}, three[] = {1, 3, 3};
    static float ratio[FM_DOMAIN_BUCKETS];
    fm_domain_count(&a, one, 3, 2, 0, 0);
    fm_domain_distance d = fm_domain_compare(&a, &a);
    assert_true(d.vocabulary == 0 && d.lengths == 0 && d.languages == 0 && d.topics == 0);
    fm_domain_count(&b, two, 3, 64, 1, 3);
    d = fm_domain_compare(&a, &b);
    assert_true(fabs(d.vocabulary - 1) < 1e-12 && d.lengths == 1 && d.languages == 1 && d.topics == 1);
    fm_domain_count(&b, three, 3, 2, 0, 0);
    d = fm_domain_compare(&a, &b);
    /* a: 2/3, 1/3, 0, 0; b: 1/6, 0, 4/6, 1/6. */
    double m1 = (2 / 3.0 + 1 / 6.0) / 2;
    double want = (2 / 3.0 * log2(2 / 3.0 / m1) + 1 / 3.0 + 1 / 6.0 * log2(1 / 6.0 / m1) + 5 / 6.0) / 2;
    assert_true(fabs(d.vocabulary - want) < 1e-12);
    assert_true(fabs(d.lengths - 0.5) < 1e-12);
    fm_domain_ratios(ratio, &a, &b);
    assert_true(fabs((double)ratio[1] - log(4)) < 1e-4);
    assert_true(fabs((double)ratio[2] - log((1 / 3.0) / 1e-8)) < 1e-4);
    assert_true(fabs((double)ratio[4] - log(1e-8 / (1 / 6.0))) < 1e-4);
    assert_true(ratio[9] == 0);
}

static void topics(void **state) {
    (void)state;
    static const char *const text[] = {
        "the cat and the kitten chase a mouse with soft paws",
        "a kitten is a young cat with paws that chase a mouse",
        "the bank raised interest on loans and credit",
        "credit and loans of the bank bear interest",
    };
    fm_domain_text t = {0};
    fm_domain_topics k;
    float *v = fm_calloc(FM_ARRAY_LEN(text), sizeof t.vector);
    assert_non_null(v);
    for (size_t i = 0; i < FM_ARRAY_LEN(text); i++) {
        assert_int_equal(fm_domain_split(&t, fm_sv_of(text[i]), 0), FM_OK);
        assert_int_equal(t.n, 2 * t.n_words - 1);
        memcpy(v + i * FM_DOMAIN_DIMS, t.vector, sizeof t.vector);
    }
    fm_domain_topics_fit(&k, v, FM_ARRAY_LEN(text));
    assert_int_equal(k.n, FM_ARRAY_LEN(text));
    assert_int_equal(fm_domain_split(&t, fm_sv_of("chase the kitten, the cat, the mouse"), 0), FM_OK);
    int cats = fm_domain_topic(&k, t.vector);
    assert_int_equal(fm_domain_split(&t, fm_sv_of("interest on credit, loans of a bank"), 0), FM_OK);
    int banks = fm_domain_topic(&k, t.vector);
    assert_int_not_equal(cats, banks);
    assert_int_equal(fm_domain_split(&t, fm_sv_of(""), 0), FM_OK);
    assert_int_equal(t.n, 0);
    fm_domain_text_free(&t);
    fm_free(v);
}

static double number_behind(const char *p, const char *name) {
    p = strstr(p, name);
    assert_non_null(p);
    return strtod(p + strlen(name), NULL);
}

/* A hundred paragraphs of a novel as target; two hundred others of it among 600 rows of other kinds. */
static void novel(void **state) {
    (void)state;
    char path[4096], target[64] = "/tmp/fathom_target_XXXXXX", *text;
    size_t n;
    snprintf(path, sizeof path, "%s/tests/unit/data/ngram/train.txt", FM_SOURCE_DIR);
    assert_int_equal(fm_file_read(&text, &n, path, 0), FM_OK);
    int fd = mkstemp(target);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    assert_non_null(f);
    fm_str rows = {0};
    char *save = NULL, *line = strtok_r(text, "\n", &save);
    for (int i = 0; line; i++, line = strtok_r(NULL, "\n", &save)) {
        fm_str json = {0};
        fm_str_json(&json, line, strlen(line));
        assert_int_equal(fm_str_check(&json), FM_OK);
        if (i % 3 == 0) {
            fprintf(f, "{\"body\":%s}\n", json.data);
        } else {
            fm_str_printf(&rows, "{\"text\":%s,\"kind\":\"novel\"}\n", json.data);
            fm_str_printf(&rows, "{\"text\":\"Order number %d of %d articles was shipped on day %d.\"}\n", i, i % 9,
                          i % 31);
            fm_str_printf(&rows, "{\"text\":\"人人生而自由，在尊严和权利上一律平等。第%d条\"}\n", i);
            fm_str_printf(&rows, "{\"text\":\"Patch %d fixes a crash of the parser when the input file is empty\"}\n",
                          i);
        }
        fm_str_free(&json);
    }
    fclose(f);
    fm_str_puts(&rows, "{\"text\":\" -- \"}\n");
    assert_int_equal(fm_str_check(&rows), FM_OK);
    const char *const keep[] = {"target",   target, "target_column", "body",  "rows",    "200", "into", "",
                                "per_word", "true", "noise",         "false", "threads", "3",   NULL};
    const char *const weigh[] = {"target", target, "target_column", "body", NULL};
    const char *const both[] = {"target", target, "rows", "3", "fraction", "0.1", NULL};
    const char *const column[] = {"target", target, NULL}, *const none[] = {NULL};
    char *out, *manifest;
    assert_int_equal(run_step(&out, &manifest, "domain", rows.data, rows.len, keep), FM_OK);
    int novels = 0, all = 0;
    for (char *p = out, *next; *p; p = next, all++) {
        next = strchr(p, '\n') + 1;
        char *hit = strstr(p, "\"kind\":\"novel\"}");
        novels += hit && hit < next;
    }
    assert_int_equal(all, 200);
    assert_true(novels >= 190);
    const char *before = strstr(manifest, "\"distance_before\""), *after = strstr(manifest, "\"distance_after\"");
    assert_true(before && after);
    assert_true(number_behind(before, "\"vocabulary\": ") > 1.3 * number_behind(after, "\"vocabulary\": "));
    assert_true(number_behind(before, "\"lengths\": ") > 2 * number_behind(after, "\"lengths\": "));
    assert_true(number_behind(before, "\"topics\": ") > 1.5 * number_behind(after, "\"topics\": "));
    assert_non_null(strstr(manifest, "\"few_rows\": true"));
    assert_non_null(strstr(manifest, "\"no words\": 1"));
    fm_free(out);
    fm_free(manifest);
    assert_int_equal(run_step(&out, NULL, "domain", rows.data, rows.len, weigh), FM_OK);
    assert_non_null(strstr(out, "\"kind\":\"novel\",\"domain_weight\":"));
    fm_free(out);
    assert_int_equal(run_step(&out, NULL, "domain", rows.data, rows.len, both), FM_ERR_CONFIG);
    assert_int_equal(run_step(&out, NULL, "domain", rows.data, rows.len, none), FM_ERR_CONFIG);
    assert_int_equal(run_step(&out, NULL, "domain", rows.data, rows.len, column), FM_ERR_DATA);
    fm_str_free(&rows);
    fm_free(text);
    unlink(target);
}

/* ---- the classifier ---- */

/* Rows, weights and probabilities as tests/interop/make_linear_golden.py wrote them. */
static void like_scikit(void **state) {
    (void)state;
    char path[4096], *text, *save = NULL;
    size_t n;
    snprintf(path, sizeof path, "%s/tests/unit/data/domain/linear.txt", FM_SOURCE_DIR);
    assert_int_equal(fm_file_read(&text, &n, path, 0), FM_OK);
    fm_linear_rows rows = {0};
    fm_linear *m = fm_calloc(1, sizeof *m);
    fm_linear_options o = {.tolerance = 1e-7, .most_passes = 20000, .leave_out = -1, .seed = 3};
    double worst = 0, margin[256], weight[2] = {1, 1};
    fm_linear_sigmoid sigmoid = {0};
    int fits = 0, probabilities = 0;
    assert_non_null(m);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *p = line + 2;
        if (*line == 'r') { /* r LABEL FOLD feature:value ... */
            uint16_t feature[64];
            float value[64];
            size_t k = 0;
            bool positive = strtol(p, &p, 10) == 1;
            uint8_t fold = (uint8_t)strtol(p, &p, 10);
            for (; *p == ' ' && k < 64; k++) {
                feature[k] = (uint16_t)strtol(p, &p, 10);
                value[k] = strtof(p + 1, &p);
            }
            assert_int_equal(fm_linear_add(&rows, feature, value, k, positive, fold), FM_OK);
        } else if (*line == 'f') { /* f COST BALANCED LEAVE_OUT bias: a fit */
            o.cost = strtod(p, &p);
            o.balanced = strtol(p, &p, 10) == 1;
            o.leave_out = (int)strtol(p, &p, 10);
            assert_int_equal(fm_linear_fit(m, &rows, &o), FM_OK);
            assert_true(m->residual < 1e-7);
            const double off = fabs(m->bias - strtod(p, &p));
            worst = FM_MAX(worst, off);
            fits++;
        } else if (*line == 'w') { /* w feature weight, of the fit above */
            long f = strtol(p, &p, 10);
            const double off = fabs(m->weight[f] - strtod(p, &p));
            worst = FM_MAX(worst, off);
        } else if (*line == 'c') { /* c: its margins become probabilities */
            assert_true(rows.n < FM_ARRAY_LEN(margin));
            for (size_t i = 0; i < rows.n; i++) {
                const size_t a = rows.start[i];
                margin[i] = fm_linear_margin(m, rows.feature + a, rows.value + a, rows.start[i + 1] - a);
            }
            sigmoid = fm_linear_calibrate(margin, rows.positive, rows.n, weight);
        } else if (*line == 'p') { /* p row probability */
            long i = strtol(p, &p, 10);
            double want = strtod(p, &p);
            assert_true(fabs(fm_linear_probability(sigmoid, margin[i]) - want) < 1e-4);
            probabilities++;
        }
    }
    print_message("%zu rows, %d fits: weights within %.2g of scikit-learn's\n", rows.n, fits, worst);
    assert_int_equal(fits, 4);
    assert_true(probabilities > 50);
    assert_true(worst < 2e-5);
    o.leave_out = -1;
    for (size_t i = 0; i < rows.n; i++) {
        rows.positive[i] = true;
    }
    assert_int_equal(fm_linear_fit(m, &rows, &o), FM_ERR_DATA);
    fm_linear_free(&rows);
    fm_free(m);
    fm_free(text);
}

static double ask(fm_domain_judge *j, const char *text) {
    fm_domain_text t = {0};
    assert_int_equal(fm_domain_split(&t, fm_sv_of(text), 0), FM_OK);
    double p = fm_domain_judge_ask(j, &t);
    fm_domain_text_free(&t);
    return p;
}

/* Texts of both sets are as likely of the one as of the other, whatever the numbers: no classifier that saw a text
 * judges it. */
static void fair(void **state) {
    (void)state;
    fm_spool target = {0}, raw = {0};
    fm_domain_text t = {0};
    fm_domain_judge *j = NULL, *again = NULL;
    char text[256];
    assert_int_equal(fm_spool_open(&target, 1, "/tmp"), FM_OK);
    assert_int_equal(fm_spool_open(&raw, 1, "/tmp"), FM_OK);
    for (int i = 0; i < 900; i++) {
        const bool wanted = i % 9 == 0; /* 100 texts of the target, 100 of its kind and 700 others among the rows */
        snprintf(text, sizeof text,
                 wanted || i % 9 == 1 ? "dose %d of the drug for fever %d" : "goal %d of the match %d", i / 9,
                 i / 9 * 7);
        assert_int_equal(fm_domain_split(&t, fm_sv_of(text), 3), FM_OK);
        assert_true(t.n > 3 * t.n_words);
        assert_int_equal(fm_domain_split(&t, fm_sv_of(text), 0), FM_OK);
        assert_int_equal(fm_domain_spool_put(wanted ? &target : &raw, t.bucket, t.n, t.n_words, 0, 0), FM_OK);
    }
    assert_int_equal(fm_domain_judge_fit(&j, &target, 100, &raw, 800, 1, 5), FM_OK);
    assert_int_equal(fm_domain_judge_fit(&again, &target, 100, &raw, 800, 1, 5), FM_OK);
    /* Drug texts are all of the target and an eighth of the rows: 1 / (1 + 1/8). */
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "dose %d of the drug for fever %d", i, i * 7);
        assert_true(fabs(ask(j, text) - 8 / 9.0) < 0.05);
        assert_true(ask(j, text) == ask(again, text));
        snprintf(text, sizeof text, "goal %d of the match %d", i, i * 7);
        assert_true(ask(j, text) < 0.05);
    }
    fm_domain_judge_free(j);
    fm_domain_judge_free(again);
    assert_int_equal(fm_domain_judge_fit(&j, &target, 9, &raw, 800, 1, 5), FM_ERR_DATA);
    fm_domain_text_free(&t);
    fm_spool_close(&target);
    fm_spool_close(&raw);
}

/* Adds answers [from, to) of a file of medical questions; returns how many there are. */
static int medical(fm_str *out, int from, int to, const char *end) {
    char path[4096];
    fm_records *in;
    fm_rec *r;
    fm_bump *arena;
    int n = 0;
    snprintf(path, sizeof path, "%s/recipes/data/medquad.test.jsonl.gz", FM_SOURCE_DIR);
    char *item[] = {path};
    const fm_records_options o = {.input = {item, 1}};
    assert_int_equal(fm_records_open(&in, &o), FM_OK);
    while (fm_records_next(in, &r, &arena) == FM_OK && r) {
        const fm_cell *c = fm_rec_get(r, "answer");
        if (c && n >= from && n < to) {
            fm_str_puts(out, "{\"text\":");
            fm_str_json(out, c->text.ptr, c->text.len);
            fm_str_puts(out, end);
        }
        n++;
    }
    fm_records_close(in);
    return n;
}

static int count(const char *text, const char *what) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++) {
        n++;
    }
    return n;
}

/* Medical answers among paragraphs of a novel, by other medical answers. */
static void medicine(void **state) {
    (void)state;
    char path[4096], target[64] = "/tmp/fathom_target_XXXXXX", *text, *save = NULL, *out, *manifest, *other;
    size_t n;
    fm_str rows = {0}, wanted = {0};
    int fd = mkstemp(target), n_novel = 0;
    assert_true(fd >= 0);
    assert_int_equal(medical(&wanted, 0, 30, "}\n"), 60);
    assert_int_equal(write(fd, wanted.data, wanted.len), wanted.len);
    close(fd);
    medical(&rows, 30, 60, ",\"kind\":\"medical\"}\n");
    snprintf(path, sizeof path, "%s/tests/unit/data/ngram/train.txt", FM_SOURCE_DIR);
    assert_int_equal(fm_file_read(&text, &n, path, 0), FM_OK);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n_novel++) {
        fm_str_puts(&rows, "{\"text\":");
        fm_str_json(&rows, line, strlen(line));
        fm_str_puts(&rows, ",\"kind\":\"novel\"}\n");
    }
    assert_int_equal(fm_str_check(&rows), FM_OK);
    const char *const options[] = {"target", target,  "method", "classifier", "min_probability",
                                   "0.5",    "chars", "4",      NULL};
    const char *const alone[] = {"target", target,    "method", "classifier", "min_probability", "0.5", "chars",
                                 "4",      "threads", "1",      NULL};
    const char *const few[] = {"target", target, "method", "classifier", "rows", "30", "probability_into", "", NULL};
    const char *const not_here[] = {"target", target, "min_probability", "0.5", NULL};
    const char *const two[] = {"target", target, "method", "classifier", "min_probability", "0.5", "rows", "3", NULL};
    assert_int_equal(run_step(&out, &manifest, "domain", rows.data, rows.len, options), FM_OK);
    const int hits = count(out, "\"kind\":\"medical\""), wrong = count(out, "\"kind\":\"novel\"");
    print_message("%d of 30 medical answers, %d of %d paragraphs of a novel\n", hits, wrong, n_novel);
    assert_true(n_novel > 200 && hits >= 27 && wrong <= n_novel / 100);
    assert_int_equal(count(out, "\"domain_probability\":0."), hits + wrong);
    assert_true(number_behind(manifest, "\"auc\": ") > 0.9);
    assert_true(number_behind(manifest, "\"calibration_error\": ") < 0.1);
    assert_int_equal((int)number_behind(strstr(manifest, "\"classifier\": {"), "\"target_rows\": "), 30);
    assert_int_equal(run_step(&other, NULL, "domain", rows.data, rows.len, alone), FM_OK);
    assert_string_equal(out, other);
    fm_free(other);
    fm_free(out);
    fm_free(manifest);
    assert_int_equal(run_step(&out, NULL, "domain", rows.data, rows.len, few), FM_OK);
    assert_int_equal(count(out, "\n"), 30);
    assert_true(count(out, "\"kind\":\"medical\"}") >= 27);
    fm_free(out);
    assert_int_equal(run_step(&out, NULL, "domain", rows.data, rows.len, not_here), FM_ERR_CONFIG);
    assert_int_equal(run_step(&out, NULL, "domain", rows.data, rows.len, two), FM_ERR_CONFIG);
    fm_str_free(&rows);
    fm_str_free(&wanted);
    fm_free(text);
    unlink(target);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(measures), cmocka_unit_test(topics),
                                       cmocka_unit_test(novel),    cmocka_unit_test(like_scikit),
                                       cmocka_unit_test(fair),     cmocka_unit_test(medicine)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
