/* The guard: median and spread by hand, spikes, the band, and the round trip through JSON. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "train/guard.h"

static void test_median(void **state) {
    (void)state;
    double m, s;
    fm_median_spread((double[]){5, 1, 100, 3, 2}, 5, &m, &s);
    assert_float_equal(m, 3, 0);
    assert_float_equal(s, 1.4826 * 2, 1e-12); /* deviations 2 2 97 0 1 */
    fm_median_spread((double[]){4, 1, 2, 3}, 4, &m, &s);
    assert_float_equal(m, 2.5, 0);
}

static fm_guard steady(void) {
    fm_guard g = {0};
    for (int i = 0; i < 100; i++) {
        fm_guard_accept(&g, 4 + 0.01 * (i % 5), 1 + 0.1 * (i % 3));
    }
    return g;
}

static void test_verdicts(void **state) {
    (void)state;
    fm_guard g = steady();
    assert_int_equal(g.n, FM_GUARD_WINDOW);
    assert_int_equal(fm_guard_check(&g, 4.1, 1.5, 10), FM_STEP_OK);
    assert_int_equal(fm_guard_check(&g, 5.2, 1.5, 10), FM_STEP_LOSS_SPIKE); /* floor: 4.02 + 10 * 0.0804 */
    assert_int_equal(fm_guard_check(&g, 4.7, 1.5, 10), FM_STEP_OK);
    assert_int_equal(fm_guard_check(&g, 4.1, 9, 10), FM_STEP_NORM_SPIKE);
    assert_int_equal(fm_guard_check(&g, 4.1, 9, 0), FM_STEP_OK);
    assert_int_equal(fm_guard_check(&g, NAN, 1, 0), FM_STEP_NONFINITE);
    assert_int_equal(fm_guard_check(&g, 4, INFINITY, 0), FM_STEP_NONFINITE);
    fm_guard young = {0};
    assert_int_equal(fm_guard_check(&young, 1e9, 1e9, 10), FM_STEP_OK);
    double band[2];
    assert_false(fm_guard_outside(&g, 1.2, 0, 0, band));
    assert_true(fm_guard_outside(&g, 0.05, 0, 0, band));
    assert_true(fm_guard_outside(&g, 3, 0, 0, band));
    assert_true(fm_guard_outside(&g, 1.2, 0, 1.1, band));
}

/* Norms that stay high are where the run is now: skipping them for ever would stop a run whose weights do not move. */
static void test_new_level(void **state) {
    (void)state;
    fm_guard g = steady();
    for (int i = 0; i < FM_GUARD_PATIENCE; i++) {
        assert_false(fm_guard_new_level(&g, fm_guard_check(&g, 4, 9, 10), 9, true));
        fm_guard_skip(&g);
    }
    fm_guard alone = g;
    assert_false(fm_guard_new_level(&alone, FM_STEP_NORM_SPIKE, 9, false)); /* nothing would clip the step */
    assert_false(fm_guard_new_level(&alone, FM_STEP_LOSS_SPIKE, 9, true));
    assert_false(fm_guard_new_level(&alone, FM_STEP_NONFINITE, 9, true));
    assert_true(fm_guard_new_level(&g, fm_guard_check(&g, 4, 9, 10), 9, true));
    fm_guard_accept(&g, 4, 9);
    assert_int_equal(fm_guard_check(&g, 4, 10, 10), FM_STEP_OK);
    assert_int_equal(fm_guard_check(&g, 4, 40, 10), FM_STEP_NORM_SPIKE);
    assert_int_equal(fm_guard_check(&g, 9, 10, 10), FM_STEP_LOSS_SPIKE);
}

static void test_json(void **state) {
    (void)state;
    fm_guard g = steady(), back;
    g.loss[7] = 1.0 / 3;
    fm_guard_skip(&g);
    fm_json *o = fm_json_new_object(), *read;
    assert_int_equal(fm_guard_store(&g, o), FM_OK);
    fm_str text = {0};
    assert_int_equal(fm_json_dump(&text, o, 0), FM_OK);
    assert_int_equal(fm_json_parse(&read, text.data, text.len, "t"), FM_OK);
    assert_int_equal(fm_guard_load(&back, read), FM_OK);
    assert_memory_equal(&g, &back, sizeof g); /* the same bits */
    fm_json_free(o);
    fm_json_free(read);
    fm_str_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_median), cmocka_unit_test(test_verdicts),
                                       cmocka_unit_test(test_new_level), cmocka_unit_test(test_json)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
