/* Parts and mixtures: shares, groups that stay together, classes that keep their shares, rows that stay where they are
 * when others are added, weights over an epoch. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "fathom/data.h"
#include "run_step.h"

#define ROWS   5000
#define TOPICS 400

static char dir[] = "/tmp/fathom-split-XXXXXX";

/* Topics of very different size, three classes of 70, 25 and 5%. */
static int topic_of(int i) {
    return i % 7 < 3 ? i % 20 : (int)((unsigned)i * 2654435761u >> 8) % TOPICS;
}
static int class_of(int i) {
    int k = (int)((unsigned)i * 40503u >> 4) % 100;
    return k < 70 ? 0 : k < 95 ? 1 : 2;
}

/* part[i] of row i: 0 train, 1 val, 2 test, -1 nowhere. */
static void split(int *part, int rows, const char *const *options) {
    static const char *const names[] = {"train", "val", "test"};
    char in[96], out[96], path[128], *manifest = NULL;
    fm_data_job *job = NULL;
    fm_data_report report = {.size = sizeof report};
    snprintf(in, sizeof in, "%s/in.jsonl", dir);
    snprintf(out, sizeof out, "%s/out", dir);
    assert_int_equal(fm_remove_tree(out), FM_OK);
    FILE *f = fopen(in, "wb");
    assert_non_null(f);
    for (int i = 0; i < rows; i++) {
        fprintf(f, "{\"id\":%d,\"text\":\"row %d\",\"topic\":\"t%d\",\"label\":\"c%d\"}\n", i, i, topic_of(i),
                class_of(i));
    }
    assert_int_equal(fclose(f), 0);
    assert_int_equal(fm_data_job_step(&job, "split"), FM_OK);
    void *o = fm_data_job_object(job);
    const fm_option *t = fm_data_job_options(job);
    assert_int_equal(fm_options_set(o, t, "input", in, "test"), FM_OK);
    assert_int_equal(fm_options_set(o, t, "output", out, "test"), FM_OK);
    for (; options && *options; options += 2) {
        assert_int_equal(fm_options_set(o, t, options[0], options[1], "test"), FM_OK);
    }
    assert_int_equal(fm_data_run(&report, &manifest, job), FM_OK);
    fm_string_free(manifest);
    fm_data_job_free(job);
    for (int i = 0; i < rows; i++) {
        part[i] = -1;
    }
    for (int p = 0; p < 3; p++) {
        char *text = NULL;
        size_t n;
        snprintf(path, sizeof path, "%s/%s.jsonl", out, names[p]);
        if (!fm_path_exists(path)) {
            continue;
        }
        assert_int_equal(fm_file_read(&text, &n, path, 0), FM_OK);
        for (const char *at = text; (at = strstr(at, "{\"id\":")); at++) {
            int id = (int)strtol(at + 6, NULL, 10);
            assert_true(id >= 0 && id < rows && part[id] == -1); /* each row once */
            part[id] = p;
        }
        fm_free(text);
    }
    for (int i = 0; i < rows; i++) {
        assert_true(part[i] >= 0); /* and none is lost */
    }
}

static double share(const int *part, int rows, int p, int class) {
    int n = 0, all = 0;
    for (int i = 0; i < rows; i++) {
        if (class < 0 || class_of(i) == class) {
            all++;
            n += part[i] == p;
        }
    }
    return (double)n / all;
}

static void near(double got, double want, double by) {
    if (got < want - by || got > want + by) {
        fail_msg("got %.5f, expected %.5f within %.5f", got, want, by);
    }
}

static int moved(const int *a, const int *b, int rows) {
    int n = 0;
    for (int i = 0; i < rows; i++) {
        n += a[i] != b[i];
    }
    return n;
}

/* No topic in two parts. */
static void together(const int *part, int rows) {
    int home[TOPICS];
    memset(home, -1, sizeof home);
    for (int i = 0; i < rows; i++) {
        int *h = &home[topic_of(i)];
        assert_true(*h == -1 || *h == part[i]);
        *h = part[i];
    }
}

