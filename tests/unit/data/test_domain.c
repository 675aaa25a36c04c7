/* Likeness to a domain: the measures by hand, and the step on a novel among other text. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "data/domain.h"
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
        assert_int_equal(fm_domain_split(&t, fm_sv_of(text[i])), FM_OK);
        assert_int_equal(t.n, 2 * t.n_words - 1);
        memcpy(v + i * FM_DOMAIN_DIMS, t.vector, sizeof t.vector);
    }
    fm_domain_topics_fit(&k, v, FM_ARRAY_LEN(text));
    assert_int_equal(k.n, FM_ARRAY_LEN(text));
    assert_int_equal(fm_domain_split(&t, fm_sv_of("chase the kitten, the cat, the mouse")), FM_OK);
    int cats = fm_domain_topic(&k, t.vector);
    assert_int_equal(fm_domain_split(&t, fm_sv_of("interest on credit, loans of a bank")), FM_OK);
    int banks = fm_domain_topic(&k, t.vector);
    assert_int_not_equal(cats, banks);
    assert_int_equal(fm_domain_split(&t, fm_sv_of("")), FM_OK);
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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(measures), cmocka_unit_test(topics), cmocka_unit_test(novel)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
