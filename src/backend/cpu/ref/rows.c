/* Rows chosen by index: embeddings, gather, scatter. */
#include "backend/cpu/ref/ref.h"

static fm_status embedding_fwd_any(fm_dtype d, const fm_exec *x, const fm_embedding_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n_tokens * a->dim; i++) {
        fm_store_from_f64(d, a->y, i, FM_LD(d, a->w, a->ids[i / a->dim] * a->dim + i % a->dim));
    }
    return FM_OK;
}

static fm_status embedding_bwd_any(fm_dtype d, const fm_exec *x, const fm_embedding_bwd_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n_tokens * a->dim; i++) {
        fm_ref_put(fm_dtype_acc(d), a->dw, a->ids[i / a->dim] * a->dim + i % a->dim, FM_LD(d, a->dy, i), true);
    }
    return FM_OK;
}

static fm_status gather_rows_any(fm_dtype d, const fm_exec *x, const fm_rows_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n * a->dim; i++) {
        fm_store_from_f64(d, a->y, i, FM_LD(d, a->x, a->idx[i / a->dim] * a->dim + i % a->dim));
    }
    return FM_OK;
}

static fm_status scatter_add_rows_any(fm_dtype d, const fm_exec *x, const fm_rows_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n * a->dim; i++) {
        fm_ref_put(d, a->x, a->idx[i / a->dim] * a->dim + i % a->dim, FM_LD(d, a->y, i), true);
    }
    return FM_OK;
}

static fm_status copy_block_any(fm_dtype d, const fm_exec *x, const fm_copy_block_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n_rows * a->dim; i++) {
        int64_t r = i / a->dim, j = i % a->dim;
        fm_ref_put(d, a->y, r * a->y_stride + j, FM_LD(d, a->x, r * a->x_stride + j), a->acc_y);
    }
    return FM_OK;
}

FM_REF_KERNEL(embedding_fwd, fm_embedding_args)
FM_REF_KERNEL(embedding_bwd, fm_embedding_bwd_args)
static fm_status copy_groups_any(fm_dtype d, const fm_exec *x, const fm_copy_groups_args *a) {
    FM_UNUSED(x);
    for (int64_t r = 0; r < a->n_rows; r++) {
        for (int64_t j = 0; j < a->n_cols; j++) {
            double sum = 0;
            for (int64_t g = 0; g < a->n_groups; g++) {
                double v = FM_LD(d, a->x, r * a->x_row + g * a->x_group + j);
                sum += v;
                if (!a->sum) {
                    fm_store_from_f64(d, a->y, r * a->y_row + g * a->y_group + j, v);
                }
            }
            if (a->sum) {
                fm_store_from_f64(d, a->y, r * a->y_row + j, sum);
            }
        }
    }
    return FM_OK;
}

FM_REF_KERNEL(gather_rows, fm_rows_args)
FM_REF_KERNEL(copy_groups, fm_copy_groups_args)
FM_REF_KERNEL(scatter_add_rows, fm_rows_args)
FM_REF_KERNEL(copy_block, fm_copy_block_args)
