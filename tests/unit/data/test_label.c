/* Labelling: kappas equal to scikit-learn's and statsmodels' (tests/golden/make_kappa.py), places of spans, and every
 * allocation of import, agreement, review and release refused. What the actions do: tests/cli/test_label.sh. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "../failures.h"
#include "data/label.h"
#include "run_step.h"

typedef struct golden {
    int32_t n_labels;
    const char *said[4]; /* a digit for each row */
    double cohen, fleiss;
} golden;
static const golden rows[] = {
    /* scikit-learn 1.9.1, statsmodels 0.15.0 */
    {2, {"110000100001", "100000100001", "101100101111", "111000000011"}, 0.80000000000000004, 0.31428571428571411},
    {3,
     {"21121210110201001000201001021012121101000000200120", "11121210110001001020211001121012121121000200200120",
      "21121210010201001020111201121012111120000000220120", "21121210110201001020111001021011121121100001200120"},
     0.78301301921884692,
     0.74186220604558739},
    {5,
     {"2010012014102011143232111220203411213224", "1213210040142424243402043021020300200044",
      "3011332012122324144302213340210424003134", "1322012023122310412222013020310011223014"},
     0.09375,
     0.17981281211760425},
    {4, {"301101313", "301101313", "301101313", "301101313"}, 1, 1},
};

static void kappas(void **state) {
    (void)state;
    for (size_t g = 0; g < FM_ARRAY_LEN(rows); g++) {
        const golden *r = &rows[g];
        size_t n = strlen(r->said[0]);
        int32_t a[64], b[64], count[64 * 8] = {0};
        assert_true(n <= 64 && r->n_labels <= 8);
        for (size_t i = 0; i < n; i++) {
            a[i] = r->said[0][i] - '0';
            b[i] = r->said[1][i] - '0';
            for (int k = 0; k < 4; k++) {
                count[i * (size_t)r->n_labels + (size_t)(r->said[k][i] - '0')]++;
            }
        }
        assert_true(fabs(fm_kappa_cohen(a, b, n, r->n_labels) - r->cohen) < 1e-12);
        assert_true(fabs(fm_kappa_fleiss(count, n, r->n_labels) - r->fleiss) < 1e-12);
    }
    int32_t one[] = {1, 1, 1}, counts[] = {0, 3, 0, 3};
    assert_true(isnan(fm_kappa_cohen(one, one, 3, 2)));
    assert_true(isnan(fm_kappa_fleiss(counts, 2, 2)));
    assert_true(isnan(fm_kappa_cohen(one, one, 0, 2)));
}

static void places(void **state) {
    int64_t a = -1, b = -1;
    fm_sv piece = {NULL, 0}, text = fm_sv_of("x\xF0\x9F\x98\x80y\xE4\xBD\xA0");
    (void)state;
    assert_true(fm_ls_units(text, 3, 4, &a, &b, &piece));
    assert_true(a == 2 && b == 3 && fm_sv_eq(piece, "y"));
    assert_true(fm_ls_units(text, 1, 5, &a, &b, &piece));
    assert_true(a == 1 && b == 4 && piece.len == 8);
    assert_false(fm_ls_units(text, 2, 4, &a, &b, &piece)); /* inside of a character */
    assert_false(fm_ls_units(text, 3, 6, &a, &b, &piece));
    assert_false(fm_ls_units(text, -1, 2, &a, &b, &piece));
    assert_false(fm_ls_units(text, 3, 2, &a, &b, &piece));
    assert_true(fm_ls_units(text, 5, 5, &a, &b, &piece) && piece.len == 0);
}

static char dir[64], export_path[96], guide_path[96], rows_path[96], log_path[96], verdict_path[96], out_path[96];

static void write_file(char *path, size_t cap, const char *name, const char *text) {
    snprintf(path, cap, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static fm_status run(int variant, uint64_t *sum) {
    static const struct {
        const char *action;
        const char *const option[13];
    } runs[] = {
        {"import", {"input", export_path, "guide", guide_path, "output", out_path, "overwrite", "true", NULL}},
        {"agree", {"input", rows_path, NULL}},
        {"review",
         {"input", rows_path, "log", log_path, "output", out_path, "level", "lead", "overwrite", "true", NULL}},
        {"release",
         {"input", rows_path, "log", log_path, "output", out_path, "require", "own", "overwrite", "true", NULL}},
    };
    fm_label_config *c = NULL;
    char *report = NULL, *text = NULL;
    size_t n = 0;
    fm_status s = fm_label_config_new(&c);
    for (const char *const *o = runs[variant].option; *o && s == FM_OK; o += 2) {
        s = fm_options_set(c, fm_label_options(), o[0], o[1], "test");
    }
    s = s == FM_OK ? fm_label_run(&report, c, runs[variant].action, NULL, NULL) : s;
    *sum = 0;
    if (s == FM_OK && variant != 1) {
        s = fm_file_read(&text, &n, out_path, 0);
        *sum = text ? fm_hash64(text, n, 0) : 0;
        fm_free(text);
    } else if (s == FM_OK) {
        *sum = fm_hash64(report, strlen(report), 0);
    }
    fm_string_free(report);
    fm_label_config_free(c);
    return s;
}

static void failures(void **state) {
    const failures_work w = {"label", run, 4, dir, NULL};
    (void)state;
    failures_check(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(kappas), cmocka_unit_test(places), cmocka_unit_test(failures)};
    snprintf(dir, sizeof dir, "/tmp/fathom_label_XXXXXX");
    if (!mkdtemp(dir)) {
        return 1;
    }
    write_file(
        export_path, sizeof export_path, "export.json",
        "[{\"id\":1,\"data\":{\"text\":\"Ann in Oslo\"},\"annotations\":[{\"id\":4,\"completed_by\":2,\"result\":["
        "{\"type\":\"labels\",\"value\":{\"start\":0,\"end\":3,\"text\":\"Ann\",\"labels\":[\"PER\"]}}]}]},"
        "{\"id\":2,\"data\":{\"text\":\"x\"},\"annotations\":[{\"id\":5,\"completed_by\":2,\"result\":[]}]}]");
    write_file(guide_path, sizeof guide_path, "guide.yaml",
               "version: 1\nkind: entities\nlabels:\n  - {name: PER, definition: a person, examples: [Ann]}\n");
    write_file(rows_path, sizeof rows_path, "rows.jsonl",
               "{\"task_id\":1,\"annotation_id\":1,\"annotator\":\"a\",\"label\":\"x\"}\n"
               "{\"task_id\":1,\"annotation_id\":2,\"annotator\":\"b\",\"label\":\"y\"}\n"
               "{\"task_id\":2,\"annotation_id\":3,\"annotator\":\"a\",\"label\":\"y\"}\n"
               "{\"task_id\":2,\"annotation_id\":4,\"annotator\":\"b\",\"label\":\"y\"}\n");
    write_file(log_path, sizeof log_path, "log.jsonl",
               "{\"task_id\":1,\"annotation_id\":1,\"verdict\":\"fixed\",\"label\":\"z\",\"level\":\"own\"}\n"
               "{\"task_id\":2,\"annotation_id\":3,\"verdict\":\"accept\",\"level\":\"own\"}\n");
    write_file(verdict_path, sizeof verdict_path, "v.jsonl", "");
    write_file(out_path, sizeof out_path, "out.jsonl", "");
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    if (fm_remove_tree(dir) != FM_OK) {
        return 1;
    }
    return rc;
}
