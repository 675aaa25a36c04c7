/* The steps scale, outliers and balance. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "../failures.h"
#include "run_step.h"

static char *run(char **manifest, const char *step, const char *rows, const char *const *options) {
    char *out;
    fm_status s = run_step(&out, manifest, step, rows, strlen(rows), options);
    if (s != FM_OK) {
        print_error("%s: %s\n", step, fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
    return out;
}

static void fails(const char *step, const char *rows, const char *const *options, fm_status want, const char *what) {
    char *out;
    assert_int_equal(run_step(&out, NULL, step, rows, strlen(rows), options), want);
    assert_non_null(strstr(fm_error_get().message, what));
}

static int lines(const char *p, const char *with) {
    int n = 0;
    for (const char *next; *p; p = next) {
        next = strchr(p, '\n') + 1;
        const char *hit = strstr(p, with);
        n += hit && hit < next;
    }
    return n;
}

static void scale(void **state) {
    (void)state;
    static const char rows[] =
        "{\"a\":2,\"b\":\"-1\",\"t\":\"x\"}\n{\"a\":4.5,\"b\":7}\n{\"a\":12,\"b\":null}\n{\"b\":3}\n";
    char path[64] = "/tmp/fathom_ranges_XXXXXX", *manifest = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    const char *const keep[] = {"numeric", "a,b", "save", path, NULL};
    const char *const drop[] = {"numeric", "a,b", "save", path, "missing", "drop", NULL};
    const char *const mean[] = {"numeric", "b", "save", path, "missing", "mean", NULL};
    const char *const load[] = {"numeric", "a", "load", path, NULL};
    const char *const clip[] = {"numeric", "a", "load", path, "clip", "true", NULL};
    const char *const other[] = {"numeric", "c", "load", path, NULL}, *const none[] = {NULL};
    const char *const nothing[] = {"numeric", "t", "save", path, NULL};
    char *out = run(&manifest, "scale", rows, keep);
    assert_string_equal(out,
                        "{\"a\":0,\"b\":0,\"t\":\"x\"}\n{\"a\":0.25,\"b\":1}\n{\"a\":1,\"b\":null}\n{\"b\":0.5}\n");
    assert_non_null(strstr(manifest, "\"without a number\": 2"));
    assert_non_null(strstr(manifest, "\"max\": 12"));
    fm_free(manifest);
    fm_free(out);
    out = run(NULL, "scale", "{\"a\":22,\"b\":5}\n{\"a\":-8}\n", load);
    assert_string_equal(out, "{\"a\":2,\"b\":5}\n{\"a\":-1}\n");
    fm_free(out);
    out = run(NULL, "scale", "{\"a\":22,\"b\":5}\n{\"a\":-8}\n", clip);
    assert_string_equal(out, "{\"a\":1,\"b\":5}\n{\"a\":0}\n");
    fm_free(out);
    out = run(NULL, "scale", rows, drop);
    assert_string_equal(out, "{\"a\":0,\"b\":0,\"t\":\"x\"}\n{\"a\":0.25,\"b\":1}\n");
    fm_free(out);
    out = run(NULL, "scale", rows, mean);
    assert_non_null(strstr(out, "{\"a\":12,\"b\":0.5}"));
    fm_free(out);
    fails("scale", rows, other, FM_ERR_CONFIG, "no range of the column 'c'");
    fails("scale", rows, none, FM_ERR_CONFIG, "needs columns");
    fails("scale", rows, nothing, FM_ERR_DATA, "column 't'");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"format\":\"fathom ranges\",\"columns\":{\"a\":{\"min\":3,\"max\":1}}}", f);
    fclose(f);
    fails("scale", rows, load, FM_ERR_FORMAT, "from 3 to 1");
    unlink(path);
}

/* Bounds as numpy 2.4.6 gives them for 1..20 and 100: mean 14.7619, std 19.8732; quartiles 6 and 16; percentiles 5 and
 * 90 are 2 and 19. */
