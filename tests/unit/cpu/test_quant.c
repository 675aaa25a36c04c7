/* Quantised products of every kernel set: against the definition, and the promises on bits: a row does not depend on
 * the number of rows, on packing, on threads, and (finite numbers) not on the kernel set. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/quant.h"
#include "base/error.h"
#include "../../quick.h"

static uint32_t seed = 7;
static uint32_t next(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}
static float draw(void) {
    float s = 0;
    for (int i = 0; i < 4; i++) {
        s += (float)(next() & 0xffff) / 65536.0F - 0.5F;
    }
    return s * 1.7F;
}

static void *exactly(int64_t bytes) { /* so that a sanitizer sees a read or write past the end */
    void *p = malloc((size_t)(bytes > 0 ? bytes : 1));
    assert_non_null(p);
    return p;
}

static const fm_dtype types[] = {FM_I8,   FM_Q8_0, FM_Q4_0, FM_Q4_1, FM_Q5_0,   FM_Q5_1,
                                 FM_Q3_K, FM_Q4_K, FM_Q5_K, FM_Q6_K, FM_IQ4_NL, FM_Q2_K};
static const fm_isa sets[] = {FM_ISA_AVX2, FM_ISA_AVX512, FM_ISA_NEON};

/* A product and its operands. */
typedef struct problem {
    fm_dtype type, d;
    int64_t m, n, k, k_pad; /* k_pad: elements between rows of a */
    float *x;               /* [m,k_pad], representable in d */
    void *a;
    uint8_t *w;
    float *scale;
    void *bias;
} problem;

/* Random blocks that a file may hold: any quants, factors of sensible size. */
static void random_blocks(fm_dtype type, uint8_t *w, int64_t bytes) {
    const fm_dtype_info *i = fm_dtype_get(type);
    for (int64_t b = 0; b < bytes; b++) {
        w[b] = (uint8_t)next();
    }
    for (int64_t b = 0; type != FM_I8 && b < bytes; b += i->block_bytes) {
        int at = type == FM_Q6_K ? 208 : type == FM_Q3_K ? 108 : type == FM_Q2_K ? 80 : 0;
        fm_quant_store_f16(w + b + at, draw() * 0.01F);
        if (type == FM_Q4_1 || type == FM_Q5_1 || type == FM_Q4_K || type == FM_Q5_K || type == FM_Q2_K) {
            fm_quant_store_f16(w + b + at + 2, draw() * 0.01F);
        }
    }
}

static void problem_new(problem *p, fm_dtype type, fm_dtype d, int64_t m, int64_t n, int64_t k) {
    *p = (problem){.type = type, .d = d, .m = m, .n = n, .k = k, .k_pad = k + 3};
    int64_t n_x = m > 0 ? (m - 1) * p->k_pad + k : 0, w_bytes = fm_dtype_bytes(type, n * k);
    p->x = exactly(n_x * 4);
    p->a = exactly(fm_dtype_bytes(d, n_x));
    p->w = exactly(w_bytes);
    p->scale = exactly(n * 4);
    p->bias = exactly(fm_dtype_bytes(d, n));
    for (int64_t i = 0; i < n_x; i++) {
        float v = draw() * (next() % 37 == 0 ? 20.0F : 1.0F);
        fm_store_from_f64(d, p->a, i, i % 511 == 0 ? 0.0 : (double)v);
        p->x[i] = (float)fm_load_as_f64(d, p->a, i);
    }
    random_blocks(type, p->w, w_bytes);
    for (int64_t j = 0; j < n; j++) {
        p->scale[j] = 0.001F * (1.0F + fabsf(draw()));
        fm_store_from_f64(d, p->bias, j, (double)draw());
    }
}

static void problem_free(problem *p) {
    free(p->x);
    free(p->a);
    free(p->w);
    free(p->scale);
    free(p->bias);
}

