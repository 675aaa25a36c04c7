#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/cpu.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"

static void test_small(void **state) {
    FM_UNUSED(state);
    int64_t before = fm_ledger_current(FM_MEM_MISC);
    char *a = fm_malloc(0), *b = fm_malloc(0), *c = fm_strndup("hello", 3);
    assert_non_null(a);
    assert_ptr_not_equal(a, b);
    assert_string_equal(c, "hel");
    c = fm_realloc(c, 1000);
    assert_string_equal(c, "hel");
    assert_true(fm_ledger_current(FM_MEM_MISC) >= before + 1000);
    fm_free(a);
    fm_free(b);
    fm_free(c);
    fm_free(NULL);
    assert_int_equal(fm_ledger_current(FM_MEM_MISC), before);
    assert_null(fm_calloc(SIZE_MAX / 2, 3));
    assert_null(fm_malloc(SIZE_MAX));
}

static void test_grow(void **state) {
    FM_UNUSED(state);
    uint64_t *v = NULL;
    size_t cap = 0;
    for (size_t i = 0; i < 1000; i++) {
        void *p = v;
        assert_int_equal(fm_grow(&p, &cap, i + 1, sizeof *v), FM_OK);
        v = p;
        v[i] = i * i;
    }
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(v[i], i * i);
    }
    void *p = v;
    assert_int_equal(fm_grow(&p, &cap, SIZE_MAX / 4, sizeof *v), FM_ERR_NO_MEMORY);
    assert_ptr_equal(p, v);
    fm_free(v);
}

static void test_pages(void **state) {
    FM_UNUSED(state);
    size_t sizes[] = {0, 1, 4096, 5000, (2u << 20) - 1, 2u << 20, (7u << 20) + 123};
    for (size_t i = 0; i < FM_ARRAY_LEN(sizes); i++) {
        void *p;
        assert_int_equal(fm_pages_alloc(&p, sizes[i], FM_MEM_KV), FM_OK);
        assert_int_equal(fm_ledger_current(FM_MEM_KV), (int64_t)sizes[i]);
        assert_int_equal((uintptr_t)p % (sizes[i] >= 2u << 20 ? 2u << 20 : 4096u), 0);
        unsigned char *b = p;
        for (size_t k = 0; k < sizes[i]; k += 511) {
            assert_int_equal(b[k], 0);
            b[k] = 1;
        }
        fm_pages_free(p, sizes[i], FM_MEM_KV);
    }
    fm_pages_free(NULL, 10, FM_MEM_KV);
    assert_int_equal(fm_ledger_current(FM_MEM_KV), 0);
    assert_int_equal(fm_ledger_peak(FM_MEM_KV), (7u << 20) + 123);
    fm_ledger_reset_peak();
    assert_int_equal(fm_ledger_peak(FM_MEM_KV), 0);
    void *p;
    assert_int_equal(fm_pages_alloc(&p, SIZE_MAX, FM_MEM_KV), FM_ERR_NO_MEMORY);
    assert_null(p);
}

static void test_injection(void **state) {
    FM_UNUSED(state);
    fm_mem_fail_at(2, false);
    void *a = fm_malloc(1), *b = fm_malloc(1), *c = fm_malloc(1);
    assert_int_equal(fm_mem_alloc_count(), 3);
    fm_mem_fail_at(0, false);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    fm_mem_fail_at(1, true);
    void *p;
    fm_status s = fm_pages_alloc(&p, 100, FM_MEM_MISC);
    void *d = fm_calloc(1, 1);
    fm_mem_fail_at(0, false);
    assert_int_equal(s, FM_ERR_NO_MEMORY);
    assert_null(d);
    fm_free(a);
    fm_free(c);
}

static void test_rss(void **state) {
    FM_UNUSED(state);
    const size_t n = 64u << 20;
    int64_t before = fm_mem_rss_anon();
    assert_true(before > 0);
    void *p;
    assert_int_equal(fm_pages_alloc(&p, n, FM_MEM_ARENA), FM_OK);
    memset(p, 1, n);
    assert_true(fm_mem_rss_anon() >= before + (int64_t)n * 9 / 10);
    fm_pages_free(p, n, FM_MEM_ARENA);
    assert_true(fm_mem_rss_anon() < before + (int64_t)n / 2);
    assert_true(fm_mem_rss_anon_peak() >= before + (int64_t)n * 9 / 10);
    assert_true(fm_mem_total() > 0);
    assert_true(fm_mem_available() > 0 && fm_mem_available() <= fm_mem_total());
}