static void outliers(void **state) {
    (void)state;
    static const char *const z[] = {"numeric", "v", NULL}, *const iqr[] = {"numeric", "v", "method", "iqr", NULL};
    static const char *const tight[] = {"numeric", "v", "limit", "4.5", NULL};
    static const char *const clip[] = {"numeric", "v", "method", "iqr", "action", "clip", NULL};
    static const char *const part[] = {"numeric", "v",      "method", "percentile", "low", "5", "high",
                                       "90",      "action", "mark",   "into",       "far", NULL};
    static const char *const wrong[] = {"numeric", "v", "method", "percentile", "low", "90", "high", "10", NULL};
    fm_str rows = {0};
    for (int i = 1; i <= 21; i++) {
        fm_str_printf(&rows, "{\"v\":%d}\n", i == 21 ? 100 : (i * 8) % 21);
    }
    fm_str_puts(&rows, "{\"v\":\"none\"}\n");
    assert_int_equal(fm_str_check(&rows), FM_OK);
    char *manifest = NULL, *out = run(&manifest, "outliers", rows.data, z);
    assert_int_equal(lines(out, "{"), 21);
    assert_null(strstr(out, "100"));
    assert_non_null(strstr(manifest, "\"mean\": 14.76190476190476"));
    assert_non_null(strstr(manifest, "\"sd\": 19.8731806"));
    assert_non_null(strstr(manifest, "\"without a number\": 1"));
    fm_free(manifest);
    fm_free(out);
    out = run(NULL, "outliers", rows.data, tight);
    assert_non_null(strstr(out, "100"));
    fm_free(out);
    out = run(&manifest, "outliers", rows.data, iqr);
    assert_null(strstr(out, "100"));
    assert_non_null(strstr(manifest, "\"low\": -9"));
    assert_non_null(strstr(manifest, "\"high\": 31"));
    fm_free(manifest);
    fm_free(out);
    out = run(NULL, "outliers", rows.data, clip);
    assert_non_null(strstr(out, "{\"v\":31}"));
    assert_int_equal(lines(out, "{"), 22);
    fm_free(out);
    out = run(NULL, "outliers", rows.data, part);
    assert_int_equal(lines(out, "\"far\":\"v\""), 3); /* 1, 20 and 100 */
    assert_int_equal(lines(out, "\"far\":null"), 19);
    fm_free(out);
    fails("outliers", rows.data, wrong, FM_ERR_CONFIG, "below high");
    fm_str_free(&rows);
}

static void balance_copies(void **state) {
    (void)state;
    static const char *const over[] = {"method", "over", NULL}, *const under[] = {"method", "under", "ratio", "2",
                                                                                  NULL};
    static const char *const half[] = {"method", "over", "ratio", "2", NULL}, *const none[] = {NULL};
    fm_str rows = {0};
    for (int i = 0; i < 30; i++) {
        const char *label = i < 20 ? "\"many\"" : i < 27 ? "7" : "true";
        fm_str_printf(&rows, "{\"id\":%d,\"label\":%s}\n", i, label);
    }
    fm_str_puts(&rows, "{\"id\":99}\n");
    assert_int_equal(fm_str_check(&rows), FM_OK);
    static const struct {
        const char *const *options;
        int many, seven, yes;
    } cases[] = {{over, 20, 20, 20}, {half, 20, 10, 10}, {under, 6, 6, 3}, {none, 20, 7, 3}};
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        char *manifest = NULL, *out = run(&manifest, "balance", rows.data, cases[i].options);
        assert_int_equal(lines(out, "\"many\""), cases[i].many);
        assert_int_equal(lines(out, ":7}"), cases[i].seven);
        assert_int_equal(lines(out, ":true}"), cases[i].yes);
        if (cases[i].options == over) { /* each row as often as the others, but for one */
            int least = 99, most = 0;
            for (int id = 20; id < 27; id++) {
                char want[24];
                snprintf(want, sizeof want, "\"id\":%d,", id);
                least = FM_MIN(least, lines(out, want));
                most = FM_MAX(most, lines(out, want));
            }
            assert_true(least == 2 && most == 3);
        }
        assert_non_null(strstr(manifest, "\"ratio\": 6.66667"));
        assert_non_null(strstr(manifest, "\"missing column\": 1"));
        fm_free(manifest);
        fm_free(out);
    }
    fm_str_free(&rows);
}

#define POINTS 12
static double px[POINTS], py[POINTS];

