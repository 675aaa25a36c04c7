/* Models with random weights, for benchmarks. */
#ifndef FM_MEASURE_BENCH_MODEL_H
#define FM_MEASURE_BENCH_MODEL_H

#include "measure/measure.h"
#include "model/model.h"

/* "a" and "b" are the presets 26m and 100m, "moe" is 139m-a29m. */
const char *fm_bench_preset(const char *shape);
/* Preset `name` with weights N(0, 0.02^2) in dtype, ready to run; owns a pool of o->threads. */
FM_MUST_CHECK fm_status fm_bench_model(fm_model **out, const char *name, fm_dtype dtype, const fm_bench_options *o);
/* Calls fn for each item of a comma-separated list, until one fails. */
FM_MUST_CHECK fm_status fm_bench_each(const char *list, fm_status (*fn)(void *arg, const char *item), void *arg);

/* Calls fn with the model of o->model, or with each of o->shape in each of o->dtype. */
typedef fm_status (*fm_bench_model_fn)(void *arg, fm_model *m, const char *name);
FM_MUST_CHECK fm_status fm_bench_models(const fm_bench_options *o, fm_bench_model_fn fn, void *arg);

#endif