static int before[ROWS], after[ROWS];

/* 8:1:1 within four standard deviations of drawing each row by itself; nothing moves. */
static void test_stable(void **state) {
    (void)state;
    split(before, 4000, NULL);
    near(share(before, 4000, 0, -1), 0.8, 4 * 0.4 / 63.2);
    near(share(before, 4000, 1, -1), 0.1, 4 * 0.3 / 63.2);
    split(after, ROWS, NULL);
    assert_int_equal(moved(before, after, 4000), 0);
    static const char *const seed[] = {"seed", "7", NULL}, *const threads[] = {"threads", "3", NULL};
    split(after, 4000, seed);
    assert_in_range(moved(before, after, 4000), 4000 / 4, 4000 / 2); /* another draw: 1 - .8^2 - .1^2 - .1^2 = 34% */
    split(after, 4000, threads);
    assert_int_equal(moved(before, after, 4000), 0);
}

static void test_groups(void **state) {
    (void)state;
    static const char *const group[] = {"group", "topic", NULL};
    split(before, 4000, group);
    together(before, 4000);
    for (int p = 0; p < 3; p++) {
        assert_true(share(before, 4000, p, -1) > 0.01);
    }
    split(after, ROWS, group);
    together(after, ROWS);
    assert_int_equal(moved(before, after, 4000), 0);
}

/* Each class has the shares exactly, to a row; rows near a border are all that may move when rows are added: a share
 * drawn from n rows is off by sqrt(p(1-p)/n), both borders together move fewer than 3% here. */
static void test_strata(void **state) {
    (void)state;
    static const char *const strata[] = {"stratify", "label", NULL};
    split(before, 4000, strata);
    for (int c = 0; c < 3; c++) {
        int n = 0;
        for (int i = 0; i < 4000; i++) {
            n += class_of(i) == c;
        }
        near(share(before, 4000, 0, c), 0.8, 1.0 / n);
        near(share(before, 4000, 1, c), 0.1, 1.0 / n);
        near(share(before, 4000, 2, c), 0.1, 1.0 / n);
    }
    split(after, ROWS, strata);
    print_message("stratified: %d of 4000 rows moved when 1000 were added\n", moved(before, after, 4000));
    assert_in_range(moved(before, after, 4000), 0, 4000 * 3 / 100);
}

/* Both: groups stay whole, so classes have their shares to about the size of the largest group. */
static void test_both(void **state) {
    (void)state;
    static const char *const both[] = {"stratify", "label", "group", "topic", NULL};
    split(before, ROWS, both);
    together(before, ROWS);
    near(share(before, ROWS, 0, -1), 0.8, 0.05);
    near(share(before, ROWS, 2, -1), 0.1, 0.05);
}