/* True when (x, y) lies on the way from a point to one of its `k` nearest. */
static bool between(double x, double y, int k) {
    for (int i = 0; i < POINTS; i++) {
        for (int j = 0; j < POINTS; j++) {
            double d = hypot(px[i] - px[j], py[i] - py[j]);
            int nearer = 0;
            for (int m = 0; m < POINTS; m++) {
                nearer += m != i && m != j && hypot(px[i] - px[m], py[i] - py[m]) < d;
            }
            double u = ((x - px[i]) * (px[j] - px[i]) + (y - py[i]) * (py[j] - py[i])) / (d * d);
            if (i != j && nearer < k && u >= 0 && u < 1 && fabs(px[i] + u * (px[j] - px[i]) - x) < 1e-9 &&
                fabs(py[i] + u * (py[j] - py[i]) - y) < 1e-9) {
                return true;
            }
        }
    }
    return false;
}

static void smote(void **state) {
    (void)state;
    static const char *const o[] = {"method", "smote", "numeric", "x,e", "neighbours", "2", NULL};
    static const char *const none[] = {"method", "smote", NULL};
    fm_str rows = {0};
    for (int i = 0; i < 200; i++) {
        fm_str_printf(&rows, "{\"x\":%d,\"e\":[1,2],\"label\":\"big\"}\n", i);
    }
    for (int i = 0; i < POINTS; i++) {
        px[i] = (i * 37 % 101) / 10.0;
        py[i] = (i * 61 % 103) / 7.0;
        fm_str_printf(&rows, "{\"x\":%.17g,\"e\":[%.17g,5],\"label\":\"small\"}\n", px[i], py[i]);
    }
    fm_str_puts(&rows, "{\"x\":1,\"e\":[1],\"label\":\"small\"}\n{\"e\":[1,2],\"label\":\"small\"}\n"
                       "{\"x\":3,\"e\":[9,9],\"label\":\"one\"}\n");
    assert_int_equal(fm_str_check(&rows), FM_OK);
    char *manifest = NULL, *out = run(&manifest, "balance", rows.data, o);
    int made = 0, copies = 0;
    for (char *p = out, *next; *p; p = next) {
        double x, y, z;
        char label[16];
        next = strchr(p, '\n') + 1;
        if (strstr(p, "\"synthetic\":true") && strstr(p, "\"synthetic\":true") < next) {
            assert_int_equal(sscanf(p, "{\"x\":%lf,\"e\":[%lf,%lf],\"label\":\"%15[a-z]\"", &x, &y, &z, label), 4);
            if (strcmp(label, "one") == 0) {
                assert_true(x == 3 && y == 9 && z == 9);
                copies++;
            } else {
                assert_string_equal(label, "small");
                assert_true(z == 5 && between(x, y, 2));
                made++;
            }
        }
    }
    assert_int_equal(made, 200 - POINTS);
    assert_int_equal(copies, 199);
    assert_non_null(strstr(manifest, "\"without_numbers\": 2"));
    fm_free(manifest);
    fm_free(out);
    fails("balance", rows.data, none, FM_ERR_CONFIG, "numeric");
    fm_str_free(&rows);
}

static const char failure_rows[] = "{\"v\":1,\"e\":[1,2],\"label\":\"a\"}\n{\"v\":2,\"e\":[2,3],\"label\":\"a\"}\n"
                                   "{\"v\":3,\"e\":[3,4],\"label\":\"a\"}\n{\"v\":4,\"e\":[1,4],\"label\":\"b\"}\n"
                                   "{\"v\":5,\"e\":[3,0],\"label\":\"b\"}\n";

static fm_status refused_work(int variant, uint64_t *sum) {
    static const char *const sc[] = {"numeric", "v", "save", "/tmp/fathom_ranges_test.json", NULL};
    static const char *const ou[] = {"numeric", "v", "method", "iqr", "action", "mark", NULL};
    static const char *const ov[] = {"method", "over", NULL};
    static const char *const sm[] = {"method", "smote", "numeric", "v,e", NULL};
    static const struct {
        const char *step;
        const char *const *options;
    } all[] = {{"scale", sc}, {"outliers", ou}, {"balance", ov}, {"balance", sm}};
    char *out;
    fm_status s = run_step(&out, NULL, all[variant].step, failure_rows, strlen(failure_rows), all[variant].options);
    *sum = s == FM_OK ? fm_hash64(out, strlen(out), 0) : 0;
    fm_free(out);
    return s;
}

static void failures(void **state) {
    const failures_work w = {"numbers", refused_work, 4, NULL, NULL};
    (void)state;
    failures_check(&w);
    unlink("/tmp/fathom_ranges_test.json");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scale), cmocka_unit_test(outliers), cmocka_unit_test(balance_copies),
        cmocka_unit_test(smote), cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
