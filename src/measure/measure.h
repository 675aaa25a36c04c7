/* Inside of doctor and bench. A benchmark is one file and one row of benches.def. */
#ifndef FM_MEASURE_MEASURE_H
#define FM_MEASURE_MEASURE_H

#include "backend/backend.h"
#include "fathom/measure.h"

typedef struct fm_bench {
    const char *name, *summary;
    fm_status (*run)(const fm_bench_options *o, fm_bench_fn fn, void *user);
} fm_bench;

/* Emits a line; name is printf-like. */
FM_PRINTF(7, 8)
void fm_bench_emit(fm_bench_fn fn, void *user, double value, const char *unit, double ratio, const char *limit,
                   const char *name, ...);

/* Kernel table, pool and scratch for one measurement. */
typedef struct fm_bench_env {
    const fm_backend *backend;
    fm_pool *pool;
    fm_exec exec;
} fm_bench_env;
FM_MUST_CHECK fm_status fm_bench_env_init(fm_bench_env *e, const fm_bench_options *o);
void fm_bench_env_deinit(fm_bench_env *e);
/* Dtypes asked for: bf16 and/or f32; returns their number. */
int fm_bench_dtypes(const fm_bench_options *o, fm_dtype out[2]);

#endif
