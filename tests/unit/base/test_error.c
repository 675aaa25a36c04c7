#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"

static fm_status inner(void) {
    FM_FAIL(FM_ERR_SHAPE, "w.q: expected [%d,%d], found [%d]", 4, 8, 3);
}

static fm_status outer(void) {
    FM_TRY(inner());
    return FM_OK;
}

static void test_record(void **state) {
    FM_UNUSED(state);
    fm_error_clear();
    assert_int_equal(fm_error_get().status, FM_OK);
    assert_string_equal(fm_error_get().message, "");
    assert_int_equal(outer(), FM_ERR_SHAPE);
    fm_error e = fm_error_get();
    assert_string_equal(e.message, "w.q: expected [4,8], found [3]");
    assert_string_equal(e.hint, "");
    assert_non_null(strstr(e.file, "test_error.c"));
    assert_true(e.line > 0);
    assert_int_equal(fm_error_hint("use %s", "another"), FM_ERR_SHAPE);
    assert_int_equal(fm_error_context("while reading '%s'", "x"), FM_ERR_SHAPE);
    assert_string_equal(fm_error_get().message, "while reading 'x': w.q: expected [4,8], found [3]");
    assert_string_equal(fm_error_get().hint, "use another");
    /* The old text may be an argument of the new one. */
    fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "again: %s", fm_error_get().message);
    assert_string_equal(fm_error_get().message, "again: while reading 'x': w.q: expected [4,8], found [3]");
    assert_string_equal(fm_error_get().hint, "");
}

static void test_long_text_is_cut(void **state) {
    FM_UNUSED(state);
    char big[3000];
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "%s", big);
    assert_int_equal(strlen(fm_error_get().message), 1023);
    fm_error_context("head");
    assert_int_equal(strlen(fm_error_get().message), 1023);
    fm_error_context("%s", big);
    assert_int_equal(strlen(fm_error_get().message), 1023);
}

static void *thread_main(void *arg) {
    fm_error_record *r = arg;
    if (fm_error_get().status == FM_OK) { /* a fresh thread has a record of its own */
        (void)inner();
        fm_error_save(r);
    }
    return NULL;
}

static void test_threads(void **state) {
    FM_UNUSED(state);
    fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "mine");
    fm_error_record r;
    memset(&r, 0, sizeof r);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, thread_main, &r), 0);
    pthread_join(t, NULL);
    assert_string_equal(fm_error_get().message, "mine");
    fm_error_restore(&r);
    assert_int_equal(fm_error_get().status, FM_ERR_SHAPE);
}

static void test_tables(void **state) {
    FM_UNUSED(state);
    assert_string_equal(fm_status_name(FM_ERR_DATA), "FM_ERR_DATA");
    assert_string_equal(fm_status_text(FM_OK), "success");
    assert_int_equal(fm_status_exit_code(FM_ERR_DATA), 3);
    assert_int_equal(fm_status_exit_code((fm_status)999), 1);
    assert_non_null(fm_status_name((fm_status)999));
}

static char logged[64];
static int n_logged, n_progress;
static double progress_done;

static void log_sink(void *user, fm_log_level level, const char *text) {
    FM_UNUSED(user);
    n_logged++;
    strncpy(logged, text, sizeof logged - 1);
    assert_int_equal(level, FM_LOG_WARN);
}

static void progress_sink(void *user, const fm_progress *p) {
    FM_UNUSED(user);
    n_progress++;
    progress_done = p->done;
    assert_string_equal(p->unit, "rows");
}

static void test_log_and_progress(void **state) {
    FM_UNUSED(state);
    fm_warn("nobody listens");
    fm_log_set_sink(log_sink, NULL);
    fm_warn("%d things", 3);
    fm_log_set_sink(NULL, NULL);
    assert_int_equal(n_logged, 1);
    assert_string_equal(logged, "3 things");

    fm_meter m;
    fm_progress_set_sink(progress_sink, NULL);
    fm_meter_start(&m, "reading", "rows", 1000);
    for (int i = 0; i < 1000; i++) {
        fm_meter_update(&m, i, "");
    }
    fm_meter_end(&m, 1000, NULL);
    fm_progress_set_sink(NULL, NULL);
    assert_in_range(n_progress, 1, 5); /* a thousand quick updates are not a thousand reports */
    assert_true(progress_done == 1000);

    assert_false(fm_cancelled());
    fm_cancel();
    assert_true(fm_cancelled());
    fm_cancel_reset();
    assert_false(fm_cancelled());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record), cmocka_unit_test(test_long_text_is_cut), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_tables), cmocka_unit_test(test_log_and_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
