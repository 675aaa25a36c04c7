/* Matrix products of every kernel set against sums in double precision, and the promises on bits: a row
 * does not depend on the number of rows, on packing, or on threads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/error.h"
#include "../../quick.h"

#define PAD 5 /* elements between rows that must stay as they are */

typedef struct shape {
    int64_t m, n, k;
} shape;

/* How a product is asked for. */
typedef struct form {
    bool trans_a, trans_b, c_is_acc, accumulate, bias, packed;
} form;

static uint32_t seed = 1;
static uint32_t next(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}
/* Roughly normal, about one in size. */
static double draw(void) {
    double s = 0;
    for (int i = 0; i < 4; i++) {
        s += (double)(next() & 0xffff) / 65536.0 - 0.5;
    }
    return s * 1.7;
}

/* Exactly sized, so that a sanitizer sees a read or write past the end. */
static void *new_values(fm_dtype d, int64_t n) {
    int64_t bytes = fm_dtype_bytes(d, n);
    void *p = malloc((size_t)(bytes > 0 ? bytes : 1));
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++) {
        fm_store_from_f64(d, p, i, draw());
    }
    return p;
}

typedef struct bench {
    fm_pool *pool;
    fm_scratch *scratch;
    fm_exec exec;
} bench;

static void bench_open(bench *b, int threads) {
    assert_int_equal(fm_pool_new(&b->pool, threads), FM_OK);
    assert_int_equal(fm_scratch_new(&b->scratch), FM_OK);
    b->exec = (fm_exec){b->pool, b->scratch};
}
static void bench_close(bench *b) {
    fm_scratch_free(b->scratch);
    fm_pool_free(b->pool);
}

static void *pack(const fm_backend *be, const fm_exec *x, fm_dtype d, int64_t n, int64_t k, const void *b, int64_t ldb,
                  bool trans_b) {
    int64_t bytes = be->matmul_pack_bytes(d, n, k);
    assert_true(bytes > 0 || n == 0 || k == 0);
    void *p = malloc((size_t)(bytes > 0 ? bytes : 1));
    assert_non_null(p);
    assert_int_equal(be->matmul_pack(x, d, n, k, b, ldb, trans_b, p), FM_OK);
    return p;
}

/* op(X) as dense rows in double; transposed on request so that sums run over adjacent elements. */
static double *widen(fm_dtype d, const void *p, bool trans, int64_t ld, int64_t rows, int64_t cols) {
    double *out = malloc(sizeof *out * (size_t)(rows * cols + 1));
    assert_non_null(out);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) {
            out[i * cols + j] = fm_load_as_f64(d, p, trans ? j * ld + i : i * ld + j);
        }
    }
    return out;
}

/* A matrix of rows x cols (or transposed storage) with a row stride a little larger than needed; the last row
 * has no padding. */
static void *new_matrix(fm_dtype d, int64_t rows, int64_t cols, bool trans, int64_t *ld) {
    int64_t r = trans ? cols : rows, c = trans ? rows : cols;
    *ld = c + PAD;
    return new_values(d, r > 0 ? (r - 1) * *ld + c : 0);
}