/* Equal texts, whatever their case and marks, are in one part, also when they have different labels. */
static void test_equal_texts(void **state) {
    (void)state;
    static const char *const plain[] = {NULL}, *const strata[] = {"stratify", "label", NULL};
    static const char *const *const how[] = {plain, strata};
    static const char *const form[] = {"Row %d, said once.", "row %d said  once", "ROW %d: said once!"};
    for (size_t k = 0; k < FM_ARRAY_LEN(how); k++) {
        fm_str in = {0};
        int seen[3] = {0}, home[600];
        char *manifest = NULL, to[96], path[128];
        for (int i = 0; i < 1800; i++) {
            char text[64];
            snprintf(text, sizeof text, form[i % 3], i / 3); /* two of the one label, one of the other */
            fm_str_printf(&in, "{\"id\":%d,\"text\":\"%s\",\"label\":\"c%d\"}\n", i / 3, text,
                          (i % 3 == 0) ^ (i / 3 % 2));
        }
        assert_int_equal(fm_str_check(&in), FM_OK);
        snprintf(path, sizeof path, "%s/equal.jsonl", dir);
        snprintf(to, sizeof to, "%s/equal", dir);
        assert_int_equal(fm_remove_tree(to), FM_OK);
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(in.data, 1, in.len, f), in.len);
        assert_int_equal(fclose(f), 0);
        fm_str_free(&in);
        fm_data_job *job = NULL;
        fm_data_report report = {.size = sizeof report};
        assert_int_equal(fm_data_job_step(&job, "split"), FM_OK);
        void *o = fm_data_job_object(job);
        assert_int_equal(fm_options_set(o, fm_data_job_options(job), "input", path, "test"), FM_OK);
        assert_int_equal(fm_options_set(o, fm_data_job_options(job), "output", to, "test"), FM_OK);
        for (const char *const *p = how[k]; *p; p += 2) {
            assert_int_equal(fm_options_set(o, fm_data_job_options(job), p[0], p[1], "test"), FM_OK);
        }
        assert_int_equal(fm_data_run(&report, &manifest, job), FM_OK);
        fm_string_free(manifest);
        fm_data_job_free(job);
        memset(home, -1, sizeof home);
        for (int p = 0; p < 3; p++) {
            static const char *const names[] = {"train", "val", "test"};
            char *text = NULL;
            size_t n;
            snprintf(path, sizeof path, "%s/%s.jsonl", to, names[p]);
            assert_int_equal(fm_file_read(&text, &n, path, 0), FM_OK);
            for (const char *at = text; (at = strstr(at, "{\"id\":")); at++) {
                const long id = strtol(at + 6, NULL, 10);
                assert_true(id >= 0 && id < 600 && (home[id] == -1 || home[id] == p));
                home[id] = p;
                seen[p]++;
            }
            fm_free(text);
        }
        assert_int_equal(seen[0] + seen[1] + seen[2], 1800);
        near(seen[0] / 1800.0, 0.8, how[k] == strata ? 0.005 : 0.07);
        near(seen[2] / 1800.0, 0.1, how[k] == strata ? 0.005 : 0.05);
    }
}

/* 60/30/10 over an epoch: by rows and by bytes of text, with sources that must be cut and ones that must be repeated.
 */
static void test_mix(void **state) {
    (void)state;
    static const struct {
        const char *unit;
        int columns;
    } cases[] = {{"rows", 0}, {"bytes", 1}};
    fm_str in = {0};
    for (int i = 0; i < 6000; i++) {
        int s = i % 10 < 7 ? 0 : i % 10 < 9 ? 1 : 2; /* 70, 20, 10% */
        fm_str_printf(&in, "{\"text\":\"%.*s\",\"from\":\"s%d\"}\n", 20 + i * 7 % 60,
                      "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcd", s);
    }
    for (size_t k = 0; k < FM_ARRAY_LEN(cases); k++) {
        const char *const options[] = {"by",   "from",        "weights", "s0=60,s1=30,s2=10", "repeat", "3",
                                       "unit", cases[k].unit, NULL};
        char *out = NULL;
        double sum[3] = {0}, all = 0;
        assert_int_equal(run_step(&out, NULL, "mix", in.data, in.len, options), FM_OK);
        for (const char *at = out; (at = strstr(at, "{\"text\":\"")); at++) {
            const char *end = strchr(at + 9, '"');
            double weight = cases[k].columns ? (double)(end - at - 9) : 1;
            sum[strstr(end, "\"s")[2] - '0'] += weight;
            all += weight;
        }
        near(sum[0] / all, 0.6, 0.001);
        near(sum[1] / all, 0.3, 0.001);
        near(sum[2] / all, 0.1, 0.001);
        assert_true(cases[k].columns || all > 5900);
        fm_free(out);
    }
    fm_str_free(&in);
}

static int make_dir(void **state) {
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    return fm_remove_tree(dir) == FM_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stable), cmocka_unit_test(test_groups),      cmocka_unit_test(test_strata),
        cmocka_unit_test(test_both),   cmocka_unit_test(test_equal_texts), cmocka_unit_test(test_mix),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
