/* The table op x dtype x instruction set. */
#include "tensor/coverage.h"

#include "backend/cpu/cpu.h"
#include "base/error.h"
#include "base/str.h"
#include "measure/measure.h"

fm_status fm_bench_coverage(char **text) {
    static const fm_dtype dtypes[] = {FM_F32, FM_BF16, FM_F16, FM_F64};
    fm_coverage_column col[4 * FM_ISA_COUNT];
    int n = 0, n_missing = 0;
    *text = NULL;
    for (int isa = 0; isa < FM_ISA_COUNT; isa++) {
        const fm_backend *b = fm_cpu_backend_isa((fm_isa)isa);
        /* f16 and f64 are reference types: SIMD sets are not expected to have them. */
        for (int d = 0; b && d < (isa == FM_ISA_REF ? 4 : 2); d++) {
            col[n++] = (fm_coverage_column){.backend = b, .name = fm_isa_name((fm_isa)isa), .dtype = dtypes[d]};
        }
    }
    fm_str s = {0};
    fm_status st = fm_ops_coverage(&s, n, col, &n_missing);
    if (st == FM_OK) {
        st = fm_str_check(&s);
    }
    if (st != FM_OK) {
        fm_str_free(&s);
        return st;
    }
    *text = fm_str_take(&s);
    if (n_missing > 0) {
        FM_FAIL(FM_ERR_STATE, "%d cells have neither a kernel nor a reason", n_missing);
    }
    return FM_OK;
}