static void check_one(const fm_backend *be, const fm_exec *x, fm_dtype d, shape s, form f) {
    fm_dtype cd = f.c_is_acc ? FM_F32 : d;
    int64_t lda, ldb, ldc;
    void *a = new_matrix(d, s.m, s.k, f.trans_a, &lda);
    void *b = new_matrix(d, s.k, s.n, f.trans_b, &ldb);
    void *c = new_matrix(cd, s.m, s.n, false, &ldc);
    int64_t c_len = s.m > 0 ? (s.m - 1) * ldc + s.n : 0;
    void *c_old = malloc((size_t)fm_dtype_bytes(cd, c_len + 1));
    assert_non_null(c_old);
    memcpy(c_old, c, (size_t)fm_dtype_bytes(cd, c_len));
    void *bias = f.bias ? new_values(d, s.n) : NULL;
    void *packed = f.packed ? pack(be, x, d, s.n, s.k, b, ldb, f.trans_b) : NULL;
    fm_matmul_args g = {.m = s.m,
                        .n = s.n,
                        .k = s.k,
                        .a = a,
                        .lda = lda,
                        .trans_a = f.trans_a,
                        .b = b,
                        .ldb = ldb,
                        .trans_b = f.trans_b,
                        .c = c,
                        .ldc = ldc,
                        .c_dtype = cd,
                        .accumulate = f.accumulate,
                        .bias = bias,
                        .b_packed = packed};
    assert_int_equal(fm_kernel_run(be, x, FM_K_matmul, d, &g), FM_OK);
    double *wide_a = widen(d, a, f.trans_a, lda, s.m, s.k);
    double *wide_b = widen(d, b, !f.trans_b, ldb, s.n, s.k);
    for (int64_t i = 0; i < s.m; i++) {
        for (int64_t j = 0; j < s.n; j++) {
            double want = f.accumulate ? fm_load_as_f64(cd, c_old, i * ldc + j) : 0;
            double size = fabs(want);
            for (int64_t l = 0; l < s.k; l++) {
                double term = wide_a[i * s.k + l] * wide_b[j * s.k + l];
                want += term;
                size += fabs(term);
            }
            if (bias) {
                double v = fm_load_as_f64(d, bias, j);
                want += v;
                size += fabs(v);
            }
            /* k+2 roundings at worst, random in sign in truth: half of it is never reached */
            double tol = (0.5 * (double)s.k + 2) * size * ldexp(1, -24) + fabs(want) * fm_dtype_eps(cd);
            double got = fm_load_as_f64(cd, c, i * ldc + j);
            if (!(fabs(got - want) <= tol)) {
                fail_msg("%s %s m=%lld n=%lld k=%lld ta=%d tb=%d acc=%d bias=%d packed=%d c=%s: C[%lld,%lld] is %.9g, "
                         "expected %.9g +- %.2g",
                         be->name, fm_dtype_get(d)->name, (long long)s.m, (long long)s.n, (long long)s.k, f.trans_a,
                         f.trans_b, f.accumulate, f.bias, f.packed, fm_dtype_get(cd)->name, (long long)i, (long long)j,
                         got, want, tol);
            }
        }
        for (int64_t j = i * ldc + s.n; j < FM_MIN((i + 1) * ldc, c_len); j++) {
            assert_true(fm_load_as_f64(cd, c, j) == fm_load_as_f64(cd, c_old, j));
        }
    }
    free(a);
    free(b);
    free(c);
    free(c_old);
    free(wide_a);
    free(wide_b);
    free(bias);
    free(packed);
}

static const shape shapes[] = {
    {0, 5, 5},      {5, 0, 5},      {1, 1, 1},     {3, 7, 0},     {1, 64, 1},     {2, 65, 2},     {6, 64, 64},
    {7, 63, 3},     {5, 17, 33},    {13, 129, 31}, {12, 128, 96}, {1, 200, 77},   {31, 33, 35},   {2, 16, 513},
    {25, 70, 1027}, {9, 130, 2049}, {64, 48, 40},  {200, 96, 65}, {4, 300, 1500}, {70, 64, 2100}, {1, 1, 3000},
};

static const fm_isa isas[] = {FM_ISA_REF, FM_ISA_AVX2, FM_ISA_AVX512, FM_ISA_NEON};
static const fm_dtype dtypes[] = {FM_F32, FM_BF16};

static void all_forms(const fm_backend *be, const fm_exec *x, fm_dtype d, shape s) {
    static unsigned turn; /* quick: large shapes take every 7th form, others for each shape */
    const bool some = test_quick() && s.m * s.n * s.k > 20000;
    for (unsigned bits = 0; bits < 64; bits++) {
        if (some && turn++ % 7 != 0) {
            continue;
        }
        form f = {bits & 1, bits & 2, bits & 4, bits & 8, bits & 16, bits & 32};
        if ((f.accumulate && !f.c_is_acc) || (f.packed && !be->matmul_pack)) {
            continue;
        }
        check_one(be, x, d, s, f);
    }
}

static void test_against_double(void **state) {
    (void)state;
    bench b;
    bench_open(&b, 2);
    for (size_t i = 0; i < FM_ARRAY_LEN(isas); i++) {
        const fm_backend *be = fm_cpu_backend_isa(isas[i]);
        if (!be) {
            continue;
        }
        for (size_t d = 0; d < FM_ARRAY_LEN(dtypes); d++) {
            if (!be->kernel[FM_K_matmul][dtypes[d]]) {
                continue;
            }
            for (size_t s = 0; s < FM_ARRAY_LEN(shapes); s++) {
                if (isas[i] == FM_ISA_REF && shapes[s].m * shapes[s].n * shapes[s].k > 100000) {
                    continue; /* slow, and has no cases of its own up there */
                }
                all_forms(be, &b.exec, dtypes[d], shapes[s]);
            }
        }
    }
    bench_close(&b);
}

