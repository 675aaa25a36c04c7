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
    /* Eight independent sums, so that the loop waits for memory and not for its own additions. */
    uint64_t s[8] = {0};
    for (int64_t i = begin; i + 8 <= end; i += 8) {
        for (int k = 0; k < 8; k++) {
            s[k] += j->p[i + k];
        }
    }
    j->sum[part] = s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
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
