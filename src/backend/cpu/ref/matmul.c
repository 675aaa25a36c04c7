/* Matrix product and the sum over rows that goes with a bias. */
#include "backend/cpu/ref/ref.h"

static fm_status matmul_any(fm_dtype d, const fm_exec *x, const fm_matmul_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->m; i++) {
        for (int64_t j = 0; j < a->n; j++) {
            double sum = 0.0;
            for (int64_t p = 0; p < a->k; p++) {
                int64_t ai = a->trans_a ? p * a->lda + i : i * a->lda + p;
                int64_t bi = a->trans_b ? j * a->ldb + p : p * a->ldb + j;
                sum += FM_LD(d, a->a, ai) * FM_LD(d, a->b, bi);
            }
            if (a->bias) {
                sum += FM_LD(d, a->bias, j);
            }
            fm_ref_put(a->c_dtype, a->c, i * a->ldc + j, sum, a->accumulate);
        }
    }
    return FM_OK;
}
FM_REF_KERNEL(matmul, fm_matmul_args)

static fm_status bias_grad_any(fm_dtype d, const fm_exec *x, const fm_bias_grad_args *a) {
    FM_UNUSED(x);
    for (int64_t j = 0; j < a->n; j++) {
        double sum = 0.0;
        for (int64_t i = 0; i < a->m; i++) {
            sum += FM_LD(d, a->dy, i * a->n + j);
        }
        fm_ref_put(fm_dtype_acc(d), a->dbias, j, sum, a->acc_dbias);
    }
    return FM_OK;
}
FM_REF_KERNEL(bias_grad, fm_bias_grad_args)