/* Rows [row, row + m) of the problem into c [m,n] f32 or D. */
static fm_status product(const fm_backend *b, fm_pool *pool, const problem *p, int64_t row, int64_t m, bool bias,
                         const void *packed, fm_dtype c_dtype, void *c) {
    fm_scratch *scratch;
    assert_int_equal(fm_scratch_new(&scratch), FM_OK);
    fm_exec x = {.pool = pool, .scratch = scratch};
    fm_quant_matmul_args g = {.m = m,
                              .n = p->n,
                              .k = p->k,
                              .a = (const char *)p->a + fm_dtype_bytes(p->d, row * p->k_pad),
                              .lda = p->k_pad,
                              .w_dtype = p->type,
                              .w = p->w,
                              .w_scale = p->type == FM_I8 ? p->scale : NULL,
                              .w_packed = packed,
                              .c = c,
                              .ldc = p->n,
                              .c_dtype = c_dtype,
                              .bias = bias ? p->bias : NULL};
    fm_status s = fm_kernel_run(b, &x, FM_K_quant_matmul, p->d, &g);
    fm_scratch_free(scratch);
    return s;
}

static void *packed_of(const fm_backend *b, const problem *p) {
    fm_scratch *scratch;
    assert_int_equal(fm_scratch_new(&scratch), FM_OK);
    fm_exec x = {.scratch = scratch};
    int64_t bytes = b->quant_pack_bytes(p->type, p->n, p->k);
    assert_true(bytes > 0);
    void *mem = exactly(bytes);
    assert_int_equal(b->quant_pack(&x, p->type, p->n, p->k, p->w, mem), FM_OK);
    fm_scratch_free(scratch);
    return mem;
}

/* |got - want| against the largest sum of magnitudes of a row: f32 sums of k products. */
static void assert_near(const problem *p, const float *got, const float *want, int64_t m) {
    double top = 1e-3;
    for (int64_t i = 0; i < m * p->n; i++) {
        top = fmax(top, fabs((double)want[i]));
    }
    for (int64_t i = 0; i < m * p->n; i++) {
        if (!(fabs((double)got[i] - (double)want[i]) <= 4e-6 * top)) {
            fail_msg("%s %s [%d,%d,%d]: element %d is %.9g, expected %.9g", fm_dtype_get(p->type)->name,
                     fm_dtype_get(p->d)->name, (int)m, (int)p->n, (int)p->k, (int)i, (double)got[i], (double)want[i]);
        }
    }
}

static void check(fm_pool *pool, fm_dtype type, fm_dtype d, int64_t m, int64_t n, int64_t k) {
    problem p;
    problem_new(&p, type, d, m, n, k);
    int64_t bytes = m * n * 4;
    float *want = exactly(bytes), *first = NULL, *got = exactly(bytes);
    assert_int_equal(product(fm_cpu_backend_isa(FM_ISA_REF), NULL, &p, 0, m, true, NULL, FM_F32, want), FM_OK);
    for (size_t i = 0; i < FM_ARRAY_LEN(sets); i++) {
        const fm_backend *b = fm_cpu_backend_isa(sets[i]);
        if (!b) {
            continue;
        }
        void *packed = packed_of(b, &p);
        assert_int_equal(product(b, pool, &p, 0, m, true, packed, FM_F32, got), FM_OK);
        assert_near(&p, got, want, m);
        if (!first) {
            first = exactly(bytes);
            memcpy(first, got, (size_t)bytes);
        }
        assert_memory_equal(got, first, (size_t)bytes); /* kernel sets agree */
        memset(got, 0, (size_t)bytes);
        assert_int_equal(product(b, NULL, &p, 0, m, true, NULL, FM_F32, got), FM_OK);
        assert_memory_equal(got, first, (size_t)bytes); /* not packed, one thread */
        for (int64_t row = 0; row < m;) {
            int64_t here = 1 + row % 5;
            here = here < m - row ? here : m - row;
            memset(got, 0, (size_t)bytes);
            assert_int_equal(product(b, pool, &p, row, here, true, packed, FM_F32, got), FM_OK);
            assert_memory_equal(got, first + row * n, (size_t)(here * n) * 4); /* any number of rows */
            row += here;
        }
        if (d == FM_BF16) { /* rounded once */
            uint16_t *narrow = exactly(m * n * 2);
            assert_int_equal(product(b, pool, &p, 0, m, true, packed, FM_BF16, narrow), FM_OK);
            for (int64_t e = 0; e < m * n; e++) {
                assert_int_equal(narrow[e], fm_f32_to_bf16(first[e]));
            }
            free(narrow);
        }
        free(packed);
    }
    free(first);
    free(got);
    free(want);
    problem_free(&p);
}

