/* Running kernels, scratch, profile. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "backend/backend.h"

static char *taken[64];

/* Takes args->n blocks of 100 000 bytes, all of which must stay usable at once. */
typedef struct take_args {
    int n;
} take_args;

static fm_status take_kernel(const fm_exec *x, const void *args) {
    int n = ((const take_args *)args)->n;
    for (int i = 0; i < n; i++) {
        taken[i] = fm_scratch_take(x, 100000);
        if (!taken[i]) {
            return FM_ERR_NO_MEMORY;
        }
        assert_int_equal((uintptr_t)taken[i] % 64, 0);
        memset(taken[i], i, 100000);
    }
    for (int i = 0; i < n; i++) {
        assert_int_equal(taken[i][0], i);
        assert_int_equal(taken[i][99999], i);
    }
    return FM_OK;
}

/* A kernel that runs another one keeps its own scratch. */
static fm_status nested_kernel(const fm_exec *x, const void *args) {
    fm_backend b = {.name = "test"};
    b.kernel[FM_K_add][FM_F32] = take_kernel;
    char *mine = fm_scratch_take(x, 1000);
    assert_non_null(mine);
    memset(mine, 77, 1000);
    assert_int_equal(fm_kernel_run(&b, x, FM_K_add, FM_F32, args), FM_OK);
    assert_int_equal(mine[0], 77);
    assert_int_equal(mine[999], 77);
    char *again = fm_scratch_take(x, 1000);
    assert_true(again >= mine + 1000 || again + 1000 <= mine);
    return FM_OK;
}

static void scratch_is_reused(void **state) {
    (void)state;
    fm_backend b = {.name = "test"};
    b.kernel[FM_K_add][FM_F32] = take_kernel;
    b.kernel[FM_K_mul][FM_F32] = nested_kernel;
    fm_exec x = {NULL, NULL};
    assert_int_equal(fm_scratch_new(&x.scratch), FM_OK);
    assert_int_equal(fm_kernel_run(&b, &x, FM_K_add, FM_F32, &(take_args){40}), FM_OK);
    int64_t high = fm_scratch_high_water(x.scratch);
    assert_true(high >= 40 * 100000);
    assert_int_equal(fm_kernel_run(&b, &x, FM_K_add, FM_F32, &(take_args){40}), FM_OK);
    char *first = taken[0];
    assert_int_equal(fm_ledger_current(FM_MEM_SCRATCH) >= high, 1);
    assert_int_equal(fm_kernel_run(&b, &x, FM_K_add, FM_F32, &(take_args){40}), FM_OK);
    assert_ptr_equal(first, taken[0]);
    assert_int_equal(fm_scratch_high_water(x.scratch), high);
    assert_int_equal(fm_kernel_run(&b, &x, FM_K_mul, FM_F32, &(take_args){60}), FM_OK);
    assert_null(fm_scratch_take(&x, -1));
    assert_null(fm_scratch_take(&x, INT64_MAX));
    fm_scratch_free(x.scratch);
    assert_int_equal(fm_ledger_current(FM_MEM_SCRATCH), 0);
}

static void no_memory(void **state) {
    (void)state;
    fm_backend b = {.name = "test"};
    b.kernel[FM_K_add][FM_F32] = take_kernel;
    fm_exec x = {NULL, NULL};
    fm_mem_fail_at(1, false);
    assert_int_equal(fm_scratch_new(&x.scratch), FM_ERR_NO_MEMORY);
    fm_mem_fail_at(0, false);
    assert_int_equal(fm_scratch_new(&x.scratch), FM_OK);
    for (int64_t n = 1; n < 4; n++) {
        fm_mem_fail_at(n, true);
        assert_int_equal(fm_kernel_run(&b, &x, FM_K_add, FM_F32, &(take_args){30}), FM_ERR_NO_MEMORY);
        fm_mem_fail_at(0, false);
    }
    assert_int_equal(fm_kernel_run(&b, &x, FM_K_add, FM_F32, &(take_args){30}), FM_OK);
    fm_scratch_free(x.scratch);
}

static void missing_kernel_is_named(void **state) {
    (void)state;
    fm_exec x = {NULL, NULL};
    assert_int_equal(fm_scratch_new(&x.scratch), FM_OK);
    assert_int_equal(fm_kernel_run(&fm_meta_backend, &x, FM_K_rope, FM_BF16, NULL), FM_ERR_UNSUPPORTED);
    assert_non_null(strstr(fm_error_get().message, "rope"));
    assert_non_null(strstr(fm_error_get().message, "bf16"));
    assert_non_null(strstr(fm_error_get().message, "meta"));
    fm_scratch_free(x.scratch);
}

static void profile(void **state) {
    (void)state;
    fm_backend b = {.name = "test"};
    b.kernel[FM_K_add][FM_F32] = take_kernel;
    fm_exec x = {NULL, NULL};
    assert_int_equal(fm_scratch_new(&x.scratch), FM_OK);
    fm_profile_reset();
    assert_int_equal(fm_kernel_run(&b, &x, FM_K_add, FM_F32, &(take_args){20}), FM_OK);
    assert_int_equal(fm_profile_get(FM_K_add).calls, 0);
    fm_profile_enable(true);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fm_kernel_run(&b, &x, FM_K_add, FM_F32, &(take_args){20}), FM_OK);
    }
    fm_profile_enable(false);
    assert_int_equal(fm_profile_get(FM_K_add).calls, 3);
    assert_true(fm_profile_get(FM_K_add).seconds > 0.0);
    assert_int_equal(fm_profile_get(FM_K_mul).calls, 0);
    fm_scratch_free(x.scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scratch_is_reused),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(missing_kernel_is_named),
        cmocka_unit_test(profile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