/* oneDNN, when its library is there, computes the same products. */
static void test_onednn(void **state) {
    (void)state;
    const fm_dnnl_info *info = fm_dnnl_get();
    if (!info->available) {
        assert_non_null(info->why_not);
        skip();
    }
    fm_backend be = {.name = "onednn", .kind = FM_DEVICE_CPU};
    be.kernel[FM_K_matmul][FM_F32] = fm_dnnl_matmul_f32;
    be.kernel[FM_K_matmul][FM_BF16] = fm_dnnl_matmul_bf16;
    for (int threads = 1; threads <= 3; threads++) {
        bench b;
        bench_open(&b, threads);
        for (size_t d = 0; d < FM_ARRAY_LEN(dtypes); d++) {
            if (dtypes[d] == FM_BF16 && !fm_cpu_get()->avx512_bf16) {
                continue;
            }
            for (size_t s = 0; s < FM_ARRAY_LEN(shapes); s++) {
                if (shapes[s].k > 0) {
                    all_forms(&be, &b.exec, dtypes[d], shapes[s]);
                }
            }
        }
        float x[4] = {0};
        fm_matmul_args empty = {.m = 2, .n = 2, .a = x, .b = x, .c = x, .ldc = 2, .c_dtype = FM_F32};
        assert_int_equal(fm_dnnl_matmul_f32(&b.exec, &empty), FM_ERR_UNSUPPORTED);
        bench_close(&b);
    }
}

static void test_random_shapes(void **state) {
    (void)state;
    bench b;
    bench_open(&b, 3);
    for (int i = test_quick() ? 340 : 0; i < 400; i++) {
        const fm_backend *be = fm_cpu_backend_isa(isas[1 + next() % 3]);
        fm_dtype d = dtypes[next() % 2];
        shape s = {next() % 40, next() % 150, next() % 100};
        if (next() % 8 == 0) {
            s.k = next() % 2500;
            s.m = next() % 20;
        }
        form f = {next() & 1, next() & 1, next() & 1, false, next() & 1, next() & 1};
        f.accumulate = f.c_is_acc && (next() & 1);
        if (be && be->kernel[FM_K_matmul][d]) {
            check_one(be, &b.exec, d, s, f);
        }
    }
    bench_close(&b);
}

/* Rows of a product of many rows equal the rows computed alone, in bits; so do packed and plain weights
 * and any number of threads. */
static void rows_of(const fm_backend *be, fm_dtype d, bool trans_b, fm_dtype cd, int64_t n, int64_t k) {
    enum { M = 513 };
    static const int64_t counts[] = {1, 2, 5, 7, 64, M};
    int64_t lda = k + 3, ldb = (trans_b ? k : n) + 1;
    char *a = new_values(d, M * lda);
    void *b = new_values(d, (trans_b ? n : k) * ldb);
    void *bias = new_values(d, n);
    int64_t es = fm_dtype_bytes(d, 1), row = fm_dtype_bytes(cd, n);
    char *want = malloc((size_t)(M * row)), *got = malloc((size_t)(M * row));
    assert_true(want && got);
    void *packed = NULL;
    bool first = true;
    for (int threads = 1; threads <= 3; threads++) {
        bench w;
        bench_open(&w, threads);
        if (be->matmul_pack && !packed) {
            packed = pack(be, &w.exec, d, n, k, b, ldb, trans_b);
        }
        for (int use_packed = 0; use_packed <= (packed != NULL); use_packed++) {
            for (size_t c = FM_ARRAY_LEN(counts); c-- > 0;) {
                for (int64_t from = 0; from + counts[c] <= M; from += FM_MAX(counts[c], test_quick() ? 449 : 101)) {
                    fm_matmul_args g = {.m = counts[c],
                                        .n = n,
                                        .k = k,
                                        .a = a + from * lda * es,
                                        .lda = lda,
                                        .b = b,
                                        .ldb = ldb,
                                        .trans_b = trans_b,
                                        .c = (first ? want : got) + from * row,
                                        .ldc = n,
                                        .c_dtype = cd,
                                        .bias = bias,
                                        .b_packed = use_packed ? packed : NULL};
                    assert_int_equal(fm_kernel_run(be, &w.exec, FM_K_matmul, d, &g), FM_OK);
                    if (!first) {
                        assert_memory_equal(got + from * row, want + from * row, (size_t)(counts[c] * row));
                    }
                    first = false;
                }
            }
        }
        bench_close(&w);
    }
    free(a);
    free(b);
    free(bias);
    free(want);
    free(got);
    free(packed);
}

