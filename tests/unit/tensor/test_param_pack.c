/* Packed weights: when, and the same bytes whichever way they are made. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "tensor/param.h"

static fm_param *add(fm_params *ps, const char *name, int64_t n, int64_t k) {
    fm_param *p;
    assert_int_equal(fm_params_add(ps, &(fm_param_desc){.name = name, .n_dims = 2, .dim = {n, k}}, &p), FM_OK);
    return p;
}

static void *numbers(fm_dtype d, int64_t n) {
    void *v = fm_malloc((size_t)fm_dtype_bytes(d, n));
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++) {
        fm_store_from_f64(d, v, i, (double)(i * 37 % 101) - 50);
    }
    return v;
}

/* bf16 weights packed as f32 block by block, without a copy of the whole, against packing an f32 weight. */
static void test_converted(void **state) {
    (void)state;
    const fm_backend *b = fm_cpu_backend();
    static const int64_t rows[] = {1, 7, 959, 960, 961, 2050};
    if (!b->matmul_pack_bytes) {
        skip(); /* the reference kernels pack nothing */
    }
    fm_scratch *scratch;
    assert_int_equal(fm_scratch_new(&scratch), FM_OK);
    fm_exec x = {.scratch = scratch};
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        int64_t n = rows[i], k = 33;
        fm_params *ps;
        assert_int_equal(fm_params_new(&ps), FM_OK);
        fm_param *narrow = add(ps, "narrow", n, k), *wide = add(ps, "wide", n, k);
        void *a = numbers(FM_BF16, n * k), *w = numbers(FM_F32, n * k), *pa, *pw;
        fm_param_set_external(narrow, FM_BF16, a, FM_STORAGE_EXTERNAL);
        fm_param_set_external(wide, FM_F32, w, FM_STORAGE_EXTERNAL);
        assert_int_equal(fm_param_packed(b, &x, narrow, FM_F32, &pa), FM_OK);
        assert_int_equal(fm_param_packed(b, &x, wide, FM_F32, &pw), FM_OK);
        assert_null(narrow->copy.data);
        assert_memory_equal(pa, pw, (size_t)b->matmul_pack_bytes(FM_F32, n, k));
        fm_params_free(ps);
        fm_free(a);
        fm_free(w);
    }
    fm_scratch_free(scratch);
}

/* Large weights in a map are read there at first; small ones, and those in memory, are packed at once. */
static void test_late(void **state) {
    (void)state;
    const fm_backend *b = fm_cpu_backend();
    if (!b->matmul_pack_bytes) {
        skip();
    }
    fm_scratch *scratch;
    fm_params *ps;
    assert_int_equal(fm_scratch_new(&scratch), FM_OK);
    assert_int_equal(fm_params_new(&ps), FM_OK);
    fm_exec x = {.scratch = scratch};
    int64_t n = 600, k = 600;
    void *data, *packed, *again;
    /* pages of its own, as releasing them clears memory that is no file */
    assert_int_equal(fm_pages_alloc(&data, (size_t)(n * k * 4), FM_MEM_WEIGHTS), FM_OK);
    fm_param *large = add(ps, "large", n, k), *small = add(ps, "small", 60, 60), *heap = add(ps, "heap", n, k);
    fm_param_set_external(large, FM_F32, data, FM_STORAGE_MAP);
    fm_param_set_external(small, FM_F32, data, FM_STORAGE_MAP);
    fm_param_set_external(heap, FM_F32, data, FM_STORAGE_HEAP);
    int uses = 0;
    do {
        assert_int_equal(fm_param_packed(b, &x, large, FM_F32, &packed), FM_OK);
        uses++;
    } while (!packed && uses < 100);
    assert_true(uses > 1 && uses < 20);
    assert_int_equal(fm_param_packed(b, &x, large, FM_F32, &again), FM_OK);
    assert_ptr_equal(packed, again);
    assert_int_equal(fm_param_packed(b, &x, small, FM_F32, &packed), FM_OK);
    assert_non_null(packed);
    assert_int_equal(fm_param_packed(b, &x, heap, FM_F32, &packed), FM_OK);
    assert_non_null(packed);
    fm_params_free(ps);
    fm_pages_free(data, (size_t)(n * k * 4), FM_MEM_WEIGHTS);
    fm_scratch_free(scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_converted), cmocka_unit_test(test_late)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