static void test_types(void **state) {
    (void)state;
    fm_pool *pool;
    assert_int_equal(fm_pool_new(&pool, 3), FM_OK);
    for (size_t t = 0; t < FM_ARRAY_LEN(types); t++) {
        if (types[t] == FM_Q2_K) {
            continue;
        }
        int64_t unit = types[t] == FM_I8 ? 1 : fm_dtype_get(types[t])->block;
        int64_t k = unit == 1 ? 77 : 2 * unit;
        check(pool, types[t], FM_F32, 1, 1, unit);
        check(pool, types[t], FM_F32, 3, 67, k);
        check(pool, types[t], FM_BF16, 8, 130, k + unit);
        check(pool, types[t], FM_F32, 9, 64, k);
        check(pool, types[t], FM_BF16, 23, 129, k);
        check(pool, types[t], FM_F32, test_quick() ? 67 : 131, test_quick() ? 70 : 200,
              unit == 1 ? 1000 : (test_quick() ? 2 : 4) * unit); /* more rows than tiles read packed weights for */
    }
    fm_pool_free(pool);
}

/* Exact sums where everything is exact: activations of +-1 give the row sums of the weights. */
static void test_exact(void **state) {
    (void)state;
    for (size_t t = 0; t < FM_ARRAY_LEN(types); t++) {
        problem p;
        if (types[t] == FM_I8 || types[t] == FM_Q2_K) {
            continue;
        }
        problem_new(&p, types[t], FM_F32, 1, 70, 256);
        float *row = exactly(256 * 4), c[70];
        for (int i = 0; i < 256; i++) {
            ((float *)p.a)[i] = i % 2 ? 127.0F : -127.0F; /* d = 1 */
        }
        assert_int_equal(product(fm_cpu_backend(), NULL, &p, 0, 1, false, NULL, FM_F32, c), FM_OK);
        for (int64_t j = 0; j < p.n; j++) {
            double sum = 0, size = 0;
            fm_quant_find(types[t])->dequantise(p.w + j * fm_dtype_bytes(types[t], 256), row,
                                                256 / fm_dtype_get(types[t])->block);
            for (int i = 0; i < 256; i++) {
                sum += (i % 2 ? 127.0 : -127.0) * (double)row[i];
                size += 127.0 * fabs((double)row[i]);
            }
            assert_true(fabs((double)c[j] - sum) <= 1e-6 * size);
        }
        free(row);
        problem_free(&p);
    }
}

static void test_not_finite(void **state) {
    (void)state;
    const float bad[] = {(float)NAN, (float)INFINITY, -(float)INFINITY};
    for (size_t s = 0; s <= FM_ARRAY_LEN(sets); s++) {
        const fm_backend *b = s ? fm_cpu_backend_isa(sets[s - 1]) : fm_cpu_backend_isa(FM_ISA_REF);
        for (size_t i = 0; b && i < FM_ARRAY_LEN(bad); i++) {
            problem p;
            float c[2 * 65];
            problem_new(&p, FM_Q4_0, FM_F32, 2, 65, 96);
            ((float *)p.a)[40] = bad[i];
            assert_int_equal(product(b, NULL, &p, 0, 2, false, NULL, FM_F32, c), FM_OK);
            for (int j = 0; j < 65; j++) { /* the row, and only it */
                assert_true(!isfinite(c[j]));
                assert_true(isfinite(c[65 + j]) != 0);
            }
            problem_free(&p);
        }
    }
}

static void test_refused(void **state) {
    (void)state;
    for (size_t s = 0; s < FM_ARRAY_LEN(sets); s++) {
        const fm_backend *b = fm_cpu_backend_isa(sets[s]);
        if (b) {
            problem p;
            float c[4];
            problem_new(&p, FM_Q2_K, FM_F32, 1, 4, 256);
            assert_int_equal(b->quant_pack_bytes(FM_Q2_K, 4, 256), 0);
            assert_int_equal(b->quant_pack_bytes(FM_Q8_0, 4, 33), 0);
            assert_int_equal(product(b, NULL, &p, 0, 1, false, NULL, FM_F32, c), FM_ERR_UNSUPPORTED);
            problem_free(&p);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
