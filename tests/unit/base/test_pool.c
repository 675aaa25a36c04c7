#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/file.h"
#include "base/pool.h"

enum { MAX_PARTS = 257 };

typedef struct job {
    fm_pool *pool;
    int hits[MAX_PARTS], thread[MAX_PARTS];
    int64_t fail_from, fail_step;
    atomic_int running;
} job;

static fm_status mark(void *arg, int64_t part, int64_t n_parts, int thread) {
    job *j = arg;
    FM_UNUSED(n_parts);
    j->hits[part]++;
    j->thread[part] = thread;
    if (j->fail_step && part >= j->fail_from && (part - j->fail_from) % j->fail_step == 0) {
        FM_FAIL(FM_ERR_DATA, "part %d", (int)part);
    }
    return FM_OK;
}

static fm_status sleepy(void *arg, int64_t part, int64_t n_parts, int thread) {
    if (part % 3 == 0) {
        nanosleep(&(struct timespec){0, 300000}, NULL);
    }
    return mark(arg, part, n_parts, thread);
}

static void test_run(void **state) {
    FM_UNUSED(state);
    static const int64_t counts[] = {0, 1, 2, 3, 4, 5, 7, 64, 257};
    for (int n = 1; n <= 5; n++) {
        fm_pool *p;
        assert_int_equal(fm_pool_new(&p, n), FM_OK);
        assert_int_equal(fm_pool_threads(p), n);
        for (int rep = 0; rep < 40; rep++) {
            int64_t parts = counts[rep % 9];
            job j = {.pool = p};
            fm_part_fn fn = rep % 7 == 0 ? sleepy : mark;
            assert_int_equal(rep % 2 ? fm_pool_run(p, parts, fn, &j) : fm_pool_run_dynamic(p, parts, fn, &j), FM_OK);
            for (int64_t i = 0; i < MAX_PARTS; i++) {
                assert_int_equal(j.hits[i], i < parts);
                if (rep % 2 && i < parts && parts > 1) {
                    assert_int_equal(j.thread[i], i * n / parts);
                }
                assert_in_range(j.thread[i], 0, n - 1);
            }
        }
        fm_pool_free(p);
    }
    fm_pool_free(NULL);
}

static void test_failure(void **state) {
    FM_UNUSED(state);
    fm_pool *p;
    assert_int_equal(fm_pool_new(&p, 4), FM_OK);
    for (int rep = 0; rep < 50; rep++) {
        job j = {.pool = p, .fail_from = 20 + rep, .fail_step = 3};
        fm_status s = rep % 2 ? fm_pool_run(p, 200, mark, &j) : fm_pool_run_dynamic(p, 200, mark, &j);
        assert_int_equal(s, FM_ERR_DATA);
        char want[32];
        snprintf(want, sizeof want, "part %d", 20 + rep);
        assert_string_equal(fm_error_get().message, want); /* the lowest, whichever thread was first */
    }
    job j = {.pool = p};
    assert_int_equal(fm_pool_run(p, 10, mark, &j), FM_OK);
    fm_pool_free(p);
}

static fm_status nested(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    job *outer = arg;
    job inner = {.pool = outer->pool};
    FM_TRY(fm_pool_run(outer->pool, 9, mark, &inner));
    for (int i = 0; i < 9; i++) {
        if (inner.hits[i] != 1 || inner.thread[i] != thread) {
            FM_FAIL(FM_ERR_STATE, "nested part ran elsewhere");
        }
    }
    outer->hits[part]++;
    return FM_OK;
}

static void test_nested_and_null(void **state) {
    FM_UNUSED(state);
    fm_pool *p;
    assert_int_equal(fm_pool_new(&p, 3), FM_OK);
    job j = {.pool = p};
    assert_int_equal(fm_pool_run(p, 12, nested, &j), FM_OK);
    fm_pool_free(p);
    job k = {0};
    assert_int_equal(fm_pool_threads(NULL), 1);
    assert_int_equal(fm_pool_run(NULL, 5, mark, &k), FM_OK);
    assert_int_equal(k.hits[4], 1);
}

static void test_many_short_runs(void **state) {
    FM_UNUSED(state);
    fm_pool *p;
    assert_int_equal(fm_pool_new(&p, 2), FM_OK);
    static job j;
    double t = fm_now();
    for (int i = 0; i < 20000; i++) {
        assert_int_equal(fm_pool_run(p, 2, mark, &j), FM_OK);
        if (i % 5000 == 0) {
            nanosleep(&(struct timespec){0, 2000000}, NULL); /* the workers fall asleep in between */
        }
    }
    print_message("%.2f us a run\n", (fm_now() - t) / 20000 * 1e6);
    assert_int_equal(j.hits[0], 20000);
    assert_int_equal(j.hits[1], 20000);
    fm_pool_free(p);
}

static void test_split(void **state) {
    FM_UNUSED(state);
    for (int64_t n = 0; n < 70; n++) {
        for (int64_t parts = 1; parts < 9; parts++) {
            for (int64_t align = 1; align < 20; align += 3) {
                int64_t at = 0, least = INT64_MAX, most = 0;
                for (int64_t i = 0; i < parts; i++) {
                    int64_t b, e;
                    fm_split(n, i, parts, align, &b, &e);
                    assert_int_equal(b, at);
                    assert_true(e >= b && (e % align == 0 || e == n));
                    int64_t units = (e - b + align - 1) / align;
                    least = FM_MIN(least, units);
                    most = FM_MAX(most, units);
                    at = e;
                }
                assert_int_equal(at, n);
                assert_true(most - least <= 1);
            }
        }
    }
}

static void test_environment(void **state) {
    FM_UNUSED(state);
    fm_pool *p;
    setenv("FATHOM_THREADS", "3", 1);
    assert_int_equal(fm_pool_new(&p, 0), FM_OK);
    assert_int_equal(fm_pool_threads(p), 3);
    fm_pool_free(p);
    setenv("FATHOM_THREADS", "many", 1);
    assert_int_equal(fm_pool_new(&p, 0), FM_ERR_CONFIG);
    assert_null(p);
    unsetenv("FATHOM_THREADS");
    assert_int_equal(fm_pool_new(&p, -1), FM_ERR_ARGUMENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_nested_and_null),
        cmocka_unit_test(test_many_short_runs),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
