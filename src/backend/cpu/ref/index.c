/* Choice of keys for sparse attention. */
#include <math.h>

#include "backend/cpu/ref/ref.h"

static double score(fm_dtype d, const fm_index_select_args *a, int64_t row, int64_t key_row) {
    double sum = 0;
    for (int64_t h = 0; h < a->n_heads; h++) {
        double dot = 0;
        for (int64_t i = 0; i < a->dim; i++) {
            dot += FM_LD(d, a->q, (row * a->n_heads + h) * a->dim + i) *
                   FM_LD(a->kv.dtype, a->kv.k, key_row * a->kv.k_stride + i);
        }
        sum += FM_LD(d, a->w, row * a->n_heads + h) * fmax(dot, 0);
    }
    return isnan(sum) ? -(double)INFINITY : sum;
}

/* A key is in when fewer than n_selected others stand before it. */
static bool is_in(const double *s, int64_t n, int64_t j, int64_t limit) {
    int64_t before = 0;
    for (int64_t i = 0; i < n; i++) {
        before += s[i] > s[j] || (s[i] == s[j] && i < j);
    }
    return before < limit;
}

static void choose(const fm_index_select_args *a, int64_t row, const double *s, int64_t n) {
    int32_t *ids = a->ids + row * a->n_selected;
    int64_t m = 0;
    for (int64_t j = 0; j < n; j++) {
        if (is_in(s, n, j, a->n_selected)) {
            ids[m++] = (int32_t)j;
        }
    }
    while (m < a->n_selected) {
        ids[m++] = -1;
    }
}

static fm_status index_select_any(fm_dtype d, const fm_exec *x, const fm_index_select_args *a) {
    int64_t most = 1;
    for (int64_t s = 0; s < a->n_segments; s++) {
        most = FM_MAX(most, (int64_t)a->kv.kv_offsets[s + 1] - a->kv.kv_offsets[s]);
    }
    double *work = fm_scratch_take(x, most * (int64_t)sizeof(double));
    if (!work) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no scratch memory for the scores of %lld keys", (long long)most);
    }
    for (int64_t s = 0; s < a->n_segments; s++) {
        int64_t nk = a->kv.kv_offsets[s + 1] - a->kv.kv_offsets[s], first = a->q_offsets[s],
                nq = a->q_offsets[s + 1] - first;
        for (int64_t i = 0; i < nq; i++) {
            int64_t n = FM_MAX(nk - nq + i + 1, 0);
            for (int64_t j = 0; j < n; j++) {
                work[j] = score(d, a, first + i, fm_ref_kv_row(&a->kv, s, j));
            }
            choose(a, first + i, work, n);
        }
    }
    return FM_OK;
}
FM_REF_KERNEL(index_select, fm_index_select_args)