static void test_rows_are_independent(void **state) {
    (void)state;
    for (size_t i = 1; i < FM_ARRAY_LEN(isas); i++) {
        const fm_backend *be = fm_cpu_backend_isa(isas[i]);
        for (size_t d = 0; be && d < FM_ARRAY_LEN(dtypes); d++) {
            if (!be->kernel[FM_K_matmul][dtypes[d]]) {
                continue;
            }
            rows_of(be, dtypes[d], true, dtypes[d], 200, 96);
            rows_of(be, dtypes[d], false, FM_F32, 77, 129);
            rows_of(be, dtypes[d], true, dtypes[d], 130, 2500);
        }
    }
}

/* Weight gradients: the same bits for any number of threads, and for two calls. */
static void test_gradient_threads(void **state) {
    (void)state;
    enum { M = 150, N = 260, K = 1300 };
    for (size_t i = 1; i < FM_ARRAY_LEN(isas); i++) {
        const fm_backend *be = fm_cpu_backend_isa(isas[i]);
        for (size_t d = 0; be && d < FM_ARRAY_LEN(dtypes); d++) {
            void *a = new_values(dtypes[d], K * M);
            void *b = new_values(dtypes[d], K * N);
            float *start = new_values(FM_F32, M * N);
            float *want = NULL;
            for (int threads = 1; threads <= 4; threads++) {
                bench w;
                bench_open(&w, threads);
                float *c = malloc(sizeof(float) * M * N);
                assert_non_null(c);
                memcpy(c, start, sizeof(float) * M * N);
                fm_matmul_args g = {.m = M,
                                    .n = N,
                                    .k = K,
                                    .a = a,
                                    .lda = M,
                                    .trans_a = true,
                                    .b = b,
                                    .ldb = N,
                                    .c = c,
                                    .ldc = N,
                                    .c_dtype = FM_F32,
                                    .accumulate = true};
                assert_int_equal(fm_kernel_run(be, &w.exec, FM_K_matmul, dtypes[d], &g), FM_OK);
                if (want) {
                    assert_memory_equal(c, want, sizeof(float) * M * N);
                    free(c);
                } else {
                    want = c;
                }
                bench_close(&w);
            }
            free(a);
            free(b);
            free(start);
            free(want);
        }
    }
}

/* NaN or infinity in one row stays in that row; padding of pairs and panels never meets it. */
static void test_nonfinite_stays_in_row(void **state) {
    (void)state;
    enum { M = 9, N = 37, K = 31 };
    bench w;
    bench_open(&w, 1);
    for (size_t i = 1; i < FM_ARRAY_LEN(isas); i++) {
        const fm_backend *be = fm_cpu_backend_isa(isas[i]);
        for (size_t d = 0; be && d < FM_ARRAY_LEN(dtypes); d++) {
            for (int trans_a = 0; trans_a < 2; trans_a++) {
                void *a = new_values(dtypes[d], M * K);
                void *b = new_values(dtypes[d], N * K);
                fm_store_from_f64(dtypes[d], a, trans_a ? (K - 1) * M + 4 : 4 * K + K - 1, (double)INFINITY);
                fm_store_from_f64(dtypes[d], a, trans_a ? 5 : 5 * K, (double)NAN);
                float c[M * N];
                fm_matmul_args g = {.m = M,
                                    .n = N,
                                    .k = K,
                                    .a = a,
                                    .lda = trans_a ? M : K,
                                    .trans_a = trans_a,
                                    .b = b,
                                    .ldb = K,
                                    .trans_b = true,
                                    .c = c,
                                    .ldc = N,
                                    .c_dtype = FM_F32};
                assert_int_equal(fm_kernel_run(be, &w.exec, FM_K_matmul, dtypes[d], &g), FM_OK);
                for (int j = 0; j < M * N; j++) {
                    int row = j / N;
                    assert_int_equal(isfinite(c[j]) != 0, row != 4 && row != 5);
                    assert_int_equal(isnan(c[j]) != 0, row == 5);
                }
                free(a);
                free(b);
            }
        }
    }
    bench_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double),         cmocka_unit_test(test_random_shapes),
        cmocka_unit_test(test_rows_are_independent),   cmocka_unit_test(test_gradient_threads),
        cmocka_unit_test(test_nonfinite_stays_in_row), cmocka_unit_test(test_onednn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
