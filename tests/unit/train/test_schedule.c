/* Schedules against their closed forms. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "train/config.h"
#include "train/schedule.h"

static fm_schedule make(const char *name) {
    fm_schedule s = {.type = fm_schedule_find(name),
                     .n_steps = 1000,
                     .warmup_steps = 100,
                     .min_ratio = 0.1,
                     .decay_ratio = 0.2,
                     .gamma = 0.5,
                     .milestone = {0.5, 800},
                     .n_milestones = 2};
    assert_non_null(s.type);
    return s;
}

static void near(double a, double b) {
    if (!(fabs(a - b) < 1e-12)) {
        fail_msg("%.15g, expected %.15g", a, b);
    }
}

static void test_warmup(void **state) {
    (void)state;
    const char *const names[] = {"cosine", "linear", "constant", "wsd", "multistep"};
    for (int i = 0; i < 5; i++) {
        fm_schedule s = make(names[i]);
        near(fm_schedule_factor(&s, 0), 0.01);
        near(fm_schedule_factor(&s, 49), 0.5);
        near(fm_schedule_factor(&s, 99), 1);
        near(fm_schedule_factor(&s, 100), 1);
        s.warmup_steps = 0;
        near(fm_schedule_factor(&s, 0), 1);
    }
    assert_null(fm_schedule_find("cosin"));
}

static void test_cosine(void **state) {
    (void)state;
    fm_schedule s = make("cosine");
    near(fm_schedule_factor(&s, 550), 0.55);
    near(fm_schedule_factor(&s, 325), 0.1 + 0.9 * (0.5 + 0.25 * sqrt(2.0)));
    near(fm_schedule_factor(&s, 1000), 0.1);
    near(fm_schedule_factor(&s, 2000), 0.1); /* past the end */
}

static void test_others(void **state) {
    (void)state;
    fm_schedule s = make("linear");
    near(fm_schedule_factor(&s, 550), 0.55);
    near(fm_schedule_factor(&s, 1000), 0.1);
    s = make("constant");
    near(fm_schedule_factor(&s, 999), 1);
    s = make("wsd");
    near(fm_schedule_factor(&s, 800), 1);
    near(fm_schedule_factor(&s, 900), 0.55);
    near(fm_schedule_factor(&s, 1000), 0.1);
    s = make("multistep");
    near(fm_schedule_factor(&s, 499), 1);
    near(fm_schedule_factor(&s, 500), 0.5);
    near(fm_schedule_factor(&s, 799), 0.5);
    near(fm_schedule_factor(&s, 800), 0.25);
}

static void test_default_rate(void **state) {
    (void)state;
    near(fm_train_default_rate(125000000, true), 6e-4);
    near(fm_train_default_rate(1000, true), 1e-3);
    assert_true(fm_train_default_rate(1300000000, true) < 2.4e-4);
    assert_true(fm_train_default_rate(1300000000, true) > 2.0e-4);
    near(fm_train_default_rate(1300000000, false), 3e-5);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_warmup), cmocka_unit_test(test_cosine),
                                       cmocka_unit_test(test_others), cmocka_unit_test(test_default_rate)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
