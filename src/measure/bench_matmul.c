/* bench matmul: the products of training and serving against the 1024^3 rate. */
#include "backend/ceiling.h"
#include "base/error.h"
#include "measure/measure.h"

static const int64_t shapes[][3] = {
    {1024, 1024, 1024}, {2048, 512, 512},  {2048, 768, 768},  {2048, 2048, 768},
    {2048, 768, 2048},  {4096, 1408, 512}, {4096, 512, 1408}, {1, 4096, 4096},
};

static fm_status run(const fm_bench_options *o, fm_bench_fn fn, void *user) {
    fm_bench_env e;
    fm_dtype dtype[2];
    int n = fm_bench_dtypes(o, dtype);
    FM_TRY(fm_bench_env_init(&e, o));
    fm_status s = FM_OK;
    for (int i = 0; i < n && s == FM_OK; i++) {
        double limit = 0;
        s = fm_ceiling_matmul(e.backend, &e.exec, dtype[i], o->seconds / 4, &limit);
        for (size_t k = 0; k < FM_ARRAY_LEN(shapes) && s == FM_OK; k++) {
            double median, best;
            s = fm_measure_matmul(e.backend, &e.exec, dtype[i], shapes[k][0], shapes[k][1], shapes[k][2],
                                  o->seconds / 8, &median, &best);
            if (s == FM_OK) {
                fm_bench_emit(fn, user, median * 1e-9, "GFLOP/s", median / limit, "best 1024^3",
                              "matmul.%s.%lldx%lldx%lld", fm_dtype_get(dtype[i])->name, (long long)shapes[k][0],
                              (long long)shapes[k][1], (long long)shapes[k][2]);
            }
        }
    }
    fm_bench_env_deinit(&e);
    return s;
}

const fm_bench fm_bench_matmul = {
    .name = "matmul", .summary = "matrix products at the shapes of training and decoding", .run = run};
