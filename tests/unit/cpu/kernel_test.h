/* Compares kernels: each SIMD set that this CPU runs against the reference, and with itself for 1, 2 and 3 threads.
 *
 * A case lists its arrays; the driver fills them (same numbers for every run), surrounds them with guard bytes, runs
 * the kernel and compares the arrays marked `out`. */
#ifndef TESTS_UNIT_CPU_KERNEL_TEST_H
#define TESTS_UNIT_CPU_KERNEL_TEST_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"

#define KT_MAX_BUFS 10
#define KT_GUARD    128

typedef struct kt_buf {
    fm_dtype d;
    int64_t n;
    double lo, hi; /* uniform numbers; integers lie in [lo, hi) */
    bool out;
} kt_buf;

typedef struct kt_case {
    const char *name;
    fm_kernel k;
    fm_dtype d;
    double rtol, atol; /* |simd - ref| <= atol + rtol * |ref| */
    kt_buf buf[KT_MAX_BUFS];
    /* Fills the argument struct from the arrays' addresses (same order as buf). */
    void (*args)(void *args, void **p, const void *shape);
    const void *shape;
} kt_case;

typedef struct kt_run {
    void *p[KT_MAX_BUFS];
    char *raw[KT_MAX_BUFS];
} kt_run;

static inline int64_t kt_bytes(const kt_buf *b) {
    return fm_dtype_bytes(b->d, b->n);
}

static inline void kt_alloc(const kt_case *c, kt_run *r) {
    memset(r, 0, sizeof *r);
    for (int i = 0; i < KT_MAX_BUFS; i++) {
        const kt_buf *b = &c->buf[i];
        if (b->n == 0) {
            continue;
        }
        int64_t bytes = kt_bytes(b);
        r->raw[i] = malloc((size_t)bytes + 2 * KT_GUARD);
        assert_non_null(r->raw[i]);
        memset(r->raw[i], 0xa5, (size_t)bytes + 2 * KT_GUARD);
        /* An odd start: kernels may not count on alignment beyond the element. */
        r->p[i] = r->raw[i] + KT_GUARD - 8;
        fm_rng_key key = {77, (uint32_t)i, 0};
        for (int64_t j = 0; j < b->n; j++) {
            double v = b->lo + (b->hi - b->lo) * fm_rng_uniform(key, (uint64_t)j);
            fm_store_from_f64(b->d, r->p[i], j, fm_dtype_get(b->d)->is_float ? v : floor(v));
        }
    }
}

static inline void kt_check_guards(const kt_case *c, kt_run *r) {
    for (int i = 0; i < KT_MAX_BUFS; i++) {
        if (!r->raw[i]) {
            continue;
        }
        int64_t bytes = kt_bytes(&c->buf[i]);
        for (int64_t j = 0; j < KT_GUARD; j++) {
            bool front = j < KT_GUARD - 8 && (unsigned char)r->raw[i][j] != 0xa5;
            bool back = j < KT_GUARD + 8 && (unsigned char)r->raw[i][KT_GUARD - 8 + bytes + j] != 0xa5;
            if (front || back) {
                fail_msg("%s %s: array %d was written out of bounds", c->name, fm_dtype_get(c->d)->name, i);
            }
        }
    }
}

static inline void kt_free(kt_run *r) {
    for (int i = 0; i < KT_MAX_BUFS; i++) {
        free(r->raw[i]);
    }
}

static inline void kt_execute(const kt_case *c, kt_run *r, const fm_backend *b, int threads) {
    union {
        char bytes[512];
        double align;
    } args;
    memset(&args, 0, sizeof args);
    kt_alloc(c, r);
    c->args(&args, r->p, c->shape);
    fm_exec x = {NULL, NULL};
    assert_int_equal(fm_pool_new(&x.pool, threads), FM_OK);
    assert_int_equal(fm_scratch_new(&x.scratch), FM_OK);
    if (fm_kernel_run(b, &x, c->k, c->d, &args) != FM_OK) {
        fail_msg("%s on %s: %s", c->name, b->name, fm_error_get().message);
    }
    fm_scratch_free(x.scratch);
    fm_pool_free(x.pool);
    kt_check_guards(c, r);
}

static inline void kt_compare(const kt_case *c, const kt_run *got, const kt_run *want, const char *set) {
    for (int i = 0; i < KT_MAX_BUFS; i++) {
        const kt_buf *b = &c->buf[i];
        if (!b->out) {
            continue;
        }
        for (int64_t j = 0; j < b->n; j++) {
            double g = fm_load_as_f64(b->d, got->p[i], j), w = fm_load_as_f64(b->d, want->p[i], j);
            if (!(fabs(g - w) <= c->atol + c->rtol * fabs(w)) && !(isnan(g) && isnan(w)) && g != w) {
                fail_msg("%s %s on %s: array %d [%lld] is %.9g, expected %.9g", c->name, fm_dtype_get(c->d)->name, set,
                         i, (long long)j, g, w);
            }
        }
    }
}

static inline void kt_same_bits(const kt_case *c, const kt_run *a, const kt_run *b, const char *what) {
    for (int i = 0; i < KT_MAX_BUFS; i++) {
        if (c->buf[i].out && c->buf[i].n > 0 && memcmp(a->p[i], b->p[i], (size_t)kt_bytes(&c->buf[i])) != 0) {
            fail_msg("%s %s: array %d differs: %s", c->name, fm_dtype_get(c->d)->name, i, what);
        }
    }
}

static const fm_isa kt_isas[] = {FM_ISA_AVX2, FM_ISA_AVX512, FM_ISA_NEON};
#define KT_N_ISAS (sizeof kt_isas / sizeof *kt_isas)

/* The set, when this CPU runs it and it has the kernel. */
static inline const fm_backend *kt_set(size_t i, fm_kernel k, fm_dtype d) {
    const fm_backend *b = fm_cpu_backend_isa(kt_isas[i]);
    return b && b->kernel[k][d] ? b : NULL;
}

static inline void kt_check(const kt_case *c) {
    kt_run want, first, other;
    kt_execute(c, &want, fm_cpu_backend_isa(FM_ISA_REF), 1);
    int sets = 0;
    for (size_t i = 0; i < KT_N_ISAS; i++) {
        const fm_backend *b = kt_set(i, c->k, c->d);
        if (!b) {
            continue;
        }
        sets++;
        kt_execute(c, &first, b, 1);
        kt_compare(c, &first, &want, b->name);
        for (int threads = 2; threads <= 3; threads++) {
            kt_execute(c, &other, b, threads);
            kt_same_bits(c, &other, &first, "thread count");
            kt_free(&other);
        }
        kt_free(&first);
    }
    kt_free(&want);
    if (sets == 0) {
        fail_msg("%s %s: no SIMD set has the kernel", c->name, fm_dtype_get(c->d)->name);
    }
}

/* Rounding of one store, with room for a borderline number that goes the other way. */
static inline double kt_rtol(fm_dtype d, double f32_tol) {
    return d == FM_BF16 ? 0x1p-7 + f32_tol : d == FM_F16 ? 0x1p-10 + f32_tol : f32_tol;
}

#endif
