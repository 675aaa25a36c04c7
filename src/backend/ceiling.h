/* What this machine can do at best, measured: the limits that speeds are compared with. */
#ifndef FM_BACKEND_CEILING_H
#define FM_BACKEND_CEILING_H

#include "backend/backend.h"

/* Best rate of the backend's matmul at 1024^3 in dtype d (f32 or bf16), operations per second (2 per multiply-add),
 * over runs that take about `seconds` together. */
FM_MUST_CHECK fm_status fm_ceiling_matmul(const fm_backend *b, const fm_exec *x, fm_dtype d, double seconds,
                                          double *flops);
/* The same for one shape: y[m,n] = x[m,k] w[n,k]^T, median rate. */
FM_MUST_CHECK fm_status fm_measure_matmul(const fm_backend *b, const fm_exec *x, fm_dtype d, int64_t m, int64_t n,
                                          int64_t k, double seconds, double *flops_median, double *flops_best);
/* The same for int8 weights and activations: FM_K_quant_matmul at 1024^3. */
FM_MUST_CHECK fm_status fm_ceiling_quant(const fm_backend *b, const fm_exec *x, double seconds, double *ops);
/* Bytes per second that all threads together read from a buffer far larger than the caches; best of several passes. */
FM_MUST_CHECK fm_status fm_ceiling_read(fm_pool *pool, double seconds, double *bytes_per_s);

#endif