static void test_cpu(void **state) {
    FM_UNUSED(state);
    const fm_cpu_info *c = fm_cpu_get();
    assert_true(c->n_cpus >= 1 && c->n_cpus == fm_cpu_count());
    assert_true(strlen(c->model) > 0);
    assert_string_equal(fm_isa_name(FM_ISA_AVX512), "avx512");
#if defined(__x86_64__)
    /* The compiler's own run-time check is the second opinion. */
    assert_int_equal(c->avx2, __builtin_cpu_supports("avx2") != 0);
    assert_int_equal(c->fma, __builtin_cpu_supports("fma") != 0);
    assert_int_equal(c->avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"));
    assert_int_equal(c->avx512_vnni, __builtin_cpu_supports("avx512vnni") != 0);
    assert_int_equal(c->avx512_bf16, __builtin_cpu_supports("avx512bf16") != 0);
#elif defined(__aarch64__)
    assert_true(c->neon);
#endif
    for (int t = 0; t < FM_MEM_TAG_COUNT; t++) {
        assert_true(strlen(fm_mem_tag_name((fm_mem_tag)t)) > 0);
    }
}

/* Blocks of all sizes beside each other: aligned, zeroed, apart, and gone when freed in any order. */
static void test_dense(void **state) {
    (void)state;
    enum { N = 40 };
    static const size_t sizes[] = {1, 64, 65, 4096, 1 << 20, (3 << 20) + 5, (size_t)70 << 20};
    uint8_t *block[N];
    size_t size[N];
    int64_t before = fm_ledger_current(FM_MEM_PACKED), total = 0;
    for (int i = 0; i < N; i++) {
        void *p;
        size[i] = i == 17 ? sizes[6] : sizes[i % 6];
        assert_int_equal(fm_dense_alloc(&p, size[i], FM_MEM_PACKED), FM_OK);
        block[i] = p;
        total += (int64_t)size[i];
        assert_int_equal((uintptr_t)p % 64, 0);
        assert_int_equal(block[i][0] | block[i][size[i] / 2] | block[i][size[i] - 1], 0);
        memset(block[i], i + 1, size[i]);
    }
    assert_int_equal(fm_ledger_current(FM_MEM_PACKED) - before, total);
    for (int round = 0; round < 2; round++) {
        for (int i = round; i < N; i += 2) { /* every other one: neighbours keep their bytes */
            for (size_t at = 0; at < size[i]; at += at + 61 < size[i] ? 61 : 1) {
                assert_int_equal(block[i][at], i + 1);
            }
            fm_dense_free(block[i], size[i], FM_MEM_PACKED);
        }
    }
    assert_int_equal(fm_ledger_current(FM_MEM_PACKED), before);
    fm_dense_free(NULL, 10, FM_MEM_PACKED);
    void *p;
    assert_int_equal(fm_dense_alloc(&p, SIZE_MAX, FM_MEM_PACKED), FM_ERR_NO_MEMORY);
    assert_null(p);
    for (int n = 1; n <= 2; n++) { /* the block, and the list of its shelf */
        fm_mem_fail_at(n, false);
        assert_int_equal(fm_dense_alloc(&p, 100, FM_MEM_PACKED), FM_ERR_NO_MEMORY);
        assert_null(p);
        fm_mem_fail_at(0, false);
    }
    assert_int_equal(fm_ledger_current(FM_MEM_PACKED), before);
    assert_int_equal(fm_dense_alloc(&p, 100, FM_MEM_PACKED), FM_OK);
    fm_dense_free(p, 100, FM_MEM_PACKED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),     cmocka_unit_test(test_grow), cmocka_unit_test(test_pages),
        cmocka_unit_test(test_injection), cmocka_unit_test(test_rss),  cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_dense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
