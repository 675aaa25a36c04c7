/* The kernel tables: what must be there, and products by each provider. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "backend/cpu/cpu.h"

/* Every kernel has a reference for f64 and f32, and all but the optimizers for bf16 and f16 too. */
static void reference_is_complete(void **state) {
    (void)state;
    const fm_backend *b = fm_cpu_backend_isa(FM_ISA_REF);
    for (int k = 0; k < FM_KERNEL_COUNT; k++) {
        assert_non_null(b->kernel[k][FM_F64]);
        assert_non_null(b->kernel[k][FM_F32]);
        if (k < FM_K_adamw) {
            assert_non_null(b->kernel[k][FM_BF16]);
            assert_non_null(b->kernel[k][FM_F16]);
        }
        assert_null(b->kernel[k][FM_Q4_K]);
    }
    assert_true(b->matmul_pack_bytes == NULL);
}

/* Work of a few numbers a token, in the reference's form everywhere. */
static bool reference_serves(fm_kernel k) {
    static const fm_kernel small[] = {FM_K_route_fwd,   FM_K_route_bwd,   FM_K_balance_fwd,
                                      FM_K_balance_bwd, FM_K_expert_sort, FM_K_pointwise_loss};
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        if (small[i] == k) {
            return true;
        }
    }
    return false;
}

/* Sets with vectors have every other kernel for f32, and for bf16 but the optimizers. */
static void sets_are_complete(void **state) {
    (void)state;
    for (int isa = FM_ISA_REF + 1; isa < FM_ISA_COUNT; isa++) {
        const fm_backend *b = fm_cpu_backend_isa((fm_isa)isa);
        for (int k = 0; b && k < FM_KERNEL_COUNT; k++) {
            if (reference_serves((fm_kernel)k)) {
                continue;
            }
            if (!b->kernel[k][FM_F32] || (k < FM_K_adamw && !b->kernel[k][FM_BF16])) {
                fail_msg("%s lacks %s", b->name, fm_kernel_name((fm_kernel)k));
            }
        }
    }
}

/* The table in use has all that the reference has. Products go through the provider that main() chose. */
static void table_in_use(void **state) {
    (void)state;
    const fm_backend *b = fm_cpu_backend(), *ref = fm_cpu_backend_isa(FM_ISA_REF);
    for (int k = 0; k < FM_KERNEL_COUNT; k++) {
        for (int d = 0; d < FM_DTYPE_COUNT; d++) {
            assert_true(b->kernel[k][d] || !ref->kernel[k][d]);
        }
    }
    enum { M = 33, N = 47, K = 65 };
    float x[M * K], w[N * K], y[M * N], want[M * N];
    for (int i = 0; i < M * K; i++) {
        x[i] = sinf((float)i);
    }
    for (int i = 0; i < N * K; i++) {
        w[i] = cosf((float)i);
    }
    fm_exec ex = {NULL, NULL};
    assert_int_equal(fm_scratch_new(&ex.scratch), FM_OK);
    assert_int_equal(fm_pool_new(&ex.pool, 2), FM_OK);
    for (int k = K; k >= 0; k -= K) { /* the empty sum too */
        fm_matmul_args a = {.m = M,
                            .n = N,
                            .k = k,
                            .a = x,
                            .lda = K,
                            .b = w,
                            .ldb = K,
                            .trans_b = true,
                            .c = want,
                            .ldc = N,
                            .c_dtype = FM_F32};
        assert_int_equal(fm_kernel_run(ref, &ex, FM_K_matmul, FM_F32, &a), FM_OK);
        a.c = y;
        assert_int_equal(fm_kernel_run(b, &ex, FM_K_matmul, FM_F32, &a), FM_OK);
        for (int i = 0; i < M * N; i++) {
            if (!(fabsf(y[i] - want[i]) <= 4e-5F)) {
                fail_msg("%s: k %d [%d] is %g, expected %g", b->name, k, i, (double)y[i], (double)want[i]);
            }
        }
    }
    fm_pool_free(ex.pool);
    fm_scratch_free(ex.scratch);
}

int main(void) {
    setenv("FATHOM_MATMUL", "onednn", 0); /* before the first use of the table; falls back where it is missing */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_is_complete),
        cmocka_unit_test(sets_are_complete),
        cmocka_unit_test(table_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
