/* Measured limits of the machine. */
#include "backend/ceiling.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"

#define MAX_RUNS 512

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fill(fm_dtype d, void *p, int64_t n) {
    /* Small integers: exact in every type, never denormal or overflowing. */
    for (int64_t i = 0; i < n; i++) {
        fm_store_from_f64(d, p, i, (double)((i * 7 + i / 13) % 5) - 2);
    }
}

fm_status fm_measure_matmul(const fm_backend *b, const fm_exec *x, fm_dtype d, int64_t m, int64_t n, int64_t k,
                            double seconds, double *flops_median, double *flops_best) {
    int64_t na = m * k, nb = n * k, nc = m * n;
    size_t bytes = (size_t)(fm_dtype_bytes(d, na) + fm_dtype_bytes(d, nb) + fm_dtype_bytes(d, nc) + 192);
    void *mem;
    FM_TRY(fm_pages_alloc(&mem, bytes, FM_MEM_SCRATCH));
    uint8_t *pa = mem, *pb = pa + (fm_dtype_bytes(d, na) + 63) / 64 * 64,
            *pc = pb + (fm_dtype_bytes(d, nb) + 63) / 64 * 64;
    fill(d, pa, na);
    fill(d, pb, nb);
    fm_matmul_args args = {
        .m = m, .n = n, .k = k, .a = pa, .lda = k, .b = pb, .ldb = k, .trans_b = true, .c = pc, .ldc = n, .c_dtype = d};
    double rate[MAX_RUNS];
    int runs = 0;
    fm_status s = fm_kernel_run(b, x, FM_K_matmul, d, &args);
    for (double start = fm_now(); s == FM_OK && runs < MAX_RUNS && (runs < 3 || fm_now() - start < seconds);) {
        double t = fm_now();
        s = fm_kernel_run(b, x, FM_K_matmul, d, &args);
        rate[runs++] = 2.0 * (double)m * (double)n * (double)k / (fm_now() - t);
    }
    fm_pages_free(mem, bytes, FM_MEM_SCRATCH);
    FM_TRY(s);
    qsort(rate, (size_t)runs, sizeof rate[0], by_value);
    *flops_median = rate[runs / 2];
    *flops_best = rate[runs - 1];
    return FM_OK;
}

fm_status fm_ceiling_matmul(const fm_backend *b, const fm_exec *x, fm_dtype d, double seconds, double *flops) {
    double median;
    return fm_measure_matmul(b, x, d, 1024, 1024, 1024, seconds, &median, flops);
}

fm_status fm_ceiling_quant(const fm_backend *b, const fm_exec *x, double seconds, double *ops) {
    const int64_t n = 1024;
    int64_t packed = b->quant_pack_bytes ? b->quant_pack_bytes(FM_I8, n, n) : 0;
    size_t bytes = (size_t)(n * n * 9 + n * 4 + packed + 256);
    void *mem;
    FM_TRY(fm_pages_alloc(&mem, bytes, FM_MEM_SCRATCH));
    float *a = mem, *c = a + n * n, *scale = c + n * n;
    int8_t *w = (int8_t *)(scale + n);
    uint8_t *p = (uint8_t *)w + n * n;
    fill(FM_F32, a, n * n);
    fill(FM_F32, scale, n);
    fill(FM_I8, w, n * n);
    fm_status s = packed ? b->quant_pack(x, FM_I8, n, n, w, p) : FM_OK;
    fm_quant_matmul_args args = {.m = n,
                                 .n = n,
                                 .k = n,
                                 .a = a,
                                 .lda = n,
                                 .w_dtype = FM_I8,
                                 .w = w,
                                 .w_scale = scale,
                                 .w_packed = packed ? p : NULL,
                                 .c = c,
                                 .ldc = n,
                                 .c_dtype = FM_F32};
    double best = 0, start = fm_now();
    for (int runs = 0; s == FM_OK && (runs < 3 || fm_now() - start < seconds); runs++) {
        double t = fm_now();
        s = fm_kernel_run(b, x, FM_K_quant_matmul, FM_F32, &args);
        best = FM_MAX(best, 2.0 * (double)n * (double)n * (double)n / (fm_now() - t));
    }
    fm_pages_free(mem, bytes, FM_MEM_SCRATCH);
    *ops = best;
    return s;
}

/* ---- memory ---------------------------------------------------------------------------------- */

#define READ_BYTES ((size_t)256 << 20)
#define READ_PARTS 64

typedef struct read_job {
    const uint64_t *p;
    size_t n;
    uint64_t sum[READ_PARTS];
} read_job;

static fm_status read_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    read_job *j = arg;
    int64_t begin, end;
    fm_split((int64_t)j->n, part, n_parts, 64, &begin, &end);
    /* Sums by name: the loop is to wait for memory, and an array of them would live there too. */
    uint64_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
    for (int64_t i = begin; i + 8 <= end; i += 8) {
        const uint64_t *p = j->p + i;
        s0 += p[0];
        s1 += p[1];
        s2 += p[2];
        s3 += p[3];
        s4 += p[4];
        s5 += p[5];
        s6 += p[6];
        s7 += p[7];
    }
    j->sum[part] = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7;
    return FM_OK;
}

fm_status fm_ceiling_read(fm_pool *pool, double seconds, double *bytes_per_s) {
    void *mem;
    FM_TRY(fm_pages_alloc(&mem, READ_BYTES, FM_MEM_SCRATCH));
    memset(mem, 1, READ_BYTES);
    read_job j = {.p = mem, .n = READ_BYTES / sizeof(uint64_t)};
    *bytes_per_s = 0;
    fm_status s = FM_OK;
    int passes = 0;
    for (double start = fm_now(); s == FM_OK && (passes < 3 || fm_now() - start < seconds); passes++) {
        double t = fm_now();
        s = fm_pool_run(pool, READ_PARTS, read_part, &j);
        *bytes_per_s = FM_MAX(*bytes_per_s, (double)READ_BYTES / (fm_now() - t));
    }
    fm_pages_free(mem, READ_BYTES, FM_MEM_SCRATCH);
    return s;
}
