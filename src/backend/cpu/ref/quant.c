/* Products with quantised weights, and their conversion to plain types. */
#include "backend/quant.h"

#include "backend/cpu/ref/ref.h"
#include "backend/quant_act.h"

/* Row `row` of the weights as numbers. */
static void weight_row(const fm_quant_matmul_args *a, int64_t row, float *w) {
    if (a->w_dtype == FM_I8) {
        const int8_t *q = (const int8_t *)a->w + row * a->k;
        for (int64_t p = 0; p < a->k; p++) {
            w[p] = q[p];
        }
        return;
    }
    const uint8_t *b = (const uint8_t *)a->w + row * fm_dtype_bytes(a->w_dtype, a->k);
    fm_quant_find(a->w_dtype)->dequantise(b, w, a->k / fm_dtype_get(a->w_dtype)->block);
}

/* Q of a row. */
static void quantised_row(fm_dtype d, const void *x, int64_t begin, int64_t k, double *out) {
    for (int64_t p = 0; p < k; p += FM_QUANT_ACT) {
        float block[FM_QUANT_ACT];
        int8_t q[FM_QUANT_ACT];
        int n = (int)FM_MIN(k - p, (int64_t)FM_QUANT_ACT);
        for (int i = 0; i < n; i++) {
            block[i] = (float)FM_LD(d, x, begin + p + i);
        }
        double f = (double)fm_quant_act_block(block, n, q);
        for (int i = 0; i < n; i++) {
            out[p + i] = f * q[i];
        }
    }
}

static fm_status quant_matmul_any(fm_dtype d, const fm_exec *x, const fm_quant_matmul_args *a) {
    const fm_quant_type *t = fm_quant_find(a->w_dtype);
    if ((!t && a->w_dtype != FM_I8) || a->k % fm_dtype_get(a->w_dtype)->block != 0 || !a->w) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "no quantised product with %lld columns of type %s", (long long)a->k,
                fm_dtype_get(a->w_dtype)->name);
    }
    if (a->m <= 0 || a->n <= 0) {
        return FM_OK;
    }
    int64_t k = FM_MAX(a->k, 1);
    double *rows = fm_scratch_take(x, (a->m * k) * (int64_t)sizeof *rows);
    float *w = fm_scratch_take(x, k * (int64_t)sizeof *w);
    if (!rows || !w) {
        FM_FAIL(FM_ERR_NO_MEMORY, "quantised product %lld x %lld x %lld: no memory for scratch", (long long)a->m,
                (long long)a->n, (long long)a->k);
    }
    for (int64_t i = 0; i < a->m; i++) {
        quantised_row(d, a->a, i * a->lda, a->k, rows + i * a->k);
    }
    for (int64_t j = 0; j < a->n; j++) {
        weight_row(a, j, w);
        for (int64_t i = 0; i < a->m; i++) {
            double sum = 0.0;
            for (int64_t p = 0; p < a->k; p++) {
                sum += rows[i * a->k + p] * (double)w[p];
            }
            sum *= a->w_dtype == FM_I8 ? (double)a->w_scale[j] : 1.0;
            sum += a->bias ? FM_LD(d, a->bias, j) : 0.0;
            fm_ref_put(a->c_dtype, a->c, i * a->ldc + j, sum, false);
        }
    }
    return FM_OK;
}
FM_REF_KERNEL(quant_matmul, fm_quant_matmul_args)
